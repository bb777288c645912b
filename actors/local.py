"""Runs a whole cluster on this machine for a Python program, a test, or ``ringkeeper up``.

    with LocalCluster(nodes=3) as cluster, cluster.client() as client:
        client.set("user:42", "ann")

ZooKeeper, the ECS and every node are processes of their own, started and watched by a ``Launcher``; the launcher lives
in an actor system on a thread of this program. Everything here may be called from any other thread, and blocks, with a
bound. This is an edge: no actor uses it.

    new -- start --> starting -- every node serves --> running -- stop --> stopped
                        +-- a process died, or too late --> stopped, StartFailed

It grows and shrinks while it runs: ``add_nodes`` and ``remove_node`` ask the ECS and wait for the end of the job, and
``seeds`` follows.

*When does a cluster serve?* When the leading ECS says so, counts in every node's present life (process ids are
compared: after a restart the ring names former lives until the ECS has looked), every node has read that ring, and
every client port shows it. So a client that comes right after ``start`` meets no error.
"""

import atexit
import json
import logging
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pykka

from ..runtime.actor import Actor, LocalRef
from ..runtime.bridge import Bridge, BridgeConfig
from ..runtime.children import Children, ProcessId, end_all, how_it_ended
from ..runtime.network import TcpNetwork
from ..runtime.observer import OBSERVER, Observer
from ..runtime.process import Process, free_port, is_free
from ..runtime.system import ESCALATE
from ..runtime.watches import Watches, auth_of
from .client import Client
from .client_errors import ClientError, InDoubt, Unavailable
from .cluster_folder import LAUNCHER, PROGRAM, Cluster, ClusterFolder, FolderError
from .config import (
    BRIDGE_PORT_OFFSET,
    ConfigError,
    check_code,
    check_copies,
    check_out_after,
    check_scrub,
    check_store,
    read_former_secret,
)
from .launcher import (
    END_ORDER,
    NODES_MAX,
    EndProcesses,
    Launcher,
    ListProcesses,
    Processes,
    ProcessesEnded,
    ProcessExited,
    ProcessLeft,
    ProcessStarted,
    ProcessState,
    SignalProcess,
    StartProcess,
)
from .rules import paths

log = logging.getLogger(__name__)

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 75.0
"""The launcher bounds the end of each kind of process; this is more than their sum."""
ASK_SECONDS_MAX = 5.0
"""How long the launcher, which never blocks, may take to answer."""
FOUND_SECONDS_MAX = 10.0
"""How long the ECS may take to find the launcher in ZooKeeper, before it is no longer waited for: the ring serves."""
REACH_SECONDS_MAX = 3.0
"""How long each server of a ZooKeeper may take to accept a connection."""
CHANGE_SECONDS_MAX = 300.0
"""How long a change of the ring may take before its caller is told that it still goes on."""
LOOK_SECONDS = 0.05
"""The pause between two looks whether the cluster serves, or a job has ended."""
NEWS_MAX = 256
REPLICAS = 3
"""Copies of each slot, unless somebody wishes otherwise."""
HOST = "127.0.0.1"
"""Where all of it listens, unless somebody wishes otherwise."""

News = ProcessStarted | ProcessExited | ProcessLeft | ProcessesEnded
"""What the launcher tells; see ``launcher.py``."""


class StartFailed(Exception):
    """Raised when a cluster did not come up. What was started for it has been ended."""


class ChangeFailed(Exception):
    """Raised when a change of the ring was aborted or cancelled: all is as it was before. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a cluster should be like; None: as it is, if it exists, and else as LocalCluster says."""

    nodes: int | None = None
    port: int | None = None
    zookeeper: str | None = None
    place: str | None = None
    fsync: str | None = None
    store: str | None = None
    name: str | None = None
    replicas: int | None = None
    min_copies: int | None = None
    acks: str | None = None
    out_after_seconds: float | None = None
    scrub_bytes_per_second: int | None = None
    host: str | None = None
    node_hosts: tuple[str, ...] | None = None
    allow_faults: bool = False
    allow_code: bool = False


class LocalCluster:
    """A cluster on this machine. What is not given is as ``data`` says, if a cluster lives there, or as below.

    ``nodes``: 3. ``port``: of the first node, the others follow upwards; without it every node gets a free one.
    ``data``: a folder that is kept; without it a temporary one, removed at the end. ``zookeeper``: ``host:port,...`` of
    one that runs already; the embedded one otherwise. ``place``: even, md5, relief. ``fsync``: always, everysec, never.
    ``store``: rocksdb, json. ``replicas``: copies of each slot, 3, on as many nodes. ``min_copies``: how many of them
    must be up for a write, 2 or as many as there can be. ``acks``: when a write is answered: once all copies that are
    up have it, or one. ``out_after_seconds``: a node that has been down for so long, 30, is given up; 0: never.
    ``scrub_bytes_per_second``: so fast are copies compared in the background, 1 MiB by each node; 0: not at all.
    ``password``: what clients must know; as the environment's RINGKEEPER_PASSWORD says if None. ``host``: where all of
    it listens, 127.0.0.1; ``node_hosts``: addresses that the nodes are spread over, by port, instead. ``enter``: with
    what a command begins that runs where such an address is, in a network namespace (``nsenter ...``).

    ``outlive``: the processes live on if this program is killed, and the next LocalCluster (or ``ringkeeper up``) on
    the same ``data`` adopts them; otherwise they end as soon as this program does, however it ends. ``on_news`` is
    called on the launcher's thread with everything that it tells, and must not block.

    Raises ConfigError for settings that cannot work or contradict what lives in ``data``.
    """

    def __init__(
        self,
        nodes: int | None = None,
        *,
        data: Path | str | None = None,
        port: int | None = None,
        zookeeper: str | None = None,
        place: str | None = None,
        fsync: str | None = None,
        store: str | None = None,
        name: str | None = None,
        replicas: int | None = None,
        min_copies: int | None = None,
        acks: str | None = None,
        out_after_seconds: float | None = None,
        scrub_bytes_per_second: int | None = None,
        password: str | None = None,
        host: str | None = None,
        node_hosts: Sequence[str] | None = None,
        enter: Callable[[str], tuple[str, ...]] = lambda _: (),
        allow_faults: bool = False,
        allow_code: bool = False,
        log_level: str = "info",
        outlive: bool = False,
        on_news: Callable[[News], None] | None = None,
    ) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if data is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="ringkeeper-")
            data = self._temporary.name
        self.folder = ClusterFolder(Path(data))
        self._wishes = Wishes(
            nodes=nodes,
            port=port,
            zookeeper=zookeeper,
            place=place,
            fsync=fsync,
            store=store,
            name=name,
            replicas=replicas,
            min_copies=min_copies,
            acks=acks,
            out_after_seconds=out_after_seconds,
            scrub_bytes_per_second=scrub_bytes_per_second,
            host=host,
            node_hosts=None if node_hosts is None else tuple(node_hosts),
            allow_faults=allow_faults,
            allow_code=allow_code,
        )
        self._enter = enter
        self._password = os.environ.get("RINGKEEPER_PASSWORD", "") if password is None else password
        self._log_level, self._outlive, self._on_news = log_level, outlive, on_news
        self._cluster: Cluster | None = None
        self._thread: threading.Thread | None = None
        self._process: Process | None = None
        self._children: Children | None = None
        self._launcher: LocalRef | None = None
        self._bridge = ""
        """Where the launcher's is."""
        self._failure: BaseException | None = None
        self._news: deque[News] = deque(maxlen=NEWS_MAX)
        self._heard = threading.Condition()
        self._all_ended = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Its life

    def start(self, seconds_max: float = START_SECONDS_MAX) -> None:
        """Start what does not run yet and wait until every node serves.

        Raises FolderError (FolderInUse...) or ConfigError before anything runs; StartFailed, with everything ended
        that this call started, when it did not serve within ``seconds_max``.
        """
        if self._cluster is not None:
            raise RuntimeError("this cluster was started before; make another LocalCluster, with the same data")
        self.folder.lock()
        try:
            check_code(self._wishes.allow_code, self._password)
            found = self.folder.running()
            self._cluster = settle(self.folder, self._wishes, found)
            if self._cluster.zookeeper:
                _check_zookeeper(self._cluster.zookeeper)
            self.folder.make_secret()
            self._thread = threading.Thread(target=self._run, name="launcher", daemon=True)
            self._thread.start()
            atexit.register(self.stop)
            try:
                self._wait_until_serving(seconds_max)
                self._wait_until_found()
            except BaseException:
                self.stop(spare_adopted=True)
                raise
        except BaseException:
            self.folder.unlock()
            if self._temporary is not None:
                self._temporary.cleanup()
            raise

    def stop(self, *, at_once: bool = False, spare_adopted: bool = False) -> None:
        """End every process, nodes first; ``at_once``: by SIGKILL. Does nothing when nothing runs.

        ``spare_adopted``: not those that ran before. If the launcher has failed and its processes may outlive it, they
        do: it is only a launcher.
        """
        if self._thread is not None:
            atexit.unregister(self.stop)
            failed = self.failure() is not None
            try:
                self._tell(EndProcesses(at_once=at_once, spare_adopted=spare_adopted))
                self._wait(lambda: self._all_ended or not self._runs(), STOP_SECONDS_MAX)
            except (pykka.ActorDeadError, TimeoutError) as trouble:
                log.error("the launcher has not ended its processes: %s", trouble)
            with suppress(RuntimeError):  # its loop is closed
                if self._process is not None:
                    self._process.loop.call_soon_threadsafe(self._process.close)
            self._thread.join()
            self._thread = None
            if not spare_adopted and not (failed and self._outlive):
                end_what_runs(self.folder)
            self.folder.note_end()
            self.folder.unlock()
        if self._temporary is not None:
            self._temporary.cleanup()

    def hurry(self) -> None:
        """Make a ``stop`` that is under way kill what still runs; for a second Ctrl-C."""
        with suppress(pykka.ActorDeadError):
            self._tell(EndProcesses(at_once=True))

    # Its use

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            raise RuntimeError("this cluster was not started yet")
        return self._cluster

    @property
    def seeds(self) -> tuple[str, ...]:
        """``host:port`` of every node that is here now."""
        return self.cluster.seeds

    def client(self, **options: Any) -> Client:
        """A client of this cluster; options as for ``Client``."""
        return Client(self.seeds, **{"password": self._password or None, **options})

    def status(self) -> dict[str, Any]:
        """What ``ringkeeper status --json`` prints."""
        with self.client() as client:
            return dict(json.loads(client.execute("RING", "STATUS")))

    def processes(self) -> tuple[ProcessState, ...]:
        """Every process with its id, dead ones too (pid 0)."""
        answer: Processes = self._ask(ListProcesses())
        return answer.processes

    def kill(self, id: str) -> None:
        """End a process as a crash would, with SIGKILL, and wait until it is gone. A node stays dead; others come back.

        ``id``: of a node (host:port), or the name of a process: ecs, zookeeper, node-7001. Raises KeyError.
        """
        victim = self._find(id)
        self._ask(SignalProcess(name=victim.name, number=signal.SIGKILL))
        self._wait(lambda: self._find(id).pid != victim.pid, ASK_SECONDS_MAX)

    def start_node(self, id: str, seconds_max: float = START_SECONDS_MAX) -> None:
        """Start a dead node again and wait until it is up in its new life. ``id``: host:port, or node-7001.

        Raises KeyError; StartFailed when it cannot be started or dies again; TimeoutError.
        """
        self.start_process(id)
        process = self._find(id)
        if process.kind == "node":
            self._wait_until_up(process.id, time.monotonic() + seconds_max)

    def start_process(self, id: str) -> None:
        """Start a dead process again, and return as soon as it runs. Raises KeyError; StartFailed."""
        process = self._find(id)
        refusal: str = self._ask(StartProcess(name=process.name))
        if refusal:
            raise StartFailed(f"{process.id or process.name} was not started: {refusal}.")

    # It grows and shrinks

    def add_nodes(self, count: int = 1, seconds_max: float = CHANGE_SECONDS_MAX) -> tuple[str, ...]:
        """Start more nodes and take them into the ring, all in one change; returns their ids once they are up.

        Raises ClientError when it was refused, ChangeFailed when it was begun and given up, TimeoutError when it still
        goes on.
        """
        deadline = time.monotonic() + seconds_max
        begun = self._order("ADD", "COUNT", count)
        self._wait_for_job(begun["job"], deadline)
        for id in begun["nodes"]:
            self._wait_until_up(id, deadline)
        return tuple(begun["nodes"])

    def remove_node(self, id: str, seconds_max: float = CHANGE_SECONDS_MAX) -> None:
        """Take a node (host:port) out of the ring; returns once others hold its keys and its process has ended.

        Its folder stays. Raises as ``add_nodes``.
        """
        deadline = time.monotonic() + seconds_max
        runs = any(process.id == id and process.pid for process in self.processes())
        self._wait_for_job(self._order("REMOVE", id)["job"], deadline)
        if runs:
            self._wait(lambda: id not in self.seeds, deadline - time.monotonic())

    def replace_node(self, id: str, seconds_max: float = CHANGE_SECONDS_MAX) -> str:
        """Start a node and put it in the place of another, which leaves the ring, dead or alive; returns its id once it
        is up. Raises as ``add_nodes``."""
        deadline = time.monotonic() + seconds_max
        begun = self._order("REPLACE", id)
        self._wait_for_job(begun["job"], deadline)
        self._wait_until_up(begun["by"], deadline)
        return str(begun["by"])

    def set_copies(self, replicas: int, min_copies: int | None = None, seconds_max: float = CHANGE_SECONDS_MAX) -> None:
        """Keep so many copies of each slot, and need so many of them for a write (None: as many as now); returns once
        they are there. Raises as ``add_nodes``."""
        words = () if min_copies is None else ("MIN", min_copies)
        self._wait_for_job(self._order("REPLICAS", replicas, *words)["job"], time.monotonic() + seconds_max)

    def restart(self, id: str, *, force: bool = False, seconds_max: float = START_SECONDS_MAX) -> None:
        """End a node's process (host:port) in order, start it again and wait until it is up in its new life.

        ``force``: even if some slots are not served meanwhile. Raises KeyError; ClientError when it was refused;
        StartFailed; TimeoutError.
        """
        deadline = time.monotonic() + seconds_max
        node = self._find(id).id
        before = self._incarnation(node)
        with suppress(InDoubt):  # the node that was to pass the answer on may be the one that ends
            self._order("RESTART", node, *(["FORCE"] if force else []))
        while self._incarnation(node) in ("", before):
            if time.monotonic() > deadline:
                raise TimeoutError(f"node {node} has no new life yet, and was waited for no longer")
            self.wait_for_news(LOOK_SECONDS)
        self._wait_until_up(node, deadline)

    def _incarnation(self, id: str) -> str:
        """The life that the ring names; "" when nobody can say."""
        with suppress(ClientError), self.client(timeout_seconds=2.0) as client:
            nodes = json.loads(client.execute("RING", "STATUS"))["nodes"]
            return next((str(node["incarnation"]) for node in nodes if node["id"] == id), "")
        return ""

    def _order(self, verb: str, *arguments: str | int) -> dict[str, Any]:
        with self.client() as client:
            return dict(json.loads(client.execute("RING", verb, *arguments)))

    def _wait_for_job(self, number: int | None, deadline: float) -> None:
        """Wait for the end of a job; None: there is nothing to wait for."""
        with self.client(timeout_seconds=2.0) as client:
            while number is not None:
                try:
                    jobs = json.loads(client.execute("RING", "JOBS"))["jobs"]
                except Unavailable as trouble:  # no ECS leads for a while: the ring remembers the job
                    job, state = None, str(trouble)
                else:
                    job = next((job for job in jobs if job["job"] == number), None)
                    if job is None:
                        raise ChangeFailed(f"nobody knows job {number} any more")
                    state = job["state"]
                if state == "done":
                    return
                if job is not None and state in ("aborted", "cancelled"):
                    raise ChangeFailed(f"job {number}, {job['what']}, was {state}: {job['why']}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"job {number} goes on, and was waited for no longer: {state}")
                self.wait_for_news(LOOK_SECONDS)

    def _wait_until_up(self, id: str, deadline: float) -> None:
        with self.client(timeout_seconds=2.0) as client:
            while True:
                process = self._find(id)
                if not process.pid:
                    raise StartFailed(f"node {id} {how_it_ended(process.status)}.")
                try:
                    status = json.loads(client.execute("RING", "STATUS"))
                    info = client.execute_on(id, "CLUSTER", "INFO").decode()
                except ClientError as trouble:
                    why_not = str(trouble)
                else:
                    why_not = why_not_up(status, id, process.pid) or why_not_shown(status, info)
                if not why_not:
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"node {id} is not up yet, and was waited for no longer: {why_not}")
                self.wait_for_news(LOOK_SECONDS)

    def wait_for_news(self, seconds_max: float | None = None) -> bool:
        """Sleep until the launcher tells something, or is gone; False when it did not within that time."""
        with self._heard:
            return self._heard.wait(seconds_max)

    def failure(self) -> BaseException | None:
        """Why the launcher is gone without having been stopped."""
        return None if self._runs() else self._failure

    def _find(self, id: str) -> ProcessState:
        for process in self.processes():
            if id and id in (process.id, process.name):
                return process
        raise KeyError(f"{id} is no process of this cluster; it has {', '.join(p.name for p in self.processes())}")

    # Starting

    def _wait_until_serving(self, seconds_max: float) -> None:
        deadline = time.monotonic() + seconds_max
        with self.client(timeout_seconds=2.0) as client:
            while True:
                died = next((news for news in list(self._news) if isinstance(news, ProcessExited)), None)
                if died is not None:
                    log_file = "" if self._temporary else f" Its log: {self.folder.log_file(died.program.name)}"
                    raise StartFailed(f"{died.sentence}.{log_file}")
                if self._failure is not None:
                    raise StartFailed(f"the launcher failed: {self._failure!r}")
                why_not = self._why_not_serving(client)
                if not why_not:
                    return
                if time.monotonic() > deadline:
                    raise StartFailed(f"the cluster does not serve after {seconds_max:.0f} s: {why_not}")
                with self._heard:
                    self._heard.wait(LOOK_SECONDS)

    def _wait_until_found(self) -> None:
        """Until then no node can be added."""
        deadline = time.monotonic() + FOUND_SECONDS_MAX
        with self.client(timeout_seconds=2.0) as client:
            while time.monotonic() < deadline and self._runs():
                with suppress(ClientError):
                    if self._bridge in json.loads(client.execute("RING", "STATUS")).get("launchers", {}).values():
                        return
                self.wait_for_news(LOOK_SECONDS)
        log.warning("the ECS has not found this launcher in ZooKeeper yet: until it has, it cannot add nodes here")

    def _why_not_serving(self, client: Client) -> str:
        """What is missing, in a sentence; "" when every node serves."""
        try:
            status = json.loads(client.execute_on(self.seeds[0], "RING", "STATUS"))
            held_back = client.ring().get("held_back", ())
            infos = [client.execute_on(seed, "CLUSTER", "INFO").decode() for seed in self.seeds]
            pids = {process.id: process.pid for process in self.processes() if process.kind == "node"}
        except (ClientError, pykka.ActorDeadError) as trouble:
            return str(trouble)
        return why_not_serving(status, pids, infos, held_back)

    # The launcher's thread

    def _run(self) -> None:
        try:
            self._process = process = Process("launcher")
            status = process.run(self._make)
            if not self._all_ended:
                raise RuntimeError(f"its process ended with status {status}; the log says why")
        except BaseException as failure:
            log.critical("the launcher failed: %s", failure)
            self._failure = failure
        finally:
            if self._children is not None:
                self._children.close()
        with self._heard:
            self._heard.notify_all()

    def _make(self, process: Process) -> "_Contents":
        cluster, host, secret = self.cluster, self.cluster.host, self.folder.secret()
        bridge_config = BridgeConfig(cluster=cluster.name, node=f"launcher {host}", host=host, secret=secret)
        bridge = Bridge(process.system, TcpNetwork(process.loop), bridge_config)
        self._bridge = bridge.address
        process.system.allow_faults, process.system.allow_code = cluster.allow_faults, cluster.allow_code
        process.system.spawn(Observer, guarded=bool(self._password), name=OBSERVER)
        self._children = children = Children(process.loop, leashed=not self._outlive)
        observer = process.system.spawn(_Ear, self._hear, name="ear")
        auth = auth_of(secret, read_former_secret(self.folder.secret_file))
        watches = process.system.spawn(
            Watches, hosts=cluster.zookeeper_hosts, auth=auth, name="watches", supervision=ESCALATE
        )
        self._launcher = process.system.spawn(
            Launcher,
            cluster=cluster,
            log_level=self._log_level,
            children=children,
            folder=self.folder,
            me=(LAUNCHER if self._outlive else PROGRAM, ProcessId.of(os.getpid())),
            observer=observer,
            is_free=is_free,
            environment={**os.environ, "RINGKEEPER_PASSWORD": self._password},
            watches=watches,
            registration=f"{paths.launchers(cluster.name)}/{host}",
            bridge=bridge.address,
            enter=self._enter,
            name="launcher",
            supervision=ESCALATE,
        )
        return _Contents(children, bridge)

    def _hear(self, news: News) -> None:
        with self._heard:
            self._news.append(news)
            self._follow(news)
            self._all_ended = self._all_ended or isinstance(news, ProcessesEnded)
            self._heard.notify_all()
        if self._on_news is not None:
            try:
                self._on_news(news)
            except Exception:
                log.exception("whoever listens to the launcher failed on %s", type(news).__name__)

    def _follow(self, news: News) -> None:
        """Know which nodes there are."""
        ports = self.cluster.node_ports
        match news:
            case ProcessStarted(added=True):
                self._cluster = replace(self.cluster, node_ports=(*ports, news.program.port))
            case ProcessLeft():
                self._cluster = replace(
                    self.cluster, node_ports=tuple(port for port in ports if port != news.program.port)
                )
            case _:
                pass

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and self._failure is None

    def _wait(self, condition: Callable[[], bool], seconds_max: float) -> None:
        """Wait until a condition holds that news of the launcher can bring about."""
        deadline = time.monotonic() + seconds_max
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"waited {seconds_max:.0f} s in vain for the launcher")
            with self._heard:
                self._heard.wait(min(left, LOOK_SECONDS))

    def _tell(self, message: object) -> None:
        self._living().tell(message)

    def _ask(self, message: object) -> Any:
        return self._living().ask(message, timeout=ASK_SECONDS_MAX)

    def _living(self) -> LocalRef:
        self._wait(lambda: self._launcher is not None or not self._runs(), ASK_SECONDS_MAX)
        if self._launcher is None or not self._runs():
            raise pykka.ActorDeadError("the launcher of this cluster does not run")
        return self._launcher


class _Ear(Actor):
    """Hands what the launcher tells to the other side of the edge."""

    def __init__(self, hear: Callable[[News], None]) -> None:
        super().__init__()
        self._hear = hear

    def on_receive(self, message: News) -> None:
        self._hear(message)


class _Contents:
    """What runs on the launcher's loop. Its processes were ended before; what is left is to let go."""

    def __init__(self, children: Children, bridge: Bridge) -> None:
        self._children, self._bridge = children, bridge

    def close(self, done: Callable[[], None]) -> None:
        self._children.close()
        self._bridge.close(done=done)


def settle(folder: ClusterFolder, wishes: Wishes, running: Mapping[str, ProcessId]) -> Cluster:
    """The cluster of a folder, made as wished when there is none yet, written down with ports that are free.

    Raises ConfigError when a wish cannot be fulfilled or contradicts what lives there, or no port is free, FolderError
    when one that is needed is taken.
    """
    cluster = folder.cluster()
    if cluster is None:
        cluster = _conceive(wishes)
    else:
        cluster = _without_those_that_left(cluster, folder, running)
        has: dict[str, tuple[object, object]] = {
            "nodes": (wishes.nodes, len(cluster.node_ports)),
            "port": (wishes.port, cluster.node_ports[0]),
            "zookeeper": (wishes.zookeeper, cluster.zookeeper or "(embedded)"),
            "place": (wishes.place, cluster.place),
            "fsync": (wishes.fsync, cluster.fsync),
            "store": (wishes.store, cluster.store),
            "name": (wishes.name, cluster.name),
            "replicas": (wishes.replicas, cluster.replicas),
            "min_copies": (wishes.min_copies, cluster.min_copies),
            "acks": (wishes.acks, cluster.acks),
            "host": (wishes.host, cluster.host),
            "node_hosts": (wishes.node_hosts, cluster.node_hosts),
        }
        for what, (wish, is_now) in has.items():
            if wish is not None and wish != is_now:
                raise ConfigError(
                    f"{folder} holds a cluster with {what} {is_now}, and {what} {wish} was asked for. Leave that out "
                    "to bring it back as it is, or use another data folder."
                )
    if wishes.out_after_seconds is not None:  # of this run only, as below: nothing of the ring depends on it
        check_out_after(wishes.out_after_seconds)
        cluster = replace(cluster, out_after_seconds=wishes.out_after_seconds)
    if wishes.scrub_bytes_per_second is not None:
        check_scrub(wishes.scrub_bytes_per_second)
        cluster = replace(cluster, scrub_bytes_per_second=wishes.scrub_bytes_per_second)
    cluster = replace(cluster, allow_faults=wishes.allow_faults, allow_code=wishes.allow_code)  # never from run to run
    if cluster.zookeeper and not all(re.fullmatch(r".+:\d{1,5}", each) for each in cluster.zookeeper.split(",")):
        raise ConfigError(
            f"{cluster.zookeeper!r} does not say where ZooKeeper is; write host:port, or host:port,host:port"
        )
    cluster = _with_metrics_ports(_with_own_ports(cluster, running), running)
    for number in cluster.node_ports:
        if f"node-{number}" not in running:
            _check_free(cluster.node_host(number), number)
    folder.found(cluster)
    return cluster


def _conceive(wishes: Wishes) -> Cluster:
    nodes, first, host = 3 if wishes.nodes is None else wishes.nodes, wishes.port, wishes.host or HOST
    if not 1 <= nodes <= NODES_MAX:
        raise ConfigError(f"a cluster of {nodes} nodes cannot be started here; use 1 to {NODES_MAX}")
    if first is None:
        ports = tuple(_any_port(host, beside=BRIDGE_PORT_OFFSET) for _ in range(nodes))
    else:
        ports = tuple(range(first, first + nodes))
        if first < 1 or ports[-1] + BRIDGE_PORT_OFFSET > 65535:
            raise ConfigError(
                f"{nodes} nodes from port {first} on do not fit: each also needs the port {BRIDGE_PORT_OFFSET} higher, "
                "and there are 65535"
            )
    replicas = REPLICAS if wishes.replicas is None else wishes.replicas
    min_copies = 2 if wishes.min_copies is None else wishes.min_copies
    acks = wishes.acks or "all"
    check_store(wishes.store or "rocksdb")
    check_copies(replicas, min_copies, acks)
    return Cluster(
        name=wishes.name or "ringkeeper",
        host=host,
        node_hosts=wishes.node_hosts or (),
        node_ports=ports,
        zookeeper=wishes.zookeeper or "",
        place=wishes.place or "even",
        fsync=wishes.fsync or "everysec",
        store=wishes.store or "rocksdb",
        replicas=replicas,
        min_copies=min_copies,
        acks=acks,
    )


def _without_those_that_left(cluster: Cluster, folder: ClusterFolder, running: Mapping[str, ProcessId]) -> Cluster:
    """Nodes may have left the ring, and ended, while no launcher looked. Not all of them: one has the ring."""
    present = tuple(port for port in cluster.node_ports if f"node-{port}" in running or not folder.has_left(port))
    return replace(cluster, node_ports=present) if present else cluster


def _with_own_ports(cluster: Cluster, running: Mapping[str, ProcessId]) -> Cluster:
    """ZooKeeper's and the ECS's ports: what they were if still free, as clients are told none of them."""
    taken = {number + offset for number in cluster.node_ports for offset in (0, BRIDGE_PORT_OFFSET)}

    def own(name: str, before: int) -> int:
        if name in running or (before and is_free(cluster.host, before)):
            return before
        if before and running:
            raise FolderError(
                f"port {before} of {name} is in use by another program, and processes of this cluster that still run "
                "expect it there. End that program, or end the cluster with `ringkeeper down`."
            )
        number = _any_port(cluster.host)
        while number in taken:
            number = _any_port(cluster.host)
        taken.add(number)
        return number

    zookeeper_port = 0 if cluster.zookeeper else own("zookeeper", cluster.zookeeper_port)
    return replace(cluster, zookeeper_port=zookeeper_port, ecs_port=own("ecs", cluster.ecs_port))


def _with_metrics_ports(cluster: Cluster, running: Mapping[str, ProcessId]) -> Cluster:
    """Where each process serves its figures: where it did if that is still free."""
    names = ("ecs", *(f"node-{number}" for number in cluster.node_ports))
    taken = {number + offset for number in cluster.node_ports for offset in (0, BRIDGE_PORT_OFFSET)}
    taken |= {cluster.zookeeper_port, cluster.ecs_port}
    ports: dict[str, int] = {}
    for name in names:
        number = cluster.metrics_ports.get(name, 0)
        while not number or (name not in running and (number in taken or not is_free(HOST, number))):
            number = _any_port(HOST)
        ports[name] = number
        taken.add(number)
    return replace(cluster, metrics_ports=ports)


def _any_port(host: str, beside: int = 0) -> int:
    try:
        return free_port(host, beside)
    except OSError as refusal:
        raise ConfigError(str(refusal)) from None


def _check_free(host: str, port: int) -> None:
    node = f"node {host}:{port}"
    for number, whose in ((port, node), (port + BRIDGE_PORT_OFFSET, f"the bridge of {node}")):
        if not is_free(host, number):
            raise FolderError(
                f"port {number} is in use by another program, and {whose} needs it. Nothing was started. End that "
                "program (a cluster: `ringkeeper down --data` with its folder), or choose other ports with --port."
            )


def _check_zookeeper(hosts: str) -> None:
    """Raises StartFailed when no server of a ZooKeeper of one's own can be reached."""
    troubles = []
    for server in hosts.split(","):
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[] "), int(port)), timeout=REACH_SECONDS_MAX).close()
            return
        except OSError as trouble:
            troubles.append(f"{server}: {trouble.strerror or trouble}")
    raise StartFailed(
        f"ZooKeeper cannot be reached ({'; '.join(troubles)}), and without it no ring can be founded or changed. "
        "Nothing was started. Start ZooKeeper, correct --zookeeper, or leave it out for the embedded one."
    )


def why_not_serving(
    status: dict[str, Any], pids: dict[str, int], infos: list[str], held_back: Collection[str] = ()
) -> str:
    """What keeps a cluster from serving in every node's present life, in a sentence; "" when nothing does.

    One that was stopped (RING STOP) serves nobody and is as it should be: then all the rest counts. A node that is
    joining, waits to be asked (``held_back``), or has left, is not needed.
    ``status`` as RING STATUS gives it, ``pids`` of the nodes that must be there, CLUSTER INFO of every one.
    """
    if status.get("trouble"):
        return str(status["trouble"])
    in_ring = {node["id"] for node in status["nodes"] if node["state"] != "out"}
    out = {node["id"] for node in status["nodes"] if node["state"] == "out"}
    optional = {*(set(status.get("waiting", ())) - status.get("refused", {}).keys()), *held_back, *out} - in_ring
    for id, pid in pids.items():
        if id not in optional and (why_not := why_not_up(status, id, pid)):
            return why_not
    if not status["serving"] and not status.get("stopped"):
        return f"the ring of epoch {status['epoch']} does not serve"
    return next((why_not for info in infos if (why_not := why_not_shown(status, info))), "")


def why_not_up(status: dict[str, Any], id: str, pid: int) -> str:
    """Why a node is not up in the life that this process is, in a sentence; "" when it is."""
    epoch = status["epoch"]
    node = next((node for node in status["nodes"] if node["id"] == id), None)
    if node is None:
        return f"node {id} is not in the ring: {status.get('refused', {}).get(id, 'it has not registered yet')}"
    if node["state"] != "up":
        return f"node {id} is {node['state']}"
    if node["pid"] != pid:
        return f"the ring of epoch {epoch} does not know this life of node {id} yet"
    if node["epoch"] != epoch:
        return f"node {id} has not read the ring of epoch {epoch} yet"
    return ""


def why_not_shown(status: dict[str, Any], info: str) -> str:
    """Why a node's CLUSTER INFO does not let clients go by the present ring, in a sentence; "" when it does."""
    state = "fail" if status.get("stopped") else "ok"
    if f"cluster_state:{state}" not in info or f"cluster_current_epoch:{status['epoch']}\r" not in info:
        return f"a client port does not show the ring of epoch {status['epoch']} yet"
    return ""


def end_what_runs(folder: ClusterFolder, seconds_max: float = 15.0) -> tuple[str, ...]:
    """End the processes that a launcher left behind, in its order; returns their names. Raises PermissionError."""
    running = {name: process for name, process in folder.running().items() if name != LAUNCHER}
    for kind in END_ORDER:
        end_all({name: process for name, process in running.items() if name.startswith(kind)}, seconds_max=seconds_max)
    return tuple(running)
