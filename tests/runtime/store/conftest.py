"""Folders and machines for tests of stores."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ringkeeper.tests.runtime.store.machines import Machine


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: on some disks every sync takes 10 ms."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="ringkeeper-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make_machine(quick_folder: Path) -> Iterator[Callable[..., Machine]]:
    """Makes machines of an engine; all are closed at the end."""
    machines: list[Machine] = []

    def make(engine: str, cache_bytes: int = 1 << 20) -> Machine:
        machines.append(Machine(engine, quick_folder / f"machine-{len(machines)}", cache_bytes))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture(params=["memory", "rocksdb"])
def raw_machine(request: pytest.FixtureRequest, make_machine: Callable[..., Machine]) -> Machine:
    """One whose disk takes any bytes, also such as are no record."""
    return make_machine(request.param)


@pytest.fixture(params=["memory", "json", "rocksdb"])
def machine(request: pytest.FixtureRequest, make_machine: Callable[..., Machine]) -> Machine:
    return make_machine(request.param)
