"""Holds the records of its slots and runs the data commands on them.

Hears   RingChanged        from Member: which slots it serves from now on
        Execute            from Gateway: the data commands of one turn of the loop
        Synced             from Syncer
        SyncSoon           from itself, once a second under ``everysec``
        ReportFigures      from Ecs and Gateway
Tells   Executed -> Gateway, Sync -> Syncer, Figures -> whoever asked

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

    batch committed -> (always: waits for Synced) -> Executed

Invariants (``check``): it serves exactly the slots that the ring gives to its incarnation; stamps never go back.
"""

import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from ..runtime.store import Record, Store, StoreError
from .messages import Execute, Executed, Figures, ReportFigures, RingChanged, Sync, Synced
from .rules.commands import CROSSSLOT, Command, key_error
from .rules.data_commands import NOT_AN_INTEGER, PATTERN_BYTES_MAX, SYNTAX_ERROR, glob, parse_integer
from .rules.replies import OK, Reply, bulk, error
from .rules.ring import Ring
from .rules.slots import SLOTS, crc_hqx
from .rules.slots import slot as slot_of

log = logging.getLogger(__name__)

SYNC_SECONDS = 1.0
"""How often ``everysec`` syncs."""

SCAN_KEYS_MAX = 10_000
"""The most that one SCAN looks at, whatever COUNT asks for."""

SCAN_BYTES_MAX = 4 * 1024 * 1024
"""The most that one visit to the disk reads for SCAN or KEYS."""

READ_BYTES_PER_TURN_MAX = 64 * 1024 * 1024
"""Values read for the commands of one turn; whoever would exceed it is asked to try again, so memory stays bounded."""

LOOKS_PER_TURN_MAX = 200_000
"""Keys looked at, for the commands of one turn, by those that look at the whole node; a slot counts as much. That is
about a second, and a node that stands still for longer is soon taken for dead. KEYS is refused where there are more."""

CURSORS_MAX = 1024
"""Open SCAN cursors remembered; one that was forgotten starts its slot again (SCAN may return a key twice)."""

NO_SUCH_SLOT = error(b"ERR Invalid slot")
TOO_MUCH = error(
    b"TRYAGAIN the values asked for at once exceed %d bytes; nothing was done, ask for fewer at a time"
    % READ_BYTES_PER_TURN_MAX
)
TOO_MANY_LOOKS = error(
    b"TRYAGAIN the commands sent at once look at more than %d keys; this one was not done" % LOOKS_PER_TURN_MAX
)
INTERNAL_ERROR = error(b"ERR internal error, see the log of this node; nothing was done")
PATTERN_TOO_LONG = error(b"ERR a pattern has at most %d bytes" % PATTERN_BYTES_MAX)


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSoon:
    """A second has passed; local. StorageNode -> StorageNode."""


class TooMuch(Exception):
    """Raised when the values read in one turn exceed READ_BYTES_PER_TURN_MAX."""


class SlotView:
    """One slot's data as the running command sees it; every change is stamped."""

    __slots__ = ("_node", "_store", "left", "slot", "value_bytes_max")

    def __init__(self, node: "StorageNode", store: Store, value_bytes_max: int) -> None:
        self._node, self._store, self.value_bytes_max = node, store, value_bytes_max
        self.slot = 0
        self.left = 0
        """Bytes that may still be read in this turn."""

    def get(self, key: bytes) -> bytes | None:
        record = self._store.get(self.slot, key)
        if record is None:
            return None
        self.left -= len(record.value)
        if self.left < 0:
            raise TooMuch
        return record.value

    def put(self, key: bytes, value: bytes) -> None:
        self._store.put(self.slot, key, Record(value, *self._node.stamp(), 0))

    def delete(self, key: bytes) -> bool:
        if self._store.get(self.slot, key) is None:
            return False
        return self._store.delete(self.slot, key, *self._node.stamp())


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
    ) -> None:
        super().__init__()
        self.id, self.incarnation, self.fsync = id, incarnation, fsync
        self._store, self._syncer, self._pid = store, syncer, pid
        self._key_bytes_max = key_bytes_max
        self._ring: Ring | None = None
        self._checked: Ring | None = None  # the ring that ``check`` has seen
        self._serving = bytearray(SLOTS)
        self._refusals: dict[int, bytes] = {}
        self._epoch = 0
        self._seq = 0
        self._view = SlotView(self, store, value_bytes_max)
        self._wrote = False  # the batch that is running holds a write
        self._named = False  # the ring names this incarnation, and serves
        self._trouble = ""  # why nothing is served any more: the disk refused to sync
        self._looks_left = 0
        self._counted: tuple[tuple[int, int], int] | None = None  # stamp and DBSIZE when it was counted last
        self._batch = 0  # batches committed
        self._synced = 0  # batches known to be on disk
        self._syncing = False
        self._unsynced: deque[tuple[int, Executed, Ref, list[int]]] = deque()
        self._cursors: dict[int, tuple[int, bytes]] = {}
        self._next_cursor = 0
        self.commands = self.refused = 0
        self._whole_node = {
            "dbsize": self._dbsize,
            "keys": self._keys,
            "scan": self._scan,
            "randomkey": self._randomkey,
            "flushdb": self._flush,
            "flushall": self._flush,
            "cluster|countkeysinslot": self._count_keys_in_slot,
            "cluster|getkeysinslot": self._get_keys_in_slot,
            "ring|version": self._version,
        }

    def on_start(self) -> None:
        if self.fsync == "everysec":
            self.after(SYNC_SECONDS, SyncSoon())

    def on_receive(self, message: Execute | Synced | SyncSoon | RingChanged | ReportFigures) -> None:
        match message:
            case Execute():
                self._execute(message)
            case Synced():
                self._sync_done(message)
            case SyncSoon():
                self._sync_soon()
            case RingChanged():
                self._ring_changed(message.ring)
            case ReportFigures():
                self._report_figures(message)
            case _:
                assert_never(message)

    # The ring

    def _ring_changed(self, ring: Ring) -> None:
        if self._ring is not None and ring.epoch <= self._ring.epoch:
            return
        self._ring, self._epoch = ring, ring.epoch
        self._serve()

    def _serve(self) -> None:
        """Find out which slots to serve."""
        ring = self._ring
        me = ring.by_id.get(self.id) if ring is not None else None
        self._named = me is not None and me.incarnation == self.incarnation and ring is not None and ring.serving
        self._serving = bytearray(SLOTS)
        for first, last in self._own_runs():
            self._serving[first : last + 1] = b"\1" * (last + 1 - first)
        self._refusals.clear()

    def _own_runs(self) -> list[tuple[int, int]]:
        if not self._named or self._ring is None or self._trouble:
            return []
        return [(run.first, run.last) for run in self._ring.coordinated_by(self.id)]

    def _refuse(self, slot: int) -> bytes:
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

    def stamp(self) -> tuple[int, int]:
        """The version of the next write: unique, since every incarnation serves under epochs of its own."""
        self._seq += 1
        self._wrote = True
        return self._epoch, self._seq

    # Commands

    def _execute(self, message: Execute) -> None:
        requests, replies = message.requests, list[Reply]()
        wrote = False
        self._view.left, self._looks_left = READ_BYTES_PER_TURN_MAX, LOOKS_PER_TURN_MAX
        while len(replies) < len(requests):  # once, unless a command looks at the whole node after a write
            done = len(replies)
            part = requests[done:] if done else requests
            answers = self._run(part)
            if self._wrote:
                wrote = True
                try:
                    self._commit()
                except StoreError as failure:
                    refused = refusal(f"MISCONF nothing was written: {failure}")
                    answers = self._without_writes(part[: len(answers)], refused)
            replies = replies + answers if done else answers
        executed = Executed(replies=replies)
        if self._unsynced or (wrote and self.fsync == "always" and self._synced < self._batch):
            writes = [index for index, (command, _) in enumerate(requests) if command.writes] if wrote else []
            self._unsynced.append((self._batch, executed, message.reply_to, writes))
            self._sync()
        else:
            self.send(message.reply_to, executed)

    def _run(self, requests: list[tuple[Command, list[bytes]]]) -> list[Reply]:
        """Run commands in order; what they write is staged in the store. Stops early, with fewer replies than requests,
        before a command that looks at the whole node when something is staged, since scans see what is committed.

        The hot path. GET and plain SET are written out here: through ``Command.run`` and the view each costs a
        microsecond more, a third of all that a pipelined command costs.
        """
        serving, view = self._serving, self._view
        get, put = self._store.get, self._store.put
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
                        if serving[slot]:
                            record = get(slot, key)
                            if record is None:
                                add(None)
                            else:
                                value = record.value
                                view.left -= len(value)
                                if view.left < 0:
                                    raise TooMuch
                                add(b"$%d\r\n%b\r\n" % (len(value), value))
                        else:
                            add(self._refuse(slot))
                        continue
                    if name == "set" and len(args) == 3:
                        key = args[1]
                        slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
                        if serving[slot] and 0 < len(key) <= key_bytes_max and len(args[2]) <= value_bytes_max:
                            self._seq = seq = self._seq + 1
                            put(slot, key, Record(args[2], self._epoch, seq, 0))
                            self._wrote = True
                            add(OK)
                            continue
                    if self._wrote and name in self._whole_node:
                        break
                    add(self._run_one(command, args, view))
                self.commands += len(replies)
                return replies
            except StoreError as failure:  # a record that cannot be read spoils its own command only
                add(refusal(f"ERR {failure}"))
            except TooMuch:
                add(TOO_MUCH)
            except Exception:
                if self._wrote:
                    raise  # who knows what is staged: the process ends, and what was acknowledged is on disk
                log.exception("%s failed on a command", self.id)
                add(INTERNAL_ERROR)

    def _run_one(self, command: Command, args: list[bytes], view: SlotView) -> Reply:
        own = self._whole_node.get(command.name)
        if own is not None:
            return own(args)
        keys = command.keys(args)
        slot = slot_of(keys[0])
        if len(keys) > 1 and any(slot_of(key) != slot for key in keys):
            return CROSSSLOT
        if not self._serving[slot]:
            return self._refuse(slot)
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
        self._wrote = False
        reads = iter(self._run([request for request in requests if not request[0].writes]))
        return [refused if command.writes else next(reads) for command, _ in requests]

    def _commit(self) -> None:
        """What was staged becomes part of the store, or none of it does (StoreError)."""
        self._wrote = False
        self._store.commit()
        self._batch += 1

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
        else:
            self._synced = message.batch
        while self._unsynced and (message.error or self._unsynced[0][0] <= self._synced):
            _, executed, reply_to, writes = self._unsynced.popleft()
            if message.error:
                in_doubt = refusal(
                    f"INDOUBT written, but the disk failed to sync ({message.error}): read before repeating"
                )
                executed = Executed(replies=[refusal(self._trouble)] * len(executed.replies))
                for index in writes:
                    executed.replies[index] = in_doubt
            self.send(reply_to, executed)
        if self._unsynced and not self._trouble:
            self._sync()

    # Commands on all slots of this node

    def _dbsize(self, args: list[bytes]) -> Reply:
        if not self._named:
            return self._refuse(0)
        stamp = (self._epoch, self._seq)
        if self._counted is None or self._counted[0] != stamp:
            if not self._may_look(SLOTS):
                return TOO_MANY_LOOKS
            count = self._store.keys_in
            keys = sum(count(slot) for first, last in self._own_runs() for slot in range(first, last + 1))
            self._counted = (stamp, keys)
        return self._counted[1]

    def _may_look(self, keys: int) -> bool:
        """Whether this turn has time left to look at so many keys; one command always may."""
        first = self._looks_left == LOOKS_PER_TURN_MAX
        self._looks_left -= keys
        return first or self._looks_left >= 0

    def _scanned(self, first: int, last: int, after: tuple[int, bytes] | None, keys_max: int) -> list[Any]:
        """A look at the disk, which does not know what is staged."""
        assert not self._wrote
        return self._store.scan(first, last, after, keys_max, SCAN_BYTES_MAX)

    def _keys(self, args: list[bytes]) -> Reply:
        if not self._named:
            return self._refuse(0)
        if len(args[1]) > PATTERN_BYTES_MAX:
            return PATTERN_TOO_LONG
        if self._store.keys > LOOKS_PER_TURN_MAX:
            return refusal(
                f"ERR KEYS would look at {self._store.keys} keys, more than {LOOKS_PER_TURN_MAX}, and stop this node "
                "meanwhile: use SCAN"
            )
        if not self._may_look(self._store.keys):
            return TOO_MANY_LOOKS
        matches = glob(args[1]).fullmatch
        found: list[Reply] = []
        for first, last in self._own_runs():
            after = None
            while part := self._scanned(first, last, after, SCAN_KEYS_MAX):
                found += [bulk(key) for _, key, _ in part if matches(key)]
                after = part[-1][:2]
        return found

    def _scan(self, args: list[bytes]) -> Reply:
        """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]: a cursor names a slot and a place in it."""
        if not self._named:
            return self._refuse(0)
        cursor = parse_integer(args[1])
        if cursor is None or cursor < 0:
            return error(b"ERR invalid cursor")
        pattern, count, wanted = b"*", 10, b"string"
        options = iter(args[2:])
        for option in options:
            value = next(options, None)
            match option.upper():
                case b"MATCH" if value is not None:
                    pattern = value
                case b"COUNT" if value is not None:
                    wished = parse_integer(value)
                    if wished is None:
                        return NOT_AN_INTEGER
                    if wished < 1:
                        return SYNTAX_ERROR
                    count = min(wished, SCAN_KEYS_MAX)
                case b"TYPE" if value is not None:
                    wanted = value.lower()
                case _:
                    return SYNTAX_ERROR
        if len(pattern) > PATTERN_BYTES_MAX:
            return PATTERN_TOO_LONG
        matches = glob(pattern).fullmatch
        if not self._may_look(count):
            return TOO_MANY_LOOKS
        slot = cursor & (SLOTS - 1)
        after = self._cursors.pop(cursor >> 14, None) if cursor else None
        if after is not None and after[0] != slot:
            after = None
        for first, last in self._own_runs():
            if last < slot:
                continue
            part = self._scanned(max(first, slot), last, after, count)
            after = None
            if part:
                found: list[Reply] = [bulk(key) for _, key, _ in part if matches(key)] if wanted == b"string" else []
                return [bulk(b"%d" % self._remember(part[-1][:2])), found]
        return [bulk(b"0"), []]

    def _remember(self, place: tuple[int, bytes]) -> int:
        """A cursor for the place; never 0, which means the beginning and the end."""
        self._next_cursor += 1
        if len(self._cursors) >= CURSORS_MAX:
            del self._cursors[next(iter(self._cursors))]
        self._cursors[self._next_cursor] = place
        return self._next_cursor << 14 | place[0]

    def _randomkey(self, args: list[bytes]) -> Reply:
        if not self._named:
            return self._refuse(0)
        if not self._may_look(SLOTS):
            return TOO_MANY_LOOKS
        counts = [
            (slot, self._store.keys_in(slot)) for first, last in self._own_runs() for slot in range(first, last + 1)
        ]
        slots, weights = zip(*[each for each in counts if each[1]] or [(0, 0)], strict=True)
        if not any(weights):
            return None
        slot = self.random.choices(slots, weights)[0]
        part = self._scanned(slot, slot, None, min(self._store.keys_in(slot), SCAN_KEYS_MAX))
        return bulk(self.random.choice(part)[1]) if part else None

    def _flush(self, args: list[bytes]) -> Reply:
        if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"SYNC", b"ASYNC")):
            return SYNTAX_ERROR
        if not self._named or self._trouble:
            return self._refuse(0)
        if not self._may_look(SLOTS):
            return TOO_MANY_LOOKS
        for first, last in self._own_runs():
            for slot in range(first, last + 1):
                if self._store.keys_in(slot):
                    self._store.flush(slot, *self.stamp())
        return OK

    def _count_keys_in_slot(self, args: list[bytes]) -> Reply:
        slot = _slot_argument(args[2])
        return NO_SUCH_SLOT if slot is None else self._store.keys_in(slot)

    def _get_keys_in_slot(self, args: list[bytes]) -> Reply:
        slot, left = _slot_argument(args[2]), parse_integer(args[3])
        if slot is None or left is None or left < 0:
            return error(b"ERR Invalid slot or number of keys")
        left = min(left, self._store.keys_in(slot))
        if not self._may_look(left):
            return TOO_MANY_LOOKS
        found: list[Reply] = []
        after = None
        while left > 0 and (part := self._scanned(slot, slot, after, min(left, SCAN_KEYS_MAX))):
            found += [bulk(key) for _, key, _ in part]
            after, left = part[-1][:2], left - len(part)
        return found

    def _version(self, args: list[bytes]) -> Reply:
        slot = slot_of(args[2])
        if not self._serving[slot]:
            return self._refuse(slot)
        record = self._store.get(slot, args[2])
        return None if record is None else [record.epoch, record.seq]

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
        )
        self.send(message.reply_to, figures)

    def check(self) -> None:
        ring = self._ring
        assert ring is None or self._epoch == ring.epoch
        assert self._synced <= self._batch
        if ring is self._checked:
            return  # what is served changes only with the ring, and 16384 looks are too many for every message
        self._checked = ring
        for slot in range(SLOTS):
            serves = ring is not None and ring.serving and not self._trouble
            coordinator = ring.coordinators[slot] if ring is not None and serves else None
            mine = coordinator is not None and (coordinator.id, coordinator.incarnation) == (self.id, self.incarnation)
            assert bool(self._serving[slot]) == mine, slot


def refusal(text: str) -> bytes:
    """An error reply; its first word is the code."""
    return error(text.encode())


def _slot_argument(text: bytes) -> int | None:
    slot = parse_integer(text)
    return slot if slot is not None and 0 <= slot < SLOTS else None
