"""Small files that survive crashes whole, and folders that are held."""

import os
from pathlib import Path

import pytest
from ringkeeper.runtime.durable import DurableFile, holder_of, lock_folder


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
