"""How soon a cluster in the simulation finds out that a node is gone, and that it does so for nothing else."""

from collections.abc import Callable

import pytest
from ringkeeper.scenarios.simulated import SimulatedCluster

pytestmark = pytest.mark.stories

A, B, C = (f"127.0.0.1:{port}" for port in (7001, 7002, 7003))

Befall = Callable[[SimulatedCluster, str], object]


def steady(seed: int) -> SimulatedCluster:
    cluster = SimulatedCluster(seed=seed, nodes=3, ecs=2, replicas=3)
    cluster.run_until(cluster.serves, 10)
    cluster.run(5.0)
    return cluster


def state(cluster: SimulatedCluster, id: str) -> str:
    ring = cluster.ring()
    assert ring is not None
    return ring.by_id[id].state


def seconds_until(cluster: SimulatedCluster, id: str, wanted: str, seconds_max: float = 30.0) -> float:
    began = cluster.now
    cluster.run_until(lambda: state(cluster, id) == wanted, seconds_max)
    return cluster.now - began


@pytest.mark.parametrize(
    ("befall", "seconds_max"),
    [
        (SimulatedCluster.kill, 0.5),
        (SimulatedCluster.terminate, 0.5),
        (SimulatedCluster.cut_power, 2.0),
        (SimulatedCluster.pause, 2.0),
        (SimulatedCluster.isolate, 2.0),
    ],
)
def test_a_node_that_is_gone_is_down_long_before_its_session_ends(befall: Befall, seconds_max: float) -> None:
    for seed in range(3):
        with steady(seed) as cluster:
            befall(cluster, B)
            assert seconds_until(cluster, B, "down") < seconds_max
            assert state(cluster, A) == state(cluster, C) == "up"


@pytest.mark.parametrize("one_way", [False, True])
def test_of_two_that_do_not_hear_each_other_one_goes_and_comes_back_when_they_do(one_way: bool) -> None:
    with steady(seed=1) as cluster:
        cluster.partition(A, B, one_way=one_way)
        cluster.run_until(lambda: bool(downs(cluster)), 2.0)
        cluster.run(10.0)
        assert {state(cluster, A), state(cluster, B)} > {"up"} and state(cluster, C) == "up"
        cluster.heal()
        cluster.run_until(lambda: {state(cluster, id) for id in (A, B, C)} == {"up"}, 30.0)
        assert "has ended" not in str(downs(cluster))


def test_a_node_that_was_paused_takes_nobody_down_when_it_wakes_and_comes_back() -> None:
    with steady(seed=1) as cluster:
        cluster.pause(B)
        seconds_until(cluster, B, "down")
        cluster.run(20.0)
        cluster.resume(B)
        seconds_until(cluster, B, "up")
        ring = cluster.ring()
        assert ring is not None
        assert [write.what for write in ring.history if " down" in write.what] == [f"{B} down"]


def downs(cluster: SimulatedCluster) -> list[str]:
    ring = cluster.ring()
    assert ring is not None
    return [f"{write.what} ({write.why})" for write in ring.history if "down" in write.what]


def one_link_breaks_for_a_while(cluster: SimulatedCluster) -> None:
    cluster.world.network.reset(A, B)


def everybody_stalls(cluster: SimulatedCluster) -> None:
    for id in (A, B, C):
        cluster.pause(id)
        cluster.world.loop.call_later(3.0, cluster.resume, id)


def a_witness_stalls(cluster: SimulatedCluster) -> None:
    cluster.pause(A)
    cluster.world.loop.call_later(0.7, cluster.resume, A)


def zookeeper_goes_away(cluster: SimulatedCluster) -> None:
    cluster.zookeeper_away(8.0)


def one_is_slow(cluster: SimulatedCluster) -> None:
    cluster.slow(A, 0.02)


def the_leader_dies(cluster: SimulatedCluster) -> None:
    cluster.kill(str(cluster.leader()))


@pytest.mark.parametrize(
    "befall",
    [
        one_link_breaks_for_a_while, everybody_stalls, a_witness_stalls, zookeeper_goes_away, one_is_slow,
        the_leader_dies,
    ],
)  # fmt: skip
def test_what_is_not_the_end_of_a_node_takes_nobody_down(befall: Callable[[SimulatedCluster], object]) -> None:
    for seed in range(2):
        with steady(seed) as cluster:
            befall(cluster)
            cluster.run(20.0)
            assert downs(cluster) == []
