"""The control service that leads dies in the midst of a change, and another goes on from where the ring is.

Two to four nodes and two or three control services. A node joins or leaves; in a phase of the change that chance
chooses the leader is killed, sometimes its successor as well. Expected: the change ends in order, and nothing is lost.
Clients notice nothing unless slots are sealed just then: to these requests wait for the next leader, which takes as
long as the session of the one before lasts, and some clients wait no longer.

    ringkeeper run scenarios/ecs_leader_dies.py
    ringkeeper run scenarios/ecs_leader_dies.py --simulate --seeds 1000
"""

from .stage import PHASES, Stage

WRITTEN_SECONDS_MAX = 2.0
"""Within that nodes have read what a control service wrote last before it died; nobody else leads before its session
has ended."""


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(2, 4), ecs=stage.random.randint(2, 3), replicas=stage.random.randint(1, 3))


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 30), operations_per_second=12)
    stage.wait_for(stage.random.randint(20, 40), load)
    leaver = stage.random.choice(stage.members())
    joins = stage.random.random() < 0.5
    newcomers = stage.join() if joins else ()
    job = None if joins else stage.leave(leaver)

    sealed = False
    for _ in range(stage.random.choice((1, 1, 2))):
        phase = stage.random.choice(PHASES)
        if stage.wait_for_phase(phase):
            stage.say(f"the change is in {phase}")
        stage.moment(0.02)
        sealed = sealed or stage.seals()
        stage.kill_ecs_leader()
        sealed = stage.wait_for_phase("seal", WRITTEN_SECONDS_MAX) or sealed
        stage.moment(8.0)

    if job is not None:
        outcome = stage.wait_for_job(job)
        stage.expect(outcome in ("done", "aborted"), f"job {job} is done, or given up in order: it is {outcome}")
        stage.expect((leaver in stage.members()) == (outcome == "aborted"), f"the ring is as job {job} says")
    stage.wait_for_members(newcomers)
    stage.expect(sealed or not load.errors, f"without a seal no client notices: {load.errors[:1]}")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
