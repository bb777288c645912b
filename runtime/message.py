"""Declares what may be said between actors.

A message is a frozen dataclass. ``@message`` enters it under its class name in the registry that the wire decodes by,
so that a process only ever builds objects of types it knows. ``urgent`` messages (stop, heartbeat, ring news) take
the priority lane of a mailbox and the control link between processes; data never does, since its order matters.
"""

from collections.abc import Callable
from typing import TypeVar, overload

T = TypeVar("T")

MESSAGES: dict[str, type] = {}
"""Every registered message type by its name on the wire."""

URGENT: set[type] = set()
"""The types that take the priority lane."""


@overload
def message(cls: type[T]) -> type[T]: ...
@overload
def message(*, urgent: bool = False) -> Callable[[type[T]], type[T]]: ...
def message(cls: type[T] | None = None, *, urgent: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Register a frozen dataclass as a message. Raises TypeError when another type already has its name."""

    def register(cls: type[T]) -> type[T]:
        known = MESSAGES.setdefault(cls.__name__, cls)
        if known.__module__ != cls.__module__:
            raise TypeError(f"two messages are called {cls.__name__}: in {known.__module__} and in {cls.__module__}")
        MESSAGES[cls.__name__] = cls  # the decorator of dataclass(slots=True) makes a second class of the same name
        if urgent:
            URGENT.add(cls)
        return cls

    return register(cls) if cls is not None else register
