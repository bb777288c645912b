"""The command that shows a cluster at work, live: top. The shell's command of that name shows the same.

A *frame* is what there is to be shown at one moment, as plain values (``--json``); ``screen`` makes of it what rich can
print. Rates and times are those between two samples of the processes' figures. Whoever does not answer is a line that
says so.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .events import EventsOf
from .observing import ECS, ClientProcesses, Processes, sentences
from .options import cluster_options, json_option, opened
from .outcomes import Trouble

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_SECONDS = 1.0

ANSWER_SECONDS_MAX = 2.0
"""So long a frame waits for a process that hangs."""

EVENTS_SHOWN = 8
EVENTS_KEPT_MAX = 200
NOT_SHOWN = {"link", "dead letter"}
NOT_SHOWN_OF_NODES = {"ring", "state", "session"}
"""Kinds of events that would crowd out the others, or that the ECS tells as well; `ringkeeper events` has them."""

Figures = Mapping[str, Any]


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and end.")
@json_option
@cluster_options
def top(once: bool, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Show the cluster at work, live.

    Each node with its part of the slots, requests a second, how long they take, how far its copies lag, how late its
    loop is and where messages wait; changes with their progress; what happened last. Refreshed every second until
    Ctrl-C. With --json one frame a line.

    \b
    Examples:
      ringkeeper top
      ringkeeper top --once
    """
    from rich.console import Console

    with opened(cluster, password, min(timeout_seconds, ANSWER_SECONDS_MAX)) as client:
        watched = Watched(ClientProcesses(client))
        console = Console(highlight=False)
        try:
            if as_json:
                time.sleep(REFRESH_SECONDS)
                click.echo(json.dumps(watched.frame()))
                while not once:
                    time.sleep(REFRESH_SECONDS)
                    click.echo(json.dumps(watched.frame()))
            else:
                show(console, lambda: screen(watched.frame()), time.sleep, once=once or not console.is_terminal)
        except KeyboardInterrupt:
            return


def show(
    console: "Console", picture: Callable[[], "RenderableType"], let_pass: Callable[[float], object], *, once: bool
) -> None:
    """Show a picture that is made anew again and again, until Ctrl-C; or once, as it is after a moment."""
    from rich.live import Live

    let_pass(REFRESH_SECONDS)
    if once:
        console.print(picture())
        return
    with Live(picture(), console=console, screen=True, auto_refresh=False) as live:
        while True:
            let_pass(REFRESH_SECONDS)
            live.update(picture(), refresh=True)


class Watched:
    """A cluster that is looked at again and again."""

    def __init__(self, processes: Processes) -> None:
        """Takes the first sample. Raises Trouble when nobody tells what the ring is."""
        self._processes = processes
        self._events = EventsOf(processes, lambda sentence: None)
        self._last: list[dict[str, Any]] = []
        self._sample, self._at = self._taken()

    def frame(self) -> dict[str, Any]:
        """What is to be shown now."""
        before, since = self._sample, self._at
        self._sample, self._at = self._taken()
        new = [event for event in self._events.new() if not _crowds_out(event)]
        self._last = [*self._last, *new][-EVENTS_KEPT_MAX:]
        at, status = self._processes.wall(), self._status()
        return frame(at, status, before, self._sample, self._at - since, self._last[-EVENTS_SHOWN:])

    def _taken(self) -> tuple[dict[str, Any], float]:
        """By place, the figures of a process, or a sentence that says why it told none; and when that was."""
        processes = self._processes
        figures, silent = processes.observe_all([*processes.known_nodes(), ECS], "METRICS")
        why = {place: sentence for place, text in silent.items() for sentence in sentences({place: text})}
        return {**figures, **why}, processes.now()

    def _status(self) -> dict[str, Any]:
        """RING STATUS, or what the ring says while nobody leads or answers."""
        try:
            return dict(self._processes.ask("STATUS"))
        except Trouble as trouble:
            ring = self._processes.known_ring()
            nodes = [{"id": node.id, "state": node.state} for node in ring.nodes]
            return {"cluster": ring.cluster_name, "epoch": ring.epoch, "nodes": nodes, "trouble": str(trouble.message)}


def _crowds_out(event: Mapping[str, Any]) -> bool:
    others = NOT_SHOWN if event["process"].startswith("ecs") else NOT_SHOWN | NOT_SHOWN_OF_NODES
    return event["kind"] in others


def frame(
    at: float,
    status: Mapping[str, Any],
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    seconds: float,
    events: list[dict[str, Any]],
) -> dict[str, Any]:
    """What there is to be shown, of two samples of figures so far apart; ``at``: when that is."""
    return {
        "at": at,
        "cluster": status["cluster"],
        "epoch": status["epoch"],
        "leader": status.get("leader"),
        "trouble": status.get("trouble"),
        "nodes": [
            _node(node, before.get(node["id"]), now.get(node["id"]), seconds)
            for node in status["nodes"]
            if node["state"] != "out"
        ],
        "ecs": _process(now.get(ECS)),
        "change": status.get("change"),
        "queue": status.get("queue", []),
        "events": events,
    }


def _node(node: Mapping[str, Any], before: Any, now: Any, seconds: float) -> dict[str, Any]:
    known = {"id": node["id"], "state": node["state"], "share": node.get("share"), **_process(now)}
    if known["silent"]:
        return known
    base: Figures = before if isinstance(before, dict) else {}
    started_again = not base or _sum(base, "request_seconds_count") > _sum(now, "request_seconds_count")
    if started_again:
        base = {}

    def rate(name: str) -> float | None:
        return None if started_again else (_sum(now, name) - _sum(base, name)) / seconds

    took = _buckets_between(base, now)
    return {
        **known,
        "keys": _sum(now, "keys"),
        "bytes": _sum(now, "store_bytes"),
        "requests_per_second": rate("request_seconds_count"),
        "errors_per_second": rate("errors_total"),
        "p50_seconds": took[0],
        "p99_seconds": took[1],
        "lag_seconds": _most(now, "replication_lag_seconds"),
        "parked": _sum(now, "parked"),
    }


def _process(now: Any) -> dict[str, Any]:
    """What is shown of any process; ``silent`` says why nothing is."""
    if not isinstance(now, dict):
        return {"silent": now or "it was not asked"}
    waiting = sorted(((count, labels["actor"]) for labels, count in _rows(now, "mailbox_messages")), reverse=True)
    return {
        "silent": None,
        "loop_delay_seconds": _most(now, "loop_delay_max_seconds"),
        "mailbox": waiting[0][0] if waiting else 0,
        "mailbox_of": waiting[0][1] if waiting and waiting[0][0] else None,
    }


def _rows(figures: Figures, name: str) -> list[tuple[dict[str, str], float]]:
    found = figures.get(f"ringkeeper_{name}", [])
    return [({}, found)] if not isinstance(found, list) else [(labels, value) for labels, value in found]


def _sum(figures: Figures, name: str) -> float:
    return sum(value for _, value in _rows(figures, name))


def _most(figures: Figures, name: str) -> float | None:
    return max((value for _, value in _rows(figures, name)), default=None)


def _buckets_between(before: Figures, now: Figures) -> tuple[float | None, float | None]:
    """How long half of the requests between two samples took at most, and 99 of 100."""
    from ..runtime.metrics import quantile

    counts: dict[float, float] = {}
    for sign, figures in ((1, now), (-1, before)):
        for labels, count in _rows(figures, "request_seconds_bucket"):
            bound = float(labels["le"])
            counts[bound] = counts.get(bound, 0) + sign * count
    rows = sorted(counts.items())
    return quantile(rows, 0.5), quantile(rows, 0.99)


# For people


def screen(shown: Mapping[str, Any]) -> "RenderableType":
    """A frame for a terminal of 80 columns or more."""
    from rich.console import Group
    from rich.text import Text

    from .drawing import STATE_STYLES, plain_table
    from .following import number_text, sentence

    leads = f"the ECS at {shown['leader']} leads" if shown["leader"] else "no ECS leads"
    moment = time.strftime("%H:%M:%S", time.localtime(shown["at"]))
    table = plain_table("node", "state", right=("share", "keys", "ops/s", "p50", "p99", "lag", "loop", "mailbox"))
    silent: list[str] = []
    for node in shown["nodes"]:
        state = Text(node["state"], style=STATE_STYLES.get(node["state"], ""))
        share = "-" if node["share"] is None else f"{node['share']:.1%}"
        if node["silent"]:
            if node["state"] != "down":  # else that is why
                silent.append(node["silent"])
            table.add_row(node["id"], state, share, *["-"] * 7)
            continue
        table.add_row(
            *(node["id"], state, share, number_text(round(node["keys"]))),
            "-" if node["requests_per_second"] is None else number_text(round(node["requests_per_second"])),
            *(_duration(node[f"{name}_seconds"]) for name in ("p50", "p99", "lag", "loop_delay")),
            f"{node['mailbox']:g} {node['mailbox_of']}" if node["mailbox"] else "0",
        )
    lines: list[Any] = [f"{moment}  cluster {shown['cluster']}: ring {shown['epoch']}; {leads}", table]
    lines += silent
    lines += [f"trouble: {shown['trouble']}"] if shown["trouble"] else []
    lines += [sentence(job) for job in _jobs(shown)] or ["no change in flight"]
    lines += ["", *(Text(_briefly(event), overflow="ellipsis", no_wrap=True) for event in shown["events"])]
    return Group(*lines)


def _briefly(event: Mapping[str, Any]) -> str:
    cause = f" ({event['cause']})" if event["cause"] else ""
    return f"{time.strftime('%H:%M:%S', time.localtime(event['at']))}  {event['sentence']}{cause}"


def _jobs(shown: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return [*([shown["change"]] if shown["change"] else []), *shown["queue"]]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{1000 * seconds:.0f} ms"
