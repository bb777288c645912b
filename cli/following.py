"""Shows jobs and plans to people, and follows a job until it has ended.

A *job* is a change of the ring that somebody asked for, as RING JOBS tells of it; a *plan* says what it would move. The
job belongs to the cluster: following it is only looking, from time to time, and may be broken off at any moment. While
nobody leads, or a node that was asked dies, it is looked at again a little later.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .outcomes import IN_DOUBT, NO, Trouble

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..actors.client import Client

Job = Mapping[str, Any]
Plan = Mapping[str, Any]
Shares = Mapping[str, tuple[float | None, float | None]]
"""By node, its part of all slots before and after; None: it is not in that ring."""

ENDED = {"done", "aborted", "cancelled"}
LOOK_SECONDS = 0.2
"""The pause between two looks at a job."""
PLAIN_SECONDS = 5.0
"""Where there is no terminal to draw on, a line about a job is printed this often, and whenever its state changes."""
SILENT_SECONDS_MAX = 60.0
"""A job that nobody could tell of for so long is followed no longer."""
TRANSFERS_SHOWN_MAX = 40


def read_jobs(client: "Client") -> dict[str, Any]:
    """RING JOBS: the epoch, and the jobs, newest last."""
    return dict(json.loads(client.execute("RING", "JOBS")))


def find_job(jobs: Mapping[str, Any], number: int) -> Job | None:
    return next((job for job in jobs["jobs"] if job["job"] == number), None)


def follow(client: "Client", number: int) -> Job:
    """Show the progress of a job on standard error until it has ended, and return it as it was then.

    Raises Trouble when nothing is known of it any more, which says nothing about its outcome. Ctrl-C breaks off the
    looking, not the job.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    return _with_a_bar(client, number, console) if console.is_terminal else _in_lines(client, number, console)


def _with_a_bar(client: "Client", number: int, console: "Console") -> Job:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[figures]}")
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"job {number}", total=None, figures="")

        def show(job: Job) -> None:
            progress.update(
                bar,
                description=f"{job['what']}: {job['state']}",
                total=job["keys_total"] or None,
                completed=job["keys"],
                figures=figures(job),
            )

        return _until_ended(client, number, show)


def _in_lines(client: "Client", number: int, console: "Console") -> Job:
    said, said_at = "", float("-inf")

    def show(job: Job) -> None:
        nonlocal said, said_at
        now = time.monotonic()
        if job["state"] != said or now - said_at >= PLAIN_SECONDS:
            said, said_at = job["state"], now
            console.print(f"job {number}, {job['what']}: {job['state']}{_after_comma(figures(job))}", soft_wrap=True)

    return _until_ended(client, number, show)


def _until_ended(client: "Client", number: int, show: Callable[[Job], object]) -> Job:
    from ..actors.client_errors import Unavailable

    silent_since, keys, keys_total, size = time.monotonic(), 0, 0, 0
    while True:
        try:
            job = find_job(read_jobs(client), number)
        except Unavailable as trouble:
            if time.monotonic() - silent_since > SILENT_SECONDS_MAX:
                raise Trouble(
                    f"job {number} goes on unseen: {trouble} `ringkeeper jobs` shows it once somebody leads again.",
                    IN_DOUBT,
                ) from trouble
        else:
            silent_since = time.monotonic()
            if job is None:
                raise Trouble(
                    f"job {number} is not among the latest any more, so it has ended, one way or another: "
                    "`ringkeeper ring` shows what the ring is now",
                    IN_DOUBT,
                )
            keys, keys_total, size = max(keys, job["keys"]), max(keys_total, job["keys_total"]), max(size, job["bytes"])
            if job["state"] in ENDED:  # the ring remembers that it did, not what it moved
                job = {**job, "keys": keys, "keys_total": keys_total, "bytes": size}
            show(job)
            if job["state"] in ENDED:
                return job
        time.sleep(LOOK_SECONDS)


def insist(job: Job) -> None:
    """Raises Trouble unless an ended job is done."""
    if job["state"] != "done":
        raise Trouble(
            f"job {job['job']}, {job['what']}, was {job['state']}: {job['why'] or 'no reason is given'}. The ring is "
            "as it was before it.",
            NO,
        )


# In words


def figures(job: Job) -> str:
    """How far a job is: ``12 000 of 100 000 keys, 3.1 MiB/s, 4 s left``; "" while there is nothing to say."""
    from .drawing import bytes_text

    parts = []
    if job["keys_total"]:
        parts.append(f"{number_text(job['keys'])} of {number_text(job['keys_total'])} keys")
    if job["bytes_per_second"] and job["state"] not in ENDED:
        parts.append(f"{bytes_text(int(job['bytes_per_second']))}/s")
    if job["seconds_left"] and job["state"] not in ENDED:
        parts.append(f"{seconds_text(job['seconds_left'])} left")
    return ", ".join(parts)


def sentence(job: Job) -> str:
    """A job for people, in a line: ``job 7, add 127.0.0.1:7004: transfer, 10 of 20 keys``."""
    why = f" ({job['why']})" if job["why"] else ""
    return f"job {job['job']}, {job['what']}: {job['state']}{_after_comma(figures(job))}{why}"


def number_text(count: int | None) -> str:
    """A number for people: ``12 000``; a dash where it is not known."""
    return "-" if count is None else f"{count:,}".replace(",", " ")


def seconds_text(seconds: float) -> str:
    """A span of time for people: ``4 s``, ``2 min 5 s``, ``3 h 20 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _after_comma(text: str) -> str:
    return f", {text}" if text else ""


# In tables


def plan_tables(plan: Plan) -> "list[Table | str]":
    """What a plan would move, its sum, what it would make of the nodes' shares, and what to mind."""
    from .drawing import bytes_text, plain_table

    moves = plain_table("slots", "from", "to", right=("size", "keys", "bytes"))
    shown = plan["transfers"][:TRANSFERS_SHOWN_MAX]
    for each in shown:
        size, keys = number_text(each["size"]), number_text(each["keys"])
        held = "-" if each["bytes"] is None else bytes_text(each["bytes"])
        moves.add_row(each["slots"], each["source"], each["target"], size, keys, held)
    parts: list[Table | str] = [moves] if shown else []
    if len(plan["transfers"]) > len(shown):
        parts.append(f"and {len(plan['transfers']) - len(shown)} more transfers (all with --json)")
    if shown:
        keys = "an unknown number of" if plan["keys"] is None else number_text(plan["keys"])
        held = "" if plan["bytes"] is None else f", {bytes_text(plan['bytes'])}"
        parts.append(f"{number_text(plan['slots'])} slots with {keys} keys{held} to move")
    else:
        parts.append("no keys to move")
    parts += [shares_table({id: (before, after) for id, (before, after) in plan["shares"].items()})]
    return [*parts, *(f"warning: {warning}" for warning in plan["warnings"])]


def places_text(places: Plan) -> str:
    """What nodes that come relieve the others of."""
    parts = ", ".join(f"{id} with {each['part']:.1%}" for id, each in places["nodes"].items())
    return f"placed by {places['how']}: {parts} of all {places['by']}"


def balance_tables(balance: Plan) -> "list[Table | str]":
    """What tokens bring: each node's load before and after, in its part; what that costs, or why nothing moves."""
    from .drawing import bytes_text, plain_table

    table = plain_table("node", right=(f"{balance['by']} before", "after", "its part"))
    for id, each in balance["nodes"].items():
        unit = 1000 if balance["by"] == "requests" else 1
        table.add_row(id, *(number_text(round(each[name] / unit)) for name in ("before", "after", "part")))
    parts: list[Table | str] = [table]
    if balance["why_not"]:
        return [*parts, f"nothing moves: {balance['why_not']}"]
    off = f"{balance['off_before']:.1%} off its part before, {balance['off_after']:.1%} after"
    least = f"{balance['of_least']:.2f} of the least that brings all within {balance['threshold']:.1%}"
    sure = "" if balance["proven"] else ", as far as the search went"
    busiest = f"{balance['peak_before']:.2f} times its part before, {balance['peak_after']:.2f} after"
    parts.append(f"the busiest node has {busiest}; the farthest share that can be divided is {off}")
    parts.append(f"moved is {least}{sure}")
    parts.append(f"copies made: {bytes_text(balance['copied_bytes'])}")
    if balance["hottest"] and balance["by"] == "requests":
        hottest = ", ".join(f"{slot} ({weight / 1000:.0f} a second)" for slot, weight in balance["hottest"])
        parts.append(f"hottest slots: {hottest}")
    if balance["missing"]:
        parts.append(f"not known: what {', '.join(balance['missing'])} holds")
    return parts


def transfers_table(transfers: list[Mapping[str, Any]]) -> "Table":
    """What a job moves, and how far each part of it is."""
    from .drawing import bytes_text, plain_table

    table = plain_table("slots", "from", "to", "state", right=("keys", "of", "bytes"))
    for each in transfers[:TRANSFERS_SHOWN_MAX]:
        table.add_row(
            *(each["slots"], each["source"], each["target"], each["state"]),
            *(number_text(each["keys"]), number_text(each["keys_total"]), bytes_text(each["bytes"])),
        )
    if len(transfers) > TRANSFERS_SHOWN_MAX:
        table.add_row(f"and {len(transfers) - TRANSFERS_SHOWN_MAX} more (all with --json)")
    return table


def shares_table(shares: Shares) -> "Table":
    """Each node's part of all slots, before and after."""
    from .drawing import plain_table

    table = plain_table("node", right=("share before", "after"))
    for id, (before, after) in shares.items():
        table.add_row(id, *("-" if not share else f"{share:.1%}" for share in (before, after)))
    return table


def jobs_table(jobs: list[Job]) -> "Table":
    """Jobs in the order given."""
    from rich.text import Text

    from .drawing import bytes_text, plain_table

    table = plain_table("job", "what", "state", right=("keys", "part", "bytes", "a second", "left"), folds="what")
    for job in jobs:
        ended = job["state"] in ENDED
        rate, left = job["bytes_per_second"], job["seconds_left"]
        table.add_row(
            str(job["job"]),
            job["what"],
            Text(job["state"], style={"done": "green", "aborted": "bold red", "queued": "dim"}.get(job["state"], "")),
            number_text(job["keys"]) if job["keys"] or not ended else "-",
            f"{job['keys'] / job['keys_total']:.0%}" if job["keys_total"] else "-",
            bytes_text(job["bytes"]) if job["bytes"] or not ended else "-",
            "-" if ended or not rate else bytes_text(int(rate)),
            "-" if ended or left is None else seconds_text(left),
        )
    return table
