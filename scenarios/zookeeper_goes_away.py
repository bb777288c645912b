"""ZooKeeper goes away and comes back, and data is read and written all the time.

Two to four nodes serve some clients. ZooKeeper goes away once or twice, for shorter or longer than a session lasts;
often a node joins or leaves just then. Expected: while it is away clients are served, but for slots that are sealed: to
these requests wait, and some clients give up waiting and are in doubt (R24). Without a seal nobody is in doubt, nor is
anybody refused. Afterwards the change ends in order.

    ringkeeper run scenarios/zookeeper_goes_away.py
    ringkeeper run scenarios/zookeeper_goes_away.py --simulate --seeds 1000
"""

from .stage import PHASES, Stage


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(2, 4), ecs=stage.random.randint(1, 2), replicas=stage.random.randint(1, 3))


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 3), keys=stage.random.randint(10, 30))
    stage.wait_for(stage.random.randint(20, 40), load)
    newcomers: tuple[str, ...] = ()
    job = None
    match stage.random.choice(("nothing", "join", "leave")):
        case "join":
            newcomers = stage.join()
        case "leave":
            job = stage.leave(stage.random.choice(stage.members()))
    if (newcomers or job) and stage.random.random() < 0.7:
        phase = stage.random.choice(PHASES)
        if stage.wait_for_phase(phase):
            stage.say(f"the change is in {phase}")
    stage.moment(0.02)

    sealed = False
    for _ in range(stage.random.choice((1, 1, 2))):
        seconds = stage.random.choice((0.3, 2.0, 5.0, 9.0)) + stage.random.random()
        stage.zookeeper_away(seconds)
        sealed = sealed or stage.seals()
        stage.wait_for(10, load)
        sealed = sealed or stage.seals()  # what ZooKeeper had sent by then is read a moment later
        stage.let_pass(seconds + stage.random.uniform(0.0, 3.0))

    if job is not None:
        outcome = stage.wait_for_job(job)
        stage.expect(outcome in ("done", "aborted"), f"job {job} is done, or given up in order: it is {outcome}")
    stage.wait_for_members(newcomers)
    stage.wait_for(20, load)
    stage.expect(sealed or not load.errors, f"without a seal no client notices: {load.errors[:1]}")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
