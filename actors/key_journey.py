"""Says which messages belong to the journey of one key: from the client's request to the last copy, and back.

What carries commands, outcomes or records (Requests, Execute, Follow, Append, Replicate, Chunk...) belongs to it where
the key is among them, or all keys of its slot. An answer belongs to it by what it answers: ``Executed`` and ``Settled``
by the number and the place of a request, ``Appended`` and ``Replicated`` by a number of their stream or walk that the
key is not behind yet, ``PeerHolds``, ``LearnerHolds``, ``Sync`` and ``Synced`` by the message in whose handling they
were told. So the journey can be followed through a process in which thousands of others are under way.

    Requests -> Execute -> Follow -> Append -> Appended -> PeerHolds -> Settled

One of these is what a trace of a key goes by in each process (``runtime/tracing.py``); it remembers what it has seen
leave or come, for the answers. Where to look next: `rules/journey.py` puts the parts of all processes together.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ..runtime.looking import ObserveError
from ..runtime.resp import Requests
from .messages import (
    Append,
    Appended,
    BeginTenure,
    Chunk,
    Execute,
    Executed,
    Follow,
    LearnerHolds,
    Operation,
    PeerHolds,
    Replicate,
    Replicated,
    Settled,
    Sync,
    Synced,
    Tails,
    TakenOver,
)
from .rules.commands import Command, resolve
from .rules.slots import slot as slot_of

UNANSWERED_MAX = 10_000
"""So many requests and messages of the journey are remembered for their answers."""

SHOWN_BYTES_MAX = 40
"""So much of a reply is shown."""


class KeyJourney:
    """The subject of a trace: one key, as text. Raises ObserveError when it is the text of no bytes."""

    def __init__(self, key: str) -> None:
        try:
            self._key = key.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as failure:
            raise ObserveError(f"{key!r} is no key: {failure.reason}") from failure
        self._shown = key
        self._slot = slot_of(self._key)
        self._requests: dict[int, dict[int, str]] = {}
        """By the number of an Execute, where in it which of the key's commands stand, unless all are answered."""
        self._carried: dict[tuple[str, int], list[tuple[int, bool]]] = {}
        """By stream or walk, the numbers of messages that carried it, and whether the answer that counts is the one
        that says that it is on disk."""

    def concerns(self, message: Any, cause: Any, sender: str, to: str) -> str | None:
        match message:
            case Requests():
                return self._asked(message)
            case Execute():
                return self._execute(message.number, message.requests)
            case Executed():
                return self._executed(message)
            case Settled():
                return self._settled(message)
            case Follow() | BeginTenure() | TakenOver() | Tails():
                return self._operations(message.operations)
            case Append():
                return self._carries("stream", message.stream, message.number, message.operations, message.sync)
            case Replicate():
                return self._carries("walk", message.walk, message.number, message.operations, message.sync)
            case Chunk():
                return self._chunk(message)
            case Appended():
                return self._answers("stream", message.stream, message.number, message.synced)
            case Replicated():
                return self._answers("walk", message.walk, message.number, message.synced)
            case PeerHolds() if cause is not None:
                return f"{message.node} holds everything up to batch {message.batch}"
            case LearnerHolds() | Sync() | Synced() if cause is not None:
                return ""
            case _:
                return None

    # Requests and their answers

    def _asked(self, requests: Requests) -> str | None:
        said = [
            f"{self._command(request)} of {connection.address}"
            for connection, batch in requests.joined()
            for request in batch
            if self._is_about_it(resolve(request), request)
        ]
        return ", ".join(said) or None

    def _execute(self, number: int, requests: Sequence[tuple[Command, list[bytes]]]) -> str | None:
        said = {
            place: self._command(request)
            for place, (command, request) in enumerate(requests)
            if self._is_about_it(command, request)
        }
        if not said:
            return None
        _remember(self._requests, number, said)
        return ", ".join(f"{what} (request {place + 1} of {len(requests)})" for place, what in said.items())

    def _executed(self, message: Executed) -> str | None:
        places = self._requests.get(message.number)
        if places is None:
            return None
        said = [f"{what}: {_reply(message.replies[place])}" for place, what in places.items()]
        if not message.later:
            del self._requests[message.number]
        return ", ".join(said)

    def _settled(self, message: Settled) -> str | None:
        said = []
        for number, place, reply in message.replies:
            places = self._requests.get(number)
            if places is not None and place in places:
                said.append(f"{places.pop(place)}: {_reply(reply)}")
                if not places:
                    del self._requests[number]
        return ", ".join(said) or None

    def _is_about_it(self, command: Command | bytes, request: list[bytes]) -> bool:
        return isinstance(command, Command) and self._key in command.keys(request)

    def _command(self, request: list[bytes]) -> str:
        return f"{request[0].decode('utf-8', 'replace').upper()} {self._shown}"

    # Outcomes, and who has them

    def _operations(self, operations: Iterable[Operation]) -> str | None:
        said = []
        for slot, key, value, epoch, seq, _ in operations:
            if key == self._key:
                said.append(f"{'delete' if value is None else 'put'} {self._shown} as {epoch}:{seq}")
            elif key is None and slot == self._slot:
                said.append(f"flush of slot {slot} as {epoch}:{seq}")
        return ", ".join(said) or None

    def _carries(self, kind: str, whose: int, number: int, operations: Iterable[Operation], sync: bool) -> str | None:
        said = self._operations(operations)
        return self._carried_as(kind, whose, number, sync, said) if said is not None else None

    def _chunk(self, chunk: Chunk) -> str | None:
        mine = (self._slot, self._key)
        if any(each[:2] == mine for each in chunk.puts):
            return self._carried_as("walk", chunk.walk, chunk.number, False, f"{self._shown} as it is")
        if mine in chunk.removals:
            return self._carried_as("walk", chunk.walk, chunk.number, False, f"no {self._shown} any more")
        return None

    def _carried_as(self, kind: str, whose: int, number: int, sync: bool, said: str) -> str:
        waiting = self._carried.get((kind, whose), [])
        if (number, sync) not in waiting:
            _remember(self._carried, (kind, whose), [*waiting, (number, sync)])
        return f"{said}; number {number}"

    def _answers(self, kind: str, whose: int, number: int, synced: int) -> str | None:
        waiting = self._carried.get((kind, whose))
        if waiting is None:
            return None
        answered = [each for each, _ in waiting if each <= number]
        left = [(each, sync) for each, sync in waiting if each > (synced if sync else number)]
        if left:
            self._carried[kind, whose] = left
        else:
            del self._carried[kind, whose]
        return f"up to number {number}" + (f", on disk {synced}" if synced else "") if answered else None


def _remember(where: dict[Any, Any], what: Any, value: Any) -> None:
    if len(where) >= UNANSWERED_MAX:
        del where[next(iter(where))]
    where[what] = value


def _reply(reply: Any) -> str:
    """The begin of a reply, as a person reads it."""
    if type(reply).__name__ == "Later":
        return "later"
    if isinstance(reply, bytes):
        text = reply[:SHOWN_BYTES_MAX].decode("utf-8", "replace").strip().replace("\r\n", " ")
        return text if len(reply) <= SHOWN_BYTES_MAX else f"{text}..."
    return "nil" if reply is None else repr(reply)[:SHOWN_BYTES_MAX]
