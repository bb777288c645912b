"""The tree: one transaction after the other, against what ZooKeeper promises."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.runtime.zookeeper.acls import digest_identity
from ringkeeper.runtime.zookeeper.records import (
    OPEN_TO_ALL,
    Acl,
    Check,
    Code,
    Create,
    Delete,
    EventKind,
    Exists,
    GetAcl,
    GetChildren,
    GetData,
    Identity,
    JustStat,
    Mode,
    Multi,
    Names,
    Path,
    Permission,
    Refused,
    Results,
    SetAcl,
    SetData,
    Stat,
    Status,
)
from ringkeeper.runtime.zookeeper.tree import RESERVED, Caller, Tree, Znode

ANN, BOB = Caller(11), Caller(22)


@pytest.fixture
def tree() -> Iterator[Tree]:
    tree = Tree()
    for caller in (ANN, BOB):
        tree.open_session(caller.session, b"secret", 4000)
    yield tree
    tree.check()


def create(tree: Tree, path: str, data: bytes | None = b"", mode: Mode = Mode.PERSISTENT, caller: Caller = ANN) -> str:
    result, _ = tree.apply(Create(path, data, OPEN_TO_ALL, mode), caller, 1000)
    assert isinstance(result, Path)
    return result.path


def names(tree: Tree, path: str) -> tuple[str, ...]:
    result = tree.get_children(GetChildren(path), ANN)
    assert isinstance(result, Names)
    return result.names


def stat(tree: Tree, path: str) -> Stat:
    return tree.exists(Exists(path)).stat


def refusal(tree: Tree, request: Any, caller: Caller = ANN) -> Code:
    """Why a request is refused; and it changes nothing."""
    before = contents(tree)
    with pytest.raises(Refused) as refused:
        tree.apply(request, caller, 2000)
    assert contents(tree) == before
    tree.check()
    return refused.value.code


def contents(tree: Tree) -> tuple[int, dict[str, Znode], dict[int, Any], int]:
    return tree.zxid, dict(tree.nodes), dict(tree.sessions), tree.bytes


def test_a_new_znode_tells_who_made_it_and_when(tree: Tree) -> None:
    tree.apply(Create("/a", b"four", OPEN_TO_ALL, Mode.EPHEMERAL), ANN, 1234)

    assert tree.get_data(GetData("/a"), ANN) == (
        b"four",
        Stat(
            czxid=3, mzxid=3, ctime=1234, mtime=1234, version=0, cversion=0, aversion=0,
            ephemeral_owner=11, data_length=4, num_children=0, pzxid=3,
        ),
    )  # fmt: skip


def test_every_write_raises_the_version_and_takes_a_number(tree: Tree) -> None:
    create(tree, "/a")
    first = tree.zxid
    for version in range(3):
        result, _ = tree.apply(SetData("/a", b"x", version), ANN, 5000 + version)
        assert isinstance(result, JustStat)
        assert (result.stat.version, result.stat.mzxid, result.stat.mtime) == (
            version + 1,
            first + version + 1,
            5000 + version,
        )


def test_a_write_with_an_old_version_is_refused(tree: Tree) -> None:
    create(tree, "/a")
    tree.apply(SetData("/a", b"new", 0), ANN, 1)
    assert refusal(tree, SetData("/a", b"newer", 0)) is Code.BAD_VERSION
    assert refusal(tree, Delete("/a", 0)) is Code.BAD_VERSION
    assert refusal(tree, Check("/a", 0)) is Code.BAD_VERSION


def test_creations_and_deletions_of_children_show_in_the_parent(tree: Tree) -> None:
    create(tree, "/a")
    for name in "xyz":
        create(tree, f"/a/{name}")
    tree.apply(Delete("/a/y"), ANN, 1)

    assert names(tree, "/a") == ("x", "z")
    assert stat(tree, "/a").num_children == 2
    assert stat(tree, "/a").cversion == 4
    assert stat(tree, "/a").pzxid == tree.zxid
    assert stat(tree, "/a").version == 0


def test_what_is_missing_or_in_the_way_is_said(tree: Tree) -> None:
    create(tree, "/a")
    create(tree, "/a/b")
    create(tree, "/e", mode=Mode.EPHEMERAL)
    assert refusal(tree, Create("/a", b"", OPEN_TO_ALL)) is Code.NODE_EXISTS
    assert refusal(tree, Create("/no/b", b"", OPEN_TO_ALL)) is Code.NO_NODE
    assert refusal(tree, Create("/e/b", b"", OPEN_TO_ALL)) is Code.NO_CHILDREN_FOR_EPHEMERALS
    assert refusal(tree, Create("/b", b"", ())) is Code.INVALID_ACL
    assert refusal(tree, Create("/b", b"", OPEN_TO_ALL, 77)) is Code.BAD_ARGUMENTS
    assert refusal(tree, Create("/b", b"", OPEN_TO_ALL, Mode.PERSISTENT_WITH_TTL)) is Code.UNIMPLEMENTED
    assert refusal(tree, Create("/b", b"", OPEN_TO_ALL, Mode.EPHEMERAL), Caller(99)) is Code.SESSION_EXPIRED
    assert refusal(tree, Delete("/a")) is Code.NOT_EMPTY
    assert refusal(tree, Delete("/no")) is Code.NO_NODE
    assert refusal(tree, SetData("/no", b"")) is Code.NO_NODE
    assert refusal(tree, SetAcl("/no", OPEN_TO_ALL)) is Code.NO_NODE


@pytest.mark.parametrize(
    "path", ["", "a", "/a/", "//", "/a//b", "/.", "/a/..", "/a\0b", "/a\x1f", "/\ud800", "/\uf000"]
)
def test_a_path_that_no_znode_may_have_is_refused(tree: Tree, path: str) -> None:
    assert refusal(tree, Create(path, b"", OPEN_TO_ALL)) in (Code.BAD_ARGUMENTS, Code.NO_NODE)


@pytest.mark.parametrize("path", RESERVED)
def test_what_zookeeper_itself_needs_cannot_be_deleted(tree: Tree, path: str) -> None:
    assert refusal(tree, Delete(path)) is Code.BAD_ARGUMENTS


def test_sequential_names_go_on_counting_after_deletions(tree: Tree) -> None:
    create(tree, "/q")
    assert create(tree, "/q/n-", mode=Mode.PERSISTENT_SEQUENTIAL) == "/q/n-0000000000"
    tree.apply(Delete("/q/n-0000000000"), ANN, 1)
    create(tree, "/q/other")
    assert create(tree, "/q/n-", mode=Mode.EPHEMERAL_SEQUENTIAL) == "/q/n-0000000002"
    assert create(tree, "/q/", mode=Mode.PERSISTENT_SEQUENTIAL) == "/q/0000000003"


def test_a_parent_that_is_made_again_counts_from_the_start(tree: Tree) -> None:
    create(tree, "/q")
    create(tree, "/q/n", mode=Mode.PERSISTENT_SEQUENTIAL)
    tree.apply(Delete("/q/n0000000000"), ANN, 1)
    tree.apply(Delete("/q"), ANN, 1)
    create(tree, "/q")
    assert create(tree, "/q/n", mode=Mode.PERSISTENT_SEQUENTIAL) == "/q/n0000000000"


def test_ephemerals_go_with_their_session_and_only_they(tree: Tree) -> None:
    create(tree, "/a")
    create(tree, "/a/of-ann", mode=Mode.EPHEMERAL)
    create(tree, "/a/of-ann-too", mode=Mode.EPHEMERAL)
    create(tree, "/a/of-bob", mode=Mode.EPHEMERAL, caller=BOB)
    before = tree.zxid

    happenings = tree.close_session(ANN.session)

    assert names(tree, "/a") == ("of-bob",)
    assert [(h.kind, h.path) for h in happenings] == [
        (EventKind.DELETED, "/a/of-ann"),
        (EventKind.DELETED, "/a/of-ann-too"),
    ]
    assert tree.zxid == before + 1
    assert ANN.session not in tree.sessions


def test_a_container_goes_when_its_last_child_has_gone(tree: Tree) -> None:
    create(tree, "/locks", mode=Mode.CONTAINER)
    assert tree.sweep_containers() == []
    create(tree, "/locks/one")
    assert tree.sweep_containers() == []
    tree.apply(Delete("/locks/one"), ANN, 1)
    assert [h.path for h in tree.sweep_containers()] == ["/locks"]
    assert "/locks" not in tree.nodes


def test_a_transaction_sees_its_own_operations(tree: Tree) -> None:
    result, happenings = tree.apply(
        Multi(
            (
                Create("/a", b"", OPEN_TO_ALL),
                Create("/a/n", b"", OPEN_TO_ALL, Mode.PERSISTENT_SEQUENTIAL),
                SetData("/a", b"x", 0),
                Check("/a", 1),
                Delete("/a/n0000000000"),
            )
        ),
        ANN,
        1,
    )
    assert isinstance(result, Results)
    assert not any(isinstance(part, Status) for _, part in result.results)
    assert [(h.kind, h.path) for h in happenings] == [
        (EventKind.CREATED, "/a"),
        (EventKind.CREATED, "/a/n0000000000"),
        (EventKind.CHANGED, "/a"),
        (EventKind.DELETED, "/a/n0000000000"),
    ]
    assert stat(tree, "/a").czxid == stat(tree, "/a").mzxid == stat(tree, "/a").pzxid == tree.zxid


def test_a_transaction_that_fails_changes_nothing_and_says_where(tree: Tree) -> None:
    create(tree, "/a")
    create(tree, "/a/b", b"kept")
    before = contents(tree)
    operations = (
        SetData("/a", b"lost"),
        Delete("/a/b"),
        Delete("/a"),
        Create("/c", b"", OPEN_TO_ALL),
        Create("/c/d", b"", OPEN_TO_ALL, Mode.EPHEMERAL),
        Check("/no", -1),
        Create("/e", b"", OPEN_TO_ALL),
    )

    result, happenings = tree.apply(Multi(operations), ANN, 1)

    codes = [Code.OK] * 5 + [Code.NO_NODE, Code.RUNTIME_INCONSISTENCY]
    assert result == Results(tuple(zip(operations, map(Status, codes), strict=True)))
    assert happenings == []
    assert contents(tree) == before


def test_only_those_on_the_list_may_do_what_it_says(tree: Tree) -> None:
    ann = Caller(11, (digest_identity(b"ann:1"),))
    bob = Caller(22, (digest_identity(b"bob:2"),))
    mine = (Acl(int(Permission.ALL), *ann.identities[0]), Acl(int(Permission.READ), *bob.identities[0]))
    tree.apply(Create("/a", b"x", mine), ann, 1)

    assert tree.get_data(GetData("/a"), bob)[0] == b"x"
    for request in (SetData("/a", b""), Create("/a/b", b"", OPEN_TO_ALL), SetAcl("/a", OPEN_TO_ALL)):
        assert refusal(tree, request, bob) is Code.NO_AUTH
    tree.apply(Create("/a/b", b"", OPEN_TO_ALL), ann, 1)
    assert refusal(tree, Delete("/a/b"), bob) is Code.NO_AUTH
    with pytest.raises(Refused, match="no_auth"):
        tree.get_data(GetData("/a"), BOB)
    assert tree.get_acl(GetAcl("/a"), ann)[0] == mine
    assert [acl.id for acl in tree.get_acl(GetAcl("/a"), bob)[0]] == ["ann:x", "bob:x"]


def test_addresses_are_matched_by_their_network(tree: Tree) -> None:
    near, far = Caller(11, (Identity("ip", "10.1.2.3"),)), Caller(22, (Identity("ip", "10.2.2.3"),))
    tree.apply(Create("/a", b"", (Acl(int(Permission.ALL), "ip", "10.1.0.0/16"),)), near, 1)
    tree.get_data(GetData("/a"), near)
    with pytest.raises(Refused, match="no_auth"):
        tree.get_data(GetData("/a"), far)


def test_auth_stands_for_whoever_the_caller_has_proved_to_be(tree: Tree) -> None:
    identity = digest_identity(b"ann:1")
    auth = (Acl(int(Permission.ALL), "auth", ""),)
    tree.apply(Create("/a", b"", auth), Caller(11, (identity,)), 1)
    assert tree.nodes["/a"].acls == (Acl(31, *identity),)
    assert refusal(tree, Create("/b", b"", auth), BOB) is Code.INVALID_ACL


def test_the_digest_is_the_one_that_zookeeper_computes() -> None:
    assert digest_identity(b"super:test") == Identity("digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")


def test_a_full_tree_refuses_to_grow_and_lets_shrink() -> None:
    tree = Tree(bytes_max=10_000)
    create(tree, "/a", b"x" * 5000)
    assert refusal(tree, Create("/b", b"x" * 5000, OPEN_TO_ALL)) is Code.QUOTA_EXCEEDED
    assert refusal(tree, SetData("/a", b"x" * 9000)) is Code.QUOTA_EXCEEDED
    tree.apply(SetData("/a", b""), ANN, 1)
    create(tree, "/b", b"x" * 5000)


def test_changes_are_told_once_and_rebuild_the_tree(tree: Tree) -> None:
    create(tree, "/a", b"x")
    create(tree, "/gone")
    tree.apply(Delete("/gone"), ANN, 1)
    changes = tree.take_changes()
    assert changes is not None
    assert dict(changes.znodes)["/gone"] is None
    assert tree.take_changes() is None

    again = Tree.restore(
        changes.zxid,
        ((path, node) for path, node in changes.znodes if node is not None),
        ((id, session) for id, session in changes.sessions if session is not None),
    )
    again.check()
    assert contents(again) == contents(tree)


# Properties: any transactions whatever, against an oracle that is a plain dictionary.

NAMES = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/k", "/b/s-"])
MODES = st.sampled_from([Mode.PERSISTENT, Mode.PERSISTENT, Mode.EPHEMERAL, Mode.PERSISTENT_SEQUENTIAL, Mode.CONTAINER])
OPERATIONS = st.one_of(
    st.builds(Create, NAMES, st.binary(max_size=4), st.just(OPEN_TO_ALL), MODES.map(int)),
    st.builds(Delete, NAMES, st.sampled_from([-1, -1, 0, 1])),
    st.builds(SetData, NAMES, st.binary(max_size=4), st.sampled_from([-1, -1, 0, 1])),
    st.builds(Check, NAMES, st.sampled_from([-1, 0, 1])),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([11, 22]),
        st.one_of(OPERATIONS, st.lists(OPERATIONS, max_size=4).map(lambda many: Multi(tuple(many))), st.just("close")),
    ),
    max_size=40,
)


class Oracle:
    """What must be there: path -> (data, version, owner), by the plainest rules."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[bytes | None, int, int]] = {"/": (b"", 0, 0)}
        self.creates: dict[str, int] = {"/": 0}

    def apply(self, operation: Any, session: int) -> str | None:
        """The path that was made or touched, or None where a refusal is due."""
        path = operation.path
        parent = path.rsplit("/", 1)[0] or "/"
        if isinstance(operation, Create):
            if parent not in self.nodes or self.nodes[parent][2] > 0:
                return None
            mode = Mode(operation.flags)
            if mode.sequential:
                path += f"{self.creates[parent]:010d}"
            if path in self.nodes:
                return None
            self.creates[parent] += 1
            self.creates[path] = 0
            self.nodes[path] = (operation.data, 0, session if mode.ephemeral else 0)
            return str(path)
        if path not in self.nodes:
            return None
        data, version, owner = self.nodes[path]
        if operation.version not in (-1, version):
            return None
        if isinstance(operation, Delete):
            if any(other.startswith(path + "/") for other in self.nodes):
                return None
            del self.nodes[path]
        elif isinstance(operation, SetData):
            self.nodes[path] = (operation.data, version + 1, owner)
        return str(path)

    def apply_all(self, operations: tuple[Any, ...], session: int) -> bool:
        before, creates = dict(self.nodes), dict(self.creates)
        if all(self.apply(operation, session) is not None for operation in operations):
            return True
        self.nodes, self.creates = before, creates
        return False


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_transactions_give_what_a_plain_dictionary_gives(steps: list[tuple[int, Any]]) -> None:
    tree, oracle = Tree(), Oracle()
    for session in (11, 22):
        tree.open_session(session, b"", 1)
    made: list[str] = []
    for session, step in steps:
        before = contents(tree)
        if step == "close":
            tree.close_session(session)
            oracle.nodes = {path: node for path, node in oracle.nodes.items() if node[2] != session}
            tree.open_session(session, b"", 1)
        elif isinstance(step, Multi):
            result, happenings = tree.apply(step, Caller(session), 1)
            assert isinstance(result, Results)
            failed = any(isinstance(part, Status) for _, part in result.results)
            assert failed is not oracle.apply_all(step.operations, session)
            if failed:
                assert contents(tree) == before and not happenings
        else:
            expected = oracle.apply(step, session)
            try:
                result, _ = tree.apply(step, Caller(session), 1)
            except Refused:
                assert expected is None
                assert contents(tree) == before
            else:
                assert expected is not None
                if isinstance(result, Path):
                    assert result.path == expected
                    made.append(expected)
        tree.check()
        there = {p: (n.data, n.version, max(n.owner, 0)) for p, n in tree.nodes.items() if "/zookeeper" not in p}
        assert there == oracle.nodes


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["create", "delete", "sequential", "multi"]), max_size=40))
def test_sequential_names_are_unique_and_increase(steps: list[str]) -> None:
    tree = Tree()
    create(tree, "/q")
    numbers: list[int] = []
    for number, step in enumerate(steps):
        if step == "create":
            create(tree, f"/q/{number}")
        elif step == "delete" and names(tree, "/q"):
            tree.apply(Delete(f"/q/{names(tree, '/q')[-1]}"), ANN, 1)
        elif step == "sequential":
            numbers.append(int(create(tree, "/q/s", mode=Mode.PERSISTENT_SEQUENTIAL)[4:]))
        elif step == "multi":  # fails, and must not use a number up for good or twice
            operations = (Create("/q/s", b"", OPEN_TO_ALL, Mode.PERSISTENT_SEQUENTIAL), Check("/no", -1))
            tree.apply(Multi(operations), ANN, 1)
    assert numbers == sorted(set(numbers))


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_the_same_transactions_give_the_same_tree_and_the_disk_can_follow(steps: list[tuple[int, Any]]) -> None:
    trees = [Tree(), Tree()]
    disk: dict[str, Znode] = {}
    sessions: dict[int, Any] = {}
    for tree in trees:
        for session in (11, 22):
            tree.open_session(session, b"", 1)
    for time_ms, (session, step) in enumerate(steps):
        outcomes: list[Any] = []
        for tree in trees:
            try:
                if step == "close":
                    outcomes.append(tree.close_session(session))
                    tree.open_session(session, b"", 1)
                else:
                    outcomes.append(tree.apply(step, Caller(session), time_ms))
            except Refused as refused:
                outcomes.append(refused.code)
        assert outcomes[0] == outcomes[1]
        changes = trees[0].take_changes()
        if changes is not None:
            disk.update({path: node for path, node in changes.znodes if node is not None})
            for path, node in changes.znodes:
                if node is None:
                    disk.pop(path, None)
            sessions.update(changes.sessions)
    assert contents(trees[0]) == contents(trees[1])
    if disk:
        present = {id: value for id, value in sessions.items() if value is not None}
        again = Tree.restore(trees[0].zxid, disk.items(), present.items())
        again.check()
        assert contents(again) == contents(trees[0])
