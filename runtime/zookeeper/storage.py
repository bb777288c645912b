"""Keeps a tree on disk, so that what was acknowledged outlives the process.

SQLite, one row per znode and session, as anybody may look at with the ``sqlite3`` tool. A batch of transactions is one
SQLite transaction, synced before ``write`` returns (write-ahead log, ``synchronous=FULL``): after a crash or a power
cut the tree is that of the last batch written, or of the one under way, whole.

A row carries a checksum, since SQLite has none for its pages. SQLite takes the first broken frame of its log for the
log's end, as it must after a power cut; ``_refuse_a_broken_log`` tells that apart from a flipped bit, which would take
acknowledged transactions with it.

The directory belongs to one server at a time (``lock``). Its format has a number (``PRAGMA user_version``); a newer
one is refused.
"""

import fcntl
import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from .records import Acl, Acls
from .tree import TREE_BYTES_MAX, Changes, Session, Tree, Znode

FORMAT = 1
APPLICATION = 0x524B5A4B
"""Written into the file ("RKZK"), so that another program's database is not taken for ours."""

FILE = "zookeeper.sqlite"
LOG = FILE + "-wal"
DAMAGED_LOG = FILE + "-damaged"

_SCHEMA = f"""
BEGIN;
CREATE TABLE znodes (
    path TEXT PRIMARY KEY, data BLOB, acls TEXT NOT NULL,
    czxid INTEGER NOT NULL, mzxid INTEGER NOT NULL, pzxid INTEGER NOT NULL, ctime INTEGER NOT NULL,
    mtime INTEGER NOT NULL, version INTEGER NOT NULL, creates INTEGER NOT NULL, aversion INTEGER NOT NULL,
    owner INTEGER NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE sessions (id INTEGER PRIMARY KEY, password BLOB NOT NULL, timeout_ms INTEGER NOT NULL);
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO state VALUES ('zxid', 0);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
COMMIT;
"""


class DataError(Exception):
    """The data directory cannot be used. The message says why and what to do."""


class Storage:
    """One data directory. Raises DataError from every method when the disk, or what is on it, is not as it must be."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = self._lock_directory()
        try:
            self._database = self._open()
        except BaseException:
            self._lock.close()
            raise

    def _lock_directory(self) -> TextIO:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = open(self.directory / "lock", "a+")  # noqa: SIM115 (held until close)
        except OSError as error:
            raise DataError(f"{self.directory} cannot be used as the data directory: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read(20).strip() or "unknown"
            lock.close()
            raise DataError(
                f"{self.directory} is in use by another ZooKeeper server (process {holder}). "
                "Stop that one, or give this one a directory of its own."
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return lock

    def _open(self) -> sqlite3.Connection:
        file = self.directory / FILE
        is_new = not file.exists()
        commits = _commits_in_log(self.directory / LOG)
        try:
            # Sessions' passwords are in it, and other users of the host can reach the port. The log gets its mode.
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
            database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(database, is_new)
                _refuse_a_broken_log(database, file, commits)
            except BaseException:
                database.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"{file} cannot be read: {error}. If it is damaged, restore it from a copy; "
                "if no copy exists, moving the directory away starts an empty tree."
            ) from error
        if is_new:
            _sync_directory(self.directory)
            _sync_directory(self.directory.parent)
        return database

    def _prepare(self, database: sqlite3.Connection, is_new: bool) -> None:
        if not is_new:
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (format,) = database.execute("PRAGMA user_version").fetchone()
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            is_new = not tables and not application  # a crash between creating the file and filling it
            if not is_new and application != APPLICATION:
                raise DataError(f"{self.directory / FILE} is not a ZooKeeper tree of ringkeeper. Nothing was touched.")
            if format > FORMAT:
                raise DataError(
                    f"{self.directory} was written by a newer ringkeeper (format {format}, this one reads up to "
                    f"{FORMAT}). Nothing was touched. Start the newer one."
                )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        if is_new:
            database.executescript(_SCHEMA)

    def load(self, *, bytes_max: int = TREE_BYTES_MAX) -> Tree:
        """The tree as it was last written. Raises DataError when a row is not what was written."""
        try:
            (zxid,) = self._database.execute("SELECT value FROM state WHERE name = 'zxid'").fetchone()
            sessions = [
                (id, Session(password, timeout_ms))
                for id, password, timeout_ms in self._database.execute("SELECT id, password, timeout_ms FROM sessions")
            ]
            return Tree.restore(zxid, self._znodes(), sessions, bytes_max=bytes_max)
        except sqlite3.Error as error:
            raise DataError(f"{self.directory / FILE} cannot be read: {error}. Restore it from a copy.") from error

    def _znodes(self) -> Iterator[tuple[str, Znode]]:
        known_acls: dict[str, Acls] = {}  # nearly all znodes have the same few lists
        for path, *row, checksum in self._database.execute(
            "SELECT path, data, acls, czxid, mzxid, pzxid, ctime, mtime, version, creates, aversion, owner, checksum"
            " FROM znodes"
        ):
            if _checksum(path, row) != checksum:
                raise DataError(
                    f"{self.directory / FILE}: the row of {path!r} is not what was written (checksum). The disk or "
                    "somebody changed it. Restore the file from a copy."
                )
            data, acls_text, *numbers = row
            if acls_text not in known_acls:
                known_acls[acls_text] = tuple(Acl(*entry) for entry in json.loads(acls_text))
            yield path, Znode(data, known_acls[acls_text], *numbers)

    def write(self, changes: Changes) -> None:
        """Make a batch durable; when this returns it is. When it raises, none of it is kept."""
        rows = []
        for path, node in changes.znodes:
            if node is not None:
                row = [node.data, json.dumps(node.acls), *node[2:]]
                rows.append((path, *row, _checksum(path, row)))
        gone = [(path,) for path, node in changes.znodes if node is None]
        database = self._database
        try:
            database.execute("BEGIN")
            if gone:
                database.executemany("DELETE FROM znodes WHERE path = ?", gone)
            if rows:
                database.executemany("REPLACE INTO znodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            for id, session in changes.sessions:
                if session is None:
                    database.execute("DELETE FROM sessions WHERE id = ?", (id,))
                else:
                    database.execute("REPLACE INTO sessions VALUES (?, ?, ?)", (id, *session))
            database.execute("UPDATE state SET value = ? WHERE name = 'zxid'", (changes.zxid,))
            database.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise DataError(f"{self.directory / FILE} cannot be written: {error}") from error

    def reopen(self) -> None:
        """Forget what the process believes about the files, after a failed write."""
        self._database.close()
        self._database = self._open()

    def close(self) -> None:
        self._database.close()
        self._lock.close()


def _checksum(path: str, row: Sequence[object]) -> int:
    data, *rest = row
    assert data is None or isinstance(data, bytes)
    return zlib.crc32(data or b"", zlib.crc32(repr((path, data is None, *rest)).encode("utf-8", "surrogatepass")))


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_LOG_HEADER = struct.Struct(">8I")
_LOG_FRAME = struct.Struct(">6I")


def _commits_in_log(log: Path) -> list[int]:
    """Numbers, from 1, of the frames in SQLite's log that end a transaction, by the frames' headers alone."""
    try:
        with open(log, "rb") as file:
            header = file.read(_LOG_HEADER.size)
            if len(header) < _LOG_HEADER.size:
                return []
            _, _, page_bytes, _, *salts, _, _ = _LOG_HEADER.unpack(header)
            commits = []
            number = 0
            while len(head := file.read(_LOG_FRAME.size)) == _LOG_FRAME.size:
                number += 1
                _, size_after_commit, *frame_salts, _, _ = _LOG_FRAME.unpack(head)
                if frame_salts == salts and size_after_commit:
                    commits.append(number)
                file.seek(page_bytes, os.SEEK_CUR)
            return commits
    except FileNotFoundError:
        return []


def _refuse_a_broken_log(database: sqlite3.Connection, file: Path, commits: list[int]) -> None:
    """Raise DataError if SQLite stopped reading its log before what was certainly synced.

    A transaction begins only after the one before it was synced. So of what lies behind the first broken frame the
    last transaction may be the unfinished one of a power cut; a second one there proves that a synced frame is broken.
    Damage within the very last transaction looks like that power cut and is not found.

    SQLite deletes its log when it closes, so the damaged one is put aside first. While it lies there nothing starts.
    """
    _, frames_read, _ = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if sum(number > frames_read for number in commits) > 1:
        os.rename(file.with_name(LOG), file.with_name(DAMAGED_LOG))
    if file.with_name(DAMAGED_LOG).exists():
        raise DataError(
            f"the log of {file} was damaged after it was written: transactions that were acknowledged are missing. "
            f"Restore the directory from a copy. To go on without them, remove {file.with_name(DAMAGED_LOG)}."
        )
