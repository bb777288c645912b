"""The laboratory finds bugs in what keeps copies equal: each fault of `planted_copies.py` makes a story fail that is
good without it.

The table says which story found it, and the first seed of those that were tried: a random one, or where such stories
meet the moment too seldom, one of `copies_stories.py` that goes for it. Should the same seed be another story one day,
the next ones are tried. What shows between two messages only is found by a test of these.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from inspect import signature
from typing import Any

import pytest
from ringkeeper.scenarios.play import Played, play
from ringkeeper.scenarios.random_story import as_scenario, draw
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.tests.actors import test_member
from ringkeeper.tests.actors.test_replica import FIRST, Copy
from ringkeeper.tests.actors.trio import Trio
from ringkeeper.tests.scenarios.copies_stories import STORIES
from ringkeeper.tests.scenarios.planted_copies import FAULTS, RANDOM, Planted

pytestmark = pytest.mark.stories

SEEDS_MAX = 150

TOLD = {name: planted for name, planted in FAULTS.items() if isinstance(planted.story, str)}
TESTED = {name: planted for name, planted in FAULTS.items() if not isinstance(planted.story, str)}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What a planted fault makes the actors log is not worth reading."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def told(story: str, seed: int) -> Played:
    return play(as_scenario(draw(seed)) if story == RANDOM else STORIES[story], SimulatedStage(seed))


@cache
def is_good(story: str, seed: int) -> bool:
    return told(story, seed).good


@contextmanager
def surroundings(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """What a test asks for, made anew: its fixtures are those of another module."""
    with ExitStack() as ends, pytest.MonkeyPatch.context() as patch:
        made: dict[str, Any] = {}
        for name in signature(test).parameters:
            match name:
                case "trio":
                    made[name] = Trio().start()
                    ends.callback(made[name].stop)
                case "copy":
                    made[name] = Copy()
                    made[name].open(1, FIRST)
                    ends.callback(made[name].harness.stop)
                case "stage":
                    made[name] = test_member.Stage(test_member.life(1), test_member.Shelf())
                    ends.callback(made[name].harness.stop)
                case "monkeypatch":
                    made[name] = patch
        yield made


@pytest.mark.parametrize("planted", TESTED.values(), ids=TESTED)
def test_a_fault_planted_in_the_copies_makes_its_test_fail(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(planted.story)
    with surroundings(planted.story) as made:
        planted.story(**made)
    planted.plant(monkeypatch)
    with surroundings(planted.story) as made, pytest.raises(AssertionError):
        planted.story(**made)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("planted", TOLD.values(), ids=TOLD)
def test_a_fault_planted_in_the_copies_is_found(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(planted.story, str)
    assert is_good(planted.story, planted.seed), "the story is good without the fault"
    planted.plant(monkeypatch)
    for seed in (planted.seed, *(seed for seed in range(SEEDS_MAX) if seed != planted.seed)):
        played = told(planted.story, seed)
        broke = played.kind.startswith("SimulationFailed")
        assert not broke or "AssertionError" in played.kind, f"what is planted is broken itself: {played.failure}"
        if not played.good:
            return
    pytest.fail(f"{SEEDS_MAX} stories have not found it")
