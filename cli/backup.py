"""The commands that take everything out of a cluster, and bring it in: backup, restore, export, import.

``backup`` and ``export`` read what each coordinator's disk held at one moment (``RING BACKUP``, actors/backup.py), so
each slot is as it was at one moment; different slots may be some milliseconds apart. ``restore`` and ``import`` write
as any client does, in flights of bounded size: into a cluster of any size, which may serve others meanwhile.
"""

import base64
import binascii
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ..actors.rules.slots import SLOTS, Run
from .options import FOLDER, cluster_options, json_option, opened
from .outcomes import IN_DOUBT, INTERRUPTED, REFUSED, USAGE, Trouble

if TYPE_CHECKING:
    from ..actors.client import Client
    from .archive import Manifest, Record

OPEN_TRIES_MAX, OPEN_PAUSE_SECONDS = 10, 0.5
"""So often it is tried to find every slot served at the same time."""
KEEP_SECONDS = 10.0
"""So often every node is read from, lest it end its backup as forgotten (actors/backup.py, IDLE_SECONDS_MAX)."""
FLIGHT_KEYS_MAX, FLIGHT_BYTES_MAX = 500, 4 * 1024 * 1024
"""So much is written at once, one record excepted."""
LINE_BYTES_MAX = 128 * 1024 * 1024
"""A value of 16 MiB in the longest spelling there is."""


# Out of a cluster


@dataclass(frozen=True, slots=True)
class Source:
    """Some slots, frozen at their coordinator."""

    node: str
    backup: int
    first: int
    last: int
    mark: str
    keys: int
    bytes: int


@contextmanager
def frozen(client: "Client") -> Iterator[list[Source]]:
    """All slots of a cluster, each as of one moment; while in here. Raises Trouble when some are not served."""
    from ..actors.client_errors import ClientError

    held: dict[str, int] = {}
    try:
        sources = _opened_everywhere(client, held)
        with _kept_open(client, held):
            yield sources
    finally:
        for node, backup in held.items():
            with contextlib.suppress(ClientError):
                client.execute_on(node, "RING", "BACKUP", "CLOSE", str(backup))


@contextmanager
def _kept_open(client: "Client", held: dict[str, int]) -> Iterator[None]:
    """Read next to nothing from every node now and then, while in here. The last node's turn comes when the others have
    been copied, which may take hours; a part may be long in being written, or compared with the one before."""
    from ..actors.client_errors import ClientError

    ending, last = threading.Event(), str(SLOTS - 1)

    def keep() -> None:
        while not ending.wait(KEEP_SECONDS):
            for node, backup in held.items():
                with contextlib.suppress(ClientError):  # whoever really reads from it will hear what is wrong
                    client.execute_on(node, "RING", "BACKUP", "READ", str(backup), last, last, last, b"\xff")

    keeping = threading.Thread(target=keep, name="keeps backups open")
    keeping.start()
    try:
        yield
    finally:
        ending.set()
        keeping.join()


def _opened_everywhere(client: "Client", held: dict[str, int]) -> list[Source]:
    from ..actors.client_errors import ClientError, CommandError
    from .archive import first_gap

    why = ""
    for _ in range(OPEN_TRIES_MAX):
        found: list[Source] = []
        for node in _nodes(client):
            try:
                told = json.loads(client.execute_on(node, "RING", "BACKUP", "OPEN"))
            except CommandError as error:
                if error.code != "TRYAGAIN":
                    raise
                why = str(error)
            except ClientError as error:
                why = str(error)
            else:
                held[node] = told["backup"]
                found += [Source(node=node, backup=told["backup"], **part) for part in told["parts"]]
        found.sort(key=lambda source: source.first)
        missing = first_gap(Run(source.first, source.last) for source in found)
        if missing is None:
            return found
        why = why or f"nobody answers for slot {missing}"
        time.sleep(OPEN_PAUSE_SECONDS)
    raise Trouble(f"not all slots could be read at the same time: {why}. `ringkeeper status` shows what is wrong.")


def _nodes(client: "Client") -> list[str]:
    """Where clients reach the nodes that may coordinate something."""
    return [f"{node['host']}:{node['port']}" for node in client.ring()["nodes"] if node["state"] != "out"]


def read(client: "Client", source: Source) -> Iterator[list["Record"]]:
    """The records of some slots, block by block. Raises ClientError."""
    import msgspec

    from ..actors.backup import Block
    from .archive import Record

    words = ["RING", "BACKUP", "READ", str(source.backup), str(source.first), str(source.last)]
    after: tuple[int, bytes] | None = None
    while True:
        cursor: list[str | bytes] = [] if after is None else [str(after[0]), after[1]]
        block = msgspec.msgpack.decode(client.execute_on(source.node, *words, *cursor), type=Block)
        yield [Record(*each) for each in block.records]
        after = block.after
        if after is None:
            return


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--accept-loss", is_flag=True, help="Give up the backup of another cluster that the folder holds.")
@json_option
@cluster_options
def backup(
    folder: Path, accept_loss: bool, as_json: bool, cluster: str, password: str | None, timeout_seconds: float
) -> None:
    """Copy everything into a folder.

    While the cluster goes on serving. Each slot is copied as it was at one moment, with everything that was
    acknowledged before the command began. In a folder that holds a backup of the same cluster only what has changed is
    fetched, as in one where a backup was broken off; the one before stays whole until the new one is. Refused in a
    folder that holds a backup of another cluster, one that was made anew under the same name included.

    \b
    Examples:
      ringkeeper backup /var/backups/ringkeeper
      ringkeeper backup /var/backups/ringkeeper --json
    """
    from .archive import Archive, ArchiveError, Fetched, Manifest, Part

    archive = Archive(folder)
    try:
        known = archive.prepare()
        with (
            contextlib.closing(archive),
            opened(cluster, password, timeout_seconds) as client,
            frozen(client) as sources,
        ):
            ring = client.ring()
            there = [*archive.noted(ring["cluster_id"])]
            if known is not None and known.cluster_id == ring["cluster_id"]:
                there += known.parts
            elif known is not None and not accept_loss:
                raise Trouble(_anothers(folder, known, ring))
            kept = {(part.first, part.last, part.mark): part for part in there if part.mark}
            number = known.number + 1 if known is not None else 1
            parts: list[Part] = []
            fetched = 0
            with progress_of("backing up", sum(source.keys for source in sources)) as advance:
                for source in sources:
                    part = kept.get((source.first, source.last, source.mark))
                    if part is None or not archive.holds(part):
                        name = f"slots-{source.first:05}-{source.last:05}.{number}.part"
                        keys, size, digest = archive.write(name, read(client, source))
                        part = Part(
                            file=name, first=source.first, last=source.last, mark=source.mark, node=source.node,
                            keys=keys, bytes=size, sha256=digest,
                        )  # fmt: skip
                        archive.note(Fetched(cluster_id=ring["cluster_id"], part=part))
                        fetched += 1
                    parts.append(part)
                    advance(source.keys)
            manifest = Manifest(
                number=number,
                cluster=ring["cluster_name"],
                cluster_id=ring["cluster_id"],
                epoch=ring["epoch"],
                made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                keys=sum(part.keys for part in parts),
                bytes=sum(part.bytes for part in parts),
                parts=tuple(parts),
                ring=ring,
            )
            archive.finish(manifest)
    except ArchiveError as error:
        raise Trouble(error) from error
    except OSError as error:
        raise Trouble(f"{folder} cannot hold a backup: {error.strerror or error}") from error
    counts = {"keys": manifest.keys, "bytes": manifest.bytes, "parts": len(parts), "fetched": fetched}
    if as_json:
        click.echo(json.dumps({**counts, "number": number, "epoch": manifest.epoch}, indent=2))
    else:
        click.echo(
            f"{manifest.keys} keys ({manifest.bytes} bytes) of cluster {manifest.cluster}, ring {manifest.epoch}, are "
            f"in {folder}; {fetched} of {len(parts)} parts were fetched, the others have not changed"
        )


def _anothers(folder: Path, known: "Manifest", ring: dict[str, Any]) -> str:
    return (
        f"{folder} holds the backup of {known.made_at} ({known.keys} keys) of another cluster ({known.cluster}, "
        f"{known.cluster_id}; this one is {ring['cluster_name']}, {ring['cluster_id']}): nothing was changed. Restore "
        "it first if that is what is wanted, or choose another folder; with --accept-loss it is lost for good."
    )


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@json_option
@cluster_options
def export(file: Path, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Write everything as lines of JSON.

    A line for each key: {"key": "user:42", "value": "Ada"}, with "expires_ms" (milliseconds since 1970) where it
    expires. Keys and values that are not UTF-8 are "key_base64", "value_base64". "-" is standard output. The file
    appears when it is complete.

    \b
    Examples:
      ringkeeper export all.jsonl
      ringkeeper export - | grep user:
    """
    with opened(cluster, password, timeout_seconds) as client, frozen(client) as sources, written(file) as out:
        keys = 0
        with progress_of("exporting", sum(source.keys for source in sources)) as advance:
            for source in sources:
                for block in read(client, source):
                    out.writelines(line_of(record) for record in block)
                    keys += len(block)
                    advance(len(block))
    if as_json:
        click.echo(json.dumps({"keys": keys}), err=str(file) == "-")
    elif str(file) != "-":
        click.echo(f"{keys} keys are in {file}")


@contextmanager
def written(file: Path) -> Iterator[IO[bytes]]:
    """A file to be filled, which takes its place when that has succeeded. Straight into what is no regular file."""
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    straight = file.exists() and not file.is_file()
    try:
        with open(file, "wb") if straight else _written_beside(file) as out:
            yield out
    except OSError as error:
        raise Trouble(f"{file} cannot be written: {error.strerror or error}") from error


@contextmanager
def _written_beside(file: Path) -> Iterator[IO[bytes]]:
    beside = file.with_name(file.name + ".new")
    try:
        with open(beside, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def line_of(record: "Record") -> bytes:
    """A record as a line of JSON."""
    fields: dict[str, Any] = {}
    for name, content in (("key", record.key), ("value", record.value)):
        try:
            fields[name] = content.decode()
        except UnicodeDecodeError:
            fields[f"{name}_base64"] = base64.b64encode(content).decode()
    if record.expiry:
        fields["expires_ms"] = record.expiry
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


# Into a cluster


@dataclass(slots=True)
class Tally:
    """What has become of the records so far."""

    place: str
    """Up to where everything is stored, and how to go on from there, for people."""
    reached: str
    """Up to where everything is stored or waits."""
    stored: int = 0
    expired: int = 0
    """Their time was over."""
    flight: list[tuple["Record", str]] = field(default_factory=list)
    """What waits, and up to where everything is stored with it."""
    size: int = 0


def store(client: "Client", records: Iterable["Record"], tally: Tally) -> None:
    """Write records, those of one flight at once; the last ones may wait for ``land``. Raises Trouble."""
    now_ms = int(time.time() * 1000)
    for record in records:
        if record.expiry and record.expiry <= now_ms:
            tally.expired += 1
            continue
        tally.flight.append((record, tally.reached))
        tally.size += len(record.key) + len(record.value)
        if len(tally.flight) >= FLIGHT_KEYS_MAX or tally.size >= FLIGHT_BYTES_MAX:
            land(client, tally)


def land(client: "Client", tally: Tally) -> None:
    """Write what waits. Raises Trouble when some of it was not."""
    from ..actors.client_errors import ClientError

    flight, tally.flight, tally.size = tally.flight, [], 0
    if not flight:
        return
    with client.pipeline() as pipeline:
        for record, _ in flight:
            timing = ["PXAT", str(record.expiry)] if record.expiry else []
            pipeline.add("SET", record.key, record.value, *timing)
        results = pipeline.execute(raise_on_error=False)
    errors = [result for result in results if isinstance(result, ClientError)]
    tally.stored += len(flight) - len(errors)
    if not errors:
        tally.place = tally.reached
        return
    for (_, reached), result in zip(flight, results, strict=True):
        if isinstance(result, ClientError):
            break
        tally.place = reached
    maybe = any(error.happened == "maybe" for error in errors)
    raise Trouble(f"{len(errors)} keys could not be stored: {errors[0]}", IN_DOUBT if maybe else REFUSED)


@contextmanager
def saying_how_far(tally: Tally) -> Iterator[None]:
    """Say what is stored when this is broken off. If anything is, it did not end as if nothing had happened."""

    def so_far() -> str:
        return f"Stored so far, at least: {tally.stored} keys; without a gap: {tally.place}."

    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{so_far()}", err=True)
        click.get_current_context().exit(INTERRUPTED)
    except Trouble as trouble:
        if not tally.stored:
            raise
        raise Trouble(f"{trouble.message.rstrip('.')}. {so_far()}", IN_DOUBT) from trouble


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--merge", is_flag=True, help="Into a cluster that holds keys: those of the backup replace them.")
@json_option
@cluster_options
def restore(
    folder: Path, merge: bool, as_json: bool, cluster: str, password: str | None, timeout_seconds: float
) -> None:
    """Bring a backup into a cluster.

    Which may have any number of nodes, and need not be the one that the backup is of. The files of the backup are
    checked before anything is written. Refused if the cluster holds keys, unless they are to be merged: then those of
    the backup replace what is there, and others stay. What has expired meanwhile is left out. May be run again with
    --merge if it was broken off.

    \b
    Examples:
      ringkeeper restore /var/backups/ringkeeper
      ringkeeper restore /var/backups/ringkeeper --merge
    """
    from .archive import Archive, ArchiveError

    archive, again = Archive(folder), f"(`ringkeeper restore {folder} --merge` begins anew)"
    tally = Tally(place=f"nothing {again}", reached=f"nothing {again}")
    with saying_how_far(tally):
        try:
            manifest = archive.manifest()
            if manifest is None:
                raise Trouble(f"{folder} holds no backup: there is no manifest.json")
            with progress_of("checking", manifest.bytes) as advance:
                for part in manifest.parts:
                    archive.check(part)
                    advance(part.bytes)
            with opened(cluster, password, timeout_seconds) as client:
                if not merge:
                    refuse_unless_empty(client)
                with progress_of("restoring", manifest.keys) as advance:
                    for part in manifest.parts:
                        for block in archive.read(part):
                            store(client, block, tally)
                            advance(len(block))
                        tally.reached = f"slots 0-{part.last} {again}"
                    land(client, tally)
        except ArchiveError as error:
            raise Trouble(error) from error
        except OSError as error:
            raise Trouble(f"{folder} cannot be read: {error.strerror or error}") from error
    _say_stored(tally, as_json, f"from the backup of {manifest.made_at} of cluster {manifest.cluster}")


def refuse_unless_empty(client: "Client") -> None:
    """Raises Trouble when a cluster holds keys."""
    keys = sum(client.execute_on(node, "DBSIZE") for node in coordinators(client))
    if keys:
        raise Trouble(
            f"the cluster holds {keys} keys: nothing was written. --merge has those of the backup replace them"
        )


def coordinators(client: "Client") -> list[str]:
    """Where clients reach the nodes that answer for some slots. Raises Trouble when some slots have none."""
    from ..actors.rules.ring import Ring

    ring = Ring.from_json(client.execute("RING", "SHOW"))
    if None in ring.coordinators:
        raise Trouble("nobody answers for some slots; `ringkeeper status` says which, and why. Nothing was written")
    return sorted({node.address for node in ring.coordinators if node is not None})


def _say_stored(tally: Tally, as_json: bool, where: str) -> None:
    if as_json:
        click.echo(json.dumps({"stored": tally.stored, "expired": tally.expired}, indent=2))
    else:
        expired = f", {tally.expired} have expired" if tally.expired else ""
        click.echo(f"{tally.stored} keys are stored {where}{expired}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--from-line", type=click.IntRange(min=1), default=1, metavar="N", help="Leave out the lines before.")
@json_option
@cluster_options
def import_(
    file: Path, from_line: int, as_json: bool, cluster: str, password: str | None, timeout_seconds: float
) -> None:
    """Store what `export` has written.

    Keys that are there are replaced. Every line of a file is looked at before the first is stored, so of a damaged
    file nothing is; "-" is standard input, of which the lines before a damaged one are stored, as of any pipe.

    \b
    Examples:
      ringkeeper import all.jsonl
      zcat all.jsonl.gz | ringkeeper import -
      ringkeeper import all.jsonl --from-line 20001
    """
    stdin = str(file) == "-"
    streamed = stdin or not file.is_file()
    start = f"nothing (--from-line {from_line} begins anew)"
    tally = Tally(place=start, reached=start)
    with saying_how_far(tally):
        try:
            if not streamed:
                with open(file, "rb") as lines, progress_of("checking", file.stat().st_size) as advance:
                    for _, _, size in parsed(lines, file, from_line):
                        advance(size)
            with (
                contextlib.nullcontext(sys.stdin.buffer) if stdin else open(file, "rb") as lines,
                opened(cluster, password, timeout_seconds) as client,
                progress_of("importing", None if streamed else file.stat().st_size) as advance,
            ):
                try:
                    for number, record, size in parsed(lines, file, from_line):
                        tally.reached = f"lines up to {number} (--from-line {number + 1} goes on)"
                        store(client, [record], tally)
                        advance(size)
                except Damaged:
                    land(client, tally)
                    raise
                land(client, tally)
        except Damaged as damage:
            nothing = "" if tally.stored else ". Nothing was stored."
            raise Trouble(f"{damage}{nothing}", USAGE) from damage
        except OSError as error:
            raise Trouble(f"{file} cannot be read: {error.strerror or error}", USAGE) from error
    _say_stored(tally, as_json, f"from {'standard input' if stdin else file}")


class Damaged(Exception):
    """Raised for a line that is no record. The text says which and why."""


def parsed(lines: IO[bytes], file: Path, from_line: int) -> Iterator[tuple[int, "Record", int]]:
    """The records of a file of lines: number of the line, record, bytes of the line. Raises Damaged."""
    number = 0
    while line := lines.readline(LINE_BYTES_MAX + 1):
        number += 1
        if number < from_line or not line.strip():
            continue
        try:
            if len(line) > LINE_BYTES_MAX:
                raise ValueError(f"it is longer than {LINE_BYTES_MAX} bytes")
            record = record_of(line)
        except ValueError as error:
            raise Damaged(f"line {number} of {file} is no record: {error}") from error
        yield number, record, len(line)


def record_of(line: bytes) -> "Record":
    """The record of a line. Raises ValueError, saying why it is none."""
    from .archive import Record

    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if type(fields) is not dict:
        raise ValueError("it is no JSON object")
    known = {"key", "key_base64", "value", "value_base64", "expires_ms"}
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"{unknown[0]!r} is not known")
    expiry = fields.get("expires_ms", 0)
    if type(expiry) is not int or not 0 <= expiry < 2**63:
        raise ValueError("expires_ms is no number of milliseconds")
    key = _bytes_of(fields, "key")
    if not key:
        raise ValueError("its key is empty")
    return Record(key, _bytes_of(fields, "value"), expiry)


def _bytes_of(fields: dict[str, Any], name: str) -> bytes:
    spelt = f"{name}_base64"
    if (name in fields) == (spelt in fields):
        raise ValueError(f"it needs either {name} or {spelt}")
    text = fields.get(name, fields.get(spelt))
    if type(text) is not str:
        raise ValueError(f"its {name} is no text")
    try:
        return text.encode() if name in fields else base64.b64decode(text, validate=True)
    except UnicodeEncodeError as error:
        raise ValueError(f"its {name} is no valid Unicode") from error
    except binascii.Error as error:
        raise ValueError(f"{spelt} is no base64") from error


# Progress


@contextmanager
def progress_of(what: str, total: int | None) -> Iterator[Any]:
    """Show on standard error how far something is; yields what is to be called with how much more is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda more: progress.advance(bar, more)
