"""Runs the actors of one process in turns, restarts the ones that fail, and knows them by name.

A *turn* is one callback of the event loop: it drains the mailboxes of all actors with mail, messages to each other
included, until none is left or a bound is reached. Sockets that became readable in the same iteration of the loop were
all read before the turn, so what arrives together is handled together, and ``at_end_of_turn`` callbacks (the bridge,
the client connections) write once for everything that the turn produced.

What Pykka leaves to its users is owned here once, for everybody: a failing actor is restarted with a growing delay and
a bound, then the failure escalates; whoever watches an actor is told of its end; messages to nobody are counted and
logged; every actor's messages are counted and timed by type.

    spawned -> running -> (failed -> waiting -> running)* -> stopped

A restarted actor is a new object under the same ref, with the same constructor arguments and the mailbox it had; the
message that it failed on is gone, and so are its timers; whom it watches it goes on watching. Only ``spawn``, ``find``,
``tell`` and ``ask`` may be used off the loop thread.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import random as random_module
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pykka import ActorDeadError, ActorRegistry
from pykka._envelope import Envelope
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from .actor import Actor, Birth, BlockingActor, LocalRef, Mailbox, Ref, bear, turn_of
from .events import Events
from .message import message
from .metrics import Source
from .world import Loop

if TYPE_CHECKING:
    from .bridge import Bridge
    from .tracing import Tracing
    from .watchdog import Watchdog

log = logging.getLogger(__name__)

MESSAGES_PER_TURN_MAX = 10_000
"""After so many messages a turn ends and the sockets are looked at again."""

MESSAGES_PER_VISIT_MAX = 200
"""After so many messages in a row the next actor with mail has its chance."""

_PYKKAS_OWN = frozenset({Envelope, _ActorStop, ProxyCall, ProxyGetAttr, ProxySetAttr})

_FAILURES = (Exception, SystemExit)
"""What an actor fails with: one that calls ``exit()`` ends itself, as it would a thread, and not the process."""

DEAD_LETTER_LOG_SECONDS = 10.0
"""Dead letters of one type to one actor are logged at most so often; all are counted."""

DEAD_LETTER_KINDS_MAX = 1000
"""So many kinds of dead letters (receiver and type) are told apart for that."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    """An actor that you watch is gone for good. ActorSystem -> whoever called death_watch."""

    ref: Ref
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What happens when an actor fails on a message.

    restart   make it anew after ``backoff_seconds``, doubling up to ``backoff_seconds_max``; more than
              ``restarts_max`` failures within ``window_seconds`` escalate
    stop      let it be gone; its watchers are told
    escalate  the process cannot go on without it: ``ActorSystem.on_escalation`` decides
    """

    on_failure: Literal["restart", "stop", "escalate"] = "restart"
    restarts_max: int = 5
    window_seconds: float = 60.0
    backoff_seconds: float = 0.1
    backoff_seconds_max: float = 5.0


RESTART = Supervision()
ESCALATE = Supervision(on_failure="escalate")
STOP = Supervision(on_failure="stop")


@dataclass(slots=True)
class Counters:
    """What one actor has done so far."""

    messages: dict[type, list[float]] = field(default_factory=dict)
    """Per message type: [how many, seconds spent]."""
    restarts: int = 0
    depth_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorState:
    """One actor as it is now, for people."""

    name: str
    type_name: str
    parent: str
    """In whose turn it was spawned; empty: nobody's."""
    blocking: bool
    """Whether it has a thread of its own."""
    alive: bool
    """Whether it takes messages; one that waits to be restarted does."""
    age_seconds: float
    """Since it was spawned, over all restarts."""
    depth: int
    """Messages that wait in its mailbox."""
    counters: Counters


class _Life:
    """What the system keeps of one actor across its restarts."""

    __slots__ = (
        "args", "begun", "cls", "counters", "failures", "kwargs", "name", "parent", "ref", "supervision", "watchers",
    )  # fmt: skip

    def __init__(
        self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, supervision: Supervision,
        parent: str, begun: float,
    ) -> None:  # fmt: skip
        self.cls, self.args, self.kwargs, self.name, self.supervision = cls, args, kwargs, name, supervision
        self.parent, self.begun = parent, begun
        self.ref: LocalRef | None = None
        self.counters = Counters()
        self.failures: deque[float] = deque()
        self.watchers: dict[Ref, None] = {}


class ActorSystem:
    """The actors of one process (or of one simulated process)."""

    def __init__(
        self,
        *,
        loop: Loop,
        name: str = "",
        random: random_module.Random | None = None,
        wall: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.perf_counter,
        registered: bool = True,
    ) -> None:
        """``registered``: whether Pykka's registry, of which there is one in a Python process, knows the actors. Those
        of simulated processes, which come and go by thousands, it need not know."""
        self.loop, self.name, self.wall = loop, name, wall
        self.random = random or random_module.Random()
        self.prefix = "local://"
        """What stands before the name in an address; the bridge sets it to its own."""
        self.resolver: Callable[[str], Ref] = self._no_bridge
        """Makes a ref of an address in another process; the bridge sets it."""
        self.on_escalation: Callable[[str, BaseException], None] = self.nobody_above
        """Called with the actor's name and its failure when supervision gives up."""
        self.after_message: Callable[[Actor, Any], None] | None = None
        """Called after every message, for simulated runs and traces."""
        self.allow_faults = self.allow_code = False
        """Whether people may interfere with messages, and have code of theirs run here."""
        self.events = Events(name, wall)
        """What has happened in this process, for whoever asks later."""
        self.metric_sources: dict[str, Source] = {}
        """Who has figures of this process besides its actors, by name."""
        self.metrics_missing: set[str] = set()
        """Who has failed to say them, by the same names and by types of actors."""
        self.dead_letters = 0
        self.sender: Ref | None = None
        """Who is handling a message right now, hence who sends what is sent now."""
        self.watchdog: Watchdog | None = None
        """What finds hangs, in processes that have one."""
        self.stopwatch = stopwatch
        """Measures what passes while an actor works; stands still where time is virtual."""
        self.tracing: Tracing | None = None
        """The traces of this process, once somebody has wished for one, or has said what can be traced."""
        self._bridge: Bridge | None = None
        self._registered = registered
        self._thread = threading.get_ident()
        self._lives: dict[str, _Life] = {}
        self._lock = threading.Lock()
        self._ready: deque[Mailbox] = deque()
        self._turn_comes = False
        self._closers: dict[Callable[[], None], None] = {}
        self._numbers = itertools.count(1)
        self._logged: dict[tuple[str, str], float] = {}
        self._stopping = False

    @property
    def thread(self) -> int:
        """Of the loop."""
        return self._thread

    # Names

    def spawn(self, cls: type, *args: Any, name: str, supervision: Supervision = RESTART, **kwargs: Any) -> LocalRef:
        """Make an actor and start it. Raises ValueError when the name is taken, RuntimeError after ``stop``."""
        life = _Life(cls, args, kwargs, name, supervision, self._whose_turn(), self.loop.time())
        with self._lock:
            if self._stopping:
                raise RuntimeError(f"{self.name or 'the actor system'} is stopping: {name} was not spawned")
            if name in self._lives:
                raise ValueError(f"an actor called {name} is already here; stop it first or choose another name")
            self._lives[name] = life
        try:
            actor = bear(Birth(self, name), cls, args, kwargs)
        except BaseException:
            with self._lock:
                del self._lives[name]
            raise
        life.ref = actor.ref
        if self._registered:
            ActorRegistry.register(actor.ref)
        actor._start_actor_loop()
        return life.ref

    def admit(self, actor: Actor | BlockingActor) -> None:
        """Take in an actor that was started by Pykka's ``start`` or ``spawn``; called by the actor itself."""
        with self._lock:
            life = self._lives.get(actor.name)
            if life is None:
                born = (self._whose_turn(), self.loop.time())
                life = self._lives[actor.name] = _Life(type(actor), (), {}, actor.name, STOP, *born)
            life.ref = actor.ref
        if isinstance(actor, Actor):
            if threading.get_ident() == self._thread:
                self._begin(actor)
            else:
                self.loop.call_soon_threadsafe(self._begin, actor)

    def _whose_turn(self) -> str:
        """The name of the actor that is handling a message on this thread; empty: none is."""
        sender = self.sender
        return sender.name if sender is not None and threading.get_ident() == self._thread else ""

    def find(self, name: str) -> LocalRef | None:
        """The actor of this process with that name, if it lives."""
        life = self._lives.get(name)
        return life.ref if life is not None else None

    def beside(self, name: str, closure: Callable[[Any], Any]) -> Any:
        """Call ``closure(actor)`` between two of its messages; for the loop thread. Raises ActorDeadError.

        What it sends is sent by the actor.
        """
        ref = self.find(name)
        actor = ref._actor_weakref() if ref is not None else None
        if ref is None or actor is None:
            raise ActorDeadError(f"there is no actor called {name}")
        before, sender = turn_of(self), self.sender
        self.sender = ref
        try:
            return closure(actor)
        finally:
            self.sender = sender
            turn_of(before)

    def actor(self, name: str) -> Any:
        """The actor of this process with that name itself, for whoever looks into it; None: there is none."""
        ref = self.find(name)
        return ref._actor_weakref() if ref is not None else None

    def inhabitants(self) -> list[Any]:
        """The actors of this process themselves, by name."""
        actors = [self.actor(name) for name in self.names()]
        return [actor for actor in actors if actor is not None]

    def free_name(self, stem: str) -> str:
        return f"{stem}-{next(self._numbers)}"

    def names(self) -> list[str]:
        return sorted(self._lives)

    def address_of(self, name: str) -> str:
        return self.prefix + name

    def resolve(self, address: str) -> Ref:
        """A ref for an address, of this process or another. Raises ValueError when it is not an address."""
        if address.startswith(self.prefix):
            name = address[len(self.prefix) :]
            return self.find(name) or Nobody(self, name)
        return self.resolver(address)

    # Turns

    def schedule(self, mailbox: Mailbox) -> None:
        """Let a mailbox that has mail be drained in the next turn. Thread-safe."""
        if threading.get_ident() != self._thread:
            try:
                self.loop.call_soon_threadsafe(self._schedule_here, mailbox)
            except RuntimeError as closed:
                raise ActorDeadError(f"{mailbox.owner} is gone: its loop has ended") from closed
        elif mailbox.suspended:
            assert mailbox.owner is not None
            if mailbox.owner.actor_stopped.is_set():  # it ended while this was put in from another thread
                self.return_mail(mailbox.owner.ref)
        elif not mailbox.scheduled:
            mailbox.scheduled = True
            self._ready.append(mailbox)
            if not self._turn_comes:
                self._turn_comes = True
                self.loop.call_soon(self._turn)

    def _schedule_here(self, mailbox: Mailbox) -> None:
        if not mailbox.empty():
            self.schedule(mailbox)

    def at_end_of_turn(self, callback: Callable[[], None]) -> None:
        """Call back once, when the turn that is running (or the next one) ends."""
        self._closers[callback] = None
        if not self._turn_comes:
            self._turn_comes = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        before = turn_of(self)
        try:
            left = MESSAGES_PER_TURN_MAX
            ready = self._ready
            while ready and left > 0:
                left -= self._visit(ready.popleft())
            while self._closers:
                closers, self._closers = self._closers, {}
                for callback in closers:
                    try:
                        callback()
                    except Exception:  # the others are other people's
                        log.exception("what was to be done at the end of a turn has failed: %r", callback)
        finally:
            turn_of(before)
            self._turn_comes = bool(self._ready)
            if self._turn_comes:
                self.loop.call_soon(self._turn)

    def _visit(self, mailbox: Mailbox) -> int:
        """Handle some messages of one mailbox; returns how many. What remains is scheduled again, whatever happens."""
        actor = mailbox.owner
        assert actor is not None
        life = self._life_of(actor)
        try:
            if life is None:  # it ended after its mail had been announced
                return 0
            return self._handle(actor, mailbox, life.counters)
        finally:
            self.sender = None
            # In this order: another thread that puts mail in announces it unless it is scheduled already.
            mailbox.scheduled = False
            if not mailbox.empty():
                self.schedule(mailbox)

    def _handle(self, actor: Actor, mailbox: Mailbox, counters: Counters) -> int:
        """The hot path of every message: questions and Pykka's own messages go another way."""
        counted, stopwatch = counters.messages, self.stopwatch
        urgent, ordinary = mailbox.urgent, mailbox.ordinary
        counters.depth_max = max(counters.depth_max, len(urgent) + len(ordinary))
        self.sender = actor.ref
        stopped = actor.actor_stopped
        done = 0
        started = stopwatch()
        while done < MESSAGES_PER_VISIT_MAX and (urgent or ordinary) and not mailbox.suspended:
            content = urgent.popleft() if urgent else ordinary.popleft()
            done += 1
            if type(content) in _PYKKAS_OWN:
                content = self._handle_pykkas_own(actor, content)
            else:
                try:
                    actor.on_receive(content)
                except _FAILURES as failure:
                    self._failed(actor, content, failure)
            ended = stopwatch()
            entry = counted.get(type(content))
            if entry is None:
                entry = counted[type(content)] = [0, 0.0]
            entry[0] += 1
            entry[1] += ended - started
            started = ended
            if self.after_message is not None:
                self.after_message(actor, content)
            if stopped.is_set():
                self.ended(actor, None)
        return done

    def _handle_pykkas_own(self, actor: Actor, item: Any) -> Any:
        """Handle a question, or a message of Pykka's proxies and stop; returns what was asked or told."""
        content = item.message if type(item) is Envelope else item
        reply_to = item.reply_to if type(item) is Envelope else None
        try:
            answer = actor._handle_receive(content)
        except Exception as failure:
            if reply_to is not None:
                _answer(reply_to.set_exception, (type(failure), failure, failure.__traceback__))
            else:
                self._failed(actor, content, failure)
        else:
            if reply_to is not None:
                _answer(reply_to.set, answer)
        return content

    # Life and death

    def _life_of(self, actor: Actor | BlockingActor) -> _Life | None:
        """None once it has ended, also when another actor has its name by now."""
        life = self._lives.get(actor.name)
        return life if life is not None and life.ref is actor.ref else None

    def _begin(self, actor: Actor) -> None:
        mailbox = actor.actor_inbox
        assert isinstance(mailbox, Mailbox)
        if actor.actor_stopped.is_set():  # it was put here by another thread, and the system has stopped meanwhile
            return
        before, sender = turn_of(self), self.sender
        self.sender = actor.ref
        try:
            actor.on_start()
        except _FAILURES as failure:
            self._failed(actor, "on_start", failure)
            return
        finally:
            self.sender = sender
            turn_of(before)
        mailbox.suspended = False
        if not mailbox.empty():
            self.schedule(mailbox)

    def _failed(self, actor: Actor, content: Any, failure: BaseException) -> None:
        what = f"{actor.name} failed on {_brief(content)}: {failure!r}"
        self.events.note("actor", what, log=partial(log.error, exc_info=failure), actor=actor.name)
        life = self._life_of(actor)
        if life is None:  # it ended itself before it failed
            return
        policy = life.supervision
        try:
            actor.on_failure(type(failure), failure, failure.__traceback__)
        except _FAILURES:
            log.exception("%s failed while cleaning up after its failure", actor.name)
        if policy.on_failure == "restart":
            now = self.loop.time()
            life.failures.append(now)
            while life.failures[0] < now - policy.window_seconds:
                life.failures.popleft()
            if len(life.failures) <= policy.restarts_max:
                assert isinstance(actor.actor_inbox, Mailbox)
                actor.actor_inbox.suspended = True
                pause = min(policy.backoff_seconds_max, policy.backoff_seconds * 2 ** (len(life.failures) - 1))
                self.loop.call_later(pause, self._restart, actor)
                return
        actor.actor_stopped.set()
        self.ended(actor, failure)
        if policy.on_failure != "stop":
            self.on_escalation(actor.name, failure)

    def _restart(self, before: Actor) -> None:
        life = self._life_of(before)
        if life is None or before.actor_stopped.is_set():
            return
        life.counters.restarts += 1
        anew = f"{before.name} is made anew (restart {life.counters.restarts})"
        self.events.note("actor", anew, log=log.warning, actor=before.name, restarts=life.counters.restarts)
        mailbox = before.actor_inbox
        assert isinstance(mailbox, Mailbox)
        try:
            actor = bear(Birth(self, before.name, before), life.cls, life.args, life.kwargs)
        except _FAILURES as failure:
            self._failed(before, "its constructor", failure)
            return
        before.ref._actor_weakref = actor.ref._actor_weakref = weakref.ref(actor)
        mailbox.owner = actor
        self._begin(actor)

    def ended(self, actor: Actor | BlockingActor, failure: BaseException | None) -> None:
        """An actor is gone for good: forget it, tell its watchers, answer what it leaves unanswered."""
        life = self._life_of(actor)
        if life is None:
            return
        del self._lives[actor.name]
        if self._registered:
            ActorRegistry.unregister(actor.ref)
        if isinstance(actor, Actor):
            mailbox = actor.actor_inbox
            assert isinstance(mailbox, Mailbox)
            mailbox.suspended = True
            self.return_mail(actor.ref)
        for watcher in life.watchers:
            self._tell(watcher, Terminated(ref=actor.ref, why=repr(failure) if failure else "stopped"))
        if failure is not None and isinstance(actor, BlockingActor) and life.supervision.on_failure != "stop":
            self.on_escalation(actor.name, failure)

    def ended_on_its_thread(self, actor: BlockingActor, failure: BaseException | None) -> None:
        """As ``ended``, called on the actor's own thread; there is nothing left to do once the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.ended, actor, failure)

    def return_mail(self, ref: LocalRef) -> None:
        """Answer what an ended actor leaves in its mailbox: on the loop thread, for a blocking actor on any."""
        inbox: Any = ref.actor_inbox
        take = inbox.get if isinstance(inbox, Mailbox) else inbox.get_nowait
        with contextlib.suppress(queue.Empty):
            while not inbox.empty():
                self.return_to_sender(ref, take(), "it stopped before handling the message")

    def return_to_sender(self, ref: LocalRef, item: Any, why: str) -> None:
        """Nobody will handle this out of a mailbox: who asked is answered, what was told is a dead letter."""
        asked = type(item) is Envelope and item.reply_to is not None
        content = item.message if type(item) is Envelope else item
        if not asked:
            if not isinstance(content, _ActorStop):
                self.dead_letter(ref, content, why)
        elif isinstance(content, _ActorStop) and ref.actor_stopped.is_set():
            _answer(item.reply_to.set, None)
        else:
            gone = ActorDeadError(f"no answer from {ref.name}: {why}")
            _answer(item.reply_to.set_exception, (ActorDeadError, gone, None))

    def death_watch(self, watcher: Ref, watched: Ref) -> None:
        """Have ``watcher`` told Terminated once, when ``watched`` is gone or now if it is already. Any thread."""
        if threading.get_ident() != self._thread:
            self.loop.call_soon_threadsafe(self.death_watch, watcher, watched)
            return
        life = self._lives.get(watched.name) if isinstance(watched, LocalRef) else None
        if life is not None and life.ref is watched:
            life.watchers[watcher] = None
        elif isinstance(watched, LocalRef | Nobody):
            self._tell(watcher, Terminated(ref=watched, why="it was gone already"))
        else:
            watched.watch(watcher)  # type: ignore[attr-defined]  # a RemoteRef: its link's end is its death

    def death_unwatch(self, watcher: Ref, watched: Ref) -> None:
        """Take back the ``death_watch`` of this pair. Any thread."""
        if threading.get_ident() != self._thread:
            self.loop.call_soon_threadsafe(self.death_unwatch, watcher, watched)
            return
        if isinstance(watched, LocalRef):
            life = self._lives.get(watched.name)
            if life is not None and life.ref is watched:
                life.watchers.pop(watcher, None)
        elif not isinstance(watched, Nobody):
            watched.unwatch(watcher)  # type: ignore[attr-defined]  # a RemoteRef

    def _tell(self, to: Ref, content: Any) -> None:
        try:
            to.tell(content)
        except ActorDeadError:
            self.dead_letter(to, content, "it has stopped")

    def dead_letter(self, to: Ref | str, content: Any, why: str) -> None:
        """Count a message that nobody will handle, and say so in the log (not too often)."""
        self.dead_letters += 1
        name = to if isinstance(to, str) else to.name
        last = self._logged.get((name, type(content).__name__), float("-inf"))
        if self.loop.time() - last >= DEAD_LETTER_LOG_SECONDS:
            if len(self._logged) >= DEAD_LETTER_KINDS_MAX:
                self._logged.clear()  # somebody makes up names; then some lines come sooner than they should
            self._logged[name, type(content).__name__] = self.loop.time()
            self.events.note(
                "dead letter",
                f"dead letter: {type(content).__name__} to {name}: {why}",
                log=log.warning,
                to=name,
                type=type(content).__name__,
                so_far=self.dead_letters,
            )

    def stop(self) -> None:
        """Stop all actors now, the youngest first, without handling what is in their mailboxes; and close the bridge.

        Whoever waits for an answer, from here or elsewhere, is told that it does not come.
        """
        with self._lock:
            self._stopping = True
            lives = list(self._lives.values())
        for life in reversed(lives):
            if life.ref is None:
                continue
            actor = life.ref._actor_weakref()
            if isinstance(actor, Actor):
                actor._stop()
                self.ended(actor, None)
            else:
                life.ref.stop(block=False)
        if self._bridge is not None and not self._bridge.closed:  # the end is not an orderly one
            self._bridge.close()

    def actors(self) -> list[ActorState]:
        """Every actor that is here now, by name."""
        now = self.loop.time()
        with self._lock:
            lives = sorted(self._lives.items())
        return [self._state(life, now) for _, life in lives]

    def _state(self, life: _Life, now: float) -> ActorState:
        inbox: Any = life.ref.actor_inbox if life.ref is not None else None  # None: it is being made
        return ActorState(
            name=life.name,
            type_name=life.cls.__name__,
            parent=life.parent,
            blocking=issubclass(life.cls, BlockingActor),
            alive=life.ref is not None and life.ref.is_alive(),
            age_seconds=now - life.begun,
            depth=len(inbox) if isinstance(inbox, Mailbox) else inbox.qsize() if inbox is not None else 0,
            counters=life.counters,
        )

    @property
    def has_bridge(self) -> bool:
        """Whether anything joins it to other processes."""
        return self._bridge is not None

    @property
    def bridge(self) -> Bridge:
        """What joins it to other processes. Raises RuntimeError when nothing does."""
        if self._bridge is None:
            raise RuntimeError(f"no bridge joins {self.name or 'this actor system'} to other processes: give it one")
        return self._bridge

    @bridge.setter
    def bridge(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def _no_bridge(self, address: str) -> Ref:
        raise ValueError(f"{address} is not in this process, and no bridge joins it to others")

    def nobody_above(self, name: str, failure: BaseException) -> None:
        """What an escalation comes to unless somebody wants it otherwise: the others go on."""
        log.critical("%s has failed for good and nobody supervises it further: %r", name, failure)


class Nobody(Ref):
    """The ref of a local actor that does not exist: everything told to it is a dead letter."""

    def __init__(self, system: ActorSystem, name: str) -> None:
        self._system, self.name = system, name

    @property
    def address(self) -> str:
        return self._system.address_of(self.name)

    def is_alive(self) -> bool:
        return False

    def tell(self, message: Any) -> None:
        raise ActorDeadError(f"there is no actor called {self.name}")

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        future = Actor._create_future()
        gone = ActorDeadError(f"there is no actor called {self.name}")
        future.set_exception((ActorDeadError, gone, None))
        return future.get(timeout=timeout) if block else future

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        return False

    def proxy(self) -> Any:
        raise ActorDeadError(f"there is no actor called {self.name}")


def _answer(give: Callable[[Any], object], answer: Any) -> None:
    """Give an answer; that it cannot be given (somebody else has, say) is no reason to fail for whoever answers."""
    try:
        give(answer)
    except Exception:
        log.exception("an answer could not be given")


def _brief(content: Any) -> str:
    return content if isinstance(content, str) else type(content).__name__
