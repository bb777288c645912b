"""Tells the process that its disk is not to be trusted: the Scrubber, that a record cannot be read as it was written
(R25); the Member, that what was written could not be synced."""

from ..runtime.actor import Actor
from ..runtime.store import Corrupt, StoreError
from .messages import DamageFound, Synced, SyncFailed

SCRUBBER = "scrubber"
"""The name of that actor in its process."""


def tell_damage(actor: Actor, failure: StoreError) -> None:
    """Tell it, if that is what a failure of the store means. A disk that is full or away is no damage."""
    if isinstance(failure, Corrupt):
        tell_distrust(actor, str(failure))


def tell_distrust(actor: Actor, why: str) -> None:
    """Have the ring call this node down, once others are known to hold what it holds."""
    if (scrubber := actor.system.find(SCRUBBER)) is not None:
        actor.send(scrubber, DamageFound(why=why))


def tell_sync_failed(actor: Actor, member: str, synced: Synced) -> None:
    """Tell the Member, which writes it down and sees to it that this life ends."""
    ref = actor.system.find(member) if synced.error else None
    if ref is not None:
        actor.send(ref, SyncFailed(why=synced.error, full=synced.full))
