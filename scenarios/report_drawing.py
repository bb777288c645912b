"""Draws the pictures of a report as SVG: what clients saw over time, rings, and the operations that are evidence.

Pure: values in, text out, equal values give equal text. Colours are classes and variables of ``report.css``, so that a
picture is right on a light page, on a dark one and on paper; every part says in a ``<title>`` what it is. All plots
over time have the same scale, so they may stand below each other.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from ..actors.rules.ring import Ring
from ..actors.rules.slots import SLOTS, Run, runs
from .history import OUTCOMES, History, Operation
from .stage import Moment

PLOT_WIDTH = 1000
PLOT_LEFT, PLOT_RIGHT = 64, 16
"""Room beside a plot, for the scale."""
AVAILABILITY_HEIGHT, LATENCY_HEIGHT, STORY_HEIGHT = 120, 150, 46

BIN_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
BINS_MAX = 450
"""A plot has the finest bins of these that are so few."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLOURS = 12
"""So many colours for nodes are in the style sheet; then they begin again."""

LETTER_SLOTS_MIN = SLOTS // 40
"""A smaller arc has no room for its letter."""

LANE_HEIGHT = 20
EVIDENCE_LANES_MAX, EVIDENCE_OPERATIONS_MAX = 12, 40


class Scale(NamedTuple):
    """Where a moment of the run stands in a plot."""

    begin: float
    end: float

    def x(self, at: float) -> float:
        part = (at - self.begin) / (self.end - self.begin)
        return PLOT_LEFT + (PLOT_WIDTH - PLOT_LEFT - PLOT_RIGHT) * min(1.0, max(0.0, part))


@dataclass(slots=True)
class Bin:
    """What clients saw in a stretch of time."""

    ok: int = 0
    no: int = 0
    maybe: int = 0
    latencies: list[float] = field(default_factory=list)
    """Of what was done, in seconds, ascending."""


class Bins(NamedTuple):
    """The whole run in stretches of ``seconds``. An operation counts when its client learned of its outcome; one that
    was never answered, when it began."""

    seconds: float
    bins: tuple[Bin, ...]


def binned(history: History, seconds: float) -> Bins:
    """What clients saw in a run that was so long."""
    width = next((each for each in BIN_SECONDS if seconds / each <= BINS_MAX), seconds / BINS_MAX)
    bins = tuple(Bin() for _ in range(max(1, math.ceil(seconds / width))))
    for each in history:
        moment = each.invoked if each.completed is None else each.completed
        into = bins[min(len(bins) - 1, max(0, int(moment / width)))]
        if each.outcome == "ok" and each.completed is not None:
            into.ok += 1
            into.latencies.append(each.completed - each.invoked)
        elif each.outcome == "not":
            into.no += 1
        else:
            into.maybe += 1
    for into in bins:
        into.latencies.sort()
    return Bins(width, bins)


def percentile(ascending: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of the values does not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(part * len(ascending)) - 1)]


def duration(seconds: float) -> str:
    """A time for people: three digits and a unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 0.9995 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError("the last unit takes everything")


# Plots over time


def story_plot(timeline: Sequence[Moment], rings: Sequence[tuple[float, Ring]], scale: Scale) -> str:
    """The moments of the timeline by their numbers, and below them which ring was in force."""
    parts = []
    last = -math.inf
    for number, moment in enumerate(timeline, 1):
        x = scale.x(moment.at)
        title = f"<title>{moment.at:.3f} s: {escape(moment.sentence)}</title>"
        parts.append(f'<g class="moment" data-at="{moment.at!r}">{title}<path d="M{x:.1f} 16V24"/>')
        if x - last >= 16:
            parts.append(f'<text x="{x:.1f}" y="12" text-anchor="middle">{number}</text>')
            last = x
        parts.append("</g>")
    for index, (at, ring) in enumerate(rings):
        begin, end = scale.x(at), scale.x(rings[index + 1][0] if index + 1 < len(rings) else scale.end)
        change = f", {ring.change.wish} in {ring.change.phase}" if ring.change is not None else ""
        title = f"<title>ring {ring.epoch} from {at:.3f} s{escape(change)}</title>"
        kind = "flight" if ring.change is not None else "rest"
        width = max(0.8, end - begin)
        parts.append(f'<g class="epoch {kind}">{title}<rect x="{begin:.1f}" y="26" width="{width:.1f}" height="16"/>')
        label = f"ring {ring.epoch}"
        if width > 7 * len(label):
            parts.append(f'<text x="{begin + 5:.1f}" y="38">{label}</text>')
        parts.append("</g>")
    label = f'<text class="scale" x="{PLOT_LEFT - 6}" y="38" text-anchor="end">ring</text>' if rings else ""
    return _plot("story", STORY_HEIGHT, "the moments of the timeline, and the rings", "".join((label, *parts)))


def availability_plot(bins: Bins, timeline: Iterable[Moment], scale: Scale) -> str:
    """Operations done, refused and in doubt, over time."""
    most = max((each.ok + each.no + each.maybe for each in bins.bins), default=0)
    top = _round_up(most)
    bottom, height = AVAILABILITY_HEIGHT - 8, AVAILABILITY_HEIGHT - 20
    parts = [_moments(timeline, scale, bottom)]
    for tick in sorted({0, top // 2, top}):
        parts.append(_level(bottom - height * tick / top, str(tick)))
    for number, each in enumerate(bins.bins):
        if not each.ok + each.no + each.maybe:
            continue
        begin, end = bins.seconds * number, bins.seconds * (number + 1)
        x, width = scale.x(begin), scale.x(end) - scale.x(begin)
        title = f"{begin:g} to {end:g} s: {each.ok} done, {each.no} not done, {each.maybe} in doubt"
        parts.append(f"<g><title>{title}</title>")
        below = 0
        for name, count in (("ok", each.ok), ("maybe", each.maybe), ("not", each.no)):
            if count:
                tall = height * count / top
                y = bottom - height * below / top - tall
                parts.append(_rect(name, x, y, max(0.8, width - 0.3), tall))
                below += count
        parts.append("</g>")
    return _plot("availability", AVAILABILITY_HEIGHT, "operations over time", "".join(parts))


def latency_plot(bins: Bins, timeline: Iterable[Moment], scale: Scale) -> str:
    """How long operations took that were done, half of them and nearly all, on a logarithmic scale."""
    bottom, height = LATENCY_HEIGHT - 22, LATENCY_HEIGHT - 34
    parts = [_moments(timeline, scale, bottom)]
    known = [each.latencies for each in bins.bins if each.latencies]
    if known:
        low = math.floor(math.log10(max(1e-6, min(each[0] for each in known))))
        high = max(low + 1, math.ceil(math.log10(max(1e-6, max(each[-1] for each in known)))))

        def y(seconds: float) -> float:
            return bottom - height * (math.log10(max(1e-6, seconds)) - low) / (high - low)

        parts += [_level(y(10.0**power), duration(10.0**power)) for power in range(low, high + 1)]
        for name, part in (("p99", 0.99), ("p50", 0.5)):
            parts.append(f'<path class="{name}" d="{_steps(bins, scale, part, y)}"/>')
        for number, each in enumerate(bins.bins):
            if each.latencies:
                begin, end = bins.seconds * number, bins.seconds * (number + 1)
                p50, p99 = (duration(percentile(each.latencies, part)) for part in (0.5, 0.99))
                title = (
                    f"{begin:g} to {end:g} s: half took at most {p50}, 99 % at most {p99} ({len(each.latencies)} done)"
                )
                x, width = scale.x(begin), scale.x(end) - scale.x(begin)
                box = _rect("touch", x, bottom - height, max(0.8, width), height)
                parts.append(f"<g><title>{title}</title>{box}</g>")
    else:
        parts.append(f'<text class="scale" x="{PLOT_WIDTH / 2}" y="{bottom / 2}" text-anchor="middle">nothing</text>')
    for tick in _ticks(scale.begin, scale.end, 10):
        x = scale.x(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(f'<text class="scale" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g} s</text>')
    return _plot("latency", LATENCY_HEIGHT, "latency over time", "".join(parts))


def _steps(bins: Bins, scale: Scale, part: float, y: Callable[[float], float]) -> str:
    """The line of a percentile: level over its bin, broken where nothing was done."""
    path, before = [], False
    for number, each in enumerate(bins.bins):
        if each.latencies:
            begin, end = scale.x(bins.seconds * number), scale.x(bins.seconds * (number + 1))
            path.append(f"{'L' if before else 'M'}{begin:.1f} {y(percentile(each.latencies, part)):.1f}H{end:.1f}")
        before = bool(each.latencies)
    return "".join(path)


def _moments(timeline: Iterable[Moment], scale: Scale, bottom: float) -> str:
    places = sorted({round(scale.x(moment.at), 1) for moment in timeline})
    return f'<path class="moments" d="{"".join(f"M{x} 0V{bottom}" for x in places)}"/>'


def _level(y: float, label: str) -> str:
    line = f'<path class="level" d="M{PLOT_LEFT} {y:.1f}H{PLOT_WIDTH - PLOT_RIGHT}"/>'
    return f'{line}<text class="scale" x="{PLOT_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _rect(name: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _plot(id: str, height: float, label: str, content: str) -> str:
    box = f'viewBox="0 0 {PLOT_WIDTH} {height}"'
    return f'<svg id="{id}" class="plot" {box} role="img" aria-label="{label}">{content}</svg>'


def _round_up(count: int) -> int:
    """The next number that looks well on a scale and can be halved."""
    size = int(f"1{'0' * (len(str(max(1, count))) - 1)}")
    return next(step * size for step in (2, 4, 6, 8, 10, 20) if step * size >= count)


def _ticks(begin: float, end: float, count_max: int) -> Iterator[float]:
    power = 10.0 ** math.floor(math.log10((end - begin) / count_max))
    step = next(power * factor for factor in (1, 2, 5, 10) if (end - begin) / (power * factor) <= count_max)
    number = math.ceil(begin / step)
    while number * step <= end:
        yield round(number * step, 9)
        number += 1


# Rings


def marks_of(rings: Iterable[Ring]) -> dict[str, int]:
    """A number for every node of some rings: its colour and its letter in all pictures."""
    return {id: number for number, id in enumerate(sorted({node.id for ring in rings for node in ring.nodes}))}


def letter(number: int) -> str:
    """A, B... Z, A1, B1..."""
    return LETTERS[number % len(LETTERS)] + (str(number // len(LETTERS)) if number >= len(LETTERS) else "")


def ring_picture(ring: Ring, marks: Mapping[str, int]) -> str:
    """The circle: each node's range in its colour, hatched where nobody answers; slot 0 at the top, then clockwise."""
    parts = []
    for run, owner in runs([members[0].id for members in ring.lists]):
        title = f"{owner}: slots {run}, {run.size / SLOTS:.1%}"
        parts.append(f"<g><title>{escape(title)}</title>{_arc(run, 78, 120, f'node c{marks[owner] % COLOURS}')}")
        if run.size >= LETTER_SLOTS_MIN:
            x, y = _on_circle((run.first + run.last + 1) / 2, 99)
            parts.append(f'<text class="letter" x="{x:.1f}" y="{y + 5:.1f}">{letter(marks[owner])}</text>')
        parts.append("</g>")
    for run, coordinator in runs([node.id if node is not None else None for node in ring.coordinators]):
        if coordinator is None:
            parts.append(f"<g><title>slots {run}: nobody answers</title>{_arc(run, 78, 120, 'nobody')}</g>")
        elif any(members[0].id != coordinator for members in ring.lists[run.first : run.last + 1]):
            title = f"slots {run}: {coordinator} answers"
            arc = _arc(run, 66, 76, f"node c{marks[coordinator] % COLOURS}")
            parts.append(f"<g><title>{escape(title)}</title>{arc}</g>")
    for slot, anchor in ((0, "middle"), (SLOTS // 4, "start"), (SLOTS // 2, "middle"), (3 * SLOTS // 4, "end")):
        x, y = _on_circle(slot, 126)
        y += {0: -3.0, SLOTS // 2: 12.0}.get(slot, 4.0)
        parts.append(f'<text class="scale" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{slot}</text>')
    parts.append(f'<text class="epoch" x="0" y="2">ring {ring.epoch}</text>')
    word = "node" if len(ring.circle) == 1 else "nodes"
    parts.append(f'<text class="scale" x="0" y="20" text-anchor="middle">{len(ring.circle)} {word}</text>')
    label = f"ring {ring.epoch}: the circle of slots with each node's part"
    return f'<svg class="circle" viewBox="-175 -145 350 290" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def ring_strip(ring: Ring, marks: Mapping[str, int]) -> str:
    """The slots from 0 to the last in a line, in the colour of who answers for them."""
    parts = []
    for run, coordinator in runs([node.id if node is not None else None for node in ring.coordinators]):
        name = "nobody" if coordinator is None else f"node c{marks[coordinator] % COLOURS}"
        title = f"slots {run}: {coordinator if coordinator is not None else 'nobody'} answers"
        x, width = 400 * run.first / SLOTS, 400 * run.size / SLOTS
        parts.append(f"<g><title>{escape(title)}</title>{_rect(name, x, 0, max(0.5, width), 14)}</g>")
    label = f"who answers for which slots in ring {ring.epoch}"
    return (
        f'<svg class="strip" viewBox="0 0 400 14" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _arc(run: Run, inner: float, outer: float, name: str) -> str:
    if run.size == SLOTS:
        both = "".join(f"M0 {-r}A{r} {r} 0 1 1 0 {r}A{r} {r} 0 1 1 0 {-r}" for r in (outer, inner))
        return f'<path class="{name}" fill-rule="evenodd" d="{both}"/>'
    (x1, y1), (x2, y2) = _on_circle(run.first, outer), _on_circle(run.last + 1, outer)
    (x3, y3), (x4, y4) = _on_circle(run.last + 1, inner), _on_circle(run.first, inner)
    large = int(run.size > SLOTS // 2)
    return (
        f'<path class="{name}" d="M{x1:.2f} {y1:.2f}A{outer} {outer} 0 {large} 1 {x2:.2f} {y2:.2f}'
        f'L{x3:.2f} {y3:.2f}A{inner} {inner} 0 {large} 0 {x4:.2f} {y4:.2f}Z"/>'
    )


def _on_circle(slot: float, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * slot / SLOTS
    return radius * math.sin(angle), -radius * math.cos(angle)


# Evidence


def known_end(operation: Operation) -> float:
    """When it was completed, if that is known, else when it began."""
    completed = operation.completed
    return operation.invoked if completed is None or not math.isfinite(completed) else completed


def evidence_picture(operations: Sequence[Operation], accused: frozenset[int]) -> str:
    """Operations as bars from invoked to completed, one line a client; the accused ones stand out. "" if no operation
    has a time, as what is only known of the end has none.

    Bounded: the accused ones, and those nearest to them in time.
    """
    timed = [each for each in operations if math.isfinite(each.invoked)]
    if not timed:
        return ""
    center = [each for each in timed if each.number in accused] or timed
    first, last = min(each.invoked for each in center), max(map(known_end, center))

    def distance(each: Operation) -> tuple[bool, float]:
        return each.number not in accused, max(first - known_end(each), each.invoked - last, 0.0)

    chosen = sorted(sorted(timed, key=distance)[:EVIDENCE_OPERATIONS_MAX], key=lambda each: each.number)
    clients = sorted({each.client for each in chosen})[:EVIDENCE_LANES_MAX]
    chosen = [each for each in chosen if each.client in clients]
    begin, end = min(each.invoked for each in chosen), max(map(known_end, chosen))
    room = max((end - begin) * 0.05, 1e-6)
    scale = Scale(begin - room, end + room)
    height = LANE_HEIGHT * len(clients) + 26
    parts = []
    for lane, client in enumerate(clients):
        y = LANE_HEIGHT * lane + 4
        parts.append(f'<text class="scale" x="{PLOT_LEFT + 20}" y="{y + 12}" text-anchor="end">{escape(client)}</text>')
        parts.append(f'<path class="level" d="M{PLOT_LEFT + 24} {y + 8}H{PLOT_WIDTH - PLOT_RIGHT}"/>')
        for each in chosen:
            if each.client == client:
                parts.append(_bar(each, y, scale, each.number in accused))
    for tick in _ticks(scale.begin, scale.end, 8):
        text = (
            f'<text class="scale" x="{_bar_x(scale, tick):.1f}" y="{height - 8}" text-anchor="middle">{tick:g} s</text>'
        )
        parts.append(text)
    label = "operations as bars from their beginning to their end"
    return (
        f'<svg class="plot evidence" viewBox="0 0 {PLOT_WIDTH} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _bar(operation: Operation, y: float, scale: Scale, accused: bool) -> str:
    assert operation.outcome in OUTCOMES
    begin = _bar_x(scale, operation.invoked)
    open_end = operation.completed is None or not math.isfinite(operation.completed)
    end = float(PLOT_WIDTH - PLOT_RIGHT) if open_end else _bar_x(scale, known_end(operation))
    name = f"{operation.outcome}{' accused' if accused else ''}{' open' if open_end else ''}"
    bar = _rect(name, begin, y, max(3.0, end - begin), 16)
    number = ""
    if accused:
        right = begin > PLOT_WIDTH * 0.9
        x, anchor = (begin - 4, "end") if right else (max(begin + 3, end) + 4, "start")
        number = f'<text class="number" x="{x:.1f}" y="{y + 12}" text-anchor="{anchor}">#{operation.number}</text>'
    return f"<g><title>{escape(str(operation))}</title>{bar}{number}</g>"


def _bar_x(scale: Scale, at: float) -> float:
    """As the scale's, with more room at the left, for the names of clients."""
    part = (at - scale.begin) / (scale.end - scale.begin)
    return PLOT_LEFT + 24 + (PLOT_WIDTH - PLOT_LEFT - 24 - PLOT_RIGHT) * part
