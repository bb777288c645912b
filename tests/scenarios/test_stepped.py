"""Stories that are played step by step: the same as in one go, and the same again after going back."""

from collections.abc import Callable
from functools import partial

import pytest
from ringkeeper.scenarios.play import Scenario
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.scenarios.stage import Stage
from ringkeeper.scenarios.stepped import QUIET, SteppedStory, StoryFailed


def story(stage: Stage) -> None:
    load = stage.load(clients=2, keys=5)
    stage.wait_for(20, load)
    victim = stage.random.choice(stage.members())
    stage.kill(victim)
    stage.wait_until(lambda: victim not in stage.members(), 10, "it is noticed")
    stage.moment(1.0)
    stage.restart(victim)
    stage.wait_for_members([victim])
    load.stop()


DIES = Scenario("dies", QUIET.setup, story, lambda stage: None)


@pytest.mark.parametrize(
    "go_on", [lambda stepped: stepped.let_pass(0.037), lambda stepped: stepped.step(17)], ids=["spans", "messages"]
)
def test_a_story_in_pieces_is_the_story_in_one_go(go_on: Callable[[SteppedStory], None]) -> None:
    with SimulatedStage(3) as whole:
        DIES.setup(whole)
        DIES.story(whole)
    with SteppedStory(DIES, 3) as stepped:
        while not stepped.over:
            go_on(stepped)
        assert stepped.over == "the story has ended"
        assert stepped.stage.timeline == whole.timeline
        assert list(stepped.stage.history) == list(whole.history)


def put(stage: SimulatedStage, number: int) -> None:
    stage.cluster.execute("127.0.0.1:7001", "SET", "k", number)


def test_going_back_is_the_same_doings_again() -> None:
    with SteppedStory(DIES, 5) as stepped:
        traces = []
        for number in range(4):
            stepped.let_pass(0.4)
            stepped.do(partial(put, number=number))
            traces.append((stepped.now, stepped.stage.trace))
        for moment, trace in reversed(traces):
            stepped.back(moment)
            assert (stepped.now, stepped.stage.trace) == (moment, trace)
        stepped.fork(6)
        stepped.let_pass(0.4)
        assert stepped.stage.trace not in dict(traces).values()


def test_a_story_that_fails_says_so_and_its_world_goes_on() -> None:
    def fails(stage: Stage) -> None:
        stage.wait_until(lambda: False, 1.0, "pigs fly")

    with SteppedStory(Scenario("fails", QUIET.setup, fails, fails), 1) as stepped:
        stepped.let_pass(2.0)
        assert stepped.over == "the story has failed: in 1 s it did not come to be that pigs fly"
        stepped.let_pass(1.0)
        assert stepped.do(lambda stage: stage.cluster.execute("127.0.0.1:7001", "PING")) in (b"PONG", "PONG")
    with pytest.raises(StoryFailed, match="fails cannot be set up: no cluster was started on this stage yet"):
        SteppedStory(Scenario("fails", fails, fails, fails), 1)
