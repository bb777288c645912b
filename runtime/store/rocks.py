"""A disk made of RocksDB, through rocksdict in raw mode.

Why these settings (measured on two shared cores with 100-byte values in batches of 100; most of a put is RocksDB's, and
most of that is cache misses in its sorted memory table):

- Memory tables of 8 MiB: with 64 MiB a put costs half as much again, with 4 MiB tables on disk are merged more often.
  Up to six of them, since a write that has to wait for the disk holds the whole process (rocksdict keeps the GIL).
- A bloom filter in the memory table and in the tables on disk: the answer "that key is new" costs 1 us instead of 3.
- LZ4: no dearer than none. A block cache of 32 MiB: what is hot is in the store's own cache.
- `tolerate_corrupted_tail_records`, with the logs inspected before (rocks_log.py).

There is no setting under which a write stays in the process: what `write` has returned from survives kill -9. A batch
that fails is not in the log either; RocksDB then refuses everything until it has found room again by itself (some
seconds after there is some).
"""

import logging
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from threading import Lock

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from ..durable import sync_folder
from . import rocks_log
from .disk import REBUILD, Batch, Corrupt, Full, StoreError
from .folder import StoreFolder

log = logging.getLogger(__name__)

MEMORY_TABLE_BYTES = 8 * 1024 * 1024
MEMORY_TABLES_MAX = 6
BLOCK_CACHE_BYTES = 32 * 1024 * 1024
BLOOM_BITS_PER_KEY = 10
MEMORY_BLOOM_RATIO = 0.02
"""Bloom filter of a memory table, as a part of the table."""

FILES_OPEN_MAX = 256
INFO_LOG_BYTES_MAX = 1024 * 1024

_MEANINGS = {
    "written": "Nothing of the batch was written. ",
    "synced": "What was written since the last sync would be lost by a power cut. ",
}


FROZEN = "frozen"
"""The folder beside the database that checkpoints are made in. What it holds when a disk is opened is of no use."""


class RocksDisk:
    """RocksDB in FOLDER/rocksdb."""

    def __init__(self, path: Path) -> None:
        """Make or open. Raises StoreError when the folder cannot be had, Corrupt when it is damaged."""
        self.place = str(path)
        self._closing = Lock()  # rocksdict fails when it is closed while it syncs
        self._closed = False
        self._folder = StoreFolder(path, "rocksdb")
        self._frozen = path / FROZEN
        try:
            shutil.rmtree(self._frozen, ignore_errors=True)
            folder = path / "rocksdb"
            new = not folder.exists()
            rocks_log.inspect(folder)
            try:
                self._rocks = Rdict(str(folder), _options())
                if new:
                    sync_folder(path)
            except Exception as error:
                raise self._failure("opened", error) from error
            hints = WriteOptions()
            hints.memtable_insert_hint_per_batch = True
            self._rocks.set_write_options(hints)
        except BaseException:
            self._folder.close()
            raise
        self._get, self._write = self._rocks.get, self._rocks.write

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._get(key)
        except Exception as error:
            raise self._failure("read", error) from error

    def items(self, begin: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        try:
            yield from _rows(self._rocks, begin, end)
        except Exception as error:
            raise self._failure("read", error) from error

    def batch(self) -> WriteBatch:
        return WriteBatch(raw_mode=True)

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, WriteBatch)
        try:
            self._write(batch)
        except Exception as error:
            raise self._failure("written", error) from error

    def sync(self) -> None:
        with self._closing:
            if self._closed:  # closing has synced
                return
            try:
                self._rocks.flush_wal(True)
            except Exception as error:
                raise self._failure("synced", error) from error

    def freeze(self) -> "FrozenRocks":
        """A checkpoint: the tables on disk are linked, only the log is copied."""
        with self._closing:
            if self._closed:
                raise StoreError(f"{self.place} is closed")
            try:
                shutil.rmtree(self._frozen, ignore_errors=True)
                self._frozen.mkdir()
                Checkpoint(self._rocks).create_checkpoint(str(self._frozen / "rocksdb"))
                return FrozenRocks(self._frozen, self._failure)
            except Exception as error:
                raise self._failure("frozen", error) from error

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            try:
                self._rocks.close()
            except Exception as error:
                log.warning("%s", self._failure("closed in order", error))
            finally:
                self._folder.close()

    def _failure(self, done: str, error: Exception) -> StoreError:
        """What an error of RocksDB means: it raises plain Exceptions, with the file in the text."""
        text = str(error)
        if text.startswith("Corruption"):
            return Corrupt(f"{self.place} is damaged ({text}). {REBUILD}")
        meaning = _MEANINGS.get(done, "")
        kind = StoreError
        if "No space left" in text:
            kind = Full
            advice = "The disk is full: make room, and writing works again some seconds later."
        else:
            advice = "Check the disk, then start the process again."
        return kind(f"{self.place} could not be {done} ({text}). {meaning}{advice}")


class FrozenRocks:
    """A checkpoint, which is removed when it is closed."""

    def __init__(self, folder: Path, failure: Callable[[str, Exception], StoreError]) -> None:
        self._folder, self._failure = folder, failure
        self._rocks = Rdict(str(folder / "rocksdb"), _options(), access_type=AccessType.read_only())
        self._closed = False

    def items(self, begin: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        try:
            yield from _rows(self._rocks, begin, end)
        except Exception as error:
            raise self._failure("read", error) from error

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._rocks.close()
            shutil.rmtree(self._folder, ignore_errors=True)


def _rows(rocks: Rdict, begin: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    # What is read once must not push out what is hot, and is to be read from the disk.
    options.fill_cache(False)  # type: ignore[call-arg]  # the stub forgets its argument
    rows = rocks.iter(options)
    rows.seek(begin)
    while rows.valid():
        yield rows.key(), rows.value()
        rows.next()
    rows.status()  # an end may be a damaged block; `Rdict.items()` would not say so


def _options() -> Options:
    tables = BlockBasedOptions()
    tables.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
    tables.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(tables)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_size(MEMORY_TABLE_BYTES)
    options.set_max_write_buffer_number(MEMORY_TABLES_MAX)
    options.set_memtable_prefix_bloom_ratio(MEMORY_BLOOM_RATIO)
    options.set_memtable_whole_key_filtering(True)
    options.set_allow_concurrent_memtable_write(False)  # one thread writes
    options.set_max_background_jobs(2)
    options.set_max_open_files(FILES_OPEN_MAX)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX)
    return options
