"""What clients see of copies: redis-py and our own client read at successors and write with one copy or all."""

import json
import threading
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from redis.cluster import LoadBalancingStrategy, RedisCluster
from redis.exceptions import MovedError
from ringkeeper import Client, ClientError, LocalCluster
from ringkeeper.cli.main import ringkeeper
from ringkeeper.cli.observing import ClientProcesses
from ringkeeper.cli.outcomes import Trouble
from ringkeeper.tests.observing import traced
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning"),  # it is what most programs say
]

VALUES = {f"key:{number}": b"%d" % number for number in range(200)}
ANYWHERE: list[dict[str, Any]] = [
    {"read_from_replicas": True},
    *({"load_balancing_strategy": strategy} for strategy in LoadBalancingStrategy),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, replicas=3) as cluster:
        with cluster.client() as client:
            client.mset(VALUES)
        yield cluster


def redis_client(cluster: LocalCluster, **options: Any) -> RedisCluster:
    host, _, port = cluster.seeds[0].rpartition(":")
    return RedisCluster(host=host, port=int(port), **options)


def figures(cluster: LocalCluster, name: str) -> dict[str, int]:
    """A figure of INFO, by node."""
    with cluster.client() as client:
        infos = {seed: client.execute_on(seed, "INFO", "stats").decode() for seed in cluster.seeds}
    return {
        seed: int(next(line for line in info.splitlines() if line.startswith(f"{name}:")).partition(":")[2])
        for seed, info in infos.items()
    }


def keys_of(client: Client, node: str) -> list[str]:
    """Those of the test that this node coordinates."""
    return [key for key in VALUES if client.locate(key)[1] == node]


def test_the_journey_of_a_put_is_seen_in_every_process_that_it_goes_through(cluster: LocalCluster) -> None:
    with cluster.client() as client:
        look = ClientProcesses(client)
        assert look.everybody() == [*sorted(cluster.seeds), "ecs", "launcher"]
        key, node = next((key, client.locate(key)[1]) for key in VALUES)
        trace = traced(look, "key", key)
        assert list(trace.refusals) == ["launcher"] and "say what to trace: one of actor, type" in str(trace.refusals)
        client.set(key, VALUES[key])
        hops = trace.told("UNTRACE").hops
        seen = [(hop.process.removeprefix("node "), hop.type) for hop in hops]
        own = ["Requests", "Execute", "Follow", "Executed", *["Appended", "PeerHolds"] * 2, "Settled"]
        assert sorted(kind for where, kind in seen if where == node) == sorted(own)
        assert sorted(each for each in seen if each[0] != node) == [
            (other, "Append") for other in sorted(cluster.seeds) if other != node
        ]
        assert not any(hop.under_way for hop in hops) and hops[-1].what == f"SET {key}: +OK"

        actors = {actor["name"]: actor for actor in look.observe(node, "ACTORS")}
        assert actors["syncer"]["blocking"] and actors["replicator"]["parent"] == "storage"
        assert look.observe("launcher", "INSPECT", actor="launcher")["hears"]
        stacks = look.observe("ecs", "STACKS").values()
        assert any("uvloop" in call or "run_forever" in call for calls in stacks for call in calls)
        with pytest.raises(Trouble, match="start it with --allow-faults"):
            look.observe(node, "FAULT", action="drop")
        told = json.loads(client.execute("RING", "WHY", key))
        assert told["coordinator"] == node and told["since"] is not None


def test_a_copy_is_on_every_node_and_the_cluster_says_so(cluster: LocalCluster) -> None:
    status = cluster.status()
    assert status["replicas"] == 3
    assert [node["keys"] for node in status["nodes"]] == [len(VALUES)] * 3
    with cluster.client() as client:
        located = json.loads(client.execute("RING", "LOCATE", "key:1"))
        assert [node["state"] for node in located["list"]] == ["up"] * 3
        assert client.execute_on(cluster.seeds[0], "WAIT", 2, 1000) == 2


def test_every_node_is_a_primary_to_redis_py_so_that_what_is_for_all_of_them_reaches_all(cluster: LocalCluster) -> None:
    with redis_client(cluster) as client:
        assert len(client.get_primaries()) == 3
        assert client.dbsize(target_nodes=RedisCluster.PRIMARIES) == len(VALUES)
        assert sorted(key.decode() for key in client.scan_iter()) == sorted(VALUES)
        assert len(client.keys(target_nodes=RedisCluster.PRIMARIES)) == len(VALUES)


@pytest.mark.parametrize("options", ANYWHERE, ids=str)
def test_redis_py_reads_at_successors_without_being_sent_on(cluster: LocalCluster, options: dict[str, Any]) -> None:
    with cluster.client() as ours, redis_client(cluster, **options) as client:
        mine = keys_of(ours, cluster.seeds[0])
        refused, served = (figures(cluster, f"total_commands_{what}") for what in ("refused", "processed"))
        for _ in range(3):
            assert [client.get(key) for key in mine] == [VALUES[key] for key in mine]
        assert client.set(mine[0], VALUES[mine[0]]), "a connection that said READONLY may write at a coordinator"
        assert figures(cluster, "total_commands_refused") == refused
        more = {seed: count - served[seed] for seed, count in figures(cluster, "total_commands_processed").items()}
        assert all(more[seed] > 20 for seed in cluster.seeds[1:]), "nobody was read but the coordinator"


def test_without_readonly_a_successor_sends_its_reader_on(cluster: LocalCluster) -> None:
    with cluster.client() as ours:
        key = keys_of(ours, cluster.seeds[0])[0]
    host, _, port = cluster.seeds[1].rpartition(":")
    with redis.Redis(host=host, port=int(port)) as client, client.client() as connection:
        with pytest.raises(MovedError):
            connection.get(key)
        assert connection.execute_command("READONLY") and connection.get(key) == VALUES[key]
        with pytest.raises(MovedError):
            connection.set(key, "other")
        assert connection.execute_command("READWRITE")
        with pytest.raises(MovedError):
            connection.get(key)


def test_our_client_reads_anywhere_and_has_writes_answered_as_each_wants(cluster: LocalCluster) -> None:
    with cluster.client(read_from="any", acks="one") as client:
        mine = keys_of(client, cluster.seeds[0])
        assert [client.get(key) for key in mine] == [VALUES[key] for key in mine]
        assert client.set("one", 1) and client.set("all", 1, acks="all")
        assert client.get("all") == b"1", "every copy has what all have acknowledged"
        wait_until(lambda: client.get("one") == b"1")
        assert client.statistics.moved == 0 and client.delete("one", "all", acks="all") == 2


class Writer(threading.Thread):
    """Counts in its own keys, one after the other, until it is stopped or told an error."""

    def __init__(self, client: Client | RedisCluster, name: str) -> None:
        super().__init__(name=name)
        self.client, self.keys = client, [f"{name}:{number}" for number in range(50)]
        self.answered = dict.fromkeys(self.keys, 0)
        self.trouble: Exception | None = None
        self.ending = threading.Event()

    def run(self) -> None:
        for key in cycle(self.keys):
            if self.ending.is_set():
                break
            try:
                self.answered[key] = int(self.client.incr(key))
            except (ClientError, redis.RedisError) as trouble:
                self.trouble = trouble
                break

    def stop(self) -> None:
        self.ending.set()
        self.join()


def test_all_nodes_are_restarted_one_after_the_other_and_no_client_sees_an_error(cluster: LocalCluster) -> None:
    lives = {node["incarnation"] for node in cluster.status()["nodes"]}
    with cluster.client() as ours, redis_client(cluster) as theirs:
        writers = [Writer(ours, "ours"), Writer(ours, "ours too"), Writer(theirs, "redis-py")]
        for writer in writers:
            writer.start()
        try:
            for id in cluster.seeds:
                said = CliRunner().invoke(ringkeeper, ["nodes", "restart", id, "--cluster", ",".join(cluster.seeds)])
                assert said.exit_code == 0, said.output
        finally:
            for writer in writers:
                writer.stop()
        assert [writer.trouble for writer in writers] == [None] * 3
        for writer in writers:
            assert {key: int(ours.get(key) or 0) for key in writer.keys} == writer.answered
    assert len(lives | {node["incarnation"] for node in cluster.status()["nodes"]}) == 6


def test_reads_anywhere_go_on_when_a_node_dies() -> None:
    with LocalCluster(nodes=3, replicas=3) as cluster, cluster.client(read_from="any") as client:
        client.mset(VALUES)
        with redis_client(cluster, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN) as other:
            cluster.kill(cluster.seeds[2])
            assert {key: client.get(key) for key in VALUES} == VALUES

            def reads_all() -> bool:
                try:
                    return {key: other.get(key) for key in VALUES} == VALUES
                except redis.RedisError:
                    return False

            wait_until(reads_all, 30)

            def writes() -> bool:
                try:
                    client.mset(VALUES)
                except ClientError:
                    return False
                return True

            wait_until(writes, 30)
            assert other.set("key:1", "new") and client.get("key:1") == b"new"
