"""Children: processes are started, watched, adopted and ended, and never mistaken for others."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from ringkeeper.runtime.children import LEASH, ChildExited, Children, ProcessId, end_all, how_it_ended
from ringkeeper.tests.zookeepers import wait_until

pytestmark = pytest.mark.processes

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
STUBBORN = (
    *(sys.executable, "-S", "-u", "-c"),
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here'); time.sleep(60)",
)


class Parent:
    """A loop, children, and somebody who is told of their ends."""

    def __init__(self, folder: Path, leashed: bool = False) -> None:
        self.loop = uvloop.new_event_loop()
        self.children = Children(self.loop, leashed=leashed)
        self.log_file = folder / "child.log"
        self.told: list[ChildExited] = []

    name = address = "parent"

    def tell(self, exited: ChildExited) -> None:
        self.told.append(exited)

    def start(self, *argv: str, **options: Any) -> ProcessId:
        return self.children.start(argv, log_file=self.log_file, tell=self, **options)  # type: ignore[arg-type]

    def run_until(self, condition: Callable[[], Any], timeout: float = 10.0) -> None:
        deadline = time.monotonic() + timeout

        def look() -> None:
            if condition() or time.monotonic() > deadline:
                self.loop.stop()
            else:
                self.loop.call_later(0.005, look)

        self.loop.call_soon(look)
        self.loop.run_forever()
        assert condition(), f"not within {timeout} s; log: {self.log_file.read_text()}"

    def close(self) -> None:
        for pid in list(self.children._living):
            self.children.kill(pid)
        self.run_until(lambda: not self.children._living)
        self.children.close()
        self.loop.close()


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    parent = Parent(tmp_path)
    yield parent
    parent.close()


def test_a_child_writes_into_its_log_and_its_exit_status_is_told(parent: Parent) -> None:
    child = parent.start(sys.executable, "-S", "-c", "import sys; print('out'); sys.stderr.write('err'); sys.exit(3)")
    parent.run_until(lambda: parent.told)
    assert parent.told == [ChildExited(pid=child.pid, status=3)]
    assert sorted(parent.log_file.read_text().split()) == ["err", "out"]
    assert not child.lives()


def test_a_killed_child_is_told_with_the_signal_and_then_no_signal_reaches_anybody(parent: Parent) -> None:
    child = parent.start(*SLEEP)
    assert child.lives()
    assert parent.children.kill(child.pid)
    parent.run_until(lambda: parent.told)
    assert parent.told == [ChildExited(pid=child.pid, status=-signal.SIGKILL)]
    assert not parent.children.terminate(child.pid)
    assert not parent.children.signal(os.getpid(), 0), "not a child of the children's"


def test_a_child_is_in_a_session_of_its_own_so_the_terminals_ctrl_c_misses_it(parent: Parent) -> None:
    child = parent.start(*SLEEP)
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid != os.getsid(0)


def test_what_cannot_be_started_raises_and_is_not_watched(parent: Parent, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        parent.start(str(tmp_path / "nothing"))
    assert not parent.children._living


def test_a_process_of_another_parent_is_adopted_and_its_end_is_told(parent: Parent) -> None:
    other = subprocess.Popen(SLEEP)
    assert parent.children.adopt(ProcessId.of(other.pid), tell=parent)  # type: ignore[arg-type]
    assert parent.children.terminate(other.pid)
    parent.run_until(lambda: parent.told)
    assert parent.told == [ChildExited(pid=other.pid, status=None)]
    assert other.wait() == -signal.SIGTERM


def test_a_later_process_with_the_same_number_is_not_adopted(parent: Parent) -> None:
    other = parent.start(*SLEEP)
    former = ProcessId(other.pid, "another boot/12345")
    assert not former.lives()
    assert not parent.children.adopt(former, tell=parent)  # type: ignore[arg-type]
    assert end_all({"it": former}, seconds_max=0.1) == ()
    assert other.lives(), "a stranger was ended"


def test_the_dead_and_the_unknown_have_no_mark() -> None:
    child = subprocess.Popen((sys.executable, "-S", "-c", ""))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ProcessId.of(child.pid).mark == "", "a zombie does not live"
    child.wait()
    assert not ProcessId.of(child.pid).lives()
    assert ProcessId.of(os.getpid()).lives()


SYS_EXIT = {"x86_64": 60, "aarch64": 93}.get(platform.machine())


@pytest.mark.skipif(SYS_EXIT is None, reason="the number of the system call is not known here")
def test_a_process_lives_until_its_last_thread_has_ended(parent: Parent) -> None:
    """The first thread is a zombie then, but sockets are still open: kill -9 of many threads takes its time."""
    program = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start();"
        f"ctypes.CDLL(None).syscall({SYS_EXIT}, 0)"
    )
    child = parent.start(sys.executable, "-S", "-c", program)
    wait_until(lambda: ") Z " in Path(f"/proc/{child.pid}/stat").read_text())
    assert child.lives()
    assert not parent.told
    parent.children.kill(child.pid)
    parent.run_until(lambda: parent.told)
    assert not child.lives()


def test_a_process_whose_name_has_brackets_and_blanks_has_a_mark_too(parent: Parent, tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to(sys.executable)
    child = parent.start(str(odd), "-S", "-c", "import time; time.sleep(60)")
    plain = parent.start(*SLEEP)
    ticks = [int(each.mark.rpartition("/")[2]) for each in (child, plain)]
    assert 0 <= ticks[1] - ticks[0] < 6000


def test_end_all_asks_first_and_kills_who_does_not_listen(parent: Parent) -> None:
    willing, stubborn = parent.start(*SLEEP), parent.start(*STUBBORN)
    parent.run_until(lambda: "here" in parent.log_file.read_text())
    assert end_all({"willing": willing, "stubborn": stubborn}, seconds_max=0.3) == ("stubborn",)
    parent.run_until(lambda: len(parent.told) == 2)
    statuses = {exited.pid: exited.status for exited in parent.told}
    assert statuses == {willing.pid: -signal.SIGTERM, stubborn.pid: -signal.SIGKILL}


PROGRAM = """
import sys, time, uvloop
from pathlib import Path
from ringkeeper.runtime.children import Children
children = Children(uvloop.new_event_loop(), leashed={leashed})
child = "import time; from ringkeeper.runtime.children import obey_leash; obey_leash(); print('here'); time.sleep(60)"
class Nobody:
    pass
started = children.start((sys.executable, "-u", "-c", child), log_file=Path({log!r}), tell=Nobody())
print(started.pid, started.mark, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("leashed", [True, False])
def test_children_of_a_killed_parent_end_if_leashed_and_only_then(tmp_path: Path, leashed: bool) -> None:
    log = tmp_path / "child.log"
    program = subprocess.Popen(
        (sys.executable, "-c", PROGRAM.format(leashed=leashed, log=str(log))), stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    pid, mark = program.stdout.readline().split()
    child = ProcessId(int(pid), mark)
    wait_until(lambda: log.exists() and "here" in log.read_text())
    program.kill()
    program.wait()
    program.stdout.close()
    if leashed:
        wait_until(lambda: not child.lives())
    else:
        assert child.lives()
        assert end_all({"child": child}, seconds_max=5) == ()


def test_an_unleashed_child_does_not_take_our_leash_for_its_own(parent: Parent, monkeypatch: Any) -> None:
    monkeypatch.setenv(LEASH, "stdin")
    parent.start(sys.executable, "-S", "-c", f"import os; print(os.environ.get({LEASH!r}))")
    parent.run_until(lambda: parent.told)
    assert parent.log_file.read_text().strip() == "None"


def test_the_end_of_a_process_is_said_in_words() -> None:
    assert how_it_ended(3) == "ended with status 3"
    assert how_it_ended(-9) == "was killed by signal 9 (SIGKILL)"
    assert how_it_ended(-35) == "was killed by signal 35"
    assert how_it_ended(None) == "is gone"
