"""Holds replies back until everybody who must hold a write does (R1), and knows what is *dirty*: written, not yet held.

A part of `StorageNode`. Slots whose writes the same others must hold are a *group*: those others are the up successors
of their list, by id, and the handoffs of learners that are required, by name. Batches are numbered by the node; each of
the others tells up to which batch it holds everything that concerns it, and what a group waits for is the least of
these numbers.

    stamped in batch n --> dirty, its reply held back --every one of the group holds n--> answered, clean

A reply that is decided by something dirty waits for it, too, whether its command wrote or not: so nobody is told of a
value that a failure could still take back. What a new ring makes of those who wait is decided in ``regroup``: under
another group they go on waiting, for whoever must hold a write now (R3).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from .messages import Operation
from .rules.replies import Reply
from .rules.slots import SLOTS, Run

WHOLE = -1
"""Stands for the slot of what concerns all slots of the node."""

LOOKS = -2
"""Stands for the slot of reads that have looked at all slots of the node: they wait for whatever is dirty in any."""

OWN = -3
"""Stands for the slot of replies that rest on nothing dirty: they wait for the node's own disk alone."""

NOTHING_DIRTY = 1 << 63
"""Behind every batch."""

T = TypeVar("T")


class Waiting(NamedTuple, Generic[T]):
    """Replies that are held back together: to requests that came in one turn, for slots of one group."""

    asked: list[T]
    replies: list[Reply]
    """To each of them."""
    slots: list[int]
    """Of each of them."""
    batch: int
    since: float
    writes: bool
    """Something was stamped: if it is not answered as it stands, then in doubt (R6)."""


class Dirty(NamedTuple):
    """What a batch has written."""

    batch: int
    operations: list[Operation]


@dataclass(slots=True, eq=False)
class Group(Generic[T]):
    """Slots whose writes the same others must hold."""

    peers: tuple[str, ...] = ()
    """The up successors, by id."""
    learners: tuple[str, ...] = ()
    """The handoffs of learners that are required (R9), by name."""
    copies: int = 1
    """Members that are up, the node itself included."""
    writable: bool = True
    """They are as many as a write needs (R2)."""
    shared: bool = False
    """Others could answer for these slots one day: current reads need a lease (R21)."""
    since: int = 0
    """The batch with which all peers began to hold these slots: who has it knows of this tenure."""
    not_before: float = 0.0
    """Nothing is acknowledged before this moment: whoever answered for the slots may still believe that it does."""
    waiting: deque[Waiting[T]] = field(default_factory=deque)
    dirty: deque[Dirty] = field(default_factory=deque)

    @property
    def may_dirty(self) -> bool:
        """Whether something may be written and not be held by all who must hold it: others, or as many as it takes."""
        return bool(self.peers or self.learners) or not self.writable

    @property
    def names(self) -> tuple[str, ...]:
        """Who must hold a write."""
        return self.peers + self.learners


class Acknowledging(Generic[T]):
    """Which replies wait for whom."""

    def __init__(self) -> None:
        self.runs: tuple[tuple[Run, Group[T]], ...] = ()
        """The node's slots by their groups, ascending."""
        self.groups: list[Group[T]] = []
        """All there are, the one of WHOLE not among them."""
        self.whole: Group[T] = Group()
        """Of what concerns all slots: everybody who must hold any write."""
        self.looks: Group[T] = Group()
        """Of reads that have looked at all slots. Not `whole`: of that nothing is released where one list of many has
        too few members, while what is dirty in the others comes and goes."""
        self.own: Group[T] = Group()
        """Of replies that wait for no other node, whatever becomes of the slots."""
        self._by_slot: list[Group[T] | None] = [None] * SLOTS
        self.held: dict[str, int] = {}
        """By name, up to which batch somebody holds everything."""
        self._dirty: dict[bytes, int] = {}
        self._dirty_slots: dict[int, int] = {}
        self.count = 0
        """Replies that wait."""

    def group_of(self, slot: int) -> Group[T] | None:
        """None: the node does not answer for the slot."""
        if slot >= 0:
            return self._by_slot[slot]
        return {WHOLE: self.whole, LOOKS: self.looks, OWN: self.own}[slot]

    @property
    def _all_groups(self) -> tuple[Group[T], ...]:
        """Those that wait for what others have made clean come last."""
        return (*self.groups, self.whole, self.looks, self.own)

    @property
    def needs_others(self) -> bool:
        """Whether anybody else must hold any write."""
        return bool(self.whole.peers)

    @property
    def any_dirty(self) -> bool:
        return bool(self._dirty) or bool(self._dirty_slots)

    # Writes

    def wrote(self, batch: int, operations: Sequence[Operation]) -> None:
        """These are in the store, and to be held by others."""
        by_slot, dirty = self._by_slot, self._dirty
        shares: dict[Group[T], list[Operation]] = {}
        group: Group[T] | None = None
        share: list[Operation] | None = None
        for each in operations:
            slot, key = each[0], each[1]
            if by_slot[slot] is not group:
                group = by_slot[slot]
                share = shares.setdefault(group, []) if group is not None and group.may_dirty else None
            if share is not None:
                share.append(each)
                if key is None:
                    self._dirty_slots[slot] = batch
                else:
                    dirty[key] = batch
        for group, share in shares.items():
            group.dirty.append(Dirty(batch, share))

    def _began(self, slot: int) -> int | None:
        group = self._by_slot[slot]
        return group.since if group is not None else None

    @property
    def written(self) -> dict[bytes, int] | None:
        """By dirty key, the last batch that wrote to it; None: whole slots are dirty, too."""
        return None if self._dirty_slots else self._dirty

    def dirt(self, slot: int, keys: Iterable[bytes]) -> int:
        """The last batch that wrote to any of these keys and is not held yet; 0: all are clean."""
        get, found = self._dirty.get, 0
        for key in keys:
            batch = get(key, 0)
            if batch > found:
                found = batch
        return max(found, self._dirty_slots.get(slot, 0)) if self._dirty_slots else found

    def hold(self, waiting: Waiting[T]) -> None:
        """Behind those that wait in its group already; as a rule, they wait for longer."""
        group = self.group_of(waiting.slots[0])
        assert group is not None, f"nobody answers for slot {waiting.slots[0]}"
        if group.waiting and group.waiting[-1].batch > waiting.batch:
            waiting = waiting._replace(batch=group.waiting[-1].batch)
        group.waiting.append(waiting)
        self.count += len(waiting.asked)

    # Holding

    def heard(self, name: str, batch: int) -> bool:
        """Somebody holds everything up to a batch; False: that was known."""
        if batch <= self.held.get(name, -1):
            return False
        self.held[name] = batch
        return True

    def everywhere(self, group: Group[T], synced: int) -> int:
        """The batch up to which everybody of a group holds everything; ``synced``: the node itself."""
        held = self.held
        for name in group.peers:
            synced = min(synced, held.get(name, 0))
        for name in group.learners:
            synced = min(synced, held.get(name, 0))
        return synced

    def released(self, now: float, synced: int, name: str | None = None) -> Iterator[tuple[Waiting[T], bool]]:
        """Those that need not wait any longer, and whether they may be answered as they stand. ``name``: only those
        that wait for this one can have come to that.

        Where too few members are up, writes are in doubt, and what they wrote stays dirty until enough are up (R1).
        """
        if not self.count and not self.any_dirty:
            return
        for group in self._all_groups:
            if not group.waiting and not group.dirty:
                continue
            if name is not None and name not in group.peers and name not in group.learners:
                continue
            if not group.writable:
                writes = [each for each in group.waiting if each.writes]
                if writes:
                    group.waiting = deque(each for each in group.waiting if not each.writes)
                    self.count -= sum(len(each.asked) for each in writes)
                    yield from ((each, False) for each in writes)
                continue
            if now < group.not_before:
                continue
            if group is self.looks:
                held = self._cleanest() - 1
            else:
                held = self.everywhere(group, synced)
                self._clean(group, held)
            waiting = group.waiting
            while waiting and waiting[0].batch <= held:
                self.count -= len(waiting[0].asked)
                yield waiting.popleft(), True

    def _cleanest(self) -> int:
        """The first batch of which something is dirty still."""
        return min((group.dirty[0].batch for group in self.groups if group.dirty), default=NOTHING_DIRTY)

    def _dirtiest(self) -> int:
        """The last one."""
        return max((group.dirty[-1].batch for group in self.groups if group.dirty), default=0)

    def _clean(self, group: Group[T], held: int) -> None:
        dirty = group.dirty
        while dirty and dirty[0].batch <= held:
            batch, operations = dirty.popleft()
            last = self._dirty
            for each in operations:
                slot, key = each[0], each[1]
                if key is None:
                    if self._dirty_slots.get(slot) == batch:
                        del self._dirty_slots[slot]
                elif last.get(key) == batch:
                    del last[key]

    def overdue(self, before: float) -> Iterator[Waiting[T]]:
        """Take out those that have waited since before a moment. What they wrote stays dirty."""
        for group in self._all_groups:
            late = [each for each in group.waiting if each.since < before]
            if late:
                group.waiting = deque(each for each in group.waiting if each.since >= before)
                self.count -= sum(len(each.asked) for each in late)
                yield from late

    def take_all(self) -> list[Waiting[T]]:
        """Take out everybody."""
        taken = [each for group in self._all_groups for each in group.waiting]
        for group in self._all_groups:
            group.waiting.clear()
        self.count = 0
        return sorted(taken, key=lambda each: each.batch)

    # The ring

    def regroup(self, runs: Iterable[tuple[Run, Group[T]]]) -> list[Waiting[T]]:
        """Other groups from now on. Those who wait, wait at least for the batch since which a group is what it is: who
        came new to it holds nothing of what was before. Returns those who waited for slots that the node does not
        answer for any more."""
        before, self.runs = self.runs, tuple(runs)
        waiting = self.take_all()
        dirt = sorted((each for group in self.groups for each in group.dirty), key=lambda each: each.batch)
        self._dirty.clear()
        self._dirty_slots.clear()
        self._by_slot = [None] * SLOTS
        known = bytearray(SLOTS)
        unique: dict[int, Group[T]] = {}
        for run, group in self.runs:
            self._by_slot[run.first : run.last + 1] = [group] * run.size
            known[run.first : run.last + 1] = b"\1" * run.size
            unique[id(group)] = group
        self.groups = list(unique.values())
        names = {name for group in self.groups for name in group.names}
        self.whole = Group(
            peers=tuple(sorted(names)),
            copies=min((group.copies for group in self.groups), default=1),
            writable=all(group.writable for group in self.groups),
            not_before=max((group.not_before for group in self.groups), default=0.0),
        )
        self.looks = Group(peers=self.whole.peers)
        self.held = {name: self.held.get(name, 0) for name in sorted(names)}
        for batch, operations in dirt:  # who came new to a group holds nothing of what was before
            for since in sorted({group.since for group in self.groups}):
                self.wrote(max(batch, since), [each for each in operations if self._began(each[0]) == since])
        fewer = any(0 in known[run.first : run.last + 1] for run, _ in before)
        lost = []
        for entry in waiting:
            for asked, reply, slot in zip(entry.asked, entry.replies, entry.slots, strict=True):
                one = entry._replace(asked=[asked], replies=[reply], slots=[slot])
                mine = self.group_of(slot)
                if mine is None or (slot in (WHOLE, LOOKS) and fewer):  # what concerned all did concern those that went
                    lost.append(one)
                else:
                    since = self._dirtiest() if slot == LOOKS else mine.since  # what was dirty is of a later batch now
                    self.hold(one._replace(batch=max(one.batch, since)))
        return lost

    def check(self) -> None:
        count = 0
        for group in self._all_groups:
            if group.waiting:
                batches = [each.batch for each in group.waiting]
                assert batches == sorted(batches), "who waits for less waits behind who waits for more"
                count += sum(len(each.asked) for each in group.waiting)
                for each in group.waiting:
                    assert len(each.asked) == len(each.replies) == len(each.slots)
                    assert len({id(self.group_of(slot)) for slot in each.slots}) == 1, "slots of several groups"
        assert self.count == count
