"""Speaks RESP, the protocol of Redis, with many clients on one event loop; knows nothing of what commands mean.

Three parts, each usable alone:

- **replies**: plain Python values to bytes of RESP2 or RESP3 (`encode`);
- **requests**: bytes to requests, a list of bytes each (`RequestParser`, no sockets);
- **the server**: connections that hand what they read to one receiver, once per turn of the loop (`RespServer`).

Requests are parsed here and not by hiredis, which reads replies for our clients. hiredis builds any type it is told of,
at the size it is told (`*1000000000` is a list of 8 GB), so every header would have to be looked at before it; and who
has looked at all headers has parsed the request. Errors have Redis' own words and come after the replies to all
complete requests before them; then the connection is closed, since nobody knows where the next request begins.

The life of a connection:

    refused                         too many connections
    open -> ending -> closed        protocol error, end of input: what was asked before is still answered
    open -> closed                  QUIT, lost, killed, too slow to take its replies or to authenticate

Everything has a bound (`Limits`): what a client may ask in one request, how much of that may be unanswered, how much
of the replies may wait for it, how long it may stay without authenticating.
"""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from pykka import ActorDeadError

from .metrics import Metric, counter
from .world import Loop, Network, Timer

log = logging.getLogger(__name__)


# Replies

Reply: TypeAlias = "bytes | None | bool | int | float | str | Sequence[Reply] | Mapping[Any, Reply] | Set[bytes]"
"""bytes: encoded already. None: null. str: a bulk string. list or tuple, dict, set: array, map, set."""

NULL = {2: b"$-1\r\n", 3: b"_\r\n"}


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def integer(number: int) -> bytes:
    return b":%d\r\n" % number


def simple(text: bytes) -> bytes:
    """A status such as OK; must not contain line ends."""
    return b"+%b\r\n" % text


def error(text: bytes) -> bytes:
    """An error; ``text`` begins with its code (``ERR ...``). Line ends, which would end the reply, become spaces."""
    return b"-%b\r\n" % text.replace(b"\r", b" ").replace(b"\n", b" ")


def verbatim(text: bytes, protocol: int) -> bytes:
    """Text for people: shown as it is by redis-cli. A bulk string in RESP2, which has no such type."""
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if protocol == 3 else bulk(text)


def push(reply: Sequence[Reply], protocol: int) -> bytes:
    """Something that nobody asked for just now. An array in RESP2."""
    encoded = encode(reply, protocol)
    return b">" + encoded[1:] if protocol == 3 else encoded


def encode(reply: Reply, protocol: int = 2) -> bytes:
    """A reply in the bytes of RESP2 or RESP3.

    What RESP2 lacks becomes the nearest that it has: a map a flat array, a set an array, a boolean 1 or 0, a double a
    bulk string. Sets are sorted, so that equal replies are equal bytes. Raises TypeError for anything else.
    """
    if type(reply) is bytes:
        return reply
    if reply is None:
        return NULL[protocol]
    parts: list[bytes] = []
    _encode(reply, protocol, parts)
    return b"".join(parts)


def _encode(reply: Reply, protocol: int, parts: list[bytes]) -> None:
    match reply:
        case bytes():
            parts.append(reply)
        case None:
            parts.append(NULL[protocol])
        case bool():
            parts.append((b"#t\r\n" if reply else b"#f\r\n") if protocol == 3 else integer(reply))
        case int():
            parts.append(integer(reply))
        case float():
            parts.append(b",%a\r\n" % reply if protocol == 3 else bulk(b"%a" % reply))
        case str():
            parts.append(bulk(reply.encode()))
        case list() | tuple():
            parts.append(b"*%d\r\n" % len(reply))
            for element in reply:
                _encode(element, protocol, parts)
        case dict():
            parts.append(b"%%%d\r\n" % len(reply) if protocol == 3 else b"*%d\r\n" % (2 * len(reply)))
            for key, value in reply.items():
                _encode(key, protocol, parts)
                _encode(value, protocol, parts)
        case set() | frozenset():
            parts.append(b"%b%d\r\n" % (b"~" if protocol == 3 else b"*", len(reply)))
            parts.extend(sorted(reply))
        case _:
            raise TypeError(f"{type(reply).__name__} is not a reply: {reply!r}")


# Requests

Request: TypeAlias = list[bytes]
"""The name of a command and its arguments; never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server, and one client, may use."""

    connections_max: int = 10_000
    words_max: int = 1_048_576
    """Words in one request."""
    bulk_bytes_max: int = 64 * 1024 * 1024
    """Bytes in one word; a longer one is a protocol error, so let it be longer than any value that may be stored."""
    request_bytes_max: int = 128 * 1024 * 1024
    """What one request may cost in memory, `WORD_BYTES` for each word included."""
    line_bytes_max: int = 64 * 1024
    """One line: an inline command, or a header."""
    unauthenticated_words_max: int = 10
    """Words in one request of a client that has not authenticated where it must."""
    unauthenticated_bulk_bytes_max: int = 16 * 1024
    unauthenticated_seconds: float = 30.0
    """How long a client that must authenticate may stay without doing so."""
    unanswered_max: int = 10_000
    """Requests of one connection not yet answered; beyond, it is not read from (one read may overshoot)."""
    output_pause_bytes: int = 1024 * 1024
    """While more than this waits for a client to read it, the client is not read from."""
    output_bytes_max: int = 256 * 1024 * 1024
    """A client that lets more than this wait is cut off."""
    closing_seconds: float = 10.0
    """How long a connection that is being closed waits for the client to take the last replies."""


WORD_BYTES = 64
"""What a word costs in memory beyond its bytes."""

PLAIN_BYTES_MAX = 256 * 1024
"""Reads beyond this go the careful way at once; the loop makes none that are longer."""

LONG_READ_BYTES = 128 * 1024
"""Whoever is read so much from at once is read on after everybody else has had a turn. uvloop would go on, up to 32
times, as long as its buffer of 256 000 bytes is full: 8 MB, which may take more than a second to parse."""

_PLAIN_WORDS = {b"*%d" % count: count for count in range(1, 1024)}
_PLAIN_BULKS = [b"$%d" % size for size in range(4096)]
_PLAIN_SIZES = {header: size for size, header in enumerate(_PLAIN_BULKS)}


class _Broken(Exception):
    """The stream is not RESP; the text says how, as Redis does."""


class RequestParser:
    """Turns a stream of bytes into requests, however it is cut. Once ``error`` is set, the stream is over.

    Two ways lead to the same requests. The *plain* way splits a read at its line ends and compares each header with the
    one that the word after it should have. All that it takes are complete requests that the careful way would take;
    where it stops (a line end inside a word, a long word, half a request, anything odd) the careful way goes on. The
    *careful* way reads header by header, checks every limit before a byte is kept, and remembers where it stopped.
    Measured for a SET of 100 bytes alone, and for each of 16 in a pipeline: 0.8 and 0.5 us plain, 3.5 and 3 carefully;
    hiredis, with all that makes it safe around it, 1.1 and 0.45.
    """

    __slots__ = (
        "_authenticated", "_bulk_max", "_bulk_size", "_cost", "_limits", "_plain", "_request", "_unread",
        "_words_left", "_words_max", "error",
    )  # fmt: skip

    def __init__(self, limits: Limits | None = None, *, authenticated: bool = True) -> None:
        self._limits = limits or Limits()
        self._unread = bytearray()
        self._request: Request = []  # words read of the request that is not complete yet
        self._words_left = 0  # words that it lacks
        self._bulk_size = -1  # size of its next word, once that is known
        self._cost = 0  # what it costs in memory so far
        self.error: bytes | None = None
        """The last thing to say to this client (encoded), after the replies to the requests that came before."""
        self.authenticated = authenticated

    @property
    def authenticated(self) -> bool:
        """Whether the full limits hold. What comes in one read with the request that authenticates comes too early."""
        return self._authenticated

    @authenticated.setter
    def authenticated(self, yes: bool) -> None:
        self._authenticated = yes
        self._words_max, self._bulk_max = self._limits.words_max, self._limits.bulk_bytes_max
        if not yes:
            self._words_max = min(self._words_max, self._limits.unauthenticated_words_max)
            self._bulk_max = min(self._bulk_max, self._limits.unauthenticated_bulk_bytes_max)
        self._plain = self._may_be_plain()

    def _may_be_plain(self) -> bool:
        """Nothing is left of an earlier read, and all that the plain way takes is within the limits."""
        between = not self._unread and not self._words_left and self.error is None
        return between and self._words_max >= len(_PLAIN_WORDS) and self._bulk_max >= len(_PLAIN_BULKS)

    @property
    def held_bytes(self) -> int:
        """What the incomplete request costs in memory so far."""
        return len(self._unread) + self._cost - max(self._bulk_size, 0)

    def feed(self, data: bytes) -> list[Request]:
        """The requests that are complete with ``data``. Sets ``error`` when what follows them is not RESP."""
        requests: list[Request] = []
        if self._plain and len(data) <= PLAIN_BYTES_MAX:
            data = _take_plain(data, requests)
            if not data:
                return requests
        elif self.error is not None:
            return requests
        try:
            if not self._plain:  # finish what was begun, and perhaps the rest is plain again
                data = self._take_carefully(data, requests, requests_max=1)
                if self._may_be_plain() and len(data) <= PLAIN_BYTES_MAX:
                    data = _take_plain(data, requests)
            if data:
                self._take_carefully(data, requests)
        except _Broken as broken:
            self.error = error(b"ERR Protocol error: " + broken.args[0])
            self._unread, self._request, self._cost, self._bulk_size = bytearray(), [], 0, -1
        self._plain = self._may_be_plain()
        return requests

    def _take_carefully(self, data: bytes, requests: list[Request], requests_max: int | None = None) -> bytes:
        """Append requests, so many at most; returns what is left. What is half a request is kept."""
        kept = self._unread
        if kept:
            kept += data
            if len(kept) < self._bulk_size + 2:  # a long word comes in many reads: look at it when it is here
                return b""
            data = bytes(kept)
            kept.clear()
        at, before = 0, -1
        while before < at < len(data):  # each step returns where to go on; it stands still when it needs more bytes
            before = at
            if self._words_left:
                at = self._take_words(data, at)
            elif data[at] == 42:  # *
                at = self._take_header(data, at)
            else:
                at = self._take_line(data, at)
            if self._request and not self._words_left:
                requests.append(self._request)
                self._request, self._cost = [], 0
                if len(requests) == requests_max:
                    return data[at:]
        kept += data[at:]
        return b""

    def _take_header(self, data: bytes, at: int) -> int:
        """Read the ``*3`` of a request."""
        end = self._end_of_line(data, at, b"too big mbulk count string")
        if end < 0:
            return at
        count = _number(data[at + 1 : end])
        if count is None or count > self._limits.words_max:
            raise _Broken(b"invalid multibulk length")
        if count > self._words_max:
            raise _Broken(b"unauthenticated multibulk length")
        self._words_left = max(count, 0)
        return end + 2

    def _take_words(self, data: bytes, at: int) -> int:
        """Read words of a request, each after its ``$3``, until it is complete or the bytes are at their end."""
        request, left, size = self._request, self._words_left, self._bulk_size
        while left:
            if size < 0:
                end = self._end_of_line(data, at, b"too big bulk count string")
                if end < 0:
                    break
                size = self._word_size(data[at:end])
                at = end + 2
            end = at + size
            if end + 2 > len(data):
                break
            request.append(data[at:end])
            left -= 1
            at, size = end + 2, -1
        self._words_left, self._bulk_size = left, size
        return at

    def _word_size(self, header: bytes) -> int:
        size = _PLAIN_SIZES.get(header)
        if size is None:
            if header[:1] != b"$":
                raise _Broken(b"expected '$', got '%c'" % (header or b"\r")[0])
            size = _number(header[1:])
        if size is None or not 0 <= size <= self._limits.bulk_bytes_max:
            raise _Broken(b"invalid bulk length")
        if size > self._bulk_max:
            raise _Broken(b"unauthenticated bulk length")
        self._cost += size + WORD_BYTES
        if self._cost > self._limits.request_bytes_max:
            raise _Broken(b"too big request, the limit is %d bytes" % self._limits.request_bytes_max)
        return size

    def _end_of_line(self, data: bytes, at: int, too_long: bytes) -> int:
        """Where the header that begins at ``at`` ends; -1 when its end is not here yet."""
        end = data.find(b"\r", at)
        if (end if end >= 0 else len(data)) - at > self._limits.line_bytes_max:
            raise _Broken(too_long)
        return end if end + 2 <= len(data) else -1

    def _take_line(self, data: bytes, at: int) -> int:
        """Read an inline command, as a person types it into telnet."""
        end = data.find(b"\n", at)
        if (end if end >= 0 else len(data)) - at > self._limits.line_bytes_max:
            raise _Broken(b"too big inline request")
        if end < 0:
            return at
        self._request = split_line(data[at:end])
        if self._request and self._request[0].lower() in (b"post", b"host:"):
            # A browser was made to send us the form of a web page: what it carries must not be taken for commands.
            raise _Broken(b"this is HTTP, but this port speaks RESP")
        return end + 1


def _take_plain(data: bytes, requests: list[Request]) -> bytes:
    """Append the plain requests at the start of ``data`` to ``requests``; returns what is left.

    The hot path: requests of two and three words, GET and SET, are written out, at half the cost of any other.
    """
    parts = data.split(b"\r\n")
    end = len(parts) - 1  # the last part has no line end: it is empty, or half of something
    at = 0
    bulks = _PLAIN_BULKS
    try:
        while at < end:
            header = parts[at]
            if header == b"*3" and at + 7 <= end:
                _, first, name, second, key, third, value = parts[at : at + 7]
                if bulks[len(name)] != first or bulks[len(key)] != second or bulks[len(value)] != third:
                    break
                requests.append([name, key, value])
                at += 7
            elif header == b"*2" and at + 5 <= end:
                _, first, name, second, key = parts[at : at + 5]
                if bulks[len(name)] != first or bulks[len(key)] != second:
                    break
                requests.append([name, key])
                at += 5
            else:
                after = at + 1 + 2 * _PLAIN_WORDS[header]
                words = parts[at + 2 : after : 2]
                if after > end or [bulks[len(word)] for word in words] != parts[at + 1 : after : 2]:
                    break
                requests.append(words)
                at = after
    except LookupError:  # no header of a request, or a long word
        pass
    return b"\r\n".join(parts[at:])


def _number(text: bytes) -> int | None:
    """The number spelled by the digits of a header, in the one spelling that Redis takes."""
    if len(text) > 20:
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    return number if b"%d" % number == text else None


_LINE_WORD = re.compile(
    rb"""\s*+([^ \n\r\t"']*+)"""  # what stands before a quote, or alone
    rb"""(?:"((?:\\.|[^"\\])*+)"(?=\s|\Z)|'((?:\\'|[^'])*+)'(?=\s|\Z))?""",
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_line(line: bytes) -> list[bytes]:
    """The words of an inline command; "double" and 'single' quotes as in redis-cli. May be empty."""
    if not _ODD_IN_LINES.search(line):
        return line.split()
    words = []
    at = 0
    while at < len(line):
        found = _LINE_WORD.match(line, at)
        assert found is not None, "all its parts may be empty"
        bare, double, single = found.groups()
        at = found.end()
        if double is not None:
            bare += _ESCAPE.sub(_unescape, double)
        elif single is not None:
            bare += single.replace(b"\\'", b"'")
        elif not bare:
            if at < len(line):
                raise _Broken(b"unbalanced quotes in request")
            break
        words.append(bare)
    return words


_ODD_IN_LINES = re.compile(rb"[\"'\v\f]")
"""What makes splitting more than splitting at blanks."""


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode()) if found[1] else _ESCAPED.get(found[2], found[2])


# The server


class Receiver(Protocol):
    """Whom a server tells `ConnectionMade`, `Requests` and `ConnectionLost`; an actor's ref is one."""

    def tell(self, message: Any) -> None: ...


class ConnectionMade:
    """A client has connected. RespServer -> its receiver."""

    __slots__ = ("connection",)

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection


class ConnectionLost:
    """A connection is closed, whoever closed it; its last requests may come after this. RespServer -> its receiver."""

    __slots__ = ("connection",)

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection


class Requests:
    """What has been read in one turn of the loop, in order. RespServer -> its receiver.

    Unlike other messages this one still changes after it was sent: reads of the same turn join it until the receiver
    takes the batch. So a turn costs one message however many clients speak in it, and the receiver gets all at once
    what it can answer at once. It never leaves the process, hence is no wire message.
    """

    __slots__ = ("_batch", "_server")

    def __init__(self, server: "RespServer") -> None:
        self._server = server
        self._batch: list[tuple[Connection, list[Request]]] = []

    def join(self, connection: "Connection", requests: list[Request]) -> None:
        self._batch.append((connection, requests))

    def joined(self) -> "list[tuple[Connection, list[Request]]]":
        """What has joined so far, for whoever only looks."""
        return list(self._batch)

    def take(self) -> "list[tuple[Connection, list[Request]]]":
        """The batch: who asked what. From now on nothing joins it."""
        self._server.begin_anew(self)
        return self._batch


@dataclass(slots=True)
class ServerCounters:
    """What has happened at one server since it began."""

    connections: int = 0
    """Connections taken."""
    refused: int = 0
    """Connections refused because there were too many."""
    protocol_errors: int = 0
    unauthenticated_expired: int = 0
    """Connections closed because they did not authenticate in time."""
    outputs_exceeded: int = 0
    """Connections cut off because they did not take their replies."""
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


OWN, UNANSWERED, OUTPUT, ENDING, TURN = 1, 2, 4, 8, 16
"""Why a connection is not read from: the receiver's own reason, too much asked, too many replies waiting, its end; that
others have their turn first."""


class Connection(asyncio.Protocol):
    """One client. The receiver answers with ``write``, in the order of the requests."""

    __slots__ = (
        "_done", "_holds", "_last_words", "_out", "_out_bytes", "_parser", "_server", "_timer", "_transport",
        "_unanswered", "active_at", "address", "id", "local_address", "made_at", "name", "protocol", "session",
    )  # fmt: skip

    def __init__(self, server: "RespServer") -> None:
        self._server = server
        self._parser = RequestParser(server.limits, authenticated=not server.password_needed)
        self._transport: Any = None  # None before the connection is made and after it is lost
        self._done = False
        self._timer: Timer | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._unanswered = 0
        self._holds = 0
        self._last_words = b""
        self.id = 0
        """Number of this connection at its server; never given twice."""
        self.session: Any = None
        """The receiver's own; nobody else looks at it."""
        self.name = b""
        """What the client calls itself."""
        self.protocol = 2
        """RESP2 or RESP3, as the receiver has agreed with the client."""
        self.address = self.local_address = ""
        """host:port of the client and of this end."""
        self.made_at = self.active_at = server.loop.time()
        """When it was made and last read from, on the clock of the loop (to the turn), in seconds."""

    # What the receiver does

    @property
    def closed(self) -> bool:
        """Nobody will read what is written from now on; what is left of its requests need not be done."""
        return self._done

    @property
    def ending(self) -> bool:
        """No more requests come from here; what was asked is still answered."""
        return bool(self._holds & ENDING)

    @property
    def unanswered(self) -> int:
        """Requests handed over and not answered yet."""
        return self._unanswered

    @property
    def waiting_bytes(self) -> int:
        """Bytes of replies that the client has not taken yet."""
        return self._out_bytes + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    @property
    def held_bytes(self) -> int:
        """Bytes of a request that is not complete yet."""
        return self._parser.held_bytes

    def write(self, data: bytes, answers: int = 1) -> None:
        """Send encoded replies, at the end of the turn and all at once.

        ``answers`` is the number of requests whose replies ``data`` completes; 0 for a push. Write long replies one by
        one: a client that asks for more than may wait for it is cut off on the way, before all of it is in memory.
        Does nothing on a closed connection.
        """
        if self._done:
            return
        if not self._out:
            self._server.flush_later(self)
        self._out.append(data)
        self._out_bytes += len(data)
        self._unanswered -= answers
        if self._out_bytes > self._server.limits.output_bytes_max:
            self._too_slow()

    def close_after_write(self) -> None:
        """Send what was written so far, and close."""
        self._done = True
        self._unanswered = 0
        self._end()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        transport, self._transport, self._done = self._transport, None, True
        self._out, self._out_bytes = [], 0
        if transport is not None:
            transport.abort()

    def pause(self) -> None:
        """Read no more from this client for now; what it sends waits in its own machine."""
        self._hold(OWN)

    def resume(self) -> None:
        self._release(OWN)

    @property
    def authenticated(self) -> bool:
        """Whether the full limits hold for this client and it may stay; the receiver decides."""
        return self._parser.authenticated

    @authenticated.setter
    def authenticated(self, yes: bool) -> None:
        self._parser.authenticated = yes
        if yes and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif not yes and self._timer is None:  # one that runs goes on: to RESET is not to authenticate
            seconds = self._server.limits.unauthenticated_seconds
            self._timer = self._server.loop.call_later(seconds, self._still_unauthenticated)

    # What the network does

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.address = _address(transport.get_extra_info("peername"))
        self.local_address = _address(transport.get_extra_info("sockname"))
        transport.set_write_buffer_limits(high=self._server.limits.output_pause_bytes)
        if self._server.admit(self):
            self.authenticated = self._parser.authenticated
        else:
            transport.write(error(b"ERR max number of clients reached"))
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._holds & ENDING or not self.id:
            return
        parser, server = self._parser, self._server
        requests = parser.feed(data)
        if requests:
            self._unanswered += len(requests)
            server.received(self, requests, len(data))
            if self._unanswered > server.limits.unanswered_max:
                self._hold(UNANSWERED)
        else:
            server.counters.bytes_in += len(data)
        if len(data) >= LONG_READ_BYTES:
            self._hold(TURN)
            server.flush_later(self)
        if parser.error is not None:
            server.counters.protocol_errors += 1
            self._end(parser.error)

    def eof_received(self) -> bool:
        """The client has said all it had to say, and may still want to hear the answers (``printf ... | nc``)."""
        self._end()
        return True

    def pause_writing(self) -> None:
        self._hold(OUTPUT)

    def resume_writing(self) -> None:
        self._release(OUTPUT)

    def connection_lost(self, failure: Exception | None) -> None:
        self._transport, self._done = None, True
        self._out, self._out_bytes = [], 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.id:
            self._server.forget(self)

    # Between the two

    def flush(self) -> None:
        """Write what the turn has collected."""
        transport = self._transport
        if transport is None:
            return
        out = self._out
        if out:
            self._server.counters.bytes_out += self._out_bytes
            transport.write(out[0] if len(out) == 1 else b"".join(out))
            self._out, self._out_bytes = [], 0
        if self._holds:
            self._look_at_holds()

    def _look_at_holds(self) -> None:
        self._release(TURN)
        if self._holds & OUTPUT and self.waiting_bytes > self._server.limits.output_bytes_max:
            self._too_slow()
        elif self._holds & ENDING and self._unanswered <= 0:
            self._close()
        elif self._holds & UNANSWERED and self._unanswered <= self._server.limits.unanswered_max // 2:
            self._release(UNANSWERED)

    def _close(self) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        self._done = True
        if self._last_words:
            transport.write(self._last_words)
        transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._server.loop.call_later(self._server.limits.closing_seconds, self.abort)

    def _end(self, last_words: bytes = b"") -> None:
        """Read no more; close when everything is answered."""
        if self._transport is not None and not self._holds & ENDING:
            self._hold(ENDING)
            self._last_words = last_words
        self._server.flush_later(self)

    def _hold(self, why: int) -> None:
        if not self._holds and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds |= why

    def _release(self, why: int) -> None:
        held, self._holds = self._holds, self._holds & ~why
        if held and not self._holds and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _too_slow(self) -> None:
        self._server.counters.outputs_exceeded += 1
        log.warning(
            "client %d (%s) was cut off: it asks for more than it reads; %d bytes of replies wait for it, %d may",
            self.id,
            self.address,
            self.waiting_bytes,
            self._server.limits.output_bytes_max,
        )
        self.abort()

    def _still_unauthenticated(self) -> None:
        self._timer = None
        self._server.counters.unauthenticated_expired += 1
        self.abort()


def _address(name: Any) -> str:
    if not name:
        return ""
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class RespServer:
    """A listening port and its connections."""

    def __init__(
        self,
        loop: Loop,
        network: Network,
        host: str,
        port: int,
        receiver: Receiver,
        limits: Limits | None = None,
        *,
        password_needed: bool = False,
    ) -> None:
        """Listen at once (port 0: a free one). Raises OSError when the port is taken."""
        self.loop, self.limits = loop, limits or Limits()
        self.password_needed = password_needed
        """Whether new connections must authenticate; may be changed at any time."""
        self.connections: dict[int, Connection] = {}
        """All that are open, by id, oldest first."""
        self.counters = ServerCounters()
        self._receiver = receiver
        self._next_id = 1
        self._requests: Requests | None = None  # told to the receiver in this turn and not taken yet
        self._now = loop.time()
        self._unflushed: list[Connection] = []
        self._end_comes = False
        self._closed = False
        self._listener = network.listen(host, port, lambda: Connection(self))

    @property
    def port(self) -> int:
        return self._listener.port

    def metrics(self) -> Iterator[Metric]:
        counted = self.counters
        yield counter("client_received_bytes", "From clients.", counted.bytes_in)
        yield counter("client_sent_bytes", "To clients.", counted.bytes_out)
        yield counter("client_connections_refused", "Because there were too many.", counted.refused)
        yield counter("client_protocol_errors", "Requests that are no RESP.", counted.protocol_errors)
        yield counter("client_outputs_exceeded", "Clients cut off that did not read.", counted.outputs_exceeded)

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._closed = True
        self.stop_listening()
        for connection in list(self.connections.values()):
            connection.abort()

    def stop_listening(self) -> None:
        """Take no new connections; those that are open live on."""
        self._listener.close()

    # What connections report

    def admit(self, connection: Connection) -> bool:
        """Take a new connection in, if there is room and a receiver."""
        if len(self.connections) >= self.limits.connections_max:
            self.counters.refused += 1
            return False
        connection.id = self._next_id
        self._next_id += 1
        self.counters.connections += 1
        self.connections[connection.id] = connection
        self._tell(ConnectionMade(connection))
        return True

    def forget(self, connection: Connection) -> None:
        del self.connections[connection.id]
        self._tell(ConnectionLost(connection))

    def received(self, connection: Connection, requests: list[Request], size: int) -> None:
        batch = self._requests
        if batch is not None:
            batch.join(connection, requests)
        else:
            batch = self._requests = Requests(self)
            batch.join(connection, requests)
            self._now = self.loop.time()
            self._tell(batch)
            self._end_turn_later()
        connection.active_at = self._now
        counters = self.counters
        counters.requests += len(requests)
        counters.bytes_in += size

    def begin_anew(self, taken: Requests) -> None:
        if self._requests is taken:
            self._requests = None

    def flush_later(self, connection: Connection) -> None:
        self._unflushed.append(connection)
        self._end_turn_later()

    def _end_turn_later(self) -> None:
        """The turn of the receiver, which was told first, comes before this."""
        if not self._end_comes:
            self._end_comes = True
            self.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._end_comes = False
        self._requests = None  # not taken: the receiver is behind or gone, and what comes next is told anew
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            connection.flush()

    def _tell(self, message: ConnectionMade | ConnectionLost | Requests) -> None:
        try:
            self._receiver.tell(message)
        except ActorDeadError:
            if not self._closed:
                log.warning("nobody serves the clients of port %d any more: it is closed", self.port)
                self._closed = True
                self.loop.call_soon(self.close)
