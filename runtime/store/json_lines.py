"""A disk that a person can read: a file of JSON, one object a line, and all of it in memory.

    {"slot": 15880, "key": "user:42", "value": "Ada", "version": [3, 17], "check": "5e0f1c2a"}
    {"slot": 449, "key": "k", "deleted": true, "check": ...}     {"slots": [0, 5460], "deleted": true, "check": ...}
    {"number_of_slot": 449, "version": [3, 18], "check": ...}    a slot's number, where no record carries it

For looking and teaching: what is not UTF-8 is spelt ``key_base64``, ``value_base64``; a record that expires has
``expires_ms``. Lines are only ever added. The last line of a key is what holds; once most lines hold no more, the file
is written anew. A batch of several lines says ``"more": true`` in all but its last, and counts as a whole.

``check`` is the CRC-32 of the line before it. A file that ends in the midst of a line, or of a batch, was cut off by a
crash: that batch was never written, and goes. Any other line that does not fit its check is damage, the last one too if
it is whole: it may have been acknowledged.
"""

import base64
import errno
import json
import logging
import os
from bisect import bisect_left, insort
from collections.abc import Generator, Iterator
from os import write
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

from ..durable import sync_folder
from .disk import REBUILD, Batch, Corrupt, Full, StoreError
from .folder import StoreFolder
from .layout import NUMBER, PREFIX_BYTES, SLOTS, SUMMARY, Record, decode, encode, split
from .memory import MemoryBatch, MemoryDisk

log = logging.getLogger(__name__)

FILE = "records.jsonl"
LINES_SPARED = 1000
"""The file is written anew when it has so many lines more than twice as many as hold something."""

_CHECK = b', "check": "%08x"}\n'
_CHECK_BYTES = len(_CHECK % 0)


class JsonDisk:
    """The file ``records.jsonl`` in a folder."""

    def __init__(self, path: Path) -> None:
        """Make or open. Raises StoreError when the folder cannot be had, Corrupt when the file is damaged."""
        self.place = str(path)
        self._path = path / FILE
        self._content: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []  # in order
        self._lines = 0
        self._lines_max = 0  # it is not written anew before it has so many: the last time there was no room
        self._applying = Lock()  # what is frozen on another thread holds a batch, or nothing of it
        self._syncing = Lock()
        self._renamed = False  # a power cut may bring the file before this one back, until the folder is synced
        self._closed = False
        self._folder = StoreFolder(path, "json")
        try:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                self._size = self._load()
                os.ftruncate(self._file, self._size)
                sync_folder(path)
            except OSError as error:
                raise self._failure("opened", error) from error
            self._keys = sorted(self._content)
        except BaseException:
            self._folder.close()
            raise

    def _load(self) -> int:
        """Read the file; returns how many bytes of it hold."""
        batch, held, place = MemoryBatch(), 0, 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, start=1):
                place += len(line)
                fields = _parsed(line)
                if not line.endswith(b"\n"):
                    break
                try:
                    more = _take(fields, batch)
                except (KeyError, TypeError, ValueError) as error:
                    raise Corrupt(
                        f"line {number} of {self._path} is not what was written: the disk is bad, or somebody has "
                        f"changed it. {REBUILD}"
                    ) from error
                self._lines += 1
                if not more:
                    batch.apply(self._content)
                    batch, held = MemoryBatch(), place
        return held

    def get(self, key: bytes) -> bytes | None:
        return self._content.get(key)

    def items(self, begin: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        for index in range(bisect_left(self._keys, begin), bisect_left(self._keys, end)):
            yield self._keys[index], self._content[self._keys[index]]

    def batch(self) -> MemoryBatch:
        return MemoryBatch()

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, MemoryBatch)
        lines = list(_lines(batch))
        self._append(b"".join(lines))
        self._lines += len(lines)
        with self._applying:
            for begin, end, value in batch.changes:
                self._apply(begin, end, value)
        if self._lines > max(2 * len(self._content) + LINES_SPARED, self._lines_max):
            self._write_anew()

    def _append(self, text: bytes) -> None:
        try:
            if write(self._file, text) < len(text):
                raise OSError("the disk is full: there was room for a part of it only")
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise self._failure("written", error) from error
        self._size += len(text)

    def _apply(self, begin: bytes, end: bytes | None, value: bytes | None) -> None:
        if end is not None:
            first, last = bisect_left(self._keys, begin), bisect_left(self._keys, end)
            for key in self._keys[first:last]:
                del self._content[key]
            del self._keys[first:last]
        elif value is None:
            if self._content.pop(begin, None) is not None:
                del self._keys[bisect_left(self._keys, begin)]
        else:
            if begin not in self._content:
                insort(self._keys, begin)
            self._content[begin] = value

    def _write_anew(self) -> None:
        """Only what holds. Where there is no room for it the file goes on as it is."""
        beside = self._path.with_name(FILE + ".new")
        try:
            with open(beside, "wb") as file:
                for key in self._keys:
                    file.write(_line(_fields(key, self._content[key])))
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            opened = os.open(beside, os.O_RDWR | os.O_APPEND)
            try:
                os.replace(beside, self._path)
            except OSError:
                os.close(opened)
                raise
        except OSError as error:
            beside.unlink(missing_ok=True)
            self._lines_max = 2 * self._lines
            log.warning("%s: it goes on as it is", self._failure("written anew", error))
            return
        with self._syncing:
            os.close(self._file)
            self._file, self._renamed = opened, True
        self._size, self._lines = size, len(self._keys)

    def sync(self) -> None:
        with self._syncing:
            if not self._closed:
                try:
                    if self._renamed:
                        sync_folder(self._path.parent)
                        self._renamed = False
                    os.fsync(self._file)
                except OSError as error:
                    raise self._failure("synced", error) from error

    def freeze(self) -> MemoryDisk:
        with self._applying:
            return MemoryDisk(dict(self._content))

    def close(self) -> None:
        if not self._closed:
            try:
                self.sync()
            finally:
                self._closed = True
                os.close(self._file)
                self._folder.close()

    def _failure(self, done: str, error: OSError) -> StoreError:
        kind = Full if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        return kind(f"{self._path} could not be {done} ({error.strerror or error}): check the disk and its room")


# Lines


def _line(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False)[:-1].encode()
    return text + _CHECK % crc32(text)


def _lines(batch: MemoryBatch) -> Iterator[bytes]:
    left = len(batch.changes)
    for begin, end, value in batch.changes:
        left -= 1
        if end is not None:
            fields: dict[str, Any] = {"slots": [split(begin)[0], split(end)[0] - 1], "deleted": True}
        else:
            fields = _fields(begin, value)
        yield _line(fields | {"more": True} if left else fields)


def _fields(disk_key: bytes, value: bytes | None) -> dict[str, Any]:
    """What a line says of a key."""
    slot, key = split(disk_key)
    if slot < SLOTS:
        fields: dict[str, Any] = {"slot": slot, **_spelt("key", key)}
    elif disk_key == SUMMARY:
        fields = {"summary": True}
    else:
        assert disk_key.startswith(NUMBER)
        fields = {"number_of_slot": int.from_bytes(disk_key[len(NUMBER) :], "big")}
    if value is None:
        return fields | {"deleted": True}
    record = decode(disk_key, value)
    if slot < SLOTS or record.value:
        fields |= _spelt("value", record.value)
    fields["version"] = [record.epoch, record.seq]
    if record.expiry:
        fields["expires_ms"] = record.expiry
    return fields


def _spelt(name: str, content: bytes) -> dict[str, str]:
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The fields of a line that fits its check."""
    text = line[:-_CHECK_BYTES]
    if line[-_CHECK_BYTES:] != _CHECK % crc32(text):
        return None
    fields = json.loads(text + b"}")
    return fields if type(fields) is dict else None


def _take(fields: dict[str, Any] | None, batch: MemoryBatch) -> bool:
    """Add what a line says to a batch; whether the batch goes on after it. Raises KeyError, TypeError, ValueError."""
    if fields is None:
        raise ValueError("it does not fit its check")
    if "slots" in fields:
        first, last = fields["slots"]
        batch.delete_range(_prefix(first), _prefix(last + 1))
        return "more" in fields
    if "slot" in fields:
        disk_key = _prefix(fields["slot"]) + _unspelt(fields, "key")
    elif "summary" in fields:
        disk_key = SUMMARY
    else:
        disk_key = NUMBER + _prefix(fields["number_of_slot"])
    if "deleted" in fields:
        batch.delete(disk_key)
    else:
        epoch, seq = fields["version"]
        value = _unspelt(fields, "value") if "slot" in fields or "summary" in fields else b""
        batch.put(disk_key, encode(disk_key, Record(value, epoch, seq, fields.get("expires_ms", 0))))
    return "more" in fields


def _prefix(slot: int) -> bytes:
    return slot.to_bytes(PREFIX_BYTES, "big")


def _unspelt(fields: dict[str, Any], name: str) -> bytes:
    if name in fields:
        return str(fields[name]).encode()
    return base64.b64decode(fields[f"{name}_base64"], validate=True)
