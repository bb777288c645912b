"""Answers ZooKeeper's four-letter words: what an operator types into ``nc`` to see how a server is.

The layout of the answers is ZooKeeper's, as far as tools read it: kazoo takes the version from ``envi``, monitoring
reads ``mntr``. All words are harmless (they look, and change nothing), so all are always allowed.
"""

import os
import platform
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...version import VERSION

if TYPE_CHECKING:
    from .server import ZooKeeperServer

PROTOCOL_VERSION = f"3.8.0-ringkeeper-{VERSION}"
"""The version of ZooKeeper whose client protocol is spoken, then ours."""


@dataclass(slots=True)
class Durations:
    """How often something was done and how long it took."""

    count: int = 0
    seconds: float = 0.0
    seconds_min: float = 0.0
    seconds_max: float = 0.0

    def add(self, seconds: float) -> None:
        self.seconds_min = min(self.seconds_min, seconds) if self.count else seconds
        self.seconds_max = max(self.seconds_max, seconds)
        self.seconds += seconds
        self.count += 1

    @property
    def milliseconds(self) -> tuple[float, float, float]:
        """The shortest, the mean and the longest."""
        mean = self.seconds / self.count if self.count else 0.0
        return round(1000 * self.seconds_min, 3), round(1000 * mean, 3), round(1000 * self.seconds_max, 3)


@dataclass(slots=True)
class Counters:
    """What a server counts about itself since it was made: frames, turns of its loop, and syncs of its disk."""

    received: int = 0
    sent: int = 0
    turns: Durations = field(default_factory=Durations)
    syncs: Durations = field(default_factory=Durations)


def answer(word: bytes, server: "ZooKeeperServer") -> str:
    return WORDS[word](server)


def _ruok(server: "ZooKeeperServer") -> str:
    return "imok"


def _isro(server: "ZooKeeperServer") -> str:
    return "rw"


def _srvr(server: "ZooKeeperServer") -> str:
    return _version() + _summary(server)


def _stat(server: "ZooKeeperServer") -> str:
    return f"{_version()}Clients:\n{_cons(server)}\n{_summary(server)}"


def _version() -> str:
    return f"Zookeeper version: {PROTOCOL_VERSION}\n"


def _summary(server: "ZooKeeperServer") -> str:
    counters = server.counters
    return (
        f"Latency min/avg/max: {'/'.join(map(str, counters.turns.milliseconds))}\n"
        f"Received: {counters.received}\nSent: {counters.sent}\n"
        f"Connections: {len(server.connections)}\nOutstanding: 0\nZxid: 0x{server.keeper.tree.zxid:x}\n"
        f"Mode: standalone\nNode count: {len(server.keeper.tree.nodes)}\n"
    )


def _cons(server: "ZooKeeperServer") -> str:
    lines = [
        f" /{c.client.address}[1](queued=0,recved={c.received},sent={c.sent},sid=0x{c.client.session:x})\n"
        for c in server.connections
    ]
    return "".join(sorted(lines))


def _dump(server: "ZooKeeperServer") -> str:
    tree = server.keeper.tree
    owners = {id: paths for id in sorted(tree.sessions) if (paths := tree.ephemerals_of(id))}
    sessions = "".join(f"0x{id:x}\t{session.timeout_ms}ms\n" for id, session in sorted(tree.sessions.items()))
    lines = [f"0x{id:x}:\n" + "".join(f"\t{path}\n" for path in paths) for id, paths in owners.items()]
    return (
        f"Sessions ({len(tree.sessions)}):\n{sessions}ephemeral nodes dump:\n"
        f"Sessions with Ephemerals ({len(owners)}):\n{''.join(lines)}"
    )


def _wchs(server: "ZooKeeperServer") -> str:
    watches = server.keeper.watches
    return f"{watches.watchers} connections watching {watches.paths} paths\nTotal watches:{watches.watches}\n"


def _mntr(server: "ZooKeeperServer") -> str:
    tree, watches, counters = server.keeper.tree, server.keeper.watches, server.counters
    latency_min, latency_mean, latency_max = counters.turns.milliseconds
    _, sync_mean, sync_max = counters.syncs.milliseconds
    values = {
        "version": PROTOCOL_VERSION,
        "server_state": "standalone",
        "num_alive_connections": len(server.connections),
        "outstanding_requests": 0,
        "min_latency": latency_min,
        "avg_latency": latency_mean,
        "max_latency": latency_max,
        "packets_received": counters.received,
        "packets_sent": counters.sent,
        "znode_count": len(tree.nodes),
        "watch_count": watches.watches,
        "ephemerals_count": tree.ephemerals,
        "approximate_data_size": tree.bytes,
        "global_sessions": len(tree.sessions),
        "fsync_count": counters.syncs.count,
        "avg_fsync_ms": sync_mean,
        "max_fsync_ms": sync_max,
    }
    return "".join(f"zk_{name}\t{value}\n" for name, value in values.items())


def _conf(server: "ZooKeeperServer") -> str:
    values = {
        "clientPort": server.port,
        "clientPortAddress": server.host,
        "dataDir": server.data or "",
        "tickTime": server.tick_ms,
        "maxClientCnxns": server.limits.connections_max,
        "minSessionTimeout": server.limits.session_ticks_min * server.tick_ms,
        "maxSessionTimeout": server.limits.session_ticks_max * server.tick_ms,
        "serverId": 0,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _envi(server: "ZooKeeperServer") -> str:
    values = {
        "zookeeper.version": PROTOCOL_VERSION,
        "host.name": socket.gethostname(),
        "python.version": platform.python_version(),
        "os.name": platform.system(),
        "os.arch": platform.machine(),
        "os.version": platform.release(),
        "process.id": os.getpid(),
    }
    return "Environment:\n" + "".join(f"{name}={value}\n" for name, value in values.items())


WORDS = {
    b"ruok": _ruok,
    b"isro": _isro,
    b"srvr": _srvr,
    b"stat": _stat,
    b"cons": _cons,
    b"dump": _dump,
    b"wchs": _wchs,
    b"mntr": _mntr,
    b"conf": _conf,
    b"envi": _envi,
}
