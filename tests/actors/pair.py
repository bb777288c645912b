"""Two nodes without a network: a storage node that hands slots over, the replica that learns them, and what is between.

Messages wait in two queues, one a direction, until the test lets them arrive; the link can be lost with all that is
under way, as a bridge loses it. A ring is read by either side when the test says so.
"""

from collections import deque
from typing import Any

from ringkeeper.actors.handoff import Handoff
from ringkeeper.actors.messages import (
    LATER,
    ChangeReported,
    Execute,
    Executed,
    Replicate,
    RingChanged,
    Settled,
    Sync,
    Synced,
)
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules.commands import Command, resolve
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.actors.rules.transitions import advanced, begun, committed, given_up
from ringkeeper.actors.storage_node import StorageNode
from ringkeeper.runtime.election import LeaderChanged
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.store import Store, StoreError, open_store
from ringkeeper.runtime.system import Terminated
from ringkeeper.tests.actors.rules.rings import founded, hex64, registration

SOURCE, TARGET = "127.0.0.1:7001", "127.0.0.1:7002"
LEADER = "ringkeeper://127.0.0.1:18000/ecs"
REPLICA = "ringkeeper://127.0.0.1:17002/replica"


class Pair:
    """One node that has all slots, another that is to have half of them."""

    def __init__(self, *, fsync: str = "never", learned: Store | None = None, **options: Any) -> None:
        self.store, self.learned = open_store("memory"), learned or open_store("memory")
        self.source = Harness(
            StorageNode, id=SOURCE, incarnation=registration(SOURCE).incarnation, store=self.store,
            syncer="probe:syncer", pid=1, fsync=fsync, **options,
        )  # fmt: skip
        self.target = Harness(
            Replica, id=TARGET, incarnation=registration(TARGET).incarnation, store=self.learned,
            syncer="probe:syncer", keeps_synced=False,
        )  # fmt: skip
        self.ring = founded([SOURCE])
        self.to_target: deque[Any] = deque()
        self.to_source: deque[tuple[str, Any]] = deque()
        self.reports: list[ChangeReported] = []
        self.replies: dict[tuple[int, int], Any] = {}
        """By number of the Execute and place in it; LATER until it is settled."""
        self.number = 0
        self.syncs: list[Sync] = []
        self.hear(self.source.tell(LeaderChanged(path="", data=LEADER.encode(), term=1)))

    def stop(self) -> None:
        self.source.stop()
        self.target.stop()

    # The ring

    def write(self, ring: Ring) -> None:
        self.ring = ring

    def fields(self) -> dict[str, Any]:
        return {"why": "test", "nonce": hex64(self.ring.epoch + 100), "wall_seconds": 1e9}

    def begin(self) -> None:
        self.ring = begun(self.ring, None, [registration(TARGET)], **self.fields())

    def advance(self) -> None:
        self.ring = advanced(self.ring, **self.fields())

    def commit(self) -> None:
        self.ring = committed(self.ring, **self.fields())

    def abort(self) -> None:
        assert self.ring.change is not None
        self.ring = given_up(self.ring, self.ring.change.wish.job, "aborted", **self.fields())

    def read(self) -> None:
        """Both read the newest ring."""
        self.source_reads()
        self.target_reads()

    def source_reads(self) -> None:
        self.hear(self.source.tell(RingChanged(ring=self.ring)))

    def target_reads(self) -> None:
        self.hear_target(self.target.tell(RingChanged(ring=self.ring)))

    # Messages

    def hear(self, sent: list[tuple[str, Any]]) -> None:
        """Sort what the source has sent; its disk syncs at once unless a test keeps the syncs back."""
        for to, message in sent:
            match message:
                case Executed():
                    for place, reply in enumerate(message.replies):
                        if reply is not LATER or (message.number, place) not in self.replies:
                            self.replies[message.number, place] = reply
                case Settled():
                    self.replies |= {(number, place): reply for number, place, reply in message.replies}
                case ChangeReported():
                    self.reports.append(message)
                case Sync():
                    self.syncs.append(message)
                case _ if to == REPLICA:
                    self.to_target.append(message)
                case _:
                    raise AssertionError(f"{message} to {to}")

    def hear_target(self, sent: list[tuple[str, Any]]) -> None:
        for to, message in sent:
            if isinstance(message, Sync):
                error = ""
                try:
                    self.learned.sync()
                except StoreError as failure:
                    error = str(failure)
                self.hear_target(self.target.tell(Synced(batch=message.batch, error=error)))
            else:
                self.to_source.append((to.rpartition("/")[2], message))

    def sync_source(self) -> None:
        while self.syncs:
            self.store.sync()
            self.hear(self.source.tell(Synced(batch=self.syncs.pop(0).batch)))

    def deliver_to_target(self) -> bool:
        """Let the next message arrive at the replica."""
        if not self.to_target:
            return False
        self.hear_target(self.target.tell(self._with_probe(self.to_target.popleft())))
        return True

    def deliver_to_source(self) -> bool:
        """Let the next message arrive at its handoff."""
        if not self.to_source:
            return False
        name, message = self.to_source.popleft()
        ref = self.source.system.find(name)
        if ref is not None:
            ref.tell(message)
            self.hear(self.source._run())
        return True

    def deliver(self, messages_max: int = 10_000) -> None:
        """Let everything arrive, and what that causes."""
        for _ in range(messages_max):
            if not self.deliver_to_target() and not self.deliver_to_source():
                return
        raise AssertionError(f"{messages_max} messages, and there is no end")

    def _with_probe(self, message: Any) -> Any:
        """A ref of the source becomes one that the target's messages can be sorted by."""
        from dataclasses import replace

        if hasattr(message, "reply_to"):
            return replace(message, reply_to=self.target.probe(message.reply_to.name))
        return message

    def lose_link(self) -> None:
        """Everything under way is lost, both ways, and the handoffs are told."""
        self.to_target.clear()
        self.to_source.clear()
        for handoff in self.handoffs():
            handoff.ref.tell(Terminated(ref=self.source.probe(REPLICA), why="the link is lost"))
        self.hear(self.source._run())

    def pass_time(self, seconds: float) -> None:
        self.hear(self.source.advance(seconds))
        self.hear_target(self.target.advance(seconds))

    def handoffs(self) -> list[Handoff]:
        part = self.source.actor._part
        return [move.ref._actor_weakref() for move in part.moves.values()] if part is not None else []

    # Requests

    def send(self, *lines: str | bytes) -> list[tuple[int, int]]:
        """Requests of one turn at the source; returns where their replies will be."""
        requests: list[tuple[Command, list[bytes]]] = []
        for line in lines:
            words = line.encode().split() if isinstance(line, str) else line.split()
            command = resolve(words)
            assert isinstance(command, Command), command
            requests.append((command, words))
        self.number += 1
        execute = Execute(number=self.number, requests=requests, reply_to=self.source.probe("gateway"))
        self.hear(self.source.tell(execute))
        return [(self.number, place) for place in range(len(lines))]

    def ask(self, line: str) -> Any:
        """The reply to one request as it is by now."""
        (place,) = self.send(line)
        return self.replies[place]

    @property
    def reached(self) -> str | None:
        """How far the source says that it is, in the newest ring; None: it has not come to any end."""
        report = self.reports[-1] if self.reports else None
        return report.reached if report is not None and report.epoch == self.ring.epoch else None

    def moving(self, stem: str = "key") -> str:
        """A key that moves."""
        return next(key for key in self._keys(stem) if self._moves(key))

    def staying(self, stem: str = "key") -> str:
        return next(key for key in self._keys(stem) if not self._moves(key))

    def _keys(self, stem: str) -> list[str]:
        return [f"{stem}{number}" for number in range(1000)]

    def _moves(self, key: str) -> bool:
        first, last = self.moved
        return first <= slot_of(key.encode()) <= last

    @property
    def moved(self) -> tuple[int, int]:
        """The slots that move: the first half."""
        return 0, 8191

    def difference(self) -> list[Any]:
        """What the two hold differently of the slots that move: keys, versions, values, numbers."""
        first, last = self.moved
        one, other = (
            {record[:2]: record[2] for record in store.scan(first, last, None, 1 << 30, 1 << 40)}
            for store in (self.store, self.learned)
        )
        differing: list[Any] = [
            (key, one.get(key), other.get(key))
            for key in sorted(one.keys() | other.keys())
            if one.get(key) != other.get(key)
        ]
        differing += [
            (slot, self.store.number(slot), self.learned.number(slot))
            for slot in range(first, last + 1)
            if self.store.number(slot) != self.learned.number(slot)
        ]
        return differing


def operations_sent(pair: Pair) -> int:
    """How many followed writes are on their way to the learner."""
    return sum(len(each.operations) for each in pair.to_target if isinstance(each, Replicate))
