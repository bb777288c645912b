"""Says since which ring a node coordinates a slot, and by which write of the ring, for people who wonder why.

A ring does not tell: it says who coordinates now. So whoever reads one ring after the other keeps in *hands* what it
has seen change. Of what lay before, or between two rings that it has read, the history in the ring says which writes
gave some slot to another coordinator. One of them: it was that. Several: it was one of these. None that is remembered:
it is longer ago than the history tells.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .ring import Node, Ring, Write
from .slots import SLOTS, Run


class Hand(NamedTuple):
    """Slots, whose they are, and since when."""

    slots: Run
    life: tuple[str, str] | None
    """Id and incarnation of the coordinator; None: nobody answers for them."""
    writes: tuple[Write, ...]
    """The writes that may have made them its; exactly one: it is known. None: longer ago than is remembered."""
    at_the_latest: int
    """The epoch by which they were."""


def handed_on(hands: Sequence[Hand], before: Ring | None, ring: Ring) -> tuple[Hand, ...]:
    """Whose the slots are in a ring that was read after another; ascending. ``hands`` are those of the one before."""
    seen = before.epoch if before is not None else 0
    moving = tuple(write for write in ring.history if write.moved and write.epoch > seen)
    if not ring.history or ring.history[0].epoch > seen + 1:
        moving = ()  # a history that has forgotten some writes may have forgotten the one
    cuts = sorted({*ring.edges, *(hand.slots.first for hand in hands), SLOTS})
    following: list[Hand] = []
    index = 0
    for first, end in pairwise(cuts):
        while hands and hands[index].slots.last < first:
            index += 1
        node = ring.coordinators[first]
        life = (node.id, node.incarnation) if node is not None else None
        former = hands[index] if hands else None
        if former is not None and former.life == life:
            hand = former._replace(slots=Run(first, end - 1))
        else:
            hand = Hand(Run(first, end - 1), life, moving, ring.epoch)
        last = following[-1] if following else None
        if last is not None and last[1:] == hand[1:]:
            following[-1] = last._replace(slots=Run(last.slots.first, hand.slots.last))
        else:
            following.append(hand)
    return tuple(following)


def why(hands: Sequence[Hand], ring: Ring, slot: int) -> dict[str, Any]:
    """Who coordinates a slot, since which ring, by which write, and why it is this member of the list."""
    hand = next(each for each in hands if each.slots.first <= slot <= each.slots.last)
    members, node = ring.lists[slot], ring.coordinators[slot]
    known = hand.writes[0] if len(hand.writes) == 1 else None
    return {
        "slot": slot,
        "epoch": ring.epoch,
        "coordinator": node.id if node is not None else None,
        "address": node.address if node is not None else None,
        "list": [{"id": each.id, "state": each.state} for each in members],
        "since": known.epoch if known is not None else None,
        "at_the_latest": hand.at_the_latest,
        "writes": [
            {"epoch": each.epoch, "what": each.what, "why": each.why, "wall_seconds": each.wall_seconds}
            for each in hand.writes
        ],
        "sentences": [_place(members, node), _since(hand, node)],
    }


def _place(members: Sequence[Node], node: Node | None) -> str:
    if node is None:
        states = ", ".join(f"{each.id} ({each.state})" for each in members)
        return f"nobody coordinates it: no member of its list is up: {states}"
    if node.state != "up":
        return f"{node.id} keeps it: it was complete when too few members of the list were left, and is {node.state}"
    before = members[: next(index for index, each in enumerate(members) if each.id == node.id)]
    if not before:
        return f"{node.id} coordinates it, since it is the first of its list"
    absent = ", ".join(f"{each.id} is {each.state}" for each in before)
    return f"{node.id} coordinates it, since it is the first of its list that is up: {absent}"


def _since(hand: Hand, node: Node | None) -> str:
    whose = "so" if node is None else "its"
    match hand.writes:
        case ():
            return f"that was {whose} in ring {hand.at_the_latest} already; what made it so is not remembered any more"
        case (write,):
            return f"since ring {write.epoch}: {write.what} ({write.why})"
        case several:
            told = "; ".join(f"ring {each.epoch}: {each.what} ({each.why})" for each in several)
            return f"since one of these, by ring {hand.at_the_latest} at the latest: {told}"
