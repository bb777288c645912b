"""Times a live handoff: a second node joins one that holds everything, and half of it moves.

For each size of values: keys and bytes per second from the beginning of the change to the moment when all learners had
caught up, beside a plain copy of as many bytes over a loopback connection between two processes; how long the whole
change took; and what a client that reads and writes all the time saw before and meanwhile (p50, p99, most).

    python tests/processes/bench_handoff.py [KEYS] [VALUE_BYTES]...

Figures are of this machine and this moment; compare those of one run with each other.
"""

import multiprocessing
import socket
import sys
import threading
import time

from ringkeeper import Client, LocalCluster

PIECE_BYTES = 256 * 1024
KEYS_PER_BATCH = 500
SECONDS_BEFORE = 3.0


def main(keys: int = 200_000, sizes: tuple[int, ...] = (100, 16 * 1024)) -> None:
    for size in sizes:
        count = min(keys, 600_000_000 // size)
        with LocalCluster(nodes=1, replicas=1) as cluster:
            with cluster.client(timeout_seconds=30.0) as client:
                fill(client, count, size)
                watch = Bystander(cluster.client())
                time.sleep(SECONDS_BEFORE)
                before = watch.take()
                cluster.add_nodes(1)
                meanwhile = watch.take()
                watch.stop()
                writes = {write["what"].rpartition(": ")[2]: write for write in client.ring()["history"]}
            status = {node["id"]: node["keys"] for node in cluster.status()["nodes"]}
        seconds = writes["switch"]["wall_seconds"] - writes["begun"]["wall_seconds"]
        whole = writes["done"]["wall_seconds"] - writes["begun"]["wall_seconds"]
        moved = status[max(status)]
        copied = moved * size / copy_seconds(moved * size)
        rate = moved * size / seconds
        print(
            f"{size:6d} bytes: {moved} keys moved in {seconds:.2f} s: {moved / seconds:,.0f} keys/s, "
            f"{rate / 1e6:.1f} MB/s, {rate / copied:.3f} of a plain copy ({copied / 1e6:,.0f} MB/s); "
            f"the whole change {whole:.2f} s"
        )
        print(f"        a client before: {summed_up(before)}; meanwhile: {summed_up(meanwhile)}")


def fill(client: Client, count: int, size: int) -> None:
    value = bytes(range(256)) * (size // 256 + 1)
    for start in range(0, count, KEYS_PER_BATCH):
        with client.pipeline() as pipeline:
            for number in range(start, min(start + KEYS_PER_BATCH, count)):
                pipeline.set(b"key:%08d" % number, value[number % 200 : number % 200 + size][:size].ljust(size, b"."))
            pipeline.execute()


class Bystander:
    """A client that reads and writes on a thread of its own, and remembers how long each request took."""

    def __init__(self, client: Client) -> None:
        self._client, self._seconds = client, list[float]()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def take(self) -> list[float]:
        """The seconds of the requests since the last take."""
        taken, self._seconds = self._seconds, []
        return taken

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            key = b"bystander:%d" % (number % 1000)
            started = time.perf_counter()
            if number % 2:
                self._client.set(key, b"x" * 100)
            else:
                self._client.get(key)
            self._seconds.append(time.perf_counter() - started)
            time.sleep(0.001)


def summed_up(seconds: list[float]) -> str:
    if not seconds:
        return "nothing"
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return (
        f"p50 {1000 * p50:.2f} ms, p99 {1000 * p99:.2f} ms, most {1000 * ordered[-1]:.1f} ms ({len(ordered)} requests)"
    )


def copy_seconds(size: int) -> float:
    """How long it takes to send so many bytes to another process and to hear that all have come."""
    listener = socket.create_server(("127.0.0.1", 0))
    reader = multiprocessing.Process(target=_read, args=(listener, size))
    reader.start()
    with socket.create_connection(listener.getsockname()) as connection:
        piece = bytes(PIECE_BYTES)
        started = time.perf_counter()
        for _ in range(size // PIECE_BYTES + 1):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        seconds = time.perf_counter() - started
    reader.join()
    listener.close()
    return seconds


def _read(listener: socket.socket, size: int) -> None:
    connection, _ = listener.accept()
    with connection:
        while connection.recv(PIECE_BYTES):
            pass
        connection.sendall(b".")


if __name__ == "__main__":
    keys, *sizes = (int(word) for word in sys.argv[1:]) if sys.argv[1:] else (200_000,)
    main(keys, tuple(sizes) or (100, 16 * 1024))
