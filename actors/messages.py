"""What the actors of the database say to each other, in the order in which their stories send it.

Commands are imperative, facts are past tense. Every message names its sender and its receiver. What travels between
processes is typed field by field and checked on arrival; messages marked *local* never leave their process, and carry
references to live objects where copying them would cost more than the work itself.

The session's messages (Connected, NodeChanged, Answered...) are in ``runtime/session.py``, the clients' connections
(Requests, ConnectionMade...) in ``runtime/resp.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..runtime.actor import Ref
from ..runtime.message import message
from .rules.balancing import By
from .rules.change import Phase
from .rules.commands import Command
from .rules.rebalance import Loads, Rebalance
from .rules.ring import Ring
from .rules.slots import SLOTS
from .rules.suspicion import Why

Position = tuple[int, bytes]
"""A place in the order of (slot, key); everything up to it, itself included, lies behind it. ``(slot, b"")`` is the
place before a slot's first key."""

Copied = tuple[int, bytes, bytes, int, int, int]
"""A record as it is copied: slot, key, value, epoch, seq, expiry (milliseconds since the Unix epoch, 0: never)."""

Listed = tuple[int, bytes, int, int, int, int]
"""A record as it is listed: slot, key, epoch, seq, expiry, CRC-32 of the value."""

Operation = tuple[int, bytes | None, bytes | None, int, int, int]
"""An outcome (R4): slot, key, value, epoch, seq, expiry. No value: the key goes; no key: every key of the slot."""

Numbered = tuple[int, int, int]
"""A slot and its number: slot, epoch, seq (R4)."""


class Later(bytes):
    """Stands where a reply will be told by Settled; no client sees it."""


LATER = Later()

# A process becomes part of the cluster.


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class RingChanged:
    """The newest ring, kept on disk before anyone hears of it; local. Member -> all actors of the node."""

    ring: Ring


# A client's request.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """Run these data commands in order; local. Gateway -> StorageNode."""

    number: int = 0
    """Comes back with the replies."""
    requests: list[tuple[Command, list[bytes]]]
    reply_to: Ref
    eager: frozenset[int] = frozenset()
    """Positions of writes whose clients want to be answered as soon as they hold here (``acks one``)."""
    stale: frozenset[int] = frozenset()
    """Positions of reads that a successor may answer (READONLY)."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """The replies to one Execute, in its order; local. StorageNode -> Gateway."""

    number: int = 0
    replies: list[Any]
    later: int = 0
    """How many of them are LATER: parked, or not yet held by everybody who must hold them."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Replies that were to come later; may come before the Executed they belong to; local. StorageNode -> Gateway."""

    replies: list[tuple[int, int, Any]]
    """Number of the Execute, which request of it, the reply."""


# Writes go to the successors.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """From now on this node answers for these slots, in this ring; local. StorageNode -> Replicator.

    Successors that are new to some of them get what not everybody holds, as part of ``batch``."""

    ring: Ring
    runs: list[tuple[int, int]]
    taking: list[tuple[int, int]]
    """Slots that are being taken over: what was sent of them and is not held everywhere is still of use (R18)."""
    batch: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTenure:
    """This node has taken over these slots (R18): what not everybody holds yet goes to all their successors, old
    numbers and all, before anything new; local. StorageNode -> Replicator."""

    batch: int
    runs: list[tuple[int, int]]
    operations: list[Operation]


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LearnersHold:
    """Required learners hold everything up to this batch (None: there are none): they count for ``held`` (R5); local.
    StorageNode -> Replicator."""

    batch: int | None


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """I coordinate slots of which you have copies. Replicator -> Replica, before the first Append of a stream."""

    stream: int
    node: str
    incarnation: str
    """Who sends (R3)."""
    to: str
    """The incarnation of the receiver that is meant (R3)."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """The next of a stream, numbered without a gap (R4). Replicator -> Replica."""

    stream: int
    number: int
    epoch: int
    """Of the ring that the sender obeys."""
    batch: int
    """The sender's, that it is of."""
    held: int
    """The sender's batches up to this one are held by every up member (R5)."""
    operations: list[Operation] = field(default_factory=list)
    begins: list[tuple[int, int]] = field(default_factory=list)
    """Slots that the sender has taken over: what was unsettled of them before is among the operations of this batch,
    or is not to be (R18)."""
    sync: bool = False
    """Say when this, and all before it, is on your disk."""
    more: bool = False
    """More of the same batch follows."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Everything up to this number is applied, up to that one it is on disk; and the receiver takes the sender for what
    it says that it is, as far as the ring of this epoch goes (R21). Replica -> Replicator."""

    stream: int
    number: int
    synced: int
    epoch: int
    gap: bool = False
    """What came was not the next: send again what follows ``number``."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """In the ring of this epoch the sender does not coordinate what it sent, or not in this life (fencing). Replica ->
    Replicator."""

    stream: int
    epoch: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHolds:
    """A successor holds everything up to this batch, and has confirmed this node's tenure; local. Replicator ->
    StorageNode."""

    node: str
    batch: int
    confirmed_at: float
    """When the question was asked that it answered, by this process' clock."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """So much waits for some successor that no more may be stamped, or no longer; local. Replicator -> StorageNode."""

    full: bool


# A node takes over, after a failure.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class AskTail:
    """What of these slots do you hold that not everybody does? From now on admit nothing of who coordinated them
    before (R18, R19). Takeover -> Replica of every other up member, and its own; and its own Replicator."""

    takeover: int
    epoch: int
    runs: list[tuple[int, int]]
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Tails:
    """This. Replica, Replicator -> Takeover."""

    takeover: int
    node: str
    operations: list[Operation]
    numbers: list[Numbered] = field(default_factory=list)
    """Of all of the slots that have one."""
    part: int = 0
    """A long tail is told in parts, one after the other; numbers and confirmed are told with the first."""
    more: bool = False
    """There is another part."""
    confirmed: list[tuple[str, str, float]] = field(default_factory=list)
    """Coordinators (id, incarnation) to whom their tenure was confirmed; so many seconds ago the last time (R21)."""
    own: bool = False
    """From the Replicator: what it has sent itself."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """All have answered; local. Takeover -> StorageNode."""

    epoch: int
    operations: list[Operation]
    """What not everybody holds, in the order of versions, each once."""
    numbers: list[Numbered]
    """The highest of each slot."""
    confirmed: list[tuple[str, str, float]]
    """Of this node's own replica: whose tenure it has confirmed, and when, by this process' clock."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """This node has taken over these slots: what it kept of their tails is stored and sent on; local. StorageNode ->
    Replica."""

    epoch: int
    """Of the ring in which it has."""
    runs: list[tuple[int, int]]


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class LookForRing:
    """There may be a newer ring: read it again, from ZooKeeper's leader; local. StorageNode, Replica, Replicator,
    FailureDetector -> Member."""

    question: int = 0
    reply_to: Ref | None = None


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class RingSeen:
    """This was the newest ring after the question; told after RingChanged if it is a new one; local. Member -> whoever
    asked."""

    question: int
    epoch: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Make everything written so far survive a power cut; local. StorageNode -> Syncer."""

    batch: int
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """Everything up to ``batch`` is on disk, or why it is not; local. Syncer -> StorageNode."""

    batch: int
    error: str = ""
    full: bool = False
    """That is only for want of room."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFailed:
    """Nobody knows what of this node's writes is on disk: its life is to end; local. StorageNode, Replica -> Member."""

    why: str
    full: bool = False
    """That is only for want of room."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class NoLongerWhole:
    """A mirror is about to take from this node what nobody else may have, and its life is registered as whole: it is to
    end first (R16); local. Replica -> Member."""

    why: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class HoldsNothingForeign:
    """What this node held of slots that are not its own is dropped; local. Replica -> Member."""


# Slots move to another node.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Learn:
    """Let me make you equal for these slots, as the change in flight wants it. Handoff -> Replica of the target."""

    change: int
    """The change's epoch."""
    epoch: int
    """Of the ring that the sender obeys."""
    walk: int
    """Names this attempt; what is said of another does not count."""
    first: int
    last: int
    """The slots."""
    node: str
    incarnation: str
    """Who sends: the coordinator of all of these slots, in this life (R3)."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """Yes; so many keys of these slots are here already. Replica -> Handoff."""

    walk: int
    keys: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Disowned:
    """No, or not any more: why not, and the epoch of the ring that says so. Replica -> Handoff."""

    walk: int
    epoch: int
    why: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Sum up what you hold after a position, of at most so many keys. Handoff -> Replica."""

    walk: int
    after: Position
    keys_max: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """The sum of all between two positions: equal contents have equal digests. Replica -> Handoff."""

    walk: int
    after: Position
    upto: Position
    keys: int
    digest: int
    newest: tuple[int, int] = (0, 0)
    """The highest version there, and number of a slot: what the coordinator wrote later cannot be there."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ListKeys:
    """Name each key between two positions, with its version, where sums differ. Handoff -> Replica."""

    walk: int
    after: Position
    upto: Position
    sums: list[int] = field(default_factory=list)
    """The coordinator's of each part (``rules/mirror.py``); without them all is named."""
    without: list[Position] = field(default_factory=list)
    """Keys that are left out of the sums: they were written since, whatever is there is replaced."""
    numbers_sum: int = 0
    """The coordinator's of the numbers of the slots that end between the positions."""
    renumbered: list[int] = field(default_factory=list)
    """Slots that are left out of that."""
    question: int = 0
    """Names the sums, for they are others when it is asked again."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class KeysListed:
    """The keys between two positions, in their order. Replica -> Handoff."""

    walk: int
    after: Position
    upto: Position
    records: list[Listed]
    equal: list[int] = field(default_factory=list)
    """The parts that are as the sums of that question said; they are not named."""
    numbers_equal: bool = False
    """The numbers of slots are as its sum of them said."""
    question: int = 0


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Makes what lies between two positions equal. Handoff -> Replica, numbered together with Replicate."""

    walk: int
    number: int
    after: Position
    upto: Position
    puts: list[Copied]
    removals: list[tuple[int, bytes]]
    numbers: list[Numbered]
    """Of the slots that end between the two positions, as far as they have one; the others have none."""
    others_stay: bool = False
    """But the others have what they have: it was found equal."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """These writes are in the store; local. StorageNode -> Handoff."""

    batch: int
    operations: list[Operation]


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """Writes to what lies behind the cursor, in their order. Handoff -> Replica."""

    walk: int
    number: int
    operations: list[Operation]
    sync: bool = False
    """Say when this, and all before it, is on your disk."""
    unsettled: bool = False
    """Stamped after the seal began: should the change be committed, not everybody may hold it yet (R18)."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    """Everything up to this number is applied, up to that one it is on disk. Replica -> Handoff."""

    walk: int
    number: int
    synced: int
    epoch: int
    """Of the ring that the learner obeys."""
    gap: bool = False
    """What came was not the next: send again what follows ``number``."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerHolds:
    """The learner holds every write up to this batch; local. Handoff -> StorageNode."""

    handoff: str
    batch: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """The ring is in this phase: say when the learner holds all that was put on its link before this; for a seal also
    when it has synced it and read the ring (R9, R10); local. StorageNode -> Handoff."""

    phase: Phase
    epoch: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffReached:
    """A handoff has come so far; local. Handoff -> StorageNode."""

    handoff: str
    phase: Phase | None
    """transfer: the learner has caught up. switch, seal: what was to be proved is. None: it has to begin anew."""
    epoch: int = 0
    """Of the Prove."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffProgress:
    """How far a handoff is. Handoff -> StorageNode, and in its reports to Ecs."""

    handoff: str
    first: int
    last: int
    source: str
    target: str
    keys: int = 0
    """Keys of the source that lie behind the cursor."""
    keys_total: int = 0
    bytes: int = 0
    """Of keys and values that were sent."""
    seconds: float = 0.0
    """Since it began."""
    state: str = "asking"
    limited: bool = False
    """It waits since no more bytes may be sent now."""
    trouble: str = ""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeReported:
    """How far a coordinator is with its part of the change in flight. StorageNode -> leading Ecs.

    ``reached`` in a ring in seal is its Ready: a promise to acknowledge nothing for the sealed slots until it reads a
    newer ring (R12).
    """

    node: str
    incarnation: str
    change: int
    epoch: int
    reached: Phase | None
    progress: list[HandoffProgress]


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class MayDrop:
    """May I forget these slots, which this ring gives me no part in? Replica -> Replica of their coordinator."""

    epoch: int
    runs: list[tuple[int, int]]
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class DropAllowed:
    """Every member of the lists of these slots is up in this ring, and they are mine. Replica -> Replica."""

    epoch: int
    runs: list[tuple[int, int]]


# Copies are compared.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SumUp:
    """What do you hold between two positions, once you have come to these numbers? Scrubber of the coordinator ->
    Replica of every other up member (R25); Replica that is about to forget slots -> Replica of their coordinator."""

    comparison: int
    epoch: int
    """Of the ring that the sender obeys."""
    after: Position
    upto: Position
    numbers: list[Numbered]
    """Of the sender's slots there: before the receiver has applied as much it does not answer."""
    listed: bool = False
    """Name each record, too."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SummedUp:
    """This. Replica -> Scrubber, Replica."""

    comparison: int
    node: str
    epoch: int
    """Of the receiver's ring: what is said under another one counts for nothing."""
    sums: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """By slot: slot, epoch and seq of its number, keys, digest (``rules/scrub.py``)."""
    records: list[Listed] = field(default_factory=list)
    upto: Position = (SLOTS, b"")
    """How far that is, if not as far as was asked for."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class DamageFound:
    """A record of this node's store cannot be read as it was written, or there was no room to write it for good; local.
    StorageNode, Replica, Handoff, Member -> Scrubber."""

    why: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDamaged:
    """The copies of this node, in this life, are not what they should be: it is to go down, and to be made anew (R25).
    Scrubber of the coordinator -> Scrubber of the odd one out -> leading Ecs, again and again; and its Member."""

    node: str
    incarnation: str
    why: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerify:
    """``RING VERIFY``: compare all slots of this node with their other copies, or say how far that is; local.
    Gateway -> Scrubber, which answers by VerbRun."""

    question: int
    arguments: tuple[str, ...]
    reply_to: Ref


# Somebody asks how things are.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerb:
    """A ``RING <verb>`` that only the leader can answer. Gateway -> Ecs."""

    question: int
    verb: str
    arguments: tuple[str, ...]
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class VerbRun:
    """The outcome of a verb: a text, or why not. Ecs, Scrubber -> Gateway."""

    question: int
    text: str = ""
    error: str = ""
    """As clients get it, with its code."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class WhichRing:
    """Of which ring is the one that you hold? Ecs -> Member."""

    question: int
    reply_to: Ref


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStamp:
    """Of this one; epoch 0: none. Member -> Ecs."""

    question: int
    node: str
    incarnation: str
    cluster_id: str = ""
    epoch: int = 0
    nonce: str = ""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ShowHeldRing:
    """Which is the newest ring that you hold? Ecs -> Member."""

    question: int
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRing:
    """This one, as JSON; nothing: none. Member -> Ecs."""

    question: int
    node: str
    incarnation: str
    ring: bytes


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigures:
    """How much do you hold? Ecs, Gateway -> StorageNode."""

    question: int
    reply_to: Ref
    runs: list[tuple[int, int]] = field(default_factory=list)
    """Slots of which the figures are wanted one run at a time."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How much a storage node holds and has done. StorageNode -> Ecs, Gateway."""

    question: int
    node: str
    incarnation: str
    pid: int
    epoch: int
    keys: int
    bytes: int
    commands: int
    writes: int
    refused: int
    synced: bool
    runs: list[tuple[int, int]] = field(default_factory=list)
    """Keys and bytes of each run that was asked for."""
    parked: int = 0
    """Requests that waited for a change of the ring, so far."""
    parked_seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """How long: the median, the 999th of 1000, the most, of the last ones."""
    highest: list[tuple[int, int]] = field(default_factory=list)
    """The highest number (epoch, seq) among the slots of each run that was asked for."""


# The ring is balanced.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBalance:
    """Where should the nodes of this ring stand? Local. Ecs -> Balancer."""

    question: int
    ring: Ring
    by: By
    threshold: float
    bytes_max: int | None
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class GatherLoads:
    """What does each slot of this ring weigh? Local. Ecs -> Balancer."""

    question: int
    ring: Ring
    reply_to: Ref


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLoads:
    """What is each of your slots worth? Balancer -> StorageNode."""

    question: int
    reply_to: Ref


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLoads:
    """Slot by slot what a node coordinates. StorageNode -> Balancer."""

    question: int
    node: str
    incarnation: str
    epoch: int
    runs: list[tuple[int, int]]
    """Its slots; of all of them, one after the other, the following."""
    keys: list[int]
    bytes: list[int]
    requests: list[int]
    """In thousandths of a request per second, smoothed."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Solve:
    """Find the tokens; local. Balancer -> Solver."""

    number: int
    ring: Ring
    loads: Loads
    by: By
    threshold: float
    bytes_max: int | None
    aim: float
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """These; local. Solver -> Balancer."""

    number: int
    found: Rebalance


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class BalancePlanned:
    """The answer to PlanBalance, or why there is none yet; local. Balancer -> Ecs."""

    question: int
    found: Rebalance | None
    error: str = ""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadsGathered:
    """The answer to GatherLoads, or why there is none; local. Balancer -> Ecs."""

    question: int
    loads: Loads | None
    error: str = ""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class RingLed:
    """This is the ring of the ECS that leads, to be kept in balance; None: it does not lead any more, or that is not
    wanted; local. Ecs -> Balancer."""

    ring: Ring | None
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceWanted:
    """The load has moved: these tokens would be worth it; local. Balancer -> Ecs."""

    found: Rebalance


# Nodes watch each other.


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """I am alive, and have read the ring of this epoch. FailureDetector -> FailureDetector of every other node."""

    node: str
    incarnation: str
    number: int
    epoch: int = 0


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """What I think of that incarnation, at once and again as long as I think so. FailureDetector -> leading Ecs."""

    node: str
    incarnation: str
    by: str
    by_incarnation: str
    why: Why
    """silent: no heartbeat comes. refused: nobody listens there any more. stream: it does not acknowledge what I write
    (R22). Nothing: all is well again."""
    seconds: float
    """For how long."""
    behind: bool = False
    """Whether its heartbeats come, and name an older ring than mine."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class PeersHeard:
    """How sure I am that each other node has fallen silent (phi), for people. FailureDetector -> leading Ecs."""

    by: str
    by_incarnation: str
    phi: list[tuple[str, float]]


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGone:
    """The process of that incarnation has certainly ended: nobody listens at its port any more, or another life of it
    is registered (R21); local. FailureDetector -> StorageNode."""

    node: str
    incarnation: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSilent:
    """That successor has acknowledged nothing for so long (0.0: it does again) (R22); local. Replicator ->
    FailureDetector."""

    node: str
    incarnation: str
    seconds: float


# Somebody makes a backup.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class AskBackup:
    """``RING BACKUP``, with these words; local. Gateway -> Backup."""

    question: int
    words: list[bytes]
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class BackupTold:
    """The answer to it, or why not; local. Backup -> Gateway."""

    question: int
    content: bytes = b""
    error: str = ""
    """As clients get it, with its code."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportServed:
    """Of which slots are you the coordinator, for certain, at this moment? Local. Backup -> StorageNode."""

    question: int
    slots_max: int
    """In one part."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Of these; local. StorageNode -> Backup."""

    question: int
    epoch: int
    parts: list[tuple[int, int, str, int, int]]
    """First and last slot, what tells this content of the part from any other, keys and bytes."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Keep what the disk holds now; local. Backup -> Freezer."""

    backup: int
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """It is kept, or why not; local. Freezer -> Backup."""

    backup: int
    disk: Any = None
    """A FrozenDisk: this message stays within its process."""
    error: str = ""
