"""Stories that go for changes of a ring with one copy of each slot: slots move over long lines while all is written.

As `copies_stories.py` does for copies: each is made of the moments in which a mistake there shows, and short.
"""

from collections.abc import Mapping
from contextlib import suppress

from ringkeeper.scenarios.play import Scenario
from ringkeeper.scenarios.stage import RefusedByCluster, Stage


def two_nodes(stage: Stage) -> None:
    stage.start(nodes=2, ecs=2)


def far(stage: Stage, id: str, seconds: float) -> None:
    """What a node says to others, and they to it, takes so much longer."""
    for other in stage.members():
        if other != id:
            stage.delay(id, other, seconds)
            stage.delay(other, id, seconds)


def one_comes_over_a_long_line_and_goes(stage: Stage) -> None:
    """A node far away joins, under a load that counts, and leaves again at once: its slots come back. One of those who
    were there before hears late of all that."""
    stage.load("incr", clients=4, keys=50, operations_per_second=30.0)
    stage.load("mixed", clients=3, operations_per_second=30.0)
    stage.let_pass(stage.random.uniform(0.2, 0.5))
    late = stage.random.choice(stage.members())
    stage.delay("zookeeper", late, stage.random.choice((0.1, 0.3)))
    (newcomer,) = stage.join()
    far(stage, newcomer, 0.15)
    stage.wait_for_members((newcomer,), 30.0)
    stage.let_pass(0.4)
    far(stage, newcomer, 0.0)
    stage.delay("zookeeper", late, 0.0)
    stage.wait_for_job(stage.leave(newcomer), 30.0)
    stage.let_pass(1.5)


def one_comes_and_others_hear_late_of_it(stage: Stage) -> None:
    """Whoever had the slots hears late that they are another's; who writes knows it at once, and who reads asks on."""
    stage.load("set", clients=1, keys=20, operations_per_second=20.0)
    stage.load("get", clients=3, operations_per_second=60.0)
    for id in stage.members():
        stage.delay("zookeeper", id, 0.6)
    (newcomer,) = stage.join()
    stage.wait_for_members((newcomer,), 30.0)
    stage.load("set", clients=3, operations_per_second=40.0)
    stage.let_pass(1.0)


def sessions_are_lost_and_one_comes(stage: Stage) -> None:
    """Every node has lost its session once before the ring changes; all of them read it."""
    stage.load("mixed", clients=2, keys=10, operations_per_second=20.0)
    for id in stage.members():
        stage.lose_session(id)
    stage.let_pass(stage.random.uniform(1.0, 2.0))
    stage.wait_until(lambda: stage.serves(), 20.0, "all are registered again")
    stage.join()
    stage.wait_until(lambda: len(stage.members()) == 3 and stage.serves(), 20.0, "all have read the ring of three")


def one_dies_while_slots_move(stage: Stage) -> None:
    """Who gives slots, or gets them, dies in some phase of that, over a long line, and is back soon."""
    stage.load("mixed", clients=4, keys=20, operations_per_second=30.0)
    for _ in range(2):
        members = stage.members()
        (newcomer,) = stage.join()
        far(stage, newcomer, stage.random.choice((0.05, 0.15)))
        stage.wait_for_phase(stage.random.choice(("switch", "seal", "seal")))
        stage.let_pass(stage.random.choice((0.0, 0.05, 0.2)))
        dies = stage.random.choice((newcomer, *members))
        stage.kill(dies)
        stage.let_pass(stage.random.uniform(0.5, 2.0))
        stage.restart(dies)
        stage.wait_for_members((*members, newcomer), 60.0)
        with suppress(RefusedByCluster):
            stage.wait_for_job(stage.leave(newcomer), 30.0)


def leaders_take_turns(stage: Stage) -> None:
    """A control service is paused in the midst of a change, another one goes on, and then both believe to lead."""
    stage.load("mixed", clients=3, keys=20, operations_per_second=30.0)
    for _ in range(2):
        (newcomer,) = stage.join()
        far(stage, newcomer, 0.1)
        stage.wait_for_phase(stage.random.choice(("transfer", "switch", "seal")))
        stage.pause_ecs_leader(stage.random.uniform(6.5, 8.0))
        stage.let_pass(stage.random.uniform(7.0, 9.0))
        stage.wait_for_members((newcomer,), 60.0)
        with suppress(RefusedByCluster):
            stage.wait_for_job(stage.leave(newcomer), 30.0)


STORIES: Mapping[str, Scenario] = {
    story.__name__.replace("_", " "): Scenario(
        story.__name__, two_nodes, story, lambda stage: None, story.__doc__ or ""
    )
    for story in (
        one_comes_over_a_long_line_and_goes,
        one_comes_and_others_hear_late_of_it,
        sessions_are_lost_and_one_comes,
        one_dies_while_slots_move,
        leaders_take_turns,
    )
}
"""By name."""
