"""The stage's verbs do what they say, and tell it; what lasts has an end; the same seed is the same story."""

from collections.abc import Iterator

import pytest
from ringkeeper.actors.rules.slots import slot
from ringkeeper.scenarios.checks import Violation, every_check
from ringkeeper.scenarios.real_stage import RealStage
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.scenarios.stage import IO_ERROR, NO_ROOM, Life, NotInTime, NotPossibleHere, RefusedByCluster, Stage

pytestmark = pytest.mark.stories

A, B, C = (f"127.0.0.1:{port}" for port in (7001, 7002, 7003))


@pytest.fixture
def stage() -> Iterator[SimulatedStage]:
    """Three nodes and two control services that serve."""
    with SimulatedStage(seed=5) as stage:
        stage.start(nodes=3, ecs=2)
        yield stage


def told(stage: Stage) -> list[str]:
    return [moment.sentence for moment in stage.timeline]


# A load


def test_a_load_records_every_operation_and_ends_when_it_is_stopped(stage: SimulatedStage) -> None:
    load = stage.load(clients=3, keys=10)
    stage.wait_for(100, load)
    load.stop()
    count = len(stage.history)
    assert load.completed == count == load.counts["ok"] >= 100
    assert all(operation.completed is not None for operation in stage.history)
    stage.let_pass(5.0)
    load.stop()
    assert len(stage.history) == count
    assert told(stage)[-1] == f"the load has ended: {load}"


def test_loads_of_a_story_share_its_keys_and_none_a_client(stage: SimulatedStage) -> None:
    for mix in ("set", "read and write"):
        stage.wait_for(40, stage.load(mix, clients=2, keys=5))
    stage.calm()
    assert {operation.client for operation in stage.history} == {f"client-{number}" for number in range(1, 5)}
    assert len(stage.history.by_key()) <= 5
    assert every_check(stage.history, stage.state(), tenures=stage.tenures) == []


def test_what_clients_are_told_when_something_is_not_done_is_kept(stage: SimulatedStage) -> None:
    load = stage.load(clients=3, keys=10)
    stage.kill(A)
    stage.wait_until(lambda: bool(load.errors), 30, "some operation fails")
    assert load.counts["not"] + load.counts["maybe"] >= 1
    assert load.errors[0].startswith("client-")


# Time


def test_what_does_not_come_to_be_ends_the_wait_and_is_named(stage: SimulatedStage) -> None:
    before = stage.now()
    with pytest.raises(NotInTime, match="pigs fly"):
        stage.wait_until(lambda: False, 3.0, "pigs fly")
    assert 3.0 <= stage.now() - before < 3.2


def test_a_wait_is_over_as_soon_as_its_condition_holds(stage: SimulatedStage) -> None:
    due = stage.now() + 0.5
    stage.wait_until(lambda: stage.now() >= due, 60, "half a second is over")
    assert stage.now() < due + 0.1


@pytest.mark.parametrize("phase", ["transfer", "switch", "seal"])
def test_a_phase_of_a_change_is_waited_for(stage: SimulatedStage, phase: str) -> None:
    stage.join()
    assert stage.wait_for_phase(phase)  # type: ignore[arg-type]
    assert stage.phase() == phase
    assert stage.seals() or phase != "seal"


def test_a_change_that_does_not_begin_is_not_waited_for_long(stage: SimulatedStage) -> None:
    assert not stage.wait_for_phase("seal", 2.0)


# Nodes


def test_nodes_come_and_go(stage: SimulatedStage) -> None:
    newcomers = stage.join(2)
    stage.wait_for_members(newcomers)
    assert len(stage.members()) == 5
    assert stage.wait_for_job(stage.leave(A)) == "done"
    assert A not in stage.members()
    stage.calm()
    assert sorted(stage.lives()) == list(stage.members())


def test_what_the_cluster_refuses_is_said_and_changes_nothing(stage: SimulatedStage) -> None:
    with pytest.raises(RefusedByCluster, match="127.0.0.1:9"):
        stage.leave("127.0.0.1:9")
    with pytest.raises(RefusedByCluster):
        stage.cancel(1234)
    assert stage.members() == (A, B, C)


def test_a_killed_node_stays_dead_until_it_is_restarted_or_all_is_calmed(stage: SimulatedStage) -> None:
    stage.kill(A)
    stage.kill(B)
    stage.wait_until(lambda: stage.members() == (C,), 30, "the deaths are noticed")
    stage.restart(A)
    stage.wait_until(lambda: stage.members() == (A, C), 30, "one is back")
    stage.calm()
    assert stage.members() == (A, B, C)
    assert f"{A} is killed" in told(stage)


def test_a_living_node_that_is_restarted_ends_in_order_first(stage: SimulatedStage) -> None:
    before = stage.lives()[A]
    stage.restart(A)
    stage.wait_until(lambda: A in stage.lives() and stage.lives()[A].incarnation != before.incarnation, 10, "it is new")
    stage.wait_until(stage.serves, 10, "all serve")


def test_a_paused_node_does_nothing_until_it_is_resumed(stage: SimulatedStage) -> None:
    stage.pause(A)
    epoch = stage.lives()[A].epoch
    stage.join()
    stage.let_pass(3.0)
    assert stage.lives()[A].epoch == epoch
    stage.calm()
    assert stage.lives()[A].epoch > epoch


def test_everything_may_be_killed_and_started_again(stage: SimulatedStage) -> None:
    stage.wait_for(50, stage.load(clients=2))
    stage.kill_everything()
    assert stage.lives() == {}
    stage.start_everything()
    stage.calm()
    assert every_check(stage.history, stage.state(), tenures=stage.tenures) == []


@pytest.mark.parametrize(("fsync", "cuts"), [("everysec", 1), ("always", 0)])
def test_all_machines_may_lose_power_and_what_that_may_cost_is_noted(fsync: str, cuts: int) -> None:
    with SimulatedStage(seed=2) as stage:
        stage.start(nodes=3, fsync=fsync, replicas=3)
        stage.wait_for(50, stage.load(clients=2))
        stage.cut_all_power()
        assert stage.lives() == {} and len(stage.power_cuts) == cuts
        stage.start_everything()
        stage.calm()
        assert every_check(stage.history, stage.state(), power_cuts=stage.power_cuts) == []


def test_what_successors_hold_is_in_the_state() -> None:
    with SimulatedStage(seed=2) as stage:
        stage.start(nodes=3, replicas=2)
        stage.wait_for(80, stage.load("set", clients=2, keys=20))
        stage.calm()
        state = stage.state()
        assert sum(len(node.records) for node in state.nodes) == 2 * len(state.values) > 0
        assert all(slot(key) in node.numbers for node in state.nodes for key in node.records)


def test_faults_end_when_it_is_calm(stage: SimulatedStage) -> None:
    stage.partition([A], [B, C])
    stage.partition([B], ["zookeeper"], one_way=True)
    stage.slow(C, 0.05)
    stage.zookeeper_away(3.0)
    stage.pause_ecs_leader(1000.0)
    stage.lose_session(A)
    stage.let_pass(8.0)
    stage.calm()
    assert stage.members() == (A, B, C) and not stage.why_not_steady()


def test_another_control_service_leads_when_the_leader_dies(stage: SimulatedStage) -> None:
    before = stage.cluster.leader()
    stage.kill_ecs_leader()
    stage.wait_until(lambda: stage.cluster.leader() not in (None, before), 30, "another leads")
    stage.wait_until(lambda: stage.cluster.process(str(before)).alive, 2, "the dead one is brought back")


def test_a_node_that_left_is_not_started_again(stage: SimulatedStage) -> None:
    stage.wait_for_job(stage.leave(B))
    stage.wait_until(lambda: B not in stage.lives(), 30, "it has ended")
    stage.start_everything()
    stage.calm()
    assert stage.members() == (A, C)


def test_who_died_while_it_was_leaving_ends_when_it_is_back_and_reads_that_it_has_left() -> None:
    with SimulatedStage(seed=5) as stage:
        stage.start(nodes=3, ecs=1, replicas=2)
        job = stage.leave(B)
        stage.wait_for_phase("transfer")
        stage.kill(B)
        stage.wait_for_job(job)
        assert stage.members() == (A, C)
        stage.restart(B)
        stage.wait_until(lambda: B not in stage.lives(), 30, "it has ended")
        stage.calm()
        assert stage.members() == (A, C)


def test_who_has_left_is_still_to_end_also_when_nobody_can_say_in_which_life_it_runs(
    stage: SimulatedStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.wait_for_job(stage.leave(B))
    stage.wait_until(stage.serves, 30, "the others obey the ring without it")
    lives = {**stage.lives(), B: Life("", 0)}
    monkeypatch.setattr(stage, "lives", lambda: lives)
    assert stage.why_not_steady() == f"{B} run and are no members"


def test_slots_move_slowly_until_it_is_calm(stage: SimulatedStage) -> None:
    stage.load(keys=10)
    stage.move_slowly(60.0)
    ring = stage.ring()
    assert ring is not None and 20_000 < ring.move_bytes_per_second < 30_000
    newcomers = stage.join()
    assert stage.wait_for_phase("transfer")
    stage.let_pass(8.0)
    assert stage.phase() == "transfer"
    stage.calm()
    assert newcomers[0] in stage.members() and stage.now() < 30.0
    assert every_check(stage.history, stage.state(), tenures=stage.tenures) == []


@pytest.mark.parametrize("failure", [IO_ERROR, NO_ROOM])
def test_who_fails_to_sync_is_made_equal_and_nothing_is_lost(failure: str) -> None:
    with SimulatedStage(seed=3) as stage:
        stage.start(nodes=3, replicas=3)
        load = stage.load(keys=10)
        stage.wait_for(50, load)
        before = stage.lives()[A]
        stage.fail_syncs(A, failure)
        stage.wait_for(50, load)
        stage.wait_until(lambda: A not in stage.members(), 10, f"{A} is down")
        stage.mend_syncs(A)
        stage.wait_for_members((A, B, C))
        assert stage.lives()[A].incarnation != before.incarnation
        stage.calm()
        assert every_check(stage.history, stage.state(), tenures=stage.tenures) == stage.unmet == []


@pytest.mark.parametrize("lies", [False, True])
def test_copies_that_are_found_to_differ_are_told_of_unless_a_disk_has_lied(lies: bool) -> None:
    with SimulatedStage(seed=3) as stage:
        stage.start(nodes=3, replicas=3)
        load = stage.load("set", keys=10)
        stage.wait_for(50, load)
        load.stop()
        stage.begin_verify()
        stage.let_pass(2.0)
        assert not stage.unmet
        stage.lie(A, "value")
        stage._lied = lies
        stage.begin_verify()
        stage.let_pass(2.0)
        assert [violation.check for violation in stage.unmet] == ["copies_equal"] * (not lies)


# The end


def test_what_a_scenario_expects_in_vain_is_told(stage: SimulatedStage) -> None:
    stage.expect(True, "the sky is blue")
    stage.expect(False, "the moon is cheese")
    assert stage.unmet == [Violation(check="expected", sentence="the moon is cheese")]
    assert told(stage)[-1] == "NOT AS EXPECTED: the moon is cheese"


def test_who_took_itself_for_the_coordinator_is_noted_for_every_ring(stage: SimulatedStage) -> None:
    stage.wait_for_members(stage.join())
    ring = stage.ring()
    assert ring is not None
    assert {tenure.epoch for tenure in stage.tenures} >= {1, ring.epoch}
    newest = [tenure for tenure in stage.tenures if tenure.epoch == ring.epoch]
    assert sum(run.size for tenure in newest for run in tenure.slots) == 16384


def test_a_cluster_that_does_not_become_steady_is_said_to_be_so() -> None:
    with SimulatedStage(seed=1) as stage:
        stage.start(nodes=2)
        stage.cluster.fill_disk(A)  # it cannot keep a ring, so it does not obey a new one
        stage.join()
        with pytest.raises(NotInTime, match="did not become steady"):
            stage.calm()


def test_the_same_seed_is_the_same_story() -> None:
    def trace(seed: int) -> str:
        with SimulatedStage(seed) as stage:
            stage.start(nodes=2)
            stage.wait_for(30, stage.load(clients=2))
            stage.kill(stage.random.choice(stage.members()))
            stage.calm()
            return stage.trace

    assert trace(1) == trace(1) != trace(2)


def test_what_cannot_be_done_with_processes_says_so_and_does_nothing() -> None:
    with RealStage(seed=1) as stage:
        with pytest.raises(NotPossibleHere, match="--simulate"):
            stage.partition([A], [B])
        with pytest.raises(NotPossibleHere, match="--simulate"):
            stage.cut_power(A)
        with pytest.raises(NotPossibleHere, match="--simulate"):
            stage.lie(A, "flip")
        with pytest.raises(NotPossibleHere, match="--simulate"):
            stage.fail_syncs(A)
        with pytest.raises(NotPossibleHere, match="--simulate"):
            stage.cut_all_power()
