"""Hands out what a node holds of the slots that it coordinates, as it was at one moment: ``RING BACKUP``.

Hears   AskBackup                       from Gateway
        Served                          from StorageNode
        Frozen                          from Freezer
        BackupIdle                      from itself
Tells   BackupTold -> Gateway; ReportServed -> StorageNode; Freeze -> Freezer

    OPEN -> ReportServed -> Served -> Freeze -> Frozen -> ReportServed -> Served -> open --READ...--> CLOSE, or idle

A backup takes each slot from its coordinator, and all of a slot as of one moment. So StorageNode is asked before and
after the disk is frozen (a checkpoint, made on a thread of its own) what it coordinates for certain, its lease
included: what it says both times under one ring is in the backup with everything that was acknowledged before.

Slots are cut into *parts*. What tells the content of a part from any other is made of its slots' numbers (R4): a number
is never given twice, so equal ones mean that nothing was written. It is said only where it was the same before and
after, so that it is certainly that of what was frozen; by it a later backup knows what it need not fetch again.

A node keeps one backup at a time, since a frozen disk takes room while others go on; who opens another ends it.
"""

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import msgspec

from ..runtime.actor import Actor, BlockingActor, Ref
from ..runtime.message import message
from ..runtime.store import FrozenDisk, Record, Store, StoreError
from .messages import AskBackup, BackupTold, Freeze, Frozen, ReportServed, Served
from .rules.slots import SLOTS

PART_SLOTS_MAX = 64
"""So many slots are fetched, kept and told apart as one."""

READ_BYTES_MAX, READ_KEYS_MAX = 256 * 1024, 2000
"""The most that one READ returns, one record excepted: what one turn of the loop takes from the disk."""

IDLE_SECONDS_MAX = 60.0
"""A backup that nobody reads from for so long has ended."""

USAGE = "ERR RING BACKUP OPEN | READ backup first last [slot key] | CLOSE backup"
GONE = "ERR that backup is not open here any more: it was idle for too long, another was opened, or the node restarted"
BUSY = "TRYAGAIN a backup is being opened here"
MOVED_ON = "TRYAGAIN the ring changed while the backup was opened"


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class BackupIdle:
    """Somebody may have forgotten a backup; local. Backup -> Backup."""

    backup: int


class Freezer(BlockingActor):
    """Freezes a disk, which takes a moment.

    Hears   Freeze      from Backup
    Tells   Frozen -> Backup
    """

    def __init__(self, *, store: Store) -> None:
        super().__init__()
        self._store = store

    def on_receive(self, message: Freeze) -> None:
        try:
            frozen = Frozen(backup=message.backup, disk=self._store.disk.freeze())
        except StoreError as failure:
            frozen = Frozen(backup=message.backup, error=str(failure))
        self.send(message.reply_to, frozen)


class Opening(NamedTuple):
    """A backup that is being opened."""

    number: int
    asked: AskBackup
    before: Served | None = None
    disk: FrozenDisk | None = None


class Block(msgspec.Struct, array_like=True):
    """What one READ returns: records in the order of (slot, key), and the cursor of the next; None: that was all."""

    records: list[tuple[bytes, bytes, int]]
    """Key, value, expiry (milliseconds since the Unix epoch, 0: never)."""
    after: tuple[int, bytes] | None


class Backup(Actor):
    """The backups of one node."""

    def __init__(self, *, store: Store, storage: Ref, freezer: Ref) -> None:
        super().__init__()
        self._store, self._storage, self._freezer = store, storage, freezer
        self._number = self.random.getrandbits(32)
        self._opening: Opening | None = None
        self._open: tuple[int, FrozenDisk] | None = None
        self._read_at = 0.0

    def on_stop(self) -> None:
        self._end()

    def on_receive(self, message: AskBackup | Served | Frozen | BackupIdle) -> None:
        match message:
            case AskBackup():
                self._asked(message)
            case Served():
                self._served(message)
            case Frozen():
                self._frozen(message)
            case BackupIdle():
                self._look_whether_idle(message)
            case _:
                assert_never(message)

    def _asked(self, message: AskBackup) -> None:
        match [message.words[0].upper(), *message.words[1:]] if message.words else []:
            case [b"OPEN"] if self._opening is not None:
                self._tell(message, error=BUSY)
            case [b"OPEN"]:
                self._end()
                self._number += 1
                self._opening = Opening(self._number, message)
                self._ask_what_is_served()
            case [b"READ", backup, first, last, *cursor] if len(cursor) in (0, 2):
                begin = cursor[0] if cursor else first
                if None in map(_number, (first, begin, last)) or not int(first) <= int(begin) <= int(last) < SLOTS:
                    self._tell(message, error=USAGE)
                else:
                    after = (int(begin), cursor[1]) if cursor else None
                    self._read(message, backup, int(first), int(last), after)
            case [b"CLOSE", backup]:
                if self._is_open(backup):
                    self._end()
                self._tell(message, b"OK")
            case _:
                self._tell(message, error=USAGE)

    # Opening

    def _ask_what_is_served(self) -> None:
        self.send(self._storage, ReportServed(question=self._number, slots_max=PART_SLOTS_MAX, reply_to=self.ref))

    def _served(self, message: Served) -> None:
        opening = self._opening
        if opening is None or opening.number != message.question:
            return
        if opening.disk is None:
            self._opening = opening._replace(before=message)
            self.send(self._freezer, Freeze(backup=opening.number, reply_to=self.ref))
            return
        self._opening = None
        assert opening.before is not None
        if opening.before.epoch != message.epoch:
            opening.disk.close()
            self._tell(opening.asked, error=MOVED_ON)
            return
        before = {part[:2]: part[2] for part in opening.before.parts}
        parts = [
            {
                "first": first,
                "last": last,
                "mark": mark if before[first, last] == mark else "",
                "keys": keys,
                "bytes": size,
            }
            for first, last, mark, keys, size in message.parts
            if (first, last) in before
        ]
        self._open, self._read_at = (opening.number, opening.disk), self.now()
        self.after(IDLE_SECONDS_MAX, BackupIdle(backup=opening.number))
        content = {"backup": opening.number, "epoch": message.epoch, "parts": parts}
        self._tell(opening.asked, json.dumps(content).encode())

    def _frozen(self, message: Frozen) -> None:
        opening = self._opening
        if opening is None or opening.number != message.backup:
            if message.disk is not None:
                message.disk.close()
        elif message.error:
            self._opening = None
            self._tell(opening.asked, error=f"ERR {message.error}")
        else:
            self._opening = opening._replace(disk=message.disk)
            self._ask_what_is_served()

    # Reading

    def _read(self, message: AskBackup, backup: bytes, first: int, last: int, after: tuple[int, bytes] | None) -> None:
        if self._open is None or not self._is_open(backup):
            self._tell(message, error=GONE)
            return
        self._read_at = self.now()
        try:
            with closing(self._store.frozen_records(self._open[1], first, last, after)) as records:
                block = _block(records, int(self.wall() * 1000))
        except StoreError as failure:
            self._tell(message, error=f"ERR {failure}")
        else:
            self._tell(message, msgspec.msgpack.encode(block))

    def _is_open(self, backup: bytes) -> bool:
        return self._open is not None and _number(backup) == self._open[0]

    def _look_whether_idle(self, message: BackupIdle) -> None:
        if self._open is not None and self._open[0] == message.backup:
            left = self._read_at + IDLE_SECONDS_MAX - self.now()
            if left <= 0:
                self._end()
            else:
                self.after(left, message)

    def _end(self) -> None:
        """Let go of what is frozen."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _tell(self, asked: AskBackup, content: bytes = b"", error: str = "") -> None:
        self.send(asked.reply_to, BackupTold(question=asked.question, content=content, error=error))


def _block(records: Iterable[tuple[int, bytes, Record]], now_ms: int) -> Block:
    """The first records, less those that have expired, as far as the bounds allow."""
    taken: list[tuple[bytes, bytes, int]] = []
    size = 0
    for looked, (slot, key, record) in enumerate(records, start=1):
        if not record.expiry or record.expiry > now_ms:
            taken.append((key, record.value, record.expiry))
            size += len(key) + len(record.value)
        if size >= READ_BYTES_MAX or looked >= READ_KEYS_MAX:
            return Block(taken, (slot, key))
    return Block(taken, None)


def _number(word: bytes) -> int | None:
    return int(word) if word.isdigit() and len(word) <= 18 else None
