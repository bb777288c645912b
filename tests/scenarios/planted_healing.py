"""Faults in how the cluster comes back to full strength, planted as those of `planted.py`.

Each is a bug that somebody could write, and that a scenario finds: nothing but the story says how.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from ringkeeper.actors import ecs
from ringkeeper.actors.ecs import Ecs
from ringkeeper.actors.messages import DropAllowed, MayDrop
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules import transitions
from ringkeeper.actors.rules.change import Wish
from ringkeeper.actors.rules.ring import Node, Ring

Patch = pytest.MonkeyPatch


def given_up_before_the_copies_exist(patch: Patch) -> None:
    """R11: who has been down for too long is out by one write; the copies are to be made afterwards."""

    def begun(ring: Ring, wish: Wish | None, *lives: Any, **fields: Any) -> Ring:
        following = transitions.begun(ring, wish, *lives, **fields)
        if wish is None or wish.kind != "out" or following.change is None:
            return following
        change = replace(following.change, epoch=ring.epoch, phase="seal", wish=replace(wish, job=ring.epoch))
        return transitions.committed(replace(ring, change=change), **fields)

    patch.setattr(ecs, "begun", begun)


def replaced_before_the_copies_exist(patch: Patch) -> None:
    """R11: a node takes the place of another when the first of the coordinators is ready."""
    behind = Ecs._behind

    def first(self: Ecs, ring: Ring) -> list[str]:
        assert ring.change is not None
        late, some = behind(self, ring), ring.change.wish.kind == "replace"
        return [] if some and self._plan is not None and len(late) < len(self._plan[1].sources) else late

    patch.setattr(Ecs, "_behind", first)


def slots_dropped_while_a_list_is_not_up(patch: Patch) -> None:
    """DESIGN 6: whoever coordinates a slot allows others to forget it, whatever becomes of its other members."""

    def allowed(self: Replica, message: MayDrop) -> None:
        ring = self._ring
        if ring is not None and ring.epoch == message.epoch:
            self.send(message.reply_to, DropAllowed(epoch=ring.epoch, runs=message.runs))

    patch.setattr(Replica, "_may_drop", allowed)


def copies_made_from_one_that_is_returning(patch: Patch) -> None:
    """R7, R15: the first member of a list that runs answers for it and makes the others equal, whether or not it has
    been made equal itself."""

    def runs(self: Ring) -> tuple[Node | None, ...]:
        table: list[Node | None] = []
        for run, members in self.list_runs:
            table += [next((node for node in members if node.state in ("up", "returning")), None)] * run.size
        return tuple(table)

    table = cached_property(runs)
    table.__set_name__(Ring, "coordinators")
    patch.setattr(Ring, "coordinators", table)


def whom_writes_wait_for_waits_all_the_same(patch: Patch) -> None:
    """R8: who is back while a change is in flight is raised when that has ended, whatever waits for it meanwhile."""
    patch.setattr(Ecs, "_goes_first", lambda self, ring, id: False)
    patch.setattr(Ecs, "_caught_up", lambda self, ring: ())


class Planted(NamedTuple):
    """A fault, the scenario that finds it, and with which seed."""

    plant: Callable[[Patch], None]
    scenario: str
    seed: int


FAULTS: dict[str, Planted] = {
    "given up before the copies exist": Planted(given_up_before_the_copies_exist, "two_die_one_after_the_other", 1),
    "replaced before the copies exist": Planted(replaced_before_the_copies_exist, "node_is_replaced", 31),
    "slots dropped while a list is not up": Planted(slots_dropped_while_a_list_is_not_up, "deleted_stays_deleted", 1),
    "copies made from one that is returning": Planted(copies_made_from_one_that_is_returning, "node_comes_back", 2),
    "whom writes wait for waits all the same": Planted(
        whom_writes_wait_for_waits_all_the_same, "one_is_back_beside_a_slow_change", 1
    ),
}
"""By name: how it is planted, and what finds it."""
