"""Some keys are asked for much more than others, then others are; the ring follows, and nobody asks it to.

Three or four nodes in an even ring that is to keep itself balanced by requests, and clients whose keys are skewed as
Zipf says. After a while other keys are in fashion. Expected: the ring moves tokens when it is worth it and at no other
time; each move leaves the busiest node with less to do than it had, of the very same requests; where the load stays as
it is nothing moves any more; and no operation failed.

    ringkeeper run scenarios/balances_by_itself.py
    ringkeeper run scenarios/balances_by_itself.py --simulate --seeds 1000
"""

from collections import Counter

from ..actors.balancer import LOOK_SECONDS, SETTLED_SECONDS
from ..actors.rules.ring import Ring
from ..actors.rules.slots import slot
from .stage import Stage

THRESHOLD, SKEW = 0.4, 1.0
FOLLOWS_SECONDS_MAX = 4 * SETTLED_SECONDS
"""So long after it the ring has followed a load that has become another, if that is worth it."""
RESTS_SECONDS = 2 * SETTLED_SECONDS + 4 * LOOK_SECONDS
ASKED = 900
"""So many operations tell how much each node has to do."""


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(3, 4), replicas=stage.random.randint(2, 3))


def story(stage: Stage) -> None:
    load = stage.load("read and write", clients=3, keys=80, operations_per_second=7, skew=SKEW)
    stage.balance_by_itself("requests", THRESHOLD)
    follow(stage)
    stage.change_fashion(load)
    if follow(stage):
        rest(stage)


def follow(stage: Stage) -> bool:
    """The load is another than before. Returns whether nothing is left to be followed: not where it lies about at the
    threshold, so that chance decides when a move is called for."""
    before, end = known(stage), stage.now() + FOLLOWS_SECONDS_MAX
    stage.wait_until(
        lambda: tokens(known(stage)) != tokens(before) or stage.now() > end,
        2 * FOLLOWS_SECONDS_MAX,
        "the load is followed or not",
    )
    after, asked = known(stage), Counter(each.key for each in list(stage.history.operations)[-ASKED:])
    was, now = peak(before, asked), peak(after, asked)
    moved = tokens(before) != tokens(after)
    stage.say(f"the busiest node had {was:.2f} times the mean to do, and has {now:.2f} times")
    stage.expect(now < was or not moved, "a move leaves the busiest node with less to do")
    stage.expect(moved or was < 1 + 2 * THRESHOLD, "what is far beyond the threshold is worth a move")
    return moved or now < 1 + THRESHOLD / 2


def rest(stage: Stage) -> None:
    """The load stays as it is."""
    before = known(stage)
    stage.let_pass(RESTS_SECONDS)
    stage.expect(tokens(before) == tokens(known(stage)), "nothing moves while the load stays as it is")


def peak(ring: Ring, asked: Counter[bytes]) -> float:
    """What the busiest node would have had to do, in parts of the mean."""
    loads: Counter[str] = Counter()
    for key, count in asked.items():
        coordinator = ring.coordinators[slot(key)]
        loads[coordinator.id if coordinator is not None else ""] += count
    return max(loads.values()) * len(ring.circle) / sum(loads.values())


def tokens(ring: Ring) -> list[int]:
    return [node.token for node in ring.circle]


def known(stage: Stage) -> Ring:
    ring = stage.ring()
    assert ring is not None
    return ring


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.errors, f"no client notices that tokens move: {load.errors[:1]}")
