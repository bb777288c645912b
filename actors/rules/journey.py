"""Puts what several processes saw of one trace together: one story in order, as a table and as a diagram of messages.

Each process writes down its own part, by its own wall clock (``runtime/tracing.py`` has the records). What was sent in
one and arrived in another is the same message: it becomes one hop, which says how long it was on its way. What was sent
and arrived nowhere stays as a hop that is *under way*: held by a fault, lost, or gone to a process that was not asked.

Clocks are taken as they are, unless they contradict each other, so that something arrived before it was sent: then the
clock of one of the two is shifted until that has taken as long as the way back, or ``WAY_SECONDS_MAX``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COLUMN_CHARACTERS_MAX = 26
"""So wide is a column of a diagram at most."""

WAY_SECONDS_MAX = 0.001
"""What a message between two processes is taken to need at most if their clocks cannot tell."""

CLIENTS = "clients"
"""Who sends what comes from outside: from the clients' connections, a timer, or a link that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One message, handled or under way."""

    at: float
    """When its handling began, in seconds since the Unix epoch; of one under way, when it was sent."""
    process: str
    actor: str
    type: str
    sender_process: str
    """Empty where nobody knows."""
    sender: str
    travelled: float | None
    """Seconds between processes, as far as the clocks tell; None: within one, or nobody knows."""
    waited: float | None
    """Seconds in the mailbox."""
    worked: float | None
    """Seconds; None: under way."""
    epoch: int
    what: str

    @property
    def under_way(self) -> bool:
        return self.worked is None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "under_way": self.under_way}


def merged(parts: Iterable[Mapping[str, Any]]) -> list[Hop]:
    """The story that the answers to TRACED or UNTRACE, one a process, tell together."""
    told = list(parts)
    names = {part["address"]: part["process"] for part in told}
    records = [record for part in told for record in part["records"]]
    sent: dict[tuple[str, str, str, str], deque[Mapping[str, Any]]] = {}
    for record in records:
        if record["sent"]:
            sent.setdefault(_mark(record), deque()).append(record)
    pairs: list[tuple[Mapping[str, Any], Mapping[str, Any] | None]] = []
    for record in records:
        if not record["sent"]:
            waiting = sent.get(_mark(record))
            pairs.append((record, waiting.popleft() if waiting else None))
    pairs += [(record, None) for waiting in sent.values() for record in waiting]
    shifts = _shifts(pairs)
    hops = [(_hop(record, before, names, shifts), record["number"]) for record, before in pairs]
    return [hop for hop, _ in sorted(hops, key=lambda each: (each[0].at, each[0].under_way, each[0].process, each[1]))]


def _mark(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return record["sender"], record["to"], record["type"], record["what"]


def _hop(
    record: Mapping[str, Any], sent: Mapping[str, Any] | None, names: Mapping[str, str], shifts: Mapping[str, float]
) -> Hop:
    address, _, name = record["sender"].rpartition("/")
    to_address, _, to_name = record["to"].rpartition("/")
    at = record["at"] + shifts.get(record["process"], 0.0)
    travelled = None
    if sent is not None:
        travelled = at - (record["waited"] or 0.0) - sent["at"] - shifts.get(sent["process"], 0.0)
    return Hop(
        at=at,
        process=names.get(f"{to_address}/", to_address.rpartition("//")[2]),
        actor=to_name,
        type=record["type"],
        sender_process=names.get(f"{address}/", address.rpartition("//")[2]),
        sender=name,
        travelled=travelled,
        waited=record["waited"],
        worked=record["worked"],
        epoch=record["epoch"],
        what=record["what"],
    )


def _shifts(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> dict[str, float]:
    """By process, what is to be added to its times so that nothing arrives before it was sent."""
    least: dict[tuple[str, str], float] = {}
    for record, sent in pairs:
        if sent is not None:
            way = (sent["process"], record["process"])
            least[way] = min(least.get(way, float("inf")), record["at"] - (record["waited"] or 0.0) - sent["at"])
    shifts: dict[str, float] = {}
    for first, _ in least:
        if first in shifts:
            continue
        shifts[first] = 0.0
        reached = deque([first])
        while reached:
            known = reached.popleft()
            for other in sorted({name for way in least if known in way for name in way} - shifts.keys()):
                there, back = least.get((known, other)), least.get((other, known))
                shifts[other] = shifts[known] + _behind(there, back)
                reached.append(other)
    return shifts


def _behind(there: float | None, back: float | None) -> float:
    """How far a clock is behind, by the shortest ways to it and from it as both clocks tell them."""
    if there is not None and there < 0:
        return (min((there + back) / 2, WAY_SECONDS_MAX) if back is not None else 0.0) - there
    if back is not None and back < 0:
        return back - (min((there + back) / 2, WAY_SECONDS_MAX) if there is not None else 0.0)
    return 0.0


# For people


def as_table(hops: Sequence[Hop]) -> list[str]:
    """A line for each hop, under a heading: when, who, what, and where the time went."""
    if not hops:
        return []
    begin = hops[0].at
    rows = [("at ms", "process", "actor", "message", "from", "way ms", "waited", "worked", "epoch", "what")]
    for hop in hops:
        row = (
            f"{1000 * (hop.at - begin):.3f}",
            hop.process,
            hop.actor,
            hop.type,
            _whom(hop),
            _milliseconds(hop.travelled),
            _milliseconds(hop.waited),
            "under way" if hop.under_way else _milliseconds(hop.worked),
            str(hop.epoch or ""),
            hop.what,
        )
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    numbers = {0, 5, 6, 7, 8}
    lines = []
    for row in rows:
        cells = [cell.rjust(widths[n]) if n in numbers else cell.ljust(widths[n]) for n, cell in enumerate(row[:-1])]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def _whom(hop: Hop) -> str:
    if not hop.sender:
        return ""
    return hop.sender if hop.sender_process == hop.process else f"{hop.sender_process} {hop.sender}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.3f}"


def as_diagram(hops: Sequence[Hop]) -> list[str]:
    """The messages as arrows between the actors, time downwards: ``--->`` handled, ``...x`` under way."""
    whose = [(CLIENTS, "")] if any(not hop.sender for hop in hops) else []
    for hop in hops:
        for one in ((hop.sender_process, hop.sender), (hop.process, hop.actor)):
            if one[1] and one not in whose:
                whose.append(one)
    order = {process: place for place, process in enumerate(dict.fromkeys(process for process, _ in whose))}
    whose.sort(key=lambda one: order[one[0]])  # an actor stands beside the others of its process
    widest = max((len(part) for one in whose for part in one), default=0)
    longest = max((len(hop.type) + 5 for hop in hops), default=0)
    width = min(COLUMN_CHARACTERS_MAX, max(widest + 2, longest))
    centres = {one: number * width + width // 2 for number, one in enumerate(whose)}
    lines = [_heads(names, width) for names in zip(*whose, strict=True)] if whose else []
    begin = hops[0].at if hops else 0.0
    for hop in hops:
        start = centres[(hop.sender_process, hop.sender) if hop.sender else (CLIENTS, "")]
        end = centres[hop.process, hop.actor]
        line = [" "] * (width * len(whose))
        for centre in centres.values():
            line[centre] = "|"
        _arrow(line, start, end, hop)
        lines.append(f"{''.join(line).rstrip().ljust(width * len(whose))} {1000 * (hop.at - begin):9.3f} ms")
    return lines


def _heads(names: Iterable[str], width: int) -> str:
    return "".join(name[-width + 1 :].center(width) for name in names).rstrip()


def _arrow(line: list[str], start: int, end: int, hop: Hop) -> None:
    low, high = min(start, end), max(start, end)
    line[low + 1 : high] = ("." if hop.under_way else "-") * (high - low - 1)
    if start == end:
        text = f"<- {hop.type}"
        line[end + 1 : end + 1 + len(text)] = list(text)
        return
    head = "x" if hop.under_way else ">" if end > start else "<"
    line[end - 1 if end > start else end + 1] = head
    label = hop.type[: high - low - 3]
    at = low + 1 + (high - low - 1 - len(label)) // 2
    line[at : at + len(label)] = list(label)
