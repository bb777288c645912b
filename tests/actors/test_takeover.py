"""The questions that precede a new tenure, and what is made of the answers (R18)."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.actors.messages import AskTail, Operation, StreamSilent, Tails, TakenOver
from ringkeeper.actors.rules.slots import Run
from ringkeeper.actors.takeover import ASK_AGAIN_SECONDS, SILENT_SECONDS, Takeover
from ringkeeper.runtime.harness import Harness
from ringkeeper.tests.actors.rules.rings import node, registration
from ringkeeper.tests.actors.trio import Ear

ME, OTHER, THIRD = "127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"
RUNS = (Run(0, 9), Run(20, 29))


def operation(slot: int, epoch: int, seq: int) -> Operation:
    return slot, b"key of %d" % slot, b"%d.%d" % (epoch, seq), epoch, seq, 0


def replica_of(id: str) -> str:
    return f"ringkeeper://127.0.0.1:{int(id[-4:]) + 10_000}/replica"


class Questions:
    """A takeover of two runs; THIRD has copies of the second only."""

    def __init__(self) -> None:
        self.harness = Harness(
            Takeover, id=ME, epoch=7, runs=RUNS, storage="probe:storage", replicator="probe:replicator",
            replica="probe:replica", detector="failure-detector",
            members={OTHER: (node(OTHER, 1), RUNS), THIRD: (node(THIRD, 2), RUNS[1:])},
        )  # fmt: skip
        self.to_detector: list[Any] = []
        self.harness.system.spawn(Ear, self.to_detector, name="failure-detector")
        self.asked = self.questions(self.harness.sent)

    @staticmethod
    def questions(sent: list[tuple[str, Any]]) -> dict[str, AskTail]:
        return {to: message for to, message in sent if isinstance(message, AskTail)}

    def answer(self, node: str, *operations: Operation, own: bool = False, **fields: Any) -> list[TakenOver]:
        """What the storage node is told then."""
        fields = {"takeover": self.asked["replica"].takeover, "numbers": [], "confirmed": [], **fields}
        sent = self.harness.tell(Tails(node=node, operations=list(operations), own=own, **fields))
        return [message for to, message in sent if to == "storage"]

    def answer_the_rest(self) -> list[TakenOver]:
        told = [*self.answer(ME, own=True), *self.answer(ME), *self.answer(OTHER), *self.answer(THIRD)]
        assert len(told) <= 1
        return told


@pytest.fixture
def questions() -> Iterator[Questions]:
    questions = Questions()
    yield questions
    questions.harness.stop()


def test_everybody_is_asked_for_the_slots_that_they_have_the_own_replica_and_replicator_too(
    questions: Questions,
) -> None:
    runs = {to: message.runs for to, message in questions.asked.items()}
    both = [(0, 9), (20, 29)]
    assert runs == {"replicator": both, "replica": both, replica_of(OTHER): both, replica_of(THIRD): [(20, 29)]}
    assert {message.epoch for message in questions.asked.values()} == {7}


def test_who_is_silent_is_asked_again_and_reported_and_who_has_answered_is_not(questions: Questions) -> None:
    """R22: a successor that does not answer is as good as one that does not acknowledge."""
    questions.answer(OTHER)
    questions.answer(ME, own=True)
    assert not questions.harness.advance(SILENT_SECONDS - ASK_AGAIN_SECONDS) and not questions.to_detector
    again = questions.questions(questions.harness.advance(2 * ASK_AGAIN_SECONDS))
    assert set(again) == {"replica", replica_of(THIRD)}
    (silent,) = questions.to_detector
    assert (silent.node, silent.incarnation) == (THIRD, registration(THIRD).incarnation) and silent.seconds
    questions.harness.advance(SILENT_SECONDS + ASK_AGAIN_SECONDS)
    assert [(each.node, bool(each.seconds)) for each in questions.to_detector] == [(THIRD, True)] * 2, (
        "the Replicator may have taken it back since"
    )
    assert not questions.answer(OTHER) and not questions.answer(ME)
    assert len(questions.answer(THIRD)) == 1
    assert questions.to_detector[-1] == StreamSilent(node=THIRD, incarnation=silent.incarnation, seconds=0.0)


def test_a_report_is_taken_back_when_a_newer_ring_ends_the_questions(questions: Questions) -> None:
    questions.harness.advance(SILENT_SECONDS + ASK_AGAIN_SECONDS)
    assert {each.node for each in questions.to_detector} == {OTHER, THIRD}
    questions.harness.ref.stop(block=False)
    questions.harness.advance(0.0)
    assert [(each.node, each.seconds) for each in questions.to_detector[2:]] == [(OTHER, 0.0), (THIRD, 0.0)]


def test_a_long_tail_comes_in_parts_and_when_one_is_lost_it_is_asked_for_anew(questions: Questions) -> None:
    one, two, three = (operation(1, 5, seq) for seq in (1, 2, 3))
    questions.answer(ME, own=True)
    questions.answer(ME)
    questions.answer(THIRD)
    assert not questions.answer(OTHER, one, more=True, numbers=[(1, 5, 3)])
    assert not questions.answer(OTHER, three, part=2), "the second was lost"
    again = questions.questions(questions.harness.advance(SILENT_SECONDS + ASK_AGAIN_SECONDS))
    assert set(again) == {replica_of(OTHER)}
    assert not questions.answer(OTHER, one, more=True, numbers=[(1, 5, 3)])
    assert not questions.answer(OTHER, two, more=True, part=1)
    (told,) = questions.answer(OTHER, three, part=2)
    assert told.operations == [one, two, three] and told.numbers == [(1, 5, 3)]


def test_nothing_is_told_before_the_last_has_answered_and_then_once(questions: Questions) -> None:
    assert not questions.answer(ME) and not questions.answer(OTHER) and not questions.answer(THIRD)
    (told,) = questions.answer(ME, own=True)
    assert (told.epoch, told.operations) == (7, [])
    assert not questions.answer(ME) and not questions.harness.advance(10 * ASK_AGAIN_SECONDS)


def test_answers_to_another_takeover_count_for_nothing(questions: Questions) -> None:
    other = questions.asked["replica"].takeover + 1
    questions.answer(OTHER, operation(1, 5, 5), takeover=other)
    (told,) = questions.answer_the_rest()
    assert not told.operations


def test_the_longest_tail_is_taken_each_operation_once_in_the_order_of_versions(questions: Questions) -> None:
    """R18: of whatever former coordinators."""
    one, two, three = operation(1, 5, 1), operation(1, 5, 2), operation(21, 5, 3)
    later = operation(1, 6, 1)
    questions.answer(OTHER, one, later)
    questions.answer(THIRD, three)
    questions.answer(ME, later, own=True)
    (told,) = questions.answer(ME, one, two)
    assert told.operations == [one, two, three, later]


def test_the_highest_number_of_each_slot_is_told(questions: Questions) -> None:
    questions.answer(OTHER, numbers=[(1, 5, 9), (2, 4, 1)])
    questions.answer(ME, numbers=[(1, 6, 1), (2, 3, 9)])
    (told,) = questions.answer_the_rest()
    assert told.numbers == [(1, 6, 1), (2, 4, 1)]


def test_what_the_own_replica_has_confirmed_is_told_by_the_own_clock(questions: Questions) -> None:
    """R21."""
    questions.harness.advance(2.0)
    questions.answer(OTHER, confirmed=[("whoever", "life", 0.1)])
    questions.answer(ME, confirmed=[("former", "life", 0.5)])
    (told,) = questions.answer_the_rest()
    ((*life, at),) = told.confirmed
    assert life == ["former", "life"] and at == pytest.approx(1.5)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_whatever_beginnings_of_a_sequence_are_held_the_longest_is_told(data: st.DataObject) -> None:
    sequence = [operation(data.draw(st.integers(20, 22)), 5, seq) for seq in range(1, data.draw(st.integers(2, 9)))]
    questions = Questions()
    lengths = [data.draw(st.integers(0, len(sequence))) for _ in range(4)]
    answers = [(ME, True), (ME, False), (OTHER, False), (THIRD, False)]
    told: list[TakenOver] = []
    for index in data.draw(st.permutations(range(4))):
        who, own = answers[index]
        told += questions.answer(who, *sequence[: lengths[index]], own=own)
    assert [each.operations for each in told] == [sequence[: max(lengths)]]
    questions.harness.stop()
