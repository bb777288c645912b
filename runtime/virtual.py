"""Runs callbacks in virtual time: an event loop for tests and simulations.

Nothing here waits: time stands still while callbacks run and jumps to the next timer when none is ready, so an hour of
protocol passes in milliseconds and in the same order every time. Timers of the same instant fire in the order they
were set; one that is cancelled by another of its instant does not fire.
"""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

CALLBACKS_MAX = 1_000_000
"""More callbacks than this without reaching idleness is taken for an endless loop."""


class VirtualTimer:
    """A callback due at a moment of virtual time."""

    __slots__ = ("args", "callback", "due")

    def __init__(self, due: float, callback: Callable[..., object] | None, args: tuple[Any, ...]) -> None:
        self.due, self.callback, self.args = due, callback, args

    def cancel(self) -> None:
        self.callback = None


class VirtualLoop:
    """Implements ``runtime.world.Loop`` on one thread; time moves only in ``advance`` and its like. Seconds."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._order = count()

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._ready.append((callback, args))

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> VirtualTimer:
        due = self._now + delay if delay > 0.0 else self._now
        timer = VirtualTimer(due, callback, args)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    def call_at(self, due: float, callback: Callable[..., object], *args: Any) -> VirtualTimer:
        """As ``call_later``, at a moment; one that is past is now."""
        timer = VirtualTimer(due, callback, args)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    def add(self, timer: VirtualTimer) -> None:
        """Let a timer fire that somebody else has made."""
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))

    def run_until_idle(self) -> None:
        """Run what is ready now, and what that makes ready; timers of the future stay where they are."""
        ready, timers = self._ready, self._timers
        for _ in range(CALLBACKS_MAX):
            if ready:
                callback, args = ready.popleft()
                callback(*args)
            elif timers and timers[0][0] <= self._now:
                timer = heapq.heappop(timers)[2]
                due, timer.callback = timer.callback, None
                if due is not None:
                    due(*timer.args)
            else:
                return
        raise RuntimeError(f"{CALLBACKS_MAX} callbacks ran at virtual time {self._now} and it is still not idle")

    def advance(self, seconds: float) -> None:
        """Let time pass, firing every timer that falls due on the way, each at its own moment."""
        self.advance_until(None, seconds)

    def advance_until(self, condition: Callable[[], bool] | None, seconds_max: float) -> bool:
        """As ``advance``, and stop at the moment in which the condition has become true; says whether it has."""
        end, timers, ready = self._now + seconds_max, self._timers, self._ready
        self.run_until_idle()
        while condition is None or not condition():
            if not timers or timers[0][0] > end:
                self._now = end
                return False
            due, _, timer = heapq.heappop(timers)
            if due > self._now:
                self._now = due
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback(*timer.args)
                if ready or (timers and timers[0][0] <= due):
                    self.run_until_idle()
        return True
