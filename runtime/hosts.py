"""Says what a host name means, and who listens where on this machine, without the weight of a network: settings are
checked before anything is loaded."""

import ipaddress
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening_process(address: str) -> int | None:
    """The id of the process of this machine that listens at ``host:port``, as the kernel has it; None: there is none.

    Raises PermissionError when it belongs to somebody else and cannot be told.
    """
    host, _, port = address.rpartition(":")
    wanted = {f"{_in_proc(host)}:{int(port):04X}", f"00000000:{int(port):04X}", f"{'0' * 32}:{int(port):04X}"}
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1] in wanted and fields[3] == LISTENING:
                    sockets.add(f"socket:[{fields[9]}]")
    hidden = False
    for process in Path("/proc").iterdir() if sockets else ():
        try:
            for descriptor in (process / "fd").iterdir() if process.name.isdigit() else ():
                with suppress(FileNotFoundError):  # closed meanwhile
                    if os.readlink(descriptor) in sockets:
                        return int(process.name)
        except PermissionError:
            hidden = True
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            pass
    if sockets and hidden:
        raise PermissionError(f"the process that listens at {address} belongs to another user")
    return None


def _in_proc(host: str) -> str:
    """An address as /proc/net has it: words of four bytes, each as a number of this machine's."""
    packed = b""
    with suppress(OSError):
        family, *_, where = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)[0]
        packed = socket.inet_pton(family, str(where[0]))
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
