"""Describes a node as the ring knows it: the one life that counts, its place on the circle, its state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from .balancing import check_capacity
from .fields import HEX_128, Fields, flag, one_of, text, whole
from .life import Life, life_from
from .placement import CIRCLE

State = Literal["up", "down", "returning", "out"]
STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Life):
    """A member as the ring knows it: the one life that counts (R3), its place on the circle, its state."""

    token: int
    state: State = "up"
    given_up: bool = False
    """It is out because it was down for too long, and nobody wanted it so: who comes back is taken in again."""
    capacity: int = 1
    """It is to have so many times the load of a node of capacity 1; 0: it coordinates nothing once balanced."""
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Fields of a neighbouring release, kept as they are."""

    def __post_init__(self) -> None:
        Life.__post_init__(self)
        whole(f"token of {self.id}", self.token, 0, CIRCLE - 1)
        one_of(f"state of {self.id}", self.state, STATES)
        flag(f"given_up of {self.id}", self.given_up)
        check_capacity(f"capacity of {self.id}", self.capacity)


def node_to_json(node: Node) -> dict[str, object]:
    token = f"{node.token:032x}"
    return {
        **node.unknown,
        **node.life(),
        "token": token,
        "state": node.state,
        "given_up": node.given_up,
        "capacity": node.capacity,
    }


def node_from_json(what: str, item: object) -> Node:
    """Raises RingError that begins with ``what``."""
    fields = Fields(what, item)
    token = int(text(f"token of {what}", fields.take("token"), HEX_128), 16)
    state, given_up = fields.take("state"), fields.take("given_up", False)
    capacity = fields.take("capacity", 1)
    life = life_from(fields)
    return Node(**life, token=token, state=state, given_up=given_up, capacity=capacity, unknown=fields.left)
