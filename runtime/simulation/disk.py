"""Keeps what a simulated machine has on disk while processes on it come and go.

``SimulatedDisk`` holds the records (a ``MemoryDisk``) and small files; a process opens them, and when it is gone
``crash`` says what the next one finds:

    killed         everything that was written; what was not synced may still be gone if the power fails later
    lost power     of the records what was synced, and perhaps some batches after that; files whole, old or new
    disk lost      nothing
    another put in what was copied from it earlier
"""

from __future__ import annotations

import errno
import random
from typing import NamedTuple

from ..store.memory import MemoryDisk


class SimulatedFile:
    """A small file that is replaced whole, as ``DurableFile`` does it."""

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.full = False
        """The fault: there is no room for another content."""

    def read(self) -> bytes | None:
        """The content; None when there is no such file."""
        return self.content

    def write(self, content: bytes) -> None:
        """Raises OSError."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content = content


class SimulatedLines:
    """A file that is only appended to; a line that broke off stays, and the next begins a new one."""

    def __init__(self) -> None:
        self.content = b""
        self.full = False
        """The fault: there is room for a part of the next append, which breaks off, and for nothing after that."""

    def append(self, lines: bytes) -> None:
        """Raises OSError."""
        whole = not self.content or self.content.endswith(b"\n")
        if self.full:
            if whole:
                self.content += lines[: len(lines) // 2]
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content += lines if whole else b"\n" + lines

    def size(self) -> int:
        return len(self.content)


class DiskCopy(NamedTuple):
    """What was on a disk."""

    records: dict[bytes, bytes]
    files: dict[str, bytes | None]


LAST_KEY = b"\xff" * 16
"""Behind all keys of records."""


class SimulatedDisk:
    """One machine's disk."""

    def __init__(self, stream: random.Random) -> None:
        self.records = MemoryDisk()
        self.aside: MemoryDisk | None = None
        self.salvage = SimulatedLines()
        self.files: dict[str, SimulatedFile] = {}
        self._random = stream

    def file(self, name: str) -> SimulatedFile:
        """The file of that name; it comes into being when it is first asked for."""
        return self.files.setdefault(name, SimulatedFile())

    def lose_power(self) -> None:
        """The machine and all its processes are gone: so is what was not synced, or the last of it."""
        self.records = self.records.crash(torn=self._random)

    def copy(self) -> DiskCopy:
        """All that is on it now: a backup."""
        content = dict(self.records.items(b"", LAST_KEY))
        return DiskCopy(content, {name: file.content for name, file in self.files.items()})

    def put_back(self, copy: DiskCopy) -> None:
        """Have on it what was copied, and nothing else. No process may be using it."""
        self.records = MemoryDisk(dict(copy.records))
        self.files.clear()
        for name, content in copy.files.items():
            self.file(name).content = content

    def put_records_aside(self) -> None:
        """Begin with an empty store; the one before it is kept, and used by nobody."""
        self.aside, self.records = self.records, MemoryDisk()

    def wipe(self) -> None:
        """Everything on it is lost."""
        self.records, self.salvage = MemoryDisk(), SimulatedLines()
        self.files.clear()

    def fill(self, full: bool = True) -> None:
        """From now on there is no room for anything; or there is again."""
        self.records.full = self.salvage.full = full
        for file in self.files.values():
            file.full = full
