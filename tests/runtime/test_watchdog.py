"""What hangs is found and named: a blocked loop, long work, and actors that ask each other."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pykka
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


class Asker(Actor):
    """Asks another and goes on, as everybody on a loop does."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__()

    def on_receive(self, message: AskOn) -> None:
        message.first.ask(HoldUp(), block=False)


class BusyAsker(BlockingActor):
    """Asks another and goes on, with other work, though it might wait."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self.over = over

    def on_receive(self, message: AskOn) -> None:
        message.first.ask(HoldUp(), block=False)
        self.over.wait(10)


class Worker(BlockingActor):
    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self.over = over

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, AskOn):
            self.over.wait(0.2)  # until the other is at it, too
            onward = AskOn(first=message.then[0], then=message.then[1:]) if message.then else HoldUp()
            while not self.over.is_set():
                with suppress(pykka.Timeout):
                    return message.first.ask(onward, timeout=3.0)
            return None
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
        wait_until(lambda: found(system, "blocked"))
        assert "sleeper handles HoldUp" in found(system, "blocked")[0]
        assert "on_receive: self.over.wait(10)" in caplog.text
        over.set()
        wait_until(lambda: len(system.events.since()["events"]) == 2)
    blocked, goes_on = system.events.since()["events"]
    assert blocked["kind"] == goes_on["kind"] == "hang"
    assert "goes on after" in goes_on["sentence"]


def test_long_work_and_actors_that_ask_each_other_here_and_elsewhere_are_named(
    over: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WORK_SECONDS", 1.0)
    here, there = (BridgeConfig(cluster="test", node=node) for node in ("ann", "bob"))
    with running_system(here, name="ann") as ann, running_system(there, name="bob") as bob:
        a, b, c, worker = (ann.spawn(Worker, over, name=name) for name in ("a", "b", "c", "worker"))
        d = bob.spawn(Worker, over, name="d")
        for system, one, other in ((ann, a, b), (ann, b, a), (ann, c, d), (bob, d, c)):
            one.tell(AskOn(first=system.resolve(other.address)))
        worker.tell(HoldUp())

        wait_until(lambda: len(found(ann, "circle")) > 1 and found(bob, "circle") and found(ann, "working"))
        near, *_, far = sorted(found(ann, "circle"))
        assert near.startswith("asks wait on each other: a waits for b (HoldUp, ")
        assert " s), b waits for a (HoldUp, " in near
        for sentence in (far, *found(bob, "circle")):
            assert "c waits for " in sentence
            assert "d waits for " in sentence
        assert any("worker has worked on HoldUp for" in sentence for sentence in found(ann, "working"))

        def hangs() -> list[dict[str, Any]]:
            return [system.watchdog.hangs() for system in (ann, bob) if system.watchdog is not None]

        assert {work["actor"] for each in hangs() for work in each["working"]} == {"a", "b", "c", "d", "worker"}
        told = (Wait(**wait) for each in hangs() for wait in each["waits"])
        assert all(len(circle) == 2 for circle in circles(told))

        over.set()
        wait_until(lambda: not any(each["working"] for each in hangs()))


@pytest.mark.parametrize("cls", [Asker, BusyAsker])
def test_who_waits_for_an_actor_that_goes_on_after_asking_it_something_is_in_no_circle(
    over: threading.Event, cls: type
) -> None:
    here, there = (BridgeConfig(cluster="test", node=node) for node in ("ann", "bob"))
    with running_system(here, name="ann") as ann, running_system(there, name="bob") as bob:
        asker, worker = ann.spawn(cls, over, name="asker"), bob.spawn(Worker, over, name="worker")
        bob.bridge.faults.hold("HoldUp", to=asker.address)
        worker.tell(AskOn(first=bob.resolve(asker.address)))

        def waits() -> list[dict[str, Any]]:
            return bob.watchdog.hangs()["waits"] if bob.watchdog is not None else []

        wait_until(waits)
        asker.tell(AskOn(first=ann.resolve(worker.address)))
        wait_until(lambda: next(state.depth for state in bob.actors() if state.name == "worker"))
        assert [wait["waiting"] for wait in waits()] == [worker.address]
        over.set()


def test_circles_are_found_once_and_what_leads_into_them_is_none() -> None:
    waits = [
        Wait(*pair, "Add", 1.0) for pair in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "e"), ("f", "g"))
    ]
    assert [[wait.waiting for wait in circle] for circle in circles(waits)] == [["a", "b", "c"], ["e"]]
