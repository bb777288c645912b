"""The writes of the ring: founding, nodes that die, nodes that are back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.ring import QUEUE_MAX, Ring
from ringkeeper.actors.rules.slots import Run
from ringkeeper.actors.rules.transitions import begun, downed, found, in_trouble, put_back, queued, recovered, returned
from ringkeeper.actors.rules.transitions import kept as keep_lists
from ringkeeper.tests.actors.rules.rings import (
    CLUSTER_ID,
    all_up,
    any_ring,
    founded,
    hex64,
    ids,
    kept,
    lost,
    registration,
)

A, B, C = ids(3)


def back(ring: Ring, *registrations: Registration) -> Ring:
    return returned(ring, registrations, nonce=hex64(ring.epoch + 1), wall_seconds=1.0)


def again(ring: Ring, id: str, life: int = 2) -> Registration:
    """The node restarted on its directory, where it had kept this ring."""
    return registration(id, life, held=ring.stamp)


def keep(ring: Ring, keepers: dict[Run, str]) -> Ring:
    return keep_lists(ring, keepers, why="back", nonce=hex64(ring.epoch + 1), wall_seconds=1.0)


def runs_kept(ring: Ring) -> list[tuple[Run, str]]:
    return [(each.slots, each.keeper) for each in ring.trouble if each.keeper is not None]


def complete(ring: Ring) -> dict[Run, set[str]]:
    return {each.slots: {id for id, _ in each.complete} for each in ring.trouble}


# ---- founding


def test_the_first_ring_has_epoch_one_and_every_registered_node_up() -> None:
    ring = founded(3)
    assert (ring.epoch, ring.chain, ring.serving, ring.cluster_id) == (1, (), True, CLUSTER_ID)
    assert [(node.id, node.state) for node in sorted(ring.nodes, key=lambda node: node.id)] == [
        (A, "up"),
        (B, "up"),
        (C, "up"),
    ]
    assert ring.trouble == ()
    assert ring.history[0].what == f"found with {A}, {B}, {C}"


def test_the_order_of_registrations_makes_no_difference() -> None:
    assert founded([C, A, B]) == founded([A, B, C])


@pytest.mark.parametrize(
    ("registrations", "message"),
    [
        ([], "needs a node"),
        ([registration(A), registration(A)], "the same id"),
        ([registration(A), registration(B, data_id=hex64(7001))], "the same data directory"),
        ([registration(A), replace(registration(B), port=7001)], "the same address"),
        (
            [registration(A), registration(B, held=founded(1).stamp)],
            f"ring lost: there is no ring, but {B} holds ring 1",
        ),
    ],
    ids=["nobody", "an id twice", "a directory twice", "an address twice", "a node of a lost ring"],
)
def test_a_ring_is_not_founded_with(registrations: list[Registration], message: str) -> None:
    with pytest.raises(RingError, match=message):
        found(
            registrations,
            cluster_id=CLUSTER_ID,
            cluster_name="test",
            nonce=hex64(1),
            wall_seconds=0.0,
            replicas=1,
        )


# ---- a node is gone


def test_a_node_that_is_gone_is_down_in_one_write_and_stays_in_its_lists() -> None:
    ring = founded(3)
    after = downed(ring, {B: ring.by_id[B].incarnation}, why="its session ended", nonce=hex64(2), wall_seconds=9.0)
    assert (after.epoch, after.by_id[B].state) == (2, "down")
    assert after.history[-1].what == f"{B} down"
    assert after.history[-1].why == "its session ended"
    assert after.slots_of(B) == ring.slots_of(B)
    assert after.coordinated_by(B) == ()
    assert after.coordinated_by(A) == ring.coordinated_by(A)


def test_the_only_copy_of_a_list_is_written_down_as_complete_with_its_data_directory() -> None:
    ring = founded(3)
    after = lost(ring, B)
    assert [each.slots for each in after.trouble] == list(ring.slots_of(B))
    assert after.trouble[0].complete == ((B, ring.by_id[B].data_id),)


def test_nodes_gone_together_are_one_write() -> None:
    after = lost(founded(3), C, A)
    assert after.epoch == 2
    assert after.history[-1].what == f"{A}, {C} down"
    assert {node.id for node in after.nodes if node.state == "down"} == {A, C}


def test_with_three_copies_the_next_member_answers_and_no_list_is_in_trouble() -> None:
    ring = founded(5, replicas=3)
    gone = ring.circle[0]
    after = lost(ring, gone.id)
    assert after.trouble == ()
    for run in ring.slots_of(gone.id):
        assert after.coordinator(run.first).id == ring.circle[1].id  # type: ignore[union-attr]


def test_when_two_of_three_members_go_together_all_three_are_complete() -> None:
    ring = founded(3, replicas=3)
    first, second, third = (node.id for node in ring.circle)
    after = lost(ring, first, second)
    assert set(map(frozenset, complete(after).values())) == {frozenset((first, second, third))}


def test_when_they_go_one_after_the_other_the_first_is_not_complete_any_more() -> None:
    ring = founded(3, replicas=3)
    first, second, third = (node.id for node in ring.circle)
    after = lost(lost(ring, first), second)
    assert set(map(frozenset, complete(after).values())) == {frozenset((second, third))}
    assert complete(lost(after, third)) == complete(after), "the record stays while the list is below min_copies"


def test_whose_copy_is_damaged_is_not_complete_unless_nobody_else_is() -> None:
    def bad(ring: Ring, id: str) -> Ring:
        lives = {id: ring.by_id[id].incarnation}
        return downed(ring, lives, damaged=True, why="bad", nonce=hex64(ring.epoch + 1), wall_seconds=1.0)

    assert {id for ids in complete(bad(founded(2, replicas=2), A)).values() for id in ids} == {B}
    assert {id for ids in complete(bad(lost(founded(2, replicas=2), B), A)).values() for id in ids} == {B}
    assert {id for ids in complete(bad(founded(2), A)).values() for id in ids} == {A}


@pytest.mark.parametrize(
    ("lives", "message"),
    [
        ({}, "nothing to write"),
        ({"127.0.0.1:9999": hex64(1)}, "127.0.0.1:9999 is not in ring 2"),
        ({A: hex64(5)}, f"{A} lives as {hex64(7001001)} now; what is claimed of {hex64(5)} is past"),
        ({A: hex64(7001001), B: hex64(7002001)}, f"{B} is down already"),
    ],
    ids=["nobody", "a stranger", "a former life", "one that is down"],
)
def test_nobody_goes_down_by_a_claim_about(lives: dict[str, str], message: str) -> None:
    with pytest.raises(RingError, match=message):
        downed(lost(founded(3), B), lives, why="", nonce=hex64(3), wall_seconds=0.0)


# ---- a node is back


def test_a_node_that_is_back_with_the_only_copy_is_up_at_once_in_its_new_life() -> None:
    ring = lost(founded(3), B)
    after = back(ring, again(ring, B))
    assert (after.epoch, after.by_id[B].state) == (3, "up")
    assert after.by_id[B].incarnation == again(ring, B).incarnation
    assert after.trouble == ()
    assert after.coordinators[0].id == founded(3).coordinators[0].id  # type: ignore[union-attr]


def test_a_new_life_ends_the_old_one_in_the_same_write_even_where_that_is_still_up() -> None:
    ring = founded(3)
    after = back(ring, again(ring, B))
    assert (after.epoch, after.by_id[B].state, after.by_id[B].incarnation) == (2, "up", again(ring, B).incarnation)


def test_a_whole_cluster_that_restarts_is_up_again_by_one_write() -> None:
    ring = lost(founded(3), A, B, C)
    after = back(ring, *(again(ring, id) for id in (C, B, A)))
    assert after.epoch == 3
    assert all(node.state == "up" for node in after.nodes)
    assert after.history[-1].what == f"{A}, {B}, {C} up"


def test_a_node_that_moved_house_is_back_under_its_id_at_its_new_address() -> None:
    ring = lost(founded(3), B)
    after = back(ring, replace(again(ring, B), host="10.0.0.9", port=7777))
    assert after.by_id[B].address == "10.0.0.9:7777"
    assert after.by_id[B].token == ring.by_id[B].token


def test_a_node_that_slept_through_some_rings_is_back_as_well() -> None:
    ring = founded(3)
    later = back(lost(ring, A), again(ring, A))
    assert back(later, again(ring, B)).by_id[B].incarnation == again(ring, B).incarnation


@pytest.mark.parametrize(
    ("registered", "message"),
    [
        (registration("127.0.0.1:9999"), "127.0.0.1:9999 is not in ring 2"),
        (registration(B), f"{B} is down in this life already"),
        (registration(A), f"{A} is up in this life already"),
        (registration(B, 2, data_id=hex64(99)), f"{B} came with the data directory {hex64(99)}, its slots are in"),
        (registration(B, 2, held=founded(1).stamp._replace(cluster_id="d" * 16)), "another cluster's"),
        (registration(B, 2, held=founded(1).stamp._replace(epoch=3)), "lost or rolled back"),
        (registration(B, 2, held=founded(1).stamp._replace(nonce=hex64(9))), "does not descend"),
    ],
    ids=[
        "a stranger",
        "a downed life",
        "an up life",
        "an empty directory",
        "a foreign ring",
        "a newer ring",
        "a strange ring",
    ],
)
def test_nobody_returns_as(registered: Registration, message: str) -> None:
    with pytest.raises(RingError, match=message):
        back(lost(founded(3), B), registered)


def test_one_that_cannot_return_keeps_the_others_waiting_too() -> None:
    ring = lost(founded(3), A, B)
    with pytest.raises(RingError, match="came with the data directory"):
        back(ring, again(ring, A), registration(B, 2, data_id=hex64(99)))


def test_a_node_that_shares_its_slots_is_not_up_by_merely_being_back_but_returning() -> None:
    ring = lost(founded(3, replicas=2), B)
    after = back(ring, again(ring, B))
    assert (after.by_id[B].state, after.by_id[B].incarnation) == ("returning", again(ring, B).incarnation)
    assert after.coordinated_by(B) == () and after.trouble == ring.trouble
    assert after.history[-1].what == f"{B} returning"


def test_a_new_life_of_one_that_is_up_is_its_death_and_of_one_that_is_returning_as_well() -> None:
    ring = back(founded(3, replicas=3), again(founded(3), B))
    assert ring.epoch == 2 and ring.by_id[B].state == "returning" and B not in map(str, ring.coordinators)
    after = back(ring, again(ring, B, 3))
    assert (after.by_id[B].state, after.by_id[B].incarnation) == ("returning", again(ring, B, 3).incarnation)


def test_with_copies_a_node_may_come_with_another_data_directory_and_is_complete_nowhere() -> None:
    ring = lost(founded(3, replicas=3), *ids(3))
    after = back(ring, registration(B, 2, data_id=hex64(99)))
    assert after.by_id[B].data_id == hex64(99) and after.trouble == ring.trouble
    with pytest.raises(RingError, match="not one of their complete members"):
        keep(after, {after.trouble[0].slots: B})


def test_the_only_node_of_a_ring_has_the_only_copy_whatever_replicas_says() -> None:
    ring = lost(founded(1, replicas=3), A)
    assert back(ring, again(ring, A)).by_id[A].state == "up"


# ---- lists in trouble


def test_a_keeper_keeps_while_others_come_and_go_and_until_it_dies() -> None:
    ring = kept(replicas=2)
    first, second, _ = ring.circle
    both = replace(ring, nodes=tuple(replace(n, state="returning") if n is second else n for n in ring.nodes))
    assert lost(both, second.id).trouble[0].keeper == first.id
    after = lost(both, first.id)
    assert after.trouble[0].keeper is None
    assert complete(after) == complete(ring)


def test_a_keeper_gives_way_to_a_member_that_is_up_which_then_counts_as_complete() -> None:
    ring = kept(replicas=3)
    first, second, third = ring.circle
    ring = replace(ring, trouble=tuple(replace(each, complete=((first.id, first.data_id),)) for each in ring.trouble))
    after = list(in_trouble(ring, (first, second, replace(third, state="up"))))
    assert [each.keeper for each in after] == [None] * 3
    assert {frozenset(dict(each.complete)) for each in after} == {frozenset((first.id, third.id))}
    assert list(in_trouble(ring, (first, replace(second, state="up"), replace(third, state="up")))) == []


def test_who_is_up_alone_after_nobody_was_keeps_the_list_while_others_might() -> None:
    """R15: what was in doubt in its former life it cannot tell from the rest; shown, it might be gone with it."""
    ring = kept(replicas=3)
    first, second, third = ring.circle
    assert all(len(each.complete) == 3 for each in ring.trouble)
    up = replace(first, state="up"), second, third
    alone = replace(ring, nodes=up, trouble=tuple(in_trouble(ring, up)))
    assert {each.keeper for each in alone.trouble} == {first.id} and alone.unsettled(first.id)
    assert not any(each.keeper for each in in_trouble(alone, (replace(first, state="down"), second, third)))
    assert list(in_trouble(alone, (replace(first, state="up"), replace(second, state="up"), third))) == []
    (was,) = {each.complete for each in alone.trouble}
    after = recovered(alone, first.id, why="asked for", nonce=hex64(9), wall_seconds=1.0)
    assert not after.unsettled(first.id) and {each.complete for each in after.trouble} == {((first.id, first.data_id),)}
    assert set(after.left_behind) == set(was) - {(first.id, first.data_id)}


def test_the_first_complete_member_that_is_back_is_named_keeper_of_several_lists_by_one_write() -> None:
    ring = lost(founded(3, replicas=2), *ids(3))
    id = ring.circle[0].id
    ring = back(ring, again(ring, id))
    mine = {each.slots: id for each in ring.trouble if id in dict(each.complete)}
    assert len(mine) == 2
    after = keep(ring, mine)
    assert after.epoch == ring.epoch + 1 and {run for run, _ in runs_kept(after)} == set(mine)
    assert sum(node is not None and node.id == id for node in after.coordinators) == sum(run.size for run in mine)
    died = back(after, again(after, id, 3))
    assert not runs_kept(died) and complete(died) == complete(ring), "its life has ended, not what its directory holds"


@pytest.mark.parametrize(
    ("keeper", "message"),
    [(B, "is not back"), ("127.0.0.1:9999", "is not one of their complete members")],
    ids=["down", "a stranger"],
)
def test_nobody_is_named_keeper_who_is(keeper: str, message: str) -> None:
    ring = lost(founded(3, replicas=3), *ids(3))
    with pytest.raises(RingError, match=message):
        keep(ring, {ring.trouble[0].slots: keeper})


def test_a_list_that_is_answered_for_gets_no_keeper_and_slots_must_be_named_as_they_are_written_down() -> None:
    ring = kept(replicas=3)
    id = ring.circle[0].id
    with pytest.raises(RingError, match="answered for already"):
        keep(ring, {ring.trouble[0].slots: id})
    with pytest.raises(RingError, match="not written down as in trouble"):
        keep(ring, {Run(0, 17): id})


# ---- what holds after any of them


@given(any_ring(), st.data())
@settings(max_examples=60)
def test_every_member_that_is_up_in_a_list_in_trouble_is_among_its_complete_members(
    ring: Ring, data: st.DataObject
) -> None:
    up = [node.id for node in ring.nodes if node.state == "up"]
    after = lost(ring, *data.draw(st.sets(st.sampled_from(up), min_size=1))) if up else ring
    for run, members in after.list_runs:
        alive = {node.id for node in members if node.state == "up"}
        record = complete(after).get(run)
        assert (record is not None) == (len(alive) < after.copies_needed)
        if record is not None:
            before = complete(ring).get(run, {node.id for node in members if ring.by_id[node.id].state == "up"})
            assert alive <= record == before


@given(all_up(nodes_max=6), st.data())
@settings(max_examples=40)
def test_with_one_copy_any_order_of_deaths_and_returns_ends_where_it_began(ring: Ring, data: st.DataObject) -> None:
    start = replace(ring, replicas=1)
    ring, life = start, 1
    for _ in range(data.draw(st.integers(1, 6))):
        chosen = data.draw(st.sampled_from(ring.nodes))
        life += 1
        ring = lost(ring, chosen.id) if chosen.state == "up" else back(ring, again(ring, chosen.id, life))
        ring = Ring.from_json(ring.to_json())
    missing = [node.id for node in ring.nodes if node.state == "down"]
    if missing:
        ring = back(ring, *(again(ring, id, life + 1) for id in missing))
    assert ring.trouble == ()
    assert [node.id for node in ring.coordinators if node] == [node.id for node in start.coordinators if node]
    assert ring.objection(start.stamp) is None


def test_a_full_queue_loses_no_wish_to_nodes_that_join_unasked_when_these_are_put_back() -> None:
    ring = founded(3)

    def fields() -> dict[str, Any]:
        return {"why": "test", "nonce": hex64(ring.epoch + 1), "wall_seconds": 1.0}

    for place in range(QUEUE_MAX):
        ring = queued(ring, "add", [f"127.0.0.1:{8000 + place}"], **fields())
    ring = begun(ring, None, [registration("127.0.0.1:7004")], **fields())
    after = put_back(ring, **fields())
    assert after.change is None and after.queue == ring.queue and len(ring.queue) == QUEUE_MAX
