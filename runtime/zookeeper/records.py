"""Names what clients say to ZooKeeper and what it answers, as plain values.

The tree, the wire and the server all speak in these. Requests and results are named tuples: immutable, cheap to make
ten thousand times a second, and equal when they say the same. Numbers (error codes, event kinds, permissions) are
those of ZooKeeper's client protocol 3.5 and later, since they go over the wire as they are.
"""

from enum import IntEnum, IntFlag
from typing import NamedTuple

ANY_VERSION = -1
"""The version a client gives when any will do."""

CONTAINER_OWNER = -(1 << 63)
"""The owner of a container, which no session can be. Stats show it as 0."""


class Code(IntEnum):
    """Why a request was refused. A transaction answers OK for the operations that were undone with the failed one."""

    OK = 0
    SYSTEM_ERROR = -1
    RUNTIME_INCONSISTENCY = -2  # in a transaction: not reached
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    BAD_ARGUMENTS = -8
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_ACL = -114
    AUTH_FAILED = -115
    NO_WATCHER = -121
    RECONFIG_DISABLED = -123
    QUOTA_EXCEEDED = -125


class Refused(Exception):
    """A request that had no effect, with the code that says why."""

    def __init__(self, code: Code, why: str = "") -> None:
        super().__init__(why or code.name.lower())
        self.code = code


class Permission(IntFlag):
    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


class Identity(NamedTuple):
    """Who somebody is, by one scheme: ``digest``, ``ip`` or ``world``."""

    scheme: str
    id: str


class Acl(NamedTuple):
    """What one identity may do."""

    permissions: int
    scheme: str
    id: str


Acls = tuple[Acl, ...]

OPEN_TO_ALL: Acls = (Acl(int(Permission.ALL), "world", "anyone"),)
READ_ONLY_TO_ALL: Acls = (Acl(int(Permission.READ), "world", "anyone"),)


class Stat(NamedTuple):
    """What a znode tells about itself, field by field as on the wire. Times are milliseconds since the Unix epoch."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


class Mode(IntEnum):
    """How a new znode shall live. The two modes with a time to live are refused, as by any server not configured."""

    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    PERSISTENT_WITH_TTL = 5
    PERSISTENT_SEQUENTIAL_WITH_TTL = 6

    @property
    def sequential(self) -> bool:
        return self in (Mode.PERSISTENT_SEQUENTIAL, Mode.EPHEMERAL_SEQUENTIAL, Mode.PERSISTENT_SEQUENTIAL_WITH_TTL)

    @property
    def ephemeral(self) -> bool:
        return self in (Mode.EPHEMERAL, Mode.EPHEMERAL_SEQUENTIAL)

    @property
    def has_ttl(self) -> bool:
        return self in (Mode.PERSISTENT_WITH_TTL, Mode.PERSISTENT_SEQUENTIAL_WITH_TTL)


class EventKind(IntEnum):
    """What a watch reports."""

    CREATED = 1
    DELETED = 2
    CHANGED = 3
    CHILDREN = 4


class Event(NamedTuple):
    """What a client is told when a watch fires."""

    kind: EventKind
    path: str


class Happening(NamedTuple):
    """What a transaction did to one znode: it made, deleted or changed it. Who may not read the znode is not told."""

    kind: EventKind
    path: str
    acls: Acls
    parent_acls: Acls


class WatchKind(IntEnum):
    """Which watches a client asks about or takes back."""

    CHILDREN = 1
    DATA = 2
    ANY = 3


class WatchMode(IntEnum):
    """Watches that stay after they have fired."""

    PERSISTENT = 0
    RECURSIVE = 1


# What changes the tree.


class Create(NamedTuple):
    path: str
    data: bytes | None
    acls: Acls
    flags: int = 0
    with_stat: bool = False


class Delete(NamedTuple):
    path: str
    version: int = ANY_VERSION


class SetData(NamedTuple):
    path: str
    data: bytes | None
    version: int = ANY_VERSION


class SetAcl(NamedTuple):
    path: str
    acls: Acls
    version: int = ANY_VERSION


class Check(NamedTuple):
    """In a transaction: go on only if the version is this."""

    path: str
    version: int


Operation = Create | Delete | SetData | SetAcl | Check


class Multi(NamedTuple):
    """All of the operations, or none."""

    operations: tuple[Operation, ...]


# What looks at it.


class Exists(NamedTuple):
    path: str
    watch: bool = False


class GetData(NamedTuple):
    path: str
    watch: bool = False


class GetAcl(NamedTuple):
    path: str


class GetChildren(NamedTuple):
    path: str
    watch: bool = False
    with_stat: bool = False


class MultiRead(NamedTuple):
    reads: tuple[GetData | GetChildren, ...]


class GetEphemerals(NamedTuple):
    """Ephemerals of the asking session below a path."""

    prefix: str


class CountDescendants(NamedTuple):
    path: str


class Sync(NamedTuple):
    path: str


# What concerns the connection.


class Connect(NamedTuple):
    """The first frame of a connection: a new session (id 0), or an old one with its password."""

    protocol: int
    last_zxid_seen: int
    timeout_ms: int
    session: int
    password: bytes
    read_only: bool | None  # None: a client so old that it does not expect the field in the answer either


class AddAuth(NamedTuple):
    scheme: str
    credentials: bytes


class SetWatches(NamedTuple):
    """After a reconnection: put these watches back, and fire those whose event was missed since ``seen_zxid``."""

    seen_zxid: int
    data: tuple[str, ...]
    exists: tuple[str, ...]
    children: tuple[str, ...]
    persistent: tuple[str, ...] = ()
    recursive: tuple[str, ...] = ()


class AddWatch(NamedTuple):
    path: str
    mode: int


class RemoveWatches(NamedTuple):
    path: str
    kind: int


class CheckWatches(NamedTuple):
    """Are there such watches of mine?"""

    path: str
    kind: int


class WhoAmI(NamedTuple):
    pass


class Ping(NamedTuple):
    pass


class CloseSession(NamedTuple):
    pass


class Unimplemented(NamedTuple):
    """A request this server knows of, or not, and does not serve."""

    opcode: int
    code: Code = Code.UNIMPLEMENTED


Request = (
    Operation
    | Multi
    | Exists
    | GetData
    | GetAcl
    | GetChildren
    | MultiRead
    | GetEphemerals
    | CountDescendants
    | Sync
    | AddAuth
    | SetWatches
    | AddWatch
    | RemoveWatches
    | CheckWatches
    | WhoAmI
    | Ping
    | CloseSession
    | Unimplemented
)


# What comes back. Several results share a form, so their names say the form.


class Nothing(NamedTuple):
    """Done; there is no more to say."""


class Path(NamedTuple):
    path: str


class PathAndStat(NamedTuple):
    path: str
    stat: Stat


class JustStat(NamedTuple):
    stat: Stat


class DataAndStat(NamedTuple):
    data: bytes | None
    stat: Stat


class AclsAndStat(NamedTuple):
    acls: Acls
    stat: Stat


class Names(NamedTuple):
    names: tuple[str, ...]


class NamesAndStat(NamedTuple):
    names: tuple[str, ...]
    stat: Stat


class Count(NamedTuple):
    value: int


class Identities(NamedTuple):
    identities: tuple[Identity, ...]


class Status(NamedTuple):
    """A code as an answer: in a transaction that failed, each operation's; and how setting a watch is answered."""

    code: Code


class Results(NamedTuple):
    """Answers of a transaction, each with the operation it belongs to."""

    results: tuple[tuple[Operation | GetData | GetChildren, "Result"], ...]


Result = (
    Nothing
    | Path
    | PathAndStat
    | JustStat
    | DataAndStat
    | AclsAndStat
    | Names
    | NamesAndStat
    | Count
    | Identities
    | Status
    | Results
)
