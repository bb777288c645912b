"""Holds, delays or drops messages between processes: the one place where scenarios and the shell interfere.

A fault names the messages it is about by type, sender and receiver; each of the three is a pattern with ``*`` and
``?``, and an actor is meant by its name, by its process (``host:port``) or by its whole address. A message meets the
faults once on its way out of a process and once on its way in, and the first one that fits takes it:

    hold    kept until the fault is released
    delay   kept for a time
    drop    becomes a dead letter

What one fault keeps leaves in the order in which it came, and so does what several keep when they are released
together; messages that no fault is about pass by. A message whose link is lost meanwhile is lost with it. What is kept
is bounded; on top of that, messages are dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count
from typing import Literal, NamedTuple

from .world import Loop, Timer

SPARED = frozenset({"Observe", "Observed"})
"""No fault is about these: by them faults are released."""

KEPT_MESSAGES_MAX = 10_000
KEPT_BYTES_MAX = 64 << 20


class _Kept(NamedTuple):
    order: int
    due: float
    size_bytes: int
    deliver: Callable[[], object]


@dataclass(slots=True, eq=False)
class Fault:
    """One rule, and what it has done."""

    id: int
    """Tells it from all others of this process."""
    action: Literal["hold", "delay", "drop"]
    type_name: str
    sender: str
    to: str
    seconds: float = 0.0
    matched: int = 0
    """How many messages it was about so far."""
    kept: deque[_Kept] = field(default_factory=deque)
    timer: Timer | None = None

    def fits(self, type_name: str, sender: str, to: str) -> bool:
        return fnmatchcase(type_name, self.type_name) and _meant(self.sender, sender) and _meant(self.to, to)


class Faults:
    """The faults of one bridge. For the loop thread only."""

    def __init__(self, loop: Loop) -> None:
        self.rules: list[Fault] = []
        """In the order in which they are asked."""
        self._loop = loop
        self._orders, self._ids = count(), count(1)
        self._kept_messages = 0
        self._kept_bytes = 0

    def hold(self, type_name: str = "*", *, sender: str = "*", to: str = "*") -> Fault:
        """Keep these messages until ``release``."""
        return self._add(Fault(next(self._ids), "hold", type_name, sender, to))

    def delay(self, seconds: float, type_name: str = "*", *, sender: str = "*", to: str = "*") -> Fault:
        """Let these messages arrive so much later."""
        return self._add(Fault(next(self._ids), "delay", type_name, sender, to, seconds))

    def drop(self, type_name: str = "*", *, sender: str = "*", to: str = "*") -> Fault:
        """Let these messages never arrive. Whoever asked a question waits for its timeout."""
        return self._add(Fault(next(self._ids), "drop", type_name, sender, to))

    def release(self, fault: Fault | None = None) -> None:
        """End one fault, or all; what they keep goes on its way at once, in the order in which it came."""
        released = [fault] if fault is not None else list(self.rules)
        self.rules = [rule for rule in self.rules if rule not in released]
        kept = sorted(kept for rule in released for kept in rule.kept)
        for rule in released:
            rule.kept.clear()
            if rule.timer is not None:
                rule.timer.cancel()
                rule.timer = None
        for one in kept:
            self._let_go(one)

    def take(
        self, type_name: str, sender: str, to: str, size_bytes: int,
        deliver: Callable[[], object], lose: Callable[[str], object],
    ) -> bool:  # fmt: skip
        """Whether a fault takes this message, and then calls ``deliver`` some day, or ``lose`` with the reason."""
        for rule in self.rules if type_name not in SPARED else ():
            if rule.fits(type_name, sender, to):
                rule.matched += 1
                self._apply(rule, size_bytes, deliver, lose)
                return True
        return False

    def _add(self, fault: Fault) -> Fault:
        self.rules.append(fault)
        return fault

    def _apply(
        self, rule: Fault, size_bytes: int, deliver: Callable[[], object], lose: Callable[[str], object]
    ) -> None:
        if rule.action == "drop":
            lose("a fault drops it")
        elif self._kept_messages >= KEPT_MESSAGES_MAX or self._kept_bytes + size_bytes > KEPT_BYTES_MAX:
            lose(f"faults keep {self._kept_messages} messages of {self._kept_bytes} bytes already")
        else:
            rule.kept.append(_Kept(next(self._orders), self._loop.time() + rule.seconds, size_bytes, deliver))
            self._kept_messages += 1
            self._kept_bytes += size_bytes
            if rule.action == "delay" and rule.timer is None:
                rule.timer = self._loop.call_later(rule.seconds, self._due, rule)

    def _due(self, rule: Fault) -> None:
        rule.timer = None
        while rule.kept and rule.kept[0].due <= self._loop.time():
            self._let_go(rule.kept.popleft())
        if rule.kept and rule.timer is None:
            rule.timer = self._loop.call_later(max(0.0, rule.kept[0].due - self._loop.time()), self._due, rule)

    def _let_go(self, kept: _Kept) -> None:
        self._kept_messages -= 1
        self._kept_bytes -= kept.size_bytes
        kept.deliver()


def _meant(pattern: str, address: str) -> bool:
    """Whether a pattern is about the actor at ``ringkeeper://host:port/name``."""
    process, _, name = address.partition("://")[2].partition("/")
    return any(what == pattern or fnmatchcase(what, pattern) for what in (name, process, address))
