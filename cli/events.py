"""The command that tells what has happened in a cluster: events. The shell's command of that name tells the same.

What has happened is remembered by each process (``runtime/events.py``); here it becomes one story, in the order of
their clocks.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from .observing import ClientProcesses, Processes, sentences
from .options import cluster_options, json_option, opened
from .printable import printable

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
    with opened(cluster, password, timeout_seconds) as client:
        told = EventsOf(ClientProcesses(client), lambda sentence: click.echo(f"ringkeeper: {sentence}", err=True))
        new = of_kinds(told.new(), kinds)
        new = new if last is None else new[len(new) - min(last, len(new)) :]
        try:
            while True:
                for event in new:
                    click.echo(json.dumps(event) if as_json else in_words(event))
                if not follow:
                    return
                time.sleep(LOOK_SECONDS)
                new = of_kinds(told.new(), kinds)
        except KeyboardInterrupt:
            if not follow:
                raise


class EventsOf:
    """Follows the events of some processes, or of all that may be there: each is told once, in order of time.

    Of whoever does not answer that is said once, and once that it does again.
    """

    def __init__(
        self, processes: Processes, complain: Callable[[str], object], places: Sequence[str] | None = None
    ) -> None:
        self._processes, self._complain, self._of = processes, complain, places
        self._lives: dict[str, float] = {}
        """By place, which life of the process was heard."""
        self._next: dict[tuple[str, float], int] = {}
        """By place and life, the number of the event that comes next: who leads may have led before."""
        self._silent: set[str] = set()

    def new(self) -> list[dict[str, Any]]:
        """What has happened since the last time; whatever is gone meanwhile is complained about."""
        found: list[dict[str, Any]] = []
        places = self._of if self._of is not None else self._processes.whoever_may_be_there()
        while places:
            since = {place: {"since": self._next[place, life]} for place, life in self._lives.items()}
            answers, silent = self._processes.observe_all(places, "EVENTS", since)
            self._look_at(answers, silent)
            places = [place for place, told in answers.items() if self._take(place, told, found)]
        return sorted(found, key=lambda event: (event["at"], event["process"], event["number"]))

    def _look_at(self, answers: Iterable[str], silent: Mapping[str, str]) -> None:
        for sentence in sentences({place: why for place, why in silent.items() if place not in self._silent}):
            self._complain(sentence)
        for place in self._silent.intersection(answers):
            self._complain(f"{place} answers again")
        self._silent = self._silent.difference(answers).union(silent)

    def _take(self, place: str, told: Mapping[str, Any], found: list[dict[str, Any]]) -> bool:
        """Whether there is more to be asked for."""
        life, known = told["began"], self._lives.get(place)
        if known is not None and known != life:  # another life, or another leader, has numbers of its own
            self._lives[place] = life
            if self._next.setdefault((place, life), 0) != self._next[place, known]:
                return True
        elif known is not None and told["lost"]:
            self._complain(f"{place} does not remember {told['lost']} more events: they came too fast")
        found += told["events"]
        self._lives[place], self._next[place, life] = life, told["next"]
        return bool(told["more"])


def in_words(event: Mapping[str, Any]) -> str:
    """An event for people, in a line."""
    cause = f" ({event['cause']})" if event["cause"] else ""
    milliseconds = int(event["at"] * 1000) % 1000
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"])) + f".{milliseconds:03d}"
    return printable(f"{moment}  {event['process']}  {event['kind']}: {event['sentence']}{cause}")


def of_kinds(events: Iterable[dict[str, Any]], kinds: Iterable[str]) -> list[dict[str, Any]]:
    """Those of some kinds; of all where none is named."""
    wanted = set(kinds)
    return [event for event in events if not wanted or event["kind"] in wanted]
