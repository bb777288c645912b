"""Lists of several copies through any story of deaths, returns and changes, beside an oracle that knows who holds what.

The oracle counts the acknowledged writes of some slots, one in each stretch of the circle, and keeps for each data
directory how many of them it holds, as if every list that may be written to were written to after every ring. What the
ring asserts of its members it must find true: DESIGN's "What must always hold", 1 to 4.
"""

import contextlib
from collections import defaultdict
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ringkeeper.actors.rules.change import Change, Wish
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.ring import Node, Ring
from ringkeeper.actors.rules.slots import SLOT_SHIFT, SLOTS, Run
from ringkeeper.actors.rules.transitions import (
    advanced,
    begun,
    committed,
    downed,
    given_up,
    kept,
    planned,
    put_back,
    queued,
    raisable,
    returned,
    returning,
)
from ringkeeper.tests.actors.rules.rings import hex64, ids, registration, standing

STEP = SLOTS // 16
SAMPLES = range(0, SLOTS, STEP)
"""Tokens stand at these slots, so each stretch of slots between two of them has one list."""

UNKNOWN = -1
"""A directory in which a walk has begun holds some of this and some of that."""


class Copies(RuleBasedStateMachine):
    ring: Ring

    @initialize(
        count=st.integers(1, 6),
        replicas=st.integers(1, 4),
        min_copies=st.integers(1, 3),
        places=st.permutations(range(len(SAMPLES))),
    )
    def begin(self, count: int, replicas: int, min_copies: int, places: list[int]) -> None:
        tokens = {id: _token(place) for id, place in zip(ids(count), places, strict=False)}
        self.ring = replace(standing(tokens, replicas), min_copies=min_copies)
        self.written: dict[int, int] = dict.fromkeys(SAMPLES, 0)
        self.held: dict[str, dict[int, int]] = defaultdict(lambda: dict.fromkeys(SAMPLES, 0))
        self.lives: dict[str, int] = dict.fromkeys(ids(9), 1)
        self.write()

    # ---- what the storage nodes do

    def write(self) -> None:
        """Whoever may write does, and everybody who is up has it (R1)."""
        for slot in SAMPLES:
            up = [node for node in self.ring.lists[slot] if node.state == "up"]
            if len(up) >= self.ring.copies_needed:
                self.written[slot] += 1
                for node in up:
                    if self.holds(node, slot) == self.written[slot] - 1:
                        self.held[node.data_id][slot] += 1

    def holds(self, node: Node, slot: int) -> int:
        return self.held[node.data_id][slot]

    def next(self, ring: Ring) -> None:
        self.ring = Ring.from_json(ring.to_json())
        self.write()

    def fields(self, why: str = "told") -> dict[str, Any]:
        return {"why": why, "nonce": hex64(self.ring.epoch + 1), "wall_seconds": 1.0}

    # ---- what may happen

    def some(self, data: st.DataObject, *states: str) -> list[Node]:
        nodes = [node for node in self.ring.circle if node.state in states]
        if not nodes:
            return []
        return [nodes[i] for i in sorted(data.draw(st.sets(st.integers(0, len(nodes) - 1), min_size=1, max_size=3)))]

    @rule(data=st.data())
    def some_die(self, data: st.DataObject) -> None:
        if gone := self.some(data, "up", "returning"):
            self.next(downed(self.ring, {node.id: node.incarnation for node in gone}, **self.fields()))

    @rule(data=st.data(), empty=st.sampled_from([False, False, False, True]))
    def some_are_back(self, data: st.DataObject, empty: bool) -> None:
        back = self.some(data, "down", "down", "returning") or self.some(data, "up")
        empty = empty and self.ring.replicas > 1 and len(self.ring.circle) > 1
        registrations = []
        for node in back:
            self.lives[node.id] += 1
            life = self.lives[node.id]
            data_id = hex64(100_000 * life + node.port) if empty else node.data_id
            if empty:
                self.held[data_id] = dict.fromkeys(SAMPLES, UNKNOWN)
            registrations.append(registration(node.id, life, self.ring.stamp, data_id))
        if registrations:
            self.next(returned(self.ring, registrations, **self.fields()))

    @rule()
    def keepers_are_named(self) -> None:
        keepers: dict[Run, str] = {}
        for each in self.ring.trouble:
            if self.ring.coordinators[each.slots.first] is None:
                back = [id for id, data in each.complete if self.ring.by_id[id].state == "returning"]
                back = [id for id in back if self.ring.by_id[id].data_id == dict(each.complete)[id]]
                if back:
                    keepers[each.slots] = back[0]
        if keepers:
            self.next(kept(self.ring, keepers, **self.fields()))

    @precondition(lambda self: self.ring.change is None)
    @rule(data=st.data())
    def some_who_are_back_begin_to_be_raised(self, data: st.DataObject) -> None:
        if ids := raisable(self.ring):
            some = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
            self.begins(returning(self.ring, tuple(sorted(some))))

    @precondition(lambda self: self.ring.change is not None and self.ring.change.phase == "transfer")
    @rule()
    def the_change_lets_another_one_go_first(self) -> None:
        self.next(put_back(self.ring, **self.fields()))

    @precondition(lambda self: self.ring.change is None)
    @rule(data=st.data(), kind=st.sampled_from(["add", "remove", "move", "rest"]))
    def a_change_begins(self, data: st.DataObject, kind: Any) -> None:
        known = [node.id for node in self.ring.circle]
        taken = {node.token for node in self.ring.nodes}
        if kind == "add":
            new = next((id for id in ids(9) if id not in self.ring.by_id), None)
            free = [token for token in map(_token, range(16)) if token not in taken]
            if new is None or not free:
                return
            come = Node(**registration(new).life(), token=data.draw(st.sampled_from(free)))
            self.begins(Wish(job=self.ring.epoch, kind="add", ids=(new,)), come)
        elif kind == "move":
            free = [token for token in map(_token, range(16)) if token not in taken]
            id = data.draw(st.sampled_from(known))
            wish = Wish(job=self.ring.epoch, kind="move", ids=(id,), tokens=((id, data.draw(st.sampled_from(free))),))
            self.begins(wish)
        else:
            id = data.draw(st.sampled_from(known))
            if kind == "remove" or self.ring.by_id[id].state == "up":
                self.begins(Wish(job=self.ring.epoch, kind=kind, ids=(id,)))

    def begins(self, wish: Wish, *comes: Node) -> None:
        """Begin a change, if it may be."""
        try:
            if comes:  # as begun would, but at one of our tokens
                change = Change(epoch=self.ring.epoch + 1, phase="transfer", wish=wish, comes=comes)
                ring = self.ring.amended(what="begun", change=change, **self.fields())
            else:
                ring = begun(self.ring, wish, **self.fields())
            plan = planned(ring)
        except RingError:
            return
        self.next(ring)
        for transfer in plan.transfers:
            assert self.ring.change is not None
            nodes = {**self.ring.by_id, **{node.id: node for node in self.ring.change.comes}}
            for slot in _samples(transfer.slots):
                directory = nodes[transfer.target].data_id
                if self.held[directory][slot] != self.written[slot]:
                    self.held[directory][slot] = UNKNOWN

    @precondition(lambda self: self.ring.change is not None)
    @rule(steps=st.integers(1, 3))
    def it_goes_on(self, steps: int) -> None:
        self.go_on(steps)

    @precondition(lambda self: self.ring.change is not None)
    @rule()
    def it_goes_on_to_its_end(self) -> None:
        self.go_on(3)

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            assert self.ring.change is not None
            if self.ring.change.phase == "seal":
                self.commit(self.ring.change)
                return
            self.next(advanced(self.ring, **self.fields()))

    def commit(self, change: Change) -> None:
        plan, nodes = planned(self.ring), {**self.ring.by_id, **{node.id: node for node in change.comes}}
        for shift in plan.shifts:
            for slot in _samples(shift.slots):
                content = self.holds(self.ring.by_id[shift.coordinator], slot)
                assert content == self.written[slot], "a source that lacks something"
                for learner in shift.learners:
                    self.held[nodes[learner].data_id][slot] = content
        before = {slot: _up(self.ring, slot) for slot in SAMPLES}
        self.next(committed(self.ring, **self.fields()))
        for slot in SAMPLES:
            assert _up(self.ring, slot) >= min(self.ring.copies_needed, before[slot]), "a list is left with fewer (R11)"

    @precondition(lambda self: self.ring.change is not None)
    @rule()
    def it_is_given_up(self) -> None:
        assert self.ring.change is not None
        self.next(given_up(self.ring, self.ring.change.wish.job, "aborted", **self.fields()))

    @precondition(lambda self: not self.ring.queue)
    @rule()
    def somebody_wants_something(self) -> None:
        with contextlib.suppress(RingError):
            self.next(queued(self.ring, "remove", [self.ring.circle[0].id], **self.fields()))

    # ---- what must always hold

    @invariant()
    def who_is_up_or_complete_or_keeps_holds_everything(self) -> None:
        for slot in SAMPLES:
            record, coordinator = self.ring.trouble_at(slot), self.ring.coordinators[slot]
            for node in self.ring.lists[slot]:
                if node.state == "up":
                    assert self.holds(node, slot) == self.written[slot], f"{node.id} is up and lacks something"
            if coordinator is not None:
                assert self.holds(coordinator, slot) == self.written[slot]
            if record is not None:
                assert all(self.held[data][slot] == self.written[slot] for _, data in record.complete)
            else:
                assert sum(node.state == "up" for node in self.ring.lists[slot]) >= self.ring.copies_needed

    @invariant()
    def nothing_is_lost_for_good(self) -> None:
        """Somebody who is up or can come back holds everything."""
        for slot in SAMPLES:
            record = self.ring.trouble_at(slot)
            complete = record.complete if record is not None else ()
            up = [node for node in self.ring.lists[slot] if node.state == "up"]
            assert up or complete


def _up(ring: Ring, slot: int) -> int:
    return sum(node.state == "up" for node in ring.lists[slot])


def _token(place: int) -> int:
    return ((place * STEP) << SLOT_SHIFT) + 5


def _samples(slots: Run) -> range:
    return range(-(-slots.first // STEP) * STEP, slots.last + 1, STEP)


TestCopies = Copies.TestCase
TestCopies.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
