"""Carries bytes between simulated processes as TCP does, and lets everything happen to them that happens to TCP.

To a process its ``ProcessNetwork`` is the ``Network`` of ``runtime/world.py``; protocols and transports behave like
asyncio's. What is written leaves in segments that arrive later, in order, one after the other; a busy receiver finds
several of them in one read, and some are torn in two. The receiver's kernel takes ``WINDOW_BYTES`` and no more, so a
paused or slow process makes its peers' transports fill up and ask to pause.

    connect -> accepted by the kernel -> connection_made at both ends -> bytes -> end of stream, reset or silence

Between two processes, by name and in one direction at a time:

    cut      nothing gets through. As with TCP nothing is lost either: it is sent again once the cut has healed, which
             a connection that both sides have kept until then does not notice otherwise. A dial ends by its time-out
    delay    everything arrives so much later

and to a process as a whole: *killed*, its machine closes its connections (the peers read the end of the stream, or a
reset); *silent*, as after a power cut, nobody is told, and who speaks to it is reset once it is up again. A connection
may also be reset by the network itself.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .process import SimulatedProcess
    from .world import SimulatedWorld

LATENCY_SECONDS = (50e-6, 400e-6)
"""How long a segment is on its way, at least and usually at most."""

SPIKE_PROBABILITY, SPIKE_SECONDS_MAX = 0.002, 0.03
"""Now and then one takes longer."""

TORN_PROBABILITY = 0.05
"""How often a segment arrives in two parts."""

WINDOW_BYTES = 256 << 10
"""What is on its way in one direction of a connection, or arrived and not read."""

READ_BYTES_MAX = 256 << 10
"""As much as one read takes."""

HIGH_WATER_BYTES = 64 << 10
"""What may wait in a transport before its protocol is asked to pause, unless it says otherwise."""

DIAL_AGAIN_SECONDS = 1.0
"""A dial that nobody answers is repeated after so long, and then after twice as long each time."""

RESEND_SECONDS_MAX = 10.0
"""What was held up by a cut is sent again at most so long after the cut has healed."""

EPHEMERAL_PORT = 40_000
"""Where the ports begin that are given to whoever asks for any."""

Pair = tuple[str, str]


class SimulatedListener:
    """A bound port."""

    def __init__(
        self, process: SimulatedProcess, host: str, port: int, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self.process, self.host, self.port, self.protocol = process, host, port, protocol

    def close(self) -> None:
        listeners = self.process.world.network.listeners
        if listeners.get((self.host, self.port)) is self:
            del listeners[self.host, self.port]


class ProcessNetwork:
    """Implements ``runtime.world.Network`` for one life of a process."""

    def __init__(self, network: SimulatedNetwork, process: SimulatedProcess) -> None:
        self._network, self._process = network, process

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> SimulatedListener:
        """Bind at once (port 0: a free one). Raises OSError when the port is taken."""
        return self._network.listen(self._process, host, port, protocol)

    def connect(
        self,
        host: str,
        port: int,
        protocol: Callable[[], asyncio.Protocol],
        failed: Callable[[OSError], None],
        timeout_seconds: float = 5.0,
    ) -> None:
        """Dial; later either ``protocol().connection_made`` or ``failed``, never both."""
        _Dial(self._network, self._process, host, port, protocol, failed, timeout_seconds)


class Tap(Protocol):
    """Whoever wants to know what goes over the connections."""

    def wrote(self, end: End, data: bytes) -> None:
        """A process has written this to its end of a connection."""

    def read(self, end: End, data: bytes) -> None:
        """A process reads this now from its end."""


class SimulatedNetwork:
    """The network between all processes of a world, and its faults."""

    def __init__(self, world: SimulatedWorld) -> None:
        self.world = world
        self.listeners: dict[tuple[str, int], SimulatedListener] = {}
        self.ends: dict[End, None] = {}
        """Those that are not over, in the order in which they were made."""
        self.random = world.stream("network")
        self.latency_seconds = LATENCY_SECONDS
        self._hosts: dict[tuple[str, int], str] = {}
        """Whose a port is, also while nobody listens there."""
        self._without_power: dict[str, None] = {}
        self.cuts: dict[Pair, None] = {}
        """What gets through from whom to whom: nothing."""
        self._delays: dict[Pair, float] = {}
        self._next_port = EPHEMERAL_PORT
        self.tap: Tap | None = None
        """Hears everything that is written and read, and must change nothing."""

    def of(self, process: SimulatedProcess) -> ProcessNetwork:
        return ProcessNetwork(self, process)

    # Faults

    def cut(self, sender: str, to: str) -> None:
        """From now on nothing of a process gets through to another; cut the other direction as well for a partition."""
        self.cuts[sender, to] = None
        self.world.happened("*", f"cut {sender} -> {to}")

    def mend(self, sender: str | None = None, to: str | None = None) -> None:
        """End the cuts from a process to another; from or to any, if it is not given."""
        mended = [pair for pair in self.cuts if sender in (None, pair[0]) and to in (None, pair[1])]
        for pair in mended:
            del self.cuts[pair]
            self.world.happened("*", f"mend {pair[0]} -> {pair[1]}")
        for end in list(self.ends):
            if (end.process.name, end.other.process.name) in mended:
                end.send_again()

    def delay(self, sender: str, to: str, seconds: float) -> None:
        """From now on everything from a process to another arrives so much later; 0 ends it."""
        self._delays[sender, to] = seconds
        self.world.happened("*", f"delay {sender} -> {to} {seconds:g}")

    def reset(self, one: str, other: str) -> int:
        """Break every connection between two processes; returns how many."""
        broken = [end for end in self.ends if (end.process.name, end.other.process.name) == (one, other)]
        self.world.happened("*", f"reset {one} - {other}")
        for end in broken:
            end.broken(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
            end.other.broken(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        return len(broken)

    def is_cut(self, sender: str, to: str) -> bool:
        return (sender, to) in self.cuts

    # What processes and machines do

    def listen(
        self, process: SimulatedProcess, host: str, port: int, protocol: Callable[[], asyncio.Protocol]
    ) -> SimulatedListener:
        if port == 0:
            port = self._next_port
            self._next_port += 1
        if (host, port) in self.listeners:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        listener = self.listeners[host, port] = SimulatedListener(process, host, port, protocol)
        self._hosts[host, port] = process.name
        return listener

    def process_started(self, name: str) -> None:
        if name in self._without_power:
            del self._without_power[name]
            for end in list(self.ends):
                if end.forgotten and end.process.name == name and end.other.is_unread:
                    end.tell_that_it_is_forgotten()

    def process_died(self, process: SimulatedProcess, *, silent: bool) -> None:
        for listener in list(self.listeners.values()):
            if listener.process is process:
                listener.close()
        if silent:
            self._without_power[process.name] = None
        for end in list(self.ends):
            if end.process is process:
                end.process_died(silent=silent)

    def host_of(self, host: str, port: int) -> str | None:
        """The process whose port this is, or was when somebody last listened there."""
        return self._hosts.get((host, port))

    def has_power(self, name: str) -> bool:
        return name not in self._without_power

    def latency(self, sender: str, to: str) -> float:
        chance = self.random.random()
        low, high = self.latency_seconds
        seconds = low + (high - low) * chance
        if chance < SPIKE_PROBABILITY:
            seconds += SPIKE_SECONDS_MAX * self.random.random()
        if self._delays:
            seconds += self._delays.get((sender, to), 0.0)
        return seconds

    def new_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1


class _Dial:
    """One attempt to connect."""

    def __init__(
        self,
        network: SimulatedNetwork,
        process: SimulatedProcess,
        host: str,
        port: int,
        protocol: Callable[[], asyncio.Protocol],
        failed: Callable[[OSError], None],
        timeout_seconds: float,
    ) -> None:
        self._network, self._process, self._loop = network, process, network.world.loop
        self._host, self._port = host, port
        self._protocol, self._failed = protocol, failed
        self._deadline = self._loop.time() + timeout_seconds
        self._timeout_seconds = timeout_seconds
        self._again_seconds = DIAL_AGAIN_SECONDS
        self._call()

    def _call(self) -> None:
        """Send the first packet, which may get lost."""
        here, there = self._process.name, self._network.host_of(self._host, self._port)
        if there is not None and (
            self._network.is_cut(here, there) or self._network.is_cut(there, here) or not self._network.has_power(there)
        ):
            again = self._loop.time() + self._again_seconds
            self._again_seconds *= 2
            if again < self._deadline:
                self._loop.call_at(again, self._call)
            else:
                self._loop.call_at(self._deadline, self._too_late)
        else:
            self._loop.call_later(self._network.latency(here, there or ""), self._arrive, there or "")

    def _arrive(self, there: str) -> None:
        here, process = self._process.name, self._process
        listener = self._network.listeners.get((self._host, self._port))
        back = self._loop.time() + self._network.latency(there, here)
        if back > self._deadline:
            self._loop.call_at(self._deadline, self._too_late)
        elif listener is None:
            self._loop.call_at(back, self._refused)
        elif process.alive:
            accepted = End(self._network, listener.process, (self._host, self._port), listener.protocol)
            dialed = End(self._network, process, ("127.0.0.1", self._network.new_port()), self._protocol, self._failed)
            accepted.join(dialed, back)
            accepted.made()
            self._loop.call_at(back, dialed.made)

    def _refused(self) -> None:
        self._process.loop.call_soon(self._failed, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))

    def _too_late(self) -> None:
        text = f"no connection to {self._host}:{self._port} within {self._timeout_seconds:g} s"
        self._process.loop.call_soon(self._failed, TimeoutError(errno.ETIMEDOUT, text))


class _EndOfStream:
    """What arrives behind the last byte."""


END_OF_STREAM = _EndOfStream()


class End(asyncio.Transport):
    """One end of a connection, as its process sees it, and its machine's part of it."""

    def __init__(
        self,
        network: SimulatedNetwork,
        process: SimulatedProcess,
        name: tuple[str, int],
        protocol: Callable[[], asyncio.Protocol],
        failed: Callable[[OSError], None] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.process, self.name = network, process, name
        self.other: End
        self.forgotten = False
        """Its machine has lost power, and the other side has not been told."""
        self._make_protocol, self._failed = protocol, failed
        self._protocol: asyncio.Protocol | None = None
        self._loop = network.world.loop
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        # Out: what waits in the transport, what the other machine has not taken out of its kernel yet.
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._unread_bytes = 0
        self._writing_paused = False
        self._last_arrival = 0.0
        self._held_up: list[bytes | _EndOfStream | OSError] = []
        """What a cut keeps from arriving."""
        self._held_since = 0.0
        # In: what has arrived and was not read.
        self._in: deque[bytes] = deque()
        self._credit_owed = 0
        self._stream_ended = False
        self._end_read = False
        self._reset: OSError | None = None
        """The connection was reset, which is noticed once what had arrived before has been read."""
        self._reading_paused = False
        self._read_comes = False
        self._closing = False  # close() or abort() was called, or the connection broke
        self._over = False  # nothing more goes out of this end or into it

    @property
    def is_unread(self) -> bool:
        """Whether something that it has sent was not taken yet, so that its machine keeps on sending it."""
        return self._unread_bytes > 0

    def join(self, dialed: End, made_at: float) -> None:
        """Make a connection of two ends; nothing reaches the dialing one before it knows of the connection."""
        self.other, dialed.other = dialed, self
        self._last_arrival = made_at
        self.network.ends[self] = self.network.ends[dialed] = None

    def made(self) -> None:
        self.process.loop.call_soon(self._begin)

    def _begin(self) -> None:
        if not self._closing:
            self._protocol = self._make_protocol()
            self._protocol.connection_made(self)
            self._read_soon()
        elif self._failed is not None:
            self._failed(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    # What the protocol may ask for

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "peername":
                return self.other.name
            case "sockname":
                return self.name
            case _:
                return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._out_bytes

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._read_soon()

    def write(self, data: Any) -> None:
        if self._closing or self._reset is not None or not data:
            return
        if self.network.tap is not None:
            self.network.tap.wrote(self, bytes(data))
        if not self._out and self._unread_bytes + len(data) <= WINDOW_BYTES:
            self._send(bytes(data))
            return
        self._out.append(bytes(data))
        self._out_bytes += len(data)
        self._push()
        if self._out_bytes > self._high and not self._writing_paused:
            self._writing_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """Send what waits, then end; nothing is read any more."""
        if not self._closing:
            self._closing = True
            if not self._out:
                self._end()

    def abort(self) -> None:
        """End now; what waits is dropped."""
        if not self._over:
            self._closing = True
            self._out.clear()
            self._out_bytes = 0
            self._end()

    def _end(self, error: OSError | None = None) -> None:
        """The process lets go of the connection. The other side reads the end; it is reset if it was not heard out."""
        if self._over:
            return
        if self._in:
            self._transmit(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        else:
            self._transmit(END_OF_STREAM)
        self._finish(error)

    def _finish(self, error: OSError | None) -> None:
        self._over = self._closing = True
        self._in.clear()
        self._out.clear()
        self._out_bytes = 0
        self._leave()
        self.process.loop.call_soon(self._lost, error)

    def _leave(self) -> None:
        """Be forgotten by the network once nothing can happen any more."""
        if self._over and self.other._over and not self._held_up and not self.other._held_up:
            self.network.ends.pop(self, None)
            self.network.ends.pop(self.other, None)

    def _lost(self, error: OSError | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    # Out

    def _push(self) -> None:
        """Send what the other side's window has room for."""
        while self._out and self._unread_bytes < WINDOW_BYTES:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            room = WINDOW_BYTES - self._unread_bytes
            if len(data) > room:
                self._out.append(data[room:])
                data = data[:room]
            self._out_bytes -= len(data)
            self._send(data)

    def _send(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        if len(data) > 1 and self.network.random.random() < TORN_PROBABILITY:
            at = self.network.random.randint(1, len(data) - 1)
            self._transmit(data[:at])
            data = data[at:]
        self._transmit(data)

    def _transmit(self, what: bytes | _EndOfStream | OSError) -> None:
        network, here, there = self.network, self.process.name, self.other.process.name
        if self._held_up or (network.cuts and network.is_cut(here, there)):
            if not self._held_up:
                self._held_since = self._loop.time()
            self._held_up.append(what)
            return
        arrival = self._loop.time() + network.latency(here, there)
        if arrival < self._last_arrival:
            arrival = self._last_arrival
        self._last_arrival = arrival
        self._loop.call_at(arrival, self.other.arrive, what)

    def send_again(self) -> None:
        """A cut has healed: what it held up goes out when it is tried again next; so does news of what was read."""
        held_seconds = self._loop.time() - self._held_since
        pause = self.network.random.uniform(0.0, min(held_seconds, RESEND_SECONDS_MAX)) + 0.01
        self._loop.call_later(pause, self._resend)
        self._give_credit(0)

    def _resend(self) -> None:
        if not self.network.is_cut(self.process.name, self.other.process.name):
            held_up, self._held_up = self._held_up, []
            for what in held_up:
                self._transmit(what)
            self._leave()

    def _credit(self, size: int) -> None:
        """The other side has read so much: there is room for more."""
        self._unread_bytes -= size
        if (self._out or self._writing_paused) and not self._over:
            self.process.loop.call_soon(self._write_on)

    def _write_on(self) -> None:
        if self._over:
            return
        self._push()
        if self._writing_paused and self._out_bytes <= self._low:
            self._writing_paused = False
            if self._protocol is not None and not self._closing:
                self._protocol.resume_writing()
        if self._closing and not self._out:
            self._end()

    # In

    def arrive(self, what: bytes | _EndOfStream | OSError) -> None:
        """Something has come from the other side, to this machine."""
        if type(what) is bytes and not self._over:
            self._in.append(what)
            if not self._read_comes:
                self._read_soon()
        elif self.forgotten:
            if self.network.has_power(self.process.name):
                self.tell_that_it_is_forgotten()
        elif isinstance(what, OSError):
            self.broken(what)
        elif isinstance(what, bytes):  # nobody is there for it any more
            self._transmit(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        elif not self._over:
            self._stream_ended = True
            self._read_soon()

    def broken(self, error: OSError) -> None:
        """The connection is reset. Some kernels let what had arrived before be read, some do not."""
        if not self._over and self._reset is None:
            if self._in and self.network.random.random() < 0.5:
                self._reset = error
            else:
                self._finish(error)

    def _read_soon(self) -> None:
        if self._read_comes or self._reading_paused or self._protocol is None:
            return  # again when it is read, resumed, or made
        if self._in or self._reset is not None or (self._stream_ended and not self._end_read):
            self._read_comes = True
            self.process.loop.call_soon(self._read)

    def _read(self) -> None:
        self._read_comes = False
        protocol = self._protocol
        if protocol is None or self._closing or self._reading_paused:
            return
        if self._in:
            data = self._in.popleft()
            if self._in and len(data) < READ_BYTES_MAX:
                data = b"".join((data, *self._in))
                self._in.clear()
            if len(data) > READ_BYTES_MAX:
                self._in.appendleft(data[READ_BYTES_MAX:])
                data = data[:READ_BYTES_MAX]
            self._give_credit(len(data))
            if self.network.tap is not None:
                self.network.tap.read(self, data)
            protocol.data_received(data)
            self._read_soon()
        elif self._reset is not None:
            self._finish(self._reset)
        elif self._stream_ended and not self._end_read:
            self._end_read = True
            if not protocol.eof_received():
                self.close()

    def _give_credit(self, size: int) -> None:
        """Tell the other side that so much has been read, as soon as word of it gets through."""
        network = self.network
        if network.cuts and network.is_cut(self.process.name, self.other.process.name):
            self._credit_owed += size
        else:
            self.other._credit(size + self._credit_owed)
            self._credit_owed = 0

    # The end of the process

    def process_died(self, *, silent: bool) -> None:
        if self._over:
            return
        if silent:
            self._over = self._closing = self.forgotten = True
            self._in.clear()
            self._held_up.clear()
        else:
            self._out.clear()
            self._out_bytes = 0
            self._closing = True
            self._end()

    def tell_that_it_is_forgotten(self) -> None:
        """The machine is up again and knows nothing of this connection."""
        self.forgotten = False
        if not self.other._over:
            self._transmit(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        self._leave()
