"""Checks single fields of what came from outside (a znode, a file, a person), and says what is wrong with them.

Every check names the field, what it must look like and what it is; a ring is refused whole or taken whole.
"""

import json
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

JSON_BYTES_MAX = 1_000_000
"""ZooKeeper refuses a znode of more than 1 MiB less one byte."""

WALL_SECONDS_END = 253_402_300_800

REQUIRED = object()
"""Says that a field must be there."""

HEX_64 = re.compile(r"[0-9a-f]{16}")
HEX_128 = re.compile(r"[0-9a-f]{32}")
HOST = re.compile(r"[0-9A-Za-z._:%-]{1,255}")
NODE_ID = re.compile(r"[0-9A-Za-z._:%\[\]-]{1,270}")
RUN = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
CLUSTER_NAME = re.compile(r"[0-9A-Za-z._-]{1,64}")

_LIKE = {
    HEX_64: "16 hex digits",
    HEX_128: "32 hex digits",
    HOST: "a host name or an IP address",
    NODE_ID: "host:port",
    RUN: "slots like 0-5460 or 17",
    CLUSTER_NAME: "1 to 64 letters, digits, dots, dashes or underscores",
}


class RingError(ValueError):
    """A ring, a registration or a step from one ring to the next that the rules do not allow. Nothing has changed."""


class MovedOn(RingError):
    """A step that was chosen for a ring which has become another since: it may be chosen anew."""


def text(what: str, value: object, shape: re.Pattern[str]) -> str:
    """Raises RingError unless value is a string of this shape."""
    if type(value) is not str or not shape.fullmatch(value):
        raise RingError(f"{what} must be {_LIKE[shape]}, not {_shown(value)}")
    return value


def prose(what: str, value: object, characters_max: int) -> str:
    """Raises RingError unless value is printable (no line end, no escape sequence) and not longer than that."""
    if type(value) is not str or len(value) > characters_max or not value.isprintable():
        raise RingError(f"{what} must be a printable text of at most {characters_max} characters, not {_shown(value)}")
    return value


def whole(what: str, value: object, low: int, high: int) -> int:
    """Raises RingError unless value is an int (True is none) from low to high."""
    if type(value) is not int or not low <= value <= high:
        raise RingError(f"{what} must be a whole number from {low} to {high}, not {_shown(value)}")
    return value


def wall_seconds(what: str, value: object) -> float:
    """Raises RingError unless value is a number of seconds since the Unix epoch, before the year 10000."""
    if type(value) not in (int, float) or not 0 <= value < WALL_SECONDS_END:  # type: ignore[operator]
        raise RingError(f"{what} must be seconds since the Unix epoch, not {_shown(value)}")
    return value  # type: ignore[return-value]


def flag(what: str, value: object) -> bool:
    """Raises RingError unless value is True or False."""
    if type(value) is not bool:
        raise RingError(f"{what} must be true or false, not {_shown(value)}")
    return value


def one_of(what: str, value: object, choices: tuple[str, ...]) -> str:
    """Raises RingError unless value is one of the choices."""
    if value not in choices:
        raise RingError(f"{what} must be one of {', '.join(choices)}, not {_shown(value)}")
    return str(value)


class Fields:
    """One JSON object, taken apart field by field; what nobody took is in ``left``."""

    def __init__(self, what: str, value: object) -> None:
        if type(value) is not dict:
            raise RingError(f"{what} must be a JSON object, not {_shown(value)}")
        self.what = what
        self.left: dict[str, object] = dict(value)

    def take(self, name: str, otherwise: object = REQUIRED) -> Any:
        """The field's value, unchecked. What is missing is as ``otherwise`` says, or raises RingError."""
        if name not in self.left:
            if otherwise is not REQUIRED:
                return otherwise
            raise RingError(f"{self.what} lacks the field {name!r}")
        return self.left.pop(name)

    def take_many(self, name: str, otherwise: object = REQUIRED) -> list[Any]:
        """The field's values. Raises RingError unless it is a JSON array."""
        value = self.take(name, otherwise)
        if type(value) is not list:
            raise RingError(f"{name} of {self.what} must be a JSON array, not {_shown(value)}")
        return value


def parse(what: str, data: bytes) -> Fields:
    """Read one JSON object. Raises RingError for anything else, for a name that stands twice, NaN and Infinity."""
    if len(data) > JSON_BYTES_MAX:
        raise RingError(f"{what} has {len(data)} bytes; more than {JSON_BYTES_MAX} cannot be one")
    try:
        return Fields(what, json.loads(data, object_pairs_hook=_once, parse_float=_finite, parse_constant=_no_constant))
    except RingError:
        raise
    except (ValueError, RecursionError) as error:
        raise RingError(f"{what} is not JSON: {error}") from None


def pack(what: str, fields: Mapping[str, object]) -> bytes:
    """JSON for people: names sorted, one line a field, one line an item where a field holds several objects. The same
    fields give the same bytes. Raises RingError when it would not fit into a znode."""
    lines = []
    for name in sorted(fields):
        value = fields[name]
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            text = "[\n  " + ",\n  ".join(json.dumps(item, sort_keys=True) for item in value) + "\n ]"
        else:
            text = json.dumps(value, sort_keys=True)
        lines.append(f" {json.dumps(name)}: {text}")
    data = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    if len(data) > JSON_BYTES_MAX:
        raise RingError(f"{what} would have {len(data)} bytes; a znode holds at most {JSON_BYTES_MAX}")
    return data


def _shown(value: object) -> str:
    """A value for an error message, shortened wherever it is long."""
    return reprlib.repr(value)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise RingError(f"the field {_shown(name)} stands twice in one JSON object")
        fields[name] = value
    return fields


def _finite(digits: str) -> float:
    """1e999 would be infinity, which JSON cannot say again."""
    if not math.isfinite(number := float(digits)):
        raise RingError(f"{_shown(digits)} is no number")
    return number


def _no_constant(word: str) -> object:
    raise RingError(f"{word} is no number")
