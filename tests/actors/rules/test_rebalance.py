"""Tokens for a whole ring: what they bring, what they cost, and when they are not worth it."""

from dataclasses import replace
from typing import Any

import pytest
from ringkeeper.actors.rules.balancing import Balancing
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.placement import md5_token
from ringkeeper.actors.rules.rebalance import Loads, Rebalance, farthest, placed, rebalanced
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.actors.rules.transitions import (
    advanced,
    begun,
    committed,
    planned,
    queued,
    returned,
    set_balancing,
    weighed,
)
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration

UNEVEN = founded(5, replicas=3, how="md5")
TEN_BYTES = Loads(keys=(1,) * SLOTS, bytes=(10,) * SLOTS)


def more(ring: Ring) -> dict[str, Any]:
    return {"why": "test", "nonce": hex64(ring.epoch + 1000), "wall_seconds": 1_700_000_000.0 + ring.epoch}


def wished(ring: Ring, wanted: Rebalance) -> Ring:
    tokens = wanted.found.tokens
    return queued(ring, "move", tokens, tokens=tokens, **more(ring))


def in_flight(ring: Ring, wanted: Rebalance) -> Ring:
    waiting = wished(ring, wanted)
    return begun(waiting, waiting.queue[0], **more(waiting))


def carried_out(ring: Ring, wanted: Rebalance) -> Ring:
    ring = in_flight(ring, wanted)
    for step in (advanced, advanced, committed):
        ring = step(ring, **more(ring))
    return ring


def test_a_ring_is_balanced_by_one_change_that_makes_as_many_copies_as_was_said() -> None:
    wanted = rebalanced(UNEVEN, TEN_BYTES, "slots", 0.05)
    assert wanted.moves and wanted.of_least == 1.0 and wanted.deviation_before > 0.5
    change = in_flight(UNEVEN, wanted)
    assert wanted.copied_bytes == 10 * sum(each.slots.size for each in planned(change).transfers)
    after = carried_out(UNEVEN, wanted)
    assert all(0.19 <= after.share(node.id) <= 0.21 for node in after.circle)
    assert Ring.from_json(after.to_json()) == after
    again = rebalanced(after, TEN_BYTES, "slots", 0.05)
    assert not again.moves and again.copied_bytes == 0
    with pytest.raises(RingError, match="balances the ring already"):
        wished(change, wanted)


def test_with_a_bound_of_bytes_the_ring_is_made_as_even_as_that_allows_and_the_next_runs_go_on() -> None:
    ring, deviations = UNEVEN, [farthest(UNEVEN, None)]
    bound = rebalanced(ring, TEN_BYTES, "slots", 0.05).copied_bytes // 3
    while (wanted := rebalanced(ring, TEN_BYTES, "slots", 0.05, bytes_max=bound)).moves:
        assert wanted.copied_bytes <= bound
        ring = carried_out(ring, wanted)
        deviations.append(wanted.found.deviation)
    assert deviations == sorted(deviations, reverse=True) and 3 <= len(deviations) <= 6
    assert deviations[-1] <= 0.05
    assert not rebalanced(UNEVEN, TEN_BYTES, "slots", 0.05, bytes_max=10).moves


def test_a_node_of_more_capacity_has_more_and_one_without_any_coordinates_nothing() -> None:
    ring = founded(4, replicas=2)
    strong, weak = ring.circle[0].id, ring.circle[2].id
    ring = weighed(ring, strong, 2, **more(ring))
    ring = weighed(ring, weak, 0, **more(ring))
    after = carried_out(ring, rebalanced(ring, TEN_BYTES, "slots", 0.05))
    assert after.share(weak) == 0 and after.share(strong) == pytest.approx(0.5, rel=0.05)
    assert after.by_id[strong].capacity == 2
    with pytest.raises(RingError, match="already"):
        weighed(ring, strong, 2, **more(ring))
    with pytest.raises(RingError, match="whole number"):
        weighed(ring, strong, -1, **more(ring))
    with pytest.raises(RingError, match="not every capacity"):
        weighed(founded(1), "127.0.0.1:7001", 0, **more(ring))


def test_hot_slots_are_spread_and_one_that_cannot_be_divided_is_shown_and_left_alone() -> None:
    ring = founded(4, replicas=3)
    hot = ring.slots_of(ring.circle[1].id)[0].first
    requests = [1] * SLOTS
    requests[hot : hot + 8] = [4000] * 8
    wanted = rebalanced(ring, replace(TEN_BYTES, requests=tuple(requests)), "requests", 0.05)
    assert wanted.found.peak_before > 2 and wanted.found.peak_after <= 1.25
    assert wanted.hottest[0] == (hot, 4000) and wanted.is_worth_it
    famous = [0] * SLOTS
    famous[hot] = 1000
    alone = rebalanced(ring, replace(TEN_BYTES, requests=tuple(famous)), "requests", 0.05)
    assert not alone.is_worth_it


def test_nothing_is_worth_moving_in_a_ring_that_is_even_or_empty() -> None:
    even = founded(4, replicas=3)
    for by in ("slots", "keys", "bytes", "requests"):
        assert not rebalanced(even, Loads(), by, 0.05).moves
    assert not rebalanced(even, TEN_BYTES, "keys", 0.05, aim=0.5).is_worth_it


def test_a_ring_whose_last_nodes_have_no_capacity_is_left_as_it_is() -> None:
    ring = founded(3, replicas=2)
    idle = replace(ring, nodes=tuple(replace(node, capacity=0) for node in ring.nodes))
    assert farthest(idle, TEN_BYTES.of("bytes")) == 0.0
    assert not rebalanced(idle, TEN_BYTES, "bytes", 0.05).moves


def test_tokens_for_other_nodes_or_with_a_node_that_is_not_up_are_refused() -> None:
    wanted = rebalanced(UNEVEN, TEN_BYTES, "slots", 0.05)
    with pytest.raises(RingError, match="others than when"):
        wished(founded(4, replicas=3), wanted)
    waiting = wished(UNEVEN, wanted)
    one_down = lost(waiting, "127.0.0.1:7003")
    with pytest.raises(RingError, match="is down"):
        begun(one_down, one_down.queue[0], **more(one_down))


def test_a_balance_whose_node_dies_waits_and_goes_on_when_all_are_up_again() -> None:
    flying = in_flight(UNEVEN, rebalanced(UNEVEN, TEN_BYTES, "slots", 0.05))
    ended = lost(flying, "127.0.0.1:7003")
    assert ended.change is None and ended.queue == (flying.change.wish,)  # type: ignore[union-attr]
    assert [node.token for node in ended.circle] == [node.token for node in UNEVEN.circle]
    back = returned(ended, [registration("127.0.0.1:7003", 2)], **more(ended))
    with pytest.raises(RingError, match="is returning"):
        begun(back, back.queue[0], **more(back))


def test_how_the_ring_balances_itself_is_a_field_of_it() -> None:
    ring = founded(3)
    assert ring.balancing == Balancing()
    wanted = Balancing(auto=True, by="requests", threshold=0.1)
    after = set_balancing(ring, wanted, **more(ring))
    assert Ring.from_json(after.to_json()).balancing == wanted and "10.0%" in after.history[-1].what
    with pytest.raises(RingError, match="already"):
        set_balancing(after, wanted, **more(after))
    bad: tuple[dict[str, Any], ...] = ({"by": "colour"}, {"threshold": 0.0}, {"threshold": "5%"}, {"auto": 1})
    for nonsense in bad:
        with pytest.raises(RingError):
            Balancing(**nonsense)


JOINING, LATER = "127.0.0.1:8001", "127.0.0.1:8002"
HOT = tuple(100 if 4096 <= slot < 6144 else 1 for slot in range(SLOTS))
COLD = tuple(reversed(HOT))


@pytest.mark.parametrize(
    ("loads", "by", "relieved"),
    [
        (Loads(requests=HOT, bytes=COLD), "requests", range(4096, 8192)),
        (Loads(bytes=COLD), "bytes", range(8192, 12288)),
        (Loads(), "slots", range(4096)),
    ],
)
def test_a_node_takes_half_of_the_requests_where_they_are_or_else_of_the_bytes(
    loads: Loads, by: str, relieved: range
) -> None:
    ring = founded(4, replicas=3)
    places = placed(ring, [JOINING], "relief", loads)
    ring = queued(ring, "add", [JOINING], tokens=places.tokens, **more(ring))
    ring = begun(ring, ring.queue[0], [registration(JOINING)], **more(ring))
    for step in (advanced, advanced, committed):
        ring = step(Ring.from_json(ring.to_json()), **more(ring))
    (run,) = ring.slots_of(JOINING)
    weights = loads.of(places.by) or (1,) * SLOTS
    taken = sum(weights[run.first : run.last + 1])
    assert places.by == by and run.first in relieved and run.last in relieved
    assert taken == pytest.approx(sum(weights[slot] for slot in relieved) / 2, rel=0.01)
    assert places.parts == {JOINING: taken / sum(weights)}


def test_a_node_relieves_others_of_what_the_ring_is_balanced_by() -> None:
    ring = set_balancing(founded(4), Balancing(by="bytes"), **more(founded(4)))
    assert placed(ring, [JOINING], "relief", Loads(requests=HOT, bytes=COLD)).by == "bytes"
    assert placed(ring, [JOINING], "md5", Loads(requests=HOT)).tokens == {JOINING: md5_token(JOINING)}


def test_who_is_placed_while_another_waits_takes_what_that_one_leaves() -> None:
    ring, loads = founded(4, replicas=3), Loads(requests=HOT)
    both = placed(ring, [JOINING, LATER], "relief", loads).tokens
    first, second = sorted(both, key=md5_token)
    waiting = queued(ring, "add", [first], tokens={first: both[first]}, **more(ring))
    assert placed(waiting, [second], "relief", loads).tokens == {second: both[second]}
    taken = replace(ring.circle[0], token=both[first])
    moved = replace(waiting, nodes=(taken, *ring.circle[1:]))
    change = begun(moved, moved.queue[0], [registration(first)], **more(moved)).change
    assert change is not None and change.comes[0].token != both[first]
