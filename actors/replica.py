"""Holds what other nodes coordinate: takes in what their handoffs send, and forgets what is no longer its business.

Hears   RingChanged                                        from Member
        Learn, Survey, ListKeys, Chunk, Replicate          from a Handoff of the slots' coordinator
        Synced                                             from Syncer
        MayDrop, DropAllowed                               from Replica of another node
        SyncSoon, LookForForeign                           from itself
Tells   Learning, Disowned, Surveyed, KeysListed, Replicated -> Handoff; Sync -> Syncer; MayDrop, DropAllowed -> Replica

A *walk* is one attempt of one handoff. It is admitted only if the newest ring that this node has read has that very
change in flight, makes this incarnation the target of these slots, and names the sender's incarnation as their
coordinator (R3); it ends with the first ring in which that is not so, and what comes of it later is disowned. So a
coordinator of the past cannot write here.

    admitted (Learning) -- ring without its change --> over

The messages of a walk are numbered without a gap and are taken once each, in order; each is one batch of the store, and
acknowledged after it. Acknowledged is "everything up to this number".

*Foreign* slots are those in which the newest ring gives this node no part: what a commit has moved away, or an aborted
change moved here in vain. They are dropped some time later, so that a change that is tried again costs the difference,
and only if their coordinator says that every member of their lists is up. Dropping and becoming a learner are steps of
this one actor, so they cannot cross.

Invariants (``check``): no walk is over slots that this node coordinates; every walk belongs to the change in flight.
"""

import logging
from dataclasses import dataclass
from typing import assert_never
from zlib import crc32

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from ..runtime.store import Record, Store, StoreError
from .messages import (
    Chunk,
    Disowned,
    DropAllowed,
    KeysListed,
    Learn,
    Learning,
    ListKeys,
    MayDrop,
    Position,
    Replicate,
    Replicated,
    RingChanged,
    Survey,
    Surveyed,
    Sync,
    Synced,
)
from .rules.fields import RingError
from .rules.mirror import CONTENT_BYTES_MAX, digest_of
from .rules.plan import Plan, Transfer
from .rules.ring import Ring
from .rules.slots import SLOTS, Run, runs
from .rules.transitions import planned

log = logging.getLogger(__name__)

FOREIGN_SECONDS = 10.0
"""So long after a ring made them foreign slots are kept: a change that is tried again may want them."""

LOOK_AGAIN_SECONDS = 5.0
"""So long after their coordinator has not allowed to drop them it is asked again."""

DISOWNED_KEPT_MAX = 64

DROP_SLOTS_MAX = 64
"""Slots dropped in one turn; each may cost a look at a 256th of the cache."""

LISTED_KEYS_MAX = 4096
"""Keys named in answer to one ListKeys; more than a survey sums up."""

SYNC_SECONDS = 1.0
"""How often what was taken in is synced, unless each message asks for it."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LookForForeign:
    """Slots that nobody here needs may be dropped by now; local. Replica -> Replica."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLearned:
    """A second has passed since something was taken in; local. Replica -> Replica."""


@dataclass(slots=True)
class Walk:
    """What is known of one attempt to make this node equal."""

    id: int
    change: int
    slots: Run
    handoff: Ref
    number: int = 0
    """Everything up to it is applied."""
    synced: int = 0


class Replica(Actor):
    """One node's copies of what others coordinate. ``keeps_synced``: false where nothing is ever synced."""

    def __init__(
        self,
        *,
        id: str,
        incarnation: str,
        store: Store,
        syncer: Ref,
        foreign_seconds: float = FOREIGN_SECONDS,
        keeps_synced: bool = True,
    ) -> None:
        super().__init__()
        self.id, self.incarnation = id, incarnation
        self._store, self._syncer = store, syncer
        self._foreign_seconds, self._keeps_synced = foreign_seconds, keeps_synced
        self._ring: Ring | None = None
        self._plan: Plan | None = None
        self._walks: dict[int, Walk] = {}
        self._disowned: dict[int, tuple[Ref, Disowned]] = {}
        """Walks of the change in flight that could not go on: their handoffs may not have heard of it."""
        self._syncing: list[tuple[Walk, int]] | None = None
        """Who is told of the sync that is under way, and what it covers; None: none is."""
        self._sync_wanted = False
        """Another one is to follow: what came meanwhile is covered by it, however much that is."""
        self._dirty = False
        self._look_comes = False
        self._trouble = ""
        """Why nothing is taken in any more: a sync failed, and nobody knows what of it is on disk."""

    def on_receive(
        self,
        message: RingChanged
        | Learn
        | Survey
        | ListKeys
        | Chunk
        | Replicate
        | Synced
        | SyncLearned
        | MayDrop
        | DropAllowed
        | LookForForeign,
    ) -> None:
        match message:
            case RingChanged():
                self._ring_changed(message.ring)
            case Learn():
                self._learn(message)
            case Survey():
                self._survey(message)
            case ListKeys():
                self._list_keys(message)
            case Chunk() | Replicate():
                self._take(message)
            case Synced():
                self._sync_done(message)
            case SyncLearned():
                self._dirty = False
                self._sync()
            case MayDrop():
                self._may_drop(message)
            case DropAllowed():
                self._drop(message)
            case LookForForeign():
                self._look_comes = False
                self._look_for_foreign()
            case _:
                assert_never(message)

    # The ring

    def _ring_changed(self, ring: Ring) -> None:
        if self._ring is not None and ring.epoch <= self._ring.epoch:
            return
        change = ring.change.epoch if ring.change is not None else None
        if self._ring is None or self._ring.change is None or self._ring.change.epoch != change:
            self._plan = None
            self._disowned.clear()
        self._ring = ring
        self._walks = {id: walk for id, walk in self._walks.items() if walk.change == change}
        for walk in self._walks.values():
            self._acknowledge(walk)  # whoever waits for this ring to be read here is told
        self._look_soon(self._foreign_seconds)

    # Walks

    def _learn(self, message: Learn) -> None:
        if objection := self._objection(message):
            epoch = self._ring.epoch if self._ring is not None else 0
            self.send(message.reply_to, Disowned(walk=message.walk, epoch=epoch, why=objection))
            return
        slots = Run(message.first, message.last)
        if message.walk not in self._walks:  # else the answer was lost
            self._walks = {id: walk for id, walk in self._walks.items() if walk.slots != slots}
            self._walks[message.walk] = Walk(message.walk, message.change, slots, message.reply_to)
        keys = sum(map(self._store.keys_in, range(slots.first, slots.last + 1)))
        self.send(message.reply_to, Learning(walk=message.walk, keys=keys))

    def _objection(self, message: Learn) -> str:
        """Why this node is not to be made equal by that sender; "": it is."""
        ring = self._ring
        if self._trouble:
            return self._trouble
        if ring is None or ring.epoch < message.epoch:
            return f"{self.id} has not read ring {message.epoch} yet"
        if ring.change is None or ring.change.epoch != message.change:
            return f"change {message.change} is not in flight in ring {ring.epoch}"
        source = ring.by_id.get(message.node)
        if source is None or source.incarnation != message.incarnation:
            return f"{message.node} is not {message.incarnation} in ring {ring.epoch}"
        me = next((node for node in (*ring.change.comes, *ring.circle) if node.id == self.id), None)
        if me is None or me.incarnation != self.incarnation:
            return f"ring {ring.epoch} does not mean this life of {self.id}"
        if Transfer(Run(message.first, message.last), message.node, self.id) not in self._planned(ring).transfers:
            return f"slots {message.first}-{message.last} are not to come here from {message.node}"
        return ""

    def _planned(self, ring: Ring) -> Plan:
        if self._plan is None:
            self._plan = planned(ring)
        return self._plan

    def _walk_of(self, message: Survey | ListKeys | Chunk | Replicate) -> Walk | None:
        walk = self._walks.get(message.walk)
        if walk is None and message.walk in self._disowned:
            self.send(*self._disowned[message.walk])
        return walk

    def _survey(self, message: Survey) -> None:
        walk = self._walk_of(message)
        if walk is None:
            return
        end: Position = (walk.slots.last + 1, b"")
        try:
            records, reached = self._store.walk(message.after, end, message.keys_max, CONTENT_BYTES_MAX)
        except StoreError as failure:
            self._disown(walk, str(failure))
            return
        digest = digest_of(records, self._store.numbers(message.after[0], reached[0]))
        surveyed = Surveyed(walk=walk.id, after=message.after, upto=reached, keys=len(records), digest=digest)
        self.send(walk.handoff, surveyed)

    def _list_keys(self, message: ListKeys) -> None:
        walk = self._walk_of(message)
        if walk is None:
            return
        try:
            records, reached = self._store.walk(message.after, message.upto, LISTED_KEYS_MAX, CONTENT_BYTES_MAX)
        except StoreError as failure:
            self._disown(walk, str(failure))
            return
        listed = [(s, key, each.epoch, each.seq, each.expiry, crc32(each.value)) for s, key, each in records]
        self.send(walk.handoff, KeysListed(walk=walk.id, after=message.after, upto=reached, records=listed))

    def _take(self, message: Chunk | Replicate) -> None:
        """Take the next message of a walk in, as one batch; the others are answered with how far it has come."""
        walk = self._walk_of(message)
        if walk is None:
            return
        if message.number != walk.number + 1:
            self._acknowledge(walk, gap=message.number > walk.number)
            return
        try:
            if isinstance(message, Chunk):
                self._apply_chunk(message)
            else:
                self._apply_operations(message)
            self._store.commit()
        except StoreError as failure:
            self._store.roll_back()
            self._disown(walk, str(failure))
            return
        walk.number = message.number
        if isinstance(message, Replicate) and message.sync:
            self._sync()
        elif self._keeps_synced and not self._dirty:
            self._dirty = True
            self.after(SYNC_SECONDS, SyncLearned())
        self._acknowledge(walk)

    def _apply_chunk(self, chunk: Chunk) -> None:
        for slot, key in chunk.removals:
            self._store.delete(slot, key, 0, 0)
        for slot, key, value, epoch, seq, expiry in chunk.puts:
            self._store.put(slot, key, Record(value, epoch, seq, expiry))
        for slot, epoch, seq in chunk.numbers:
            self._store.renumber(slot, epoch, seq)

    def _apply_operations(self, message: Replicate) -> None:
        for slot, key, value, epoch, seq, expiry in message.operations:
            if key is None:
                self._store.flush(slot, epoch, seq)
            elif value is None:
                self._store.delete(slot, key, epoch, seq)
            else:
                self._store.put(slot, key, Record(value, epoch, seq, expiry))

    def _acknowledge(self, walk: Walk, gap: bool = False) -> None:
        assert self._ring is not None
        replicated = Replicated(walk=walk.id, number=walk.number, synced=walk.synced, epoch=self._ring.epoch, gap=gap)
        self.send(walk.handoff, replicated)

    def _disown(self, walk: Walk, why: str) -> None:
        """This walk cannot go on: what was staged is gone, and its handoff will ask for another."""
        log.error("%s takes nothing more in for slots %s: %s", self.id, walk.slots, why)
        self._walks.pop(walk.id, None)
        epoch = self._ring.epoch if self._ring is not None else 0
        disowned = Disowned(walk=walk.id, epoch=epoch, why=f"{self.id}: {why}")
        self._disowned[walk.id] = walk.handoff, disowned
        if len(self._disowned) > DISOWNED_KEPT_MAX:
            del self._disowned[next(iter(self._disowned))]
        self.send(walk.handoff, disowned)

    # Syncing

    def _sync(self) -> None:
        """Have everything that was taken in so far synced: now, or behind the sync that is under way."""
        if self._syncing is not None:
            self._sync_wanted = True
            return
        self._sync_wanted = False
        self._syncing = [(walk, walk.number) for walk in self._walks.values()]
        self.send(self._syncer, Sync(batch=0, reply_to=self.ref))

    def _sync_done(self, message: Synced) -> None:
        covered, self._syncing = self._syncing or [], None
        if message.error:
            self._trouble = f"the disk of {self.id} failed to sync ({message.error}): look after it, then restart it"
            for walk in list(self._walks.values()):
                self._disown(walk, self._trouble)
            return
        if self._sync_wanted:
            self._sync()
        for walk, number in covered:
            if self._walks.get(walk.id) is walk:
                walk.synced = max(walk.synced, number)
                self._acknowledge(walk)

    # Foreign slots

    def _look_soon(self, seconds: float) -> None:
        if not self._look_comes:
            self._look_comes = True
            self.after(seconds, LookForForeign())

    def _look_for_foreign(self) -> None:
        """Ask the coordinators of foreign slots that hold something whether they may go."""
        ring = self._ring
        foreign = self._foreign(ring) if ring is not None else bytearray(SLOTS)
        if ring is None or not any(foreign):
            return
        wanted: dict[str, list[tuple[int, int]]] = {}
        marks = [
            node.id if node is not None and mark else None
            for node, mark in zip(ring.coordinators, foreign, strict=True)
        ]
        for run, id in runs(marks):
            if id is not None:
                wanted.setdefault(id, []).append((run.first, run.last))
        for id, slots in sorted(wanted.items()):
            replica = self.system.resolve(f"ringkeeper://{ring.by_id[id].bridge_address}/replica")
            self.send(replica, MayDrop(epoch=ring.epoch, runs=slots, reply_to=self.ref))
        self._look_soon(LOOK_AGAIN_SECONDS)

    def _foreign(self, ring: Ring) -> bytearray:
        """1 for each slot that holds something here and in which the ring gives this node no part."""
        marks = self._store.used()
        if ring.by_id.get(self.id) is not None:
            for run, members in ring.list_runs:
                if any(node.id == self.id for node in members):
                    marks[run.first : run.last + 1] = bytes(run.size)
        if ring.change is not None:
            try:
                plan = self._planned(ring)
            except RingError:
                return bytearray(SLOTS)
            for shift in plan.shifts:
                if self.id in (shift.coordinator, shift.successor, *shift.learners):
                    marks[shift.slots.first : shift.slots.last + 1] = bytes(shift.slots.size)
        return marks

    def _may_drop(self, message: MayDrop) -> None:
        """Allow it for the slots that are ours, in the same ring, if every member of their lists is up."""
        ring = self._ring
        me = ring.by_id.get(self.id) if ring is not None else None
        if ring is None or ring.epoch != message.epoch or me is None or me.incarnation != self.incarnation:
            return  # it asks again
        complete = [
            coordinator is me and all(node.state == "up" for node in members)
            for coordinator, members in zip(ring.coordinators, ring.lists, strict=True)
        ]
        allowed = []
        for first, last in message.runs:
            if 0 <= first <= last < SLOTS:
                allowed += [
                    (first + run.first, first + run.last) for run, yes in runs(complete[first : last + 1]) if yes
                ]
        if allowed:
            self.send(message.reply_to, DropAllowed(epoch=ring.epoch, runs=allowed))

    def _drop(self, message: DropAllowed) -> None:
        """Forget some of the slots that may go and are still foreign; the rest is asked for again."""
        ring = self._ring
        if ring is None or ring.epoch != message.epoch:
            return  # what was allowed is past
        foreign = self._foreign(ring)
        allowed = [slot for first, last in message.runs for slot in range(first, last + 1) if foreign[slot]]
        going = allowed[:DROP_SLOTS_MAX]
        if not going:
            return
        keys = sum(map(self._store.keys_in, going))
        try:
            self._store.drop(going)
        except StoreError as failure:
            log.error("%s could not drop slots that are no longer its own: %s", self.id, failure)
            return
        log.info("%s dropped %d slots that are not its own (ring %d): %d keys", self.id, len(going), ring.epoch, keys)
        if len(allowed) > len(going):
            left = [(slot, slot) for slot in allowed[DROP_SLOTS_MAX:]]
            self.send(self.ref, DropAllowed(epoch=message.epoch, runs=left))

    def check(self) -> None:
        ring = self._ring
        change = ring.change.epoch if ring is not None and ring.change is not None else None
        for walk in self._walks.values():
            assert walk.change == change, "a walk of a change that is not in flight"
            assert walk.synced <= walk.number
            assert ring is not None
            for slot in (walk.slots.first, walk.slots.last):
                coordinator = ring.coordinators[slot]
                assert coordinator is None or (coordinator.id, coordinator.incarnation) != (self.id, self.incarnation)
