"""The command that compares all copies now: verify."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from .options import cluster_options, json_option, opened
from .outcomes import NO, Trouble
from .printable import printable

if TYPE_CHECKING:
    from ..actors.client import Client

LOOK_SECONDS = 0.2
"""The pause between two looks at how far the nodes are."""

SILENT_SECONDS_MAX = 10.0
"""A node that does not say for so long how far it is is waited for no longer."""

REPAIRS_MAX = 5
"""So often everything is compared again after something was repaired."""

REPAIR_SECONDS_MAX = 600.0
"""So long it is waited for that all nodes are up again."""

SHOWN_MAX = 10

DAMAGED = "its copy is damaged"
"""How the ring says why it calls a node down whose copy is bad."""


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Have copies that differ made anew. Of two, the one that answers clients is taken for the right one.",
)
@json_option
@cluster_options
def verify(repair: bool, as_json: bool, cluster: str, password: str | None, timeout_seconds: float) -> None:
    """Compare all copies of all keys now.

    The nodes do that in the background as well, slowly. Clients go on meanwhile. A copy that cannot be read is made
    anew in any case. Exit status 1: copies were found to differ or to be damaged, or could not be compared.

    \b
    Examples:
      ringkeeper verify
      ringkeeper verify --repair
    """
    with opened(cluster, password, timeout_seconds) as client:
        found = compare(client, repair)
        repairs = 0
        while repair and not found["equal"] and repairs < REPAIRS_MAX:
            repairs += 1
            wait_for_everybody(client)
            again = compare(client, repair)
            found = {**again, "repaired": found.get("repaired", []) + told(found)}
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        report(found)
    click.get_current_context().exit(0 if found["equal"] else NO)


def compare(client: "Client", repair: bool) -> dict[str, Any]:
    """Have every node compare what it answers for, and wait for all of them; what they have found."""
    from ..actors.client_errors import ClientError, InDoubt, Unavailable
    from ..actors.rules.ring import Ring
    from ..actors.rules.slots import SLOTS

    ring = Ring.from_json(client.execute("RING", "SHOW"))
    if min(ring.replicas, len(ring.circle)) == 1:
        raise Trouble("there is one copy of each slot: nothing can be compared")
    left = sorted({node.id for node in ring.coordinators if node is not None})
    said: dict[str, dict[str, Any]] = {}
    heard = dict.fromkeys(left, time.monotonic())
    for id in left:
        with suppress(Unavailable, InDoubt):  # another has met damage in its copy just now, and it begins anew
            client.execute_on(id, "RING", "VERIFY", "START", *(["REPAIR"] if repair else []))
    while left:
        time.sleep(LOOK_SECONDS)
        for id in list(left):
            try:
                state = json.loads(client.execute_on(id, "RING", "VERIFY"))
            except ClientError:
                state = {"state": "silent"}
            else:
                heard[id] = time.monotonic()
            if state["state"] == "running":
                said[id] = state
            elif state["state"] == "done":
                said[id] = state
                left.remove(id)
            elif state["state"] == "none" or time.monotonic() - heard[id] > SILENT_SECONDS_MAX:
                left.remove(id)  # it has started again, or is gone
        _progress(sum(each["slots"] for each in said.values()), SLOTS)
    _progress(0, 0)
    after = Ring.from_json(client.execute("RING", "SHOW"))
    damaged = [write for write in after.history if write.epoch > ring.epoch and write.why.startswith(DAMAGED)]
    done = [each for each in said.values() if each["state"] == "done"]
    # Slots that have moved meanwhile may have been compared by both of their coordinators, or by none.
    keys = {slot: keys for each in done for slot, keys in each["keys_by_slot"]}
    result: dict[str, Any] = {
        "slots": len(keys),
        "keys": sum(keys.values()),
        "different": sum(each["different"] for each in done),
        "differences": [found for each in done for found in each["differences"]],
        "undecided": [why for each in done for why in each.get("undecided", ())],
        "unreadable": [f"{each['node']}: {each['unreadable']}" for each in done if each["unreadable"]],
        "damaged": [f"{write.what}: {write.why}" for write in damaged]
        + [f"{each['node']} cannot be spared: {each['damaged']}" for each in done if each["damaged"]],
        "not_compared": SLOTS - len(keys),
    }
    bad = result["different"] or result["unreadable"] or result["damaged"] or result["not_compared"]
    return {**result, "equal": not bad}


def told(found: dict[str, Any]) -> list[str]:
    """What was wrong, in sentences."""
    return [*(each["sentence"] for each in found["differences"]), *found["unreadable"], *found["damaged"]]


def wait_for_everybody(client: "Client") -> None:
    """Until each node is up, and nothing moves. Raises Trouble when that takes too long."""
    from ..actors.rules.ring import Ring

    end = time.monotonic() + REPAIR_SECONDS_MAX
    time.sleep(2.0)  # whose copy is bad is taken down a moment after it has been found
    while time.monotonic() < end:
        ring = Ring.from_json(client.execute("RING", "SHOW"))
        if ring.change is None and all(node.state == "up" for node in ring.circle):
            return
        time.sleep(LOOK_SECONDS)
    raise Trouble(f"in {REPAIR_SECONDS_MAX:g} s not all nodes came up again; `ringkeeper status` says which", NO)


def report(found: dict[str, Any]) -> None:
    """The result, for people."""
    for sentence in _shortened(found.get("repaired", [])):
        click.echo(printable(f"made anew: {sentence}"))
    for sentence in _shortened(told(found) + found["undecided"]):
        click.echo(printable(sentence))
    verdict = f"{found['different']} slots differ" if found["different"] else "no slots differ"
    if found["equal"]:
        verdict = "all copies are equal"
    rest = f"; {found['not_compared']} slots could not be compared" if found["not_compared"] else ""
    click.echo(f"{found['slots']} slots with {found['keys']} keys compared: {verdict}{rest}")


def _shortened(sentences: list[str]) -> Iterator[str]:
    yield from sentences[:SHOWN_MAX]
    if len(sentences) > SHOWN_MAX:
        yield f"and {len(sentences) - SHOWN_MAX} more"


def _progress(done: int, total: int) -> None:
    """On a terminal, how far it is; nothing once it is over."""
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {total} slots compared" if total else f"\r{' ' * 40}\r", nl=False, err=True)
