"""Sessions and watches without wire, disk and clock: what the simulation stands on."""

import pytest
from ringkeeper.runtime.zookeeper.keeper import IDENTITIES_MAX, Client, Keeper
from ringkeeper.runtime.zookeeper.records import (
    OPEN_TO_ALL,
    AddAuth,
    CloseSession,
    Code,
    Create,
    DataAndStat,
    Event,
    EventKind,
    Exists,
    GetChildren,
    GetData,
    Mode,
    MultiRead,
    Names,
    Refused,
    Results,
    Status,
    WhoAmI,
)
from ringkeeper.runtime.zookeeper.tree import Tree


def keeper_with(*clients: Client, timeout_ms: int = 4000) -> Keeper:
    keeper = Keeper(Tree(), now=0.0)
    for id, client in enumerate(clients, 1):
        keeper.open_session(client, id, b"secret", timeout_ms, now=0.0)
    return keeper


def test_a_session_is_overdue_when_its_client_was_silent_for_the_timeout() -> None:
    ann, bob = Client(), Client()
    keeper = keeper_with(ann, bob)
    keeper.touch(ann.session, 3.0)
    assert keeper.overdue(3.9) == []
    assert keeper.overdue(4.0) == [bob.session]
    assert keeper.overdue(7.0) == [ann.session, bob.session]


def test_time_in_which_the_server_could_not_listen_does_not_count() -> None:
    ann = Client()
    keeper = keeper_with(ann)
    keeper.postpone(60.0)
    assert keeper.overdue(63.9) == []
    assert keeper.overdue(64.0) == [ann.session]


def test_after_a_restart_everybody_gets_a_full_timeout() -> None:
    keeper = keeper_with(Client(), timeout_ms=4000)
    again = Keeper(keeper.tree, now=1000.0)
    assert again.overdue(1003.9) == []
    assert again.overdue(1004.0) == [1]


def test_an_ending_session_tells_those_who_watched_its_ephemerals() -> None:
    ann, bob = Client(), Client()
    keeper = keeper_with(ann, bob)
    keeper.handle(Create("/e", b"", OPEN_TO_ALL, Mode.EPHEMERAL), ann, 0)
    keeper.handle(Exists("/e", watch=True), bob, 0)
    keeper.handle(GetChildren("/", watch=True), bob, 0)
    _, notices = keeper.handle(CloseSession(), ann, 0)
    assert notices == [(bob, Event(EventKind.DELETED, "/e")), (bob, Event(EventKind.CHILDREN, "/"))]
    assert keeper.overdue(1e9) == [bob.session]


def test_watches_end_with_the_connection_and_the_session_goes_on() -> None:
    ann, bob, ann_again = Client(), Client(), Client()
    keeper = keeper_with(ann, bob)
    keeper.handle(GetData("/", watch=True), ann, 0)
    keeper.forget(ann)
    keeper.reopen_session(ann_again, ann.session, b"secret", 4000, now=1.0)
    assert keeper.watches.watches == 0
    assert ann_again.session == ann.session
    assert keeper.overdue(4.5) == [bob.session]


def test_a_session_is_not_given_to_who_has_another_password() -> None:
    ann, thief = Client(), Client()
    keeper = keeper_with(ann)
    for password in (b"", b"guess", b"secret "):
        with pytest.raises(Refused) as refused:
            keeper.reopen_session(thief, ann.session, password, 4000, now=3.0)
        assert refused.value.code is Code.SESSION_EXPIRED
    assert thief.session == 0
    assert keeper.overdue(4.0) == [ann.session]  # nor does trying keep it alive


def test_what_a_client_proved_does_not_outlast_its_connection() -> None:
    ann, again = Client("127.0.0.1"), Client("127.0.0.1")
    keeper = keeper_with(ann)
    keeper.handle(AddAuth("digest", b"ann:1"), ann, 0)
    assert keeper.handle(WhoAmI(), ann, 0)[0] == ((("ip", "127.0.0.1"), ("digest", "ann")),)
    keeper.reopen_session(again, ann.session, b"secret", 4000, now=1.0)
    assert keeper.handle(WhoAmI(), again, 0)[0] == ((("ip", "127.0.0.1"),),)


def test_a_connection_proves_a_bounded_number_of_identities() -> None:
    ann = Client()
    keeper = keeper_with(ann)
    with pytest.raises(Refused) as refused:
        for number in range(IDENTITIES_MAX + 1):
            keeper.handle(AddAuth("digest", b"%d:1" % number), ann, 0)
    assert refused.value.code is Code.AUTH_FAILED
    assert len(ann.identities) == IDENTITIES_MAX


def test_reads_made_together_are_refused_one_by_one() -> None:
    ann = Client()
    keeper = keeper_with(ann)
    keeper.handle(Create("/a", b"x", OPEN_TO_ALL), ann, 0)
    results, _ = keeper.handle(MultiRead((GetData("/a"), GetData("/no"), GetChildren("/a"))), ann, 0)
    assert isinstance(results, Results)
    data, missing, children = (part for _, part in results.results)
    assert isinstance(data, DataAndStat) and data.data == b"x"
    assert missing == Status(Code.NO_NODE)
    assert children == Names(())


def test_reads_made_together_are_bounded() -> None:
    ann = Client()
    keeper = keeper_with(ann)
    keeper.handle(Create("/a", b"x" * 1_000_000, OPEN_TO_ALL), ann, 0)
    with pytest.raises(Refused) as refused:
        keeper.handle(MultiRead((GetData("/a"),) * 60_000), ann, 0)
    assert refused.value.code is Code.QUOTA_EXCEEDED
