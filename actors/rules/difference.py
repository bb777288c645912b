"""Says what two rings disagree about: which slots go elsewhere, which nodes came, went, changed.

The ECS prints it when it writes, a node asks it what it gained and lost when it reads, a person finds it in a log.
Rings that differ only in epoch, nonce or settings do not differ here: nothing has moved.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .ring import Node, Ring
from .slots import SLOTS, Run, runs


class Placement(NamedTuple):
    """Where a slot is: the ids of its preference list, and of its coordinator if it has one."""

    members: tuple[str, ...]
    coordinator: str | None


class Moved(NamedTuple):
    """Slots whose list or coordinator differs, the same way for all of them."""

    slots: Run
    before: Placement
    after: Placement


class Changed(NamedTuple):
    """A field of a node that is in both rings and differs."""

    id: str
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What leads from one ring to another; false when nothing does."""

    epochs: tuple[int, int]
    came: tuple[str, ...]
    """Ids in the second ring only, ascending."""
    went: tuple[str, ...]
    """Ids in the first ring only, ascending."""
    changed: tuple[Changed, ...]
    """States, incarnations, data directories, tokens and addresses, by id."""
    moved: tuple[Moved, ...]
    """The slots that are elsewhere, ascending, each run as long as it can be."""

    def __bool__(self) -> bool:
        return bool(self.came or self.went or self.changed or self.moved)

    def __str__(self) -> str:
        """One fact a line."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"ring {self.epochs[0]} -> {self.epochs[1]}" + ("" if self else ": no difference")
        yield from (f"  {id} came" for id in self.came)
        yield from (f"  {id} went" for id in self.went)
        yield from (f"  {each.id} {each.field} {each.before} -> {each.after}" for each in self.changed)
        for slots, before, after in self.moved:
            line = f"  slots {slots} ({slots.size}): {_who(before)} -> {_who(after)}"
            if before.members != after.members:
                line += f", list {' '.join(before.members)} -> {' '.join(after.members)}"
            yield line


def _who(placement: Placement) -> str:
    return placement.coordinator or "nobody"


def placement(ring: Ring, slot: int) -> Placement:
    """Where a slot is."""
    coordinator = ring.coordinator(slot)
    return Placement(tuple(node.id for node in ring.preference_list(slot)), coordinator.id if coordinator else None)


def difference(before: Ring, after: Ring) -> Difference:
    """What leads from before to after."""
    old, new = before.by_id, after.by_id
    return Difference(
        epochs=(before.epoch, after.epoch),
        came=tuple(sorted(new.keys() - old.keys())),
        went=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(each for id in sorted(old.keys() & new.keys()) for each in _changed(old[id], new[id])),
        moved=tuple(_moved(before, after)),
    )


def _changed(before: Node, after: Node) -> Iterator[Changed]:
    for field, old, new in zip(_FIELDS, _facts(before), _facts(after), strict=True):
        if old != new:
            yield Changed(before.id, field, old, new)


_FIELDS = ("state", "incarnation", "data_id", "token", "address", "bridge_address")


def _facts(node: Node) -> tuple[str, ...]:
    return node.state, node.incarnation, node.data_id, f"{node.token:032x}", node.address, node.bridge_address


def _moved(before: Ring, after: Ring) -> Iterator[Moved]:
    """Looks once into each stretch of slots in which neither ring's placement changes, and joins equal neighbours."""
    edges = sorted(_edges(before) | _edges(after))
    pairs = [(placement(before, slot), placement(after, slot)) for slot in edges]
    edges.append(SLOTS)
    for run, (old, new) in runs(pairs):
        if old != new:
            yield Moved(Run(edges[run.first], edges[run.last + 1] - 1), old, new)


def _edges(ring: Ring) -> set[int]:
    """The slots at which a ring's placement may change: where lists and the slots of keepers begin, and end."""
    kept = {edge for each in ring.trouble for edge in (each.slots.first, each.slots.last + 1)}
    return ({run.first for run, _ in ring.list_runs} | kept) - {SLOTS}
