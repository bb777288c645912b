"""The observer of a process: its words, by hand and without a bridge."""

import json
from typing import Any

from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.observer import Observe, Observed, Observer


def observe(harness: Harness, word: str, **arguments: Any) -> Any:
    """The answer to a word; an Observed with an error as it is."""
    asked = Observe(question=7, words=(word,), text=json.dumps(arguments), reply_to=harness.probe("asker"))
    [(whom, answer)] = harness.tell(asked)
    assert whom == "asker" and isinstance(answer, Observed) and answer.question == 7
    return answer if answer.error else json.loads(answer.text)


def test_every_actor_of_the_process_is_listed() -> None:
    harness = Harness(Observer, name="observer")
    observe(harness, "ACTORS")
    [listed] = observe(harness, "ACTORS")
    assert listed["name"] == "observer" and listed["type"] == "Observer" and listed["alive"]
    assert listed["messages"] == {"Observe": [1, 0.0]}


def test_a_word_that_nobody_knows_is_answered_with_those_that_are_known() -> None:
    answer = observe(Harness(Observer, name="observer"), "NONSENSE")
    assert answer.error.startswith("ERR 'NONSENSE' is not a word of this process; it knows ACTORS")


def test_arguments_that_are_no_json_object_are_refused_in_a_sentence() -> None:
    harness = Harness(Observer, name="observer")
    for text in ("{", "[1]", "[" * 100_000):
        [(_, answer)] = harness.tell(Observe(question=1, words=("ACTORS",), text=text, reply_to=harness.probe("asker")))
        assert answer.error.startswith("ERR the arguments are not")


def test_a_word_that_fails_is_the_askers_trouble_and_not_the_observers() -> None:
    harness = Harness(Observer, name="observer", words={"BROKEN": lambda system, arguments: 1 / 0})
    assert observe(harness, "BROKEN").error == "ERR BROKEN failed: ZeroDivisionError: division by zero"
    assert observe(harness, "ACTORS")[0]["restarts"] == 0
