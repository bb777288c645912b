"""The laboratory finds bugs: each fault of `planted.py` makes a story fail that is good without it.

The table says which one finds it: a random story, or one of `moving_stories.py`. That one is tried here first. Should
stories be drawn otherwise one day, the next ones are tried, up to the bound; and `find_seeds.py` finds cheaper ones.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from ringkeeper.scenarios import play as playing
from ringkeeper.scenarios.play import load_scenario, play
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.tests.scenarios.planted import FAULTS, an_older_ring_is_obeyed
from ringkeeper.tests.scenarios.planting import is_good, must_find, told

pytestmark = [pytest.mark.stories, pytest.mark.usefixtures("quiet")]

SEEDS_MAX = 150
"""Every fault is found within so many seeds."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("plant", "story", "first"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], story: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_good(story, first), "the story is good without the fault"
    plant(monkeypatch)
    must_find(partial(told, story), first, range(SEEDS_MAX))


def test_a_node_that_obeys_an_older_ring_is_found_where_zookeeper_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No random story puts an old disk into ZooKeeper; a scenario does."""
    scenario = load_scenario(Path(playing.__file__).parent / "ring_is_rolled_back.py")
    an_older_ring_is_obeyed(monkeypatch)
    assert not play(scenario, SimulatedStage(1)).good
