"""Times what a request costs a node beside the kernel: from bytes read to bytes to be written.

    python tests/actors/bench_path.py [memory|rocksdb]

Parser, gateway, storage node and store as in a node process, on a virtual loop, with transports that take everything.
Prints microseconds of processor time per request, the least of some runs, for turns of the loop in which WIDTH clients
send DEPTH requests each; then what a trace costs: before there ever was one, while one of another key runs, and after
it has ended. Figures of one run compare with each other, not with those of another machine or hour.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringkeeper.actors.gateway import Gateway
from ringkeeper.actors.key_journey import KeyJourney
from ringkeeper.actors.messages import RingChanged
from ringkeeper.actors.storage_node import StorageNode
from ringkeeper.runtime.resp import RespServer
from ringkeeper.runtime.store import open_store
from ringkeeper.runtime.system import ActorSystem, Nobody
from ringkeeper.runtime.tracing import Tracing
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.tests.actors.rules.rings import founded

REQUESTS = 20_000
RUNS = 3
SHAPES = ((1, 1), (3, 1), (10, 1), (3, 16), (10, 16))
"""(clients that speak in one turn, requests that each of them sends)"""
VALUE = b"x" * 100


class Transport:
    """Takes everything at once."""

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, **limits: int) -> None: ...
    def write(self, data: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


class Edge:
    """A network on which nobody listens but the benchmark."""

    protocol: Callable[[], asyncio.Protocol]
    port = 1

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> "Edge":
        self.protocol = protocol
        return self

    def connect(self, *args: Any, **options: Any) -> None: ...
    def close(self) -> None: ...


def request(name: str) -> bytes:
    key = b"key:%012d" % random.randrange(100_000)
    if name == "SET":
        return b"*3\r\n$3\r\nSET\r\n$16\r\n%b\r\n$100\r\n%b\r\n" % (key, VALUE)
    return b"*2\r\n$3\r\nGET\r\n$16\r\n%b\r\n" % key


def main(engine: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loop, edge, ring = VirtualLoop(), Edge(), founded(1)
        system = ActorSystem(loop=loop)
        store = open_store(engine, Path(folder) / "store", cache_bytes=256 << 20)
        me = ring.nodes[0]
        storage = system.spawn(
            StorageNode, id=me.id, incarnation=me.incarnation, store=store, syncer=Nobody(system, "syncer"), pid=1,
            fsync="never", name="storage",
        )  # fmt: skip
        gateway = system.spawn(Gateway, id=me.id, storage=storage, settings={}, name="gateway")
        server = RespServer(loop, edge, "127.0.0.1", 1, gateway)
        clients: list[Any] = [edge.protocol() for _ in range(max(width for width, _ in SHAPES))]
        for client in clients:
            client.connection_made(Transport())
        for actor in storage, gateway:
            actor.tell(RingChanged(ring=ring))
        loop.run_until_idle()

        def run(name: str, width: int, depth: int) -> float:
            turns = [
                [b"".join(request(name) for _ in range(depth)) for _ in range(width)]
                for _ in range(REQUESTS // (width * depth))
            ]
            started = time.process_time()
            for turn in turns:
                for client, data in zip(clients, turn, strict=False):
                    client.data_received(data)
                loop.run_until_idle()
            return (time.process_time() - started) / (len(turns) * width * depth) * 1e6

        run("SET", 10, 16)
        for name in ("SET", "GET"):
            for width, depth in SHAPES:
                least = min(run(name, width, depth) for _ in range(RUNS))
                print(f"{name}  {width:>2} clients, depth {depth:>2}: {least:5.1f} us a request")
        tracing = Tracing(system, subjects={"key": KeyJourney})
        for width, depth in (3, 1), (10, 16):
            never = min(run("SET", width, depth) for _ in range(RUNS))
            running = after = float("inf")
            for _ in range(RUNS):
                tracing.start("t", "key", "another", messages_max=1, seconds=600.0)
                running = min(running, run("SET", width, depth))
                tracing.stop("t")
                after = min(after, run("SET", width, depth))
            print(
                f"SET  {width:>2} clients, depth {depth:>2}: {never:5.1f} us never traced, {running:5.1f} us while "
                f"another key is, {after:5.1f} us afterwards"
            )
        server.close()
        system.stop()
        store.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "rocksdb")
