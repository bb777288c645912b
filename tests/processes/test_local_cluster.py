"""A cluster as part of a program: three lines to have it, and nothing of it stays, however the program ends."""

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import NoAuthError  # type: ignore[import-untyped]
from ringkeeper import LocalCluster
from ringkeeper.actors.cluster_folder import LAUNCHER, PROGRAM, ClusterFolder, FolderError, FolderInUse
from ringkeeper.actors.config import BRIDGE_PORT_OFFSET
from ringkeeper.actors.rules import paths
from ringkeeper.cli.main import ringkeeper
from ringkeeper.runtime.children import ProcessId
from ringkeeper.runtime.process import free_port
from ringkeeper.runtime.watches import auth_of
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def test_a_cluster_in_three_lines() -> None:
    with LocalCluster(nodes=2) as cluster, cluster.client() as client:
        client.set("user:42", "Ada")
        assert client.get("user:42") == b"Ada"
        folder = cluster.folder.path
        running = cluster.folder.running()
        assert set(running) == {PROGRAM, *(process.name for process in cluster.processes())}
        status = cluster.status()
        assert [node["id"] for node in status["nodes"]] == sorted(
            cluster.seeds, key=lambda id: status_token(status, id)
        )

        for name, port in ClusterFolder(folder).cluster().metrics_ports.items():  # type: ignore[union-attr]
            assert found(port, "healthz")[0] == 200
            wait_until(lambda port=port: found(port, "readyz") == (200, "ready\n"), what=f"{name} is ready")  # type: ignore[misc]
            assert "ringkeeper_loop_delay_seconds_count" in found(port, "metrics")[1]

        before = next(process for process in cluster.processes() if process.name == "ecs")
        cluster.kill("ecs")
        wait_until(lambda: next(process for process in cluster.processes() if process.name == "ecs").restarts == 1)
        assert before.pid not in [process.pid for process in cluster.processes()]

        cluster.kill(cluster.seeds[0])
        assert [process.pid == 0 for process in cluster.processes() if process.kind == "node"] == [True, False]
        with pytest.raises(KeyError, match="no process of this cluster"):
            cluster.kill("nobody")
        see_it(cluster)
    del running[PROGRAM]
    assert not [name for name, process in running.items() if process.lives()]
    assert not folder.exists(), "a temporary folder is removed"


def found(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def see_it(cluster: LocalCluster) -> None:
    """What people are shown of a cluster whose first node is dead."""
    environment = {"RINGKEEPER_CLUSTER": ",".join(cluster.seeds)}
    events = CliRunner(env=environment).invoke(ringkeeper, ["events", "--kind", "process"])
    assert events.exit_code == 0 and f"node {cluster.seeds[1]} serves clients on port" in events.stdout
    assert f"ringkeeper: {cluster.seeds[0]} refuses connections\n" in events.stderr
    top = CliRunner(env=environment).invoke(ringkeeper, ["top", "--once", "--json"])
    shown = {node["id"]: node["silent"] for node in json.loads(top.stdout)["nodes"]}
    assert shown == {cluster.seeds[0]: f"{cluster.seeds[0]} refuses connections", cluster.seeds[1]: None}


def status_token(status: dict[str, list[dict[str, str]]], id: str) -> str:
    return next(node["token"] for node in status["nodes"] if node["id"] == id)


def test_nobody_without_the_secret_changes_what_a_cluster_has_in_zookeeper(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster:
        (first,) = auth_of(cluster.folder.secret())
        nobody_changes(cluster)
    cluster.folder.secret_file.rename(tmp_path / "secret.former")
    with LocalCluster(data=tmp_path) as cluster:  # makes a new secret
        assert auth_of(cluster.folder.secret()) != (first,)
        nobody_changes(cluster, auth_data=[("digest", ":".join(first))])
    (tmp_path / "secret.former").unlink()
    with LocalCluster(data=tmp_path) as cluster:
        assert cluster.status()["serving"]


def nobody_changes(cluster: LocalCluster, **options: Any) -> None:
    stranger = KazooClient(cluster.cluster.zookeeper_hosts, **options)
    stranger.start(10)
    try:
        found = [paths.root(cluster.cluster.name)]
        for path in found:
            found += [f"{path}/{name}" for name in stranger.get_children(path)]
            wait_until(partial(is_refused, stranger, path), what=path)
        assert len(found) > 6, "the ring, a node, a candidate and a launcher, and what they stand below"
        with pytest.raises(NoAuthError):
            stranger.delete(paths.ring(cluster.cluster.name))
    finally:
        stranger.stop()
        stranger.close()


def is_refused(stranger: KazooClient, path: str) -> bool:
    try:
        stranger.set(path, stranger.get(path)[0])
    except NoAuthError:
        return True
    return False


def test_a_given_folder_is_kept_and_held_by_one_at_a_time(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster:
        with cluster.client() as client:
            client.set("user:42", "Ada")
        with pytest.raises(FolderInUse):
            LocalCluster(data=tmp_path).start()
        assert cluster.status()["serving"]
        seeds = cluster.seeds
    with LocalCluster(data=tmp_path) as cluster, cluster.client() as client:
        assert cluster.seeds == seeds
        assert client.get("user:42") == b"Ada"


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    port = free_port(beside=BRIDGE_PORT_OFFSET)
    cluster = LocalCluster(nodes=1, port=port, data=tmp_path)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(FolderError, match=f"port {port} is in use"):
        cluster.start()
    assert ClusterFolder(tmp_path).running() == {}
    cluster.stop()
    with LocalCluster(nodes=1, port=port, data=tmp_path) as again:
        assert again.seeds == (f"127.0.0.1:{port}",)


PROGRAM_TEXT = """
import sys
from ringkeeper import LocalCluster
cluster = LocalCluster(nodes=1, data=sys.argv[1])
cluster.start()
print("serves", flush=True)
{ending}
"""


@pytest.mark.parametrize("ending", ["sys.stdin.read()", "sys.exit(3)", "raise SystemError('on purpose')"])
def test_a_program_that_ends_in_any_way_leaves_no_process(tmp_path: Path, ending: str) -> None:
    text = PROGRAM_TEXT.format(ending=ending)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", text, str(tmp_path)], text=True, **pipes) as program:  # type: ignore[call-overload]
        assert program.stdout.readline() == "serves\n"
        seen: dict[str, ProcessId] = ClusterFolder(tmp_path).running() if "stdin" in ending else {}
        if "stdin" in ending:
            assert len(seen) == 4
            program.kill()
        program.wait(30)
    wait_until(lambda: not [name for name, process in seen.items() if process.lives()], 30.0)
    wait_until(lambda: not ClusterFolder(tmp_path).running(), 30.0)


@pytest.mark.parametrize("outlive", [True, False])
def test_a_launcher_that_fails_takes_nobody_along_who_may_outlive_it(tmp_path: Path, outlive: bool) -> None:
    cluster = LocalCluster(nodes=1, data=tmp_path, outlive=outlive)
    cluster.start()
    assert cluster._launcher is not None
    before = cluster.folder.running()
    cluster._launcher.tell("nonsense")
    wait_until(lambda: cluster.failure() is not None)
    cluster.stop()
    left = ClusterFolder(tmp_path).running()
    if not outlive:
        assert left == {}
        return
    assert left == {name: process for name, process in before.items() if name != LAUNCHER}
    with LocalCluster(data=tmp_path) as again, again.client() as client:
        client.set("user:42", "Ada")
        assert {p.pid for p in again.processes()} == {process.pid for process in left.values()}
    assert ClusterFolder(tmp_path).running() == {}


def test_a_cluster_object_is_started_once(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster, pytest.raises(RuntimeError, match="started before"):
        cluster.start()
    with pytest.raises(RuntimeError, match="started before"):
        cluster.start()
    cluster.stop()
