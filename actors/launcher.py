"""Keeps the processes of a cluster running on this host, adds nodes to them, and ends them in order.

Hears   StartNodes, RestartNode                               from the leading Ecs
        ListProcesses, SignalProcess, StartProcess, EndProcesses
        ChildExited; Connected, Answered, SessionClosed
Tells   NodesStarted, NodeRestarted, Processes -> who asked;
        ProcessStarted, ProcessExited, ProcessLeft, ProcessesEnded -> observer;
        Subscribe, CreateNode, ReadNode, DeleteNode, CloseSession -> Watches

It is only a launcher: the cluster does not need it, and no data passes through it. So its processes may outlive it
(``runtime/children.py`` says how that is chosen), and one that comes after it adopts those that it finds in the folder:
a storage node that died with its launcher would make one death out of many.

    running -- exited --> waiting -- after a back-off --> running        ecs, zookeeper
       |
       +----- exited --> dead -- StartProcess, RestartNode --> running   a storage node: a death must be seen, and the
       |                                                                 ring decides what becomes of its slots
       +----- exited, and its folder says that it left --> forgotten     a storage node that was taken out of the ring
       |
       +----- RestartNode: SIGTERM --> exited --> running

    StartNodes: a port and a folder that nobody uses --> noted in the folder --> running
    EndProcesses: nodes -> ecs -> our own session -> zookeeper, each once the one before it is gone;
    SIGTERM, after a bound SIGKILL

In that order everybody can still say goodbye to those who must hear it.

The ECS finds a launcher by its registration in ZooKeeper, which holds the address of its bridge. What the ring makes of
a node that was started, or ended, is the ECS's business: here nobody is taken in or out.

Invariants: a process is noted in the folder from its start until its exit was heard, and a new node even before it is
started, so a killed launcher loses nobody; the nodes kept are those noted.
State is in this object and in the children, so a failure of it must escalate: spawn it with ``ESCALATE``.
"""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from .config import BRIDGE_PORT_OFFSET

log = logging.getLogger(__name__)

BRING_BACK_SECONDS, BRING_BACK_SECONDS_MAX = 0.5, 30.0
"""The pause before an ECS or a ZooKeeper comes back, doubling from the first to the second."""

STEADY_SECONDS = 60.0
"""Who lived so long starts again with the short pause."""

TERMINATE_SECONDS_MAX = 15.0
"""After SIGTERM a process has so long to end (it bounds its own end to 10 s); then it is killed."""

REGISTER_AGAIN_SECONDS = 10.0
"""The pause after a registration that failed."""

NODES_MAX = 256
"""So many nodes may one host have."""

CLIENT_PORT_MAX = 65535 - BRIDGE_PORT_OFFSET

PORTS_TRIED_MAX = 2000
"""So many ports above the highest node's are looked at for new nodes."""

ENDING = "the launcher is ending everything that it keeps"

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
    port: int = 0
    """The storage node's, and where it serves clients."""
    arguments: tuple[str, ...]
    """After ``ringkeeper``."""

    @property
    def command(self) -> str:
        """What to type to start it by hand."""
        return shlex.join(("ringkeeper", *self.arguments))


# The ring grows, and a node is restarted.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class StartNodes:
    """Start so many more nodes, each with a port and a folder of its own. Ecs -> Launcher."""

    question: int
    count: int
    dry_run: bool
    """Only say which nodes that would be."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class NodesStarted:
    """These processes run (or would), or why not all of them do. They have not registered yet. Launcher -> Ecs."""

    question: int
    ids: tuple[str, ...]
    error: str = ""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class RestartNode:
    """End a node's process in order and start it again; a dead one: start it. Ecs -> Launcher."""

    question: int
    node: str
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRestarted:
    """The node runs in a new process, or why not. It has not registered yet. Launcher -> Ecs."""

    question: int
    node: str
    error: str = ""


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
class StartProcess:
    """Start what is dead, or waits to come back. LocalCluster, stage -> Launcher. Answer: "", or why it was not."""

    name: str


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
    added: bool = False
    """A node that was not there when the launcher came."""


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
class ProcessLeft:
    """A node was taken out of the ring in order, and its process has ended; local. Launcher -> observer."""

    program: Program
    pid: int
    folder: str

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return f"node {self.program.id} has left the ring and ended; its folder {self.folder} is not used any more"


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
class _RestartOverdue:
    name: str
    pid: int
    killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Register:
    pass


Heard = (
    StartNodes
    | RestartNode
    | ListProcesses
    | SignalProcess
    | StartProcess
    | EndProcesses
    | ChildExited
    | Connected
    | Suspended
    | Lost
    | SessionClosed
    | Answered
    | _BringBack
    | _Overdue
    | _RestartOverdue
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
    asked: list[RestartNode] = field(default_factory=list)
    """Who waits for this process to end and to start again."""

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self.process.pid if self.process is not None else 0


class Launcher(Actor):
    """See the head of this file.

    ``me``: the name under which the launcher itself is noted, and its process. ``is_free``: whether a listener could be
    bound to a host and port now. ``bridge``: where other processes reach this one. ``enter``: with what a command
    begins that is to run where a node's address is (``nsenter ...``).
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        children: Kin,
        folder: ClusterFolder,
        me: tuple[str, ProcessId],
        observer: Ref,
        is_free: Callable[[str, int], bool],
        log_level: str = "info",
        environment: Mapping[str, str] | None = None,
        watches: Ref | None = None,
        registration: str = "",
        bridge: str = "",
        enter: Callable[[str], tuple[str, ...]] = lambda _: (),
    ) -> None:
        super().__init__()
        self.cluster, self.log_level, self.is_free, self.bridge = cluster, log_level, is_free, bridge
        self.enter = enter
        self.kept = {program.name: _Kept(program) for program in programs_of(cluster, folder, log_level)}
        self.children, self.folder, self.observer = children, folder, observer
        self.my_name, self.me = me
        self.environment = environment
        self.watches, self.registration = watches, registration
        self.session = 0
        """Of ZooKeeper, the present one or the last; 0: there was none yet."""
        self.ending: list[str] | None = None
        """The kinds that are left to end; None: not ending."""
        self.sparing = False
        self.overdue: Timer | None = None
        self.killed: list[str] = []

    def on_start(self) -> None:
        found = self.folder.running()
        for kept in list(self.kept.values()):
            process = found.get(kept.program.name)
            if process is not None and self._adopt(kept, process):
                continue
            if self._has_left(kept):  # as it ended nobody looked
                self._leaves(kept, 0)
            else:
                self._start_or_say(kept)
        if self.watches is not None:
            self.send(self.watches, Subscribe(reply_to=self.ref))

    def on_receive(self, message: Heard) -> Processes | bool | str | None:
        match message:
            case StartNodes():
                self._start_nodes(message)
            case RestartNode():
                self._restart_node(message)
            case ChildExited():
                self._child_exited(message)
            case ListProcesses():
                return self._list_processes(message)
            case SignalProcess():
                return self._signal_process(message)
            case StartProcess():
                return self._start_process(message)
            case EndProcesses():
                self._end_processes(message)
            case _BringBack():
                self._bring_back(message)
            case _Overdue():
                self._is_overdue(message)
            case _RestartOverdue():
                self._restart_is_overdue(message)
            case SessionClosed():
                self._done_with(SESSION)
                self._end_next()
            case Connected():
                self.session = message.session_id
                self._register()
            case _Register():
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
        nodes = {kept.program.port for kept in self.kept.values() if kept.program.kind == "node"}
        assert nodes == set(self.cluster.node_ports), "nodes are kept that are not noted, or noted and not kept"
        for kept in self.kept.values():
            assert not (kept.process and kept.back), f"{kept.program.name} runs and waits to be brought back"
            assert self.ending is None or not kept.back, f"{kept.program.name} comes back while all is ending"
            assert kept.process or not kept.asked, f"{kept.program.name} is dead, and its end is waited for"

    # Life

    def _start_or_say(self, kept: _Kept) -> None:
        """Start it; if that fails, that is like a death."""
        trouble = self._start(kept)
        if trouble:
            self._gone(kept, 0, None, trouble)

    def _start(self, kept: _Kept, *, added: bool = False) -> str:
        """Start it; returns why that failed, "" if it did not."""
        name = kept.program.name
        kept.since = self.now()
        try:
            enter = self.enter(self.cluster.node_host(kept.program.port)) if kept.program.kind == "node" else ()
            kept.log_offset = self.folder.begin_log(name)
            kept.process = self.children.start(
                (*enter, *COMMAND, *kept.program.arguments),
                log_file=self.folder.log_file(name),
                tell=self.ref,
                environment=self.environment,
            )
        except (OSError, FolderError) as trouble:
            return f"it could not be started: {trouble}"
        self._note()
        self._tell_event(f"{name} runs with process id {kept.process.pid}", log.info, kept)
        self._tell_started(kept, added=added)
        return ""

    def _adopt(self, kept: _Kept, process: ProcessId) -> bool:
        if not self.children.adopt(process, tell=self.ref):
            return False
        kept.process, kept.adopted, kept.since = process, True, self.now()
        kept.log_offset = self.folder.begin_log(kept.program.name)
        self._note()
        self._tell_event(
            f"{kept.program.name} still ran, with process id {process.pid}; it is adopted", log.warning, kept
        )
        self._tell_started(kept)
        return True

    def _tell_event(self, sentence: str, log: Callable[..., object], kept: _Kept) -> None:
        self.system.events.note("process", sentence, log=log, program=kept.program.name, pid=kept.pid)

    def _tell_started(self, kept: _Kept, *, added: bool = False) -> None:
        self.send(
            self.observer,
            ProcessStarted(
                program=kept.program, pid=kept.pid, restarts=kept.restarts, adopted=kept.adopted, added=added
            ),
        )

    def _child_exited(self, exited: ChildExited) -> None:
        for kept in self.kept.values():
            if kept.pid == exited.pid:
                break
        else:
            return
        kept.process, kept.adopted, kept.status = None, False, exited.status
        self._note()
        if self._has_left(kept):
            self._leaves(kept, exited.pid)
        elif kept.asked:
            self._start_as_asked(kept)
        else:
            self._gone(kept, exited.pid, exited.status, self.folder.last_words(kept.program.name, kept.log_offset))

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
        back = "it stays dead" if pause is None else f"back in {pause:.1f} s"
        self._tell_event(f"{exited.sentence}; {back}", log.error, kept)
        self.send(self.observer, exited)

    def _bring_back(self, timer: _BringBack) -> None:
        kept = self.kept[timer.name]
        kept.back = None
        kept.restarts += 1
        self._start_or_say(kept)

    def _note(self) -> None:
        running = {name: kept.process for name, kept in self.kept.items() if kept.process is not None}
        try:
            self.folder.note_running({self.my_name: self.me, **running})
        except FolderError as trouble:
            log.error(
                "what runs could not be written down: %s If this launcher is killed now, it is not found.", trouble
            )

    # Nodes come and go

    def _start_nodes(self, message: StartNodes) -> None:
        ids: tuple[str, ...] = ()
        error = ENDING
        if self.ending is None:
            ports, error = self._free_ports(message.count)
            ids = tuple(self.cluster.node_id(port) for port in ports)
            if ports and not message.dry_run:
                ids, error = self._add_nodes(ports)
        if error:
            log.warning("%d more nodes were asked for, and %d came: %s", message.count, len(ids), error)
        self.send(message.reply_to, NodesStarted(question=message.question, ids=ids, error=error))

    def _free_ports(self, count: int) -> tuple[list[int], str]:
        """Client ports for so many new nodes, upwards from the highest; none and the reason if there are not so many.

        A folder that is there is never a new node's: it holds the records of one that has left.
        """
        has = len(self.cluster.node_ports)
        if not 1 <= count <= NODES_MAX - has:
            return [], f"{count} more nodes cannot be started here: there are {has}, and a host has {NODES_MAX} at most"
        found: list[int] = []
        taken = {self.cluster.zookeeper_port, self.cluster.ecs_port, *self.cluster.metrics_ports.values()}
        taken |= {port + offset for port in self.cluster.node_ports for offset in (0, BRIDGE_PORT_OFFSET)}
        first = max(self.cluster.node_ports) + 1
        for port in range(first, min(first + PORTS_TRIED_MAX, CLIENT_PORT_MAX + 1)):
            pair = {port, port + BRIDGE_PORT_OFFSET}
            if pair & taken or self.folder.node_folder(port).exists():
                continue
            if all(self.is_free(self.cluster.node_host(port), each) for each in pair):
                found.append(port)
                taken |= pair
            if len(found) == count:
                return found, ""
        return [], (
            f"{count} more nodes cannot be started here: each needs a port above {first - 1} that is free and has no "
            f"folder in {self.folder} yet, and the port {BRIDGE_PORT_OFFSET} higher; {len(found)} were found"
        )

    def _add_nodes(self, ports: Sequence[int]) -> tuple[tuple[str, ...], str]:
        """Start new nodes, noted first; returns those that run, and why others do not. Those are forgotten again."""
        trouble = self._note_nodes((*self.cluster.node_ports, *ports))
        if trouble:
            return (), trouble
        added = []
        for port in ports:
            program = node_program(self.cluster, self.folder, port, self.log_level)
            self.kept[program.name] = kept = _Kept(program)
            trouble = trouble or self._start(kept, added=True)
            if trouble:
                self._forget(kept)
            else:
                added.append(program.id)
        return tuple(added), trouble

    def _note_nodes(self, ports: Sequence[int]) -> str:
        """Write down which nodes there are from now on; returns why that failed, and nothing is changed then."""
        cluster = replace(self.cluster, node_ports=tuple(ports), metrics_ports=self._metrics_ports(ports))
        try:
            self.folder.found(cluster)
        except FolderError as trouble:
            return str(trouble)
        self.cluster = cluster
        return ""

    def _metrics_ports(self, ports: Sequence[int]) -> dict[str, int]:
        """Where processes serve their figures, with these nodes; new ones do so above those that do already."""
        known = self.cluster.metrics_ports
        if not known:
            return {}
        names = ["ecs", *(f"node-{port}" for port in ports)]
        found = {name: known[name] for name in names if name in known}
        taken = {port + offset for port in ports for offset in (0, BRIDGE_PORT_OFFSET)} | set(known.values())
        upwards = iter(range(max(known.values()) + 1, 65536))
        for name in names:
            if name not in found:
                free = (port for port in upwards if port not in taken and self.is_free("127.0.0.1", port))
                found[name] = next(free, 0)
        return found

    def _forget(self, kept: _Kept) -> None:
        """Keep a node no longer."""
        trouble = self._note_nodes([port for port in self.cluster.node_ports if port != kept.program.port])
        if trouble:
            log.error("that %s is gone for good could not be written down: %s", kept.program.id, trouble)
            return
        del self.kept[kept.program.name]

    def _has_left(self, kept: _Kept) -> bool:
        """Whether a node whose process is gone has left the ring; the only one cannot, whatever its folder says."""
        is_node = kept.program.kind == "node" and len(self.cluster.node_ports) > 1
        return is_node and self.folder.has_left(kept.program.port)

    def _leaves(self, kept: _Kept, pid: int) -> None:
        self._forget(kept)
        self._answer(kept, f"{kept.program.id} has left the ring")
        left = ProcessLeft(program=kept.program, pid=pid, folder=str(self.folder.node_folder(kept.program.port)))
        self._tell_event(left.sentence, log.info, kept)
        self.send(self.observer, left)
        if self.ending is not None:
            self._end_next()

    def _restart_node(self, message: RestartNode) -> None:
        kept = next((kept for kept in self.kept.values() if message.node and kept.program.id == message.node), None)
        if kept is None:
            error = f"{message.node} is no node of the launcher on {self.cluster.host}: restart it where it was started"
        elif self.ending is not None:
            error = ENDING
        elif kept.process is None:
            error = self._start_dead(kept)
        else:
            kept.asked.append(message)
            if len(kept.asked) == 1:
                self._tell_event(f"{kept.program.name} is to end and to start again", log.info, kept)
                self.children.terminate(kept.pid)
                self.after(TERMINATE_SECONDS_MAX, _RestartOverdue(name=kept.program.name, pid=kept.pid))
            return
        self.send(message.reply_to, NodeRestarted(question=message.question, node=message.node, error=error))

    def _restart_is_overdue(self, timer: _RestartOverdue) -> None:
        kept = self.kept.get(timer.name)
        if kept is None or kept.pid != timer.pid or not kept.asked:
            return
        if timer.killed:
            log.error("%s does not end", timer.name)
            self._answer(kept, f"process {timer.pid} of {kept.program.id} does not end, not even by SIGKILL")
            return
        log.error("%s did not end within %.0f s and is killed, to start again", timer.name, TERMINATE_SECONDS_MAX)
        self.children.kill(timer.pid)
        self.after(KILL_SECONDS_MAX, replace(timer, killed=True))

    def _start_as_asked(self, kept: _Kept) -> None:
        """Its process is gone because it is to start again."""
        kept.restarts += 1
        trouble = self._start(kept)
        self._answer(kept, trouble)
        if trouble:
            self._gone(kept, 0, None, trouble)

    def _answer(self, kept: _Kept, error: str = "") -> None:
        """Tell all who wait for a node's restart what came of it."""
        asked, kept.asked = kept.asked, []
        for each in asked:
            self.send(each.reply_to, NodeRestarted(question=each.question, node=each.node, error=error))

    def _start_process(self, message: StartProcess) -> str:
        kept = self.kept.get(message.name)
        if kept is None:
            return f"{message.name} is no process of this launcher"
        if self.ending is not None:
            return ENDING
        if kept.process is not None:
            return f"{message.name} runs, with process id {kept.pid}"
        return self._start_dead(kept)

    def _start_dead(self, kept: _Kept) -> str:
        """Start what does not run; returns why it was not. Somebody may have done so by hand, as the news advise."""
        port = kept.program.port
        if port and not self.is_free(self.cluster.node_host(port), port):
            return f"port {port} is in use: {kept.program.id} may have been started by hand, or another program has it"
        if kept.back is not None:
            kept.back.cancel()
            kept.back = None
        kept.restarts += 1
        trouble = self._start(kept)
        if trouble:
            self._gone(kept, 0, None, trouble)
        return trouble

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
            self._answer(kept, ENDING)
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
            data = json.dumps(
                {"pid": self.me.pid, "mark": self.me.mark, "folder": str(self.folder), "bridge": self.bridge}
            )
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
        """Somebody stands in our place: ourselves, in this session or in one that is over and whose registrations end
        with it; a launcher that is gone and has not timed out; or another."""
        assert self.watches is not None
        try:
            fields = json.loads(found.data or b"")
            other = ProcessId(int(fields["pid"]), str(fields["mark"]))
        except (ValueError, KeyError, TypeError):
            other = ProcessId(0, "")
        if found.owner == self.session:
            return
        if other != self.me and self.children.lives(other):
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
            *("ecs", "--port", str(cluster.ecs_port), *_common(cluster, folder, log_level, cluster.host)),
            *("--found-with", str(len(cluster.node_ports)), "--place", cluster.place),
            *("--replicas", str(cluster.replicas), "--min-copies", str(cluster.min_copies), "--acks", cluster.acks),
            *("--out-after", f"{cluster.out_after_seconds:g}"),
            *_metrics(cluster, "ecs"),
        ),
    )
    nodes = (node_program(cluster, folder, port, log_level) for port in cluster.node_ports)
    return (*(() if cluster.zookeeper else (zookeeper,)), ecs, *nodes)


def node_program(cluster: Cluster, folder: ClusterFolder, port: int, log_level: str) -> Program:
    """How a storage node of a cluster is started on this host."""
    return Program(
        name=f"node-{port}",
        kind="node",
        id=cluster.node_id(port),
        port=port,
        arguments=(
            *("node", "--port", str(port), "--data", str(folder.node_folder(port))),
            *(*_common(cluster, folder, log_level, cluster.node_host(port)), "--fsync", cluster.fsync),
            *("--store", cluster.store, "--scrub-bytes-per-second", str(cluster.scrub_bytes_per_second)),
            *_metrics(cluster, f"node-{port}"),
        ),
    )


def _metrics(cluster: Cluster, name: str) -> tuple[str, ...]:
    port = cluster.metrics_ports.get(name, 0)
    return ("--metrics-port", str(port)) if port else ()


def _common(cluster: Cluster, folder: ClusterFolder, log_level: str, host: str) -> tuple[str, ...]:
    return (
        *("--bind", host, "--zookeeper", cluster.zookeeper_hosts, "--cluster-name", cluster.name),
        *("--secret-file", str(folder.secret_file), "--log-level", log_level),
        *(("--allow-faults",) if cluster.allow_faults else ()),
        *(("--allow-code",) if cluster.allow_code else ()),
    )
