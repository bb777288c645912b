"""The judge of linearizability: histories with known verdicts, histories that really happened, histories gone wrong."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.scenarios.checks import nothing_deleted_back
from ringkeeper.scenarios.history import DELETES, History, Operation
from ringkeeper.scenarios.linearizability import IMPOSSIBLE, Verdict, judge, string
from ringkeeper.tests.scenarios.registers import COUNTER, KEY, any_history, is_linearizable, ran, told

LINEARIZABLE = {
    "nothing at all": (),
    "a read beside a write sees the old value": ("a 1-4 set v1", "b 2-3 get = nothing"),
    "a read beside a write sees the new value": ("a 1-4 set v1", "b 2-3 get = v1"),
    "writes beside each other in either order": ("a 1-4 set v1", "b 1-4 set v2", "a 5-6 get = v1"),
    "answers of one moment are simultaneous": ("a 1-2 set v1", "b 2-3 get = nothing"),
    "a maybe that happened at once": ("a 1-2 set v1 ?", "b 3-4 get = v1"),
    "a maybe that never happened": ("a 1-2 set v1 ?", "b 3-4 get = nothing"),
    "a maybe that happened long after": ("a 1-2 set v1 ?", "b 3-4 get = nothing", "b 5-6 set v2", "c 7-8 get = v1"),
    "a maybe that nobody ever completed": ("a 1- set v1 ?", "b 3-4 get = nothing", "c 7-8 get = v1"),
    "a maybe compare-and-set on what came later": (
        "a 1-2 cas v1 v2 ?",
        "b 3-4 set v1",
        "b 5-6 get = v1",
        "b 7-8 get = v2",
    ),
    "one of two simultaneous compare-and-sets": (
        "a 1-2 set v0",
        "a 3-6 cas v0 v1 = True",
        "b 3-6 cas v0 v2 = False",
        "a 7-8 get = v1",
    ),
    "compare-and-sets that follow each other": (
        "a 1-2 set v0",
        "a 3-6 cas v1 v2 = True",
        "b 3-6 cas v0 v1 = True",
        "a 7-8 get = v2",
    ),
    "a compare-and-set needs a value": ("a 1-2 cas v0 v1 = False", "a 3-4 get = nothing"),
    "one of two that find nothing there": ("a 1-4 setnx v1 = True", "b 1-4 setnx v2 = False", "c 5-6 get = v1"),
    "a delete beside a write, in either order": ("a 1-4 set v1", "b 1-4 delete = True", "a 5-6 get = nothing"),
    "a chain of maybes that only together explain a read": (
        "a 1-2 set v1 ?",
        "b 1-2 cas v1 v2 ?",
        "c 1-2 cas v2 v3 ?",
        "d 3-4 get = v3",
    ),
    "a maybe that two others would make up for": (
        "a 1-2 incr 1 ?",
        "b 1-2 incr 2 ?",
        "c 1-2 incr -1 ?",
        "d 3-4 get = 2",
        "d 5-6 get = 3",
        "d 7-8 get = 2",
    ),
    "two equal maybes that both happened": ("a 1-2 incr 1 ?", "b 1-2 incr 1 ?", "c 3-4 incr 1 = 3"),
    "simultaneous counting": ("a 1-9 incr 1 = 3", "b 1-9 incr 1 = 1", "c 1-9 incr 1 = 2", "a 10-11 get = 3"),
    "counting down from a value": ("a 1-2 set 10", "a 3-4 incr -3 = 7", "a 5-6 get = 7"),
    "appended pieces": ("a 1-4 append x = 2", "b 1-4 append y = 1", "a 5-6 get = yx", "a 7-8 strlen = 2"),
    "what was refused never was": ("a 1-2 set v1 !", "b 3-4 exists = False"),
    "setxx and getdel": ("a 1-2 setxx v1 = False", "a 3-4 set v2", "a 5-6 setxx v3 = True", "a 7-8 getdel = v3"),
}
NOT_LINEARIZABLE = {
    "a stale read": ("a 1-2 set v1", "a 3-4 set v2", "b 5-6 get = v1"),
    "a stale read of nothing": ("a 1-2 set v1", "b 3-4 get = nothing"),
    "a lost update": ("a 1-2 set 1", "a 3-6 incr 1 = 2", "b 3-6 incr 1 = 2"),
    "a number given twice": ("a 1-4 incr 1 = 1", "b 1-4 incr 1 = 1"),
    "a lost acknowledged write": ("a 1-2 set v1", "b 3-4 exists = False"),
    "a maybe that was observed and then gone": ("a 1-2 set v1 ?", "b 3-4 get = v1", "c 5-6 get = nothing"),
    "a maybe that took effect twice": (
        "a 1-2 set v1 ?",
        "b 3-4 get = v1",
        "b 5-6 set v2",
        "b 7-8 get = v1",
    ),
    "a maybe before it was invoked": ("b 1-2 get = v1", "a 3-4 set v1 ?"),
    "both simultaneous compare-and-sets": ("a 1-2 set v0", "a 3-6 cas v0 v1 = True", "b 3-6 cas v0 v2 = True"),
    "a compare-and-set that should have held": ("a 1-2 set v0", "a 3-4 cas v0 v1 = False"),
    "a delete that came back": ("a 1-2 set v1", "a 3-4 delete = True", "b 5-6 get = v1"),
    "two deletes of one value": ("a 1-2 set v1", "a 3-6 delete = True", "b 3-6 getdel = v1"),
    "a value that nobody wrote": ("a 1-2 set v1", "b 3-4 get = v9"),
    "what was refused and was there": ("a 1-2 set v1 !", "b 3-4 get = v1"),
    "two readers who disagree about the order": (
        "a 1-9 set v1",
        "b 1-9 set v2",
        "c 10-11 get = v1",
        "d 12-13 get = v2",
    ),
    "a read that goes back during a write": ("a 1-2 set v0", "a 3-9 set v1", "b 4-5 get = v1", "c 6-7 get = v0"),
    "an increment executed twice": ("a 1-2 incr 1 = 1", "b 3-4 incr 1 = 3"),
    "counting what is no number": ("a 1-2 set v1", "a 3-4 incr 1 = 1"),
    "a length that does not fit": ("a 1-2 append xy = 2", "a 3-4 append z = 2"),
    "nothing to exchange": ("a 1-2 set v1", "a 3-4 getset v2 = nothing"),
}


def verdict(history: History, **limits: Any) -> Verdict:
    return judge(history.operations, **limits)


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_linearizable_is(name: str) -> None:
    assert verdict(told(*LINEARIZABLE[name])).answer == "yes"


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_not_linearizable_is(name: str) -> None:
    found = verdict(told(*NOT_LINEARIZABLE[name]))
    assert found.answer == "no"
    assert found.unexplained is not None
    assert str(found.unexplained) in found.sentence


def test_the_verdict_names_what_no_order_explains_and_what_was_around_it() -> None:
    found = verdict(told("a 1-2 set v1", "a 3-4 set v2", "c 4-9 set v3", "b 5-6 get = v1", "a 7-8 get = v3"))
    assert found.sentence == (
        "k: no order of its 5 operations explains #3 b: get k -> v1 [5.000000-6.000000 s]: until then the key held v2, "
        "v3; before it: #0 a: set k v1 -> ok [1.000000-2.000000 s]; #1 a: set k v2 -> ok [3.000000-4.000000 s]; open: "
        "#2 c: set k v3 -> ok [4.000000-9.000000 s]"
    )
    assert [each.number for each in found.around] == [0, 1, 2]


def test_a_key_that_held_something_before_is_judged_from_there() -> None:
    history = told("a 1-2 get = v0", "a 3-4 set v1", "a 5-6 get = v1")
    assert verdict(history, initial=b"v0").answer == "yes"
    assert verdict(history).answer == "no"


def test_a_model_may_be_anybodys() -> None:
    def set_of_letters(operation: Operation) -> Any:
        argument = operation.argument
        if operation.kind == "append":
            return lambda state: state | {argument}
        return lambda state: state if (argument in state) == operation.value else IMPOSSIBLE

    def asks(member: bytes, answer: bool) -> Operation:
        return Operation(
            number=9,
            client="c",
            kind="exists",
            key=KEY,
            argument=member,
            invoked=9,
            completed=9.5,
            outcome="ok",
            value=answer,
        )

    two = told("a 1-4 append x = 0", "b 1-4 append y = 0").operations
    assert judge([*two, asks(b"y", True)], initial=frozenset(), model=set_of_letters).answer == "yes"
    assert judge([*two, asks(b"y", False)], initial=frozenset(), model=set_of_letters).answer == "no"


def test_one_key_is_judged_at_a_time() -> None:
    with pytest.raises(ValueError, match="have 2"):
        verdict(told("a 1-2 x:set v1", "a 3-4 y:set v1"))


def test_beyond_the_limits_the_verdict_is_unknown_and_no_kind_of_ok() -> None:
    hard = told(*(f"{n} 1-99 append {n}" for n in range(6)), "z 100-101 get = no")
    found = verdict(hard, places_max=50)
    assert found.answer == "unknown"
    assert "at 51 places" in found.sentence
    assert verdict(hard, steps_max=50).answer == "unknown"
    assert verdict(hard, operations_max=6).answer == "unknown"
    assert verdict(hard).answer == "no"


def test_many_maybes_that_explain_nothing_cost_little() -> None:
    maybes = [f"m{n} 0-1 set w{n} ?" for n in range(300)]
    found = verdict(told(*maybes, "a 2-3 set v1", "b 4-5 get = v9"))
    assert found.answer == "no"
    assert found.places < 1000


def test_many_equal_maybes_are_one_question_each() -> None:
    maybes = [f"m{n} 0-1 incr 1 ?" for n in range(60)]
    found = verdict(told(*maybes, "a 2-3 incr 1 = 31", "a 4-5 incr 1 = 62", "b 6-7 get = 61"))
    assert found.answer == "no"
    assert found.places < 1000
    assert verdict(told(*maybes, "a 2-3 incr 1 = 31", "a 4-5 incr 1 = 62", "b 6-7 get = 62")).answer == "yes"


def crowd(clients: int, rounds: int) -> History:
    """Clients who all write the same key at the same time, and read and delete it, again and again: it takes effect in
    the opposite order of the invocations."""
    lines, value = [], "nothing"
    for round in range(rounds):
        at = 1000 * round
        for client in range(clients):
            lines.append(f"w{client} {at + client}-{at + 500 + client} set v{round}.{client}")
        lines.append(f"d {at + 450}-{at + 700} delete = True")
        value = f"v{round}.0" if round % 2 else "nothing"
        lines.append(f"r {at + 800}-{at + 801} get = {value}")
    return told(*lines)


def test_dozens_who_write_at_the_same_time_are_judged_at_once() -> None:
    found = verdict(crowd(40, 25))
    assert found.answer == "yes"
    assert found.places < 3000


@pytest.mark.parametrize(("clients", "answer"), [(6, "no"), (40, "unknown")])
def test_a_wrong_answer_in_a_crowd_is_never_ok(clients: int, answer: str) -> None:
    """To refute every order of dozens of writes is beyond any limit; `nothing_deleted_back` sees at once what it is."""
    history = crowd(clients, 5)
    last = next(each for each in history if each.kind == "get" and each.value == b"v3.0")
    history.operations[last.number] = replace(last, value=b"v1.1")
    found = verdict(history, places_max=20_000)
    assert found.answer == answer
    assert answer == "unknown" or found.unexplained == history.operations[last.number]
    assert len(nothing_deleted_back(history, {})) == 1


def test_a_value_that_can_come_back_has_no_zone() -> None:
    assert (
        verdict(told("a 1-2 get = v0", "a 3-4 set v1", "a 5-6 set v0", "b 7-8 get = v0"), initial=b"v0").answer == "yes"
    )
    pieces = ("a 1-2 set xy", "b 3-4 get = xy", "a 5-6 set x", "a 7-8 append y = 2", "b 9-10 get = xy")
    assert verdict(told(*pieces)).answer == "yes"
    counted = ("a 1-2 set 5", "b 3-4 get = 5", "a 5-6 set 4", "a 7-8 incr 1 ?", "b 9-10 get = 5")
    assert verdict(told(*counted)).answer == "yes"


def test_a_long_quiet_history_takes_one_place_per_write() -> None:
    lines = [
        line
        for n in range(5000)
        for line in (f"a {4 * n}-{4 * n + 1} set v{n}", f"b {4 * n + 2}-{4 * n + 3} get = v{n}")
    ]
    found = verdict(told(*lines))
    assert (found.answer, found.places) == ("yes", 5000)


@given(any_history())
@settings(max_examples=500)
def test_the_search_agrees_with_trying_every_order(history: History) -> None:
    assert verdict(history).answer == ("yes" if is_linearizable(history) else "no")


@pytest.mark.parametrize("unique", [False, True])
@given(data=st.data())
@settings(max_examples=200)
def test_the_search_agrees_with_trying_every_order_of_what_nearly_happened(unique: bool, data: st.DataObject) -> None:
    """One answer is exchanged for another, so that right and wrong are both frequent."""
    kinds = ("get", "get", "getset", "set", "cas", "delete")
    history = data.draw(ran(kinds, operations_max=5, clients=3, unique=unique))
    answered = [each for each in history if each.outcome == "ok" and each.kind in ("get", "getset")]
    if answered:
        changed = data.draw(st.sampled_from(answered))
        written = {each.argument for each in history if isinstance(each.argument, bytes)}
        another = replace(changed, value=data.draw(st.sampled_from([*sorted(written), None])))
        history.operations[changed.number] = another
    assert verdict(history).answer == ("yes" if is_linearizable(history) else "no")


@given(ran())
def test_what_a_register_really_did_is_linearizable(history: History) -> None:
    assert verdict(history).answer == "yes"


@given(ran(COUNTER, operations_max=40))
def test_what_a_counter_really_did_is_linearizable(history: History) -> None:
    assert verdict(history).answer == "yes"


@given(ran(("append", "append", "get", "strlen", "delete"), operations_max=15))
def test_what_was_really_appended_is_linearizable(history: History) -> None:
    assert verdict(history).answer == "yes"


# Broken by construction: each of these takes a history that happened and adds or changes what cannot have.


def then(history: History, kind: str, argument: bytes | int | None = None, value: Any = None) -> Operation:
    """One more operation, alone, after all that were answered."""
    end = 1 + max((each.completed or each.invoked for each in history), default=0.0)
    number = history.invoke(client="z", kind=kind, key=KEY, argument=argument, at=end)  # type: ignore[arg-type]
    return history.complete(number, "ok", at=end + 1, value=value)


@given(ran())
def test_a_read_of_what_nobody_wrote_is_found(history: History) -> None:
    then(history, "get", value=b"out of the air")
    assert verdict(history).answer == "no"


@given(ran(maybes=False), st.data())
def test_a_stale_read_is_found(history: History, data: st.DataObject) -> None:
    written = sorted({each.argument for each in history if isinstance(each.argument, bytes)})
    then(history, "set", b"last")
    stale = data.draw(st.sampled_from([*written, None]))
    then(history, "get", value=stale)
    found = verdict(history)
    assert found.answer == "no"
    assert found.unexplained == history.operations[-1]


@given(ran(maybes=False))
def test_a_maybe_that_was_observed_and_then_gone_is_found(history: History) -> None:
    end = 1 + max((each.completed or each.invoked for each in history), default=0.0)
    history.invoke(client="y", kind="set", key=KEY, argument=b"late", at=end)
    then(history, "get", value=b"late")
    then(history, "set", b"last")
    assert verdict(history).answer == "yes"
    then(history, "get", value=b"late")
    assert verdict(history).answer == "no"


@given(ran(COUNTER, operations_max=20), st.data())
def test_a_number_given_twice_is_found(history: History, data: st.DataObject) -> None:
    counted = [each for each in history if each.kind == "incr" and each.outcome == "ok"]
    if not counted:
        return
    twin = data.draw(st.sampled_from(counted))
    assert isinstance(twin.argument, int)
    number = history.invoke(client="z", kind="incr", key=KEY, argument=twin.argument, at=1e6)
    history.operations[number] = replace(twin, number=number, client="z")
    assert verdict(history).answer == "no"


@given(ran(maybes=False), st.data())
def test_an_answer_from_before_the_write_before_it_is_found(history: History, data: st.DataObject) -> None:
    """Somewhere in the middle, in a gap where nothing is open: values are unique, so a value cannot come back."""
    then(history, "set", b"one at least")
    first = min(each.invoked for each in history if isinstance(each.argument, bytes))
    at = data.draw(st.sampled_from(sorted(moment for moment in _quiet_moments(history) if moment > first)))
    before = [each.argument for each in history if each.invoked < at and isinstance(each.argument, bytes)]
    extra = [
        Operation(number=0, client="z", kind="set", key=KEY, argument=b"new", invoked=at, completed=at, outcome="ok"),
        Operation(
            number=0,
            client="z",
            kind="get",
            key=KEY,
            invoked=at + 0.1,
            completed=at + 0.1,
            outcome="ok",
            value=before[-1],
        ),
    ]
    assert judge([*history, *extra]).answer == "no"


def _quiet_moments(history: History) -> Iterator[float]:
    """Halves between events at which nothing is open."""
    moments = {0.5, *(each.completed + 0.5 for each in history if each.completed is not None)}
    for moment in moments:
        spans = ((each.invoked - 0.2, (each.completed or each.invoked) + 0.2) for each in history)
        if not any(first < moment < last for first, last in spans):
            yield moment


def test_deletes_and_steps_of_the_model_are_what_the_kinds_say() -> None:
    (gone,) = told("a 1-2 getdel ?")
    assert gone.kind in DELETES
    assert string(gone)(b"v") is None
