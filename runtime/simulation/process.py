"""Gives each simulated process a loop and a clock of its own, and lets it be paused, slowed and killed.

All processes of a world share one thread and one virtual time. A process runs by itself until it is idle, in no time at
all, and then is busy for ``turn_seconds``: what arrives meanwhile waits and is handled together, as it is by a real
loop. A slow process is one whose turns take long.

    running <--pause, resume--> paused          either --kill--> dead

*Paused* is what SIGSTOP does: timers fall due, the kernel goes on accepting connections and bytes as far as its buffers
reach, and nothing of it runs until it is resumed; its clock has gone on. *Dead* is what SIGKILL does: nothing of it
runs any more, not even what cleans up, and its machine closes its connections.

Clocks: each process counts from a beginning of its own, at a rate of its own (``clock_rate`` 1.001 gains a millisecond
a second), so whoever compares the clocks of two processes is found out. Its wall clock may be wrong as well.
"""

from __future__ import annotations

import random as random_module
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..system import ActorSystem
from ..virtual import VirtualLoop, VirtualTimer

if TYPE_CHECKING:
    from .network import ProcessNetwork
    from .world import SimulatedWorld

CALLBACKS_PER_TURN_MAX = 1_000_000
"""A process that runs so many callbacks without becoming idle is taken for an endless loop."""

EPOCH_SECONDS = 1_700_000_000.0
"""The wall time at which every world begins."""


class ProcessTimer(VirtualTimer):
    """A callback due at a moment of a process' time, if the process runs then.

    To the world it is a timer whose callback is ``due``; what it is for happens in a turn of the process.
    """

    __slots__ = ("_call", "_call_args", "_call_soon")

    def __init__(self, due: float, loop: ProcessLoop, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.due, self.callback, self.args = due, self._fall_due, ()
        self._call: Callable[..., object] | None = callback
        self._call_args, self._call_soon = args, loop.call_soon

    def cancel(self) -> None:
        self._call = self.callback = None

    def _fall_due(self) -> None:
        self._call_soon(self._fire)

    def _fire(self) -> None:
        if self._call is not None:
            self._call(*self._call_args)


class ProcessLoop:
    """Implements ``runtime.world.Loop`` for one life of a process, on the world's loop."""

    def __init__(
        self,
        world: VirtualLoop,
        *,
        clock: float,
        rate: float,
        turn_seconds: float,
        turn_begins: Callable[[], object],
    ) -> None:
        self.turn_seconds = turn_seconds
        """So long after it has run the process runs again."""
        self.dead = self.paused = False
        self.turns = 0
        self._world, self._turn_begins = world, turn_begins
        self._clock, self._since, self._rate = clock, world.time(), rate
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._running = self._run_comes = False
        self._busy_until = 0.0

    def time(self) -> float:
        return self._clock + (self._world.time() - self._since) * self._rate

    @property
    def rate(self) -> float:
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._clock, self._since = self.time(), self._world.time()
        self._rate = rate

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        if not self.dead:
            self._ready.append((callback, args))
            if not self._run_comes and not self._running:
                self._run_soon()

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> ProcessTimer:
        world = self._world
        now = world.time()
        timer = ProcessTimer(now + delay / self._rate if delay > 0.0 else now, self, callback, args)
        if not self.dead:
            world.add(timer)
        return timer

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        if self._ready and not self._run_comes:
            self._run_soon()

    def die(self) -> None:
        self.dead = True
        self._ready.clear()

    def _run_soon(self) -> None:
        if self.paused:
            return
        self._run_comes = True
        if self._busy_until > self._world.time():
            self._world.call_at(self._busy_until, self._run)
        else:
            self._world.call_soon(self._run)

    def _run(self) -> None:
        self._run_comes = False
        if self.dead or self.paused:
            return
        self._turn_begins()
        ready = self._ready
        self._running = True
        try:
            for _ in range(CALLBACKS_PER_TURN_MAX):
                if not ready:
                    break
                callback, args = ready.popleft()
                callback(*args)
            else:
                raise RuntimeError(f"{CALLBACKS_PER_TURN_MAX} callbacks ran in one turn and it is still not idle")
        finally:
            self._running = False
        self.turns += 1
        self._busy_until = self._world.time() + self.turn_seconds


class SimulatedProcess:
    """One life of a process. ``SimulatedWorld.start`` makes it; nothing in it survives it."""

    def __init__(
        self,
        world: SimulatedWorld,
        name: str,
        life: int,
        *,
        clock_rate: float,
        wall_error_seconds: float,
        turn_seconds: float,
    ) -> None:
        self.world, self.name, self.life = world, name, life
        self.random: random_module.Random = world.stream(f"process {name} {life}")
        self.wall_error_seconds = wall_error_seconds
        self.loop = ProcessLoop(
            world.loop,
            clock=self.random.uniform(1e3, 1e6),
            rate=clock_rate,
            turn_seconds=turn_seconds,
            turn_begins=self._turn_begins,
        )
        self.system = ActorSystem(  # its stopwatch, float, says 0.0 always: time stands still while an actor works
            loop=self.loop, name=name, random=self.random, wall=self.wall, stopwatch=float, registered=False
        )
        self.system.after_message = partial(world.handled, name)
        self.system.on_escalation = self._escalated
        self.network: ProcessNetwork = world.network.of(self)
        self.on_failure: Callable[[str, BaseException], None] | None = None
        """Called when an actor has failed for good, if actors may fail in this world: what a real process does then
        is end. Otherwise that ends the run."""

    @property
    def alive(self) -> bool:
        return not self.loop.dead

    @property
    def paused(self) -> bool:
        return self.loop.paused

    def wall(self) -> float:
        return EPOCH_SECONDS + self.world.loop.time() + self.wall_error_seconds

    def entropy(self, size: int) -> bytes:
        """Random bytes that nobody else can guess, as far as this world goes."""
        return self.random.randbytes(size)

    def actor(self, name: str) -> Any:
        """The actor itself, for checks to look into. Raises KeyError when there is none of that name."""
        ref = self.system.find(name)
        actor = ref._actor_weakref() if ref is not None else None
        if actor is None:
            raise KeyError(f"{self.name} has no actor called {name}")
        return actor

    def pause(self) -> None:
        self.world.happened(self.name, "paused")
        self.loop.pause()

    def resume(self) -> None:
        self.world.happened(self.name, "resumed")
        self.loop.resume()

    def kill(self, *, silent: bool = False) -> None:
        """End it as SIGKILL does; ``silent``: as a power cut does, so nobody is told that its connections are gone."""
        if self.alive:
            self.world.happened(self.name, "lost power" if silent else "killed")
            self.loop.die()
            self.world.network.process_died(self, silent=silent)

    def _turn_begins(self) -> None:
        self.world.running = self

    def _escalated(self, actor: str, failure: BaseException) -> None:
        if not self.world.actors_may_fail:
            self.world.fail(f"{actor} of {self.name} failed for good", failure)
        self.world.happened(self.name, f"{actor} failed for good: {type(failure).__name__}")
        if self.on_failure is not None:
            self.on_failure(actor, failure)
