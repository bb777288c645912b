"""Hears what simulated processes say to each other: who, to whom, what, when, and whether it came.

    wiretap = Wiretap(world)                    let time pass, then look at
    wiretap.heard, wiretap.events

It listens on the network, where everything passes: what actors of different processes tell each other, what clients ask
and are answered, what goes to ZooKeeper and back. Each direction of a connection is a stream that is cut into messages
as it is written; how much of it was read says which of them came. So a message is known by its place in its stream, and
which of two equal ones was lost is no matter of guessing.

    sent        the moment in which its process wrote it
    received    the moment in which the other process had read all that was written with it; None: it has not so far

What never left its process (no link, a fault of the bridge) is not heard, nor is what actors of one process tell each
other. Listening changes nothing: the run is the same to the last message.

Bounded: of more than ``messages_max`` messages the first are forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple, Protocol

import hiredis
import msgspec

from .. import wire
from ..wire import Frames
from .ensemble import PORT as ZOOKEEPER_PORT
from .ensemble import unpack as unpack_zookeeper
from .network import End
from .world import SimulatedWorld

MESSAGES_MAX = 200_000
EVENTS_MAX = 20_000

DETAIL_CHARACTERS_MAX = 160
"""Of what a message says so much is kept."""

TEXT_CHARACTERS_MAX = 40
"""Of a text in it so much."""

BODY_BYTES_MAX = 4096
"""Of a longer message only the size is told."""

FRAME_BYTES_MAX = 1 << 30

WORDS_SHOWN_MAX = 4
"""Of a command."""

Speech = Literal["actors", "clients", "zookeeper", "links"]
"""What a message belongs to: what actors tell each other, requests of clients, ZooKeeper, the upkeep of a link."""


class Said(NamedTuple):
    """What one message says."""

    speech: Speech
    kind: str
    """The type of an actors' message; the command of a client, or how it was answered; the request to ZooKeeper."""
    detail: str = ""
    sender_actor: str = ""
    to_actor: str = ""


@dataclass(slots=True)
class Heard:
    """One message from one process to another. Times are the world's, in seconds."""

    said: Said
    sender: str
    to: str
    sent: float
    received: float | None = None


class Happened(NamedTuple):
    """Something befell a process ("*": the whole world)."""

    at: float
    process: str
    what: str


class Wiretap:
    """Listens from the moment in which it is made; one a world. Implements ``network.Tap``."""

    def __init__(
        self,
        world: SimulatedWorld,
        *,
        messages_max: int = MESSAGES_MAX,
        on_sent: Callable[[Heard], object] | None = None,
    ) -> None:
        """``on_sent`` is called with every message when it is sent, and must change nothing either."""
        self.world, self._on_sent = world, on_sent
        self.heard: deque[Heard] = deque(maxlen=messages_max)
        """In the order in which they were sent."""
        self.events: deque[Happened] = deque(maxlen=EVENTS_MAX)
        self.count = 0
        """How many messages there were, the forgotten ones too."""
        self.deaf_streams = 0
        """Streams that could not be understood: from some moment on, what went over them is missing."""
        self._streams: dict[End, _Stream] = {}
        for name, process in world.processes.items():
            self._happened(world.now(), name, f"started, life {process.life}")
        world.network.tap = self
        world.trace.on_happened = self._happened

    @property
    def forgotten(self) -> int:
        """How many messages there were before the first that is kept."""
        return self.count - len(self.heard)

    def wrote(self, end: End, data: bytes) -> None:
        stream = self._streams.get(end)
        if stream is None:
            back = self._streams.get(end.other)
            talk = _talk(end, data) if back is None else back.talk
            stream = self._streams[end] = _Stream(talk, talk.requests if back is None else talk.answers)
        said: list[Said] = []
        if not stream.deaf:
            try:
                said.extend(stream.cut(data))
            except Exception:  # whatever it is, the run must not notice
                stream.deaf = True
                self.deaf_streams += 1
        stream.written_bytes += len(data)
        for each in said:
            heard = Heard(each, end.process.name, end.other.process.name, self.world.now())
            stream.under_way.append((stream.written_bytes, heard))
            self.heard.append(heard)
            self.count += 1
            if self._on_sent is not None:
                self._on_sent(heard)

    def read(self, end: End, data: bytes) -> None:
        stream = self._streams.get(end.other)
        if stream is None:
            return  # it was written before anybody listened
        stream.read_bytes += len(data)
        while stream.under_way and stream.under_way[0][0] <= stream.read_bytes:
            stream.under_way.popleft()[1].received = self.world.now()

    def _happened(self, at: float, process: str, what: str) -> None:
        self.events.append(Happened(at, process, what))


class _Stream:
    """One direction of a connection."""

    def __init__(self, talk: _Talk, cut: Callable[[bytes], Iterator[Said]]) -> None:
        self.talk, self.cut = talk, cut
        self.deaf = False
        self.written_bytes = self.read_bytes = 0
        self.under_way: deque[tuple[int, Heard]] = deque()
        """With each message, how many bytes were written when it was."""


class _Talk(Protocol):
    """What is spoken on a connection. Whoever has dialed makes the requests."""

    def requests(self, data: bytes) -> Iterator[Said]: ...
    def answers(self, data: bytes) -> Iterator[Said]: ...


def _talk(end: End, first: bytes) -> _Talk:
    """What somebody speaks who begins like this."""
    if first[:1] == b"*":
        return _Resp()
    return _ZooKeeper() if ZOOKEEPER_PORT in (end.name[1], end.other.name[1]) else _Bridge()


class _Bridge:
    """Both directions are alike."""

    def __init__(self) -> None:
        self._requests, self._answers = Frames(FRAME_BYTES_MAX), Frames(FRAME_BYTES_MAX)

    def requests(self, data: bytes) -> Iterator[Said]:
        return map(self._said, self._requests.feed(data))

    def answers(self, data: bytes) -> Iterator[Said]:
        return map(self._said, self._answers.feed(data))

    def _said(self, content: memoryview) -> Said:
        frame = wire.unpack(content)
        match frame:
            case wire.Tell() | wire.Ask():
                return Said("actors", frame.type_name, _body(frame.body), frame.sender, frame.to)
            case wire.Answer():
                return Said("actors", f"{frame.type_name or 'value'}, an answer", _body(frame.body))
            case _:
                return Said("links", type(frame).__name__)


class _Resp:
    """Commands of clients, and what they are answered."""

    def __init__(self) -> None:
        self._requests, self._answers = hiredis.Reader(notEnoughData=self), hiredis.Reader(notEnoughData=self)

    def requests(self, data: bytes) -> Iterator[Said]:
        self._requests.feed(data)
        while (command := self._requests.gets()) is not self:
            words = [_brief(word) for word in command[1 : 1 + WORDS_SHOWN_MAX]]
            yield Said("clients", _brief(command[0]).upper(), " ".join(words))

    def answers(self, data: bytes) -> Iterator[Said]:
        self._answers.feed(data)
        while (reply := self._answers.gets()) is not self:
            if isinstance(reply, hiredis.ReplyError):
                yield Said("clients", f"-{str(reply).partition(' ')[0]}", str(reply)[:DETAIL_CHARACTERS_MAX])
            else:
                yield Said("clients", "reply", "nothing" if reply is None else _brief(reply))


class _ZooKeeper:
    """Requests, answers to them, and notices of watches."""

    def __init__(self) -> None:
        self._requests, self._answers = Frames(FRAME_BYTES_MAX), Frames(FRAME_BYTES_MAX)
        self._asked: dict[int, str] = {}

    def requests(self, data: bytes) -> Iterator[Said]:
        for content in self._requests.feed(data):
            number, request = unpack_zookeeper(content)
            self._asked[number] = kind = type(request).__name__
            yield Said("zookeeper", kind, _fields(request._asdict()))

    def answers(self, data: bytes) -> Iterator[Said]:
        for content in self._answers.feed(data):
            number, answer = unpack_zookeeper(content)
            asked = self._asked.pop(number, "")
            kind = f"{asked} answered" if asked else type(answer).__name__
            yield Said("zookeeper", kind, f"{type(answer).__name__} {_fields(answer._asdict())}")


def _body(body: msgspec.Raw) -> str:
    size = len(memoryview(body))
    if size > BODY_BYTES_MAX:
        return f"{size} bytes"
    value = msgspec.msgpack.decode(body)
    return _fields(value) if isinstance(value, dict) else _brief(value)


def _fields(fields: dict[str, Any]) -> str:
    text = " ".join(f"{name}={_brief(value)}" for name, value in fields.items())
    return text if len(text) <= DETAIL_CHARACTERS_MAX else f"{text[: DETAIL_CHARACTERS_MAX - 3]}..."


def _brief(value: Any) -> str:
    """A value in few characters; of what holds others, how many."""
    if isinstance(value, bytes):
        value = value[: TEXT_CHARACTERS_MAX + 1].decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple | dict):
        return f"[{len(value)}]"
    text = value.name.lower() if isinstance(value, Enum) else str(value)
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[: TEXT_CHARACTERS_MAX - 3]}..."
