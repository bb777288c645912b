"""Every process of the cluster is killed in the same moment, and started again from the disks.

One to five nodes serve some clients; sometimes a node is just joining or leaving. Then all is killed, ZooKeeper
included, and after a while started again; sometimes twice. Expected: every acknowledged write is there, every slot is
served, and a change that was in flight has ended or goes on.

    ringkeeper run scenarios/everything_restarts.py
    ringkeeper run scenarios/everything_restarts.py --simulate --seeds 1000
"""

from .stage import SERVES_SECONDS_MAX, Stage


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(1, 5), ecs=stage.random.randint(1, 2), replicas=stage.random.randint(1, 3))


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    for _ in range(stage.random.choice((1, 1, 2))):
        stage.wait_for(stage.random.randint(20, 60), load)
        match stage.random.choice(("nothing", "join", "leave")):
            case "join":
                stage.join()
                stage.moment(1.5)
            case "leave" if len(stage.members()) > 1:
                stage.leave(stage.random.choice(stage.members()))
                stage.moment(0.2)
        stage.kill_everything()
        stage.moment(3.0)
        stage.start_everything()
        stage.wait_until(stage.serves, SERVES_SECONDS_MAX, "the cluster serves again")
    stage.wait_for(20, load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
