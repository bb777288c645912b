"""Actors on the loop: mailboxes, refs, futures, turns."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pykka
import pytest
from pykka.messages import _ActorStop
from ringkeeper.runtime.actor import Actor, BlockingActor, LoopFuture, Mailbox, WouldDeadlock
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.message import message
from ringkeeper.runtime.system import ESCALATE, ActorState, ActorSystem, Supervision, Terminated
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.tests.runtime.homes import Home


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


def state_of(system: ActorSystem, name: str) -> ActorState:
    return next(state for state in system.actors() if state.name == name)


def test_a_failed_actor_is_made_anew_under_its_ref_and_keeps_its_mail() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    notebook = system.spawn(Notebook, name="notebook", supervision=Supervision(restarts_max=2, backoff_seconds=1.0))
    for text in ("one", "fail", "two"):
        notebook.tell(Note(text=text))
    loop.run_until_idle()
    assert state_of(system, "notebook").depth == 1  # "two" waits for the new one
    loop.advance(1.0)
    answer = notebook.ask("texts", block=False)
    loop.run_until_idle()
    assert answer.get(timeout=0) == ["two"]
    assert state_of(system, "notebook").counters.restarts == 1
    system.stop()


class Ticker(Actor):
    """Ticks once a second, and wants to know when somebody is gone."""

    def __init__(self, friend: Any) -> None:
        super().__init__()
        self.watch(friend)
        self.after(1.0, "tick")

    def on_receive(self, message: Any) -> None:
        match message:
            case "tick":
                self.after(1.0, "tick")
            case "fail":
                raise ValueError("told to fail")


def test_an_actor_that_is_made_anew_has_no_timers_of_the_one_before_and_watches_nobody_twice() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    friend = system.spawn(Notebook, name="friend")
    policy = Supervision(restarts_max=10, backoff_seconds=0.1, backoff_seconds_max=0.5)
    ticker = system.spawn(Ticker, friend, name="ticker", supervision=policy)
    for _ in range(4):
        loop.advance(0.2)
        ticker.tell("fail")
        loop.advance(0.5)
    loop.advance(10.7)
    friend.stop(block=False)
    loop.run_until_idle()
    state = state_of(system, "ticker")
    assert state.counters.restarts == 4
    assert {kind: count for kind, (count, _) in state.counters.messages.items()} == {str: 4 + 10, Terminated: 1}
    system.stop()


class Leaver(Actor):
    def on_receive(self, message: Any) -> Any:
        if message == "exit":
            raise SystemExit(3)
        return message


class BlockingLeaver(BlockingActor):
    on_receive = Leaver.on_receive


@pytest.mark.parametrize("cls", [Leaver, BlockingLeaver])
def test_an_actor_that_calls_exit_fails_and_nobody_else_ends(cls: type) -> None:
    with Home() as system:
        told = threading.Event()
        system.on_escalation = lambda name, failure: told.set()
        leaver = system.spawn(cls, name="leaver", supervision=ESCALATE)
        with pytest.raises(RuntimeError, match=r"leaver called exit\(3\)") as raised:
            leaver.ask("exit", timeout=10)
        assert isinstance(raised.value.__cause__, SystemExit)
        assert leaver.ask("still there?", timeout=10) == "still there?"
        leaver.tell("exit")
        assert told.wait(10)
        assert not leaver.is_alive()
        assert system.spawn(Echo, name="echo").ask("and you?", timeout=10) == "and you?"


class Quitter(BlockingActor):
    """Fails on every message, and calls exit() in one of the hooks of its life."""

    def __init__(self, hook: str, gate: threading.Event) -> None:
        super().__init__()
        self.hook, self.gate = hook, gate

    def _exit_in(self, hook: str) -> None:
        if hook == self.hook:
            raise SystemExit(3)

    def on_start(self) -> None:
        assert self.gate.wait(10)
        self._exit_in("on_start")

    def on_failure(self, *failure: Any) -> None:
        self._exit_in("on_failure")

    def on_stop(self) -> None:
        self._exit_in("on_stop")

    def on_receive(self, message: Any) -> Any:
        raise ValueError("told to fail")


@pytest.mark.parametrize("hook", ["on_start", "on_failure", "on_stop"])
def test_a_blocking_actor_that_calls_exit_in_a_hook_ends_and_leaves_no_question_open(hook: str) -> None:
    with Home() as system:
        told, gate = threading.Event(), threading.Event()
        failures: list[BaseException] = []

        def escalate(name: str, failure: BaseException) -> None:
            failures.append(failure)
            told.set()

        system.on_escalation = escalate
        quitter = system.spawn(Quitter, hook, gate, name="quitter", supervision=ESCALATE)
        quitter.tell(_ActorStop() if hook == "on_stop" else "fail")
        question = quitter.ask("answer?", block=False)
        gate.set()
        with pytest.raises(pykka.ActorDeadError):
            question.get(timeout=10)
        assert told.wait(10)
        assert type(failures[0]) is (ValueError if hook == "on_failure" else RuntimeError)
        assert not quitter.is_alive() and system.find("quitter") is None


def test_a_stopped_blocking_actor_that_calls_exit_is_forgotten_and_whoever_stopped_it_goes_on() -> None:
    with Home() as system:
        gate = threading.Event()
        gate.set()
        quitter = system.spawn(Quitter, "on_stop", gate, name="quitter")
        assert quitter.stop(timeout=10)
        on_the_loop(system, lambda: None)
        assert system.find("quitter") is None


class StoppedByExit(Actor):
    def on_stop(self) -> None:
        raise SystemExit(3)


def test_a_system_stops_the_others_when_one_calls_exit_as_it_is_stopped() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    older = system.spawn(Notebook, name="older")
    system.spawn(StoppedByExit, name="quitter")
    loop.run_until_idle()
    system.stop()
    assert not older.is_alive() and not system.names()


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


def test_mail_of_a_blocking_actor_that_ends_becomes_dead_letters_too() -> None:
    with Home() as system:
        gate = threading.Event()
        quitter = system.spawn(Quitter, "none", gate, name="quitter")
        quitter.tell("fail")
        quitter.tell("lost")
        question = quitter.ask("answer?", block=False)  # behind them: when it is answered both are settled
        gate.set()
        with pytest.raises(pykka.ActorDeadError):
            question.get(timeout=10)
        assert system.dead_letters == 1


def test_a_turn_that_was_announced_before_the_system_stopped_does_nothing() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    notebook = system.spawn(Notebook, name="notebook")
    notebook.tell(Note(text="one"))
    system.stop()
    loop.run_until_idle()
    assert system.dead_letters == 1


class Starter(Actor):
    """Writes down how it begins and ends."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps

    def on_start(self) -> None:
        self.steps.append("started")

    def on_stop(self) -> None:
        self.steps.append("stopped")


def test_an_actor_of_another_thread_that_is_stopped_before_it_has_begun_does_not_begin() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    steps: list[str] = []
    thread = threading.Thread(target=lambda: system.spawn(Starter, steps, name="starter"))
    thread.start()
    thread.join()
    system.stop()
    loop.run_until_idle()
    assert steps == ["stopped"]


def test_what_one_message_causes_is_handled_in_the_same_turn() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    last = system.spawn(Notebook, name="last")
    first = system.spawn(Notebook, friend=last, name="first")
    loop.run_until_idle()
    ends: list[int] = []
    first.tell(Note(text="one"))
    system.at_end_of_turn(lambda: ends.append(int(state_of(system, "last").counters.messages[Note][0])))
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


class Snoozer(BlockingActor):
    """Has itself woken, and not by what it has cancelled."""

    def __init__(self, woken: threading.Event) -> None:
        super().__init__()
        self.woken = woken
        self.heard: list[str] = []

    def on_receive(self, message: Any) -> Any:
        match message:
            case "sleep":
                self.after(0.02, "wake")
            case "change my mind":
                looped = threading.Event()
                self.system.loop.call_soon_threadsafe(looped.wait, 10)  # it comes to nothing else meanwhile
                self.after(0.0, "early").cancel()
                self.after(0.01, "wake")
                looped.set()
            case _:
                self.heard.append(message)
                self.woken.set()


def test_a_blocking_actor_is_reminded_though_its_thread_is_not_the_loops() -> None:
    woken = threading.Event()
    with Home() as system:
        snoozer = system.spawn(Snoozer, woken, name="snoozer")
        for wish in ("sleep", "change my mind"):
            woken.clear()
            snoozer.tell(wish)  # and nothing else wakes the loop
            assert woken.wait(10)
        assert system.actor("snoozer").heard == ["wake", "wake"]
        snoozer.stop()


def test_a_name_is_given_once_at_a_time() -> None:
    system = ActorSystem(loop=VirtualLoop())
    system.spawn(Notebook, name="notebook")
    with pytest.raises(ValueError, match="already here"):
        system.spawn(Notebook, name="notebook")
    system.stop()
    assert system.names() == []


class Unfinished(Actor):
    def on_receive(self, message: Any) -> Any:
        raise NotImplementedError("no such message")


def test_what_is_made_of_an_answer_fails_as_the_answer_does_whatever_it_is() -> None:
    with Home() as system:
        asked = system.spawn(Unfinished, name="unfinished").ask("size", block=False)
        for made in (asked, asked.map(len), asked.join(asked), asked.map(len).map(str)):
            with pytest.raises(NotImplementedError, match="no such message"):
                made.get(timeout=10)


# Whoever asked is gone, fails, or comes too late


class Echo(Actor):
    def on_receive(self, message: Any) -> Any:
        if isinstance(message, threading.Event):
            assert message.wait(10)
        return message


def test_an_actor_lives_on_when_whoever_awaited_its_answer_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    with Home() as system:
        echo = system.spawn(Echo, name="echo")
        gate = threading.Event()

        async def wait() -> Any:
            return await echo.ask(gate, block=False)

        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wait(), 0.05)

        asyncio.run(give_up())  # its loop is closed by now
        gate.set()
        assert echo.ask("still there?", timeout=10) == "still there?"
    assert not caplog.records  # to give up is everybody's right


def test_what_a_callback_of_an_answer_raises_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    echo = system.spawn(Echo, name="echo")
    called: list[str] = []

    def fail(_: object) -> None:
        raise ValueError("no use for it")

    answer = echo.ask("one", block=False)
    answer.when_done(fail)
    answer.when_done(lambda future: called.append(future.get()))
    loop.run_until_idle()
    answer.when_done(fail)  # it is there already
    assert called == ["one"]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError, ValueError]
    again = echo.ask("two", block=False)
    loop.run_until_idle()
    assert again.get(timeout=0) == "two"
    system.stop()


def test_an_answer_that_somebody_else_has_given_is_logged_and_the_actor_lives_on() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    echo = system.spawn(Echo, name="echo")
    for settle in (LoopFuture.set, lambda future: future.set_exception((ValueError, ValueError("mine"), None))):
        question = echo.ask("one", block=False)
        settle(question)
        loop.run_until_idle()
        again = echo.ask("two", block=False)
        loop.run_until_idle()
        assert again.get(timeout=0) == "two"
    system.stop()


def test_a_turn_that_is_broken_off_leaves_nobody_unscheduled() -> None:
    """A check of the simulation fails, or Ctrl-C comes, in the middle of a visit."""
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    notebook = system.spawn(Notebook, name="notebook")
    loop.run_until_idle()

    def interrupt(*_: object) -> None:
        system.after_message = None
        raise KeyboardInterrupt

    system.after_message = interrupt
    notebook.tell(Note(text="one"))
    notebook.tell(Note(text="two"))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_idle()
    assert system.sender is None
    answer = notebook.ask("texts", block=False)
    loop.run_until_idle()
    assert answer.get(timeout=0) == ["one", "two"]
    system.stop()


def test_what_is_due_at_the_end_of_a_turn_is_done_though_something_before_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    done: list[str] = []

    def fail() -> None:
        raise ValueError("cannot write")

    system.at_end_of_turn(lambda: done.append("before"))
    system.at_end_of_turn(fail)
    system.at_end_of_turn(lambda: done.append("after"))
    loop.run_until_idle()
    assert done == ["before", "after"]
    assert any(record.exc_info and record.exc_info[0] is ValueError for record in caplog.records)
    system.stop()


def test_an_actor_that_takes_the_name_of_one_that_failed_for_good_stays() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)

    def begin_anew(name: str, failure: BaseException) -> None:
        system.spawn(Notebook, name=name, supervision=ESCALATE)

    system.on_escalation = begin_anew
    first = system.spawn(Notebook, name="notebook", supervision=ESCALATE)
    first.tell(Note(text="fail"))
    first.tell(Note(text="for the first one"))
    loop.run_until_idle()
    second = system.find("notebook")
    assert second is not None and second is not first and second.is_alive() and not first.is_alive()
    answer = second.ask("texts", block=False)
    loop.run_until_idle()
    assert answer.get(timeout=0) == []
    assert system.dead_letters == 1
    system.stop()


@pytest.fixture
def before_put(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen between the look whether an actor lives and the putting into its mailbox, once."""
    put = Mailbox.put

    def arrange(event: Callable[[], object]) -> None:
        def late(mailbox: Mailbox, item: Any) -> None:
            monkeypatch.setattr(Mailbox, "put", put)
            event()
            put(mailbox, item)

        monkeypatch.setattr(Mailbox, "put", late)

    return arrange


def test_a_question_that_meets_the_end_of_an_actor_is_answered(before_put: Any) -> None:
    with Home() as system:
        for ask in ("ask", "tell"):
            echo = system.spawn(Echo, name="echo")
            before_put(lambda echo=echo: on_the_loop(system, lambda: system.ended(stopped(echo), None)))
            before = system.dead_letters
            if ask == "ask":
                with pytest.raises(pykka.ActorDeadError):
                    echo.ask("anybody there?", timeout=10)
            else:
                echo.tell("anybody there?")
                on_the_loop(system, lambda: None)
            assert system.dead_letters == before + (ask == "tell")
            assert echo.actor_inbox.empty()


def stopped(ref: Any) -> Any:
    ref.actor_stopped.set()
    return ref._actor_weakref()


def test_a_question_that_meets_the_end_of_an_actor_with_announced_mail_is_answered(before_put: Any) -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    echo = system.spawn(Echo, name="echo")
    loop.run_until_idle()
    echo.tell("announced")
    before_put(system.stop)
    late = echo.ask("late", block=False)
    loop.run_until_idle()
    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=0)


def test_a_question_that_meets_the_end_of_a_blocking_actor_is_answered() -> None:
    with Home() as system:
        sleeper = system.spawn(Sleeper, name="sleeper")
        put = sleeper.actor_inbox.put

        def late(item: Any) -> None:
            sleeper.actor_inbox.put = put  # type: ignore[method-assign]
            sleeper.stop(timeout=10)
            for thread in threading.enumerate():
                if thread.name.startswith("Sleeper-"):
                    thread.join(10)  # it has looked into its inbox for the last time
            put(item)

        sleeper.actor_inbox.put = late  # type: ignore[method-assign]
        with pytest.raises(pykka.ActorDeadError):
            sleeper.ask("where are you", timeout=10)


def test_a_question_to_a_mailbox_that_is_full_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringkeeper.runtime.actor.MAILBOX_MESSAGES_MAX", 1)
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    echo = system.spawn(Echo, name="echo")
    echo.tell("one")
    question = echo.ask("two", block=False)
    with pytest.raises(pykka.ActorDeadError, match="mailbox holds 1 messages"):
        question.get(timeout=0)
    system.stop()


@pytest.mark.parametrize("look", (1, 2))
def test_mail_put_in_by_a_thread_just_when_a_visit_ends_is_handled(monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    """Whenever the mailbox has been found empty so many times in a row, a thread puts something in just after that."""
    loop = VirtualLoop()
    system = ActorSystem(loop=loop)
    notebook = system.spawn(Notebook, name="notebook")
    loop.run_until_idle()
    texts = [f"late {number}" for number in range(5)]
    left = list(texts)
    looks = 0
    is_empty = Mailbox.empty

    def empty(mailbox: Mailbox) -> bool:
        nonlocal looks
        answer = is_empty(mailbox)
        looks = looks + 1 if answer else 0
        if looks == look and left:
            looks = 0
            thread = threading.Thread(target=notebook.tell, args=(Note(text=left.pop(0)),))
            thread.start()
            thread.join()
        return answer

    monkeypatch.setattr(Mailbox, "empty", empty)
    notebook.tell(Note(text="first"))
    loop.run_until_idle()
    monkeypatch.undo()
    put_in = [text for text in texts if text not in left]
    assert notebook.actor_inbox.empty()
    answer = notebook.ask("texts", block=False)
    loop.run_until_idle()
    assert answer.get(timeout=0) == ["first", *put_in]
    assert put_in or look > 1
    system.stop()
