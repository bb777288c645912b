"""A node joins, or leaves, and in one of the phases of that something happens: nothing is lost, and the next try works.

In the simulation, where a phase can be met exactly. After each of these the ring is as it was or as planned, every
acknowledged write is there, counters are exact, what was moved in vain is gone, and another change succeeds.
"""

from collections.abc import Callable, Iterator

import pytest
from ringkeeper.actors.rules.plan import Plan
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.actors.rules.transitions import planned
from ringkeeper.scenarios.play import Scenario, play
from ringkeeper.scenarios.simulated import SimulatedCluster
from ringkeeper.scenarios.simulated_client import Outcome, SimulatedClient
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.scenarios.stage import Stage as ScenarioStage

pytestmark = pytest.mark.stories

KEYS = 120
COUNTERS = 8
PAUSE_SECONDS = 0.01
"""Between two writes of a client."""
PHASES = ("transfer", "switch", "seal")
NEW = "127.0.0.1:7004"


class Stage:
    """Three nodes with data, and clients that write on and on."""

    def __init__(self, seed: int, ecs: int = 1) -> None:
        self.cluster = SimulatedCluster(seed, nodes=3, ecs=ecs)
        self.cluster.run_until(self.cluster.serves, 30)
        self.values: dict[str, str] = {}
        self.maybes: dict[str, set[str]] = {}
        self.counts = dict.fromkeys((f"counter{n}" for n in range(COUNTERS)), 0)
        self.in_doubt = dict.fromkeys(self.counts, 0)
        self.troubles: list[str] = []
        self.writing = True
        self._number = 0
        for name in ("ann", "bob"):
            self._write(self.cluster.client(name), 0)
        self.cluster.run_until(lambda: len(self.values) == KEYS, 30)

    def _write(self, client: SimulatedClient, number: int) -> None:
        """Write the next key, then the one after it, and so on."""
        if not self.writing:
            return
        self._number += 1
        key, value = f"{client.process.name}{number % (KEYS // 2)}", str(self._number)
        counter = f"counter{number % COUNTERS}"

        def counted(outcome: Outcome) -> None:
            self.counts[counter] += outcome.happened == "yes"
            self.in_doubt[counter] += outcome.happened == "maybe"
            client.process.loop.call_later(PAUSE_SECONDS, self._write, client, number + 1)

        def written(outcome: Outcome) -> None:
            if outcome.happened == "yes":
                self.values[key] = value
                self.maybes.pop(key, None)
            else:
                self.troubles.append(f"{key}: {outcome.happened} {outcome.reply}")
                if outcome.happened == "maybe":
                    self.maybes.setdefault(key, set()).add(value)
            client.call(("INCR", counter), counted)

        client.call(("SET", key, value), written)

    def meet(self, phase: str) -> None:
        """Let time pass until the change in flight is in a phase."""

        def met() -> bool:
            change = self.cluster.ring().change  # type: ignore[union-attr]
            return change is not None and change.phase == phase

        self.cluster.run_until(met, 30)

    def remove(self, id: str) -> None:
        asked = self.cluster.execute("127.0.0.1:7001", "RING", "REMOVE", id)
        assert b'"job"' in asked

    def settled(self) -> bool:
        ring = self.cluster.ring()
        assert ring is not None
        return ring.change is None and not ring.queue and self.cluster.serves()

    def settle(self, seconds_max: float = 60) -> None:
        """Let the ring come to rest, and what is foreign be dropped; then compare everything."""
        self.cluster.run_until(self.settled, seconds_max)
        self.cluster.run(1.0)
        self.writing = False
        self.cluster.run(20.0)
        ring = self.cluster.ring()
        assert ring is not None
        for key, value in sorted(self.values.items()):
            self._expect(key, {value, *self.maybes.get(key, ())})
        for counter, count in self.counts.items():
            node = ring.coordinators[slot_of(counter.encode())]
            assert node is not None
            found = int(self.cluster.execute(node.id, "GET", counter))
            assert count <= found <= count + self.in_doubt[counter], (counter, found, count, self.in_doubt[counter])
        for life in self.cluster.nodes():
            held = {slot for slot in range(SLOTS) if life.store.keys_in(slot)}
            own = {slot for run in ring.coordinated_by(life.machine.id) for slot in range(run.first, run.last + 1)}
            assert held <= own, f"{life.machine.id} keeps {len(held - own)} slots that are not its own"

    def _expect(self, key: str, values: set[str]) -> None:
        node = self.cluster.ring().coordinators[slot_of(key.encode())]  # type: ignore[union-attr]
        assert node is not None
        found = self.cluster.execute(node.id, "GET", key)
        assert found is not None and found.decode() in values, f"{key} is {found}, not {values}"

    def outcomes(self) -> list[tuple[str, str]]:
        """How jobs have ended so far."""
        ring = self.cluster.ring()
        assert ring is not None
        return [(write.what.partition(" ")[0], write.outcome) for write in ring.history if write.outcome]

    @property
    def members(self) -> set[str]:
        return {node.id for node in self.cluster.ring().circle}  # type: ignore[union-attr]


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(seed=len(request.node.name))
    yield stage
    stage.cluster.close()


def test_a_node_joins_and_another_leaves_and_no_client_sees_an_error(stage: Stage) -> None:
    stage.cluster.start_node(NEW)
    stage.cluster.run_until(lambda: NEW in stage.members, 30)
    stage.remove("127.0.0.1:7002")
    stage.cluster.run_until(lambda: "127.0.0.1:7002" not in stage.members, 30)
    stage.settle()
    assert not stage.troubles and not any(stage.in_doubt.values())
    assert stage.outcomes() == [("add", "done"), ("remove", "done")]


def test_nodes_that_come_together_join_by_one_change(stage: Stage) -> None:
    for number in (4, 5, 6):
        stage.cluster.start_node(f"127.0.0.1:700{number}")
    stage.cluster.run_until(lambda: len(stage.members) == 6, 30)
    stage.settle()
    assert stage.outcomes() == [("add", "done")] and not stage.troubles


@pytest.mark.parametrize("phase", PHASES)
def test_a_joiner_that_dies_leaves_the_ring_as_it_was_and_joins_when_it_is_back(stage: Stage, phase: str) -> None:
    stage.cluster.start_node(NEW)
    stage.meet(phase)
    stage.cluster.kill(NEW)
    stage.cluster.run_until(lambda: stage.cluster.ring().change is None, 30)  # type: ignore[union-attr]
    assert NEW not in stage.members
    stage.cluster.start_node(NEW)
    stage.cluster.run_until(lambda: NEW in stage.members, 90)
    stage.settle()
    assert stage.outcomes() == [("add", "aborted"), ("add", "done")]


@pytest.mark.parametrize("phase", PHASES)
def test_a_source_that_dies_hands_over_once_it_is_back(stage: Stage, phase: str) -> None:
    stage.cluster.start_node(NEW)
    stage.meet(phase)
    (source,) = {shift.coordinator for shift in _plan(stage).shifts}
    stage.cluster.kill(source)
    stage.cluster.run(1.0)
    stage.cluster.start_node(source)
    stage.cluster.run_until(lambda: NEW in stage.members, 60)
    stage.settle()


@pytest.mark.parametrize("phase", PHASES)
def test_the_next_leader_goes_on_from_the_phase_that_it_reads(phase: str) -> None:
    stage = Stage(seed=len(phase), ecs=2)
    stage.cluster.start_node(NEW)
    stage.meet(phase)
    leader = stage.cluster.leader()
    assert leader is not None
    stage.cluster.kill(leader)
    stage.cluster.run_until(lambda: NEW in stage.members, 60)
    assert stage.outcomes() == [("add", "done")], "the change went on, it was not begun anew"
    stage.cluster.restart(leader)
    stage.settle()
    stage.cluster.close()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("seconds", [1.0, 12.0])
def test_zookeeper_may_be_away_in_any_phase(stage: Stage, phase: str, seconds: float) -> None:
    stage.cluster.start_node(NEW)
    stage.meet(phase)
    stage.cluster.zookeeper_away(seconds)
    stage.cluster.run(seconds)
    stage.cluster.run_until(lambda: NEW in stage.members, 90)
    stage.settle()


@pytest.mark.parametrize("phase", PHASES)
def test_a_cancelled_join_leaves_all_as_it_was_until_somebody_asks_for_the_node(stage: Stage, phase: str) -> None:
    stage.cluster.start_node(NEW)
    stage.meet(phase)
    job = stage.cluster.ring().change.wish.job  # type: ignore[union-attr]
    answer = stage.cluster.execute("127.0.0.1:7001", "RING", "CANCEL", job)
    if NEW in stage.members:  # a seal is over before anybody can cancel it: then it says so
        assert b"no job" in bytes(str(answer), "ascii")
        return
    stage.cluster.run(15.0)
    assert NEW not in stage.members and stage.outcomes()[-1] == ("add", "cancelled")
    assert stage.cluster.node(NEW).store.keys == 0, "what was moved in vain is gone"
    assert b'"job"' in stage.cluster.execute("127.0.0.1:7001", "RING", "ADD", "NODE", NEW)
    stage.cluster.run_until(lambda: NEW in stage.members, 30)
    stage.settle()


def test_a_change_that_is_tried_again_sends_only_the_difference(stage: Stage) -> None:
    stage.cluster.start_node(NEW)
    stage.meet("switch")
    first = stage.cluster.ring().change.epoch  # type: ignore[union-attr]
    (source_id,) = {shift.coordinator for shift in _plan(stage).shifts}
    stage.cluster.kill(NEW)
    stage.writing = False
    stage.cluster.run_until(lambda: stage.cluster.ring().change is None, 30)  # type: ignore[union-attr]
    chunks: list[int] = []
    source = stage.cluster.node(source_id)
    after = source.system.after_message

    def look(actor: object, message: object) -> None:
        if type(actor).__name__ == "Handoff" and actor._change != first:  # type: ignore[attr-defined]
            chunks.append(actor._keys_sent)  # type: ignore[attr-defined]
        if after is not None:
            after(actor, message)  # type: ignore[arg-type]

    source.system.after_message = look
    stage.cluster.start_node(NEW)
    stage.cluster.run_until(lambda: NEW in stage.members, 30)
    moved = stage.cluster.node(NEW).store.keys
    assert moved > 10 and max(chunks) <= moved // 4, f"{max(chunks)} of {moved} keys were sent again"


def test_stopping_the_cluster_in_the_midst_of_a_change_lets_the_change_go_on(stage: Stage) -> None:
    stage.cluster.start_node(NEW)
    stage.meet("transfer")
    stage.writing = False
    assert b'"serving": false' in stage.cluster.execute("127.0.0.1:7001", "RING", "STOP")
    stage.cluster.run_until(lambda: NEW in stage.members, 30)
    refused = stage.cluster.execute("127.0.0.1:7001", "GET", "ann1", seconds_max=1.0)
    assert str(refused).startswith("CLUSTERDOWN The cluster is stopped")
    assert b'"serving": true' in stage.cluster.execute("127.0.0.1:7001", "RING", "START")
    stage.settle()


def test_a_node_that_registered_without_joining_waits_to_be_asked_and_can_be_sent_away() -> None:
    stage = Stage(seed=5)
    stage.cluster._settings["joins"] = False
    stage.cluster.start_node(NEW)
    stage.cluster.run(5.0)
    assert NEW not in stage.members
    assert b'"job"' in stage.cluster.execute("127.0.0.1:7001", "RING", "REMOVE", NEW)
    stage.cluster.run(10.0)
    assert not stage.cluster.node(NEW).process.alive
    stage.settle()
    stage.cluster.close()


def test_a_node_that_left_does_not_come_back_by_itself_on_its_old_folder(stage: Stage) -> None:
    gone = "127.0.0.1:7002"
    stage.remove(gone)
    stage.cluster.run_until(lambda: gone not in stage.members, 30)
    stage.cluster.run(1.0)  # it has read that by then
    stage.cluster.kill(gone)
    stage.cluster.start_node(gone)
    stage.cluster.run(5.0)
    assert gone not in stage.members
    assert b"it has left the ring" in stage.cluster.execute("127.0.0.1:7001", "RING", "STATUS")
    assert b'"job"' in stage.cluster.execute("127.0.0.1:7001", "RING", "ADD", "NODE", gone)
    stage.cluster.run_until(lambda: gone in stage.members, 30)
    stage.settle()


def test_a_node_is_taken_in_though_somebody_asked_in_vain_for_more_nodes_meanwhile(stage: Stage) -> None:
    stage.cluster.start_node(NEW)
    stage.cluster.run(0.5)
    assert b"no launcher" in bytes(str(stage.cluster.execute("127.0.0.1:7001", "RING", "ADD", "COUNT", 1)), "ascii")
    stage.cluster.run_until(lambda: NEW in stage.members, 5)
    stage.settle()


def test_a_joiner_that_nobody_reaches_is_given_up_and_others_have_their_turn(stage: Stage) -> None:
    stage.cluster.start_node(NEW)
    for id in sorted(stage.members):
        stage.cluster.partition(id, NEW)
    stage.meet("transfer")
    stage.remove("127.0.0.1:7002")
    stage.cluster.run_until(lambda: "127.0.0.1:7002" not in stage.members, 60)
    assert stage.outcomes()[:2] == [("add", "aborted"), ("remove", "done")]
    stage.cluster.heal()
    stage.cluster.run_until(lambda: NEW in stage.members, 120)
    stage.settle()


def test_a_node_that_starts_again_and_again_keeps_no_other_from_joining(stage: Stage) -> None:
    other = "127.0.0.1:7005"

    def again() -> None:
        if NEW not in stage.members:
            stage.cluster.restart(NEW)
            stage.cluster.world.loop.call_later(0.7, again)

    stage.cluster.start_node(NEW)
    stage.cluster.start_node(other)
    again()
    stage.cluster.run_until(lambda: other in stage.members, 60)


def test_of_removals_of_all_nodes_the_last_is_given_up_with_the_reason(stage: Stage) -> None:
    for id in sorted(stage.members):
        stage.remove(id)
    stage.cluster.run_until(lambda: len(stage.members) == 1, 30)
    stage.cluster.run(2.0)
    ring = stage.cluster.ring()
    assert ring is not None and not ring.queue and ring.history[-1].outcome == "aborted"
    assert "without a node" in ring.history[-1].why


@pytest.mark.parametrize(
    "words",
    [
        ("CANCEL", "²"),
        ("CANCEL", "1" * 5000),
        ("ADD", "COUNT", "²"),
        ("ADD", "NODE", "127.0.0.1:" + "1" * 5000, "DRYRUN"),
        ("ADD", "NODE", "nonsense", "DRYRUN"),
        ("ADD", *(word for port in range(2000) for word in ("NODE", f"x:{port}")), "PLACE", "even", "DRYRUN"),
        ("REMOVE", "DRYRUN"),
        ("REMOVE", *(f"127.0.0.1:{port}" for port in range(3000))),
        ("RESTART", "x" * 60_000),
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_a_verb_that_makes_no_sense_is_refused_in_words_and_its_ecs_lives_on(words: tuple[str, ...]) -> None:
    cluster = SimulatedCluster(1, nodes=1)
    cluster.run_until(cluster.serves, 30)
    assert str(cluster.execute("127.0.0.1:7001", "RING", *words)).startswith("ERR ")
    assert b'"jobs": []' in cluster.execute("127.0.0.1:7001", "RING", "JOBS")
    cluster.close()


# Whom writes wait for


class Heavy:
    """Three copies of what takes twenty minutes to move, by a limit that stands for much data."""

    KEY = b"{k}"

    def __init__(self, nodes: int = 3, **settings: float) -> None:
        self.cluster = SimulatedCluster(3, nodes=nodes, replicas=3, **settings)  # type: ignore[arg-type]
        self.cluster.run_until(self.cluster.serves, 30)
        self.a, self.b, self.c = (node.id for node in self.ring.lists[slot_of(self.KEY)])
        self.cluster.execute(self.a, "RING", "LIMIT", "BYTES_PER_SECOND", 1000)
        for number in range(6):
            assert self.cluster.execute(self.a, "SET", f"{number}{{k}}", b"v" * 200_000) == b"OK"

    @property
    def ring(self) -> Ring:
        ring = self.cluster.ring()
        assert ring is not None
        return ring

    def changes(self, kind: str) -> bool:
        return self.ring.change is not None and self.ring.change.wish.kind == kind

    def asked(self, *words: str) -> object:
        """What whoever answers for the key says."""
        node = self.ring.coordinators[slot_of(self.KEY)]
        return self.cluster.execute(node.id, *words) if node is not None else None

    def reads(self) -> bool:
        return isinstance(self.asked("GET", "0{k}"), bytes)

    def serves(self) -> bool:
        return self.reads() and self.asked("SET", "{k}", "v") == b"OK"

    def soon(self, condition: Callable[[], bool]) -> bool:
        """Whether it holds within 20 s."""
        for _ in range(20):
            if condition():
                return True
            self.cluster.run(1.0)
        return False


@pytest.mark.parametrize("kind", ["out", "add"])
def test_who_is_back_beside_a_long_change_is_raised_first_if_writes_wait_for_it(kind: str) -> None:
    heavy = Heavy(nodes=4, out_after_seconds=5.0) if kind == "out" else Heavy(out_after_seconds=0)
    with heavy.cluster as cluster:
        cluster.kill(heavy.b)
        if kind == "add":
            cluster.run(1.0)
            cluster.new_node()
        cluster.run_until(lambda: heavy.changes(kind), 30)
        cluster.run(2.0)
        cluster.kill(heavy.c)
        cluster.run(3.0)
        assert not heavy.serves()
        cluster.start_node(heavy.c)
        assert heavy.soon(heavy.serves)
        cluster.run_until(lambda: heavy.changes(kind), 20)


def test_who_comes_back_after_all_had_died_does_not_wait_for_a_node_that_joins() -> None:
    heavy = Heavy(out_after_seconds=0)
    with heavy.cluster as cluster:
        for id in (heavy.a, heavy.b, heavy.c):
            cluster.kill(id)
        cluster.run(5.0)
        cluster.new_node()
        cluster.run(5.0)
        cluster.start_node(heavy.a)
        cluster.run_until(lambda: heavy.changes("add"), 10)
        cluster.run(2.0)
        cluster.start_node(heavy.b)
        cluster.start_node(heavy.c)
        assert heavy.soon(heavy.serves)
        cluster.run_until(lambda: heavy.changes("add"), 20)


@pytest.mark.parametrize("all_had_died", [False, True])
def test_who_lacks_little_does_not_wait_for_who_lacks_everything(all_had_died: bool) -> None:
    heavy = Heavy(out_after_seconds=0)
    with heavy.cluster as cluster:
        cluster.kill(heavy.b)
        if all_had_died:
            cluster.kill(heavy.a)
            cluster.kill(heavy.c)
            cluster.run(10.0)
        cluster.lose_disk(heavy.c)
        cluster.run(3.0)
        for id in (heavy.a, heavy.b, heavy.c)[0 if all_had_died else 1 :]:
            cluster.start_node(id)
        assert heavy.soon(heavy.serves)
        cluster.run_until(lambda: heavy.changes("return"), 20)
        assert heavy.ring.change is not None and heavy.ring.change.wish.ids == (heavy.c,)


@pytest.mark.parametrize("third_is_back", [False, True])
def test_the_only_complete_one_that_is_left_reads_and_waits_for_none_whose_disk_is_lost(third_is_back: bool) -> None:
    heavy = Heavy(out_after_seconds=0)
    with heavy.cluster as cluster:
        cluster.kill(heavy.c)
        cluster.run(3.0)
        assert heavy.asked("SET", "{k}", "late") == b"OK"
        cluster.kill(heavy.a)
        cluster.lose_disk(heavy.b)
        cluster.run(10.0)
        for id in (heavy.a, heavy.b, heavy.c)[: 3 if third_is_back else 2]:
            cluster.start_node(id)
        assert heavy.soon(heavy.reads) and heavy.asked("GET", "{k}") == b"late"
        assert (
            heavy.ring.by_id[heavy.b].state == "returning"
            and (heavy.b, cluster.machines[heavy.b].data_id) not in heavy.ring.left_behind != ()
        )


def test_who_starts_again_and_again_puts_a_change_back_a_few_times_and_no_more() -> None:
    heavy = Heavy(out_after_seconds=0)
    with heavy.cluster as cluster:
        cluster.kill(heavy.b)
        cluster.run(1.0)
        cluster.new_node()
        cluster.run_until(lambda: heavy.changes("add"), 30)
        for _ in range(10):
            cluster.kill(heavy.c)
            cluster.run(3.0)
            cluster.start_node(heavy.c)
            cluster.run(0.5)
        put_back = [write for write in heavy.ring.history if write.what.endswith("put back")]
        assert 1 <= len(put_back) <= 3


def _plan(stage: Stage) -> Plan:
    ring = stage.cluster.ring()
    assert ring is not None
    return planned(ring)


# Another number of copies


@pytest.mark.parametrize("seed", range(1, 4))
def test_copies_are_made_and_given_up_under_load_and_nobody_notices(seed: int) -> None:
    def start(stage: ScenarioStage) -> None:
        stage.start(nodes=4, fsync=stage.random.choice(("everysec", "always")), replicas=1)

    def story(stage: ScenarioStage) -> None:
        load = stage.load(clients=4, keys=20)
        for replicas, min_copies in ((3, 2), (2, 2), (4, 3), (1, 1), (3, 2)):
            stage.wait_for(stage.random.randint(5, 30), load)
            stage.expect(
                stage.wait_for_job(stage.copies(replicas, min_copies)) == "done", f"{replicas} copies are made"
            )
        stage.wait_for(20, load)
        stage.expect(not load.errors, f"no client notices: {load.errors[:1]}")
        stage.kill(stage.random.choice(stage.members()))
        stage.wait_for(60, load)

    played = play(Scenario("copies", start, story, lambda stage: None), SimulatedStage(seed))
    assert played.good, f"{played.failure or played.violations}"
