"""Inspects RocksDB's logs before RocksDB opens them, since its own recovery can lose or hang without a word.

RocksDB 9.8 in its strictest mode that still accepts a torn end (`tolerate_corrupted_tail_records`) was tried with every
single bit of small logs flipped and with logs cut at every byte:

- a flipped bit in a checksum, in content, and mostly in a type: refused, as it should be;
- in the *length* of a record of the last block: taken for a torn end, everything after it silently dropped;
- in the *type* of a record, when it turns into a "recyclable" one (1 to 5, 3 to 11): in the first record the whole log
  is silently ignored, in any other the open spins for ever, holding the process;
- a log that is cut and *followed by a newer one*: the newer is applied as well, a silent hole in the middle. Two logs
  are in use whenever records wait to be written to a table; only a power cut can cut the older of them. (The mode
  `point_in_time` sees this hole unless the cut is between two records, but drops what follows a flipped bit.)

So the headers of all logs in use, and of the manifest, which has the same format, are walked here (a second for some
hundred MiB; the checksums are left to RocksDB) and what RocksDB would get wrong is refused:

    log       blocks of 32 KiB; a block: records, and at its end less than 7 bytes of zeros
    record    CRC-32C of type and content, masked (4 bytes, little endian); length of content (2); type (1); content
    type      1 whole; 2, 3, 4 first, middle, last part of what is longer than the room left in a block; 0 unwritten
    content   of a log: number of the first change (8), count of changes (4), changes; the numbers have no gaps
              of the manifest: an edit, which may say which logs are still in use

A record that ends early is a torn end if no beginning of what is left matches its checksum; if one does, its length is
damaged. (One torn end in 100 000 looks damaged by chance, and is refused.)
"""

import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .disk import REBUILD, Corrupt

BLOCK_BYTES = 32 * 1024
_HEADER = struct.Struct("<IHB")
_BATCH = struct.Struct("<QI")
_UNWRITTEN, _WHOLE, _FIRST, _MIDDLE, _LAST = range(5)

_EDIT_BYTES = 1024
"""More than an edit of the manifest has before the field that names the oldest log in use."""


def inspect(folder: Path) -> None:
    """Raises Corrupt, with file and byte, when RocksDB's recovery of this folder could lose something unnoticed."""
    logs = sorted((int(path.stem), path) for path in folder.glob("*.log"))
    try:
        oldest_in_use = _oldest_log_in_use(folder)
    except FileNotFoundError as error:
        if any(path.stat().st_size for _, path in logs) or any(folder.glob("*.sst")):
            raise Corrupt(f"{error.filename} is missing, but records are there. {REBUILD}") from error
        return  # not there yet, or killed while it was being made
    before: Path | None = None
    expected: int | None = None  # number of the change that comes next
    in_use = [path for number, path in logs if number >= oldest_in_use]
    for path in in_use:
        empty = True
        for at, head in _records(path, _BATCH.size):
            if len(head) < _BATCH.size:
                raise _damaged(path, at, "a record too short to be one")
            first, changes = _BATCH.unpack(head)
            if empty and before is not None and first != expected:
                newer = ", ".join(each.name for each in in_use[in_use.index(path) :])
                raise Corrupt(
                    f"{before} lacks changes, but newer ones are there (in {newer}): what was written last before a "
                    f"power cut has a hole, or a file is damaged. {REBUILD} Without either, a copy of the folder that "
                    "lacks these newer files opens as it was before the hole."
                )
            if not empty and first != expected:
                raise _damaged(path, at, "a record that does not follow the one before")
            expected, empty = first + changes, False
        before = path


def _oldest_log_in_use(folder: Path) -> int:
    """What the manifest says. Raises FileNotFoundError."""
    name = (folder / "CURRENT").read_text("ascii", "replace").strip()
    if not re.fullmatch(r"MANIFEST-\d+", name):
        raise Corrupt(f"{folder / 'CURRENT'} is damaged. {REBUILD}")
    numbers = (_log_number(edit) for _, edit in _records(folder / name, _EDIT_BYTES))
    return max((number for number in numbers if number is not None), default=0)


def _log_number(edit: bytes) -> int | None:
    """The field of an edit that says from which log on they are in use; it comes early (RocksDB's version_edit.cc)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = edit[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    try:
        while at < len(edit):
            match varint():
                case 2:
                    return varint()
                case 3 | 4 | 9 | 10 | 203:  # numbers
                    varint()
                case tag if tag == 1 or tag >= 1 << 13:  # texts: the comparator's name, what older releases may skip
                    at += varint()
                case _:
                    return None
    except IndexError:
        pass
    return None


def _records(path: Path, head_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Place and first bytes of every record, put together again, up to a torn end. Raises Corrupt."""
    head, begin = b"", 0
    with path.open("rb") as file:
        size = path.stat().st_size
        for block_start in range(0, size, BLOCK_BYTES):
            block = file.read(BLOCK_BYTES)
            at = 0
            while at + _HEADER.size <= len(block):
                checksum, length, type = _HEADER.unpack_from(block, at)
                content, end = at + _HEADER.size, at + _HEADER.size + length
                if type == _UNWRITTEN and length == 0:
                    if any(block[at:]) or any(any(later) for later in iter(lambda: file.read(BLOCK_BYTES), b"")):
                        raise _damaged(path, block_start + at, "zeros, and after them records")
                    return
                if not _WHOLE <= type <= _LAST:
                    raise _damaged(path, block_start + at, f"a record of type {type}, which is never written")
                if end > BLOCK_BYTES:
                    raise _damaged(path, block_start + at, "a record longer than its block")
                if end > len(block):
                    if _begins_with_checked(checksum, type, block[content:]):
                        raise _damaged(path, block_start + at, "a record whose length is not what was written")
                    return
                if type in (_WHOLE, _FIRST):
                    head, begin = block[content : min(end, content + head_bytes)], block_start + at
                elif type in (_MIDDLE, _LAST):
                    head += block[content : min(end, content + head_bytes - len(head))]
                if type in (_WHOLE, _LAST):
                    yield begin, head
                at = end


def _damaged(path: Path, at: int, what: str) -> Corrupt:
    return Corrupt(f"{path} is damaged: at byte {at} there is {what}. {REBUILD}")


def _begins_with_checked(checksum: int, type: int, content: bytes) -> bool:
    """Whether some beginning of the content has the checksum."""
    rotated = (checksum - 0xA282EAD8) & 0xFFFFFFFF
    wanted = ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF ^ 0xFFFFFFFF
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    crc = table[(crc ^ type) & 255] ^ crc >> 8
    if crc == wanted:
        return True
    for byte in content:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
        if crc == wanted:
            return True
    return False


@cache
def _crc32c_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table
