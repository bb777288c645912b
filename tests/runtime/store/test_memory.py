"""What a pretended disk remembers of a crash."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.runtime.store import Record, Store, StoreError
from ringkeeper.runtime.store.memory import MemoryDisk


def written(*, synced: int, unsynced: int) -> MemoryDisk:
    """A disk on which so many batches of two keys were written."""
    disk = MemoryDisk()
    store = Store(disk)
    for i in range(synced + unsynced):
        store.put(1, b"%d" % i, Record(b"", 1, 2 * i + 1))
        store.put(2, b"%d" % i, Record(b"", 1, 2 * i + 2))
        store.commit()
        if i == synced - 1:
            store.sync()
    store.put(3, b"never committed", Record(b"", 9, 9))
    return disk


def batches(disk: MemoryDisk) -> int:
    """How many batches are there: whole ones, from the first on."""
    store = Store(disk)
    store.check()
    count = store.keys_in(1)
    assert store.keys == 2 * count and store.keys_in(2) == count
    assert all(store.get(slot, b"%d" % i) for i in range(count) for slot in (1, 2))
    return count


def test_a_killed_process_loses_nothing_that_was_committed() -> None:
    assert batches(written(synced=3, unsynced=4).crash(lose_unsynced=False)) == 7


def test_a_power_cut_loses_what_was_not_synced() -> None:
    assert batches(written(synced=3, unsynced=4).crash()) == 3


@given(st.integers(0, 5), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_a_power_cut_may_leave_some_of_the_last_batches_in_order(
    synced: int, unsynced: int, dice: random.Random
) -> None:
    assert synced <= batches(written(synced=synced, unsynced=unsynced).crash(torn=dice)) <= synced + unsynced


def test_every_prefix_of_what_was_not_synced_may_be_what_is_left() -> None:
    disk = written(synced=2, unsynced=3)
    assert {batches(disk.crash(torn=random.Random(seed))) for seed in range(50)} == {2, 3, 4, 5}


def test_the_dead_cannot_change_the_disk_of_the_living() -> None:
    disk = written(synced=1, unsynced=1)
    survived = disk.crash(lose_unsynced=False)
    Store(disk).drop([1, 2])
    assert batches(survived) == 2


def test_a_store_that_failed_to_sync_once_leaves_no_summary_that_vouches_for_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(disk := MemoryDisk())
    store.put(1, b"a", Record(b"", 1, 1))
    store.commit()

    def fail() -> None:
        raise StoreError("input/output error")

    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(disk, "sync", fail)
        store.sync()
    store.sync()
    store.close()
    assert store.sync_failed and not Store(disk.crash()).closed_cleanly


def test_closing_never_raises_because_the_disk_does_not_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(disk := MemoryDisk())

    def fail() -> None:
        raise StoreError("input/output error")

    monkeypatch.setattr(disk, "sync", fail)
    store.close()
    assert store.sync_failed


def test_after_a_power_cut_a_store_knows_whether_anything_can_be_missing() -> None:
    disk = MemoryDisk()
    store = Store(disk)
    store.put(1, b"a", Record(b"", 1, 1))
    store.close()
    disk = disk.crash()
    store = Store(disk)
    assert store.closed_cleanly
    store.put(1, b"a", Record(b"", 1, 2))
    store.commit()
    assert not Store(disk.crash()).closed_cleanly  # the write is lost, and the mark says that it may be


def test_a_full_disk_takes_nothing_until_there_is_room() -> None:
    disk = MemoryDisk()
    store = Store(disk)
    disk.full = True
    store.put(1, b"a", Record(b"", 1, 1))
    with pytest.raises(StoreError, match="full"):
        store.commit()
    disk.full = False
    store.put(1, b"b", Record(b"", 1, 2))
    store.commit()
    assert store.keys == 1
    store.check()
