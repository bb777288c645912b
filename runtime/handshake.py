"""Proves to each other that two processes belong to the same cluster, before anything else is said between them.

    dialer                                     acceptor
      | -- Hello(who, lane, nonce) ------------> |    cluster and version are compared
      | <------------ Challenge(version, nonce) - |    still does not say who answers
      | -- Proof --------------------------------> |    PROVEN: the bridge decides whether it wants this connection
      | <--------------- Welcome(who), Proof ---- |    open
    open

A proof is the HMAC-SHA256, keyed with the cluster's secret, of the prover's role and of every byte that both have said
so far. Both put a fresh nonce in, so a recorded handshake proves nothing a second time; the role is in it, so a proof
reflected to its maker is wrong; the exact bytes are in it, so nobody in the middle can change a name, a lane or the
range of versions. Comparison takes the same time wherever the difference is. An acceptor tells a stranger nothing about
itself but a version and a nonce. What flows after the handshake is neither encrypted nor signed: against somebody who
can alter packets in flight only TLS helps.

Nothing here reads a socket or a clock or rolls dice: contents of frames in, frames out, nonces handed in. A failure is
a ``Refusal`` with two sentences, one for the log here and one for the peer, who may be anybody.

Where to look next: ``wire.py`` (the frames), ``bridge.py`` (time limit, and which of two crossing connections stays).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from .wire import LENGTH_BYTES, Challenge, Frame, Hello, Lane, Proof, Refused, Welcome, WireError, pack, shown, unpack

VERSIONS = (1, 1)
"""The oldest and the newest version of the protocol between processes that this release speaks."""

NONCE_BYTES = 32

HANDSHAKE_BYTES_MAX = 4096
"""No frame of a handshake is longer; so much memory may a stranger use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a process says it is."""

    cluster: str
    node: str
    """What people call it."""
    address: str
    """Where it listens and what its refs begin with: ``host:port``."""
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who is at the other end, and what this connection is for. Proven, not just claimed."""

    node: str
    address: str
    incarnation: str
    lane: Lane
    attempt: int
    """The number of its dial, or of its last dial, to us: none with a number up to this is still under way."""
    version: int


class Refusal(Exception):
    """The connection must end. ``str()`` is for the log here; ``told`` for the peer, empty if it need not be told."""

    def __init__(self, reason: str, told: str = "", crossing: bool = False) -> None:
        super().__init__(reason)
        self.told = told
        self.crossing = crossing


class _Side:
    """What both roles keep: who we are, the secret, and everything said so far."""

    peer: Proven | None = None
    """Set once the other side has proven that it knows the secret."""

    def __init__(self, own: Identity, secret: bytes, nonce: bytes) -> None:
        assert len(nonce) == NONCE_BYTES
        self.own = own
        self._secret = secret
        self._nonce = nonce
        self._transcript = hashlib.sha256()

    def _say(self, frame: Frame) -> bytes:
        packed = pack(frame)
        self._transcript.update(packed)
        return packed

    def _hear(self, content: bytes | memoryview) -> Frame:
        try:
            frame = unpack(content)
        except WireError as error:
            raise Refusal(
                f"it does not speak this protocol: {error}", "this is not the protocol spoken here"
            ) from error
        if isinstance(frame, Refused):
            raise Refusal(f"it refused: {shown(frame.reason)}", crossing=frame.crossing)
        # A Proof is checked against what was said before it, so it must not be in yet.
        if not isinstance(frame, Proof):
            self._enter(content)
        return frame

    def _enter(self, content: bytes | memoryview) -> None:
        self._transcript.update(len(content).to_bytes(LENGTH_BYTES, "big"))
        self._transcript.update(content)

    def _proof(self, role: Literal["dialer", "acceptor"]) -> bytes:
        said = b"ringkeeper bridge, " + role.encode() + b"\0" + self._transcript.digest()
        return hmac.digest(self._secret, said, "sha256")

    def _check_nonce(self, nonce: bytes) -> None:
        if len(nonce) != NONCE_BYTES or nonce == self._nonce:
            raise Refusal("its nonce is not one", f"a nonce of {NONCE_BYTES} fresh bytes is expected")


class Dialer(_Side):
    """The side that opened the connection. ``proved``: from here on the acceptor may consider it open."""

    def __init__(
        self, own: Identity, secret: bytes, nonce: bytes, *, to: str, lane: Lane, attempt: int,
        versions: tuple[int, int] = VERSIONS,
    ) -> None:  # fmt: skip
        super().__init__(own, secret, nonce)
        self.to, self.lane, self.attempt, self.versions = to, lane, attempt, versions
        self.proved = False
        self._version = 0
        self._welcome: Welcome | None = None

    def hello(self) -> bytes:
        """The first bytes on the connection."""
        return self._say(
            Hello(
                versions=self.versions,
                cluster=self.own.cluster,
                node=self.own.node,
                address=self.own.address,
                incarnation=self.own.incarnation,
                lane=self.lane,
                attempt=self.attempt,
                nonce=self._nonce,
            )
        )

    def receive(self, content: bytes | memoryview) -> bytes:
        """What to send in return to the content of a frame. Raises Refusal."""
        match self._hear(content):
            case Challenge() as challenge if not self.proved:
                return self._challenged(challenge)
            case Welcome() as welcome if self.proved and self._welcome is None:
                self._welcome = welcome
                return b""
            case Proof(proof) if self._welcome is not None:
                self._check(proof, self._welcome)
                return b""
            case other:
                raise _out_of_place(other)

    def _challenged(self, challenge: Challenge) -> bytes:
        if not self.versions[0] <= challenge.version <= self.versions[1]:
            raise Refusal(*_versions_differ(self.versions, (challenge.version, challenge.version)))
        self._check_nonce(challenge.nonce)
        self._version = challenge.version
        self.proved = True
        return self._say(Proof(self._proof("dialer")))

    def _check(self, proof: bytes, welcome: Welcome) -> None:
        if not hmac.compare_digest(proof, self._proof("acceptor")):
            raise Refusal("whoever answers there does not know the cluster's secret", _WRONG_SECRET)
        if welcome.address != self.to:
            raise Refusal(
                f"{self.to} was dialed and {shown(welcome.address)} answers: use the address that it advertises",
                f"{self.to} was dialed, not {welcome.address}",
            )
        self.peer = Proven(
            node=welcome.node,
            address=welcome.address,
            incarnation=welcome.incarnation,
            lane=self.lane,
            attempt=welcome.attempt,
            version=self._version,
        )


class Acceptor(_Side):
    """The side that was called. Once ``peer`` is set the bridge answers ``welcome`` or refuses."""

    def __init__(self, own: Identity, secret: bytes, nonce: bytes, *, versions: tuple[int, int] = VERSIONS) -> None:
        super().__init__(own, secret, nonce)
        self.versions = versions
        self._version = 0
        self._hello: Hello | None = None

    def receive(self, content: bytes | memoryview) -> bytes:
        """What to send in return to the content of a frame. Raises Refusal."""
        match self._hear(content):
            case Hello() as hello if self._hello is None:
                return self._greeted(hello)
            case Proof(proof) if self._hello is not None and self.peer is None:
                self._check(proof, self._hello)
                self._enter(content)
                return b""
            case other:
                raise _out_of_place(other)

    def _greeted(self, hello: Hello) -> bytes:
        claim = f"{shown(hello.node)} at {shown(hello.address)}"
        if hello.cluster != self.own.cluster:
            raise Refusal(
                f"{claim} belongs to the cluster {shown(hello.cluster)}, this process to {self.own.cluster!r}",
                f"this process does not belong to the cluster {shown(hello.cluster)}",
            )
        version = min(self.versions[1], hello.versions[1])
        if version < max(self.versions[0], hello.versions[0]):
            reason, told = _versions_differ(self.versions, hello.versions)
            raise Refusal(f"{claim}: {reason}", told)
        self._check_nonce(hello.nonce)
        self._hello, self._version = hello, version
        return self._say(Challenge(version=version, nonce=self._nonce))

    def _check(self, proof: bytes, hello: Hello) -> None:
        claim = f"{shown(hello.node)} at {shown(hello.address)}"
        if not hmac.compare_digest(proof, self._proof("dialer")):
            raise Refusal(f"it says it is {claim} and does not know the cluster's secret", _WRONG_SECRET)
        self.peer = Proven(
            node=hello.node,
            address=hello.address,
            incarnation=hello.incarnation,
            lane=hello.lane,
            attempt=hello.attempt,
            version=self._version,
        )

    def welcome(self, attempt: int) -> bytes:
        """The last bytes of the handshake: the connection is open. ``attempt``: the number of our last dial."""
        assert self.peer is not None
        own = self.own
        welcome = self._say(Welcome(node=own.node, address=own.address, incarnation=own.incarnation, attempt=attempt))
        return welcome + self._say(Proof(self._proof("acceptor")))


_WRONG_SECRET = "the proof of the cluster's secret is wrong"


def _versions_differ(ours: tuple[int, int], theirs: tuple[int, int]) -> tuple[str, str]:
    return (
        f"it speaks versions {theirs[0]} to {theirs[1]} of the protocol, this release {ours[0]} to {ours[1]}: "
        "upgrade the older one first to a release between the two",
        f"versions {ours[0]} to {ours[1]} of the protocol are spoken here",
    )


def _out_of_place(frame: Frame) -> Refusal:
    kind = type(frame).__name__
    return Refusal(
        f"it sent a {kind} frame where the handshake does not have one",
        f"a {kind} frame has no place here: prove the cluster's secret first",
    )
