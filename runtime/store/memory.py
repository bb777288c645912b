"""Pretends to be a disk, for the simulation and for tests: remembers what a crash would leave.

It keeps three things: what reads see, what a power cut cannot take (the content as of the last sync), and the batches
between the two, in order. A process that is killed loses nothing that was written; a machine that loses power loses
some of the last batches, never a part of one and never one from the middle, which is what `rocks` keeps to as well.

    write -> unsynced batches --sync--> durable content
    crash -> a new disk with the durable content and the first of the unsynced batches
"""

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Generator
from threading import Lock

from .disk import Batch, Full


class MemoryBatch:
    """Changes in order: ``(begin, end, value)``, where end is None for one key, and value None for deletion."""

    def __init__(self) -> None:
        self.changes: list[tuple[bytes, bytes | None, bytes | None]] = []

    def put(self, key: bytes, value: bytes) -> None:
        self.changes.append((key, None, value))

    def delete(self, key: bytes) -> None:
        self.changes.append((key, None, None))

    def delete_range(self, begin: bytes, end: bytes) -> None:
        self.changes.append((begin, end, None))

    def apply(self, content: dict[bytes, bytes]) -> None:
        for begin, end, value in self.changes:
            if end is not None:
                for key in [key for key in content if begin <= key < end]:
                    del content[key]
            elif value is None:
                content.pop(begin, None)
            else:
                content[begin] = value


class MemoryDisk:
    """A disk in memory. Whoever simulates a machine keeps this object while processes on it come and go."""

    def __init__(self, durable: dict[bytes, bytes] | None = None) -> None:
        self.place = "memory"
        self.full = False
        """The fault that a test or a scenario can set: nothing can be written."""
        self._durable = durable or {}
        self._content = dict(self._durable)
        self._order: list[bytes] | None = None  # keys in order; None: to be sorted again
        self._unsynced: deque[MemoryBatch] = deque()
        self._syncing = Lock()

    def get(self, key: bytes) -> bytes | None:
        return self._content.get(key)

    def items(self, begin: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        if self._order is None:
            self._order = sorted(self._content)
        for i in range(bisect_left(self._order, begin), bisect_left(self._order, end)):
            key = self._order[i]
            yield key, self._content[key]

    def batch(self) -> MemoryBatch:
        return MemoryBatch()

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, MemoryBatch)
        if self.full:
            raise Full("the disk in memory is full: nothing was written")
        batch.apply(self._content)
        self._order = None
        self._unsynced.append(batch)

    def sync(self) -> None:
        with self._syncing:
            for _ in range(len(self._unsynced)):
                self._unsynced.popleft().apply(self._durable)

    def freeze(self) -> "MemoryDisk":
        return MemoryDisk(dict(self._content))

    def close(self) -> None:
        self.sync()

    def lie(self, key: bytes, value: bytes | None) -> None:
        """Have something else under a key than was written, as a disk that flips bits or forgets; None: nothing."""
        for content in self._content, self._durable:
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        self._order = None

    def crash(self, *, lose_unsynced: bool = True, torn: random.Random | None = None) -> "MemoryDisk":
        """The disk that the next process finds. This one, still in the hands of the dead, is not to be used again.

        A killed process (lose_unsynced False) loses nothing. A power cut loses every batch that was not synced, or, if
        torn is given, only those from some batch on.
        """
        survived = dict(self._durable)
        unsynced = list(self._unsynced)
        if lose_unsynced:
            unsynced = unsynced[: torn.randint(0, len(unsynced)) if torn else 0]
        for batch in unsynced:
            batch.apply(survived)
        return MemoryDisk(survived)
