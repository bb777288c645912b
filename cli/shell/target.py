"""What commands of the shell may ask of a cluster, whichever world it is in.

Two things make a target: processes of real clusters (``real_target.py``) and the simulation (``simulated_target.py``).
Whatever cannot be done, or is not answered, is a ``Trouble``: a sentence with the exit status of its kind.

Processes go by *places*: the id of a node, ``ecs`` for the control service that leads, ``launcher`` where there is one,
the address of a bridge. People may write less of an id, as long as one node alone can be meant (``7001``, ``:7001``).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]

from ...actors.rules.ring import Ring
from ...actors.rules.slots import slot
from ...runtime.observer import OBSERVER
from ..outcomes import NO, REFUSED, Trouble
from .lines import Wrong, did_you_mean, shipped

ECS, LAUNCHER = "ecs", "launcher"
NOTHING = cloudpickle.dumps(id)
"""Code that does nothing."""
LOOK_SECONDS = 0.02
"""The pause between two looks at what is waited for."""


@dataclass(slots=True)
class Pending:
    """A command that is not waited for."""

    text: str
    began: float
    """By the target's clock."""
    ended: float | None = None
    reply: Any = None
    trouble: Trouble | None = None
    """Why there is no reply."""


class Target(ABC):
    """A cluster."""

    simulated: ClassVar[bool]
    interfere = False
    """Whoever began the shell has said that he may interfere with a cluster that was not started for that."""

    # Asking

    @abstractmethod
    def execute(self, *words: str | bytes | int) -> Any:
        """The reply to a command, of whoever answers for its key, or of any node. Raises Trouble."""

    @abstractmethod
    def execute_on(self, node: str, *words: str | bytes | int) -> Any:
        """The reply of one node. Raises Trouble."""

    @abstractmethod
    def begin(self, text: str, *words: str | bytes | int) -> Pending:
        """Begin a command, and do not wait for its reply."""

    def ask(self, *words: str) -> Any:
        """What a verb of RING answers in JSON. Raises Trouble."""
        return json.loads(self.execute("RING", *words))

    def observe(self, place: str, word: str, **arguments: Any) -> Any:
        """What the observer of a process answers to a word. Raises Trouble.

        A node is asked itself, at its own client port, so that nothing between processes can be in the way.
        """
        known = self.ring().by_id
        if place in known:
            return self._observed(place, "here", word, arguments)
        if place == LAUNCHER:
            place = self.bridge(place)
        trouble = Trouble("no node of the cluster is up", REFUSED)
        for node in self.nodes():
            try:
                return self._observed(node, place, word, arguments)
            except Trouble as failure:
                trouble = failure
                if "cannot be reached" in str(failure.message) or "did not answer" in str(failure.message):
                    break
        raise trouble

    def _observed(self, node: str, where: str, word: str, arguments: dict[str, Any]) -> Any:
        return json.loads(self.execute_on(node, "RING", "OBSERVE", where, word, json.dumps(arguments)))

    def everywhere(self, places: Iterable[str], word: str, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
        """The answers of several processes by place, and for those that give none a sentence."""

        def ask(place: str) -> Any:
            try:
                return self.observe(place, word, **arguments)
            except Trouble as trouble:
                return trouble

        asked = list(places)
        heard = dict(zip(asked, self.of_each(ask, asked), strict=True))
        silent: dict[str, list[str]] = {}
        for place, answer in heard.items():
            if isinstance(answer, Trouble):
                silent.setdefault(str(answer.message), []).append(place)
        troubles = [
            text if text.startswith(those[0]) else f"{', '.join(those)}: {text}" for text, those in silent.items()
        ]
        return {place: answer for place, answer in heard.items() if not isinstance(answer, Trouble)}, troubles

    def of_each(self, ask: Callable[[str], Any], places: list[str]) -> list[Any]:
        """What several processes say, in their order."""
        return [ask(place) for place in places]

    # Who there is

    @abstractmethod
    def ring(self) -> Ring:
        """The newest ring that can be had. Raises Trouble."""

    def status(self) -> dict[str, Any]:
        """RING STATUS. Raises Trouble."""
        return dict(self.ask("STATUS"))

    def nodes(self) -> list[str]:
        """The nodes that are up, by id."""
        return sorted(node.id for node in self.ring().circle if node.state in ("up", "returning"))

    def places(self) -> list[str]:
        """All processes that can be looked into: nodes that are up, and who leads."""
        return [*self.nodes(), ECS]

    def everybody(self) -> list[str]:
        """The same, and the launchers, which take no part in what nodes do."""
        try:
            launchers = self._launchers()
        except Trouble:  # nobody leads who could tell
            launchers = []
        return [*self.places(), *([LAUNCHER] if len(launchers) == 1 else launchers)]

    def _launchers(self) -> list[str]:
        return sorted(self.status().get("launchers", {}).values())

    def place(self, word: str) -> str:
        """The process that a word means. Raises Wrong when it is none, or may be several."""
        ids = sorted(node.id for node in self.ring().circle)
        if word in (ECS, LAUNCHER) or word in ids:
            return word
        end = word if word.startswith(":") else f":{word}"
        meant = [id for id in ids if id.endswith(end) or (word.isdigit() and id.endswith(word))]
        if len(meant) == 1:
            return meant[0]
        if len(meant) > 1:
            raise Wrong(f"{word!r} may be {' or '.join(meant)}")
        host, _, port = word.rpartition(":")
        if host and port.isdigit():
            return word
        raise Wrong(f"{word!r} is no node{did_you_mean(word, ids)}; there are {', '.join(ids)}, and ecs")

    def is_place(self, word: str) -> bool:
        """Whether a word means one process."""
        try:
            self.place(word)
        except Wrong:
            return False
        return True

    def members(self, key: str) -> list[str]:
        """Who has a key: the coordinator first, then its successors that are up. Raises Trouble when nobody answers."""
        list_ = self.ring().lists[slot(key.encode("utf-8", "surrogateescape"))]
        up = [node.id for node in list_ if node.state == "up"]
        if not up:
            raise Trouble(f"nobody answers for {key} at the moment", NO)
        return up

    def bridge(self, place: str) -> str:
        """The address of a process' bridge, as faults name it."""
        node = self.ring().by_id.get(place)
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
        """Seconds by a clock of the target."""

    @abstractmethod
    def let_pass(self, seconds: float) -> None:
        """Let time pass."""

    def wait(self, condition: Callable[[], bool], seconds_max: float) -> bool:
        """Let time pass until a condition holds; False if it did not in time. Raises what the condition raises."""
        end = self.now() + seconds_max
        while not condition():
            if self.now() >= end:
                return False
            self.let_pass(LOOK_SECONDS)
        return True

    # Interfering

    def allowed(self) -> dict[str, bool]:
        """What processes were started to let people do, as the first node that is up says."""
        asked = {
            "tell actors anything, and hold, delay or drop their messages": ("FAULTS", {}),
            "run code": ("PY", {"actor": OBSERVER, "code": shipped(NOTHING)}),
        }
        yes = dict.fromkeys(asked, True)
        for what, (word, arguments) in asked.items():
            try:
                self.observe(self.nodes()[0], word, **arguments)
            except (Trouble, IndexError):
                yes[what] = False
        return yes

    def insist_on_interfering(self, what: str) -> None:
        """Raises Trouble unless the cluster was started to be interfered with, or somebody takes it upon himself."""
        why = "no node of it is up"
        for node in self.nodes() if not self.interfere else ():
            try:
                self.observe(node, "FAULTS")
            except Trouble as trouble:
                why = str(trouble.message)
            else:
                self.interfere = True
                break
        if not self.interfere:
            raise Trouble(
                f"{what} is for clusters that were started for it: {why}. A shell that was begun with --interfere does "
                "it all the same",
                REFUSED,
            )

    @abstractmethod
    def kill(self, node: str) -> None: ...
    @abstractmethod
    def pause(self, node: str) -> None: ...
    @abstractmethod
    def resume(self, node: str) -> None: ...
    @abstractmethod
    def restart(self, node: str) -> str:
        """Returns what was done, in a sentence."""

    @abstractmethod
    def cut(self, one: str, other: str) -> str:
        """Returns what was done, in a sentence."""

    @abstractmethod
    def heal(self) -> str:
        """Returns what was done, in a sentence."""

    # For completion: quick, silent, bounded

    @abstractmethod
    def actor_names(self) -> list[str]: ...
    @abstractmethod
    def message_fields(self) -> dict[str, list[str]]:
        """By type of message, the names of its fields."""

    @abstractmethod
    def keys(self, begin: str, count: int) -> list[str]: ...

    @abstractmethod
    def close(self) -> None: ...
