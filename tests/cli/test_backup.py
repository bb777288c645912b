"""Backups in folders, and lines of JSON."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.backup import IDLE_SECONDS_MAX
from ringkeeper.actors.client import Client
from ringkeeper.actors.rules.slots import slot
from ringkeeper.cli import backup as backups
from ringkeeper.cli.archive import Archive, ArchiveError, Manifest, Part, Record
from ringkeeper.cli.backup import Damaged, Tally, line_of, parsed, record_of
from ringkeeper.cli.main import ringkeeper
from ringkeeper.tests.actors.fake_cluster import EXECUTE
from ringkeeper.tests.cli.fake_ring import FakeRing
from ringkeeper.tests.zookeepers import wait_until

RECORDS = [Record(b"user:42", b"Ada", 0), Record(b"\xff", b"\n\x00", 1_800_000_000_000)]


@pytest.fixture
def cluster() -> Iterator[FakeRing]:
    cluster = FakeRing()
    with cluster:
        cluster.values = {b"key:%d" % number: b"v" for number in range(20)}
        yield cluster


def type_(cluster: FakeRing, *words: object, standard_input: bytes = b"") -> Result:
    runner = CliRunner(env={"RINGKEEPER_CLUSTER": cluster.address(0)})
    return runner.invoke(ringkeeper, [*map(str, words)], input=standard_input)


def filled(folder: Path, number: int = 1, records: Iterable[list[Record]] = (RECORDS[:1], RECORDS[1:])) -> Manifest:
    archive = Archive(folder)
    archive.prepare()
    name = f"slots-00000-16383.{number}.part"
    keys, size, digest = archive.write(name, records)
    part = Part(
        file=name, first=0, last=16383, mark="m", node="127.0.0.1:7001", keys=keys, bytes=size, sha256=digest
    )  # fmt: skip
    manifest = Manifest(
        number=number, cluster="demo", cluster_id="c" * 16, epoch=3, made_at="", keys=keys, bytes=size, parts=(part,),
        ring={},
    )  # fmt: skip
    archive.finish(manifest)
    archive.close()
    return manifest


def test_what_was_written_is_read_and_the_next_backup_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "backup"
    filled(folder)
    archive, manifest = Archive(folder), filled(folder, number=2)
    assert archive.manifest() == manifest and (manifest.keys, manifest.bytes) == (2, 13)
    archive.check(manifest.parts[0])
    assert list(archive.read(manifest.parts[0])) == [RECORDS[:1], RECORDS[1:]]
    assert sorted(path.name for path in folder.iterdir()) == ["LOCK", "manifest.json", "slots-00000-16383.2.part"]


def test_one_backup_at_a_time_is_made_in_a_folder_and_the_first_one_may_be_broken_off(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        archive.prepare()
        archive.write("slots-00000-16383.1.part", [RECORDS])
        with pytest.raises(ArchiveError, match="one at a time"):
            Archive(tmp_path).prepare()
    with closing(Archive(tmp_path)) as archive:
        assert archive.prepare() is None


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone", "elsewhere"])
def test_a_damaged_part_is_found_before_anything_is_restored(tmp_path: Path, harm: str) -> None:
    part = filled(tmp_path).parts[0]
    path = tmp_path / part.file
    content = bytearray(path.read_bytes())
    content[9] ^= 1
    match harm:
        case "flipped":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:-1])
        case "gone":
            path.unlink()
        case _:
            part = Part(**{**{name: getattr(part, name) for name in part.__struct_fields__}, "file": "../x"})
    with pytest.raises(ArchiveError, match="missing or damaged"):
        Archive(tmp_path).check(part)


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ("{", "damaged, or no backup"),
        ("[]", "damaged, or no backup"),
        ("[" * 100_000, "damaged, or no backup"),
        ('{"format": 1}', "damaged, or no backup"),
        ('{"format": 99}', "newer release"),
    ],
)
def test_a_folder_that_is_no_backup_says_so(tmp_path: Path, manifest: str, why: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ArchiveError, match=why):
        Archive(tmp_path).prepare()


def test_a_manifest_that_lacks_something_is_not_restored_as_if_it_were_whole(cluster: FakeRing, tmp_path: Path) -> None:
    type_(cluster, "backup", tmp_path)
    path = tmp_path / "manifest.json"
    whole = json.loads(path.read_text())
    parts, cluster.values = whole["parts"], {}
    for harm, why in (
        ({"parts": parts[:-1]}, f"not all slots, from {parts[-1]['first']} on"),
        ({"parts": [*parts[:1], *parts]}, f"not all slots, from {parts[1]['first']} on"),
        ({"parts": []}, "not all slots, from 0 on"),
        ({"parts": [*parts[:-1], {**parts[-1], "last": 20_000}]}, f"not all slots, from {parts[-1]['first']} on"),
        ({"parts": [{**part, "keys": 0} for part in parts]}, "do not add up"),
        ({"bytes": whole["bytes"] + 1}, "do not add up"),
    ):
        path.write_text(json.dumps({**whole, **harm}))
        for command in "restore", "backup":
            refused = type_(cluster, command, tmp_path)
            assert refused.exit_code == 3 and why in refused.stderr, refused.output
    assert cluster.values == {}
    path.write_text(json.dumps(whole))
    assert type_(cluster, "restore", tmp_path).exit_code == 0 and len(cluster.values) == 20


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ArchiveError, match=r"holds files \(holiday.jpg\)"):
        Archive(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_the_backup_of_another_cluster_stays_unless_its_loss_is_accepted(cluster: FakeRing, tmp_path: Path) -> None:
    assert "20 keys" in type_(cluster, "backup", tmp_path).stdout
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    cluster.ring, cluster.values = replace(cluster.ring, cluster_id="e" * 16), {}
    refused = type_(cluster, "backup", tmp_path)
    assert refused.exit_code == 3
    assert "(20 keys) of another cluster" in refused.stderr and "nothing was changed" in refused.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before and not cluster.frozen
    assert type_(cluster, "backup", tmp_path, "--accept-loss").exit_code == 0
    manifest = Archive(tmp_path).manifest()
    assert manifest is not None and (manifest.cluster_id, manifest.keys) == ("e" * 16, 0)


def test_while_a_part_is_long_in_being_written_no_node_ends_its_backup(
    cluster: FakeRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: Archive, name: str, blocks: Iterable[list[Record]]) -> tuple[int, int, str]:
        heard = len(cluster.log)
        wait_until(lambda: {0, 1, 2} <= {node for node, words in cluster.log[heard:] if b"READ" in words}, timeout=3.0)
        return written(self, name, blocks)

    written = Archive.write
    monkeypatch.setattr(Archive, "write", write)
    assert backups.KEEP_SECONDS < IDLE_SECONDS_MAX / 3
    monkeypatch.setattr(backups, "KEEP_SECONDS", 0.01)
    assert type_(cluster, "backup", tmp_path).exit_code == 0
    assert not cluster.frozen


def test_what_a_backup_that_was_broken_off_has_fetched_is_not_fetched_again(
    cluster: FakeRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: Archive, name: str, blocks: Iterable[list[Record]]) -> tuple[int, int, str]:
        if len(list(self.folder.glob("*.part"))) == 2:
            raise OSError(5, "the disk fails")
        return written(self, name, blocks)

    written, mine, anothers = Archive.write, tmp_path / "mine", tmp_path / "anothers"
    with monkeypatch.context() as failing:
        failing.setattr(Archive, "write", write)
        assert "the disk fails" in type_(cluster, "backup", mine).stderr
    with open(mine / "fetched.jsonl", "ab") as noted:
        noted.write(b'{"cut off by a cra')
    shutil.copytree(mine, anothers)
    again = type_(cluster, "backup", mine)
    assert "20 keys" in again.stdout and "1 of 3 parts were fetched" in again.stdout
    assert sorted(path.suffix for path in mine.iterdir()) == ["", ".json", ".part", ".part", ".part"]
    cluster.ring = replace(cluster.ring, cluster_id="e" * 16)
    assert "3 of 3 parts were fetched" in type_(cluster, "backup", anothers).stdout


def test_what_is_no_file_is_written_straight_and_stays_what_it_is(cluster: FakeRing, tmp_path: Path) -> None:
    fifo = tmp_path / "all.jsonl"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as lines:
        assert type_(cluster, "export", fifo).stdout == f"20 keys are in {fifo}\n"
        assert len(lines.readlines()) == 20
    assert fifo.is_fifo() and list(tmp_path.iterdir()) == [fifo]
    full = type_(cluster, "export", "/dev/full")
    assert full.exit_code == 3 and "/dev/full cannot be written: No space left on device" in full.stderr


@given(st.builds(Record, st.binary(min_size=1), st.binary(), st.integers(0, 2**62)))
def test_a_line_is_read_as_it_was_written(record: Record) -> None:
    line = line_of(record)
    assert record_of(line) == record and line.count(b"\n") == 1


def test_a_line_is_what_a_person_would_write() -> None:
    assert line_of(RECORDS[0]) == b'{"key": "user:42", "value": "Ada"}\n'
    assert json.loads(line_of(RECORDS[1])) == {
        "key_base64": "/w==", "value": "\n\x00", "expires_ms": 1_800_000_000_000,
    }  # fmt: skip


def lines_of(keys: Iterable[str], file: Path) -> Path:
    file.write_bytes(b"".join(line_of(Record(key.encode(), b"new", 0)) for key in keys))
    return file


@pytest.mark.parametrize("command", ["import", "restore"])
def test_what_was_stored_in_part_does_not_end_as_if_nothing_had_happened(
    cluster: FakeRing, tmp_path: Path, command: str
) -> None:
    keys = [cluster.key(0), "x" * 70_000, cluster.key(1), cluster.key(2)]
    if command == "import":
        source, place = lines_of(keys, tmp_path / "all.jsonl"), "lines up to 1 (--from-line 2 goes on)"
    else:
        source = tmp_path / "backup"
        filled(source, records=[[Record(key.encode(), b"new", 0) for key in keys]])
        place = f"nothing (`ringkeeper restore {source} --merge` begins anew)"
    cluster.values = {}
    cluster.script(cluster.table[slot(keys[1].encode())], "SET", *refused_at(cluster, keys, 1))
    said = type_(cluster, command, source)
    assert said.exit_code == 4 and len(cluster.values) == 3
    assert f"Stored so far, at least: 3 keys; without a gap: {place}" in said.stderr
    assert len(said.stderr) < 500, "the key is cut"
    cluster.script(cluster.table[slot(keys[0].encode())], "SET", b"-ERR not that one\r\n")
    said = type_(cluster, "import", lines_of(keys[:1], tmp_path / "one"))
    assert said.exit_code == 3 and "Nothing was changed" in said.stderr and "Stored" not in said.stderr


def refused_at(cluster: FakeRing, keys: list[str], place: int) -> list[object]:
    """What the node of one of these keys does with what it gets of them."""
    owners = [cluster.table[slot(key.encode())] for key in keys]
    before = owners[:place].count(owners[place])
    return [*[EXECUTE] * before, b"-ERR a key has 1 to 65536 bytes, this one has 70000\r\n"]


def test_an_import_that_is_interrupted_says_how_to_go_on(
    cluster: FakeRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(client: Client, tally: Tally) -> None:
        if tally.stored:
            raise KeyboardInterrupt
        land(client, tally)

    land = backups.land
    monkeypatch.setattr(backups, "FLIGHT_KEYS_MAX", 4)
    monkeypatch.setattr(backups, "land", interrupted)
    cluster.values = {}
    said = type_(cluster, "import", lines_of([f"key:{number}" for number in range(9)], tmp_path / "all.jsonl"))
    assert said.exit_code == 130 and len(cluster.values) == 4
    assert "Stored so far, at least: 4 keys; without a gap: lines up to 4 (--from-line 5 goes on)" in said.stderr


def test_a_pipe_that_is_given_as_a_file_is_read_once(cluster: FakeRing) -> None:
    reading, writing = os.pipe()
    with open(reading), open(writing, "wb") as lines:
        lines.writelines(map(line_of, RECORDS[:1]))
        lines.close()
        cluster.values = {}
        said = type_(cluster, "import", f"/dev/fd/{reading}")
    assert said.stdout == f"1 keys are stored from /dev/fd/{reading}\n" and list(cluster.values) == [b"user:42"]


def test_of_a_stream_with_a_damaged_line_those_before_it_are_stored(cluster: FakeRing) -> None:
    cluster.values = {}
    said = type_(cluster, "import", "-", standard_input=line_of(RECORDS[0]) + b"[]\n" + line_of(RECORDS[1]))
    assert said.exit_code == 4 and list(cluster.values) == [b"user:42"]
    assert "line 2 of - is no record" in said.stderr and "lines up to 1 (--from-line 2 goes on)" in said.stderr
    said = type_(cluster, "import", "-", standard_input=b"[]\n")
    assert said.exit_code == 2 and "Nothing was stored." in said.stderr


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"key": "a"', "Expecting ',' delimiter"),
        ('{"key": "a"}', "either value or value_base64"),
        ('{"key": "a", "key_base64": "YQ==", "value": ""}', "either key or key_base64"),
        ('{"key": "", "value": ""}', "its key is empty"),
        ('{"key": 7, "value": ""}', "its key is no text"),
        ('{"key": "a", "value_base64": "?"}', "no base64"),
        ('{"key": "a", "value": "", "expires_ms": "soon"}', "no number of milliseconds"),
        ('{"key": "a", "value": "", "ttl": 5}', "'ttl' is not known"),
        ('{"key": "\\ud800", "value": ""}', "no valid Unicode"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_damaged_line_says_which_it_is_and_what_is_wrong_with_it(tmp_path: Path, line: str | bytes, why: str) -> None:
    file = tmp_path / "all.jsonl"
    content = line.encode() if isinstance(line, str) else line
    file.write_bytes(line_of(RECORDS[0]) + b"\n" + content + b"\n" + line_of(RECORDS[1]))
    with open(file, "rb") as lines:
        found = parsed(lines, file, 1)
        assert next(found)[:2] == (1, RECORDS[0])
        with pytest.raises(Damaged, match="line 3 of ") as damage:
            next(found)
    assert why in str(damage.value)
    with open(file, "rb") as lines:
        assert [number for number, _, _ in parsed(lines, file, 4)] == [4]
