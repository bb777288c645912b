"""Faults that are planted to see whether the laboratory finds them. Each is a bug that somebody could write.

A fault is a function that patches the code for as long as it is planted. Nothing here is reachable from the product.

Two are not here. *A learner is not waited for* (R9) cannot be seen with one copy of each slot: whatever moves then is
sealed, and Ready covers all that was stamped before; with several copies it is found (``planted_copies.py``). *Chunk
and write on different links* no story has found yet: a walk lasts a millisecond where nodes are near.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from ringkeeper.actors import ecs, replica, storage_node
from ringkeeper.actors.ecs import Ecs
from ringkeeper.actors.handoff import Handoff
from ringkeeper.actors.member import Member
from ringkeeper.actors.messages import DropAllowed, Follow
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules import transitions
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.storage_node import StorageNode
from ringkeeper.runtime.session import NodeChanged, SetNode
from ringkeeper.runtime.store import StoreError
from ringkeeper.tests.scenarios.planting import RANDOM

Patch = pytest.MonkeyPatch


def reply_before_the_store_has_it(patch: Patch) -> None:
    """A batch is committed some milliseconds after its replies have left; a crash in between loses it."""

    class CommitNow:
        pass

    commit, hear = StorageNode._commit, StorageNode.on_receive

    def later(node: StorageNode) -> None:
        node.staged = False
        node._batch += 1
        node.after(0.02, CommitNow())

    def heard(node: StorageNode, content: Any) -> None:
        if type(content) is CommitNow:
            with suppress(StoreError):  # a full disk: the replies have left all the same
                node._store.commit()
        else:
            hear(node, content)

    assert commit is not None
    patch.setattr(StorageNode, "_commit", later)
    patch.setattr(StorageNode, "on_receive", heard)
    patch.setattr(StorageNode, "check", lambda node: None)


def skip_the_seal(patch: Patch) -> None:
    """The change is committed out of the switch: whoever had the slots goes on stamping until it reads that."""

    def step(ring: Ring, *, why: str, nonce: str, wall_seconds: float) -> Ring:
        if ring.change is not None and ring.change.phase == "switch":
            ring = replace(ring, change=replace(ring.change, phase="seal"))
            return transitions.committed(ring, why=why, nonce=nonce, wall_seconds=wall_seconds)
        return transitions.advanced(ring, why=why, nonce=nonce, wall_seconds=wall_seconds)

    patch.setattr(ecs, "advanced", step)


def walk_without_following(patch: Patch) -> None:
    """Writes to what lies behind the cursor are not sent."""
    follow = Handoff._follow
    patch.setattr(Handoff, "_follow", lambda self, message: follow(self, Follow(batch=message.batch, operations=[])))


def commit_before_ready(patch: Patch) -> None:
    """The change is committed as soon as it is sealed, whoever is ready."""
    reached = Ecs._all_reached

    def hasty(self: Ecs, ring: Ring) -> bool:
        return (ring.change is not None and ring.change.phase == "seal") or reached(self, ring)

    patch.setattr(Ecs, "_all_reached", hasty)


def ready_is_no_promise(patch: Patch) -> None:
    """A moment after its Ready a coordinator serves the sealed slots again, if it has heard nothing."""
    patch.setattr(storage_node, "OVERDUE_SECONDS", 0.01)
    overdue = StorageNode._overdue

    def impatient(self: StorageNode) -> None:
        overdue(self)
        part = self._part
        if part is not None and part.ready_epoch == self._epoch:
            part.shifts = ()
            self._serve()
            self._resume_parked()

    patch.setattr(StorageNode, "_overdue", impatient)


def parked_requests_run_by_a_timer(patch: Patch) -> None:
    """What has been parked for a moment is run, sealed or not."""
    patch.setattr(storage_node, "OVERDUE_SECONDS", 0.01)
    overdue = StorageNode._overdue

    def impatient(self: StorageNode) -> None:
        if self._parked:
            for first, last in self.own_runs():
                size = last + 1 - first
                self._reads[first : last + 1] = self._writes[first : last + 1] = b"\1" * size
                self._parks[first : last + 1] = bytes(size)
            with pytest.MonkeyPatch.context() as moment:
                moment.setattr(self, "_serve", lambda: None)
                self._resume_parked()
            self._serve()
        overdue(self)

    patch.setattr(StorageNode, "_overdue", impatient)


def two_leaders_write_without_compare_and_set(patch: Patch) -> None:
    """Every control service believes that it leads, and writes whatever is there."""
    write, hear = Ecs._write, Ecs.on_receive

    def blind(self: Ecs, ring: Ring) -> None:
        patched = SetNode.__init__

        def whatever(self: SetNode, **fields: Any) -> None:
            patched(self, **{**fields, "version": -1})

        SetNode.__init__ = whatever  # type: ignore[method-assign]
        try:
            write(self, ring)
        finally:
            SetNode.__init__ = patched  # type: ignore[method-assign]

    def heard(self: Ecs, content: Any) -> None:
        self._leading = True
        hear(self, content)

    patch.setattr(Ecs, "_write", blind)
    patch.setattr(Ecs, "on_receive", heard)


def a_change_outlives_a_death(patch: Patch) -> None:
    """A ring that calls a node down keeps the change in flight, and what was Ready stays so."""
    with_states = transitions._with_states

    def keeping(ring: Ring, *args: Any) -> Ring:
        following = with_states(ring, *args)
        return replace(following, change=ring.change, queue=ring.queue)

    patch.setattr(transitions, "_with_states", keeping)
    behind = Ecs._behind

    def forgiving(self: Ecs, ring: Ring) -> list[str]:
        ring_of = {
            id: report for id, report in self._reports.items() if report.change == (ring.change and ring.change.epoch)
        }
        return [id for id in behind(self, ring) if id not in ring_of or ring_of[id].reached is None]

    patch.setattr(Ecs, "_behind", forgiving)
    patch.setattr(StorageNode, "check", lambda node: None)
    patch.setattr(Replica, "check", lambda node: None)


def the_ring_is_not_read_again(patch: Patch) -> None:
    """A node obeys the rings that it is told of while its first connection lasts, and none after that."""
    hear = Member.on_receive

    def heard(self: Member, content: Any) -> None:
        if type(content).__name__ in ("Suspended", "Lost"):
            self._deaf = True  # type: ignore[attr-defined]
        if not (isinstance(content, NodeChanged) and getattr(self, "_deaf", False)):
            hear(self, content)

    patch.setattr(Member, "on_receive", heard)


def slots_are_dropped_while_they_come_back(patch: Patch) -> None:
    """What was allowed to be dropped is dropped, whatever the newest ring says by then, and at once."""
    patch.setattr(replica, "FOREIGN_SECONDS", 0.5)
    look = Replica._look_for_foreign

    def drop(self: Replica, message: DropAllowed) -> None:
        self._store.drop([slot for first, last in message.runs for slot in range(first, last + 1)])

    def soon(self: Replica, seconds: float) -> None:
        if not self._look_comes:
            self._look_comes = True
            self.after(min(seconds, 0.3), replica.LookForForeign())

    def allow(self: Replica, message: Any) -> None:
        self.after(0.5, DropAllowed(epoch=message.epoch, runs=message.runs))

    def asked(self: Replica) -> None:
        ring = self._ring
        if ring is not None and any(foreign := self._foreign(ring)):
            runs = [(slot, slot) for slot in range(len(foreign)) if foreign[slot]]
            self.after(1.0, DropAllowed(epoch=ring.epoch, runs=runs))

    assert look is not None and allow is not None
    patch.setattr(Replica, "_look_soon", soon)
    patch.setattr(Replica, "_look_for_foreign", asked)
    patch.setattr(Replica, "_drop", drop)


def a_stamped_write_is_called_not_done(patch: Patch) -> None:
    """When a new ring is read, clients whose writes wait for others are told that nothing was done."""
    changed = StorageNode._ring_changed

    def wrong(self: StorageNode, ring: Ring) -> None:
        if self._ring is None or ring.epoch > self._ring.epoch:
            waiting = self._acknowledging.take_all()
            told: list[tuple[Any, Any]] = [
                (asked, b"-TRYAGAIN the slot is moving\r\n") for each in waiting for asked in each.asked
            ]
            self._settle(told)
        changed(self, ring)

    patch.setattr(StorageNode, "_ring_changed", wrong)


def an_older_ring_is_obeyed(patch: Patch) -> None:
    """A node takes whatever ring ZooKeeper has, also one that is older than its own."""
    read = Member._ring_read

    def trusting(self: Member, data: bytes | None) -> bool:
        if data is not None and self._ring is not None and Ring.from_json(data).epoch < self._ring.epoch:
            self._ring = None
        return read(self, data)

    patch.setattr(Member, "_ring_read", trusting)


GOES, LATE = "one comes over a long line and goes", "one comes and others hear late of it"

FAULTS: dict[str, tuple[Callable[[Patch], None], str, int]] = {
    "reply before the store has it": (reply_before_the_store_has_it, RANDOM, 4),
    "skip the seal": (skip_the_seal, LATE, 1),
    "walk without following": (walk_without_following, RANDOM, 0),
    "commit before Ready": (commit_before_ready, LATE, 1),
    "Ready is no promise": (ready_is_no_promise, GOES, 0),
    "parked requests run by a timer": (parked_requests_run_by_a_timer, GOES, 0),
    "two leaders write without compare-and-set": (two_leaders_write_without_compare_and_set, "leaders take turns", 0),
    "a change outlives a death": (a_change_outlives_a_death, "one dies while slots move", 2),
    "the ring is not read again": (the_ring_is_not_read_again, "sessions are lost and one comes", 0),
    "slots are dropped while they come back": (slots_are_dropped_while_they_come_back, GOES, 0),
    "a stamped write is called not done": (a_stamped_write_is_called_not_done, GOES, 0),
}
"""By name: how it is planted, and what finds it: a random story, or one of `moving_stories.py`, and its seed."""
