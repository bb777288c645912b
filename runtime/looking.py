"""Shows what the actors of a process are and do, for people: the observer's words that only look.

What is shown of a value is bounded in depth, items, characters and in all, and runs nobody's code: attributes are read
as they lie there, and of what can be closed, cancelled, locked or spawned on, that is of the world, only the name is
told. An actor may say itself what is worth seeing, by a method ``inspect``; it runs between two messages of its own,
unless the actor has a thread, which is not asked.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import threading
import traceback
import typing
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from itertools import islice
from types import FrameType
from typing import Any

from .actor import Actor, BlockingActor, LocalRef, Mailbox, Ref
from .message import MESSAGES, URGENT
from .system import ActorState, ActorSystem

DEPTH, DEPTH_MAX = 3, 8
"""So deep is looked into values inside of values, unless somebody wishes otherwise; and at most."""
ITEMS, ITEMS_MAX = 20, 1000
"""So many items of each collection are shown."""
CHARACTERS, CHARACTERS_MAX = 200, 10_000
"""So much of each text."""
ATTRIBUTES_MAX = 100
"""So many attributes of each object."""
VALUES_MAX, CHARACTERS_TOTAL_MAX = 20_000, 1 << 20
"""So many values of one actor, and so much text, at most, whatever was wished: 20 ms of a loop."""

FRAMES_MAX = 60
"""So many of the innermost calls of each thread are shown."""

WAITING_MAX = 10_000
"""So many of the messages that wait in a mailbox are looked at for their types."""

_WORLD = ("close", "cancel", "acquire", "call_soon", "spawn")
"""Methods of what belongs to the world: sockets, stores, timers, locks, loops, systems."""

_SECRET = ("password", "secret", "environment")
"""Part of the names of what is not shown to anybody. Environments hold secrets of whoever has started the process."""

_EVERY_ACTORS = frozenset(
    ("_actor_ref", "actor_inbox", "actor_stopped", "actor_urn", "name", "on_receive", "random", "ref", "system")
)


class ObserveError(Exception):
    """Raised when a question cannot be answered as it was put; the text is for whoever asked."""


def events(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """EVENTS {"since": number}: what has happened in the process from that event on, and where the next ones begin."""
    since = arguments.get("since", 0)
    if type(since) is not int or since < 0:
        raise ObserveError(f"since is {since!r}; it has to be the number of an event, 0 or more")
    return system.events.since(since)


def text_of(arguments: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text among the arguments of a word. Raises ObserveError when it is missing, without a default, or no text."""
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise ObserveError(f"{name!r} is missing: a text is wanted" if value is None else f"{name!r} must be a text")
    return value


def number_of(arguments: Mapping[str, Any], name: str, default: float, most: float) -> float:
    """A number above 0 among the arguments of a word. Raises ObserveError."""
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ObserveError(f"{name!r} must be a number above 0, at most {most:g}")
    return value


# ACTORS


def actors(system: ActorSystem, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """ACTORS: every actor of the process, by name."""
    return [_listed(state) for state in system.actors()]


def _listed(state: ActorState) -> dict[str, Any]:
    counted = sorted(state.counters.messages.items(), key=lambda entry: entry[0].__name__)
    return {
        "name": state.name,
        "type": state.type_name,
        "parent": state.parent,
        "depth": state.depth,
        "depth_max": state.counters.depth_max,
        "messages": {kind.__name__: [int(count), seconds] for kind, (count, seconds) in counted},
        "restarts": state.counters.restarts,
        "age": state.age_seconds,
        "alive": state.alive,
        "blocking": state.blocking,
    }


def actor_called(system: ActorSystem, name: str) -> Actor | BlockingActor:
    """Raises ObserveError when there is none, with names that are near."""
    actor: Actor | BlockingActor | None = system.actor(name)
    if actor is None:
        near = [known for known in system.names() if name.lower() in known.lower() or known.lower() in name.lower()]
        raise ObserveError(f"there is no actor called {name!r} here; there are {', '.join(near or system.names())}")
    return actor


# INSPECT


def inspect(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """INSPECT: one actor and its state. ``depth``, ``items`` and ``characters`` bound how much of it is shown."""
    actor = actor_called(system, text_of(arguments, "actor"))
    shower = Shower(
        depth=int(number_of(arguments, "depth", DEPTH, DEPTH_MAX)),
        items=int(number_of(arguments, "items", ITEMS, ITEMS_MAX)),
        characters=int(number_of(arguments, "characters", CHARACTERS, CHARACTERS_MAX)),
    )
    [state] = [state for state in system.actors() if state.name == actor.name]
    shown = {
        **_listed(state),
        "address": actor.ref.address,
        "waiting": waiting_in(actor),
        "hears": [kind.__name__ for kind in heard_by(type(actor))],
        "state": shower.state_of(actor),
    }
    if isinstance(actor, BlockingActor) and actor.handling is not None:
        handled, thread = actor.handling
        frame = sys._current_frames().get(thread)
        shown["handling"] = type(handled).__name__
        shown["stack"] = stack_of(frame) if frame is not None else []
    return shown


def waiting_in(actor: Actor | BlockingActor) -> dict[str, int]:
    """How many messages of which type wait in the mailbox of an actor."""
    inbox = actor.actor_inbox
    waiting: Iterable[Any] = (*inbox.urgent, *inbox.ordinary) if isinstance(inbox, Mailbox) else tuple(inbox.queue)  # type: ignore[attr-defined]
    counted = Counter(type(getattr(item, "message", item)).__name__ for item in islice(waiting, WAITING_MAX))
    return dict(sorted(counted.items()))


def heard_by(cls: type) -> tuple[type, ...]:
    """The types of messages that an actor's ``on_receive`` is declared for; none: it does not say."""
    try:
        declared = next(iter(typing.get_type_hints(cls.on_receive).items()), ("return", None))  # type: ignore[attr-defined]
    except Exception:  # names that exist only for type checkers
        return ()
    name, hint = declared
    kinds = typing.get_args(hint) or (hint,)
    return tuple(kind for kind in kinds if isinstance(kind, type) and kind is not object) if name != "return" else ()


class Shower:
    """Makes values what JSON can carry and a person can read, within bounds."""

    def __init__(self, *, depth: int = DEPTH, items: int = ITEMS, characters: int = CHARACTERS) -> None:
        self._depth, self._items, self._characters = depth, items, characters
        self._left, self._characters_left = VALUES_MAX, CHARACTERS_TOTAL_MAX

    def state_of(self, actor: Actor | BlockingActor) -> Any:
        """What an actor says of itself, or else its attributes."""
        says = getattr(actor, "inspect", None)
        if says is not None and isinstance(actor, Actor):
            try:
                return self._named(says(), self._depth)
            except Exception as failure:
                return {"inspect failed": repr(failure)[: self._characters], **self._attributes(actor, self._depth)}
        return self._attributes(actor, self._depth)

    def show(self, value: Any, depth: int | None = None) -> Any:
        depth = self._depth if depth is None else depth
        self._left -= 1
        if self._left < 0:
            return "..."
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return value.name
        if isinstance(value, int):  # not every reader of JSON has more digits
            return value if abs(value) < 2**53 else str(value) if abs(value) < 2**64 else hex(value)[: self._characters]
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self._cut(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(value[: self._characters]), len(value))
        if isinstance(value, Ref):
            return f"-> {value.name if isinstance(value, LocalRef) else value.address}"
        if isinstance(value, Actor | BlockingActor):
            return f"-> {value.name}"
        if isinstance(value, type):
            return value.__name__
        return self._composed(value, depth)

    def _composed(self, value: Any, depth: int) -> Any:
        kind = type(value).__name__
        try:
            if isinstance(value, Mapping):
                if depth <= 0 and value:
                    return f"{kind} of {len(value)}"
                shown = {
                    (name := self._key(key)): self._secret(name, each) or self.show(each, depth - 1)
                    for key, each in islice(value.items(), self._items)
                }
                return shown if len(value) <= self._items else {**shown, "...": f"{len(value) - self._items} more"}
            if isinstance(value, tuple) and hasattr(value, "_fields"):
                fields = dict(zip(value._fields, value, strict=True))
                return (
                    {kind: {name: self.show(each, depth - 1) for name, each in fields.items()}} if depth > 0 else kind
                )
            if isinstance(value, list | tuple | deque | Set):
                if depth <= 0 and value:
                    return f"{kind} of {len(value)}"
                shown_items = [self.show(each, depth - 1) for each in islice(value, self._items)]
                if isinstance(value, Set):
                    shown_items.sort(key=repr)
                return (
                    shown_items if len(value) <= self._items else [*shown_items, f"... {len(value) - self._items} more"]
                )
        except RuntimeError:  # another thread changes it right now
            return f"{kind}, changing"
        if any(hasattr(type(value), name) for name in _WORLD) or callable(value):
            return f"<{getattr(value, '__qualname__', kind)}>"
        attributes = self._attributes(value, depth - 1) if depth > 0 else {}
        return {kind: attributes} if attributes else f"<{kind}>"

    def _attributes(self, value: Any, depth: int) -> dict[str, Any]:
        """What lies in an object's dict and slots; properties would be code."""
        if dataclasses.is_dataclass(value):  # what it has computed besides, and keeps, is not what it says
            fields = [field.name for field in dataclasses.fields(value)]
            return self._named({name: getattr(value, name) for name in fields if hasattr(value, name)}, depth)
        found: dict[str, Any] = dict(getattr(value, "__dict__", {}))
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if not name.startswith("__") and hasattr(value, name):
                    found[name] = getattr(value, name)
        known = _EVERY_ACTORS if isinstance(value, Actor | BlockingActor) else ()
        return self._named({name: each for name, each in found.items() if name not in known}, depth)

    def _named(self, values: Mapping[str, Any], depth: int) -> dict[str, Any]:
        return {
            name: self._secret(name, each) or self.show(each, depth - 1)
            for name, each in islice(values.items(), ATTRIBUTES_MAX)
        }

    def _secret(self, name: str, value: Any) -> str:
        """What is told instead of a secret; empty: it is none."""
        return "(not shown)" if value and any(word in name.lower() for word in _SECRET) else ""

    def _key(self, key: Any) -> str:
        shown = self.show(key, 1)
        return shown if isinstance(shown, str) else ",".join(map(str, shown)) if isinstance(shown, list) else str(shown)

    def _cut(self, text: str) -> str:
        cut = text[: self._characters].encode("utf-8", "replace").decode()
        return self._counted(cut if len(text) <= self._characters else f"{cut}... ({len(text)} characters)")

    def _bytes(self, begin: bytes, length: int) -> str:
        cut = length > len(begin)
        try:
            text = begin.decode()
        except UnicodeDecodeError as wrong:  # or the cut went through a character
            text = begin[: wrong.start].decode() if cut and wrong.start > len(begin) - 4 else ""
        text = text if text.isprintable() and (text or not begin) else repr(begin)
        return self._counted(f"{text}... ({length} bytes)" if cut else text)

    def _counted(self, text: str) -> str:
        self._characters_left -= len(text)
        return text if self._characters_left >= 0 else "..."


# TYPES


def types(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """TYPES: every message that this process knows, with its fields, for whoever wants to make one."""
    return {
        name: {
            "fields": {
                field.name: {"type": _written(field.type), "needed": _needed(field)}
                for field in dataclasses.fields(cls)
            },
            "urgent": cls in URGENT,
            "what": (cls.__doc__ or "").strip().partition("\n")[0],
        }
        for name, cls in sorted(MESSAGES.items())
        if dataclasses.is_dataclass(cls)
    }


def _written(hint: Any) -> str:
    return hint if isinstance(hint, str) else hint.__name__ if isinstance(hint, type) else str(hint)


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


# STACKS


def stacks(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, list[str]]:
    """STACKS: what every thread of the process is doing, by its name, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return {f"{names.get(ident, 'unknown')} ({ident})": stack_of(frame) for ident, frame in frames}


def stack_of(frame: FrameType) -> list[str]:
    """The calls of a thread, outermost first: ``file:line function: code``."""
    innermost = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES_MAX, lookup_lines=True)
    return [f"{each.filename}:{each.lineno} {each.name}: {each.line}" for each in reversed(innermost)]
