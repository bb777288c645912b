"""Runs ZooKeeper servers in the simulation, on the znode tree and the watches of the embedded one.

The truth is one log of transactions. Every server applies it to a tree of its own, in order, and answers its clients
from there; so what a client reads may lag behind, as it does at a follower, and what it has written or synced it sees.
A server runs in a simulated process and is reached over the simulated network: whatever befalls processes and
connections befalls it. What is not simulated is how servers agree; they share the log, and one whose clients can reach
it counts as one of the majority.

    request -> (a write: into the log, a moment later committed) -> applied by the server it came to -> notices, answer

What may befall the whole, besides: ``expire`` a session; ``stop`` and ``start`` all servers; ``lag`` of one; and
``roll_back``, after which the log is as it was at an earlier moment, as when an old disk was put in: sessions of later
are unknown, those that had ended meanwhile live again until their time is over.

Sessions get their full time again whenever servers start, and when a server itself was not running for a while. Clients
speak requests of ``zookeeper/records.py`` in frames of msgpack; ``zookeeper_client.py`` is the other side.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..wire import LENGTH_BYTES, Frames
from ..zookeeper.keeper import Client, Keeper
from ..zookeeper.records import (
    CloseSession,
    Code,
    Connect,
    Create,
    DataAndStat,
    Delete,
    Event,
    Exists,
    GetChildren,
    GetData,
    Identity,
    JustStat,
    Names,
    Nothing,
    Path,
    Ping,
    Refused,
    Request,
    Result,
    SetData,
    Status,
    Sync,
)
from ..zookeeper.tree import Tree
from .process import EPOCH_SECONDS, SimulatedProcess

if TYPE_CHECKING:
    from .world import SimulatedWorld

PORT = 2181
"""Where every server listens."""

COMMIT_SECONDS = (0.0005, 0.004)
"""What it takes to commit a transaction, at least and at most."""

TICK_SECONDS = 0.2
"""How often a server looks for sessions whose time is over."""

SESSION_SECONDS_MIN, SESSION_SECONDS_MAX = 0.4, 40.0
"""What servers grant to whoever asks for less, or for more."""

FRAME_BYTES_MAX = 4 << 20


class Accepted(NamedTuple):
    """The answer to Connect: a session, with what continues it elsewhere. Session 0: it is over."""

    session: int
    password: bytes
    timeout_ms: int


SPOKEN: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Accepted, CloseSession, Connect, Create, DataAndStat, Delete, Event, Exists, GetChildren, GetData, JustStat,
        Names, Nothing, Path, Ping, SetData, Status, Sync,
    )
}  # fmt: skip

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, list[Any]]).decode


def pack(number: int, what: Any) -> bytes:
    """A frame: ``number`` ties an answer to its request; notices have number 0."""
    content = _encode((number, type(what).__name__, tuple(what)))
    return len(content).to_bytes(LENGTH_BYTES, "big") + content


def unpack(content: memoryview) -> tuple[int, Any]:
    """Number and value of a frame."""
    number, name, fields = _decode(content)
    return number, msgspec.convert(fields, SPOKEN[name])


@dataclass(slots=True)
class Transaction:
    """One entry of the log."""

    kind: str
    """open, close, or apply."""
    session: int
    committed_at: float
    password: bytes = b""
    timeout_ms: int = 0
    request: Any = None
    origin: Link | None = None
    """Whose answer it makes; None: nobody waits."""
    number: int = 0


class ZooKeeperEnsemble:
    """ZooKeeper in a world. Servers are the processes ``names``; none runs before ``start``."""

    def __init__(self, world: SimulatedWorld, names: tuple[str, ...] = ("zookeeper",)) -> None:
        self.world, self.names = world, names
        self.random = world.stream("zookeeper")
        self.log: list[Transaction] = []
        self.deadlines: dict[int, float] = {}
        """When each session that lives will be over, if its client is not heard before; world time."""
        self.sessions: dict[int, tuple[bytes, int]] = {}
        """Password and milliseconds of each session that lives."""
        self.lag_seconds: dict[str, float] = {}
        """So long after the others a server learns of a transaction."""
        self.servers: dict[str, Server] = {}
        """Those whose processes live."""
        self._truth, self._true = Keeper(Tree(), 0.0), 0
        """What the first so many transactions of the log have made: no server's, and never late."""
        self._last_session = 0x100000000

    @property
    def hosts(self) -> str:
        """As clients are told where the servers are."""
        return ",".join(f"{name}:{PORT}" for name in self.names)

    def start(self, *names: str) -> None:
        """Start servers that do not run; all of them, if none is named."""
        for name in names or self.names:
            before = self.world.processes.get(name)
            if before is None or not before.alive:
                self.servers[name] = Server(self, self.world.start(name))
        now = self.world.now()
        for id, (_, timeout_ms) in self.sessions.items():
            self.deadlines[id] = now + timeout_ms / 1000

    def stop(self, *names: str, silent: bool = False) -> None:
        """Kill servers; all of them, if none is named. What was not committed yet may be gone when they are back.

        ``silent``: nobody is told, as after a power cut.
        """
        for name in names or self.names:
            server = self.servers.pop(name, None)
            if server is not None:
                server.process.kill(silent=silent)
        if not self.servers:
            committed = sum(entry.committed_at <= self.world.now() for entry in self.log)
            self._cut_log(self.random.randint(committed, len(self.log)))

    def expire(self, session: int) -> None:
        """End a session now, as if nothing had been heard of it for its whole time."""
        if session in self.sessions:
            self.submit(Transaction("close", session, 0.0))

    def roll_back(self, moment: float) -> None:
        """Be again what was committed at an earlier moment of the world. All servers start anew."""
        running = tuple(self.servers)
        self.stop()
        self._cut_log(sum(entry.committed_at <= moment for entry in self.log))
        self.world.happened("*", f"zookeeper rolled back to {moment:.6f}")
        self.start(*running)

    def _cut_log(self, length: int) -> None:
        del self.log[length:]
        self._truth, self._true = Keeper(Tree(), 0.0), 0
        self.sessions.clear()
        for entry in self.log:
            if entry.kind == "open":
                self.sessions[entry.session] = (entry.password, entry.timeout_ms)
            elif entry.kind == "close":
                self.sessions.pop(entry.session, None)
        self.deadlines = {id: self.deadlines.get(id, self.world.now()) for id in self.sessions}

    def tree(self) -> Tree:
        """The truth: what all that was committed has made. For checks, which only look."""
        while self._true < len(self.log) and self.log[self._true].committed_at <= self.world.now():
            apply(self._truth, self.log[self._true])
            self._true += 1
        return self._truth.tree

    def read(self, path: str) -> bytes | None:
        """The content of a node in the truth; None when there is no such node. For checks."""
        for server in self.servers.values():
            if not self.lag_seconds.get(server.process.name):
                server.catch_up()
                node = server.keeper.tree.nodes.get(path)
                break
        else:
            node = self.tree().nodes.get(path)
        return node.data if node is not None else None

    # For the servers

    def new_session(self) -> int:
        self._last_session += 1
        return self._last_session

    def submit(self, entry: Transaction) -> int:
        """Put a transaction into the log; returns how long the log is with it."""
        entry.committed_at = self.world.now() + self.random.uniform(*COMMIT_SECONDS)
        if self.log:
            entry.committed_at = max(entry.committed_at, self.log[-1].committed_at)
        self.log.append(entry)
        if entry.kind == "open":
            self.sessions[entry.session] = (entry.password, entry.timeout_ms)
            self.touch(entry.session)
        elif entry.kind == "close":
            self.sessions.pop(entry.session, None)
            self.deadlines.pop(entry.session, None)
        for server in self.servers.values():
            server.catch_up_later(entry.committed_at)
        return len(self.log)

    def touch(self, session: int) -> None:
        """Its client has been heard."""
        if session in self.sessions:
            self.deadlines[session] = self.world.now() + self.sessions[session][1] / 1000

    def postpone(self, seconds: float) -> None:
        for id in self.deadlines:
            self.deadlines[id] += seconds

    def end_overdue(self) -> None:
        now = self.world.now()
        for id in sorted(id for id, deadline in self.deadlines.items() if deadline <= now):
            self.world.happened("*", f"zookeeper ends session {id:x}")
            self.submit(Transaction("close", id, 0.0))


def apply(keeper: Keeper, entry: Transaction) -> tuple[Result | Refused, list[tuple[Client, Event]]]:
    """Apply one transaction to a server's tree."""
    match entry.kind:
        case "open":
            keeper.tree.open_session(entry.session, entry.password, entry.timeout_ms)
            keeper.touch(entry.session, entry.committed_at)
            return Nothing(), []
        case "close":
            known = entry.session in keeper.tree.sessions
            return Nothing(), keeper.end_session(entry.session) if known else []
        case _:
            client = Client(session=entry.session, identities=(Identity("ip", ""),))
            try:
                return keeper.handle(entry.request, client, int((EPOCH_SECONDS + entry.committed_at) * 1000))
            except Refused as refused:
                return refused, []


class Server:
    """One server: the log as far as it has applied it, and its clients' connections."""

    def __init__(self, ensemble: ZooKeeperEnsemble, process: SimulatedProcess) -> None:
        self.ensemble, self.process = ensemble, process
        self.keeper = Keeper(Tree(), 0.0)
        self.applied = 0
        self.links: dict[Client, Link] = {}
        self._last_tick = process.loop.time()
        self.catch_up()
        process.network.listen(process.name, PORT, lambda: Link(self))
        process.loop.call_later(TICK_SECONDS, self._tick)

    def catch_up_later(self, committed_at: float) -> None:
        delay = committed_at + self._lag() - self.ensemble.world.now()
        self.process.loop.call_later(max(0.0, delay), self.catch_up)

    def _lag(self) -> float:
        return self.ensemble.lag_seconds.get(self.process.name, 0.0)

    def catch_up(self) -> None:
        """Apply what is committed, as far as this server has heard of it."""
        horizon = self.ensemble.world.now() - self._lag() + 1e-9
        log = self.ensemble.log
        while self.applied < len(log) and log[self.applied].committed_at <= horizon:
            entry = log[self.applied]
            self.applied += 1
            result, notices = apply(self.keeper, entry)
            for client, event in notices:
                if client in self.links:
                    self.links[client].write(0, event)
            if entry.origin is not None and entry.origin.server is self:
                entry.origin.answer(entry.number, result)
            if entry.kind == "close":
                for client, link in list(self.links.items()):
                    if client.session == entry.session:
                        link.end()
        for link in list(self.links.values()):
            link.work()

    def _tick(self) -> None:
        now = self.process.loop.time()
        late = now - self._last_tick - TICK_SECONDS
        self._last_tick = now
        if late > TICK_SECONDS:
            self.ensemble.postpone(late)
        if next(iter(self.ensemble.servers.values()), None) is self:  # one is enough
            self.ensemble.end_overdue()
        self.process.loop.call_later(TICK_SECONDS, self._tick)


class Link(asyncio.Protocol):
    """One client's connection. Its requests are answered one after the other, in order."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = Client(identities=(Identity("ip", ""),))
        self._transport: Any = None
        self._frames = Frames(FRAME_BYTES_MAX)
        self._requests: deque[tuple[int, Any]] = deque()
        self._waits_for: int | None = None
        """How far the log must be applied before the first of them is answered; None: it has not been looked at."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.server.links[self.client] = self

    def connection_lost(self, error: Exception | None) -> None:
        self.server.links.pop(self.client, None)
        self.server.keeper.forget(self.client)

    def data_received(self, data: bytes) -> None:
        for content in self._frames.feed(data):
            self._requests.append(unpack(content))
        if self.client.session:
            self.server.ensemble.touch(self.client.session)
        self.work()

    def work(self) -> None:
        """Answer what can be answered."""
        while self._requests and not self._transport.is_closing():
            number, request = self._requests[0]
            if self._waits_for is None:
                self._waits_for = self._begin(number, request)
            if self.server.applied < self._waits_for:
                return
            self._requests.popleft()
            self._waits_for = None
            self._finish(number, request)

    def _begin(self, number: int, request: Request | Connect) -> int:
        """Put a write into the log; returns how far that must be applied before the answer."""
        ensemble, session = self.server.ensemble, self.client.session
        match request:
            case Connect():
                return self._connect(request)
            case Create() | Delete() | SetData():
                entry = Transaction("apply", session, 0.0, request=request, origin=self, number=number)
                return ensemble.submit(entry)
            case CloseSession():
                return ensemble.submit(Transaction("close", session, 0.0, origin=self, number=number))
            case Sync():
                return len(ensemble.log)
            case _:
                return self.server.applied

    def _connect(self, connect: Connect) -> int:
        ensemble = self.server.ensemble
        if connect.session:
            known = ensemble.sessions.get(connect.session)
            valid = known is not None and known[0] == connect.password
            self.client.session = connect.session if valid else 0
            ensemble.touch(self.client.session)
            return len(ensemble.log)  # never behind what the client has seen before
        timeout = min(max(connect.timeout_ms / 1000, SESSION_SECONDS_MIN), SESSION_SECONDS_MAX)
        self.client.session = ensemble.new_session()
        password = ensemble.random.randbytes(16)
        return ensemble.submit(
            Transaction("open", self.client.session, 0.0, password=password, timeout_ms=int(timeout * 1000))
        )

    def _finish(self, number: int, request: Request | Connect) -> None:
        match request:
            case Connect():
                session = self.client.session
                password, timeout_ms = self.server.ensemble.sessions.get(session, (b"", 0))
                self.write(number, Accepted(session if timeout_ms else 0, password, timeout_ms))
                if not timeout_ms:
                    self.end()
            case Create() | Delete() | SetData() | CloseSession():
                pass  # answered when it was applied, before anything that came after it
            case _:
                try:
                    result, _ = self.server.keeper.handle(request, self.client, 0)
                except Refused as refused:
                    self.answer(number, refused)
                else:
                    self.answer(number, result)

    def answer(self, number: int, result: Result | Refused) -> None:
        self.write(number, Status(result.code) if isinstance(result, Refused) else result)

    def write(self, number: int, what: Any) -> None:
        self._transport.write(pack(number, what))

    def end(self) -> None:
        self._transport.close()


def refusal(answer: Any) -> Code | None:
    """Why a request was refused, if this is the answer to one that was."""
    return Code(answer.code) if isinstance(answer, Status) and answer.code != Code.OK else None
