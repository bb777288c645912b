"""Finds what hangs in a process, and says where: a loop that is blocked, work that takes long, asks in a circle.

    a thread: every half second ...... ping the loop -> no answer for 2 s: the loop is blocked
                                  '... look at all blocking actors: who handles what, who waits for whom

On the loop nothing is kept for this while messages are handled: which actor handles which message is read from the
stack. A blocking actor says what it handles, for whoever looks; that it waits for an answer is read from its stack, and
whom that is expected of is written down by whoever asks. What is found is logged with the stacks of all threads, noted
as an event, and kept for the observer (HANGS); a process whose loop is blocked can say it only in its log. Time is
counted in looks, not by the clock: a process that was itself paused has looked once, not a hundred times, and reports
nothing on waking.

Actors on the loop never wait for each other (``WouldDeadlock``). Blocking actors may, and then each of them waits for
one other at most: following that leads into a circle or out of it. A circle through other processes is named here if
the other side waits in its ``ask`` to an actor that waits for it. Whether one that asked without ``block`` waits by now
is known there only; ``circles`` finds such circles, and longer ones, in what all processes tell.

A look costs some microseconds for each thread. Simulated processes have no watchdog: their time stands still while
something is handled.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from pykka._envelope import Envelope

from .actor import BlockingActor, LoopFuture
from .looking import stack_of, stacks

if TYPE_CHECKING:
    from .system import ActorSystem

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
BLOCKED_SECONDS = 2.0
"""A loop that does not answer for so long is blocked."""
CIRCLE_SECONDS = 1.0
"""Asks that wait on each other for so long are a circle."""
WORK_SECONDS = 10.0
"""A blocking actor that handles one message for so long is reported as working."""
HANGS_KEPT_MAX = 20
LINKS_MAX = 100
"""So many actors may a circle have."""


class Wait(NamedTuple):
    """Somebody waits for somebody's answer. Both are addresses."""

    waiting: str
    asked: str
    message: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.waiting} waits for {self.asked} ({self.message}, {self.seconds:.1f} s)"


@dataclass(slots=True)
class _Work:
    """A blocking actor in the middle of a message."""

    actor: BlockingActor
    message: Any
    """Held, so that another message is another object."""
    thread: int
    awaits: LoopFuture | None
    since: float
    awaits_since: float
    looks: int = 0
    awaits_looks: int = 0
    reported: bool = False

    def wait(self, now: float) -> Wait | None:
        if self.awaits is None or self.awaits.asked is None:
            return None
        asked = self.awaits.asked.address
        return Wait(self.actor.ref.address, asked, self.awaits.question, now - self.awaits_since)


class Watchdog:
    """The watchdog of one actor system; ``start`` and ``stop`` it on whatever thread."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._ended = threading.Event()
        self._pinged = False
        self._pinged_at = 0.0
        self._silent_looks = 0
        self._blocked = ""
        """What the loop is blocked by, once that is reported."""
        self._works: dict[str, _Work] = {}
        self._circles: dict[frozenset[str], str] = {}
        """By who is in them, those that were there at the last look."""
        self._found: deque[dict[str, Any]] = deque(maxlen=HANGS_KEPT_MAX)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """May be called when it was not started."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def hangs(self) -> dict[str, Any]:
        """What hangs now, and what was found so far, as JSON."""
        now = monotonic()
        works = list(self._works.values())
        frames = sys._current_frames()
        return {
            "working": [
                {
                    "actor": work.actor.name,
                    "message": _kind(work.message),
                    "seconds": now - work.since,
                    "stack": stack_of(frames[work.thread]) if work.thread in frames else [],
                }
                for work in works
            ],
            "waits": [wait._asdict() for wait in self._waits(works, now)],
            "circles": list(self._circles.values()),
            "found": list(self._found),
        }

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self._ping()
                self._look()
            except RuntimeError:  # the loop is closed: the process ends
                return
            except Exception:
                log.exception("the watchdog failed, and looks again")

    # The loop

    def _ping(self) -> None:
        if not self._pinged:
            self._pinged, self._pinged_at, self._silent_looks = True, monotonic(), 0
            self._system.loop.call_soon_threadsafe(self._answered)
            return
        self._silent_looks += 1
        if self._silent_looks >= BLOCKED_SECONDS / LOOK_SECONDS and not self._blocked:
            self._blocked = self._what_blocks()
            seconds = monotonic() - self._pinged_at
            self._report("blocked", f"the loop of {self._system.name} is blocked for {seconds:.1f} s: {self._blocked}")

    def _answered(self) -> None:
        """The loop goes round; called by it."""
        self._pinged = False
        if self._blocked:
            seconds = monotonic() - self._pinged_at
            sentence = f"the loop of {self._system.name} goes on after {seconds:.1f} s: {self._blocked}"
            self._blocked = ""
            self._system.events.note("hang", sentence, log=log.warning)

    def _what_blocks(self) -> str:
        for frame in _outwards(sys._current_frames().get(self._system.thread)):
            if frame.f_code.co_name == "_handle" and "content" in frame.f_locals and "actor" in frame.f_locals:
                return f"{frame.f_locals['actor'].name} handles {_kind(frame.f_locals['content'])}"
        return "no actor handles a message"

    # Blocking actors

    def _look(self) -> None:
        now = monotonic()
        frames = sys._current_frames()
        works = {}
        for actor in self._system.inhabitants():
            if isinstance(actor, BlockingActor) and (handling := actor.handling) is not None:
                message, thread = handling
                works[actor.name] = self._continued(
                    _Work(actor, message, thread, _awaited(frames.get(thread)), now, now)
                )
        self._works = works
        for work in works.values():
            if work.looks >= WORK_SECONDS / LOOK_SECONDS and not work.reported:
                work.reported = True
                seconds, what = now - work.since, _kind(work.message)
                self._report("working", f"{work.actor.name} has worked on {what} for {seconds:.1f} s, and is not dead")
        long = [work for work in works.values() if work.awaits_looks >= CIRCLE_SECONDS / LOOK_SECONDS]
        self._find_circles(self._waits(long, now))

    def _find_circles(self, waits: list[Wait]) -> None:
        known, self._circles = self._circles, {}
        for circle in circles(waits):
            members = frozenset(wait.waiting for wait in circle)
            self._circles[members] = ", ".join(map(str, circle)).replace(self._system.prefix, "")
            if members not in known:
                self._report("circle", f"asks wait on each other: {self._circles[members]}")

    def _continued(self, work: _Work) -> _Work:
        """The same, with what is known of it from the looks before."""
        before = self._works.get(work.actor.name)
        if before is not None and before.message is work.message and before.thread == work.thread:
            work.since, work.looks, work.reported = before.since, before.looks + 1, before.reported
            if before.awaits is work.awaits:
                work.awaits_since, work.awaits_looks = before.awaits_since, before.awaits_looks + 1
        return work

    def _waits(self, works: Iterable[_Work], now: float) -> list[Wait]:
        """Who waits for whom, as far as this process knows: its own actors, and who elsewhere has asked these."""
        waits = []
        for work in works:
            wait = work.wait(now)
            if wait is not None:
                waits.append(wait)
                waits += self._asked_from_elsewhere(work, now)
        return waits

    def _asked_from_elsewhere(self, work: _Work, now: float) -> Iterator[Wait]:
        inbox: Any = work.actor.actor_inbox
        for envelope in list(inbox.queue):
            future = envelope.reply_to
            if isinstance(future, LoopFuture) and future.asker:
                asker = future.asker
                yield Wait(asker, work.actor.ref.address, _kind(envelope.message), now - work.awaits_since)

    def _report(self, kind: str, sentence: str) -> None:
        at, threads = self._system.wall(), stacks(self._system, {})
        calls = (line for name, stack in threads.items() for line in (name, *(f"    {call}" for call in stack)))
        log.warning("%s\n%s", sentence, "\n".join(calls))
        self._system.events.note("hang", sentence)
        self._found.append({"at": at, "kind": kind, "sentence": sentence, "stacks": threads})


def hangs(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """HANGS: what blocking actors work on and wait for now, and what the watchdog has found so far."""
    if system.watchdog is None:  # simulated: nothing can hang there
        return {"working": [], "waits": [], "circles": [], "found": []}
    return system.watchdog.hangs()


def circles(waits: Iterable[Wait]) -> list[list[Wait]]:
    """Every circle of those who wait for each other, beginning with its least address."""
    by_waiting: dict[str, Wait] = {}
    for wait in waits:
        by_waiting.setdefault(wait.waiting, wait)
    found = []
    for start in sorted(by_waiting):
        path = [by_waiting[start]]
        while len(path) < LINKS_MAX and (following := by_waiting.get(path[-1].asked)) is not None:
            if following.waiting == start:
                if start == min(wait.waiting for wait in path):
                    found.append(path)
                break
            if following in path:
                break
            path.append(following)
    return found


_GET = LoopFuture.get.__code__


def _awaited(frame: FrameType | None) -> LoopFuture | None:
    """The answer of another actor that a thread waits for."""
    futures = (each.f_locals["self"] for each in _outwards(frame) if each.f_code is _GET)
    return next((future for future in futures if future.asked is not None), None)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _kind(message: Any) -> str:
    return type(message.message if type(message) is Envelope else message).__name__
