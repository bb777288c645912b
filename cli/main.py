"""The command ``ringkeeper``: all commands together.

``cli/__init__.py`` lists them, ``outcomes.py`` their exit statuses.
"""

import click

from ..version import VERSION
from .backup import backup, export, import_, restore
from .changes import acks, balance, jobs, limit, nodes, recover, replicas, start, stop
from .data import delete, get, locate, put
from .events import events
from .load import load
from .outcomes import Commands
from .run import run
from .salvage import salvage
from .serve import ecs, node, zookeeper
from .shell.command import shell
from .show import ring, status
from .top import top
from .up import down, up
from .verify import verify


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="ringkeeper")
def ringkeeper() -> None:
    """A replicated key-value store made of actors, for every Redis Cluster client.

    \b
    Begin with:
      ringkeeper up                       three nodes in ./ringkeeper-data; Ctrl-C ends them
      ringkeeper put user:42 Ada          in another terminal
      ringkeeper get user:42
      ringkeeper ring
      ringkeeper nodes add                a fourth, while clients go on
      ringkeeper shell                    look inside, talk to actors, hold their messages
      ringkeeper run FILE                 a story about a cluster, played and checked

    Every command answers --help with an example. Exit statuses: 0 done; 1 a negative answer (no such key, nothing
    runs there, the ring does not serve, a job was given up); 2 the command line or a setting makes no sense; 3 refused
    or unreachable, nothing happened; 4 in doubt, read before trying again; 70 a bug.
    """


KEYS = (put, get, delete, locate, load)
CHANGES = (nodes, jobs, replicas, acks, balance, limit, start, stop, recover)
BACKUPS = (backup, restore, export, import_)
PROCESSES = (node, ecs, zookeeper)
for command in (
    up,
    down,
    status,
    ring,
    top,
    events,
    verify,
    salvage,
    *KEYS,
    *CHANGES,
    *BACKUPS,
    shell,
    run,
    *PROCESSES,
):
    ringkeeper.add_command(command)


def main() -> None:
    """Run the command line of this process."""
    ringkeeper(prog_name="ringkeeper")


if __name__ == "__main__":
    main()
