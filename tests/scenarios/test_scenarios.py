"""Every scenario in the simulation with some seeds; and what becomes of a run that is not as it must be."""

from pathlib import Path

import pytest
from ringkeeper.actors import storage_node
from ringkeeper.scenarios import play as playing
from ringkeeper.scenarios.history import History
from ringkeeper.scenarios.play import NotAScenario, Scenario, load_scenario, play
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.scenarios.stage import NotPossibleHere, Stage

pytestmark = pytest.mark.stories

FOLDER = Path(playing.__file__).parent
SCENARIOS = (
    "node_joins",
    "node_leaves",
    "nodes_join_and_leave_under_load",
    "joiner_dies",
    "ecs_leader_dies",
    "zookeeper_goes_away",
    "everything_restarts",
    "node_dies",
    "coordinator_and_successor_die",
    "node_dies_during_join",
    "node_pauses_and_wakes",
    "network_splits",
    "zookeeper_session_lost",
    "everything_loses_power",
    "ring_is_rolled_back",
    "node_is_given_up",
    "node_is_replaced",
    "node_comes_back",
    "two_die_one_after_the_other",
    "one_is_back_beside_a_slow_change",
    "deleted_stays_deleted",
    "rolling_upgrade",
    "disk_is_lost",
    "disk_is_full",
    "disk_lies",
    "ring_is_balanced",
    "hot_slots_spread",
    "balance_interrupted",
    "balances_by_itself",
)


LONG = {"balances_by_itself"}
"""Stories of so many minutes that one seed has to do."""


@pytest.mark.parametrize(
    ("name", "seed"), [(name, seed) for name in SCENARIOS for seed in (1, 2) if seed == 1 or name not in LONG]
)
def test_in_the_simulation_all_is_as_it_must_be(name: str, seed: int) -> None:
    played = play(load_scenario(FOLDER / f"{name}.py"), SimulatedStage(seed))
    assert played.good, f"{played.failure or played.violations}"
    assert played.operations > 20 and played.trace and played.messages > 100


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_short_and_says_what_it_is_about_and_how_to_play_it(name: str) -> None:
    path = FOLDER / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 100
    about = load_scenario(path).about
    assert f"ringkeeper run scenarios/{name}.py --simulate" in about
    assert "Expected" in about


def test_walks_that_wait_for_their_turn_make_the_same_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_node, "WALKS_MAX", 1)
    assert play(load_scenario(FOLDER / "node_leaves.py"), SimulatedStage(4)).good


def test_two_runs_of_a_seed_are_one_and_the_same() -> None:
    scenario = load_scenario(FOLDER / "node_joins.py")
    one, other = (play(scenario, SimulatedStage(7)) for _ in range(2))
    assert (one.trace, one.history, one.timeline) == (other.trace, other.history, other.timeline)
    assert play(scenario, SimulatedStage(8)).trace != one.trace


def test_the_trace_is_the_same_whether_invariants_are_checked_or_not() -> None:
    scenario = load_scenario(FOLDER / "node_leaves.py")
    assert play(scenario, SimulatedStage(3)).trace == play(scenario, SimulatedStage(3, check=False)).trace


# What goes wrong


def nothing(stage: Stage) -> None:
    pass


def start(stage: Stage) -> None:
    stage.start(nodes=2)


def test_what_a_check_finds_makes_a_run_fail() -> None:
    def forgets(stage: Stage) -> None:
        stage.wait_for(20, stage.load("set", clients=1, keys=4))
        stage.history = History()  # the nodes now hold what nobody wrote

    played = play(Scenario("forgetful", start, forgets, nothing), SimulatedStage(1))
    assert not played.good and not played.failure
    assert played.kind == "no_value_never_written" == played.violations[0].check


def test_what_the_scenario_expects_makes_a_run_fail() -> None:
    def check(stage: Stage) -> None:
        stage.expect(len(stage.members()) == 3, "there are three members")

    played = play(Scenario("hopeful", start, nothing, check), SimulatedStage(1))
    assert (played.good, played.kind) == (False, "expected")
    assert [str(violation) for violation in played.violations] == ["there are three members"]


@pytest.mark.parametrize("part", ["setup", "story", "check"])
def test_an_exception_anywhere_breaks_a_run_off(part: str) -> None:
    def breaks(stage: Stage) -> None:
        raise RuntimeError("the author has stumbled")

    parts = {"setup": start, "story": nothing, "check": nothing, part: breaks}
    scenario = Scenario("clumsy", parts["setup"], parts["story"], parts["check"])
    played = play(scenario, SimulatedStage(1))
    assert (played.good, played.kind, played.failure) == (
        False,
        "RuntimeError",
        "RuntimeError: the author has stumbled",
    )


def test_a_broken_invariant_of_an_actor_breaks_a_run_off_and_failures_of_a_kind_are_told_alike() -> None:
    def breaks(stage: Stage) -> None:
        assert isinstance(stage, SimulatedStage)
        id = stage.random.choice(stage.members())
        storage = stage.cluster.node(id).actor("storage")
        storage._parked_bytes = 1
        stage.wait_for(20, stage.load(clients=1))

    one, other = (play(Scenario("meddling", start, breaks, nothing), SimulatedStage(seed)) for seed in (1, 2))
    assert "does not hold its invariants" in one.failure and "seed 1" in one.failure
    assert one.kind == other.kind


def test_what_a_world_cannot_do_skips_the_scenario() -> None:
    def impossible(stage: Stage) -> None:
        raise NotPossibleHere("water does not flow uphill")

    played = play(Scenario("dreamy", start, impossible, nothing), SimulatedStage(1))
    assert (played.good, played.skipped, played.failure) == (False, "water does not flow uphill", "")


# Files


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "does not exist"),
        ("'''Nothing.'''", "no setup.stage. and no story.stage. and no check.stage."),
        ("def setup(stage): ...\ncheck = story = 3", "no story.stage. and no check.stage."),
        ("import nowhere.to_be_found", "cannot be imported: ModuleNotFoundError"),
        ("def setup(stage:", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_is_no_scenario_says_why(text: str | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "tale.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NotAScenario, match=why):
        load_scenario(path)


def test_neither_a_folder_nor_another_file_is_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "tale.txt").write_text("once upon a time")
    for path in (tmp_path, tmp_path / "tale.txt"):
        with pytest.raises(NotAScenario):
            load_scenario(path)


def test_a_scenario_of_ones_own_is_played_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "'''Mine.'''\ndef setup(stage): stage.start(nodes=1)\ndef story(stage): stage.wait_for(5, stage.load())\n"
        "def check(stage): stage.expect(len(stage.members()) == 1, 'one')\n"
    )
    scenario = load_scenario(path)
    assert (scenario.name, scenario.about) == ("own", "Mine.")
    assert play(scenario, SimulatedStage(1)).good
