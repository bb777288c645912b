"""All engines against a dictionary, through every order of operations, failures, restarts and kills."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ringkeeper.runtime.store import Record, Store, StoreError
from ringkeeper.tests.runtime.store.machines import Machine

slots = st.integers(0, 3)
names = st.sampled_from([b"", b"a", b"ab", b"b", b"\xff\xff", b"n"])
values = st.sampled_from([b"", b"1", b"value", bytes(700)])

Rows = dict[tuple[int, bytes], Record]


class Oracle:
    """What a store holds, and the numbers of its slots."""

    def __init__(self, rows: Rows, numbers: dict[int, tuple[int, int]]) -> None:
        self.rows, self.numbers = dict(rows), dict(numbers)

    def copy(self) -> "Oracle":
        return Oracle(self.rows, self.numbers)

    def applied(self, slot: int, version: tuple[int, int]) -> None:
        self.numbers[slot] = max(self.numbers.get(slot, (0, 0)), version)

    def emptied(self, slot: int) -> int:
        keys = [at for at in self.rows if at[0] == slot]
        for at in keys:
            del self.rows[at]
        return len(keys)

    def of(self, slot: int) -> Rows:
        return {at: record for at, record in self.rows.items() if at[0] == slot}


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="ringkeeper-test-", dir=memory))
        self.machines: list[Machine] = []
        self.committed = Oracle({}, {})
        self.staged = self.committed.copy()
        self.epoch, self.seq = 1, 0

    @initialize(cache_bytes=st.sampled_from([0, 1000, 1 << 20]))
    def begin(self, cache_bytes: int) -> None:
        self.machines = [Machine(engine, self.folder / engine, cache_bytes) for engine in ("memory", "json", "rocksdb")]

    @property
    def stores(self) -> list[Store]:
        return [machine.store for machine in self.machines]

    def version(self, backwards: bool) -> tuple[int, int]:
        self.seq += 1
        return (1, self.seq // 2) if backwards else (self.epoch, self.seq)

    @rule(slot=slots, key=names, value=values, backwards=st.sampled_from([False, False, False, True]))
    def put(self, slot: int, key: bytes, value: bytes, backwards: bool) -> None:
        record = Record(value, *self.version(backwards), self.seq % 3)
        for store in self.stores:
            store.put(slot, key, record)
        self.staged.rows[slot, key] = record
        self.staged.applied(slot, (record.epoch, record.seq))

    @rule(slot=slots, key=names, backwards=st.booleans())
    def delete(self, slot: int, key: bytes, backwards: bool) -> None:
        version = self.version(backwards)
        was_there = self.staged.rows.pop((slot, key), None) is not None
        for store in self.stores:
            assert store.delete(slot, key, *version) == was_there
        self.staged.applied(slot, version)

    @rule(slot=slots)
    def flush(self, slot: int) -> None:
        version = self.version(False)
        keys = self.staged.emptied(slot)
        for store in self.stores:
            assert store.flush(slot, *version) == keys
        self.staged.applied(slot, version)

    @rule(dropped=st.sets(slots, max_size=3))
    def drop(self, dropped: set[int]) -> None:
        for store in self.stores:
            store.drop(sorted(dropped))
        if not dropped:
            return self.commit()
        for slot in dropped:
            self.staged.emptied(slot)
            self.staged.numbers[slot] = (0, 0)
        self.committed = self.staged.copy()
        return None

    @rule()
    def begin_an_epoch(self) -> None:
        self.epoch, self.seq = self.epoch + 1, 0

    @rule()
    def commit(self) -> None:
        for store in self.stores:
            store.commit()
            store.check()
        self.committed = self.staged.copy()
        one, *others = [[store.digest(slot) for slot in range(4)] for store in self.stores]
        assert others == [one, one]

    @rule()
    def fail_to_commit(self) -> None:
        for machine in self.machines:
            with pytest.MonkeyPatch.context() as monkeypatch:
                machine.break_disk(monkeypatch)
                if machine.store._before:
                    with pytest.raises(StoreError):
                        machine.store.commit()
            machine.store.check()
        self.staged = self.committed.copy()

    @rule(slot=slots, key=names)
    def get(self, slot: int, key: bytes) -> None:
        for store in self.stores:
            assert store.get(slot, key) == self.staged.rows.get((slot, key))

    @rule(
        first=slots,
        more=st.integers(0, 3),
        after=st.none() | st.tuples(slots, names),
        keys_max=st.integers(1, 30),
        bytes_max=st.integers(0, 2000),
    )
    def scan(self, first: int, more: int, after: tuple[int, bytes] | None, keys_max: int, bytes_max: int) -> None:
        expected: list[tuple[int, bytes, Record]] = []
        size = 0
        for at in sorted(self.committed.rows):
            record = self.committed.rows[at]
            if first <= at[0] <= first + more and (after is None or at > after):
                size += len(at[1]) + len(record.value)
                if expected and (size > bytes_max or len(expected) == keys_max):
                    break
                expected.append((*at, record))
        for store in self.stores:
            assert store.scan(first, first + more, after, keys_max, bytes_max) == expected

    @precondition(lambda self: self.machines)
    @rule(orderly=st.booleans())
    def end_and_begin_again(self, orderly: bool) -> None:
        for machine in self.machines:
            store = machine.restart() if orderly else machine.kill()
            assert store.closed_cleanly or not orderly
            store.check()
        self.staged = self.committed.copy()

    @invariant()
    def numbers_and_counts_are_exact(self) -> None:
        for store in self.stores:
            for slot in range(5):
                rows = self.staged.of(slot)
                assert store.number(slot) == self.staged.numbers.get(slot, (0, 0))
                assert store.keys_in(slot) == len(rows)
                assert store.bytes_in(slot) == sum(len(key) + len(r.value) for (_, key), r in rows.items())
            assert store.held_in(0, 5) == (store.keys, store.bytes)
            assert store.keys == len(self.staged.rows)

    def teardown(self) -> None:
        for machine in self.machines:
            machine.close()
        shutil.rmtree(self.folder)


Stores.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStores = Stores.TestCase
