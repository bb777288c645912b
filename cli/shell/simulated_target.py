"""A simulated cluster as the shell sees it: the same commands, and a time that passes only as far as they need.

Every question is asked at a simulated client port, as anybody's in that world. So asking is part of what happens there,
and is done again when the shell goes back. What the shell needs for itself, the ring for the names of nodes and words
for completion, is looked up in the world's memory, where it leaves no trace.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ...actors.rules.ring import Ring
from ...runtime.message import MESSAGES
from ...runtime.simulation.process import EPOCH_SECONDS
from ...runtime.simulation.resp_caller import ErrorReply, NoReply
from ...runtime.simulation.world import SimulationFailed
from ...scenarios.play import NotAScenario, Scenario, load_scenario
from ...scenarios.simulated_client import Outcome
from ...scenarios.simulated_stage import SimulatedStage
from ...scenarios.stage import Moment
from ...scenarios.stepped import QUIET, SteppedStory, StoryFailed
from ..observing import ASKED_SECONDS_MAX, OBSERVED_SECONDS_MAX, PATIENT_WORDS
from ..outcomes import IN_DOUBT, NO, REFUSED, USAGE, Trouble
from .target import Pending, Target

CLIENT = "shell"
"""The process in the simulated world that asks."""
EXECUTE_SECONDS_MAX = 10.0
KEYS_LOOKED_AT_MAX = 10_000


class SimulatedTarget(Target):
    """One story. Raises Trouble when there is no such scenario, or its cluster did not come up."""

    simulated = True
    interfere = True

    def __init__(self, seed: int, scenario: Path | None, tell: Callable[[Moment], object]) -> None:
        super().__init__()
        try:
            chosen: Scenario = QUIET if scenario is None else load_scenario(scenario)
            self.story = SteppedStory(chosen, seed, tell=tell)
        except (NotAScenario, StoryFailed) as failure:
            raise Trouble(failure, USAGE if isinstance(failure, NotAScenario) else NO) from failure

    def close(self) -> None:
        self.story.close()

    # Asking

    def execute(self, *words: str | bytes | int) -> Any:
        pending = self.begin("", *words)
        self.do(lambda stage: stage.cluster.world.run_until(lambda: pending.ended is not None, EXECUTE_SECONDS_MAX))
        if pending.trouble is not None:
            raise pending.trouble
        return pending.reply

    def execute_on(self, node: str, *words: str | bytes | int) -> Any:
        return self._execute_on(node, words, EXECUTE_SECONDS_MAX)

    def _observed(self, node: str, where: str, word: str, arguments: Mapping[str, Any]) -> Any:
        seconds = ASKED_SECONDS_MAX if word in PATIENT_WORDS else OBSERVED_SECONDS_MAX
        return json.loads(self._execute_on(node, ("RING", "OBSERVE", where, word, json.dumps(arguments)), seconds))

    def _execute_on(self, node: str, words: Sequence[str | bytes | int], seconds_max: float) -> Any:
        def execute(stage: SimulatedStage) -> Any:
            if node not in stage.cluster.machines:
                raise Trouble(f"{node} is no node of this cluster", REFUSED)
            return stage.cluster.execute(node, *words, seconds_max=seconds_max)

        return reply_of(self.do(execute), node)

    def begin(self, text: str, *words: str | bytes | int) -> Pending:
        pending = Pending(text, self.now())

        def begin(stage: SimulatedStage) -> None:
            def ended(outcome: Outcome) -> None:
                pending.ended = stage.now()
                if outcome.happened == "yes":
                    pending.reply = outcome.reply
                else:
                    pending.trouble = _trouble(outcome)

            stage.cluster.client(CLIENT).call(words, ended)

        self.do(begin)
        return pending

    def do(self, what: Callable[[SimulatedStage], Any]) -> Any:
        """Do something in the world. Raises Trouble when that ends it."""
        try:
            return self.story.do(what)
        except SimulationFailed as failure:
            _failed(failure)

    # Who there is

    def ring(self) -> Ring:
        ring = self.story.look(lambda stage: stage.ring())
        if ring is None:
            raise Trouble("there is no ring yet", NO)
        return ring

    # Time

    def now(self) -> float:
        return self.story.now

    def wall(self) -> float:
        return EPOCH_SECONDS + self.story.now

    def let_pass(self, seconds: float) -> None:
        self._pass(lambda: self.story.let_pass(seconds))

    def step(self, messages: int) -> None:
        """Let time pass until so many more messages were handled. Raises Trouble."""
        self._pass(lambda: self.story.step(messages))

    def _pass(self, go_on: Callable[[], None]) -> None:
        try:
            go_on()
        except SimulationFailed as failure:
            _failed(failure)

    # Interfering

    def kill(self, node: str) -> None:
        self._alive(node)
        self.do(lambda stage: stage.cluster.kill(node))

    def pause(self, node: str) -> None:
        self._alive(node)
        self.do(lambda stage: stage.cluster.pause(node))

    def resume(self, node: str) -> None:
        self._alive(node)
        self.do(lambda stage: stage.cluster.resume(node))

    def restart(self, node: str) -> str:
        self.do(lambda stage: stage.cluster.restart(node))
        return f"{node} is started again; `until up {node}` waits for it"

    def cut(self, one: str, other: str) -> str:
        self.do(lambda stage: stage.cluster.partition(one, other))
        return f"nothing comes through between {one} and {other}"

    def heal(self) -> str:
        self.do(lambda stage: stage.cluster.heal())
        return "the network is whole"

    def _alive(self, node: str) -> None:
        if not self.story.look(lambda stage: stage.cluster.process(node).alive):
            raise Trouble(f"the process of {node} runs no more", NO)

    # For completion

    def actor_names(self) -> list[str]:
        def names(stage: SimulatedStage) -> list[str]:
            lives = (process for process in stage.cluster.world.processes.values() if process.alive)
            return sorted({name for process in lives for name in process.system.names()})

        return list(self.story.look(names))

    def message_fields(self) -> dict[str, list[str]]:
        return {name: list(getattr(cls, "__dataclass_fields__", ())) for name, cls in sorted(MESSAGES.items())}

    def keys(self, begin: str, count: int) -> list[str]:
        def keys(stage: SimulatedStage) -> list[str]:
            found: set[str] = set()
            for node in stage.cluster.nodes():
                records = node.store.scan(0, (1 << 14) - 1, None, KEYS_LOOKED_AT_MAX, 1 << 30)
                found.update(key.decode("utf-8", "backslashreplace") for _, key, _ in records)
            return sorted(key for key in found if key.startswith(begin))[:count]

        return list(self.story.look(keys))


def reply_of(reply: Any, node: str) -> Any:
    """What a node has replied. Raises Trouble when that is an error, or nothing."""
    if isinstance(reply, NoReply):
        raise Trouble(f"{node} does not answer: {reply.why}", IN_DOUBT if reply.sent else REFUSED)
    if isinstance(reply, ErrorReply):
        raise Trouble(str(reply).removeprefix("ERR "), REFUSED)
    return reply


def _trouble(outcome: Outcome) -> Trouble:
    why = outcome.reply.why if isinstance(outcome.reply, NoReply) else str(outcome.reply).removeprefix("ERR ")
    if outcome.happened == "maybe":
        return Trouble(f"in doubt: {outcome.node}: {why}. Read the key before trying again.", IN_DOUBT)
    return Trouble(f"not done: {outcome.node}: {why}", REFUSED)


def _failed(failure: SimulationFailed) -> NoReturn:
    first = str(failure).partition("\n")[0]
    raise Trouble(f"this world has come to an end: {first}. `back` leads to before it.", NO) from failure
