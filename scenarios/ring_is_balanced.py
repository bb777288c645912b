"""An uneven ring is balanced while clients read and write, and nobody notices.

Three to six nodes whose tokens are MD5 sums, so that some answer for many slots and some for few; sometimes one of them
is twice as strong as the others, or none at all. Somebody asks for even shares, of slots or of keys. Expected: one
change, after which every share is within 5 % of its part, and a second question finds nothing to do; no operation
failed, no counter counted twice, and whoever gave slots away has kept nothing of them.

    ringkeeper run scenarios/ring_is_balanced.py
    ringkeeper run scenarios/ring_is_balanced.py --simulate --seeds 1000
"""

from .stage import Stage


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 6),
        fsync=stage.random.choice(("everysec", "everysec", "always")),
        replicas=stage.random.randint(1, 3),
        place="md5",
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 30))
    stage.wait_for(stage.random.randint(20, 40), load)
    if stage.random.random() < 0.3:
        stage.weigh(stage.random.choice(stage.members()), stage.random.choice((0, 2)))
    if stage.random.random() < 0.3:
        run(stage, "keys")
    run(stage, "slots")
    stage.expect(stage.balance() == 0, "a ring that was just balanced is left alone")
    stage.wait_for(stage.random.randint(20, 40), load)


def run(stage: Stage, by: str) -> None:
    job = stage.balance(by)  # type: ignore[arg-type]
    if job:
        outcome = stage.wait_for_job(job)
        stage.expect(outcome == "done", f"job {job} is done: it is {outcome}")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(not load.errors, f"no client notices that tokens move: {load.errors[:1]}")
    ring = stage.ring()
    if ring is None:
        return
    capacity = sum(node.capacity for node in ring.circle)
    for node in ring.circle:
        part = node.capacity / capacity
        stage.expect(
            abs(ring.share(node.id) - part) <= 0.051 * part, f"{node.id} has {ring.share(node.id):.1%} of {part:.1%}"
        )
