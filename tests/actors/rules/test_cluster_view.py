"""What Redis clients see of a ring, by what they make of it."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from ringkeeper.actors.rules import cluster_view
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.tests.actors.rules.rings import any_ring, founded, kept, lost


def rows(ring: Ring) -> list[tuple[int, int, list[str]]]:
    """CLUSTER SLOTS as (first, last, addresses)."""
    shown: Any = cluster_view.slots(ring)
    return [(first, last, [f"{host}:{port}" for host, port, *_ in members]) for first, last, *members in shown]


def by_slot(ring: Ring) -> dict[int, list[str]]:
    table: dict[int, list[str]] = {}
    for first, last, members in rows(ring):
        for slot in range(first, last + 1):
            assert slot not in table, f"slot {slot} is shown twice"
            table[slot] = members
    return table


def figures(ring: Ring) -> dict[str, str]:
    text: Any = cluster_view.info(ring, "127.0.0.1:7001")
    return dict(line.split(":") for line in text.splitlines())


@given(any_ring())
def test_every_served_slot_is_shown_once_with_its_coordinator_before_those_up_beside_it(ring: Ring) -> None:
    table = by_slot(ring)
    alone: Counter[str] = Counter()
    for slot, (coordinator, members) in enumerate(zip(ring.coordinators, ring.lists, strict=True)):
        if coordinator is None:
            assert slot not in table
            continue
        others = [node.id for node in members if node.state == "up" and node is not coordinator]
        assert table[slot][0] == coordinator.id
        if table[slot][1:] != others:
            assert table[slot][1:] == []
            alone[coordinator.id] += 1
    assert all(count == 1 for count in alone.values()), "more slots than needed are shown without their successors"


@given(any_ring())
def test_who_coordinates_is_named_as_a_coordinator_first(ring: Ring) -> None:
    roles: dict[str, str] = {}
    for _, _, members in rows(ring):
        for place, id in enumerate(members):
            roles.setdefault(id, "replica" if place else "primary")
    coordinating = {node.id for node in ring.coordinators if node is not None}
    assert {id for id, role in roles.items() if role == "primary"} == coordinating


def test_with_one_copy_nothing_but_the_ranges_is_shown() -> None:
    assert [(first, last, len(members)) for first, last, members in rows(founded(3))] == [
        (0, 5460, 1), (5461, 10921, 1), (10922, 16383, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("ring", [founded(3, 3), founded(5, 2), lost(founded(5, 3), "127.0.0.1:7002"), kept(3)])
def test_shards_are_lists_with_who_answers_as_the_master(ring: Ring) -> None:
    shards: Any = cluster_view.shards(ring)
    shown: dict[int, Any] = {}
    for shard in shards:
        ends = shard["slots"]
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            shown |= dict.fromkeys(range(first, last + 1), shard["nodes"])
    assert len(shown) == SLOTS
    for slot, (coordinator, members) in enumerate(zip(ring.coordinators, ring.lists, strict=True)):
        master, *replicas = shown[slot]
        assert master["role"] == "master" and {node["role"] for node in replicas} <= {"replica"}
        assert {node["port"] for node in shown[slot]} == {node.port for node in members}
        if coordinator is not None:
            assert (master["port"], master["health"]) == (coordinator.port, "online")
        assert [node["health"] == "fail" for node in replicas] == [
            ring.by_id[f"127.0.0.1:{node['port']}"].state == "down" for node in replicas
        ]


def test_a_node_that_is_down_has_failed_and_one_that_returns_has_no_slots_but_those_it_keeps() -> None:
    ring = kept(3)
    text: Any = cluster_view.nodes(ring, ring.circle[1].id)
    keeper, me, other = (line.split() for line in text.splitlines())
    assert keeper[2] == "master" and keeper[7] == "connected" and len(keeper) > 8
    assert me[2] == "myself,master,fail" and other[2] == "master,fail"
    assert me[7:] == other[7:] == ["disconnected"]


def test_slots_that_are_read_and_not_written_are_about_to_fail_and_those_of_nobody_have_failed() -> None:
    two_of_three = lost(founded(3, 3), "127.0.0.1:7001")
    one_of_three = lost(two_of_three, "127.0.0.1:7002")
    none = lost(one_of_three, "127.0.0.1:7003")
    shown = [
        [figures(ring)[name] for name in ("cluster_state", "cluster_slots_ok", "cluster_slots_pfail", "cluster_size")]
        for ring in (two_of_three, one_of_three, none)
    ]
    assert shown == [["ok", "16384", "0", "2"], ["ok", "0", "16384", "1"], ["fail", "0", "0", "0"]]


def test_successors_are_those_up_in_the_lists_that_a_node_coordinates() -> None:
    ring = founded(5, 2)
    first, second = ring.circle[0].id, ring.circle[1].id
    assert [node.id for node in cluster_view.successors(ring, first)] == [second]
    assert cluster_view.successors(lost(ring, second), first) == ()
