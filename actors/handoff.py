"""Makes another node equal for a run of slots, while both go on serving.

Hears   Follow, Prove                                      from StorageNode, which coordinates the slots
        Learning, Disowned, Surveyed, KeysListed, Replicated      from Replica of the target
        Terminated                                         the link to the target is lost
        Tick, GoOn                                         from itself
Tells   Learn, Survey, ListKeys, Chunk, Replicate -> Replica of the target;
        LearnerHolds, HandoffReached, HandoffProgress -> StorageNode

A *cursor* walks through the slots in the order of (slot, key). What lies behind it is followed: writes to it go to the
learner in the same numbered stream, on the same ordered link, as the chunks; what lies ahead is not sent yet. So no
snapshot is needed and nothing is merged. The walk is a mirror (R26): where the learner holds something, its digest
over an interval is compared with the store's own *of the turn in which the cursor moves*; where they differ, digests of
parts of it, without the keys that were written since the learner's newest version; of parts that differ still, its list
of keys and versions; then only what differs is sent, removals included. Ahead of the cursor a learner's content stands
still, so what is known of it stays good until the cursor has passed, whatever is written here meanwhile.

    asking --Learning--> walking --cursor at the end, all acknowledged--> walked (writes are followed, on and on)
       ^                    |                                                |
       +---- Disowned, or too much unacknowledged: anew, under another walk -+

Why this is right although a chunk and the writes to it are read in different turns: StorageNode tells Follow only
after the write is in the store. A chunk may thus hold writes whose Follow is still on its way here; they are sent again
behind it, all of them, in order, and since they are outcomes the last state is the same. This is also why a learner
orders by the number of the message and not by that of the slot: a chunk can lift the slot's number above an older write
to another key that is still to come.

How fast it walks is for the node's `Pace` to say: clients go first.

Messages are kept until acknowledged and sent again after the link was lost, from the first that the learner lacks; it
takes them by their numbers, once each. `Prove` asks for a position: that the learner has acknowledged everything which
was on the link by then.

Invariants (``check``): numbers kept are without a gap; no more is kept than the bounds say; the cursor stays inside.
"""

import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from ..runtime.store import DamagedRecord, Store, StoreError
from ..runtime.system import Terminated
from .damage import tell_damage
from .messages import (
    Chunk,
    Copied,
    Disowned,
    Follow,
    HandoffProgress,
    HandoffReached,
    KeysListed,
    Learn,
    LearnerHolds,
    Learning,
    Listed,
    ListKeys,
    Numbered,
    Operation,
    Position,
    Prove,
    Replicate,
    Replicated,
    Survey,
    Surveyed,
)
from .operations import parts_of
from .pace import Allowance, Pace
from .rules.change import Phase
from .rules.mirror import CONTENT_BYTES_MAX, digest_of, listed, part_of, sums_of
from .rules.plan import Transfer

log = logging.getLogger(__name__)

CHUNK_KEYS_MAX = 256
CHUNK_BYTES_MAX = 256 * 1024
"""The most that one chunk holds, one record excepted: what one turn reads here and writes there."""

CHUNKS_UNACKNOWLEDGED_MAX = 16
CHUNK_BYTES_UNACKNOWLEDGED_MAX = 8 * 1024 * 1024
"""So many chunks may be under way: enough that neither side waits for the other."""

SURVEY_KEYS_MAX = 512
"""Keys whose digest is compared at once."""

UNACKNOWLEDGED_MESSAGES_MAX = 20_000
UNACKNOWLEDGED_BYTES_MAX = 32 * 1024 * 1024
"""Followed writes that are kept for a learner which does not answer; beyond that the walk begins anew (with digests, so
it costs little where little has changed)."""

TICK_SECONDS = 0.25
LEARN_AGAIN_SECONDS = 0.1
"""The pause before a learner that was not ready is asked again."""

PAUSE_SECONDS_MAX = 1.0
"""How long a walk that has to pause sleeps at most: the limit may have become another."""

DISOWNED_SECONDS = 1.0
"""The pause after a learner that had begun could not go on: its disk is full, say."""

RESEND_SECONDS = 1.0
"""So long without an acknowledgement, what waits for one is sent again."""

RELINK_SECONDS = 0.2
"""So long after the link was lost it is tried again."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Look whether something got stuck; local. Handoff -> Handoff."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn:
    """A pause is over; local. Handoff -> Handoff."""

    relink: bool = False


class Kept(NamedTuple):
    """A numbered message that the learner has not acknowledged."""

    number: int
    content: Chunk | Replicate
    size: int


class Proof(NamedTuple):
    """What is to be proved: that everything up to a number arrived."""

    phase: Phase
    epoch: int
    number: int


class Handoff(Actor):
    """One transfer of the change in flight. ``synced``: acknowledged means on the learner's disk."""

    def __init__(
        self,
        *,
        change: int,
        epoch: int,
        transfer: Transfer,
        incarnation: str,
        target: Ref,
        storage: Ref,
        store: Store,
        pace: Pace,
        synced: bool = False,
    ) -> None:
        super().__init__()
        self._change, self._epoch, self._transfer = change, epoch, transfer
        self._incarnation, self._target, self._storage, self._store = incarnation, target, storage, store
        self._only_synced, self._pace = synced, pace
        self._allowance: Allowance | None = None  # while it walks
        first, last = transfer.slots
        self._begin: Position = (first, b"")
        self._end: Position = (last + 1, b"")
        self._walk = 0
        self._state = "asking"
        self._cursor = self._begin
        self._asked: Survey | ListKeys | None = None
        """What the learner has not answered yet. It is sent again as it was, not asked anew: an answer that is merely
        slow would otherwise always be one to an earlier question."""
        self._known: deque[Listed] = deque()
        """What the learner holds between the cursor and ``_known_upto``; without a version: what it may hold."""
        self._known_upto = self._begin
        self._questions = 0
        self._compared: list[Listed] = []
        """What went into the sums of the last ListKeys: what the learner holds in the parts that it says are equal."""
        self._newer: list[Position] = []
        """The keys that did not: of these nobody knows here what the learner holds."""
        self._stay: dict[int, Numbered] = {}
        """The numbers of slots that went into its sum of them."""
        self._stays: dict[int, Numbered] | None = None
        """The learner has exactly these up to ``_known_upto``, but for those that were left out; None: who knows."""
        self._number = 0
        self._kept: deque[Kept] = deque()
        """What the learner has not applied yet."""
        self._kept_bytes = 0  # of these, but for the chunks
        self._chunks = self._chunk_bytes = 0  # of these
        self._batches: deque[tuple[int, int]] = deque()
        """Number and batch of the writes that the learner does not hold yet: on its disk, if that is what counts."""
        self._learner_epoch = 0
        self._synced = 0
        self._proofs: list[Proof] = []
        self._last_batch = 0
        self._told_held = 0
        self._reached_end = False  # told of this walk
        self._promised_epoch = 0
        """The ring whose seal was proved: until another is read nothing of that is taken back (R12)."""
        self._wants_anew = False  # it would have begun anew, but for that
        self._sealed = False
        self._progress_at = 0.0
        self._resent_from = -1
        self._relinking = False
        """The link was lost: what it carried is sent again from where the learner says that it is."""
        self._asked_at = self._go_on_at = 0.0
        """When the last question or chunk was sent; when the next may be."""
        self._pausing = False
        self._trouble = ""
        self._began = 0.0
        self._keys_sent = self._bytes_sent = self._keys_passed = 0

    def on_start(self) -> None:
        self._began = self.now()
        self.system.death_watch(self.ref, self._target)
        self._ask_to_learn()
        self.after(TICK_SECONDS, Tick())

    def on_stop(self) -> None:
        self._give_allowance_back()
        self.system.death_unwatch(self.ref, self._target)

    def on_receive(
        self,
        message: Follow | Prove | Learning | Disowned | Surveyed | KeysListed | Replicated | Terminated | Tick | GoOn,
    ) -> None:
        match message:
            case Follow():
                self._follow(message)
            case Prove():
                self._prove(message)
            case Learning():
                self._learning(message)
            case Disowned():
                self._disowned(message)
            case Surveyed():
                self._surveyed(message)
            case KeysListed():
                self._keys_listed(message)
            case Replicated():
                self._replicated(message)
            case Terminated():
                self.after(RELINK_SECONDS, GoOn(relink=True))
            case Tick():
                self._tick()
            case GoOn():
                self._resume(message)
            case _:
                assert_never(message)

    # Beginning

    def _ask_to_learn(self) -> None:
        self._forget_walk()
        self._send_learn()

    def _forget_walk(self) -> None:
        """All of the walk before counts for nothing; the next one has another name."""
        self._walk = self.random.getrandbits(63)
        self._state = "asking"
        self._give_allowance_back()
        self._cursor = self._known_upto = self._begin
        self._known.clear()
        self._stays = None
        self._kept.clear()
        self._batches.clear()
        self._asked = None
        self._number = self._kept_bytes = self._chunks = self._chunk_bytes = self._synced = 0
        self._resent_from, self._relinking = -1, False
        self._keys_passed = 0
        self._progress_at = self.now()
        self._proofs = [proof._replace(number=-1) for proof in self._proofs]
        if self._reached_end:
            self._reached_end = False
            self.send(self._storage, HandoffReached(handoff=self.name, phase=None))

    def _send_learn(self) -> None:
        first, last = self._transfer.slots
        learn = Learn(
            change=self._change,
            epoch=self._epoch,
            walk=self._walk,
            first=first,
            last=last,
            node=self._transfer.source,
            incarnation=self._incarnation,
            reply_to=self.ref,
        )
        self.send(self._target, learn)

    def _learning(self, message: Learning) -> None:
        if message.walk != self._walk or self._state != "asking":
            return
        self._state = "walking"
        self._allowance = self._pace.allowance(self._transfer.target)
        self._trouble = ""
        if not message.keys:
            self._known_upto = self._end  # nothing is there: nothing to compare with
        self._progress_at = self.now()
        self._go_on()

    def _disowned(self, message: Disowned) -> None:
        if message.walk != self._walk:
            return
        self._trouble = message.why
        if self._promised_epoch == self._epoch:
            self._wants_anew = True
        elif self._state != "asking":
            self._forget_walk()
            self._pause(DISOWNED_SECONDS)
        else:
            self._pause(LEARN_AGAIN_SECONDS)

    # Walking

    def _go_on(self) -> None:
        """Do what can be done now: chunks while there is room for them, else a question, else the end."""
        while self._state == "walking" and self._asked is None:
            if self._cursor == self._end:
                self._end_walk_if_held()
                return
            if self._cursor < self._known_upto:
                if self._chunks >= CHUNKS_UNACKNOWLEDGED_MAX or self._chunk_bytes > CHUNK_BYTES_UNACKNOWLEDGED_MAX:
                    return
                if self._chunks and self._pace.yields(self.now()):
                    return
                if self._must_pause(self._limited()):
                    return
                self._asked_at = self.now()
                if not self._send_chunk():
                    return
            elif self._must_pause():
                return
            else:
                self._asked_at = self.now()
                self._ask(Survey(walk=self._walk, after=self._cursor, keys_max=SURVEY_KEYS_MAX))

    def _ask(self, question: Survey | ListKeys) -> None:
        self._asked = question
        self.send(self._target, question)

    def _give_allowance_back(self) -> None:
        if self._allowance is not None:
            self._pace.give_back(self._allowance)
            self._allowance = None

    def _limited(self) -> float:
        """For how many seconds the limit of bytes per second allows no chunk."""
        return self._allowance.until_free(self.now()) if self._allowance is not None else 0.0

    def _must_pause(self, limited: float = 0.0) -> bool:
        """Whether clients, or the limit of bytes per second, want a pause; then it is arranged for."""
        left = max(self._go_on_at - self.now(), limited)
        if left <= 0:
            return False
        self._pause(min(left, PAUSE_SECONDS_MAX))
        return True

    def _answered(self) -> None:
        """What was asked, or sent, last is answered: let clients have their turn."""
        now = self.now()
        self._go_on_at = now + self._pace.pause_after(now - self._asked_at, now)

    def _pause(self, seconds: float) -> None:
        if not self._pausing:
            self._pausing = True
            self.after(seconds, GoOn())

    def _resume(self, message: GoOn) -> None:
        if message.relink:
            self.system.death_watch(self.ref, self._target)
            self._relinking = self._state != "asking"
            self._send_again(self._kept[0].number if self._kept else 0)
            return
        self._pausing = False
        if self._state == "asking":
            self._send_learn()
        self._go_on()

    def _surveyed(self, message: Surveyed) -> None:
        """Pass over what is equal; ask for the list of what is not."""
        asked = self._asked
        if message.walk != self._walk or type(asked) is not Survey or message.after != asked.after:
            return
        self._asked = None
        self._stays = None
        self._answered()
        if not message.keys and message.upto == self._end:
            self._known_upto = self._end
            self._go_on()
            return
        try:
            own, reached = self._store.walk(
                self._cursor, message.upto, max(SURVEY_KEYS_MAX, message.keys), CONTENT_BYTES_MAX
            )
        except StoreError as failure:
            self._give_pause(failure)
            return
        self._trouble = ""
        numbers = self._numbers(self._cursor, message.upto)
        if reached == message.upto and digest_of(own, numbers) == message.digest:
            self._keys_passed += len(own)
            self._cursor = self._known_upto = message.upto
            self._go_on()
        elif not message.keys:
            self._known_upto = message.upto
            self._go_on()
        else:
            self._questions += 1
            numbers = self._numbers(self._cursor, reached)
            self._stay = {each[0]: each for each in numbers if each[1:] <= message.newest}
            older = [each for each in own if (each[2].epoch, each[2].seq) <= message.newest]
            self._compared = [listed(*each) for each in older]
            self._newer = [each[:2] for each in own if (each[2].epoch, each[2].seq) > message.newest]
            question = ListKeys(
                walk=self._walk,
                after=self._cursor,
                upto=reached,
                sums=sums_of(older),
                without=self._newer,
                numbers_sum=digest_of((), self._stay.values()),
                renumbered=[slot for slot, _, _ in numbers if slot not in self._stay],
                question=self._questions,
            )
            self._ask(question)

    def _keys_listed(self, message: KeysListed) -> None:
        """Know what the learner holds, from its answer and from what is not in it: what it was asked to leave out, too.
        So only the answer to that very question will do, whatever it says."""
        asked = self._asked
        if message.walk != self._walk or type(asked) is not ListKeys or message.question != asked.question:
            return
        self._asked = None
        equal = set(message.equal)
        known = {(slot, key): (slot, key, 0, 0, 0, 0) for slot, key in self._newer if (slot, key) <= message.upto}
        known |= {each[:2]: each for each in self._compared if equal and part_of(each[0], each[1]) in equal}
        known |= {each[:2]: each for each in message.records}
        self._known.extend(known[place] for place in sorted(known))
        self._stays = self._stay if message.numbers_equal else None
        self._compared, self._newer, self._stay, self._known_upto = [], [], {}, message.upto
        self._go_on()

    def _send_chunk(self) -> bool:
        """Compare own content with the learner's, as far as both are known and one chunk reaches; send what differs.
        False: it cannot be read now."""
        try:
            own, reached = self._store.walk(self._cursor, self._known_upto, CHUNK_KEYS_MAX, CHUNK_BYTES_MAX)
        except StoreError as failure:
            self._give_pause(failure)
            return False
        self._trouble = ""
        there: dict[tuple[int, bytes], Listed] = {}
        while self._known and self._known[0][:2] <= reached:
            known = self._known.popleft()
            there[known[:2]] = known
        puts: list[Copied] = []
        size = 0
        for slot, key, record in own:
            held = there.pop((slot, key), None) if there else None
            if held is None or held != listed(slot, key, record):
                puts.append((slot, key, record.value, record.epoch, record.seq, record.expiry))
                size += len(key) + len(record.value)
        removals = sorted(there)
        numbers = self._numbers(self._cursor, reached)
        if self._stays is not None:
            numbers = [each for each in numbers if self._stays.get(each[0]) != each]
        chunk = Chunk(
            walk=self._walk,
            number=self._number + 1,
            after=self._cursor,
            upto=reached,
            puts=puts,
            removals=removals,
            numbers=numbers,
            others_stay=self._stays is not None,
        )
        self._number += 1
        self._cursor = reached
        self._keys_passed += len(own)
        self._keys_sent += len(puts)
        self._chunks += 1
        self._chunk_bytes += size
        self._put(Kept(self._number, chunk, size))
        if self._allowance is not None:
            self._allowance.sent(size, self.now())
        return True

    def _numbers(self, after: Position, upto: Position) -> list[Numbered]:
        """The numbers of the slots that end between two positions, where there are any."""
        return self._store.numbers(after[0], upto[0])

    def _give_pause(self, failure: StoreError) -> None:
        """The disk could not be read: try again, and let people see why it stands still."""
        trouble = str(failure)
        if isinstance(failure, DamagedRecord):
            # Passing it over would have the learner keep what it has, which may be older than what was read here, or
            # lose it: nobody knows what was written. So whoever owns the data decides.
            trouble = (
                f"{self._transfer.source} cannot read {failure.what} as it was written, so nobody can be made equal to "
                "it: unless another copy takes over, write or delete that key (where writes are refused, after "
                "`ringkeeper replicas N --min-copies 1`)"
            )
        if trouble != self._trouble:
            self._trouble = trouble
            slots, target = self._transfer.slots, self._transfer.target
            what = f"handoff {slots} {self._transfer.source} -> {target} epoch {self._epoch} stands still: {trouble}"
            self.system.events.note("trouble", what, epoch=self._epoch, log=log.error, node=self._transfer.source)
        tell_damage(self, failure)
        self._pause(RESEND_SECONDS)

    def _end_walk_if_held(self) -> None:
        if self._chunks:
            return
        self._state = "walked"
        self._reached_end = True
        self._give_allowance_back()
        if self._only_synced:  # writes that came with the chunks are on the learner's disk when this is
            self._ask_to_sync()
            self._batches.append((self._number, self._last_batch))
        self.send(self._storage, HandoffReached(handoff=self.name, phase="transfer"))
        self._tell_progress()
        self._check_proofs()
        self._tell_held()

    # Following

    def _follow(self, message: Follow) -> None:
        self._last_batch = message.batch
        cursor = self._cursor
        behind: list[Operation] = []
        for operation in message.operations:
            slot, key = operation[0], operation[1]
            if slot < cursor[0] or (slot == cursor[0] and cursor[1] and (key is None or key <= cursor[1])):
                behind.append(operation)
        if behind and self._state != "asking":
            for part, size in parts_of(behind, CHUNK_BYTES_MAX):
                self._number += 1
                replicate = Replicate(
                    walk=self._walk,
                    number=self._number,
                    operations=part,
                    sync=self._only_synced,
                    unsettled=self._sealed,
                )
                self._batches.append((self._number, message.batch))
                self._put(Kept(self._number, replicate, size))
            if len(self._kept) > UNACKNOWLEDGED_MESSAGES_MAX or self._kept_bytes > UNACKNOWLEDGED_BYTES_MAX:
                self._trouble = "the learner acknowledges too slowly: it is walked through anew"
                if self._promised_epoch == self._epoch:
                    self._wants_anew = True
                else:
                    self._ask_to_learn()
        else:
            self._tell_held()

    def _put(self, kept: Kept) -> None:
        if not self._kept:
            self._progress_at = self.now()
        self._kept.append(kept)
        self._kept_bytes += 0 if type(kept.content) is Chunk else kept.size
        self._bytes_sent += kept.size
        self.send(self._target, kept.content)

    def _replicated(self, message: Replicated) -> None:
        if message.walk != self._walk or self._state == "asking":
            return
        self._learner_epoch = max(self._learner_epoch, message.epoch)
        self._synced = max(self._synced, message.synced)
        while self._kept and self._kept[0].number <= message.number:
            gone = self._kept.popleft()
            if type(gone.content) is Chunk:
                self._chunks -= 1
                self._chunk_bytes -= gone.size
                if not self._chunks:
                    self._answered()
            else:
                self._kept_bytes -= gone.size
            self._progress_at = self.now()
        held = message.synced if self._only_synced else message.number
        while self._batches and self._batches[0][0] <= held:
            self._batches.popleft()
        if self._relinking or (message.gap and self._resent_from != message.number):
            self._relinking = False
            self._resent_from = message.number
            self._send_again()
        self._go_on()
        self._check_proofs()
        self._tell_held()

    def _send_again(self, upto: int | None = None) -> None:
        """Send what is not acknowledged once more, up to a number; the learner takes each number once."""
        self._progress_at = self.now()
        if self._state == "asking":
            self._send_learn()
            return
        if self._asked is not None:  # the question, or its answer, is lost
            self.send(self._target, self._asked)
        for kept in self._kept:
            if upto is None or kept.number <= upto:
                self.send(self._target, kept.content)

    def _tell_held(self) -> None:
        """Tell up to which batch the learner holds everything, once the walk has come to its end."""
        if self._state != "walked":
            return
        held = self._batches[0][1] - 1 if self._batches else self._last_batch
        if held > self._told_held:
            self._told_held = held
            self.send(self._storage, LearnerHolds(handoff=self.name, batch=held))

    # Proving

    def _prove(self, message: Prove) -> None:
        self._epoch = message.epoch
        self._sealed = message.phase == "seal"
        if self._wants_anew:
            self._wants_anew = False
            self._ask_to_learn()
        self._proofs = [proof for proof in self._proofs if proof.phase != message.phase]
        self._proofs.append(Proof(message.phase, message.epoch, -1))
        self._check_proofs()

    def _check_proofs(self) -> None:
        """See what is proved by now. What is to be proved begins to count when the walk is at its end."""
        if self._state != "walked":
            return
        held = self._kept[0].number - 1 if self._kept else self._number
        left: list[Proof] = []
        for proof in self._proofs:
            if proof.number < 0:
                if proof.phase == "seal":
                    self._ask_to_sync()
                proof = proof._replace(number=self._number)
            if held < proof.number or (
                proof.phase == "seal" and (self._synced < proof.number or self._learner_epoch < proof.epoch)
            ):
                left.append(proof)
            else:
                if proof.phase == "seal":
                    self._promised_epoch = proof.epoch
                self.send(self._storage, HandoffReached(handoff=self.name, phase=proof.phase, epoch=proof.epoch))
        self._proofs = left

    def _ask_to_sync(self) -> None:
        self._number += 1
        self._put(Kept(self._number, Replicate(walk=self._walk, number=self._number, operations=[], sync=True), 0))

    # Time

    def _tick(self) -> None:
        self.after(TICK_SECONDS, Tick())
        waits = bool(self._kept) or self._asked is not None or self._state == "asking"
        if waits and self.now() - self._progress_at > RESEND_SECONDS:
            self._send_again()
        elif self._state == "walked" and not self._kept and (self._proofs or self._batches):
            self._ask_to_sync()  # an answer that says what is synced, and which ring the learner has read by now
        self._tell_progress()

    def _tell_progress(self) -> None:
        first, last = self._transfer.slots
        progress = HandoffProgress(
            handoff=self.name,
            first=first,
            last=last,
            source=self._transfer.source,
            target=self._transfer.target,
            keys=self._keys_passed,
            keys_total=self._store.held_in(first, last + 1)[0],
            bytes=self._bytes_sent,
            seconds=self.now() - self._began,
            state=self._state,
            limited=self._limited() > 0,
            trouble=self._trouble,
        )
        self.send(self._storage, progress)

    def inspect(self) -> dict[str, Any]:
        """What people want to know of it (``runtime/looking.py``)."""
        return {
            "change": self._change,
            "ring_epoch": self._epoch,
            "slots": str(self._transfer.slots),
            "state": self._state,
            "cursor": self._cursor,
            "walk": self._walk,
            "unacknowledged": len(self._kept),
            "unacknowledged_bytes": self._kept_bytes,
            "reached_end": self._reached_end,
            "sealed": self._sealed,
            "proofs": self._proofs,
            "trouble": self._trouble,
        }

    def check(self) -> None:
        numbers = [kept.number for kept in self._kept]
        assert numbers == list(range(self._number - len(numbers) + 1, self._number + 1)), numbers
        chunks = [kept.size for kept in self._kept if type(kept.content) is Chunk]
        assert (self._chunks, self._chunk_bytes) == (len(chunks), sum(chunks))
        assert self._kept_bytes + self._chunk_bytes == sum(kept.size for kept in self._kept)
        assert self._chunks <= CHUNKS_UNACKNOWLEDGED_MAX
        assert self._begin <= self._cursor <= self._end
        assert self._state != "walked" or self._cursor == self._end
        assert not self._known or self._cursor < self._known[0][:2]
        assert self._asked is None or self._asked.after == self._cursor == self._known_upto
