"""When the balancer wants something, when it does not, and what becomes of questions that take long."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ringkeeper.actors.balancer import LOOK_SECONDS, PLAN_SECONDS, SETTLED_SECONDS, Balancer, solved
from ringkeeper.actors.messages import (
    BalancePlanned,
    BalanceWanted,
    GatherLoads,
    LoadsGathered,
    PlanBalance,
    ReportLoads,
    RingLed,
    SlotLoads,
    Solve,
)
from ringkeeper.actors.rules.balancing import Balancing
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.actors.rules.transitions import queued
from ringkeeper.actors.slot_rates import FOLD_SECONDS, SMOOTHED_SECONDS, SlotRates
from ringkeeper.runtime.harness import Harness
from ringkeeper.tests.actors.rules.rings import founded, lost

Load = Callable[[int], int]


class Stage:
    """A Balancer whose nodes and Solver are played by hand."""

    def __init__(self, load: Load) -> None:
        self.harness = Harness(Balancer, solver="probe:solver")
        self.load = load
        self.ring = replace(
            founded(4, replicas=3),
            balancing=Balancing(auto=True, by="requests", threshold=0.1),
        )
        self.silent: set[str] = set()
        self.solves = 0
        self.told: list[Any] = []

    def lead(self, ring: Ring | None) -> None:
        self.play(self.harness.tell(RingLed(ring=ring, reply_to=self.harness.probe("ecs"))))

    def advance(self, seconds: float) -> list[Any]:
        """Let time pass in small steps; what the Ecs is told meanwhile."""
        before = len(self.told)
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.play(self.harness.advance(LOOK_SECONDS))
        return self.told[before:]

    def play(self, sent: list[tuple[str, Any]], *, solve: bool = True) -> None:
        asked = list(sent)
        while asked:
            to, message = asked.pop(0)
            match message:
                case ReportLoads():
                    for node in self.ring.circle:
                        if node.bridge_address in to and node.id not in self.silent:
                            asked += self.harness.tell(self.loads_of(node.id, message.question))
                case Solve() if solve:
                    self.solves += 1
                    asked += self.harness.tell(solved(message))
                case BalancePlanned() | LoadsGathered() | BalanceWanted():
                    self.told.append(message)

    def loads_of(self, id: str, question: int) -> SlotLoads:
        runs = [(run.first, run.last) for run in self.ring.coordinated_by(id)]
        slots = [slot for first, last in runs for slot in range(first, last + 1)]
        return SlotLoads(
            question=question, node=id, incarnation=self.ring.by_id[id].incarnation, epoch=1, runs=runs,
            keys=[1] * len(slots), bytes=[10] * len(slots), requests=[self.load(slot) for slot in slots],
        )  # fmt: skip

    def carry_out(self, wanted: BalanceWanted) -> None:
        """The Ecs has made the change that was wanted."""
        tokens = wanted.found.found.tokens
        self.ring = replace(self.ring, nodes=tuple(replace(each, token=tokens[each.id]) for each in self.ring.circle))
        self.lead(self.ring)

    def plan(self, question: int) -> PlanBalance:
        return PlanBalance(
            question=question, ring=self.ring, by="requests", threshold=0.1, bytes_max=None,
            reply_to=self.harness.probe("ecs"),
        )  # fmt: skip


def skewed(slot: int) -> int:
    return 3000 if slot < SLOTS // 4 else 1000


def even(slot: int) -> int:
    return 1000


def test_a_load_that_has_moved_is_balanced_once_and_not_before_it_was_seen_for_long_enough() -> None:
    stage = Stage(skewed)
    stage.lead(stage.ring)
    assert stage.advance(SETTLED_SECONDS) == []
    (wanted,) = stage.advance(LOOK_SECONDS)
    assert isinstance(wanted, BalanceWanted) and wanted.found.is_worth_it
    assert wanted.found.found.deviation <= 0.05 and stage.solves == 1  # it aims at half of the threshold
    stage.carry_out(wanted)
    assert stage.advance(10 * SETTLED_SECONDS) == [] and stage.solves == 1


def test_while_shares_are_still_changing_nothing_is_wanted_however_far_they_are_off() -> None:
    stage = Stage(skewed)
    stage.lead(stage.ring)
    stage.advance(SETTLED_SECONDS - LOOK_SECONDS)
    for part in range(1, 6):  # what is smoothed becomes another load step by step
        heavy = [3000 - 400 * part, 1000 + 400 * part, 1000, 1000]
        stage.load = lambda slot, heavy=heavy: heavy[4 * slot // SLOTS]  # type: ignore[misc]
        assert stage.advance(2 * LOOK_SECONDS) == []
    assert stage.solves == 0
    (wanted,) = stage.advance(SETTLED_SECONDS)
    assert wanted.found.found.deviation <= 0.05


def test_a_load_that_wanders_within_the_threshold_moves_nothing() -> None:
    stage = Stage(lambda slot: 1080 if slot < SLOTS // 4 else 1000)
    stage.lead(stage.ring)
    assert stage.advance(100 * LOOK_SECONDS) == [] and stage.solves == 0


def test_a_slot_that_nobody_can_divide_moves_nothing_and_is_looked_at_more_and_more_seldom() -> None:
    stage = Stage(lambda slot: 5_000_000 if slot == 7 else 100)
    stage.lead(stage.ring)
    (wanted,) = stage.advance(SETTLED_SECONDS + 2 * LOOK_SECONDS)  # its neighbours are made even
    stage.carry_out(wanted)
    solves = stage.solves
    assert stage.advance(3600) == [] and solves < stage.solves <= solves + 9


@pytest.mark.parametrize("why", ["a node is down", "a wish waits", "it is off", "a node is silent"])
def test_nothing_is_wanted_while(why: str) -> None:
    stage = Stage(skewed)
    match why:
        case "a node is down":
            stage.ring = lost(stage.ring, "127.0.0.1:7002")
        case "a wish waits":
            fields = {"why": "test", "nonce": "e" * 16, "wall_seconds": 1.7e9}
            stage.ring = queued(stage.ring, "remove", ["127.0.0.1:7002"], **fields)  # type: ignore[arg-type]
        case "a node is silent":
            stage.silent = {"127.0.0.1:7002"}
    stage.lead(stage.ring if why != "it is off" else None)
    assert stage.advance(3 * SETTLED_SECONDS) == [] and stage.solves == 0


def test_who_asks_is_answered_and_who_asked_for_too_long_finds_the_answer_the_next_time() -> None:
    stage = Stage(skewed)
    stage.play(stage.harness.tell(stage.plan(1)))
    assert stage.told[-1].question == 1 and stage.told[-1].found.moves
    sent = stage.harness.tell(stage.plan(2))
    asked: list[Any] = []
    for to, message in sent:
        node = next(node for node in stage.ring.circle if node.bridge_address in to)
        asked += stage.harness.tell(stage.loads_of(node.id, message.question))
    solve = next(message for _, message in asked if isinstance(message, Solve))
    stage.play(stage.harness.advance(PLAN_SECONDS))
    assert stage.told[-1].error.startswith("TRYAGAIN") and stage.told[-1].question == 2
    stage.play(stage.harness.tell(solved(solve)))
    stage.play(stage.harness.tell(stage.plan(3)))
    assert stage.told[-1].question == 3 and stage.told[-1].found is not None and stage.solves == 1


def test_what_a_node_has_not_said_in_time_is_named() -> None:
    stage = Stage(skewed)
    stage.silent = {"127.0.0.1:7003"}
    stage.play(stage.harness.tell(stage.plan(1)))
    stage.advance(LOOK_SECONDS)
    assert stage.told[-1].error.startswith("TRYAGAIN 127.0.0.1:7003")


@pytest.mark.parametrize("silent", [[], ["127.0.0.1:7003"]])
def test_who_places_a_node_is_told_the_loads_or_whose_are_not_known(silent: list[str]) -> None:
    stage = Stage(skewed)
    stage.silent = set(silent)
    asked = GatherLoads(question=4, ring=stage.ring, reply_to=stage.harness.probe("ecs"))
    stage.play(stage.harness.tell(asked))
    stage.advance(LOOK_SECONDS)
    (told,) = stage.told
    assert told.question == 4 and stage.solves == 0
    if silent:
        assert told.loads is None and told.error.startswith("TRYAGAIN 127.0.0.1:7003")
    else:
        assert [told.loads.requests[slot] for slot in (0, SLOTS - 1)] == [3000, 1000]


def test_rates_follow_what_is_asked_and_fade_when_nothing_is() -> None:
    rates = SlotRates()
    rates.turn(0.0)
    for second in range(1, 301):
        rates.counts[5] += 20
        rates.turn(float(second))
    assert rates.of(5, 6, 300.0) == [pytest.approx(20_000, rel=0.01), 0]
    assert rates.of(5, 5, 300.0 + SMOOTHED_SECONDS)[0] == pytest.approx(20_000 / 2.718, rel=0.02)
    assert rates.of(5, 5, 1e4) == [0]
    assert FOLD_SECONDS < SMOOTHED_SECONDS
