"""Election: its decisions one message at a time, all candidates together in a small world, and on real servers."""

import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.runtime.actor import Actor, Ref
from ringkeeper.runtime.election import LOOK_AGAIN_SECONDS, Deposed, Elected, Election, FollowLeader, LeaderChanged
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.session import (
    Answered,
    ChildrenChanged,
    CloseSession,
    Connected,
    CreateNode,
    DeleteNode,
    Lost,
    NodeChanged,
    Subscribe,
    Suspended,
    Unwatch,
    WatchChildren,
    WatchNode,
)
from ringkeeper.runtime.system import ESCALATE, ActorSystem
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.runtime.watches import Watches
from ringkeeper.tests.runtime import test_watches
from ringkeeper.tests.zookeepers import wait_until as until

PATH = "/election"


def name(session: int, number: int) -> str:
    return f"{session:016x}-{number:010}"


def children(*names: str) -> ChildrenChanged:
    return ChildrenChanged(path=PATH, names=tuple(sorted(names)))


def connected(session: int) -> Connected:
    return Connected(session_id=session, timeout_seconds=4.0)


def answered(error: str = "", request: str = "apply") -> Answered:
    return Answered(request=request, error=error, path=f"{PATH}/x")


# One message at a time


class Candidate:
    """An Election of session 7, its owner, its watches, and a follower."""

    def __init__(self, candidate: bytes | None = b"7001") -> None:
        self.harness = Harness(Election, watches="probe:watches", path=PATH, candidate=candidate, owner="probe:owner")

    def tell(self, *messages: Any) -> list[Any]:
        """What the election says because of this, without Subscribe, WatchNode... which are no decisions."""
        return self._decisions(self.harness.tell(*messages))

    def advance(self, seconds: float) -> list[Any]:
        return self._decisions(self.harness.advance(seconds))

    @staticmethod
    def _decisions(sent: list[tuple[str, Any]]) -> list[Any]:
        decisions = (CreateNode, DeleteNode, Elected, Deposed, LeaderChanged, WatchChildren)
        return [message for _, message in sent if isinstance(message, decisions)]

    def stand(self, *others: str, number: int = 3) -> list[Any]:
        """Have its candidate made, beside those of others."""
        self.tell(connected(7), children(*others), answered())
        return self.tell(children(name(7, number), *others))

    @property
    def look(self) -> WatchChildren:
        return WatchChildren(path=PATH, reply_to=self.harness.ref)

    def apply(self, session: int = 7) -> CreateNode:
        return CreateNode(
            request="apply", path=f"{PATH}/{session:016x}-", data=b"7001", ephemeral=True, sequential=True,
            reply_to=self.harness.ref,
        )  # fmt: skip

    def remove(self, candidate: str) -> DeleteNode:
        return DeleteNode(request="remove", path=f"{PATH}/{candidate}", reply_to=self.harness.ref)


@pytest.fixture
def candidate() -> Iterator[Candidate]:
    candidate = Candidate()
    yield candidate
    candidate.harness.stop()


ELECTED = Elected(path=PATH, term=3)
DEPOSED = Deposed(path=PATH)


def test_a_candidate_looks_first_applies_then_and_leads_when_it_sees_itself_first(candidate: Candidate) -> None:
    assert candidate.tell(connected(7)) == [candidate.look]
    assert candidate.tell(children()) == [candidate.apply(), LeaderChanged(path=PATH, data=None, term=-1)][:1]
    assert candidate.tell(answered()) == []
    assert candidate.tell(children(name(7, 3))) == [ELECTED]


def test_a_candidate_behind_another_waits_until_that_is_gone(candidate: Candidate) -> None:
    assert candidate.stand(name(5, 2)) == []
    assert candidate.tell(children(name(7, 3), name(9, 4))) == [ELECTED]


def test_candidates_are_ordered_by_number_not_by_session(candidate: Candidate) -> None:
    assert candidate.stand(name(1, 4)) == [ELECTED]


def test_what_is_no_candidate_does_not_count(candidate: Candidate) -> None:
    assert candidate.stand("lock", "0000000000", "x-0000000000") == [ELECTED]


def test_a_leader_whose_session_is_lost_is_deposed_and_stands_again_with_the_next(candidate: Candidate) -> None:
    candidate.stand()
    assert candidate.tell(Suspended()) == []
    assert candidate.tell(Lost()) == [DEPOSED]
    assert candidate.tell(connected(8)) == [candidate.look]
    assert candidate.tell(children(name(7, 3))) == [candidate.remove(name(7, 3)), candidate.apply(8)]
    candidate.tell(answered(request="remove"), answered())
    assert candidate.tell(children(name(8, 4))) == [Elected(path=PATH, term=4)]


def test_a_session_that_comes_back_in_time_deposes_nobody(candidate: Candidate) -> None:
    candidate.stand()
    assert candidate.tell(Suspended(), connected(7)) == [candidate.look]
    assert candidate.tell(children(name(7, 3))) == []
    assert candidate.harness.actor.leading


def test_a_leader_whose_candidate_was_removed_is_deposed_and_applies_again(candidate: Candidate) -> None:
    candidate.stand()
    assert candidate.tell(children(name(9, 4))) == [DEPOSED, candidate.apply()]


def test_a_candidate_that_was_removed_while_waiting_is_made_again(candidate: Candidate) -> None:
    candidate.stand(name(5, 2))
    assert candidate.tell(children(name(5, 2))) == [candidate.apply()]


def test_an_application_of_unknown_outcome_that_was_done_is_found_and_not_repeated(candidate: Candidate) -> None:
    candidate.tell(connected(7), children())
    assert candidate.tell(Suspended(), answered("connection_loss")) == []
    assert candidate.tell(connected(7)) == [candidate.look]
    assert candidate.tell(children(name(7, 3))) == [ELECTED]


def test_an_application_of_unknown_outcome_that_was_not_done_is_repeated(candidate: Candidate) -> None:
    candidate.tell(connected(7), children(), Suspended(), answered("connection_loss"), connected(7))
    assert candidate.tell(children()) == [candidate.apply()]


def test_an_application_without_answer_on_a_live_connection_is_looked_for_after_a_while(candidate: Candidate) -> None:
    candidate.tell(connected(7), children())
    assert candidate.tell(answered("connection_loss")) == []
    assert candidate.advance(LOOK_AGAIN_SECONDS) == [candidate.look]
    assert candidate.tell(children()) == [candidate.apply()]


def test_a_refused_application_is_tried_again_later_and_logged(
    candidate: Candidate, caplog: pytest.LogCaptureFixture
) -> None:
    candidate.tell(connected(7), children())
    assert candidate.tell(answered("no_auth")) == []
    assert "refuses to apply our candidate: no_auth" in caplog.text
    assert candidate.advance(LOOK_AGAIN_SECONDS) == [candidate.look]
    assert candidate.tell(children()) == [candidate.apply()]


def test_while_an_application_is_on_its_way_there_is_no_other(candidate: Candidate) -> None:
    candidate.tell(connected(7))
    assert candidate.tell(children()) == [candidate.apply()]
    assert candidate.tell(children(name(5, 2))) == []
    assert candidate.tell(children(name(5, 2), name(6, 3))) == []


def test_of_two_candidates_of_one_session_the_higher_is_removed(candidate: Candidate) -> None:
    candidate.tell(connected(7))
    assert candidate.tell(children(name(7, 3), name(7, 5))) == [candidate.remove(name(7, 5)), ELECTED]


def test_an_election_that_was_restarted_finds_the_candidate_that_it_has(candidate: Candidate) -> None:
    candidate.tell(connected(7))
    assert candidate.tell(children(name(7, 3))) == [ELECTED]


def test_a_session_id_with_the_highest_bit_set_is_as_good_as_any(candidate: Candidate) -> None:
    candidate.tell(connected(-1))
    assert candidate.tell(children(f"{'f' * 16}-0000000003")) == [ELECTED]


def test_an_observer_never_applies() -> None:
    observer = Candidate(None)
    observer.tell(connected(7))
    assert observer.tell(children()) == []
    assert observer.advance(100.0) == []
    observer.harness.stop()


def test_followers_are_told_what_the_leader_says_of_itself_and_every_change() -> None:
    observer = Candidate(None)
    ann = observer.harness.probe("ann")
    assert observer.tell(FollowLeader(reply_to=ann)) == []
    observer.tell(connected(7))
    assert observer.tell(children()) == [LeaderChanged(path=PATH, data=None, term=-1)]

    def content(of: str, data: bytes | None) -> NodeChanged:
        return NodeChanged(path=f"{PATH}/{of}", data=data, version=0)

    first, second = name(5, 2), name(6, 3)
    assert observer.tell(children(first, second)) == []
    assert observer.tell(content(first, b"7005")) == [LeaderChanged(path=PATH, data=b"7005", term=2)]
    assert observer.tell(content(first, None)) == []
    assert observer.tell(children(second), content(second, b"7006")) == [LeaderChanged(path=PATH, data=b"7006", term=3)]
    assert observer.tell(content(first, b"late")) == []
    assert observer.tell(FollowLeader(reply_to=ann)) == [LeaderChanged(path=PATH, data=b"7006", term=3)]
    assert observer.tell(children()) == [LeaderChanged(path=PATH, data=None, term=-1)]
    observer.harness.stop()


def test_only_the_leaders_content_is_watched() -> None:
    observer = Candidate(None)
    observer.tell(connected(7))
    first, second = f"{PATH}/{name(5, 2)}", f"{PATH}/{name(6, 3)}"
    sent = observer.harness.tell(children(name(5, 2), name(6, 3)), children(name(6, 3)), children())
    assert [message for _, message in sent] == [
        WatchNode(path=first, reply_to=observer.harness.ref),
        Unwatch(path=first, reply_to=observer.harness.ref),
        WatchNode(path=second, reply_to=observer.harness.ref),
        Unwatch(path=second, reply_to=observer.harness.ref),
    ]
    observer.harness.stop()


def test_the_candidate_that_a_lost_session_left_is_not_taken_for_the_leader(candidate: Candidate) -> None:
    candidate.tell(FollowLeader(reply_to=candidate.harness.probe("ann")))
    candidate.stand()
    candidate.tell(NodeChanged(path=f"{PATH}/{name(7, 3)}", data=b"7001", version=0))
    nobody = LeaderChanged(path=PATH, data=None, term=-1)
    assert candidate.tell(Lost()) == [DEPOSED, nobody]
    candidate.tell(connected(8), children(name(7, 3), name(9, 4)))
    assert candidate.tell(FollowLeader(reply_to=candidate.harness.probe("bob"))) == [nobody]
    assert candidate.harness.actor.watched is None
    candidate.tell(children(name(9, 4), name(8, 5)))
    assert candidate.harness.actor.watched == name(9, 4)


# All together, in a small world: one tree, and between it and each process two queues that move when the test says


@dataclass
class Tree:
    """The znodes under PATH, and the sessions that ZooKeeper believes in."""

    nodes: dict[str, tuple[bytes, int]]
    sessions: set[int]
    number: int = 0

    def create(self, path: str, data: bytes, session: int) -> str:
        made = f"{path}{self.number:010}"
        self.number += 1
        self.nodes[made] = (data, session)
        return made

    def expire(self, session: int) -> None:
        self.sessions.discard(session)
        self.nodes = {path: node for path, node in self.nodes.items() if node[1] != session}

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(path.removeprefix(PATH + "/") for path in self.nodes))


class SlowWatches(Actor):
    """What Watches is to an Election, with every delay in the test's hands."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.tree = tree
        self.session = 0
        self.linked = False
        self.requests: deque[Any] = deque()
        self.overdue_requests: list[Any] = []
        """Answered connection_loss because it took so long, and still on their way."""
        self.facts: deque[Any] = deque()
        self.seen: dict[str, Any] = {}
        self.reader: Ref | None = None

    def on_receive(self, message: Any) -> None:
        match message:
            case Subscribe():
                self.reader = message.reply_to
            case WatchChildren() | WatchNode():
                self.seen[message.path] = None
            case Unwatch():
                self.seen.pop(message.path, None)
            case CreateNode() | DeleteNode() if not self.linked:
                error = "connection_loss"
                self.send(message.reply_to, Answered(request=message.request, error=error, path=message.path))
            case CreateNode() | DeleteNode():
                self.requests.append(message)

    def serve(self) -> None:
        """ZooKeeper does the next request; the answer is on its way."""
        if not self.linked or not self.requests:
            return
        request = self.requests.popleft()
        error, path = "", request.path
        if isinstance(request, CreateNode):
            path = self.tree.create(path, request.data, self.session)
        elif self.tree.nodes.pop(path, None) is None:
            error = "no_node"
        if request in self.overdue_requests:
            self.overdue_requests.remove(request)
        else:
            self.facts.append(Answered(request=request.request, error=error, path=path))

    def overdue(self) -> None:
        """The request that waits longest is given up."""
        if self.requests and self.requests[0] not in self.overdue_requests:
            request = self.requests[0]
            self.overdue_requests.append(request)
            self.facts.append(Answered(request=request.request, error="connection_loss", path=request.path))

    def read(self) -> None:
        """ZooKeeper is asked how things are; what is new is on its way."""
        if not self.linked:
            return
        for path in sorted(self.seen):
            if path == PATH:
                fact: Any = children(*self.tree.names())
            else:
                data = self.tree.nodes.get(path, (None, 0))[0]
                fact = NodeChanged(path=path, data=data, version=-1 if data is None else 0)
            if fact != self.seen[path]:
                self.seen[path] = fact
                self.facts.append(fact)

    def deliver(self) -> None:
        if self.facts:
            self._tell(self.facts.popleft())

    def cut(self, *, after_serving: bool) -> None:
        """The connection breaks; what was on its way to ZooKeeper may have reached it."""
        if not self.linked:
            return
        unanswered = [fact for fact in self.facts if isinstance(fact, Answered)]
        unanswered += [request for request in self.requests if request not in self.overdue_requests]
        while after_serving and self.requests:
            self.serve()
        self.linked = False
        self.requests.clear()
        self.overdue_requests.clear()
        self.facts.clear()
        self.seen = dict.fromkeys(self.seen)
        self._tell(Suspended())
        for request in unanswered:
            self._tell(Answered(request=request.request, error="connection_loss", path=request.path))

    def connect(self, session: int) -> None:
        """Back with its session if it has one, else with a new one."""
        if not self.linked and (not self.session or self.session in self.tree.sessions):
            self.session = self.session or session
            self.tree.sessions.add(self.session)
            self.linked = True
            self._tell(connected(self.session))

    def lose(self) -> None:
        """Its own clock says that the session is over; ZooKeeper's clock is behind."""
        self.cut(after_serving=False)
        if self.session:
            self.session = 0
            self._tell(Lost())

    def _tell(self, fact: Any) -> None:
        assert self.reader is not None
        self.send(self.reader, fact)


class Owner(Actor):
    """Leads when told so. Keeps all of it in one log with the others."""

    def __init__(self, log: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.log = log

    def on_receive(self, message: Any) -> None:
        self.log.append((self.name, message))


class World:
    def __init__(self, processes: int) -> None:
        self.loop = VirtualLoop()
        self.system = ActorSystem(loop=self.loop, random=random.Random(0), stopwatch=self.loop.time)
        self.system.after_message = lambda actor, _: actor.check()
        self.tree = Tree({}, set())
        self.log: list[tuple[str, Any]] = []
        self.sessions = 100
        self.watches: list[SlowWatches] = []
        for number in range(processes):
            watches = self.system.spawn(SlowWatches, self.tree, name=f"watches-{number}", supervision=ESCALATE)
            owner = self.system.spawn(Owner, self.log, name=f"{number}")
            election = self.system.spawn(
                Election, name=f"election-{number}", watches=watches, path=PATH, candidate=b"%d" % number, owner=owner
            )
            election.tell(FollowLeader(reply_to=owner))
            self.watches.append(watches._actor_weakref())  # type: ignore[arg-type]
        self.system.on_escalation = self._failed
        self.settle()

    def _failed(self, actor: str, failure: BaseException) -> None:
        raise AssertionError(f"{actor} failed") from failure

    def settle(self) -> None:
        self.loop.run_until_idle()

    def step(self, process: int, what: str) -> None:
        watches = self.watches[process]
        match what:
            case "connect":
                self.sessions += 1
                watches.connect(self.sessions)
            case "cut" | "cut late":
                watches.cut(after_serving=what == "cut late")
            case "lose":
                watches.lose()
            case "expire":
                for session in sorted(self.tree.sessions - {watches.session for watches in self.watches}):
                    self.tree.expire(session)
            case "second":
                self.loop.advance(1.0)
            case _:
                getattr(watches, what)()
        self.settle()

    def calm(self) -> None:
        """The faults stop: sessions live, everything is delivered, and some time passes."""
        for _ in range(4):
            for process in range(len(self.watches)):
                self.step(process, "expire")
                self.step(process, "connect")
            for _ in range(20):
                for process in range(len(self.watches)):
                    for what in ("serve", "read", "deliver"):
                        self.step(process, what)
            self.loop.advance(LOOK_AGAIN_SECONDS)
            self.settle()

    def leaders(self) -> list[str]:
        """Who believes to lead, by what the owners were told."""
        believe: dict[str, bool] = {}
        for owner, fact in self.log:
            if isinstance(fact, Elected | Deposed):
                believe[owner] = isinstance(fact, Elected)
        return [owner for owner, leads in sorted(believe.items()) if leads]

    def known_leaders(self) -> list[bytes | None]:
        """Per process whom its followers take for the leader."""
        known = {owner: fact.data for owner, fact in self.log if isinstance(fact, LeaderChanged)}
        return [known.get(f"{number}") for number in range(len(self.watches))]


MOVES = st.sampled_from(
    ["serve", "serve", "read", "read", "deliver", "deliver", "deliver", "connect", "connect", "cut", "cut late"]
    + ["lose", "expire", "second", "second", "overdue"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), MOVES), max_size=80))
def test_whatever_breaks_two_never_lead_at_once_and_in_the_end_one_does(steps: list[tuple[int, str]]) -> None:
    world = World(3)
    for process, what in steps:
        world.step(process, what)
        assert len(world.leaders()) <= 1, world.log
    world.calm()
    (leader,) = world.leaders()
    assert world.known_leaders() == [leader.encode()] * 3
    assert len(world.tree.nodes) == 3, "one candidate each"
    terms = [fact.term for _, fact in world.log if isinstance(fact, Elected)]
    assert terms == sorted(set(terms)), "terms grow"
    world.system.stop()


def test_an_election_of_three_has_a_leader_and_another_after_its_death() -> None:
    world = World(3)
    world.calm()
    (first,) = world.leaders()
    dead = int(first)
    world.tree.expire(world.watches[dead].session)  # and nothing of it moves any more
    for _ in range(20):
        for process in {0, 1, 2} - {dead}:
            for what in ("serve", "read", "deliver"):
                world.step(process, what)
    elected = [owner for owner, fact in world.log if isinstance(fact, Elected)]
    assert len(elected) == 2
    assert elected[0] == first != elected[1]
    world.system.stop()


# On real servers


class Ear(test_watches.Ear):
    """Keeps what it is told in one list with other ears."""

    def __init__(self, name: str, heard: list[tuple[str, Any]]) -> None:
        super().__init__(name)
        self._all = heard

    def tell(self, message: Any) -> None:
        self._all.append((self.name, message))


class Hosts:
    """Three processes' worth of actors on one loop in a thread of its own, each with its session."""

    def __init__(self, zookeeper: Any) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.loop = uvloop.new_event_loop()
        self._ready: deque[None] = deque()
        self.watches: dict[str, Ref] = {}
        self._zookeeper = zookeeper
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        until(lambda: self._ready)

    def _run(self) -> None:
        self.system = ActorSystem(loop=self.loop)
        self.loop.call_soon(self._ready.append, None)
        self.loop.run_forever()
        self.system.stop()
        self.loop.close()

    def stand(self, name: str) -> None:
        ear = Ear(name, self.heard)
        watches = self.watches[name] = self.system.spawn(
            Watches,
            name=f"watches-{name}",
            supervision=ESCALATE,
            hosts=self._zookeeper.hosts,
            session_timeout_seconds=20.0,
        )
        election = self.system.spawn(
            Election, name=f"election-{name}", watches=watches, path=PATH, candidate=name.encode(), owner=ear
        )
        election.tell(FollowLeader(reply_to=ear))

    def elected(self) -> list[str]:
        return [name for name, fact in list(self.heard) if isinstance(fact, Elected)]

    def known(self) -> dict[str, bytes | None]:
        return {name: fact.data for name, fact in list(self.heard) if isinstance(fact, LeaderChanged)}

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


@pytest.fixture(params=["embedded", pytest.param("debian", marks=[pytest.mark.processes, pytest.mark.real_zookeeper])])
def zookeeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with test_watches.either(request.param, tmp_path) as server:
        yield server


@pytest.fixture
def hosts(zookeeper: Any) -> Iterator[Hosts]:
    hosts = Hosts(zookeeper)
    yield hosts
    hosts.close()


def test_of_three_real_candidates_one_leads_and_when_it_goes_exactly_one_next(hosts: Hosts) -> None:
    for name_ in "abc":
        hosts.stand(name_)
    until(hosts.elected)
    (first,) = hosts.elected()
    until(lambda: hosts.known() == dict.fromkeys("abc", first.encode()))
    hosts.watches[first].tell(CloseSession(reply_to=Ear("closer", [])))
    others = set("abc") - {first}
    until(lambda: len(hosts.elected()) == 2)
    second = hosts.elected()[1]
    assert second in others
    until(lambda: all(hosts.known()[other] == second.encode() for other in others))
    facts = [(who, type(fact)) for who, fact in hosts.heard if isinstance(fact, Elected | Deposed)]
    assert facts == [(first, Elected), (first, Deposed), (second, Elected)]
    terms = [fact.term for _, fact in hosts.heard if isinstance(fact, Elected)]
    assert terms == sorted(set(terms))


def test_a_real_leader_that_the_server_forgets_is_followed_by_exactly_one(hosts: Hosts, zookeeper: Any) -> None:
    for name_ in "abc":
        hosts.stand(name_)
    until(hosts.elected)
    (first,) = hosts.elected()
    other = zookeeper.client()
    until(lambda: len(other.get_children(PATH)) == 3)
    candidate = min(other.get_children(PATH), key=lambda name: name[17:])
    other.delete(f"{PATH}/{candidate}")
    until(lambda: len(hosts.elected()) == 2)
    until(lambda: (first, Deposed(path=PATH)) in hosts.heard)
    until(lambda: len(other.get_children(PATH)) == 3)  # the deposed stands again, last
    assert hosts.elected()[1] != first


def test_a_leader_survives_a_server_that_is_away_for_less_than_its_session(hosts: Hosts, zookeeper: Any) -> None:
    for name_ in "ab":
        hosts.stand(name_)
    until(hosts.elected)
    (leader,) = hosts.elected()
    until(lambda: hosts.known() == dict.fromkeys("ab", leader.encode()))
    zookeeper.kill()
    hosts.stand("late")
    zookeeper.start()
    until(lambda: hosts.known() == dict.fromkeys(["a", "b", "late"], leader.encode()))
    assert hosts.elected() == [leader]
