"""Chooses keepers: who is to answer for a list of which no member is up (R15, R16).

A complete member that is back holds everything that was acknowledged, unless a power cut took what was not synced: then
it says that it is not *whole*, and others of the complete members may hold more. So:

    a whole one is back         the first of them, in the list's order, is the keeper, at once: one whose copy is
                                damaged only where no other is back
    all are back, none whole    each may lack something else: the one with the highest slot number keeps the list
    some are still missing      they are waited for, up to ``recovery_wait``; then the same among those that are back

Pure: the ring, who is registered and what they said of their numbers go in; who keeps what, and what is still to be
asked or waited for, come out. The Ecs asks, waits and writes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .life import Registration
from .ring import Node, Ring, Trouble
from .slots import Run

Highest = Mapping[tuple[Run, str], tuple[int, int] | None]
"""By slots and incarnation the highest number (epoch, seq) among those slots; None: it was asked and said nothing."""


@dataclass(slots=True, kw_only=True)
class Recovery:
    """What can be done for the lists that nobody answers for."""

    keepers: dict[Run, str] = field(default_factory=dict)
    ask: dict[str, list[Run]] = field(default_factory=dict)
    """By node, the slots whose highest numbers it is to say."""
    waiting: set[Run] = field(default_factory=set)
    """Lists of which a complete member is back and not yet taken as keeper."""
    unsure: set[Run] = field(default_factory=set)
    """Lists whose keeper may lack what another complete member has: a power cut took something."""


def recovery(
    ring: Ring, lives: Mapping[str, Registration], highest: Highest, waited_enough: Collection[Run] = ()
) -> Recovery:
    """``lives`` are the newest registered lives by id, ``waited_enough`` the lists whose missing members are waited for
    no longer."""
    result = Recovery()
    for each in ring.trouble:
        if ring.coordinators[each.slots.first] is None and (back := _back(ring, each, lives)):
            _choose(result, each, back, lives, highest, each.slots in waited_enough)
    return result


def _back(ring: Ring, trouble: Trouble, lives: Mapping[str, Registration]) -> list[Node]:
    """The complete members of a list that are returning, in the list's order."""
    members = [node for node in ring.lists[trouble.slots.first] if node.state == "returning" and node.id in lives]
    return [
        node
        for node in members
        if (node.id, node.data_id) in trouble.complete and lives[node.id].incarnation == node.incarnation
    ]


def _choose(
    result: Recovery,
    trouble: Trouble,
    back: list[Node],
    lives: Mapping[str, Registration],
    highest: Highest,
    waited_enough: bool,
) -> None:
    slots = trouble.slots
    whole = [node for node in back if lives[node.id].whole]
    whole.sort(key=lambda node: lives[node.id].damaged)  # what cannot be read could not be mirrored from it
    if whole:
        result.keepers[slots] = whole[0].id
        return
    result.waiting.add(slots)
    if len(back) < len(trouble.complete) and not waited_enough:
        return
    said = {node.id: highest.get((slots, node.incarnation)) for node in back}
    known = {id: number for id, number in said.items() if number is not None}
    silent = all((slots, node.incarnation) in highest for node in back)
    if len(back) == 1:
        result.keepers[slots] = back[0].id
        result.unsure.add(slots)
    elif len(known) == len(back) or (known and silent and waited_enough):
        result.keepers[slots] = max(known, key=lambda id: known[id])  # of equals the first in the list
        result.unsure.add(slots)
    else:
        for node in back:
            if said[node.id] is None:
                result.ask.setdefault(node.id, []).append(slots)
