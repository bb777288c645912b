"""Actors on the loop: mailboxes, refs, futures, turns."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pykka
import pytest
import uvloop
from ringkeeper.runtime.actor import Actor, BlockingActor, WouldDeadlock
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.message import message
from ringkeeper.runtime.system import ESCALATE, ActorSystem, Supervision, Terminated
from ringkeeper.runtime.virtual import VirtualLoop


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something to remember. Test -> Notebook."""

    text: str


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something to remember before all else. Test -> Notebook."""

    text: str


class Notebook(Actor):
    def __init__(self, friend: Any = None) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.friend = friend

    def on_receive(self, message: Any) -> Any:
        match message:
            case Note(text="fail"):
                raise ValueError("told to fail")
            case Note(text="remind me"):
                self.after(2.0, Note(text="reminded"))
            case Note() | Alarm():
                self.texts.append(message.text)
                if self.friend is not None:
                    self.send(self.friend, message)
            case "texts":
                return list(self.texts)
            case Terminated():
                self.texts.append(f"{message.ref.name} is gone")
        return None

    def size(self) -> int:
        return len(self.texts)


class Home:
    """An ActorSystem whose uvloop runs on a thread of its own."""

    def __enter__(self) -> ActorSystem:
        self.loop = uvloop.new_event_loop()
        ready = threading.Event()

        def run() -> None:
            self.system = ActorSystem(loop=self.loop)
            self.loop.call_soon(ready.set)
            self.loop.run_forever()
            self.system.stop()
            self.loop.close()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert ready.wait(10)
        return self.system

    def __exit__(self, *_: Any) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


def on_the_loop(system: ActorSystem, function: Any) -> Any:
    done: Any = pykka.ThreadingFuture()

    def run() -> None:
        try:
            done.set(function())
        except Exception:
            done.set_exception()

    system.loop.call_soon_threadsafe(run)
    return done.get(timeout=10)


def test_tell_ask_proxy_and_stop_work_from_another_thread() -> None:
    with Home() as system:
        notebook = system.spawn(Notebook, name="notebook")
        notebook.tell(Note(text="one"))
        assert notebook.ask("texts", timeout=10) == ["one"]
        assert notebook.proxy().size().get(timeout=10) == 1
        assert pykka.ActorRegistry.get_by_urn(notebook.actor_urn) is notebook
        assert notebook.stop(timeout=10) is True
        assert not notebook.is_alive()
        assert system.find("notebook") is None
        with pytest.raises(pykka.ActorDeadError):
            notebook.tell(Note(text="too late"))


def test_messages_of_many_threads_all_arrive_and_each_threads_order_is_kept() -> None:
    with Home() as system:
        notebook = system.spawn(Notebook, name="notebook")

        def write(author: int) -> None:
            for number in range(2000):
                notebook.tell(Note(text=f"{author} {number}"))

        threads = [threading.Thread(target=write, args=(author,)) for author in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        texts = notebook.ask("texts", timeout=10)
        assert len(texts) == 8000
        for author in range(4):
            assert [t for t in texts if t.startswith(f"{author} ")] == [f"{author} {n}" for n in range(2000)]


def test_waiting_for_an_actor_on_the_loop_thread_raises_at_once() -> None:
    with Home() as system:
        notebook = system.spawn(Notebook, name="notebook")
        for wait in (
            lambda: notebook.ask("texts"),
            lambda: notebook.ask("texts", block=False).get(),
            lambda: notebook.proxy().size().get(),
            lambda: notebook.stop(),
            pykka.ActorRegistry.stop_all,
        ):
            with pytest.raises(WouldDeadlock):
                on_the_loop(system, wait)
        assert notebook.is_alive()


def test_a_future_can_be_awaited_on_the_loop() -> None:
    with Home() as system:
        notebook = system.spawn(Notebook, name="notebook")
        notebook.tell(Note(text="one"))

        async def wait() -> tuple[Any, Any, Any]:
            mapped = notebook.ask("texts", block=False).map(len)
            return await notebook.ask("texts", block=False), await mapped, await notebook.stop(block=False)

        assert asyncio.run_coroutine_threadsafe(wait(), system.loop).result(10) == (["one"], 1, True)  # type: ignore[arg-type]


def test_an_urgent_message_overtakes_ordinary_ones() -> None:
    harness = Harness(Notebook)
    harness.tell(Note(text="first"), Note(text="second"), Alarm(text="fire"), Alarm(text="flood"))
    assert harness.actor.texts == ["fire", "flood", "first", "second"]
    harness.stop()


def test_a_reminder_comes_when_its_time_has_come_and_not_after_death() -> None:
    harness = Harness(Notebook, friend="probe:friend")
    harness.tell(Note(text="remind me"))
    assert harness.advance(1.9) == []
    assert harness.advance(0.2) == [("friend", Note(text="reminded"))]
    harness.tell(Note(text="remind me"))
    harness.ref.stop(block=False)
    assert harness.advance(5) == []
    harness.stop()


def test_a_failed_actor_is_made_anew_under_its_ref_and_keeps_its_mail() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    notebook = system.spawn(Notebook, name="notebook", supervision=Supervision(restarts_max=2, backoff_seconds=1.0))
    for text in ("one", "fail", "two"):
        notebook.tell(Note(text=text))
    loop.run_until_idle()
    assert system.counters()["notebook"][0] == 1  # "two" waits for the new one
    loop.advance(1.0)
    answer = notebook.ask("texts", block=False)
    loop.run_until_idle()
    assert answer.get(timeout=0) == ["two"]
    assert system.counters()["notebook"][1].restarts == 1
    system.stop()


def test_more_failures_than_allowed_escalate_and_watchers_are_told() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    escalated: list[str] = []
    system.on_escalation = lambda name, failure: escalated.append(f"{name}: {failure}")
    watcher = system.spawn(Notebook, name="watcher")
    notebook = system.spawn(Notebook, name="notebook", supervision=Supervision(restarts_max=1))
    system.death_watch(watcher, notebook)
    notebook.tell(Note(text="fail"))
    loop.advance(5)
    assert not escalated
    notebook.tell(Note(text="fail"))
    loop.advance(5)
    assert escalated == ["notebook: told to fail"]
    answer = watcher.ask("texts", block=False)
    loop.run_until_idle()
    assert answer.get(timeout=0) == ["notebook is gone"]
    system.stop()


def test_mail_of_a_stopped_actor_becomes_dead_letters_and_questions_are_answered() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    notebook = system.spawn(Notebook, name="notebook", supervision=ESCALATE)
    notebook.stop(block=False)
    notebook.tell(Note(text="lost"))
    question = notebook.ask("texts", block=False)
    loop.run_until_idle()
    with pytest.raises(pykka.ActorDeadError):
        question.get(timeout=0)
    assert system.dead_letters == 1
    survivor = system.spawn(Notebook, friend=notebook, name="survivor")
    survivor.tell(Note(text="to the dead"))
    loop.run_until_idle()
    assert system.dead_letters == 2
    system.stop()


def test_a_turn_that_was_announced_before_the_system_stopped_does_nothing() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    notebook = system.spawn(Notebook, name="notebook")
    notebook.tell(Note(text="one"))
    system.stop()
    loop.run_until_idle()
    assert system.dead_letters == 1


def test_what_one_message_causes_is_handled_in_the_same_turn() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    last = system.spawn(Notebook, name="last")
    first = system.spawn(Notebook, friend=last, name="first")
    loop.run_until_idle()
    ends: list[int] = []
    first.tell(Note(text="one"))
    system.at_end_of_turn(lambda: ends.append(int(system.counters()["last"][1].messages[Note][0])))
    loop.run_until_idle()
    assert ends == [1]
    system.stop()


class Sleeper(BlockingActor):
    def on_receive(self, message: Any) -> Any:
        if message == "fail":
            raise OSError("the disk is gone")
        return threading.get_ident()


def test_a_blocking_actor_has_its_own_thread_and_its_failure_escalates() -> None:
    with Home() as system:
        escalated = threading.Event()
        system.on_escalation = lambda name, failure: escalated.set()
        sleeper = system.spawn(Sleeper, name="sleeper")
        assert sleeper.ask("where are you", timeout=10) not in (threading.get_ident(), system._thread)
        sleeper.tell("fail")
        assert escalated.wait(10)
        assert system.find("sleeper") is None


def test_a_name_is_given_once_at_a_time() -> None:
    system = ActorSystem(loop=VirtualLoop())
    system.spawn(Notebook, name="notebook")
    with pytest.raises(ValueError, match="already here"):
        system.spawn(Notebook, name="notebook")
    system.stop()
    assert system.names() == []
