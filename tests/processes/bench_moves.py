"""Measures how much longer clients wait while keys move: a node joins a cluster that serves some load.

    python tests/processes/bench_moves.py [KEYS] [VALUE_BYTES] [BYTES_PER_SECOND]

Four clients, each with at most 200 requests a second, half of them writes, on three nodes with three copies; first
while nothing moves, then while a node joins. BYTES_PER_SECOND: the limit that `ringkeeper limit` sets; 0: none.
"""

import sys
import threading
import time

from ringkeeper import LocalCluster

CLIENTS, PAUSE_SECONDS = 4, 0.005
QUIET_SECONDS = 8.0


def main(keys: int = 100_000, value_bytes: int = 100, bytes_per_second: int = 0) -> None:
    with LocalCluster(nodes=3) as cluster:
        with cluster.client() as client:
            for start in range(0, keys, 500):
                with client.pipeline() as pipeline:
                    for each in range(start, min(start + 500, keys)):
                        pipeline.set(b"key:%d" % each, b"v" * value_bytes)
                    pipeline.execute()
            if bytes_per_second:
                client.execute("RING", "LIMIT", "BYTES_PER_SECOND", bytes_per_second)
        waits: list[tuple[float, float]] = []
        ending = threading.Event()
        threads = [threading.Thread(target=ask, args=(cluster, each, keys, waits, ending)) for each in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        quiet = time.monotonic()
        time.sleep(QUIET_SECONDS)
        starting = time.monotonic()
        adding = threading.Thread(target=cluster.add_nodes, args=(1,))
        adding.start()
        begun = moment(cluster, in_flight=True)  # starting a process is not what is measured
        done = moment(cluster, in_flight=False)
        adding.join()
        ending.set()
        for thread in threads:
            thread.join()
    before = shown("nothing moves", [wait for at, wait in waits if quiet <= at < starting])
    during = shown("a node joins", [wait for at, wait in waits if begun <= at < done])
    print(f"the change took {done - begun:.1f} s; p99 is {during / before:.1f} times that of before")


def moment(cluster: LocalCluster, *, in_flight: bool) -> float:
    """When a change is in flight, or no longer."""
    with cluster.client() as client:
        while (client.ring()["change"] is not None) != in_flight:
            time.sleep(0.02)
    return time.monotonic()


def ask(
    cluster: LocalCluster, number: int, keys: int, waits: list[tuple[float, float]], ending: threading.Event
) -> None:
    with cluster.client() as client:
        turn = number
        while not ending.wait(PAUSE_SECONDS):
            turn = (turn * 48271 + 11) % keys
            began = time.monotonic()
            if turn % 2:
                client.set(b"key:%d" % turn, b"w" * 100)
            else:
                client.get(b"key:%d" % turn)
            waits.append((began, time.monotonic() - began))


def shown(what: str, waits: list[float]) -> float:
    """Print the waits; returns their 99th of 100."""
    ordered = sorted(waits)
    at = [ordered[int(len(ordered) * part)] * 1000 for part in (0.5, 0.95, 0.99, 0.999)]
    print(f"{what}: {len(ordered)} requests; ms p50 {at[0]:.1f}, p95 {at[1]:.1f}, p99 {at[2]:.1f}, p99.9 {at[3]:.1f}")
    return at[2]


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
