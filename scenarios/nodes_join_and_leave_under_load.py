"""Nodes come and go, again and again, while clients work, and nobody notices.

Two to four nodes serve three to five clients. In three to six rounds one or two nodes join, one leaves, or both at
once, so that changes wait for each other; sometimes a change is cancelled. Expected: every change ends as it should, no
operation fails, and in the end there are as many members as were asked for.

    ringkeeper run scenarios/nodes_join_and_leave_under_load.py
    ringkeeper run scenarios/nodes_join_and_leave_under_load.py --simulate --seeds 1000
"""

from .stage import RefusedByCluster, Stage

MEMBERS_MAX = 6


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(2, 4),
        fsync=stage.random.choice(("everysec", "always", "never")),
        replicas=stage.random.randint(1, 3),
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(3, 5), keys=stage.random.randint(10, 40))
    for _ in range(stage.random.randint(3, 6)):
        stage.wait_for(stage.random.randint(5, 25), load)
        members = stage.members()
        what = stage.random.choice(("join", "leave", "both", "think again"))
        newcomers: tuple[str, ...] = ()
        jobs = []
        if what in ("join", "both") and len(members) < MEMBERS_MAX:
            newcomers = stage.join(stage.random.choice((1, 1, 2)))
        if what in ("leave", "both") and len(members) > 1:
            jobs.append(stage.leave(stage.random.choice(members)))
        if what == "think again" and len(members) > 1:
            think_again(stage, stage.leave(stage.random.choice(members)))
        for job in jobs:
            stage.expect(stage.wait_for_job(job) == "done", f"job {job} is done")
        stage.wait_for_members(newcomers)
    stage.wait_for(20, load)


def think_again(stage: Stage, job: int) -> None:
    """Somebody asks for a change, and cancels it a moment later if it is not too late."""
    stage.moment(0.1)
    try:
        stage.cancel(job)
    except RefusedByCluster as refusal:
        stage.say(f"job {job} cannot be cancelled: {refusal}")
    outcome = stage.wait_for_job(job)
    stage.expect(outcome in ("cancelled", "done"), f"job {job} is cancelled, or was done before: it is {outcome}")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.errors, f"no client notices that nodes come and go: {load.errors[:1]}")
    stage.expect(sorted(stage.lives()) == list(stage.members()), "the members run, and nobody else")
