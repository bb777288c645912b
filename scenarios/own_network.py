"""Gives a stage of real processes a network of its own, in which addresses can be cut off from each other.

    this process:  10.0.0.1, a router --+-- veth -- 10.0.0.101, a namespace for the processes of one node
                                        +-- veth -- 10.0.0.102, ...

The thread that makes an `OwnNetwork` moves into a new network namespace, and with it the threads and processes that it
starts from then on, until ``close``. A command reaches another address of it by what ``enter`` says to put before it.
A cut is a rule of the router that silently drops what comes from one address for another, as a broken network does:
neither side hears of it. Who is cut off from another still reaches everybody else, and is reached. (To a program of
the router itself the kernel says that it cannot send; of a stream that stands it says nothing, and tries again.)

Needed are Linux, the right to make namespaces (root), and the programs ``ip`` and ``nsenter``. Nothing has a name in
the system, so nothing can be left behind: the kernel removes a namespace, its devices and its rules with the last
process in it, and all of them if this process is killed and its own end with it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROUTER = "10.0.0.1"
"""The address of this process, and of what it starts without ``enter``."""
ADDRESSES = tuple(f"10.0.0.{number}" for number in range(100, 200))
"""Those that there can be beside it."""

CLONE_NEWNET = 0x40000000
"""From <sched.h>; Python 3.11 has neither it nor the two calls that take it."""
HERE = "/proc/thread-self/ns/net"
SETTINGS = {
    "ip_forward": "1",
    "ip_nonlocal_bind": "1",  # the launcher tries whether a port of a node is free
    "conf/all/rp_filter": "0",  # what is cut in one direction is let through in the other
    "conf/default/rp_filter": "0",
}
"""Of a router, below /proc/sys/net/ipv4."""


class NoOwnNetwork(Exception):
    """Raised when this machine does not allow a network of one's own; the text says why."""


class OwnNetwork:
    """See the head of this file. Raises NoOwnNetwork, and nothing has changed then."""

    def __init__(self) -> None:
        for program in ("ip", "nsenter"):
            if shutil.which(program) is None:
                raise NoOwnNetwork(f"the program {program} is not here")
        if sys.platform != "linux":
            raise NoOwnNetwork("only Linux has network namespaces")
        self._calls = ctypes.CDLL(None, use_errno=True)
        self._outside = os.open(HERE, os.O_RDONLY)
        self._ways: dict[str, tuple[str, ...]] = {}
        """By address, how to enter its namespace."""
        self._kept: list[int] = []
        """The descriptors that keep namespaces while nobody lives in them."""
        self._cuts: list[str] = []
        try:
            self._inside = self._new_namespace()
        except OSError as trouble:
            os.close(self._outside)
            raise NoOwnNetwork(f"a network namespace cannot be made: {trouble.strerror}") from None
        try:
            for name, value in SETTINGS.items():
                Path("/proc/sys/net/ipv4", name).write_text(value)
            # the rule that finds this machine's own addresses is asked first, unless it is made anew: cuts go before it
            _ip("link set lo up", "rule add pref 100 lookup local", "rule del pref 0", f"address add {ROUTER} dev lo")
        except (OSError, subprocess.CalledProcessError) as trouble:
            self.close()
            raise NoOwnNetwork(f"a network namespace cannot be used: {trouble}") from None

    def close(self) -> None:
        """Leave it; the thread that made it must call this. What was started in it should have ended."""
        self._move_to(self._outside)
        for descriptor in (self._outside, self._inside, *self._kept):
            os.close(descriptor)

    def enter(self, address: str) -> tuple[str, ...]:
        """With what a command begins that is to run at an address; that is made when it is first asked for."""
        if address not in self._ways:
            self._ways[address] = self._join(address)
        return self._ways[address]

    def cut(self, *, source: str, target: str, ports: str = "") -> None:
        """Drop what comes from one address for another; ``ports``: only this, as ``ip rule`` says it."""
        self._cuts.append(f"pref 10 from {source} to {target} {ports} blackhole")
        _ip(f"rule add {self._cuts[-1]}")

    def heal(self) -> None:
        """End all cuts."""
        cuts, self._cuts = self._cuts, []
        _ip(*(f"rule del {cut}" for cut in cuts))

    def _join(self, address: str) -> tuple[str, ...]:
        """Make a namespace with an address that the router knows the way to; returns how to enter it."""
        descriptor = self._new_namespace()
        self._kept.append(descriptor)
        self._move_to(self._inside)
        namespace = f"/proc/{os.getpid()}/fd/{descriptor}"
        enter = ("nsenter", f"--net={namespace}", "--")
        device = f"to{len(self._ways)}"
        _ip(
            f"link add {device} type veth peer name out netns {namespace}",
            f"address add {ROUTER} peer {address} dev {device}",
            f"link set {device} up",
        )
        _ip(
            "link set lo up",
            f"address add {address} peer {ROUTER} dev out",
            "link set out up",
            f"route add default via {ROUTER}",
            enter=enter,
        )
        return enter

    def _new_namespace(self) -> int:
        """Move this thread into a new namespace; returns the descriptor that keeps it. Raises OSError."""
        self._check(self._calls.unshare(CLONE_NEWNET))
        return os.open(HERE, os.O_RDONLY)

    def _move_to(self, namespace: int) -> None:
        self._check(self._calls.setns(namespace, CLONE_NEWNET))

    @staticmethod
    def _check(result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _ip(*commands: str, enter: tuple[str, ...] = ()) -> None:
    """Run commands of ``ip``. Raises CalledProcessError."""
    subprocess.run((*enter, "ip", "-batch", "-"), input="\n".join(commands), check=True, capture_output=True, text=True)
