"""What several commands are told the same way: which cluster, which password, where to log."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .outcomes import client_errors_in_words
from .printable import printable

if TYPE_CHECKING:
    from ..actors.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_CLUSTER = "127.0.0.1:7001"
TIMEOUT_SECONDS_MAX = 86400.0
LOG_LEVELS = ("debug", "info", "warning", "error")
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


class Key(click.ParamType[bytes]):
    """A key: the very bytes that were typed, whatever their encoding."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        key = os.fsencode(value)
        if not key:
            self.fail("a key has at least one byte", param, ctx)
        return key


class SecondsOrOff(click.ParamType[float]):
    """A number of seconds, or `off`, which is 0."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = 0.0 if value == "off" else float(value)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            self.fail(f"{value!r} is neither a number of seconds nor off", param, ctx)
        return seconds


def shown(key: bytes) -> str:
    """A key for a sentence."""
    return printable(key.decode("utf-8", "backslashreplace"))


def or_said_before(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """What was said of it between the names of a group and its command (``nodes --cluster A add``) counts as well."""
    name, said = str(parameter.name), click.core.ParameterSource.COMMANDLINE
    above = context.parent
    if above is not None and context.get_parameter_source(name) != said and above.get_parameter_source(name) == said:
        return above.params[name]
    return value


def cluster_options(command: Command) -> Command:
    """--cluster, --password, --timeout."""
    for option in (
        click.option(
            "--timeout",
            "timeout_seconds",
            type=click.FloatRange(min=0, min_open=True, max=TIMEOUT_SECONDS_MAX),
            default=5.0,
            show_default=True,
            metavar="SECONDS",
            callback=or_said_before,
            help="How long each operation may take.",
        ),
        click.option(
            "--password",
            envvar="RINGKEEPER_PASSWORD",
            default=None,
            callback=or_said_before,
            help="What the nodes ask for, if they do. Better in the environment, as RINGKEEPER_PASSWORD: other users "
            "can see command lines.",
        ),
        click.option(
            "--cluster",
            envvar="RINGKEEPER_CLUSTER",
            default=DEFAULT_CLUSTER,
            show_default=True,
            metavar="HOST:PORT[,...]",
            callback=or_said_before,
            help="Any of its nodes; more than one in case one is down. Or set RINGKEEPER_CLUSTER.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def opened(cluster: str, password: str | None, timeout_seconds: float) -> Iterator["Client"]:
    """A client of the cluster. What it raises inside becomes a sentence and an exit status."""
    from ..actors.client import Client

    try:
        client = Client(cluster, password=password or None, timeout_seconds=timeout_seconds)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cluster") from error
    with client, client_errors_in_words():
        yield client


def json_option(command: Command) -> Command:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, callback=or_said_before, help="For programs.")(command)


def log_options(command: Command) -> Command:
    """--log-level, --log-file."""
    for option in (
        click.option("--log-file", type=FILE, help="Log here instead of to standard error."),
        log_level_option,
    ):
        command = option(command)
    return command


def log_level_option(command: Command) -> Command:
    return click.option(
        "--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True, help="What to log, and worse."
    )(command)
