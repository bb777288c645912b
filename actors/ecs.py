"""The control service: founds the ring, and is the only writer of it.

Hears   Elected, Deposed                                       from Election
        Connected, Suspended, Lost, NodeChanged,
        ChildrenChanged, Answered                              from Watches
        RunVerb                                                from Gateway of any node
        Figures                                                from StorageNode of every node
        Suspected                                              from FailureDetector of any node
        LookAgain, FiguresDue                                  from itself
Tells   WatchNode, WatchChildren, ReadNode, SetNode, CreateNode -> Watches; ReportFigures -> StorageNode;
        VerbRun -> Gateway

Any number of these run; one leads. Facts arrive in any order and say how things are; after each of them the leader
*looks*: at the ring as it is in ZooKeeper and at who is registered, and if these two call for another ring it writes
the next one by compare-and-set. One write is on its way at a time, and after one of unknown outcome the ring is read
again; nothing is ever decided from memory of what was written before. What was known before the connection broke is
not known any more: no look before the ring and the names of the registered have both been read again.

    standing by --Elected--> leading (looks after every fact) --Deposed--> standing by

What a look may write, the first that applies:

    found      there is no ring, and enough nodes have registered
    returned   a node of the ring has registered another life: up again in one write (R3; with one copy per slot)
    downed     nodes of the ring have not been registered for a while, and this ECS has led, and been connected, long
               enough for everybody to have come back: all of them in one write

It does not lead where it would disown data. *Ring lost or rolled back* is: no ring, or one that does not descend from
the newest that this ECS has read in its life; no ring, but a node that holds one; a ring from which what a node holds
does not descend (R23). Then it writes nothing and says so, in the log and in ``status``. What a registration says of
the ring its node holds changes with every ring, so before a founding all of them are read once more.
"""

import json
import logging
from dataclasses import dataclass, field
from typing import assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.election import Deposed, Elected
from ..runtime.message import message
from ..runtime.session import (
    Answered,
    ChildrenChanged,
    Connected,
    CreateNode,
    Lost,
    NodeChanged,
    ReadNode,
    SetNode,
    Subscribe,
    Suspended,
    WatchChildren,
    WatchNode,
)
from ..runtime.world import Timer
from .messages import Figures, ReportFigures, RunVerb, Suspected, VerbRun
from .rules import paths
from .rules.fields import RingError
from .rules.life import Registration
from .rules.placement import Place
from .rules.ring import Node, Ring
from .rules.transitions import downed, found, returned

log = logging.getLogger(__name__)

FIGURES_SECONDS_MAX = 1.0
"""How long ``status`` waits for the nodes' figures; those of a silent node are left empty."""

READ_AGAIN_SECONDS = 1.0
"""So long after a read that failed it is tried again; also when the connection to ZooKeeper is back."""

ABSENT_SECONDS_MIN = 0.5
"""Who is not registered for less than this is not taken for gone: a process whose loop stood still loses its session
and registers its life anew a moment later."""

LOOK_AGAIN_SECONDS_MIN = 0.01
"""Clocks and timers are not exact: a timer for less could fire before its time is up, again and again."""

UNTIL_IT_IS_BACK = "No ring is written until ZooKeeper has the newest one again."
"""What a ring that was lost or rolled back means, and what to do about it."""

VERBS_MAX = 64
"""Verbs in the works at once; more are refused."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Time has passed: a silent node may be a dead one, a read that failed may work; local. Ecs -> Ecs."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresDue:
    """Whoever has not sent its figures by now is left out; local. Ecs -> Ecs."""

    question: int


@dataclass(slots=True)
class StatusInTheWorks:
    """A ``RING STATUS`` whose figures are being gathered."""

    asked: RunVerb
    expected: set[str]
    figures: dict[str, Figures] = field(default_factory=dict)


class Ecs(Actor):
    """One control service, leading or standing by."""

    def __init__(
        self,
        *,
        id: str,
        cluster_name: str,
        watches: Ref,
        found_with: int,
        replicas: int = 1,
        min_copies: int = 2,
        place: Place = "even",
        patience_seconds: float = 6.0,
    ) -> None:
        super().__init__()
        self.id, self._cluster_name, self._watches = id, cluster_name, watches
        self._found_with, self._replicas, self._min_copies = found_with, replicas, min_copies
        self._place: Place = place
        self._patience_seconds = patience_seconds
        """So long after it began to lead, or was connected again, nobody is taken for gone: nodes, too, need time."""
        self._patient_until = 0.0
        self._leading = False
        self._connected = False
        self._ring: Ring | None = None
        """The newest ring that was read in this life; it never goes back to an older one."""
        self._version: int | None = None
        """Of that ring's znode; -1: there is none, as there never was; None: not read, or what was read is no ring to
        go on from."""
        self._names: dict[str, paths.RegistrationName] = {}
        self._names_known = False
        self._registrations: dict[str, Registration] = {}
        """What is registered under those names, as it was when it was read."""
        self._reading: set[str] = set()
        self._read_afresh = False
        """All registrations have been read, or are being read, for the founding that the last look called for."""
        self._absent_since: dict[tuple[str, str], float] = {}
        """Since when which lives that the ring calls up are not registered."""
        self._look_due: tuple[float, Timer] | None = None
        self._writing = False
        self._trouble = ""
        self._refused: dict[str, str] = {}
        self._suspicions: dict[tuple[str, str], dict[str, float]] = {}
        self._statuses: dict[int, StatusInTheWorks] = {}
        self._next_question = 0

    def on_start(self) -> None:
        self.send(self._watches, Subscribe(reply_to=self.ref))
        self.send(self._watches, WatchNode(path=paths.ring(self._cluster_name), reply_to=self.ref))
        self.send(self._watches, WatchChildren(path=paths.nodes(self._cluster_name), reply_to=self.ref))

    def on_receive(
        self,
        message: Elected
        | Deposed
        | Connected
        | Suspended
        | Lost
        | NodeChanged
        | ChildrenChanged
        | Answered
        | RunVerb
        | Figures
        | Suspected
        | LookAgain
        | FiguresDue,
    ) -> None:
        match message:
            case Elected():
                self._elected(message)
            case Deposed():
                self._deposed()
            case Connected():
                self._connect()
            case Suspended() | Lost():
                self._disconnect()
            case NodeChanged():
                self._ring_read(message.data, message.version)
            case ChildrenChanged():
                self._names_changed(message.names)
            case Answered():
                self._answered(message)
            case RunVerb():
                self._run_verb(message)
            case Figures():
                self._figures(message)
            case Suspected():
                self._suspected(message)
            case LookAgain():
                self._look_due = None
                self._read_again()
            case FiguresDue():
                self._report_status(message.question)
            case _:
                assert_never(message)

    # Leading

    def _elected(self, message: Elected) -> None:
        self._leading = True
        self._patient_until = self.now() + self._patience_seconds
        log.info("%s leads in term %d", self.id, message.term)
        self.send(self._watches, self._read_ring())
        self._look()

    def _deposed(self) -> None:
        self._leading = False
        log.info("%s stands by", self.id)

    # What ZooKeeper says

    def _connect(self) -> None:
        self._connected = True
        self._patient_until = self.now() + self._patience_seconds
        self.send(self._watches, WatchChildren(path=paths.nodes(self._cluster_name), reply_to=self.ref))
        self._read_again()

    def _disconnect(self) -> None:
        """The ring may be another by now, and others may be registered: forget what would be decided by."""
        self._connected = self._names_known = self._read_afresh = False
        self._version = None
        self._absent_since.clear()

    def _read_ring(self) -> ReadNode:
        return ReadNode(request="read ring", path=paths.ring(self._cluster_name), reply_to=self.ref)

    def _read_again(self) -> None:
        """Ask for what is not known because reading it failed, then look."""
        if not self._connected:
            return  # Connected will come here again
        if self._version is None and not self._writing:
            self.send(self._watches, self._read_ring())
        self._read_registrations()
        self._look()

    def _ring_read(self, data: bytes | None, version: int) -> None:
        self._version = None
        if data is None and self._ring is not None:
            self._be_in_trouble(
                f"ring lost: there is no ring, but {self._ring.stamp} was read before. {UNTIL_IT_IS_BACK}"
            )
            return
        if data is not None:
            try:
                ring = Ring.from_json(data)
            except RingError as error:
                self._be_in_trouble(f"the ring in ZooKeeper cannot be read: {error}")
                return
            if self._ring is not None and (objection := ring.objection(self._ring.stamp)):
                self._be_in_trouble(f"{objection} (read before by this ECS). {UNTIL_IT_IS_BACK}")
                return
            if self._ring is None or ring.stamp != self._ring.stamp:
                log.info("ring %d is read: %s", ring.epoch, _last_write(ring))
                self._forget_suspicions(self._ring, ring)
            self._ring = ring
        self._version = version if data is not None else -1
        self._look()

    def _names_changed(self, names: tuple[str, ...]) -> None:
        parsed = {name: paths.RegistrationName.parse(name) for name in names}
        self._names = {name: content for name, content in parsed.items() if content is not None}
        self._names_known = True
        self._registrations = {name: r for name, r in self._registrations.items() if name in self._names}
        ids = {content.id for content in self._names.values()}
        self._refused = {id: why for id, why in self._refused.items() if id in ids}
        for life in self._registered():
            self._absent_since.pop(life, None)
        self._read_registrations()
        self._look()

    def _read_registrations(self) -> None:
        for name in sorted(self._names.keys() - self._registrations.keys() - self._reading):
            self._reading.add(name)
            path = f"{paths.nodes(self._cluster_name)}/{name}"
            self.send(self._watches, ReadNode(request=name, path=path, reply_to=self.ref))

    def _answered(self, message: Answered) -> None:
        match message.request:
            case "read ring":
                if message.error in ("", "no_node"):
                    self._ring_read(message.data if not message.error else None, message.version)
                else:
                    self._look_in(READ_AGAIN_SECONDS)
            case "write ring":
                self._writing = False
                if message.error:
                    log.warning("the ring was not written for certain (%s): it is read again", message.error)
                self._version = None  # what is there now is decided by what is read
                self.send(self._watches, self._read_ring())
            case name:
                self._registration_read(name, message)
                self._look()

    def _registration_read(self, name: str, message: Answered) -> None:
        self._reading.discard(name)
        if name not in self._names:
            return
        if message.error in ("connection_loss", "session_lost"):
            self._look_in(READ_AGAIN_SECONDS)
            return
        if message.error == "no_node":
            del self._names[name]
            return
        try:
            if message.error or message.data is None:
                raise RingError(f"ZooKeeper says {message.error or 'nothing'}")
            registration = Registration.from_json(message.data)
        except RingError as error:
            self._refuse(self._names[name].id, f"its registration cannot be read: {error}")
            return
        if registration.id != self._names[name].id or registration.incarnation != self._names[name].incarnation:
            self._refuse(self._names[name].id, "its registration says another id or incarnation than its name")
            return
        self._registrations[name] = registration

    def _refuse(self, id: str, why: str) -> None:
        if self._refused.get(id) != why:
            self._refused[id] = why
            log.warning("%s is not taken into the ring: %s", id, why)

    # Looking

    def _look(self) -> None:
        """Write the ring that the facts call for, if it is not the one that is there."""
        if not self._leading or not self._connected or self._writing:
            return
        if self._version is None or not self._names_known or self._reading:
            return  # not all facts are known; each of them will make it look again
        if self._ring is not None and not self._is_sound(self._ring):
            return
        try:
            following = self._found() if self._ring is None else self._following(self._ring)
        except RingError as error:
            self._be_in_trouble(str(error))
            return
        self._be_in_trouble("")
        if following is not None:
            self._write(following)

    def _look_in(self, seconds: float) -> None:
        """Look again, by the one timer there is: at what is due first. Each look arms it for what is still to come."""
        due = self.now() + max(seconds, LOOK_AGAIN_SECONDS_MIN)
        if self._look_due is not None:
            if self._look_due[0] <= due:
                return
            self._look_due[1].cancel()
        self._look_due = due, self.after(due - self.now(), LookAgain())

    def _is_sound(self, ring: Ring) -> bool:
        """Whether every ring that a node of this cluster holds leads to this one (R23)."""
        for _, registration in sorted(self._registrations.items()):
            held = registration.held
            ours = registration.id in ring.by_id or (held is not None and held.cluster_id == ring.cluster_id)
            if ours and held is not None and (objection := ring.objection(held)):
                self._be_in_trouble(
                    f"{objection} (held by {registration.id}). {UNTIL_IT_IS_BACK} If it is the folder of "
                    f"{registration.id} that does not belong here, stop that node."
                )
                return False
        return True

    def _found(self) -> Ring | None:
        afresh, self._read_afresh = self._read_afresh, False
        lives = self._newest_lives()
        holders = [each for each in self._registrations.values() if each.held is not None]
        if len(lives) < self._found_with and not holders:
            return None
        missing = sorted({self._names[name].id for name in self._names.keys() - self._registrations.keys()})
        if missing and not holders:
            raise RingError(f"no ring is founded before it is known what {', '.join(missing)} has registered")
        if not holders and not afresh:  # one who has taken a ring since says so by now, in the same registration
            self._read_afresh = True
            self._registrations.clear()
            self._read_registrations()
            return None
        return found(
            holders or lives.values(),
            cluster_id=self._random_id(),
            cluster_name=self._cluster_name,
            nonce=self._random_id(),
            wall_seconds=self.wall(),
            replicas=self._replicas,
            min_copies=self._min_copies,
            how=self._place,
            why=f"{len(lives)} nodes registered",
        )

    def _following(self, ring: Ring) -> Ring | None:
        back = self._back(ring)
        if back:
            return returned(ring, back, nonce=self._random_id(), wall_seconds=self.wall())
        gone = self._gone(ring)
        if gone:
            why = "no longer registered in ZooKeeper"
            return downed(ring, gone, why=why, nonce=self._random_id(), wall_seconds=self.wall())
        return None

    def _newest_lives(self) -> dict[str, Registration]:
        """Per node its latest registered life. What a dead process has left stands there until its session ends; the
        incarnations of one data directory ascend, so the latest is known."""
        lives: dict[str, Registration] = {}
        for registration in self._registrations.values():
            other = lives.get(registration.id)
            if other is None or registration.incarnation > other.incarnation:
                lives[registration.id] = registration
        return lives

    def _back(self, ring: Ring) -> list[Registration]:
        """The new lives of nodes of the ring that it can take up again; why not is noted for the others."""
        back = []
        unread = {self._names[name].id for name in self._names.keys() - self._registrations.keys()}
        for id, life in sorted(self._newest_lives().items()):
            node = ring.by_id.get(id)
            if node is None:
                self._refuse(id, "it is not in the ring, and nodes cannot join a ring yet")
            elif life.data_id != node.data_id or life.incarnation > node.incarnation:
                try:
                    returned(ring, [life], nonce=self._random_id(), wall_seconds=self.wall())
                except RingError as error:
                    self._refuse(id, str(error))
                else:
                    self._refused.pop(id, None)
                    back.append(life)
            elif life.incarnation < node.incarnation:
                self._refuse(
                    id,
                    f"it is registered as {life.incarnation}, a life before {node.incarnation}, which the ring names. "
                    "If that does not pass with the session of a process that has died, its data directory is an older "
                    "copy (a backup) and lacks what was acknowledged since: start it on its newest data.",
                )
            elif id not in unread:
                self._refused.pop(id, None)
        return back

    def _registered(self) -> set[tuple[str, str]]:
        """The lives (id, incarnation) that are registered. The names alone say it: a registration that cannot be read
        is no sign of death."""
        return {(name.id, name.incarnation) for name in self._names.values()}

    def _gone(self, ring: Ring) -> dict[str, str]:
        """Nodes that the ring calls up and that have not been registered for long enough (id -> incarnation)."""
        now = self.now()
        absent = {(node.id, node.incarnation) for node in ring.circle if node.state == "up"} - self._registered()
        self._absent_since = {life: self._absent_since.get(life, now) for life in sorted(absent)}
        due = {life: max(since + ABSENT_SECONDS_MIN, self._patient_until) for life, since in self._absent_since.items()}
        still = [moment for moment in due.values() if moment > now]
        if still:
            self._look_in(min(still) - now)
        return dict(life for life, moment in due.items() if moment <= now)

    def _write(self, ring: Ring) -> None:
        assert self._version is not None
        self._writing = True
        log.info("ring %d is written: %s", ring.epoch, _last_write(ring))
        path, content = paths.ring(self._cluster_name), ring.to_json()
        if self._version < 0:
            self.send(self._watches, CreateNode(request="write ring", path=path, data=content, reply_to=self.ref))
        else:
            write = SetNode(request="write ring", path=path, data=content, version=self._version, reply_to=self.ref)
            self.send(self._watches, write)

    def _be_in_trouble(self, what: str) -> None:
        if what and what != self._trouble:
            log.error("%s writes no ring: %s", self.id, what)
        self._trouble = what

    def _random_id(self) -> str:
        return f"{self.random.getrandbits(64):016x}"

    # Verbs

    def _run_verb(self, message: RunVerb) -> None:
        match message.verb:
            case _ if not self._leading:
                self._answer(message, error=f"TRYAGAIN the ECS at {self.id} does not lead")
            case "STATUS" if len(self._statuses) < VERBS_MAX:
                self._gather_status(message)
            case "STATUS":
                self._answer(message, error=f"TRYAGAIN {VERBS_MAX} questions are in the works; ask again")
            case _:
                self._answer(message, error=f"ERR unknown verb {message.verb!r}; this release knows STATUS")

    def _answer(self, message: RunVerb, text: str = "", error: str = "") -> None:
        self.send(message.reply_to, VerbRun(question=message.question, text=text, error=error))

    def _gather_status(self, message: RunVerb) -> None:
        self._next_question += 1
        question = self._next_question
        up = [node for node in self._ring.circle if node.state == "up"] if self._ring is not None else []
        self._statuses[question] = StatusInTheWorks(message, {node.id for node in up})
        for node in up:
            storage = self.system.resolve(f"ringkeeper://{node.bridge_address}/storage")
            self.send(storage, ReportFigures(question=question, reply_to=self.ref))
        self.after(FIGURES_SECONDS_MAX, FiguresDue(question=question))
        if not up:
            self._report_status(question)

    def _figures(self, message: Figures) -> None:
        status = self._statuses.get(message.question)
        node = self._ring.by_id.get(message.node) if self._ring is not None else None
        if status is not None and node is not None and node.incarnation == message.incarnation:
            status.figures[message.node] = message
            if status.figures.keys() >= status.expected:
                self._report_status(message.question)

    def _report_status(self, question: int) -> None:
        status = self._statuses.pop(question, None)
        if status is not None:
            self._answer(status.asked, json.dumps(self._status(status.figures), sort_keys=True))

    def _status(self, figures: dict[str, Figures]) -> dict[str, object]:
        ring = self._ring
        nodes = [self._node_status(ring, node, figures.get(node.id)) for node in ring.nodes] if ring is not None else []
        known = {node.id for node in ring.nodes} if ring is not None else set()
        waiting = {r.id for r in self._registrations.values()} - known
        return {
            "cluster": self._cluster_name,
            "epoch": ring.epoch if ring is not None else 0,
            "leader": self.id if self._leading else None,
            "serving": ring is not None and ring.serving and all(ring.coordinators),
            "replicas": ring.replicas if ring is not None else self._replicas,
            "change": None,
            "trouble": self._trouble or None,
            "refused": dict(sorted(self._refused.items())),
            "waiting": sorted(waiting),
            "nodes": nodes,
            "history": [
                {"epoch": write.epoch, "what": write.what, "why": write.why, "wall_seconds": write.wall_seconds}
                for write in (ring.history if ring is not None else ())
            ],
        }

    def _node_status(self, ring: Ring, node: Node, figures: Figures | None) -> dict[str, object]:
        return {
            "id": node.id,
            "state": node.state,
            "token": f"{node.token:032x}",
            "slots": sum(run.size for run in ring.coordinated_by(node.id)),
            "share": ring.share(node.id),
            "incarnation": node.incarnation,
            "address": node.address,
            "bridge": node.bridge_address,
            "reachable": figures is not None,
            "keys": figures.keys if figures is not None else None,
            "bytes": figures.bytes if figures is not None else None,
            "pid": figures.pid if figures is not None else None,
            "epoch": figures.epoch if figures is not None else None,
            "suspected_by": sorted(self._suspicions.get((node.id, node.incarnation), {})),
        }

    # Suspicions: for people so far; nobody is taken down by them

    def _suspected(self, message: Suspected) -> None:
        life = self._ring.by_id.get(message.node) if self._ring is not None else None
        if life is None or life.incarnation != message.incarnation:
            log.debug("%s suspects a life of %s that is past", message.by, message.node)
            return
        by = self._suspicions.setdefault((message.node, message.incarnation), {})
        if message.silent_seconds is None:
            by.pop(message.by, None)
        elif message.by not in by:
            by[message.by] = message.silent_seconds
            log.warning("%s has not heard %s for %.1f s", message.by, message.node, message.silent_seconds)
        if not by:
            del self._suspicions[message.node, message.incarnation]

    def _forget_suspicions(self, before: Ring | None, ring: Ring) -> None:
        """Only lives of this ring are suspected, and only by nodes that are up in the life they were: a new one begins
        without suspicions, and takes none of the former's back."""
        lives = {(node.id, node.incarnation) for node in ring.circle}
        up = {(node.id, node.incarnation) for node in ring.circle if node.state == "up"}
        same = {node.id for node in before.circle if (node.id, node.incarnation) in up} if before is not None else set()
        suspicions = {
            life: {by: seconds for by, seconds in reports.items() if by in same}
            for life, reports in self._suspicions.items()
            if life in lives
        }
        self._suspicions = {life: reports for life, reports in suspicions.items() if reports}

    def check(self) -> None:
        assert self._registrations.keys() <= self._names.keys()
        assert self._connected or (self._version is None and not self._names_known and not self._absent_since)
        assert all(self._suspicions.values())


def _last_write(ring: Ring) -> str:
    return f"{ring.history[-1].what} ({ring.history[-1].why})" if ring.history else "no history"
