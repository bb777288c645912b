"""A node joins while clients read and write, and nobody notices.

One to four nodes serve some clients, who set, read, delete, count and compare. Then a node joins, sometimes two at
once, where the ring places them or, if somebody wants that, where the load is. Expected: the newcomers answer for
slots, no operation failed, no counter counted twice, and whoever gave slots away has kept nothing of them.

    ringkeeper run scenarios/node_joins.py
    ringkeeper run scenarios/node_joins.py --simulate --seeds 1000
"""

from .stage import Stage


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(1, 4),
        fsync=stage.random.choice(("everysec", "everysec", "always")),
        replicas=stage.random.randint(1, 3),
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 30))
    stage.wait_for(stage.random.randint(20, 60), load)
    newcomers = stage.join(stage.random.choice((1, 1, 1, 2)), stage.random.choice((None, None, "relief", "md5")))
    stage.wait_for_members(newcomers)
    stage.wait_for(stage.random.randint(20, 60), load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.errors, f"no client notices that a node joins: {load.errors[:1]}")
    for id in stage.members():
        stage.expect(stage.slots(id) > 0, f"{id} answers for some slots")
