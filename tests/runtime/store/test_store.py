"""What every store promises, on a pretended disk and on a real one."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from ringkeeper.runtime.store import Corrupt, DamagedRecord, Record, Store, StoreError, open_store
from ringkeeper.runtime.store import store as store_module
from ringkeeper.tests.runtime.store.machines import Machine

ALL = 1 << 40


def everything(store: Store) -> list[tuple[int, bytes, Record]]:
    return store.scan(0, 16383, None, ALL, ALL)


def fill(store: Store, slots: range, keys: int, seq: int = 0) -> int:
    """Commit some keys in each slot; the last number."""
    for slot in slots:
        for i in range(keys):
            seq += 1
            store.put(slot, b"%d/%d" % (slot, i), Record(b"value %d" % seq, 1, seq, 0))
    store.commit()
    return seq


def figures(store: Store) -> list[object]:
    """Numbers and counts of the first slots, and the totals."""
    slots = [(store.number(slot), store.keys_in(slot), store.bytes_in(slot)) for slot in range(8)]
    return [*slots, store.keys, store.bytes]


def test_a_put_is_seen_at_once_and_by_scans_after_the_commit(machine: Machine) -> None:
    store = machine.store
    record = Record(b"value", 3, 7, 1234)
    store.put(5, b"key", record)
    assert store.get(5, b"key") == record
    assert everything(store) == []
    store.commit()
    assert store.get(5, b"key") == record
    assert everything(store) == [(5, b"key", record)]
    store.check()


def test_bytes_come_back_as_they_were(machine: Machine) -> None:
    pairs = [(b"", b""), (b"\0", b"\0" * 3), (b"\xff" * 70_000, b"\xff"), (b"big", random.Random(1).randbytes(3 << 20))]
    for seq, (key, value) in enumerate(pairs):
        machine.store.put(16383, key, Record(value, 2**64 - 1, seq, 2**64 - 1))
    machine.store.commit()
    store = machine.kill()
    for seq, (key, value) in enumerate(pairs):
        assert store.get(16383, key) == Record(value, 2**64 - 1, seq, 2**64 - 1)
    store.check()


def test_a_deleted_key_is_gone_and_its_slot_is_numbered(machine: Machine) -> None:
    store = machine.store
    store.put(5, b"key", Record(b"value", 1, 1))
    store.commit()
    assert store.delete(5, b"key", 1, 2) is True
    assert store.get(5, b"key") is None
    assert everything(store) == [(5, b"key", Record(b"value", 1, 1))]
    store.commit()
    assert store.get(5, b"key") is None and everything(store) == []
    assert (store.number(5), store.keys_in(5), store.bytes_in(5)) == ((1, 2), 0, 0)
    store.check()


def test_deleting_what_is_not_there_numbers_the_slot_all_the_same(machine: Machine) -> None:
    assert machine.store.delete(5, b"key", 1, 9) is False
    machine.store.commit()
    assert machine.kill().number(5) == (1, 9)


def test_a_batch_is_in_order(machine: Machine) -> None:
    store = machine.store
    store.put(5, b"a", Record(b"1", 1, 1))
    store.put(5, b"a", Record(b"2", 1, 2))
    store.put(5, b"b", Record(b"3", 1, 3))
    assert store.flush(5, 1, 4) == 2
    assert store.get(5, b"a") is None
    store.put(5, b"b", Record(b"5", 1, 5))
    assert store.delete(5, b"b", 1, 6) is True
    store.put(5, b"c", Record(b"7", 1, 7))
    store.commit()
    for store in machine.now_and_after_a_kill():
        assert everything(store) == [(5, b"c", Record(b"7", 1, 7))]
        assert store.get(5, b"b") is None
        assert (store.number(5), store.keys, store.bytes) == ((1, 7), 1, 2)
        store.check()


def test_a_copy_follows_another_and_skips_what_is_not_above_its_numbers(machine: Machine) -> None:
    """R4."""
    store = machine.store
    store.put(5, b"a", Record(b"old", 2, 1))
    store.commit()
    store.follow(
        [
            (5, b"a", b"older", 2, 1, 0),
            (5, b"a", b"of a former tenure", 1, 9, 0),
            (5, b"b", b"gone soon", 2, 2, 0),
            (5, b"b", None, 2, 3, 0),
            (6, b"c", b"flushed", 2, 4, 0),
            (6, None, None, 2, 5, 0),
            (6, b"d", b"first", 2, 6, 7),
            (6, b"d", b"second", 3, 1, 8),
        ]
    )
    store.commit()
    for store in machine.now_and_after_a_kill():
        assert everything(store) == [(5, b"a", Record(b"old", 2, 1)), (6, b"d", Record(b"second", 3, 1, 8))]
        assert (store.number(5), store.number(6)) == ((2, 3), (3, 1))
        assert (store.keys, store.bytes) == (2, 11)
        store.check()


def test_a_flush_takes_its_slot_and_no_other(machine: Machine) -> None:
    store = machine.store
    seq = fill(store, range(3, 8), 10)
    assert [store.flush(slot, 1, seq + slot) for slot in (4, 5, 7)] == [10, 10, 10]
    assert store.get(5, b"5/3") is None and store.get(6, b"6/3") is not None
    store.commit()
    for store in machine.now_and_after_a_kill():
        assert {slot for slot, _, _ in everything(store)} == {3, 6}
        assert store.keys == 20 and store.number(7) == (1, seq + 7)
        store.check()


def test_dropped_slots_are_forgotten_with_their_numbers(machine: Machine) -> None:
    store = machine.store
    seq = fill(store, range(10), 3)
    store.delete(2, b"2/0", 1, seq + 1)
    store.commit()
    store.put(9, b"9/0", Record(b"new", 1, seq + 2))
    store.drop([1, 2, 3, 9])
    for store in machine.now_and_after_a_kill():
        assert {slot for slot, _, _ in everything(store)} == {0, 4, 5, 6, 7, 8}
        assert [store.number(slot) for slot in (1, 2, 3, 9)] == [(0, 0)] * 4
        assert store.get(2, b"2/1") is None and store.keys == 18
        store.check()


def test_the_number_of_a_slot_survives_whatever_happens_to_the_record_that_carried_it(machine: Machine) -> None:
    store = machine.store
    store.put(1, b"deleted", Record(b"", 1, 5))
    store.put(2, b"flushed", Record(b"", 1, 6))
    store.put(3, b"mirrored", Record(b"", 1, 7))
    store.put(4, b"overwritten", Record(b"", 1, 8))
    store.commit()
    store.delete(1, b"deleted", 1, 9)
    store.flush(2, 1, 10)
    store.put(3, b"mirrored", Record(b"", 1, 2))  # a mirror writes the coordinator's older record
    store.put(4, b"overwritten", Record(b"", 2, 1))
    store.commit()
    for store in machine.now_and_after_a_kill():
        assert [store.number(slot) for slot in range(5)] == [(0, 0), (1, 9), (1, 10), (1, 7), (2, 1)]
        store.check()


def test_a_number_never_goes_back(machine: Machine) -> None:
    store = machine.store
    store.put(1, b"a", Record(b"", 2, 3))
    store.put(1, b"b", Record(b"", 1, 9))
    store.delete(1, b"a", 2, 1)
    store.flush(1, 1, 100)
    store.commit()
    assert store.number(1) == (2, 3) == machine.kill().number(1)


def test_counts_are_exact(machine: Machine) -> None:
    store = machine.store
    store.put(1, b"abc", Record(b"12345", 1, 1))
    store.put(1, b"abc", Record(b"1", 1, 2))
    store.put(2, b"d", Record(b"", 1, 3))
    assert (store.keys_in(1), store.bytes_in(1), store.keys, store.bytes) == (1, 4, 2, 5)
    store.commit()
    store = machine.restart()
    store.put(1, b"abc", Record(b"1234", 1, 4))  # known from the disk only
    store.delete(2, b"d", 1, 5)
    store.commit()
    assert (store.keys_in(1), store.bytes_in(1), store.keys, store.bytes) == (1, 7, 1, 7)
    store.check()


def test_a_scan_goes_on_after_its_cursor_and_keeps_its_limits(machine: Machine) -> None:
    store = machine.store
    fill(store, range(4, 9), 7)
    whole = everything(store)
    assert [row[:2] for row in whole] == sorted(row[:2] for row in whole) and len(whole) == 35
    for keys_max, bytes_max in ((1, ALL), (6, ALL), (ALL, 30), (ALL, 1)):
        parts, after = [], None
        while part := store.scan(4, 8, after, keys_max, bytes_max):
            assert len(part) <= keys_max
            assert len(part) == 1 or sum(len(key) + len(record.value) for _, key, record in part) <= bytes_max
            parts += part
            after = part[-1][:2]
        assert parts == whole
    assert {slot for slot, _, _ in store.scan(5, 6, None, ALL, ALL)} == {5, 6}
    assert store.scan(6, 8, (4, b"zzz"), ALL, ALL) == store.scan(6, 8, None, ALL, ALL)
    assert store.scan(4, 4, (4, whole[0][1]), 1, ALL) == [whole[1]]
    assert store.scan(9, 16383, None, ALL, ALL) == []


def test_what_is_frozen_stays_as_it_was_and_leaves_nothing_behind(machine: Machine) -> None:
    store = machine.store
    fill(store, range(4), 3)
    before = everything(store)
    frozen = store.disk.freeze()
    store.put(1, b"1/1", Record(b"other", 2, 1))
    store.delete(2, b"2/0", 2, 2)
    store.commit()
    assert list(store.frozen_records(frozen, 0, 16383, None)) == before
    assert [row[:2] for row in store.frozen_records(frozen, 1, 2, (1, b"1/1"))] == [
        (1, b"1/2"), (2, b"2/0"), (2, b"2/1"), (2, b"2/2"),
    ]  # fmt: skip
    frozen.close()
    frozen.close()
    again = store.disk.freeze()
    assert list(store.frozen_records(again, 0, 16383, None)) == everything(store)
    again.close()
    assert not (machine.path / "frozen").exists()


def test_copies_that_hold_the_same_have_the_same_digest(make_machine: Callable[..., Machine]) -> None:
    one, two = make_machine("memory").store, make_machine("rocksdb").store
    rows = [(b"key %d" % i, Record(b"value %d" % i, 1, i, i % 3)) for i in range(20)]
    for store, order in ((one, rows), (two, rows[::-1])):
        for key, record in order:
            store.put(5, key, record)
        store.commit()
    assert one.digest(5) == two.digest(5) != 0
    assert one.digest(6) == 0
    key, record = rows[3]
    for other in (
        Record(b"other", record.epoch, record.seq, record.expiry),
        Record(record.value, 2, record.seq, record.expiry),
        Record(record.value, record.epoch, 99, record.expiry),
        Record(record.value, record.epoch, record.seq, 99),
    ):
        two.put(5, key, other)
        two.commit()
        assert one.digest(5) != two.digest(5)


def test_a_batch_that_the_disk_refuses_leaves_everything_as_it_was(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine.store
    seq = fill(store, range(5), 4)
    before = (everything(store), figures(store))
    machine.break_disk(monkeypatch)
    store.put(0, b"new", Record(b"value", 1, seq + 1))
    store.put(1, b"1/1", Record(b"longer than before", 1, seq + 2))
    store.delete(2, b"2/2", 1, seq + 3)
    store.flush(3, 1, seq + 4)
    store.put(3, b"after the flush", Record(b"value", 1, seq + 5))
    store.flush(5, 1, seq + 6)
    with pytest.raises(StoreError, match="full"):
        store.commit()
    with pytest.raises(StoreError):
        store.drop([4])
    monkeypatch.undo()
    assert (everything(store), figures(store)) == before
    assert store.get(0, b"new") is None and store.get(3, b"3/1") is not None and store.get(4, b"4/0") is not None
    store.check()
    fill(store, range(5, 6), 2, seq)  # and it takes writes again
    machine.kill().check()


def test_a_record_that_cannot_be_written_spoils_its_batch_and_nothing_else(machine: Machine) -> None:
    store = machine.store
    fill(store, range(1), 1)
    store.put(0, b"fine", Record(b"", 1, 5))
    store.put(0, b"negative", Record(b"", 1, 6, -1))
    with pytest.raises((struct.error, OverflowError)):
        store.commit()
    store.commit()
    assert store.get(0, b"fine") is None and store.keys == 1
    store.check()


def test_nothing_is_lost_when_the_cache_is_far_too_small(make_machine: Callable[..., Machine]) -> None:
    for engine in ("memory", "rocksdb"):
        store = make_machine(engine, cache_bytes=2000).store
        dice = random.Random(1)
        truth: dict[tuple[int, bytes], Record] = {}
        for seq in range(1, 1500):
            slot = dice.randrange(4)
            key = b"%d/%d" % (slot, dice.randrange(20))
            if dice.random() < 0.7:
                truth[slot, key] = Record(dice.randbytes(dice.randrange(300)), 1, seq)
                store.put(slot, key, truth[slot, key])
            else:
                assert store.delete(slot, key, 1, seq) == ((slot, key) in truth)
                truth.pop((slot, key), None)
            slot, key = dice.choice(list(truth) or [(0, b"")])
            assert store.get(slot, key) == truth.get((slot, key))
            if dice.random() < 0.1:
                store.commit()
        store.commit()
        assert {(slot, key): record for slot, key, record in everything(store)} == truth
        store.check()


def test_the_cache_forgets_what_was_not_asked_for_and_keeps_its_bound(make_machine: Callable[..., Machine]) -> None:
    store = make_machine("memory", cache_bytes=256 * 1024).store
    reads: list[bytes] = []
    disk_get = store.disk.get
    store.disk.get = lambda key: reads.append(key) or disk_get(key)  # type: ignore[method-assign,func-returns-value]
    keys = [(slot, b"key of %d" % slot) for slot in range(4096)]
    for seq, (slot, key) in enumerate(keys):
        store.put(slot, key, Record(bytes(100), 1, seq))
        store.commit()
        assert store.get(*keys[7]) if seq >= 7 else True  # asked for again and again
        assert store._cached_bytes <= 256 * 1024
    reads.clear()
    store.get(*keys[7])
    assert reads == []
    store.get(*keys[8])
    assert len(reads) == 1
    store.check()


def test_a_store_that_was_closed_opens_by_its_summary(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert not machine.store.closed_cleanly
    fill(machine.store, range(5), 4)
    machine.store.delete(2, b"2/2", 3, 1)
    machine.store.commit()
    counts = machine.store._slots.pack()
    caplog.clear()
    store = machine.restart()
    assert store.closed_cleanly and "19 keys, 200 bytes, as its summary says" in caplog.text
    assert store._slots.pack() == counts and (store.keys, store.bytes) == (19, 200)
    store.check()
    store = machine.restart()  # nothing was written: the summary still stands
    assert store.closed_cleanly and store._slots.pack() == counts


def test_the_summary_does_not_outlive_the_next_write(machine: Machine) -> None:
    fill(machine.store, range(5), 4)
    assert machine.restart().closed_cleanly
    assert machine.kill().closed_cleanly  # read and killed: still true
    machine.store.put(1, b"1/0", Record(b"changed", 9, 9))
    machine.store.commit()
    store = machine.kill()
    assert not store.closed_cleanly and store.number(1) == (9, 9)
    store.check()


def test_a_first_write_that_fails_does_not_make_the_summary_lie(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(machine.store, range(5), 4)
    store = machine.restart()
    machine.break_disk(monkeypatch)
    store.put(1, b"new", Record(b"", 9, 9))
    with pytest.raises(StoreError):
        store.commit()
    monkeypatch.undo()
    store.check()
    machine.kill().check()


def test_closing_a_disk_that_refuses_is_no_error_and_loses_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(machine.store, range(5), 4)
    machine.break_disk(monkeypatch)
    machine.store.close()
    assert "closes without its summary" in caplog.text
    monkeypatch.undo()
    store = machine.restart()
    assert store.keys == 20 and not store.closed_cleanly
    store.check()


def test_what_was_staged_and_never_committed_is_gone_when_it_closes(machine: Machine) -> None:
    fill(machine.store, range(5), 4)
    machine.store.put(1, b"new", Record(b"", 9, 9))
    machine.store.flush(2, 9, 10)
    store = machine.restart()
    assert store.keys == 20 and store.number(1) == (1, 8)
    store.check()


def test_closing_twice_is_closing_once(machine: Machine) -> None:
    machine.store.close()
    machine.store.close()
    machine.store.sync()  # a late sync has nothing to do


def test_counting_at_opening_tells_how_far_it_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(machine.store, range(5), 4)
    monkeypatch.setattr(store_module, "COUNTED_RECORDS_PER_LINE", 8)
    caplog.set_level("INFO")
    machine.kill()
    assert "16 records counted, now in slot 3" in caplog.text


def test_a_record_that_is_not_what_was_written_is_refused_by_name(raw_machine: Machine) -> None:
    store = raw_machine.store
    fill(store, range(5), 4)
    disk_key = b"\0\x03" + b"3/1"
    data = store.disk.get(disk_key)
    assert data is not None
    bad, moved = store.disk.batch(), store.disk.batch()
    bad.put(disk_key, data[:30] + bytes([data[30] ^ 4]) + data[31:])
    store.disk.write(bad)
    assert store.get(3, b"3/1") == Record(b"value 14", 1, 14)  # cached
    store._roll_back()  # forgets the cache
    for ask in (
        lambda: store.get(3, b"3/1"),
        lambda: store.put(3, b"3/1", Record(b"", 1, 99)),
        lambda: store.delete(3, b"3/1", 1, 99),
        lambda: everything(store),
        lambda: store.digest(3),
    ):
        with pytest.raises(Corrupt, match=r"b'3/1' of slot 3 in .* its checksum does not match"):
            ask()
    assert store.get(3, b"3/2") is not None and store.number(3) == (1, 16)
    moved.put(b"\0\x02" + b"2/1", data)
    store.disk.write(moved)
    with pytest.raises(Corrupt, match="slot 2"):  # a good record in the wrong place
        store.get(2, b"2/1")
    store.drop([2, 3])  # reads nothing
    store.check()


@pytest.mark.parametrize("written", [b"another", None])
def test_a_record_that_cannot_be_read_is_replaced_or_deleted_by_who_discards_it(
    raw_machine: Machine, written: bytes | None
) -> None:
    store = raw_machine.store
    number = fill(store, range(5), 4)
    before = figures(store)
    bad, disk_key = store.disk.batch(), b"\0\x04" + b"4/3"
    data = store.disk.get(disk_key)  # it carries the number of its slot
    assert data is not None and store.number(4) == (1, number)
    bad.put(disk_key, data[:30] + bytes([data[30] ^ 4]) + data[31:])
    store.disk.write(bad)
    store._roll_back()  # forgets the cache
    with pytest.raises(DamagedRecord) as met:
        store.get(4, b"4/3")
    assert (met.value.slot, met.value.key, met.value.what) == (4, b"4/3", "key b'4/3' of slot 4")
    store.discard(4, b"4/3")
    store.roll_back()
    assert figures(store) == before
    with pytest.raises(DamagedRecord):
        store.get(4, b"4/3")
    store.discard(4, b"4/3")
    assert store.get(4, b"4/3") is None and store.number(4) == (1, number)
    if written is None:
        store.delete(4, b"4/3", 1, number + 1)
    else:
        store.put(4, b"4/3", Record(written, 1, number + 1))
    store.commit()
    store.check()
    store = raw_machine.kill()
    record = store.get(4, b"4/3")
    assert (record.value if record else None) == written
    assert store.keys_in(4) == 3 + (written is not None) and store.number(4) == (1, number + 1)


def test_damage_is_noted_when_the_records_are_counted_and_hides_no_other(raw_machine: Machine) -> None:
    fill(raw_machine.store, range(5), 4)
    keys = raw_machine.store.keys
    assert not raw_machine.store.damage
    bad = raw_machine.store.disk.batch()
    bad.put(b"\0\x03" + b"3/1", b"short")
    bad.put(b"\xff\xfen\0\x09", b"short")
    raw_machine.store.disk.write(bad)
    store = raw_machine.kill()
    assert "b'3/1' of slot 3" in store.damage and store.keys == keys
    assert store.get(3, b"3/2") is not None and store.number(4) == (1, 20)
    with pytest.raises(Corrupt, match="slot 3"):
        store.get(3, b"3/1")


def test_a_damaged_summary_is_damage_and_all_is_counted(raw_machine: Machine) -> None:
    fill(raw_machine.store, range(5), 4)
    keys = raw_machine.store.keys
    raw_machine.restart()
    bad = raw_machine.store.disk.batch()
    bad.put(b"\xff\xffs", bytes(100))
    raw_machine.store.disk.write(bad)
    store = raw_machine.kill()
    assert "beside the records" in store.damage and store.keys == keys and not store.closed_cleanly


def test_an_engine_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mysql': choose one of rocksdb, json, memory"):
        open_store("mysql", tmp_path)
    with pytest.raises(ValueError, match="needs a folder"):
        open_store("rocksdb")
