"""The control service: which ring it writes for which facts, driven by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest
from ringkeeper.actors.ecs import ABSENT_SECONDS_MIN, STEADY_SECONDS, Ecs
from ringkeeper.actors.messages import (
    ChangeReported,
    Figures,
    GatherLoads,
    HandoffProgress,
    HeldRing,
    HeldStamp,
    LoadsGathered,
    PeersHeard,
    ReportFigures,
    RunVerb,
    ShowHeldRing,
    Suspected,
    VerbRun,
    WhichRing,
)
from ringkeeper.actors.rules import paths
from ringkeeper.actors.rules.life import Registration, Stamp
from ringkeeper.actors.rules.placement import Place
from ringkeeper.actors.rules.rebalance import Loads
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.actors.rules.suspicion import REFUSED_SETTLE_SECONDS, Why
from ringkeeper.actors.rules.transitions import planned
from ringkeeper.runtime.election import Deposed, Elected
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.session import (
    Answered,
    ChildrenChanged,
    Connected,
    CreateNode,
    Lost,
    NodeChanged,
    ReadNode,
    SetNode,
    Suspended,
    WatchChildren,
)
from ringkeeper.tests.actors.rules import rings
from ringkeeper.tests.actors.rules.rings import hex64, lost, registration

CLUSTER = "demo"
RING = paths.ring(CLUSTER)
PATIENCE_SECONDS = 6.0


def life(number: int, incarnation: int = 1, held: Stamp | None = None, data: int | None = None) -> Registration:
    return registration(f"127.0.0.1:{7000 + number}", incarnation, held, None if data is None else hex64(data))


def founded_by_others() -> Ring:
    return rings.founded(3)


def name_of(registration: Registration) -> str:
    return str(paths.RegistrationName(registration.id, registration.incarnation, "aa"))


class Stage:
    """An Ecs and a ZooKeeper that is played by hand."""

    def __init__(self, found_with: int = 3, replicas: int = 1, place: Place = "even") -> None:
        self.harness = Harness(
            Ecs, id="ecs-1", cluster_name=CLUSTER, watches="probe:watches", balancer="probe:balancer",
            found_with=found_with, patience_seconds=PATIENCE_SECONDS, replicas=replicas, place=place,
        )  # fmt: skip
        self.data: bytes | None = None
        self.version = -1
        self.lives: dict[str, Registration] = {}
        self.unreadable: dict[str, str] = {}
        self.holds: dict[str, Stamp] = {}
        """Where a node holds another ring than it has registered."""
        self.writes = 0
        self.lock = ""
        self.harness.tell(Connected(session_id=1, timeout_seconds=6.0))
        self.harness.tell(NodeChanged(path=RING, data=None, version=-1))
        self.harness.tell(ChildrenChanged(path=paths.nodes(CLUSTER), names=()))

    def lead(self) -> None:
        self.play(self.harness.tell(Elected(path="", term=1)))

    def register(self, *lives: Registration) -> None:
        self.lives |= {name_of(each): each for each in lives}
        self.registered()

    def vanish(self, *lives: Registration) -> None:
        for each in lives:
            del self.lives[name_of(each)]
        self.registered()

    def registered(self) -> None:
        self.play(self.harness.tell(self.children()))

    def children(self) -> ChildrenChanged:
        return ChildrenChanged(path=paths.nodes(CLUSTER), names=tuple(sorted(self.lives)))

    def put_ring(self, ring: Ring | None) -> None:
        """Somebody else changes the znode of the ring, and it is told."""
        self.data = ring.to_json() if ring is not None else None
        self.version = self.version + 1 if ring is not None else -1
        self.play(self.harness.tell(NodeChanged(path=RING, data=self.data, version=self.version)))

    def connect(self) -> None:
        self.play(self.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))

    def play(self, sent: list[tuple[str, Any]], fault: str = "", faults: int = 0) -> None:
        """Answer as ZooKeeper would, until nothing more is asked; the first answers about the ring are ``fault``."""
        asked = list(sent)
        while asked:
            _, message = asked.pop(0)
            match message:
                case ReadNode() | CreateNode() | SetNode() if faults and message.path == RING:
                    faults -= 1
                    answer = Answered(request=message.request, error=fault, path=RING)
                case ReadNode(path=path) if path == RING:
                    error = "" if self.data is not None else "no_node"
                    answer = Answered(
                        request=message.request, error=error, path=path, data=self.data, version=self.version
                    )
                case ReadNode(path=path) if message.request in self.unreadable:
                    answer = Answered(request=message.request, error=self.unreadable[message.request], path=path)
                case ReadNode(path=path):
                    content = self.lives[path.rpartition("/")[2]].to_json()
                    answer = Answered(request=message.request, path=path, data=content, version=0)
                case WhichRing():
                    asked += self.hold(message.question)
                    continue
                case GatherLoads():
                    loads = Loads(requests=(1,) * 4096 + (0,) * (SLOTS - 4096))
                    asked += self.harness.tell(LoadsGathered(question=message.question, loads=loads))
                    continue
                case WatchChildren():
                    asked += self.harness.tell(self.children())
                    continue
                case CreateNode(path=path) if path == paths.lock(CLUSTER):
                    error = "node_exists" if self.lock else ""
                    self.lock = self.lock or message.data.decode()
                    answer = Answered(request=message.request, error=error, path=path)
                case CreateNode(data=data) if self.data is None:
                    self.data, self.version, self.writes = data, 0, self.writes + 1
                    answer = Answered(request=message.request, path=RING, version=0)
                case SetNode(data=data, version=self.version):
                    self.data, self.version, self.writes = data, self.version + 1, self.writes + 1
                    answer = Answered(request=message.request, path=RING, version=self.version)
                case CreateNode() | SetNode():
                    answer = Answered(request=message.request, error="bad_version", path=RING)
                case _:
                    continue
            asked += self.harness.tell(answer)

    def hold(self, question: int) -> list[tuple[str, Any]]:
        """Every node says which ring it holds: what it has registered, or what ``holds`` says."""
        sent: list[tuple[str, Any]] = []
        for each in self.lives.values():
            stamp = self.holds.get(each.id, each.held)
            said = stamp._asdict() if stamp is not None else {}
            sent += self.harness.tell(HeldStamp(question=question, node=each.id, incarnation=each.incarnation, **said))
        return sent

    def pass_time(self, seconds: float = PATIENCE_SECONDS + 0.1) -> None:
        self.play(self.harness.advance(seconds))

    def report(self, *but: str) -> None:
        """Every coordinator that has a part in the change in flight says that it has reached the end of its phase."""
        ring = self.ring
        assert ring.change is not None
        for id in sorted(planned(ring).sources - set(but)):
            report = ChangeReported(
                node=id, incarnation=ring.by_id[id].incarnation, change=ring.change.epoch, epoch=ring.epoch,
                reached=ring.change.phase, progress=[],
            )  # fmt: skip
            self.play(self.harness.tell(report))

    def walk(self, target: Registration, keys: int) -> None:
        """The first coordinator says how far its walk to a learner has come."""
        ring = self.ring
        assert ring.change is not None
        walk = HandoffProgress(
            handoff="handoff", first=0, last=1, source=life(1).id, target=target.id, keys=keys, state="walking",
            limited=False,
        )  # fmt: skip
        report = ChangeReported(
            node=life(1).id, incarnation=ring.by_id[life(1).id].incarnation, change=ring.change.epoch,
            epoch=ring.epoch, reached=None, progress=[walk],
        )  # fmt: skip
        self.play(self.harness.tell(report))

    def finish(self) -> None:
        """The change in flight goes through all its phases."""
        assert self.ring.change is not None
        epoch = self.ring.change.epoch
        while self.ring.change is not None and self.ring.change.epoch == epoch:
            self.report()

    def states(self) -> dict[int, str]:
        """By the last digit of their ports, the nodes that are not up."""
        return {node.port % 10: node.state for node in self.ring.nodes if node.state != "up"}

    @property
    def ring(self) -> Ring:
        assert self.data is not None
        return Ring.from_json(self.data)

    def status(self) -> dict[str, Any]:
        verb = RunVerb(question=1, verb="STATUS", arguments=(), reply_to=self.harness.probe("gateway"))
        sent = self.harness.tell(verb) + self.harness.advance(1.1)
        self.play([each for each in sent if each[0] != "gateway"])
        (answer,) = [message for name, message in sent if name == "gateway"]
        assert isinstance(answer, VerbRun) and not answer.error
        status: dict[str, Any] = json.loads(answer.text)
        return status

    def ask(self, verb: str, *words: str) -> VerbRun:
        """Ask for something and have it answered, as soon as it is."""
        gateway = self.harness.probe("gateway")
        before = len(self.harness.sent)
        self.play(self.harness.tell(RunVerb(question=7, verb=verb, arguments=words, reply_to=gateway)))
        (answer,) = [message for name, message in self.harness.sent[before:] if name == "gateway"]
        assert isinstance(answer, VerbRun)
        return answer


@pytest.fixture
def stage() -> Any:
    stage = Stage()
    yield stage
    stage.harness.stop()


@pytest.fixture
def copies() -> Any:
    """Three nodes that hold three copies of every slot."""
    stage = Stage(replicas=3)
    stage.lead()
    stage.register(life(1), life(2), life(3))
    stage.pass_time()
    yield stage
    stage.harness.stop()


@pytest.fixture
def founded(stage: Stage) -> Stage:
    stage.lead()
    stage.register(life(1), life(2), life(3))
    assert stage.ring.epoch == 1
    return stage


def test_a_ring_is_founded_when_enough_nodes_have_registered_and_not_before(stage: Stage) -> None:
    stage.lead()
    stage.register(life(1), life(2))
    assert stage.data is None
    stage.register(life(3))
    assert [node.id for node in stage.ring.circle] and {node.state for node in stage.ring.nodes} == {"up"}
    assert len(stage.ring.nodes) == 3 and stage.ring.epoch == 1


def test_who_stands_by_writes_nothing(stage: Stage) -> None:
    stage.register(life(1), life(2), life(3))
    assert stage.data is None
    stage.lead()
    assert stage.ring.epoch == 1
    stage.harness.tell(Deposed(path=""))
    stage.vanish(life(1))
    stage.pass_time()
    assert stage.writes == 1


def test_a_node_that_restarts_is_up_again_in_one_write(founded: Stage) -> None:
    held = founded.ring.stamp
    founded.register(life(2, incarnation=2, held=held))  # the registration of its former life still stands
    assert founded.writes == 2
    assert founded.ring.by_id["127.0.0.1:7002"].incarnation == life(2, incarnation=2).incarnation
    founded.vanish(life(2))
    founded.pass_time()
    assert founded.writes == 2


def test_what_a_former_life_has_left_is_never_taken_for_a_new_one(founded: Stage) -> None:
    held = founded.ring.stamp
    founded.register(life(2, incarnation=2, held=held))
    founded.vanish(life(2, incarnation=2))  # the new life dies first: only the old registration is there
    founded.pass_time()
    node = founded.ring.by_id["127.0.0.1:7002"]
    assert (node.incarnation, node.state) == (life(2, incarnation=2).incarnation, "down")


def test_nodes_gone_together_are_down_by_one_write_and_only_after_patience(founded: Stage) -> None:
    founded.vanish(life(1), life(3))
    assert founded.writes == 1, "nobody is taken for gone so soon after this ECS began to lead"
    founded.pass_time()
    assert founded.writes == 2
    assert {node.id: node.state for node in founded.ring.nodes} == {
        "127.0.0.1:7001": "down", "127.0.0.1:7002": "up", "127.0.0.1:7003": "down",
    }  # fmt: skip
    founded.register(life(1, incarnation=2, held=founded.ring.stamp), life(3, incarnation=2, held=founded.ring.stamp))
    assert founded.writes == 3
    assert {node.state for node in founded.ring.nodes} == {"up"}


def test_who_registers_anew_a_moment_after_its_session_was_lost_stays_up(founded: Stage) -> None:
    founded.pass_time()
    founded.vanish(life(2))
    founded.pass_time(ABSENT_SECONDS_MIN - 0.1)
    founded.register(life(2))
    founded.pass_time()
    assert founded.writes == 1
    founded.vanish(life(2))
    founded.pass_time(ABSENT_SECONDS_MIN - 0.1)
    assert founded.writes == 1, "what was before does not count"
    founded.pass_time(0.2)
    assert founded.ring.by_id["127.0.0.1:7002"].state == "down"


def test_those_whose_sessions_end_one_after_the_other_are_down_by_one_write(founded: Stage) -> None:
    founded.pass_time()
    for place in (1, 2, 3):
        founded.vanish(life(place))
        founded.pass_time(0.2)
    founded.pass_time(ABSENT_SECONDS_MIN)
    assert {node.state for node in founded.ring.circle} == {"down"} and founded.writes == 2


def test_a_timer_that_fires_a_little_early_by_the_clock_is_not_the_last_look_at_who_is_absent(stage: Stage) -> None:
    stage.put_ring(founded_by_others())
    stage.register(life(1), life(2))
    stage.lead()
    stage.harness.actor.now = lambda: stage.harness.loop.time() - 0.001
    stage.pass_time(PATIENCE_SECONDS + 0.1)
    assert stage.ring.by_id["127.0.0.1:7003"].state == "down"


def test_an_absence_begins_anew_with_every_registration_even_one_too_short_to_be_read(founded: Stage) -> None:
    founded.pass_time()
    founded.vanish(life(2))
    founded.pass_time(ABSENT_SECONDS_MIN - 0.1)
    founded.lives[name_of(life(2))] = life(2)
    ((_, read),) = founded.harness.tell(founded.children())
    founded.vanish(life(2))
    founded.play(founded.harness.tell(Answered(request=read.request, error="no_node", path=read.path)))
    founded.pass_time(0.2)
    assert founded.writes == 1


@pytest.mark.parametrize("kind", ["no_auth", "garbage"])
def test_a_registration_that_cannot_be_read_is_said_and_takes_nobody_down(stage: Stage, kind: str) -> None:
    stage.put_ring(founded_by_others())
    stage.lead()
    stage.register(life(1), life(3))
    name = name_of(life(2))
    stage.lives[name] = life(2)
    sent = stage.harness.tell(stage.children())
    (read,) = [message for _, message in sent if isinstance(message, ReadNode)]
    error, data = ("no_auth", None) if kind == "no_auth" else ("", b"{")
    stage.unreadable[name] = "no_auth"
    stage.play(stage.harness.tell(Answered(request=read.request, error=error, path=read.path, data=data)))
    stage.pass_time()
    assert stage.writes == 0
    assert "cannot be read" in stage.status()["refused"]["127.0.0.1:7002"]


def test_after_a_write_of_unknown_outcome_the_ring_is_read_and_memory_not_believed(founded: Stage) -> None:
    lost = life(2, incarnation=2, held=founded.ring.stamp)
    founded.lives[name_of(lost)] = lost
    sent = founded.harness.tell(ChildrenChanged(path=paths.nodes(CLUSTER), names=tuple(sorted(founded.lives))))
    founded.play(sent[:1])  # the registration is read, and the write it calls for is sent
    (write,) = [message for _, message in founded.harness.sent if isinstance(message, SetNode)]
    founded.play([("watches", write)])  # it was done...
    assert founded.writes == 2
    founded.play(founded.harness.tell(Answered(request="write ring", error="connection_loss", path=RING)))
    founded.pass_time()
    assert founded.writes == 2, "...so nothing is left to write"


def test_a_ring_that_somebody_else_wrote_meanwhile_is_not_overwritten(founded: Stage) -> None:
    founded.version += 5  # another leader's writes, not seen yet
    founded.register(life(2, incarnation=2, held=founded.ring.stamp))
    assert founded.version == 6, "the compare-and-set failed, the ring was read again and the next one written on it"
    assert founded.ring.by_id["127.0.0.1:7002"].incarnation == life(2, incarnation=2).incarnation


def test_without_a_session_nothing_is_written(founded: Stage) -> None:
    founded.harness.tell(Suspended())
    back = life(2, incarnation=2, held=founded.ring.stamp)
    founded.lives[name_of(back)] = back
    founded.pass_time()
    assert founded.writes == 1
    founded.connect()
    assert founded.writes == 2


def test_who_registered_while_the_connection_was_away_is_not_taken_for_gone(stage: Stage) -> None:
    stage.put_ring(founded_by_others())
    stage.lead()
    stage.harness.tell(Suspended())
    stage.lives |= {name_of(each): each for each in (life(1), life(2), life(3))}
    stage.pass_time()
    sent = stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0))
    asked = {type(message) for _, message in sent if getattr(message, "path", "") != paths.lock(CLUSTER)}
    assert asked == {WatchChildren, ReadNode}, "it looks when both are answered"
    stage.play(sent[::-1])
    stage.pass_time()
    assert stage.writes == 0


@pytest.mark.parametrize("lost", [False, True])
def test_a_leader_takes_the_lock_again_only_where_its_session_is_over(founded: Stage, lost: bool) -> None:
    founded.pass_time()
    assert founded.lock
    if lost:
        founded.lock = ""
    founded.harness.tell(Lost() if lost else Suspended())
    before = len(founded.harness.sent)
    founded.play(founded.harness.tell(Connected(session_id=2 if lost else 1, timeout_seconds=6.0)))
    founded.pass_time(5.0)
    asked = [each for _, each in founded.harness.sent[before:] if getattr(each, "path", "") == paths.lock(CLUSTER)]
    assert len(asked) == lost and founded.lock


def test_everybody_has_time_to_come_back_after_the_connection_was_away(founded: Stage) -> None:
    founded.pass_time()
    founded.harness.tell(Suspended())
    founded.lives.clear()
    founded.connect()
    founded.pass_time(PATIENCE_SECONDS - 0.5)
    assert founded.writes == 1
    founded.pass_time(1.0)
    assert founded.writes == 2


def test_while_disconnected_nothing_is_asked_again_and_again(stage: Stage) -> None:
    stage.lead()
    stage.unreadable = dict.fromkeys(map(name_of, (life(1), life(2), life(3))), "connection_loss")
    stage.register(life(1), life(2), life(3))
    stage.harness.tell(Suspended())
    assert stage.harness.advance(60.0) == []


def test_a_ring_that_could_not_be_read_after_a_write_is_read_when_the_connection_is_back(founded: Stage) -> None:
    lost = life(2, incarnation=2, held=founded.ring.stamp)
    founded.lives[name_of(lost)] = lost
    names = tuple(sorted(founded.lives))
    founded.play(founded.harness.tell(ChildrenChanged(path=paths.nodes(CLUSTER), names=names)), "connection_loss", 2)
    assert founded.writes == 1 and founded.harness.actor._version is None
    founded.harness.tell(Suspended())
    founded.play(founded.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))
    assert founded.writes == 2
    assert founded.ring.by_id["127.0.0.1:7002"].incarnation == lost.incarnation


def test_a_read_that_failed_is_tried_again_though_nothing_else_happens(founded: Stage) -> None:
    lost = life(2, incarnation=2, held=founded.ring.stamp)
    founded.lives[name_of(lost)] = lost
    names = tuple(sorted(founded.lives))
    founded.play(founded.harness.tell(ChildrenChanged(path=paths.nodes(CLUSTER), names=names)), "connection_loss", 2)
    founded.pass_time(1.1)
    assert founded.writes == 2


def test_no_ring_is_founded_over_data_that_belongs_to_a_lost_one(stage: Stage) -> None:
    stage.lead()
    held = Stamp("00000000000000aa", 7, "00000000000000bb")
    stage.register(life(1, held=held), life(2, held=held), life(3, held=held))
    assert stage.data is None
    assert "ring lost" in stage.status()["trouble"]


def test_what_a_node_has_taken_since_it_registered_is_known_before_a_ring_is_founded(stage: Stage) -> None:
    stage.register(life(1), life(2), life(3))  # read while it stands by; then a ring comes and goes, unseen
    held = Stamp("00000000000000aa", 1, "00000000000000bb")
    stage.lives[name_of(life(2))] = life(2, held=held)
    stage.lead()
    stage.pass_time()
    assert stage.data is None
    assert "ring lost" in stage.status()["trouble"]


def test_no_ring_is_founded_while_a_registration_cannot_be_read(stage: Stage) -> None:
    stage.lead()
    stage.unreadable[name_of(life(4))] = "no_auth"
    stage.register(life(1), life(2), life(3), life(4))
    assert stage.data is None
    assert "127.0.0.1:7004" in stage.status()["trouble"]
    stage.unreadable.clear()
    stage.registered()
    assert len(stage.ring.nodes) == 4


def test_a_ring_that_vanishes_is_lost_and_not_founded_anew(founded: Stage) -> None:
    ring = founded.ring
    founded.put_ring(None)  # no node has said yet that it holds it
    founded.register(life(4))
    founded.pass_time()
    assert founded.data is None and founded.writes == 1
    assert "ring lost" in founded.status()["trouble"]
    founded.put_ring(ring)
    assert founded.status()["trouble"] is None
    founded.vanish(life(1))
    founded.pass_time()
    assert founded.ring.by_id["127.0.0.1:7001"].state == "down"


@pytest.mark.parametrize("kind", ["older", "forked", "another cluster's"])
def test_a_ring_that_does_not_descend_from_the_one_read_before_is_not_written_on(founded: Stage, kind: str) -> None:
    first = founded.ring
    founded.register(life(2, incarnation=2, held=first.stamp))
    newest = founded.ring
    bad = {
        "older": first,
        "forked": lost(lost(first, life(1).id), life(2).id),
        "another cluster's": founded_by_others(),
    }[kind]
    founded.put_ring(bad)
    founded.vanish(life(3))
    founded.pass_time()
    assert founded.ring == bad and founded.writes == 2
    assert kind in founded.status()["trouble"] or "rolled back" in founded.status()["trouble"]
    founded.put_ring(newest)
    founded.pass_time()
    assert founded.writes == 3 and founded.status()["trouble"] is None


def test_a_node_of_another_branch_stops_the_writes_though_its_ring_is_the_older_one(founded: Stage) -> None:
    for incarnation in range(2, 6):
        founded.register(life(1, incarnation=incarnation, held=founded.ring.stamp))
    assert founded.ring.epoch == 5
    forked = founded.ring.stamp._replace(epoch=2, nonce="00000000000000cc")
    founded.register(life(2, incarnation=2, held=forked))
    founded.pass_time()
    assert founded.ring.epoch == 5
    assert "does not descend" in founded.status()["trouble"]


def test_a_life_from_a_backup_is_refused_with_what_that_means(founded: Stage) -> None:
    founded.vanish(life(2))
    founded.register(life(2, incarnation=0))
    founded.pass_time()
    assert founded.ring.by_id["127.0.0.1:7002"].state == "down"
    assert "backup" in founded.status()["refused"]["127.0.0.1:7002"]
    founded.register(life(2, incarnation=3, held=founded.ring.stamp))
    assert founded.status()["refused"] == {}


def test_an_ecs_that_meets_a_newer_ring_on_a_node_writes_nothing(founded: Stage) -> None:
    ahead = founded.ring.stamp._replace(epoch=9, nonce="00000000000000cc")
    founded.register(life(2, incarnation=2, held=ahead))
    assert founded.writes == 1
    assert "rolled back" in founded.status()["trouble"]


def test_an_unreadable_ring_is_left_alone(founded: Stage) -> None:
    founded.data, founded.version = b"{nonsense", 4
    founded.play(founded.harness.tell(NodeChanged(path=RING, data=founded.data, version=founded.version)))
    founded.vanish(life(1))
    founded.pass_time()
    assert founded.writes == 1
    assert "cannot be read" in founded.status()["trouble"]


def test_an_exchanged_data_directory_is_refused_and_said(founded: Stage) -> None:
    founded.vanish(life(2))
    founded.register(life(2, incarnation=0, data=99))
    founded.pass_time()
    assert founded.ring.by_id["127.0.0.1:7002"].state == "down"
    assert "data directory" in founded.status()["refused"]["127.0.0.1:7002"]


def test_a_node_that_is_not_in_the_ring_waits_and_is_listed(founded: Stage) -> None:
    founded.register(life(4))
    assert founded.writes == 1
    assert founded.status()["waiting"] == ["127.0.0.1:7004"]


def test_status_has_the_figures_of_who_answers_and_says_who_does_not(founded: Stage) -> None:
    founded.harness.sent.clear()
    verb = RunVerb(question=5, verb="STATUS", arguments=(), reply_to=founded.harness.probe("gateway"))
    questions = [m for _, m in founded.harness.tell(verb) if isinstance(m, ReportFigures)]
    assert len(questions) == 3
    figures = Figures(
        question=questions[0].question, node="127.0.0.1:7001", incarnation=life(1).incarnation, pid=42, epoch=1,
        keys=7, bytes=70, commands=1, writes=1, refused=0, synced=True,
    )  # fmt: skip
    founded.harness.tell(figures)
    (answer,) = [m for name, m in founded.harness.advance(1.1) if name == "gateway"]
    status = json.loads(answer.text)
    assert (status["epoch"], status["leader"], status["serving"], status["change"]) == (1, "ecs-1", True, None)
    by_id = {node["id"]: node for node in status["nodes"]}
    assert (by_id["127.0.0.1:7001"]["keys"], by_id["127.0.0.1:7001"]["pid"]) == (7, 42)
    assert by_id["127.0.0.1:7002"]["reachable"] is False
    assert sum(node["slots"] for node in status["nodes"]) == 16384


def test_figures_of_a_life_that_the_ring_does_not_name_are_not_shown(founded: Stage) -> None:
    verb = RunVerb(question=5, verb="STATUS", arguments=(), reply_to=founded.harness.probe("gateway"))
    question = next(m for _, m in founded.harness.tell(verb) if isinstance(m, ReportFigures)).question
    figures = Figures(
        question=question, node="127.0.0.1:7001", incarnation=life(1, incarnation=2).incarnation, pid=43, epoch=1,
        keys=7, bytes=70, commands=1, writes=1, refused=0, synced=True,
    )  # fmt: skip
    founded.harness.tell(figures)
    (answer,) = [m for name, m in founded.harness.advance(1.1) if name == "gateway"]
    assert not any(node["reachable"] for node in json.loads(answer.text)["nodes"])


def test_who_does_not_lead_answers_no_verb(stage: Stage) -> None:
    verb = RunVerb(question=5, verb="STATUS", arguments=(), reply_to=stage.harness.probe("gateway"))
    ((_, answer),) = stage.harness.tell(verb)
    assert answer.error.startswith("TRYAGAIN")


def test_an_unknown_verb_is_refused_with_its_name(stage: Stage) -> None:
    stage.lead()
    verb = RunVerb(question=5, verb="DANCE", arguments=(), reply_to=stage.harness.probe("gateway"))
    ((_, answer),) = stage.harness.tell(verb)
    assert "DANCE" in answer.error


def suspected(ring: Ring, by: str, of: str, why: Why = "silent", behind: bool = False) -> Suspected:
    lives = {node.id: node.incarnation for node in ring.nodes}
    said = {"node": of, "incarnation": lives[of], "by": by, "by_incarnation": lives[by]}
    return Suspected(**said, why=why, seconds=4.0, behind=behind)


@pytest.mark.parametrize("away", [Suspended(), Lost()], ids=["suspended", "lost"])
def test_who_may_not_have_read_the_ring_yet_is_given_the_time_to_when_zookeeper_is_back(
    copies: Stage, away: object
) -> None:
    one, other, third = (life(number).id for number in (1, 2, 3))
    copies.harness.tell(away)
    copies.connect()
    for _ in range(int(PATIENCE_SECONDS)):
        copies.pass_time(0.9)
        copies.play(copies.harness.tell(suspected(copies.ring, one, other, why="stream", behind=True)))
    assert copies.states() == {}
    copies.pass_time(1.0)
    assert copies.states() == {2: "down"}


@pytest.mark.parametrize("behind", [False, True])
def test_who_has_read_the_ring_or_had_the_time_to_goes_at_once_if_it_does_not_acknowledge(
    copies: Stage, behind: bool
) -> None:
    copies.pass_time(PATIENCE_SECONDS if behind else 1.0)
    copies.play(copies.harness.tell(suspected(copies.ring, life(1).id, life(2).id, "stream", behind=behind)))
    copies.pass_time(1.0)
    assert copies.states() == {2: "down"}


def test_a_connection_of_the_leader_that_breaks_often_excuses_nobody_for_ever(copies: Stage) -> None:
    copies.pass_time(PATIENCE_SECONDS)
    for _ in range(5):
        if copies.states():
            break
        copies.harness.tell(Suspended())
        copies.connect()
        for _ in range(int(PATIENCE_SECONDS - 1)):
            copies.play(copies.harness.tell(suspected(copies.ring, life(1).id, life(2).id, "stream", behind=True)))
            copies.pass_time(0.9)
    assert copies.states() == {2: "down"}


def test_a_process_on_another_directory_does_not_take_the_place_of_the_one_that_is_up(copies: Stage) -> None:
    other = replace(life(2, data=77), incarnation="f" * 16)
    copies.register(other)
    copies.pass_time()
    assert copies.states() == {} and copies.ring.by_id[other.id].data_id == life(2).data_id
    assert "two processes go by this name" in copies.status()["refused"][other.id]
    copies.vanish(other)
    copies.pass_time(1.0)
    assert not copies.status()["refused"]


def test_a_node_that_could_not_be_raised_goes_first_again_after_a_while() -> None:
    stage = Stage(found_with=5, replicas=2)
    stage.lead()
    stage.register(*map(life, range(1, 6)))
    stage.pass_time(70.0)
    stage.vanish(life(2))
    stage.pass_time(1.0)
    stage.register(life(2, incarnation=2, held=stage.ring.stamp), life(6))
    stage.ask("ADD", "NODE", life(6).id)
    stage.report()
    stage.report()
    stage.pass_time(5.2)

    def in_flight() -> str:
        return stage.ring.change.wish.kind if stage.ring.change is not None else ""

    assert in_flight() == "add", "the seal lasted for too long"
    times = 0
    while in_flight() == "add" and times < 50:
        times += 1
        stage.walk(life(6), keys=times)
        stage.pass_time(5.0)
    assert in_flight() == "return" and STEADY_SECONDS - 10.0 <= 5.0 * times <= STEADY_SECONDS + 10.0
    stage.harness.stop()


def test_what_one_node_suspects_is_shown_and_takes_nobody_down(founded: Stage) -> None:
    one, other, third = (life(number).id for number in (1, 2, 3))
    founded.harness.tell(suspected(founded.ring, one, other))
    founded.harness.tell(PeersHeard(by=one, by_incarnation=hex64(1), phi=[(other, 17.5), (third, 0.3)]))
    founded.harness.tell(PeersHeard(by="127.0.0.1:7009", by_incarnation=hex64(1), phi=[(other, 99.0)]))
    shown = {n["id"]: (n["suspected_by"], n["phi"]) for n in founded.status()["nodes"]}
    assert shown == {one: ([], {}), other: ([one], {one: 17.5}), third: ([], {one: 0.3})}
    assert founded.writes == 1
    founded.harness.tell(suspected(founded.ring, one, other, why=""))
    assert not any(n["suspected_by"] for n in founded.status()["nodes"])


def test_who_is_refused_by_two_is_taken_down_though_it_is_registered(founded: Stage) -> None:
    one, other, third = (life(number).id for number in (1, 2, 3))
    founded.harness.tell(suspected(founded.ring, one, other, why="refused"))
    founded.play(founded.harness.tell(suspected(founded.ring, third, other, why="refused")))
    founded.pass_time(2 * REFUSED_SETTLE_SECONDS)
    assert founded.writes == 2
    assert {node.id: node.state for node in founded.ring.nodes} == {one: "up", other: "down", third: "up"}
    assert founded.ring.history[-1].why == f"{other} has ended, say {one} and {third}"
    founded.pass_time(10.0)
    assert founded.writes == 2


def test_suspicions_go_with_the_life_that_they_are_about_and_with_the_life_that_had_them(founded: Stage) -> None:
    ids = [node.id for node in founded.ring.nodes]
    past = founded.ring
    for by, of in ((ids[0], ids[1]), (ids[1], ids[2]), (ids[2], ids[0])):
        founded.harness.tell(suspected(past, by, of))
    number = int(ids[1][-1])
    founded.register(life(number, incarnation=2, held=founded.ring.stamp))
    founded.harness.tell(suspected(past, ids[0], ids[1]))
    founded.harness.tell(suspected(past, ids[1], ids[2]))
    assert {n["id"]: n["suspected_by"] for n in founded.status()["nodes"]} == {
        ids[0]: [ids[2]], ids[1]: [], ids[2]: [],
    }  # fmt: skip


# Lists of several copies


def again(stage: Stage, number: int, incarnation: int = 2) -> Registration:
    """The node's next life, on the directory that holds the newest ring."""
    return life(number, incarnation=incarnation, held=stage.ring.stamp)


def test_a_node_that_is_back_is_returning_and_is_raised_by_a_change_of_its_own(copies: Stage) -> None:
    copies.vanish(life(2))
    copies.pass_time(1.0)
    assert copies.states() == {2: "down"} and copies.ring.trouble == ()
    copies.register(again(copies, 2))
    assert copies.states() == {2: "returning"}
    change = copies.ring.change
    assert change is not None and str(change) == "return 127.0.0.1:7002" and change.wish not in copies.ring.queue
    assert {transfer.target for transfer in planned(copies.ring).transfers} == {"127.0.0.1:7002"}
    copies.finish()
    assert copies.states() == {} and copies.ring.change is None
    assert copies.ring.history[-1].outcome == "done"


def test_a_new_life_of_one_that_is_up_is_its_death_at_once_even_while_a_change_is_in_flight(copies: Stage) -> None:
    copies.register(life(4))
    copies.pass_time(2.1)
    assert str(copies.ring.change) == "add 127.0.0.1:7004"
    copies.register(again(copies, 3))
    assert copies.states() == {3: "returning"}
    assert str(copies.ring.change) == "return 127.0.0.1:7003", "who is back goes before those who wait"
    assert [str(wish) for wish in copies.ring.queue] == ["add 127.0.0.1:7004"]
    copies.finish()
    assert str(copies.ring.change) == "add 127.0.0.1:7004"


def test_who_would_take_reads_away_joins_when_who_is_down_is_back_and_it_is_said_why() -> None:
    stage = Stage(replicas=2)
    stage.lead()
    stage.register(life(1), life(2), life(3))
    stage.pass_time()
    gone = int(stage.ring.circle[-1].id[-1])
    stage.vanish(life(gone))
    stage.register(life(4))
    stage.pass_time(5.0)
    assert stage.states() == {gone: "down"} and stage.ring.change is None
    assert f"without 127.0.0.1:{7000 + gone}, which is down" in stage.status()["refused"]["127.0.0.1:7004"]
    stage.register(again(stage, gone))
    stage.finish()
    assert stage.states() == {} and str(stage.ring.change) == "add 127.0.0.1:7004"
    assert stage.status()["refused"] == {}
    stage.harness.stop()


def test_one_that_is_down_and_back_waits_for_the_end_of_the_change_in_flight(copies: Stage) -> None:
    copies.vanish(life(2))
    copies.pass_time(1.0)
    copies.register(life(4))
    copies.pass_time(2.1)
    assert str(copies.ring.change) == "add 127.0.0.1:7004"
    epoch = copies.ring.epoch
    copies.register(again(copies, 2))
    assert copies.ring.epoch == epoch
    copies.finish()
    assert copies.states() == {2: "returning"} and str(copies.ring.change) == "return 127.0.0.1:7002"


def test_a_returning_node_that_dies_is_down_and_the_change_that_was_to_raise_it_ends(copies: Stage) -> None:
    copies.vanish(life(2))
    copies.pass_time(1.0)
    copies.register(again(copies, 2))
    copies.vanish(again(copies, 2))
    copies.lives = {name: each for name, each in copies.lives.items() if each.id != "127.0.0.1:7002"}
    copies.registered()
    copies.pass_time(1.0)
    assert copies.states() == {2: "down"} and copies.ring.change is None and copies.ring.queue == ()


def test_who_dies_again_and_again_is_raised_later_and_later_until_it_was_up_for_a_while(copies: Stage) -> None:
    for incarnation, seconds in ((2, 0.0), (3, 1.0), (4, 2.0), (5, 4.0)):
        copies.register(again(copies, 2, incarnation))
        assert copies.states() == {2: "returning"}
        if seconds:
            assert copies.ring.change is None
            copies.pass_time(seconds - 0.1)
            assert copies.ring.change is None
            copies.pass_time(0.2)
        copies.finish()
        assert copies.states() == {}
    copies.pass_time(STEADY_SECONDS)
    copies.register(again(copies, 2, 6))
    assert copies.ring.change is not None


def test_when_all_are_gone_the_first_complete_one_is_keeper_and_then_up_and_the_others_follow(copies: Stage) -> None:
    copies.vanish(life(1), life(2), life(3))
    copies.pass_time(1.0)
    assert copies.states() == {1: "down", 2: "down", 3: "down"}
    copies.register(again(copies, 2))
    assert any(write.what.startswith("kept: 0-5460 by 127.0.0.1:7002, 5461-") for write in copies.ring.history)
    assert copies.states() == {1: "down", 3: "down"}, "it learns from nobody, so no coordinator is waited for"
    assert copies.ring.trouble and copies.ring.unsettled("127.0.0.1:7002"), "others might keep it instead"
    copies.register(again(copies, 1), again(copies, 3))
    copies.finish()
    assert copies.states() == {} and copies.ring.trouble == ()


def test_with_copies_an_exchanged_data_directory_is_filled_by_the_others(copies: Stage) -> None:
    copies.vanish(life(2))
    copies.pass_time(1.0)
    copies.register(life(2, incarnation=0, data=99))
    assert copies.ring.by_id["127.0.0.1:7002"].data_id == hex64(99)
    copies.finish()
    assert copies.states() == {}


def cut(stage: Stage, *numbers: int, incarnation: int = 2) -> tuple[Registration, ...]:
    """Next lives of nodes on machines that have lost power."""
    return tuple(replace(again(stage, number, incarnation), whole=False) for number in numbers)


def answered(stage: Stage, highest: dict[int, tuple[int, int]]) -> int:
    """These nodes say how much they hold of what they are asked; how many are asked in all."""
    asked = [m for _, m in stage.harness.sent if isinstance(m, ReportFigures)]
    stage.harness.sent.clear()
    for number, said in highest.items():
        figures = Figures(
            question=asked[-1].question, node=life(number).id, incarnation=life(number, incarnation=2).incarnation,
            pid=42, epoch=1, keys=7, bytes=70, commands=1, writes=1, refused=0, synced=True,
            highest=[said] * len(asked[-1].runs),
        )  # fmt: skip
        stage.play(stage.harness.tell(figures))
    stage.pass_time(0.1)
    return len(asked)


def test_after_a_power_cut_all_complete_members_are_waited_for_and_the_one_that_holds_most_is_keeper(
    copies: Stage,
) -> None:
    copies.vanish(life(1), life(2), life(3))
    copies.pass_time(1.0)
    copies.register(*cut(copies, 1, 2))
    copies.pass_time(10.0)
    assert copies.states() == {1: "returning", 2: "returning", 3: "down"} and copies.ring.change is None
    copies.harness.sent.clear()
    copies.register(*cut(copies, 3))
    assert answered(copies, {1: (3, 5), 2: (3, 9), 3: (3, 1)}) == 3
    assert {each.keeper for each in copies.ring.trouble} == {"127.0.0.1:7002"}
    copies.finish()
    assert copies.states() == {} and copies.ring.trouble == ()


def test_after_a_power_cut_who_does_not_come_back_is_not_waited_for_for_ever(copies: Stage) -> None:
    copies.vanish(life(1), life(2), life(3))
    copies.pass_time(1.0)
    copies.register(*cut(copies, 1))
    copies.pass_time(59.0)
    assert not any(each.keeper for each in copies.ring.trouble) and copies.ring.by_id[life(1).id].state == "returning"
    copies.pass_time(1.1)
    assert copies.ring.by_id[life(1).id].state == "up"


def test_a_whole_member_that_comes_while_others_are_waited_for_is_keeper_at_once(copies: Stage) -> None:
    copies.vanish(life(1), life(2), life(3))
    copies.pass_time(1.0)
    copies.register(*cut(copies, 1))
    copies.register(again(copies, 3))
    assert {each.keeper for each in copies.ring.trouble} == {life(3).id}


# A ring that ZooKeeper has lost


def held(stage: Stage, ring: Ring, *numbers: int) -> list[VerbRun]:
    """These nodes say that they hold this ring; what is answered then, or when time is up."""
    (question,) = {m.question for _, m in stage.harness.sent if isinstance(m, ShowHeldRing)}
    stage.harness.sent.clear()
    for number in numbers:
        said = HeldRing(
            question=question, node=life(number).id, incarnation=life(number).incarnation, ring=ring.to_json()
        )
        stage.play(stage.harness.tell(said))
    stage.pass_time(1.1)
    return [message for name, message in stage.harness.sent if name == "gateway" and isinstance(message, VerbRun)]


def restore(stage: Stage, *words: str) -> None:
    verb = RunVerb(question=7, verb="RESTORE", arguments=words, reply_to=stage.harness.probe("gateway"))
    stage.play(stage.harness.tell(verb))


@pytest.mark.parametrize("there", ["an older one", "none"])
def test_a_lost_ring_is_written_back_when_somebody_says_so_and_all_begin_a_new_life_under_it(
    copies: Stage, there: str
) -> None:
    old = copies.ring
    copies.vanish(life(3))
    copies.pass_time(1.0)
    newest = copies.ring
    copies.put_ring(old if there == "an older one" else None)
    assert "ringkeeper ring restore" in copies.status()["trouble"]
    copies.register(life(3))

    restore(copies)
    (refused,) = held(copies, newest, 1, 2)
    assert refused.error.startswith(f"ERR nothing was written: {life(3).id} has not said what it holds in its own data")
    assert copies.data == (old.to_json() if there == "an older one" else None)

    restore(copies, "DRYRUN")
    (shown,) = held(copies, newest, 1, 2)
    assert json.loads(shown.text)["unheard"] == [life(3).id] and copies.status()["trouble"]

    restore(copies, "AcceptLoss")
    (done,) = held(copies, newest, 1, 2)
    assert json.loads(done.text)["epoch"] == newest.epoch + 1000
    assert copies.ring.epoch == newest.epoch + 1000 and copies.states() == dict.fromkeys((1, 2, 3), "down")
    assert "LOSS ACCEPTED" in copies.ring.history[-1].why and not copies.status()["trouble"]
    copies.register(again(copies, 1), again(copies, 2))
    assert all(each.keeper for each in copies.ring.trouble)
    copies.finish()
    assert copies.states() == {3: "down"}


def test_a_ring_that_is_not_lost_is_not_written_back(copies: Stage) -> None:
    before = copies.data
    restore(copies)
    (refused,) = held(copies, copies.ring, 1, 2, 3)
    assert "nothing is lost" in refused.error and copies.data == before


def test_what_becomes_another_ring_while_the_nodes_are_asked_is_not_overwritten(copies: Stage) -> None:
    old, copies.version = copies.ring, 7
    copies.vanish(life(3))
    copies.pass_time(1.0)
    newest = copies.ring
    copies.put_ring(old)
    restore(copies)
    copies.version += 1
    assert [each.error[:8] for each in held(copies, newest, 1, 2, 3)] in (["TRYAGAIN"], ["ERR noth"])
    assert copies.ring == old


def test_a_leader_that_has_read_nothing_newer_asks_who_holds_what_before_it_writes() -> None:
    old = rings.founded(3, replicas=3)
    newest = lost(old, life(3).id)
    stage = Stage(replicas=3)
    stage.put_ring(old)
    stage.register(*(life(number, held=old.stamp) for number in (1, 2, 3)))
    stage.holds[life(1).id] = newest.stamp  # it is not connected to this ZooKeeper yet
    stage.lead()
    stage.vanish(life(3))
    stage.pass_time()
    assert stage.ring == old
    assert f"held by {life(1).id}" in stage.status()["trouble"]
    stage.harness.stop()


# Planned restarts


def test_a_planned_restart_takes_the_node_down_in_order_and_it_comes_back_by_itself(copies: Stage) -> None:
    answer = copies.ask("RESTART", life(2).id)
    assert json.loads(answer.text) == {"job": copies.ring.epoch - 1, "node": life(2).id}
    plan = planned(copies.ring)
    assert not plan.transfers and {shift.coordinator for shift in plan.shifts} == {life(2).id}
    assert all(shift.sealed for shift in plan.shifts), "nobody learns anything, but another will answer"
    lists = copies.ring.lists
    copies.finish()
    assert copies.states() == {2: "down"} and copies.ring.trouble == ()
    assert [[node.id for node in row] for row in copies.ring.lists] == [[node.id for node in row] for row in lists]
    copies.register(again(copies, 2))
    assert str(copies.ring.change) == f"return {life(2).id}"
    copies.finish()
    assert copies.states() == {}


def test_a_planned_restart_is_refused_where_too_few_copies_would_be_up_and_can_be_forced(copies: Stage) -> None:
    copies.vanish(life(3))
    copies.pass_time(1.0)
    epoch = copies.ring.epoch
    refused = copies.ask("RESTART", life(2).id)
    assert "too few copies of them would be up. FORCE" in refused.error and copies.ring.epoch == epoch
    assert "no launcher" in copies.ask("RESTART", life(2).id, "FORCE").error
    assert "is down" in copies.ask("RESTART", life(3).id).error


def test_a_planned_restart_that_cannot_be_any_more_is_given_up_and_does_not_happen_later(copies: Stage) -> None:
    copies.ask("RESTART", life(2).id)
    copies.vanish(life(3))
    copies.pass_time(1.0)
    assert copies.ring.change is None and copies.ring.queue == () and copies.states() == {3: "down"}
    assert copies.ring.history[-1].outcome == "aborted"


# Lists that nobody answers for


def test_the_status_names_the_lists_in_trouble_and_who_could_help(copies: Stage) -> None:
    assert copies.status()["lists_in_trouble"] == []
    copies.vanish(life(1), life(2), life(3))
    copies.pass_time(1.0)
    (first, *_) = copies.status()["lists_in_trouble"]
    assert first == {
        "slots": "0-5460", "complete": {life(n).id: "down" for n in (1, 2, 3)}, "keeper": None, "coordinator": None,
        "up": [], "copies_needed": 2,
    }  # fmt: skip


def test_with_the_loss_accepted_a_list_goes_on_with_what_one_member_holds(copies: Stage) -> None:
    for gone in (life(3), life(2), life(1)):  # so the first two were the last complete ones
        copies.vanish(gone)
        copies.pass_time(1.0)
    copies.register(again(copies, 3))
    copies.pass_time(100.0)
    assert copies.states()[3] == "returning" and copies.ring.change is None
    epoch = copies.ring.epoch
    shown = json.loads(copies.ask("RECOVER", life(3).id, "DRYRUN").text)
    assert shown["lists"][0]["complete"] == {life(1).id: "down", life(2).id: "down"} and copies.ring.epoch == epoch
    assert "is down" in copies.ask("RECOVER", life(2).id).error
    assert not copies.ask("RECOVER", life(3).id).error
    assert any(write.what.startswith("LOSS ACCEPTED: slots 0-5460, ") for write in copies.ring.history)
    assert copies.ring.by_id[life(3).id].state == "up"
    assert "nothing is to be recovered" in copies.ask("RECOVER", life(3).id).error


# Those that do not come back, and other changes with copies


@pytest.fixture
def five() -> Any:
    """Five nodes that hold three copies of every slot; who is down for 30 s is given up."""
    stage = Stage(found_with=5, replicas=3)
    stage.lead()
    stage.register(*map(life, range(1, 6)))
    stage.pass_time()
    yield stage
    stage.harness.stop()


def away(stage: Stage, *numbers: int) -> None:
    stage.vanish(*map(life, numbers))
    stage.pass_time(0.6)
    assert set(stage.states()) >= set(numbers)


def test_who_is_down_for_too_long_goes_out_by_one_change_with_those_that_went_with_it(five: Stage) -> None:
    away(five, 1)
    five.pass_time(4.0)
    away(five, 3)
    five.pass_time(26.0)
    assert five.ring.change is None
    five.pass_time(5.0)
    change = five.ring.change
    assert change is not None and (change.wish.kind, change.wish.ids) == ("out", (life(1).id, life(3).id))
    assert five.states() == {1: "down", 3: "down"}
    five.finish()
    assert five.states() == {1: "out", 3: "out"} and all(len(members) == 3 for members in five.ring.lists)


def test_who_leads_anew_or_has_zookeeper_back_counts_anew(five: Stage) -> None:
    away(five, 1)
    five.pass_time(20.0)
    five.lead()
    five.pass_time(20.0)
    five.harness.tell(Suspended())
    five.connect()
    five.pass_time(29.0)
    assert five.ring.change is None
    five.pass_time(2.0)
    assert five.ring.change is not None


def test_while_few_are_up_nobody_is_given_up_and_no_time_counts(five: Stage) -> None:
    away(five, 1, 2, 4)
    five.pass_time(100.0)
    assert five.ring.change is None and "fewer than half" in five.status()["not_given_up"]
    five.register(again(five, 1))
    five.finish()
    assert five.states() == {2: "down", 4: "down"}
    five.pass_time(28.0)
    assert five.ring.change is None
    five.pass_time(3.0)
    assert five.ring.change is not None


def test_nobody_is_given_up_where_fewer_nodes_than_a_write_needs_copies_would_be_left() -> None:
    stage = Stage(found_with=2, replicas=3)
    stage.lead()
    stage.register(life(1), life(2))
    stage.pass_time()
    away(stage, 1)
    stage.pass_time(100.0)
    assert stage.ring.change is None and "2 copies" in stage.status()["not_given_up"]
    assert "job" in stage.ask("REMOVE", life(1).id).text  # somebody who wants it so may
    stage.finish()
    assert stage.states() == {1: "out"} and stage.ring.trouble == ()
    stage.harness.stop()


def test_one_that_comes_back_while_it_is_given_up_is_returning_at_once_and_the_others_wait_for_no_time(
    five: Stage,
) -> None:
    away(five, 1, 3)
    five.pass_time(36.0)
    five.report()
    assert five.ring.change is not None and five.ring.change.phase == "switch"
    five.register(again(five, 1))
    assert five.states() == {1: "returning", 3: "down"} and five.ring.queue == ()
    five.finish()
    change = five.ring.change
    assert change is not None and change.wish.ids == (life(3).id,)
    five.finish()
    assert five.states() == {3: "out"}


def test_one_that_comes_back_later_is_taken_in_again_where_it_stood_and_one_that_left_is_not(five: Stage) -> None:
    token = five.ring.by_id[life(1).id].token
    away(five, 1)
    five.pass_time(36.0)
    five.finish()
    assert five.states() == {1: "out"}
    five.register(again(five, 1))
    five.pass_time(3.0)
    five.finish()
    assert five.states() == {} and five.ring.by_id[life(1).id].token == token

    five.ask("REMOVE", life(2).id)
    five.finish()
    five.vanish(life(2))
    five.register(again(five, 2))
    five.pass_time(10.0)
    assert five.states() == {2: "out"} and five.ring.change is None


def test_who_was_asked_to_join_once_and_is_given_up_need_not_be_asked_again(five: Stage) -> None:
    away(five, 1)
    five.pass_time(36.0)
    five.finish()
    five.register(replace(again(five, 1), joins=False))
    five.pass_time(3.0)
    five.finish()
    assert five.states() == {} and five.status()["refused"] == {}


def test_whoever_cancels_that_a_node_is_given_up_has_as_much_time_again(five: Stage) -> None:
    away(five, 1)
    five.pass_time(36.0)
    assert five.ring.change is not None
    five.ask("CANCEL", str(five.ring.change.wish.job))
    assert five.ring.change is None and five.states() == {1: "down"}
    five.pass_time(29.0)
    assert five.ring.change is None
    five.pass_time(2.0)
    assert five.ring.change is not None


@pytest.mark.parametrize("old", ["up", "down"])
def test_a_node_takes_the_place_of_another_which_is_out_by_the_same_commit(five: Stage, old: str) -> None:
    if old == "down":
        away(five, 1)
    before = five.ring
    assert "has not registered" in five.ask("REPLACE", life(1).id, life(9).id).error
    five.register(replace(life(9), joins=False))
    assert "is in the ring already" in five.ask("REPLACE", life(1).id, life(2).id).error
    assert json.loads(five.ask("REPLACE", life(1).id, life(9).id).text)["by"] == life(9).id
    assert {each.target for each in planned(five.ring).transfers} == {life(9).id}
    assert "is being replaced already" in five.ask("REMOVE", life(1).id).error
    five.finish()
    assert five.states() == {1: "out"} and not five.ring.by_id[life(1).id].given_up
    assert [node.token for node in five.ring.circle] == [node.token for node in before.circle]


def test_who_was_to_replace_another_is_held_back_when_that_is_cancelled(five: Stage) -> None:
    five.register(life(9))
    job = json.loads(five.ask("REPLACE", life(1).id, life(9).id).text)["job"]
    five.ask("CANCEL", str(job))
    five.pass_time(5.0)
    assert five.ring.held_back == (life(9).id,) and five.ring.change is None and five.states() == {}


def test_the_number_of_copies_changes_once_they_are_there(five: Stage) -> None:
    assert "3 copies already" in five.ask("REPLICAS", "3").error
    assert "whole number" in five.ask("REPLICAS", "99").error
    assert "RING REPLICAS" in five.ask("REPLICAS", "3", "MAX", "1").error
    assert json.loads(five.ask("REPLICAS", "4", "min", "3").text)["job"]
    assert (five.ring.replicas, len(planned(five.ring).sources)) == (3, 5)
    five.finish()
    assert (five.ring.replicas, five.ring.min_copies, len(five.ring.lists[0])) == (4, 3, 4)
    away(five, 1)
    assert "too few copies" in five.ask("REPLICAS", "3").error  # two of them would be up, and three are needed
    five.ask("REPLICAS", "4", "MIN", "2")  # nothing is to be moved for that
    assert (five.ring.replicas, five.ring.min_copies, five.ring.change) == (4, 2, None)
    five.ask("REPLICAS", "3")
    five.finish()
    assert (five.ring.replicas, five.ring.min_copies) == (3, 2)


@pytest.mark.parametrize("limited", [True, False])
def test_a_transfer_that_waits_for_the_limit_of_bytes_is_not_stuck(five: Stage, limited: bool) -> None:
    five.register(life(9))
    five.pass_time(3.0)
    ring = five.ring
    assert ring.change is not None
    source = min(planned(ring).sources)
    progress = HandoffProgress(
        handoff="handoff", first=0, last=1, source=source, target=life(9).id, keys=5, state="walking", limited=limited
    )
    report = ChangeReported(
        node=source, incarnation=ring.by_id[source].incarnation, change=ring.change.epoch, epoch=ring.epoch,
        reached=None, progress=[progress],
    )  # fmt: skip
    for _ in range(40):
        five.play(five.harness.tell(report))
        five.pass_time(1.0)
    assert (five.ring.change == ring.change) == limited


@pytest.mark.parametrize("place", ["even", "relief"])
def test_a_node_joins_where_the_load_is_if_somebody_wants_that_or_the_ring_is_placed_so(place: Place) -> None:
    stage = Stage(place=place)
    stage.lead()
    stage.register(life(1), life(2), life(3))
    gateway, before = stage.harness.probe("gateway"), len(stage.harness.sent)
    words = ("NODE", life(8).id, "PLACE", "relief", "DRYRUN")
    stage.play(stage.harness.tell(RunVerb(question=7, verb="ADD", arguments=words, reply_to=gateway)))
    stage.pass_time(1.1)
    (shown,) = [json.loads(each.text) for name, each in stage.harness.sent[before:] if name == "gateway"]
    assert shown["placed"]["by"] == "requests" and shown["placed"]["nodes"][life(8).id]["part"] == 0.5
    assert [each["slots"] for each in shown["plan"]["transfers"]] == ["0-2047"]

    assert "PLACE even|md5|relief" in stage.ask("ADD", "NODE", life(9).id, "PLACE", "somewhere").error
    stage.register(life(9))
    if place == "even":
        stage.ask("ADD", "NODE", life(9).id, "PLACE", "RELIEF")
    else:
        stage.pass_time(1.1)
    assert stage.ring.change is not None
    stage.finish()
    assert [str(run) for run in stage.ring.slots_of(life(9).id)] == ["0-2047"]
    stage.harness.stop()
