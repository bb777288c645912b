"""What a node sends to its successors, message by message: gapless, again when it was lost, bounded, fenced."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.actors import replicator as module
from ringkeeper.actors.messages import (
    Append,
    Appended,
    AskTail,
    Backlog,
    BeginTenure,
    Follow,
    Lead,
    LearnersHold,
    LookForRing,
    OpenStream,
    Operation,
    PeerHolds,
    Refused,
    StreamSilent,
    Tails,
)
from ringkeeper.actors.replicator import BEAT_SECONDS, RELINK_SECONDS, RESEND_SECONDS, SILENT_SECONDS, Replicator
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import Run
from ringkeeper.actors.rules.transitions import returned
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.system import Terminated
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration
from ringkeeper.tests.actors.trio import Ear, Far

RING = founded(4, replicas=3)
FIRST, SECOND, THIRD, FOURTH = (node.id for node in RING.circle)
"""In the order of the circle; the replicator under test is FIRST's."""
SLOT = RING.slots_of(FIRST)[0].first
"""FIRST coordinates it; SECOND and THIRD have copies."""
OF_FOURTH = RING.slots_of(FOURTH)[0].first
"""FOURTH coordinates it, then FIRST and SECOND."""


def put(seq: int, slot: int = SLOT, epoch: int = 1, value: bytes = b"v") -> Operation:
    return slot, b"key", value, epoch, seq, 0


class Sender:
    """The replicator of FIRST; its successors are the test."""

    def __init__(self, *, synced: bool = False) -> None:
        self.harness = Harness(
            Replicator, id=FIRST, incarnation=registration(FIRST).incarnation, storage="probe:storage",
            detector="failure-detector", member="member", synced=synced,
        )  # fmt: skip
        self.far: dict[str, Far] = {}
        self.harness.system.resolver = lambda address: self.far.setdefault(address, Far(address, self._sent))
        self.to_member: list[Any] = []
        self.to_detector: list[Any] = []
        self.harness.system.spawn(Ear, self.to_member, name="member")
        self.harness.system.spawn(Ear, self.to_detector, name="failure-detector")
        self.ring = RING
        self.batch = 0
        self.streams: dict[str, int] = {}
        """By node, the stream that was opened last."""
        self.pass_time(1.0)

    def _sent(self, address: str, message: Any) -> None:
        self.harness.sent.append((address, message))

    def tell(self, message: Any) -> list[tuple[str, Any]]:
        return self._sorted(self.harness.tell(message))

    def pass_time(self, seconds: float) -> list[tuple[str, Any]]:
        return self._sorted(self.harness.advance(seconds))

    def _sorted(self, sent: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Messages with the ids of the nodes that they go to."""
        named = [(_node_at(to) if to in self.far else to, message) for to, message in sent]
        self.streams |= {to: message.stream for to, message in named if isinstance(message, OpenStream)}
        return named

    def lead(self, ring: Ring = RING, batch: int | None = None, taking: tuple[Run, ...] = ()) -> list[tuple[str, Any]]:
        """All that the ring gives to the node, less what it has to take over first."""
        self.ring = ring
        self.batch = self.batch if batch is None else batch
        runs = [(run.first, run.last) for run in ring.coordinated_by(FIRST) if run not in taking]
        taken = [(run.first, run.last) for run in taking]
        return self.tell(Lead(ring=ring, runs=runs, taking=taken, batch=self.batch))

    def write(self, *operations: Operation) -> list[tuple[str, Any]]:
        self.batch += 1
        return self.tell(Follow(batch=self.batch, operations=list(operations)))

    def appended(self, node: str, number: int, *, synced: int = 0, epoch: int | None = None, gap: bool = False) -> Any:
        """A successor acknowledges; returns what is sent then."""
        epoch = self.ring.epoch if epoch is None else epoch
        return self.tell(Appended(stream=self.streams[node], number=number, synced=synced, epoch=epoch, gap=gap))

    def tail(self) -> list[Operation]:
        question = AskTail(takeover=1, epoch=1, runs=[(0, 16383)], reply_to=self.harness.probe("takeover"))
        (tails,) = [message for _, message in self.tell(question)]
        assert isinstance(tails, Tails) and tails.own
        return tails.operations


def _node_at(address: str) -> str:
    port = int(address.removeprefix("ringkeeper://127.0.0.1:").partition("/")[0])
    return f"127.0.0.1:{port - 10_000}"


def appends(sent: list[tuple[str, Any]], to: str) -> list[Append]:
    return [message for node, message in sent if node == to and isinstance(message, Append)]


def holds(sent: list[tuple[str, Any]]) -> list[tuple[str, int]]:
    return [(message.node, message.batch) for _, message in sent if isinstance(message, PeerHolds)]


def raised(ring: Ring) -> Ring:
    """The next ring, in which all are up, in the lives that they have."""
    nodes = tuple(replace(node, state="up") for node in ring.nodes)
    nonce = hex64(ring.epoch + 1)
    return ring.amended(nodes=nodes, trouble=(), what="up", why="test", nonce=nonce, wall_seconds=1e9)


def acknowledge(sender: Sender, sent: list[tuple[str, Any]]) -> None:
    """All of these have arrived."""
    for node in (SECOND, THIRD):
        for append in appends(sent, node):
            sender.appended(node, append.number)


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    acknowledge(sender, sender.lead())
    yield sender
    sender.harness.stop()


def test_each_up_member_of_its_slots_gets_a_stream_that_names_both_lives() -> None:
    """R3."""
    sender = Sender()
    opened = {to: message for to, message in sender.lead() if isinstance(message, OpenStream)}
    assert {to: message.to for to, message in opened.items()} == {
        id: registration(id).incarnation for id in (SECOND, THIRD)
    }
    assert {(message.node, message.incarnation) for message in opened.values()} == {
        (FIRST, registration(FIRST).incarnation)
    }
    sender.harness.stop()


def test_messages_are_numbered_without_a_gap_and_acknowledged_up_to_one(sender: Sender) -> None:
    """R4."""
    sent = [message for seq in (1, 2, 3) for message in sender.write(put(seq))]
    first = appends(sent, SECOND)
    assert [each.number for each in first] == list(range(first[0].number, first[0].number + 3))
    assert [each.batch for each in first] == [1, 2, 3] and [each.operations for each in first] == [
        [put(n)] for n in (1, 2, 3)
    ]
    assert holds(sender.appended(SECOND, first[1].number)) == [(SECOND, 2)]
    assert holds(sender.appended(SECOND, first[0].number)) == [], "what is known already"


def test_a_stream_carries_what_concerns_its_receiver_and_the_others_are_not_behind(sender: Sender) -> None:
    ring = lost(RING, FOURTH)
    sender.lead(ring)
    sent = sender.write(put(1, SLOT), put(2, OF_FOURTH, 2))
    assert [each.operations for each in appends(sent, SECOND)] == [[put(1, SLOT), put(2, OF_FOURTH, 2)]]
    assert [each.operations for each in appends(sent, THIRD)] == [[put(1, SLOT)]]
    for node in (SECOND, THIRD):
        sender.appended(node, appends(sent, node)[0].number)
    sent = sender.write(put(3, OF_FOURTH, 2))
    assert not appends(sent, THIRD)
    (message,) = appends(sent, SECOND)
    assert holds(sender.appended(SECOND, message.number)) == [(SECOND, 2)]
    assert sender.tail() == [], "everybody whom it concerns holds it"


def test_held_is_what_all_have_and_learners_that_are_required_count(sender: Sender) -> None:
    """R5."""
    sender.tell(LearnersHold(batch=0))
    (one, other) = (appends(sender.write(put(1)), SECOND)[0], appends(sender.write(put(2)), SECOND)[0])
    sender.appended(SECOND, other.number)
    assert appends(sender.write(put(3)), SECOND)[0].held == 0, "the other has nothing"
    sender.appended(THIRD, one.number)
    assert appends(sender.write(put(4)), SECOND)[0].held == 0, "nor has the learner"
    sender.tell(LearnersHold(batch=2))
    assert appends(sender.write(put(5)), SECOND)[0].held == 1
    sender.tell(LearnersHold(batch=None))
    assert sender.tail() == [put(seq) for seq in (2, 3, 4, 5)]


def test_a_gap_is_filled_once_from_where_it_begins(sender: Sender) -> None:
    """R4."""
    numbers = [appends(sender.write(put(seq)), SECOND)[0].number for seq in (1, 2, 3)]
    again = appends(sender.appended(SECOND, numbers[0], gap=True), SECOND)
    assert [each.number for each in again] == numbers[1:]
    assert not appends(sender.appended(SECOND, numbers[0], gap=True), SECOND), "each that comes too early tells of it"


def test_after_a_lost_link_all_that_is_not_acknowledged_is_sent_again(sender: Sender) -> None:
    numbers = [appends(sender.write(put(seq)), SECOND)[0].number for seq in (1, 2, 3)]
    sender.appended(SECOND, numbers[0])
    replica = sender.far[f"ringkeeper://127.0.0.1:{int(SECOND[-4:]) + 10_000}/replica"]
    sender.tell(Terminated(ref=replica, why="lost"))
    sent = sender.pass_time(RELINK_SECONDS)
    assert [type(message) for to, message in sent if to == SECOND][0] is OpenStream
    assert [each.number for each in appends(sent, SECOND)] == numbers[1:2] and not appends(sent, THIRD)
    again = appends(sender.appended(SECOND, numbers[1]), SECOND)
    assert [each.number for each in again] == numbers[2:], "when it answers to the first"


def test_who_acknowledges_nothing_is_reported_and_when_it_does_again_that_is_told(sender: Sender) -> None:
    """R22."""
    (message,) = appends(sender.write(put(1)), SECOND)
    sender.appended(THIRD, message.number)
    sent = []
    for _ in range(7):
        beat = sender.pass_time(BEAT_SECONDS)
        acknowledge(sender, [each for each in beat if each[0] == THIRD])
        sent += beat
    silent, again = sender.to_detector
    assert (silent.node, silent.incarnation) == (SECOND, registration(SECOND).incarnation)
    assert again.seconds > silent.seconds > SILENT_SECONDS, "a takeover may have taken it back since"
    assert any(isinstance(each, OpenStream) for to, each in sent if to == SECOND), "and it is tried again"
    sender.appended(SECOND, message.number)
    assert sender.to_detector[-1] == StreamSilent(
        node=SECOND, incarnation=registration(SECOND).incarnation, seconds=0.0
    )


def test_a_successor_that_goes_on_acknowledging_is_not_reported(sender: Sender) -> None:
    for _ in range(20):
        acknowledge(sender, sender.pass_time(BEAT_SECONDS))
    assert not sender.to_detector


def test_a_tenure_is_confirmed_by_what_was_asked_in_it_and_from_the_question_on(sender: Sender) -> None:
    """R21."""
    asked_at = sender.harness.loop.time()
    (message,) = appends(sender.write(put(1)), SECOND)
    sender.pass_time(0.05)
    (_, told) = next(each for each in sender.appended(SECOND, message.number) if isinstance(each[1], PeerHolds))
    assert told.confirmed_at == asked_at
    (again,) = appends(sender.write(put(2)), SECOND)
    (_, told) = next(each for each in sender.appended(SECOND, again.number, epoch=2) if isinstance(each[1], PeerHolds))
    assert told.batch == 2 and told.confirmed_at == asked_at, "it has read a ring that is not known here"
    assert isinstance(sender.to_member[-1], LookForRing)


def test_who_is_idle_is_asked_every_so_often(sender: Sender) -> None:
    sent = sender.pass_time(BEAT_SECONDS)
    (message,) = appends(sent, SECOND)
    assert message.operations == [] and len(appends(sent, THIRD)) == 1
    assert appends(sender.pass_time(BEAT_SECONDS), SECOND) == [], "one at a time"


def test_after_a_refusal_nothing_is_sent_before_the_newer_ring_is_read(sender: Sender) -> None:
    """R20, fencing: then it is sent again without the slots that are another's by now."""
    ring = lost(RING, FOURTH)
    acknowledge(sender, sender.lead(ring))
    numbers = [each.number for each in appends(sender.write(put(1, SLOT, 2), put(2, OF_FOURTH, 2)), SECOND)]
    sender.tell(Refused(stream=sender.streams[SECOND], epoch=3))
    assert isinstance(sender.to_member[-1], LookForRing)
    assert appends(sender.write(put(3, SLOT, 2)), SECOND) == []
    assert appends(sender.pass_time(3 * RESEND_SECONDS), SECOND) == []
    again = appends(sender.lead(raised(ring)), SECOND)
    assert [each.operations for each in again] == [[put(1, SLOT, 2)], [put(3, SLOT, 2)], []]
    assert [each.number for each in again] == [numbers[0] + n for n in range(3)], "no number is left out"
    assert again[-1].epoch == 3


def test_a_refusal_by_a_ring_that_was_read_already_is_past(sender: Sender) -> None:
    sender.tell(Refused(stream=sender.streams[SECOND], epoch=1))
    assert not sender.to_member and len(appends(sender.write(put(1)), SECOND)) == 1


def test_who_is_down_gets_nothing_and_counts_for_nothing_and_another_life_begins_with_nothing(sender: Sender) -> None:
    """R3."""
    (message,) = appends(sender.write(put(1)), SECOND)
    old = sender.streams[SECOND]
    sender.appended(THIRD, message.number)
    assert sender.tail() == [put(1)]
    sender.lead(lost(RING, SECOND))
    assert sender.tail() == [], "all that are up hold it"
    late = Appended(stream=old, number=message.number, synced=0, epoch=1)
    assert sender.tell(late) == []
    assert appends(sender.write(put(2, epoch=2)), SECOND) == []
    back = returned(sender.ring, [registration(SECOND, 2)], nonce=hex64(3), wall_seconds=1e9)
    up = raised(back)
    sent = sender.lead(up, batch=sender.batch + 1)
    (opened,) = [message for to, message in sent if to == SECOND and isinstance(message, OpenStream)]
    assert opened.stream != old and opened.to == registration(SECOND, 2).incarnation
    assert holds(sender.tell(late)) == []


def test_who_is_new_to_slots_gets_what_not_everybody_holds_of_them() -> None:
    """R9 at the commit: all before that it has from its handoff."""
    sender = Sender()
    down = lost(RING, THIRD)
    back = returned(down, [registration(THIRD, 2)], nonce=hex64(3), wall_seconds=1e9)
    sender.lead(back)
    (held,) = appends(sender.write(put(1, epoch=3)), SECOND)
    sender.appended(SECOND, held.number)
    sender.write(put(2, epoch=3))
    up = raised(back)
    sent = sender.lead(up, batch=3)
    (message,) = appends(sent, THIRD)
    assert message.operations == [put(2, epoch=3)] and message.batch == 3
    assert holds(sender.appended(THIRD, message.number)) == [(THIRD, 3)]
    sender.harness.stop()


def test_a_new_tenure_is_begun_before_anything_new_in_each_stream_that_it_concerns(sender: Sender) -> None:
    """R18: old numbers and all."""
    ring = lost(RING, FOURTH)
    sender.lead(ring)
    old = put(7, OF_FOURTH, 1)
    begin = BeginTenure(batch=1, runs=[(OF_FOURTH, OF_FOURTH)], operations=[old])
    sender.batch = 1
    sent = sender.tell(begin)
    (message,) = appends(sent, SECOND)
    assert (message.operations, message.begins) == ([old], [(OF_FOURTH, OF_FOURTH)])
    assert not appends(sent, THIRD), "it has no copies of them"
    (following,) = appends(sender.write(put(8, OF_FOURTH, 2)), SECOND)
    assert following.number == message.number + 1
    assert sender.tail() == [old, put(8, OF_FOURTH, 2)]


def test_a_tenure_that_begins_with_much_begins_with_the_last_of_it(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R18: until then a copy keeps what it had."""
    monkeypatch.setattr(module, "APPEND_BYTES_MAX", 250)
    sender.lead(lost(RING, FOURTH))
    old = [put(seq, OF_FOURTH, value=b"x" * 97) for seq in (1, 2, 3)]
    sent = sender.tell(BeginTenure(batch=1, runs=[(OF_FOURTH, OF_FOURTH)], operations=old))
    parts = appends(sent, SECOND)
    assert [(len(each.operations), each.more, each.begins) for each in parts] == [
        (2, True, []),
        (1, False, [(OF_FOURTH, OF_FOURTH)]),
    ]


def test_what_was_sent_of_slots_that_are_taken_over_again_is_told_and_not_sent(sender: Sender) -> None:
    """R18: a node that missed a ring asks itself, too, what it may have sent."""
    sender.write(put(1))
    sent = sender.lead(lost(RING, FOURTH), taking=RING.slots_of(FIRST))
    assert not any(each.operations for node in (SECOND, THIRD) for each in appends(sent, node))
    assert sender.tail() == [put(1)]
    sender.lead(lost(RING, FOURTH))
    assert sender.tail() == [], "taken over, it is among what BeginTenure brings"


def test_too_much_that_waits_is_told_and_when_half_of_it_is_gone_or_the_ring_calls_it_down(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES_MAX", 1000)

    def backlogs(sent: list[tuple[str, Any]]) -> list[bool]:
        return [message.full for _, message in sent if isinstance(message, Backlog)]

    numbers = []
    told: list[bool] = []
    for seq in range(1, 12):
        sent = sender.write(put(seq, value=b"x" * 97))
        numbers += [each.number for each in appends(sent, SECOND)]
        told += backlogs(sent)
    assert told == [True]
    sender.appended(THIRD, numbers[-1])
    assert backlogs(sender.appended(SECOND, numbers[4])) == []
    assert backlogs(sender.appended(SECOND, numbers[6])) == [False]
    monkeypatch.setattr(module, "KEPT_MESSAGES_MAX", 5)
    assert backlogs([each for seq in (12, 13, 14) for each in sender.write(put(seq))]) == [True]
    sender.appended(THIRD, numbers[-1] + 3)
    assert backlogs(sender.lead(lost(RING, SECOND))) == [False]


def test_a_long_batch_is_cut_and_held_with_its_last_part(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APPEND_BYTES_MAX", 250)
    sender.pass_time(0.01)
    parts = appends(sender.write(*(put(seq, value=b"x" * 97) for seq in range(1, 6))), SECOND)
    assert [(len(each.operations), each.more) for each in parts] == [(2, True), (2, True), (1, False)]
    assert {each.batch for each in parts} == {1}, "a copy keeps all of it in its tail until all of it is held"
    assert holds(sender.appended(SECOND, parts[1].number)) == [(SECOND, 0)]
    assert holds(sender.appended(SECOND, parts[2].number)) == [(SECOND, 1)]


def test_where_that_counts_held_means_synced() -> None:
    sender = Sender(synced=True)
    acknowledge(sender, sender.lead())
    sender.pass_time(0.01)
    (message,) = appends(sender.write(put(1)), SECOND)
    assert message.sync
    assert holds(sender.appended(SECOND, message.number)) == [(SECOND, 0)], "that it is there confirms the tenure only"
    (next_one,) = appends(sender.write(put(2)), SECOND)
    assert holds(sender.appended(SECOND, next_one.number, synced=message.number)) == [(SECOND, 1)]
    replica = sender.far[f"ringkeeper://127.0.0.1:{int(SECOND[-4:]) + 10_000}/replica"]
    sender.tell(Terminated(ref=replica, why="lost"))
    again = appends(sender.pass_time(RELINK_SECONDS), SECOND)
    assert [each.number for each in again] == [next_one.number], "the other may have forgotten it"
    assert holds(sender.appended(SECOND, next_one.number, synced=next_one.number)) == [(SECOND, 2)]
    sender.harness.stop()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_is_lost_a_copy_gets_all_in_order_and_once(data: st.DataObject) -> None:
    sender = Sender()
    link: list[Append] = []
    number, taken = 0, []

    def hear(sent: list[tuple[str, Any]]) -> None:
        link.extend(appends(sent, SECOND))

    hear(sender.lead())
    for seq in range(1, data.draw(st.integers(2, 12))):
        hear(sender.write(put(seq)))
        match data.draw(st.sampled_from(["arrive", "arrive", "lose", "wait"])):
            case "arrive" if link:
                append = link.pop(0)
                if append.number == number + 1:
                    number = append.number
                    taken += append.operations
                    hear(sender.appended(SECOND, number))
                else:
                    hear(sender.appended(SECOND, number, gap=append.number > number))
            case "lose":
                link.clear()
            case "wait":
                hear(sender.pass_time(data.draw(st.sampled_from([0.1, 0.5, 1.5]))))
    for _ in range(5):
        hear(sender.pass_time(RESEND_SECONDS + BEAT_SECONDS))
        while link:
            append = link.pop(0)
            if append.number == number + 1:
                number = append.number
                taken += append.operations
            hear(sender.appended(SECOND, number, gap=append.number > number))
    assert taken == [put(seq) for seq in range(1, sender.batch + 1)]
    sender.harness.stop()


def test_what_waits_for_a_silent_successor_is_not_sent_again_and_again(sender: Sender) -> None:
    """One message asks whether it is there; the others follow when it answers."""
    sent = [each for seq in range(1, 501) for each in sender.write(put(seq))]
    numbers = [each.number for each in appends(sent, SECOND)]
    sender.appended(THIRD, numbers[-1])
    again = []
    for _ in range(100):
        again += appends(sender.pass_time(BEAT_SECONDS), SECOND)
    assert {each.number for each in again} == {numbers[0]} and 3 <= len(again) <= 8
    (following,) = appends(sender.appended(SECOND, numbers[0], gap=True), SECOND)[:1]
    assert following.number == numbers[1]


def test_taking_back_what_is_anothers_by_now_looks_at_each_message_once(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring is read while much waits for a successor: the loop must not stand still."""
    compared = 0

    class Counting(module.Kept):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return self is other

        __hash__ = None  # type: ignore[assignment]

    monkeypatch.setattr(module, "Kept", Counting)
    down = lost(RING, FOURTH)
    sender.lead(down)
    for seq in range(1, 201):
        sender.write(put(seq, OF_FOURTH, 2), put(seq + 1000, epoch=2))
    back = raised(returned(down, [registration(FOURTH, 2)], nonce=hex64(3), wall_seconds=1e9))
    again = appends(sender.lead(back), SECOND)
    assert [each.operations for each in again if each.operations] == [[put(n + 1000, epoch=2)] for n in range(1, 201)]
    assert not compared
