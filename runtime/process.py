"""Runs one operating-system process: an event loop, an actor system, its watchdog, a log, and an orderly end.

    started -> running -> closing -> ended              SIGTERM, SIGINT, or an actor that cannot be replaced
    started -> running -> closing -> ended -> started   start_again: under the same process id, as a program anew

The end is bounded: what has not closed after ``CLOSE_SECONDS_MAX`` is abandoned, which the next start can tell because
nothing was marked clean. An order to end is final: it also ends a process that is about to start again, whichever of
the two came first.
"""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import uvloop

from .system import ActorSystem
from .watchdog import Watchdog

log = logging.getLogger(__name__)

CLOSE_SECONDS_MAX = 10.0

FREE_PORTS = range(12_000, 22_000)
"""Where ``free_port`` looks: below the kernel's ephemeral range, also 10 000 higher, so
that no outgoing connection takes one meanwhile."""

FREE_PORTS_SETTING = "RINGKEEPER_FREE_PORTS"
"""The environment's word on that, ``first-last``: programs that start clusters side by side keep out of each other's
way."""

GARBAGE_OBJECTS = 20_000
"""The garbage collector looks at the young objects whenever there are so many more."""

EXIT_FAILED = 70
"""Exit status of a process that an actor's failure ended (EX_SOFTWARE)."""


class Contents(Protocol):
    """What runs in a process: made on its loop, closed before it ends."""

    def close(self, done: Callable[[], None]) -> None:
        """Begin an orderly end; call ``done`` on the loop thread when it is over."""
        ...


class Process:
    """The process from inside: its loop, its system, and how to end it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = uvloop.new_event_loop()
        self.system = ActorSystem(loop=self.loop, name=name)
        self.system.on_escalation = self._escalated
        self.system.watchdog = self._watchdog = Watchdog(self.system)
        self._contents: Contents | None = None
        self._status = 0
        self._closing = False
        self._again = False  # the end that has begun is for a new start

    def run(self, make: Callable[["Process"], Contents]) -> int:
        """Make the contents, run until the end; returns the exit status.

        Whatever ``make`` raises is raised here, with nothing left running. Afterwards close what the contents stood on
        and call ``exec_again``.
        """
        main = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGINT)}
        if main:
            with contextlib.suppress(ValueError, OSError):  # whose stderr is no file has nowhere to say it
                faulthandler.enable()  # a death inside a library leaves the stacks of all threads in the log
            for number in handlers:  # the loop hears no signal before it runs
                signal.signal(number, lambda *_: self.loop.call_soon_threadsafe(self.close))
            self.loop.call_soon(self._hear_signals)
        try:
            self._contents = make(self)
            if main:
                _leave_what_stays()
            self._watchdog.start()
            self.loop.run_forever()
        finally:
            self._watchdog.stop()
            self.system.stop()
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()  # what other threads have wished for meanwhile is refused, not forgotten
            if main:
                for number, before in handlers.items():
                    self.loop.remove_signal_handler(number)
                    # An order to end counts until the very last moment; whoever runs a process in a program of theirs
                    # has their own handlers back.
                    signal.signal(number, (lambda *_: self.close()) if self._again else before)
            self._end_tasks()
            self.loop.close()
        return self._status

    def _hear_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.close)

    def exec_again(self) -> None:
        """Run this program anew under the same process id, if ``start_again`` began the end and no order to end came.

        Call it when everything is closed that the next life opens. Returns only if there is to be no next life.
        """
        if self._again:
            log.info("%s is closed and begins its next life", self.name)
            logging.shutdown()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def close(self, status: int = 0) -> None:
        """Begin the orderly end, once; call on the loop thread (elsewhere: ``loop.call_soon_threadsafe``).

        An end that has begun goes on; it is the last one then, and the first status that is not 0 counts.
        """
        self._again = False
        self._status = self._status or status
        self._begin_end()

    def start_again(self, why: str) -> None:
        """End in order, then run this program anew (``exec_again``). Does nothing once the end has begun."""
        if self._closing:
            return
        self.system.events.note("process", f"{self.name} starts again", cause=why, log=log.warning)
        self._again = True
        self._begin_end()

    def _begin_end(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.loop.call_later(CLOSE_SECONDS_MAX, self._give_up)
        if self._contents is None:
            self.loop.stop()
        else:
            self._contents.close(self.loop.stop)

    def _end_tasks(self) -> None:
        """Cancel what the edges have left running on the loop, and let it take notice."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))

    def _give_up(self) -> None:
        log.error("%s did not close within %.0f s; what is left of it is abandoned", self.name, CLOSE_SECONDS_MAX)
        self.loop.stop()

    def _escalated(self, actor: str, failure: BaseException) -> None:
        log.critical("%s cannot go on: its actor %s failed for good: %r", self.name, actor, failure)
        self.close(EXIT_FAILED)


def _leave_what_stays() -> None:
    """Have the garbage collector pass over what was made for good, and look at the rest less often than for scripts.

    Requests make thousands of objects a second that reference counting frees; looking at them costs some percent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 10, 10)


def configure_log(level: str = "info", file: Path | None = None) -> None:
    """Send log sentences of all rooms to a file, or to standard error."""
    handler: logging.Handler = logging.StreamHandler() if file is None else logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def free_port(host: str = "127.0.0.1", beside: int = 0) -> int:
    """A port on which nobody listens now; with ``beside`` the one so much above it is free as well.

    Raises OSError when there is none. Starts looking at a place that depends on the process, so that several searchers
    seldom meet.
    """
    ports = _ports_to_look_at()
    start = os.getpid() * 6_113 % len(ports)  # neighbours by their ids begin far from each other
    for step in range(len(ports)):
        port = ports[(start + step + _handed_out[0]) % len(ports)]
        if is_free(host, port) and (not beside or is_free(host, port + beside)):
            _handed_out[0] += step + 1
            return port
    raise OSError(f"no free port between {ports.start} and {ports.stop - 1} on {host}")


def _ports_to_look_at() -> range:
    asked = os.environ.get(FREE_PORTS_SETTING)
    if asked is None:
        return FREE_PORTS
    first, _, last = asked.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) < 65_536):
        raise OSError(f"{FREE_PORTS_SETTING} is {asked!r}; it has to be like 12000-21999")
    return range(int(first), int(last) + 1)


_handed_out = [0]
"""How far ``free_port`` has come in this process: a port is not offered twice in a row."""


def is_free(host: str, port: int) -> bool:
    """Whether a listener could be bound there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
