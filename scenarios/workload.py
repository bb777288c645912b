"""Says what the clients of a story ask of a cluster, one command after the other, and reads the answers.

    workload = Workload("client-1", random, keys, MIXES["mixed"])
    task = workload.next()                      send task.words, then
    workload.heard(task, task.value_of(reply))

Whoever has the clients sends the commands and keeps the times; here is only what does not depend on that. Every value
that is stored is written once in a story (it begins with its client's name and a number), so that the checks know whose
it was. Keys are of three kinds, since what a check can say of a key depends on what was done to it:

    key:...      registers: stored, read, deleted, compared and set
    counter:...  only counted and read
    text:...     only appended to and read

Loads that have a *manner* ask for less than that each value is there, and last, until it is overwritten. Theirs are
keys of their own, each written once and then read for a while; in the slots of the registers, so that what goes wrong
with them befalls those as well:

    fleeting     set with an expiry
    hasty        acknowledged when one copy has them: a failure may take them back, but not once somebody has read them
    stale        reads of everybody's keys that successors may answer

One manner asks for no less, and is there to make moves of slots last:

    heavy        a few keys of its own, in the same slots, with values each of which is a chunk of a walk
"""

import random as random_module
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .history import CONDITIONAL, Kind, Value

Mix = Mapping[Kind, int]
"""How often each kind of operation is asked for, relative to the others."""

MIXES: Mapping[str, Mix] = {
    "set": {"set": 1},
    "get": {"get": 1},
    "delete": {"set": 1, "delete": 1},
    "incr": {"incr": 4, "get": 1},
    "read and write": {"get": 3, "set": 2, "delete": 1},
    "mixed": {
        "get": 24, "set": 16, "delete": 6, "incr": 14, "cas": 8, "setnx": 3, "setxx": 3, "getset": 3, "getdel": 2,
        "append": 3, "exists": 2, "strlen": 1,
    },
}  # fmt: skip
"""By name. Reads go to all kinds of keys; what writes, to those that it fits."""

PADDING_BYTES = (0, 0, 0, 20, 400)
"""So much is added to a value, each as often."""

Manner = Literal["", "fleeting", "hasty", "stale", "heavy"]
MANNERS: tuple[Manner, ...] = ("fleeting", "hasty", "stale")
"""Those that ask for less."""
EXPIRES_SECONDS = (0.1, 0.5, 1.5, 4.0, 3600.0)
"""So long fleeting values last, each as often."""
HEAVY_KEYS, HEAVY_BYTES = 6, 256 * 1024
"""So many keys have values of so many bytes, and some."""
READ_AGAIN_MAX = 6
"""So many of the last keys that it has written a load reads that writes each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One command for one key."""

    kind: Kind
    key: bytes
    argument: bytes | int | None = None
    expected: bytes | None = None
    expires_seconds: float | None = None

    @property
    def words(self) -> tuple[bytes | str | int, ...]:
        """The command as it is sent."""
        key, argument = self.key, b"" if self.argument is None else self.argument
        match self.kind:
            case "get" | "exists" | "strlen" | "getdel":
                return (self.kind.upper(), key)
            case "set" if self.expires_seconds is not None:
                return ("SET", key, argument, "PX", round(self.expires_seconds * 1000))
            case "set" | "setnx" | "getset" | "append":
                return (self.kind.upper(), key, argument)
            case "setxx":
                return ("SET", key, argument, "XX")
            case "cas":
                return ("SET", key, argument, "IFEQ", self.expected or b"")
            case "delete":
                return ("DEL", key)
            case "incr":
                return ("INCRBY", key, argument)

    def value_of(self, reply: Any) -> Value:
        """What a reply that is no error says, in the words of a history."""
        match self.kind:
            case "get" | "getset" | "getdel":
                return None if reply is None else bytes(reply)
            case "strlen" | "append" | "incr":
                return int(reply)
            case "set":
                return None
            case "setxx" | "cas":
                return reply is not None
            case "exists" | "delete" | "setnx":
                return bool(reply)


class Workload:
    """What one client asks. The same ``random`` gives the same tasks if the same is heard."""

    def __init__(
        self,
        client: str,
        random: random_module.Random,
        keys: "Keys",
        mix: Mix,
        manner: Manner = "",
        skew: float = 0.0,
    ) -> None:
        """``skew``: of the keys of a kind the n-th is asked for as often as 1 / n**skew says; 0: all alike."""
        self.client, self.manner, self._random, self._keys = client, manner, random, keys
        self.skew = skew
        self.fashion = 0
        """With a skew: which of the keys of a kind is the first now."""
        self._kinds, self._weights = tuple(mix), tuple(mix.values())
        self._number = 0
        self._seen: dict[bytes, bytes] = {}
        """What a register was last known to hold: what a compare-and-set expects."""
        self._written: deque[bytes] = deque(maxlen=READ_AGAIN_MAX)
        """The last of the keys that are written once."""

    def next(self) -> Task:
        """The next command."""
        (kind,) = self._random.choices(self._kinds, self._weights)
        self._number += 1
        if self.manner in ("fleeting", "hasty"):
            return self._next_once()
        if self.manner == "heavy":
            return self._next_heavy()
        match kind:
            case "incr":
                return Task(
                    kind=kind, key=self._one_of(self._keys.counters), argument=self._random.choice((1, 1, 1, 5))
                )
            case "append":
                return Task(kind=kind, key=self._one_of(self._keys.texts), argument=f"{self._tag()};".encode())
            case "get":
                return Task(kind=kind, key=self._one_of(self._keys.all))
            case "strlen" | "exists":
                return Task(kind=kind, key=self._one_of((*self._keys.registers, *self._keys.texts)))
            case "delete" | "getdel":
                return Task(kind=kind, key=self._one_of(self._keys.registers))
            case _:
                key = self._one_of(self._keys.registers)
                expected = self._seen.get(key, b"nothing that is ever stored") if kind == "cas" else None
                value = self._tag() + "." * self._random.choice(PADDING_BYTES)
                return Task(kind=kind, key=key, argument=value.encode(), expected=expected)

    def _next_once(self) -> Task:
        """Write another key, or read one of the last."""
        if self._written and self._random.random() < 2 / 3:
            return Task(kind="get", key=self._one_of(tuple(self._written)))
        key = f"{self.manner}:{{{self._one_of(self._keys.registers).decode()}}}:{self._tag()}".encode()
        self._written.append(key)
        expires = self._random.choice(EXPIRES_SECONDS) if self.manner == "fleeting" else None
        return Task(kind="set", key=key, argument=self._tag().encode(), expires_seconds=expires)

    def _next_heavy(self) -> Task:
        """Write each of the heavy keys once; then write or read any."""
        registers = self._keys.registers
        keys = [b"heavy:%d:{%b}" % (each, registers[each % len(registers)]) for each in range(HEAVY_KEYS)]
        if self._number > len(keys) and self._random.random() < 1 / 3:
            return Task(kind="get", key=self._random.choice(keys))
        key = keys[self._number - 1] if self._number <= len(keys) else self._random.choice(keys)
        return Task(kind="set", key=key, argument=self._tag().encode() + b"." * HEAVY_BYTES)

    def heard(self, task: Task, value: Value) -> None:
        """An operation was done, and this is what its answer said."""
        if task.kind in CONDITIONAL and value is False:
            return
        after = task.argument if task.kind not in ("get", "getdel", "delete") else value if task.kind == "get" else None
        if isinstance(after, bytes):
            self._seen[task.key] = after

    def _tag(self) -> str:
        return f"{self.client}.{self._number}"

    def _one_of(self, keys: tuple[bytes, ...]) -> bytes:
        if not self.skew:
            return self._random.choice(keys)
        weights = [(rank + 1) ** -self.skew for rank in range(len(keys))]
        (rank,) = self._random.choices(range(len(keys)), weights)
        return keys[(rank + self.fashion) % len(keys)]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a story, by what is done to them."""

    registers: tuple[bytes, ...]
    counters: tuple[bytes, ...]
    texts: tuple[bytes, ...]

    @property
    def all(self) -> tuple[bytes, ...]:
        return (*self.registers, *self.counters, *self.texts)

    @classmethod
    def drawn(cls, random: random_module.Random, count: int) -> "Keys":
        """So many keys, at least three, in slots that chance chooses; a fifth are counters and a tenth texts."""
        counters, texts = max(1, count // 5), max(1, count // 10)
        registers = max(1, count - counters - texts)
        return cls(_named(random, "key", registers), _named(random, "counter", counters), _named(random, "text", texts))


def _named(random: random_module.Random, what: str, count: int) -> tuple[bytes, ...]:
    return tuple(f"{what}:{number}-{random.getrandbits(24):06x}".encode() for number in range(count))
