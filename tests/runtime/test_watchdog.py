"""What hangs is found and named: a blocked loop, long work, and actors that ask each other."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from ringkeeper.runtime import watchdog as watching
from ringkeeper.runtime.actor import Actor, BlockingActor, Ref
from ringkeeper.runtime.bridge import BridgeConfig
from ringkeeper.runtime.message import message
from ringkeeper.runtime.running import running_system
from ringkeeper.runtime.watchdog import Wait, circles
from ringkeeper.tests.zookeepers import wait_until


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class HoldUp:
    """Do nothing until the test is over. Test -> Sleeper, Worker."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class AskOn:
    """Ask another, and wait for its answer. Test -> Worker -> Worker."""

    first: Ref
    then: tuple[Ref, ...] = ()


class Sleeper(Actor):
    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self.over = over

    def on_receive(self, message: Any) -> Any:
        self.over.wait(10)


class Worker(BlockingActor):
    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self.over = over

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, AskOn):
            self.over.wait(0.2)  # until the other is at it, too
            onward = AskOn(first=message.then[0], then=message.then[1:]) if message.then else HoldUp()
            return message.first.ask(onward, timeout=2.5)
        return self.over.wait(10)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Ends what is held up; at the latest with the test."""
    event = threading.Event()
    yield event
    event.set()


def found(system: Any, kind: str) -> list[str]:
    return [hang["sentence"] for hang in system.watchdog.hangs()["found"] if hang["kind"] == kind]


def test_a_blocked_loop_is_named_with_actor_message_and_stacks(
    over: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    with running_system(name="ann") as system:
        system.spawn(Sleeper, over, name="sleeper").tell(HoldUp())
        wait_until(lambda: found(system, "blocked"), 5.0)
        assert "sleeper handles HoldUp" in found(system, "blocked")[0]
        assert "on_receive: self.over.wait(10)" in caplog.text
        over.set()
        wait_until(lambda: len(system.events.since()["events"]) == 2, 5.0)
    blocked, goes_on = system.events.since()["events"]
    assert blocked["kind"] == goes_on["kind"] == "hang"
    assert "goes on after" in goes_on["sentence"]


def test_actors_that_ask_each_other_are_named(over: threading.Event) -> None:
    with running_system(name="ann") as system:
        a, b, c = (system.spawn(Worker, over, name=name) for name in "abc")
        c.tell(HoldUp())
        for one, other in ((a, b), (b, a)):
            one.tell(AskOn(first=other))
        wait_until(lambda: found(system, "circle"), 5.0)
        (sentence,) = found(system, "circle")
        assert sentence.startswith("asks wait on each other: a waits for b (HoldUp, ")
        assert " s), b waits for a (HoldUp, " in sentence
        assert {work["actor"] for work in system.watchdog.hangs()["working"]} == {"a", "b", "c"}  # type: ignore[union-attr]
        over.set()


def test_actors_of_two_processes_that_ask_each_other_are_named_by_both(over: threading.Event) -> None:
    config: Callable[[str], BridgeConfig] = lambda node: BridgeConfig(cluster="test", node=node)  # noqa: E731
    with running_system(config("ann"), name="ann") as ann, running_system(config("bob"), name="bob") as bob:
        a, b = ann.spawn(Worker, over, name="a"), bob.spawn(Worker, over, name="b")
        a.tell(AskOn(first=ann.resolve(b.address)))
        b.tell(AskOn(first=bob.resolve(a.address)))
        wait_until(lambda: found(ann, "circle") and found(bob, "circle"), 5.0)
        assert f"a waits for {b.address} (HoldUp, " in found(ann, "circle")[0]
        assert f"{b.address} waits for a (HoldUp, " in found(ann, "circle")[0]
        waits = [Wait(**wait) for each in (ann, bob) for wait in each.watchdog.hangs()["waits"]]  # type: ignore[union-attr]
        assert [len(circle) for circle in circles(waits)] == [2]
        over.set()


def test_long_work_is_reported_as_work(over: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WORK_SECONDS", 1.0)
    with running_system(name="ann") as system:
        system.spawn(Worker, over, name="worker").tell(HoldUp())
        wait_until(lambda: found(system, "working"), 5.0)
        assert "worker has worked on HoldUp for" in found(system, "working")[0]
        over.set()
        wait_until(lambda: not system.watchdog.hangs()["working"], 5.0)  # type: ignore[union-attr]


def test_circles_are_found_once_and_what_leads_into_them_is_none() -> None:
    waits = [
        Wait(*pair, "Add", 1.0) for pair in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "e"), ("f", "g"))
    ]
    assert [[wait.waiting for wait in circle] for circle in circles(waits)] == [["a", "b", "c"], ["e"]]
