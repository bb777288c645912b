"""The keys of one slot as the command that runs in a `StorageNode` sees them.

A part of it: what a command changes is stamped by the node, staged in its store, and told to whoever follows the slot.
"""

from typing import TYPE_CHECKING

from ..runtime.store import Record, Store

if TYPE_CHECKING:
    from .storage_node import StorageNode


class TooMuch(Exception):
    """Raised when the values read in one turn exceed what a turn may read."""


class SlotView:
    """One slot's data as the running command sees it; every change is stamped."""

    __slots__ = ("_node", "_store", "left", "slot", "value_bytes_max")

    def __init__(self, node: "StorageNode", store: Store, value_bytes_max: int) -> None:
        self._node, self._store, self.value_bytes_max = node, store, value_bytes_max
        self.slot = 0
        self.left = 0
        """Bytes that may still be read in this turn."""

    def get(self, key: bytes) -> bytes | None:
        record = self._store.get(self.slot, key)
        if record is None:
            return None
        self.left -= len(record.value)
        if self.left < 0:
            raise TooMuch
        return record.value

    def put(self, key: bytes, value: bytes) -> None:
        epoch, seq = self._node.stamp()
        self._store.put(self.slot, key, Record(value, epoch, seq, 0))
        self._node.wrote((self.slot, key, value, epoch, seq, 0))

    def delete(self, key: bytes) -> bool:
        if self._store.get(self.slot, key) is None:
            return False
        epoch, seq = self._node.stamp()
        self._node.wrote((self.slot, key, None, epoch, seq, 0))
        return self._store.delete(self.slot, key, epoch, seq)
