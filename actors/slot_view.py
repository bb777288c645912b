"""The keys of one slot as the command that runs in a `StorageNode` sees them.

A part of it: what a command changes is stamped by the node, staged in its store, and told to whoever follows the slot.
What has expired is not seen, at the coordinator as at a copy; giving back its space is the sweep's work (`expiry.py`),
so no read ever writes. Near the moment of expiry clocks show: a key that one node has hidden may be seen again, for as
long as their clocks differ, at the node that takes over from it.

A record that is damaged is replaced, or deleted, by what does not need to know what it was: nobody else could be rid of
it. All else that meets it is refused.
"""

from typing import TYPE_CHECKING

from ..runtime.store import DamagedRecord, Record, Store

if TYPE_CHECKING:
    from .storage_node import StorageNode


class TooMuch(Exception):
    """Raised when the values read in one turn exceed what a turn may read."""


class SlotView:
    """One slot's data as the running command sees it; every change is stamped."""

    __slots__ = ("_node", "_store", "left", "now_ms", "slot", "value_bytes_max")

    def __init__(self, node: "StorageNode", store: Store, value_bytes_max: int) -> None:
        self._node, self._store, self.value_bytes_max = node, store, value_bytes_max
        self.slot = 0
        self.left = 0
        """Bytes that may still be read in this turn."""
        self.now_ms = 0
        """This turn's time: milliseconds since the Unix epoch."""

    def get(self, key: bytes) -> bytes | None:
        record = self._living(key)
        if record is None:
            return None
        self.left -= len(record.value)
        if self.left < 0:
            raise TooMuch
        return record.value

    def expiry(self, key: bytes) -> int | None:
        record = self._living(key)
        return None if record is None else record.expiry

    def _living(self, key: bytes) -> Record | None:
        record = self._store.get(self.slot, key)
        if record is not None and expired(record, self.now_ms):
            self._node.expiry.met(self.slot, key)
            return None
        return record

    def put(self, key: bytes, value: bytes, expiry: int = 0) -> None:
        epoch, seq = self._node.stamp()
        record = Record(value, epoch, seq, expiry)
        try:
            self._store.put(self.slot, key, record)
        except DamagedRecord as failure:
            self._node.discard(failure)
            self._store.put(self.slot, key, record)
        self._node.wrote((self.slot, key, value, epoch, seq, expiry))
        if expiry:
            self._node.expiry.noted(self.slot, expiry)

    def delete(self, key: bytes) -> bool:
        """True if it was there. One that is damaged was, as far as anybody can know."""
        try:
            if self._living(key) is None:
                return False
        except DamagedRecord as failure:
            self._node.discard(failure)
        stage_delete(self._node, self._store, self.slot, key)
        return True


def expired(record: Record, now_ms: int) -> bool:
    """Whether nobody may see the record any more; at the very millisecond that it names it is gone."""
    return 0 < record.expiry <= now_ms


def stage_delete(node: "StorageNode", store: Store, slot: int, key: bytes) -> None:
    """Stage the delete of a key that is there, stamped as any other write (R4)."""
    epoch, seq = node.stamp()
    store.delete(slot, key, epoch, seq)
    node.wrote((slot, key, None, epoch, seq, 0))
