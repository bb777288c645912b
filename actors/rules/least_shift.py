"""Moves points on a circle as little as possible until every gap between neighbours lies within its bounds, exactly.

n points stand at ``ends`` on a circle of circumference W, in an order that does not change; gap i reaches from point
i - 1 to point i, gap 0 from the last point round to point 0. Wanted are new places x with

    lower[i] <= x[i] - x[i - 1] <= upper[i]     and the smallest   sum of |x[i] - ends[i]|.

All numbers are whole, of any size, so nothing is rounded. The constraints are differences, hence totally unimodular:
that the places are whole costs nothing, and a linear program finds no smaller sum.

**A chain**, between two points that stand still, is solved by going along it once. ``f_i(x)`` is the least sum up to
point i if that stands at x: convex and piecewise linear, so it is known by where its slope changes, kept as two heaps:
the places where it falls less steeply up to its valley, and those where it rises more steeply after it. One step along
a gap moves the first by the gap's least and the second by its most, one number each; adding ``|x - end|`` costs two
heap operations. Back from the far end each point takes the best place that the one after it leaves open. O(n log n).
("Slope trick"; the same shape as the pool of isotonic regression in L1.)

**The circle** is cut at point 0. Say it stands at s; the rest is a chain from s to s + W, of cost h(s), and
``g(s) = |s - ends[0]| + h(s)``. As the least value of a linear program in which s is a right-hand side, g is convex.
So s is best as soon as ``g(s - 1) >= g(s) <= g(s + 1)``: three chains *prove* it. It is guessed by laying the circle
out several times in a row and solving that as one chain, cut where it hurts least: in the middle, where the ends are
farthest. Where the guess is wrong, two tangents of g enclose the best s and their intersection is the next to try,
every other time the middle between them, so that this ends after 2 log W steps at the latest. And s lies no farther
from ``ends[0]`` than ``g(ends[0])``, since the first term of g alone would be more.

**Points that stand still** cut the circle by themselves: each stretch between two of them is a chain.
"""

from collections.abc import Callable, Sequence
from functools import cache
from heapq import heappush, heappushpop
from typing import NamedTuple

__all__ = ["between", "cost_of_cuts", "least_shift"]

LAPS = 5
"""So many times the circle is laid out to guess where it may be cut."""


def least_shift(ends: Sequence[int], lower: Sequence[int], upper: Sequence[int], circle: int) -> list[int] | None:
    """The new places of all points; None if there are none within the bounds.

    ``ends`` ascend and span no more than ``circle``. Places are not taken modulo ``circle``: a point that crosses the
    seam is below 0 or above ``circle``. The same input gives the same answer, always.
    """
    if len(ends) == 1 and lower[0] <= circle <= upper[0]:
        return [ends[0]]
    if (
        sum(lower) > circle
        or sum(upper) < circle
        or any(least > most for least, most in zip(lower, upper, strict=True))
    ):
        return None
    cost = cost_of_cuts(ends, lower, upper, circle)
    start = _lowest(cost, _guess(ends, lower, upper, circle), ends[0])
    within = between(start, ends[1:], [*lower[1:], lower[0]], [*upper[1:], upper[0]], start + circle)
    assert within is not None
    return [start, *within]


def cost_of_cuts(ends: Sequence[int], lower: Sequence[int], upper: Sequence[int], circle: int) -> Callable[[int], int]:
    """The least sum with point 0 at a given place, as a function of that; for bounds that `least_shift` can keep."""
    rest, inner_lower, inner_upper = ends[1:], [*lower[1:], lower[0]], [*upper[1:], upper[0]]

    @cache
    def cost(start: int) -> int:
        chain = _along(start, rest, inner_lower, inner_upper, start + circle)
        assert chain is not None, "a circle whose bounds allow for it can be cut anywhere"
        return abs(start - ends[0]) + chain.cost

    return cost


def between(start: int, ends: Sequence[int], lower: Sequence[int], upper: Sequence[int], stop: int) -> list[int] | None:
    """The same for a chain: ``ends`` between two points that stand still, with one gap more than ends."""
    chain = _along(start, ends, lower, upper, stop)
    if chain is None:
        return None
    places = []
    after = stop
    for index in range(len(ends) - 1, -1, -1):
        low, high = chain.valleys[index]
        best = min(max(ends[index], low), high)
        after = min(max(best, after - upper[index + 1]), after - lower[index + 1])
        places.append(after)
    return places[::-1]


class _Chain(NamedTuple):
    cost: int
    valleys: list[tuple[int, int]]
    """Where each point would stand best if nothing came after it."""


def _along(start: int, ends: Sequence[int], lower: Sequence[int], upper: Sequence[int], stop: int) -> _Chain | None:
    """Solve a chain forwards; None when the gaps cannot reach from start to stop."""
    falling: list[int] = []
    """Where the slope changes before the valley, negated, without ``low``; a heap with the last of them on top."""
    rising: list[int] = []
    """The same after the valley, without ``high``."""
    low = high = start
    """How far the point can stand; there the slope is infinite. Since ends beyond them are taken as being there, they
    are also how far all places in the heaps have moved, counted from the start."""
    cost = 0
    valleys = []
    for end, least, most in zip(ends, lower, upper, strict=False):
        if least > most:
            return None
        low += least
        high += most
        near = low if end < low else high if end > high else end
        cost += abs(end - near)
        if falling and near < low - falling[0]:
            cost += low - falling[0] - near
        elif rising and near > high + rising[0]:
            cost += near - high - rising[0]
        heappush(rising, low - heappushpop(falling, low - near) - high)
        heappush(falling, low - high - heappushpop(rising, near - high))
        valleys.append((low - falling[0], high + rising[0]))
    last = len(ends)
    first_open, last_open = max(low, stop - upper[last]), min(high, stop - lower[last])
    if first_open > last_open:
        return None
    if falling and last_open < low - falling[0]:
        cost += sum(low - each - last_open for each in falling if low - each > last_open)
    elif rising and first_open > high + rising[0]:
        cost += sum(first_open - high - each for each in rising if high + each < first_open)
    return _Chain(cost, valleys)


def _guess(ends: Sequence[int], lower: Sequence[int], upper: Sequence[int], circle: int) -> int:
    """Where point 0 stands in the middle of several laps in a row that begin and end with it."""
    laps = [end + lap * circle for lap in range(LAPS) for end in ends][1:]
    gaps = len(laps) + 1
    repeated = [[*(bounds[index % len(ends)] for index in range(1, gaps)), bounds[0]] for bounds in (lower, upper)]
    places = between(ends[0], laps, repeated[0], repeated[1], ends[0] + LAPS * circle)
    assert places is not None
    lap = LAPS // 2
    return places[lap * len(ends) - 1] - lap * circle


def _lowest(cost: Callable[[int], int], guess: int, home: int) -> int:
    """The place nearest to the guess at which a convex function is lowest, which is no lower than ``|x - home|``."""

    def slope(at: int) -> int:
        return cost(at + 1) - cost(at)

    if slope(guess - 1) <= 0 <= slope(guess):
        return guess
    below, above = min(guess, home - cost(home)), max(guess, home + cost(home))
    if slope(guess) < 0:
        below = guess + 1
    else:
        above = guess - 1
    halve = False
    while below < above:
        # The lowest place is between these two, both included. Left of it the slope is negative.
        down, up = slope(below), slope(above - 1)
        if down >= 0:
            return below
        if up <= 0:
            return above
        crossing = (cost(above) - cost(below) + below * down - above * up) // (down - up)
        middle = (below + above) // 2 if halve else min(max(crossing, below), above - 1)
        halve = not halve
        if slope(middle) < 0:
            below = middle + 1
        elif middle > below and slope(middle - 1) > 0:
            above = middle
        else:
            return middle
    return below
