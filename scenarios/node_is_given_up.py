"""A node dies and does not come back: its copies are made elsewhere and it is out of the ring; nothing is lost.

Four to six nodes with two or three copies of each slot serve some clients; who is down for five seconds is given up.
One of them is killed, where there are six sometimes two at once, and stays dead. Sometimes another dies while the
copies are made, which may last, the control service that leads is killed, or the dead one starts in the midst of it.
Expected: nobody is out before every slot has its copies on nodes that are up; those that went together are given up by
one change; what is asked for meanwhile is done. Whoever starts later is taken in again, where it stood.

    ringkeeper run scenarios/node_is_given_up.py
    ringkeeper run scenarios/node_is_given_up.py --simulate --seeds 1000
"""

from .stage import PHASES, Stage

OUT_AFTER_SECONDS = 5.0
GIVEN_UP_SECONDS_MAX = 60.0
"""Who has just been elected counts anew; and another death makes a new plan."""


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(4, 6),
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=stage.random.choice((2, 3, 3)),
        out_after=OUT_AFTER_SECONDS,
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    stage.wait_for(stage.random.randint(20, 60), load)
    if stage.more.random() < 0.3:
        stage.move_slowly(stage.more.choice((2.0, 5.0)))
    members, ring = stage.members(), stage.ring()
    assert ring is not None
    dead = [stage.random.choice(members)]
    if len(members) == 6 and ring.replicas == 3 and stage.random.random() < 0.5:
        dead.append(stage.random.choice([id for id in members if id not in dead]))
    for id in dead:
        stage.kill(id)
    stage.wait_until(
        lambda: not set(dead) & set(stage.members()), 20.0, f"the death of {' and '.join(dead)} is noticed"
    )

    match stage.random.choice(("nothing", "nothing", "another dies", "it is back", "the leader dies")):
        case "another dies" if ring.replicas == 3 and len(dead) == 1:
            begins(stage)
            dead.append(stage.random.choice(stage.members()))
            stage.kill(dead[-1])
        case "it is back":
            begins(stage)
            stage.restart(dead[-1])
        case "the leader dies":
            stage.moment(OUT_AFTER_SECONDS)
            stage.kill_ecs_leader()
    gone = [id for id in dead if id not in stage.lives()]
    stage.wait_until(lambda: not set(gone) & circle(stage), GIVEN_UP_SECONDS_MAX, f"{' and '.join(gone)} are given up")
    stage.wait_for(20, load)
    ring = stage.ring()
    stage.expect(ring is not None and not ring.trouble, "every slot has as many copies as a write needs")
    for id in gone if stage.random.random() < 0.7 else ():
        stage.restart(id)
    stage.wait_for(20, load)


def begins(stage: Stage) -> None:
    """Wait until the copies are being made, or longer."""
    stage.wait_for_phase(stage.random.choice(PHASES), GIVEN_UP_SECONDS_MAX)
    stage.moment(0.05)


def circle(stage: Stage) -> set[str]:
    ring = stage.ring()
    return {node.id for node in ring.circle} if ring is not None else set()


def check(stage: Stage) -> None:
    load = stage.loads[0]
    stage.expect(load.counts["ok"] > load.counts["not"] + load.counts["maybe"], f"most was done: {load.errors[:1]}")
    ring = stage.ring()
    writes = [write.what for write in (ring.history if ring is not None else ())]
    stage.expect(any(what.startswith("give up") for what in writes), "somebody was to be given up")
