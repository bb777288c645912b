"""The laboratory finds bugs in how the cluster heals: each fault of `planted_healing.py` makes a scenario fail that is
good without it.

The table says the first seed that found it; should that be another story one day, the next ones are tried.
"""

from functools import partial
from pathlib import Path

import pytest
from ringkeeper.scenarios import play as playing
from ringkeeper.scenarios.play import Played, load_scenario, play
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.tests.scenarios.planted_healing import FAULTS, Planted
from ringkeeper.tests.scenarios.planting import must_find

pytestmark = [pytest.mark.stories, pytest.mark.usefixtures("quiet")]

SEEDS_MAX = 30


def told(planted: Planted, seed: int) -> Played:
    path = Path(playing.__file__).parent / f"{planted.scenario}.py"
    return play(load_scenario(path), SimulatedStage(seed))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("planted", FAULTS.values(), ids=FAULTS)
def test_a_fault_planted_in_the_healing_is_found(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(planted, planted.seed).good, "the story is good without the fault"
    planted.plant(monkeypatch)
    must_find(partial(told, planted), planted.seed, range(1, SEEDS_MAX))
