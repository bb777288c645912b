"""Reads what nodes say of the ring: the map, addresses in each form in which they come, and why there is no map.

An address is ``host:port``, the port after the last colon; an IPv6 host stands in it without brackets. Which map is
believed, and when it is read again, is for `Client` in `client.py` to decide (its section on the map); here is no state
but the map itself, which MOVED corrects slot by slot.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from .client_errors import REFUSALS, Trouble
from .rules.slots import SLOTS

TROUBLES_TOLD_MAX = 3
"""So many nodes' reasons an error lists."""


@dataclass(slots=True)
class ClusterMap:
    """Who coordinates each slot, as of an epoch."""

    epoch: int = 0
    coordinators: list[str | None] = field(default_factory=lambda: [None] * SLOTS)
    """Address by slot. MOVED corrects single entries."""
    members: list[tuple[str, ...]] = field(default_factory=lambda: [()] * SLOTS)
    """Addresses by slot, successors included: any of them may be read. MOVED corrects single entries."""
    nodes: frozenset[str] = frozenset()
    """Every address it names, successors included."""

    @classmethod
    def read(cls, info: Any, slots: Any, host: str) -> Self:
        """From the replies to CLUSTER INFO and CLUSTER SLOTS of a node on ``host``.

        Raises LookupError, TypeError or ValueError when they are not what these commands reply.
        """
        epoch = epoch_in(info)
        coordinators: list[str | None] = [None] * SLOTS
        readable: list[tuple[str, ...]] = [()] * SLOTS
        named: set[str] = set()
        for first, last, *members in slots:
            if not 0 <= first <= last < SLOTS:
                raise ValueError(f"slots {first} to {last}")
            addresses = tuple(_address(member[0], int(member[1]), host) for member in members)
            coordinators[first : last + 1] = [addresses[0]] * (last + 1 - first)
            readable[first : last + 1] = [addresses] * (last + 1 - first)
            named.update(addresses)
        return cls(epoch, coordinators, readable, frozenset(named))

    def correct(self, slot: int, coordinator: str) -> None:
        """A node knows better who coordinates a slot."""
        self.coordinators[slot] = coordinator
        self.members[slot] = (coordinator,)


def epoch_in(info: Any) -> int:
    """The epoch that a reply to CLUSTER INFO names. Raises TypeError when it is no text."""
    epoch = re.search(rb"cluster_current_epoch:(\d+)", info)
    return int(epoch[1]) if epoch else 0


def called_down(nodes: Any) -> frozenset[str]:
    """The addresses that a reply to CLUSTER NODES calls failed; none of what it cannot be."""
    lines = [line.split() for line in nodes.splitlines()] if isinstance(nodes, bytes) else []
    failed = [words[1] for words in lines if len(words) > 2 and b"fail" in words[2].split(b",")]
    return frozenset(address.partition(b"@")[0].decode("ascii", "replace") for address in failed)


def together(troubles: list[Trouble]) -> Trouble:
    """Why no node gave its map."""
    told = "; ".join(str(trouble) for trouble in troubles[:TROUBLES_TOLD_MAX])
    if len(troubles) > TROUBLES_TOLD_MAX:
        told += f"; and {len(troubles) - TROUBLES_TOLD_MAX} more"
    codes = {trouble.code for trouble in troubles}
    code = troubles[0].code if len(codes) == 1 or codes <= REFUSALS else "unreachable"
    return Trouble(code, f"no node shows the ring: {told}")


def parse_seeds(seeds: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses that a person gives a client, commas between them or a sequence. Raises ValueError."""
    parts = seeds.split(",") if isinstance(seeds, str) else seeds
    addresses = tuple(parse_address(part) for part in parts if part.strip())
    if not addresses:
        raise ValueError("there is no seed: give at least one node as host:port, e.g. 127.0.0.1:7001")
    return addresses


def parse_address(text: str) -> str:
    """An address as a person writes it. Raises ValueError."""
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{text!r} is not an address: give host:port, e.g. 127.0.0.1:7001")
    return _address(host.removeprefix("[").removesuffix("]"), int(port), "")


def _address(host: bytes | str | None, port: int, host_asked: str) -> str:
    """``host:port``; a node that does not know its own host leaves it out and means the one it was asked by."""
    if not 0 < port < 1 << 16:
        raise ValueError(f"{port} is not a port: it must be 1 to 65535")
    name = host.decode() if isinstance(host, bytes) else host
    return f"{name if name and name != '?' else host_asked}:{port}"


def parse_redirection(rest: str, address: str) -> tuple[int, str] | None:
    """Slot and address out of ``3999 127.0.0.1:7002``, None when it is not of that form."""
    slot, _, target = rest.partition(" ")
    host, _, port = target.rpartition(":")
    if not (slot.isdecimal() and int(slot) < SLOTS and port.isdecimal() and 0 < int(port) < 1 << 16):
        return None
    return int(slot), _address(host, int(port), address.rpartition(":")[0])
