"""The laboratory finds bugs in what keeps copies equal: each fault of `planted_copies.py` makes a story fail that is
good without it.

The table says which story found it, and the first seed of those that were tried: a random one, or where such stories
meet the moment too seldom, one of `copies_stories.py` that goes for it. Should the same seed be another story one day,
the next ones are tried.
"""

import logging
from collections.abc import Iterator
from functools import cache

import pytest
from ringkeeper.scenarios.play import Played, play
from ringkeeper.scenarios.random_story import as_scenario, draw
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.tests.scenarios.copies_stories import STORIES
from ringkeeper.tests.scenarios.planted_copies import FAULTS, RANDOM, Planted

pytestmark = pytest.mark.stories

SEEDS_MAX = 150


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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("planted", FAULTS.values(), ids=FAULTS)
def test_a_fault_planted_in_the_copies_is_found(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_good(planted.story, planted.seed), "the story is good without the fault"
    planted.plant(monkeypatch)
    for seed in (planted.seed, *(seed for seed in range(SEEDS_MAX) if seed != planted.seed)):
        played = told(planted.story, seed)
        broke = played.kind.startswith("SimulationFailed")
        assert not broke or "AssertionError" in played.kind, f"what is planted is broken itself: {played.failure}"
        if not played.good:
            return
    pytest.fail(f"{SEEDS_MAX} stories have not found it")
