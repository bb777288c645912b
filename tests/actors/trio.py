"""Several nodes with copies of each other's slots, without a network: all that a node runs on the path of the data.

Every node is a storage node with its replicator, its takeovers and handoffs, and a replica. Messages between nodes wait
in queues, one for each direction of a link, until the test lets them arrive; a link can stand still, or be lost with
all that is under way. A ring is read by a node when the test says so, and time passes when it does.
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from ringkeeper.actors.messages import (
    LATER,
    ChangeReported,
    Execute,
    Executed,
    LookForRing,
    PeerGone,
    RingChanged,
    RingSeen,
    Settled,
    Sync,
    Synced,
)
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules.commands import Command, resolve
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.actors.rules.transitions import advanced, begun, committed, raisable, returned, returning
from ringkeeper.actors.storage_node import StorageNode
from ringkeeper.runtime.actor import Actor, LocalRef, Ref
from ringkeeper.runtime.election import LeaderChanged
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.store import Store, open_store
from ringkeeper.runtime.system import ESCALATE, Terminated
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration

LEADER = "ringkeeper://127.0.0.1:18000/ecs"

Place = tuple[str, int, int]
"""Where a reply will be: the node that was asked, the number of the Execute, the place in it."""


class Far(Ref):
    """An actor of another node."""

    def __init__(self, address: str, on_tell: Callable[[str, Any], None]) -> None:
        self._address, self.name = address, address.rpartition("/")[2]
        self.on_tell = on_tell
        self.watchers: list[Ref] = []

    @property
    def address(self) -> str:
        return self._address

    def is_alive(self) -> bool:
        return True

    def tell(self, message: Any) -> None:
        self.on_tell(self._address, message)

    def watch(self, watcher: Ref) -> None:
        self.watchers.append(watcher)

    def unwatch(self, watcher: Ref) -> None:
        self.watchers = [each for each in self.watchers if each is not watcher]


class Ear(Actor):
    """Stands for an actor that is only listened to."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: Any) -> None:
        self._heard.append(message)


class One:
    """One node, in one life."""

    def __init__(self, id: str, life: int, store: Store, on_tell: Callable[[str, Any], None], fsync: str) -> None:
        self.id, self.life, self.store = id, life, store
        me = registration(id, life)
        self.incarnation, self.port = me.incarnation, me.bridge_port
        self.harness = Harness(
            StorageNode, id=id, incarnation=me.incarnation, store=store, syncer="probe:storage-syncer", pid=1,
            fsync=fsync, seed=me.port * 10 + life,
        )  # fmt: skip
        system = self.harness.system
        self.far: dict[str, Far] = {}
        system.resolver = lambda address: self.far.setdefault(address, Far(address, on_tell))
        self.to_member: list[Any] = []
        self.to_detector: list[Any] = []
        system.spawn(Ear, self.to_member, name="member")
        system.spawn(Ear, self.to_detector, name="failure-detector")
        self.replica_ref: LocalRef = system.spawn(
            Replica, id=id, incarnation=me.incarnation, store=store, syncer=self.harness.probe("replica-syncer"),
            keeps_synced=False, name="replica", supervision=ESCALATE,
        )  # fmt: skip
        self.heard = 0
        self.ring: Ring | None = None

    @property
    def storage(self) -> Any:
        """The actor itself, for asserting on its state."""
        return self.harness.actor

    @property
    def replica(self) -> Any:
        return self.replica_ref._actor_weakref()

    def address(self, name: str) -> str:
        return f"ringkeeper://127.0.0.1:{self.port}/{name}"


class Trio:
    """Nodes 7001, 7002... that hold copies of each other's slots."""

    def __init__(self, count: int = 3, *, replicas: int = 3, min_copies: int = 2, fsync: str = "never") -> None:
        self.fsync = fsync
        self.ring = founded(count, replicas, min_copies)
        self.links: dict[tuple[int, int], deque[tuple[str, Any]]] = {}
        """By the bridge ports of sender and receiver."""
        self.still: set[str] = set()
        """Nodes whose links stand still: nothing arrives from there or there."""
        self.replies: dict[Place, Any] = {}
        """LATER until it is settled."""
        self.reports: dict[str, ChangeReported] = {}
        """The last one of each node."""
        self.syncs: list[tuple[str, Sync]] = []
        self.syncs_wait = False
        """Syncs are not done before the test says so."""
        self.number = 0
        self.born: dict[str, int] = {}
        """How many requests there had been when the life of a node began."""
        self.nodes: dict[str, One] = {}
        for node in self.ring.nodes:
            self._begin(node.id, 1, open_store("memory"))
        self.ids = sorted(self.nodes)

    def _begin(self, id: str, life: int, store: Store) -> One:
        port = registration(id).bridge_port
        self.born[id] = self.number + 1
        one = self.nodes[id] = One(id, life, store, lambda to, message: self._put(port, to, message), self.fsync)
        one.harness.loop.advance(max((each.harness.loop.time() for each in self.nodes.values()), default=0.0))
        one.harness.tell(LeaderChanged(path="", data=LEADER.encode(), term=1))
        return one

    def stop(self) -> None:
        for one in self.nodes.values():
            one.harness.stop()

    def __getitem__(self, id: str) -> One:
        return self.nodes[id]

    # The ring

    def fields(self) -> dict[str, Any]:
        return {"nonce": hex64(self.ring.epoch + 1), "wall_seconds": 1e9, "why": "test"}

    def amend(self) -> None:
        """A ring in which nothing is different is written."""
        self.ring = self.ring.amended(what="nothing", **self.fields())

    def down(self, *ids: str) -> None:
        """A ring that calls these nodes down is written; nobody has read it."""
        self.ring = lost(self.ring, *ids)

    def restart(self, id: str) -> One:
        """The node begins a new life on the same data, and the ring says so; nobody has read that."""
        one = self.nodes[id]
        self.lose(id)
        one.harness.stop()
        self.ring = returned(self.ring, [registration(id, one.life + 1)], **self.fields())
        return self._begin(id, one.life + 1, one.store)

    def begin_return(self) -> None:
        """A ring in which a change raises all that are returning."""
        self.ring = begun(self.ring, returning(self.ring, raisable(self.ring)), **self.fields())

    def advance_change(self) -> None:
        self.ring = advanced(self.ring, **self.fields())

    def commit(self) -> None:
        self.ring = committed(self.ring, **self.fields())

    def reached(self, phase: str) -> bool:
        """Whether everybody who has a part in the change has reported the end of a phase in the newest ring."""
        reports = [each for each in self.reports.values() if each.epoch == self.ring.epoch]
        return bool(reports) and all(each.reached == phase for each in reports)

    def come_to(self, phase: str) -> None:
        """Everybody reads the ring and comes to the end of this phase of its change."""
        self.read()
        self.run(3.0, until=lambda: self.reached(phase))
        assert self.reached(phase), f"{phase}: {self.reports}"

    def seal_return(self) -> None:
        """A change that raises all that are returning, up to where everybody is Ready for its commit."""
        self.begin_return()
        for phase in ("transfer", "switch", "seal"):
            self.come_to(phase)
            if phase != "seal":
                self.advance_change()

    def raise_returning(self) -> None:
        """The same, and its commit."""
        self.seal_return()
        self.commit()
        self.read()
        self.run(0.5)

    def read(self, *ids: str) -> None:
        """These nodes (all, if none is named) read the newest ring."""
        for id in ids or self.ids:
            one = self.nodes[id]
            one.ring = self.ring
            one.replica_ref.tell(RingChanged(ring=self.ring))
            one.harness.tell(RingChanged(ring=self.ring))
            self._hear(one)

    def hear_gone(self, gone: str, *ids: str) -> None:
        """These nodes are told that the process of another has certainly ended."""
        for id in ids:
            one = self.nodes[id]
            one.harness.tell(PeerGone(node=gone, incarnation=self.nodes[gone].incarnation))
            self._hear(one)

    def confirm_ring(self, id: str) -> None:
        """Answer who asks for the ring and has read the newest (R21)."""
        one = self.nodes[id]
        asked, one.to_member[:] = list(one.to_member), []
        for question in asked:
            if isinstance(question, LookForRing) and question.reply_to is not None:
                one.harness.tell(RingSeen(question=question.question, epoch=self.ring.epoch))
        self._hear(one)

    def start(self) -> "Trio":
        """Everybody reads the ring, takes its slots over, and has the others' confirmation."""
        self.read()
        self.deliver()
        return self

    # Messages

    def _put(self, port: int, to: str, message: Any) -> None:
        receiver = int(to.removeprefix("ringkeeper://127.0.0.1:").partition("/")[0])
        if to == LEADER:
            self.reports[message.node] = message
        else:
            self.links.setdefault((port, receiver), deque()).append((to.rpartition("/")[2], message))

    def _hear(self, one: One) -> None:
        """Sort what a node has told its own surroundings."""
        sent = one.harness.sent
        while one.heard < len(sent):
            to, message = sent[one.heard]
            one.heard += 1
            match message:
                case Executed():
                    for place, reply in enumerate(message.replies):
                        if reply is not LATER or (one.id, message.number, place) not in self.replies:
                            self.replies[one.id, message.number, place] = reply
                case Settled():
                    self.replies |= {(one.id, number, place): reply for number, place, reply in message.replies}
                case Sync():
                    self.syncs.append((one.id, message))
                    if not self.syncs_wait:
                        self.sync()
                case _:
                    raise AssertionError(f"{message} to {to}")

    def sync(self, *ids: str) -> None:
        """The disks of these nodes (all, if none is named) are synced."""
        syncs, self.syncs = self.syncs, []
        for id, sync in syncs:
            if ids and id not in ids:
                self.syncs.append((id, sync))
                continue
            one = self.nodes[id]
            one.store.sync()
            sync.reply_to.tell(Synced(batch=sync.batch))
            one.harness._run()
            self._hear(one)

    def step(self, sender: str, receiver: str) -> bool:
        """Let the next message of a link arrive; False: there is none, or the link stands still."""
        link = self.links.get((registration(sender).bridge_port, registration(receiver).bridge_port))
        if not link or sender in self.still or receiver in self.still:
            return False
        name, message = link.popleft()
        one = self.nodes[receiver]
        ref = one.harness.system.find(name)
        if ref is not None:
            ref.tell(self._as_received(self.nodes[sender], one, message))
            one.harness._run()
            self._hear(one)
        return True

    def _as_received(self, sender: One, receiver: One, message: Any) -> Any:
        """References to actors of the sender become such to actors of another node."""
        refs = {
            field.name: receiver.harness.system.resolve(sender.address(ref.name))
            for field in fields(message)
            if isinstance(ref := getattr(message, field.name), LocalRef)
        }
        return replace(message, **refs) if refs else message

    def under_way(self, sender: str, receiver: str) -> list[Any]:
        """What has not arrived."""
        link = self.links.get((registration(sender).bridge_port, registration(receiver).bridge_port), ())
        return [message for _, message in link]

    def deliver(self, *receivers: str, messages_max: int = 20_000) -> None:
        """Let everything arrive (at these nodes), and what that causes."""
        pairs = [(one, other) for one in self.ids for other in receivers or self.ids if one != other]
        for _ in range(messages_max):
            if not sum(self.step(*pair) for pair in pairs):
                return
        raise AssertionError(f"{messages_max} rounds of messages, and there is no end")

    def lose(self, one: str, *others: str) -> None:
        """The links of a node with others (all, if none is named) are lost with all that is under way."""
        for other in others or [id for id in self.ids if id != one]:
            for here, there in ((one, other), (other, one)):
                a, b = self.nodes[here], self.nodes[there]
                self.links.pop((a.port, b.port), None)
                for address, far in list(a.far.items()):
                    if f":{b.port}/" in address:
                        watchers, far.watchers = far.watchers, []
                        for watcher in watchers:
                            with suppress(Exception):  # it may have ended
                                watcher.tell(Terminated(ref=far, why="the link is lost"))
                a.harness._run()
                self._hear(a)

    def pass_time(self, seconds: float) -> None:
        """Nothing arrives meanwhile."""
        for one in self.nodes.values():
            one.harness.advance(seconds)
            self._hear(one)

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False, step: float = 0.05) -> None:
        """Time passes, and all arrives that can."""
        self.deliver()
        for _ in range(round(seconds / step)):
            if until():
                return
            self.pass_time(step)
            self.deliver()

    # Requests

    def send(self, id: str, *lines: str, eager: Iterable[int] = (), stale: Iterable[int] = ()) -> list[Place]:
        """Requests of one turn at a node; returns where their replies will be."""
        requests: list[tuple[Command, list[bytes]]] = []
        for line in lines:
            command = resolve(line.encode().split())
            assert isinstance(command, Command), command
            requests.append((command, line.encode().split()))
        self.number += 1
        one = self.nodes[id]
        one.harness.tell(
            Execute(
                number=self.number, requests=requests, reply_to=one.harness.probe("gateway"),
                eager=frozenset(eager), stale=frozenset(stale),
            )
        )  # fmt: skip
        self._hear(one)
        return [(id, self.number, place) for place in range(len(lines))]

    def ask(self, id: str, line: str, **how: Any) -> Any:
        """The reply to one request as it is by now."""
        (place,) = self.send(id, line, **how)
        return self.replies[place]

    def key(self, id: str, stem: str = "key") -> str:
        """A key whose preference list begins with this node: while it is up it answers for it."""
        keys = (f"{stem}{n}" for n in range(10_000))
        return next(key for key in keys if self.ring.preference_list(slot_of(key.encode()))[0].id == id)

    def coordinator(self, key: str) -> str | None:
        node = self.ring.coordinators[slot_of(key.encode())]
        return node.id if node is not None else None

    # What is there

    def value(self, id: str, key: str) -> bytes | None:
        record = self.nodes[id].store.get(slot_of(key.encode()), key.encode())
        return record.value if record is not None else None

    def difference(self, one: str, other: str) -> list[Any]:
        """What two nodes hold differently of the slots that both have: keys, versions, values, numbers."""
        common = [run for run, members in self.ring.list_runs if {one, other} <= {node.id for node in members}]
        mine, theirs = (self._content(self.nodes[id].store, common) for id in (one, other))
        return [
            (key, mine.get(key), theirs.get(key))
            for key in mine.keys() | theirs.keys()
            if mine.get(key) != theirs.get(key)
        ]

    @staticmethod
    def _content(store: Store, runs: Iterable[Any]) -> dict[Any, Any]:
        content: dict[Any, Any] = {slot: number for slot, *number in store.numbers(0, SLOTS)}
        mine = {slot for run in runs for slot in range(run.first, run.last + 1)}
        content = {slot: number for slot, number in content.items() if slot in mine}
        for slot, key, record in store.scan(0, SLOTS - 1, None, 1 << 30, 1 << 40):
            if slot in mine:
                content[slot, key] = record
        return content
