"""Brings requests to their end at a cluster, however its client waits: routing, attempts, the map, and what came of it.

`ClientEngine` is what `Client` (`client.py`), whose callers block, and `AsyncClient` (`async_client.py`), whose callers
await, have in common. It is written as coroutines that wait in four places only, which each of them fills in:
``_acquire``, ``_exchange``, ``_pause`` and ``_begin_refresh``. Where these block instead of suspending, `drive` runs a
coroutine to its end as if it were a function, so there is one set of rules.

**One engine.** Whatever the method, it comes down to requests (`Request`: one command for one node), and all requests
go through ``_settle``, in attempts:

    route by the map -> one flight per node: send all, then read all -> judge -> done | failed | again (pause, refresh)

Every operation ends within ``timeout_seconds``: each wait inside (for a connection of the pool, for the map, for
replies, before another attempt) is cut to what is left. Only the system's resolver keeps its own time: give addresses
rather than names where that matters.

**What is done again** is what certainly did not happen (`client_errors.py` says how that is known) and what changes
nothing: reads. A write that went out whole and was not answered is never repeated (rule R27): it is in doubt. Attempts
that follow trouble are paced twice: by exponential back-off with jitter within the operation, and by a budget that all
operations of the client share, so that a broken cluster is not hammered. Following MOVED and ASK is free at first.

**The map** says who coordinates each slot. It comes whole from CLUSTER SLOTS, with the epoch that CLUSTER INFO named
just before, so it never claims to be newer than it is; a map of an older epoch than the present one is refused. MOVED
corrects the one slot at once and makes the map doubted; the next operation reads it again. One operation does that at a
time. Every node that the map names can be asked for the next one, seeds or not.

**Order.** Commands of a pipeline for the same key are done in the order given, or the later ones only: an earlier one
that was turned away is not done after its successors. It fails, definitely not done.

**The parts.** `client_requests.py` makes requests out of calls, `client_links.py` carries them over connections,
`client_map.py` reads the map and addresses, `client_pacing.py` keeps an operation's time and the budget, and
`client_errors.py` has the errors and their texts. Here is what ties them together and decides.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Literal, Self, cast

from hiredis import ReplyError

from . import client_requests as ask
from .client_errors import (
    REDIRECTIONS,
    REFUSALS,
    TRANSIENT,
    ClientError,
    Trouble,
    command_error,
    in_doubt,
    not_done,
    partly_done,
)
from .client_links import (
    LOOKS_DOWN,
    LOOKS_LEFT,
    SILENCE_SECONDS,
    Connection,
    Flight,
    LookInto,
    NoConnection,
    Node,
    quote,
)
from .client_map import ClusterMap, called_down, epoch_in, parse_address, parse_redirection, parse_seeds, together
from .client_pacing import Operation, RetryBudget
from .client_requests import Key, Request, Value, as_key, as_text, as_value
from .rules.commands import KEYS_MAX
from .rules.ring import ACKS, Acks
from .rules.slots import SLOTS
from .rules.slots import slot as slot_of

REDIRECTIONS_FREE = 5
"""So many attempts of an operation may end in nothing but MOVED and ASK before these, too, make it pause."""
PAUSE_SECONDS_MIN = 0.01
"""The pause before a retry is at most this after the first attempt, twice as much after the second, and so on..."""
PAUSE_SECONDS_MAX = 0.5
"""...up to this. It is at least half of its most."""
AVOIDED_SECONDS = 5.0
"""For so long a node that gave trouble is not read while others hold the same."""
REFRESH_PAUSE_SECONDS = 0.1
"""The map is not asked for again before this is over, doubted or not."""
REFRESH_ASK_SECONDS_MAX = 1.0
"""How long one node may take to give its map before another is asked."""

CLOSED = Trouble("closed", "the client is closed")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a client has done since it was made."""

    requests: int = 0
    """Commands it was asked to do, each counted once however often it was sent."""
    moved: int = 0
    asked: int = 0
    """MOVED and ASK followed."""
    retries: int = 0
    """Commands tried again after other trouble."""
    refreshes: int = 0
    """Maps read; those refused for their older epoch included."""
    maps_refused: int = 0
    connections: int = 0
    """Connections opened."""
    reconnections: int = 0
    """Of these, the ones in place of a connection that was lost."""
    troubles: Mapping[str, int] = field(default_factory=dict)
    """By code, whatever stood in the way of a command, cured or not."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """By type, the errors that commands ended with."""


class ClientEngine:
    """A cluster, as seen by one program; see the module's text, and `Client` for what the settings mean."""

    def __init__(
        self,
        seeds: str | Sequence[str] = "127.0.0.1:7001",
        *,
        username: str | None = None,
        password: str | None = None,
        timeout_seconds: float = 5.0,
        connections_per_node_max: int = 16,
        retries_per_second_max: float = 100.0,
        acks: Acks | None = None,
        read_from: Literal["coordinator", "any"] = "coordinator",
    ) -> None:
        for name, value in (
            ("timeout_seconds", timeout_seconds),
            ("connections_per_node_max", connections_per_node_max),
            ("retries_per_second_max", retries_per_second_max),
        ):
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be more than 0")
        if username is not None and password is None:
            raise ValueError("a user name needs a password: give both, or only the password")
        if acks is not None and acks not in ACKS:
            raise ValueError(f"acks is {acks!r}; it must be one of {', '.join(ACKS)}, or None: as the ring says")
        if read_from not in ("coordinator", "any"):
            raise ValueError(f"read_from is {read_from!r}; it must be coordinator or any")
        self.timeout_seconds = timeout_seconds
        self._acks = acks
        self._reads_copies = read_from == "any"
        self._seeds = parse_seeds(seeds)
        self._login = () if password is None else ("AUTH", username or "default", password)
        self._connections_per_node_max = connections_per_node_max
        self._retries_per_second_max = retries_per_second_max
        self._map = ClusterMap()
        self._map_trouble: Trouble | None = None
        """Why the last reading of the map failed."""
        self._asked_at = float("-inf")
        self._doubted_at = 0.0
        """The map is doubted when something spoke against it after it was last asked for."""
        self._nodes: dict[str, Node] = {}
        self._counts: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._make_locks()

    def _make_locks(self) -> None:
        self._closed = threading.Event()
        self._nodes_lock = threading.Lock()
        self._counting = threading.Lock()
        self._budget = RetryBudget(self._retries_per_second_max)

    def __repr__(self) -> str:
        closed = ", closed" * self._closed.is_set()
        return f"<{type(self).__name__} of {', '.join(self._seeds)}, ring epoch {self._map.epoch}{closed}>"

    @property
    def epoch(self) -> int:
        """The epoch of the client's map; 0 before the first command."""
        return self._map.epoch

    @property
    def statistics(self) -> Statistics:
        """Counts until now."""
        with self._counting:
            return Statistics(**self._counts, troubles=dict(self._troubles), errors=dict(self._errors))

    def _end(self) -> None:
        """Close all connections; operations under way end at once, with their errors."""
        self._closed.set()
        with self._nodes_lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            node.end()

    # What a client fills in: the places where an operation waits.

    def _make_node(self, address: str) -> Node:
        raise NotImplementedError

    async def _acquire(self, node: Node, deadline: float) -> Connection:
        """A connection of a node, for one exchange. Raises NoConnection."""
        raise NotImplementedError

    async def _exchange(self, flights: list[Flight], deadline: float, look_into: LookInto | None = None) -> None:
        """Write all flights and read all replies: see ``exchange`` in `client_links.py`."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the client is closed."""
        raise NotImplementedError

    async def _begin_refresh(self, seconds: float) -> bool:
        """Be the only one that reads the map; False when another is at it for longer than these seconds."""
        raise NotImplementedError

    def _end_refresh(self) -> None:
        raise NotImplementedError

    # What the words of both clients come down to.

    async def _sum_of(self, name: str, keys: Iterable[Key], reads: bool = False, acks: Acks | None = None) -> int:
        return sum(request.reply for request in await self._do_all(name, keys, reads=reads, acks=acks))

    async def _mget(self, keys: Iterable[Key]) -> list[bytes | None]:
        wanted = [as_key(key) for key in keys]
        requests = await self._do_all("MGET", dict.fromkeys(wanted), reads=True)
        found = {key: value for request in requests for key, value in zip(request.keys, request.reply, strict=True)}
        return [found[key] for key in wanted]

    async def _mset(self, values: Mapping[Any, Value], acks: Acks | None) -> None:
        by_key = {as_key(key): as_value(value) for key, value in values.items()}
        await self._do_all("MSET", by_key, values=by_key, acks=acks)

    async def _dbsize(self) -> int:
        return sum(await self._everywhere("DBSIZE", reads=True))

    async def _keys(self, pattern: Key) -> list[bytes]:
        return [key for keys in await self._everywhere("KEYS", as_key(pattern), reads=True) for key in keys]

    async def _execute(self, args: Sequence[Value], node: str | None, key: Key | None, acks: Acks | None) -> Any:
        if node is not None:
            return await self._execute_on(node, args, acks)
        command = ask.command(args, None if key is None else as_key(key))
        await self._settle([command], acks=acks)
        return command.outcome()

    async def _execute_on(self, node: str, args: Sequence[Value], acks: Acks | None) -> Any:
        command = ask.command(args, None, node=parse_address(node))
        await self._settle([command], acks=acks, retry=False)
        return command.outcome()

    async def _execute_all(self, requests: list[Request], acks: Acks | None, raise_on_error: bool) -> list[Any]:
        """What a pipeline does."""
        await self._settle(requests, acks=acks)
        results = [
            request.error or (request.reply if request.convert is None else request.convert(request.reply))
            for request in requests
        ]
        if raise_on_error:
            named = [((position,), request) for position, request in enumerate(requests)]
            raise_unless_done(f"the pipeline of {len(requests)} commands", named, results)
        return results

    async def _locate(self, key: Key) -> tuple[int, str]:
        slot = slot_of(as_key(key))
        operation = Operation(self.timeout_seconds)
        await self._load_map(operation)
        address = self._map.coordinators[slot]
        if address is None:
            raise self._ended(not_done(f"locating {as_text(key)}", True, self._nobody(slot), 1, operation.seconds))
        return slot, address

    async def _coordinators(self) -> tuple[str, ...]:
        await self._load_map(Operation(self.timeout_seconds))
        return tuple(sorted({address for address in self._map.coordinators if address}))

    async def _ring(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(await self._execute(("RING", "SHOW"), None, None, None)))

    def _scan(self, match: Key | None, count: int) -> "Scan":
        if count < 1:
            raise ValueError(f"count is {count}; it must be 1 or more")
        return Scan(self, (*(() if match is None else ("MATCH", as_key(match))), "COUNT", count))

    # The engine.

    async def _do_all(
        self,
        name: str,
        keys: Iterable[Key],
        *,
        values: Mapping[bytes, Value] | None = None,
        reads: bool = False,
        acks: Acks | None = None,
    ) -> list[Request]:
        """A command of many keys, cut into one request per slot, or several where they are too many for one. Raises
        unless all are done."""
        by_slot: dict[int, list[bytes]] = {}
        for key in map(as_key, keys):
            by_slot.setdefault(slot_of(key), []).append(key)
        requests = []
        parts = (group[at : at + KEYS_MAX] for group in by_slot.values() for at in range(0, len(group), KEYS_MAX))
        for part in parts:
            words = part if values is None else [word for key in part for word in (key, values[key])]
            requests.append(Request((name, *words), tuple(part), reads))
        await self._settle(requests, acks=acks)
        count = sum(len(request.keys) for request in requests)
        raise_unless_done(f"{name} of {count} keys", [(request.keys, request) for request in requests])
        return requests

    async def _everywhere(self, *args: Value, reads: bool) -> list[Any]:
        """A command without a key on every coordinator, begun again until all of them have done it in one ring.

        Nobody says MOVED to such a command, so who came, or what moved, unknown to the map would be left out without a
        word: each node says before and after which ring it goes by.
        """
        operation = Operation(self.timeout_seconds)
        name, was_done = as_text(args[0]), False
        try:
            while True:
                await self._load_map(operation, whole=True)
                epoch = self._map.epoch
                nodes = sorted({address for address in self._map.coordinators if address})
                if await self._go_by(epoch, nodes, operation):
                    replies = await self._on_each(nodes, args, reads, operation)
                    was_done = True
                    if replies is not None and await self._go_by(epoch, nodes, operation):
                        return replies
                self._doubted_at = monotonic()
                if not await self._back_off(operation):
                    says = f"the ring is changing, and nodes did not all go by that of epoch {epoch} until the end"
                    trouble = Trouble("changing", says)
                    raise self._ended(not_done(name, reads, trouble, operation.attempt, operation.seconds))
        except ClientError as error:
            if reads or not was_done or error.happened == "maybe":
                raise
            trouble = Trouble(error.code, "it was done, but not in one ring by all nodes")
            raise self._ended(in_doubt(name, 0, trouble, operation.seconds)) from error

    async def _go_by(self, epoch: int, nodes: Sequence[str], operation: Operation) -> bool:
        """Whether each of the nodes has the ring of this epoch."""
        told = await self._on_each(nodes, ("CLUSTER", "INFO"), True, operation)
        return told is not None and all(epoch_in(info) == epoch for info in told)

    async def _on_each(
        self, nodes: Sequence[str], args: tuple[Value, ...], reads: bool, operation: Operation
    ) -> list[Any] | None:
        """What each of the nodes replies; None: one that was to be read has left the ring."""
        requests = [Request(args, (), reads, node=address) for address in nodes]
        await self._settle(requests, operation)
        if reads and any(request.error and request.node not in self._map.nodes for request in requests):
            return None
        raise_unless_done(as_text(args[0]), [((request.node,), request) for request in requests])
        return [request.reply for request in requests]

    async def _settle(
        self,
        requests: list[Request],
        operation: Operation | None = None,
        *,
        acks: Acks | None = None,
        retry: bool = True,
    ) -> None:
        """Bring every request to its end, within the operation's time."""
        operation = operation or Operation(self.timeout_seconds)
        operation.attempt = 0
        if (acks := acks or self._acks) is not None:
            if acks not in ACKS:
                raise ValueError(f"acks is {acks!r}; it must be one of {', '.join(ACKS)}")
            for request in requests:
                request.acks = acks
        self._count("requests", len(requests))
        pending = requests
        while pending:
            if retry and self._is_doubted:
                await self._refresh(operation)
            operation.attempt += 1
            await self._attempt(pending, operation)
            pending = [request for request in pending if request.trouble is not None]
            if pending and len(requests) > 1:
                pending = self._still_in_order(requests, operation)
            if pending and not (retry and await self._goes_on(pending, operation)):
                for request in pending:
                    self._fail(request, self._not_done(request, operation))
                break

    async def _attempt(self, requests: list[Request], operation: Operation) -> None:
        """Send each request to its node and judge what comes back. What may be tried again has a trouble afterwards."""
        flights: list[Flight] = []
        try:
            for address, group in self._route(requests, operation):
                node = self._node(address)
                try:
                    connection = node.idle() or await self._acquire(node, operation.part(1 / 2))
                except NoConnection as why:
                    if why.code != "busy":
                        self._blame(node)
                    for request in group:
                        self._turn_away(request, operation, Trouble(why.code, why.says, address))
                else:
                    flights.append(Flight(node, connection, group))
            if monotonic() > operation.sends_until:
                self._call_off(flights, operation)
                return
            # A silent node may soon have a successor: reads leave time to ask that one.
            patient = any(request.node or not request.reads for request in requests)
            deadline = operation.deadline if patient else operation.part(1 / 2)
            await self._exchange(flights, deadline, partial(self._end_if_gone, self._map))
        except BaseException:
            for flight in flights:
                flight.node.discard(flight.connection)
            raise
        for flight in flights:
            self._judge(flight, operation)

    async def _end_if_gone(self, asked: ClusterMap, flights: Iterable[Flight]) -> None:
        """Nodes are silent. One that the ring calls down may hang, with its connections: whatever it would still say,
        it has no part in the ring; what it was told to write may have been done. But one that is restarted in order
        is called down, too, and answers as soon as it has read that; and so does one that has left, though it may be
        slower than others. So each is looked at more than once."""
        for flight in flights:
            flight.node.failed_at = monotonic()  # others are asked first
        self._doubted_at = monotonic()
        await self._refresh(Operation(SILENCE_SECONDS))
        unnamed = [flight for flight in flights if flight.node.address in asked.nodes - self._map.nodes]
        down = await self._called_down() if unnamed else frozenset()
        for flight in unnamed:
            flight.looks_gone += 1
            is_down = flight.node.address in down
            if flight.looks_gone >= (LOOKS_DOWN if is_down else LOOKS_LEFT):
                what = "is down" if is_down else "is no member any more"
                flight.trouble = "gone", f"did not answer, and {what} in the ring of epoch {self._map.epoch}"

    async def _called_down(self) -> frozenset[str]:
        """The nodes that the ring calls down, by the word of one that is not silent; none, if that does not say."""
        told = await self._ask(self._candidates()[0], monotonic() + SILENCE_SECONDS, ("CLUSTER", "NODES"))
        return frozenset() if isinstance(told, Trouble) else called_down(told[0])

    def _route(self, requests: list[Request], operation: Operation) -> list[tuple[str, list[Request]]]:
        """Requests by node, nodes in the same order in all threads: so these cannot wait for each other's connections
        in a circle. Requests for a key that is written stay together, lest they be done in another order."""
        coordinators = self._map.coordinators
        groups: dict[str, list[Request]] = {}
        written: set[bytes] = set()
        if self._reads_copies:
            written.update(key for request in requests if not request.reads for key in request.keys)
        asked = {key: request.ask for request in requests if request.ask is not None for key in request.keys}
        for request in requests:
            if asked:
                request.ask = next((asked[key] for key in request.keys if key in asked), None)
            address = request.ask or request.node
            if address is None and request.slot < 0:
                address = self._candidates()[0]
            elif address is None:
                address = coordinators[request.slot]
                if self._reads_copies and request.reads and written.isdisjoint(request.keys):
                    address = self._reader(request.slot) or address
            if self._closed.is_set():
                self._turn_away(request, operation, CLOSED)
            elif address is None:
                self._doubted_at = monotonic()
                self._turn_away(request, operation, self._nobody(request.slot))
            elif address in groups:
                groups[address].append(request)
            else:
                groups[address] = [request]
        return sorted(groups.items()) if len(groups) > 1 else list(groups.items())

    def _reader(self, slot: int) -> str | None:
        """Any of the nodes that may be read for a slot; one that gave trouble lately only if all did."""
        long_ago = monotonic() - AVOIDED_SECONDS
        nodes = self._nodes

        def trouble(address: str) -> float:
            failed_at = nodes[address].failed_at if address in nodes else 0.0
            return failed_at if failed_at > long_ago else 0.0

        return min(self._map.members[slot], key=lambda address: (trouble(address), random.random()), default=None)

    def _call_off(self, flights: list[Flight], operation: Operation) -> None:
        """It took too long to get the connections. What stood in the way before says more than this."""
        for flight in flights:
            flight.node.release(flight.connection)
            for request in flight.expected:
                if request is not None and request.trouble is None:
                    says = "could not be asked while there was time for an answer"
                    self._turn_away(request, operation, Trouble("late", says, flight.node.address))

    def _judge(self, flight: Flight, operation: Operation) -> None:
        """Read the verdict on each request of a flight from its reply, or from the lack of one."""
        node = flight.node
        if flight.is_clean:
            node.failed_at = 0.0
            flight.connection.acks = flight.acks
            node.release(flight.connection)
        else:
            node.discard(flight.connection)
        for request, reply in zip(flight.expected, flight.replies, strict=False):
            if request is None:
                continue
            if type(reply) is ReplyError:
                self._judge_error(request, str(reply), node.address, operation)
            else:
                request.reply = reply
                request.trouble = request.ask = None
        if flight.trouble is None:
            return
        self._blame(node)
        trouble = Trouble(*flight.trouble, node.address)
        if self._closed.is_set():
            trouble = trouble._replace(code="closed", says="had not answered when the client was closed")
        end = 0
        for position, request in enumerate(flight.expected):
            end += len(flight.parts[position])
            if request is None or position < len(flight.replies):
                continue
            if request.reads or end > flight.sent:
                self._turn_away(request, operation, trouble)
            else:
                self._fail_in_doubt(request, operation, trouble)

    def _judge_error(self, request: Request, reply: str, address: str, operation: Operation) -> None:
        code, _, rest = reply.partition(" ")
        trouble = Trouble(code, quote(reply), address)
        redirection = parse_redirection(rest, address) if code in REDIRECTIONS and request.node is None else None
        if redirection is not None:
            slot, target = redirection
            self._turn_away(request, operation, trouble)
            if code == "ASK":
                request.ask = target
            else:
                self._map.correct(slot, target)
                self._doubted_at = monotonic()
                if request.slot < 0:
                    request.slot = slot
        elif code in TRANSIENT or code in REFUSALS or (code == "INDOUBT" and request.reads):
            self._doubted_at = monotonic()
            self._turn_away(request, operation, trouble)
        elif code == "INDOUBT":
            self._fail_in_doubt(request, operation, trouble)
        else:
            self._fail(request, command_error(str(request), self._note(request, trouble)))

    def _turn_away(self, request: Request, operation: Operation, trouble: Trouble) -> None:
        """Nothing was done. The request stays open for another attempt, unless that makes no sense."""
        self._note(request, trouble)
        request.ask = None
        gone = request.node is not None and bool(self._map.nodes) and request.node not in self._map.nodes
        if gone or trouble.code in REFUSALS or trouble.code == CLOSED.code:
            self._fail(request, self._not_done(request, operation))

    def _fail_in_doubt(self, request: Request, operation: Operation, trouble: Trouble) -> None:
        trouble = self._note(request, trouble)
        self._fail(request, in_doubt(str(request), len(request.keys), trouble, operation.seconds))

    def _note(self, request: Request, trouble: Trouble) -> Trouble:
        if trouble.address and request.slot >= 0:
            trouble = trouble._replace(place=f"slot {request.slot}, ring epoch {self._map.epoch}")
        request.trouble = trouble
        self._count_trouble(trouble.code)
        return trouble

    def _not_done(self, request: Request, operation: Operation) -> ClientError:
        trouble = cast("Trouble", request.trouble)
        return not_done(str(request), request.reads, trouble, operation.attempt, operation.seconds)

    def _fail(self, request: Request, error: ClientError) -> None:
        request.trouble = request.ask = None
        request.error = self._ended(error)

    def _still_in_order(self, requests: list[Request], operation: Operation) -> list[Request]:
        """The open requests, without those that would now be done, or see data, in another order than the caller's."""
        passed: dict[bytes, bool] = {}  # key -> whether a later command that may have been done writes it
        pending = []
        for request in reversed(requests):
            if request.trouble is None:
                if request.may_be_done:
                    for key in request.keys:
                        passed[key] = passed.get(key, False) or not request.reads
            elif any(key in passed and (passed[key] or not request.reads) for key in request.keys):
                says = f"{request.trouble.says}; and a later command for the same key came through"
                self._note(request, request.trouble._replace(code="overtaken", says=says))
                self._fail(request, self._not_done(request, operation))
            else:
                pending.append(request)
        return pending[::-1]

    async def _goes_on(self, pending: list[Request], operation: Operation) -> bool:
        """Make the pause that another attempt needs; False when there is no time for one."""
        redirected = sum(request.trouble is not None and request.trouble.code in REDIRECTIONS for request in pending)
        if redirected == len(pending) and operation.attempt <= REDIRECTIONS_FREE:
            return monotonic() < operation.sends_until
        if not await self._back_off(operation):
            return False
        self._count("retries", len(pending) - redirected)
        return True

    async def _back_off(self, operation: Operation) -> bool:
        longest = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2 ** (operation.attempt - 1))
        left = operation.sends_until - monotonic()
        pause = random.uniform(longest / 2, longest)
        wait = self._budget.take(left) if pause < left else None
        if wait is None:
            return False
        await self._pause(max(wait, pause))
        return True

    # The map.

    @property
    def _is_doubted(self) -> bool:
        return self._asked_at <= self._doubted_at or not self._map.nodes

    async def _load_map(self, operation: Operation, whole: bool = False) -> None:
        """See to it that there is a map, ``whole``: one with a coordinator for every slot. A doubted one is read again
        if that is possible. Raises NotDone."""
        while True:
            if self._is_doubted and not self._closed.is_set():
                await self._refresh(operation)
            operation.attempt += 1
            coordinators = self._map.coordinators
            slot = coordinators.index(None) if whole and None in coordinators else None
            if self._map.nodes and slot is None and not self._closed.is_set():
                return
            trouble = CLOSED if self._closed.is_set() else self._nobody(slot)
            self._doubted_at = monotonic()
            if trouble.code in REFUSALS or trouble is CLOSED or not await self._back_off(operation):
                raise self._ended(not_done("reading the ring", True, trouble, operation.attempt, operation.seconds))

    async def _refresh(self, operation: Operation) -> None:
        """Read the map from the first node that gives one not older than ours. Gives up quietly.

        Only one operation asks. Who is in trouble or has no map waits for it; the others go on with what they have.
        """
        urgent = operation.attempt > 0 or not self._map.nodes
        if not await self._begin_refresh(max(0.0, operation.sends_until - monotonic()) if urgent else 0.0):
            return
        try:
            if not self._is_doubted or monotonic() - self._asked_at < REFRESH_PAUSE_SECONDS:
                return  # perhaps another did it while this one waited
            self._asked_at = monotonic()
            troubles: list[Trouble] = []
            for address in self._candidates():
                if monotonic() > operation.sends_until or self._closed.is_set() or (troubles and not urgent):
                    break
                trouble = await self._ask_for_map(
                    address, min(operation.part(1 / 2), monotonic() + REFRESH_ASK_SECONDS_MAX)
                )
                if trouble is None:
                    self._map_trouble = None
                    return
                troubles.append(trouble)
                self._count_trouble(trouble.code)
            self._doubted_at = monotonic()
            if troubles:
                self._map_trouble = together(troubles)
        finally:
            self._end_refresh()

    async def _ask_for_map(self, address: str, deadline: float) -> Trouble | None:
        told = await self._ask(address, deadline, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
        if isinstance(told, Trouble):
            return told
        self._count("refreshes")
        newer = _map_of(told, address)
        if isinstance(newer, Trouble):
            return newer
        if not newer.nodes:
            return Trouble("empty", "knows no node that coordinates a slot", address)
        if newer.epoch < self._map.epoch:
            self._count("maps_refused")
            seen = f"shows the ring of epoch {newer.epoch} to a client that has seen epoch {self._map.epoch}"
            return Trouble(
                "older", f"{seen}: it lags, or its ring was rolled back, which a new client accepts", address
            )
        self._node(address).failed_at = 0.0
        self._map = newer
        self._retire_strangers()
        return None

    async def _ask(self, address: str, deadline: float, *commands: tuple[str, ...]) -> list[Any] | Trouble:
        """What a node replies to commands about the ring; or, if it does not, why."""
        node = self._node(address)
        try:
            connection = await self._acquire(node, deadline)
        except NoConnection as why:
            node.failed_at = monotonic()
            return Trouble(why.code, why.says, address)
        flight = Flight(node, connection, [Request(command, (), reads=True) for command in commands])
        try:
            await self._exchange([flight], deadline)
        finally:
            if flight.is_over and flight.is_clean:
                node.release(connection)
            else:
                node.discard(connection)
        if flight.trouble is not None:
            node.failed_at = monotonic()
            return Trouble(*flight.trouble, address)
        for reply in flight.replies:
            if type(reply) is ReplyError:
                code = "NOCLUSTER" if "cluster support disabled" in str(reply) else str(reply).partition(" ")[0]
                return Trouble(code, quote(reply), address)
        return flight.replies

    def _retire_strangers(self) -> None:
        """Let go of nodes that neither the map nor the seeds name."""
        known = {*self._map.nodes, *self._seeds}
        with self._nodes_lock:
            strangers = [self._nodes.pop(address) for address in list(self._nodes) if address not in known]
        for node in strangers:
            node.retire()

    def _candidates(self) -> list[str]:
        """Every address that may know the ring, in random order, but those that gave trouble last and latest."""
        failed_at = {address: node.failed_at for address, node in list(self._nodes.items())}
        known = {*self._map.nodes, *self._seeds}
        return sorted(known, key=lambda address: (failed_at.get(address, 0.0), random.random()))

    def _node(self, address: str) -> Node:
        node = self._nodes.get(address)
        if node is None:
            with self._nodes_lock:
                node = self._nodes.get(address)
                if node is None:
                    node = self._make_node(address)
                    self._nodes[address] = node
                    if self._closed.is_set():
                        node.end()
        return node

    def _nobody(self, slot: int | None = None) -> Trouble:
        """Why there is no node to be asked."""
        uncovered = f"no node coordinates slot {slot} in the ring of epoch {self._map.epoch}"
        return self._map_trouble or Trouble("uncovered", uncovered)

    def _blame(self, node: Node) -> None:
        node.failed_at = self._doubted_at = monotonic()

    def _count(self, what: str, number: int = 1) -> None:
        with self._counting:
            self._counts[what] += number

    def _count_trouble(self, code: str) -> None:
        with self._counting:
            self._troubles[code] += 1
            if code in REDIRECTIONS:
                self._counts["moved" if code == "MOVED" else "asked"] += 1

    def _ended(self, error: ClientError) -> ClientError:
        with self._counting:
            self._errors[type(error).__name__] += 1
        return error


def _map_of(told: list[Any], address: str) -> ClusterMap | Trouble:
    """What a node replied to CLUSTER INFO and CLUSTER SLOTS."""
    try:
        info, slots = told
        return ClusterMap.read(info, slots, address.rpartition(":")[0])
    except (LookupError, TypeError, ValueError) as error:
        return Trouble("garbage", f"shows a ring that makes no sense ({error})", address)


class Scan:
    """Goes through all keys, page by page, node by node, each slot at a node that had it in every page.

    SCAN passes over what is not the node's own without a word, and a slot may leave and come back while its node is
    scanned. So a page counts only if the node goes by the same ring after it as before; else it is asked again, for the
    slots that the node still has. Those that left are scanned later, from their beginning, wherever they are then.
    """

    def __init__(self, engine: ClientEngine, options: tuple[Any, ...]) -> None:
        self._engine, self._options = engine, options
        self._left = set(range(SLOTS))
        """The slots that have not been scanned to their end."""
        self._address = ""
        self._here: set[int] = set()
        """Those of them that are scanned at ``_address`` now: its own, in its ring of ``_epoch``."""
        self._epoch = 0
        self._cursor: Any = b"0"

    async def page(self) -> list[bytes] | None:
        """Some more keys, or none of them; None at the end. An operation with a time of its own."""
        if not self._here and not await self._turn_to_next():
            return None
        operation = Operation(self._engine.timeout_seconds)
        page = await self._ask(operation, ("SCAN", self._cursor, *self._options))
        if page is None:
            return []
        told = await self._ask(operation, ("CLUSTER", "INFO"))  # sent along it would be answered before the SCAN
        if told is None:
            return []
        if epoch_in(told[0]) != self._epoch:
            await self._hear_what_is_here(operation)
            return []
        self._cursor, found = page[0]
        keys = [key for key in found if slot_of(key) in self._here]
        if self._cursor == b"0":
            self._left -= self._here
            self._here = set()
        return keys

    async def _turn_to_next(self) -> bool:
        if not self._left:
            return False
        engine = self._engine
        operation = Operation(engine.timeout_seconds)
        while True:
            await engine._load_map(operation, whole=True)
            coordinators = engine._map.coordinators
            self._address, self._cursor = cast("str", coordinators[min(self._left)]), b"0"
            self._here = {slot for slot in self._left if coordinators[slot] == self._address}
            await self._hear_what_is_here(operation)
            if self._here:
                return True
            engine._doubted_at = monotonic()
            if not await engine._back_off(operation):
                says = f"has none of the slots that the ring of epoch {engine._map.epoch} gives to it"
                trouble = Trouble("changing", says, self._address)
                raise engine._ended(not_done("SCAN", True, trouble, operation.attempt, operation.seconds))

    async def _hear_what_is_here(self, operation: Operation) -> None:
        """Go by the node's own word, not by the map, which may be ahead of it or behind."""
        told = await self._ask(operation, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
        if told is None:
            return
        own = _map_of(told, self._address)
        if isinstance(own, Trouble):
            raise self._engine._ended(not_done("SCAN", True, own, 1, operation.seconds))
        self._epoch = own.epoch
        self._here = {slot for slot in self._here if own.coordinators[slot] == self._address}

    async def _ask(self, operation: Operation, *commands: tuple[Any, ...]) -> list[Any] | None:
        """What the node replies; None: it is in trouble, and others coordinate its slots. Nothing is scanned here."""
        engine = self._engine
        requests = [Request(command, (), reads=True, node=self._address) for command in commands]
        await engine._settle(requests, operation)
        error = next((request.error for request in requests if request.error is not None), None)
        if error is not None and self._address in engine._map.coordinators:
            raise error
        if error is not None:
            self._here = set()
            return None
        return [request.reply for request in requests]


class Commands:
    """Commands that are collected to be sent together: what the pipelines of both clients have in common."""

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def _taken(self) -> list[Request]:
        """All of them; none are left."""
        requests, self._requests = self._requests, []
        return requests

    def add(self, *args: Value, key: Key | None = None) -> Self:
        """Any command, as `Client.execute`."""
        return self._add(ask.command(args, None if key is None else as_key(key)))

    def get(self, key: Key) -> Self:
        return self._add(ask.get(key))

    def set(
        self,
        key: Key,
        value: Value,
        *,
        nx: bool = False,
        xx: bool = False,
        ifeq: Value | None = None,
        get: bool = False,
    ) -> Self:
        return self._add(ask.set_(key, value, nx=nx, xx=xx, ifeq=ifeq, get=get))

    def setnx(self, key: Key, value: Value) -> Self:
        return self._add(ask.setnx(key, value))

    def getset(self, key: Key, value: Value) -> Self:
        return self._add(ask.getset(key, value))

    def getdel(self, key: Key) -> Self:
        return self._add(ask.getdel(key))

    def delete(self, key: Key) -> Self:
        return self._add(ask.delete(key))

    def exists(self, key: Key) -> Self:
        return self._add(ask.exists(key))

    def append(self, key: Key, value: Value) -> Self:
        return self._add(ask.append(key, value))

    def strlen(self, key: Key) -> Self:
        return self._add(ask.strlen(key))

    def incr(self, key: Key, by: int = 1) -> Self:
        return self._add(ask.incr(key, by))

    def decr(self, key: Key, by: int = 1) -> Self:
        return self._add(ask.decr(key, by))

    def type(self, key: Key) -> Self:
        return self._add(ask.type_(key))

    def _add(self, request: Request) -> Self:
        self._requests.append(request)
        return self


def raise_unless_done(label: str, named: Sequence[tuple[Sequence[Any], Request]], results: Sequence[Any] = ()) -> None:
    """Raise for requests given together, under their names (keys, addresses, positions)."""
    errors = {name: request.error for names, request in named if request.error is not None for name in names}
    if not errors:
        return
    first = next(iter(errors.values()))
    if len(named) == 1 or not any(request.may_be_done and not request.reads for _, request in named):
        raise first
    done = sum(len(names) for names, request in named if request.error is None)
    raise partly_done(label, errors, done, results) from first
