"""Watches: its decisions against a kazoo of our own in virtual time, and all of it against real servers."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import (  # type: ignore[import-untyped]
    BadVersionError,
    ConnectionLoss,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from ringkeeper.runtime import watches as watches_module
from ringkeeper.runtime.actor import Ref
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.looking import Shower
from ringkeeper.runtime.process import free_port
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
    Unwatch,
    WatchChildren,
    WatchNode,
)
from ringkeeper.runtime.system import ESCALATE
from ringkeeper.runtime.watches import READS_MAX, REQUEST_SECONDS_MAX, REQUESTS_MAX, Watches, auth_of
from ringkeeper.runtime.zookeeper.server import Limits
from ringkeeper.tests.runtime.homes import Home
from ringkeeper.tests.zookeepers import debian, embedded
from ringkeeper.tests.zookeepers import wait_until as until

GRANTED = 6.0

# A kazoo of our own: a tree of nodes, and a client whose questions wait until the test has them answered.


class Stat(NamedTuple):
    czxid: int
    mzxid: int
    version: int
    ephemeralOwner: int = 0  # noqa: N815


class Event(NamedTuple):
    type: str


class FakeResult:
    def __init__(self) -> None:
        self.value: Any = None
        self.exception: Exception | None = None
        self.done = False
        self.callbacks: list[Callable[[Any], None]] = []

    def rawlink(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    def finish(self, value: Any = None, exception: Exception | None = None) -> None:
        assert not self.done
        self.done, self.value, self.exception = True, value, exception
        for callback in self.callbacks:
            callback(self)


class FakeZooKeeper:
    """A tree, and the clients that were opened to it."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[bytes, Stat]] = {"/": (b"", Stat(0, 0, 0))}
        self.secret: set[str] = set()
        """Paths that nobody may read."""
        self.zxid = 0
        self.sessions = 0
        self.clients: list[FakeKazoo] = []
        self.ended: list[FakeKazoo] = []

    def open(self, *arguments: Any) -> "FakeKazoo":
        self.clients.append(FakeKazoo(self, *arguments))
        return self.clients[-1]

    def end(self, client: "FakeKazoo", ended: Callable[[], None]) -> None:
        self.ended.append(client)
        ended()

    @property
    def client(self) -> "FakeKazoo":
        return self.clients[-1]

    def set(self, path: str, data: bytes) -> None:
        self.zxid += 1
        if path in self.nodes:
            stat = self.nodes[path][1]
            self.nodes[path] = (data, stat._replace(mzxid=self.zxid, version=stat.version + 1))
            self._fire(path, "CHANGED")
        else:
            self.nodes[path] = (data, Stat(self.zxid, self.zxid, 0))
            self._fire(path, "CREATED")
            self._fire(path.rpartition("/")[0] or "/", "CHILD")

    def delete(self, path: str) -> None:
        self.zxid += 1
        del self.nodes[path]
        self._fire(path, "DELETED")
        self._fire(path.rpartition("/")[0] or "/", "CHILD")

    def children(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        names = [p.removeprefix(prefix) for p in self.nodes if p.startswith(prefix) and p != "/"]
        return sorted((name for name in names if "/" not in name), reverse=True)

    def _fire(self, path: str, kind: str) -> None:
        for client in self.clients:
            for watchers in (client.node_watches, client.child_watches):
                if (kind == "CHILD") == (watchers is client.child_watches) or kind == "DELETED":
                    for watch in watchers.pop(path, ()):
                        watch(Event(kind))


class FakeKazoo:
    """A kazoo client. Like the real one it keeps watches in sets, from the answer on, and forgets them when cut."""

    def __init__(
        self, zookeeper: FakeZooKeeper, hosts: str, timeout: float, auth: Any, turned: Any, unreached: Any
    ) -> None:
        self.zookeeper, self.turned, self.unreached = zookeeper, turned, unreached
        self.started = self.linked = False
        self.session = 0
        self.node_watches: dict[str, set[Any]] = {}
        self.child_watches: dict[str, set[Any]] = {}
        self.pending: list[tuple[str, str, FakeResult, Callable[[], Any]]] = []

    # What a test does to it

    def connect(self) -> None:
        if not self.session:
            self.zookeeper.sessions += 1
            self.session = self.zookeeper.sessions
        self.linked = True
        self.turned("CONNECTED", self.session, GRANTED)

    def cut(self, *, state: str = "SUSPENDED", state_first: bool = False) -> None:
        self.linked = False
        if state_first:
            self.turned(state, 0, GRANTED)
        pending, self.pending = self.pending, []
        for _, _, result, _ in pending:
            result.finish(exception=SessionExpiredError() if state == "LOST" else ConnectionLoss())
        for watches in (self.node_watches, self.child_watches):
            fired = [watch for path in watches for watch in watches[path]]
            watches.clear()
            for watch in fired:
                watch(Event("NONE"))
        if not state_first:
            self.turned(state, 0, GRANTED)

    def answer(self, number: int = 1_000) -> None:
        """Let the server do so much of what it was asked, in order."""
        for _ in range(min(number, len(self.pending))):
            _, _, result, act = self.pending.pop(0)
            try:
                value = act()
            except Exception as error:
                result.finish(exception=error)
            else:
                result.finish(value)

    def asked(self) -> list[str]:
        return [f"{call} {path}" for call, path, _, _ in self.pending]

    # What the actor calls

    def start_async(self) -> None:
        self.started = True

    def _ask(self, call: str, path: str, act: Callable[[], Any]) -> FakeResult:
        result = FakeResult()
        self.pending.append((call, path, result, act))
        return result

    def sync_async(self, path: str) -> FakeResult:
        return self._ask("sync", path, lambda: path)

    def exists_async(self, path: str, watch: Any = None) -> FakeResult:
        def exists() -> Any:
            if watch is not None:
                self.node_watches.setdefault(path, set()).add(watch)
            return self.zookeeper.nodes[path][1] if path in self.zookeeper.nodes else None

        return self._ask("exists", path, exists)

    def _node(self, path: str) -> tuple[bytes, Stat]:
        if path not in self.zookeeper.nodes:
            raise NoNodeError
        if path in self.zookeeper.secret:
            raise NoAuthError
        return self.zookeeper.nodes[path]

    def get_async(self, path: str) -> FakeResult:
        return self._ask("get", path, lambda: self._node(path))

    def get_children_async(self, path: str, watch: Any = None) -> FakeResult:
        def children() -> list[str]:
            self._node(path)
            self.child_watches.setdefault(path, set()).add(watch)
            return self.zookeeper.children(path)

        return self._ask("children", path, children)

    def create_async(self, path: str, value: bytes, **options: Any) -> FakeResult:
        def create() -> str:
            if path in self.zookeeper.nodes:
                raise NodeExistsError
            self.zookeeper.set(path, value)
            return path

        return self._ask("create", path, create)

    def set_async(self, path: str, value: bytes, version: int) -> FakeResult:
        def write() -> Stat:
            if version not in (-1, self._node(path)[1].version):
                raise BadVersionError
            self.zookeeper.set(path, value)
            return self.zookeeper.nodes[path][1]

        return self._ask("set", path, write)

    def delete_async(self, path: str, version: int) -> FakeResult:
        def delete() -> bool:
            self._node(path)
            if self.zookeeper.children(path):
                raise NotEmptyError
            self.zookeeper.delete(path)
            return True

        return self._ask("delete", path, delete)

    def stop(self) -> None: ...

    def close(self) -> None: ...


class Stage:
    """A Watches actor, the kazoo it talks to, and one actor "ann" that asks it things."""

    def __init__(self) -> None:
        self.zookeeper = FakeZooKeeper()
        self.harness = Harness(
            Watches, hosts="127.0.0.1:2181", open_client=self.zookeeper.open, end_client=self.zookeeper.end
        )
        self.ann = self.harness.probe("ann")

    @property
    def kazoo(self) -> FakeKazoo:
        return self.zookeeper.client

    def told(self) -> list[Any]:
        """What ann has been told since last asked; lets everything happen that needs no time."""
        return [message for _, message in self.harness.advance(0.0)]

    def tell(self, *messages: Any) -> list[Any]:
        return [message for _, message in self.harness.tell(*messages)]

    def connect(self) -> list[Any]:
        """Have a session, and ann subscribed."""
        self.tell(Subscribe(reply_to=self.ann))
        return self.reconnect()

    def reconnect(self) -> list[Any]:
        self.kazoo.connect()
        before = self.told()
        self.kazoo.answer()
        return before + self.told()

    def settle(self) -> list[Any]:
        """Have everything answered that is asked, and what is asked because of it."""
        told = self.told()
        while self.kazoo.pending:
            self.kazoo.answer()
            told += self.told()
        return told

    def read(self, request: str = "a") -> ReadNode:
        return ReadNode(request=request, path="/node", reply_to=self.ann)

    def watch(self, path: str = "/node") -> WatchNode:
        return WatchNode(path=path, reply_to=self.ann)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.harness.stop()


def connected(session_id: int) -> Connected:
    return Connected(session_id=session_id, timeout_seconds=GRANTED)


# The session


def test_connected_is_told_when_the_first_question_of_a_connection_is_answered(stage: Stage) -> None:
    stage.tell(Subscribe(reply_to=stage.ann))
    assert stage.kazoo.started
    stage.kazoo.connect()
    assert stage.told() == []
    assert stage.kazoo.asked() == ["sync /"]
    stage.kazoo.answer()
    assert stage.told() == [connected(1)]


def test_who_subscribes_later_is_told_the_present_state_if_connected(stage: Stage) -> None:
    stage.connect()
    assert stage.tell(Subscribe(reply_to=stage.ann)) == [connected(1)]
    stage.kazoo.cut()
    assert stage.told() == [Suspended()]
    assert stage.tell(Subscribe(reply_to=stage.ann)) == []


def test_a_session_that_survives_a_broken_connection_is_suspended_and_connected_again(stage: Stage) -> None:
    assert stage.connect() == [connected(1)]
    stage.kazoo.cut()
    assert stage.told() == [Suspended()]
    assert stage.reconnect() == [connected(1)]
    assert len(stage.zookeeper.clients) == 1


def test_a_connection_that_breaks_before_its_first_answer_is_not_mentioned(stage: Stage) -> None:
    stage.tell(Subscribe(reply_to=stage.ann))
    for _ in range(2):
        stage.kazoo.connect()
        stage.told()
        stage.kazoo.cut()
        assert stage.told() == []
    assert stage.reconnect() == [connected(1)]


def test_a_session_that_zookeeper_ends_is_lost_and_another_one_made(stage: Stage) -> None:
    stage.connect()
    first = stage.kazoo
    stage.kazoo.cut(state="LOST")
    assert stage.told() == [Lost()]
    assert stage.zookeeper.ended == [first]
    assert stage.harness.advance(1.0) == []
    assert stage.kazoo is not first
    assert stage.reconnect() == [connected(2)]


def test_the_time_of_a_session_counts_from_when_the_last_answered_question_was_sent(stage: Stage) -> None:
    stage.connect()
    stage.harness.advance(1.0)  # a sixth of the session's time: something is asked, to be heard
    assert stage.kazoo.asked() == ["exists /"]
    stage.harness.advance(0.5)
    stage.kazoo.answer()  # the server heard us at 1.0 or later
    assert stage.harness.advance(5.4) == []
    assert stage.harness.advance(0.2) == [("ann", Lost())]


def test_a_server_that_answers_keeps_the_session_for_as_long_as_it_likes(stage: Stage) -> None:
    stage.connect()
    for _ in range(100):
        assert stage.harness.advance(1.0) == []
        stage.kazoo.answer()
    assert len(stage.zookeeper.clients) == 1


def test_our_clock_loses_a_suspended_session_that_kazoo_says_nothing_more_about(stage: Stage) -> None:
    stage.connect()
    stage.kazoo.cut()
    assert stage.told() == [Suspended()]
    assert stage.harness.advance(GRANTED - 0.1) == []
    assert stage.harness.advance(0.2) == [("ann", Lost())]


def test_only_one_question_to_be_heard_is_on_its_way_so_that_kazoo_sees_the_silence(stage: Stage) -> None:
    stage.connect()
    stage.harness.advance(4.0)
    assert stage.kazoo.asked() == ["exists /"]


def test_nothing_that_the_client_of_a_lost_session_calls_back_is_believed(stage: Stage) -> None:
    stage.connect()
    stage.zookeeper.set("/node", b"old")
    stage.tell(stage.watch())
    stage.settle()
    old = stage.kazoo
    stage.tell(stage.read("late"))
    assert stage.harness.advance(GRANTED + 1.0)[:1] == [("ann", Lost())]
    assert stage.kazoo is not old
    old.answer()
    old.turned("CONNECTED", 1, GRANTED)
    stage.zookeeper.set("/node", b"new")  # its watch fires
    old.cut(state="LOST")
    assert stage.told() == []
    assert old.pending == []
    assert stage.reconnect()[0] == connected(2)


def test_a_client_without_a_session_is_replaced_after_a_while(stage: Stage) -> None:
    first = stage.kazoo
    stage.harness.advance(watches_module.REACH_SECONDS_MAX + 1.0)
    assert stage.zookeeper.ended == [first]
    assert stage.zookeeper.clients[0] is not stage.kazoo


def test_clients_that_fail_at_once_are_made_less_and_less_often(stage: Stage) -> None:
    made = []
    for _ in range(300):
        stage.kazoo.cut(state="LOST")
        stage.harness.advance(0.1)
        made.append(len(stage.zookeeper.clients))
    assert made[49] > 5
    assert made[299] - made[99] <= 20.0 / (watches_module.RENEW_SECONDS_MAX / 2) + 1


def test_zookeeper_that_cannot_be_reached_is_one_sentence_now_and_then(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(290):  # 29 seconds
        stage.kazoo.unreached("127.0.0.1:2181", "Connection refused")
        stage.harness.advance(0.1)
    (record,) = caplog.records
    assert "ZooKeeper at 127.0.0.1:2181 cannot be reached" in record.getMessage()
    assert "Connection refused" in record.getMessage()


def test_closing_the_session_ends_it_and_says_so_once_to_each_who_asked(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.read())
    assert stage.tell(CloseSession(reply_to=stage.ann), CloseSession(reply_to=stage.harness.probe("bob"))) == [
        Lost(),
        Answered(request="a", error="session_lost", path="/node"),
        SessionClosed(),
        SessionClosed(),
    ]
    assert stage.zookeeper.ended == [stage.kazoo]
    assert stage.tell(CloseSession(reply_to=stage.ann)) == [SessionClosed()]
    assert stage.tell(stage.read()) == [Answered(request="a", error="session_lost", path="/node")]
    stage.harness.advance(100.0)
    assert len(stage.zookeeper.clients) == 1


def test_stopping_the_actor_ends_the_session(stage: Stage) -> None:
    stage.connect()
    stage.harness.stop()
    assert stage.zookeeper.ended == [stage.kazoo]


@pytest.mark.parametrize("hosts", ["", "a:b", "127.0.0.1:2181/root", "127.0.0.1:2181,", ":99999"])
def test_hosts_that_make_no_sense_are_refused_before_anything_happens(hosts: str) -> None:
    with pytest.raises(ValueError, match="write host:port"):
        Harness(Watches, hosts=hosts)


# Requests


def test_requests_are_answered_with_what_became_of_the_node(stage: Stage) -> None:
    stage.connect()
    ann = stage.ann
    stage.tell(
        CreateNode(request="1", path="/node", data=b"one", reply_to=ann),
        SetNode(request="2", path="/node", data=b"two", version=0, reply_to=ann),
        ReadNode(request="3", path="/node", reply_to=ann),
        DeleteNode(request="4", path="/node", reply_to=ann),
    )
    assert stage.kazoo.asked() == ["create /node", "set /node", "sync /node", "get /node", "delete /node"]
    assert stage.settle() == [
        Answered(request="1", path="/node", version=0),
        Answered(request="2", path="/node", version=1),
        Answered(request="3", path="/node", data=b"two", version=1),
        Answered(request="4", path="/node"),
    ]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (NoNodeError(), "no_node"),
        (NodeExistsError(), "node_exists"),
        (BadVersionError(), "bad_version"),
        (NotEmptyError(), "not_empty"),
        (NoAuthError(), "no_auth"),
        (RuntimeInconsistency(), "connection_loss"),
        (RuntimeError("xids do not match"), "connection_loss"),
    ],
)
def test_an_error_is_told_by_its_word_and_what_is_no_refusal_is_of_unknown_outcome(
    stage: Stage, error: Exception, word: str
) -> None:
    stage.connect()
    stage.tell(DeleteNode(request="a", path="/node", reply_to=stage.ann))
    stage.kazoo.pending.pop()[2].finish(exception=error)
    assert stage.told() == [Answered(request="a", error=word, path="/node")]


@pytest.mark.parametrize("state_first", [True, False])
def test_requests_on_their_way_when_the_connection_breaks_are_answered_after_suspended(
    stage: Stage, state_first: bool
) -> None:
    stage.connect()
    stage.tell(stage.read("a"), stage.read("b"))
    stage.kazoo.cut(state_first=state_first)
    lost = [Answered(request=name, error="connection_loss", path="/node") for name in "ab"]
    assert stage.told() == [Suspended(), *lost]
    assert stage.reconnect() == [connected(1)]
    for _ in range(int(REQUEST_SECONDS_MAX) + 1):
        assert stage.harness.advance(1.0) == []
        stage.kazoo.answer()


def test_requests_on_their_way_when_the_session_ends_are_answered_after_lost(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.read())
    stage.kazoo.cut(state="LOST")
    assert stage.told() == [Lost(), Answered(request="a", error="session_lost", path="/node")]


def test_requests_without_a_connection_are_answered_at_once_and_not_passed_on(stage: Stage) -> None:
    loss = Answered(request="a", error="connection_loss", path="/node")
    assert stage.tell(stage.read()) == [loss]
    stage.connect()
    stage.kazoo.cut()
    stage.told()
    assert stage.tell(stage.read()) == [loss]
    assert stage.kazoo.pending == []


def test_a_request_that_is_never_answered_is_answered_when_its_time_is_over_and_never_again(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.read())
    *_, forgotten = stage.kazoo.pending
    stage.kazoo.pending.clear()
    answers = []
    for _ in range(int(REQUEST_SECONDS_MAX) + 1):
        answers += stage.harness.advance(1.0)
        stage.kazoo.answer()
    assert answers == [("ann", Answered(request="a", error="connection_loss", path="/node"))]
    forgotten[2].finish((b"late", Stat(1, 1, 1)))
    assert stage.told() == []


@pytest.mark.parametrize("path", ["", "node", "/node/", "//node", "/a//b"])
def test_a_path_that_is_none_is_refused_and_the_actor_lives(stage: Stage, path: str) -> None:
    stage.connect()
    (answer,) = stage.tell(DeleteNode(request="a", path=path, reply_to=stage.ann))
    assert answer.error.startswith("other:")
    assert stage.tell(stage.watch(path)) == []
    assert stage.kazoo.pending == []


def test_content_that_would_make_the_server_cut_the_connection_is_refused(stage: Stage) -> None:
    stage.connect()
    (answer,) = stage.tell(CreateNode(request="a", path="/node", data=bytes(1_000_001), reply_to=stage.ann))
    assert answer.error.startswith("other:1000001 bytes")
    assert stage.kazoo.pending == []


def test_more_requests_than_kazoo_can_take_without_blocking_wait_for_their_turn(stage: Stage) -> None:
    stage.connect()
    names = [f"{number}" for number in range(3 * REQUESTS_MAX)]
    assert stage.tell(*(stage.read(name) for name in names)) == []
    assert len(stage.kazoo.pending) == 2 * REQUESTS_MAX
    assert [answer.request for answer in stage.settle()] == names
    stage.tell(*(stage.read(name) for name in names))
    stage.kazoo.cut()
    assert [answer.request for answer in stage.told()[1:]] == names


def test_requests_that_nobody_could_ever_pass_on_are_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches_module, "WAITING_MAX", 7)
    stage.connect()
    answers = stage.tell(*(stage.read(f"{number}") for number in range(REQUESTS_MAX + 10)))
    assert [answer.request for answer in answers] == [f"{REQUESTS_MAX + number}" for number in (7, 8, 9)]
    assert {answer.error for answer in answers} == {"other:7 requests wait already"}
    assert len(stage.settle()) == REQUESTS_MAX + 7


# Watches


def node(data: bytes | None, version: int, path: str = "/node") -> NodeChanged:
    return NodeChanged(path=path, data=data, version=version)


def test_a_watched_node_is_told_at_once_and_after_every_change(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.watch())
    assert stage.settle() == [node(None, -1)]
    stage.zookeeper.set("/node", b"one")
    assert stage.settle() == [node(b"one", 0)]
    stage.zookeeper.set("/node", b"two")
    assert stage.settle() == [node(b"two", 1)]
    stage.zookeeper.delete("/node")
    assert stage.settle() == [node(None, -1)]


def test_watched_children_are_told_sorted_and_a_missing_parent_has_none(stage: Stage) -> None:
    stage.connect()
    stage.tell(WatchChildren(path="/nodes", reply_to=stage.ann))
    assert stage.settle() == [ChildrenChanged(path="/nodes", names=())]
    stage.zookeeper.set("/nodes", b"")
    assert stage.settle() == []
    stage.zookeeper.set("/nodes/b", b"")
    stage.zookeeper.set("/nodes/a", b"")
    assert stage.settle() == [ChildrenChanged(path="/nodes", names=("a", "b"))]
    stage.zookeeper.set("/nodes/a", b"content is none of it")
    assert stage.settle() == []
    stage.zookeeper.delete("/nodes/b")
    assert stage.settle() == [ChildrenChanged(path="/nodes", names=("a",))]


def test_a_node_removed_and_made_again_between_two_reads_is_told_though_its_version_is_the_same(stage: Stage) -> None:
    stage.connect()
    stage.zookeeper.set("/node", b"same")
    stage.tell(stage.watch())
    assert stage.settle() == [node(b"same", 0)]
    stage.zookeeper.delete("/node")
    stage.zookeeper.set("/node", b"same")
    assert stage.settle() == [node(b"same", 0)]


def test_a_watch_that_fires_while_the_path_is_being_read_has_it_read_once_more(stage: Stage) -> None:
    stage.connect()
    stage.zookeeper.set("/node", b"one")
    stage.tell(stage.watch())
    stage.kazoo.answer(1)  # the watch is set
    stage.zookeeper.set("/node", b"two")
    assert stage.told() == []
    stage.kazoo.answer(1)
    assert stage.told() == [node(b"two", 1)]
    assert stage.kazoo.asked() == ["exists /node", "get /node"]
    assert stage.settle() == []


def test_a_path_never_gathers_more_than_one_watch(stage: Stage) -> None:
    stage.connect()
    for _ in range(10):
        stage.tell(stage.watch())
        stage.settle()
        stage.tell(Unwatch(path="/node", reply_to=stage.ann))
        stage.kazoo.cut()
        stage.told()
        stage.reconnect()
        stage.tell(stage.watch(), stage.watch())
        stage.settle()
    assert [len(watches) for watches in stage.kazoo.node_watches.values()] == [1]


def test_after_a_reconnection_everything_is_read_again_and_only_changes_are_told(stage: Stage) -> None:
    stage.zookeeper.set("/same", b"same")
    stage.zookeeper.set("/node", b"one")
    stage.connect()
    stage.tell(stage.watch("/same"), stage.watch("/node"), WatchChildren(path="/", reply_to=stage.ann))
    stage.settle()
    stage.kazoo.cut()
    assert stage.told() == [Suspended()]
    stage.zookeeper.set("/node", b"two")
    stage.reconnect()
    assert sorted(stage.kazoo.asked()) == sorted(
        ["exists /", "children /", "exists /node", "get /node", "exists /same", "get /same"]
    )
    assert stage.settle() == [node(b"two", 1)]
    stage.zookeeper.set("/same", b"not the same")
    assert stage.settle() == [node(b"not the same", 1, "/same")]


def test_another_session_reads_everything_again_too(stage: Stage) -> None:
    stage.zookeeper.set("/node", b"one")
    stage.connect()
    stage.tell(stage.watch())
    stage.settle()
    stage.kazoo.cut(state="LOST")
    stage.harness.advance(1.0)
    stage.zookeeper.set("/node", b"two")
    assert [*stage.reconnect(), *stage.settle()] == [connected(2), node(b"two", 1)]


def test_who_begins_to_watch_what_is_watched_already_is_told_it_at_once(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.watch())
    stage.settle()
    bob = stage.harness.probe("bob")
    assert stage.harness.tell(WatchNode(path="/node", reply_to=bob)) == [("bob", node(None, -1))]
    assert stage.kazoo.pending == []
    stage.zookeeper.set("/node", b"one")
    assert stage.settle() == [node(b"one", 0), node(b"one", 0)]


def test_who_asks_again_is_told_again(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.watch())
    assert stage.settle() == [node(None, -1)]
    assert stage.tell(stage.watch()) == [node(None, -1)]


def test_who_begins_to_watch_while_disconnected_is_told_when_it_is_known_for_sure(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.watch())
    stage.settle()
    stage.kazoo.cut()
    stage.told()
    bob = stage.harness.probe("bob")
    assert stage.harness.tell(WatchNode(path="/node", reply_to=bob)) == []
    stage.reconnect()
    stage.kazoo.answer()
    assert stage.harness.advance(0.0) == [("bob", node(None, -1))]


def test_who_watches_no_more_is_told_no_more_and_nothing_is_read_for_nobody(stage: Stage) -> None:
    stage.connect()
    stage.tell(stage.watch(), WatchChildren(path="/node", reply_to=stage.ann))
    stage.settle()
    stage.tell(Unwatch(path="/node", reply_to=stage.ann))
    stage.zookeeper.set("/node", b"one")
    assert stage.settle() == []
    assert stage.harness.actor.watched == {}


def test_only_so_many_paths_are_read_at_once_and_all_are_read_in_the_end(stage: Stage) -> None:
    stage.connect()
    paths = [f"/node{number:03}" for number in range(3 * READS_MAX)]
    stage.tell(*(stage.watch(path) for path in paths))
    assert len(stage.kazoo.pending) == 2 * READS_MAX
    facts = stage.settle()
    assert sorted(fact.path for fact in facts) == paths


def test_a_path_that_may_not_be_read_is_tried_again_later(stage: Stage) -> None:
    stage.connect()
    stage.zookeeper.set("/node", b"one")
    stage.zookeeper.secret.add("/node")
    stage.tell(stage.watch())
    for _ in range(3):
        assert stage.settle() == []
        stage.harness.advance(watches_module.LOOK_AGAIN_SECONDS)
    assert stage.settle() == []
    stage.zookeeper.secret.clear()
    stage.harness.advance(watches_module.LOOK_AGAIN_SECONDS)
    assert stage.settle() == [node(b"one", 0)]


STEPS = st.sampled_from(
    ["change", "change", "remove", "request", "watch", "unwatch", "answer", "answer", "cut", "cut late", "connect"]
    + ["connect", "lose", "second"]
)


@settings(max_examples=600, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_whatever_happens_requests_are_answered_once_and_facts_never_go_back(steps: list[str]) -> None:
    stage = Stage()
    heard: list[Any] = stage.tell(Subscribe(reply_to=stage.ann))
    asked: list[str] = []
    for step in steps:
        kazoo = stage.kazoo
        match step:
            case "change":
                stage.zookeeper.set("/node", b"%d" % (stage.zookeeper.zxid + 1))
            case "remove" if "/node" in stage.zookeeper.nodes:
                stage.zookeeper.delete("/node")
            case "request":
                asked.append(f"{len(asked)}")
                heard += stage.tell(stage.read(asked[-1]))
            case "watch":
                heard += stage.tell(stage.watch(), WatchChildren(path="/", reply_to=stage.ann))
            case "unwatch":
                heard += stage.tell(Unwatch(path="/node", reply_to=stage.ann))
            case "answer" if kazoo.linked:
                kazoo.answer(1)
            case "cut" | "cut late" if kazoo.linked:
                kazoo.cut(state_first=step == "cut late")
            case "connect" if not kazoo.linked:
                kazoo.connect()
            case "lose" if kazoo.session:
                kazoo.cut(state="LOST")
            case "second":
                heard += [message for _, message in stage.harness.advance(1.0)]
        heard += stage.told()
    # The faults stop: the connection is there, everything is answered.
    heard += [message for _, message in stage.harness.advance(10.0)]
    if not stage.kazoo.linked:
        stage.kazoo.connect()
    heard += stage.tell(stage.watch(), WatchChildren(path="/", reply_to=stage.ann))
    heard += stage.settle()

    answers = [message for message in heard if isinstance(message, Answered)]
    assert sorted(answer.request for answer in answers) == sorted(asked)
    contents = [int(message.data) for message in heard if isinstance(message, NodeChanged) and message.data]
    assert contents == sorted(contents)
    last = {type(message): message for message in heard}
    data, stat = stage.zookeeper.nodes.get("/node", (None, Stat(0, 0, -1)))
    assert last[NodeChanged] == node(data, stat.version)
    assert last[ChildrenChanged].names == tuple(sorted(stage.zookeeper.children("/")))
    states = [m for m in heard if isinstance(m, Connected | Suspended | Lost)]
    assert isinstance(states[-1], Connected)
    for before, after in zip(states, states[1:], strict=False):
        match before, after:
            case Connected(), Suspended() | Lost():
                pass
            case Suspended(), Connected() | Lost():
                pass
            case Lost(), Connected():
                pass
            case _:
                raise AssertionError(f"{before} and then {after}")
    sessions = [state.session_id for state in states if isinstance(state, Connected)]
    assert sessions == sorted(sessions)
    stage.harness.stop()


# Against real servers


class Ear(Ref):
    """A ref that keeps what it is told, with a test waiting on another thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[Any] = []

    @property
    def address(self) -> str:
        return f"local://{self.name}"

    def is_alive(self) -> bool:
        return True

    def tell(self, message: Any) -> None:
        self.heard.append(message)

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def proxy(self) -> Any:
        raise NotImplementedError

    def of(self, *kinds: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kinds)]


class WatchingHome(Home):
    """A home of watches actors."""

    def watches(self, hosts: str, seconds: float = 4.0, **options: Any) -> Ref:
        name = f"watches-{len(self.system.names())}"
        return self.system.spawn(
            Watches, name=name, supervision=ESCALATE, hosts=hosts, session_timeout_seconds=seconds, **options
        )

    def turn(self) -> None:
        """Returns when the loop has come round, which it does not while something blocks it."""
        came = threading.Event()
        self.loop.call_soon_threadsafe(came.set)
        assert came.wait(10)


class Gate:
    """A TCP proxy before a server, to be shut (connections break, new ones are refused) and frozen (silence)."""

    def __init__(self, port: int) -> None:
        self._to, self.port = port, free_port()
        self._loop = uvloop.new_event_loop()
        self._ends: list[asyncio.WriteTransport] = []
        self._server: asyncio.Server | None = None
        self._frozen = False
        self.swallowed = threading.Event()
        """Something came while it was frozen."""
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.open()

    @property
    def hosts(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def open(self) -> None:
        async def listen() -> None:
            self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

        self._run(listen())

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:  # it is not there
            writer.close()
            return
        self._ends += [writer.transport, back.transport]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while received := await source.read(65536):
                    if self._frozen:
                        self.swallowed.set()
                        return
                    sink.write(received)
                    await sink.drain()
            if not self._frozen:
                sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))

    def shut(self) -> None:
        async def cut() -> None:
            if self._server is not None:
                self._server.close()
            while self._ends:
                self._ends.pop().abort()
            await asyncio.sleep(0)

        self._run(cut())

    def freeze(self) -> None:
        self._frozen = True

    def thaw(self) -> None:
        """Let through again what comes over connections that were not used while it was frozen."""
        self._frozen = False

    def close(self) -> None:
        self.shut()

        async def finish() -> None:
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

        self._run(finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def gate(home: WatchingHome, embedded_zookeeper: Any) -> Iterator[Gate]:
    gate = Gate(embedded_zookeeper.port)
    yield gate
    gate.close()


@pytest.fixture
def home() -> Iterator[WatchingHome]:
    home = WatchingHome()
    yield home
    home.close()


@pytest.fixture(params=["embedded", pytest.param("debian", marks=[pytest.mark.processes, pytest.mark.real_zookeeper])])
def zookeeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with either(request.param, tmp_path) as server:
        yield server


def either(kind: str, tmp_path: Path) -> Any:
    """A server that grants sessions of 400 ms to 20 s: long enough for Java to be started within."""
    if kind == "debian":
        return debian(tmp_path, maxSessionTimeout=20_000)
    return embedded(tmp_path, limits=Limits(session_ticks_max=100))


def ask(watches: Ref, request: Any) -> Answered:
    """The answer to a request whose ``reply_to`` is an Ear."""
    watches.tell(request)
    (answer,) = until(lambda: [a for a in request.reply_to.of(Answered) if a.request == request.request])
    return answer  # type: ignore[no-any-return]


def test_a_real_session_is_granted_what_the_server_grants(zookeeper: Any, home: WatchingHome) -> None:
    for seconds, granted in [(0.1, 0.4), (2.0, 2.0), (60.0, 20.0)]:
        ear = Ear("ann")
        home.watches(zookeeper.hosts, seconds).tell(Subscribe(reply_to=ear))
        until(partial(ear.of, Connected))
        assert ear.of(Connected)[0].timeout_seconds == granted


def test_real_requests_say_what_became_of_them(zookeeper: Any, home: WatchingHome) -> None:
    watches, ann = home.watches(zookeeper.hosts), Ear("ann")
    watches.tell(Subscribe(reply_to=ann))
    session = until(lambda: ann.of(Connected))[0].session_id

    def become(request: Any) -> tuple[str, str, bytes | None, int, int]:
        answer = ask(watches, request)
        return answer.error, answer.path, answer.data, answer.version, answer.owner

    made = CreateNode(request="1", path="/a/b/node", data=b"one", reply_to=ann)
    assert become(made) == ("", "/a/b/node", None, 0, 0)
    again = CreateNode(request="2", path="/a/b/node", data=b"other", reply_to=ann)
    assert become(again) == ("node_exists", "/a/b/node", None, -1, 0)
    ours = CreateNode(request="3", path="/a/e-", data=b"", ephemeral=True, sequential=True, reply_to=ann)
    assert become(ours) == ("", "/a/e-0000000001", None, 0, session)
    assert become(ReadNode(request="4", path="/a/e-0000000001", reply_to=ann))[4] == session
    below = CreateNode(request="5", path="/a/e-0000000001/child", data=b"", reply_to=ann)
    assert become(below)[0] == "other:NoChildrenForEphemeralsError"
    write = SetNode(request="6", path="/a/b/node", data=b"two", version=0, reply_to=ann)
    assert become(write) == ("", "/a/b/node", None, 1, 0)
    stale = SetNode(request="7", path="/a/b/node", data=b"three", version=0, reply_to=ann)
    assert become(stale)[0] == "bad_version"
    assert become(ReadNode(request="8", path="/a/b/node", reply_to=ann)) == ("", "/a/b/node", b"two", 1, 0)
    assert become(DeleteNode(request="9", path="/a/b", reply_to=ann))[0] == "not_empty"
    assert become(DeleteNode(request="10", path="/a/b/node", version=7, reply_to=ann))[0] == "bad_version"
    assert become(DeleteNode(request="11", path="/a/b/node", reply_to=ann))[0] == ""
    assert become(ReadNode(request="12", path="/a/b/node", reply_to=ann))[0] == "no_node"


def test_real_changes_are_told_by_whomever_they_are_made(zookeeper: Any, home: WatchingHome) -> None:
    watches, ann = home.watches(zookeeper.hosts), Ear("ann")
    watches.tell(WatchNode(path="/a/node", reply_to=ann))
    watches.tell(WatchChildren(path="/a", reply_to=ann))
    until(lambda: len(ann.heard) == 2)
    other = zookeeper.client()
    expected: list[Any] = [node(None, -1, "/a/node"), ChildrenChanged(path="/a", names=())]

    def then(*facts: Any) -> None:
        expected.extend(facts)
        until(lambda: len(ann.heard) >= len(expected), what=str(facts))

    other.create("/a/node", b"one", makepath=True)
    then(node(b"one", 0, "/a/node"), ChildrenChanged(path="/a", names=("node",)))
    other.set("/a/node", b"two")
    then(node(b"two", 1, "/a/node"))
    other.create("/a/b")
    then(ChildrenChanged(path="/a", names=("b", "node")))
    transaction = other.transaction()
    transaction.delete("/a/node")
    transaction.create("/a/node", b"two")
    transaction.commit()
    then(node(b"two", 0, "/a/node"))
    other.delete("/a", recursive=True)
    gone = [node(None, -1, "/a/node"), ChildrenChanged(path="/a", names=())]
    until(lambda: [ann.of(NodeChanged)[-1], ann.of(ChildrenChanged)[-1]] == gone)
    key = lambda fact: (type(fact).__name__, str(fact))  # noqa: E731  # facts of two paths have no order
    assert sorted(ann.heard[: len(expected)], key=key) == sorted(expected, key=key)


def test_a_server_away_for_a_while_suspends_the_session_and_everything_is_read_again(
    zookeeper: Any, home: WatchingHome
) -> None:
    watches, ann, bob = home.watches(zookeeper.hosts, 20.0), Ear("ann"), Ear("bob")
    watches.tell(Subscribe(reply_to=ann))
    watches.tell(WatchNode(path="/node", reply_to=ann))
    watches.tell(WatchNode(path="/other", reply_to=bob))
    until(lambda: ann.of(NodeChanged) and bob.heard)
    session = ann.of(Connected)[0]
    assert ask(watches, CreateNode(request="1", path="/mine", data=b"", ephemeral=True, reply_to=ann)).error == ""
    zookeeper.kill()
    until(lambda: ann.of(Suspended))
    # Nobody waits for the connection: whoever asks now is answered now, whoever watches from now on is told later.
    assert ask(watches, ReadNode(request="2", path="/node", reply_to=bob)).error == "connection_loss"
    watches.tell(WatchChildren(path="/", reply_to=bob))
    zookeeper.start()
    until(lambda: ann.of(Connected)[1:])
    assert ann.of(Connected) == [session, session]
    until(lambda: bob.of(ChildrenChanged))
    assert "mine" in bob.of(ChildrenChanged)[0].names
    other = zookeeper.client()
    other.create("/other", b"one")
    other.create("/node", b"one")
    until(lambda: node(b"one", 0, "/other") in bob.heard and node(b"one", 0) in ann.heard)
    assert ann.of(Lost) == []


def test_a_server_that_takes_a_connection_as_it_starts_and_never_answers_it_does_not_cost_the_session(
    home: WatchingHome, tmp_path: Path
) -> None:
    """Apache's does that for some hundredths of a second; kazoo would wait for as long as the session lasts."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(embedded(tmp_path, limits=Limits(session_ticks_max=100)))
        gate = Gate(server.port)
        stack.callback(gate.close)
        watches, ann = home.watches(gate.hosts, 8.0), Ear("ann")
        watches.tell(Subscribe(reply_to=ann))
        session = until(lambda: ann.of(Connected))[0]
        gate.shut()
        until(lambda: ann.of(Suspended))
        gate.freeze()
        gate.open()
        assert gate.swallowed.wait(10)
        gate.thaw()
        until(lambda: ann.of(Connected)[1:])
        assert ann.of(Connected, Suspended, Lost) == [session, Suspended(), session]


@pytest.mark.parametrize("tries", [1, 3])
def test_a_server_that_never_answers_the_first_word_is_left_and_tried_again(
    home: WatchingHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    monkeypatch.setattr(watches_module, "NEW_SESSION_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        gate = Gate(stack.enter_context(embedded(tmp_path, limits=Limits(session_ticks_max=100))).port)
        stack.callback(gate.close)
        gate.freeze()
        ann = Ear("ann")
        home.watches(gate.hosts, 20.0).tell(Subscribe(reply_to=ann))
        for _ in range(tries):
            assert gate.swallowed.wait(10)
            gate.swallowed.clear()
        gate.thaw()
        until(lambda: ann.of(Connected))


def test_a_change_made_while_disconnected_is_told_after_the_reconnection(
    home: WatchingHome, embedded_zookeeper: Any, gate: Gate
) -> None:
    watches, ann = home.watches(gate.hosts), Ear("ann")
    other = embedded_zookeeper.client()
    other.create("/node", b"one")
    watches.tell(Subscribe(reply_to=ann))
    watches.tell(WatchNode(path="/node", reply_to=ann))
    watches.tell(WatchNode(path="/same", reply_to=ann))
    until(lambda: len(ann.of(NodeChanged)) == 2)
    gate.shut()
    until(lambda: ann.of(Suspended))
    other.set("/node", b"two")
    gate.open()
    until(lambda: node(b"two", 1) in ann.heard)
    assert len(ann.of(Connected)) == 2
    assert len(ann.of(NodeChanged)) == 3


def test_our_clock_loses_the_session_while_the_server_stays_unreachable_and_another_follows(
    home: WatchingHome, embedded_zookeeper: Any, gate: Gate
) -> None:
    watches, ann = home.watches(gate.hosts, 2.0), Ear("ann")
    watches.tell(Subscribe(reply_to=ann))
    first = until(lambda: ann.of(Connected))[0]
    made = CreateNode(request="1", path="/mine", data=b"", ephemeral=True, reply_to=ann)
    assert ask(watches, made).error == ""
    gate.shut()
    until(lambda: ann.of(Lost))
    assert [type(fact) for fact in ann.of(Connected, Suspended, Lost)] == [Connected, Suspended, Lost]
    home.turn()
    gate.open()
    until(lambda: ann.of(Connected)[1:])
    assert ann.of(Connected)[1].session_id != first.session_id
    other = embedded_zookeeper.client()
    until(lambda: other.exists("/mine") is None)


def test_a_server_that_falls_silent_is_noticed_and_the_session_is_lost_in_time(home: WatchingHome, gate: Gate) -> None:
    watches, ann = home.watches(gate.hosts, 3.0), Ear("ann")  # the silence is noticed a second before it is lost
    watches.tell(Subscribe(reply_to=ann))
    until(lambda: ann.of(Connected))
    gate.freeze()
    for number in range(500):  # more than kazoo could take from us without blocking us
        watches.tell(ReadNode(request=f"{number}", path="/", reply_to=ann))
    home.turn()
    until(lambda: ann.of(Lost))
    assert len(ann.of(Suspended)) == 1
    until(lambda: len(ann.of(Answered)) == 500)
    assert {answer.error for answer in ann.of(Answered)} <= {"connection_loss", "session_lost"}


def test_a_session_that_the_server_ends_is_lost_and_another_one_follows(zookeeper: Any, home: WatchingHome) -> None:
    with contextlib.closing(Gate(zookeeper.port)) as gate:
        watches, ann = home.watches(gate.hosts, 20.0), Ear("ann")
        watches.tell(Subscribe(reply_to=ann))
        watches.tell(WatchNode(path="/node", reply_to=ann))
        until(lambda: ann.of(NodeChanged))
        first = ann.of(Connected)[0]
        thief = KazooClient(zookeeper.hosts, client_id=watches._actor_weakref().client.client_id)  # type: ignore[attr-defined]
        gate.shut()  # else both would take the session from each other, and it might not be the thief's as that stops
        thief.start()
        thief.stop()  # ends the session that it took over
        thief.close()
        gate.open()
        until(lambda: ann.of(Lost))
        until(lambda: ann.of(Connected)[-1].session_id != first.session_id)
        zookeeper.client().create("/node", b"one")
        until(lambda: node(b"one", 0) in ann.heard)


def test_closing_makes_ephemeral_nodes_vanish_before_it_is_said_to_be_done(zookeeper: Any, home: WatchingHome) -> None:
    watches, ann = home.watches(zookeeper.hosts), Ear("ann")
    watches.tell(Subscribe(reply_to=ann))
    until(lambda: ann.of(Connected))
    ask(watches, CreateNode(request="1", path="/mine", data=b"", ephemeral=True, reply_to=ann))
    other = zookeeper.client()
    assert other.exists("/mine")
    watches.tell(CloseSession(reply_to=ann))
    until(lambda: ann.of(SessionClosed))
    other.sync("/mine")
    assert other.exists("/mine") is None
    assert ann.of(Lost) == [Lost()]


def test_stopping_the_system_closes_the_session_in_the_background(home: WatchingHome, embedded_zookeeper: Any) -> None:
    watches, ann = home.watches(embedded_zookeeper.hosts), Ear("ann")
    watches.tell(Subscribe(reply_to=ann))
    until(lambda: ann.of(Connected))
    ask(watches, CreateNode(request="1", path="/mine", data=b"", ephemeral=True, reply_to=ann))
    other = embedded_zookeeper.client()
    home.loop.call_soon_threadsafe(home.system.stop)
    until(lambda: other.exists("/mine") is None, 3.0)  # by itself it would take 4


def test_zookeeper_unreachable_at_start_is_said_in_one_sentence_and_waited_for(
    tmp_path: Path, home: WatchingHome, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches_module, "UNREACHED_SECONDS_MIN", 0.1)
    port, ann = free_port(), Ear("ann")
    watches = home.watches(f"127.0.0.1:{port}")
    watches.tell(Subscribe(reply_to=ann))

    def complaints() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name == watches_module.__name__]

    until(complaints)
    assert complaints() == [
        f"ZooKeeper at 127.0.0.1:{port} cannot be reached (127.0.0.1:{port}: Connection refused) - nothing there can "
        "be read or changed - check that it runs and that the address is right; trying on until it answers"
    ]
    home.turn()
    with embedded(tmp_path, port=port):
        until(lambda: ann.of(Connected))


def test_a_server_that_is_no_zookeeper_is_survived(
    home: WatchingHome, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches_module, "REACH_SECONDS_MAX", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        answered = []

        def babble() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"\0\0\0\x26 SSH-2.0-OpenSSH_9.2 and more of that kind, and more")
                    answered.append(connection)

        babbler = threading.Thread(target=babble)
        babbler.start()
        home.watches(f"127.0.0.1:{server.getsockname()[1]}")
        until(lambda: "gives us no session" in caplog.text)
        until(lambda: len(answered) > 2)
        home.turn()
        server.shutdown(socket.SHUT_RDWR)
        babbler.join(10)
        for connection in answered:
            connection.close()


OURS, FORMER = ("ring", "keeper"), ("ring", "of before")


def connected_watches(home: WatchingHome, zookeeper: Any, *auth: tuple[str, str]) -> Ref:
    watches, ear = home.watches(zookeeper.hosts, auth=auth), Ear("ear")
    watches.tell(Subscribe(reply_to=ear))
    until(partial(ear.of, Connected))
    return watches


def attempts(watches: Ref, path: str) -> list[str]:
    """What becomes of writing a node, of removing it, and of making one below it."""
    ann = Ear("ann")
    requests = (
        SetNode(request="set", path=path, data=b"", version=-1, reply_to=ann),
        DeleteNode(request="delete", path=path, reply_to=ann),
        CreateNode(request="below", path=f"{path}/below", data=b"", reply_to=ann),
    )
    return [ask(watches, request).error for request in requests]


@pytest.mark.parametrize("other", [(), (FORMER,)])
def test_what_is_made_with_a_user_is_changed_by_that_user_only_and_read_by_all(
    zookeeper: Any, home: WatchingHome, other: tuple[tuple[str, str], ...], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = connected_watches(home, zookeeper, OURS), connected_watches(home, zookeeper, *other)
    ann = Ear("ann")
    assert ask(ours, CreateNode(request="1", path="/all/ours/node", data=b"one", reply_to=ann)).error == ""
    assert attempts(theirs, "/all/ours") == ["no_auth", "not_empty", "no_auth"]
    assert attempts(theirs, "/all/ours/node") == ["no_auth", "no_auth", "no_auth"]
    assert "refuses us /all/ours: it was made by processes with another secret than ours" in caplog.text
    assert ask(theirs, ReadNode(request="2", path="/all/ours/node", reply_to=ann)).data == b"one"
    assert ask(theirs, CreateNode(request="3", path="/all/theirs/node", data=b"", reply_to=ann)).error == ""
    assert ask(ours, SetNode(request="4", path="/all/ours/node", data=b"", version=0, reply_to=ann)).error == ""


@pytest.mark.parametrize("before", [(), (FORMER,)])
def test_what_was_everybodys_or_our_former_users_is_taken_over_where_it_is_written(
    zookeeper: Any, home: WatchingHome, before: tuple[tuple[str, str], ...], caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ann = connected_watches(home, zookeeper, *before), Ear("ann")
    for path in ("/all/ours/ring", "/all/ours/nodes/one"):
        assert ask(theirs, CreateNode(request=path, path=path, data=b"", reply_to=ann)).error == ""
    ours = connected_watches(home, zookeeper, OURS, *before)
    assert ask(ours, ReadNode(request="1", path="/all/ours/ring", reply_to=ann)).error == ""
    assert ask(theirs, SetNode(request="2", path="/all/ours/ring", data=b"", version=0, reply_to=ann)).error == ""
    assert ask(ours, SetNode(request="3", path="/all/ours/ring", data=b"", version=1, reply_to=ann)).error == ""
    ephemeral = CreateNode(request="4", path="/all/ours/nodes/two", data=b"", ephemeral=True, reply_to=ann)
    assert ask(ours, ephemeral).error == ""
    until(lambda: caplog.text.count("; now only the processes of this cluster can") == 3)
    assert attempts(theirs, "/all/ours") == ["no_auth", "not_empty", "no_auth"]
    assert attempts(theirs, "/all/ours/ring") == ["no_auth", "no_auth", "no_auth"]
    assert attempts(theirs, "/all/ours/nodes") == ["no_auth", "no_auth", "no_auth"]
    assert attempts(theirs, "/all/ours/nodes/one")[1] == "no_auth"


def test_whoever_looks_at_it_is_not_shown_how_it_proves_who_it_is(embedded_zookeeper: Any, home: WatchingHome) -> None:
    actor = connected_watches(home, embedded_zookeeper, OURS)._actor_weakref()  # type: ignore[attr-defined]
    shown = json.dumps(Shower(depth=8, items=1000, characters=10_000).state_of(actor))
    assert embedded_zookeeper.hosts in shown and OURS[1] not in shown


def test_the_user_of_a_secret_does_not_lead_back_to_it() -> None:
    assert auth_of(b"") == ()
    assert auth_of(b"secret", b"another") == (*auth_of(b"secret"), *auth_of(b"another"))
    assert auth_of(b"secret") != auth_of(b"another")
    assert "secret" not in "".join(*auth_of(b"secret"))


def test_kazoo_says_nothing_below_a_warning_and_nothing_twice(
    home: WatchingHome, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    watches, ann = home.watches(gate.hosts, 0.6), Ear("ann")
    watches.tell(Subscribe(reply_to=ann))
    until(lambda: ann.of(Connected))
    gate.shut()
    until(lambda: ann.of(Lost))
    said = [record for record in caplog.records if record.name.startswith((watches_module.kazoo_log.name, "kazoo"))]
    assert all(record.levelno >= logging.WARNING for record in said)
    texts = [record.getMessage() for record in said]
    assert all(before != after for before, after in zip(texts, texts[1:], strict=False))
