"""What has happened in a process is remembered, numbered, bounded, and told in pieces."""

import logging

import pytest
from ringkeeper.runtime import events as events_module
from ringkeeper.runtime.events import SENTENCE_CHARACTERS_MAX, Events
from ringkeeper.runtime.system import DEAD_LETTER_LOG_SECONDS, ActorSystem
from ringkeeper.runtime.virtual import VirtualLoop


def test_whoever_has_missed_events_is_told_how_many_are_gone() -> None:
    events = Events("node 7001", lambda: 12.5, kept_max=3)
    for number in range(5):
        events.note("test", f"event {number}")
    told = events.since(1)
    assert [each["number"] for each in told["events"]] == [2, 3, 4]
    assert (told["lost"], told["next"], told["more"]) == (1, 5, False)
    assert events.since(5) == {**told, "events": [], "lost": 0}
    assert events.since(99)["next"] == 5  # it knew another life


def test_many_events_are_told_in_several_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "EVENTS_TOLD_MAX", 2)
    events = Events("node 7001", lambda: 0.0)
    for _ in range(3):
        events.note("test", "again")
    first = events.since()
    assert (len(first["events"]), first["next"], first["more"]) == (2, 2, True)
    rest = events.since(first["next"])
    assert (len(rest["events"]), rest["more"]) == (1, False)


def test_one_call_notes_an_event_and_logs_the_same_sentence(caplog: pytest.LogCaptureFixture) -> None:
    events = Events("node 7001", lambda: 0.0)
    with caplog.at_level(logging.WARNING):
        events.note("test", "it is lost", cause="nobody knows", epoch=8, log=logging.warning, node="a:1")
    assert caplog.messages == ["it is lost (nobody knows)"]
    (event,) = events.since()["events"]
    assert (event["sentence"], event["cause"], event["epoch"]) == ("it is lost", "nobody knows", 8)
    assert event["fields"] == {"node": "a:1"}


def test_a_sentence_of_any_length_takes_bounded_room() -> None:
    events = Events("node 7001", lambda: 0.0)
    events.note("test", "x" * 10**6, cause="y" * 10**6, value="z" * 10**6)
    (event,) = events.since()["events"]
    lengths = [len(each) for each in (event["sentence"], event["cause"], event["fields"]["value"])]
    assert lengths == [SENTENCE_CHARACTERS_MAX] * 3


def test_dead_letters_of_one_kind_are_one_event_for_a_while() -> None:
    loop = VirtualLoop()
    system = ActorSystem(loop=loop, wall=loop.time)
    for _ in range(3):
        system.dead_letter("nobody", "hello", "it has stopped")
    loop.advance(DEAD_LETTER_LOG_SECONDS)
    system.dead_letter("nobody", "hello", "it has stopped")
    told = [(each["kind"], each["fields"]["so_far"]) for each in system.events.since()["events"]]
    assert told == [("dead letter", 1), ("dead letter", 4)]
