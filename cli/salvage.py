"""The command that shows what mirrors took from a node, and puts it back: salvage."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Key, cluster_options, json_option, opened, shown
from .outcomes import NO, REFUSED, Trouble

if TYPE_CHECKING:
    from ..actors.salvage import Salvaged

VALUE_SHOWN_BYTES_MAX = 60


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--key", "keys", type=Key(), multiple=True, help="Only this key; may be given several times.")
@click.option("--put-back", is_flag=True, help="Store the values again, of keys that have none now.")
@click.option("--overwrite", is_flag=True, help="With --put-back: of keys that have another value now as well.")
@json_option
@cluster_options
def salvage(
    folder: Path,
    keys: tuple[bytes, ...],
    put_back: bool,
    overwrite: bool,
    as_json: bool,
    cluster: str,
    password: str | None,
    timeout_seconds: float,
) -> None:
    """Show what a mirror took from a node.

    When it was made equal to others, that is, and where it might be nowhere else.

    FOLDER is the node's folder, or its file salvage.jsonl. There is such a file only where something may have been
    lost: under --acks one, after `recover --accept-loss`, and after a power cut that not everybody came back from. Of
    each key the last value is put back. Exit status 1: nothing was salvaged.

    \b
    Examples:
      ringkeeper salvage ./ringkeeper-data/node-7001
      ringkeeper salvage ./ringkeeper-data/node-7001 --key user:42 --put-back
    """
    from ..actors.salvage import SALVAGE_NAME, read_salvage

    file = folder / SALVAGE_NAME if folder.is_dir() else folder
    if not file.exists():
        raise Trouble(f"nothing was salvaged: there is no {file}", NO)
    found: dict[bytes, Salvaged] = {}
    try:
        for each in read_salvage(file):
            if isinstance(each, str):
                click.echo(each, err=True)
            elif not keys or each.key in keys:
                found.pop(each.key, None)
                found[each.key] = each
                if as_json:
                    click.echo(json.dumps(each.said))
                elif not put_back:
                    click.echo(_line(each))
    except OSError as error:
        raise Trouble(f"{file} cannot be read: {error.strerror}", REFUSED) from error
    if not found:
        raise Trouble(f"{file} holds nothing of that", NO)
    if put_back:
        with opened(cluster, password, timeout_seconds) as client:
            stored, now_ms = 0, time.time() * 1000
            for each in found.values():
                left_ms = int(each.expires_ms - now_ms)
                if each.expires_ms and left_ms <= 0:
                    continue
                words: list[str | int] = [] if overwrite else ["NX"]
                words += ["PX", left_ms] if each.expires_ms else []
                stored += client.execute("SET", each.key, each.value, *words) is not None
        click.echo(f"{stored} of {len(found)} keys put back; the others have a value, or have expired", err=as_json)


def _line(each: "Salvaged") -> str:
    """For people."""
    said, value = each.said, shown(each.value[:VALUE_SHOWN_BYTES_MAX])
    more = "..." if len(each.value) > VALUE_SHOWN_BYTES_MAX else ""
    try:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said["wall_seconds"]))
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        when = "at some time"
    became = f"version {said.get('version', 'unknown')}, {said.get('became', 'taken')} by a mirror"
    return f"{when}  {shown(each.key)}  {value}{more}  {became}"
