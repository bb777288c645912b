"""A cluster in the simulation lives through what befalls clusters, and every run can be replayed exactly."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ringkeeper.scenarios.simulated import SimulatedCluster
from ringkeeper.scenarios.simulated_client import Outcome

A, B, C = (f"127.0.0.1:{port}" for port in (7001, 7002, 7003))


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Three nodes with a ring, and two control services."""
    with SimulatedCluster(seed=1, nodes=3, ecs=2) as cluster:
        cluster.run_until(cluster.serves, 10)
        yield cluster


def call(cluster: SimulatedCluster, *args: str) -> Outcome:
    """What becomes of an operation of a client that knows the cluster."""
    outcomes: list[Outcome] = []
    cluster.client().call(args, outcomes.append)
    cluster.run_until(lambda: bool(outcomes), 30)
    return outcomes[0]


def fill(cluster: SimulatedCluster, keys: int = 20) -> None:
    for number in range(keys):
        assert call(cluster, "SET", f"key{number}", f"value{number}").reply == b"OK"


def assert_filled(cluster: SimulatedCluster, keys: int = 20) -> None:
    for number in range(keys):
        assert call(cluster, "GET", f"key{number}").reply == f"value{number}".encode()


def test_a_ring_of_three_is_founded_and_serves(cluster: SimulatedCluster) -> None:
    ring = cluster.ring()
    assert ring is not None and ring.epoch == 1
    fill(cluster)
    assert_filled(cluster)
    replies = [str(cluster.execute(id, "SET", "k", "v")) for id in (A, B, C)]
    assert sorted(reply.split()[0] for reply in replies) == ["MOVED", "MOVED", "b'OK'"]


def test_a_node_that_is_killed_and_restarted_has_its_data(cluster: SimulatedCluster) -> None:
    fill(cluster)
    cluster.kill(B)
    cluster.run_until(lambda: not cluster.serves(), 10)
    cluster.restart(B)
    cluster.run_until(cluster.serves, 10)
    assert_filled(cluster)


def test_another_control_service_leads_when_the_leader_dies(cluster: SimulatedCluster) -> None:
    before = cluster.leader()
    assert before is not None
    cluster.kill(before)
    cluster.run_until(lambda: cluster.leader() not in (None, before), 10)
    cluster.kill(C)
    cluster.restart(C)
    cluster.run_until(cluster.serves, 20)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_same_seed_is_the_same_run_in_another_process(hash_seed: str) -> None:
    here = a_run_of(seed=3)
    program = f"from {__name__} import a_run_of; print(a_run_of(seed=3))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.split() == [here]


def test_another_seed_is_another_run() -> None:
    assert a_run_of(seed=3) == a_run_of(seed=3) != a_run_of(seed=4)


def a_run_of(seed: int) -> str:
    """The hash of a run in which much happens."""
    with SimulatedCluster(seed=seed, nodes=3, ecs=2) as cluster:
        cluster.run_until(cluster.serves, 10)
        fill(cluster, keys=5)
        cluster.kill(str(cluster.leader()))
        cluster.kill(A)
        cluster.run(8)
        cluster.restart(A)
        cluster.partition(B, "zookeeper")
        cluster.run(10)
        cluster.heal()
        cluster.run_until(cluster.serves, 20)
        return cluster.world.trace.digest()
