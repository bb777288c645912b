"""Measures what the store costs, in microseconds of one thread per operation; not a test.

    .venv/bin/python tests/runtime/store/bench_store.py [--engine rocksdb] [--keys 100000] [--runs 5]

Values have 100 bytes, keys 16, slots are as in a cluster. Every figure is the median of the runs. What RocksDB itself
takes of a put is shown beside it: `disk` is building and writing the same batches with nothing around them.
"""

import argparse
import gc
import os
import random
import statistics
import tempfile
import time
from binascii import crc_hqx
from collections.abc import Callable
from pathlib import Path

from ringkeeper.runtime.store import Record, Store, open_store
from ringkeeper.runtime.store.layout import PREFIXES, encode

VALUE = os.urandom(100)


def keys_named(name: bytes, count: int) -> list[tuple[int, bytes]]:
    keys = [b"%b:%012d" % (name, i) for i in range(count)]
    random.Random(1).shuffle(keys)
    return [(crc_hqx(key, 0) & 16383, key) for key in keys]


def timed(count: int, run: Callable[..., object], *args: object) -> float:
    start = time.thread_time()
    run(*args)
    return (time.thread_time() - start) / count * 1e6


def get_all(store: Store, keys: list[tuple[int, bytes]]) -> None:
    get = store.get
    for slot, key in keys:
        get(slot, key)


def put_all(store: Store, keys: list[tuple[int, bytes]], batch: int, seqs: list[int]) -> None:
    put, commit, seq = store.put, store.commit, seqs[0]
    for i in range(0, len(keys), batch):
        for slot, key in keys[i : i + batch]:
            seq += 1
            put(slot, key, Record(VALUE, 1, seq, 0))
        commit()
    seqs[0] = seq


def write_all(store: Store, keys: list[tuple[int, bytes]], batch: int) -> None:
    rows = [(PREFIXES[slot] + key, encode(PREFIXES[slot] + key, Record(VALUE, 1, 1, 0))) for slot, key in keys]
    start = time.thread_time()
    for i in range(0, len(rows), batch):
        changes = store.disk.batch()
        for disk_key, data in rows[i : i + batch]:
            changes.put(disk_key, data)
        store.disk.write(changes)
    print(f"    disk alone, batches of {batch:4}   {(time.thread_time() - start) / len(rows) * 1e6:6.2f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--engine", default="rocksdb")
    options.add_argument("--keys", type=int, default=100_000)
    options.add_argument("--runs", type=int, default=5)
    chosen = options.parse_args()
    count, seqs = chosen.keys, [0]
    measured: dict[str, list[float]] = {}

    def note(name: str, microseconds: float) -> None:
        measured.setdefault(name, []).append(microseconds)

    gc.disable()
    for run in range(chosen.runs):
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(chosen.engine, Path(folder) / "store", cache_bytes=1 << 30)
            keys, absent = keys_named(b"key", count), keys_named(b"nay", count)
            for batch in (1, 10, 100):
                fresh = keys_named(b"new%d" % batch, count // 4)
                note(f"put+commit, new key, batch {batch:3}", timed(len(fresh), put_all, store, fresh, batch, seqs))
            put_all(store, keys, 100, seqs)
            for batch in (1, 10, 100):
                note(f"put+commit, cached,  batch {batch:3}", timed(count, put_all, store, keys, batch, seqs))
            note("get, cached", timed(count, get_all, store, keys))
            note("get, absent", timed(count, get_all, store, absent))
            store.close()
            store = open_store(chosen.engine, Path(folder) / "store", cache_bytes=1 << 30)
            if store.keys:
                note("get, on disk", timed(count // 4, get_all, store, keys[: count // 4]))
                note("scan", timed(store.keys, store.scan, 0, 16383, None, 1 << 30, 1 << 40))
            if run == 0 and chosen.engine != "memory":
                for batch in (1, 10, 100):
                    write_all(store, keys, batch)
            store.close()
            store = open_store(chosen.engine, Path(folder) / "store", cache_bytes=4 << 20)
            put_all(store, keys, 100, seqs)
            note("put+commit, evicting, batch 100", timed(count, put_all, store, keys, 100, seqs))
            store.close()
    for name, values in measured.items():
        print(f"{name:34} {statistics.median(values):6.2f} us   (best {min(values):.2f})")


if __name__ == "__main__":
    main()
