"""Plays the stories that planted faults are looked for with, and looks for them."""

from collections.abc import Callable, Iterable
from functools import cache

import pytest
from ringkeeper.scenarios.play import Played, play
from ringkeeper.scenarios.random_story import as_scenario, draw
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.tests.scenarios import copies_stories, moving_stories

RANDOM = "random"
"""The name of whatever story a seed draws."""

STORIES = {**copies_stories.STORIES, **moving_stories.STORIES}
assert len(STORIES) == len(copies_stories.STORIES) + len(moving_stories.STORIES), "two stories have one name"


def told(story: str, seed: int) -> Played:
    """A story, played."""
    return play(as_scenario(draw(seed)) if story == RANDOM else STORIES[story], SimulatedStage(seed))


@cache
def is_good(story: str, seed: int) -> bool:
    return told(story, seed).good


def must_find(tell: Callable[[int], Played], first: int, seeds: Iterable[int]) -> None:
    """Fail unless some seed's story shows what is planted; ``first`` is the one that did when this was written."""
    for seed in (first, *(seed for seed in seeds if seed != first)):
        played = tell(seed)
        broke = played.kind.startswith("SimulationFailed")
        assert not broke or "AssertionError" in played.kind, f"what is planted is broken itself: {played.failure}"
        if not played.good:
            return
    pytest.fail("no story has found it")
