"""Writes down what happens in a simulated run, as canonical text, and hashes it.

A line is a moment of virtual time, a process, and either an actor with the message it handled or something that befell
the process:

    12.034567 127.0.0.1:7001 storage Execute requests[3]
    12.500000 127.0.0.1:7002 killed

Two runs are the same if their hashes are. So a line holds nothing that differs from run to run or costs much to write:
of a message the small fields, of large ones the size, of refs the name; no identities of objects, no real times.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

from ..actor import Ref

TEXT_CHARACTERS_MAX = 32
"""Of a text or of bytes no more is written; the length says that there was more."""

UNHASHED_LINES_MAX = 1000
"""Lines are hashed so many at a time."""

Writer = Callable[[Any], str]


class Trace:
    """The trace of one run. ``kept_lines_max`` of its last lines are kept, for people; all are hashed."""

    def __init__(self, kept_lines_max: int = 2000, tell: Callable[[str], object] | None = None) -> None:
        """``tell`` is called with every line as it is written."""
        self.lines = 0
        self.messages = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._unhashed: list[str] = []
        self._kept: deque[str] = deque(maxlen=kept_lines_max)
        self._tell = tell
        self.on_happened: Callable[[float, str, str], object] | None = None
        """Called with what is told to ``happened``."""
        self._writers: dict[type, Writer] = {}

    def happened(self, moment: float, process: str, what: str) -> None:
        """Something befell a process, or the whole world (process "*")."""
        self._write(f"{moment:.6f} {process} {what}")
        if self.on_happened is not None:
            self.on_happened(moment, process, what)

    def handled(self, moment: float, process: str, actor: str, message: Any) -> None:
        """An actor has handled a message."""
        self.messages += 1
        cls = type(message)
        write = self._writers.get(cls)
        if write is None:
            write = self._writers[cls] = writer_of(cls)
        self._write(f"{moment:.6f} {process} {actor} {write(message)}")

    def _write(self, line: str) -> None:
        self.lines += 1
        self._unhashed.append(line)
        if len(self._unhashed) >= UNHASHED_LINES_MAX:
            self._flush()
        if self._tell is not None:
            self._tell(line)

    def _flush(self) -> None:
        unhashed, self._unhashed = self._unhashed, []
        if unhashed:
            self._hash.update("".join(f"{line}\n" for line in unhashed).encode("utf-8", "backslashreplace"))
            self._kept.extend(unhashed)

    def digest(self) -> str:
        """The hash of all lines so far."""
        self._flush()
        return self._hash.hexdigest()

    def tail(self, lines_max: int = 100) -> list[str]:
        """The last lines."""
        self._flush()
        return list(self._kept)[-lines_max:]


def writer_of(cls: type) -> Writer:
    """Makes the function that writes messages of a class: the name, and for a dataclass its fields."""
    name = cls.__name__
    fields = tuple(getattr(cls, "__dataclass_fields__", ()))
    if not fields:
        return lambda message: name

    def write(message: Any) -> str:
        parts = [name]
        for field in fields:
            value = getattr(message, field)
            kind = type(value)
            if kind is int or kind is bool or value is None:
                parts.append(f"{field}={value}")
            elif kind is float:
                parts.append(f"{field}={value:.6f}")
            elif kind is str or kind is bytes:
                parts.append(f"{field}={_brief(value)}")
            elif isinstance(value, Ref):
                parts.append(f"{field}={value.name}")
            elif kind is list or kind is tuple or kind is dict:
                parts.append(f"{field}[{len(value)}]")
            else:
                parts.append(f"{field}:{kind.__name__}")
        return " ".join(parts)

    return write


def _brief(value: str | bytes) -> str:
    return repr(value) if len(value) <= TEXT_CHARACTERS_MAX else f"{value[:TEXT_CHARACTERS_MAX]!r}...{len(value)}"
