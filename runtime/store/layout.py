"""Turns records into bytes on a disk, and back with proof that they are the same.

    slot (2 bytes, big endian) + key                           a record
    FF FF "n" + slot                                           a slot's number, when no record carries it (see store.py)
    FF FF "s"                                                  the summary that `Store.close` leaves (slots.py)

So a range of slots is a range of the disk, and what is not a record lies above every record. All values are built
alike, whatever they are:

    format (1 byte) epoch (8) seq (8) expiry (8), big endian; value; CRC-32 (4, little endian) of disk key and all this

The checksum covers the key, so a value that turns up under another key is found out, too. It stands last, in its own
byte order, because then the CRC-32 of the whole is a constant, and checking needs no slice.
"""

import struct
from hashlib import blake2b
from zlib import crc32

import msgspec

SLOTS = 16384
"""Buckets of keys, numbered from 0."""

PREFIX_BYTES = 2

PREFIXES = [slot.to_bytes(PREFIX_BYTES, "big") for slot in range(SLOTS + 1)]
"""By slot, the beginning of its disk keys; one more, as the end of the last slot."""

NUMBER = b"\xff\xffn"
SUMMARY = b"\xff\xffs"

_FORMAT = 1
_HEAD = struct.Struct(">BQQQ")
_HEAD_BYTES = _HEAD.size
_TAIL = struct.Struct("<I")
_BARE_BYTES = _HEAD_BYTES + _TAIL.size
_RESIDUE = 0x2144DF1C  # CRC-32 of anything followed by its own CRC-32
_FIGURES = struct.Struct(">QQQI")


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A value, its version ``(epoch, seq)`` and when it expires: milliseconds since the Unix epoch, 0 is never.

    A msgspec Struct rather than a NamedTuple: made in 50 ns instead of 380, and invisible to the garbage collector,
    which would otherwise walk over every cached record again and again.
    """

    value: bytes
    epoch: int
    seq: int
    expiry: int = 0


def split(disk_key: bytes) -> tuple[int, bytes]:
    """Slot and key."""
    return disk_key[0] << 8 | disk_key[1], disk_key[PREFIX_BYTES:]


def encode(disk_key: bytes, record: Record) -> bytes:
    """The bytes of a record. Raises struct.error when a number does not fit 64 bits."""
    body = _HEAD.pack(_FORMAT, record.epoch, record.seq, record.expiry) + record.value
    return body + _TAIL.pack(crc32(body, crc32(disk_key)))


def decode(disk_key: bytes, data: bytes) -> Record:
    """The record of these bytes. Raises ValueError, saying why, when they are not what was written under this key."""
    if len(data) < _BARE_BYTES or crc32(data, crc32(disk_key)) != _RESIDUE:
        raise ValueError("its checksum does not match")
    format, epoch, seq, expiry = _HEAD.unpack_from(data)
    if format != _FORMAT:
        raise ValueError(f"its format {format} is not known to this release")
    return Record(data[_HEAD_BYTES : -_TAIL.size], epoch, seq, expiry)


def value_bytes(data: bytes) -> int:
    """How long the value in the bytes of a record is, if nothing else is damaged than what it says."""
    return max(0, len(data) - _BARE_BYTES)


def digest(key: bytes, record: Record) -> int:
    """64 bits that two copies of a record share and hardly any other record: over key, version, expiry and the CRC-32
    of the value. Independent of how either copy lies on its disk."""
    figures = _FIGURES.pack(record.epoch, record.seq, record.expiry, crc32(record.value))
    return int.from_bytes(blake2b(figures + key, digest_size=8).digest(), "big")
