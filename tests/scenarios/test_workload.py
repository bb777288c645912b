"""What clients ask: every value once, of keys that it fits; and their answers in the words of a history."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.commands import COMMANDS, find
from ringkeeper.actors.rules.slots import slot
from ringkeeper.scenarios.history import CONDITIONAL, KINDS
from ringkeeper.scenarios.workload import HEAVY_BYTES, HEAVY_KEYS, MIXES, Keys, Manner, Task, Workload


def workload(seed: int, mix: str = "mixed", client: str = "client-1") -> Workload:
    keys = Keys.drawn(random.Random(seed), 12)
    return Workload(client, random.Random(f"{seed} {client}"), keys, MIXES[mix])


@given(st.integers(), st.sampled_from(sorted(MIXES)))
def test_every_command_is_one_that_the_cluster_knows_for_this_key(seed: int, mix: str) -> None:
    asked = workload(seed, mix)
    for _ in range(50):
        task = asked.next()
        words = [word if isinstance(word, bytes) else str(word).encode() for word in task.words]
        command = find(COMMANDS, words[0])
        assert command is not None and command.keys(words) == [task.key]
        assert command.writes == (task.kind not in ("get", "exists", "strlen"))


@given(st.integers())
def test_no_value_is_stored_twice_whoever_stores_it(seed: int) -> None:
    clients = [workload(seed, client=f"client-{number}") for number in range(3)]
    stored = [task.argument for asked in clients for _ in range(50) if type((task := asked.next()).argument) is bytes]
    assert len(stored) == len(set(stored))


@given(st.integers())
def test_what_is_counted_is_only_counted_and_what_is_appended_to_only_appended_to(seed: int) -> None:
    asked = workload(seed)
    for _ in range(100):
        task = asked.next()
        what = task.key.partition(b":")[0]
        assert task.kind != "incr" or what == b"counter"
        assert task.kind != "append" or what == b"text"
        assert task.kind in ("incr", "append", "get", "exists", "strlen") or what == b"key"


def test_a_mix_asks_for_all_its_kinds_and_all_kinds_are_in_the_large_one() -> None:
    asked = workload(1)
    assert {asked.next().kind for _ in range(1000)} == set(MIXES["mixed"]) == KINDS


@pytest.mark.parametrize("manner", ["fleeting", "hasty"])
def test_what_may_pass_is_written_once_in_the_slots_of_registers_and_read_for_a_while(manner: Manner) -> None:
    keys = Keys.drawn(random.Random(1), 12)
    asked = Workload("client-1", random.Random(2), keys, MIXES["get"], manner)
    tasks = [asked.next() for _ in range(100)]
    written = [task for task in tasks if task.kind == "set"]
    assert len({task.key for task in written}) == len(written)
    assert {slot(task.key) for task in tasks} <= {slot(key) for key in keys.registers}
    assert {task.key for task in tasks if task.kind == "get"} <= {task.key for task in written}
    assert all((task.expires_seconds is not None) == (manner == "fleeting") for task in written)
    assert all((b"PX" in map(_bytes, task.words)) == (manner == "fleeting") for task in written)


def _bytes(word: bytes | str | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def test_a_comparison_expects_what_was_seen_last() -> None:
    asked = workload(1)
    key = b"key:0-123456"
    asked.heard(Task(kind="get", key=key), b"old")
    assert asked._seen[key] == b"old"
    asked.heard(Task(kind="cas", key=key, argument=b"refused", expected=b"x"), False)
    assert asked._seen[key] == b"old"
    asked.heard(Task(kind="set", key=key, argument=b"new"), None)
    assert asked._seen[key] == b"new"


def test_replies_become_values() -> None:
    def value_of(kind: object, reply: object) -> object:
        return Task(kind=kind, key=b"k").value_of(reply)  # type: ignore[arg-type]

    assert value_of("get", b"v") == b"v" and value_of("get", None) is None
    assert value_of("set", b"OK") is None
    assert value_of("incr", 7) == 7
    for kind in CONDITIONAL - {"setnx"}:
        assert (value_of(kind, b"OK"), value_of(kind, None)) == (True, False)
    assert (value_of("setnx", 1), value_of("delete", 0)) == (True, False)


def test_what_is_heavy_is_written_once_each_and_then_again_or_read() -> None:
    keys = Keys.drawn(random.Random(1), 12)
    asked = Workload("client-1", random.Random(2), keys, MIXES["get"], "heavy")
    tasks = [asked.next() for _ in range(60)]
    assert len({task.key for task in tasks[:HEAVY_KEYS] if task.kind == "set"}) == HEAVY_KEYS
    assert len({task.key for task in tasks}) == HEAVY_KEYS and {task.kind for task in tasks} == {"get", "set"}
    assert {slot(task.key) for task in tasks} <= {slot(key) for key in keys.registers}
    assert all(len(task.argument) > HEAVY_BYTES for task in tasks if isinstance(task.argument, bytes))
