"""The file of JSON lines: what a person reads in it, and what is found of damage."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from ringkeeper.runtime.store import Corrupt, FrozenDisk, Full, Record, Store, StoreError, json_lines, open_store
from ringkeeper.runtime.store.json_lines import JsonDisk


def opened(folder: Path) -> Store:
    return open_store("json", folder)


def lines(folder: Path) -> list[dict[str, object]]:
    text = (folder / "records.jsonl").read_text()
    return [{name: said for name, said in json.loads(line).items() if name != "check"} for line in text.splitlines()]


def filled(folder: Path) -> Store:
    store = opened(folder)
    store.put(7, b"user:42", Record("Ada é".encode(), 3, 17))
    store.put(7, b"\xff", Record(b"\x80", 3, 18, 1234))
    store.commit()
    return store


def test_a_person_reads_what_was_written(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.delete(7, b"user:42", 3, 19)
    store.commit()
    first, second, deleted, number = lines(tmp_path)
    assert first == {"slot": 7, "key": "user:42", "value": "Ada é", "version": [3, 17], "more": True}
    assert second == {
        "slot": 7, "key_base64": "/w==", "value_base64": "gA==", "version": [3, 18], "expires_ms": 1234,
    }  # fmt: skip
    assert deleted == {"slot": 7, "key": "user:42", "deleted": True, "more": True}
    assert number == {"number_of_slot": 7, "version": [3, 19]}
    store.close()


def test_a_file_that_was_cut_off_holds_the_batches_before(tmp_path: Path) -> None:
    filled(tmp_path / "whole").close()
    content = (tmp_path / "whole/records.jsonl").read_bytes()
    ends = [0, content.index(b"\n", content.index(b"\n") + 1) + 1]  # after nothing, after the batch of two
    for cut in (0, 1, 30, ends[1] - 60, ends[1] - 1, ends[1], ends[1] + 5):
        folder = tmp_path / f"cut-{cut}"
        opened(folder).close()
        (folder / "records.jsonl").write_bytes(content[:cut])
        store = opened(folder)
        assert store.keys == (2 if cut >= ends[1] else 0)
        store.put(1, b"new", Record(b"", 9, 1))
        store.commit()
        store.close()
        assert opened(folder).get(1, b"new") == Record(b"", 9, 1)


@pytest.mark.parametrize("old, new", [(b"Ada", b"Eda"), (b"[3, 17]", b"[3, 18]"), (b'"slot": 7', b'"slot": 8')])
def test_what_somebody_or_a_bad_disk_has_changed_is_refused_with_its_line(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    filled(tmp_path).close()
    file = tmp_path / "records.jsonl"
    file.write_bytes(file.read_bytes().replace(old, new, 1))
    with pytest.raises(Corrupt, match="line 1 of .* is not what was written"):
        opened(tmp_path)


def test_a_whole_line_is_damage_wherever_it_stands(tmp_path: Path) -> None:
    filled(tmp_path).close()
    file = tmp_path / "records.jsonl"
    content = file.read_bytes()
    place = content.rindex(b'"check"') - 5
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(Corrupt, match="is not what was written"):
        opened(tmp_path)


def test_what_is_written_after_the_file_was_written_anew_is_found_though_the_folder_could_not_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "LINES_SPARED", 10)
    store = filled(tmp_path)

    def fails(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as context:
        context.setattr(json_lines, "sync_folder", fails)
        for seq in range(100, 150):
            store.put(7, b"user:42", Record(b"%d" % seq, 3, seq))
            store.commit()
        with pytest.raises(StoreError, match="could not be synced"):
            store.sync()
    assert len(lines(tmp_path)) < 20
    store.close()
    assert opened(tmp_path).get(7, b"user:42") == Record(b"149", 3, 149)


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_sync_that_fails_for_want_of_room_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, full: bool
) -> None:
    store = filled(tmp_path)

    def fails(file: int) -> None:
        raise OSError(number, "it failed")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", fails)
        with pytest.raises(StoreError) as raised:
            store.sync()
    assert isinstance(raised.value, Full) == full and store.sync_failed
    store.close()


def test_a_file_of_which_most_holds_no_more_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "LINES_SPARED", 10)
    store = filled(tmp_path)
    for seq in range(100, 150):
        store.put(7, b"user:42", Record(b"%d" % seq, 3, seq))
        store.commit()
    assert len(lines(tmp_path)) < 20
    store.sync()
    store.close()
    again = opened(tmp_path)
    assert again.get(7, b"user:42") == Record(b"149", 3, 149) and again.number(7) == (3, 149)
    again.check()
    again.close()


def test_one_process_at_a_time_has_it_and_another_engine_never(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(StoreError, match="in use"):
        opened(tmp_path)
    store.close()
    with pytest.raises(StoreError, match="written by the engine json"):
        open_store("rocksdb", tmp_path)


def test_what_is_frozen_on_another_thread_holds_a_batch_or_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    frozen: list[FrozenDisk] = []
    freezing = threading.Thread(target=lambda: frozen.append(store.disk.freeze()))
    apply = JsonDisk._apply

    def applied(disk: JsonDisk, begin: bytes, end: bytes | None, value: bytes | None) -> None:
        apply(disk, begin, end, value)
        if freezing.ident is None:
            freezing.start()
            freezing.join(0.1)  # it cannot end before the batch has

    monkeypatch.setattr(JsonDisk, "_apply", applied)
    for key in b"abc":
        store.put(7, bytes([key]), Record(b"", 1, key))
    store.commit()
    freezing.join()
    held = [key for _, key, _ in store.frozen_records(frozen[0], 0, 16383, None)]
    assert held == [b"a", b"b", b"c"]
    store.close()
