"""Turns what a ring holds, slot by slot, into tokens to move: what `balance.py` finds, made fit for one change; and
into tokens for nodes that come (`placed`).

By what shares are made even is a person's choice: slots, keys, bytes, or requests per second. Whatever that is, what a
change costs is the bytes of the copies that it makes, so ``bytes_max`` is in these: the shares are then made as even as
that allows. Since each look for tokens may take seconds where slots differ much, only a few deviations are tried.

Hysteresis, for who asks by itself: a balance is called for when some share deviates by more than the threshold
(`farthest`), and aims at a part of it, so that a load which wanders a little calls for nothing soon after; what brings
less than that difference is not worth its bytes (`is_worth_it`).

The result is a value: `transitions.py` refuses it once the nodes are others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .balance import Balance, balance, loads_at
from .balancing import By
from .placement import Place, place
from .plan import plan
from .ring import Node, Ring
from .slots import SLOTS

AIM = 0.5
"""Who balances by itself aims at so much of the threshold."""

TRIES = 6
"""So many deviations are tried for the best balance within a bound of bytes."""

HOTTEST = 5
"""Slots that are shown because they weigh most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """What each slot weighs, as its coordinator has said; 0 where nobody has."""

    keys: Sequence[int] = field(default=(0,) * SLOTS)
    bytes: Sequence[int] = field(default=(0,) * SLOTS)
    requests: Sequence[int] = field(default=(0,) * SLOTS)
    """In thousandths of a request per second, smoothed."""
    missing: tuple[str, ...] = ()
    """The coordinators that have not said it."""

    def of(self, by: By) -> Sequence[int] | None:
        """The weights by which shares are made even; None: one each."""
        return {"keys": self.keys, "bytes": self.bytes, "requests": self.requests}.get(by)

    def to_relieve(self, by: By) -> By:
        """What of them is to be relieved in a ring that is balanced by this: that, if it is any load, else requests if
        there are any, else bytes; slots where nothing is known."""
        candidates: tuple[By, ...] = (by, "requests", "bytes")
        return next((each for each in candidates if sum(self.of(each) or ())), "slots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """Tokens for a ring, and what comes of them."""

    standing: Mapping[str, int]
    """The tokens of the ring that it is for."""
    by: By
    threshold: float
    capacities: Mapping[str, int]
    found: Balance
    moves: bool
    """Whether any token does."""
    deviation_before: float
    """How far from its part the farthest load is, in parts."""
    copied_bytes: int
    least: int
    """What tokens have to pass at least to come within the threshold, in the unit of the load."""
    hottest: tuple[tuple[int, int], ...]
    """Slots and what they weigh."""
    missing: tuple[str, ...]
    """The coordinators that have not said what they hold."""

    @property
    def of_least(self) -> float:
        """What tokens pass, in parts of that: 1 unless there is a bound, or the search ended early."""
        return self.found.handed_over.shifted / self.least if self.least else 1.0

    @property
    def percents(self) -> tuple[float, float]:
        """How far the farthest load is from its part, now and then."""
        return 100 * self.deviation_before, 100 * self.found.deviation

    @property
    def peaks(self) -> tuple[float, float]:
        """The load of the busiest node, now and then, in parts of what it would have if slots could be divided."""
        whole, capacity = sum(self.found.before.values()), sum(self.capacities.values())
        parts = {id: whole * each / capacity for id, each in self.capacities.items() if each}
        before, after = (
            max((loads[id] / part for id, part in parts.items() if part), default=1.0)
            for loads in (self.found.before, self.found.after)
        )
        return before, after

    @property
    def is_worth_it(self) -> bool:
        """Whether who balances by itself should do it."""
        before, after = self.peaks
        gain = max(before - after, self.deviation_before - self.found.deviation)
        return self.moves and gain > self.threshold * (1 - AIM)


def deviations(ring: Ring, load: Sequence[int] | None) -> dict[str, float]:
    """How far each load is from its part, in parts, by id. A glance: one slot that weighs more than a part is beyond it
    as well, and nobody can do anything about it. Nor where no node that is left has any capacity."""
    capacity = sum(node.capacity for node in ring.circle)
    loads = loads_at(_tokens(ring), load)
    whole = sum(loads.values())
    if not capacity:
        return dict.fromkeys(loads, 0.0)
    parts = {node.id: whole * node.capacity / capacity for node in ring.circle}
    return {id: each / parts[id] - 1 if parts[id] else float(each > 0) for id, each in loads.items()}


def farthest(ring: Ring, load: Sequence[int] | None) -> float:
    """How far from its part the load is that is farthest, in parts; 0 where there is none."""
    off = deviations(ring, load)
    return max(map(abs, off.values()))


def rebalanced(
    ring: Ring, loads: Loads, by: By, threshold: float, *, bytes_max: int | None = None, aim: float = 1.0
) -> Rebalance:
    """Where the members of a ring should stand. ``aim``: the part of the threshold to come to."""
    load, capacities = loads.of(by), {node.id: node.capacity for node in ring.circle}

    def within(deviation: float) -> Balance:
        return balance(_tokens(ring), load, capacities=capacities, threshold=deviation, copies=ring.replicas)

    before = _unmoved(ring, load)
    found = within(threshold * aim)
    least, copied = found.handed_over.shifted, _copied_bytes(ring, found.tokens, loads.bytes)
    if bytes_max is not None and copied > bytes_max:
        tight, loose = found.deviation, before.deviation
        found, copied = before, 0
        for _ in range(TRIES):
            middle = (tight + loose) / 2
            tried = within(middle)
            if (cost := _copied_bytes(ring, tried.tokens, loads.bytes)) <= bytes_max:
                loose, found, copied = middle, tried, cost
            else:
                tight = middle
    heaviest = sorted(((weight, -slot) for slot, weight in enumerate(load or ()) if weight), reverse=True)
    return Rebalance(
        standing=_tokens(ring),
        by=by,
        threshold=threshold,
        capacities=capacities,
        found=found,
        moves=found.tokens != _tokens(ring),
        deviation_before=before.deviation,
        copied_bytes=copied,
        least=least,
        hottest=tuple((-slot, weight) for weight, slot in heaviest[:HOTTEST]),
        missing=loads.missing,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where nodes that come are to stand, and what they relieve the others of."""

    how: Place
    by: By
    tokens: Mapping[str, int]
    parts: Mapping[str, float]
    """How much of the load each of them will have."""


def placed(ring: Ring, ids: Sequence[str], how: Place, loads: Loads) -> Placed:
    """Places for those of the nodes that are not in the ring. What waits in its queue is taken for done already."""
    standing = _tokens(ring)
    for each in ring.change.comes if ring.change is not None else ():
        standing[each.id] = each.token
    for wish in ((ring.change.wish,) if ring.change is not None else ()) + ring.queue:
        standing |= wish.tokens
    by = loads.to_relieve(ring.balancing.by) if how == "relief" else "slots"
    tokens = place((id for id in ids if id not in standing), how, standing, loads.of(by))
    shares = loads_at(standing | tokens, loads.of(by))
    whole = sum(shares.values())
    return Placed(how=how, by=by, tokens=tokens, parts={id: shares[id] / whole for id in tokens})


def is_of(found: Rebalance, ring: Ring) -> bool:
    """Whether the nodes of a ring stand as they did when the tokens were chosen."""
    return found.standing == _tokens(ring)


def _tokens(ring: Ring) -> dict[str, int]:
    return {node.id: node.token for node in ring.circle}


def _unmoved(ring: Ring, load: Sequence[int] | None) -> Balance:
    tokens = _tokens(ring)
    return balance(tokens, load, capacities={node.id: node.capacity for node in ring.circle}, pinned=tokens)


def _copied_bytes(ring: Ring, tokens: Mapping[str, int], held: Sequence[int]) -> int:
    """What the copies weigh that would be made if tokens stood there."""
    moved = replace(ring, change=None, queue=(), nodes=tuple(_at(node, tokens) for node in ring.nodes))
    transfers = plan(ring, moved).transfers
    return sum(sum(held[each.slots.first : each.slots.last + 1]) for each in transfers)


def _at(node: Node, tokens: Mapping[str, int]) -> Node:
    return replace(node, token=tokens.get(node.id, node.token))
