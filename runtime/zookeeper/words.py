"""Answers ZooKeeper's four-letter words: what an operator types into ``nc`` to see how a server is.

The layout of the answers is ZooKeeper's, as far as tools read it: kazoo takes the version from ``envi``, monitoring
reads ``mntr``. All words are harmless (they look, and change nothing), so all are always allowed.
"""

import os
import platform
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...version import VERSION

if TYPE_CHECKING:
    from .server import ZooKeeperServer

PROTOCOL_VERSION = f"3.8.0-ringkeeper-{VERSION}"
"""The version of ZooKeeper whose client protocol is spoken, then ours."""


@dataclass(slots=True)
class Counters:
    """What a server counts about itself."""

    syncs: int = 0
    sync_seconds: float = 0.0
    sync_seconds_max: float = 0.0

    def synced(self, seconds: float) -> None:
        self.syncs += 1
        self.sync_seconds += seconds
        self.sync_seconds_max = max(self.sync_seconds_max, seconds)


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
    received, sent = _packets(server)
    return (
        f"Latency min/avg/max: 0/0/0\nReceived: {received}\nSent: {sent}\n"
        f"Connections: {len(server.connections)}\nOutstanding: 0\nZxid: 0x{server.keeper.tree.zxid:x}\n"
        f"Mode: standalone\nNode count: {len(server.keeper.tree.nodes)}\n"
    )


def _packets(server: "ZooKeeperServer") -> tuple[int, int]:
    return sum(c.received for c in server.connections), sum(c.sent for c in server.connections)


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
    received, sent = _packets(server)
    values = {
        "version": PROTOCOL_VERSION,
        "server_state": "standalone",
        "num_alive_connections": len(server.connections),
        "outstanding_requests": 0,
        "packets_received": received,
        "packets_sent": sent,
        "znode_count": len(tree.nodes),
        "watch_count": watches.watches,
        "ephemerals_count": tree.ephemerals,
        "approximate_data_size": tree.bytes,
        "global_sessions": len(tree.sessions),
        "fsync_count": counters.syncs,
        "avg_fsync_ms": round(1000 * counters.sync_seconds / max(1, counters.syncs), 3),
        "max_fsync_ms": round(1000 * counters.sync_seconds_max, 3),
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
