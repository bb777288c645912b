"""Stories that go for what keeps several copies equal: the moments in which a mistake there shows.

Random stories meet such moments, too, but seldom: a death just when two copies differ, a coordinator of the past that
somebody still asks while others go to its successor, a list that goes from one of its members to the other and back.
Here each story is made of little else; the seed decides who, and how long.
"""

from collections.abc import Mapping
from contextlib import suppress

from ringkeeper.scenarios.play import Scenario
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.scenarios.stage import NotInTime, Stage


def gone(stage: Stage, id: str, seconds_max: float = 12.0) -> None:
    """Wait until a node is not taken for a member that is up any more, if that comes to pass."""
    with suppress(NotInTime):
        stage.wait_until(lambda: id not in stage.members(), seconds_max, f"{id} is missed")


def back(stage: Stage, id: str) -> None:
    """Wait until a node is a member that is up again, if that comes to pass."""
    with suppress(NotInTime):
        stage.wait_until(lambda: id in stage.members(), 10.0, f"{id} is a member again")


def all_back(stage: Stage) -> None:
    """Mend the network, start who is dead, and wait until all is well."""
    stage.heal()
    ring = stage.ring()
    assert ring is not None
    for id in sorted({node.id for node in ring.circle} - set(stage.lives())):
        stage.restart(id)
    stage.wait_until(stage.serves, 90.0, "the cluster serves again")


def three_nodes(stage: Stage) -> None:
    stage.start(nodes=3, fsync="everysec", replicas=3)


def two_nodes(stage: Stage) -> None:
    stage.start(nodes=2, fsync="everysec", replicas=2)


def copies_differ_and_one_dies(stage: Stage) -> None:
    """What a coordinator writes reaches one successor, the other, or none; then it dies, or the network is mended."""
    stage.load("mixed", clients=4, keys=stage.random.choice((8, 1000)), operations_per_second=30.0)
    for _ in range(3):
        stage.let_pass(stage.random.uniform(0.5, 1.5))
        members = stage.members()
        coordinator = stage.random.choice(members)
        others = [id for id in members if id != coordinator]
        stage.partition([coordinator], stage.random.sample(others, stage.random.choice((1, 1, 2))), one_way=True)
        stage.let_pass(stage.random.choice((0.1, 0.3, 0.6, 1.2)))
        if stage.random.random() < 0.7:
            late = stage.random.choice((0.0, 0.3))
            for id, other in (others, others[::-1]):
                stage.delay(id, other, late)
            stage.kill(coordinator)
            gone(stage, coordinator)
            stage.let_pass(stage.random.uniform(0.2, 2.0))
            for id, other in (others, others[::-1]):
                stage.delay(id, other, 0.0)
        all_back(stage)


def one_is_asked_that_was_deposed(stage: Stage) -> None:
    """A node is cut off, and clients that know nothing else go on asking it; others go to who answers for it now."""
    stage.load("get", clients=5, keys=30, operations_per_second=40.0)
    stage.load("set", clients=1, operations_per_second=20.0)
    stage.let_pass(stage.random.uniform(0.5, 1.5))
    members = stage.members()
    alone = stage.random.choice(members)
    match stage.random.choice(("all", "zookeeper", "session")):
        case "all":
            stage.partition([alone], [*(id for id in members if id != alone), "zookeeper"])
        case "zookeeper":
            stage.partition([alone], ["zookeeper"])
        case "session":
            stage.delay("zookeeper", alone, stage.random.choice((0.7, 1.0, 2.0)))
            stage.lose_session(alone)
    gone(stage, alone)
    for _ in range(3):
        stage.load("read and write", clients=2, operations_per_second=40.0)
        stage.let_pass(stage.random.uniform(0.3, 1.0))
    stage.delay("zookeeper", alone, 0.0)
    all_back(stage)


def what_the_dead_have_sent_comes_late(stage: Stage) -> None:
    """A coordinator dies, another takes over, and then what the dead one has sent arrives at one of the successors."""
    stage.load("mixed", clients=4, keys=1000, operations_per_second=30.0)
    for _ in range(2):
        stage.let_pass(stage.random.uniform(0.5, 1.5))
        coordinator, successor = stage.random.sample(stage.members(), 2)
        stage.delay(coordinator, successor, 3.0)
        stage.let_pass(stage.random.uniform(0.3, 0.8))
        stage.kill(coordinator)
        gone(stage, coordinator)
        stage.let_pass(3.0)
        stage.delay(coordinator, successor, 0.0)
        all_back(stage)


def a_list_goes_to_and_fro(stage: Stage) -> None:
    """One of two dies, then the other, while the first comes back, and again: who of them has everything?"""
    stage.load("mixed", clients=4, keys=20, operations_per_second=30.0)
    first, second = stage.random.sample(stage.members(), 2)
    for _ in range(3):
        stage.let_pass(stage.random.uniform(0.3, 1.0))
        (stage.cut_power if stage.random.random() < 0.5 else stage.kill)(first)
        if stage.random.random() < 0.6:
            gone(stage, first)
            stage.let_pass(stage.random.uniform(0.0, 1.0))
        if stage.random.random() < 0.5:
            stage.partition([first], [second])
            stage.restart(first)
            stage.let_pass(stage.random.uniform(0.5, 3.0))
        stage.kill(second)
        stage.heal()
        stage.let_pass(stage.random.uniform(0.3, 1.5))
        if first not in stage.lives():
            stage.restart(first)
        gone(stage, second)
        stage.load("get", clients=1, operations_per_second=20.0)
        stage.let_pass(stage.random.uniform(1.0, 4.0))
        if stage.random.random() < 0.4:
            stage.kill(first)
            stage.let_pass(1.0)
            stage.restart(second)
            stage.let_pass(stage.random.uniform(1.0, 4.0))
        all_back(stage)


def one_returns_and_another_dies(stage: Stage) -> None:
    """A node is made equal over a long line, and somebody dies when it is about to be, or has just been, a member."""
    stage.load("mixed", clients=4, keys=100, operations_per_second=30.0)
    for _ in range(2):
        stage.let_pass(stage.random.uniform(0.5, 1.5))
        members = stage.members()
        returning, other = stage.random.sample(members, 2)
        stage.kill(returning)
        gone(stage, returning)
        stage.let_pass(stage.random.uniform(0.5, 1.5))
        late = stage.random.choice((0.05, 0.2, 0.5))
        for id in members:
            if id != returning:
                stage.delay(id, returning, late)
        stage.restart(returning)
        if stage.random.random() < 0.3:
            stage.let_pass(stage.random.uniform(0.2, 2.5))
        else:
            back(stage, returning)
        if stage.random.random() < 0.7:
            stage.kill(other)
            gone(stage, other)
        for id in members:
            stage.delay(id, returning, 0.0)
        stage.let_pass(stage.random.uniform(0.5, 2.0))
        all_back(stage)


def one_that_lacks_something_is_left_alone(stage: Stage) -> None:
    """A node is back and cannot be made equal, and all the others die: it waits for one of them (R14)."""
    stage.load("mixed", clients=3, keys=20, operations_per_second=30.0)
    stage.let_pass(stage.random.uniform(0.3, 0.8))
    alone, *others = stage.random.sample(stage.members(), 3)
    stage.kill(alone)
    gone(stage, alone)
    stage.let_pass(stage.random.uniform(0.5, 1.0))
    stage.partition([alone], others)
    stage.restart(alone)
    stage.let_pass(stage.random.uniform(1.5, 2.5))
    for id in others:
        stage.kill(id)
    stage.heal()
    gone(stage, others[0])
    stage.let_pass(stage.random.uniform(1.0, 3.0))
    all_back(stage)


def one_is_back_at_once(stage: Stage) -> None:
    """A node loses power, and what it had not synced, and is back before anybody has missed it; then others die."""
    stage.load("mixed", clients=3, keys=20, operations_per_second=30.0)
    for _ in range(2):
        stage.let_pass(stage.random.uniform(1.0, 1.5))
        one, other, third = stage.random.sample(stage.members(), 3)
        stage.cut_power(one)
        stage.let_pass(0.02)
        stage.restart(one)
        stage.let_pass(stage.random.uniform(0.3, 1.0))
        stage.kill(other)
        if stage.random.random() < 0.5:
            stage.kill(third)
        gone(stage, other)
        stage.let_pass(stage.random.uniform(0.5, 1.0))
        all_back(stage)


def keepers_follow_each_other(stage: Stage) -> None:
    """All die. One is back and answers for their lists, and clients try to write; it dies, and another one follows."""
    stage.load("read and write", clients=3, keys=10, operations_per_second=30.0)
    stage.let_pass(stage.random.uniform(0.3, 0.8))
    members = list(stage.members())
    stage.random.shuffle(members)
    for id in members:
        stage.kill(id)
    for id in members:
        stage.restart(id)
        stage.let_pass(stage.random.uniform(2.5, 4.0))
        stage.kill(id)
        gone(stage, id)
    all_back(stage)


def values_expire(stage: Stage) -> None:
    """Values are there until they expire, on clocks that differ, and gone afterwards; nodes die meanwhile."""
    stage.load("mixed", clients=2, keys=4, operations_per_second=20.0)
    stage.load(clients=2, operations_per_second=40.0, manner="fleeting")
    stage.load(clients=1, operations_per_second=20.0, manner="hasty")
    stage.load("get", clients=1, operations_per_second=20.0, manner="stale")
    stage.let_pass(stage.random.uniform(2.0, 4.0))
    one = stage.random.choice(stage.members())
    stage.kill(one)
    stage.let_pass(stage.random.uniform(2.0, 4.0))
    all_back(stage)


def connections_break(stage: Stage) -> None:
    """Connections between living nodes are reset, again and again, with what is under way on them."""
    stage.load("mixed", clients=4, keys=200, operations_per_second=30.0)
    assert isinstance(stage, SimulatedStage)
    for _ in range(6):
        sender, receiver = stage.random.sample(stage.members(), 2)
        stage.delay(sender, receiver, 0.05)
        stage.let_pass(stage.random.uniform(0.2, 0.6))
        stage.say(f"the connections from {sender} to {receiver} break")
        for end in list(stage.cluster.world.network.ends):
            if (end.process.name, end.other.process.name) == (receiver, sender):
                end.abort()
        stage.let_pass(stage.random.uniform(0.2, 0.6))
        stage.delay(sender, receiver, 0.0)


def a_disk_lies(stage: Stage) -> None:
    """A disk has another expiry under some key than was written; all copies are compared, and the odd one goes."""
    load = stage.load("set", clients=1, keys=8)
    stage.wait_for(30, load)
    load.stop()
    victim = stage.random.choice(stage.members())
    before = stage.lives()[victim].incarnation
    stage.lie(victim, "expiry")
    stage.verify()
    with suppress(NotInTime):
        stage.wait_until(lambda: before not in {life.incarnation for life in stage.lives().values()}, 10.0, "it goes")


STORIES: Mapping[str, Scenario] = {
    story.__name__.replace("_", " "): Scenario(story.__name__, setup, story, lambda stage: None, story.__doc__ or "")
    for setup, story in (
        (three_nodes, copies_differ_and_one_dies),
        (three_nodes, one_is_asked_that_was_deposed),
        (three_nodes, what_the_dead_have_sent_comes_late),
        (two_nodes, a_list_goes_to_and_fro),
        (three_nodes, one_returns_and_another_dies),
        (three_nodes, one_that_lacks_something_is_left_alone),
        (three_nodes, one_is_back_at_once),
        (three_nodes, keepers_follow_each_other),
        (three_nodes, values_expire),
        (three_nodes, connections_break),
        (three_nodes, a_disk_lies),
    )
}
"""By name."""
