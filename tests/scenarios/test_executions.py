"""Executions in which the rules were once found to be needed: each is played by something, and here is by what.

They come from the reviews of the protocol; a store that forgets one of its rules loses something in one of them.
`EXECUTIONS` names for each what plays it: a test, a scenario, a story that finds planted faults, or one of the stories
here, which play what nothing else does.
"""

import importlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from ringkeeper import scenarios
from ringkeeper.scenarios.play import Scenario, play
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.scenarios.stage import RefusedByCluster, Stage
from ringkeeper.tests.scenarios.copies_stories import STORIES, all_back, gone

pytestmark = pytest.mark.stories

EXECUTIONS: dict[str, tuple[str, ...]] = {
    "both successors die under one ring write (R1)": (
        "actors.test_successors.test_enough_copies_are_asked_for_at_the_moment_of_the_acknowledgement",
        "coordinator_and_successor_die",
    ),
    "a third node flaps, then a double failure (R14)": ("a third node flaps and both others die",),
    "slots move over a down node (R14)": ("deleted_stays_deleted",),
    "two lists, one complete member (R15)": (
        "actors.rules.test_transitions."
        "test_the_first_complete_member_that_is_back_is_named_keeper_of_several_lists_by_one_write",
        "keepers follow each other",
    ),
    "two of five dead with two copies (R11)": ("two of five die and each list has two copies",),
    "in doubt, then a return (R9)": (
        "scenarios.test_takeovers.test_the_last_that_is_up_does_not_read_what_no_other_complete_one_holds",
        "scenarios.test_moments.test_a_successor_that_lags_behind_a_seal_gets_all_before_ready",
    ),
    "a power cut with a fourth node down (R4, R16)": ("power is cut while a fourth node is down",),
    "the loop hangs and not the thread; one node is cut off from ZooKeeper (R21)": (
        "scenarios.test_takeovers."
        "test_reads_go_on_somewhere_though_one_of_the_last_two_is_not_heard_and_its_session_lives",
        "one is asked that was deposed",
    ),
    "the one that takes over is killed (R18)": ("two_die_one_after_the_other", "copies differ and one dies"),
    "a delete after a takeover, then a takeover again (R18)": ("what takes over dies after a delete",),
    "a power cut right after a move (R10)": ("power is cut right after slots have moved",),
    "a mad reporter (R22)": ("actors.rules.test_suspicion.test_who_accuses_more_than_half_takes_nobody_down",),
    "ZooKeeper with an old disk (R23)": ("ring_is_rolled_back",),
    "a leave with a lagging successor": ("one leaves while a successor lags",),
    "a cancelled join, then a death": ("a join is cancelled and an old node dies",),
    "a quick restart within the session": ("one is back at once",),
    "an INCR while deposed (R6)": (
        "actors.test_successors.test_who_was_asked_for_its_tail_admits_nothing_of_the_deposed",
        "copies differ and one dies",
    ),
    "a late Ready of an aborted change (R9, R12)": ("a Ready comes when its change is over",),
}


def a_third_node_flaps_and_both_others_die(stage: Stage) -> None:
    """What the flapping node lacks counts for nothing: the list waits for one of the two."""
    stage.start(nodes=3, replicas=3)
    stage.load("mixed", clients=3, keys=20)
    flaps, *others = stage.members()
    for _ in range(2):
        stage.kill(flaps)
        gone(stage, flaps)
        stage.let_pass(0.5)
        stage.restart(flaps)
        stage.moment(1.0)
    stage.kill(flaps)
    gone(stage, flaps)
    stage.let_pass(0.5)
    for id in others:
        stage.kill(id)
    stage.restart(flaps)
    stage.let_pass(3.0)
    all_back(stage)


def two_of_five_die_and_each_list_has_two_copies(stage: Stage) -> None:
    """Neighbours: a list without anybody pins its members, and the others go on."""
    stage.start(nodes=5, replicas=2)
    stage.load("mixed", clients=3, keys=40)
    ring = stage.ring()
    assert ring is not None
    first, second = (node.id for node in ring.circle[:2])
    stage.let_pass(0.5)
    stage.kill(first)
    stage.kill(second)
    gone(stage, first)
    stage.let_pass(1.0)
    with suppress(RefusedByCluster):
        stage.leave(ring.circle[2].id)
    stage.restart(second)
    stage.let_pass(3.0)
    all_back(stage)


def power_is_cut_while_a_fourth_node_is_down(stage: Stage) -> None:
    """Who was down has old numbers and no say in who lacks least."""
    stage.start(nodes=4, replicas=3)
    stage.load("mixed", clients=3, keys=40)
    stage.let_pass(0.5)
    down = stage.random.choice(stage.members())
    stage.kill(down)
    gone(stage, down)
    stage.let_pass(2.0)
    stage.cut_all_power()
    stage.let_pass(0.5)
    stage.start_everything()
    stage.wait_until(stage.serves, 90.0, "the cluster serves again")


def what_takes_over_dies_after_a_delete(stage: Stage) -> None:
    """What a takeover has brought was deleted since, and the next takeover brings it no more."""
    stage.start(nodes=4, replicas=4)
    stage.load("delete", clients=4, keys=8)
    ring = stage.ring()
    assert ring is not None
    first, second, third, _ = (node.id for node in ring.circle)
    stage.let_pass(0.5)
    stage.partition([first], [second], one_way=True)
    stage.let_pass(0.3)
    stage.kill(first)
    stage.heal()
    gone(stage, first)
    stage.let_pass(1.5)
    stage.partition([second], [third], one_way=True)
    stage.let_pass(0.3)
    stage.kill(second)
    stage.heal()
    gone(stage, second)
    stage.let_pass(1.5)
    all_back(stage)


def power_is_cut_right_after_slots_have_moved(stage: Stage) -> None:
    """Whoever gets slots has them on its disk before they are its own, whatever ``fsync`` is."""
    stage.start(nodes=2, fsync="everysec")
    load = stage.load("mixed", clients=3, keys=60)
    stage.let_pass(1.0)
    load.stop()
    stage.let_pass(1.5)
    (newcomer,) = stage.join()
    stage.wait_for_members((newcomer,))
    stage.cut_all_power()
    stage.let_pass(0.5)
    stage.start_everything()
    stage.wait_until(stage.serves, 90.0, "the cluster serves again")


def one_leaves_while_a_successor_lags(stage: Stage) -> None:
    """Its slots are given away when the slowest of their members holds all of them."""
    stage.start(nodes=4, replicas=3)
    stage.load("mixed", clients=4, keys=20)
    leaves, lags = stage.random.sample(stage.members(), 2)
    for id in stage.members():
        if id != lags:
            stage.delay(id, lags, 0.3)
    stage.wait_for_job(stage.leave(leaves))
    stage.let_pass(0.5)


def a_join_is_cancelled_and_an_old_node_dies(stage: Stage) -> None:
    """What the node that did not join holds by then counts for nothing."""
    stage.start(nodes=3, replicas=2)
    stage.load("mixed", clients=3, keys=20)
    (newcomer,) = stage.join()
    if stage.wait_for_phase(stage.random.choice(("switch", "seal"))):
        ring = stage.ring()
        if ring is not None and ring.change is not None:
            with suppress(RefusedByCluster):  # it has ended meanwhile
                stage.cancel(ring.change.wish.job)
    dies = stage.random.choice([id for id in stage.members() if id != newcomer])
    stage.kill(dies)
    gone(stage, dies)
    stage.let_pass(1.0)
    stage.restart(dies)
    stage.kill(newcomer)
    stage.let_pass(0.5)


def a_ready_comes_when_its_change_is_over(stage: Stage) -> None:
    """What a node says of a change is late, and counts neither for the next change nor for the same one sealed anew."""
    stage.start(nodes=3, replicas=2)
    stage.load("mixed", clients=3, keys=20)
    assert isinstance(stage, SimulatedStage)
    faults = stage.cluster.node(stage.members()[0]).bridge.faults
    (newcomer,) = stage.join()
    stage.wait_for_phase("seal")
    held = faults.hold("ChangeReported")
    stage.let_pass(0.3)
    other = stage.members()[1]
    stage.kill(other)
    gone(stage, other)
    stage.restart(other)
    stage.wait_for_phase("switch")
    faults.release(held)
    stage.wait_for_members((newcomer, other))


PLAYED: dict[str, Callable[[Stage], None]] = {
    story.__name__.replace("_", " ").replace("ready", "Ready"): story
    for story in (
        a_third_node_flaps_and_both_others_die,
        two_of_five_die_and_each_list_has_two_copies,
        power_is_cut_while_a_fourth_node_is_down,
        what_takes_over_dies_after_a_delete,
        power_is_cut_right_after_slots_have_moved,
        one_leaves_while_a_successor_lags,
        a_join_is_cancelled_and_an_old_node_dies,
        a_ready_comes_when_its_change_is_over,
    )
}
"""Stories of this file, by name."""


@pytest.mark.parametrize("name", PLAYED)
def test_an_execution_of_the_reviews_ends_as_it_must(name: str) -> None:
    story = PLAYED[name]
    played = play(Scenario(name, lambda stage: None, story, lambda stage: None), SimulatedStage(1))
    assert played.good, f"{played.failure or played.violations}"


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_execution_is_played_by_something_that_is_there(execution: str) -> None:
    for name in EXECUTIONS[execution]:
        module, _, test = name.rpartition(".")
        if module:
            assert callable(getattr(importlib.import_module(f"ringkeeper.tests.{module}"), test))
        elif "_" in name:
            assert callable(importlib.import_module(f"{scenarios.__name__}.{name}").story)
        else:
            assert name in STORIES or name in PLAYED


def test_every_story_here_is_in_the_table() -> None:
    assert set(PLAYED) <= {name for names in EXECUTIONS.values() for name in names}
