"""Every node is restarted in order, one after the other, as for a new release: no client sees an error.

Three to five nodes with two or three copies of each slot serve some clients. One node after the other hands its slots
over, ends, starts again and is made equal; where there are several control services the leading one is restarted as
well. Expected: nothing that was asked for failed or is in doubt, and every node lives a new life.

    ringkeeper run scenarios/rolling_upgrade.py
    ringkeeper run scenarios/rolling_upgrade.py --simulate --seeds 1000
"""

from .stage import Life, RefusedByCluster, Stage

BACK_SECONDS_MAX = 30.0


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 5),
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=3,
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    stage.wait_for(20, load)
    members, lives = list(stage.members()), stage.lives()
    stage.random.shuffle(members)
    for id in members:
        try:
            stage.wait_for_job(stage.rest(id))
        except RefusedByCluster as reason:  # asked again, since the first answer went with the control service
            stage.say(f"perhaps {id} is being restarted already: {reason}")
        stage.wait_until(lambda id=id: again(stage, id, lives), BACK_SECONDS_MAX, f"{id} lives again")  # type: ignore[misc]
        stage.wait_for_members(members)
        stage.wait_for(stage.random.randint(5, 20), load)
        if stage.random.random() < 0.2:
            stage.kill_ecs_leader()
            stage.wait_for(10, load)


def again(stage: Stage, id: str, before: dict[str, Life]) -> bool:
    life = stage.lives().get(id)
    return life is not None and life.incarnation not in ("", before[id].incarnation)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.errors, f"no client notices: {load.errors[:1]}")
