"""Says what each data command does to the keys of one slot, and what it answers: Redis 7's semantics in pure functions.

Every function takes a `View` of the slot and the whole request (the name of the command first, the number of words
already checked against the table in `commands.py`, which points to these functions) and returns a `Reply`. Texts and
corner cases are Redis' own; the tests compare them with a real server byte by byte. Three rules hold for all:

- first look, then decide, then write: a command that answers with an error has put and deleted nothing;
- a write is an outcome (put this value, delete this key), never the command, so that copies need not know commands;
- no value grows beyond ``view.value_bytes_max``.

A key may expire: its put says when, in milliseconds since the Unix epoch, reckoned once from the clock of the node that
runs the command; copies get that instant, never a duration. The view shows a key that has expired as missing. What
replaces a value (SET, GETSET, MSET) makes it stay for good unless it says otherwise; what changes one (APPEND, INCR
and their like) leaves its expiry as it is.

`StorageNode` does GET and the plain SET by itself, for speed; the functions here are their definition all the same.
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
EXPIRE_NX_ALONE = error(b"ERR NX and XX, GT or LT options at the same time are not compatible")
EXPIRE_GT_OR_LT = error(b"ERR GT and LT options at the same time are not compatible")
STRING, NONE = b"+string\r\n", b"+none\r\n"
NO_KEY, NO_EXPIRY = integer(-2), integer(-1)
"""What TTL and its like answer when they have no time to tell."""

SECOND, MILLISECOND = 1000, 1
"""Units of what expires, in milliseconds."""

PATTERN_BYTES_MAX = 4096
"""Longest glob that is worth compiling; a longer one could only match a key that is longer still."""


class View(Protocol):
    """The keys of one slot as a command sees them: it reads back what it has put; what has expired is not there."""

    value_bytes_max: int
    """Longest value that may be stored."""
    now_ms: int
    """This turn's time: milliseconds since the Unix epoch."""

    def get(self, key: bytes) -> bytes | None: ...
    def expiry(self, key: bytes) -> int | None:
        """When the key expires, in milliseconds since the Unix epoch; 0: never; None: there is no such key."""
        ...

    def put(self, key: bytes, value: bytes, expiry: int = 0) -> None: ...
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
    """SET key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
    PXAT unix-time-milliseconds | KEEPTTL]. IFEQ as in Valkey 8.1 and Redis 8.4: no key, no write."""
    _, key, value, *options = request
    if len(value) > view.value_bytes_max:
        return VALUE_TOO_LONG
    if not options:
        view.put(key, value)
        return OK
    condition, comparison, give_old, timing, operand = b"", b"", False, b"", b""
    words = iter(options)
    for word in words:
        match option := word.upper():
            case b"NX" | b"XX" if condition in (b"", option):
                condition = option
            case b"IFEQ" if not condition and (following := next(words, None)) is not None:
                condition, comparison = option, following
            case b"GET":
                give_old = True
            case b"KEEPTTL" if timing in (b"", option):
                timing = option
            case b"EX" | b"PX" | b"EXAT" | b"PXAT" if (
                timing in (b"", option) and (following := next(words, None)) is not None
            ):
                timing, operand = option, following
            case _:
                return SYNTAX_ERROR
    expiry = 0
    if timing == b"KEEPTTL":
        expiry = view.expiry(key) or 0
    elif timing:
        named = _expiry(view, request, timing, operand)
        if isinstance(named, bytes):
            return named
        expiry = named
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
        view.put(key, value, expiry)
    if give_old:
        return None if old is None else bulk(old)
    return OK if holds else None


def _expiry(view: View, request: list[bytes], timing: bytes, operand: bytes) -> int | bytes:
    """The instant that EX, PX, EXAT or PXAT and what follows it name, or the error."""
    number = parse_integer(operand)
    if number is None:
        return NOT_AN_INTEGER
    expiry = number * (SECOND if timing in (b"EX", b"EXAT") else MILLISECOND)
    if timing in (b"EX", b"PX"):
        expiry += view.now_ms
    return expiry if number > 0 and expiry <= INTEGER_MAX else _invalid_expire_time(request)


def _invalid_expire_time(request: list[bytes]) -> bytes:
    return error(b"ERR invalid expire time in '%b' command" % request[0].lower())


def setex(view: View, request: list[bytes]) -> Reply:
    return _set_for(view, request, b"EX")


def psetex(view: View, request: list[bytes]) -> Reply:
    return _set_for(view, request, b"PX")


def _set_for(view: View, request: list[bytes], timing: bytes) -> Reply:
    _, key, operand, value = request
    if len(value) > view.value_bytes_max:
        return VALUE_TOO_LONG
    expiry = _expiry(view, request, timing, operand)
    if isinstance(expiry, bytes):
        return expiry
    view.put(key, value, expiry)
    return OK


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


def getex(view: View, request: list[bytes]) -> Reply:
    """GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]"""
    _, key, *options = request
    timing, operand = b"", b""
    words = iter(options)
    for word in words:
        match option := word.upper():
            case b"PERSIST" if timing in (b"", option):
                timing = option
            case b"EX" | b"PX" | b"EXAT" | b"PXAT" if (
                timing in (b"", option) and (following := next(words, None)) is not None
            ):
                timing, operand = option, following
            case _:
                return SYNTAX_ERROR
    value = view.get(key)
    if value is None:
        return None
    if timing == b"PERSIST":
        if view.expiry(key):
            view.put(key, value)
    elif timing:
        expiry = _expiry(view, request, timing, operand)
        if isinstance(expiry, bytes):
            return expiry
        _put_until(view, key, value, expiry)
    return bulk(value)


def _put_until(view: View, key: bytes, value: bytes, expiry: int) -> None:
    """Put what expires, or delete it when that time has come."""
    if expiry <= view.now_ms:
        view.delete(key)
    else:
        view.put(key, value, expiry)


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
    view.put(key, value, view.expiry(key) or 0)
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
    view.put(key, b"%d" % number, view.expiry(key) or 0)
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


def expire(view: View, request: list[bytes]) -> Reply:
    return _expire(view, request, SECOND, view.now_ms)


def pexpire(view: View, request: list[bytes]) -> Reply:
    return _expire(view, request, MILLISECOND, view.now_ms)


def expireat(view: View, request: list[bytes]) -> Reply:
    return _expire(view, request, SECOND, 0)


def pexpireat(view: View, request: list[bytes]) -> Reply:
    return _expire(view, request, MILLISECOND, 0)


def _expire(view: View, request: list[bytes], unit: int, since_ms: int) -> Reply:
    """EXPIRE and its like: key time [NX | XX | GT | LT]. For GT and LT a key that never expires does so later than any
    other; a time that has passed deletes the key."""
    _, key, time, *options = request
    conditions = set()
    for option in options:
        if option.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            shown = option.partition(b"\0")[0].rstrip(b"\r\n")  # a zero byte ends a string in Redis' language
            return error(b"ERR Unsupported option %b" % shown)
        conditions.add(option.upper())
    if b"NX" in conditions and len(conditions) > 1:
        return EXPIRE_NX_ALONE
    if {b"GT", b"LT"} <= conditions:
        return EXPIRE_GT_OR_LT
    number = parse_integer(time)
    if number is None:
        return NOT_AN_INTEGER
    expiry = number * unit + since_ms
    if expiry > INTEGER_MAX or number * unit < INTEGER_MIN:
        return _invalid_expire_time(request)
    value = view.get(key)
    if value is None:
        return ZERO
    old = view.expiry(key) or 0
    for condition in conditions:
        match condition:
            case b"NX":
                holds = not old
            case b"XX":
                holds = old > 0
            case b"GT":
                holds = 0 < old < expiry
            case _:
                holds = not old or expiry < old
        if not holds:
            return ZERO
    _put_until(view, key, value, expiry)
    return ONE


def ttl(view: View, request: list[bytes]) -> Reply:
    return _time_of(view, request[1], SECOND, view.now_ms)


def pttl(view: View, request: list[bytes]) -> Reply:
    return _time_of(view, request[1], MILLISECOND, view.now_ms)


def expiretime(view: View, request: list[bytes]) -> Reply:
    return _time_of(view, request[1], SECOND, 0)


def pexpiretime(view: View, request: list[bytes]) -> Reply:
    return _time_of(view, request[1], MILLISECOND, 0)


def _time_of(view: View, key: bytes, unit: int, since_ms: int) -> Reply:
    """When the key expires, rounded to the unit."""
    expiry = view.expiry(key)
    if not expiry:
        return NO_KEY if expiry is None else NO_EXPIRY
    return integer((expiry - since_ms + unit // 2) // unit)


def persist(view: View, request: list[bytes]) -> Reply:
    value = view.get(request[1])
    if value is None or not view.expiry(request[1]):
        return ZERO
    view.put(request[1], value)
    return ONE


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
