"""Who waits for whom before a write is answered: arithmetic, without any actor."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.actors.acknowledging import LOOKS, OWN, WHOLE, Acknowledging, Group, Waiting
from ringkeeper.actors.messages import Operation
from ringkeeper.actors.rules.slots import Run

LOW, HIGH = Run(0, 99), Run(100, 199)
"""Two runs of slots; all others are another node's."""


def put(slot: int, key: bytes = b"") -> Operation:
    return slot, key or key_of(slot), b"value", 1, 1, 0


def key_of(slot: int) -> bytes:
    """A key has one slot, whatever a test calls it."""
    return b"key of %d" % slot


def waiting(asked: str, batch: int, slot: int = 0, *, writes: bool = True, since: float = 0.0) -> Waiting[str]:
    return Waiting([asked], [b"+OK\r\n"], [slot], batch, since, writes)


def grouped(*groups: Group[str]) -> Acknowledging[str]:
    """The first group has LOW, the second HIGH."""
    acknowledging: Acknowledging[str] = Acknowledging()
    assert acknowledging.regroup(zip((LOW, HIGH), groups, strict=False)) == []
    return acknowledging


def released(acknowledging: Acknowledging[str], *, now: float = 0.0, synced: int = 100) -> list[Any]:
    """Who is answered; in doubt where it says so."""
    found = [(asked, sound) for each, sound in acknowledging.released(now, synced) for asked in each.asked]
    acknowledging.check()
    return [asked if sound else f"{asked} in doubt" for asked, sound in found]


def test_a_reply_leaves_when_the_last_of_those_who_must_hold_the_write_does() -> None:
    acknowledging = grouped(Group(peers=("b", "c"), learners=("handoff",)))
    acknowledging.wrote(1, [put(0)])
    acknowledging.hold(waiting("write", 1))
    for name in ("c", "handoff"):
        assert acknowledging.heard(name, 1)
        assert not released(acknowledging)
        assert acknowledging.dirt(0, [key_of(0)]) == 1
    acknowledging.heard("b", 1)
    assert released(acknowledging, synced=0) == [], "the node itself must hold it, too"
    assert released(acknowledging) == ["write"]
    assert not acknowledging.any_dirty


def test_groups_wait_for_their_own_and_what_concerns_all_slots_waits_for_everybody() -> None:
    acknowledging = grouped(Group(peers=("b",)), Group(peers=("c",)))
    acknowledging.wrote(1, [put(0), put(100)])
    acknowledging.hold(waiting("low", 1))
    acknowledging.hold(waiting("high", 1, 100))
    acknowledging.hold(waiting("flushall", 1, WHOLE))
    acknowledging.heard("c", 1)
    assert released(acknowledging) == ["high"]
    assert (acknowledging.dirt(0, [key_of(0)]), acknowledging.dirt(100, [key_of(100)])) == (1, 0)
    acknowledging.heard("b", 1)
    assert released(acknowledging) == ["low", "flushall"]


def test_who_has_looked_at_all_slots_waits_until_nothing_is_dirty_that_was_when_it_looked() -> None:
    acknowledging = grouped(Group(peers=("b",)), Group(peers=("c",)))
    acknowledging.wrote(1, [put(0)])
    acknowledging.wrote(2, [put(100)])
    acknowledging.hold(waiting("look", 2, LOOKS, writes=False))
    acknowledging.wrote(3, [put(0, b"later")])
    acknowledging.heard("c", 2)
    assert released(acknowledging) == []
    acknowledging.heard("b", 1)
    assert released(acknowledging) == ["look"], "c need not hear of what is not its own, nor b of what came later"
    assert acknowledging.any_dirty


@pytest.mark.parametrize("dirty", [False, True])
def test_who_has_looked_at_all_slots_does_not_wait_for_lists_that_have_too_few_members_and_nothing_dirty(
    dirty: bool,
) -> None:
    acknowledging = grouped(Group(peers=("b",)), Group(writable=False))
    acknowledging.wrote(1, [put(0), *([put(100)] if dirty else [])])
    acknowledging.hold(waiting("look", 1, LOOKS, writes=False))
    acknowledging.heard("b", 1)
    assert released(acknowledging) == ([] if dirty else ["look"])


def test_who_has_looked_at_all_slots_waits_for_who_comes_new_to_a_list_with_something_dirty() -> None:
    acknowledging = grouped(Group(peers=("b",)), Group(peers=("b",)))
    acknowledging.wrote(1, [put(0)])
    acknowledging.hold(waiting("look", 1, LOOKS, writes=False))
    both = Group[str](peers=("b", "c"), since=2)
    assert acknowledging.regroup([(LOW, both), (HIGH, both)]) == []
    acknowledging.heard("b", 2)
    assert released(acknowledging) == []
    acknowledging.heard("c", 2)
    assert released(acknowledging) == ["look"]
    acknowledging.wrote(3, [put(0)])
    acknowledging.hold(waiting("another look", 3, LOOKS, writes=False))
    (lost,) = acknowledging.regroup([(LOW, both)])
    assert lost.asked == ["another look"], "the keys of the slots that went were among what it saw"


def test_a_flush_makes_every_key_of_its_slot_dirty() -> None:
    acknowledging = grouped(Group(peers=("b",)))
    acknowledging.wrote(1, [put(5, b"old")])
    acknowledging.wrote(2, [(5, None, None, 1, 2, 0)])
    assert acknowledging.dirt(5, [b"never written"]) == 2 and acknowledging.dirt(6, [b"never written"]) == 0
    acknowledging.heard("b", 1)
    released(acknowledging)
    assert acknowledging.dirt(5, [b"old"]) == 2
    acknowledging.heard("b", 2)
    released(acknowledging)
    assert acknowledging.dirt(5, [b"old"]) == 0


def test_a_key_that_was_written_twice_stays_dirty_until_the_second_write_is_held() -> None:
    acknowledging = grouped(Group(peers=("b",)))
    acknowledging.wrote(1, [put(5)])
    acknowledging.wrote(2, [put(5)])
    acknowledging.heard("b", 1)
    released(acknowledging)
    assert acknowledging.dirt(5, [key_of(5)]) == 2


def test_whoever_comes_later_does_not_overtake() -> None:
    acknowledging = grouped(Group(peers=("b",)))
    acknowledging.hold(waiting("write", 2))
    acknowledging.hold(waiting("read of an older batch", 1, writes=False))
    acknowledging.heard("b", 1)
    assert released(acknowledging) == []
    acknowledging.heard("b", 2)
    assert released(acknowledging) == ["write", "read of an older batch"]


def test_with_too_few_up_writes_are_in_doubt_and_reads_of_them_wait_until_enough_are() -> None:
    """R1: the number is asked at the moment of the acknowledgement, whoever held the write before."""
    acknowledging = grouped(Group(peers=("b",)))
    acknowledging.wrote(1, [put(0)])
    acknowledging.hold(waiting("write", 1))
    acknowledging.hold(waiting("read", 1, writes=False))
    acknowledging.heard("b", 1)
    acknowledging.regroup([(LOW, Group(copies=1, writable=False))])
    assert released(acknowledging) == ["write in doubt"]
    assert acknowledging.dirt(0, [key_of(0)]), "who reads it later waits, too"
    acknowledging.regroup([(LOW, Group(peers=("b",), since=2))])
    assert released(acknowledging) == []
    acknowledging.heard("b", 2)
    assert released(acknowledging) == ["read"]


def test_what_rests_on_nothing_dirty_waits_for_the_own_disk_alone_whatever_becomes_of_the_slots() -> None:
    acknowledging = grouped(Group(peers=("b",)), Group(writable=False, not_before=9.0))
    acknowledging.wrote(3, [put(0)])
    acknowledging.hold(waiting("read", 3, OWN, writes=False))
    assert acknowledging.regroup([(LOW, Group(writable=False))]) == []
    assert released(acknowledging, synced=2) == []
    assert released(acknowledging, synced=3) == ["read"]


def test_nothing_is_answered_before_the_lease_of_another_is_over() -> None:
    acknowledging = grouped(Group(peers=("b",), not_before=3.0))
    acknowledging.wrote(1, [put(0)])
    acknowledging.hold(waiting("write", 1))
    acknowledging.heard("b", 1)
    assert released(acknowledging, now=2.9) == [] and acknowledging.dirt(0, [key_of(0)]) == 1
    assert released(acknowledging, now=3.0) == ["write"]


def test_who_is_new_in_a_group_is_waited_for_with_all_that_waits() -> None:
    """R3: what the ones before have held does not count for the one who came."""
    acknowledging = grouped(Group(peers=("b",)))
    acknowledging.wrote(5, [put(0)])
    acknowledging.hold(waiting("write", 5))
    assert acknowledging.regroup([(LOW, Group(peers=("b", "c"), since=7))]) == []
    acknowledging.heard("b", 5)
    acknowledging.heard("c", 5)
    assert released(acknowledging) == []
    acknowledging.heard("b", 7)
    acknowledging.heard("c", 7)
    assert released(acknowledging) == ["write"] and not acknowledging.any_dirty


def test_who_left_and_came_back_holds_nothing_yet() -> None:
    acknowledging = grouped(Group(peers=("b", "c")))
    acknowledging.heard("c", 9)
    acknowledging.regroup([(LOW, Group(peers=("b",)))])
    acknowledging.regroup([(LOW, Group(peers=("b", "c"), since=3))])
    assert acknowledging.held == {"b": 0, "c": 0}


def test_who_waits_for_slots_of_another_by_now_is_returned() -> None:
    acknowledging = grouped(Group(peers=("b",)), Group(peers=("b",)))
    for asked, slot in (("low", 0), ("high", 100), ("flushall", WHOLE)):
        acknowledging.hold(waiting(asked, 1, slot))
    lost = acknowledging.regroup([(HIGH, Group(peers=("b",)))])
    assert [each.asked for each in lost] == [["low"], ["flushall"]], "what concerned all slots concerned those, too"
    acknowledging.heard("b", 1)
    assert released(acknowledging) == ["high"]


def test_who_was_parked_and_stands_behind_somebody_that_came_later_is_overdue_in_its_own_time() -> None:
    acknowledging = grouped(Group(peers=("b",)))
    acknowledging.hold(waiting("came at 10", 5, since=10.0))
    acknowledging.hold(waiting("came at 8", 6, since=8.0))
    assert [each.asked for each in acknowledging.overdue(9.0)] == [["came at 8"]]
    assert acknowledging.count == 1 and not [*acknowledging.overdue(9.0)]


def test_the_overdue_are_taken_out_and_what_they_wrote_stays_dirty() -> None:
    acknowledging = grouped(Group(peers=("b",)))
    acknowledging.wrote(1, [put(0)])
    acknowledging.hold(waiting("old", 1, since=1.0))
    acknowledging.hold(waiting("new", 1, since=2.0))
    assert [each.asked for each in acknowledging.overdue(1.5)] == [["old"]]
    assert acknowledging.dirt(0, [key_of(0)]) == 1 and acknowledging.count == 1
    acknowledging.check()


@pytest.mark.parametrize("names", [(), ("b",)])
def test_writes_that_nobody_else_must_hold_are_not_dirty(names: Sequence[str]) -> None:
    acknowledging = grouped(Group(peers=tuple(names)))
    acknowledging.wrote(1, [put(0), put(100)])
    assert acknowledging.any_dirty == bool(names) and not acknowledging.dirt(100, [key_of(100)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nobody_is_answered_before_all_of_its_group_hold_and_everybody_at_the_end(data: st.DataObject) -> None:
    acknowledging = grouped(Group(peers=("a", "b")), Group(peers=("b",), learners=("c",)))
    needs: dict[str, tuple[int, int]] = {}
    batch, held = 0, dict.fromkeys("abc", 0)
    groups = {0: "ab", 100: "bc", WHOLE: "abc"}
    for step in range(data.draw(st.integers(1, 30))):
        if data.draw(st.booleans()):
            batch += 1
            slot = data.draw(st.sampled_from([0, 100]))
            acknowledging.wrote(batch, [put(slot)])
            asks = data.draw(st.sampled_from([slot, WHOLE]))
            acknowledging.hold(waiting(str(step), batch, asks))
            needs[str(step)] = asks, batch
        else:
            name = data.draw(st.sampled_from("abc"))
            held[name] = data.draw(st.integers(held[name], batch))
            acknowledging.heard(name, held[name])
        for asked in released(acknowledging, synced=batch):
            slot, needed = needs.pop(asked)
            assert all(held[name] >= needed for name in groups[slot])
    for name in "abc":
        acknowledging.heard(name, batch)
    assert set(released(acknowledging, synced=batch)) == set(needs)
    assert not acknowledging.any_dirty and not acknowledging.count
