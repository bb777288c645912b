"""The commands for keys and for looking: what they print, how they end, and what people read when it goes wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ringkeeper.actors.client import Client
from ringkeeper.actors.config import ConfigError, EcsConfig, NodeConfig, ZooKeeperConfig
from ringkeeper.actors.node_folder import NodeFolderError
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.cli import load as loading
from ringkeeper.cli.main import ringkeeper
from ringkeeper.runtime.process import free_port
from ringkeeper.runtime.store import StoreError
from ringkeeper.tests.actors.fake_cluster import CLOSE, INDOUBT
from ringkeeper.tests.actors.rules.rings import lost
from ringkeeper.tests.cli.fake_ring import VALUE_BYTES_MAX, FakeRing
from ringkeeper.version import VERSION

BYTES = bytes(range(256)) * 3


@pytest.fixture
def cluster() -> Iterator[FakeRing]:
    cluster = FakeRing()
    with cluster:
        yield cluster


def type_(cluster: FakeRing | str, *words: str, standard_input: bytes = b"") -> Result:
    seeds = cluster if isinstance(cluster, str) else f"{cluster.address(0)},{cluster.address(1)}"
    return CliRunner(env={"RINGKEEPER_CLUSTER": seeds}).invoke(ringkeeper, words, input=standard_input)


def nowhere() -> str:
    return f"127.0.0.1:{free_port()}"


# Single keys


def test_what_was_put_is_got_byte_by_byte(cluster: FakeRing, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(BYTES)
    assert type_(cluster, "put", "k", "--file", str(tmp_path / "value")).exit_code == 0
    got = type_(cluster, "get", "k")
    assert (got.exit_code, got.stdout_bytes, got.stderr) == (0, BYTES, "")
    assert type_(cluster, "put", "k", "-", standard_input=BYTES[:500]).exit_code == 0
    assert type_(cluster, "get", "k").stdout_bytes == BYTES[:500]
    assert type_(cluster, "put", "k", "Ada").exit_code == 0
    assert type_(cluster, "get", "k").stdout_bytes == b"Ada"
    assert type_(cluster, "put", "k", "").exit_code == 0
    empty = type_(cluster, "get", "k")
    assert (empty.exit_code, empty.stdout_bytes) == (0, b"")


def test_a_key_and_a_value_may_be_any_bytes_that_a_command_line_can_hold(cluster: FakeRing) -> None:
    key, value = b"\xff\xfe key", b"\x80 value"
    assert type_(cluster, "put", os.fsdecode(key), os.fsdecode(value)).exit_code == 0
    assert cluster.values == {key: value}
    assert type_(cluster, "get", os.fsdecode(key)).stdout_bytes == value


def test_a_key_that_is_not_there_is_a_negative_answer(cluster: FakeRing) -> None:
    got = type_(cluster, "get", "nobody")
    assert (got.exit_code, got.stdout, got.stderr) == (1, "", "ringkeeper: nobody is not there\n")
    hostile = type_(cluster, "get", "a\x1b[2J\nb")
    assert hostile.stderr == "ringkeeper: a\\x1b[2J\\nb is not there\n", "the terminal is not told anything by a key"
    assert type_(cluster, "delete", "nobody").exit_code == 1


def test_a_deleted_key_is_gone(cluster: FakeRing) -> None:
    type_(cluster, "put", "k", "v")
    assert type_(cluster, "delete", "k").exit_code == 0
    assert cluster.values == {}


@pytest.mark.parametrize(
    "words",
    [
        ("put", "k"),
        ("put", "k", "v", "--file", "f"),
        ("put", "k", "--file", "no such file"),
        ("put", "", "v"),
        ("get",),
        ("get", "a", "b"),
        ("get", "k", "--cluster", "no address"),
        ("get", "k", "--timeout", "0"),
        ("get", "k", "--timeout", "inf"),
        ("load", "no such folder"),
        ("node", "--data", "x", "--port", "seven"),
        ("up", "--place", "anywhere"),
        ("up", "--acks", "two"),
        ("fly",),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2_and_changes_nothing(
    cluster: FakeRing, words: tuple[str, ...]
) -> None:
    result = type_(cluster, *words)
    assert result.exit_code == 2
    assert result.stderr
    assert "Traceback" not in result.output
    assert cluster.values == {}


@pytest.mark.parametrize(
    "words", [("put", "k", "v"), ("get", "k"), ("delete", "k"), ("locate", "k"), ("ring",), ("status",)]
)
def test_without_a_cluster_a_sentence_says_so(words: tuple[str, ...]) -> None:
    where = nowhere()
    result = type_(where, *words, "--timeout", "0.2")
    assert result.exit_code == 3
    assert where in result.stderr
    assert "safe to try again" in result.stderr
    assert "Traceback" not in result.output


def test_a_write_in_doubt_has_an_exit_status_of_its_own(cluster: FakeRing) -> None:
    cluster.everywhere.append(INDOUBT)
    result = type_(cluster, "put", "k", "v")
    assert result.exit_code == 4
    assert "Read the key before trying again" in result.stderr


def test_a_node_that_dies_under_a_write_leaves_it_in_doubt(cluster: FakeRing) -> None:
    cluster.everywhere.append(CLOSE)
    assert type_(cluster, "put", "k", "v", "--timeout", "1").exit_code == 4


def test_locate_says_slot_and_nodes(cluster: FakeRing) -> None:
    said = type_(cluster, "locate", "{user}:42")
    node = cluster.ring.coordinators[5474]
    assert node is not None
    assert said.stdout == (f"{{user}}:42 is in slot 5474; {node.id} answers for it (ring epoch 1)\n  {node.id}  up\n")
    located = json.loads(type_(cluster, "locate", "{user}:42", "--json").stdout)
    assert (located["slot"], located["coordinator"]) == (5474, node.id)


# Looking


def test_the_ring_is_drawn_with_every_node_and_what_it_holds(cluster: FakeRing) -> None:
    drawn = type_(cluster, "ring")
    assert drawn.exit_code == 0, drawn.stderr
    assert all(node.id in drawn.stdout for node in cluster.ring.nodes)
    assert "4 711" in drawn.stdout
    assert "3.0 MiB" in drawn.stdout
    assert Ring.from_json(type_(cluster, "ring", "--json").stdout.encode()) == cluster.ring


def test_status_shows_a_table_and_what_is_wrong(cluster: FakeRing) -> None:
    said = type_(cluster, "status")
    assert said.exit_code == 0
    assert said.stdout.startswith("cluster fake: ring 1 serves; the ECS at 127.0.0.1:9999 leads; no change in flight\n")
    assert all(node.id in said.stdout for node in cluster.ring.nodes)
    assert "127.0.0.1:1 is not taken into the ring: it is a stranger" in said.stdout
    assert "registered, and not in the ring: 127.0.0.1:2" in said.stdout


def test_status_says_how_many_copies_there_are_and_what_is_not_written_to(cluster: FakeRing) -> None:
    names = [cluster.address(index) for index in range(3)]
    cluster.ring = lost(replace(cluster.ring, replicas=3), names[0])
    assert "ring 2 serves with 3 copies of each slot; the ECS" in type_(cluster, "status").stdout
    cluster.ring = lost(cluster.ring, names[1])
    said = type_(cluster, "status").stdout
    assert f"read at {names[2]}, not written to: 1 of 2 copies that a write needs are up" in said
    cluster.ring = lost(cluster.ring, names[2])
    complete = ", ".join(f"{id} (down)" for id in sorted(names[1:]))
    said = type_(cluster, "status").stdout
    assert f"nobody answers; everything was on {complete}\n" in said
    elsewhere = tuple(replace(node, data_id=f"{n:016x}") for n, node in enumerate(cluster.ring.nodes))
    cluster.ring, known = replace(cluster.ring, nodes=elsewhere), cluster.ring
    assert "`ringkeeper recover ID --accept-loss`" in type_(cluster, "status").stdout
    cluster.ring = known
    nodes = tuple(replace(node, state="returning" if node.id == names[1] else "down") for node in cluster.ring.nodes)
    kept = tuple(replace(each, keeper=names[1]) for each in cluster.ring.trouble)
    cluster.ring = replace(cluster.ring, nodes=nodes, trouble=kept)
    said = type_(cluster, "status").stdout
    assert f"kept by {names[1]}, which is back; read and written again once 2 copies are up" in said
    alone = tuple(replace(each, complete=((names[1], dict(each.complete)[names[1]]),)) for each in kept)
    cluster.ring = replace(cluster.ring, trouble=alone)
    said = type_(cluster, "status").stdout
    assert f"read at {names[1]}, which is back and held everything; written to again once 2 copies are up" in said
    assert f"{names[1]} is back, and being made equal to the others before it is up" in said
    cluster.leader = ""
    assert "held everything; written to again" in type_(cluster, "status", "--timeout", "1").stdout


def test_status_for_programs_has_the_promised_fields(cluster: FakeRing) -> None:
    now = json.loads(type_(cluster, "status", "--json").stdout)
    assert {"epoch", "leader", "serving", "change", "nodes"} <= now.keys()
    for node in now["nodes"]:
        assert {"id", "state", "token", "slots", "keys", "bytes", "incarnation", "pid"} <= node.keys()


def test_a_ring_that_does_not_serve_is_a_negative_answer(cluster: FakeRing) -> None:
    cluster.serving = False
    said = type_(cluster, "status")
    assert said.exit_code == 1
    assert "does not serve all slots" in said.stdout
    assert type_(cluster, "status", "--json").exit_code == 1


def test_a_ring_that_was_stopped_is_said_to_be(cluster: FakeRing) -> None:
    cluster.serving, cluster.stopped = False, True
    said = type_(cluster, "status")
    assert said.exit_code == 1
    assert "ring 1 is stopped: client requests are refused until `ringkeeper start`;" in said.stdout


def test_while_nobody_leads_status_says_what_the_nodes_know(cluster: FakeRing) -> None:
    cluster.leader = ""
    cluster.values = {b"a": b"1", b"b": b"2"}
    said = type_(cluster, "status", "--json", "--timeout", "1")
    assert said.exit_code == 0, said.stderr
    now = json.loads(said.stdout)
    assert (now["leader"], now["serving"], now["change"], now["epoch"]) == (None, True, None, 1)
    assert sum(node["keys"] for node in now["nodes"]) == 2
    assert sorted(node["pid"] for node in now["nodes"]) == [6000, 6001, 6002]
    for node in now["nodes"]:
        assert {"id", "state", "token", "slots", "keys", "bytes", "incarnation", "pid"} <= node.keys()
    assert "no ECS leads" in type_(cluster, "status", "--timeout", "1").stdout


def test_while_nobody_leads_a_dead_node_is_shown_as_silent(cluster: FakeRing) -> None:
    cluster.leader = ""
    cluster.stop_node(2)
    now = json.loads(type_(cluster, "status", "--json", "--timeout", "0.8").stdout)
    silent = next(node for node in now["nodes"] if node["id"] == cluster.address(2))
    assert (silent["reachable"], silent["keys"], silent["pid"]) == (False, None, None)


# Loading


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    for name, content in {
        "a.txt": b"alpha",
        "empty": b"",
        "sub/b.bin": BYTES,
        "sub/deep/c.txt": b"gamma",
        "skip/d.txt": b"delta",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def load(cluster: FakeRing, folder: Path, *options: str) -> dict[str, Any]:
    result = type_(cluster, "load", str(folder), "--json", *options)
    assert result.exit_code in (0, 1), result.stderr
    tally: dict[str, Any] = json.loads(result.stdout)
    assert tally["files"] == tally["stored"] + tally["equal"] + len(tally["skipped"])
    assert result.exit_code == bool(tally["skipped"])
    return tally


def test_every_file_is_stored_under_its_relative_path(cluster: FakeRing, folder: Path) -> None:
    tally = load(cluster, folder)
    assert (tally["stored"], tally["bytes"]) == (5, 15 + len(BYTES))
    assert cluster.values == {
        b"a.txt": b"alpha",
        b"empty": b"",
        b"sub/b.bin": BYTES,
        b"sub/deep/c.txt": b"gamma",
        b"skip/d.txt": b"delta",
    }


def test_a_second_load_stores_only_what_is_not_there_or_not_equal(cluster: FakeRing, folder: Path) -> None:
    load(cluster, folder)
    cluster.asked.clear()
    again = load(cluster, folder)
    assert (again["stored"], again["equal"]) == (0, 5)
    assert b"SET" not in cluster.asked
    (folder / "a.txt").write_bytes(b"ALPHA")
    del cluster.values[b"empty"], cluster.values[b"skip/d.txt"]
    cluster.values[b"sub/deep/c.txt"] += b"!"
    assert load(cluster, folder)["stored"] == 4
    assert cluster.values[b"a.txt"] == b"ALPHA"
    assert cluster.values[b"empty"] == b""
    assert cluster.values[b"sub/deep/c.txt"] == b"gamma"


def test_a_fresh_load_reads_no_values(cluster: FakeRing, folder: Path) -> None:
    (folder / "empty").unlink()  # an empty file and a missing key have the same length
    load(cluster, folder)
    assert sorted(cluster.asked) == [b"SET"] * 4 + [b"STRLEN"] * 4


def test_files_can_be_chosen_by_name_and_keys_get_a_prefix(cluster: FakeRing, folder: Path) -> None:
    load(cluster, folder, "--match", "*.txt", "--exclude", "skip", "--exclude", "a*", "--prefix", "docs/")
    assert cluster.values == {b"docs/sub/deep/c.txt": b"gamma"}


def test_what_cannot_be_stored_is_skipped_and_named(cluster: FakeRing, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good").write_bytes(b"good")
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "circle").symlink_to(folder)
    with open(folder / "large", "wb") as large:
        large.truncate(1 << 40)  # sparse: reading it would never end
    (folder / "just-fits").write_bytes(bytes(VALUE_BYTES_MAX))
    tally = load(cluster, folder)
    assert tally["stored"] == 2
    assert tally["skipped"] == {
        "dangling": "No such file or directory",
        "fifo": "not a regular file",
        "large": f"{1 << 40} bytes, and the cluster takes {VALUE_BYTES_MAX} at most",
    }
    said = type_(cluster, "load", str(folder))
    assert said.exit_code == 1
    assert "5 files: 0 stored (0 bytes), 2 were there already, 3 skipped" in said.stdout
    assert "  skipped fifo: not a regular file" in said.stdout


def test_a_folder_that_cannot_be_listed_is_skipped_and_named(
    cluster: FakeRing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Any) -> Any:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", closed)
    said = type_(cluster, "load", str(folder), "--prefix", "p/")
    assert said.exit_code == 1 and "1 skipped" in said.stdout
    assert "  skipped p/sub/: Permission denied" in said.stdout


def test_a_value_that_the_cluster_refuses_for_good_is_skipped_and_the_others_are_stored(
    cluster: FakeRing, folder: Path
) -> None:
    for index in range(3):
        cluster.script(index, "SET", b"-ERR value is too much\r\n")
    tally = load(cluster, folder)
    assert 1 <= len(tally["skipped"]) <= 3
    assert all("value is too much" in why for why in tally["skipped"].values())
    assert load(cluster, folder)["skipped"] == {}
    assert len(cluster.values) == 5


def test_a_load_that_breaks_off_says_so_and_goes_on_when_run_again(
    cluster: FakeRing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH_FILES_MAX", 2)
    for index in range(3):
        cluster.script(index, "SET", CLOSE)
    broken = type_(cluster, "load", str(folder), "--timeout", "0.5")
    assert broken.exit_code == 4
    assert "run the same command again to go on" in broken.stderr
    cluster.acts.clear()
    assert load(cluster, folder)["skipped"] == {}
    assert len(cluster.values) == 5


def test_names_that_are_not_utf_8_keep_their_bytes(cluster: FakeRing, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.txt"
    with open(odd, "wb") as file:
        file.write(b"odd")
    load(cluster, tmp_path)
    assert cluster.values == {b"\xff\xfe.txt": b"odd"}


def test_no_more_than_a_batch_is_in_memory(cluster: FakeRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "BATCH_FILES_MAX", 4)
    monkeypatch.setattr(loading, "BATCH_BYTES_MAX", 1000)
    batches: list[dict[bytes, bytes]] = []
    store = loading._store

    def note(client: Client, batch: dict[bytes, bytes], tally: loading.Tally) -> None:
        batches.append(batch)
        store(client, batch, tally)

    monkeypatch.setattr(loading, "_store", note)
    for number in range(10):
        (tmp_path / f"{number}").write_bytes(bytes(400 if number > 5 else 1))
    assert load(cluster, tmp_path)["stored"] == 10
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert all(sum(map(len, batch.values())) <= 1000 + 400 for batch in batches)


# Help, and what should never happen


@pytest.mark.parametrize("name", list(ringkeeper.commands))
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(ringkeeper, [name, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"  ringkeeper {name}" in result.stdout


def test_the_list_of_commands_is_not_cut_off() -> None:
    result = CliRunner().invoke(ringkeeper, ["--help"])
    listed = result.stdout.partition("Commands:")[2]
    assert "..." not in listed
    assert [line.split()[0] for line in listed.strip().splitlines()] == list(ringkeeper.commands)


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(ringkeeper, ["--version"]).stdout == f"ringkeeper, version {VERSION}\n"


def test_a_bug_is_a_sentence_and_its_trace_is_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError("over nothing")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("ringkeeper.actors.client.Client.get", stumble)
    result = type_(nowhere(), "get", "k")
    assert result.exit_code == 70
    assert "Traceback" not in result.output
    (trace,) = tmp_path.iterdir()
    assert result.stderr.startswith(
        "ringkeeper: get failed in a way that it should not: ZeroDivisionError: over nothing."
    )
    assert str(trace) in result.stderr
    assert "in stumble" in trace.read_text()
    assert trace.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "words", [("locate", "k", "--json"), ("get", "k"), ("ring", "--json"), ("status",), ("export", "-"), ("--version",)]
)
def test_standard_output_that_takes_no_more_is_no_bug(
    cluster: FakeRing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    cluster.values = {b"k": bytes(20_000)}
    monkeypatch.setenv("RINGKEEPER_CLUSTER", cluster.address(0))
    with open("/dev/full", "w") as full, pytest.raises(SystemExit) as ended, monkeypatch.context() as changed:
        changed.setattr(sys, "stdout", full)
        ringkeeper(words)
    assert ended.value.code == 4
    assert capsys.readouterr().err.lstrip() == (
        "ringkeeper: standard output, or a file, could not be written: No space left on device. What was asked for may "
        "have been done, or a part of it\n"
    )


def test_ctrl_c_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ringkeeper.actors.client.Client.get", press)
    result = type_(nowhere(), "get", "k")
    assert result.exit_code == 130
    assert "Traceback" not in result.output


@pytest.mark.processes
def test_help_needs_no_heavy_library() -> None:
    program = "import sys; import ringkeeper.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"rich", "kazoo", "uvloop", "rocksdict", "msgspec", "pykka", "hiredis", "asyncio"}
    assert not heavy & set(loaded)


# One process each


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Configurations that would have been run."""
    configs: list[Any] = []

    def run(config: Any) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr("ringkeeper.runtime.process.configure_log", lambda *_: None)
    for name in ("run_node", "run_ecs", "run_zookeeper"):
        monkeypatch.setattr(f"ringkeeper.actors.processes.{name}", run)
    return configs


def test_options_become_settings(served: list[Any], tmp_path: Path) -> None:
    common = [
        "--bind",
        "10.0.0.5",
        "--advertise",
        "n1",
        "--secret-file",
        "s",
        "--cluster-name",
        "c",
        "--zookeeper",
        "z:1",
    ]
    run = CliRunner(env={"RINGKEEPER_PASSWORD": "sesame"}).invoke
    node_options = ["--port", "7005", "--data", "d", "--fsync", "always", "--no-join"]
    assert run(ringkeeper, ["node", *node_options, *common]).exit_code == 0
    copies = ["--replicas", "4", "--min-copies", "3", "--acks", "one"]
    assert run(ringkeeper, ["ecs", "--found-with", "3", "--place", "md5", *copies, *common]).exit_code == 0
    assert run(ringkeeper, ["zookeeper", "--port", "2182", "--data", "z", "--tick", "200"]).exit_code == 0
    node, ecs, zookeeper = served
    assert (node.id, node.data, node.fsync, node.password) == ("n1:7005", Path("d"), "always", "sesame")
    assert not node.joins
    for config in (node, ecs):
        assert (config.bind, config.secret_file, config.cluster_name, config.zookeeper) == (
            "10.0.0.5",
            Path("s"),
            "c",
            "z:1",
        )
    assert (ecs.found_with, ecs.place) == (3, "md5")
    assert (ecs.replicas, ecs.min_copies, ecs.acks) == (4, 3, "one")
    assert (zookeeper.port, zookeeper.tick_milliseconds) == (2182, 200)


def test_without_options_the_settings_are_the_defaults_of_the_configurations(served: list[Any]) -> None:
    for words in (["node", "--data", "d"], ["ecs"], ["zookeeper", "--data", "d"]):
        CliRunner().invoke(ringkeeper, words)
    assert served == [NodeConfig(data=Path("d")), EcsConfig(), ZooKeeperConfig(data=Path("d"))]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ConfigError("bad setting"), 2),
        (NodeFolderError("bad folder"), 3),
        (StoreError("bad disk"), 3),
        (OSError(98, "port 7001 is in use"), 3),
        (ZeroDivisionError("a bug"), 70),
    ],
)
def test_what_keeps_a_node_from_starting_is_a_sentence(
    served: list[Any], monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int
) -> None:
    def fail(config: object) -> int:
        raise failure

    monkeypatch.setattr("ringkeeper.actors.processes.run_node", fail)
    result = CliRunner().invoke(ringkeeper, ["node", "--data", "d"])
    assert result.exit_code == status
    assert str(failure.args[-1]) in result.stderr
    assert "Traceback" not in result.output


def test_down_without_a_cluster_is_a_negative_answer(tmp_path: Path) -> None:
    result = CliRunner().invoke(ringkeeper, ["down", "--data", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "no cluster lives in" in result.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["up", "down"])
def test_a_folder_of_a_newer_release_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "cluster.json").write_text('{"format": 2}')
    result = CliRunner().invoke(ringkeeper, [name, "--data", str(tmp_path)])
    assert result.exit_code == 3
    assert "newer release" in result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["cluster.json"]
