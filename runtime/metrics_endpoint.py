"""Serves the figures of a process to Prometheus, and says whether it is well, over HTTP.

    GET /metrics    every figure (``metrics.py``), in Prometheus' text format
    GET /healthz    200 as long as the loop of the process turns
    GET /readyz     200 when the process does what it is there for, else 503 and why it does not

It runs on the loop of the process, without a thread: a scrape costs one turn of some milliseconds. One request a
connection, then it is closed. Everything is bounded: the request, the connections, the time that each may take; whoever
asks for more is cut off. Nothing but reading is possible here, and nobody has to say a password, so it listens on
loopback unless it was told otherwise.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from .metrics import LoopDelay, Metric, collect, told
from .system import ActorSystem
from .world import Loop, Network, Timer

REQUEST_BYTES_MAX = 8 * 1024
CONNECTIONS_MAX = 16
CONNECTION_SECONDS_MAX = 5.0
"""After so long a connection is cut, wherever it is."""

PLAIN = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 431: "Request Too Large",
           503: "Service Unavailable"}  # fmt: skip


class MetricsEndpoint:
    """The listener of one process. ``not_ready`` says why the process is not; empty: it is."""

    def __init__(
        self,
        loop: Loop,
        network: Network,
        host: str,
        port: int,
        system: ActorSystem,
        delay: LoopDelay,
        not_ready: Callable[[], str],
    ) -> None:
        """Listen at once (port 0: a free one). Raises OSError when the port is taken."""
        self.loop, self.connections = loop, set[_Connection]()
        self._system, self._delay, self._not_ready = system, delay, not_ready
        self._listener = network.listen(host, port, lambda: _Connection(self))

    @property
    def port(self) -> int:
        return self._listener.port

    def close(self) -> None:
        self._listener.close()
        for connection in list(self.connections):
            connection.cut()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and content of what is found under a path."""
        match path:
            case "/metrics":
                return 200, METRICS, exposition(self._system)
            case "/healthz":
                late = 1000 * self._delay.most
                return 200, PLAIN, f"the loop turns; it was late by at most {late:.0f} ms in the last minute\n".encode()
            case "/readyz":
                why = self._not_ready()
                return (503, PLAIN, f"not ready: {why}\n".encode()) if why else (200, PLAIN, b"ready\n")
            case _:
                return 404, PLAIN, b"there are /metrics, /healthz and /readyz\n"


class _Connection(asyncio.Protocol):
    """One client, for one request."""

    def __init__(self, endpoint: MetricsEndpoint) -> None:
        self._endpoint = endpoint
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answered = False
        self._limit: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's look like one and are none
        if len(self._endpoint.connections) >= CONNECTIONS_MAX:
            self._transport.abort()
            return
        self._endpoint.connections.add(self)
        self._limit = self._endpoint.loop.call_later(CONNECTION_SECONDS_MAX, self.cut)

    def data_received(self, data: bytes) -> None:
        if self._answered or self not in self._endpoint.connections:
            return
        self._received += data
        if b"\r\n\r\n" in self._received or b"\n\n" in self._received:
            self._answer(*self._found())
        elif len(self._received) > REQUEST_BYTES_MAX:
            self._answer(431, PLAIN, b"the request is too long\n")

    def connection_lost(self, error: Exception | None) -> None:
        self._endpoint.connections.discard(self)
        if self._limit is not None:
            self._limit.cancel()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _found(self) -> tuple[int, str, bytes]:
        line = self._received.split(b"\n", 1)[0].strip().decode("latin-1").split(" ")
        if len(line) != 3 or not line[2].startswith("HTTP/"):
            return 400, PLAIN, b"this is not HTTP\n"
        if line[0] != "GET":
            return 405, PLAIN, b"only GET is possible here\n"
        return self._endpoint.answer(line[1].partition("?")[0])

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        assert self._transport is not None
        self._answered = True
        head = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
        head += ["Allow: GET"] * (status == 405) + ["Connection: close", "", ""]
        self._transport.write("\r\n".join(head).encode() + content)
        self._transport.close()


def exposition(system: ActorSystem) -> bytes:
    """Every figure of a process as Prometheus reads it."""
    from prometheus_client import generate_latest  # whoever is never asked need not load it

    families = [_family(metric) for metric in collect(system).values()]
    return generate_latest(cast(Any, SimpleNamespace(collect=lambda: families)))


def _family(metric: Metric) -> Any:
    from prometheus_client import Metric as Family  # not a GaugeMetricFamily, say: its samples all have the same labels

    family = Family(metric.name, metric.help, metric.kind)
    for name, labels, value in told(metric):
        family.add_sample(name, labels, value)
    return family
