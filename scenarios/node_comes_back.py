"""A node is away for a while, and comes back to what was written without it; it is made equal, and nobody notices.

Three to five nodes with two or three copies of each slot serve some clients, who set, delete, count and append. One is
killed; what it holds grows old: keys are overwritten and deleted. It comes back before it is given up, or after that;
and sometimes dies again while it is made equal, which may last, or one of those that it is made equal by does.
Expected: it is up again with what the others hold, and nothing of what it alone still had; it stands where it stood.

    ringkeeper run scenarios/node_comes_back.py
    ringkeeper run scenarios/node_comes_back.py --simulate --seeds 1000
"""

from .stage import PHASES, Stage

OUT_AFTER_SECONDS = 4.0
CHANGE_SECONDS_MAX = 30.0
"""So long it may take until the change begins that makes it equal."""


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 5),
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=stage.random.choice((2, 3, 3)),
        out_after=OUT_AFTER_SECONDS,
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    stage.wait_for(stage.random.randint(20, 60), load)
    if stage.more.random() < 0.3:
        stage.move_slowly(stage.more.choice((2.0, 8.0)))
    members, before = stage.members(), stage.ring()
    assert before is not None
    away = stage.random.choice(members)
    for _ in range(stage.random.choice((1, 1, 2))):
        stage.kill(away)
        stage.wait_until(lambda: away not in stage.members(), 12.0, f"the death of {away} is noticed")
        stage.moment(3.0 * OUT_AFTER_SECONDS)
        stage.wait_for(20, load)
        stage.restart(away)
        match stage.random.choice(("nothing", "nothing", "it dies again", "a source dies")):
            case "it dies again":
                stage.wait_for_phase(stage.random.choice(PHASES), CHANGE_SECONDS_MAX)
                stage.moment(0.1)
                stage.kill(away)
                stage.moment(2.0)
                stage.restart(away)
            case "a source dies" if before.replicas == 3:
                stage.wait_for_phase(stage.random.choice(PHASES), CHANGE_SECONDS_MAX)
                source = stage.random.choice([id for id in members if id != away])
                stage.kill(source)
                stage.moment(2.0)
                stage.restart(source)
        stage.wait_for_members(members)
        stage.wait_for(20, load)
    after = stage.ring()
    assert after is not None
    stage.expect(after.by_id[away].token == before.by_id[away].token, f"{away} stands where it stood")


def check(stage: Stage) -> None:
    load = stage.loads[0]
    stage.expect(load.counts["ok"] > load.counts["not"] + load.counts["maybe"], "most of what was asked for was done")
