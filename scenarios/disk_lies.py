"""A disk holds something else than was written there; the copies are compared, and the bad one is made anew.

Three to five nodes with three copies of each slot serve some clients. Under one key, or some, a node's disk says
something else: a bit is flipped, or the record is gone, or has another value or expiry with a checksum that is right.
Then all copies are compared, as they are all the time in the background, only at once. Expected: the odd one out is
found, goes down, and comes back with another store that is equal to the others; what it had is put aside; clients never
see what was wrong.

    ringkeeper run scenarios/disk_lies.py --simulate --seeds 1000
"""

from .stage import LIES, Lie, Stage

MENDED_SECONDS_MAX = 60.0


def setup(stage: Stage) -> None:
    stage.start(nodes=stage.random.randint(3, 5), ecs=stage.random.randint(1, 2), replicas=3)


def story(stage: Stage) -> None:
    writers = stage.load("set", clients=2, keys=stage.random.randint(20, 40))  # so each node has some to lie about
    stage.wait_for(stage.random.randint(40, 80), writers)
    quiet = stage.random.random() < 0.5
    if quiet:  # else what is wrong may be overwritten before anybody looks
        writers.stop()
    members = stage.members()
    victim = stage.random.choice(members)
    how: Lie = stage.random.choice(sorted(LIES))
    for _ in range(stage.random.randint(1, 3)):
        stage.lie(victim, how)
    before = stage.lives()[victim].incarnation
    stage.verify()
    stage.moment(2.0)
    if quiet:
        lives = stage.lives
        anew = lambda: victim in lives() and lives()[victim].incarnation != before  # noqa: E731
        stage.wait_until(anew, MENDED_SECONDS_MAX, f"{victim} begins anew")
    stage.wait_for_members(members)
    readers = stage.load("get", clients=2)
    stage.wait_for(40, readers)


def check(stage: Stage) -> None:
    stage.expect(stage.verify() == 0, "all copies are equal")
