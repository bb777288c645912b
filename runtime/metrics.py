"""Gathers the figures of a process when somebody asks: counters, gauges and histograms of all its actors.

Who has figures says them when asked: an actor by its method ``metrics``, what is no actor (a bridge, the process
itself) by a function in ``ActorSystem.metric_sources``. Between two looks nothing is computed; what must be counted
while it happens is a number that its owner adds to. Figures of the same name, from several actors, become one metric;
they must be of one kind, and differ by their labels.

The names are Prometheus' own kind (``ringkeeper_requests_total``, seconds and bytes, labels). They are told as JSON by
the observer's word METRICS, and as Prometheus reads them by ``metrics_endpoint.py``.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from .system import ActorSystem
    from .world import Loop

log = logging.getLogger(__name__)

Kind = Literal["counter", "gauge", "histogram"]
Labels = dict[str, str]

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds of the buckets in which times are counted."""

TICK_SECONDS = 0.25
"""How often it is looked how late the loop is."""

DELAYS_KEPT = 240
"""The last minute of these looks."""


class Histogram:
    """Counts how often something took how long. Adding is all that happens between two looks."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bucket, the last one for what is longer than every bound."""
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """By upper bound, how many were at most so long."""
        so_far = 0
        for bound, count in zip((*map(_number, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            yield bound, so_far


class Metric(NamedTuple):
    """A figure, or several that differ by their labels."""

    name: str
    """Of a counter without the ``_total`` that it is told with."""
    kind: Kind
    help: str
    samples: Sequence[tuple[Labels, float | Histogram]]


def counter(name: str, help: str, value: float, **labels: str) -> Metric:
    """What only grows, in one life of the process."""
    return Metric(f"ringkeeper_{name}", "counter", help, [(labels, value)])


def gauge(name: str, help: str, value: float, **labels: str) -> Metric:
    """What is so now."""
    return Metric(f"ringkeeper_{name}", "gauge", help, [(labels, value)])


def histogram(name: str, help: str, value: Histogram, **labels: str) -> Metric:
    """How often something took how long."""
    return Metric(f"ringkeeper_{name}", "histogram", help, [(labels, value)])


def quantile(bounds: Iterable[tuple[float, float]], part: float) -> float | None:
    """The value that a part of all is at most as large as, by cumulative counts with ascending bounds: within the
    bucket it lies where it would if its content were spread evenly. None: nothing was counted; the largest finite bound
    where it is beyond that."""
    rows = list(bounds)
    total = rows[-1][1] if rows else 0
    if not total:
        return None
    below, counted = 0.0, 0.0
    for bound, so_far in rows:
        if so_far >= part * total:
            if bound == float("inf"):
                return below
            return below + (bound - below) * (part * total - counted) / (so_far - counted)
        below, counted = bound, so_far
    return below


def collect(system: ActorSystem) -> dict[str, Metric]:
    """All figures of a process, by name.

    Of one name there is one kind and one help, and one figure for the same labels: what was told first stands. What
    does not fit to it is left out, and logged once; whoever reads it would take the wrong one, or refuse them all.
    """
    found: dict[str, tuple[Metric, dict[frozenset[tuple[str, str]], tuple[Labels, float | Histogram]]]] = {}
    for source, metric in _all(system):
        first, samples = found.setdefault(metric.name, (metric, {}))
        if metric.kind != first.kind:
            _leave_out(system, source, metric, f"it is told as a {metric.kind}, and was as a {first.kind}")
            continue
        for labels, value in metric.samples:
            key = frozenset(labels.items())
            if key in samples:
                _leave_out(system, source, metric, f"it was told before with the same labels, {labels}")
            else:
                samples[key] = (labels, value)
    return {name: first._replace(samples=list(samples.values())) for name, (first, samples) in sorted(found.items())}


def _all(system: ActorSystem) -> Iterator[tuple[str, Metric]]:
    """Every metric, and who tells it."""
    sources: list[tuple[str, Source]] = [("the actors", partial(_of_actors, system)), *system.metric_sources.items()]
    sources += [(type(actor).__name__, actor.metrics) for actor in system.inhabitants()]
    for name, source in sources:
        for metric in _of(system, name, source):
            yield name, metric


def _of(system: ActorSystem, name: str, source: Source) -> list[Metric]:
    """What a source says; one that fails takes its own figures away and nobody else's."""
    try:
        return list(source())
    except Exception:
        if name not in system.metrics_missing:
            system.metrics_missing.add(name)
            log.exception("the figures of %s cannot be told, which is not said again", name)
        return []


def _leave_out(system: ActorSystem, source: str, metric: Metric, why: str) -> None:
    missing = f"{metric.name} of {source}"
    if missing not in system.metrics_missing:
        system.metrics_missing.add(missing)
        log.error("%s is left out, which is not said again: %s", missing, why)


def _of_actors(system: ActorSystem) -> Iterator[Metric]:
    depths, most, restarts, counts, seconds = [], [], [], [], []
    for state in system.actors():
        labels = {"actor": state.name}
        depths.append((labels, state.depth))
        most.append((labels, state.counters.depth_max))
        restarts.append((labels, state.counters.restarts))
        for kind, (count, spent) in sorted(state.counters.messages.items(), key=lambda entry: entry[0].__name__):
            of_type = {**labels, "type": kind.__name__}
            counts.append((of_type, count))
            seconds.append((of_type, spent))
    yield Metric("ringkeeper_mailbox_messages", "gauge", "Messages that wait in an actor's mailbox.", depths)
    yield Metric("ringkeeper_mailbox_messages_max", "gauge", "The most that have waited there at once.", most)
    yield Metric("ringkeeper_actor_restarts", "counter", "How often an actor was made anew.", restarts)
    yield Metric("ringkeeper_messages", "counter", "Messages that an actor has handled.", counts)
    yield Metric("ringkeeper_message_seconds", "counter", "Time that it has spent on them.", seconds)
    yield counter("dead_letters", "Messages that nobody handled.", system.dead_letters)


def told(metric: Metric) -> Iterator[tuple[str, Labels, float]]:
    """The figures of a metric as Prometheus names them: a counter's end in ``_total``, a histogram is several."""
    suffix = "_total" if metric.kind == "counter" else ""
    for labels, value in metric.samples:
        if isinstance(value, Histogram):
            for bound, so_far in value.cumulative():
                yield f"{metric.name}_bucket", {**labels, "le": bound}, so_far
            yield f"{metric.name}_sum", labels, value.sum
            yield f"{metric.name}_count", labels, value.count
        else:
            yield metric.name + suffix, labels, value


def as_json(metrics: Iterable[Metric]) -> dict[str, Any]:
    """By name as Prometheus tells it: the value, or [labels, value] of each where there are labels."""
    by_name: dict[str, list[list[Any]]] = {}
    for metric in metrics:
        for name, labels, value in told(metric):
            by_name.setdefault(name, []).append([labels, value])
    return {name: rows[0][1] if len(rows) == 1 and not rows[0][0] else rows for name, rows in by_name.items()}


def metrics(system: ActorSystem, arguments: dict[str, Any]) -> dict[str, Any]:
    """METRICS: every figure of the process."""
    return as_json(collect(system).values())


def _number(bound: float) -> str:
    return f"{bound:g}" if bound < 1 else f"{bound:.1f}"


class LoopDelay:
    """How late the loop of a process comes to what is due. A late loop answers nobody meanwhile."""

    def __init__(self, loop: Loop) -> None:
        self.histogram = Histogram()
        self._loop = loop
        self._last: deque[float] = deque([0.0], maxlen=DELAYS_KEPT)
        self._due = time.perf_counter() + TICK_SECONDS
        loop.call_later(TICK_SECONDS, self._tick)

    @property
    def most(self) -> float:
        """Of the last minute."""
        return max(self._last)

    def _tick(self) -> None:
        now = time.perf_counter()
        late = max(0.0, now - self._due)
        self.histogram.observe(late)
        self._last.append(late)
        self._due = now + TICK_SECONDS
        self._loop.call_later(TICK_SECONDS, self._tick)

    def metrics(self) -> Iterator[Metric]:
        yield histogram("loop_delay_seconds", "How late the event loop was, looked at every 0.25 s.", self.histogram)
        yield gauge("loop_delay_max_seconds", "The most of the last minute.", self.most)


def process_metrics(began: float = time.time()) -> Iterator[Metric]:
    """What the kernel says of this process, under the names that Prometheus' libraries have for it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield Metric("process_cpu_seconds", "counter", "Processor time used.", [({}, used.ru_utime + used.ru_stime)])
    yield Metric("process_start_time_seconds", "gauge", "When it began, since the Unix epoch.", [({}, began)])
    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[1])
    size = float(pages * os.sysconf("SC_PAGE_SIZE"))
    yield Metric("process_resident_memory_bytes", "gauge", "Memory in use.", [({}, size)])


Source = Callable[[], Iterable[Metric]]
