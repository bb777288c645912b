"""Decides what is to be written back where ZooKeeper has lost the ring, or has an older one (R23)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .fields import RingError
from .ring import Ring


class Restoration(NamedTuple):
    """What a ``RING RESTORE`` would go by."""

    ring: Ring
    """The newest that is known."""
    above: int
    """The highest epoch that was seen anywhere."""
    holders: tuple[str, ...]
    """Who holds it; ascending."""
    unheard: tuple[str, ...]
    """Those that have not said what they held, and may have held a newer one: its members, those that are up having
    come with another data directory included, and who came by its change, if that was about to be committed.
    Ascending."""


def restoration(
    stored: Ring | None, known: Ring | None, held: Mapping[str, Ring], data_ids: Mapping[str, str]
) -> Restoration:
    """``stored``: what is in ZooKeeper; ``known``: what the ECS has read before; ``held``: by node, what it says that
    it holds; ``data_ids``: by node, in which data directory that is.

    Raises RingError when nothing is lost, nothing is known, or what is known does not belong together: then somebody
    has to say which nodes are to be gone by.
    """
    every = dict(held) if known is None else {**held, "": known}
    if not every:
        raise RingError("no node that has registered holds a ring, so there is nothing to restore")
    ids = {ring.cluster_id for ring in every.values()}
    if len(ids) > 1:
        raise RingError(f"rings of several clusters are held: {_listed(every.items())}. Stop who does not belong here.")
    newest = max(every.values(), key=lambda ring: ring.epoch)
    forks = [(id, ring) for id, ring in sorted(every.items()) if newest.objection(ring.stamp)]
    if forks:
        raise RingError(
            f"{newest.stamp} is the newest that is held, and does not descend from {_listed(forks)}: the ring was "
            "written anew from an older one. Stop the nodes of the branch that is to be given up, and the ECS if it "
            "has read that, then ask again."
        )
    if stored is not None and stored.cluster_id == newest.cluster_id and stored.objection(newest.stamp) is None:
        raise RingError(f"nothing is lost: ring {stored.epoch} in ZooKeeper descends from all that is held")
    return Restoration(
        ring=newest,
        above=max(newest.epoch, stored.epoch if stored is not None else 0),
        holders=tuple(sorted(id for id, ring in held.items() if ring.stamp == newest.stamp)),
        unheard=tuple(sorted(_unheard(newest, held, data_ids))),
    )


def _unheard(newest: Ring, held: Mapping[str, Ring], data_ids: Mapping[str, str]) -> Iterator[str]:
    for node in newest.circle:
        if node.id not in held or (node.state == "up" and data_ids.get(node.id) != node.data_id):
            yield node.id  # an empty disk may hold the old ring, as ZooKeeper has it, and nothing of what was answered
    if newest.change is not None and newest.change.phase == "seal":
        for node in newest.change.comes:
            if node.id not in held:
                yield node.id


def _listed(rings: Iterable[tuple[str, Ring]]) -> str:
    return ", ".join(f"{ring.stamp} (held by {id or 'the ECS'})" for id, ring in rings)
