"""Starts operating-system processes for an actor, tells it when they end, and ends them.

    children.start(argv, log_file=..., tell=ref) -> pid ... ChildExited(pid, status)

Every child leads a session of its own: a Ctrl-C in the terminal reaches the parent alone, who ends its children in an
order. A *pidfd* says when a child is gone. That needs neither a thread per child nor SIGCHLD, which belongs to the
program around us; it never takes a later process with the same number for the child; and it works as well for a
process that somebody else started, which is then *adopted* (all but its exit status, which only its parent is told).

What happens to children whose parent is killed with -9 is a choice:

    leashed     they end, in order, as soon as the parent is gone, for programs and tests that must leave nothing behind
    unleashed   they live on; whoever comes after the parent finds them by their ``ProcessId``, and adopts or ends them

A leash is a pipe: the parent holds one end and never writes, the child waits at its standard input for the end of it
(``obey_leash``). The kernel's own way, PR_SET_PDEATHSIG, was rejected: it must be asked for between fork and exec,
where a program with threads may not run Python, and it fires when the *thread* that forked ends.
"""

import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pykka import ActorDeadError

from .actor import Ref
from .message import message

log = logging.getLogger(__name__)

LEASH = "RINGKEEPER_LEASH"
"""Set in the environment of a leashed child: its standard input is the leash."""

LEASH_SECONDS_MAX = 15.0
"""A child whose parent is gone has so long to end in order; then it ends as it is."""

KILL_SECONDS_MAX = 5.0
"""A process that outlives SIGKILL for so long is stuck in the kernel, and given up."""


class ProcessId(NamedTuple):
    """Names one process for ever: its number, which the kernel gives away again, and a mark, which it does not."""

    pid: int
    mark: str
    """The boot of the machine and the moment of the process's start; "" of a process that is gone."""

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """The process that has this number now."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return cls(pid, "")
        state, *fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may contain anything
        threads, started = fields[16], fields[18]
        # A first thread that has ended is a zombie, too, while others still run and hold the process's files and ports.
        return cls(pid, "" if state in "ZX" and int(threads) <= 1 else f"{boot}/{started}")

    def lives(self) -> bool:
        """Whether this very process still runs."""
        return bool(self.mark) and ProcessId.of(self.pid) == self


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildExited:
    """A process is gone. Children -> the actor that started or adopted it."""

    pid: int
    status: int | None
    """Its exit status; -N when signal N ended it; None: only its own parent was told."""


class Readable(Protocol):
    """The part of an asyncio loop that tells when a file descriptor becomes readable."""

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> object: ...
    def remove_reader(self, fd: int) -> object: ...


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    tell: Ref
    ours: bool
    """False: adopted."""


class Children:
    """The children of this process. Everything here is called on the loop thread."""

    def __init__(self, loop: Readable, *, leashed: bool) -> None:
        self._loop = loop
        self._living: dict[int, _Child] = {}
        self._leash = os.pipe() if leashed else None

    def start(
        self, argv: Sequence[str], *, log_file: Path, tell: Ref, environment: Mapping[str, str] | None = None
    ) -> ProcessId:
        """Start a process whose output is appended to ``log_file``. Raises OSError."""
        environment = dict(os.environ if environment is None else environment)
        environment.pop(LEASH, None)  # ours, if we are on one
        if self._leash is not None:
            environment[LEASH] = "stdin"
        with open(log_file, "ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if self._leash is None else self._leash[0],
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:  # forbidden here, or no descriptor is left: who cannot be watched must not run
            process.kill()
            process.wait()
            raise
        process.returncode = 0  # from here on it is ours to reap; subprocess need not remember it
        self._watch(_Child(process.pid, pidfd, tell, ours=True))
        return ProcessId.of(process.pid)

    def adopt(self, process: ProcessId, *, tell: Ref) -> bool:
        """Care for a process that another parent started; False when it is gone."""
        pidfd = _open(process)
        if pidfd is None:
            return False
        self._watch(_Child(process.pid, pidfd, tell, ours=False))
        return True

    def lives(self, process: ProcessId) -> bool:
        """Whether any process of this machine, child or not, still runs."""
        return process.lives()

    def terminate(self, pid: int) -> bool:
        """Ask a child to end; False when it is gone (or was never one)."""
        return self.signal(pid, signal.SIGTERM)

    def kill(self, pid: int) -> bool:
        """End a child at once; False when it is gone."""
        return self.signal(pid, signal.SIGKILL)

    def signal(self, pid: int, number: int) -> bool:
        """Send any signal to a child; False when it is gone."""
        child = self._living.get(pid)
        return child is not None and _signal(child.pidfd, number)

    def close(self) -> None:
        """Look after nobody any more. Leashed children that still live end; others live on."""
        for child in list(self._living.values()):
            self._forget(child)
            if child.ours:  # if it ends before this process does, it must not stay a zombie
                threading.Thread(target=_reap, args=(child.pid,), name=f"reaper of {child.pid}", daemon=True).start()
        if self._leash is not None:
            for end in self._leash:
                os.close(end)
            self._leash = None

    def _watch(self, child: _Child) -> None:
        self._living[child.pid] = child
        self._loop.add_reader(child.pidfd, self._gone, child)

    def _gone(self, child: _Child) -> None:
        self._forget(child)
        status = _reap(child.pid) if child.ours else None
        with suppress(ActorDeadError):
            child.tell.tell(ChildExited(pid=child.pid, status=status))

    def _forget(self, child: _Child) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.remove_reader(child.pidfd)
        os.close(child.pidfd)
        del self._living[child.pid]


def how_it_ended(status: int | None) -> str:
    """An exit status in words, as the rest of a sentence."""
    if status is None:
        return "is gone"
    if status >= 0:
        return f"ended with status {status}"
    name = next((f" ({each.name})" for each in signal.Signals if each == -status), "")  # real-time signals have none
    return f"was killed by signal {-status}{name}"


def end_all(processes: Mapping[str, ProcessId], *, seconds_max: float) -> tuple[str, ...]:
    """End processes that nobody here looks after: SIGTERM, after ``seconds_max`` SIGKILL. Waits for them; for edges.

    Returns the names of those that had to be killed. Raises PermissionError.
    """
    opened = {name: pidfd for name, process in processes.items() if (pidfd := _open(process)) is not None}
    try:
        for pidfd in opened.values():
            _signal(pidfd, signal.SIGTERM)
        deadline = time.monotonic() + seconds_max
        late = {name: pidfd for name, pidfd in opened.items() if not _wait(pidfd, deadline - time.monotonic())}
        for pidfd in late.values():
            _signal(pidfd, signal.SIGKILL)
        for pidfd in late.values():
            _wait(pidfd, KILL_SECONDS_MAX)
        return tuple(late)
    finally:
        for pidfd in opened.values():
            os.close(pidfd)


def _signal(pidfd: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def _open(process: ProcessId) -> int | None:
    """A pidfd of exactly that process; None when it is gone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if process.lives():  # asked after opening: from here on the descriptor cannot come to mean another
        return pidfd
    os.close(pidfd)
    return None


def _reap(pid: int) -> int | None:
    """The exit status of a child, which the kernel may forget then; waits for its end. None: somebody else has it."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def _wait(pidfd: int, seconds_max: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds_max) * 1000))


def obey_leash() -> None:
    """In a child: if it was started on a leash, see to it that it ends when its parent does."""
    if os.environ.get(LEASH) == "stdin":
        threading.Thread(target=_feel_leash, name="leash", daemon=True).start()


def _feel_leash() -> None:
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    log.warning("the process that started this one is gone, so it ends too")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEASH_SECONDS_MAX)
    log.error("not ended within %.0f s; what is left is abandoned", LEASH_SECONDS_MAX)
    os._exit(1)
