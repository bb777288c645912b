"""The observer of a process: its words, by hand and without a bridge."""

import json
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from ringkeeper.runtime.actor import Actor, BlockingActor, Ref
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.message import message
from ringkeeper.runtime.observer import ARGUMENTS_CHARACTERS_MAX, WAITING_MAX, Observe, Observed, Observer
from ringkeeper.tests.zookeepers import wait_until


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class KeepNote:
    """Somebody -> Notebook."""

    page: int
    text: bytes
    tags: tuple[str, ...] = ()


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNote:
    """Somebody -> Notebook."""

    page: int
    reply_to: Ref


class Notebook(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[int, bytes] = {}
        self._self: list[Any] = [self.notes]
        self._self.append(self._self)

    def on_receive(self, message: KeepNote | ReadNote) -> Any:
        if isinstance(message, KeepNote):
            self.notes[message.page] = message.text
            return len(self.notes)
        self.send(message.reply_to, KeepNote(page=message.page, text=self.notes[message.page]))
        return None


def observe(harness: Harness, word: str, **arguments: Any) -> Any:
    """The answer to a word; an Observed with an error as it is."""
    proven = arguments.pop("proven", False)
    text, asker = json.dumps(arguments), harness.probe("asker")
    asked = Observe(question=7, words=(word,), text=text, proven=proven, reply_to=asker)
    before = len(harness.sent)
    harness.tell(asked)
    harness.advance(0.0 if word != "ASK" else 60.0)
    [(whom, answer)] = harness.sent[before:]
    assert whom == "asker" and isinstance(answer, Observed) and answer.question == 7
    return answer if answer.error else json.loads(answer.text)


def test_every_actor_of_the_process_is_listed() -> None:
    harness = Harness(Observer, name="observer")
    observe(harness, "ACTORS")
    [listed] = observe(harness, "ACTORS")
    assert listed["name"] == "observer" and listed["type"] == "Observer" and listed["alive"]
    assert listed["messages"] == {"LookOn": [1, 0.0], "Observe": [1, 0.0]}


def test_a_word_that_nobody_knows_is_answered_with_those_that_are_known() -> None:
    answer = observe(Harness(Observer, name="observer"), "NONSENSE")
    assert answer.error.startswith("ERR 'NONSENSE' is not a word of this process; it knows ACTORS")


def test_arguments_that_are_no_json_object_are_refused_in_a_sentence() -> None:
    harness = Harness(Observer, name="observer")
    for text in ("{", "[1]", "[" * 100_000, '{"actor": "' + "x" * ARGUMENTS_CHARACTERS_MAX + '"}'):
        [(_, answer)] = harness.tell(Observe(question=1, words=("ACTORS",), text=text, reply_to=harness.probe("asker")))
        assert answer.error.startswith(("ERR the arguments are not", "ERR the arguments have 1048589 characters"))


def test_between_two_questions_others_have_a_turn_and_too_many_are_told_to_ask_again() -> None:
    said: list[str] = []
    harness = Harness(Observer, name="observer", words={"SAY": lambda system, arguments: said.append("word")})
    other = harness.system.spawn(Other, said, name="other")
    harness.loop.run_until_idle()
    asker = harness.probe("asker")
    harness.ref.tell(Observe(question=0, words=("SAY",), reply_to=asker))
    for question in range(1, 3 + WAITING_MAX):
        harness.ref.tell(Observe(question=question, words=("SAY",), reply_to=asker))
    other.tell(KeepNote(page=1, text=b""))
    harness.advance(0)
    assert said[:3] == ["word", "other", "word"] and said.count("word") == 1 + WAITING_MAX
    refused = [answer for _, answer in harness.sent if answer.error]
    assert [answer.question for answer in refused] == [1 + WAITING_MAX, 2 + WAITING_MAX]
    assert refused[0].error == "TRYAGAIN 100 questions wait for an answer here already"


class Other(Actor):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def on_receive(self, message: KeepNote) -> None:
        self.said.append("other")


def test_an_error_can_be_sent_and_logged_whatever_it_quotes(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness(Observer, name="observer", words={"\udc80": lambda system, arguments: {}[arguments["x"]]})
    answer = observe(harness, "\udc80", x="\ud800")
    assert answer.error.encode() == b"ERR ? failed: KeyError: '\\ud800'"
    assert b"the observer failed on ?" in caplog.text.encode()


def test_a_word_that_fails_is_the_askers_trouble_and_not_the_observers() -> None:
    harness = Harness(Observer, name="observer", words={"BROKEN": lambda system, arguments: 1 / 0})
    assert observe(harness, "BROKEN").error == "ERR BROKEN failed: ZeroDivisionError: division by zero"
    assert observe(harness, "ACTORS")[0]["restarts"] == 0


@pytest.fixture
def harness() -> Harness:
    harness = Harness(Observer, name="observer")
    harness.system.spawn(Notebook, name="notebook")
    harness.system.allow_faults = True
    return harness


def test_an_actors_state_is_shown_within_bounds_whatever_is_in_it(harness: Harness) -> None:
    notebook: Notebook = harness.system.actor("notebook")
    notebook.notes.update(dict.fromkeys(range(1000, 100_000), b"x" * 1000))
    shown = observe(harness, "INSPECT", actor="notebook", items=2, characters=5)
    assert shown["state"]["notes"] == {
        "1000": "xxxxx... (1000 bytes)", "1001": "xxxxx... (1000 bytes)", "...": "98998 more",
    }  # fmt: skip
    assert shown["hears"] == ["KeepNote", "ReadNote"] and shown["address"] == "local://notebook"
    deep = observe(harness, "INSPECT", actor="notebook", depth=8, items=1000, characters=10_000)
    assert 500_000 < len(json.dumps(deep)) < 2_000_000, "itself in itself, as much as is shown at all"
    notebook.notes = {1: "€".encode() * 100, 2: b"\xff" * 9, 3: b""}
    shown = observe(harness, "INSPECT", actor="notebook", characters=4)["state"]["notes"]
    assert shown == {"1": "€... (300 bytes)", "2": "b'\\xff\\xff\\xff\\xff'... (9 bytes)", "3": ""}
    assert "there is no actor called 'note'" in observe(harness, "INSPECT", actor="note").error


def test_an_actor_may_say_itself_what_is_worth_seeing(harness: Harness) -> None:
    class Frank(Notebook):
        def inspect(self) -> dict[str, Any]:
            return {"pages": len(self.notes), "first": self.notes[1]}

    frank = harness.system.spawn(Frank, name="frank")
    assert "KeyError(1)" in observe(harness, "INSPECT", actor="frank")["state"]["inspect failed"]
    frank.tell(KeepNote(page=1, text=b"\xff"))
    harness.advance(0)
    assert observe(harness, "INSPECT", actor="frank")["state"] == {"pages": 1, "first": "b'\\xff'"}


def test_a_secret_is_shown_to_nobody(harness: Harness) -> None:
    notebook = harness.system.actor("notebook")
    notebook._password, notebook.environment = b"tiger", {"SOMEBODYS_TOKEN": "tiger"}
    notebook.settings = {"RINGKEEPER_PASSWORD": "tiger", "port": 7001}
    shown = observe(harness, "INSPECT", actor="notebook")["state"]
    assert "tiger" not in str(shown) and shown["settings"]["port"] == 7001


def test_an_actor_that_blocks_is_shown_with_what_it_is_doing(harness: Harness) -> None:
    at_work, may_end = threading.Event(), threading.Event()

    class Sleeper(BlockingActor):
        def on_receive(self, message: KeepNote) -> None:
            at_work.set()
            may_end.wait(10)

    sleeper = harness.system.spawn(Sleeper, name="sleeper")
    sleeper.tell(KeepNote(page=1, text=b""))
    sleeper.tell(KeepNote(page=2, text=b""))
    assert at_work.wait(10)
    try:
        shown = observe(harness, "INSPECT", actor="sleeper")
        assert shown["handling"] == "KeepNote" and shown["waiting"] == {"KeepNote": 1}
        assert any("may_end.wait(10)" in call for call in shown["stack"])
        assert any("may_end.wait(10)" in call for stack in observe(harness, "STACKS").values() for call in stack)
    finally:
        may_end.set()
        sleeper.stop(block=False)
        wait_until(lambda: not sleeper.is_alive())


def test_what_is_told_is_made_of_json_by_the_types_of_the_fields(harness: Harness) -> None:
    told = {"actor": "notebook", "type": "KeepNote", "fields": {"page": 1, "text": "one", "tags": ["a"]}}
    assert observe(harness, "TELL", **told) == {"told": "notebook", "type": "KeepNote"}
    harness.advance(0)
    assert observe(harness, "INSPECT", actor="notebook")["state"]["notes"] == {"1": "one"}
    assert observe(harness, "ASK", **{**told, "fields": {"page": 2, "text": ""}}) == {"type": "int", "answer": 2}
    answer = observe(harness, "ASK", actor="notebook", type="ReadNote", fields={"page": 1})
    assert answer == {"type": "KeepNote", "answer": {"KeepNote": {"page": 1, "text": "one", "tags": []}}}
    assert "ear" not in str(harness.system.names())
    assert observe(harness, "TYPES")["KeepNote"]["fields"]["tags"] == {"type": "tuple[str, ...]", "needed": False}


def test_what_an_actor_could_not_handle_is_not_told_to_it(harness: Harness) -> None:
    for type_name, fields, complaint in (
        ("KeepNote", {"page": "one", "text": ""}, "Expected `int`, got `str`"),
        ("KeepNote", {"page": 1}, "missing required field `text`"),
        ("KeepNote", {"paper": 1}, "KeepNote has no 'paper'; it has page, text, tags"),
        ("KeepNote", [], "'fields' must be an object"),
        ("Observe", {}, "notebook does not hear Observe; it hears KeepNote, ReadNote"),
        ("KeepNot", {}, "'KeepNot' is no message here; there are KeepNote"),
    ):
        for word in ("TELL", "ASK"):
            assert complaint in observe(harness, word, actor="notebook", type=type_name, fields=fields).error
    assert harness.system.names() == ["notebook", "observer"]
    assert "restarts" in str(observe(harness, "ACTORS")) and not harness.system.dead_letters


def test_an_answer_that_does_not_come_is_waited_for_so_long_and_not_longer(harness: Harness) -> None:
    class Deaf(Notebook):
        def on_receive(self, message: KeepNote | ReadNote) -> None:
            pass

    harness.system.spawn(Deaf, name="deaf")
    asked = {"actor": "deaf", "type": "ReadNote", "fields": {"page": 1}, "seconds": 2}
    assert observe(harness, "ASK", **asked).error == "ERR deaf did not answer ReadNote: nothing came within 2 s"
    assert harness.system.names() == ["deaf", "notebook", "observer"]


def test_nobody_interferes_where_it_is_not_allowed(harness: Harness) -> None:
    harness.system.allow_faults = False
    told = {"actor": "notebook", "type": "KeepNote", "fields": {"page": 1, "text": ""}, "action": "drop"}
    for word in ("TELL", "ASK", "FAULT", "RELEASE", "FAULTS"):
        assert "start it with --allow-faults" in observe(harness, word, **told).error
    assert harness.system.actor("notebook").notes == {}
    harness.system.allow_faults = True
    assert "no bridge joins" in observe(harness, "FAULT", **told).error


@pytest.mark.parametrize("guarded", [True, False])
def test_where_a_password_is_wanted_or_code_is_taken_only_who_has_proved_one_interferes(guarded: bool) -> None:
    harness = Harness(Observer, name="observer", guarded=guarded)
    harness.system.spawn(Notebook, name="notebook")
    harness.system.allow_faults, harness.system.allow_code = True, not guarded
    told = {"actor": "notebook", "type": "KeepNote", "fields": {"page": 1, "text": "one"}, "action": "drop"}
    for word in ("TELL", "ASK", "FAULT", "RELEASE", "PY"):
        assert "for those who have proved a password" in observe(harness, word, **told).error
    assert harness.system.actor("notebook").notes == {} and not harness.system.dead_letters
    assert isinstance(observe(harness, "ACTORS"), list), "everybody may look"
    assert observe(harness, "TELL", proven=True, **told) == {"told": "notebook", "type": "KeepNote"}
    if not guarded:
        assert "the code cannot be read" in observe(harness, "PY", proven=True, code="", actor="notebook").error
