"""Plans a change of the ring: which slots move, who sends them to whom, and why it must not be done.

Two rings go in, the present one and the one that the change would commit; what comes out is the same for the same
rings everywhere, so the ECS, every node and a person at a terminal agree on it without talking. Nothing is moved by it:
it can be printed, compared and refused when the ring has moved on.

A slot is *affected* when its list or its coordinator differs. Its coordinator of now makes every member equal that is
not one yet (a learner), and has to be ready before the commit (R11); where another will coordinate, the slot is sealed
at the end. Property: carrying out all transfers of a plan on the old placement gives the new one.

Look next at transitions (the writes of the ring that carry a change), handoff and replica (the actors that do it).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .fields import RingError
from .ring import Node, Ring, circle_of, list_runs
from .slots import SLOTS, Run, runs

UNEVEN_TIMES = 1.5
"""A node whose share would be so many times the mean is warned of."""


class Shift(NamedTuple):
    """Slots that are affected in the same way."""

    slots: Run
    coordinator: str
    """Who answers for them now, and makes the learners equal."""
    successor: str
    """Who will answer for them; if that is another, they are sealed."""
    learners: tuple[str, ...]
    """Members to be that hold nothing of theirs yet, in the order of the new list."""
    leavers: tuple[str, ...]
    """Members that will not be any more."""

    @property
    def sealed(self) -> bool:
        return self.successor != self.coordinator


class Transfer(NamedTuple):
    """Slots that one node makes another equal for."""

    slots: Run
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.slots} {self.source} -> {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a change moves. Empty when it would move nothing."""

    shifts: tuple[Shift, ...]
    """The affected slots, ascending, each run as long as it can be."""
    transfers: tuple[Transfer, ...]
    """By slots, then target."""
    shares: Mapping[str, tuple[float, float]]
    """Every node's part of all slots before and after, by id."""
    warnings: tuple[str, ...]

    @property
    def sources(self) -> frozenset[str]:
        """Who has to be ready before the commit."""
        return frozenset(shift.coordinator for shift in self.shifts)

    def sources_of(self, id: str) -> tuple[Shift, ...]:
        """The affected slots that a node coordinates now."""
        return tuple(shift for shift in self.shifts if shift.coordinator == id)


def plan(before: Ring, after: Ring) -> Plan:
    """What leads from ``before`` to ``after``.

    Raises RingError, with the reason, when it must not be done: a list that nobody answers for would change (R11), or
    one would be left with too few members up.
    """
    shifts = tuple(_shifts(before, after))
    ids = sorted({node.id for node in (*before.circle, *after.circle)})
    return Plan(
        shifts=shifts,
        transfers=tuple(_transfers(shifts)),
        shares={id: (before.share(id), after.share(id)) for id in ids},
        warnings=tuple(_warnings(before, after)),
    )


def _shifts(before: Ring, after: Ring) -> Iterator[Shift]:
    """Looks once into each stretch of slots in which neither ring's lists change, and joins equal neighbours."""
    edges = sorted({*before.edges, *after.edges})
    found = [_shift(before, after, slot) for slot in edges]
    edges.append(SLOTS)
    for run, shift in runs(found):
        if shift is not None:
            yield shift._replace(slots=Run(edges[run.first], edges[run.last + 1] - 1))


def _shift(before: Ring, after: Ring, slot: int) -> Shift | None:
    """How a slot is affected, with no slots named; None: not at all."""
    old, new = before.lists[slot], after.lists[slot]
    coordinator, successor = before.coordinators[slot], after.coordinators[slot]
    in_sync = {_id(coordinator), *(node.id for node in old if node.state == "up")}  # a keeper learns from nobody
    learners = tuple(node.id for node in new if node.state == "up" and node.id not in in_sync)
    same_list = [node.id for node in old] == [node.id for node in new]
    if same_list and not learners and _id(coordinator) == _id(successor):
        return None
    if coordinator is None:
        raise RingError(
            f"slot {slot} is held by {_states(old)}, so nobody can hand it over. Bring one of them back first"
        )
    if successor is None:
        raise RingError(f"slot {slot} would go to {_states(new)}, and nobody would answer for it")
    staying = {node.id for node in new}
    leavers = tuple(node.id for node in old if node.id not in staying)
    return Shift(Run(0, 0), coordinator.id, successor.id, learners, leavers)


def check_copies(before: Ring, nodes: Iterable[Node], replicas: int, min_copies: int) -> None:
    """Raises RingError when these nodes, with so many copies wanted and needed, would leave a list with fewer members
    up than it needs, unless it has as few, and too few, already (R11), or no list at all."""
    circle = circle_of(nodes)
    if not circle:
        raise RingError("the ring would be left without a node: somebody has to hold the data")
    needed = min(min_copies, replicas, len(circle))
    for run, members in list_runs(circle, replicas):
        up, were = _up(members), [_up(before.lists[each.first]) for each in before.stretches(run)]
        if up < needed and any(up < some or some >= before.copies_needed for some in were):
            raise RingError(f"slots {run} would be left with {_states(members)}: too few copies of them would be up")


def _up(members: tuple[Node, ...]) -> int:
    return sum(node.state == "up" for node in members)


def _transfers(shifts: tuple[Shift, ...]) -> Iterator[Transfer]:
    """One per unbroken run of slots between the same two nodes."""
    pairs = sorted({(shift.coordinator, learner) for shift in shifts for learner in shift.learners})
    found = []
    for source, target in pairs:
        run: Run | None = None
        for shift in shifts:
            if shift.coordinator != source or target not in shift.learners:
                continue
            if run is not None and shift.slots.first == run.last + 1:
                run = Run(run.first, shift.slots.last)
                continue
            if run is not None:
                found.append(Transfer(run, source, target))
            run = shift.slots
        if run is not None:
            found.append(Transfer(run, source, target))
    return iter(sorted(found))


def _warnings(before: Ring, after: Ring) -> Iterator[str]:
    mean = 1 / len(after.circle)
    for node in after.circle:
        share = after.share(node.id)
        if len(after.circle) > 1 and share > UNEVEN_TIMES * mean and share > before.share(node.id):
            yield f"{node.id} will answer for {share:.1%} of all slots, {share / mean:.1f} times the mean"
        elif share == 0 and len(after.circle) > 1:
            yield f"{node.id} will answer for no slot: its range is too small to hold one"
    copies = min(after.replicas, len(after.circle))
    if copies < after.replicas:
        yield f"with {len(after.circle)} nodes a slot has {copies} of the {after.replicas} copies that are wanted"


def _id(node: Node | None) -> str | None:
    return node.id if node is not None else None


def _states(members: tuple[Node, ...]) -> str:
    return ", ".join(f"{node.id}, which is {node.state}" for node in members)
