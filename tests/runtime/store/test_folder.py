"""Whose a store's folder is."""

from pathlib import Path

import pytest
from ringkeeper.runtime.store import StoreError, open_store
from ringkeeper.runtime.store.folder import StoreFolder


def contents(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def test_a_new_folder_is_claimed_and_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        StoreFolder(tmp_path / "deep" / "store", "rocksdb").close()
    assert (tmp_path / "deep/store/FORMAT").read_text() == "ringkeeper store, format 1, engine rocksdb\n"


def test_one_process_at_a_time_has_a_store(tmp_path: Path) -> None:
    store = open_store("rocksdb", tmp_path / "store")
    with pytest.raises(StoreError, match=rf"{tmp_path}/store is in use by process \d+"):
        open_store("rocksdb", tmp_path / "store")
    store.close()
    open_store("rocksdb", tmp_path / "store").close()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"ringkeeper store, format 2, engine rocksdb\n", r"newer release \(format 2, this release knows 1\)"),
        (b"ringkeeper store, format 1, engine json\n", "written by the engine json, not by rocksdb"),
        (b"ringkeeper store, format", "cannot be read"),
        (b"\0" * 40, "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_folder_that_is_not_for_this_release_is_refused_untouched(
    tmp_path: Path, line: bytes, complaint: str
) -> None:
    (tmp_path / "FORMAT").write_bytes(line)
    (tmp_path / "rocksdb").mkdir()
    (tmp_path / "rocksdb/CURRENT").write_bytes(b"of the future")
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=complaint):
        open_store("rocksdb", tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_with_other_peoples_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(StoreError, match=r"holds files \(thesis.txt\) but no FORMAT"):
        open_store("rocksdb", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "important"


def test_a_path_that_cannot_be_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/store cannot hold a store: .*Check the path"):
        open_store("rocksdb", tmp_path / "file" / "store")
