"""A copy takes in streams: what it admits, skips, refuses, keeps and tells (learning is in test_handoff)."""

from collections.abc import Iterator
from typing import Any

import pytest
from ringkeeper.actors import replica as replica_module
from ringkeeper.actors.messages import (
    Append,
    Appended,
    AskTail,
    LookForRing,
    OpenStream,
    Operation,
    Refused,
    RingChanged,
    Settle,
    Sync,
    Synced,
    SyncFailed,
    Tails,
)
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.transitions import returned
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.store import StoreError, open_store
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration
from ringkeeper.tests.actors.trio import Ear

FOUR = founded(4, replicas=3)
FIRST, SECOND, THIRD, FOURTH = (node.id for node in FOUR.circle)
"""In the order of the circle. The copy under test is SECOND: it is in all lists but those that begin with THIRD."""


def slot_of(id: str, offset: int = 0) -> int:
    """A slot that this node coordinates in the first ring."""
    return FOUR.slots_of(id)[0].first + offset


def put(slot: int, seq: int, epoch: int = 1, value: bytes = b"") -> Operation:
    return slot, b"key", value or b"%d.%d" % (epoch, seq), epoch, seq, 0


def ring_with(fields: Ring, **changes: Any) -> Ring:
    return fields.amended(what="test", why="test", nonce=hex64(fields.epoch + 1), wall_seconds=1e9, **changes)


class Copy:
    """The replica of SECOND, and the streams of others to it."""

    def __init__(self, ring: Ring | None = FOUR, **options: Any) -> None:
        self.store = open_store("memory")
        self.harness = Harness(
            Replica, id=SECOND, incarnation=registration(SECOND).incarnation, store=self.store, syncer="probe:syncer",
            **{"keeps_synced": False, **options},
        )  # fmt: skip
        self.to_member: list[Any] = []
        self.harness.system.spawn(Ear, self.to_member, name="member")
        self.numbers: dict[int, int] = {}
        if ring is not None:
            self.read(ring)

    def read(self, ring: Ring) -> list[Any]:
        return self._answers(self.harness.tell(RingChanged(ring=ring)))

    def open(self, stream: int, sender: str, life: int = 1, *, to_life: int = 1) -> None:
        self.numbers[stream] = 0
        opened = OpenStream(
            stream=stream, node=sender, incarnation=registration(sender, life).incarnation,
            to=registration(SECOND, to_life).incarnation, reply_to=self.harness.probe(f"replicator of {sender}"),
        )  # fmt: skip
        assert not self.harness.tell(opened)

    def append(self, stream: int, *operations: Operation, number: int = 0, epoch: int = 1, **fields: Any) -> list[Any]:
        """The next of a stream, unless it has another number; returns what is answered."""
        number = number or self.numbers[stream] + 1
        self.numbers[stream] = max(number, self.numbers[stream])
        fields = {"batch": number, "held": 0, **fields}
        append = Append(stream=stream, number=number, epoch=epoch, operations=list(operations), **fields)
        return self._answers(self.harness.tell(append))

    def tails(self, epoch: int, first: int = 0, last: int = 16383) -> list[Tails]:
        question = AskTail(takeover=1, epoch=epoch, runs=[(first, last)], reply_to=self.harness.probe("takeover"))
        return self._answers(self.harness.tell(question))

    def tail(self, epoch: int) -> list[Operation]:
        (tails,) = self.tails(epoch)
        return tails.operations

    def value(self, slot: int) -> bytes | None:
        record = self.store.get(slot, b"key")
        return record.value if record is not None else None

    @staticmethod
    def _answers(sent: list[tuple[str, Any]]) -> list[Any]:
        return [message for _, message in sent]


@pytest.fixture
def copy() -> Iterator[Copy]:
    copy = Copy()
    copy.open(1, FIRST)
    yield copy
    copy.harness.stop()


def test_what_the_coordinator_sends_is_applied_and_acknowledged(copy: Copy) -> None:
    slot = slot_of(FIRST)
    (answer,) = copy.append(1, put(slot, 1), put(slot + 1, 2))
    assert answer == Appended(stream=1, number=1, synced=0, epoch=1)
    copy.append(1, (slot, None, None, 1, 3, 0), (slot + 1, b"key", None, 1, 4, 0))
    assert (copy.value(slot), copy.value(slot + 1)) == (None, None)
    assert (copy.store.number(slot), copy.store.number(slot + 1)) == ((1, 3), (1, 4))


def test_a_gap_is_told_and_nothing_of_it_is_taken_and_what_comes_twice_is_taken_once(copy: Copy) -> None:
    """R4."""
    slot = slot_of(FIRST)
    copy.append(1, put(slot, 1))
    (answer,) = copy.append(1, put(slot, 3), number=3)
    assert (answer.number, answer.gap) == (1, True) and copy.value(slot) == b"1.1"
    copy.append(1, put(slot, 2), number=2)
    (answer,) = copy.append(1, put(slot, 1, value=b"again"), number=1)
    assert (answer.number, answer.gap) == (2, False) and copy.value(slot) == b"1.2"


def test_what_is_not_above_the_slots_number_is_skipped_and_acknowledged(copy: Copy) -> None:
    """R4: slot by slot."""
    slot = slot_of(FIRST)
    copy.store.renumber(slot, 1, 5)
    copy.store.commit()
    (answer,) = copy.append(1, put(slot, 5), put(slot + 1, 4))
    assert answer.number == 1
    assert (copy.value(slot), copy.value(slot + 1)) == (None, b"1.4")
    assert copy.store.number(slot) == (1, 5)


def test_only_the_incarnation_that_the_ring_names_is_admitted(copy: Copy) -> None:
    """R3."""
    copy.open(2, FIRST, life=2)
    (answer,) = copy.append(2, put(slot_of(FIRST), 1))
    assert answer == Refused(stream=2, epoch=1)
    (answer,) = copy.append(2, number=1)
    assert answer == Refused(stream=2, epoch=1), "though it holds nothing"
    (tails,) = copy.tails(1)
    assert copy.value(slot_of(FIRST)) is None and not tails.operations and not tails.confirmed


def test_a_stream_that_means_another_life_of_this_node_is_not_taken(copy: Copy) -> None:
    """R3."""
    copy.open(2, FIRST, to_life=2)
    assert copy.append(2, put(slot_of(FIRST), 1)) == []


def test_the_deposed_is_refused_with_all_that_follows(copy: Copy) -> None:
    """Fencing: the whole message is refused, though it may hold something that would be admitted."""
    slot, other = slot_of(FIRST), slot_of(THIRD)
    (answer,) = copy.append(1, put(slot, 1), put(other, 2))
    assert answer == Refused(stream=1, epoch=1) and copy.value(slot) is None
    (answer,) = copy.append(1, put(slot, 3))
    assert (answer.number, answer.gap) == (0, True)
    copy.read(lost(FOUR, FIRST))
    assert copy.append(1, put(slot, 1), number=1) == [], "a life that is over is not even answered"


def test_slots_of_which_it_has_no_copy_are_passed_over_while_the_sender_is_right(copy: Copy) -> None:
    """R20."""
    slot = slot_of(THIRD)
    copy.open(3, THIRD)
    (answer,) = copy.append(3, put(slot, 1))
    assert answer == Appended(stream=3, number=1, synced=0, epoch=1)
    assert copy.value(slot) is None and copy.tail(1) == [] and copy.store.number(slot) == (0, 0)


def test_a_newer_ring_is_waited_for_in_order(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """R20: and so is all that follows, whatever ring it comes from; so many messages, and no more."""
    monkeypatch.setattr(replica_module, "WAITING_MAX", 2)
    slot = slot_of(FIRST)
    assert copy.append(1, put(slot, 1, epoch=2), epoch=2) == []
    assert [type(each) for each in copy.to_member] == [LookForRing]
    assert copy.append(1, put(slot, 2), epoch=2) == [] and copy.append(1, put(slot, 3), epoch=2) == []
    assert copy.value(slot) is None
    answers = copy.read(ring_with(FOUR))
    assert [(each.number, each.epoch) for each in answers] == [(1, 2), (2, 2)]
    assert copy.value(slot) == b"2.1", "and 1.2 is not above it"
    (answer,) = copy.append(1, put(slot, 3, epoch=2), epoch=2, number=4)
    assert answer.gap, "the third found no room: it is sent again"


def test_what_waits_for_a_ring_that_deposes_its_sender_is_not_taken(copy: Copy) -> None:
    slot = slot_of(FIRST)
    copy.append(1, put(slot, 1), epoch=3)
    ring = lost(ring_with(FOUR), FIRST)
    assert copy.read(ring) == [] and copy.value(slot) is None


def test_held_lets_a_copy_forget_its_tail_and_no_earlier(copy: Copy) -> None:
    """R5."""
    slot = slot_of(FIRST)
    for seq in (1, 2, 3):
        copy.append(1, put(slot, seq), batch=seq)
    assert copy.tail(1) == [put(slot, 1), put(slot, 2), put(slot, 3)]
    copy.append(1, batch=3, held=2)
    assert copy.tail(1) == [put(slot, 3)]
    copy.append(1, batch=3, held=3)
    assert copy.tail(1) == []


def test_what_was_skipped_as_known_is_in_the_tail_all_the_same(copy: Copy) -> None:
    """Others may not have it, whatever this copy had already."""
    slot = slot_of(FIRST)
    copy.store.renumber(slot, 1, 5)
    copy.store.commit()
    copy.append(1, put(slot, 5))
    assert copy.tail(1) == [put(slot, 5)]


def test_a_takeover_is_told_all_that_was_admitted_and_afterwards_nothing_is(copy: Copy) -> None:
    """R19: a question of a ring that is not read yet waits for it, so the deposed is refused from the answer on."""
    slot = slot_of(FIRST)
    copy.append(1, put(slot, 1))
    assert copy.tails(2) == [] and isinstance(copy.to_member[-1], LookForRing)
    copy.append(1, put(slot, 2))
    (tails,) = copy.read(lost(FOUR, FIRST))
    assert tails.operations == [put(slot, 1), put(slot, 2)] and (slot, 1, 2) in tails.numbers
    assert copy.append(1, put(slot, 3)) == [] and copy.value(slot) == b"1.2"
    assert copy.tail(2) == tails.operations, "who takes over may be asked for twice, and another may"


def test_a_question_of_an_older_ring_is_not_answered(copy: Copy) -> None:
    copy.read(ring_with(FOUR))
    assert copy.tails(1) == []


def test_tails_are_of_the_slots_asked_for_and_of_whatever_coordinator(copy: Copy) -> None:
    slot, other = slot_of(FIRST), slot_of(FOURTH)
    copy.open(4, FOURTH)
    copy.append(1, put(slot, 1), put(slot + 1, 2))
    copy.append(4, put(other, 1))
    assert copy.tail(1) == [put(slot, 1), put(slot + 1, 2), put(other, 1)]
    (tails,) = copy.tails(1, slot + 1, slot + 1)
    assert tails.operations == [put(slot + 1, 2)] and tails.numbers == [(slot + 1, 1, 2)]


def test_a_long_tail_is_told_in_parts(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "TAIL_BYTES_MAX", 250)
    slot = slot_of(FIRST)
    written = [put(slot, seq, value=b"x" * 97) for seq in range(1, 6)]
    for operation in written:
        copy.append(1, operation)
    parts = copy.tails(1)
    assert [(each.part, each.more, len(each.operations)) for each in parts] == [
        (0, True, 2),
        (1, True, 2),
        (2, False, 1),
    ]
    assert [each for part in parts for each in part.operations] == written
    assert [bool(each.numbers) for each in parts] == [True, False, False]


def test_a_new_tenure_settles_all_earlier_tails_of_its_slots(copy: Copy) -> None:
    """R18: what of them is to be is among its first operations."""
    slot, other = slot_of(FIRST), slot_of(FIRST, 1)
    copy.append(1, put(slot, 1), put(other, 2))
    ring = lost(FOUR, FIRST)
    copy.read(ring)
    copy.open(4, FOURTH)
    mine = slot_of(FOURTH)
    copy.append(4, put(mine, 1))
    copy.open(5, FOURTH)
    (answer,) = copy.append(5, put(mine, 2, epoch=2), epoch=2, begins=[(mine, mine)])
    assert answer.number == 1
    assert copy.tail(2) == [put(slot, 1), put(other, 2), put(mine, 2, epoch=2)]
    (refused,) = copy.append(5, epoch=2, begins=[(slot, slot)])
    assert refused == Refused(stream=5, epoch=2) and copy.tail(2)[0] == put(slot, 1)


def test_older_tails_are_kept_until_all_that_a_new_tenure_brings_is_taken_in(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R18: whoever follows if it dies half way finds them; and then finds in its own stream what it has brought."""
    slot = slot_of(FOURTH)
    copy.open(4, FOURTH)
    copy.append(4, put(slot, 1), put(slot + 1, 2))
    copy.read(lost(FOUR, FOURTH))
    copy.append(1, put(slot, 1), epoch=2, batch=7, more=True)
    assert copy.tail(2) == [put(slot, 1), put(slot, 1), put(slot + 1, 2)]

    def refuse(batch: object) -> None:
        raise StoreError("full")

    monkeypatch.setattr(copy.store.disk, "write", refuse)
    rest, begins = (put(slot + 1, 2), put(slot + 1, 3)), [(slot, slot + 1)]
    assert copy.append(1, *rest, epoch=2, batch=7, begins=begins) == []
    assert copy.tail(2) == [put(slot, 1), put(slot, 1), put(slot + 1, 2)]
    monkeypatch.undo()
    (answer,) = copy.append(1, *rest, number=2, epoch=2, batch=7, begins=begins)
    assert answer.number == 2 and copy.tail(2) == [put(slot, 1), *rest]


def test_what_this_node_has_taken_over_is_settled_in_the_ring_in_which_it_has_and_in_no_later_one(copy: Copy) -> None:
    """By then the tail may be that of another coordinator."""
    slot = slot_of(FIRST)
    copy.append(1, put(slot, 1))
    copy.read(ring_with(FOUR))
    copy.harness.tell(Settle(epoch=1, runs=[(slot, slot)]))
    assert copy.tail(2) == [put(slot, 1)]
    copy.harness.tell(Settle(epoch=2, runs=[(slot + 1, slot + 1)]))
    assert copy.tail(2) == [put(slot, 1)]
    copy.harness.tell(Settle(epoch=2, runs=[(slot, slot)]))
    assert copy.tail(2) == []


def test_whose_tenure_was_confirmed_is_told_with_how_long_ago(copy: Copy) -> None:
    """R21: by the answers that an admitted message got, not by a sync, nor by a refusal."""
    copy.harness.advance(1.0)
    copy.append(1)
    copy.open(4, FOURTH, life=2)
    copy.append(4)
    copy.harness.advance(0.3)
    (tails,) = copy.tails(1)
    ((*life, ago),) = tails.confirmed
    assert life == [FIRST, registration(FIRST).incarnation] and ago == pytest.approx(0.3)
    copy.read(lost(FOUR, FIRST))
    copy.harness.advance(0.3)
    (tails,) = copy.tails(2)
    assert [ago for *_, ago in tails.confirmed] == [pytest.approx(0.6)], "it is remembered though the life is over"


def test_a_sender_that_begins_anew_has_its_older_stream_closed_and_the_tail_kept(copy: Copy) -> None:
    slot = slot_of(FIRST)
    copy.append(1, put(slot, 1))
    copy.open(2, FIRST)
    assert copy.append(1, put(slot, 2)) == []
    copy.append(2, put(slot, 2))
    assert copy.tail(1) == [put(slot, 1), put(slot, 2)]


def test_this_life_of_the_node_has_copies_and_the_one_before_had_not() -> None:
    """R3: an older life's replica that still runs takes nothing in once it has read that it is over."""
    ring = returned(FOUR, [registration(SECOND, 2)], nonce=hex64(2), wall_seconds=1e9)
    copy = Copy(ring)
    copy.open(1, FIRST)
    (answer,) = copy.append(1, put(slot_of(FIRST), 1), epoch=2)
    assert answer.number == 1 and copy.value(slot_of(FIRST)) is None
    copy.harness.stop()


def test_on_disk_is_what_was_synced_after_it_came(copy: Copy) -> None:
    slot = slot_of(FIRST)
    sync, answer = copy.append(1, put(slot, 1), sync=True)
    assert isinstance(sync, Sync) and answer.synced == 0
    (answer,) = copy.append(1, put(slot, 2), sync=True)
    assert answer.synced == 0, "one sync at a time"
    answers = Copy._answers(copy.harness.tell(Synced(batch=sync.batch)))
    assert [each.synced for each in answers if isinstance(each, Appended)] == [1]
    (again,) = [each for each in answers if isinstance(each, Sync)]
    (answer,) = Copy._answers(copy.harness.tell(Synced(batch=again.batch)))
    assert answer.synced == 2


def test_a_sync_that_fails_ends_all_taking_in(copy: Copy) -> None:
    (sync, _) = copy.append(1, put(slot_of(FIRST), 1), sync=True)
    assert copy.harness.tell(Synced(batch=sync.batch, error="bad disk")) == []
    assert copy.append(1, put(slot_of(FIRST), 2)) == []
    assert copy.to_member == [SyncFailed(why="bad disk")], "which ends this life"


def test_a_disk_that_refuses_a_batch_leaves_nothing_of_it_and_takes_it_when_it_comes_again(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = slot_of(FIRST)

    def refuse(batch: object) -> None:
        raise StoreError("full")

    monkeypatch.setattr(copy.store.disk, "write", refuse)
    assert copy.append(1, put(slot, 1), put(slot + 1, 2)) == []
    monkeypatch.undo()
    assert copy.value(slot) is None and copy.store.number(slot) == (0, 0) and copy.tail(1) == []
    (answer,) = copy.append(1, put(slot, 1), put(slot + 1, 2), number=1)
    assert answer.number == 1 and copy.value(slot + 1) == b"1.2"


def test_what_was_taken_in_is_synced_within_a_second() -> None:
    copy = Copy(keeps_synced=True)
    copy.open(1, FIRST)
    copy.append(1, put(slot_of(FIRST), 1))
    syncs = [
        each for each in Copy._answers(copy.harness.advance(replica_module.SYNC_SECONDS)) if isinstance(each, Sync)
    ]
    assert len(syncs) == 1
    copy.harness.stop()
