"""What a client of ZooKeeper may rely on, asked of the embedded server and of Debian's.

Both servers are shared by all tests of this file; each test has a home of its own in the tree.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from kazoo.client import KazooClient, KazooState  # type: ignore[import-untyped]
from kazoo.exceptions import (  # type: ignore[import-untyped]
    AuthFailedError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.security import make_acl, make_digest_acl  # type: ignore[import-untyped]
from ringkeeper.tests.zookeepers import (
    Wire,
    Zookeeper,
    access,
    creation,
    data,
    debian,
    embedded,
    number,
    text,
    texts,
    wait_until,
)

REAL = [pytest.mark.processes, pytest.mark.real_zookeeper]
CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_CHILDREN, SYNC, PING = 1, 2, 3, 4, 5, 8, 9, 11
AUTH, SET_WATCHES, SET_WATCHES2, ADD_WATCH, REMOVE_WATCHES, CLOSE = 100, 101, 105, 106, 18, -11
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
WATCH, NO_WATCH = b"\1", b"\0"

_homes = count(1)


@pytest.fixture(scope="module", params=["embedded", pytest.param("debian", marks=REAL)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zookeeper]:
    start: Any = {"embedded": embedded, "debian": debian}[request.param]
    with start(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def home(server: Zookeeper) -> str:
    """A path that nothing is below."""
    path = f"/home-{next(_homes)}"
    with server.wire().connect() as wire:
        assert wire.request(CREATE, creation(path))[0] == 0
        wire.request(CLOSE)
    return path


@pytest.fixture
def connect(server: Zookeeper, home: str) -> Iterator[Callable[..., KazooClient]]:
    """Makes kazoo clients whose root is the home; they are closed afterwards."""
    clients: list[KazooClient] = []

    def make(**options: Any) -> KazooClient:
        clients.append(server.client(root=home, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()
        client.close()


@pytest.fixture
def client(connect: Callable[..., KazooClient]) -> KazooClient:
    return connect()


@pytest.fixture
def wire(server: Zookeeper) -> Iterator[Wire]:
    with server.wire().connect() as wire:
        yield wire


# Znodes.


def test_a_znode_is_made_read_changed_and_deleted(client: KazooClient) -> None:
    assert client.create("/a", b"one") == "/a"
    assert client.get("/a")[0] == b"one"
    assert client.set("/a", b"two", version=0).version == 1
    value, stat = client.get("/a")
    assert (value, stat.version, stat.dataLength, stat.ephemeralOwner) == (b"two", 1, 3, 0)
    assert stat.ctime <= stat.mtime and stat.czxid < stat.mzxid
    client.delete("/a", version=1)
    assert client.exists("/a") is None


def test_refusals_have_their_own_errors(client: KazooClient) -> None:
    client.create("/a/b", makepath=True)
    client.create("/e", ephemeral=True)
    refused: list[tuple[type[Exception], Callable[[], Any]]] = [
        (NoNodeError, lambda: client.get("/no")),
        (NoNodeError, lambda: client.create("/no/b")),
        (NodeExistsError, lambda: client.create("/a")),
        (NotEmptyError, lambda: client.delete("/a")),
        (BadVersionError, lambda: client.set("/a", b"", version=3)),
        (NoChildrenForEphemeralsError, lambda: client.create("/e/b")),
        (InvalidACLError, lambda: client.create("/c", acl=[make_acl("world", "nobody", all=True)])),
    ]
    for error, call in refused:
        with pytest.raises(error):
            call()


def test_children_are_listed_with_the_parents_stat(client: KazooClient) -> None:
    for name in ("c", "a", "b"):
        client.create(f"/p/{name}", makepath=True)
    names, stat = client.get_children("/p", include_data=True)
    assert sorted(names) == ["a", "b", "c"]
    assert (stat.numChildren, stat.cversion) == (3, 3)


def test_sequential_names_count_the_creations_in_their_parent(client: KazooClient) -> None:
    client.create("/q")
    made = [client.create("/q/n-", sequence=True) for _ in range(3)]
    client.delete(made[2])
    made.append(client.create("/q/n-", sequence=True))
    assert made == [f"/q/n-{number:010d}" for number in range(4)]


def test_large_data_fits_up_to_the_frame(client: KazooClient) -> None:
    large = bytes(range(256)) * 4000
    client.create("/large", large)
    assert client.get("/large")[0] == large


def test_ephemerals_go_when_their_client_says_goodbye(client: KazooClient, connect: Callable[..., KazooClient]) -> None:
    other = connect()
    other.create("/e", ephemeral=True)
    assert client.exists("/e").ephemeralOwner == other.client_id[0]
    other.stop()
    assert client.exists("/e") is None


# Transactions.


def test_a_transaction_happens_as_a_whole(client: KazooClient) -> None:
    client.create("/a", b"old")
    transaction = client.transaction()
    transaction.check("/a", 0)
    transaction.set_data("/a", b"new")
    transaction.create("/b")
    transaction.create("/b/n-", sequence=True, ephemeral=True)
    transaction.delete("/b/n-0000000000")
    checked, changed, *rest = transaction.commit()
    assert checked is True and changed.version == 1
    assert rest == ["/b", "/b/n-0000000000", True]
    assert client.get("/a")[1].mzxid == client.get("/b")[1].czxid


def test_a_transaction_that_fails_does_nothing(client: KazooClient) -> None:
    client.create("/a", b"old")
    transaction = client.transaction()
    transaction.set_data("/a", b"new")
    transaction.create("/b")
    transaction.check("/a", 7)
    transaction.delete("/a")
    results = transaction.commit()
    assert [type(result) for result in results] == [
        RolledBackError,
        RolledBackError,
        BadVersionError,
        RuntimeInconsistency,
    ]
    assert client.get("/a")[0] == b"old" and client.get("/a")[1].version == 0
    assert client.exists("/b") is None


# Watches.


def test_a_data_watch_follows_a_znode_through_its_life(client: KazooClient) -> None:
    seen: list[bytes | None] = []
    client.DataWatch("/a", lambda value, stat: seen.append(value))
    wait_until(lambda: seen == [None])
    client.create("/a", b"1")
    wait_until(lambda: seen == [None, b"1"])
    client.set("/a", b"2")
    wait_until(lambda: seen == [None, b"1", b"2"])
    client.delete("/a")
    wait_until(lambda: seen == [None, b"1", b"2", None])


def test_a_children_watch_follows_a_list(client: KazooClient, connect: Callable[..., KazooClient]) -> None:
    client.create("/p")
    seen: list[list[str]] = []
    client.ChildrenWatch("/p", lambda names: seen.append(sorted(names)))
    other = connect()
    other.create("/p/a", ephemeral=True)
    wait_until(lambda: seen[-1:] == [["a"]])
    other.stop()
    wait_until(lambda: seen == [[], ["a"], []])


def test_an_event_comes_before_the_reply_to_its_own_cause(wire: Wire, home: str) -> None:
    path = f"{home}/a"
    assert wire.request(EXISTS, text(path) + WATCH)[0] == -101
    assert wire.request(GET_CHILDREN, text(home) + WATCH)[0] == 0
    assert wire.request(CREATE, creation(path))[0] == 0
    assert wire.events == [(CREATED, path), (CHILDREN, home)]


def test_an_event_comes_before_any_reply_that_shows_the_new_state(server: Zookeeper, wire: Wire, home: str) -> None:
    path = f"{home}/a"
    wire.request(CREATE, creation(path, b"0"))
    stop = threading.Event()

    def write() -> None:
        with server.wire().connect() as writer:
            while not stop.is_set():
                writer.request(SET_DATA, text(path) + data(b"x") + number(-1))
            writer.request(CLOSE)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(200):
            _, before = wire.request(GET_DATA, text(path) + WATCH)
            wire.events.clear()
            while True:
                _, now = wire.request(GET_DATA, text(path) + NO_WATCH)
                if now != before:
                    assert wire.events == [(CHANGED, path)]
                    break
    finally:
        stop.set()
        writing.join()


def test_a_one_shot_watch_fires_once_and_says_it_only_once_for_one_deletion(wire: Wire, home: str) -> None:
    path = f"{home}/a"
    wire.request(CREATE, creation(path))
    wire.request(GET_DATA, text(path) + WATCH)
    wire.request(EXISTS, text(path) + WATCH)
    wire.request(GET_CHILDREN, text(path) + WATCH)
    wire.request(DELETE, text(path) + number(-1))
    wire.request(CREATE, creation(path))
    assert wire.events == [(DELETED, path)]


def test_persistent_watches_stay_until_they_are_taken_back(wire: Wire, home: str) -> None:
    path = f"{home}/a"
    assert wire.request(ADD_WATCH, text(path) + number(0)) == (0, number(0))
    assert wire.request(ADD_WATCH, text(home) + number(1)) == (0, number(0))
    wire.request(CREATE, creation(path))
    wire.request(CREATE, creation(f"{path}/b"))
    wire.request(SET_DATA, text(path) + data(b"x") + number(-1))
    assert wire.events == [(CREATED, path), (CREATED, f"{path}/b"), (CHILDREN, path), (CHANGED, path)]
    assert wire.request(REMOVE_WATCHES, text(path) + number(3))[0] == 0
    assert wire.request(REMOVE_WATCHES, text(home) + number(3))[0] == 0
    assert wire.request(REMOVE_WATCHES, text(path) + number(3))[0] == -121
    wire.request(DELETE, text(f"{path}/b") + number(-1))
    assert len(wire.events) == 4


def test_watches_put_back_after_a_reconnection_fire_for_what_was_missed(
    server: Zookeeper, wire: Wire, home: str
) -> None:
    for name in ("changed", "same", "deleted", "parent", "quiet"):
        wire.request(CREATE, creation(f"{home}/{name}"))
    seen = wire.zxid
    with server.wire().connect() as other:
        other.request(SET_DATA, text(f"{home}/changed") + data(b"x") + number(-1))
        other.request(DELETE, text(f"{home}/deleted") + number(-1))
        other.request(CREATE, creation(f"{home}/created"))
        other.request(CREATE, creation(f"{home}/parent/child"))
    back = server.wire().connect(session=wire.session, password=wire.password, last_zxid_seen=seen)
    with back:
        fields = seen.to_bytes(8, "big") + texts(*(f"{home}/{name}" for name in ("changed", "same", "deleted")))
        fields += texts(f"{home}/created", f"{home}/not-yet") + texts(f"{home}/parent", f"{home}/quiet")
        assert back.request(SET_WATCHES, fields, xid=-8)[0] == 0
        back.request(SYNC, text("/"))
        assert sorted(back.events) == [
            (CREATED, f"{home}/created"),
            (DELETED, f"{home}/deleted"),
            (CHANGED, f"{home}/changed"),
            (CHILDREN, f"{home}/parent"),
        ]
        back.events.clear()
        back.request(SET_DATA, text(f"{home}/same") + data(b"x") + number(-1))
        back.request(CREATE, creation(f"{home}/not-yet"))
        back.request(CREATE, creation(f"{home}/quiet/child"))
        assert back.events == [(CHANGED, f"{home}/same"), (CREATED, f"{home}/not-yet"), (CHILDREN, f"{home}/quiet")]


# kazoo's recipes.


def test_one_at_a_time_holds_a_lock(client: KazooClient, connect: Callable[..., KazooClient]) -> None:
    other = connect()
    mine, theirs = client.Lock("/lock", "ann"), other.Lock("/lock", "bob")
    assert mine.acquire(timeout=5)
    got: list[bool] = []
    waiting = threading.Thread(target=lambda: got.append(theirs.acquire(timeout=20)))
    waiting.start()
    wait_until(lambda: len(client.get_children("/lock")) == 2)
    assert got == []
    assert mine.contenders() == ["ann", "bob"]
    mine.release()
    waiting.join()
    assert got == [True]
    theirs.release()


def test_the_next_in_line_is_elected_when_the_leader_goes(
    client: KazooClient, connect: Callable[..., KazooClient]
) -> None:
    leaders: list[str] = []
    ending = threading.Event()

    def lead(name: str) -> None:
        leaders.append(name)
        ending.wait(20)

    first = connect()
    running = [threading.Thread(target=lambda: _run_until_lost(first.Election("/election", "ann"), lead, "ann"))]
    running[0].start()
    wait_until(lambda: leaders == ["ann"])
    running.append(threading.Thread(target=lambda: client.Election("/election", "bob").run(lead, "bob")))
    running[1].start()
    wait_until(lambda: len(client.get_children("/election")) == 2)
    first.stop()
    wait_until(lambda: leaders == ["ann", "bob"])
    ending.set()
    for thread in running:
        thread.join(20)
        assert not thread.is_alive()


def _run_until_lost(election: Any, lead: Callable[[str], None], name: str) -> None:
    try:
        election.run(lead, name)
    except Exception as error:  # its client was stopped while it led, so it cannot give the lead back
        assert "Closed" in type(error).__name__ or "Stopped" in type(error).__name__, error


# Access.


def test_a_digest_opens_what_was_locked_with_it(client: KazooClient, connect: Callable[..., KazooClient]) -> None:
    client.create("/locked", b"secret", acl=[make_digest_acl("ann", "1", all=True)])
    with pytest.raises(NoAuthError):
        client.get("/locked")
    client.add_auth("digest", "ann:1")
    assert client.get("/locked")[0] == b"secret"
    client.create("/mine", acl=[make_acl("auth", "", all=True)])
    bob = connect(auth_data=[("digest", "bob:2")])
    refused: list[Callable[[], Any]] = [
        lambda: bob.get("/mine"),
        lambda: bob.set("/mine", b""),
        lambda: bob.create("/mine/b"),
        lambda: bob.get_acls("/mine"),
        lambda: bob.get_children("/mine"),
    ]
    for call in refused:
        with pytest.raises(NoAuthError):
            call()
    assert bob.exists("/mine") is not None
    client.set_acls("/mine", [make_acl("world", "anyone", read=True), make_digest_acl("ann", "1", all=True)])
    assert [acl.id.id for acl in bob.get_acls("/mine")[0]][0] == "anyone"
    assert bob.get_acls("/mine")[1].aversion == 1


def test_an_unknown_scheme_ends_the_connection(connect: Callable[..., KazooClient]) -> None:
    client = connect()
    with pytest.raises(AuthFailedError):
        client.add_auth("nonsense", "x")


def test_who_may_not_read_a_znode_hears_nothing_of_it(server: Zookeeper, wire: Wire, home: str) -> None:
    path = f"{home}/secret"
    wire.request(EXISTS, text(path) + WATCH)
    with server.wire().connect() as other:
        other.request(AUTH, number(0) + text("digest") + data(b"ann:1"), xid=-4)
        assert other.request(CREATE, creation(path, acls=access((31, "auth", ""))))[0] == 0
    wire.request(SYNC, text("/"))
    assert wire.events == []


# Sessions.


@pytest.mark.parametrize(("asked", "granted"), [(1, 400), (-5, 400), (1000, 1000), (2**31 - 1, 4000)])
def test_the_session_timeout_is_between_two_and_twenty_ticks(server: Zookeeper, asked: int, granted: int) -> None:
    with server.wire().connect(timeout_ms=asked) as wire:
        assert wire.granted_ms == granted
        assert wire.session != 0 and len(wire.password) == 16


def test_a_session_goes_on_over_another_connection(server: Zookeeper, home: str, client: KazooClient) -> None:
    with server.wire().connect() as wire:
        wire.request(CREATE, creation(f"{home}/e", flags=1))
    with server.wire().connect(session=wire.session, password=wire.password) as back:
        assert back.session == wire.session
        assert client.exists("/e").ephemeralOwner == wire.session
        assert back.request(CLOSE)[0] == 0
        assert back.is_closed()
    assert client.exists("/e") is None


def test_a_session_moves_and_the_connection_it_leaves_is_closed(server: Zookeeper) -> None:
    with (
        server.wire().connect() as old,
        server.wire().connect(session=old.session, password=old.password) as new,
    ):
        assert old.is_closed()
        assert new.request(EXISTS, text("/") + NO_WATCH)[0] == 0


def test_another_password_does_not_get_the_session(server: Zookeeper, wire: Wire) -> None:
    with server.wire().connect(session=wire.session, password=b"x" * 16) as thief:
        assert (thief.session, thief.granted_ms) == (0, 0)
        assert thief.is_closed()
    with server.wire().connect(session=wire.session, password=wire.password) as back:
        assert back.session == wire.session


def test_a_silent_session_expires_and_is_gone_for_good(server: Zookeeper, home: str, client: KazooClient) -> None:
    with server.wire().connect(timeout_ms=2000) as wire:
        wire.request(CREATE, creation(f"{home}/e", flags=1))
        gone = threading.Event()
        assert client.exists("/e", watch=lambda event: gone.set())
        assert wire.is_closed()
        assert gone.wait(10)
        assert client.exists("/e") is None
    with server.wire().connect(session=wire.session, password=wire.password) as back:
        assert back.session == 0
        assert back.is_closed()


def test_pings_keep_a_session_alive(server: Zookeeper) -> None:
    with server.wire().connect(timeout_ms=2000) as wire, server.wire().connect(timeout_ms=2000) as silent:
        stop = threading.Event()

        def ping() -> None:
            while not stop.wait(0.1):
                assert wire.request(PING, xid=-2)[0] == 0

        pinging = threading.Thread(target=ping)
        pinging.start()
        assert silent.is_closed()  # so more than a timeout has passed
        stop.set()
        pinging.join()
        assert wire.request(EXISTS, text("/") + NO_WATCH)[0] == 0


def test_kazoo_keeps_its_session_when_the_connection_is_cut(client: KazooClient) -> None:
    client.create("/e", ephemeral=True)
    states: list[str] = []
    client.add_listener(states.append)
    session = client.client_id
    client._connection._socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: states == [KazooState.SUSPENDED, KazooState.CONNECTED])
    assert client.client_id == session
    assert client.exists("/e").ephemeralOwner == session[0]


def test_kazoo_is_told_that_its_session_is_lost(server: Zookeeper, client: KazooClient) -> None:
    client.create("/e", ephemeral=True)
    states: list[str] = []
    client.add_listener(states.append)
    session, password = client.client_id
    with server.wire() as killer:
        killer.greet(session=session, password=password)
        killer.send(CLOSE)  # at once: soon kazoo takes its session back
        assert killer.greeted().session == session
        assert killer.receive()[1] == 0
    wait_until(lambda: states[-1:] == [KazooState.CONNECTED] and KazooState.LOST in states)
    assert client.client_id[0] != session
    assert client.exists("/e") is None


def test_a_client_that_has_seen_the_future_is_sent_away(server: Zookeeper) -> None:
    wire = server.wire()
    with wire, pytest.raises(EOFError):
        wire.connect(last_zxid_seen=2**62)


# The wire.


def test_requests_sent_at_once_are_answered_in_order(wire: Wire, home: str) -> None:
    path = f"{home}/a"
    sent = [wire.send(CREATE, creation(path))]
    for value in range(50):
        sent.append(wire.send(SET_DATA, text(path) + data(b"%d" % value) + number(value)))
        sent.append(wire.send(GET_DATA, text(path) + NO_WATCH))
    replies = [wire.receive() for _ in sent]
    assert [xid for xid, _, _ in replies] == sent
    assert {error for _, error, _ in replies} == {0}
    assert [body[4 : 4 + body[3]] for _, _, body in replies[2::2]] == [b"%d" % value for value in range(50)]


def test_a_sync_is_answered_with_its_path(wire: Wire, home: str) -> None:
    assert wire.request(SYNC, text(home)) == (0, text(home))


def test_time_to_live_is_refused_as_not_implemented(wire: Wire, home: str) -> None:
    assert wire.request(21, creation(f"{home}/t", flags=5) + (1000).to_bytes(8, "big"))[0] == -6


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("ruok", "imok"),
        ("isro", "rw"),
        ("srvr", "Mode: standalone"),
        ("stat", "Zookeeper version: 3."),
        ("cons", "127.0.0.1"),
        ("conf", "tickTime=200"),
        ("envi", "zookeeper.version=3."),
        ("mntr", "zk_znode_count\t"),
        ("wchs", "Total watches:"),
        ("dump", "Sessions with Ephemerals"),
    ],
)
def test_four_letters_are_answered(server: Zookeeper, word: str, part: str) -> None:
    assert part in server.word(word)


def test_kazoo_reads_the_servers_version(client: KazooClient) -> None:
    assert client.server_version()[:2] == (3, 8)
