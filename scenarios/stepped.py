"""Plays a story in the simulation as far as somebody lets it, who looks in and interferes between.

    with SteppedStory(QUIET, 7) as story:
        story.let_pass(2.0)
        story.do(lambda stage: stage.cluster.execute("127.0.0.1:7001", "PING"))
        story.back(story.now - 1.0)

A story is written as if nobody could stop it: its verbs let time pass until what they wait for has come. So it is
played on a thread of its own, in a world whose time passes up to a *bound*. There the story stands still, inside
whatever verb it is in, and its thread does what it is asked to (``do``) until the bound is moved. All of one world
happens on that one thread; whoever steps it waits.

    setup --> at the bound <-- do, and time passes in it as far as that needs
                |    ^
        let_pass, step: the story goes on, up to the bound; after its end the world alone

What was done is remembered with its moment, so ``back`` is the same seed and the same doings again up to an earlier
one: exact, since nothing here depends on anything else. After ``fork`` chance goes another way.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from ..runtime.simulation.world import SimulatedWorld
from .play import Scenario
from .simulated_stage import SimulatedStage
from .stage import Moment, Stage

Answer = TypeVar("Answer")
Doing = Callable[[SimulatedStage], Any]

CLOSE_SECONDS_MAX = 10.0
"""So long the thread of a story may take to end, of real time."""
HEARD_SECONDS = 0.2
"""A Ctrl-C is heard after so long, of real time, however it falls."""


def _three_nodes(stage: Stage) -> None:
    stage.start(nodes=3, replicas=3)


QUIET = Scenario(
    "quiet", _three_nodes, lambda stage: None, lambda stage: None, "Three nodes, and nothing befalls them."
)


class StoryFailed(Exception):
    """Raised when a story, or its world, has come to an end that nobody wanted; the text says how."""


class _Left(BaseException):
    """Takes a story off its thread."""


class _Bound:
    """How far time may pass: up to a moment, or a number of messages."""

    def __init__(self) -> None:
        self.lifted = True
        """Time passes freely."""
        self.moment = math.inf
        self.messages = math.inf
        self.interrupted = False

    def reached(self, world: SimulatedWorld) -> bool:
        return self.interrupted or world.trace.messages >= self.messages or world.now() >= self.moment


class _BoundedWorld(SimulatedWorld):
    """``at_bound`` is called where time may not pass any further; it returns once it may."""

    def __init__(self, *args: Any, bound: _Bound, at_bound: Callable[[], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self._bound, self._at_bound = bound, at_bound

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds_max: float) -> bool:
        if self._bound.lifted:
            return super().run_until(condition, seconds_max)
        end = self.now() + seconds_max
        while True:
            until = min(end, self._bound.moment)
            super().run_until(lambda: condition() or self._bound.reached(self), until - self.now())
            if condition():
                return True
            if self.now() >= end:
                return False
            self._at_bound()


class SteppedStory:
    """One story, at some moment of it. To be used in a ``with`` statement, by one thread."""

    def __init__(self, scenario: Scenario, seed: int, *, tell: Callable[[Moment], object] | None = None) -> None:
        """``tell`` is called with every line of the timeline, on the story's thread. Raises StoryFailed when the
        cluster of the story did not come up."""
        self.scenario, self.seed = scenario, seed
        self._tell = tell
        self._past: list[tuple[float, float, float, Doing | None]] = []
        """When it began, up to which moment and message, and what was done; None: time passed."""
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self.over = ""
        """How the story has ended; "" while it goes on."""
        self._bound = _Bound()
        self._requests: queue.SimpleQueue[tuple[Doing | None, Future[Any]]] = queue.SimpleQueue()
        self._passing: Future[Any] = Future()
        """Is done when the bound is reached."""
        self.stage = SimulatedStage(self.seed, tell=self._tell)
        self.stage.make_world = partial(_BoundedWorld, bound=self._bound, at_bound=self._at_bound)
        self._thread = threading.Thread(target=self._live, name="story", daemon=True)
        self._thread.start()
        try:
            self._passing.result()
        except Exception as failure:
            self.close()
            raise StoryFailed(f"{self.scenario.name} cannot be set up: {failure}") from failure

    def close(self) -> None:
        """End it where it is. May be called again."""
        self._requests.put((_leave, Future()))
        self._thread.join(CLOSE_SECONDS_MAX)
        self.stage.close()

    # For whoever steps

    @property
    def now(self) -> float:
        """Seconds since the beginning of the world."""
        return self.stage.now()

    @property
    def messages(self) -> int:
        """How many messages were handled since then."""
        return self.stage.messages

    def do(self, what: Callable[[SimulatedStage], Answer]) -> Answer:
        """Do something in the world, and let time pass in it as far as that needs. Raises whatever it raises."""
        self._past.append((self.now, math.inf, math.inf, what))
        return cast("Answer", self._do(what))

    def look(self, what: Callable[[SimulatedStage], Answer]) -> Answer:
        """As ``do``, for what changes nothing and lets no time pass: it is not remembered."""
        return cast("Answer", self._do(what))

    def let_pass(self, seconds: float) -> None:
        """Let the story go on for so long. Raises StoryFailed. Ctrl-C stops it at once, wherever it is."""
        self._go_on(self.now + seconds, math.inf)

    def step(self, messages: int = 1, seconds_max: float = 60.0) -> None:
        """Let the story go on until so many more messages were handled. Raises StoryFailed."""
        self._go_on(self.now + seconds_max, self.messages + messages)

    def fork(self, seed: int) -> None:
        """From now on chance goes another way. What was on its way stays so."""
        self.do(lambda stage: _reseed(stage, seed))

    def back(self, moment: float) -> None:
        """Be at an earlier moment again: all is played anew up to it."""
        past = [each for each in self._past if each[0] < moment]
        self.close()
        tell, self._tell, self._past = self._tell, None, []
        try:
            self._begin()
            for began, until, messages, what in past:
                if what is None:
                    self._go_on(min(until, moment), messages)
                else:
                    self._past.append((began, until, messages, what))
                    with suppress(Exception):  # it was told when it happened
                        self._do(what)
        finally:
            self._tell = self.stage._tell = tell

    def _go_on(self, moment: float, messages: float) -> None:
        began, bound = self.now, self._bound
        bound.moment, bound.messages = moment, messages
        self._passing = Future()
        try:
            self._do(None)
        finally:
            if bound.interrupted:
                bound.interrupted, moment, messages = False, self.now, math.inf
            if messages == math.inf and self._past and self._past[-1][2:] == (math.inf, None):
                began = self._past.pop()[0]  # it is one stretch of time
            self._past.append((began, moment, messages, None))

    def _do(self, what: Doing | None) -> Any:
        future: Future[Any] = Future()
        if what is None:
            future = self._passing
        self._requests.put((what, future))
        try:
            return _result_of(future)
        except KeyboardInterrupt:
            if what is None:
                self._bound.interrupted = True
                _result_of(future)
            raise

    # The story's thread

    def _live(self) -> None:
        with suppress(_Left):
            try:
                self.scenario.setup(self.stage)
            except Exception as failure:
                self._passing.set_exception(failure)
                return
            self._bound.lifted = False
            self._at_bound()
            try:
                self.scenario.story(self.stage)
                self.over = "the story has ended"
            except Exception as failure:
                self.over = f"the story has failed: {failure}"
            while True:
                self._pass_alone()

    def _at_bound(self) -> None:
        """Tell who waits for it that time stands still, and do what is asked until it may pass again."""
        self._passing.set_result(None)
        while True:
            what, future = self._requests.get()
            if what is None:
                return
            self._bound.lifted = True
            try:
                future.set_result(what(self.stage))
            except Exception as failure:
                future.set_exception(failure)
            finally:
                self._bound.lifted = False

    def _pass_alone(self) -> None:
        """The story is over: time passes up to the bound, and nothing else happens."""
        world = self.stage.cluster.world
        try:
            world.run_until(lambda: False, math.inf)
        except Exception as failure:  # the world has ended, and says why at every look
            self.over = f"the world has failed: {failure}"
            self._at_bound()


def _result_of(future: Future[Answer]) -> Answer:
    """What comes of it. A Ctrl-C that comes just as a wait begins is heard when that wait is over: so none is long."""
    while not future.done():
        wait((future,), HEARD_SECONDS)
    return future.result()


def _leave(stage: SimulatedStage) -> None:
    raise _Left


def _reseed(stage: SimulatedStage, seed: int) -> None:
    stage.cluster.world.reseed(seed)
    stage.random.seed(f"{seed} story")
