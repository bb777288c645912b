"""Lists every command a client may send, and answers what can be answered from that list alone.

The table holds what Redis 7's own table holds about these commands (arity, flags, keys, categories, tips), because
client libraries read it with COMMAND and route by it: redis-py refuses to send a command that is not in there. The
tests compare it with a real Redis, entry by entry. A command is in the table from the day it works; there are no
promises in it.

`resolve` takes a request to its entry or to the error that Redis gives for it. `describe` answers COMMAND in all its
forms, `help_lines` the HELP of a container command. `Command.run` is the function of a data command
(`data_commands.py`); commands about the node, the cluster or the connection have none: the actor that knows these
things answers them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from . import data_commands
from .data_commands import NOT_AN_INTEGER, PATTERN_BYTES_MAX, SYNTAX_ERROR, Function, glob, parse_integer
from .replies import Reply, bulk, error, integer, simple

CROSSSLOT = error(b"CROSSSLOT Keys in request don't hash to the same slot")
INVALID_COMMAND = error(b"ERR Invalid command specified")
INVALID_ARITY = error(b"ERR Invalid number of arguments specified for command")
NO_KEYS = error(b"ERR The command has no key arguments")
TIMEOUT_NOT_AN_INTEGER = error(b"ERR timeout is not an integer or out of range")
NEGATIVE_TIMEOUT = error(b"ERR timeout is negative")

KEYS_MAX = 10_000
"""Keys in one request, whose work is done in one turn of the loop: about 70 ms where it reads them and 150 ms where it
writes, measured with values of 100 bytes."""

WORDS_MAX = 1_000
"""Words in one request of a command that does not take any number of keys."""

ECHOED_BYTES_MAX = 128
"""How much of an unknown command, and of all its arguments together, an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Command:
    """One command, or one subcommand (``client|id``) of a container. Positions count the command's name as 0."""

    name: str
    usage: str
    """What follows the name: ``[...]`` optional, ``|`` one of, ``...`` again, words in capitals as they stand."""
    arity: int
    """Number of words in a request, the name included (both names of a subcommand); negative: that many or more."""
    flags: frozenset[str]
    categories: frozenset[str]
    first_key: int = 0
    """Position of the first key; 0 when the command has none."""
    last_key: int = 0
    """Position of the last key; negative counts from the end."""
    step: int = 0
    """From one key to the next."""
    key_flags: tuple[str, ...] = ()
    """What happens to the keys, in the words of Redis' key specifications."""
    tips: tuple[str, ...] = ()
    group: str
    since: str
    """The release of Redis that brought it; of ringkeeper for RING."""
    complexity: str
    summary: str
    run: Function | None = None
    subcommands: Mapping[bytes, "Command"] = field(default_factory=lambda: MappingProxyType({}))
    """By name, in both cases; the usual two spellings are found without folding."""

    @property
    def writes(self) -> bool:
        return "write" in self.flags

    def accepts(self, count: int) -> bool:
        """Whether a request of ``count`` words has enough and not too many."""
        return count == self.arity or count >= -self.arity > 0

    def keys(self, request: list[bytes]) -> list[bytes]:
        """The keys of a request with an accepted number of words."""
        if not self.first_key:
            return []
        last = self.last_key if self.last_key > 0 else len(request) + self.last_key
        return request[self.first_key : last + 1 : self.step]


def find(table: Mapping[bytes, Command], name: bytes) -> Command | None:
    """The entry of that name in any case. Clients write one case throughout, and both are keys of the table."""
    return table.get(name) or table.get(name.lower())


def resolve(request: list[bytes]) -> Command | bytes:
    """The command or subcommand that a request (at least one word) calls, or the encoded error when there is none."""
    command = find(COMMANDS, request[0])
    if command is None:
        return unknown_command(request)
    if command.subcommands and len(request) > 1:
        container, command = command, find(command.subcommands, request[1])
        if command is None:
            return unknown_subcommand(container, request[1])
    if not command.accepts(len(request)):
        return wrong_arity(command)
    return (len(request) > WORDS_MAX and _too_long(command, request)) or command


def _too_long(command: Command, request: list[bytes]) -> bytes | None:
    """The error for a request that everybody else would wait for too long, or None."""
    if command.last_key >= 0:
        return error(
            b"ERR a request of '%b' has at most %d words, this one has %d; nothing was done"
            % (command.name.encode(), WORDS_MAX, len(request))
        )
    keys = len(command.keys(request))
    if keys <= KEYS_MAX:
        return None
    return error(
        b"ERR a request names at most %d keys, this one %d; nothing was done: name fewer at a time" % (KEYS_MAX, keys)
    )


def wrong_arity(command: Command) -> bytes:
    return error(b"ERR wrong number of arguments for '%b' command" % command.name.encode())


def unknown_command(request: list[bytes]) -> bytes:
    arguments = b""
    for argument in request[1:]:
        if len(arguments) >= ECHOED_BYTES_MAX:
            break
        arguments += b"'%b' " % _echo(argument, ECHOED_BYTES_MAX - len(arguments))
    return error(b"ERR unknown command '%b', with args beginning with: %b" % (_echo(request[0]), arguments))


def unknown_subcommand(container: Command, name: bytes) -> bytes:
    return error(b"ERR unknown subcommand '%b'. Try %b HELP." % (_echo(name), container.name.upper().encode()))


def _echo(word: bytes, bytes_max: int = ECHOED_BYTES_MAX) -> bytes:
    return word[:bytes_max].partition(b"\0")[0]  # a zero byte ends a string in Redis' language


def key_error(key: bytes, key_bytes_max: int) -> bytes | None:
    """The error for a key that is too short or too long to be stored, or None."""
    if 0 < len(key) <= key_bytes_max:
        return None
    return error(b"ERR a key has 1 to %d bytes, this one has %d; nothing was done" % (key_bytes_max, len(key)))


def wait_error(request: list[bytes]) -> bytes | None:
    """The error for a WAIT whose number of copies or milliseconds is none, or None. Zero milliseconds: without end."""
    if parse_integer(request[1]) is None:
        return NOT_AN_INTEGER
    milliseconds = parse_integer(request[2])
    if milliseconds is None:
        return TIMEOUT_NOT_AN_INTEGER
    return NEGATIVE_TIMEOUT if milliseconds < 0 else None


# COMMAND, the command about commands


def describe(request: list[bytes], spell: Callable[[Reply], Reply] = lambda reply: reply) -> Reply:
    """Answer COMMAND and its subcommands (a request that `resolve` accepts). ``spell``: what is to be done once to an
    entry that is asked for, perhaps many times."""
    match [word.upper() for word in request[1:2]], request[2:]:
        case [b"COUNT"], _:
            return integer(len(_all()))
        case [b"DOCS"], names:
            documented = dict.fromkeys(filter(None, map(_named, names))) if names else _all()
            return {command.name: _documentation(command) for command in documented}
        case [b"GETKEYS"], inner:
            return _get_keys(inner)
        case [b"HELP"], _:
            return help_lines(COMMANDS[b"command"])
        case [b"LIST"], conditions:
            return _list(conditions)
        case _, names:  # INFO, or nothing: the table itself
            if not names:
                return [_information(command) for command in _all()]
            named = [_named(name) for name in names]
            entries = {command: spell(_information(command)) for command in dict.fromkeys(named) if command}
            return [entries[command] if command else None for command in named]


def help_lines(container: Command) -> Reply:
    """Answer the HELP of a container command."""
    name = container.name.upper()
    lines = [f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for command in _distinct(container.subcommands):
        lines.append(f"{_last_word(command).upper()} {command.usage}".rstrip())
        lines.append(f"    {command.summary}")
    return [simple(line.encode()) for line in lines]


def _get_keys(request: list[bytes]) -> Reply:
    command = find(COMMANDS, request[0])
    if command is not None and command.subcommands and len(request) > 1:
        command = find(command.subcommands, request[1])
    if command is None:
        return INVALID_COMMAND
    if not command.first_key:
        return NO_KEYS
    return [bulk(key) for key in command.keys(request)] if command.accepts(len(request)) else INVALID_ARITY


def _list(conditions: list[bytes]) -> Reply:
    chosen = [one for command in _all() for one in (command, *_distinct(command.subcommands))]
    match [word.upper() for word in conditions[:2]], conditions[2:]:
        case [], []:
            pass
        case [b"FILTERBY", b"MODULE"], [_]:
            chosen = []
        case [b"FILTERBY", b"ACLCAT"], [category]:
            chosen = [command for command in chosen if "@" + category.decode("latin-1").lower() in command.categories]
        case [b"FILTERBY", b"PATTERN"], [pattern] if len(pattern) <= PATTERN_BYTES_MAX:
            matches = glob(pattern, ignore_case=True).fullmatch
            chosen = [command for command in chosen if matches(command.name.encode())]
        case _:
            return SYNTAX_ERROR
    return [command.name for command in chosen]


def _information(command: Command) -> Reply:
    """An entry as COMMAND INFO shows it. A set of maps is an array even in RESP3: Python has no set of dictionaries."""
    specification: list[Reply] = []
    if command.first_key:
        last = command.last_key if command.last_key < 0 else command.last_key - command.first_key
        specification = [
            {
                "flags": _statuses(command.key_flags),
                "begin_search": {"type": "index", "spec": {"index": command.first_key}},
                "find_keys": {"type": "range", "spec": {"lastkey": last, "keystep": command.step, "limit": 0}},
            }
        ]
    return [
        command.name,
        command.arity,
        _statuses(command.flags),
        command.first_key,
        command.last_key,
        command.step,
        _statuses(command.categories),
        frozenset(bulk(tip.encode()) for tip in command.tips),
        specification,
        [_information(subcommand) for subcommand in _distinct(command.subcommands)],
    ]


def _documentation(command: Command) -> Reply:
    document: dict[str, Reply] = {
        "summary": command.summary,
        "since": command.since,
        "group": command.group,
        "complexity": command.complexity,
    }
    if command.usage and not command.subcommands:
        document["arguments"] = _arguments(command)
    if command.subcommands:
        document["subcommands"] = {one.name: _documentation(one) for one in _distinct(command.subcommands)}
    return document


def _arguments(command: Command) -> list[Reply]:
    """Read a usage line into the argument trees of COMMAND DOCS, by which redis-cli hints while one types."""
    words = iter(re.findall(r"\[|\]|\||\.\.\.|[^\s\[\]|]+", command.usage))

    def sequence() -> list[dict[str, Reply]]:
        found: list[dict[str, Reply]] = []
        choices: list[list[dict[str, Reply]]] = []
        for word in words:
            if word == "]":
                break
            if word == "[":
                inner = sequence()
                if inner[-1] == {"...": None}:  # "key value [key value ...]" is one argument, given several times
                    again = found[1 - len(inner) :]
                    found[1 - len(inner) :] = [_joined(again, "block") | {"flags": _statuses(["multiple"])}]
                else:
                    found.append(_joined(inner, "block") | {"flags": _statuses(["optional"])})
            elif word == "...":
                found.append({"...": None})
            elif word == "|":
                choices.append(found)
                found = []
            elif word.isupper():
                found.append({"name": word.lower(), "type": "pure-token", "token": word})
            elif found and found[-1].get("type") == "pure-token" and "flags" not in found[-1]:
                found[-1] |= {"name": word, "type": _type(word)}  # "MATCH pattern" is one argument with a token
            else:
                found.append({"name": word, "type": _type(word)})
        if choices:
            return [_joined([_joined(choice, "block") for choice in [*choices, found]], "oneof")]
        return found

    def _joined(arguments: list[dict[str, Reply]], how: str) -> dict[str, Reply]:
        if len(arguments) == 1:
            return arguments[0]
        name = "_".join(str(argument["name"]) for argument in arguments)
        return {"name": name, "type": how, "arguments": list(arguments)}

    def _type(name: str) -> str:
        if name == "key" and command.first_key:
            return "key"
        return name if name == "pattern" else "integer" if name in _INTEGERS else "string"

    return list(sequence())


_INTEGERS = {
    "count", "cursor", "increment", "decrement", "index", "job", "slot", "protover", "client-id", "numreplicas",
    "timeout", "seconds", "milliseconds", "unix-time-seconds", "unix-time-milliseconds",
}  # fmt: skip


def _statuses(words: Iterable[str]) -> frozenset[bytes]:
    return frozenset(simple(word.encode()) for word in words)


def _last_word(command: Command) -> str:
    return command.name.rpartition("|")[2]


def _distinct(table: Mapping[bytes, Command]) -> list[Command]:
    """The entries of a table, which has each of them under two names."""
    return list(dict.fromkeys(table.values()))


def _all() -> list[Command]:
    return _distinct(COMMANDS)


def _named(name: bytes) -> Command | None:
    """The command of a name as COMMAND INFO takes it, where a subcommand is ``client|id``."""
    container, _, word = name.partition(b"|")
    command = find(COMMANDS, container)
    return find(command.subcommands, word) if command is not None and word else command


# The table

ONE_KEY, ALL_KEYS, KEYS_AND_VALUES = (1, 1, 1), (1, -1, 1), (1, -1, 2)

ON_ALL_SHARDS = "request_policy:all_shards"
ON_KEYS_SHARDS = "request_policy:multi_shard"
SUM, ALL_SUCCEEDED = "response_policy:agg_sum", "response_policy:all_succeeded"
CHANGING, UNORDERED = "nondeterministic_output", "nondeterministic_output_order"


def _command(
    usage: str,
    arity: int,
    flags: str,
    category: str,
    summary: str,
    *,
    since: str,
    complexity: str = "O(1)",
    keys: tuple[int, int, int] = (0, 0, 0),
    key_flags: str = "",
    tips: tuple[str, ...] = (),
    group: str = "",
    run: Function | None = None,
    subcommands: tuple[Command, ...] = (),
) -> Command:
    """An entry. As in Redis, flags imply some categories; a group that is not named is the first category."""
    name, _, usage = usage.partition(" ")
    flag_set = frozenset(flags.split())
    derived = {"@write" if flag == "write" else "@read" for flag in flag_set & {"write", "readonly"}}
    derived.add("@fast" if "fast" in flag_set else "@slow")
    if "admin" in flag_set:
        derived |= {"@admin", "@dangerous"}
    return Command(
        name=name.lower(),
        usage=usage,
        arity=arity,
        flags=flag_set,
        categories=frozenset(derived | {f"@{word}" for word in category.split()}),
        first_key=keys[0],
        last_key=keys[1],
        step=keys[2],
        key_flags=tuple(key_flags.split()),
        tips=tips,
        group=group or category.split()[0],
        since=since,
        complexity=complexity,
        summary=summary,
        run=run,
        subcommands=_by_name(subcommands),
    )


def _by_name(commands: Iterable[Command]) -> Mapping[bytes, Command]:
    table = {}
    for command in commands:
        name = _last_word(command).encode()
        table[name] = table[name.upper()] = command
    return MappingProxyType(table)


_STRINGS = (
    _command(
        "GET key", 2, "readonly fast", "string", "Read the value of a key.",
        since="1.0.0", keys=ONE_KEY, key_flags="RO access", run=data_commands.get,
    ),
    _command(
        "SET key value [NX | XX | IFEQ comparison-value] [GET] "
        "[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        -3, "write denyoom", "string",
        "Set the value of a key, and when it expires, if a condition holds; GET answers with the old value.",
        since="1.0.0", keys=ONE_KEY, key_flags="RW access update variable_flags", run=data_commands.set_,
    ),
    _command(
        "SETEX key seconds value", 4, "write denyoom", "string", "Set the value of a key that expires.",
        since="2.0.0", keys=ONE_KEY, key_flags="OW update", run=data_commands.setex,
    ),
    _command(
        "PSETEX key milliseconds value", 4, "write denyoom", "string", "Set the value of a key that expires.",
        since="2.6.0", keys=ONE_KEY, key_flags="OW update", run=data_commands.psetex,
    ),
    _command(
        "SETNX key value", 3, "write denyoom fast", "string", "Set the value of a key that does not exist.",
        since="1.0.0", keys=ONE_KEY, key_flags="OW insert", run=data_commands.setnx,
    ),
    _command(
        "GETSET key value", 3, "write denyoom fast", "string", "Set the value of a key and answer with the old one.",
        since="1.0.0", keys=ONE_KEY, key_flags="RW access update", run=data_commands.getset,
    ),
    _command(
        "GETDEL key", 2, "write fast", "string", "Read the value of a key and delete the key.",
        since="6.2.0", keys=ONE_KEY, key_flags="RW access delete", run=data_commands.getdel,
    ),
    _command(
        "GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]", -2,
        "write fast", "string", "Read the value of a key and set when it expires.",
        since="6.2.0", keys=ONE_KEY, key_flags="RW access update", run=data_commands.getex,
    ),
    _command(
        "MGET key [key ...]", -2, "readonly fast", "string", "Read the values of keys of one slot.",
        since="1.0.0", complexity="O(N) where N is the number of keys", keys=ALL_KEYS, key_flags="RO access",
        tips=(ON_KEYS_SHARDS,), run=data_commands.mget,
    ),
    _command(
        "MSET key value [key value ...]", -3, "write denyoom", "string", "Set the values of keys of one slot.",
        since="1.0.1", complexity="O(N) where N is the number of keys", keys=KEYS_AND_VALUES, key_flags="OW update",
        tips=(ON_KEYS_SHARDS, ALL_SUCCEEDED), run=data_commands.mset,
    ),
    _command(
        "MSETNX key value [key value ...]", -3, "write denyoom", "string",
        "Set the values of keys of one slot, if none of them exists.",
        since="1.0.1", complexity="O(N) where N is the number of keys", keys=KEYS_AND_VALUES, key_flags="OW insert",
        tips=(ON_KEYS_SHARDS, "response_policy:agg_min"), run=data_commands.msetnx,
    ),
    _command(
        "STRLEN key", 2, "readonly fast", "string", "Length of the value of a key in bytes.",
        since="2.2.0", keys=ONE_KEY, key_flags="RO", run=data_commands.strlen,
    ),
    _command(
        "APPEND key value", 3, "write denyoom fast", "string", "Write behind the end of the value of a key.",
        since="2.0.0", complexity="O(N) where N is the length of the new value", keys=ONE_KEY, key_flags="RW insert",
        run=data_commands.append,
    ),
    _command(
        "INCR key", 2, "write denyoom fast", "string", "Add one to the integer value of a key; none counts as 0.",
        since="1.0.0", keys=ONE_KEY, key_flags="RW access update", run=data_commands.incr,
    ),
    _command(
        "DECR key", 2, "write denyoom fast", "string", "Take one from the integer value of a key; none counts as 0.",
        since="1.0.0", keys=ONE_KEY, key_flags="RW access update", run=data_commands.decr,
    ),
    _command(
        "INCRBY key increment", 3, "write denyoom fast", "string", "Add to the integer value of a key.",
        since="1.0.0", keys=ONE_KEY, key_flags="RW access update", run=data_commands.incrby,
    ),
    _command(
        "DECRBY key decrement", 3, "write denyoom fast", "string", "Take from the integer value of a key.",
        since="1.0.0", keys=ONE_KEY, key_flags="RW access update", run=data_commands.decrby,
    ),
)  # fmt: skip

_KEYS = (
    _command(
        "DEL key [key ...]", -2, "write", "keyspace", "Delete keys of one slot.", group="generic",
        since="1.0.0", complexity="O(N) where N is the number of keys", keys=ALL_KEYS, key_flags="RM delete",
        tips=(ON_KEYS_SHARDS, SUM), run=data_commands.delete,
    ),
    _command(
        "UNLINK key [key ...]", -2, "write fast", "keyspace", "Delete keys of one slot.", group="generic",
        since="4.0.0", complexity="O(N) where N is the number of keys", keys=ALL_KEYS, key_flags="RM delete",
        tips=(ON_KEYS_SHARDS, SUM), run=data_commands.delete,
    ),
    _command(
        "EXISTS key [key ...]", -2, "readonly fast", "keyspace", "Count which of the keys of one slot exist.",
        group="generic", since="1.0.0", complexity="O(N) where N is the number of keys", keys=ALL_KEYS, key_flags="RO",
        tips=(ON_KEYS_SHARDS, SUM), run=data_commands.exists,
    ),
    _command(
        "TYPE key", 2, "readonly fast", "keyspace", "Type of the value of a key: string, or none if it is missing.",
        group="generic", since="1.0.0", keys=ONE_KEY, key_flags="RO", run=data_commands.type_,
    ),
    _command(
        "EXPIRE key seconds [NX | XX | GT | LT]", -3, "write fast", "keyspace",
        "Set after how many seconds a key expires.", group="generic",
        since="1.0.0", keys=ONE_KEY, key_flags="RW update", run=data_commands.expire,
    ),
    _command(
        "PEXPIRE key milliseconds [NX | XX | GT | LT]", -3, "write fast", "keyspace",
        "Set after how many milliseconds a key expires.", group="generic",
        since="2.6.0", keys=ONE_KEY, key_flags="RW update", run=data_commands.pexpire,
    ),
    _command(
        "EXPIREAT key unix-time-seconds [NX | XX | GT | LT]", -3, "write fast", "keyspace",
        "Set when a key expires, in seconds since 1970.", group="generic",
        since="1.2.0", keys=ONE_KEY, key_flags="RW update", run=data_commands.expireat,
    ),
    _command(
        "PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]", -3, "write fast", "keyspace",
        "Set when a key expires, in milliseconds since 1970.", group="generic",
        since="2.6.0", keys=ONE_KEY, key_flags="RW update", run=data_commands.pexpireat,
    ),
    _command(
        "TTL key", 2, "readonly fast", "keyspace",
        "In how many seconds a key expires; -1: never, -2: no such key.", group="generic",
        since="1.0.0", keys=ONE_KEY, key_flags="RO access", tips=(CHANGING,), run=data_commands.ttl,
    ),
    _command(
        "PTTL key", 2, "readonly fast", "keyspace",
        "In how many milliseconds a key expires; -1: never, -2: no such key.", group="generic",
        since="2.6.0", keys=ONE_KEY, key_flags="RO access", tips=(CHANGING,), run=data_commands.pttl,
    ),
    _command(
        "EXPIRETIME key", 2, "readonly fast", "keyspace",
        "When a key expires, in seconds since 1970; -1: never, -2: no such key.", group="generic",
        since="7.0.0", keys=ONE_KEY, key_flags="RO access", run=data_commands.expiretime,
    ),
    _command(
        "PEXPIRETIME key", 2, "readonly fast", "keyspace",
        "When a key expires, in milliseconds since 1970; -1: never, -2: no such key.", group="generic",
        since="7.0.0", keys=ONE_KEY, key_flags="RO access", run=data_commands.pexpiretime,
    ),
    _command(
        "PERSIST key", 2, "write fast", "keyspace", "Make a key never expire.", group="generic",
        since="2.2.0", keys=ONE_KEY, key_flags="RW update", run=data_commands.persist,
    ),
    _command(
        "KEYS pattern", 2, "readonly", "keyspace dangerous", "The keys this node coordinates that match a pattern.",
        group="generic", since="1.0.0", complexity="O(N) where N is the number of keys of the node",
        tips=(ON_ALL_SHARDS, UNORDERED),
    ),
    _command(
        "SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]", -2, "readonly", "keyspace",
        "Walk over the keys this node coordinates, some at a time; the answer has the next cursor, 0 at the end.",
        group="generic", since="2.8.0", complexity="O(N) where N is the count; a complete walk is O(keys of the node)",
        tips=(CHANGING, "request_policy:special"),
    ),
    _command(
        "RANDOMKEY", 1, "readonly", "keyspace", "A random key of those this node coordinates.", group="generic",
        since="1.0.0", tips=(ON_ALL_SHARDS, CHANGING),
    ),
    _command(
        "DBSIZE", 1, "readonly fast", "keyspace", "Number of keys this node coordinates.", group="server",
        since="1.0.0", tips=(ON_ALL_SHARDS, SUM),
    ),
    _command(
        "FLUSHDB [ASYNC | SYNC]", -1, "write", "keyspace dangerous", "Delete all keys this node coordinates.",
        group="server", since="1.0.0", complexity="O(N) where N is the number of keys",
        tips=(ON_ALL_SHARDS, ALL_SUCCEEDED),
    ),
    _command(
        "FLUSHALL [ASYNC | SYNC]", -1, "write", "keyspace dangerous", "Delete all keys this node coordinates.",
        group="server", since="1.0.0", complexity="O(N) where N is the number of keys",
        tips=(ON_ALL_SHARDS, ALL_SUCCEEDED),
    ),
)  # fmt: skip

_ANY_TIME = "noscript loading stale fast no_auth allow_busy"
"""Flags of what a connection may say before anything else."""

_CONNECTION = (
    _command(
        "PING [message]", -1, "fast", "connection", "Answer PONG, or the message.",
        since="1.0.0", tips=(ON_ALL_SHARDS, ALL_SUCCEEDED),
    ),
    _command("ECHO message", 2, "loading stale fast", "connection", "Answer the message.", since="1.0.0"),
    _command(
        "HELLO [protover [AUTH username password] [SETNAME clientname]]", -1, _ANY_TIME, "connection",
        "Choose the protocol (2 or 3) and introduce oneself.", since="6.0.0",
    ),
    _command(
        "AUTH [username] password", -2, _ANY_TIME, "connection", "Prove that one knows the password.", since="1.0.0",
    ),
    _command("SELECT index", 2, "loading stale fast", "connection", "Choose a database: only 0.", since="1.0.0"),
    _command("QUIT", -1, _ANY_TIME, "connection", "Close the connection.", since="1.0.0"),
    _command("RESET", 1, _ANY_TIME, "connection", "Make the connection like a new one.", since="6.2.0"),
    _command(
        "READONLY", 1, "loading stale fast", "connection", "Also read slots of which this node only holds a copy.",
        group="cluster", since="3.0.0",
    ),
    _command(
        "READWRITE", 1, "loading stale fast", "connection", "Take READONLY back.", group="cluster", since="3.0.0",
    ),
    _command(
        "WAIT numreplicas timeout", 3, "noscript", "connection",
        "Wait until so many successors hold what was written; the answer is how many do.", group="generic",
        since="3.0.0", tips=(ON_ALL_SHARDS, "response_policy:agg_min"),
    ),
)  # fmt: skip


_TALK = "noscript loading stale"
"""Flags of subcommands about one's own connection; with ``admin`` those about the others' and the node's settings."""

_CLIENT = _command(
    "CLIENT", -2, "", "", "About connections.", since="2.4.0", complexity="Depends on subcommand.", group="connection",
    subcommands=(
        _command("CLIENT|GETNAME", 2, _TALK, "connection", "Name of this connection.", since="2.6.9"),
        _command("CLIENT|HELP", 2, "loading stale", "connection", "These lines.", since="5.0.0"),
        _command("CLIENT|ID", 2, _TALK, "connection", "Number of this connection.", since="5.0.0"),
        _command(
            "CLIENT|INFO", 2, _TALK, "connection", "What is known about this connection.",
            since="6.2.0", tips=(CHANGING,),
        ),
        _command(
            "CLIENT|KILL ip:port | ID client-id | ADDR ip:port | LADDR ip:port | SKIPME yes/no [...]", -3,
            f"admin {_TALK}", "connection", "Close other connections.",
            since="2.4.0", complexity="O(N) where N is the number of connections",
        ),
        _command(
            "CLIENT|LIST [ID client-id [client-id ...]]", -2, f"admin {_TALK}", "connection",
            "What is known about every connection, a line each.",
            since="2.4.0", complexity="O(N) where N is the number of connections", tips=(CHANGING,),
        ),
        _command(
            "CLIENT|SETINFO LIB-NAME libname | LIB-VER libver", 4, _TALK, "connection",
            "Tell which client library this is.", since="7.2.0",
        ),
        _command("CLIENT|SETNAME connection-name", 3, _TALK, "connection", "Name this connection.", since="2.6.9"),
    ),
)  # fmt: skip

_COMMAND = _command(
    "COMMAND", -1, "loading stale", "connection", "About commands; alone: everything in the table.", group="server",
    since="2.8.13", complexity="O(N) where N is the number of commands", tips=(UNORDERED,),
    subcommands=(
        _command(
            "COMMAND|COUNT", 2, "loading stale", "connection", "How many commands there are.", group="server",
            since="2.8.13",
        ),
        _command(
            "COMMAND|DOCS [command-name [command-name ...]]", -2, "loading stale", "connection",
            "What commands are for.", group="server",
            since="7.0.0", complexity="O(N) where N is the number of commands asked for", tips=(UNORDERED,),
        ),
        _command(
            "COMMAND|GETKEYS command [arg ...]", -4, "loading stale", "connection", "The keys of a request.",
            group="server", since="2.8.13", complexity="O(N) where N is the number of arguments",
        ),
        _command("COMMAND|HELP", 2, "loading stale", "connection", "These lines.", group="server", since="5.0.0"),
        _command(
            "COMMAND|INFO [command-name [command-name ...]]", -2, "loading stale", "connection",
            "Entries of the table.", group="server",
            since="2.8.13", complexity="O(N) where N is the number of commands asked for", tips=(UNORDERED,),
        ),
        _command(
            "COMMAND|LIST [FILTERBY [MODULE module-name | ACLCAT category | PATTERN pattern]]", -2, "loading stale",
            "connection", "Names of commands.", group="server",
            since="7.0.0", complexity="O(N) where N is the number of commands", tips=(UNORDERED,),
        ),
    ),
)  # fmt: skip

_CONFIG = _command(
    "CONFIG", -2, "", "", "About the settings of this node.", group="server",
    since="2.0.0", complexity="Depends on subcommand.",
    subcommands=(
        _command(
            "CONFIG|GET parameter [parameter ...]", -3, f"admin {_TALK}", "", "Settings whose names match globs.",
            group="server", since="2.0.0", complexity="O(N) where N is the number of settings",
        ),
        _command("CONFIG|HELP", 2, "loading stale", "", "These lines.", group="server", since="5.0.0"),
        _command(
            "CONFIG|SET parameter value [parameter value ...]", -4, f"admin {_TALK}", "", "Change settings.",
            group="server", since="2.0.0", complexity="O(N) where N is the number of settings given",
            tips=("request_policy:all_nodes", ALL_SUCCEEDED),
        ),
    ),
)  # fmt: skip

_SERVER = (
    _CLIENT,
    _COMMAND,
    _CONFIG,
    _command(
        "INFO [section [section ...]]", -1, "loading stale", "dangerous", "State and counters of this node.",
        group="server", since="1.0.0", tips=(CHANGING, ON_ALL_SHARDS, "response_policy:special"),
    ),
    _command(
        "TIME", 1, "loading stale fast", "", "This node's clock: seconds since 1970 and microseconds.", group="server",
        since="2.6.0", tips=(CHANGING,),
    ),
)  # fmt: skip

_CLUSTER = _command(
    "CLUSTER", -2, "", "", "About the cluster, in the words of Redis Cluster.", group="cluster",
    since="3.0.0", complexity="Depends on subcommand.",
    subcommands=(
        _command(
            "CLUSTER|COUNTKEYSINSLOT slot", 3, "stale", "", "How many keys a slot has on this node.", group="cluster",
            since="3.0.0",
        ),
        _command(
            "CLUSTER|GETKEYSINSLOT slot count", 4, "stale", "", "Some keys of a slot on this node.", group="cluster",
            since="3.0.0", complexity="O(N) where N is the count", tips=(CHANGING,),
        ),
        _command("CLUSTER|HELP", 2, "loading stale", "", "These lines.", group="cluster", since="5.0.0"),
        _command(
            "CLUSTER|INFO", 2, "stale", "", "State of the cluster.", group="cluster", since="3.0.0", tips=(CHANGING,),
        ),
        _command(
            "CLUSTER|KEYSLOT key", 3, "stale", "", "The slot of a key.", group="cluster",
            since="3.0.0", complexity="O(N) where N is the length of the key",
        ),
        _command("CLUSTER|MYID", 2, "stale", "", "The id of this node, 40 hex digits.", group="cluster", since="3.0.0"),
        _command(
            "CLUSTER|NODES", 2, "stale", "", "The nodes and their slots, a line each.", group="cluster",
            since="3.0.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "CLUSTER|SHARDS", 2, "stale", "", "Slots and the nodes that have them, by coordinator.", group="cluster",
            since="7.0.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "CLUSTER|SLOTS", 2, "stale", "", "Slots and the nodes that have them, by range of slots.", group="cluster",
            since="3.0.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
    ),
)  # fmt: skip

_RING = _command(
    "RING", -2, "", "", "About the ring, in our own words.", group="ring",
    since="0.1.0", complexity="Depends on subcommand.",
    subcommands=(
        _command(
            "RING|ACKS [ALL | ONE | DEFAULT]", -2, "loading stale", "",
            "When this connection's writes are answered: once all copies have them, or one, or as the ring says.",
            group="ring", since="0.1.0",
        ),
        _command(
            "RING|ADD [COUNT count | NODE id [id ...]] [DRYRUN]", -2, "admin stale", "",
            "Take nodes into the ring: new ones that a launcher starts, or some that wait to be asked.", group="ring",
            since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|BACKUP [OPEN | READ backup first last [slot key] | CLOSE backup]", -3, "admin stale", "",
            "What this node holds of the slots that it coordinates, as of one moment.", group="ring", since="0.1.0",
        ),
        _command(
            "RING|BALANCE [BY slots | keys | bytes | requests] [THRESHOLD percent] [MAXMOVE bytes] [DRYRUN] | "
            "AUTO [ON | OFF] [BY what] [THRESHOLD percent] | CAPACITY id number", -2, "admin stale", "",
            "Make shares even for the least data moved, now, or by itself from now on.", group="ring", since="0.1.0",
            complexity="O(N log N) where N is the number of slots", tips=(CHANGING,),
        ),
        _command(
            "RING|CANCEL job", 3, "admin stale", "", "Give up a change of the ring: all stays as it was.", group="ring",
            since="0.1.0",
        ),
        _command(
            "RING|DEFAULT ACKS ALL | ONE", 4, "admin stale", "",
            "When writes are answered on connections that did not say: once all copies have them, or one.",
            group="ring", since="0.1.0", tips=(CHANGING,),
        ),
        _command("RING|HELP", 2, "loading stale", "", "These lines.", group="ring", since="0.1.0"),
        _command(
            "RING|JOBS", 2, "stale", "", "Changes of the ring: waiting, in flight and lately ended, as JSON.",
            group="ring", since="0.1.0", complexity="O(N) where N is the number of jobs", tips=(CHANGING,),
        ),
        _command(
            "RING|KEYRANGE", 2, "stale", "", "What each node coordinates: from,to,host:port; in hex, ascending.",
            group="ring", since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|KEYRANGE_READ", 2, "stale", "", "What each node holds: from,to,host:port; in hex, ascending.",
            group="ring", since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|LIMIT BYTES_PER_SECOND number", 4, "admin stale", "",
            "So much each node sends of slots that move, from now on; 0: no limit.", group="ring", since="0.1.0",
            tips=(CHANGING,),
        ),
        _command(
            "RING|LOCATE key", 3, "stale", "", "Slot and preference list of a key.", group="ring",
            since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|OBSERVE where word [json]", -4, "admin loading stale", "",
            "Look into a process (here, ecs, or the host:port of a node or a bridge) or interfere with it, as JSON.",
            group="ring", since="0.1.0", tips=(CHANGING,),
        ),
        _command(
            "RING|RECOVER id [DRYRUN]", -3, "admin stale", "",
            "Go on with what a node holds of the lists that nobody answers for: what only others had is lost.",
            group="ring", since="0.1.0", tips=(CHANGING,),
        ),
        _command(
            "RING|REMOVE id [id ...] [ACCEPTLOSS | DRYRUN]", -3, "admin stale", "",
            "Take nodes out of the ring, once others hold what they hold.", group="ring",
            since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|REPLACE id [by] [DRYRUN]", -3, "admin stale", "",
            "Put a node that has registered, or is started now, in the place of another, which leaves the ring.",
            group="ring", since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|REPLICAS copies [MIN copies] [DRYRUN]", -3, "admin stale", "",
            "Keep another number of copies of each slot, or need another number of them for a write.", group="ring",
            since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|RESTART id [FORCE]", -3, "admin stale", "",
            "Have a launcher end a node's process and start it again.", group="ring", since="0.1.0", tips=(CHANGING,),
        ),
        _command(
            "RING|RESTORE [ACCEPTLOSS] [DRYRUN]", -2, "admin stale", "",
            "Write the newest ring that nodes hold back into ZooKeeper, which has lost it.", group="ring",
            since="0.1.0", tips=(CHANGING,),
        ),
        _command(
            "RING|SHOW", 2, "stale", "", "The ring as this node knows it, as JSON.", group="ring",
            since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|START", 2, "admin stale", "", "Answer client requests again.", group="ring", since="0.1.0",
        ),
        _command(
            "RING|STATUS", 2, "stale", "", "State of the cluster as the leading ECS knows it, as JSON.", group="ring",
            since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
        _command(
            "RING|STOP", 2, "admin stale", "", "Refuse client requests until RING START; data and nodes stay.",
            group="ring", since="0.1.0",
        ),
        _command(
            "RING|VERIFY [START [REPAIR]]", -2, "admin stale", "",
            "Compare this node's slots with their other copies; alone: how far that is, as JSON.",
            group="ring", since="0.1.0", complexity="O(N) where N is the number of keys", tips=(CHANGING,),
        ),
        _command(
            "RING|VERSION key", 3, "readonly fast", "", "Epoch and number of the write that a key's value comes from.",
            group="ring", since="0.1.0", keys=(2, 2, 1), key_flags="RO",
        ),
        _command(
            "RING|WHY key", 3, "stale", "",
            "Who coordinates the slot of a key, since which ring and by which change of it, as JSON.",
            group="ring", since="0.1.0", complexity="O(N) where N is the number of nodes", tips=(CHANGING,),
        ),
    ),
)  # fmt: skip

COMMANDS: Mapping[bytes, Command] = _by_name((*_STRINGS, *_KEYS, *_CONNECTION, *_SERVER, _CLUSTER, _RING))
"""Every command by its name in lower case and in capitals."""
