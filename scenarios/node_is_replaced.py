"""A node is replaced by another, which takes its place on the circle and all that it holds; nobody notices.

Three to five nodes with one to three copies of each slot serve some clients. One of them, alive or dead, is replaced by
a new one, which may last; sometimes in a phase of the change that chance chooses the old one dies, or the new one.
Expected: the new one stands where the old one stood, the old one is out, no other slot has moved; or, if the new one
died, all is as it was. While nobody dies no operation fails.

    ringkeeper run scenarios/node_is_replaced.py
    ringkeeper run scenarios/node_is_replaced.py --simulate --seeds 1000
"""

from .stage import PHASES, Stage


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 5),
        ecs=stage.random.randint(1, 2),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=stage.random.randint(1, 3),
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 40))
    stage.wait_for(stage.random.randint(20, 60), load)
    if stage.more.random() < 0.3:
        stage.move_slowly(stage.more.choice((2.0, 8.0)))
    before = stage.ring()
    assert before is not None
    old = stage.random.choice(stage.members())
    dies = stage.random.choice(("nobody", "nobody", "the old one before", "the old one", "the new one"))
    if before.replicas < 3 and dies.startswith("the old one"):
        dies = "nobody"
    if dies == "the old one before":
        stage.kill(old)
        stage.wait_until(lambda: old not in stage.members(), 12.0, f"the death of {old} is noticed")
    new, job = stage.replace(old)
    if dies in ("the old one", "the new one"):
        stage.wait_for_phase(stage.random.choice(PHASES))
        stage.moment(0.02)
        stage.kill(old if dies == "the old one" else new)
    outcome = stage.wait_for_job(job)
    after = stage.ring()
    assert after is not None
    if outcome == "done":
        stage.expect(after.by_id[new].token == before.by_id[old].token, f"{new} stands where {old} stood")
        stage.expect(after.by_id[old].state == "out", f"{old} is out")
        others = {node.id: node.token for node in before.circle if node.id != old}
        stage.expect(others == {node.id: node.token for node in after.circle if node.id != new}, "no other has moved")
    else:
        stage.expect(dies == "the new one", f"with {dies} dying it is done")
        stage.expect(new not in {node.id for node in after.circle}, f"{new} is no member")
    stage.wait_for(stage.random.randint(20, 40), load)
    errors = [error for each in stage.loads for error in each.errors]
    stage.expect(dies != "nobody" or not errors, f"no client notices: {errors[:1]}")


def check(stage: Stage) -> None:
    load = stage.loads[0]
    stage.expect(load.counts["ok"] > load.counts["not"] + load.counts["maybe"], "most of what was asked for was done")
