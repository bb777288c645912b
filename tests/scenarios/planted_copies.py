"""Faults in what keeps several copies equal, planted as those of `planted.py`. Each is a bug that somebody could write.

They are named after the rule of PROTOCOL.md that is not kept. Where two rules watch over the same thing, one that is
off alone is not seen in what clients are told, or only between two messages; such a fault is found by the test that
shows its rule message by message.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest
from ringkeeper.actors import ecs, handoff, replica, storage_node, tenures
from ringkeeper.actors.acknowledging import Acknowledging, Group
from ringkeeper.actors.ecs import Ecs
from ringkeeper.actors.handoff import Handoff
from ringkeeper.actors.member import Member
from ringkeeper.actors.messages import (
    LATER,
    Append,
    Chunk,
    HandoffReached,
    KeysListed,
    LookForRing,
    OpenStream,
    Prove,
    Tails,
)
from ringkeeper.actors.operations import stage
from ringkeeper.actors.replica import APPLY, Inbound, Replica
from ringkeeper.actors.replicator import Replicator
from ringkeeper.actors.rules import mirror, plan, scrub, transitions
from ringkeeper.actors.rules.change import Wish
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.recovery import Highest, Recovery, recovery
from ringkeeper.actors.rules.ring import Node, Ring, Trouble
from ringkeeper.actors.rules.slots import SLOTS, Run
from ringkeeper.actors.storage_node import StorageNode
from ringkeeper.actors.takeover import Takeover
from ringkeeper.actors.tenures import Tenure, Tenures
from ringkeeper.runtime.store import Record
from ringkeeper.tests.actors import test_handoff, test_member, test_replica, test_successors
from ringkeeper.tests.scenarios import test_moments, test_scrubbing
from ringkeeper.tests.scenarios.planting import RANDOM

Patch = pytest.MonkeyPatch


# Acknowledging


def answered_before_a_successor_has_it(patch: Patch) -> None:
    """R1: a write is answered when its coordinator has it."""
    patch.setattr(Acknowledging, "everywhere", lambda self, group, synced: synced)


def min_copies_not_asked_when_a_write_is_answered(patch: Patch) -> None:
    """R1: how many copies are up is asked when a write is stamped, and not again when it is answered."""
    released = Acknowledging.released

    def hasty(self: Acknowledging[Any], now: float, synced: int, name: str | None = None) -> Iterator[Any]:
        few: list[Group[Any]] = [group for group in (*self.groups, self.whole) if not group.writable]
        for group in few:
            group.writable = True
        answered = list(released(self, now, synced, name))
        for group in few:
            group.writable = False
        return iter(answered)

    patch.setattr(Acknowledging, "released", hasty)


def a_successor_acknowledges_before_it_has_it(patch: Patch) -> None:
    """R1: a successor acknowledges at once, and takes what it was sent into its store some milliseconds later."""

    class TakeNow:
        def __init__(self, operations: list[Any]) -> None:
            self.operations = operations

    apply, hear = Replica._apply_newer, Replica.on_receive
    for taken in ("_apply_newer", "_apply_operations"):
        patch.setattr(Replica, taken, lambda self, operations: self.after(0.02, TakeNow(operations)))

    def heard(self: Replica, content: Any) -> None:
        if type(content) is TakeNow:
            apply(self, content.operations)
            self._store.commit()
        else:
            hear(self, content)

    patch.setattr(Replica, "on_receive", heard)


def a_learner_counts_as_a_copy(patch: Patch) -> None:
    """R1: who is returning counts for min_copies, though nobody waits for what it holds before the switch."""
    tenure = Tenures._tenure

    def counted(self: Tenures, ring: Ring, slots: Run, *args: Any) -> Tenure:
        copies = sum(node.state in ("up", "returning") for node in ring.lists[slots.first])
        return replace(tenure(self, ring, slots, *args), copies=copies)

    patch.setattr(Tenures, "_tenure", counted)


def a_learner_is_not_waited_for(patch: Patch) -> None:
    """R9: writes are not waited for at those who are to be members with the commit."""
    patch.setattr(StorageNode, "_required", lambda self: False)


def a_quick_restart_goes_unnoticed(patch: Patch) -> None:
    """R3: who registers another life while the ring still calls the one before it up stays up."""

    def returned(ring: Ring, registrations: Iterable[Registration], **fields: Any) -> Ring:
        following = transitions.returned(ring, registrations, **fields)
        stays = {node.id for node in following.circle if ring.by_id[node.id].state == "up"}
        nodes = tuple(replace(each, state="up") if each.id in stays else each for each in following.nodes)
        return replace(following, nodes=nodes, trouble=tuple(transitions.in_trouble(ring, nodes)))

    patch.setattr(ecs, "returned", returned)


def a_new_life_goes_on_with_the_stream_of_the_one_before(patch: Patch) -> None:
    """R3: a successor takes what is meant for an earlier life of it, from wherever it is told to go on."""
    opened = Replica._open

    def taken(self: Replica, message: OpenStream) -> None:
        meant = message.to == self.incarnation
        opened(self, replace(message, to=self.incarnation))
        if not meant and message.stream in self._streams:
            self._streams[message.stream].number = -1

    admit = Replica._admit

    def admitted(self: Replica, stream: Inbound, message: Append) -> None:
        if stream.number < 0:
            stream.number = message.number - 1
        admit(self, stream, message)

    patch.setattr(Replica, "_open", taken)
    patch.setattr(Replica, "_admit", admitted)


def versions_begin_anew_with_every_life(patch: Patch) -> None:
    """R4: versions carry the epoch in which the cluster was founded, and count from 1 in every life."""
    run = StorageNode._run

    def stamping(self: StorageNode, requests: Any) -> Any:
        epoch, self._epoch = self._epoch, 1
        try:
            return run(self, requests)
        finally:
            self._epoch = epoch

    patch.setattr(StorageNode, "_run", stamping)


def the_backlog_forgets_what_exceeds_it(patch: Patch) -> None:
    """R6: what does not fit into the backlog of a stream is left out, and nobody is told."""
    append = Replicator._append

    def bounded(self: Replicator, stream: Any, batch: int, parts: Any, begins: Any = None) -> None:
        if len(stream.kept) < 2 or begins:  # a client waits for its answer, so there is never much
            append(self, stream, batch, parts, begins)

    patch.setattr(Replicator, "_append", bounded)


def a_stamped_write_is_answered_moved(patch: Patch) -> None:
    """R6: when another answers for the slot by now, clients whose writes wait are sent there."""
    regroup, settle = Acknowledging.regroup, StorageNode._settle

    def noted(self: Acknowledging[Any], runs: Any) -> list[Any]:
        lost = regroup(self, runs)
        places = [place for each in lost for place in zip(each.asked, each.slots, strict=True)]
        self.left = {asked: slot for asked, slot in places if slot >= 0}  # type: ignore[attr-defined]
        return lost

    def moved(self: StorageNode, settled: list[Any]) -> None:
        left = getattr(self._acknowledging, "left", {})
        self._refusals.clear()
        wrong = [
            (asked, self.refuse(left[asked]) if reply is storage_node.DEPOSED and asked in left else reply)
            for asked, reply in settled
        ]
        settle(self, wrong)

    patch.setattr(Acknowledging, "regroup", noted)
    patch.setattr(StorageNode, "_settle", moved)


# Streams


def whoever_sends_is_admitted(patch: Patch) -> None:
    """R3, R18: a copy takes what it is sent, whoever coordinates the slot by now: no fencing."""
    changed = Replica._ring_changed

    def admitted(self: Replica, stream: Inbound) -> tuple[bytearray, bool]:
        admits = bytearray(SLOTS)
        for run, members in self._ring.list_runs if self._ring is not None else ():
            if any(each.id == self.id and each.incarnation == self.incarnation for each in members):
                admits[run.first : run.last + 1] = bytes([APPLY]) * run.size
        return admits, True

    def open_for_ever(self: Replica, ring: Ring) -> None:
        streams = [stream for stream in self._streams.values() if stream.open]
        changed(self, ring)
        for stream in streams:
            stream.open = True
            self._streams[stream.id] = stream

    patch.setattr(Replica, "_admitted", admitted)
    patch.setattr(Replica, "_ring_changed", open_for_ever)


def the_deposed_is_admitted_after_the_answer(patch: Patch) -> None:
    """R19: what a sender may write is looked up when its stream begins, in the ring of that moment."""

    class Kept(dict[Any, Any]):
        def clear(self) -> None:
            pass

    changed = Replica._ring_changed

    def keeping(self: Replica, ring: Ring) -> None:
        if not isinstance(self._admits, Kept):
            self._admits = Kept(self._admits)
        streams = [stream for stream in self._streams.values() if stream.open]
        changed(self, ring)
        for stream in streams:
            stream.open = True
            self._streams[stream.id] = stream

    opened = Replica._open

    def begun(self: Replica, message: OpenStream) -> None:
        if message.stream not in self._streams:
            self._admits.pop((message.node, message.incarnation), None)
        opened(self, message)

    patch.setattr(Replica, "_ring_changed", keeping)
    patch.setattr(Replica, "_open", begun)


def a_takeover_is_answered_before_its_ring_is_read(patch: Patch) -> None:
    """R19: a copy tells its tail to whoever asks, and goes on admitting what its own ring allows."""
    tell = Replica._tell_tail

    def told(self: Replica, question: Any) -> None:
        tell(self, replace(question, epoch=self._ring.epoch if self._ring is not None else 0))

    patch.setattr(Replica, "_tell_tail", told)


def what_comes_from_a_newer_ring_does_not_wait(patch: Patch) -> None:
    """R20: operations from a ring that a copy has not read are judged by the one it has, and what that does not allow
    is passed over."""

    def stream(self: Replica, message: Append) -> None:
        known = self._streams.get(message.stream)
        if known is not None and known.open and not self._trouble and self._ring is not None:
            admits, coordinates = self._admitted(known)
            operations = [each for each in message.operations if admits[each[0]]]
            begins = [run for run in message.begins if all(admits[run[0] : run[1] + 1])]
            if coordinates:
                self._admit(known, replace(message, operations=operations, begins=begins))

    patch.setattr(Replica, "_stream", stream)


def a_gap_is_accepted(patch: Patch) -> None:
    """R4: a copy goes on with whatever message comes next."""
    admit = Replica._admit

    def admitted(self: Replica, stream: Inbound, message: Append) -> None:
        if message.number > stream.number:
            stream.number = message.number - 1
        admit(self, stream, message)

    patch.setattr(Replica, "_admit", admitted)


def the_number_is_stored_apart(patch: Patch) -> None:
    """R4: a copy keeps the numbers of its slots in a table of their own, and a batch that the disk refuses leaves them
    there."""

    class Apart:
        def __init__(self, store: Any) -> None:
            self._store = store
            self._numbers: dict[int, tuple[int, int]] = {}

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def number(self, slot: int) -> tuple[int, int]:
            own: tuple[int, int] = self._store.number(slot)
            return max(self._numbers.get(slot, (0, 0)), own)

        def note(self, operations: Iterable[Any]) -> None:
            for slot, _, _, epoch, seq, _ in operations:
                self._numbers[slot] = max(self.number(slot), (epoch, seq))

    begin = Replica.__init__

    def begun(self: Replica, **fields: Any) -> None:
        begin(self, **{**fields, "store": Apart(fields["store"])})

    def applied(self: Replica, operations: list[Any]) -> None:
        number = self._store.number
        newer = [each for each in operations if each[3:5] > number(each[0])]
        self._store.note(newer)  # type: ignore[attr-defined]
        stage(self._store, newer)

    patch.setattr(Replica, "__init__", begun)
    patch.setattr(Replica, "_apply_newer", applied)


def copies_expire_by_their_own_clocks(patch: Patch) -> None:
    """R4: the sweep goes over all slots that a node has a copy of, and deletes what has expired by its own clock."""
    serve = StorageNode._serve

    def sweeps(self: StorageNode) -> None:
        serve(self)
        if self.serves:
            self.expiry.coordinates(
                bytearray(one | other for one, other in zip(self._reads, self._copies, strict=True))
            )

    patch.setattr(StorageNode, "_serve", sweeps)
    patch.setattr(StorageNode, "serves_writes_of", lambda self, slot: bool(self._writes[slot] or self._copies[slot]))


def older_operations_are_applied(patch: Patch) -> None:
    """R4: a copy applies what it is sent, above the slot's number or not."""

    class Lowest:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def follow(self, operations: Any) -> None:
            stage(self._store, operations)

    admit = Replica._admit

    def applied(self: Replica, stream: Inbound, message: Append) -> None:
        store, self._store = self._store, Lowest(self._store)  # type: ignore[assignment]
        try:
            admit(self, stream, message)
        finally:
            self._store = store

    patch.setattr(Replica, "_admit", applied)


def tails_are_not_kept(patch: Patch) -> None:
    """R5: a copy remembers nothing of what it was sent."""
    admit = Replica._admit

    def forgetful(self: Replica, stream: Inbound, message: Append) -> None:
        admit(self, stream, message)
        stream.tail.clear()

    patch.setattr(Replica, "_admit", forgetful)


def the_tail_of_a_learner_is_not_kept(patch: Patch) -> None:
    """R18: what a learner was sent since the seal is in nobody's tail."""
    prove = Handoff._prove

    def proved(self: Handoff, message: Prove) -> None:
        prove(self, message)
        self._sealed = False

    patch.setattr(Handoff, "_prove", proved)


def chunks_bring_no_numbers(patch: Patch) -> None:
    """R26: a chunk makes the records equal, not the numbers of their slots."""

    def applied(self: Replica, chunk: Chunk) -> None:
        for slot, key in chunk.removals:
            self._store.delete(slot, key, 0, 0)
        for slot, key, value, epoch, seq, expiry in chunk.puts:
            self._store.put(slot, key, Record(value, epoch, seq, expiry))

    patch.setattr(Replica, "_apply_chunk", applied)


def a_mirror_that_forgets_removals(patch: Patch) -> None:
    """R26: what the coordinator has not, and a learner has, stays there."""
    applied = Replica._apply_chunk
    patch.setattr(Replica, "_apply_chunk", lambda self, chunk: applied(self, replace(chunk, removals=[])))


def a_digest_that_ignores_expiry(patch: Patch) -> None:
    """R25: copies are summed up, and compared one by one, without the moments at which records expire."""

    class Kept(NamedTuple):
        value: bytes
        epoch: int
        seq: int
        expiry: int = 0

    def digest(records: Iterable[tuple[int, bytes, Any]], numbers: Iterable[tuple[int, int, int]]) -> int:
        plain = [(slot, key, Kept(each.value, each.epoch, each.seq)) for slot, key, each in records]
        return mirror.digest_of(plain, numbers)

    for module in (scrub, handoff, replica):
        patch.setattr(module, "digest_of", digest)


def a_late_answer_is_believed(patch: Patch) -> None:
    """R26: which keys the learner holds is taken from any answer of its walk, also from one to an earlier question,
    which had left out others."""
    listed = Handoff._keys_listed

    def believed(self: Handoff, message: KeysListed) -> None:
        listed(self, replace(message, question=getattr(self._asked, "question", 0)))

    patch.setattr(Handoff, "_keys_listed", believed)


# Changes


def ready_without_a_position(patch: Patch) -> None:
    """R9: a handoff whose walk is at its end proves what it is asked to prove, whatever is under way to the learner."""

    def check(self: Handoff) -> None:
        if self._state == "walked":
            for proof in self._proofs:
                reached = HandoffReached(handoff=self.name, phase=proof.phase, epoch=proof.epoch)
                self.send(self._storage, reached)
            self._proofs = []

    patch.setattr(Handoff, "_check_proofs", check)
    patch.setattr(StorageNode, "_affected_slots_are_held", lambda self, part: True)


def ready_before_the_successors_hold_it(patch: Patch) -> None:
    """R9: Ready is said of sealed slots whatever the other up members hold of them."""
    patch.setattr(StorageNode, "_affected_slots_are_held", lambda self, part: True)


def one_ready_is_enough(patch: Patch) -> None:
    """R11: a phase ends when one of the coordinators has reached its end."""
    behind = Ecs._behind

    def forgiving(self: Ecs, ring: Ring) -> list[str]:
        late = behind(self, ring)
        assert self._plan is not None
        return late if len(late) == len(self._plan[1].sources) else []

    patch.setattr(Ecs, "_behind", forgiving)


def a_list_without_coordinator_pins_nobody(patch: Patch) -> None:
    """R11: who is back is raised where nobody can make it equal."""

    def returning(ring: Ring, less: Collection[str] = ()) -> Any:
        ids = [node.id for node in ring.circle if node.state == "returning" and node.id not in less]
        return Wish(job=ring.epoch + 1, kind="return", ids=tuple(sorted(ids))) if ids else None

    shift = plan._shift

    def lenient(before: Ring, after: Ring, slot: int) -> Any:
        return shift(before, after, slot) if before.coordinators[slot] is not None else None

    patch.setattr(ecs, "returning", returning)
    patch.setattr(plan, "_shift", lenient)


def nobody_is_asked_after_a_commit(patch: Patch) -> None:
    """R13: who gets slots by a commit serves them at once, without a takeover."""
    changed = Tenures.ring_changed

    def wrong(self: Tenures, before: Ring | None, ring: Ring, **fields: Any) -> None:
        changed(self, before, ring, **fields)
        if self.taking and before is not None and tenures._was_planned(before, ring):
            self.begin(ring, {}, batch=fields["batch"], now=fields["now"])

    patch.setattr(Tenures, "ring_changed", wrong)


def skipped_rings_do_not_matter(patch: Patch) -> None:
    """R13: who coordinates a slot in two rings that it reads has done so in between."""
    patch.setattr(tenures, "_may_have_changed_hands", lambda before, ring: False)


# Lists of which nobody is up


def who_was_there_last_is_complete(patch: Patch) -> None:
    """R14: complete are those who were the last to run, found out anew with every ring."""
    in_trouble, up = transitions.in_trouble, transitions._up

    def inferred(before: Ring, *args: Any) -> Iterator[Any]:
        return in_trouble(replace(before, trouble=()), *args)

    def running(members: tuple[Node, ...]) -> tuple[tuple[str, str], ...]:
        return up(members) or tuple((node.id, node.data_id) for node in members if node.state == "returning")

    patch.setattr(transitions, "in_trouble", inferred)
    patch.setattr(transitions, "_up", running)


def whoever_is_returning_is_complete(patch: Patch) -> None:
    """R14: who was being made equal when the last one died counts as one that held everything."""

    def running(members: tuple[Node, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((node.id, node.data_id) for node in members if node.state in ("up", "returning"))

    patch.setattr(transitions, "_up", running)


def who_is_up_alone_shows_what_it_has(patch: Patch) -> None:
    """R15: a keeper that is raised answers reads, though somebody else may follow it who lacks what it shows."""
    in_trouble = transitions.in_trouble

    def shown(before: Ring, after: Iterable[Node], *args: Any) -> Iterator[Trouble]:
        nodes = tuple(after)
        up = {node.id for node in nodes if node.state == "up"}
        for record in in_trouble(before, nodes, *args):
            yield replace(record, keeper=None) if record.keeper in up else record

    patch.setattr(transitions, "in_trouble", shown)


def a_keeper_stamps_writes(patch: Patch) -> None:
    """R15: a keeper writes like any coordinator."""
    tenure = Tenures._tenure

    def writable(self: Tenures, ring: Ring, slots: Run, *args: Any) -> Tenure:
        found = tenure(self, ring, slots, *args)
        return replace(found, copies=found.copies or found.members)

    patch.setattr(Tenures, "_tenure", writable)


def a_keeper_is_up_at_once(patch: Patch) -> None:
    """R15: who is complete in one list is made up, in all its lists."""

    def kept(ring: Ring, keepers: Mapping[Run, str], **fields: Any) -> Ring:
        following = transitions.kept(ring, keepers, **fields)
        nodes = tuple(replace(each, state="up") if each.id in keepers.values() else each for each in following.nodes)
        return replace(following, nodes=nodes, trouble=tuple(transitions.in_trouble(ring, nodes)))

    patch.setattr(ecs, "kept", kept)


def nobody_has_lost_anything_by_a_power_cut(patch: Patch) -> None:
    """R16: every complete member that is back holds everything."""

    def trusting(ring: Ring, lives: Mapping[str, Registration], highest: Highest, enough: Any = ()) -> Recovery:
        return recovery(ring, {id: replace(life, whole=True) for id, life in lives.items()}, highest, enough)

    patch.setattr(ecs, "recovery", trusting)


# Damaged copies


def those_that_are_back(ecs: Ecs, ring: Ring, heard: Container[tuple[str, str]]) -> Iterator[tuple[Node, Registration]]:
    """The nodes that a damaged one may wait for: heard since, in the life that the ring knows."""
    lives = ecs.newest_lives()
    for node in ring.circle:
        life = lives.get(node.id)
        if life is not None and life.incarnation == node.incarnation and (node.id, node.incarnation) in heard:
            yield node, life


def who_is_damaged_goes_for_who_is_damaged(patch: Patch) -> None:
    """R25: a copy with a record that cannot be read is made anew from another one, which may have such a record too."""
    patch.setattr(
        Ecs,
        "_good_copies",
        lambda self, ring, heard: {
            node.id for node, life in those_that_are_back(self, ring, heard) if node.state == "up" or life.whole
        },
    )


def who_is_damaged_goes_for_who_lost_power(patch: Patch) -> None:
    """R16, R25: a copy with a record that cannot be read is made anew from one of which a power cut has taken the last
    second."""
    patch.setattr(
        Ecs,
        "_good_copies",
        lambda self, ring, heard: {
            node.id
            for node, life in those_that_are_back(self, ring, heard)
            if not life.damaged and node.id not in self._damaged
        },
    )


def who_is_damaged_goes_for_who_is_not_heard(patch: Patch) -> None:
    """R25: a copy with a record that cannot be read is given up though nobody has heard of the others for a while."""
    patch.setattr(
        Ecs,
        "_good_copies",
        lambda self, ring, heard: {
            node.id
            for node in ring.circle
            if (life := self.newest_lives().get(node.id)) is not None
            and not life.damaged
            and node.id not in self._damaged
            and (node.state == "up" or life.whole)
        },
    )


# Takeover


def only_the_own_tail_is_taken(patch: Patch) -> None:
    """R18: the others are asked, and what they lack is sent to them; what they have more is not taken."""
    tails = Takeover._tails

    def own(self: Takeover, message: Tails) -> None:
        tails(self, message if message.node == self.id else replace(message, operations=[], numbers=[]))

    patch.setattr(Takeover, "_tails", own)


def nobody_is_asked_for_the_tail(patch: Patch) -> None:
    """R18: who takes over goes on with what it has itself."""
    begin = Takeover.__init__

    def alone(self: Takeover, **fields: Any) -> None:
        begin(self, **{**fields, "members": {}})

    patch.setattr(Takeover, "__init__", alone)


def the_tail_is_not_sent_on(patch: Patch) -> None:
    """R18: who takes over stores the tail, and does not send it to those who lack it."""
    begin = Replicator._begin_tenure
    patch.setattr(Replicator, "_begin_tenure", lambda self, message: begin(self, replace(message, operations=[])))


def writes_are_served_before_the_tail_is_in(patch: Patch) -> None:
    """R18: who takes over serves at once, and the tail, when it comes, is written like anything new."""
    take_over, taken_over = StorageNode._take_over, StorageNode._taken_over
    begin = Tenures.begin

    def hasty(self: StorageNode) -> None:
        take_over(self)
        ring = self._ring
        assert ring is not None
        self._planted = begin(self._tenures, ring, {}, batch=self._batch, now=self.now())  # type: ignore[attr-defined]
        if self._planted:  # type: ignore[attr-defined]
            self._take_part(ring)
            self._regroup()
            self._lead(self._batch)

    def late(self: StorageNode, message: Any) -> None:
        operations = [(slot, key, value, *self.stamp(), left) for slot, key, value, _, _, left in message.operations]
        self.staged = False
        message = replace(message, operations=operations)
        with pytest.MonkeyPatch.context() as moment:
            moment.setattr(self._tenures, "begin", lambda *args, **fields: self._planted)  # type: ignore[attr-defined]
            taken_over(self, message)

    patch.setattr(StorageNode, "_take_over", hasty)
    patch.setattr(StorageNode, "_taken_over", late)


# Reads


def reads_without_a_lease(patch: Patch) -> None:
    """R21: a coordinator serves reads as long as its ring says that it is one."""
    patch.setattr(StorageNode, "_has_lease", lambda self, group, now: True)
    patch.setattr(StorageNode, "_renew_leases", lambda self, now: None)


def the_lease_of_others_is_not_waited_for(patch: Patch) -> None:
    """R21: who takes over acknowledges writes while the one before it may still serve reads."""
    patch.setattr(Tenures, "_lease_of_others", lambda self, *args: (0.0, None))


def dirty_reads(patch: Patch) -> None:
    """R21: a read is answered with what others may not hold yet."""
    hold_back = StorageNode._hold_back

    def only_writes(
        self: StorageNode, requests: Any, replies: list[Any], asked: Any, offset: int, eager: frozenset[int]
    ) -> int:
        reads = {
            index: replies[index]
            for index, (command, _) in enumerate(requests[: len(replies)])
            if not command.writes and command.name != "wait" and replies[index] is not LATER
        }
        for index in reads:
            replies[index] = LATER
        waiting = hold_back(self, requests, replies, asked, offset, eager)
        for index, reply in reads.items():
            replies[index] = reply
        return waiting

    patch.setattr(StorageNode, "_hold_back", only_writes)


def the_deposed_carries_on(patch: Patch) -> None:
    """R3: who reads that it was taken down goes on by the ring before that, for a while."""
    read = Member._ring_read

    def deaf(self: Member, data: bytes | None) -> bool:
        try:
            ring = Ring.from_json(data or b"")
        except RingError:
            return read(self, data)
        me = ring.by_id.get(self._life.id)
        deposed = me is None or me.incarnation != self._life.incarnation or me.state == "down"
        if self._named and deposed and self._ring is not None:
            since = self.__dict__.setdefault("_planted_since", self.now())
            if self.now() - since < 5.0:
                self.after(0.25, LookForRing())
                return True
        return read(self, data)

    patch.setattr(Member, "_ring_read", deaf)


class Planted(NamedTuple):
    """A fault, and what finds it."""

    plant: Callable[[Patch], None]
    story: str | Callable[..., None]
    """RANDOM, one of `copies_stories.py`, or a test that fails with the fault."""
    seed: int = 0
    """Of a story."""


FAULTS: dict[str, Planted] = {
    "answered before a successor has it": Planted(answered_before_a_successor_has_it, RANDOM, 28),
    "min copies not asked when a write is answered": Planted(
        min_copies_not_asked_when_a_write_is_answered, "a list goes to and fro", 0
    ),
    "a successor acknowledges before it has it": Planted(
        a_successor_acknowledges_before_it_has_it, "copies differ and one dies", 1
    ),
    "a learner counts as a copy": Planted(a_learner_counts_as_a_copy, "a list goes to and fro", 0),
    "a learner is not waited for": Planted(a_learner_is_not_waited_for, "one returns and another dies", 0),
    "a quick restart goes unnoticed": Planted(a_quick_restart_goes_unnoticed, "one is back at once", 1),
    "versions begin anew with every life": Planted(versions_begin_anew_with_every_life, "a list goes to and fro", 0),
    "the backlog forgets what exceeds it": Planted(
        the_backlog_forgets_what_exceeds_it, "copies differ and one dies", 1
    ),
    "a gap is accepted": Planted(a_gap_is_accepted, "connections break", 1),
    "tails are not kept": Planted(tails_are_not_kept, "copies differ and one dies", 0),
    "chunks bring no numbers": Planted(chunks_bring_no_numbers, "one returns and another dies", 0),
    "ready without a position": Planted(ready_without_a_position, "one returns and another dies", 0),
    "one ready is enough": Planted(one_ready_is_enough, "one returns and another dies", 0),
    "a list without coordinator pins nobody": Planted(
        a_list_without_coordinator_pins_nobody, "a list goes to and fro", 0
    ),
    "who was there last is complete": Planted(
        who_was_there_last_is_complete, "one that lacks something is left alone", 2
    ),
    "a keeper is up at once": Planted(a_keeper_is_up_at_once, "a list goes to and fro", 0),
    "nobody has lost anything by a power cut": Planted(
        nobody_has_lost_anything_by_a_power_cut, "a list goes to and fro", 0
    ),
    "only the own tail is taken": Planted(only_the_own_tail_is_taken, "what the dead have sent comes late", 0),
    "nobody is asked for the tail": Planted(nobody_is_asked_for_the_tail, "what the dead have sent comes late", 0),
    "the tail is not sent on": Planted(the_tail_is_not_sent_on, "copies differ and one dies", 0),
    "the number is stored apart": Planted(
        the_number_is_stored_apart,
        test_replica.test_a_disk_that_refuses_a_batch_leaves_nothing_of_it_and_takes_it_when_it_comes_again,
    ),
    "copies expire by their own clocks": Planted(copies_expire_by_their_own_clocks, "values expire", 2),
    "a takeover is answered before its ring is read": Planted(
        a_takeover_is_answered_before_its_ring_is_read,
        test_moments.test_who_has_answered_a_takeover_admits_nothing_of_the_deposed_though_it_reads_late,
    ),
    "a new life goes on with the stream of the one before": Planted(
        a_new_life_goes_on_with_the_stream_of_the_one_before,
        test_replica.test_a_stream_that_means_another_life_of_this_node_is_not_taken,
    ),
    "a stamped write is answered moved": Planted(
        a_stamped_write_is_answered_moved,
        test_successors.test_who_was_asked_for_its_tail_admits_nothing_of_the_deposed,
    ),
    "whoever sends is admitted": Planted(
        whoever_sends_is_admitted, test_successors.test_who_was_asked_for_its_tail_admits_nothing_of_the_deposed
    ),
    "the deposed is admitted after the answer": Planted(
        the_deposed_is_admitted_after_the_answer,
        test_successors.test_only_the_writer_of_the_newest_life_is_followed,
    ),
    "what comes from a newer ring does not wait": Planted(
        what_comes_from_a_newer_ring_does_not_wait,
        test_successors.test_a_copy_that_has_not_read_the_ring_yet_takes_it_in_later_and_in_order,
    ),
    "older operations are applied": Planted(
        older_operations_are_applied, test_replica.test_what_is_not_above_the_slots_number_is_skipped_and_acknowledged
    ),
    "the tail of a learner is not kept": Planted(
        the_tail_of_a_learner_is_not_kept,
        test_moments.test_what_only_a_learner_has_got_since_the_seal_is_taken_over,
    ),
    "ready before the successors hold it": Planted(
        ready_before_the_successors_hold_it, test_moments.test_a_successor_that_lags_behind_a_seal_gets_all_before_ready
    ),
    "skipped rings do not matter": Planted(
        skipped_rings_do_not_matter,
        test_successors.test_a_coordinator_that_missed_a_ring_which_moved_slots_takes_over_again,
    ),
    "whoever is returning is complete": Planted(
        whoever_is_returning_is_complete, "one that lacks something is left alone", 2
    ),
    "who is up alone shows what it has": Planted(who_is_up_alone_shows_what_it_has, RANDOM, 159),
    "a keeper stamps writes": Planted(a_keeper_stamps_writes, "keepers follow each other", 1),
    "writes are served before the tail is in": Planted(
        writes_are_served_before_the_tail_is_in,
        test_successors.test_what_only_the_next_one_has_is_sent_to_the_others_with_its_old_number,
    ),
    "dirty reads": Planted(
        dirty_reads, test_successors.test_a_read_of_what_not_everybody_holds_waits_and_others_do_not
    ),
    "the deposed carries on": Planted(the_deposed_carries_on, test_member.test_a_life_that_the_ring_calls_down_is_over),
    "reads without a lease": Planted(reads_without_a_lease, "one is asked that was deposed", 0),
    "a mirror that forgets removals": Planted(a_mirror_that_forgets_removals, "values expire", 0),
    "a digest that ignores expiry": Planted(a_digest_that_ignores_expiry, "a disk lies", 0),
    "a late answer is believed": Planted(
        a_late_answer_is_believed,
        test_handoff.test_an_answer_to_another_question_is_not_believed,
    ),
    "who is damaged goes for who is damaged": Planted(
        who_is_damaged_goes_for_who_is_damaged,
        partial(test_scrubbing.test_copies_that_are_all_bad_in_one_record_each_lose_nothing_when_all_are_killed, 2),
    ),
    "who is damaged goes for who lost power": Planted(
        who_is_damaged_goes_for_who_lost_power,
        test_scrubbing.test_a_bad_record_is_no_reason_to_go_for_who_has_what_a_power_cut_took_of_the_other,
    ),
    "who is damaged goes for who is not heard": Planted(
        who_is_damaged_goes_for_who_is_not_heard,
        test_scrubbing.test_a_bad_record_is_no_reason_to_go_for_who_has_died_and_nobody_knows_it,
    ),
    "the lease of others is not waited for": Planted(
        the_lease_of_others_is_not_waited_for, "one is asked that was deposed", 0
    ),
}
"""By name: how it is planted, and what finds it."""

UNSEEN: dict[str, Callable[[Patch], None]] = {"nobody is asked after a commit": nobody_is_asked_after_a_commit}
"""What nothing finds, since another rule makes it good: Ready is said when all that was stamped in a sealed slot is
held by every up member and by the learner (R9), and nothing is stamped after it (R12), so the takeover that follows a
commit (R13) finds nothing that anybody lacks. With R9 off as well ("ready before the successors hold it") copies
differ, whoever is asked."""
