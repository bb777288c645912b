"""Knows number, keys and bytes of every slot.

Arrays, not objects: 512 KiB that stay in the processor's cache, where 16384 objects and their numbers do not.
"""

import sys
from array import array

from .layout import SLOTS

_COLUMN_BYTES = 8 * SLOTS


class Slots:
    """Four columns by slot. ``(epochs[slot], seqs[slot])`` is the version of the last operation applied to it (R4)."""

    __slots__ = ("bytes", "epochs", "keys", "seqs")

    def __init__(self, packed: bytes = bytes(4 * _COLUMN_BYTES)) -> None:
        """All zero, or what `pack` made. Raises ValueError for anything else."""
        if len(packed) != 4 * _COLUMN_BYTES:
            raise ValueError(f"its length is {len(packed)}, not {4 * _COLUMN_BYTES}")
        self.epochs, self.seqs, self.keys, self.bytes = (
            _little_endian(array("Q", packed[start : start + _COLUMN_BYTES]))
            for start in range(0, len(packed), _COLUMN_BYTES)
        )

    def pack(self) -> bytes:
        columns = (self.epochs, self.seqs, self.keys, self.bytes)
        return b"".join(_little_endian(column[:]).tobytes() for column in columns)

    def __getitem__(self, slot: int) -> tuple[int, int, int, int]:
        return self.epochs[slot], self.seqs[slot], self.keys[slot], self.bytes[slot]

    def __setitem__(self, slot: int, figures: tuple[int, int, int, int]) -> None:
        self.epochs[slot], self.seqs[slot], self.keys[slot], self.bytes[slot] = figures

    def apply(self, slot: int, epoch: int, seq: int) -> bool:
        """An operation of this version was applied; whether its version is now the slot's number."""
        if (epoch, seq) <= (self.epochs[slot], self.seqs[slot]):
            return False
        self.epochs[slot], self.seqs[slot] = epoch, seq
        return True


def _little_endian(column: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        column.byteswap()
    return column
