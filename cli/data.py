"""The commands for single keys: put, get, delete, locate."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .options import FILE, Key, cluster_options, opened, shown
from .outcomes import NO, USAGE, Trouble


@click.command()
@click.argument("key", type=Key())
@click.argument("value", required=False)
@click.option("--file", "file", type=FILE, help="Take the value from this file.")
@cluster_options
def put(
    key: bytes, value: str | None, file: Path | None, cluster: str, password: str | None, timeout_seconds: float
) -> None:
    """Store a value under a key.

    What was there before is replaced. VALUE "-" reads standard input.

    \b
    Examples:
      ringkeeper put user:42 Ada
      ringkeeper put photo:7 --file ada.jpg
      date | ringkeeper put now -
    """
    if (value is None) == (file is None):
        raise click.UsageError("give either a VALUE or --file FILE")
    try:
        content = file.read_bytes() if file else sys.stdin.buffer.read() if value == "-" else os.fsencode(value or "")
    except OSError as error:
        raise Trouble(f"{file or 'standard input'} cannot be read: {error.strerror}", USAGE) from error
    with opened(cluster, password, timeout_seconds) as client:
        client.set(key, content)


@click.command()
@click.argument("key", type=Key())
@cluster_options
def get(key: bytes, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Print the value of a key.

    It is written to standard output byte by byte as it was stored. Exit status 1: no such key.

    \b
    Examples:
      ringkeeper get user:42
      ringkeeper get photo:7 > ada.jpg
    """
    with opened(cluster, password, timeout_seconds) as client:
        value = client.get(key)
    if value is None:
        raise Trouble(f"{shown(key)} is not there", NO)
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty() and not value.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


@click.command()
@click.argument("key", type=Key())
@cluster_options
def delete(key: bytes, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Remove a key and its value.

    Exit status 1: it was not there.

    \b
    Example:
      ringkeeper delete user:42
    """
    with opened(cluster, password, timeout_seconds) as client:
        if not client.delete(key):
            raise Trouble(f"{shown(key)} was not there", NO)


@click.command()
@click.argument("key", type=Key())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_options
def locate(key: bytes, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Say which nodes a key belongs to.

    And which slot; whether there is such a key does not matter.

    \b
    Examples:
      ringkeeper locate user:42
      ringkeeper locate user:42 --json
    """
    with opened(cluster, password, timeout_seconds) as client:
        located = json.loads(client.execute("RING", "LOCATE", key))
    if as_json:
        click.echo(json.dumps(located, indent=2))
        return
    click.echo(located_text(shown(key), located))


def located_text(key: str, located: Mapping[str, Any]) -> str:
    """What RING LOCATE says of a key, for people."""
    coordinator = located["coordinator"] or "nobody at the moment"
    text = f"{key} is in slot {located['slot']}; {coordinator} answers for it (ring epoch {located['epoch']})"
    return "\n".join([text, *(f"  {member['id']}  {member['state']}" for member in located["list"])])
