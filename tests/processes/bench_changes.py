"""Measures what clients see while a node joins and another leaves: errors, wrong reads, waiting times.

    python tests/processes/bench_changes.py [KEYS] [CHANGES]

Sixteen writers and sixteen readers, half of them our client and half redis-py, in four processes, work on a cluster of
three that holds KEYS keys, while CHANGES times a node joins and the node with the most slots leaves. Each writer owns
its keys and gives them ascending values; readers must never see a value older than what was acknowledged before they
asked, or one that was never written. Half of the writers INCR counters that everybody shares: the sums must be exact.
After each change `redis-cli --cluster check` is run, where there is one.
"""

import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from queue import Empty
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from ringkeeper import Client, LocalCluster
from ringkeeper.actors.client_errors import ClientError, InDoubt

PROCESSES, THREADS = 4, 8
"""Of each: so many processes of clients, so many threads in each."""
COUNTERS = 64
KEYS_PER_WRITER = 200


class Ours:
    """Our client."""

    def __init__(self, seeds: tuple[str, ...]) -> None:
        self._client = Client(seeds)

    def set(self, key: bytes, value: bytes) -> None:
        self._client.set(key, value)

    def get(self, key: bytes) -> bytes | None:
        return self._client.get(key)

    def incr(self, key: bytes) -> int:
        return self._client.incr(key)

    def figures(self) -> dict[str, int]:
        now = self._client.statistics
        return {"moved": now.moved, "retries": now.retries, "reconnections": now.reconnections}

    def close(self) -> None:
        self._client.close()


class Theirs:
    """redis-py, as it comes."""

    def __init__(self, seeds: tuple[str, ...]) -> None:
        nodes = [ClusterNode(*seed.split(":")) for seed in seeds]  # type: ignore[no-untyped-call]
        self._client = RedisCluster(startup_nodes=nodes, retry=Retry(ConstantBackoff(0.01), 10))
        self.set, self.get, self.incr = self._client.set, self._client.get, self._client.incr

    def figures(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._client.close()


def work(number: int, seeds: tuple[str, ...], ending: Any, results: Any) -> None:
    """One process of clients."""
    acknowledged: dict[bytes, int] = {}
    totals: Counter[str] = Counter()
    latencies: list[float] = []
    problems: list[str] = []
    lock = threading.Lock()

    def run(place: int) -> None:
        choose = random.Random(number * 100 + place)
        client: Any = (Ours if place % 2 else Theirs)(seeds)
        counts: Counter[str] = Counter()
        mine: list[float] = []
        writes, counting = place < THREADS // 2, place < THREADS // 4
        value = 0
        while not ending.is_set():
            own = f"w{number}.{place if writes else choose.randrange(THREADS // 4, THREADS // 2)}"
            key = f"{own}:{choose.randrange(KEYS_PER_WRITER)}".encode()
            began = time.perf_counter()
            try:
                if counting:
                    client.incr(b"counter:%d" % choose.randrange(COUNTERS))
                    counts["incremented"] += 1
                elif writes:
                    value += 1
                    client.set(key, b"%d" % value)
                    acknowledged[key] = value
                else:
                    least = acknowledged.get(key, 0)
                    found = client.get(key)
                    if int(found or 0) < least:
                        problems.append(f"{key!r} is {found!r}, but {least} was acknowledged before it was read")
                counts["requests"] += 1
            except (ClientError, redis.RedisError) as error:
                counts["errors"] += 1
                counts["in doubt"] += isinstance(error, InDoubt)
                problems.append(f"{type(client).__name__}: {type(error).__name__} {error}")
            mine.append(time.perf_counter() - began)
        counts.update(client.figures())
        client.close()
        with lock:
            totals.update(counts)
            latencies.extend(mine)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies.sort()
    results.put((totals, acknowledged, problems, latencies[:: max(1, len(latencies) // 20_000)] + latencies[-50:]))


def main(keys: int = 100_000, changes: int = 3) -> int:
    context = multiprocessing.get_context("spawn")
    with LocalCluster(nodes=3, replicas=1) as cluster:
        with cluster.client() as client:
            for start in range(0, keys, 1000):
                with client.pipeline() as pipeline:
                    for each in range(start, min(start + 1000, keys)):
                        pipeline.set(b"key:%d" % each, b"%100d" % each)
                    pipeline.execute()
        ending, results = context.Event(), context.Queue()
        workers = [
            context.Process(target=work, args=(number, cluster.seeds, ending, results)) for number in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        time.sleep(3.0)
        problems: list[str] = []
        parked: dict[str, str] = {}
        for _ in range(changes):
            began = time.monotonic()
            cluster.add_nodes(1)
            problems += checked(cluster.seeds[0])
            nodes = [node for node in cluster.status()["nodes"] if node["state"] == "up"]
            leaving = max(nodes, key=lambda node: (node["slots"], node["id"]))["id"]
            parked |= waited(cluster)
            cluster.remove_node(leaving)
            parked |= waited(cluster, leaving)
            problems += checked(cluster.seeds[0])
            print(f"a node joined and {leaving} left in {time.monotonic() - began:.1f} s")
        time.sleep(1.0)
        ending.set()
        totals: Counter[str] = Counter()
        acknowledged: dict[bytes, int] = {}
        latencies: list[float] = []
        for _ in workers:
            try:
                counts, own, found, times = results.get(timeout=60)
            except Empty:
                problems.append("a process of clients has not ended")
                continue
            totals.update(counts)
            acknowledged |= own
            problems += found
            latencies += times
        for worker in workers:
            worker.join(30)
        with cluster.client() as client:
            problems += [f"{k!r} is lost" for k, v in acknowledged.items() if int(client.get(k) or 0) < v]
            for start in range(0, keys, 1000):
                names = [b"key:%d" % each for each in range(start, min(start + 1000, keys))]
                with client.pipeline() as pipeline:
                    for name in names:
                        pipeline.get(name)
                    for name, value in zip(names, pipeline.execute(), strict=True):
                        if value != b"%100d" % int(name[4:]):
                            problems.append(f"{name!r} is {value!r}")
            total = sum(int(client.get(b"counter:%d" % each) or 0) for each in range(COUNTERS))
        exact = total - totals["incremented"]
        if not 0 <= exact <= totals["errors"]:
            problems.append(f"the counters' sum is {total}, {totals['incremented']} INCRs were acknowledged")
    latencies.sort()
    print(dict(totals))
    print(f"{len(acknowledged)} written keys, {keys} older ones; counters: {total} = acknowledged {exact:+d}")
    print("clients: " + ", ".join(f"{n} {1000 * v:.1f} ms" for n, v in quantiles(latencies)))
    print("parked at the nodes, p50/p99.9/most in ms: " + "; ".join(f"{id} {w}" for id, w in sorted(parked.items())))
    for problem in problems[:20]:
        print(f"PROBLEM: {problem}")
    print(f"{len(problems)} problems")
    return 1 if problems else 0


def quantiles(ordered: list[float]) -> list[tuple[str, float]]:
    at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return [(name, ordered[int(len(ordered) * part)]) for name, part in at.items()] + [("most", ordered[-1])]


def waited(cluster: LocalCluster, *lingering: str) -> dict[str, str]:
    """By node, how many requests it has parked, and for how long."""
    found = {}
    with cluster.client() as client:
        for seed in (*cluster.seeds, *lingering):
            try:
                text = bytes(client.execute_on(seed, "INFO", "stats")).decode()
            except ClientError:  # it has left, and ended
                continue
            fields = dict(line.split(":") for line in text.splitlines() if ":" in line)
            if int(fields["total_commands_parked"]):
                names = ("parked_ms_p50", "parked_ms_p999", "parked_ms_max")
                found[seed] = f"{fields['total_commands_parked']}: " + "/".join(fields[name] for name in names)
    return found


def checked(seed: str) -> list[str]:
    """What redis-cli finds wrong."""
    tool = shutil.which("redis-cli")
    if tool is None:
        return []
    ended = subprocess.run([tool, "--cluster", "check", seed], capture_output=True, text=True, timeout=30, check=False)
    right = "All 16384 slots covered" in ended.stdout and "All nodes agree" in ended.stdout
    return [] if right else [f"redis-cli --cluster check: {json.dumps(ended.stdout[-300:])}"]


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
