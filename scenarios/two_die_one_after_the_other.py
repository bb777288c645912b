"""One node dies and is given up; then a second dies: since the copies were made anew in between, nothing is missing.

Five or six nodes with two copies of each slot serve some clients; who is down for three seconds is given up. A node is
killed and stays dead; once its copies are elsewhere, which may last, a second one is killed, mostly the one that stood
behind it on the circle, and stays dead, too. Two copies alone would not survive both. Expected: each time what is asked
for goes on; in the end every slot has two copies on the nodes that are left, and nothing acknowledged is missing.

    ringkeeper run scenarios/two_die_one_after_the_other.py
    ringkeeper run scenarios/two_die_one_after_the_other.py --simulate --seeds 1000
"""

from .stage import Stage

OUT_AFTER_SECONDS = 3.0


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(5, 6),
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=2,
        min_copies=stage.random.choice((1, 2)),
        out_after=OUT_AFTER_SECONDS,
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    if stage.more.random() < 0.3:
        stage.move_slowly(stage.more.choice((2.0, 5.0)))
    behind = ""
    for _ in range(2):
        stage.wait_for(stage.random.randint(20, 60), load)
        victim = behind if behind and stage.random.random() < 0.7 else stage.random.choice(stage.members())
        circle = clockwise(stage)
        behind = circle[(circle.index(victim) + 1) % len(circle)]
        stage.kill(victim)
        stage.wait_until(lambda victim=victim: victim not in clockwise(stage), 40.0, f"{victim} is given up")  # type: ignore[misc]
        stage.wait_for(20, load)
        ring = stage.ring()
        stage.expect(
            ring is not None and all(len(members) == 2 for members in ring.lists) and len(stage.members()) >= 3,
            "every slot has two copies",
        )
        stage.expect(ring is not None and not ring.trouble, "they are up")
    stage.wait_for(20, load)


def clockwise(stage: Stage) -> list[str]:
    ring = stage.ring()
    return [node.id for node in ring.circle] if ring is not None else []


def check(stage: Stage) -> None:
    load = stage.loads[0]
    stage.expect(load.counts["ok"] > load.counts["not"] + load.counts["maybe"], "most of what was asked for was done")
