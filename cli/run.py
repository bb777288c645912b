"""The command that plays scenarios, on real processes or in the simulation, and random stories.

Simulated runs with many seeds share the cores: each worker process plays one seed after the other. The first run that
fails ends it all; what is printed of it is its seed's whole story and the one command that plays it again.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import FILE
from .outcomes import NO, REFUSED, Trouble

if TYPE_CHECKING:
    from ..scenarios.play import Played, Scenario
    from ..scenarios.stage import Moment

VIOLATIONS_SHOWN_MAX = 10
SEEDS_MAX = 10_000_000


@click.command()
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("--simulate", is_flag=True, help="In the simulation: virtual time, and the same again for the same seed.")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="What chance does; 1 if not given.")
@click.option("--seeds", type=click.IntRange(1, SEEDS_MAX), metavar="N", help="N runs, from that seed on (--simulate).")
@click.option("--no-check", is_flag=True, help="Let the actors' invariants alone, which is faster (--simulate).")
@click.option("--trace", type=FILE, help="Write every message into this file (--simulate with one seed).")
@click.option("--history", type=FILE, help="Write every operation of the clients into this file, as JSON lines.")
def run(
    scenario: Path | None,
    simulate: bool,
    seed: int | None,
    seeds: int | None,
    no_check: bool,
    trace: Path | None,
    history: Path | None,
) -> None:
    """Play a scenario: a story about a cluster, and what must be true in the end.

    SCENARIO is a Python file with setup(stage), story(stage) and check(stage). It is played on processes of this
    machine, or with --simulate in virtual time. Exit status: 0 all was as it must be, 1 it was not, 3 this world
    cannot play it.

    \b
    Examples:
      ringkeeper run scenarios/node_joins.py
      ringkeeper run scenarios/node_joins.py --simulate --seeds 1000
      ringkeeper run scenarios/node_joins.py --simulate --seed 17 --trace seed17.trace
    """
    from ..scenarios.play import NotAScenario, load_scenario

    many = seeds is not None and seeds > 1
    for wrong, sentence in (
        (scenario is None, "name the file of a scenario, for example scenarios/node_joins.py"),
        (not simulate and (many or no_check or trace is not None), "--seeds, --no-check and --trace need --simulate"),
        (many and (trace is not None or history is not None), "--trace and --history are for one run: give one seed"),
    ):
        if wrong:
            raise click.UsageError(sentence)
    assert scenario is not None
    try:
        loaded = load_scenario(scenario)
    except NotAScenario as error:
        raise click.BadParameter(str(error), param_hint="SCENARIO") from error
    first = 1 if seed is None else seed
    if many and seeds is not None:
        run_many(scenario, range(first, first + seeds), check=not no_check)
        return
    played = run_one(loaded, first, simulate=simulate, check=not no_check, trace=trace)
    if history is not None and played.history is not None:
        played.history.write(history)
    tell_end(played, command_of(scenario, first, simulate=simulate, check=not no_check))


def run_one(scenario: "Scenario", seed: int, *, simulate: bool, check: bool, trace: Path | None) -> "Played":
    """Play a scenario once, with its timeline as it comes."""
    from ..scenarios.play import play

    click.echo(f"{scenario.name}, seed {seed}{', simulated' if simulate else ''}")
    if scenario.about:
        click.echo(f"  {scenario.about.splitlines()[0]}")
    if not simulate:
        from ..scenarios.real_stage import RealStage

        return play(scenario, RealStage(seed, tell=tell))
    from ..scenarios.simulated_stage import SimulatedStage

    if trace is None:
        return play(scenario, SimulatedStage(seed, tell=tell, check=check))
    with trace.open("w", encoding="utf-8", errors="backslashreplace") as file:
        return play(
            scenario, SimulatedStage(seed, tell=tell, check=check, tell_trace=lambda line: file.write(f"{line}\n"))
        )


def run_many(path: Path, seeds: range, *, check: bool) -> None:
    """Play a scenario with many seeds on all cores, until one fails."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..scenarios.many import Tally, play_seeds

    tally = Tally()
    failed: Played | None = None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(path.stem, total=len(seeds))
        for played in play_seeds(path, seeds, check=check, workers=os.cpu_count() or 1):
            tally.add(played)
            progress.advance(bar)
            if not played.good:
                failed = played
                break
    if failed is not None:
        for moment in failed.timeline:
            tell(moment)
        click.echo(f"{path.stem}: seed {failed.seed} failed after {tally.runs - 1} that were as they must be")
        tell_end(failed, command_of(path, int(failed.seed), simulate=True, check=check))
    click.echo(f"{path.stem}: {tally}, all as it must be")


def tell(moment: "Moment") -> None:
    """A line of the timeline."""
    click.echo(f"{moment.at:9.3f} s  {moment.sentence}")


def tell_end(played: "Played", command: str) -> None:
    """Say what came of a run, and end with its exit status."""
    context = click.get_current_context()
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
        context.exit(NO)


def command_of(path: Path, seed: int, *, simulate: bool, check: bool) -> str:
    """What to type to play this again."""
    words = ["ringkeeper", "run", str(path), "--seed", str(seed)]
    return shlex.join([*words, *(["--simulate"] if simulate else []), *([] if check else ["--no-check"])])
