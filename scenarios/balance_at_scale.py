"""Compares ways to keep shares even, on rings of 10 to 10 000 nodes over months of joins, leaves and failures.

    python -m ringkeeper.scenarios.balance_at_scale [--sizes 10,100,1000,10000] [--weeks 13] [--seed 1] [--out FILE.svg]

No cluster and no messages: nodes stand on a circle whose length *is* the load, so a range is a node's part of it. Keys
are hashed evenly, in a cluster of neighbouring places (half of the load on a sixteenth of the hashes), or by Zipf's law
(of 4096 stretches the r-th heaviest has 1/r of the heaviest): a random hash falls where there are few keys as often as
where there are many. Each week nodes fail or leave (half of them in a year) and as many, and 2 % more, join; then every
way does what it does:

one token       stands where its hash falls, as 16 and 256 tokens do, which are a node's *virtual nodes*
first balancer  one token; who has less than half the mean moves to the middle of its own and its successor's range
Karger-Ruhl     one token; each node asks four others a week, and of two of which one has less than a quarter of the
                other that one moves into the middle of the other's range (Karger and Ruhl, SPAA 2004)
half of most    who joins halves the largest range, and nothing moves later: `relief`
balance         the same, then `balance.py`: within 25 % or, as it is by default, 5 %, with the least shifted

*Largest* is the largest share in means, the median over the weeks. *Moved* is what has another coordinator after a week
than before it, by what could not be avoided: the parts of those who went, or of those who came if that is more, were
all equal.

What it teaches is at the end of `README.md`, "How shares stay even".
"""

import argparse
import heapq
import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import accumulate, pairwise
from math import log2, log10
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import NamedTuple

from ..actors.rules.balance import balanced_ends, greedy

CIRCLE = 1 << 40
CELLS = 4096
"""Stretches of hashes within which the load is even."""
LEAVING_A_YEAR, WEEKS_A_YEAR = 0.5, 52
GROWTH_A_WEEK = 0.02
CONTACTS_A_WEEK = 4
TOO_LITTLE = 4
"""Karger-Ruhl: a node moves if another has so many times its load."""
LOOSE_THRESHOLD = 0.25
TOKENS_MAX = 600_000
"""A ring of more is not looked at."""

Hash = Callable[[], int]
"""Where the next random hash falls, on the circle of load."""


def hashes(load: str, dice: Random) -> Hash:
    """Random hashes over one of LOADS."""
    cells = [1.0] * CELLS
    if load == "clustered":
        cells[: CELLS // 16] = [15.0] * (CELLS // 16)
    elif load == "Zipf":
        ranks = list(range(1, CELLS + 1))
        Random(CELLS).shuffle(ranks)
        cells = [1 / rank for rank in ranks]
    before = list(accumulate(cells, initial=0.0))

    def hash() -> int:
        cell = dice.randrange(CELLS)
        return int((before[cell] + dice.random() * cells[cell]) / before[-1] * (CIRCLE - 1)) + 1

    return hash


LOADS = ("even", "clustered", "Zipf")


class Owned(NamedTuple):
    """Who has what: each range by its end, ascending from 1 to CIRCLE, and its node."""

    ends: list[int]
    nodes: list[int]

    def shares(self) -> dict[int, int]:
        found = dict.fromkeys(self.nodes, 0)
        for first, end, node in zip([self.ends[-1] - CIRCLE, *self.ends], self.ends, self.nodes, strict=False):
            found[node] += end - first
        return found


def owned(tokens: Iterable[tuple[int, int]]) -> Owned:
    ascending = sorted(tokens)
    return Owned([end for end, _ in ascending], [node for _, node in ascending])


def moved(before: Owned, after: Owned) -> int:
    """What has another owner."""
    total = start = old = new = 0
    while start < CIRCLE:
        old_end = before.ends[old] if old < len(before.ends) else CIRCLE
        new_end = after.ends[new] if new < len(after.ends) else CIRCLE
        end = min(old_end, new_end)
        if before.nodes[old % len(before.nodes)] != after.nodes[new % len(after.nodes)]:
            total += end - start
        old += old_end == end
        new += new_end == end
        start = end
    return total


@dataclass
class Way:
    """A way to place nodes, and one ring that lives by it."""

    name: str
    tokens: int
    hash: Hash
    dice: Random
    joins: Callable[["Way", Sequence[int]], None]
    tends: Callable[["Way", int], None] | None = None
    """What it does after joins and leaves; asked with the contacts of each node, which only one way needs."""
    ring: Owned = field(default_factory=lambda: Owned([], []))

    def week(self, leaving: set[int], joining: Sequence[int], contacts: int = CONTACTS_A_WEEK) -> None:
        kept = [(end, node) for end, node in zip(*self.ring, strict=True) if node not in leaving]
        self.ring = owned(kept)
        self.joins(self, joining)
        if self.tends:
            self.tends(self, contacts)


def by_hash(way: Way, joining: Sequence[int]) -> None:
    way.ring = owned(
        [*zip(*way.ring, strict=True), *((way.hash(), node) for node in joining for _ in range(way.tokens))]
    )


def into_the_largest(way: Way, joining: Sequence[int]) -> None:
    """Each takes the first half of the largest range; those who found a ring fall where they fall."""
    if not way.ring.ends:
        by_hash(way, joining)
        return
    ends = way.ring.ends
    largest = [(first - end, end) for first, end in pairwise([ends[-1] - CIRCLE, *ends])]
    heapq.heapify(largest)
    places = []
    for _ in joining:
        less, end = heapq.heappop(largest)
        middle = end + less // 2
        places.append((middle - 1) % CIRCLE + 1)
        heapq.heappush(largest, (end + less - middle, middle))
        heapq.heappush(largest, (middle - end, end))
    way.ring = owned([*zip(*way.ring, strict=True), *zip(places, joining, strict=True)])


def moves(way: Way, places: Sequence[int]) -> None:
    way.ring = owned(((place - 1) % CIRCLE + 1, node) for place, node in zip(places, way.ring.nodes, strict=True))


def by_first_balancer(way: Way, contacts: int) -> None:
    moves(way, greedy(way.ring.ends, CIRCLE)[0])


def by_balance(way: Way, contacts: int) -> None:
    moves(way, balanced_ends(way.ring.ends, CIRCLE))


def by_loose_balance(way: Way, contacts: int) -> None:
    moves(way, balanced_ends(way.ring.ends, CIRCLE, LOOSE_THRESHOLD))


def by_karger_ruhl(way: Way, contacts: int) -> None:
    ends, at = list(way.ring.ends), dict(zip(way.ring.ends, way.ring.nodes, strict=True))
    for _ in range(contacts * len(ends)):
        one, other = way.dice.choice(ends), way.dice.choice(ends)
        shares = []
        for end in (one, other):
            index = bisect_left(ends, end)
            shares.append(end - (ends[index - 1] if index else ends[-1] - CIRCLE))
        if shares[0] > shares[1]:
            one, other = other, one
        less, more = min(shares), max(shares)
        if less * TOO_LITTLE < more and one != other:
            place = (other - more // 2 - 1) % CIRCLE + 1
            del ends[bisect_left(ends, one)]
            insort(ends, place)
            at[place] = at.pop(one)
    way.ring = Owned(ends, [at[end] for end in ends])


def ways(load: str, seed: int) -> Iterator[Way]:
    def way(
        name: str, tokens: int, joins: Callable[[Way, Sequence[int]], None], tends: Callable[[Way, int], None] | None
    ) -> Way:
        dice = Random(f"{seed} {load} {name}")
        return Way(name, tokens, hashes(load, dice), dice, joins, tends)

    yield way("one token", 1, by_hash, None)
    yield way("16 tokens", 16, by_hash, None)
    yield way("256 tokens", 256, by_hash, None)
    yield way("first balancer", 1, by_hash, by_first_balancer)
    yield way("Karger-Ruhl", 1, by_hash, by_karger_ruhl)
    yield way("half of most", 1, into_the_largest, None)
    yield way("balance 25 %", 1, into_the_largest, by_loose_balance)
    yield way("balance", 1, into_the_largest, by_balance)


class Seen(NamedTuple):
    """One way, on one load, from one number of nodes on."""

    load: str
    way: str
    size: int
    largest: tuple[float, ...]
    """The largest share, in means, after each week; the first is that of the founders."""
    smallest: tuple[float, ...]
    moved: tuple[float, ...]
    """What each week moved, by what could not be avoided."""

    @property
    def in_short(self) -> tuple[float, float]:
        """The largest share in an ordinary week, and what one moves."""
        return median(self.largest[1:] or self.largest), mean(self.moved or (1.0,))


def lived(way: Way, load: str, size: int, weeks: int, seed: int) -> Seen:
    """What comes of a ring in so many weeks. Who comes and goes is the same for every way."""
    dice = Random(f"{seed} {size}")
    members, number = list(range(size)), size
    way.week(set(), members, contacts=CONTACTS_A_WEEK + round(log2(size)))
    largest, smallest, costs = [], [], []

    def look() -> None:
        shares = way.ring.shares()
        largest.append(max(shares.values()) * len(shares) / CIRCLE)
        smallest.append(min(shares.values()) * len(shares) / CIRCLE)

    look()
    for _ in range(weeks):
        # Whole nodes of an expected number that is not whole: the rest is thrown.
        leaving = int(len(members) * LEAVING_A_YEAR / WEEKS_A_YEAR + dice.random())
        joining = leaving + int(len(members) * GROWTH_A_WEEK + dice.random())
        gone = set(dice.sample(members, leaving))
        come = list(range(number, number + joining))
        number += joining
        before, count = way.ring, len(members)
        members = [each for each in members if each not in gone] + come
        way.week(gone, come)
        look()
        if gone or come:
            costs.append(moved(before, way.ring) / CIRCLE / max(leaving / count, joining / len(members)))
    return Seen(load, way.name, size, tuple(largest), tuple(smallest), tuple(costs))


# ---- told


def table(all_seen: Sequence[Seen]) -> str:
    lines = [f"{'load':10} {'nodes':>6}  {'way':15} {'largest':>8} {'worst':>8} {'smallest':>8} {'moved':>6}"]
    for seen in all_seen:
        largest, cost = seen.in_short
        lines.append(
            f"{seen.load:10} {seen.size:6}  {seen.way:15} {largest:8.2f} {max(seen.largest[1:] or seen.largest):8.2f}"
            f" {median(seen.smallest[1:] or seen.smallest):8.3f} {cost:6.2f}"
        )
    return "\n".join(lines)


WIDTH, HEIGHT, LEFT, TOP, ACROSS, DOWN = 280, 190, 56, 40, 340, 250
COLOURS = ("#8c6d52", "#9fc0dd", "#4e79a7", "#e15759", "#b6639b", "#f28e2b", "#76c7bb", "#1f7a6e")
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}.frame{fill:none;stroke:#ccc}"
    ".level{stroke:#e3e0d9}polyline{fill:none;stroke-width:1.8}rect.page{fill:#fbfaf7}"
)


def picture(all_seen: Sequence[Seen]) -> str:
    """Largest share, and what is moved, over the number of nodes, for each load: as SVG."""
    names = list(dict.fromkeys(seen.way for seen in all_seen))
    loads = list(dict.fromkeys(seen.load for seen in all_seen))
    parts = []
    for column, load in enumerate(loads):
        there = [seen for seen in all_seen if seen.load == load]
        for row, title in enumerate(("largest share ÷ mean", "moved ÷ unavoidable")):
            lines = {
                name: [(each.size, max(each.in_short[row], 0.1)) for each in there if each.way == name]
                for name in names
            }
            parts.append(_plot(f"{load} load: {title}", lines, LEFT + column * ACROSS, TOP + row * DOWN))
    width, height = LEFT + ACROSS * len(loads), TOP + 2 * DOWN + 30
    for index, name in enumerate(names):
        x = LEFT + index * (width - LEFT) // len(names)
        parts.append(
            f'<line x1="{x}" x2="{x + 18}" y1="{height - 18}" y2="{height - 18}" stroke="{COLOURS[index]}"'
            f' stroke-width="3"/><text x="{x + 23}" y="{height - 14}">{escape(name)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="Shares and what is moved, by number of nodes"><style>{STYLE}</style>'
        f'<rect class="page" width="{width}" height="{height}"/>{"".join(parts)}</svg>\n'
    )


def _plot(title: str, lines: dict[str, list[tuple[int, float]]], left: int, top: int) -> str:
    """One plot, both scales logarithmic."""
    points = [point for line in lines.values() for point in line]
    low_x, high_x = log10(min(x for x, _ in points)), log10(max(x for x, _ in points))
    low_y, high_y = 0.0, max(1.0, max(log10(y) for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - low_x) / ((high_x - low_x) or 1.0)
        up = (max(log10(y), low_y) - low_y) / (high_y - low_y)
        return round(left + WIDTH * across, 1), round(top + HEIGHT * (1 - up), 1)

    parts = [f'<text class="title" x="{left}" y="{top - 8}">{escape(title)}</text>']
    for decade in range(int(high_y) + 1):
        for level in (10**decade, 2 * 10**decade, 5 * 10**decade):
            if log10(level) <= high_y:
                _, y = at(10**low_x, level)
                parts.append(f'<path class="level" d="M{left} {y}h{WIDTH}"/>')
                parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{level}</text>')
    for size in sorted({x for x, _ in points}):
        x, _ = at(size, 1)
        parts.append(f'<text x="{x}" y="{top + HEIGHT + 15}" text-anchor="middle">{size}</text>')
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}"/>')
    for colour, (name, line) in zip(COLOURS, lines.items(), strict=False):
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in line))
        parts.append(f'<polyline points="{path}" stroke="{colour}"><title>{escape(name)}</title></polyline>')
        parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in (at(*point) for point in line)]
    return "".join(parts)


def compare(sizes: Sequence[int], weeks: int, seed: int, say: Callable[[str], None] = lambda text: None) -> list[Seen]:
    """Every way, on every load, from every number of nodes on that is not too much for it."""
    all_seen = []
    for load in LOADS:
        for size in sizes:
            for way in ways(load, seed):
                if way.tokens * size <= TOKENS_MAX:
                    say(f"{load}, {size} nodes: {way.name}")
                    all_seen.append(lived(way, load, size, weeks, seed))
    return all_seen


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="10,100,1000,10000", help="numbers of nodes, with commas")
    parser.add_argument("--weeks", type=int, default=13)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("balance.svg"), help="where to draw it")
    chosen = parser.parse_args(arguments)
    sizes = [int(size) for size in chosen.sizes.split(",")]
    all_seen = compare(sizes, chosen.weeks, chosen.seed, lambda text: print(text, file=sys.stderr))
    chosen.out.write_text(picture(all_seen), encoding="utf-8")
    print(table(all_seen))


if __name__ == "__main__":
    main()
