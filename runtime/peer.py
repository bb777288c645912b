"""Keeps the link to one other process: two connections that live and die together, and what waits to go over them.

    quiet -> dialing -> up -> lost -> waiting -> dialing ...      (-> quiet when nothing wants to be sent)

After a link was lost the first dial is soon, if something is to be sent. If it finds that nobody listens there, the
process that did has ended, and ``PeerEnded`` says so. One that is paused, or behind a broken network, does not refuse:
it does not answer.

The link has two *lanes*, each one TCP connection used in both directions: ``data``, whose order matters, and
``control`` for what is urgent. It is up from the first lane that opens, and lost with the first that breaks; the second
lane has to open soon after the first. When a lane ends in order, the last words on the other one are still read. So
there is one end of a link, and these hold:

- each lane is first in, first out, and delivers at most once;
- **what was sent before a link was lost never arrives after it**: whatever still waits then becomes a dead letter, and
  bytes on an older connection are not read any more once a newer one is open;
- what waits is bounded in number, bytes and, while there is no link, in time. What does not fit is a dead letter.
  What the kernel had already taken when a link broke is gone without a letter: losing the link is the only sign.

**Crossing dials.** Both sides may dial at once, and must end with the same connection. A side that gets a connection
gives its own dial up, which is safe as long as the other side cannot consider that dial open, that is until it has sent
its proof. After that the process with the smaller address insists: it refuses and waits for the answer to its own; the
other one takes what comes. A dial that was given up may still be on its way: each side numbers its dials, says with
every handshake how far it has counted, and refuses what the other has already given up.

**Silence.** Each side pings over each lane: what lies between may forget one connection and keep the other. Any byte is
a sign of life, not only a whole frame, which may take long. Time is counted in its own ticks, not by the clock: who was
asleep has ticked once, not a hundred times, and does not declare everybody else dead on waking.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from .connection import Connection
from .handshake import Acceptor, Dialer, Proven, Refusal
from .wire import Lane, Ping, pack
from .world import Timer

if TYPE_CHECKING:
    from .actor import LoopFuture, Ref
    from .bridge import Bridge
    from .post import Ending
    from .remote import RemoteRef

log = logging.getLogger(__name__)

PARTING_SECONDS_MAX = 0.5
"""When one lane was closed in order the other one has so long to follow before the link is lost."""

WRITE_BYTES = 1 << 20
"""What waits is handed to the transport in pieces of about this size, at least one frame each."""

LANES: tuple[Lane, Lane] = ("data", "control")


class Parcel(NamedTuple):
    """A frame that waits, and what to do if it never leaves."""

    content: bytes
    lost: Callable[[str], object]
    since: float


class Question(NamedTuple):
    """A question to an actor of the peer, not yet answered."""

    future: LoopFuture
    timer: Timer | None
    what: str
    to: str
    sender: str


class _LaneState:
    """One lane: its connection, the dial for it, and its queue."""

    __slots__ = ("connection", "dial", "dialed_by_them", "queue", "queued_bytes")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.dial: Connection | None = None
        self.dialed_by_them = 0
        """Their dials numbered up to this are over."""
        self.queue: deque[Parcel] = deque()
        self.queued_bytes = 0

    def empty(self) -> list[Parcel]:
        parcels = list(self.queue)
        self.queue.clear()
        self.queued_bytes = 0
        return parcels


class Peer:
    """The process at ``address`` (``host:port``), seen from here."""

    def __init__(self, bridge: Bridge, address: str) -> None:
        self.address = address
        self.node = ""
        self.incarnation = ""
        self.up = False
        self.failing = False
        """Whether the last thing known of it is that it cannot be reached."""
        self.links_lost = 0
        """Tells what belongs to the present link from what belonged to an earlier one."""
        self.rtt_seconds = 0.0
        self.lanes: dict[Lane, _LaneState] = {lane: _LaneState() for lane in LANES}
        self.questions: dict[int, Question] = {}
        self.watches: dict[int, tuple[Ref, RemoteRef]] = {}
        """Who here watches which actor there, by number, and"""
        self.watching: dict[tuple[Ref, RemoteRef], int] = {}
        """the number of each."""
        self.watched: dict[int, Ending] = {}
        """Which actor here is watched from there, by the peer's number."""
        self._bridge = bridge
        self._loop = bridge.system.loop
        self._failures = 0
        self._up_since = 0.0
        self._retry: Timer | None = None
        self._pairing: Timer | None = None
        self._parting: Timer | None = None
        self._tick_timer: Timer | None = None
        self._why = ""
        """Why the lane that ended first did."""
        self._ended = ""
        """The last incarnation that is known to have ended."""
        self._ticks = 0
        self._pinged = 0.0

    # Sending

    def put(self, lane: Lane, parcel: Parcel, exempt: bool = False) -> None:
        """Let a frame leave at the end of this turn, or as soon as there is a link. ``exempt`` from the bounds."""
        state, config = self.lanes[lane], self._bridge.config
        if self._bridge.closed:
            parcel.lost("this process closed its bridge")
            return
        if not exempt and (
            len(state.queue) >= config.outbound_messages_max
            or state.queued_bytes + len(parcel.content) > config.outbound_bytes_max
        ):
            waiting = f"{len(state.queue)} messages of {state.queued_bytes} bytes wait"
            parcel.lost(f"the {lane} queue to {self.address} is full: {waiting}")
            return
        state.queue.append(parcel)
        state.queued_bytes += len(parcel.content)
        if state.connection is not None:
            if len(state.queue) == 1:
                self._bridge.flush_later(self, lane)
        elif not self.up:  # otherwise this lane is about to open, or the link about to be lost
            self._dial()

    def flush(self, lane: Lane) -> None:
        """Hand over what waits, until the transport has enough."""
        state = self.lanes[lane]
        connection, queue = state.connection, state.queue
        while queue and connection is not None and not connection.paused:
            size = 0
            contents = []
            while queue and size < WRITE_BYTES:
                content = queue.popleft().content
                contents.append(content)
                size += len(content)
            state.queued_bytes -= size
            connection.write(b"".join(contents) if len(contents) > 1 else contents[0])

    @property
    def wanted(self) -> bool:
        return any(state.queue for state in self.lanes.values())

    # Dialing

    def _dial(self) -> None:
        if self._retry is not None or self._bridge.closed:
            return
        for lane, state in self.lanes.items():
            if state.connection is None and state.dial is None:
                state.dial = self._bridge.dial(self, lane)

    def dial_failed(
        self, connection: Connection, why: str, *, refused: bool, crossing: bool, nobody_listens: bool
    ) -> None:
        state = self.lanes[connection.lane]
        assert state.dial is connection
        state.dial = None
        if crossing:  # theirs is on its way here; if it does not come, dial again
            if not self.up and self._retry is None:
                self._retry = self._loop.call_later(self._bridge.config.handshake_seconds, self._try_again)
            return
        if self.up:
            self.lose(f"its {connection.lane} lane did not open: {why}", "the other lane did not open")
            return
        self._failures += 1
        self.failing = True
        if refused:
            self._bridge.complain(f"no link to {self.address}: {why}")
        else:
            log.log(logging.INFO if self._failures == 1 else logging.DEBUG, "no link to %s: %s", self.address, why)
        self._give_dials_up()
        self._back_off()
        self._expire(why)
        if nobody_listens and self.incarnation not in ("", self._ended):
            self._ended = self.incarnation
            self._bridge.peer_ended(self)

    def _give_dials_up(self) -> None:
        for state in self.lanes.values():
            dial, state.dial = state.dial, None
            if dial is not None:
                dial.end("this dial was given up")

    def _back_off(self) -> None:
        config = self._bridge.config
        pause = min(config.backoff_seconds_max, config.backoff_seconds * 2 ** min(self._failures - 1, 30))
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(pause * (0.5 + self._bridge.system.random.random() / 2), self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self.wanted:
            self._dial()
        elif not self.up and all(state.dial is None for state in self.lanes.values()):
            self._bridge.forget(self)

    def _expire(self, why: str) -> None:
        """Without a link nothing waits for ever: messages would arrive in a world that has moved on."""
        seconds = self._bridge.config.outbound_seconds_max
        oldest = self._loop.time() - seconds
        expired = []
        for state in self.lanes.values():
            while state.queue and state.queue[0].since <= oldest:
                parcel = state.queue.popleft()
                state.queued_bytes -= len(parcel.content)
                expired.append(parcel)
        for parcel in expired:
            parcel.lost(f"no link to {self.address} for {seconds:g} s: {why}")

    # The link's life

    def decide(self, connection: Connection, proven: Proven) -> None:
        """Take an accepted connection, or raise Refusal. One that was dialed from here is wanted while it lives."""
        if isinstance(connection.handshake, Dialer):
            return
        state = self.lanes[proven.lane]
        if proven.incarnation == self.incarnation and proven.attempt <= state.dialed_by_them:
            raise Refusal("an old dial arrived late", "this dial was given up", crossing=True)
        own = state.dial.handshake if state.dial is not None else None
        if isinstance(own, Dialer) and own.proved and self._bridge.address < self.address:
            raise Refusal("dials crossed", "our dials crossed and mine stays", crossing=True)
        connection.welcome(self._bridge.dials)

    def opened(self, connection: Connection, proven: Proven) -> None:
        """A lane's connection is open: it takes the place of whatever the lane had."""
        state = self.lanes[proven.lane]
        own_dial, state.dial = state.dial, None
        if own_dial is not None and own_dial is not connection:
            own_dial.end("our dials crossed")
        if self.up and proven.incarnation != self.incarnation:
            self.lose("a new incarnation of it connected")
        elif state.connection is not None or self._parting is not None:
            self.lose("it connected anew")
        if proven.incarnation != self.incarnation:
            for each in self.lanes.values():
                each.dialed_by_them = 0
            self.node, self.incarnation = proven.node, proven.incarnation
        state.dialed_by_them = proven.attempt
        state.connection = connection
        self.failing = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if not self.up:
            self._begin(connection)
        if all(each.connection is not None for each in self.lanes.values()) and self._pairing is not None:
            self._pairing.cancel()
            self._pairing = None
        elif isinstance(connection.handshake, Dialer):
            self._dial()
        self._bridge.flush_later(self, proven.lane)

    def _begin(self, connection: Connection) -> None:
        config = self._bridge.config
        self.up = True
        self._ended = ""
        self._up_since = self._loop.time()
        self._pairing = self._loop.call_later(config.handshake_seconds, self._unpaired)
        self._tick_timer = self._loop.call_later(config.ping_seconds, self._tick)
        how = "dialed by it" if isinstance(connection.handshake, Acceptor) else "dialed from here"
        what = f"link to {self.address} ({self.node}, {self.incarnation}) is up, {how}"
        self._bridge.system.events.note("link", what, log=log.info, peer=self.address)
        self._bridge.link_up(self)

    def _unpaired(self) -> None:
        self._pairing = None
        seconds = self._bridge.config.handshake_seconds
        self.lose(f"its other lane did not open within {seconds:g} s", "the other lane did not open")

    def ended(self, connection: Connection, why: str) -> None:
        """A lane was closed in order: the link is lost when the other one has ended, too, or after a moment."""
        if not self.up:
            return
        self.lanes[connection.lane].connection = None
        if self._parting is None and any(state.connection is not None for state in self.lanes.values()):
            self._parting = self._loop.call_later(PARTING_SECONDS_MAX, self.lose, why)
            self._why = why
        else:
            self.lose(self._why or why)

    def lose(self, why: str, goodbye: str = "") -> None:
        """The link is over. What waits for it is lost; whoever cares is told; ``goodbye`` is said to the peer."""
        if not self.up:
            return
        self.up = False
        self.links_lost += 1
        if self._loop.time() - self._up_since > self._bridge.config.backoff_seconds_max:
            self._failures = 0
        self._failures += 1
        self.failing = True
        for timer in (self._pairing, self._parting, self._tick_timer):
            if timer is not None:
                timer.cancel()
        self._pairing = self._parting = self._tick_timer = None
        level = logging.INFO if self._why or self._bridge.closed else logging.WARNING
        self._why = ""
        parcels = []
        for state in self.lanes.values():
            connection, state.connection = state.connection, None
            if connection is not None:
                connection.end(goodbye)
            parcels += state.empty()
        self._give_dials_up()
        self._back_off()
        what = f"link to {self.address} ({self.node}, {self.incarnation}) is lost: {why}"
        self._bridge.system.events.note("link", what, log=partial(log.log, level), peer=self.address)
        self._bridge.link_lost(self, parcels, why)

    def close(self, goodbye: str) -> None:
        """This process leaves: send what can be sent, say why, forget the rest."""
        for lane in LANES:
            self.flush(lane)
        if self.up:
            self.lose("this process closed it", goodbye)
        self._give_dials_up()
        if self._retry is not None:
            self._retry.cancel()
        for state in self.lanes.values():
            for parcel in state.empty():
                parcel.lost("this process closes its bridge")

    # Signs of life

    def _tick(self) -> None:
        config = self._bridge.config
        self._tick_timer = self._loop.call_later(config.ping_seconds, self._tick)
        self._ticks += 1
        self._pinged = self._loop.time()
        for lane, state in self.lanes.items():
            connection = state.connection
            if connection is None:  # the pairing, and the parting, have their own limits
                continue
            connection.silent_ticks += 1
            if connection.silent_ticks > ceil(config.silence_seconds_max / config.ping_seconds):
                self.lose(f"no sign of life for {config.silence_seconds_max:g} s on its {lane} lane")
                return
            if not connection.paused:
                connection.write(pack(Ping(self._ticks)))

    def ponged(self, lane: Lane, number: int) -> None:
        if lane == "control" and number == self._ticks:  # data may have waited behind data
            self.rtt_seconds = self._loop.time() - self._pinged
