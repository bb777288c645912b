"""Asks the processes of a cluster what they know of themselves: one of them, or all at once, whoever of them is dead.

Processes go by *places*: the id of a node, ``ecs`` for the control service that leads, ``launcher`` where there is one,
the address of a bridge. Nodes are asked at their own client ports, so that nothing between processes can be in the way;
all others by way of any node (``RING OBSERVE``). A process that does not answer is a sentence: the others have
something to say.

``Processes`` says how, whichever world a cluster is in. ``ClientProcesses`` are those of a cluster that a client
reaches; the shell has them simulated as well (``shell/simulated_target.py``). `ringkeeper events`, `top` and the shell
all look this way.
"""

from __future__ import annotations

import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .outcomes import IN_DOUBT, REFUSED, Trouble

if TYPE_CHECKING:
    from ..actors.client import Client
    from ..actors.client_errors import CommandError
    from ..actors.rules.journey import Hop
    from ..actors.rules.ring import Ring

Answer = TypeVar("Answer")

ECS, LAUNCHER = "ecs", "launcher"

ASKED_AT_ONCE_MAX = 128

OBSERVED_SECONDS_MAX = 7.0
"""A gateway waits for an observer for 5 s, and says so then."""
ASKED_SECONDS_MAX = 67.0
"""... and for what an actor or code was asked, as much longer as somebody wishes, at most a minute."""
PATIENT_WORDS = ("ASK", "PY")


class Processes(ABC):
    """The processes of one cluster."""

    def __init__(self) -> None:
        self._silent: set[str] = set()
        """Nodes that did not answer when they were asked last: others are asked by way of them last."""

    # Asking

    @abstractmethod
    def execute(self, *words: str | bytes | int) -> Any:
        """The reply to a command, of whoever answers for its key, or of any node. Raises Trouble."""

    @abstractmethod
    def execute_on(self, node: str, *words: str | bytes | int) -> Any:
        """The reply of one node. Raises Trouble."""

    def ask(self, *words: str) -> Any:
        """What a verb of RING answers in JSON. Raises Trouble."""
        return json.loads(self.execute("RING", *words))

    def observe(self, place: str, word: str, **arguments: Any) -> Any:
        """What the observer of a process answers to a word. Raises Trouble."""
        return self._observe(self.known_ring(), place, word, arguments)

    def observe_all(
        self, places: Iterable[str], word: str, each: Mapping[str, Mapping[str, Any]] | None = None, **arguments: Any
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The answers of several processes, and why others gave none, both by place. ``each``: by place, arguments that
        go to that one alone. Raises Trouble only when nobody ever told what the ring is."""
        ring, asked = self.known_ring(), list(places)

        def ask(place: str) -> Any:
            try:
                return self._observe(ring, place, word, {**arguments, **(each or {}).get(place, {})})
            except Trouble as trouble:
                return trouble

        heard = dict(zip(asked, self.of_each(ask, asked), strict=True))
        answers = {place: answer for place, answer in heard.items() if not isinstance(answer, Trouble)}
        return answers, {place: str(why.message) for place, why in heard.items() if isinstance(why, Trouble)}

    def everywhere(self, places: Iterable[str], word: str, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
        """The answers of several processes by place, and for those that give none a sentence."""
        answers, silent = self.observe_all(places, word, **arguments)
        return answers, sentences(silent)

    def of_each(self, ask: Callable[[str], Answer], places: Sequence[str]) -> list[Answer]:
        """What several processes say, in their order."""
        return [ask(place) for place in places]

    def _observe(self, ring: Ring, place: str, word: str, arguments: Mapping[str, Any]) -> Any:
        if place in ring.by_id:
            return self._observed(place, "here", word, arguments)
        if place == LAUNCHER:
            place = self.bridge(place)
        trouble = Trouble("no node of the cluster is up", REFUSED)
        for node in sorted(_up(ring), key=self._silent.__contains__):
            try:
                return self._observed(node, place, word, arguments)
            except Trouble as failure:
                trouble = failure
                if "cannot be reached" in str(failure.message) or "did not answer" in str(failure.message):
                    break  # it may have been done, or others would say the same
        raise trouble

    def _observed(self, node: str, where: str, word: str, arguments: Mapping[str, Any]) -> Any:
        return json.loads(self.execute_on(node, "RING", "OBSERVE", where, word, json.dumps(arguments)))

    # Who there is

    @abstractmethod
    def ring(self) -> Ring:
        """The newest ring that can be had. Raises Trouble."""

    def known_ring(self) -> Ring:
        """The same, as far as it takes to know whom to ask: it may be the last one that was read. Raises Trouble."""
        return self.ring()

    def status(self) -> dict[str, Any]:
        """RING STATUS. Raises Trouble."""
        return dict(self.ask("STATUS"))

    def nodes(self) -> list[str]:
        """The nodes that are up, by id."""
        return _up(self.known_ring())

    def known_nodes(self) -> list[str]:
        """The nodes that are not out, by id, whether they are up or not."""
        return sorted(node.id for node in self.known_ring().nodes if node.state != "out")

    def places(self) -> list[str]:
        """All processes that take part in what nodes do: nodes that are up, and who leads."""
        return [*self.nodes(), ECS]

    def everybody(self) -> list[str]:
        """The same, and the launchers."""
        launchers = self._launchers_if_known()
        return [*self.places(), *([LAUNCHER] if len(launchers) == 1 else launchers)]

    def whoever_may_be_there(self) -> list[str]:
        """The same, and nodes that are down, which may be alive. These places never mean another process later, but for
        the ECS."""
        return [*self.known_nodes(), ECS, *self._launchers_if_known()]

    def _launchers(self) -> list[str]:
        return sorted(self.ask("STATUS").get("launchers", {}).values())

    def _launchers_if_known(self) -> list[str]:
        try:
            return self._launchers()
        except Trouble:  # nobody leads who could tell
            return []

    def bridge(self, place: str) -> str:
        """The address of a process' bridge, as faults name it. Raises Trouble."""
        node = self.known_ring().by_id.get(place)
        if node is not None:
            return node.bridge_address
        if place == ECS:
            leader = self.status().get("leader")
            if not leader:
                raise Trouble("no ECS leads at the moment; try again", REFUSED)
            return str(leader)
        if place == LAUNCHER:
            launchers = self._launchers()
            if len(launchers) != 1:
                raise Trouble(f"{len(launchers)} launchers are registered: say which, by its address", REFUSED)
            return launchers[0]
        return place

    # Time

    @abstractmethod
    def now(self) -> float:
        """Seconds by a clock of the cluster's world."""

    def wall(self) -> float:
        """Seconds since the Unix epoch there."""
        return time.time()


def _up(ring: Ring) -> list[str]:
    return sorted(node.id for node in ring.circle if node.state in ("up", "returning"))


def sentences(silent: Mapping[str, str]) -> list[str]:
    """Why processes did not answer; those of the same reason together."""
    places: dict[str, list[str]] = {}
    for place, why in silent.items():
        places.setdefault(why, []).append(place)
    return [why if why.startswith(those[0]) else f"{', '.join(those)}: {why}" for why, those in places.items()]


class Story(NamedTuple):
    """What a trace has seen so far, in all processes."""

    hops: list[Hop]
    ended: dict[str, str]
    """By place, why it runs no more there; empty: it runs."""
    troubles: list[str]
    """Of those that do not answer, a sentence."""


class RunningTrace:
    """A trace in several processes. It ends there by itself; UNTRACE ends it before, and has them forget it."""

    def __init__(
        self, processes: Processes, places: Iterable[str], id: str, kind: str, about: str, **bounds: float
    ) -> None:
        """Begin it. ``kind``: key, actor or type; ``bounds``: messages_max, seconds. Who cannot follow it (a key in a
        launcher, say) is left out. Raises Trouble when nobody can."""
        self._processes, self.id = processes, id
        begun, self.refusals = processes.observe_all(places, "TRACE", None, **{"id": id, kind: about, **bounds})
        self.places = tuple(begun)
        """Where it runs; ``refusals``: where it does not, and why."""
        if not begun:
            raise Trouble(next(iter(sentences(self.refusals)), "there is no process to follow it in"), REFUSED)

    def told(self, word: str = "TRACED") -> Story:
        """``UNTRACE``: the end of it, too."""
        from ..actors.rules.journey import merged

        parts, troubles = self._processes.everywhere(self.places, word, id=self.id)
        return Story(merged(parts.values()), {place: part["ended"] for place, part in parts.items()}, troubles)


# By way of a client


SAYS = re.compile(r"says: (?:ERR )?(.*?)\. Nothing was changed, and the same command would fail again\.", re.DOTALL)
"""What a node has said, in the text of an error."""
WHY = re.compile(
    r"(?:was not done|is in doubt)[^:]*: (?:\S+ says: [A-Z]+ )?(.*?)\. (?:Nothing was|Reading changes|It may have)",
    re.DOTALL,
)
"""What stood in the way, in the text of an error."""

RING_SECONDS = 0.25
"""So long a ring that was read says whom to ask; and so long nobody is asked for it again after nobody has told it."""

SILENT = ("refused", "unreachable", "silent")
"""The client's codes for a node that has not said anything."""


class ClientProcesses(Processes):
    """Those of a running cluster, asked all at once: whoever hangs keeps nobody waiting longer than itself, and nobody
    longer than the client waits."""

    def __init__(self, client: Client, *, looker: Client | None = None, patient: Client | None = None) -> None:
        """``looker`` observes, ``patient`` does where answers may take a minute; the client where there is none."""
        super().__init__()
        self._client = client
        self._looker = looker or client
        self._patient = patient or client
        self._last_ring: Ring | None = None
        self._ring_asked = 0.0
        self._began = time.monotonic()

    def execute(self, *words: str | bytes | int) -> Any:
        return in_words(lambda: self._client.execute(*words))

    def execute_on(self, node: str, *words: str | bytes | int) -> Any:
        return in_words(lambda: self._client.execute_on(node, *words))

    def _observed(self, node: str, where: str, word: str, arguments: Mapping[str, Any]) -> Any:
        from ..actors.client_errors import ClientError, CommandError

        client = self._patient if word in PATIENT_WORDS else self._looker
        try:
            answer = json.loads(client.execute_on(node, "RING", "OBSERVE", where, word, json.dumps(arguments)))
        except CommandError as error:
            raise Trouble(said(error), REFUSED) from error
        except ClientError as error:
            if error.code in SILENT:
                self._silent.add(node)
            found = WHY.search(str(error))
            raise Trouble(found[1] if found is not None else error, REFUSED) from error
        self._silent.discard(node)
        return answer

    def of_each(self, ask: Callable[[str], Answer], places: Sequence[str]) -> list[Answer]:
        with ThreadPoolExecutor(min(len(places), ASKED_AT_ONCE_MAX) or 1) as threads:
            return list(threads.map(ask, places))

    def ring(self) -> Ring:
        from ..actors.rules.ring import Ring

        try:
            ring = self._last_ring = Ring.from_json(self.execute("RING", "SHOW"))
        finally:
            self._ring_asked = time.monotonic()
        return ring

    def known_ring(self) -> Ring:
        if self._last_ring is not None and time.monotonic() - self._ring_asked < RING_SECONDS:
            return self._last_ring
        try:
            return self.ring()
        except Trouble:
            if self._last_ring is None:
                raise
            return self._last_ring

    def status(self) -> dict[str, Any]:
        from .show import read_status

        return in_words(lambda: read_status(self._client))

    def now(self) -> float:
        return time.monotonic() - self._began


def in_words(ask: Callable[[], Answer]) -> Answer:
    """What is asked; what a client raises becomes a Trouble in as few words as there are."""
    from ..actors.client_errors import ClientError, CommandError

    try:
        return ask()
    except CommandError as error:
        raise Trouble(said(error), REFUSED) from error
    except ClientError as error:
        raise Trouble(error, IN_DOUBT if error.happened == "maybe" else REFUSED) from error
    except ValueError as error:
        raise Trouble(error, REFUSED) from error


def said(error: CommandError) -> str:
    """What the node has said, without what every such error says."""
    found = SAYS.search(str(error))
    return found[1] if found is not None else str(error)
