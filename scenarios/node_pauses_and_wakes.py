"""A node is stopped for longer than the others wait for it, and wakes: it does no harm.

Three to five nodes with three copies of each slot serve some clients. One is paused as by SIGSTOP, and goes on after a
while; sometimes too soon for anyone to notice. Expected: its peers find out, and others answer for its slots; when it
wakes it answers nothing from the past, neither reads nor writes, but starts again as another life and is made equal.

    ringkeeper run scenarios/node_pauses_and_wakes.py
    ringkeeper run scenarios/node_pauses_and_wakes.py --simulate --seeds 1000
"""

from .stage import Stage

NOTICED_SECONDS_MAX = 10.0


def setup(stage: Stage) -> None:
    stage.start(
        nodes=stage.random.randint(3, 5), fsync=stage.random.choice(("everysec", "everysec", "always")), replicas=3
    )


def story(stage: Stage) -> None:
    load = stage.load("mixed", clients=stage.random.randint(2, 4), keys=stage.random.randint(5, 20))
    for _ in range(stage.random.choice((1, 1, 2))):
        stage.wait_for(stage.random.randint(20, 60), load)
        members = stage.members()
        sleeper = stage.random.choice(members)
        before = stage.lives()[sleeper]
        stage.pause(sleeper)
        long = stage.random.random() < 0.8
        if long:
            missed(stage, sleeper)
            stage.wait_for(stage.random.randint(10, 40), load)
            stage.moment(8.0)
        else:
            stage.moment(1.5)
        stage.resume(sleeper)
        stage.wait_for(10, load)
        stage.wait_until(stage.serves, 60.0, "all are members again")
        after = stage.lives()[sleeper]
        stage.expect(not long or after.incarnation != before.incarnation, f"{sleeper} lives another life")
        stage.expect(stage.members() == members, "all members are up")
    stage.wait_for(20, load)


def missed(stage: Stage, id: str) -> None:
    stage.wait_until(lambda: id not in stage.members(), NOTICED_SECONDS_MAX, f"{id} is missed")


def check(stage: Stage) -> None:
    (load,) = stage.loads
    stage.expect(load.counts["ok"] > 5 * load.counts["maybe"], "most of what clients asked for was done")
