"""Keeps small files so that a crash or a power cut leaves the old content or the new, never a part."""

import fcntl
import os
from pathlib import Path
from typing import IO


class DurableFile:
    """A file that is replaced whole and synced before ``write`` returns. Raises OSError."""

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        self.path, self._mode = path, mode

    def read(self) -> bytes | None:
        """The content; None when there is no such file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        beside = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self._mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        sync_folder(self.path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, so that their names survive a power cut. Raises OSError."""
    missing = not folder.is_dir()
    if missing:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    try:
        sync_folder(folder.parent)  # also of one that is there: it may have been made a moment before a kill
    except PermissionError:
        if missing:
            raise  # else it is somebody else's, who made it: above it we are not let in


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder: Path, name: str = "LOCK") -> IO[str] | None:
    """Hold a folder for this process alone, until the file is closed or the process ends; None: another holds it.

    The file says which process holds it (``holder_of``).
    """
    file = open(folder / name, "a+", encoding="ascii")  # noqa: SIM115  # stays open as long as the lock is held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder_of(folder: Path, name: str = "LOCK") -> str:
    """The process id in a lock file, as text; "" when it holds none."""
    try:
        return (folder / name).read_text("ascii").strip()
    except OSError:
        return ""
