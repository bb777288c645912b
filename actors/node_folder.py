"""Keeps what makes a data folder one node's: whose it is, which directory it is, how many lives it has had.

    FOLDER/node.json      format, node id, data id, lives; written anew, synced, at every start
    FOLDER/ring.json      the newest ring that the node has read
    FOLDER/store/         the records
    FOLDER/LOCK           held while a process lives

The data id is what the ring means by "this data directory" (R14): made once, at random, never copied. The number of
lives is the first half of every incarnation, so the incarnations of one directory ascend, and of two registrations of
one node it is known which is the later (the other half is random: an incarnation is never guessed or met twice).
"""

import json
import secrets
from pathlib import Path
from typing import IO

from ..runtime.durable import DurableFile, holder_of, lock_folder, sync_folder

FORMAT = 1
"""Version of the layout; a folder with a newer one is refused."""


class NodeFolderError(Exception):
    """Raised when a folder cannot be this node's; the text says why and what to do. Nothing in it was changed."""


class NodeFolder:
    """One node's folder, locked for this process until ``close``."""

    def __init__(self, path: Path, id: str) -> None:
        """Raises NodeFolderError, and OSError when the disk does not allow it."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        lock = lock_folder(path)
        if lock is None:
            raise NodeFolderError(
                f"{path} is in use by process {holder_of(path)}: one folder holds one node's data. "
                "Stop that process, or give this node a folder of its own."
            )
        self._lock: IO[str] = lock
        try:
            self._begin_life(id)
        except BaseException:
            self.close()
            raise
        self.ring = DurableFile(path / "ring.json")
        self.store = path / "store"

    def _begin_life(self, id: str) -> None:
        file = DurableFile(self.path / "node.json")
        content = file.read()
        if content is None:
            if any(each.name != "LOCK" for each in self.path.iterdir()):
                raise NodeFolderError(
                    f"{self.path} holds files, but none that says it is a node's folder (node.json): "
                    "give the node an empty folder, or its own."
                )
            self.data_id, lives = secrets.token_hex(8), 0
        else:
            self.data_id, lives = self._read(content, id)
        self.incarnation = f"{(lives + 1) & 0xFFFFFFFF:08x}{secrets.token_hex(4)}"
        document = {"format": FORMAT, "id": id, "data_id": self.data_id, "lives": lives + 1}
        file.write(json.dumps(document, indent=2).encode() + b"\n")
        sync_folder(self.path.parent)

    def _read(self, content: bytes, id: str) -> tuple[str, int]:
        try:
            document = json.loads(content)
            format, owner = document["format"], document["id"]
            if type(format) is not int:
                raise ValueError("format is not a number")
            if format > FORMAT:
                raise NodeFolderError(
                    f"{self.path} was written by a newer release (format {format}, this release knows {FORMAT}): "
                    "use that release, or another folder."
                )
            data_id, lives = str(document["data_id"]), int(document["lives"])
        except (ValueError, KeyError, TypeError) as error:
            raise NodeFolderError(
                f"{self.path / 'node.json'} cannot be read ({error!r}): the folder is damaged or not a node's. "
                "Restore it, or give the node an empty folder."
            ) from error
        if owner != id:
            raise NodeFolderError(
                f"{self.path} holds the data of {owner}, not of {id}: a node that served it would answer for keys that "
                f"it has not got. Start {owner} on it, or give {id} a folder of its own."
            )
        return data_id, lives

    def close(self) -> None:
        """Give the folder free."""
        self._lock.close()
