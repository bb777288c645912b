"""Shows what the actors of a process are and do, for people: the observer's words that only look."""

from __future__ import annotations

from typing import Any

from .system import ActorSystem


class ObserveError(Exception):
    """Raised when a question cannot be answered as it was put; the text is for whoever asked."""


def events(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """EVENTS {"since": number}: what has happened in the process from that event on, and where the next ones begin."""
    since = arguments.get("since", 0)
    if type(since) is not int or since < 0:
        raise ObserveError(f"since is {since!r}; it has to be the number of an event, 0 or more")
    return system.events.since(since)


def actors(system: ActorSystem, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """ACTORS: every actor of the process, by name."""
    return [
        {
            "name": state.name,
            "type": state.type_name,
            "parent": state.parent,
            "depth": state.depth,
            "depth_max": state.counters.depth_max,
            "messages": {
                kind.__name__: [int(count), seconds]
                for kind, (count, seconds) in sorted(
                    state.counters.messages.items(), key=lambda entry: entry[0].__name__
                )
            },
            "restarts": state.counters.restarts,
            "age": state.age_seconds,
            "alive": state.alive,
            "blocking": state.blocking,
        }
        for state in system.actors()
    ]
