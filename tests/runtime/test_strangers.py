"""Who may not come in, over real TCP: each is refused with a reason, and the process and its other links go on."""

import contextlib
import os
import pickle
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from ringkeeper.runtime import wire
from ringkeeper.runtime.actor import Actor
from ringkeeper.runtime.bridge import Bridge, BridgeConfig, LinkLost
from ringkeeper.runtime.handshake import Dialer, Identity
from ringkeeper.runtime.message import message
from ringkeeper.runtime.network import TcpNetwork
from ringkeeper.runtime.system import ActorSystem
from ringkeeper.runtime.wire import Frames, pack, unpack

SECRET = b"correct horse battery staple"


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """Is anybody there? Test -> Doorkeeper."""

    n: int


class Doorkeeper(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.lost: dict[str, str] = {}

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, LinkLost):
            self.lost[message.node] = message.why
            return None
        return message.n if isinstance(message, Knock) else dict(self.lost)


class Town:
    """Two processes with a link between them, on an event loop in a thread."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.network = TcpNetwork(self.loop)
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.ann, self.bob = self.on_loop(self._settle, "ann"), self.on_loop(self._settle, "bob")
        self.on_loop(lambda: self.ann.subscribe(self.ann.system.find("doorkeeper")))
        self.n = 0
        self.works()

    def _settle(self, node: str) -> Bridge:
        config = BridgeConfig(cluster="test", node=node, secret=SECRET, strangers_max=8, handshake_seconds=3.0)
        system = ActorSystem(loop=self.loop, name=node)
        system.spawn(Doorkeeper, name="doorkeeper")
        return Bridge(system, self.network, config)

    def on_loop(self, call: Callable[..., Any], *args: Any) -> Any:
        answer: list[Any] = []
        done = threading.Event()

        def run() -> None:
            try:
                answer.append(call(*args))
            finally:
                done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(10)
        return answer[0]

    def works(self) -> None:
        """The link between ann and bob carries questions both ways, and has never been lost."""
        for here, there in ((self.ann, self.bob), (self.bob, self.ann)):
            self.n += 1
            doorkeeper = here.ref(f"ringkeeper://{there.address}/doorkeeper")
            assert doorkeeper.ask(Knock(n=self.n), timeout=10) == self.n
        assert "bob" not in self.lost()
        assert self.on_loop(lambda: [state.up for state in self.ann.links() if state.node == "bob"]) == [True]

    def lost(self) -> dict[str, str]:
        """Why ann lost her last link to whom."""
        lost: dict[str, str] = self.ann.system.find("doorkeeper").ask("lost", timeout=10)
        return lost

    def port(self) -> int:
        return int(self.ann.address.rpartition(":")[2])

    def close(self) -> None:
        gone = threading.Event()

        def close() -> None:
            self.ann.close(done=lambda: self.bob.close(done=gone.set))

        self.loop.call_soon_threadsafe(close)
        assert gone.wait(10)
        for bridge in (self.ann, self.bob):
            self.on_loop(bridge.system.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    try:
        yield town
        town.works()
    finally:
        town.close()


class Stranger:
    """A raw connection to ann's bridge."""

    def __init__(self, town: Town) -> None:
        self.socket = socket.create_connection(("127.0.0.1", town.port()), timeout=10)
        self.frames = Frames(1 << 20)
        self.heard: list[Any] = []

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def say(self, content: bytes) -> None:
        with contextlib.suppress(OSError):  # it was closed on us, which is what the test then looks for
            self.socket.sendall(content)

    def hear(self) -> Any:
        """The next frame, or None when the connection is over."""
        while not self.heard:
            try:
                chunk = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not chunk:
                return None
            self.heard += [bytes(content) for content in self.frames.feed(chunk)]
        return unpack(self.heard.pop(0))

    def hear_all(self) -> list[Any]:
        frames = []
        while (frame := self.hear()) is not None:
            frames.append(frame)
        return frames


def hello(town: Town, secret: bytes = SECRET, lane: Any = "data", port: int = 1, **changes: Any) -> Dialer:
    who = {"cluster": "test", "node": "eve", "address": f"127.0.0.1:{port}", "incarnation": "e", **changes}
    return Dialer(Identity(**who), secret, os.urandom(32), to=town.ann.address, lane=lane, attempt=1)


def shake_hands(stranger: Stranger, dialer: Dialer) -> list[bytes]:
    """Go through the handshake as far as it goes; returns what was said here."""
    said = [dialer.hello()]
    stranger.say(said[0])
    while dialer.peer is None:
        heard = stranger.hear()
        assert heard is not None
        reply = dialer.receive(pack(heard)[wire.LENGTH_BYTES :])
        if reply:
            said.append(reply)
            stranger.say(reply)
    return said


def reasons(frames: list[Any]) -> list[str]:
    return [frame.reason for frame in frames if isinstance(frame, wire.Refused | wire.Goodbye)]


def test_a_peer_without_the_secret_is_refused(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    with Stranger(town) as stranger:
        dialer = hello(town, secret=b"guess")
        stranger.say(dialer.hello())
        challenge = stranger.hear()
        stranger.say(dialer.receive(pack(challenge)[wire.LENGTH_BYTES :]))
        assert reasons(stranger.hear_all()) == ["the proof of the cluster's secret is wrong"]
    assert "does not know the cluster's secret" in caplog.text
    assert SECRET.decode() not in caplog.text


def test_a_replayed_handshake_is_refused(town: Town) -> None:
    with Stranger(town) as stranger:
        said = shake_hands(stranger, hello(town))
    with Stranger(town) as again:
        again.say(said[0])
        assert isinstance(again.hear(), wire.Challenge)
        again.say(said[1] + pack(wire.Tell("doorkeeper", "", "Knock", msgspec.Raw(b"\x81\xa1n\x01"))))
        assert reasons(again.hear_all()) == ["the proof of the cluster's secret is wrong"]


def test_a_reflected_handshake_is_refused(town: Town) -> None:
    with Stranger(town) as one, Stranger(town) as two:
        mirror = hello(town)
        one.say(mirror.hello())
        challenge = one.hear()
        one.say(pack(challenge))
        assert reasons(one.hear_all()) == [
            "a Challenge frame has no place here: prove the cluster's secret first",
        ]
        two.say(mirror.hello())
        two.hear()
        two.say(pack(wire.Proof(bytes(32))))
        assert len(reasons(two.hear_all())) == 1


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_code_frame_is_refused_before_and_after_the_handshake_and_never_read(town: Town, tmp_path: Path) -> None:
    code = pickle.dumps(Bomb(str(tmp_path / "boom")))
    with Stranger(town) as stranger:
        stranger.say(pack(wire.Code(code, 1, "doorkeeper")))
        assert reasons(stranger.hear_all()) == ["a Code frame has no place here: prove the cluster's secret first"]
    with Stranger(town) as member:
        shake_hands(member, hello(town))
        member.say(pack(wire.Code(code, 1, "doorkeeper")))
        refused = next(frame for frame in iter(member.hear, None) if isinstance(frame, wire.Failure))
        assert (refused.number, refused.error) == (1, "CodeRefused")
        assert refused.text.endswith("started without allow_code (--allow-code). The code was not looked at.")
        assert "eve" not in town.lost()
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(town_of_strangers: Town, seed: int) -> None:
    town, chance = town_of_strangers, random.Random(seed)
    with Stranger(town) as stranger:
        stranger.say(chance.randbytes(chance.choice([4, 50, 5000, 100_000])))
        stranger.socket.shutdown(socket.SHUT_WR)
        assert len(reasons(stranger.hear_all())) <= 1
    with Stranger(town) as stranger:  # well framed, badly filled
        content = chance.randbytes(chance.randint(1, 4000))
        stranger.say(len(content).to_bytes(4, "big") + content)
        assert reasons(stranger.hear_all()) == ["this is not the protocol spoken here"]


@pytest.fixture(scope="module")
def town_of_strangers() -> Iterator[Town]:
    town = Town()
    try:
        yield town
        town.works()
    finally:
        town.close()


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x10\x01", b"*1000000000\r\n"]
)
def test_an_oversized_frame_is_refused_by_its_header(town_of_strangers: Town, head: bytes) -> None:
    with Stranger(town_of_strangers) as stranger:
        stranger.say(head)
        assert reasons(stranger.hear_all()) == ["this is not the protocol spoken here"]


def test_an_oversized_frame_of_a_member_ends_its_link_only(town: Town) -> None:
    with Stranger(town) as member:
        shake_hands(member, hello(town))
        member.say((town.ann.config.frame_bytes_max + 1).to_bytes(4, "big"))
        (reason,) = reasons(member.hear_all())
        assert "are allowed" in reason


def test_a_member_that_sends_nonsense_is_told_and_a_message_of_nonsense_is_a_dead_letter(town: Town) -> None:
    with Stranger(town) as member:
        shake_hands(member, hello(town))
        before = town.ann.system.dead_letters
        for type_name, body in (("Nothing", b"\x80"), ("Knock", b"\x81\xa1n\xa1x"), ("Knock", b"\x90")):
            member.say(pack(wire.Ask(7, "doorkeeper", "", type_name, msgspec.Raw(body))))
        failures: list[Any] = []
        while len(failures) < 3:
            failures.append(member.hear())
        assert [failure.error for failure in failures] == ["WireError"] * 3
        assert town.ann.system.dead_letters == before + 3
        member.say(pack(wire.Ask(8, "doorkeeper", "", "Knock", msgspec.Raw(b"\x81\xa1n\x05"))))
        assert msgspec.msgpack.decode(member.hear().body) == 5
        member.say(pack(wire.Proof(b"")))
        assert reasons(member.hear_all()) == ["a Proof frame after the handshake"]


def test_whoever_dawdles_is_shown_the_door(town: Town) -> None:
    with Stranger(town) as stranger:
        content = hello(town).hello()
        began = time.monotonic()
        stranger.socket.settimeout(0.05)
        heard = b""
        for n in range(len(content)):  # one byte at a time, always in time for the next
            stranger.say(content[n : n + 1])
            try:
                heard = stranger.socket.recv(4096)
                break
            except TimeoutError:
                assert time.monotonic() - began < 20
        assert b"the handshake took too long" in heard


def test_a_crowd_of_dawdlers_keeps_no_member_out(town: Town) -> None:
    crowd = [Stranger(town) for _ in range(40)]
    try:
        for stranger in crowd:
            stranger.say(b"\x00\x00")
        for stranger in crowd[:32]:
            assert reasons(stranger.hear_all()) == ["too many handshakes at once"]
        assert town.on_loop(lambda: len(town.ann._strangers)) <= 8
        with Stranger(town) as member:
            shake_hands(member, hello(town))
            member.say(pack(wire.Ask(1, "doorkeeper", "", "Knock", msgspec.Raw(b"\x81\xa1n\x07"))))
            assert msgspec.msgpack.decode(member.hear().body) == 7
            member.say(pack(wire.Goodbye("thanks")))
            assert member.hear() is None
    finally:
        for stranger in crowd:
            stranger.socket.close()
    deadline = time.monotonic() + 10
    while "eve" not in town.lost() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert town.lost() == {"eve": "it said goodbye: 'thanks'"}


def test_a_stream_of_refusals_is_not_a_stream_of_log_lines(
    town_of_strangers: Town, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(60):
        with Stranger(town_of_strangers) as stranger:
            stranger.say(b"\xff\xff\xff\xff")
            stranger.hear_all()
    assert caplog.text.count("refused a connection") <= 20
