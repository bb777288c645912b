"""Says what actors and ZooKeeper tell each other: requests to the watches actor, facts from it.

An actor subscribes to the session, and from ``Connected`` on it asks and watches:

    Subscribe -> Connected ... Suspended ... Connected ... Suspended ... Lost ... Connected (another session)

Facts are level triggered: a fact is how things are now, not what happened in between, and whoever acts on it must be
able to act on it twice. Every request is answered exactly once. ``connection_loss`` means that nobody knows whether it
was done: look (the watches show it) before asking again, and ask again when told ``Connected``, not at once.

``watches.py`` answers these by way of kazoo; a simulation answers them from a znode tree in memory.
"""

from dataclasses import dataclass

from .actor import Ref
from .message import message

# The session


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Tell me of the session, beginning with Connected if there is one now. Any actor -> Watches."""

    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The session lives and is heard. Watches -> subscribers, also when a suspended session is back (same id)."""

    session_id: int
    timeout_seconds: float
    """What the server granted: so long after the last contact it ends the session."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """The connection is gone, the session may still live: act carefully. Watches -> subscribers."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The session is over, its ephemeral nodes are gone or will be. Watches -> subscribers.

    Told before ZooKeeper can have ended the session, by the clock of this process, so that who gives up what the
    session stood for has given it up before anybody else can have it.
    """


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSession:
    """End the session for good, so that its ephemeral nodes vanish at once. Whoever ends the process -> Watches."""

    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed:
    """The session is ended, or the time that ending it may take is over. Watches -> who sent CloseSession."""


# Watches


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class WatchNode:
    """Tell me the content of a node, now and after every change. Any actor -> Watches."""

    path: str
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class WatchChildren:
    """Tell me the names of the children of a node, now and after every change. Any actor -> Watches."""

    path: str
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Unwatch:
    """Tell me no more about a path, neither content nor children. Any actor -> Watches."""

    path: str
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChanged:
    """The content of a node. Watches -> who sent WatchNode."""

    path: str
    data: bytes | None
    """None: there is no such node."""
    version: int
    """Counts the writes of this node since it was made; -1 when there is no such node."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildrenChanged:
    """The children of a node. Watches -> who sent WatchChildren."""

    path: str
    names: tuple[str, ...]
    """Sorted, without the path; empty also when there is no such node."""


# Requests


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNode:
    """Make a node, and its parents (persistent, empty) where they are missing. Any actor -> Watches."""

    request: str
    """Comes back in the answer; the asker's to choose."""
    path: str
    data: bytes
    ephemeral: bool = False
    """The node ends with the session."""
    sequential: bool = False
    """ZooKeeper appends ten digits that grow with every node made under the same parent."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class SetNode:
    """Write a node if its version is the one named. Any actor -> Watches."""

    request: str
    path: str
    data: bytes
    version: int
    """-1: whatever version it has."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteNode:
    """Remove a node that has no children, if its version is the one named. Any actor -> Watches."""

    request: str
    path: str
    version: int = -1
    """-1: whatever version it has."""
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNode:
    """Read a node as it is at the leader of the ensemble, not at a server that lags. Any actor -> Watches."""

    request: str
    path: str
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What became of a request. Watches -> who asked.

    ``error`` is "" when it was done, and otherwise
    no_node, node_exists, bad_version, not_empty, no_auth: certainly not done, for the reason that ZooKeeper gives;
    other:REASON: certainly not done;
    connection_loss: nobody knows whether it was, or will be, done; also when nothing was heard for too long;
    session_lost: likewise, and the session is over.
    """

    request: str
    error: str = ""
    path: str
    """As ZooKeeper calls the node: with the digits, if sequential."""
    data: bytes | None = None
    """The content, in answer to ReadNode."""
    version: int = -1
    """The node's version after the request."""
    owner: int = 0
    """The session whose ephemeral node it is; 0: of none."""


Request = CreateNode | SetNode | DeleteNode | ReadNode
