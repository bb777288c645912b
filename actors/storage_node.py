"""Holds the records of its slots and runs the data commands on them.

Hears   RingChanged        from Member: which slots it serves from now on, which of them move
        LeaderChanged      from Election: whom to report to
        Execute            from Gateway: the data commands of one turn of the loop
        Synced             from Syncer
        PeerHolds, Backlog                                 from its Replicator
        TakenOver          from its Takeover
        PeerGone           from FailureDetector
        RingSeen           from Member
        LearnerHolds, HandoffReached, HandoffProgress      from its Handoffs
        SyncSoon, SweepSoon, ReportSoon, Overdue, ConfirmSoon, LeasesOver      from itself
        ReportFigures      from Ecs and Gateway
        ReportLoads        from Balancer
        ReportServed       from Backup
Tells   Executed, Settled -> Gateway; Sync -> Syncer; Lead, BeginTenure, Follow, LearnersHold -> Replicator;
        Follow, Prove -> Handoff; Settle -> Replica; ChangeReported -> the leading Ecs; Served -> Backup;
        LookForRing, SyncFailed -> Member; Figures, SlotLoads -> whoever asked

It obeys the newest ring it was told of and nothing else: a command on a slot that the ring gives to another is
answered MOVED, and a slot is served only while the ring names *this incarnation* as its coordinator (R3). Every write
is an outcome (a put or a delete, R4) stamped ``(epoch, seq)``; the epoch is the ring's, ``seq`` counts over the life of
the incarnation, so no stamp is ever given twice: a new incarnation serves only in a ring that is newer than all those
that the one before it has read.

All commands of one turn are one visit to the store and one batch in it: they run in order, each sees what those before
it did, and the batch is committed before anybody gets a reply. If the disk refuses the batch, none of it holds, the
writes are answered with the reason and the reads are run again on what is really there.

Under ``fsync = always`` the replies wait until the batch is synced; they leave in order, so a reader never gets a value
that a power cut could take back. Syncs are grouped: one at a time, each covers all that came before it.

    batch committed -> (always: waits for Synced) -> (waits for all up successors and required learners) -> answered

*Successors.* A write is answered when every other up member of its list holds it, and they are as many as a write needs
(R1, ``acknowledging.py``); where fewer are up it is refused before anything is stamped. The `Replicator` sends it to
them.

*A tenure* is the time in which a node coordinates a slot without a break. It begins with a `Takeover` where others have
copies (R13, R18): they are asked for what not everybody holds, that is stored and sent on, and only then is the slot
served; until then requests are parked. Reads are current because all other members confirm the tenure again and again:
a *lease* (R21), without which reads are parked, too. Who takes over after a failure acknowledges nothing until the
lease that it may have confirmed to the one before it is over, or that process is known to have ended.

*While a change of the ring is in flight* this node has a `Handoff` for every run of slots that it must make another
node equal for. What the ring's phase asks of it:

    transfer   writes go to the handoffs, which pass on those that lie behind their cursors
    switch     a write to an affected slot is answered only once the learner holds it, too (R1, R9)
    seal       writes to slots that get another coordinator are *parked*, not stamped; once every learner has proved
               that it holds all, synced, this node says Ready, and parks reads as well
    after it   whatever ring comes next says what becomes of the parked: MOVED, or run here after all

**Ready is a promise** (R12): until a newer ring is *read* nothing is resumed, whatever clock, message or silence says.
Who is to own a slot parks requests for it, too, in a seal: a client that is sent there early waits for the ring.

Invariants (``check``): it serves only slots that the ring gives to its incarnation and that it has taken over, less the
sealed ones, and writes only where enough members are up; stamps never go back; what it has promised it keeps.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.election import LeaderChanged
from ..runtime.message import message
from ..runtime.metrics import Metric, counter, gauge
from ..runtime.store import Corrupt, DamagedRecord, Record, Store, StoreError
from ..runtime.system import ESCALATE
from .acknowledging import LOOKS, OWN, WHOLE, Acknowledging, Group, Waiting
from .damage import tell_damage, tell_sync_failed
from .expiry import Expiry, SweepSoon
from .handoff import Handoff
from .messages import (
    LATER,
    Backlog,
    BeginTenure,
    ChangeReported,
    Execute,
    Executed,
    Figures,
    Follow,
    HandoffProgress,
    HandoffReached,
    Later,
    Lead,
    LearnerHolds,
    LearnersHold,
    LookForRing,
    Operation,
    PeerGone,
    PeerHolds,
    Prove,
    ReportFigures,
    ReportLoads,
    ReportServed,
    RingChanged,
    RingSeen,
    Served,
    Settle,
    Settled,
    SlotLoads,
    Sync,
    Synced,
    TakenOver,
)
from .operations import stage
from .pace import Pace
from .replicator import Replicator
from .rules.change import Phase
from .rules.commands import CROSSSLOT, Command, key_error
from .rules.data_commands import NOT_AN_INTEGER, parse_integer
from .rules.fields import RingError
from .rules.plan import Shift, Transfer
from .rules.replies import OK, Reply, error, integer, refusal
from .rules.ring import Node, Ring
from .rules.slots import SLOTS, Run, crc_hqx, runs
from .rules.slots import slot as slot_of
from .rules.transitions import planned
from .slot_rates import SlotRates
from .slot_view import SlotView, TooMuch
from .takeover import Takeover
from .tenures import LEASE_SECONDS, Tenures, pieces
from .whole_node import LOOKERS, WholeNode

log = logging.getLogger(__name__)

SYNC_SECONDS = 1.0
"""How often ``everysec`` syncs."""

READ_BYTES_PER_TURN_MAX = 64 * 1024 * 1024
"""Values read for the commands of one turn; whoever would exceed it is asked to try again, so memory stays bounded."""

REPORT_SECONDS = 0.5
"""How often the ECS is told how far a change is, besides at every step of it."""

PARKED_REQUESTS_MAX = 10_000
PARKED_BYTES_MAX = 64 * 1024 * 1024
PARKED_SECONDS_MAX = 3.0
"""Bounds of what waits for the end of a seal; what exceeds them is answered TRYAGAIN (R6)."""

UNHELD_MAX = 10_000
"""Replies that wait for others to hold a write; while there are so many, further writes are parked."""
UNHELD_SECONDS_MAX = 5.0
"""A write that others have not taken within this time, from when it was asked for, is answered INDOUBT (R6)."""

LEASES_LOOK_SECONDS = 0.001
"""So long after a lease that was waited for is over it is looked at: timers are not exact."""

CONFIRM_SECONDS = 0.25
"""How often a coordinator that is alone reads the ring to see whether it still is one (R21)."""

OVERDUE_SECONDS = 0.25
"""How often those that wait are looked at."""

WAITS_KEPT_MAX = 100_000
"""So many of the last parked requests are remembered by how long they waited."""

WALKS_MAX = 4
"""So many handoffs of a node walk at once; the others wait for their turn. One that has to begin anew need not."""

PARK_WRITES, PARK_ALL = 1, 2

TOO_MUCH = error(
    b"TRYAGAIN the values asked for at once exceed %d bytes; nothing was done, ask for fewer at a time"
    % READ_BYTES_PER_TURN_MAX
)
INTERNAL_ERROR = error(b"ERR internal error, see the log of this node; nothing was done")
PARKED_TOO_MANY = error(
    b"TRYAGAIN the slot waits for a change of the ring or for its other copies, and %d requests wait for that already; "
    b"nothing was done" % PARKED_REQUESTS_MAX
)
PARKED_TOO_LONG = error(
    b"TRYAGAIN the slot waits for a change of the ring or for its other copies, and that takes longer than %g s; "
    b"nothing was done" % PARKED_SECONDS_MAX
)
UNHELD_TOO_LONG = error(
    b"INDOUBT written here, but not every node that must hold it, too, has said so within %g s: read before repeating"
    % UNHELD_SECONDS_MAX
)
DEPOSED = error(b"INDOUBT written here, but another node answers for the slot by now: read before repeating")
TOO_FEW = error(b"INDOUBT written here, but fewer copies are up by now than a write needs: read before repeating")
UNREAD_TOO_LONG = error(
    b"TRYAGAIN what was to be read was just written, and not every node that must hold it has said so within %g s; "
    b"nothing was done" % UNHELD_SECONDS_MAX
)
UNREAD = error(b"TRYAGAIN another node answers for the slot by now; nothing was done")
WAIT_SECONDS_MAX = 60.0
"""A WAIT without a timeout ends all the same."""

WAITS = Later()
"""Stands for the reply to a WAIT that waits."""

TAKING_OVER = ("takeover",)
"""Stands for the peers of a group while nobody knows what they hold: nobody of that name ever holds anything."""
NEVER = float("-inf")

ALONE = "the ring"
"""Who confirms the tenure of a coordinator without other up members."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSoon:
    """A second has passed; local. StorageNode -> StorageNode."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSoon:
    """The ECS may like to hear how far the change is; local. StorageNode -> StorageNode."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """Somebody may have waited long enough; local. StorageNode -> StorageNode."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSoon:
    """Time to ask whether this node is still alone; local. StorageNode -> StorageNode."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class LeasesOver:
    """A lease that was waited for is over; local. StorageNode -> StorageNode."""


class Asked(NamedTuple):
    """Whose request it is: where its reply belongs."""

    by: Ref
    number: int
    place: int
    since: float


class Parked(NamedTuple):
    """A request that was not begun: it waits for the next ring."""

    asked: Asked
    command: Command
    args: list[bytes]
    size: int


class Waiter(NamedTuple):
    """A WAIT that is not answered yet."""

    asked: Asked
    until: float


@dataclass(slots=True)
class Move:
    """One handoff, as its source sees it."""

    name: str
    transfer: Transfer
    target: Node
    ref: Ref | None = None
    """None: its turn has not come."""
    followed: int = 0
    """The last batch that it was told of."""
    held: int = 0
    """Batches up to this one the learner holds."""
    asked: dict[tuple[Phase, int], int] = field(default_factory=dict)
    """By the phase and the ring of a proof that was asked for, the last batch before that."""
    reached: Phase | None = None
    proved_epoch: int = 0
    """The ring whose seal it has proved."""
    progress: HandoffProgress | None = None

    @property
    def slots(self) -> Run:
        return self.transfer.slots


@dataclass(slots=True)
class Part:
    """This node's part in the change in flight."""

    change: int
    shifts: tuple[Shift, ...] = ()
    """The affected slots that it coordinates."""
    gains: tuple[Shift, ...] = ()
    """Those that it will coordinate."""
    moves: dict[str, Move] = field(default_factory=dict)
    reached: Phase | None = None
    sealed_epoch: int = 0
    sealed_batch: int = 0
    """The last batch that was committed before the seal of that ring, or the end of a walk within it."""
    ready_epoch: int = 0
    """The ring in whose seal it has said Ready."""

    def over(self, slot: int) -> tuple[str, ...]:
        """The handoffs of a slot."""
        return tuple(move.name for move in self.moves.values() if move.slots.first <= slot <= move.slots.last)


class StorageNode(Actor):
    """One node's share of the data."""

    def __init__(
        self,
        *,
        id: str,
        incarnation: str,
        store: Store,
        syncer: Ref,
        pid: int,
        fsync: str = "everysec",
        key_bytes_max: int = 64 * 1024,
        value_bytes_max: int = 16 * 1024 * 1024,
        member: str = "member",
        detector: str = "failure-detector",
        replica: str = "replica",
    ) -> None:
        """The last three are names of actors of this process."""
        super().__init__()
        self._member, self._detector, self._replica = member, detector, replica
        self.id, self.incarnation, self.fsync = id, incarnation, fsync
        self._store, self._syncer, self._pid = store, syncer, pid
        self._key_bytes_max = key_bytes_max
        self._pace = Pace()
        self._ring: Ring | None = None
        self._leader = ""
        self._checked: tuple[Ring | None, str, int, int] = None, "", 0, 0  # what ``check`` has found out of a ring
        self._found_right: tuple[object, ...] = ()  # what it found right the last time
        self._reads = bytearray(SLOTS)
        """1: reads of the slot are run here."""
        self._writes = bytearray(SLOTS)
        self._parks = bytearray(SLOTS)
        """0, PARK_WRITES or PARK_ALL: what becomes of requests that are not run."""
        self._copies = bytearray(SLOTS)
        """1: this node is an up successor, and reads that may be stale are run here."""
        self._tenures = Tenures(id, incarnation)
        self._without_lease: set[int] = set()
        """The groups (by identity) whose reads are parked."""
        self._takeover: Ref | None = None
        self._replicator: Ref | None = None
        self._shares = False
        """Some ring of this life has several copies of each slot, or is about to: the Replicator is told of everything,
        so that it knows what a learner may not hold yet that becomes a successor."""
        self._acknowledging: Acknowledging[Asked] = Acknowledging()
        self._confirmed: dict[str, float] = {}
        """When a successor was asked whether this node coordinates, which it then confirmed (R21)."""
        self._lease_until = float("inf")
        """Until then every lease lasts; infinity where nobody else has a copy."""
        self._lapsed = False
        self._confirm_comes = False
        self._asked_ring_at = 0.0
        self._waiters: dict[tuple[int, int], list[Waiter]] = {}
        """By batch, and how many successors are wanted that hold it."""
        self._waits_asked = False  # a WAIT of the batch that is running is not answered at once
        self._follows = False  # some slots have handoffs
        self._refusals: dict[int, bytes] = {}
        self._epoch = 0
        self._seq = 0
        self._view = SlotView(self, store, value_bytes_max)
        self._whole_node = WholeNode(self, store)
        self.expiry = Expiry(self, store)
        self._rates = SlotRates()
        self.staged = False
        """Whether the batch that is running holds a write."""
        self._operations: list[Operation] = []  # of that batch, while there are handoffs
        self._named = False  # the ring names this incarnation
        self._trouble = ""  # why nothing is served any more: the disk refused to sync
        self._batch = 0  # batches committed
        self._synced = 0  # batches known to be on disk
        self._syncing = False
        self._unsynced: deque[tuple[int, Executed, Ref, list[int]]] = deque()
        self._part: Part | None = None
        self._to_park: list[int] = []  # positions in the part of a batch that is running
        self._to_park_bytes = 0
        self._parked: deque[Parked] = deque()
        self._parked_bytes = 0
        self._stalled = False  # too much waits for others to hold it
        self._backlog = False  # the Replicator says so
        self._overdue_comes = self._report_comes = False
        self._waits: deque[float] = deque(maxlen=WAITS_KEPT_MAX)
        self.commands = self.refused = self.parked = 0

    def on_start(self) -> None:
        self._replicator = self.system.spawn(
            Replicator,
            id=self.id,
            incarnation=self.incarnation,
            storage=self.ref,
            detector=self._detector,
            member=self._member,
            synced=self.fsync == "always",
            name="replicator",
            supervision=ESCALATE,
        )
        if self.fsync == "everysec":
            self.after(SYNC_SECONDS, SyncSoon())

    def on_receive(
        self,
        message: Execute
        | PeerHolds
        | Synced
        | Backlog
        | TakenOver
        | PeerGone
        | RingSeen
        | ConfirmSoon
        | LeasesOver
        | LearnerHolds
        | HandoffReached
        | HandoffProgress
        | SyncSoon
        | SweepSoon
        | ReportSoon
        | Overdue
        | RingChanged
        | LeaderChanged
        | ReportFigures
        | ReportLoads
        | ReportServed,
    ) -> None:
        match message:
            case Execute():
                self._execute(message)
            case PeerHolds():
                self._peer_holds(message)
            case Synced():
                self._sync_done(message)
            case Backlog():
                self._backlog = message.full
                self._look_at_stall()
            case TakenOver():
                self._taken_over(message)
            case PeerGone():
                self._peer_gone(message)
            case RingSeen():
                self._ring_seen(message)
            case ConfirmSoon():
                self._confirm_comes = False
                self._ask_whether_alone()
            case LeasesOver():
                self._serve()
                self._release()
                self._resume_parked()
                self._report()
                self._await_leases()
            case LearnerHolds():
                self._learner_holds(message)
            case HandoffReached():
                self._handoff_reached(message)
            case HandoffProgress():
                self._handoff_progress(message)
            case SyncSoon():
                self._sync_soon()
            case SweepSoon():
                self.expiry.sweep()
            case ReportSoon():
                self._report_comes = False
                self._report()
            case Overdue():
                self._overdue()
            case RingChanged():
                self._ring_changed(message.ring)
            case LeaderChanged():
                self._leader = (message.data or b"").decode("utf-8", "replace")
                self._report()
            case ReportFigures():
                self._report_figures(message)
            case ReportLoads():
                self._report_loads(message)
            case ReportServed():
                self._report_served(message)
            case _:
                assert_never(message)

    # The ring

    def _ring_changed(self, ring: Ring) -> None:
        if self._ring is not None and ring.epoch <= self._ring.epoch:
            return
        before, self._ring, self._epoch = self._ring, ring, ring.epoch
        self._pace.limit(ring.move_bytes_per_second, self.now())
        me = ring.by_id.get(self.id)
        self._named = me is not None and me.incarnation == self.incarnation and me.state != "down"
        grows = ring.change is not None and ring.change.wish.copies is not None
        self._shares = self._shares or ring.replicas > 1 or grows
        if self._shares:
            self._batch += 1  # what successors begin to hold with this ring they hold from this batch on
        self._tenures.ring_changed(before, ring, named=self._named, batch=self._batch, now=self.now())
        if self._tenures.taking:
            self._end_part(ring)
        else:
            self._take_part(ring)
        self._regroup()
        self._lead(self._batch)
        self._take_over()
        self._serve()
        self._release()
        self._resume_parked()
        self._ask_whether_alone()
        self._report()
        if self.fsync == "always":
            self._sync()

    def _regroup(self) -> None:
        """Find out who must hold the writes to which slots (R1, R3), now that the ring, or the tenures, are others."""
        ring = self._ring
        assert ring is not None
        part = self._part if self._part is not None and self._required() else None
        groups: dict[object, Group[Asked]] = {}
        by_run: list[tuple[Run, Group[Asked]]] = [(run, Group(peers=TAKING_OVER)) for run in self._tenures.taking]
        cuts = [cut for move in part.moves.values() for cut in (move.slots.first, move.slots.last + 1)] if part else []
        for tenure in self._tenures.held:
            for run in pieces(tenure.slots, cuts):
                learners = part.over(run.first) if part is not None else ()
                group = groups.setdefault(
                    (replace(tenure, slots=Run(0, 0)), learners),
                    Group(
                        peers=tenure.peers,
                        learners=learners,
                        copies=tenure.copies,
                        writable=tenure.copies >= ring.copies_needed,
                        shared=tenure.members > 1,
                        since=tenure.since,
                        not_before=tenure.not_before,
                    ),
                )
                by_run.append((run, group))
        lost = self._acknowledging.regroup(sorted(by_run, key=lambda each: each[0]))
        for move in part.moves.values() if part is not None else ():
            self._acknowledging.heard(move.name, move.held)
        self._settle([(asked, DEPOSED if each.writes else UNREAD) for each in lost for asked in each.asked])
        self._follows = self._acknowledging.needs_others or (self._part is not None and bool(self._part.moves))
        self._confirmed = {name: at for name, at in self._confirmed.items() if name in self._acknowledging.held}
        self._await_leases()

    def _await_leases(self) -> None:
        """Be told when the next lease is over that something waits for."""
        now = self.now()
        later = [group.not_before for group in self._acknowledging.groups if group.not_before > now]
        if later:
            self.after(min(later) - now + LEASES_LOOK_SECONDS, LeasesOver())

    def _lead(self, batch: int) -> None:
        """Tell the Replicator which slots are this node's, as part of a batch, and whom it has to wait for besides the
        successors."""
        ring = self._ring
        if self._replicator is None or ring is None or not self._shares:
            return
        own = [(tenure.slots.first, tenure.slots.last) for tenure in self._tenures.held]
        taking = [(run.first, run.last) for run in self._tenures.taking]
        self.send(self._replicator, Lead(ring=ring, runs=own, taking=taking, batch=batch))
        self._tell_learners()

    def _tell_learners(self) -> None:
        if self._replicator is not None and self._shares:
            names = {name for group in self._acknowledging.groups for name in group.learners}
            moves = [move for move in self._part.moves.values() if move.name in names] if self._part is not None else []
            held = min((self._batch if move.held >= move.followed else move.held for move in moves), default=None)
            self.send(self._replicator, LearnersHold(batch=held))

    # Taking over

    def _take_over(self) -> None:
        """Ask the other members of the slots that are to be taken over; what was asked before is asked no more."""
        ring = self._ring
        assert ring is not None
        if self._takeover is not None:
            self._takeover.stop(block=False)
            self._takeover = None
        replica = self.system.find(self._replica)
        taking = self._tenures.taking
        if not taking or replica is None or self._replicator is None:
            return
        members: dict[str, tuple[Node, tuple[Run, ...]]] = {}
        for run in taking:
            for node in ring.lists[run.first]:
                if node.state == "up" and node.id != self.id:
                    members[node.id] = node, (*members.get(node.id, (node, ()))[1], run)
        self._takeover = self.system.spawn(
            Takeover,
            id=self.id,
            epoch=ring.epoch,
            runs=taking,
            members=members,
            storage=self.ref,
            replicator=self._replicator,
            replica=replica,
            detector=self._detector,
            name=f"takeover-{ring.epoch}",
        )

    def _taken_over(self, message: TakenOver) -> None:
        """Store what this node lacked, send everybody what somebody may lack, and serve."""
        ring = self._ring
        if self._takeover is None or ring is None or message.epoch != ring.epoch:
            return
        self._takeover.stop(block=False)
        self._takeover = None
        number = self._store.number
        for operation in message.operations:
            if operation[3:5] > number(operation[0]):
                stage(self._store, [operation])
        self._store.commit()
        for slot, epoch, seq in message.numbers:
            if (epoch, seq) > number(slot):
                raise AssertionError(
                    f"{self.id} is not in sync: somebody holds {epoch}.{seq} of slot {slot}, it holds {number(slot)} "
                    "after taking over"
                )
        self._batch += 2  # one for the ring, in which more is led, one for what was taken over
        confirmed = {(id, incarnation): at for id, incarnation, at in message.confirmed}
        taken = self._tenures.begin(ring, confirmed, batch=self._batch, now=self.now())
        self._take_part(ring)
        self._regroup()
        self._acknowledging.wrote(self._batch, message.operations)
        self._lead(self._batch - 1)
        own = [(run.first, run.last) for run in taken]
        replica = self.system.find(self._replica)
        if replica is not None:
            self.send(replica, Settle(epoch=ring.epoch, runs=own))
        if self._replicator is not None:
            self.send(self._replicator, BeginTenure(batch=self._batch, runs=own, operations=message.operations))
        slots = sum(run.size for run in taken)
        self.system.events.note(
            "takeover",
            f"{self.id} has taken over {slots} slots (ring {ring.epoch})",
            epoch=ring.epoch,
            log=log.info,
            node=self.id,
            slots=slots,
            operations=len(message.operations),
        )
        self._serve()
        self._release()
        self._resume_parked()
        self._ask_whether_alone()
        self._report()
        if self.fsync == "always":
            self._sync()

    def _peer_gone(self, message: PeerGone) -> None:
        """That process has ended: whoever it served reads to hears nothing from it any more."""
        if self._tenures.ended((message.node, message.incarnation)):
            self._regroup()
            self._serve()
            self._release()
            self._resume_parked()

    # Leases

    def _has_lease(self, group: Group[Asked], now: float) -> bool:
        """Whether all others who could ever answer for these slots have lately confirmed that this node does (R21)."""
        if not group.shared or group.peers == TAKING_OVER:
            return True
        held, oldest = self._acknowledging.held, now - LEASE_SECONDS
        if not group.peers:
            return self._confirmed.get(ALONE, NEVER) > oldest
        confirmed = self._confirmed
        return all(confirmed.get(peer, NEVER) > oldest and held.get(peer, 0) >= group.since for peer in group.peers)

    def _renew_leases(self, now: float) -> None:
        """See until when every lease lasts. One that is over has its reads parked until it is confirmed again."""
        until = float("inf")
        lapsed = False
        for group in self._acknowledging.groups:
            if group.shared and group.peers != TAKING_OVER:
                if not self._has_lease(group, now):
                    lapsed = True
                    continue
                names = group.peers or (ALONE,)
                until = min(until, *(self._confirmed[name] + LEASE_SECONDS for name in names))
        self._lease_until, self._lapsed = until, lapsed

    def _peer_holds(self, message: PeerHolds) -> None:
        acknowledging = self._acknowledging
        if message.node not in acknowledging.held:
            return
        self._confirmed[message.node] = message.confirmed_at
        if acknowledging.heard(message.node, message.batch):
            self._release(message.node)
            part = self._part
            if part is not None and part.reached == "switch" and part.sealed_epoch == self._epoch:
                self._report()
            if self._waiters:
                self._look_at_waiters()
        if self._lapsed:
            self._look_at_leases()

    def _look_at_leases(self) -> None:
        """Some lease was over: if it lasts again, what was parked for it can be run."""
        now = self.now()
        before = [self._has_lease(group, now) for group in self._acknowledging.groups]
        served = [not self._parks_reads(group) for group in self._acknowledging.groups]
        if before != served:
            self._serve()
            self._resume_parked()

    def _parks_reads(self, group: Group[Asked]) -> bool:
        return id(group) in self._without_lease

    def _ask_whether_alone(self) -> None:
        """A coordinator without other up members goes by the ring itself, which it reads again and again."""
        member = self.system.find(self._member)
        alone = any(group.shared and not group.peers for group in self._acknowledging.groups)
        if alone and member is not None and not self._confirm_comes:
            self._asked_ring_at = self.now()
            self.send(member, LookForRing(question=int(self._asked_ring_at * 1e6), reply_to=self.ref))
            self._confirm_comes = True
            self.after(CONFIRM_SECONDS, ConfirmSoon())

    def _ring_seen(self, message: RingSeen) -> None:
        if message.epoch == self._epoch:
            self._confirmed[ALONE] = max(self._confirmed.get(ALONE, NEVER), message.question / 1e6)
            if self._lapsed:
                self._look_at_leases()

    def _serve(self) -> None:
        """Find out which slots to serve, and what to park."""
        self._reads, self._writes, self._parks = bytearray(SLOTS), bytearray(SLOTS), bytearray(SLOTS)
        self._copies = bytearray(SLOTS)
        part, ring, now = self._part, self._ring, self.now()
        self._renew_leases(now)
        self._without_lease = {id(group) for group in self._acknowledging.groups if not self._has_lease(group, now)}
        if self.serves and ring is not None:
            self._reads = self._tenures.marks()
            self.expiry.coordinates(self._reads)
            for run, group in self._acknowledging.runs:
                if group.peers == TAKING_OVER or id(group) in self._without_lease:
                    self._park(run, PARK_ALL)
                elif not group.may_dirty and now < group.not_before:
                    self._park(run, PARK_WRITES)  # alone it would answer at once, and another may still be read (R21)
                elif group.writable and not (self._stalled and (group.peers or group.learners)):
                    self._writes[run.first : run.last + 1] = b"\1" * run.size
                elif group.writable:
                    self._park(run, PARK_WRITES)
            for run in ring.unsettled(self.id):
                self._reads[run.first : run.last + 1] = bytes(run.size)
            me = ring.by_id[self.id]
            for run, members in ring.list_runs:
                if me.state == "up" and any(node is me for node in members):
                    self._copies[run.first : run.last + 1] = b"\1" * run.size
            for run, _ in ring.unsettled_by_keeper:  # whose copy it is: what it has might be gone when others answer
                self._copies[run.first : run.last + 1] = bytes(run.size)
        if part is not None and ring is not None and ring.change is not None and ring.change.phase == "seal":
            ready = part.ready_epoch == ring.epoch
            for shift in part.shifts if self.serves else ():
                if shift.sealed:
                    self._park(shift.slots, PARK_ALL if ready else PARK_WRITES)
            for shift in part.gains if ring.serving else ():
                self._park(shift.slots, PARK_ALL)
        for parked in self._parked:
            self._keep_order(parked.command, parked.args)
        self._refusals.clear()

    def _park(self, slots: Run, what: int) -> None:
        span = slice(slots.first, slots.last + 1)
        self._writes[span] = bytes(slots.size)
        if what == PARK_ALL:
            self._reads[span] = bytes(slots.size)
        self._parks[span] = bytes([what]) * slots.size

    @property
    def serves(self) -> bool:
        """Whether this node serves any slots that the ring gives to it."""
        return self._named and not self._trouble and self._ring is not None and self._ring.serving

    def own_runs(self) -> list[tuple[int, int]]:
        """The slots that it answers for."""
        if not self.serves or self._ring is None:
            return []
        return [(run.first, run.last) for run in self._ring.coordinated_by(self.id)]

    @property
    def reads_served(self) -> bytes:
        """1 for each slot whose reads it answers."""
        return bytes(self._reads)

    def serves_reads_of(self, slot: int) -> bool:
        return bool(self._reads[slot])

    def serves_writes_of(self, slot: int) -> bool:
        return bool(self._writes[slot])

    @property
    def last_stamp(self) -> tuple[int, int]:
        """The version of the last write."""
        return self._epoch, self._seq

    def refuse(self, slot: int) -> bytes:
        """Why this node does not serve a slot. Definite: nothing was stamped (R6)."""
        self.refused += 1
        reply = self._refusals.get(slot)
        if reply is None:
            reply = self._refusals[slot] = refusal(self._refusal(slot))
        return reply

    def _refuses(self, slot: int, reply: Reply) -> bool:
        """Whether a reply says that this node does not serve the slot. It rests on nothing that was written."""
        return reply is not None and reply is self._refusals.get(slot)

    def _refusal(self, slot: int) -> str:
        ring = self._ring
        if self._trouble:
            return self._trouble
        if ring is None:
            return f"CLUSTERDOWN Hash slot not served: {self.id} waits for a ring that names it"
        if not ring.serving:
            return "CLUSTERDOWN The cluster is stopped: data and nodes stay, 'ringkeeper start' serves again"
        coordinator, members = ring.coordinators[slot], ring.lists[slot]
        if coordinator is None:
            states = _states(members)
            return f"CLUSTERDOWN Hash slot not served: slot {slot} waits for its node ({states}; epoch {ring.epoch})"
        up = sum(node.state == "up" for node in members)
        too_few = f"{up} of the {ring.copies_needed} copies that a write needs are up"
        if any(run.first <= slot <= run.last for run in ring.unsettled(self.id)):
            return (
                f"CLUSTERDOWN Hash slot not served: {too_few}, and what {self.id} has may not be what the others have; "
                f"it answers once so many are up ({_states(members)})"
            )
        if coordinator.id == self.id and coordinator.incarnation == self.incarnation:
            return f"NOREPLICAS {too_few} ({_states(members)}); nothing was done"
        if coordinator.id == self.id:
            return f"CLUSTERDOWN Hash slot not served: {self.id} has restarted and waits to be in the ring again"
        return f"MOVED {slot} {coordinator.address}"

    def _refuse_or_park(self, slot: int, command: Command, args: list[bytes]) -> Reply:
        """LATER when the request is to wait for the next ring, or the refusal."""
        parks = self._parks[slot]
        if not parks or not (command.writes or parks == PARK_ALL):
            return self.refuse(slot)
        return self._later(command, args)

    def _keep_order(self, command: Command, args: list[bytes]) -> None:
        """What comes after a parked request must not overtake it: park all on its slot; all there is, if it writes to
        all slots of this node. One that only looks at all of them may be overtaken: one list that is being taken over
        would otherwise stop all others for a DBSIZE."""
        keys = command.keys(args)
        if keys:
            slot = slot_of(keys[0])
            self._reads[slot], self._writes[slot], self._parks[slot] = 0, 0, PARK_ALL
        elif command.writes:
            for first, last in self.own_runs():
                self._park(Run(first, last), PARK_ALL)

    def _later(self, command: Command, args: list[bytes]) -> Reply:
        """LATER, if there is room for one more that waits."""
        waiting = len(self._parked) + len(self._to_park)
        if waiting >= PARKED_REQUESTS_MAX or self._parked_bytes + self._to_park_bytes + _size(args) > PARKED_BYTES_MAX:
            self.refused += 1
            return PARKED_TOO_MANY
        self._to_park_bytes += _size(args)
        self._keep_order(command, args)
        return LATER

    def stamp(self) -> tuple[int, int]:
        """The version of the next write: unique, since every incarnation serves under epochs of its own."""
        self._seq += 1
        self.staged = True
        return self._epoch, self._seq

    def wrote(self, operation: Operation) -> None:
        """A stamped write is staged: whoever follows the slot will be told."""
        if self._follows:
            self._operations.append(operation)

    def discard(self, failure: DamagedRecord) -> None:
        """Stage that a damaged record goes, before the write that replaces it. It is told as any damage: the disk is no
        better for it."""
        tell_damage(self, failure)
        log.warning("%s: a client replaces or deletes what cannot be read: %s", self.id, failure)
        self._store.discard(failure.slot, failure.key)

    def flush_slot(self, slot: int) -> None:
        """Stage that every key of a slot goes."""
        epoch, seq = self.stamp()
        self._store.flush(slot, epoch, seq)
        self.wrote((slot, None, None, epoch, seq, 0))

    # Commands

    def _execute(self, message: Execute) -> None:
        requests, number, by, now = message.requests, message.number, message.reply_to, self.now()
        self._pace.clients_at = now
        self._rates.turn(now)
        if now > self._lease_until:
            self._renew_leases(now)
            if self._lapsed:
                self._serve()
        before = self._batch
        if message.stale:
            replies, later = self._execute_stale(message)
        else:
            replies, later = self._perform(requests, lambda index: Asked(by, number, index, now), message.eager)
        executed = Executed(number=number, replies=replies, later=later)
        wrote = self._batch > before
        if self.fsync == "always" and self._synced < self._batch and not self._trouble:
            # Reads wait, too: what they have found may not be on disk yet.
            writes = [index for index, (command, _) in enumerate(requests) if command.writes] if wrote else []
            self._unsynced.append((self._batch, executed, message.reply_to, writes))
            self._sync()
        else:
            self.send(message.reply_to, executed)

    def _execute_stale(self, message: Execute) -> tuple[list[Reply], int]:
        """As usual; but the reads that a successor may answer are run here where this node is only that."""
        requests, number, by, now = message.requests, message.number, message.reply_to, self.now()
        here = []
        for index in sorted(message.stale):
            keys = requests[index][0].keys(requests[index][1])
            if keys and not self._reads[slot_of(keys[0])] and self._copies[slot_of(keys[0])]:
                here.append(index)
        others = [index for index in range(len(requests)) if index not in set(here)]
        replies: list[Reply] = [None] * len(requests)
        reads, self._reads = self._reads, self._copies
        try:
            self._begin_turn()
            for index, reply in zip(here, self._run([requests[index] for index in here]), strict=True):
                replies[index] = reply
        finally:
            self._reads = reads
        eager = frozenset(place for place, index in enumerate(others) if index in message.eager)
        rest, later = self._perform(
            [requests[index] for index in others], lambda place: Asked(by, number, others[place], now), eager
        )
        for index, reply in zip(others, rest, strict=True):
            replies[index] = reply
        return replies, later

    def _perform(
        self,
        requests: list[tuple[Command, list[bytes]]],
        asked: Callable[[int], Asked],
        eager: frozenset[int] = frozenset(),
    ) -> tuple[list[Reply], int]:
        """Run requests as one batch, or as several where a command looks at the whole node after a write. Returns the
        replies, and how many of them are LATER; ``asked`` says of a position whose request it is, ``eager`` are those
        that do not wait for others."""
        replies: list[Reply] = []
        later = 0
        self._begin_turn()
        while len(replies) < len(requests):
            done = len(replies)
            part = requests[done:] if done else requests
            answers = self._run(part)
            if self.staged:
                try:
                    self._commit()
                except StoreError as failure:
                    tell_damage(self, failure)
                    answers = self._without_writes(
                        part[: len(answers)], refusal(f"MISCONF nothing was written: {failure}")
                    )
                else:
                    if self._operations:
                        self._pass_on()
            if self._acknowledging.any_dirty or self._waits_asked:
                later += self._hold_back(part, answers, asked, done, eager)
            if self._to_park:
                later += len(self._to_park)
                for index in self._to_park:
                    command, args = part[index]
                    self._park_request(Parked(asked(done + index), command, args, _size(args)))
                self._to_park, self._to_park_bytes = [], 0
            replies = replies + answers if done else answers
        return replies, later

    def _begin_turn(self) -> None:
        self._view.left = READ_BYTES_PER_TURN_MAX
        self._view.now_ms = now_ms = int(self.wall() * 1000)
        self._whole_node.begin_turn(now_ms)

    def _run(self, requests: list[tuple[Command, list[bytes]]]) -> list[Reply]:
        """Run commands in order; what they write is staged in the store. Stops early, with fewer replies than requests,
        before a command that looks at the whole node when something is staged, since scans see what is committed.

        The hot path. GET and plain SET are written out here: through ``Command.run`` and the view each costs a
        microsecond more, a third of all that a pipelined command costs.
        """
        reads, writes, view = self._reads, self._writes, self._view
        now_ms = view.now_ms
        get, put = self._store.get, self._store.put
        follows, operations, whole_node = self._follows, self._operations, self._whole_node.commands
        key_bytes_max, value_bytes_max = self._key_bytes_max, view.value_bytes_max
        counts = self._rates.counts
        replies: list[Reply] = []
        add = replies.append
        left = iter(requests)
        while True:
            try:
                for command, args in left:
                    name = command.name
                    if name == "get":
                        key = args[1]
                        slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
                        if reads[slot]:
                            counts[slot] += 1
                            record = get(slot, key)
                            if record is None:
                                add(None)
                            elif record.expiry and record.expiry <= now_ms:
                                self.expiry.met(slot, key)
                                add(None)
                            else:
                                value = record.value
                                view.left -= len(value)
                                if view.left < 0:
                                    raise TooMuch
                                add(b"$%d\r\n%b\r\n" % (len(value), value))
                            continue
                    elif name == "set" and len(args) == 3:
                        key = args[1]
                        slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
                        if writes[slot] and 0 < len(key) <= key_bytes_max and len(args[2]) <= value_bytes_max:
                            counts[slot] += 1
                            self._seq = seq = self._seq + 1
                            record = Record(args[2], self._epoch, seq, 0)
                            try:
                                put(slot, key, record)
                            except DamagedRecord as failure:
                                self.discard(failure)
                                put(slot, key, record)
                            self.staged = True
                            if follows:
                                operations.append((slot, key, args[2], self._epoch, seq, 0))
                            add(OK)
                            continue
                    if self.staged and name in whole_node:
                        break
                    reply = self._run_one(command, args, view)
                    if reply is LATER:
                        self._to_park.append(len(replies))
                    add(reply)
                self.commands += len(replies)
                return replies
            except StoreError as failure:  # a record that cannot be read spoils its own command only
                tell_damage(self, failure)
                others = isinstance(failure, Corrupt) and self._acknowledging.needs_others  # who soon answer for it
                add(refusal(f"{'TRYAGAIN' if others else 'ERR'} {failure}"))
            except TooMuch:
                add(TOO_MUCH)
            except Exception:
                if self.staged:
                    raise  # who knows what is staged: the process ends, and what was acknowledged is on disk
                log.exception("%s failed on a command", self.id)
                add(INTERNAL_ERROR)

    def _run_one(self, command: Command, args: list[bytes], view: SlotView) -> Reply:
        own = self._whole_node.commands.get(command.name)
        keys = command.keys(args)
        if command.name == "wait":
            return self._wait(args)
        if own is not None:
            if keys and not self._reads[slot_of(keys[0])]:
                return self._refuse_or_park(slot_of(keys[0]), command, args)
            if command.name in LOOKERS and (unread := self._unread()) is not None:
                return self._refuse_or_park(unread, command, args)
            if command.writes and any(self._parks):
                return self._later(command, args)
            if command.writes and not self._acknowledging.whole.writable:
                first = next(run.first for run, group in self._acknowledging.runs if not group.writable)
                return self.refuse(first)
            return own(args)
        slot = slot_of(keys[0])
        if len(keys) > 1 and any(slot_of(key) != slot for key in keys):
            return CROSSSLOT
        if not (self._writes if command.writes else self._reads)[slot]:
            return self._refuse_or_park(slot, command, args)
        if command.writes:
            for key in keys:
                if bad := key_error(key, self._key_bytes_max):
                    return bad
            if len(keys) > 1:  # what cannot be read must be met before the first of them is changed
                for key in keys:
                    with suppress(DamagedRecord):  # that is for the command to say, which looks first
                        self._store.get(slot, key)
        view.slot = slot
        self._rates.counts[slot] += 1
        assert command.run is not None, command.name
        return command.run(view, args)

    def _unread(self) -> int | None:
        """A slot of this node that it answers no reads of now, one that is waited for only if there is no other; None:
        it answers for all. Who looks at all of them is answered what a GET of that one would be, since a reply without
        what is in it would look complete."""
        unsettled = self._ring.unsettled(self.id) if self._ring is not None else ()
        for first, last in (*unsettled, *self.own_runs()):
            slot = self._reads.find(0, first, last + 1)
            if slot >= 0:
                return slot
        return None

    def _without_writes(self, requests: list[tuple[Command, list[bytes]]], refused: bytes) -> list[Reply]:
        """The replies to a batch whose writes the disk refused: reads see what is really there."""
        self.staged = False
        self._operations.clear()
        self._to_park, self._to_park_bytes = [], 0
        reads = [index for index, (command, _) in enumerate(requests) if not command.writes]
        replies: list[Reply] = [refused] * len(requests)
        for index, reply in zip(reads, self._run([requests[index] for index in reads]), strict=True):
            replies[index] = reply
        self._to_park = [reads[index] for index in self._to_park]
        return replies

    def _commit(self) -> None:
        """What was staged becomes part of the store, or none of it does (StoreError)."""
        self.staged = False
        self._store.commit()
        self._batch += 1

    def commit_unasked(self) -> bool:
        """Commit what is staged though nobody asked for it: nobody waits. False when the disk refuses it."""
        try:
            self._commit()
        except StoreError:
            self._operations.clear()
            return False
        if self._operations:
            self._pass_on()
        if self.fsync == "always":
            self._sync()
        return True

    # Writes that others must hold

    def _pass_on(self) -> None:
        """Tell the handoffs and the Replicator what was written."""
        operations, self._operations, part = self._operations, [], self._part
        for move in part.moves.values() if part is not None else ():
            own = [each for each in operations if move.slots.first <= each[0] <= move.slots.last]
            if own and move.ref is not None:  # one whose turn has not come will walk over what is written here
                move.followed = self._batch
                self.send(move.ref, Follow(batch=self._batch, operations=own))
        if not self._acknowledging.needs_others:
            return
        if self._ring is not None and self._ring.change is not None and self._ring.change.phase == "seal":
            sealed = [shift.slots for shift in part.shifts if shift.sealed] if part is not None else []
            stamped = [each[0] for each in operations if any(run.first <= each[0] <= run.last for run in sealed)]
            assert not stamped, f"sealed slots were written to: {stamped[:5]}"
        if self._replicator is not None and self._shares:
            self.send(self._replicator, Follow(batch=self._batch, operations=operations))
        self._acknowledging.wrote(self._batch, operations)

    def _hold_back(
        self,
        requests: list[tuple[Command, list[bytes]]],
        replies: list[Reply],
        asked: Callable[[int], Asked],
        offset: int,
        eager: frozenset[int],
    ) -> int:
        """Replies that rest on what others do not hold yet wait until they do. Returns how many."""
        acknowledging = self._acknowledging
        group_of, dirt, written = acknowledging.group_of, acknowledging.dirt, acknowledging.written
        waiting = 0
        together: Waiting[Asked] | None = None
        its_group: Group[Asked] | None = None
        for index, (command, args) in enumerate(requests[: len(replies)]):
            reply = replies[index]
            if reply is LATER:
                continue
            writes = command.writes
            if command.last_key == 1 or (keys := command.keys(args)):
                key = args[1] if command.last_key == 1 else keys[0]
                slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
                if command.last_key == 1 and written is not None:
                    batch = written.get(key, 0)
                else:
                    batch = dirt(slot, command.keys(args))
                if not batch or (writes and offset + index in eager) or self._refuses(slot, reply):
                    continue
                group = group_of(slot)
                if group is None:
                    continue
            elif command.name == "wait":
                waiting += self._wait_for_copies(asked(offset + index), args, reply)
                replies[index] = LATER if reply is WAITS else reply
                continue
            elif writes and reply is OK:
                slot, batch, group = WHOLE, self._batch, acknowledging.whole
            elif command.name in LOOKERS and acknowledging.any_dirty and not _is_error(reply):
                slot, batch, group = LOOKS, self._batch, acknowledging.looks
            else:
                continue
            whose = asked(offset + index)
            if (
                group is not its_group
                or together is None
                or together.batch != batch
                or together.writes is not writes
                or together.since != whose.since  # what was parked has waited already
            ):
                if together is not None:
                    acknowledging.hold(together)
                together, its_group = Waiting([], [], [], batch, whose.since, writes), group
            together.asked.append(whose)
            together.replies.append(reply)
            together.slots.append(slot)
            replies[index] = LATER
            waiting += 1
        if together is not None:
            acknowledging.hold(together)
        self._waits_asked = False
        if waiting:
            self._look_at_the_overdue()
            self._look_at_stall()
        return waiting

    def _look_at_stall(self) -> None:
        """Park further writes while too much waits for others to hold it."""
        bound = UNHELD_MAX // 2 if self._stalled else UNHELD_MAX
        stalled = self._backlog or self._acknowledging.count >= bound
        if stalled != self._stalled:
            self._stalled = stalled
            self._serve()
            if not stalled:
                self._resume_parked()

    def _required(self) -> bool:
        """Whether a write to a slot that moves needs its learner (R9)."""
        ring = self._ring
        return ring is not None and ring.change is not None and ring.change.phase != "transfer"

    def _learner_holds(self, message: LearnerHolds) -> None:
        move = self._part.moves.get(message.handoff) if self._part is not None else None
        if move is not None:
            self._learner_has(move, message.batch)

    def _learner_has(self, move: Move, batch: int) -> None:
        if batch > move.held:
            move.held = batch
            if move.name in self._acknowledging.held:
                self._acknowledging.heard(move.name, move.held)
                self._tell_learners()
                self._release(move.name)

    def _release(self, name: str | None = None) -> None:
        """Answer those whose writes are held by everybody who must hold them now. ``name``: only those that wait for
        this one can have come to that."""
        acknowledging = self._acknowledging
        if not acknowledging.count and not acknowledging.any_dirty:
            return
        synced = self._synced if self.fsync == "always" else self._batch
        settled = [
            (asked, reply if sound else TOO_FEW)
            for waiting, sound in acknowledging.released(self.now(), synced, name)
            for asked, reply in zip(waiting.asked, waiting.replies, strict=True)
        ]
        self._settle(settled)
        if self._stalled:
            self._look_at_stall()

    def _settle(self, settled: list[tuple[Asked, Reply]]) -> None:
        by: dict[Ref, list[tuple[int, int, Reply]]] = {}
        last: Ref | None = None
        for (to, number, place, _), reply in settled:
            if to is not last:  # nearly all are one Gateway's
                last, add = to, by.setdefault(to, []).append
            add((number, place, reply))
        for to, replies in by.items():
            self.send(to, Settled(replies=replies))

    # WAIT

    def _wait(self, args: list[bytes]) -> Reply:
        """WAIT numreplicas timeout: how many successors hold all that was written here so far, at least; once they are
        so many, or time is up. A write that was answered is held by all of them, unless it asked for less."""
        wanted, timeout = parse_integer(args[1]), parse_integer(args[2])
        if wanted is None:
            return NOT_AN_INTEGER
        if timeout is None:
            return error(b"ERR timeout is not an integer or out of range")
        if timeout < 0:
            return error(b"ERR timeout is negative")
        copies = self._copies_of(self._batch)
        if copies >= wanted or not self._acknowledging.needs_others:
            return integer(copies)
        self._waits_asked = True
        return WAITS

    def _copies_of(self, batch: int) -> int:
        """How many successors hold everything up to a batch, in each group."""
        held = self._acknowledging.held
        return min(
            (sum(held[peer] >= batch for peer in group.peers) for group in self._acknowledging.groups), default=0
        )

    def _wait_for_copies(self, asked: Asked, args: list[bytes], reply: Reply) -> int:
        if reply is not WAITS:
            return 0
        seconds = int(args[2]) / 1000 or WAIT_SECONDS_MAX
        until = self.now() + min(seconds, WAIT_SECONDS_MAX)
        self._waiters.setdefault((self._batch, int(args[1])), []).append(Waiter(asked, until))
        self._look_at_the_overdue()
        return 1

    def _look_at_waiters(self) -> None:
        """Whom somebody's word may have helped. Thousands may wait for the same: it is looked up once."""
        for batch, copies in list(self._waiters):
            held = self._copies_of(batch)
            if held >= copies:
                waiters = self._waiters.pop((batch, copies))
                self._settle([(waiter.asked, integer(held)) for waiter in waiters])

    def _look_at_overdue_waiters(self) -> None:
        now = self.now()
        for (batch, copies), waiters in list(self._waiters.items()):
            held = integer(self._copies_of(batch))
            self._settle([(waiter.asked, held) for waiter in waiters if now >= waiter.until])
            left = [waiter for waiter in waiters if now < waiter.until]
            if left:
                self._waiters[batch, copies] = left
            else:
                del self._waiters[batch, copies]

    # Requests that wait for the next ring

    def _park_request(self, parked: Parked) -> None:
        self._parked.append(parked)
        self._parked_bytes += parked.size
        self._look_at_the_overdue()

    def _resume_parked(self) -> None:
        """Run what was parked as if it came now: under another ring it is run, or refused, or goes on waiting."""
        if not self._parked:
            return
        parked, self._parked, self._parked_bytes = list(self._parked), deque(), 0
        self._serve()  # they stood in their own way
        replies, _ = self._perform([(each.command, each.args) for each in parked], lambda index: parked[index].asked)
        now = self.now()
        unsynced = self.fsync == "always" and self._synced < self._batch
        settled: list[tuple[Asked, Reply]] = []
        for each, reply in zip(parked, replies, strict=True):
            if reply is LATER:  # parked again, or not yet held by everybody
                continue
            self.parked += 1
            self._waits.append(now - each.asked.since)
            keys = each.command.keys(each.args)
            slot = slot_of(keys[0]) if keys else next((first for first, _ in self.own_runs()), 0)
            if unsynced and not self._refuses(slot, reply):
                since, writes = each.asked.since, each.command.writes
                self._acknowledging.hold(Waiting([each.asked], [reply], [OWN], self._batch, since, writes))
            else:
                settled.append((each.asked, reply))
        self._settle(settled)
        if unsynced:
            self._look_at_the_overdue()
            self._sync()

    def _look_at_the_overdue(self) -> None:
        if not self._overdue_comes:
            self._overdue_comes = True
            self.after(OVERDUE_SECONDS, Overdue())

    def _overdue(self) -> None:
        self._overdue_comes = False
        now, before = self.now(), len(self._parked)
        settled: list[tuple[Asked, Reply]] = []
        while self._parked and now - self._parked[0].asked.since > PARKED_SECONDS_MAX:
            parked = self._parked.popleft()
            self._parked_bytes -= parked.size
            self.parked += 1
            self._waits.append(now - parked.asked.since)
            settled.append((parked.asked, PARKED_TOO_LONG))
        settled += [
            (asked, UNHELD_TOO_LONG if each.writes else UNREAD_TOO_LONG)
            for each in self._acknowledging.overdue(now - UNHELD_SECONDS_MAX)
            for asked in each.asked
        ]
        self._settle(settled)
        if self._waiters:
            self._look_at_waiters()
            self._look_at_overdue_waiters()
        if self._stalled:
            self._look_at_stall()
        if len(self._parked) < before:  # what was parked only so that it did not overtake those can be run
            self._serve()
            self._resume_parked()
        if self._parked or self._acknowledging.count or self._waiters:
            self._look_at_the_overdue()

    # The change in flight

    def _end_part(self, ring: Ring) -> None:
        """End this node's part in a change that is over, or whose slots are to be taken over first."""
        change = ring.change
        if self._part is not None and (
            change is None or change.epoch != self._part.change or not self._named or self._tenures.taking
        ):
            for move in self._part.moves.values():
                if move.ref is not None:
                    move.ref.stop(block=False)
            self._part = None

    def _take_part(self, ring: Ring) -> None:
        """Begin, go on with or end this node's part in the change that the ring has in flight."""
        change = ring.change
        self._end_part(ring)
        if change is None:
            return
        if self._part is None:
            try:
                plan = planned(ring)
            except RingError as error:
                what = f"{self.id} takes no part in the change of ring {ring.epoch}: {error}"
                self.system.events.note("trouble", what, epoch=ring.epoch, log=log.error, node=self.id)
                return
            shifts = plan.sources_of(self.id) if self._named else ()
            gains = tuple(each for each in plan.shifts if each.sealed and each.successor == self.id)
            self._part = Part(change.epoch, shifts, gains)
            members = {node.id: node for node in (*ring.circle, *change.comes)}
            if shifts:
                for transfer in plan.transfers:
                    if transfer.source == self.id:
                        name = f"handoff-{change.epoch}-{transfer.slots}-{transfer.target}"
                        self._part.moves[name] = Move(name, transfer, members[transfer.target])
        if change.phase == "seal" and self._part.sealed_epoch != ring.epoch:
            self._part.sealed_epoch, self._part.sealed_batch = ring.epoch, self._batch
        if change.phase != "transfer":
            for move in self._part.moves.values():
                if move.ref is not None:
                    self._ask_for_proof(move, change.phase)
        self._begin_walks()

    def _ask_for_proof(self, move: Move, phase: Phase) -> None:
        assert move.ref is not None
        move.asked[phase, self._epoch] = self._batch
        self.send(move.ref, Prove(phase=phase, epoch=self._epoch))

    def _begin_walks(self) -> None:
        """Begin as many handoffs as may walk at once; all of them where writes wait for their learners already."""
        part, change = self._part, self._ring.change if self._ring is not None else None
        assert part is not None and change is not None
        walks_max = WALKS_MAX if change.phase == "transfer" else len(part.moves)
        walking = sum(move.ref is not None and move.reached is None for move in part.moves.values())
        for move in part.moves.values():
            if move.ref is None and walking < walks_max:
                walking += 1
                move.ref = self._hand_over(change.epoch, move)
                if change.phase != "transfer":
                    self._ask_for_proof(move, change.phase)
        self._pace.share(max(1, walking), self.now())

    def _hand_over(self, change: int, move: Move) -> Ref:
        return self.system.spawn(
            Handoff,
            change=change,
            epoch=self._epoch,
            transfer=move.transfer,
            incarnation=self.incarnation,
            target=self.system.resolve(f"ringkeeper://{move.target.bridge_address}/replica"),
            storage=self.ref,
            store=self._store,
            synced=self.fsync == "always",
            pace=self._pace,
            name=move.name,
        )

    def _handoff_reached(self, message: HandoffReached) -> None:
        move = self._part.moves.get(message.handoff) if self._part is not None else None
        if move is None or move.ref is None:
            return
        move.reached = message.phase
        if message.phase == "seal" or (message.phase == "switch" and self.fsync != "always"):
            # what was written before the change began it has by the walk, and nobody tells of that batch by batch
            self._learner_has(move, move.asked.get((message.phase, message.epoch), 0))
        if message.phase == "seal":
            move.proved_epoch = message.epoch
        elif message.phase == "transfer" and self._part is not None and self._part.sealed_epoch == self._epoch:
            self._part.sealed_batch = self._batch  # its chunks may have brought what was stamped since the seal began
        change = self._ring.change if self._ring is not None else None
        if message.phase is None and change is not None and change.phase != "transfer":  # what it has proved is void
            self._ask_for_proof(move, change.phase)
        if change is not None:
            self._begin_walks()
        self._report()

    def _handoff_progress(self, message: HandoffProgress) -> None:
        move = self._part.moves.get(message.handoff) if self._part is not None else None
        if move is not None:
            move.progress = message

    def _report(self) -> None:
        """Tell the ECS how far this node's part is, now and every so often; say Ready when the time has come."""
        part, ring = self._part, self._ring
        if part is None or ring is None or not part.shifts:
            return
        self._tell_learners()
        part.reached = self._reached(part, ring)
        if part.reached == "seal" and part.ready_epoch != ring.epoch:
            part.ready_epoch = ring.epoch
            self.system.events.note(
                "change",
                f"{self.id} is ready for the commit of change {part.change} (ring {ring.epoch})",
                epoch=ring.epoch,
                log=log.info,
                node=self.id,
                change=part.change,
            )
            self._serve()
        if self._leader:
            report = ChangeReported(
                node=self.id,
                incarnation=self.incarnation,
                change=part.change,
                epoch=ring.epoch,
                reached=part.reached,
                progress=[move.progress for move in part.moves.values() if move.progress is not None],
            )
            try:
                self.send(self.system.resolve(self._leader), report)
            except ValueError:  # its candidate says nonsense
                log.warning("%s cannot report to %r", self.id, self._leader)
        if not self._report_comes:
            self._report_comes = True
            self.after(REPORT_SECONDS, ReportSoon())

    def _reached(self, part: Part, ring: Ring) -> Phase | None:
        """The last phase that all handoffs have come to the end of; a seal counts in the ring it was proved in."""
        assert ring.change is not None
        if part.ready_epoch == ring.epoch:
            return "seal"  # that was a promise (R12)
        order: tuple[Phase | None, ...] = (None, "transfer", "switch", "seal")
        reached: Phase | None = ring.change.phase
        for move in part.moves.values():
            so_far = move.reached
            if so_far == "seal" and move.proved_epoch != ring.epoch:
                so_far = "switch"
            if order.index(so_far) < order.index(reached):
                reached = so_far
        if reached == "seal" and self.fsync == "always" and self._synced < part.sealed_batch:
            self._sync()
            return "switch"  # what was stamped is not on this node's own disk yet
        if reached == "seal" and not self._affected_slots_are_held(part):
            return "switch"
        return reached

    def _affected_slots_are_held(self, part: Part) -> bool:
        """Whether everything that was stamped before the seal is held by every up member (R9): what is in the tail of a
        learner is then all that not everybody may hold at the commit. The lease of a former coordinator is waited for,
        too, since whoever follows by the commit does not know of it (R21)."""
        affected = [shift.slots for shift in part.shifts]
        held = self._acknowledging.held
        groups = [
            group
            for run, group in self._acknowledging.runs
            if any(run.first <= slots.last and slots.first <= run.last for slots in affected)
        ]
        return all(held.get(peer, 0) >= part.sealed_batch for group in groups for peer in group.peers) and not any(
            self.now() < group.not_before for group in groups
        )

    # Durability

    def _sync_soon(self) -> None:
        self._sync()
        self.after(SYNC_SECONDS, SyncSoon())

    def _sync(self) -> None:
        if not self._syncing and self._synced < self._batch:
            self._syncing = True
            self.send(self._syncer, Sync(batch=self._batch, reply_to=self.ref))

    def _sync_done(self, message: Synced) -> None:
        """Let the replies go that waited. After a failed sync nobody knows what is on disk: nothing is served any more,
        since what a reader would get might be gone after a restart; and this life ends, so that others answer."""
        self._syncing = False
        if message.error:
            what_now = "It starts again, as one that may lack some"
            if message.full:
                what_now = "It starts again once others answer for all its slots; else make room, then restart it"
            self._trouble = (
                f"MISCONF {self.id} serves nothing any more: its disk failed to sync ({message.error}). {what_now}"
            )
            self.system.events.note("trouble", self._trouble, epoch=self._epoch, log=log.critical, node=self.id)
            self._serve()
            self._resume_parked()
        else:
            self._synced = message.batch
        while self._unsynced and (message.error or self._unsynced[0][0] <= self._synced):
            _, executed, reply_to, writes = self._unsynced.popleft()
            if message.error:
                in_doubt = refusal(
                    f"INDOUBT written, but the disk failed to sync ({message.error}): read before repeating"
                )
                replies = [each if each is LATER else refusal(self._trouble) for each in executed.replies]
                for index in writes:
                    replies[index] = LATER if replies[index] is LATER else in_doubt
                executed = replace(executed, replies=replies)
            self.send(reply_to, executed)
        if message.error:
            in_doubt = refusal(f"INDOUBT written, but the disk failed to sync ({message.error})")
            waiting = self._acknowledging.take_all()
            refused = refusal(self._trouble)
            self._settle([(asked, in_doubt if each.writes else refused) for each in waiting for asked in each.asked])
            tell_sync_failed(self, self._member, message)
        else:
            self._release()
            if self._part is not None and self._part.reached == "switch":
                self._report()
        if (self._unsynced or self.fsync == "always") and not self._trouble:
            self._sync()  # of what was written meanwhile: what was parked, and run since, waits in no list of replies

    # Figures

    def _report_figures(self, message: ReportFigures) -> None:
        figures = Figures(
            question=message.question,
            node=self.id,
            incarnation=self.incarnation,
            pid=self._pid,
            epoch=self._epoch,
            keys=self._store.keys,
            bytes=self._store.bytes,
            commands=self.commands,
            writes=self._seq,
            refused=self.refused,
            synced=self._synced == self._batch,
            runs=[self._figures_of(first, last) for first, last in message.runs],
            parked=self.parked,
            parked_seconds=_percentiles(self._waits),
            highest=[self._highest_of(first, last) for first, last in message.runs],
        )
        self.send(message.reply_to, figures)

    def metrics(self) -> Iterator[Metric]:
        yield gauge("keys", "Keys in the store, expired ones included.", self._store.keys)
        yield gauge("store_bytes", "Keys and values in the store.", self._store.bytes)
        yield gauge("ring_epoch", "Of the newest ring that was read.", self._epoch)
        yield gauge("slots_led", "Slots whose coordinator this node is.", sum(r.size for r in self._own()))
        yield gauge("slots_served", "Slots whose reads it answers now.", sum(self._reads))
        yield counter("writes", "Writes that were stamped.", self._seq)
        yield counter("batches", "Batches written to the store.", self._batch)
        yield counter("refused", "Requests for slots that were not answered here.", self.refused)
        yield gauge("batches_unsynced", "Batches that may not be on disk yet.", self._batch - self._synced)
        yield gauge("parked", "Requests that wait for the ring or for other copies.", len(self._parked))
        yield gauge("parked_bytes", "Requests that wait for the ring or for other copies.", self._parked_bytes)
        yield counter("parked_ever", "Requests that have waited for it.", self.parked)
        yield gauge("unacknowledged", "Replies that wait until others hold a write.", self._acknowledging.count)
        yield counter("expired", "Keys deleted because their time was over.", self.expiry.deleted)
        if self._ring is not None:
            yield gauge("copies_missing", "Copies of its slots that are not up.", self._ring.copies_missing(self.id))
        for move in self._part.moves.values() if self._part is not None else ():
            if (far := move.progress) is not None:
                to = {"slots": f"{far.first}-{far.last}", "target": far.target}
                yield gauge("handoff_keys", "Keys that lie behind the cursor of a handoff.", far.keys, **to)
                yield gauge("handoff_keys_of", "Keys that it has to pass.", far.keys_total, **to)
                yield gauge("handoff_bytes", "What was sent of them.", far.bytes, **to)

    def _own(self) -> tuple[Run, ...]:
        return tuple(self._ring.coordinated_by(self.id)) if self._ring is not None and self._named else ()

    @property
    def trouble(self) -> str:
        """Why nothing is served any more, whatever the ring says; "" where it is."""
        return self._trouble

    def readiness(self) -> str:
        """Why this node does not serve what is its own; empty when it does."""
        me = self._ring.by_id.get(self.id) if self._ring is not None else None
        if self._trouble:
            return self._trouble
        if self._ring is None or me is None:
            return "it has no ring yet" if self._ring is None else "the ring does not name it"
        if not self._named or me.state != "up":
            return f"ring {self._ring.epoch} does not call this life up"
        if not self._ring.serving:
            return "the ring is stopped"
        if self._takeover is not None:
            return "it takes over slots"
        own, served = sum(run.size for run in self._own()), sum(self._reads)
        return "" if served >= own else f"reads of {own - served} of its {own} slots wait"

    def _report_loads(self, message: ReportLoads) -> None:
        now, own = self.now(), self.own_runs()
        loads = SlotLoads(
            question=message.question,
            node=self.id,
            incarnation=self.incarnation,
            epoch=self._epoch,
            runs=own,
            keys=[keys for first, last in own for keys in self._store.each_in(first, last + 1)[0]],
            bytes=[size for first, last in own for size in self._store.each_in(first, last + 1)[1]],
            requests=[rate for first, last in own for rate in self._rates.of(first, last, now)],
        )
        self.send(message.reply_to, loads)

    def _report_served(self, message: ReportServed) -> None:
        """The slots that this node coordinates for certain: reads of them would be answered here and now."""
        if self.now() > self._lease_until:
            self._renew_leases(self.now())
            if self._lapsed:
                self._serve()
        served = [run for run, reads in runs(self._reads) if reads]
        cuts = range(0, SLOTS, message.slots_max)
        parts = []
        for part in [part for run in served for part in pieces(run, cuts)]:
            numbers = self._store.numbers(part.first, part.last + 1)
            mark = hashlib.blake2b(repr(numbers).encode(), digest_size=16).hexdigest()
            parts.append((part.first, part.last, mark, *self._figures_of(part.first, part.last)))
        self.send(message.reply_to, Served(question=message.question, epoch=self._epoch, parts=parts))

    def _figures_of(self, first: int, last: int) -> tuple[int, int]:
        return self._store.held_in(max(0, first), min(last, SLOTS - 1) + 1)

    def _highest_of(self, first: int, last: int) -> tuple[int, int]:
        """The highest number of some slots."""
        numbers = self._store.numbers(max(0, first), min(last, SLOTS - 1) + 1)
        return max(((epoch, seq) for _, epoch, seq in numbers), default=(0, 0))

    @property
    def ring_epoch(self) -> int:
        """Of the ring that it obeys."""
        return self._epoch

    def inspect(self) -> dict[str, Any]:
        """What people want to know of it (``runtime/looking.py``)."""
        part = self._part
        return {
            "id": self.id,
            "incarnation": self.incarnation,
            "ring_epoch": self._epoch,
            "tenures": [
                {"slots": str(each.slots), "since_batch": each.since, "peers": each.peers}
                for each in self._tenures.held
            ],
            "taking_over": [str(slots) for slots in self._tenures.taking],
            "batch": self._batch,
            "synced_batch": self._synced,
            "held_batch": dict(self._acknowledging.held),
            "replies_held_back": self._acknowledging.count,
            "parked": len(self._parked),
            "parked_bytes": self._parked_bytes,
            "stalled": self._stalled,
            "trouble": self._trouble,
            "commands": self.commands,
            "refused": self.refused,
            "change": part.change if part is not None else None,
            "handoffs": [
                {"name": move.name, "slots": str(move.slots), "to": move.target.id, "reached": move.reached}
                for move in (part.moves.values() if part is not None else ())
            ],
            "store": type(self._store).__name__,
        }

    def check(self) -> None:
        ring, part = self._ring, self._part
        assert ring is None or self._epoch == ring.epoch
        assert self._synced <= self._batch
        assert not self.staged and not self._to_park and not self._operations
        self.expiry.check()
        assert self._parked_bytes == sum(each.size for each in self._parked)
        assert part is None or (ring is not None and ring.change is not None and ring.change.epoch == part.change)
        ready = part is not None and ring is not None and part.ready_epoch == ring.epoch
        all_served = not self._parked and not self._without_lease  # else more may be parked, so that nothing overtakes
        served = ring, self._trouble, self._tenures.held, ready, all_served, self._reads, self._writes
        if served != self._found_right:
            own, kept = self._what_is_ours(ring)
            own &= int.from_bytes(self._tenures.marks(), "big")
            reads, writes = int.from_bytes(self._reads, "big"), int.from_bytes(self._writes, "big")
            unsealed = own & ~kept
            assert not reads & ~(unsealed if ready else own), "a read of a slot that is another's, or will be"
            assert not writes & ~unsealed, "a write to a slot that is another's, or sealed"
            assert not all_served or reads == (unsealed if ready else own), (
                "not all reads are served here that are ours"
            )
            self._found_right = (*served[:-2], bytes(self._reads), bytes(self._writes))
        self._acknowledging.check()

    def _what_is_ours(self, ring: Ring | None) -> tuple[int, int]:
        """The slots that the ring gives to this incarnation, and those of them that it seals, a byte each, as numbers:
        compared a thousand times faster than slot by slot. Found anew for every ring, from the ring alone."""
        if self._checked[:2] != (ring, self._trouble):
            mine, sealed = bytearray(SLOTS), bytearray(SLOTS)
            me = ring.by_id.get(self.id) if ring is not None else None
            if ring is not None and me is not None and me.incarnation == self.incarnation:
                for run in ring.coordinated_by(self.id) if ring.serving and not self._trouble else ():
                    mine[run.first : run.last + 1] = b"\1" * run.size
                for run in ring.unsettled(self.id):
                    mine[run.first : run.last + 1] = bytes(run.size)
                if ring.change is not None and ring.change.phase == "seal":
                    for shift in planned(ring).sources_of(self.id):
                        if shift.sealed:
                            sealed[shift.slots.first : shift.slots.last + 1] = b"\1" * shift.slots.size
            self._checked = ring, self._trouble, int.from_bytes(mine, "big"), int.from_bytes(sealed, "big")
        return self._checked[2], self._checked[3]


def _is_error(reply: Reply) -> bool:
    return isinstance(reply, bytes) and reply.startswith(b"-")


def _states(members: tuple[Node, ...]) -> str:
    return ", ".join(f"{node.id} is {node.state}" for node in members)


def _size(args: list[bytes]) -> int:
    return sum(map(len, args))


def _percentiles(waits: deque[float]) -> tuple[float, float, float]:
    """The median, the 999th of 1000, and the most."""
    if not waits:
        return 0.0, 0.0, 0.0
    ordered = sorted(waits)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 999 // 1000], ordered[-1]
