"""Speaks to a cluster for a Python program: finds the node of a key, asks it, and says truly what came of it.

`Client` is synchronous and safe for threads; it has no thread of its own. It needs nothing of ringkeeper but the Redis
Cluster protocol, so it works with a Redis Cluster, too.

    with Client("127.0.0.1:7001") as client:
        client.set("user:42", "Ada")
        client.get("user:42")                      # b"Ada"
        with client.pipeline() as pipeline:
            pipeline.incr("visits").get("user:42")
            visits, user = pipeline.execute()

Keys are ``bytes`` or ``str`` (UTF-8). Values may also be ``int``, sent as decimal digits, as INCR counts; a float, a
bool or None has no such plain form and raises TypeError. What comes back is ``bytes``.

Every operation ends within ``timeout_seconds``. What certainly did not happen is done again meanwhile; a write that
went out and was not answered never is. `client_engine.py`, which `AsyncClient` shares, has these rules; here are the
words, and where they block.
"""

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Self, cast, overload

from . import client_requests as ask
from .client_engine import ClientEngine, Commands, Statistics
from .client_errors import (
    ClientError,
    Closed,
    CommandError,
    InDoubt,
    NoReplicas,
    NotDone,
    PartlyDone,
    Refused,
    Unavailable,
)
from .client_links import Connection, Flight, LookInto, Node, drive, exchange
from .client_requests import Key, Request, Value
from .rules.ring import Acks

__all__ = [
    "Client",
    "ClientError",
    "Closed",
    "CommandError",
    "InDoubt",
    "NoReplicas",
    "NotDone",
    "PartlyDone",
    "Pipeline",
    "Refused",
    "Statistics",
    "Unavailable",
]


class Client(ClientEngine):
    """A cluster, as seen by one program. See the module's text for what its methods promise.

    ``seeds``: ``"host:port"``, several separated by commas or as a sequence; one that answers is enough. Nothing is
    dialled before the first command. ``timeout_seconds`` bounds every operation as a whole, a pipeline or ``mset``
    included. ``retries_per_second_max`` is the budget for attempts after trouble, for all threads together.

    ``acks``: when writes are answered, ``"all"``: once every copy that is up has them, ``"one"``: once the coordinator
    has them, which is faster, and a failover may lose them; None: as the ring says. Methods that write take it, too,
    for themselves. A Redis Cluster knows nothing of it and does as it always does.

    ``read_from="any"``: commands that only read go to any node that has a copy, not the coordinator alone. They may
    then miss what was written a moment ago, and repeated reads may go back in time: a successor has what was
    acknowledged to ``acks`` all, but one that was cut off does not know yet that the others went on.

    Methods raise `NotDone` (nothing happened), `InDoubt` (perhaps something did) or `CommandError` (it cannot work),
    all of them `ClientError`; TypeError and ValueError are for calls that make no sense.
    """

    def _make_locks(self) -> None:
        super()._make_locks()
        self._refreshing = threading.Lock()
        _clients.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Operations under way in other threads end at once, with their errors."""
        self._end()

    # Commands for one key.

    def get(self, key: Key) -> bytes | None:
        """The value, None when there is none."""
        return cast("bytes | None", self._do(ask.get(key)))

    @overload
    def set(
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
    def set(
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
    def set(
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
        """Store, always or on a condition: ``nx`` no value yet, ``xx`` some value, ``ifeq`` exactly this value.

        True when stored, False when the condition did not hold; with ``get`` instead the value before, whether stored
        or not. Raises ValueError for more than one condition.
        """
        request = ask.set_(key, value, nx=nx, xx=xx, ifeq=ifeq, get=get)
        return cast("bool | bytes | None", self._do(request, acks))

    def setnx(self, key: Key, value: Value, *, acks: Acks | None = None) -> bool:
        """Store if there is no value; whether it was stored."""
        return cast("bool", self._do(ask.setnx(key, value), acks))

    def getset(self, key: Key, value: Value, *, acks: Acks | None = None) -> bytes | None:
        """Store, and return the value before."""
        return cast("bytes | None", self._do(ask.getset(key, value), acks))

    def getdel(self, key: Key, *, acks: Acks | None = None) -> bytes | None:
        """Delete, and return the value before."""
        return cast("bytes | None", self._do(ask.getdel(key), acks))

    def append(self, key: Key, value: Value, *, acks: Acks | None = None) -> int:
        """Add to the end of the value; its length afterwards, in bytes."""
        return cast("int", self._do(ask.append(key, value), acks))

    def strlen(self, key: Key) -> int:
        """Length of the value in bytes, 0 when there is none."""
        return cast("int", self._do(ask.strlen(key)))

    def incr(self, key: Key, by: int = 1, *, acks: Acks | None = None) -> int:
        """Add to the number in the value (0 when there is none); the sum."""
        return cast("int", self._do(ask.incr(key, by), acks))

    def decr(self, key: Key, by: int = 1, *, acks: Acks | None = None) -> int:
        """Subtract from the number in the value; the difference."""
        return cast("int", self._do(ask.decr(key, by), acks))

    def type(self, key: Key) -> str:
        """``"string"``, or ``"none"`` when there is no value."""
        return cast("str", self._do(ask.type_(key)))

    # Commands for many keys. They go to all nodes at once, and are atomic only within a slot, and of
    # that only up to as many keys as a node takes in one request.

    def delete(self, *keys: Key, acks: Acks | None = None) -> int:
        """Delete keys; how many there were. Raises PartlyDone when some are deleted and others not."""
        return drive(self._sum_of("DEL", keys, acks=acks))

    def exists(self, *keys: Key) -> int:
        """How many of the keys have a value; a key given twice counts twice."""
        return drive(self._sum_of("EXISTS", keys, reads=True))

    def mget(self, keys: Iterable[Key]) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none.

        Each is current when it is read; together they are no snapshot.
        """
        return drive(self._mget(keys))

    def mset(
        self,
        values: Mapping[Key, Value] | Mapping[str, Value] | Mapping[bytes, Value],
        *,
        acks: Acks | None = None,
    ) -> None:
        """Store many. Not atomic: others may see some stored and some not yet, and it may end so.

        Raises PartlyDone when some are stored and others not, or not for certain; its ``errors`` has these keys.
        """
        drive(self._mset(values, acks))

    # Commands for all keys: every coordinator is asked. They raise when a slot has none: a part is not all.

    def dbsize(self) -> int:
        """How many keys there are, as the nodes count at about the same moment."""
        return drive(self._dbsize())

    def keys(self, pattern: Key = "*") -> list[bytes]:
        """All keys that match a glob pattern, in no order. Holds up every node while it looks: see `scan_iter`."""
        return drive(self._keys(pattern))

    def flush_all(self) -> None:
        """Delete every key. Raises PartlyDone when some nodes did and others did not; ``errors`` is by address."""
        drive(self._everywhere("FLUSHALL", reads=False))

    def scan_iter(self, match: Key | None = None, count: int = 1000) -> Iterator[bytes]:
        """Every key that is there from beginning to end, once or more; others perhaps.

        A slot that leaves its coordinator before it has been scanned to its end is scanned anew, wherever it is then.
        ``count``: how many keys a node looks at for one reply. Each reply is an operation with a time of its own.
        """
        scan = self._scan(match, count)
        while (keys := drive(scan.page())) is not None:
            yield from keys

    # Any command.

    def execute(self, *args: Value, node: str | None = None, key: Key | None = None, acks: Acks | None = None) -> Any:
        """Any command: ``execute("EXPIRE", "user:42", 60)``. What comes back is the server's reply as it is.

        It goes to the coordinator of ``key``; without one, of the command's keys as ringkeeper's own table of commands
        has them; of a command that it does not know, of the first argument. Commands that have no key go to any node.
        What the table does not know counts as a write. ``node``: as `execute_on`.

        Raises ValueError for commands that would change the shared connection (SELECT, MULTI, SUBSCRIBE...) and, unless
        a node is named, for those that answer for one node's data (DBSIZE, SCAN, FLUSHALL...).
        """
        return drive(self._execute(args, node, key, acks))

    def execute_on(self, node: str, *args: Value, acks: Acks | None = None) -> Any:
        """Any command on the node at ``host:port``, in one attempt: nothing is retried, no MOVED followed."""
        return drive(self._execute_on(node, args, acks))

    def pipeline(self, *, acks: Acks | None = None) -> "Pipeline":
        """Commands to be sent together: one write per node instead of one per command."""
        return Pipeline(self, acks)

    # The cluster.

    def ping(self, node: str | None = None) -> bool:
        """True when a node (``node``: that one) answers. Raises when none does."""
        return bool(self.execute("PING", node=node) == b"PONG")

    def locate(self, key: Key) -> tuple[int, str]:
        """Slot of a key and address of its coordinator, as the client's map has them."""
        return drive(self._locate(key))

    def nodes(self) -> tuple[str, ...]:
        """Addresses of the nodes that coordinate a slot, as the client's map has them."""
        return drive(self._coordinators())

    def ring(self) -> dict[str, Any]:
        """The ring as a ringkeeper node shows it: ``RING SHOW``, decoded."""
        return drive(self._ring())

    # Where it blocks.

    def _do(self, request: Request, acks: Acks | None = None) -> Any:
        drive(self._settle([request], acks=acks))
        return request.outcome()

    def _make_node(self, address: str) -> Node:
        return Node(address, self._login, self._connections_per_node_max, self._count, reads_copies=self._reads_copies)

    async def _acquire(self, node: Node, deadline: float) -> Connection:
        return node.acquire(deadline)

    async def _exchange(self, flights: list[Flight], deadline: float, look_into: LookInto | None = None) -> None:
        exchange(flights, deadline, look_into)

    async def _pause(self, seconds: float) -> None:
        self._closed.wait(seconds)

    async def _begin_refresh(self, seconds: float) -> bool:
        return self._refreshing.acquire(timeout=seconds)

    def _end_refresh(self) -> None:
        self._refreshing.release()

    def _after_fork(self) -> None:
        """In a forked child: locks may be held by threads that exist no more, connections belong to the parent."""
        closed = self._closed.is_set()
        self._make_locks()
        if closed:
            self._closed.set()
        for node in self._nodes.values():
            node.forget()


class Pipeline(Commands):
    """Commands that are sent together when ``execute`` is called; results come in their order.

    Each is a command of its own: nothing is atomic, and one that fails does not keep the others from being done. All of
    them share the time of one operation. Not safe for threads.
    """

    def __init__(self, client: Client, acks: Acks | None = None) -> None:
        super().__init__()
        self._client = client
        self._acks = acks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._requests.clear()

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all, and return the results; the pipeline is empty afterwards.

        With ``raise_on_error`` False an error stands where its result would. Otherwise raises the first error
        when no command changed anything, else PartlyDone with ``errors`` by position and ``results``.
        """
        return drive(self._client._execute_all(self._taken(), self._acks, raise_on_error))


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
"""Those that a fork has to tidy up in the child."""


def _after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


os.register_at_fork(after_in_child=_after_fork)
