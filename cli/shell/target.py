"""What commands of the shell may do with a cluster, whichever world it is in.

Two things make a target: processes of real clusters (``real_target.py``) and the simulation (``simulated_target.py``).
Whatever cannot be done, or is not answered, is a ``Trouble``: a sentence with the exit status of its kind.

How processes are asked, and by which *places* they go, says ``cli/observing.py``. People may write less of a node's id,
as long as one node alone can be meant (``7001``, ``:7001``).
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]

from ...actors.rules.slots import slot
from ...runtime.observer import OBSERVER
from ..observing import ECS, LAUNCHER, Processes
from ..outcomes import NO, REFUSED, Trouble
from .lines import Wrong, did_you_mean, shipped

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


class Target(Processes):
    """A cluster, to be looked into and interfered with."""

    simulated: ClassVar[bool]
    interfere = False
    """Whoever began the shell has said that he may interfere with a cluster that was not started for that."""

    @abstractmethod
    def begin(self, text: str, *words: str | bytes | int) -> Pending:
        """Begin a command, and do not wait for its reply."""

    # Who is meant

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

    # Time

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
