"""Protocols that write down what happens to them, for tests of networks."""

import asyncio
from typing import Any


class Recorder(asyncio.Protocol):
    """Keeps what its transport tells: made, data, end, lost, paused, resumed, failed."""

    def __init__(self, *, keeps_open: bool = False, closes_at_once: bool = False) -> None:
        self.transport: Any = None
        self.data = b""
        self.reads = 0
        self.events: list[str] = []
        self._keeps_open, self._closes_at_once = keeps_open, closes_at_once

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")
        if self._closes_at_once:
            transport.close()

    def data_received(self, data: bytes) -> None:
        assert data
        self.data += data
        self.reads += 1
        if self.events[-1] != "data":
            self.events.append("data")

    def eof_received(self) -> bool:
        self.events.append("end")
        return self._keeps_open

    def pause_writing(self) -> None:
        self.events.append("paused")

    def resume_writing(self) -> None:
        self.events.append("resumed")

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append("lost" if error is None else f"lost {type(error).__name__}")

    def failed(self, error: OSError) -> None:
        self.events.append(f"failed {type(error).__name__}")

    @property
    def over(self) -> bool:
        return self.events[-1:] != [] and self.events[-1].startswith(("lost", "failed"))
