"""Spells the few replies that the rules of commands give, in the bytes of RESP.

These are the same in RESP2 and RESP3. `runtime/resp.py` has the same one-liners: the runtime must not know the actors,
the rules must not know the runtime, and a third home for ten lines would be further to walk than reading them twice.
What differs between the protocols stays a plain Python value (see `Reply`), which `runtime.resp.encode` spells.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Reply: TypeAlias = "bytes | None | int | str | Sequence[Reply] | Mapping[str, Reply] | frozenset[bytes]"
"""What a command answers: bytes are encoded already, None is null, a str a bulk string, a frozenset a set."""

OK = b"+OK\r\n"
ZERO = b":0\r\n"
ONE = b":1\r\n"


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def integer(number: int) -> bytes:
    return b":%d\r\n" % number


def simple(text: bytes) -> bytes:
    return b"+%b\r\n" % text


def error(text: bytes) -> bytes:
    """An error; ``text`` begins with its code (``ERR ...``). Line ends, which would end the reply, become spaces."""
    return b"-%b\r\n" % text.replace(b"\r", b" ").replace(b"\n", b" ")


def refusal(text: str) -> bytes:
    """An error reply; its first word is the code."""
    return error(text.encode())
