"""A few keys take all requests, and lie where chance put them; balanced by requests, they are spread.

Three to five nodes in an even ring, and clients who ask for a dozen keys only, so that some nodes have much to do and
some nothing. Somebody asks for even shares of requests. Expected: the busiest node has less to do than before, or as
little as slots that cannot be divided allow, and no operation failed.

    ringkeeper run scenarios/hot_slots_spread.py
    ringkeeper run scenarios/hot_slots_spread.py --simulate --seeds 1000
"""

from collections import Counter

from .stage import Load, NotPossibleHere, Stage

THRESHOLD = 0.25
MEASURED = 150
"""Operations from which it is told how much each node has to do."""
NOISE = 0.35
"""So much may such a count be off, in parts of the mean."""


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(3, 5), replicas=stage.random.randint(2, 3))


def story(stage: Stage) -> None:
    load = stage.load("mixed", clients=4, keys=12)
    before = busiest(stage, load)
    job = stage.balance("requests", THRESHOLD)
    if job:
        stage.expect(stage.wait_for_job(job) == "done", f"job {job} is done")
    after = busiest(stage, load)
    stage.say(f"the busiest node had {before:.2f} times the mean to do, and has {after:.2f} times")
    if job:
        stage.expect(after < before + NOISE, "the busiest node has no more to do than before")


def busiest(stage: Stage, load: Load) -> float:
    """What the busiest node answers, in parts of the mean, by the next operations."""
    known = len(stage.history.operations)
    stage.wait_for(MEASURED, load)
    answered = Counter(each.node for each in list(stage.history.operations)[known:] if each.node is not None)
    if not answered:
        raise NotPossibleHere("clients do not know here which node has answered")
    return max(answered.values()) * len(stage.members()) / sum(answered.values())


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.errors, f"no client notices that tokens move: {load.errors[:1]}")
