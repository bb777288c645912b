"""Calls servers that speak RESP from a simulated process: a command, and later what became of it.

    caller.call("127.0.0.1:7001", (b"GET", b"k"), done)

``done`` is told the reply once, an error reply among them, or a ``NoReply``, which says whether the command may have
been carried out: no, when no connection took it; perhaps, when the connection broke or time was over after that.
Commands to one server share a connection, in order. After a command that got no reply in time the connection is given
up, since nobody knows what the next reply on it would belong to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import hiredis

from ..world import Timer
from .process import SimulatedProcess

CALL_SECONDS_MAX = 10.0
"""So long a call waits for its reply, unless it says otherwise."""

ErrorReply = hiredis.ReplyError
"""What ``done`` is told of an error that the server replied; ``str()`` of it begins with the code."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why there is no reply, and whether the command may have been carried out."""

    why: str
    sent: bool


Done = Callable[[Any], object]

_pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)


class _Call:
    __slots__ = ("done", "packed", "timer")

    def __init__(self, packed: bytes, done: Done) -> None:
        self.packed, self.done = packed, done
        self.timer: Timer | None = None

    def end(self, outcome: Any) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.done(outcome)


class _Line(asyncio.Protocol):
    """One connection to one server."""

    def __init__(self, caller: RespCaller, address: str) -> None:
        self._caller, self._address = caller, address
        self._transport: Any = None
        self._unsent: list[_Call] = []
        self._sent: deque[_Call] = deque()
        self._reader = hiredis.Reader(notEnoughData=self)

    def call(self, call: _Call) -> None:
        if self._transport is None:
            self._unsent.append(call)
        else:
            self._sent.append(call)
            self._transport.write(call.packed)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        greeting = [_Call(_pack(words), lambda _: None) for words in self._caller.greeting]
        unsent, self._unsent = self._unsent, []
        for call in greeting + unsent:
            self.call(call)

    def connect_failed(self, error: OSError) -> None:
        self._end(error.strerror or str(error))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while self._sent and (reply := self._reader.gets()) is not self:
            self._sent.popleft().end(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error is not None else "the server closed the connection")

    def too_late(self, call: _Call, seconds: float) -> None:
        """This call, and all that were made after it, get no reply."""
        if self._transport is not None:
            self._transport.abort()
        self._end(f"no reply within {seconds:g} s")

    def _end(self, why: str) -> None:
        self._caller.forget(self._address, self)
        unsent, self._unsent = self._unsent, []
        sent, self._sent = self._sent, deque()
        for call in sent:
            call.end(NoReply(why, sent=True))
        for call in unsent:
            call.end(NoReply(why, sent=False))


class RespCaller:
    """The connections of one simulated process to servers, by address (``host:port``). ``greeting``: commands that each
    connection begins with."""

    def __init__(
        self,
        process: SimulatedProcess,
        *,
        connect_seconds_max: float = 2.0,
        greeting: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self._process, self._connect_seconds_max, self.greeting = process, connect_seconds_max, greeting
        self._lines: dict[str, _Line] = {}

    def call(
        self, address: str, args: Sequence[bytes | str | int], done: Done, seconds_max: float = CALL_SECONDS_MAX
    ) -> None:
        """Send a command; call from the process' own callbacks, or from outside while time stands still."""
        call = _Call(_pack(tuple(args)), done)
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = _Line(self, address)
            host, _, port = address.rpartition(":")
            made = line
            self._process.network.connect(
                host, int(port), lambda: made, made.connect_failed, min(seconds_max, self._connect_seconds_max)
            )
        call.timer = self._process.loop.call_later(seconds_max, line.too_late, call, seconds_max)
        line.call(call)

    def close(self) -> None:
        """Give up every connection; calls that wait get no reply."""
        for line in list(self._lines.values()):
            line.too_late(_Call(b"", lambda _: None), 0.0)

    def forget(self, address: str, line: _Line) -> None:
        if self._lines.get(address) is line:
            del self._lines[address]
