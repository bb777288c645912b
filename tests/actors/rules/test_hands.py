"""Since which ring a node coordinates a slot, and by which write."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.hands import Hand, handed_on, why
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.tests.actors.rules.rings import founded, lost


def read(*rings: Ring) -> tuple[Hand, ...]:
    """What is known after one ring was read after the other."""
    hands: tuple[Hand, ...] = ()
    before: Ring | None = None
    for ring in rings:
        hands, before = handed_on(hands, before, ring), ring
    return hands


RING = founded(3, replicas=3)
FIRST = RING.lists[0][0]
LATER = lost(RING, FIRST.id)


def test_who_has_read_every_ring_knows_by_which_write_it_was() -> None:
    hands = read(RING, LATER)
    told = why(hands, LATER, 0)
    assert (told["since"], told["coordinator"]) == (2, RING.lists[0][1].id)
    assert told["sentences"] == [
        f"{told['coordinator']} coordinates it, since it is the first of its list that is up: {FIRST.id} is down",
        f"since ring 2: {LATER.history[-1].what} (gone)",
    ]
    other = next(slot for slot in range(SLOTS) if RING.coordinators[slot] is not FIRST)
    told = why(hands, LATER, other)
    assert told["since"] == 1 and told["sentences"][0].endswith("since it is the first of its list")


def test_who_comes_later_knows_what_it_may_have_been() -> None:
    told = why(read(LATER), LATER, 0)
    assert told["since"] is None and told["at_the_latest"] == 2
    assert told["sentences"][1].startswith("since one of these, by ring 2 at the latest: ring 1: found")
    assert why(read(RING), RING, 0)["since"] == 1, "there is only one that it can have been"


def test_what_the_history_has_forgotten_is_not_made_up() -> None:
    forgetful = replace(LATER, history=LATER.history[-1:])
    told = why(read(forgetful), forgetful, 0)
    assert told["since"] is None and not told["writes"]
    assert told["sentences"][1] == "that was its in ring 2 already; what made it so is not remembered any more"


def test_a_slot_that_nobody_coordinates_says_so() -> None:
    nobody = lost(LATER, *(node.id for node in RING.circle if node.id != FIRST.id))
    told = why(read(RING, LATER, nobody), nobody, 0)
    assert told["coordinator"] is None and told["since"] == 3
    assert told["sentences"][0].startswith("nobody coordinates it: no member of its list is up: ")


@given(st.permutations([node.id for node in RING.circle]), st.integers(0, 3))
def test_every_slot_is_in_one_hand_which_is_its_coordinators(deaths: list[str], count: int) -> None:
    rings = [RING]
    for id in deaths[:count]:
        rings.append(lost(rings[-1], id))
    hands = read(*rings)
    assert [hand.slots.first for hand in hands] == [0, *(hand.slots.last + 1 for hand in hands[:-1])]
    assert hands[-1].slots.last == SLOTS - 1
    for hand in hands:
        for slot in (hand.slots.first, hand.slots.last):
            node = rings[-1].coordinators[slot]
            assert hand.life == ((node.id, node.incarnation) if node is not None else None)
            whose = [ring.coordinators[slot] for ring in rings]
            since = max((n for n in range(1, len(rings)) if whose[n] != whose[n - 1]), default=0)
            assert [write.epoch for write in hand.writes] == [rings[since].epoch]
