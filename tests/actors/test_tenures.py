"""What a node coordinates without a break, what it has to take over, and whose lease it must wait for."""

from dataclasses import replace
from typing import Any

import pytest
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import Run
from ringkeeper.actors.rules.transitions import advanced, begun, committed
from ringkeeper.actors.tenures import LEASE_OVER_SECONDS, LEASE_SECONDS, LifeName, Tenures
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration

RING = founded(3, replicas=3)
FIRST, SECOND, THIRD = (node.id for node in RING.circle)
"""In the order of the circle: who coordinates FIRST's slots, and who comes next."""
OF_FIRST = RING.slots_of(FIRST)


def life(id: str, number: int = 1) -> LifeName:
    return id, registration(id, number).incarnation


def tenures_of(id: str, *rings: Ring, now: float = 0.0) -> Tenures:
    """Of a node that has read these rings, one after the other, and has taken over whatever it had to."""
    tenures = Tenures(*life(id))
    before = None
    for batch, each in enumerate(rings, start=1):
        tenures.ring_changed(before, each, named=each.by_id[id].state == "up", batch=batch, now=now)
        tenures.begin(each, {}, batch=batch, now=now)
        before = each
    return tenures


def read(tenures: Tenures, before: Ring | None, ring: Ring, *, now: float = 10.0, batch: int = 10) -> Tenures:
    tenures.ring_changed(before, ring, named=True, batch=batch, now=now)
    return tenures


def slots_held(tenures: Tenures) -> list[Run]:
    return [tenure.slots for tenure in tenures.held]


def fields(ring: Ring) -> dict[str, Any]:
    return {"why": "test", "nonce": hex64(ring.epoch + 1), "wall_seconds": 1e9}


def unmoved(ring: Ring) -> Ring:
    """The next ring, which changes nothing of who answers for what."""
    return ring.amended(what="nothing", **fields(ring))


def test_in_the_first_ring_slots_with_copies_are_taken_over_and_nobodys_lease_is_waited_for() -> None:
    tenures = read(Tenures(*life(FIRST)), None, RING)
    assert tenures.taking == OF_FIRST and not tenures.held and not any(tenures.marks())
    assert tenures.begin(RING, {}, batch=11, now=10.0) == OF_FIRST
    assert slots_held(tenures) == list(OF_FIRST) and not tenures.taking
    assert {(each.not_before, each.since, each.copies) for each in tenures.held} == {(0.0, 11, 3)}
    assert sum(tenures.marks()) == sum(run.size for run in OF_FIRST)


def test_slots_that_nobody_else_has_begin_at_once() -> None:
    ring = founded(3, replicas=1)
    tenures = read(Tenures(*life(FIRST)), None, ring)
    assert slots_held(tenures) == list(ring.slots_of(FIRST)) and not tenures.taking


def test_a_tenure_goes_on_through_rings_that_leave_its_slots_alone() -> None:
    tenures = tenures_of(FIRST, RING)
    since = {tenure.since for tenure in tenures.held}
    read(tenures, RING, unmoved(RING))
    assert slots_held(tenures) == list(OF_FIRST) and {tenure.since for tenure in tenures.held} == since


def test_a_ring_that_was_not_read_and_moved_slots_is_a_break_and_one_that_moved_none_is_not() -> None:
    """R13."""
    skipped = unmoved(unmoved(RING))
    tenures = read(tenures_of(FIRST, RING), RING, skipped)
    assert slots_held(tenures) == list(OF_FIRST) and not tenures.taking
    moved = unmoved(lost(RING, THIRD))
    tenures = read(tenures_of(FIRST, RING), RING, moved)
    assert not tenures.held and set(OF_FIRST) <= set(tenures.taking)
    forgotten = replace(skipped, history=skipped.history[-1:])
    tenures = read(tenures_of(FIRST, RING), RING, forgotten)
    assert not tenures.held, "what the history does not tell may have been anything"


def test_who_is_not_named_holds_nothing() -> None:
    tenures = tenures_of(FIRST, RING)
    tenures.ring_changed(RING, lost(RING, FIRST), named=False, batch=2, now=1.0)
    assert not tenures.held and not tenures.taking


def test_a_peer_that_goes_leaves_the_tenure_and_one_that_comes_makes_it_begin_to_count_anew() -> None:
    down = lost(RING, SECOND)
    tenures = tenures_of(FIRST, RING)
    read(tenures, RING, down, batch=5)
    of_first = [each for each in tenures.held if each.slots in OF_FIRST]
    assert {(each.peers, each.copies, each.members, each.since) for each in of_first} == {((THIRD,), 2, 3, 1)}
    up = down.amended(what="up again", nodes=RING.nodes, **fields(down))
    read(tenures, down, up, batch=8)
    assert {each.since for each in tenures.held if each.slots in OF_FIRST} == {8}


def taken_over(
    *, confirmed_at: float | None, gone_before: bool = False, gone_after: bool = False, now: float = 10.0
) -> list[tuple[float, LifeName | None]]:
    """What SECOND waits for with the slots of FIRST, which is down."""
    ring = lost(RING, FIRST)
    tenures = tenures_of(SECOND, RING)
    if gone_before:
        assert not tenures.ended(life(FIRST))
    read(tenures, RING, ring, now=now)
    assert set(OF_FIRST) <= set(tenures.taking)
    confirmed = {life(FIRST): confirmed_at} if confirmed_at is not None else {}
    tenures.begin(ring, confirmed, batch=11, now=now)
    if gone_after:
        assert tenures.ended(life(FIRST)) and not tenures.ended(life(FIRST))
    return sorted({(each.not_before, each.awaits) for each in tenures.held if each.slots in OF_FIRST}, key=str)


def test_after_a_failure_the_lease_that_was_confirmed_is_waited_for() -> None:
    """R21."""
    assert taken_over(confirmed_at=9.5) == [(9.5 + LEASE_OVER_SECONDS, life(FIRST))]
    assert taken_over(confirmed_at=None) == [(10.0 + LEASE_OVER_SECONDS, life(FIRST))], "who knows what was confirmed"
    assert LEASE_OVER_SECONDS > LEASE_SECONDS


@pytest.mark.parametrize("gone", ["gone_before", "gone_after"])
def test_the_lease_of_a_process_that_has_certainly_ended_is_not_waited_for(gone: str) -> None:
    """R21: whether that is known before the ring is read or after."""
    assert taken_over(confirmed_at=9.5, **{gone: True}) == [(0.0, None)]


def test_the_end_of_another_life_does_not_count() -> None:
    ring = lost(RING, FIRST)
    tenures = tenures_of(SECOND, RING)
    tenures.ended(life(FIRST, 2))
    read(tenures, RING, ring)
    tenures.begin(ring, {}, batch=11, now=10.0)
    assert not tenures.ended(life(FIRST, 2))
    assert {each.awaits for each in tenures.held if each.slots in OF_FIRST} == {life(FIRST)}


def test_after_a_planned_change_nobody_is_waited_for_and_after_a_ring_in_between_the_longest_lease() -> None:
    """R21: whoever had said Ready serves no reads."""
    ring = begun(founded([FIRST], replicas=3), None, [registration(SECOND)], **fields(RING))
    for _ in range(2):
        ring = advanced(ring, **fields(ring))
    done = committed(ring, **fields(ring))
    tenures = Tenures(*life(SECOND))
    tenures.ring_changed(None, ring, named=False, batch=1, now=9.0)
    read(tenures, ring, done)
    tenures.begin(done, {}, batch=11, now=10.0)
    assert {(each.not_before, each.awaits) for each in tenures.held} == {(0.0, None)}
    late = Tenures(*life(SECOND))
    read(late, None, done)
    late.begin(done, {}, batch=11, now=10.0)
    assert {each.not_before for each in late.held} == {10.0 + LEASE_OVER_SECONDS}, "it has not read that one was Ready"


def test_a_newer_ring_while_slots_are_taken_does_not_make_the_older_lease_forgotten() -> None:
    down = lost(RING, FIRST)
    newer = unmoved(down)
    tenures = tenures_of(SECOND, RING)
    read(tenures, RING, down, now=10.0)
    read(tenures, down, newer, now=10.2)
    assert set(OF_FIRST) <= set(tenures.taking)
    tenures.begin(newer, {life(FIRST): 9.9}, batch=11, now=10.3)
    assert {(each.not_before, each.awaits) for each in tenures.held if each.slots in OF_FIRST} == {
        (9.9 + LEASE_OVER_SECONDS, life(FIRST))
    }


def test_a_lease_of_the_one_before_the_one_before_is_waited_for_though_the_one_between_is_gone() -> None:
    """R21: FIRST may not have heard yet that SECOND followed it, and SECOND's process has ended."""
    ring = founded(4, replicas=4)
    first, second, third, _ = (node.id for node in ring.circle)
    down = lost(ring, first)
    both = lost(down, second)
    tenures = tenures_of(third, ring)
    read(tenures, ring, down, now=10.0)
    tenures.ended(life(second))
    read(tenures, down, both, now=10.2)
    tenures.begin(both, {life(first): 9.9, life(second): 10.1}, batch=11, now=10.3)
    assert {(each.not_before, each.awaits) for each in tenures.held if each.slots in ring.slots_of(first)} == {
        (9.9 + LEASE_OVER_SECONDS, life(first))
    }
