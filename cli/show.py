"""The commands that show how things are: ring, status."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from .options import cluster_options, json_option, opened
from .outcomes import NO, Commands

if TYPE_CHECKING:
    from rich.table import Table

    from ..actors.client import Client

RUNS_SHOWN_MAX = 4
"""So many runs of slots a sentence names."""


@click.group(cls=Commands, invoke_without_command=True)
@json_option
@cluster_options
@click.pass_context
def ring(context: click.Context, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Draw the ring; restore it where ZooKeeper has lost it.

    Who answers for which slots, how much they hold, and what changed last. With --json the ring itself, as ZooKeeper
    holds it.

    \b
    Examples:
      ringkeeper ring
      ringkeeper ring --json
    """
    if context.invoked_subcommand is not None:
        return
    with opened(cluster, password, timeout_seconds) as client:
        if as_json:
            click.echo(json.dumps(client.ring(), indent=2))
        else:
            draw_ring(client)


@ring.command("restore")
@click.option("--accept-loss", is_flag=True, help="Give up what members that are not heard may hold alone.")
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@json_option
@cluster_options
def ring_restore(
    accept_loss: bool,
    dry_run: bool,
    as_json: bool,
    cluster: str,
    password: str | None,
    timeout_seconds: float,
) -> None:
    """Write back the ring that ZooKeeper has lost.

    Where ZooKeeper has no ring any more, or an older one since an old disk was put in, no ring is written, and data is
    served by the newest that the nodes hold. Better than this command is to put the newest disk back. Where there is
    none, the newest ring that any node holds is written back, as a later one. All nodes then start again by themselves
    and are made equal: for some seconds clients are told to try again. Refused while a member has not said what it
    holds, unless what only such a member has is given up.

    \b
    Examples:
      ringkeeper ring restore --dry-run
      ringkeeper ring restore
    """
    from .changes import doubts_explained, order

    options = [*(["ACCEPTLOSS"] if accept_loss else []), *(["DRYRUN"] if dry_run else [])]
    with opened(cluster, password, timeout_seconds) as client, doubts_explained("status"):
        reply = order(client, "RESTORE", *options)
    if as_json:
        click.echo(json.dumps(reply, indent=2))
        return
    there = "has none" if reply["stored"] is None else f"has ring {reply['stored']}"
    holders = ", ".join(reply["holders"]) or "the control service alone"
    unheard = f"; not heard: {', '.join(reply['unheard'])}" if reply["unheard"] else ""
    found = f"the newest ring is {reply['restored']}, held by {holders}, ZooKeeper {there}{unheard}"
    if reply["epoch"] is None:
        click.echo(f"{found}\nnothing was changed")
    else:
        click.echo(f"{found}\nit is written back as ring {reply['epoch']}; `ringkeeper status` shows the nodes return")


def draw_ring(client: "Client") -> None:
    """Print the ring as the cluster knows it, with what each node holds if its leader says so."""
    from rich.console import Console

    from ..actors.client_errors import ClientError
    from ..actors.rules.ring import Ring
    from .drawing import Contents, drawing

    shown = Ring.from_json(client.execute("RING", "SHOW"))
    try:
        nodes = read_status(client)["nodes"]
    except ClientError:
        nodes = []  # the picture is worth showing without figures
    contents = {node["id"]: Contents(node["keys"], node["bytes"]) for node in nodes if node["bytes"] is not None}
    Console(highlight=False).print(drawing(shown, contents))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_options
def status(as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Say how the cluster is.

    Who leads, which nodes are up, what they hold, what is wrong. Exit status 1: some slots are not served.

    \b
    Examples:
      ringkeeper status
      ringkeeper status --json
    """
    with opened(cluster, password, timeout_seconds) as client:
        now = read_status(client)
    if as_json:
        click.echo(json.dumps(now, indent=2))
    else:
        print_status(now)
    click.get_current_context().exit(0 if now["serving"] else NO)


def read_status(client: "Client") -> dict[str, Any]:
    """RING STATUS; while nobody leads, what the nodes themselves can say."""
    from ..actors.client_errors import Unavailable

    try:
        return dict(json.loads(client.execute("RING", "STATUS")))
    except Unavailable as trouble:
        if trouble.code != "TRYAGAIN":
            raise
        return status_without_leader(client)


def status_without_leader(client: "Client") -> dict[str, Any]:
    """The same fields as RING STATUS from the ring that the nodes have read last and from each node by itself."""
    from ..actors.job_view import lists_in_trouble
    from ..actors.rules.ring import Ring

    known = Ring.from_json(client.execute("RING", "SHOW"))
    return {
        "cluster": known.cluster_name,
        "epoch": known.epoch,
        "leader": None,
        "serving": known.serving and all(known.coordinators),
        "stopped": not known.serving,
        "replicas": known.replicas,
        "lists_in_trouble": lists_in_trouble(known),
        "change": None,
        "queue": [],
        "trouble": "no ECS leads: data is served as this ring says, only ring changes wait",
        "refused": {},
        "waiting": [],
        "nodes": [
            {
                "id": node.id,
                "state": node.state,
                "token": f"{node.token:032x}",
                "slots": sum(run.size for run in known.coordinated_by(node.id)),
                "incarnation": node.incarnation,
                "bytes": None,
                **_asked_itself(client, node.address),
            }
            for node in known.nodes
        ],
    }


def _asked_itself(client: "Client", address: str) -> dict[str, Any]:
    from ..actors.client_errors import ClientError

    try:
        keys = client.execute_on(address, "DBSIZE")
        info = bytes(client.execute_on(address, "INFO", "server")).decode()
    except ClientError:
        return {"reachable": False, "keys": None, "pid": None}
    pid = next((line.partition(":")[2] for line in info.splitlines() if line.startswith("process_id:")), None)
    return {"reachable": True, "keys": keys, "pid": int(pid) if pid else None}


def print_status(now: dict[str, Any]) -> None:
    """The status for people: a sentence, the change in flight, a table, and what is wrong."""
    from rich.console import Console

    from .following import sentence

    console = Console(highlight=False, soft_wrap=True)
    stopped = "is stopped: client requests are refused until `ringkeeper start`"
    serves = "serves" if now["serving"] else stopped if now.get("stopped") else "does not serve all slots"
    leads = f"the ECS at {now['leader']} leads" if now["leader"] else "no ECS leads"
    change = "a change is in flight" if now["change"] else "no change in flight"
    copies = _copies_wanted(now)
    console.print(f"cluster {now['cluster']}: ring {now['epoch']} {serves}{copies}; {leads}; {change}")
    if now["change"]:
        console.print(sentence(now["change"]))
    for job in now.get("queue", ()):
        console.print(sentence(job))
    if now["nodes"]:
        console.print(nodes_table(now["nodes"]))
    for text in troubles_of_lists(now.get("lists_in_trouble", ())):
        console.print(text)
    for node in now["nodes"]:
        if node["state"] == "returning":
            console.print(f"{node['id']} is back, and being made equal to the others before it is up")
        if node["state"] == "up" and not node["reachable"]:
            console.print(f"{node['id']} is up in the ring and does not answer")
        if node.get("suspected_by"):
            console.print(f"{node['id']} is not heard by {', '.join(node['suspected_by'])}")
    if now.get("not_given_up"):
        console.print(f"not given up, though down for long: {now['not_given_up']}")
    for id, why in now["refused"].items():
        console.print(f"{id} is not taken into the ring: {why}")
    if waiting := [id for id in now["waiting"] if id not in now["refused"]]:
        console.print(f"registered, and not in the ring: {', '.join(waiting)}")
    if now["trouble"]:
        console.print(f"trouble: {now['trouble']}")


def _copies_wanted(now: dict[str, Any]) -> str:
    """How many copies there are of each slot when all is well, as part of the first sentence."""
    members = sum(node["state"] != "out" for node in now["nodes"])
    copies = min(now.get("replicas", 1), members)
    return f" with {copies} copies of each slot" if copies > 1 else ""


def troubles_of_lists(lists: Iterable[dict[str, Any]]) -> list[str]:
    """Why some slots are not written to, or not answered for, as RING STATUS has it; alike ones in one sentence."""
    slots: dict[str, list[str]] = {}
    for each in lists:
        slots.setdefault(_trouble_of(each), []).append(each["slots"])
    told = []
    for text, runs in slots.items():
        some = ", ".join(runs[:RUNS_SHOWN_MAX]) + f" and {len(runs) - RUNS_SHOWN_MAX} more" * (
            len(runs) > RUNS_SHOWN_MAX
        )
        told.append(f"slots {some}: {text}")
    return told


def _trouble_of(each: dict[str, Any]) -> str:
    needed, up = each["copies_needed"], len(each["up"])
    if each["keeper"] is not None and len(each["complete"]) > 1:
        others = [is_now for id, is_now in each["complete"].items() if id != each["keeper"]]
        hint = "" if "returning" in others else f", or after `ringkeeper recover {each['keeper']} --accept-loss`"
        return f"kept by {each['keeper']}, which is back; read and written again once {needed} copies are up{hint}"
    if each["keeper"] is not None:
        return (
            f"read at {each['keeper']}, which is back and held everything; written to again once {needed} copies are up"
        )
    if each["coordinator"] is not None:
        return f"read at {each['coordinator']}, not written to: {up} of {needed} copies that a write needs are up"
    complete = ", ".join(f"{id} ({is_now})" for id, is_now in each["complete"].items())
    if all(is_now == "another directory" for is_now in each["complete"].values()):
        return (
            f"nobody answers; everything was on {complete}, whose disks are lost. Start one on its own data, or "
            "type `ringkeeper recover ID --accept-loss` to go on with what another member holds (see its keys)"
        )
    return f"nobody answers; everything was on {complete}"


def nodes_table(nodes: list[dict[str, Any]]) -> "Table":
    """A row per node that is not out, as RING STATUS tells of them; fits into 80 columns. `ring` shows the tokens."""
    from rich.text import Text

    from .drawing import STATE_STYLES, bytes_text, plain_table
    from .following import number_text

    table = plain_table("node", "state", "incarnation", right=("slots", "keys", "bytes", "pid"))
    for node in nodes:
        if node["state"] == "out":
            continue
        table.add_row(
            node["id"],
            Text(node["state"], style=STATE_STYLES.get(node["state"], "")),
            node["incarnation"],
            str(node["slots"]),
            number_text(node["keys"]),
            "-" if node["bytes"] is None else bytes_text(node["bytes"]),
            "-" if node["pid"] is None else str(node["pid"]),
        )
    return table
