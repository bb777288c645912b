"""Bad input to real processes: each gets a clear error, nobody crashes, memory stays bounded, nothing is lost."""

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ringkeeper import Client, LocalCluster
from ringkeeper.runtime.process import free_port

pytestmark = pytest.mark.processes

GROWTH_BYTES_MAX = 256 * 1024 * 1024
"""More than this may no process grow by while it is mistreated; one request alone may take 128 MiB."""

SILENT_SECONDS = 0.5
"""Who has nothing to say is silent for so long."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(nodes=2, data=tmp_path_factory.mktemp("bad") / "data") as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client that finds at the end of the test what it wrote at the beginning, on every node."""
    with cluster.client() as client:
        for number in range(50):
            client.set(f"kept{number}", str(number))
        yield client
        for number in range(50):
            assert client.get(f"kept{number}") == str(number).encode()


def address(seed: str) -> tuple[str, int]:
    host, _, port = seed.rpartition(":")
    return host, int(port)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def say(to: tuple[str, int], data: bytes, until: bytes = b"", seconds_max: float = 20.0) -> bytes:
    """Send bytes, then listen until the other side closes, or has said ``until``; without that until it falls silent
    for a moment."""
    heard = b""
    with socket.create_connection(to, timeout=seconds_max) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(seconds_max if until else SILENT_SECONDS)
            while len(heard) < 1 << 20 and not (until and until in heard) and (part := connection.recv(65536)):
                heard += part
        except (TimeoutError, ConnectionError):
            pass
    return heard


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"*1000000000\r\n", b"-ERR Protocol error: invalid multibulk length"),
        (b"*4294967295\r\n", b"-ERR Protocol error: invalid multibulk length"),
        (b"*2\r\n$3\r\nGET\r\n$1000000000000\r\n", b"-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n:5\r\n", b"-ERR Protocol error: expected '$', got ':'"),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length"),
        (b'SET a "unbalanced\r\n', b"-ERR Protocol error: unbalanced quotes in request"),
        (b"x" * 200_000, b"-ERR Protocol error: too big inline request"),
        (b"NONSENSE 1 2\r\n", b"-ERR unknown command 'NONSENSE'"),
        (b"GET\r\n", b"-ERR wrong number of arguments for 'get' command"),
    ],
)
def test_a_broken_request_is_answered_as_redis_answers_it(
    cluster: LocalCluster, client: Client, sent: bytes, answer: bytes
) -> None:
    assert say(address(cluster.seeds[0]), sent, answer).startswith(answer)


def test_oversized_keys_and_values_are_refused_and_the_connection_goes_on(
    cluster: LocalCluster, client: Client
) -> None:
    key = next(f"big{n}" for n in range(1000) if client.locate(f"big{n}")[1] == cluster.seeds[0])
    value = b"v" * (16 * 1024 * 1024 + 1)
    large = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key.encode(), len(value), value)
    heard = say(address(cluster.seeds[0]), large + b"PING\r\n", b"+PONG\r\n")
    assert heard.startswith(b"-ERR string exceeds maximum allowed size") and heard.endswith(b"+PONG\r\n")
    assert client.get(key) is None
    long = b"{%b}" % key.encode() + b"k" * (64 * 1024)
    ask = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$1\r\n1\r\nPING\r\n" % (len(long), long)
    heard = say(address(cluster.seeds[0]), ask, b"+PONG\r\n")
    assert heard.startswith(b"-ERR a key has 1 to 65536 bytes") and heard.endswith(b"+PONG\r\n")
    exact = b"v" * (16 * 1024 * 1024)
    client.set(key, exact)
    assert client.get(key) == exact
    client.delete(key)


def test_random_bytes_on_every_port_harm_nobody(cluster: LocalCluster, client: Client) -> None:
    chance = random.Random(7)
    processes = {process.id: process.pid for process in cluster.processes() if process.pid}
    before = {id: resident_bytes(pid) for id, pid in processes.items()}
    ports = [address(seed) for seed in cluster.seeds]
    ports += [(host, port + 10_000) for host, port in ports]
    ports += [("127.0.0.1", cluster.cluster.zookeeper_port), ("127.0.0.1", cluster.cluster.ecs_port)]
    for to in ports:
        for size in (1, 3, 17, 1000, 100_000, 2_000_000):
            say(to, chance.randbytes(size))
        say(to, b"\xff\xff\xff\xff" + chance.randbytes(1000))
        say(to, b"\x00\x00\x00\x2d" + bytes(45))
    after = {process.id: process.pid for process in cluster.processes() if process.pid}
    assert after == processes, "no process has died"
    for id, pid in processes.items():
        assert resident_bytes(pid) - before[id] < GROWTH_BYTES_MAX, id
    assert all(node["state"] == "up" for node in cluster.status()["nodes"])


def test_a_client_that_asks_for_much_and_reads_nothing_is_bounded(cluster: LocalCluster, client: Client) -> None:
    key = next(f"wide{n}" for n in range(1000) if client.locate(f"wide{n}")[1] == cluster.seeds[0])
    client.set(key, b"v" * (4 * 1024 * 1024))
    (pid,) = {p.pid for p in cluster.processes() if p.id.endswith(cluster.seeds[0].rpartition(":")[2])}
    before = resident_bytes(pid)
    with socket.create_connection(address(cluster.seeds[0]), timeout=5) as greedy:
        greedy.sendall(b"".join(b"GET %b\r\n" % key.encode() for _ in range(2000)))
        client.set("other", "1")
        assert client.get("other") == b"1"
        assert resident_bytes(pid) - before < 3 * GROWTH_BYTES_MAX
    client.delete(key)


# Processes that cannot start


def start(*words: str, **more: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ringkeeper.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


def refusal(*words: str) -> str:
    """What a process says that must refuse to start."""
    process = start(*words)
    try:
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode not in (0, 70), said
    assert "Traceback" not in said, said
    return said


def test_a_port_in_use_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    port = free_port(beside=10_000)
    with socket.create_server(("127.0.0.1", port)):
        said = refusal("node", "--port", str(port), "--data", str(tmp_path / "node"))
    assert f"port {port} on 127.0.0.1 is in use" in said and "Warning" not in said


def test_a_folder_of_another_node_or_a_newer_release_or_a_stranger_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    port = free_port(beside=10_000)
    (folder / "node.json").write_text(json.dumps({"format": 1, "id": "10.0.0.1:7001", "data_id": "a" * 16, "lives": 3}))
    assert "holds the data of 10.0.0.1:7001" in refusal("node", "--port", str(port), "--data", str(folder))
    (folder / "node.json").write_text(
        json.dumps({"format": 99, "id": f"127.0.0.1:{port}", "data_id": "a" * 16, "lives": 3})
    )
    assert "newer release" in refusal("node", "--port", str(port), "--data", str(folder))
    stranger = tmp_path / "papers"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("do not touch")
    assert "none that says it is a node's folder" in refusal("node", "--port", str(port), "--data", str(stranger))
    assert [each.name for each in stranger.iterdir() if each.name != "LOCK"] == ["thesis.txt"]


def test_beyond_loopback_a_secret_is_required_and_must_be_kept(tmp_path: Path) -> None:
    assert "secret" in refusal("node", "--bind", "0.0.0.0", "--advertise", "here", "--data", str(tmp_path / "a"))
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    secret.chmod(0o644)
    said = refusal("node", "--data", str(tmp_path / "b"), "--secret-file", str(secret))
    assert "chmod 600" in said
    assert not (tmp_path / "b").exists()


def test_a_node_that_finds_no_zookeeper_says_so_tries_on_and_ends_in_order(tmp_path: Path) -> None:
    port = free_port(beside=10_000)
    log = tmp_path / "log"
    nowhere = f"127.0.0.1:{free_port()}"
    node = start(
        "node", "--port", str(port), "--data", str(tmp_path / "n"), "--zookeeper", nowhere, "--log-file", str(log)
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (log.exists() and "cannot be reached" in log.read_text()):
            time.sleep(0.05)
        assert f"ZooKeeper at {nowhere} cannot be reached" in log.read_text()
        assert say(("127.0.0.1", port), b"GET a\r\n", b"-CLUSTERDOWN").startswith(b"-CLUSTERDOWN")
        assert node.poll() is None
    finally:
        node.terminate()
        node.communicate(timeout=30)
    assert node.returncode == 0
