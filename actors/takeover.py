"""Finds out what of some slots not everybody holds, before their new coordinator writes (R13, R18).

Hears   Tails       from Replica of every other up member, from its own Replica and its own Replicator
        AskAgain    from itself
Tells   AskTail -> those; TakenOver -> StorageNode; StreamSilent -> FailureDetector

One is spawned for each ring that makes this node the coordinator of slots which it has not coordinated all the time,
and stopped with the next ring. Whoever answers has read that ring and admits nothing of a former coordinator from then
on (R19); so what has been collected when all have answered is all there will ever be. Who does not answer is asked
again and again, and reported like a successor that does not acknowledge (R22), until a ring calls it down.

What the answers hold is put together by version: the streams of former coordinators are without gaps, so every copy has
a beginning of the same sequence, and the longest has all that any has.
"""

from dataclasses import dataclass
from typing import assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from .messages import AskTail, Numbered, Operation, StreamSilent, Tails, TakenOver
from .rules.ring import Node
from .rules.slots import Run

ASK_AGAIN_SECONDS = 0.25
"""How often it is looked who has not answered."""

SILENT_SECONDS = 1.0
"""Who has told nothing for so long is asked again, and reported."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class AskAgain:
    """Somebody has not answered for a while; local. Takeover -> Takeover."""


class Takeover(Actor):
    """The questions of one ring. ``members``: the other up members by id, with the slots that each has copies of."""

    def __init__(
        self,
        *,
        id: str,
        epoch: int,
        runs: tuple[Run, ...],
        members: dict[str, tuple[Node, tuple[Run, ...]]],
        storage: Ref,
        replicator: Ref,
        replica: Ref,
        detector: str,
    ) -> None:
        """``detector`` is the name of an actor of this process."""
        super().__init__()
        self._detector = detector
        self.id, self._epoch, self._storage = id, epoch, storage
        own = [(run.first, run.last) for run in runs]
        self._asked: dict[tuple[str, bool], tuple[Ref, list[tuple[int, int]]]] = {
            (id, True): (replicator, own),
            (id, False): (replica, own),
        }
        """Who has not answered yet, by id; true for the replicator."""
        self._members = members
        self._number = 0
        self._heard: dict[tuple[str, bool], tuple[float, int]] = {}
        """Of whom has not told everything, when they were asked or heard last, and which part comes next."""
        self._silent: set[str] = set()
        self._operations: dict[tuple[int, int, int], Operation] = {}
        """By slot and version."""
        self._numbers: dict[int, tuple[int, int]] = {}
        self._confirmed: list[tuple[str, str, float]] = []

    def on_start(self) -> None:
        self._number = self.random.getrandbits(63)
        for id, (node, runs) in sorted(self._members.items()):
            replica = self.system.resolve(f"ringkeeper://{node.bridge_address}/replica")
            self._asked[id, False] = replica, [(run.first, run.last) for run in runs]
        for who in self._asked:
            self._ask(who)
        self.after(ASK_AGAIN_SECONDS, AskAgain())

    def on_stop(self) -> None:
        for id in sorted(self._silent):
            self._report(id, 0.0)

    def on_receive(self, message: Tails | AskAgain) -> None:
        match message:
            case Tails():
                self._tails(message)
            case AskAgain():
                self._ask_again()
            case _:
                assert_never(message)

    def _ask(self, who: tuple[str, bool]) -> None:
        to, runs = self._asked[who]
        self._heard[who] = self.now(), 0
        self.send(to, AskTail(takeover=self._number, epoch=self._epoch, runs=runs, reply_to=self.ref))

    def _ask_again(self) -> None:
        for who in sorted(self._asked):
            silent = self.now() - self._heard[who][0]
            if silent >= SILENT_SECONDS:
                if who[0] in self._members:  # told each time: the Replicator takes back what it has said of it
                    self._silent.add(who[0])
                    self._report(who[0], silent)
                self._ask(who)
        self.after(ASK_AGAIN_SECONDS, AskAgain())

    def _report(self, id: str, seconds: float) -> None:
        detector = self.system.find(self._detector)
        if detector is not None:
            life = self._members[id][0]
            self.send(detector, StreamSilent(node=id, incarnation=life.incarnation, seconds=seconds))

    def _tails(self, message: Tails) -> None:
        who = message.node, message.own
        if message.takeover != self._number or who not in self._asked:
            return
        expected = self._heard[who][1]
        if message.part != expected:
            if message.part:  # a part was lost with the link: what was asked again begins anew
                return
            expected = 0
        self._heard[who] = self.now(), expected + 1
        for operation in message.operations:
            self._operations[operation[0], operation[3], operation[4]] = operation
        for slot, epoch, seq in message.numbers:
            self._numbers[slot] = max(self._numbers.get(slot, (0, 0)), (epoch, seq))
        if who == (self.id, False) and message.part == 0:
            now = self.now()
            self._confirmed = [(id, incarnation, now - ago) for id, incarnation, ago in message.confirmed]
        if not message.more:
            del self._asked[who]
            if who[0] in self._silent:
                self._silent.discard(who[0])
                self._report(who[0], 0.0)
        if not self._asked:
            self._tell()

    def _tell(self) -> None:
        order = sorted(self._operations, key=lambda place: place[1:])
        numbers: list[Numbered] = [(slot, *number) for slot, number in sorted(self._numbers.items())]
        taken = TakenOver(
            epoch=self._epoch,
            operations=[self._operations[place] for place in order],
            numbers=numbers,
            confirmed=self._confirmed,
        )
        self.send(self._storage, taken)
