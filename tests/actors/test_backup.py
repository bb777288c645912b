"""What a node hands out of the slots that it coordinates, as of one moment."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from ringkeeper.actors.backup import IDLE_SECONDS_MAX, READ_BYTES_MAX, Backup, Block
from ringkeeper.actors.messages import AskBackup, BackupTold, Freeze, Frozen, ReportServed, Served
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.store import Record, Store, open_store


class Stage:
    """A Backup, and a storage node and a freezer that are played by hand."""

    def __init__(self) -> None:
        self.store: Store = open_store("memory")
        self.put(1, b"a", b"1")
        self.put(2, b"b", b"2", expiry=10**15)
        self.put(2, b"gone", b"", expiry=1)
        self.put(9, b"other", b"")
        self.harness = Harness(Backup, store=self.store, storage="probe:storage", freezer="probe:freezer")
        self.parts = [(0, 5, "m", 3, 10), (6, 16383, "n", 1, 5)]
        self.epoch = 4

    def put(self, slot: int, key: bytes, value: bytes, expiry: int = 0) -> None:
        seq = self.store.number(slot)[1] + 1
        self.store.put(slot, key, Record(value, 1, seq, expiry))
        self.store.commit()

    def ask(self, *words: str | bytes) -> BackupTold:
        spelt = [word.encode() if isinstance(word, str) else word for word in words]
        ask = AskBackup(question=3, words=spelt, reply_to=self.harness.probe("gateway"))
        sent: list[tuple[str, Any]] = list(self.harness.tell(ask))
        while sent:
            _, message = sent.pop(0)
            match message:
                case ReportServed():
                    served = Served(question=message.question, epoch=self.epoch, parts=list(self.parts))
                    sent += self.harness.tell(served)
                case Freeze():
                    frozen = Frozen(backup=message.backup, disk=self.store.disk.freeze())
                    self.after_freezing()
                    sent += self.harness.tell(frozen)
                case BackupTold():
                    return message
        raise AssertionError("not answered")

    def after_freezing(self) -> None:
        """What happens just then."""

    def open(self) -> dict[str, Any]:
        told = self.ask("OPEN")
        assert not told.error
        return dict(json.loads(told.content))

    def read(self, *words: str | bytes) -> Block:
        told = self.ask("READ", *words)
        assert not told.error, told.error
        return msgspec.msgpack.decode(told.content, type=Block)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.harness.stop()


def test_what_was_there_when_the_disk_was_frozen_is_read_whatever_is_written_after(stage: Stage) -> None:
    opened = stage.open()
    stage.put(1, b"a", b"later")
    stage.put(3, b"new", b"")
    backup = str(opened["backup"])
    assert stage.read(backup, "0", "5") == Block([(b"a", b"1", 0), (b"b", b"2", 10**15)], None)
    assert stage.read(backup, "6", "16383").records == [(b"other", b"", 0)]
    assert [(part["first"], part["last"], part["mark"]) for part in opened["parts"]] == [(0, 5, "m"), (6, 16383, "n")]


def test_much_is_read_in_blocks(stage: Stage) -> None:
    for number in range(5):
        stage.put(7, b"%d" % number, bytes(READ_BYTES_MAX // 2))
    backup = str(stage.open()["backup"])
    first = stage.read(backup, "6", "16383")
    assert len(first.records) == 2 and first.after == (7, b"1")
    second = stage.read(backup, "6", "16383", "7", b"1")
    third = stage.read(backup, "6", "16383", "7", b"3")
    keys = [key for block in (first, second, third) for key, _, _ in block.records]
    assert keys == [b"0", b"1", b"2", b"3", b"4", b"other"] and third.after is None


def test_what_changes_while_the_disk_is_frozen_has_no_mark_and_another_ring_voids_all_of_it(stage: Stage) -> None:
    def write() -> None:
        stage.parts[0] = (0, 5, "changed", 3, 10)

    stage.after_freezing = write  # type: ignore[method-assign]
    assert [part["mark"] for part in stage.open()["parts"]] == ["", "n"]

    def give_away() -> None:
        stage.parts, stage.epoch = [], 5

    stage.after_freezing = give_away  # type: ignore[method-assign]
    assert stage.ask("OPEN").error.startswith("TRYAGAIN")


def test_a_backup_ends_when_it_is_closed_another_is_opened_or_nobody_reads(stage: Stage) -> None:
    first = str(stage.open()["backup"])
    second = str(stage.open()["backup"])
    assert stage.ask("READ", first, "0", "5").error.startswith("ERR that backup is not open here")
    stage.harness.advance(IDLE_SECONDS_MAX - 1)
    stage.read(second, "0", "5")
    stage.harness.advance(IDLE_SECONDS_MAX - 1)
    stage.read(second, "0", "5")
    stage.harness.advance(IDLE_SECONDS_MAX + 1)
    assert "not open" in stage.ask("READ", second, "0", "5").error
    third = str(stage.open()["backup"])
    assert stage.ask("CLOSE", third).content == b"OK"
    assert "not open" in stage.ask("READ", third, "0", "5").error


@pytest.mark.parametrize(
    "words",
    [
        [], ["DANCE"], ["READ", "N"], ["READ", "N", "5", "2"], ["READ", "N", "0", "99999"], ["READ", "N", "x", "2"],
        ["READ", "N", "0", "5", "99999", "k"], ["READ", "N", "0", "5", "6", "k"], ["READ", "N", "3", "5", "2", "k"],
        ["READ", "N", "0", "5", "x", "k"], ["READ", "N", "0", "5", "1"],
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(stage: Stage, words: list[str]) -> None:
    opened = str(stage.open()["backup"])
    assert stage.ask(*[opened if word == "N" else word for word in words]).error.startswith("ERR RING BACKUP OPEN")
    assert stage.read(opened, "6", "16383").records, "it is open as before"
