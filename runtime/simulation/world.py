"""Holds a simulated run together: one virtual time, one seed, processes by name, one trace.

    world = SimulatedWorld(seed=7)
    process = world.start("a")                  # then spawn actors in process.system, listen on process.network
    world.run_until(lambda: ..., seconds_max=30)
    print(world.trace.digest())

Whatever must not happen ends the run: a ``check`` that does not hold, an actor that fails, an exception that somebody
caught and could only write into the log. ``run`` then raises SimulationFailed, which names the seed, the moment, and
the last lines of the trace. Failures that a scenario provokes (a full disk, say) are let pass by ``actors_may_fail``.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..actor import Actor
from ..virtual import VirtualLoop
from .network import SimulatedNetwork
from .process import SimulatedProcess
from .trace import Trace

TURN_SECONDS = 30e-6
"""What a turn of a process takes unless said otherwise."""

TRACE_LINES_SHOWN = 40
"""How much of the trace a failure shows."""


class SimulationFailed(AssertionError):
    """Raised when something happened in a simulated run that must never happen."""


class _Log(logging.Handler):
    """What is logged in a simulated run: read by its people, in its time, and searched for failures."""

    def __init__(self, world: SimulatedWorld, tell: Callable[[str], object] | None) -> None:
        super().__init__(logging.ERROR if tell is None else logging.NOTSET)
        self._world, self._tell = world, tell

    def emit(self, record: logging.LogRecord) -> None:
        world = self._world
        if self._tell is not None:
            name = world.running.name if world.running is not None else "*"
            self._tell(f"{world.now():.6f} {name} {record.levelname} {record.getMessage()}")
        failure = record.exc_info[1] if record.exc_info else None
        if failure is not None and record.levelno >= logging.ERROR and not world.actors_may_fail:
            world.fail(record.getMessage(), failure)


class SimulatedWorld:
    """One run.

    ``check``: every actor's ``check()`` runs after every message that it handles. ``log`` is told every line that is
    logged (as much as the loggers let through), with the moment and the process.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        check: bool = True,
        trace: Trace | None = None,
        log: Callable[[str], object] | None = None,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self.seed, self.check, self.turn_seconds = seed, check, turn_seconds
        self.actors_may_fail = False
        """Whether an actor that fails is nothing special, since the world is bad enough."""
        self.failure: SimulationFailed | None = None
        """What has ended the run."""
        self._log = _Log(self, log)
        self._runs = False
        self._streams: list[tuple[str, random.Random]] = []
        self.loop = VirtualLoop()
        self.trace = trace or Trace()
        self.network = SimulatedNetwork(self)
        self.processes: dict[str, SimulatedProcess] = {}
        """By name the present or last life of each."""
        self.running: SimulatedProcess | None = None
        """Whose turn it is, or was last: who speaks, for logs."""

    def stream(self, purpose: str) -> random.Random:
        """Dice of the world's seed that are for one purpose: those for another do not disturb them."""
        dice = random.Random(f"{self.seed} {purpose}")
        self._streams.append((purpose, dice))
        return dice

    def reseed(self, seed: int | str) -> None:
        """From now on chance goes the way of another seed, in everything."""
        self.seed = seed
        for purpose, dice in self._streams:
            dice.seed(f"{seed} {purpose}")

    def now(self) -> float:
        """Seconds since the beginning."""
        return self.loop.time()

    # Processes

    def start(
        self,
        name: str,
        *,
        clock_rate: float = 1.0,
        wall_error_seconds: float = 0.0,
        turn_seconds: float | None = None,
    ) -> SimulatedProcess:
        """Begin a new life of the process called ``name``. Raises ValueError while the one before lives."""
        before = self.processes.get(name)
        if before is not None and before.alive:
            raise ValueError(f"{name} runs already; kill it first")
        process = self.processes[name] = SimulatedProcess(
            self,
            name,
            before.life + 1 if before is not None else 1,
            clock_rate=clock_rate,
            wall_error_seconds=wall_error_seconds,
            turn_seconds=self.turn_seconds if turn_seconds is None else turn_seconds,
        )
        self.happened(name, f"started, life {process.life}")
        self.network.process_started(name)
        return process

    # Time

    def run(self, seconds: float) -> None:
        """Let so much time pass. Raises SimulationFailed. Not to be called from inside, in a callback."""
        with self._heeded():
            self.loop.advance(seconds)

    def run_until(self, condition: Callable[[], bool], seconds_max: float) -> bool:
        """Let time pass until the moment in which a condition becomes true; False if it does not in that time.

        Raises SimulationFailed. The condition is asked at every moment in which anything happens, so let it be cheap.
        """
        with self._heeded():
            return self.loop.advance_until(condition, seconds_max)

    @contextmanager
    def _heeded(self) -> Iterator[None]:
        """What is logged is ours; a failure ends the run even if somebody has caught it on the way."""
        if self._runs:
            raise RuntimeError("time passes already: a callback of the world cannot wait for more of it")
        self._runs = True
        logger = logging.getLogger(__name__.partition(".")[0])
        logger.addHandler(self._log)
        try:
            yield
        finally:
            self._runs = False
            logger.removeHandler(self._log)
            if self.failure is not None:
                raise self.failure

    def close(self) -> None:
        """End all processes. Nothing runs after this."""
        for process in self.processes.values():
            process.loop.die()

    # What happens

    def happened(self, process: str, what: str) -> None:
        """Write something that befell a process into the trace."""
        self.trace.happened(self.loop.time(), process, what)

    def handled(self, process: str, actor: Actor, message: Any) -> None:
        """An actor has handled a message."""
        self.trace.handled(self.loop.time(), process, actor.name, message)
        if self.check:
            try:
                actor.check()
            except Exception as failure:
                what = f"{actor.name} of {process} does not hold its invariants after {type(message).__name__}"
                self.fail(what, failure)

    def fail(self, what: str, failure: BaseException | None = None) -> None:
        """End the run. Raises SimulationFailed."""
        why = f": {failure!r}" if failure is not None and repr(failure) not in what else ""
        tail = "\n  ".join(self.trace.tail(TRACE_LINES_SHOWN))
        text = f"{what}{why}\nseed {self.seed!r}, at {self.now():.6f} s; what happened last:\n  {tail}"
        if self.failure is None:
            self.failure = SimulationFailed(text)
            self.failure.__cause__ = failure
        raise self.failure
