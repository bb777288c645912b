"""Describes one life of a node: this process on this data directory at these addresses.

A node says it of itself, with the newest ring it holds, in an ephemeral znode (`Registration`); the ring says it of its
nodes (ring.Node). What is said of a node without its incarnation is not worth hearing (R3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .fields import HEX_64, HOST, NODE_ID, Fields, flag, pack, parse, text, whole

EPOCH_MAX = 2**63 - 1


class Stamp(NamedTuple):
    """Which ring of which cluster."""

    cluster_id: str
    epoch: int
    nonce: str

    def __str__(self) -> str:
        return f"ring {self.epoch} ({self.nonce}) of cluster {self.cluster_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Raises RingError when a field is malformed."""

    id: str
    """For people: host:port as it was when the node joined."""
    incarnation: str
    """One life of its process, 16 hex digits."""
    data_id: str
    """Its data directory, 16 hex digits: what "complete" is said of (R14)."""
    host: str
    port: int
    """Where clients reach it."""
    bridge_host: str
    bridge_port: int

    def __post_init__(self) -> None:
        text("id of a node", self.id, NODE_ID)
        text(f"incarnation of {self.id}", self.incarnation, HEX_64)
        text(f"data_id of {self.id}", self.data_id, HEX_64)
        text(f"host of {self.id}", self.host, HOST)
        whole(f"port of {self.id}", self.port, 1, 65535)
        text(f"bridge_host of {self.id}", self.bridge_host, HOST)
        whole(f"bridge_port of {self.id}", self.bridge_port, 1, 65535)

    @property
    def address(self) -> str:
        """Where clients reach it, host:port."""
        return f"{self.host}:{self.port}"

    @property
    def bridge_address(self) -> str:
        """Where other processes reach it, host:port."""
        return f"{self.bridge_host}:{self.bridge_port}"

    def life(self) -> dict[str, Any]:
        """The fields above, by name."""
        return {name: getattr(self, name) for name in LIFE}


LIFE: tuple[str, ...] = tuple(Life.__dataclass_fields__)
"""The names of a life's fields."""


def life_from(fields: Fields) -> Mapping[str, Any]:
    """Takes a life's fields out of a JSON object, unchecked. Raises RingError when one is missing."""
    return {name: fields.take(name) for name in LIFE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Life):
    """A node that wants to be in the ring. Raises RingError when a field is malformed."""

    held: Stamp | None = None
    """The newest ring on the node's disk; None: its data directory has never been in a ring."""
    joins: bool = True
    """Whether it is to be taken into the ring without being asked for."""
    whole: bool = True
    """Whether its data directory lacks nothing that the node has acknowledged: a power cut may take something (R16)."""
    damaged: bool = False
    """Whether it has met something in its data directory that cannot be read when it opened it (R25)."""

    def __post_init__(self) -> None:
        Life.__post_init__(self)
        flag(f"joins of {self.id}", self.joins)
        flag(f"whole of {self.id}", self.whole)
        flag(f"damaged of {self.id}", self.damaged)
        if self.held is not None:
            text(f"cluster_id of the ring that {self.id} holds", self.held.cluster_id, HEX_64)
            whole(f"epoch of the ring that {self.id} holds", self.held.epoch, 1, EPOCH_MAX)
            text(f"nonce of the ring that {self.id} holds", self.held.nonce, HEX_64)

    def to_json(self) -> bytes:
        """What the registration's znode holds."""
        held = self.held._asdict() if self.held else None
        said = {"held": held, "joins": self.joins, "whole": self.whole, "damaged": self.damaged}
        return pack("the registration", self.life() | said)

    @classmethod
    def from_json(cls, data: bytes) -> "Registration":
        """Raises RingError that says what is wrong. Unknown fields are ignored."""
        fields = parse("the registration", data)
        held = fields.take("held")
        if held is not None:
            ring = Fields("held of the registration", held)
            held = Stamp(*(ring.take(name) for name in Stamp._fields))
        joins, whole = fields.take("joins", True), fields.take("whole", True)
        damaged = fields.take("damaged", False)
        return cls(held=held, joins=joins, whole=whole, damaged=damaged, **life_from(fields))
