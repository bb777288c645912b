"""Finds out what of some slots not everybody holds, before their new coordinator writes (R13, R18).

Hears   Tails       from Replica of every other up member, from its own Replica and its own Replicator
        AskAgain    from itself
Tells   AskTail -> those; TakenOver -> StorageNode

One is spawned for each ring that makes this node the coordinator of slots which it has not coordinated all the time,
and stopped with the next ring. Whoever answers has read that ring and admits nothing of a former coordinator from then
on (R19); so what has been collected when all have answered is all there will ever be. Who does not answer is asked
again and again, until a ring calls it down.

What the answers hold is put together by version: the streams of former coordinators are without gaps, so every copy has
a beginning of the same sequence, and the longest has all that any has.
"""

from dataclasses import dataclass
from typing import assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from .messages import AskTail, Numbered, Operation, Tails, TakenOver
from .rules.ring import Node
from .rules.slots import Run

ASK_AGAIN_SECONDS = 0.25


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
    ) -> None:
        super().__init__()
        self.id, self._epoch, self._storage = id, epoch, storage
        own = [(run.first, run.last) for run in runs]
        self._asked: dict[tuple[str, bool], tuple[Ref, list[tuple[int, int]]]] = {
            (id, True): (replicator, own),
            (id, False): (replica, own),
        }
        """Who has not answered yet, by id; true for the replicator."""
        self._members = members
        self._number = 0
        self._operations: dict[tuple[int, int, int], Operation] = {}
        """By slot and version."""
        self._numbers: dict[int, tuple[int, int]] = {}
        self._confirmed: list[tuple[str, str, float]] = []

    def on_start(self) -> None:
        self._number = self.random.getrandbits(63)
        for id, (node, runs) in sorted(self._members.items()):
            replica = self.system.resolve(f"ringkeeper://{node.bridge_address}/replica")
            self._asked[id, False] = replica, [(run.first, run.last) for run in runs]
        self._ask()

    def on_receive(self, message: Tails | AskAgain) -> None:
        match message:
            case Tails():
                self._heard(message)
            case AskAgain():
                self._ask()
            case _:
                assert_never(message)

    def _ask(self) -> None:
        for _, (to, runs) in sorted(self._asked.items()):
            self.send(to, AskTail(takeover=self._number, epoch=self._epoch, runs=runs, reply_to=self.ref))
        self.after(ASK_AGAIN_SECONDS, AskAgain())

    def _heard(self, message: Tails) -> None:
        if message.takeover != self._number or self._asked.pop((message.node, message.own), None) is None:
            return
        for operation in message.operations:
            self._operations[operation[0], operation[3], operation[4]] = operation
        for slot, epoch, seq in message.numbers:
            self._numbers[slot] = max(self._numbers.get(slot, (0, 0)), (epoch, seq))
        if message.node == self.id and not message.own:
            now = self.now()
            self._confirmed = [(id, incarnation, now - ago) for id, incarnation, ago in message.confirmed]
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
