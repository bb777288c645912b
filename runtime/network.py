"""Opens real TCP connections for whoever was given a ``Network``.

asyncio wants coroutines for binding and dialing; they stay in this file. To the outside everything is a callback, so
that the callers run unchanged on a simulated network.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import uvloop

BACKLOG_CONNECTIONS = 1024
"""How many connections the kernel keeps for a listener that is busy."""

_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class TcpListener:
    """One port, bound on every address that the host name stands for."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self._servers: list[asyncio.AbstractServer] = []
        self._starting: asyncio.Task[None] | None = None
        self.port: int = sockets[0].getsockname()[1]

    def start(self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]) -> None:
        async def serve() -> None:
            for bound in self._sockets:
                self._servers.append(await loop.create_server(protocol, sock=bound, backlog=BACKLOG_CONNECTIONS))

        self._starting = loop.create_task(serve())

    def close(self) -> None:
        """Stop listening; connections that were accepted live on."""
        if self._starting is not None:
            self._starting.cancel()
        for server in self._servers:
            server.close()
        for bound in self._sockets:
            bound.close()


class TcpNetwork:
    """TCP over an asyncio or uvloop event loop. Implements ``runtime.world.Network``; for the loop thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dials: set[asyncio.Task[None]] = set()

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> TcpListener:
        """Bind and listen at once (port 0: a free one). Raises OSError: the port is taken, the host is not ours."""
        listener = TcpListener(_bind(host, port))
        listener.start(self._loop, protocol)
        return listener

    def connect(
        self,
        host: str,
        port: int,
        protocol: Callable[[], asyncio.Protocol],
        failed: Callable[[OSError], None],
        timeout_seconds: float = 5.0,
    ) -> None:
        """Dial; later either ``protocol().connection_made`` or ``failed``, never both."""
        dial = self._loop.create_task(self._dial(host, port, protocol, failed, timeout_seconds))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    def close(self) -> None:
        """Give up the dials that are under way, without a call back."""
        for dial in self._dials:
            dial.cancel()

    async def _dial(
        self,
        host: str,
        port: int,
        protocol: Callable[[], asyncio.Protocol],
        failed: Callable[[OSError], None],
        timeout_seconds: float,
    ) -> None:
        # The time limit ends with the connect: were it to cancel create_connection, connection_made could come as well.
        try:
            async with asyncio.timeout(timeout_seconds):
                connected = await self._connected(host, port)
        except TimeoutError:
            failed(TimeoutError(errno.ETIMEDOUT, f"no connection to {host}:{port} within {timeout_seconds:g} s"))
            return
        except OSError as error:
            failed(error)
            return
        try:
            await self._loop.create_connection(protocol, sock=connected)
        except OSError as error:  # before connection_made: the socket could not be taken over
            connected.close()
            failed(error)
        except BaseException:
            connected.close()
            raise
        finally:
            # uvloop closes the descriptor itself. Where connection_made ended the connection at once, it has, and has
            # forgotten to tell the socket: that would close the number once more, whoever has it then.
            if isinstance(self._loop, uvloop.Loop):
                connected.detach()

    async def _connected(self, host: str, port: int) -> socket.socket:
        failure: OSError | None = None
        for family, address in await self._resolve(host, port):
            dialing = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                dialing.setblocking(False)
                dialing.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._loop.sock_connect(dialing, address)
                return dialing
            except OSError as error:
                dialing.close()
                if failure is None or not isinstance(error, ConnectionRefusedError):
                    failure = error  # a dial was refused only if it was at every address
            except BaseException:
                dialing.close()
                raise
        raise failure or OSError(errno.EHOSTUNREACH, f"{host} has no address")

    async def _resolve(self, host: str, port: int) -> list[tuple[int, Any]]:
        try:
            return _addresses(host, port, socket.AI_NUMERICHOST)  # a literal address needs no thread
        except socket.gaierror:
            return await self._loop.run_in_executor(None, _addresses, host, port, 0)


def _addresses(host: str, port: int, flags: int) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"{host!r} is not the name of a host") from error
    return [(entry[0], entry[4]) for entry in found]


def _bind(host: str, port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    failure = OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
    try:
        for family, address in _addresses(host, port, socket.AI_PASSIVE):
            if sockets:  # one port for all of them
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(_bind_one(family, address))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                failure = error
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    if not sockets:
        raise failure
    return sockets


def _bind_one(family: int, address: Any) -> socket.socket:
    # Named TCP, so that the loop knows that TCP_NODELAY is for the connections accepted here.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind(address)
        bound.listen(BACKLOG_CONNECTIONS)
    except BaseException:
        bound.close()
        raise
    return bound
