"""Elects one leader among the processes that put a candidate under a ZooKeeper path, and says who it is.

Hears   FollowLeader; Connected, Suspended, Lost, ChildrenChanged, NodeChanged, Answered (from Watches)
Tells   Elected, Deposed -> owner; LeaderChanged -> followers;
        Subscribe, WatchChildren, WatchNode, Unwatch, CreateNode, DeleteNode -> Watches

A candidate is an ephemeral sequential node whose name is the session that made it and ZooKeeper's number. The lowest
number leads; its content is what the candidate wants known of itself, such as an address. Who has no candidate can
follow all the same.

    away --Connected--> looking --not found--> applying --seen--> standing --lowest--> leading
     ^                     ^                                         |                    |
     |                     +------------ candidate gone -------------+---- (Deposed) -----+
     +------------------------------- Lost (Deposed) -------------------------------------+

*Everything is decided by looking at the children*, never by what a request is said to have done. So an application of
unknown outcome (connection_loss) is found by the session in its name, as is the one that an earlier life of this actor
made; only if it is not there another is made. Should there be two, the higher is removed.

*Everybody looks at all candidates*, not each at its predecessor only: it needs them anyhow to know the leader, there
are few of them, and a look at the whole cannot be wrong about who precedes whom.

*Deposed comes before another's Elected*: while suspended the candidate still stands, so nobody else can lead; Lost is
told by our own clock before ZooKeeper can have removed it. What a leader writes must be fenced all the same (versions):
a process can be frozen at any place. The term, the candidate's number, grows from leader to leader.

*A former life's candidate is removed.* A process that was killed leaves its candidate until its session ends. Who comes
after it says the same of itself (the address that only one process can have), so a leader that says what we say and is
not us is dead, and we need not wait. Two that say the same by mistake depose each other for ever, and do no harm.

There is one election per path and session. Stopping the actor leaves the candidate until the session ends.

Who follows is known to this actor only, and nobody would tell it again, so a failure of it must escalate: spawn it with
``ESCALATE``.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from dataclasses import dataclass
from typing import assert_never

from .actor import Actor, Ref
from .message import message
from .session import (
    Answered,
    ChildrenChanged,
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

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 5.0
"""So long after something went wrong while connected, or was done and not seen, the candidates are looked at anew."""

PAST_SESSIONS_MAX = 8
"""Candidates of so many lost sessions are removed on sight instead of being left to time out."""

_CANDIDATE = re.compile(r"([0-9a-f]{16})-([0-9]{10})")


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class FollowLeader:
    """Tell me who leads, now (if it is known) and at every change. Any actor -> Election."""

    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Elected:
    """You lead from now on. Election -> its owner; again, with the same term, when Election itself was restarted."""

    path: str
    term: int
    """Greater than that of every leader before."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Deposed:
    """You lead no more. Election -> its owner."""

    path: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderChanged:
    """Who leads, as far as is known. Election -> followers."""

    path: str
    data: bytes | None
    """What the leader's candidate says; None: nobody leads."""
    term: int
    """The leader's; -1: nobody leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LookAgain:
    """A timer of Election's own."""


class Election(Actor):
    """Stands for leader of ``path`` with ``candidate`` as its candidate's content; None: only follows.

    ``owner`` is told Elected and Deposed.
    """

    def __init__(self, *, watches: Ref, path: str, candidate: bytes | None = None, owner: Ref | None = None) -> None:
        super().__init__()
        self.watches, self.path, self.candidate, self.owner = watches, path, candidate, owner
        self.connected = False
        self.session: str | None = None
        """The session as candidates' names have it; None: there is none."""
        self.past_sessions: deque[str] = deque(maxlen=PAST_SESSIONS_MAX)
        self.names: tuple[str, ...] = ()
        """All candidates when they were looked at last, the lowest number first."""
        self.applying = False
        """A CreateNode is on its way."""
        self.standing: str | None = None
        """Our candidate, if there was one when they were looked at last."""
        self.leading = False
        self.watched: str | None = None
        """The candidate whose content we watch, since it leads."""
        self.leader: LeaderChanged | None = None
        self.followers: dict[Ref, None] = {}
        self.looking_again = False

    def on_start(self) -> None:
        self.send(self.watches, Subscribe(reply_to=self.ref))

    def on_receive(
        self,
        message: Connected | Suspended | Lost | ChildrenChanged | NodeChanged | Answered | FollowLeader | _LookAgain,
    ) -> None:
        match message:
            case Connected():
                self._connected(message)
            case Suspended():
                self.connected = False
            case Lost():
                self._lost()
            case ChildrenChanged():
                self._children_changed(message)
            case NodeChanged():
                self._node_changed(message)
            case Answered():
                self._answered(message)
            case FollowLeader():
                self._follow_leader(message)
            case _LookAgain():
                self._look_again()
            case _:
                assert_never(message)

    # The session

    def _connected(self, connected: Connected) -> None:
        self.connected = True
        self.session = f"{connected.session_id & (1 << 64) - 1:016x}"
        self._look()

    def _lost(self) -> None:
        self.connected = False
        if self.session is not None:
            self.past_sessions.append(self.session)
        self.session = self.standing = None
        if self.leading:
            self._depose("the session is lost")
            self._know_leader(None)

    # The candidates

    def _look(self) -> None:
        """Ask for the candidates; they are told even if they have not changed."""
        if self.connected:
            self.send(self.watches, WatchChildren(path=self.path, reply_to=self.ref))

    def _look_again(self) -> None:
        self.looking_again = False
        self._look()

    def _children_changed(self, changed: ChildrenChanged) -> None:
        if not self.connected:
            return
        names = [name for name in changed.names if _CANDIDATE.fullmatch(name)]
        self.names = tuple(sorted(names, key=lambda name: (_number(name), name)))
        ours = [name for name in self.names if _session(name) == self.session]
        self.standing = ours[0] if ours else None
        past = [name for name in self.names if _session(name) in self.past_sessions]
        for name in past + ours[1:]:
            self.send(self.watches, DeleteNode(request="remove", path=self._path_of(name), reply_to=self.ref))
        self._stand(self.names)
        self._know_leader(self.names[0] if self.names and self.names[0] not in past else None)

    def _stand(self, names: tuple[str, ...]) -> None:
        """Be the leader if ours is the lowest candidate; apply if there is none of ours."""
        first = self.standing is not None and self.standing == names[0]
        if self.leading and not first:
            self._depose("our candidate is gone" if self.standing is None else f"{names[0]} precedes our candidate")
        if self.standing is None and self.candidate is not None and not self.applying:
            self._apply()
        elif first and not self.leading:
            self.leading = True
            term = _number(names[0])
            self.system.events.note("leader", f"{self.path}: elected in term {term}", log=log.info, term=term)
            self._tell_owner(Elected(path=self.path, term=term))

    def _apply(self) -> None:
        assert self.candidate is not None and self.session is not None
        self.applying = True
        self.send(
            self.watches,
            CreateNode(
                request="apply",
                path=f"{self.path}/{self.session}-",
                data=self.candidate,
                ephemeral=True,
                sequential=True,
                reply_to=self.ref,
            ),
        )

    def _answered(self, answered: Answered) -> None:
        if answered.request == "apply":
            self.applying = False
        if answered.error.startswith(("no_auth", "other:")):
            log.warning("%s: ZooKeeper refuses to %s our candidate: %s", self.path, answered.request, answered.error)
        if not self.looking_again and (answered.request == "apply" or answered.error not in ("", "no_node")):
            self.looking_again = True
            self.after(LOOK_AGAIN_SECONDS, _LookAgain())

    def _depose(self, why: str) -> None:
        self.leading = False
        self.system.events.note("leader", f"{self.path}: deposed: {why}", log=log.warning)
        self._tell_owner(Deposed(path=self.path))

    def _tell_owner(self, fact: Elected | Deposed) -> None:
        if self.owner is not None:
            self.send(self.owner, fact)

    # The leader

    def _know_leader(self, name: str | None) -> None:
        """Watch what the leader's candidate says; nobody leads if there is none."""
        if name != self.watched:
            if self.watched is not None:
                self.send(self.watches, Unwatch(path=self._path_of(self.watched), reply_to=self.ref))
            self.watched = name
            if name is not None:
                self.send(self.watches, WatchNode(path=self._path_of(name), reply_to=self.ref))
        if name is None:
            self._tell_followers(LeaderChanged(path=self.path, data=None, term=-1))

    def _node_changed(self, changed: NodeChanged) -> None:
        # A candidate that is gone says nothing yet about who leads: its going is seen among the children.
        if self.watched is None or changed.path != self._path_of(self.watched) or changed.data is None:
            return
        if changed.data == self.candidate and _session(self.watched) != self.session:
            self.send(self.watches, DeleteNode(request="remove", path=changed.path, reply_to=self.ref))
        else:
            self._tell_followers(LeaderChanged(path=self.path, data=changed.data, term=_number(self.watched)))

    def _tell_followers(self, leader: LeaderChanged) -> None:
        if leader != self.leader:
            self.leader = leader
            for follower in list(self.followers):
                if follower.is_alive():
                    self.send(follower, leader)
                else:
                    del self.followers[follower]

    def _follow_leader(self, follow: FollowLeader) -> None:
        self.followers[follow.reply_to] = None
        if self.leader is not None:
            self.send(follow.reply_to, self.leader)

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    def check(self) -> None:
        assert not self.connected or self.session is not None
        assert self.session not in self.past_sessions
        if self.leading:
            assert self.session is not None, "leads without a session"
            assert self.names and self.names[0] == self.standing, "leads without the lowest candidate"


def _session(name: str) -> str:
    return name[:16]


def _number(name: str) -> int:
    return int(name[17:])
