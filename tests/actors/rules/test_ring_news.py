"""What is new in a ring is told from its history and its nodes, also to whoever has missed rings between."""

from ringkeeper.actors.rules.ring_news import jobs, states, writes
from ringkeeper.tests.actors.rules.rings import founded, ids, lost

A, B, C = ids(3)


def test_a_death_is_a_write_with_its_cause_and_a_state_that_changed() -> None:
    before = founded(3)
    after = lost(before, B)
    (write,) = writes(before, after)
    assert (write.kind, write.epoch, write.cause) == ("ring", 2, after.history[-1].why)
    (state,) = states(before, after)
    assert state.sentence == f"{B} is down (was up)"
    assert (state.cause, state.fields["was"], state.fields["state"]) == (after.history[-1].why, "up", "down")


def test_whoever_has_missed_rings_hears_of_all_their_writes() -> None:
    before = founded(3)
    after = lost(lost(before, B), C)
    assert [each.epoch for each in writes(before, after)] == [2, 3]
    assert [each.epoch for each in writes(None, after)] == [3]
    assert {each.fields["node"] for each in states(before, after)} == {B, C}


def test_the_same_ring_is_no_news() -> None:
    ring = founded(3)
    assert writes(ring, ring) == states(ring, ring) == jobs(ring, ring) == []
