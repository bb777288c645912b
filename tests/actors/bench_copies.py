"""Times what a write costs all three nodes that keep it, beside the kernel: from bytes read to bytes to be written.

    python tests/actors/bench_copies.py [memory|rocksdb]

Parsers, gateways, storage nodes, replicators, bridges, replicas and stores as in node processes, of three nodes on one
virtual loop; what one writes into a socket the other reads at its next turn. Prints microseconds of processor time per
SET, of all three nodes and of all threads, the least of some runs, for turns in which WIDTH clients of each node send
DEPTH requests each. Figures of one run compare with each other, not with those of another machine or hour.
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
from ringkeeper.actors.messages import RingChanged
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules.ring import Node, Ring
from ringkeeper.actors.rules.slots import slot
from ringkeeper.actors.storage_node import StorageNode
from ringkeeper.runtime.bridge import Bridge, BridgeConfig
from ringkeeper.runtime.resp import RespServer
from ringkeeper.runtime.store import open_store
from ringkeeper.runtime.system import ActorSystem, Nobody
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.tests.actors.rules.rings import founded

REQUESTS = 6_000
RUNS = 4
WARMING_RUNS = 8
"""After these nearly all keys are there."""
SHAPES = ((1, 1), (4, 1), (4, 16))
"""(clients of each node that speak in one turn, requests that each of them sends)"""
KEYS = 20_000
VALUE = b"x" * 100


class Pipe:
    """One end of a connection: what is written here is read there at the next turn."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.there: asyncio.Protocol | None = None

    def write(self, data: bytes) -> None:
        if self.there is not None:
            self.loop.call_soon(self.there.data_received, data)

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, **limits: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class Wires:
    """A network without a kernel."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.listeners: dict[int, Callable[[], asyncio.Protocol]] = {}

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> Any:
        self.listeners[port] = protocol
        return Bound(port)

    def connect(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol], *_: Any) -> None:
        def made() -> None:
            dialing, accepted = protocol(), self.listeners[port]()
            here, there = Pipe(self.loop), Pipe(self.loop)
            here.there, there.there = accepted, dialing
            accepted.connection_made(there)  # type: ignore[arg-type]
            dialing.connection_made(here)  # type: ignore[arg-type]

        self.loop.call_soon(made)


class Bound:
    def __init__(self, port: int) -> None:
        self.port = port

    def close(self) -> None: ...


class One:
    """A node and its clients."""

    def __init__(self, loop: VirtualLoop, wires: Wires, node: Node, engine: str, folder: Path, ring: Ring) -> None:
        self.system = ActorSystem(loop=loop, registered=False)
        config = BridgeConfig(cluster="bench", node=node.id, port=node.bridge_port, incarnation=node.incarnation)
        self.bridge = Bridge(self.system, wires, config)
        self.store = open_store(engine, folder / node.id, cache_bytes=256 << 20)
        nobody = Nobody(self.system, "syncer")
        storage = self.system.spawn(
            StorageNode, id=node.id, incarnation=node.incarnation, store=self.store, syncer=nobody, pid=1,
            fsync="never", name="storage",
        )  # fmt: skip
        self.system.spawn(
            Replica, id=node.id, incarnation=node.incarnation, store=self.store, syncer=nobody, keeps_synced=False,
            name="replica",
        )  # fmt: skip
        gateway = self.system.spawn(Gateway, id=node.id, storage=storage, settings={}, name="gateway")
        self.server = RespServer(loop, wires, "127.0.0.1", node.port, gateway)
        self.clients: list[Any] = [wires.listeners[node.port]() for _ in range(max(width for width, _ in SHAPES))]
        for client in self.clients:
            client.connection_made(Pipe(loop))
        self.actors = [self.system.find(name) for name in ("replica", "storage", "gateway")]
        own = {each for run in ring.coordinated_by(node.id) for each in range(run.first, run.last + 1)}
        self.keys = [key for key in (b"key:%012d" % number for number in range(KEYS)) if slot(key) in own]

    def requests(self, name: str, depth: int) -> bytes:
        form = b"*3\r\n$3\r\nSET\r\n$16\r\n%b\r\n$100\r\n" + VALUE + b"\r\n"
        if name == "GET":
            form = b"*2\r\n$3\r\nGET\r\n$16\r\n%b\r\n"
        return b"".join(form % key for key in random.choices(self.keys, k=depth))


def main(engine: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loop, ring = VirtualLoop(), founded(3, replicas=3)
        wires = Wires(loop)
        nodes = [One(loop, wires, node, engine, Path(folder), ring) for node in ring.nodes]
        for each in nodes:
            for actor in each.actors:
                assert actor is not None
                actor.tell(RingChanged(ring=ring))
        loop.advance(2.0)

        def run(name: str, width: int, depth: int) -> float:
            turns = [
                [[node.requests(name, depth) for _ in range(width)] for node in nodes]
                for _ in range(REQUESTS // (len(nodes) * width * depth))
            ]
            spent = 0.0
            for turn in turns:
                started = time.process_time()
                for node, sent in zip(nodes, turn, strict=True):
                    for client, data in zip(node.clients, sent, strict=False):
                        client.data_received(data)
                loop.run_until_idle()
                spent += time.process_time() - started
                loop.advance(0.002)
                assert not any(client.unanswered for node in nodes for client in node.clients)
            return spent / (len(turns) * len(nodes) * width * depth) * 1e6

        for _ in range(WARMING_RUNS):
            run("SET", 4, 16)
        for name in ("SET", "GET"):
            for width, depth in SHAPES:
                least = min(run(name, width, depth) for _ in range(RUNS))
                print(f"{name}  {width:>2} clients, depth {depth:>2}: {least:5.1f} us a request", flush=True)
        for each in nodes:
            each.server.close()
            each.system.stop()
            each.store.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "rocksdb")
