"""Where nodes stand: the seed's rule, and evenly."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.placement import CIRCLE, NODES_MAX, md5_token, place
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.tests.actors.rules.rings import founded, ids, standing


def sizes(ring: Ring) -> dict[str, int]:
    return {node.id: sum(run.size for run in ring.slots_of(node.id)) for node in ring.nodes}


def test_a_token_of_the_seed_is_the_md5_of_host_and_port() -> None:
    assert f"{md5_token('localhost:5000'):032x}" == hashlib.md5(b"localhost:5000").hexdigest()
    assert f"{md5_token('localhost:5000'):032x}" == "b18c9873dcbbe400e116c6e3d9644375"


def test_the_seeds_rule_is_very_uneven_for_three_neighbouring_ports() -> None:
    found = sizes(founded(3, how="md5"))
    assert found == {"127.0.0.1:7001": 27, "127.0.0.1:7002": 7852, "127.0.0.1:7003": 8505}


def test_three_nodes_share_the_slots_evenly_in_the_order_of_their_md5_tokens() -> None:
    ring = founded(3)
    assert [sum(run.size for run in ring.slots_of(node.id)) for node in ring.circle] == [5461, 5461, 5462]
    assert [str(run) for node in ring.circle for run in ring.slots_of(node.id)] == [
        "0-5460",
        "5461-10921",
        "10922-16383",
    ]
    assert [node.id for node in ring.circle] == sorted(ids(3), key=md5_token)


@given(st.integers(1, 60))
def test_even_shares_differ_by_one_slot_at_most_and_no_range_crosses_the_seam(count: int) -> None:
    ring = standing(place(ids(count), "even"))
    found = sizes(ring)
    assert max(found.values()) - min(found.values()) <= 1
    assert all(len(ring.slots_of(node.id)) == 1 for node in ring.nodes)


@given(st.permutations(ids(6)))
def test_the_order_in_which_nodes_are_named_makes_no_difference(names: list[str]) -> None:
    assert place(names, "even") == place(ids(6), "even")
    assert place(names[:2], "even", place(ids(4, first_port=8001), "even")) == place(
        sorted(names[:2]), "even", place(ids(4, first_port=8001), "even")
    )


def test_a_joining_node_takes_the_first_half_of_the_largest_range() -> None:
    before = founded(3)
    token = place(["127.0.0.1:7004"], "even", {node.id: node.token for node in before.nodes})["127.0.0.1:7004"]
    after = standing({node.id: node.token for node in before.nodes} | {"127.0.0.1:7004": token})
    assert [str(run) for run in after.slots_of("127.0.0.1:7004")] == ["10922-13652"]
    assert [str(run) for run in after.slots_of(before.circle[2].id)] == ["13653-16383"]


def test_among_equal_ranges_the_one_with_the_lowest_token_is_halved() -> None:
    before = place(ids(4), "even")
    token = place(["127.0.0.1:9000"], "even", before)["127.0.0.1:9000"]
    assert token < min(before.values())


@given(st.integers(1, 8), st.integers(1, 12))
def test_a_joining_node_halves_one_range_and_leaves_the_others(count: int, joiners: int) -> None:
    tokens = place(ids(count), "even")
    for index in range(joiners):
        before = sizes(standing(tokens))
        joining = f"127.0.0.1:{8001 + index}"
        tokens |= place([joining], "even", tokens)
        after = sizes(standing(tokens))
        halved = [id for id in before if before[id] != after[id]]
        assert len(halved) == 1
        assert before[halved[0]] == max(before.values())
        assert after[joining] == before[halved[0]] // 2


@given(st.lists(st.integers(0, CIRCLE - 1), min_size=1, max_size=20, unique=True))
def test_a_joining_node_finds_the_largest_range_of_any_ring(tokens: list[int]) -> None:
    standing_at = dict(zip(ids(len(tokens)), tokens, strict=True))
    before = sizes(standing(standing_at))
    after = sizes(standing(standing_at | place(["127.0.0.1:9000"], "even", standing_at)))
    assert after["127.0.0.1:9000"] == max(before.values()) // 2
    assert sum(after.values()) == SLOTS


def test_several_joining_nodes_stand_where_they_would_one_after_the_other() -> None:
    before = place(ids(3), "even")
    one_by_one = dict(before)
    for id in sorted(ids(3, first_port=8001), key=md5_token):
        one_by_one |= place([id], "even", one_by_one)
    assert before | place(ids(3, first_port=8001), "even", before) == one_by_one


def test_a_ring_of_too_many_nodes_is_refused() -> None:
    assert len(place(ids(NODES_MAX), "even")) == NODES_MAX
    with pytest.raises(RingError, match="at most 1024 nodes, not 1025"):
        place(ids(1025), "even")
    with pytest.raises(RingError, match="at most 1024"):
        place(["127.0.0.1:1"], "md5", place(ids(NODES_MAX), "even"))


def test_for_relief_a_joining_node_takes_half_of_the_load_where_it_is_heaviest() -> None:
    before = place(ids(3), "even")
    load = [1] * SLOTS
    load[8000:8100] = [200] * 100
    joining = "127.0.0.1:9000"
    after = standing(before | place([joining], "relief", before, load))
    (run,) = after.slots_of(joining)
    whole = sum(load[5461:10922])
    assert run.first == 5461
    assert abs(sum(load[run.first : run.last + 1]) - whole / 2) <= 200
    assert place([joining], "relief", before) == place([joining], "even", before)
    assert place([joining], "relief", before, [0] * SLOTS) == place([joining], "even", before)
    assert place(ids(4), "relief", None, load) == place(ids(4), "even")


def test_a_slot_that_has_all_the_load_of_its_range_cannot_be_relieved() -> None:
    before = place(ids(2), "even")
    load = [0] * SLOTS
    load[100] = 1000
    load[9000:9010] = [10] * 10
    joining = "127.0.0.1:9000"
    (run,) = standing(before | place([joining], "relief", before, load)).slots_of(joining)
    assert sum(load[run.first : run.last + 1]) == 50
