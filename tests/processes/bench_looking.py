"""Measures what it costs clients that somebody looks: a trace that runs, an open `top`, a scrape every second.

    python tests/processes/bench_looking.py [--seconds 5] [--rounds 3] [--clients 50]

Three nodes, three copies. Raw connections write values of 100 bytes, each the next when the last is answered
(``bench_fsync.py``); in each round nobody looks, then each way of looking has its turn. Told are writes answered per
second and processor time of the nodes per write, both as ratios to those of the rounds' turns in which nobody looked,
and how much these differ among themselves: less than that is noise.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import uvloop
from ringkeeper import LocalCluster
from ringkeeper.cli.observing import ClientProcesses, RunningTrace
from ringkeeper.tests.processes.bench_fsync import load, ok, resp_targets

SETTLE_SECONDS = 1.5
"""So long a look runs before it is measured."""
SCRAPE_SECONDS = 1.0
TRACE_SECONDS = 600
TICKS_PER_SECOND = 100


@contextmanager
def nobody(cluster: LocalCluster) -> Iterator[None]:
    yield


@contextmanager
def traced(cluster: LocalCluster) -> Iterator[None]:
    """The journey of a key that nobody writes: every message is looked at, and none kept."""
    with cluster.client() as client:
        processes = ClientProcesses(client)
        trace = RunningTrace(processes, processes.everybody(), "bench", "key", "another", seconds=TRACE_SECONDS)
        yield
        trace.told("UNTRACE")


@contextmanager
def top(cluster: LocalCluster) -> Iterator[None]:
    command = [sys.executable, "-P", "-m", "ringkeeper.cli.main", "top", "--json", "--cluster", cluster.seeds[0]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def scraped(cluster: LocalCluster) -> Iterator[None]:
    known = cluster.folder.cluster()
    assert known is not None
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_SECONDS):
            for port in known.metrics_ports.values():
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as page:
                    page.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


WAYS: dict[str, Callable[[LocalCluster], AbstractContextManager[None]]] = {
    "nobody looks": nobody,
    "a trace of another key": traced,
    "top is open": top,
    "scraped every second": scraped,
}


def processor_seconds(cluster: LocalCluster) -> float:
    """Of all nodes until now."""
    total = 0
    for node in cluster.status()["nodes"]:
        fields = Path(f"/proc/{node['pid']}/stat").read_text().rpartition(") ")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=50)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    with LocalCluster(nodes=3, replicas=3) as cluster:
        targets = resp_targets(cluster.seeds[0])
        uvloop.run(load(targets, ok, options.clients, 1.0))
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                with way(cluster):
                    time.sleep(SETTLE_SECONDS)
                    began, spent = time.monotonic(), processor_seconds(cluster)
                    rate = uvloop.run(load(targets, ok, options.clients, options.seconds))
                    seconds, spent = time.monotonic() - began, processor_seconds(cluster) - spent
                rates[name].append(rate)
                costs[name].append(spent / seconds / rate)
    alone = statistics.median(rates["nobody looks"]), statistics.median(costs["nobody looks"])
    for name in WAYS:
        rate, cost = statistics.median(rates[name]) / alone[0], statistics.median(costs[name]) / alone[1]
        print(
            f"{name}: {rate:.2f} times the writes per second, {cost:.2f} times the processor time a write", flush=True
        )
    for what, figures, middle in (("writes per second", rates, alone[0]), ("processor time a write", costs, alone[1])):
        least, most = min(figures["nobody looks"]) / middle, max(figures["nobody looks"]) / middle
        print(f"{what} while nobody looks: from {least:.2f} to {most:.2f}")


if __name__ == "__main__":
    main()
