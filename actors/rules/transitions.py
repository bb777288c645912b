"""Makes the next ring: every write of the ring that the ECS may make, each a pure function of the ring and of facts.

    found      no ring -> ring of epoch 1, every registered node up
    downed     up | returning -> down, several at once
    returned   down | up in an older life -> up, several at once, each the only copy of its slots

All of them keep R7 (no list changes) and R14 (who was complete is written down with the list). The caller hands in the
nonce and the time and writes the result by compare-and-set; what a function refuses it refuses with RingError, whole.
A node that shares its slots with others comes back by a mirror and a change, not by a function here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from .fields import RingError
from .life import Registration
from .placement import Place, place
from .ring import Node, Ring, Trouble, Write, shortened


def found(
    registrations: Iterable[Registration],
    *,
    cluster_id: str,
    cluster_name: str,
    nonce: str,
    wall_seconds: float,
    replicas: int,
    min_copies: int = 2,
    how: Place = "even",
    why: str = "founded",
) -> Ring:
    """The first ring. Raises RingError when nobody is registered, when a node holds a ring already (then there was a
    cluster: *ring lost*) or when two nodes share an id, an address or a data directory."""
    nodes = sorted(registrations, key=lambda node: node.id)
    for node in nodes:
        if node.held is not None:
            raise RingError(
                f"ring lost: there is no ring, but {node.id} holds {node.held}. A new ring would disown its data."
            )
    ids = [node.id for node in nodes]
    tokens = place(ids, how)
    what = f"found with {', '.join(ids)}"
    return Ring(
        cluster_id=cluster_id,
        cluster_name=cluster_name,
        epoch=1,
        nonce=nonce,
        replicas=replicas,
        min_copies=min_copies,
        place=how,
        nodes=tuple(Node(**node.life(), token=tokens[node.id]) for node in nodes),
        history=(Write(epoch=1, what=shortened(what), why=shortened(why), wall_seconds=wall_seconds),),
    )


def downed(ring: Ring, lives: Mapping[str, str], *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which these lives (id -> incarnation) are over, in one write.

    Raises RingError when a node is unknown, in another life by now (the claim is old) or not up or returning.
    """
    for id, incarnation in lives.items():
        node = _member(ring, id)
        if node.incarnation != incarnation:
            raise RingError(f"{id} lives as {node.incarnation} now; what is claimed of {incarnation} is past")
        if node.state not in ("up", "returning"):
            raise RingError(f"{id} is {node.state} already")
    nodes = {id: replace(ring.by_id[id], state="down") for id in sorted(lives)}
    return _with_states(ring, nodes, f"{', '.join(nodes)} down", why, nonce, wall_seconds)


def returned(
    ring: Ring, registrations: Iterable[Registration], *, nonce: str, wall_seconds: float, why: str = "registered"
) -> Ring:
    """The ring in which these nodes are up in the lives that they registered, in one write.

    The registration ends the older life even where the ring still calls that up (R3). A node is up at once only where
    it is the only copy of its slots: nobody wrote to them meanwhile, so what its data directory holds is complete (R14)
    and nobody else's return is to be waited for (R16). Raises RingError when a node is unknown, shares slots with
    others, registered a life that the ring has seen (a downed incarnation never comes back), brings another data
    directory or holds a ring from which this one does not descend (R23).
    """
    nodes = {}
    for registration in sorted(registrations, key=lambda node: node.id):
        id = registration.id
        node = _member(ring, id)
        if registration.incarnation == node.incarnation:
            raise RingError(f"{id} is {node.state} in this life already ({node.incarnation})")
        if registration.held is not None and (objection := ring.objection(registration.held)):
            raise RingError(f"{id} cannot return: {objection}")
        if registration.data_id != node.data_id:
            raise RingError(
                f"{id} came with the data directory {registration.data_id}, its slots are in {node.data_id}. "
                "As it is it would lose them: start it on its own directory."
            )
        if len(ring.circle) > 1 and ring.replicas > 1:
            raise RingError(f"{id} shares its slots with other nodes and must be made equal to them before it is up")
        nodes[id] = replace(node, **registration.life(), state="up")
    return _with_states(ring, nodes, f"{', '.join(nodes)} up", why, nonce, wall_seconds)


def in_trouble(before: Ring, after: Mapping[str, Node]) -> Iterable[Trouble]:
    """R14: the lists of a ring that have too few members up once its nodes are as in ``after``, with who was complete.

    Complete are the members that were up just before the list fell below copies_needed. While it is below, the record
    stays, together with whoever is up; when enough are up again it goes. A keeper answers until it is down or somebody
    is up (R15).
    """
    for run, members in before.list_runs:
        up = {node.id: node.data_id for node in members if after[node.id].state == "up"}
        if len(up) >= before.copies_needed:
            continue
        records = [each for each in before.trouble if run.first <= each.slots.first <= run.last]
        if not records:
            complete = {node.id: node.data_id for node in members if node.state == "up"}
            records = [Trouble(slots=run, complete=tuple(sorted(complete.items())))]
        for record in records:
            keeper = record.keeper if record.keeper and not up and after[record.keeper].state == "returning" else None
            yield replace(record, complete=tuple(sorted({**dict(record.complete), **up}.items())), keeper=keeper)


def _member(ring: Ring, id: str) -> Node:
    node = ring.by_id.get(id)
    if node is None or node.state == "out":
        raise RingError(f"{id} is not in ring {ring.epoch}")
    return node


def _with_states(ring: Ring, nodes: Mapping[str, Node], what: str, why: str, nonce: str, wall_seconds: float) -> Ring:
    """One write that gives nodes other states or lives. The change in flight ends with it (R8)."""
    if not nodes:
        raise RingError("nothing to write: no node changes its state")
    after = {**ring.by_id, **nodes}
    return ring.amended(
        nonce=nonce,
        what=what,
        why=why,
        wall_seconds=wall_seconds,
        nodes=tuple(after.values()),
        trouble=tuple(in_trouble(ring, after)),
        change=None,
    )
