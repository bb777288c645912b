"""The ring: what it answers, what it accepts, what it is followed by."""

import copy
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.actors.rules.fields import JSON_BYTES_MAX, RingError
from ringkeeper.actors.rules.life import Stamp
from ringkeeper.actors.rules.placement import CIRCLE, place
from ringkeeper.actors.rules.ring import CHAIN_MAX, HISTORY_MAX, RULES, Node, Ring, Trouble
from ringkeeper.actors.rules.slots import SLOTS, Run, position, runs
from ringkeeper.tests.actors.rules.rings import all_up, any_ring, founded, hex64, ids, kept, lost, node, standing

SEED = [f"localhost:{port}" for port in (5000, 5100, 5200, 5300, 5400)]


def slow_list(ring: Ring, slot: int) -> tuple[Node, ...]:
    """The definition: walk clockwise from the slot's position and take nodes until there are enough."""
    clockwise = sorted(ring.circle, key=lambda node: (node.token - position(slot)) % CIRCLE)
    return tuple(clockwise[: ring.replicas])


# ---- what it answers


def test_the_key_ranges_of_five_servers_are_the_seeds_to_the_letter() -> None:
    assert founded(SEED, how="md5").keyrange() == (
        "ecadfd0ee12447ea5a63a5705822355b,341e97d7bf9a69b130a0db09a8c87cfd,localhost:5400;"
        "341e97d7bf9a69b130a0db09a8c87cfe,ab2bd578b78979e9d15ce0bfade24987,localhost:5100;"
        "ab2bd578b78979e9d15ce0bfade24988,b18c9873dcbbe400e116c6e3d9644375,localhost:5000;"
        "b18c9873dcbbe400e116c6e3d9644376,cc9b4f9d4d774ddcec786208bfa0aefd,localhost:5300;"
        "cc9b4f9d4d774ddcec786208bfa0aefe,ecadfd0ee12447ea5a63a5705822355a,localhost:5200;"
    )


def test_a_server_may_be_read_for_the_ranges_of_its_two_predecessors_as_well() -> None:
    assert founded(SEED, replicas=3, how="md5").keyrange_read() == (
        "b18c9873dcbbe400e116c6e3d9644376,341e97d7bf9a69b130a0db09a8c87cfd,localhost:5400;"
        "cc9b4f9d4d774ddcec786208bfa0aefe,ab2bd578b78979e9d15ce0bfade24987,localhost:5100;"
        "ecadfd0ee12447ea5a63a5705822355b,b18c9873dcbbe400e116c6e3d9644375,localhost:5000;"
        "341e97d7bf9a69b130a0db09a8c87cfe,cc9b4f9d4d774ddcec786208bfa0aefd,localhost:5300;"
        "ab2bd578b78979e9d15ce0bfade24988,ecadfd0ee12447ea5a63a5705822355a,localhost:5200;"
    )


def test_with_one_copy_reads_go_where_writes_go() -> None:
    ring = founded(SEED, how="md5")
    assert ring.keyrange_read() == ring.keyrange()


def test_one_node_has_the_whole_circle() -> None:
    ring = founded(1)
    assert ring.keyrange() == f"{0:032x},{CIRCLE - 1:032x},127.0.0.1:7001;"
    assert ring.slots_of("127.0.0.1:7001") == (Run(0, SLOTS - 1),)
    assert ring.coordinated_by("127.0.0.1:7001") == (Run(0, SLOTS - 1),)
    assert ring.share("127.0.0.1:7001") == 1.0


def test_one_node_anywhere_on_the_circle_has_one_run_of_slots() -> None:
    ring = standing({"a:1": position(100) + 5})
    assert ring.slots_of("a:1") == (Run(0, SLOTS - 1),)
    assert ring.keyrange() == f"{position(100) + 6:032x},{position(100) + 5:032x},a:1;"


def test_two_nodes_with_three_copies_may_be_read_for_everything() -> None:
    ring = founded(2, replicas=3)
    assert [len(ring.preference_list(slot)) for slot in (0, 8191, 8192, 16383)] == [2] * 4
    for each in ring.ranges(copies=3):
        assert each.first == (each.last + 1) % CIRCLE


def test_a_node_on_a_slots_own_position_has_that_slot() -> None:
    ring = standing({"a:1": position(7), "b:2": position(9) - 1})
    assert ring.slots_of("b:2") == (Run(8, 8),)
    assert ring.slots_of("a:1") == (Run(0, 7), Run(9, SLOTS - 1))


def test_two_nodes_within_one_slot_leave_the_first_without_a_slot_but_in_the_lists() -> None:
    ring = standing({"a:1": 10, "b:2": 20, "c:3": position(8000)}, replicas=2)
    assert ring.slots_of("b:2") == ()
    assert ring.share("b:2") == 0.0
    assert [node.id for node in ring.preference_list(0)] == ["a:1", "b:2"]
    assert [node.id for node in ring.preference_list(1)] == ["c:3", "a:1"]


@given(all_up())
@settings(max_examples=60)
def test_lists_are_what_a_walk_clockwise_finds(ring: Ring) -> None:
    edges = {node.token >> 114 for node in ring.nodes}
    for slot in {0, SLOTS - 1, *edges, *((edge + 1) % SLOTS for edge in edges)}:
        assert ring.lists[slot] == ring.preference_list(slot) == slow_list(ring, slot)


@given(any_ring(nodes_max=4))
@settings(max_examples=10)
def test_the_tables_agree_with_the_definition_in_every_slot(ring: Ring) -> None:
    assert len(ring.lists) == len(ring.coordinators) == SLOTS
    for slot in range(SLOTS):
        members = slow_list(ring, slot)
        assert ring.lists[slot] == members
        assert ring.coordinators[slot] == next((node for node in members if node.state == "up"), None)


@given(all_up())
@settings(max_examples=60)
def test_with_every_node_up_each_slot_has_one_coordinator_which_is_first_in_its_list(ring: Ring) -> None:
    claimed = bytearray(SLOTS)
    for each in ring.nodes:
        assert ring.coordinated_by(each.id) == ring.slots_of(each.id)
        for run in ring.coordinated_by(each.id):
            assert not any(claimed[run.first : run.last + 1])
            claimed[run.first : run.last + 1] = b"\1" * run.size
    assert claimed == b"\1" * SLOTS
    assert all(coordinator is members[0] for coordinator, members in zip(ring.coordinators, ring.lists, strict=True))


@given(all_up())
def test_ranges_partition_the_circle(ring: Ring) -> None:
    ranges = ring.ranges()
    assert sum((each.last - each.first) % CIRCLE + 1 for each in ranges) == CIRCLE
    for before, after in zip(ranges, [*ranges[1:], ranges[0]], strict=True):
        assert after.first == (before.last + 1) % CIRCLE
    assert abs(sum(ring.share(node.id) for node in ring.nodes) - 1.0) < 1e-9


@given(all_up(), st.integers(1, 5))
def test_a_read_range_holds_exactly_the_slots_in_whose_lists_its_node_stands(ring: Ring, copies: int) -> None:
    ring = replace(ring, replicas=copies)
    for each in ring.ranges(copies):
        width = (each.last - each.first) % CIRCLE
        for slot in {0, SLOTS - 1, *((n.token >> 114) + d for n in ring.nodes for d in (0, 1))} - {SLOTS}:
            inside = (position(slot) - each.first) % CIRCLE <= width
            assert inside == (each.node in ring.lists[slot])


@given(any_ring())
@settings(max_examples=25)
def test_going_down_changes_who_answers_but_no_list(ring: Ring) -> None:
    before = replace(ring, nodes=tuple(replace(node, state="up") for node in ring.nodes), trouble=())
    assert [[node.id for node in row] for _, row in ring.list_runs] == [
        [n.id for n in row] for _, row in before.list_runs
    ]
    for _, (members, coordinator) in runs(list(zip(ring.lists, ring.coordinators, strict=True))):
        up = [node for node in members if node.state == "up"]
        assert coordinator is (up[0] if up else None)


@given(all_up(nodes_max=8), st.integers(0, CIRCLE - 1))
@settings(max_examples=25)
def test_adding_a_node_moves_slots_only_to_it(ring: Ring, token: int) -> None:
    tokens = {node.id: node.token for node in ring.nodes}
    if token in tokens.values():
        return
    after = standing(tokens | {"127.0.0.1:9000": token}, replicas=ring.replicas)
    for _, (old, new) in runs(list(zip(ring.coordinators, after.coordinators, strict=True))):
        assert new == old or (new is not None and new.id == "127.0.0.1:9000")
    for _, (old_list, new_list) in runs(list(zip(ring.lists, after.lists, strict=True))):
        assert {node.id for node in new_list} - {node.id for node in old_list} <= {"127.0.0.1:9000"}


def test_an_out_node_is_known_but_not_on_the_circle() -> None:
    ring = founded(3)
    gone = ring.circle[0]
    after = replace(ring, nodes=tuple(replace(n, state="out") if n.id == gone.id else n for n in ring.nodes))
    assert after.by_id[gone.id].state == "out"
    assert gone.id not in [node.id for node in after.circle]
    assert after.slots_of(gone.id) == after.coordinated_by(gone.id) == ()
    assert after.coordinator(0) is after.circle[0]


@pytest.mark.parametrize(
    ("nodes", "replicas", "min_copies", "needed"),
    [(5, 3, 2, 2), (1, 3, 2, 1), (5, 1, 2, 1), (5, 3, 4, 3), (2, 3, 3, 2)],
)
def test_a_write_needs_no_more_copies_than_a_list_can_have(
    nodes: int, replicas: int, min_copies: int, needed: int
) -> None:
    assert founded(nodes, replicas, min_copies).copies_needed == needed


def test_a_keeper_answers_for_its_list_only() -> None:
    ring = kept(replicas=1)
    first, second, _ = ring.circle
    assert ring.coordinated_by(first.id) == ring.slots_of(first.id)
    assert ring.coordinator(ring.slots_of(second.id)[0].first) is None


def test_a_list_has_no_keeper_beside_a_member_that_is_up() -> None:
    ring = kept(replicas=2)
    up = tuple(replace(node, state="up") if node is ring.circle[1] else node for node in ring.nodes)
    with pytest.raises(RingError, match="slots 0-5460 have a keeper, 127.0.0.1:7003, and 127.0.0.1:[0-9]+ is up"):
        replace(ring, nodes=up)


def test_towards_redis_clients_a_node_is_the_sha1_of_the_clusters_name_and_its_id() -> None:
    ring = founded(1)
    assert ring.cluster_node_id("127.0.0.1:7001") == hashlib.sha1(b"test 127.0.0.1:7001").hexdigest()


# ---- JSON


@given(any_ring())
@settings(max_examples=60)
def test_a_ring_comes_back_from_json_as_it_was(ring: Ring) -> None:
    data = ring.to_json()
    assert Ring.from_json(data) == ring
    assert Ring.from_json(data).to_json() == data


def test_a_large_ring_in_trouble_fits_into_a_znode() -> None:
    ring = standing(place(ids(1024), "even"), replicas=3)
    assert len(lost(ring, *ids(1024)).to_json()) < JSON_BYTES_MAX


def test_json_is_for_people_a_line_a_field_and_a_line_a_node() -> None:
    lines = founded(2).to_json().decode().splitlines()
    assert lines[0] == "{" and lines[-1] == "}"
    assert ' "epoch": 1,' in lines
    assert ' "change": null,' in lines
    assert [line for line in lines if '"token": "ffffffffffffffffffffffffffffffff"' in line and '"id"' in line]
    names = re.findall(r'^ "(\w+)"', "\n".join(lines), re.MULTILINE)
    assert names == sorted(names)


def test_fields_of_a_neighbouring_release_are_kept() -> None:
    plain = json.loads(founded(2).to_json())
    plain["colour"] = {"of": ["the", "sea"]}
    plain["nodes"][0]["rack"] = "b7"
    ring = Ring.from_json(json.dumps(plain).encode())
    assert json.loads(lost(ring, ring.nodes[0].id).to_json())["colour"] == {"of": ["the", "sea"]}
    assert json.loads(lost(ring, ring.nodes[0].id).to_json())["nodes"][0]["rack"] == "b7"


def test_a_ring_under_newer_rules_is_refused_before_anything_else_is_looked_at() -> None:
    with pytest.raises(RingError, match=f"rules version {RULES + 1}, this release knows {RULES}"):
        Ring.from_json(json.dumps({"rules": RULES + 1, "nodes": "in some new way"}).encode())


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def damage(plain: Any) -> None:
        for step in path[:-1]:
            plain = plain[step]
        plain[path[-1]] = to

    return damage


def _delete(*path: Any) -> Callable[[Any], None]:
    def damage(plain: Any) -> None:
        for step in path[:-1]:
            plain = plain[step]
        del plain[path[-1]]

    return damage


MALFORMED: list[tuple[Callable[[Any], None], str]] = [
    (_delete("epoch"), "the ring lacks the field 'epoch'"),
    (_delete("nodes", 1, "token"), "node 1 of the ring lacks the field 'token'"),
    (_delete("nodes", 1, "host"), "node 1 of the ring lacks the field 'host'"),
    (_set("epoch", to="3"), "epoch of the ring must be a whole number from 1"),
    (_set("epoch", to=0), "epoch of the ring must be a whole number from 1"),
    (_set("epoch", to=True), "epoch of the ring must be a whole number"),
    (_set("epoch", to=2**63), "epoch of the ring must be a whole number"),
    (_set("epoch", to=2.0), "epoch of the ring must be a whole number"),
    (_set("rules", to=None), "rules of the ring must be a whole number"),
    (_set("rules", to=0), "rules of the ring must be a whole number"),
    (_set("cluster_id", to="C" * 16), "cluster_id of the ring must be 16 hex digits"),
    (_set("cluster_id", to="c" * 16 + "\n"), "cluster_id of the ring must be 16 hex digits"),
    (_set("cluster_name", to="a b"), "cluster_name of the ring must be 1 to 64 letters"),
    (_set("nonce", to=7), "nonce of the ring must be 16 hex digits"),
    (_set("replicas", to=0), "replicas of the ring must be a whole number from 1 to 16"),
    (_set("min_copies", to=17), "min_copies of the ring must be a whole number from 1 to 16"),
    (_set("serving", to=1), "serving of the ring must be true or false"),
    (_set("place", to="odd"), "place of the ring must be one of even, md5"),
    (_set("place", to=["even"]), "place of the ring must be one of even, md5"),
    (_set("change", to={"phase": "seal"}), "the change in flight lacks the field"),
    (_set("chain", to={}), "chain of the ring must be a JSON array"),
    (_set("chain", to=[[1]]), r"a link of the chain must be \[epoch, nonce\]"),
    (_set("chain", to=[["1", "0" * 16]]), "an epoch in the chain must be a whole number"),
    (_set("chain", to=[[1, "0"]]), "the nonce of epoch 1 in the chain must be 16 hex digits"),
    (_set("chain", to=[[1, "0" * 16], [1, "1" * 16]]), "chain of the ring does not ascend: epoch 1 stands before 1"),
    (_set("chain", to=[[2, "0" * 16]]), "chain of the ring does not ascend: epoch 2 stands before 2"),
    (_set("chain", to=[[n + 1, "0" * 16] for n in range(65)]), "chain of the ring has 65 links"),
    (_set("nodes", to=[]), "needs a node that is not out"),
    (_set("nodes", to=None), "nodes of the ring must be a JSON array"),
    (_set("nodes", 0, to="127.0.0.1:7001"), "node 0 of the ring must be a JSON object"),
    (_set("nodes", 0, "id", to="a;b"), "id of a node must be host:port"),
    (_set("nodes", 0, "incarnation", to="x"), "incarnation of 127.0.0.1:7003 must be 16 hex digits"),
    (_set("nodes", 0, "data_id", to=[]), "data_id of 127.0.0.1:7003 must be 16 hex digits"),
    (_set("nodes", 0, "token", to=5), "token of node 0 of the ring must be 32 hex digits"),
    (_set("nodes", 0, "token", to="0" * 31), "token of node 0 of the ring must be 32 hex digits"),
    (_set("nodes", 0, "state", to="asleep"), "state of 127.0.0.1:7003 must be one of up, down, returning, out"),
    (_set("nodes", 0, "state", to={}), "state of 127.0.0.1:7003 must be one of"),
    (_set("nodes", 0, "host", to="a b"), "host of 127.0.0.1:7003 must be a host name"),
    (_set("nodes", 0, "port", to=0), "port of 127.0.0.1:7003 must be a whole number from 1 to 65535"),
    (_set("nodes", 0, "port", to=65536), "port of 127.0.0.1:7003 must be a whole number from 1 to 65535"),
    (_set("nodes", 0, "bridge_port", to="17001"), "bridge_port of 127.0.0.1:7003 must be a whole number"),
    (_set("nodes", 1, "id", to="127.0.0.1:7003"), "two nodes of the ring have the same id, 127.0.0.1:7003"),
    (_set("nodes", 1, "port", to=7003), "two nodes of the ring have the same address, 127.0.0.1:7003"),
    (_set("nodes", 1, "bridge_port", to=17003), "two nodes of the ring have the same bridge address"),
    (_set("nodes", 1, "data_id", to=hex64(7003)), "two nodes of the ring have the same data directory"),
    (_set("nodes", 1, "incarnation", to=hex64(7003001)), "two nodes of the ring have the same incarnation"),
    (_set("nodes", 1, "token", to="5553" + "f" * 28), "two nodes of the ring have the same token"),
    (_set("nodes", 1, "state", to="up"), "slots 5461-10921 are written down as in trouble and are not"),
    (_set("nodes", 0, "state", to="down"), "slot 0 has too few members up, and who was complete is not written down"),
    (_set("trouble", to=[]), "slot 5461 has too few members up"),
    (_set("trouble", to={}), "trouble of the ring must be a JSON array"),
    (_set("trouble", 0, to=[]), "a list in trouble must be a JSON object"),
    (_set("trouble", 0, "slots", to="5461"), "slot 5462 has too few members up"),
    (_set("trouble", 0, "slots", to="all"), "slots of a list in trouble must be slots like"),
    (_set("trouble", 0, "slots", to=[5461, 10921]), "slots of a list in trouble must be slots like"),
    (
        _set("trouble", 0, "slots", to="5461-99999"),
        "last slot of a list in trouble must be a whole number from 5461 to 16383",
    ),
    (_set("trouble", 0, "slots", to="99-98"), "last slot of a list in trouble must be a whole number from 99"),
    (
        _set("trouble", 0, "slots", to="5461-10922"),
        "slots 5461-10922, written down as in trouble, do not belong to one list",
    ),
    (_set("trouble", 0, "complete", to={}), "in trouble without a complete member"),
    (_set("trouble", 0, "complete", to=["127.0.0.1:7002"]), "complete of a list in trouble must be a JSON object"),
    (_set("trouble", 0, "complete", to={"127.0.0.1:7002": 5}), "data_id of the complete member 127.0.0.1:7002"),
    (_set("trouble", 0, "complete", to={"a b": "0" * 16}), "a complete member of slots 5461-10921 must be host:port"),
    (_set("trouble", 0, "complete", to={"a:1": "0" * 16}), "do not belong to one list"),
    (_set("trouble", 0, "keeper", to="127.0.0.1:7001"), "is not one of their complete members"),
    (_set("trouble", 0, "keeper", to=["127.0.0.1:7002"]), "keeper of slots 5461-10921 must be host:port"),
    (
        _set("trouble", 0, "keeper", to="127.0.0.1:7002"),
        "the keeper of slots 5461-10921, 127.0.0.1:7002, is not back",
    ),
    (_set("history", 0, "what", to=None), "what write 1 did must be a printable text"),
    (_set("history", 0, "why", to="x" * 501), "why write 1 was made must be a printable text of at most 500"),
    (_set("history", 0, "why", to="\ud800"), "why write 1 was made must be a printable text"),
    (_set("history", 0, "why", to="\x1b[2J"), "why write 1 was made must be a printable text"),
    (_set("history", 0, "wall_seconds", to="now"), "wall_seconds of write 1 must be seconds since the Unix epoch"),
    (_set("history", 0, "wall_seconds", to=-1), "wall_seconds of write 1 must be seconds"),
    (_set("history", 0, "wall_seconds", to=1e300), "wall_seconds of write 1 must be seconds"),
    (_set("history", 0, "epoch", to=-1), "epoch of a write in history must be a whole number"),
    (_set("history", to=["it was"]), "a write in history must be a JSON object"),
]


@pytest.mark.parametrize(("damage", "message"), MALFORMED, ids=[message for _, message in MALFORMED])
def test_a_malformed_field_is_named_and_the_ring_refused(damage: Callable[[Any], None], message: str) -> None:
    plain = json.loads(lost(founded(3), "127.0.0.1:7002").to_json())
    damage(plain)
    with pytest.raises(RingError, match=message):
        Ring.from_json(json.dumps(plain).encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{" * 100_000, "is not JSON"),
        (b'{"rules":' + b"[" * 100_000, "is not JSON"),
        (b'{"rules": 1, "rules": 1}', "'rules' stands twice"),
        (b'{"rules": NaN}', "NaN is no number"),
        (b'{"rules": 1, "colour": 1e999}', "'1e999' is no number"),
        (b'{"rules": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b" " * (JSON_BYTES_MAX + 1), "more than 1000000 cannot be one"),
    ],
    ids=["nothing", "no text", "an array", "deep", "deep inside", "twice", "NaN", "infinity", "a huge int", "too long"],
)
def test_what_is_no_ring_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RingError, match=message):
        Ring.from_json(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=80)
def test_any_field_exchanged_for_anything_is_taken_or_refused_but_never_breaks(data: st.DataObject) -> None:
    plain = json.loads(lost(founded(3), "127.0.0.1:7002").to_json())
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            if isinstance(inner, (dict, list)):
                collect(inner)

    collect(plain)
    container, key = data.draw(st.sampled_from(places))
    container[key] = data.draw(JSON)
    try:
        ring = Ring.from_json(json.dumps(plain).encode())
    except RingError as error:
        assert len(str(error)) < 1000
    else:
        assert Ring.from_json(ring.to_json()) == ring


# ---- the next ring


def after(ring: Ring, writes: int, branch: int = 0) -> Ring:
    for _ in range(writes):
        ring = ring.amended(nonce=hex64(branch * 1000 + ring.epoch + 1), what="nothing", why="a test", wall_seconds=0.0)
    return ring


def test_the_next_ring_has_the_next_epoch_and_remembers_the_one_before() -> None:
    ring = founded(3)
    following = ring.amended(nonce=hex64(2), what="stop", why="asked to", wall_seconds=5.0, serving=False)
    assert (following.epoch, following.nonce, following.chain) == (2, hex64(2), ((1, hex64(1)),))
    assert not following.serving
    assert (following.history[-1].what, following.history[-1].why) == ("stop", "asked to")
    assert following.nodes == ring.nodes
    assert (ring.epoch, ring.chain, ring.serving) == (1, (), True)


def test_a_ring_remembers_sixty_four_rings_and_sixteen_causes() -> None:
    ring = after(founded(1), 100)
    assert ring.epoch == 101
    assert [epoch for epoch, _ in ring.chain] == list(range(101 - CHAIN_MAX, 101))
    assert [write.epoch for write in ring.history] == list(range(102 - HISTORY_MAX, 102))


def test_a_nonce_is_used_once() -> None:
    ring = after(founded(1), 3)
    for nonce in (ring.nonce, hex64(1)):
        with pytest.raises(RingError, match="was used before"):
            ring.amended(nonce=nonce, what="", why="", wall_seconds=0.0)


def test_a_long_cause_is_cut_rather_than_refused() -> None:
    ring = founded(1).amended(nonce=hex64(2), what="w" * 9999, why="", wall_seconds=0.0)
    assert len(ring.history[-1].what) == 500
    assert ring.history[-1].what.endswith("w...")


def test_a_cause_of_several_lines_becomes_one() -> None:
    ring = founded(1).amended(nonce=hex64(2), what="stop", why="asked\nto", wall_seconds=0.0)
    assert ring.history[-1].why == "asked to"


def test_an_amendment_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RingError, match="needs a node"):
        founded(1).amended(nonce=hex64(2), what="", why="", wall_seconds=0.0, nodes=())


@given(st.integers(0, 130), st.integers(0, 130))
@settings(max_examples=40)
def test_a_ring_is_taken_by_whoever_holds_one_that_it_descends_from_however_long_ago(earlier: int, later: int) -> None:
    first = founded(1)
    held, read = after(first, earlier), after(first, later)
    objection = read.objection(held.stamp)
    assert (objection is None) == (earlier <= later)


@given(st.integers(0, 70), st.integers(1, 130), st.integers(1, 130))
@settings(max_examples=20)
def test_a_ring_is_not_taken_over_one_of_another_branch_that_it_still_could_remember(
    common: int, there: int, here: int
) -> None:
    trunk = after(founded(1), common)
    held, read = after(trunk, there, branch=1), after(trunk, here, branch=2)
    if read.epoch - held.epoch <= CHAIN_MAX:
        assert read.objection(held.stamp) is not None


def test_an_objection_says_what_is_wrong() -> None:
    ring = after(founded(1), 3)
    assert "another cluster's" in str(ring.objection(Stamp("d" * 16, 1, hex64(1))))
    assert "lost or rolled back" in str(ring.objection(Stamp(ring.cluster_id, 5, hex64(5))))
    assert "does not descend" in str(ring.objection(Stamp(ring.cluster_id, 4, hex64(99))))
    assert "does not descend" in str(ring.objection(Stamp(ring.cluster_id, 2, hex64(99))))


def test_a_node_that_was_away_for_longer_than_the_chain_is_not_locked_out() -> None:
    ring = after(founded(1), 100)
    assert ring.objection(Stamp(ring.cluster_id, 3, hex64(3))) is None
    assert "another cluster's" in str(ring.objection(Stamp("d" * 16, 3, hex64(3))))


# ---- soundness of rings that a program makes


def test_nodes_stand_in_the_order_of_their_tokens_however_they_were_given() -> None:
    ring = founded(4)
    assert replace(ring, nodes=ring.nodes[::-1]) == ring
    assert [node.token for node in ring.nodes] == sorted(node.token for node in ring.nodes)


def test_two_records_of_the_same_trouble_are_refused() -> None:
    ring = lost(founded(3), "127.0.0.1:7002")
    with pytest.raises(RingError, match="written down as in trouble"):
        replace(ring, trouble=ring.trouble * 2)


def test_a_record_must_name_its_members_in_order() -> None:
    with pytest.raises(RingError, match="do not ascend"):
        Trouble(slots=Run(0, 1), complete=(("b:2", hex64(2)), ("a:1", hex64(1))))


def test_equal_rings_are_equal_and_can_be_counted() -> None:
    assert len({founded(3), founded(3), copy.copy(founded(3)), founded(4)}) == 2
    assert node("a:1", 1) != node("a:1", 2)
