"""Keeps what goes from a node that may hold what nobody else has any more (R17).

A node that returns is made equal to the coordinator: what it has and the coordinator has not, goes; and where its slots
have become others' meanwhile, all that it has of them goes. As a rule that was never acknowledged, or deleted since. It
can be more than that

    under ``acks = one``                 the coordinator alone answered, and died before others had it; what a single
                                         connection wanted counts, and is noted in the node's folder before
    after a loss was accepted, or a      the lists went on with what one member held, and this node was another of
    recovery did not wait for all        those that may have held something else (``Ring.left_behind``)

and then it is written to the node's *salvage file* before it goes, for a person to look at, and to put back key by key
(`ringkeeper salvage`). Not written is what a later value of the same tenure has replaced, or an equal one: nothing is
lost with it. An older value of the same tenure is no replacement: the mirror's source has missed what came after it.

The file holds one JSON object a line: when, in which ring and by which coordinator's mirror; slot, key, value, version,
expiry; and what became of it. It is only appended to, and bounded: when it is full that is said in its last line, and
what comes after it goes unseen. An append that failed half way, or that the power was cut in, leaves a line that broke
off; it stays, and the next append begins a new one, so that no other record is lost with it. Truncating after a failure
was rejected: nobody does that when the power was cut.
"""

import base64
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..runtime.durable import sync_folder
from ..runtime.store import Record
from .rules.mirror import listed
from .rules.ring import Ring
from .rules.scrub import Listed

log = logging.getLogger(__name__)

SALVAGE_BYTES_MAX = 256 * 1024 * 1024
"""What a salvage file holds at most."""

SALVAGE_NAME = "salvage.jsonl"
"""In the node's folder."""


class SalvageFile(Protocol):
    """What a node's disk offers for it."""

    def append(self, lines: bytes) -> None:
        """Keep them synced, on lines of their own whatever was there. Raises OSError; then a part may be there, and
        nothing may be taken."""
        ...

    def size(self) -> int:
        """In bytes."""
        ...


class FolderSalvage:
    """The salvage file in a node's folder; it comes into being with its first line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / SALVAGE_NAME
        self._named = False
        """Whether its name is known to survive a power cut; a former life may have been killed before it synced it."""

    def append(self, lines: bytes) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                file.write(b"\n")
            file.write(lines)
            file.flush()
            os.fsync(descriptor)
        if not size or not self._named:
            sync_folder(self.path.parent)
            self._named = True

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


class Taken(NamedTuple):
    """A record that goes, and what comes in its place."""

    slot: int
    key: bytes
    record: Record
    by: Listed | None

    @property
    def matters(self) -> bool:
        """Whether something may be lost with it."""
        if self.by is None:
            return True
        _, _, epoch, seq, *content = listed(self.slot, self.key, self.record)
        _, _, by_epoch, by_seq, *by_content = self.by
        replaced = by_epoch == epoch and by_seq > seq
        return not replaced and by_content != content


class Salvage:
    """One node's salvage file. ``answered_alone``: a former life of the node has, for a connection that wanted that."""

    def __init__(self, file: SalvageFile, bytes_max: int = SALVAGE_BYTES_MAX, *, answered_alone: bool = False) -> None:
        self._file, self._bytes_max, self.answered_alone = file, bytes_max, answered_alone
        self._full = False

    def keep(self, taken: list[Taken], *, ring: Ring, source: str, wall_seconds: float) -> int:
        """Write down what goes; how many records that are. Raises OSError; then it may not go."""
        mattering = [each for each in taken if each.matters]
        size = self._file.size() + len(b"\n")  # which ends a line that broke off
        if not mattering or self._full or size >= self._bytes_max:
            return 0
        head = {"wall_seconds": round(wall_seconds, 3), "ring": ring.epoch, "mirrored_from": source}
        full = json.dumps({**head, "full": True}).encode() + b"\n"
        lines: list[bytes] = []
        fills = False
        for each in mattering:
            line = json.dumps({**head, **_shown(each)}).encode() + b"\n"
            size += len(line)
            if size + len(full) > self._bytes_max:
                lines.append(full)
                fills = True
                break
            lines.append(line)
        self._file.append(b"".join(lines))
        if fills:
            log.error("the salvage file is full: what mirrors take from this node goes unseen from now on")
            self._full = True
        return len(lines) - fills


def is_salvaged(ring: Ring, id: str) -> bool:
    """Whether what this node has kept from a former life may be what nobody else has."""
    comes = {node.id: node for node in ring.change.comes} if ring.change is not None else {}
    node = comes.get(id) or ring.by_id.get(id)
    return ring.acks == "one" or (node is not None and (id, node.data_id) in ring.left_behind)


def _shown(each: Taken) -> dict[str, Any]:
    record, by = each.record, each.by
    return {
        "slot": each.slot,
        **_text_of("key", each.key),
        **_text_of("value", record.value),
        "version": f"{record.epoch}.{record.seq}",
        "expires_ms": record.expiry or None,
        "became": "removed" if by is None else f"version {by[2]}.{by[3]}",
    }


def _text_of(name: str, content: bytes) -> dict[str, str]:
    """As text where it is that, else in base64, under a name that says so."""
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


class Salvaged(NamedTuple):
    """A line of a salvage file, read back."""

    key: bytes
    value: bytes
    expires_ms: int
    said: dict[str, Any]
    """The line itself."""


def read_salvage(path: Path) -> Iterator[Salvaged | str]:
    """What a salvage file holds, in its order; a sentence where a line says something else, or cannot be read. Raises
    OSError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                said = json.loads(line)
                if said.get("full"):
                    yield "the file was full then: what was taken after that was not written down"
                    continue
                yield Salvaged(_bytes_of(said, "key"), _bytes_of(said, "value"), _whole(said["expires_ms"] or 0), said)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                yield f"line {number} cannot be read ({error!r}): passed over"


def _whole(number: object) -> int:
    if type(number) is not int:
        raise ValueError(f"{number!r} is no whole number")
    return number


def _bytes_of(said: dict[str, Any], name: str) -> bytes:
    return str(said[name]).encode() if name in said else base64.b64decode(said[f"{name}_base64"], validate=True)
