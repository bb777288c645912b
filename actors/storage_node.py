"""Holds the records of its slots and runs the data commands on them.

Hears   RingChanged        from Member: which slots it serves from now on, which of them move
        LeaderChanged      from Election: whom to report to
        Execute            from Gateway: the data commands of one turn of the loop
        Synced             from Syncer
        LearnerHolds, HandoffReached, HandoffProgress      from its Handoffs
        SyncSoon, ReportSoon, Overdue                      from itself
        ReportFigures      from Ecs and Gateway
Tells   Executed, Settled -> Gateway; Sync -> Syncer; Follow, Prove -> Handoff; ChangeReported -> the leading Ecs;
        Figures -> whoever asked

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

    batch committed -> (always: waits for Synced) -> (a learner is required: waits for LearnerHolds) -> answered

*While a change of the ring is in flight* this node has a `Handoff` for every run of slots that it must make another
node equal for. What the ring's phase asks of it:

    transfer   writes go to the handoffs, which pass on those that lie behind their cursors
    switch     a write to an affected slot is answered only once the learner holds it, too (R1, R9)
    seal       writes to slots that get another coordinator are *parked*, not stamped; once every learner has proved
               that it holds all, synced, this node says Ready, and parks reads as well
    after it   whatever ring comes next says what becomes of the parked: MOVED, or run here after all

**Ready is a promise** (R12): until a newer ring is *read* nothing is resumed, whatever clock, message or silence says.
Who is to own a slot parks requests for it, too, in a seal: a client that is sent there early waits for the ring.

Invariants (``check``): it serves exactly the slots that the ring gives to its incarnation, less the sealed ones; stamps
never go back; what it has promised it keeps.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.election import LeaderChanged
from ..runtime.message import message
from ..runtime.store import Record, Store, StoreError
from .handoff import Handoff
from .messages import (
    LATER,
    ChangeReported,
    Execute,
    Executed,
    Figures,
    Follow,
    HandoffProgress,
    HandoffReached,
    LearnerHolds,
    Operation,
    Prove,
    ReportFigures,
    RingChanged,
    Settled,
    Sync,
    Synced,
)
from .rules.change import Phase
from .rules.commands import CROSSSLOT, Command, key_error
from .rules.fields import RingError
from .rules.plan import Shift, Transfer
from .rules.replies import OK, Reply, error, refusal
from .rules.ring import Node, Ring
from .rules.slots import SLOTS, Run, crc_hqx
from .rules.slots import slot as slot_of
from .rules.transitions import planned
from .slot_view import SlotView, TooMuch
from .whole_node import WholeNode

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

UNHELD_WRITES_MAX = 10_000
"""Writes that wait for a learner; while there are so many, further ones are parked."""
UNHELD_SECONDS_MAX = 5.0
"""A write that no learner has taken within this time is answered INDOUBT (R6)."""

OVERDUE_SECONDS = 0.25
"""How often those that wait are looked at."""

WAITS_KEPT_MAX = 100_000
"""So many of the last parked requests are remembered by how long they waited."""

PARK_WRITES, PARK_ALL = 1, 2

TOO_MUCH = error(
    b"TRYAGAIN the values asked for at once exceed %d bytes; nothing was done, ask for fewer at a time"
    % READ_BYTES_PER_TURN_MAX
)
INTERNAL_ERROR = error(b"ERR internal error, see the log of this node; nothing was done")
PARKED_TOO_MANY = error(
    b"TRYAGAIN the slot is moving to another node, and %d requests wait for that already; nothing was done"
    % PARKED_REQUESTS_MAX
)
PARKED_TOO_LONG = error(
    b"TRYAGAIN the slot is moving to another node, and that takes longer than %g s; nothing was done"
    % PARKED_SECONDS_MAX
)
UNHELD_TOO_LONG = error(
    b"INDOUBT written here, but the node that the slot is moving to has not said within %g s that it holds it, too: "
    b"read before repeating" % UNHELD_SECONDS_MAX
)
DEPOSED = error(b"INDOUBT written here, but another node answers for the slot by now: read before repeating")


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


class Unheld(NamedTuple):
    """A write that holds here and not yet at everybody who must hold it."""

    asked: Asked
    reply: Reply
    batch: int
    slot: int
    handoffs: tuple[str, ...]


@dataclass(slots=True)
class Move:
    """One handoff, as its source sees it."""

    name: str
    slots: Run
    ref: Ref
    held: int = 0
    """Batches up to this one the learner holds."""
    reached: Phase | None = None
    proved_epoch: int = 0
    """The ring whose seal it has proved."""
    progress: HandoffProgress | None = None


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
    """The last batch that was committed before the seal of that ring."""
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
        handoff_bytes_per_second: int = 0,
    ) -> None:
        super().__init__()
        self.id, self.incarnation, self.fsync = id, incarnation, fsync
        self._store, self._syncer, self._pid = store, syncer, pid
        self._key_bytes_max = key_bytes_max
        self._handoff_bytes_per_second = handoff_bytes_per_second
        self._ring: Ring | None = None
        self._leader = ""
        self._checked: tuple[Ring | None, str, int, int] = None, "", 0, 0  # what ``check`` has found out of a ring
        self._reads = bytearray(SLOTS)
        """1: reads of the slot are run here."""
        self._writes = bytearray(SLOTS)
        self._parks = bytearray(SLOTS)
        """0, PARK_WRITES or PARK_ALL: what becomes of requests that are not run."""
        self._follows = False  # some slots have handoffs
        self._refusals: dict[int, bytes] = {}
        self._epoch = 0
        self._seq = 0
        self._view = SlotView(self, store, value_bytes_max)
        self._whole_node = WholeNode(self, store)
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
        self._unheld: dict[tuple[str, ...], deque[Unheld]] = {}
        """By the handoffs they wait for, in the order of their batches."""
        self._unheld_count = 0
        self._stalled = False  # too many are unheld
        self._overdue_comes = self._report_comes = False
        self._waits: deque[float] = deque(maxlen=WAITS_KEPT_MAX)
        self.commands = self.refused = self.parked = 0

    def on_start(self) -> None:
        if self.fsync == "everysec":
            self.after(SYNC_SECONDS, SyncSoon())

    def on_receive(
        self,
        message: Execute
        | Synced
        | LearnerHolds
        | HandoffReached
        | HandoffProgress
        | SyncSoon
        | ReportSoon
        | Overdue
        | RingChanged
        | LeaderChanged
        | ReportFigures,
    ) -> None:
        match message:
            case Execute():
                self._execute(message)
            case Synced():
                self._sync_done(message)
            case LearnerHolds():
                self._learner_holds(message)
            case HandoffReached():
                self._handoff_reached(message)
            case HandoffProgress():
                self._handoff_progress(message)
            case SyncSoon():
                self._sync_soon()
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
            case _:
                assert_never(message)

    # The ring

    def _ring_changed(self, ring: Ring) -> None:
        if self._ring is not None and ring.epoch <= self._ring.epoch:
            return
        self._ring, self._epoch = ring, ring.epoch
        me = ring.by_id.get(self.id)
        self._named = me is not None and me.incarnation == self.incarnation and me.state != "down"
        self._take_part(ring)
        self._serve()
        self._release_unheld()
        self._resume_parked()

    def _serve(self) -> None:
        """Find out which slots to serve, and what to park."""
        self._reads, self._writes, self._parks = bytearray(SLOTS), bytearray(SLOTS), bytearray(SLOTS)
        for first, last in self.own_runs():
            size = last + 1 - first
            self._reads[first : last + 1] = self._writes[first : last + 1] = b"\1" * size
        part, ring = self._part, self._ring
        if part is not None and ring is not None and ring.change is not None and self.serves:
            if ring.change.phase == "seal":
                ready = part.ready_epoch == ring.epoch
                for shift in part.shifts:
                    if shift.sealed:
                        self._park(shift.slots, PARK_ALL if ready else PARK_WRITES)
            elif self._stalled:
                for move in part.moves.values():
                    self._park(move.slots, PARK_WRITES)
        if ring is not None and ring.change is not None and ring.change.phase == "seal" and ring.serving and part:
            for shift in part.gains:
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

    def serves_reads_of(self, slot: int) -> bool:
        return bool(self._reads[slot])

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

    def _refusal(self, slot: int) -> str:
        ring = self._ring
        if self._trouble:
            return self._trouble
        if ring is None:
            return f"CLUSTERDOWN Hash slot not served: {self.id} waits for a ring that names it"
        if not ring.serving:
            return "CLUSTERDOWN The cluster is stopped: data and nodes stay, 'ringkeeper start' serves again"
        coordinator = ring.coordinators[slot]
        if coordinator is None:
            members = ", ".join(f"{node.id} is {node.state}" for node in ring.lists[slot])
            return f"CLUSTERDOWN Hash slot not served: slot {slot} waits for its node ({members}; epoch {ring.epoch})"
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
        """What comes after a parked request must not overtake it: park all on its slot; all there is, if it is about
        all slots of this node."""
        keys = command.keys(args)
        if keys:
            slot = slot_of(keys[0])
            self._reads[slot], self._writes[slot], self._parks[slot] = 0, 0, PARK_ALL
        else:
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

    def flush_slot(self, slot: int) -> None:
        """Stage that every key of a slot goes."""
        epoch, seq = self.stamp()
        self._store.flush(slot, epoch, seq)
        self.wrote((slot, None, None, epoch, seq, 0))

    # Commands

    def _execute(self, message: Execute) -> None:
        requests, number, by, now = message.requests, message.number, message.reply_to, self.now()
        before = self._batch
        replies, later = self._perform(requests, lambda index: Asked(by, number, index, now))
        executed = Executed(number=number, replies=replies, later=later)
        wrote = self._batch > before
        if self.fsync == "always" and self._synced < self._batch and not self._trouble:
            # Reads wait, too: what they have found may not be on disk yet.
            writes = [index for index, (command, _) in enumerate(requests) if command.writes] if wrote else []
            self._unsynced.append((self._batch, executed, message.reply_to, writes))
            self._sync()
        else:
            self.send(message.reply_to, executed)

    def _perform(
        self, requests: list[tuple[Command, list[bytes]]], asked: Callable[[int], Asked]
    ) -> tuple[list[Reply], int]:
        """Run requests as one batch, or as several where a command looks at the whole node after a write. Returns the
        replies, and how many of them are LATER; ``asked`` says of a position whose request it is."""
        replies: list[Reply] = []
        later = 0
        self._view.left = READ_BYTES_PER_TURN_MAX
        self._whole_node.begin_turn()
        while len(replies) < len(requests):
            done = len(replies)
            part = requests[done:] if done else requests
            answers = self._run(part)
            if self.staged:
                try:
                    self._commit()
                except StoreError as failure:
                    answers = self._without_writes(
                        part[: len(answers)], refusal(f"MISCONF nothing was written: {failure}")
                    )
                else:
                    if self._operations:
                        later += self._pass_on(part, answers, asked, done)
            if self._to_park:
                later += len(self._to_park)
                for index in self._to_park:
                    command, args = part[index]
                    self._wait(Parked(asked(done + index), command, args, _size(args)))
                self._to_park, self._to_park_bytes = [], 0
            replies = replies + answers if done else answers
        return replies, later

    def _run(self, requests: list[tuple[Command, list[bytes]]]) -> list[Reply]:
        """Run commands in order; what they write is staged in the store. Stops early, with fewer replies than requests,
        before a command that looks at the whole node when something is staged, since scans see what is committed.

        The hot path. GET and plain SET are written out here: through ``Command.run`` and the view each costs a
        microsecond more, a third of all that a pipelined command costs.
        """
        reads, writes, view = self._reads, self._writes, self._view
        get, put = self._store.get, self._store.put
        follows, operations, whole_node = self._follows, self._operations, self._whole_node.commands
        key_bytes_max, value_bytes_max = self._key_bytes_max, view.value_bytes_max
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
                            record = get(slot, key)
                            if record is None:
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
                            self._seq = seq = self._seq + 1
                            put(slot, key, Record(args[2], self._epoch, seq, 0))
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
                add(refusal(f"ERR {failure}"))
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
        if own is not None:
            if keys and not self._reads[slot_of(keys[0])]:
                return self._refuse_or_park(slot_of(keys[0]), command, args)
            return self._later(command, args) if command.writes and any(self._parks) else own(args)
        slot = slot_of(keys[0])
        if len(keys) > 1 and any(slot_of(key) != slot for key in keys):
            return CROSSSLOT
        if not (self._writes if command.writes else self._reads)[slot]:
            return self._refuse_or_park(slot, command, args)
        if command.writes:
            for key in keys:
                if bad := key_error(key, self._key_bytes_max):
                    return bad
            if len(keys) > 1:  # a record that cannot be read must be met before the first of them is changed
                for key in keys:
                    self._store.get(slot, key)
        view.slot = slot
        assert command.run is not None, command.name
        return command.run(view, args)

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

    # Writes that a learner must hold

    def _pass_on(
        self,
        requests: list[tuple[Command, list[bytes]]],
        replies: list[Reply],
        asked: Callable[[int], Asked],
        offset: int,
    ) -> int:
        """Tell the handoffs what was written. Where a learner is required, the replies wait: returns how many."""
        operations, part = self._operations[:], self._part
        self._operations.clear()
        assert part is not None
        for move in part.moves.values():
            own = [each for each in operations if move.slots.first <= each[0] <= move.slots.last]
            if own:
                self.send(move.ref, Follow(batch=self._batch, operations=own))
        if not self._required():
            return 0
        assert self._ring is not None and self._ring.change is not None
        if self._ring.change.phase == "seal":
            sealed = [shift.slots for shift in part.shifts if shift.sealed]
            stamped = [each[0] for each in operations if any(run.first <= each[0] <= run.last for run in sealed)]
            assert not stamped, f"sealed slots were written to: {stamped[:5]}"
        waiting = 0
        written = {each[0] for each in operations}
        for index, (command, args) in enumerate(requests[: len(replies)]):
            if not command.writes or replies[index] is LATER:
                continue
            keys = command.keys(args)
            slots = {slot_of(keys[0])} & written if keys else written
            handoffs = tuple(sorted({name for slot in slots for name in part.over(slot)}))
            if handoffs:
                reply, replies[index] = replies[index], LATER
                self._hold_back(Unheld(asked(offset + index), reply, self._batch, min(slots), handoffs))
                waiting += 1
        if waiting:
            self._look_at_the_overdue()
            if self._unheld_count >= UNHELD_WRITES_MAX and not self._stalled:
                self._stalled = True
                self._serve()
        return waiting

    def _required(self) -> bool:
        """Whether a write to a slot that moves needs its learner (R9)."""
        ring = self._ring
        return ring is not None and ring.change is not None and ring.change.phase != "transfer"

    def _learner_holds(self, message: LearnerHolds) -> None:
        move = self._part.moves.get(message.handoff) if self._part is not None else None
        if move is not None and message.batch > move.held:
            move.held = message.batch
            self._release_unheld(message.handoff)

    def _hold_back(self, unheld: Unheld) -> None:
        self._unheld.setdefault(unheld.handoffs, deque()).append(unheld)
        self._unheld_count += 1

    def _release_unheld(self, handoff: str | None = None) -> None:
        """Answer the writes that are held by everybody who must hold them now (R1): a learner that the newest ring does
        not know any more need not. ``handoff``: only those that wait for this one can have come to be held."""
        if not self._unheld_count:
            return
        ring, moves = self._ring, self._part.moves if self._part is not None else {}
        mine = [(run.first, run.last) for run in ring.coordinated_by(self.id)] if ring and self._named else []
        synced = self._synced if self.fsync == "always" else self._batch
        for handoffs, waiting in list(self._unheld.items()):
            if handoff is not None and handoff not in handoffs:
                continue
            held = min([synced, *(moves[name].held for name in handoffs if name in moves)])
            while waiting:
                first = waiting[0]
                if not any(run[0] <= first.slot <= run[1] for run in mine):
                    reply: Reply = DEPOSED
                elif first.batch <= held:
                    reply = first.reply
                else:
                    break
                self._unheld_count -= 1
                self._settle(waiting.popleft().asked, reply)
            if not waiting:
                del self._unheld[handoffs]
        if self._stalled and self._unheld_count < UNHELD_WRITES_MAX // 2:
            self._stalled = False
            self._serve()
            self._resume_parked()

    def _settle(self, asked: Asked, reply: Reply) -> None:
        self.send(asked.by, Settled(number=asked.number, index=asked.place, reply=reply))

    # Requests that wait for the next ring

    def _wait(self, parked: Parked) -> None:
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
        for each, reply in zip(parked, replies, strict=True):
            if reply is LATER:  # parked again, or not yet held by everybody
                continue
            self.parked += 1
            self._waits.append(now - each.asked.since)
            keys = each.command.keys(each.args)
            slot = slot_of(keys[0]) if keys else next((first for first, _ in self.own_runs()), 0)
            if unsynced and self._reads[slot]:
                self._hold_back(Unheld(each.asked, reply, self._batch, slot, ()))
            else:
                self._settle(each.asked, reply)
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
        while self._parked and now - self._parked[0].asked.since > PARKED_SECONDS_MAX:
            parked = self._parked.popleft()
            self._parked_bytes -= parked.size
            self.parked += 1
            self._waits.append(now - parked.asked.since)
            self._settle(parked.asked, PARKED_TOO_LONG)
        for waiting in self._unheld.values():
            while waiting and now - waiting[0].asked.since > UNHELD_SECONDS_MAX:
                self._unheld_count -= 1
                self._settle(waiting.popleft().asked, UNHELD_TOO_LONG)
        if len(self._parked) < before:  # what was parked only so that it did not overtake those can be run
            self._serve()
            self._resume_parked()
        if self._parked or self._unheld_count:
            self._look_at_the_overdue()

    # The change in flight

    def _take_part(self, ring: Ring) -> None:
        """Begin, go on with or end this node's part in the change that the ring has in flight."""
        change = ring.change
        if self._part is not None and (change is None or change.epoch != self._part.change or not self._named):
            for move in self._part.moves.values():
                move.ref.stop(block=False)
            self._part = None
            self._follows = self._stalled = False
        if change is None:
            return
        if self._part is None:
            try:
                plan = planned(ring)
            except RingError as error:
                log.error("%s takes no part in the change of ring %d: %s", self.id, ring.epoch, error)
                return
            shifts = plan.sources_of(self.id) if self._named else ()
            gains = tuple(each for each in plan.shifts if each.sealed and each.successor == self.id)
            self._part = Part(change.epoch, shifts, gains)
            members = {node.id: node for node in (*ring.circle, *change.comes)}
            if shifts:
                for transfer in plan.transfers:
                    if transfer.source == self.id:
                        self._hand_over(change.epoch, transfer, members[transfer.target])
            self._follows = bool(self._part.moves)
        if change.phase == "seal" and self._part.sealed_epoch != ring.epoch:
            self._part.sealed_epoch, self._part.sealed_batch = ring.epoch, self._batch
        if change.phase != "transfer":
            for move in self._part.moves.values():
                self.send(move.ref, Prove(phase=change.phase, epoch=ring.epoch))
        self._report()

    def _hand_over(self, change: int, transfer: Transfer, target: Node) -> None:
        assert self._part is not None
        name = f"handoff-{change}-{transfer.slots}-{target.id}"
        ref = self.system.spawn(
            Handoff,
            change=change,
            epoch=self._epoch,
            transfer=transfer,
            incarnation=self.incarnation,
            target=self.system.resolve(f"ringkeeper://{target.bridge_address}/replica"),
            storage=self.ref,
            store=self._store,
            synced=self.fsync == "always",
            bytes_per_second=self._handoff_bytes_per_second,
            name=name,
        )
        self._part.moves[name] = Move(name, transfer.slots, ref)

    def _handoff_reached(self, message: HandoffReached) -> None:
        move = self._part.moves.get(message.handoff) if self._part is not None else None
        if move is None:
            return
        move.reached = message.phase
        if message.phase == "seal":
            move.proved_epoch = message.epoch
        change = self._ring.change if self._ring is not None else None
        if message.phase is None and change is not None and change.phase != "transfer":  # what it has proved is void
            self.send(move.ref, Prove(phase=change.phase, epoch=self._epoch))
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
        part.reached = self._reached(part, ring)
        if part.reached == "seal" and part.ready_epoch != ring.epoch:
            part.ready_epoch = ring.epoch
            log.info("%s is ready for the commit of change %d (ring %d)", self.id, part.change, ring.epoch)
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
        order: tuple[Phase | None, ...] = (None, "transfer", "switch", "seal")
        reached: Phase | None = ring.change.phase
        for move in part.moves.values():
            so_far = move.reached
            if so_far == "seal" and move.proved_epoch != ring.epoch:
                so_far = "switch"
            if order.index(so_far) < order.index(reached):
                reached = so_far
        if reached == "seal" and self.fsync == "always" and self._synced < part.sealed_batch:
            return "switch"  # what was stamped is not on this node's own disk yet
        return reached

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
        since what a reader would get might be gone after a restart."""
        self._syncing = False
        if message.error:
            self._trouble = (
                f"MISCONF {self.id} serves nothing any more: its disk failed to sync ({message.error}). "
                "Look after the disk, then restart the node"
            )
            log.critical(self._trouble)
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
            held_back, self._unheld, self._unheld_count = self._unheld, {}, 0
            for unheld in (each for waiting in held_back.values() for each in waiting):
                self._settle(unheld.asked, refusal(f"INDOUBT written, but the disk failed to sync ({message.error})"))
        else:
            self._release_unheld()
            if self._part is not None and self._part.reached == "switch":
                self._report()
        if self._unsynced and not self._trouble:
            self._sync()

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
        )
        self.send(message.reply_to, figures)

    def _figures_of(self, first: int, last: int) -> tuple[int, int]:
        slots = range(max(0, first), min(last, SLOTS - 1) + 1)
        return sum(map(self._store.keys_in, slots)), sum(map(self._store.bytes_in, slots))

    def check(self) -> None:
        ring, part = self._ring, self._part
        assert ring is None or self._epoch == ring.epoch
        assert self._synced <= self._batch
        assert not self.staged and not self._to_park and not self._operations
        assert self._parked_bytes == sum(each.size for each in self._parked)
        assert part is None or (ring is not None and ring.change is not None and ring.change.epoch == part.change)
        ready = part is not None and ring is not None and part.ready_epoch == ring.epoch
        own, kept = self._what_is_ours(ring)
        reads, writes = int.from_bytes(self._reads, "big"), int.from_bytes(self._writes, "big")
        unsealed = own & ~kept
        if not self._parked:  # else more may be parked, so that nothing overtakes
            assert reads == (unsealed if ready else own), "reads are served here that are not ours, or not all"
            assert self._stalled or writes == unsealed, "writes are served here that are not ours, or not all"
        assert not reads & ~(unsealed if ready else own), "a read of a slot that is another's, or will be"
        assert not writes & ~unsealed, "a write to a slot that is another's, or sealed"

    def _what_is_ours(self, ring: Ring | None) -> tuple[int, int]:
        """The slots that the ring gives to this incarnation, and those of them that it seals, a byte each, as numbers:
        compared a thousand times faster than slot by slot. Found anew for every ring, from the ring alone."""
        if self._checked[:2] != (ring, self._trouble):
            mine, sealed = bytearray(SLOTS), bytearray(SLOTS)
            me = ring.by_id.get(self.id) if ring is not None else None
            if ring is not None and me is not None and me.incarnation == self.incarnation:
                for run in ring.coordinated_by(self.id) if ring.serving and not self._trouble else ():
                    mine[run.first : run.last + 1] = b"\1" * run.size
                if ring.change is not None and ring.change.phase == "seal":
                    for shift in planned(ring).sources_of(self.id):
                        if shift.sealed:
                            sealed[shift.slots.first : shift.slots.last + 1] = b"\1" * shift.slots.size
            self._checked = ring, self._trouble, int.from_bytes(mine, "big"), int.from_bytes(sealed, "big")
        return self._checked[2], self._checked[3]


def _size(args: list[bytes]) -> int:
    return sum(map(len, args))


def _percentiles(waits: deque[float]) -> tuple[float, float, float]:
    """The median, the 999th of 1000, and the most."""
    if not waits:
        return 0.0, 0.0, 0.0
    ordered = sorted(waits)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 999 // 1000], ordered[-1]
