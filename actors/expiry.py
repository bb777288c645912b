"""Deletes what has expired: looks for it, a little at a time, and stamps the deletes.

A part of `StorageNode`. That nobody reads what has expired is not done here: every read compares the record with the
clock (`slot_view.py`, `whole_node.py`). This gives the space back. Expiry is a delete that the coordinator stamps (R4),
in a batch of its own that nobody waits for; a copy, whose clock is another, deletes nothing, and neither does a
coordinator that may not stamp (R1) or parks the slot's writes. It deletes the record that has expired and no other,
since between looking and stamping nothing else runs.

Nothing is kept for each key. A slot that has keys with an expiry is known by the soonest of them: 16384 numbers at
most. When that time has come it is *due*: all its keys are looked at. A slot that this node has not coordinated until
now is due at once, as nobody knows what is in it; so after a start, or a takeover, all of its data is read once.

    gained, or its soonest expiry has come -> due -> looked at, sweep by sweep -> the soonest of what is left, or none

Where no key has an expiry no slot is known and no timer runs. Otherwise at most 5 000 keys a second are looked at, or
50 000 while at least every tenth of them has expired (as in Redis: work where it pays), so that no more than about a
tenth of the keys are dead ones, unless 50 000 a second expire. What a command meets goes first.

Rejected: an index of such keys in the order of their expiry. It would find each on time, but costs 200 bytes a key
without a bound, and would have to be filled by reading everything just the same.
"""

import logging
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, compress
from operator import ne
from typing import TYPE_CHECKING

from ..runtime.message import message
from ..runtime.store import Store, StoreError
from .rules.slots import SLOTS
from .slot_view import expired, stage_delete

if TYPE_CHECKING:
    from .storage_node import StorageNode

log = logging.getLogger(__name__)

LOOKS_PER_SWEEP_MAX = 500
"""Keys looked at in one sweep, which is one turn of the loop: 1 ms, and 3 ms more when all of them have expired."""

LOOKS_PER_SLOT = 15
"""What beginning with a slot costs, in looks."""

BYTES_PER_SWEEP_MAX = 1024 * 1024
"""Keys and values read in one sweep, one record excepted."""

SWEEP_SECONDS, HURRIED_SECONDS, IDLE_SECONDS = 0.1, 0.01, 1.0
"""From one sweep to the next: while some slot is due; while that pays; while none is."""

PAYS_FROM = 1 / 10
"""The share of what was looked at that had expired from which on sweeps follow each other faster."""

MET_MAX = LOOKS_PER_SWEEP_MAX
"""Expired keys remembered because a command met them; the others are found when their slots are due."""

NEVER = 2**63

Keys = dict[tuple[int, bytes], None]
"""Slots and keys, in order, none of them twice."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSoon:
    """Something may have expired; local. StorageNode -> StorageNode."""


class Expiry:
    """What one storage node knows of expiry."""

    def __init__(self, node: "StorageNode", store: Store) -> None:
        self._node, self._store = node, store
        self._marks = bytes(SLOTS)
        self._soonest = [NEVER] * SLOTS
        """By slot, when something in it expires, in milliseconds since the Unix epoch; 0: nobody has looked."""
        self._met: Keys = {}
        self._at = (0, b"")
        """Slot and key up to which it has looked; with a key, there is more of that slot."""
        self._left = NEVER
        """The soonest expiry of what is left in that slot."""
        self._sweep_comes = False
        self.deleted = 0
        """Keys deleted because they had expired, so far."""

    def coordinates(self, marks: bytearray) -> None:
        """The node coordinates the slots that are marked by 1, which may be others than before."""
        if marks == self._marks:
            return
        for slot in compress(range(SLOTS), map(ne, self._marks, marks)):
            self._soonest[slot] = 0 if marks[slot] else NEVER
        self._marks, self._at = bytes(marks), (self._at[0], b"")
        self._wake(SWEEP_SECONDS)

    def noted(self, slot: int, expiry: int) -> None:
        """A record that expires was put."""
        if slot == self._at[0] and self._at[1]:
            self._left = min(self._left, expiry)
        elif expiry < self._soonest[slot]:
            self._soonest[slot] = expiry
            self._wake(IDLE_SECONDS)

    def met(self, slot: int, key: bytes) -> None:
        """A command found that this key has expired."""
        if len(self._met) < MET_MAX and self._node.serves_writes_of(slot):
            self._met[slot, key] = None
            self._wake(SWEEP_SECONDS)

    def _wake(self, seconds: float) -> None:
        if not self._sweep_comes:
            self._sweep_comes = True
            self._node.after(seconds, SweepSoon())

    def sweep(self) -> None:
        """Delete some of what has expired."""
        self._sweep_comes = False
        now_ms = int(self._node.wall() * 1000)
        looks, size = LOOKS_PER_SWEEP_MAX - len(self._met), BYTES_PER_SWEEP_MAX
        going = self._expired_of_met(now_ms)
        more = False
        due = self._due(now_ms)
        first = bisect_left(due, self._at[0])
        for slot in chain(due[first:], due[:first]):
            if not self._node.serves_writes_of(slot):
                continue
            if more := looks <= 0 or size <= 0:
                break
            found, looked, read = self._look_at(slot, now_ms, looks, size)
            going.update(found)
            looks, size = looks - looked, size - read
            if more := self._soonest[slot] <= now_ms:
                break
        for slot, key in going:
            with suppress(StoreError):  # it cannot be read any more
                stage_delete(self._node, self._store, slot, key)
        if self._node.staged and not self._node.commit_unasked():
            for slot, _ in going:
                self._soonest[slot] = 0
            self._at = (self._at[0], b"")
            self._wake(IDLE_SECONDS)
            return
        self.deleted += len(going)
        if more:
            pays = len(going) >= (LOOKS_PER_SWEEP_MAX - looks) * PAYS_FROM
            self._wake(HURRIED_SECONDS if pays else SWEEP_SECONDS)
        elif min(self._soonest) < NEVER:
            self._wake(IDLE_SECONDS)

    def _due(self, now_ms: int) -> list[int]:
        """The slots to look at, ascending. Those that are new and empty, thousands after a takeover, are done with."""
        if min(self._soonest) > now_ms:
            return []
        come = [slot for slot, soonest in enumerate(self._soonest) if soonest <= now_ms]
        empty = set(come).difference(self._store.with_keys(come), self._at[:1])  # one that is begun has to be ended
        for slot in empty:
            self._soonest[slot] = NEVER
        return [slot for slot in come if slot not in empty] if empty else come

    def _expired_of_met(self, now_ms: int) -> Keys:
        met, self._met = self._met, {}
        going: Keys = {}
        for slot, key in met:
            if self._node.serves_writes_of(slot):
                with suppress(StoreError):  # whoever asks for it is told
                    record = self._store.get(slot, key)
                    if record is not None and expired(record, now_ms):
                        going[slot, key] = None
        return going

    def _look_at(self, slot: int, now_ms: int, keys_max: int, bytes_max: int) -> tuple[Keys, int, int]:
        """Go on with a slot, or begin with it: what has expired, how many looks that took, and bytes read."""
        end = (slot + 1, b"")
        if not self._store.keys_in(slot):
            self._at, self._soonest[slot] = end, NEVER
            return {}, 0, 0
        if slot != self._at[0] or not self._at[1]:
            self._at, self._left = (slot, b""), NEVER
        try:
            records, self._at = self._store.walk(self._at, end, keys_max, bytes_max)
        except StoreError as failure:
            log.error("what expires in slot %d is not deleted, only hidden: %s", slot, failure)
            records, self._at = [], end
        going: Keys = {}
        for _, key, record in records:
            if expired(record, now_ms):
                going[slot, key] = None
            elif record.expiry:
                self._left = min(self._left, record.expiry)
        if self._at == end:
            self._soonest[slot] = self._left
        read = sum(len(key) + len(record.value) for _, key, record in records)
        return going, LOOKS_PER_SLOT + len(records), read

    def check(self) -> None:
        assert self._sweep_comes or not self._met, "something has expired, and nobody will look"
