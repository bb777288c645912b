"""Lets people look into a running process, and interfere with it where that is allowed: one actor, a table of words.

Hears   Observe     from whoever may ask: a Gateway on behalf of a client, here or in another process
        LookOn      from itself: others have had their turn
Tells   Observed -> whoever asked

A *word* says what is wanted (``ACTORS``, ``INSPECT``...); what goes with it is a JSON object, and the answer is JSON.
Each word is a function of the system and these arguments. It returns what can be written as JSON, or a ``LoopFuture``
of it when the answer comes later; it raises ``ObserveError`` with a sentence for people. Everything a word does it does
in one turn, and bounded, and between two words everybody else has a turn: looking at a process must never be what stops
it.

    Observe -> word -> Observed                      at once
    Observe -> word -> future ... -> Observed        as soon as it is answered

The words that every process has are in ``WORDS``, each in the file whose business it is; what a process has besides is
handed to its observer. Those of ``INTERFERING`` are for whoever has proved a password, where the process wants one of
its own clients or takes code: everybody else has come by way of one that is less particular. ``Observe`` and
``Observed`` pass by the faults of the bridge: whoever holds everything must still be able to release it.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from .actor import Actor, LoopFuture, Ref
from .interfering import ask, fault, faults, release, tell
from .looking import ObserveError, actors, events, inspect, stacks, types
from .message import message
from .metrics import metrics
from .probes import py
from .system import ActorSystem
from .tracing import trace, traced, untrace
from .watchdog import hangs

log = logging.getLogger(__name__)

OBSERVER = "observer"
"""Its name in every process."""

ARGUMENTS_CHARACTERS_MAX = 1 << 20
"""What is longer is not looked at: to read JSON of 15 MiB can block a loop for seconds."""

ANSWER_CHARACTERS_MAX = 8 << 20
"""What is longer is not sent; who asked is told to ask for less."""

WAITING_MAX = 100
"""So many questions wait for their turn; who comes then is told to ask again."""

Word = Callable[[ActorSystem, dict[str, Any]], Any]

WORDS: dict[str, Word] = {
    "ACTORS": actors,
    "EVENTS": events,
    "INSPECT": inspect,
    "TYPES": types,
    "STACKS": stacks,
    "TELL": tell,
    "ASK": ask,
    "FAULT": fault,
    "RELEASE": release,
    "FAULTS": faults,
    "HANGS": hangs,
    "PY": py,
    "TRACE": trace,
    "TRACED": traced,
    "UNTRACE": untrace,
    "METRICS": metrics,
}
"""What every process answers."""

INTERFERING = frozenset({"TELL", "ASK", "FAULT", "RELEASE", "PY"})
"""Those that do more than look."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Tell what this word asks for. Gateway -> Observer."""

    question: int
    words: tuple[str, ...]
    text: str = ""
    """The arguments, a JSON object; empty: none."""
    proven: bool = False
    """On behalf of somebody who has proved a password, or for whom code may run in the asking process as well."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The answer to an Observe. Observer -> Gateway."""

    question: int
    text: str = ""
    """JSON."""
    error: str = ""
    """Why there is no answer, in a sentence that begins with a code as in Redis' errors."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class LookOn:
    """Answer the next question, if one waits. Observer -> Observer."""


class Observer(Actor):
    """Answers questions about the process that it lives in."""

    def __init__(self, *, words: Mapping[str, Word] | None = None, guarded: bool = False) -> None:
        """``guarded``: the process has clients, and wants a password of them."""
        super().__init__()
        self._guarded = guarded
        self.words: dict[str, Word] = {**WORDS, **(words or {})}
        self._waiting: deque[Observe] = deque()
        self._looked = False
        """A question was answered, and nobody else had a turn since."""

    def on_receive(self, message: Observe | LookOn) -> None:
        match message:
            case Observe():
                self._observe(message)
            case LookOn():
                self._looked = False
                if self._waiting:
                    self._observe(self._waiting.popleft())
            case _:
                assert_never(message)

    def _observe(self, asked: Observe) -> None:
        """Answer, unless others have to have a turn before."""
        if self._looked:
            if len(self._waiting) < WAITING_MAX:
                self._waiting.append(asked)
            else:
                self._say(asked, error=f"TRYAGAIN {WAITING_MAX} questions wait for an answer here already")
            return
        self._looked = True
        self.after(0.0, LookOn())
        answer: Any
        try:
            answer = self._answer(asked)
        except ObserveError as refusal:
            self._say(asked, error=f"ERR {refusal}")
        except Exception as failure:  # whoever looks must not restart the observer of somebody else
            self._failed(asked, failure)
        else:
            if isinstance(answer, LoopFuture):
                answer.when_done(lambda future: self._later(asked, future))
            else:
                self._say_json(asked, answer)

    def _answer(self, asked: Observe) -> Any:
        name = asked.words[0].upper() if len(asked.words) == 1 else " ".join(asked.words)
        word = self.words.get(name)
        if word is None:
            raise ObserveError(f"{name!r} is not a word of this process; it knows {', '.join(sorted(self.words))}")
        if name in INTERFERING and not asked.proven and (self._guarded or self.system.allow_code):
            raise ObserveError(
                f"{name} is for those who have proved a password here: ask by way of a node that wants one, with it"
            )
        return word(self.system, arguments_of(asked.text))

    def _later(self, asked: Observe, future: LoopFuture) -> None:
        """An answer is there, on whatever thread gave it."""
        try:
            answer = future.get(timeout=0)
        except ObserveError as refusal:
            self._say(asked, error=f"ERR {refusal}")
        except Exception as failure:
            self._failed(asked, failure)
        else:
            self._say_json(asked, answer)

    def _failed(self, asked: Observe, failure: Exception) -> None:
        what = sayable(" ".join(asked.words))
        log.exception("the observer failed on %s", what, exc_info=failure)
        self._say(asked, error=f"ERR {what} failed: {type(failure).__name__}: {failure}"[:1000])

    def _say_json(self, asked: Observe, answer: Any) -> None:
        text = json.dumps(answer)
        if len(text) > ANSWER_CHARACTERS_MAX:
            self._say(asked, error=f"ERR the answer has {len(text)} characters, {ANSWER_CHARACTERS_MAX} can be sent")
        else:
            self._say(asked, text=text)

    def _say(self, asked: Observe, *, text: str = "", error: str = "") -> None:
        self.send(asked.reply_to, Observed(question=asked.question, text=text, error=sayable(error)))


def sayable(text: str) -> str:
    """What can be sent and logged of a text that may quote JSON, in which there are texts that are no Unicode."""
    return text.encode("utf-8", "replace").decode()


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a word. Raises ObserveError when they are not a JSON object, or too long."""
    if len(text) > ARGUMENTS_CHARACTERS_MAX:
        raise ObserveError(f"the arguments have {len(text)} characters, {ARGUMENTS_CHARACTERS_MAX} are allowed")
    try:
        arguments = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise ObserveError(f"the arguments are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ObserveError('the arguments are not a JSON object, such as {"actor": "storage"}')
    return arguments
