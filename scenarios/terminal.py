"""Plays a story on real processes through the commands of ``ringkeeper``, as a person at a terminal would.

Everything that is started is noted by its ``ProcessId``, so that at the end it is known, not assumed, that nothing is
left running; what is left all the same, after a story that broke off, is ended. Each sentence of the story is printed
with the seconds since its beginning.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..actors.client import Client
from ..actors.client_errors import ClientError
from ..actors.cluster_folder import ClusterFolder
from ..actors.config import BRIDGE_PORT_OFFSET
from ..actors.rules.slots import SLOTS
from ..runtime.children import ProcessId, end_all
from ..runtime.process import free_port, is_free

COMMAND_SECONDS_MAX = 120.0
BATCH_KEYS_MAX = 200
"""Keys that are read in one flight."""


@dataclass(slots=True)
class Account:
    """What a story has asked of the cluster, and what went wrong."""

    requests: int = 0
    errors: int = 0
    differences: list[str] = field(default_factory=list)
    """What was not as it should be. A story ends well if this stays empty."""


class Terminal:
    """A folder for a cluster, free ports for it, and the commands. Use it in a ``with`` statement."""

    def __init__(self, nodes: int) -> None:
        self.began = time.monotonic()
        self.account = Account()
        self._home = tempfile.TemporaryDirectory(prefix="ringkeeper-story-")
        self.folder = ClusterFolder(Path(self._home.name) / "data")
        self.port = free_ports(nodes)
        self.seeds = [f"127.0.0.1:{self.port + number}" for number in range(nodes)]
        self._started: set[ProcessId] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note()
        end_all({str(process.pid): process for process in self._started}, seconds_max=10.0)
        self._home.cleanup()

    def say(self, sentence: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {sentence}", flush=True)

    def ringkeeper(self, *words: object, quiet: bool = True) -> str:
        """Type a command; what it prints is returned, or shown unless ``quiet``. Raises RuntimeError when it fails."""
        command = [sys.executable, "-P", "-m", "ringkeeper.cli.main", *map(str, words)]
        environment = {**os.environ, "RINGKEEPER_CLUSTER": ",".join(self.seeds)}
        try:
            ended = subprocess.run(
                command,
                env=environment,
                stdout=subprocess.PIPE if quiet else None,
                text=True,
                timeout=COMMAND_SECONDS_MAX,
                check=False,
            )
        finally:
            self._note()
        if ended.returncode:
            raise RuntimeError(f"`ringkeeper {' '.join(map(str, words))}` ended with status {ended.returncode}")
        return ended.stdout or ""

    def up(self) -> None:
        """Bring the cluster up, or back as it was, in the background."""
        new = self.folder.cluster() is None
        wishes = ("--nodes", len(self.seeds), "--port", self.port) if new else ()
        self.ringkeeper("up", *wishes, "--data", self.folder, "--detach")

    def down(self) -> None:
        self.ringkeeper("down", "--data", self.folder)

    def load(self, directory: Path, *options: str) -> int:
        """Take in a folder's files; returns how many were stored."""
        tally: dict[str, Any] = json.loads(self.ringkeeper("load", directory, *options, "--json"))
        self.account.requests += tally["requests"]
        self.account.differences += [f"{name} was not stored: {why}" for name, why in tally["skipped"].items()]
        return int(tally["stored"])

    def kill_everything(self) -> int:
        """kill -9 for every process of the cluster, the launcher first; returns how many there were."""
        running = self.folder.running()
        for process in running.values():
            os.kill(process.pid, signal.SIGKILL)
        while any(process.lives() for process in running.values()):
            time.sleep(0.01)
        return len(running)

    def shares(self) -> dict[str, float]:
        """By node, the part of all slots that it answers for."""
        nodes = json.loads(self.ringkeeper("status", "--json"))["nodes"]
        return {node["id"]: node["slots"] / SLOTS for node in nodes if node["state"] == "up"}

    def client(self) -> Client:
        return Client(self.seeds)

    def compare(self, expected: Iterable[tuple[bytes, bytes]]) -> int:
        """Read every key and compare it, noting differences; returns how many are equal."""
        equal, pairs = 0, iter(expected)
        with self.client() as client:
            while batch := dict(islice(pairs, BATCH_KEYS_MAX)):
                with client.pipeline() as pipeline:
                    for key in batch:
                        pipeline.get(key)
                    values = pipeline.execute(raise_on_error=False)
                for (key, content), value in zip(batch.items(), values, strict=True):
                    equal += value == content
                    if value != content:
                        self.account.differences.append(f"{key!r} {_difference(content, value)}")
            self.account.requests += client.statistics.requests
            self.account.errors += sum(client.statistics.errors.values())
        return equal

    def left_running(self) -> list[str]:
        """What of the cluster is still there: processes that were started, ports that are taken."""
        cluster = self.folder.cluster()
        assert cluster is not None, "no cluster was started"
        ports = {*cluster.node_ports, *(port + BRIDGE_PORT_OFFSET for port in cluster.node_ports)}
        ports |= {cluster.zookeeper_port, cluster.ecs_port}
        return [
            *(f"process {process.pid}" for process in sorted(self._started) if process.lives()),
            *(f"port {port}" for port in sorted(ports) if not is_free(cluster.host, port)),
        ]

    def _note(self) -> None:
        self._started |= set(self.folder.running().values())


class Writer:
    """Writes counters as fast as it can on a thread of its own, and keeps which of them were acknowledged.
    ``timeout_seconds``: so long it tries to write one."""

    def __init__(self, terminal: Terminal, name: str = "counter", timeout_seconds: float = 5.0) -> None:
        self.acknowledged: dict[bytes, bytes] = {}
        self.longest_seconds = 0.0
        """The longest that one write has taken, retries included."""
        self._name, self._timeout_seconds = name, timeout_seconds
        self.errors = 0
        """Writes that were refused or are in doubt: to be expected when the cluster dies."""
        self._terminal = terminal
        self._thread = threading.Thread(target=self._write, name="writer")
        self._ending = threading.Event()

    def start(self) -> "Writer":
        self._thread.start()
        return self

    def stop(self) -> Mapping[bytes, bytes]:
        """Stop writing; returns what the cluster has said it holds."""
        self._ending.set()
        self._thread.join()
        self._terminal.account.requests += len(self.acknowledged) + self.errors
        return self.acknowledged

    def wait_for(self, count: int) -> None:
        """Until so many writes were acknowledged. Raises TimeoutError after COMMAND_SECONDS_MAX."""
        deadline = time.monotonic() + COMMAND_SECONDS_MAX
        while len(self.acknowledged) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.acknowledged)} of {count} writes were acknowledged")
            time.sleep(0.01)

    def key(self, number: int) -> bytes:
        return b"%b:%d" % (self._name.encode(), number)

    def _write(self) -> None:
        with Client(self._terminal.seeds, timeout_seconds=self._timeout_seconds) as client:
            number = 0
            while not self._ending.is_set():
                number += 1
                key, value = self.key(number), b"%d" % number
                began = time.monotonic()
                try:
                    client.set(key, value)
                except ClientError:
                    self.errors += 1
                else:
                    self.acknowledged[key] = value
                    self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)


class Reader:
    """Reads what others have written, at random, on a thread of its own, and compares it."""

    def __init__(self, terminal: Terminal, writers: list[Writer]) -> None:
        self.reads = self.errors = 0
        self.longest_seconds = 0.0
        self._terminal, self._writers = terminal, writers
        self._thread = threading.Thread(target=self._read, name="reader")
        self._ending = threading.Event()

    def start(self) -> "Reader":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()
        self._terminal.account.requests += self.reads + self.errors
        self._terminal.account.errors += self.errors

    def _read(self) -> None:
        choose = random.Random(0)
        with self._terminal.client() as client:
            while not self._ending.is_set():
                writer = choose.choice(self._writers)
                count = len(writer.acknowledged)
                if not count:
                    time.sleep(0.001)
                    continue
                key = writer.key(choose.randrange(count) + 1)
                began = time.monotonic()
                try:
                    value = client.get(key)
                except ClientError:
                    self.errors += 1
                    continue
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
                self.reads += 1
                expected = writer.acknowledged.get(key)
                if expected is not None and value != expected:
                    self._terminal.account.differences.append(f"{key!r} {_difference(expected, value)}, read meanwhile")


def sources(library: Path) -> Iterator[tuple[bytes, bytes]]:
    """Key and content of every Python source of a library, without what was installed into it later."""
    for file in sorted(library.rglob("*.py")):
        path = file.relative_to(library)
        if not {"site-packages", "dist-packages"} & set(path.parts):
            yield os.fsencode(path.as_posix()), file.read_bytes()


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, with their bridges' ports. Raises OSError."""
    for _ in range(100):
        first = free_port(beside=BRIDGE_PORT_OFFSET)
        ports = [first + number + offset for number in range(count) for offset in (0, BRIDGE_PORT_OFFSET)]
        if all(is_free("127.0.0.1", port) for port in ports):
            return first
    raise OSError(f"no {count} free ports in a row")


def _difference(content: bytes, value: object) -> str:
    if isinstance(value, bytes):
        return f"has other content ({len(value)} bytes instead of {len(content)})"
    return "is gone" if value is None else f"could not be read: {value}"
