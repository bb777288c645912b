"""A backup of a loaded cluster, restored into one of another size and with another store; and lines of JSON."""

import itertools
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ringkeeper import LocalCluster
from ringkeeper.cli.main import ringkeeper

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

KEYS = 1500


def type_(cluster: LocalCluster, *words: object) -> Result:
    return CliRunner().invoke(ringkeeper, [*map(str, words), "--cluster", cluster.seeds[0]])


def everything(cluster: LocalCluster) -> dict[bytes, tuple[bytes | None, int]]:
    """By key, its value and when it expires."""
    held: dict[bytes, tuple[bytes | None, int]] = {}
    with cluster.client() as client:
        for node in cluster.seeds:
            cursor: bytes | None = None
            while cursor != b"0":
                cursor, keys = client.execute_on(node, "SCAN", cursor or b"0", "COUNT", 10_000)
                with client.pipeline() as pipeline:
                    for key in keys:
                        pipeline.add("GET", key)
                        pipeline.add("PEXPIRETIME", key)
                    replies = iter(pipeline.execute())
                held |= {key: (next(replies), next(replies)) for key in keys}
    return held


def test_a_backup_of_a_loaded_cluster_of_three_is_equal_in_one_of_five(tmp_path: Path) -> None:
    folder, lines = tmp_path / "backup", tmp_path / "all.jsonl"
    with LocalCluster(nodes=3) as cluster:
        with cluster.client() as client, client.pipeline() as pipeline:
            for number in range(KEYS):
                timing = ("PX", 10_000_000 + number) if number % 5 == 0 else ()
                pipeline.add("SET", b"key:%d" % number, os.urandom(50), *timing)
            pipeline.add("SET", b"empty", b"")
            pipeline.execute()
        acknowledged, ending = 0, threading.Event()

        def load() -> None:
            nonlocal acknowledged
            with cluster.client() as client:
                for number in itertools.count(1):
                    if ending.is_set():
                        return
                    client.set(b"count", b"%d" % number)
                    acknowledged = number

        loading = threading.Thread(target=load)
        loading.start()
        before = acknowledged
        said = type_(cluster, "backup", folder)
        ending.set()
        loading.join()
        assert said.exit_code == 0, said.output
        again = type_(cluster, "backup", folder)
        assert f"{KEYS + 2} keys" in again.stdout and "; 1 of " in again.stdout, (
            "only the slot of the count has changed"
        )
        assert type_(cluster, "export", lines).stdout == f"{KEYS + 2} keys are in {lines}\n"
        refused = type_(cluster, "restore", folder)
        assert refused.exit_code == 3 and "nothing was written" in refused.stderr
        held = everything(cluster)
        assert len(held) == KEYS + 2 and int(held[b"count"][0] or 0) >= before
    with LocalCluster(nodes=5, store="json", data=tmp_path / "five") as cluster:
        said = type_(cluster, "restore", folder)
        assert said.exit_code == 0, said.output
        assert everything(cluster) == held
        with cluster.client() as client:
            client.delete(b"empty")
        assert type_(cluster, "import", lines).exit_code == 0
        assert everything(cluster) == held
    files = [*(tmp_path / "five").glob("**/records.jsonl")]
    assert len(files) == 5 and any('"key": "key:42"' in file.read_text() for file in files)
