"""Holds the znodes and sessions: ZooKeeper's state, and how one transaction turns it into the next.

A pure state machine. There is no clock, socket, thread or dice here: who asks, what, and at which wall time are
arguments, and the same transactions in the same order give the same tree, in production, in tests and in a simulation.

A transaction (``apply``, ``open_session``, ``close_session``...) either raises Refused and has changed nothing, or
takes one number (zxid) and returns what happened, in order; ``watching`` turns that into notices for watchers. Znodes
are immutable values replaced by two primitives, ``_put`` and ``_remove``. These keep the indexes (children,
ephemerals, containers) and note what a path held before the transaction: taking a failed multi back is putting those
values back, and what must reach the disk is the set of their paths.

Invariants (``check``): a znode's parent exists and is not ephemeral; an ephemeral's owner is an open session; the
indexes say what the znodes say; the zxid only grows, and by one per transaction.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, assert_never

from . import acls
from .records import (
    ANY_VERSION,
    CONTAINER_OWNER,
    OPEN_TO_ALL,
    READ_ONLY_TO_ALL,
    Acls,
    AclsAndStat,
    Check,
    Code,
    Count,
    CountDescendants,
    Create,
    DataAndStat,
    Delete,
    EventKind,
    Exists,
    GetAcl,
    GetChildren,
    GetData,
    GetEphemerals,
    Happening,
    Identity,
    JustStat,
    Mode,
    Multi,
    Names,
    NamesAndStat,
    Nothing,
    Operation,
    Path,
    PathAndStat,
    Permission,
    Refused,
    Result,
    Results,
    SetAcl,
    SetData,
    Stat,
    Status,
)

RESERVED = ("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota")
"""Znodes that are always there and cannot be deleted. Clients and tools of ZooKeeper look at them."""

TREE_BYTES_MAX = 256 << 20
"""What data and paths of all znodes may sum up to unless said otherwise."""

ZNODE_BYTES = 400
"""Counted for each znode beside its path and data: about what Python takes for one."""


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")
"""What no path may have in it, by the rules of ZooKeeper's own clients."""


class Znode(NamedTuple):
    """One node of the tree. ``creates`` counts the children ever made: it numbers the sequential ones."""

    data: bytes | None
    acls: Acls
    czxid: int = 0
    mzxid: int = 0
    pzxid: int = 0
    ctime: int = 0
    mtime: int = 0
    version: int = 0
    creates: int = 0
    aversion: int = 0
    owner: int = 0

    @property
    def is_ephemeral(self) -> bool:
        return self.owner not in (0, CONTAINER_OWNER)


class Session(NamedTuple):
    """A client's stay. Whoever knows the password may continue it on another connection."""

    password: bytes
    timeout_ms: int


class Caller(NamedTuple):
    """Who asks: a session, and what it has proved about itself."""

    session: int
    identities: tuple[Identity, ...] = ()


class Changes(NamedTuple):
    """What the disk has to learn: the present value of whatever changed, None for what is gone."""

    zxid: int
    znodes: tuple[tuple[str, Znode | None], ...]
    sessions: tuple[tuple[int, Session | None], ...]


class Tree:
    def __init__(self, *, bytes_max: int = TREE_BYTES_MAX) -> None:
        self.zxid = 0
        self.nodes: dict[str, Znode] = {}
        self.sessions: dict[int, Session] = {}
        self.bytes = 0
        self._bytes_max = bytes_max
        self._children: dict[str, set[str]] = {}
        self._ephemerals: dict[int, set[str]] = {}
        self._containers: set[str] = set()
        self._before: dict[str, Znode | None] = {}  # of the transaction under way
        self._changed_paths: set[str] = set()
        self._changed_sessions: set[int] = set()
        for path in RESERVED:
            self._put(path, Znode(b"", READ_ONLY_TO_ALL if path == "/zookeeper/config" else OPEN_TO_ALL))
        self._changed_paths.update(self._before)
        self._before.clear()

    @classmethod
    def restore(
        cls,
        zxid: int,
        znodes: Iterable[tuple[str, Znode]],
        sessions: Iterable[tuple[int, Session]],
        *,
        bytes_max: int = TREE_BYTES_MAX,
    ) -> "Tree":
        """The tree that was kept as these rows."""
        tree = cls(bytes_max=bytes_max)
        tree.zxid = zxid
        for path, node in znodes:
            tree._put(path, node)
        tree.sessions.update(sessions)
        tree._before.clear()
        tree._changed_paths.clear()
        return tree

    def take_changes(self) -> Changes | None:
        """What changed since the last call, or None."""
        if not self._changed_paths and not self._changed_sessions:
            return None
        changes = Changes(
            self.zxid,
            tuple((path, self.nodes.get(path)) for path in sorted(self._changed_paths)),
            tuple((id, self.sessions.get(id)) for id in sorted(self._changed_sessions)),
        )
        self._changed_paths.clear()
        self._changed_sessions.clear()
        return changes

    @property
    def has_changes(self) -> bool:
        return bool(self._changed_paths or self._changed_sessions)

    # Transactions.

    def apply(self, request: Operation | Multi, caller: Caller, time_ms: int) -> tuple[Result, list[Happening]]:
        """Run one transaction. Raises Refused, and then nothing has changed.

        A multi that fails does not raise: its result says, operation by operation, what went wrong and where.
        """
        happenings: list[Happening] = []
        try:
            if not isinstance(request, Multi):
                result = self._run(request, caller, time_ms, happenings)
            else:
                done: list[Result] = []
                try:
                    for operation in request.operations:
                        done.append(self._run(operation, caller, time_ms, happenings))
                except Refused as refused:
                    self._roll_back()
                    codes = [Code.OK] * len(done) + [refused.code]
                    codes += [Code.RUNTIME_INCONSISTENCY] * (len(request.operations) - len(codes))
                    done = [Status(code) for code in codes]
                    happenings = []
                result = Results(tuple(zip(request.operations, done, strict=True)))
        except BaseException:
            self._roll_back()
            raise
        if self._before:
            self._finish()
        return result, happenings

    def open_session(self, id: int, password: bytes, timeout_ms: int) -> None:
        assert id > 0 and id not in self.sessions
        self.sessions[id] = Session(password, timeout_ms)
        self._changed_sessions.add(id)
        self._finish()

    def set_session_timeout(self, id: int, timeout_ms: int) -> None:
        if self.sessions[id].timeout_ms != timeout_ms:
            self.sessions[id] = self.sessions[id]._replace(timeout_ms=timeout_ms)
            self._changed_sessions.add(id)
            self._finish()

    def close_session(self, id: int) -> list[Happening]:
        """End a session that was closed or has expired: its ephemerals go with it, in one transaction."""
        del self.sessions[id]
        self._changed_sessions.add(id)
        happenings: list[Happening] = []
        for path in sorted(self._ephemerals.get(id, ())):
            self._delete_node(path, happenings)
        self._finish()
        return happenings

    def sweep_containers(self) -> list[Happening]:
        """Delete the containers that had children and have none any more."""
        happenings: list[Happening] = []
        for path in sorted(self._containers):
            if self.nodes[path].creates and path not in self._children:
                self._delete_node(path, happenings)
        if happenings:
            self._finish()
        return happenings

    def _finish(self) -> None:
        self.zxid += 1
        self._changed_paths.update(self._before)
        self._before.clear()

    def _roll_back(self) -> None:
        for path, node in list(self._before.items()):
            if node is not None:
                self._put(path, node)
            elif path in self.nodes:
                self._remove(path)
        self._before.clear()

    def _run(self, operation: Operation, caller: Caller, time_ms: int, happenings: list[Happening]) -> Result:
        match operation:
            case Create():
                return self._create(operation, caller, time_ms, happenings)
            case Delete():
                return self._delete(operation, caller, happenings)
            case SetData():
                return self._set_data(operation, caller, time_ms, happenings)
            case SetAcl():
                return self._set_acl(operation, caller)
            case Check():
                return self._check_version(operation, caller)
            case _:
                assert_never(operation)

    def _create(self, request: Create, caller: Caller, time_ms: int, happenings: list[Happening]) -> Path | PathAndStat:
        try:
            mode = Mode(request.flags)
        except ValueError:
            raise Refused(Code.BAD_ARGUMENTS, f"no such create mode: {request.flags}") from None
        if mode.has_ttl:
            raise Refused(Code.UNIMPLEMENTED, "znodes with a time to live are not implemented")
        path = request.path
        if not path.startswith("/"):
            raise Refused(Code.BAD_ARGUMENTS, f"a path begins with a slash: {path!r}")
        stored_acls = acls.checked(request.acls, caller.identities)
        parent_path = parent_of(path)
        parent = self._node(parent_path)
        self._permit(parent, Permission.CREATE, caller)
        if mode.sequential:
            path = f"{path}{parent.creates:010d}"
        validate(path)
        if path in self.nodes:
            raise Refused(Code.NODE_EXISTS, path)
        if parent.is_ephemeral:
            raise Refused(Code.NO_CHILDREN_FOR_EPHEMERALS, parent_path)
        if mode.ephemeral and caller.session not in self.sessions:
            raise Refused(Code.SESSION_EXPIRED)
        self._make_room(ZNODE_BYTES + len(path) + len(request.data or b""))

        zxid = self.zxid + 1
        owner = caller.session if mode.ephemeral else CONTAINER_OWNER if mode is Mode.CONTAINER else 0
        node = Znode(request.data, stored_acls, zxid, zxid, zxid, time_ms, time_ms, owner=owner)
        self._put(parent_path, parent._replace(creates=parent.creates + 1, pzxid=zxid))
        self._put(path, node)
        happenings.append(Happening(EventKind.CREATED, path, stored_acls, parent.acls))
        return PathAndStat(path, self._stat(path, node)) if request.with_stat else Path(path)

    def _delete(self, request: Delete, caller: Caller, happenings: list[Happening]) -> Nothing:
        path = request.path
        if not path.startswith("/") or path in RESERVED:
            raise Refused(Code.BAD_ARGUMENTS, f"cannot be deleted: {path!r}")
        parent = self._node(parent_of(path))
        self._permit(parent, Permission.DELETE, caller)
        node = self._node(path)
        match_version(node.version, request.version)
        if path in self._children:
            raise Refused(Code.NOT_EMPTY, path)
        self._delete_node(path, happenings)
        return Nothing()

    def _delete_node(self, path: str, happenings: list[Happening]) -> None:
        node = self.nodes[path]
        self._remove(path)
        parent_path = parent_of(path)
        parent = self.nodes[parent_path]
        self._put(parent_path, parent._replace(pzxid=self.zxid + 1))
        happenings.append(Happening(EventKind.DELETED, path, node.acls, parent.acls))

    def _set_data(self, request: SetData, caller: Caller, time_ms: int, happenings: list[Happening]) -> JustStat:
        path = request.path
        validate(path)
        node = self._node(path)
        self._permit(node, Permission.WRITE, caller)
        match_version(node.version, request.version)
        self._make_room(len(request.data or b"") - len(node.data or b""))
        node = node._replace(data=request.data, mzxid=self.zxid + 1, mtime=time_ms, version=wrapped(node.version + 1))
        self._put(path, node)
        happenings.append(Happening(EventKind.CHANGED, path, node.acls, ()))
        return JustStat(self._stat(path, node))

    def _set_acl(self, request: SetAcl, caller: Caller) -> JustStat:
        path = request.path
        validate(path)
        stored_acls = acls.checked(request.acls, caller.identities)
        node = self._node(path)
        self._permit(node, Permission.ADMIN, caller)
        match_version(node.aversion, request.version)
        node = node._replace(acls=stored_acls, aversion=wrapped(node.aversion + 1))
        self._put(path, node)
        return JustStat(self._stat(path, node))

    def _check_version(self, request: Check, caller: Caller) -> Nothing:
        validate(request.path)
        node = self._node(request.path)
        self._permit(node, Permission.READ, caller)
        match_version(node.version, request.version)
        return Nothing()

    # Looking. Each raises Refused.

    def exists(self, request: Exists) -> JustStat:
        return JustStat(self._stat(request.path, self._node(request.path)))

    def get_data(self, request: GetData, caller: Caller) -> DataAndStat:
        node = self._node(request.path)
        self._permit(node, Permission.READ, caller)
        return DataAndStat(node.data, self._stat(request.path, node))

    def get_acl(self, request: GetAcl, caller: Caller) -> AclsAndStat:
        node = self._node(request.path)
        self._permit(node, Permission.READ | Permission.ADMIN, caller)
        shown = node.acls if acls.allows(node.acls, Permission.ADMIN, caller.identities) else acls.masked(node.acls)
        return AclsAndStat(shown, self._stat(request.path, node))

    def get_children(self, request: GetChildren, caller: Caller) -> Names | NamesAndStat:
        node = self._node(request.path)
        self._permit(node, Permission.READ, caller)
        names = tuple(sorted(self._children.get(request.path, ())))
        return NamesAndStat(names, self._stat(request.path, node)) if request.with_stat else Names(names)

    def get_ephemerals(self, request: GetEphemerals, caller: Caller) -> Names:
        mine = self._ephemerals.get(caller.session, ())
        return Names(tuple(sorted(path for path in mine if path.startswith(request.prefix))))

    def count_descendants(self, request: CountDescendants, caller: Caller) -> Count:
        path = request.path
        self._permit(self._node(path), Permission.READ, caller)
        prefix = path if path == "/" else path + "/"
        return Count(sum(other.startswith(prefix) for other in self.nodes) - (path == "/"))

    def ephemerals_of(self, session: int) -> list[str]:
        return sorted(self._ephemerals.get(session, ()))

    @property
    def ephemerals(self) -> int:
        return sum(map(len, self._ephemerals.values()))

    # Inside.

    def _node(self, path: str) -> Znode:
        try:
            return self.nodes[path]
        except KeyError:
            raise Refused(Code.NO_NODE, path) from None

    def _permit(self, node: Znode, permission: Permission, caller: Caller) -> None:
        if node.acls is not OPEN_TO_ALL and not acls.allows(node.acls, permission, caller.identities):
            raise Refused(Code.NO_AUTH)

    def _make_room(self, more: int) -> None:
        if more > 0 and self.bytes + more > self._bytes_max:
            raise Refused(Code.QUOTA_EXCEEDED, f"the tree may hold {self._bytes_max} bytes")

    def _stat(self, path: str, node: Znode) -> Stat:
        children = len(self._children.get(path, ()))
        return Stat(
            czxid=node.czxid,
            mzxid=node.mzxid,
            ctime=node.ctime,
            mtime=node.mtime,
            version=node.version,
            # Clients see changes of the list of children: the creations, and the deletions, which are the creations
            # that are not there any more.
            cversion=wrapped(node.creates * 2 - children),
            aversion=node.aversion,
            ephemeral_owner=node.owner if node.is_ephemeral else 0,
            data_length=len(node.data or b""),
            num_children=children,
            pzxid=node.pzxid,
        )

    def _put(self, path: str, node: Znode) -> None:
        old = self.nodes.get(path)
        self._before.setdefault(path, old)
        if node.acls == OPEN_TO_ALL:
            node = node._replace(acls=OPEN_TO_ALL) if node.acls is not OPEN_TO_ALL else node
        self.nodes[path] = node
        self.bytes += len(node.data or b"")
        if old is not None:
            self.bytes -= len(old.data or b"")
            return
        self.bytes += ZNODE_BYTES + len(path)
        if path != "/":
            self._children.setdefault(parent_of(path), set()).add(name_of(path))
        if node.is_ephemeral:
            self._ephemerals.setdefault(node.owner, set()).add(path)
        elif node.owner == CONTAINER_OWNER:
            self._containers.add(path)

    def _remove(self, path: str) -> None:
        old = self.nodes.pop(path)
        self._before.setdefault(path, old)
        self.bytes -= ZNODE_BYTES + len(path) + len(old.data or b"")
        parent_path = parent_of(path)
        siblings = self._children[parent_path]
        siblings.remove(name_of(path))
        if not siblings:
            del self._children[parent_path]
        if old.is_ephemeral:
            mine = self._ephemerals[old.owner]
            mine.remove(path)
            if not mine:
                del self._ephemerals[old.owner]
        self._containers.discard(path)

    def check(self) -> None:
        """Assert the invariants. For tests and the simulation: it walks the whole tree."""
        assert not self._before, "a transaction is under way"
        children: dict[str, set[str]] = {}
        ephemerals: dict[int, set[str]] = {}
        for path, node in self.nodes.items():
            if path != "/":
                assert parent_of(path) in self.nodes, f"{path} has no parent"
                assert not self.nodes[parent_of(path)].is_ephemeral, f"{path} has an ephemeral parent"
                children.setdefault(parent_of(path), set()).add(name_of(path))
            if node.is_ephemeral:
                assert node.owner in self.sessions, f"{path} has outlived its session"
                ephemerals.setdefault(node.owner, set()).add(path)
            assert max(node.czxid, node.mzxid, node.pzxid) <= self.zxid, f"{path} comes from the future"
            assert node.creates >= len(self._children.get(path, ())) or path in RESERVED
        assert children == self._children
        assert ephemerals == self._ephemerals
        assert self._containers == {path for path, node in self.nodes.items() if node.owner == CONTAINER_OWNER}
        assert self.bytes == sum(ZNODE_BYTES + len(p) + len(n.data or b"") for p, n in self.nodes.items())


def parent_of(path: str) -> str:
    return path[: path.rindex("/")] or "/"


def name_of(path: str) -> str:
    return path[path.rindex("/") + 1 :]


def match_version(present: int, expected: int) -> None:
    if expected not in (ANY_VERSION, present):
        raise Refused(Code.BAD_VERSION, f"the version is {present}, not {expected}")


def wrapped(number: int) -> int:
    """A counter as a signed 32-bit field shows it."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


def validate(path: str) -> None:
    """Raises Refused(BAD_ARGUMENTS) unless a znode may have this path, by the rules of ZooKeeper's own clients."""
    if path == "/":
        return
    if not path.startswith("/") or path.endswith("/"):
        raise Refused(Code.BAD_ARGUMENTS, f"a path begins with a slash and does not end with one: {path!r}")
    for name in path[1:].split("/"):
        if name in ("", ".", ".."):
            raise Refused(Code.BAD_ARGUMENTS, f"no znode may be called {name!r}: {path!r}")
    if _UNPRINTABLE.search(path):
        raise Refused(Code.BAD_ARGUMENTS, f"unprintable characters in {path!r}")
