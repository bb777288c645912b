"""Serves ZooKeeper to real clients: connections, sessions in time, and acknowledging only what is on disk.

A connection:

    new --four letters--> answered and closed
     |
     `--Connect frame--> open --closeSession, expiry, reconnection elsewhere, error--> closing -> closed

All that arrives in one turn of the loop is one batch. Requests are handled at once, against the tree in memory, and
what they answer (and the events that watches fire) is put into the outboxes of the connections; at the end of the turn
the tree's changes become one synced transaction, and only then does anything leave. So nobody ever hears of a state
that a crash could take back; a hundred writes of one turn cost one sync; and each connection sees events and replies
in the order in which they came about.

Syncing blocks the loop, for about the time the disk takes (0.3 ms to some tens). That is meant: this server has a
process of its own, there is nothing useful to do meanwhile, and sessions are not judged for time in which it could not
listen.

When the disk fails, what was not acknowledged is forgotten: all connections are cut, the tree is read again from disk,
and clients that come back find it as it was last acknowledged. Until that works nobody is served.

Each limit has a name in Limits: frames, time until the handshake, connections, sessions, bytes that a client does not
fetch.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, cast

from ..world import Listener, Loop, Network, Timer
from . import jute, words
from .keeper import Client, Keeper, Notices
from .records import AddAuth, CloseSession, Code, Connect, Event, Refused
from .storage import DataError, Storage
from .tree import TREE_BYTES_MAX, Tree

log = logging.getLogger(__name__)

TICK_MS = 2000
"""ZooKeeper's unit of time, by default as there. Sessions last 2 to 20 ticks."""

CONTAINER_SWEEP_SECONDS = 60.0
DISK_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server, and each connection to it, may take."""

    frame_bytes_max: int = jute.FRAME_BYTES_MAX
    connect_bytes_max: int = 1024
    connect_seconds_max: float = 10.0
    close_seconds_max: float = 5.0
    connections_max: int = 2000
    sessions_max: int = 20_000
    session_ticks_min: int = 2
    session_ticks_max: int = 20
    turn_reply_bytes_max: int = 1 << 20
    """When the replies of one connection exceed this, its further requests wait for the next turn."""
    unsent_bytes_max: int = 16 << 20
    """A client that fetches so little that its events pile up beyond this is disconnected."""
    tree_bytes_max: int = TREE_BYTES_MAX


class ZooKeeperServer:
    """One ZooKeeper server on a loop. Everything is called on the loop's thread."""

    def __init__(
        self,
        *,
        loop: Loop,
        network: Network,
        host: str = "127.0.0.1",
        port: int = 0,
        data: Path | None = None,
        tick_ms: int = TICK_MS,
        limits: Limits | None = None,
        wall: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        """``data`` is the directory that holds the tree; None keeps it in memory only. ``port`` 0 takes a free one."""
        self.host = host
        self.port = port
        self.data = data
        self.tick_ms = tick_ms
        self.limits = limits or Limits()
        self.loop = loop
        self._network = network
        self._wall = wall
        self._random = random or SystemRandom()
        self._storage: Storage | None = None
        self._listener: Listener | None = None
        self.keeper = Keeper(Tree(bytes_max=self.limits.tree_bytes_max), loop.time())
        self.connections: dict[Connection, None] = {}
        self._by_session: dict[int, Connection] = {}
        self._talking: dict[Connection, None] = {}  # those with something to send at the end of the turn
        self._turn_ends_soon = False
        self._turn_began = 0.0
        self._disk_failed = False
        self._timers: dict[str, Timer] = {}
        self._tick_due = 0.0
        self.counters = words.Counters()

    def start(self) -> None:
        """Read the tree and listen. Raises DataError (the directory) or OSError (the port); nothing stays behind."""
        assert self._listener is None
        if self.data is not None:
            self._storage = Storage(self.data)
        try:
            self._load()
            self._listener = self._network.listen(self.host, self.port, lambda: Connection(self))
        except BaseException:
            if self._storage is not None:
                self._storage.close()
                self._storage = None
            raise
        self.port = self._listener.port
        self._tick_due = self.loop.time() + self._tick_seconds
        self._after("tick", self._tick_seconds, self._tick)
        self._after("sweep", CONTAINER_SWEEP_SECONDS, self._sweep)
        log.info(
            "zookeeper %s:%d: %d znodes, %d sessions, zxid %d, %s",
            self.host, self.port, len(self.keeper.tree.nodes), len(self.keeper.tree.sessions), self.keeper.tree.zxid,
            self.data or "in memory only",
        )  # fmt: skip

    def stop(self) -> None:
        """Stop listening and cut all connections. Sessions stay: with a data directory they go on after a restart."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        self._end_turn()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for connection in list(self.connections):
            connection.close()
        if self._storage is not None:
            self._storage.close()
            self._storage = None

    def _load(self) -> None:
        if self._storage is not None:
            tree = self._storage.load(bytes_max=self.limits.tree_bytes_max)
        else:
            tree = self.keeper.tree  # in memory: what there was before a stop
        self.keeper = Keeper(tree, self.loop.time())

    def _after(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._timers[name] = self.loop.call_later(seconds, callback)

    # Time.

    @property
    def _tick_seconds(self) -> float:
        return self.tick_ms / 2000  # half a tick: how exactly sessions expire

    def _tick(self) -> None:
        now = self.loop.time()
        late = now - self._tick_due
        if late > self._tick_seconds:
            log.warning("zookeeper %s:%d could not listen for %.1f s; sessions last longer", self.host, self.port, late)
            self.keeper.postpone(late)
        if not self._disk_failed:
            for session in self.keeper.overdue(now):
                self._expire(session)
        self._tick_due = now + self._tick_seconds
        self._after("tick", self._tick_seconds, self._tick)

    def _expire(self, session: int) -> None:
        log.info("session 0x%x expired: not heard of within its timeout", session)
        self.tell(self.keeper.end_session(session))
        connection = self._by_session.get(session)
        if connection is not None:
            connection.close_after_turn()

    def _sweep(self) -> None:
        if not self._disk_failed:
            self.tell(self.keeper.sweep_containers())
        self._after("sweep", CONTAINER_SWEEP_SECONDS, self._sweep)

    def time_ms(self) -> int:
        return int(self._wall() * 1000)

    # What connections call.

    def admit(self, connection: "Connection") -> bool:
        """Whether a new connection may stay."""
        self.connections[connection] = None
        if len(self.connections) > self.limits.connections_max:
            log.warning("zookeeper %s:%d has its %d connections; one more was refused",
                        self.host, self.port, self.limits.connections_max)  # fmt: skip
            return False
        return self._listener is not None and not self._disk_failed

    def dismiss(self, connection: "Connection") -> None:
        self.connections.pop(connection, None)
        self._talking.pop(connection, None)
        if self._by_session.get(connection.client.session) is connection:
            del self._by_session[connection.client.session]
        self.keeper.forget(connection.client)

    def connect(self, request: Connect, connection: "Connection") -> int:
        """Give the connection a session, its old one or a new one; returns the granted timeout in milliseconds.

        Raises Refused: the session is over, or not this client's.
        """
        limits, tree, client = self.limits, self.keeper.tree, connection.client
        if request.last_zxid_seen > tree.zxid:
            # It would see the past again. Real servers send such a client to another one, too.
            raise Refused(
                Code.SYSTEM_ERROR,
                f"the client has seen zxid {request.last_zxid_seen}, this server is at {tree.zxid}: "
                "it lost its data, or the client belongs to another ensemble",
            )
        timeout_ms = min(
            max(request.timeout_ms, limits.session_ticks_min * self.tick_ms), limits.session_ticks_max * self.tick_ms
        )
        now = self.loop.time()
        if request.session:
            self.keeper.reopen_session(client, request.session, request.password, timeout_ms, now)
            older = self._by_session.get(request.session)
            if older is not None:
                log.info("session 0x%x moved from %s to %s", request.session, older.client.address, client.address)
                older.client.session = 0
                older.close_after_turn()
        else:
            if len(tree.sessions) >= limits.sessions_max:
                raise Refused(Code.SYSTEM_ERROR, f"there are {limits.sessions_max} sessions already")
            id = self._new_session_id()
            self.keeper.open_session(client, id, self._random.randbytes(jute.PASSWORD_BYTES), timeout_ms, now)
        self._by_session[client.session] = connection
        return timeout_ms

    def _new_session_id(self) -> int:
        """A number nobody has. The top byte stays 0: in an ephemeral's owner it has other meanings."""
        while True:
            id = self._random.getrandbits(55) + 1
            if id not in self.keeper.tree.sessions:
                return id

    def tell(self, notices: Notices) -> None:
        """Put events into the outboxes of those who watch."""
        for client, event in notices:
            assert isinstance(client, ConnectedClient)
            client.connection.notify(event)
        self.turn()

    def turn(self, connection: "Connection | None" = None) -> None:
        """Something happened: there will be an end of this turn. The connection has something to send then."""
        if connection is not None:
            self._talking[connection] = None
        if not self._turn_ends_soon:
            self._turn_ends_soon = True
            self._turn_began = self.loop.time()
            self.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        if not self._turn_ends_soon:
            return  # a stop has ended it already
        self._turn_ends_soon = False
        if self._storage is not None and self.keeper.tree.has_changes:
            changes = self.keeper.tree.take_changes()
            assert changes is not None
            started = self.loop.time()
            try:
                self._storage.write(changes)
            except DataError as error:
                self._fail(error)
                return
            self.counters.syncs.add(self.loop.time() - started)
        elif self._storage is None:
            self.keeper.tree.take_changes()
        talking, self._talking = self._talking, {}
        for connection in talking:
            connection.flush()
        self.counters.turns.add(self.loop.time() - self._turn_began)

    def _fail(self, error: DataError) -> None:
        """Nothing of this turn holds; go on from what the disk has."""
        if not self._disk_failed:
            log.error("%s. All connections are cut; the server goes on as soon as the disk does", error)
        self._disk_failed = True
        for connection in list(self.connections):
            connection.abort()
        self._talking.clear()
        self._after("disk", 0.0, self._recover)

    def _recover(self) -> None:
        assert self._storage is not None
        try:
            self._storage.reopen()
            self._load()
        except DataError as error:
            log.error("%s. Trying again every %.0f s", error, DISK_RETRY_SECONDS)
            self._after("disk", DISK_RETRY_SECONDS, self._recover)
        else:
            self._disk_failed = False


class ConnectedClient(Client):
    """A keeper's client that knows its connection."""

    __slots__ = ("connection",)

    def __init__(self, connection: "Connection") -> None:
        super().__init__()
        self.connection = connection


class Connection(asyncio.Protocol):
    """One client on the wire."""

    def __init__(self, server: ZooKeeperServer) -> None:
        self._server = server
        self.client = ConnectedClient(self)
        self._transport: asyncio.Transport | None = None
        self._inbox = bytearray()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._is_open = False  # the handshake is done
        self._is_closing = False
        self._is_writable = True
        self._is_reading = True
        self._deadline: Timer | None = None
        self.received = 0
        self.sent = 0

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer: Any = transport.get_extra_info("peername")
        self.client.address = peer[0] if peer else ""
        if not self._server.admit(self):
            self.abort()
            return
        self._deadline = self._server.loop.call_later(self._server.limits.connect_seconds_max, self._too_slow)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closing = True
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._inbox.clear()
        self._outbox.clear()
        self._server.dismiss(self)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        self._handle_frames()

    def eof_received(self) -> bool:
        return False  # close; nothing that is still on its way to this client can be answered

    def pause_writing(self) -> None:
        self._is_writable = False
        self._pause_reading()

    def resume_writing(self) -> None:
        self._is_writable = True
        self._handle_frames()

    # Reading.

    def _handle_frames(self) -> None:
        """Handle what the inbox holds, until the replies of this turn are enough or the client does not fetch them."""
        inbox, at = self._inbox, 0
        limits = self._server.limits
        while not self._is_closing and len(inbox) - at >= 4:
            if not self._is_writable or self._outbox_bytes >= limits.turn_reply_bytes_max:
                del inbox[:at]
                self._pause_reading()
                return
            length = jute.INT.unpack_from(inbox, at)[0]
            if not self._is_open and bytes(inbox[:4]) in words.WORDS:
                self._answer_word(bytes(inbox[:4]))
                break
            length_max = limits.frame_bytes_max if self._is_open else limits.connect_bytes_max
            if not 0 <= length <= length_max:
                self._reject(f"a frame of {length} bytes, where {length_max} are allowed")
                break
            if len(inbox) - at - 4 < length:
                break
            frame = bytes(inbox[at + 4 : at + 4 + length])
            at += 4 + length
            try:
                if self._is_open:
                    self._handle(frame)
                else:
                    self._connect(frame)
            except jute.Malformed as malformed:
                self._reject(str(malformed))
        if self._is_closing:
            inbox.clear()
        else:
            del inbox[:at]
            self._resume_reading()

    def _pause_reading(self) -> None:
        if self._is_reading and self._transport is not None:
            self._transport.pause_reading()
            self._is_reading = False

    def _resume_reading(self) -> None:
        if not self._is_reading and self._is_writable and self._transport is not None:
            self._transport.resume_reading()
            self._is_reading = True

    def _connect(self, frame: bytes) -> None:
        request = jute.decode_connect(frame)
        try:
            timeout_ms = self._server.connect(request, self)
        except Refused as refused:
            log.info("%s was not connected: %s", self.client.address, refused)
            if refused.code is Code.SESSION_EXPIRED:
                self._send(jute.encode_connected(0, 0, bytes(jute.PASSWORD_BYTES),
                                                 with_read_only=request.read_only is not None))  # fmt: skip
            self.close_after_turn()
            return
        assert self._deadline is not None
        self._deadline.cancel()
        self._is_open = True
        password = self._server.keeper.tree.sessions[self.client.session].password
        self._send(
            jute.encode_connected(
                timeout_ms, self.client.session, password, with_read_only=request.read_only is not None
            )
        )

    def _handle(self, frame: bytes) -> None:
        server, client = self._server, self.client
        self.received += 1
        server.counters.received += 1
        xid, opcode, reader = jute.decode_header(frame)
        server.keeper.touch(client.session, server.loop.time())
        request = None
        try:
            request = jute.decode_request(opcode, reader)
            result, notices = server.keeper.handle(request, client, server.time_ms())
        except Refused as refused:
            self._send(jute.encode_refusal(xid, server.keeper.tree.zxid, refused.code))
            if isinstance(request, AddAuth):
                self.close_after_turn()
            return
        except jute.Malformed as malformed:
            # The frame's bounds are known, so one bad request costs its sender that request only.
            log.info("session 0x%x sent a request %d that cannot be read: %s", client.session, opcode, malformed)
            self._send(jute.encode_refusal(xid, server.keeper.tree.zxid, Code.MARSHALLING_ERROR))
            return
        if notices:
            server.tell(notices)
        self._send(jute.encode_reply(xid, server.keeper.tree.zxid, result))
        if isinstance(request, CloseSession):
            self.close_after_turn()

    def _answer_word(self, word: bytes) -> None:
        self._send(words.answer(word, self._server).encode())
        self.close_after_turn()

    def _too_slow(self) -> None:
        self._reject(f"no handshake within {self._server.limits.connect_seconds_max} s")

    def _reject(self, why: str) -> None:
        log.warning("zookeeper %s:%d closes a connection of %s: %s",
                    self._server.host, self._server.port, self.client.address or "somebody", why)  # fmt: skip
        self.close_after_turn()

    # Writing.

    def notify(self, event: Event) -> None:
        if not self._is_closing:
            self._send(jute.encode_event(event))

    def _send(self, frame: bytes) -> None:
        """Into the outbox; it leaves at the end of the turn."""
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        self._server.turn(self)

    def flush(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() > self._server.limits.unsent_bytes_max:
            log.warning("session 0x%x does not read its events; %d bytes wait. Its connection is cut",
                        self.client.session, transport.get_write_buffer_size())  # fmt: skip
            self.abort()
            return
        self.sent += len(self._outbox)
        self._server.counters.sent += len(self._outbox)
        if self._outbox:
            transport.write(b"".join(self._outbox))
        self._outbox.clear()
        self._outbox_bytes = 0
        if self._is_closing:
            transport.close()
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self._server.loop.call_later(self._server.limits.close_seconds_max, self.abort)
        elif not self._is_reading and self._is_writable:
            self._server.loop.call_soon(self._handle_frames)

    def close_after_turn(self) -> None:
        """Take no more requests; send what is in the outbox, then close."""
        self._is_closing = True
        self._pause_reading()
        self._server.turn(self)

    def close(self) -> None:
        self._is_closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()
