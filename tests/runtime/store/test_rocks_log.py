"""What is left of a store whose log was cut or damaged: a beginning of what was written, or a refusal; never a hole."""

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringkeeper.runtime.store import Corrupt, Record, Store, open_store, rocks
from ringkeeper.runtime.store.rocks_log import BLOCK_BYTES, inspect
from ringkeeper.tests.runtime.store.machines import kill
from rocksdict import Options

VALUE_BYTES = [10, 10, 300, 10, 70_000, 10, 10]
"""Of the two records of each batch; the long ones are written in parts, over three blocks of the log."""


class Image:
    """The folder of a store as a kill leaves it, with ``batches`` committed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.batches, self._copies = folder / "image", 0, 0

    def write(self, value_bytes: list[int]) -> None:
        store = open_store("rocksdb", self.folder)
        for size in value_bytes:
            commit_batch(store, self.batches, size)
            self.batches += 1
        kill(store, self.folder, self.folder.with_name("killed"))
        self.folder.with_name("killed").rename(self.folder)

    @property
    def logs(self) -> list[Path]:
        return sorted(self.folder.glob("rocksdb/*.log"))

    @property
    def manifest(self) -> Path:
        return self.folder / "rocksdb" / (self.folder / "rocksdb/CURRENT").read_text().strip()

    def with_changed(self, file: Path, content: bytes | None) -> Path:
        """A copy in which one file has another content, or is missing."""
        self._copies += 1
        copy = self.folder.with_name(f"copy-{self._copies}")
        shutil.copytree(self.folder, copy)
        changed = copy / file.relative_to(self.folder)
        if content is None:
            changed.unlink()
        else:
            changed.write_bytes(content)
        return copy

    def left(self, file: Path, content: bytes | None) -> int:
        """How many batches a store opens with when a file has another content. Raises Corrupt."""
        copy = self.with_changed(file, content)
        try:
            store = open_store("rocksdb", copy)
            try:
                return batches_in(store)
            finally:
                store.disk.close()
        finally:
            shutil.rmtree(copy)


def commit_batch(store: Store, i: int, value_bytes: int) -> None:
    store.put(1, b"%d" % i, Record(bytes([i]) * value_bytes, 1, 2 * i + 1))
    store.put(2, b"%d" % i, Record(bytes([i]) * value_bytes, 1, 2 * i + 2))
    store.delete(3, b"nothing", 1, 2 * i + 3)
    store.commit()


def batches_in(store: Store) -> int:
    """How many batches there are: whole, from the first on, and correctly counted and numbered."""
    store.check()
    count = store.keys_in(1)
    assert store.keys == 2 * count and store.keys_in(2) == count
    assert all(store.get(slot, b"%d" % i) is not None for i in range(count) for slot in (1, 2))
    assert store.number(3) == ((1, 2 * count + 1) if count else (0, 0))
    return count


def headers(log: bytes) -> Iterator[int]:
    """Where the records of a log begin."""
    at = 0
    while at + 7 <= len(log):
        if BLOCK_BYTES - at % BLOCK_BYTES < 7:
            at += BLOCK_BYTES - at % BLOCK_BYTES
            continue
        yield at
        at += 7 + struct.unpack_from("<H", log, at + 4)[0]


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def image(quick_folder: Path) -> Image:
    image = Image(quick_folder)
    image.write(VALUE_BYTES)
    assert image.batches == 7 and len(image.logs) == 1
    return image


@pytest.fixture
def image_of_many_logs(quick_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """Full memory tables are kept back, so that their logs stay in use."""
    as_ever = rocks._options

    def kept_back() -> Options:
        options = as_ever()
        options.set_write_buffer_size(64 * 1024)
        options.set_min_write_buffer_number_to_merge(5)
        return options

    monkeypatch.setattr(rocks, "_options", kept_back)
    image = Image(quick_folder)
    image.write([4000] * 30)
    assert len(image.logs) >= 3
    return image


def test_a_log_cut_at_any_byte_opens_to_a_beginning_of_what_was_written(image: Image) -> None:
    log = image.logs[0].read_bytes()
    edges = {at + off for at in headers(log) for off in (-1, 0, 1, 4, 6, 7, 8)}
    cuts = sorted({cut for cut in edges if 0 <= cut <= len(log)} | set(range(0, len(log), len(log) // 30)) | {len(log)})
    left = [image.left(image.logs[0], log[:cut]) for cut in cuts]
    assert left == sorted(left) and left[0] == 0 and left[-1] == 7
    assert set(left) == set(range(8))


def test_zeros_after_the_end_of_a_log_are_an_end(image: Image) -> None:
    log = image.logs[0].read_bytes()
    cut = list(headers(log))[-1]
    assert image.left(image.logs[0], log + bytes(100_000)) == 7
    assert image.left(image.logs[0], log[:cut] + bytes(100)) == 6


def test_a_flipped_bit_in_a_log_is_refused_wherever_it_is(image: Image) -> None:
    log = image.logs[0].read_bytes()
    bits = {8 * (at + 4) + bit for at in headers(log) for bit in range(24)}  # of lengths and types, all
    bits |= set(range(0, 8 * len(log), 8 * len(log) // 40 + 1))  # of the rest, some
    for bit in sorted(bits):
        with pytest.raises(Corrupt, match="damaged.*Restore the folder"):
            image.left(image.logs[0], flipped(log, bit))


def test_zeros_in_the_middle_of_a_log_are_refused(image: Image) -> None:
    log = image.logs[0].read_bytes()
    second, third = list(headers(log))[1:3]
    for start, stop in ((0, 512), (second, third), (second, BLOCK_BYTES), (second, 2 * BLOCK_BYTES), (40_000, 40_512)):
        with pytest.raises(Corrupt):
            image.left(image.logs[0], log[:start] + bytes(stop - start) + log[stop:])


def test_a_log_that_lacks_a_record_is_refused(image: Image) -> None:
    log = image.logs[0].read_bytes()
    second, third = list(headers(log))[1:3]
    part = log[:BLOCK_BYTES]  # without what would no longer lie where it should
    with pytest.raises(Corrupt, match=f"at byte {second} there is a record that does not follow the one before"):
        image.left(image.logs[0], part[:second] + part[third:])


def test_a_flipped_bit_in_the_manifest_is_refused_or_harmless(image: Image) -> None:
    manifest = image.manifest.read_bytes()
    bits = {8 * (at + 4) + bit for at in headers(manifest) for bit in range(24)}
    for bit in sorted(bits | set(range(0, 8 * len(manifest), 61))):
        with pytest.raises(Corrupt):
            image.left(image.manifest, flipped(manifest, bit))


def test_records_without_the_file_that_names_them_are_refused(image: Image) -> None:
    current = image.folder / "rocksdb/CURRENT"
    with pytest.raises(Corrupt, match="CURRENT is missing, but records are there"):
        image.left(current, None)
    with pytest.raises(Corrupt, match="CURRENT is damaged"):
        image.left(current, b"MANIGEST-000005\n")


def test_a_store_that_was_killed_while_it_was_made_is_made_again(quick_folder: Path) -> None:
    open_store("rocksdb", quick_folder / "store").disk.close()
    for file in [*(quick_folder / "store/rocksdb").glob("*.log"), quick_folder / "store/rocksdb/CURRENT"]:
        file.unlink()
    open_store("rocksdb", quick_folder / "store").close()


def test_the_newest_of_many_logs_cut_opens_to_a_beginning(image_of_many_logs: Image) -> None:
    image = image_of_many_logs
    newest = image.logs[-1]
    log = newest.read_bytes()
    left = [image.left(newest, log[:cut]) for cut in (0, len(log) // 2, len(log) - 1, len(log))]
    assert left == sorted(set(left)) and left[-1] == 30
    assert image.left(newest, None) == left[0]


def test_an_older_log_cut_is_a_hole_and_refused_with_the_way_out(image_of_many_logs: Image) -> None:
    image = image_of_many_logs
    for older in image.logs[:-1]:
        log = older.read_bytes()
        some_header = list(headers(log))[3]
        for cut in (0, some_header, some_header + 3, some_header + 50, len(log) - 1):
            with pytest.raises(Corrupt, match=rf"{image.logs[-1].name}\): .*power cut.*lacks these newer files"):
                image.left(older, log[:cut])
        with pytest.raises(Corrupt):
            image.left(older, flipped(log, 8 * len(log) // 2))
    first = image.logs[0]
    for newer in image.logs[1:]:  # the way out
        newer.unlink()
    assert 0 < image.left(first, first.read_bytes()[:-1]) < 10


def test_a_log_that_is_no_longer_in_use_may_look_as_it_likes(image: Image) -> None:
    image.write([10])  # the log of the first life is in a table now
    assert image.logs[0].name > "000001.log"
    log = image.logs[0].read_bytes()
    for content in (log, log[: len(log) // 2], flipped(log, 8 * 5), b""):
        assert image.left(image.logs[0].with_name("000001.log"), content) == 8


def test_what_a_kill_leaves_is_never_taken_for_damage(quick_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocks, "MEMORY_TABLE_BYTES", 64 * 1024)
    image = Image(quick_folder)
    for size in (10, 3000, 100):
        image.write([])
        image.write([size] * 25)
        inspect(image.folder / "rocksdb")
    assert image.left(image.logs[-1], image.logs[-1].read_bytes()) == image.batches
