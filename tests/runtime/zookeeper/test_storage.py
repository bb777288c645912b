"""The tree on disk: what was written comes back, and what cannot be trusted is refused with a reason."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.runtime.zookeeper.records import OPEN_TO_ALL, Acl, Create, Delete, Mode, SetData
from ringkeeper.runtime.zookeeper.storage import DAMAGED_LOG, FILE, FORMAT, LOG, DataError, Storage
from ringkeeper.runtime.zookeeper.tree import Caller, Tree

ANN = Caller(11)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(tmp_path / "data")
    yield storage
    storage.close()


def write(storage: Storage, tree: Tree) -> None:
    changes = tree.take_changes()
    assert changes is not None
    storage.write(changes)


def filled(storage: Storage, znodes: int = 20) -> Tree:
    """A tree with some znodes, each written by itself."""
    tree = storage.load()
    tree.open_session(11, b"secret", 4000)
    for number in range(znodes):
        tree.apply(Create(f"/{number}", b"x" * 100, OPEN_TO_ALL), ANN, number)
        write(storage, tree)
    return tree


def copy_as_after_a_crash(storage: Storage, to: Path) -> Path:
    """The directory as it is now, while the writer still has it open."""
    shutil.copytree(storage.directory, to)
    return to


def test_a_new_directory_holds_an_empty_tree(storage: Storage) -> None:
    tree = storage.load()
    assert (tree.zxid, set(tree.nodes)) == (0, set(Tree().nodes))
    tree.check()


def test_what_was_written_comes_back(storage: Storage, tmp_path: Path) -> None:
    tree = storage.load()
    tree.open_session(11, b"secret", 4000)
    acls = (Acl(31, "digest", "ann:x"), Acl(1, "world", "anyone"))
    tree.apply(Create("/a", None, acls), ANN, 1)
    tree.apply(Create("/ü\N{SNOWMAN}", b"\0\xff", OPEN_TO_ALL, Mode.EPHEMERAL), ANN, 2)
    tree.apply(Create("/c", b"", OPEN_TO_ALL, Mode.CONTAINER), ANN, 3)
    tree.apply(Create("/gone", b"", OPEN_TO_ALL), ANN, 4)
    write(storage, tree)
    tree.apply(Delete("/gone"), ANN, 5)
    tree.apply(SetData("/c", b"new"), ANN, 6)
    write(storage, tree)

    crashed = Storage(copy_as_after_a_crash(storage, tmp_path / "crashed"))
    again = crashed.load()
    crashed.close()

    again.check()
    assert (again.zxid, again.nodes, again.sessions) == (tree.zxid, tree.nodes, tree.sessions)
    assert again.take_changes() is None


def test_a_session_that_ended_does_not_come_back(storage: Storage) -> None:
    tree = filled(storage, 1)
    tree.close_session(11)
    write(storage, tree)
    assert storage.load().sessions == {}


def test_a_directory_belongs_to_one_server(storage: Storage) -> None:
    with pytest.raises(DataError, match="in use by another ZooKeeper server .process [0-9]+.*directory of its own"):
        Storage(storage.directory)
    storage.close()
    Storage(storage.directory).close()


def test_a_newer_format_is_refused_and_not_touched(tmp_path: Path) -> None:
    Storage(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(DataError, match="written by a newer ringkeeper"):
        Storage(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_another_programs_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    database.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(DataError, match="not a ZooKeeper tree"):
        Storage(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_rubbish_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"rubbish" * 1000)
    with pytest.raises(DataError, match="cannot be read"):
        Storage(tmp_path)


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used as the data directory"):
        Storage(tmp_path / "file" / "data")


def test_a_file_whose_filling_was_interrupted_starts_over(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    storage = Storage(tmp_path)
    assert storage.load().zxid == 0
    storage.close()


def test_a_row_that_was_changed_is_refused(storage: Storage) -> None:
    filled(storage)
    storage.close()
    file = storage.directory / FILE
    content = file.read_bytes()
    at = content.rindex(b"x" * 100)
    file.write_bytes(content[:at] + b"y" + content[at + 1 :])
    damaged = Storage(storage.directory)
    with pytest.raises(DataError, match="not what was written .checksum.*Restore"):
        damaged.load()
    damaged.close()


def test_a_log_cut_at_any_byte_opens_to_a_prefix(storage: Storage, tmp_path: Path) -> None:
    filled(storage)
    whole = (storage.directory / LOG).read_bytes()

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, len(whole)))
    def cut(length: int) -> None:
        crashed = copy_as_after_a_crash(storage, tmp_path / "crashed")
        try:
            (crashed / LOG).write_bytes(whole[:length])
            opened = Storage(crashed)
            tree = opened.load()
            opened.close()
            names = {path for path in tree.nodes if path != "/" and not path.startswith("/zookeeper")}
            assert names == {f"/{number}" for number in range(len(names))}
            assert length < len(whole) or len(names) == 20
        finally:
            shutil.rmtree(crashed)

    cut()


def test_a_flipped_bit_in_the_log_is_refused_until_somebody_accepts_the_loss(storage: Storage, tmp_path: Path) -> None:
    filled(storage)
    whole = (storage.directory / LOG).read_bytes()
    for at in (100, len(whole) // 3, len(whole) // 2):
        crashed = copy_as_after_a_crash(storage, tmp_path / f"crashed-{at}")
        (crashed / LOG).write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        for _ in range(2):
            with pytest.raises(DataError, match="acknowledged are missing.*Restore"):
                Storage(crashed)
        (crashed / DAMAGED_LOG).unlink()
        accepted = Storage(crashed)
        accepted.load().check()
        accepted.close()


def test_a_write_that_fails_keeps_nothing(storage: Storage) -> None:
    tree = filled(storage, 3)
    before = storage.load()
    (pages,) = storage._database.execute("PRAGMA page_count").fetchone()
    storage._database.execute(f"PRAGMA max_page_count = {pages}")  # a full disk
    for number in range(100):
        tree.apply(Create(f"/more-{number}", b"x" * 1000, OPEN_TO_ALL), ANN, 1)
    with pytest.raises(DataError, match="cannot be written: database or disk is full"):
        write(storage, tree)
    storage.reopen()
    again = storage.load()
    assert (again.zxid, again.nodes) == (before.zxid, before.nodes)


def test_others_on_the_host_cannot_read_the_passwords(storage: Storage) -> None:
    filled(storage, 1)
    for name in (FILE, LOG):
        assert (storage.directory / name).stat().st_mode & 0o077 == 0


def test_the_disk_is_asked_to_sync_every_write(storage: Storage) -> None:
    full = 2
    assert storage._database.execute("PRAGMA synchronous").fetchone() == (full,)
    assert storage._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
