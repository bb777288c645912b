"""Measures what healing costs: nodes that were away under load, and one that is given up for good.

    python tests/processes/bench_healing.py away [SECONDS]... [--megabytes 100] [--value-bytes 1000]
    python tests/processes/bench_healing.py out [--megabytes 100] [--value-bytes 1000]

Four clients, each with at most 200 requests a second, a third of them writes, a few deletions among these.

*away*: three nodes with three copies, one of them killed with SIGKILL and started again after 10 and after 60 seconds.
Bytes that differ: keys and values of what was written meanwhile, each key once, and what was written while the node
was made equal. Bytes sent: everything that passed through the bridge's connections of the node, both ways, from its
start until it was up (the kernel's count, by ``ss``): questions, digests, lists, heartbeats, frames.

*out*: five nodes with three copies, one killed and given up after five seconds; megabytes are those of one copy.
"""

import argparse
import random
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ringkeeper import Client, LocalCluster
from ringkeeper.actors.client_errors import ClientError

CLIENTS, PAUSE_SECONDS = 4, 0.005
QUIET_SECONDS = 10.0
AFTER_SECONDS = 10.0
HEALED_SECONDS_MAX = 1800.0
LOOK_SECONDS = 0.05
KEYS_PER_BATCH = 200
DELETED_OF_WRITTEN = 0.02
OUT_AFTER_SECONDS = 5


class Asked(NamedTuple):
    """One request of a client."""

    at: float
    seconds: float
    written: str  # the key, if it was a write
    size: int  # of key and value
    failed: str


@dataclass
class Load:
    """Clients that read and write until they are ended, and remember it."""

    cluster: LocalCluster
    keys: int
    value_bytes: int
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        dice = random.Random(number)
        with self.cluster.client(timeout_seconds=10.0) as client:
            while not self._ending.wait(PAUSE_SECONDS):
                key, written, size, failed = key_of(dice.randrange(self.keys)), "", 0, ""
                began = time.monotonic()
                try:
                    if dice.random() >= 1 / 3:
                        client.get(key)
                    elif dice.random() < DELETED_OF_WRITTEN:
                        written, size = key, len(key)
                        client.delete(key)
                    else:
                        written, size = key, len(key) + self.value_bytes
                        client.set(key, dice.randbytes(self.value_bytes))
                except ClientError as error:
                    failed = type(error).__name__
                self.asked.append(Asked(began, time.monotonic() - began, written, size, failed))

    def written(self, begin: float, end: float) -> list[Asked]:
        return [each for each in self.asked if each.written and begin <= each.at < end]

    def felt(self, what: str, begin: float, end: float) -> str:
        """What clients felt between two moments."""
        part = [each for each in self.asked if begin <= each.at < end]
        if not part:
            return f"  {what}: no requests"
        waits = sorted(each.seconds * 1000 for each in part)
        p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        failed = sum(bool(each.failed) for each in part)
        names = ", ".join(sorted({each.failed for each in part if each.failed}))
        return (
            f"  clients {what}: {len(part)} requests in {end - begin:.1f} s; p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"most {waits[-1]:.0f} ms; {failed} errors {names}".rstrip()
        )


def key_of(number: int) -> str:
    return f"key:{number:08d}"


def fill(client: Client, keys: int, value_bytes: int) -> None:
    dice = random.Random(0)
    for start in range(0, keys, KEYS_PER_BATCH):
        with client.pipeline() as pipeline:
            for number in range(start, min(start + KEYS_PER_BATCH, keys)):
                pipeline.set(key_of(number), dice.randbytes(value_bytes))
            pipeline.execute()


def passed_through(pid: int) -> int:
    """Bytes that the open connections of a node between processes have carried so far, both ways."""
    told = subprocess.run(("ss", "-tinpHO", "state", "established"), capture_output=True, text=True, check=True).stdout
    total = 0
    for line in told.splitlines():
        ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", line)[:2]]
        if f"pid={pid}," in line and not _of_clients(ports):
            total += sum(int(count) for count in re.findall(r"\bbytes_(?:sent|received):(\d+)", line))
    return total


CLIENT_PORTS: set[int] = set()
"""Of the nodes, and ZooKeeper's: what passes there is not between nodes."""


def _of_clients(ports: list[int]) -> bool:
    return any(port in CLIENT_PORTS for port in ports)


def ring_of(client: Client) -> dict[str, Any]:
    while True:
        try:
            return client.ring()
        except ClientError:
            time.sleep(LOOK_SECONDS)


def is_whole(ring: dict[str, Any], nodes: int) -> bool:
    states = [node["state"] for node in ring["nodes"] if node["state"] != "out"]
    return ring["change"] is None and states == ["up"] * nodes


def wait_until_whole(client: Client, nodes: int, pid: int = 0) -> tuple[float, float, int]:
    """When the change began, when all were up and no change was left, and what had passed through by then."""
    deadline = time.monotonic() + HEALED_SECONDS_MAX
    begun, passed = 0.0, 0
    while time.monotonic() < deadline:
        ring = ring_of(client)
        if begun and is_whole(ring, nodes):
            return begun, time.monotonic(), passed
        if ring["change"] is not None:
            begun = begun or time.monotonic()
            passed = passed_through(pid) if pid else 0
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"not whole after {HEALED_SECONDS_MAX:.0f} s")


def told_by_ring(client: Client) -> str:
    return str(next(write["why"] for write in reversed(ring_of(client)["history"]) if write["outcome"] == "done"))


def away(cluster: LocalCluster, load: Load, client: Client, seconds: float) -> None:
    """One node away for so long, and back."""
    victim = cluster.processes()[-1].id
    quiet = time.monotonic()
    time.sleep(QUIET_SECONDS)
    killed = time.monotonic()
    cluster.kill(victim)
    time.sleep(seconds)
    started = time.monotonic()
    cluster.start_process(victim)
    pid = next(each.pid for each in cluster.processes() if each.id == victim)
    begun, whole, sent = wait_until_whole(client, 3, pid)
    time.sleep(AFTER_SECONDS)
    missed = load.written(killed, begun)
    last = {each.written: each.size for each in missed}
    meanwhile = sum(each.size for each in load.written(begun, whole))
    differ = sum(last.values()) + meanwhile
    print(
        f"away {seconds:.0f} s: {len(last)} keys differ; {differ / 1e6:.2f} MB ({meanwhile / 1e6:.2f} of it written "
        f"while it was made equal); {sent / 1e6:.2f} MB sent, {sent / differ:.2f} times; "
        f"{whole - started:.1f} s from its start to full strength, {whole - begun:.1f} s of it a change"
    )
    print(f"  the ring: {told_by_ring(client)}")
    tell(load, quiet, {"before": killed, "while it was away": started, "while it returned": whole}, AFTER_SECONDS)


def tell(load: Load, began: float, ends: dict[str, float], after_seconds: float) -> None:
    """What clients felt in stretches of time that follow each other, and for so long afterwards."""
    for what, end in {**ends, "after": max(ends.values()) + after_seconds}.items():
        print(load.felt(what, began, end), flush=True)
        began = end


def given_up(cluster: LocalCluster, load: Load, client: Client, keys: int, value_bytes: int) -> None:
    """A node dies for good."""
    victim = cluster.processes()[-1].id
    held = {node["id"]: node["bytes"] for node in cluster.status()["nodes"]}[victim]
    quiet = time.monotonic()
    time.sleep(QUIET_SECONDS)
    killed = time.monotonic()
    cluster.kill(victim)
    begun, whole, _ = wait_until_whole(client, 4)
    time.sleep(AFTER_SECONDS)
    print(
        f"given up: {keys * value_bytes / 1e6:.0f} MB, of which it held {held / 1e6:.1f} MB; three copies everywhere "
        f"{whole - killed:.1f} s after its death, {whole - begun:.1f} s of it a change: "
        f"{held / 1e6 / (whole - begun):.1f} MB/s"
    )
    print(f"  the ring: {told_by_ring(client)}")
    tell(load, quiet, {"before": killed, "until it is given up": begun, "while copies are made": whole}, AFTER_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("away", "out"))
    parser.add_argument("seconds", type=float, nargs="*", default=(10.0, 60.0))
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--value-bytes", type=int, default=1000)
    options = parser.parse_args()
    keys = options.megabytes * 1_000_000 // options.value_bytes
    nodes, out_after = (3, 0) if options.what == "away" else (5, OUT_AFTER_SECONDS)
    with (
        LocalCluster(nodes=nodes, out_after_seconds=out_after) as cluster,
        cluster.client(timeout_seconds=60.0) as client,
    ):
        CLIENT_PORTS.update(int(seed.rpartition(":")[2]) for seed in cluster.seeds)
        CLIENT_PORTS.add(int(cluster.cluster.zookeeper_hosts.rpartition(":")[2]))
        fill(client, keys, options.value_bytes)
        with Load(cluster, keys, options.value_bytes) as load:
            time.sleep(2.0)
            if options.what == "away":
                for seconds in options.seconds:
                    away(cluster, load, client, seconds)
            else:
                given_up(cluster, load, client, keys, options.value_bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
