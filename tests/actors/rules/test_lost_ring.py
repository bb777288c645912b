"""What is written back where ZooKeeper has lost the ring, or has an older one."""

from dataclasses import replace

import pytest
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.lost_ring import restoration
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.transitions import EPOCHS_SKIPPED, advanced, begun, queued, restored
from ringkeeper.tests.actors.rules.rings import founded, hex64, ids, lost, registration

A, B, C = ids(3)
OLD = founded(3, replicas=3)
NEWEST = lost(OLD, C)
DIRECTORIES = {node.id: node.data_id for node in OLD.nodes}
FORKED = replace(lost(OLD, B), nonce=hex64(99))


def again(ring: Ring, above: int = 0) -> Ring:
    return restored(ring, above, why="asked for", nonce=hex64(77), wall_seconds=1.0)


@pytest.mark.parametrize("stored", [None, OLD])
def test_the_newest_ring_that_nodes_hold_is_written_back_and_members_that_say_nothing_are_named(
    stored: Ring | None,
) -> None:
    found = restoration(stored, stored, {A: NEWEST, C: OLD}, DIRECTORIES)
    assert (found.ring, found.above, found.holders, found.unheard) == (NEWEST, NEWEST.epoch, (A,), (B,))


def test_what_the_ecs_has_read_itself_counts_though_no_node_has_taken_it() -> None:
    assert restoration(OLD, NEWEST, {A: OLD, B: OLD, C: OLD}, DIRECTORIES).ring == NEWEST


@pytest.mark.parametrize(
    ("stored", "held", "message"),
    [
        (OLD, {A: OLD, B: OLD}, "nothing is lost: ring 1 in ZooKeeper"),
        (NEWEST, {A: OLD}, "nothing is lost"),
        (None, {}, "no node that has registered holds a ring"),
        (None, {A: NEWEST, B: FORKED}, f"does not descend from .*held by {B}"),
        (NEWEST, {A: NEWEST, B: FORKED}, f"does not descend from .*held by {B}"),
        (None, {A: NEWEST, B: replace(OLD, cluster_id=hex64(5))}, "several clusters"),
    ],
)
def test_nothing_is_written_back_where(stored: Ring | None, held: dict[str, Ring], message: str) -> None:
    with pytest.raises(RingError, match=message):
        restoration(stored, None, held, DIRECTORIES)


def test_who_was_about_to_become_a_member_may_have_answered_for_what_it_alone_holds() -> None:
    alone = founded(2, replicas=1)
    (*_, new) = ids(3)
    fields = {"why": "", "wall_seconds": 1.0}
    ring = begun(alone, None, [registration(new)], nonce=hex64(60), **fields)  # type: ignore[arg-type]
    held = dict.fromkeys(ids(2), ring)
    assert not restoration(None, None, held, DIRECTORIES).unheard  # nobody was ready yet to be followed
    for nonce in (61, 62):
        ring = advanced(ring, nonce=hex64(nonce), **fields)  # type: ignore[arg-type]
    held = dict.fromkeys(ids(2), ring)
    found = restoration(None, None, held, DIRECTORIES)
    assert found.unheard == (new,)
    written = restored(found.ring, found.above, found.unheard, why="", nonce=hex64(77), wall_seconds=1.0)
    assert written.left_behind == ((new, registration(new).data_id),)  # what it holds is salvaged if it comes back


def test_who_was_up_and_has_lost_its_disk_has_not_said_what_it_held_and_its_directory_is_left_behind() -> None:
    exchanged = {**DIRECTORIES, A: hex64(98), C: hex64(99)}
    found = restoration(OLD, None, {A: NEWEST, B: NEWEST, C: OLD}, exchanged)
    assert found.unheard == (A,)  # C is down: it has answered nothing that others do not know
    ring = restored(found.ring, found.above, found.unheard, why="", nonce=hex64(77), wall_seconds=1.0)
    assert ring.left_behind == ((A, DIRECTORIES[A]),) and not again(found.ring).left_behind


def test_a_ring_written_anew_from_an_old_one_is_overwritten_by_one_above_it() -> None:
    further = replace(FORKED, epoch=50)
    found = restoration(further, None, {A: NEWEST, B: NEWEST, C: NEWEST}, DIRECTORIES)
    ring = again(found.ring, found.above)
    assert ring.epoch == 50 + EPOCHS_SKIPPED
    assert ring.objection(NEWEST.stamp) is None is ring.objection(OLD.stamp)
    assert "does not descend" in (ring.objection(further.stamp) or "")


def test_in_the_ring_that_is_written_back_every_node_is_down_and_complete_is_who_was_up() -> None:
    ring = again(NEWEST)
    assert {node.state for node in ring.nodes} == {"down"}
    assert [dict(each.complete).keys() for each in ring.trouble] == [{A, B}] * 3
    assert Ring.from_json(ring.to_json()) == ring
    assert ring.history[-1].moved


def test_a_change_that_was_in_flight_is_wanted_again() -> None:
    waiting = queued(OLD, "remove", [C], why="asked for", nonce=hex64(50), wall_seconds=1.0)
    ring = again(begun(waiting, waiting.queue[0], why="asked for", nonce=hex64(51), wall_seconds=1.0))
    assert ring.change is None and [wish.ids for wish in ring.queue] == [(C,)]
