"""Says how each kind of process is started: its settings, their units, defaults and checks.

The command line, the launcher and embedding programs all fill in these same dataclasses; ``actors/processes.py`` turns
one into a running process.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ..runtime.hosts import is_loopback
from .rules.placement import REPLICAS_MAX
from .rules.ring import ACKS, Acks

BRIDGE_PORT_OFFSET = 10_000
"""A node that serves clients on port P has its bridge on P + 10000, the ``@cport`` of CLUSTER NODES."""

VALUE_BYTES_MAX = 30 * 1024 * 1024
"""The largest value that fits into a frame between nodes, its key and figures included."""

OUT_AFTER_SECONDS = 30.0
"""Long enough for a node to be started again, so that this moves little."""

SCRUB_BYTES_PER_SECOND = 1024 * 1024

FSYNC_POLICIES = ("always", "everysec", "never")
STORES = ("rocksdb", "json")
"""Engines that keep a node's records on disk."""


class ConfigError(ValueError):
    """Raised when settings cannot work; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """What every process of a cluster is told."""

    cluster_name: str = "ringkeeper"
    zookeeper: str = "127.0.0.1:2181"
    """host:port[,host:port...] of the embedded server or of a real ensemble."""
    session_timeout_seconds: float = 6.0
    """Asked of ZooKeeper: a process that is silent for so long is gone."""
    bind: str = "127.0.0.1"
    advertise: str = ""
    """The host name that others reach this process by; the bind address where empty."""
    secret_file: Path | None = None
    """Holds the cluster secret that the processes prove to each other; mode 0600."""
    metrics_port: int = 0
    """Where Prometheus finds the figures of this process, and others whether it is well; 0: nowhere."""
    metrics_bind: str = "127.0.0.1"
    """The address for that; whoever reaches it reads without a password."""
    allow_faults: bool = False
    """Who may change the ring may also tell actors anything and hold, delay or drop messages between processes."""
    allow_code: bool = False
    """Who may change the ring, and every process of the cluster, may also have code of theirs run in this one."""

    @property
    def host(self) -> str:
        return self.advertise or self.bind

    def check(self) -> None:
        """Raises ConfigError."""
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.cluster_name):
            raise ConfigError(
                f"cluster name {self.cluster_name!r} is not usable: it becomes part of ZooKeeper paths. "
                "Use 1 to 64 letters, digits, dots, dashes or underscores."
            )
        if self.session_timeout_seconds <= 0:
            raise ConfigError(f"a session timeout of {self.session_timeout_seconds} s makes no sense; use 2 to 60")
        if not 0 <= self.metrics_port <= 65535:
            raise ConfigError(f"figures cannot be served on port {self.metrics_port}: use 1 to 65535, or 0 for nowhere")
        if self.bind in ("0.0.0.0", "::") and not self.advertise:
            raise ConfigError(
                f"--bind {self.bind} listens everywhere, but others need one name to reach this process by: "
                "add --advertise HOST"
            )
        if self.allow_code and self.secret_file is None:
            raise ConfigError(
                "--allow-code lets the cluster's other processes run code here, and without a secret anybody on this "
                "machine could pass for one: add --secret-file FILE (the same content for all of them, mode 0600)"
            )
        if not is_loopback(self.bind) and self.secret_file is None:
            raise ConfigError(
                f"{self.bind} can be reached from other machines, and without a secret anybody could join the "
                "cluster: add --secret-file FILE (the same content on every host, mode 0600)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig(ProcessConfig):
    """A storage node."""

    port: int = 7001
    data: Path
    """The node's folder: store, newest ring, format version, lock."""
    fsync: str = "everysec"
    """always: a reply waits until its write is on disk; everysec: at most a second is lost in a power cut; never."""
    store: str = "rocksdb"
    """What the records are kept in; json: lines that a person can read, all in memory as well."""
    password: str = ""
    """What clients must AUTH with; none where empty."""
    joins: bool = True
    """Taken into the ring as soon as it has registered; else it waits until somebody asks for that."""
    clients_max: int = 10_000
    value_bytes_max: int = 16 * 1024 * 1024
    key_bytes_max: int = 64 * 1024
    cache_bytes: int = 256 * 1024 * 1024
    """Bound of the records kept in memory in front of the disk."""
    scrub_bytes_per_second: int = SCRUB_BYTES_PER_SECOND
    """So much of what this node coordinates is compared with its other copies in the background; 0: nothing is."""
    scrub_pause_seconds: float = 60.0
    """From the begin of one time through everything to that of the next, at least."""

    @property
    def id(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def bridge_port(self) -> int:
        return self.port + BRIDGE_PORT_OFFSET

    def check(self) -> None:
        ProcessConfig.check(self)
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", self.host):
            raise ConfigError(
                f"a node cannot be reached as {self.host!r}: the ring and its clients name nodes host:port, and this "
                "release knows host names and IPv4 addresses there, no IPv6 addresses. Use --bind with an IPv4 "
                "address, or --advertise with a host name (alone, without a port)."
            )
        if not 1 <= self.port <= 65535 - BRIDGE_PORT_OFFSET:
            raise ConfigError(
                f"client port {self.port} leaves no room for the bridge, which listens on {BRIDGE_PORT_OFFSET} more: "
                f"use 1 to {65535 - BRIDGE_PORT_OFFSET}"
            )
        if not 1 <= self.value_bytes_max <= VALUE_BYTES_MAX:
            raise ConfigError(
                f"values of {self.value_bytes_max} bytes could not be sent to other nodes, whose frames hold less: use "
                f"at most {VALUE_BYTES_MAX}"
            )
        check_code(self.allow_code, self.password)
        check_scrub(self.scrub_bytes_per_second)
        if not 0 < self.scrub_pause_seconds < math.inf:
            raise ConfigError(f"copies cannot be compared every {self.scrub_pause_seconds:g} s; use a pause above 0")
        if self.fsync not in FSYNC_POLICIES:
            raise ConfigError(f"fsync {self.fsync!r} is unknown; use one of {', '.join(FSYNC_POLICIES)}")
        check_store(self.store)


@dataclass(frozen=True, slots=True, kw_only=True)
class EcsConfig(ProcessConfig):
    """A control service; any number of them stand by for the leader."""

    port: int = 0
    """Of the bridge; 0: a free one."""
    found_with: int = 1
    """A new ring is founded once so many nodes have registered."""
    replicas: int = 3
    """Copies of each slot in a new ring, the coordinator's included; fewer while the ring has fewer nodes."""
    min_copies: int = 2
    """So many of them must be up for a write; fewer where a slot cannot have as many."""
    acks: Acks = "all"
    """When a write is answered unless its connection wants it otherwise: once all copies that are up have it, or one,
    the coordinator's, alone; then a failover may lose it."""
    place: str = "even"
    """How a new ring places its nodes: even, md5 (the seed's rule), or relief (who joins goes where the load is)."""
    recovery_wait_seconds: float = 60.0
    """After a power cut that took all copies of a slot at once: so long the others of them are waited for, once one is
    back, before the slot is served from the best of those that are there."""
    out_after_seconds: float = OUT_AFTER_SECONDS
    """A node that has been down for so long is given up: its copies are made elsewhere, and then it is out of the ring;
    0: never."""

    def check(self) -> None:
        ProcessConfig.check(self)
        check_out_after(self.out_after_seconds)
        if not 0 <= self.recovery_wait_seconds < math.inf:
            raise ConfigError(f"copies cannot be waited for {self.recovery_wait_seconds} s after a power cut")
        check_copies(self.replicas, self.min_copies, self.acks)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooKeeperConfig:
    """The embedded ZooKeeper."""

    bind: str = "127.0.0.1"
    port: int = 2181
    data: Path
    tick_milliseconds: int = 1500
    """Sessions last 2 to 20 ticks."""


def read_secret(file: Path | None) -> bytes:
    """The cluster secret. Raises ConfigError when others on this machine could have read it."""
    if file is None:
        return b""
    try:
        mode = file.stat().st_mode
        secret = file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"the secret file {file} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(
            f"the secret file {file} can be read by other users of this machine (mode {mode & 0o777:o}): "
            f"run 'chmod 600 {file}', and make a new secret if they may have read it."
        )
    return secret


def read_former_secret(file: Path | None) -> bytes:
    """The secret that a cluster had before this one, while it is kept in FILE.former. Raises ConfigError."""
    former = file.with_name(f"{file.name}.former") if file is not None else None
    return read_secret(former) if former is not None and former.exists() else b""


def check_out_after(seconds: float) -> None:
    """Raises ConfigError when no node can be given up after so long."""
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"nodes cannot be given up after {seconds} s; use some seconds, or 0 for never")


def check_scrub(bytes_per_second: int) -> None:
    """Raises ConfigError when copies cannot be compared so fast."""
    if bytes_per_second < 0:
        raise ConfigError(f"copies cannot be compared at {bytes_per_second} bytes/s; use 0 for never, or more")


def check_code(allowed: bool, password: str) -> None:
    """Raises ConfigError when clients could run code that have proven nothing."""
    if allowed and not password:
        raise ConfigError(
            "--allow-code lets clients run code in the nodes, and without a password every user of this machine is a "
            "client: set RINGKEEPER_PASSWORD for the nodes, and for the shell"
        )


def check_store(store: str) -> None:
    """Raises ConfigError when nothing can be kept in it."""
    if store not in STORES:
        raise ConfigError(f"store {store!r} is unknown; use one of {', '.join(STORES)}")


def check_copies(replicas: int, min_copies: int, acks: str) -> None:
    """Raises ConfigError when no ring can be founded with these."""
    if not 1 <= replicas <= REPLICAS_MAX:
        raise ConfigError(f"a ring cannot keep {replicas} copies of each slot; use 1 to {REPLICAS_MAX}")
    if not 1 <= min_copies <= REPLICAS_MAX:
        raise ConfigError(
            f"a write cannot be refused below {min_copies} copies; use 1 (never refused while anybody answers) to "
            f"{REPLICAS_MAX}"
        )
    if acks not in ACKS:
        raise ConfigError(f"acks {acks!r} is unknown; use one of {', '.join(ACKS)}")
