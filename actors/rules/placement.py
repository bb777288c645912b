"""Chooses tokens: where nodes stand on the circle.

``md5``, the seed's rule: MD5 of ``host:port``. Anybody can compute it, and it is very uneven: 127.0.0.1:7001-7003 get
27, 7852 and 8505 slots. ``even``, the default: n nodes that found a ring stand in the order of their MD5 tokens, node i
(from 0) on the last position before slot ``SLOTS * (i + 1) // n``, so that it has the slots from ``SLOTS * i // n`` up
to there: shares differ by one slot at most and no range crosses the seam. A node that joins takes the first half of
the range with the most slots, the lowest token among equals, several one after the other in MD5 order.

``relief`` puts a node that joins where the load is: it takes the first half, by load, of a range, and of all such
halves the heaviest. A slot that has nearly all the load of its range cannot be halved; then another range can be
relieved more. Where nothing is known of the load it is ``even``.

A token says nothing about identity: the balancer moves tokens, the id stays.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Literal, get_args

from .fields import RingError
from .slots import SLOT_SHIFT, SLOTS

Place = Literal["even", "md5", "relief"]
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


def place(
    ids: Iterable[str], how: Place, standing: Mapping[str, int] | None = None, load: Sequence[int] | None = None
) -> dict[str, int]:
    """Tokens for the nodes ``ids`` that join those ``standing`` (id -> token); none standing: they found a ring.

    ``load`` is what every slot weighs, for ``relief``; None: nothing is known of it.
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
    # What lies before each slot, in two laps. A slot counts beside its load, but all of them less than any load.
    marks: Sequence[int] = range(2 * SLOTS + 1)
    if how == "relief" and load is not None:
        marks = list(accumulate([weight * (SLOTS + 1) + 1 for weight in (*load, *load)], initial=0))
    for id in joining:
        tokens[id] = _middle_of_largest_range(tokens.values(), marks)
    return {id: tokens[id] for id in joining}


def _middle_of_largest_range(tokens: Iterable[int], marks: Sequence[int]) -> int:
    """The token that takes the first half of a range, so that the lesser half is as much as it can be."""
    ends = [(token >> SLOT_SHIFT) + 1 + SLOTS for token in sorted(tokens)]
    best, middle = (-1, 0), 0
    for first, end in pairwise((ends[-1] - SLOTS, *ends)):
        whole = marks[end] - marks[first]
        beyond = bisect_left(marks, (marks[first] + marks[end]) // 2, first, end)
        for cut in (max(first, beyond - 1), beyond):
            part = marks[cut] - marks[first]
            if (found := (min(part, whole - part), whole)) > best:
                best, middle = found, cut
    return _before(middle % SLOTS)


def _before(slot: int) -> int:
    """The last position before a slot's, so that a node standing there has the slot before it and not this one."""
    return ((slot << SLOT_SHIFT) - 1) % CIRCLE
