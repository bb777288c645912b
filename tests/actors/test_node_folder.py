"""A node's folder: whose it is, which life this is, and what is refused."""

import json
from pathlib import Path

import pytest
from ringkeeper.actors.node_folder import FORMAT, NodeFolder, NodeFolderError

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


def refusal(path: Path, id: str = ID) -> str:
    before = {each: each.read_bytes() for each in path.iterdir() if each.name != "LOCK"}
    with pytest.raises(NodeFolderError) as refused:
        NodeFolder(path, id)
    assert {each: each.read_bytes() for each in path.iterdir() if each.name != "LOCK"} == before
    return str(refused.value)


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
