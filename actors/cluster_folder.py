"""Keeps what a launcher must find again: the DATA folder of a cluster on one host.

    DATA/cluster.json     which cluster this is (``Cluster``), and which of its processes run now
    DATA/secret           what its processes prove to each other; mode 0600
    DATA/launcher.lock    held by the launcher while it lives: one at a time
    DATA/logs/            what each process has to say
    DATA/zookeeper/       the embedded ZooKeeper's
    DATA/node-7001/ ...   each node's own, made and locked by the node

``cluster.json`` is replaced as a whole and synced, so it is the old one or the new one after any crash. The processes
in it are named by number and mark (``ProcessId``): after a launcher was killed its successor, or ``ringkeeper down``,
finds those that live on and never a stranger with the same number.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ..runtime.children import ProcessId
from ..runtime.durable import DurableFile, holder_of, lock_folder
from .config import OUT_AFTER_SECONDS, SCRUB_BYTES_PER_SECOND
from .node_folder import has_left

BEFORE_THE_FIRST_START = {"logs", "launcher.lock", "secret", "secret.new", "cluster.json.new"}
"""What a folder may hold without holding a cluster: a launcher stopped before it wrote down what it would start."""

FORMAT = 1
"""Version of the layout; a folder with a newer one is refused."""

LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log that is longer when its process starts is put aside as NAME.log.1, in place of the one put aside before."""

LAST_WORDS_BYTES_MAX = 16_384
LOCK = "launcher.lock"
LAUNCHER = "launcher"
"""Under this name a launcher is noted that is a process of its own, to be ended by its id."""
PROGRAM = "program"
"""Under this name a launcher is noted that is part of somebody's program."""


class FolderError(Exception):
    """Raised when a data folder cannot be used; the text says which, why, and what to do."""


class FolderInUse(FolderError):
    """Raised when another launcher holds the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What must be the same at every start of a cluster on one host."""

    name: str = "ringkeeper"
    host: str = "127.0.0.1"
    node_hosts: tuple[str, ...] = ()
    """Addresses of this machine that the nodes are spread over; none: all are where the rest is."""
    node_ports: tuple[int, ...]
    zookeeper: str = ""
    """host:port,... of a ZooKeeper of one's own; "": the embedded one."""
    zookeeper_port: int = 0
    """Of the embedded one."""
    ecs_port: int = 0
    metrics_ports: Mapping[str, int] = field(default_factory=dict)
    """By the names of its processes, where on loopback each serves its figures; who is not named does not."""
    place: str = "even"
    fsync: str = "everysec"
    store: str = "rocksdb"
    replicas: int = 1
    """Copies of each slot; one where nothing is written down: there were no others once."""
    min_copies: int = 2
    acks: str = "all"
    out_after_seconds: float = OUT_AFTER_SECONDS
    scrub_bytes_per_second: int = SCRUB_BYTES_PER_SECOND
    allow_faults: bool = False
    allow_code: bool = False

    @property
    def zookeeper_hosts(self) -> str:
        return self.zookeeper or f"{self.host}:{self.zookeeper_port}"

    @property
    def seeds(self) -> tuple[str, ...]:
        """Where clients find it."""
        return tuple(self.node_id(port) for port in self.node_ports)

    def node_host(self, port: int) -> str:
        """Where the node that serves clients on this port listens: neighbouring ports lie on different addresses."""
        return self.node_hosts[port % len(self.node_hosts)] if self.node_hosts else self.host

    def node_id(self, port: int) -> str:
        return f"{self.node_host(port)}:{port}"


class ClusterFolder:
    """One DATA folder. Everything here raises FolderError when the disk or what lies there does not allow it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.secret_file = self.path / "secret"
        self._file = DurableFile(self.path / "cluster.json")
        self._lock: IO[str] | None = None

    def __str__(self) -> str:
        return str(self.path)

    # Whose it is

    def prepare(self) -> None:
        """Make the folder, and the one for logs in it, if they are not there. Refuses a folder of something else."""
        with self._sayable("make"):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            strange = sorted(each.name for each in self.path.iterdir() if each.name not in BEFORE_THE_FIRST_START)
            if strange and self._file.read() is None:
                some = ", ".join(strange[:3]) + ", ..." * (len(strange) > 3)
                raise FolderError(
                    f"{self} holds files ({some}), but none that says it is a cluster's (cluster.json). Nothing was "
                    "changed; use an empty --data folder, or a cluster's own."
                )
            (self.path / "logs").mkdir(exist_ok=True)

    def lock(self) -> None:
        """Hold the folder, made if it is not there, until ``unlock``. Raises FolderInUse."""
        self.prepare()
        with self._sayable("lock"):
            self._lock = lock_folder(self.path, LOCK)
        if self._lock is None:
            raise FolderInUse(
                f"{self} is in use by the launcher with process id {holder_of(self.path, LOCK)}: its cluster runs. "
                f"Look at it with `ringkeeper status`, or end it with `ringkeeper down --data {self}`."
            )

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # What it is

    def cluster(self) -> Cluster | None:
        """The cluster that lives here; None: none yet."""
        fields = self._read().get("cluster")
        if fields is None:
            return None
        try:
            known = {name: fields[name] for name in Cluster.__dataclass_fields__ if name in fields}
            lists = {
                "node_ports": tuple(map(int, fields["node_ports"])),
                "node_hosts": (*fields.get("node_hosts", ()),),
                "metrics_ports": {str(name): int(port) for name, port in fields.get("metrics_ports", {}).items()},
            }
            return Cluster(**{**known, **lists})
        except (TypeError, KeyError, ValueError, AttributeError) as wrong:
            raise self._damaged(f"its cluster is described wrongly: {wrong!r}") from None

    def running(self) -> dict[str, ProcessId]:
        """By name, the processes that were noted and still live."""
        noted = self._read().get("running", {})
        try:
            processes = {str(name): ProcessId(int(pid), str(mark)) for name, (pid, mark) in noted.items()}
        except (AttributeError, TypeError, ValueError) as wrong:
            raise self._damaged(f"its processes are described wrongly: {wrong!r}") from None
        return {name: process for name, process in processes.items() if process.lives()}

    def found(self, cluster: Cluster) -> None:
        """Write down which cluster lives here."""
        self._write({**self._read(), "cluster": asdict(cluster)})

    def note_running(self, processes: Mapping[str, ProcessId]) -> None:
        """Write down which processes run now."""
        self._write({**self._read(), "running": {name: list(process) for name, process in processes.items()}})

    def note_end(self) -> None:
        """Write down that no launcher cares for what still runs."""
        self.note_running({n: process for n, process in self.running().items() if n not in (LAUNCHER, PROGRAM)})

    def node_folder(self, port: int) -> Path:
        """Where the node that serves clients on this port keeps its data."""
        return self.path / f"node-{port}"

    def has_left(self, port: int) -> bool:
        """Whether that node's last life ended because it had left the ring."""
        return has_left(self.node_folder(port))

    def make_secret(self) -> Path:
        """The file with the cluster's secret, made at the first call."""
        file = DurableFile(self.secret_file, mode=0o600)
        with self._sayable("write"):
            if file.read() is None:
                file.write(secrets.token_hex(32).encode() + b"\n")
        return self.secret_file

    def secret(self) -> bytes:
        """What the processes of this cluster prove to each other; made before by ``make_secret``."""
        with self._sayable("read"):
            return self.secret_file.read_bytes().strip()

    # Logs

    def log_file(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def begin_log(self, name: str) -> int:
        """Make room for what a process is about to say; returns where in its log file that will begin."""
        file = self.log_file(name)
        with self._sayable("write"):
            length = file.stat().st_size if file.exists() else 0
            if length > LOG_BYTES_MAX:
                file.replace(f"{file}.1")
                return 0
        return length

    def last_words(self, name: str, offset: int) -> str:
        """What a process wrote last into its log since ``offset``: the last line, or the one that says which fatal
        error the lines after it show the stacks of. "" when it said nothing."""
        try:
            with open(self.log_file(name), "rb") as file:
                length = file.seek(0, os.SEEK_END)
                file.seek(max(offset, length - LAST_WORDS_BYTES_MAX))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip()]
        return next((line for line in said if line.startswith("Fatal Python error")), said[-1] if said else "")

    # The file

    def _read(self) -> dict[str, Any]:
        with self._sayable("read"):
            text = self._file.read()
        if text is None:
            return {}
        try:
            content = json.loads(text)
            number = int(content["format"])
        except (ValueError, KeyError, TypeError) as wrong:
            raise self._damaged(f"it is not what a launcher writes: {wrong!r}") from None
        if number > FORMAT:
            raise FolderError(
                f"{self} was written by a newer release (format {number}, this one knows {FORMAT}). Nothing was "
                "changed; use that release, or another --data folder."
            )
        return dict(content)

    def _write(self, content: dict[str, Any]) -> None:
        with self._sayable("write"):
            self._file.write(json.dumps({**content, "format": FORMAT}, indent=2).encode() + b"\n")

    @contextlib.contextmanager
    def _sayable(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as trouble:
            raise FolderError(f"cannot {doing} {trouble.filename or self}: {trouble.strerror}") from None

    def _damaged(self, how: str) -> FolderError:
        return FolderError(
            f"{self._file.path} is damaged: {how}. The nodes' data beside it is not touched by that. Put the "
            "file back from a copy, or start in another --data folder."
        )
