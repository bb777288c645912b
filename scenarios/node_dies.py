"""A node dies while clients read and write; its successors answer for its slots, and nothing is lost.

Three to five nodes with three copies of each slot serve some clients. One is killed, and after a while started again;
sometimes another dies when the first has returned. Expected: its peers find out, long before its session ends, and the
next of each list takes over, at once; nothing that was asked for is refused, at most what was under way is in doubt.
The node returns as a successor that is equal to the others.

    ringkeeper run scenarios/node_dies.py
    ringkeeper run scenarios/node_dies.py --simulate --seeds 1000
"""

from .stage import Stage

NOTICED_SECONDS_MAX = 4.0
"""A session lasts 6 s."""


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 5), fsync=stage.random.choice(("everysec", "everysec", "always")), replicas=3
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    for _ in range(stage.random.choice((1, 1, 2))):
        stage.wait_for(stage.random.randint(20, 60), load)
        members = stage.members()
        victim = stage.random.choice(members)
        stage.kill(victim)
        noticed(stage, victim)
        stage.wait_for(stage.random.randint(20, 60), load)
        ring = stage.ring()
        stage.expect(ring is not None and None not in ring.coordinators, "every slot has a coordinator")
        stage.moment(4.0)
        stage.restart(victim)
        stage.wait_for_members(members)
    stage.wait_for(20, load)


def noticed(stage: Stage, id: str) -> None:
    stage.wait_until(lambda: id not in stage.members(), NOTICED_SECONDS_MAX, f"the death of {id} is noticed")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.counts["not"], f"nothing is refused: {load.errors[:1]}")
