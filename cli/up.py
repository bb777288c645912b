"""The commands for a whole cluster on this machine: up, down.

``up`` is the launcher's process (``actors/launcher.py``): it stays, in the foreground or, with ``--detach``, in the
background. Going to the background is a fork right at the start, before there is any thread; the child reports through
a pipe what came of it, and the parent prints that and ends. A pipe that closes without a report is a report, too.

Signals: the first SIGINT, SIGTERM or SIGHUP ends the cluster in order, another one at once.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..actors.config import FSYNC_POLICIES, STORES
from ..actors.rules.placement import PLACES
from ..actors.rules.ring import ACKS
from .options import FOLDER, SecondsOrOff, log_level_option, opened
from .outcomes import BUG, INTERRUPTED, NO, REFUSED, USAGE, Trouble, keep_trace

if TYPE_CHECKING:
    from ..actors.local import News

SERVES = "The ring serves."
STOPPED = "The ring is stopped: client requests are refused until `ringkeeper start`."
ALLOWED = {
    "tell its actors anything, and hold, delay or drop their messages (--allow-faults)": "allow_faults",
    "run code in its processes (--allow-code)": "allow_code",
}
DEFAULT_DATA = Path("ringkeeper-data")
LOOK_SECONDS = 5.0
"""While nothing happens, ``up`` looks so often whether its launcher still lives."""
DOWN_SECONDS_MAX = 90.0
"""A launcher that has not ended its processes within this time is killed, and they are ended without it."""


class _Asked(BaseException):
    """A signal asked this process to end."""


@click.command()
@click.option("--nodes", type=int, help="How many storage nodes.  [default: 3]")
@click.option("--port", type=int, help="Of the first node; the others follow upwards.  [default: 7001]")
@click.option("--data", type=FOLDER, default=DEFAULT_DATA, show_default=True, help="Where all of it is kept.")
@click.option("--zookeeper", metavar="HOST:PORT[,...]", help="A ZooKeeper of your own.  [default: the embedded one]")
@click.option("--place", type=click.Choice(PLACES), help="How the nodes stand on the ring.  [default: even]")
@click.option(
    "--fsync",
    type=click.Choice(FSYNC_POLICIES),
    help="When writes are forced to disk; only a power cut can tell.  [default: everysec]",
)
@click.option(
    "--store",
    type=click.Choice(STORES),
    help="What records are kept in; json: lines that a person can read, for little data.  [default: rocksdb]",
)
@click.option("--replicas", type=int, metavar="COPIES", help="Of each slot, on as many nodes.  [default: 3]")
@click.option(
    "--min-copies",
    type=int,
    metavar="COPIES",
    help="With fewer of a slot's copies up, writes to it are refused.  [default: 2, or as many as there can be]",
)
@click.option(
    "--acks",
    type=click.Choice(ACKS),
    help="When a write is answered: once all copies that are up have it, or one; then a failover may lose it.  "
    "[default: all]",
)
@click.option(
    "--out-after",
    "out_after_seconds",
    type=SecondsOrOff(),
    help="A node that is down for so long is given up: its copies are made elsewhere. Or `off`.  [default: 30]",
)
@click.option(
    "--scrub-bytes-per-second",
    type=click.IntRange(min=0),
    metavar="BYTES",
    help="So fast does each node compare its slots with their other copies. 0: not at all.  [default: 1048576]",
)
@click.option("--cluster-name", "name", help="Needed if clusters share a ZooKeeper.  [default: ringkeeper]")
@click.option(
    "--allow-faults",
    is_flag=True,
    help="Let whoever may change the ring also tell actors anything, and hold, delay or drop messages. To play with.",
)
@click.option(
    "--allow-code",
    is_flag=True,
    help="Let whoever may change the ring run code of theirs in any process. To play with.",
)
@click.option("--detach", is_flag=True, help="Return once the ring serves; `ringkeeper down` ends it.")
@log_level_option
def up(detach: bool, data: Path, log_level: str, **wishes: Any) -> None:
    """Start a cluster on this machine.

    ZooKeeper, a control service and storage nodes, each a process of its own. Stays in the foreground until Ctrl-C
    ends it all. What is in --data is brought back as it was, with the nodes that were added since and without those
    that left; --nodes, --port and the like need not be repeated then. A node that dies is reported and stays dead; the
    others come back by themselves. If this command is killed the cluster lives on, and the next `up` on the same
    folder takes it over. A password for clients goes in the environment, as RINGKEEPER_PASSWORD, of `up` and of
    everybody else.

    \b
    Examples:
      ringkeeper up
      ringkeeper up --nodes 5 --port 7101 --data /var/tmp/five --detach
    """
    from ..actors.cluster_folder import ClusterFolder, FolderError

    try:
        if ClusterFolder(data).cluster() is None and wishes["port"] is None:
            wishes["port"] = 7001
    except FolderError as error:
        raise Trouble(error) from error
    launch = Launch(data, log_level, wishes)
    if detach:
        _detach(launch)
    else:
        launch.run(in_foreground=True, report=launch.introduce)


@dataclass(slots=True)
class Launch:
    """One run of ``up``."""

    data: Path
    log_level: str
    wishes: dict[str, Any]
    serving: bool = False

    def run(self, *, in_foreground: bool, report: Callable[[tuple[str, ...]], object]) -> None:
        """Start, report the seeds once the ring serves, stay, end. Raises Trouble when something kept it from that."""
        from ..actors.cluster_folder import LAUNCHER, ClusterFolder, FolderError
        from ..actors.config import ConfigError
        from ..actors.local import LocalCluster, StartFailed
        from ..runtime.process import configure_log

        try:
            folder = ClusterFolder(self.data)
            folder.prepare()
            folder.begin_log(LAUNCHER)
            configure_log(self.log_level, folder.log_file(LAUNCHER))
            cluster = LocalCluster(
                data=self.data,
                log_level=self.log_level,
                outlive=True,
                on_news=self._tell_people if in_foreground else None,
                **self.wishes,
            )
            with _signals_asking(cluster.hurry):
                try:
                    cluster.start()
                    self.serving = True
                    report(cluster.seeds)
                    while cluster.failure() is None:
                        cluster.wait_for_news(LOOK_SECONDS)
                    raise Trouble(
                        f"the launcher failed: {cluster.failure()} ({folder.log_file(LAUNCHER)}). The cluster runs on "
                        f"without it; `ringkeeper up --data {self.data}` takes it over, `down` ends it.",
                        BUG,
                    )
                except _Asked:
                    if in_foreground:
                        click.echo("\nending all processes (again to kill them) ...")
                finally:
                    cluster.stop()
        except ConfigError as error:
            raise Trouble(error, USAGE) from error
        except (FolderError, StartFailed) as error:
            raise Trouble(error, REFUSED) from error

    def introduce(self, seeds: tuple[str, ...]) -> None:
        """Print the ring and how to use it."""
        from .show import draw_ring

        with opened(",".join(seeds), os.environ.get("RINGKEEPER_PASSWORD"), 5.0) as client:
            draw_ring(client)
            serving = client.ring()["serving"]
        host, _, port = seeds[0].rpartition(":")
        click.echo(
            f"""
{SERVES if serving else STOPPED} Connect with any Redis Cluster client, for example
  redis-cli -c -h {host} -p {port}
  ringkeeper put user:42 Ada --cluster {seeds[0]}
  python -c 'from ringkeeper import Client; print(Client("{seeds[0]}").get("user:42"))'
Logs are in {self.data / "logs"}."""
        )
        allowed = [what for what, yes in ALLOWED.items() if self.wishes[yes]]
        if allowed:
            click.echo(f"Whoever may change the ring may {' and '.join(allowed)}: never where it matters.")

    def _tell_people(self, news: "News") -> None:
        """Print what happens to the processes. A death during the start is told as the reason why it failed."""
        from ..actors.launcher import ProcessesEnded, ProcessExited, ProcessLeft, ProcessStarted

        now = time.strftime("%H:%M:%S")
        match news:
            case ProcessStarted(adopted=True):
                click.echo(f"{now} {news.program.name} still runs, with process id {news.pid}")
            case ProcessStarted(added=True):
                click.echo(f"{now} {news.program.name} was added and runs, with process id {news.pid}")
            case ProcessStarted():
                again = " again" if news.restarts else ""
                click.echo(f"{now} {news.program.name} runs{again}, with process id {news.pid}")
            case ProcessExited(back_in_seconds=None) if self.serving:
                click.echo(f"{now} {news.sentence}. It stays dead until somebody starts it:\n  {news.program.command}")
            case ProcessExited() if self.serving:
                click.echo(f"{now} {news.sentence}; back in {news.back_in_seconds:.1f} s")
            case ProcessLeft():
                click.echo(f"{now} {news.sentence}")
            case ProcessesEnded():
                click.echo(f"{now} all processes have ended")


def _detach(launch: Launch) -> None:
    """Run in a process of its own, and wait for its report."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_in_background(launch, writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            text = pipe.read()
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        click.get_current_context().exit(INTERRUPTED)
    report = json.loads(text or b'{"status": 70, "trouble": ""}')
    if report["status"]:
        os.waitpid(child, 0)
        log_file = launch.data / "logs" / "launcher.log"
        raise Trouble(report["trouble"] or f"the launcher ended without a word; see {log_file}", report["status"])
    launch.introduce(tuple(report["seeds"]))
    click.echo(f"It runs in the background: `ringkeeper down --data {launch.data}` ends it.")


def _run_in_background(launch: Launch, pipe: int) -> NoReturn:
    """The child's part: no terminal, no standard streams, no way back into the command line's code."""

    def report(**fields: Any) -> None:
        with open(pipe, "w") as file:
            json.dump(fields, file)

    status, reported = 0, False

    def serving(seeds: tuple[str, ...]) -> None:
        nonlocal reported
        report(status=0, seeds=seeds)
        reported = True

    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        launch.run(in_foreground=False, report=serving)
    except Trouble as trouble:
        status = trouble.exit_code
        if not reported:
            report(status=status, trouble=trouble.message)
    except BaseException as bug:
        status = BUG
        if not reported:
            report(status=status, trouble=f"the launcher failed: {bug!r}; what it was doing is in {keep_trace(bug)}")
    finally:
        os._exit(status)


@contextmanager
def _signals_asking(hurry: Callable[[], None]) -> Iterator[None]:
    """Within this, the first signal to end raises _Asked, and further ones call ``hurry``."""
    asked = False

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            hurry()
        else:
            asked = True
            raise _Asked

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, heard) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@click.command()
@click.option("--data", type=FOLDER, default=DEFAULT_DATA, show_default=True, help="The folder that `up` was given.")
def down(data: Path) -> None:
    """End the cluster that runs in a folder.

    Whether `up` left it running in the background or was killed: all its processes end, in order. Its data stays:
    `ringkeeper up` brings it back. Exit status 1: nothing of it was running.

    \b
    Example:
      ringkeeper down --data /var/tmp/five
    """
    from ..actors.cluster_folder import LAUNCHER, PROGRAM, ClusterFolder, FolderError
    from ..actors.local import end_what_runs
    from ..runtime.children import end_all

    folder = ClusterFolder(data)
    try:
        if folder.cluster() is None:
            raise Trouble(f"no cluster lives in {data}; say where with --data", NO)
        running = folder.running()
        if PROGRAM in running:
            raise Trouble(
                f"the cluster in {data} is part of the program with process id {running[PROGRAM].pid}, and was not "
                "started by `ringkeeper up`: end that program instead"
            )
        killed = end_all(
            {name: each for name, each in running.items() if name == LAUNCHER}, seconds_max=DOWN_SECONDS_MAX
        )
        left = end_what_runs(folder)
        folder.note_end()
    except FolderError as error:
        raise Trouble(error) from error
    except PermissionError as error:
        raise Trouble(f"the cluster in {data} belongs to another user: {error.strerror}") from error
    if not running:
        raise Trouble(f"nothing of the cluster in {data} was running", NO)
    if killed:
        click.echo("its launcher did not end in order and was killed", err=True)
    click.echo(f"ended: {', '.join(running)}" + (f" (without their launcher: {', '.join(left)})" if left else ""))
