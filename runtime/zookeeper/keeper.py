"""Answers the requests of sessions: the whole of ZooKeeper without wire, disk and clock.

Joins the tree, the watches and the sessions' deadlines. A *client* stands for one connection: it has an address, has
proved identities, and serves at most one session at a time; watches belong to it and end with it, while the session
lives on until its deadline. Times are arguments: ``now`` in seconds of a monotonic clock decides about deadlines,
``time_ms`` (milliseconds since the Unix epoch) is what new znodes are stamped with.

Every call that changes something returns notices: pairs of a client and an event. Whoever delivers keeps their order,
and delivers them *before* the reply that comes with them: no client may see a new state before it has seen the event
that its own watch on the old one promised.

A session's deadline moves by its timeout whenever its client is heard of. After a restart everybody gets a full
timeout, and time in which the server itself was not listening counts against nobody (``postpone``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import assert_never

from . import acls
from .records import (
    Acls,
    AddAuth,
    AddWatch,
    Check,
    CheckWatches,
    CloseSession,
    Code,
    CountDescendants,
    Create,
    Delete,
    Event,
    EventKind,
    Exists,
    GetAcl,
    GetChildren,
    GetData,
    GetEphemerals,
    Happening,
    Identities,
    Identity,
    Multi,
    MultiRead,
    Nothing,
    Path,
    Permission,
    Ping,
    Refused,
    RemoveWatches,
    Request,
    Result,
    Results,
    SetAcl,
    SetData,
    SetWatches,
    Status,
    Sync,
    Unimplemented,
    WatchKind,
    WatchMode,
    WhoAmI,
)
from .tree import Caller, Tree
from .watching import WatchTable

IDENTITIES_MAX = 64
"""Identities one connection may prove; every access check walks them."""

MULTI_READ_BYTES_MAX = 16 << 20
"""What one multiple read may answer: its request could name a large znode tens of thousands of times."""


@dataclass(eq=False, slots=True)
class Client:
    """One connection, as far as the keeper is concerned."""

    address: str = ""
    session: int = 0
    identities: tuple[Identity, ...] = field(default=())

    def caller(self) -> Caller:
        return Caller(self.session, self.identities)


Notices = list[tuple[Client, Event]]


class Keeper:
    def __init__(self, tree: Tree, now: float) -> None:
        self.tree = tree
        self.watches: WatchTable[Client] = WatchTable()
        self._deadlines = {id: now + session.timeout_ms / 1000 for id, session in tree.sessions.items()}

    # Sessions.

    def open_session(self, client: Client, id: int, password: bytes, timeout_ms: int, now: float) -> None:
        """Begin a session for this client."""
        self.tree.open_session(id, password, timeout_ms)
        self._attach(client, id, now)

    def reopen_session(self, client: Client, id: int, password: bytes, timeout_ms: int, now: float) -> None:
        """Continue a session on this connection. Raises Refused when it is over, or the password is not its own."""
        session = self.tree.sessions.get(id)
        if session is None or not compare_digest(session.password, password):
            raise Refused(Code.SESSION_EXPIRED)
        self.tree.set_session_timeout(id, timeout_ms)
        self._attach(client, id, now)

    def _attach(self, client: Client, id: int, now: float) -> None:
        client.session = id
        client.identities = (Identity("ip", client.address),)
        self.touch(id, now)

    def touch(self, id: int, now: float) -> None:
        session = self.tree.sessions.get(id)
        if session is not None:
            self._deadlines[id] = now + session.timeout_ms / 1000

    def postpone(self, seconds: float) -> None:
        """Everybody gets this much longer, since the server was not listening."""
        for id in self._deadlines:
            self._deadlines[id] += seconds

    def overdue(self, now: float) -> list[int]:
        """Sessions that were not heard of for too long; the caller ends them."""
        return sorted(id for id, deadline in self._deadlines.items() if deadline <= now)

    def end_session(self, id: int) -> Notices:
        del self._deadlines[id]
        return self._notices(self.tree.close_session(id))

    def forget(self, client: Client) -> None:
        """The connection is gone, and with it its watches. Its session goes on."""
        self.watches.forget(client)

    def sweep_containers(self) -> Notices:
        return self._notices(self.tree.sweep_containers())

    def _notices(self, happenings: Iterable[Happening]) -> Notices:
        return self.watches.fire(happenings, _may_read)

    # Requests.

    def handle(self, request: Request, client: Client, time_ms: int) -> tuple[Result, Notices]:
        """Answer one request of a client with a session. Raises Refused, and then nothing has changed."""
        tree = self.tree
        match request:
            case GetData():
                result: Result = tree.get_data(request, client.caller())
                if request.watch:
                    self.watches.watch_data(request.path, client)
                return result, []
            case Exists():
                return self._exists(request, client), []
            case GetChildren():
                result = tree.get_children(request, client.caller())
                if request.watch:
                    self.watches.watch_children(request.path, client)
                return result, []
            case Create() | Delete() | SetData() | SetAcl() | Check() | Multi():
                result, happenings = tree.apply(request, client.caller(), time_ms)
                return result, self._notices(happenings)
            case Ping():
                return Nothing(), []
            case Sync():
                return Path(request.path), []  # one server is never behind itself
            case GetAcl():
                return tree.get_acl(request, client.caller()), []
            case MultiRead():
                return self._multi_read(request, client), []
            case GetEphemerals():
                return tree.get_ephemerals(request, client.caller()), []
            case CountDescendants():
                return tree.count_descendants(request, client.caller()), []
            case WhoAmI():
                return self._who_am_i(client), []
            case AddAuth():
                return self._add_auth(request, client), []
            case SetWatches():
                return Nothing(), self._set_watches(request, client)
            case AddWatch():
                return self._add_watch(request, client), []
            case RemoveWatches():
                self.watches.remove(request.path, client, _watch_kind(request.kind))
                return Nothing(), []
            case CheckWatches():
                if not self.watches.has(request.path, client, _watch_kind(request.kind)):
                    raise Refused(Code.NO_WATCHER, request.path)
                return Nothing(), []
            case CloseSession():
                return Nothing(), self.end_session(client.session)
            case Unimplemented():
                raise Refused(request.code, f"operation {request.opcode} is not implemented")
            case _:
                assert_never(request)

    def _exists(self, request: Exists, client: Client) -> Result:
        try:
            result = self.tree.exists(request)
        except Refused:
            if request.watch:  # for its creation
                self.watches.watch_data(request.path, client)
            raise
        if request.watch:
            self.watches.watch_data(request.path, client)
        return result

    def _multi_read(self, request: MultiRead, client: Client) -> Results:
        results: list[Result] = []
        size = 0
        for read in request.reads:
            try:
                if isinstance(read, GetData):
                    data = self.tree.get_data(read, client.caller())
                    results.append(data)
                    size += data.stat.data_length
                else:
                    children = self.tree.get_children(read, client.caller())
                    results.append(children)
                    size += sum(map(len, children.names))
            except Refused as refused:
                results.append(Status(refused.code))
            if size > MULTI_READ_BYTES_MAX:
                raise Refused(Code.QUOTA_EXCEEDED, f"one request may read {MULTI_READ_BYTES_MAX} bytes")
        return Results(tuple(zip(request.reads, results, strict=True)))

    def _add_auth(self, request: AddAuth, client: Client) -> Nothing:
        """Raises Refused(AUTH_FAILED); then the server closes the connection, as the protocol has it."""
        match request.scheme:
            case "digest":
                identity = acls.digest_identity(request.credentials)
            case "ip":
                identity = Identity("ip", client.address)
            case _:
                raise Refused(Code.AUTH_FAILED, f"no such scheme: {request.scheme!r}")
        if identity not in client.identities:
            if len(client.identities) >= IDENTITIES_MAX:
                raise Refused(Code.AUTH_FAILED, f"a connection may prove {IDENTITIES_MAX} identities")
            client.identities += (identity,)
        return Nothing()

    def _who_am_i(self, client: Client) -> Identities:
        return Identities(
            tuple(
                identity._replace(id=identity.id.split(":", 1)[0]) if identity.scheme == "digest" else identity
                for identity in client.identities
            )
        )

    def _add_watch(self, request: AddWatch, client: Client) -> Status:
        try:
            mode = WatchMode(request.mode)
        except ValueError:
            raise Refused(Code.BAD_ARGUMENTS, f"no such watch mode: {request.mode}") from None
        self.watches.watch_always(request.path, client, recursive=mode is WatchMode.RECURSIVE)
        return Status(Code.OK)

    def _set_watches(self, request: SetWatches, client: Client) -> Notices:
        """Put a reconnected client's watches back; those whose moment has passed fire instead."""
        nodes, watches = self.tree.nodes, self.watches
        notices: Notices = []
        for path in request.data:
            node = nodes.get(path)
            if node is None:
                notices.append((client, Event(EventKind.DELETED, path)))
            elif node.mzxid > request.seen_zxid:
                notices.append((client, Event(EventKind.CHANGED, path)))
            else:
                watches.watch_data(path, client)
        for path in request.exists:
            if path in nodes:
                notices.append((client, Event(EventKind.CREATED, path)))
            else:
                watches.watch_data(path, client)
        for path in request.children:
            node = nodes.get(path)
            if node is None:
                notices.append((client, Event(EventKind.DELETED, path)))
            elif node.pzxid > request.seen_zxid:
                notices.append((client, Event(EventKind.CHILDREN, path)))
            else:
                watches.watch_children(path, client)
        for path in request.persistent:
            watches.watch_always(path, client, recursive=False)
        for path in request.recursive:
            watches.watch_always(path, client, recursive=True)
        return notices


def _may_read(client: Client, of_znode: Acls) -> bool:
    return acls.allows(of_znode, Permission.READ, client.identities)


def _watch_kind(number: int) -> WatchKind:
    try:
        return WatchKind(number)
    except ValueError:
        raise Refused(Code.BAD_ARGUMENTS, f"no such kind of watches: {number}") from None
