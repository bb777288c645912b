"""TCP in callbacks."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from ringkeeper.runtime.network import TcpNetwork


class Recorder(asyncio.Protocol):
    """One end of a connection that writes down what happens to it."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.events.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append("lost")


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: Any) -> Iterator[asyncio.AbstractEventLoop]:
    loop = request.param()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def run_until(loop: asyncio.AbstractEventLoop, condition: Any, timeout_seconds: float = 10.0) -> None:
    async def wait() -> None:
        async with asyncio.timeout(timeout_seconds):
            while not condition():
                await asyncio.sleep(0.001)

    loop.run_until_complete(wait())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_what_is_written_at_one_end_arrives_at_the_other(loop: asyncio.AbstractEventLoop, host: str) -> None:
    network = TcpNetwork(loop)
    near: list[Any] = []
    far: list[Any] = []
    ends: list[Recorder] = []

    def end(events: list[Any]) -> Recorder:
        ends.append(Recorder(events))
        return ends[-1]

    listener = network.listen(host, 0, lambda: end(far))
    network.connect(host, listener.port, lambda: end(near), lambda error: near.append(error))
    run_until(loop, lambda: near and far)
    assert (near, far) == (["made"], ["made"])
    for recorder in ends:
        accepted = recorder.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    ends[0].transport.write(b"hello")
    run_until(loop, lambda: b"hello" in near or b"hello" in far)
    ends[0].transport.close()
    run_until(loop, lambda: near[-1] == far[-1] == "lost")
    listener.close()


def test_a_port_is_bound_at_once_and_free_again_after_close(loop: asyncio.AbstractEventLoop) -> None:
    network = TcpNetwork(loop)
    listener = network.listen("127.0.0.1", 0, lambda: Recorder([]))
    with pytest.raises(OSError, match="in use"):
        network.listen("127.0.0.1", listener.port, lambda: Recorder([]))
    listener.close()
    network.listen("127.0.0.1", listener.port, lambda: Recorder([])).close()
    loop.run_until_complete(asyncio.sleep(0))


def test_a_host_that_is_not_ours_cannot_be_bound(loop: asyncio.AbstractEventLoop) -> None:
    for host in ("192.0.2.1", "x" * 100):
        with pytest.raises(OSError):
            TcpNetwork(loop).listen(host, 0, lambda: Recorder([]))


def test_a_dial_that_nobody_answers_fails_once(loop: asyncio.AbstractEventLoop) -> None:
    network, events = TcpNetwork(loop), list[Any]()
    listener = network.listen("127.0.0.1", 0, lambda: Recorder([]))
    listener.close()
    for host in ("127.0.0.1", "x" * 100, "[::1]"):
        network.connect(host, listener.port, lambda: Recorder(events), events.append)
    run_until(loop, lambda: len(events) == 3)
    assert all(isinstance(event, OSError) for event in events)
    assert any(isinstance(event, ConnectionRefusedError) for event in events)


def test_a_dial_is_refused_only_if_every_address_of_the_host_refuses(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, events = TcpNetwork(loop), list[Any]()
    listener = network.listen("127.0.0.1", 0, lambda: Recorder([]))
    listener.close()
    addresses = [(socket.AF_INET, (host, listener.port)) for host in ("255.255.255.255", "127.0.0.1")]
    monkeypatch.setattr("ringkeeper.runtime.network._addresses", lambda host, port, flags: addresses)
    network.connect("two-addresses", listener.port, lambda: Recorder(events), events.append)
    run_until(loop, lambda: events)
    assert isinstance(events[0], OSError) and not isinstance(events[0], ConnectionRefusedError)


def test_a_dial_that_takes_too_long_fails_once(loop: asyncio.AbstractEventLoop) -> None:
    with socket.socket() as full:  # its backlog is full, so the kernel answers no further dial
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        network, events = TcpNetwork(loop), list[Any]()
        network.connect("127.0.0.1", full.getsockname()[1], lambda: Recorder(events), events.append, 0.05)
        run_until(loop, lambda: events)
        assert [type(event) for event in events] == [TimeoutError]
        for filler in fillers:
            filler.close()


def test_a_connection_ended_as_soon_as_it_is_made_is_closed_once(loop: asyncio.AbstractEventLoop) -> None:
    """What was closed twice took the descriptor of whoever had got the number meanwhile: a link, or a file."""
    opened: list[int] = []

    def take_the_number() -> None:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(20))

    class Ends(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.abort()
            loop.call_soon(take_the_number)

    network, events = TcpNetwork(loop), list[Any]()
    listener = network.listen("127.0.0.1", 0, lambda: Recorder([]))
    network.connect("127.0.0.1", listener.port, lambda: Ends(events), events.append)
    run_until(loop, lambda: opened and not network._dials)
    try:
        assert events == ["made", "lost"]
        assert [os.fstat(number) for number in opened]  # OSError for one that somebody else has closed
    finally:
        for number in opened:
            with contextlib.suppress(OSError):
                os.close(number)
        listener.close()


def test_dials_under_way_are_given_up_on_close(loop: asyncio.AbstractEventLoop) -> None:
    network, events = TcpNetwork(loop), list[Any]()
    listener = network.listen("127.0.0.1", 0, lambda: Recorder([]))
    network.connect("127.0.0.1", listener.port, lambda: Recorder(events), events.append)
    network.close()
    loop.run_until_complete(asyncio.sleep(0.01))
    assert events == []
    listener.close()
