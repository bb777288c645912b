"""Starts a real Redis server, for tests that compare us with it word by word; skips them where there is none.

@pytest.fixture(scope="module")
def redis() -> Iterator[RealRedis]:
    with real_redis() as server:
        yield server
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator

import pytest
from ringkeeper.runtime.process import free_port

START_SECONDS_MAX = 10.0
MARK = b"no reply of a test ends like this"


def packed(*words: bytes) -> bytes:
    """A request in the bytes that client libraries send."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class RealRedis:
    """A running server and a connection to it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def speak(self, protocol: int) -> None:
        """Use RESP2 or RESP3 from now on."""
        self.replies([[b"HELLO", b"%d" % protocol]])

    def replies(self, requests: Iterable[list[bytes]]) -> bytes:
        """The bytes that answer these requests, all replies in a row."""
        return self.answer(b"".join(packed(*request) for request in requests))

    def answer(self, sent: bytes) -> bytes:
        """The bytes that answer what is sent, which must end with a complete request."""
        self._socket.sendall(sent + packed(b"ECHO", MARK))
        end = b"$%d\r\n%b\r\n" % (len(MARK), MARK)
        answer = b""
        while not answer.endswith(end):
            more = self._socket.recv(1 << 20)
            assert more, f"Redis closed the connection after {answer!r}"
            answer += more
        return answer.removesuffix(end)

    def last_words(self, sent: bytes) -> bytes:
        """All that it says on a connection of its own to something that makes it close that."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(sent)
            connection.settimeout(10)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while more := connection.recv(1 << 16):
                    answer += more
            return answer

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def real_redis() -> Iterator[RealRedis]:
    """A server without persistence on a free port of the loopback, gone afterwards."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: nothing to compare with")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if " v=7.0." not in version:
        pytest.skip(f"the texts compared are those of Redis 7.0, but this is {version.strip()}")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            redis = _connected(port)
            try:
                yield redis
            finally:
                redis.close()
        finally:
            server.kill()
            server.wait()


def _connected(port: int) -> RealRedis:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            return RealRedis(port)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
