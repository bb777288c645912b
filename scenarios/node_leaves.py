"""A node leaves while clients read and write, and nobody notices.

Of two to five nodes that serve some clients one is asked to leave; sometimes a second one is while the first still
goes. Expected: others hold what it held, its process has ended, and no operation failed, also of clients that knew
nobody else.

    ringkeeper run scenarios/node_leaves.py
    ringkeeper run scenarios/node_leaves.py --simulate --seeds 1000
"""

from .stage import Stage


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(2, 5),
        fsync=stage.random.choice(("everysec", "everysec", "always")),
        replicas=stage.random.randint(1, 3),
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 30))
    stage.wait_for(stage.random.randint(20, 60), load)
    members = stage.members()
    count = min(len(members) - 1, stage.random.choice((1, 1, 2)))
    jobs = []
    for id in stage.random.sample(members, count):
        jobs.append(stage.leave(id))
        stage.moment(0.3)
    for job in jobs:
        stage.expect(stage.wait_for_job(job) == "done", f"job {job} is done")
    stage.wait_for(stage.random.randint(20, 60), load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.errors, f"no client notices that a node leaves: {load.errors[:1]}")
    stage.expect(sorted(stage.lives()) == list(stage.members()), "who has left has ended")
