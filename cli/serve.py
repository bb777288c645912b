"""The commands that are one process of a cluster: node, ecs, zookeeper. ``up`` starts them, or a person does.

Each stays in the foreground until SIGTERM or Ctrl-C and logs to standard error, as a service manager likes it.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..actors.config import FSYNC_POLICIES, STORES, ConfigError, EcsConfig, NodeConfig, ZooKeeperConfig
from ..actors.rules.placement import PLACES
from ..actors.rules.ring import ACKS
from .options import FILE, FOLDER, Command, SecondsOrOff, log_options
from .outcomes import BUG, REFUSED, USAGE, Trouble

log = logging.getLogger(__name__)


def setting(config: type, name: str, option: str = "", **more: Any) -> Callable[[Command], Command]:
    """The option for a field of a configuration, with the field's own default."""
    default = config.__dataclass_fields__[name].default  # type: ignore[attr-defined]
    more = {"default": default, "show_default": default != "", **more}
    return click.option(option or f"--{name.replace('_', '-')}", name, **more)


def process_options(command: Command) -> Command:
    """What every process of a cluster is told: see ``actors.config.ProcessConfig``."""
    for option in (
        setting(
            NodeConfig,
            "metrics_bind",
            help="The address for --metrics-port. Whoever reaches it reads figures (no keys) without a password.",
        ),
        setting(
            NodeConfig,
            "metrics_port",
            type=int,
            show_default="nowhere",
            help="Serve /metrics for Prometheus, /healthz and /readyz there.",
        ),
        setting(
            NodeConfig,
            "allow_code",
            is_flag=True,
            help="Let whoever may change the ring, and every process of the cluster, run code of theirs in this one.",
        ),
        setting(
            NodeConfig,
            "allow_faults",
            is_flag=True,
            help="Let whoever may change the ring also tell actors anything, and hold, delay or drop messages.",
        ),
        setting(
            NodeConfig,
            "session_timeout_seconds",
            "--session-timeout",
            type=float,
            metavar="SECONDS",
            help="A process that ZooKeeper does not hear for so long is gone.",
        ),
        setting(NodeConfig, "cluster_name", help="Clusters can share a ZooKeeper by name."),
        setting(
            NodeConfig,
            "secret_file",
            type=FILE,
            help="Holds what the processes of a cluster prove to each other. The same content everywhere, mode 0600; "
            "needed unless --bind is a loopback address.",
        ),
        setting(NodeConfig, "advertise", help="The name that others reach this host by.  [default: as --bind]"),
        setting(NodeConfig, "bind", help="The address to listen on."),
        setting(NodeConfig, "zookeeper", metavar="HOST:PORT[,...]", help="The cluster's ZooKeeper."),
    ):
        command = option(command)
    return command


@click.command()
@setting(NodeConfig, "port", type=int, help="For clients. The bridge is 10000 higher.")
@click.option("--data", type=FOLDER, required=True, help="This node's own folder, made if it is not there.")
@setting(
    NodeConfig,
    "fsync",
    type=click.Choice(FSYNC_POLICIES),
    help="When writes are forced to disk. A killed process loses nothing either way; a power cut may.",
)
@setting(
    NodeConfig,
    "store",
    type=click.Choice(STORES),
    help="What the records are kept in. json: lines that a person can read, all in memory as well; for little data.",
)
@setting(
    NodeConfig,
    "joins",
    "--no-join",
    is_flag=True,
    flag_value=False,
    show_default=False,
    help="Register, and wait until `ringkeeper nodes add --node` takes it into the ring.",
)
@setting(NodeConfig, "password", envvar="RINGKEEPER_PASSWORD", help="What clients must AUTH with.")
@setting(NodeConfig, "clients_max", type=int, help="Connections at once.")
@setting(NodeConfig, "value_bytes_max", type=int, help="Larger values are refused.")
@setting(NodeConfig, "cache_bytes", type=int, help="Records kept in memory as well.")
@setting(
    NodeConfig,
    "scrub_bytes_per_second",
    type=click.IntRange(min=0),
    metavar="BYTES",
    help="So fast are this node's slots compared with their other copies in the background. 0: not at all.",
)
@process_options
@log_options
def node(log_level: str, log_file: Path | None, **settings: Any) -> None:
    """Run a storage node.

    It registers in ZooKeeper and is taken into the ring from there: others hand it the keys of its slots meanwhile,
    and clients notice nothing. A node that has been in the ring takes up its place again.

    \b
    Example, on a host of its own:
      ringkeeper node --port 7001 --data /var/lib/ringkeeper --zookeeper zk1:2181,zk2:2181,zk3:2181 \\
          --bind 0.0.0.0 --advertise node1.example.org --secret-file /etc/ringkeeper/secret
    """
    from ..actors.node_folder import NodeFolderError
    from ..actors.processes import run_node
    from ..runtime.store import StoreError

    serve(lambda: run_node(NodeConfig(**settings)), (NodeFolderError, StoreError), log_level, log_file)


@click.command()
@setting(EcsConfig, "port", type=int, show_default="a free one", help="For the other processes.")
@setting(
    EcsConfig,
    "found_with",
    type=click.IntRange(min=1),
    metavar="NODES",
    help="A new ring is founded once so many nodes have registered.",
)
@setting(EcsConfig, "replicas", type=int, metavar="COPIES", help="Of each slot in a new ring, if it has as many nodes.")
@setting(
    EcsConfig,
    "min_copies",
    type=int,
    metavar="COPIES",
    help="Of a new ring: with fewer of a slot's copies up, writes to it are refused.",
)
@setting(
    EcsConfig,
    "acks",
    type=click.Choice(ACKS),
    help="Of a new ring: a write is answered once all copies that are up have it, or one; then a failover may lose it.",
)
@setting(
    EcsConfig,
    "recovery_wait_seconds",
    "--recovery-wait",
    type=float,
    metavar="SECONDS",
    help="After a power cut that took all copies of a slot: so long the others are waited for once one is back.",
)
@setting(
    EcsConfig,
    "out_after_seconds",
    "--out-after",
    type=SecondsOrOff(),
    help="A node that is down for so long is given up: its copies are made elsewhere. Or `off`.",
)
@setting(EcsConfig, "place", type=click.Choice(PLACES), help="How a new ring places its nodes.")
@process_options
@log_options
def ecs(log_level: str, log_file: Path | None, **settings: Any) -> None:
    """Run a control service.

    One leads, any number more stand by.

    \b
    Example:
      ringkeeper ecs --found-with 3 --zookeeper zk1:2181 --bind 10.0.0.5 --secret-file /etc/ringkeeper/secret
    """
    from ..actors.processes import run_ecs

    serve(lambda: run_ecs(EcsConfig(**settings)), (), log_level, log_file)


@click.command()
@setting(ZooKeeperConfig, "port", type=int, help="For ZooKeeper clients.")
@setting(ZooKeeperConfig, "bind", help="The address to listen on.")
@click.option("--data", type=FOLDER, required=True, help="Its folder, made if it is not there.")
@setting(
    ZooKeeperConfig,
    "tick_milliseconds",
    "--tick",
    type=click.IntRange(min=1),
    metavar="MILLISECONDS",
    help="Sessions last 2 to 20 ticks.",
)
@log_options
def zookeeper(log_level: str, log_file: Path | None, **settings: Any) -> None:
    """Run the embedded ZooKeeper.

    It is a single server, for laptops, tests and demos, and speaks ZooKeeper's own protocol, so any ZooKeeper
    client can look inside. In production use a real ensemble.

    \b
    Example:
      ringkeeper zookeeper --port 2181 --data ./zookeeper
    """
    from ..actors.processes import run_zookeeper
    from ..runtime.zookeeper.storage import DataError

    serve(lambda: run_zookeeper(ZooKeeperConfig(**settings)), (DataError,), log_level, log_file)


def serve(run: Callable[[], int], refusals: tuple[type[Exception], ...], log_level: str, log_file: Path | None) -> None:
    """Run a process until its end, whose status becomes ours. ``refusals`` are what may keep it from starting."""
    from ..runtime.children import obey_leash
    from ..runtime.process import configure_log

    try:
        configure_log(log_level, log_file)
        obey_leash()
        sys.exit(run())
    except ConfigError as error:
        raise Trouble(error, USAGE) from error
    except refusals as error:
        raise Trouble(error, REFUSED) from error
    except OSError as error:
        raise Trouble(error.strerror or error, REFUSED) from error
    except Exception as bug:
        log.critical("this should not have happened", exc_info=bug)
        raise Trouble(f"failed in a way that it should not: {bug!r}; the log says more", BUG) from bug
