"""Puts the parts of each kind of process together: what a node, an ECS and an embedded ZooKeeper are made of.

This is where the real world is handed to the actors: the event loop, TCP, the disk, ZooKeeper. A failure to start is
raised before anything runs, with a text for people; a failure later escalates and ends the process.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never

from ..runtime.actor import Actor, LocalRef, Ref
from ..runtime.bridge import Bridge, BridgeConfig
from ..runtime.election import Election, FollowLeader
from ..runtime.message import message
from ..runtime.metrics import LoopDelay, process_metrics
from ..runtime.metrics_endpoint import MetricsEndpoint
from ..runtime.network import TcpNetwork
from ..runtime.observer import OBSERVER, Observer
from ..runtime.process import Process
from ..runtime.resp import Limits, RespServer
from ..runtime.session import CloseSession, SessionClosed
from ..runtime.store import Corrupt, Store, StoreError, open_store
from ..runtime.system import ESCALATE, ActorSystem
from ..runtime.tracing import Tracing
from ..runtime.watches import Watches, auth_of
from ..runtime.zookeeper.server import ZooKeeperServer
from .backup import Backup, Freezer
from .balancer import Balancer, Solver
from .config import (
    ConfigError,
    EcsConfig,
    NodeConfig,
    ProcessConfig,
    ZooKeeperConfig,
    read_former_secret,
    read_secret,
)
from .damage import SCRUBBER
from .ecs import Ecs
from .failure_detector import FailureDetector
from .gateway import Gateway
from .key_journey import KeyJourney
from .member import Archive, Member
from .messages import Sync, Synced
from .node_folder import NodeFolder
from .replica import Replica
from .rules import paths
from .rules.fields import RingError
from .rules.life import Registration
from .rules.ring import Ring
from .rules.scrub import others_hold
from .salvage import FolderSalvage, Salvage, SalvageFile
from .scrubber import Scrubber
from .storage_node import StorageNode
from .syncer import Syncer

log = logging.getLogger(__name__)

CLOSE_SECONDS_MAX = 5.0
"""So long an ending process waits for its disk and for ZooKeeper before it goes on without them."""


def run_node(config: NodeConfig) -> int:
    """Run a storage node until SIGTERM or SIGINT; returns the exit status.

    Raises ConfigError, NodeFolderError, StoreError or OSError, each with a sentence for people, when it cannot start.
    """
    config.check()
    secret = read_secret(config.secret_file)
    with (
        contextlib.closing(NodeFolder(config.data, config.id, synced=config.fsync == "always")) as folder,
        contextlib.closing(open_store_of(folder, config)) as store,
    ):
        folder.bind_store()
        process = Process(f"node {config.id}")
        status = process.run(lambda process: NodeProcess(process, config, secret, folder, store))
        if status == 0:
            note_ended(folder, store)
    process.exec_again()  # only now: the next life opens the same folder and store
    return status


def open_store_of(folder: NodeFolder, config: NodeConfig) -> Store:
    """Open a node's store. A damaged one is put aside where others have copies of what was in it (R25); not after a
    power cut, which may have struck them as well. Raises StoreError, and OSError."""
    try:
        return open_store(config.store, folder.store, cache_bytes=config.cache_bytes)
    except Corrupt as failure:
        if not has_other_copies(folder.ring, config.id):
            raise
        if not folder.whole:
            raise Corrupt(f"{failure} If others are up that have them, begin with an empty folder.") from failure
        folder.put_aside(str(failure))
    return open_store(config.store, folder.store, cache_bytes=config.cache_bytes)


def has_other_copies(kept: Archive, id: str) -> bool:
    """Whether by the newest ring that a node has read others hold all that it holds."""
    try:
        content = kept.read()
        ring = Ring.from_json(content) if content is not None else None
    except RingError:
        return False
    return ring is not None and others_hold(ring, id)


def note_ended(folder: NodeFolder, store: Store) -> None:
    """Sync what the last turns wrote, and let the next life know that a power cut from now on takes nothing (R16)."""
    try:
        if not store.sync_failed:
            with contextlib.suppress(StoreError):
                store.sync()
        if store.sync_failed:  # in this life: that this one worked does not say that nothing was dropped by then
            folder.note_not_whole()
            log.error("it is not noted that the node has ended in order: its disk failed to sync")
        else:
            folder.note_ended()
    except OSError as error:
        log.error("it is not noted that the node has ended in order: %s", error)


def run_ecs(config: EcsConfig) -> int:
    """Run a control service until SIGTERM or SIGINT; returns the exit status. Raises ConfigError or OSError."""
    config.check()
    secret = read_secret(config.secret_file)
    return Process(f"ecs {config.host}").run(lambda process: EcsProcess(process, config, secret))


def run_zookeeper(config: ZooKeeperConfig) -> int:
    """Run an embedded ZooKeeper until SIGTERM or SIGINT; returns the exit status. Raises DataError or OSError."""
    return Process(f"zookeeper {config.bind}:{config.port}").run(lambda process: ZooKeeperProcess(process, config))


def bridge_of(process: Process, network: TcpNetwork, config: ProcessConfig, secret: bytes, **more: object) -> Bridge:
    settings = {
        "cluster": config.cluster_name,
        "host": config.bind,
        "advertise": config.advertise,
        "secret": secret,
        **more,
    }
    try:
        checked = BridgeConfig(**settings)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with listening(checked.host, checked.port, "other processes"):
        return Bridge(process.system, network, checked)


def metrics_of(process: Process, network: TcpNetwork, config: ProcessConfig, who: str) -> MetricsEndpoint | None:
    """Measure the process, and serve its figures if wanted. ``who``: the actor that knows whether it is ready."""
    system = process.system
    delay = LoopDelay(process.loop)
    system.metric_sources["process"] = process_metrics
    system.metric_sources["loop"] = delay.metrics
    if not config.metrics_port:
        return None

    def not_ready() -> str:
        actor = system.actor(who)
        return actor.readiness() if isinstance(actor, StorageNode | Ecs) else f"its {who} is gone"

    host, port = config.metrics_bind, config.metrics_port
    try:
        endpoint = MetricsEndpoint(process.loop, network, host, port, system, delay, not_ready)
    except OSError as error:  # what nobody can look at may still serve
        why = error.strerror or error
        system.events.note("trouble", f"figures are not served on {host}:{port}: {why}", log=log.error)
        return None
    log.info("figures are served at http://%s:%d/metrics", host, port)
    return endpoint


@contextlib.contextmanager
def listening(host: str, port: int, whom: str) -> Iterator[None]:
    """Say in a sentence which port could not be had, and for whom it was meant."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise OSError(f"cannot listen on {host}:{port} for {whom}: {error.strerror or error}") from error
        raise OSError(
            f"port {port} on {host} is in use by another program, so this one cannot listen there for {whom}: "
            "end the other program, or choose another port."
        ) from error


def watches_of(process: Process, config: ProcessConfig, secret: bytes) -> Ref:
    return process.system.spawn(
        Watches,
        hosts=config.zookeeper,
        session_timeout_seconds=config.session_timeout_seconds,
        auth=auth_of(secret, read_former_secret(config.secret_file)),
        name="watches",
        supervision=ESCALATE,
    )


def spawn_observer(system: ActorSystem, config: ProcessConfig, epoch_of: str, guarded: bool = False) -> None:
    """Spawn what lets people look into a process, and say how far they may interfere with it, and that keys can be
    traced here. ``epoch_of``: the name of the actor whose ring counts; ``guarded``: clients need a password."""

    def epoch() -> int:
        actor: StorageNode | Ecs | None = system.actor(epoch_of)
        return actor.ring_epoch if actor is not None else 0

    system.allow_faults, system.allow_code = config.allow_faults, config.allow_code
    system.tracing = Tracing(system, subjects={"key": KeyJourney}, epoch=epoch)
    system.spawn(Observer, guarded=guarded, name=OBSERVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeActors:
    """The actors of a storage node, as far as its edges have to do with them."""

    storage: LocalRef
    replica: LocalRef
    scrubber: LocalRef
    gateway: LocalRef
    detector: LocalRef
    member: LocalRef
    election: LocalRef


def spawn_node(
    system: ActorSystem,
    config: NodeConfig,
    *,
    incarnation: str,
    data_id: str,
    whole: bool,
    bridge_address: str,
    watches: Ref,
    syncer: Ref,
    store: Store,
    archive: Archive,
    pid: int,
    start_again: Callable[[str], None],
    leave: Callable[[str], None],
    note_left: Callable[[bool], None],
    note_whole: Callable[[], None],
    note_damaged: Callable[[str], None],
    note_not_whole: Callable[[], None],
    salvage: SalvageFile,
    answered_alone: bool,
    note_answered_alone: Callable[[], None],
) -> NodeActors:
    """Spawn what makes a process a storage node. All of the world is handed in, so simulated nodes are made here too.

    ``incarnation`` and ``data_id`` say which life of which data directory this is, ``whole`` whether it lacks nothing
    (R16), as from ``note_whole`` on; ``archive`` keeps the newest ring, ``start_again`` ends the process for a next
    life, ``leave`` for good, which ``note_left`` has written down before; ``note_damaged`` has the next life begin with
    an empty store, ``note_not_whole`` as one that is not whole; ``answered_alone``, as from ``note_answered_alone``
    on: its store may hold what was acknowledged and that nobody else has (R17).
    Whoever calls this listens for clients, on behalf of the gateway.
    """
    spawn_observer(system, config, "storage", guarded=bool(config.password))
    storage = system.spawn(
        StorageNode,
        id=config.id,
        incarnation=incarnation,
        store=store,
        syncer=syncer,
        pid=pid,
        fsync=config.fsync,
        key_bytes_max=config.key_bytes_max,
        value_bytes_max=config.value_bytes_max,
        name="storage",
        supervision=ESCALATE,
    )
    replica = system.spawn(
        Replica,
        id=config.id,
        incarnation=incarnation,
        store=store,
        syncer=syncer,
        salvage=Salvage(salvage, answered_alone=answered_alone),
        whole=whole,
        keeps_synced=config.fsync != "never",
        name="replica",
        supervision=ESCALATE,
    )
    scrubber = system.spawn(
        Scrubber,
        id=config.id,
        incarnation=incarnation,
        store=store,
        bytes_per_second=config.scrub_bytes_per_second,
        pause_seconds=config.scrub_pause_seconds,
        name=SCRUBBER,
        supervision=ESCALATE,
    )
    gateway = system.spawn(
        Gateway,
        id=config.id,
        storage=storage,
        scrubber=scrubber,
        settings=settings_for_clients(config),
        password=config.password,
        note_answered_alone=note_answered_alone,
        name="gateway",
        supervision=ESCALATE,
    )
    detector = system.spawn(
        FailureDetector,
        id=config.id,
        incarnation=incarnation,
        storage=storage,
        name="failure-detector",
        supervision=ESCALATE,
    )
    bridge_host, _, bridge_port = bridge_address.rpartition(":")
    life = Registration(
        id=config.id,
        incarnation=incarnation,
        data_id=data_id,
        host=config.host,
        port=config.port,
        bridge_host=bridge_host,
        bridge_port=int(bridge_port),
        joins=config.joins,
        whole=whole,
        damaged=bool(store.damage),
    )
    member = system.spawn(
        Member,
        life=life,
        cluster_name=config.cluster_name,
        watches=watches,
        archive=archive,
        listeners=(replica, storage, gateway, detector, scrubber),
        start_again=start_again,
        leave=leave,
        note_left=note_left,
        note_whole=note_whole,
        note_damaged=note_damaged,
        note_not_whole=note_not_whole,
        name="member",
        supervision=ESCALATE,
    )
    election = system.spawn(
        Election,
        watches=watches,
        path=paths.ecs(config.cluster_name),
        name="election",
        supervision=ESCALATE,
    )
    for follower in (storage, gateway, detector, scrubber):
        election.tell(FollowLeader(reply_to=follower))
    return NodeActors(
        storage=storage,
        replica=replica,
        scrubber=scrubber,
        gateway=gateway,
        detector=detector,
        member=member,
        election=election,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EcsActors:
    """The actors of a control service."""

    ecs: LocalRef
    election: LocalRef


def spawn_ecs(system: ActorSystem, config: EcsConfig, *, bridge_address: str, watches: Ref, solver: Ref) -> EcsActors:
    """Spawn what makes a process a control service; simulated ones as well."""
    spawn_observer(system, config, "ecs")
    balancer = system.spawn(Balancer, solver=solver, name="balancer", supervision=ESCALATE)
    ecs = system.spawn(
        Ecs,
        id=bridge_address,
        cluster_name=config.cluster_name,
        watches=watches,
        balancer=balancer,
        found_with=config.found_with,
        replicas=config.replicas,
        min_copies=config.min_copies,
        acks=config.acks,
        place=config.place,
        recovery_wait_seconds=config.recovery_wait_seconds,
        out_after_seconds=config.out_after_seconds,
        patience_seconds=config.session_timeout_seconds,
        name="ecs",
        supervision=ESCALATE,
    )
    election = system.spawn(
        Election,
        watches=watches,
        path=paths.ecs(config.cluster_name),
        candidate=ecs.address.encode(),
        owner=ecs,
        name="election",
        supervision=ESCALATE,
    )
    return EcsActors(ecs=ecs, election=election)


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class TooLate:
    """Ending has taken long enough; local. Ending -> Ending."""


class Ending(Actor):
    """Sees to it that a process ends in order: what was written is synced, then the ZooKeeper session is closed.

    Hears   Synced, SessionClosed, TooLate
    Tells   Sync -> Syncer, CloseSession -> Watches
    """

    def __init__(self, *, syncer: Ref | None, watches: Ref, done: Callable[[], None]) -> None:
        super().__init__()
        self._syncer, self._watches, self._done = syncer, watches, done
        self._over = False

    def on_start(self) -> None:
        self.after(CLOSE_SECONDS_MAX, TooLate())
        if self._syncer is not None:
            self.send(self._syncer, Sync(batch=0, reply_to=self.ref))
        else:
            self.send(self._watches, CloseSession(reply_to=self.ref))

    def on_receive(self, message: Synced | SessionClosed | TooLate) -> None:
        match message:
            case _ if self._over:  # what was not waited for any longer, or the timer
                pass
            case Synced():
                if message.error:
                    log.error("ending goes on though the disk did not take what was written: %s", message.error)
                self.send(self._watches, CloseSession(reply_to=self.ref))
            case SessionClosed():
                self._end()
            case TooLate():
                log.warning("ending goes on without waiting any longer for the disk and ZooKeeper")
                self._end()
            case _:
                assert_never(message)

    def _end(self) -> None:
        self._over = True
        self._done()


class NodeProcess:
    """A storage node's actors and edges."""

    def __init__(self, process: Process, config: NodeConfig, secret: bytes, folder: NodeFolder, store: Store) -> None:
        self._process, self._folder = process, folder
        system, network = process.system, TcpNetwork(process.loop)
        self._network = network
        limits = Limits(connections_max=config.clients_max)
        self._bridge = bridge_of(
            process, network, config, secret, node=config.id, port=config.bridge_port, incarnation=folder.incarnation
        )
        self._watches = watches_of(process, config, secret)
        self._syncer = system.spawn(Syncer, store=store, name="syncer")
        actors = spawn_node(
            system,
            config,
            incarnation=folder.incarnation,
            data_id=folder.data_id,
            whole=folder.whole,
            bridge_address=self._bridge.address,
            watches=self._watches,
            syncer=self._syncer,
            store=store,
            archive=folder.ring,
            pid=os.getpid(),
            start_again=process.start_again,
            leave=self._leave,
            note_left=self._note_left,
            note_whole=self._note_whole,
            note_damaged=self._note_damaged,
            note_not_whole=self._note_not_whole,
            salvage=FolderSalvage(folder.path),
            answered_alone=folder.answered_alone,
            note_answered_alone=folder.note_answered_alone,
        )
        freezer = system.spawn(Freezer, store=store, name="freezer")
        system.spawn(Backup, store=store, storage=actors.storage, freezer=freezer, name="backup")
        self._bridge.subscribe(actors.detector)
        with listening(config.bind, config.port, "clients"):
            self._server = RespServer(
                process.loop,
                network,
                config.bind,
                config.port,
                actors.gateway,
                limits,
                password_needed=bool(config.password),
            )
        system.metric_sources["clients"] = self._server.metrics
        self._metrics = metrics_of(process, network, config, "storage")
        serves = f"node {config.id} serves clients on port {config.port}, incarnation {folder.incarnation}"
        system.events.note("process", serves, log=log.info, pid=os.getpid(), incarnation=folder.incarnation)

    def _leave(self, why: str) -> None:
        """The node has left the ring: end for good."""
        log.warning("%s: the process ends, its folder is not used any more", why)
        self._process.close()

    def _note_left(self, has_left: bool) -> None:
        """Let whoever keeps the processes know from the folder whether this one is not to be started again."""
        try:
            self._folder.note_left(has_left)
        except OSError as error:
            log.error("that the node has left cannot be noted in its folder: %s", error)

    def _note_whole(self) -> None:
        """What a power cut took is made good. Else the next life would say again that it may lack something."""
        try:
            self._folder.note_whole()
        except OSError as error:
            log.error("that the node has been made equal again cannot be noted in its folder: %s", error)

    def _note_damaged(self, why: str) -> None:
        """The next life puts the store aside. Else it finds the damage again."""
        try:
            self._folder.note_damaged(why)
        except OSError as error:
            log.error("that the store is damaged cannot be noted in the node's folder: %s", error)

    def _note_not_whole(self) -> None:
        """The next life is not whole. If it cannot be written down it is tried again when this life has ended, and who
        cannot write there then has no next life."""
        try:
            self._folder.note_not_whole()
        except OSError as error:
            log.error("that the disk failed to sync cannot be noted in the node's folder: %s", error)

    def close(self, done: Callable[[], None]) -> None:
        self._server.stop_listening()

        def closed() -> None:
            self._server.close()
            if self._metrics is not None:
                self._metrics.close()
            self._bridge.close(done=done)

        self._process.system.spawn(Ending, syncer=self._syncer, watches=self._watches, done=closed, name="ending")


class EcsProcess:
    """A control service's actors."""

    def __init__(self, process: Process, config: EcsConfig, secret: bytes) -> None:
        self._process = process
        system = process.system
        network = TcpNetwork(process.loop)
        self._bridge = bridge_of(
            process, network, config, secret, node=f"ecs {config.host}:{config.port}", port=config.port
        )
        system.events.process = f"ecs {self._bridge.address}"  # of which a host may have several
        self._watches = watches_of(process, config, secret)
        solver = system.spawn(Solver, name="solver", supervision=ESCALATE)
        spawn_ecs(system, config, bridge_address=self._bridge.address, watches=self._watches, solver=solver)
        self._metrics = metrics_of(process, network, config, "ecs")

    def close(self, done: Callable[[], None]) -> None:
        def closed() -> None:
            if self._metrics is not None:
                self._metrics.close()
            self._bridge.close(done=done)

        self._process.system.spawn(Ending, syncer=None, watches=self._watches, done=closed, name="ending")


class ZooKeeperProcess:
    """The embedded ZooKeeper."""

    def __init__(self, process: Process, config: ZooKeeperConfig) -> None:
        self._server = ZooKeeperServer(
            loop=process.loop,
            network=TcpNetwork(process.loop),
            host=config.bind,
            port=config.port,
            data=config.data,
            tick_ms=config.tick_milliseconds,
        )
        with listening(config.bind, config.port, "ZooKeeper clients"):
            self._server.start()

    def close(self, done: Callable[[], None]) -> None:
        self._server.stop()
        done()


def settings_for_clients(config: NodeConfig) -> dict[str, str]:
    """What CONFIG GET shows, under Redis' names where it has them."""
    return {
        "appendfsync": {"never": "no"}.get(config.fsync, config.fsync),
        "appendonly": "yes",
        "bind": config.bind,
        "cluster-enabled": "yes",
        "databases": "1",
        "dir": str(config.data),
        "maxclients": str(config.clients_max),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "port": str(config.port),
        "proto-max-bulk-len": str(config.value_bytes_max),
        "save": "",
        "timeout": "0",
    }
