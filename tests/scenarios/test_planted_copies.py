"""The laboratory finds bugs in what keeps copies equal: each fault of `planted_copies.py` makes a story fail that is
good without it.

The table says which story found it, and the first seed of those that were tried: a random one, or where such stories
meet the moment too seldom, one of `copies_stories.py` that goes for it. Should the same seed be another story one day,
the next ones are tried. What shows between two messages only is found by a test of these.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from typing import Any

import pytest
from ringkeeper.tests.actors import test_member
from ringkeeper.tests.actors.pair import Pair
from ringkeeper.tests.actors.test_replica import FIRST, Copy
from ringkeeper.tests.actors.trio import Trio
from ringkeeper.tests.scenarios.planted_copies import FAULTS, Planted
from ringkeeper.tests.scenarios.planting import is_good, must_find, told

pytestmark = [pytest.mark.stories, pytest.mark.usefixtures("quiet")]

SEEDS_MAX = 150

TOLD = {name: planted for name, planted in FAULTS.items() if isinstance(planted.story, str)}
TESTED = {name: planted for name, planted in FAULTS.items() if not isinstance(planted.story, str)}


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
                case "pair":
                    made[name] = Pair()
                    made[name].read()
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
    must_find(partial(told, planted.story), planted.seed, range(SEEDS_MAX))
