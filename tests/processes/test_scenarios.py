"""Every scenario once on real processes, without a word of it changed, and what a stage of processes leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ringkeeper.runtime.children import ProcessId
from ringkeeper.scenarios.checks import every_check
from ringkeeper.scenarios.play import load_scenario, play
from ringkeeper.scenarios.real_stage import RealStage
from ringkeeper.tests.scenarios.test_scenarios import FOLDER, SCENARIOS
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


SEEDS = {
    "nodes_join_and_leave_under_load": 1,
    "joiner_dies": 6,
    "everything_restarts": 5,
    "coordinator_and_successor_die": 13,
    "node_dies_during_join": 5,
    "network_splits": 4,
    "zookeeper_session_lost": 6,
}
"""Stories that show as much as others, and wait for less; 2 where nothing is said."""


NOT_HERE = {
    "everything_loses_power",  # not this machine
    "disk_lies",  # which cannot be arranged from outside; test_damage.py has it lie otherwise
    "hot_slots_spread",  # clients do not know there who has answered
    "balance_interrupted",  # the simulation shows more of it
    "balances_by_itself",  # it takes minutes: the balancer is patient
    "one_is_back_beside_a_slow_change",  # seconds count in it, and machines that run tests are slow
    "disk_is_lost",  # everything in it is in other stories, or in the simulation
}


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in NOT_HERE])
def test_on_real_processes_all_is_as_it_must_be(name: str) -> None:
    played = play(load_scenario(FOLDER / f"{name}.py"), RealStage(SEEDS.get(name, 2)))
    if played.skipped:
        pytest.skip(played.skipped)
    told = "\n".join(f"{moment.at:.3f} {moment.sentence}" for moment in played.timeline)
    assert played.good, f"{played.failure or played.violations}\n{told}"
    assert played.operations > 20


def test_what_befalls_nodes_befalls_their_processes_and_ends_when_it_is_calm() -> None:
    with RealStage(1) as stage:
        stage.start(nodes=3, ecs=2)
        load = stage.load(clients=2, keys=10)
        one, other, third = stage.members()
        stage.pause(one)
        stage.slow(other, 0.02)
        stage.kill(third)
        stage.pause_ecs_leader(2.0)
        stage.wait_until(lambda: bool(load.errors), 30, "some operation fails")
        stage.calm()
        assert stage.members() == (one, other, third)
        assert every_check(stage.history, stage.state(), tenures=stage.tenures) == []


def test_a_stage_whose_program_is_killed_leaves_no_processes(tmp_path: Path) -> None:
    program = (
        "from ringkeeper.scenarios.real_stage import RealStage\n"
        "import time\n"
        "stage = RealStage(1)\n"
        "stage.start(nodes=1, ecs=2)\n"
        "print(*[p.pid for p in stage.local.processes()], *[s.pid for s in stage._standbys.values()], flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        started = [ProcessId.of(int(pid)) for pid in process.stdout.readline().split()]
        assert len(started) == 4 and all(each.lives() for each in started)
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(each.lives() for each in started), 30.0)
