"""Lets people tell actors what they like, and hold, delay or drop messages: the observer's words that interfere.

Only in a process that was started with ``allow_faults``: a message that nobody should have sent can break every promise
that a program makes. What is told is checked all the same, against the message's fields and against what the actor
hears, so that a slip of the pen makes no actor fail.

Faults are about messages between processes. Within a process nothing is held: a mailbox there is a deque between two
actors of one thread, and whoever wants one of them to wait pauses the process.
"""

from __future__ import annotations

import math
import types as kinds
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from .actor import Actor, LoopFuture, Ref
from .faults import Fault, Faults
from .looking import ObserveError, Shower, actor_called, heard_by, number_of, text_of
from .message import MESSAGES
from .system import ActorSystem

ASK_SECONDS, ASK_SECONDS_MAX = 5.0, 60.0
"""How long an answer is waited for, unless somebody wishes otherwise; and at most."""

FAULTS_MAX = 1000
"""So many faults may be there at once."""

NOT_ALLOWED = (
    "this process lets nobody interfere with its messages: start it with --allow-faults "
    "(`ringkeeper up --allow-faults`, LocalCluster(allow_faults=True)), and never where it matters"
)


class Ear(Actor):
    """Hears one answer on behalf of whoever asked, and ends.

    Hears   whatever the asked actor answers
    Tells   nobody; the answer is put into a future
    """

    def __init__(self, answer: LoopFuture) -> None:
        super().__init__()
        self._answer = answer

    def on_receive(self, message: Any) -> None:
        if not self._answer.is_set:
            self._answer.set(message)
        self.stop()


def tell(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """TELL: put a message into an actor's mailbox."""
    ref, message = _addressed(system, arguments, None)
    ref.tell(message)
    return {"told": ref.name, "type": type(message).__name__}


def ask(system: ActorSystem, arguments: dict[str, Any]) -> LoopFuture:
    """ASK: the same, and the answer: what the actor returns, or what it tells ``reply_to`` if that is left out."""
    _allowed(system)
    seconds = number_of(arguments, "seconds", ASK_SECONDS, ASK_SECONDS_MAX)
    answer, shown = LoopFuture(), LoopFuture()
    fields = arguments.get("fields", {})
    by_message = "reply_to" in _fields_of(_kind(arguments)) and isinstance(fields, Mapping) and "reply_to" not in fields
    ear = system.spawn(Ear, answer, name=system.free_name("ear")) if by_message else None
    try:
        ref, message = _addressed(system, arguments, ear)
    except ObserveError:
        if ear is not None:
            ear.stop(block=False)
        raise

    def heard(future: LoopFuture) -> None:
        try:
            value = future.get(timeout=0)
        except Exception as failure:
            text = f"{ref.name} did not answer {type(message).__name__}: {failure or type(failure).__name__}"
            shown.set_exception((ObserveError, ObserveError(text), None))
        else:
            shown.set({"type": type(value).__name__, "answer": Shower().show(value)})

    def too_late() -> None:
        if not answer.is_set:
            failure = TimeoutError(f"nothing came within {seconds:g} s")
            answer.set_exception((TimeoutError, failure, None))
        if ear is not None and ear.is_alive():
            ear.stop(block=False)

    answer.when_done(heard)
    system.loop.call_later(seconds, too_late)
    if ear is not None:
        ref.tell(message)
    else:
        ref.ask(message, block=False).when_done(lambda future: _pass_on(future, answer))
    return shown


def _pass_on(future: LoopFuture, answer: LoopFuture) -> None:
    if answer.is_set:  # it was too late
        return
    try:
        answer.set(future.get(timeout=0))
    except Exception as failure:
        answer.set_exception((type(failure), failure, None))


def _addressed(system: ActorSystem, arguments: Mapping[str, Any], reply_to: Ref | None) -> tuple[Any, Any]:
    """The actor that is meant and the message for it. Raises ObserveError."""
    _allowed(system)
    actor = actor_called(system, text_of(arguments, "actor"))
    cls = _kind(arguments)
    heard = heard_by(type(actor))
    if heard and cls not in heard:
        known = ", ".join(kind.__name__ for kind in heard)
        raise ObserveError(f"{actor.name} does not hear {cls.__name__}; it hears {known}")
    return actor.ref, made(system, cls, arguments.get("fields", {}), reply_to)


def _kind(arguments: Mapping[str, Any]) -> type:
    name = text_of(arguments, "type")
    cls = MESSAGES.get(name)
    if cls is None:
        raise _no_message(name)
    return cls


def _fields_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls) if hasattr(cls, "__dataclass_fields__") else {}


def made(system: ActorSystem, cls: type, fields: Any, reply_to: Ref | None = None) -> Any:
    """A message of JSON: text becomes bytes, and the name or address of an actor its ref, where such is wanted.

    Raises ObserveError, naming the field.
    """
    if not isinstance(fields, Mapping):
        raise ObserveError("'fields' must be an object, such as {\"number\": 1}")
    hints = _fields_of(cls)
    unknown = sorted(set(fields) - set(hints))
    if unknown:
        raise ObserveError(f"{cls.__name__} has no {unknown[0]!r}; it has {', '.join(hints) or 'no fields'}")

    def ref_of(wanted: type, given: Any) -> Any:
        if wanted is not Ref or not isinstance(given, str):
            raise ValueError(f"a {wanted.__name__} cannot be made of JSON")
        return system.find(given) or system.resolve(given)

    prepared = {name: _prepared(value, hints[name]) for name, value in fields.items()}
    if reply_to is not None:
        prepared["reply_to"] = reply_to.address
    try:
        return msgspec.convert(prepared, cls, dec_hook=ref_of)
    except msgspec.ValidationError as failure:
        raise ObserveError(f"{cls.__name__} cannot be made of that: {failure}") from failure
    except Exception as failure:  # of types that msgspec does not know
        raise ObserveError(
            f"{cls.__name__} cannot be made of JSON: it carries objects that live in one process ({failure})"
        ) from failure


def _prepared(value: Any, hint: Any) -> Any:
    """JSON with text made bytes wherever bytes, and no text, are wanted."""
    parts = typing.get_args(hint)
    if isinstance(value, str):
        options = parts if typing.get_origin(hint) in (typing.Union, kinds.UnionType) else (hint,)
        return value.encode() if bytes in options and str not in options else value
    if isinstance(value, list):
        repeated = len(parts) == 1 or (len(parts) == 2 and parts[1] is ...)
        inner = [parts[0]] * len(value) if repeated else [*parts, *[None] * len(value)]
        return [_prepared(each, inside) for each, inside in zip(value, inner, strict=False)]
    if isinstance(value, dict) and len(parts) == 2:
        return {_prepared(key, parts[0]): _prepared(each, parts[1]) for key, each in value.items()}
    return value


# Faults


def fault(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """FAULT: hold, delay or drop messages of a type, from and to actors, on their way out of this process and in."""
    faults = _faults(system)
    if len(faults.rules) >= FAULTS_MAX:
        raise ObserveError(f"there are {FAULTS_MAX} faults already; release some")
    kind, sender, to = (text_of(arguments, name, "*") for name in ("type", "from", "to"))
    if not any(fnmatchcase(name, kind) for name in MESSAGES):
        raise _no_message(kind)
    match text_of(arguments, "action"):
        case "hold":
            made_fault = faults.hold(kind, sender=sender, to=to)
        case "delay":
            made_fault = faults.delay(number_of(arguments, "seconds", math.nan, 3600), kind, sender=sender, to=to)
        case "drop":
            made_fault = faults.drop(kind, sender=sender, to=to)
        case other:
            raise ObserveError(f"{other!r} is no fault; there are hold, delay and drop")
    return _told(made_fault)


def _no_message(name: str) -> ObserveError:
    near = sorted(known for known in MESSAGES if name.lower() in known.lower() or known.lower() in name.lower())
    near = near or get_close_matches(name, MESSAGES)
    return ObserveError(f"{name!r} is no message here" + (f"; there are {', '.join(near)}" if near else ""))


def release(system: ActorSystem, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """RELEASE: end one fault, or all; what they keep goes on its way."""
    faults = _faults(system)
    wanted = arguments.get("id")
    ending = [each for each in faults.rules if wanted is None or each.id == wanted]
    if wanted is not None and not ending:
        known = ", ".join(str(each.id) for each in faults.rules) or "none"
        raise ObserveError(f"there is no fault {wanted!r} here; there are: {known}")
    told = [_told(each) for each in ending]
    faults.release(*ending) if wanted is not None else faults.release()
    return told


def faults(system: ActorSystem, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """FAULTS: those that are there now, and what they have done."""
    return [_told(each) for each in _faults(system).rules]


def _told(fault: Fault) -> dict[str, Any]:
    told: dict[str, Any] = {"id": fault.id, "action": fault.action, "type": fault.type_name, "from": fault.sender}
    told |= {"to": fault.to, "matched": fault.matched, "kept": len(fault.kept)}
    return {**told, "seconds": fault.seconds} if fault.action == "delay" else told


def _allowed(system: ActorSystem) -> None:
    if not system.allow_faults:
        raise ObserveError(NOT_ALLOWED)


def _faults(system: ActorSystem) -> Faults:
    _allowed(system)
    try:
        return system.bridge.faults
    except RuntimeError as alone:
        raise ObserveError("there are no messages to hold, delay or drop: no bridge joins this process") from alone
