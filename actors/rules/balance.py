"""Says where tokens must stand so that every node has its part of the load, for the least data moved.

A node's *load* is the weight of the slots in its own range: 1 each, or their keys, bytes or requests. Its *fair part*
is the whole load times its capacity over that of all. A ring is balanced when nobody's load deviates from the fair part
by more than the threshold. `balance` finds the tokens that come to that, keeping the nodes in their order.

**What is least.** Every token that moves hands the load that it passes to a neighbour, so what is least is the load
passed by all tokens together, ``shifted``. What lies between an old and a new range ``d`` places apart on the ring is
passed by d tokens, gets another coordinator once (``moved``), and new copies at ``min(d, copies)`` nodes (``copied``).
So ``moved <= copied <= shifted`` on a ring of more nodes than copies, and copied is shifted itself where nothing goes
farther than a list is long: on all but rings of very many nodes far out of balance the least shifted is the least that
goes over the wire. There, other tokens may have less moved, or copied; but that problem is not convex, and a ring that
is kept in balance does not come to it.

**When that cannot be**, since slots cannot be divided: the smallest deviation that can be, to a millionth of the fair
part, and then the least shifted. A slot that weighs more than a fair part by itself (one famous key) is left out of
account: its node has it alone, and the others share what is left. With ``shifted_max``, the smallest deviation that
costs no more, to a thousandth. A node without capacity is *drained*: it coordinates nothing, and stays in the lists of
others. The token of a *pinned* node stays; between two pinned ones deviations are as small as they can be there.

Only whole numbers are compared, so the same ring and load give the same tokens everywhere.

`least_shift.py` solves it where slots are equal, `slot_shift.py` where they are not. `greedy` is what the project began
with, to compare with: whoever has less than half the mean moves to the middle of what it and its successor have.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import NamedTuple

from .least_shift import between, least_shift
from .slot_shift import Gap, Slots
from .slots import SLOT_SHIFT, SLOTS

__all__ = ["Balance", "balance", "balanced_ends", "greedy", "handed_over", "loads_at"]

MILLION = 1_000_000
"""Deviations are counted in millionths of the fair part."""
CAPPED_MILLIONTHS = 1000
"""With a cap on what is shifted deviations are told apart to so much."""


class HandedOver(NamedTuple):
    """What a change of tokens costs, in the unit of the load."""

    shifted: int
    """What tokens pass, all together."""
    moved: int
    """What gets another coordinator."""
    copied: int
    """Copies that are made at nodes which have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Where tokens should stand, and what comes of it. All maps by id, in the order of the ring."""

    tokens: Mapping[str, int]
    before: Mapping[str, int]
    """Each node's load now."""
    after: Mapping[str, int]
    fair: Mapping[str, Fraction]
    """The part that each should have."""
    deviation: float
    """How far from the fair part the farthest load is then, in fair parts; one that is a single slot may be more."""
    handed_over: HandedOver
    proven: bool
    """Whether it is certain that no less would do; not if the search ended before (``PLACES_MAX``)."""

    @property
    def peak_before(self) -> float:
        """The highest load, in fair parts."""
        return self._peak(self.before)

    @property
    def peak_after(self) -> float:
        return self._peak(self.after)

    def _peak(self, loads: Mapping[str, int]) -> float:
        return max((float(load / self.fair[id]) for id, load in loads.items() if self.fair[id]), default=1.0)


def balance(
    tokens: Mapping[str, int],
    load: Sequence[int] | None = None,
    *,
    capacities: Mapping[str, int] | None = None,
    threshold: float = 0.05,
    pinned: Collection[str] = (),
    shifted_max: int | None = None,
    copies: int = 1,
) -> Balance:
    """Where the nodes at these tokens (id -> token) should stand.

    ``load`` is the weight of every slot; None: one each. ``capacities`` are relative, 1 where none is given, 0 drains.
    ``copies`` is how many nodes hold a slot; what is best does not depend on it.
    """
    ids = sorted(tokens, key=lambda id: tokens[id])
    ends = [(tokens[id] >> SLOT_SHIFT) + 1 for id in ids]
    powers = [(capacities or {}).get(id, 1) for id in ids]
    task = _Task(ends, load, SLOTS, powers, threshold, [id in pinned for id in ids])
    places, proven = task.solved(shifted_max)
    marks = _marks(load)
    return Balance(
        tokens=dict(zip(ids, _tokens(places, ends, [tokens[id] for id in ids]), strict=True)),
        before=dict(zip(ids, _loads(marks, ends), strict=True)),
        after=dict(zip(ids, _loads(marks, places), strict=True)),
        fair=dict(zip(ids, task.fair, strict=True)),
        deviation=task.deviation(places) / MILLION,
        handed_over=handed_over(ends, places, copies, load),
        proven=proven,
    )


def loads_at(tokens: Mapping[str, int], load: Sequence[int] | None = None) -> dict[str, int]:
    """Each node's load, in the order of the ring, where nodes stand at these tokens."""
    ids = sorted(tokens, key=lambda id: tokens[id])
    ends = [(tokens[id] >> SLOT_SHIFT) + 1 for id in ids]
    return dict(zip(ids, _loads(_marks(load), ends), strict=True))


def balanced_ends(ends: Sequence[int], circle: int, threshold: float = 0.05) -> list[int]:
    """The same on a circle without slots, for equal nodes: where their ends, ascending, should stand.

    The places are not taken modulo ``circle``.
    """
    task = _Task(ends, None, circle, [1] * len(ends), threshold, [False] * len(ends))
    return task.solved(None)[0]


def greedy(ends: Sequence[int], circle: int, rounds: int = 5) -> tuple[list[int], int, int]:
    """The first balancer of this project on a circle without slots: the new ends, its moves, and what these shifted.

    In each round, along the ring, a node with less than half the mean range moves its token forward to the middle of
    its own and its successor's range.
    """
    places, moves, shifted = list(ends), 0, 0
    count = len(places)
    for _ in range(rounds):
        for index, end in enumerate(places):
            previous = places[index - 1] - (circle if index == 0 else 0)
            following = places[(index + 1) % count] + (circle if index == count - 1 else 0)
            if end - previous < circle // (2 * count):
                places[index] = (previous + following) // 2
                moves += 1
                shifted += places[index] - end
    return places, moves, shifted


def handed_over(
    before: Sequence[int],
    after: Sequence[int],
    copies: int = 1,
    load: Sequence[int] | None = None,
    circle: int = SLOTS,
) -> HandedOver:
    """What it costs to move the ends of ranges from ``before``, ascending, to ``after``, not taken modulo circle."""
    marks = _marks(load)
    count = len(before)
    copies = min(copies, count)
    old, new = _Owners(before, circle), _Owners(after, circle)
    moved = copied = 0
    for first, end in pairwise(sorted({0, circle, *old.ends, *new.ends})):
        distance = (new.of(end) - old.of(end)) % count
        if distance:
            weight = _between(marks, first, end)
            moved += weight
            copied += weight * (copies - max(0, copies - distance) - max(0, copies - (count - distance)))
    return HandedOver(sum(abs(_between(marks, x, y)) for x, y in zip(before, after, strict=True)), moved, copied)


# ---- the task


class _Task:
    """One question, made whole numbers."""

    def __init__(
        self,
        ends: Sequence[int],
        load: Sequence[int] | None,
        circle: int,
        powers: Sequence[int],
        threshold: float,
        pinned: Sequence[bool],
    ) -> None:
        self._ends, self._circle, self._powers = ends, circle, powers
        self._slots = None if load is None else Slots(load)
        self._threshold = round(threshold * MILLION)
        level = _level(load, circle, powers)
        self.fair = [level * power for power in powers]
        self._sections = list(_sections(pinned))
        self._proven = True

    def solved(self, shifted_max: int | None) -> tuple[list[int], bool]:
        """The new ends, and whether it is certain that nothing less would do."""
        least = [self._least_deviation(section) for section in self._sections]
        found = self._solved(least, 0)
        if shifted_max is not None and self._shifted(found) > shifted_max:
            # Nothing needs to move if all that is now is allowed.
            tight, deviation, found = self._threshold, self.deviation(self._ends), list(self._ends)
            while deviation - tight > CAPPED_MILLIONTHS:
                middle = (tight + deviation) // 2
                tried = self._solved(least, middle)
                if self._shifted(tried) <= shifted_max:
                    deviation, found = middle, tried
                else:
                    tight = middle
        return found, self._proven

    def _solved(self, least: Sequence[int | None], deviation: int) -> list[int]:
        """The cheapest ends with that deviation, or the least that can be in each section if it is more."""
        places = list(self._ends)
        for section, possible in zip(self._sections, least, strict=True):
            if possible is not None:
                found = self._cheapest(section, max(possible, deviation))
                assert found is not None, "what is possible is found"
                for index, place in zip(section.free, found, strict=True):
                    places[index] = place - (self._circle if index < section.free[0] else 0)
        return places

    def _shifted(self, places: Sequence[int]) -> int:
        return sum(self._passed(end, place) for end, place in zip(self._ends, places, strict=True))

    def _passed(self, end: int, place: int) -> int:
        return self._slots.weight_between(end, place) if self._slots else abs(place - end)

    def deviation(self, ends: Sequence[int]) -> int:
        """How far the load that is farthest from its fair part is from it, in millionths, rounded up."""
        farthest = 0
        for index, fair in enumerate(self.fair):
            if not fair:
                continue
            previous = ends[index - 1] - (self._circle if index == 0 else 0)
            load = self._passed(previous, ends[index])
            if load < fair or not self._indivisible(previous, ends[index]):
                farthest = max(farthest, -int(-abs(load - fair) * MILLION // fair))
        return farthest

    def _indivisible(self, previous: int, end: int) -> bool:
        return self._slots.indivisible(previous, end) if self._slots else end - previous == 1

    def _gaps(self, section: "_Section", deviation: int) -> list[Gap]:
        """What the loads may be with that deviation."""
        return [
            Gap(
                max(0, -int(-self.fair[index] * (MILLION - deviation) // MILLION)),
                int(self.fair[index] * (MILLION + deviation) // MILLION),
                self._powers[index] > 0,
            )
            for index in section.gaps
        ]

    def _homes(self, section: "_Section") -> list[int]:
        """Where its free ends are, those after the seam a lap further."""
        return [self._ends[index] + (self._circle if index < section.free[0] else 0) for index in section.free]

    def _borders(self, section: "_Section") -> tuple[int, int]:
        """The ends that stand still before and after it."""
        start = self._ends[section.gaps[0] - 1] - (self._circle if section.gaps[0] == 0 else 0)
        stop = self._ends[section.gaps[-1]]
        return start, stop + (self._circle if section.gaps[-1] < section.gaps[0] else 0)

    def _least_deviation(self, section: "_Section") -> int | None:
        """The threshold, or the least above it that can be; None if nothing can, so that all must stay as it is."""
        if self._possible(section, self._threshold):
            return self._threshold
        impossible, possible = self._threshold, max(2 * self._threshold, MILLION // 100)
        smallest = min((self.fair[index] for index in section.gaps if self.fair[index]), default=None)
        if smallest is None:
            return None
        most = int(MILLION * (self._slots.weight if self._slots else self._circle) / smallest)
        while not self._possible(section, possible):
            if possible > most:
                return None
            impossible, possible = possible, 2 * possible
        while possible - impossible > 1:
            middle = (impossible + possible) // 2
            if self._possible(section, middle):
                possible = middle
            else:
                impossible = middle
        return possible

    def _possible(self, section: "_Section", deviation: int) -> bool:
        gaps = self._gaps(section, deviation)
        if self._slots is None:
            start, stop = (0, self._circle) if section.closed else self._borders(section)
            lower, upper = _bounds(gaps)
            return all(least <= most for least, most in zip(lower, upper, strict=True)) and sum(
                lower
            ) <= stop - start <= sum(upper)
        if section.closed:
            return self._slots.any_round(gaps, self._ends[0])
        return self._slots.any_chain(gaps, *self._borders(section))

    def _cheapest(self, section: "_Section", deviation: int) -> list[int] | None:
        gaps, homes = self._gaps(section, deviation), self._homes(section)
        if self._slots is None:
            lower, upper = _bounds(gaps)
            if section.closed:
                return least_shift(homes, lower, upper, self._circle)
            start, stop = self._borders(section)
            return between(start, homes, lower, upper, stop)
        if section.closed:
            found = self._slots.cheapest_round(gaps, homes)
            self._proven &= found is None or found.proven
            return found and found.ends
        return self._slots.cheapest_chain(gaps, homes, *self._borders(section))


class _Section(NamedTuple):
    """Nodes that are balanced among themselves: the whole ring, or those after a pinned one up to the next."""

    gaps: Sequence[int]
    free: Sequence[int]
    """Those whose ends move: all, or all but the last."""
    closed: bool


def _sections(pinned: Sequence[bool]) -> Iterator[_Section]:
    count = len(pinned)
    still = [index for index in range(count) if pinned[index]]
    if not still:
        yield _Section(range(count), range(count), True)
    for index, following in zip(still, [*still[1:], *still[:1]], strict=True):
        gaps = [each % count for each in range(index + 1, following + 1 + (0 if following > index else count))]
        if len(gaps) > 1:
            yield _Section(gaps, gaps[:-1], False)


def _bounds(gaps: Sequence[Gap]) -> tuple[list[int], list[int]]:
    """The same for slots that are equal: one alone is as much as it can be."""
    return [gap.least for gap in gaps], [max(gap.most, 1) if gap.alone else gap.most for gap in gaps]


def _level(load: Sequence[int] | None, circle: int, powers: Sequence[int]) -> Fraction:
    """The load for one unit of capacity, when every slot that is more than a node's part has a node of its own."""
    count, capacity = sum(power > 0 for power in powers), sum(powers)
    if not capacity:
        return Fraction(0)
    rest, nodes = (circle if load is None else sum(load)), count
    for heavy in sorted(load or (), reverse=True)[: count - 1]:
        if heavy * nodes <= rest:
            break
        rest, nodes = rest - heavy, nodes - 1
    return Fraction(rest * count, nodes * capacity)


# ---- loads, owners and tokens


def _marks(load: Sequence[int] | None) -> Sequence[int] | None:
    """What lies before each slot, and at last before the end of all; None: one each."""
    return None if load is None else list(accumulate(load, initial=0))


def _between(marks: Sequence[int] | None, first: int, end: int) -> int:
    """What lies between two ends, less than 0 if the second is before the first."""
    if marks is None:
        return end - first
    laps, slot = divmod(end, len(marks) - 1)
    first_laps, first_slot = divmod(first, len(marks) - 1)
    return (laps - first_laps) * marks[-1] + marks[slot] - marks[first_slot]


def _loads(marks: Sequence[int] | None, ends: Sequence[int]) -> list[int]:
    return [_between(marks, previous, end) for previous, end in pairwise((ends[-1] - SLOTS, *ends))]


class _Owners:
    """Whose each place on a circle is, by index, when ranges end so."""

    def __init__(self, ends: Sequence[int], circle: int) -> None:
        # Of several ends at one place the first in their order has what is before it: the one that is laps ahead.
        order = sorted(range(len(ends)), key=lambda index: (*_on_circle(ends[index], circle), index))
        self._indices = order
        self.ends = [_on_circle(ends[index], circle)[0] for index in order]

    def of(self, end: int) -> int:
        """Who has what ends there and begins after the last end before."""
        return self._indices[bisect_left(self.ends, end) % len(self.ends)]


def _on_circle(end: int, circle: int) -> tuple[int, int]:
    """An end as 1 to circle, and how many laps before that it stands."""
    laps, place = divmod(end - 1, circle)
    return place + 1, -laps


def _tokens(places: Sequence[int], ends: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """Tokens for ends before slots: the old one where the end stays, else the last position before the slot.

    Several ends in one place get positions in their order, one after the other.
    """
    sharing: dict[int, list[int]] = {}
    for index in sorted(range(len(places)), key=lambda index: (*_on_circle(places[index], SLOTS), index)):
        sharing.setdefault(_on_circle(places[index], SLOTS)[0], []).append(index)
    chosen = list(tokens)
    for place, indices in sharing.items():
        if any(ends[index] != place for index in indices):
            for before_last, index in enumerate(reversed(indices)):
                chosen[index] = (place << SLOT_SHIFT) - 1 - before_last
    return chosen
