"""The HTTP endpoint of a process: three paths, one request a connection, everything bounded."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ringkeeper.runtime.metrics import LoopDelay
from ringkeeper.runtime.metrics_endpoint import (
    CONNECTION_SECONDS_MAX,
    CONNECTIONS_MAX,
    REQUEST_BYTES_MAX,
    MetricsEndpoint,
)
from ringkeeper.runtime.system import ActorSystem
from ringkeeper.runtime.virtual import VirtualLoop


class Client:
    """A connection without a network: what was written to it, and whether it is closed."""

    def __init__(self, protocol: Any) -> None:
        self.protocol, self.written, self.closed = protocol, b"", False
        protocol.connection_made(self)

    def send(self, data: bytes) -> bytes:
        self.protocol.data_received(data)
        return self.written

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    abort = close


class Stage:
    port = 1

    def __init__(self) -> None:
        self.loop, self.why = VirtualLoop(), ""
        self.system = ActorSystem(loop=self.loop, registered=False)
        delay = LoopDelay(self.loop)
        self.endpoint = MetricsEndpoint(self.loop, self, "h", 1, self.system, delay, lambda: self.why)  # type: ignore[arg-type]

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> "Stage":
        self.protocol = protocol
        return self

    def close(self) -> None: ...

    def client(self) -> Client:
        return Client(self.protocol())

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        client = self.client()
        head, _, content = client.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
        assert client.closed and f"Content-Length: {len(content)}".encode() in head
        return int(head.split()[1]), content


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_each_path_says_what_it_is_for(stage: Stage) -> None:
    status, content = stage.get("/metrics?name=all")
    assert (
        status == 200 and b"# TYPE ringkeeper_dead_letters_total counter\nringkeeper_dead_letters_total 0.0" in content
    )
    assert stage.get("/healthz")[0] == stage.get("/readyz")[0] == 200
    stage.why = "it has no ring yet"
    assert stage.get("/readyz") == (503, b"not ready: it has no ring yet\n")
    assert stage.get("/")[0] == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x00\xff\r\n\r\n", 400),
        (b"*1\r\n$4\r\nPING\r\n\r\n", 400),
        (b"GET /" + b"x" * REQUEST_BYTES_MAX, 431),
    ],
)
def test_what_is_no_such_request_is_refused(stage: Stage, request_: bytes, status: int) -> None:
    client = stage.client()
    assert client.send(request_).startswith(b"HTTP/1.1 %d " % status) and client.closed
    assert client.send(request_).count(b"HTTP/1.1") == 1


def test_a_request_may_come_in_pieces_but_not_for_ever(stage: Stage) -> None:
    client = stage.client()
    assert client.send(b"GET /healthz HTTP/1.1\r\n") == b""
    assert client.send(b"\r\n").startswith(b"HTTP/1.1 200")
    idle = stage.client()
    stage.loop.advance(CONNECTION_SECONDS_MAX + 0.1)
    assert idle.closed and not stage.endpoint.connections


def test_more_connections_than_there_may_be_are_cut(stage: Stage) -> None:
    clients = [stage.client() for _ in range(CONNECTIONS_MAX + 1)]
    assert [client.closed for client in clients] == [False] * CONNECTIONS_MAX + [True]
    stage.endpoint.close()
    assert all(client.closed for client in clients)
