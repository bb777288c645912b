"""The network splits: a node, or two, hear nothing from the others, from ZooKeeper, or from both; nothing is lost.

Three to five nodes with three copies of each slot serve some clients. A node, where there are five sometimes two, is
cut off from the others, from ZooKeeper, or from both; in both directions, or in one; for shorter or longer than a
session. Clients still reach everybody. Expected: whatever the cluster makes of it, no two nodes acknowledge writes to
the same slot, no read is stale, and when the network is whole again all are members and equal.

    ringkeeper run scenarios/network_splits.py
    ringkeeper run scenarios/network_splits.py --simulate --seeds 1000
"""

from .stage import Stage


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(3, 5), ecs=stage.random.randint(1, 2), replicas=3)


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 30))
    members = stage.members()
    for _ in range(stage.random.choice((1, 1, 2, 3))):
        stage.wait_for(stage.random.randint(20, 50), load)
        some = stage.random.sample(members, 2 if len(members) == 5 and stage.random.random() < 0.4 else 1)
        others = [id for id in members if id not in some]
        from_whom = {"peers": others, "ZooKeeper": ["zookeeper"], "both": [*others, "zookeeper"]}
        parts = from_whom[stage.random.choice(tuple(from_whom))]
        match stage.random.choice(("both ways", "both ways", "hears nothing", "is not heard")):
            case "both ways":
                stage.partition(some, parts)
            case "hears nothing":
                stage.partition(parts, some, one_way=True)
            case "is not heard":
                stage.partition(some, parts, one_way=True)
        stage.let_pass(stage.random.choice((0.3, 1.2, 2.5, 5.0, 9.0)) * stage.random.uniform(0.7, 1.5))
        stage.heal()
        if stage.random.random() < 0.7:
            stage.wait_for_members(members)
    stage.wait_for_members(members)
    stage.wait_for(20, load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
