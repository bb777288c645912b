"""A node's disk is lost with all that was on it; the node begins anew with an empty one, and nothing is missing.

Three to five nodes with three copies of each slot serve some clients. One is killed and its disk wiped, and it is
started again; sometimes the same befalls another once the first is back. Expected: others answer meanwhile, at once;
the empty disk counts as no copy of anything (R14) and is made equal to the others by a mirror; in the end every copy is
there, and equal.

    ringkeeper run scenarios/disk_is_lost.py
    ringkeeper run scenarios/disk_is_lost.py --simulate --seeds 1000
"""

from .node_dies import noticed
from .stage import Stage


def setup(stage: Stage) -> None:
    fsync = stage.random.choice(("everysec", "always"))
    stage.start(nodes=stage.random.randint(3, 5), ecs=stage.random.randint(1, 2), fsync=fsync, replicas=3)


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    members = stage.members()
    for victim in stage.random.sample(members, stage.random.choice((1, 1, 2))):
        stage.wait_for(stage.random.randint(20, 60), load)
        stage.crash_disk(victim)
        noticed(stage, victim)
        stage.wait_for(stage.random.randint(20, 60), load)
        stage.restart(victim)
        stage.wait_for_members(members)
    stage.wait_for(20, load)
    stage.expect(stage.verify() == 0, "all copies are equal")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.counts["not"], f"nothing is refused: {load.errors[:1]}")
