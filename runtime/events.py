"""Remembers what has happened in a process, for people and programs that ask about it later.

An *event* is a sentence with its coordinates: when (by this machine's clock), in which process, of which kind, why, in
which epoch, and fields for programs. Whoever has something to tell notes it once; the same sentence goes to the log if
a log method is handed in:

    system.events.note("session", "ZooKeeper session 1f is lost", cause="ZooKeeper has ended it", log=log.warning)

The newest are kept, and whoever asks is told how many it has missed. Numbers count over one life of the process;
``began`` tells lives apart, so that who follows a process notices that it has started again. What happens thousands of
times a second is a figure (``metrics.py``) and no event.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

EVENTS_KEPT_MAX = 10_000
"""So many events of a process are remembered."""

EVENTS_TOLD_MAX = 1_000
"""So many are told at once; who wants more asks again."""

SENTENCE_CHARACTERS_MAX = 1_000
"""A longer sentence, cause or field is cut off."""

FIELDS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that has happened."""

    number: int
    """Counts the events of this life of the process, from 0."""
    at: float
    """Seconds since the Unix epoch, by the clock of the machine where it happened."""
    process: str
    kind: str
    sentence: str
    cause: str = ""
    epoch: int = 0
    """Of the ring that it is about; 0: of none."""
    fields: dict[str, Any]
    """Plain values for programs."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Events:
    """The newest events of one process. Any thread may note."""

    def __init__(self, process: str, wall: Callable[[], float], kept_max: int = EVENTS_KEPT_MAX) -> None:
        self.process, self._wall = process, wall
        self._kept: deque[Event] = deque(maxlen=kept_max)
        self._next = 0
        self._lock = threading.Lock()
        self.began = wall()
        """When this life of the process began to note."""

    def note(
        self,
        kind: str,
        sentence: str,
        *,
        cause: object = "",
        epoch: int = 0,
        log: Callable[..., object] | None = None,
        **fields: Any,
    ) -> None:
        """Remember that something has happened; ``log`` is told the same sentence, with its cause in brackets.

        Fields are plain values: numbers, texts, None, and tuples of them.
        """
        assert len(fields) <= FIELDS_MAX, f"{len(fields)} fields of one event"
        why = _shortened(str(cause))
        if log is not None:
            log("%s%s", sentence, f" ({why})" if why else "")
        with self._lock:
            event = Event(
                number=self._next,
                at=self._wall(),
                process=self.process,
                kind=kind,
                sentence=_shortened(sentence),
                cause=why,
                epoch=epoch,
                fields={name: _shortened(value) if type(value) is str else value for name, value in fields.items()},
            )
            self._next += 1
            self._kept.append(event)

    def since(self, number: int = 0) -> dict[str, Any]:
        """The events from a number on, as many as are told at once; where the next ones begin; how many are gone."""
        with self._lock:
            oldest = self._next - len(self._kept)
            first = min(max(number, oldest), self._next)
            start = first - oldest
            told = list(islice(self._kept, start, start + EVENTS_TOLD_MAX))
        return {
            "process": self.process,
            "began": self.began,
            "events": [event.to_json() for event in told],
            "next": first + len(told),
            "more": first + len(told) < oldest + len(self._kept),
            "lost": first - max(0, number) if number < first else 0,
        }


def _shortened(text: str) -> str:
    return text if len(text) <= SENTENCE_CHARACTERS_MAX else text[: SENTENCE_CHARACTERS_MAX - 3] + "..."
