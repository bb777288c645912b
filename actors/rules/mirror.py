"""Sums up a stretch of records, so that two copies can be compared without sending either.

Equal stretches have equal digests, whatever their disks; unequal ones hardly ever do (64 bits). It covers keys,
versions, expiries and the CRC-32 of values, and the numbers of the slots that end in the stretch: two copies whose
records agree and whose numbers do not have not applied the same operations (R4).

Where two stretches differ, the keys that were written since, which their versions tell, are left out, and the rest is
summed up in parts, by what the keys hash to. Mostly all parts agree then; of one that does not, which is where keys
were deleted, the records are named one by one. So finding a difference costs much less than what it finds.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Protocol
from zlib import crc32

CONTENT_BYTES_MAX = 4 * 1024 * 1024
"""Keys and values that are read for one digest, one record excepted."""

PARTS = 32
"""So many parts are compared of a stretch that differs: of 512 keys, a part that is named has 16."""

_MASK = (1 << 64) - 1


class Recorded(Protocol):
    """What a record says of itself."""

    @property
    def value(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def expiry(self) -> int: ...


def digest_of(records: Iterable[tuple[int, bytes, Recorded]], numbers: Iterable[tuple[int, int, int]]) -> int:
    """64 bits over records (slot, key, record) and numbers (slot, epoch, seq), in whatever order they are given."""
    total = 0
    for slot, key, record in records:
        head = b"r%d %d %d %d %d " % (slot, record.epoch, record.seq, record.expiry, crc32(record.value))
        total += _hash(head + key)
    for slot, epoch, seq in numbers:
        total += _hash(b"n%d %d %d" % (slot, epoch, seq))
    return total & _MASK


def listed(slot: int, key: bytes, record: Recorded) -> tuple[int, bytes, int, int, int, int]:
    """A record by which two copies are compared one by one: slot, key, epoch, seq, expiry, CRC-32 of the value."""
    return slot, key, record.epoch, record.seq, record.expiry, crc32(record.value)


def part_of(slot: int, key: bytes) -> int:
    """Which part of a stretch a key belongs to."""
    return crc32(key, slot) % PARTS


def sums_of(records: Iterable[tuple[int, bytes, Recorded]]) -> list[int]:
    """The digest of each part of them."""
    parts: list[list[tuple[int, bytes, Recorded]]] = [[] for _ in range(PARTS)]
    for each in records:
        parts[part_of(each[0], each[1])].append(each)
    return [digest_of(part, ()) for part in parts]


def _hash(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big")
