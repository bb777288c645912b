"""The command that tells what has happened in a cluster: events."""

import json
import time

import click

from .observing import Complaints, EventsOf, Observed, in_words, of_kinds
from .options import cluster_options, json_option, opened

LOOK_SECONDS = 0.5
"""The pause between two looks with --follow."""

KINDS = (
    *("ring", "state", "change", "job", "leader", "suspicion", "takeover", "trouble"),
    *("process", "session", "link", "actor", "dead letter", "hang", "damage", "salvage"),
)


@click.command()
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--last", type=click.IntRange(min=0), metavar="COUNT", help="Begin with the last ones.  [default: all]")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Only these; may be said several times.")
@json_option
@cluster_options
def events(
    follow: bool,
    last: int | None,
    kinds: tuple[str, ...],
    as_json: bool,
    cluster: str,
    password: str | None,
    timeout_seconds: float,
) -> None:
    """Tell what has happened, and why.

    Ring changes, nodes' states, suspicions, takeovers, sessions, restarts, dead letters: what every node, the leading
    control service and the launchers remember of it, at most 10 000 events each, in order of their clocks. A process
    that does not answer is named on standard error. With --json one object a line.

    \b
    Examples:
      ringkeeper events --kind state --kind takeover
      ringkeeper events --follow --last 10
      ringkeeper events --json | jq 'select(.epoch == 8)'
    """
    complaints = Complaints(lambda sentence: click.echo(f"ringkeeper: {sentence}", err=True))
    with opened(cluster, password, timeout_seconds) as client:
        observed = Observed(client)
        observed.look_again()
        told = EventsOf(observed, complaints)
        new = of_kinds(told.new(), kinds)
        new = new if last is None else new[len(new) - min(last, len(new)) :]
        try:
            while True:
                for event in new:
                    click.echo(json.dumps(event) if as_json else in_words(event))
                if not follow:
                    return
                time.sleep(LOOK_SECONDS)
                observed.look_again()
                new = of_kinds(told.new(), kinds)
        except KeyboardInterrupt:
            if not follow:
                raise
