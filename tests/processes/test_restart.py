"""A node that starts again, and one whose records have gone meanwhile: real processes on real folders."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ringkeeper import LocalCluster
from ringkeeper.runtime.process import free_port
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PROGRAM = """
import os, sys
from pathlib import Path
from ringkeeper.actors import processes
from ringkeeper.actors.config import NodeConfig
from ringkeeper.runtime.process import configure_log
from ringkeeper.runtime.store import Record

class NodeProcess:
    def __init__(self, process, config, secret, folder, store):
        print(os.getpid(), store.keys, store.closed_cleanly, folder.data_id, folder.incarnation[:8], flush=True)
        if not store.keys:
            store.put(1, b"a", Record(b"value", 1, 1, 0))
            store.commit()
            process.loop.call_soon(process.start_again, "the ring calls it down")
        else:
            process.loop.call_soon(process.close)

    def close(self, done):
        done()

configure_log("info")
processes.NodeProcess = NodeProcess
sys.exit(processes.run_node(NodeConfig(data=Path(sys.argv[1]))))
"""


def test_a_node_closes_its_store_and_its_folder_before_its_next_life_opens_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "node")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first[1] == "0" and first[4] == "00000001"
    assert second == [first[0], "1", "True", first[3], "00000002"]


def test_a_node_that_the_ring_calls_down_starts_again_in_order_and_has_its_data(tmp_path: Path) -> None:
    """It is stopped until the others have found it silent, and goes on then."""
    with LocalCluster(nodes=3, data=tmp_path / "data") as cluster, cluster.client() as client:
        client.set("before", "1")
        pid, id = pid_of_node(cluster), cluster.seeds[0]

        def life() -> tuple[str, str]:
            return next((node["state"], node["incarnation"]) for node in cluster.status()["nodes"] if node["id"] == id)

        state, before = life()
        assert state == "up"
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: life() == ("down", before), 60)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: life() > ("up", before), 60)
        assert client.get("before") == b"1"
        assert pid_of_node(cluster) == pid
        log = cluster.folder.log_file(f"node-{id.rpartition(':')[2]}")
        opened = [line for line in log.read_text().splitlines() if "as its summary says" in line or "counted" in line]
        assert len(opened) == 2 and "as its summary says" in opened[-1]


def pid_of_node(cluster: LocalCluster) -> int:
    (pid,) = {process.pid for process in cluster.processes() if process.id == cluster.seeds[0]}
    assert pid
    return pid


# Records that are gone


def run_node(folder: Path, port: int, until: Callable[[str], bool] | None = None) -> tuple[int, str]:
    """Run a node until its log says something, or until it refuses; returns its exit status and its log."""
    log = folder.with_name("log")
    log.unlink(missing_ok=True)
    words = ["node", "--port", str(port), "--data", str(folder), "--zookeeper", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(
        [sys.executable, "-m", "ringkeeper.cli.main", *words, "--log-file", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            if until is not None:
                wait_until(lambda: log.exists() and until(log.read_text()), 30)
                process.terminate()
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
        return process.returncode, said


def test_a_node_whose_store_was_moved_away_does_not_come_up_without_it(tmp_path: Path) -> None:
    folder, port = tmp_path / "node", free_port(beside=10_000)
    serving = "serves clients on port"
    assert run_node(folder, port, lambda log: serving in log)[0] == 0
    (folder / "store").rename(tmp_path / "store")
    status, said = run_node(folder, port)
    assert status == 3 and "Traceback" not in said
    assert f"the records of 127.0.0.1:{port} are gone" in said and f"Put {folder / 'store'} back" in said
    assert not (folder / "store").exists()
    shutil.move(tmp_path / "store", folder / "store")
    assert run_node(folder, port, lambda log: serving in log)[0] == 0


def test_a_node_that_would_have_to_be_named_by_an_ipv6_address_is_refused_in_a_sentence(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "ringkeeper.cli.main", "node", "--bind", "::1", "--data", str(tmp_path / "node")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 2
    assert "no IPv6 addresses" in refused.stderr and "--advertise" in refused.stderr
    assert not (tmp_path / "node").exists()
