"""A network in memory and virtual time, and small worlds of bridges on it."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ringkeeper.runtime.actor import Actor, LocalRef
from ringkeeper.runtime.bridge import Bridge, BridgeConfig
from ringkeeper.runtime.system import ActorSystem
from ringkeeper.runtime.virtual import VirtualLoop


class Pipe(asyncio.Transport):
    """One end of a connection. What is written arrives at the other end later, in order, in other pieces."""

    def __init__(self, network: "PipeNetwork", port: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.network, self.port, self.protocol = network, port, protocol
        self.other: Pipe
        self.writes: list[bytes] = []
        self.waiting = bytearray()
        self.high = 64 << 10
        self.paused = self.closing = self.dead = self.moving = self.mute = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", self.port) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or self.high

    def write(self, data: Any) -> None:
        if self.closing or self.dead:
            return
        self.writes.append(bytes(data))
        self.waiting += data
        self._move_soon()
        if len(self.waiting) > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def close(self) -> None:
        self.closing = True
        self._move_soon()

    def abort(self) -> None:
        self.waiting.clear()
        self.end(None)

    def end(self, error: Exception | None) -> None:
        """The connection is over; the other side notices later."""
        if self.dead:
            return
        self.dead = True
        self.network.pipes.remove(self)
        self.network.loop.call_soon(self.protocol.connection_lost, error)
        if not self.other.dead and not self.mute:
            reset = ConnectionResetError("reset by peer") if self.waiting or not self.closing else None
            self.network.later(self, self._reach_other_end, reset)

    def _reach_other_end(self, error: Exception | None) -> None:
        self.other.waiting.clear()
        self.other.end(error)

    def _move_soon(self) -> None:
        if not self.moving and not self.dead:
            self.moving = True
            self.network.later(self, self._move)

    def _move(self) -> None:
        self.moving = False
        if self.dead or self.other.dead:
            return
        if self.waiting:
            size = self.network.random.randint(1, len(self.waiting)) if self.network.splits else len(self.waiting)
            piece = bytes(self.waiting[:size])
            del self.waiting[:size]
            self.other.protocol.data_received(piece)
            if self.paused and not self.waiting:
                self.paused = False
                self.protocol.resume_writing()
        if self.waiting:
            self._move_soon()
        elif self.closing:
            self.end(None)


@dataclass
class PipeListener:
    network: "PipeNetwork"
    port: int
    protocol: Callable[[], asyncio.Protocol]

    def close(self) -> None:
        self.network.listeners.pop(self.port, None)


@dataclass
class PipeNetwork:
    """Implements ``runtime.world.Network``. Processes are told apart by the ports they listen on."""

    loop: VirtualLoop
    random: random.Random
    delay_seconds: tuple[float, float] = (0.0001, 0.001)
    splits: bool = True
    listeners: dict[int, PipeListener] = field(default_factory=dict)
    pipes: list[Pipe] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    """Ports of processes to and from which nothing gets through any more, without a sign."""
    walled: set[int] = field(default_factory=set)
    """Ports of processes that can dial and cannot be dialed."""
    stuck: list[tuple[Callable[..., object], tuple[Any, ...]]] = field(default_factory=list)
    dials: list[tuple[float, int]] = field(default_factory=list)

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> PipeListener:
        if port in self.listeners:
            raise OSError(98, "Address already in use")
        listener = self.listeners[port] = PipeListener(self, port, protocol)
        return listener

    def connect(
        self,
        host: str,
        port: int,
        protocol: Callable[[], asyncio.Protocol],
        failed: Callable[[OSError], None],
        timeout_seconds: float = 5.0,
    ) -> None:
        self.dials.append((self.loop.time(), port))
        if port in self.silent | self.walled:
            self.loop.call_later(timeout_seconds, failed, TimeoutError(110, "Connection timed out"))
        else:
            self.loop.call_later(self.random.uniform(*self.delay_seconds), self._meet, port, protocol, failed)

    def _meet(self, port: int, protocol: Callable[[], asyncio.Protocol], failed: Callable[[OSError], None]) -> None:
        listener = self.listeners.get(port)
        if listener is None:
            failed(ConnectionRefusedError(111, "Connection refused"))
            return
        here, there = Pipe(self, 0, protocol()), Pipe(self, port, listener.protocol())
        here.other, there.other = there, here
        self.pipes += [here, there]
        there.protocol.connection_made(there)
        here.protocol.connection_made(here)

    def later(self, pipe: Pipe, callback: Callable[..., object], *args: Any) -> None:
        if pipe.port in self.silent or pipe.other.port in self.silent:
            self.stuck.append((callback, args))
        else:
            self.loop.call_later(self.random.uniform(*self.delay_seconds), callback, *args)

    def break_one_side(self, port: int) -> None:
        """The process at ``port`` loses the connections that were dialed to it, and nobody else hears of it."""
        for pipe in [pipe for pipe in self.pipes if pipe.port == port]:
            pipe.mute = True
            pipe.end(ConnectionResetError("reset by peer"))

    def break_all(self) -> None:
        """Every connection breaks, as when a switch is reset."""
        for pipe in list(self.pipes):
            if not pipe.dead:
                pipe.waiting.clear()
                pipe.end(ConnectionResetError("reset by peer"))


class Diary(Actor):
    """Writes down everything it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        self.entries.append(message)


@dataclass
class Home:
    """One process of the world."""

    system: ActorSystem
    bridge: Bridge
    diary: LocalRef

    @property
    def entries(self) -> list[Any]:
        diary = self.diary._actor_weakref()
        assert isinstance(diary, Diary)
        return diary.entries

    def far(self, other: "Home", name: str = "diary") -> Any:
        """A ref here to an actor there."""
        return self.bridge.ref(f"ringkeeper://{other.bridge.address}/{name}")


class World:
    """Processes joined by a PipeNetwork in virtual time."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.loop = VirtualLoop()
        self.network = PipeNetwork(self.loop, self.random)
        self.homes: list[Home] = []

    def home(self, port: int, **config: Any) -> Home:
        system = ActorSystem(loop=self.loop, random=random.Random(self.random.random()), stopwatch=self.loop.time)
        config = {"cluster": "test", "node": f"node-{port}", "port": port, **config}
        bridge = Bridge(system, self.network, BridgeConfig(**config), entropy=self.random.randbytes)
        home = Home(system, bridge, system.spawn(Diary, name="diary"))
        self.homes.append(home)
        return home

    def advance(self, seconds: float = 0.1) -> None:
        self.loop.advance(seconds)

    def close(self) -> None:
        for home in self.homes:
            home.bridge.close()
            home.system.stop()


MakeWorld = Callable[[int], World]
