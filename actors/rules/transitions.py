"""Makes the next ring: every write of the ring that the ECS may make, each a pure function of the ring and of facts.

    found      no ring -> ring of epoch 1, every registered node up
    downed     up | returning -> down, several at once
    returned   down | up in an older life -> up, several at once, each the only copy of its slots

    queued     a wish waits for its turn
    begun      the first wish that can be fulfilled, or nodes that have registered -> a change in flight, in transfer
    advanced   transfer -> switch -> seal
    committed  the change is true: the one write that changes lists (R7)
    given_up   the change, or a wish, ends and is not fulfilled; all is as it was
    dismissed  a node that has registered and is no member is to leave
    served     client requests are answered, or refused

The first three keep R7 (no list changes) and R14 (who was complete is written down with the list), and whatever changes
a node's state turns the change in flight into a wish again (R8). The caller hands in the nonce and the time and writes
the result by compare-and-set; what a function refuses it refuses with RingError, whole. A node that shares its slots
with others comes back by a mirror and a change, not by a function here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from .change import Change, Kind, Phase, Wish
from .fields import RingError
from .life import Registration
from .placement import Place, place
from .plan import Plan, check_copies, plan
from .ring import HELD_BACK_MAX, QUEUE_MAX, Node, Ring, Trouble, Write, circle_of, list_runs, shortened

OUT_KEPT_MAX = 256
"""Nodes that are out, and that the ring still remembers so that they find out."""


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
    """One write that gives nodes other states or lives. The change in flight ends with it (R8): it will be planned
    anew, before anything else that is wanted."""
    if not nodes:
        raise RingError("nothing to write: no node changes its state")
    after = {**ring.by_id, **nodes}
    queue = ring.queue if ring.change is None else (ring.change.wish, *ring.queue)
    return ring.amended(
        nonce=nonce,
        what=what,
        why=why,
        wall_seconds=wall_seconds,
        nodes=tuple(after.values()),
        trouble=tuple(in_trouble(ring, after)),
        change=None,
        queue=queue[:QUEUE_MAX],
    )


# Changes


def queued(ring: Ring, kind: Kind, ids: Iterable[str], *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which this is wanted, after all that was wanted before. Raises RingError when the queue is full, or
    when the wish makes no sense now."""
    if len(_wishes(ring)) >= QUEUE_MAX:  # the change in flight may have to wait again, too
        raise RingError(f"{QUEUE_MAX} wishes wait already: let some be fulfilled, or cancel them")
    wish = Wish(job=ring.epoch + 1, kind=kind, ids=tuple(sorted(set(ids))))
    for id in wish.ids:
        if kind == "remove":
            _member(ring, id)
            if any(id in other.ids and other.kind == "remove" for other in _wishes(ring)):
                raise RingError(f"{id} is being removed already")
    return ring.amended(
        nonce=nonce,
        what=f"job {wish.job} waits: {wish}",
        why=why,
        wall_seconds=wall_seconds,
        job=wish.job,
        queue=(*ring.queue, wish),
        held_back=tuple(id for id in ring.held_back if kind != "add" or id not in wish.ids),
    )


def begun(
    ring: Ring,
    wish: Wish | None,
    registrations: Iterable[Registration] = (),
    *,
    why: str,
    nonce: str,
    wall_seconds: float,
) -> Ring:
    """The ring in which the change that fulfils a wish of the queue is in flight; with None, the change that takes in
    the nodes of these registrations.

    A wish to add nodes takes in those of them that are registered. Raises RingError when a change is in flight, when
    it would change nothing, or when it must not be done (`plan`).
    """
    if ring.change is not None:
        raise RingError(f"a change is in flight already: {ring.change}")
    lives = sorted(registrations, key=lambda node: node.id)
    ids = tuple(life.id for life in lives)
    if wish is None:
        wish = Wish(job=ring.epoch + 1, kind="add", ids=ids)
    queue = tuple(each for each in ring.queue if each.job != wish.job)
    if wish.kind == "add":
        wish = replace(wish, ids=ids)
    tokens = place(ids, ring.place, {node.id: node.token for node in ring.circle})
    comes = tuple(Node(**life.life(), token=tokens[life.id]) for life in lives)
    for life in lives:
        known = ring.by_id.get(life.id)
        if known is not None and known.state != "out":
            raise RingError(f"{life.id} is in the ring already")
        if known is not None and known.incarnation == life.incarnation:
            raise RingError(f"{life.id} has left the ring in this life ({life.incarnation}), and is about to end")
        if life.held is not None and (objection := ring.objection(life.held)):
            raise RingError(f"{life.id} cannot join: {objection}")
    change = Change(epoch=ring.epoch + 1, phase="transfer", wish=wish, comes=comes)
    following = ring.amended(
        nonce=nonce,
        what=f"{wish}: begun",
        why=why,
        wall_seconds=wall_seconds,
        job=wish.job,
        change=change,
        queue=queue,
    )
    planned(following)
    return following


def target(ring: Ring) -> Ring:
    """The ring as its change would make it, under the epoch and nonce of now: to be planned by, never to be written.
    Raises RingError when there is no change, or it must not be made."""
    return replace(ring, change=None, **_changed(ring))


def _changed(ring: Ring) -> dict[str, Any]:
    """The fields that the commit of the change in flight exchanges. A list that is in trouble does not change (R11), so
    what was written down of it stays; a list that nobody has any more is in no trouble."""
    change = _in_flight(ring)
    nodes = _without_the_forgotten(change.members(ring.nodes), change.wish.ids)
    check_copies(ring, nodes)
    circle = circle_of(nodes)
    needed = min(ring.min_copies, ring.replicas, len(circle))
    below = [
        run for run, members in list_runs(circle, ring.replicas) if sum(node.state == "up" for node in members) < needed
    ]
    trouble = [each for each in ring.trouble if any(run.first <= each.slots.first <= run.last for run in below)]
    return {"nodes": nodes, "trouble": tuple(trouble)}


def _without_the_forgotten(nodes: Iterable[Node], going: tuple[str, ...]) -> tuple[Node, ...]:
    """Of the nodes that are out only some are remembered: those that go now, and OUT_KEPT_MAX of the others."""
    nodes = tuple(nodes)
    gone = sorted(node.id for node in nodes if node.state == "out" and node.id not in going)
    forgotten = set(gone[:-OUT_KEPT_MAX])
    return tuple(node for node in nodes if node.id not in forgotten)


def planned(ring: Ring) -> Plan:
    """The plan of the change in flight. Raises RingError when there is none, or it must not be done."""
    return plan(ring, target(ring))


def advanced(ring: Ring, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which the change in flight is in its next phase. Raises RingError when it has none."""
    change = _in_flight(ring)
    following: dict[Phase, Phase] = {"transfer": "switch", "switch": "seal"}
    if change.phase not in following:
        raise RingError(f"nothing but its commit follows the phase {change.phase}")
    phase = following[change.phase]
    return ring.amended(
        nonce=nonce,
        what=f"{change}: {phase}",
        why=why,
        wall_seconds=wall_seconds,
        job=change.wish.job,
        change=replace(change, phase=phase),
    )


def committed(ring: Ring, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which the change in flight, sealed and ready, is true. Raises RingError when it is not sealed."""
    change = _in_flight(ring)
    if change.phase != "seal":
        raise RingError(f"{change} is in {change.phase}: it was not sealed")
    return ring.amended(
        nonce=nonce,
        what=f"{change}: done",
        why=why,
        wall_seconds=wall_seconds,
        job=change.wish.job,
        outcome="done",
        change=None,
        **_changed(ring),
    )


def given_up(
    ring: Ring, job: int, outcome: Literal["aborted", "cancelled"], *, why: str, nonce: str, wall_seconds: float
) -> Ring:
    """The ring in which a job has ended and all is as it was, whether it was in flight or waited. Nodes that were to
    join by a job that is cancelled are held back until somebody asks for them. Raises RingError when no such job is
    under way."""
    wish = next((wish for wish in _wishes(ring) if wish.job == job), None)
    if wish is None:
        raise RingError(f"no job {job} is under way or waits")
    in_flight = ring.change is not None and ring.change.wish.job == job
    held_back = {*ring.held_back, *(wish.ids if outcome == "cancelled" and wish.kind == "add" else ())}
    return ring.amended(
        nonce=nonce,
        what=f"{wish}: {outcome}",
        why=why,
        wall_seconds=wall_seconds,
        job=job,
        outcome=outcome,
        change=None if in_flight else ring.change,
        queue=tuple(each for each in ring.queue if each.job != job),
        held_back=tuple(sorted(held_back)[:HELD_BACK_MAX]),
    )


def dismissed(ring: Ring, registration: Registration, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring that calls a life out which was never in: its process will end. Raises RingError when the node is a
    member, or about to be one by the change in flight."""
    id = registration.id
    if id in ring.by_id and ring.by_id[id].state != "out":
        raise RingError(f"{id} is in the ring: it has to leave in order")
    if ring.change is not None and id in {node.id for node in ring.change.comes}:
        raise RingError(f"{id} is about to join by job {ring.change.wish.job}: cancel that first")
    others = tuple(node for node in ring.nodes if node.id != id)
    what = f"{id} is sent away"
    epoch = ring.epoch + 1
    return ring.amended(
        nonce=nonce,
        what=what,
        why=why,
        wall_seconds=wall_seconds,
        job=epoch,
        outcome="done",
        nodes=_without_the_forgotten((*others, Node(**registration.life(), token=0, state="out")), (id,)),
        held_back=tuple(each for each in ring.held_back if each != id),
        queue=tuple(each for each in (_without(wish, id) for wish in ring.queue) if each is not None),
    )


def _without(wish: Wish, id: str) -> Wish | None:
    """A wish that does not want a node to come any more; None: it wanted nothing else."""
    if wish.kind != "add" or id not in wish.ids:
        return wish
    others = tuple(each for each in wish.ids if each != id)
    return replace(wish, ids=others) if others else None


def served(ring: Ring, serving: bool, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which client requests are answered, or refused; data and nodes stay. Raises RingError when they are
    already."""
    if ring.serving == serving:
        raise RingError(f"the cluster is {'started' if serving else 'stopped'} already")
    return ring.amended(
        nonce=nonce,
        what="client requests are answered" if serving else "client requests are refused",
        why=why,
        wall_seconds=wall_seconds,
        serving=serving,
    )


def _wishes(ring: Ring) -> tuple[Wish, ...]:
    return (*((ring.change.wish,) if ring.change is not None else ()), *ring.queue)


def _in_flight(ring: Ring) -> Change:
    if ring.change is None:
        raise RingError("no change is in flight")
    return ring.change
