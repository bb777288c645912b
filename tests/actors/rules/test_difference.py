"""What two rings disagree about."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.actors.rules.difference import Changed, Difference, Placement, difference, placement
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import Run, runs
from ringkeeper.tests.actors.rules.rings import all_up, any_ring, founded, hex64, ids, kept, lost, node, standing

A, B, C = ids(3)


def placements(ring: Ring) -> list[Placement]:
    """Where each slot is, slot by slot."""
    table: list[Placement] = []
    for row, members in runs(ring.lists):
        for run, coordinator in runs(ring.coordinators[row.first : row.last + 1]):
            table += [Placement(tuple(each.id for each in members), coordinator.id if coordinator else None)] * run.size
    return table


def applied(changes: Difference, table: list[Placement]) -> list[Placement]:
    """A placement after the slots that moved did; they must have been where they are said to come from."""
    table = list(table)
    for slots, before, after in changes.moved:
        assert table[slots.first : slots.last + 1] == [before] * slots.size
        table[slots.first : slots.last + 1] = [after] * slots.size
    return table


@given(any_ring(), any_ring())
@settings(max_examples=25)
def test_the_difference_leads_from_one_placement_to_the_other(before: Ring, after: Ring) -> None:
    changes = difference(before, after)
    assert applied(changes, placements(before)) == placements(after)
    assert applied(difference(after, before), placements(after)) == placements(before)


@given(any_ring(), any_ring())
@settings(max_examples=30)
def test_runs_that_moved_ascend_and_are_as_long_as_they_can_be(before: Ring, after: Ring) -> None:
    moved = difference(before, after).moved
    assert all(each.before != each.after for each in moved)
    for one, other in zip(moved, moved[1:], strict=False):
        assert one.slots.last < other.slots.first
        assert one.slots.last + 1 < other.slots.first or one[1:] != other[1:]


@given(any_ring(), st.integers(0, 16383))
@settings(max_examples=30)
def test_the_placement_of_a_slot_is_its_entry_in_the_tables(ring: Ring, slot: int) -> None:
    assert placement(ring, slot) == placements(ring)[slot]


@given(any_ring())
@settings(max_examples=30)
def test_from_a_ring_to_itself_nothing_differs(ring: Ring) -> None:
    later = ring.amended(nonce=hex64(99), what="stop", why="", wall_seconds=0.0, serving=False)
    assert not difference(ring, ring)
    assert not difference(ring, later)
    assert str(difference(ring, later)) == f"ring {ring.epoch} -> {ring.epoch + 1}: no difference"


@given(all_up(nodes_max=6), st.integers(0, 2**128 - 1))
@settings(max_examples=40)
def test_when_a_node_comes_all_that_gets_another_coordinator_gets_this_one(ring: Ring, token: int) -> None:
    if token in {each.token for each in ring.nodes}:
        return
    after = replace(ring, nodes=(*ring.nodes, node("127.0.0.1:9000", token)))
    changes = difference(ring, after)
    assert (changes.came, changes.went, changes.changed) == (("127.0.0.1:9000",), (), ())
    for each in changes.moved:
        assert each.after.coordinator in ("127.0.0.1:9000", each.before.coordinator)


def test_a_node_that_goes_down_leaves_its_slots_to_the_next_member() -> None:
    ring = founded(3, replicas=2)
    first, second = (node.id for node in ring.circle[:2])
    changes = difference(ring, lost(ring, first))
    assert changes.changed == (Changed(first, "state", "up", "down"),)
    assert [(each.slots, each.before.coordinator, each.after.coordinator) for each in changes.moved] == [
        (Run(0, 5460), first, second)
    ]


def test_a_keeper_of_a_part_of_a_list_is_told_apart_from_the_rest() -> None:
    ring = kept(replicas=1)
    first, *others = ring.trouble
    parts = (replace(first, slots=Run(0, 2000)), replace(first, slots=Run(2001, 5460), keeper=None))
    changes = difference(ring, replace(ring, trouble=(*parts, *others)))
    assert [(str(each.slots), each.after.coordinator) for each in changes.moved] == [("2001-5460", None)]


def test_what_changed_of_a_node_is_said_by_field() -> None:
    ring = founded(1)
    other = replace(ring.nodes[0], incarnation=hex64(9), data_id=hex64(8), port=9, bridge_port=99, token=5)
    assert [each[1:] for each in difference(ring, replace(ring, nodes=(other,))).changed] == [
        ("incarnation", hex64(7001001), hex64(9)),
        ("data_id", hex64(7001), hex64(8)),
        ("token", "f" * 32, f"{5:032x}"),
        ("address", "127.0.0.1:7001", "127.0.0.1:9"),
        ("bridge_address", "127.0.0.1:17001", "127.0.0.1:99"),
    ]


def test_a_difference_reads_one_fact_a_line() -> None:
    before = standing({A: (8192 << 114) - 1, B: (16384 << 114) - 1})
    after = lost(standing({C: (4096 << 114) - 1, B: (16384 << 114) - 1}), B)
    assert str(difference(before, after)).splitlines() == [
        "ring 1 -> 2",
        f"  {C} came",
        f"  {A} went",
        f"  {B} state up -> down",
        f"  slots 0-4095 (4096): {A} -> {C}, list {A} -> {C}",
        f"  slots 4096-8191 (4096): {A} -> nobody, list {A} -> {B}",
        f"  slots 8192-16383 (8192): {B} -> nobody",
    ]
