"""Makes histories for tests: by hand in a few words, by really running a register, and any at all."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from ringkeeper.scenarios.history import History, Operation
from ringkeeper.scenarios.linearizability import IMPOSSIBLE, string

KEY = b"k"


def told(*lines: str) -> History:
    """A history from lines such as ``a 1-3 set v1``: client, times, kind, arguments, and what came of it.

    ``= value`` is what the answer said (a number, True, False, nothing, or bytes), ``?`` a maybe, ``!`` not done; else
    it is ok. Times without an end: never completed. A key other than KEY stands before the kind, as ``x:set``.
    """
    return History([_told(number, line.split()) for number, line in enumerate(lines)])


def _told(number: int, words: list[str]) -> Operation:
    client, times, kind, *rest = words
    key, _, kind = kind.rpartition(":")
    invoked, _, completed = times.partition("-")
    fields: dict[str, Any] = {"outcome": "ok"}
    if rest and rest[-1] in ("?", "!"):
        fields["outcome"] = "maybe" if rest.pop() == "?" else "not"
    elif len(rest) > 1 and rest[-2] == "=":
        answer = rest.pop()
        rest.pop()
        plain = {"nothing": None, "True": True, "False": False}
        is_number = kind in ("incr", "append", "strlen")
        fields["value"] = int(answer) if is_number else plain[answer] if answer in plain else answer.encode()
    if kind == "cas":
        fields["expected"] = rest.pop(0).encode()
    if rest:
        fields["argument"] = int(rest[0]) if kind == "incr" else rest[0].encode()
    return Operation(
        number=number,
        client=client,
        kind=kind,  # type: ignore[arg-type]
        key=key.encode() or KEY,
        invoked=float(invoked),
        completed=float(completed) if completed else None,
        **fields,
    )


Effect = Callable[[Any], tuple[Any, Any]]
"""From the value before to the value after and the answer."""


def effect(kind: str, argument: Any, expected: bytes | None) -> Effect:
    """What the register really does: written apart from the model that is tested with it."""

    def apply(before: Any) -> tuple[Any, Any]:
        if kind == "get":
            return before, before
        if kind == "exists":
            return before, before is not None
        if kind == "strlen":
            return before, len(before or b"")
        if kind == "set":
            return argument, None
        if kind == "getset":
            return argument, before
        if kind == "delete":
            return None, before is not None
        if kind == "getdel":
            return None, before
        if kind == "append":
            return (before or b"") + argument, len(before or b"") + len(argument)
        if kind == "incr":
            total = int(before or 0) + argument
            return str(total).encode(), total
        holds = {"setnx": before is None, "setxx": before is not None, "cas": before == expected}[kind]
        return (argument if holds else before), holds

    return apply


REGISTER = ("get", "get", "set", "set", "setnx", "setxx", "cas", "getset", "delete", "getdel", "exists", "strlen")
COUNTER = ("incr", "incr", "get")


@st.composite
def ran(
    draw: st.DrawFn,
    kinds: Sequence[str] = REGISTER,
    *,
    operations_max: int = 25,
    clients: int = 4,
    unique: bool = True,
    maybes: bool = True,
) -> History:
    """A history of one key that a register really had: each operation takes effect at one moment between invocation and
    answer; a maybe at some moment after its invocation, or never; one that was not done never. Without ``maybes`` all
    are answered.

    Time is counted in events. A client that got a maybe comes back under another name, as one that is not waiting.
    """
    history = History()
    value: Any = None
    waiting: dict[int, tuple[int, Effect, bool, Any]] = {}  # client -> number, effect, whether it happened, answer
    later: list[Effect] = []
    names = list(range(clients))
    at = 0.0
    for count in range(draw(st.integers(1, operations_max * 3))):
        at += draw(st.sampled_from((0.0, 1.0)))
        client = draw(st.sampled_from(names))
        if later and draw(st.integers(0, 3)) == 0:
            value, _ = later.pop()(value)
            continue
        if client not in waiting:
            kind = draw(st.sampled_from(kinds))
            argument: Any = None
            if kind == "incr":
                argument = draw(st.sampled_from((1, 1, 2)))
            elif kind in ("set", "setnx", "setxx", "cas", "getset", "append"):
                argument = f"v{count}".encode() if unique else draw(st.sampled_from((b"a", b"b")))
            expected = draw(st.sampled_from((value or b"a", b"b"))) if kind == "cas" else None
            number = history.invoke(
                client=str(client),
                kind=kind,  # type: ignore[arg-type]
                key=KEY,
                argument=argument,
                expected=expected,
                at=at,
            )
            waiting[client] = number, effect(kind, argument, expected), False, None
            continue
        number, apply, happened, answer = waiting[client]
        if not happened and draw(st.booleans()):
            value, answer = apply(value)
            waiting[client] = number, apply, True, answer
            continue
        del waiting[client]
        if happened and not (maybes and draw(st.integers(0, 5)) == 0):
            history.complete(number, "ok", at=at, value=answer)
        elif happened or (maybes and draw(st.booleans())):
            if draw(st.booleans()):
                history.complete(number, "maybe", at=at)
            names[names.index(client)] = max(names) + 1
            if not happened:
                later.append(apply)
        else:
            history.complete(number, "not", at=at)
    for number, _, happened, answer in waiting.values() if not maybes else ():
        history.complete(number, "ok" if happened else "not", at=at + 1, value=answer)
    return history


@st.composite
def any_history(draw: st.DrawFn, operations_max: int = 6) -> History:
    """Operations with answers out of the air: few values, many overlaps, mostly wrong."""
    operations = []
    for number in range(draw(st.integers(0, operations_max))):
        kind = draw(
            st.sampled_from(("get", "get", "set", "cas", "setnx", "setxx", "delete", "getset", "getdel", "incr"))
        )
        outcome = draw(st.sampled_from(("ok", "ok", "ok", "maybe", "not")))
        words = st.sampled_from((b"1", b"2"))
        invoked = draw(st.integers(0, 12))
        answer: Any = None
        if kind in ("get", "getset", "getdel"):
            answer = draw(words | st.none())
        elif kind in ("cas", "setnx", "setxx", "delete"):
            answer = draw(st.booleans())
        elif kind == "incr":
            answer = draw(st.integers(1, 3))
        operations.append(
            Operation(
                number=number,
                client=str(number),
                kind=kind,  # type: ignore[arg-type]
                key=KEY,
                argument=1
                if kind == "incr"
                else draw(words)
                if kind in ("set", "cas", "setnx", "setxx", "getset")
                else None,
                expected=draw(words) if kind == "cas" else None,
                invoked=invoked,
                completed=invoked + draw(st.integers(0, 6)),
                outcome=outcome,  # type: ignore[arg-type]
                value=answer if outcome == "ok" else None,
            )
        )
    return History(operations)


def is_linearizable(history: History) -> bool:
    """By trying every order of every choice of the maybes. Only for very few operations."""
    must = [each for each in history if each.outcome == "ok"]
    maybe = [each for each in history if each.outcome == "maybe" and each.may_write]

    def goes_on(left: frozenset[int], value: Any) -> bool:
        if all(number not in left for number in (each.number for each in must)):
            return True
        for each in (*must, *maybe):
            if each.number not in left:
                continue
            others = [other for other in must if other.number in left and other is not each]
            if any(other.completed is not None and other.completed < each.invoked for other in others):
                continue
            after = string(each)(value)
            if after is not IMPOSSIBLE and goes_on(left - {each.number}, after):
                return True
        return False

    return goes_on(frozenset(each.number for each in (*must, *maybe)), None)
