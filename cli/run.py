"""The command that plays scenarios, on real processes or in the simulation, and random stories.

Simulated runs with many seeds share the cores: each worker process plays one seed after the other. The first run that
fails ends it all; what is printed of it is its whole story and the one command that plays it again. Of a random story
that fails a shorter one is looked for first, in which the same check fails.
"""

import os
import random
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import FILE
from .outcomes import NO, REFUSED, Trouble

if TYPE_CHECKING:
    from ..scenarios.play import Played, Scenario
    from ..scenarios.random_story import Schedule
    from ..scenarios.stage import Moment, Stage

VIOLATIONS_SHOWN_MAX = 10
SEEDS_MAX = 10_000_000
FIRST_SEEDS = 1_000_000_000
"""Random stories without a seed begin at one below this."""

USES = (
    ("seeds", "--seeds", "--simulate"),
    ("no_check", "--no-check", "--simulate"),
    ("trace", "--trace", "--simulate"),
    ("random_story", "--random", "--simulate"),
    ("schedule", "--schedule", "--simulate"),
    ("minutes", "--minutes", "--random"),
)
NEEDED = {"--simulate": "simulate", "--random": "random_story"}
"""Which options need which others."""


@click.command()
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("--simulate", is_flag=True, help="In the simulation: virtual time, and the same again for the same seed.")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="What chance does; 1 if not given.")
@click.option("--seeds", type=click.IntRange(1, SEEDS_MAX), metavar="N", help="N runs, from that seed on (--simulate).")
@click.option("--random", "random_story", is_flag=True, help="A story made up from the seed, instead of a SCENARIO.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), metavar="M", help="Random stories for so long (--random)."
)
@click.option("--schedule", type=FILE, help="Play the random story in this file, which a failing one left.")
@click.option("--no-check", is_flag=True, help="Let the actors' invariants alone, which is faster (--simulate).")
@click.option("--trace", type=FILE, help="Write every message into this file (--simulate).")
@click.option("--history", type=FILE, help="Write every operation of the clients into this file, as JSON lines.")
@click.option("--report", type=FILE, help="Write the run into this file, as one page of HTML.")
def run(scenario: Path | None, **options: Any) -> None:
    """Play a story about a cluster, and check it.

    SCENARIO is a Python file with setup(stage), story(stage) and check(stage). It is played on processes of this
    machine, or with --simulate in virtual time. Exit status: 0 all was as it must be, 1 it was not, 3 this world
    cannot play it.

    \b
    Examples:
      ringkeeper run scenarios/node_joins.py
      ringkeeper run scenarios/node_joins.py --simulate --seeds 1000
      ringkeeper run scenarios/node_joins.py --simulate --seed 17 --report seed17.html
      ringkeeper run --random --simulate --minutes 30
    """
    _check_options(scenario, options)
    seed, seeds, minutes, check = options["seed"], options["seeds"], options["minutes"], not options["no_check"]
    if options["random_story"] and (minutes is not None or seeds is not None):
        first = random.randrange(FIRST_SEEDS) if seed is None else seed
        run_random(first, seeds, minutes, check=check)
        return
    first = 1 if seed is None else seed
    if scenario is not None and seeds is not None and seeds > 1:
        run_many(scenario, range(first, first + seeds), check=check)
        return
    how = How(options["simulate"], check, options["trace"], options["history"], options["report"])
    if scenario is not None:
        tell_end(run_one(_loaded(scenario), first, how, again := how.command(str(scenario), seed=first)), again)
    else:
        run_schedule(first, options["schedule"], how)


def _check_options(scenario: Path | None, options: dict[str, Any]) -> None:
    """Raises UsageError for options that make no sense together."""
    chosen = [scenario is not None, options["random_story"], options["schedule"] is not None]
    if not any(chosen):
        raise click.UsageError("name the file of a scenario, for example scenarios/node_joins.py, or say --random")
    if sum(chosen) > 1:
        raise click.UsageError("a SCENARIO, --random and --schedule exclude each other")
    for name, option, needs in USES:
        if options[name] not in (None, False) and not options[NEEDED[needs]]:
            raise click.UsageError(f"{option} needs {needs}")
    if options["schedule"] is not None and (options["seed"] is not None or options["seeds"] is not None):
        raise click.UsageError("a schedule has its seed in it: leave --seed and --seeds out")
    many = options["minutes"] is not None or (options["seeds"] or 1) > 1
    for name in ("trace", "history", "report"):
        if many and options[name] is not None:
            raise click.UsageError(f"--{name} is for one run: give one seed")


def _loaded(path: Path) -> "Scenario":
    from ..scenarios.play import NotAScenario, load_scenario

    try:
        return load_scenario(path)
    except NotAScenario as error:
        raise click.BadParameter(str(error), param_hint="SCENARIO") from error


# One run


@dataclass(frozen=True, slots=True)
class How:
    """In which world to play, and what to keep of it."""

    simulate: bool
    check: bool = True
    trace: Path | None = None
    history: Path | None = None
    report: Path | None = None

    def command(self, *what: str, seed: int | None) -> str:
        """What to type to play this again."""
        words = ["ringkeeper", "run", *what]
        words += [] if seed is None else ["--seed", str(seed)]
        words += ["--simulate"] if self.simulate else []
        return shlex.join(words if self.check else [*words, "--no-check"])


def run_one(scenario: "Scenario", seed: int, how: How, again: str) -> "Played":
    """Play a scenario once, with its timeline as it comes, and write what was asked for."""
    from ..scenarios.play import play
    from ..scenarios.recording import RecordedStage, record_of
    from ..scenarios.report import write_report

    click.echo(f"{scenario.name}, seed {seed}{', simulated' if how.simulate else ''}")
    if scenario.about:
        click.echo(f"  {scenario.about.splitlines()[0]}")
    if how.trace is None:
        stage = stage_of(seed, how)
        played = play(scenario, stage)
    else:
        with how.trace.open("w", encoding="utf-8", errors="backslashreplace") as file:
            stage = stage_of(seed, how, tell_trace=lambda line: file.write(f"{line}\n"))
            played = play(scenario, stage)
    if how.history is not None and played.history is not None:
        played.history.write(how.history)
    if how.report is not None and isinstance(stage, RecordedStage):
        write_report(how.report, record_of(played, stage, about=scenario.about, again=again))
        click.echo(f"report: {how.report}")
    return played


def stage_of(seed: int, how: How, **settings: Any) -> "Stage":
    """A stage as it is wanted."""
    from ..scenarios.real_stage import RealStage
    from ..scenarios.recording import RecordedRealStage, RecordedSimulatedStage
    from ..scenarios.simulated_stage import SimulatedStage

    if how.simulate:
        simulated = SimulatedStage if how.report is None else RecordedSimulatedStage
        return simulated(seed, tell=tell, check=how.check, **settings)
    return (RealStage if how.report is None else RecordedRealStage)(seed, tell=tell)


def tell(moment: "Moment") -> None:
    """A line of the timeline."""
    click.echo(f"{moment.at:9.3f} s  {moment.sentence}")


def tell_end(played: "Played", command: str) -> None:
    """Say what came of a run, and end with its exit status if it was not good. The trace comes last."""
    if played.skipped:
        raise Trouble(f"SKIPPED, not played to its end and not checked: {played.skipped}", REFUSED)
    for violation in played.violations[:VIOLATIONS_SHOWN_MAX]:
        click.echo(f"NOT AS IT MUST BE ({violation.check}): {violation}")
    if played.failure:
        click.echo(f"BROKE OFF: {played.failure}")
    world = f"{played.seconds:.1f} s"
    if played.trace:
        world = f"{world} of virtual time in {played.wall_seconds:.1f} s, {played.messages} messages"
    verdict = "all as it must be" if played.good else "FAILED"
    click.echo(f"{played.scenario}: {verdict}; {played.operations} operations, {world}")
    if not played.good:
        click.echo(f"again: {command}")
    if played.trace:
        click.echo(f"trace {played.trace}")
    sys.stdout.flush()
    if not played.good:
        click.get_current_context().exit(NO)


# Many runs


def run_many(path: Path, seeds: range, *, check: bool) -> None:
    """Play a scenario with many seeds on all cores, until one fails."""
    from ..scenarios.many import play_seeds

    _loaded(path)  # what is no scenario is said here, once
    runs = play_seeds(path, seeds, check=check, workers=os.cpu_count() or 1)
    failed = _play_all(path.stem, runs, total=len(seeds))
    if failed is not None:
        tell_end(failed, How(True, check).command(str(path), seed=int(failed.seed)))


def run_random(first: int, seeds: int | None, minutes: float | None, *, check: bool) -> None:
    """Play random stories on all cores, for so long or so many, until one fails."""
    from ..scenarios.many import play_random_seeds
    from ..scenarios.random_story import draw

    click.echo(f"random stories, from seed {first} on")
    seconds_max = float("inf") if minutes is None else 60.0 * minutes
    chosen: Iterable[int] = count(first) if seeds is None else range(first, first + seeds)
    runs = play_random_seeds(chosen, check=check, workers=os.cpu_count() or 1, seconds_max=seconds_max)
    failed = _play_all("random stories", runs, total=seeds)
    if failed is not None:
        seed = int(failed.seed)
        reduce_and_keep(draw(seed), failed, How(True, check))
        tell_end(failed, How(True, check).command("--random", seed=seed))


def _play_all(name: str, runs: Iterable["Played"], *, total: int | None) -> "Played | None":
    """Take runs as they come; the first that is not good is told and returned."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from ..scenarios.many import Tally

    tally = Tally()
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(name, total=total)
        failed = None
        for played in runs:
            tally.add(played)
            progress.advance(bar)
            if not played.good:
                failed = played
                break
    if failed is None:
        click.echo(f"{name}: {tally}, all as it must be")
        return None
    for moment in failed.timeline:
        tell(moment)
    click.echo(f"{name}: seed {failed.seed} failed after {tally.runs - 1} that were as they must be")
    return failed


# Random stories


def run_schedule(seed: int, path: Path | None, how: How) -> None:
    """Play the random story of a file, or of a seed; if it fails, look for a shorter one."""
    from ..scenarios.random_story import NotASchedule, Schedule, as_scenario, draw

    if path is None:
        schedule, again = draw(seed), how.command("--random", seed=seed)
    else:
        try:
            schedule = Schedule.from_json(path.read_bytes())
        except (OSError, NotASchedule) as error:
            what = error.strerror if isinstance(error, OSError) else str(error)
            raise click.BadParameter(f"{path} is no schedule: {what}", param_hint="--schedule") from error
        again = how.command("--schedule", str(path), seed=None)
    played = run_one(as_scenario(schedule), schedule.seed, how, again)
    if not played.good:
        reduce_and_keep(schedule, played, how)
    tell_end(played, again)


def reduce_and_keep(schedule: "Schedule", played: "Played", how: How) -> None:
    """Look for a shorter story that fails by the same check, print it, and write it into a file."""
    from ..scenarios.play import play
    from ..scenarios.random_story import as_scenario, reduced
    from ..scenarios.simulated_stage import SimulatedStage

    def fails(shorter: "Schedule") -> bool:
        again = play(as_scenario(shorter), SimulatedStage(shorter.seed, check=how.check))
        return not again.good and again.kind == played.kind

    click.echo(f"looking for a shorter story than this one of {len(schedule.events)} events...", err=True)
    shorter = reduced(schedule, fails)
    path = Path(f"story-{schedule.seed}.json")
    path.write_text(f"{shorter.to_json()}\n", encoding="utf-8")
    click.echo(shorter.to_json())
    click.echo(
        f"{played.kind}: also with these {len(shorter.events)} of {len(schedule.events)} events, which are in {path}: "
        f"{how.command('--schedule', str(path), seed=None)}"
    )
