"""Measures how long writes stand still when a node dies, and that nothing acknowledged is lost.

    python tests/processes/bench_failover.py [--rounds 100] [--stop] [--nodes 3] [--fsync everysec]

Sixteen writers, half of them our client and half redis-py, each with its own keys and ascending values, work on a
cluster with three copies of each slot. Each round kills a node with SIGKILL (``--stop``: SIGSTOP, and it wakes
after some seconds), waits until it is back and up, and goes on with the next; every twelve rounds on a new cluster.
For every node one thread writes a key that this node coordinates, without a pause: from the signal to the next write of
it that is acknowledged is the time of the round; the longest time between two acknowledgements of the others' keys is
what everybody else feels.

In the end every key is read: it must hold what was acknowledged last, or something in doubt after that.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from ringkeeper import Client, LocalCluster
from ringkeeper.actors.client_errors import ClientError
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import slot as slot_of

PROCESSES, THREADS = 2, 8
KEYS_PER_WRITER = 50
STOP_SECONDS, DEAD_SECONDS = 5.0, 2.0
BACK_SECONDS_MAX = 120.0
ROUNDS_PER_CLUSTER = 12
"""Then a new one takes its place: a node that dies again and again is raised later every time, up to half a minute."""
SETTLE_SECONDS = 0.5
"""Between the end of a round and the next signal, at least."""


def work(number: int, seeds: tuple[str, ...], ending: Any, results: Any) -> None:
    """One process of writers: what was acknowledged last by key, and what was in doubt since."""
    acknowledged: dict[bytes, int] = {}
    doubtful: dict[bytes, set[int]] = {}
    totals: Counter[str] = Counter()

    def run(place: int) -> None:
        nodes = [ClusterNode(*seed.split(":")) for seed in seeds]  # type: ignore[no-untyped-call]
        client: Any = (
            Client(seeds)
            if place % 2
            else RedisCluster(startup_nodes=nodes, retry=Retry(ConstantBackoff(0.01), 3), socket_timeout=5.0)
        )
        choose = random.Random(number * 100 + place)
        for value in count(1):
            if ending.is_set():
                break
            key = b"w%d.%d:%d" % (number, place, choose.randrange(KEYS_PER_WRITER))
            try:
                client.set(key, b"%d" % value)
                acknowledged[key] = value
                doubtful.pop(key, None)
                totals["acknowledged"] += 1
            except (ClientError, redis.RedisError) as error:
                name = type(error).__name__
                totals[f"{name} of {'our client' if place % 2 else 'redis-py'}"] += 1
                doubtful.setdefault(key, set()).add(value)  # redis-py repeats by itself: it cannot know
        client.close()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((acknowledged, doubtful, totals))


class Probe:
    """Writes one key without a pause, and notes when that was acknowledged."""

    def __init__(self, cluster: LocalCluster, key: str) -> None:
        self.moments: list[float] = []
        self._client, self._key = cluster.client(timeout_seconds=2.0), key
        self._ending = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for value in count():
            if self._ending:
                break
            try:
                self._client.set(self._key, str(value))
                self.moments.append(time.monotonic())
            except ClientError:
                pass

    def first_after(self, moment: float) -> float | None:
        """Seconds until a write that was begun after the moment, or in its midst, was acknowledged."""
        later = [each for each in self.moments[-100_000:] if each > moment]
        return later[1] - moment if len(later) > 1 else None  # the first may have been on its way

    def longest_pause(self, begin: float) -> float:
        moments = [begin, *(each for each in self.moments if each > begin)]
        return max((after - before for before, after in zip(moments, moments[1:], strict=False)), default=0.0)

    def stop(self) -> None:
        self._ending = True
        self._thread.join()
        self._client.close()


def is_steady(client: Client, nodes: int) -> bool:
    try:
        ring = Ring.from_json(client.execute("RING", "SHOW"))
    except ClientError:
        return False
    return ring.change is None and sum(node.state == "up" for node in ring.circle) == nodes


def coordinated(client: Client) -> dict[str, str]:
    """A key of each node."""
    ring = Ring.from_json(client.execute("RING", "SHOW"))
    keys: dict[str, str] = {}
    numbers = count()
    while len(keys) < len(ring.circle):
        key = f"probe{next(numbers)}"
        node = ring.coordinators[slot_of(key.encode())]
        if node is not None:
            keys.setdefault(node.id, key)
    return keys


@dataclass
class Figures:
    """What came of the rounds, in seconds, and of the writes."""

    first_write: list[float] = field(default_factory=list)
    pause_of_others: list[float] = field(default_factory=list)
    back_and_up: list[float] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = []
        for name in ("first_write", "pause_of_others", "back_and_up"):
            ordered = sorted(getattr(self, name))
            p50, p90 = (ordered[int(len(ordered) * part)] for part in (0.5, 0.9))
            lines.append(f"{name}: p50 {p50:.3f} s, p90 {p90:.3f} s, most {ordered[-1]:.3f} s")
        lost = f"{len(self.wrong)} acknowledged writes lost or wrong"
        return "\n".join((*lines, str(dict(self.totals)), lost, *self.wrong[:5]))


def play(options: Any, rounds: int, dice: random.Random, figures: Figures) -> None:
    """Some rounds on a new cluster, each node in its turn."""
    context = multiprocessing.get_context("spawn")
    with LocalCluster(nodes=options.nodes, replicas=3, fsync=options.fsync) as cluster, cluster.client() as client:
        keys = coordinated(client)
        probes = {id: Probe(cluster, key) for id, key in keys.items()}
        ending, results = context.Event(), context.Queue()
        workers = [
            context.Process(target=work, args=(number, cluster.seeds, ending, results)) for number in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        time.sleep(2.0)
        turns = [id for _ in range(0, rounds, len(keys)) for id in dice.sample(sorted(keys), len(keys))]
        for victim in turns[:rounds]:
            round_of(options, victim, cluster, client, probes, figures)
        ending.set()
        outcomes = [results.get(timeout=120) for _ in workers]
        for worker in workers:
            worker.join()
        for probe in probes.values():
            probe.stop()
        for acknowledged, doubtful, totals in outcomes:
            figures.totals += totals
            for key, value in acknowledged.items():
                found = int(client.get(key) or 0)
                if found != value and found not in doubtful.get(key, ()):
                    figures.wrong.append(f"{key!r} is {found}, acknowledged was {value}")


def round_of(
    options: Any, victim: str, cluster: LocalCluster, client: Client, probes: dict[str, Probe], figures: Figures
) -> None:
    """One death, or one long pause, and the return. Raises TimeoutError."""
    pid = next(each.pid for each in cluster.processes() if each.id == victim)
    moment = time.monotonic()
    os.kill(pid, signal.SIGSTOP if options.stop else signal.SIGKILL)
    time.sleep(STOP_SECONDS if options.stop else DEAD_SECONDS)
    while (took := probes[victim].first_after(moment)) is None:
        if time.monotonic() - moment > BACK_SECONDS_MAX:
            raise TimeoutError(f"nobody has written for {victim} after {BACK_SECONDS_MAX:.0f} s")
        time.sleep(0.05)
    pause = max(probe.longest_pause(moment) for id, probe in probes.items() if id != victim)
    if options.stop:
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.5)
    else:
        cluster.start_process(victim)
    returning = time.monotonic()
    while not is_steady(client, options.nodes):
        if time.monotonic() - returning > BACK_SECONDS_MAX:
            raise TimeoutError(f"{victim} is not back after {BACK_SECONDS_MAX:.0f} s")
        time.sleep(0.05)
    back = time.monotonic() - returning
    figures.first_write.append(took)
    figures.pause_of_others.append(pause)
    figures.back_and_up.append(back)
    print(
        f"round {len(figures.first_write)}: {victim}, {figures.first_write[-1]:.3f} s to the first write on its slots, "
        f"{pause:.3f} s the longest pause of others, back and up {back:.1f} s after it was started",
        flush=True,
    )
    time.sleep(SETTLE_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--fsync", default="everysec")
    options = parser.parse_args()
    dice, figures = random.Random(1), Figures()
    for first in range(0, options.rounds, ROUNDS_PER_CLUSTER):
        play(options, min(ROUNDS_PER_CLUSTER, options.rounds - first), dice, figures)
    print(figures)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
