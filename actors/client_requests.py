"""Puts into commands what a program asks of a cluster: a request is one command for one node, and what became of it.

`client.py` imports this file as ``ask``: ``ask.get(key)`` is the request for a GET. The builders have the names of the
client's methods, with an underscore where Python has that name; `command` takes any command, and looks its keys up in
`rules/commands.py`. All of them raise TypeError for what is no key or no value.

Nothing here sends anything. `client_links.py` carries requests to a node, and `Client._settle` brings each to its end.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from .client_errors import ClientError, Trouble
from .rules.commands import COMMANDS, find
from .rules.ring import Acks
from .rules.slots import slot as slot_of

Key = bytes | str
Value = bytes | str | int

NO_KEY = -1

pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)

OF_ONE_CONNECTION = frozenset(
    ("ASKING", "AUTH", "HELLO", "MONITOR", "PSYNC", "QUIT", "READONLY", "READWRITE", "RESET", "SELECT", "SYNC")
    + ("DISCARD", "EXEC", "MULTI", "UNWATCH", "WATCH", "PSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE")
    + ("CLIENT CACHING", "CLIENT REPLY", "CLIENT SETNAME", "CLIENT TRACKING", "RING ACKS")
)
"""Commands that change the connection they arrive on. They are not sent: connections are shared."""


class Request:
    """One command for one node, and what became of it.

    It is open (``trouble`` says why the last attempt did not end it), or ended by a ``reply`` or by an ``error``.
    """

    __slots__ = (
        "acks",
        "args",
        "ask",
        "convert",
        "error",
        "keys",
        "node",
        "packed",
        "reads",
        "reply",
        "slot",
        "trouble",
    )

    def __init__(
        self,
        args: tuple[Any, ...],
        keys: tuple[bytes, ...],
        reads: bool = False,
        convert: Callable[[Any], Any] | None = None,
        node: str | None = None,
    ) -> None:
        self.args = args
        self.keys = keys
        self.slot = slot_of(keys[0]) if keys else NO_KEY
        self.reads = reads
        """It changes nothing, so it may be done twice."""
        self.convert = convert
        self.node = node
        """Only this node will do."""
        self.acks: Acks | None = None
        """When it is answered, if it writes; None: as the ring says."""
        self.ask: str | None = None
        """The next attempt goes to this node, with ASKING before it."""
        self.packed = pack(args)
        self.reply: Any = None
        self.trouble: Trouble | None = None
        self.error: ClientError | None = None

    def outcome(self) -> Any:
        """The converted reply; raises the error."""
        if self.error is not None:
            raise self.error
        return self.reply if self.convert is None else self.convert(self.reply)

    @property
    def may_be_done(self) -> bool:
        """Whether an ended request may have changed or seen data."""
        return self.error is None or self.error.happened == "maybe"

    def __str__(self) -> str:
        words = [as_text(self.args[0]), *(as_text(key) for key in self.keys[:1])]
        known = find(COMMANDS, words[0].encode())
        if known is not None and known.subcommands and len(self.args) > 1:
            words.insert(1, as_text(self.args[1]))
        if len(self.keys) > 1:
            words.append(f"and {len(self.keys) - 1} more")
        return " ".join(words)


def get(key: Key) -> Request:
    key = as_key(key)
    return Request(("GET", key), (key,), True)


def set_(key: Key, value: Value, *, nx: bool, xx: bool, ifeq: Value | None, get: bool) -> Request:
    """Raises ValueError for more than one condition."""
    key, value = as_key(key), as_value(value)
    if not (nx or xx or get or ifeq is not None):
        return Request(("SET", key, value), (key,), False, _is_some)
    if nx + xx + (ifeq is not None) > 1:
        raise ValueError("nx, xx and ifeq exclude each other: give one condition")
    words = ["SET", key, value]
    if ifeq is not None:
        words += "IFEQ", as_value(ifeq)
    words += ["NX"] * nx + ["XX"] * xx + ["GET"] * get
    return Request(tuple(words), (key,), False, None if get else _is_some)


def setnx(key: Key, value: Value) -> Request:
    key = as_key(key)
    return Request(("SETNX", key, as_value(value)), (key,), False, bool)


def getset(key: Key, value: Value) -> Request:
    key = as_key(key)
    return Request(("GETSET", key, as_value(value)), (key,))


def getdel(key: Key) -> Request:
    key = as_key(key)
    return Request(("GETDEL", key), (key,))


def delete(key: Key) -> Request:
    key = as_key(key)
    return Request(("DEL", key), (key,))


def exists(key: Key) -> Request:
    key = as_key(key)
    return Request(("EXISTS", key), (key,), True)


def append(key: Key, value: Value) -> Request:
    key = as_key(key)
    return Request(("APPEND", key, as_value(value)), (key,))


def strlen(key: Key) -> Request:
    key = as_key(key)
    return Request(("STRLEN", key), (key,), True)


def incr(key: Key, by: int) -> Request:
    key = as_key(key)
    return Request(("INCRBY", key, as_value(by)), (key,))


def decr(key: Key, by: int) -> Request:
    key = as_key(key)
    return Request(("DECRBY", key, as_value(by)), (key,))


def type_(key: Key) -> Request:
    key = as_key(key)
    return Request(("TYPE", key), (key,), True, bytes.decode)


def _is_some(reply: Any) -> bool:
    return reply is not None


def command(args: Sequence[Value], key: bytes | None, node: str | None = None) -> Request:
    """Any command, as far as the table of commands helps with its keys. Raises TypeError and ValueError."""
    if not args:
        raise ValueError("there is no command: give its name and then its arguments")
    words = tuple(map(as_value, args))
    line = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    name = as_text(b" ".join(line[:1])).upper()
    if name in OF_ONE_CONNECTION or as_text(b" ".join(line[:2])).upper() in OF_ONE_CONNECTION:
        raise ValueError(f"{name} changes the connection, and this client's connections are shared: it is not sent")
    known = find(COMMANDS, line[0])
    if known is None:
        keys, reads = line[1:2], False
    else:
        if known.subcommands and len(line) > 1:
            known = find(known.subcommands, line[1]) or known
        keys, reads = known.keys(line), not known.flags & {"write", "admin"} and not known.subcommands
        if not known.first_key and known.flags & {"readonly", "write"} and key is None and node is None:
            raise ValueError(f"{name} is about one node's data: name the node, or use the client's own method")
    return Request(words, tuple(keys) if key is None else (key,), reads, node=node)


def as_key(key: Key) -> bytes:
    """The key's bytes: text in UTF-8. Raises TypeError."""
    if type(key) is bytes:
        return key
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return bytes(key)
    raise TypeError(f"a key is bytes or str, not {type(key).__name__}: convert it, for instance with str()")


def as_value(value: Value) -> Value:
    """The value, or a copy in one of the plain types that ``pack`` takes. Raises TypeError."""
    if type(value) is bytes or type(value) is str:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a value is bytes, str or int, not {type(value).__name__}: encode it, for instance with repr()")


def as_text(word: Value) -> str:
    """A word as a person reads it in an error: in one short line."""
    text = word.decode(errors="backslashreplace") if isinstance(word, bytes) else str(word)
    if not text.isprintable() or not text:
        text = repr(word)
    return text if len(text) <= 80 else f"{text[:77]}..."
