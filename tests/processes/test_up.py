"""``ringkeeper up`` and ``down`` on real processes: what starts, what dies, what comes back, and that nothing stays."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ringkeeper.actors.client import Client
from ringkeeper.actors.cluster_folder import LAUNCHER, Cluster, ClusterFolder
from ringkeeper.actors.launcher import programs_of
from ringkeeper.runtime.children import ProcessId, end_all
from ringkeeper.runtime.process import free_port
from ringkeeper.scenarios.terminal import free_ports
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

COMMAND = (sys.executable, "-P", "-m", "ringkeeper.cli.main")


class Shell:
    """Types commands; ends at the end of the test whatever they left, and fails if that was anything."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.folder = ClusterFolder(folder)
        self.nodes, self.port = nodes, free_ports(nodes)
        self.seeds = [f"127.0.0.1:{self.port + number}" for number in range(nodes)]
        self.seen: set[ProcessId] = set()
        self.environment = {**os.environ, "RINGKEEPER_CLUSTER": ",".join(self.seeds)}

    def type(self, *words: object) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*COMMAND, *map(str, words)],
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
        finally:
            self.note()

    def up(self, *options: object) -> subprocess.CompletedProcess[str]:
        return self.type("up", "--nodes", self.nodes, "--port", self.port, "--data", self.folder, "--detach", *options)

    def down(self) -> subprocess.CompletedProcess[str]:
        return self.type("down", "--data", self.folder)

    def running(self) -> dict[str, ProcessId]:
        self.note()
        return self.folder.running()

    def note(self) -> None:
        self.seen |= set(ClusterFolder(self.folder.path).running().values())

    def client(self) -> Client:
        return Client(self.seeds)

    def living(self) -> list[ProcessId]:
        return sorted(process for process in self.seen if process.lives())


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "data")
    yield shell
    shell.note()
    left = shell.living()
    end_all({str(process.pid): process for process in left}, seconds_max=0.1)
    assert not left, "the test left processes running"


class Foreground:
    """``ringkeeper up`` in a terminal of its own."""

    def __init__(self, shell: Shell, *options: object) -> None:
        self.shell = shell
        terminal, its_end = pty.openpty()
        self._terminal = terminal
        words = ["up", "--nodes", shell.nodes, "--port", shell.port, "--data", shell.folder, *options]
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *COMMAND, *map(str, words)],
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            env=shell.environment,
        )
        os.close(its_end)
        self.shown = ""

    def __enter__(self) -> "Foreground":
        return self

    def __exit__(self, *_: object) -> None:
        self.shell.note()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    def wait_to_show(self, text: str, seconds_max: float = 30.0) -> None:
        deadline = time.monotonic() + seconds_max
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was not shown; but {self.shown}"
            if select.select([self._terminal], [], [], left)[0]:
                try:
                    self.shown += os.read(self._terminal, 65536).decode(errors="replace").replace("\r\n", "\n")
                except OSError:  # the other end is closed
                    assert text in self.shown, f"{text!r} was never shown; but {self.shown}"

    def press_ctrl_c(self) -> None:
        os.write(self._terminal, b"\x03")


def holds(shell: Shell, key: str, value: bytes) -> Callable[[], bool]:
    def look() -> bool:
        with shell.client() as client:
            return client.get(key) == value

    return look


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_detached_cluster_serves_is_ended_and_comes_back_with_its_data(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "data", nodes=2)
    started = shell.up()
    assert started.returncode == 0, started.stderr
    assert "2 of 2 nodes up" in started.stdout
    assert f"redis-cli -c -h 127.0.0.1 -p {shell.port}" in started.stdout
    assert set(shell.running()) == {LAUNCHER, "zookeeper", "ecs", f"node-{shell.port}", f"node-{shell.port + 1}"}
    assert shell.type("put", "user:42", "Ada").returncode == 0

    refused = shell.up()
    assert refused.returncode == 3
    assert f"in use by the launcher with process id {shell.running()[LAUNCHER].pid}" in refused.stderr

    before = json.loads(shell.type("status", "--json").stdout)
    assert {node["pid"] for node in before["nodes"]} == {
        process.pid for name, process in shell.running().items() if name.startswith("node")
    }

    ended = shell.down()
    assert ended.returncode == 0, ended.stderr
    assert not shell.living()
    cluster = shell.folder.cluster()
    assert cluster is not None
    assert not [port for port in (*cluster.node_ports, cluster.zookeeper_port) if is_listening(port)]
    again = shell.down()
    assert again.returncode == 1
    assert "nothing of the cluster" in again.stderr

    back = shell.type("up", "--data", shell.folder, "--detach")
    assert back.returncode == 0, back.stderr
    assert shell.type("get", "user:42").stdout == "Ada"
    after = json.loads(shell.type("status", "--json").stdout)
    assert [node["token"] for node in after["nodes"]] == [node["token"] for node in before["nodes"]]
    assert shell.down().returncode == 0
    contradicting = shell.type("up", "--data", shell.folder, "--nodes", 5)
    assert contradicting.returncode == 2
    assert "holds a cluster with nodes 2, and nodes 5 was asked for" in contradicting.stderr
    assert not shell.living()


def test_in_the_foreground_deaths_are_shown_and_ctrl_c_ends_all(shell: Shell) -> None:
    with Foreground(shell) as up:
        up.wait_to_show("The ring serves.")
        running = shell.running()
        with shell.client() as client:
            client.set("user:42", "Ada")

        for name in ("ecs", "zookeeper"):
            os.kill(running[name].pid, signal.SIGKILL)
            up.wait_to_show(f"{name} was killed by signal 9 (SIGKILL); back in 0.5 s")
            up.wait_to_show(f"{name} runs again")
        wait_until(holds(shell, "user:42", b"Ada"))
        wait_until(lambda: shell.type("status").returncode == 0, 30.0)

        node = running[f"node-{shell.port}"]
        os.kill(node.pid, signal.SIGKILL)
        up.wait_to_show(f"node {shell.seeds[0]} was killed by signal 9 (SIGKILL). It stays dead")
        up.wait_to_show(f"ringkeeper node --port {shell.port} --data ")
        assert f"node-{shell.port}" not in shell.running()

        up.press_ctrl_c()
        up.wait_to_show("all processes have ended")
        assert up.process.wait(30) == 0
    assert not shell.living()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_start_ends_what_was_started(shell: Shell, number: int) -> None:
    """Ctrl-C, kill, and a terminal that closes."""
    with Foreground(shell) as up:
        up.wait_to_show("runs, with process id")
        shell.note()
        up.process.send_signal(number)
        assert up.process.wait(30) == 0
    assert not shell.living()
    assert "Traceback" not in up.shown


def test_nodes_outlive_a_killed_launcher_and_the_next_one_adopts_them(shell: Shell) -> None:
    assert shell.up().returncode == 0
    before = shell.running()
    os.kill(before[LAUNCHER].pid, signal.SIGKILL)
    wait_until(lambda: not before[LAUNCHER].lives())
    with shell.client() as client:
        client.set("still", "here")

    again = shell.up()
    assert again.returncode == 0, again.stderr
    after = shell.running()
    assert {name: after[name] for name in before if name != LAUNCHER} == {
        name: before[name] for name in before if name != LAUNCHER
    }
    assert after[LAUNCHER] != before[LAUNCHER]

    os.kill(after[LAUNCHER].pid, signal.SIGKILL)
    wait_until(lambda: not after[LAUNCHER].lives())
    ended = shell.down()
    assert ended.returncode == 0
    assert "without their launcher" in ended.stdout
    assert not shell.living()


@pytest.mark.parametrize("detach", [True, False])
def test_a_port_in_use_is_named_and_nothing_is_left(shell: Shell, detach: bool) -> None:
    with socket.create_server(("127.0.0.1", shell.port)):
        options = ["--detach"] if detach else []
        failed = shell.type("up", "--nodes", 1, "--port", shell.port, "--data", shell.folder, *options)
    assert failed.returncode == 3
    assert f"port {shell.port} is in use by another program" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not shell.seen


def test_a_zookeeper_that_cannot_be_reached_is_named_and_nothing_is_left(shell: Shell) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    failed = shell.up("--zookeeper", nobody)
    assert failed.returncode == 3
    assert f"ZooKeeper cannot be reached ({nobody}: Connection refused)" in failed.stderr
    assert not shell.seen


def test_a_node_folder_that_cannot_be_used_is_said_and_nothing_is_left(shell: Shell) -> None:
    shell.folder.prepare()
    shell.folder.found(Cluster(node_ports=(shell.port,)))
    home = shell.folder.path / f"node-{shell.port}"
    home.mkdir()
    content = {"format": 1, "id": "127.0.0.1:1", "data_id": "0" * 16, "lives": 1}
    (home / "node.json").write_text(json.dumps(content))
    failed = shell.up()
    assert failed.returncode == 3
    assert f"node {shell.seeds[0]} ended with status 3: {home}" in failed.stderr
    assert "holds the data of 127.0.0.1:1" in failed.stderr
    assert not shell.living()


def test_down_spares_a_program_that_a_cluster_is_part_of(shell: Shell) -> None:
    shell.folder.prepare()
    shell.folder.found(Cluster(node_ports=(shell.port,)))
    shell.folder.note_running({"program": ProcessId.of(os.getpid())})
    refused = shell.down()
    assert refused.returncode == 3
    assert f"part of the program with process id {os.getpid()}" in refused.stderr
    shell.seen.clear()
    shell.folder.note_running({})


def test_down_ends_no_stranger_that_has_the_number_of_a_process_of_before(shell: Shell) -> None:
    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        shell.folder.prepare()
        shell.folder.found(Cluster(node_ports=(shell.port,)))
        shell.folder.note_running({LAUNCHER: ProcessId(stranger.pid, "another boot/1")})
        assert shell.down().returncode == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_command_that_up_shows_for_a_dead_node_brings_it_back_with_its_password(shell: Shell) -> None:
    shell.environment["RINGKEEPER_PASSWORD"] = "sesame"
    assert shell.up().returncode == 0
    name = f"node-{shell.port}"
    try:
        assert shell.type("put", "user:42", "Ada").returncode == 0
        os.kill(shell.running()[name].pid, signal.SIGKILL)
        log = shell.folder.log_file(LAUNCHER)
        wait_until(lambda: f"node {shell.seeds[0]} was killed by signal 9 (SIGKILL); it stays dead" in log.read_text())

        cluster = shell.folder.cluster()
        assert cluster is not None
        words = next(each.arguments for each in programs_of(cluster, shell.folder) if each.name == name)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([*COMMAND, *words], env=shell.environment, **quiet) as again:  # type: ignore[call-overload]
            try:
                assert shell.type("get", "user:42", "--timeout", "30").stdout == "Ada"
                del shell.environment["RINGKEEPER_PASSWORD"]
                refused = shell.type("get", "user:42")
                assert refused.returncode == 3
                assert "password" in refused.stderr
            finally:
                again.terminate()
                assert again.wait(30) == 0
    finally:
        assert shell.down().returncode == 0
