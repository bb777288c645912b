"""The commands that change a running cluster: nodes add, remove, replace, restart; replicas; balance; jobs, jobs
cancel; limit; start, stop, recover.

Each is one order to the leading ECS, given through any node. What takes time is a job of the cluster: it is followed
until it has ended (``following.py``), unless somebody says --detach or presses Ctrl-C, which leaves the job alone.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..actors.rules.balancing import BYS, CAPACITY_MAX
from ..actors.rules.placement import PLACES, REPLICAS_MAX
from ..actors.rules.ring import ACKS, BYTES_PER_SECOND_MAX, HOLDERS
from .options import cluster_options, json_option, opened
from .outcomes import DONE, IN_DOUBT, INTERRUPTED, NO, Commands, Trouble

if TYPE_CHECKING:
    from rich.table import Table

    from ..actors.client import Client
    from .following import Job, Plan, Shares

Answer = TypeVar("Answer")

NODES_ADDED_MAX = 64
RESTART_SECONDS_MAX = 60.0
"""How long a node may take to end, start again and be up, before it is waited for no longer."""
BALANCE_SECONDS_MAX = 60.0
"""How long tokens may be computed, before they are waited for no longer."""
CANCEL_SECONDS_MAX = 30.0
"""How long a job that was cancelled may take to end, before it is waited for no longer."""
LOOK_SECONDS = 0.2
"""The pause between two looks at something that is waited for."""


class NodeId(click.ParamType[str]):
    """A node's id, host:port."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+:[0-9]{1,5}", value):
            self.fail(f"{value!r} is no node: write host:port, as `ringkeeper nodes` shows it", param, ctx)
        return str(value)


dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would move; nothing is changed.")
detach_option = click.option("--detach", is_flag=True, help="Return at once; `ringkeeper jobs` shows how far it is.")


@click.group(cls=Commands, invoke_without_command=True)
@json_option
@cluster_options
@click.pass_context
def nodes(context: click.Context, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """List the nodes; add, remove, replace or restart some.

    \b
    Examples:
      ringkeeper nodes
      ringkeeper nodes add
      ringkeeper nodes remove 127.0.0.1:7004
    """
    from rich.console import Console

    from .show import nodes_table, read_status

    if context.invoked_subcommand is not None:
        return
    with opened(cluster, password, timeout_seconds) as client:
        now = read_status(client)
    if as_json:
        click.echo(json.dumps({name: now[name] for name in ("nodes", "waiting", "refused")}, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(nodes_table(now["nodes"]))
    for id in now["waiting"]:
        console.print(f"{id} has registered and is not in the ring: `ringkeeper nodes add --node {id}` takes it in")


@nodes.command("add")
@click.argument("count", type=click.IntRange(1, NODES_ADDED_MAX), required=False)
@click.option("--node", "ids", type=NodeId(), multiple=True, help="Take in this one, which waits to be asked.")
@click.option(
    "--place", type=click.Choice(PLACES), help="Where they stand on the ring.  [default: as the ring does it]"
)
@dry_run_option
@detach_option
@json_option
@cluster_options
def nodes_add(count: int | None, ids: tuple[str, ...], place: str | None, dry_run: bool, **how: Any) -> None:
    """Start more nodes and have the ring take them in.

    COUNT of them, or 1, all in one change: others hand over the keys of their slots while clients go on reading and
    writing. The processes are started by `ringkeeper up`, where that runs. With --node no process is started: nodes
    are taken in that have registered and wait, started with `node --no-join` or left over from a cancelled job.

    Where a node stands decides whose slots it takes over. --place even: half of the largest range; md5: what lies
    before the MD5 of its host:port; relief: half of the heaviest load, in what the ring is balanced by (`ringkeeper
    balance --auto on --by ...`), else in requests, or in bytes where nothing is asked for.

    \b
    Examples:
      ringkeeper nodes add
      ringkeeper nodes add 3 --dry-run
      ringkeeper nodes add --place relief
      ringkeeper nodes add --node 10.0.0.7:7001
    """
    if count is not None and ids:
        raise click.UsageError("give either how many nodes to start or, with --node, which ones to take in")
    words = ["NODE", *ids] if ids else ["COUNT", str(count or 1)]
    _change("ADD", [*words, *(["PLACE", place] if place is not None else [])], dry_run, **how)


@nodes.command("remove")
@click.argument("ids", metavar="NODE...", type=NodeId(), nargs=-1, required=True)
@click.option(
    "--accept-loss", is_flag=True, help="Give up what dead nodes hold and nobody else: with one copy of each slot."
)
@dry_run_option
@detach_option
@json_option
@cluster_options
def nodes_remove(ids: tuple[str, ...], accept_loss: bool, dry_run: bool, **how: Any) -> None:
    """Take nodes out of the ring.

    All in one change: they hand over all that they hold while clients go on reading and writing, then their processes
    end. Their folders stay, and can be deleted.

    A dead node with the only copy of its slots hands over nothing. With --accept-loss they go on without what it held,
    which is lost for good, and it stays in the history of the ring that somebody wanted it so.

    \b
    Examples:
      ringkeeper nodes remove 127.0.0.1:7004
      ringkeeper nodes remove 127.0.0.1:7004 127.0.0.1:7005 --dry-run
      ringkeeper nodes remove 127.0.0.1:7004 --accept-loss
    """
    if accept_loss and dry_run:
        raise click.UsageError("nothing moves by --accept-loss: there is nothing to be shown")
    _change("REMOVE", [*ids, *(["ACCEPTLOSS"] if accept_loss else [])], dry_run, **how)


@nodes.command("replace")
@click.argument("old", type=NodeId())
@click.argument("new", type=NodeId(), required=False)
@dry_run_option
@detach_option
@json_option
@cluster_options
def nodes_replace(old: str, new: str | None, dry_run: bool, **how: Any) -> None:
    """Put another node in the place of one.

    NEW has registered and waits (started with `node --no-join`, say); without it `ringkeeper up` starts one. It is
    given all that OLD has a part in, and in the same moment OLD is out of the ring; no other slot moves. OLD may be up,
    or dead: then NEW is made from the other copies.

    \b
    Examples:
      ringkeeper nodes replace 127.0.0.1:7002
      ringkeeper nodes replace 10.0.0.3:7001 10.0.0.9:7001
    """
    _change("REPLACE", [old, *([new] if new is not None else [])], dry_run, **how)


@click.command()
@click.argument("copies", type=click.IntRange(1, REPLICAS_MAX))
@click.option(
    "--min-copies",
    type=click.IntRange(1, REPLICAS_MAX),
    metavar="COPIES",
    help="With fewer of a slot's copies up, writes to it are refused.  [default: as it is]",
)
@dry_run_option
@detach_option
@json_option
@cluster_options
def replicas(copies: int, min_copies: int | None, dry_run: bool, **how: Any) -> None:
    """Keep another number of copies of each slot.

    More of them: they are made first, and count from then on. Fewer: the last of each slot's nodes forget it. Clients
    go on reading and writing meanwhile.

    \b
    Examples:
      ringkeeper replicas 3
      ringkeeper replicas 2 --min-copies 1 --dry-run
    """
    words = [str(copies), *(["MIN", str(min_copies)] if min_copies is not None else [])]
    _change("REPLICAS", words, dry_run, **how)


@click.command()
@click.argument("acks", type=click.Choice(ACKS), required=False)
@json_option
@cluster_options
def acks(acks: str | None, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Say when writes are answered, or set it.

    `all`: once every copy that is up has them; nothing that was answered is lost with a node. `one`: once their
    coordinator has them, which is faster. For connections that say nothing else (`RING ACKS`), those that are open too.

    \b
    Examples:
      ringkeeper acks
      ringkeeper acks one
    """
    with opened(cluster, password, timeout_seconds) as client, doubts_explained("acks"):
        if acks is None:
            now = client.ring()
            reply = {"acks": now["acks"], "epoch": now["epoch"]}
        else:
            reply = order(client, "DEFAULT", "ACKS", acks)
    if as_json:
        click.echo(json.dumps(reply, indent=2))
        return
    click.echo(f"ring {reply['epoch']}: writes are answered once {HOLDERS[reply['acks']]}")


class Percent(click.ParamType[float]):
    """A threshold: 5% or 5."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not re.fullmatch(r"[0-9]{1,3}([.][0-9]{1,3})?%?", str(value)) or not float(str(value).rstrip("%")):
            self.fail(f"{value!r} is no threshold: write 5% or 2.5%", param, ctx)
        return float(str(value).rstrip("%"))


class Capacity(click.ParamType[tuple[str, int]]):
    """A node and its capacity: 127.0.0.1:7001=2."""

    name = "node=number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        id, _, number = str(value).rpartition("=")
        if not number.isdecimal() or int(number) > CAPACITY_MAX:
            self.fail(f"{value!r} is no capacity: write 127.0.0.1:7001=2, with 0 to {CAPACITY_MAX}", param, ctx)
        return NodeId().convert(id, param, ctx), int(number)


@click.command()
@click.option("--by", type=click.Choice(BYS), help="What shares are made even in.  [default: as it is, slots at first]")
@click.option(
    "--threshold", type=Percent(), help="So far from its part a share may be.  [default: as it is; 5% at first]"
)
@click.option("--max-move", type=click.IntRange(0), metavar="BYTES", help="Make copies of no more than that.")
@click.option("--auto", type=click.Choice(("on", "off")), help="Whether the cluster does it by itself from now on.")
@click.option(
    "--capacity", "capacities", type=Capacity(), multiple=True, metavar="NODE=NUMBER",
    help="The node is to have so many times the load of others (0: none). May be given again.",
)  # fmt: skip
@dry_run_option
@detach_option
@json_option
@cluster_options
def balance(
    by: str | None,
    threshold: float | None,
    max_move: int | None,
    auto: str | None,
    capacities: tuple[tuple[str, int], ...],
    dry_run: bool,
    **how: Any,
) -> None:
    """Make the nodes' shares even for the least data moved.

    All in one change, while clients go on reading and writing: tokens move so that every share of what is counted is
    within the threshold of its part. With --auto or --capacity nothing moves now; they say what is wanted from now on.

    \b
    Examples:
      ringkeeper balance --dry-run
      ringkeeper balance --by requests --threshold 10%
      ringkeeper balance --auto on --by bytes
      ringkeeper balance --capacity 127.0.0.1:7002=2
    """
    words = ["BY", by] if by is not None else []
    words += ["THRESHOLD", f"{threshold:g}"] if threshold is not None else []
    if auto is None and not capacities:
        words += ["MAXMOVE", str(max_move)] if max_move is not None else []
        _change("BALANCE", words, dry_run, **how)
        return
    if dry_run or max_move is not None or (auto is None and words):
        raise click.UsageError("--auto and --capacity move nothing now: give them without what a balance is told")
    _say_what_is_wanted([*([["AUTO", auto.upper(), *words]] if auto is not None else [])], capacities, **how)


def _say_what_is_wanted(
    orders: list[list[str]],
    capacities: tuple[tuple[str, int], ...],
    *,
    detach: bool,
    as_json: bool,
    cluster: str,
    password: str | None,
    timeout_seconds: float,
) -> None:
    """Have capacities written into the ring, and how it balances itself."""
    replies = []
    with opened(cluster, password, timeout_seconds) as client, doubts_explained("status"):
        for words in [*(["CAPACITY", id, str(number)] for id, number in capacities), *orders]:
            replies.append(order(client, "BALANCE", *words))
    if as_json:
        click.echo(json.dumps(replies, indent=2))
        return
    for reply in replies:
        if "node" in reply:
            click.echo(f"ring {reply['epoch']}: {reply['node']} is of capacity {reply['capacity']}")
        else:
            wanted = reply["balancing"]
            how = f"balances itself by {wanted['by']}, within {wanted['threshold']:.1%}"
            click.echo(f"ring {reply['epoch']}: the cluster {how if wanted['auto'] else 'is balanced when asked'}")
    if not any("balancing" in reply and reply["balancing"]["auto"] for reply in replies) and capacities:
        click.echo("`ringkeeper balance` moves tokens accordingly")


def _change(
    verb: str,
    words: list[str],
    dry_run: bool,
    *,
    detach: bool,
    as_json: bool,
    cluster: str,
    password: str | None,
    timeout_seconds: float,
) -> None:
    """Give an order that changes who is in the ring, follow its job, and show what became of the shares."""
    from .following import balance_tables, follow, insist, shares_table

    with opened(cluster, password, timeout_seconds) as client:
        before = {} if dry_run or detach else _shares(client)
        with doubts_explained("jobs"):
            reply = _ordered(client, verb, *words, *(["DRYRUN"] if dry_run else []))
        number, plan = reply["job"], reply["plan"]
        if dry_run or detach or number is None:
            if as_json:
                click.echo(json.dumps(reply, indent=2))
            elif number is not None:
                click.echo(f"job {number} has begun: `ringkeeper jobs` shows how far it is")
            elif plan is not None:
                _print_plan(plan, reply)
            elif "balance" in reply:
                _print_parts(balance_tables(reply["balance"]))
            else:
                click.echo(f"nothing would move: {', '.join(reply['nodes'])}" if dry_run else "there is nothing to do")
            return
        with _leaving_alone(number):
            job = follow(client, number)
        shares: Shares = {}
        if job["state"] == "done":
            after = _shares(client)
            shares = {id: (before.get(id), after.get(id)) for id in {**before, **after}}
    if as_json:
        click.echo(json.dumps({**reply, "outcome": job, "shares": shares}, indent=2))
        click.get_current_context().exit(DONE if job["state"] == "done" else NO)
    insist(job)
    _print_done(job)
    if "balance" in reply:
        _print_parts(balance_tables(reply["balance"]))
    from rich.console import Console

    Console(highlight=False).print(shares_table(shares))


def _print_plan(plan: "Plan", reply: dict[str, Any]) -> None:
    from .following import balance_tables, places_text, plan_tables

    parts = plan_tables(plan)
    parts += balance_tables(reply["balance"]) if "balance" in reply else []
    parts += [places_text(reply["placed"])] if "placed" in reply else []
    _print_parts([f"to {plan['what']}:", *parts, "nothing was changed"])


def _print_parts(parts: "list[Table | str]") -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for part in parts:
        console.print(part)


def _print_done(job: "Job") -> None:
    from .drawing import bytes_text
    from .following import number_text

    moved = f"; {number_text(job['keys'])} keys moved ({bytes_text(job['bytes'])})" if job["keys"] else ""
    click.echo(f"{job['what']}: done{moved}")


def _shares(client: "Client") -> dict[str, float]:
    """Each node's part of all slots now; {} while nobody leads who could say that."""
    from ..actors.client_errors import ClientError

    try:
        status = json.loads(client.execute("RING", "STATUS"))
    except ClientError:
        return {}
    return {node["id"]: node["share"] for node in status["nodes"] if node["state"] != "out"}


@nodes.command("restart")
@click.argument("id", metavar="NODE", type=NodeId())
@click.option("--force", is_flag=True, help="Even if clients have to wait, or get errors, meanwhile.")
@json_option
@cluster_options
def nodes_restart(
    id: str, force: bool, as_json: bool, cluster: str, password: str | None, timeout_seconds: float
) -> None:
    """Restart a node's process.

    Where other nodes have copies of its slots it hands them over first, starts again with its data and is made equal
    to the others: no client sees an error. Refused where too few copies would be up meanwhile (one copy, two nodes, or
    another node down), unless forced: then it is ended and started again as it is. Waits until the node is up in its
    new life.

    \b
    Example:
      ringkeeper nodes restart 127.0.0.1:7002
    """
    from ..actors.client_errors import InDoubt
    from .following import follow, insist
    from .show import read_status

    def life() -> str | None:
        """The incarnation that is up and answers, if the node is."""
        found = [node for node in read_status(client)["nodes"] if node["id"] == id]
        return next((node["incarnation"] for node in found if node["state"] == "up" and node["reachable"]), None)

    def next_life() -> str | None:
        seen = life()
        return seen if seen != before else None

    with opened(cluster, password, timeout_seconds) as client:
        before = life()
        reply: dict[str, Any] = {"job": None, "node": id}
        with suppress(InDoubt):  # the node that was to pass the answer on is the one that ends
            reply = order(client, "RESTART", id, *(["FORCE"] if force else []))
        if reply["job"] is not None:
            with _leaving_alone(reply["job"]):
                insist(follow(client, reply["job"]))
        now = _wait_for(next_life, RESTART_SECONDS_MAX)
    if now is None:
        raise Trouble(
            f"{id} is not up again after {RESTART_SECONDS_MAX:.0f} s; `ringkeeper status` and the node's log say more",
            IN_DOUBT,
        )
    if as_json:
        click.echo(json.dumps({**reply, "incarnation": now}, indent=2))
    else:
        click.echo(f"{id} is up again, as incarnation {now}")


@click.group(cls=Commands, invoke_without_command=True)
@json_option
@cluster_options
@click.pass_context
def jobs(context: click.Context, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """List the changes of the ring; cancel one.

    Those that wait, the one in flight with what it moves, and those that ended lately; the newest is the last.

    \b
    Examples:
      ringkeeper jobs
      ringkeeper jobs cancel 17
    """
    from rich.console import Console

    from .following import ENDED, jobs_table, read_jobs, sentence, transfers_table

    if context.invoked_subcommand is not None:
        return
    with opened(cluster, password, timeout_seconds) as client:
        now = read_jobs(client)
    if as_json:
        click.echo(json.dumps(now, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    if not now["jobs"]:
        console.print(f"no change of the ring waits, is in flight or has ended lately (ring {now['epoch']})")
        return
    console.print(jobs_table(now["jobs"]))
    for job in now["jobs"]:
        if job["why"] and job["state"] != "done":
            console.print(sentence(job))
        if job["transfers"] and job["state"] not in ENDED:
            console.print(f"\njob {job['job']} moves")
            console.print(transfers_table(job["transfers"]))


@jobs.command("cancel")
@click.argument("number", metavar="JOB", type=click.IntRange(min=1))
@json_option
@cluster_options
def jobs_cancel(number: int, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Give up a change of the ring.

    The ring stays as it was before, whatever was moved already is removed again, and nothing is lost. Exit status 1:
    the job was done before it could be cancelled.

    \b
    Example:
      ringkeeper jobs cancel 17
    """
    from .following import ENDED, find_job, read_jobs

    def ended() -> "Job | None":
        job = find_job(read_jobs(client), number)
        return job if job is not None and job["state"] in ENDED else None

    with opened(cluster, password, timeout_seconds) as client:
        with doubts_explained("jobs"):
            order(client, "CANCEL", str(number))
        job = _wait_for(ended, CANCEL_SECONDS_MAX)
    if as_json and job is not None:
        click.echo(json.dumps(job, indent=2))
    if job is None:
        raise Trouble(
            f"job {number} has not ended after {CANCEL_SECONDS_MAX:.0f} s; `ringkeeper jobs` shows it", IN_DOUBT
        )
    if job["state"] == "done":
        raise Trouble(f"job {number}, {job['what']}, was done before it could be cancelled", NO)
    if not as_json:
        click.echo(f"job {number}, {job['what']}, is {job['state']}; the ring is as it was before it")


@click.command()
@json_option
@cluster_options
def start(as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Answer client requests again.

    \b
    Example:
      ringkeeper start
    """
    with opened(cluster, password, timeout_seconds) as client, doubts_explained("status"):
        reply = order(client, "START")
    click.echo(json.dumps(reply, indent=2) if as_json else f"ring {reply['epoch']}: client requests are answered")


@click.command()
@json_option
@cluster_options
def stop(as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Refuse client requests until `start`.

    Reads and writes get a clear error. Data and processes stay, and nodes can be added and removed meanwhile; to end
    the processes there is `ringkeeper down`.

    \b
    Example:
      ringkeeper stop
    """
    with opened(cluster, password, timeout_seconds) as client, doubts_explained("status"):
        reply = order(client, "STOP")
    click.echo(
        json.dumps(reply, indent=2)
        if as_json
        else f"ring {reply['epoch']}: client requests are refused until `ringkeeper start`; data and nodes stay"
    )


@click.command()
@click.option(
    "--bytes-per-second",
    type=click.IntRange(0, BYTES_PER_SECOND_MAX),
    metavar="BYTES",
    help="So much each node sends of slots that move; 0: as much as it can.",
)
@json_option
@cluster_options
def limit(
    bytes_per_second: int | None, as_json: bool, cluster: str, password: str | None, timeout_seconds: float
) -> None:
    """Say how fast slots may move, or set it.

    For joins, leaves and returns of nodes alike, those under way too, and until it is set otherwise. Moves give way to
    clients by themselves; a limit spares the network and the disks as well.

    \b
    Examples:
      ringkeeper limit
      ringkeeper limit --bytes-per-second 10000000
      ringkeeper limit --bytes-per-second 0
    """
    with opened(cluster, password, timeout_seconds) as client, doubts_explained("limit"):
        if bytes_per_second is None:
            now = client.ring()
            reply = {"bytes_per_second": now.get("move_bytes_per_second", 0), "epoch": now["epoch"]}
        else:
            reply = order(client, "LIMIT", "BYTES_PER_SECOND", str(bytes_per_second))
    if as_json:
        click.echo(json.dumps(reply, indent=2))
        return
    said = f"at most {reply['bytes_per_second']} bytes per second" if reply["bytes_per_second"] else "as much as it can"
    click.echo(f"ring {reply['epoch']}: each node sends {said} of slots that move")


@click.command()
@click.argument("id", metavar="NODE", type=NodeId())
@click.option("--accept-loss", is_flag=True, help="Give up what this node lacks of the slots that nobody answers for.")
@json_option
@cluster_options
def recover(
    id: str, accept_loss: bool, as_json: bool, cluster: str, password: str | None, timeout_seconds: float
) -> None:
    """Serve slots again whose complete copies are lost.

    When all copies of a slot that hold everything are gone, nobody answers for it until one of them is back. If none
    can come back, the slot can go on with what another node holds, however old that is. What this node lacks is lost
    for good, and it stays in the history of the ring that somebody wanted it so. Without --accept-loss it is only
    said what would be given up.

    \b
    Examples:
      ringkeeper recover 127.0.0.1:7002
      ringkeeper recover 127.0.0.1:7002 --accept-loss
    """
    with opened(cluster, password, timeout_seconds) as client, doubts_explained("status"):
        reply = order(client, "RECOVER", id, *([] if accept_loss else ["DRYRUN"]))
    lists = [f"slots {each['slots']}: {_complete(each['complete'])}" for each in reply["lists"]]
    if not accept_loss:
        raise Trouble(
            f"nothing was changed. {id} would be taken as it is for what nobody answers for:\n  "
            + "\n  ".join(lists)
            + f"\nStart one of those again, if any can be: then nothing is lost. What {id} lacks is lost for good with "
            "--accept-loss."
        )
    if as_json:
        click.echo(json.dumps(reply, indent=2))
    else:
        click.echo("\n".join((f"ring {reply['epoch']}: what {id} holds is all there is of", *lists)))


def _complete(members: dict[str, str]) -> str:
    """Who held everything, and what is known of them."""
    return ", ".join(f"{id} ({state}) held everything" for id, state in members.items())


def _ordered(client: "Client", verb: str, *words: str) -> dict[str, Any]:
    """The same; a balance may be computed for a while, and is asked for again meanwhile."""
    from ..actors.client_errors import Unavailable

    deadline = time.monotonic() + (BALANCE_SECONDS_MAX if verb == "BALANCE" else 0.0)
    while True:
        try:
            return order(client, verb, *words)
        except Unavailable as trouble:
            if trouble.code != "TRYAGAIN" or time.monotonic() > deadline:
                raise
        time.sleep(LOOK_SECONDS)


def order(client: "Client", verb: str, *words: str) -> dict[str, Any]:
    """What a verb of RING answers."""
    return dict(json.loads(client.execute("RING", verb, *words)))


@contextmanager
def doubts_explained(command: str) -> Iterator[None]:
    """Say of an order that went out and was not answered where to see what came of it."""
    from ..actors.client_errors import InDoubt

    try:
        yield
    except InDoubt as doubt:
        raise Trouble(
            f"{doubt} Whether the order has arrived is not known: `ringkeeper {command}` shows it.", IN_DOUBT
        ) from doubt


@contextmanager
def _leaving_alone(number: int) -> Iterator[None]:
    """Ctrl-C within this ends the command, and says that it does not end the job."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            f"\njob {number} goes on: `ringkeeper jobs` shows how far it is, `ringkeeper jobs cancel {number}` gives "
            "it up",
            err=True,
        )
        click.get_current_context().exit(INTERRUPTED)


def _wait_for(look: Callable[[], Answer | None], seconds_max: float) -> Answer | None:
    """What ``look`` returns as soon as it is something; None when that takes too long. Looks past who does not lead."""
    from ..actors.client_errors import Unavailable

    deadline = time.monotonic() + seconds_max
    while True:
        with suppress(Unavailable):
            if (answer := look()) is not None:
                return answer
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_SECONDS)
