"""Finds the seeds of stories that find planted faults: `python -m ringkeeper.tests.scenarios.find_seeds --seeds 40`.

To be run when stories are drawn otherwise than before, so that the tables of `planted.py` and `planted_copies.py` name
other seeds; in one pass, since most of the time goes into stories that are good without any fault. These are played
first, and told if they are not good: that is a bug, and no planted one. Then every fault is tried with the cheapest of
them first, up to a bound, so that what the tests play is short.

    --seeds N        those below N
    --first N        from this one on
    --story NAME     one of `copies_stories.py` or `moving_stories.py`, instead of random ones
    --fault NAME     only this one; may be given again
    --tries N        so many seeds a fault
"""

import argparse
import logging
from collections.abc import Callable, Mapping

import pytest
from ringkeeper.tests.scenarios import planted, planted_copies
from ringkeeper.tests.scenarios.planting import RANDOM, told

Plant = Callable[[pytest.MonkeyPatch], None]


def good_seeds(story: str, seeds: range) -> list[int]:
    """Those whose stories are good, the cheapest first."""
    seconds: dict[int, float] = {}
    for seed in seeds:
        played = told(story, seed)
        if played.good:
            seconds[seed] = played.wall_seconds
        else:
            why = played.failure.partition("\n")[0] or played.violations[0]
            print(f"seed {seed} of {story!r} is bad without any fault: {played.kind}: {why}", flush=True)
    print(f"{sum(seconds.values()) / max(1, len(seconds)):.1f} s a story", flush=True)
    return sorted(seconds, key=lambda seed: seconds[seed])


def first_that_finds(plant: Plant, story: str, seeds: list[int]) -> str:
    """The cheapest seed that finds a fault, in words."""
    for seed in seeds:
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            played = told(story, seed)
        if not played.good:
            return f"seed {seed} ({played.wall_seconds:.1f} s): {played.kind}"
    return f"not found by {len(seeds)} seeds"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--story", default=RANDOM)
    parser.add_argument("--fault", action="append")
    parser.add_argument("--tries", type=int, default=20)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    plants: Mapping[str, Plant] = {
        **{name: plant for name, (plant, story, _) in planted.FAULTS.items() if story == options.story},
        **{name: each.plant for name, each in planted_copies.FAULTS.items() if each.story == options.story},
        **(planted_copies.UNSEEN if options.fault else {}),
    }
    seeds = good_seeds(options.story, range(options.first, options.seeds))
    for name in options.fault or plants:
        plant = plants.get(name) or (planted.FAULTS.get(name) or planted_copies.FAULTS[name])[0]
        print(f"{name}: {first_that_finds(plant, options.story, seeds[: options.tries])}", flush=True)


if __name__ == "__main__":
    main()
