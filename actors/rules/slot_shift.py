"""Moves the ends of ranges as little as possible when what lies between them comes in slots of unequal weight, exactly.

This is `least_shift.py` where an end can stand only between two slots, and slots are not equally heavy: shares are sums
of slots' weights, and moving an end costs the weight of the slots that it passes. The places are then no grid any
more, the costs not convex along them, and a range may have to be a single slot that is too heavy for anybody.

What remains is order. Whether ``range (e', e]`` is allowed depends on e' and e only through bounds that ascend with e:
``first(e) <= e' <= last(e)``. So with two allowed rounds of ends the smaller of both, end by end, is one as well, and
so is the larger: all allowed rounds are a lattice, and the costs of the smaller and the larger are together those of
the two. Everything here follows:

*   Of all allowed rounds whose ends are at most given ones there is a greatest. It is found by lowering every end that
    is too high for its neighbours until none is (`greatest`), which answers for all cuts of the circle at once.
*   Cut where end 0 stands at s, the best round is found by going along the ends once, with the best cost for each
    place that an end can take, over the window of those before it (`_cheapest_from`).
*   If x is best for s, then for every higher s there is a best round nowhere below x, and for every lower one nowhere
    above it. So once the lowest and the highest cut that matter have been tried, all others are between two rounds,
    and are tried by halves, each time between closer ones.
*   Where two such rounds have some end in the same place, every cut between them has a best round with that end there:
    cut there, one way along the ends finds the best of them all (`_cheapest_through`). What a cut does to the ends does
    not reach far around the circle, so this is nearly always so, and five ways along the ends do.
*   Ends that may stand anywhere (`least_shift`) cost no more than ends that may not. That bound is convex in s and
    leaves only the cuts that can still be best.

Among rounds of the same cost those are best that pass fewest slots: empty slots weigh nothing, and yet their ends stay.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from .least_shift import cost_of_cuts, least_shift

__all__ = ["Gap", "Slots"]

PLACES_MAX = 16_000_000
"""Once so many places of ends have been looked at, the best round found so far is good enough: ten seconds. A
thousand nodes under a Zipf load, where one slot weighs more than the parts of many nodes, need 12 million."""

LAPS = 4
"""Ends move within so many laps: one below 0, three above."""

NEVER: Final = -1
"""The cost of what cannot be, and the way there."""


class Gap(NamedTuple):
    """What one node's range may weigh."""

    least: int
    most: int
    """More only if no more than one slot in the range weighs anything: that one cannot be divided."""
    alone: bool = True
    """Whether that exception is made. If not, and ``most`` is 0, the range has no slot, not even an empty one."""


class Round(NamedTuple):
    """Where the ends of a circle stand best."""

    ends: list[int]
    proven: bool
    """False: PLACES_MAX ended the search before every cut was either tried or known to be no better."""


class Slots:
    """A circle of slots with their weights, whole numbers. An end e, counted from 0, stands before slot e; those below
    0 and above the number of slots are the same places one lap before and after."""

    def __init__(self, weights: Sequence[int]) -> None:
        self.count = len(weights)
        self.heaviest = max(weights)
        self.weight = sum(weights)
        # Comparing "weight, then slots passed" is comparing one number: a slot counts 1 beside its weight, and a
        # unit of weight more than all slots that all ends can pass.
        self._unit = (LAPS * self.count) * (LAPS * self.count)
        self._first = -self.count
        self._marks = list(accumulate([weight * self._unit + 1 for weight in weights] * LAPS, initial=0))
        """What lies before each place, from one lap below 0 to three above."""
        weighty, places = [slot for slot, weight in enumerate(weights) if weight], LAPS * self.count
        heavy = [-1, -1, *[lap * self.count + slot for lap in range(LAPS) for slot in weighty], places, places]
        self._first_with_one: list[int] = []
        """Of each place the farthest place before it with no more than one slot that weighs anything between them."""
        self._last_with_one: list[int] = []
        """The same after it."""
        for before, last, place, after in zip(heavy, heavy[1:], heavy[2:], heavy[3:], strict=False):
            self._first_with_one += [before + 1] * (place - last)
            self._last_with_one += [after] * (place - last)

    def weight_between(self, end: int, other: int) -> int:
        """What lies between two ends, not negative."""
        return abs(self._marks[other - self._first] - self._marks[end - self._first]) // self._unit

    def indivisible(self, end: int, other: int) -> bool:
        """Whether no more than one slot between two ends weighs anything."""
        return self._last_with_one[end - self._first] >= other - self._first

    # ---- which rounds are allowed

    def any_round(self, gaps: Sequence[Gap], top: int) -> bool:
        """Whether the circle can be divided so, gap i before end i, wherever the ends are."""
        inner = [*gaps[1:], gaps[0]]
        return self.greatest(inner, [top] + [top + self.count] * len(gaps)) is not None

    def any_chain(self, gaps: Sequence[Gap], start: int, stop: int) -> bool:
        """The same between two ends that stand still."""
        return self.greatest(gaps, [start] + [stop] * len(gaps), start=start) is not None

    def greatest(self, gaps: Sequence[Gap], tops: Sequence[int], *, start: int | None = None) -> list[int] | None:
        """The greatest allowed ends that are nowhere above ``tops``: gap i is from end i to end i + 1.

        With ``start`` a chain: its first end stands there, its last at its top. Otherwise a round: the last end is the
        first one a lap further, and the first is less than a lap below its top. None: there are no such ends.
        """
        marks = self._marks
        ends = [end - self._first for end in tops]
        top = ends[-1]
        floor = ends[0] - self.count + 1 if start is None else start - self._first
        bounds = self._bounds(gaps)
        while True:
            for index, (least, most, alone) in enumerate(bounds):
                end, previous = ends[index + 1], ends[index]
                reach = bisect_right(marks, marks[previous] + most) - 1
                if alone and self._last_with_one[previous] > reach:
                    reach = self._last_with_one[previous]
                end = min(end, reach)
                while end >= floor and not self._can_end(end, least, most, alone):
                    end -= 1
                if end < floor:
                    return None
                ends[index + 1] = end
            settled = True
            for index in range(len(bounds) - 1, -1, -1):
                reach = bisect_right(marks, marks[ends[index + 1]] - bounds[index][0]) - 1
                if reach < ends[index]:
                    ends[index] = reach
                    settled = False
            if start is None:
                lap = min(ends[0], ends[-1] - self.count)
                settled &= lap == ends[0] == ends[-1] - self.count
                ends[0], ends[-1] = lap, lap + self.count
            if ends[0] < floor or (start is not None and ends[-1] < top):
                return None
            if settled:
                return [end + self._first for end in ends]

    def _can_end(self, end: int, least: int, most: int, alone: bool) -> bool:
        """Whether any range that ends here is allowed."""
        previous = bisect_right(self._marks, self._marks[end] - least, 0, end + 1) - 1
        if previous < 0:
            return False
        return self._marks[end] - self._marks[previous] <= most or (alone and previous >= self._first_with_one[end])

    # ---- the cheapest of them

    def cheapest_chain(self, gaps: Sequence[Gap], homes: Sequence[int], start: int, stop: int) -> list[int] | None:
        """The ends between two that stand still, with the least weight passed from their ``homes``."""
        found = self._cheapest_from(start, stop, gaps, homes)
        return found and found[1][1:-1]

    def cheapest_round(self, gaps: Sequence[Gap], homes: Sequence[int]) -> Round | None:
        """All ends of a circle, gap i before end i, with the least weight passed; None: no round is allowed.

        End 0 goes once around at most.
        """
        inner = [*gaps[1:], gaps[0]]
        free = len(homes) - 1
        if not self.any_round(gaps, homes[0]):
            return None
        bound = _LowerBound(self, gaps, homes)
        best_cost, best = 0, None
        worked, middle, skipping = 0, bound.lowest, False
        pending: list[tuple[int, int, list[int] | None, list[int] | None]] = [
            (homes[0] - self.count + 1, homes[0] + self.count - 1, None, None)
        ]
        """Cuts still to be tried, first and last, with the best rounds found below and above them."""
        while pending:
            low, high, floor, ceiling = pending.pop()
            if best is not None:
                low, high = bound.cuts_below(best_cost, low, high)
            if low > high:
                continue
            if floor is not None and ceiling is not None and (common := _common(floor, ceiling)) is not None:
                through = self._cheapest_through(common, (low, high), inner, homes, floor, ceiling)
                if through is not None:
                    worked += through[2]
                    if best is None or through[0] < best_cost:
                        best_cost, best = through[:2]
                continue
            if best is not None and worked > PLACES_MAX:
                return Round(best, False)
            if best is None and low <= middle <= high:
                pass
            elif ceiling is None and floor is not None:
                middle = high  # so that all others are between two rounds
            elif floor is None and ceiling is not None and not skipping:
                middle = low
            else:
                middle = (low + high) // 2
            tops = [middle, *(ceiling[1:-1] if ceiling else [middle + self.count] * free), middle + self.count]
            allowed = self.greatest(inner, tops)
            skipping = allowed is None or allowed[0] < low
            if allowed is None or skipping:
                pending.append((middle + 1, high, floor, ceiling))
                continue
            start = allowed[0]
            found = self._cheapest_from(start, start + self.count, inner, homes[1:], floor, ceiling)
            assert found is not None, "an allowed round is between those that enclose it"
            worked += found[2]
            cost = found[0] + self._passed(homes[0], start)
            if best is None or cost < best_cost:
                best_cost, best = cost, found[1][:-1]
            pending += [(low, start - 1, floor, found[1]), (middle + 1, high, found[1], ceiling)]
        return None if best is None else Round(best, True)

    def _cheapest_through(
        self,
        fixed: int,
        cuts: tuple[int, int],
        inner: Sequence[Gap],
        homes: Sequence[int],
        floor: Sequence[int],
        ceiling: Sequence[int],
    ) -> tuple[int, list[int], int] | None:
        """What the cheapest round costs whose end 0 is one of the cuts, its ends, and how many places were looked at
        for it: between two rounds that have the end ``fixed`` in the same place."""
        lows, highs = [cuts[0], *floor[1:-1]], [cuts[1], *ceiling[1:-1]]
        place = floor[fixed]
        found = self._cheapest_from(
            place,
            place + self.count,
            [*inner[fixed:], *inner[:fixed]],
            self._from(fixed, homes)[1:-1],
            self._from(fixed, lows),
            self._from(fixed, highs),
        )
        if found is None:
            return None
        cost, ends, worked = found
        first = len(homes) - fixed
        return (
            cost + self._passed(homes[fixed], place),
            [*(end - self.count for end in ends[first:-1]), *ends[:first]],
            worked,
        )

    def _from(self, fixed: int, ends: Sequence[int]) -> list[int]:
        """The ends of a round from one of them to the same a lap further."""
        return [*ends[fixed:], *(end + self.count for end in ends[: fixed + 1])]

    def _cheapest_from(
        self,
        start: int,
        stop: int,
        gaps: Sequence[Gap],
        homes: Sequence[int],
        floor: Sequence[int] | None = None,
        ceiling: Sequence[int] | None = None,
    ) -> tuple[int, list[int], int] | None:
        """What the cheapest chain costs, all its ends, and how many places were looked at for it.

        No end is below ``floor`` or above ``ceiling``.
        """
        marks = self._marks
        bounds = self._bounds(gaps)
        lows, highs = self._reach(start, stop, bounds, floor, ceiling)
        at_home = [marks[home - self._first] for home in (*homes, stop)]
        base, costs = lows[0], [0]
        """The cost of each place that the end before can have, from place base on; NEVER where it cannot stand."""
        ways: list[list[int]] = []
        """For each end but the first, where the one before stands best for each of its places."""
        for index, (least, most, alone) in enumerate(bounds):
            low, high, home = lows[index + 1], highs[index + 1], at_home[index]
            window: deque[int] = deque()
            """Places of the end before that this one may choose from, their costs ascending."""
            coming, limit = base, base + len(costs)
            reached, way = [], []
            for place in range(low, high + 1):
                here = marks[place]
                heaviest_mark, lightest_mark = here - most, here - least
                while coming < limit and marks[coming] <= lightest_mark:
                    new = costs[coming - base]
                    if new != NEVER:
                        while window and costs[window[-1] - base] > new:
                            window.pop()
                        window.append(coming)
                    coming += 1
                while (
                    window
                    and marks[window[0]] < heaviest_mark
                    and not (alone and window[0] >= self._first_with_one[place])
                ):
                    window.popleft()
                if window:
                    reached.append(costs[window[0] - base] + abs(here - home))
                    way.append(window[0])
                else:
                    reached.append(NEVER)
                    way.append(NEVER)
            base, costs = low, reached
            ways.append(way)
        if not costs or costs[-1] == NEVER:
            return None
        ends = [stop - self._first]
        for index in range(len(bounds) - 1, -1, -1):
            ends.append(ways[index][ends[-1] - lows[index + 1]])
        return costs[-1], [end + self._first for end in reversed(ends)], sum(map(len, ways))

    def _reach(
        self,
        start: int,
        stop: int,
        bounds: Sequence[tuple[int, int, bool]],
        floor: Sequence[int] | None,
        ceiling: Sequence[int] | None,
    ) -> tuple[list[int], list[int]]:
        """The lowest and the highest place of every end that may be reached from both sides; as indices of marks."""
        marks, offset, last = self._marks, -self._first, len(bounds)
        lows, highs = [start + offset], [start + offset]
        for index, (least, most, alone) in enumerate(bounds, 1):
            low = bisect_left(marks, marks[min(lows[-1], len(marks) - 1)] + least)
            high = bisect_right(marks, marks[highs[-1]] + most) - 1
            if alone:
                high = max(high, self._last_with_one[highs[-1]])
            lows.append(max(low, floor[index] + offset) if floor else low)
            highs.append(min(high, ceiling[index] + offset) if ceiling else high)
        lows[last], highs[last] = max(lows[last], stop + offset), min(highs[last], stop + offset)
        for index in range(last - 1, -1, -1):
            least, most, alone = bounds[index]
            after = min(lows[index + 1], len(marks) - 1)
            low = bisect_left(marks, marks[after] - most)
            if alone:
                low = min(low, self._first_with_one[after])
            lows[index] = max(lows[index], low)
            highs[index] = min(highs[index], bisect_right(marks, marks[highs[index + 1]] - least) - 1)
        return lows, highs

    def _bounds(self, gaps: Sequence[Gap]) -> list[tuple[int, int, bool]]:
        """The same for marks: however many slots make up a weight, but none for who is to have nothing."""
        unit = self._unit
        return [
            (gap.least * unit, gap.most * unit + (unit - 1 if gap.alone or gap.most else 0), gap.alone) for gap in gaps
        ]

    def _passed(self, end: int, other: int) -> int:
        return abs(self._marks[other - self._first] - self._marks[end - self._first])


def _common(floor: Sequence[int], ceiling: Sequence[int]) -> int | None:
    """An end that two rounds have in the same place, other than end 0."""
    return next((index for index in range(1, len(floor) - 1) if floor[index] == ceiling[index]), None)


class _LowerBound:
    """What a round that is cut at a given place costs at least: as much as if ends could stand anywhere."""

    def __init__(self, slots: Slots, gaps: Sequence[Gap], homes: Sequence[int]) -> None:
        self._marks, self._first = slots._marks, slots._first
        ends = [self._marks[home - self._first] for home in homes]
        relaxed = [gap._replace(most=max(gap.most, slots.heaviest)) if gap.alone else gap for gap in gaps]
        lower, upper, _ = zip(*slots._bounds(relaxed), strict=True)
        circle = slots._marks[slots.count]
        self._cost = cost_of_cuts(ends, lower, upper, circle)
        places = least_shift(ends, lower, upper, circle)
        assert places is not None, "what is allowed of slots is allowed of any place"
        nearest = bisect_left(self._marks, places[0]) + self._first
        self.lowest = min(max(nearest, homes[0] - slots.count + 1), homes[0] + slots.count - 1)
        """The cut from which on costs rise; they fall up to the one before it."""

    def cuts_below(self, cost: int, low: int, high: int) -> tuple[int, int]:
        """Those of the cuts from low to high that may cost less than that."""
        falling = range(low, min(self.lowest, high + 1))
        rising = range(max(self.lowest, low), high + 1)
        if falling:
            low += bisect_left(falling, True, key=lambda cut: self._at(cut) < cost)
        if rising:
            high = rising.start - 1 + bisect_left(rising, True, key=lambda cut: self._at(cut) >= cost)
        elif falling and low == falling.stop:
            high = low - 1
        return low, high

    def _at(self, cut: int) -> int:
        return self._cost(self._marks[cut - self._first])
