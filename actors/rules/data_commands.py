"""Says what each data command does to the keys of one slot, and what it answers: Redis 7's semantics in pure functions.

Every function takes a `View` of the slot and the whole request (the name of the command first, the number of words
already checked against the table in `commands.py`, which points to these functions) and returns a `Reply`. Texts and
corner cases are Redis' own; the tests compare them with a real server byte by byte. Three rules hold for all:

- first look, then decide, then write: a command that answers with an error has put and deleted nothing;
- a write is an outcome (put this value, delete this key), never the command, so that copies need not know commands;
- no value grows beyond ``view.value_bytes_max``.

`StorageNode` does GET and the plain SET by itself, for speed; the functions here are their definition all the same.
Expiry is not built: options that ask for it are refused, because a key that should be gone and stays is worse than an
error.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from .replies import OK, ONE, ZERO, Reply, bulk, error, integer

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
INTEGER_DIGITS_MAX = 20
"""Longest spelling of a 64-bit integer, sign included."""

SYNTAX_ERROR = error(b"ERR syntax error")
NOT_AN_INTEGER = error(b"ERR value is not an integer or out of range")
OVERFLOW = error(b"ERR increment or decrement would overflow")
NEGATION_OVERFLOW = error(b"ERR decrement would overflow")
VALUE_TOO_LONG = error(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)")
MSET_ARITY = error(b"ERR wrong number of arguments for 'mset' command")
MSETNX_ARITY = error(b"ERR wrong number of arguments for 'msetnx' command")
STRING, NONE = b"+string\r\n", b"+none\r\n"

PATTERN_BYTES_MAX = 4096
"""Longest glob that is worth compiling; a longer one could only match a key that is longer still."""


class View(Protocol):
    """The keys of one slot as a command sees them: what it has put before it reads back."""

    value_bytes_max: int
    """Longest value that may be stored."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> bool:
        """True when the key existed."""
        ...


Function = Callable[[View, list[bytes]], Reply]


def parse_integer(text: bytes) -> int | None:
    """The 64-bit integer that ``text`` spells, or None. As in Redis: no plus, no blank, no leading zero, no ``-0``."""
    if len(text) > INTEGER_DIGITS_MAX:
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    if b"%d" % number != text or not INTEGER_MIN <= number <= INTEGER_MAX:
        return None
    return number


# Strings


def get(view: View, request: list[bytes]) -> Reply:
    value = view.get(request[1])
    return None if value is None else bulk(value)


def set_(view: View, request: list[bytes]) -> Reply:
    """SET key value [NX | XX | IFEQ comparison-value] [GET]. IFEQ as in Valkey 8.1 and Redis 8.4: no key, no write."""
    _, key, value, *options = request
    if len(value) > view.value_bytes_max:
        return VALUE_TOO_LONG
    if not options:
        view.put(key, value)
        return OK
    condition, comparison, give_old = b"", b"", False
    words = iter(options)
    for word in words:
        match option := word.upper():
            case b"NX" | b"XX" if condition in (b"", option):
                condition = option
            case b"IFEQ" if not condition and (operand := next(words, None)) is not None:
                condition, comparison = option, operand
            case b"GET":
                give_old = True
            case b"EX" | b"PX" | b"EXAT" | b"PXAT" | b"KEEPTTL":
                return _expiry_is_not_built(option)
            case _:
                return SYNTAX_ERROR
    old = view.get(key) if condition or give_old else None
    match condition:
        case b"NX":
            holds = old is None
        case b"XX":
            holds = old is not None
        case b"IFEQ":
            holds = old == comparison
        case _:
            holds = True
    if holds:
        view.put(key, value)
    if give_old:
        return None if old is None else bulk(old)
    return OK if holds else None


def _expiry_is_not_built(option: bytes) -> bytes:
    return error(
        b"ERR %b is not built yet: this release keeps no expiry; nothing was written. "
        b"Without %b the key is stored for good" % (option, option)
    )


def setnx(view: View, request: list[bytes]) -> Reply:
    _, key, value = request
    if len(value) > view.value_bytes_max:
        return VALUE_TOO_LONG
    if view.get(key) is not None:
        return ZERO
    view.put(key, value)
    return ONE


def getset(view: View, request: list[bytes]) -> Reply:
    _, key, value = request
    if len(value) > view.value_bytes_max:
        return VALUE_TOO_LONG
    old = view.get(key)
    view.put(key, value)
    return None if old is None else bulk(old)


def getdel(view: View, request: list[bytes]) -> Reply:
    old = view.get(request[1])
    if old is None:
        return None
    view.delete(request[1])
    return bulk(old)


def mget(view: View, request: list[bytes]) -> Reply:
    return [None if (value := view.get(key)) is None else bulk(value) for key in request[1:]]


def mset(view: View, request: list[bytes]) -> Reply:
    if not len(request) % 2:
        return MSET_ARITY
    return _put_all(view, request) or OK


def msetnx(view: View, request: list[bytes]) -> Reply:
    """All keys or none: nothing is put when one of them exists."""
    if not len(request) % 2:
        return MSETNX_ARITY
    if any(view.get(key) is not None for key in request[1::2]):
        return ZERO
    return _put_all(view, request) or ONE


def _put_all(view: View, request: list[bytes]) -> bytes | None:
    if max(map(len, request[2::2])) > view.value_bytes_max:
        return VALUE_TOO_LONG
    for key, value in zip(request[1::2], request[2::2], strict=True):
        view.put(key, value)
    return None


def strlen(view: View, request: list[bytes]) -> Reply:
    return integer(len(view.get(request[1]) or b""))


def append(view: View, request: list[bytes]) -> Reply:
    _, key, more = request
    value = (view.get(key) or b"") + more
    if len(value) > view.value_bytes_max:
        return VALUE_TOO_LONG
    view.put(key, value)
    return integer(len(value))


def incr(view: View, request: list[bytes]) -> Reply:
    return _add(view, request[1], 1)


def decr(view: View, request: list[bytes]) -> Reply:
    return _add(view, request[1], -1)


def incrby(view: View, request: list[bytes]) -> Reply:
    step = parse_integer(request[2])
    return NOT_AN_INTEGER if step is None else _add(view, request[1], step)


def decrby(view: View, request: list[bytes]) -> Reply:
    step = parse_integer(request[2])
    if step is None:
        return NOT_AN_INTEGER
    return NEGATION_OVERFLOW if step == INTEGER_MIN else _add(view, request[1], -step)


def _add(view: View, key: bytes, step: int) -> bytes:
    old = view.get(key)
    number = 0 if old is None else parse_integer(old)
    if number is None:
        return NOT_AN_INTEGER
    number += step
    if not INTEGER_MIN <= number <= INTEGER_MAX:
        return OVERFLOW
    view.put(key, b"%d" % number)
    return integer(number)


# Keys


def delete(view: View, request: list[bytes]) -> Reply:
    """DEL and UNLINK: there is no slow half of a delete that could be put off."""
    return integer(sum(view.delete(key) for key in request[1:]))


def exists(view: View, request: list[bytes]) -> Reply:
    """A key that is named twice counts twice."""
    return integer(sum(view.get(key) is not None for key in request[1:]))


def type_(view: View, request: list[bytes]) -> Reply:
    return NONE if view.get(request[1]) is None else STRING


@lru_cache(maxsize=64)
def glob(pattern: bytes, ignore_case: bool = False) -> re.Pattern[bytes]:
    """The regular expression whose ``fullmatch`` is Redis' glob (KEYS, SCAN MATCH, CONFIG GET, COMMAND LIST).

    ``*`` any run, ``?`` one byte, ``[a-c]`` and ``[^a-c]`` one of a set, a backslash takes the next byte as it is; a
    set that is never closed ends with the pattern. What stands between two stars may always be matched at its leftmost
    place, so each such piece is an atomic group: matching never goes back over what it passed, and a hostile pattern
    costs its length times the key's, not more. Raises ValueError when it is longer than `PATTERN_BYTES_MAX`.
    """
    if len(pattern) > PATTERN_BYTES_MAX:
        raise ValueError(f"a pattern has at most {PATTERN_BYTES_MAX} bytes, this one has {len(pattern)}")
    pieces: list[list[bytes]] = [[]]  # what stands between the stars
    at, end = 0, len(pattern)
    while at < end:
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            pieces.append([])
        elif byte == b"?":
            pieces[-1].append(b".")
        elif byte == b"[":
            at, expression = _glob_set(pattern, at)
            pieces[-1].append(expression)
        else:
            if byte == b"\\" and at < end:
                byte = pattern[at : at + 1]
                at += 1
            pieces[-1].append(re.escape(byte))
    first, *others = (b"".join(piece) for piece in pieces)
    middle = b"".join(b"(?>.*?%b)" % piece for piece in others[:-1] if piece)
    last = b".*%b" % others[-1] if others else b""
    return re.compile(first + middle + last, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _glob_set(pattern: bytes, at: int) -> tuple[int, bytes]:
    """Read a set whose bracket opened before ``at``; return where it ends and the expression for it."""
    end = len(pattern)
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < end:
        if pattern[at : at + 1] == b"\\" and at + 1 < end:
            members.add(pattern[at + 1])
            at += 2
        elif pattern[at : at + 1] == b"]":
            at += 1
            break
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < end:
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    if not members:
        return at, b"." if negated else b"(?!)"
    listed = b"".join(b"\\x%02x" % member for member in sorted(members))
    return at, b"[%b%b]" % (b"^" if negated else b"", listed)
