"""A process from outside: how it ends, and when it begins a next life."""

import gc
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from ringkeeper.runtime.process import FREE_PORTS_SETTING, Process, free_port

pytestmark = pytest.mark.processes

PROGRAM = '''
import os, signal, sys
from ringkeeper.runtime.process import Process, configure_log

configure_log("info")
life = int(os.environ.get("LIFE", "0"))
os.environ["LIFE"] = str(life + 1)
print("life", life, "of", os.getpid(), flush=True)
if life:
    sys.exit(0)

process = Process("example")
close = process.close
waiting = []

def end(status=0):
    """What SIGTERM does; contents that are closing wait until it has come."""
    close(status)
    while waiting:
        waiting.pop()()

process.close = end
steps = sys.argv[1:]

def step(done):
    """Do what comes next, then have done called."""
    match steps.pop(0) if steps else None:
        case "again":
            process.start_again("it is told to")
            done()
        case "SIGTERM" | "SIGINT" | "SIGABRT" as name:
            waiting.append(done)
            os.kill(os.getpid(), getattr(signal, name))
        case "failure":
            process.system.on_escalation("actor", ValueError("broken"))
            done()
        case "nothing" | None:
            done()

class Contents:
    def __init__(self, process):
        if steps and steps[0] == "at once":
            steps.pop(0)
            step(lambda: None)
        else:
            process.loop.call_soon(step, lambda: None)

    def close(self, done):
        print("closing", flush=True)
        waiting.clear()
        step(done)

try:
    status = process.run(Contents)
    if steps:
        os.kill(os.getpid(), getattr(signal, steps.pop(0)))
finally:
    print("closed", flush=True)
process.exec_again()
print("ended", status, flush=True)
'''


@pytest.mark.parametrize("fails", [False, True])
def test_who_runs_a_process_in_a_program_has_their_signal_handlers_back(fails: bool) -> None:
    class Contents:
        def __init__(self, process: Process) -> None:
            if fails:
                raise RuntimeError("the port is taken")
            process.loop.call_soon(process.close)

        def close(self, done: Callable[[], None]) -> None:
            done()

    def mine(*_: object) -> None:
        """What the program does on its own."""

    before = {number: signal.signal(number, mine) for number in (signal.SIGINT, signal.SIGTERM)}
    thresholds = gc.get_threshold()
    try:
        with pytest.raises(RuntimeError, match="taken") if fails else nullcontext():
            assert Process("example").run(Contents) == 0
        assert {signal.getsignal(number) for number in before} == {mine}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def run(*steps: str) -> tuple[int, list[str], str]:
    """The exit status of such a process and what it prints: a step each when it runs, when it is closing, and after
    that; and what it says on stderr."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *steps],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            said, errors = process.communicate(timeout=30)
        finally:
            process.kill()
        return process.returncode, said.replace(f" of {process.pid}", "").splitlines(), errors


def tale(*steps: str) -> list[str]:
    status, said, errors = run(*steps)
    assert status == 0, errors
    return said


def test_a_process_begins_its_next_life_under_the_same_id_when_everything_is_closed() -> None:
    assert tale("again") == ["life 0", "closing", "closed", "life 1"]


@pytest.mark.parametrize("order", ["SIGTERM", "SIGINT"])
def test_an_order_to_end_is_obeyed(order: str) -> None:
    assert tale(order) == ["life 0", "closing", "closed", "ended 0"]


@pytest.mark.parametrize("order", ["SIGTERM", "SIGINT"])
def test_an_order_to_end_that_comes_before_the_loop_runs_is_obeyed(order: str) -> None:
    assert tale("at once", order) == ["life 0", "closing", "closed", "ended 0"]


@pytest.mark.parametrize(
    "steps",
    [
        ("again", "SIGTERM"),
        ("again", "SIGINT"),
        ("SIGTERM", "again"),
        ("SIGINT", "again"),
    ],
)
def test_an_order_to_end_is_final_before_and_after_the_order_to_start_again(steps: tuple[str, str]) -> None:
    assert tale(*steps) == ["life 0", "closing", "closed", "ended 0"]


@pytest.mark.parametrize("order", ["SIGTERM", "SIGINT"])
def test_an_order_to_end_counts_until_the_next_life_begins(order: str) -> None:
    assert tale("again", "nothing", order) == ["life 0", "closing", "closed", "ended 0"]


@pytest.mark.parametrize(
    "steps", [("again", "failure"), ("failure", "again"), ("SIGTERM", "failure"), ("failure", "SIGTERM")]
)
def test_a_process_whose_actor_failed_for_good_has_no_next_life_and_says_so_by_its_status(
    steps: tuple[str, str],
) -> None:
    assert tale(*steps) == ["life 0", "closing", "closed", "ended 70"]


def test_a_process_that_dies_inside_a_library_leaves_the_stacks_of_all_threads() -> None:
    status, said, errors = run("SIGABRT")
    assert (status, said) == (-signal.SIGABRT, ["life 0"])
    assert "Fatal Python error: Aborted" in errors and "Current thread" in errors


def test_free_ports_are_looked_for_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FREE_PORTS_SETTING, "20400-20449")
    first, second = free_port(), free_port()
    assert first != second and {first, second} <= set(range(20_400, 20_450))
    for wrong in ("", "20400", "20449-20400", "80-90", "1024-70000", "a-b"):
        monkeypatch.setenv(FREE_PORTS_SETTING, wrong)
        with pytest.raises(OSError, match="has to be like 12000-21999"):
            free_port()
