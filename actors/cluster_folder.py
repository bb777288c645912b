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
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..runtime.children import ProcessId

FORMAT = 1
"""Version of the layout; a folder with a newer one is refused."""

LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log that is longer when its process starts is put aside as NAME.log.1, in place of the one put aside before."""

LAST_WORDS_BYTES_MAX = 4096
LAUNCHER = "launcher"


class FolderError(Exception):
    """Raised when a data folder cannot be used; the text says which, why, and what to do."""


class FolderInUse(FolderError):
    """Raised when another launcher holds the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What must be the same at every start of a cluster on one host."""

    name: str = "ringkeeper"
    host: str = "127.0.0.1"
    node_ports: tuple[int, ...]
    zookeeper: str = ""
    """host:port,... of a ZooKeeper of one's own; "": the embedded one."""
    zookeeper_port: int = 0
    """Of the embedded one."""
    ecs_port: int = 0
    place: str = "even"
    fsync: str = "everysec"

    @property
    def zookeeper_hosts(self) -> str:
        return self.zookeeper or f"{self.host}:{self.zookeeper_port}"

    @property
    def seeds(self) -> tuple[str, ...]:
        """Where clients find it."""
        return tuple(f"{self.host}:{port}" for port in self.node_ports)


class ClusterFolder:
    """One DATA folder. Everything here raises FolderError when the disk or what lies there does not allow it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.secret_file = self.path / "secret"
        self._file = self.path / "cluster.json"
        self._lock: int | None = None

    def __str__(self) -> str:
        return str(self.path)

    # Whose it is

    def lock(self) -> None:
        """Make the folder if there is none, and hold it until ``unlock``. Raises FolderInUse."""
        with self._sayable("make"):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(exist_ok=True)
            lock = os.open(self.path / "launcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise FolderInUse(
                f"{self} is in use by the launcher with process id {holder}: its cluster runs. Look at it with "
                f"`ringkeeper status`, or end it with `ringkeeper down --data {self}`."
            ) from None
        with self._sayable("write"):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def unlock(self) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    # What it is

    def cluster(self) -> Cluster | None:
        """The cluster that lives here; None: none yet."""
        fields = self._read().get("cluster")
        if fields is None:
            return None
        try:
            known = {name: fields[name] for name in Cluster.__dataclass_fields__ if name in fields}
            return Cluster(**{**known, "node_ports": tuple(int(port) for port in fields["node_ports"])})
        except (TypeError, KeyError, ValueError) as wrong:
            raise self._damaged(f"its cluster is described wrongly: {wrong!r}") from None

    def running(self) -> dict[str, ProcessId]:
        """By name, the processes that were noted and still live; the launcher's is called "launcher"."""
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

    def make_secret(self) -> Path:
        """The file with the cluster's secret, made at the first call."""
        with self._sayable("write"), contextlib.suppress(FileExistsError):
            fresh = self.path / f"secret.{os.getpid()}"
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
                os.fsync(file.fileno())
            try:
                os.link(fresh, self.secret_file)
            finally:
                fresh.unlink()
        return self.secret_file

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
        """The last line that a process wrote into its log since ``offset``; "" when it said nothing."""
        try:
            with open(self.log_file(name), "rb") as file:
                length = file.seek(0, os.SEEK_END)
                file.seek(max(offset, length - LAST_WORDS_BYTES_MAX))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    # The file

    def _read(self) -> dict[str, Any]:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as trouble:
            raise FolderError(f"{self._file} cannot be read: {trouble.strerror}.") from None
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
        fresh = self._file.with_suffix(".new")
        with self._sayable("write"):
            with open(fresh, "w") as file:
                json.dump({**content, "format": FORMAT}, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._file)
            directory = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    @contextlib.contextmanager
    def _sayable(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as trouble:
            raise FolderError(f"cannot {doing} {trouble.filename or self}: {trouble.strerror}.") from None

    def _damaged(self, how: str) -> FolderError:
        return FolderError(
            f"{self._file} is damaged: {how}. The nodes' data beside it is not touched by that. Put the file back from "
            "a copy, or start in another --data folder."
        )
