"""Plans: what a change moves, and which changes must not be."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ringkeeper.actors.rules.change import Change, Wish
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.plan import plan
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS, Run, runs
from ringkeeper.actors.rules.transitions import (
    advanced,
    begun,
    committed,
    dismissed,
    downed,
    given_up,
    giving_up,
    planned,
    queued,
    returned,
    returning,
    served,
    target,
)
from ringkeeper.tests.actors.rules.rings import all_up, founded, hex64, ids, lost, node, registration

A, B, C = ids(3)
D = "127.0.0.1:7004"


def wrote(ring: Ring) -> dict[str, Any]:
    """What every write is handed in besides."""
    return {"nonce": hex64(ring.epoch + 1), "wall_seconds": 1_700_000_000.0 + ring.epoch}


def joining(ring: Ring, *names: str) -> Ring:
    return begun(ring, None, map(registration, names), why="registered", **wrote(ring))


def removing(ring: Ring, *names: str) -> Ring:
    ring = queued(ring, "remove", names, why="asked", **wrote(ring))
    return begun(ring, ring.queue[0], why="asked", **wrote(ring))


def through(ring: Ring) -> Ring:
    """The ring after the commit of its change."""
    for _ in ("switch", "seal"):
        ring = advanced(ring, why="all caught up", **wrote(ring))
    return committed(ring, why="all ready", **wrote(ring))


@given(all_up(), st.data())
def test_carrying_out_all_transfers_on_the_old_placement_gives_the_new(before: Ring, data: st.DataObject) -> None:
    after = data.draw(st.one_of(st.just(_with_a_node_more(before)), _other_tokens(before)))
    changes = plan(before, after)
    moved = [*(each.slots for each in changes.transfers), *(each.slots for each in changes.shifts)]
    slots = _where_anything_changes(before, after, *moved)
    holders = {slot: {each.id for each in before.lists[slot]} for slot in slots}
    for transfer in changes.transfers:
        for slot in _within(slots, transfer.slots):
            assert transfer.source in holders[slot], "it sends what it does not hold"
            assert transfer.target not in holders[slot], "it is sent what it holds"
            holders[slot].add(transfer.target)
    for shift in changes.shifts:
        for slot in _within(slots, shift.slots):
            holders[slot] -= set(shift.leavers)
    assert holders == {slot: {each.id for each in after.lists[slot]} for slot in slots}


@given(all_up(), st.data())
def test_a_slot_is_affected_exactly_when_its_list_or_its_coordinator_differs(before: Ring, data: st.DataObject) -> None:
    after = data.draw(_other_tokens(before))
    affected = [shift.slots for shift in plan(before, after).shifts]
    for slot in _where_anything_changes(before, after, *affected):
        same = [each.id for each in before.lists[slot]] == [each.id for each in after.lists[slot]]
        assert any(run.first <= slot <= run.last for run in affected) != same


@given(all_up(nodes_max=6))
def test_a_node_that_joins_is_the_only_one_that_is_sent_anything(before: Ring) -> None:
    after = _with_a_node_more(before)
    new = (after.by_id.keys() - before.by_id.keys()).pop()
    assert {transfer.target for transfer in plan(before, after).transfers} <= {new}


def _where_anything_changes(before: Ring, after: Ring, *said: Run) -> list[int]:
    """The first slot of each stretch in which both rings' lists, and what is said of them, are the same throughout."""
    lists = [run for ring in (before, after) for run, _ in runs(ring.lists)]
    return sorted({edge for run in (*lists, *said) for edge in (run.first, run.last + 1)} - {SLOTS})


def _within(slots: list[int], run: Run) -> list[int]:
    return [slot for slot in slots if run.first <= slot <= run.last]


def _with_a_node_more(ring: Ring) -> Ring:
    id = f"127.0.0.1:{7001 + len(ring.nodes)}"
    return target(joining(ring, id))


@st.composite
def _other_tokens(draw: st.DrawFn, ring: Ring) -> Ring:
    tokens = st.integers(0, 2**128 - 1)
    drawn = draw(st.lists(tokens, min_size=len(ring.nodes), max_size=len(ring.nodes), unique=True))
    return replace(ring, nodes=tuple(replace(each, token=t) for each, t in zip(ring.nodes, drawn, strict=True)))


def test_a_join_takes_the_first_half_of_the_largest_range_from_the_node_that_had_it() -> None:
    ring = joining(founded(3), D)
    assert [str(transfer) for transfer in planned(ring).transfers] == [f"10922-13652 {ring.circle[2].id} -> {D}"]
    shift = planned(ring).shifts[0]
    assert (shift.sealed, shift.learners, shift.leavers) == (True, (D,), (ring.circle[2].id,))


def test_a_leaving_node_hands_its_range_to_the_one_behind_it() -> None:
    ring = founded(3)
    first, second, _ = ring.circle
    changes = planned(removing(ring, first.id))
    assert [str(transfer) for transfer in changes.transfers] == [f"0-5460 {first.id} -> {second.id}"]
    assert changes.shares[first.id] == (first_share := ring.share(first.id), 0.0)
    assert changes.shares[second.id][1] == pytest.approx(first_share + ring.share(second.id))


def test_with_copies_a_new_member_is_sent_its_slots_by_their_coordinator_and_only_some_are_sealed() -> None:
    ring = founded(4, replicas=3)
    after = target(joining(ring, "127.0.0.1:7005"))
    changes = plan(ring, after)
    assert all(shift.coordinator == ring.coordinators[shift.slots.first].id for shift in changes.shifts)  # type: ignore[union-attr]
    sealed = sum(shift.slots.size for shift in changes.shifts if shift.sealed)
    assert 0 < sealed < sum(shift.slots.size for shift in changes.shifts)


def test_the_slots_of_a_node_that_is_down_pin_it_and_others_may_still_change() -> None:
    ring = lost(founded(4), A)
    with pytest.raises(RingError, match=f"{A} is down, and holds the only copy of 4096 slots"):
        removing(ring, A)
    clockwise = [each.id for each in ring.circle]
    before = clockwise[clockwise.index(A) - 1]
    with pytest.raises(RingError, match=f"would be left with {A}, which is down"):
        removing(ring, before)
    for id in set(clockwise) - {A, before}:
        assert planned(removing(ring, id)).shifts


def entering(ring: Ring, name: str, behind: int) -> Ring:
    """The ring in which a node joins at this place of the circle: it halves the range of the node there."""
    token = ring.circle[behind].token - (1 << 120)
    ring = queued(ring, "add", [name], tokens={name: token}, why="asked", **wrote(ring))
    return begun(ring, ring.queue[0], [registration(name)], why="asked", **wrote(ring))


def test_nobody_gets_the_slots_of_who_answers_alone_and_could_not_be_read_there() -> None:
    ring = founded(4, replicas=2)
    gone, alone, third, _ = (each.id for each in ring.circle)
    new = "127.0.0.1:7005"
    ring = lost(ring, gone)
    assert not ring.unsettled_by_keeper
    with pytest.raises(RingError, match=f"to {third}, and could not be read there without {gone}, which is down"):
        removing(ring, alone)
    with pytest.raises(RingError, match=f"to {new}, and could not be read there without {gone}, which is down"):
        entering(ring, new, behind=0)
    elsewhere = entering(ring, new, behind=2)
    assert not target(elsewhere).unsettled_by_keeper


def test_what_heals_takes_the_reads_of_who_answers_alone_if_it_must() -> None:
    ring = founded(5, replicas=3, min_copies=3)
    first, second, *_ = (each.id for each in ring.circle)
    ring = lost(ring, first, second)
    new = "127.0.0.1:7009"
    wish = queued(ring, "replace", [first], by=new, why="asked", **wrote(ring))
    replaced = begun(wish, wish.queue[0], [registration(new)], why="asked", **wrote(wish))
    assert new in {keeper for _, keeper in target(replaced).unsettled_by_keeper}
    back = returned(ring, [registration(first, 2)], **wrote(ring))
    raised = begun(back, returning(back, (first,)), why="back", **wrote(back))
    assert first in {keeper for _, keeper in target(raised).unsettled_by_keeper}
    assert not target(removing(ring, first, second)).unsettled_by_keeper
    assert not target(begun(ring, giving_up(ring, [first]), why="gone", **wrote(ring))).unsettled_by_keeper


@pytest.mark.parametrize(("nodes", "replicas", "gone"), [(2, 2, 1), (3, 3, 2)])
def test_a_node_joins_all_the_same_where_nobody_can_be_given_up_before(nodes: int, replicas: int, gone: int) -> None:
    ring = founded(nodes, replicas)
    missing = [each.id for each in ring.circle[:gone]]
    ring = lost(ring, *missing)
    with pytest.raises(RingError):
        giving_up(ring, missing)
    after = through(entering(ring, D, behind=0))
    assert [keeper for _, keeper in after.unsettled_by_keeper] != []
    healed = through(begun(after, giving_up(after, missing), why="gone", **wrote(after)))
    assert not healed.trouble


def test_the_last_node_cannot_be_removed() -> None:
    with pytest.raises(RingError, match="without a node"):
        removing(founded(1), A)


def test_a_change_goes_from_phase_to_phase_and_its_commit_makes_it_true() -> None:
    ring = joining(founded(3), D)
    assert ring.change == Change(
        epoch=2,
        phase="transfer",
        wish=Wish(job=2, kind="add", ids=(D,)),
        comes=(ring.change.comes[0],),  # type: ignore[union-attr]
    )
    assert D not in ring.by_id, "it is no member before the commit"
    wanted = target(ring)
    done = through(ring)
    assert done.change is None and done.lists == wanted.lists and done.epoch == ring.epoch + 3
    assert [(write.job, write.outcome) for write in done.history[-4:]] == [(2, "")] * 3 + [(2, "done")]


def test_a_node_that_left_is_out_and_off_the_circle() -> None:
    ring = through(removing(founded(3), B))
    assert ring.by_id[B].state == "out" and B not in {each.id for each in ring.circle}
    assert all(ring.coordinators)


def test_a_node_that_left_can_join_again_in_another_life() -> None:
    ring = through(removing(founded(3), B))
    again = begun(ring, None, [registration(B, 2)], why="registered", **wrote(ring))
    assert through(again).by_id[B].state == "up"


def test_nothing_is_committed_that_was_not_sealed() -> None:
    ring = joining(founded(3), D)
    with pytest.raises(RingError, match="not sealed"):
        committed(ring, why="hurry", **wrote(ring))


def test_a_change_of_a_nodes_state_makes_a_wish_of_the_change_in_flight_before_all_others() -> None:
    ring = joining(founded(3), D)
    ring = queued(ring, "remove", [B], why="asked", **wrote(ring))
    ring = downed(ring, {C: ring.by_id[C].incarnation}, why="gone", **wrote(ring))
    assert ring.change is None
    assert [(wish.job, str(wish)) for wish in ring.queue] == [(2, f"add {D}"), (3, f"remove {B}")]
    back = returned(ring, [registration(C, 2)], **wrote(ring))
    assert back.queue == ring.queue


def test_a_job_that_is_given_up_leaves_the_ring_as_it_was() -> None:
    before = founded(3)
    ring = joining(before, D)
    ring = given_up(ring, 2, "aborted", why="it died", **wrote(ring))
    assert (ring.nodes, ring.lists, ring.change, ring.queue) == (before.nodes, before.lists, None, ())
    assert ring.history[-1].outcome == "aborted" and not ring.held_back


def test_who_was_to_join_by_a_cancelled_job_is_held_back_until_somebody_asks_for_it() -> None:
    ring = joining(founded(3), D)
    ring = given_up(ring, 2, "cancelled", why="asked", **wrote(ring))
    assert ring.held_back == (D,)
    ring = queued(ring, "add", [D], why="asked", **wrote(ring))
    assert ring.held_back == () and ring.queue[0].ids == (D,)
    with pytest.raises(RingError, match="no job 17"):
        given_up(ring, 17, "cancelled", why="asked", **wrote(ring))


def test_a_node_that_has_only_registered_can_be_sent_away_but_no_member_and_none_that_is_joining() -> None:
    ring = given_up(joining(founded(3), D), 2, "cancelled", why="asked", **wrote(joining(founded(3), D)))
    ring = dismissed(ring, registration(D), why="asked", **wrote(ring))
    assert ring.by_id[D].state == "out" and ring.held_back == () and len(ring.circle) == 3
    assert through(begun(ring, None, [registration(D, 2)], why="back", **wrote(ring))).by_id[D].state == "up"
    with pytest.raises(RingError, match="has left the ring in this life"):
        begun(ring, None, [registration(D)], why="too late", **wrote(ring))
    with pytest.raises(RingError, match="has to leave in order"):
        dismissed(ring, registration(A), why="asked", **wrote(ring))
    ring = joining(founded(3), D)
    with pytest.raises(RingError, match="cancel that first"):
        dismissed(ring, registration(D), why="asked", **wrote(ring))


def test_who_is_sent_away_is_not_waited_for_by_any_job() -> None:
    e = "127.0.0.1:7005"
    ring = founded(3)
    for names in ((D,), (D, e)):
        ring = queued(ring, "add", names, why="asked", **wrote(ring))
    ring = dismissed(ring, registration(D), why="asked", **wrote(ring))
    assert [wish.ids for wish in ring.queue] == [(e,)]


def test_what_is_wanted_twice_or_of_a_stranger_is_refused() -> None:
    ring = queued(founded(3), "remove", [B], why="asked", **wrote(founded(3)))
    with pytest.raises(RingError, match="being removed already"):
        queued(ring, "remove", [B], why="asked", **wrote(ring))
    with pytest.raises(RingError, match="is not in ring"):
        queued(ring, "remove", [D], why="asked", **wrote(ring))


def test_a_stopped_cluster_is_a_ring_that_does_not_serve() -> None:
    ring = served(founded(3), False, why="asked", **wrote(founded(3)))
    assert not ring.serving
    with pytest.raises(RingError, match="stopped already"):
        served(ring, False, why="asked", **wrote(ring))
    assert served(ring, True, why="asked", **wrote(ring)).serving


def test_a_ring_with_a_change_and_wishes_is_the_same_after_json() -> None:
    ring = queued(joining(founded(3), D), "remove", [B], why="asked", **wrote(joining(founded(3), D)))
    ring = replace(ring, held_back=("127.0.0.1:7009",))
    assert Ring.from_json(ring.to_json()) == ring
    moved = replace(ring, change=None, queue=(Wish(job=3, kind="move", ids=(A,), tokens=((A, 17),)),))
    assert Ring.from_json(moved.to_json()) == moved


def test_a_move_of_tokens_is_a_change_like_any_other() -> None:
    ring = founded(3)
    first = ring.circle[0]
    tokens = {node.id: node.token for node in ring.circle} | {first.id: (4096 << 114) - 1}
    wish = Wish(job=1, kind="move", ids=tuple(sorted(tokens)), tokens=tuple(sorted(tokens.items())))
    moving = begun(replace(ring, queue=(wish,)), wish, why="asked", **wrote(ring))
    assert planned(moving).shifts[0].slots == Run(4096, 5460)
    assert through(moving).slots_of(first.id) == (Run(0, 4095),)


def test_a_change_that_does_not_fit_its_job_is_refused() -> None:
    with pytest.raises(RingError, match="other nodes than its job"):
        Change(epoch=2, phase="seal", wish=Wish(job=2, kind="add", ids=(D,)), comes=(node(C, 5),))


@given(all_up(), st.integers(1, 5))
def test_another_number_of_copies_is_made_by_transfers_and_changes_no_coordinator(before: Ring, copies: int) -> None:
    assume(copies != before.replicas)
    waiting = queued(before, "copies", copies=(copies, before.min_copies), why="asked", **wrote(before))
    ring = begun(waiting, waiting.queue[0], why="asked", **wrote(waiting))
    after = through(ring)
    assert (after.replicas, after.min_copies, after.trouble) == (copies, before.min_copies, ())
    assert [node.id for node in after.coordinators if node] == [node.id for node in before.coordinators if node]
    for slot in {*before.edges, *after.edges}:
        gained = {node.id for node in after.lists[slot]} - {node.id for node in before.lists[slot]}
        assert gained == {
            each.target for each in planned(ring).transfers if each.slots.first <= slot <= each.slots.last
        }


def test_a_ring_with_wishes_to_replace_and_for_copies_is_the_same_after_json() -> None:
    ring = founded(3, replicas=2)
    ring = queued(ring, "copies", copies=(3, 1), why="asked", **wrote(ring))
    ring = queued(ring, "replace", [A], by="127.0.0.1:7009", why="asked", **wrote(ring))
    assert Ring.from_json(ring.to_json()) == ring
    with pytest.raises(RingError, match="by itself"):
        queued(ring, "replace", [B], by=B, why="asked", **wrote(ring))
