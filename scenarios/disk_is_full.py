"""A node's disk has no room any more; the others go on without it, and it is made equal when there is room again.

Three to five nodes with three copies of each slot serve some clients. The disk of one takes nothing more, and after a
while it does again. Expected: what that node answers for is refused for a moment, definitely (MISCONF: nothing was
written); what others write is in doubt or late, since it does not acknowledge it. Therefore it is taken down within
some seconds, and its successors answer for its slots; nothing is lost. With room it comes back; a process that could
not start on a full disk is started by whoever made the room.

    ringkeeper run scenarios/disk_is_full.py
    ringkeeper run scenarios/disk_is_full.py --simulate --seeds 1000
"""

from .stage import Stage

NOTICED_SECONDS_MAX = 10.0
"""A successor that acknowledges nothing is silent after a second, and spared for two more if need be (R22)."""


def setup(stage: Stage) -> None:
    fsync = stage.random.choice(("everysec", "everysec", "always"))
    stage.start(nodes=stage.random.randint(3, 5), fsync=fsync, replicas=3)


def story(stage: Stage) -> None:
    load = stage.load("mixed", clients=stage.random.randint(3, 5), keys=stage.random.randint(20, 40))
    stage.wait_for(stage.random.randint(20, 60), load)
    members = stage.members()
    victim = stage.random.choice(members)
    stage.fill_disk(victim)
    stage.wait_until(lambda: victim not in stage.members(), NOTICED_SECONDS_MAX, f"{victim} is down")
    refused = load.counts["not"]
    stage.wait_for(stage.random.randint(40, 80), load)
    stage.expect(load.counts["not"] - refused <= 2, f"the others take everything: {load.errors[-1:]}")
    stage.moment(5.0)
    stage.empty_disk(victim)
    stage.restart(victim)
    stage.wait_for_members(members)
    stage.wait_for(20, load)
    stage.expect(stage.verify() == 0, "all copies are equal")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    others = [each for each in load.errors if "MISCONF" not in each and "INDOUBT" not in each]
    stage.expect(len(others) <= 2, f"what is refused is said to be for the disk: {others[:1]}")
