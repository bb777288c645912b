"""Data commands: every reply and every effect is Redis' own, byte by byte, whatever was said before."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringkeeper.actors.rules.commands import Command, resolve
from ringkeeper.actors.rules.data_commands import INTEGER_MAX, INTEGER_MIN, PATTERN_BYTES_MAX, glob, parse_integer
from ringkeeper.runtime.resp import encode
from ringkeeper.tests.real_redis import RealRedis, real_redis

VALUE_TOO_LONG = b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"


class Slot:
    """One slot in a dictionary: the simplest `View`."""

    def __init__(self, value_bytes_max: int = 1024, now_ms: int = 1_700_000_000_000) -> None:
        self.keys: dict[bytes, bytes] = {}
        self.expiries: dict[bytes, int] = {}
        self.value_bytes_max, self.now_ms = value_bytes_max, now_ms
        self.writes = 0

    def get(self, key: bytes) -> bytes | None:
        return None if 0 < self.expiries.get(key, 0) <= self.now_ms else self.keys.get(key)

    def expiry(self, key: bytes) -> int | None:
        return None if self.get(key) is None else self.expiries.get(key, 0)

    def put(self, key: bytes, value: bytes, expiry: int = 0) -> None:
        self.writes += 1
        self.keys[key] = value
        self.expiries[key] = expiry

    def delete(self, key: bytes) -> bool:
        self.writes += 1
        lived = self.get(key) is not None
        self.keys.pop(key, None)
        return lived


def ask(slot: Slot, *request: bytes, protocol: int = 2) -> bytes:
    command = resolve(list(request))
    if not isinstance(command, Command):
        return command
    assert command.run is not None
    return encode(command.run(slot, list(request)), protocol)


@pytest.fixture(scope="module")
def redis() -> Iterator[RealRedis]:
    with real_redis() as server:
        yield server


KEYS = st.sampled_from([b"a", b"b", b"c", b"long key with \r\n in it"])
EDGES = [0, 1, -1, 7, INTEGER_MAX, INTEGER_MAX - 1, INTEGER_MIN, INTEGER_MIN + 1, INTEGER_MAX + 1, INTEGER_MIN - 1]
NUMBERS = st.sampled_from([b"%d" % edge for edge in EDGES])
ODD_NUMBERS = st.sampled_from(
    [b"", b"+1", b"01", b"-0", b" 1", b"1 ", b"1_0", b"0x1", b"1.0", b"-", b"9" * 19, b"1" * 30]
)
VALUES = st.one_of(NUMBERS, ODD_NUMBERS, st.binary(max_size=12))
OPTIONS = st.lists(st.sampled_from([b"NX", b"xx", b"GET", b"get", b"nx", b"XX", b"FOO"]), max_size=3)
PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3).map(lambda pairs: [w for pair in pairs for w in pair])
MANY = st.lists(KEYS, min_size=1, max_size=4)


def named(name: bytes, *words: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(*words).map(lambda found: [name, *found])


def named_with(name: bytes, words: st.SearchStrategy[list[bytes]]) -> st.SearchStrategy[list[bytes]]:
    return words.map(lambda found: [name, *found])


REQUESTS = st.one_of(
    named(b"GET", KEYS),
    named(b"set", KEYS, VALUES),
    st.tuples(KEYS, VALUES, OPTIONS).map(lambda words: [b"SET", words[0], words[1], *words[2]]),
    named(b"SETNX", KEYS, VALUES),
    named(b"GETSET", KEYS, VALUES),
    named(b"GETDEL", KEYS),
    named_with(b"MGET", MANY),
    named_with(b"MSET", PAIRS),
    named_with(b"MSET", MANY),
    named_with(b"MSETNX", PAIRS),
    named_with(b"MSETNX", MANY),
    named(b"STRLEN", KEYS),
    named(b"APPEND", KEYS, VALUES),
    named(b"INCR", KEYS),
    named(b"Decr", KEYS),
    named(b"INCRBY", KEYS, VALUES),
    named(b"DECRBY", KEYS, VALUES),
    named_with(b"DEL", MANY),
    named_with(b"UNLINK", MANY),
    named_with(b"EXISTS", MANY),
    named(b"TYPE", KEYS),
    named_with(b"strlen", MANY),
)


@pytest.mark.processes
@pytest.mark.parametrize("protocol", [2, 3])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(REQUESTS, min_size=1, max_size=25))
def test_any_sequence_of_commands_is_answered_as_redis_does(
    redis: RealRedis, protocol: int, requests: list[list[bytes]]
) -> None:
    redis.speak(protocol)
    redis.replies([[b"FLUSHALL"]])
    slot = Slot()
    ours = [ask(slot, *request, protocol=protocol) for request in requests]
    assert b"".join(ours) == redis.replies(requests)
    kept = [[b"GET", key] for key in sorted(slot.keys)]
    assert b"".join(ask(slot, *request, protocol=protocol) for request in kept) == redis.replies(kept)


@pytest.mark.processes
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pattern=st.text("ab*?[]^-\\", max_size=8).map(str.encode),
    key=st.text("ab]-^\\", min_size=1, max_size=5).map(str.encode),
)
def test_a_glob_matches_what_it_matches_in_redis(redis: RealRedis, pattern: bytes, key: bytes) -> None:
    redis.speak(2)
    matched = redis.replies([[b"FLUSHALL"], [b"SET", key, b""], [b"KEYS", pattern]]).removeprefix(b"+OK\r\n+OK\r\n")
    assert bool(glob(pattern).fullmatch(key)) == (matched != b"*0\r\n")


def test_a_hostile_glob_costs_no_more_than_its_length_times_the_keys() -> None:
    assert not glob(b"*a" * 1000 + b"b").fullmatch(b"a" * 20_000)


def test_a_glob_takes_case_into_account_unless_it_is_told_not_to() -> None:
    assert not glob(b"GET*").fullmatch(b"getset")
    assert glob(b"GET*", ignore_case=True).fullmatch(b"getset")


def test_a_glob_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        glob(b"a" * (PATTERN_BYTES_MAX + 1))


@given(number=st.integers(INTEGER_MIN, INTEGER_MAX))
def test_an_integer_is_read_back_from_its_only_spelling(number: int) -> None:
    assert parse_integer(b"%d" % number) == number


@given(text=st.text("0123456789+-_ .\t\n٣", max_size=21).map(str.encode))
def test_whatever_is_not_that_spelling_is_no_integer(text: bytes) -> None:
    number = parse_integer(text)
    assert number is None or b"%d" % number == text


def test_set_ifeq_writes_only_over_the_value_that_was_named() -> None:
    slot = Slot()
    assert ask(slot, b"SET", b"k", b"new", b"IFEQ", b"old") == b"$-1\r\n"
    assert slot.keys == {}, "a missing key equals nothing, not even the empty string"
    assert ask(slot, b"SET", b"k", b"new", b"IFEQ", b"") == b"$-1\r\n"
    ask(slot, b"SET", b"k", b"old")
    assert ask(slot, b"SET", b"k", b"new", b"IFEQ", b"other") == b"$-1\r\n"
    assert slot.keys == {b"k": b"old"}
    assert ask(slot, b"SET", b"k", b"new", b"ifeq", b"old") == b"+OK\r\n"
    assert slot.keys == {b"k": b"new"}


def test_set_ifeq_get_answers_with_the_old_value_written_or_not() -> None:
    slot = Slot()
    assert ask(slot, b"SET", b"k", b"new", b"IFEQ", b"old", b"GET") == b"$-1\r\n"
    ask(slot, b"SET", b"k", b"old")
    assert ask(slot, b"SET", b"k", b"new", b"GET", b"IFEQ", b"other") == b"$3\r\nold\r\n"
    assert slot.keys == {b"k": b"old"}
    assert ask(slot, b"SET", b"k", b"new", b"IFEQ", b"old", b"GET") == b"$3\r\nold\r\n"
    assert slot.keys == {b"k": b"new"}


@pytest.mark.parametrize(
    "options",
    [b"IFEQ", b"IFEQ a NX", b"XX IFEQ a", b"IFEQ a IFEQ a", b"NX XX", b"SOON", b"NX 5"],
)
def test_options_of_set_that_contradict_each_other_are_a_syntax_error(options: bytes) -> None:
    slot = Slot()
    assert ask(slot, b"SET", b"k", b"v", *options.split()) == b"-ERR syntax error\r\n"
    assert slot.writes == 0


NOW = 1_700_000_000_000
FAR = [b"1000", b"2000", b"1e3", b"9223372036854775807", b"9223372036854775", b"9223372036854776", b"-5", b"0", b""]
"""Durations and instants that mean the same to two clocks that differ by a moment: long, long ago, and no number."""
SPANS = st.sampled_from([b"1000000", b"2000000", *FAR, b"-9223372036854775808", b"-9223372036854775809"])
INSTANTS = st.sampled_from([b"9999999999", b"9999999999999", b"1", *FAR, b"-9223372036854775", b"-9223372036854776"])
TIMINGS = st.one_of(
    st.tuples(st.sampled_from([b"EX", b"px", b"PX"]), SPANS).map(list),
    st.tuples(st.sampled_from([b"exat", b"PXAT"]), INSTANTS).map(list),
    st.sampled_from([[b"KEEPTTL"], [b"PERSIST"], [b"EX"], [b"NX"], [b"XX"], [b"GET"]]),
)
CONDITIONS = st.lists(st.sampled_from([b"NX", b"xx", b"GT", b"lt", b"LT", b"Soon\r\n", b"a\0b"]), max_size=2)
UNCONDITIONAL = st.lists(st.sampled_from([b"NX", b"xx", b"FOO"]), max_size=1)
"""Of a span: GT and LT would compare it with one that began on another clock."""


def timed(name: bytes, *words: st.SearchStrategy[list[bytes]]) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(*words).map(lambda found: [name, *(word for words in found for word in words)])


ONE = KEYS.map(lambda key: [key])
WORD = VALUES.map(lambda value: [value])
TIMED_REQUESTS = st.one_of(
    timed(b"SET", ONE, WORD, TIMINGS),
    timed(b"set", ONE, WORD, TIMINGS, TIMINGS),
    timed(b"GETEX", ONE),
    timed(b"GetEx", ONE, TIMINGS),
    timed(b"GETEX", ONE, TIMINGS, TIMINGS),
    named(b"SETEX", KEYS, SPANS, VALUES),
    named(b"PSETEX", KEYS, SPANS, VALUES),
    timed(b"EXPIRE", ONE, SPANS.map(lambda span: [span]), UNCONDITIONAL),
    timed(b"PExpire", ONE, SPANS.map(lambda span: [span]), UNCONDITIONAL),
    timed(b"EXPIREAT", ONE, INSTANTS.map(lambda instant: [instant]), CONDITIONS),
    timed(b"PEXPIREAT", ONE, INSTANTS.map(lambda instant: [instant]), CONDITIONS),
    named(b"PERSIST", KEYS),
)


def same_time(ours: bytes, theirs: bytes) -> bool:
    """Whether two answers about times are the same, but for how long the test took."""
    mine, real = (int(reply.removeprefix(b":")) for reply in (ours, theirs))
    return mine == real or (mine > 0 and real > 0 and abs(mine - real) < 60_000)


@pytest.mark.processes
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.one_of(TIMED_REQUESTS, TIMED_REQUESTS, REQUESTS), min_size=1, max_size=20))
def test_what_is_said_about_expiry_is_answered_as_redis_does(redis: RealRedis, requests: list[list[bytes]]) -> None:
    redis.speak(2)
    redis.replies([[b"FLUSHALL"]])
    slot = Slot(now_ms=int(time.time() * 1000))
    for request in requests:
        assert ask(slot, *request) == redis.replies([request]), request
        for key in {request[1]}:
            for name in (b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"):
                assert same_time(ask(slot, name, key), redis.replies([[name, key]])), (request, name)


@pytest.mark.processes
@pytest.mark.parametrize(
    "line",
    [
        b"EXPIRE k 50 GT", b"EXPIRE k 50 LT", b"EXPIRE k 500 GT", b"PEXPIRE k 500000 lt", b"EXPIRE k 500 XX GT",
        b"EXPIRE k 50 xx LT", b"EXPIRE k 50 NX", b"EXPIRE k 50 XX XX", b"EXPIRE k -1 GT", b"EXPIRE k -1 LT",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [b"SET k v", b"SET k v EX 100", b"DEL k"])
def test_a_condition_compares_a_new_expiry_with_the_old_one(redis: RealRedis, before: bytes, line: bytes) -> None:
    redis.speak(2)
    slot = Slot(now_ms=int(time.time() * 1000))
    requests = [before.split(), line.split(), [b"EXISTS", b"k"]]
    assert b"".join(ask(slot, *request) for request in requests) == redis.replies(requests)
    assert same_time(ask(slot, b"TTL", b"k"), redis.replies([[b"TTL", b"k"]]))


@given(seconds=st.integers(1, INTEGER_MAX // 1000 + 1), passed_ms=st.integers(0, 2**40))
def test_a_key_lives_for_exactly_as_long_as_was_said(seconds: int, passed_ms: int) -> None:
    slot = Slot(now_ms=NOW)
    reply = ask(slot, b"SET", b"k", b"v", b"EX", b"%d" % seconds)
    if NOW + seconds * 1000 > INTEGER_MAX:
        assert reply == b"-ERR invalid expire time in 'set' command\r\n"
        assert slot.writes == 0
        return
    left = seconds * 1000 - passed_ms
    slot.now_ms += passed_ms
    assert ask(slot, b"GET", b"k") == (b"$1\r\nv\r\n" if left > 0 else b"$-1\r\n")
    assert ask(slot, b"PTTL", b"k") == b":%d\r\n" % (left if left > 0 else -2)
    assert ask(slot, b"TTL", b"k") == b":%d\r\n" % ((left + 500) // 1000 if left > 0 else -2)
    assert ask(slot, b"EXPIRE", b"k", b"10", b"GT") == b":%d\r\n" % (0 < left < 10_000)


@pytest.mark.parametrize(
    "line", [b"APPEND k 1", b"INCR k", b"DECRBY k 2", b"SET k 2 KEEPTTL", b"SET k 2 XX KEEPTTL GET", b"GETEX k"]
)
def test_what_changes_a_value_leaves_its_expiry_as_it_is(line: bytes) -> None:
    slot = Slot()
    ask(slot, b"SET", b"k", b"1", b"PX", b"5000")
    ask(slot, *line.split())
    assert ask(slot, b"PTTL", b"k") == b":5000\r\n"


@pytest.mark.parametrize("line", [b"SET k 2", b"GETSET k 2", b"MSET k 2", b"PERSIST k", b"GETEX k PERSIST"])
def test_what_replaces_a_value_makes_it_stay_for_good(line: bytes) -> None:
    slot = Slot()
    ask(slot, b"SET", b"k", b"1", b"PX", b"5000")
    ask(slot, *line.split())
    assert ask(slot, b"PTTL", b"k") == b":-1\r\n"


@pytest.mark.parametrize("line", [b"SETNX k 2", b"MSETNX k 2", b"SET k 2 NX", b"APPEND k 2", b"INCRBY k 2"])
def test_what_comes_after_the_expiry_finds_nothing_and_inherits_nothing(line: bytes) -> None:
    slot = Slot()
    ask(slot, b"SET", b"k", b"1", b"PX", b"5000")
    slot.now_ms += 5000
    for name in (b"PERSIST", b"DEL", b"EXISTS"):
        assert ask(slot, name, b"k") == b":0\r\n"
    ask(slot, *line.split())
    assert ask(slot, b"GET", b"k") == b"$1\r\n2\r\n"
    assert ask(slot, b"PTTL", b"k") == b":-1\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        [b"SET", b"k", b"x" * 11],
        [b"SET", b"k", b"x" * 11, b"NX"],
        [b"SETNX", b"k", b"x" * 11],
        [b"GETSET", b"k", b"x" * 11],
        [b"MSET", b"j", b"x", b"k", b"x" * 11],
        [b"MSETNX", b"j", b"x", b"k", b"x" * 11],
        [b"APPEND", b"there", b"x" * 5],
        [b"APPEND", b"k", b"x" * 11],
    ],
)
def test_a_value_that_is_too_long_is_refused_and_nothing_is_written(request_: list[bytes]) -> None:
    slot = Slot(value_bytes_max=10)
    slot.keys[b"there"] = b"123456"
    assert ask(slot, *request_) == VALUE_TOO_LONG
    assert slot.keys == {b"there": b"123456"}
    assert slot.writes == 0


def test_a_value_of_exactly_the_greatest_length_is_stored() -> None:
    slot = Slot(value_bytes_max=10)
    assert ask(slot, b"SET", b"k", b"x" * 10) == b"+OK\r\n"
    assert ask(slot, b"APPEND", b"j", b"x" * 10) == b":10\r\n"
