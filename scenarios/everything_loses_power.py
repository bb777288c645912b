"""Every machine loses power in the same moment, and is started again from what its disk has kept.

Two to five nodes with three copies of each slot serve some clients; sometimes one of them is down, or a node is just
joining. Then all machines lose power, and come back one after the other; sometimes twice. Expected: with fsync always
every acknowledged write is there; with everysec every one that was acknowledged more than a second or so before; and
nothing that nobody wrote. Whoever comes first waits for the others, so that the best copy wins.

    ringkeeper run scenarios/everything_loses_power.py
    ringkeeper run scenarios/everything_loses_power.py --simulate --seeds 1000
"""

from .stage import Stage

BACK_SECONDS_MAX = 120.0
"""Copies that do not come back are waited for up to a minute."""


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(2, 5),
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "everysec", "always")),
        replicas=3,
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    members = stage.members()
    for _ in range(stage.random.choice((1, 1, 2))):
        stage.wait_for(stage.random.randint(40, 100), load)
        match stage.random.choice(("nothing", "nothing", "death", "join")):
            case "death":
                stage.kill(stage.random.choice(members))
                stage.moment(6.0)
            case "join":
                stage.join()
                stage.moment(1.5)
        stage.cut_all_power()
        stage.moment(3.0)
        for id in stage.random.sample(members, len(members)):
            if stage.random.random() < 0.5:
                stage.restart(id)
                stage.moment(2.0)
        stage.start_everything()
        stage.wait_until(stage.serves, BACK_SECONDS_MAX, "the cluster serves again")
    stage.wait_for(20, load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
