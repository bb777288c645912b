"""Actors in different processes: order, loss, links that cross and break, watches, bounds."""

import random
from dataclasses import dataclass
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError
from ringkeeper.runtime.actor import Actor, LoopFuture, Ref
from ringkeeper.runtime.bridge import BridgeConfig, LinkLost, LinkUp, PeerEnded
from ringkeeper.runtime.message import message
from ringkeeper.runtime.peer import LANES
from ringkeeper.runtime.remote import RemoteError, RemoteRef, Unanswered, Unsent, parse_address, parse_process
from ringkeeper.runtime.system import Terminated
from ringkeeper.runtime.wire import Lane, WireError
from ringkeeper.tests.runtime.pipes import MakeWorld, World


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something to write down. Test -> Diary."""

    n: int
    blob: bytes = b""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Cry:
    """Something to write down before all else. Test -> Diary."""

    n: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Introduce:
    """Here are some actors. Test -> Diary."""

    first: Ref
    others: tuple[Ref, ...] = ()
    nobody: Ref | None = None


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Riddle:
    """A question. Test -> Sphinx."""

    text: str


class Sphinx(Actor):
    def on_receive(self, message: Any) -> Any:
        match message:
            case Riddle(text="fail"):
                raise LookupError("no such riddle")
            case Riddle(text="set"):
                return {1, 2}
            case Riddle(text="huge"):
                return b"x" * (1 << 20)
            case Riddle(text="message"):
                return Remark(n=7, blob=b"\x00")
            case Riddle():
                return (message.text, None, 1.5)


def numbers(entries: list[Any]) -> list[int]:
    return [entry.n for entry in entries if isinstance(entry, Remark)]


def writes_of_messages(world: World) -> int:
    return sum(len([w for w in pipe.writes if b"Remark" in w or b"Cry" in w]) for pipe in world.network.pipes)


# Messages


def test_what_one_actor_tells_another_arrives_in_order_and_once(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    for n in range(1000):
        ann.far(bob).tell(Remark(n=n, blob=bytes(n)))
    world.advance(5)
    assert numbers(bob.entries) == list(range(1000))
    assert ann.system.dead_letters == bob.system.dead_letters == 0


def test_a_link_is_used_in_both_directions(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    bob.far(ann).tell(Remark(n=2))
    world.advance()
    assert numbers(ann.entries) == [2]
    assert len(world.network.dials) == 2, "one dial for each lane, both from ann"


def test_nobody_is_dialed_before_something_is_to_be_sent(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    assert ann.far(bob).is_alive()
    world.advance()
    assert world.network.dials == []


def test_messages_of_one_turn_leave_in_one_write(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=0))
    world.advance()
    before = writes_of_messages(world)
    for n in range(1, 51):
        ann.far(bob).tell(Remark(n=n))
    world.advance()
    assert numbers(bob.entries) == list(range(51))
    assert writes_of_messages(world) == before + 1


def test_urgent_messages_travel_on_the_control_lane(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=0))
    world.advance()
    for pipe in world.network.pipes:
        pipe.writes.clear()
    ann.far(bob).tell(Remark(n=1))
    ann.far(bob).tell(Cry(n=2))
    world.advance()
    carried = [b"".join(pipe.writes) for pipe in world.network.pipes]
    assert [b"Remark" in each for each in carried].count(True) == 1
    assert [b"Cry" in each for each in carried].count(True) == 1
    assert not any(b"Cry" in each and b"Remark" in each for each in carried)


def test_refs_inside_messages_survive_the_trip_and_come_home_as_local_refs(world: World) -> None:
    ann, bob, eve = world.home(7001), world.home(7002), world.home(7003)
    ann.far(bob).tell(Introduce(first=ann.diary, others=(bob.far(eve), ann.far(bob))))
    world.advance()
    (met,) = bob.entries
    assert isinstance(met.first, RemoteRef)
    assert met.first.address == "ringkeeper://127.0.0.1:7001/diary"
    assert met.others == (bob.far(eve), bob.diary)
    assert met.others[1] is bob.diary
    met.first.tell(Remark(n=5))
    met.others[0].tell(Remark(n=6))
    world.advance()
    assert numbers(ann.entries) == [5]
    assert numbers(eve.entries) == [6]


def test_a_message_to_nobody_is_a_dead_letter_where_it_arrives(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob, "ghost").tell(Remark(n=1))
    ann.far(bob).tell(Remark(n=2))
    world.advance()
    assert (ann.system.dead_letters, bob.system.dead_letters) == (0, 1)
    assert numbers(bob.entries) == [2]


def test_what_is_no_message_is_refused_at_the_sender(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    with pytest.raises(TypeError, match="declare it with @message"):
        ann.far(bob).tell({"n": 1})
    assert world.network.dials == []


def test_a_value_that_cannot_travel_is_a_dead_letter_that_names_the_field(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=2**64))
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    assert numbers(bob.entries) == [1]
    assert ann.system.dead_letters == 1
    assert "Remark.n cannot travel" in caplog.text


def test_a_message_larger_than_a_frame_is_a_dead_letter_and_the_link_stays(world: World) -> None:
    ann, bob = world.home(7001, frame_bytes_max=1000), world.home(7002)
    ann.far(bob).tell(Remark(n=1, blob=bytes(2000)))
    ann.far(bob).tell(Remark(n=2))
    world.advance()
    assert numbers(bob.entries) == [2]
    assert ann.system.dead_letters == 1


def test_a_message_that_does_not_fit_the_receiver_is_a_dead_letter_there(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n="seven"))  # type: ignore[arg-type]
    ann.far(bob).tell(Remark(n=2))
    world.advance()
    assert numbers(bob.entries) == [2]
    assert bob.system.dead_letters == 1
    assert "Expected `int`, got `str` - at `$.n`" in caplog.text


# Questions


def ask(world: World, ref: Any, question: Any, **how: Any) -> Any:
    future = ref.ask(question, block=False, **how)
    world.advance()
    return future.get(timeout=0)


def test_a_question_is_answered_with_a_plain_value_or_a_message(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.system.spawn(Sphinx, name="sphinx")
    assert ask(world, ann.far(bob, "sphinx"), Riddle(text="who")) == ["who", None, 1.5]
    assert ask(world, ann.far(bob, "sphinx"), Riddle(text="message")) == Remark(n=7, blob=b"\x00")


def test_a_failure_travels_back_to_whoever_asked(world: World) -> None:
    ann, bob = world.home(7001, frame_bytes_max=10_000), world.home(7002, frame_bytes_max=10_000)
    bob.system.spawn(Sphinx, name="sphinx")
    with pytest.raises(RemoteError, match="LookupError: 'no such riddle'|LookupError: no such riddle"):
        ask(world, ann.far(bob, "sphinx"), Riddle(text="fail"))
    with pytest.raises(RemoteError, match="set is not a message"):
        ask(world, ann.far(bob, "sphinx"), Riddle(text="set"))
    with pytest.raises(RemoteError, match="does not fit into a frame"):
        ask(world, ann.far(bob, "sphinx"), Riddle(text="huge"))
    assert ask(world, ann.far(bob, "sphinx"), Riddle(text="still there")) == ["still there", None, 1.5]


def test_asking_nobody_raises_actor_dead(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    with pytest.raises(ActorDeadError, match="no actor called 'ghost' at 127.0.0.1:7002"):
        ask(world, ann.far(bob, "ghost"), Riddle(text="who"))
    assert bob.system.dead_letters == 1


def test_a_question_that_cannot_travel_fails_at_once(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    with pytest.raises(WireError, match=r"Riddle\.text"):
        ann.far(bob).ask(Riddle(text="\ud800"), block=False).get(timeout=0)


def test_a_question_without_an_answer_times_out_and_is_forgotten(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.system.spawn(Sphinx, name="sphinx")
    bob.bridge.faults.hold(sender="sphinx")
    late = ann.far(bob, "sphinx").ask(Riddle(text="who"), block=False, timeout=3)
    world.advance(4)
    with pytest.raises(pykka.Timeout, match="did not answer within 3 s"):
        late.get(timeout=0)
    assert ann.bridge.links()[0].unanswered == 0
    bob.bridge.faults.release()
    world.advance()  # the answer comes after all, and nobody minds
    assert ask(world, ann.far(bob, "sphinx"), Riddle(text="again")) == ["again", None, 1.5]


def test_a_question_says_whether_it_may_have_happened(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.system.spawn(Sphinx, name="sphinx")
    bob.bridge.faults.hold(sender="sphinx")
    asked = ann.far(bob, "sphinx").ask(Riddle(text="who"), block=False)
    world.advance()
    world.network.break_all()
    world.advance()
    with pytest.raises(Unanswered, match="may have happened"):
        asked.get(timeout=0)
    unsent = ann.bridge.ref("ringkeeper://127.0.0.1:9999/x").ask(Riddle(text="who"), block=False)
    world.advance(20)
    with pytest.raises(Unsent, match=r"no link to 127.0.0.1:9999 for 5 s.*Connection refused.*Nothing happened"):
        unsent.get(timeout=0)


def test_questions_to_one_peer_are_bounded(world: World) -> None:
    ann, bob = world.home(7001, questions_max=2), world.home(7002)
    bob.system.spawn(Sphinx, name="sphinx")
    futures = [ann.far(bob, "sphinx").ask(Riddle(text=str(n)), block=False) for n in range(3)]
    with pytest.raises(Unsent, match="2 questions"):
        futures[2].get(timeout=0)
    world.advance()
    assert [future.get(timeout=0)[0] for future in futures[:2]] == ["0", "1"]


def test_a_question_whose_answer_finds_no_room_fails_and_the_link_stays(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002, outbound_messages_max=2, outbound_bytes_max=64, frame_bytes_max=60)
    bob.system.spawn(Sphinx, name="sphinx")
    asked = [ann.far(bob, "sphinx").ask(Riddle(text=f"{n} in many words"), block=False) for n in range(20)]
    world.advance(3)
    answered = [future for future in asked if not isinstance(failure_of(future), Unanswered)]
    assert 0 < len(answered) < 20 and bob.system.dead_letters == 20 - len(answered)
    assert all(future.get(timeout=0)[0].endswith("in many words") for future in answered)
    assert [(link.unanswered, link.links_lost) for link in ann.bridge.links()] == [(0, 0)]


def failure_of(future: LoopFuture) -> Exception | None:
    try:
        future.get(timeout=0)
    except Exception as failure:
        return failure
    return None


def test_a_peer_that_asks_and_does_not_read_is_lost(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002, outbound_messages_max=2, questions_max=5)
    bob.system.spawn(Sphinx, name="sphinx")
    ask(world, ann.far(bob, "sphinx"), Riddle(text="who"))
    peer = bob.bridge.peer("127.0.0.1:7001")
    connection = peer.lanes["data"].connection
    assert connection is not None
    connection.paused = True
    asked = [ann.far(bob, "sphinx").ask(Riddle(text=str(n)), block=False) for n in range(10)]
    world.advance()
    assert all(isinstance(failure_of(future), Unanswered) for future in asked)
    assert peer.links_lost == 1


def test_a_remote_actor_can_be_stopped(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=1))
    stopped, entries = ann.far(bob).stop(block=False), bob.entries
    world.advance()
    again = ann.far(bob).stop(block=False)
    world.advance()
    assert (stopped.get(timeout=0), again.get(timeout=0)) == (True, False)
    assert numbers(entries) == [1]
    assert bob.system.find("diary") is None


# Links


def test_dials_that_cross_lose_reorder_and_repeat_nothing(make_world: MakeWorld) -> None:
    for seed in range(80):
        world = make_world(seed)
        ann, bob = world.home(7001), world.home(7002)
        for home in (ann, bob):
            home.bridge.subscribe(home.diary)
        world.network.delay_seconds = (0.0001, world.random.choice([0.0002, 0.001, 0.1]))
        for n in range(30):
            ann.far(bob).tell(Remark(n=n))
            bob.far(ann).tell(Remark(n=n))
            world.advance(world.random.choice([0, 0, 0.0003, 0.01]))
        world.advance(10)
        for home in (ann, bob):
            assert numbers(home.entries) == list(range(30)), f"seed {seed}"
            assert [type(e) for e in home.entries if not isinstance(e, Remark)] == [LinkUp], f"seed {seed}"
            assert isinstance(home.entries[0], LinkUp), f"seed {seed}"
            assert home.system.dead_letters == 0, f"seed {seed}"
        assert len(world.network.pipes) == 4, f"seed {seed}: one connection for each lane"


def test_links_that_break_at_any_moment_keep_order_and_repeat_nothing(make_world: MakeWorld) -> None:
    for seed in range(50):
        world = make_world(seed)
        ann, bob = world.home(7001), world.home(7002)
        for home in (ann, bob):
            home.bridge.subscribe(home.diary)
        world.network.delay_seconds = (0.0001, world.random.choice([0.001, 0.05]))
        n = 0
        for _ in range(60):
            for _ in range(world.random.randint(0, 3)):
                ann.far(bob).tell(Remark(n=n))
                bob.far(ann).tell(Remark(n=n))
                n += 1
            if world.network.pipes and world.random.random() < 0.1:
                pipe = world.random.choice(world.network.pipes)
                match world.random.choice(["break", "close", "vanish"]):
                    case "break":
                        pipe.end(ConnectionResetError("reset by peer"))
                    case "close":
                        pipe.close()
                    case "vanish":  # the other side does not hear of it
                        pipe.mute = True
                        pipe.end(ConnectionResetError("reset by peer"))
            world.advance(world.random.choice([0, 0.001, 0.02, 0.3]))
        world.advance(10)
        for home in (ann, bob):
            got = numbers(home.entries)
            assert got == sorted(set(got)), f"seed {seed}"
            up = False
            for entry in home.entries:
                if isinstance(entry, LinkUp | LinkLost):
                    assert up is isinstance(entry, LinkLost), f"seed {seed}: up and lost take turns"
                    up = not up
                assert up or isinstance(entry, LinkLost), f"seed {seed}: nothing arrives without a link"
        ann.far(bob).tell(Remark(n=-1))
        bob.far(ann).tell(Remark(n=-1))
        world.advance(10)
        assert numbers(ann.entries)[-1] == numbers(bob.entries)[-1] == -1, f"seed {seed}: the link is back"
        assert len([pipe for pipe in world.network.pipes if not pipe.other.dead]) == 4, f"seed {seed}"


def test_what_was_sent_before_a_link_was_lost_never_arrives_after_it(make_world: MakeWorld) -> None:
    for seed in range(30):
        world = make_world(seed)
        ann, bob = world.home(7001), world.home(7002)
        ann.bridge.subscribe(ann.diary)
        for life in range(6):
            for _ in range(20):
                ann.far(bob).tell(Remark(n=life))
            world.advance(world.random.choice([0.001, 0.01]))
            world.network.break_all()
            lost = sum(isinstance(e, LinkLost) for e in ann.entries)
            while sum(isinstance(e, LinkLost) for e in ann.entries) == lost:
                world.advance(0.0005)
                if not world.network.pipes:
                    break
            before = len(numbers(bob.entries))
            mark = life + 100
            ann.far(bob).tell(Remark(n=mark))
            world.advance(5)
            after = numbers(bob.entries)
            if mark in after:
                assert life not in after[after.index(mark) :], f"seed {seed}"
            assert len(after) >= before


def test_what_is_lost_with_a_link_is_a_dead_letter(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=0))
    world.advance()
    for n in range(1, 11):
        ann.far(bob).tell(Remark(n=n))
    world.network.break_all()  # in the same turn: nothing has been written yet, but ann does not know
    world.advance()
    assert numbers(bob.entries) == [0]
    assert ann.bridge.links() == [] or not ann.bridge.links()[0].up


def test_a_full_queue_makes_dead_letters_and_nothing_else(world: World) -> None:
    ann = world.home(7001, outbound_messages_max=10)
    bob = world.home(7002)
    for n in range(25):
        ann.far(bob).tell(Remark(n=n))
    assert ann.system.dead_letters == 15
    world.advance()
    assert numbers(bob.entries) == list(range(10))
    ann.far(bob).tell(Remark(n=99))
    world.advance()
    assert numbers(bob.entries)[-1] == 99


def test_a_peer_that_does_not_read_costs_no_more_than_the_bound(world: World) -> None:
    ann = world.home(7001, outbound_bytes_max=1_100_000, frame_bytes_max=1_000_000)
    bob = world.home(7002)
    ann.far(bob).tell(Remark(n=0))
    world.advance()
    world.network.silent.add(7002)
    for n in range(1, 100):
        ann.far(bob).tell(Remark(n=n, blob=bytes(50_000)))
        world.advance(0.01)
    state = ann.bridge.links()[0]
    assert 1_000_000 < state.waiting_bytes <= 1_100_000
    written = sum(len(pipe.waiting) for pipe in world.network.pipes)
    assert written < 2_500_000, "what the transport was given is bounded, too"
    dropped = ann.system.dead_letters
    assert dropped >= 50
    world.advance(20)  # silence is noticed: all that waited becomes a dead letter
    assert ann.system.dead_letters == dropped + state.waiting_messages


def test_what_waits_for_a_link_is_sent_when_the_peer_comes_in_time(world: World) -> None:
    ann = world.home(7001)
    ann.bridge.ref("ringkeeper://127.0.0.1:7002/diary").tell(Remark(n=1))
    world.advance(3)
    bob = world.home(7002)
    world.advance(3)
    assert numbers(bob.entries) == [1]
    assert ann.system.dead_letters == 0


def test_what_waits_too_long_for_a_link_is_a_dead_letter(world: World) -> None:
    ann = world.home(7001)
    ann.bridge.ref("ringkeeper://127.0.0.1:7002/diary").tell(Remark(n=1))
    world.advance(20)
    assert ann.system.dead_letters == 1
    bob = world.home(7002)
    world.advance(20)
    assert bob.entries == []


def test_dialing_again_takes_longer_each_time_and_stops_when_nobody_cares(world: World) -> None:
    ann = world.home(7001, outbound_seconds_max=30.0)
    ann.bridge.ref("ringkeeper://127.0.0.1:7002/diary").tell(Remark(n=1))
    world.advance(200)
    moments = sorted({round(moment, 6) for moment, _ in world.network.dials})
    pauses = [later - earlier for earlier, later in zip(moments, moments[1:], strict=False)]
    assert pauses[0] < 0.1
    assert max(pauses) > 0.9
    assert max(pauses) < 2.1
    assert len(set(pauses)) == len(pauses), "no two pauses are the same"
    assert moments[-1] < 35
    assert ann.bridge.links() == [], "a peer that nobody cares about is forgotten"


def test_a_dead_host_is_noticed_by_its_silence(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.bridge.subscribe(ann.diary)
    ann.far(bob).tell(Remark(n=1))
    world.advance(30)
    assert [type(e) for e in ann.entries] == [LinkUp]
    assert ann.far(bob).is_alive()
    world.network.silent.add(7002)
    world.advance(3)
    assert [type(e) for e in ann.entries] == [LinkUp]
    while len(ann.entries) == 1 and world.loop.time() < 60:
        world.advance(0.01)
    assert not ann.far(bob).is_alive()
    assert [type(e) for e in ann.entries] == [LinkUp, LinkLost]
    assert "no sign of life for 5 s" in ann.entries[1].why
    assert 34 < world.loop.time() < 38


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_that_dies_without_a_sign_is_noticed_though_the_other_lives(world: World, lane: Lane) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.bridge.subscribe(ann.diary)
    ann.far(bob).tell(Remark(n=1))
    world.advance(30)
    assert [type(e) for e in ann.entries] == [LinkUp]
    dead = next(pipe for pipe in world.network.pipes if pipe.protocol.lane == lane)  # type: ignore[attr-defined]
    dead.moving = dead.other.moving = True  # what was to move is not there any more
    world.advance(4)
    assert [type(e) for e in ann.entries] == [LinkUp]
    world.advance(4)
    assert [type(e) for e in ann.entries] == [LinkUp, LinkLost]
    ann.far(bob).tell(Remark(n=2))
    world.advance(2)
    assert numbers(bob.entries) == [1, 2]


def test_a_large_message_that_takes_long_to_arrive_is_a_sign_of_life(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    world.network.delay_seconds = (0.9, 0.9)
    ann.far(bob).tell(Remark(n=2, blob=bytes(1 << 20)))
    world.advance(8)
    assert numbers(bob.entries) == [1], "it is on its way"
    world.advance(20)
    assert numbers(bob.entries) == [1, 2]
    assert [link.links_lost for link in ann.bridge.links()] == [0]


def test_a_process_that_has_ended_refuses_the_next_dial_and_that_is_told_once(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002, incarnation="first")
    ann.bridge.subscribe(ann.diary)
    ann.far(bob).tell(Remark(n=1))
    world.advance(30)
    world.network.listeners.pop(7002)
    world.network.break_all()
    world.advance(0.01)
    assert [type(e) for e in ann.entries] == [LinkUp, LinkLost]
    ann.far(bob).tell(Remark(n=2))
    world.advance(0.06)
    ended = PeerEnded(peer="127.0.0.1:7002", node="node-7002", incarnation="first")
    assert ann.entries[2:] == [ended], "the first dial after a lost link comes soon"
    world.advance(3)
    assert ann.entries[2:] == [ended]
    world.home(7002, incarnation="second")
    world.advance(3)
    assert [type(e) for e in ann.entries[3:]] == [LinkUp]


def test_who_does_not_answer_or_was_never_linked_has_not_ended(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.bridge.subscribe(ann.diary)
    ann.bridge.ref("ringkeeper://127.0.0.1:7009/diary").tell(Remark(n=0))  # nobody has been there yet
    ann.far(bob).tell(Remark(n=1))
    world.advance(1)
    world.network.silent.add(7002)
    world.network.break_all()
    for n in range(40):
        ann.far(bob).tell(Remark(n=n))
        world.advance(0.5)
    assert [type(e) for e in ann.entries] == [LinkUp, LinkLost]


def test_a_process_that_slept_itself_declares_nobody_dead(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.bridge.subscribe(ann.diary)
    ann.far(bob).tell(Remark(n=1))
    world.advance(10)
    world.loop._now += 60  # the loop hung, and its first act on waking is to run every timer that fell due
    world.advance(10)
    assert [type(e) for e in ann.entries] == [LinkUp]


def test_what_waits_when_a_link_is_lost_does_not_go_over_the_next_one(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=0))
    world.advance()
    world.network.silent.add(7002)
    for n in range(1, 30):
        ann.far(bob).tell(Remark(n=n, blob=bytes(100_000)))
        world.advance(0.001)
    waiting = ann.bridge.links()[0].waiting_messages
    assert waiting > 10
    world.network.silent.clear()
    world.network.break_all()
    world.advance()
    assert ann.system.dead_letters == waiting
    ann.far(bob).tell(Remark(n=99))
    world.advance(5)
    assert numbers(bob.entries) == [0, 99]


def test_what_is_asked_and_watched_anew_when_a_link_is_lost_is_for_the_next_one(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.system.spawn(Sphinx, name="sphinx")
    bob.bridge.faults.hold("Riddle")
    sphinx = ann.far(bob, "sphinx")
    anew: list[LoopFuture] = []

    def ask_anew(failed: LoopFuture) -> None:
        with pytest.raises((Unsent, Unanswered)):
            failed.get()
        anew.append(sphinx.ask(Riddle(text="again"), block=False))
        ann.system.death_watch(ann.diary, sphinx)

    sphinx.ask(Riddle(text="sent"), block=False).when_done(ask_anew)
    world.advance()
    sphinx.ask(Riddle(text="waits"), block=False).when_done(ask_anew)
    ann.bridge.peer("127.0.0.1:7002").lose("somebody cut it")
    bob.bridge.faults.release()
    world.advance(5)
    assert [future.get(timeout=0) for future in anew] == [["again", None, 1.5]] * 2
    assert ann.entries == [], "it lives"


def test_a_link_that_only_one_side_has_lost_is_made_anew_in_order(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.bridge.subscribe(ann.diary)
    ann.far(bob).tell(Remark(n=0))
    world.advance()
    world.network.break_one_side(7002)
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    bob.far(ann).tell(Remark(n=2))
    world.advance()
    ann.far(bob).tell(Remark(n=3))
    world.advance()
    assert [type(e) for e in ann.entries] == [LinkUp, LinkLost, LinkUp, Remark]
    assert ann.entries[1].why == "it connected anew"
    assert numbers(bob.entries) == [0, 3]


def test_a_link_that_is_made_anew_while_its_last_words_are_awaited_comes_back_once(make_world: MakeWorld) -> None:
    for seed in range(10):
        world = make_world(seed)
        ann, bob = world.home(7001), world.home(7002)
        ann.bridge.subscribe(ann.diary)
        ann.far(bob).tell(Cry(n=0))
        world.advance()
        data, control = (pipe for pipe in world.network.pipes if pipe.port == 7002)
        data.mute = True
        control.close()  # ann hears that one lane was closed in order, and nothing of the other
        data.end(ConnectionResetError("reset by peer"))
        world.loop.run_until_idle()
        bob.far(ann).tell(Remark(n=1))
        world.advance(2)
        assert [type(e) for e in ann.entries] == [LinkUp, LinkLost, LinkUp, Remark], f"seed {seed}"


def test_a_process_that_cannot_be_dialed_dials(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    world.network.walled.add(7002)
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    assert bob.entries == []
    bob.far(ann).tell(Remark(n=2))
    world.advance()
    assert (numbers(bob.entries), numbers(ann.entries)) == ([1], [2])


def test_a_new_incarnation_takes_the_place_of_the_old_one(world: World) -> None:
    ann, old = world.home(7001), world.home(7002, incarnation="old")
    ann.bridge.subscribe(ann.diary)
    ann.far(old).tell(Remark(n=1))
    world.advance()
    world.network.listeners.pop(7002)
    world.network.break_one_side(7002)  # the old process is gone without a word
    new = world.home(7002, incarnation="new")
    new.far(ann).tell(Remark(n=2))
    world.advance()
    ann.far(new).tell(Remark(n=3))
    world.advance()
    told = [(type(e), getattr(e, "incarnation", getattr(e, "n", None))) for e in ann.entries]
    assert told == [(LinkUp, "old"), (LinkLost, "old"), (LinkUp, "new"), (Remark, 2)]
    assert ann.entries[1].why == "a new incarnation of it connected"
    assert numbers(new.entries) == [3]
    assert numbers(old.entries) == [1]


def test_a_bridge_that_closes_sends_what_it_has_and_says_goodbye(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.bridge.subscribe(bob.diary)
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    ann.far(bob).tell(Remark(n=2))
    ann.bridge.close("maintenance")
    ann.far(bob).tell(Remark(n=3))
    world.advance()
    assert numbers(bob.entries) == [1, 2]
    assert isinstance(bob.entries[-1], LinkLost)
    assert bob.entries[-1].why == "it said goodbye: 'maintenance'"
    assert ann.system.dead_letters == 1
    assert not ann.far(bob).is_alive()
    assert world.network.pipes == []


@pytest.mark.parametrize("fault", ["hold", "drop"])
def test_a_bridge_that_closes_leaves_no_question_open_that_a_fault_has_taken(world: World, fault: str) -> None:
    ann, bob = world.home(7001), world.home(7002)
    getattr(ann.bridge.faults, fault)()
    before = ann.far(bob, "sphinx").ask(Riddle(text="before"), block=False)
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    assert not before.is_set
    ann.bridge.close()
    world.advance()
    with pytest.raises(Unsent, match="closes its bridge. Nothing happened"):
        before.get(timeout=0)
    assert ann.system.dead_letters == (1 if fault == "hold" else 2), "what is held is a dead letter now"


def test_a_subscriber_is_told_of_the_links_that_are_there_already(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    ann.bridge.subscribe(ann.diary)
    world.advance()
    up = LinkUp(peer="127.0.0.1:7002", node="node-7002", incarnation=bob.bridge.incarnation)
    assert ann.entries == [up]
    ann.bridge.unsubscribe(ann.diary)
    world.network.break_all()
    world.advance()
    assert ann.entries == [up]


def test_a_process_that_answers_for_another_address_is_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ann = world.home(7001)
    world.home(7002, advertise="elsewhere:7002")
    ann.bridge.ref("ringkeeper://127.0.0.1:7002/diary").tell(Remark(n=1))
    world.advance(1)
    assert "127.0.0.1:7002 was dialed and 'elsewhere:7002' answers" in caplog.text
    assert not any(state.up for state in ann.bridge.links())


def test_a_process_does_not_link_to_itself_under_another_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ann = world.home(7001)
    ann.bridge.ref("ringkeeper://localhost:7001/diary").tell(Remark(n=1))
    world.advance(10)
    assert "127.0.0.1:7001 is here" in caplog.text
    assert ann.entries == []
    assert ann.system.dead_letters == 1


def test_clusters_with_other_names_secrets_or_versions_stay_apart(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ann = world.home(7001, secret=b"sesame")
    for port, other in ((7002, {"cluster": "other"}), (7003, {"secret": b"guess"}), (7004, {})):
        stranger = world.home(port, **other)
        stranger.far(ann).tell(Remark(n=1))
        ann.far(stranger).tell(Remark(n=2))
        world.advance(20)
        assert stranger.entries == []
        assert stranger.system.dead_letters == 1
    assert ann.entries == []
    assert "belongs to the cluster 'other', this process to 'test'" in caplog.text
    assert "does not know the cluster's secret" in caplog.text
    assert "sesame" not in caplog.text


# Watches


def test_the_end_of_a_remote_actor_is_told_after_its_last_words(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)

    class Swan(Actor):
        def on_receive(self, message: Any) -> None:
            for n in range(50):
                self.send(bob.far(ann), Remark(n=n))
            self.stop()

    bob.system.spawn(Swan, name="swan")
    swan = ann.far(bob, "swan")
    ann.system.death_watch(ann.diary, swan)
    world.advance()
    assert ann.entries == []
    swan.tell(Remark(n=0))
    world.advance()
    assert numbers(ann.entries) == list(range(50))
    assert ann.entries[-1] == Terminated(ref=swan, why="stopped")


def test_the_end_of_a_link_is_the_death_of_everybody_behind_it(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.system.spawn(Sphinx, name="sphinx")
    for _ in range(2):  # who watches again, as when it is made anew, watches as before
        for name in ("diary", "sphinx"):
            ann.system.death_watch(ann.diary, ann.far(bob, name))
    world.advance()
    world.network.break_all()
    world.advance()
    assert [e.ref for e in ann.entries] == [ann.far(bob), ann.far(bob, "sphinx")]
    assert "the link to 127.0.0.1:7002 was lost" in ann.entries[0].why
    bob.diary.stop(block=False)
    world.advance(10)
    assert len(ann.entries) == 2, "told once"
    assert bob.system.dead_letters == 0


def test_who_is_not_there_or_out_of_reach_is_dead_already(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.system.death_watch(ann.diary, ann.far(bob, "ghost"))
    ann.system.death_watch(ann.diary, ann.bridge.ref("ringkeeper://127.0.0.1:9999/x"))
    world.advance(10)
    assert sorted(e.why.split(":")[0] for e in ann.entries) == [
        "no link to 127.0.0.1",
        "there is no actor called 'ghost' at 127.0.0.1",
    ]


def test_a_watch_can_be_taken_back(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    for _ in range(2):
        ann.system.death_watch(ann.diary, ann.far(bob))
    world.advance()
    ann.far(bob).unwatch(ann.diary)
    world.advance()
    bob.diary.stop(block=False)
    world.advance()
    world.network.break_all()
    world.advance()
    assert ann.entries == []


def test_to_take_back_a_watch_that_nobody_has_makes_no_peer_known(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.system.death_unwatch(ann.diary, ann.far(bob))
    assert ann.bridge.links() == []


def test_watches_of_one_peer_are_bounded(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002, watches_max=3)
    for n in range(5):
        bob.system.spawn(Sphinx, name=f"sphinx-{n}")
        ann.system.death_watch(ann.diary, ann.far(bob, f"sphinx-{n}"))
    world.advance()
    assert [e.why for e in ann.entries] == ["one peer may watch 3 actors, no more"] * 2


# Faults


def test_held_messages_leave_in_order_when_they_are_released(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    hold_remarks = ann.bridge.faults.hold("Remark", to="diary")
    hold_riddles = ann.bridge.faults.hold("Rid*", to="127.0.0.1:7002")
    for n in range(5):
        ann.far(bob).tell(Remark(n=n))
        ann.far(bob).tell(Riddle(text=str(n)))
    ann.far(bob).tell(Introduce(first=ann.diary))
    world.advance()
    assert [type(e) for e in bob.entries] == [Introduce], "others pass by"
    assert (hold_remarks.matched, len(hold_riddles.kept)) == (5, 5)
    ann.bridge.faults.release()
    ann.far(bob).tell(Remark(n=5))
    world.advance()
    kept = [e.n if isinstance(e, Remark) else e.text for e in bob.entries[1:]]
    assert kept == [0, "0", 1, "1", 2, "2", 3, "3", 4, "4", 5]
    assert ann.bridge.faults.rules == []


def test_delayed_messages_arrive_later_in_order(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.bridge.faults.delay(2.0, "Remark", sender="127.0.0.1:7001")
    for n in range(5):
        ann.far(bob).tell(Remark(n=n))
        world.advance(0.5)
    assert numbers(bob.entries) == [0]
    world.advance(3)
    assert numbers(bob.entries) == [0, 1, 2, 3, 4]


def test_dropped_messages_are_counted(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.system.spawn(Sphinx, name="sphinx")
    drop = ann.bridge.faults.drop(to="ringkeeper://127.0.0.1:7002/diary")
    ann.far(bob).tell(Remark(n=1))
    world.advance()
    assert bob.entries == []
    assert (ann.system.dead_letters, drop.matched) == (1, 1)
    ann.bridge.faults.release(drop)
    ann.far(bob).tell(Remark(n=2))
    world.advance()
    assert numbers(bob.entries) == [2]
    bob.bridge.faults.drop(sender="sphinx")  # the answer
    future = ann.far(bob, "sphinx").ask(Riddle(text="who"), block=False, timeout=1)
    world.advance(2)
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0)


def test_held_messages_are_lost_with_their_link(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    ann.far(bob).tell(Remark(n=0))
    world.advance()
    ann.bridge.faults.hold("Remark")
    ann.far(bob).tell(Remark(n=1))
    bob.bridge.faults.hold("Cry")
    ann.far(bob).tell(Cry(n=2))
    world.advance()
    world.network.break_all()
    world.advance()
    ann.bridge.faults.release()
    bob.bridge.faults.release()
    world.advance(5)
    assert numbers(bob.entries) == [0]
    assert (ann.system.dead_letters, bob.system.dead_letters) == (1, 1)


def test_what_faults_keep_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringkeeper.runtime.faults.KEPT_MESSAGES_MAX", 3)
    ann, bob = world.home(7001), world.home(7002)
    ann.bridge.faults.hold()
    for n in range(5):
        ann.far(bob).tell(Remark(n=n))
    assert ann.system.dead_letters == 2
    ann.bridge.faults.release()
    ann.bridge.faults.hold()
    ann.far(bob).tell(Remark(n=9))
    assert ann.system.dead_letters == 2
    world.advance()
    assert numbers(bob.entries) == [0, 1, 2]


# Configuration and addresses


def test_listening_to_other_machines_without_a_secret_is_refused() -> None:
    base: dict[str, Any] = {"cluster": "test", "node": "n"}
    for host in ("192.0.2.1", "::", "0.0.0.0", "db.example", ""):
        with pytest.raises(ValueError, match="anybody could join"):
            BridgeConfig(**base, host=host, advertise="192.0.2.1")
    with pytest.raises(ValueError, match="only 5 bytes"):
        BridgeConfig(**base, host="192.0.2.1", secret=b"short")
    with pytest.raises(ValueError, match="Advertise one"):
        BridgeConfig(**base, host="0.0.0.0", secret=bytes(32))
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        BridgeConfig(**base, host=host)
    BridgeConfig(**base, host="0.0.0.0", advertise="192.0.2.1", secret=bytes(32))


def test_a_process_is_known_by_the_address_it_advertises() -> None:
    def known(**config: Any) -> str:
        return BridgeConfig(cluster="test", node="n", secret=bytes(32), **config).address(7)

    assert known(host="127.0.0.1") == "127.0.0.1:7"
    assert known(host="::1") == "[::1]:7"
    assert known(host="0.0.0.0", advertise="db.example") == "db.example:7"
    assert known(host="0.0.0.0", advertise="db.example:99") == "db.example:99"
    assert known(host="::", advertise="2001:db8::1") == "[2001:db8::1]:7"
    assert known(host="::", advertise="[2001:db8::1]:99") == "[2001:db8::1]:99"


def test_addresses_are_read_back() -> None:
    assert parse_address("ringkeeper://127.0.0.1:7001/storage") == ("127.0.0.1:7001", "storage")
    assert parse_address("ringkeeper://[::1]:7001/a/b") == ("[::1]:7001", "a/b")
    assert parse_process("[::1]:7001") == ("::1", 7001)
    for bad in ("", "x", "local://a", *(f"ringkeeper://{rest}" for rest in ("h:1", "h:1/", "h/x", ":1/x", "h:0/x",
                "h:70000/x", "::1:5/x", "h:\u0661/x"))):  # fmt: skip
        with pytest.raises(ValueError, match="is not"):
            parse_address(bad)


def test_an_address_of_this_process_is_a_local_ref(world: World) -> None:
    ann = world.home(7001)
    assert ann.bridge.ref("ringkeeper://127.0.0.1:7001/diary") is ann.diary
    assert not ann.bridge.ref("ringkeeper://127.0.0.1:7001/ghost").is_alive()
    assert ann.diary.address == "ringkeeper://127.0.0.1:7001/diary"


def test_the_same_seed_gives_the_same_run(make_world: MakeWorld) -> None:
    def play(seed: int) -> list[tuple[float, int]]:
        world = make_world(seed)
        ann, bob = world.home(7001), world.home(7002)
        chance = random.Random(seed)
        for n in range(50):
            ann.far(bob).tell(Remark(n=n))
            bob.far(ann).tell(Remark(n=n))
            if chance.random() < 0.2:
                world.network.break_all()
            world.advance(chance.random())
        return [*world.network.dials, *((0.0, n) for n in numbers(bob.entries))]

    assert play(3) == play(3)
    assert play(3) != play(4)
