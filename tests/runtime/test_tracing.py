"""Traces within one process: what they see, how they end, and that nothing of them stays."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ringkeeper.runtime.actor import Actor, BlockingActor, Mailbox, Ref
from ringkeeper.runtime.looking import ObserveError
from ringkeeper.runtime.message import message
from ringkeeper.runtime.system import ActorSystem
from ringkeeper.runtime.tracing import TRACES_MAX, Tracing, trace, traced, untrace
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.tests.zookeepers import wait_until


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Somebody -> Stone -> the next one."""

    times: int


class Stone(Actor):
    """Rolls on to the next."""

    def __init__(self, to: Ref | None = None) -> None:
        super().__init__()
        self.to = to
        self.rolled = 0

    def on_receive(self, message: Roll) -> int:
        self.rolled += 1
        if message.times < 0:
            raise ValueError("downhill")
        if self.to is not None and message.times:
            self.send(self.to, Roll(times=message.times - 1))
        return message.times


class Hill(BlockingActor):
    """A stone with a thread of its own."""

    def __init__(self, to: Ref) -> None:
        super().__init__()
        self.to = to

    def on_receive(self, message: Roll) -> None:
        self.send(self.to, Roll(times=message.times))


class World:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.system = ActorSystem(loop=self.loop, name="slope", wall=self.loop.time, stopwatch=self.loop.time)
        self.low = self.system.spawn(Stone, name="low")
        self.high = self.system.spawn(Stone, self.low, name="high")
        self.loop.run_until_idle()

    def tell(self, ref: Ref, times: int) -> None:
        ref.tell(Roll(times=times))
        self.loop.run_until_idle()

    def seen(self, id: str = "t") -> list[tuple[str, str, str]]:
        records = traced(self.system, {"id": id})["records"]
        return [(each["sender"].rpartition("/")[2], each["actor"], each["what"]) for each in records]

    def untouched(self) -> bool:
        """No tap is left anywhere."""
        actors: list[Any] = self.system.inhabitants()
        return (
            "_begin" not in vars(self.system)
            and not any("on_receive" in vars(actor) for actor in actors)
            and all(type(actor.actor_inbox) is Mailbox for actor in actors if isinstance(actor, Actor))
        )


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.system.stop()


def test_an_actor_is_followed_by_what_it_is_told_and_what_it_tells(world: World) -> None:
    world.tell(world.high, 1)
    trace(world.system, {"id": "t", "actor": "high"})
    world.tell(world.high, 1)
    world.tell(world.low, 5)
    assert world.seen() == [("", "high", "times=1"), ("high", "low", "times=0")]
    [first, _] = untrace(world.system, {"id": "t"})["records"]
    assert first["process"] == "slope" and first["type"] == "Roll" and first["to"] == "local://high"
    assert world.untouched()


def test_a_type_is_followed_wherever_it_goes(world: World) -> None:
    trace(world.system, {"id": "t", "type": "Roll"})
    trace(world.system, {"id": "u", "type": "Other"})
    world.tell(world.high, 1)
    assert world.seen() == [("", "high", "times=1"), ("high", "low", "times=0")] and world.seen("u") == []


def test_time_in_the_mailbox_and_time_at_work_are_told_apart(world: World) -> None:
    trace(world.system, {"id": "t", "actor": "low"})
    world.loop.advance(1.0)
    world.low.tell(Roll(times=0))
    world.loop._now += 0.25  # the mailbox waits for its turn
    world.loop.run_until_idle()
    [seen] = traced(world.system, {"id": "t"})["records"]
    assert (seen["at"], seen["waited"], seen["worked"]) == (1.25, 0.25, 0.0)


@pytest.mark.parametrize(
    ("bounds", "why"), [({"messages_max": 3}, "it has its 3 records"), ({"seconds": 2}, "its 2 s are over")]
)
def test_a_trace_ends_by_itself_and_nothing_of_it_stays(world: World, bounds: dict[str, Any], why: str) -> None:
    trace(world.system, {"id": "t", "type": "Roll", **bounds})
    for _ in range(3):
        world.tell(world.low, 0)
    world.loop.advance(2.0)
    assert world.untouched()
    world.tell(world.low, 0)
    told = traced(world.system, {"id": "t"})
    assert (told["running"], told["ended"], len(told["records"])) == (False, why, 3)
    assert world.system.tracing is not None and not world.system.tracing._stamps
    assert world.system.actor("low").rolled == 4


def test_a_trace_follows_actors_that_fail_are_made_anew_or_come_later(world: World) -> None:
    trace(world.system, {"id": "t", "type": "Roll"})
    world.tell(world.low, -1)
    world.loop.advance(1.0)
    world.tell(world.low, 0)
    newcomer = world.system.spawn(Stone, world.high, name="new")
    world.tell(newcomer, 2)
    assert world.seen() == [
        ("", "low", "times=-1"), ("", "low", "times=0"), ("", "new", "times=2"), ("new", "high", "times=1"),
        ("high", "low", "times=0"),
    ]  # fmt: skip
    untrace(world.system, {"id": "t"})
    assert world.untouched()


def test_an_actor_that_is_found_before_it_has_begun_is_followed_once(world: World) -> None:
    trace(world.system, {"id": "t", "actor": "low"})
    world.system._begin(world.system.actor("low"))
    world.tell(world.low, 0)
    assert len(untrace(world.system, {"id": "t"})["records"]) == 1
    assert world.untouched()


def test_no_actor_fails_because_it_is_looked_at(world: World) -> None:
    @dataclass
    class Blank:
        never_set: int = field(init=False)

    class Listener(Actor):
        heard = 0

        def on_receive(self, message: Any) -> None:
            self.heard += 1

    class Broken:
        def concerns(self, message: Any, cause: Any, sender: str, to: str) -> str | None:
            raise KeyError("who")

    world.system.tracing = Tracing(world.system, subjects={"broken": lambda about: Broken()})
    listener = world.system.spawn(Listener, name="listener")
    trace(world.system, {"id": "t", "type": "Blank"})
    trace(world.system, {"id": "u", "broken": ""})
    listener.tell(Blank())
    world.loop.run_until_idle()
    assert world.system.actor("listener").heard == 1
    [(_, _, what)] = world.seen()
    assert what.startswith("it cannot be read: AttributeError")
    assert traced(world.system, {"id": "u"})["ended"] == "it failed on a Blank: KeyError('who')"


def test_questions_are_answered_while_a_trace_runs(world: World) -> None:
    trace(world.system, {"id": "t", "type": "Roll"})
    future = world.high.ask(Roll(times=7), block=False)
    world.loop.run_until_idle()
    assert future.get(timeout=0) == 7 and world.seen() == [("", "high", "times=7"), ("high", "low", "times=6")]


def test_an_actor_with_a_thread_of_its_own_is_followed_too(world: World) -> None:
    hill = world.system.spawn(Hill, world.low, name="hill")
    trace(world.system, {"id": "t", "type": "Roll"})
    hill.tell(Roll(times=0))
    wait_until(lambda: len(world.seen()) == 1)
    wait_until(lambda: world.loop.run_until_idle() or len(world.seen()) == 2)  # type: ignore[func-returns-value]
    assert world.seen() == [("", "hill", "times=0"), ("hill", "low", "times=0")]
    hill.stop(block=False)
    wait_until(lambda: not any(thread.name.startswith("Hill") for thread in threading.enumerate()))


def test_what_a_cause_leads_to_can_be_followed() -> None:
    class Downhill:
        """A roll of five, and all that comes of it."""

        def concerns(self, message: Any, cause: Any, sender: str, to: str) -> str | None:
            return "" if message == Roll(times=5) or cause is not None else None

    world = World()
    world.system.tracing = Tracing(world.system, subjects={"slope": lambda _: Downhill()}, epoch=lambda: 9)
    trace(world.system, {"id": "t", "slope": "any"})
    for times in (4, 5, 4):
        world.tell(world.high, times)
    assert world.seen() == [("", "high", "times=5"), ("high", "low", "times=4")]
    assert {record["epoch"] for record in traced(world.system, {"id": "t"})["records"]} == {9}
    world.system.stop()


def test_what_cannot_be_traced_is_said_in_a_sentence(world: World) -> None:
    def complaint(word: Any, **arguments: Any) -> str:
        with pytest.raises(ObserveError) as refused:
            word(world.system, arguments)
        return str(refused.value)

    assert complaint(trace, id="t") == "say what to trace: one of actor, type"
    assert complaint(trace, id="t", actor="low", type="Roll") == "say what to trace: one of actor, type"
    assert complaint(trace, id="t", actor="low", seconds=601) == "'seconds' must be a number above 0, at most 600"
    assert (
        complaint(trace, id="t", actor="low", messages_max=0)
        == "'messages_max' must be a number above 0, at most 10000"
    )
    assert complaint(trace, actor="low") == "'id' is missing: a text is wanted"
    assert complaint(traced, id="t") == "there is no trace 't' here; there are: none"
    for number in range(TRACES_MAX):
        trace(world.system, {"id": str(number), "actor": "low"})
    assert complaint(trace, id="0", actor="low").startswith("a trace '0' runs already")
    assert complaint(trace, id="one more", actor="low").startswith("16 traces run already")
    world.loop.advance(10.0)
    trace(world.system, {"id": "one more", "actor": "low"})
    assert complaint(traced, id="0").startswith("there is no trace '0' here")
