"""What only a real disk does: being killed, full, damaged, synced by another thread."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringkeeper.runtime.store import Corrupt, Record, Store, open_store
from ringkeeper.tests.runtime.store import writer


@pytest.fixture
def store(quick_folder: Path) -> Iterator[Store]:
    store = open_store("rocksdb", quick_folder / "store")
    yield store
    store.close()


def start_writer(folder: Path, first: int, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, writer.__file__, str(folder), str(first), *more], stdout=subprocess.PIPE, text=True
    )


def rows_of(store: Store) -> writer.Rows:
    return {(slot, key): record for slot, key, record in store.scan(0, 16383, None, 1 << 30, 1 << 40)}


def rows_after(number: int) -> writer.Rows:
    rows: writer.Rows = {}
    for i in range(number + 1):
        writer.stage(i, rows)
    return rows


@pytest.mark.processes
def test_what_was_acknowledged_survives_kill_9_again_and_again(tmp_path: Path) -> None:
    first = 0
    for lines in (1, 400, 150):
        process = start_writer(tmp_path / "store", first)
        assert process.stdout is not None
        with process, process.stdout as acknowledgements:
            for _ in range(lines):
                acknowledgements.readline()
            process.kill()
            last = max([first + lines - 1] + [int(line) for line in acknowledgements if line.endswith("\n")])
        store = open_store("rocksdb", tmp_path / "store")
        store.check()
        rows = rows_of(store)
        store.disk.close()
        if rows != rows_after(last):
            assert rows == rows_after(last + 1)  # committed, and killed before it could say so
            last += 1
        first = last + 1
    assert first > 550


@pytest.mark.processes
def test_a_full_disk_is_refused_clearly_and_loses_nothing(tmp_path: Path) -> None:
    process = start_writer(tmp_path / "store", 0, "100000")
    output, _ = process.communicate(timeout=30)
    *acknowledged, refusal, reads = output.splitlines()
    assert process.returncode == 0 and reads == "reads go on"
    assert refusal.startswith(f"refused: {tmp_path}/store could not be written (") and "Nothing of the batch" in refusal
    store = open_store("rocksdb", tmp_path / "store")
    store.check()
    assert rows_of(store) == rows_after(int(acknowledged[-1]))
    store.put(1, b"room again", Record(b"", 9, 9))
    store.commit()
    store.close()


def test_another_thread_may_sync_while_this_one_writes_and_closes(store: Store) -> None:
    failures: list[Exception] = []
    begun, closed = threading.Event(), threading.Event()

    def sync_until_closed() -> None:
        try:
            while not closed.is_set():
                store.sync()
                begun.set()
            store.sync()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=sync_until_closed) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    for seq in range(1, 500):
        store.put(seq % 7, b"%d" % seq, Record(b"value", 1, seq))
        store.commit()
    store.close()
    closed.set()
    for thread in threads:
        thread.join(10)
    assert failures == []


def test_a_damaged_table_is_refused_by_name_wherever_it_is_read(quick_folder: Path, store: Store) -> None:
    for seq in range(1, 100):
        store.put(5, b"%d" % seq, Record(bytes(100), 1, seq))
    store.commit()
    store.close()
    table = next((quick_folder / "store/rocksdb").glob("*.sst"))
    content = bytearray(table.read_bytes())
    content[100] ^= 8
    table.write_bytes(content)
    damaged = open_store("rocksdb", quick_folder / "store")
    for read in (
        lambda: damaged.get(5, b"1"),
        lambda: damaged.scan(5, 5, None, 10, 1 << 20),
        lambda: damaged.digest(5),
        lambda: damaged.put(5, b"2", Record(b"", 2, 1)),
    ):
        with pytest.raises(Corrupt, match=rf"store is damaged .*{table.name}.*Restore the folder"):
            read()
    damaged.drop([5])
    assert damaged.keys == 0
    damaged.close()


def test_a_scan_that_stopped_early_does_not_keep_the_folder(quick_folder: Path, store: Store) -> None:
    for seq in range(1, 100):
        store.put(5, b"%d" % seq, Record(bytes(100), 1, seq))
    store.commit()
    scanned = store.scan(0, 16383, None, 1, 1)
    store.close()
    again = open_store("rocksdb", quick_folder / "store")
    assert again.scan(0, 16383, None, 1, 1) == scanned
    again.close()


def test_emptying_all_slots_is_one_small_batch(quick_folder: Path, store: Store) -> None:
    for slot in range(0, 16384, 4):
        store.put(slot, b"key", Record(b"", 1, slot + 1))
    store.commit()
    log = next((quick_folder / "store/rocksdb").glob("*.log"))
    before = log.stat().st_size
    assert sum(store.flush(slot, 2, slot + 1) for slot in range(16384)) == 4096
    store.commit()
    assert log.stat().st_size - before < 16384 * 60
    assert store.keys == 0 and store.scan(0, 16383, None, 1, 1) == []
    store.check()
