"""Finds where the nodes should stand: when somebody asks, and by itself while the ring wants that.

Hears   PlanBalance, GatherLoads, RingLed   from Ecs
        SlotLoads                           from StorageNode of every node
        Solved                              from Solver
        LoadsDue, PlanDue, LookSoon         from itself
Tells   ReportLoads -> StorageNode; Solve -> Solver; BalancePlanned, LoadsGathered, BalanceWanted -> Ecs

It runs beside every Ecs, and does nothing but look and compute: what comes of it is one wish like any other, which the
Ecs queues, or refuses if the ring has become another meanwhile. Where slots differ much the computing takes seconds, so
a `Solver` does it on a thread of its own, one question after the other:

    asked, or due --ReportLoads--> gathering --all have answered, or a second is over--> solving --Solved--> told

Who wants to know the loads only, to place a node that comes, is told them in the place of solving.

Who asked is answered within PLAN_SECONDS: TRYAGAIN if it takes longer. The answer is kept then, and is there at once
for the next who asks the same of the same ring.

By itself (``RING BALANCE AUTO ON``) it looks every few seconds, and wants a balance only if some share has been beyond
the threshold at all looks of SETTLED_SECONDS, no share has become much another in that time, the nodes are the same,
all up, with nothing in flight or waiting; and if it would be worth it (`rebalance.py`). It waits for shares to stand
still since rates of requests are smoothed: when the load has become another they are of both loads for a while, and
right after a move the new coordinators have counted little. Tokens that were chosen by such rates would have to move
again. Nor does it follow what is mere chance: few requests never stand still within a small threshold. After each
search that led to no change the pause between looks is doubled, since a slot that nobody can divide stays hot.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from ..runtime.actor import Actor, BlockingActor, Ref
from ..runtime.message import message
from .messages import (
    BalancePlanned,
    BalanceWanted,
    GatherLoads,
    LoadsGathered,
    PlanBalance,
    ReportLoads,
    RingLed,
    SlotLoads,
    Solve,
    Solved,
)
from .rules.balancing import By
from .rules.rebalance import AIM, Loads, deviations, rebalanced
from .rules.ring import Ring
from .rules.slots import SLOTS
from .slot_rates import SMOOTHED_SECONDS

log = logging.getLogger(__name__)

LOADS_SECONDS_MAX = 1.0
"""So long the nodes have to say what their slots weigh."""

PLAN_SECONDS = 2.0
"""So long who asks waits for an answer; clients wait a little longer for the Ecs."""

TASKS_MAX = 8
"""Questions in the works at once; more are refused."""
BUSY = f"TRYAGAIN {TASKS_MAX} balances are being looked for; ask again"

LOOK_SECONDS, LOOK_SECONDS_MAX = 5.0, 600.0
"""The pause between two looks at the loads; doubled after each search until the nodes change, up to that."""

SETTLED_SECONDS = 2 * SMOOTHED_SECONDS
"""So long some share must have been beyond the threshold, and all shares must have stood still."""

STILL = 0.25
"""Shares stand still that change by no more than so much of how far the farthest is off, or of twice the threshold. In
two times of smoothing they change by six times of what is missing yet."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadsDue:
    """Whoever has not answered by now is left out; local. Balancer -> Balancer."""

    number: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDue:
    """Who asked can wait no longer; local. Balancer -> Balancer."""

    number: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LookSoon:
    """Time to look at the loads; local. Balancer -> Balancer."""


class Solver(BlockingActor):
    """Finds tokens, which may take seconds.

    Hears   Solve       from Balancer
    Tells   Solved -> Balancer
    """

    def on_receive(self, message: Solve) -> None:
        self.send(message.reply_to, solved(message))


def solved(asked: Solve) -> Solved:
    found = rebalanced(asked.ring, asked.loads, asked.by, asked.threshold, bytes_max=asked.bytes_max, aim=asked.aim)
    return Solved(number=asked.number, found=found)


class Question(NamedTuple):
    """What tokens are wanted for."""

    ring: Ring
    by: By
    threshold: float
    bytes_max: int | None
    by_itself: bool = False


@dataclass(slots=True)
class Task:
    """A question in the works."""

    question: Question | GatherLoads
    asked: list[PlanBalance]
    """Who waits for tokens."""
    expected: set[str]
    """Nodes that have not answered yet."""
    heard: dict[str, SlotLoads] = field(default_factory=dict)
    solving: bool = False


class Balancer(Actor):
    """The balancer beside one control service."""

    def __init__(self, *, solver: Ref) -> None:
        super().__init__()
        self._solver = solver
        self._tasks: dict[int, Task] = {}
        self._next_number = 0
        self._late: tuple[Question, BalancePlanned] | None = None
        """An answer that came too late for who had asked."""
        self._ring: Ring | None = None
        """To be kept in balance."""
        self._ecs: Ref | None = None
        self._seen: deque[tuple[float, dict[str, float]]] = deque()
        """When it has looked, and how far shares were off then, on end beyond the threshold, with the same nodes."""
        self._pause_seconds = LOOK_SECONDS
        self._looks = False
        """A look is due."""

    def on_receive(
        self, message: PlanBalance | GatherLoads | RingLed | SlotLoads | Solved | LoadsDue | PlanDue | LookSoon
    ) -> None:
        match message:
            case PlanBalance():
                self._plan(message)
            case GatherLoads():
                self._gather_loads(message)
            case RingLed():
                self._ring_led(message)
            case SlotLoads():
                self._slot_loads(message)
            case Solved():
                self._solved(message)
            case LoadsDue():
                self._gathered(message.number)
            case PlanDue():
                self._plan_due(message.number)
            case LookSoon():
                self._looks = False
                self._look()
            case _:
                assert_never(message)

    # When asked

    def _plan(self, message: PlanBalance) -> None:
        question = Question(message.ring, message.by, message.threshold, message.bytes_max)
        if self._late is not None and self._late[0] == question:
            found, self._late = self._late[1].found, None
            self.send(message.reply_to, BalancePlanned(question=message.question, found=found))
            return
        number = next((number for number, task in self._tasks.items() if task.question == question), 0)
        if number:
            self._tasks[number].asked.append(message)
        elif len(self._tasks) >= TASKS_MAX:
            self.send(message.reply_to, BalancePlanned(question=message.question, found=None, error=BUSY))
            return
        else:
            number = self._begin(question, [message])
        self.after(PLAN_SECONDS, PlanDue(number=number))

    def _plan_due(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            self._answer(task, "TRYAGAIN the tokens are still being computed; ask again in a moment")

    def _answer(self, task: Task, error: str) -> None:
        asked, task.asked = task.asked, []
        for each in asked:
            self.send(each.reply_to, BalancePlanned(question=each.question, found=None, error=error))

    def _gather_loads(self, message: GatherLoads) -> None:
        if len(self._tasks) >= TASKS_MAX:
            self.send(message.reply_to, LoadsGathered(question=message.question, loads=None, error=BUSY))
        else:
            self._begin(message, [])

    # By itself

    def _ring_led(self, message: RingLed) -> None:
        before, self._ring, self._ecs = self._ring, message.ring, message.reply_to
        ring = self._ring
        if ring is not None and (before is None or _nodes_of(before) != _nodes_of(ring)):
            self._seen.clear()
            self._pause_seconds = LOOK_SECONDS
        if ring is not None and not self._looks:
            self._look_later()

    def _look_later(self) -> None:
        self._looks = True
        self.after(self._pause_seconds, LookSoon())

    def _look(self) -> None:
        ring = self._ring
        if ring is None:
            return
        self._look_later()
        calm = ring.change is None and not ring.queue and all(node.state == "up" for node in ring.circle)
        if not calm or self._tasks:
            return
        balancing = ring.balancing
        self._begin(Question(ring, balancing.by, balancing.threshold, None, by_itself=True), [])

    def _is_beyond(self, question: Question, loads: Loads) -> bool:
        """Whether a balance is called for, has been for long enough, and would have been the same."""
        off = deviations(question.ring, loads.of(question.by))
        farthest = max(map(abs, off.values()))
        if loads.missing or farthest <= question.threshold:
            self._seen.clear()
            return False
        now, seen = self.now(), self._seen
        seen.append((now, off))
        while len(seen) > 1 and now - seen[1][0] >= SETTLED_SECONDS:
            seen.popleft()
        ranges = (max(each[id] for _, each in seen) - min(each[id] for _, each in seen) for id in off)
        return now - seen[0][0] >= SETTLED_SECONDS and max(ranges) <= STILL * max(farthest, 2 * question.threshold)

    # Tasks

    def _begin(self, question: Question | GatherLoads, asked: list[PlanBalance]) -> int:
        self._next_number += 1
        number, ring = self._next_number, question.ring
        coordinators = [node for node in ring.circle if ring.coordinated_by(node.id)]
        self._tasks[number] = Task(question, asked, {node.id for node in coordinators})
        for node in coordinators:
            storage = self.system.resolve(f"ringkeeper://{node.bridge_address}/storage")
            self.send(storage, ReportLoads(question=number, reply_to=self.ref))
        self.after(LOADS_SECONDS_MAX, LoadsDue(number=number))
        return number

    def _slot_loads(self, message: SlotLoads) -> None:
        task = self._tasks.get(message.question)
        node = task.question.ring.by_id.get(message.node) if task is not None else None
        if task is None or task.solving or node is None or node.incarnation != message.incarnation:
            return
        task.heard[message.node] = message
        task.expected.discard(message.node)
        if not task.expected:
            self._gathered(message.question)

    def _gathered(self, number: int) -> None:
        """Go on with what has been heard."""
        task = self._tasks.get(number)
        if task is None or task.solving:
            return
        question, loads = task.question, _together(task)
        late = f"TRYAGAIN {', '.join(loads.missing)} has not said in time what it holds; ask again"
        if isinstance(question, GatherLoads):
            del self._tasks[number]
            known, error = (None, late) if loads.missing else (loads, "")
            self.send(question.reply_to, LoadsGathered(question=question.question, loads=known, error=error))
        elif question.by_itself and not self._is_beyond(question, loads):
            del self._tasks[number]
        elif loads.missing and (question.by != "slots" or question.bytes_max is not None):
            del self._tasks[number]
            self._answer(task, late)
        else:
            task.solving = True
            solve = Solve(
                number=number,
                ring=question.ring,
                loads=loads,
                by=question.by,
                threshold=question.threshold,
                bytes_max=question.bytes_max,
                aim=AIM if question.by_itself else 1.0,
                reply_to=self.ref,
            )
            self.send(self._solver, solve)

    def _solved(self, message: Solved) -> None:
        task, found = self._tasks.pop(message.number), message.found
        assert isinstance(task.question, Question), "who wants loads only has nothing solved"
        if task.question.by_itself:
            self._pause_seconds = min(2 * self._pause_seconds, LOOK_SECONDS_MAX)
            self._seen.clear()
            if not found.is_worth_it:
                log.info(
                    "the ring stays as it is: the busiest node has %.2f times its part, would have %.2f", *found.peaks
                )
            elif self._ecs is not None:
                self.send(self._ecs, BalanceWanted(found=found))
        elif not task.asked:
            self._late = task.question, BalancePlanned(question=0, found=found)
        for each in task.asked:
            self.send(each.reply_to, BalancePlanned(question=each.question, found=found))

    def check(self) -> None:
        assert len(self._tasks) <= TASKS_MAX
        assert all(task.solving or task.expected for task in self._tasks.values())


def _nodes_of(ring: Ring) -> object:
    """What of a ring lets rates settle anew when it changes."""
    return ring.nodes, ring.change is None


def _together(task: Task) -> Loads:
    """What all nodes have said, slot by slot."""
    keys, sizes, requests = [0] * SLOTS, [0] * SLOTS, [0] * SLOTS
    for _, said in sorted(task.heard.items()):
        slots = [slot for first, last in said.runs for slot in range(max(0, first), min(last, SLOTS - 1) + 1)]
        for table, values in ((keys, said.keys), (sizes, said.bytes), (requests, said.requests)):
            _put(table, slots, values)
    return Loads(keys=keys, bytes=sizes, requests=requests, missing=tuple(sorted(task.expected)))


def _put(table: list[int], slots: Sequence[int], values: Sequence[int]) -> None:
    for slot, value in zip(slots, values, strict=False):
        table[slot] = max(0, value)
