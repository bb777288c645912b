"""A client of a simulated cluster: finds the node for a key, tries again what was not done, says how it ended.

    client.call(("SET", "k", "v"), done)        later done(Outcome(happened="yes", reply=b"OK", ...))

It behaves as ``actors/client.py`` does, without its threads: it reads the map of the slots (CLUSTER SLOTS) and follows
MOVED, tries again after replies that say that nothing was done (TRYAGAIN, CLUSTERDOWN, LOADING, NOREPLICAS) and after
connections that took nothing, and does not repeat a write of which it cannot know whether it was carried out. Reads
change nothing, so they are always repeated.

    yes      it was carried out, and this is the reply
    no       it was not, and never will be
    maybe    it may have been, or may be still
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..actors.client_errors import REDIRECTIONS, TRANSIENT
from ..actors.rules.commands import COMMANDS, find
from ..actors.rules.slots import slot as slot_of
from ..runtime.simulation.process import SimulatedProcess
from ..runtime.simulation.resp_caller import ErrorReply, NoReply, RespCaller

OPERATION_SECONDS_MAX = 5.0
"""So long an operation is tried before it ends without success."""

PAUSE_SECONDS = (0.01, 0.08)
"""Before it is tried again, at least and at most."""

DOUBT_ATTEMPTS = 10
"""After so many attempts that did nothing the map may be wrong."""

WORD_BYTES_SHOWN = 24
"""Of each word of a command so much is written into the trace."""

MAP_SECONDS_MIN = 0.1
"""The map is read at most so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an operation."""

    happened: Literal["yes", "no", "maybe"]
    reply: Any
    """The reply; an ErrorReply or a NoReply, if the last attempt had no better."""
    node: str
    """Whom the last attempt was made at."""
    attempts: int
    asked_at: float
    ended_at: float
    """World time."""


Done = Callable[[Outcome], object]


class SimulatedClient:
    """A client in a process of its own. ``seeds``: nodes it knows of at first; ``greeting``: commands that each of its
    connections begins with."""

    def __init__(
        self, process: SimulatedProcess, seeds: Sequence[str], greeting: Sequence[tuple[str, ...]] = ()
    ) -> None:
        self.process = process
        self.seeds = list(seeds)
        self._caller = RespCaller(process, greeting=greeting)
        self._runs: list[tuple[int, int, str]] = []
        """The map: first slot, last slot, and who answers for them; ascending."""
        self._nodes: dict[int, str] = {}
        """Who answers for a slot, as far as MOVED has said since the map was read."""
        self._map_read_at = float("-inf")

    def call(
        self, args: Sequence[bytes | str | int], done: Done, *, node: str | None = None,
        seconds_max: float = OPERATION_SECONDS_MAX,
    ) -> None:  # fmt: skip
        """Begin an operation on one key; ``node``: ask only this one. ``done`` is called once with its outcome."""
        _Operation(self, args, done, node, seconds_max).attempt()

    def caller(self) -> RespCaller:
        """Its connections, for commands to one node."""
        return self._caller

    def node_of(self, slot: int | None) -> str:
        """Whom to ask about a slot."""
        if slot is not None:
            node = self._nodes.get(slot)
            if node is not None:
                return node
            at = bisect_right(self._runs, (slot, 1 << 14, "")) - 1
            if at >= 0 and slot <= self._runs[at][1]:
                return self._runs[at][2]
            self.read_map()
        return self.process.random.choice(self.seeds)

    def moved(self, slot: int, node: str) -> None:
        self._nodes[slot] = node
        if node not in self.seeds:
            self.seeds.append(node)
        self.read_map()

    def read_map(self) -> None:
        """Ask somebody for the map, unless that was done a moment ago."""
        now = self.process.loop.time()
        if now - self._map_read_at >= MAP_SECONDS_MIN:
            self._map_read_at = now
            self._caller.call(self.process.random.choice(self.seeds), ("CLUSTER", "SLOTS"), self._map_read, 1.0)

    def _map_read(self, reply: Any) -> None:
        if isinstance(reply, list):
            self._nodes.clear()
            self._runs = sorted((first, last, f"{node[0].decode()}:{node[1]}") for first, last, node, *_ in reply)
            for _, _, node in self._runs:
                if node not in self.seeds:
                    self.seeds.append(node)

    def forget(self, slot: int | None) -> None:
        """Whoever is said to answer for it does not."""
        if slot is not None:
            self._nodes.pop(slot, None)
            self.read_map()


class _Operation:
    """One operation, from its first attempt to its end."""

    def __init__(
        self, client: SimulatedClient, args: Sequence[bytes | str | int], done: Done, node: str | None,
        seconds_max: float,
    ) -> None:  # fmt: skip
        self._client, self._args, self._done = client, args, done
        self._loop, self._world = client.process.loop, client.process.world
        words = [_bytes(arg) for arg in args]
        command = find(COMMANDS, words[0])
        keys = command.keys(words) if command is not None else []
        self._slot = slot_of(keys[0]) if keys else None
        self._reads = command is not None and not command.writes
        self._only, self._node = node, ""
        self._attempts = 0
        self._asked_at = self._world.now()
        self._deadline = self._loop.time() + seconds_max

    def attempt(self) -> None:
        self._attempts += 1
        self._node = self._only or self._client.node_of(self._slot)
        left = max(self._deadline - self._loop.time(), 0.01)
        self._client.caller().call(self._node, self._args, self._answered, left)

    def _answered(self, reply: Any) -> None:
        if isinstance(reply, NoReply):
            self._client.forget(self._slot)
            if reply.sent and not self._reads:
                self._end("maybe", reply)
            else:
                self._again(reply)
        elif isinstance(reply, ErrorReply):
            code, _, rest = str(reply).partition(" ")
            if code in REDIRECTIONS and self._only is None:
                slot, _, node = rest.partition(" ")
                self._client.moved(int(slot), node)
                self._again(reply, at_once=self._attempts < 5)
            elif code in TRANSIENT:
                if self._attempts % DOUBT_ATTEMPTS == 0:
                    self._client.forget(self._slot)
                self._again(reply)
            else:
                self._end("maybe" if code == "INDOUBT" and not self._reads else "no", reply)
        else:
            self._end("yes", reply)

    def _again(self, reply: Any, at_once: bool = False) -> None:
        """The last attempt did nothing: make another, if there is time."""
        pause = 0.0 if at_once else self._client.process.random.uniform(*PAUSE_SECONDS)
        if self._loop.time() + pause >= self._deadline:
            self._end("no", reply)
        else:
            self._loop.call_later(pause, self.attempt)

    def _end(self, happened: Literal["yes", "no", "maybe"], reply: Any) -> None:
        command = b" ".join(_bytes(arg)[:WORD_BYTES_SHOWN] for arg in self._args[:3]).decode(
            "ascii", "backslashreplace"
        )
        self._world.happened(self._client.process.name, f"{command} at {self._node}: {happened}")
        self._done(
            Outcome(
                happened=happened,
                reply=reply,
                node=self._node,
                attempts=self._attempts,
                asked_at=self._asked_at,
                ended_at=self._world.now(),
            )
        )


def _bytes(arg: bytes | str | int) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()
