"""A disk that flips bits under a running node: what a person sees, and that nothing is missing afterwards."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ringkeeper import LocalCluster
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.salvage import FolderSalvage, Salvage, Taken
from ringkeeper.cli.main import ringkeeper
from ringkeeper.runtime.store import Record
from ringkeeper.tests.zookeepers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

VALUES = {f"key:{number}": b"%d " % number * 20 for number in range(300)}


def flip_a_bit(store: Path) -> None:
    """In the middle of the largest table, where the records are."""
    table = max((store / "rocksdb").glob("*.sst"), key=lambda path: path.stat().st_size)
    with table.open("r+b") as file:
        file.seek(table.stat().st_size // 3)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))


def test_a_flipped_bit_is_found_by_verify_and_the_copy_is_made_anew() -> None:
    with LocalCluster(nodes=3, replicas=3) as cluster, cluster.client() as client:

        def run(*words: str) -> Result:
            return CliRunner().invoke(ringkeeper, [*words, "--cluster", cluster.seeds[0]])

        def all_are_up() -> bool:
            return all(node["state"] == "up" for node in cluster.status()["nodes"])

        client.mset(VALUES)
        victim = max(cluster.seeds)
        folder = cluster.folder.node_folder(int(victim.rpartition(":")[2]))
        cluster.kill(victim)
        cluster.start_node(victim)  # which puts what was only in its log into a table
        flip_a_bit(folder / "store")

        found = run("verify")
        assert found.exit_code == 1 and "its copy is damaged" in found.stdout, found.output
        wait_until(lambda: (folder / "aside/store").exists() and all_are_up(), 60)
        equal = run("verify")
        assert equal.exit_code == 0 and "300 keys compared: all copies are equal" in equal.stdout, equal.output
        assert client.mget(list(VALUES)) == list(VALUES.values())

        taken = [Taken(1, key, Record(b"salvaged", 1, 1), None) for key in (b"lost", b"key:1")]
        ring = Ring.from_json(client.execute("RING", "SHOW"))
        Salvage(FolderSalvage(folder)).keep(taken, ring=ring, source=victim, wall_seconds=1e9)
        assert "lost  salvaged  version 1.1, removed by a mirror" in run("salvage", str(folder)).stdout
        back = run("salvage", str(folder), "--put-back")
        assert back.exit_code == 0 and "1 of 2 keys put back" in back.stdout, back.output
        assert (client.get("lost"), client.get("key:1")) == (b"salvaged", VALUES["key:1"])
