"""Data commands: every reply and every effect is Redis' own, byte by byte, whatever was said before."""

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

    def __init__(self, value_bytes_max: int = 1024) -> None:
        self.keys: dict[bytes, bytes] = {}
        self.value_bytes_max = value_bytes_max
        self.writes = 0

    def get(self, key: bytes) -> bytes | None:
        return self.keys.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.writes += 1
        self.keys[key] = value

    def delete(self, key: bytes) -> bool:
        self.writes += 1
        return self.keys.pop(key, None) is not None


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
@given(pattern=st.text("ab*?[]^-\\", max_size=8).map(str.encode), key=st.text("ab]-^\\", max_size=5).map(str.encode))
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


@pytest.mark.parametrize("options", [b"EX 10", b"px 10", b"NX EXAT 99", b"PXAT 99 GET", b"KEEPTTL", b"GET keepttl"])
def test_expiry_is_refused_with_its_reason_and_nothing_is_written(options: bytes) -> None:
    slot = Slot()
    reply = ask(slot, b"SET", b"k", b"v", *options.split())
    assert reply.startswith(b"-ERR ")
    assert b"is not built yet: this release keeps no expiry" in reply
    assert slot.writes == 0


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
