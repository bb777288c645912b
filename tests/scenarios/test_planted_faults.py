"""The laboratory finds bugs: each fault of `planted.py` makes a story fail that is good without it.

The table says which one finds it: a random story, or one of `moving_stories.py`. That one is tried here first. Should
stories be drawn otherwise one day, the next ones are tried, up to the bound; and `find_seeds.py` finds cheaper ones.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from ringkeeper.scenarios import play as playing
from ringkeeper.scenarios.play import Played, load_scenario, play
from ringkeeper.scenarios.random_story import as_scenario, draw
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.tests.scenarios.moving_stories import STORIES
from ringkeeper.tests.scenarios.planted import FAULTS, RANDOM, an_older_ring_is_obeyed

pytestmark = pytest.mark.stories

SEEDS_MAX = 150
"""Every fault is found within so many seeds."""


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
@pytest.mark.parametrize(("plant", "story", "first"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], story: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_good(story, first), "the story is good without the fault"
    plant(monkeypatch)
    for seed in (first, *(seed for seed in range(SEEDS_MAX) if seed != first)):
        if not told(story, seed).good:
            return
    pytest.fail(f"{SEEDS_MAX} stories have not found it")


def test_a_node_that_obeys_an_older_ring_is_found_where_zookeeper_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No random story puts an old disk into ZooKeeper; a scenario does."""
    scenario = load_scenario(Path(playing.__file__).parent / "ring_is_rolled_back.py")
    an_older_ring_is_obeyed(monkeypatch)
    assert not play(scenario, SimulatedStage(1)).good
