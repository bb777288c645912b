"""A session that shows what the shell can do: a put on its way, held up, let go, and answered for by another node.

    python -m ringkeeper.cli.shell.tour                 # on a cluster that it starts, and ends
    python -m ringkeeper.cli.shell.tour --simulate 7    # the same in the simulation

README shows what it prints, and the tests play it in both worlds.
"""

import sys

import click

from .session import Shell
from .table import TABLE
from .target import Target

LINES = (
    "nodes",
    "put user:42 Ada",
    "locate user:42",
    "trace key user:42 as diagram do put user:42 Grace",
    "hold Append from owner-of user:42 to successor-of user:42",
    "put user:42 Barbara &",
    "run 300ms",
    "waiting",
    "owner-of user:42 faults",
    "release",
    "wait",
    "kill owner-of user:42",
    "until down it",
    "get user:42",
    "locate user:42",
    "why user:42",
)


def play(target: Target) -> int:
    """Run all the lines, each after its prompt; returns the worst status."""
    shell = Shell(target, TABLE)
    shell.err = shell.out
    for line in LINES:
        shell.say(f"> {line}")
        shell.run(line)
    return shell.status


@click.command()
@click.option("--simulate", type=click.IntRange(min=0), metavar="SEED", help="In the simulation.")
def main(simulate: int | None) -> None:
    """Play the tour."""
    if simulate is not None:
        from .simulated_target import SimulatedTarget

        target: Target = SimulatedTarget(simulate, None, lambda moment: None)
        try:
            status = play(target)
        finally:
            target.close()
    else:
        from ...actors.local import LocalCluster
        from .real_target import RealTarget

        with LocalCluster(nodes=3, allow_faults=True) as cluster:
            target = RealTarget(",".join(cluster.seeds), None, 5.0)
            try:
                status = play(target)
            finally:
                target.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
