"""Listens for the other nodes' heartbeats and reports who has fallen silent, or is heard again.

Hears   RingChanged        from Member: whom to listen to
        LeaderChanged      from Election: whom to report to
        Heartbeat          from FailureDetector of every other node
        Beat               from itself, every ``heartbeat_seconds``
Tells   Heartbeat -> FailureDetector of every other node; Suspected -> the leading Ecs

It reports and decides nothing: who is down is for the ECS to say, and so far it goes by ZooKeeper's sessions alone. A
suspicion names the incarnation. The detector knows its own delays: if its own beat comes late, its process was slow or
paused, everybody's heartbeats may be waiting unread, and nobody is judged until a whole round has passed.

    heard --silent for suspect_seconds--> suspected --a heartbeat--> heard
"""

from dataclasses import dataclass
from typing import assert_never

from ..runtime.actor import Actor
from ..runtime.election import LeaderChanged
from ..runtime.message import message
from .messages import Heartbeat, RingChanged, Suspected
from .rules.ring import Ring


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Time for a heartbeat; local. FailureDetector -> FailureDetector."""


class FailureDetector(Actor):
    """One node's opinion of the others."""

    def __init__(
        self, *, id: str, incarnation: str, heartbeat_seconds: float = 0.5, suspect_seconds: float = 3.0
    ) -> None:
        super().__init__()
        self.id, self._incarnation = id, incarnation
        self._heartbeat_seconds, self._suspect_seconds = heartbeat_seconds, suspect_seconds
        self._ring: Ring | None = None
        self._leader = ""
        self._number = 0
        self._heard: dict[tuple[str, str], float] = {}
        """When each node of the ring, in the incarnation that the ring names, was heard last (or first expected)."""
        self._suspected: set[tuple[str, str]] = set()
        self._last_beat: float | None = None

    def on_start(self) -> None:
        self.after(self._heartbeat_seconds, Beat())

    def on_receive(self, message: Heartbeat | Beat | RingChanged | LeaderChanged) -> None:
        match message:
            case Heartbeat():
                self._heartbeat(message)
            case Beat():
                self._beat()
            case RingChanged():
                self._ring_changed(message.ring)
            case LeaderChanged():
                self._leader_changed((message.data or b"").decode())
            case _:
                assert_never(message)

    def _ring_changed(self, ring: Ring) -> None:
        self._ring = ring
        peers = {(n.id, n.incarnation) for n in ring.circle if n.id != self.id and n.state == "up"}
        if all(node.id != self.id for node in ring.circle):  # who is not in the ring is not sent heartbeats
            peers.clear()
        self._heard = {peer: self._heard.get(peer, self.now()) for peer in sorted(peers)}
        self._suspected &= peers

    def _leader_changed(self, leader: str) -> None:
        """A new leader knows of no suspicion yet."""
        self._leader = leader
        for peer in sorted(self._suspected):
            self._report(peer, self.now() - self._heard[peer])

    def _beat(self) -> None:
        now = self.now()
        late = self._last_beat is not None and now - self._last_beat > 2 * self._heartbeat_seconds
        self._last_beat = now
        self._number += 1
        if self._ring is not None:
            beat = Heartbeat(node=self.id, incarnation=self._incarnation, number=self._number)
            for node in self._ring.circle:
                if (node.id, node.incarnation) in self._heard:
                    self.send(self.system.resolve(f"ringkeeper://{node.bridge_address}/failure-detector"), beat)
        if late:
            self._heard = dict.fromkeys(self._heard, now)
        else:
            self._judge(now)
        self.after(self._heartbeat_seconds, Beat())

    def _judge(self, now: float) -> None:
        for peer, heard in self._heard.items():
            if now - heard > self._suspect_seconds and peer not in self._suspected:
                self._suspected.add(peer)
                self._report(peer, now - heard)

    def _heartbeat(self, message: Heartbeat) -> None:
        peer = (message.node, message.incarnation)
        if peer in self._heard:
            self._heard[peer] = self.now()
            if peer in self._suspected:
                self._suspected.discard(peer)
                self._report(peer, None)

    def _report(self, peer: tuple[str, str], silent_seconds: float | None) -> None:
        if self._leader:
            node, incarnation = peer
            report = Suspected(node=node, incarnation=incarnation, by=self.id, silent_seconds=silent_seconds)
            self.send(self.system.resolve(self._leader), report)

    def check(self) -> None:
        assert self._suspected <= self._heard.keys()
