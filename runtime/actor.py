"""Gives every actor a mailbox on the event loop, and refs to reach it from anywhere.

An ``Actor`` is a Pykka actor whose mailbox is drained by the loop of its ``ActorSystem`` instead of by a thread of its
own: actors and sockets of a process share one thread, a message costs an append to a deque, and what arrived together
is handled together. Pykka's extension points carry this (``_create_actor_inbox``, ``_create_future``,
``_start_actor_loop``): ``tell``, ``ask``, ``proxy``, ``stop`` and the ``ActorRegistry`` keep working from any thread.

The actor is the state machine and the world is handed in: ``send``, ``watch``, ``after``, ``now``, ``wall`` and
``random`` are all it may use of its surroundings, and what they do is the system's business. Actors never wait for each
other: a question is a message out and, later, an answer in. Waiting on the loop thread would be waiting for oneself, so
it raises.

Where to look next: ``system.py`` (mailboxes in turn, supervision), ``harness.py`` (one actor under test).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random as random_module
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, cast

import pykka
from pykka import ActorDeadError
from pykka._envelope import Envelope

from .message import URGENT
from .world import Loop, Timer

if TYPE_CHECKING:
    from .metrics import Metric
    from .system import ActorSystem

log = logging.getLogger(__name__)

_here = threading.local()
"""What happens on this thread: the ``system`` whose turn it is, the ``birth`` of the actor being made."""

MAILBOX_MESSAGES_MAX = 1_000_000
"""A mailbox never holds more; what comes on top is a dead letter."""


class WouldDeadlock(RuntimeError):
    """Raised when the loop thread is asked to wait for something that only the loop thread can do."""


class Ref:
    """The address of an actor, here or in another process; may travel inside messages.

    A plain base class and not a Protocol: decoding a message asks isinstance of every ref in it, which costs a Protocol
    12 us.
    """

    __slots__ = ()

    name: str

    @property
    def address(self) -> str:
        raise NotImplementedError

    def is_alive(self) -> bool:
        raise NotImplementedError

    def tell(self, message: Any) -> None:
        raise NotImplementedError

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def proxy(self) -> Any:
        raise NotImplementedError


class LoopFuture(pykka.ThreadingFuture[Any]):
    """The answer to an ``ask``: can be waited for off the loop, awaited on it, or given a callback.

    ``get`` on the loop thread raises WouldDeadlock unless the answer is already there. What a callback raises is logged
    and goes no further: it is the asker's trouble, and the thread is that of whoever answers.
    """

    asked: Ref | None = None
    """Whose answer it is, and"""
    question: str = ""
    """to which type of message: for whoever wonders why somebody waits."""
    asker: str = ""
    """The address of the actor in another process that does nothing else until it is there."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[LoopFuture], object]] = []

    def get(self, *, timeout: float | None = None) -> Any:
        if self._get_hook is not None:
            with self._condition:  # as Pykka does, which takes a NotImplementedError in there for its own and waits on
                return pykka.Future.get(self, timeout=timeout)
        if self._result is None and on_loop_thread():
            raise WouldDeadlock(
                "the loop thread was asked to wait for an actor's answer: it would wait for itself for ever. "
                "Await the future or give it a callback (when_done) instead of calling get()."
            )
        return super().get(timeout=timeout)

    @property
    def is_set(self) -> bool:
        """Whether the answer, or the failure to give one, is there."""
        return self._result is not None

    def set(self, value: Any = None) -> None:
        super().set(value)
        self._run_callbacks()

    def set_exception(self, exc_info: Any = None) -> None:
        super().set_exception(exc_info)
        self._run_callbacks()

    def when_done(self, callback: Callable[[LoopFuture], object]) -> None:
        """Call back with this future once it is set, on the thread that sets it (at once if it is set already)."""
        with self._condition:
            if self._result is None:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def _run_callbacks(self) -> None:
        with self._condition:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[[LoopFuture], object]) -> None:
        try:
            callback(self)
        except Exception:
            log.exception("what was to be done with an answer has failed: %r", callback)

    def __await__(self) -> Generator[Any, None, Any]:
        loop = asyncio.get_running_loop()
        if self._get_hook is not None:  # made by map, join, stop...: Pykka computes those inside get()
            return (yield from loop.run_in_executor(None, self.get).__await__())
        answered = asyncio.Event()

        def wake(_: LoopFuture) -> None:
            with contextlib.suppress(RuntimeError):  # that loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(answered.set)

        self.when_done(wake)
        yield from answered.wait().__await__()
        return self.get()

    __iter__ = __await__


class Mailbox:
    """A Pykka inbox that the system drains. Two lanes: urgent messages overtake ordinary ones, never each other."""

    __slots__ = ("ordinary", "owner", "scheduled", "suspended", "system", "urgent")

    def __init__(self) -> None:
        self.ordinary: deque[Any] = deque()
        self.urgent: deque[Any] = deque()
        self.owner: Actor | None = None
        self.system: ActorSystem | None = None
        self.scheduled = False
        self.suspended = True  # until the actor has started, and while it waits to be restarted

    def __len__(self) -> int:
        return len(self.ordinary) + len(self.urgent)

    def empty(self) -> bool:
        return not self.ordinary and not self.urgent

    def put(self, item: Any) -> None:
        """Take a message, or a Pykka envelope when somebody waits for the answer. Thread-safe."""
        if type(item) is Envelope and item.reply_to is None:
            item = item.message
        if type(item) in URGENT:
            self.urgent.append(item)
        elif len(self.ordinary) < MAILBOX_MESSAGES_MAX:
            self.ordinary.append(item)
        elif self.system is not None and self.owner is not None:
            self.system.return_to_sender(self.owner.ref, item, f"its mailbox holds {MAILBOX_MESSAGES_MAX} messages")
            return
        if not self.scheduled and self.system is not None:
            self.system.schedule(self)

    def get(self) -> Any:
        return self.urgent.popleft() if self.urgent else self.ordinary.popleft()


class LocalRef(pykka.ActorRef[Any], Ref):
    """The address of an actor in this process. Outlives restarts of the actor."""

    def __init__(self, actor: Actor | BlockingActor) -> None:
        super().__init__(actor)
        self.name = actor.name
        self._system = actor.system

    @property
    def address(self) -> str:
        return self._system.address_of(self.name)

    def __str__(self) -> str:
        return self.name

    def tell(self, message: Any) -> None:
        """Raises ActorDeadError when the actor has stopped; ``Actor.send`` makes a dead letter of that instead."""
        if self.actor_stopped.is_set():
            raise ActorDeadError(f"{self.name} has stopped")
        if type(self.actor_inbox) is Mailbox:
            self.actor_inbox.put(message)
        else:  # of a blocking actor; or one with a tap (``tracing.py``)
            self.actor_inbox.put(Envelope(message))
            self._look_behind()

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """The answer; with ``block=False`` a LoopFuture of it. Raises pykka.Timeout, ActorDeadError, WouldDeadlock."""
        future = cast(LoopFuture, super().ask(message, block=False))
        future.asked, future.question = self, type(message).__name__
        self._look_behind()
        return future.get(timeout=timeout) if block else future

    def _look_behind(self) -> None:
        """A blocking actor may have ended, on its own thread, just before the message was put into its inbox."""
        if not isinstance(self.actor_inbox, Mailbox) and self.actor_stopped.is_set():
            self._system.return_mail(self)

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        """Stop the actor after what is already in its mailbox. Blocking on the loop thread raises WouldDeadlock."""
        if block and on_loop_thread() and isinstance(self.actor_inbox, Mailbox):
            raise WouldDeadlock(f"the loop thread was asked to wait until {self.name} stops; use stop(block=False)")
        return super().stop(block=block, timeout=timeout)


class Birth:
    """What the system hands to an actor that is being made: where it lives, what it is called, whose place it takes."""

    __slots__ = ("name", "successor_of", "system")

    def __init__(self, system: ActorSystem, name: str, successor_of: Actor | None = None) -> None:
        self.system, self.name, self.successor_of = system, name, successor_of


class _Inhabitant:
    """What both kinds of actors may use of the world."""

    system: ActorSystem
    name: str
    ref: LocalRef
    random: random_module.Random

    def _be_born(self) -> Birth:
        birth: Birth | None = getattr(_here, "birth", None)
        _here.birth = None
        if birth is None:
            system: ActorSystem | None = getattr(_here, "system", None)
            if system is None:
                raise RuntimeError(
                    f"{type(self).__name__} has no home: only actors may call start(); use system.spawn() elsewhere"
                )
            birth = Birth(system, system.free_name(type(self).__name__))
        self.system, self.name, self.random = birth.system, birth.name, birth.system.random
        return birth

    def send(self, to: Ref, message: Any) -> None:
        """Tell, and never fail: a message to a dead actor becomes a dead letter."""
        try:
            to.tell(message)
        except ActorDeadError:
            self.system.dead_letter(to, message, "it has stopped")

    def watch(self, ref: Ref) -> None:
        """Be told Terminated once that actor is gone, here or elsewhere; at once if it is gone already.

        To watch what is watched already changes nothing, so who is made anew may watch again.
        """
        self.system.death_watch(self.ref, ref)

    def after(self, seconds: float, message: Any) -> Timer:
        """Send a message to oneself later, unless one has failed by then; call on the loop thread only."""
        return self.system.loop.call_later(seconds, self._remind, message)

    def _remind(self, message: Any) -> None:
        if not self.ref.actor_stopped.is_set():
            self.ref.tell(message)

    def _exited(self, wish: SystemExit) -> RuntimeError:
        """What whoever asked is told of ``exit()`` in an actor: raised as itself it would end their program."""
        exited = RuntimeError(f"{self.name} called exit({wish.code!r})")
        exited.__cause__ = wish
        return exited

    def now(self) -> float:
        """Seconds of a clock that never goes back; means nothing in another process."""
        return self.system.loop.time()

    def wall(self) -> float:
        """Seconds since the Unix epoch, as far as this machine knows."""
        return self.system.wall()

    def metrics(self) -> Iterable[Metric]:
        """The figures of this actor now (``metrics.py``); called on the loop thread when somebody looks."""
        return ()


class Actor(_Inhabitant, pykka.Actor):
    """An actor on the loop. Subclasses implement ``on_receive`` and call ``super().__init__()`` first."""

    def __init__(self) -> None:
        birth = self._be_born()
        super().__init__()
        if birth.successor_of is not None:  # a restart: same mailbox, same ref, a new state
            self.actor_urn = birth.successor_of.actor_urn
            self.actor_inbox = birth.successor_of.actor_inbox
            self.actor_stopped = birth.successor_of.actor_stopped
            self.ref = birth.successor_of.ref
        else:
            self.ref = LocalRef(self)
        self._actor_ref = self.ref

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> LoopFuture:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        assert isinstance(self.actor_inbox, Mailbox)
        self.actor_inbox.owner, self.actor_inbox.system = self, self.system
        self.system.admit(self)

    def _handle_receive(self, message: Any) -> Any:
        try:
            return super()._handle_receive(message)
        except SystemExit as wish:
            raise self._exited(wish) from wish

    def _stop(self) -> None:
        try:
            super()._stop()
        except SystemExit as wish:  # in on_stop, of which Pykka catches every Exception
            self._handle_failure(RuntimeError, self._exited(wish), None)

    def _remind(self, message: Any) -> None:
        """What a failed actor wanted to be reminded of is nothing to the one that takes its place."""
        assert isinstance(self.actor_inbox, Mailbox)
        if self.actor_inbox.owner is self and not self.actor_inbox.suspended:
            super()._remind(message)

    def check(self) -> None:
        """Assert the actor's invariants; simulated runs call this after every message."""


class _FarTimer:
    """A timer of the loop that is set and cancelled on another thread."""

    def __init__(self, loop: Loop, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        self._loop, self._timer, self._cancelled = loop, cast(Timer | None, None), False
        self._there(self._set, seconds, callback, *args)

    def cancel(self) -> None:
        self._cancelled = True
        self._there(self._cancel)

    def _set(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        if not self._cancelled:
            self._timer = self._loop.call_later(seconds, callback, *args)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _there(self, callback: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all timers with it
            self._loop.call_soon_threadsafe(callback, *args)


class BlockingActor(_Inhabitant, pykka.ThreadingActor):
    """An actor with a thread of its own, for work that blocks: fsync, compaction, waiting for a child process.

    A failure of it is never restarted: whoever blocks holds something (a file, a lock) whose state is then unknown.
    """

    use_daemon_thread = True

    handling: tuple[Any, int] | None = None
    """What it is handling now, and the number of its thread; for people who wonder what takes so long."""

    def __init__(self) -> None:
        self._be_born()
        super().__init__()
        self.ref = LocalRef(self)
        self._actor_ref = self.ref

    def after(self, seconds: float, message: Any) -> Timer:
        """Send a message to oneself later. Cancelled in time it does not come; once it is in the mailbox it does."""
        return _FarTimer(self.system.loop, seconds, self._remind, message)

    def _handle_receive(self, message: Any) -> Any:
        self.handling = (message, threading.get_ident())
        try:
            return super()._handle_receive(message)
        except SystemExit as wish:
            raise self._exited(wish) from wish
        finally:
            self.handling = None

    @staticmethod
    def _create_future() -> LoopFuture:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        self.system.admit(self)
        super()._start_actor_loop()

    def _actor_loop(self) -> None:
        _here.blocking = self
        for part in (self._actor_loop_setup, self._actor_loop_running):
            try:
                part()
            except SystemExit as wish:  # in on_start or on_failure, of which Pykka catches every Exception
                self._handle_failure(RuntimeError, self._exited(wish), None)
        self._actor_loop_teardown()

    def _actor_loop_teardown(self) -> None:
        self.system.return_mail(self.ref)  # Pykka's own answers questions, and forgets what was told

    def _stop(self) -> None:
        try:
            super()._stop()
        except SystemExit as wish:  # in on_stop
            self._handle_failure(RuntimeError, self._exited(wish), None)
        self.system.ended_on_its_thread(self, None)

    def _handle_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        super()._handle_failure(exception_type, exception_value, traceback)
        self.system.ended_on_its_thread(self, exception_value)

    def check(self) -> None:
        """Assert the actor's invariants; simulated runs call this after every message."""


def on_loop_thread() -> bool:
    """Whether waiting here would stop actors: a system is in its turn, or an event loop runs on this thread."""
    return getattr(_here, "system", None) is not None or asyncio._get_running_loop() is not None


def blocking_actor_here() -> BlockingActor | None:
    """Whose thread this is."""
    return getattr(_here, "blocking", None)


def turn_of(system: ActorSystem | None) -> ActorSystem | None:
    """Say whose turn begins on this thread (None: nobody's); returns whose it was."""
    before: ActorSystem | None = getattr(_here, "system", None)
    _here.system = system
    return before


def bear(birth: Birth, cls: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make an actor of ``cls`` in the place that ``birth`` names."""
    before = getattr(_here, "birth", None)
    _here.birth = birth
    try:
        return cls(*args, **kwargs)
    finally:
        _here.birth = before
