"""The server turn by turn, in virtual time and on an imagined network: what leaves when, and what is bounded."""

import asyncio
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.runtime.zookeeper import server as server_module
from ringkeeper.runtime.zookeeper.server import Connection, Limits, ZooKeeperServer
from ringkeeper.runtime.zookeeper.storage import DataError
from ringkeeper.tests.zookeepers import creation, data, number, text

CREATE, EXISTS, GET_DATA, SET_DATA, PING, CLOSE = 1, 3, 4, 5, 11, -11
TICK_MS = 200
WRITABLE_BYTES = 16384


class Loop(VirtualLoop):
    def stall(self, seconds: float) -> None:
        """Time passes and nothing runs, as when the process is stopped."""
        self._now += seconds


class Peer:
    """A client, and the transport that the server sees of it."""

    def __init__(self, world: "World", fetches: bool = True) -> None:
        self.world = world
        self.fetches = fetches
        self.received = bytearray()
        self.unfetched = 0
        self.is_paused = self.is_closed = self.is_aborted = False
        self.connection: Connection = world.accept()
        self.connection.connection_made(cast(asyncio.Transport, self))
        self._xid = 0

    # What the server calls.

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.1", 12345)

    def write(self, sent: bytes) -> None:
        self.world.log.append(f"sent {len(sent)}")
        if self.fetches:
            self.received += sent
            return
        self.unfetched += len(sent)
        if self.unfetched > WRITABLE_BYTES:
            self.connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.unfetched

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        if not self.is_closed and not self.unfetched:
            self.is_closed = True
            self.world.loop.call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted = True
        if not self.is_closed:
            self.is_closed = True
            self.world.loop.call_soon(self.connection.connection_lost, None)

    # What the test does.

    def send_bytes(self, sent: bytes) -> None:
        assert not self.is_paused and not self.is_closed
        self.connection.data_received(sent)

    def frame(self, opcode: int, body: bytes = b"") -> bytes:
        self._xid += 1
        request = struct.pack(">ii", self._xid, opcode) + body
        return struct.pack(">i", len(request)) + request

    def send(self, opcode: int, body: bytes = b"") -> None:
        self.send_bytes(self.frame(opcode, body))

    def connect(self, timeout_ms: int = 4000, session: int = 0, password: bytes = b"\0" * 16) -> "Peer":
        fields = struct.pack(">iqiqi", 0, 0, timeout_ms, session, len(password)) + password + b"\0"
        self.send_bytes(struct.pack(">i", len(fields)) + fields)
        self.world.loop.run_until_idle()
        _, self.granted_ms, self.session, _ = struct.unpack_from(">iiqi", self.frames()[0])
        return self

    def frames(self) -> list[bytes]:
        """What was received since the last call."""
        frames = []
        while self.received:
            (length,) = struct.unpack_from(">i", self.received)
            frames.append(bytes(self.received[4 : 4 + length]))
            del self.received[: 4 + length]
        return frames

    def replies(self) -> list[tuple[int, int]]:
        """(xid, error) of each frame received."""
        return [(xid, error) for xid, _, error in (struct.unpack_from(">iqi", frame) for frame in self.frames())]


class World:
    """A server with its loop and network, and a log of what it did."""

    port = 2181

    def __init__(self, data: Path | None, limits: Limits) -> None:
        self.loop = Loop()
        self.log: list[str] = []
        self._protocol: Callable[[], asyncio.Protocol] | None = None
        self.server = ZooKeeperServer(
            loop=self.loop,
            network=self,  # type: ignore[arg-type]
            data=data,
            tick_ms=TICK_MS,
            limits=limits,
            wall=lambda: 1_700_000_000.0 + self.loop.time(),
            random=random.Random(1),
        )
        self.server.start()
        if self.server._storage is not None:
            self._write: Callable[[Any], None] = self.server._storage.write
            self.server._storage.write = self.write  # type: ignore[method-assign]

    def write(self, changes: Any) -> None:
        self.log.append("written")
        self._write(changes)

    def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> "World":
        self._protocol = protocol
        return self

    def close(self) -> None:
        self._protocol = None

    def accept(self) -> Any:
        assert self._protocol is not None
        return self._protocol()

    def peer(self, **options: Any) -> Peer:
        return Peer(self, **options).connect()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def world(tmp_path: Path, limits: Limits) -> Iterator[World]:
    world = World(tmp_path / "data", limits)
    yield world
    world.loop.run_until_idle()
    world.server.keeper.tree.check()
    world.server.stop()
    world.loop.run_until_idle()
    assert not world.server.connections


def bounded(**limits: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("limits", [Limits(**limits)])


# Keep before you tell.


def test_nothing_is_sent_before_it_is_on_disk(world: World) -> None:
    ann, bob = world.peer(), world.peer()
    bob.send(EXISTS, text("/a") + b"\1")
    world.loop.run_until_idle()
    bob.frames()
    world.log.clear()

    ann.send(CREATE, creation("/a"))
    bob.send(GET_DATA, text("/a") + b"\0")
    assert world.log == []
    world.loop.run_until_idle()

    assert world.log[0] == "written"
    assert [entry[:4] for entry in world.log[1:]] == ["sent", "sent"]
    assert bob.replies() == [(-1, 0), (2, 0)]


def test_all_writes_of_one_turn_share_one_sync(world: World) -> None:
    peers = [world.peer() for _ in range(10)]
    world.log.clear()
    for index, peer in enumerate(peers):
        peer.send_bytes(b"".join(peer.frame(CREATE, creation(f"/{index}-{n}")) for n in range(10)))
    world.loop.run_until_idle()
    assert world.log.count("written") == 1
    for peer in peers:
        assert peer.replies() == [(xid, 0) for xid in range(1, 11)]


def test_reading_costs_no_sync(world: World) -> None:
    ann = world.peer()
    world.log.clear()
    ann.send(GET_DATA, text("/") + b"\0")
    ann.send(CREATE, creation("/no/parent"))
    world.loop.run_until_idle()
    assert "written" not in world.log
    assert ann.replies() == [(1, 0), (2, -101)]


def test_a_turn_that_the_disk_refuses_never_happened(world: World) -> None:
    ann, bob = world.peer(), world.peer()
    ann.send(CREATE, creation("/kept", flags=1))
    world.loop.run_until_idle()
    ann.frames()
    before = world.server.keeper.tree.zxid
    works, storage = world._write, world.server._storage
    assert storage is not None

    def fails(changes: Any) -> None:
        raise DataError("the disk is full")

    world._write = fails
    ann.send(CREATE, creation("/lost"))
    bob.send(EXISTS, text("/lost") + b"\0")
    world.loop.run_until_idle()
    assert ann.is_aborted and bob.is_aborted
    assert ann.replies() == bob.replies() == []

    world._write = works
    back = Peer(world).connect(session=ann.session, password=world.server.keeper.tree.sessions[ann.session].password)
    assert back.session == ann.session
    assert world.server.keeper.tree.zxid == before
    assert "/lost" not in world.server.keeper.tree.nodes
    assert world.server.keeper.tree.nodes["/kept"].owner == ann.session
    back.send(CREATE, creation("/works-again"))
    world.loop.run_until_idle()
    assert back.replies() == [(1, 0)]


def test_while_the_disk_cannot_be_read_nobody_is_served(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = world.peer()
    storage = world.server._storage
    assert storage is not None

    def fails(*_: Any) -> None:
        raise DataError("the disk is gone")

    world._write = fails
    monkeypatch.setattr(storage, "reopen", fails)
    ann.send(CREATE, creation("/lost"))
    world.loop.advance(20.0)
    assert Peer(world).is_aborted

    monkeypatch.undo()
    world._write = type(storage).write.__get__(storage)
    world.loop.advance(server_module.DISK_RETRY_SECONDS)
    assert ann.session in world.server.keeper.tree.sessions  # not judged while it could not have come back
    world.peer()


# Sessions in time.


def test_a_silent_session_ends_after_its_timeout_and_at_most_a_tick_later(world: World) -> None:
    ann = world.peer()
    ann.send(CREATE, creation("/e", flags=1))
    world.loop.advance(3.9)
    assert "/e" in world.server.keeper.tree.nodes
    world.loop.advance(0.1 + TICK_MS / 1000)
    assert "/e" not in world.server.keeper.tree.nodes
    assert ann.is_closed


def test_any_request_keeps_a_session_alive(world: World) -> None:
    ann = world.peer()
    for _ in range(10):
        world.loop.advance(3.5)
        ann.send(PING)
    assert not ann.is_closed


def test_a_server_that_was_stopped_for_a_minute_ends_no_session_for_that(world: World) -> None:
    ann = world.peer()
    world.loop.stall(60.0)
    world.loop.run_until_idle()
    assert not ann.is_closed
    world.loop.advance(3.5)
    ann.send(PING)
    world.loop.run_until_idle()
    assert len(ann.replies()) == 1


def test_a_restarted_server_knows_its_sessions(world: World) -> None:
    ann = world.peer()
    ann.send(CREATE, creation("/e", flags=1))
    password = world.server.keeper.tree.sessions[ann.session].password
    world.loop.run_until_idle()
    world.server.stop()
    world.loop.advance(3600.0)
    world.server.start()
    world.loop.advance(3.5)
    back = Peer(world).connect(session=ann.session, password=password)
    assert back.session == ann.session
    assert world.server.keeper.tree.nodes["/e"].owner == ann.session


# Limits.


def test_a_client_that_does_not_fetch_replies_is_not_read_either(world: World) -> None:
    ann = world.peer()
    ann.send(CREATE, creation("/large", b"x" * 500_000))
    world.loop.run_until_idle()
    ann.fetches = False
    ann.send_bytes(b"".join(ann.frame(GET_DATA, text("/large") + b"\0") for _ in range(50)))
    world.loop.run_until_idle()
    assert ann.is_paused
    assert ann.unfetched < 3_000_000

    ann.fetches, ann.unfetched = True, 0
    ann.frames()
    ann.connection.resume_writing()
    world.loop.run_until_idle()
    assert not ann.is_paused
    assert ann.replies()[-1] == (51, 0)


@bounded(unsent_bytes_max=20_000)
def test_a_client_that_lets_its_events_pile_up_is_cut_off(world: World) -> None:
    ann, bob = world.peer(), world.peer()
    ann.send(106, text("/") + number(1))
    world.loop.run_until_idle()
    ann.fetches = False
    for index in range(10_000):
        if ann.is_aborted:
            break
        bob.send(SET_DATA, text("/") + data(b"%d" % index) + number(-1))
        world.loop.run_until_idle()
    assert ann.is_aborted
    assert ann.unfetched < 40_000
    assert not bob.is_closed


def test_many_frames_at_once_leave_room_for_other_clients(world: World) -> None:
    ann, bob = world.peer(), world.peer()
    ann.send(CREATE, creation("/large", b"x" * 1_000_000))
    world.loop.run_until_idle()
    ann.frames()
    ann.send_bytes(b"".join(ann.frame(GET_DATA, text("/large") + b"\0") for _ in range(50)))
    bob.send(PING)
    world.log.clear()
    world.loop.run_until_idle()
    sizes = [int(entry.split()[1]) for entry in world.log]
    assert len(ann.replies()) == 50 and len(bob.replies()) == 1
    assert max(sizes) < 3_000_000
    assert sizes.index(20) <= 1  # bob's answer did not wait for all of ann's


def test_who_does_not_shake_hands_is_sent_away(world: World) -> None:
    silent = Peer(world)
    world.loop.advance(world.server.limits.connect_seconds_max)
    assert silent.is_closed


@bounded(connections_max=3)
def test_there_are_only_so_many_connections(world: World) -> None:
    peers = [world.peer() for _ in range(3)]
    assert Peer(world).is_aborted
    peers[0].send(CLOSE)
    world.loop.run_until_idle()
    world.peer()


@bounded(sessions_max=3)
def test_there_are_only_so_many_sessions(world: World) -> None:
    for _ in range(3):
        world.peer().connection.abort()
    world.loop.run_until_idle()
    refused = Peer(world)
    with pytest.raises(IndexError):
        refused.connect()
    assert refused.is_closed
    world.loop.advance(5.0)
    world.peer()


def test_a_client_that_does_not_fetch_its_goodbye_is_cut_off(world: World) -> None:
    ann = world.peer()
    ann.fetches = False
    ann.send(CLOSE)
    world.loop.run_until_idle()
    assert not ann.is_closed
    world.loop.advance(world.server.limits.close_seconds_max)
    assert ann.is_aborted


@pytest.mark.parametrize("split", [1, 2, 3, 5, 7, 1000])
def test_frames_may_arrive_in_any_pieces(world: World, split: int) -> None:
    ann = world.peer()
    whole = ann.frame(CREATE, creation("/a", b"12345")) + ann.frame(GET_DATA, text("/a") + b"\0") + ann.frame(PING)
    for at in range(0, len(whole), split):
        ann.send_bytes(whole[at : at + split])
        world.loop.run_until_idle()
    assert ann.replies() == [(1, 0), (2, 0), (3, 0)]


def test_a_frame_over_the_limit_ends_the_connection_before_it_is_received(world: World) -> None:
    ann = world.peer()
    ann.send_bytes(struct.pack(">i", world.server.limits.frame_bytes_max + 1) + b"x")
    world.loop.run_until_idle()
    assert ann.is_closed


def test_a_request_that_cannot_be_read_costs_its_sender_that_request_only(world: World) -> None:
    ann = world.peer()
    ann.send(CREATE, b"\x7f\xff\xff\xff")
    ann.send(999)
    ann.send(PING)
    world.loop.run_until_idle()
    assert ann.replies() == [(1, -5), (2, -6), (3, 0)]


def test_a_port_that_is_taken_leaves_no_lock(tmp_path: Path) -> None:
    class Taken(World):
        def listen(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> World:
            raise OSError("address already in use")

    with pytest.raises(OSError, match="in use"):
        Taken(tmp_path / "data", Limits())
    World(tmp_path / "data", Limits()).server.stop()
