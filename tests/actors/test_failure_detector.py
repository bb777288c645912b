"""The failure detector, driven by hand: who is suspected, why, when, and who is not."""

from collections.abc import Iterator
from typing import Any

import pytest
from ringkeeper.actors.failure_detector import HEARTBEAT_SECONDS, REPORT_BEATS, FailureDetector
from ringkeeper.actors.messages import (
    Heartbeat,
    LookForRing,
    PeerGone,
    PeersHeard,
    RingChanged,
    StreamSilent,
    Suspected,
)
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.transitions import returned
from ringkeeper.runtime.actor import Actor
from ringkeeper.runtime.bridge import LinkLost, LinkUp, PeerEnded
from ringkeeper.runtime.election import LeaderChanged
from ringkeeper.runtime.harness import Harness, Sent
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration

PORTS = (7002, 7003)


def life(port: int, incarnation: int = 1) -> Registration:
    return registration(f"127.0.0.1:{port}", incarnation)


def ring() -> Ring:
    return founded(3)


def restarted(port: int) -> Ring:
    return returned(ring(), [life(port, incarnation=2)], nonce=hex64(9), wall_seconds=1)


class Asked(Actor):
    """Stands for Member."""

    def __init__(self, asked: list[Any]) -> None:
        super().__init__()
        self.asked = asked

    def on_receive(self, message: Any) -> None:
        self.asked.append(message)


class Stage:
    """The detector of 7001 among three nodes that have been heard for a while."""

    def __init__(self) -> None:
        self.harness = Harness(
            FailureDetector, id=life(7001).id, incarnation=life(7001).incarnation, storage="probe:storage"
        )
        self.harness.tell(RingChanged(ring=ring()), LeaderChanged(path="", data=b"probe:ecs", term=1))
        self.pass_time(5.0, *PORTS)

    def hear(self, port: int, incarnation: int = 1, epoch: int = 1) -> Sent:
        node = life(port, incarnation)
        return self.harness.tell(Heartbeat(node=node.id, incarnation=node.incarnation, number=1, epoch=epoch))

    def pass_time(self, seconds: float, *heard: int) -> Sent:
        """Let time pass beat by beat; from the nodes ``heard`` a heartbeat arrives every time."""
        sent: Sent = []
        for _ in range(round(seconds / HEARTBEAT_SECONDS)):
            sent += self.harness.advance(HEARTBEAT_SECONDS)
            for port in heard:
                sent += self.hear(port)
        return sent

    def stall(self, seconds: float) -> Sent:
        """The process stands still, and its beat is the first thing that comes afterwards."""
        self.harness.loop._now += seconds
        return self.harness.advance(0.0)

    def end(self, port: int, incarnation: int = 1) -> Sent:
        node = life(port, incarnation)
        sent = self.harness.tell(
            LinkLost(peer=node.bridge_address, node=node.id, incarnation=node.incarnation, why="it closed")
        )
        ended = PeerEnded(peer=node.bridge_address, node=node.id, incarnation=node.incarnation)
        return sent + self.harness.tell(ended)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.harness.stop()


def reports(sent: Sent) -> list[tuple[str, str]]:
    return [(m.node[-4:], m.why) for _, m in sent if isinstance(m, Suspected)]


def gone(sent: Sent) -> list[PeerGone]:
    return [m for name, m in sent if isinstance(m, PeerGone) and name == "storage"]


def heartbeats(sent: Sent) -> list[str]:
    return [name for name, m in sent if isinstance(m, Heartbeat)]


# Silence


def test_every_other_node_gets_a_heartbeat_at_every_beat_that_names_the_ring(stage: Stage) -> None:
    sent = stage.pass_time(HEARTBEAT_SECONDS)
    assert sorted(heartbeats(sent)) == [f"ringkeeper://127.0.0.1:{port + 10_000}/failure-detector" for port in PORTS]
    assert {m.epoch for _, m in sent if isinstance(m, Heartbeat)} == {1}


def test_a_node_that_falls_silent_is_suspected_within_a_second_and_cleared_when_it_is_heard(stage: Stage) -> None:
    assert reports(stage.pass_time(0.8, 7003)) == []
    sent = stage.pass_time(0.4, 7003)
    assert reports(sent)[0] == ("7002", "silent")
    (first, *_) = [m for _, m in sent if isinstance(m, Suspected)]
    assert (first.incarnation, first.by_incarnation) == (life(7002).incarnation, life(7001).incarnation)
    assert 0.8 < first.seconds < 1.3
    assert reports(stage.hear(7002)) == [("7002", "")]
    assert reports(stage.pass_time(0.6, 7002, 7003)) == []


def test_what_is_suspected_is_said_again_every_second_and_to_a_new_leader_at_once(stage: Stage) -> None:
    stage.pass_time(2.0, 7003)
    assert reports(stage.pass_time(3.0, 7003)) == [("7002", "silent")] * 3
    sent = stage.harness.tell(LeaderChanged(path="", data=b"probe:other", term=2))
    assert reports(sent) == [("7002", "silent")] and sent[0][0] == "probe:other"


def test_who_was_heard_irregularly_is_given_more_time_but_not_for_ever(stage: Stage) -> None:
    for pause in [0.2, 1.4] * 20:
        stage.pass_time(pause, 7003)
        stage.hear(7002)
    assert reports(stage.pass_time(1.4, 7003)) == []
    assert reports(stage.pass_time(1.0, 7003))[0] == ("7002", "silent")


def test_phi_is_shown_for_every_peer(stage: Stage) -> None:
    sent = stage.pass_time(HEARTBEAT_SECONDS * REPORT_BEATS, 7003)
    (heard,) = [m for name, m in sent if isinstance(m, PeersHeard) and name == "probe:ecs"]
    phi = dict(heard.phi)
    assert phi[life(7002).id] > 5.0 > 1.0 > phi[life(7003).id]


def test_heartbeats_of_another_incarnation_do_not_count(stage: Stage) -> None:
    for _ in range(10):
        assert reports(stage.hear(7002, incarnation=9)) == []
        stage.pass_time(HEARTBEAT_SECONDS, 7003)
    assert ("7002", "silent") in reports(stage.harness.sent)


def test_a_life_that_the_ring_has_just_named_has_time_to_read_it(stage: Stage) -> None:
    stage.pass_time(2.0, 7003)
    sent = stage.harness.tell(RingChanged(ring=restarted(7002)))
    assert reports(sent) == []
    assert reports(stage.pass_time(2.6, 7003)) == []
    assert reports(stage.pass_time(1.0, 7003))[0] == ("7002", "silent")


def test_who_is_down_is_not_suspected_and_who_is_not_in_the_ring_suspects_nobody(stage: Stage) -> None:
    stage.harness.tell(RingChanged(ring=lost(ring(), life(7002).id)))
    sent = stage.pass_time(5.0, 7003)
    assert reports(sent) == [] and not any("17002" in name for name in heartbeats(sent))
    stage.harness.tell(RingChanged(ring=lost(ring(), life(7001).id)))
    sent = stage.pass_time(5.0)
    assert reports(sent) == [] and heartbeats(sent) == []


# Its own delays


def test_an_observer_that_was_paused_itself_accuses_nobody(stage: Stage) -> None:
    assert reports(stage.stall(30.0)) == []
    assert reports(stage.pass_time(HEARTBEAT_SECONDS, *PORTS)) == [], "they were waiting unread"
    assert reports(stage.pass_time(3.0, *PORTS)) == []


def test_the_time_of_an_own_stall_does_not_count_as_silence_and_no_more_than_that(stage: Stage) -> None:
    assert reports(stage.pass_time(0.6, 7003)) == []
    assert reports(stage.stall(5.0)) == []
    stage.hear(7003)
    assert ("7002", "silent") in reports(stage.pass_time(0.6, 7003)), "its silence before the stall counts"


# Ended processes


def test_a_lost_link_makes_a_heartbeat_go_out_so_that_the_process_is_dialed(stage: Stage) -> None:
    node = life(7002)
    lost_link = LinkLost(peer=node.bridge_address, node=node.id, incarnation=node.incarnation, why="it closed")
    assert heartbeats(stage.harness.tell(lost_link)) == ["ringkeeper://127.0.0.1:17002/failure-detector"]


def test_a_process_that_has_ended_is_reported_at_once_and_told_to_the_node(stage: Stage) -> None:
    sent = stage.end(7002)
    assert reports(sent) == [("7002", "refused")]
    assert gone(sent) == [PeerGone(node=life(7002).id, incarnation=life(7002).incarnation)]
    assert gone(stage.end(7002)) == []
    assert set(reports(stage.pass_time(3.0, 7003))) == {("7002", "refused")}


def test_a_later_life_is_the_end_of_the_one_before_by_its_link_or_by_the_ring(stage: Stage) -> None:
    new = life(7002, incarnation=2)
    stage.pass_time(0.7, 7003)
    sent = stage.harness.tell(LinkUp(peer=new.bridge_address, node=new.id, incarnation=new.incarnation))
    assert reports(sent) == [("7002", "refused")]
    old = PeerGone(node=new.id, incarnation=life(7002).incarnation)
    assert gone(sent) == [old]
    sent = stage.harness.tell(RingChanged(ring=restarted(7002)))
    assert reports(sent) == [] and gone(sent) == []
    sent = stage.harness.tell(RingChanged(ring=restarted(7003)))
    assert [each.node for each in gone(sent)] == [life(7003).id]


def test_who_is_being_heard_has_not_ended_whoever_else_goes_by_its_name(stage: Stage) -> None:
    stage.pass_time(1.0, 7002, 7003)
    other = life(7002)
    sent = stage.harness.tell(LinkUp(peer=other.bridge_address, node=other.id, incarnation="f" * 16))
    assert reports(sent) == [] and gone(sent) == []


def test_a_life_that_has_ended_before_the_ring_names_it_is_reported_then(stage: Stage) -> None:
    stage.end(7002, incarnation=2)
    assert reports(stage.harness.tell(RingChanged(ring=restarted(7002)))) == [("7002", "refused")]


def test_the_end_of_a_process_that_is_no_node_concerns_nobody(stage: Stage) -> None:
    sent = stage.harness.tell(PeerEnded(peer="127.0.0.1:18801", node="ecs 127.0.0.1:18801", incarnation="e" * 16))
    assert sent == []


def test_a_successor_that_does_not_acknowledge_is_reported_until_it_does(stage: Stage) -> None:
    node = life(7002)
    silent = StreamSilent(node=node.id, incarnation=node.incarnation, seconds=1.5)
    sent = stage.harness.tell(silent)
    assert reports(sent) == [("7002", "stream")] and sent[0][1].seconds == 1.5
    assert reports(stage.hear(7002)) == [], "that it is heard does not help the writes"
    again = StreamSilent(node=node.id, incarnation=node.incarnation, seconds=0.0)
    assert reports(stage.harness.tell(again)) == [("7002", "")]


def test_of_who_does_not_acknowledge_it_is_said_whether_it_is_heard_to_go_by_an_older_ring(stage: Stage) -> None:
    stage.harness.tell(RingChanged(ring=restarted(7003)))
    node = life(7002)

    def behind(sent: Sent) -> list[bool]:
        return [m.behind for _, m in sent if isinstance(m, Suspected) and m.node == node.id]

    silent = StreamSilent(node=node.id, incarnation=node.incarnation, seconds=1.5)
    assert behind(stage.harness.tell(silent)) == [True]
    assert behind(stage.hear(7002, epoch=2)) == [False], "it has read the ring by now"
    assert behind(stage.hear(7002, epoch=1)) == [True]
    assert not behind(stage.pass_time(3.0, 7003))[-1], "it is not heard any more"


# The ring


def test_a_newer_ring_that_others_have_read_is_looked_for(stage: Stage) -> None:
    asked: list[Any] = []
    stage.harness.system.spawn(Asked, asked, name="member")
    stage.pass_time(1.0, *PORTS)
    assert asked == []
    stage.hear(7002, epoch=2)
    stage.pass_time(1.0, *PORTS)
    assert asked == [LookForRing()]
