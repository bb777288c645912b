"""The embedded server on real sockets: restarts, crashes, and clients that mean harm."""

import contextlib
import random
import socket
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooState  # type: ignore[import-untyped]
from ringkeeper.runtime.zookeeper.server import Limits
from ringkeeper.runtime.zookeeper.storage import DataError
from ringkeeper.tests.runtime.test_watches import Gate
from ringkeeper.tests.zookeepers import (
    JAR,
    EmbeddedZookeeper,
    Wire,
    Zookeeper,
    creation,
    data,
    debian,
    embedded,
    embedded_process,
    number,
    text,
    wait_until,
)

CREATE, GET_DATA, SET_DATA, PING = 1, 4, 5, 11


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("embedded_process", marks=pytest.mark.processes),
        pytest.param("debian", marks=[pytest.mark.processes, pytest.mark.real_zookeeper]),
    ]
)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Zookeeper]:
    """A durable server of the test's own."""
    starts: dict[str, Any] = {"embedded": embedded, "embedded_process": embedded_process, "debian": debian}
    with starts[request.param](tmp_path) as server:
        yield server


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_sessions_and_ephemerals_outlive_a_restart(server: Zookeeper, end: str) -> None:
    with contextlib.closing(Gate(server.port)) as gate:
        client = server.client(hosts=gate.hosts)
        client.create("/kept", b"x")
        client.create("/e", ephemeral=True)
        session = client.client_id
        states: list[str] = []
        client.add_listener(states.append)

        getattr(server, end)()
        wait_until(lambda: states == [KazooState.SUSPENDED])
        gate.shut()  # Apache's never answers who comes while it starts, and kazoo would wait until the session is over
        server.start()
        gate.open()

        wait_until(lambda: states == [KazooState.SUSPENDED, KazooState.CONNECTED])
        assert client.client_id == session
        assert client.get("/kept")[0] == b"x"
        assert client.get("/e")[1].ephemeralOwner == session[0]
        client.stop()
    assert set(server.client().get_children("/")) == {"kept", "zookeeper"}


@pytest.mark.processes
def test_whatever_was_acknowledged_is_back_after_kill_9(tmp_path: Path) -> None:
    with embedded_process(tmp_path) as server:
        for round in range(3):
            acknowledged: list[str] = []
            writers = [
                threading.Thread(target=_write_until_the_end, args=(server, f"/{round}-{writer}-", acknowledged))
                for writer in range(3)
            ]
            for writer in writers:
                writer.start()
            wait_until(lambda: len(acknowledged) > 100, what="a hundred acknowledged creations")  # noqa: B023
            server.kill()
            for writer in writers:
                writer.join()
            server.start()
            client = server.client()
            there = {f"/{name}" for name in client.get_children("/")}
            assert set(acknowledged) <= there
            client.stop()


def _write_until_the_end(server: Zookeeper, prefix: str, acknowledged: list[str]) -> None:
    with server.wire().connect() as wire:
        try:
            for index in range(1_000_000):
                assert wire.request(CREATE, creation(f"{prefix}{index}"))[0] == 0
                acknowledged.append(f"{prefix}{index}")
        except (OSError, EOFError):
            pass


def test_a_second_server_on_the_same_directory_is_refused(embedded_zookeeper: EmbeddedZookeeper) -> None:
    assert embedded_zookeeper.data is not None
    with pytest.raises(DataError, match="in use by another"), embedded(embedded_zookeeper.data.parent):
        pass
    assert embedded_zookeeper.word("ruok") == "imok"


def test_a_port_in_use_is_refused(embedded_zookeeper: EmbeddedZookeeper, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"), embedded(tmp_path / "other", port=embedded_zookeeper.port):
        pass


def test_in_memory_a_tree_lives_as_long_as_its_server(tmp_path: Path) -> None:
    with embedded(tmp_path, in_memory=True) as server:
        server.client().create("/a")
        assert list(tmp_path.iterdir()) == []
        server.stop()
        server.start()
        with server.wire().connect() as wire:
            assert wire.request(GET_DATA, text("/a") + b"\0")[0] == -101


def test_kazoo_survives_having_its_connection_cut(embedded_zookeeper: EmbeddedZookeeper) -> None:
    client = embedded_zookeeper.client()
    client.create("/e", ephemeral=True)
    session = client.client_id
    for _ in range(3):
        embedded_zookeeper.cut()
        assert client.retry(client.exists, "/e").ephemeralOwner == session[0]
    assert client.client_id == session


def _garbage(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([1, 3, 4, 5, 100, 5000]))


def _lying_length(chance: random.Random) -> bytes:
    return struct.pack(">i", chance.choice([-1, -(2**31), 2**31 - 1, 1 << 20, (1 << 20) + 1])) + _garbage(chance)


def _broken_handshake(chance: random.Random) -> bytes:
    body = chance.randbytes(chance.choice([0, 10, 28, 44, 45, 500]))
    return struct.pack(">i", len(body)) + body


def _half_a_word(chance: random.Random) -> bytes:
    return chance.choice([b"ru", b"ruo", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])


@pytest.mark.parametrize("bytes_sent", [_garbage, _lying_length, _broken_handshake, _half_a_word])
def test_rubbish_on_the_port_hurts_nobody(
    embedded_zookeeper: EmbeddedZookeeper, bytes_sent: Callable[[random.Random], bytes]
) -> None:
    chance = random.Random(7)
    with embedded_zookeeper.wire().connect() as client:
        for _ in range(50):
            connection = socket.create_connection(("127.0.0.1", embedded_zookeeper.port))
            with connection, contextlib.suppress(OSError):  # it may have hung up already
                connection.sendall(bytes_sent(chance))
            assert client.request(PING, xid=-2)[0] == 0
        wait_until(lambda: len(embedded_zookeeper.server.connections) == 1)
        assert client.request(CREATE, creation("/a"))[0] == 0


def test_rubbish_after_the_handshake_hurts_nobody(embedded_zookeeper: EmbeddedZookeeper) -> None:
    chance = random.Random(8)
    with embedded_zookeeper.wire().connect() as client:
        before = dict(embedded_zookeeper.server.keeper.tree.nodes)
        for _ in range(50):
            with embedded_zookeeper.wire().connect() as wire:
                for _ in range(10):
                    body = struct.pack(">ii", chance.randrange(100), chance.choice([1, 2, 5, 7, 14, 22, 100, 101, 999]))
                    wire.send_frame(body + _garbage(chance))
                wire.socket.sendall(_lying_length(chance))
                wire.socket.shutdown(socket.SHUT_WR)
                assert wire.is_closed()
            assert client.request(PING, xid=-2)[0] == 0
        assert embedded_zookeeper.server.keeper.tree.nodes == before


def test_memory_stays_bounded_whatever_is_begun_and_not_finished(tmp_path: Path) -> None:
    limits, long_ms = Limits(connections_max=50, session_ticks_max=300), 60_000  # nobody's session is over meanwhile
    with embedded(tmp_path, limits=limits) as server, server.wire().connect(long_ms) as client:
        tracemalloc.start()
        begun: list[Wire] = []
        try:
            for _ in range(100):
                try:
                    wire = server.wire().connect(long_ms)
                    wire.socket.sendall(struct.pack(">i", limits.frame_bytes_max) + b"x" * 200_000)
                    begun.append(wire)
                except (OSError, EOFError):
                    pass
            assert 40 <= len(begun) < 50
            _, peak = tracemalloc.get_traced_memory()
            assert peak < 30_000_000
            assert client.request(PING, xid=-2)[0] == 0
        finally:
            tracemalloc.stop()
            for wire in begun:
                wire.close()


def test_events_for_who_does_not_fetch_them_do_not_pile_up(tmp_path: Path) -> None:
    with (
        embedded(tmp_path, in_memory=True, limits=Limits(unsent_bytes_max=100_000)) as server,
        server.wire() as deaf,
        server.wire().connect() as writer,
    ):
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect()
        deaf.request(106, text("/") + number(1))
        long_name = "/" + "x" * 10_000
        writer.request(CREATE, creation(long_name))

        def is_cut_off() -> bool:
            for _ in range(100):
                writer.request(SET_DATA, text(long_name) + data(b"") + number(-1))
            return len(server.server.connections) == 1

        wait_until(is_cut_off)
        assert writer.request(PING, xid=-2)[0] == 0


@pytest.mark.processes
@pytest.mark.real_zookeeper
def test_the_java_client_works_unchanged(embedded_zookeeper: EmbeddedZookeeper) -> None:
    if not JAR.exists():
        pytest.skip(f"Debian's ZooKeeper is not installed (needs {JAR})")
    script = "\n".join(
        [
            "create /a one",
            "get -s -w /a",
            "set /a two",
            "create -e -s /a/n- x",
            "create -c /container",
            "addauth digest ann:1",
            "create /locked secret auth::cdrwa",
            "getAcl /locked",
            "ls -R /",
            "getEphemerals",
            "whoami",
            "delete /a",
            "deleteall /a",
            "stat /a",
            "quit",
        ]
    )
    java = ["java", "-cp", str(JAR), "org.apache.zookeeper.ZooKeeperMain", "-server", embedded_zookeeper.hosts]
    run = subprocess.run(java, input=script, capture_output=True, text=True, timeout=50)
    said = run.stdout + run.stderr
    for part in [
        "Created /a\n",
        "one\ncZxid",
        "WatchedEvent state:SyncConnected type:NodeDataChanged path:/a",
        "Created /a/n-0000000000",
        "Created /container",
        "digest,'ann:",
        "/zookeeper/quota",
        "[/a/n-0000000000]",
        "Node not empty: /a",
        "Node does not exist: /a",
    ]:
        assert part in said, said
    assert embedded_zookeeper.client().exists("/a") is None
