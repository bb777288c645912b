"""A cluster as part of a program: how its calls wait for the ring to change. The cluster is a fake one."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from ringkeeper.actors import local
from ringkeeper.actors.client import Client, CommandError
from ringkeeper.actors.launcher import ProcessState
from ringkeeper.actors.local import ChangeFailed, LocalCluster, StartFailed
from ringkeeper.tests.cli.fake_ring import FakeRing
from ringkeeper.tests.cli.test_changes import job


class Pretended(LocalCluster):
    """Its processes and its launcher are only pretended; the rest is as ever."""

    def __init__(self, ring: FakeRing) -> None:
        super().__init__()
        self.ring = ring
        self.pids = {node.id: 5000 + number for number, node in enumerate(ring.ring.nodes)}
        self.asked: list[Any] = []
        self.answer = ""
        self.impatient = False

    @property
    def seeds(self) -> tuple[str, ...]:
        return tuple(self.ring.address(index) for index in range(3))

    def client(self, **options: Any) -> Client:
        looks = bool(options)  # an order is given with patience
        return Client(self.seeds, **{**options, "timeout_seconds": 0.05 if looks and self.impatient else 5.0})

    def processes(self) -> tuple[ProcessState, ...]:
        return tuple(
            ProcessState(name=f"node-{id[-5:]}", kind="node", id=id, pid=pid, restarts=0, status=None if pid else -9)
            for id, pid in self.pids.items()
        )

    def _ask(self, message: object) -> Any:
        self.asked.append(message)
        return self.answer


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretended]:
    monkeypatch.setattr(local, "LOOK_SECONDS", 0.001)
    ring = FakeRing()
    with ring:
        cluster = Pretended(ring)
        yield cluster
        cluster.stop()


def test_nodes_that_were_added_are_returned_once_they_are_up(cluster: Pretended) -> None:
    ring, last = cluster.ring, cluster.ring.address(2)
    ring.reply = {"job": 7, "nodes": [last], "plan": None}
    ring.course = deque([job("queued"), job("transfer"), job("done")])
    assert cluster.add_nodes(2) == (last,)
    assert ring.orders == [["ADD", "COUNT", "2"]]
    assert len(ring.course) == 1, "it waited for the end of the job"


def test_a_job_is_waited_for_though_nobody_leads_for_a_while(cluster: Pretended) -> None:
    cluster.ring.reply = {"job": 7, "nodes": []}
    cluster.ring.course = deque([job("done")])
    cluster.ring.silent_looks, cluster.impatient = 10, True
    assert cluster.add_nodes() == ()


@pytest.mark.parametrize("state", ["aborted", "cancelled"])
def test_a_change_that_was_given_up_says_why(cluster: Pretended, state: str) -> None:
    cluster.ring.reply = {"job": 7, "nodes": ["127.0.0.1:7004"]}
    cluster.ring.course = deque([job("transfer"), job(state, why="the target died")])
    with pytest.raises(ChangeFailed, match=f"job 7, add 127.0.0.1:7004, was {state}: the target died"):
        cluster.add_nodes()
    with pytest.raises(ChangeFailed, match="the target died"):
        cluster.remove_node(cluster.seeds[0])


def test_a_job_that_nobody_knows_is_no_success(cluster: Pretended) -> None:
    cluster.ring.reply = {"job": 7, "nodes": []}
    with pytest.raises(ChangeFailed, match="nobody knows job 7"):
        cluster.add_nodes()


def test_a_change_that_takes_too_long_goes_on_and_says_so(cluster: Pretended) -> None:
    cluster.ring.reply = {"job": 7, "nodes": []}
    cluster.ring.course = deque([job("switch")])
    with pytest.raises(TimeoutError, match="job 7 goes on, and was waited for no longer: switch"):
        cluster.remove_node("127.0.0.1:1", seconds_max=0.01)
    assert cluster.ring.orders == [["REMOVE", "127.0.0.1:1"]]


def test_what_the_cluster_refuses_is_its_own_sentence(cluster: Pretended) -> None:
    cluster.ring.refusal = "ERR 127.0.0.1:1 is the last node"
    with pytest.raises(CommandError, match="is the last node"):
        cluster.remove_node("127.0.0.1:1")


def test_a_node_that_was_started_again_is_waited_for(cluster: Pretended) -> None:
    dead = cluster.seeds[1]
    pid, cluster.pids[dead] = cluster.pids[dead], 0
    with pytest.raises(StartFailed, match=f"node {dead} was killed by signal 9"):
        cluster.start_node(dead)
    cluster.pids[dead] = pid
    cluster.start_node(dead)
    cluster.pids[dead] = 77
    with pytest.raises(TimeoutError, match="does not know this life"):
        cluster.start_node(dead, seconds_max=0.01)
    cluster.answer = "the port is in use"
    with pytest.raises(StartFailed, match="was not started: the port is in use"):
        cluster.start_node(dead)
    with pytest.raises(KeyError):
        cluster.start_node("nobody")


def test_a_restart_is_over_when_the_node_is_up_in_another_life(cluster: Pretended) -> None:
    id = cluster.seeds[1]
    cluster.ring.reply = {"job": None, "node": id}
    lives = iter(["one", "one", "", "two"])
    cluster._incarnation = lambda id: next(lives)  # type: ignore[method-assign]
    cluster.restart(id, force=True)
    assert cluster.ring.orders == [["RESTART", id, "FORCE"]]
    assert not list(lives), "the life before, and that nobody can say, are no other life"
