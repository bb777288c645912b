"""Speaks to a cluster for an asyncio program: the words, promises and errors of `Client`, awaited.

    async with AsyncClient("127.0.0.1:7001") as client:
        await client.set("user:42", "Ada")
        values = await asyncio.gather(*(client.get(f"user:{n}") for n in range(100)))
        async with client.pipeline() as pipeline:
            pipeline.incr("visits").get("user:42")
            visits, user = await pipeline.execute()

It follows the ring, tries again and says what came of it by the same code as `Client` (`client_engine.py`); here is
only how it waits: for sockets by the event loop's readers and writers, for a connection of the pool by futures. Tasks
share the connections, up to ``connections_per_node_max`` to each node; more of them wait for their turn. Cancelling a
task closes the connections that it was using: a write that had gone out may have been done.
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Literal, Self, cast, overload

from . import client_requests as ask
from .client_engine import ClientEngine, Commands
from .client_links import (
    SILENCE_SECONDS,
    Connection,
    Flight,
    LookInto,
    Node,
    check_greeted,
    no_connection,
)
from .client_requests import Key, Request, Value
from .rules.ring import Acks

__all__ = ["AsyncClient", "AsyncPipeline"]


class AsyncClient(ClientEngine):
    """A cluster, as seen by one asyncio program. Its settings are those of `Client`.

    It belongs to the event loop on which it is first used. Close it there, or use it in ``async with``.
    """

    def _make_locks(self) -> None:
        super()._make_locks()
        self._refreshing = asyncio.Lock()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Operations under way in other tasks end at once, with their errors."""
        self._end()
        self._closing.set()

    # Commands for one key.

    async def get(self, key: Key) -> bytes | None:
        """The value, None when there is none."""
        return cast("bytes | None", await self._do(ask.get(key)))

    @overload
    async def set(
        self,
        key: Key,
        value: Value,
        *,
        nx: bool = ...,
        xx: bool = ...,
        ifeq: Value | None = ...,
        acks: Acks | None = ...,
    ) -> bool: ...
    @overload
    async def set(
        self,
        key: Key,
        value: Value,
        *,
        nx: bool = ...,
        xx: bool = ...,
        ifeq: Value | None = ...,
        get: Literal[True],
        acks: Acks | None = ...,
    ) -> bytes | None: ...
    async def set(
        self,
        key: Key,
        value: Value,
        *,
        nx: bool = False,
        xx: bool = False,
        ifeq: Value | None = None,
        get: bool = False,
        acks: Acks | None = None,
    ) -> bool | bytes | None:
        """Store, always or on a condition: see ``Client.set``."""
        request = ask.set_(key, value, nx=nx, xx=xx, ifeq=ifeq, get=get)
        return cast("bool | bytes | None", await self._do(request, acks))

    async def setnx(self, key: Key, value: Value, *, acks: Acks | None = None) -> bool:
        """Store if there is no value; whether it was stored."""
        return cast("bool", await self._do(ask.setnx(key, value), acks))

    async def getset(self, key: Key, value: Value, *, acks: Acks | None = None) -> bytes | None:
        """Store, and return the value before."""
        return cast("bytes | None", await self._do(ask.getset(key, value), acks))

    async def getdel(self, key: Key, *, acks: Acks | None = None) -> bytes | None:
        """Delete, and return the value before."""
        return cast("bytes | None", await self._do(ask.getdel(key), acks))

    async def append(self, key: Key, value: Value, *, acks: Acks | None = None) -> int:
        """Add to the end of the value; its length afterwards, in bytes."""
        return cast("int", await self._do(ask.append(key, value), acks))

    async def strlen(self, key: Key) -> int:
        """Length of the value in bytes, 0 when there is none."""
        return cast("int", await self._do(ask.strlen(key)))

    async def incr(self, key: Key, by: int = 1, *, acks: Acks | None = None) -> int:
        """Add to the number in the value (0 when there is none); the sum."""
        return cast("int", await self._do(ask.incr(key, by), acks))

    async def decr(self, key: Key, by: int = 1, *, acks: Acks | None = None) -> int:
        """Subtract from the number in the value; the difference."""
        return cast("int", await self._do(ask.decr(key, by), acks))

    async def type(self, key: Key) -> str:
        """``"string"``, or ``"none"`` when there is no value."""
        return cast("str", await self._do(ask.type_(key)))

    # Commands for many keys, and for all.

    async def delete(self, *keys: Key, acks: Acks | None = None) -> int:
        """Delete keys; how many there were. Raises PartlyDone when some are deleted and others not."""
        return await self._sum_of("DEL", keys, acks=acks)

    async def exists(self, *keys: Key) -> int:
        """How many of the keys have a value; a key given twice counts twice."""
        return await self._sum_of("EXISTS", keys, reads=True)

    async def mget(self, keys: Iterable[Key]) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none; no snapshot."""
        return await self._mget(keys)

    async def mset(
        self,
        values: Mapping[Key, Value] | Mapping[str, Value] | Mapping[bytes, Value],
        *,
        acks: Acks | None = None,
    ) -> None:
        """Store many, not atomically. Raises PartlyDone as ``Client.mset``."""
        await self._mset(values, acks)

    async def dbsize(self) -> int:
        """How many keys there are, as the nodes count at about the same moment."""
        return await self._dbsize()

    async def keys(self, pattern: Key = "*") -> list[bytes]:
        """All keys that match a glob pattern, in no order. Holds up every node while it looks: see `scan_iter`."""
        return await self._keys(pattern)

    async def flush_all(self) -> None:
        """Delete every key. Raises PartlyDone when some nodes did and others did not; ``errors`` is by address."""
        await self._everywhere("FLUSHALL", reads=False)

    async def scan_iter(self, match: Key | None = None, count: int = 1000) -> AsyncIterator[bytes]:
        """Every key that is there from beginning to end, once or more; others perhaps: see ``Client.scan_iter``."""
        scan = self._scan(match, count)
        while (keys := await scan.page()) is not None:
            for key in keys:
                yield key

    # Any command, and the cluster.

    async def execute(
        self, *args: Value, node: str | None = None, key: Key | None = None, acks: Acks | None = None
    ) -> Any:
        """Any command: see ``Client.execute``."""
        return await self._execute(args, node, key, acks)

    async def execute_on(self, node: str, *args: Value, acks: Acks | None = None) -> Any:
        """Any command on the node at ``host:port``, in one attempt: nothing is retried, no MOVED followed."""
        return await self._execute_on(node, args, acks)

    def pipeline(self, *, acks: Acks | None = None) -> "AsyncPipeline":
        """Commands to be sent together: one write per node instead of one per command."""
        return AsyncPipeline(self, acks)

    async def ping(self, node: str | None = None) -> bool:
        """True when a node (``node``: that one) answers. Raises when none does."""
        return bool(await self._execute(("PING",), node, None, None) == b"PONG")

    async def locate(self, key: Key) -> tuple[int, str]:
        """Slot of a key and address of its coordinator, as the client's map has them."""
        return await self._locate(key)

    async def nodes(self) -> tuple[str, ...]:
        """Addresses of the nodes that coordinate a slot, as the client's map has them."""
        return await self._coordinators()

    async def ring(self) -> dict[str, Any]:
        """The ring as a ringkeeper node shows it: ``RING SHOW``, decoded."""
        return await self._ring()

    # Where it waits.

    async def _do(self, request: Request, acks: Acks | None = None) -> Any:
        await self._settle([request], acks=acks)
        return request.outcome()

    def _make_node(self, address: str) -> Node:
        return AsyncNode(
            address, self._login, self._connections_per_node_max, self._count, reads_copies=self._reads_copies
        )

    async def _acquire(self, node: Node, deadline: float) -> Connection:
        return await cast("AsyncNode", node).acquire_soon(deadline)

    async def _exchange(self, flights: list[Flight], deadline: float, look_into: LookInto | None = None) -> None:
        await exchange(flights, deadline, look_into)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _begin_refresh(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):  # without a wait it is not cut off, whatever the seconds
                await self._refreshing.acquire()
        except TimeoutError:
            return False
        return True

    def _end_refresh(self) -> None:
        self._refreshing.release()


class AsyncPipeline(Commands):
    """Commands that are sent together when ``execute`` is awaited, as in ``Pipeline``."""

    def __init__(self, client: AsyncClient, acks: Acks | None = None) -> None:
        super().__init__()
        self._client = client
        self._acks = acks

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._requests.clear()

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all, and return the results, or raise, as ``Pipeline.execute``."""
        return await self._client._execute_all(self._taken(), self._acks, raise_on_error)


class AsyncNode(Node):
    """The connections to one node, for the tasks of one event loop."""

    def _start_empty(self) -> None:
        super()._start_empty()
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire_soon(self, deadline: float) -> Connection:
        """As ``acquire``, awaited."""
        while (connection := self.idle()) is None:
            if self._places:
                self._places -= 1
                break
            await self._wait_for_place(deadline)
        else:
            return connection
        try:
            connection = await self._dial_soon(deadline)
        except BaseException:
            self._give_place_back()
            raise
        self._opened(connection)
        return connection

    async def _wait_for_place(self, deadline: float) -> None:
        if self._ended or deadline <= monotonic():
            raise self._no_place()
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(deadline - monotonic()):
                await waiter
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:  # it was woken and cannot use that any more: the next one has its turn
                self._wake_one()
            if isinstance(error, TimeoutError):
                raise self._no_place() from None
            raise

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._waiters:
            self._wake_one()

    async def _dial_soon(self, deadline: float) -> Connection:
        try:
            async with asyncio.timeout(max(deadline - monotonic(), 0.001)):
                connection = await dial(self.address)
        except (OSError, ValueError) as error:
            raise no_connection(error) from None
        try:
            flight = Flight(self, connection, self._greeting())
            await exchange([flight], deadline)
            check_greeted(flight)
        except BaseException:
            connection.close()
            raise
        return connection


async def dial(address: str) -> Connection:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    try:  # an address needs no resolver, which is a thread
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    failure: OSError = ConnectionRefusedError()
    for family, kind, protocol, _, where in found:
        dialing = socket.socket(family, kind, protocol)
        try:
            dialing.setblocking(False)
            await loop.sock_connect(dialing, where)
            return Connection(dialing)
        except OSError as error:
            dialing.close()
            failure = error
        except BaseException:
            dialing.close()
            raise
    raise failure


async def exchange(flights: list[Flight], deadline: float, look_into: LookInto | None = None) -> None:
    """As ``exchange`` in `client_links.py`, by the event loop: write all flights, read all replies."""
    loop = asyncio.get_running_loop()
    waiting: dict[int, Flight] = {}
    heard = asyncio.Event()

    def pull(flight: Flight) -> None:
        heard.set()
        flight.pull()
        if flight.is_over:
            forget(flight)

    def push(flight: Flight) -> None:
        heard.set()
        flight.push()
        if flight.is_over:
            forget(flight)
        elif flight.sent == len(flight.data):
            loop.remove_writer(flight.connection.descriptor)

    def forget(flight: Flight) -> None:
        if waiting.pop(flight.connection.descriptor, None) is not None:
            loop.remove_reader(flight.connection.descriptor)
            loop.remove_writer(flight.connection.descriptor)

    try:
        for flight in flights:
            flight.push()
            if flight.trouble is None:
                waiting[flight.connection.descriptor] = flight
                loop.add_reader(flight.connection.descriptor, pull, flight)
                if flight.sent < len(flight.data):
                    loop.add_writer(flight.connection.descriptor, push, flight)
        while waiting:
            left = deadline - monotonic()
            if left <= 0:
                for flight in waiting.values():
                    flight.trouble = "silent", "did not answer in time"
                return
            heard.clear()
            try:
                async with asyncio.timeout(left if look_into is None else min(left, SILENCE_SECONDS)):
                    await heard.wait()
            except TimeoutError:
                if look_into is not None:
                    await look_into(list(waiting.values()))
                    for flight in [flight for flight in waiting.values() if flight.is_over]:
                        forget(flight)
    finally:
        for flight in list(waiting.values()):
            forget(flight)
