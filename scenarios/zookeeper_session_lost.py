"""Nodes lose their ZooKeeper sessions, though they and the network are well; nothing is lost.

Three to five nodes with three copies of each slot serve some clients. One, several or all of them lose their sessions,
at once or one after the other, sometimes while a node joins or ZooKeeper has just been away. Expected: who is still
called up registers again and goes on as it was; who was called down in between lives another life and is made equal.

    ringkeeper run scenarios/zookeeper_session_lost.py
    ringkeeper run scenarios/zookeeper_session_lost.py --simulate --seeds 1000
"""

from .stage import Stage


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(3, 5), ecs=stage.random.randint(1, 2), replicas=3)


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 30))
    members = stage.members()
    newcomers: tuple[str, ...] = ()
    for _ in range(stage.random.choice((1, 1, 2))):
        stage.wait_for(stage.random.randint(20, 50), load)
        match stage.random.choice(("nothing", "nothing", "join", "away")):
            case "join" if not newcomers:
                newcomers = stage.join()
                stage.moment(1.5)
            case "away":
                seconds = stage.random.uniform(0.3, 3.0)
                stage.zookeeper_away(seconds)
                stage.let_pass(seconds + stage.random.random())
        pause_seconds = stage.random.choice((0.0, 0.0, 0.3, 2.0))
        for id in stage.random.sample(members, stage.random.choice((1, 1, 2, len(members)))):
            stage.lose_session(id)
            stage.moment(pause_seconds)
        stage.wait_for(10, load)
    stage.wait_for_members((*members, *newcomers))
    stage.wait_for(20, load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
