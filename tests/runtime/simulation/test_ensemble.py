"""The real `Watches` actor on simulated ZooKeeper servers: the session, watches, requests, and what befalls servers."""

from collections.abc import Iterator
from typing import Any

import pytest
from ringkeeper.runtime.actor import LocalRef, Ref
from ringkeeper.runtime.session import (
    Answered,
    ChildrenChanged,
    CloseSession,
    Connected,
    CreateNode,
    DeleteNode,
    Lost,
    NodeChanged,
    ReadNode,
    SessionClosed,
    SetNode,
    Subscribe,
    Suspended,
    WatchChildren,
    WatchNode,
)
from ringkeeper.runtime.simulation.ensemble import ZooKeeperEnsemble
from ringkeeper.runtime.simulation.process import SimulatedProcess
from ringkeeper.runtime.simulation.world import SimulatedWorld
from ringkeeper.runtime.simulation.zookeeper_client import end_client, opener
from ringkeeper.runtime.system import ESCALATE, Nobody
from ringkeeper.runtime.watches import Watches

SESSION_SECONDS = 3.0


class Listener(Nobody):
    """A ref that keeps what it is told."""

    def __init__(self, process: SimulatedProcess) -> None:
        super().__init__(process.system, "listener")
        self.told: list[Any] = []

    def is_alive(self) -> bool:
        return True

    def tell(self, message: Any) -> None:
        self.told.append(message)


class User:
    """A process with `Watches`, and somebody who asks it."""

    def __init__(self, keeping: "Keeping", name: str) -> None:
        self.world = keeping.world
        self.process = self.world.start(name)
        self.listener = Listener(self.process)
        self.watches: LocalRef = self.process.system.spawn(
            Watches,
            hosts=keeping.ensemble.hosts,
            session_timeout_seconds=SESSION_SECONDS,
            open_client=opener(self.process),
            end_client=end_client,
            name="watches",
            supervision=ESCALATE,
        )
        self.watches.tell(Subscribe(reply_to=self.listener))

    @property
    def ref(self) -> Ref:
        return self.listener

    @property
    def session(self) -> int:
        session = self.process.actor("watches").session
        return session.session_id if session is not None else 0

    def tell(self, message: Any, seconds: float = 0.1) -> list[Any]:
        """Let time pass after a message; returns what was told meanwhile."""
        self.watches.tell(message)
        return self.after(seconds)

    def after(self, seconds: float) -> list[Any]:
        before = len(self.listener.told)
        self.world.run(seconds)
        return self.listener.told[before:]

    def create(self, path: str, data: bytes = b"", ephemeral: bool = False, sequential: bool = False) -> CreateNode:
        return CreateNode(
            request="create", path=path, data=data, ephemeral=ephemeral, sequential=sequential, reply_to=self.ref
        )

    def read(self, path: str) -> Answered:
        told = self.tell(ReadNode(request="read", path=path, reply_to=self.ref), 10.0)
        (answer,) = [each for each in told if isinstance(each, Answered)]
        return answer


class Keeping:
    """ZooKeeper, and its users."""

    def __init__(self, seed: int = 0, servers: int = 1) -> None:
        self.world = SimulatedWorld(seed)
        names = tuple(f"zookeeper-{number}" for number in range(1, servers + 1))
        self.ensemble = ZooKeeperEnsemble(self.world, names)
        self.ensemble.start()

    def user(self, name: str = "user") -> User:
        user = User(self, name)
        user.after(0.5)
        return user


@pytest.fixture
def keeping() -> Iterator[Keeping]:
    keeping = Keeping()
    yield keeping
    keeping.ensemble.tree().check()


def kinds(told: list[Any]) -> list[type]:
    return [type(each) for each in told]


def test_a_session_begins_and_ends(keeping: Keeping) -> None:
    user = keeping.user()
    assert user.listener.told == [Connected(session_id=user.session, timeout_seconds=SESSION_SECONDS)]
    user.tell(user.create("/mine", ephemeral=True))
    assert kinds(user.tell(CloseSession(reply_to=user.ref))) == [Lost, SessionClosed]
    assert "/mine" not in keeping.ensemble.tree().nodes


def test_requests_are_answered_as_by_zookeeper(keeping: Keeping) -> None:
    user = keeping.user()

    def answer(request: Any) -> tuple[str, str, int]:
        (answered,) = user.tell(request)
        return answered.error, answered.path, answered.version

    assert answer(user.create("/a/b/c", b"1")) == ("", "/a/b/c", 0)
    assert answer(user.create("/a/b/c", b"1")) == ("node_exists", "/a/b/c", -1)
    assert answer(user.create("/a/n-", b"1", sequential=True)) == ("", "/a/n-0000000001", 0)
    assert answer(SetNode(request="set", path="/a/b/c", data=b"2", version=0, reply_to=user.ref))[2] == 1
    assert answer(SetNode(request="set", path="/a/b/c", data=b"3", version=0, reply_to=user.ref))[0] == "bad_version"
    assert answer(DeleteNode(request="delete", path="/a/b", reply_to=user.ref))[0] == "not_empty"
    assert answer(DeleteNode(request="delete", path="/a/x", reply_to=user.ref))[0] == "no_node"
    assert user.read("/a/b/c").data == b"2"


def test_watchers_are_told_of_changes_by_others(keeping: Keeping) -> None:
    one, other = keeping.user("one"), keeping.user("other")
    missing = NodeChanged(path="/a/b", data=None, version=-1)
    assert one.tell(WatchNode(path="/a/b", reply_to=one.ref)) == [missing]
    assert one.tell(WatchChildren(path="/a", reply_to=one.ref)) == [ChildrenChanged(path="/a", names=())]
    other.tell(other.create("/a/b", b"1", ephemeral=True))
    assert one.listener.told[-2:] == [
        NodeChanged(path="/a/b", data=b"1", version=0),
        ChildrenChanged(path="/a", names=("b",)),
    ]
    keeping.ensemble.expire(other.session)
    assert sorted(map(repr, one.after(0.1))) == sorted(map(repr, [missing, ChildrenChanged(path="/a", names=())]))


def test_a_broken_connection_is_replaced_and_the_session_goes_on(keeping: Keeping) -> None:
    user = keeping.user()
    session = user.session
    user.tell(user.create("/mine", ephemeral=True))
    user.tell(WatchNode(path="/a", reply_to=user.ref))
    keeping.world.network.reset("user", "zookeeper-1")
    assert kinds(user.after(2.0)) == [Suspended, Connected]
    assert user.session == session and "/mine" in keeping.ensemble.tree().nodes
    user.tell(user.create("/a", b"1"))
    assert NodeChanged(path="/a", data=b"1", version=0) in user.listener.told, "watched on the new connection, too"


def test_a_session_that_the_servers_end_is_lost_and_replaced(keeping: Keeping) -> None:
    user = keeping.user()
    before = user.session
    keeping.ensemble.expire(before)
    told = user.after(3.0)
    assert kinds(told) in ([Suspended, Lost, Connected], [Lost, Connected])
    assert user.session not in (0, before)


@pytest.mark.parametrize("one_way", [("user", "zookeeper-1"), ("zookeeper-1", "user")])
def test_lost_is_told_before_the_servers_end_the_session_of_who_is_cut_off(
    keeping: Keeping, one_way: tuple[str, str]
) -> None:
    user = keeping.user()
    user.tell(user.create("/mine", ephemeral=True))
    keeping.world.network.cut(*one_way)
    keeping.world.run_until(lambda: any(isinstance(each, Lost) for each in user.listener.told), 30)
    assert "/mine" in keeping.ensemble.tree().nodes
    assert kinds(user.listener.told[-2:]) == [Suspended, Lost]
    keeping.world.run(2 * SESSION_SECONDS)
    assert "/mine" not in keeping.ensemble.tree().nodes
    keeping.world.network.mend()
    keeping.world.run(20)
    assert isinstance(user.listener.told[-1], Connected)


def test_a_paused_process_loses_its_session_and_is_told_when_it_runs_again(keeping: Keeping) -> None:
    user = keeping.user()
    user.tell(user.create("/mine", ephemeral=True))
    user.process.pause()
    keeping.world.run(2 * SESSION_SECONDS)
    assert "/mine" not in keeping.ensemble.tree().nodes
    user.process.resume()
    told = user.after(3.0)
    assert Lost in kinds(told) and isinstance(told[-1], Connected)


def test_a_session_survives_zookeeper_being_away(keeping: Keeping) -> None:
    user = keeping.user()
    user.tell(user.create("/mine", ephemeral=True))
    keeping.ensemble.stop()
    assert kinds(user.after(1.0)) == [Suspended]
    keeping.ensemble.start()
    assert kinds(user.after(2.0)) == [Connected]
    assert "/mine" in keeping.ensemble.tree().nodes


def test_a_session_that_zookeeper_has_not_ended_while_it_was_away_is_ended_later(keeping: Keeping) -> None:
    user = keeping.user()
    user.tell(user.create("/mine", ephemeral=True))
    keeping.ensemble.stop()
    assert kinds(user.after(60.0)) == [Suspended, Lost]
    keeping.ensemble.start()
    user.after(1.0)
    assert "/mine" in keeping.ensemble.tree().nodes
    user.after(2 * SESSION_SECONDS)
    assert "/mine" not in keeping.ensemble.tree().nodes
    assert isinstance(user.listener.told[-1], Connected)


def test_after_a_connection_loss_the_request_may_be_done_or_not() -> None:
    done = set()
    for seed in range(40):
        keeping = Keeping(seed)
        user = keeping.user()
        user.watches.tell(user.create("/a"))
        keeping.world.run(keeping.world.stream("test").uniform(0.0, 0.004))
        keeping.world.network.reset("user", "zookeeper-1")
        told = user.after(2.0)
        answers = [each.error for each in told if isinstance(each, Answered)]
        assert len(answers) <= 1
        if answers == ["connection_loss"]:
            done.add("/a" in keeping.ensemble.tree().nodes)
    assert done == {True, False}


def test_rolled_back_zookeeper_has_forgotten_nodes_and_sessions(keeping: Keeping) -> None:
    user = keeping.user()
    user.tell(user.create("/a", b"1"))
    moment = keeping.world.now()
    user.tell(SetNode(request="set", path="/a", data=b"2", version=-1, reply_to=user.ref))
    late = keeping.user("late")
    lost = late.session
    keeping.ensemble.roll_back(moment)
    keeping.world.run(3.0)
    assert user.read("/a").data == b"1"
    assert Lost in kinds(late.listener.told) and late.session not in (0, lost)


def test_a_server_that_lags_tells_late_and_a_read_that_syncs_is_current(keeping: Keeping) -> None:
    keeping = Keeping(servers=2)
    users = [keeping.user(f"user-{number}") for number in range(6)]
    keeping.ensemble.lag_seconds["zookeeper-2"] = 2.0

    def connected_to(server: str) -> User:
        links = keeping.ensemble.servers[server].links
        return next(user for user in users if any(client.session == user.session for client in links))

    fast, slow = connected_to("zookeeper-1"), connected_to("zookeeper-2")
    for user in (fast, slow):
        user.watches.tell(WatchNode(path="/a", reply_to=user.ref))
    keeping.world.run(3.0)
    fast.tell(fast.create("/a", b"1"))
    changed = NodeChanged(path="/a", data=b"1", version=0)
    assert changed in fast.listener.told and changed not in slow.listener.told
    assert slow.read("/a").data == b"1"
    assert changed in slow.listener.told


def test_another_server_takes_over_the_sessions_of_one_that_dies() -> None:
    keeping = Keeping(servers=3)
    users = [keeping.user(f"user-{number}") for number in range(6)]
    sessions = [user.session for user in users]
    keeping.ensemble.stop("zookeeper-1")
    keeping.world.run(3.0)
    assert [user.session for user in users] == sessions
    assert {Suspended} == {type(user.listener.told[1]) for user in users if len(user.listener.told) > 1}
    assert all(isinstance(user.listener.told[-1], Connected) for user in users)
