"""The coordinator of a list and its first successor die, at once or one after the other; nothing is lost.

Three to five nodes with three copies of each slot serve some clients. Of one list two members are killed; sometimes the
last one, too. Expected: what the last one holds is still read, but for the latest, which the dead may lack; and not
written, since one copy is fewer than a write needs: such writes are refused with NOREPLICAS, and never happen. Once the
dead are back, whoever comes first, all that was acknowledged is there, and the list writes again.

    ringkeeper run scenarios/coordinator_and_successor_die.py
    ringkeeper run scenarios/coordinator_and_successor_die.py --simulate --seeds 1000
"""

from ..actors.rules.slots import slot
from .history import READS
from .stage import Stage

NOTICED_SECONDS_MAX = 12.0
"""Of two that die at once nobody is left to be a second witness: then the sessions decide."""
SETTLED_SECONDS = 1.0
"""After so long every copy knows that all others have a write, too."""


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 5), fsync=stage.random.choice(("everysec", "everysec", "always")), replicas=3
    )


def story(stage: Stage) -> None:
    load = stage.load(clients=stage.random.randint(2, 4), keys=stage.random.randint(10, 30))
    stage.wait_for(stage.random.randint(20, 60), load)
    members = stage.members()
    ring = stage.ring()
    assert ring is not None
    key = stage.random.choice(stage.keys().registers)
    coordinator, successor, last = (node.id for node in ring.lists[slot(key)])

    died = stage.now()
    stage.kill(coordinator)
    if stage.random.random() < 0.5:
        noticed(stage, coordinator)
        stage.wait_for(10, load)
        died = stage.now()
    else:
        stage.moment(1.0)
    stage.kill(successor)
    noticed(stage, coordinator, successor)
    stage.wait_until(
        lambda: any("NOREPLICAS" in error for error in load.errors), 30.0, "writes are refused with NOREPLICAS"
    )
    readers = stage.load("get", clients=1)
    reader = readers.workloads[0].client
    stage.wait_for(12, readers)  # keys whose last write is in doubt keep a reader for 5 s each, and are refused then
    late = {
        each.key
        for each in stage.history
        if each.kind not in READS and (each.completed or died) > died - SETTLED_SECONDS
    }
    unread = {each.key for each in stage.history if each.client == reader and each.outcome == "not"}
    stage.expect(unread <= late, f"all but the latest can still be read: {sorted(unread - late)[:1]}")

    dead = [coordinator, successor]
    if stage.random.random() < 0.4:
        stage.moment(2.0)
        stage.kill(last)
        dead.append(last)
    stage.moment(6.0)
    stage.random.shuffle(dead)
    for id in dead:
        stage.restart(id)
        stage.moment(4.0)
    stage.wait_for_members(members)
    stage.wait_for(20, load)


def noticed(stage: Stage, *ids: str) -> None:
    stage.wait_until(
        lambda: not set(ids) & set(stage.members()), NOTICED_SECONDS_MAX, f"the death of {' and '.join(ids)} is noticed"
    )


def check(stage: Stage) -> None:
    load, _ = stage.loads
    stage.expect(load.counts["ok"] > load.counts["maybe"], "most of what clients asked for was done")
