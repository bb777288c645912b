"""Whole clusters are killed under load, and every acknowledged write must be there afterwards."""

import random
import threading
import time
from pathlib import Path

import pytest
from ringkeeper import Client, ClientError, LocalCluster

pytestmark = pytest.mark.processes

WRITERS = 4
ROUNDS = 3


class Writer(threading.Thread):
    """Writes ever newer values to keys of its own and remembers what was acknowledged, until told to stop."""

    def __init__(self, number: int, client: Client, stopping: threading.Event) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self.number, self.client, self.stopping = number, client, stopping
        self.acknowledged: dict[str, int] = {}
        self.attempted: dict[str, int] = {}
        self.random = random.Random(number)
        self.value = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            key = f"w{self.number}:{self.random.randrange(300)}"
            self.value += 1
            self.attempted[key] = self.value
            try:
                self.client.set(key, str(self.value))
            except ClientError:
                continue  # definitely not, or maybe: either way not acknowledged
            self.acknowledged[key] = self.value


def test_every_acknowledged_write_survives_a_kill_of_everything_at_any_moment(tmp_path: Path) -> None:
    data = tmp_path / "data"
    acknowledged: dict[str, int] = {}
    attempted: dict[str, int] = {}
    for round in range(ROUNDS):
        cluster = LocalCluster(nodes=3, data=data)
        cluster.start()
        try:
            with cluster.client(timeout_seconds=10.0) as client:
                check(client, acknowledged, attempted)
            stopping = threading.Event()
            client = cluster.client(timeout_seconds=2.0)
            writers = [Writer(round * WRITERS + number, client, stopping) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            deadline = time.monotonic() + 20
            while sum(len(w.acknowledged) for w in writers) < 200 * (round + 1) and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            cluster.stop(at_once=True)  # SIGKILL to every process, while the writers write
        stopping.set()
        for writer in writers:
            writer.join(10)
            assert not writer.is_alive()
            acknowledged |= writer.acknowledged
            attempted |= writer.attempted
        client.close()
        assert len(acknowledged) >= 200
    with LocalCluster(nodes=3, data=data) as cluster, cluster.client() as client:
        check(client, acknowledged, attempted)


def check(client: Client, acknowledged: dict[str, int], attempted: dict[str, int]) -> None:
    """What was acknowledged last is there, or a later value that was sent and whose fate was not known."""
    for key, value in acknowledged.items():
        found = client.get(key)
        assert found is not None, f"{key}={value} was acknowledged and is gone"
        assert value <= int(found) <= attempted[key], f"{key}={value} was acknowledged, {found!r} is there"


def test_data_is_served_while_zookeeper_is_away_and_the_ring_survives_it(tmp_path: Path) -> None:
    """The embedded ZooKeeper is killed until every session has been given up, then comes back."""
    with LocalCluster(nodes=3, data=tmp_path / "data") as cluster, cluster.client() as client:
        client.set("before", "1")
        epoch = cluster.status()["epoch"]
        failures: list[ClientError] = []
        requests = 0
        deadline = time.monotonic() + 9.0  # sessions last 6 s
        cluster.kill("zookeeper")
        while time.monotonic() < deadline:
            try:
                client.set(f"key{requests}", str(requests))
                assert client.get(f"key{requests}") == str(requests).encode()
            except ClientError as failure:
                failures.append(failure)
            requests += 2
            time.sleep(0.001)
        assert not failures, failures[:3]
        assert requests > 1000
        deadline = time.monotonic() + 30
        status = {}
        while time.monotonic() < deadline:
            status = cluster.status()
            if status.get("leader") and all(node["state"] == "up" for node in status["nodes"]):
                break
            time.sleep(0.1)
        assert status["serving"] and status["epoch"] == epoch, "the ring is the one that was there before"
        assert client.get("before") == b"1"
