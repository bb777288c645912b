"""Keeps a store's folder: which release and engine wrote it, and that one process at a time has it.

    FORMAT      one line: ringkeeper store, format 1, engine rocksdb
    LOCK        held while a process has the store; names that process

Beside these the engine keeps what it likes.
"""

import re
from pathlib import Path

from ..durable import DurableFile, holder_of, lock_folder, sync_folder
from .disk import StoreError

FORMAT = 1
"""Version of what is in the folder; a newer one is refused."""


class StoreFolder:
    """A folder of one engine's, locked for this process until `close`."""

    def __init__(self, path: Path, engine: str) -> None:
        """Raises StoreError, before anything is changed, when the folder is another's, newer, or in use."""
        self._path, self._engine = path, engine
        format_file = DurableFile(path / "FORMAT")
        try:
            self._check(format_file.read())
            path.mkdir(parents=True, exist_ok=True)
            lock = lock_folder(path)
            if lock is None:
                raise StoreError(
                    f"{path} is in use by process {holder_of(path)}: one process at a time may have a store. "
                    "Stop that process, or choose another folder."
                )
            self._lock = lock
            try:
                content = format_file.read()
                self._check(content)
                if content is None:
                    self._claim(format_file)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise StoreError(f"{path} cannot hold a store: {error}. Check the path, its owner and the disk.") from error

    def _check(self, content: bytes | None) -> None:
        if content is None:
            return
        line = re.fullmatch(rb"ringkeeper store, format (\d{1,9}), engine (\w+)\n", content)
        if line is None:
            raise StoreError(
                f"{self._path / 'FORMAT'} cannot be read, so nobody knows what the folder holds: it is damaged or not "
                "a store's. Restore it, or choose an empty folder."
            )
        if int(line[1]) > FORMAT:
            raise StoreError(
                f"{self._path} was written by a newer release (format {int(line[1])}, this release knows {FORMAT}): "
                "use that release, or another folder. Nothing was changed."
            )
        if line[2].decode() != self._engine:
            raise StoreError(
                f"{self._path} was written by the engine {line[2].decode()}, not by {self._engine}: "
                "open it with that, or choose another folder. Nothing was changed."
            )

    def _claim(self, format_file: DurableFile) -> None:
        if strangers := sorted({each.name for each in self._path.iterdir()} - {"LOCK", "FORMAT.new"}):
            raise StoreError(
                f"{self._path} holds files ({', '.join(strangers[:3])}) but no FORMAT, so it is not a store's folder: "
                "choose an empty folder, or a store's."
            )
        format_file.write(b"ringkeeper store, format %d, engine %b\n" % (FORMAT, self._engine.encode()))
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Give the folder free."""
        self._lock.close()
