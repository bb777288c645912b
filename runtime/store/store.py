"""Keeps the records of a node: stages and commits batches, numbers and counts slots, caches records.

What is put or deleted is *staged*: `get`, the numbers and the counts see it at once, the disk and `scan` only after
`commit`, which writes all of it as one atomic batch.

    staged --commit--> true, and out of the process (kill -9 loses nothing) --sync--> survives a power cut
       '----commit raises StoreError--> gone: records, counts and numbers are as before the batch

**Numbers (R4).** A slot's number is the version of the last operation applied to it, and must be stored in the batch of
that operation. A put carries its version in its record, so it costs one disk put: the number is the highest version
among the slot's records. Only where no record carries the number (delete, flush, or a put that is not above it, as a
mirror does) the batch also holds a small number record of the slot. So always
*number = the higher of number record and highest record version*, and it never goes down, `drop` and `renumber`
excepted.

**Counts.** Keys and bytes per slot are exact, which needs to know whether a put is new: the cache says so, or else the
disk, where a bloom filter makes absence cheap.

**Opening.** `close` leaves a summary of numbers and counts. It says "all of this is true and synced", so the first
commit after opening takes it away, synced, before anything else is written. Without it every record is read once.

**The cache** holds records in shards of two generations. One hand goes round over the shards whenever the cache is too
big: it drops a shard's old generation and makes the young one old; what is asked for becomes young again. So what goes
is roughly what was not used for longest. Shards, because freeing a whole generation stops the process for 12 ms per
32 MiB, and because emptying a slot can simply drop its shard; not one for every slot, because a get would then miss the
processor's cache twice more. By disk key, which costs a get 0.1 us: a store need not trust that a key has one slot.
Absent keys are not remembered: asking the disk for one costs about 1 us.

One thread uses a store; `sync` alone may be called from others.
"""

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import compress
from operator import or_

from .disk import REBUILD, Corrupt, DamagedRecord, Disk, FrozenDisk, StoreError
from .layout import NUMBER, PREFIX_BYTES, PREFIXES, SLOTS, SUMMARY, Record, decode, digest, encode, split, value_bytes
from .slots import Slots

log = logging.getLogger(__name__)

CACHE_BYTES_MAX = 64 * 1024 * 1024
"""Memory for cached records unless the owner says otherwise."""

ENTRY_BYTES = 230
"""What a cached record costs beside its key and value: objects, numbers, its place in a dictionary (measured)."""

SHARDS = 256
"""Parts of the cache; a power of two."""

COUNTED_RECORDS_PER_LINE = 1_000_000
"""How often the count at opening tells how far it is."""

KEY_SHOWN_BYTES_MAX = 64


Operation = tuple[int, bytes | None, bytes | None, int, int, int]
"""What was done: slot, key, value, epoch, seq, expiry. No value: the key went; no key: every key of the slot."""


class Store:
    """The records of one disk, by slot (0 to 16383) and key."""

    def __init__(self, disk: Disk, *, cache_bytes: int = CACHE_BYTES_MAX) -> None:
        """Take over an open disk. Raises Corrupt when what is on it is damaged."""
        self.disk = disk
        self._young: list[dict[bytes, Record]] = [{} for _ in range(SHARDS)]  # by slot % SHARDS, by disk key
        self._old: list[dict[bytes, Record]] = [{} for _ in range(SHARDS)]
        self._hand = 0
        self._cached_bytes = 0
        self._cache_bytes_max = cache_bytes
        self._staged: dict[bytes, Record | None] = {}  # by disk key; None is a delete
        self._emptied: set[int] = set()  # slots whose records on disk go before what is staged comes
        self._renumbered: set[int] = set()  # slots that need a number record
        self._forgotten: set[int] = set()  # slots that lose theirs
        self._before: dict[int, tuple[int, int, int, int]] = {}  # figures of every slot that the batch touches
        self._closed = False
        self.damage = ""
        """What could not be read when all was counted; "": everything could, or nothing was counted."""
        self.sync_failed = False
        """Whether a sync has failed since the store was opened."""
        summary = self._read_summary()
        self._slots = self._counted() if summary is None else summary
        self.closed_cleanly = self._summary_stands = summary is not None
        """Whether whoever had this disk before closed it: then nothing that it was told can be missing."""
        self.keys, self.bytes = sum(self._slots.keys), sum(self._slots.bytes)
        """Of all slots, counting what is staged. Bytes are those of keys and values."""
        how = "as its summary says" if self.closed_cleanly else "counted"
        log.info("%s: %d keys, %d bytes, %s", disk.place, self.keys, self.bytes, how)

    # Records

    def get(self, slot: int, key: bytes) -> Record | None:
        """The record, staged or committed. Raises StoreError, Corrupt."""
        disk_key = PREFIXES[slot] + key
        record = self._young[slot % SHARDS].get(disk_key)
        if record is None:
            record = self._recall(slot, disk_key)
            if self._cached_bytes > self._cache_bytes_max:
                self._evict()
        return record

    def put(self, slot: int, key: bytes, record: Record) -> None:
        """Stage a record. Raises StoreError, with nothing changed, when the disk cannot say whether the key is new."""
        disk_key = PREFIXES[slot] + key
        young = self._young[slot % SHARDS]
        old = young.get(disk_key)
        if old is None:
            old = self._recall(slot, disk_key)
        slots = self._slots
        if slot not in self._before:
            self._before[slot] = slots.epochs[slot], slots.seqs[slot], slots.keys[slot], slots.bytes[slot]
        if record.seq > slots.seqs[slot] and record.epoch == slots.epochs[slot]:  # the tenure goes on
            slots.seqs[slot] = record.seq
        elif not slots.apply(slot, record.epoch, record.seq):
            self._renumbered.add(slot)
        grown = len(record.value)
        if old is not None:
            grown -= len(old.value)
        else:
            grown += len(key)
            slots.keys[slot] += 1
            self.keys += 1
            self._cached_bytes += ENTRY_BYTES
        if grown:
            slots.bytes[slot] += grown
            self.bytes += grown
            self._cached_bytes += grown
        young[disk_key] = self._staged[disk_key] = record

    def follow(self, operations: Iterable[Operation]) -> None:
        """Stage what was done to another copy, in the same order, but for what is not above its slot's number (R4).
        Raises StoreError like `put`.

        The hot path of a copy: a put is written out here, which halves what it costs without the disk."""
        all_young, staged, before, slots = self._young, self._staged, self._before, self._slots
        epochs, seqs, keys_in, bytes_in = slots.epochs, slots.seqs, slots.keys, slots.bytes
        for slot, key, value, epoch, seq, expiry in operations:
            number = epochs[slot]
            if epoch < number or (epoch == number and seq <= seqs[slot]):
                continue
            if key is None:
                self.flush(slot, epoch, seq)
                continue
            if value is None:
                self.delete(slot, key, epoch, seq)
                continue
            disk_key = PREFIXES[slot] + key
            young = all_young[slot % SHARDS]
            old = young.get(disk_key)
            if old is None:
                old = self._recall(slot, disk_key)
            if slot not in before:
                before[slot] = number, seqs[slot], keys_in[slot], bytes_in[slot]
            epochs[slot], seqs[slot] = epoch, seq
            grown = len(value)
            if old is not None:
                grown -= len(old.value)
            else:
                grown += len(key)
                keys_in[slot] += 1
                self.keys += 1
                self._cached_bytes += ENTRY_BYTES
            if grown:
                bytes_in[slot] += grown
                self.bytes += grown
                self._cached_bytes += grown
            young[disk_key] = staged[disk_key] = Record(value, epoch, seq, expiry)

    def delete(self, slot: int, key: bytes, epoch: int, seq: int) -> bool:
        """Stage that a key goes; True if it was there. Numbers the slot either way. Raises StoreError like `put`."""
        disk_key = PREFIXES[slot] + key
        young = self._young[slot % SHARDS]
        old = young.get(disk_key) or self._recall(slot, disk_key)
        self._touch(slot)
        self._slots.apply(slot, epoch, seq)
        self._renumbered.add(slot)
        if old is None:
            return False
        del young[disk_key]
        size = len(key) + len(old.value)
        self._cached_bytes -= size + ENTRY_BYTES
        self._slots.keys[slot] -= 1
        self._slots.bytes[slot] -= size
        self.keys -= 1
        self.bytes -= size
        self._staged[disk_key] = None
        return True

    def discard(self, slot: int, key: bytes) -> None:
        """Stage that a record that cannot be read is not there, for the put or delete that is staged next, in the same
        batch: neither needs to read it then. The slot keeps its number, though it may be that record which carried it.
        Raises StoreError like `put`.

        If the disk has made it longer or shorter, or made it up, the slot's counts are off until they are made anew."""
        disk_key = PREFIXES[slot] + key
        data = self.disk.get(disk_key)
        if data is None:
            return
        self._touch(slot)
        self._renumbered.add(slot)
        keys, size = min(1, self._slots.keys[slot]), min(len(key) + value_bytes(data), self._slots.bytes[slot])
        self._slots.keys[slot] -= keys
        self._slots.bytes[slot] -= size
        self.keys -= keys
        self.bytes -= size
        self._staged[disk_key] = None

    def flush(self, slot: int, epoch: int, seq: int) -> int:
        """Stage that every key of the slot goes; how many those are. Reads nothing, so damaged records go as well."""
        keys = self._empty(slot)
        self._slots.apply(slot, epoch, seq)
        self._renumbered.add(slot)
        return keys

    def renumber(self, slot: int, epoch: int, seq: int) -> None:
        """Stage that the slot's number is this; (0, 0): it has none. To be called when what is staged makes the slot
        equal to one of that number: no record of it may have a higher version."""
        if (epoch, seq) != self.number(slot):
            self._touch(slot)
            self._slots.epochs[slot], self._slots.seqs[slot] = epoch, seq
            self._renumbered.add(slot)

    def drop(self, slots: Iterable[int]) -> None:
        """Forget slots, their records and numbers, and commit at once, together with what else is staged."""
        slots = list(slots)
        self._uncache(slots)
        for slot in slots:
            self._empty(slot, cached=False)
            self._slots[slot] = (0, 0, 0, 0)
            self._renumbered.discard(slot)
            self._forgotten.add(slot)
        self.commit()

    def _recall(self, slot: int, disk_key: bytes) -> Record | None:
        """The record of a key that is not in the young generation, and from then on is."""
        young = self._young[slot % SHARDS]
        record = self._old[slot % SHARDS].pop(disk_key, None)
        if record is not None:
            young[disk_key] = record
            return record
        if disk_key in self._staged:
            record = self._staged[disk_key]
        elif slot not in self._emptied and (data := self.disk.get(disk_key)) is not None:
            record = self._decode(disk_key, data)
        if record is not None:
            young[disk_key] = record
            self._cached_bytes += len(disk_key) - PREFIX_BYTES + len(record.value) + ENTRY_BYTES
        return record

    # Batches

    def commit(self) -> None:
        """Make all that is staged true, as one batch. When this returns, killing the process loses none of it.

        Raises StoreError when the disk refuses; then none of it holds, and a later commit may work again.
        """
        if not self._before:
            return
        try:
            if self._summary_stands:
                self._remove_summary()
            batch = self.disk.batch()
            if self._emptied:
                for first, last in _runs(sorted(slot for slot in self._emptied if self._before[slot][2])):
                    batch.delete_range(PREFIXES[first], PREFIXES[last + 1])
            put = batch.put
            for disk_key, record in self._staged.items():
                if record is not None:
                    put(disk_key, encode(disk_key, record))
                else:
                    batch.delete(disk_key)
            if self._forgotten:
                for slot in self._forgotten:
                    batch.delete(NUMBER + PREFIXES[slot])
            if self._renumbered:
                for slot in self._renumbered:
                    number_key = NUMBER + PREFIXES[slot]
                    put(number_key, encode(number_key, Record(b"", *self.number(slot))))
            self.disk.write(batch)
        except BaseException:
            self._roll_back()
            raise
        self._forget_staged()
        if self._cached_bytes > self._cache_bytes_max:
            self._evict()

    def roll_back(self) -> None:
        """Forget what is staged: all is as after the last commit."""
        if self._before:
            self._roll_back()

    def _touch(self, slot: int) -> None:
        if slot not in self._before:
            self._before[slot] = self._slots[slot]

    def _empty(self, slot: int, *, cached: bool = True) -> int:
        """Every key of the slot goes; how many those are. ``cached``: records of it may be in the cache."""
        if slot in self._before:
            prefix = PREFIXES[slot]
            for disk_key in [disk_key for disk_key in self._staged if disk_key.startswith(prefix)]:
                del self._staged[disk_key]
        self._touch(slot)
        self._emptied.add(slot)
        if cached:
            self._drop_shard(slot % SHARDS)
        keys, size = self._slots.keys[slot], self._slots.bytes[slot]
        self._slots.keys[slot] = self._slots.bytes[slot] = 0
        self.keys -= keys
        self.bytes -= size
        return keys

    def _forget_staged(self) -> None:
        for staged in self._staged, self._before, self._emptied, self._renumbered, self._forgotten:
            staged.clear()

    def _roll_back(self) -> None:
        """As before the batch. The cache may hold what was staged, so all of it goes: this is rare."""
        for slot, before in self._before.items():
            self.keys += before[2] - self._slots.keys[slot]
            self.bytes += before[3] - self._slots.bytes[slot]
            self._slots[slot] = before
        for shard in range(SHARDS):
            self._drop_shard(shard)
        self._forget_staged()

    # Slots

    def number(self, slot: int) -> tuple[int, int]:
        """Version of the last operation applied to the slot, staged or committed; (0, 0): none (R4)."""
        return self._slots.epochs[slot], self._slots.seqs[slot]

    def numbers(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """Slot, epoch and seq of each slot from first, before end, that has a number."""
        epochs, seqs = self._slots.epochs, self._slots.seqs
        numbered = compress(range(first, end), map(or_, epochs[first:end], seqs[first:end]))
        return [(slot, epochs[slot], seqs[slot]) for slot in numbered]

    def used(self) -> bytearray:
        """By slot, 1 where it has keys or a number, staged or committed."""
        slots = self._slots
        return bytearray(map(bool, map(or_, slots.keys, slots.epochs)))

    def with_keys(self, slots: Iterable[int]) -> list[int]:
        """Those of some slots that have keys, counting what is staged."""
        keys = self._slots.keys
        return [slot for slot in slots if keys[slot]]

    def keys_in(self, slot: int) -> int:
        """How many keys the slot has, counting what is staged."""
        return self._slots.keys[slot]

    def bytes_in(self, slot: int) -> int:
        """Bytes of the slot's keys and values, counting what is staged."""
        return self._slots.bytes[slot]

    def held_in(self, first: int, end: int) -> tuple[int, int]:
        """Keys and bytes in all slots from first, before end, counting what is staged."""
        return sum(self._slots.keys[first:end]), sum(self._slots.bytes[first:end])

    def each_in(self, first: int, end: int) -> tuple[list[int], list[int]]:
        """Keys and bytes of every slot from first, before end, counting what is staged."""
        return list(self._slots.keys[first:end]), list(self._slots.bytes[first:end])

    def scan(
        self, first: int, last: int, after: tuple[int, bytes] | None, keys_max: int, bytes_max: int
    ) -> list[tuple[int, bytes, Record]]:
        """What is committed in slots first to last, in the order of (slot, key), beginning after a cursor.

        Ends at keys_max records, or before their keys and values exceed bytes_max, but never returns nothing while
        there is something. Raises StoreError, Corrupt.
        """
        begin = PREFIXES[first]
        if after is not None:
            begin = max(begin, PREFIXES[after[0]] + after[1] + b"\0")
        found: list[tuple[int, bytes, Record]] = []
        size = 0
        with closing(self._records(begin, PREFIXES[last + 1])) as records:
            for slot, key, record in records:
                size += len(key) + len(record.value)
                if found and size > bytes_max:
                    break
                found.append((slot, key, record))
                if len(found) >= keys_max:
                    break
        return found

    def walk(
        self, after: tuple[int, bytes], upto: tuple[int, bytes], keys_max: int, bytes_max: int
    ) -> tuple[list[tuple[int, bytes, Record]], tuple[int, bytes]]:
        """What is committed after a position, up to another one, and how far that is: ``upto``, or the last record when
        a bound was met first. Positions are (slot, key); ``(slot, b"")`` lies before every key of the slot. At least
        one record is taken. Raises StoreError, Corrupt."""
        found: list[tuple[int, bytes, Record]] = []
        size = 0
        end = PREFIXES[upto[0]] + upto[1] + b"\0" * bool(upto[1])
        with closing(self._records(PREFIXES[after[0]] + after[1] + b"\0" * bool(after[1]), end)) as records:
            for slot, key, record in records:
                size += len(key) + len(record.value)
                if found and (size > bytes_max or len(found) >= keys_max):
                    return found, found[-1][:2]
                found.append((slot, key, record))
        return found, upto

    def digest(self, slot: int) -> int:
        """64 bits over what is committed in the slot: keys, versions, expiries, checksums of values, in any order.
        Copies that hold the same have the same, whatever their disks. Reads the slot. Raises StoreError, Corrupt."""
        with closing(self._records(PREFIXES[slot], PREFIXES[slot + 1])) as records:
            return sum(digest(key, record) for _, key, record in records) & (1 << 64) - 1

    def frozen_records(
        self, frozen: FrozenDisk, first: int, last: int, after: tuple[int, bytes] | None
    ) -> Generator[tuple[int, bytes, Record], None, None]:
        """What this store's disk held in slots first to last when it was frozen, in the order of (slot, key), beginning
        after a cursor. To be closed. Raises StoreError, Corrupt."""
        begin = PREFIXES[first] if after is None else PREFIXES[after[0]] + after[1] + b"\0"
        return self._records(begin, PREFIXES[last + 1], frozen)

    def _records(
        self, begin: bytes, end: bytes, disk: FrozenDisk | None = None
    ) -> Generator[tuple[int, bytes, Record], None, None]:
        """What is committed between two disk keys. To be closed: an open iterator would keep the disk from closing."""
        with closing((disk or self.disk).items(begin, end)) as items:
            for disk_key, data in items:
                yield *split(disk_key), self._decode(disk_key, data)

    # Life

    def sync(self) -> None:
        """Make all that was committed before this call survive a power cut. Blocks; may be called from any thread.
        Raises StoreError; then nobody knows how much of what was not synced before is durable, and a later sync that
        works does not say so: the kernel may have dropped what it could not write (``sync_failed``)."""
        try:
            self.disk.sync()
        except StoreError:
            self.sync_failed = True
            raise

    def close(self) -> None:
        """Leave a summary, sync, and let go of the disk. What is staged and not committed is gone. Never raises because
        of the disk: without a summary the store is counted anew when it is opened next. May be called again."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._before:
                self._roll_back()
            if not self._summary_stands and not self.sync_failed:  # it would vouch for what may have been dropped
                self._write_summary()
        except StoreError as failure:
            log.warning("%s closes without its summary, so opening it will take longer: %s", self.disk.place, failure)
        finally:
            try:
                self.disk.close()
            except StoreError as failure:
                self.sync_failed = True
                log.warning("%s closes without having synced: %s", self.disk.place, failure)

    def check(self) -> None:
        """Assert that numbers, counts and cache agree with the disk. Reads all of it; nothing may be staged."""
        assert not self._before
        assert (self.keys, self.bytes) == (sum(self._slots.keys), sum(self._slots.bytes))
        assert self._slots.pack() == self._counted().pack()
        cached: dict[bytes, Record] = {}
        for shard in range(SHARDS):
            assert not self._young[shard].keys() & self._old[shard].keys(), shard
            cached |= self._young[shard] | self._old[shard]
        assert self._cached_bytes == _weight(cached)
        with closing(self._records(PREFIXES[0], PREFIXES[SLOTS])) as records:
            for slot, key, record in records:
                assert cached.pop(PREFIXES[slot] + key, record) == record, (slot, key)
        assert not cached, "cached, and not on disk"

    def _read_summary(self) -> Slots | None:
        data = self.disk.get(SUMMARY)
        summary = self._counts(SUMMARY, data) if data is not None else None
        return Slots(summary.value) if summary is not None else None

    def _write_summary(self) -> None:
        batch = self.disk.batch()
        batch.put(SUMMARY, encode(SUMMARY, Record(self._slots.pack(), 0, 0)))
        self.disk.write(batch)
        self.disk.sync()

    def _remove_summary(self) -> None:
        batch = self.disk.batch()
        batch.delete(SUMMARY)
        self.disk.write(batch)
        self.disk.sync()
        self._summary_stands = False

    def _counted(self) -> Slots:
        """Numbers and counts of all slots, found by reading everything. What cannot be read is noted as damage."""
        slots = Slots()
        counted = 0
        with closing(self.disk.items(PREFIXES[0], PREFIXES[SLOTS])) as items:
            for disk_key, data in items:
                slot, key = split(disk_key)
                slots.keys[slot] += 1
                slots.bytes[slot] += len(key) + value_bytes(data)
                if record := self._counts(disk_key, data):
                    slots.apply(slot, record.epoch, record.seq)
                counted += 1
                if counted % COUNTED_RECORDS_PER_LINE == 0:
                    log.info("%s has no summary: %d records counted, now in slot %d", self.disk.place, counted, slot)
        with closing(self.disk.items(NUMBER + PREFIXES[0], NUMBER + PREFIXES[SLOTS])) as items:
            for number_key, data in items:
                if record := self._counts(number_key, data):
                    slots.apply(int.from_bytes(number_key[len(NUMBER) :], "big"), record.epoch, record.seq)
        return slots

    def _counts(self, disk_key: bytes, data: bytes) -> Record | None:
        """A record as it counts; None: it cannot be read, which is noted, and does not hide all others."""
        try:
            return self._decode(disk_key, data)
        except Corrupt as failure:
            log.error("%s", failure)
            self.damage = self.damage or str(failure)
            return None

    def _decode(self, disk_key: bytes, data: bytes) -> Record:
        try:
            return decode(disk_key, data)
        except ValueError as error:
            slot, key = split(disk_key)
            shown = repr(key[:KEY_SHOWN_BYTES_MAX]) + ("..." if len(key) > KEY_SHOWN_BYTES_MAX else "")
            what = f"key {shown} of slot {slot}" if slot < SLOTS else f"the entry {shown} beside the records"
            text = (
                f"{what} in {self.disk.place} is not what was written: {error}. "
                f"The disk or the memory is bad. {REBUILD}"
            )
            if slot < SLOTS:
                raise DamagedRecord(text, slot=slot, key=key, what=what) from error
            raise Corrupt(text) from error

    # Cache

    def _evict(self) -> None:
        """Move the hand until the cache fits; twice round empties it."""
        while self._cached_bytes > self._cache_bytes_max:
            shard = self._hand
            self._hand = (shard + 1) % SHARDS
            self._cached_bytes -= _weight(self._old[shard])
            self._young[shard], self._old[shard] = {}, self._young[shard]

    def _uncache(self, slots: list[int]) -> None:
        """Take what the cache holds of some slots out of it, and nothing else."""
        gone = {PREFIXES[slot] for slot in slots}
        for shard in {slot % SHARDS for slot in slots}:
            for generation in self._young, self._old:
                going = {key: record for key, record in generation[shard].items() if key[:PREFIX_BYTES] in gone}
                self._cached_bytes -= _weight(going)
                for key in going:
                    del generation[shard][key]

    def _drop_shard(self, shard: int) -> None:
        self._cached_bytes -= _weight(self._young[shard]) + _weight(self._old[shard])
        self._young[shard], self._old[shard] = {}, {}


def _weight(records: dict[bytes, Record]) -> int:
    data = sum(len(disk_key) + len(record.value) for disk_key, record in records.items())
    return data + (ENTRY_BYTES - PREFIX_BYTES) * len(records)


def _runs(slots: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each unbroken run of ascending numbers."""
    first = last = -2  # not -1, which slot 0 would follow
    for slot in slots:
        if slot != last + 1:
            if last >= 0:
                yield first, last
            first = slot
        last = slot
    if last >= 0:
        yield first, last
