"""Actor systems on threads of their own: how they end."""

import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from ringkeeper.runtime.actor import Actor, LoopFuture
from ringkeeper.runtime.bridge import BridgeConfig
from ringkeeper.runtime.message import message
from ringkeeper.runtime.remote import Unsent
from ringkeeper.runtime.running import running_system


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """A question that comes when everything ends. Test -> Echo."""


class Leaver(Actor):
    """Has somebody else do something when it is stopped, and waits for that."""

    def __init__(self, last_act: Any) -> None:
        super().__init__()
        self.last_act = last_act

    def on_stop(self) -> None:
        thread = threading.Thread(target=self.last_act)
        thread.start()
        thread.join()


def test_what_another_thread_wishes_for_while_a_system_stops_is_still_heard() -> None:
    heard = threading.Event()
    with running_system() as system:
        system.spawn(Leaver, lambda: system.loop.call_soon_threadsafe(heard.set), name="leaver")
    assert heard.is_set()


def test_a_question_to_another_process_that_comes_while_this_one_stops_fails_at_once() -> None:
    asked: list[LoopFuture] = []
    with running_system(BridgeConfig(cluster="test", node="ann")) as system:
        far = system.resolve("ringkeeper://127.0.0.1:9999/echo")
        system.spawn(Leaver, lambda: asked.append(far.ask(Late(), block=False)), name="leaver")
    with pytest.raises(Unsent, match="Late was not sent to ringkeeper://127.0.0.1:9999/echo: this process closed its"):
        asked[0].get(timeout=0)


def test_who_uses_a_system_whose_loop_was_broken_off_is_told_by_what() -> None:
    with pytest.raises(SystemExit, match="3"), running_system() as system:
        ended = threading.Event()
        system.spawn(Leaver, ended.set, name="leaver")
        system.loop.call_soon_threadsafe(sys.exit, 3)
        assert ended.wait(10)


def test_a_question_that_waits_for_a_link_fails_when_the_loop_is_broken_off() -> None:
    with pytest.raises(SystemExit), running_system(BridgeConfig(cluster="test", node="ann")) as system:
        ended = threading.Event()
        system.spawn(Leaver, ended.set, name="leaver")
        far = system.resolve("ringkeeper://127.0.0.1:9999/echo")
        question = far.ask(Late(), block=False)
        system.loop.call_soon_threadsafe(sys.exit, 3)
        assert ended.wait(10)
        with pytest.raises(Unsent, match="Nothing happened"):
            question.get(timeout=10)
        with pytest.raises(Unsent):
            far.ask(Late(), block=False).get(timeout=10)
