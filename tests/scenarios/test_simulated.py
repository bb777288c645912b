"""A cluster in the simulation lives through what befalls clusters, and every run can be replayed exactly."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from ringkeeper.actors.rules.slots import slot
from ringkeeper.runtime.simulation.resp_caller import ErrorReply, NoReply
from ringkeeper.runtime.simulation.world import SimulationFailed
from ringkeeper.runtime.store import StoreError
from ringkeeper.scenarios.simulated import SimulatedCluster
from ringkeeper.scenarios.simulated_client import Outcome

pytestmark = pytest.mark.stories

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


def test_what_a_dead_node_alone_holds_is_given_up_when_a_person_says_so_and_not_before(
    cluster: SimulatedCluster,
) -> None:
    fill(cluster)
    held = [number for number in range(20) if cluster.node(B).store.get(slot(b"key%d" % number), b"key%d" % number)]
    refused = str(cluster.execute(A, "RING", "REMOVE", B, "ACCEPTLOSS"))
    assert f"{B} is up, and can hand over what it holds" in refused
    cluster.lose_disk(B)
    cluster.run_until(lambda: state(cluster, B) == "down", 10)
    refused = str(cluster.execute(A, "RING", "REMOVE", B))
    assert f"{B} is down, and holds the only copy of 5461 slots" in refused
    cluster.start_node(B)  # with an empty disk
    cluster.run(3.0)
    assert state(cluster, B) == "down" and "--accept-loss" in str(cluster.execute(A, "RING", "STATUS"))
    assert b'"job"' in cluster.execute(A, "RING", "REMOVE", B, "ACCEPTLOSS")
    ring = cluster.ring()
    assert ring is not None and state(cluster, B) == "out" and "LOSS ACCEPTED" in ring.history[-1].what
    cluster.run_until(lambda: state(cluster, B) == "up" and cluster.serves(), 30)  # it joins as an empty one
    for number in range(20):
        assert call(cluster, "GET", f"key{number}").reply == (None if number in held else f"value{number}".encode())
    fill(cluster)
    assert_filled(cluster)


def state(cluster: SimulatedCluster, id: str) -> str:
    ring = cluster.ring()
    assert ring is not None
    return ring.by_id[id].state


def test_another_control_service_leads_when_the_leader_dies(cluster: SimulatedCluster) -> None:
    before = cluster.leader()
    assert before is not None
    cluster.kill(before)
    cluster.run_until(lambda: cluster.leader() not in (None, before), 10)
    cluster.kill(C)
    cluster.restart(C)
    cluster.run_until(cluster.serves, 20)


def test_a_node_that_ends_in_order_leaves_a_store_that_need_not_be_counted(cluster: SimulatedCluster) -> None:
    fill(cluster)
    for id, closed_cleanly in ((A, True), (B, False)):
        (cluster.terminate if closed_cleanly else cluster.kill)(id)
        cluster.run(10)
        assert not cluster.process(id).alive
        cluster.restart(id)
        assert cluster.node(id).store.closed_cleanly is closed_cleanly
        cluster.run_until(cluster.serves, 20)
    assert_filled(cluster)


def test_a_control_service_that_ends_in_order_makes_room_at_once(cluster: SimulatedCluster) -> None:
    before = str(cluster.leader())
    cluster.terminate(before)
    cluster.run_until(lambda: cluster.leader() not in (None, before), 1.0)


Befall = Callable[[SimulatedCluster], object]


def then(begin: Befall, end: Befall, seconds: float = 15.0) -> Befall:
    """Something begins, and so much later it ends."""

    def happen(cluster: SimulatedCluster) -> None:
        begin(cluster)
        cluster.run(seconds)
        end(cluster)

    return happen


def all_nodes(befall: Callable[[SimulatedCluster, str], object]) -> Befall:
    """What befalls one node befalls all of them at once."""
    return lambda cluster: [befall(cluster, id) for id in (A, B, C)]


BEFALLINGS: dict[str, Befall] = {
    "killed": then(lambda cluster: cluster.kill(B), lambda cluster: cluster.restart(B)),
    "without power": then(lambda cluster: cluster.cut_power(B), lambda cluster: cluster.restart(B)),
    "all without power": then(all_nodes(SimulatedCluster.cut_power), all_nodes(SimulatedCluster.restart)),
    "cut off from all": then(lambda cluster: cluster.isolate(B), SimulatedCluster.heal),
    "cut off from ZooKeeper": then(lambda cluster: cluster.partition(B, "zookeeper"), SimulatedCluster.heal),
    "not heard by ZooKeeper": then(
        lambda cluster: cluster.partition(B, "zookeeper", one_way=True), SimulatedCluster.heal
    ),
    "does not hear ZooKeeper": then(
        lambda cluster: cluster.partition("zookeeper", B, one_way=True), SimulatedCluster.heal
    ),
    "nodes cut off from each other": then(lambda cluster: cluster.partition(A, (B, C)), SimulatedCluster.heal),
    "paused": then(lambda cluster: cluster.pause(B), lambda cluster: cluster.resume(B)),
    "slow": lambda cluster: cluster.slow(B, 0.05),
    "clock is fast": lambda cluster: cluster.drift(B, 1.05),
    "session suspended": lambda cluster: cluster.suspend_session(B),
    "session lost": lambda cluster: cluster.lose_session(B),
    "leader's session lost": lambda cluster: cluster.lose_session(str(cluster.leader())),
    "disk slow": lambda cluster: cluster.slow_disk(B, 0.5),
    "ZooKeeper away": lambda cluster: cluster.zookeeper_away(20.0),
    "ZooKeeper without power": then(
        lambda cluster: cluster.cut_power("zookeeper"), lambda cluster: cluster.restart("zookeeper")
    ),
    "ZooKeeper paused": then(lambda cluster: cluster.pause("zookeeper"), lambda cluster: cluster.resume("zookeeper")),
    "ZooKeeper slow": lambda cluster: cluster.slow("zookeeper", 0.1),
}


@pytest.mark.parametrize("name", BEFALLINGS)
def test_a_cluster_serves_again_with_all_its_data_after(name: str, cluster: SimulatedCluster) -> None:
    fill(cluster)
    cluster.run(2)  # by then it is synced
    BEFALLINGS[name](cluster)
    cluster.run(10)
    cluster.run_until(cluster.serves, 60)
    assert_filled(cluster)


def test_an_acknowledged_write_survives_a_power_cut_if_it_was_synced() -> None:
    for seed in range(10):
        with SimulatedCluster(seed=seed, nodes=1, fsync="always") as cluster:
            cluster.run_until(cluster.serves, 10)
            fill(cluster, keys=5)
            cluster.cut_power(A)
            cluster.restart(A)
            cluster.run_until(cluster.serves, 20)
            assert_filled(cluster, keys=5)


def test_a_write_that_was_not_synced_may_be_lost_in_a_power_cut() -> None:
    lost = set()
    for seed in range(10):
        with SimulatedCluster(seed=seed, nodes=1, fsync="never") as cluster:
            cluster.run_until(cluster.serves, 10)
            fill(cluster, keys=1)
            cluster.cut_power(A)
            cluster.restart(A)
            cluster.run_until(cluster.serves, 20)
            lost.add(call(cluster, "GET", "key0").reply is None)
    assert lost == {True, False}


def test_a_full_disk_refuses_writes_until_there_is_room(cluster: SimulatedCluster) -> None:
    fill(cluster)
    for id in (A, B, C):
        cluster.fill_disk(id)
    refused = call(cluster, "SET", "key0", "other")
    assert refused.happened == "no" and str(refused.reply).startswith("MISCONF")
    for id in (A, B, C):
        cluster.fill_disk(id, full=False)
    assert_filled(cluster)
    fill(cluster)


@pytest.mark.parametrize("noted", [False, True])
def test_what_a_disk_failed_to_sync_is_gone_with_the_life_that_wrote_it_once_that_is_noted(noted: bool) -> None:
    with SimulatedCluster(seed=1, nodes=1) as cluster:
        cluster.run_until(cluster.serves, 10)
        fill(cluster)
        cluster.run(2.0)
        cluster.fail_syncs(A, StoreError("input/output error"))
        assert call(cluster, "SET", "late", "value").reply == b"OK"
        machine = cluster.machines[A]
        machine.disk.lose_power = lambda: setattr(  # type: ignore[method-assign]
            machine.disk, "records", machine.disk.records.crash()
        )
        cluster.run_until(lambda: cluster.node(A).store.dropped, 5)
        if noted:
            cluster.run_until(lambda: not machine.whole, 5)
        cluster.fail_syncs(A, None)
        cluster.restart(A)
        cluster.run_until(cluster.serves, 30)
        assert_filled(cluster)
        assert call(cluster, "GET", "late").reply == (None if noted else b"value")


def test_a_node_on_an_older_copy_of_its_disk_is_not_taken_for_the_newer_one(cluster: SimulatedCluster) -> None:
    backup = cluster.machines[B].copy()
    fill(cluster)
    for _ in range(2):
        cluster.restart(B)
        cluster.run_until(cluster.serves, 20)
    cluster.put_back(B, backup)
    cluster.restart(B)
    cluster.run(20)
    assert not cluster.serves()


def test_no_ring_is_written_on_top_of_one_that_was_rolled_back(cluster: SimulatedCluster) -> None:
    moment = cluster.now
    cluster.run(1)
    cluster.restart(B)
    cluster.run_until(cluster.serves, 20)
    newest = cluster.node(A).actor("member")._ring.epoch
    cluster.run(5)
    cluster.zookeeper_rolls_back(cluster.now - moment)
    cluster.run(30)
    ring = cluster.ring()
    assert ring is None or ring.epoch < newest
    assert all(node.actor("member")._ring.epoch == newest for node in cluster.nodes())


def test_who_asks_a_dead_node_gets_no_reply(cluster: SimulatedCluster) -> None:
    cluster.kill(A)
    assert cluster.execute(A, "PING") == NoReply("Connection refused", sent=False)
    cluster.pause(B)
    assert cluster.execute(B, "PING", seconds_max=2.0) == NoReply("no reply within 2 s", sent=True)
    assert isinstance(cluster.execute(C, "NONSENSE"), ErrorReply)


def test_what_does_not_come_to_be_ends_the_run(cluster: SimulatedCluster) -> None:
    cluster.kill(A)
    cluster.run(10)
    with pytest.raises(SimulationFailed, match="serves(?s:.*)seed 1"):
        cluster.run_until(cluster.serves, 10)


def test_random_faults_lose_nothing_that_was_acknowledged() -> None:
    for seed in range(4):
        a_run_of_random_faults(seed)


def a_run_of_random_faults(seed: int, seconds: float = 60.0) -> None:
    """One client writes, this and that befalls the cluster; in the end it serves, and every key has a value that was
    acknowledged last, or was in doubt after that."""
    dice = random.Random(seed)
    with SimulatedCluster(seed=seed, nodes=3, ecs=2, zookeepers=1 + seed % 2) as cluster:
        cluster.run_until(cluster.serves, 10)
        client, possible, writing, ended = cluster.client(), dict[str, set[str | None]](), [True], list[int]()
        names = [*cluster.machines, *cluster.ecs]

        def write(number: int) -> None:
            key, value = f"key{dice.randrange(20)}", str(number)

            def written(outcome: Outcome) -> None:
                if outcome.happened == "yes":
                    possible[key] = {value}
                elif outcome.happened == "maybe":
                    possible.setdefault(key, {None}).add(value)
                if writing:
                    cluster.world.loop.call_later(dice.uniform(0.0, 0.1), write, number + 1)
                else:
                    ended.append(number)

            client.call(("SET", key, value), written)

        write(0)
        while cluster.now < seconds:
            cluster.run(dice.uniform(0.0, 4.0))
            name, other = dice.sample([*names, *cluster.zookeeper.names], 2)
            if name in cluster.zookeeper.names:
                name = A
            if not cluster.process(name).alive:
                cluster.restart(name)
                continue
            match dice.randrange(9):
                case 0:
                    cluster.kill(name)
                case 1:
                    cluster.terminate(name)
                case 2:
                    cluster.partition(name, other, one_way=dice.random() < 0.5)
                case 3:
                    cluster.heal()
                case 4:
                    cluster.pause(name)
                    cluster.world.loop.call_later(dice.uniform(0.1, 10.0), cluster.resume, name)
                case 5:
                    cluster.lose_session(name)
                case 6:
                    cluster.zookeeper_away(dice.uniform(0.1, 10.0))
                case 7:
                    cluster.slow(name, dice.choice([0.00003, 0.02]))
                case 8:
                    cluster.drift(name, dice.choice([0.99, 1.0, 1.01]))
        cluster.heal()
        cluster.run(15)
        writing.clear()
        for name in names:
            cluster.resume(name)
            cluster.slow(name, 0.00003)
            if not cluster.process(name).alive:
                cluster.restart(name)
        cluster.run_until(cluster.serves, 60)
        cluster.run_until(lambda: bool(ended), 30)
        for key, values in sorted(possible.items()):
            reply = call(cluster, "GET", key).reply
            assert (reply if reply is None else reply.decode()) in values, key


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
