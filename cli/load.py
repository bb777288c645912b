"""The command that stores the files of a folder: key = path relative to it, value = content.

It can be stopped and run again at any time. What is there already is found by asking the cluster, not by a journal of
what was done: a journal would be wrong as soon as a file, a key or the cluster changed behind its back. Asking is
cheap, too: first only for lengths (STRLEN), all of a batch in one flight; only where a length is right is the value
read and compared. So a fresh load costs one small question a file more, and a repeated one reads what it would
otherwise write.

Memory is bounded by one batch: it is closed when BATCH_BYTES_MAX or BATCH_FILES_MAX are reached, and no file larger
than the cluster's own limit is opened.
"""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import cluster_options, opened, shown
from .outcomes import IN_DOUBT, NO, REFUSED, Trouble

if TYPE_CHECKING:
    from ..actors.client import Client

BATCH_FILES_MAX = 256
BATCH_BYTES_MAX = 8 * 1024 * 1024
VALUE_BYTES_MAX = 16 * 1024 * 1024
"""Where the cluster does not say."""
SKIPPED_SHOWN_MAX = 20


@dataclass(slots=True)
class Tally:
    """What has become of the files so far."""

    stored: int = 0
    equal: int = 0
    """Were there already, with this content."""
    bytes: int = 0
    """Stored."""
    requests: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """File -> why."""

    @property
    def files(self) -> int:
        return self.stored + self.equal + len(self.skipped)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--match", default="*", metavar="PATTERN", help="Only files with such names, for example '*.py'.")
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="No files, and nothing below folders, with such names."
)
@click.option("--prefix", default="", help="Put this in front of every key.")
@click.option("--json", "as_json", is_flag=True, help="The counts for programs.")
@cluster_options
def load(
    directory: Path,
    match: str,
    exclude: tuple[str, ...],
    prefix: str,
    as_json: bool,
    cluster: str,
    password: str | None,
    timeout_seconds: float,
) -> None:
    """Store the files of a folder.

    Each file below DIRECTORY is stored under its relative path. It may be interrupted and run again: files whose
    content is there already are not stored a second time. Files that cannot be stored (too large, not readable),
    and folders that cannot be listed, are skipped and named. Exit status 1: some were.

    \b
    Examples:
      ringkeeper load ./photos
      ringkeeper load ./project --match '*.py' --exclude .git --exclude build --prefix project/
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..actors.client_errors import ClientError

    def chosen() -> Iterator[Path]:
        return files_below(directory, match, exclude, unlisted)

    def unlisted(error: OSError) -> None:
        folder = key_of(directory, Path(error.filename), os.fsencode(prefix))
        tally.skipped[f"{shown(folder)}/"] = str(error.strerror)

    tally = Tally()
    with opened(cluster, password, timeout_seconds) as client:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task(f"loading {directory}", total=sum(1 for _ in chosen()))
            try:
                for _ in load_files(client, directory, chosen(), tally, prefix=os.fsencode(prefix)):
                    progress.update(bar, completed=tally.files)
            except ClientError as error:
                raise Trouble(
                    f"{error} Stopped after {tally.files} files; run the same command again to go on.",
                    IN_DOUBT if error.happened == "maybe" else REFUSED,
                ) from error
    if as_json:
        counts = {name: getattr(tally, name) for name in ("files", "stored", "equal", "bytes", "requests", "skipped")}
        click.echo(json.dumps(counts, indent=2))
    else:
        click.echo(
            f"{tally.files} files: {tally.stored} stored ({tally.bytes} bytes), {tally.equal} were there already, "
            f"{len(tally.skipped)} skipped; {tally.requests} requests"
        )
        for name, why in list(tally.skipped.items())[:SKIPPED_SHOWN_MAX]:
            click.echo(f"  skipped {name}: {why}")
        if len(tally.skipped) > SKIPPED_SHOWN_MAX:
            click.echo(f"  and {len(tally.skipped) - SKIPPED_SHOWN_MAX} more (all with --json)")
    click.get_current_context().exit(NO if tally.skipped else 0)


def files_below(
    directory: Path,
    match: str = "*",
    exclude: tuple[str, ...] = (),
    unlisted: Callable[[OSError], None] | None = None,
) -> Iterator[Path]:
    """Everything in a folder and its subfolders that is no folder, in the same order every time.

    Links to folders are not followed: they may lead in a circle. ``unlisted`` is told of each folder that cannot be
    listed.
    """

    def left_out(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in exclude)

    for folder, folders, names in os.walk(directory, onerror=unlisted):
        folders[:] = sorted(name for name in folders if not left_out(name))
        for name in sorted(names):
            if fnmatchcase(name, match) and not left_out(name):
                yield Path(folder, name)


def key_of(directory: Path, file: Path, prefix: bytes = b"") -> bytes:
    """The path relative to the folder, with / between its parts, in the bytes that the file system has."""
    return prefix + os.fsencode(file.relative_to(directory).as_posix())


def load_files(
    client: "Client", directory: Path, files: Iterable[Path], tally: Tally, *, prefix: bytes = b""
) -> Iterator[None]:
    """Store files of a folder in batches, counting in ``tally``; yields after each batch. Raises ClientError."""
    value_bytes_max = _value_bytes_max(client)
    batch: dict[bytes, bytes] = {}
    size = 0
    for file in files:
        key = key_of(directory, file, prefix)
        content = _read(file, value_bytes_max)
        if isinstance(content, str):
            tally.skipped[shown(key)] = content
            continue
        batch[key] = content
        size += len(content)
        if len(batch) >= BATCH_FILES_MAX or size >= BATCH_BYTES_MAX:
            _store(client, batch, tally)
            batch, size = {}, 0
            yield
    _store(client, batch, tally)
    yield


def _store(client: "Client", batch: dict[bytes, bytes], tally: Tally) -> None:
    lengths = _together(client, tally, [("STRLEN", key) for key in batch])
    maybe = [key for (key, content), length in zip(batch.items(), lengths, strict=True) if length == len(content)]
    # A missing key has length 0 like an empty value; reading tells them apart.
    values = dict(zip(maybe, _together(client, tally, [("GET", key) for key in maybe]), strict=True))
    new = {key: content for key, content in batch.items() if values.get(key) != content}
    tally.equal += len(batch) - len(new)
    outcomes = _together(client, tally, [("SET", key, content) for key, content in new.items()], refusals=True)
    for (key, content), outcome in zip(new.items(), outcomes, strict=True):
        if isinstance(outcome, Exception):
            tally.skipped[shown(key)] = str(outcome)
        else:
            tally.stored += 1
            tally.bytes += len(content)


def _together(client: "Client", tally: Tally, commands: list[tuple[Any, ...]], *, refusals: bool = False) -> list[Any]:
    """The results of commands sent in one flight per node.

    Raises the first error; but what the cluster refuses for good (a CommandError) is a result, with ``refusals``.
    """
    from ..actors.client_errors import ClientError, CommandError

    if not commands:
        return []
    tally.requests += len(commands)
    with client.pipeline() as pipeline:
        for command in commands:
            pipeline.add(*command)
        results = pipeline.execute(raise_on_error=False)
    for result in results:
        if isinstance(result, ClientError) and not (refusals and isinstance(result, CommandError)):
            raise result
    return list(results)


def _read(file: Path, bytes_max: int) -> bytes | str:
    """A file's content, or why not."""
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            return "not a regular file"
        if found.st_size > bytes_max:
            return f"{found.st_size} bytes, and the cluster takes {bytes_max} at most"
        with open(file, "rb") as opened_file:
            content = opened_file.read(bytes_max + 1)
    except OSError as error:
        return str(error.strerror)
    return content if len(content) <= bytes_max else f"it grew beyond the {bytes_max} bytes that the cluster takes"


def _value_bytes_max(client: "Client") -> int:
    answer = client.execute("CONFIG", "GET", "proto-max-bulk-len")
    fields = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    return int(fields.get(b"proto-max-bulk-len", VALUE_BYTES_MAX))
