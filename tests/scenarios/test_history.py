"""A history keeps the order in which it was told, and survives the trip through a file."""

import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.scenarios.history import KINDS, OUTCOMES, History, Operation


def test_an_operation_is_a_maybe_until_it_is_completed() -> None:
    history = History()
    number = history.invoke(client="a", kind="set", key=b"k", argument=b"v", at=1.0)
    assert history.operations[number].outcome == "maybe"
    assert history.operations[number].completed is None
    history.complete(number, "ok", at=1.5, node="127.0.0.1:7001", version=(3, 17))
    assert [str(each) for each in history] == [
        "#0 a: set k v -> ok at 127.0.0.1:7001, version 3.17 [1.000000-1.500000 s]"
    ]
    with pytest.raises(ValueError, match="completed twice: #0 a: set k v"):
        history.complete(number, "not", at=2.0)
    assert history.operations[number].outcome == "ok"


def test_events_of_one_moment_keep_the_order_in_which_they_were_told() -> None:
    history = History()
    for _ in range(3):
        number = history.invoke(client="a", kind="incr", key=b"n", argument=1, at=7.0)
        history.complete(number, "ok", at=7.0, value=number + 1)
    moments = [moment for each in history for moment in (each.invoked, each.completed) if moment is not None]
    assert len(moments) == 6
    assert moments == sorted(set(moments))
    assert all(moment == pytest.approx(7.0, abs=1e-12) for moment in moments)
    assert history.operations[history.invoke(client="b", kind="get", key=b"n", at=7.5)].invoked == 7.5


def test_a_thread_that_was_overtaken_keeps_the_earlier_time_that_it_read() -> None:
    history = History()
    history.invoke(client="a", kind="get", key=b"k", at=2.0)
    late = history.invoke(client="b", kind="get", key=b"k", at=1.0)
    assert history.operations[late].invoked == 1.0
    assert history.complete(late, "ok", at=1.0).completed == math.nextafter(1.0, 2.0)


def test_threads_that_tell_at_the_same_time_lose_nothing() -> None:
    history = History()

    def tell(client: str) -> None:
        for at in range(500):
            history.complete(history.invoke(client=client, kind="get", key=b"k", at=float(at)), "ok", at=float(at))

    threads = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.number for each in history] == list(range(2000))
    assert all(each.outcome == "ok" for each in history)


def test_operations_are_found_by_key_in_the_order_of_their_invocation() -> None:
    history = History()
    for key in (b"b", b"a", b"b"):
        history.invoke(client="a", kind="get", key=key, at=0.0)
    assert {key: [each.number for each in found] for key, found in history.by_key().items()} == {
        b"a": [1],
        b"b": [0, 2],
    }
    assert list(history.by_key()) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kind": "put"}, "kind 'put'"),
        ({"outcome": "yes", "completed": 2.0}, "ended 'yes'"),
        ({"outcome": "ok"}, "never completed"),
        ({"outcome": "not"}, "never completed"),
        ({"outcome": "ok", "completed": 0.5}, "before it was invoked"),
    ],
)
def test_an_operation_that_contradicts_itself_is_refused(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Operation(**{"number": 0, "client": "a", "kind": "get", "key": b"k", "invoked": 1.0, **fields})  # type: ignore[arg-type]


def test_a_history_reads_as_one_json_object_a_line() -> None:
    history = History()
    history.complete(
        history.invoke(client="a", kind="cas", key=b"k\xff", argument=b"\xc3\xa4", expected=b"v", at=1.0),
        "ok",
        at=1.25,
        value=True,
        node="127.0.0.1:7001",
        version=(3, 17),
    )
    history.invoke(client="b", kind="get", key=b"k", at=1.5)
    assert list(history.to_lines()) == [
        '{"client": "a", "kind": "cas", "key": {"base64": "a/8="}, "argument": "ä", "expected": "v", "invoked": 1.0,'
        ' "completed": 1.25, "outcome": "ok", "value": true, "node": "127.0.0.1:7001", "version": [3, 17]}',
        '{"client": "b", "kind": "get", "key": "k", "invoked": 1.5, "outcome": "maybe"}',
    ]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "7",
        '{"client": "a"}',
        '{"client": "a", "kind": "get", "key": "k", "invoked": 1, "mood": "good"}',
        '{"client": "a", "kind": "get", "key": {"base64": "?"}, "invoked": 1}',
        '{"client": "a", "kind": "get", "key": "k", "invoked": 1, "version": [1]}',
    ],
)
def test_a_line_that_is_no_operation_is_named(line: str) -> None:
    good = '{"client": "a", "kind": "get", "key": "k", "invoked": 1}'
    with pytest.raises(ValueError, match="line 3 of the history is no operation"):
        History.from_lines([good, "", line])


values = st.none() | st.booleans() | st.integers() | st.binary(max_size=6)


@st.composite
def any_operation(draw: st.DrawFn) -> Operation:
    invoked = draw(st.floats(0, 1e6))
    outcome = draw(st.sampled_from(sorted(OUTCOMES)))
    completed = draw(st.floats(invoked, 2e6))
    return Operation(
        number=0,
        client=draw(st.text(max_size=5)),
        kind=draw(st.sampled_from(sorted(KINDS))),
        key=draw(st.binary(max_size=6)),
        argument=draw(st.none() | st.integers() | st.binary(max_size=6)),
        expected=draw(st.none() | st.binary(max_size=6)),
        invoked=invoked,
        completed=draw(st.just(completed) | st.none()) if outcome == "maybe" else completed,
        outcome=outcome,  # type: ignore[arg-type]
        value=draw(values),
        node=draw(st.none() | st.text(max_size=5)),
        version=draw(st.none() | st.tuples(st.integers(0, 2**63), st.integers(0, 2**63))),
    )


@given(st.lists(any_operation(), max_size=8))
def test_what_is_read_equals_what_was_written(operations: list[Operation]) -> None:
    history = History(operations)
    again = History.from_lines(history.to_lines())
    assert again == history
    assert list(again.to_lines()) == list(history.to_lines())


def test_a_file_holds_a_history(tmp_path: Path) -> None:
    history = History()
    history.complete(history.invoke(client="a", kind="set", key=b"k", argument=b"two\nlines", at=0.1), "not", at=0.2)
    history.write(tmp_path / "history.jsonl")
    assert History.read(tmp_path / "history.jsonl") == history
