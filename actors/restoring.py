"""Writes the ring back that ZooKeeper has lost: the verb ``RING RESTORE`` (R23).

A part of `Ecs`, which leads but writes nothing where it would disown data. Somebody has to say that the ring is to be
what the nodes hold; then all of them are asked for that, and the newest is written back: as a later one, in which every
node is down, so that all of them begin another life under it.

    RESTORE -> ShowHeldRing to every registered node -> HeldRing of all, or time is up -> refused | written -> said

What is in ZooKeeper is overwritten by compare-and-set, as by any other write: should it have become another meanwhile,
nothing is done.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .messages import HeldRing, RunVerb, ShowHeldRing, VerbRun
from .rules.fields import RingError
from .rules.lost_ring import Restoration, restoration
from .rules.ring import Ring
from .rules.transitions import restored

if TYPE_CHECKING:
    from .ecs import Ecs

log = logging.getLogger(__name__)

HELD_SECONDS_MAX = 1.0
"""How long it is waited for what the nodes hold."""

BUSY = "TRYAGAIN another RING RESTORE is being answered"
CHANGED = "TRYAGAIN what is in ZooKeeper is being read, or written: nothing was done"


@dataclass(slots=True, eq=False)
class Question:
    """A verb that waits for what the nodes hold."""

    number: int
    verb: RunVerb
    accept_loss: bool
    dry_run: bool
    expected: set[str]
    held: dict[str, Ring] = field(default_factory=dict)


class Restoring:
    """``RING RESTORE`` of one control service. ``write`` takes the ring, and calls back with an error, or ""."""

    def __init__(self, ecs: "Ecs", write: Callable[[Ring, Callable[[str], None]], bool]) -> None:
        self._ecs, self._write = ecs, write
        self._question: Question | None = None

    def run(self, verb: RunVerb, number: int, words: list[str]) -> None:
        """Begin to answer: ``ACCEPTLOSS`` goes on without members that are not heard, ``DRYRUN`` only looks."""
        if self._question is not None:
            self._answer(verb, error=BUSY)
            return
        lives = self._ecs.newest_lives()
        self._question = Question(number, verb, "ACCEPTLOSS" in words, "DRYRUN" in words, set(lives))
        for life in lives.values():
            member = self._ecs.system.resolve(f"ringkeeper://{life.bridge_address}/member")
            self._ecs.send(member, ShowHeldRing(question=number, reply_to=self._ecs.ref))
        self._ecs.remind(HELD_SECONDS_MAX, number)
        if not lives:
            self.overdue(number)

    def heard(self, message: HeldRing) -> None:
        """A node has said what it holds."""
        question = self._question
        life = self._ecs.newest_lives().get(message.node)
        if question is None or question.number != message.question or life is None:
            return
        if life.incarnation != message.incarnation:
            return
        try:
            if message.ring:
                question.held[message.node] = Ring.from_json(message.ring)
        except RingError as error:
            log.error("%s holds a ring that cannot be read: %s", message.node, error)
            return
        question.expected.discard(message.node)
        if not question.expected:
            self.overdue(question.number)

    def overdue(self, number: int) -> None:
        """Who has not answered by now is not heard."""
        question = self._question
        if question is None or question.number != number:
            return
        self._question = None
        stored = self._ecs.stored
        if stored is None:
            self._answer(question.verb, error=CHANGED)
            return
        try:
            data_ids = {id: life.data_id for id, life in self._ecs.newest_lives().items()}
            found = restoration(stored.ring, self._ecs.ring, question.held, data_ids)
        except RingError as error:
            self._answer(question.verb, error=f"ERR {error}")
            return
        if question.dry_run:
            self._answer(question.verb, json.dumps(self._view(found, stored.ring), sort_keys=True))
        elif found.unheard and not question.accept_loss:
            self._answer(
                question.verb,
                error=f"ERR nothing was written: {', '.join(found.unheard)} has not said what it holds in its own data "
                f"directory, which may be a newer ring than {found.ring.epoch} and what was acknowledged under it. "
                "Start it on that, or have that lost by ACCEPTLOSS",
            )
        else:
            self._restore(question, found, stored.ring)

    def _restore(self, question: Question, found: Restoration, stored: Ring | None) -> None:
        why = "asked for"
        if found.unheard:
            why = f"asked for; LOSS ACCEPTED of what only {', '.join(found.unheard)} held"
        ring = restored(found.ring, found.above, found.unheard, why=why, **self._ecs.write_fields())
        view = {**self._view(found, stored), "epoch": ring.epoch}

        def written(error: str) -> None:
            self._answer(question.verb, "" if error else json.dumps(view, sort_keys=True), error)

        if not self._write(ring, written):
            self._answer(question.verb, error=CHANGED)

    def _view(self, found: Restoration, stored: Ring | None) -> dict[str, Any]:
        return {
            "epoch": None,
            "restored": found.ring.epoch,
            "stored": stored.epoch if stored is not None else None,
            "holders": list(found.holders),
            "unheard": list(found.unheard),
        }

    def _answer(self, verb: RunVerb, text: str = "", error: str = "") -> None:
        self._ecs.send(verb.reply_to, VerbRun(question=verb.question, text=text, error=error))
