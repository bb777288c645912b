"""What all tests share: the ZooKeeper servers, and the promise to leave nothing behind."""

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringkeeper.runtime.process import FREE_PORTS, FREE_PORTS_SETTING

pytest_plugins = ["ringkeeper.tests.zookeepers"]


def pytest_configure(config: pytest.Config) -> None:
    """Workers side by side, and the processes that they start, look for free ports each in a range of its own."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number:
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        each = len(FREE_PORTS) // workers
        first = FREE_PORTS[int(number) % workers * each]  # one that takes the place of a dead one has a higher number
        os.environ[FREE_PORTS_SETTING] = f"{first}-{first + each - 1}"


GONE_SECONDS_MAX = 10.0
"""So long after its test a thread or child may take to end."""


def children() -> set[str]:
    """The processes that this one has started and not reaped."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends while we look
            found.update((task / "children").read_text().split())
    return found


def threads() -> set[str]:
    """The threads that run, without those of pools that live as long as the process."""
    return {f"{t.name} ({t.ident})" for t in threading.enumerate() if not t.name.startswith("asyncio_")}


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Every test ends the threads and processes that it starts."""
    before = children() | threads()
    yield
    deadline = time.monotonic() + GONE_SECONDS_MAX
    while (left := (children() | threads()) - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not left, f"left running: {', '.join(sorted(left))}"


@pytest.fixture(scope="session", autouse=True)
def ends_without_children() -> Iterator[None]:
    """When all is over this process has no children left."""
    yield
    assert not children() or os.environ.get("PYTEST_XDIST_WORKER"), f"processes left: {children()}"
