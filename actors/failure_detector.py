"""Hears the other nodes' heartbeats, and says which of their processes have fallen silent or ended.

Hears   RingChanged                     from Member: whom to listen to, and to be heard by
        LeaderChanged                   from Election: whom to report to
        Heartbeat                       from FailureDetector of every other node
        LinkUp, LinkLost, PeerEnded     from the bridge
        StreamSilent                    from Replicator, Takeover
        Beat                            from itself, every ``heartbeat_seconds``
Tells   Heartbeat -> FailureDetector of every other node; Suspected, PeersHeard -> the leading Ecs;
        PeerGone -> StorageNode; LookForRing -> Member

It reports and decides nothing, since one observer may be wrong: who is down is for the ECS to say, by
``rules/suspicion.py``.
An opinion is of one incarnation and has one of these grounds, the first that holds:

    refused  its process has ended: the link was lost and the dial after it found that nobody listens, or a later life
             of the same node is there. Found some 50 ms after a kill -9: a heartbeat goes out as soon as a link is
             lost, so that the bridge dials. This is certain, and told to StorageNode as well
    stream   it does not acknowledge what it is sent, says the Replicator
    silent   its heartbeats have stopped: phi (``rules/phi.py``) is above PHI_SUSPECT, or it was not heard for
             SILENT_SECONDS_MAX. Finds who is paused, or hangs, or is cut off

What is told once may be lost, or be told to a leader that is none any more, so it is told again every second.

The detector knows its own delays. If its own beat comes late, its process was slow or paused, and everybody's
heartbeats may be waiting unread: this time does not count as silence, and nobody is judged in this round. It is silent
itself while its loop hangs, which is how the others find that.

Heartbeats name the ring that the sender has read; if that is newer than the ring here, a watch was lost or is late, and
Member looks for itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.bridge import LinkLost, LinkUp, PeerEnded
from ..runtime.election import LeaderChanged
from ..runtime.message import message
from ..runtime.metrics import Metric, gauge
from .messages import Heartbeat, LookForRing, PeerGone, PeersHeard, RingChanged, StreamSilent, Suspected
from .rules.phi import Rhythm
from .rules.ring import Node, Ring
from .rules.suspicion import Life, Why

HEARTBEAT_SECONDS = 0.2
"""With the two below, who falls silent out of a steady rhythm is suspected after 0.9 s, at the next beat."""

DEVIATION_SECONDS_MIN = 0.125
"""However regularly somebody was heard, pauses are taken to vary by so much."""

PHI_SUSPECT = 8.0

SILENT_SECONDS_MAX = 2.0
"""However irregularly somebody was heard, after so long a silence he is suspected."""

FIRST_SECONDS = 2.0
"""So much later than others does a life begin to be silent that the ring has just named: it may read that later."""

LATE_BEATS = 0.5
"""A beat that comes later than by this part of the pause between beats is late."""

HEARD_SECONDS = 0.5
"""Who was heard so lately has not ended and begun its next life: that takes longer."""

REPORT_BEATS = 5
"""Every so many beats everything is reported again."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Time for a heartbeat; local. FailureDetector -> FailureDetector."""


@dataclass(slots=True, kw_only=True)
class Opinion:
    """What is known of one life of another node."""

    rhythm: Rhythm
    heard: float
    """When it was heard last, on a clock that stands still while this process does."""
    beats: int = 0
    epoch: int = 0
    """Of the ring that its last heartbeat named."""
    ended: bool = False
    stream_seconds: float = 0.0
    silent: bool = False
    told: tuple[Why, bool] = ("", False)

    @property
    def why(self) -> Why:
        if self.ended:
            return "refused"
        if self.stream_seconds:
            return "stream"
        return "silent" if self.silent else ""


class FailureDetector(Actor):
    """One node's opinion of the others."""

    def __init__(
        self,
        *,
        id: str,
        incarnation: str,
        storage: Ref,
        member: str = "member",
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        """``member`` is the name of an actor of this process."""
        super().__init__()
        self.id, self._incarnation, self._storage, self._member = id, incarnation, storage, member
        self._heartbeat_seconds = heartbeat_seconds
        self._ring: Ring | None = None
        self._leader = ""
        self._number = 0
        self._opinions: dict[Life, Opinion] = {}
        """Of each other node that is up or returning, in the life that the ring names."""
        self._ended: set[Life] = set()
        """Lives of the ring, or later ones, that are known to have ended."""
        self._last_beat: float | None = None
        self._epoch_heard = 0

    def on_start(self) -> None:
        self.after(self._heartbeat_seconds, Beat())

    def on_receive(
        self, message: Heartbeat | Beat | StreamSilent | LinkUp | LinkLost | PeerEnded | RingChanged | LeaderChanged
    ) -> None:
        match message:
            case Heartbeat():
                self._heartbeat(message)
            case Beat():
                self._beat()
            case StreamSilent():
                self._stream_silent(message)
            case LinkUp():
                self._link_up(message)
            case LinkLost():
                self._link_lost(message)
            case PeerEnded():
                self._has_ended((message.node, message.incarnation))
            case RingChanged():
                self._ring_changed(message.ring)
            case LeaderChanged():
                self._leader = (message.data or b"").decode()
                self._report_all()
            case _:
                assert_never(message)

    # Whom to listen to

    def _ring_changed(self, ring: Ring) -> None:
        before, self._ring = self._ring, ring
        me = ring.by_id.get(self.id)
        listens = me is not None and me.incarnation == self._incarnation and _takes_part(me)
        peers = [node for node in ring.circle if node.id != self.id and listens and _takes_part(node)]
        lives = [(node.id, node.incarnation) for node in peers]
        self._opinions = {life: self._opinions.get(life) or self._first_opinion(life) for life in lives}
        for node in before.circle if before is not None else ():
            if node.id in ring.by_id and ring.by_id[node.id].incarnation > node.incarnation:
                self._has_ended((node.id, node.incarnation))  # another has taken its place
        self._ended = {
            (id, life) for id, life in self._ended if id in ring.by_id and life >= ring.by_id[id].incarnation
        }
        for life in lives:
            self._report_if_new(life)

    def _first_opinion(self, life: Life) -> Opinion:
        rhythm = Rhythm(pause_seconds=self._heartbeat_seconds, deviation_seconds_min=DEVIATION_SECONDS_MIN)
        return Opinion(rhythm=rhythm, heard=self.now() + FIRST_SECONDS, ended=life in self._ended)

    # Heartbeats

    def _beat(self) -> None:
        now, pause = self.now(), self._heartbeat_seconds
        late = now - self._last_beat - pause if self._last_beat is not None else 0.0
        self._last_beat = now
        self._number += 1
        if self._ring is not None:
            for life in self._opinions:
                self._send_heartbeat(life)
        if late > LATE_BEATS * pause:
            for opinion in self._opinions.values():
                opinion.heard = max(opinion.heard, min(opinion.heard + late, now))
        else:
            self._judge(now)
        if self._number % REPORT_BEATS == 0:
            self._report_all()
            member = self.system.find(self._member)
            if member is not None and self._ring is not None and self._epoch_heard > self._ring.epoch:
                self.send(member, LookForRing())
        self.after(pause, Beat())

    def _send_heartbeat(self, life: Life) -> None:
        assert self._ring is not None
        address = self._ring.by_id[life[0]].bridge_address
        beat = Heartbeat(node=self.id, incarnation=self._incarnation, number=self._number, epoch=self._ring.epoch)
        self.send(self.system.resolve(f"ringkeeper://{address}/failure-detector"), beat)

    def _judge(self, now: float) -> None:
        for life, opinion in self._opinions.items():
            silent_seconds = now - opinion.heard
            if silent_seconds > SILENT_SECONDS_MAX or opinion.rhythm.phi(silent_seconds) > PHI_SUSPECT:
                opinion.silent = True
                self._report_if_new(life)

    def _heartbeat(self, message: Heartbeat) -> None:
        self._epoch_heard = max(self._epoch_heard, message.epoch)
        life = (message.node, message.incarnation)
        opinion = self._opinions.get(life)
        if opinion is None:
            return
        if opinion.beats:  # else it is not known since when it beats
            opinion.rhythm.heard(min(self.now() - opinion.heard, SILENT_SECONDS_MAX))
        opinion.beats += 1
        opinion.epoch = message.epoch
        opinion.heard = self.now()
        opinion.ended = opinion.silent = False
        self._ended.discard(life)
        self._report_if_new(life)

    # Links and streams

    def _link_up(self, message: LinkUp) -> None:
        node = self._ring.by_id.get(message.node) if self._ring is not None else None
        if node is None or message.incarnation <= node.incarnation:
            return
        life = (node.id, node.incarnation)
        opinion = self._opinions.get(life)
        if opinion is None or not opinion.beats or self.now() - opinion.heard > HEARD_SECONDS:
            self._has_ended(life)  # else a process on another data directory goes by its name

    def _link_lost(self, message: LinkLost) -> None:
        life = (message.node, message.incarnation)
        if life in self._opinions:
            self._send_heartbeat(life)

    def _has_ended(self, life: Life) -> None:
        if self._ring is None or life[0] not in self._ring.by_id or life in self._ended:
            return
        self._ended.add(life)
        self.send(self._storage, PeerGone(node=life[0], incarnation=life[1]))
        opinion = self._opinions.get(life)
        if opinion is not None:
            opinion.ended = True
            self._report_if_new(life)

    def _stream_silent(self, message: StreamSilent) -> None:
        opinion = self._opinions.get((message.node, message.incarnation))
        if opinion is not None:
            opinion.stream_seconds = message.seconds
            self._report_if_new((message.node, message.incarnation))

    # Reporting

    def _report_if_new(self, life: Life) -> None:
        opinion = self._opinions[life]
        if self._says(opinion) != opinion.told:
            opinion.told = self._says(opinion)
            self._report(life)

    def _report_all(self) -> None:
        for life, opinion in self._opinions.items():
            opinion.told = self._says(opinion)
            if opinion.why:
                self._report(life)
        if self._leader and self._opinions:
            now = self.now()
            phi = [(id, round(each.rhythm.phi(now - each.heard), 1)) for (id, _), each in self._opinions.items()]
            heard = PeersHeard(by=self.id, by_incarnation=self._incarnation, phi=phi)
            self.send(self.system.resolve(self._leader), heard)

    def _says(self, opinion: Opinion) -> tuple[Why, bool]:
        """The ground, and whether it is heard to go by an older ring."""
        epoch = self._ring.epoch if self._ring is not None else 0
        return opinion.why, opinion.why == "stream" and not opinion.silent and opinion.epoch < epoch

    def _report(self, life: Life) -> None:
        if self._leader:
            opinion = self._opinions[life]
            quiet = opinion.stream_seconds if opinion.why == "stream" else max(self.now() - opinion.heard, 0.0)
            report = Suspected(
                node=life[0],
                incarnation=life[1],
                by=self.id,
                by_incarnation=self._incarnation,
                why=opinion.why,
                seconds=quiet if opinion.why else 0.0,
                behind=self._says(opinion)[1],
            )
            self.send(self.system.resolve(self._leader), report)

    def inspect(self) -> dict[str, Any]:
        """What people want to know of it (``runtime/looking.py``)."""
        return {
            "id": self.id,
            "ring_epoch": self._ring.epoch if self._ring is not None else 0,
            "leader": self._leader,
            "opinions": {f"{id} {incarnation}": opinion for (id, incarnation), opinion in self._opinions.items()},
            "ended": [f"{id} {incarnation}" for id, incarnation in sorted(self._ended)],
        }

    def metrics(self) -> Iterator[Metric]:
        now = self.now()
        for (id, _), opinion in self._opinions.items():
            silent = max(0.0, now - opinion.heard)
            yield gauge("peer_silent_seconds", "Since a node was heard last.", silent, peer=id)
            yield gauge("peer_suspected", "Whether it is suspected.", bool(opinion.why), peer=id)

    def check(self) -> None:
        assert {life for life, opinion in self._opinions.items() if opinion.ended} <= self._ended
        assert all(self._says(opinion) == opinion.told for opinion in self._opinions.values())


def _takes_part(node: Node) -> bool:
    return node.state in ("up", "returning")
