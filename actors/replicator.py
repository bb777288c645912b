"""Sends what this node writes to the successors of its slots, and knows how far each of them holds it.

Hears   Lead, BeginTenure, Follow, LearnersHold      from StorageNode, in the order of its batches
        AskTail                                      from Takeover of this node
        Appended, Refused                            from Replica of a successor
        Terminated                                   the link to a successor is lost
        BeatStreams, Relink                                 from itself
Tells   OpenStream, Append -> Replica of every other up member of its slots; PeerHolds, Backlog -> StorageNode;
        Tails -> Takeover; StreamSilent -> FailureDetector; LookForRing -> Member

There is one *stream* for each up incarnation with copies of slots that this node coordinates (R3). Its messages are
numbered without a gap, kept until they are acknowledged, and sent again after the link was lost, from the first that is
missing there; what comes twice is taken once. All batches of the node pass here, each stream carries what concerns its
receiver; so "everything up to a message" means "everything up to its batch".

    ring names it up --> OpenStream, Append 1, 2, 3... --> ring does not, or names another life: the stream is forgotten

What not every stream has acknowledged is kept in one log, the node's own tail (R5); ``held``, the batch up to which all
have everything, travels with the messages, and lets the copies forget theirs. A successor that is new to some slots
gets what the log holds of them: everything before that it has from its handoff (R9).

Every so often each stream is sent something, if only an empty message: its acknowledgement confirms this node's tenure
(R21), which is counted from the moment at which the message was sent first.

A *refusal* means that there is a newer ring: nothing more is sent there until it was read here. Then what is under way
is sent again without what this node no longer coordinates.

Bounds: streams that do not move are reported; when too much waits for one of them nothing more is stamped.

Invariants (``check``): numbers kept are without a gap; nobody holds what was not sent yet; the log ascends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from ..runtime.metrics import Metric, gauge
from ..runtime.system import Terminated
from .messages import (
    Append,
    Appended,
    AskTail,
    Backlog,
    BeginTenure,
    Follow,
    Lead,
    LearnersHold,
    LookForRing,
    OpenStream,
    Operation,
    PeerHolds,
    Refused,
    StreamSilent,
    Tails,
)
from .operations import parts_of, size_of
from .rules.ring import Node, Ring
from .rules.slots import SLOTS, runs

BEAT_SECONDS = 0.2
"""How often every stream is looked at, and sent something: a fifth of the lease (R21)."""

SILENT_SECONDS = 1.0
"""A successor that acknowledges nothing for so long is reported."""

RESEND_SECONDS = 1.0
"""So long without an acknowledgement, what waits for one is sent again."""

RESEND_SECONDS_MAX = 8.0
"""The pause between two tries is doubled up to this."""

RELINK_SECONDS = 0.1
"""So long after the link was lost it is tried again."""

KEPT_BYTES_MAX = 64 * 1024 * 1024
KEPT_MESSAGES_MAX = 50_000
"""When so much waits for one successor, nothing more is stamped until half of it is gone or the ring calls it down."""

APPEND_BYTES_MAX = 1024 * 1024
"""A longer batch is cut into several messages."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class BeatStreams:
    """Look whether something got stuck, and confirm; local. Replicator -> Replicator."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Relink:
    """A link was lost a moment ago; local. Replicator -> Replicator."""

    stream: int


@dataclass(slots=True, eq=False)
class Kept:
    """A message of a stream that is not acknowledged."""

    append: Append
    size: int
    sent_at: float
    """When it was sent first."""


@dataclass(slots=True, eq=False)
class Stream:
    """What goes to one incarnation of another node."""

    id: int
    node: str
    incarnation: str
    replica: Ref
    number: int = 0
    """Of the last message."""
    kept: deque[Kept] = field(default_factory=deque)
    kept_bytes: int = 0
    unsynced: deque[Kept] = field(default_factory=deque)
    """Acknowledged, and not on its disk yet; only where that counts."""
    batch: int = 0
    """Everything up to this batch is held there."""
    confirmed_at: float = 0.0
    moved_at: float = 0.0
    """When it acknowledged something new, or had nothing to acknowledge."""
    resent_from: int = -1
    refused_epoch: int = 0
    """It has refused in a ring of this epoch: nothing is sent before that ring is read here."""
    silent: bool = False
    probed_at: float = 0.0
    probes: int = 0
    """So often, one after the other, the first of what waits was sent again, and nothing was heard."""


class Replicator(Actor):
    """One node's streams. ``synced``: held means on the disk of the successor."""

    def __init__(
        self, *, id: str, incarnation: str, storage: Ref, detector: str, member: str, synced: bool = False
    ) -> None:
        """``detector`` and ``member`` are names of actors of this process."""
        super().__init__()
        self.id, self.incarnation = id, incarnation
        self._storage, self._detector, self._member = storage, detector, member
        self._only_synced = synced
        self._ring: Ring | None = None
        self._epoch = 0
        self._streams: dict[str, Stream] = {}
        """By the id of the node."""
        self._led: list[tuple[int, int]] = []  # the slots that this node coordinates
        self._to: list[tuple[Stream, ...] | None] = [None] * SLOTS
        """By slot: who gets its writes; None: another coordinates it."""
        self._batch = 0
        self._log: deque[tuple[int, list[Operation]]] = deque()
        """By batch, what not everybody holds."""
        self._aside: list[Operation] = []
        """The same, of slots that the node takes over again: its takeover asks for it."""
        self._learners: int | None = None
        self._full = False

    def on_start(self) -> None:
        self.after(BEAT_SECONDS, BeatStreams())

    def on_receive(
        self,
        message: Follow
        | Appended
        | Lead
        | BeginTenure
        | LearnersHold
        | AskTail
        | Refused
        | Terminated
        | BeatStreams
        | Relink,
    ) -> None:
        match message:
            case Follow():
                self._follow(message.batch, message.operations)
            case Appended():
                self._appended(message)
            case Lead():
                self._lead(message)
            case BeginTenure():
                self._begin_tenure(message)
            case LearnersHold():
                self._learners = message.batch
                self._forget_held()
            case AskTail():
                self._tell_tail(message)
            case Refused():
                self._refused(message)
            case Terminated():
                for stream in self._streams.values():
                    if stream.replica.address == message.ref.address:
                        self.after(RELINK_SECONDS, Relink(stream=stream.id))
            case BeatStreams():
                self._beat()
            case Relink():
                self._relink(message.stream)
            case _:
                assert_never(message)

    # The ring

    def _lead(self, message: Lead) -> None:
        """Send to whom the ring calls a successor; who is new to some slots gets what not everybody holds of them."""
        ring = self._ring = message.ring
        self._epoch, self._batch = ring.epoch, message.batch
        before, self._to = self._to, [None] * SLOTS
        led: list[tuple[int, int, list[Node]]] = []
        for run, members in ring.list_runs:
            others = [node for node in members if node.state == "up" and node.id != self.id]
            for first, last in message.runs:
                low, high = max(first, run.first), min(last, run.last)
                if low <= high:
                    led.append((low, high, others))
        wanted = {node.id: node for _, _, others in led for node in others}
        for id, stream in list(self._streams.items()):
            if id not in wanted or wanted[id].incarnation != stream.incarnation:
                self._close(stream)
        for id, node in sorted(wanted.items()):
            if id not in self._streams:
                self._open(node)
        for low, high, others in led:
            self._to[low : high + 1] = [tuple(self._streams[node.id] for node in others)] * (high + 1 - low)
        self._set_aside(message.taking)
        leads = bytearray(SLOTS)
        for low, high, _ in led:
            leads[low : high + 1] = b"\1" * (high + 1 - low)
        lost = any(0 in leads[low : high + 1] for low, high in self._led)
        self._led = [(low, high) for low, high, _ in led]
        for stream in self._streams.values():
            refused = 0 < stream.refused_epoch <= self._epoch
            if refused:
                stream.refused_epoch = 0
            if lost:
                self._take_back(stream)
            if lost or refused:  # what is under way will be refused, or has been
                self._send_again(stream)
            fresh = [each for each in self._unheld() if self._is_new(stream, each[0], before)]
            self._append(stream, message.batch, parts_of(fresh, APPEND_BYTES_MAX))
        self._forget_held()
        self._look_at_backlog()

    def _set_aside(self, taking: list[tuple[int, int]]) -> None:
        """Of what is logged, keep that of the slots that are led, and apart from it that of those being taken over."""
        taken = {slot for first, last in taking for slot in range(first, last + 1)}
        logged = list(self._log)
        self._aside = [each for each in self._aside if each[0] in taken]
        self._aside += [each for _, operations in logged for each in operations if each[0] in taken]
        led = [(batch, [each for each in operations if self._to[each[0]] is not None]) for batch, operations in logged]
        self._log = deque(each for each in led if each[1])

    def _is_new(self, stream: Stream, slot: int, before: list[tuple[Stream, ...] | None]) -> bool:
        """Whether a stream gets a slot now and did not before, though this node coordinated it already."""
        now, then = self._to[slot], before[slot]
        return now is not None and stream in now and then is not None and stream not in then

    def _open(self, node: Node) -> None:
        stream = Stream(
            id=self.random.getrandbits(63),
            node=node.id,
            incarnation=node.incarnation,
            replica=self.system.resolve(f"ringkeeper://{node.bridge_address}/replica"),
            batch=0,
            moved_at=self.now(),
        )
        self._streams[node.id] = stream
        self.system.death_watch(self.ref, stream.replica)
        self._send_open(stream)

    def _send_open(self, stream: Stream) -> None:
        opened = OpenStream(
            stream=stream.id, node=self.id, incarnation=self.incarnation, to=stream.incarnation, reply_to=self.ref
        )
        self.send(stream.replica, opened)

    def _close(self, stream: Stream) -> None:
        del self._streams[stream.node]
        self.system.death_unwatch(self.ref, stream.replica)
        if stream.silent:
            self._report(stream, 0.0)

    def _take_back(self, stream: Stream) -> None:
        """Take what is another's by now out of what is under way."""
        for kept in (*stream.kept, *stream.unsynced):
            operations = [each for each in kept.append.operations if self._to[each[0]] is not None]
            kept.append = replace(kept.append, operations=operations, begins=self._own_parts(kept.append.begins))
            kept.size = size_of(operations)
        stream.kept_bytes = sum(kept.size for kept in stream.kept)

    def _own_parts(self, begun: list[tuple[int, int]]) -> list[tuple[int, int]]:
        parts = []
        for first, last in begun:
            own = [self._to[slot] is not None for slot in range(first, last + 1)]
            parts += [(first + run.first, first + run.last) for run, yes in runs(own) if yes]
        return parts

    # Writing

    def _follow(self, batch: int, operations: list[Operation]) -> None:
        self._batch = batch
        to, streams = self._to, self._streams
        if not streams and self._learners is None:
            return
        self._log.append((batch, operations))
        shares: dict[int, tuple[Stream, list[tuple[list[Operation], int]]]] = {}
        first = to[operations[0][0]]
        for each in operations:
            if to[each[0]] is not first:
                apart: dict[int, tuple[Stream, list[Operation]]] = {}
                for each in operations:
                    for stream in to[each[0]] or ():
                        apart.setdefault(stream.id, (stream, []))[1].append(each)
                shares = {id: (stream, parts_of(own, APPEND_BYTES_MAX)) for id, (stream, own) in apart.items()}
                break
        else:  # all concerns the same successors
            parts = parts_of(operations, APPEND_BYTES_MAX)
            shares = {stream.id: (stream, parts) for stream in first or ()}
        for stream, parts in shares.values():
            self._append(stream, batch, parts)
        for stream in streams.values() if len(shares) < len(streams) else ():
            if stream.id not in shares and not stream.kept and not stream.unsynced:
                stream.batch = batch  # it does not concern this one
        if not shares:
            self._forget_held()

    def _append(
        self,
        stream: Stream,
        batch: int,
        parts: list[tuple[list[Operation], int]],
        begins: list[tuple[int, int]] | None = None,
    ) -> None:
        """Send the parts of a batch (``parts_of``), each as a message. A tenure begins with the last of them: a copy
        needs its older tails until it has all that replaces them."""
        for index, (part, size) in enumerate(parts):
            stream.number += 1
            last = index == len(parts) - 1
            append = Append(
                stream=stream.id,
                number=stream.number,
                epoch=self._epoch,
                batch=batch,
                held=self._held(),
                operations=part,
                begins=(begins or []) if last else [],
                sync=self._only_synced and bool(part or begins),
                more=not last,
            )
            now = self.now()
            if not stream.kept:
                stream.moved_at = now
            stream.kept.append(Kept(append, size, now))
            stream.kept_bytes += size
            if not stream.refused_epoch:
                self.send(stream.replica, append)
        if stream.kept_bytes > KEPT_BYTES_MAX or len(stream.kept) > KEPT_MESSAGES_MAX:
            self._look_at_backlog()

    def _begin_tenure(self, message: BeginTenure) -> None:
        self._batch = message.batch
        if message.operations:
            self._log.append((message.batch, message.operations))
        for stream in self._streams.values():
            runs = [run for run in message.runs if stream in (self._to[run[0]] or ())]
            if runs:
                share = [each for each in message.operations if stream in (self._to[each[0]] or ())]
                self._append(stream, message.batch, parts_of(share, APPEND_BYTES_MAX), runs)
        self._forget_held()

    # Acknowledgements

    def _appended(self, message: Appended) -> None:
        stream = next((each for each in self._streams.values() if each.id == message.stream), None)
        if stream is None:
            return
        if message.epoch > self._epoch:
            self._look_for_ring()
        confirmed, kept, batch = stream.confirmed_at, stream.kept, stream.batch
        while kept and kept[0].append.number <= message.number:
            gone = kept.popleft()
            stream.kept_bytes -= gone.size
            if message.epoch <= self._epoch:  # else it may know better by now
                confirmed = gone.sent_at
            stream.moved_at = self.now()
            if self._only_synced and gone.append.sync:
                stream.unsynced.append(gone)
            elif not stream.unsynced:
                batch = _completes(gone.append)
        while stream.unsynced and stream.unsynced[0].append.number <= message.synced:
            batch = _completes(stream.unsynced.popleft().append)
        if not kept and not stream.unsynced:
            batch = max(batch, self._batch)
        if stream.probes or (message.gap and stream.resent_from != message.number):
            stream.probes = 0
            stream.resent_from = message.number
            self._send_again(stream)
        if stream.silent:
            self._report(stream, 0.0)
        if self._full:
            self._look_at_backlog()
        self._holds(stream, batch, confirmed)

    def _holds(self, stream: Stream, batch: int, confirmed_at: float) -> None:
        if batch > stream.batch or confirmed_at > stream.confirmed_at:
            stream.batch, stream.confirmed_at = max(batch, stream.batch), confirmed_at
            self._forget_held()
            self.send(self._storage, PeerHolds(node=stream.node, batch=stream.batch, confirmed_at=confirmed_at))

    def _refused(self, message: Refused) -> None:
        for stream in self._streams.values():
            if stream.id == message.stream and message.epoch > self._epoch:
                stream.refused_epoch = message.epoch
                self._look_for_ring()

    def _look_for_ring(self) -> None:
        member = self.system.find(self._member)
        if member is not None:
            self.send(member, LookForRing())

    # Tails

    def _held(self) -> int:
        """The batch up to which every up member, and every required learner, has everything (R5)."""
        held = min((stream.batch for stream in self._streams.values()), default=self._batch)
        return held if self._learners is None else min(held, self._learners)

    def _forget_held(self) -> None:
        held, log = self._held(), self._log
        while log and log[0][0] <= held:
            log.popleft()

    def _unheld(self) -> list[Operation]:
        """The node's own tail, of the slots that it coordinates."""
        return [each for _, operations in self._log for each in operations]

    def _tell_tail(self, message: AskTail) -> None:
        """What was sent from here and may not be everywhere: this node takes over again what it has coordinated."""
        asked: set[int] = set()
        for first, last in message.runs:
            asked.update(range(first, last + 1))
        operations = [each for each in self._aside if each[0] in asked]
        operations += [each for _, operations in self._log for each in operations if each[0] in asked]
        tails = Tails(takeover=message.takeover, node=self.id, operations=operations, own=True)
        self.send(message.reply_to, tails)

    # Time

    def _beat(self) -> None:
        self.after(BEAT_SECONDS, BeatStreams())
        now = self.now()
        for stream in self._streams.values():
            if not stream.kept:
                self._append(stream, self._batch, [([], 0)])
                continue
            stuck = now - max(stream.moved_at, stream.kept[0].sent_at)
            if stuck > SILENT_SECONDS:  # told each time: a takeover takes back what it has said of the same node
                self._report(stream, stuck)
            pause = min(RESEND_SECONDS * 2**stream.probes, RESEND_SECONDS_MAX)
            if stuck > RESEND_SECONDS and now - stream.probed_at >= pause:
                self._probe(stream)

    def _relink(self, id: int) -> None:
        for stream in self._streams.values():
            if stream.id == id:
                self.system.death_watch(self.ref, stream.replica)
                self._probe(stream)

    def _probe(self, stream: Stream) -> None:
        """Send the first of what waits for an acknowledgement again; the answer tells from where on the rest is due."""
        if not stream.refused_epoch:
            stream.probed_at, stream.probes = self.now(), stream.probes + 1
            self._send_open(stream)
            for kept in (*islice(stream.unsynced, 1), *islice(stream.kept, 1)):
                self.send(stream.replica, kept.append)

    def _send_again(self, stream: Stream) -> None:
        if not stream.refused_epoch:
            for kept in (*stream.unsynced, *stream.kept):
                self.send(stream.replica, kept.append)

    def _report(self, stream: Stream, seconds: float) -> None:
        stream.silent = seconds > 0
        detector = self.system.find(self._detector)
        if detector is not None:
            silent = StreamSilent(node=stream.node, incarnation=stream.incarnation, seconds=seconds)
            self.send(detector, silent)

    def _look_at_backlog(self) -> None:
        factor = 0.5 if self._full else 1.0
        full = any(
            stream.kept_bytes > KEPT_BYTES_MAX * factor or len(stream.kept) > KEPT_MESSAGES_MAX * factor
            for stream in self._streams.values()
        )
        if full != self._full:
            self._full = full
            self.send(self._storage, Backlog(full=full))

    def inspect(self) -> dict[str, Any]:
        """What people want to know of it (``runtime/looking.py``)."""
        now = self.now()
        return {
            "id": self.id,
            "ring_epoch": self._epoch,
            "batch": self._batch,
            "batches_not_held": len(self._log),
            "full": self._full,
            "streams": [
                {
                    "to": stream.node,
                    "stream": stream.id,
                    "number": stream.number,
                    "held_batch": stream.batch,
                    "unacknowledged": len(stream.kept),
                    "unacknowledged_bytes": stream.kept_bytes,
                    "stands_still_seconds": now - stream.moved_at if stream.kept else 0.0,
                    "silent": stream.silent,
                    "refused_epoch": stream.refused_epoch,
                }
                for stream in self._streams.values()
            ],
        }

    def metrics(self) -> Iterator[Metric]:
        now = self.now()
        for stream in self._streams.values():
            to = {"successor": stream.node}
            lag = now - stream.kept[0].sent_at if stream.kept else 0.0
            yield gauge("replication_lag_seconds", "Age of what a successor has not acknowledged.", lag, **to)
            yield gauge("replication_lag_batches", "Batches that it may not hold.", self._batch - stream.batch, **to)
            yield gauge("replication_waiting_messages", "What it has not acknowledged.", len(stream.kept), **to)
            yield gauge("replication_waiting_bytes", "What it has not acknowledged.", stream.kept_bytes, **to)
        yield gauge("replication_full", "Whether so much waits that nothing is stamped.", self._full)

    def check(self) -> None:
        for stream in self._streams.values():
            numbers = [kept.append.number for kept in stream.kept]
            assert numbers == list(range(stream.number - len(numbers) + 1, stream.number + 1)), numbers
            assert stream.kept_bytes == sum(kept.size for kept in stream.kept)
            assert stream.batch <= self._batch
        batches = [batch for batch, _ in self._log]
        assert batches == sorted(batches)
        assert not batches or batches[0] > self._held()


def _completes(append: Append) -> int:
    """The batch up to which somebody has everything who has everything up to this message."""
    return append.batch - 1 if append.more else append.batch
