"""Makes a node process a member of its cluster: registers its life, holds the newest ring, tells the others of it.

Hears   Connected, Suspended, Lost, NodeChanged, Answered     from Watches
        LookForRing                                           from anybody here who heard of a newer ring
        WhichRing                                             from Ecs that begins to lead
        ShowHeldRing                                          from Ecs, where ZooKeeper has lost the ring
        CopyDamaged                                           from Scrubber
        SyncFailed                                            from StorageNode, Replica
        NoLongerWhole, HoldsNothingForeign                    from Replica
        RegisterAgain, KeepAgain, Lingered, Rested, HurtLongEnough      from itself
Tells   Subscribe, WatchNode, ReadNode, CreateNode, SetNode, DeleteNode -> Watches;
        RingChanged -> StorageNode, Replica, Gateway, FailureDetector; RingSeen -> whoever asked;
        HeldStamp, HeldRing -> Ecs; DamageFound -> Scrubber

The ring znode is the truth and this actor is where it enters the node. A ring is taken only if it descends from the one
held (R23), and it is on disk before anyone hears of it, so a node never goes back to an older one, not by a restart
either. A ring that is not taken is said loudly and changes nothing; one that the disk has no room for is tried again,
and until then the one held counts.

The registration is an ephemeral znode per incarnation and session, and says which ring the node holds: it is written
anew with every ring that is taken, so that an ECS that finds no ring, or an older one, knows that one is missing. A
lost session does not end an incarnation: the new session registers the same life, then the old registration is removed.
What ends it is the ring: once it calls this incarnation down, or names another of this node, or none after it has named
this one, the process drops its claims and starts again as a new incarnation (``start_again``).

A node that the ring calls out has left: it lingers for a while, to send clients to where its slots are now, then its
process ends (``leave``). That it left is written down first (``note_left``). One that was called down while it was
leaving, and reads in its next life that it has left, ends as well, once it has parted with its slots, unless it is
asked for again. Who begins on the folder of one that knew is there on purpose, and waits to be asked. One that was
given up, since it was down for too long, starts again and is taken in again.

A node whose copy is damaged is called down by the ring (R25). If another answers for each of its lists in that ring,
nothing is lost with its store: that it is to be put aside is written down (``note_damaged``) before it starts again.

A node whose disk has failed to sync does not wait for the ring: nobody knows what of its writes is on disk, and a later
sync that works does not say so either. It writes down that it may lack something (``note_not_whole``, R16) and starts
again, so that others take over and it is made equal to them. Where that was for want of room the others may have none
either, on the same disk, and what it has in memory may be nowhere else: it goes when the ring calls it down, as one
whose copy is damaged (R25), but for its store, which stays. One that others do not wait for goes on for a while first,
so that a disk that fails for long costs a start now and then.

    starting --Connected--> registered --ring names it--> in the ring --ring calls it down--> starts again
        ^-------- Lost ---------+                              +------- ring calls it out --> lingers -> leaves
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.message import message
from ..runtime.session import (
    Answered,
    Connected,
    CreateNode,
    DeleteNode,
    Lost,
    NodeChanged,
    ReadNode,
    SetNode,
    Subscribe,
    Suspended,
    WatchNode,
)
from .damage import tell_distrust
from .messages import (
    CopyDamaged,
    HeldRing,
    HeldStamp,
    HoldsNothingForeign,
    LookForRing,
    NoLongerWhole,
    RingChanged,
    RingSeen,
    ShowHeldRing,
    SyncFailed,
    WhichRing,
)
from .rules import paths
from .rules.fields import RingError
from .rules.life import Registration
from .rules.ring import Node, Ring
from .rules.ring_news import News, states, writes
from .rules.scrub import spares

log = logging.getLogger(__name__)

REGISTER_AGAIN_SECONDS = 1.0
"""So long after a registration that failed it is tried again."""

LEAVE_LINGER_SECONDS = 5.0
"""So long a node that has left the ring goes on answering MOVED."""

REST_LINGER_SECONDS = 1.0
"""So long a node that was taken down in order to be restarted (R27) goes on answering MOVED, so that clients go
elsewhere before their connections end."""

KEEP_AGAIN_SECONDS = 5.0
"""So long after a ring could not be put on disk it is tried again."""

HURT_SECONDS = 10.0
"""So long a life whose disk failed to sync goes on where the ring does not call it up."""

LOOK = "look for a ring"
"""The request that reads the ring again."""


class Archive(Protocol):
    """A small file that survives power cuts whole."""

    def read(self) -> bytes | None: ...
    def write(self, content: bytes) -> None: ...


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterAgain:
    """Registering has failed a while ago; local. Member -> Member."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAgain:
    """A ring could not be put on disk a while ago; local. Member -> Member."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Lingered:
    """This node has left the ring a while ago; local. Member -> Member."""

    why: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Rested:
    """This node was taken down in order a while ago; local. Member -> Member."""

    why: str


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class HurtLongEnough:
    """This node's disk has failed to sync a while ago; local. Member -> Member."""


class Member(Actor):
    """One node's membership. ``life`` is what it registers; ``listeners`` are told of every ring that is taken."""

    def __init__(
        self,
        *,
        life: Registration,
        cluster_name: str,
        watches: Ref,
        archive: Archive,
        listeners: tuple[Ref, ...],
        start_again: Callable[[str], None],
        leave: Callable[[str], None] = lambda why: None,
        note_left: Callable[[bool], None] = lambda has_left: None,
        note_whole: Callable[[], None] = lambda: None,
        note_damaged: Callable[[str], None] = lambda why: None,
        note_not_whole: Callable[[], None] = lambda: None,
        linger_seconds: float = LEAVE_LINGER_SECONDS,
    ) -> None:
        super().__init__()
        self._life, self._cluster_name = life, cluster_name
        self._watches, self._archive = watches, archive
        self._listeners, self._start_again = listeners, start_again
        self._leave, self._note_left, self._linger_seconds = leave, note_left, linger_seconds
        self._note_whole, self._note_damaged = note_whole, note_damaged
        self._note_not_whole = note_not_whole
        self._damage = ""
        self._sync_failure: SyncFailed | None = None
        self._hurt_long_enough = False
        self._lingers = self._leaves_when_empty = False
        self._rests = False
        self._ring: Ring | None = None
        self._named = False  # a ring has named this incarnation
        self._session: int | None = None
        self._registered: set[str] = set()  # names of registrations that may exist
        self._registering_again = False
        self._unkept: bytes | None = None
        """What was read last, if it could not be put on disk."""
        self._keeping_again = False
        self._asked: list[LookForRing] = []
        """Who waits for the read that is under way."""
        self._asked_meanwhile: list[LookForRing] = []
        self._looking = False

    def on_start(self) -> None:
        kept = self._archive.read()
        if kept is not None:
            self._ring = Ring.from_json(kept)
            self._note("ring", f"{self._life.id} holds {self._ring.stamp}", log=log.info)
            self._tell(self._ring)  # so that clients are sent to the right nodes already; this one serves nothing yet
        self.send(self._watches, Subscribe(reply_to=self.ref))
        self.send(self._watches, WatchNode(path=paths.ring(self._cluster_name), reply_to=self.ref))

    def inspect(self) -> dict[str, Any]:
        """What people want to know of it (``runtime/looking.py``)."""
        ring = self._ring
        return {
            "life": self._life,
            "ring": str(ring.stamp) if ring is not None else None,
            "named_by_the_ring": self._named,
            "session": self._session,
            "registrations": self._registered,
            "ring_not_on_disk": self._unkept is not None,
            "lingers": self._lingers,
            "damage": self._damage,
            "sync_failure": self._sync_failure.why if self._sync_failure is not None else "",
        }

    def on_receive(
        self,
        message: Connected
        | Suspended
        | Lost
        | NodeChanged
        | Answered
        | LookForRing
        | WhichRing
        | ShowHeldRing
        | CopyDamaged
        | SyncFailed
        | NoLongerWhole
        | HoldsNothingForeign
        | RegisterAgain
        | KeepAgain
        | Lingered
        | Rested
        | HurtLongEnough,
    ) -> None:
        match message:
            case Connected():
                self._connected(message)
            case Suspended():
                log.info("%s: ZooKeeper is out of reach; data is served as %s says", self._life.id, self._held())
            case Lost():
                self._session = None
                log.warning("%s: the ZooKeeper session is lost; a new one will register the same life", self._life.id)
            case NodeChanged():
                self._ring_read(message.data)
            case Answered() if message.request == LOOK:
                self._looked(message)
            case Answered():
                self._answered(message)
            case LookForRing():
                self._asked_meanwhile.append(message)
                self._look()
            case WhichRing():
                stamp = self._ring.stamp._asdict() if self._ring is not None else {}
                life = self._life
                said = HeldStamp(question=message.question, node=life.id, incarnation=life.incarnation, **stamp)
                self.send(message.reply_to, said)
            case ShowHeldRing():
                held = self._ring.to_json() if self._ring is not None else b""
                life = self._life
                answer = HeldRing(question=message.question, node=life.id, incarnation=life.incarnation, ring=held)
                self.send(message.reply_to, answer)
            case CopyDamaged():
                self._damage = message.why
            case SyncFailed():
                self._sync_failed(message)
            case NoLongerWhole():
                self._no_longer_whole(message)
            case HoldsNothingForeign():
                if self._leaves_when_empty:
                    self._leave(f"{self._life.id} has left the ring and holds nothing any more")
            case RegisterAgain():
                self._registering_again = False
                self._register()
            case KeepAgain():
                self._keep_again()
            case Lingered():
                self._lingered(message)
            case Rested():
                if not self._lingers:  # else it was removed meanwhile, and has no next life
                    self._start_again(message.why)
            case HurtLongEnough():
                self._hurt_long_enough = True
                self._make_way()
            case _:
                assert_never(message)

    # Registration

    def _connected(self, message: Connected) -> None:
        if message.session_id != self._session:
            self._session = message.session_id
            self._looking = False  # whatever was asked in the session before is not answered any more
            self._register()

    def _register(self) -> None:
        if self._session is not None:
            name, path, content = self._registration()
            self._registered.add(name)
            create = CreateNode(request=name, path=path, data=content, ephemeral=True, reply_to=self.ref)
            self.send(self._watches, create)

    def _update_registration(self) -> None:
        if self._session is not None:
            name, path, content = self._registration()
            self.send(self._watches, SetNode(request=name, path=path, data=content, version=-1, reply_to=self.ref))

    def _registration(self) -> tuple[str, str, bytes]:
        """Its name in this session, its path, and what it has to say now."""
        assert self._session is not None
        life = replace(self._life, held=self._ring.stamp if self._ring is not None else None)
        name = str(paths.RegistrationName(life.id, life.incarnation, _hex(self._session)))
        return name, self._path(name), life.to_json()

    def _answered(self, message: Answered) -> None:
        """After any answer but success the registration is not what it should be, and the other request is due."""
        name = message.request
        if self._session is None or not name.endswith(f".{_hex(self._session)}"):
            if message.error in ("", "no_node"):  # a removal, or a registration of a session that is over
                self._registered.discard(name)
        elif message.error == "":
            life = f"incarnation {self._life.incarnation}"
            self._note("session", f"{self._life.id} is registered as {life} with {self._held()}", log=log.info)
            for old in sorted(self._registered - {name}):
                self.send(self._watches, DeleteNode(request=old, path=self._path(old), reply_to=self.ref))
        elif message.error == "node_exists":
            self._update_registration()
        elif message.error == "no_node":
            self._register()
        else:
            log.warning("%s could not register (%s); trying again", self._life.id, message.error)
            if not self._registering_again:
                self._registering_again = True
                self.after(REGISTER_AGAIN_SECONDS, RegisterAgain())

    def _path(self, name: str) -> str:
        return f"{paths.nodes(self._cluster_name)}/{name}"

    # The ring

    def _look(self) -> None:
        """Read the ring again, for all that have asked before the read begins."""
        if self._asked_meanwhile and not self._looking and self._session is not None:
            self._looking = True
            self._asked, self._asked_meanwhile = self._asked_meanwhile, []
            self.send(self._watches, ReadNode(request=LOOK, path=paths.ring(self._cluster_name), reply_to=self.ref))
        elif self._session is None:
            self._asked_meanwhile.clear()  # they ask again

    def _looked(self, message: Answered) -> None:
        self._looking = False
        asked, self._asked = self._asked, []
        if not message.error and self._ring_read(message.data) and self._ring is not None:
            for question in asked:
                if question.reply_to is not None:
                    self.send(question.reply_to, RingSeen(question=question.question, epoch=self._ring.epoch))
        self._look()

    def _ring_read(self, data: bytes | None) -> bool:
        """Take a ring, if it is one to be taken; whether what was read is what is held now."""
        self._unkept = None
        if data is None:
            if self._ring is not None:
                lost = f"ring lost: ZooKeeper has no ring, {self._life.id} holds {self._held()}"
                self._note("trouble", lost, log=log.error)
                self._update_registration()  # an old disk may say of this node that it holds an older one
            return False
        try:
            ring = Ring.from_json(data)
        except RingError as error:
            what = f"{self._life.id} cannot read the ring in ZooKeeper and stays with {self._held()}: {error}"
            self._note("trouble", what, log=log.error)
            return False
        new = self._ring is None or ring.stamp != self._ring.stamp
        if not new and self._named:
            return True
        if self._ring is not None and (objection := ring.objection(self._ring.stamp)):
            self._note("trouble", f"{self._life.id} stays with the ring it holds: {objection}", log=log.error)
            self._update_registration()  # which may be as old as that ring, and say that all is well
            return False
        if new and not self._keep(ring, data):
            if self._named and self._is_over(ring):  # the next life reads it again: nothing rests on having kept it
                self._start_again(f"{ring.stamp} names another life, or calls this one down, and the disk has no room")
            return False
        before, self._ring = self._ring, ring
        me = ring.by_id.get(self._life.id)
        up = me is not None and me.incarnation == self._life.incarnation and me.state == "up"
        if not self._life.whole and up and ring.is_settled(self._life.id):
            self._life = replace(self._life, whole=True)  # what a power cut took is made good, or given up (R16)
            self._note_whole()
        if new:
            for kind, sentence, cause, epoch, fields in (*writes(before, ring), *self._own(states(before, ring))):
                self.system.events.note(kind, sentence, cause=cause, epoch=epoch, **fields)
            self._update_registration()
        self._obey(ring, before)
        return True

    def _keep(self, ring: Ring, data: bytes) -> bool:
        """Put a ring on disk; if that fails, once more after a while, unless another has been read by then."""
        try:
            self._archive.write(data)
        except OSError as error:
            what = (
                f"{self._life.id} cannot put {ring.stamp} on disk: {error} - it stays with {self._held()}, serves as "
                f"that says, and tries again every {KEEP_AGAIN_SECONDS:g} s: make room"
            )
            self._note("trouble", what, log=log.error)
            self._unkept = data
            if not self._keeping_again:
                self._keeping_again = True
                self.after(KEEP_AGAIN_SECONDS, KeepAgain())
            return False
        return True

    def _is_over(self, ring: Ring) -> bool:
        """Whether a ring has ended this life."""
        me = ring.by_id.get(self._life.id)
        return me is None or me.incarnation != self._life.incarnation or me.state == "down"

    def _keep_again(self) -> None:
        self._keeping_again = False
        if self._unkept is not None:
            self._ring_read(self._unkept)

    def _obey(self, ring: Ring, before: Ring | None) -> None:
        me = ring.by_id.get(self._life.id)
        mine = me is not None and me.incarnation == self._life.incarnation
        if mine and me is not None and me.state == "out" and me.given_up:
            self._start_again(f"ring {ring.epoch} has given up incarnation {self._life.incarnation}")
        elif mine and me is not None and me.state == "out":
            self._linger(f"{self._life.id} has left the ring (epoch {ring.epoch})")
        elif mine and me is not None and me.state == "down":
            why = f"ring {ring.epoch} calls incarnation {self._life.incarnation} down"
            if self._damage and self._sync_failure is None and spares(ring, self._life.id):
                self._note_damaged(self._damage)
            change = before.change if before is not None else None
            if change is not None and change.wish.kind == "rest" and self._life.id in change.wish.ids:
                self._rests = True
                self.after(REST_LINGER_SECONDS, Rested(why=f"{why}: it is to be restarted"))
            elif not self._rests:
                self._start_again(why)
        elif me is not None and not mine and self._left_unseen(ring, me, before):
            self._leaves_when_empty = True
            what = f"{self._life.id} has left the ring while it was down (epoch {ring.epoch})"
            self._note("process", f"{what}; once it holds nothing any more it ends", log=log.warning)
            self._note_left(True)
        elif self._leaves_when_empty and (mine or self._comes(ring)):
            self._leaves_when_empty = False  # it was asked for again
            self._note_left(False)
        elif self._named and not mine:
            self._start_again(f"ring {ring.epoch} names another incarnation than {self._life.incarnation}, or none")
        self._named = self._named or mine
        self._tell(ring)
        self._make_way()

    def _left_unseen(self, ring: Ring, me: Node, before: Ring | None) -> bool:
        """Whether a life before this one has left, by a ring that nobody has read on this folder until now."""
        then = before.by_id.get(self._life.id) if before is not None else None
        known = then is not None and then.state == "out" and then.data_id == self._life.data_id
        has_left = me.state == "out" and not me.given_up and me.data_id == self._life.data_id
        return has_left and not known and not self._comes(ring)  # else it was asked for again

    def _comes(self, ring: Ring) -> bool:
        """Whether the change in flight brings this node."""
        return ring.change is not None and any(node.id == self._life.id for node in ring.change.comes)

    def _sync_failed(self, message: SyncFailed) -> None:
        self._note_not_whole()
        if self._sync_failure is None:
            self._sync_failure = message
            self.after(HURT_SECONDS, HurtLongEnough())
        self._make_way()

    def _make_way(self) -> None:
        """End this life if its disk has failed to sync; for want of room only once the ring calls it down."""
        failure, ring = self._sync_failure, self._ring
        if failure is None or self._lingers:  # who has left the ring has no next life
            return
        if not self._hurt_long_enough and (ring is None or not self._answers(ring)):
            return
        why = f"its disk failed to sync ({failure.why})"
        if failure.full and self._is_counted_on(ring):
            tell_distrust(self, why)
        else:
            self._start_again(why)

    def _is_counted_on(self, ring: Ring | None) -> bool:
        """Whether the ring names this life: what it holds may be what others lack."""
        me = ring.by_id.get(self._life.id) if ring is not None else None
        return me is not None and me.incarnation == self._life.incarnation

    def _answers(self, ring: Ring) -> bool:
        """Whether others wait for this life while it goes on."""
        me = ring.by_id.get(self._life.id)
        return me is not None and (me.state == "up" or any(each.keeper == me.id for each in ring.trouble))

    def _no_longer_whole(self, message: NoLongerWhole) -> None:
        """If that cannot be written down the next life is registered as whole, too, and nothing is taken from it."""
        self._note_not_whole()
        self._start_again(message.why)

    def _linger(self, why: str) -> None:
        if not self._lingers:
            self._lingers = True
            what = f"{why}; it answers MOVED for {self._linger_seconds:g} s more, then it ends"
            self._note("process", what, log=log.warning)
            self._note_left(True)  # at once: who dies while it lingers has left all the same
            self.after(self._linger_seconds, Lingered(why=why))

    def _lingered(self, message: Lingered) -> None:
        me = self._ring.by_id.get(self._life.id) if self._ring is not None else None
        self._lingers = False
        if me is None or me.state == "out":
            self._leave(message.why)

    def _tell(self, ring: Ring) -> None:
        for listener in self._listeners:
            self.send(listener, RingChanged(ring=ring))

    def _own(self, news: list[News]) -> list[News]:
        return [each for each in news if each.fields["node"] == self._life.id]

    def _note(self, kind: str, sentence: str, *, log: Callable[..., object]) -> None:
        epoch = self._ring.epoch if self._ring is not None else 0
        self.system.events.note(kind, sentence, epoch=epoch, log=log, node=self._life.id)

    def _held(self) -> str:
        return str(self._ring.stamp) if self._ring is not None else "no ring yet"


def _hex(session: int) -> str:
    return f"{session & (1 << 64) - 1:016x}"
