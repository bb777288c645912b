"""What a mirror takes from a node that may hold what nobody else has, and where it is to be found (R17)."""

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ringkeeper.actors import salvage as salvaging
from ringkeeper.actors.rules.mirror import listed
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.transitions import (
    advanced,
    begun,
    committed,
    giving_up,
    kept,
    raisable,
    recovered,
    returned,
    returning,
)
from ringkeeper.actors.salvage import FolderSalvage, Salvage, Salvaged, Taken, is_salvaged, read_salvage
from ringkeeper.runtime.simulation.disk import SimulatedLines
from ringkeeper.runtime.store import Record
from ringkeeper.tests.actors.rules.rings import founded, hex64, ids, lost, registration

RING = founded(3, replicas=3)
A, B, C = ids(3)
INSTEAD = listed(5, b"key", Record(b"c", 9, 1))


def keep(salvage: Salvage, *taken: Taken) -> int:
    return salvage.keep(list(taken), ring=RING, source=A, wall_seconds=1e9)


def test_what_goes_is_read_back_as_it_was(tmp_path: Path) -> None:
    binary = Taken(7, b"\xff", Record(b"\x00\xfe", 3, 9, 1234), None)
    assert keep(Salvage(FolderSalvage(tmp_path)), Taken(5, b"key", Record("é".encode(), 3, 8), None), binary) == 2
    assert keep(Salvage(FolderSalvage(tmp_path)), Taken(5, b"key", Record(b"b", 3, 8), INSTEAD)) == 1
    first, second, third = read_salvage(tmp_path / "salvage.jsonl")
    assert isinstance(first, Salvaged) and isinstance(second, Salvaged) and isinstance(third, Salvaged)
    assert (first.key, first.value, first.expires_ms) == (b"key", "é".encode(), 0)
    assert (second.key, second.value, second.expires_ms) == (b"\xff", b"\x00\xfe", 1234)
    assert first.said["became"] == "removed" and third.said["became"] == "version 9.1"


def test_what_was_replaced_in_the_same_tenure_or_by_an_equal_value_is_not_lost(tmp_path: Path) -> None:
    same_tenure = Taken(5, b"a", Record(b"1", 3, 8), listed(5, b"a", Record(b"2", 3, 9)))
    same_value = Taken(5, b"b", Record(b"1", 3, 8), listed(5, b"b", Record(b"1", 4, 1)))
    assert keep(Salvage(FolderSalvage(tmp_path)), same_tenure, same_value) == 0
    assert not (tmp_path / "salvage.jsonl").exists()


def test_a_value_that_gives_way_to_an_older_one_of_its_tenure_is_written_down(tmp_path: Path) -> None:
    older = Taken(5, b"a", Record(b"acknowledged later", 3, 9), listed(5, b"a", Record(b"before", 3, 8)))
    same_number = Taken(5, b"b", Record(b"right", 3, 9), listed(5, b"b", Record(b"wrong", 3, 9)))
    assert keep(Salvage(FolderSalvage(tmp_path)), older, same_number) == 2
    same_value = Taken(5, b"a", Record(b"1", 3, 9), listed(5, b"a", Record(b"1", 3, 8)))
    assert not same_value.matters


def test_a_full_file_says_so_once_and_takes_no_more(tmp_path: Path) -> None:
    salvage = Salvage(FolderSalvage(tmp_path), bytes_max=1000)
    taken = [Taken(5, b"key %d" % number, Record(bytes(50), 3, number), None) for number in range(20)]
    written = keep(salvage, *taken)
    assert 0 < written < 20 and keep(salvage, *taken) == 0
    assert (tmp_path / "salvage.jsonl").stat().st_size <= 1000
    *lines, last = read_salvage(tmp_path / "salvage.jsonl")
    assert len(lines) == written and isinstance(last, str) and "full" in last


@contextmanager
def room_for(bytes_more: int, file: Path) -> Iterator[None]:
    """Has the disk break off what is appended to a file behind so many bytes."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + bytes_more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_an_append_that_breaks_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = tmp_path / "salvage.jsonl"
    salvage = Salvage(FolderSalvage(tmp_path))
    taken = [Taken(5, b"key%d" % number, Record(b"v" * 100, 3, number), None) for number in range(3)]
    assert keep(salvage, taken[0]) == 1
    with room_for(100, file), pytest.raises(OSError):
        keep(salvage, *taken[1:])
    assert not file.read_bytes().endswith(b"\n")
    assert keep(salvage, *taken[1:]) == 2  # there is room again
    first, torn, *others = read_salvage(file)
    assert isinstance(first, Salvaged) and first.key == b"key0"
    assert isinstance(torn, str) and "line 2 " in torn
    assert [each.key for each in others if isinstance(each, Salvaged)] == [b"key1", b"key2"]


def test_the_simulated_file_breaks_off_as_a_real_one_does() -> None:
    lines = SimulatedLines()
    lines.append(b"one\n")
    lines.full = True
    for _ in range(2):
        with pytest.raises(OSError):
            lines.append(b"two\n")
    assert lines.content == b"one\ntw"
    lines.full = False
    lines.append(b"two\n")
    lines.append(b"three\n")
    assert lines.content == b"one\ntw\ntwo\nthree\n"


def test_what_fits_is_written_though_the_append_that_fills_the_file_failed_at_first() -> None:
    file = SimulatedLines()
    salvage = Salvage(file, bytes_max=1000)
    taken = [Taken(5, b"key %d" % number, Record(bytes(50), 3, number), None) for number in range(20)]
    file.full = True
    with pytest.raises(OSError):
        keep(salvage, *taken)
    file.full, file.content = False, b""
    assert keep(salvage, *taken) > 0
    assert b'"full": true' in file.content and len(file.content) <= 1000


def test_the_name_of_the_file_survives_a_power_cut_from_its_first_line_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(
        salvaging, "sync_folder", lambda folder: synced.append([each.name for each in folder.iterdir()])
    )
    file = FolderSalvage(tmp_path)
    for _ in range(2):
        file.append(b"{}\n")
    assert synced == [["salvage.jsonl"]]
    FolderSalvage(tmp_path).append(b"{}\n")  # the one before may have been killed between file and folder
    assert len(synced) == 2


def test_a_line_that_cannot_be_read_is_named_and_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "salvage.jsonl"
    keep(Salvage(FolderSalvage(tmp_path)), Taken(5, b"key", Record(b"a", 3, 8), None))
    good = file.read_bytes()
    bad = [b"{", b"[]", b"7", json.dumps({"key": "k"}).encode(), b'{"key_base64": "*", "value": ""}', b"[" * 100_000]
    bad += [b'{"key": "k", "value": "", "expires_ms": "soon"}']
    file.write_bytes(b"\n".join(bad) + b"\n" + good)
    *refused, last = read_salvage(file)
    assert isinstance(last, Salvaged) and len(refused) == len(bad)
    assert all(isinstance(each, str) and f"line {number} " in each for number, each in enumerate(refused, start=1))


# Who is salvaged


def back(ring: Ring, *names: str) -> Ring:
    lives = [registration(id, life=2) for id in names]
    return returned(ring, lives, nonce=hex64(ring.epoch + 1), wall_seconds=1e9)


def write(ring: Ring) -> dict[str, object]:
    return {"why": "", "nonce": hex64(ring.epoch + 1), "wall_seconds": 1e9}


def test_after_a_loss_was_accepted_those_that_were_complete_are_salvaged_until_they_are_equal() -> None:
    ring = lost(RING, A, B, C)
    ring = back(ring, C)
    assert not is_salvaged(ring, C)
    ring = recovered(ring, C, **write(ring))  # type: ignore[arg-type]
    assert {id for id, _ in ring.left_behind} == {A, B}
    assert Ring.from_json(ring.to_json()).left_behind == ring.left_behind
    ring = back(ring, A)
    assert is_salvaged(ring, A) and not is_salvaged(ring, C)
    other = replace(ring, nodes=tuple(replace(n, data_id=hex64(99)) if n.id == A else n for n in ring.nodes))
    assert not is_salvaged(other, A)  # an empty disk has nothing to be salvaged


def test_a_keeper_that_may_lack_something_leaves_the_others_behind() -> None:
    ring = back(lost(RING, A, B, C), A, B)
    keepers = {each.slots: A for each in ring.trouble}
    assert not kept(ring, keepers, **write(ring)).left_behind  # type: ignore[arg-type]
    unsure = kept(ring, keepers, unsure=set(keepers), **write(ring))  # type: ignore[arg-type]
    assert {id for id, _ in unsure.left_behind} == {B, C} and is_salvaged(unsure, B)


def test_where_one_copy_is_enough_for_an_answer_whoever_returns_is_salvaged() -> None:
    ring = back(lost(replace(RING, acks="one"), B), B)
    assert is_salvaged(ring, B)
    ring = begun(ring, returning(ring, raisable(ring)), **write(ring))  # type: ignore[arg-type]
    assert is_salvaged(ring, B)


def test_who_was_given_up_and_comes_back_is_salvaged_as_if_it_had_never_been_out() -> None:
    ring = lost(replace(RING, acks="one"), B)
    ring = begun(ring, giving_up(ring, [B]), **write(ring))  # type: ignore[arg-type]
    for _ in range(2):
        ring = advanced(ring, **write(ring))  # type: ignore[arg-type]
    ring = committed(ring, **write(ring))  # type: ignore[arg-type]
    ring = begun(ring, None, [registration(B, life=2)], **write(ring))  # type: ignore[arg-type]
    assert is_salvaged(ring, B)
    assert not is_salvaged(replace(ring, acks="all"), B)
