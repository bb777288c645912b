"""The launcher: what it starts, brings back, adopts and ends, and what its folder remembers."""

import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ringkeeper.actors.cluster_folder import (
    LAUNCHER,
    LOG_BYTES_MAX,
    Cluster,
    ClusterFolder,
    FolderError,
    FolderInUse,
)
from ringkeeper.actors.config import BRIDGE_PORT_OFFSET, ConfigError
from ringkeeper.actors.launcher import (
    BRING_BACK_SECONDS,
    BRING_BACK_SECONDS_MAX,
    ENDING,
    NODES_MAX,
    PORTS_TRIED_MAX,
    REGISTER_AGAIN_SECONDS,
    STEADY_SECONDS,
    TERMINATE_SECONDS_MAX,
    EndProcesses,
    Launcher,
    ListProcesses,
    NodeRestarted,
    NodesStarted,
    Processes,
    ProcessesEnded,
    ProcessExited,
    ProcessLeft,
    ProcessStarted,
    RestartNode,
    SignalProcess,
    StartNodes,
    StartProcess,
    programs_of,
)
from ringkeeper.actors.local import Wishes, settle, why_not_serving
from ringkeeper.runtime.actor import Ref
from ringkeeper.runtime.children import KILL_SECONDS_MAX, ChildExited, ProcessId
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.process import free_port
from ringkeeper.runtime.session import (
    Answered,
    CloseSession,
    Connected,
    CreateNode,
    DeleteNode,
    ReadNode,
    SessionClosed,
    Subscribe,
)

CLUSTER = Cluster(node_ports=(7001, 7002, 7003), zookeeper_port=2181, ecs_port=2182)
ME = ProcessId(1, "mine")


class FakeChildren:
    """Processes that begin, live and end only in the tests' imagination."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.commands: dict[str, tuple[str, ...]] = {}
        self.living: dict[int, str] = {}
        self.signals: list[tuple[str, str]] = []
        self.strangers: set[ProcessId] = set()
        self.cannot_start = False
        self.starts_left: int | None = None
        """How many more processes can be started; None: any number."""
        self._next_pid = 100

    def start(
        self, argv: tuple[str, ...], *, log_file: Path, tell: Ref, environment: Mapping[str, str] | None = None
    ) -> ProcessId:
        if self.cannot_start or self.starts_left == 0:
            raise OSError(12, "Cannot allocate memory")
        if self.starts_left is not None:
            self.starts_left -= 1
        self._next_pid += 1
        self.started.append(log_file.stem)
        self.commands[log_file.stem] = argv
        self.living[self._next_pid] = log_file.stem
        return ProcessId(self._next_pid, f"mark of {self._next_pid}")

    def adopt(self, process: ProcessId, *, tell: Ref) -> bool:
        if process in self.strangers:
            self.living[process.pid] = "adopted"
        return process in self.strangers

    def lives(self, process: ProcessId) -> bool:
        return process in self.strangers

    def terminate(self, pid: int) -> bool:
        return self._signal(pid, "TERM")

    def kill(self, pid: int) -> bool:
        return self._signal(pid, "KILL")

    def signal(self, pid: int, number: int) -> bool:
        return self._signal(pid, str(number))

    def _signal(self, pid: int, what: str) -> bool:
        if pid in self.living:
            self.signals.append((self.living[pid], what))
        return pid in self.living

    def pid_of(self, name: str) -> int:
        return next(pid for pid, each in self.living.items() if each == name)


class Stage:
    """A launcher with its folder, its imagined children, and what it says."""

    def __init__(self, path: Path, cluster: Cluster = CLUSTER, *, watches: str | None = None) -> None:
        self.folder = OldFolder(path)
        self.folder.lock()
        self.children = FakeChildren()
        self.folder.found(cluster)
        self.cluster, self.watches = cluster, watches
        self.busy: set[int] = set()
        """Ports that somebody else has."""

    def raise_curtain(self) -> "Stage":
        self.harness = Harness(
            Launcher,
            cluster=self.cluster,
            children=self.children,
            folder=self.folder,
            me=(LAUNCHER, ME),
            observer="probe:observer",
            is_free=lambda host, port: port not in self.busy,
            watches=self.watches,
            registration="/ringkeeper/ringkeeper/launchers/127.0.0.1",
            bridge="127.0.0.1:4711",
            enter=lambda host: ("enter", host),
        )
        return self

    def start_nodes(self, count: int, *, dry_run: bool = False) -> list[Any]:
        return self.tell(StartNodes(question=7, count=count, dry_run=dry_run, reply_to=self.harness.probe("ecs actor")))

    def restart(self, port: int, question: int = 8) -> list[Any]:
        probe = self.harness.probe("ecs actor")
        return self.tell(RestartNode(question=question, node=f"127.0.0.1:{port}", reply_to=probe))

    def write_left(self, port: int) -> None:
        """What a node writes down that leaves the ring."""
        self.folder.node_folder(port).mkdir(exist_ok=True)
        (self.folder.node_folder(port) / "node.json").write_text('{"left": true}')

    def ports(self) -> tuple[int, ...]:
        """Which nodes the folder says there are."""
        cluster = self.folder.cluster()
        assert cluster is not None
        return cluster.node_ports

    def exits(self, name: str, status: int | None = -9) -> list[Any]:
        pid = self.children.pid_of(name)
        del self.children.living[pid]
        return [message for _, message in self.harness.tell(ChildExited(pid=pid, status=status))]

    def advance(self, seconds: float) -> list[Any]:
        return [message for _, message in self.harness.advance(seconds)]

    def tell(self, message: object) -> list[Any]:
        return [answer for _, answer in self.harness.tell(message)]

    def noted(self) -> dict[str, int]:
        content = json.loads((self.folder.path / "cluster.json").read_text())
        return {name: pid for name, (pid, _) in content["running"].items()}


class OldFolder(ClusterFolder):
    """A folder that believes what is noted in it, since the processes are imagined."""

    def running(self) -> dict[str, ProcessId]:
        noted = self._read().get("running", {})
        return {name: ProcessId(*process) for name, process in noted.items()}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "data").raise_curtain()


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives a power cut is tested elsewhere."""
    monkeypatch.setattr("os.fsync", lambda _: None)


# Starting and coming back


def test_zookeeper_the_ecs_and_every_node_are_started_and_noted(stage: Stage) -> None:
    assert stage.children.started == ["zookeeper", "ecs", "node-7001", "node-7002", "node-7003"]
    assert [m.program.name for _, m in stage.harness.sent] == stage.children.started
    assert stage.noted() == {
        LAUNCHER: 1,
        "zookeeper": 101,
        "ecs": 102,
        "node-7001": 103,
        "node-7002": 104,
        "node-7003": 105,
    }


def test_with_a_zookeeper_of_ones_own_none_is_started(tmp_path: Path) -> None:
    own = Cluster(node_ports=(7001,), zookeeper="zk1:2181,zk2:2181", ecs_port=2182)
    stage = Stage(tmp_path, own).raise_curtain()
    assert stage.children.started == ["ecs", "node-7001"]
    for program in programs_of(own, stage.folder):
        assert program.arguments[program.arguments.index("--zookeeper") + 1] == "zk1:2181,zk2:2181"


def test_what_people_may_do_to_a_cluster_is_said_anew_at_every_start(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    folder.prepare()
    for faults, code in (True, False), (False, True), (False, False):
        known = settle(folder, Wishes(nodes=1, allow_faults=faults, allow_code=code), {})
        assert folder.cluster() == known
        for program in programs_of(known, folder):
            allowed = {"--allow-faults", "--allow-code"} & set(program.arguments)
            wanted = {word for word, yes in (("--allow-faults", faults), ("--allow-code", code)) if yes}
            assert allowed == (wanted if program.kind != "zookeeper" else set())


def test_nodes_are_spread_over_the_addresses_of_this_machine_and_started_there(tmp_path: Path) -> None:
    hosts = ("10.0.0.100", "10.0.0.101", "10.0.0.102")
    spread = Cluster(host="10.0.0.1", node_hosts=hosts, node_ports=(7001, 7002), zookeeper_port=2181, ecs_port=2182)
    stage = Stage(tmp_path, spread).raise_curtain()
    assert stage.start_nodes(1)[-1] == NodesStarted(question=7, ids=("10.0.0.101:7003",))
    known = stage.folder.cluster()
    assert known is not None and known.seeds == ("10.0.0.102:7001", "10.0.0.100:7002", "10.0.0.101:7003")
    for name, host in ("ecs", "10.0.0.1"), ("node-7001", "10.0.0.102"), ("node-7003", "10.0.0.101"):
        command = stage.children.commands[name]
        assert command[command.index("--bind") + 1] == host
        assert command[command.index("--zookeeper") + 1] == "10.0.0.1:2181"
        assert (command[:2] == ("enter", host)) is (name != "ecs")


@pytest.mark.parametrize("name", ["ecs", "zookeeper"])
def test_ecs_and_zookeeper_come_back_after_a_pause_that_doubles(stage: Stage, name: str) -> None:
    pauses = []
    for _ in range(9):
        (exited,) = stage.exits(name)
        assert isinstance(exited, ProcessExited)
        assert exited.back_in_seconds is not None
        pauses.append(exited.back_in_seconds)
        assert stage.advance(exited.back_in_seconds * 0.99) == []
        (started,) = stage.advance(exited.back_in_seconds * 0.01)
        assert isinstance(started, ProcessStarted)
        assert (started.program.name, started.restarts) == (name, len(pauses))
    assert pauses[:4] == [BRING_BACK_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert pauses[-1] == BRING_BACK_SECONDS_MAX


def test_who_lived_long_comes_back_soon(stage: Stage) -> None:
    for _ in range(5):
        stage.exits("ecs")
        stage.advance(BRING_BACK_SECONDS_MAX)
    stage.advance(STEADY_SECONDS)
    (exited,) = stage.exits("ecs")
    assert exited.back_in_seconds == BRING_BACK_SECONDS


def test_a_storage_node_stays_dead_and_its_death_is_told(stage: Stage) -> None:
    (stage.folder.path / "logs" / "node-7002.log").write_text("all is well\nthe disk is on fire\n\n")
    (exited,) = stage.exits("node-7002", status=3)
    assert exited.back_in_seconds is None
    assert exited.sentence == "node 127.0.0.1:7002 ended with status 3: the disk is on fire"
    assert exited.program.command.startswith("ringkeeper node --port 7002 --data ")
    assert stage.advance(3600) == []
    assert "node-7002" not in stage.noted()
    listed: Processes = stage.harness.ask(ListProcesses())
    assert [(p.name, p.pid, p.status) for p in listed.processes if p.kind == "node"] == [
        ("node-7001", 103, None),
        ("node-7002", 0, 3),
        ("node-7003", 105, None),
    ]


def test_a_killed_process_is_not_said_to_have_said_its_last_log_line(stage: Stage) -> None:
    (stage.folder.path / "logs" / "node-7001.log").write_text("all is well\n")
    (exited,) = stage.exits("node-7001", status=-9)
    assert exited.sentence == "node 127.0.0.1:7001 was killed by signal 9 (SIGKILL)"


def test_what_cannot_be_started_is_told_like_a_death_and_tried_again(stage: Stage) -> None:
    stage.exits("ecs")
    stage.children.cannot_start = True
    (exited,) = stage.advance(BRING_BACK_SECONDS)
    assert "Cannot allocate memory" in exited.sentence
    stage.children.cannot_start = False
    (started,) = stage.advance(exited.back_in_seconds)
    assert started.program.name == "ecs"


def test_the_processes_can_be_asked_for_by_another_actor(stage: Stage) -> None:
    (answer,) = stage.harness.tell(ListProcesses(question=7, reply_to=stage.harness.probe("ecs actor")))
    assert answer[0] == "ecs actor"
    assert answer[1].question == 7


def test_a_signal_reaches_the_named_process_if_it_runs(stage: Stage) -> None:
    assert stage.harness.ask(SignalProcess(name="node-7001", number=19)) is True
    assert stage.children.signals == [("node-7001", "19")]
    stage.exits("node-7001")
    assert stage.harness.ask(SignalProcess(name="node-7001", number=19)) is False
    assert stage.harness.ask(SignalProcess(name="node-9999", number=19)) is False


# Adopting


def test_what_still_runs_is_adopted_and_the_rest_is_started(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    alive, dead = ProcessId(50, "alive"), ProcessId(51, "dead")
    stage.folder.note_running({LAUNCHER: ProcessId(9, "before"), "node-7002": alive, "node-7003": dead})
    stage.children.strangers.add(alive)
    stage.raise_curtain()
    assert stage.children.started == ["zookeeper", "ecs", "node-7001", "node-7003"]
    assert [m.program.name for _, m in stage.harness.sent if m.adopted] == ["node-7002"]
    assert stage.noted()["node-7002"] == 50
    assert stage.noted()[LAUNCHER] == ME.pid


def test_a_start_that_failed_spares_what_ran_before(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.folder.note_running({"node-7002": ProcessId(50, "alive")})
    stage.children.strangers.add(ProcessId(50, "alive"))
    stage.raise_curtain()
    stage.tell(EndProcesses(spare_adopted=True))
    for name in ("node-7001", "node-7003", "ecs"):
        stage.exits(name, 0)
    assert stage.exits("zookeeper", 0) == [ProcessesEnded(killed=())]
    assert ("adopted", "TERM") not in stage.children.signals
    assert stage.noted() == {LAUNCHER: 1, "node-7002": 50}


# Nodes come


def test_new_nodes_get_the_next_ports_and_are_noted_before_they_are_started(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[int, ...]] = []
    start = stage.children.start

    def look_and_start(*words: Any, **how: Any) -> ProcessId:
        noted.append(stage.ports())
        return start(*words, **how)

    monkeypatch.setattr(stage.children, "start", look_and_start)
    first, second, answer = stage.start_nodes(2)
    assert noted == [(7001, 7002, 7003, 7004, 7005)] * 2
    assert stage.children.started[-2:] == ["node-7004", "node-7005"]
    assert [(m.program.id, m.added) for m in (first, second)] == [("127.0.0.1:7004", True), ("127.0.0.1:7005", True)]
    assert answer == NodesStarted(question=7, ids=("127.0.0.1:7004", "127.0.0.1:7005"))
    assert {"node-7004", "node-7005"} <= stage.noted().keys()
    assert first.program in programs_of(stage.harness.actor.cluster, stage.folder), "started alike after a restart"
    listed: Processes = stage.harness.ask(ListProcesses())
    assert [process.name for process in listed.processes][-2:] == ["node-7004", "node-7005"]


def test_a_dry_run_says_which_nodes_would_come_and_starts_none(stage: Stage) -> None:
    before = stage.folder.cluster()
    assert stage.start_nodes(2, dry_run=True) == [
        NodesStarted(question=7, ids=("127.0.0.1:7004", "127.0.0.1:7005")),
    ]
    assert stage.folder.cluster() == before
    assert len(stage.children.started) == 5


def test_a_new_node_takes_no_port_that_is_in_use_and_no_folder_that_is_there(stage: Stage) -> None:
    stage.busy |= {7004, 7005 + BRIDGE_PORT_OFFSET}
    stage.folder.node_folder(7006).mkdir()
    assert stage.start_nodes(1)[-1].ids == ("127.0.0.1:7007",)
    stage.exits("node-7007")
    assert stage.start_nodes(1)[-1].ids == ("127.0.0.1:7008",), "a dead node keeps its port"


def test_a_new_node_takes_neither_zookeepers_nor_the_ecs_port_though_they_do_not_run(tmp_path: Path) -> None:
    cluster = Cluster(node_ports=(7001,), zookeeper_port=7002, ecs_port=7003 + BRIDGE_PORT_OFFSET)
    stage = Stage(tmp_path, cluster).raise_curtain()
    assert stage.start_nodes(1)[-1].ids == ("127.0.0.1:7004",)


def test_a_new_node_serves_its_figures_where_nobody_else_listens(tmp_path: Path) -> None:
    figures = {"ecs": 9001, "node-7001": 7003 + BRIDGE_PORT_OFFSET}
    stage = Stage(tmp_path, Cluster(node_ports=(7001,), metrics_ports=figures)).raise_curtain()
    stage.busy |= {7004 + BRIDGE_PORT_OFFSET}
    assert stage.start_nodes(2)[-1].ids == ("127.0.0.1:7002", "127.0.0.1:7005")
    cluster = stage.folder.cluster()
    assert cluster is not None and cluster.metrics_ports == {**figures, "node-7002": 17006, "node-7005": 17007}
    told = [" ".join(each.arguments).partition("--metrics-port ")[2] for each in programs_of(cluster, stage.folder)]
    assert told == ["", "9001", "17003", "17006", "17007"]


@pytest.mark.parametrize("count", [0, -1, NODES_MAX - 2, 10**9])
def test_more_nodes_than_a_host_may_have_are_refused(stage: Stage, count: int) -> None:
    (answer,) = stage.start_nodes(count)
    assert answer.ids == ()
    assert f"a host has {NODES_MAX} at most" in answer.error
    assert stage.ports() == CLUSTER.node_ports


def test_without_enough_free_ports_no_node_is_started(stage: Stage) -> None:
    stage.busy |= set(range(7005, 7005 + PORTS_TRIED_MAX))
    (answer,) = stage.start_nodes(2)
    assert answer.ids == ()
    assert "1 were found" in answer.error
    assert stage.ports() == CLUSTER.node_ports
    assert len(stage.children.started) == 5


def test_nodes_that_cannot_be_started_are_forgotten_again(stage: Stage) -> None:
    stage.children.starts_left = 1
    *_, answer = stage.start_nodes(3)
    assert answer.ids == ("127.0.0.1:7004",)
    assert "Cannot allocate memory" in answer.error
    assert stage.ports() == (7001, 7002, 7003, 7004)


def test_a_node_that_cannot_be_noted_is_not_started(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(cluster: Cluster) -> None:
        raise FolderError("the disk is full")

    monkeypatch.setattr(stage.folder, "found", refuse)
    assert stage.start_nodes(1) == [NodesStarted(question=7, ids=(), error="the disk is full")]
    assert len(stage.children.started) == 5


def test_a_new_node_that_dies_is_told_like_any_other_and_is_there_again_at_the_next_start(stage: Stage) -> None:
    stage.start_nodes(1)
    (exited,) = stage.exits("node-7004", 3)
    assert exited.back_in_seconds is None
    assert stage.ports() == (7001, 7002, 7003, 7004)


# Nodes go


def test_a_node_that_has_left_the_ring_is_forgotten_and_is_no_death(stage: Stage) -> None:
    stage.write_left(7002)
    (left,) = stage.exits("node-7002", 0)
    assert isinstance(left, ProcessLeft)
    assert "node 127.0.0.1:7002 has left the ring" in left.sentence
    assert str(stage.folder.path / "node-7002") in left.sentence
    assert stage.ports() == (7001, 7003)
    assert "node-7002" not in stage.noted()
    assert "node-7002" not in [process.name for process in stage.harness.ask(ListProcesses()).processes]
    assert stage.folder.node_folder(7002).exists()
    assert stage.start_nodes(1)[-1].ids == ("127.0.0.1:7004",)


def test_an_adopted_node_that_leaves_is_forgotten_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.folder.note_running({"node-7002": ProcessId(50, "alive")})
    stage.children.strangers.add(ProcessId(50, "alive"))
    stage.raise_curtain()
    stage.write_left(7002)
    (left,) = stage.exits("adopted", None)
    assert isinstance(left, ProcessLeft)
    assert stage.ports() == (7001, 7003)


def test_a_node_that_left_just_before_the_launcher_came_is_not_started(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.folder.note_running({"node-7002": ProcessId(50, "ended since")})
    stage.write_left(7002)
    stage.raise_curtain()
    assert stage.children.started == ["zookeeper", "ecs", "node-7001", "node-7003"]
    assert stage.ports() == (7001, 7003)


def test_a_node_that_leaves_while_all_is_ending_holds_nobody_up(stage: Stage) -> None:
    stage.tell(EndProcesses())
    stage.exits("node-7001", 0)
    stage.exits("node-7003", 0)
    stage.write_left(7002)
    stage.exits("node-7002", 0)
    assert stage.children.signals[-1] == ("ecs", "TERM")
    assert stage.ports() == (7001, 7003)


def test_the_last_node_is_not_forgotten_whatever_its_folder_says(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Cluster(node_ports=(7001,), zookeeper_port=2181, ecs_port=2182)).raise_curtain()
    stage.write_left(7001)
    (exited,) = stage.exits("node-7001", 0)
    assert isinstance(exited, ProcessExited)
    assert stage.ports() == (7001,)


# Restarts that somebody asks for


def test_a_node_is_restarted_in_order_and_that_is_no_death(stage: Stage) -> None:
    assert stage.restart(7002) == []
    assert stage.children.signals == [("node-7002", "TERM")]
    assert stage.restart(7002, question=9) == [], "asked twice, ended once"
    assert len(stage.children.signals) == 1
    started, *answers = stage.exits("node-7002", 0)
    assert (started.program.name, started.restarts) == ("node-7002", 1)
    assert answers == [NodeRestarted(question=number, node="127.0.0.1:7002") for number in (8, 9)]
    assert stage.advance(3600) == []
    (exited,) = stage.exits("node-7002")
    assert isinstance(exited, ProcessExited), "the next death is one"


def test_a_node_that_does_not_end_is_killed_to_be_restarted(stage: Stage) -> None:
    stage.restart(7002)
    stage.advance(TERMINATE_SECONDS_MAX)
    assert stage.children.signals[-1] == ("node-7002", "KILL")
    started, answer = stage.exits("node-7002")
    assert (started.program.name, answer.error) == ("node-7002", "")
    assert stage.advance(KILL_SECONDS_MAX) == []


def test_a_node_that_cannot_even_be_killed_is_said_not_to_end(stage: Stage) -> None:
    stage.restart(7002)
    (answer,) = stage.advance(TERMINATE_SECONDS_MAX + KILL_SECONDS_MAX)
    assert "does not end" in answer.error


def test_a_node_that_cannot_be_started_again_is_dead_and_its_restart_failed(stage: Stage) -> None:
    stage.restart(7002)
    stage.children.cannot_start = True
    answer, exited = stage.exits("node-7002", 0)
    assert "Cannot allocate memory" in answer.error
    assert isinstance(exited, ProcessExited)


def test_a_dead_node_is_started_by_a_restart(stage: Stage) -> None:
    stage.exits("node-7002")
    started, answer = stage.restart(7002)
    assert started.program.name == "node-7002"
    assert answer == NodeRestarted(question=8, node="127.0.0.1:7002")


def test_a_node_that_leaves_instead_of_restarting_stays_away(stage: Stage) -> None:
    stage.restart(7002)
    stage.write_left(7002)
    answer, left = stage.exits("node-7002", 0)
    assert answer.error == "127.0.0.1:7002 has left the ring"
    assert isinstance(left, ProcessLeft)


def test_only_nodes_of_this_launcher_are_restarted(stage: Stage) -> None:
    for node in ("127.0.0.1:7009", "10.0.0.1:7001", ""):
        (answer,) = stage.tell(RestartNode(question=1, node=node, reply_to=stage.harness.probe("ecs actor")))
        assert "is no node of the launcher on 127.0.0.1" in answer.error
    assert stage.children.signals == []


def test_while_all_is_ending_nothing_is_started_or_restarted(stage: Stage) -> None:
    stage.restart(7001)
    assert stage.tell(EndProcesses()) == [NodeRestarted(question=8, node="127.0.0.1:7001", error=ENDING)]
    assert stage.restart(7002) == [NodeRestarted(question=8, node="127.0.0.1:7002", error=ENDING)]
    assert stage.start_nodes(1) == [NodesStarted(question=7, ids=(), error=ENDING)]
    assert stage.harness.ask(StartProcess(name="node-7001")) == ENDING
    stage.exits("node-7001", 0)
    assert len(stage.children.started) == 5


def test_a_dead_process_is_started_when_somebody_says_so(stage: Stage) -> None:
    assert "runs, with process id" in stage.harness.ask(StartProcess(name="node-7002"))
    stage.exits("node-7002")
    assert stage.harness.ask(StartProcess(name="node-7002")) == ""
    assert stage.children.started[-1] == "node-7002"
    stage.exits("ecs")
    assert stage.harness.ask(StartProcess(name="ecs")) == ""
    assert stage.advance(BRING_BACK_SECONDS_MAX) == [], "it came back once"
    assert "is no process of this launcher" in stage.harness.ask(StartProcess(name="node-9"))


def test_a_node_that_was_started_by_hand_is_not_started_twice(stage: Stage) -> None:
    stage.exits("node-7002")
    stage.busy.add(7002)
    assert "may have been started by hand" in stage.harness.ask(StartProcess(name="node-7002"))
    (answer,) = stage.restart(7002)
    assert "may have been started by hand" in answer.error


# Ending


def test_nodes_end_before_the_ecs_and_zookeeper_ends_last(stage: Stage) -> None:
    assert stage.tell(EndProcesses()) == []
    assert stage.children.signals == [(f"node-700{n}", "TERM") for n in (1, 2, 3)]
    stage.exits("node-7002", 0)
    stage.exits("node-7001", 0)
    assert len(stage.children.signals) == 3, "a node still runs"
    stage.exits("node-7003", 0)
    assert stage.children.signals[3:] == [("ecs", "TERM")]
    stage.exits("ecs", 0)
    assert stage.children.signals[4:] == [("zookeeper", "TERM")]
    assert stage.exits("zookeeper", 0) == [ProcessesEnded(killed=())]
    assert stage.noted() == {LAUNCHER: 1}
    assert stage.advance(3600) == []


def test_who_does_not_end_in_time_is_killed_and_named(stage: Stage) -> None:
    stage.tell(EndProcesses())
    stage.exits("node-7001", 0)
    stage.exits("node-7003", 0)
    stage.advance(TERMINATE_SECONDS_MAX)
    assert stage.children.signals[-1] == ("node-7002", "KILL")
    stage.exits("node-7002")
    stage.exits("ecs", 0)
    assert stage.exits("zookeeper", 0) == [ProcessesEnded(killed=("node-7002",))]


def test_the_end_goes_on_without_who_cannot_even_be_killed(stage: Stage) -> None:
    stage.tell(EndProcesses())
    stage.advance(TERMINATE_SECONDS_MAX + KILL_SECONDS_MAX)
    assert stage.children.signals[-1] == ("ecs", "TERM")
    stage.exits("ecs", 0)
    assert stage.exits("zookeeper", 0) == [ProcessesEnded(killed=("node-7001", "node-7002", "node-7003"))]


def test_at_once_everything_is_killed_together_even_in_the_middle_of_an_orderly_end(stage: Stage) -> None:
    stage.tell(EndProcesses())
    stage.tell(EndProcesses(at_once=True))
    assert {name for name, what in stage.children.signals if what == "KILL"} == set(stage.children.started)
    for name in ("zookeeper", "ecs", "node-7001", "node-7002"):
        assert stage.exits(name) == []
    (ended,) = stage.exits("node-7003")
    assert set(ended.killed) == set(stage.children.started)


def test_nobody_comes_back_while_all_is_ending(stage: Stage) -> None:
    stage.exits("ecs")
    stage.tell(EndProcesses())
    assert stage.advance(BRING_BACK_SECONDS_MAX) == []
    assert stage.children.started.count("ecs") == 1


def test_with_nothing_left_to_end_the_end_comes_at_once(stage: Stage) -> None:
    for name in list(stage.children.started):
        stage.exits(name)
    assert stage.tell(EndProcesses()) == [ProcessesEnded(killed=())]


# Registering


def registered(tmp_path: Path) -> tuple[Stage, CreateNode]:
    stage = Stage(tmp_path, watches="probe:watches").raise_curtain()
    assert ("watches", Subscribe(reply_to=stage.harness.ref)) in stage.harness.sent
    (create,) = stage.tell(Connected(session_id=5, timeout_seconds=6.0))
    return stage, create


def answer(request: str, error: str = "", data: bytes | None = None, owner: int = 4) -> Answered:
    return Answered(request=request, error=error, path="/x", data=data, version=3, owner=owner)


def test_the_launcher_registers_its_host_as_long_as_its_session_lives(tmp_path: Path) -> None:
    stage, create = registered(tmp_path)
    assert create.path == "/ringkeeper/ringkeeper/launchers/127.0.0.1"
    assert create.ephemeral
    assert json.loads(create.data)["pid"] == ME.pid
    assert json.loads(create.data)["bridge"] == "127.0.0.1:4711"
    assert stage.tell(answer("register")) == []


def test_what_a_dead_launcher_left_registered_is_cleared_away(tmp_path: Path) -> None:
    stage, create = registered(tmp_path)
    (read,) = stage.tell(answer("register", "node_exists"))
    assert isinstance(read, ReadNode)
    (delete,) = stage.tell(answer("look", data=b'{"pid": 9, "mark": "of one who died"}'))
    assert isinstance(delete, DeleteNode)
    assert delete.version == 3
    (again,) = stage.tell(answer("clear"))
    assert again == create


def test_a_launcher_that_lives_keeps_its_registration_and_is_asked_again_later(tmp_path: Path) -> None:
    stage, create = registered(tmp_path)
    stage.children.strangers.add(ProcessId(9, "alive"))
    stage.tell(answer("register", "node_exists"))
    assert stage.tell(answer("look", data=b'{"pid": 9, "mark": "alive"}')) == []
    assert stage.advance(REGISTER_AGAIN_SECONDS) == [create]


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"pid": "x", "mark": 1}', b'{"pid": null}'])
def test_a_registration_that_makes_no_sense_is_cleared_away(tmp_path: Path, data: bytes) -> None:
    stage, _ = registered(tmp_path)
    stage.tell(answer("register", "node_exists"))
    assert isinstance(stage.tell(answer("look", data=data))[0], DeleteNode)


def test_our_own_registration_after_a_reconnection_is_left_alone(tmp_path: Path) -> None:
    stage, create = registered(tmp_path)
    stage.tell(Connected(session_id=5, timeout_seconds=6.0))
    stage.tell(answer("register", "node_exists"))
    assert stage.tell(answer("look", data=create.data, owner=5)) == []


def test_our_registration_in_a_session_that_is_over_is_replaced_before_it_ends_with_it(tmp_path: Path) -> None:
    stage, create = registered(tmp_path)
    stage.children.strangers.add(ME)
    assert stage.tell(Connected(session_id=6, timeout_seconds=6.0)) == [create]
    stage.tell(answer("register", "node_exists"))
    (delete,) = stage.tell(answer("look", data=create.data, owner=5))
    assert isinstance(delete, DeleteNode)
    assert stage.tell(answer("clear")) == [create]


def test_trouble_with_the_registration_stops_nothing(tmp_path: Path) -> None:
    stage, create = registered(tmp_path)
    assert stage.tell(answer("register", "connection_loss")) == []
    assert stage.tell(answer("register", "no_auth")) == []
    assert stage.advance(REGISTER_AGAIN_SECONDS) == [create]


def test_the_session_is_closed_while_zookeeper_still_hears_it(tmp_path: Path) -> None:
    stage, _ = registered(tmp_path)
    stage.tell(EndProcesses())
    for name in ("node-7001", "node-7002", "node-7003"):
        assert stage.exits(name, 0) == []
    assert stage.exits("ecs", 0) == [CloseSession(reply_to=stage.harness.ref)]
    assert stage.children.signals[-1] == ("ecs", "TERM")
    stage.tell(SessionClosed())
    assert stage.children.signals[-1] == ("zookeeper", "TERM")
    assert stage.exits("zookeeper", 0) == [ProcessesEnded(killed=())]


# The folder


def test_a_folder_gives_back_the_cluster_that_was_written(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    assert folder.cluster() is None
    folder.found(CLUSTER)
    folder.note_running({"me": ProcessId.of(os.getpid()), "gone": ProcessId(os.getpid(), "an earlier one")})
    again = ClusterFolder(tmp_path)
    assert again.cluster() == CLUSTER
    assert again.running() == {"me": ProcessId.of(os.getpid())}


def test_a_second_launcher_is_refused_with_the_process_that_holds_the_folder(tmp_path: Path) -> None:
    first, second = ClusterFolder(tmp_path), ClusterFolder(tmp_path)
    first.lock()
    with pytest.raises(FolderInUse, match=f"process id {os.getpid()}"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_newer_format_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text('{"format": 2, "cluster": {}, "wonders": true}')
    for call in (ClusterFolder(tmp_path).cluster, lambda: ClusterFolder(tmp_path).found(CLUSTER)):
        with pytest.raises(FolderError, match="newer release"):
            call()
    assert file.read_text() == '{"format": 2, "cluster": {}, "wonders": true}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": "x"}',
        '{"format": 1, "cluster": {"node_ports": "no"}}',
        '{"format": 1, "cluster": {"node_ports": null}}',
        '{"format": 1, "cluster": []}',
        '{"format": 1, "running": [1]}',
        '{"format": 1, "running": {"x": 1}}',
        "\ud800",
    ],
)
def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    folder = ClusterFolder(tmp_path)
    with pytest.raises(FolderError, match="damaged"):
        folder.cluster()
        folder.running()


def test_a_field_of_a_neighbouring_release_does_no_harm(tmp_path: Path) -> None:
    fields = {"node_ports": [7001], "zookeeper_port": 1, "ecs_port": 2, "moon": "full"}
    (tmp_path / "cluster.json").write_text(json.dumps({"format": 1, "cluster": fields}))
    assert ClusterFolder(tmp_path).cluster() == Cluster(node_ports=(7001,), zookeeper_port=1, ecs_port=2)


def test_the_secret_is_made_once_and_readable_by_nobody_else(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    secret = folder.make_secret().read_text()
    assert len(secret.strip()) == 64
    assert stat.S_IMODE(folder.secret_file.stat().st_mode) == 0o600
    assert folder.make_secret().read_text() == secret


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FolderError, match="thesis.tex.*none that says it is a cluster's"):
        ClusterFolder(tmp_path).lock()
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_whose_first_start_broke_off_is_used_again(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    folder.lock()
    folder.make_secret()
    folder.unlock()
    folder.lock()
    folder.unlock()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderError, match="cannot make .*file"):
            ClusterFolder(path).lock()


def test_last_words_are_those_since_the_start_and_a_long_log_is_put_aside(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    folder.prepare()
    assert folder.last_words("ecs", 0) == ""
    assert folder.begin_log("ecs") == 0
    folder.log_file("ecs").write_bytes(b"before\n")
    offset = folder.begin_log("ecs")
    assert folder.last_words("ecs", offset) == ""
    with open(folder.log_file("ecs"), "ab") as file:
        file.write(b"x" * 100_000 + b"\nnow \xff\n  \n")
    assert folder.last_words("ecs", offset) == "now �"
    with open(folder.log_file("ecs"), "ab") as file:
        file.write(b"Fatal Python error: Aborted\n\nThread 0x1 (most recent call first):\n  File 'x', line 1 in y\n")
    assert folder.last_words("ecs", offset) == "Fatal Python error: Aborted"
    os.truncate(folder.log_file("ecs"), LOG_BYTES_MAX + 1)
    assert folder.begin_log("ecs") == 0
    assert not folder.log_file("ecs").exists()


# Settling what the cluster is


def free_pair() -> int:
    return free_port(beside=BRIDGE_PORT_OFFSET)


def test_a_new_cluster_gets_ports_that_are_free_and_distinct(tmp_path: Path) -> None:
    cluster = settle(ClusterFolder(tmp_path), Wishes(nodes=5), {})
    nodes = cluster.node_ports
    ports = {*nodes, *(port + BRIDGE_PORT_OFFSET for port in nodes), cluster.zookeeper_port, cluster.ecs_port}
    assert len(ports) == 12
    assert (cluster.replicas, cluster.min_copies, cluster.acks) == (3, 2, "all")
    assert settle(ClusterFolder(tmp_path), Wishes(), {}) == cluster
    assert settle(ClusterFolder(tmp_path), Wishes(nodes=5, port=nodes[0], place="even"), {}) == cluster


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(nodes=2),
        Wishes(port=1000),
        Wishes(zookeeper="elsewhere:2181"),
        Wishes(place="md5"),
        Wishes(fsync="always"),
        Wishes(name="other"),
        Wishes(replicas=5),
        Wishes(min_copies=1),
        Wishes(acks="one"),
    ],
)
def test_a_wish_that_contradicts_what_lives_there_is_refused_and_nothing_changes(
    tmp_path: Path, wishes: Wishes
) -> None:
    folder = ClusterFolder(tmp_path)
    settle(folder, Wishes(nodes=1), {})
    before = (tmp_path / "cluster.json").read_bytes()
    with pytest.raises(ConfigError, match="was asked for"):
        settle(folder, wishes, {})
    assert (tmp_path / "cluster.json").read_bytes() == before


def test_how_fast_copies_are_compared_is_told_to_every_node_and_is_of_this_run_or_the_next_that_says_so(
    tmp_path: Path,
) -> None:
    folder = ClusterFolder(tmp_path)
    for wish, is_then in ((None, 1 << 20), (0, 0), (None, 0), (5, 5)):
        cluster = settle(folder, Wishes(nodes=1, scrub_bytes_per_second=wish), {})
        (program,) = (each for each in programs_of(cluster, folder) if each.kind == "node")
        assert f"--scrub-bytes-per-second {is_then}" in " ".join(program.arguments)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(nodes=0),
        Wishes(scrub_bytes_per_second=-1),
        Wishes(nodes=10_000),
        Wishes(port=0),
        Wishes(port=60_000),
        Wishes(zookeeper="no port"),
        Wishes(zookeeper="a:b"),
        Wishes(replicas=0),
        Wishes(replicas=17),
        Wishes(min_copies=0),
        Wishes(acks="two"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_refused(tmp_path: Path, wishes: Wishes) -> None:
    with pytest.raises(ConfigError):
        settle(ClusterFolder(tmp_path), wishes, {})
    assert not (tmp_path / "cluster.json").exists()


@pytest.mark.parametrize("offset", [0, BRIDGE_PORT_OFFSET])
def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path, offset: int) -> None:
    port = free_pair()
    with socket.create_server(("127.0.0.1", port + offset)), pytest.raises(FolderError, match=f"port {port + offset} "):
        settle(ClusterFolder(tmp_path), Wishes(nodes=1, port=port), {})
    assert not (tmp_path / "cluster.json").exists()


def test_how_many_copies_there_are_is_kept_and_told_to_the_control_service(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    cluster = settle(folder, Wishes(nodes=1, replicas=4, min_copies=3, acks="one"), {})
    assert settle(folder, Wishes(), {}) == cluster
    ecs = next(each for each in programs_of(cluster, folder) if each.kind == "ecs")
    assert "--replicas 4 --min-copies 3 --acks one" in ecs.command


def test_nodes_that_left_while_nobody_looked_do_not_come_back(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    first, second, third = settle(folder, Wishes(nodes=3), {}).node_ports
    for port in (first, second):
        folder.node_folder(port).mkdir()
        (folder.node_folder(port) / "node.json").write_text('{"left": true}')
    lingers = {f"node-{second}": ProcessId(1, "x")}
    assert settle(folder, Wishes(), lingers).node_ports == (second, third)
    assert settle(folder, Wishes(nodes=1), {}).node_ports == (third,)


def test_a_node_that_still_runs_may_hold_its_port(tmp_path: Path) -> None:
    folder, port = ClusterFolder(tmp_path), free_pair()
    settle(folder, Wishes(nodes=1, port=port), {})
    with socket.create_server(("127.0.0.1", port)):
        assert settle(folder, Wishes(), {f"node-{port}": ProcessId(1, "x")}).node_ports == (port,)


def test_zookeeper_moves_to_another_port_when_its_own_is_taken_and_nobody_runs(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    before = settle(folder, Wishes(nodes=1), {})
    with socket.create_server(("127.0.0.1", before.zookeeper_port)):
        with pytest.raises(FolderError, match="in use by another program"):
            settle(folder, Wishes(), {f"node-{before.node_ports[0]}": ProcessId(1, "x")})
        after = settle(folder, Wishes(), {})
    assert after.zookeeper_port != before.zookeeper_port
    assert after.ecs_port == before.ecs_port
    assert folder.cluster() == after


# When does it serve?


def status(**changes: Any) -> dict[str, Any]:
    nodes = [{"id": f"h:{n}", "state": "up", "pid": n, "epoch": 4} for n in (1, 2)]
    return {"epoch": 4, "serving": True, "trouble": None, "refused": {}, "nodes": nodes, **changes}


PIDS = {"h:1": 1, "h:2": 2}
INFO = "cluster_state:ok\r\ncluster_current_epoch:4\r\n"


def test_a_cluster_serves_when_ring_nodes_and_client_ports_say_so() -> None:
    assert why_not_serving(status(), PIDS, [INFO, INFO]) == ""


def test_a_cluster_serves_without_a_node_that_waits_to_be_taken_in() -> None:
    assert why_not_serving(status(waiting=["h:3"]), {**PIDS, "h:3": 3}, [INFO] * 3) == ""
    assert "h:3 is not in the ring" in why_not_serving(status(waiting=[]), {**PIDS, "h:3": 3}, [INFO] * 3)
    refused = status(waiting=["h:3"], refused={"h:3": "wrong data"})
    assert "h:3 is not in the ring: wrong data" in why_not_serving(refused, {**PIDS, "h:3": 3}, [INFO] * 3)
    assert why_not_serving(refused, {**PIDS, "h:3": 3}, [INFO] * 3, ["h:3"]) == ""
    assert "h:1 is down" in why_not_serving(
        status(waiting=["h:1"], nodes=[{**node, "state": "down"} for node in status()["nodes"]]), PIDS, [INFO]
    )


def test_a_cluster_that_was_stopped_is_as_it_should_be() -> None:
    infos = [INFO.replace("ok", "fail")] * 2
    assert why_not_serving(status(serving=False, stopped=True), PIDS, infos) == ""
    assert "client port" in why_not_serving(status(serving=False, stopped=True), PIDS, [INFO])
    down = [{**node, "state": "down"} for node in status()["nodes"]]
    assert "h:1 is down" in why_not_serving(status(serving=False, stopped=True, nodes=down), PIDS, infos)


@pytest.mark.parametrize(
    ("now", "infos", "why"),
    [
        (status(serving=False), [INFO], "does not serve"),
        (status(trouble="the ring was lost"), [INFO], "the ring was lost"),
        (status(nodes=status()["nodes"][:1]), [INFO], "h:2 is not in the ring: it has not registered"),
        (status(nodes=[], refused={"h:1": "wrong data"}), [INFO], "h:1 is not in the ring: wrong data"),
        (status(nodes=[{**n, "state": "down"} for n in status()["nodes"]]), [INFO], "h:1 is down"),
        (status(nodes=[{**n, "pid": 77} for n in status()["nodes"]]), [INFO], "does not know this life of node h:1"),
        (status(nodes=[{**n, "pid": None} for n in status()["nodes"]]), [INFO], "does not know this life of node h:1"),
        (status(nodes=[{**n, "epoch": 3} for n in status()["nodes"]]), [INFO], "h:1 has not read the ring of epoch 4"),
        (status(), [INFO, INFO.replace("ok", "fail")], "client port"),
        (status(), [INFO, INFO.replace("4", "3")], "client port"),
    ],
)
def test_a_cluster_does_not_serve_as_long_as(now: dict[str, Any], infos: list[str], why: str) -> None:
    assert why in why_not_serving(now, PIDS, infos)
