"""The RESP edge: requests however they are cut, Redis' own refusals, replies that clients read, and well-kept turns."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pykka import ActorDeadError
from ringkeeper.runtime.network import TcpNetwork
from ringkeeper.runtime.resp import (
    LONG_READ_BYTES,
    Connection,
    ConnectionLost,
    ConnectionMade,
    Limits,
    RequestParser,
    Requests,
    RespServer,
    bulk,
    encode,
    error,
    integer,
    push,
    simple,
    verbatim,
)
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.tests.real_redis import RealRedis, packed, real_redis

# Requests

WORDS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"GET", b"SET", b"\r\n", b"*3\r\n$1\r\na", b"$5", b"x" * 4095, b"x" * 4096, b"x" * 5000, b"\r"]),
)
REQUESTS = st.lists(st.lists(WORDS, min_size=1, max_size=5), max_size=8)
CUTS = st.lists(st.integers(0, 400), max_size=6)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The data, cut after so many bytes, and so many more, and so on."""
    at = 0
    for cut in cuts:
        if cut and data[at : at + cut]:
            yield data[at : at + cut]
        at += cut
    if data[at:]:
        yield data[at:]


def parsed(data: bytes, cuts: list[int] | None = None, parser: RequestParser | None = None) -> Any:
    """The requests in these bytes, and the error that they end with."""
    parser = parser or RequestParser()
    requests = [request for piece in pieces(data, cuts or []) for request in parser.feed(piece)]
    return requests, parser.error


@given(requests=REQUESTS, cuts=CUTS)
def test_requests_are_the_same_however_the_stream_is_cut(requests: list[list[bytes]], cuts: list[int]) -> None:
    stream = b"".join(packed(*request) for request in requests)
    assert parsed(stream, cuts) == (requests, None)


@given(requests=REQUESTS)
def test_requests_are_the_same_byte_by_byte(requests: list[list[bytes]]) -> None:
    stream = b"".join(packed(*(word[:40] for word in request)) for request in requests)
    assert parsed(stream, [1] * len(stream)) == parsed(stream)


@given(requests=REQUESTS.filter(bool))
def test_requests_are_what_hiredis_reads_from_the_same_bytes(requests: list[list[bytes]]) -> None:
    stream = b"".join(hiredis.pack_command(tuple(request)) for request in requests)  # type: ignore[arg-type]
    reader = hiredis.Reader()
    reader.feed(stream)
    assert parsed(stream)[0] == [reader.gets() for _ in requests]


HEADERS = [b"*1\r\n", b"*2\r\n", b"*3", b"*0\r\n", b"*-1\r\n", b"*1000000000\r\n", b"$3\r\n", b"$-1\r\n", b"%1\r\n"]
PARTS = [
    b"GET",
    b"$0\r\n\r\n",
    b"$1\r\na\r\n",
    b"PING\r\n",
    b":1\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"$",
    b"*",
    b'"',
    b"'",
    b"\0",
    b" ",
]
FRAGMENTS = st.sampled_from(HEADERS + PARTS)
STREAMS = st.lists(st.one_of(FRAGMENTS, st.binary(max_size=6)), max_size=14).map(b"".join)


@settings(max_examples=200)
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 12), max_size=10))
@example(stream=b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc", cuts=[])
@example(stream=b"*1\r\n$4\r\nPINGxy*1\r\n$4\r\nPING\r\n", cuts=[])
def test_any_bytes_give_the_same_requests_and_error_however_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    assert parsed(stream, cuts) == parsed(stream)
    assert parsed(stream, [1] * len(stream)) == parsed(stream)


@settings(max_examples=150)
@given(stream=STREAMS, authenticated=st.booleans())
def test_any_bytes_leave_a_parser_that_holds_no_more_than_it_was_given(stream: bytes, authenticated: bool) -> None:
    parser = RequestParser(authenticated=authenticated)
    requests, failure = parsed(stream, parser=parser)
    assert all(request and all(type(word) is bytes for word in request) for request in requests)
    assert parser.held_bytes <= len(stream) * 65
    assert failure is None or (failure.startswith(b"-ERR Protocol error: ") and failure.endswith(b"\r\n"))


def test_a_header_of_a_billion_words_is_refused_before_anything_is_made_of_it() -> None:
    parser = RequestParser()
    assert parsed(b"*1000000000\r\n", parser=parser) == ([], b"-ERR Protocol error: invalid multibulk length\r\n")
    assert parser.held_bytes == 0


def test_a_promised_word_costs_nothing_before_it_comes() -> None:
    parser = RequestParser()
    assert parsed(b"*2\r\n$3\r\nGET\r\n$60000000\r\nabc", parser=parser) == ([], None)
    assert parser.held_bytes < 200


def test_a_long_word_comes_in_many_reads() -> None:
    request = [b"SET", b"k", bytes(range(256)) * 8192]
    assert parsed(packed(*request) + packed(b"GET", b"k"), [65_536] * 40) == ([request, [b"GET", b"k"]], None)


BROKEN = [
    (b"*abc\r\n", b"invalid multibulk length"),
    (b"*\r\n", b"invalid multibulk length"),
    (b"*03\r\n", b"invalid multibulk length"),
    (b"*+3\r\n", b"invalid multibulk length"),
    (b"*1 \r\n", b"invalid multibulk length"),
    (b"*-\r\n", b"invalid multibulk length"),
    (b"*99999999999999999999\r\n", b"invalid multibulk length"),
    (b"*" + b"1" * 70_000, b"too big mbulk count string"),
    (b"*1\r\n:5\r\n", b"expected '$', got ':'"),
    (b"*1\r\n*1\r\n", b"expected '$', got '*'"),
    (b"*2\r\n%1000000000\r\n", b"expected '$', got '%'"),
    (b"*1\r\n\r\n", b"expected '$', got ' '"),
    (b"*1\r\n\n\r\n", b"expected '$', got ' '"),
    (b"*1\r\n\xff\r\n", b"expected '$', got '\xff'"),
    (b"*1\r\n$-1\r\n", b"invalid bulk length"),
    (b"*1\r\n$abc\r\n", b"invalid bulk length"),
    (b"*1\r\n$04\r\nPING\r\n", b"invalid bulk length"),
    (b"*1\r\n$4 \r\nPING\r\n", b"invalid bulk length"),
    (b"*1\r\n$999999999999\r\n", b"invalid bulk length"),
    (b"*1\r\n$" + b"1" * 70_000, b"too big bulk count string"),
    (b"a" * 70_000, b"too big inline request"),
    (b'ECHO "a\r\n', b"unbalanced quotes in request"),
    (b"ECHO 'a'b\r\n", b"unbalanced quotes in request"),
]
GOOD = packed(b"PING") + b"ECHO more\r\n" + packed(b"ECHO", b"a\r\nb")


@pytest.mark.parametrize(("broken", "text"), BROKEN)
def test_what_is_not_resp_is_refused_after_the_requests_before_it(broken: bytes, text: bytes) -> None:
    requests, failure = parsed(GOOD + broken)
    assert requests == [[b"PING"], [b"ECHO", b"more"], [b"ECHO", b"a\r\nb"]]
    assert failure == b"-ERR Protocol error: " + text + b"\r\n"


@pytest.fixture(scope="module")
def redis() -> Iterator[RealRedis]:
    with real_redis() as server:
        yield server


@pytest.mark.processes
@pytest.mark.parametrize(("broken", "text"), BROKEN)
def test_redis_refuses_it_in_the_same_words(redis: RealRedis, broken: bytes, text: bytes) -> None:
    said = redis.last_words(GOOD + broken)
    assert said == b"+PONG\r\n$4\r\nmore\r\n$4\r\na\r\nb\r\n-ERR Protocol error: " + text + b"\r\n"


def test_after_an_error_nothing_is_read_any_more() -> None:
    parser = RequestParser()
    parser.feed(b"*x\r\n")
    assert parser.feed(packed(b"PING")) == []


def test_empty_requests_are_passed_over() -> None:
    assert parsed(b"*0\r\n\r\n  \r\n*-1\r\n*-7\r\n" + packed(b"PING")) == ([[b"PING"]], None)


LINES = st.text("ab \t\v\f\"'\\xnr4Z", max_size=14).map(str.encode)


@pytest.mark.processes
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=LINES)
def test_a_line_is_split_into_the_words_that_redis_finds(redis: RealRedis, line: bytes) -> None:
    command = b"COMMAND GETKEYS MGET x " + line + b"\r\n"
    requests, failure = parsed(command)
    if failure is None:
        assert redis.answer(command) == encode([bulk(word) for word in requests[0][3:]])
    else:
        assert redis.last_words(command) == failure


def test_a_line_may_end_as_in_telnet_or_as_in_netcat() -> None:
    assert parsed(b"SET a 1\r\nGET a\n") == ([[b"SET", b"a", b"1"], [b"GET", b"a"]], None)


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: here\r\n"])
def test_a_browser_is_turned_away(line: bytes) -> None:
    assert b"HTTP" in (parsed(line + b"\r\nFLUSHALL\r\n")[1] or b"")
    assert [b"FLUSHALL"] not in parsed(line + b"\r\nFLUSHALL\r\n")[0]


def test_a_client_that_must_authenticate_may_say_little_before_it_does() -> None:
    limits = Limits(unauthenticated_words_max=10, unauthenticated_bulk_bytes_max=16)
    many, long = packed(*[b"a"] * 11), packed(b"AUTH", b"a" * 17)
    for request, text in ((many, b"unauthenticated multibulk length"), (long, b"unauthenticated bulk length")):
        unknown = RequestParser(limits, authenticated=False)
        assert unknown.feed(packed(b"AUTH", b"a" * 16)) == [[b"AUTH", b"a" * 16]]
        assert unknown.feed(request) == []
        assert unknown.error == b"-ERR Protocol error: " + text + b"\r\n"
        known = RequestParser(limits, authenticated=False)
        known.authenticated = True
        assert len(known.feed(request)) == 1


@pytest.mark.parametrize("cuts", [[], [1] * 400])
def test_limits_hold_whatever_their_size_and_however_the_stream_is_cut(cuts: list[int]) -> None:
    assert parsed(packed(b"a", b"b", b"c"), cuts, RequestParser(Limits(words_max=2)))[1] is not None
    assert parsed(packed(b"a" * 9), cuts, RequestParser(Limits(bulk_bytes_max=8)))[1] is not None
    assert parsed(packed(b"a" * 8, b"b"), cuts, RequestParser(Limits(words_max=2, bulk_bytes_max=8)))[1] is None
    assert (
        b"too big request"
        in parsed(packed(*[b""] * 9), cuts, RequestParser(Limits(request_bytes_max=512, words_max=9)))[1]
    )


# Replies


def read(encoded: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(encoded)
    reply = reader.gets()
    assert not reader.has_data()
    return reply


def as_read(reply: Any, protocol: int) -> Any:
    """What a client library makes of a reply."""
    match reply:
        case bytes():
            return read(reply)
        case str():
            return reply.encode()
        case bool():
            return reply if protocol == 3 else int(reply)
        case float():
            return reply if protocol == 3 else repr(reply).encode()
        case list() | tuple():
            return [as_read(element, protocol) for element in reply]
        case dict():
            items = [(as_read(key, protocol), as_read(value, protocol)) for key, value in reply.items()]
            return dict(items) if protocol == 3 else [half for item in items for half in item]
        case frozenset():
            return [read(element) for element in sorted(reply)]
        case _:
            return reply


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8).map(bulk),
    st.integers(0, 9).map(integer),
    st.frozensets(st.binary(max_size=4).map(bulk), max_size=3),
)
REPLIES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(reply=REPLIES, protocol=st.sampled_from([2, 3]))
def test_a_client_library_reads_back_what_was_replied(reply: Any, protocol: int) -> None:
    assert read(encode(reply, protocol)) == as_read(reply, protocol)


def test_the_types_that_resp2_lacks_become_their_nearest() -> None:
    pair = {"a": [True, 1.5], "b": None}
    assert encode(pair, 3) == b"%2\r\n$1\r\na\r\n*2\r\n#t\r\n,1.5\r\n$1\r\nb\r\n_\r\n"
    assert encode(pair, 2) == b"*4\r\n$1\r\na\r\n*2\r\n:1\r\n$3\r\n1.5\r\n$1\r\nb\r\n$-1\r\n"
    assert encode(frozenset({simple(b"b"), simple(b"a")}), 3) == b"~2\r\n+a\r\n+b\r\n"
    assert encode(frozenset({simple(b"b"), simple(b"a")}), 2) == b"*2\r\n+a\r\n+b\r\n"
    assert (verbatim(b"hi", 3), verbatim(b"hi", 2)) == (b"=6\r\ntxt:hi\r\n", b"$2\r\nhi\r\n")
    assert (push(["news"], 3), push(["news"], 2)) == (b">1\r\n$4\r\nnews\r\n", b"*1\r\n$4\r\nnews\r\n")


def test_an_error_with_line_ends_in_it_is_one_line() -> None:
    assert error(b"ERR no\r\n:1") == b"-ERR no  :1\r\n"


def test_what_is_no_reply_is_refused() -> None:
    with pytest.raises(TypeError, match="complex is not a reply"):
        encode([1j])  # type: ignore[list-item]


# The server


class Wire:
    """The client's end of a connection whose other end is a `Connection`; looks like an asyncio transport."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.writes: list[bytes] = []
        self.unread_max = 1 << 30
        self.reading = self.open = True
        self.aborted = False
        self.protocol: Any = None
        self._untaken = 0
        self._high = 0

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 50_000 + self.number) if name == "peername" else ("::1", 7001, 0, 0)

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self._untaken

    def is_closing(self) -> bool:
        return not self.open

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def write(self, data: bytes) -> None:
        assert self.open
        self.writes.append(data)
        if len(data) > self.unread_max:
            self._untaken += len(data)
            if self._untaken > self._high:
                self.protocol.pause_writing()

    def take(self) -> None:
        """Read all that waits."""
        self._untaken = 0
        self.protocol.resume_writing()

    def close(self) -> None:
        self.open = False

    def abort(self) -> None:
        self.open, self.aborted = False, True

    @property
    def read(self) -> bytes:
        """All that the client has got so far."""
        return b"".join(self.writes)


class FakeNetwork:
    """Listens on nothing; tests make the connections."""

    def __init__(self) -> None:
        self.protocol: Callable[[], Any] = lambda: None
        self.listening = False
        self.port = 7001

    def listen(self, host: str, port: int, protocol: Callable[[], Any]) -> "FakeNetwork":
        self.protocol, self.listening = protocol, True
        return self

    def connect(self, *_: Any) -> None:
        raise AssertionError("a server dials nobody")

    def close(self) -> None:
        self.listening = False


class Mail:
    """Hears what a server tells."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.dead = False

    def tell(self, message: Any) -> None:
        if self.dead:
            raise ActorDeadError("it has stopped")
        self.messages.append(message)

    def batches(self) -> list[list[tuple[Connection, list[list[bytes]]]]]:
        """Take every batch that has come since the last time."""
        found = [message.take() for message in self.messages if isinstance(message, Requests)]
        self.messages.clear()
        return found


class Stage:
    """A server, its receiver and its clients, in virtual time."""

    def __init__(self, *, password_needed: bool = False, **limits: Any) -> None:
        self.loop, self.network, self.mail = VirtualLoop(), FakeNetwork(), Mail()
        self.server = RespServer(
            self.loop, self.network, "127.0.0.1", 7001, self.mail, Limits(**limits), password_needed=password_needed
        )
        self.clients = 0

    def connect(self) -> Wire:
        self.clients += 1
        wire = Wire(self.clients)
        wire.protocol = self.network.protocol()
        wire.protocol.connection_made(wire)
        return wire

    def answer_all(self) -> None:
        """Answer every request that was read with its own number of words."""
        for batch in self.mail.batches():
            for connection, requests in batch:
                for request in requests:
                    connection.write(integer(len(request)))
        self.loop.run_until_idle()


def test_what_comes_in_one_turn_is_told_at_once() -> None:
    stage = Stage()
    first, second = stage.connect(), stage.connect()
    first.protocol.data_received(packed(b"GET", b"a") + packed(b"GET", b"b"))
    second.protocol.data_received(packed(b"PING"))
    first.protocol.data_received(packed(b"GET", b"c"))
    assert [type(message) for message in stage.mail.messages] == [ConnectionMade, ConnectionMade, Requests]
    assert stage.mail.batches() == [
        [
            (first.protocol, [[b"GET", b"a"], [b"GET", b"b"]]),
            (second.protocol, [[b"PING"]]),
            (first.protocol, [[b"GET", b"c"]]),
        ]
    ]


def test_what_comes_after_the_batch_was_taken_is_told_anew() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.data_received(packed(b"PING"))
    assert len(stage.mail.batches()) == 1
    wire.protocol.data_received(packed(b"ECHO", b"a"))
    assert stage.mail.batches() == [[(wire.protocol, [[b"ECHO", b"a"]])]]


def test_a_batch_that_nobody_took_is_left_behind_with_its_turn() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.data_received(packed(b"PING"))
    stage.loop.run_until_idle()
    wire.protocol.data_received(packed(b"ECHO", b"a"))
    assert [[requests for _, requests in batch] for batch in stage.mail.batches()] == [
        [[[b"PING"]]],
        [[[b"ECHO", b"a"]]],
    ]


def test_half_a_request_is_not_told() -> None:
    stage = Stage()
    wire = stage.connect()
    stage.mail.messages.clear()
    wire.protocol.data_received(packed(b"PING")[:-1])
    assert stage.mail.messages == []
    assert stage.server.counters.bytes_in == len(packed(b"PING")) - 1


def test_all_replies_of_a_turn_leave_in_one_write() -> None:
    stage = Stage()
    first, second = stage.connect(), stage.connect()
    first.protocol.data_received(packed(b"a") + packed(b"a", b"b"))
    second.protocol.data_received(packed(b"a", b"b", b"c"))
    stage.answer_all()
    assert (first.writes, second.writes) == ([b":1\r\n:2\r\n"], [b":3\r\n"])


def test_a_protocol_error_is_said_after_the_replies_to_what_came_before_it() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.data_received(packed(b"a") + packed(b"a", b"b") + b"*x\r\n" + packed(b"never"))
    stage.loop.run_until_idle()
    assert wire.open and not wire.reading
    stage.answer_all()
    assert wire.read == b":1\r\n:2\r\n-ERR Protocol error: invalid multibulk length\r\n"
    assert not wire.open
    assert stage.server.counters.protocol_errors == 1


def test_a_client_that_has_said_all_still_gets_its_replies() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.data_received(packed(b"a"))
    assert wire.protocol.eof_received()
    stage.loop.run_until_idle()
    assert wire.open and wire.protocol.ending
    stage.answer_all()
    assert wire.read == b":1\r\n" and not wire.open


def test_a_client_that_leaves_without_a_question_is_let_go() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.eof_received()
    stage.loop.run_until_idle()
    assert not wire.open


def test_quit_sends_what_was_written_before_and_nothing_after() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.data_received(packed(b"SET", b"a", b"1") + packed(b"QUIT") + packed(b"GET", b"a"))
    connection: Connection = wire.protocol
    connection.write(b"+OK\r\n", 2)
    connection.close_after_write()
    assert connection.closed
    connection.write(b"$1\r\n1\r\n")
    stage.loop.run_until_idle()
    assert wire.read == b"+OK\r\n" and not wire.open


def test_a_closing_connection_whose_client_does_not_take_its_replies_is_cut_off() -> None:
    stage = Stage(closing_seconds=10.0)
    wire = stage.connect()
    wire.protocol.close_after_write()
    stage.loop.advance(9.0)
    assert not wire.open and not wire.aborted
    stage.loop.advance(2.0)
    assert wire.aborted


def test_one_connection_too_many_is_refused_in_redis_own_words() -> None:
    stage = Stage(connections_max=2)
    wires = [stage.connect() for _ in range(3)]
    assert [wire.open for wire in wires] == [True, True, False]
    assert wires[2].read == b"-ERR max number of clients reached\r\n"
    wires[2].protocol.data_received(packed(b"PING"))
    wires[2].protocol.connection_lost(None)
    assert [type(message) for message in stage.mail.messages] == [ConnectionMade] * 2
    assert (stage.server.counters.connections, stage.server.counters.refused) == (2, 1)
    wires[0].protocol.connection_lost(None)
    assert stage.connect().open, "there is room again"


def test_a_connection_knows_its_number_its_ends_and_its_times() -> None:
    stage = Stage()
    stage.loop.advance(5.0)
    first, second = stage.connect(), stage.connect()
    stage.loop.advance(2.0)
    second.protocol.data_received(packed(b"PING"))
    connection: Connection = second.protocol
    assert (connection.id, connection.address, connection.local_address) == (2, "127.0.0.1:50002", "[::1]:7001")
    assert (connection.made_at, connection.active_at, first.protocol.active_at) == (5.0, 7.0, 5.0)
    assert list(stage.server.connections.values()) == [first.protocol, second.protocol]


def test_a_lost_connection_is_told_once_and_written_to_no_more() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.data_received(packed(b"PING"))
    wire.protocol.connection_lost(None)
    assert isinstance(stage.mail.messages[-1], ConnectionLost)
    assert stage.server.connections == {}
    stage.answer_all()
    assert wire.writes == []


def test_a_client_with_too_many_unanswered_requests_is_not_read_from_until_they_are_answered() -> None:
    stage = Stage(unanswered_max=10)
    wire = stage.connect()
    wire.protocol.data_received(packed(b"PING") * 10)
    assert wire.reading
    wire.protocol.data_received(packed(b"PING"))
    assert not wire.reading and wire.protocol.unanswered == 11
    wire.protocol.write(b"+PONG\r\n" * 5, 5)
    stage.loop.run_until_idle()
    assert not wire.reading, "6 are unanswered: it waits for half of what it may"
    wire.protocol.write(b"+PONG\r\n")
    stage.loop.run_until_idle()
    assert wire.reading


def test_a_client_that_sends_as_much_as_one_read_takes_is_read_on_after_everybody_elses_turn() -> None:
    stage = Stage()
    wire = stage.connect()
    long = packed(b"EXISTS", *[b"key"] * 100_000)
    for at in range(0, len(long), LONG_READ_BYTES):
        part = long[at : at + LONG_READ_BYTES]
        wire.protocol.data_received(part)
        assert wire.reading == (len(part) < LONG_READ_BYTES)
        stage.loop.run_until_idle()
        assert wire.reading
    stage.answer_all()
    assert wire.read == b":100001\r\n"
    wire.protocol.data_received(packed(b"SET", b"key", b"x" * LONG_READ_BYTES))
    wire.protocol.pause()
    stage.loop.run_until_idle()
    assert not wire.reading, "there is another reason"


def test_a_receiver_may_stop_the_reading_and_let_it_go_on() -> None:
    stage = Stage(unanswered_max=1)
    wire = stage.connect()
    wire.protocol.pause()
    wire.protocol.pause()
    assert not wire.reading
    wire.protocol.data_received(packed(b"PING") * 2)
    wire.protocol.resume()
    assert not wire.reading, "there is another reason"
    stage.answer_all()
    assert wire.reading


def test_a_client_that_does_not_take_its_replies_is_not_read_from() -> None:
    stage = Stage(output_pause_bytes=100, output_bytes_max=1000)
    wire = stage.connect()
    wire.unread_max = 0
    wire.protocol.write(b"x" * 500)
    stage.loop.run_until_idle()
    assert wire.open and not wire.reading
    assert wire.protocol.waiting_bytes == 500
    wire.take()
    assert wire.reading


def test_a_client_that_lets_too_much_wait_is_cut_off() -> None:
    stage = Stage(output_pause_bytes=100, output_bytes_max=1000)
    wire = stage.connect()
    wire.unread_max = 0
    for _ in range(3):
        assert not wire.aborted
        wire.protocol.write(b"x" * 400)
        stage.loop.run_until_idle()
    assert wire.aborted and wire.protocol.closed
    assert stage.server.counters.outputs_exceeded == 1


def test_replies_beyond_the_bound_are_not_even_collected() -> None:
    stage = Stage(output_bytes_max=1000)
    wire = stage.connect()
    for _ in range(100):
        wire.protocol.write(b"x" * 400)
    assert wire.aborted and wire.protocol.waiting_bytes == 0
    stage.loop.run_until_idle()
    wire.protocol.connection_lost(None)
    assert wire.writes == [] and stage.server.counters.outputs_exceeded == 1


def test_a_client_that_does_not_authenticate_in_time_is_dropped() -> None:
    stage = Stage(password_needed=True, unauthenticated_seconds=30.0)
    idle, known = stage.connect(), stage.connect()
    assert not idle.protocol.authenticated
    known.protocol.authenticated = True
    stage.loop.advance(29.0)
    assert not idle.aborted
    stage.loop.advance(2.0)
    assert idle.aborted and not known.aborted
    assert stage.server.counters.unauthenticated_expired == 1
    known.protocol.authenticated = False
    stage.loop.advance(29.0)
    known.protocol.authenticated = False
    stage.loop.advance(2.0)
    assert known.aborted, "to be told so again gives it no more time"


def test_without_a_password_a_client_may_be_idle_for_ever() -> None:
    stage = Stage()
    wire = stage.connect()
    stage.loop.advance(1_000_000.0)
    assert wire.open and wire.protocol.authenticated


def test_when_the_receiver_is_gone_its_clients_are_let_go(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    wires = [stage.connect() for _ in range(3)]
    stage.mail.dead = True
    for wire in wires:
        wire.protocol.data_received(packed(b"PING"))
    stage.loop.run_until_idle()
    assert all(wire.aborted for wire in wires) and not stage.network.listening
    for wire in wires:
        wire.protocol.connection_lost(None)
    assert stage.server.connections == {}
    assert len(caplog.records) == 1, "said once, not for every client"


def test_everything_is_counted() -> None:
    stage = Stage()
    wire = stage.connect()
    wire.protocol.data_received(packed(b"a") + packed(b"b"))
    stage.answer_all()
    counters = stage.server.counters
    assert (counters.connections, counters.requests, counters.bytes_in, counters.bytes_out) == (1, 2, 22, 8)


# On a real network


class Echo:
    """Answers every request with its last word, in a turn of its own, as an actor would."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.lost = 0

    def tell(self, message: Any) -> None:
        self.loop.call_soon(self.on_receive, message)

    def on_receive(self, message: Any) -> None:
        match message:
            case Requests():
                for connection, requests in message.take():
                    connection.write(b"".join(bulk(request[-1]) for request in requests), len(requests))
            case ConnectionLost():
                self.lost += 1


def on_the_network(scene: Callable[[RespServer, Echo], Any], **limits: Any) -> None:
    """Play a scene with a server on a free port of the loopback, on uvloop."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        echo = Echo(loop)
        server = RespServer(loop, TcpNetwork(loop), "127.0.0.1", 0, echo, Limits(**limits))
        try:
            async with asyncio.timeout(20):
                await scene(server, echo)
        finally:
            server.close()
            while server.connections:
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())


def test_clients_on_a_real_network_get_their_own_replies_in_order() -> None:
    async def scene(server: RespServer, _: Echo) -> None:
        async def talk(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for turn in range(10):
                words = [b"%d-%d-%d" % (number, turn, index) for index in range(16)]
                writer.write(b"".join(packed(b"ECHO", word) for word in words))
                expected = b"".join(bulk(word) for word in words)
                assert await reader.readexactly(len(expected)) == expected
            writer.close()

        await asyncio.gather(*(talk(number) for number in range(20)))
        assert server.counters.requests == 20 * 10 * 16

    on_the_network(scene)


def test_a_pipe_that_is_closed_behind_its_requests_gets_all_replies() -> None:
    async def scene(server: RespServer, echo: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"ECHO one\nECHO two\n" + packed(b"ECHO", b"x" * 100_000))
        writer.write_eof()
        assert await reader.read() == bulk(b"one") + bulk(b"two") + bulk(b"x" * 100_000)
        writer.close()
        while not echo.lost:
            await asyncio.sleep(0)

    on_the_network(scene)


def test_a_client_that_asks_and_never_reads_is_cut_off_and_others_are_served() -> None:
    async def scene(server: RespServer, echo: Echo) -> None:
        greedy = socket.create_connection(("127.0.0.1", server.port))
        greedy.setblocking(False)
        loop = asyncio.get_running_loop()
        question = packed(b"ECHO", b"x" * 1_000_000)
        with pytest.raises(ConnectionError):
            while True:  # replies fill the buffers of both machines, then our own up to its bound
                await loop.sock_sendall(greedy, question)
        greedy.close()
        assert server.counters.outputs_exceeded == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(packed(b"ECHO", b"still here"))
        assert await reader.readexactly(17) == bulk(b"still here")
        writer.close()

    on_the_network(scene, output_pause_bytes=50_000_000, output_bytes_max=8_000_000)


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    async def scene(server: RespServer, echo: Echo) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(OSError, match="in use"):
            RespServer(loop, TcpNetwork(loop), "127.0.0.1", server.port, echo)

    on_the_network(scene)
