"""Small files that survive crashes whole, and folders that are held."""

import os
from pathlib import Path

import pytest
from ringkeeper.runtime import durable
from ringkeeper.runtime.durable import DurableFile, holder_of, lock_folder, make_folder


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "ring.json")
    assert file.read() is None
    file.write(b"one")
    file.write(b"two")
    assert file.read() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["ring.json"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DurableFile(tmp_path / "ring.json")
    file.write(b"old")

    def refuse(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no space"):
        file.write(b"new, and much longer")
    assert file.read() == b"old"


def test_what_a_crash_left_of_a_write_is_not_read(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "ring.json")
    file.write(b"old")
    (tmp_path / "ring.json.new").write_bytes(b"ha")
    assert file.read() == b"old"
    file.write(b"new")
    assert file.read() == b"new"


def test_a_secret_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "secret", mode=0o600)
    file.write(b"s")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_folder_is_held_once_and_says_by_whom(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    assert lock is not None and lock_folder(tmp_path) is None
    assert holder_of(tmp_path) == str(os.getpid())
    lock.close()
    again = lock_folder(tmp_path)
    assert again is not None
    again.close()
    assert holder_of(tmp_path / "nowhere") == ""


def test_a_folder_is_made_with_all_above_it_and_every_new_name_is_synced_before_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(
        durable, "sync_folder", lambda folder: synced.append((folder, [each.name for each in folder.iterdir()]))
    )
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert synced[-3:] == [(tmp_path, ["a"]), (tmp_path / "a", ["b"]), (tmp_path / "a" / "b", ["c"])]
    synced.clear()
    make_folder(tmp_path / "a" / "b" / "c")  # the first time may have been killed before it was synced
    assert synced == [(tmp_path / "a" / "b", ["c"])]


def test_a_folder_that_somebody_made_where_we_are_not_let_in_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(folder)

    monkeypatch.setattr(durable, "sync_folder", refuse)
    make_folder(tmp_path)
    with pytest.raises(PermissionError):
        make_folder(tmp_path / "new")
