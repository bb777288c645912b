"""A node dies while it joins, at any moment of it, and the ring is as it was or as it was to be.

One to three nodes serve some clients. A node joins, and is killed at once, in a phase of the change that chance
chooses, or a little later; sometimes it is back at once, sometimes only when its change was given up. Expected: nothing
that was acknowledged is lost, what was moved in vain is removed, and the next time it joins.

    ringkeeper run scenarios/joiner_dies.py
    ringkeeper run scenarios/joiner_dies.py --simulate --seeds 1000
"""

from .stage import Phase, Stage

GIVEN_UP_SECONDS_MAX = 60.0


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(1, 3),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=stage.random.randint(1, 3),
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    stage.wait_for(stage.random.randint(20, 60), load)
    before = stage.members()
    (joiner,) = stage.join()

    phases: tuple[Phase | None, ...] = (None, "transfer", "transfer", "switch", "switch", "seal", "seal")
    phase = stage.random.choice(phases)
    if phase is None:
        stage.moment(2.0)
    else:
        there = stage.wait_for_phase(phase)
        stage.say(f"the change is in {phase}" if there else f"the change was over before it was seen in {phase}")
        stage.moment(0.01)
    stage.kill(joiner)

    if stage.random.random() < 0.7:
        given_up_or_down(stage, joiner)
        stage.expect(stage.members() == before, "all others are up, as before")
    stage.moment(1.0)
    stage.restart(joiner)
    stage.wait_for_members([joiner])


def given_up_or_down(stage: Stage, joiner: str) -> None:
    """Until the cluster has noticed the death."""

    def noticed() -> bool:
        ring = stage.ring()
        if ring is None or ring.change is not None:
            return False
        return joiner not in ring.by_id or ring.by_id[joiner].state != "up"

    stage.wait_until(noticed, GIVEN_UP_SECONDS_MAX, f"the death of {joiner} is noticed")


def check(stage: Stage) -> None:
    stage.expect(stage.slots(stage.members()[-1]) > 0, "the node that came last answers for some slots")
