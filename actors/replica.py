"""Holds what other nodes coordinate: takes in what they send, and forgets what is no longer its business.

Hears   RingChanged                                        from Member
        OpenStream, Append                                 from Replicator of a coordinator
        AskTail                                            from Takeover of a new one
        Settle                                             from StorageNode of this node
        Learn, Survey, ListKeys, Chunk, Replicate          from a Handoff of the slots' coordinator
        Synced                                             from Syncer
        MayDrop, DropAllowed, SummedUp                     from Replica of another node
        SumUp                                              from Scrubber of a coordinator
        SyncSoon, LookForForeign                           from itself
Tells   Appended, Refused -> Replicator; Tails -> Takeover;
        Learning, Disowned, Surveyed, KeysListed, Replicated -> Handoff; Sync -> Syncer;
        MayDrop, DropAllowed, SumUp -> Replica; SummedUp -> Scrubber, Replica;
        LookForRing, SyncFailed, NoLongerWhole, HoldsNothingForeign -> Member

*As a successor* it takes in the streams of coordinators. What is admitted is decided by the newest ring that was read
here, and by the sender's incarnation in it (R3): the operation of a slot that the sender coordinates is applied if this
node has a copy of the slot, else passed over; one of a slot that the sender does not coordinate is *refused*, and all
that follows it (fencing). What comes from a newer ring waits until that ring has been read here (R20). Operations are
applied if they are above the slot's number, and skipped if not (R4).

What a stream has brought and not everybody holds (its ``held`` says so) is kept in memory: the *tail* (R5). Whoever
takes over asks for it (R18). Admitting, applying and answering are steps of this one actor: an answer holds everything
that was admitted before it, and nothing of a deposed coordinator is admitted after it, since the ring that deposes it
was read before (R19).

*As a learner* it is made equal by walks.

A *walk* is one attempt of one handoff. It is admitted only if the newest ring that this node has read has that very
change in flight, makes this incarnation the target of these slots, and names the sender's incarnation as their
coordinator (R3); it ends with the first ring in which that is not so, and what comes of it later is disowned. So a
coordinator of the past cannot write here.

    admitted (Learning) -- ring without its change --> over

The messages of a walk are numbered without a gap and are taken once each, in order; each is one batch of the store, and
acknowledged after it. Acknowledged is "everything up to this number".

*Foreign* slots are those in which the newest ring gives this node no part: what a commit has moved away, or an aborted
change moved here in vain. They are dropped some time later, so that a change that is tried again costs the difference,
and only if their coordinator says that every member of their lists is up. Dropping and becoming a learner are steps of
this one actor, so they cannot cross. Who was given up keeps all of it until it is a member again.

*Doubtful* slots are those that held something when this life began and in which it has not been made equal since: where
the node may have answered alone, or was left behind, they may hold what nobody else has (R17). What a walk takes from
them is salvaged, and before they are dropped their coordinator is asked what it has of them.

Who is written down as complete and registered as *whole* becomes keeper at once (R16) if whoever mirrors it dies half
way, also where another one lacks nothing. So where the mirror may lack something, nothing that may matter is taken in a
life that is registered as whole: that ends first, and the next one says that it is not (`NoLongerWhole`). To change the
registration of the life was rejected: who has read it does not read it again.

Invariants (``check``): no walk is over slots that this node coordinates; every walk belongs to the change in flight.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from ..runtime.metrics import Metric, gauge
from ..runtime.store import Record, Store, StoreError
from .damage import tell_damage, tell_sync_failed
from .messages import (
    Append,
    Appended,
    AskTail,
    Chunk,
    Disowned,
    DropAllowed,
    HoldsNothingForeign,
    KeysListed,
    Learn,
    Learning,
    ListKeys,
    LookForRing,
    MayDrop,
    NoLongerWhole,
    OpenStream,
    Operation,
    Position,
    Refused,
    Replicate,
    Replicated,
    RingChanged,
    Settle,
    SummedUp,
    SumUp,
    Survey,
    Surveyed,
    Sync,
    Synced,
    Tails,
)
from .operations import parts_of, stage
from .rules.fields import RingError
from .rules.mirror import CONTENT_BYTES_MAX, digest_of, listed, part_of, sums_of
from .rules.plan import Plan, Transfer
from .rules.ring import Ring
from .rules.scrub import summed
from .rules.slots import SLOTS, Run, runs
from .rules.transitions import planned
from .salvage import Salvage, Taken, is_salvaged
from .tenures import LEASE_OVER_SECONDS

log = logging.getLogger(__name__)

FOREIGN_SECONDS = 10.0
"""So long after a ring made them foreign slots are kept: a change that is tried again may want them."""

LOOK_AGAIN_SECONDS = 5.0
"""So long after their coordinator has not allowed to drop them it is asked again."""

DISOWNED_KEPT_MAX = 64

DROP_SLOTS_MAX = 64
"""Slots dropped in one turn; each may cost a look at a 256th of the cache."""

LISTED_KEYS_MAX = 4096
"""Keys named in answer to one ListKeys; more than a survey sums up."""

WAITING_MAX = 10_000
"""Messages of one stream, or questions, that wait for a ring to be read (R20)."""

COMPARISONS_MAX = 16
"""Questions of scrubbers that wait until this node has come to what they have (R25)."""

TAIL_BYTES_MAX = 1024 * 1024
"""A longer tail is told in parts."""

REFUSE, SKIP, APPLY = 0, 1, 2

SYNC_SECONDS = 1.0
"""How often what was taken in is synced, unless each message asks for it."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LookForForeign:
    """Slots that nobody here needs may be dropped by now; local. Replica -> Replica."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLearned:
    """A second has passed since something was taken in; local. Replica -> Replica."""


@dataclass(slots=True)
class Walk:
    """What is known of one attempt to make this node equal."""

    id: int
    change: int
    slots: Run
    source: tuple[str, str]
    """Id and incarnation of the node that makes it equal."""
    handoff: Ref
    number: int = 0
    """Everything up to it is applied."""
    synced: int = 0
    tail: list[Operation] = field(default_factory=list)
    """What was stamped since the seal: if its change is committed, not everybody may hold it."""


@dataclass(slots=True)
class Parting:
    """Doubtful slots that may be dropped once it is known what of them their coordinator has."""

    question: int
    slots: Run
    allowed: DropAllowed
    after: Position
    """So far it is known."""
    upto: Position
    """So far it was asked for."""


@dataclass(slots=True, eq=False)
class Inbound:
    """A coordinator's stream, and what of it not everybody holds."""

    id: int
    node: str
    incarnation: str
    replicator: Ref
    number: int = 0
    """Everything up to it is applied."""
    synced: int = 0
    confirmed_at: float | None = None
    """When the sender's tenure was confirmed to it last (R21)."""
    open: bool = True
    """It may bring more; else only its tail is of use."""
    tail: deque[tuple[int, list[Operation]]] = field(default_factory=deque)
    """By the sender's batches."""
    waiting: deque[Append] = field(default_factory=deque)
    """What comes from a ring that was not read here yet."""


class Replica(Actor):
    """One node's copies of what others coordinate. ``keeps_synced``: false where nothing is ever synced."""

    def __init__(
        self,
        *,
        id: str,
        incarnation: str,
        store: Store,
        syncer: Ref,
        foreign_seconds: float = FOREIGN_SECONDS,
        salvage: Salvage | None = None,
        whole: bool = True,
        keeps_synced: bool = True,
        member: str = "member",
    ) -> None:
        """``whole``: this life is registered as lacking nothing (R16); ``member`` is the name of this process' Member,
        which is spawned later."""
        super().__init__()
        self.id, self.incarnation, self._member = id, incarnation, member
        self._store, self._syncer, self._salvage = store, syncer, salvage
        self._foreign_seconds, self._keeps_synced = foreign_seconds, keeps_synced
        self._whole = whole
        self._ring: Ring | None = None
        self._plan: Plan | None = None
        self._walks: dict[int, Walk] = {}
        self._disowned: dict[int, tuple[Ref, Disowned]] = {}
        """Walks of the change in flight that could not go on: their handoffs may not have heard of it."""
        self._streams: dict[int, Inbound] = {}
        self._admits: dict[tuple[str, str], tuple[bytearray, bool]] = {}
        """By sender, what becomes of its operations, slot by slot, in the newest ring: REFUSE, SKIP or APPLY; and
        whether it coordinates anything at all."""
        self._learned: list[tuple[int, tuple[str, str], Operation]] = []
        """What was stamped while this node still learned, by the epoch of the commit that made it a member: it is part
        of the tail until the coordinator's stream has begun, which brings it all once more (R18)."""
        self._questions: list[AskTail] = []
        """From rings that were not read here yet."""
        self._comparisons: list[SumUp] = []
        """Of what this node has not got yet."""
        self._syncing: list[tuple[Walk | Inbound, int]] | None = None
        """Who is told of the sync that is under way, and what it covers; None: none is."""
        self._sync_wanted = False
        """Another one is to follow: what came meanwhile is covered by it, however much that is."""
        self._dirty = False
        self._look_comes = False
        self._doubtful = store.used() if salvage is not None else bytearray(SLOTS)
        self._salvages = salvage is not None and salvage.answered_alone
        """What goes from doubtful slots is written down first."""
        self._parting: Parting | None = None
        self._partings = 0
        self._trouble = ""
        """Why nothing is taken in any more: a sync failed, and nobody knows what of it is on disk."""

    def on_receive(
        self,
        message: Append
        | RingChanged
        | OpenStream
        | AskTail
        | Settle
        | Learn
        | Survey
        | ListKeys
        | Chunk
        | Replicate
        | Synced
        | SyncLearned
        | MayDrop
        | DropAllowed
        | SumUp
        | SummedUp
        | LookForForeign,
    ) -> None:
        match message:
            case Append():
                self._stream(message)
            case RingChanged():
                self._ring_changed(message.ring)
            case OpenStream():
                self._open(message)
            case AskTail():
                self._tell_tail(message)
            case Settle():
                if self._ring is not None and self._ring.epoch == message.epoch:  # else they may be another's by now
                    for first, last in message.runs:
                        self._settle(first, last)
            case Learn():
                self._learn(message)
            case Survey():
                self._survey(message)
            case ListKeys():
                self._list_keys(message)
            case Chunk() | Replicate():
                self._take(message)
            case Synced():
                self._sync_done(message)
            case SyncLearned():
                self._dirty = False
                self._sync()
            case MayDrop():
                self._may_drop(message)
            case DropAllowed():
                self._drop(message)
            case SumUp():
                self._sum_up(message)
            case SummedUp():
                self._part(message)
            case LookForForeign():
                self._look_comes = False
                self._look_for_foreign()
            case _:
                assert_never(message)

    # The ring

    def _ring_changed(self, ring: Ring) -> None:
        if self._ring is not None and ring.epoch <= self._ring.epoch:
            return
        change = ring.change.epoch if ring.change is not None else None
        if self._ring is None or self._ring.change is None or self._ring.change.epoch != change:
            self._plan = None
            self._disowned.clear()
        self._ring, self._parting = ring, None
        self._settle_doubts(ring)
        for walk in self._walks.values():
            if walk.change != change:
                members = {slot for slot in {each[0] for each in walk.tail} if self._is_member(ring, slot)}
                self._learned += [(ring.epoch, walk.source, each) for each in walk.tail if each[0] in members]
        self._walks = {id: walk for id, walk in self._walks.items() if walk.change == change}
        for walk in self._walks.values():
            self._acknowledge(walk)  # whoever waits for this ring to be read here is told
        self._admits.clear()
        for stream in list(self._streams.values()):
            node = ring.by_id.get(stream.node)
            if node is None or node.incarnation != stream.incarnation or node.state in ("down", "out"):
                stream.open = False
                stream.waiting.clear()
            self._forget_if_done(stream)
            while stream.waiting and stream.waiting[0].epoch <= ring.epoch:
                self._admit(stream, stream.waiting.popleft())
        questions, self._questions = self._questions, []
        for question in questions:
            self._tell_tail(question)
        self._look_at_comparisons()
        self._look_soon(self._foreign_seconds)

    def _is_member(self, ring: Ring, slot: int) -> bool:
        return any(node.id == self.id and node.incarnation == self.incarnation for node in ring.lists[slot])

    def _may_keep(self, ring: Ring, slot: int) -> bool:
        """Whether this node is mirrored from one that may lack something, and could be named keeper after it, since it
        is written down as complete (R14)."""
        me, trouble = ring.by_id.get(self.id), ring.trouble_at(slot)
        directory = (self.id, me.data_id) if me is not None else None
        return trouble is not None and directory in ring.left_behind and directory in trouble.complete

    def _settle_doubts(self, ring: Ring) -> None:
        """Where the ring calls this life up it holds what the others hold, and they what it holds."""
        if self._salvage is not None and is_salvaged(ring, self.id):
            self._salvages = True
        me = ring.by_id.get(self.id)
        if me is not None and me.incarnation == self.incarnation and me.state == "up":
            for run, members in ring.list_runs:
                if me in members:
                    self._doubtful[run.first : run.last + 1] = bytes(run.size)

    def _look_for_ring(self) -> None:
        member = self.system.find(self._member)
        if member is not None:
            self.send(member, LookForRing())

    # Streams

    def _open(self, message: OpenStream) -> None:
        if message.to != self.incarnation or message.stream in self._streams:
            return
        for other in list(self._streams.values()):
            if (other.node, other.incarnation) == (message.node, message.incarnation):
                other.open = False  # the sender has begun anew
                self._forget_if_done(other)
        self._streams[message.stream] = Inbound(message.stream, message.node, message.incarnation, message.reply_to)

    def _forget_if_done(self, stream: Inbound) -> None:
        """Forget a stream that brings nothing more, once its tail is settled and no lease rests on it any more."""
        confirmed = stream.confirmed_at is not None and self.now() < stream.confirmed_at + LEASE_OVER_SECONDS
        if not stream.open and not stream.tail and not confirmed:
            self._streams.pop(stream.id, None)

    def _stream(self, message: Append) -> None:
        """Take the next message of a stream in, now or when its ring has been read."""
        stream = self._streams.get(message.stream)
        if stream is None or not stream.open or self._trouble:
            return  # the sender opens it again after a while, if the ring still wants that
        epoch = self._ring.epoch if self._ring is not None else 0
        if message.epoch > epoch or stream.waiting:
            if len(stream.waiting) < WAITING_MAX:  # else it is sent again
                stream.waiting.append(message)
            self._look_for_ring()
            return
        self._admit(stream, message)

    def _admit(self, stream: Inbound, message: Append) -> None:
        if message.number != stream.number + 1:
            self._tell_appended(stream, gap=message.number > stream.number)
            return
        admits, coordinates = self._admitted(stream)
        operations = message.operations
        marks = {admits[each[0]] for each in operations}
        refused = not coordinates or REFUSE in marks
        if refused or any(REFUSE in admits[first : last + 1] for first, last in message.begins):
            assert self._ring is not None
            self.send(stream.replicator, Refused(stream=stream.id, epoch=self._ring.epoch))
            return
        if SKIP in marks:
            operations = [each for each in operations if admits[each[0]] == APPLY]
        if operations:
            try:
                self._apply_newer(operations)
                self._store.commit()
            except StoreError as failure:
                self._store.roll_back()
                log.error("%s takes nothing more in from %s: %s", self.id, stream.node, failure)
                tell_damage(self, failure)
                return  # it is not acknowledged, and sent again
            stream.tail.append((message.batch, operations))
            if self._comparisons:
                self._look_at_comparisons()
        for first, last in message.begins:
            self._settle(first, last, keeps=stream)
        if self._learned and not message.more:
            sender = stream.node, stream.incarnation  # another coordinator has to ask for it first, and settles it
            self._learned = [
                (epoch, source, each)
                for epoch, source, each in self._learned
                if source != sender or message.epoch < epoch or admits[each[0]] != APPLY
            ]
        stream.number = message.number
        while stream.tail and stream.tail[0][0] <= message.held:
            stream.tail.popleft()
        if message.sync:
            self._sync()
        elif operations and self._keeps_synced and not self._dirty:
            self._dirty = True
            self.after(SYNC_SECONDS, SyncLearned())
        self._tell_appended(stream)

    def _apply_newer(self, operations: list[Operation]) -> None:
        self._store.follow(operations)

    def _tell_appended(self, stream: Inbound, gap: bool = False, answers: bool = True) -> None:
        assert self._ring is not None
        if answers and self._admitted(stream)[1]:
            stream.confirmed_at = self.now()
        appended = Appended(
            stream=stream.id, number=stream.number, synced=stream.synced, epoch=self._ring.epoch, gap=gap
        )
        self.send(stream.replicator, appended)

    def _admitted(self, stream: Inbound) -> tuple[bytearray, bool]:
        """What becomes of a sender's operations, by slot; whether it coordinates any."""
        sender = stream.node, stream.incarnation
        found = self._admits.get(sender)
        if found is None:
            admits = bytearray(SLOTS)
            ring = self._ring
            node = ring.by_id.get(stream.node) if ring is not None else None
            if ring is not None and node is not None and node.incarnation == stream.incarnation:
                for run in ring.coordinated_by(stream.node):
                    admits[run.first : run.last + 1] = bytes([SKIP]) * run.size
                for run, members in ring.list_runs:
                    if any(each.id == self.id and each.incarnation == self.incarnation for each in members):
                        span = slice(run.first, run.last + 1)
                        admits[span] = admits[span].replace(bytes([SKIP]), bytes([APPLY]))
            found = self._admits[sender] = admits, any(admits)
        return found

    def _settle(self, first: int, last: int, keeps: Inbound | None = None) -> None:
        """The tails of these slots are of no use any more: their new coordinator has what of them is to be. What its
        own stream has brought of that stays a tail, since others may not have got it."""
        self._learned = [each for each in self._learned if not first <= each[2][0] <= last]
        for stream in list(self._streams.values()):
            if stream is not keeps and any(
                first <= each[0] <= last for _, operations in stream.tail for each in operations
            ):
                left = [
                    (batch, [each for each in operations if not first <= each[0] <= last])
                    for batch, operations in stream.tail
                ]
                stream.tail = deque(each for each in left if each[1])
                self._forget_if_done(stream)

    def _tell_tail(self, question: AskTail) -> None:
        """Everything of these slots that was admitted and that not everybody may hold, of whatever coordinators."""
        epoch = self._ring.epoch if self._ring is not None else 0
        if question.epoch > epoch:
            if len(self._questions) < WAITING_MAX:
                self._questions.append(question)
            self._look_for_ring()
            return
        if question.epoch < epoch:
            return  # whoever asks will read a newer ring, and ask again if it still has to
        asked = bytearray(SLOTS)
        for first, last in question.runs:
            asked[first : last + 1] = b"\1" * (last + 1 - first)
        operations = [
            each
            for stream in self._streams.values()
            for _, operations in stream.tail
            for each in operations
            if asked[each[0]]
        ]
        operations += [each for _, _, each in self._learned if asked[each[0]]]
        now = self.now()
        numbers = [each for first, last in question.runs for each in self._store.numbers(first, last + 1)]
        confirmed = [
            (stream.node, stream.incarnation, now - stream.confirmed_at)
            for stream in self._streams.values()
            if stream.confirmed_at is not None
        ]
        parts = parts_of(operations, TAIL_BYTES_MAX)
        for place, (part, _) in enumerate(parts):
            tails = Tails(
                takeover=question.takeover,
                node=self.id,
                operations=part,
                numbers=numbers if place == 0 else [],
                part=place,
                more=place < len(parts) - 1,
                confirmed=confirmed if place == 0 else [],
            )
            self.send(question.reply_to, tails)

    # Walks

    def _learn(self, message: Learn) -> None:
        if objection := self._objection(message):
            epoch = self._ring.epoch if self._ring is not None else 0
            self.send(message.reply_to, Disowned(walk=message.walk, epoch=epoch, why=objection))
            return
        slots = Run(message.first, message.last)
        if message.walk not in self._walks:  # else the answer was lost
            self._walks = {id: walk for id, walk in self._walks.items() if walk.slots != slots}
            self._settle(slots.first, slots.last)
            self._walks[message.walk] = Walk(
                message.walk,
                message.change,
                slots,
                (message.node, message.incarnation),
                message.reply_to,
            )
        keys, _ = self._store.held_in(slots.first, slots.last + 1)
        self.send(message.reply_to, Learning(walk=message.walk, keys=keys))

    def _objection(self, message: Learn) -> str:
        """Why this node is not to be made equal by that sender; "": it is."""
        ring = self._ring
        if self._trouble:
            return self._trouble
        if ring is None or ring.epoch < message.epoch:
            return f"{self.id} has not read ring {message.epoch} yet"
        if ring.change is None or ring.change.epoch != message.change:
            return f"change {message.change} is not in flight in ring {ring.epoch}"
        source = ring.by_id.get(message.node)
        if source is None or source.incarnation != message.incarnation:
            return f"{message.node} is not {message.incarnation} in ring {ring.epoch}"
        me = next((node for node in (*ring.change.comes, *ring.circle) if node.id == self.id), None)
        if me is None or me.incarnation != self.incarnation:
            return f"ring {ring.epoch} does not mean this life of {self.id}"
        if Transfer(Run(message.first, message.last), message.node, self.id) not in self._planned(ring).transfers:
            return f"slots {message.first}-{message.last} are not to come here from {message.node}"
        return ""

    def _planned(self, ring: Ring) -> Plan:
        if self._plan is None:
            self._plan = planned(ring)
        return self._plan

    def _walk_of(self, message: Survey | ListKeys | Chunk | Replicate) -> Walk | None:
        walk = self._walks.get(message.walk)
        if walk is None and message.walk in self._disowned:
            self.send(*self._disowned[message.walk])
        return walk

    def _survey(self, message: Survey) -> None:
        walk = self._walk_of(message)
        if walk is None:
            return
        end: Position = (walk.slots.last + 1, b"")
        try:
            records, reached = self._store.walk(message.after, end, message.keys_max, CONTENT_BYTES_MAX)
        except StoreError as failure:
            self._disown_for(walk, failure)
            return
        numbers = self._store.numbers(message.after[0], reached[0])
        newest = [(record.epoch, record.seq) for _, _, record in records]
        # A slot in which the cursor stands is numbered by the writes that follow behind it already.
        newest += [(epoch, seq) for slot, epoch, seq in numbers if slot > message.after[0] or not message.after[1]]
        surveyed = Surveyed(
            walk=walk.id,
            after=message.after,
            upto=reached,
            keys=len(records),
            digest=digest_of(records, numbers),
            newest=max(newest, default=(0, 0)),
        )
        self.send(walk.handoff, surveyed)

    def _list_keys(self, message: ListKeys) -> None:
        walk = self._walk_of(message)
        if walk is None:
            return
        try:
            records, reached = self._store.walk(message.after, message.upto, LISTED_KEYS_MAX, CONTENT_BYTES_MAX)
        except StoreError as failure:
            self._disown_for(walk, failure)
            return
        equal: list[int] = []
        numbers_equal = False
        if message.sums and reached == message.upto:
            left_out = set(message.without)
            records = [each for each in records if each[:2] not in left_out]
            equal = [part for part, own in enumerate(sums_of(records)) if own == message.sums[part]]
            records = [each for each in records if part_of(each[0], each[1]) not in equal]
            numbers = self._store.numbers(message.after[0], reached[0])
            renumbered = set(message.renumbered)
            stay = [each for each in numbers if each[0] not in renumbered]
            numbers_equal = digest_of((), stay) == message.numbers_sum
        named = [listed(*each) for each in records]
        answer = KeysListed(
            walk=walk.id,
            after=message.after,
            upto=reached,
            records=named,
            equal=equal,
            numbers_equal=numbers_equal,
            question=message.question,
        )
        self.send(walk.handoff, answer)

    def _take(self, message: Chunk | Replicate) -> None:
        """Take the next message of a walk in, as one batch; the others are answered with how far it has come."""
        walk = self._walk_of(message)
        if walk is None:
            return
        if message.number != walk.number + 1:
            self._acknowledge(walk, gap=message.number > walk.number)
            return
        try:
            if isinstance(message, Chunk):
                if self._salvages:
                    self._keep_what_goes(walk, message)
                self._apply_chunk(message)
            else:
                self._apply_operations(message.operations)
            self._store.commit()
        except StoreError as failure:
            self._store.roll_back()
            self._disown_for(walk, failure)
            return
        walk.number = message.number
        if isinstance(message, Replicate) and message.unsettled:
            walk.tail += message.operations
        if isinstance(message, Replicate) and message.sync:
            self._sync()
        elif self._keeps_synced and not self._dirty:
            self._dirty = True
            self.after(SYNC_SECONDS, SyncLearned())
        self._acknowledge(walk)

    def _apply_chunk(self, chunk: Chunk) -> None:
        for slot, key in chunk.removals:
            self._store.delete(slot, key, 0, 0)
        for slot, key, value, epoch, seq, expiry in chunk.puts:
            self._store.put(slot, key, Record(value, epoch, seq, expiry))
        numbers = {slot: (epoch, seq) for slot, epoch, seq in chunk.numbers}
        here = {slot for slot, _, _ in self._store.numbers(chunk.after[0], chunk.upto[0])}
        for slot in sorted(numbers if chunk.others_stay else here | numbers.keys()):
            self._store.renumber(slot, *numbers.get(slot, (0, 0)))

    def _keep_what_goes(self, walk: Walk, chunk: Chunk) -> None:
        """Write down what a chunk removes or replaces (R17). Raises StoreError when there is no room for it, or when it
        must not go in this life."""
        ring = self._ring
        assert ring is not None
        comes = {
            (slot, key): listed(slot, key, Record(value, e, s, expiry)) for slot, key, value, e, s, expiry in chunk.puts
        }
        taken = []
        for slot, key in (*chunk.removals, *comes):
            record = self._store.get(slot, key) if self._doubtful[slot] else None
            if record is not None:
                taken.append(Taken(slot, key, record, comes.get((slot, key))))
        if self._whole and any(each.matters and self._may_keep(ring, each.slot) for each in taken):
            why = f"{walk.source[0]} takes what it may have alone of slots {walk.slots}: it is not whole from then on"
            if (member := self.system.find(self._member)) is not None:
                self.send(member, NoLongerWhole(why=why))
            raise StoreError(why)
        self._keep(taken, walk.slots, walk.source[0])

    def _keep(self, taken: list[Taken], slots: Run, source: str) -> None:
        """Write down what goes. Raises StoreError when there is no room for it."""
        assert self._salvage is not None and self._ring is not None
        try:
            kept = self._salvage.keep(taken, ring=self._ring, source=source, wall_seconds=self.wall())
        except OSError as error:
            raise StoreError(f"what would go cannot be salvaged: {error}") from error
        if kept:
            self.system.events.note(
                "salvage",
                f"{self.id} has salvaged {kept} records that go from slots {slots}",
                epoch=self._ring.epoch,
                log=log.warning,
                node=self.id,
                records=kept,
            )

    def _apply_operations(self, operations: list[Operation]) -> None:
        stage(self._store, operations)

    def _acknowledge(self, walk: Walk, gap: bool = False) -> None:
        assert self._ring is not None
        replicated = Replicated(walk=walk.id, number=walk.number, synced=walk.synced, epoch=self._ring.epoch, gap=gap)
        self.send(walk.handoff, replicated)

    def _disown_for(self, walk: Walk, failure: StoreError) -> None:
        tell_damage(self, failure)
        self._disown(walk, str(failure))

    def _disown(self, walk: Walk, why: str) -> None:
        """This walk cannot go on: what was staged is gone, and its handoff will ask for another."""
        log.error("%s takes nothing more in for slots %s: %s", self.id, walk.slots, why)
        self._walks.pop(walk.id, None)
        epoch = self._ring.epoch if self._ring is not None else 0
        disowned = Disowned(walk=walk.id, epoch=epoch, why=f"{self.id}: {why}")
        self._disowned[walk.id] = walk.handoff, disowned
        if len(self._disowned) > DISOWNED_KEPT_MAX:
            del self._disowned[next(iter(self._disowned))]
        self.send(walk.handoff, disowned)

    # Comparing

    def _look_at_comparisons(self) -> None:
        waiting, self._comparisons = self._comparisons, []
        for question in waiting:
            self._sum_up(question)

    def _sum_up(self, message: SumUp) -> None:
        """Say what is here once as much has come as the coordinator had, in the ring that it obeys."""
        epoch = self._ring.epoch if self._ring is not None else 0
        if message.epoch < epoch:
            self.send(message.reply_to, SummedUp(comparison=message.comparison, node=self.id, epoch=epoch))
            return
        number = self._store.number
        if message.epoch > epoch or any(number(slot) < (e, seq) for slot, e, seq in message.numbers):
            if len(self._comparisons) < COMPARISONS_MAX:  # else it is asked for again
                self._comparisons.append(message)
            return
        after, upto = message.after, message.upto
        try:
            records, reached = self._store.walk(after, upto, LISTED_KEYS_MAX, CONTENT_BYTES_MAX)
        except StoreError as failure:
            log.error("%s cannot say what it holds: %s", self.id, failure)
            tell_damage(self, failure)
            return
        said = SummedUp(
            comparison=message.comparison,
            node=self.id,
            epoch=epoch,
            sums=summed(records, self._store.numbers(after[0], upto[0] + bool(upto[1]))),
            records=[listed(*each) for each in records] if message.listed else [],
            upto=reached,
        )
        self.send(message.reply_to, said)

    # Syncing

    def _sync(self) -> None:
        """Have everything that was taken in so far synced: now, or behind the sync that is under way."""
        if self._syncing is not None:
            self._sync_wanted = True
            return
        self._sync_wanted = False
        taken: list[Walk | Inbound] = [*self._walks.values(), *self._streams.values()]
        self._syncing = [(each, each.number) for each in taken]
        self.send(self._syncer, Sync(batch=0, reply_to=self.ref))

    def _sync_done(self, message: Synced) -> None:
        covered, self._syncing = self._syncing or [], None
        if message.error:
            self._trouble = f"the disk of {self.id} failed to sync ({message.error})"
            for walk in list(self._walks.values()):
                self._disown(walk, self._trouble)
            tell_sync_failed(self, self._member, message)
            return
        if self._sync_wanted:
            self._sync()
        for each, number in covered:
            each.synced = max(each.synced, number)
            if isinstance(each, Inbound):
                if each.open:
                    self._tell_appended(each, answers=False)
            elif self._walks.get(each.id) is each:
                self._acknowledge(each)

    # Foreign slots

    def _look_soon(self, seconds: float) -> None:
        if not self._look_comes:
            self._look_comes = True
            self.after(seconds, LookForForeign())

    def _look_for_foreign(self) -> None:
        """Ask the coordinators of foreign slots that hold something whether they may go."""
        ring = self._ring
        foreign = self._foreign(ring) if ring is not None else bytearray(SLOTS)
        if ring is None:
            return
        if not any(foreign):
            if (member := self.system.find(self._member)) is not None:
                self.send(member, HoldsNothingForeign())
            return
        wanted: dict[str, list[tuple[int, int]]] = {}
        marks = [
            node.id if node is not None and mark else None
            for node, mark in zip(ring.coordinators, foreign, strict=True)
        ]
        for run, id in runs(marks):
            if id is not None:
                wanted.setdefault(id, []).append((run.first, run.last))
        for id, slots in sorted(wanted.items()):
            replica = self.system.resolve(f"ringkeeper://{ring.by_id[id].bridge_address}/replica")
            self.send(replica, MayDrop(epoch=ring.epoch, runs=slots, reply_to=self.ref))
        self._look_soon(LOOK_AGAIN_SECONDS)

    def _foreign(self, ring: Ring) -> bytearray:
        """1 for each slot that holds something here and in which the ring gives this node no part."""
        marks = self._store.used()
        me = ring.by_id.get(self.id)
        if me is not None and me.given_up:
            return bytearray(SLOTS)  # it comes back, and what it holds spares the mirror
        if me is not None:
            for run, members in ring.list_runs:
                if any(node.id == self.id for node in members):
                    marks[run.first : run.last + 1] = bytes(run.size)
        if ring.change is not None:
            try:
                plan = self._planned(ring)
            except RingError:
                return bytearray(SLOTS)
            for shift in plan.shifts:
                if self.id in (shift.coordinator, shift.successor, *shift.learners):
                    marks[shift.slots.first : shift.slots.last + 1] = bytes(shift.slots.size)
        return marks

    def _may_drop(self, message: MayDrop) -> None:
        """Allow it for the slots that are ours, in the same ring, if every member of their lists is up."""
        ring = self._ring
        me = ring.by_id.get(self.id) if ring is not None else None
        if ring is None or ring.epoch != message.epoch or me is None or me.incarnation != self.incarnation:
            return  # it asks again
        complete = [
            coordinator is me and all(node.state == "up" for node in members)
            for coordinator, members in zip(ring.coordinators, ring.lists, strict=True)
        ]
        allowed = []
        for first, last in message.runs:
            if 0 <= first <= last < SLOTS:
                allowed += [
                    (first + run.first, first + run.last) for run, yes in runs(complete[first : last + 1]) if yes
                ]
        if allowed:
            self.send(message.reply_to, DropAllowed(epoch=ring.epoch, runs=allowed))

    def _drop(self, message: DropAllowed) -> None:
        """Forget some of the slots that may go and are still foreign; the rest is asked for again."""
        ring = self._ring
        if ring is None or ring.epoch != message.epoch:
            return  # what was allowed is past
        foreign = self._foreign(ring)
        allowed = [slot for first, last in message.runs for slot in range(first, last + 1) if foreign[slot]]
        doubtful = {slot for slot in allowed if self._doubtful[slot]} if self._salvages else set()
        if doubtful:
            self._begin_parting(ring, message, doubtful)
            allowed = [slot for slot in allowed if slot not in doubtful]
        going = allowed[:DROP_SLOTS_MAX]
        if not going:
            return
        keys = sum(map(self._store.keys_in, going))
        try:
            self._store.drop(going)
        except StoreError as failure:
            log.error("%s could not drop slots that are no longer its own: %s", self.id, failure)
            return
        self.system.events.note(
            "change",
            f"{self.id} dropped {len(going)} slots that are not its own (ring {ring.epoch}): {keys} keys",
            epoch=ring.epoch,
            log=log.info,
            node=self.id,
            slots=len(going),
            keys=keys,
        )
        if len(allowed) > len(going):
            left = [(slot, slot) for slot in allowed[DROP_SLOTS_MAX:]]
            self.send(self.ref, DropAllowed(epoch=message.epoch, runs=left))

    def _begin_parting(self, ring: Ring, message: DropAllowed, doubtful: set[int]) -> None:
        """Look at the first of them that lie together and are of one coordinator; or go on where an answer is lost."""
        if self._parting is None:
            first = last = min(doubtful)
            while last + 1 in doubtful and ring.coordinators[last + 1] is ring.coordinators[first]:
                last += 1
            self._parting = Parting(0, Run(first, last), message, (first, b""), (first, b""))
        self._ask_what_goes(self._parting)

    def _ask_what_goes(self, parting: Parting) -> None:
        ring = self._ring
        coordinator = ring.coordinators[parting.slots.first] if ring is not None else None
        if ring is None or coordinator is None:
            return
        end: Position = (parting.slots.last + 1, b"")
        try:
            _, parting.upto = self._store.walk(parting.after, end, LISTED_KEYS_MAX, CONTENT_BYTES_MAX)
        except StoreError as failure:
            log.error("%s cannot say what goes with slots %s: %s", self.id, parting.slots, failure)
            tell_damage(self, failure)
            return
        self._partings += 1
        parting.question = self._partings
        question = SumUp(
            comparison=parting.question,
            epoch=ring.epoch,
            after=parting.after,
            upto=parting.upto,
            numbers=[],
            listed=True,
            reply_to=self.ref,
        )
        self.send(self.system.resolve(f"ringkeeper://{coordinator.bridge_address}/replica"), question)

    def _part(self, said: SummedUp) -> None:
        """Write down what the coordinator has not; the slots go once all of them is looked at."""
        parting, ring = self._parting, self._ring
        if parting is None or ring is None or said.comparison != parting.question or said.epoch != ring.epoch:
            return
        upto = min(parting.upto, said.upto)
        there = {each[:2]: each for each in said.records}
        try:
            records, _ = self._store.walk(parting.after, upto, LISTED_KEYS_MAX, CONTENT_BYTES_MAX)
            taken = [Taken(slot, key, record, there.get((slot, key))) for slot, key, record in records]
            self._keep(taken, parting.slots, said.node)
        except StoreError as failure:
            log.error("%s keeps slots %s, which are not its own: %s", self.id, parting.slots, failure)
            tell_damage(self, failure)
            return  # they are looked at again before long
        parting.after = upto
        if upto < (parting.slots.last + 1, b""):
            self._ask_what_goes(parting)
            return
        self._doubtful[parting.slots.first : parting.slots.last + 1] = bytes(parting.slots.size)
        self._parting = None
        self.send(self.ref, parting.allowed)

    def inspect(self) -> dict[str, Any]:
        """What people want to know of it (``runtime/looking.py``)."""
        return {
            "id": self.id,
            "incarnation": self.incarnation,
            "ring_epoch": self._ring.epoch if self._ring is not None else 0,
            "streams": [
                {
                    "from": stream.node,
                    "incarnation": stream.incarnation,
                    "number": stream.number,
                    "synced": stream.synced,
                    "open": stream.open,
                    "tail_batches": len(stream.tail),
                    "waiting_for_a_ring": len(stream.waiting),
                }
                for stream in self._streams.values()
            ],
            "walks": [
                {"slots": str(walk.slots), "from": walk.source[0], "number": walk.number, "synced": walk.synced}
                for walk in self._walks.values()
            ],
            "takeovers_waiting": len(self._questions),
            "trouble": self._trouble,
        }

    def metrics(self) -> Iterator[Metric]:
        yield gauge("streams_in", "Coordinators that stream to this node.", len(self._streams))
        yield gauge("walks_in", "Runs of slots in which it is being made equal.", len(self._walks))
        yield gauge("tail_operations", "Operations that not everybody may hold.", len(self._learned))

    def check(self) -> None:
        ring = self._ring
        change = ring.change.epoch if ring is not None and ring.change is not None else None
        for walk in self._walks.values():
            assert walk.change == change, "a walk of a change that is not in flight"
            assert walk.synced <= walk.number
            assert ring is not None
            for slot in (walk.slots.first, walk.slots.last):
                coordinator = ring.coordinators[slot]
                assert coordinator is None or (coordinator.id, coordinator.incarnation) != (self.id, self.incarnation)
