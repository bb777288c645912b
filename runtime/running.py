"""Runs an actor system on a thread of its own, for programs that have other things to do on theirs.

    with running_system(BridgeConfig(cluster="demo", node="ann")) as system:
        greeter = system.spawn(Greeter, name="greeter")
        greeter.ask(Greet(whom="bob"), timeout=1)

A program that is an asyncio program already needs none of this: ``ActorSystem(loop=asyncio.get_running_loop())`` lives
on that loop, and what ``ask(..., block=False)`` gives can be awaited there.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .bridge import Bridge, BridgeConfig
from .network import TcpNetwork
from .process import Process
from .system import ActorSystem


class _Contents:
    """What runs in the process' place: a bridge, if one is wanted."""

    def __init__(self, process: Process, config: BridgeConfig | None) -> None:
        network = TcpNetwork(process.loop)
        self._bridge = None if config is None else Bridge(process.system, network, config)

    def close(self, done: Callable[[], None]) -> None:
        if self._bridge is None:
            done()
        else:
            self._bridge.close(done=done)


@contextmanager
def running_system(bridge: BridgeConfig | None = None, *, name: str = "actors") -> Iterator[ActorSystem]:
    """An actor system that lives as long as the block, reachable from other processes by ``bridge`` if given.

    Raises OSError when the bridge's port is taken, and at the end what the loop was broken off by, if it was. Then its
    actors are stopped, whatever is in their mailboxes.
    An actor that fails for good leaves the others running, unless ``system.on_escalation`` does something about it,
    which is called on the loop's thread.
    """
    made: list[Process] = []
    failures: list[BaseException] = []
    ready = threading.Event()

    def make(process: Process) -> _Contents:
        process.system.on_escalation = process.system.nobody_above
        contents = _Contents(process, bridge)
        made.append(process)
        process.loop.call_soon(ready.set)
        return contents

    def run() -> None:
        try:
            Process(name).run(make)
        except BaseException as failure:
            failures.append(failure)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    ready.wait()
    if not made or failures:
        thread.join()
        raise failures[0]
    process = made[0]
    try:
        yield process.system
    finally:
        with suppress(RuntimeError):  # the loop has ended by itself, and failures says why
            process.loop.call_soon_threadsafe(process.close)
        thread.join()
    if failures:
        raise failures[0]
