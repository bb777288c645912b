"""Stands in for kazoo's client in the simulation, so that the real ``Watches`` actor runs on simulated servers.

It does what ``Watches`` may rely on in kazoo: requests leave in order and are answered in order; a connection that
breaks, or on which a ping stays unanswered, is replaced by another one to the next server, with the same session; what
was on its way is then lost, and so are the watches. Its states are kazoo's words:

    CONNECTED <--> SUSPENDED --the servers say that the session is over--> LOST

Everything happens in callbacks of its process, where kazoo would use threads of its own: it stands still when the
process does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import watches
from ..wire import Frames
from ..world import Timer
from ..zookeeper.records import (
    OPEN_TO_ALL,
    Code,
    Connect,
    Create,
    DataAndStat,
    Delete,
    Event,
    EventKind,
    Exists,
    GetChildren,
    GetData,
    JustStat,
    Mode,
    Names,
    Path,
    Ping,
    SetData,
    Stat,
    Sync,
)
from ..zookeeper.records import CloseSession as Close
from ..zookeeper.tree import parent_of
from .ensemble import FRAME_BYTES_MAX, PORT, Accepted, pack, refusal, unpack
from .process import SimulatedProcess

RECONNECT_SECONDS, RECONNECT_FACTOR = 0.1, 1.5
"""The pause before it dials again, and what it is multiplied by each time, up to"""
RECONNECT_SECONDS_MAX = 1.0
"""this, or a sixth of the session's time."""

CLOSE_SECONDS_MAX = 3.0
"""Ending a session may take so long."""

_ERRORS = {word: kind for kind, word in watches.ERROR_WORDS}
_REFUSALS = {
    Code.NO_NODE: _ERRORS["no_node"],
    Code.NODE_EXISTS: _ERRORS["node_exists"],
    Code.BAD_VERSION: _ERRORS["bad_version"],
    Code.NOT_EMPTY: _ERRORS["not_empty"],
    Code.NO_AUTH: _ERRORS["no_auth"],
}
"""What kazoo raises for which code; for all others BadArgumentsError stands."""
_BAD_ARGUMENTS = next(kind for kind in watches.REFUSALS if kind.__name__ == "BadArgumentsError")

Watch = Callable[[Any], None]


class KazooStat(NamedTuple):
    """The part of kazoo's ZnodeStat that is looked at."""

    czxid: int
    mzxid: int
    version: int
    ephemeralOwner: int  # noqa: N815  # kazoo's name


class KazooEvent(NamedTuple):
    """The part of kazoo's WatchedEvent that is looked at."""

    type: str
    path: str


class Answer:
    """Stands in for kazoo's AsyncResult."""

    def __init__(self) -> None:
        self.value: Any = None
        self.exception: Exception | None = None
        self._done = False
        self._callbacks: list[Callable[[Any], None]] = []

    def rawlink(self, callback: Callable[[Any], None]) -> None:
        if self._done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def finish(self, value: Any, exception: Exception | None = None) -> None:
        self._done, self.value, self.exception = True, value, exception
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


Understand = Callable[[Any], Any]
"""What kazoo would return for an answer of the servers; may return an exception."""


class ZooKeeperClient:
    """One session with the servers of ``hosts`` (host:port,host:port). Implements ``watches.Client``."""

    def __init__(
        self,
        process: SimulatedProcess,
        hosts: str,
        session_timeout_seconds: float,
        turned: Callable[[str, int, float], None],
        unreached: Callable[[str, str], None],
    ) -> None:
        self.process = process
        self.session, self.granted_seconds = 0, session_timeout_seconds
        self._turned, self._unreached = turned, unreached
        self._servers = deque(host.rpartition(":")[0] for host in hosts.split(","))
        process.random.shuffle(self._servers)
        self._password = b""
        self._line: _Line | None = None
        self._connected = self._stopped = False
        self._pause_seconds = RECONNECT_SECONDS
        self._dials_left = len(self._servers)
        self._watched: dict[tuple[bool, str], dict[Watch, None]] = {}
        """By whether of the children, and path. Dictionaries for their order."""
        self._ended: Callable[[], None] | None = None

    # The connection

    def start_async(self) -> None:
        self._dial()

    def _dial(self) -> None:
        if not self._stopped:
            self._line = line = _Line(self, self._servers[0])
            seconds = self.granted_seconds / len(self._servers)
            self.process.network.connect(self._servers[0], PORT, lambda: line, line.connect_failed, seconds)

    def hello(self) -> Connect:
        return Connect(0, 0, int(self.granted_seconds * 1000), self.session, self._password, None)

    def accepted(self, accepted: Accepted) -> bool:
        """The servers have answered the first frame; False: the session is over."""
        self._pause_seconds, self._dials_left = RECONNECT_SECONDS, len(self._servers)
        if not accepted.session:
            self.session = 0
            self._turned("LOST", 0, 0.0)
            return False
        self.session, self._password = accepted.session, accepted.password
        self.granted_seconds = accepted.timeout_ms / 1000
        self._connected = True
        self._turned("CONNECTED", self.session, self.granted_seconds)
        return True

    def line_ended(self, line: _Line, why: str) -> None:
        """Try the next server, and after all of them have a pause."""
        if self._line is not line:
            return
        self._line = None
        if self._stopped:
            self._end()
            return
        if self._connected:
            self._connected = False
            self._watched.clear()
            self._turned("SUSPENDED", 0, self.granted_seconds)
        else:
            self._unreached(f"{line.server}:{PORT}", why)
        self._servers.rotate(-1)
        self._dials_left -= 1
        if self._dials_left > 0:
            self.process.loop.call_soon(self._dial)
            return
        self._dials_left = len(self._servers)
        pause = self._pause_seconds
        self._pause_seconds = min(pause * RECONNECT_FACTOR, RECONNECT_SECONDS_MAX, self.granted_seconds / 6)
        self.process.loop.call_later(pause * self.process.random.uniform(0.6, 1.0), self._dial)

    def end(self, ended: Callable[[], None]) -> None:
        """End the session, as far as its servers can be reached, and call back."""
        self._stopped, self._ended = True, ended
        if self._line is not None and self._connected:
            self._line.ask(Close(), lambda answer: answer)
            self.process.loop.call_later(CLOSE_SECONDS_MAX, self._end)
        else:
            self._end()

    def _end(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.abort()
        ended, self._ended = self._ended, None
        if ended is not None:
            self.process.loop.call_soon(ended)

    def stop(self) -> None: ...

    def close(self) -> None: ...

    # Questions

    def _ask(self, request: Any, understand: Understand) -> Answer:
        if self._line is not None and self._connected:
            return self._line.ask(request, understand)
        return Answer()  # never finished: whoever asks on no connection is told by the state

    def sync_async(self, path: str) -> Answer:
        return self._ask(Sync(path), lambda answer: answer.path)

    def exists_async(self, path: str, watch: Watch | None = None) -> Answer:
        if watch is not None:
            self._watched.setdefault((False, path), {})[watch] = None
        return self._ask(Exists(path, watch is not None), _stat_if_any)

    def get_async(self, path: str) -> Answer:
        return self._ask(GetData(path), _data)

    def get_children_async(self, path: str, watch: Watch | None = None) -> Answer:
        if watch is not None:
            self._watched.setdefault((True, path), {})[watch] = None
        return self._ask(GetChildren(path, watch is not None), _names)

    def create_async(self, path: str, value: bytes, *, ephemeral: bool, sequence: bool, makepath: bool) -> Answer:
        create = Create(path, value, OPEN_TO_ALL, int(Mode.EPHEMERAL) * ephemeral + 2 * sequence)
        made = Answer()

        def created(first: Any) -> None:
            if makepath and isinstance(first.exception, _REFUSALS[Code.NO_NODE]):
                for parent in _parents(path):
                    self._ask(Create(parent, b"", OPEN_TO_ALL), lambda answer: answer)
                self._ask(create, _path).rawlink(lambda second: made.finish(second.value, second.exception))
            else:
                made.finish(first.value, first.exception)

        self._ask(create, _path).rawlink(created)
        return made

    def set_async(self, path: str, value: bytes, version: int) -> Answer:
        return self._ask(SetData(path, value, version), _stat)

    def delete_async(self, path: str, version: int) -> Answer:
        return self._ask(Delete(path, version), lambda answer: True)

    def noticed(self, event: Event) -> None:
        """A watch has fired at the server: it is over there and here."""
        kinds = [event.kind is EventKind.CHILDREN]
        if event.kind is EventKind.DELETED:
            kinds.append(True)
        fired: dict[Watch, None] = {}
        for kind in kinds:
            fired.update(self._watched.pop((kind, event.path), {}))
        for watch in fired:
            watch(KazooEvent(event.kind.name, event.path))


class _Line(asyncio.Protocol):
    """One connection to one server."""

    def __init__(self, client: ZooKeeperClient, server: str) -> None:
        self.server = server
        self._client = client
        self._transport: Any = None
        self._frames = Frames(FRAME_BYTES_MAX)
        self._asked: deque[tuple[int, Answer, Understand]] = deque()
        self._number = 0
        self._open = self._over = self._pinged = False
        self._last_sent = 0.0
        self._silence: Timer | None = None

    def connection_made(self, transport: Any) -> None:
        if self._over:  # given up while it was being made
            transport.abort()
            return
        self._transport = transport
        self._last_sent = self._client.process.loop.time()
        transport.write(pack(0, self._client.hello()))
        self._pinged = True  # the greeting wants an answer, too
        self._watch_silence()

    def connect_failed(self, error: OSError) -> None:
        self._end(error.strerror or str(error))

    def data_received(self, data: bytes) -> None:
        self._pinged = False
        for content in self._frames.feed(data):
            if self._over:
                return
            number, what = unpack(content)
            if not self._open:
                self._open = True
                if not self._client.accepted(what):
                    self._over = True
                    self.abort()
            elif isinstance(what, Event):
                self._client.noticed(what)
            else:
                self._answered(number, what)

    def _answered(self, number: int, what: Any) -> None:
        asked, answer, understand = self._asked.popleft()
        assert asked == number, "answers come in the order of the requests"
        code = refusal(what)
        if code is not None:
            error = _REFUSALS.get(code, _BAD_ARGUMENTS)(code.name)
            value = understand(error) if understand is _stat_if_any else error
        else:
            value = understand(what)
        if isinstance(value, Exception):
            answer.finish(None, value)
        else:
            answer.finish(value)

    def ask(self, request: Any, understand: Understand) -> Answer:
        self._number += 1
        answer = Answer()
        self._asked.append((self._number, answer, understand))
        self._write(request)
        return answer

    def _write(self, request: Any) -> None:
        self._last_sent = self._client.process.loop.time()
        self._transport.write(pack(self._number, request))

    def _watch_silence(self) -> None:
        """Ping when nothing was sent for a third of the session's time, and give up after as much again."""
        if self._over:
            return
        seconds = self._client.granted_seconds / 3
        if self._client.process.loop.time() - self._last_sent >= seconds - 0.001:
            if self._pinged:
                self._transport.abort()
                self._end("outstanding heartbeat ping not received")
                return
            self._pinged = True
            self.ask(Ping(), lambda answer: answer)
        due = self._last_sent + seconds - self._client.process.loop.time()
        self._silence = self._client.process.loop.call_later(due, self._watch_silence)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error is not None else "the server closed the connection")

    def abort(self) -> None:
        self._over = True
        if self._silence is not None:
            self._silence.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _end(self, why: str) -> None:
        self._over = True
        if self._silence is not None:
            self._silence.cancel()
        self._client.line_ended(self, why)


def opener(process: SimulatedProcess) -> Callable[..., ZooKeeperClient]:
    """What to hand to ``Watches`` as ``open_client`` in this process."""

    def open_client(
        hosts: str,
        session_timeout_seconds: float,
        auth: tuple[tuple[str, str], ...],
        turned: Callable[[str, int, float], None],
        unreached: Callable[[str, str], None],
    ) -> ZooKeeperClient:
        assert not auth, "simulated servers know no users"
        return ZooKeeperClient(process, hosts, session_timeout_seconds, turned, unreached)

    return open_client


def end_client(client: Any, ended: Callable[[], None]) -> None:
    """What to hand to ``Watches`` as ``end_client``."""
    client.end(ended)


def _kazoo_stat(stat: Stat) -> KazooStat:
    return KazooStat(stat.czxid, stat.mzxid, stat.version, stat.ephemeral_owner)


def _stat(answer: JustStat) -> KazooStat:
    return _kazoo_stat(answer.stat)


def _stat_if_any(answer: Any) -> Any:
    """kazoo's ``exists`` says None where there is no such node."""
    if isinstance(answer, Exception):
        return None if isinstance(answer, _REFUSALS[Code.NO_NODE]) else answer
    return _kazoo_stat(answer.stat)


def _data(answer: DataAndStat) -> tuple[bytes, KazooStat]:
    return answer.data or b"", _kazoo_stat(answer.stat)


def _names(answer: Names) -> list[str]:
    return list(answer.names)


def _path(answer: Path) -> str:
    return answer.path


def _parents(path: str) -> list[str]:
    """All nodes above one, the uppermost first, without the root."""
    parents = []
    while (path := parent_of(path)) != "/":
        parents.append(path)
    return parents[::-1]
