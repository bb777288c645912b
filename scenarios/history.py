"""Keeps what clients did to a cluster and what they heard of it: one operation a line, in an order that can be trusted.

A workload tells a `History` of each operation twice: before it sends the command (`invoke`) and when it knows what came
of it (`complete`). What became of an operation is one of three things, and the checks live by the difference:

    ok      it took effect, once, at some moment between invoked and completed
    not     it never took effect and never will (the client's `NotDone` and `CommandError`)
    maybe   it took effect once at any moment after invoked, it will, or it never does (`InDoubt`); so does whatever is
            not completed

**Times carry the order.** They are seconds of one clock that never goes back; virtual or real. Two events that are told
in order and have the same time, as happens when time is virtual, would look simultaneous to whoever sorts by time: the
second is set later by the smallest step that a float can take. So whatever was completed before another was invoked has
the smaller time. Events with equal times in a history from elsewhere count as simultaneous.

One operation has one key: a workload that sends MGET, MSET or DEL of many tells of each key by itself. FLUSHALL has no
place here yet. A key that is given an expiry is written once; it is judged by a check of its own.

`checks.py` judges a history, `linearizability.py` does so for the strictest of promises.
"""

import base64
import json
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..actors.client_requests import as_text

Kind = Literal[
    "get",  #       value: the bytes, or None when there is no value
    "exists",  #    value: whether there is one
    "strlen",  #    value: its length in bytes
    "set",  #       argument: the bytes to store
    "setnx",  #     argument; value: whether it was stored, which needs that there was no value
    "setxx",  #     argument; value: whether it was stored, which needs that there was one
    "cas",  #       expected, argument; value: whether it was stored, which needs the expected value (SET IFEQ)
    "getset",  #    argument; value: the bytes before, or None
    "delete",  #    value: whether there was something to delete
    "getdel",  #    value: the bytes before, or None
    "append",  #    argument: the bytes to add; value: the length afterwards
    "incr",  #      argument: the number to add; value: the sum (DECR adds less than 0)
]
"""What an operation does; beside each, which fields it uses and what its ``value`` is when it is ok."""
KINDS: frozenset[str] = frozenset(get_args(Kind))
READS = frozenset({"get", "exists", "strlen"})
"""Kinds that change nothing."""
DELETES = frozenset({"delete", "getdel"})
CONDITIONAL = frozenset({"setnx", "setxx", "cas"})

Outcome = Literal["ok", "not", "maybe"]
OUTCOMES: frozenset[str] = frozenset(get_args(Outcome))

Value = bytes | int | bool | None
Version = tuple[int, int]
"""Epoch and seq, as a coordinator stamps a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One command for one key. Raises ValueError when its fields contradict each other."""

    number: int
    """Its place in the history, in the order in which operations were invoked."""
    client: str
    kind: Kind
    key: bytes
    argument: bytes | int | None = None
    expected: bytes | None = None
    invoked: float
    completed: float | None = None
    """When the client knew the outcome; None: it never did. After a maybe the operation may still take effect."""
    outcome: Outcome = "maybe"
    value: Value = None
    """What the answer said, if ok."""
    node: str | None = None
    """Who answered, if somebody did and the client knows."""
    version: Version | None = None
    """What the write was stamped with, where that is known."""
    expires_seconds: float | None = None
    """To a set: so long after it the key expires."""
    stale: bool | None = None
    """To a read: it was allowed to lag (READONLY)."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"operation {self.number} is of the kind {self.kind!r}, which is none of {sorted(KINDS)}")
        if self.outcome not in OUTCOMES:
            raise ValueError(f"operation {self.number} ended {self.outcome!r}, which is none of {sorted(OUTCOMES)}")
        if self.completed is None and self.outcome != "maybe":
            raise ValueError(f"operation {self.number} is {self.outcome}, but it was never completed")
        if self.completed is not None and not self.invoked <= self.completed:
            raise ValueError(f"operation {self.number} was completed at {self.completed}, before it was invoked")

    @property
    def may_write(self) -> bool:
        """Whether it changed the key or may have: no read, not refused, no condition that did not hold, and something
        to delete."""
        if self.outcome == "not" or self.kind in READS:
            return False
        if self.outcome == "maybe":
            return True
        found_nothing = self.kind == "getdel" and self.value is None
        return not found_nothing and not (self.value is False and self.kind in CONDITIONAL | {"delete"})

    @property
    def written(self) -> bytes | None:
        """The value that is there when it has taken effect; None: there is none. Raises ValueError when nobody knows,
        as after APPEND or an INCR that was not answered. Ask only what ``may_write``."""
        if self.kind in DELETES:
            return None
        if self.kind == "incr" and self.outcome == "ok":
            return str(self.value).encode()
        if self.kind in ("append", "incr") or not isinstance(self.argument, bytes):
            raise ValueError(f"nobody knows the value after {self}")
        return self.argument

    @property
    def found(self) -> tuple[bytes | None] | None:
        """The value that its answer proves to have been there, in a tuple; None when it proves none."""
        if self.outcome != "ok":
            return None
        match self.kind:
            case "get" | "getset" | "getdel" if self.value is None or isinstance(self.value, bytes):
                return (self.value,)
            case "cas" if self.value:
                return (self.expected,)
            case "setnx" if self.value:
                return (None,)
            case "delete" | "setxx" | "exists" if not self.value:
                return (None,)
            case _:
                return None

    def __str__(self) -> str:
        """``#12 b: cas k from v1 to v2 -> True at 127.0.0.1:7001, version 3.17 [1.002000-1.004500 s]``."""
        words = [f"#{self.number} {self.client}: {self.kind} {as_text(self.key)}"]
        if self.kind == "cas":
            words.append(f"from {shown(self.expected)} to")
        if self.argument is not None:
            words.append(shown(self.argument))
        if self.outcome == "ok":
            words.append("-> ok" if self.kind == "set" else f"-> {shown(self.value)}")
        else:
            words.append("-> not done" if self.outcome == "not" else "-> maybe")
        if self.node is not None:
            words.append(f"at {self.node}")
        text = " ".join(words)
        if self.version is not None:
            text += ", version {}.{}".format(*self.version)
        return f"{text} [{self.invoked:.6f}-{'' if self.completed is None else format(self.completed, '.6f')} s]"


def shown(value: Value) -> str:
    """A value as sentences say it: short; ``nothing`` for None."""
    if value is None:
        return "nothing"
    return as_text(value) if isinstance(value, bytes) else str(value)


class History:
    """The operations of one run, by number. Safe for threads."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        """Of operations from elsewhere: they are numbered anew, in the order of their invocation."""
        by_time = sorted(operations, key=lambda operation: (operation.invoked, operation.number))
        self.operations = [
            operation if operation.number == number else replace(operation, number=number)
            for number, operation in enumerate(by_time)
        ]
        self._lock = threading.Lock()
        self._told = self._set = max(
            (max(each.invoked, each.completed or each.invoked) for each in self.operations), default=-math.inf
        )

    def __len__(self) -> int:
        return len(self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.operations == other.operations

    __hash__ = None  # type: ignore[assignment]  # it changes

    def invoke(
        self,
        *,
        client: str,
        kind: Kind,
        key: bytes,
        argument: bytes | int | None = None,
        expected: bytes | None = None,
        expires_seconds: float | None = None,
        stale: bool | None = None,
        at: float,
    ) -> int:
        """A client is about to send a command; returns the operation's number. It is a maybe until completed."""
        with self._lock:
            number = len(self.operations)
            self.operations.append(
                Operation(
                    number=number,
                    client=client,
                    kind=kind,
                    key=key,
                    argument=argument,
                    expected=expected,
                    expires_seconds=expires_seconds,
                    stale=stale,
                    invoked=self._moment(at),
                )
            )
        return number

    def complete(
        self,
        number: int,
        outcome: Outcome,
        *,
        at: float,
        value: Value = None,
        node: str | None = None,
        version: Version | None = None,
    ) -> Operation:
        """The client knows what came of an operation. Raises ValueError when it was completed already."""
        with self._lock:
            before = self.operations[number]
            if before.completed is not None:
                raise ValueError(f"completed twice: {before}")
            completed = max(self._moment(at), math.nextafter(before.invoked, math.inf))
            after = replace(before, completed=completed, outcome=outcome, value=value, node=node, version=version)
            self.operations[number] = after
        return after

    def by_key(self) -> dict[bytes, list[Operation]]:
        """The operations on each key, keys ascending, operations in the order of their invocation."""
        found: dict[bytes, list[Operation]] = {}
        for operation in self.operations:
            found.setdefault(operation.key, []).append(operation)
        return {key: found[key] for key in sorted(found)}

    # JSON lines

    def to_lines(self) -> Iterator[str]:
        """One operation a line; equal histories give equal lines. Fields that say nothing are left out."""
        for operation in self.operations:
            fields = {name: _to_json(getattr(operation, name)) for name in _FIELDS}
            yield json.dumps({name: fields[name] for name in _FIELDS if fields[name] is not None}, ensure_ascii=False)

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> "History":
        """What ``to_lines`` gave; blank lines are skipped. Raises ValueError that names the line."""
        operations: list[Operation] = []
        for line, text in enumerate(lines, 1):
            if text.strip():
                try:
                    operations.append(_operation({"number": len(operations), **json.loads(text)}))
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"line {line} of the history is no operation: {error}") from None
        return cls(operations)

    def write(self, path: Path) -> None:
        """Write it as JSON lines."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.to_lines())

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read JSON lines. Raises ValueError, OSError."""
        with path.open(encoding="utf-8") as file:
            return cls.from_lines(file)

    def _moment(self, at: float) -> float:
        # A thread that read the clock and was then overtaken tells an earlier time: that is true, and left alone.
        if at < self._told:
            return at
        self._told = at
        self._set = max(at, math.nextafter(self._set, math.inf))
        return self._set


_FIELDS = (
    "client",
    "kind",
    "key",
    "argument",
    "expected",
    "invoked",
    "completed",
    "outcome",
    "value",
    "node",
    "version",
    "expires_seconds",
    "stale",
)
_BYTES = frozenset({"key", "argument", "expected", "value"})


def _to_json(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _operation(fields: dict[str, Any]) -> Operation:
    for name, value in fields.items():
        if name in _BYTES and isinstance(value, str):
            fields[name] = value.encode()
        elif name in _BYTES and isinstance(value, dict):
            fields[name] = base64.b64decode(value["base64"], validate=True)
        elif name == "version":
            epoch, seq = value
            fields[name] = int(epoch), int(seq)
    return Operation(**fields)
