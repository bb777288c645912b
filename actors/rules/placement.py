"""Chooses tokens: where nodes stand on the circle.

``md5``, the seed's rule: MD5 of ``host:port``. Anybody can compute it, and it is very uneven: 127.0.0.1:7001-7003 get
27, 7852 and 8505 slots. ``even``, the default: n nodes that found a ring stand in the order of their MD5 tokens, node i
(from 0) on the last position before slot ``SLOTS * (i + 1) // n``, so that it has the slots from ``SLOTS * i // n`` up
to there: shares differ by one slot at most and no range crosses the seam. A node that joins takes the first half of
the range with the most slots, the lowest token among equals, several one after the other in MD5 order.

A token says nothing about identity: the balancer moves tokens, the id stays.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from .fields import RingError
from .slots import SLOT_SHIFT, SLOTS

Place = Literal["even", "md5"]
PLACES: tuple[str, ...] = get_args(Place)

CIRCLE = 1 << 128
"""Positions on the circle."""
REPLICAS_MAX = 16
"""Copies that a ring may keep of a slot."""
NODES_MAX = 1024
"""Nodes in one ring: its JSON must fit into a znode of 1 MiB, and no range may become too small to be halved."""


def md5_token(id: str) -> int:
    """The token of the seed's rule."""
    return int.from_bytes(hashlib.md5(id.encode(), usedforsecurity=False).digest(), "big")


def place(ids: Iterable[str], how: Place, standing: Mapping[str, int] | None = None) -> dict[str, int]:
    """Tokens for the nodes ``ids`` that join those ``standing`` (id -> token); none standing: they found a ring.

    The order of ids makes no difference. Raises RingError when that is more than NODES_MAX nodes in all.
    """
    tokens = dict(standing or {})
    joining = sorted(set(ids), key=md5_token)
    if len(tokens) + len(joining) > NODES_MAX:
        raise RingError(f"a ring has at most {NODES_MAX} nodes, not {len(tokens) + len(joining)}")
    if how == "md5":
        return {id: md5_token(id) for id in joining}
    if not tokens:
        return {id: _before(SLOTS * (index + 1) // len(joining)) for index, id in enumerate(joining)}
    for id in joining:
        tokens[id] = _middle_of_largest_range(tokens.values())
    return {id: tokens[id] for id in joining}


def _middle_of_largest_range(tokens: Iterable[int]) -> int:
    """The token that takes the first half of the range with the most slots."""
    circle = sorted(tokens)
    ends = [token >> SLOT_SHIFT for token in circle]
    sizes = [end - previous for previous, end in zip([ends[-1] - SLOTS, *ends], ends, strict=False)]
    largest = max(sizes)
    first = ends[sizes.index(largest)] - largest + 1
    return _before(first + largest // 2)


def _before(slot: int) -> int:
    """The last position before a slot's, so that a node standing there has the slot before it and not this one."""
    return ((slot << SLOT_SHIFT) - 1) % CIRCLE
