"""Joins the actor systems of several processes: what is told to a ``RemoteRef`` here arrives at the actor there.

    ringkeeper://host:port/name         the address of an actor; ``host:port`` is where its process' bridge listens

A process has one ``Bridge``. It listens, dials a peer when something first wants to be sent there, and gives every
actor of its system a public address, so that refs may travel inside messages. Peers prove to each other that they know
the cluster's secret before anything else is said (``handshake.py``); messages are registered dataclasses whose fields
are checked (``wire.py``), never pickles. Code (a proxy's calls, the class of an actor to be spawned elsewhere: ``at``)
goes in frames of its own, which a process refuses unless it was started with ``allow_code`` (``code_frames.py``).

What can be relied on (``peer.py`` says how it is kept): messages of one sender to one receiver arrive in the order in
which they were sent, at most once, urgent ones by a lane of their own. Whatever is known not to have arrived is a dead
letter; a question then fails with ``Unsent`` (it did not happen) or ``Unanswered`` (it may have). When a link is lost,
everything that was sent over it has arrived or never will, ``LinkLost`` is told to whoever subscribed, and every remote
actor that somebody here watches is ``Terminated``: from here nobody can know it better.

Everything goes through ``Loop`` and ``Network`` callbacks. Refs may be used on any thread; all else belongs to the
loop's. ``faults`` is where scenarios and the shell hold, delay and drop.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykka import ActorDeadError

from .actor import Ref
from .connection import Connection
from .faults import Faults
from .handshake import NONCE_BYTES, Acceptor, Dialer, Identity, Proven, Refusal
from .hosts import is_loopback
from .message import message
from .metrics import Metric, counter, gauge
from .peer import Parcel, Peer
from .post import Post
from .remote import SCHEME, RemoteRef, parse_address, parse_process
from .system import ActorSystem, Nobody
from .wire import LENGTH_BYTES, Lane
from .world import Network

if TYPE_CHECKING:
    from .code_frames import RemoteSystem

log = logging.getLogger(__name__)

SECRET_BYTES_MIN = 16
"""A shorter secret could be guessed by whoever has seen one handshake; required beyond loopback, and for code."""

CLOSE_SECONDS_MAX = 2.0

COMPLAINTS_MAX = 10
COMPLAINTS_SECONDS = 10.0
"""So many refused connections are logged in so many seconds; the others are only counted."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUp:
    """There is a link to a process; everything from it arrives after this. Bridge -> subscribers."""

    peer: str
    """Where it listens: ``host:port``, as in the addresses of its actors."""
    node: str
    incarnation: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLost:
    """The link is over; nothing that was sent over it arrives after this. Bridge -> subscribers."""

    peer: str
    node: str
    incarnation: str
    why: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEnded:
    """Nobody listens any more where this process did, to which there was a link: it has ended. Bridge -> subscribers.

    Told after LinkLost. As certain as the address that the process advertises is its own.
    """

    peer: str
    node: str
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeConfig:
    """Who a process is towards others, and its limits. Raises ValueError when it would be unsafe or senseless."""

    cluster: str
    node: str
    """What people call this process."""
    host: str = "127.0.0.1"
    """Where to listen."""
    port: int = 0
    """0: a free one."""
    advertise: str = ""
    """How others reach it, ``host`` or ``host:port``, if not by ``host`` and ``port``."""
    secret: bytes = b""
    """What all processes of the cluster know; may be empty on loopback only."""
    incarnation: str = ""
    """This life of the process; random if not given."""

    allow_code: bool = False
    """Whether this process unpickles code that peers send, which lets them do here whatever it can do itself."""
    code_bytes_max: int = 4 << 20
    """So much code may a frame hold."""

    frame_bytes_max: int = 32 << 20
    outbound_messages_max: int = 100_000
    """So many messages wait for one lane of one peer at most, and"""
    outbound_bytes_max: int = 64 << 20
    """so many bytes, and,"""
    outbound_seconds_max: float = 5.0
    """as long as there is no link, about so long. What does not fit is a dead letter."""
    questions_max: int = 65_536
    """So many questions to one peer wait for their answers at most."""
    watches_max: int = 65_536
    """So many actors of this process may one peer watch."""
    strangers_max: int = 64
    """So many connections may be in their handshake at once; more are closed."""
    connect_seconds: float = 3.0
    handshake_seconds: float = 5.0
    backoff_seconds: float = 0.05
    """The pause before dialing again, doubled with every failure, up to"""
    backoff_seconds_max: float = 2.0
    ping_seconds: float = 1.0
    silence_seconds_max: float = 5.0
    """A peer that is silent for longer, on either lane, is lost."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and len(self.secret) < SECRET_BYTES_MIN:
            have = f"the secret has only {len(self.secret)} bytes" if self.secret else "there is no secret"
            raise ValueError(
                f"listening on {self.host} lets other machines in, and {have}: anybody could join the cluster. "
                f"Give every process the same secret of at least {SECRET_BYTES_MIN} bytes, or listen on 127.0.0.1."
            )
        if self.allow_code and len(self.secret) < SECRET_BYTES_MIN:
            raise ValueError(
                "a process that allows code needs a secret, on loopback too, which all users of a machine share: any "
                "of them could run programs in it. Give it and its peers the same secret, of at least "
                f"{SECRET_BYTES_MIN} bytes."
            )
        if not self.advertise and self.host in ("", "0.0.0.0", "::"):
            raise ValueError(
                f"listening on every address ({self.host or 'any host'}) does not say by which one others can reach "
                "this process. Advertise one."
            )
        if self.frame_bytes_max + LENGTH_BYTES > self.outbound_bytes_max:
            raise ValueError(
                f"a frame of {self.frame_bytes_max} bytes would never fit into a queue of {self.outbound_bytes_max}"
            )

    def address(self, port: int) -> str:
        """``host:port`` as others are told it, when this process listens on ``port``."""
        host = self.advertise or self.host
        if self.advertise and (host.startswith("[") or host.count(":") == 1):
            return host if host.rpartition(":")[2].isdigit() else f"{host}:{port}"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """What one peer looks like now, for people."""

    peer: str
    node: str
    incarnation: str
    up: bool
    rtt_seconds: float
    waiting_messages: int
    waiting_bytes: int
    unanswered: int
    links_lost: int


class Bridge:
    """The one bridge of a process. Raises OSError when its port is taken. Make it on the loop thread.

    ``ref`` and ``at`` may be called on any thread, all else on the loop's.
    """

    def __init__(
        self,
        system: ActorSystem,
        network: Network,
        config: BridgeConfig,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.system, self.config = system, config
        self.incarnation = config.incarnation or entropy(8).hex()
        self.faults = Faults(system.loop)
        self.closed = False
        self.dials = 0
        """How many dials this process has made so far."""
        self.post = Post(self)
        self.connections: set[Connection] = set()
        """Those whose sockets are not closed yet."""
        self.bytes_in = self.bytes_out = 0
        self._network, self._entropy = network, entropy
        self._peers: dict[str, Peer] = {}
        self._refs: weakref.WeakValueDictionary[str, RemoteRef] = weakref.WeakValueDictionary()
        self._subscribers: list[Ref] = []
        self._strangers: dict[Connection, None] = {}
        self._unflushed: dict[tuple[Peer, Lane], None] = {}
        self._complaints = 0
        self._complaining_until = float("-inf")
        self._listener = network.listen(config.host, config.port, self._accept)
        self.address = config.address(self._listener.port)
        self._identity = Identity(
            cluster=config.cluster, node=config.node, address=self.address, incarnation=self.incarnation
        )
        system.prefix = f"{SCHEME}{self.address}/"
        system.resolver = self.ref
        system.bridge = self
        system.allow_code = system.allow_code or config.allow_code
        system.metric_sources["bridge"] = self.metrics

    def ref(self, address: str) -> Ref:
        """The actor at ``ringkeeper://host:port/name``, here or elsewhere. Raises ValueError. Dials nobody."""
        known = self._refs.get(address)
        if known is not None:
            return known
        process, name = parse_address(address)
        if process == self.address:
            return self.system.find(name) or Nobody(self.system, name)
        made = self._refs[address] = RemoteRef(self, process, name)
        return made

    def at(self, process: str) -> RemoteSystem:
        """The actors of the process whose bridge is at ``host:port``: spawn and look there. Dials nobody.

        Raises ValueError.
        """
        from .code_frames import RemoteSystem  # imports cloudpickle, which most processes never need

        parse_process(process)
        return RemoteSystem(self, process)

    def subscribe(self, ref: Ref) -> None:
        """Have an actor told LinkUp, LinkLost and PeerEnded of every peer, beginning with the links that are up."""
        self._subscribers.append(ref)
        for peer in self._peers.values():
            if peer.up:
                self.tell(ref, LinkUp(peer=peer.address, node=peer.node, incarnation=peer.incarnation))

    def unsubscribe(self, ref: Ref) -> None:
        self._subscribers = [each for each in self._subscribers if each is not ref]

    def links(self) -> list[LinkState]:
        """Every peer that is known now, by address."""
        return [
            LinkState(
                peer=peer.address,
                node=peer.node,
                incarnation=peer.incarnation,
                up=peer.up,
                rtt_seconds=peer.rtt_seconds,
                waiting_messages=sum(len(lane.queue) for lane in peer.lanes.values()),
                waiting_bytes=sum(lane.queued_bytes for lane in peer.lanes.values()),
                unanswered=len(peer.questions),
                links_lost=peer.links_lost,
            )
            for _, peer in sorted(self._peers.items())
        ]

    def metrics(self) -> Iterator[Metric]:
        """The figures of its links, by peer."""
        for link in self.links():
            to = {"peer": link.peer}
            yield gauge("bridge_link_up", "Whether there is a link to a process.", link.up, **to)
            yield gauge("bridge_waiting_messages", "What waits for the link.", link.waiting_messages, **to)
            yield gauge("bridge_waiting_bytes", "What waits for the link.", link.waiting_bytes, **to)
            yield gauge("bridge_rtt_seconds", "From a ping to its answer.", link.rtt_seconds, **to)
            yield counter("bridge_links_lost", "How often the link was lost.", link.links_lost, **to)
        yield counter("bridge_received_bytes", "Over all links.", self.bytes_in)
        yield counter("bridge_sent_bytes", "Over all links.", self.bytes_out)

    def close(self, why: str = "the process is stopping", done: Callable[[], object] = lambda: None) -> None:
        """Stop listening, send what can still be sent, say goodbye; ``done`` is called when all connections are gone.

        That is after ``CLOSE_SECONDS_MAX`` at the latest.
        """
        if not self.closed:
            self.closed = True
            self._listener.close()
            for stranger in list(self._strangers):
                stranger.end()
            self._strangers.clear()
            for peer in list(self._peers.values()):
                peer.close(why)
                self.post.give_up(peer, "this process closes its bridge")
            self.faults.release()  # whom nothing can be sent to, nothing is kept for
        self._await_end(done, self.system.loop.time() + CLOSE_SECONDS_MAX)

    def _await_end(self, done: Callable[[], object], deadline: float) -> None:
        if self.connections and self.system.loop.time() < deadline:
            self.system.loop.call_later(CLOSE_SECONDS_MAX / 100, self._await_end, done, deadline)
            return
        for connection in list(self.connections):
            connection.abort()
        done()

    def in_reach(self, process: str) -> bool:
        """False while the last thing known of a process is that it cannot be reached. Any thread."""
        peer = self.known_peer(process)
        return not self.closed and (peer is None or not peer.failing)

    def flush_later(self, peer: Peer, lane: Lane) -> None:
        """Write what waits for this lane when the turn ends."""
        self._unflushed[peer, lane] = None
        self.system.at_end_of_turn(self._flush)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, {}
        for peer, lane in unflushed:
            peer.flush(lane)

    # Links

    def dial(self, peer: Peer, lane: Lane) -> Connection:
        """Call a peer; the connection says to it how that ended."""
        self.dials += 1
        host, port = parse_process(peer.address)
        handshake = Dialer(
            self._identity,
            self.config.secret,
            self._entropy(NONCE_BYTES),
            to=peer.address,
            lane=lane,
            attempt=self.dials,
        )
        connection = Connection(self, handshake, peer)
        self._network.connect(host, port, lambda: connection, connection.connect_failed, self.config.connect_seconds)
        return connection

    def _accept(self) -> Connection:
        return Connection(self, Acceptor(self._identity, self.config.secret, self._entropy(NONCE_BYTES)))

    def stranger_came(self, connection: Connection) -> None:
        """An accepted connection begins its handshake."""
        if self.closed:
            connection.end()
            return
        self._strangers[connection] = None
        if len(self._strangers) > self.config.strangers_max:  # the oldest goes: a member needs milliseconds only
            next(iter(self._strangers)).make_room()

    def stranger_went(self, connection: Connection) -> None:
        """It is open now, or over."""
        self._strangers.pop(connection, None)

    def peer_of(self, proven: Proven) -> Peer:
        """The peer that an accepted connection belongs to. Raises Refusal when it cannot be one."""
        if proven.address == self.address:
            raise Refusal(f"it says it is at {self.address}, like this process", f"{self.address} is here")
        try:
            parse_process(proven.address)
        except ValueError as error:
            raise Refusal(f"it gives no address: {error}", "host:port is expected as address") from error
        return self.peer(proven.address)

    def link_up(self, peer: Peer) -> None:
        for ref in self._subscribers:
            self.tell(ref, LinkUp(peer=peer.address, node=peer.node, incarnation=peer.incarnation))

    def link_lost(self, peer: Peer, waiting: list[Parcel], why: str) -> None:
        self.post.link_lost(peer, waiting, why)
        for ref in self._subscribers:
            self.tell(ref, LinkLost(peer=peer.address, node=peer.node, incarnation=peer.incarnation, why=why))

    def peer_ended(self, peer: Peer) -> None:
        for ref in self._subscribers:
            self.tell(ref, PeerEnded(peer=peer.address, node=peer.node, incarnation=peer.incarnation))

    def forget(self, peer: Peer) -> None:
        """Nothing is to be sent there, and there is no link: what is known of it is not worth keeping."""
        if self._peers.get(peer.address) is peer and not peer.questions and not peer.watches:
            del self._peers[peer.address]

    def complain(self, text: str) -> None:
        """Log a refused connection, but not as often as a stranger likes."""
        now = self.system.loop.time()
        if now >= self._complaining_until:
            if self._complaints > COMPLAINTS_MAX:
                log.warning("%d more connections were refused meanwhile", self._complaints - COMPLAINTS_MAX)
            self._complaints, self._complaining_until = 0, now + COMPLAINTS_SECONDS
        self._complaints += 1
        if self._complaints <= COMPLAINTS_MAX:
            log.warning("%s", text)

    def peer(self, address: str) -> Peer:
        """What is known of the process there; nothing at first."""
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = Peer(self, address)
        return peer

    def known_peer(self, address: str) -> Peer | None:
        """None: nothing is known of the process there, nor anything wanted of it. Any thread."""
        return self._peers.get(address)

    def tell(self, to: Ref, message: object) -> None:
        """Tell an actor of this process; if it has stopped that is a dead letter."""
        try:
            to.tell(message)
        except ActorDeadError:
            self.system.dead_letter(to, message, "it has stopped")
