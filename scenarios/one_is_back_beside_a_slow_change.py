"""Slots move slowly, and writes wait for a node that is back and lacks little: it does not wait until they have moved.

Three nodes with three copies of each slot serve some clients; two copies, or all, are needed for a write. A node joins,
or is back with an empty disk, and by a limit its share takes a minute. In the midst of it a node is back that had died,
so that too few are up for a write. Expected: within seconds it is up, and writes are taken again, while the other still
waits for its share; which goes on then.

    ringkeeper run scenarios/one_is_back_beside_a_slow_change.py
    ringkeeper run scenarios/one_is_back_beside_a_slow_change.py --simulate --seeds 1000
"""

from .stage import Stage

MOVES_SECONDS = 60.0
RAISED_SECONDS_MAX = 18.0
"""So long it may take until a node that is started again, and lacks little, is up: what was sent last is some seconds
ahead of the limit."""
BEGINS_SECONDS_MAX = 30.0


def setup(stage: Stage) -> None:
    stage.start(
        nodes=3,
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=3,
        min_copies=stage.random.choice((2, 3)),
        out_after=0,
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    stage.wait_for(stage.random.randint(20, 60), load)
    stage.move_slowly(MOVES_SECONDS).stop()  # who is back is to lack little
    ring = stage.ring()
    assert ring is not None
    back, gone, _ = stage.random.sample(stage.members(), 3)
    if ring.min_copies == 2 and stage.more.random() < 0.5:
        stage.crash_disk(gone)
        dies(stage, back)
        stage.wait_until(lambda: gone not in stage.members(), 12.0, f"the death of {gone} is noticed")
        newcomer = gone
        stage.restart(newcomer)
    else:
        if ring.min_copies == 2:
            dies(stage, gone)
        (newcomer,) = stage.join()
        begins(stage, newcomer)
        stage.moment(3.0)
        dies(stage, back)
    begins(stage, newcomer)
    stage.moment(3.0)
    stage.restart(back)
    stage.wait_until(lambda: back in stage.members(), RAISED_SECONDS_MAX, f"{back} is up, whom writes wait for")
    done = load.counts["ok"]
    stage.wait_for(20, load)
    stage.expect(load.counts["ok"] - done >= 15, f"writes are taken again: {load.errors[-1:]}")
    stage.wait_for_members((newcomer,))


def dies(stage: Stage, id: str) -> None:
    stage.kill(id)
    stage.wait_until(lambda: id not in stage.members(), 12.0, f"the death of {id} is noticed")


def begins(stage: Stage, newcomer: str) -> None:
    """Wait until a change is in flight that gives a node its share."""

    def begun() -> bool:
        ring = stage.ring()
        return ring is not None and ring.change is not None and newcomer in ring.change.wish.ids

    stage.wait_until(begun, BEGINS_SECONDS_MAX, f"{newcomer} is being given its share")


def check(stage: Stage) -> None:
    stage.expect(len(stage.members()) >= 3, "everybody is up")
