"""Compares writes that wait for the disk: ours, those of a Redis Cluster, and those of an etcd of three.

    python tests/processes/bench_fsync.py [--seconds 8] [--rounds 3] [--clients 50] [--etcd /usr/bin/etcd]

Ours: three nodes, three copies of each slot, ``fsync always``; a write is answered when it is on all three disks.
Redis: three primaries with two replicas each, ``appendfsync always``; answered when it is on the primary's. etcd: three
members that sync every write; answered when it is on two of three. All on this machine's disk, in turn, each alone.

One program plays all clients over raw connections: each writes a value of 100 bytes to a random one of 100 000 keys and
waits for the answer. Those of a RESP server ask the node that has the key; those of etcd ask its leader, over its HTTP
gateway (JSON), which costs it a hop inside. What is not installed is left out.
"""

import argparse
import asyncio
import base64
import json
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
import uvloop
from ringkeeper import LocalCluster
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.runtime.process import free_port

KEYS, VALUE = 100_000, b"v" * 100
REQUESTS_PER_CONNECTION = 500
"""Made before it is measured, and sent again and again."""
WARM_SECONDS = 1.0
START_SECONDS_MAX = 30.0

Target = tuple[str, int, list[bytes]]
"""Where to connect to, and the requests for those there."""


# The clients


class Writer(asyncio.Protocol):
    """One connection: a request, the answer, the next request."""

    def __init__(self, requests: list[bytes], is_whole: Callable[[bytes], bool]) -> None:
        self.requests, self.is_whole = requests, is_whole
        self.answered, self.heard = 0, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.requests[0])

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if self.is_whole(self.heard):
            self.answered += 1
            self.heard = b""
            self.transport.write(self.requests[self.answered % len(self.requests)])


def ok(reply: bytes) -> bool:
    """Whether a RESP server has answered a SET; anything but OK is a failure of the bench."""
    assert b"+OK\r\n".startswith(reply), f"a write was answered {reply!r}"
    return len(reply) == 5


def created(answer: bytes) -> bool:
    """Whether etcd's gateway has answered a put."""
    head, end, body = answer.partition(b"\r\n\r\n")
    assert not head[9:12] or head[9:12] == b"200", f"a write was answered {answer!r}"
    length = re.search(rb"Content-Length: (\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


async def load(targets: list[Target], is_whole: Callable[[bytes], bool], clients: int, seconds: float) -> float:
    """Writes answered per second."""
    loop = asyncio.get_running_loop()
    writers = []
    for number in range(clients):
        host, port, requests = targets[number % len(targets)]
        some = random.Random(number).choices(requests, k=REQUESTS_PER_CONNECTION)
        _, writer = await loop.create_connection(lambda some=some: Writer(some, is_whole), host, port)  # type: ignore[misc]
        writers.append(writer)
    await asyncio.sleep(WARM_SECONDS)
    before, began = sum(writer.answered for writer in writers), time.monotonic()
    await asyncio.sleep(seconds)
    assert all(writer.answered for writer in writers), "a connection was never answered"
    rate = (sum(writer.answered for writer in writers) - before) / (time.monotonic() - began)
    for writer in writers:
        writer.transport.abort()
    return rate


# Who is asked


def resp_targets(seed: str) -> list[Target]:
    """The nodes that a RESP server names, each with SETs of keys that are its own."""
    host, _, port = seed.rpartition(":")
    with redis.Redis(host=host, port=int(port), protocol=2) as client:
        runs: Any = client.execute_command("CLUSTER", "SLOTS")
    owners = {}
    for run in runs:
        first, last, (host, port, *_) = run[0], run[1], run[2]
        owners.update(dict.fromkeys(range(int(first), int(last) + 1), (host.decode(), int(port))))
    requests: dict[tuple[str, int], list[bytes]] = {}
    for number in range(KEYS):
        key = b"key:%06d" % number
        words = b"*3\r\n$3\r\nSET\r\n$10\r\n%b\r\n$%d\r\n%b\r\n" % (key, len(VALUE), VALUE)
        requests.setdefault(owners[slot_of(key)], []).append(words)
    return [(host, port, some) for (host, port), some in sorted(requests.items())]


@contextmanager
def programs() -> Iterator[Callable[..., None]]:
    """Starts programs; ends them in the end."""
    with ExitStack() as ending:

        def start(*command: str, cwd: Path) -> None:
            with (cwd / "log").open("wb") as log:
                process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)
            ending.callback(process.wait)
            ending.callback(process.send_signal, signal.SIGKILL)

        yield start


def insist(try_it: Callable[[], Any]) -> Any:
    """What it gives once it does not fail any more."""
    end = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            return try_it()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def ours(options: Any, _: Path) -> float:
    with LocalCluster(nodes=3, replicas=3, fsync="always") as cluster:
        return uvloop.run(load(resp_targets(cluster.seeds[0]), ok, options.clients, options.seconds))


def redis_cluster(options: Any, folder: Path) -> float:
    ports = [free_port(beside=10_000) for _ in range(9)]
    with programs() as start:
        for port in ports:
            home = folder / str(port)
            home.mkdir()
            settings = ("--cluster-enabled", "yes", "--appendonly", "yes", "--appendfsync", "always", "--save", "")
            start("redis-server", "--port", str(port), *settings, cwd=home)
        seeds = [f"127.0.0.1:{port}" for port in ports]
        create = ("redis-cli", "--cluster", "create", *seeds, "--cluster-replicas", "2", "--cluster-yes")
        insist(lambda: subprocess.run(create, check=True, stdout=subprocess.DEVNULL))
        found = redis.Redis(port=ports[0])

        def serves() -> None:
            assert b"cluster_state:ok" in found.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
            assert all(len(run) == 5 for run in found.execute_command("CLUSTER", "SLOTS"))  # type: ignore[no-untyped-call]

        insist(serves)
        return uvloop.run(load(resp_targets(seeds[0]), ok, options.clients, options.seconds))


def etcd(options: Any, folder: Path) -> float:
    ports = [(free_port(), free_port()) for _ in range(3)]
    cluster = ",".join(f"m{number}=http://127.0.0.1:{peer}" for number, (_, peer) in enumerate(ports))
    with programs() as start:
        for number, (client, peer) in enumerate(ports):
            home = folder / f"m{number}"
            home.mkdir()
            urls = {"client": f"http://127.0.0.1:{client}", "peer": f"http://127.0.0.1:{peer}"}
            start(
                *(options.etcd, "--name", f"m{number}", "--data-dir", str(home / "data")),
                *("--listen-client-urls", urls["client"], "--advertise-client-urls", urls["client"]),
                *("--listen-peer-urls", urls["peer"], "--initial-advertise-peer-urls", urls["peer"]),
                *("--initial-cluster", cluster),
                cwd=home,
            )
        addresses = [f"127.0.0.1:{client}" for client, _ in ports]

        def leads(address: str) -> bool:
            asked = urllib.request.Request(f"http://{address}/v3/maintenance/status", data=b"{}")
            with urllib.request.urlopen(asked, timeout=2.0) as answer:
                status = json.load(answer)
            return bool(status["leader"] == status["header"]["member_id"])

        leader: str = insist(lambda: next(address for address in addresses if leads(address)))
        host, _, port = leader.rpartition(":")
        requests = []
        for number in range(KEYS):
            put = {"key": b"key:%06d" % number, "value": VALUE}
            body = json.dumps({name: base64.b64encode(each).decode() for name, each in put.items()})
            head = f"POST /v3/kv/put HTTP/1.1\r\nHost: {leader}\r\nContent-Length: {len(body)}\r\n\r\n"
            requests.append(f"{head}{body}".encode())
        return uvloop.run(load([(host, int(port), requests)], created, options.clients, options.seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--etcd", default=shutil.which("etcd") or "")
    options = parser.parse_args()
    runs: dict[str, Callable[[Any, Path], float]] = {"ours": ours}
    if shutil.which("redis-server"):
        runs["Redis"] = redis_cluster
    if options.etcd:
        runs["etcd"] = etcd
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                rates[name].append(run(options, Path(folder)))
            print(f"{name}: {rates[name][-1]:,.0f} writes per second", flush=True)
    middle = {name: statistics.median(each) for name, each in rates.items()}
    for name, rate in middle.items():
        print(f"{name}: {rate:,.0f} writes per second; ours are {middle['ours'] / rate:.2f} times that")


if __name__ == "__main__":
    main()
