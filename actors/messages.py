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
from .rules.change import Phase
from .rules.commands import Command
from .rules.ring import Ring

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
    """A reply that was to come later; may come before the Executed it belongs to; local. StorageNode -> Gateway."""

    number: int
    index: int
    """Which request of the Execute."""
    reply: Any


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


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ListKeys:
    """Name each key between two positions, with its version. Handoff -> Replica."""

    walk: int
    after: Position
    upto: Position


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class KeysListed:
    """The keys between two positions, in their order. Replica -> Handoff."""

    walk: int
    after: Position
    upto: Position
    records: list[Listed]


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Makes what lies between two positions equal. Handoff -> Replica, numbered together with Replicate."""

    walk: int
    number: int
    puts: list[Copied]
    removals: list[tuple[int, bytes]]
    numbers: list[Numbered]
    """Of the slots that it completes."""


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
    """The outcome of a verb: a text, or why not. Ecs -> Gateway."""

    question: int
    text: str = ""
    error: str = ""
    """As clients get it, with its code."""


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


# Nodes watch each other.


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """I am alive. FailureDetector -> FailureDetector of every other node."""

    node: str
    incarnation: str
    number: int


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """That incarnation has been silent to me for so long (None: it is heard again). FailureDetector -> Ecs."""

    node: str
    incarnation: str
    by: str
    silent_seconds: float | None
