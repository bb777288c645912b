"""A whole cluster in the simulation: ZooKeeper, control services and storage nodes, in one thread and virtual time.

    cluster = SimulatedCluster(seed=7, nodes=3)
    cluster.run_until(cluster.serves, 30)
    assert cluster.execute("127.0.0.1:7001", "SET", "k", "v") == b"OK"
    cluster.kill("127.0.0.1:7002")

Everything above the edges is what runs in production: ``spawn_node`` and ``spawn_ecs`` put the processes together, on a
bridge, watches, a client port and a store that are the real ones; time, network, ZooKeeper's servers and disks are
those of ``runtime/simulation``. Processes go by their names: nodes by id (``127.0.0.1:7001``), control services
``ecs-1``, ``ecs-2``..., ``zookeeper``, and clients by the names they were given.

A node's machine keeps its disk and its place in the world from life to life. A node that starts again by itself, as
``Member`` makes it do, ends in order and is back after ``START_SECONDS``; one whose actor fails for good ends, and is
dead until somebody starts it.

What can befall whom: a process ``kill``, ``cut_power``, ``pause``, ``slow``, ``drift``; a disk ``lose_disk``,
``fill_disk``, ``slow_disk``, ``fail_syncs``, ``put_back``; the network ``partition``, ``isolate``, ``heal``, and what
``world.network`` has besides; messages ``node(id).bridge.faults``; ZooKeeper ``zookeeper_away``,
``zookeeper_rolls_back``, ``zookeeper_lags``; a session ``lose_session``, ``suspend_session``. Everything may befall
several at once, and at any moment (``world.loop.call_later``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from ..actors.balancer import solved
from ..actors.config import EcsConfig, NodeConfig
from ..actors.messages import Solve, Sync, Synced
from ..actors.processes import Ending, NodeActors, spawn_ecs, spawn_node
from ..actors.rules import paths
from ..actors.rules.ring import Ring
from ..runtime.actor import Actor, LocalRef, Ref
from ..runtime.bridge import Bridge, BridgeConfig
from ..runtime.message import message
from ..runtime.resp import RespServer
from ..runtime.simulation.disk import DiskCopy, SimulatedDisk
from ..runtime.simulation.ensemble import ZooKeeperEnsemble
from ..runtime.simulation.process import SimulatedProcess
from ..runtime.simulation.resp_caller import CALL_SECONDS_MAX, RespCaller
from ..runtime.simulation.trace import Trace
from ..runtime.simulation.world import SimulatedWorld
from ..runtime.simulation.zookeeper_client import end_client, opener
from ..runtime.store import Full, Store, StoreError
from ..runtime.system import ESCALATE
from ..runtime.watches import Watches
from .simulated_client import SimulatedClient

HOST = "127.0.0.1"

FIRST_PORT = 7001
"""The first node is 127.0.0.1:7001, as that of ``ringkeeper up``."""

FIRST_ECS_PORT = 18_801

START_SECONDS = (0.2, 0.6)
"""What a process takes to start again, at least and at most."""

SYNC_SECONDS = (0.0005, 0.008)
"""What a sync of the disk takes, at least and at most."""

CLOSE_SECONDS_MAX = 10.0
"""An orderly end that takes longer is broken off, as a process does it."""

CLOCK_ERROR, WALL_ERROR_SECONDS = 50e-6, 0.05
"""How much the clock of a machine gains or loses at most, as a part of the time, and how wrong its wall clock is."""

ALLOWED = {"allow_faults": True, "allow_code": True}
"""In a laboratory everybody may interfere, unless a scenario wants it otherwise."""

SECRET = b"the secret of a simulated cluster"


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOver:
    """The disk has done its work; local. SimulatedSyncer -> SimulatedSyncer."""

    synced: Synced
    reply_to: Ref


class SimulatedSyncer(Actor):
    """Stands in for ``Syncer``, which blocks: a sync takes its time in the world's.

    Hears   Sync        from StorageNode, one at a time
            SyncOver    from itself
    Tells   Synced -> StorageNode

    What was written before it began is on disk from then on, so a power cut in its midst finds more than was told.
    """

    def __init__(self, *, store: Store, machine: Machine) -> None:
        super().__init__()
        self._store, self._machine = store, machine
        self._free_at = 0.0

    def on_receive(self, message: Sync | SyncOver) -> None:
        match message:
            case Sync():
                self._sync(message)
            case SyncOver():
                self.send(message.reply_to, message.synced)
            case _:
                assert_never(message)

    def _sync(self, sync: Sync) -> None:
        error, full = "", False
        try:
            self._store.sync()
        except StoreError as failure:
            error, full = str(failure), isinstance(failure, Full)
        synced = Synced(batch=sync.batch, error=error, full=full)
        begins = max(self.now(), self._free_at)  # one at a time, as on the real one's thread
        self._free_at = begins + self.random.uniform(*self._machine.sync_seconds)
        self.after(self._free_at - self.now(), SyncOver(synced=synced, reply_to=sync.reply_to))


class SimulatedSolver(Actor):
    """Stands in for ``Solver``, which blocks: here computing takes no time.

    Hears   Solve       from Balancer
    Tells   Solved -> Balancer
    """

    def on_receive(self, message: Solve) -> None:
        self.send(message.reply_to, solved(message))


class Machine:
    """What outlives the lives of a node: its disk, its clock, how fast it is."""

    def __init__(self, cluster: SimulatedCluster, id: str, *, joins: bool = True) -> None:
        self.id, self.joins = id, joins
        self._on_drop: Callable[[list[int]], object] = lambda slots: cluster.on_drop(self, slots)
        self.port = int(id.rpartition(":")[2])
        self.disk = SimulatedDisk(cluster.world.stream(f"disk {id}"))
        self.random = cluster.world.stream(f"machine {id}")
        self.data_id = f"{self.random.getrandbits(64):016x}"
        self.lives = 0
        self.whole = True
        """Whether its disk lacks nothing that its node has acknowledged, as a node's folder knows it (R16)."""
        self.damage = ""
        """Why the store is to be put aside by the next life (R25); "": it is not."""
        self.answered_alone = False
        """Whether its node was asked to answer before others hold what is written (R17)."""
        self.left = False
        """Whether its node knows that it has left the ring, once; whoever starts it again does so on purpose."""
        self.at_rest = True
        """Whether all that its node has written is synced, since it has not lived yet or ended in order."""
        self.clock_rate = 1.0 + self.random.uniform(-CLOCK_ERROR, CLOCK_ERROR)
        self.wall_error_seconds = self.random.uniform(-WALL_ERROR_SECONDS, WALL_ERROR_SECONDS)
        self.turn_seconds: float | None = None
        self.sync_seconds = SYNC_SECONDS
        self.sync_failure: StoreError | None = None
        """What every sync of its disk fails with; None: none does."""
        self.node: SimulatedNode | None = None
        """Its present or last life."""

    def wipe(self) -> None:
        """Its disk is lost and replaced by an empty one."""
        self.disk.wipe()
        self.data_id, self.lives, self.whole = f"{self.random.getrandbits(64):016x}", 0, True
        self.damage, self.answered_alone, self.left = "", False, False

    def open_store(self, cache_bytes: int) -> WatchedStore:
        """Its store; one that the life before has found damaged is put aside, as a node's process does it. What that
        life could not sync the system may have dropped, once it was told that the node is not whole."""
        if self.node is not None and self.node.store.dropped and not self.whole:
            self.disk.lose_power()
        if self.damage:
            self.disk.put_records_aside()
            self.data_id, self.whole, self.damage = f"{self.random.getrandbits(64):016x}", True, ""
            self.answered_alone = False
        return WatchedStore(self.disk.records, self, cache_bytes=cache_bytes, on_drop=self._on_drop)

    def copy(self) -> MachineCopy:
        """A backup of its disk, from which a node can be started that believes to be this one at this moment."""
        return MachineCopy(self.disk.copy(), self.data_id, self.lives, self.whole)

    def put_back(self, copy: MachineCopy) -> None:
        self.disk.put_back(copy.disk)
        self.data_id, self.lives, self.whole = copy.data_id, copy.lives, copy.whole

    def new_incarnation(self) -> str:
        """The name of its next life; they ascend, as those of a node's folder do."""
        self.lives += 1
        return f"{self.lives:08x}{self.random.getrandbits(32):08x}"


@dataclass(frozen=True, slots=True)
class MachineCopy:
    """A backup of a node's disk."""

    disk: DiskCopy
    data_id: str
    lives: int
    whole: bool


class WatchedStore(Store):
    """The store of a simulated node, which says what it is about to forget, and fails to sync if its disk does."""

    def __init__(
        self, records: Any, machine: Machine, *, cache_bytes: int, on_drop: Callable[[list[int]], object]
    ) -> None:
        super().__init__(records, cache_bytes=cache_bytes)
        self._machine, self._on_drop = machine, on_drop
        self.dropped = False
        """Whether a sync has failed. None after it makes good what is lost, nor what has come since, behind that."""

    def sync(self) -> None:
        if (failure := self._machine.sync_failure) is not None:
            self.sync_failed = self.dropped = True
            raise failure
        if not self.dropped:
            super().sync()

    def close(self) -> None:
        if not self.dropped:
            super().close()

    def drop(self, slots: Iterable[int]) -> None:
        going = list(slots)
        self._on_drop(going)
        super().drop(going)


class _Part:
    """One life of a process of the cluster: its bridge and its watches."""

    def __init__(self, cluster: SimulatedCluster, process: SimulatedProcess, port: int, incarnation: str) -> None:
        self.cluster, self.process, self.system = cluster, process, process.system
        self.syncer: LocalRef | None = None
        self._ending = False
        config = BridgeConfig(
            cluster=cluster.name, node=process.name, host=HOST, port=port, secret=SECRET, incarnation=incarnation
        )
        self.bridge = Bridge(self.system, process.network, config, entropy=process.entropy)
        self.watches = self.system.spawn(
            Watches,
            hosts=cluster.zookeeper.hosts,
            session_timeout_seconds=cluster.session_timeout_seconds,
            open_client=opener(process),
            end_client=end_client,
            name="watches",
            supervision=ESCALATE,
        )

    def end(self, done: Callable[[], object] = lambda: None) -> None:
        """Begin an orderly end, as SIGTERM does; ``done`` is called when it is over."""
        if self._ending:
            return
        self._ending = True
        self._close_clients(drop=False)

        def over() -> None:
            self.cluster.world.loop.call_soon(self._over, done)

        def closed() -> None:
            self._close_clients(drop=True)
            self.bridge.close(done=over)

        self.process.loop.call_later(CLOSE_SECONDS_MAX, over)
        self.system.spawn(Ending, syncer=self.syncer, watches=self.watches, done=closed, name="ending")

    def _over(self, done: Callable[[], object]) -> None:
        """Nothing of it runs any more: close what it stood on."""
        if self.process.alive:
            self.process.kill()
            self._close_disk()
            done()

    def _close_clients(self, *, drop: bool) -> None:
        """Take no clients any more; ``drop``: let go of those that are there."""

    def _close_disk(self) -> None:
        """Leave the disk as an orderly end leaves it."""

    @property
    def session(self) -> int:
        """Its ZooKeeper session; 0: it has none."""
        watches: Watches = self.process.actor("watches")
        return watches.session.session_id if watches.session is not None else 0

    def actor(self, name: str) -> Any:
        """One of its actors, for checks to look into. Raises KeyError."""
        return self.process.actor(name)


class SimulatedNode(_Part):
    """One life of a storage node."""

    def __init__(self, cluster: SimulatedCluster, process: SimulatedProcess, machine: Machine) -> None:
        self.machine = machine
        machine.at_rest = False
        self.had_left = machine.left
        """Whether it was known when this life began that the node had left: then it waits to be asked."""
        self.incarnation = machine.new_incarnation()
        config = cluster.node_config(machine.port, joins=machine.joins)
        super().__init__(cluster, process, config.bridge_port, self.incarnation)
        self.store = machine.open_store(config.cache_bytes)
        process.on_failure = self._failed
        self.syncer = syncer = self.system.spawn(SimulatedSyncer, store=self.store, machine=machine, name="syncer")
        self.actors: NodeActors = spawn_node(
            self.system,
            config,
            incarnation=self.incarnation,
            data_id=machine.data_id,
            whole=machine.whole,
            bridge_address=self.bridge.address,
            watches=self.watches,
            syncer=syncer,
            store=self.store,
            archive=machine.disk.file("ring.json"),
            pid=machine.port,
            start_again=self._start_again,
            leave=self._leave,
            note_left=self._note_left,
            note_whole=self._note_whole,
            note_damaged=self._note_damaged,
            note_not_whole=self._note_not_whole,
            salvage=machine.disk.salvage,
            answered_alone=machine.answered_alone,
            note_answered_alone=self._note_answered_alone,
        )
        self.bridge.subscribe(self.actors.detector)
        self.server = RespServer(process.loop, process.network, HOST, config.port, self.actors.gateway)

    def _start_again(self, why: str) -> None:
        self.cluster.world.happened(self.process.name, f"starts again: {why}")
        self.end(lambda: self.cluster.start_later(self.machine.id))

    def _note_whole(self) -> None:
        self.machine.whole = not self.store.sync_failed

    def _note_not_whole(self) -> None:
        self.machine.whole = False

    def _note_left(self, has_left: bool) -> None:
        self.machine.left = has_left

    def _note_answered_alone(self) -> None:
        self.machine.answered_alone = True

    def _note_damaged(self, why: str) -> None:
        self.machine.damage = why

    def _leave(self, why: str) -> None:
        self.cluster.world.happened(self.process.name, f"leaves: {why}")
        self.end()

    def _close_clients(self, *, drop: bool) -> None:
        if drop:
            self.server.close()
        else:
            self.server.stop_listening()

    def _close_disk(self) -> None:
        self.store.close()
        self.machine.at_rest = True
        self.machine.whole &= not self.store.sync_failed

    def _failed(self, actor: str, failure: BaseException) -> None:
        if hasattr(self, "server"):
            self.end()
        else:  # it was just about to start
            self.cluster.world.loop.call_soon(self.process.kill)


class SimulatedEcs(_Part):
    """One life of a control service."""

    def __init__(self, cluster: SimulatedCluster, process: SimulatedProcess, port: int) -> None:
        super().__init__(cluster, process, port, "")
        process.on_failure = lambda actor, failure: cluster.world.loop.call_soon(process.kill)
        solver = self.system.spawn(SimulatedSolver, name="solver")
        spawn_ecs(
            self.system,
            cluster.ecs_config(port),
            bridge_address=self.bridge.address,
            watches=self.watches,
            solver=solver,
        )

    @property
    def leads(self) -> bool:
        return bool(self.actor("ecs")._leading)


class SimulatedCluster:
    """A cluster in a world of its own. Everything here is to be called while time stands still.

    ``settings`` are fields of ``NodeConfig`` and ``EcsConfig``, for all nodes and control services.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        nodes: int = 3,
        ecs: int = 1,
        zookeepers: int = 1,
        found_with: int | None = None,
        session_timeout_seconds: float = 6.0,
        check: bool = True,
        actors_may_fail: bool = False,
        trace: Trace | None = None,
        log: Callable[[str], object] | None = None,
        make_world: Callable[..., SimulatedWorld] = SimulatedWorld,
        **settings: Any,
    ) -> None:
        """``nodes`` and ``ecs`` are started at once, with ZooKeeper; a ring is founded of ``found_with`` nodes.

        ``check`` and ``log`` are those of ``SimulatedWorld``. With ``actors_may_fail`` an actor that fails for good
        ends its process, as in production, and not the run.
        """
        self.name = "simulated"
        self.session_timeout_seconds = session_timeout_seconds
        self.world = make_world(seed, check=check, trace=trace, log=log)
        self.world.actors_may_fail = actors_may_fail
        names = ("zookeeper",) if zookeepers == 1 else tuple(f"zookeeper-{n}" for n in range(1, zookeepers + 1))
        self.zookeeper = ZooKeeperEnsemble(self.world, names)
        self.machines: dict[str, Machine] = {}
        self.ecs: dict[str, SimulatedEcs] = {}
        """By name the present or last life of each control service."""
        self.clients: dict[str, SimulatedClient] = {}
        self.on_drop: Callable[[Machine, list[int]], object] = lambda machine, slots: None
        """Called before a node forgets slots."""
        self._found_with = nodes if found_with is None else found_with
        self._settings = settings
        self._random = self.world.stream("cluster")
        self._callers: dict[str, RespCaller] = {}
        self._ring_content: bytes | None = None
        self._ring: Ring | None = None
        self.zookeeper.start()
        for number in range(1, ecs + 1):
            self.start_ecs(f"ecs-{number}")
        for number in range(nodes):
            self.start_node(f"{HOST}:{FIRST_PORT + number}")

    def __enter__(self) -> SimulatedCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything. Nothing runs after this."""
        self.world.close()

    # Settings

    def node_config(self, port: int, *, joins: bool = True) -> NodeConfig:
        settings = {name: value for name, value in self._settings.items() if name in NodeConfig.__dataclass_fields__}
        settings.setdefault("cache_bytes", 4 << 20)
        settings.setdefault("joins", joins)
        settings.setdefault("scrub_bytes_per_second", 0)
        settings = {**ALLOWED, **settings}
        return NodeConfig(
            cluster_name=self.name,
            session_timeout_seconds=self.session_timeout_seconds,
            bind=HOST,
            port=port,
            data=Path("simulated", str(port)),
            **settings,
        )

    def ecs_config(self, port: int) -> EcsConfig:
        settings = {name: value for name, value in self._settings.items() if name in EcsConfig.__dataclass_fields__}
        settings.setdefault("replicas", 1)
        settings = {**ALLOWED, **settings}
        return EcsConfig(
            cluster_name=self.name,
            session_timeout_seconds=self.session_timeout_seconds,
            bind=HOST,
            port=port,
            found_with=self._found_with,
            **settings,
        )

    # Time

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.world.now()

    def run(self, seconds: float) -> None:
        """Let so much time pass. Raises SimulationFailed."""
        self.world.run(seconds)

    def run_until(self, condition: Callable[[], bool], seconds_max: float) -> None:
        """Let time pass until a condition becomes true. Raises SimulationFailed, also when it does not in time."""
        if not self.world.run_until(condition, seconds_max):
            name = getattr(condition, "__qualname__", repr(condition))
            self.world.fail(f"in {seconds_max:g} s it did not come to be that {name}")

    # Processes

    def start_ecs(self, name: str) -> SimulatedEcs:
        """Start a control service, or start it again."""
        port = FIRST_ECS_PORT - 1 + int(name.rpartition("-")[2])
        part = self.ecs[name] = SimulatedEcs(self, self.world.start(name), port)
        return part

    def start_node(self, id: str) -> SimulatedNode:
        """Start a node: a new one, or the next life of one that is dead. Raises ValueError while it lives."""
        machine = self.machines.get(id)
        if machine is None:
            machine = self.machines[id] = Machine(self, id)
        process = self.world.start(
            id,
            clock_rate=machine.clock_rate,
            wall_error_seconds=machine.wall_error_seconds,
            turn_seconds=machine.turn_seconds,
        )
        machine.node = SimulatedNode(self, process, machine)
        return machine.node

    def new_node(self, *, joins: bool = True) -> str:
        """Start one more node, which waits to be asked where it does not join; returns its id."""
        ports = [machine.port for machine in self.machines.values()]
        id = f"{HOST}:{max(ports, default=FIRST_PORT - 1) + 1}"
        self.machines[id] = Machine(self, id, joins=joins)
        self.start_node(id)
        return id

    def start_later(self, name: str) -> None:
        """Start a process again after the time that starting takes, unless somebody else has by then."""
        self.world.loop.call_later(self._random.uniform(*START_SECONDS), self._start_if_dead, name)

    def _start_if_dead(self, name: str) -> None:
        if not self.world.processes[name].alive:
            self.restart(name)

    def process(self, name: str) -> SimulatedProcess:
        return self.world.processes[name]

    def kill(self, name: str) -> None:
        """Kill a process as SIGKILL does: what it has written stays."""
        self._died(name, power_cut=False)

    def cut_power(self, name: str) -> None:
        """Its machine loses power: what was not synced may be gone, and nobody is told."""
        self._died(name, power_cut=True)

    def _died(self, name: str, *, power_cut: bool) -> None:
        if name in self.zookeeper.names:
            self.zookeeper.stop(name, silent=power_cut)
            return
        self.world.processes[name].kill(silent=power_cut)
        if name in self.machines and power_cut:
            machine = self.machines[name]
            machine.disk.lose_power()
            machine.whole &= machine.at_rest or self.node_config(machine.port).fsync == "always"

    def restart(self, name: str) -> None:
        """Start a process again, killing it first if it lives."""
        if self.world.processes[name].alive:
            self.kill(name)
        if name in self.machines:
            self.start_node(name)
        elif name in self.ecs:
            self.start_ecs(name)
        else:
            self.zookeeper.start(name)

    def lose_disk(self, id: str) -> None:
        """A node is killed, and its disk is lost with all that was on it."""
        self.kill(id)
        self.machines[id].wipe()

    def slow_disk(self, id: str, seconds: float) -> None:
        """From now on a sync of a node's disk takes so long."""
        self.machines[id].sync_seconds = (seconds, seconds)

    def fill_disk(self, id: str, full: bool = True) -> None:
        """A node's disk takes no more; or, not full, takes it again."""
        self.machines[id].disk.fill(full)

    def fail_syncs(self, id: str, failure: StoreError | None) -> None:
        """From now on every sync of a node's disk fails; or, None, works again. What could not be synced is gone with
        the life that wrote it, or some of it."""
        self.machines[id].sync_failure = failure

    def put_back(self, id: str, copy: MachineCopy) -> None:
        """A node is killed, and its disk is again what it was when the copy was made (``machines[id].copy()``)."""
        self.kill(id)
        self.machines[id].put_back(copy)

    def terminate(self, name: str) -> None:
        """Begin the orderly end of a node or a control service, as SIGTERM does."""
        self._part(name).end()

    def pause(self, name: str) -> None:
        self.world.processes[name].pause()

    def resume(self, name: str) -> None:
        self.world.processes[name].resume()

    def slow(self, name: str, turn_seconds: float) -> None:
        """From now on every turn of a process takes so long."""
        self.world.processes[name].loop.turn_seconds = turn_seconds
        if name in self.machines:
            self.machines[name].turn_seconds = turn_seconds

    def drift(self, name: str, clock_rate: float) -> None:
        """From now on a process' clock runs at this rate."""
        self.world.processes[name].loop.rate = clock_rate
        if name in self.machines:
            self.machines[name].clock_rate = clock_rate

    # The network

    def partition(self, a: str | tuple[str, ...], b: str | tuple[str, ...], *, one_way: bool = False) -> None:
        """Let nothing through between the processes of two sides; ``one_way``: nothing from the first to the second."""
        for one in _names(a):
            for other in _names(b):
                self.world.network.cut(one, other)
                if not one_way:
                    self.world.network.cut(other, one)

    def isolate(self, name: str) -> None:
        """Cut a process off from all others."""
        self.partition(name, tuple(other for other in self.world.processes if other != name))

    def heal(self) -> None:
        """End all partitions."""
        self.world.network.mend()

    # ZooKeeper

    def lose_session(self, name: str) -> None:
        """ZooKeeper ends the session of a process, as if it had not been heard for too long."""
        self.zookeeper.expire(self._part(name).session)

    def suspend_session(self, name: str) -> None:
        """The connection of a process to ZooKeeper breaks; it will find another."""
        for server in self.zookeeper.names:
            self.world.network.reset(name, server)

    def zookeeper_away(self, seconds: float) -> None:
        """All of ZooKeeper's servers are killed, and started again after so long; returns at once."""
        self.zookeeper.stop()
        self.world.loop.call_later(seconds, self.zookeeper.start)

    def zookeeper_rolls_back(self, seconds: float) -> None:
        """ZooKeeper is again what it was so long ago, as when it was given an old disk."""
        self.zookeeper.roll_back(self.now - seconds)

    def zookeeper_lags(self, server: str, seconds: float) -> None:
        """One of several servers learns of everything so much later than the others."""
        self.zookeeper.lag_seconds[server] = seconds

    # Looking

    def _part(self, name: str) -> SimulatedNode | SimulatedEcs:
        return self.ecs[name] if name in self.ecs else self.node(name)

    def node(self, id: str) -> SimulatedNode:
        """The present life of a node, or its last."""
        node = self.machines[id].node
        assert node is not None
        return node

    def nodes(self) -> list[SimulatedNode]:
        """Those that live, by id."""
        nodes = [machine.node for _, machine in sorted(self.machines.items()) if machine.node is not None]
        return [node for node in nodes if node.process.alive]

    def leader(self) -> str | None:
        """The control service that believes it leads."""
        return next((name for name, part in self.ecs.items() if part.process.alive and part.leads), None)

    def ring(self) -> Ring | None:
        """The ring as it is in ZooKeeper."""
        content = self.zookeeper.read(paths.ring(self.name))
        if content != self._ring_content:  # conditions ask after every event
            self._ring_content = content
            self._ring = Ring.from_json(content) if content is not None else None
        return self._ring

    def serves(self) -> bool:
        """Whether there is a ring, each of its nodes is up, lives, obeys it and has no disk that failed to sync."""
        ring = self.ring()
        if ring is None:
            return False
        lives = {node.machine.id: node for node in self.nodes()}
        return all(
            node.state == "up"
            and node.id in lives
            and node.incarnation == lives[node.id].incarnation
            and (storage := lives[node.id].actor("storage")).ring_epoch == ring.epoch
            and not storage.trouble
            for node in ring.circle
        )

    # Clients

    def execute(self, id: str, *args: bytes | str | int, seconds_max: float = CALL_SECONDS_MAX) -> Any:
        """Send one command to one node and let time pass until it is answered: the reply, or NoReply.

        Error replies are returned (``ErrorReply``), not raised.
        """
        outcome: list[Any] = []
        self._caller("somebody").call(id, args, outcome.append, seconds_max)
        self.run_until(lambda: bool(outcome), seconds_max + 1.0)
        return outcome[0]

    def send(self, id: str, *args: bytes | str | int) -> None:
        """Send one command to one node, whatever it answers; no time passes."""
        self._caller("somebody").call(id, args, lambda reply: None, CALL_SECONDS_MAX)

    def client(self, name: str = "client", greeting: Sequence[tuple[str, ...]] = ()) -> SimulatedClient:
        """A client of the cluster, in a process of its own. ``greeting``: commands that its connections begin with."""
        if name not in self.clients:
            seeds = sorted(self.machines)
            self.clients[name] = SimulatedClient(self.world.start(name), seeds, greeting)
        return self.clients[name]

    def _caller(self, name: str) -> RespCaller:
        if name not in self._callers:
            self._callers[name] = RespCaller(self.world.start(name))
        return self._callers[name]


def _names(side: str | tuple[str, ...]) -> tuple[str, ...]:
    return (side,) if isinstance(side, str) else side
