"""Carries requests to nodes and replies back, on the caller's thread; every wait but the resolver's has a deadline.

    Node         the connections to one node: acquire -> exchange -> release | discard
    Connection   one of them: a socket, greeted with HELLO 3, and the reader of its replies
    Flight       some requests on one connection: what of them was sent, which replies came, what ended it early
    exchange     all flights of an attempt at once

Nothing here knows the ring or sends a request twice. A flight says what happened; what that means for its requests is
for `Client._judge` in `client.py` to say. A deadline is a moment of ``time.monotonic``.

Invariants: a connection is idle or belongs to one exchange, and every one that was acquired is released or discarded.
Those open and those being dialled are together at most ``connections_max``. One that is not clean after its exchange
never carries another: a late reply would be taken for the answer to something else.
"""

import select
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any, Self, TypeVar, cast

import hiredis
from hiredis import PushNotification, ReplyError

from .client_errors import REFUSALS, TRANSIENT
from .client_requests import Request, pack
from .rules.ring import Acks

REPLY_BYTES_MAX = 1 << 30
"""What is not a whole reply after so many bytes is garbage."""
READ_BYTES = 1 << 16

SILENCE_SECONDS = 0.3
"""So long without a word from any node, and so often, an exchange has somebody look into it."""

LOOKS_DOWN, LOOKS_LEFT = 2, 5
"""So often a silent node is found down, or no member any more, before it is given up: it may be about to say so."""

ASKING = b"*1\r\n$6\r\nASKING\r\n"
ACKS = {acks: pack(("RING", "ACKS", acks or "default")) for acks in ("all", "one", None)}
NOTHING = object()
"""What a reader gives when it has no whole reply; no reply is this."""


T = TypeVar("T")


class NoConnection(Exception):
    """A node gives no connection: dead, busy, closed or unwilling. ``code`` and ``says`` are those of a `Trouble`."""

    def __init__(self, code: str, says: str) -> None:
        super().__init__(says)
        self.code = code
        self.says = says


class Connection:
    """A socket that never blocks, and the reader of its replies."""

    __slots__ = ("acks", "buffer", "descriptor", "poller", "reader", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.acks: Acks | None = None
        """As the node was last told on it."""
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket = connected
        self.reader = hiredis.Reader(notEnoughData=NOTHING)
        self.buffer = bytearray(READ_BYTES)
        self.descriptor = connected.fileno()
        self.poller = select.poll()
        self.poller.register(self.descriptor, select.POLLIN)

    @classmethod
    def dial(cls, address: str, deadline: float) -> Self:
        """Raises OSError."""
        host, _, port = address.rpartition(":")
        failure: OSError = ConnectionRefusedError()
        for family, kind, protocol, _, where in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM):
            dialing = socket.socket(family, kind, protocol)
            try:
                dialing.settimeout(max(deadline - monotonic(), 0.001))
                dialing.connect(where)
                return cls(dialing)
            except OSError as error:
                dialing.close()
                failure = error
            except BaseException:
                dialing.close()
                raise
        raise failure

    def is_quiet(self) -> bool:
        """Whether an idle connection still stands. What the node sent unasked, most likely its end, is a no.

        Asked before every use (0.6 us), so that a node's restart puts no write in doubt.
        """
        return not self.poller.poll(0)

    def close(self) -> None:
        self.socket.close()


class Node:
    """The connections to one node: at most ``connections_max``, the one used last first."""

    def __init__(
        self,
        address: str,
        login: tuple[str, ...],
        connections_max: int,
        count: Callable[[str], None],
        *,
        reads_copies: bool = False,
    ) -> None:
        """``reads_copies``: also what the node only holds as a successor."""
        self.address = address
        self._reads_copies = reads_copies
        self.failed_at = 0.0
        """When it last gave trouble (monotonic); 0 when it answered since."""
        self._login = login
        self._connections_max = connections_max
        self._count = count
        self._retired = self._ended = False
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._waiting = 0
        self._places = self._connections_max
        self._lost = 0
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()

    def idle(self) -> Connection | None:
        """As ``acquire``, if there is one that needs no waiting."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            self.discard(connection)

    def acquire(self, deadline: float) -> Connection:
        """A connection for one exchange; give it to ``release`` or ``discard``. Raises NoConnection."""
        while (connection := self.idle()) is None:
            with self._lock:
                if not self._idle and not self._places:
                    self._wait(deadline)
                if not self._idle:
                    self._places -= 1
                    break
        else:
            return connection
        try:
            connection = self._dial(deadline)
        except BaseException:
            self._give_place_back()
            raise
        self._opened(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """It is ready for the next exchange."""
        with self._lock:
            if not self._retired:
                self._idle.append(connection)
                self._wake_one()
                return
        self.discard(connection)

    def discard(self, connection: Connection) -> None:
        """It is broken, no longer needed, or in a state that nobody knows."""
        with self._lock:
            self._open.discard(connection)
            self._lost += 1
        connection.close()
        self._give_place_back()

    def retire(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        with self._lock:
            self._retired = True
            idle, self._idle = self._idle, []
        for connection in idle:
            self.discard(connection)

    def end(self) -> None:
        """Retire, and break off the exchanges under way."""
        self.retire()
        with self._lock:
            self._ended = True
            for connection in self._open:
                with suppress(OSError):  # it ended by itself
                    connection.socket.shutdown(socket.SHUT_RDWR)
            self._wake_all()

    def forget(self) -> None:
        """In a forked child: drop the parent's connections without a word to the node."""
        for connection in self._open:
            connection.close()
        self._start_empty()

    def _wait(self, deadline: float) -> None:
        self._waiting += 1
        try:
            while not self._idle and not self._places:
                left = deadline - monotonic()
                if self._ended or left <= 0 or not self._freed.wait(left):
                    raise self._no_place()
        finally:
            self._waiting -= 1

    def _no_place(self) -> NoConnection:
        if self._ended:
            return NoConnection("closed", "the client was closed")
        return NoConnection("busy", f"is in use by this client on all {self._connections_max} connections")

    def _give_place_back(self) -> None:
        with self._lock:
            self._places += 1
            self._wake_one()

    def _wake_one(self) -> None:
        if self._waiting:
            self._freed.notify()

    def _wake_all(self) -> None:
        self._freed.notify_all()

    def _dial(self, deadline: float) -> Connection:
        try:
            connection = Connection.dial(self.address, deadline)
        except (OSError, ValueError) as error:
            raise no_connection(error) from None
        try:
            flight = Flight(self, connection, self._greeting())
            exchange([flight], deadline)
            check_greeted(flight)
        except BaseException:
            connection.close()
            raise
        return connection

    def _opened(self, connection: Connection) -> None:
        """Count a connection that has greeted. Raises NoConnection when the client was closed meanwhile."""
        with self._lock:
            self._open.add(connection)
            ended, lost = self._ended, self._lost
            self._lost = max(0, lost - 1)
        if ended:
            self.discard(connection)
            raise NoConnection("closed", "the client was closed")
        self._count("connections")
        if lost:
            self._count("reconnections")

    def _greeting(self) -> list[Request]:
        greeting = [Request(("HELLO", "3", *self._login), (), reads=True)]
        if self._reads_copies:
            greeting.append(Request(("READONLY",), (), reads=True))
        return greeting


def no_connection(error: OSError | ValueError) -> NoConnection:
    """What a failed dial means."""
    if isinstance(error, ConnectionRefusedError):
        return NoConnection("refused", "refuses connections")
    if isinstance(error, TimeoutError):
        return NoConnection("unreachable", "did not accept a connection in time")
    return NoConnection("unreachable", f"cannot be reached: {error}")


def check_greeted(flight: "Flight") -> None:
    """Raises NoConnection when what came back to a greeting is not what a node says."""
    if flight.trouble is not None:
        raise NoConnection(*flight.trouble)
    reply = flight.replies[0]
    if isinstance(reply, ReplyError):
        code, says = str(reply).split(" ", 1)[0], quote(reply)
        if code == "ERR" and "max number of clients" in says:
            code = "busy"
        raise NoConnection(code if code in TRANSIENT | REFUSALS | {"busy"} else "NOPROTO", says)
    if not isinstance(reply, dict):  # an echo, perhaps: a socket that dials a free local port can meet itself
        raise NoConnection("garbage", "did not greet as a Redis server does")
    if isinstance(flight.replies[-1], ReplyError):
        raise NoConnection("NOCLUSTER", quote(flight.replies[-1]))


class Flight:
    """The part of an attempt that one node has: its requests on one connection, written together."""

    __slots__ = (
        "acks",
        "connection",
        "data",
        "expected",
        "looks_gone",
        "node",
        "parts",
        "replies",
        "sent",
        "trouble",
    )

    def __init__(self, node: Node, connection: Connection, requests: list[Request]) -> None:
        self.node = node
        self.connection = connection
        self.expected: list[Request | None] = []
        """Whose reply comes when; None for that of what is said before a request."""
        self.acks = connection.acks
        """What the connection's node will have been told."""
        self.parts: list[bytes] = []
        """What each of these is a reply to."""
        for request in requests:
            if request.acks != self.acks and not request.reads:
                self.acks = request.acks
                self.expected.append(None)
                self.parts.append(ACKS[request.acks])
            if request.ask is not None:
                self.expected.append(None)
                self.parts.append(ASKING)
            self.expected.append(request)
            self.parts.append(request.packed)
        self.data = b"".join(self.parts)
        self.sent = 0
        self.replies: list[Any] = []
        self.trouble: tuple[str, str] | None = None
        """Code and words when it ended before all replies were there."""
        self.looks_gone = 0
        """How often the ring did not name its node any more when that was silent."""

    def push(self) -> None:
        """Write what the kernel takes."""
        try:
            self.sent += self.connection.socket.send(memoryview(self.data)[self.sent :])
        except BlockingIOError:
            pass
        except OSError as error:
            self.pull()  # perhaps it said why
            self.trouble = self.trouble or ("broken", f"broke the connection ({error.strerror})")

    def pull(self) -> None:
        """Read what has come. Data first: an orderly node's last replies stand before its end."""
        connection = self.connection
        try:
            count = connection.socket.recv_into(connection.buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.trouble = "broken", f"broke the connection ({error.strerror})"
            return
        if not count:
            self.trouble = "broken", "closed the connection without an answer"
            return
        reader, replies = connection.reader, self.replies
        try:
            reader.feed(connection.buffer, 0, count)  # type: ignore[arg-type]  # takes any buffer
            while (reply := reader.gets()) is not NOTHING:
                if type(reply) is not PushNotification:
                    replies.append(reply)
        except (hiredis.ProtocolError, MemoryError, RecursionError) as error:
            self.trouble = "garbage", f"sent what is not a reply ({error or type(error).__name__})"
        if len(replies) > len(self.expected):
            del replies[len(self.expected) :]
            self.trouble = "garbage", "sent more replies than there were commands"
        elif len(replies) < len(self.expected) and reader.len() > REPLY_BYTES_MAX:
            self.trouble = "garbage", f"sent more than {REPLY_BYTES_MAX} bytes for one reply"

    @property
    def is_over(self) -> bool:
        return self.trouble is not None or len(self.replies) == len(self.expected)

    @property
    def is_clean(self) -> bool:
        """Whether the connection is good for another exchange. (A node can refuse a command before it has it whole.)"""
        return self.trouble is None and self.sent == len(self.data) and not self.connection.reader.has_data()


LookInto = Callable[[Iterable[Flight]], Coroutine[Any, Any, None]]
"""Looks into what is silent, and may end flights by giving them a trouble."""


def exchange(flights: list[Flight], deadline: float, look_into: LookInto | None = None) -> None:
    """Write all flights, then read all replies, until each is over or the deadline has passed.

    Reading and writing go on together, so that two full buffers cannot wait for each other, and a silent node keeps
    nobody from hearing the others. ``look_into`` is called with the flights that are not over when all is silent, and
    may end some by giving them a trouble.
    """
    poller = select.poll()
    waiting: dict[int, Flight] = {}
    for flight in flights:
        flight.push()
        if flight.trouble is None:
            unsent = flight.sent < len(flight.data)
            poller.register(flight.connection.descriptor, select.POLLIN | select.POLLOUT if unsent else select.POLLIN)
            waiting[flight.connection.descriptor] = flight
    while waiting:
        left = deadline - monotonic()
        patience = left if look_into is None else min(left, SILENCE_SECONDS)
        ready = poller.poll(max(patience, 0) * 1000)
        for descriptor, events in ready:
            flight = waiting[descriptor]
            if events != select.POLLOUT:
                flight.pull()
            if events & select.POLLOUT and not flight.is_over:
                flight.push()
                if flight.sent == len(flight.data):
                    poller.modify(descriptor, select.POLLIN)
        if left <= 0:
            for flight in waiting.values():
                if not flight.is_over:
                    flight.trouble = "silent", "did not answer in time"
            return
        if look_into is not None and not ready:
            drive(look_into(waiting.values()))
        for descriptor in [descriptor for descriptor, flight in waiting.items() if flight.is_over]:
            poller.unregister(descriptor)
            del waiting[descriptor]


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose waits block to its end, as if it were a function."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} was to block, and suspended")


def quote(reply: object) -> str:
    """An error of a server, as part of a sentence."""
    return f"says: {str(reply).rstrip('.')}"
