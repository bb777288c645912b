"""The launcher of a real cluster, spoken to over its bridge as the ECS does: nodes come, start again, and go."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from ringkeeper import LocalCluster
from ringkeeper.actors.config import BRIDGE_PORT_OFFSET
from ringkeeper.actors.launcher import NodeRestarted, NodesStarted, ProcessState, RestartNode, StartNodes
from ringkeeper.actors.local import StartFailed
from ringkeeper.actors.node_folder import has_left
from ringkeeper.actors.rules import paths
from ringkeeper.runtime.actor import Actor, LocalRef, Ref
from ringkeeper.runtime.bridge import Bridge, BridgeConfig
from ringkeeper.runtime.network import TcpNetwork
from ringkeeper.runtime.process import is_free
from ringkeeper.tests.runtime.homes import Home
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


class Listener(Actor):
    """Writes down what it is told."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: NodesStarted | NodeRestarted) -> None:
        self._heard.append(message)


class Asker:
    """An actor of another process, as the ECS is one, and the launcher as it finds it in ZooKeeper."""

    def __init__(self, launcher: Ref, me: LocalRef, heard: list[Any]) -> None:
        self._launcher, self._me, self._heard = launcher, me, heard

    def start_nodes(self, count: int, *, dry_run: bool = False) -> NodesStarted:
        message = StartNodes(question=len(self._heard), count=count, dry_run=dry_run, reply_to=self._me)
        answer = self._ask(message)
        assert isinstance(answer, NodesStarted)
        return answer

    def restart(self, node: str) -> NodeRestarted:
        answer = self._ask(RestartNode(question=len(self._heard), node=node, reply_to=self._me))
        assert isinstance(answer, NodeRestarted)
        return answer

    def _ask(self, message: StartNodes | RestartNode) -> NodesStarted | NodeRestarted:
        before = len(self._heard)
        self._launcher.tell(message)
        wait_until(lambda: len(self._heard) > before, 30.0)
        answer: NodesStarted | NodeRestarted = self._heard[-1]
        assert answer.question == message.question
        return answer


@contextmanager
def asker(cluster: LocalCluster, secret: bytes) -> Iterator[Asker]:
    """Finds the launcher by its registration, and joins it by a bridge."""
    zookeeper = KazooClient(hosts=cluster.cluster.zookeeper_hosts)
    zookeeper.start(10)
    try:
        name = f"{paths.launchers(cluster.cluster.name)}/{cluster.cluster.host}"
        wait_until(lambda: zookeeper.exists(name) is not None)
        registration = json.loads(zookeeper.get(name)[0])
    finally:
        zookeeper.stop()
        zookeeper.close()
    home, heard, made = Home(), list[Any](), threading.Event()
    bridges: list[Bridge] = []

    def make() -> None:
        config = BridgeConfig(cluster=cluster.cluster.name, node="ecs of a test", secret=secret)
        bridges.append(Bridge(home.system, TcpNetwork(home.loop), config))
        made.set()

    home.loop.call_soon_threadsafe(make)
    assert made.wait(10)
    try:
        me = home.system.spawn(Listener, heard, name="ecs")
        yield Asker(bridges[0].ref(f"ringkeeper://{registration['bridge']}/launcher"), me, heard)
    finally:
        closed = threading.Event()
        home.loop.call_soon_threadsafe(lambda: bridges[0].close(done=closed.set))
        closed.wait(10)
        home.close()


def node(cluster: LocalCluster, id: str) -> ProcessState:
    return next(process for process in cluster.processes() if process.id == id)


def test_nodes_come_start_again_and_go_as_the_ecs_asks(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster:
        (first,) = cluster.seeds
        with asker(cluster, cluster.folder.secret()) as ecs:
            would = ecs.start_nodes(1, dry_run=True)
            assert (would.error, cluster.seeds) == ("", (first,))
            came = ecs.start_nodes(1)
            assert (came.ids, came.error) == (would.ids, "")
            (second,) = came.ids
            assert cluster.seeds == (first, second)

            before = node(cluster, first).pid
            assert ecs.restart(first) == NodeRestarted(question=2, node=first)
            after = node(cluster, first)
            assert after.pid not in (0, before)
            assert after.restarts == 1

            port = int(second.rpartition(":")[2])
            home = cluster.folder.node_folder(port)
            wait_until(lambda: (home / "store").exists() and not is_free("127.0.0.1", port), 30.0)
            pid = node(cluster, second).pid
            os.kill(pid, signal.SIGSTOP)  # else it may write its own mind into that file, as it would if ended in order
            document = json.loads((home / "node.json").read_text())
            (home / "node.json").write_text(json.dumps({**document, "left": True}))
            assert has_left(home)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: cluster.seeds == (first,))
            with pytest.raises(KeyError):
                cluster.kill(second)
            with pytest.raises(KeyError):
                cluster.start_node(second)
            assert home.exists()


def test_who_does_not_know_the_secret_starts_nothing(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster:
        before = cluster.processes()
        with asker(cluster, b"another secret of many bytes") as stranger, pytest.raises(AssertionError):
            stranger._launcher.tell(StartNodes(question=1, count=1, dry_run=False, reply_to=stranger._me))
            wait_until(lambda: bool(stranger._heard), 1.0)
        assert cluster.processes() == before


def test_a_dead_node_is_started_again_when_the_program_says_so(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster, cluster.client() as client:
        client.set("user:42", "Ada")
        (id,) = cluster.seeds
        cluster.kill(id)
        cluster.start_node(id)
        assert client.get("user:42") == b"Ada"
        with pytest.raises(StartFailed, match="was not started: node-.* runs, with process id"):
            cluster.start_node(id)
        bridge_port = int(id.rpartition(":")[2]) + BRIDGE_PORT_OFFSET
        assert not is_free("127.0.0.1", bridge_port)
