"""ZooKeeper comes back with an old disk, and with it an old ring: nobody obeys it, and the newest is written back.

Three to five nodes serve some clients. ZooKeeper's disk is copied; then the ring changes: a node dies and returns, one
joins or one leaves. ZooKeeper is killed and comes back with the copy. Often the leading control service dies as well,
or a node, which is started again. Expected: the nodes go on by the ring that they hold, and no ring is written on top
of the old one, until ``ring restore`` writes the newest one back; a member that does not run makes it refuse, since it
may hold a newer one (R23). Afterwards everything acknowledged is there.

    ringkeeper run scenarios/ring_is_rolled_back.py
    ringkeeper run scenarios/ring_is_rolled_back.py --simulate --seeds 1000
"""

from contextlib import suppress

from .stage import SERVES_SECONDS_MAX, RefusedByCluster, Stage

REGISTERED_SECONDS = 8.0
"""Within that nodes register in a ZooKeeper that has forgotten them, and sessions of the past have ended there."""
HEARD_SECONDS_MAX = 60.0
"""So long a node that was started again may take until it has said what it holds."""


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(3, 5), ecs=stage.random.randint(1, 2), replicas=stage.random.randint(2, 3))


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 3), keys=stage.random.randint(10, 30))
    stage.wait_for(20, load)
    stage.copy_zookeeper()
    for _ in range(stage.random.choice((1, 1, 2))):
        change_the_ring(stage)
    stage.wait_for(20, load)

    old, newest, members = epoch(stage), max(life.epoch for life in stage.lives().values()), stage.members()
    stage.put_zookeeper_back()
    if stage.random.random() < 0.5:
        stage.kill_ecs_leader()  # whoever leads then has never read the newest ring
    stage.wait_for(20, load)  # nobody has to wait for it
    dead = stage.random.choice(members) if stage.random.random() < 0.6 else None
    if dead is not None:
        stage.kill(dead)
        stage.let_pass(REGISTERED_SECONDS / 2)
        with suppress(RefusedByCluster):
            stage.restore_ring()
            stage.expect(False, f"the ring is not restored while {dead} may hold a newer one")
        stage.restart(dead)
    stage.let_pass(REGISTERED_SECONDS)
    held = {life.epoch for life in stage.lives().values() if life.incarnation}  # the old ring may not know that life
    stage.expect(held <= {newest}, f"all go by ring {newest}, which ZooKeeper has lost: {sorted(held)}")
    stage.expect(old >= newest, "the ring was the newest one")
    stage.wait_until(lambda: not stage.unheard(), HEARD_SECONDS_MAX, "every node has said what it holds")
    restored = stage.restore_ring()
    stage.expect(restored > newest + 999, f"ring {restored} leaves room for rings that nobody knows")
    stage.wait_until(stage.serves, SERVES_SECONDS_MAX, "the cluster serves again")
    stage.wait_for(20, load)


def change_the_ring(stage: Stage) -> None:
    """Have at least one ring written."""
    before = epoch(stage)
    match stage.random.choice(("death", "death", "join", "leave")):
        case "join":
            stage.wait_for_members(stage.join())
        case "leave" if len(stage.members()) > 3:
            stage.wait_for_job(stage.leave(stage.random.choice(stage.members())))
        case _:
            died = stage.random.choice(stage.members())
            stage.kill(died)
            stage.wait_until(lambda: epoch(stage) > before, 30, f"a ring calls {died} down")
            stage.restart(died)
    stage.wait_until(lambda: epoch(stage) > before and stage.serves(), SERVES_SECONDS_MAX, "the ring is another")


def epoch(stage: Stage) -> int:
    ring = stage.ring()
    return ring.epoch if ring is not None else 0


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
