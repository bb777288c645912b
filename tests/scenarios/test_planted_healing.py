"""The laboratory finds bugs in how the cluster heals: each fault of `planted_healing.py` makes a scenario fail that is
good without it.

The table says the first seed that found it; should that be another story one day, the next ones are tried.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringkeeper.scenarios import play as playing
from ringkeeper.scenarios.play import Played, load_scenario, play
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.tests.scenarios.planted_healing import FAULTS, Planted

pytestmark = pytest.mark.stories

SEEDS_MAX = 30


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What a planted fault makes the actors log is not worth reading."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def told(planted: Planted, seed: int) -> Played:
    path = Path(playing.__file__).parent / f"{planted.scenario}.py"
    return play(load_scenario(path), SimulatedStage(seed))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("planted", FAULTS.values(), ids=FAULTS)
def test_a_fault_planted_in_the_healing_is_found(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(planted, planted.seed).good, "the story is good without the fault"
    planted.plant(monkeypatch)
    for seed in (planted.seed, *(seed for seed in range(1, SEEDS_MAX) if seed != planted.seed)):
        played = told(planted, seed)
        broke = played.kind.startswith("SimulationFailed")
        assert not broke or "AssertionError" in played.kind, f"what is planted is broken itself: {played.failure}"
        if not played.good:
            return
    pytest.fail(f"{SEEDS_MAX} stories have not found it")
