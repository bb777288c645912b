"""Compares this node's slots with their other copies, again and again, and has bad copies made anew (R25).

Hears   RingChanged        from Member: which slots are this node's, and who else has them
        LeaderChanged      from Election: whom to tell
        SummedUp           from Replica of the other members
        DamageFound        from StorageNode, Replica, Handoff and Member of this node
        CopyDamaged        from Scrubber of a coordinator: this node's copy is the odd one out
        RunVerify          from Gateway
        CompareNext, NotAnswered, TellAgain      from itself
Tells   SumUp -> Replica; CopyDamaged -> Scrubber of the odd one out, the leading Ecs, Member; VerbRun -> Gateway

A *round* goes through all slots that this node coordinates, a *stretch* at a time, and asks every other member that is
up for its sums over it. Two copies are compared at one slot number: the others answer once they have come to the
number that the slots had here, and a slot that has gone on meanwhile is asked for again, alone; so one that is written
to all the time is compared as well. Where sums differ the records are listed, and ``rules/scrub.py`` says what is
wrong:

    sums equal ------------------------------> next stretch
    sums differ --records listed, they differ--> a *difference*: said loudly, and kept to be asked for
    the round is over --> by list, the odd one out is told that its copy is damaged; where several have a bad record
                          each, one in a round
    a record fails its checksum, wherever it was read --> this node's copy is damaged

The odd one is told no sooner, since it is made anew with all slots of its list, from a node that may be the odd one in
a slot that is still to be compared. So a round must have seen a whole list, its members in the same lives; else it is
left for the next one. Weak: slots that were skipped may hide another odd one; in a large store the odd one stays for
as long as a round takes, and goes then even if its record was written anew meanwhile; and lists that other nodes
coordinate are not asked for: who is odd in this one may take over what is wrong at the coordinator of that one.

A node whose copy is *damaged* tells the leader until the ring calls it down; its successors take over with that. Its
next life begins with an empty store, the damaged one put aside, and is made equal by a mirror. Where a list has nobody
else up, the ring is not written and the node stays: what can still be read is better than nothing. With two copies that
differ nobody is told anything: a person decides (``RING VERIFY REPAIR`` takes the coordinator's for the right one).

In the background a round reads no more than ``bytes_per_second``, and begins ``pause_seconds`` after the one before it
did, or ended. ``RING VERIFY START`` has one begin now, at full speed; its own findings are kept apart, and where copies
differ it has nothing repaired unless it is asked to.

Invariants (``check``): one comparison is under way at a time; what is kept is bounded.
"""

import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.election import LeaderChanged
from ..runtime.message import message
from ..runtime.metrics import Metric, counter, gauge
from ..runtime.store import Corrupt, Store, StoreError
from ..runtime.world import Timer
from .damage import SCRUBBER
from .messages import (
    CopyDamaged,
    DamageFound,
    Listed,
    Position,
    RingChanged,
    RunVerify,
    SummedUp,
    SumUp,
    VerbRun,
)
from .rules.mirror import listed
from .rules.ring import Node, Ring
from .rules.scrub import Difference, Summed, Votes, compared, difference, summed
from .rules.slots import SLOTS, Run

log = logging.getLogger(__name__)

STRETCH_SLOTS_MAX = 256
STRETCH_KEYS_MAX = 512
STRETCH_BYTES_MAX = 1024 * 1024
"""What is read in one turn here, one record excepted, and there."""

RECORD_COST_BYTES = 512
"""What a record counts for besides its key and value: to sum it up takes time."""

ANSWER_SECONDS_MAX = 3.0
"""So long the others are waited for; then the stretch is left for the next round."""

TRIES_MAX = 5
"""A slot whose copies are met at different numbers so often is left for the next round."""

DIFFERENCES_KEPT_MAX = 100

TELL_AGAIN_SECONDS = 1.0
"""How often the leader is told that this node's copy is damaged."""

BYTES_PER_SECOND = 1024 * 1024
"""In the background, unless the owner says otherwise."""

PAUSE_SECONDS = 60.0
"""From the begin of a background round to that of the next, at least."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class CompareNext:
    """Time for the next stretch; local. Scrubber -> Scrubber."""

    round: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class NotAnswered:
    """That comparison has waited long enough; local. Scrubber -> Scrubber."""

    comparison: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class TellAgain:
    """Tell the leader again that this node's copy is damaged; local. Scrubber -> Scrubber."""


Lives = tuple[tuple[str, str], ...]
"""The other members of a list that are up: id and incarnation, in its order."""


class Stretch(NamedTuple):
    """What is to be compared."""

    after: Position
    upto: Position
    alone: bool = False
    """It lies in one slot, and is compared once more, for which"""
    tries: int = 0
    """time it is tried, and whether records are"""
    listed: bool = False


@dataclass(slots=True, kw_only=True)
class Comparison:
    """A question to the other members of a stretch, and what they have answered."""

    number: int
    stretch: Stretch
    others: dict[str, Node]
    sums: list[Summed]
    records: list[Listed]
    cost_bytes: int
    timer: Timer
    answers: dict[str, SummedUp] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Round:
    """One time through all slots."""

    number: int
    verify: bool = False
    """Asked for; else in the background."""
    repair: bool = False
    cursor: Position = (0, b"")
    again: deque[Stretch] = field(default_factory=deque)
    """Slots that are compared once more, each alone."""
    began: float = 0.0
    over: bool = False
    passed: bytearray = field(default_factory=lambda: bytearray(SLOTS))
    """1 for each slot that was summed up here to its end."""
    keys: Counter[int] = field(default_factory=Counter)
    """By slot, how many were summed up here."""
    skipped: set[int] = field(default_factory=set)
    """Slots that could not be compared: somebody did not answer, writes never stopped, or they became another's."""
    differences: list[Difference] = field(default_factory=list)
    """The first of them."""
    different: int = 0
    votes: dict[Lives, Votes] = field(default_factory=dict)
    """By list."""
    changed: set[Lives] = field(default_factory=set)
    """Lists that became what they are when the cursor was past their begin."""
    undecided: list[str] = field(default_factory=list)
    """Of lists in which nobody can be made anew, though somebody is odd: why."""
    damage: str = ""

    def slots(self) -> list[int]:
        """Those that were compared."""
        return [slot for slot, passed in enumerate(self.passed) if passed and slot not in self.skipped]

    def skip(self, stretch: Stretch) -> None:
        """It is not compared in this round."""
        self.skipped.update(range(stretch.after[0], stretch.upto[0] + bool(stretch.upto[1])))


class Scrubber(Actor):
    """One node's comparisons. ``bytes_per_second``: 0 has nothing compared that nobody asks for."""

    def __init__(
        self,
        *,
        id: str,
        incarnation: str,
        store: Store,
        bytes_per_second: int = BYTES_PER_SECOND,
        pause_seconds: float = PAUSE_SECONDS,
        member: str = "member",
    ) -> None:
        """``member`` is the name of this process' Member, which is spawned later."""
        super().__init__()
        self.id, self.incarnation, self._store, self._member = id, incarnation, store, member
        self._bytes_per_second, self._pause_seconds = bytes_per_second, pause_seconds
        self._ring: Ring | None = None
        self._runs: list[tuple[Run, dict[str, Node]]] = []
        """This node's slots, and the other members of their lists that are up."""
        self._leader = ""
        self._rounds = 0
        self._round: Round | None = None
        self._verified: Round | None = None
        """The last round that somebody asked for, or the one under way."""
        self._comparison: Comparison | None = None
        self._comparisons = self._keys_compared = self._differed = 0
        self._damage = ""

    def on_start(self) -> None:
        if self._store.damage:
            self.after(0.0, DamageFound(why=self._store.damage))
        if self._bytes_per_second:
            self._rounds += 1
            self.after(self._pause_seconds, CompareNext(round=self._rounds))

    def on_receive(
        self,
        message: RingChanged
        | LeaderChanged
        | SummedUp
        | DamageFound
        | CopyDamaged
        | RunVerify
        | CompareNext
        | NotAnswered
        | TellAgain,
    ) -> None:
        match message:
            case RingChanged():
                self._ring_changed(message.ring)
            case LeaderChanged():
                self._leader = (message.data or b"").decode("utf-8", "replace")
            case SummedUp():
                self._summed_up(message)
            case DamageFound():
                self._be_damaged(message.why)
            case CopyDamaged():
                if (message.node, message.incarnation) == (self.id, self.incarnation):
                    self._be_damaged(message.why)
            case RunVerify():
                self._verify(message)
            case CompareNext():
                self._go(message.round)
            case NotAnswered():
                if self._comparison is not None and self._comparison.number == message.comparison:
                    silent = sorted(self._comparison.others.keys() - self._comparison.answers.keys())
                    log.info("scrub: %s has not said what it holds", ", ".join(silent))
                    self._leave_out(self._comparison)
            case TellAgain():
                self._tell_damage()
            case _:
                assert_never(message)

    # The ring

    def _ring_changed(self, ring: Ring) -> None:
        """What is under way is asked for anew: it may be another's by now, or others may have it."""
        self._ring = ring
        before = {(run, _lives(others)) for run, others in self._runs}
        me = ring.by_id.get(self.id)
        named = me is not None and me.incarnation == self.incarnation
        self._runs = []
        for run in ring.coordinated_by(self.id) if named else ():
            for stretch, members in ring.list_runs:
                first, last = max(run.first, stretch.first), min(run.last, stretch.last)
                others = {node.id: node for node in members if node.state == "up" and node.id != self.id}
                if first <= last and others:
                    self._runs.append((Run(first, last), others))
        comparison, round = self._comparison, self._round
        if round is not None:
            since = {(run, _lives(others)) for run, others in self._runs}
            round.changed |= {lives for run, lives in since - before if (run.first, b"") < round.cursor}
        if comparison is not None and round is not None:
            self._forget(comparison)
            if comparison.stretch.alone:
                round.again.append(comparison.stretch)
            else:
                after, upto = comparison.stretch[:2]
                round.cursor = after
                round.passed[after[0] : upto[0]] = bytes(upto[0] - after[0])
                round.keys.subtract({slot: keys for slot, _, _, keys, _ in comparison.sums})
            self.send(self.ref, CompareNext(round=round.number))

    # A round

    def _go(self, number: int) -> None:
        """The next stretch of a round, or the begin of one in the background."""
        if self._round is None or self._round.over:
            if number != self._rounds:
                return
            self._round = Round(number=number, repair=True, began=self.now())
        if number != self._round.number or self._comparison is not None:
            return
        for stretch, others in self._stretches(self._round):
            if self._ask(self._round, stretch, others):
                return
        self._end(self._round)

    def _stretches(self, round: Round) -> Iterator[tuple[Stretch, dict[str, Node]]]:
        """What is to be compared, as far as it is this node's and others have it."""
        while round.again:
            stretch = round.again.popleft()
            others = next((others for run, others in self._runs if run.first <= stretch.after[0] <= run.last), None)
            if others is not None:
                yield stretch, others
            else:
                round.skip(stretch)
        for run, others in self._runs:
            while round.cursor[0] <= run.last:
                after = max(round.cursor, (run.first, b""))
                upto = min(run.last, after[0] + STRETCH_SLOTS_MAX - 1) + 1, b""
                yield Stretch(after, upto), others

    def _ask(self, round: Round, stretch: Stretch, others: dict[str, Node]) -> bool:
        """Sum up what is here, and ask the others; False when there is nothing to be asked."""
        assert self._ring is not None
        try:
            records, reached = self._store.walk(stretch.after, stretch.upto, STRETCH_KEYS_MAX, STRETCH_BYTES_MAX)
        except Corrupt as failure:
            round.damage = str(failure)
            self._be_damaged(str(failure))
            self._pass(round, stretch)
            round.skip(stretch)
            return False
        except StoreError as failure:
            log.warning("scrub: slots from %d cannot be read: %s", stretch.after[0], failure)
            self._pass(round, stretch)
            round.skip(stretch)
            return False
        stretch = stretch._replace(upto=reached)
        self._pass(round, stretch)
        round.keys.update(() if stretch.alone else (slot for slot, _, _ in records))
        self._keys_compared += len(records)
        numbers = self._store.numbers(stretch.after[0], reached[0] + bool(reached[1]))
        self._comparisons += 1
        self._comparison = Comparison(
            number=self._comparisons,
            stretch=stretch,
            others=others,
            sums=summed(records, numbers),
            records=[listed(*each) for each in records] if stretch.listed else [],
            cost_bytes=sum(RECORD_COST_BYTES + len(key) + len(record.value) for _, key, record in records),
            timer=self.after(ANSWER_SECONDS_MAX, NotAnswered(comparison=self._comparisons)),
        )
        for node in others.values():
            question = SumUp(
                comparison=self._comparisons,
                epoch=self._ring.epoch,
                after=stretch.after,
                upto=reached,
                numbers=numbers,
                listed=stretch.listed,
                reply_to=self.ref,
            )
            self.send(self.system.resolve(f"ringkeeper://{node.bridge_address}/replica"), question)
        return True

    def _pass(self, round: Round, stretch: Stretch) -> None:
        """The cursor is behind it from now on; what is compared once more lies behind it already."""
        if stretch.upto > round.cursor:
            first = max(round.cursor[0], stretch.after[0])
            round.passed[first : stretch.upto[0]] = b"\1" * (stretch.upto[0] - first)
            round.cursor = stretch.upto

    def _summed_up(self, message: SummedUp) -> None:
        comparison = self._comparison
        if comparison is None or message.comparison != comparison.number or message.node not in comparison.others:
            return
        if self._ring is not None and message.epoch > self._ring.epoch:
            return  # all are asked anew once this node has read that ring, too
        comparison.answers[message.node] = message
        if len(comparison.answers) == len(comparison.others):
            self._judge(comparison)

    def _judge(self, comparison: Comparison) -> None:
        """All have answered: go on, or look closer."""
        round = self._round
        assert round is not None
        differ: set[int] = set()
        busy: set[int] = set()
        for answer in comparison.answers.values():
            found = compared(comparison.sums, answer.sums)
            differ |= found[0]
            busy |= found[1]
        stretch = comparison.stretch
        for slot in sorted(busy | differ):
            after, upto = max(stretch.after, (slot, b"")), min(stretch.upto, (slot + 1, b""))
            if slot in busy and stretch.tries < TRIES_MAX:
                round.again.append(Stretch(after, upto, True, stretch.tries + 1, stretch.listed))
            elif slot in busy:
                round.skipped.add(slot)
            elif not stretch.listed:
                round.again.append(Stretch(after, upto, True, 0, True))
            else:
                self._differ(round, slot, comparison)
        self._next(comparison)

    def _differ(self, round: Round, slot: int, comparison: Comparison) -> None:
        """The copies of a slot differ at one number."""
        copies: dict[str, list[Listed]] = {self.id: comparison.records}
        copies |= {node: comparison.answers[node].records for node in comparison.others}  # in the order of the list
        number = next(((epoch, seq) for each, epoch, seq, _, _ in comparison.sums if each == slot), (0, 0))
        found = difference(slot, number, copies)
        if found is None:
            return
        self._note(f"scrub: {found.sentence}", log=log.critical)
        round.different += 1
        self._differed += 1
        if len(round.differences) < DIFFERENCES_KEPT_MAX:
            round.differences.append(found)
        round.votes.setdefault(_lives(comparison.others), Votes(tuple(copies))).add(found)
        if round.repair and round.verify and not found.odd:
            why = f"{found.sentence}. Somebody wished that what {self.id} has, the coordinator, be taken for right"
            for id, node in sorted(comparison.others.items()):
                if copies[id] != copies[self.id]:
                    self._tell_odd(node, why)

    def _tell_odd(self, node: Node, why: str) -> None:
        told = CopyDamaged(node=node.id, incarnation=node.incarnation, why=why)
        self.send(self.system.resolve(f"ringkeeper://{node.bridge_address}/{SCRUBBER}"), told)

    def _count(self, round: Round) -> None:
        """A round has seen everything: by list, who is odd goes, or it is said why nobody does."""
        lists = {_lives(others): others for _, others in self._runs}
        for lives, votes in round.votes.items():
            if not votes.bad or lives not in lists or lives in round.changed:
                continue  # nobody can say, which is said already; or the next round looks again
            odd = votes.odd()
            if not odd:
                round.undecided.append(votes.sentence())
                self._note(f"scrub: {votes.sentence()}", log=log.critical)
            for id in odd if round.repair else ():
                why = votes.why[id] if len(votes.bad) == 1 else f"{votes.why[id]}; {votes.sentence()}"
                if id == self.id:
                    self._be_damaged(why)
                else:
                    self._tell_odd(lists[lives][id], why)

    def _leave_out(self, comparison: Comparison) -> None:
        """Somebody does not answer: what concerns him is left for the next round."""
        if self._round is not None:
            self._round.skip(comparison.stretch)
        self._next(comparison)

    def _forget(self, comparison: Comparison) -> None:
        comparison.timer.cancel()
        self._comparison = None

    def _next(self, comparison: Comparison) -> None:
        self._forget(comparison)
        round = self._round
        if round is None:
            return
        if round.verify:
            self.send(self.ref, CompareNext(round=round.number))
        else:
            self.after(comparison.cost_bytes / self._bytes_per_second, CompareNext(round=round.number))

    def _end(self, round: Round) -> None:
        self._count(round)
        round.over = True
        if round.verify or round.different or round.damage:
            slots, keys = len(round.slots()), round.keys.total()
            compared = f"scrub: {slots} slots, {keys} keys compared, {round.different} differ"
            self._note(compared, log=log.info)
        if self._bytes_per_second:
            self._rounds += 1
            self.after(max(0.0, round.began + self._pause_seconds - self.now()), CompareNext(round=self._rounds))

    # Damage

    def _be_damaged(self, why: str) -> None:
        """This node's copy is bad: have the ring call it down."""
        if self._damage:
            return
        self._damage = why
        goes = f"{self.id} goes down, as soon as others answer for its slots: its copy is damaged"
        self._note(goes, cause=why, log=log.critical)
        member = self.system.find(self._member)
        if member is not None:
            self.send(member, self._damaged())
        self._tell_damage()

    def _note(self, sentence: str, *, cause: str = "", log: Callable[..., object]) -> None:
        epoch = self._ring.epoch if self._ring is not None else 0
        self.system.events.note("damage", sentence, cause=cause, epoch=epoch, log=log, node=self.id)

    def _damaged(self) -> CopyDamaged:
        return CopyDamaged(node=self.id, incarnation=self.incarnation, why=self._damage)

    def _tell_damage(self) -> None:
        leader: Ref | None = None
        try:
            leader = self.system.resolve(self._leader) if self._leader else None
        except ValueError:  # its candidate says nonsense
            log.warning("%s cannot tell %r that its copy is damaged", self.id, self._leader)
        if leader is not None:
            self.send(leader, self._damaged())
        self.after(TELL_AGAIN_SECONDS, TellAgain())

    # Verify

    def _verify(self, message: RunVerify) -> None:
        error = ""
        match [word.upper() for word in message.arguments]:
            case []:
                pass
            case ["START", *rest] if rest in ([], ["REPAIR"]):
                self._rounds += 1
                if self._comparison is not None:
                    self._forget(self._comparison)
                self._round = self._verified = Round(
                    number=self._rounds, verify=True, repair=bool(rest), began=self.now()
                )
                self.send(self.ref, CompareNext(round=self._rounds))
            case _:
                error = "ERR RING VERIFY, RING VERIFY START or RING VERIFY START REPAIR"
        text = "" if error else json.dumps(self._state())
        self.send(message.reply_to, VerbRun(question=message.question, text=text, error=error))

    def _state(self) -> dict[str, Any]:
        """How far the round is that was asked for, and what it has found; for programs."""
        round = self._verified
        total = sum(run.size for run, _ in self._runs)
        state: dict[str, Any] = {"node": self.id, "damaged": self._damage or None, "slots_total": total}
        if round is None:
            return {**state, "state": "none"}
        slots = round.slots()
        return {
            **state,
            "state": "done" if round.over else "running",
            "slots": len(slots),
            "keys_by_slot": [[slot, round.keys[slot]] for slot in slots] if round.over else None,
            "skipped": len(round.skipped),
            "different": round.different,
            "unreadable": round.damage or None,
            "differences": [_for_programs(each) for each in round.differences],
            "undecided": round.undecided,
        }

    def metrics(self) -> Iterator[Metric]:
        yield counter("scrub_rounds", "Times through all slots that were begun.", self._rounds)
        yield counter("scrub_comparisons", "Stretches of slots that were compared.", self._comparisons)
        yield counter("scrub_keys", "Keys compared.", self._keys_compared)
        yield counter("scrub_different", "Slots whose copies differed.", self._differed)
        yield gauge("copy_damaged", "Whether the copy of this node is known to be damaged.", bool(self._damage))

    def check(self) -> None:
        assert self._comparison is None or self._comparison.number == self._comparisons
        for round in (self._round, self._verified):
            assert round is None or len(round.differences) <= min(round.different, DIFFERENCES_KEPT_MAX)


def _lives(others: dict[str, Node]) -> Lives:
    return tuple((node.id, node.incarnation) for node in others.values())


def _for_programs(found: Difference) -> dict[str, Any]:
    keys = [key.decode("utf-8", "backslashreplace") for key in found.keys[:DIFFERENCES_KEPT_MAX]]
    return {**asdict(found), "keys": keys}
