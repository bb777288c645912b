"""The command table: it says of every command what Redis says of it, and so do the errors for what is not in it."""

import re
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringkeeper.actors.client_requests import command as to_send
from ringkeeper.actors.rules.commands import (
    COMMANDS,
    Command,
    describe,
    find,
    help_lines,
    key_error,
    resolve,
    wait_error,
)
from ringkeeper.runtime.resp import encode
from ringkeeper.tests.real_redis import RealRedis, real_redis

OURS = {b"ring"}
"""Commands that Redis does not have."""

LATER = {b"client|setinfo"}
"""Commands that came after Redis 7.0."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RealRedis]:
    with real_redis() as server:
        yield server


def parsed(encoded: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(encoded)
    reply = reader.gets()
    assert not reader.has_data()
    return reply


def ask(*words: bytes, protocol: int = 2) -> Any:
    """Our reply to COMMAND and its like, as a client reads it."""
    request = list(words)
    command = resolve(request)
    if isinstance(command, bytes):
        return parsed(command)
    return parsed(encode(describe(request), protocol))


def everything() -> list[Command]:
    return list(dict.fromkeys([*COMMANDS.values(), *(s for c in COMMANDS.values() for s in c.subcommands.values())]))


def unordered(information: Any) -> Any:
    """An entry of COMMAND INFO with its sets as sets and its subcommands left out."""
    name, arity, flags, first, last, step, categories, tips, keys, _ = information
    keys = [{key: set(value) if key == "flags" else value for key, value in as_map(found).items()} for found in keys]
    return name, arity, set(flags), first, last, step, set(categories), set(tips), keys


def as_map(found: list[Any]) -> dict[str, Any]:
    """A key specification, which RESP2 shows as a flat array. Notes in it are for people."""
    return {key.decode(): value for key, value in zip(found[::2], found[1::2], strict=True) if key != b"notes"}


@pytest.mark.processes
def test_every_entry_says_what_redis_says_of_that_command(redis: RealRedis) -> None:
    redis.speak(2)
    compared = 0
    for command in everything():
        name = command.name.encode()
        if name.partition(b"|")[0] in OURS or name in LATER:
            continue
        theirs = parsed(redis.replies([[b"COMMAND", b"INFO", name]]))[0]
        assert unordered(ask(b"COMMAND", b"INFO", name)[0]) == unordered(theirs)
        compared += 1
    assert compared > 50


@pytest.mark.processes
def test_what_wait_refuses_is_what_redis_refuses(redis: RealRedis) -> None:
    redis.speak(2)
    numbers = [b"0", b"-1", b"x", b"1.5", b"1e3", b"", b"01", b"9" * 20]  # nothing that it would wait for
    for copies in numbers:
        for milliseconds in (*numbers, b"1", b"%d" % (2**63 - 1)):
            request = [b"WAIT", copies, milliseconds]
            theirs = redis.replies([request])
            assert wait_error(request) == (theirs if theirs.startswith(b"-") else None), request


@pytest.mark.processes
def test_groups_and_releases_are_those_of_redis(redis: RealRedis) -> None:
    redis.speak(2)
    for command in everything():
        name = command.name.encode()
        if name.partition(b"|")[0] in OURS or name in LATER:
            continue
        theirs = parsed(redis.replies([[b"COMMAND", b"DOCS", name]]))[1]
        facts = dict(zip(theirs[::2], theirs[1::2], strict=True))
        assert (command.group.encode(), command.since.encode()) == (facts[b"group"], facts[b"since"]), name


def shape(arguments: list[Any]) -> list[Any]:
    """The tree of COMMAND DOCS arguments: which tokens, what is optional, repeated or one of several; not the names."""
    found = []
    for argument in arguments:
        facts = dict(zip(argument[::2], argument[1::2], strict=True))
        kind = facts[b"type"] if facts[b"type"] in (b"oneof", b"block", b"pure-token", b"key") else b"value"
        flags = sorted(facts.get(b"flags", []))
        found.append((kind, facts.get(b"token"), flags, shape(facts.get(b"arguments", []))))
    return found


@pytest.mark.processes
@pytest.mark.parametrize(
    "name", [b"get", b"getex", b"mset", b"del", b"expire", b"auth", b"incrby", b"cluster|getkeysinslot", b"ping"]
)
def test_the_arguments_in_the_documents_have_the_shape_they_have_in_redis(redis: RealRedis, name: bytes) -> None:
    redis.speak(2)
    theirs, ours = (
        dict(zip(reply[1][::2], reply[1][1::2], strict=True))[b"arguments"]
        for reply in (parsed(redis.replies([[b"COMMAND", b"DOCS", name]])), ask(b"COMMAND", b"DOCS", name))
    )
    assert shape(ours) == shape(theirs)


def test_a_usage_line_becomes_a_tree_of_arguments() -> None:
    _, document = ask(b"COMMAND", b"DOCS", b"set")
    arguments = dict(zip(document[::2], document[1::2], strict=True))[b"arguments"]
    choices: list[Any] = [(b"pure-token", b"NX", [], []), (b"pure-token", b"XX", [], []), (b"value", b"IFEQ", [], [])]
    times: list[Any] = [(b"value", token, [], []) for token in (b"EX", b"PX", b"EXAT", b"PXAT")]
    times.append((b"pure-token", b"KEEPTTL", [], []))
    assert shape(arguments) == [
        (b"key", None, [], []),
        (b"value", None, [], []),
        (b"oneof", None, [b"optional"], choices),
        (b"pure-token", b"GET", [b"optional"], []),
        (b"oneof", None, [b"optional"], times),
    ]


def test_the_ways_to_name_what_comes_into_the_ring_exclude_each_other() -> None:
    _, document = ask(b"COMMAND", b"DOCS", b"ring|add")
    arguments = dict(zip(document[::2], document[1::2], strict=True))[b"arguments"]
    assert shape(arguments) == [
        (b"oneof", None, [b"optional"], [(b"value", b"COUNT", [], []), (b"value", b"NODE", [b"multiple"], [])]),
        (b"pure-token", b"DRYRUN", [b"optional"], []),
    ]


def test_what_changes_the_ring_is_for_administrators_and_is_never_repeated_by_a_client() -> None:
    ring = COMMANDS[b"ring"].subcommands
    changing = {name for name, command in ring.items() if "admin" in command.flags and name.islower()}
    verbs = (
        b"add backup balance cancel default limit observe recover remove replace replicas restart restore start stop"
    )
    assert changing == {*verbs.split(), b"verify"}
    for name in changing:
        assert {"@admin", "@dangerous"} <= ring[name].categories
        assert not to_send((b"RING", name, b"127.0.0.1:7001"), None).reads
    assert to_send((b"RING", b"JOBS"), None).reads


@pytest.mark.processes
@pytest.mark.parametrize("protocol", [2, 3])
def test_the_whole_table_is_read_the_same_way_in_both_protocols(redis: RealRedis, protocol: int) -> None:
    redis.speak(protocol)
    ours = ask(b"COMMAND", protocol=protocol)
    assert len(ours) == ask(b"COMMAND", b"COUNT") == len(ask(b"COMMAND", b"INFO"))
    theirs = parsed(redis.replies([[b"COMMAND", b"INFO", b"get"]]))[0]
    mine = next(entry for entry in ours if entry[0] == b"get")
    assert [type(field) for field in mine] == [type(field) for field in theirs]


ODD_WORDS = st.sampled_from([b"a", b"", b"x" * 60, b"x" * 130, b"\r\n", b"\0z", b"it's", b"\xff"])
WORDS = st.one_of(ODD_WORDS, st.binary(max_size=5))
UNKNOWN = st.binary(max_size=140).filter(lambda name: find(COMMANDS, name) is None).map(lambda name: b"rk-" + name)


@pytest.mark.processes
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=UNKNOWN, words=st.lists(WORDS, max_size=5))
def test_an_unknown_command_is_refused_in_redis_own_words(redis: RealRedis, name: bytes, words: list[bytes]) -> None:
    redis.speak(2)
    assert resolve([name, *words]) == redis.replies([[name, *words]])


@pytest.mark.processes
@pytest.mark.parametrize("container", [b"CLIENT", b"command", b"Config"])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=UNKNOWN)
def test_an_unknown_subcommand_is_refused_in_redis_own_words(redis: RealRedis, container: bytes, name: bytes) -> None:
    redis.speak(2)
    assert resolve([container, name]) == redis.replies([[container, name]])


@pytest.mark.processes
def test_too_few_and_too_many_words_are_refused_in_redis_own_words(redis: RealRedis) -> None:
    redis.speak(2)
    refused = 0
    for command in everything():
        name = command.name.encode()
        if name.partition(b"|")[0] in OURS or name in LATER:
            continue
        calls = name.upper().split(b"|")
        for count in range(len(calls), 6):
            request = [*calls, *[b"1"] * (count - len(calls))]
            reply = resolve(request)
            if isinstance(reply, bytes):
                assert reply == redis.replies([request])
                refused += 1
    assert refused > 50


REQUESTS = st.one_of(
    st.tuples(st.sampled_from([b"GET", b"mget", b"MSET", b"DEL", b"SET", b"ECHO", b"CLIENT", b"nothing"]), WORDS)
    .flatmap(lambda start: st.lists(WORDS, max_size=3).map(lambda rest: [*start, *rest])),
)  # fmt: skip


@pytest.mark.processes
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=REQUESTS)
def test_the_keys_of_a_request_are_those_that_redis_finds(redis: RealRedis, request: list[bytes]) -> None:
    redis.speak(2)
    asked = [b"COMMAND", b"GETKEYS", *request]
    assert encode(describe(asked)) == redis.replies([asked])


@pytest.mark.processes
@pytest.mark.parametrize(
    "words",
    [
        b"FILTERBY",
        b"nonsense",
        b"FILTERBY MODULE nope",
        b"FILTERBY ACLCAT nope",
        b"FILTERBY SHAPE round",
        b"FILTERBY PATTERN",
    ],
)
def test_command_list_answers_odd_questions_as_redis_does(redis: RealRedis, words: bytes) -> None:
    redis.speak(2)
    asked = [b"COMMAND", b"LIST", *words.split()]
    assert encode(describe(asked)) == redis.replies([asked])


@pytest.mark.processes
@pytest.mark.parametrize(
    "words", [b"filterby PATTERN GET*", b"FILTERBY ACLCAT Connection", b"FILTERBY pattern con[ef]*|?et"]
)
def test_command_list_chooses_the_commands_that_redis_chooses(redis: RealRedis, words: bytes) -> None:
    redis.speak(2)
    asked = [b"COMMAND", b"LIST", *words.split()]
    theirs = set(parsed(redis.replies([asked])))
    ours = set(ask(*asked))
    known = {command.name.encode() for command in everything()}
    assert ours - LATER == theirs & known
    assert ours


def test_command_list_names_everything_that_may_be_said() -> None:
    assert set(ask(b"COMMAND", b"LIST")) == {command.name.encode() for command in everything()}


def test_command_info_and_docs_of_nothing_known_are_null_and_nothing() -> None:
    assert ask(b"COMMAND", b"INFO", b"nothing", b"client|nothing", b"nothing|id", b"GET")[:3] == [None, None, None]
    assert ask(b"COMMAND", b"DOCS", b"nothing") == []
    assert ask(b"COMMAND", b"INFO", b"CLIENT|ID")[0][0] == b"client|id"


def test_names_are_found_in_any_case_and_nothing_else_is() -> None:
    assert find(COMMANDS, b"GET") is find(COMMANDS, b"get") is find(COMMANDS, b"gEt") is COMMANDS[b"get"]
    assert find(COMMANDS, b"get ") is None
    assert resolve([b"cLuStEr", b"kEySlOt", b"k"]) is COMMANDS[b"cluster"].subcommands[b"keyslot"]


@pytest.mark.parametrize("command", everything(), ids=lambda command: command.name)
def test_an_entry_is_at_one_with_itself(command: Command) -> None:
    least = 1 + command.name.count("|") + len(re.sub(r"\[.*", "", command.usage.partition("|")[0]).split())
    assert abs(command.arity) >= least - (command.usage == "[username] password"), "arity and usage"
    assert bool(command.first_key) == bool(command.key_flags)
    assert not (command.writes and "readonly" in command.flags)
    assert command.run is None or command.first_key == 1
    assert command.summary.endswith("."), "a summary is a sentence"


def test_every_container_explains_its_subcommands() -> None:
    for container in (command for command in everything() if command.subcommands):
        lines = parsed(encode(help_lines(container)))
        for name in container.subcommands:
            if name.isupper():
                assert any(line.startswith(name) for line in lines), name


def test_a_key_has_at_least_one_byte_and_no_more_than_it_may() -> None:
    assert key_error(b"k", 4) is None
    assert key_error(b"keys", 4) is None
    for key in (b"", b"keys!"):
        refusal = key_error(key, 4)
        assert refusal is not None and refusal.startswith(b"-ERR a key has 1 to 4 bytes")
