"""A node dies while another joins, in any phase of it; the ring comes to be what it was to be, and nothing is lost.

Three or four nodes with three copies of each slot serve some clients. A node joins; in a phase of the change that
chance chooses, one of those who give it their slots is killed, or a node that only holds copies; sometimes the one that
joins dies as well. Expected: the change is made anew without the dead one, as far as it can be; in the end all are
members.

    ringkeeper run scenarios/node_dies_during_join.py
    ringkeeper run scenarios/node_dies_during_join.py --simulate --seeds 1000
"""

from .stage import PHASES, Stage

NOTICED_SECONDS_MAX = 20.0
"""A change in its seal may have to be given up first."""


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 4),
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=3,
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    stage.wait_for(stage.random.randint(20, 60), load)
    members = stage.members()
    (joiner,) = stage.join()
    phase = stage.random.choice(PHASES)
    there = stage.wait_for_phase(phase)
    stage.say(f"the change is in {phase}" if there else f"the change was over before it was seen in {phase}")
    stage.moment(0.02)

    dead = [stage.random.choice(members)]
    if stage.random.random() < 0.3:
        dead.append(joiner)
    for id in dead:
        stage.kill(id)
        stage.moment(0.3)
    stage.wait_until(
        lambda: not set(dead) & set(stage.members()),
        NOTICED_SECONDS_MAX,
        f"the death of {' and '.join(dead)} is noticed",
    )
    stage.wait_for(20, load)
    stage.moment(6.0)
    for id in dead:
        stage.restart(id)
    stage.wait_for_members([*members, joiner])
    stage.wait_for(20, load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
    for id in stage.members():
        stage.expect(stage.slots(id) > 0, f"{id} answers for some slots")
