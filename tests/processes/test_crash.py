"""Whole clusters are killed under load, and every acknowledged write must be there afterwards."""

import os
import random
import shutil
import signal
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ringkeeper import Client, ClientError, LocalCluster
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

WRITERS = 4
ROUNDS = 2


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


def zookeeper_is_killed(cluster: LocalCluster, *, with_disk: Path | None = None, put_aside: Path | None = None) -> None:
    """The launcher brings it back; ``with_disk``: on another disk, and its own is put aside."""
    (process,) = (each for each in cluster.processes() if each.kind == "zookeeper")
    if with_disk is not None and put_aside is not None:
        os.kill(process.pid, signal.SIGSTOP)
        (cluster.folder.path / "zookeeper").rename(put_aside)
        with_disk.rename(cluster.folder.path / "zookeeper")
    cluster.kill("zookeeper")


def status_of(cluster: LocalCluster) -> dict[str, Any]:
    """Empty while nobody leads; what is not known is left out."""
    try:
        return {name: value for name, value in cluster.status().items() if value is not None}
    except ClientError:
        return {}


def leads_and_all_are_up(cluster: LocalCluster) -> bool:
    status = status_of(cluster)
    return "leader" in status and status["serving"] and all(node["state"] == "up" for node in status["nodes"])


def test_data_is_served_while_zookeeper_is_away_and_the_ring_survives_it(tmp_path: Path) -> None:
    with LocalCluster(nodes=3, data=tmp_path / "data") as cluster, cluster.client() as client:
        client.set("before", "1")
        epoch = cluster.status()["epoch"]
        zookeeper_is_killed(cluster)
        for number in count():
            client.set(f"key{number}", str(number))
            assert client.get(f"key{number}") == str(number).encode()
            if number > 500 and number % 100 == 0 and leads_and_all_are_up(cluster):
                break
        assert cluster.status()["epoch"] == epoch, "the ring is the one that was there before"
        assert client.get("before") == b"1"


def test_a_zookeeper_with_an_old_disk_is_noticed_and_nothing_is_lost(tmp_path: Path) -> None:
    with LocalCluster(nodes=3, data=tmp_path / "data") as cluster, cluster.client() as client:
        (zookeeper,) = (each for each in cluster.processes() if each.kind == "zookeeper")
        os.kill(zookeeper.pid, signal.SIGSTOP)
        shutil.copytree(cluster.folder.path / "zookeeper", tmp_path / "old")
        os.kill(zookeeper.pid, signal.SIGCONT)
        for verb in "STOP", "START":  # two newer rings
            client.execute("RING", verb)
        wait_until(lambda: leads_and_all_are_up(cluster), 30.0)
        epoch = cluster.status()["epoch"]
        values = {f"key{number}": b"%d" % number for number in range(200)}
        client.mset(values)
        zookeeper_is_killed(cluster, with_disk=tmp_path / "old", put_aside=tmp_path / "newest")
        wait_until(lambda: "rolled back" in status_of(cluster).get("trouble", ""), 30.0)
        assert client.set("key1", b"1"), "the nodes go by the newest ring that they hold"
        assert {key: client.get(key) for key in values} == values
        zookeeper_is_killed(cluster, with_disk=tmp_path / "newest", put_aside=tmp_path / "old")
        wait_until(lambda: leads_and_all_are_up(cluster), 30.0)
        assert cluster.status()["epoch"] >= epoch
        client.mset(values)
        assert {key: client.get(key) for key in values} == values
