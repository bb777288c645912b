"""What is deleted while a node is away stays deleted when it comes back, whatever it still holds.

Three or four nodes with two or three copies of each slot serve some clients, who set and delete the same few keys again
and again. A node is killed, and comes back with all that was deleted meanwhile: at once, or when it has been given up,
or it stays away while slots move over its place, since a node joins or leaves. Then it, as the only one left of some
lists, may have to answer for them. Expected: no deleted key is seen again, by anybody, nor held by anybody.

    ringkeeper run scenarios/deleted_stays_deleted.py
    ringkeeper run scenarios/deleted_stays_deleted.py --simulate --seeds 1000
"""

from .stage import RefusedByCluster, Stage
from .workload import Mix

OUT_AFTER_SECONDS = 4.0
REFUSED_SECONDS_MAX = 240.0
"""So long clients may take where half of the lists have one of their two copies left: each refusal is waited for."""
FOREIGN_SECONDS_MAX = 14.0
"""After so long nodes have forgotten slots that are not theirs any more, where they may."""
SET_AND_DELETE: Mix = {"set": 1, "delete": 1, "get": 1}


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 4),
        fsync=stage.random.choice(("everysec", "always")),
        replicas=stage.random.choice((2, 3, 3)),
        out_after=stage.random.choice((0.0, OUT_AFTER_SECONDS)),
    )


def story(stage: Stage) -> None:
    load = stage.load(SET_AND_DELETE, clients=stage.random.randint(2, 4), keys=stage.random.randint(5, 20))
    for _ in range(stage.random.choice((1, 2))):
        stage.wait_for(stage.random.randint(20, 60), load)
        members = stage.members()
        newcomers: tuple[str, ...] = ()
        away = stage.random.choice(members)
        stage.kill(away)
        stage.wait_until(lambda away=away: away not in stage.members(), 12.0, f"the death of {away} is noticed")  # type: ignore[misc]
        stage.wait_for(stage.random.randint(10, 60), load, REFUSED_SECONDS_MAX)
        match stage.random.choice(("it comes back", "it is away for long", "one joins", "one leaves")):
            case "it is away for long":
                stage.let_pass(2.0 * OUT_AFTER_SECONDS)
            case "one joins":
                newcomers = stage.join()
                ring = stage.ring()
                if ring is None or not ring.trouble:  # else it waits for who is away, or until that is given up (R11)
                    stage.wait_for_members(newcomers)
                stage.moment(FOREIGN_SECONDS_MAX)
            case "one leaves":
                leaver = stage.random.choice([id for id in members if id != away])
                try:
                    stage.wait_for_job(stage.leave(leaver))
                except RefusedByCluster as reason:
                    stage.say(f"{leaver} stays: {reason}")
        stage.restart(away)
        stage.wait_for_members([away, *newcomers])
        stage.wait_for(20, load)
        other = stage.random.choice([id for id in stage.members() if id != away])
        stage.kill(other)
        stage.moment(3.0)
        stage.restart(other)
        stage.wait_for_members([other])
    stage.wait_for(20, load)


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > load.counts["not"] + load.counts["maybe"], "most of what was asked for was done")
