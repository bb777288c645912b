"""The ring is being balanced, and something comes in between; the next run finishes the job.

Three to five nodes whose tokens are MD5 sums, two or three control services. In a phase of the change that chance
chooses a node that gets slots is killed, or the leading control service is, or somebody cancels. Expected: nothing that
was acknowledged is lost, the tokens are as they were or as they were to be, and once all are up again another question
ends with even shares.

    ringkeeper run scenarios/balance_interrupted.py
    ringkeeper run scenarios/balance_interrupted.py --simulate --seeds 1000
"""

from .stage import PHASES, RefusedByCluster, Stage


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 5),
        ecs=stage.random.randint(2, 3),
        replicas=stage.random.randint(1, 3),
        out_after=0,
        place="md5",
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40), operations_per_second=12)
    stage.wait_for(stage.random.randint(20, 40), load)
    before = tokens(stage)
    job = stage.balance()
    phase = stage.random.choice(PHASES)
    there = stage.wait_for_phase(phase)
    stage.say(f"the change is in {phase}" if there else f"the change was over before it was seen in {phase}")
    what = stage.random.choice(("kill", "kill", "ecs", "cancel"))
    if what == "kill":
        victim = stage.random.choice(stage.members())
        stage.kill(victim)
        stage.moment(8.0)
        stage.restart(victim)
    elif what == "ecs":
        stage.kill_ecs_leader()
    else:
        cancel(stage, job)
    outcome = stage.wait_for_job(job)
    stage.wait_until(stage.serves, 60, "all nodes are up again")
    stage.expect((tokens(stage) == before) == (outcome != "done"), f"the tokens are as job {job} says, {outcome}")

    again = stage.balance()
    stage.expect((again == 0) == (outcome == "done"), f"the next run has something to do after {outcome}")
    if again:
        stage.expect(stage.wait_for_job(again) == "done", "the next run finishes the job")


def cancel(stage: Stage, job: int) -> None:
    try:
        stage.cancel(job)
    except RefusedByCluster as over:
        stage.say(f"job {job} was over before: {over}")


def tokens(stage: Stage) -> dict[str, int]:
    ring = stage.ring()
    return {node.id: node.token for node in ring.circle} if ring is not None else {}


def check(stage: Stage) -> None:
    members = stage.members()
    for id in members:
        part = 16384 / len(members)
        stage.expect(abs(stage.slots(id) - part) <= 0.051 * part, f"{id} has {stage.slots(id)} slots of {part:.0f}")
