"""A node's folder: whose it is, which life this is, and what is refused."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ringkeeper.actors.node_folder import FORMAT, NodeFolder, NodeFolderError, has_left
from ringkeeper.runtime.durable import DurableFile
from ringkeeper.runtime.store import Record, open_store

ID = "127.0.0.1:7001"


def begin(path: Path, id: str = ID) -> tuple[str, str]:
    """One life: (data id, incarnation)."""
    folder = NodeFolder(path, id)
    folder.close()
    return folder.data_id, folder.incarnation


def test_a_folder_keeps_its_data_id_and_gives_every_life_a_later_incarnation(tmp_path: Path) -> None:
    lives = [begin(tmp_path / "node") for _ in range(5)]
    assert len({data_id for data_id, _ in lives}) == 1
    incarnations = [incarnation for _, incarnation in lives]
    assert incarnations == sorted(set(incarnations)) and all(len(each) == 16 for each in incarnations)


def test_two_folders_never_have_the_same_data_id(tmp_path: Path) -> None:
    assert begin(tmp_path / "one")[0] != begin(tmp_path / "two")[0]


def test_that_a_node_has_left_stays_written_until_its_next_life(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path, ID)
    assert not has_left(tmp_path)
    folder.note_left()
    folder.close()
    assert has_left(tmp_path)
    data_id, _ = begin(tmp_path)
    assert not has_left(tmp_path)
    assert data_id == folder.data_id


@pytest.mark.parametrize("content", [None, b"", b"[]", b"7", b"{}", b'{"left": 1}', b'{"left": "true"}', b"\xff"])
def test_where_nothing_says_so_no_node_has_left(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "node.json").write_bytes(content)
    assert not has_left(tmp_path)


def refusal(path: Path, id: str = ID) -> str:
    before = content(path)
    with pytest.raises(NodeFolderError) as refused:
        NodeFolder(path, id)
    assert content(path) == before
    return str(refused.value)


def content(path: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in path.rglob("*") if each.is_file() and each.name != "LOCK"}


def test_the_folder_of_another_node_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    begin(tmp_path)
    assert "holds the data of 127.0.0.1:7001" in refusal(tmp_path, "127.0.0.1:7002")


def test_a_folder_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    document = json.loads((tmp_path / "node.json").read_text())
    (tmp_path / "node.json").write_text(json.dumps(document | {"format": FORMAT + 1}))
    assert "newer release" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x", "id": "a"}', '{"format": 1, "id": 5}', "\x00"])
def test_a_damaged_folder_is_refused(tmp_path: Path, content: str) -> None:
    begin(tmp_path)
    (tmp_path / "node.json").write_text(content)
    assert str(tmp_path) in refusal(tmp_path)


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not touch")
    assert "none that says it is a node's folder" in refusal(tmp_path)


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path, ID)
    assert "in use by process" in refusal(tmp_path)
    folder.close()
    begin(tmp_path)


# The records


def live(path: Path, key: bytes | None = None, id: str = ID) -> int:
    """One life with a store, in which a key may be written; returns how many keys there were when it began."""
    folder = NodeFolder(path, id)
    try:
        store = open_store("rocksdb", folder.store)
        try:
            folder.bind_store()
            keys = store.keys
            if key is not None:
                store.put(1, key, Record(b"value", 1, store.number(1)[1] + 1, 0))
                store.commit()
            return keys
        finally:
            store.close()
    finally:
        folder.close()


def test_a_store_that_is_where_it_was_is_taken_at_every_start(tmp_path: Path) -> None:
    assert [live(tmp_path / "node", key) for key in (b"one", b"two", None)] == [0, 1, 2]


def move_away(store: Path) -> None:
    store.rename(store.with_name("elsewhere"))


def empty(store: Path) -> None:
    shutil.rmtree(store)
    store.mkdir()


def empty_but_for_its_data_id(store: Path) -> None:
    data_id = (store / "data_id").read_bytes()
    empty(store)
    (store / "data_id").write_bytes(data_id)


def remove_what_the_engine_keeps(store: Path) -> None:
    shutil.rmtree(store / "rocksdb")


def empty_what_the_engine_keeps(store: Path) -> None:
    remove_what_the_engine_keeps(store)
    (store / "rocksdb").mkdir()


def exchange_for_an_unnamed_one(store: Path) -> None:
    empty(store)
    open_store("rocksdb", store).close()


LOSSES = [
    move_away,
    empty,
    empty_but_for_its_data_id,
    remove_what_the_engine_keeps,
    empty_what_the_engine_keeps,
    exchange_for_an_unnamed_one,
]


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("key", [b"a", None])
def test_a_folder_whose_records_are_gone_is_refused_until_they_are_back(
    tmp_path: Path, lose: Callable[[Path], None], key: bytes | None
) -> None:
    path, kept = tmp_path / "node", tmp_path / "kept"
    live(path, key)
    shutil.copytree(path / "store", kept)
    lose(path / "store")
    for _ in range(2):
        said = refusal(path)
        assert f"the records of {ID} are gone" in said and "Put" in said and "empty folder" in said
    shutil.rmtree(path / "store", ignore_errors=True)
    kept.rename(path / "store")
    assert live(path) == (key is not None)


def test_the_store_of_another_node_is_refused_even_by_a_node_that_never_had_one(tmp_path: Path) -> None:
    live(tmp_path / "one", b"a")
    live(tmp_path / "two", id="127.0.0.1:7002")
    begin(tmp_path / "new")
    for path in (tmp_path / "two", tmp_path / "new"):
        shutil.rmtree(path / "store", ignore_errors=True)
        shutil.copytree(tmp_path / "one" / "store", path / "store")
    assert "is not this node's store" in refusal(tmp_path / "two", "127.0.0.1:7002")
    assert "is not this node's store" in refusal(tmp_path / "new")


# A first start that is killed


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program runs after it."""


def steps(path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int) -> int:
    """Begin the first life and end it before the so-manieth change of the disk; returns how many there were."""
    done = 0

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **more: object) -> object:
            nonlocal done
            if done == kill_at:
                raise Killed
            done += 1
            return change(*args, **more)

        return step

    with monkeypatch.context() as patch:
        for change in ("mkdir", "open", "replace", "fsync"):
            patch.setattr(os, change, counted(getattr(os, change)))
        try:
            live(path)
        except Killed:
            return done
    return -1


def test_a_first_start_that_is_killed_anywhere_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = 0
    while steps(tmp_path / f"node{moments}" / "data", monkeypatch, moments) >= 0:
        assert live(tmp_path / f"node{moments}" / "data", b"a") == 0, f"killed at step {moments}"
        begin(tmp_path / f"node{moments}" / "data")
        moments += 1
    assert moments > 10


def test_a_first_start_killed_before_its_file_had_its_name_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "LOCK").write_text("4711")
    (tmp_path / "node.json.new").write_bytes(b'{"format": 1, "id"')
    begin(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["LOCK", "WHOLE", "node.json"]


def lived(path: Path, boot_id: str, *, synced: bool = False, ended: bool = False, made_equal: bool = False) -> bool:
    """One life: whether it began with a directory that lacks nothing."""
    folder = NodeFolder(path, ID, synced=synced, boot_id=boot_id)
    whole = folder.whole
    if made_equal:
        folder.note_whole()
    if ended:
        folder.note_ended()
    folder.close()
    return whole


def test_a_killed_process_has_lost_nothing_unless_the_machine_has_started_again_since(tmp_path: Path) -> None:
    assert lived(tmp_path, "monday") and lived(tmp_path, "monday")
    assert not lived(tmp_path, "tuesday")
    assert not lived(tmp_path, "tuesday"), "what was lost stays lost over any number of lives"
    assert not lived(tmp_path, "tuesday", made_equal=True)
    assert lived(tmp_path, "tuesday") and not lived(tmp_path, "wednesday")


def test_who_ended_in_order_or_synced_what_it_acknowledged_has_lost_nothing_by_a_power_cut(tmp_path: Path) -> None:
    assert lived(tmp_path, "monday", ended=True)
    assert lived(tmp_path, "tuesday", synced=True)
    assert lived(tmp_path, "wednesday")
    assert not lived(tmp_path, "thursday", synced=True), "the life before had not synced"


def test_where_no_boot_id_can_be_read_every_life_may_be_the_first_after_a_power_cut(tmp_path: Path) -> None:
    assert lived(tmp_path, "", ended=True) and lived(tmp_path, "") and not lived(tmp_path, "")


def test_who_failed_to_sync_may_have_lost_something_until_it_is_made_equal_in_another_life(tmp_path: Path) -> None:
    """Whatever it synced afterwards, and whether the machine has run on or not: nobody knows what was dropped."""
    with closing(NodeFolder(tmp_path, ID, synced=True, boot_id="monday")) as folder:
        folder.note_not_whole()
        folder.note_whole()  # the ring called it up before it had heard
        folder.note_ended()
    assert not lived(tmp_path, "monday", synced=True, ended=True)
    assert not lived(tmp_path, "monday", made_equal=True)
    assert lived(tmp_path, "monday")


def test_who_failed_to_sync_for_want_of_room_and_has_none_to_say_so_is_not_whole_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: DurableFile, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with closing(NodeFolder(tmp_path, ID, boot_id="monday")) as folder, monkeypatch.context() as patch:
        patch.setattr(DurableFile, "write", refuse)
        folder.note_not_whole()
        with pytest.raises(OSError, match="No space"):
            folder.note_ended()
    assert not lived(tmp_path, "monday") and not lived(tmp_path, "monday", made_equal=True)
    assert lived(tmp_path, "monday")


def test_a_start_that_is_killed_does_not_make_whole_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(NodeFolder(tmp_path, ID, boot_id="monday")) as folder:
        folder.note_not_whole()
    for change in ("replace", "fsync"):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, change, die)
            NodeFolder(tmp_path, ID, boot_id="monday")
        assert not lived(tmp_path, "monday")
    with closing(NodeFolder(tmp_path, ID, boot_id="monday")) as folder, monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(Killed):
            folder.note_whole()
    assert not lived(tmp_path, "monday")


def die(*args: object) -> None:
    raise Killed


def test_a_folder_of_a_release_that_did_not_mark_what_is_whole_is_believed_as_it_was(tmp_path: Path) -> None:
    for whole in (True, False):
        lived(tmp_path, "monday")
        content = json.loads((tmp_path / "node.json").read_bytes())
        del content["marked"]
        (tmp_path / "node.json").write_text(json.dumps(content | {"whole": whole}))
        (tmp_path / "WHOLE").unlink()
        assert lived(tmp_path, "monday") == whole
        assert lived(tmp_path, "monday") == whole


# A damaged store


def used_folder(path: Path) -> NodeFolder:
    live(path, key=b"key")
    return NodeFolder(path, ID)


def test_a_damaged_store_is_put_aside_by_the_next_life_and_the_folder_is_another_data_directory(tmp_path: Path) -> None:
    with closing(used_folder(tmp_path)) as folder:
        data_id = folder.data_id
        folder.note_damaged("a bit is flipped")
    with closing(NodeFolder(tmp_path, ID)) as folder:
        assert folder.data_id != data_id and folder.incarnation.startswith("00000003")
        assert not folder.store.exists()
        assert json.loads((tmp_path / "aside/node.json").read_bytes())["data_id"] == data_id
        with closing(open_store("rocksdb", tmp_path / "aside/store")) as store:
            assert store.keys == 1
        open_store("rocksdb", folder.store).close()
        folder.bind_store()
    data_id = folder.data_id
    assert begin(tmp_path)[0] == data_id  # once is enough


def test_putting_aside_that_was_broken_off_is_done_again_and_an_earlier_one_makes_room(tmp_path: Path) -> None:
    with closing(used_folder(tmp_path)) as folder:
        (tmp_path / "aside").mkdir()
        (tmp_path / "aside/old").write_bytes(b"")
        folder.note_damaged("a bit is flipped")
    (tmp_path / "store").rename(tmp_path / "aside/store")  # and killed before it was written down
    with closing(NodeFolder(tmp_path, ID)) as again:
        assert again.data_id != folder.data_id and (tmp_path / "aside/store").exists()
        open_store("rocksdb", again.store).close()
        again.bind_store()
        again.put_aside("another bit is flipped")
        assert not (tmp_path / "aside/old").exists() and not again.store.exists()


def test_that_a_node_has_answered_alone_is_known_to_its_next_lives_until_its_store_is_put_aside(tmp_path: Path) -> None:
    for noted in (False, True, True):
        with closing(NodeFolder(tmp_path, ID)) as folder:
            assert folder.answered_alone is noted
            folder.note_answered_alone()
    with closing(NodeFolder(tmp_path, ID)) as folder:
        folder.put_aside("a bit is flipped")
        assert not folder.answered_alone


def test_what_could_not_be_written_down_is_not_taken_for_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(NodeFolder(tmp_path, ID)) as folder:
        with monkeypatch.context() as full:
            full.setattr(folder, "_write", lambda: os.open(tmp_path / "no such folder" / "x", os.O_CREAT))
            for _ in range(2):
                with pytest.raises(OSError, match="No such file"):
                    folder.note_answered_alone()
        folder.note_answered_alone()
    with closing(NodeFolder(tmp_path, ID)) as again:
        assert again.answered_alone
