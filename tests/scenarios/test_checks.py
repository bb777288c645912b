"""The checks: each finds what it is for and says with what evidence, and blames nothing that really happened."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import Run, slot
from ringkeeper.scenarios.checks import (
    VIOLATIONS_PER_CHECK_MAX,
    ClusterState,
    Held,
    NodeState,
    Tenure,
    Violation,
    copies_equal,
    counters_exact,
    every_check,
    every_list_up,
    every_slot_served,
    expired_in_time,
    linearizable,
    no_acknowledged_write_lost,
    no_foreign_slots,
    no_stale_read,
    no_value_never_written,
    nothing_deleted_back,
    one_coordinator,
    versions_ascend,
)
from ringkeeper.scenarios.history import History
from ringkeeper.tests.actors.rules.rings import founded, ids, kept, lost
from ringkeeper.tests.scenarios.registers import COUNTER, KEY, REGISTER, ran, told

K_SLOT = slot(KEY)
ONE, TWO, THREE = ids(3)


def sentences(violations: Sequence[Violation]) -> list[str]:
    return [str(each) for each in violations]


def of_observations(history: History, values: Mapping[bytes, bytes]) -> dict[str, int]:
    """How many violations each of the four checks of observations finds, of those that find any."""
    found = [
        *no_acknowledged_write_lost(history, values),
        *nothing_deleted_back(history, values),
        *no_stale_read(history),
        *no_value_never_written(history, values),
    ]
    return {each.check: sum(other.check == each.check for other in found) for each in found}


# Lost, deleted back, stale, never written.


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        (("a 1-2 set v1",), b"v1"),
        (("a 1-2 set v1", "a 3-4 delete = True"), None),
        (("a 1-2 set v1", "b 1-4 set v2"), b"v1"),
        (("a 1-2 set v1", "b 3-4 set v2 ?"), b"v1"),
        (("a 1-2 set v1", "b 3-4 set v2 ?"), b"v2"),
        (("a 1-2 set v1 ?", "b 3-4 set v2"), b"v1"),
        (("a 1-2 set v1", "b 3-4 set v2 !"), b"v1"),
        (("a 1-2 set v1", "b 3-4 delete ?"), None),
        (("a 1-2 delete ?", "b 3-4 set v1"), None),
        (("a 1-2 set v1", "b 3-4 cas v9 v2 = False"), b"v1"),
        (("a 1-2 set v1", "b 1-4 delete = True", "c 3-3 get = nothing"), None),
        (("a 1-2 set v1", "b 3-4 set v2", "a 5-6 set v1"), b"v1"),
        (("a 2-3 set v1", "b 1-2 get = v1"), b"v1"),
        (("a 1-2 set v1", "b 2-3 get = nothing"), b"v1"),
        (("a 1-2 set v1", "b 3-4 get = v1", "c 5-6 set v1 ?", "d 7-8 set v2"), b"v1"),
        (("a 1-2 set v1 ?", "b 1-2 set v1 ?", "c 3-4 get = v1", "d 5-6 set v2"), b"v1"),
        (("a 1-2 set v1 ?", "b 1-2 set v1", "c 3-4 get = v1", "d 5-6 set v2"), b"v1"),
        (("a 1-2 incr 5 = 5",), b"5"),
        (("a 1-2 append x = 1", "b 1-2 append y = 2"), b"xy"),
    ],
)
def test_an_end_that_can_be_is_not_blamed(lines: tuple[str, ...], end: bytes | None) -> None:
    assert of_observations(told(*lines), {} if end is None else {KEY: end}) == {}


@pytest.mark.parametrize(
    ("lines", "end", "check"),
    [
        (("a 1-2 set v1", "a 3-4 set v2"), b"v1", "no_acknowledged_write_lost"),
        (("a 1-2 set v1",), None, "no_acknowledged_write_lost"),
        (("a 1-2 delete = False", "a 3-4 set v1"), None, "no_acknowledged_write_lost"),
        (("a 1-2 set v1", "a 3-4 cas v1 v2 = True"), b"v1", "no_acknowledged_write_lost"),
        (("a 1-2 set v1 ?", "b 3-4 get = v1", "c 5-6 set v2"), b"v1", "no_acknowledged_write_lost"),
        (("a 1-9 set v1", "b 2-3 get = v1", "c 4-5 set v2"), b"v1", "no_acknowledged_write_lost"),
        (("a 1-2 set v1", "a 3-4 delete = True"), b"v1", "nothing_deleted_back"),
        (("a 1-2 set v1", "a 3-4 getdel = v1"), b"v1", "nothing_deleted_back"),
        (("a 1-2 set v1",), b"v9", "no_value_never_written"),
        (("a 1-2 set v1 !",), b"v1", "no_value_never_written"),
        (("a 1-2 cas v0 v1 = False",), b"v1", "no_value_never_written"),
        (("a 1-2 get = nothing",), b"v1", "no_value_never_written"),
    ],
)
def test_an_end_that_cannot_be_is_blamed_on_the_right_promise(
    lines: tuple[str, ...], end: bytes | None, check: str
) -> None:
    assert of_observations(told(*lines), {} if end is None else {KEY: end}) == {check: 1}


@pytest.mark.parametrize(
    ("lines", "check"),
    [
        (("a 1-2 set v1", "a 3-4 set v2", "b 5-6 get = v1"), "no_stale_read"),
        (("a 1-2 set v1", "b 3-4 get = nothing", "a 5-6 get = v1"), "no_stale_read"),
        (("a 1-2 set v1", "b 3-4 setnx v2 = True", "a 5-6 get = v2"), "no_stale_read"),
        (("a 1-2 set v1", "b 3-4 delete = False"), "no_stale_read"),
        (("a 1-2 set v1", "a 3-4 set v2", "b 5-6 cas v1 v3 = True"), "no_stale_read"),
        (("a 1-2 set v1", "a 3-4 delete = True", "b 5-6 get = v1", "c 7-8 set v2"), "nothing_deleted_back"),
        (("a 1-2 set v1", "b 3-4 get = v9"), "no_value_never_written"),
        (("b 1-2 get = v1", "a 3-4 set v1"), "no_value_never_written"),
        (("a 1-2 set v1 !", "b 3-4 get = v1"), "no_value_never_written"),
    ],
)
def test_a_read_of_what_was_not_there_is_blamed_on_the_right_promise(lines: tuple[str, ...], check: str) -> None:
    history = told(*lines)
    stored = [each.argument for each in history if each.outcome == "ok" and each.may_write and each.kind != "delete"]
    end = stored[-1] if stored else None
    assert of_observations(history, {KEY: end} if isinstance(end, bytes) else {}) == {check: 1}


def test_the_evidence_is_in_the_sentence() -> None:
    history = told("a 1-2 set v1", "b 3-4 set v2", "a 5-6 delete = True", "c 7-8 get = v2")
    (found,) = nothing_deleted_back(history, {})
    assert str(found) == (
        "k (slot 7629) held v2 for #3 c: get k -> v2 [7.000000-8.000000 s]; before that it was deleted by the "
        "acknowledged: #2 a: delete k -> True [5.000000-6.000000 s]"
    )
    assert [each.number for each in found.operations] == [2, 3]
    assert sentences(no_acknowledged_write_lost(told("a 1-2 set v1"), {})) == [
        "k (slot 7629) ends with nothing; before that it was overwritten by the acknowledged: "
        "#0 a: set k v1 -> ok [1.000000-2.000000 s]"
    ]
    assert sentences(no_value_never_written(told("a 1-2 set v1 !"), {KEY: b"v1", b"x": b"y"})) == [
        "k (slot 7629) ends with v1; who would have written it was told that it was not done: "
        "#0 a: set k v1 -> not done [1.000000-2.000000 s]",
        f"x (slot {slot(b'x')}) ends with y; no operation was about this key",
    ]


def test_many_violations_are_counted_and_some_are_told() -> None:
    history = told(*(f"a {n}-{n} key{n}:set v" for n in range(100)))
    found = no_acknowledged_write_lost(history, {})
    assert len(found) == VIOLATIONS_PER_CHECK_MAX + 1
    assert "100 violations in all" in str(found[-1])


# Counters.


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        (("a 1-2 incr 1 = 1", "b 3-4 incr 1 = 2"), 2),
        (("a 1-4 incr 1 = 2", "b 1-4 incr 1 = 1", "c 2-3 get = 1"), 2),
        (("a 1-2 incr 1 ?", "b 3-4 incr 1 = 1"), 1),
        (("a 1-2 incr 1 ?", "b 3-4 incr 1 = 1"), 2),
        (("a 1-2 incr 1 ?", "b 3-4 incr 1 = 2"), 2),
        (("a 1-2 incr 1 !", "b 3-4 incr 1 = 1"), 1),
        (("a 1-2 incr 5 = 5", "b 3-4 incr -3 = 2", "c 3-4 incr -3 ?"), -1),
        (("a 1-2 incr -1 = -1", "b 3-4 incr -2 = -3"), -3),
        (("a 1-2 incr 1 ?",), None),
        (("a 1-2 incr 1 = 1", "b 2-3 incr 1 = 2", "c 2-3 get = 0"), 2),
    ],
)
def test_a_counter_that_can_be_is_not_blamed(lines: tuple[str, ...], end: int | None) -> None:
    assert counters_exact(told(*lines), {} if end is None else {KEY: b"%d" % end}) == []


@pytest.mark.parametrize(
    ("lines", "end", "complaint"),
    [
        (("a 1-2 incr 1 = 1", "b 3-4 incr 1 = 2"), b"1", "it ends with 1; but by then it was from 2 to 2"),
        (("a 1-2 incr 1 = 1",), None, "it ends with 0; but by then it was from 1 to 1"),
        (("a 1-2 incr 1 = 1", "b 3-4 incr 1 ?"), b"3", "it ends with 3; but by then it was from 1 to 2"),
        (("a 1-2 incr 1 !", "b 3-4 incr 1 = 2"), b"2", "from 1 to 1: 0 acknowledged additions were over, and 1 had"),
        (("a 1-2 incr 1 = 1", "b 3-4 incr 1 ?", "c 3-4 incr 1 = 1"), b"2", "the number was given twice"),
        (("a 1-2 incr 1 ?", "b 3-4 incr 1 = 2", "c 5-6 get = 1"), b"2", "the second has not counted the first"),
        (("a 1-2 incr -1 ?", "b 3-4 incr -1 = -2", "c 5-6 get = -1"), b"-2", "the second has not counted the first"),
        (("a 1-2 incr 1 = 1", "b 3-4 get = 0"), b"1", "from 1 to 1"),
        (("a 1-2 incr -1 = -1", "b 3-4 incr 2 = 0"), b"1", "b: incr k 2 -> 0"),
        (("a 1-2 incr -1 = -1", "b 3-4 incr 2 = 1", "c 5-6 incr -5 = -5"), b"-4", "c: incr k -5 -> -5"),
        (("a 1-2 incr 1 = 1",), b"one", "it ends with None"),
        (("b 1-2 get = 1", "a 3-4 incr 1 = 1"), b"1", "from 0 to 0"),
    ],
)
def test_a_counter_that_cannot_be_is_blamed(lines: tuple[str, ...], end: bytes | None, complaint: str) -> None:
    found = counters_exact(told(*lines), {} if end is None else {KEY: end})
    assert any(complaint in sentence for sentence in sentences(found)), sentences(found)


def test_a_key_that_was_also_stored_is_no_counter() -> None:
    assert counters_exact(told("a 1-2 set 7", "a 3-4 incr 1 = 8"), {KEY: b"8"}) == []


# Versions, coordinators.


def stamped(history: History, *stamps: tuple[str, tuple[int, int]]) -> History:
    """The same with nodes and versions."""
    return History(
        replace(each, node=node, version=version) for each, (node, version) in zip(history, stamps, strict=True)
    )


def test_versions_of_a_slot_are_unique_and_ascend_in_real_time() -> None:
    three = told("a 1-2 set v1", "a 3-4 set v2", "b 3-4 {k}:set v3")
    assert versions_ascend(stamped(three, (ONE, (1, 1)), (ONE, (1, 3)), (ONE, (1, 2)))) == []
    (twice,) = versions_ascend(stamped(three, (ONE, (1, 1)), (ONE, (1, 3)), (TWO, (1, 3))))
    assert f"slot {K_SLOT}: two writes have the same version: #1 " in str(twice)
    (back,) = versions_ascend(stamped(three, (ONE, (2, 1)), (ONE, (2, 3)), (TWO, (1, 9))))
    assert [each.number for each in back.operations] == [0, 2]


def test_who_writes_in_an_epoch_does_so_alone() -> None:
    two = told("a 1-2 set v1", "a 3-4 set v2")
    assert one_coordinator(stamped(two, (ONE, (1, 1)), (TWO, (2, 1))), []) == []
    (found,) = one_coordinator(stamped(two, (ONE, (1, 1)), (TWO, (1, 2))), [])
    assert str(found).startswith(
        f"slot {K_SLOT} was written by two coordinators in epoch 1: #0 a: set k v1 -> ok at {ONE}"
    )


def tenure(node: str, epoch: int, *slots: tuple[int, int], incarnation: str = "i") -> Tenure:
    return Tenure(node=node, incarnation=incarnation, epoch=epoch, slots=tuple(Run(*each) for each in slots))


def test_tenures_of_one_epoch_do_not_overlap() -> None:
    apart = [tenure(ONE, 1, (0, 99)), tenure(TWO, 1, (100, 200)), tenure(TWO, 2, (0, 99)), tenure(ONE, 1, (0, 99))]
    assert one_coordinator(History(), apart) == []
    assert sentences(one_coordinator(History(), [*apart, tenure(THREE, 2, (5, 5), (300, 400))])) == [
        f"slots 5 have two coordinators in epoch 2: {TWO} (incarnation i) and {THREE} (incarnation i)"
    ]
    hidden = [tenure(ONE, 1, (0, 1000)), tenure(ONE, 1, (5, 6)), tenure(TWO, 1, (900, 2000))]
    (found,) = one_coordinator(History(), hidden)
    assert str(found).startswith("slots 900-1000 have two")
    assert len(one_coordinator(History(), [tenure(ONE, 1, (0, 9)), tenure(TWO, 1, (9, 20))])) == 1
    assert len(one_coordinator(History(), [tenure(ONE, 1, (7, 9)), tenure(ONE, 1, (7, 9), incarnation="j")])) == 1


# The state in the end.


def calm(ring: Ring, values: Mapping[bytes, bytes], **changed: Any) -> ClusterState:
    """Every member of the ring runs, serves what it coordinates and holds what it should; ``changed`` replaces fields
    of the node that is first on the circle."""
    nodes = []
    for node in ring.circle:
        own = {
            key: Held(value=value, version=(1, number))
            for number, (key, value) in enumerate(values.items())
            if node in ring.lists[slot(key)]
        }
        state = NodeState(
            id=node.id,
            incarnation=node.incarnation,
            epoch=ring.epoch,
            serving=ring.coordinated_by(node.id),
            records=own,
            numbers={slot(key): max(own[each].version for each in own if slot(each) == slot(key)) for key in own},
        )
        nodes.append(replace(state, **changed) if node is ring.circle[0] else state)
    return ClusterState(ring=ring, nodes=tuple(nodes))


VALUES = {b"key:%d" % number: b"v%d" % number for number in range(60)}
PAIRS = founded(3, replicas=2)
FIRST = PAIRS.circle[0]


def of_state(state: ClusterState) -> list[str]:
    found = [*copies_equal(state), *no_foreign_slots(state), *every_slot_served(state), *every_list_up(state)]
    return [f"{each.check}: {each}" for each in found]


@pytest.mark.parametrize("ring", [founded(1), founded(3), PAIRS, founded(5, replicas=3)], ids=str)
def test_a_calm_cluster_has_nothing_to_blame(ring: Ring) -> None:
    state = calm(ring, VALUES)
    assert of_state(state) == []
    assert dict(state.values) == VALUES


def test_a_copy_that_differs_is_named_with_both_records() -> None:
    whole = dict(calm(PAIRS, VALUES).nodes[0].records)
    key = min(whole)
    less = {name: held for name, held in whole.items() if name != key}
    (found,) = of_state(calm(PAIRS, VALUES, records=less))
    assert found.startswith(f"copies_equal: {key.decode()} (slot {slot(key)}): ")
    assert f"{FIRST.id} holds nothing" in found
    for other in (replace(whole[key], version=(9, 9)), replace(whole[key], value=b"x"), replace(whole[key], expiry=5)):
        (found,) = of_state(calm(PAIRS, VALUES, records={**whole, key: other}))
        assert f"{FIRST.id} holds {other.value.decode()} of version {other.version[0]}.{other.version[1]}" in found


def test_a_copy_that_numbers_a_slot_otherwise_is_named() -> None:
    numbers = dict(calm(PAIRS, VALUES).nodes[0].numbers)
    number = min(numbers)
    for other, words in (((9, 9), "at number 9.9"), (None, "unnumbered")):
        changed = {**numbers, number: other} if other else {each: numbers[each] for each in numbers if each != number}
        (found,) = of_state(calm(PAIRS, VALUES, numbers=changed))
        assert found.startswith(f"copies_equal: slot {number} is at ")
        assert f"at {FIRST.id} {words}" in found


def test_a_record_in_a_foreign_slot_is_named() -> None:
    whole = dict(calm(PAIRS, VALUES).nodes[0].records)
    foreign = next(key for key in VALUES if key not in whole)
    (found,) = of_state(calm(PAIRS, VALUES, records={**whole, foreign: Held(value=b"v", version=(1, 1))}))
    assert found == (
        f"no_foreign_slots: {FIRST.id} holds 1 keys in 1 slots that are not its own in ring 1, such as "
        f"{foreign.decode()} in slot {slot(foreign)}"
    )


def test_who_was_given_up_keeps_what_it_holds_until_it_is_a_member_again() -> None:
    life: dict[str, Any] = {"id": "127.0.0.1:7999", "incarnation": "9" * 16}
    whole = calm(PAIRS, VALUES)
    for given_up in (True, False):
        gone = replace(FIRST, **life, data_id="8" * 16, state="out", given_up=given_up)
        ring = replace(PAIRS, nodes=(*PAIRS.nodes, gone))
        kept = replace(whole.nodes[0], **life, serving=())
        found = no_foreign_slots(replace(whole, ring=ring, nodes=(*whole.nodes, kept)))
        assert bool(found) is not given_up


def test_a_slot_that_nobody_or_more_than_one_answers_for_is_named() -> None:
    (own,) = PAIRS.coordinated_by(FIRST.id)
    short = Run(own.first, own.last - 5)
    assert of_state(calm(PAIRS, VALUES, serving=(short,))) == [
        f"every_slot_served: slots {Run(own.last - 4, own.last)} have the coordinator {FIRST.id}, which does not "
        "answer for them (ring 1)"
    ]
    (found,) = of_state(calm(PAIRS, VALUES, serving=(own, Run(own.last + 1, own.last + 3))))
    assert found.startswith(f"every_slot_served: slots {Run(own.last + 1, own.last + 3)} are answered for by ")
    (found,) = of_state(calm(PAIRS, VALUES, epoch=7))
    assert found.endswith(f"have the coordinator {FIRST.id}, which obeys ring 7 (ring 1)")


def test_an_incarnation_of_the_past_does_not_count() -> None:
    assert sorted(of_state(calm(PAIRS, VALUES, incarnation="0" * 16))) == [
        f"every_list_up: {FIRST.id} is up in ring 1 as incarnation {FIRST.incarnation}, which does not run",
        f"every_slot_served: slots {PAIRS.coordinated_by(FIRST.id)[0]} have the coordinator {FIRST.id}, which does not "
        "run in the incarnation that the ring names (ring 1)",
    ]


def test_what_a_reader_would_get_is_what_the_incarnation_of_the_ring_holds() -> None:
    whole = calm(founded(1), {KEY: b"v1"})
    assert dict(whole.values) == {KEY: b"v1"}
    assert dict(calm(founded(1), {KEY: b"v1"}, incarnation="0" * 16).values) == {}


def test_members_that_are_not_up_are_named_and_so_are_slots_without_coordinator() -> None:
    ring = lost(founded(3), ONE)
    assert of_state(calm(ring, VALUES)) == [
        f"every_slot_served: slots {ring.slots_of(ONE)[0]} have no coordinator (ring 2)",
        f"every_list_up: {ONE} is down in ring 2",
    ]


def test_a_keeper_answers_for_its_list() -> None:
    ring = kept(1)
    (first,) = ring.slots_of(ring.circle[0].id)
    assert not [each for each in of_state(calm(ring, VALUES)) if f"slots {first}" in each]


# Power cuts.


@pytest.mark.parametrize(
    ("lines", "end", "checks"),
    [
        (("a 1-2 set v1", "a 8.9-9 set v2"), b"v1", set()),
        (("a 1-2 set v1", "a 8.9-9 set v2"), b"v2", set()),
        (("a 1-2 set v1", "a 8-8.5 set v2"), b"v1", {"no_acknowledged_write_lost", "linearizable"}),
        (("a 1-2 set v1", "a 8.9-9 set v2"), None, {"no_acknowledged_write_lost", "linearizable"}),
        (("a 1-2 set v1", "a 8.9-9 delete = True"), b"v1", set()),
        (("a 8.9-9 set v1", "b 9.1-9.2 get = v1"), None, set()),
        (("a 8.9-9 set v1", "b 9.1-9.2 get = v1", "b 11-12 get = nothing"), None, set()),
        (("a 8.9-9 set v1", "b 9.1-9.2 get = nothing"), b"v1", {"no_stale_read", "linearizable"}),
        (("a 8.9-9 set v1", "b 11-12 get = nothing", "b 13-14 get = v1"), b"v1", {"no_stale_read", "linearizable"}),
        (("a 8.9-9 set v1", "b 11-12 set v2"), b"v1", {"no_acknowledged_write_lost", "linearizable"}),
        (("a 8.9-9 set v1", "b 9.85-9.95 set v2 ?"), b"v2", set()),
        (("a 8.7-8.8 set v1", "a 8.9-9 getdel = v1", "b 11-12 get = v1", "b 13-14 delete = True"), None, set()),
        (("a 1-2 incr 1 = 1", "a 8.9-9 incr 1 = 2", "a 11-12 incr 1 = 2"), b"2", set()),
        (("a 1-2 incr 1 = 1", "a 8.9-9 incr 1 = 2", "a 11-12 incr 1 = 1"), b"1", {"counters_exact", "linearizable"}),
        (("a 8.9-9 set v1",), b"v9", {"no_value_never_written", "linearizable"}),
        (("a 1-2 append x; = 2", "a 8.9-9 append y; = 4", "a 11-12 append z; = 4"), b"x;z;", set()),
        (("a 8.9-9 append x; = 2", "b 9.1-9.2 append y; = 4"), b"x;y;", set()),
        (("a 8.9-9 append x; = 2", "b 9.1-9.2 append y; = 4"), b"y;x;", {"linearizable"}),
    ],
)
def test_a_power_cut_may_undo_the_last_of_what_was_acknowledged_and_nothing_else(
    lines: tuple[str, ...], end: bytes | None, checks: set[str]
) -> None:
    ring = founded(1)
    state = calm(ring, {} if end is None else {KEY: end})
    found = every_check(told(*lines), state, power_cuts=[9.9])
    assert {each.check for each in found} >= checks
    assert bool(found) == bool(checks)


# What may pass.


def fleeting(*lines: str, seconds: float) -> History:
    return History(
        replace(each, expires_seconds=seconds if each.kind == "set" else None) for each in told(*lines).operations
    )


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        (("a 1-2 set v", "a 3-4 get = v", "a 12.2-13 get = nothing"), None),
        (("a 1-2 set v", "b 12.1-13 get = v", "c 11-11.5 get = nothing", "b 12-12.05 get = v"), b"v"),
        (("a 1-2 set v", "b 1.5-13 get = nothing"), None),
        (("a 1-2 set v ?", "a 3-4 get = nothing", "a 30-31 get = v"), None),
        (("a 1-2 set v !", "a 3-4 get = nothing"), None),
    ],
)
def test_what_expires_in_time_by_any_clock_is_not_blamed(lines: tuple[str, ...], end: bytes | None) -> None:
    assert expired_in_time(fleeting(*lines, seconds=10.0), {} if end is None else {KEY: end}) == []


@pytest.mark.parametrize(
    ("lines", "end", "complaint"),
    [
        (("a 1-2 set v", "a 3-10.8 get = nothing"), None, "found nothing before it was to expire"),
        (("a 1-2 set v", "a 12.2-13 get = v"), None, "found it after it was to expire"),
        (("a 1-2 set v", "a 3-4 get = w"), None, "found what nobody had written"),
        (("a 1-2 set v !", "a 3-4 get = v"), None, "found what nobody had written"),
        (("a 1-2 set v !",), b"v", "ends with v"),
    ],
)
def test_what_expires_too_early_or_too_late_is_blamed(
    lines: tuple[str, ...], end: bytes | None, complaint: str
) -> None:
    (found,) = expired_in_time(fleeting(*lines, seconds=10.0), {} if end is None else {KEY: end})
    assert complaint in str(found)


def test_what_outlasts_the_story_is_there_in_the_end() -> None:
    (found,) = expired_in_time(fleeting("a 1-2 set v", seconds=3600.0), {})
    assert "ends with nothing" in str(found)


def test_a_read_that_may_lag_finds_what_was_written_by_then_and_nothing_else() -> None:
    state = calm(PAIRS, {KEY: b"v2"})

    def judged(*lines: str) -> set[str]:
        history = History(replace(each, stale=True if each.kind == "get" else None) for each in told(*lines).operations)
        return {each.check for each in every_check(history, state)}

    assert judged("a 1-2 set v1", "a 3-4 set v2", "b 5-6 get = v1", "b 7-8 get = nothing") == set()
    assert judged("a 1-2 set v1", "b 2-3 get = v2", "a 4-5 set v2") == {"no_value_never_written"}


# All of them.


def test_beyond_its_limits_linearizability_is_told_as_not_certain() -> None:
    history = told("a 1-2 set v1", "a 3-4 set v2", "a 5-6 x:get = nothing")
    assert linearizable(history, {KEY: b"v2"}) == []
    assert [each.certain for each in linearizable(history, {KEY: b"v1"})] == [True]
    (found,) = linearizable(history, operations_max=1)
    assert not found.certain
    assert "nobody knows" in str(found)


def test_every_check_is_among_all() -> None:
    first, second, third = calm(PAIRS, VALUES).nodes
    (own,) = first.serving
    foreign = next(key for key in VALUES if key not in first.records)
    first = replace(first, records={foreign: Held(value=b"v", version=(1, 1))}, serving=(Run(own.first, own.last - 1),))
    second = replace(second, incarnation="0" * 16)
    state = ClusterState(ring=PAIRS, nodes=(first, second, third))
    history = stamped(
        told(
            "a 1-2 n:incr 1 = 1",
            "b 1-2 n:incr 1 = 1",
            "a 3-4 set v1",
            "a 5-6 set v2",
            "a 7-8 get = v1",
            "a 9-10 delete = True",
            "b 11-12 get = v2",
            "b 13-14 set v3",
        ),
        (ONE, (1, 1)),
        (TWO, (1, 1)),
        *[(ONE, (1, number)) for number in range(2, 8)],
    )
    found = {each.check for each in every_check(history, state)}
    assert found == {
        "no_acknowledged_write_lost",
        "nothing_deleted_back",
        "no_stale_read",
        "no_value_never_written",
        "counters_exact",
        "versions_ascend",
        "one_coordinator",
        "copies_equal",
        "no_foreign_slots",
        "every_slot_served",
        "every_list_up",
        "linearizable",
    }
    lagging = {each.check for each in every_check(history, state, reads_at_successors=True)}
    assert found - lagging == {"no_stale_read", "linearizable"}


def end_of(history: History, data: st.DataObject) -> dict[bytes, bytes]:
    """A final value that a linearizable history can have: tried one by one."""
    possible: list[dict[bytes, bytes]] = [{}]
    possible += [{KEY: each.argument} for each in history if isinstance(each.argument, bytes)]
    possible += [{KEY: b"%d" % number} for number in range(70)] if any(each.kind == "incr" for each in history) else []
    fitting = [values for values in possible if not linearizable(history, values)]
    assert fitting
    return data.draw(st.sampled_from(fitting))


@given(st.sampled_from((REGISTER, COUNTER, ("get", "set", "delete"))).flatmap(ran), st.data())
def test_what_really_happened_is_blamed_for_nothing(history: History, data: st.DataObject) -> None:
    values = end_of(history, data)
    assert of_observations(history, values) == {}
    assert counters_exact(history, values) == []


@given(ran(("get", "get", "set", "set", "getset", "delete"), unique=False), st.data())
def test_what_really_happened_with_few_values_is_blamed_for_nothing(history: History, data: st.DataObject) -> None:
    assert of_observations(history, end_of(history, data)) == {}


@given(ran(("get", "set", "set", "delete")), st.data())
def test_an_end_that_was_overwritten_is_found(history: History, data: st.DataObject) -> None:
    first = history.invoke(client="z", kind="set", key=KEY, argument=b"first", at=1e5)
    history.complete(first, "ok", at=1e5 + 1)
    written = [each.argument for each in history if each.kind == "set" and each.outcome != "maybe"]
    last = history.invoke(client="z", kind="set", key=KEY, argument=b"last", at=1e6)
    history.complete(last, "ok", at=1e6 + 1)
    end = data.draw(st.sampled_from(written))
    assert isinstance(end, bytes)
    found = of_observations(history, {KEY: end})
    assert set(found) & {"no_acknowledged_write_lost", "no_value_never_written"}
    if not any(each.kind == "delete" and each.outcome == "maybe" for each in history):
        assert of_observations(history, {}) == {"no_acknowledged_write_lost": 1}
