"""The proof of the cluster's secret, and everything that must not pass for it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.runtime import wire
from ringkeeper.runtime.handshake import Acceptor, Dialer, Identity, Proven, Refusal
from ringkeeper.runtime.wire import LENGTH_BYTES, Frames, pack, unpack

SECRET = b"correct horse battery staple"


def identity(port: int, **changes: Any) -> Identity:
    who = {"cluster": "test", "node": f"n{port}", "address": f"h:{port}", "incarnation": f"i{port}", **changes}
    return Identity(**who)


def dialer(secret: bytes = SECRET, nonce: bytes = b"d" * 32, to: str = "h:2", **changes: Any) -> Dialer:
    versions = changes.pop("versions", (1, 1))
    own = identity(1, **changes)
    return Dialer(own, secret, nonce, to=to, lane="control", attempt=5, versions=versions)


def acceptor(secret: bytes = SECRET, nonce: bytes = b"a" * 32, **changes: Any) -> Acceptor:
    versions = changes.pop("versions", (1, 1))
    return Acceptor(identity(2, **changes), secret, nonce, versions=versions)


def contents(packed: bytes) -> list[bytes]:
    return [bytes(content) for content in Frames(4096).feed(packed)]


def play(here: Dialer, there: Acceptor, meddle: Any = lambda step, content: content) -> list[bytes]:
    """Let both talk until the link is open; returns what was said. ``meddle`` may alter each frame on the way."""
    said = []

    def carry(packed: bytes, to: Any) -> bytes:
        replies = b""
        for content in contents(packed):
            said.append(content)
            replies += to.receive(meddle(len(said), content))
        return replies

    challenge = carry(here.hello(), there)
    proof = carry(challenge, here)
    assert carry(proof, there) == b""
    assert there.peer is not None
    assert carry(there.welcome(9), here) == b""
    return said


def test_two_that_know_the_secret_learn_who_the_other_is() -> None:
    here, there = dialer(), acceptor()
    play(here, there)
    who: dict[str, Any] = {"lane": "control", "version": 1}
    assert here.peer == Proven(node="n2", address="h:2", incarnation="i2", attempt=9, **who)
    assert there.peer == Proven(node="n1", address="h:1", incarnation="i1", attempt=5, **who)


def test_the_highest_common_version_is_spoken() -> None:
    here, there = dialer(versions=(1, 4)), acceptor(versions=(2, 3))
    play(here, there)
    assert here.peer is not None
    assert there.peer is not None
    assert here.peer.version == there.peer.version == 3


@pytest.mark.parametrize(("ours", "theirs"), [((1, 1), (2, 3)), ((2, 3), (1, 1))])
def test_releases_too_far_apart_refuse_each_other_and_say_why(ours: Any, theirs: Any) -> None:
    here, there = dialer(versions=ours), acceptor(versions=theirs)
    with pytest.raises(Refusal, match="upgrade the older one first") as refusal:
        play(here, there)
    assert refusal.value.told == f"versions {theirs[0]} to {theirs[1]} of the protocol are spoken here"
    assert there.peer is None


def test_another_cluster_is_refused_without_naming_ours() -> None:
    here, there = dialer(cluster="other"), acceptor()
    with pytest.raises(Refusal, match="belongs to the cluster 'other', this process to 'test'") as refusal:
        play(here, there)
    assert "test" not in refusal.value.told


@pytest.mark.parametrize(("mine", "theirs"), [(b"", SECRET), (SECRET, b""), (b"guess", SECRET)])
def test_another_secret_is_refused_and_leaves_nothing_open(mine: bytes, theirs: Any) -> None:
    here, there = dialer(secret=mine), acceptor(secret=theirs)
    with pytest.raises(Refusal, match="does not know the cluster's secret") as refusal:
        play(here, there)
    assert refusal.value.told == "the proof of the cluster's secret is wrong"
    assert here.peer is there.peer is None


def test_a_stranger_learns_a_version_and_a_nonce_and_nothing_else() -> None:
    there = acceptor()
    (challenge,) = contents(there.receive(contents(dialer(secret=b"guess").hello())[0]))
    assert unpack(challenge) == wire.Challenge(version=1, nonce=b"a" * 32)


def test_an_acceptor_without_the_secret_is_refused() -> None:
    here, there = dialer(), acceptor()

    def forge(step: int, content: bytes) -> bytes:
        return pack(wire.Proof(b"x" * 32))[LENGTH_BYTES:] if step == 5 else content

    with pytest.raises(Refusal, match="whoever answers there does not know the cluster's secret"):
        play(here, there, forge)
    assert here.peer is None


def test_a_recorded_handshake_proves_nothing_a_second_time() -> None:
    said = play(dialer(), acceptor(nonce=b"1" * 32))
    fresh = acceptor(nonce=b"2" * 32)
    fresh.receive(said[0])
    with pytest.raises(Refusal, match="does not know the cluster's secret"):
        fresh.receive(said[2])
    assert fresh.peer is None
    lured = dialer(nonce=b"3" * 32)
    lured.hello()
    lured.receive(said[1])
    lured.receive(said[3])
    with pytest.raises(Refusal, match="does not know the cluster's secret"):
        lured.receive(said[4])
    assert lured.peer is None


def test_a_process_is_not_convinced_by_its_own_words() -> None:
    here = dialer()
    (hello,) = contents(here.hello())
    with pytest.raises(Refusal, match="a Hello frame where the handshake does not have one"):
        here.receive(hello)
    here = dialer()
    here.hello()
    with pytest.raises(Refusal, match="its nonce is not one"):
        here.receive(pack(wire.Challenge(1, b"d" * 32))[LENGTH_BYTES:])
    here = dialer()
    here.hello()
    (proof,) = contents(here.receive(pack(wire.Challenge(1, b"a" * 32))[LENGTH_BYTES:]))
    here.receive(pack(wire.Welcome("n2", "h:2", "i2", 9))[LENGTH_BYTES:])
    with pytest.raises(Refusal, match="does not know"):
        here.receive(proof)
    assert here.peer is None


@given(step=st.integers(1, 5), place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_no_bit_of_a_handshake_can_be_altered_on_the_way(step: int, place: int, bit: int) -> None:
    """Whatever is flipped, never do both sides think that all is well and differ, nor one that trusts altered words."""
    here, there = dialer(), acceptor()

    def flip(now: int, content: bytes) -> bytes:
        if now != step:
            return content
        altered = bytearray(content)
        altered[place % len(content)] ^= 1 << bit
        return bytes(altered)

    with pytest.raises(Refusal):
        play(here, there, flip)
    assert here.peer is None


@pytest.mark.parametrize("nonce", [b"", b"short", b"n" * 33, b"a" * 32])
def test_a_nonce_that_is_none_is_refused(nonce: bytes) -> None:
    hello = wire.Hello((1, 1), "test", "n", "h:1", "i", "data", 1, nonce)
    with pytest.raises(Refusal, match="its nonce is not one"):
        acceptor().receive(pack(hello)[LENGTH_BYTES:])


@pytest.mark.parametrize(
    "frame",
    [
        wire.Code(b"cos\nsystem\n(S'true'\ntR."),
        wire.Ping(1),
        wire.Proof(b"x" * 32),
        wire.Welcome("n", "h:2", "i", 1),
        wire.Challenge(1, b"c" * 32),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_nothing_but_the_handshake_is_heard_before_its_end(frame: Any) -> None:
    with pytest.raises(Refusal, match=f"a {type(frame).__name__} frame where") as refusal:
        acceptor().receive(pack(frame)[LENGTH_BYTES:])
    assert "prove the cluster's secret first" in refusal.value.told


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(Refusal, match="does not speak this protocol"):
        acceptor().receive(b"\xff\xff\xff")


def test_the_process_that_answers_must_be_the_one_that_was_dialed() -> None:
    with pytest.raises(Refusal, match="h:3 was dialed and 'h:2' answers"):
        play(dialer(to="h:3"), acceptor())


def test_what_a_stranger_calls_itself_does_not_fill_the_log() -> None:
    with pytest.raises(Refusal) as refusal:
        play(dialer(cluster="x\n" * 1000), acceptor())
    assert len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)
    with pytest.raises(Refusal) as refusal:
        dialer().receive(pack(wire.Refused("y\n" * 1000))[LENGTH_BYTES:])
    assert len(str(refusal.value)) < 300
