"""Plays a story on processes of this machine: a `LocalCluster`, and clients on threads.

Nothing is left behind: processes are leashed to this one, and all data lies in a temporary folder. What the nodes hold
and do is asked of them at their client ports, as any client could: so each copy is seen (by READONLY that of a
successor), and of slots that are not a node's own which keys it has there; but not how it numbers its slots.

What befalls processes is done by signals: SIGKILL, SIGSTOP, SIGCONT, SIGTERM. ZooKeeper is away while it is stopped by
SIGSTOP; then it is killed, and the launcher brings it back. A session is lost by a pause that is longer than it lasts.
Where the machine allows it each node lies in a network namespace of its own (`own_network.py`), and `partition` cuts
between those; elsewhere all talk over one loopback, and it cannot be done. Nor can `cut_power`: there is one machine. A
disk is lost with its node's folder, and full by a limit for the process; it cannot be made to lie.
"""

import json
import os
import random as random_module
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from ..actors.client import Client
from ..actors.client_errors import ClientError, CommandError
from ..actors.config import ProcessConfig
from ..actors.launcher import COMMAND, ProcessState, programs_of
from ..actors.local import LocalCluster
from ..actors.rules.placement import Place
from ..actors.rules.ring import Ring
from ..actors.rules.slots import SLOTS, slot
from ..runtime.children import LEASH
from .checks import ClusterState, Held, NodeState
from .history import Outcome
from .own_network import ADDRESSES, ROUTER, NoOwnNetwork, OwnNetwork
from .stage import Lie, Life, Load, Moment, NotInTime, NotPossibleHere, RefusedByCluster, Stage
from .workload import Workload

LOOK_SECONDS, LOOK_CLOSELY_SECONDS = 0.05, 0.002
"""The pause between two looks at what is waited for."""

STATE_SECONDS_MAX = 30.0
"""So long it is tried to ask the nodes for all that they hold."""

COMMAND_SECONDS_MAX = 60.0
"""So long a command to the cluster is tried: where the control service that leads was killed, its session has to end
first, and on a busy machine the next one takes long to start."""

COMMAND_PAUSE_SECONDS = 0.2

GONE_SECONDS_MAX = 20.0
"""A process that was asked to end may take so long."""

BACK_SECONDS = 0.5
"""So long after its death a control service beside the launcher's is back, as that is."""

RUN_SECONDS = 0.002
"""A slow node runs for so long between two stops."""

FIRST_PORT, PASSWORD = 7001, "of the stage"
"""Of nodes in a network of their own; clients beyond the loopback may change the ring only with a password."""

FULL_DISK_BYTES = 1024
"""Files of a process whose disk is full cannot grow beyond this."""

SESSION_SECONDS = ProcessConfig().session_timeout_seconds
SCAN_COUNT = 1000


class RealLoad(Load):
    """Clients on threads."""

    def __init__(self, stage: "RealStage", workloads: Sequence[Workload], operations_per_second: float) -> None:
        super().__init__(stage, workloads, operations_per_second)
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(workload, stage.client()), name=workload.client)
            for workload in workloads
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, workload: Workload, client: Client) -> None:
        random = random_module.Random(workload.client)
        with client:
            try:
                while not self._ending.wait(random.uniform(*self.pause_seconds)):
                    self._ask(workload, client)
            except Exception as trouble:
                self.troubles.append(f"{workload.client} ended by {type(trouble).__name__}: {trouble}")

    def _ask(self, workload: Workload, client: Client) -> None:
        task = workload.next()
        number = self._invoked(workload, task)
        outcome: Outcome = "ok"
        try:
            reply = client.execute(*task.words, acks="one" if workload.manner == "hasty" else None)
        except ClientError as error:
            outcome, reply = "maybe" if error.happened == "maybe" else "not", error
        self._completed(workload, task, number, outcome, reply, None)

    def _stop(self) -> bool:
        if self._ending.is_set():
            return False
        self._ending.set()
        for thread in self._threads:
            thread.join()
        return True


class RealStage(Stage):
    """A `LocalCluster` as a stage."""

    def __init__(self, seed: int | str, *, tell: Callable[[Moment], object] | None = None) -> None:
        super().__init__(seed, tell=tell)
        self._began = time.monotonic()
        self._home = tempfile.TemporaryDirectory(prefix="ringkeeper-stage-")
        self._network: OwnNetwork | None = None
        self._why_no_network = "no cluster was started yet"
        self._local: LocalCluster | None = None
        self._runs = False
        self._looker: Client | None = None
        self._copies_looker: Client | None = None
        self._standbys: dict[str, subprocess.Popen[bytes]] = {}
        """Control services beside the launcher's, by the address of their bridges."""
        self._stopped: set[str] = set()
        """Nodes under SIGSTOP."""
        self._slow_nodes: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []
        """They end a fault after a while."""
        self._ending = threading.Event()

    @property
    def local(self) -> LocalCluster:
        assert self._local is not None, "no cluster was started on this stage yet"
        return self._local

    def client(self) -> Client:
        """A client of its own; close it."""
        return self.local.client()

    def close(self) -> None:
        self._ending.set()
        for load in self.loads:
            load._stop()
        self._join_threads()
        for looker in (self._looker, self._copies_looker):
            if looker is not None:
                looker.close()
        for standby in self._standbys.values():
            _end(standby)
        self._standbys.clear()
        if self._runs:
            self._runs = False
            self.local.stop(at_once=True)
        if self._network is not None:
            self._network.close()
            self._network = None
        self._home.cleanup()

    # Time

    def now(self) -> float:
        return time.monotonic() - self._began

    def let_pass(self, seconds: float) -> None:
        time.sleep(seconds)

    def _wait(self, condition: Callable[[], bool], seconds_max: float, *, closely: bool = False) -> bool:
        end = time.monotonic() + seconds_max
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(LOOK_CLOSELY_SECONDS if closely else LOOK_SECONDS)
        return True

    def _later(self, seconds: float, do: Callable[[], object]) -> None:
        """Do something after a while, or when the faults are to end."""

        def wait() -> None:
            self._ending.wait(seconds)
            with suppress(KeyError, ProcessLookupError):  # it is gone by now
                do()

        thread = threading.Thread(target=wait, name="later")
        self._threads.append(thread)
        thread.start()

    def _join_threads(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    # Looking

    @property
    def _look(self) -> Client:
        if self._looker is None:
            self._looker = self.local.client(timeout_seconds=2.0)
        return self._looker

    @property
    def _copies(self) -> Client:
        """Asks successors for what they hold."""
        if self._copies_looker is None:
            self._copies_looker = self.local.client(timeout_seconds=2.0, read_from="any")
        return self._copies_looker

    def _processes(self) -> dict[str, ProcessState]:
        """Those of nodes, by id."""
        return {each.id: each for each in self.local.processes() if each.kind == "node"}

    def _awake(self) -> list[str]:
        """The nodes that can be asked."""
        return [id for id, process in self._processes().items() if process.pid and id not in self._stopped]

    def ring(self) -> Ring | None:
        rings = [ring for id in self._awake() if (ring := self._ring_of(id)) is not None]
        return max(rings, key=lambda ring: ring.epoch, default=None)

    def _ring_of(self, id: str) -> Ring | None:
        """The ring that a node obeys."""
        with suppress(ClientError):
            return Ring.from_json(self._look.execute_on(id, "RING", "SHOW"))
        return None

    def _status(self) -> dict[str, Any]:
        """RING STATUS; empty when nobody can say."""
        with suppress(ClientError):
            return dict(json.loads(self._look.execute("RING", "STATUS")))
        return {}

    def lives(self) -> dict[str, Life]:
        known = {node["id"]: node for node in self._status().get("nodes", ())}
        lives = {}
        for id, process in self._processes().items():
            if process.pid:
                node = known.get(id)
                present = node is not None and node["pid"] == process.pid
                lives[id] = Life(node["incarnation"], node["epoch"]) if node and present else Life("", 0)
        return lives

    def state(self) -> ClusterState:
        end, trouble = time.monotonic() + STATE_SECONDS_MAX, "there is no ring"
        while time.monotonic() < end:
            ring = self.ring()
            try:
                if ring is not None:
                    lives, keys = self.lives(), self._keys_of(ring)
                    nodes = tuple(self._state_of(id, life, keys) for id, life in sorted(lives.items()))
                    return ClusterState(ring=ring, nodes=nodes)
            except ClientError as error:
                trouble = str(error)
            time.sleep(LOOK_SECONDS)
        raise NotInTime(f"the nodes could not be asked what they hold: {trouble}")

    def _keys_of(self, ring: Ring) -> list[bytes]:
        """All keys that clients can find. Raises ClientError."""
        found: set[bytes] = set()
        for id in {node.id for node in ring.coordinators if node is not None}:
            cursor: bytes = b""
            while cursor != b"0":
                cursor, keys = self._look.execute_on(id, "SCAN", cursor or b"0", "COUNT", SCAN_COUNT)
                found.update(keys)
        return sorted(found)

    def _state_of(self, id: str, life: Life, keys: Sequence[bytes]) -> NodeState:
        """What a node says of itself. ``keys``: those that clients can find. Raises ClientError."""
        ring = Ring.from_json(self._look.execute_on(id, "RING", "SHOW"))
        me = ring.by_id.get(id)
        named = me is not None and me.incarnation == life.incarnation
        own = [key for key in keys if named and me in ring.lists[slot(key)]]
        records: dict[bytes, Held] = {}
        for key in own:
            version = self._copies.execute_on(id, "RING", "VERSION", key)
            value = self._copies.execute_on(id, "GET", key)
            if version is not None and value is not None:
                records[key] = Held(value=value, version=(version[0], version[1]))
        if self._held_by(id) != len(records):  # it has keys that it is not asked for
            for number in range(SLOTS):
                if count := self._look.execute_on(id, "CLUSTER", "COUNTKEYSINSLOT", number):
                    held = self._look.execute_on(id, "CLUSTER", "GETKEYSINSLOT", number, count)
                    unknown = (key for key in held if key not in records)
                    records |= {key: Held(value=b"(not asked)", version=(0, 0)) for key in unknown}
        serving = ring.coordinated_by(id) if named else ()
        return NodeState(id=id, incarnation=life.incarnation, epoch=life.epoch, serving=serving, records=records)

    def _held_by(self, id: str) -> int | None:
        """How many keys a node has, whosever they are."""
        return next((node["keys"] for node in self._status().get("nodes", ()) if node["id"] == id), None)

    def _answers(self) -> bool:
        """As that of every stage, as far as it is seen here without all keys: what is asked for too early waits."""
        return self.serves()

    def _tidy(self) -> bool:
        """As that of every stage, asked often: the keys are only counted."""
        with suppress(ClientError):
            ring = self.ring()
            keys = self._keys_of(ring) if ring is not None else []
            return ring is not None and all(
                self._held_by(node.id) == sum(node in ring.lists[slot(key)] for key in keys) for node in ring.circle
            )
        return False

    # What the world does

    def _command(self, verb: str, *arguments: str) -> dict[str, Any]:
        end, trouble = time.monotonic() + COMMAND_SECONDS_MAX, ""
        while time.monotonic() < end:
            try:
                return dict(json.loads(self._look.execute("RING", verb, *arguments)))
            except CommandError as error:
                raise RefusedByCluster(str(error)) from error
            except ClientError as error:
                trouble = str(error)
            time.sleep(COMMAND_PAUSE_SECONDS)
        raise RefusedByCluster(f"RING {verb} was tried for {COMMAND_SECONDS_MAX:g} s: {trouble}")

    def _load(self, workloads: Sequence[Workload], operations_per_second: float) -> Load:
        if any(workload.manner == "stale" for workload in workloads):
            _not_here("the client of real loads reads at coordinators only")
        return RealLoad(self, workloads, operations_per_second)

    def _start(
        self, nodes: int, ecs: int, fsync: str, replicas: int, min_copies: int, out_after: float, place: Place
    ) -> None:
        network: dict[str, Any] = {}
        try:
            self._network = OwnNetwork()
            network = {"host": ROUTER, "node_hosts": ADDRESSES, "port": FIRST_PORT}
        except NoOwnNetwork as reason:
            self._why_no_network = str(reason)
        copies: dict[str, Any] = {"replicas": replicas, "min_copies": min_copies, "out_after_seconds": out_after}
        copies |= {"place": place, "scrub_bytes_per_second": self._scrub}
        self._local = self._cluster(nodes=nodes, fsync=fsync, **copies, **network)
        self._runs = True
        self.local.start()
        for _ in range(ecs - 1):
            self._start_standby()

    def _cluster(self, **wishes: Any) -> LocalCluster:
        folder = Path(self._home.name) / "data"
        if self._network is None:
            return LocalCluster(data=folder, password="", **wishes)
        return LocalCluster(data=folder, password=PASSWORD, enter=self._network.enter, **wishes)

    def _start_standby(self) -> None:
        cluster = self.local.cluster
        with socket.create_server((cluster.host, 0)) as probe:  # far from those that the launcher gives to nodes
            port = probe.getsockname()[1]
        program = next(each for each in programs_of(cluster, self.local.folder) if each.kind == "ecs")
        arguments = list(program.arguments)
        arguments[arguments.index("--port") + 1] = str(port)
        address = f"{cluster.host}:{port}"
        with (Path(self._home.name) / f"ecs-{port}.log").open("wb") as log:
            self._standbys[address] = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=subprocess.PIPE,  # the leash
                stdout=log,
                stderr=log,
                env={**os.environ, LEASH: "stdin"},
                start_new_session=True,
            )

    def _join(self, count: int, place: Place | None) -> tuple[str, ...]:
        where = () if place is None else ("PLACE", place)
        return tuple(self._command("ADD", "COUNT", str(count), *where)["nodes"])

    def _replace(self, id: str) -> dict[str, Any]:
        return self._command("REPLACE", id)

    def _signal(self, id: str, number: int) -> bool:
        """False: the process does not run."""
        process = self._processes().get(id)
        if process is None or not process.pid:
            return False
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:  # it has ended since
            return False
        return True

    def _kill(self, id: str) -> None:
        if self._signal(id, 0):
            self.local.kill(id)
        self._stopped.discard(id)

    def _restart(self, id: str) -> None:
        self._resume(id)
        if self._signal(id, signal.SIGTERM) and not self._wait(lambda: not self._signal(id, 0), GONE_SECONDS_MAX):
            self.local.kill(id)
        with suppress(KeyError):  # it was leaving, and has left
            self.local.start_process(id)

    def _pause(self, id: str) -> None:
        if self._signal(id, signal.SIGSTOP):
            self._stopped.add(id)

    def _resume(self, id: str) -> None:
        self._stopped.discard(id)
        self._signal(id, signal.SIGCONT)

    def _reset(self, one: str, other: str) -> None:
        _not_here("connections between real processes cannot be broken")

    def _delay(self, sender: str, id: str, seconds: float) -> None:
        _not_here("what processes say to each other cannot be delayed on real processes")

    def _slow(self, id: str, turn_seconds: float) -> None:
        if id in self._slow_nodes:
            self._slow_nodes.pop(id).set()
        pid = self._processes()[id].pid
        if turn_seconds and pid:
            ending = self._slow_nodes[id] = threading.Event()
            thread = threading.Thread(target=_slow_down, args=(pid, turn_seconds, ending, self._ending), name="slow")
            self._threads.append(thread)
            thread.start()

    def _partition(self, some: tuple[str, ...], others: tuple[str, ...], one_way: bool) -> None:
        if self._network is None:
            _not_here(f"one loopback cannot be cut in two, and {self._why_no_network}")
        for one, other in ((each, other) for each in some for other in others):
            self._cut(self._network, one, other)
            if not one_way:
                self._cut(self._network, other, one)

    def _cut(self, network: OwnNetwork, sender: str, receiver: str) -> None:
        """Drop what one sends to the other: nodes, or one of them ``zookeeper``, which shares its address with us."""
        source, target = (ROUTER if id == "zookeeper" else id.rpartition(":")[0] for id in (sender, receiver))
        port = self.local.cluster.zookeeper_port
        match sender, receiver:
            case "zookeeper", _:
                network.cut(source=source, target=target, ports=f"ipproto tcp sport {port}")
            case _, "zookeeper":
                network.cut(source=source, target=target, ports=f"ipproto tcp dport {port}")
            case _:
                network.cut(source=source, target=target)

    def _heal(self) -> None:
        if self._network is not None:
            self._network.heal()

    def _lose_session(self, id: str) -> None:
        self._pause(id)
        self._later(SESSION_SECONDS * 1.5, lambda: self._resume(id))

    def _zookeeper_away(self, seconds: float) -> None:
        pid = next(each.pid for each in self.local.processes() if each.kind == "zookeeper")
        if pid:
            os.kill(pid, signal.SIGSTOP)
            self._later(seconds, lambda: os.kill(pid, signal.SIGKILL))

    def _zookeeper(self) -> tuple[int, Path, Path]:
        """Its process, where its data is, and where the copy of that."""
        pid = next(each.pid for each in self.local.processes() if each.kind == "zookeeper")
        if not pid:
            raise NotPossibleHere("ZooKeeper does not run at this moment")
        return pid, self.local.folder.path / "zookeeper", Path(self._home.name) / "zookeeper-copy"

    def _copy_zookeeper(self) -> None:
        pid, data, copy = self._zookeeper()
        os.kill(pid, signal.SIGSTOP)  # as a power cut would find it
        shutil.copytree(data, copy, dirs_exist_ok=True)
        os.kill(pid, signal.SIGCONT)

    def _put_zookeeper_back(self) -> None:
        pid, data, copy = self._zookeeper()
        os.kill(pid, signal.SIGSTOP)
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        os.kill(pid, signal.SIGKILL)

    def _kill_ecs_leader(self) -> str:
        leader = self._status().get("leader")
        if leader is None:
            return ": there is none"
        standby = self._standbys.pop(leader, None)
        if standby is None:
            self.local.kill("ecs")
            return f": {leader}, the launcher's"
        _end(standby)
        self._later(BACK_SECONDS, self._start_standby)
        return f": {leader}"

    def _pause_ecs_leader(self, seconds: float) -> str:
        leader = self._status().get("leader")
        if leader is None:
            return ": there is none"
        own = next(each.pid for each in self.local.processes() if each.kind == "ecs")
        pid = self._standbys[leader].pid if leader in self._standbys else own
        if not pid:
            return ": it has just died"
        os.kill(pid, signal.SIGSTOP)
        self._later(seconds, lambda: os.kill(pid, signal.SIGCONT))
        return f": {leader}"

    def _cut_power(self, id: str) -> None:
        _not_here("the machine that would lose power is this one")

    def _crash_disk(self, id: str) -> None:
        self._kill(id)
        shutil.rmtree(self.local.folder.node_folder(int(id.rpartition(":")[2])))

    def _fill_disk(self, id: str, full: bool) -> None:
        """As if the disk were full: files of that process cannot grow beyond a few bytes. What it leaves to its next
        life by exec stays so; one that a launcher starts is free of it."""
        process = self._processes().get(id)
        if process is not None and process.pid:
            limit = FULL_DISK_BYTES if full else resource.RLIM_INFINITY
            with suppress(ProcessLookupError):  # it has ended since
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def _fail_syncs(self, id: str, failure: str) -> None:
        _not_here("the disks of this machine sync")

    def _lie(self, id: str, how: Lie) -> bytes:
        _not_here("what a disk holds under a key cannot be changed from outside while a process has it in its memory")

    def _ask(self, id: str, *words: str) -> dict[str, Any] | None:
        with suppress(ClientError):
            return dict(json.loads(self._look.execute_on(id, *words)))
        return None

    def _order(self, id: str, *words: str) -> None:
        self._ask(id, *words)

    def _kill_everything(self) -> None:
        self._end_faults()
        for standby in self._standbys.values():
            _end(standby)
        self.local.stop(at_once=True)
        self._runs = False

    def _cut_all_power(self) -> None:
        _not_here("the machine that would lose power is this one")

    def _start_everything(self) -> None:
        if self._runs:
            for id, process in self._processes().items():
                if not process.pid:
                    with suppress(KeyError):
                        self.local.start_process(id)
            return
        self._local = self._cluster()
        self._runs = True
        self.local.start()
        for _ in range(len(self._standbys)):
            self._standbys.popitem()
            self._start_standby()

    def _end_faults(self) -> None:
        self._heal()
        for ending in self._slow_nodes.values():
            ending.set()
        self._slow_nodes.clear()
        self._join_threads()
        self._ending.clear()
        for id in sorted(self._stopped):
            self._resume(id)


def _not_here(reason: str) -> NoReturn:
    raise NotPossibleHere(f"{reason}; --simulate plays it")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _slow_down(pid: int, turn_seconds: float, *endings: threading.Event) -> None:
    """Stop a process again and again, until something ends."""
    with suppress(ProcessLookupError):
        while not any(ending.is_set() for ending in endings):
            os.kill(pid, signal.SIGSTOP)
            try:
                endings[0].wait(turn_seconds)
            finally:
                os.kill(pid, signal.SIGCONT)
            endings[0].wait(RUN_SECONDS)
