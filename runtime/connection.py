"""One TCP connection between two processes: its handshake, then frames in and bytes out.

    calling -> shaking hands -> open -> closed
          \\___________\\________________/

A connection knows how to begin, how to read and how to end; what it is for, whether it is wanted and what its frames
mean is decided by its ``Peer`` and the ``Bridge``. It says every end exactly once: to the peer it dialed if it never
opened, to the peer it belongs to if it did, and to nobody if it was given up here.

Before it is open it holds at most one frame of 4 KiB, for a few seconds, however slowly its bytes drip.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING, cast

from .handshake import HANDSHAKE_BYTES_MAX, Acceptor, Dialer, Refusal
from .wire import Frames, Goodbye, Lane, Refused, WireError, pack, unpack
from .world import Timer

if TYPE_CHECKING:
    from .bridge import Bridge
    from .peer import Peer

log = logging.getLogger(__name__)

TRANSPORT_BYTES_MAX = 256 << 10
"""Above this the transport asks to pause, and what is sent waits in the queue of its lane."""


class Phase(Enum):
    CALLING = "calling"
    SHAKING_HANDS = "shaking hands"
    OPEN = "open"
    CLOSED = "closed"


class Connection(asyncio.Protocol):
    """``dialed`` is the peer that was called; a connection that was accepted has none before it is open."""

    def __init__(self, bridge: Bridge, handshake: Dialer | Acceptor, dialed: Peer | None = None) -> None:
        self.handshake = handshake
        self.phase = Phase.CALLING
        self.peer: Peer | None = None
        """Whom it belongs to once it is open."""
        self.lane: Lane = handshake.lane if isinstance(handshake, Dialer) else "data"
        self.paused = False
        """Whether the transport has enough to write for now."""
        self.silent_ticks = 0
        """How often its peer has looked since anything came."""
        self._bridge = bridge
        self._dialed = dialed
        self._transport: asyncio.Transport | None = None
        self._frames = Frames(HANDSHAKE_BYTES_MAX)
        self._limit: Timer | None = None

    @property
    def where(self) -> str:
        """The other end, for people."""
        if self._dialed is not None:
            return self._dialed.address
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "somebody"

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's look like one and are none
        if self.phase is Phase.CLOSED:  # given up while it was being made
            transport.abort()
            return
        self._transport = transport
        self._bridge.connections.add(self)
        self.phase = Phase.SHAKING_HANDS
        transport.set_write_buffer_limits(high=TRANSPORT_BYTES_MAX)
        seconds = self._bridge.config.handshake_seconds
        self._limit = self._bridge.system.loop.call_later(seconds, self._too_slow, seconds)
        if isinstance(self.handshake, Dialer):
            transport.write(self.handshake.hello())
        else:
            self._bridge.stranger_came(self)

    def connect_failed(self, error: OSError) -> None:
        refused = isinstance(error, ConnectionRefusedError)
        self._end_handshake(f"cannot connect to {self.where}: {error.strerror or error}", nobody_listens=refused)

    def data_received(self, chunk: bytes) -> None:
        self._bridge.bytes_in += len(chunk)
        self.silent_ticks = 0
        try:
            for content in self._frames.feed(chunk):
                if self.phase is Phase.OPEN:
                    assert self.peer is not None
                    self._bridge.post.received(self.peer, self, unpack(content))
                else:
                    self._shake_hands(content)
                if self.phase is Phase.CLOSED:
                    return
        except Refusal as refusal:
            self._refuse(refusal)
        except WireError as error:
            self._broken(str(error))
        except Exception:
            log.exception("a frame from %s made the bridge fail", self.where)
            self._broken("the bridge failed on one of its frames")

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.peer is not None and self.phase is Phase.OPEN:
            self.peer.flush(self.lane)

    def connection_lost(self, error: Exception | None) -> None:
        self._bridge.connections.discard(self)
        why = f"the connection broke ({error})" if error is not None else "it closed the connection"
        if self.phase is Phase.OPEN:
            assert self.peer is not None
            self.phase = Phase.CLOSED
            if error is None:
                self.peer.ended(self, why)
            else:
                self.peer.lose(why)
        elif self.phase is Phase.SHAKING_HANDS:
            self._end_handshake(f"{why} during the handshake")

    # What the peer and the bridge want

    def write(self, content: bytes) -> None:
        assert self._transport is not None
        self._bridge.bytes_out += len(content)
        self._transport.write(content)

    def end(self, goodbye: str = "") -> None:
        """Close it and tell nobody here. With a reason the other side is told, unless it does not listen."""
        before, self.phase = self.phase, Phase.CLOSED
        self._no_more_limit()
        if self._transport is None or before is Phase.CLOSED:
            return
        if not goodbye or self.paused:
            self._transport.abort()
            return
        last = Goodbye(goodbye) if before is Phase.OPEN else Refused(goodbye, crossing=True)
        self._transport.write(pack(last))
        self._transport.close()

    def abort(self) -> None:
        """Close it now, whatever has not been written."""
        if self._transport is not None:
            self._transport.abort()

    def welcome(self, attempt: int) -> None:
        """Tell the dialer, who has proven itself, that the connection is open."""
        assert isinstance(self.handshake, Acceptor)
        self.write(self.handshake.welcome(attempt))

    def make_room(self) -> None:
        """Give up a handshake because others wait for theirs."""
        self._refuse(Refusal("too many handshakes at once, and this was the oldest", "too many handshakes at once"))

    # The handshake

    def _shake_hands(self, content: memoryview) -> None:
        reply = self.handshake.receive(content)
        if reply:
            self.write(reply)
        proven = self.handshake.peer
        if proven is None:
            return
        peer = self._dialed or self._bridge.peer_of(proven)
        self.lane = proven.lane
        peer.decide(self, proven)
        self._no_more_limit()
        self._bridge.stranger_went(self)
        self.peer = peer
        self.phase = Phase.OPEN
        self._frames.frame_bytes_max = self._bridge.config.frame_bytes_max
        peer.opened(self, proven)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.told and self._transport is not None:
            self._transport.write(pack(Refused(refusal.told, refusal.crossing)))
            self._transport.close()
        elif self._transport is not None:
            self._transport.abort()
        self._end_handshake(str(refusal), refused=True, crossing=refusal.crossing)

    def _too_slow(self, seconds: float) -> None:
        self._refuse(Refusal(f"no handshake within {seconds:g} s", "the handshake took too long"))

    def _broken(self, why: str) -> None:
        """The other side breaks the rules: say so, and close."""
        if self.phase is not Phase.OPEN:
            self._refuse(Refusal(why, "this is not the protocol spoken here"))
            return
        assert self.peer is not None
        self.peer.lose(f"it broke the protocol: {why}", why)

    def _end_handshake(
        self, why: str, *, refused: bool = False, crossing: bool = False, nobody_listens: bool = False
    ) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self._no_more_limit()
        if self._dialed is not None:
            self._dialed.dial_failed(self, why, refused=refused, crossing=crossing, nobody_listens=nobody_listens)
        else:
            self._bridge.stranger_went(self)
            if not crossing:
                self._bridge.complain(f"refused a connection from {self.where}: {why}")

    def _no_more_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
