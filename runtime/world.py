"""Names what an actor's surroundings can do, so that a simulation can stand in for them.

Production hands in uvloop's event loop and TCP; the simulation hands in virtual time and a seeded network. Nothing
above this file may open a socket, read a clock or sleep by another way. Everything here is called on the loop thread
(``call_soon_threadsafe`` excepted) and calls back on it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """Something that will happen, unless it is cancelled first."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """The part of asyncio's event loop that the runtime stands on. Times are seconds of a monotonic clock."""

    def time(self) -> float: ...
    def call_soon(self, callback: Callable[..., object], *args: Any) -> object: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> object: ...
    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer: ...


class Listener(Protocol):
    """A bound port."""

    @property
    def port(self) -> int: ...
    def close(self) -> None: ...


class Network(Protocol):
    """Connections, in callbacks only. Protocols are asyncio.Protocol, transports look like asyncio.Transport."""

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> Listener:
        """Bind at once (port 0: a free one). Raises OSError when the port is taken."""
        ...

    def connect(
        self,
        host: str,
        port: int,
        protocol: Callable[[], asyncio.Protocol],
        failed: Callable[[OSError], None],
        timeout_seconds: float = 5.0,
    ) -> None:
        """Dial; later either ``protocol().connection_made`` or ``failed``, never both."""
        ...
