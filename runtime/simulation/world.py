"""Holds a simulated run together: one virtual time, one seed, processes by name, one trace.

    world = SimulatedWorld(seed=7)
    process = world.start("a")                  # then spawn actors in process.system, listen on process.network
    world.run_until(lambda: ..., seconds_max=30)
    print(world.trace.digest())

Whatever goes wrong inside (an actor that fails for good, a ``check`` that does not hold) ends the run: ``run`` raises
SimulationFailed, which names the seed, the moment, and the last lines of the trace.
"""

from __future__ import annotations

import random
from collections.abc import Callable
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


class SimulatedWorld:
    """One run. ``check``: every actor's ``check()`` runs after every message that it handles."""

    def __init__(
        self,
        seed: int | str = 0,
        *,
        check: bool = True,
        trace: Trace | None = None,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self.seed, self.check, self.turn_seconds = seed, check, turn_seconds
        self.loop = VirtualLoop()
        self.trace = trace or Trace()
        self.network = SimulatedNetwork(self)
        self.processes: dict[str, SimulatedProcess] = {}
        """By name the present or last life of each."""
        self.running: SimulatedProcess | None = None
        """Whose actor has handled a message last: who speaks, for logs."""

    def stream(self, purpose: str) -> random.Random:
        """Dice of the world's seed that are for one purpose: those for another do not disturb them."""
        return random.Random(f"{self.seed} {purpose}")

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
        """Let so much time pass. Raises SimulationFailed."""
        self.loop.advance(seconds)

    def run_until(self, condition: Callable[[], bool], seconds_max: float) -> bool:
        """Let time pass until the moment in which a condition becomes true; False if it does not in that time.

        Raises SimulationFailed. The condition is asked at every moment in which anything happens, so let it be cheap.
        """
        return self.loop.advance_until(condition, seconds_max)

    # What happens

    def happened(self, process: str, what: str) -> None:
        """Write something that befell a process into the trace."""
        self.trace.happened(self.loop.time(), process, what)

    def handled(self, process: SimulatedProcess, actor: Actor, message: Any) -> None:
        """An actor has handled a message."""
        self.running = process
        self.trace.handled(self.loop.time(), process.name, actor.name, message)
        if self.check:
            try:
                actor.check()
            except Exception as failure:
                what = f"{actor.name} of {process.name} does not hold its invariants after {type(message).__name__}"
                self.fail(what, failure)

    def fail(self, what: str, failure: BaseException | None = None) -> None:
        """End the run. Raises SimulationFailed."""
        why = f": {failure!r}" if failure is not None else ""
        tail = "\n  ".join(self.trace.tail(TRACE_LINES_SHOWN))
        raise SimulationFailed(
            f"{what}{why}\nseed {self.seed!r}, at {self.now():.6f} s; what happened last:\n  {tail}"
        ) from failure
