"""Takes apart what people type: commands, words, messages, spans of time. Decides nothing, asks nobody.

Words are those of a POSIX shell: separated by blanks, with quotes and backslashes. Commands of a line are separated by
``;``, and one that ends with ``&`` is not waited for. What stands in quotes, brackets or braces is never taken apart
there, so that a message or an expression may hold such signs. A ``#`` before a word begins a comment.
"""

import ast
import base64
import difflib
import re
import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple

OPENING, CLOSING = "([{", ")]}"
UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
SECONDS_MAX = 86_400.0
SPAN = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|min|m|h|)")

FIRST_WORD = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|(\S+))""")


class Wrong(Exception):
    """Raised for what makes no sense as it was typed; the text says why."""


class Said(NamedTuple):
    """One command as it was typed."""

    text: str
    background: bool = False
    """It is not to be waited for."""


def commands(line: str) -> list[Said]:
    """The commands of a line. Raises Wrong when quotes or brackets are not closed."""
    parts: list[Said] = []
    begin, position, depth, quote = 0, 0, 0, ""

    def part(end: int, background: bool = False) -> None:
        if text := line[begin:end].strip():
            parts.append(Said(text, background))

    while position < len(line):
        sign = line[position]
        if sign == "\\" and quote != "'":
            position += 1
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in OPENING:
            depth += 1
        elif sign in CLOSING:
            depth -= 1
        elif sign == "#" and depth == 0 and line[position - 1 : position].strip() == "":
            line = line[:position]
            break
        elif depth == 0 and (sign == ";" or (sign == "&" and line[position + 1 :].lstrip()[:1] in ("", ";"))):
            part(position, sign == "&")
            begin = position + 1
        position += 1
    if quote:
        raise Wrong(f"a quote is not closed: {quote}")
    if depth > 0:
        raise Wrong("a bracket is not closed")
    part(len(line))
    return parts


def unfinished(text: str) -> bool:
    """Whether lines of Python follow (``py {``), up to one that is a brace."""
    first, *_, last = text.rstrip().splitlines() * 2 or ("", "")
    return first.rstrip().endswith("{") and " py " in f" {first} " and last.strip() != "}"


def words(text: str) -> list[str]:
    """The words of a command. Raises Wrong."""
    try:
        return shlex.split(text)
    except ValueError as wrong:
        raise Wrong(f"{text}: {str(wrong).lower()}") from None


def first_word(text: str) -> tuple[str, str]:
    """The first word of a text, without quotes, and what follows it as it was typed."""
    found = FIRST_WORD.match(text)
    return (found[1] or found[2] or found[3] or "", text[found.end() :].strip()) if found else ("", "")


def message(text: str) -> tuple[str, dict[str, Any]]:
    """Type and fields of ``Message(field=value, ...)``, as JSON can carry them: bytes as text, tuples as lists.

    Values are literals; nothing is evaluated. Raises Wrong.
    """
    try:
        call = ast.parse(text.strip() or "?", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Wrong(f"{text!r} is no message; write Message(field=value, ...)") from None
    if isinstance(call, ast.Name):
        return call.id, {}
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise Wrong(f"{text!r} is no message; write Message(field=value, ...)")
    if call.args or any(each.arg is None for each in call.keywords):
        raise Wrong(f"say which fields of {call.func.id} are meant: {call.func.id}(field=value, ...)")
    fields = {}
    for keyword in call.keywords:
        try:
            fields[str(keyword.arg)] = carried(ast.literal_eval(keyword.value))
        except (ValueError, TypeError, SyntaxError, RecursionError):
            raise Wrong(
                f"{keyword.arg} of {call.func.id} is no literal: numbers, texts, lists and the like are"
            ) from None
    return call.func.id, fields


def carried(value: Any) -> Any:
    """A literal as JSON carries it. Raises ValueError for what JSON has nothing for."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list | tuple):
        return [carried(each) for each in value]
    if isinstance(value, dict):
        return {str(key): carried(each) for key, each in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{type(value).__name__} cannot be sent")


def seconds(text: str) -> float:
    """A span of time: ``2s``, ``300ms``, ``1.5``, ``2min``. Raises Wrong."""
    found = SPAN.fullmatch(text)
    span = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 0 < span <= SECONDS_MAX:
        raise Wrong(f"{text!r} is no span of time; write 300ms, 2s or 5min")
    return span


def number(text: str, what: str, least: int = 1, most: int = 1_000_000) -> int:
    """A whole number. Raises Wrong."""
    if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
        raise Wrong(f"{text!r} is no {what}; write a number from {least} to {most}")
    return int(text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean ring?``, or nothing where nothing is near."""
    near = difflib.get_close_matches(word.lower(), list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def shipped(code: bytes) -> str:
    """Pickled code as JSON carries it."""
    return base64.b64encode(code).decode()
