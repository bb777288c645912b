"""Writes what came of a run as one HTML page that needs nothing else: no network, no other file.

    write_report(Path("seed17.html"), RunRecord(...))

The page tells its reader, in this order, whether all was as it must be and with what evidence; what happened; what
clients saw of it, over time; the rings, from the first to the last; and the messages between processes, as a space-time
diagram (Lamport 1978) of a window that can be moved and zoomed, with all that can have caused a message and all that
it can have caused. It is readable in light and dark, on paper, and, except for the messages, without JavaScript.

    report.py            what stands on the page, and the data of the diagram
    report_drawing.py    its pictures
    report.html/.css/.js the frame, the look, and what moves

What came from outside (keys, values, sentences) is escaped: as text by ``html.escape``, in the data by leaving no ``<``
in it. A content security policy in the page itself forbids it to load anything.

`recording.py` makes a `RunRecord` of a run.
"""

from __future__ import annotations

import inspect
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from ..actors.client_requests import as_text
from ..actors.rules.ring import Ring, Write
from ..runtime.simulation.wiretap import Happened, Heard
from . import checks
from .checks import Violation
from .history import History, Operation
from .report_drawing import (
    COLOURS,
    Scale,
    availability_plot,
    binned,
    duration,
    evidence_picture,
    known_end,
    latency_plot,
    letter,
    marks_of,
    percentile,
    ring_picture,
    ring_strip,
    story_plot,
)
from .stage import Moment

T = TypeVar("T")

MESSAGES_MAX = 20_000
"""So many messages are put into the page; if there were more, the upkeep is left out first, and then what is farthest
from the window."""

OPERATIONS_MAX = 20_000
"""Of the operations so many are drawn among the messages, those nearest to the window."""

RINGS_MAX = 80
"""So many rings are told, the last ones."""

EVIDENCE_MAX = 40
"""With so many violations their evidence is shown."""

WINDOW_SECONDS = 0.06
"""How much of the run the diagram shows at first,"""

WINDOW_MESSAGES_MAX = 40
"""or less, if more than so many messages were sent in that time."""

MOMENTS_MAX = 1000

UPKEEP = frozenset({"Ping", "Pong", "Ping answered", "Heartbeat"})
"""Messages that are always there; not shown unless asked for."""

PROMISES: tuple[Callable[..., list[Violation]], ...] = (
    checks.no_acknowledged_write_lost,
    checks.nothing_deleted_back,
    checks.no_stale_read,
    checks.no_value_never_written,
    checks.counters_exact,
    checks.versions_ascend,
    checks.linearizable,
    checks.one_coordinator,
    checks.copies_equal,
    checks.no_foreign_slots,
    checks.every_slot_served,
    checks.every_list_up,
)
"""What `checks.every_check` looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """All that is known of one run. Times are seconds since its beginning."""

    title: str
    about: str = ""
    """What the story is about; its first paragraph is shown at the top."""
    seed: int | str
    world: str
    """Where it was played, as words: "in the simulation"."""
    seconds: float
    """How long it took."""
    wall_seconds: float = 0.0
    """How long it took in real time, where that differs."""
    again: str = ""
    """The command that plays it again."""
    trace: str = ""
    """The hash of a simulated run."""
    timeline: tuple[Moment, ...] = ()
    history: History
    rings: tuple[tuple[float, Ring], ...] = ()
    """Each ring with the moment in which it was first seen, ascending."""
    messages: Sequence[Heard] = ()
    """In the order in which they were sent."""
    messages_missing: str = "Messages between processes were not recorded in this run."
    """Why there are none, if there are none."""
    messages_forgotten: int = 0
    """How many there were before the first that is here."""
    events: Sequence[Happened] = ()
    """What befell processes."""
    violations: tuple[Violation, ...] = ()
    failure: str = ""
    """What broke the run off; "" if nothing did."""
    skipped: str = ""
    """Why it could not be played."""
    window: tuple[float, float] | None = None
    """What the diagram shows at first; None: the evidence, if there is any, else the first new ring."""

    @property
    def good(self) -> bool:
        return not (self.violations or self.failure or self.skipped)


def write_report(path: Path, record: RunRecord) -> None:
    """Write the page. Raises OSError."""
    path.write_text(page(record), encoding="utf-8", errors="backslashreplace")


def page(record: RunRecord) -> str:
    """The page as text."""
    here = Path(__file__)
    scale = Scale(0.0, max(record.seconds, 1e-3))
    bins = binned(record.history, scale.end)
    plots = (
        story_plot(record.timeline, record.rings, scale),
        availability_plot(bins, record.timeline, scale),
        latency_plot(bins, record.timeline, scale),
    )
    return Template(here.with_suffix(".html").read_text(encoding="utf-8")).substitute(
        title=escape(record.title),
        style=here.with_suffix(".css").read_text(encoding="utf-8"),
        script=here.with_suffix(".js").read_text(encoding="utf-8"),
        grade="good" if record.good else "skipped" if record.skipped else "bad",
        headline=_headline(record),
        about=_about(record),
        facts=_facts(record),
        verdicts=_verdicts(record),
        timeline=_timeline(record),
        bin=f"{bins.seconds:g} s",
        plots="\n".join(plots),
        seen=_seen(record.history, record.seconds),
        rings=_rings(record),
        missing=escape(record.messages_missing),
        data=_embedded(_data(record, scale)),
    )


# At the top


def _headline(record: RunRecord) -> str:
    if record.skipped:
        return f"Not played to its end: {escape(record.skipped)}"
    if record.failure and not record.violations:
        return "The run broke off"
    if record.violations:
        count = len(record.violations)
        return "A promise was not kept" if count == 1 else f"Promises were not kept: {count} violations"
    return "All was as it must be"


def _about(record: RunRecord) -> str:
    paragraph = " ".join(record.about.strip().partition("\n\n")[0].split())
    return f"<p>{escape(paragraph)}</p>" if paragraph else ""


def _facts(record: RunRecord) -> str:
    outcomes = [each.outcome for each in record.history]
    facts = [("seed", f"{record.seed}, {record.world}"), ("length", duration(record.seconds))]
    if record.wall_seconds:
        facts[-1] = ("length", f"{duration(record.seconds)}, played in {duration(record.wall_seconds)}")
    operations = f"{len(outcomes)} operations: {outcomes.count('ok')} done, {outcomes.count('not')} not done"
    facts.append(("clients", f"{operations}, {outcomes.count('maybe')} in doubt"))
    if record.messages:
        facts.append(("messages", f"{len(record.messages) + record.messages_forgotten} between processes"))
    rows = [f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts]
    for name, code in (("again", record.again), ("trace", record.trace)):
        if code:
            rows.append(f"<dt>{name}</dt><dd><code>{escape(code)}</code></dd>")
    return "".join(rows)


# Verdicts


def _verdicts(record: RunRecord) -> str:
    parts = []
    if record.failure:
        parts.append(f'<div class="violation"><h3>broke off</h3><pre>{escape(record.failure)}</pre></div>')
    by_key = record.history.by_key() if record.violations else {}
    parts += [_violation(each, by_key, number) for number, each in enumerate(record.violations)]
    broken = {each.check for each in record.violations}
    looked = not (record.failure or record.skipped)
    kept = []
    for promise in PROMISES:
        name = promise.__name__
        state = "broken" if name in broken else "kept" if looked else "open"
        sign = {"broken": "✗", "kept": "✓", "open": "–"}[state]
        sentence = _first_sentence(inspect.getdoc(promise) or "")
        kept.append(f'<li class="{state}"><b>{sign} {name.replace("_", " ")}</b> <span>{escape(sentence)}</span></li>')
    if not looked:
        parts.append("<p>The run did not come to its end, so what is checked there was not looked at.</p>")
    summary = "what was checked" if looked else "what would have been checked"
    opened = " open" if record.good else ""
    parts.append(f'<details{opened}><summary>{summary}</summary><ul class="promises">{"".join(kept)}</ul></details>')
    return "".join(parts)


def _span(operations: Iterable[Operation]) -> tuple[float, float] | None:
    """From when to when they were; None: what is only known of the end has no time."""
    timed = [each for each in operations if math.isfinite(each.invoked)]
    if not timed:
        return None
    return min(each.invoked for each in timed), max(map(known_end, timed))


def _first_sentence(prose: str) -> str:
    paragraph = " ".join(prose.partition("\n\n")[0].split()).replace("`", "")
    return f"{paragraph.partition('. ')[0].rstrip('.')}."


def _violation(violation: Violation, by_key: dict[bytes, list[Operation]], number: int) -> str:
    certain = "" if violation.certain else " (nobody knows: the check came to its limits)"
    parts = [f"<h3>{escape(violation.check.replace('_', ' '))}{certain}</h3><p>{escape(violation.sentence)}</p>"]
    if violation.operations and number < EVIDENCE_MAX:
        accused = frozenset(each.number for each in violation.operations)
        keys = list(dict.fromkeys(each.key for each in violation.operations))
        for key in keys:
            mine = [each for each in violation.operations if each.key == key]
            others = [each for each in by_key.get(key, ()) if each.number not in accused]
            parts.append(f"<h4>{escape(as_text(key))}</h4>{evidence_picture([*mine, *others], accused)}")
        rows = "".join(f"<li>{escape(str(each))}</li>" for each in violation.operations)
        parts.append(f'<ul class="evidence">{rows}</ul>')
        span = _span(violation.operations)
        if span is not None:
            at = f'data-begin="{span[0]!r}" data-end="{span[1]!r}"'
            parts.append(f'<button class="goto" {at}>show the messages of that time</button>')
    return f'<div class="violation">{"".join(parts)}</div>'


# What happened


def _timeline(record: RunRecord) -> str:
    rows = [
        f'<li><button class="goto" data-begin="{each.at!r}" data-end="{each.at!r}">{each.at:.3f} s</button> '
        f"<span>{escape(each.sentence)}</span></li>"
        for each in record.timeline[:MOMENTS_MAX]
    ]
    more = len(record.timeline) - MOMENTS_MAX
    rows += [f"<li>and {more} more, which are not shown</li>"] if more > 0 else []
    return "".join(rows) or "<li>Nothing was told.</li>"


def _seen(history: History, seconds: float) -> str:
    """What clients saw, in a sentence or two."""
    latencies = sorted(
        each.completed - each.invoked for each in history if each.outcome == "ok" and each.completed is not None
    )
    if not latencies:
        return "No operation was done."
    p50, p99 = (duration(percentile(latencies, part)) for part in (0.5, 0.99))
    text = f"Half of the operations that were done took at most {p50}, 99 % at most {p99}, the slowest "
    text += f"{duration(latencies[-1])}."
    gap, since = _longest_gap(history)
    if gap:
        text += f" The longest time in which operations were under way and none was done was {duration(gap)}, from "
        text += f"{since:.3f} s on."
    return text


def _longest_gap(history: History) -> tuple[float, float]:
    """The longest time between two operations done, as far as some operation was under way all the time: how long, and
    since when. So a pause in which nobody asked for anything is none."""
    steps: list[tuple[float, int, bool]] = []
    for each in history:
        steps.append((each.invoked, 1, False))
        if each.completed is not None:
            steps.append((each.completed, -1, each.outcome == "ok"))
    longest = (0.0, 0.0)
    busy, since = 0, 0.0
    for at, change, done in sorted(steps):
        if busy == 0 and change > 0:
            since = at
        if busy and (done or busy + change == 0) and at - since > longest[0]:
            longest = (at - since, since)
        if done:
            since = at
        busy += change
    return longest


# Rings


def _rings(record: RunRecord) -> str:
    if not record.rings:
        return '<p id="rings-before">No ring was seen.</p>'
    marks = marks_of(ring for _, ring in record.rings)
    first, last = record.rings[0], record.rings[-1]
    pictures = []
    for id, word, (at, ring) in (("rings-before", "before", first), ("rings-after", "after", last)):
        caption = f"{word}: ring {ring.epoch}, seen at {at:.3f} s"
        content = f"<figcaption>{caption}</figcaption>{ring_picture(ring, marks)}{_nodes(ring, marks)}"
        pictures.append(f'<figure id="{id}">{content}</figure>')
    return f'<div class="circles">{"".join(pictures)}</div>{_epochs(record.rings, marks)}'


def _nodes(ring: Ring, marks: dict[str, int]) -> str:
    rows = []
    for node in sorted(ring.nodes, key=lambda node: (node.state == "out", node.id)):
        slots = sum(run.size for run in ring.slots_of(node.id))
        swatch = f'<i class="swatch c{marks[node.id] % COLOURS}">{letter(marks[node.id])}</i>'
        share = f"{ring.share(node.id):.1%}" if node.state != "out" else ""
        rows.append(
            f"<tr><td>{swatch}</td><td>{escape(node.id)}</td><td>{node.state}</td>"
            f'<td class="figure">{slots}</td><td class="figure">{share}</td></tr>'
        )
    head = '<tr><th></th><th>node</th><th>state</th><th class="figure">slots</th><th class="figure">share</th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"


def _epochs(rings: Sequence[tuple[float, Ring]], marks: dict[str, int]) -> str:
    """Every write of the ring, the newest last, with a strip of who answered for which slots."""
    seen = {ring.epoch: (at, ring) for at, ring in rings}
    writes: dict[int, Write] = {write.epoch: write for _, ring in rings for write in ring.history}
    epochs = sorted(seen.keys() | writes.keys())
    rows = [
        _epoch(epoch, seen.get(epoch), writes.get(epoch), marks) for epoch in epochs[max(0, len(epochs) - RINGS_MAX) :]
    ]
    left_out = len(epochs) - len(rows)
    note = f"<p>The first {left_out} rings are not shown.</p>" if left_out else ""
    head = (
        "<tr><th>ring</th><th>seen</th><th>slots 0 to 16383, by who answers</th><th>what was written, and why</th></tr>"
    )
    return f'{note}<table id="epochs">{head}{"".join(rows)}</table>'


def _epoch(epoch: int, seen: tuple[float, Ring] | None, write: Write | None, marks: dict[str, int]) -> str:
    at = f"{seen[0]:.3f} s" if seen is not None else ""
    strip = ring_strip(seen[1], marks) if seen is not None else "not seen by whoever recorded this"
    what = f"{escape(write.what)} <small>{escape(write.why)}</small>" if write is not None else ""
    if write is not None and write.outcome:
        what += f" <small>job {write.job}: {write.outcome}</small>"
    return f'<tr><td class="figure">{epoch}</td><td class="figure">{at}</td><td>{strip}</td><td>{what}</td></tr>'


# Messages


def _data(record: RunRecord, scale: Scale) -> dict[str, Any]:
    """What the diagram is drawn from: words by their number, messages as rows of numbers."""
    words = _Words()
    window = _first_window(record, scale)
    messages, left_out = _chosen(record.messages, window)
    operations = _nearest(record.history.operations, window, OPERATIONS_MAX, lambda each: each.invoked)
    unshown = len(record.history) - len(operations)
    clients = sorted({each.client for each in record.history})
    processes = _in_order({name for each in messages for name in (each.sender, each.to)} | set(clients), clients)
    place = {name: number for number, name in enumerate(processes)}
    return {
        "end": scale.end,
        "window": window,
        "processes": processes,
        "words": words.known,
        "messages": [
            [
                _short(each.sent),
                None if each.received is None else _short(each.received),
                place[each.sender],
                place[each.to],
                words(each.said.kind),
                words(each.said.sender_actor),
                words(each.said.to_actor),
                words(each.said.detail),
                words(each.said.speech),
            ]
            for each in messages
        ],
        "upkeep": sorted(UPKEEP),
        "operations": [
            [
                place[each.client],
                _short(each.invoked),
                None if each.completed is None else _short(each.completed),
                words(each.outcome),
                words(str(each)),
            ]
            for each in operations
        ],
        "events": [
            [_short(each.at), place.get(each.process), words(each.what)]
            for each in record.events
            if each.process not in clients and (each.process in place or each.process == "*")
        ],
        "moments": [[_short(each.at), each.sentence] for each in record.timeline[:MOMENTS_MAX]],
        "notes": [
            *([f"The first {record.messages_forgotten} messages were forgotten."] if record.messages_forgotten else []),
            *([f"{left_out} messages are left out of this page."] if left_out else []),
            *([f"{unshown} operations are left out of the diagram."] if unshown else []),
        ],
    }


def _first_window(record: RunRecord, scale: Scale) -> tuple[float, float]:
    if record.window is not None:
        return record.window
    for violation in record.violations:
        span = _span(violation.operations)
        if span is not None:
            return max(0.0, span[0] - WINDOW_SECONDS / 2), min(scale.end, span[1] + WINDOW_SECONDS / 2)
    later = [at for at, _ in record.rings[1:]]
    middle = later[0] if later else record.messages[len(record.messages) // 2].sent if record.messages else 0.0
    near = sorted(abs(each.sent - middle) for each in record.messages if each.said.kind not in UPKEEP)
    half = min([WINDOW_SECONDS / 2, *near[WINDOW_MESSAGES_MAX : WINDOW_MESSAGES_MAX + 1]]) or WINDOW_SECONDS / 2
    begin = max(0.0, min(middle - half * 0.6, scale.end - 2 * half))
    return begin, min(scale.end, begin + 2 * half)


def _chosen(messages: Sequence[Heard], window: tuple[float, float]) -> tuple[Sequence[Heard], int]:
    """As many as the page takes, and how many are left out."""
    if len(messages) <= MESSAGES_MAX:
        return messages, 0
    telling = [each for each in messages if each.said.kind not in UPKEEP]
    kept = _nearest(telling, window, MESSAGES_MAX, lambda each: each.sent)
    return kept, len(messages) - len(kept)


def _nearest(
    ascending: Sequence[T], window: tuple[float, float], count_max: int, moment: Callable[[T], float]
) -> Sequence[T]:
    """So many of them at most, around the middle of a window."""
    if len(ascending) <= count_max:
        return ascending
    middle = bisect_right(ascending, sum(window) / 2, key=moment)
    first = min(max(0, middle - count_max // 2), len(ascending) - count_max)
    return ascending[first : first + count_max]


def _in_order(names: Iterable[str], clients: Sequence[str]) -> list[str]:
    """From top to bottom: clients, nodes, and what stands behind them."""

    def rank(name: str) -> tuple[int, int, str]:
        group = 0 if name in clients else 1 if ":" in name else 2 if name.startswith("ecs") else 3
        return group, len(name), name

    return sorted(names, key=rank)


def _short(seconds: float) -> float:
    return round(seconds, 7)


class _Words:
    """Texts that come again and again are written once, and then named by their number."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.known)
            self.known.append(text)
        return number


def _embedded(data: dict[str, Any]) -> str:
    """JSON that may stand in a script element, whatever is in it."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
