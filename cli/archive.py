"""Keeps a backup in a folder: which parts there are, what they held, and that they still do.

    manifest.json                             what all of it is, and a line of facts for each part
    slots-00000-00063.7.part                  a part, of the 7th backup in this folder: blocks of records
    fetched.jsonl                             lines about parts of a backup that is not finished
    LOCK                                      held while a backup is being made; names that process

A block is four bytes of length (big endian) and a msgpack array of [key, value, expiry]. A part's SHA-256 is in the
manifest. The manifest is replaced last, whole, and only then are files removed that it does not name: a backup that was
broken off leaves the one before it as it was, and what it had fetched to the next.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from ..actors.rules.slots import SLOTS, Run
from ..runtime.durable import DurableFile, holder_of, lock_folder, make_folder, sync_folder

FORMAT = 1
LENGTH_BYTES = 4
BLOCK_BYTES_MAX = 256 * 1024 * 1024
READ_BYTES = 1024 * 1024
PARTS = "slots-*.part"
FETCHED = "fetched.jsonl"
BESIDE = {"LOCK", "manifest.json.new", FETCHED}
"""What may lie in a folder that holds no backup yet."""
WHAT = "a backup of a ringkeeper cluster"


class Record(NamedTuple):
    """A key with its value, and when it expires: milliseconds since the Unix epoch, 0 is never."""

    key: bytes
    value: bytes
    expiry: int


class ArchiveError(Exception):
    """Raised when a folder is no backup, or a damaged one. The text says which file, and what to do."""


class Part(msgspec.Struct, kw_only=True, frozen=True):
    """Some slots, as they were at one moment at their coordinator."""

    file: str
    first: int
    last: int
    mark: str
    """Tells this content from any other these slots have had; "": it does not."""
    node: str
    keys: int
    bytes: int
    """Of keys and values."""
    sha256: str


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """What a backup holds."""

    what: str = WHAT
    format: int = FORMAT
    number: int
    """How many backups have been made in this folder, this one included."""
    cluster: str
    cluster_id: str
    epoch: int
    """Of the ring at the end of the backup."""
    made_at: str
    keys: int
    bytes: int
    parts: tuple[Part, ...]
    ring: dict[str, Any]


class Fetched(msgspec.Struct, kw_only=True, frozen=True):
    """A part of a backup that is not finished."""

    cluster_id: str
    part: Part


_records = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, int]])


def first_gap(found: Iterable[Run]) -> int | None:
    """From which slot on they are not all slots in order, each once; None: they are."""
    following = 0
    for first, last in found:
        if not following == first <= last < SLOTS:
            return following
        following = last + 1
    return following if following < SLOTS else None


class Archive:
    """A backup's folder. Raises ArchiveError, and OSError where the folder cannot be used at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = DurableFile(folder / "manifest.json")
        self._lock: IO[str] | None = None

    def manifest(self) -> Manifest | None:
        """None: there is none yet."""
        content = self._file.read()
        if content is None:
            return None
        try:
            format = json.loads(content)["format"]
            if type(format) is int and format > FORMAT:
                raise ArchiveError(
                    f"{self.folder} was written by a newer release (format {format}, this one knows {FORMAT}): use that"
                )
            manifest = msgspec.json.decode(content, type=Manifest)
        except (ValueError, KeyError, TypeError, RecursionError, msgspec.MsgspecError) as error:
            raise ArchiveError(
                f"{self._file.path} cannot be read ({error}): {self.folder} is damaged, or no backup"
            ) from error
        missing = first_gap(Run(part.first, part.last) for part in manifest.parts)
        sums = sum(part.keys for part in manifest.parts), sum(part.bytes for part in manifest.parts)
        if missing is not None or sums != (manifest.keys, manifest.bytes):
            why = "its parts do not add up" if missing is None else f"its parts are not all slots, from {missing} on"
            raise ArchiveError(
                f"{self._file.path} is not what was written ({why}): {self.folder} is damaged. Nothing was changed. "
                "Another backup may be whole"
            )
        return manifest

    def prepare(self) -> Manifest | None:
        """Make the folder fit for a backup, and hold it for this process until `close`; returns the one that is there.
        One that was broken off before there was a first one is no obstacle."""
        if self.manifest() is None and self.folder.is_dir():
            names = sorted(each.name for each in self.folder.iterdir())
            strangers = [name for name in names if name not in BESIDE and not fnmatch(name, PARTS)]
            if strangers:
                raise ArchiveError(
                    f"{self.folder} holds files ({', '.join(strangers[:3])}) and no backup: choose an empty folder, or "
                    "a new one"
                )
        make_folder(self.folder)
        self._lock = lock_folder(self.folder)
        if self._lock is None:
            raise ArchiveError(
                f"process {holder_of(self.folder)} is making a backup in {self.folder}: one at a time. Nothing was "
                "changed"
            )
        return self.manifest()

    def close(self) -> None:
        """Give the folder free."""
        if self._lock is not None:
            self._lock.close()

    def write(self, name: str, blocks: Iterable[list[Record]]) -> tuple[int, int, str]:
        """Write a part; returns its keys, their bytes, and its SHA-256."""
        keys = size = 0
        digest = hashlib.sha256()
        with open(self.folder / name, "wb") as file:
            for block in blocks:
                content = msgspec.msgpack.encode(block)
                framed = len(content).to_bytes(LENGTH_BYTES, "big") + content
                file.write(framed)
                digest.update(framed)
                keys += len(block)
                size += sum(len(record.key) + len(record.value) for record in block)
            file.flush()
            os.fsync(file.fileno())
        return keys, size, digest.hexdigest()

    def note(self, fetched: Fetched) -> None:
        """Leave a part to the next backup, should this one be broken off."""
        with open(self.folder / FETCHED, "ab") as file:
            file.write(msgspec.json.encode(fetched) + b"\n")

    def noted(self, cluster_id: str) -> Iterator[Part]:
        """What was left of this cluster. As after any crash, only what ``holds`` says so is what was written."""
        with contextlib.suppress(FileNotFoundError), open(self.folder / FETCHED, "rb") as file:
            for line in file:
                with contextlib.suppress(msgspec.MsgspecError):
                    fetched = msgspec.json.decode(line, type=Fetched)
                    if fetched.cluster_id == cluster_id:
                        yield fetched.part

    def finish(self, manifest: Manifest) -> None:
        """Make a backup the one of this folder, and remove what belongs to the one before alone."""
        sync_folder(self.folder)
        self._file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        named = {part.file for part in manifest.parts}
        for path in self.folder.glob(PARTS):
            if path.name not in named:
                path.unlink()
        (self.folder / FETCHED).unlink(missing_ok=True)

    def holds(self, part: Part) -> bool:
        """Whether a part's file is what was written."""
        digest = hashlib.sha256()
        try:
            with open(self.folder / part.file, "rb") as file:
                while content := file.read(READ_BYTES):
                    digest.update(content)
        except OSError:
            return False
        return digest.hexdigest() == part.sha256

    def check(self, part: Part) -> None:
        """Raises ArchiveError unless it is."""
        path = self.folder / part.file
        if path.parent != self.folder or "\0" in part.file or not self.holds(part):
            raise ArchiveError(
                f"{path} is missing or damaged: slots {part.first}-{part.last} cannot be restored from it. Nothing was "
                "written. Another backup may have them"
            )

    def read(self, part: Part) -> Iterator[list[Record]]:
        """The records of a part that was checked, block by block."""
        with open(self.folder / part.file, "rb") as file, contextlib.suppress(EOFError):
            while header := file.read(LENGTH_BYTES):
                size = int.from_bytes(header, "big")
                if size > BLOCK_BYTES_MAX:
                    raise ArchiveError(f"{part.file} holds a block of {size} bytes: it is damaged")
                yield [Record(*each) for each in _records.decode(file.read(size))]
