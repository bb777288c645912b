"""Starts ZooKeeper servers for tests: the embedded one in a thread, and Debian's in Java.

A pytest plugin. Tests take the fixture, or a context manager for options of their own:

    def test_something(embedded_zookeeper):              # a server of this test's own, gone afterwards
        client = embedded_zookeeper.client()             # a connected kazoo client, closed afterwards

    from ringkeeper.tests.zookeepers import embedded

    def test_something_else(tmp_path):
        with embedded(tmp_path, tick_ms=100) as server:
            ... server.hosts, server.stop(), server.start(), server.kill(), server.cut()

Both kinds of servers have the same methods. A tick is 200 ms: the shortest session lasts 400 ms.
"""

import asyncio
import contextlib
import logging
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import uvloop
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from ringkeeper.runtime.network import TcpNetwork
from ringkeeper.runtime.process import free_port
from ringkeeper.runtime.zookeeper.server import ZooKeeperServer

TICK_MS = 200
START_SECONDS_MAX = 30.0
JAR = Path("/usr/share/java/zookeeper.jar")

logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # it logs every cut connection with a traceback


def wait_until(condition: Callable[[], Any], timeout: float = 10.0, what: str = "") -> Any:
    """The first true value of the condition. Raises AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.005)
    return value


class Wire:
    """ZooKeeper's protocol by hand, for what kazoo does not do: it sees every frame, in order, and sends any.

    ``request`` returns (error, body); events that came before the reply are in ``events`` as (kind, path).
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.session, self.password, self.granted_ms = 0, b"\0" * 16, 0
        self.events: list[tuple[int, str]] = []
        self.zxid = 0
        self._xid = 0

    def connect(
        self, timeout_ms: int = 4000, session: int = 0, password: bytes = b"\0" * 16, last_zxid_seen: int = 0
    ) -> "Wire":
        """Shake hands. A session that was refused leaves ``session`` 0."""
        self.greet(timeout_ms, session, password, last_zxid_seen)
        return self.greeted()

    def greet(self, timeout_ms: int = 4000, session: int = 0, password: bytes = b"\0" * 16, last_zxid: int = 0) -> None:
        """Say the first word of ``connect``."""
        fields = struct.pack(">iqiqi", 0, last_zxid, timeout_ms, session, len(password))
        self.send_frame(fields + password + b"\0")

    def greeted(self) -> "Wire":
        """Hear the second."""
        answer = self.receive_frame()
        _, self.granted_ms, self.session, length = struct.unpack_from(">iiqi", answer)
        self.password = answer[20 : 20 + length]
        assert answer[20 + length :] == b"\0", "read-only is the last byte, and false"
        return self

    def send_frame(self, body: bytes) -> None:
        self.socket.sendall(struct.pack(">i", len(body)) + body)

    def send(self, opcode: int, body: bytes = b"", xid: int | None = None) -> int:
        if xid is None:
            self._xid += 1
            xid = self._xid
        self.send_frame(struct.pack(">ii", xid, opcode) + body)
        return xid

    def receive_frame(self) -> bytes:
        """The next frame. Raises EOFError when the server has closed the connection."""
        (length,) = struct.unpack(">i", self._receive(4))
        return self._receive(length)

    def _receive(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            try:
                part = self.socket.recv(count - len(received))
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError(f"the server closed the connection after {len(received)} of {count} bytes")
            received += part
        return received

    def receive(self) -> tuple[int, int, bytes]:
        """The next reply as (xid, error, body); events before it are put into ``events``."""
        while True:
            frame = self.receive_frame()
            xid, zxid, error = struct.unpack_from(">iqi", frame)
            if xid != -1:
                self.zxid = zxid
                return xid, error, frame[16:]
            kind, _, length = struct.unpack_from(">iii", frame, 16)
            self.events.append((kind, frame[28 : 28 + length].decode()))

    def request(self, opcode: int, body: bytes = b"", xid: int | None = None) -> tuple[int, bytes]:
        sent = self.send(opcode, body, xid)
        answered, error, answer = self.receive()
        assert answered == sent
        return error, answer

    def is_closed(self) -> bool:
        """Wait for the end of the connection."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def text(value: str) -> bytes:
    return data(value.encode())


def data(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def number(value: int) -> bytes:
    return struct.pack(">i", value)


def texts(*values: str) -> bytes:
    return number(len(values)) + b"".join(map(text, values))


def access(*entries: tuple[int, str, str]) -> bytes:
    return number(len(entries)) + b"".join(number(p) + text(scheme) + text(id) for p, scheme, id in entries)


OPEN = access((31, "world", "anyone"))


def creation(path: str, value: bytes | None = b"", flags: int = 0, acls: bytes = OPEN) -> bytes:
    return text(path) + data(value) + acls + number(flags)


class Zookeeper:
    """A server under test, whichever it is."""

    kind: str
    port: int

    def __init__(self) -> None:
        self._clients: list[KazooClient] = []

    @property
    def hosts(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def client(self, timeout: float = 4.0, root: str = "", hosts: str = "", **options: Any) -> KazooClient:
        """A connected kazoo client that takes ``root`` for the tree's root. It is closed with the server. ``hosts``:
        where the server is reached, if not where it is."""
        options.setdefault("connection_retry", {"max_tries": -1, "delay": 0.02, "backoff": 1, "max_jitter": 0.1})
        client = KazooClient((hosts or self.hosts) + root, timeout=timeout, **options)
        self._clients.append(client)
        client.start(timeout=START_SECONDS_MAX)
        return client

    def wire(self) -> Wire:
        """A bare connection; close it (it is a context manager)."""
        return Wire(self.port)

    def word(self, word: str, timeout: float = 5.0) -> str:
        """The answer to a four-letter word."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(word.encode())
            answer = b""
            while received := connection.recv(65536):
                answer += received
        return answer.decode()

    def close(self) -> None:
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.stop()
                client.close()
        self.stop()


class EmbeddedZookeeper(Zookeeper):
    """The embedded server on a loop in a thread of its own."""

    kind = "embedded"

    def __init__(self, data: Path | None, **options: Any) -> None:
        super().__init__()
        self.port = options.pop("port", 0) or free_port()
        self.data = data
        self._options = {"tick_ms": TICK_MS, **options}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.server: ZooKeeperServer

    def start(self) -> None:
        assert self._thread is None, "it runs already"
        started = threading.Event()
        failure: list[BaseException] = []

        def run() -> None:
            loop = self._loop = uvloop.new_event_loop()
            try:
                self.server = ZooKeeperServer(
                    loop=loop, network=TcpNetwork(loop), port=self.port, data=self.data, **self._options
                )
                loop.call_soon(start, loop)
                loop.run_forever()
                loop.run_until_complete(asyncio.sleep(0))  # transports close a turn later
            finally:
                loop.close()

        def start(loop: asyncio.AbstractEventLoop) -> None:
            try:
                self.server.start()
            except BaseException as error:
                failure.append(error)
                loop.stop()
            started.set()

        self._thread = threading.Thread(target=run, name=f"zookeeper-{self.port}", daemon=True)
        self._thread.start()
        started.wait(START_SECONDS_MAX)
        if failure:
            self._thread.join()
            self._thread = None
            raise failure[0]

    def on_loop(self, call: Callable[[], Any]) -> Any:
        """Run something on the server's loop and return what it returns."""
        assert self._loop is not None
        done = threading.Event()
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(call())
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10)
        return results[0]

    def cut(self) -> None:
        """Cut all connections, as a network does that forgets them."""

        def cut() -> None:
            for connection in list(self.server.connections):
                connection.abort()

        self.on_loop(cut)

    def stop(self) -> None:
        if self._thread is None:
            return
        assert self._loop is not None
        self.on_loop(self.server.stop)
        wait_until(lambda: not self.server.connections, what="the server's connections end")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._thread = None

    kill = stop  # stopping keeps nothing that a kill would lose; process tests kill for real


class EmbeddedZookeeperProcess(Zookeeper):
    """The embedded server in a process of its own, to be killed."""

    kind = "embedded"

    _PROGRAM = """
import sys, uvloop, logging
from pathlib import Path
from ringkeeper.runtime.network import TcpNetwork
from ringkeeper.runtime.zookeeper.server import ZooKeeperServer
logging.basicConfig(level="INFO")
loop = uvloop.new_event_loop()
server = ZooKeeperServer(
    loop=loop, network=TcpNetwork(loop), port=int(sys.argv[1]), data=Path(sys.argv[2]), tick_ms=int(sys.argv[3])
)
loop.call_soon(server.start)
loop.run_forever()
"""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.port = free_port()
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = [str(self.port), str(self.folder / "data"), str(TICK_MS)]
        with open(self.folder / "zookeeper.log", "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self._PROGRAM, *arguments], stdout=output, stderr=output
            )
        _wait_for_ruok(self, self.process, self.folder / "zookeeper.log")

    def stop(self) -> None:
        _end(self.process, subprocess.Popen.terminate)
        self.process = None

    def kill(self) -> None:
        _end(self.process, subprocess.Popen.kill)
        self.process = None


class DebianZookeeper(Zookeeper):
    """The real server of Debian's package ``zookeeper``, standalone."""

    kind = "debian"

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__()
        self.port = free_port()
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        settings = {
            "tickTime": TICK_MS,
            "dataDir": folder / "data",
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            "maxClientCnxns": 0,
            **options,
        }
        (folder / "data").mkdir(parents=True)
        (folder / "zoo.cfg").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def start(self) -> None:
        java = shutil.which("java")
        assert java is not None
        with open(self.folder / "zookeeper.log", "ab") as output:
            self.process = subprocess.Popen(
                [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", str(JAR),
                 "org.apache.zookeeper.server.ZooKeeperServerMain", str(self.folder / "zoo.cfg")],
                stdout=output, stderr=output, cwd=self.folder,
            )  # fmt: skip
        _wait_for_ruok(self, self.process, self.folder / "zookeeper.log")

    def stop(self) -> None:
        _end(self.process, subprocess.Popen.terminate)
        self.process = None

    def kill(self) -> None:
        _end(self.process, subprocess.Popen.kill)
        self.process = None


def _wait_for_ruok(server: Zookeeper, process: "subprocess.Popen[bytes]", log: Path) -> None:
    def is_up() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            # Debian's may take a word while it starts and never answer it, so ask again soon.
            return server.word("ruok", 0.3) == "imok" and "Mode" in server.word("srvr", 0.3)
        except OSError:
            return False

    wait_until(is_up, START_SECONDS_MAX, f"{server.kind} ZooKeeper on {server.hosts} answers")


def _end(process: "subprocess.Popen[bytes] | None", how: Callable[["subprocess.Popen[bytes]"], None]) -> None:
    if process is None:
        return
    how(process)
    process.wait(30)


@contextlib.contextmanager
def _running(server: Any) -> Iterator[Any]:
    server.start()
    try:
        yield server
    finally:
        server.close()


def embedded(
    folder: Path, *, in_memory: bool = False, **options: Any
) -> contextlib.AbstractContextManager[EmbeddedZookeeper]:
    """The embedded server in a thread, its data in ``folder``; options are those of ZooKeeperServer."""
    return _running(EmbeddedZookeeper(None if in_memory else folder / "zookeeper", **options))


def embedded_process(folder: Path) -> contextlib.AbstractContextManager[EmbeddedZookeeperProcess]:
    """The embedded server in a process of its own. For tests marked ``processes``."""
    return _running(EmbeddedZookeeperProcess(folder))


def debian(folder: Path, **options: Any) -> contextlib.AbstractContextManager[DebianZookeeper]:
    """Debian's server. For tests marked ``processes`` and ``real_zookeeper``; skips the test where it is missing."""
    if shutil.which("java") is None or not JAR.exists():
        pytest.skip(f"Debian's ZooKeeper is not installed (needs java and {JAR})")
    folder = folder / "debian"
    folder.mkdir()
    return _running(DebianZookeeper(folder, **options))


@pytest.fixture
def embedded_zookeeper(tmp_path: Path) -> Iterator[EmbeddedZookeeper]:
    """An embedded server of this test's own, durable."""
    with embedded(tmp_path) as server:
        yield server
