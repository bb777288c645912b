"""Real clusters grow and shrink, as part of a program and from the command line: nothing is lost, everybody follows."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringkeeper import Client, LocalCluster
from ringkeeper.actors.client import CommandError
from ringkeeper.actors.config import BRIDGE_PORT_OFFSET
from ringkeeper.actors.launcher import node_program
from ringkeeper.actors.local import ChangeFailed
from ringkeeper.actors.node_folder import has_left
from ringkeeper.runtime.process import free_port
from ringkeeper.tests.processes.test_up import COMMAND, Foreground, Shell
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

KEYS = 3000


def fill(client: Client) -> dict[str, str]:
    values = {f"key:{number}": f"value of {number}" for number in range(KEYS)}
    client.mset(values)
    return values


def compare(client: Client, values: dict[str, str]) -> None:
    got = client.mget(values)
    assert [key for key, value in zip(values, got, strict=True) if value != values[key].encode()] == []
    assert client.dbsize() == len(values)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "data", nodes=2)
    yield shell
    shell.down()
    assert not shell.living()


def test_a_program_adds_and_removes_nodes_and_its_clients_follow(tmp_path: Path) -> None:
    with LocalCluster(nodes=2, data=tmp_path) as cluster, cluster.client() as client:
        first, second = cluster.seeds
        values = fill(client)
        third, fourth = cluster.add_nodes(2)
        assert list(cluster.seeds) == [first, second, third, fourth]
        compare(client, values)
        shares = {node["id"]: node["slots"] for node in cluster.status()["nodes"]}
        assert sum(shares.values()) == 16384
        assert all(shares[id] > 0 for id in cluster.seeds)

        with Client(first) as old:
            assert old.get("key:0") == b"value of 0"
            cluster.remove_node(first)
            assert list(cluster.seeds) == [second, third, fourth]
            compare(old, values)  # its only seed has left
        compare(client, values)
        assert [p.id for p in cluster.processes() if p.kind == "node"] == [second, third, fourth]
        folder = cluster.folder.node_folder(int(first.rpartition(":")[2]))
        assert folder.exists()
        with pytest.raises(CommandError, match=first):
            cluster.remove_node(first)
        epoch = cluster.status()["epoch"]
    with LocalCluster(data=tmp_path) as cluster, cluster.client() as client:
        assert cluster.seeds == (second, third, fourth)
        assert cluster.status()["epoch"] > epoch
        compare(client, values)


def test_the_last_node_and_a_stranger_cannot_be_removed(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster:
        before = cluster.status()["epoch"]
        for id in (cluster.seeds[0], "127.0.0.1:1"):
            with pytest.raises(CommandError, match="RING REMOVE failed"):
                cluster.remove_node(id)
        assert cluster.status()["epoch"] == before


def test_a_dead_node_with_an_only_copy_cannot_be_removed_and_comes_back(tmp_path: Path) -> None:
    with LocalCluster(nodes=2, data=tmp_path, replicas=1) as cluster, cluster.client() as client:
        values = fill(client)
        cluster.kill(cluster.seeds[1])
        wait_until(lambda: not cluster.status()["serving"], 30.0)
        with pytest.raises((CommandError, ChangeFailed)):
            cluster.remove_node(cluster.seeds[1], seconds_max=20.0)
        cluster.start_node(cluster.seeds[1])
        compare(client, values)


def test_a_restart_with_one_copy_must_be_forced_and_loses_nothing(tmp_path: Path) -> None:
    with LocalCluster(nodes=2, data=tmp_path, replicas=1) as cluster, cluster.client() as client:
        values = fill(client)
        id = cluster.seeds[0]
        before = {process.id: process.pid for process in cluster.processes()}
        with pytest.raises(CommandError, match="FORCE"):
            cluster.restart(id)
        assert {process.id: process.pid for process in cluster.processes()} == before
        cluster.restart(id, force=True)
        assert {process.pid for process in cluster.processes() if process.id == id}.isdisjoint(before.values())
        compare(client, values)


def test_a_node_whose_joining_was_cancelled_waits_and_is_taken_in_when_somebody_asks(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, data=tmp_path) as cluster, cluster.client() as client:
        values = fill(client)
        begun = json.loads(client.execute("RING", "ADD", "COUNT", 1))
        (id,) = begun["nodes"]
        pid = next(process.pid for process in cluster.processes() if process.id == id)
        os.kill(pid, signal.SIGSTOP)  # so that the job cannot get to its end
        try:
            assert json.loads(client.execute("RING", "CANCEL", begun["job"])) == {"job": begun["job"]}
        finally:
            os.kill(pid, signal.SIGCONT)
        (job,) = json.loads(client.execute("RING", "JOBS"))["jobs"]
        assert (job["job"], job["state"]) == (begun["job"], "cancelled")
        wait_until(lambda: id in cluster.status()["waiting"], 30.0)
        assert [node["id"] for node in cluster.status()["nodes"]] == [cluster.seeds[0]]
        compare(client, values)
    with LocalCluster(data=tmp_path) as cluster, cluster.client() as client:  # it starts though one waits
        assert id in cluster.seeds
        wait_until(lambda: id in cluster.status()["waiting"], 30.0)
        again = json.loads(client.execute("RING", "ADD", "NODE", id))
        cluster._wait_for_job(again["job"], time.monotonic() + 60)
        assert {node["id"] for node in cluster.status()["nodes"]} == set(cluster.seeds)
        compare(client, values)


def test_from_the_command_line_nodes_come_and_go_with_what_was_said_of_it_first(shell: Shell) -> None:
    assert shell.up("--replicas", 1).returncode == 0
    with shell.client() as client:
        values = fill(client)
    would = json.loads(shell.type("nodes", "add", "--dry-run", "--json").stdout)
    third = f"127.0.0.1:{shell.port + 2}"
    assert (would["job"], would["nodes"]) == (None, [third])
    assert len(shell.running()) == 5, "nothing was started"
    people = shell.type("nodes", "add", "--dry-run")
    assert people.returncode == 0, people.stderr
    assert third in people.stdout

    added = shell.type("nodes", "add", "--json")
    assert added.returncode == 0, added.stderr
    outcome = json.loads(added.stdout)
    assert (outcome["nodes"], outcome["outcome"]["state"]) == ([third], "done")
    assert "done" in added.stderr
    assert f"node-{shell.port + 2}" in shell.running()
    assert third in shell.type("nodes").stdout
    for id, (_, after) in outcome["shares"].items():
        assert abs(after - would["plan"]["shares"][id][1]) < 0.001, "what was planned is what came"
    moved = sum(transfer["size"] for transfer in would["plan"]["transfers"])
    assert moved == would["plan"]["slots"] == round(outcome["shares"][third][1] * 16384)

    with shell.client() as client:
        compare(client, values)
    gone = shell.type("nodes", "remove", shell.seeds[0])
    assert gone.returncode == 0, gone.stderr
    listed = json.loads(shell.type("jobs", "--json").stdout)["jobs"]
    assert [(job["what"], job["state"]) for job in listed] == [
        (f"add {third}", "done"),
        (f"remove {shell.seeds[0]}", "done"),
    ]
    wait_until(lambda: f"node-{shell.port}" not in shell.running(), 30.0)

    assert shell.down().returncode == 0
    assert not shell.living()
    assert shell.type("up", "--data", shell.folder, "--detach").returncode == 0
    status = json.loads(shell.type("status", "--json", "--cluster", shell.seeds[1]).stdout)
    assert {node["id"] for node in status["nodes"] if node["state"] != "out"} == {shell.seeds[1], third}
    with Client(shell.seeds[1]) as client:
        compare(client, values)


def test_in_the_foreground_nodes_that_come_and_go_are_told(shell: Shell) -> None:
    with Foreground(shell) as up:
        up.wait_to_show("The ring serves.")
        assert shell.type("nodes", "add").returncode == 0
        up.wait_to_show(f"node-{shell.port + 2} was added and runs, with process id")
        assert shell.type("nodes", "remove", f"127.0.0.1:{shell.port + 2}").returncode == 0
        up.wait_to_show(f"node 127.0.0.1:{shell.port + 2} has left the ring and ended")
        up.press_ctrl_c()
        up.wait_to_show("all processes have ended")
        assert up.process.wait(30) == 0


def test_stopped_a_cluster_refuses_clients_and_keeps_everything(shell: Shell) -> None:
    assert shell.up().returncode == 0
    assert shell.type("put", "user:42", "Ada").returncode == 0
    assert shell.type("stop").returncode == 0
    refused = shell.type("get", "user:42", "--timeout", "1")
    assert refused.returncode == 3
    assert shell.type("status").returncode == 1
    assert shell.down().returncode == 0
    assert shell.up().returncode == 0, "a stopped cluster comes back as one"
    assert shell.type("get", "user:42", "--timeout", "1").returncode == 3
    assert shell.type("start").returncode == 0
    assert shell.type("get", "user:42").stdout == "Ada"


def test_a_node_that_was_told_to_wait_is_taken_in_when_somebody_asks(shell: Shell, tmp_path: Path) -> None:
    assert shell.up("--replicas", 1).returncode == 0
    with shell.client() as client:
        values = fill(client)
    cluster = shell.folder.cluster()
    assert cluster is not None
    port = free_port(beside=BRIDGE_PORT_OFFSET)
    id, arguments = f"127.0.0.1:{port}", list(node_program(cluster, shell.folder, port, "info").arguments)
    arguments[arguments.index("--data") + 1] = str(tmp_path / "elsewhere")
    log = tmp_path / "elsewhere.log"
    with log.open("wb") as output:
        waits = subprocess.Popen([*COMMAND, *arguments, "--no-join"], stdout=output, stderr=output)
    try:
        wait_until(lambda: id in json.loads(shell.type("nodes", "--json").stdout)["waiting"], 30.0)
        assert f"`ringkeeper nodes add --node {id}` takes it in" in shell.type("nodes").stdout
        added = shell.type("nodes", "add", "--node", id)
        assert added.returncode == 0, added.stderr
        with shell.client() as client:
            compare(client, values)
            assert id in client.nodes()
        restarted = shell.type("nodes", "restart", id, "--force")
        assert restarted.returncode == 3
        assert "restart it where it was started" in restarted.stderr or "ringkeeper node" in restarted.stderr
        removed = shell.type("nodes", "remove", id)
        assert removed.returncode == 0, removed.stderr
        assert waits.wait(30) == 0, log.read_text()
        assert has_left(tmp_path / "elsewhere")
    finally:
        waits.kill()
        waits.wait()
    with shell.client() as client:
        compare(client, values)
