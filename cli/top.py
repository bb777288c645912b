"""The command that shows a cluster at work, live: top.

A *frame* is what there is to be shown at one moment, as plain values (``--json``); ``screen`` makes of it what rich can
print. Rates and times are those between two samples of the processes' figures. Whoever does not answer is a line that
says so.
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .observing import ECS, Complaints, EventsOf, Observed
from .options import cluster_options, json_option, opened

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..actors.client import Client

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
    from rich.live import Live

    with opened(cluster, password, min(timeout_seconds, ANSWER_SECONDS_MAX)) as client:
        watched = Watched(client)
        time.sleep(REFRESH_SECONDS)
        shown = watched.frame()
        console = Console(highlight=False)
        try:
            if as_json:
                click.echo(json.dumps(shown))
                while not once:
                    time.sleep(REFRESH_SECONDS)
                    click.echo(json.dumps(watched.frame()))
            elif once or not console.is_terminal:
                console.print(screen(shown))
            else:
                with Live(screen(shown), console=console, screen=True, auto_refresh=False) as live:
                    while True:
                        time.sleep(REFRESH_SECONDS)
                        live.update(screen(watched.frame()), refresh=True)
        except KeyboardInterrupt:
            return


class Watched:
    """A cluster that is looked at again and again."""

    def __init__(self, client: "Client") -> None:
        """Takes the first sample. Raises ClientError when nobody tells what the ring is."""
        self._client = client
        self._observed = Observed(client)
        self._events = EventsOf(self._observed, Complaints(lambda sentence: None))
        self._last: list[dict[str, Any]] = []
        self._sample: dict[str, Any] = {}
        self._at = 0.0
        self._take()

    def frame(self) -> dict[str, Any]:
        """What is to be shown now."""
        before, since = self._sample, self._at
        self._take()
        new = [event for event in self._events.new() if not _crowds_out(event)]
        self._last = [*self._last, *new][-EVENTS_KEPT_MAX:]
        return frame(self._status(), before, self._sample, self._at - since, self._last[-EVENTS_SHOWN:])

    def _take(self) -> None:
        self._observed.look_again()
        self._sample, self._at = self._observed.ask("METRICS"), time.monotonic()

    def _status(self) -> dict[str, Any]:
        """RING STATUS, or what the ring says while nobody leads or answers."""
        from ..actors.client_errors import ClientError

        try:
            return dict(json.loads(self._client.execute("RING", "STATUS")))
        except ClientError as trouble:
            ring = self._observed.ring
            nodes = [{"id": node["id"], "state": node["state"]} for node in ring["nodes"]]
            return {"cluster": ring["cluster_name"], "epoch": ring["epoch"], "nodes": nodes, "trouble": str(trouble)}


def _crowds_out(event: Mapping[str, Any]) -> bool:
    return event["kind"] in NOT_SHOWN or (event["process"].startswith("node ") and event["kind"] in NOT_SHOWN_OF_NODES)


def frame(
    status: Mapping[str, Any],
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    seconds: float,
    events: list[dict[str, Any]],
) -> dict[str, Any]:
    """What there is to be shown, of two samples of figures so far apart."""
    return {
        "at": time.time(),
        "cluster": status["cluster"],
        "epoch": status["epoch"],
        "leader": status.get("leader"),
        "trouble": status.get("trouble"),
        "nodes": [
            _node(node, before.get(f"node {node['id']}"), now.get(f"node {node['id']}"), seconds)
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
                silent.append(f"{node['id']} does not answer: {node['silent']}")
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
