"""The failure detector, driven by hand: who is reported silent, when, and who is not."""

from collections.abc import Iterator

import pytest
from ringkeeper.actors.failure_detector import FailureDetector
from ringkeeper.actors.messages import Heartbeat, RingChanged, Suspected
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.transitions import returned
from ringkeeper.runtime.election import LeaderChanged
from ringkeeper.runtime.harness import Harness, Sent
from ringkeeper.tests.actors.rules.rings import founded, hex64, registration

BEAT_SECONDS = 0.5
SUSPECT_SECONDS = 3.0


def life(port: int, incarnation: int = 1) -> Registration:
    return registration(f"127.0.0.1:{port}", incarnation)


def ring() -> Ring:
    return founded(3)


class Stage:
    def __init__(self) -> None:
        self.harness = Harness(
            FailureDetector, id=life(7001).id, incarnation=life(7001).incarnation, heartbeat_seconds=BEAT_SECONDS,
            suspect_seconds=SUSPECT_SECONDS,
        )  # fmt: skip
        self.numbers = {7002: 0, 7003: 0}

    def hear(self, port: int, incarnation: int = 1) -> Sent:
        beat = Heartbeat(node=life(port).id, incarnation=life(port, incarnation).incarnation, number=1)
        return self.harness.tell(beat)

    def pass_time(self, seconds: float, *heard: int) -> Sent:
        """Let time pass beat by beat; from the nodes ``heard`` a heartbeat arrives every time."""
        sent: Sent = []
        for _ in range(round(seconds / BEAT_SECONDS)):
            sent += self.harness.advance(BEAT_SECONDS)
            for port in heard:
                sent += self.hear(port)
        return sent


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.harness.tell(RingChanged(ring=ring()))
    stage.harness.tell(LeaderChanged(path="", data=b"probe:ecs", term=1))
    yield stage
    stage.harness.stop()


def reports(sent: Sent) -> list[tuple[str, bool]]:
    return [(m.node[-4:], m.silent_seconds is not None) for _, m in sent if isinstance(m, Suspected)]


def test_every_other_node_gets_a_heartbeat_at_every_beat(stage: Stage) -> None:
    sent = stage.pass_time(BEAT_SECONDS)
    assert sorted(name for name, m in sent if isinstance(m, Heartbeat)) == [
        "ringkeeper://127.0.0.1:17002/failure-detector", "ringkeeper://127.0.0.1:17003/failure-detector",
    ]  # fmt: skip


def test_a_silent_node_is_reported_once_and_again_when_it_is_heard(stage: Stage) -> None:
    assert reports(stage.pass_time(SUSPECT_SECONDS, 7003)) == []
    assert reports(stage.pass_time(SUSPECT_SECONDS, 7003)) == [("7002", True)]
    assert reports(stage.hear(7002)) == [("7002", False)]
    assert reports(stage.pass_time(SUSPECT_SECONDS, 7002, 7003)) == []


def test_a_new_leader_is_told_of_the_suspicions_there_are(stage: Stage) -> None:
    stage.pass_time(2 * SUSPECT_SECONDS, 7003)
    sent = stage.harness.tell(LeaderChanged(path="", data=b"probe:other", term=2))
    assert reports(sent) == [("7002", True)]


def test_heartbeats_of_another_incarnation_do_not_count(stage: Stage) -> None:
    for _ in range(10):
        stage.hear(7002, incarnation=9)
        assert reports(stage.hear(7002, incarnation=9)) == []
        stage.harness.advance(BEAT_SECONDS)
    assert ("7002", True) in reports(stage.harness.sent)


def test_a_node_that_returned_starts_with_a_clean_slate(stage: Stage) -> None:
    stage.pass_time(2 * SUSPECT_SECONDS, 7003)
    after = returned(ring(), [life(7002, incarnation=2)], nonce=hex64(9), wall_seconds=1)
    stage.harness.tell(RingChanged(ring=after))
    assert stage.harness.actor._suspected == set()
    assert reports(stage.pass_time(SUSPECT_SECONDS - BEAT_SECONDS, 7003)) == []


def test_an_observer_that_was_paused_itself_accuses_nobody(stage: Stage) -> None:
    stage.pass_time(1.0, 7002, 7003)
    stage.harness.loop._now += 10 * SUSPECT_SECONDS  # the process was stopped; nothing of the loop ran
    assert reports(stage.harness.advance(BEAT_SECONDS)) == []
    assert reports(stage.pass_time(SUSPECT_SECONDS - BEAT_SECONDS)) == []
    assert reports(stage.pass_time(2 * BEAT_SECONDS)) == [("7002", True), ("7003", True)]
