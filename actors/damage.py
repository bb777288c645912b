"""Tells the Scrubber of the process that a record of the store cannot be read as it was written (R25)."""

from ..runtime.actor import Actor
from ..runtime.store import Corrupt, StoreError
from .messages import DamageFound

SCRUBBER = "scrubber"
"""The name of that actor in its process."""


def tell_damage(actor: Actor, failure: StoreError) -> None:
    """Tell it, if that is what a failure of the store means. A disk that is full or away is no damage."""
    scrubber = actor.system.find(SCRUBBER) if isinstance(failure, Corrupt) else None
    if scrubber is not None:
        actor.send(scrubber, DamageFound(why=str(failure)))
