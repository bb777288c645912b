"""Keeps what makes a data folder one node's: whose it is, which directory it is, how many lives it has had.

    FOLDER/node.json      format, node id, data id, lives, bound, left, and how the life before ended (below); written
                          anew, synced, at every start
    FOLDER/WHOLE          an empty file that is there as long as the directory is whole (below)
    FOLDER/ring.json      the newest ring that the node has read
    FOLDER/store/         the records; beside what the store keeps there, data_id says to which folder they belong
    FOLDER/aside/         a damaged store that was put aside, the last one: store/, and its node.json
    FOLDER/LOCK           held while a process lives

The data id is what the ring means by "this data directory" (R14): made once, at random, never copied. The number of
lives is the first half of every incarnation, so the incarnations of one directory ascend, and of two registrations of
one node it is known which is the later (the other half is random: an incarnation is never guessed or met twice).

What the ring believes of the data id is true of the records only as long as they are those. So the two are bound:

    new -> node.json, not bound -> the store is opened, then gets its data_id -> bound

Until it is bound a node has served nobody, so a first start may be killed anywhere and tried again. Once it is, a store
that is missing, empty, or another folder's is refused: a node that came up with it would answer "no such key" for what
was acknowledged. An older copy of the right store is not told from it; who restores one should know.

*Whole* is a directory that lacks nothing of what the node has acknowledged (R16). It is after a life that synced before
it acknowledged (``fsync = always``), or ended in order (which syncs), or ended on a machine that has run on since: what
a killed process wrote is in the kernel, and is lost only with that. Whether it has run on, the boot id says. It is not
after a life in which a sync has failed, whatever was synced since: what the kernel could not write it may have dropped.
What was lost stays lost over any number of lives, until the ring calls the node up and no other might answer for its
lists: then it was made equal to others, or was taken for the best that is left.

That a sync has failed is written down by removing ``WHOLE``: a disk that has no room for another node.json has it for
that. Where node.json says that the file belongs to it (``marked``) and it is not there, the directory is not whole,
whatever else is said; one of an earlier release does not say that, and is read as it always was. The file is there
before node.json says that the directory is whole, so a life that is killed in between never leaves more than is true.
"""

import json
import logging
import secrets
import shutil
from pathlib import Path
from typing import IO

from ..runtime.durable import DurableFile, holder_of, lock_folder, make_folder, sync_folder

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the layout; a folder with a newer one is refused."""


BEFORE_THE_FIRST_LIFE = {"LOCK", "WHOLE", "node.json.new"}
"""What a folder may hold without being a node's yet: a first start was killed."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one at every start of the machine's kernel; where there is none, every life may be the first after one."""

NO_RECORDS = {"LOCK", "FORMAT", "FORMAT.new", "data_id", "data_id.new", "frozen"}
"""What a store's folder may hold without any records in it."""


class NodeFolderError(Exception):
    """Raised when a folder cannot be this node's; the text says why and what to do. Nothing in it was changed."""


class NodeFolder:
    """One node's folder, locked for this process until ``close``."""

    def __init__(self, path: Path, id: str, *, synced: bool = False, boot_id: str | None = None) -> None:
        """``synced``: this life acknowledges nothing that it has not synced; ``boot_id``: which start of the machine
        this is. Raises NodeFolderError, and OSError when the disk does not allow it."""
        make_folder(path)
        self.path, self._id, self._synced = path, id, synced
        self._boot_id = _boot_id() if boot_id is None else boot_id
        self.ring = DurableFile(path / "ring.json")
        self.store = path / "store"
        self._file = DurableFile(path / "node.json")
        self._mark = path / "WHOLE"
        self._store_file = DurableFile(self.store / "data_id")
        lock = lock_folder(path)
        if lock is None:
            raise NodeFolderError(
                f"{path} is in use by process {holder_of(path)}: one folder holds one node's data. "
                "Stop that process, or give this node a folder of its own."
            )
        self._lock: IO[str] = lock
        self._damage = ""
        self._lacking = False
        try:
            self._begin_life()
        except BaseException:
            self.close()
            raise

    def _begin_life(self) -> None:
        content = self._file.read()
        if content is None:
            if any(each.name not in BEFORE_THE_FIRST_LIFE for each in self.path.iterdir()):
                raise NodeFolderError(
                    f"{self.path} holds files, but none that says it is a node's folder (node.json): "
                    "give the node an empty folder, or its own."
                )
            self.data_id, self._lives, self._bound, self.whole = secrets.token_hex(8), 0, False, True
            self.answered_alone = False
        else:
            self.data_id, self._lives, self._bound, self.whole = self._read(content)
            if self._damage:
                self._begin_anew()
            self._check_store()
        self._left = self._ended = False
        self._lives += 1
        self.incarnation = f"{self._lives & 0xFFFFFFFF:08x}{secrets.token_hex(4)}"
        self._write()

    def _write(self) -> None:
        if self.whole:
            self._mark.touch()  # synced with the folder, below
        document = {
            "format": FORMAT,
            "id": self._id,
            "data_id": self.data_id,
            "lives": self._lives,
            "bound": self._bound,
            "left": self._left,
            "ended": self._ended,
            "synced": self._synced,
            "boot_id": self._boot_id,
            "whole": self.whole,
            "marked": True,
            "answered_alone": self.answered_alone,
            "damaged": self._damage,
        }
        self._file.write(json.dumps(document, indent=2).encode() + b"\n")

    def bind_store(self) -> None:
        """From now on this folder and the store in ``store`` belong together; call when it is open. Raises OSError."""
        if not self._bound:
            self._store_file.write(self.data_id.encode() + b"\n")
            self._bound = True
            self._write()

    def note_left(self, has_left: bool = True) -> None:
        """Write down that the node has left the ring, which is the end of this life; or that it was asked for again.
        Raises OSError."""
        self._left = has_left
        self._write()

    def note_whole(self) -> None:
        """Write down that nothing is lacking any more: the ring calls the node up. Raises OSError."""
        if not self._lacking:
            self.whole = True
            self._write()

    def note_not_whole(self) -> None:
        """Write down that the next life is not whole, whatever is synced after this: what was written may not all be on
        disk, or a mirror is to take some of it away (R16). Needs no room on the disk. Raises OSError."""
        self._lacking, self.whole = True, False
        self._mark.unlink(missing_ok=True)
        sync_folder(self.path)

    def note_answered_alone(self) -> None:
        """Write down that from now on the store may hold what was acknowledged and that nobody else has. Raises
        OSError."""
        if not self.answered_alone:
            self.answered_alone = True
            try:
                self._write()
            except OSError:
                self.answered_alone = False  # so that the next attempt writes it, and is not taken at its word
                raise

    def note_ended(self) -> None:
        """Write down that this life has ended in order, all that it wrote synced. Raises OSError."""
        self._ended = True
        self._write()

    def note_damaged(self, why: str) -> None:
        """Write down that the next life is to put the store aside: it is damaged, and others have what was in it.
        Raises OSError."""
        self._damage = why
        self._write()

    def put_aside(self, why: str) -> None:
        """Put a damaged store aside that is not open, and begin with an empty one. Raises OSError."""
        self.note_damaged(why)
        self._begin_anew()
        self._write()

    def _begin_anew(self) -> None:
        """May be done again where it was broken off: what says that it is to be done goes last."""
        aside = self.path / "aside"
        if self.store.exists():
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            shutil.copyfile(self.path / "node.json", aside / "node.json")
            self.store.rename(aside / "store")
            sync_folder(self.path)
        log.critical(
            "the store of %s is damaged (%s). It is put aside as %s, and the node begins with an empty one, which will "
            "be made equal to the other copies",
            self._id, self._damage, aside,
        )  # fmt: skip
        self.data_id, self._bound, self.whole, self._damage = secrets.token_hex(8), False, True, ""
        self.answered_alone = False

    def _check_store(self) -> None:
        """Raises NodeFolderError unless the store is the one that this folder was bound to."""
        found = (self._store_file.read() or b"").decode("ascii", "replace").strip()
        if found and found != self.data_id:
            raise NodeFolderError(
                f"{self.store} is not this node's store: it belongs to the data directory {found!r}, {self.path} is "
                f"{self.data_id!r}. A node that served it would lack what was written to this one. Put this one's own "
                "store back."
            )
        if self._bound and not (found and self._holds_records()):
            raise NodeFolderError(
                f"the records of {self._id} are gone: {self.path} has been in use, and {self.store} is missing or "
                "emptied. A node that came up like this would answer that keys do not exist which it has acknowledged. "
                f"Put {self.store} back as it was. If it is lost, so are its records: {self._id} can begin anew with "
                "an empty folder, as another data directory, and is made equal to the other copies where there are any."
            )

    def _holds_records(self) -> bool:
        """Whether there is anything of the store's engine, whichever that is."""
        parts = [each for each in self.store.iterdir() if each.name not in NO_RECORDS]
        return any(not part.is_dir() or any(part.iterdir()) for part in parts)

    def _read(self, content: bytes) -> tuple[str, int, bool, bool]:
        """Its data id, lives, whether it is bound, and whether it is whole. Raises NodeFolderError."""
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
            data_id, lives, bound = str(document["data_id"]), int(document["lives"]), document.get("bound", False)
            if type(bound) is not bool:
                raise ValueError("bound is not true or false")
            ran_on = document.get("boot_id", "") == self._boot_id != ""
            kept = document.get("synced") is True or document.get("ended") is True or ran_on
            marked = self._mark.exists() or document.get("marked") is not True
            whole = document.get("whole", True) is True and kept and marked
            self._damage = str(document.get("damaged", ""))
            self.answered_alone = document.get("answered_alone", False) is True
        except (ValueError, KeyError, TypeError) as error:
            raise NodeFolderError(
                f"{self.path / 'node.json'} cannot be read ({error!r}): the folder is damaged or not a node's. "
                "Restore it, or give the node an empty folder."
            ) from error
        if owner != self._id:
            raise NodeFolderError(
                f"{self.path} holds the data of {owner}, not of {self._id}: a node that served it would answer for "
                f"keys that it has not got. Start {owner} on it, or give {self._id} a folder of its own."
            )
        return data_id, lives, bound, whole

    def close(self) -> None:
        """Give the folder free."""
        self._lock.close()


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def has_left(path: Path) -> bool:
    """Whether the last life on a folder ended because the node left the ring; False where nothing says so."""
    try:
        return json.loads((path / "node.json").read_bytes())["left"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False
