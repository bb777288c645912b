"""``ringkeeper shell``: begins a session with a cluster, or with the simulation of one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options import FILE, cluster_options
from ..outcomes import DONE, INTERRUPTED

if TYPE_CHECKING:
    from .session import Shell
    from .target import Target


@click.command()
@click.argument("scenario", required=False, type=FILE)
@click.option(
    "--simulate", type=click.IntRange(min=0), metavar="SEED", help="A simulated cluster, played by this seed."
)
@click.option("-c", "lines", metavar="COMMANDS", help="Run these, separated by ;, and end.")
@click.option(
    "--interfere", is_flag=True, help="Let kill, pause, cut... work on a cluster that was not started for it."
)
@cluster_options
def shell(
    scenario: Path | None,
    simulate: int | None,
    lines: str | None,
    interfere: bool,
    cluster: str,
    password: str | None,
    timeout_seconds: float,
) -> None:
    """Look into a running cluster, talk to its actors, break it.

    At a terminal: line editing, history, Tab completes, `help` lists the commands. In a pipe: a command a line, and
    the exit status is that of the worst answer. With --simulate the cluster is simulated, as in the story of SCENARIO
    (three nodes, and nothing befalls them, without one): its time passes only as far as commands need or say, goes
    back, and goes on another way.

    \b
    Examples:
      ringkeeper shell
      ringkeeper shell -c "owner-of user:42 actors"
      echo "trace key user:42 do put user:42 Ada" | ringkeeper shell
      ringkeeper shell --simulate 3 scenarios/node_dies.py
    """
    if scenario is not None and simulate is None:
        raise click.UsageError("a SCENARIO is for the simulation: say --simulate SEED")
    from .session import Shell
    from .table import TABLE

    target = _target(cluster, password, timeout_seconds, simulate, scenario)
    try:
        target.interfere |= interfere
        session = Shell(target, TABLE)
        _converse(session, lines)
    finally:
        target.close()
    if session.status != DONE:
        sys.exit(session.status)


def _target(
    cluster: str, password: str | None, timeout_seconds: float, simulate: int | None, scenario: Path | None
) -> "Target":
    if simulate is not None:
        from .simulated_target import SimulatedTarget

        return SimulatedTarget(
            simulate, scenario, lambda moment: click.echo(f"  {moment.at:9.3f} s  {moment.sentence}")
        )
    from .real_target import RealTarget

    try:
        return RealTarget(cluster, password, timeout_seconds)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cluster") from error


def _converse(shell: "Shell", lines: str | None) -> None:
    if lines is None and sys.stdin.isatty():
        from .terminal import read_lines

        read_lines(shell)
        shell.status = DONE  # whoever typed has seen what came of each
        return
    from .about_cluster import WAIT_SECONDS_MAX
    from .lines import unfinished

    try:
        text = ""
        for line in lines.splitlines(keepends=True) if lines is not None else sys.stdin:
            text += line
            if unfinished(text):
                continue
            if shell.run(text) == INTERRUPTED:
                return
            text = ""
        if text:
            shell.run(text)
    except EOFError:  # it was told to exit
        pass
    shell.target.wait(lambda: all(pending.ended is not None for pending in shell.pending), WAIT_SECONDS_MAX)
    shell.tell_ended()
