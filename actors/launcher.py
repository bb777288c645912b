"""Keeps the processes of a cluster running on this host, and ends them in order.

Hears   ListProcesses, SignalProcess, EndProcesses; ChildExited; Connected, Answered, SessionClosed
Tells   Processes -> who asked; ProcessStarted, ProcessExited, ProcessesEnded -> observer; Subscribe, CreateNode,
        ReadNode, DeleteNode, CloseSession -> Watches

It is only a launcher: the cluster does not need it, and no data passes through it. So its processes may outlive it
(``runtime/children.py`` says how that is chosen), and one that comes after it adopts those that it finds in the folder:
a storage node that died with its launcher would make one death out of many.

    running -- exited --> waiting -- after a back-off --> running        ecs, zookeeper
       |
       +----- exited --> dead                                            a storage node: a death must be seen, and the
                                                                         ring decides what becomes of its slots
    EndProcesses: nodes -> ecs -> our own session -> zookeeper, each once the one before it is gone;
    SIGTERM, after a bound SIGKILL

In that order everybody can still say goodbye to those who must hear it.

Invariant: a process is noted in the folder from its start until its exit was heard, so a killed launcher loses nobody.
State is in this object and in the children, so a failure of it must escalate: spawn it with ``ESCALATE``.
"""

import json
import logging
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.children import KILL_SECONDS_MAX, ChildExited, ProcessId, how_it_ended
from ..runtime.message import message
from ..runtime.session import (
    Answered,
    CloseSession,
    Connected,
    CreateNode,
    DeleteNode,
    Lost,
    ReadNode,
    SessionClosed,
    Subscribe,
    Suspended,
)
from ..runtime.world import Timer
from .cluster_folder import Cluster, ClusterFolder, FolderError

log = logging.getLogger(__name__)

BRING_BACK_SECONDS, BRING_BACK_SECONDS_MAX = 0.5, 30.0
"""The pause before an ECS or a ZooKeeper comes back, doubling from the first to the second."""

STEADY_SECONDS = 60.0
"""Who lived so long starts again with the short pause."""

TERMINATE_SECONDS_MAX = 15.0
"""After SIGTERM a process has so long to end (it bounds its own end to 10 s); then it is killed."""

REGISTER_AGAIN_SECONDS = 10.0
"""The pause after a registration that failed."""

START_ORDER = ("zookeeper", "ecs", "node")
SESSION = "session"
END_ORDER = ("node", "ecs", SESSION, "zookeeper")
COMMAND = (sys.executable, "-P", "-m", "ringkeeper.cli.main")
"""-P: what happens to lie in the current folder is not taken for a module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the launcher keeps running."""

    name: str
    kind: str
    """One of START_ORDER."""
    id: str = ""
    """The storage node's."""
    arguments: tuple[str, ...]
    """After ``ringkeeper``."""

    @property
    def command(self) -> str:
        """What to type to start it by hand."""
        return shlex.join(("ringkeeper", *self.arguments))


# Asked of the launcher.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ListProcesses:
    """Which processes do you keep? Ecs, LocalCluster -> Launcher."""

    question: int = 0
    reply_to: Ref | None = None
    """None: asked with ``ask``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process of a launcher."""

    name: str
    kind: str
    id: str
    pid: int
    """0: it does not run."""
    restarts: int
    status: int | None
    """How its last run ended; None while it runs, or unknown."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """All processes of a launcher, in the order of their start. Launcher -> who asked."""

    question: int
    processes: tuple[ProcessState, ...]


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SignalProcess:
    """Send a signal to a process, as kill(1) does. LocalCluster, stage -> Launcher. Answer: whether it ran."""

    name: str
    number: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class EndProcesses:
    """End all processes; local. LocalCluster -> Launcher."""

    at_once: bool = False
    """Kill them, without an order."""
    spare_adopted: bool = False
    """Leave those that ran already when the launcher came: its start has failed, and all stays as it was."""


# News of the launcher.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStarted:
    """A process runs: the first time, again, or still (adopted); local. Launcher -> observer."""

    program: Program
    pid: int
    restarts: int
    adopted: bool = False


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessExited:
    """A process is gone, and nobody asked for that; local. Launcher -> observer."""

    program: Program
    pid: int
    status: int | None
    last_words: str
    """The last line it wrote; why it could not be started, if it could not."""
    back_in_seconds: float | None
    """None: it stays dead."""

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        who = f"node {self.program.id}" if self.program.kind == "node" else self.program.name
        words = self.last_words.removeprefix("ringkeeper: ").rstrip(".")
        said = f": {words}" if words and (self.status or 0) >= 0 else ""
        return f"{who} {how_it_ended(self.status)}{said}"


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessesEnded:
    """Nothing that EndProcesses should end runs any more; local. Launcher -> observer."""

    killed: tuple[str, ...]
    """Who had to be killed."""


# Timers of the actor.


@dataclass(frozen=True, slots=True, kw_only=True)
class _BringBack:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overdue:
    kind: str
    killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Register:
    pass


Heard = (
    ListProcesses
    | SignalProcess
    | EndProcesses
    | ChildExited
    | Connected
    | Suspended
    | Lost
    | SessionClosed
    | Answered
    | _BringBack
    | _Overdue
    | _Register
)


class Kin(Protocol):
    """What the launcher needs of ``runtime.children.Children``."""

    def start(
        self, argv: tuple[str, ...], *, log_file: Path, tell: Ref, environment: Mapping[str, str] | None = None
    ) -> ProcessId: ...
    def adopt(self, process: ProcessId, *, tell: Ref) -> bool: ...
    def lives(self, process: ProcessId) -> bool: ...
    def terminate(self, pid: int) -> bool: ...
    def kill(self, pid: int) -> bool: ...
    def signal(self, pid: int, number: int) -> bool: ...


@dataclass(slots=True)
class _Kept:
    """One program and its present life."""

    program: Program
    process: ProcessId | None = None
    adopted: bool = False
    since: float = 0.0
    log_offset: int = 0
    restarts: int = 0
    pause_seconds: float = BRING_BACK_SECONDS
    status: int | None = None
    back: Timer | None = None

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self.process.pid if self.process is not None else 0


class Launcher(Actor):
    """See the head of this file. ``me``: the name under which the launcher itself is noted, and its process."""

    def __init__(
        self,
        *,
        programs: tuple[Program, ...],
        children: Kin,
        folder: ClusterFolder,
        me: tuple[str, ProcessId],
        observer: Ref,
        environment: Mapping[str, str] | None = None,
        watches: Ref | None = None,
        registration: str = "",
    ) -> None:
        super().__init__()
        self.kept = {program.name: _Kept(program) for program in programs}
        self.children, self.folder, self.observer = children, folder, observer
        self.my_name, self.me = me
        self.environment = environment
        self.watches, self.registration = watches, registration
        self.ending: list[str] | None = None
        """The kinds that are left to end; None: not ending."""
        self.sparing = False
        self.overdue: Timer | None = None
        self.killed: list[str] = []

    def on_start(self) -> None:
        found = self.folder.running()
        for kept in self.kept.values():
            process = found.get(kept.program.name)
            if process is None or not self._adopt(kept, process):
                self._start(kept)
        if self.watches is not None:
            self.send(self.watches, Subscribe(reply_to=self.ref))

    def on_receive(self, message: Heard) -> Processes | bool | None:
        match message:
            case ChildExited():
                self._child_exited(message)
            case ListProcesses():
                return self._list_processes(message)
            case SignalProcess():
                return self._signal_process(message)
            case EndProcesses():
                self._end_processes(message)
            case _BringBack():
                self._bring_back(message)
            case _Overdue():
                self._is_overdue(message)
            case SessionClosed():
                self._done_with(SESSION)
                self._end_next()
            case Connected() | _Register():
                self._register()
            case Answered():
                self._answered(message)
            case Suspended() | Lost():
                pass  # the registration is ZooKeeper's to remove, and ours to make again when Connected
            case _:
                assert_never(message)
        return None

    def check(self) -> None:
        pids = [kept.pid for kept in self.kept.values() if kept.process]
        assert len(set(pids)) == len(pids), "two programs are one process"
        for kept in self.kept.values():
            assert not (kept.process and kept.back), f"{kept.program.name} runs and waits to be brought back"
            assert self.ending is None or not kept.back, f"{kept.program.name} comes back while all is ending"

    # Life

    def _start(self, kept: _Kept) -> None:
        name = kept.program.name
        kept.since = self.now()
        try:
            kept.log_offset = self.folder.begin_log(name)
            kept.process = self.children.start(
                (*COMMAND, *kept.program.arguments),
                log_file=self.folder.log_file(name),
                tell=self.ref,
                environment=self.environment,
            )
        except (OSError, FolderError) as trouble:
            self._gone(kept, 0, None, f"it could not be started: {trouble}")
            return
        self._note()
        log.info("%s runs with process id %d", name, kept.process.pid)
        self._tell_started(kept)

    def _adopt(self, kept: _Kept, process: ProcessId) -> bool:
        if not self.children.adopt(process, tell=self.ref):
            return False
        kept.process, kept.adopted, kept.since = process, True, self.now()
        kept.log_offset = self.folder.begin_log(kept.program.name)
        self._note()
        log.warning("%s still ran, with process id %d; it is adopted", kept.program.name, process.pid)
        self._tell_started(kept)
        return True

    def _tell_started(self, kept: _Kept) -> None:
        started = ProcessStarted(program=kept.program, pid=kept.pid, restarts=kept.restarts, adopted=kept.adopted)
        self.send(self.observer, started)

    def _child_exited(self, exited: ChildExited) -> None:
        for kept in self.kept.values():
            if kept.pid == exited.pid:
                kept.process, kept.adopted = None, False
                self._note()
                self._gone(kept, exited.pid, exited.status, self.folder.last_words(kept.program.name, kept.log_offset))
                return

    def _gone(self, kept: _Kept, pid: int, status: int | None, last_words: str) -> None:
        kept.status = status
        if self.ending is not None:
            self._end_next()
            return
        pause = None
        if kept.program.kind != "node":
            if self.now() - kept.since >= STEADY_SECONDS:
                kept.pause_seconds = BRING_BACK_SECONDS
            pause = kept.pause_seconds
            kept.pause_seconds = min(2 * pause, BRING_BACK_SECONDS_MAX)
            kept.back = self.after(pause, _BringBack(name=kept.program.name))
        exited = ProcessExited(
            program=kept.program, pid=pid, status=status, last_words=last_words, back_in_seconds=pause
        )
        log.error("%s; %s", exited.sentence, "it stays dead" if pause is None else f"back in {pause:.1f} s")
        self.send(self.observer, exited)

    def _bring_back(self, timer: _BringBack) -> None:
        kept = self.kept[timer.name]
        kept.back = None
        kept.restarts += 1
        self._start(kept)

    def _note(self) -> None:
        running = {name: kept.process for name, kept in self.kept.items() if kept.process is not None}
        try:
            self.folder.note_running({self.my_name: self.me, **running})
        except FolderError as trouble:
            log.error(
                "what runs could not be written down: %s If this launcher is killed now, it is not found.", trouble
            )

    # Questions

    def _list_processes(self, message: ListProcesses) -> Processes:
        processes = Processes(
            question=message.question,
            processes=tuple(
                ProcessState(
                    name=name,
                    kind=kept.program.kind,
                    id=kept.program.id,
                    pid=kept.pid,
                    restarts=kept.restarts,
                    status=kept.status if kept.process is None else None,
                )
                for name, kept in self.kept.items()
            ),
        )
        if message.reply_to is not None:
            self.send(message.reply_to, processes)
        return processes

    def _signal_process(self, message: SignalProcess) -> bool:
        kept = self.kept.get(message.name)
        return kept is not None and self.children.signal(kept.pid, message.number)

    # The end

    def _end_processes(self, message: EndProcesses) -> None:
        for kept in self.kept.values():
            if kept.back is not None:
                kept.back.cancel()
                kept.back = None
        self.sparing = message.spare_adopted
        if self.ending is None:
            self.ending = list(END_ORDER)
        if message.at_once and self.ending:
            self.ending = [kind for kind in self.ending if kind != SESSION]
            self._kill(self._left(*START_ORDER))
            self._wait_for(self.ending[0], KILL_SECONDS_MAX, killed=True)
        self._end_next()

    def _wait_for(self, kind: str, seconds: float, killed: bool = False) -> None:
        if self.overdue is not None:
            self.overdue.cancel()
        self.overdue = self.after(seconds, _Overdue(kind=kind, killed=killed))

    def _left(self, *kinds: str) -> list[_Kept]:
        """Those of some kinds that run and must not."""
        running = [kept for kept in self.kept.values() if kept.process is not None and kept.program.kind in kinds]
        return [kept for kept in running if not (kept.adopted and self.sparing)]

    def _end_next(self) -> None:
        """End the next kind of which somebody lives, once nobody lives of the kind before."""
        while self.ending:
            kind = self.ending[0]
            left = self._left(kind)
            if not left and not (kind == SESSION and self.watches is not None):
                self._done_with(kind)
                continue
            if self.overdue is None:
                self._wait_for(kind, TERMINATE_SECONDS_MAX)
                for kept in left:
                    self.children.terminate(kept.pid)
                if kind == SESSION and self.watches is not None:
                    self.send(self.watches, CloseSession(reply_to=self.ref))
            return

    def _done_with(self, kind: str) -> None:
        if self.ending and kind in self.ending:
            self.ending.remove(kind)
            if self.overdue is not None:
                self.overdue.cancel()
                self.overdue = None
            if not self.ending:
                self.send(self.observer, ProcessesEnded(killed=tuple(self.killed)))

    def _is_overdue(self, timer: _Overdue) -> None:
        left = self._left(timer.kind)
        names = ", ".join(kept.program.name for kept in left) or timer.kind
        if left and not timer.killed:
            log.error("%s did not end within %.0f s and is killed", names, TERMINATE_SECONDS_MAX)
            self._kill(left)
            self._wait_for(timer.kind, KILL_SECONDS_MAX, killed=True)
        else:
            log.error("%s does not end; gone on without", names)
            self._done_with(timer.kind)
            self._end_next()

    def _kill(self, left: list[_Kept]) -> None:
        for kept in left:
            self.killed.append(kept.program.name)
            self.children.kill(kept.pid)

    # Registration: one ephemeral node per host

    def _register(self) -> None:
        if self.watches is not None and self.ending is None:
            data = json.dumps({"pid": self.me.pid, "mark": self.me.mark, "folder": str(self.folder), "bridge": ""})
            self.send(
                self.watches,
                CreateNode(
                    request="register", path=self.registration, data=data.encode(), ephemeral=True, reply_to=self.ref
                ),
            )

    def _answered(self, answered: Answered) -> None:
        assert self.watches is not None
        match answered.request, answered.error:
            case "register", "node_exists":
                self.send(self.watches, ReadNode(request="look", path=self.registration, reply_to=self.ref))
            case "look", "":
                self._compare(answered)
            case "register", "":
                log.info("registered as %s", self.registration)
            case ("look", "no_node") | ("clear", "" | "no_node" | "bad_version"):
                self._register()
            case _, "connection_loss" | "session_lost":
                pass  # Connected will come
            case _:
                log.warning("could not register as %s: %s", self.registration, answered.error)
                self.after(REGISTER_AGAIN_SECONDS, _Register())

    def _compare(self, found: Answered) -> None:
        """Somebody stands in our place: ourselves, a launcher that is gone and has not timed out, or another."""
        assert self.watches is not None
        try:
            fields = json.loads(found.data or b"")
            other = ProcessId(int(fields["pid"]), str(fields["mark"]))
        except (ValueError, KeyError, TypeError):
            other = ProcessId(0, "")
        if other == self.me:
            return
        if self.children.lives(other):
            log.warning(
                "another launcher of this host, with process id %d, is registered as %s", other.pid, self.registration
            )
            self.after(REGISTER_AGAIN_SECONDS, _Register())
        else:
            self.send(
                self.watches,
                DeleteNode(request="clear", path=self.registration, version=found.version, reply_to=self.ref),
            )


def programs_of(cluster: Cluster, folder: ClusterFolder, log_level: str = "info") -> tuple[Program, ...]:
    """The processes of a cluster on this host and how each is started, ZooKeeper first."""
    common = ("--bind", cluster.host, "--zookeeper", cluster.zookeeper_hosts, "--cluster-name", cluster.name)
    secret = ("--secret-file", str(folder.secret_file), "--log-level", log_level)
    zookeeper = Program(
        name="zookeeper",
        kind="zookeeper",
        arguments=(
            *("zookeeper", "--port", str(cluster.zookeeper_port), "--bind", cluster.host),
            *("--data", str(folder.path / "zookeeper"), "--log-level", log_level),
        ),
    )
    ecs = Program(
        name="ecs",
        kind="ecs",
        arguments=(
            *("ecs", "--port", str(cluster.ecs_port), *common, *secret),
            *("--found-with", str(len(cluster.node_ports)), "--place", cluster.place),
        ),
    )
    nodes = (
        Program(
            name=f"node-{port}",
            kind="node",
            id=f"{cluster.host}:{port}",
            arguments=(
                *("node", "--port", str(port), "--data", str(folder.path / f"node-{port}"), *common, *secret),
                *("--fsync", cluster.fsync),
            ),
        )
        for port in cluster.node_ports
    )
    return (*(() if cluster.zookeeper else (zookeeper,)), ecs, *nodes)
