"""Makes the next ring: every write of the ring that the ECS may make, each a pure function of the ring and of facts.

    found      no ring -> ring of epoch 1, every registered node up
    downed     up | returning -> down, several at once
    returned   another life of nodes that are down, up or returning -> returning, several at once; up, where each is the
               only copy of its slots
    kept       lists that nobody answers for get a keeper (R15)
    recovered  lists that nobody answers for go on with what one member holds, whatever it lacks (R17)
    renounced  nodes that are down and hold the only copy of their slots go out, and what they hold with them (R17)
    restored   the newest ring that nodes hold is written back, after ZooKeeper has lost it: every node down (R23)

    queued     a wish waits for its turn
    begun      the first wish that can be fulfilled, nodes that have registered, nodes that are returning -> a change in
               flight, in transfer
    advanced   transfer -> switch -> seal
    committed  the change is true: the one write that changes lists (R7), and how many copies there are
    given_up   the change, or a wish, ends and is not fulfilled; all is as it was
    put_back   the change in flight lets another one go first, and is planned anew afterwards
    dismissed  a node that has registered and is no member is to leave
    limited    slots move no faster than this
    set_balancing, weighed    shares are kept even by themselves, or not; a node is to have more or less than others
    served     client requests are answered, or refused

The first four keep R7 (no list changes) and R14 (who was complete is written down with the list), and what they do to a
node that is up, that keeps a list or that the change in flight is about turns this change into a wish again (R8). The
caller hands in the nonce and the time and writes the result by compare-and-set; what a function refuses it refuses with
RingError, whole.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from .balancing import Balancing
from .change import UNASKED, Change, Kind, Phase, Wish
from .fields import RingError
from .life import Life, Registration
from .placement import Place, place
from .plan import Plan, check_copies, plan
from .ring import (
    HELD_BACK_MAX,
    HOLDERS,
    LEFT_BEHIND_MAX,
    QUEUE_MAX,
    Acks,
    Node,
    Ring,
    Trouble,
    Write,
    circle_of,
    list_runs,
    shortened,
)
from .slots import Run

EPOCHS_SKIPPED = 1000
"""A ring that is written back leaves so many epochs to rings that may have been written and that nobody holds any more:
versions that were stamped under them stay below those that are stamped from now on."""

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
    acks: Acks = "all",
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
        acks=acks,
        place=how,
        nodes=tuple(Node(**node.life(), token=tokens[node.id]) for node in nodes),
        history=(Write(epoch=1, what=shortened(what), why=shortened(why), wall_seconds=wall_seconds),),
    )


def downed(
    ring: Ring, lives: Mapping[str, str], *, damaged: bool = False, why: str, nonce: str, wall_seconds: float
) -> Ring:
    """The ring in which these lives (id -> incarnation) are over, in one write. ``damaged``: since their copies are
    bad, so that they are complete in no list from now on that has somebody else who is (R14, R25).

    Raises RingError when a node is unknown, in another life by now (the claim is old) or not up or returning.
    """
    for id, incarnation in lives.items():
        node = _member(ring, id)
        if node.incarnation != incarnation:
            raise RingError(f"{id} lives as {node.incarnation} now; what is claimed of {incarnation} is past")
        if node.state not in ("up", "returning"):
            raise RingError(f"{id} is {node.state} already")
    nodes = {id: replace(ring.by_id[id], state="down") for id in sorted(lives)}
    following = _with_states(ring, nodes, f"{', '.join(nodes)} down", why, nonce, wall_seconds)
    if not damaged:
        return following
    good = [tuple(other for other in each.complete if other[0] not in nodes) for each in following.trouble]
    trouble = zip(following.trouble, good, strict=True)
    return replace(following, trouble=tuple(replace(each, complete=left or each.complete) for each, left in trouble))


def returned(
    ring: Ring, registrations: Iterable[Registration], *, nonce: str, wall_seconds: float, why: str = "registered"
) -> Ring:
    """The ring in which these nodes are returning in the lives that they registered, in one write.

    The registration ends the older life even where the ring still calls that up (R3). Where a node is the only copy of
    its slots it is up at once: nobody wrote to them meanwhile, so what its data directory holds is complete (R14) and
    nobody else's return is to be waited for (R16). Where it shares them it may come with another data directory, which
    is complete in no list. Raises RingError when a node is unknown, registered a life that the ring has seen (a downed
    incarnation never comes back), brings another directory in the place of the only copy, or holds a ring from which
    this one does not descend (R23).
    """
    nodes = {}
    alone = ring.replicas == 1 or len(ring.circle) == 1
    for registration in sorted(registrations, key=lambda node: node.id):
        id = registration.id
        node = _member(ring, id)
        if registration.incarnation == node.incarnation:
            raise RingError(f"{id} is {node.state} in this life already ({node.incarnation})")
        if registration.held is not None and (objection := ring.objection(registration.held)):
            raise RingError(f"{id} cannot return: {objection}")
        if alone and registration.data_id != node.data_id:
            raise RingError(
                f"{id} came with the data directory {registration.data_id}, its slots are in {node.data_id}. As it is "
                "it would lose them: start it on its own directory. If that is gone, stop it, and give up what was in "
                f"it: `ringkeeper nodes remove {id} --accept-loss`"
            )
        nodes[id] = replace(node, **registration.life(), state="up" if alone else "returning")
    what = f"{', '.join(nodes)} {'up' if alone else 'returning'}"
    return _with_states(ring, nodes, what, why, nonce, wall_seconds)


def kept(
    ring: Ring,
    keepers: Mapping[Run, str],
    *,
    unsure: Container[Run] = (),
    why: str,
    nonce: str,
    wall_seconds: float,
) -> Ring:
    """The ring in which lists that nobody answers for have these members as keepers, in one write: by the slots that
    are written down as in trouble, the id. ``unsure``: slots whose keeper may lack what another complete member holds.

    Raises RingError when nothing is written down of just these slots, they have a keeper or a member that is up, or
    who is to be keeper is not one of their complete members, back with the same data directory (R14, R15).
    """
    if not keepers:
        raise RingError("nothing to write: no list gets a keeper")
    trouble = []
    for each in ring.trouble:
        keeper = keepers.get(each.slots)
        if keeper is not None and (each.keeper is not None or ring.coordinators[each.slots.first] is not None):
            raise RingError(f"slots {each.slots} are answered for already")
        if keeper is not None:
            each = replace(each, complete=_not_replaced(each.complete, ring.by_id), keeper=keeper)
        trouble.append(each)
    if unknown := sorted(set(keepers) - {each.slots for each in trouble}):
        raise RingError(f"slots {unknown[0]} are not written down as in trouble")
    left = [
        directory
        for each in trouble
        if each.slots in unsure
        for directory in _directories(ring, each)
        if directory[0] != each.keeper
    ]
    kept = ", ".join(f"{run} by {id}" for run, id in sorted(keepers.items()))
    return ring.amended(
        nonce=nonce,
        what=f"kept: {kept}",
        why=why,
        wall_seconds=wall_seconds,
        left_behind=_left_behind(ring, left),
        trouble=tuple(trouble),
        **_without_the_change(ring),
    )


def abandoned(ring: Ring, id: str) -> tuple[Trouble, ...]:
    """The lists that a node is a member of and that nobody answers for, or it keeps while others might: what it could
    go on with alone (R17). Raises RingError when there are none, or it is not back."""
    node = _member(ring, id)
    kept = ring.unsettled(id)
    lists = tuple(
        each
        for each in ring.trouble
        if each.slots in kept or (ring.coordinators[each.slots.first] is None and node in ring.lists[each.slots.first])
    )
    if not lists:
        raise RingError(f"nothing is to be recovered: somebody answers for each slot of {id}")
    if node.state not in ("returning", "up"):
        raise RingError(f"{id} is {node.state}: it has to run, so that others can be made equal to it")
    return lists


def recovered(ring: Ring, id: str, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which one member, with those that are up beside it, counts as complete in all its lists that nobody
    answers for or whose reads wait, and nobody else does: what it lacks is given up (R17). Raises RingError as
    ``abandoned``."""
    lists = abandoned(ring, id)
    alone = (id, ring.by_id[id].data_id)
    slots = ", ".join(str(each.slots) for each in lists)
    trouble, left = [], []
    for each in ring.trouble:
        if each in lists:
            equal = {alone, *_up(ring.lists[each.slots.first])}  # who is up with it has been made equal to it
            left += [directory for directory in _directories(ring, each) if directory not in equal]
            each = replace(each, complete=tuple(sorted(equal)), keeper=each.keeper if len(equal) == 1 else None)
        trouble.append(each)
    return ring.amended(
        nonce=nonce,
        what=f"LOSS ACCEPTED: slots {slots} go on with what {id} holds, whatever it lacks",
        why=why,
        wall_seconds=wall_seconds,
        trouble=tuple(trouble),
        left_behind=_left_behind(ring, left),
        **_without_the_change(ring),
    )


def renounced(ring: Ring, ids: Iterable[str], *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring without nodes that are down and have the only copy of their slots: that is given up, and the next of the
    circle go on with what they hold of it, as a rule nothing (R17). One that comes back later joins, as who was given
    up.

    Raises RingError when there are other copies, a node is not down, or nobody who is up would answer.
    """
    ids = sorted(set(ids))
    if min(ring.replicas, len(ring.circle)) > 1:
        raise RingError("others have copies of what they hold, and nothing is lost: remove them without ACCEPTLOSS")
    for id in ids:
        if (node := _member(ring, id)).state != "down":
            raise RingError(f"{id} is {node.state}, and can hand over what it holds: remove it without ACCEPTLOSS")
    nodes = tuple(replace(node, state="out", given_up=True) if node.id in ids else node for node in ring.nodes)
    circle = circle_of(nodes)
    if not circle:
        raise RingError("the ring would be left without a node")
    for run, (heir,) in list_runs(circle, 1):
        if heir.state != "up" and any(ring.lists[each.first][0].id in ids for each in ring.stretches(run)):
            raise RingError(f"{heir.id} would answer for their slots, and is {heir.state}: bring it back first")
    epoch, slots = ring.epoch + 1, ", ".join(str(run) for id in ids for run in ring.slots_of(id))
    stopped = _without_the_change(ring)
    queue = [_without_member(wish, ids) for wish in stopped.get("queue", ring.queue)]
    return ring.amended(
        nonce=nonce,
        what=f"LOSS ACCEPTED, {', '.join(ids)} given up: slots {slots} go on without what was there alone",
        why=why,
        wall_seconds=wall_seconds,
        job=epoch,
        outcome="done",
        nodes=_without_the_forgotten(nodes, tuple(ids)),
        trouble=tuple(in_trouble(ring, nodes)),
        left_behind=_left_behind(ring, ((id, ring.by_id[id].data_id) for id in ids)),
        **{**stopped, "queue": tuple(wish for wish in queue if wish is not None)},
    )


def _without_member(wish: Wish, ids: Collection[str]) -> Wish | None:
    """A wish that has nothing to do any more with members that are gone; None: it was about nothing else."""
    if wish.kind not in _SAID:
        return wish
    others = tuple(id for id in wish.ids if id not in ids)
    return replace(wish, ids=others) if others else None


def restored(
    ring: Ring, above: int, unheard: Collection[str] = (), *, why: str, nonce: str, wall_seconds: float
) -> Ring:
    """The ring to be written back after ZooKeeper has lost ``ring``, the newest that nodes hold (R23); ``above``: the
    highest epoch that was seen anywhere; ``unheard``: who may hold more than that ring knows, which goes on without
    them (R17).

    Every node is down, in whatever life: so each begins another one under it, and nobody coordinates by a ring that was
    lost. Complete is who was up in the ring that is restored. Its change in flight is to be planned anew.
    """
    nodes = tuple(replace(node, state="down") if node.state != "out" else node for node in ring.nodes)
    known = (*ring.circle, *(ring.change.comes if ring.change is not None else ()))
    return ring.amended(
        epoch=max(ring.epoch, above) + EPOCHS_SKIPPED,
        nonce=nonce,
        what=f"ring {ring.epoch} is restored, every node down",
        why=why,
        wall_seconds=wall_seconds,
        nodes=nodes,
        trouble=tuple(in_trouble(ring, nodes)),
        left_behind=_left_behind(ring, ((node.id, node.data_id) for node in known if node.id in unheard)),
        **_without_the_change(ring),
    )


def _directories(ring: Ring, trouble: Trouble) -> list[tuple[str, str]]:
    """The data directories that may hold something of a list in trouble: those of the complete, and of all members, of
    which one that went before may hold what the complete have lost."""
    members = [(node.id, node.data_id) for node in ring.lists[trouble.slots.first]]
    return [*trouble.complete, *(each for each in members if each not in trouble.complete)]


def _left_behind(ring: Ring, directories: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What a ring has left behind already, and these (R17)."""
    left = dict.fromkeys((*ring.left_behind, *directories))
    return tuple(left)[-LEFT_BEHIND_MAX:]


def awaited(ring: Ring, life: Life) -> bool:
    """Whether a list that nobody answers for waits for what is in this life's data directory."""
    return any(
        ring.coordinators[each.slots.first] is None and (life.id, life.data_id) in each.complete
        for each in ring.trouble
    )


def short_of(ring: Ring, id: str) -> bool:
    """Whether a list that has too few members up, and refuses writes, if not reads as well, would have one more with
    this one (R14)."""
    return any(id in {node.id for node in ring.lists[each.slots.first]} for each in ring.trouble)


def in_trouble(
    before: Ring, after: Iterable[Node], replicas: int | None = None, min_copies: int | None = None
) -> Iterator[Trouble]:
    """R14: the lists that have too few members up once the nodes of a ring are these, and so many copies are kept and
    needed (None: as now), with who was complete.

    Complete are the members that were up just before the list fell below copies_needed. While it is below, the record
    stays, together with whoever is up; when enough are up again it goes. Where a commit changes such a list, those stay
    complete that are still its members: below copies_needed nothing is written, so they lack nothing.

    A keeper answers until its life ends or somebody is up. Who answers then, and whoever follows it by a takeover or a
    commit, holds what was in doubt and does not know it: it is the keeper while others might be instead, since what it
    shows they may lack (R15). Only who coordinated the list when it fell, and has lived since, knows what is in doubt.
    """
    nodes = {node.id: node for node in after}
    circle = circle_of(nodes.values())
    replicas, min_copies = replicas or before.replicas, min_copies or before.min_copies
    needed = min(min_copies, replicas, len(circle))
    for run, members in list_runs(circle, replicas):
        up = {node.id: node.data_id for node in members if node.state == "up"}
        if len(up) >= needed:
            continue
        last: Trouble | None = None
        for stretch in before.stretches(run):
            record = before.trouble_at(stretch.first)
            were = record.complete if record is not None else _up(before.lists[stretch.first])
            ids = {node.id for node in members}
            complete = {id: data_id for id, data_id in were if id in ids} | up
            keeper = record.keeper if record is not None else None
            was, first_up = before.coordinators[stretch.first], next(iter(up), None)
            if record is not None and up and (keeper is not None or was is None or was.id != first_up):
                keeper = first_up if len(record.complete) > 1 else None
            elif keeper is not None and (
                keeper not in complete
                or nodes[keeper].state != "returning"
                or nodes[keeper].incarnation != before.by_id[keeper].incarnation
            ):
                keeper = None
            left = tuple(sorted(complete.items()))
            if up or keeper is not None:
                left = _not_replaced(left, nodes)
            each = Trouble(slots=stretch, complete=left, keeper=keeper)
            if last is not None and (last.complete, last.keeper) == (each.complete, each.keeper):
                each = replace(each, slots=Run(last.slots.first, stretch.last))
            elif last is not None:
                yield last
            last = each
        if last is not None:
            yield last


def _not_replaced(complete: Iterable[tuple[str, str]], nodes: Mapping[str, Node]) -> tuple[tuple[str, str], ...]:
    """Those of the complete whose node has not come with another data directory since. Where somebody complete answers
    the one of before is waited for no more: its reads would wait for who cannot come (R15)."""
    return tuple((id, data_id) for id, data_id in complete if nodes[id].data_id == data_id)


def _up(members: tuple[Node, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((node.id, node.data_id) for node in members if node.state == "up")


def _member(ring: Ring, id: str) -> Node:
    node = ring.by_id.get(id)
    if node is None or node.state == "out":
        raise RingError(f"{id} is not in ring {ring.epoch}")
    return node


def _with_states(ring: Ring, nodes: Mapping[str, Node], what: str, why: str, nonce: str, wall_seconds: float) -> Ring:
    """One write that gives nodes other states or lives."""
    if not nodes:
        raise RingError("nothing to write: no node changes its state")
    after = {**ring.by_id, **nodes}.values()
    complete = {directory for each in ring.trouble for directory in each.complete}
    replaced = [(id, ring.by_id[id].data_id) for id in nodes if nodes[id].data_id != ring.by_id[id].data_id]
    return ring.amended(
        nonce=nonce,
        what=what,
        why=why,
        wall_seconds=wall_seconds,
        nodes=tuple(after),
        trouble=tuple(in_trouble(ring, after)),
        left_behind=_left_behind(ring, (directory for directory in replaced if directory in complete)),
        **(_without_the_change(ring) if any(_matters(ring, node) for node in nodes.values()) else {}),
    )


def _matters(ring: Ring, after: Node) -> bool:
    """Whether the change in flight must not go on once a node of the ring is like this (R8): it was or will be up,
    answers for a list as its keeper, or is one of those that the change is about."""
    before = ring.by_id[after.id]
    return (
        "up" in (before.state, after.state)
        or any(each.keeper == after.id for each in ring.trouble)
        or (ring.change is not None and after.id in ring.change.wish.ids)
    )


def _without_the_change(ring: Ring) -> dict[str, Any]:
    """The fields of a ring whose change in flight has ended: it will be planned anew, before anything else that is
    wanted. Of what is done without being asked for nothing is kept, nor of joining unasked where there is no room: who
    has registered joins all the same."""
    if ring.change is None:
        return {}
    wish = ring.change.wish
    by_itself = wish.kind in UNASKED or (len(ring.queue) == QUEUE_MAX and wish.job == ring.change.epoch)
    return {"change": None, "queue": ring.queue if by_itself else (wish, *ring.queue)}


# Changes


def queued(
    ring: Ring,
    kind: Kind,
    ids: Iterable[str] = (),
    *,
    by: str = "",
    copies: tuple[int, int] | None = None,
    tokens: Mapping[str, int] | None = None,
    why: str,
    nonce: str,
    wall_seconds: float,
) -> Ring:
    """The ring in which this is wanted, after all that was wanted before. Raises RingError when the queue is full, or
    when the wish makes no sense now."""
    if len(_wishes(ring)) >= QUEUE_MAX:  # the change in flight may have to wait again, too
        raise RingError(f"{QUEUE_MAX} wishes wait already: let some be fulfilled, or cancel them")
    places = tuple(sorted(tokens.items())) if tokens is not None else ()
    wish = Wish(job=ring.epoch + 1, kind=kind, ids=tuple(sorted(set(ids))), by=by, copies=copies, tokens=places)
    if kind == "move":
        for other in _wishes(ring):
            if other.kind == "move":
                raise RingError(f"job {other.job} balances the ring already")
        _check_same_nodes(ring, wish)
    if kind in _SAID:
        for id in wish.ids:
            node = _member(ring, id)
            if kind == "remove" and node.state == "down" and min(ring.replicas, len(ring.circle)) == 1:
                slots = sum(run.size for run in ring.slots_of(id))
                raise RingError(
                    f"{id} is down, and holds the only copy of {slots} slots. Start it on its data, and nothing is "
                    "lost; or give up all that was in it, for good, by ACCEPTLOSS (`--accept-loss`)"
                )
            if kind == "rest" and node.state != "up":
                raise RingError(
                    f"{id} is {node.state}: only who is up can be restarted in order; with --force it is started"
                )
            for other in _wishes(ring):
                if id in other.ids and other.kind in _SAID and (other.kind == "rest") == (kind == "rest"):
                    raise RingError(f"{id} is being {_SAID[other.kind]} already")
    if by in ring.by_id and ring.by_id[by].state != "out":
        raise RingError(f"{by} is in the ring already: who replaces another must not be")
    if copies is not None and copies == (ring.replicas, ring.min_copies):
        raise RingError(f"the ring keeps {copies[0]} copies already, and needs {copies[1]} for a write")
    return ring.amended(
        nonce=nonce,
        what=f"job {wish.job} waits: {wish}",
        why=why,
        wall_seconds=wall_seconds,
        job=wish.job,
        queue=(*ring.queue, wish),
        held_back=tuple(id for id in ring.held_back if id not in wish.comers),
    )


def _check_same_nodes(ring: Ring, wish: Wish) -> None:
    """Raises RingError when the nodes of the ring are others than those that a move was planned for."""
    if set(wish.ids) != {node.id for node in ring.circle}:
        raise RingError("the nodes of the ring are others than when the tokens were chosen: balance again")


_SAID: dict[Kind, str] = {"remove": "removed", "replace": "replaced", "rest": "restarted"}
"""What is wanted of members, in the words for what is under way."""


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

    A wish to add nodes takes in those of them that are registered; of a replacement, the one that comes is given. Who
    was given up stands where it stood before, unless the wish says otherwise, if nobody else does: what it holds is of
    those slots. A wish that was
    never queued (`returning`, `giving_up`) is begun in the same way. Raises RingError when a change is in flight, or
    when it must not be done (`plan`).
    """
    if ring.change is not None:
        raise RingError(f"a change is in flight already: {ring.change}")
    lives = sorted(registrations, key=lambda node: node.id)
    ids = tuple(life.id for life in lives)
    if wish is None:
        wish = Wish(job=ring.epoch + 1, kind="add", ids=ids)
    queue = tuple(each for each in ring.queue if each.job != wish.job)
    if wish.kind == "add":
        wish = wish.among(ids)
    if wish.kind == "move":
        _check_same_nodes(ring, wish)
    standing = {node.id: node.token for node in ring.circle}
    if wish.kind == "replace":
        tokens = {id: _member(ring, wish.ids[0]).token for id in ids}
    else:
        former = {id: ring.by_id[id].token for id in ids if id in ring.by_id and ring.by_id[id].given_up}
        wanted = former | dict(wish.tokens if wish.kind == "add" else ())
        tokens = {id: token for id, token in wanted.items() if token not in standing.values()}
        tokens |= place((id for id in ids if id not in tokens), ring.place, standing | tokens)
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
    _check_reads(following)
    return following


def _check_reads(ring: Ring) -> None:
    """Raises RingError when the change in flight would take a list's reads away until members that are not up are back,
    or out: who is to answer for it would be its keeper, while others might be instead (R15).

    A change that is about none who are up heals, and never waits for this. Who joins may have to come first where too
    few nodes are left for anybody to be given up.
    """
    wish = _in_flight(ring).wish
    missing = {node.id for node in ring.circle if node.state != "up"}
    if _too_few_without(ring, missing) if wish.kind == "add" else missing.issuperset(wish.ids):
        return
    after = target(ring)
    for slots, keeper in after.unsettled_by_keeper:
        for stretch in ring.stretches(slots):
            now = ring.trouble_at(stretch.first)
            if now is not None and now.keeper is None:
                absent = [
                    f"{node.id}, which is {node.state}" for node in after.lists[slots.first] if node.id in missing
                ]
                raise RingError(
                    f"slots {stretch} would go to {keeper}, and could not be read there without {', '.join(absent)}. "
                    "Bring it back or remove it first"
                )


def raisable(ring: Ring) -> tuple[str, ...]:
    """The nodes that are returning and can be raised, by id. Who is a member of a list that nobody answers for stays as
    it is: nobody could make it equal there (R11)."""
    back = sorted(node.id for node in ring.circle if node.state == "returning")
    pinned = _pinned(ring) if back else set()
    return tuple(id for id in back if id not in pinned)


def returning(ring: Ring, ids: tuple[str, ...]) -> Wish:
    """The wish to raise these nodes."""
    return Wish(job=ring.epoch + 1, kind="return", ids=ids)


def giving_up(ring: Ring, ids: Iterable[str]) -> Wish:
    """The wish to put out nodes that have been down for too long, all that may be by one change (R11).

    Raises RingError with the reason when nobody is to be given up now: while fewer than half of the members are up the
    trouble is another, and will pass; with fewer nodes than copies are needed for a write, a write would be held by
    fewer; and nobody could hand over what nobody answers for.
    """
    ids = sorted(ids)
    if too_few := _too_few_without(ring, ids):
        raise RingError(too_few)
    pinned = _pinned(ring)
    free = tuple(id for id in ids if id not in pinned)
    if not free:
        raise RingError("nobody answers for some of the slots that they hold")
    return Wish(job=ring.epoch + 1, kind="out", ids=free)


def _too_few_without(ring: Ring, ids: Collection[str]) -> str:
    """Why so many are not given up; empty: enough are left."""
    if few_are_up(ring):
        return "fewer than half of the nodes are up"
    if len(ring.circle) - len(ids) < min(ring.min_copies, ring.replicas):
        return f"fewer nodes would be left than the {ring.min_copies} copies that a write needs"
    return ""


def few_are_up(ring: Ring) -> bool:
    """Whether so many are gone that it is no matter of single nodes."""
    return 2 * sum(node.state == "up" for node in ring.circle) < len(ring.circle)


def _pinned(ring: Ring) -> set[str]:
    """The members of lists that nobody answers for (R11)."""
    return {
        node.id
        for run, members in ring.list_runs
        if any(ring.coordinators[each.first] is None for each in ring.stretches(run))
        for node in members
    }


def target(ring: Ring) -> Ring:
    """The ring as its change would make it, under the epoch and nonce of now: to be planned by, never to be written.
    Raises RingError when there is no change, or it must not be made."""
    return replace(ring, change=None, **_changed(ring))


def _changed(ring: Ring) -> dict[str, Any]:
    """The fields that the commit of the change in flight exchanges."""
    change = _in_flight(ring)
    nodes = _without_the_forgotten(change.members(ring.nodes), change.wish.ids)
    replicas, min_copies = change.wish.copies or (ring.replicas, ring.min_copies)
    check_copies(ring, nodes, replicas, min_copies)
    trouble = tuple(in_trouble(ring, nodes, replicas, min_copies))
    equal = {(node.id, node.data_id) for node in nodes if node.state == "up"}  # what they had is salvaged
    return {
        "nodes": nodes,
        "trouble": trouble,
        "replicas": replicas,
        "min_copies": min_copies,
        "left_behind": tuple(each for each in ring.left_behind if each not in equal),
    }


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
    join by a job that is cancelled are held back until somebody asks for them, and so is who was to replace another.
    Raises RingError when no such job is under way."""
    wish = next((wish for wish in _wishes(ring) if wish.job == job), None)
    if wish is None:
        raise RingError(f"no job {job} is under way or waits")
    if wish.kind == "return" and outcome == "cancelled":
        raise RingError(f"job {job} makes {', '.join(wish.ids)} equal to the others: it would begin anew at once")
    in_flight = ring.change is not None and ring.change.wish.job == job
    held_back = {*ring.held_back, *(wish.comers if outcome == "cancelled" or wish.kind == "replace" else ())}
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


def put_back(ring: Ring, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which the change in flight is a wish again, the first of the queue, or will be wanted again by
    itself: another one is more urgent. What has been moved is not moved twice, digests tell what is there (R26).
    Raises RingError when none is in flight, or clients wait for its end by now."""
    if ring.change is None or ring.change.phase != "transfer":
        raise RingError("no change is in flight that could wait")
    what = f"{ring.change.wish}: put back"
    return ring.amended(nonce=nonce, what=what, why=why, wall_seconds=wall_seconds, **_without_the_change(ring))


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
    if id not in wish.comers:
        return wish
    others = tuple(each for each in wish.comers if each != id)
    return wish.among(others) if others else None


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


def limited(ring: Ring, bytes_per_second: int, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which each node sends so much of slots that move; 0: as much as it can. Raises RingError when that is
    so already, or makes no sense."""
    if ring.move_bytes_per_second == bytes_per_second:
        raise RingError(f"the limit is {bytes_per_second} bytes per second already")
    return ring.amended(
        nonce=nonce,
        what=f"slots move at {f'{bytes_per_second} bytes per second' if bytes_per_second else 'any speed'}",
        why=why,
        wall_seconds=wall_seconds,
        move_bytes_per_second=bytes_per_second,
    )


def acknowledged_by(ring: Ring, acks: Acks, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which writes are answered like this on connections that say nothing else. Raises RingError when that
    is so already."""
    if ring.acks == acks:
        raise RingError(f"acks is {acks} already")
    what = f"writes are answered once {HOLDERS[acks]}"
    return ring.amended(nonce=nonce, what=what, why=why, wall_seconds=wall_seconds, acks=acks)


def set_balancing(ring: Ring, balancing: Balancing, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which shares are kept even like this from now on. Raises RingError when that is so already."""
    if ring.balancing == balancing:
        raise RingError(f"the ring is balanced like this already: {balancing}")
    how = f"by {balancing.by} within {balancing.threshold:.1%}"
    return ring.amended(
        nonce=nonce,
        what=f"the ring balances itself {how}" if balancing.auto else "the ring is balanced when somebody asks",
        why=why,
        wall_seconds=wall_seconds,
        balancing=balancing,
    )


def weighed(ring: Ring, id: str, capacity: int, *, why: str, nonce: str, wall_seconds: float) -> Ring:
    """The ring in which a node is to have so many times the load of one of capacity 1, once it is balanced. Raises
    RingError when nobody would have any load, or nothing would be another."""
    node = replace(_member(ring, id), capacity=capacity)
    if node == ring.by_id[id]:
        raise RingError(f"the capacity of {id} is {capacity} already")
    nodes = tuple({**ring.by_id, id: node}.values())
    if not any(each.capacity for each in nodes if each.state != "out"):
        raise RingError("somebody has to answer for the slots: not every capacity can be 0")
    return ring.amended(
        nonce=nonce, what=f"{id} is of capacity {capacity}", why=why, wall_seconds=wall_seconds, nodes=nodes
    )


def _wishes(ring: Ring) -> tuple[Wish, ...]:
    return (*((ring.change.wish,) if ring.change is not None else ()), *ring.queue)


def _in_flight(ring: Ring) -> Change:
    if ring.change is None:
        raise RingError("no change is in flight")
    return ring.change
