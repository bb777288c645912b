"""Follows messages from mailbox to mailbox while somebody wants to see them, and costs nothing when nobody does.

A *trace* has a subject, which says of every message whether it is concerned, and ends by itself: after so many records,
or so many seconds. Each message that is handled and concerned becomes a record: when, by whom, of which type, who sent
it, how long it waited in the mailbox, how long it was worked on. One that is sent to another process is recorded as
sent, so that what is still on its way can be told from what was never sent.

    TRACE -> running -> ended (time, records or UNTRACE) -> shown by TRACED until UNTRACE, or until too many have ended

While no trace runs there is nothing of this in the way of a message: no flag is looked at. With the first trace that
begins the *taps* are put on, with the last that ends they are taken off. A tap stands where a method of one object was:
``on_receive`` of every actor, ``put`` of every mailbox, what the bridge sends and delivers. So a process that is not
traced, simulated beside others, is not touched either.

What a subject can go by: the message; the message in whose handling it was sent, if that was concerned itself (its
*cause*); who sent it; whom to. Causes are known within a process only. Between processes a subject has to recognise an
answer by what it answers.

Not seen: what waited in a mailbox before the trace began has no time of waiting; answers to ``ask`` between processes;
actors with a thread of their own that are spawned while it runs.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pykka._envelope import Envelope

from .actor import Actor, BlockingActor, Mailbox
from .looking import ObserveError, number_of, text_of
from .remote import SCHEME
from .simulation.trace import writer_of
from .system import ActorSystem

log = logging.getLogger(__name__)

MESSAGES, MESSAGES_MAX = 200, 10_000
"""So many records a trace takes, unless somebody wishes otherwise; and at most."""

SECONDS, SECONDS_MAX = 10.0, 600.0
"""So long it runs."""

TRACES_MAX = 16
"""So many traces are kept, those that have ended included; the oldest of these make room."""

WHAT_CHARACTERS_MAX = 300
"""So much is told of what a message says."""


class Subject(Protocol):
    """What a trace is about."""

    def concerns(self, message: Any, cause: Any, sender: str, to: str) -> str | None:
        """None: the message does not belong to it. Else what it says about the subject; "": it goes without saying.

        ``cause`` is the message in whose handling this one was sent, if that belongs to it; else None. ``sender`` and
        ``to`` are addresses, empty where nobody knows. A message that goes to another process is asked about when it is
        sent, every other when its handling begins; on whatever thread that is.
        """
        ...


class ActorSubject:
    """What one actor is told and says, by its name or its address."""

    def __init__(self, actor: str) -> None:
        self._actor = actor

    def concerns(self, message: Any, cause: Any, sender: str, to: str) -> str | None:
        return "" if any(each == self._actor or each.endswith(f"/{self._actor}") for each in (sender, to)) else None


class TypeSubject:
    """All messages of one type."""

    def __init__(self, type_name: str) -> None:
        self._type_name = type_name

    def concerns(self, message: Any, cause: Any, sender: str, to: str) -> str | None:
        return "" if type(message).__name__ == self._type_name else None


@dataclass(slots=True, eq=False)
class Trace:
    """One trace, and what it has seen."""

    id: str
    subject: Subject
    messages_max: int
    records: list[dict[str, Any]] = field(default_factory=list)
    ended: str = ""
    """Why it does not run any more."""


class _Handling(NamedTuple):
    """What is being handled on a thread."""

    address: str
    message: Any
    traces: tuple[Trace, ...]
    """Those that it belongs to."""


class _Stamp(NamedTuple):
    """What is known of a message since it was put into a mailbox."""

    content: Any
    """The message: while it is here no other can have its identity."""
    sender: str
    cause: _Handling | None
    loop_time: float
    stopwatch: float


class TracedMailbox(Mailbox):
    """A mailbox with a tap."""

    __slots__ = ()

    def put(self, item: Any) -> None:
        tracing = self.system.tracing if self.system is not None else None
        if tracing is not None:
            tracing.put(self, item)
        super().put(item)


class _Here(threading.local):
    handling: _Handling | None = None
    arriving = ""
    """The sender of what the bridge is delivering."""


class Tracing:
    """The traces of one process. For the loop thread, but for what the taps call."""

    def __init__(
        self,
        system: ActorSystem,
        *,
        subjects: Mapping[str, Callable[[str], Subject]] | None = None,
        epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        """``subjects``: what may be traced besides actors and types; ``epoch`` is noted with every record."""
        self._system, self._epoch = system, epoch
        self._subjects: dict[str, Callable[[str], Subject]] = {
            "actor": ActorSubject, "type": TypeSubject, **(subjects or {}),
        }  # fmt: skip
        self._traces: dict[str, Trace] = {}
        self._running: tuple[Trace, ...] = ()
        self._stamps: dict[tuple[int, int], list[_Stamp]] = {}
        self._here = _Here()
        self._untap: list[Callable[[], object]] = []
        self._tapped: set[Actor | BlockingActor] = set()
        self._numbers = itertools.count(1)

    # Traces

    def start(self, id: str, kind: str, about: str, *, messages_max: int, seconds: float) -> None:
        """Begin a trace. Raises ObserveError when there are too many, or one of that id runs."""
        if self._traces.get(id) in self._running:
            raise ObserveError(f"a trace {id!r} runs already; end it with UNTRACE, or give this one another id")
        self._traces.pop(id, None)
        ended = [each for each in self._traces.values() if each not in self._running]
        if len(self._traces) >= TRACES_MAX:
            if not ended:
                raise ObserveError(f"{TRACES_MAX} traces run already; end one with UNTRACE")
            del self._traces[ended[0].id]
        trace = self._traces[id] = Trace(id, self._subjects[kind](about), messages_max)
        if not self._running:
            self._put_taps_on()
        self._running += (trace,)
        self._system.loop.call_later(seconds, self._end, trace, f"its {seconds:g} s are over")

    def told(self, id: str) -> dict[str, Any]:
        """What a trace has seen so far. Raises ObserveError."""
        trace = self._traces.get(id)
        if trace is None:
            raise ObserveError(f"there is no trace {id!r} here; there are: {', '.join(self._traces) or 'none'}")
        return {
            "id": id,
            "process": self._system.name,
            "address": self._system.prefix,
            "running": trace in self._running,
            "ended": trace.ended,
            "records": trace.records,
        }

    def stop(self, id: str) -> dict[str, Any]:
        """End a trace and forget it; returns what it has seen. Raises ObserveError."""
        told = self.told(id)
        self._end(self._traces.pop(id), "it was ended")
        return told

    @property
    def kinds(self) -> list[str]:
        """What may be traced."""
        return sorted(self._subjects)

    def _end(self, trace: Trace, why: str) -> None:
        if trace not in self._running:
            return
        trace.ended = why
        self._running = tuple(each for each in self._running if each is not trace)
        if not self._running:
            while self._untap:
                self._untap.pop()()
            self._tapped.clear()
            self._stamps.clear()

    # Taps

    def _put_taps_on(self) -> None:
        system = self._system
        for actor in system.inhabitants():
            self._tap(actor)
        begin = system._begin

        def _begin(actor: Actor) -> None:  # one that is new, or made anew
            self._tap(actor)
            begin(actor)

        self._instead(system, "_begin", _begin)
        if system.has_bridge:
            post = system.bridge.post
            tell, deliver = post.tell, post._deliver

            def _tell(to: Any, message: Any) -> None:
                self._leaves(to.address, message)
                tell(to, message)

            def _deliver(peer: Any, link: int, frame: Any, message: Any) -> None:
                self._here.arriving = f"{SCHEME}{peer.address}/{frame.sender}" if frame.sender else ""
                try:
                    deliver(peer, link, frame, message)
                finally:
                    self._here.arriving = ""

            self._instead(post, "tell", _tell)
            self._instead(post, "_deliver", _deliver)

    def _tap(self, actor: Actor | BlockingActor) -> None:
        if actor in self._tapped:  # it was spawned by another thread at the same time, and was found before it began
            return
        self._tapped.add(actor)
        receive, inbox = actor.on_receive, actor.actor_inbox
        self._instead(actor, "on_receive", lambda message: self._handle(actor, receive, message))
        if isinstance(inbox, Mailbox):
            inbox.__class__ = TracedMailbox
            self._untap.append(lambda: setattr(inbox, "__class__", Mailbox))
        else:
            put = inbox.put

            def _put(item: Any) -> None:
                self.put(inbox, item)
                put(item)

            self._instead(inbox, "put", _put)

    def _instead(self, whose: Any, name: str, tap: Callable[..., Any]) -> None:
        """Put a tap in the place of a method of this object, until all taps are taken off.

        Not by way of its ``__dict__``: an object that was once asked for that is slower for the rest of its life.
        """
        setattr(whose, name, tap)
        self._untap.append(lambda: delattr(whose, name))

    def put(self, inbox: Any, item: Any) -> None:
        """Something is put into a mailbox, on any thread."""
        content = item.message if type(item) is Envelope else item
        handling = self._here.handling
        sender = self._here.arriving or (handling.address if handling is not None else "")
        stamp = _Stamp(content, sender, handling, self._system.loop.time(), self._system.stopwatch())
        self._stamps.setdefault((id(inbox), id(content)), []).append(stamp)

    def _handle(self, actor: Actor | BlockingActor, receive: Callable[[Any], Any], message: Any) -> Any:
        """In the place of an actor's ``on_receive``, on its thread."""
        system, here = self._system, self._here
        address = system.address_of(actor.name)
        stamp = self._stamp_of(actor.actor_inbox, message)
        sender = stamp.sender if stamp is not None else ""
        concerned = self._concerned(message, stamp.cause if stamp is not None else None, sender, address)
        before = here.handling
        here.handling = _Handling(address, message, tuple(trace for trace, _ in concerned))
        if not concerned:
            try:
                return receive(message)
            finally:
                here.handling = before
        number, at, began = next(self._numbers), system.wall(), system.stopwatch()
        # The stopwatch of a simulated process stands still; uvloop's clock has steps of a millisecond.
        waited = (began - stamp.stopwatch) or system.loop.time() - stamp.loop_time if stamp is not None else None
        try:
            return receive(message)
        finally:
            here.handling = before
            worked = system.stopwatch() - began
            for trace, what in concerned:
                self._record(trace, message, what, number, at, sender, address, waited=waited, worked=worked)

    def _stamp_of(self, inbox: Any, content: Any) -> _Stamp | None:
        """Of a message that leaves its mailbox."""
        key = (id(inbox), id(content))
        stamps = self._stamps.get(key)
        if stamps is None:
            return None
        stamp = stamps.pop(0)
        if not stamps:
            self._stamps.pop(key, None)
        return stamp

    def _leaves(self, to: str, message: Any) -> None:
        """A message is sent to another process, on any thread."""
        handling = self._here.handling
        sender = handling.address if handling is not None else ""
        for trace, what in self._concerned(message, handling, sender, to):
            self._record(trace, message, what, next(self._numbers), self._system.wall(), sender, to, sent=True)

    def _concerned(self, message: Any, cause: _Handling | None, sender: str, to: str) -> list[tuple[Trace, str]]:
        concerned = []
        for trace in self._running:
            caused = cause.message if cause is not None and trace in cause.traces else None
            try:
                what = trace.subject.concerns(message, caused, sender, to)
            except Exception as failure:  # whoever looks on must not fail whoever works
                log.exception("the trace %s cannot tell whether a %s concerns it", trace.id, type(message).__name__)
                why = f"it failed on a {type(message).__name__}: {failure!r}"
                self._system.loop.call_soon_threadsafe(self._end, trace, why)
                continue
            if what is not None:
                concerned.append((trace, what))
        return concerned

    def _record(
        self, trace: Trace, message: Any, what: str, number: int, at: float, sender: str, to: str, *,
        waited: float | None = None, worked: float | None = None, sent: bool = False,
    ) -> None:  # fmt: skip
        if trace.ended or len(trace.records) >= trace.messages_max:
            return
        name = type(message).__name__
        trace.records.append(
            {
                "number": number,
                "at": at,
                "process": self._system.name,
                "actor": to.rpartition("/")[2],
                "type": name,
                "sender": sender,
                "to": to,
                "sent": sent,
                "waited": waited,
                "worked": worked,
                "epoch": self._epoch(),
                "what": (what or _said_by(message, name))[:WHAT_CHARACTERS_MAX],
            }
        )
        if len(trace.records) >= trace.messages_max:
            why = f"it has its {trace.messages_max} records"
            self._system.loop.call_soon_threadsafe(self._end, trace, why)


def _said_by(message: Any, name: str) -> str:
    try:
        return writer_of(type(message))(message).removeprefix(name).strip()
    except Exception as failure:  # a message of others' may lack a field
        return f"it cannot be read: {failure!r}"


# The observer's words


def trace(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """TRACE: begin a trace of an actor, a type, or whatever else this process can follow."""
    tracing = _tracing_of(system)
    about = [(kind, arguments[kind]) for kind in tracing.kinds if kind in arguments]
    if len(about) != 1:
        raise ObserveError(f"say what to trace: one of {', '.join(tracing.kinds)}")
    [(kind, _)] = about
    id = text_of(arguments, "id")
    tracing.start(
        id,
        kind,
        text_of(arguments, kind),
        messages_max=int(number_of(arguments, "messages_max", MESSAGES, MESSAGES_MAX)),
        seconds=number_of(arguments, "seconds", SECONDS, SECONDS_MAX),
    )
    return {"id": id, "process": system.name, "address": system.prefix}


def traced(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """TRACED: what a trace has seen so far."""
    return _tracing_of(system).told(text_of(arguments, "id"))


def untrace(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """UNTRACE: the same, and the end of it."""
    return _tracing_of(system).stop(text_of(arguments, "id"))


def _tracing_of(system: ActorSystem) -> Tracing:
    if system.tracing is None:
        system.tracing = Tracing(system)
    return system.tracing
