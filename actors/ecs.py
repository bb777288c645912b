"""The control service: founds the ring, and is the only writer of it.

Hears   Elected, Deposed                                       from Election
        Connected, Suspended, Lost, NodeChanged,
        ChildrenChanged, Answered                              from Watches
        RunVerb                                                from Gateway of any node
        Figures, ChangeReported                                from StorageNode of every node
        HeldStamp, HeldRing                                    from Member of every node
        NodesStarted, NodeRestarted                            from a Launcher
        Suspected, PeersHeard                                  from FailureDetector of any node
        BalancePlanned, LoadsGathered, BalanceWanted           from Balancer
        CopyDamaged                                            from Scrubber of any node
        LookAgain, AnswersDue                                  from itself
Tells   WatchNode, WatchChildren, ReadNode, SetNode, CreateNode -> Watches; ReportFigures -> StorageNode;
        WhichRing, ShowHeldRing -> Member; StartNodes, RestartNode -> Launcher; VerbRun -> Gateway;
        PlanBalance, GatherLoads, RingLed -> Balancer

Any number of these run; one leads. Facts arrive in any order and say how things are; after each of them the leader
*looks*: at the ring as it is in ZooKeeper and at who is registered, and if these two call for another ring it writes
the next one by compare-and-set. One write is on its way at a time, and after one of unknown outcome the ring is read
again; nothing is ever decided from memory of what was written before. What was known before the connection broke is
not known any more: no look before the ring and the names of the registered have both been read again.

    standing by --Elected--> leading (looks after every fact) --Deposed--> standing by

What a look may write, the first that applies:

    found      there is no ring, and enough nodes have registered
    returned   nodes of the ring have registered another life: returning, by one write, or up where they hold the only
               copy. A life that the ring calls up ends with that at once (R3); who is down waits for the change in
               flight (R8), unless slots wait for it that nobody answers for, or writes do
    downed     nodes of the ring have not been registered for a while, and this ECS has led, and been connected, long
               enough for everybody to have come back; or their peers say that they have ended, or are silent
               (R22, ``rules/suspicion.py``): all of them in one write. One whose copy is damaged, if others answer for
               its lists then (R25)
    kept       lists that nobody answers for, and of which a complete member is returning, have it as keeper (R15);
               after a power cut more of them are waited for, and asked how much they hold (R16, ``recovery.py``)
    an order   what somebody asked for by a verb (``ecs_verbs.py``), but not in the midst of a seal
    put back   the change in flight, while it transfers and lists refuse writes for want of somebody who is returning
               and not raised by it; or who is, and would wait for others that lack more (R8, R15)
    a step     of the change in flight: all coordinators have reached the end of its phase, so the next one, or the
               commit (R11); or a node that joins is gone, or a phase lasts too long, so the change is given up (R12)
    begun      no change is in flight: all nodes that are returning are to be up, else those that have been down for too
               long are to go out, by one change (R11), else the first wish of the queue that can be fulfilled, else
               nodes that have registered and are not in the ring, all that there are, by one change

How long a node has been down is counted from when this leader, connected as it is now, saw it so first: who leads anew,
and who has ZooKeeper back, begins to count anew. A node that registers while it is being given up is returning at once,
and what is planned then is planned with it (R8).

A change needs nothing but the ring: the coordinators report to whoever leads how far they are in the ring of which
epoch, again and again, so a new leader goes on from the phase that it reads.

It does not lead where it would disown data. *Ring lost or rolled back* is: no ring, or one that does not descend from
the newest that this ECS has read in its life; no ring, but a node that holds one; a ring from which what a node holds
does not descend (R23). Then it writes nothing and says so, in the log and in ``status``, until somebody asks for
``RING RESTORE`` (``restoring.py``). What a registration says of the ring its node holds changes with every ring, so
before a founding, and before the first write of a leader, all of them are read once more; that leader also asks the
nodes themselves which ring they hold, and waits a second for those that do not answer.
"""

import logging
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.election import Deposed, Elected
from ..runtime.message import message
from ..runtime.metrics import Metric, gauge
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
from .config import BRIDGE_PORT_OFFSET
from .ecs_verbs import LAUNCHER, Order, Verbs
from .job_view import lists_in_trouble
from .launcher import NodeRestarted, NodesStarted
from .messages import (
    BalancePlanned,
    BalanceWanted,
    ChangeReported,
    CopyDamaged,
    Figures,
    HandoffProgress,
    HeldRing,
    HeldStamp,
    LoadsGathered,
    PeersHeard,
    RingLed,
    RunVerb,
    Suspected,
    VerbRun,
    WhichRing,
)
from .restoring import HELD_SECONDS_MAX, Restoring
from .rules import paths
from .rules.balancing import balancing_to_json
from .rules.change import Wish
from .rules.fields import MovedOn, RingError
from .rules.life import Registration, Stamp
from .rules.placement import Place
from .rules.plan import Plan
from .rules.rebalance import Loads, placed
from .rules.recovery import Recovery, recovery
from .rules.ring import Acks, Node, Ring
from .rules.ring_news import jobs, states, writes
from .rules.scrub import may_go
from .rules.slots import Run
from .rules.suspicion import Suspicions
from .rules.transitions import (
    advanced,
    awaited,
    begun,
    committed,
    downed,
    few_are_up,
    found,
    given_up,
    giving_up,
    kept,
    planned,
    put_back,
    raisable,
    returned,
    returning,
    short_of,
)

log = logging.getLogger(__name__)

JOIN_SETTLE_SECONDS = 1.0
"""So long after a node has registered it is taken in: others that were started with it come by the same change."""

JOIN_SECONDS_MAX = 60.0
"""So long nodes that were started for a job have to register; then it goes on with those that have."""

PHASE_SECONDS_MAX = {"switch": 3.0, "seal": 5.0}
"""What lasts longer is given up, since writes wait for it: in a switch they would soon be in doubt (R12)."""

STUCK_SECONDS_MAX = 30.0
"""A transfer in which no key passes for so long is given up, so that others have their turn; but for what the limit of
bytes per second makes it wait."""

APART_SECONDS = 2.0
"""Of several that are returning those that have caught up wait for the others so long, where writes wait for them."""

TRY_AGAIN_SECONDS, TRY_AGAIN_SECONDS_MAX = 2.0, 60.0
"""So long after it failed a join is tried again by itself, doubled with every failure up to that."""

GONE_TOGETHER_SECONDS = 5.0
"""Who went so soon after another is given up together with it: each change moves slots anew."""

STEADY_SECONDS = 60.0
"""Who has been up for so long is steady: that it died before is forgotten."""

RAISE_AGAIN_SECONDS, RAISE_AGAIN_SECONDS_MAX = 1.0, 30.0
"""Who was not is raised no sooner than so long after its death, doubled with every further one up to that (R8)."""

READ_AGAIN_SECONDS = 1.0
"""So long after a read that failed it is tried again; also when the connection to ZooKeeper is back."""

ABSENT_SECONDS_MIN = 0.5
"""Who is not registered for less than this is not taken for gone: a process whose loop stood still loses its session
and registers its life anew a moment later."""

FIRST_QUESTION = 1 << 40
"""Questions about who holds which ring are numbered from here, those of the verbs from 1."""

LOOK_AGAIN_SECONDS_MIN = 0.01
"""Clocks and timers are not exact: a timer for less could fire before its time is up, again and again."""

UNTIL_IT_IS_BACK = (
    "No ring is written until ZooKeeper has the newest one again: put its disk back, or have `ringkeeper ring restore` "
    "write what the nodes hold."
)
"""What a ring that was lost or rolled back means, and what to do about it."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Time has passed: a silent node may be a dead one, a read that failed may work; local. Ecs -> Ecs."""


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersDue:
    """Whoever has not answered by now is left out; local. Ecs -> Ecs."""

    question: int


class Stored(NamedTuple):
    """What is in ZooKeeper, whether this ECS goes on from it or not."""

    ring: Ring | None
    """None: nothing, or nothing that can be read."""
    version: int
    """-1: there is no znode."""


class Ecs(Actor):
    """One control service, leading or standing by."""

    def __init__(
        self,
        *,
        id: str,
        cluster_name: str,
        watches: Ref,
        balancer: Ref,
        found_with: int,
        replicas: int = 1,
        min_copies: int = 2,
        place: Place = "even",
        acks: Acks = "all",
        recovery_wait_seconds: float = 60.0,
        out_after_seconds: float = 30.0,
        patience_seconds: float = 6.0,
        node_command: str = "ringkeeper node --port PORT --data FOLDER",
    ) -> None:
        super().__init__()
        self.id, self._cluster_name, self._watches = id, cluster_name, watches
        self._found_with, self._replicas, self._min_copies = found_with, replicas, min_copies
        self._place: Place = place
        self._acks: Acks = acks
        self._recovery_wait_seconds = recovery_wait_seconds
        """So long after a power cut the complete members of a list are waited for, once one of them is back (R16)."""
        self._out_after_seconds = out_after_seconds
        """Who has been down for so long is given up; 0: nobody is."""
        self._patience_seconds = patience_seconds
        """So long after it began to lead, or was connected again, nobody is taken for gone: nodes, too, need time."""
        self._patient_until = 0.0
        self._leading = False
        self._connected = False
        self._away_since = 0.0
        self._has_lock = False
        self.ring: Ring | None = None
        """The newest ring that was read in this life; it never goes back to an older one."""
        self._version: int | None = None
        """Of that ring's znode; -1: there is none, as there never was; None: not read, or what was read is no ring to
        go on from."""
        self.stored: Stored | None = None
        """As it was read last; None: it is not known."""
        self._restored: Callable[[str], None] | None = None
        """Whom to tell what became of the write under way, if that writes a lost ring back."""
        self._names: dict[str, paths.RegistrationName] = {}
        self._names_known = False
        self._registrations: dict[str, Registration] = {}
        """What is registered under those names, as it was when it was read."""
        self._reading: set[str] = set()
        self._read_afresh = False
        """All registrations have been read, or are being read, for the founding that the last look called for."""
        self._verified = False
        """Since this ECS leads, or was connected, it has wanted to write, and so has asked who holds which ring."""
        self._verification: tuple[int, set[str]] | None = None
        """The question under way, and the nodes that have not answered it."""
        self._questions = FIRST_QUESTION
        self._said: dict[tuple[str, str], Stamp] = {}
        """What they have answered, by id and incarnation."""
        self._absent_since: dict[tuple[str, str], float] = {}
        """Since when which lives that the ring calls up or returning are not registered."""
        self._look_due: tuple[float, Timer] | None = None
        self._writing = False
        self._being_written: Ring | None = None
        self._trouble = ""
        self._refused: dict[str, str] = {}
        self._suspicions = Suspicions()
        self._damaged: dict[str, tuple[CopyDamaged, set[tuple[str, str]]]] = {}
        """By node what it has said of its copy, in the life that the ring names, and which lives were heard since."""
        self._phi: dict[str, dict[str, float]] = {}
        """By node, how sure it is of each other one's silence, as it has said last."""
        self._balancer, self._balances = balancer, False
        self._loads: tuple[int, Loads | None] = 0, None
        """Where nodes that join are placed by load: what slots weigh in the ring of this epoch; None: it is asked."""
        self.verbs = Verbs(self, cluster_name, watches, balancer, node_command)
        self.restoring = Restoring(self, self._restore)
        self.waiting_because: dict[int, str] = {}
        """Why a job of the queue cannot begin, as the last look found."""
        self._carried_out: list[tuple[Order, Ring]] = []
        """Orders whose write is confirmed, and not yet read."""
        self._order: Order | None = None
        """The one that the write under way carries out."""
        self._reports: dict[str, ChangeReported] = {}
        """By node, its last report on the change in flight."""
        self._plan: tuple[int, Plan] | None = None
        """Of the change that began in this epoch."""
        self._phase_since: tuple[tuple[int, str], float] | None = None
        self._progressed: tuple[int, float] | None = None
        """How many keys the walks of the transfer had passed, and since when."""
        self._seen_since: dict[tuple[str, str], float] = {}
        """Since when which lives that are not in the ring are registered."""
        self._doubled_since: dict[str, float] = {}
        """Since when processes on several data directories are registered by the name of a node."""
        self._wished_since: dict[int, float] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        """By node that was not taken in or raised: how often that failed, and when it may be tried again."""
        self._ahead: set[tuple[str, str]] = set()
        """The lives that are raised before others that are returning as well, since they had caught up first."""
        self._recovering_since: dict[Run, float] = {}
        """Since when a complete member is back, of the lists that have no keeper yet."""
        self._highest: dict[tuple[Run, str], tuple[int, int] | None] = {}
        """What their complete members said of their numbers, by slots and incarnation (``recovery.Highest``)."""
        self._asking_numbers = False
        self._down_since: dict[tuple[str, str], float] = {}
        """Since when this leader has seen which lives down, while at least half of the nodes are up."""
        self._few_were_up = False
        self._not_given_up = ""
        """Why those that have been down for too long are not given up now."""
        self._up_since: dict[str, float] = {}
        self._deaths: dict[str, tuple[int, float]] = {}
        """By node: how often it died without having been steady since, and when it may be raised again (R8)."""

    def on_start(self) -> None:
        self.send(self._watches, Subscribe(reply_to=self.ref))
        self.send(self._watches, WatchNode(path=paths.ring(self._cluster_name), reply_to=self.ref))
        self.send(self._watches, WatchChildren(path=paths.nodes(self._cluster_name), reply_to=self.ref))
        self.verbs.on_start()

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
        | ChangeReported
        | HeldStamp
        | HeldRing
        | NodesStarted
        | NodeRestarted
        | Suspected
        | PeersHeard
        | CopyDamaged
        | BalancePlanned
        | LoadsGathered
        | BalanceWanted
        | LookAgain
        | AnswersDue,
    ) -> None:
        match message:
            case Elected():
                self._elected(message)
            case Deposed():
                self._deposed()
            case Connected():
                self._connect()
            case Suspended():
                self._disconnect()
            case Lost():
                self._has_lock = False
                self._disconnect()
            case NodeChanged():
                self._ring_read(message.data, message.version)
            case ChildrenChanged() if message.path == paths.nodes(self._cluster_name):
                self._names_changed(message.names)
            case ChildrenChanged():
                self.verbs.launchers_changed(message)
            case Answered():
                self._answered(message)
            case RunVerb() if not self._leading:
                refused = f"TRYAGAIN the ECS at {self.id} does not lead"
                self.send(message.reply_to, VerbRun(question=message.question, error=refused))
            case RunVerb():
                self.verbs.run(message)
            case Figures():
                self.verbs.figures(message)
            case ChangeReported():
                self._change_reported(message)
            case HeldStamp():
                self._held_said(message)
            case HeldRing():
                self.restoring.heard(message)
            case NodesStarted() | NodeRestarted():
                self.verbs.launcher_answered(message)
                self.look()
            case Suspected():
                self._suspected(message)
            case PeersHeard():
                self._phi |= {message.by: dict(message.phi)} if message.by in self._phi else {}
                self._heard_of((message.by, message.by_incarnation))
            case CopyDamaged():
                if message.node not in self._damaged:
                    self._damaged[message.node] = message, set()
                    self.look()
            case BalancePlanned():
                self.verbs.balance_planned(message)
            case LoadsGathered():
                self.verbs.loads_gathered(message)
            case BalanceWanted():
                self.verbs.balance_wanted(message)
            case LookAgain():
                self._look_due = None
                self._read_again()
            case AnswersDue():
                self.verbs.overdue(message.question)
                self.restoring.overdue(message.question)
                if self._verification is not None and self._verification[0] == message.question:
                    self._verification = None  # who is silent may be dead
                self.look()
            case _:
                assert_never(message)

    # Leading

    def _elected(self, message: Elected) -> None:
        self._leading = True
        self._verified, self._verification = False, None
        self._said.clear()
        self._down_since.clear()
        self._patient_until = self.now() + self._patience_seconds
        self.note("leader", f"{self.id} leads in term {message.term}", log=log.info, term=message.term)
        self._lead_balancer()
        self.send(self._watches, self._read_ring())
        self._take_lock()
        self.look()

    def _deposed(self) -> None:
        self._leading = False
        self._phase_since = None
        self._reports.clear()
        self._wished_since.clear()
        self._lead_balancer()
        self.verbs.give_up_orders(f"TRYAGAIN the ECS at {self.id} does not lead any more; nothing was changed")
        self.note("leader", f"{self.id} stands by", log=log.info)

    def _lead_balancer(self) -> None:
        """Tell the balancer of the ring, if it is to keep that in balance, or that it is no longer."""
        ring = self.ring if self._leading and self.ring is not None and self.ring.balancing.auto else None
        if ring is not None or self._balances:
            self._balances = ring is not None
            self.send(self._balancer, RingLed(ring=ring, reply_to=self.ref))

    def _take_lock(self) -> None:
        """Say in ZooKeeper who writes the ring, as long as this session lives. It is for people and tools: what decides
        is the compare-and-set."""
        lock = paths.lock(self._cluster_name)
        create = CreateNode(request="take lock", path=lock, data=self.id.encode(), ephemeral=True, reply_to=self.ref)
        self.send(self._watches, create)

    # What ZooKeeper says

    def _connect(self) -> None:
        self._connected = True
        self._patient_until = self.now() + self._patience_seconds
        self._suspicions.excuse_streams(self._away_since, self._patient_until)
        self.send(self._watches, WatchChildren(path=paths.nodes(self._cluster_name), reply_to=self.ref))
        self._read_again()

    def _disconnect(self) -> None:
        """The ring may be another by now, and others may be registered: forget what would be decided by."""
        if self._connected:
            self._away_since = self.now()
        self._connected = self._names_known = self._read_afresh = self._verified = False
        self._version = self.stored = self._verification = None
        self._absent_since.clear()
        self._down_since.clear()
        self._phase_since = self._progressed = None

    def _read_ring(self) -> ReadNode:
        return ReadNode(request="read ring", path=paths.ring(self._cluster_name), reply_to=self.ref)

    def _read_again(self) -> None:
        """Ask for what is not known because reading it failed, then look."""
        if not self._connected:
            return  # Connected will come here again
        if self._leading and not self._has_lock:
            self._take_lock()
        if self._version is None and not self._writing:
            self.send(self._watches, self._read_ring())
        self._read_registrations()
        self.look()

    def _ring_read(self, data: bytes | None, version: int) -> None:
        self._version = None
        self.stored = Stored(None, version if data is not None else -1)
        if data is None and self.ring is not None:
            self._be_in_trouble(
                f"ring lost: there is no ring, but {self.ring.stamp} was read before. {UNTIL_IT_IS_BACK}"
            )
            return
        if data is not None:
            try:
                ring = Ring.from_json(data)
            except RingError as error:
                self._be_in_trouble(f"the ring in ZooKeeper cannot be read: {error}")
                return
            self.stored = Stored(ring, version)
            if self.ring is not None and (objection := ring.objection(self.ring.stamp)):
                self._be_in_trouble(f"{objection} (read before by this ECS). {UNTIL_IT_IS_BACK}")
                return
            if self.ring is None or ring.stamp != self.ring.stamp:
                log.info("ring %d is read: %s", ring.epoch, _last_write(ring))
                self._note_news(self.ring, ring)
                self._suspicions.obey(ring)
                self._phi = {node.id: self._phi.get(node.id, {}) for node in ring.circle if node.state == "up"}
                self._note_deaths(self.ring, ring)
                self._note_cancelled(self.ring, ring)
            self.ring = ring
            self._lead_balancer()
            carried_out, self._carried_out = self._carried_out, []
            for order, written in carried_out:  # only now: whoever asks what became of it is answered from this ring
                order.written(written)
        self._version = version if data is not None else -1
        self.look()

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
        self.look()

    def _read_registrations(self, *, again: bool = False) -> None:
        known = set() if again else self._registrations.keys()
        for name in sorted(self._names.keys() - known - self._reading):
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
                self._written(message.error)
            case "take lock":
                self._has_lock = not message.error
                if message.error == "node_exists":  # that of a leader before this one, whose session has not ended
                    self._look_in(READ_AGAIN_SECONDS)
            case name if name.startswith(LAUNCHER):
                self.verbs.launcher_read(name.removeprefix(LAUNCHER), message)
            case name:
                self._registration_read(name, message)
                self.look()

    def _registration_read(self, name: str, message: Answered) -> None:
        self._reading.discard(name)
        if name not in self._names:
            return
        if message.error in ("connection_loss", "session_lost"):
            self._look_in(READ_AGAIN_SECONDS)
            return
        if message.error == "no_node":
            del self._names[name]
            self._registrations.pop(name, None)
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
            self.note("trouble", f"{id} is not taken into the ring: {why}", log=log.warning, node=id)

    # Looking

    def look(self) -> None:
        """Write the ring that the facts call for, if it is not the one that is there."""
        self.verbs.expire_orders(self.now())
        if not self._leading or not self._connected or self._writing:
            return
        if self._version is None or not self._names_known or self._reading:
            return  # not all facts are known; each of them will make it look again
        if self.ring is not None and not (self._is_sound(self.ring) and self._is_verified()):
            return
        self._order = None
        try:
            following = self._found() if self.ring is None else self._following(self.ring)
        except RingError as error:
            self._be_in_trouble(str(error))
            return
        self._be_in_trouble("")
        if following is not None:
            self._write(following)

    def _is_verified(self) -> bool:
        """Whether it is known that nobody holds a newer ring; else all are asked, at once: a death is not to wait for
        it. After ZooKeeper was given an old disk registrations are as old as the ring, until their nodes have read that
        (R23)."""
        if not self._verified:
            self._verified = True
            self._read_registrations(again=True)
            lives = self.newest_lives()
            self._questions += 1
            self._verification = (self._questions, set(lives)) if lives else None
            for life in lives.values():
                member = self.system.resolve(f"ringkeeper://{life.bridge_address}/member")
                self.send(member, WhichRing(question=self._questions, reply_to=self.ref))
            self.remind(HELD_SECONDS_MAX, self._questions)
        return not self._reading and self._verification is None

    def _held_said(self, message: HeldStamp) -> None:
        life = self.newest_lives().get(message.node)
        if self._verification is None or self._verification[0] != message.question or life is None:
            return
        if message.epoch and life.incarnation == message.incarnation:
            stamp = Stamp(message.cluster_id, message.epoch, message.nonce)
            self._said[message.node, message.incarnation] = stamp
        self._verification[1].discard(message.node)
        if not self._verification[1]:
            self._verification = None
            self.look()

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
        said = [(life, self._said.get((life.id, life.incarnation))) for _, life in sorted(self.newest_lives().items())]
        registered = [(registration, registration.held) for _, registration in sorted(self._registrations.items())]
        for registration, held in (*registered, *said):
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
        lives = self.newest_lives()
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
            acks=self._acks,
            why=f"{len(lives)} nodes registered",
        )

    def _following(self, ring: Ring) -> Ring | None:
        self._note_down(ring)
        back = self._back(ring)
        if back:
            return returned(ring, back, **self.write_fields())
        absent = self._gone(ring)
        gone = {id: life for id, life in absent.items() if id in ring.by_id and ring.by_id[id].incarnation == life}
        if gone:
            return downed(ring, gone, why="no longer registered in ZooKeeper", **self.write_fields())
        verdict = self._suspicions.judged(ring, self.now())
        if verdict.again_at is not None:
            self._look_in(verdict.again_at - self.now())
        if verdict.gone:
            return downed(ring, verdict.gone, why=verdict.why, **self.write_fields())
        if damaged := self._bad_copy(ring):
            why = f"its copy is damaged: {damaged.why}"
            return downed(ring, {damaged.node: damaged.incarnation}, damaged=True, why=why, **self.write_fields())
        if (found := self._keepers(ring)).keepers:
            why = "a complete member is back"
            return kept(ring, found.keepers, unsure=found.unsure, why=why, **self.write_fields())
        if ring.change is None:
            return self._ordered(ring) or self._begun(ring)
        if urgent := [id for id in self._raisable(ring) if self._goes_first(ring, id)]:
            why = f"writes wait for {', '.join(urgent)}"
            return put_back(ring, why=why, **self.write_fields())
        return self._step(ring, absent) or (self._ordered(ring) if ring.change.phase != "seal" else None)

    def _heard_of(self, life: tuple[str, str]) -> None:
        """A life has been heard: somebody whose copy is damaged may have waited for it."""
        new = [heard for _, heard in self._damaged.values() if life not in heard]
        for heard in new:
            heard.add(life)
        if new:
            self.look()

    def _bad_copy(self, ring: Ring) -> CopyDamaged | None:
        """The first that has said so, if others answer for its slots, or will as soon as it does not (R25)."""
        self._damaged = {
            id: each
            for id, each in self._damaged.items()
            if id in ring.by_id
            and ring.by_id[id].incarnation == each[0].incarnation
            and ring.by_id[id].state in ("up", "returning")
        }
        claims = [self._damaged[id] for id in sorted(self._damaged)]
        return next((each for each, heard in claims if may_go(ring, each.node, self._good_copies(ring, heard))), None)

    def _good_copies(self, ring: Ring, heard: Container[tuple[str, str]]) -> set[str]:
        """Who can stand in for a node that has said that its copy is damaged: it has been ``heard`` since, in the life
        that the ring and ZooKeeper know, and has said nothing like it itself."""
        lives = self.newest_lives()
        return {
            node.id
            for node in ring.circle
            if (node.id, node.incarnation) in heard
            and (life := lives.get(node.id)) is not None
            and life.incarnation == node.incarnation
            and not life.damaged
            and node.id not in self._damaged
            and (node.state == "up" or life.whole)
        }

    # Changes

    def _ordered(self, ring: Ring) -> Ring | None:
        """What the first order that makes sense makes of the ring."""
        while self.verbs.orders:
            order = self.verbs.orders[0]
            try:
                following = order.make(ring)
            except RingError as error:
                self.verbs.orders.pop(0)
                order.refused(f"{'TRYAGAIN' if isinstance(error, MovedOn) else 'ERR'} {error}")
                continue
            self._order = order
            return following
        return None

    def _step(self, ring: Ring, absent: dict[str, str]) -> Ring | None:
        """What follows the phase of the change in flight, once its time has come."""
        assert ring.change is not None
        change, phase, now = ring.change, (ring.change.epoch, ring.change.phase), self.now()
        if self._phase_since is None or self._phase_since[0] != phase:
            self._phase_since = phase, now
        for node in change.comes:
            if absent.get(node.id) == node.incarnation:
                return self._give_up(ring, f"{node.id} is gone, which was to join", node.id)
            life = self.newest_lives().get(node.id)
            if life is not None and life.incarnation > node.incarnation:
                return self._give_up(ring, f"{node.id} has started again, which was to join", node.id)
        if self._all_reached(ring):
            if change.phase != "seal":
                reached = {"transfer": "all learners have caught up", "switch": "learners are required everywhere"}
                return advanced(ring, why=reached[change.phase], **self.write_fields())
            log.info("change %d is committed: every coordinator is ready", change.epoch)
            for id in change.wish.ids:
                self._failures.pop(id, None)
            keys, size = sum(each.keys for each in self.progress()), sum(each.bytes for each in self.progress())
            why = f"every coordinator is ready; {keys} keys looked at, {size} bytes sent"
            return committed(ring, why=why, **self.write_fields())
        if ahead := self._caught_up(ring):
            self._ahead = self._lives(ring, ahead)
            why = f"writes wait for {', '.join(ahead)}, and others take longer"
            return put_back(ring, why=why, **self.write_fields())
        seconds_max = PHASE_SECONDS_MAX.get(change.phase)
        if seconds_max is None:
            keys = sum(each.keys for each in self.progress())
            if self._progressed is None or self._progressed[0] < keys:  # a walk that begins anew is no progress
                self._progressed = keys, now
            elif any(each.limited for each in self.progress()):
                self._progressed = self._progressed[0], now
            left = max(self._progressed[1], self._phase_since[1]) + STUCK_SECONDS_MAX - now
            if left <= 0:
                return self._give_up(ring, f"no key has passed for {STUCK_SECONDS_MAX:g} s: {self._missing(ring)}")
            self._look_in(left)
        else:
            left = self._phase_since[1] + seconds_max - now
            if left <= 0:
                return self._give_up(ring, f"{self._missing(ring)} after {seconds_max:g} s of {change.phase}")
            self._look_in(left)
        return None

    def _give_up(self, ring: Ring, why: str, culprit: str = "") -> Ring:
        """The ring without its change. Whoever was to come by it and has kept the others from it is not tried again
        soon; where nobody can tell who that is, they are tried again one after the other."""
        assert ring.change is not None
        wish = ring.change.wish
        if wish.kind == "out":
            self._put_off(wish)
        elif wish.kind in ("add", "return"):
            unfinished = {each.target for each in self.progress() if each.trouble or each.state != "walked"}
            known = [culprit] if culprit else sorted(unfinished & set(wish.ids))
            for place, id in enumerate(known or wish.ids, start=1):
                times = self._failures.get(id, (0, 0.0))[0] + 1
                pause = min(TRY_AGAIN_SECONDS * 2 ** (times - 1), TRY_AGAIN_SECONDS_MAX)
                self._failures[id] = times, self.now() + pause * place
        self.note("job", f"{wish} is given up: {why}", log=log.warning, job=wish.job)
        return given_up(ring, wish.job, "aborted", why=why, **self.write_fields())

    def _all_reached(self, ring: Ring) -> bool:
        """Whether every coordinator of an affected slot has reached the end of the phase, in this very ring (R11)."""
        return not self._behind(ring)

    def _behind(self, ring: Ring) -> list[str]:
        """The coordinators that have not, or not yet said so."""
        assert ring.change is not None
        if self._plan is None or self._plan[0] != ring.change.epoch:
            self._plan = ring.change.epoch, planned(ring)
        behind = []
        for id in sorted(self._plan[1].sources):
            report = self._reports.get(id)
            if (
                report is None
                or report.incarnation != ring.by_id[id].incarnation
                or (report.change, report.epoch) != (ring.change.epoch, ring.epoch)
                or report.reached != ring.change.phase
            ):
                behind.append(id)
        return behind

    def _missing(self, ring: Ring) -> str:
        """Who is behind, and why as far as it has said."""
        troubles = {each.trouble for report in self._reports.values() for each in report.progress if each.trouble}
        because = f" ({'; '.join(sorted(troubles))})" if troubles else ""
        return f"{', '.join(self._behind(ring))} not ready{because}"

    def _change_reported(self, message: ChangeReported) -> None:
        before = self._reports.get(message.node)
        self._reports[message.node] = message
        if before is None or (before.change, before.epoch, before.reached) != (
            message.change,
            message.epoch,
            message.reached,
        ):
            self.look()

    def progress(self) -> list[HandoffProgress]:
        """How far the handoffs of the change in flight are, as their coordinators have said."""
        change = self.ring.change if self.ring is not None else None
        if change is None:
            return []
        reports = [report for report in self._reports.values() if report.change == change.epoch]
        return [each for report in reports for each in report.progress]

    def _begun(self, ring: Ring) -> Ring | None:
        """The first change that can begin now: who is back comes first, it restores copies."""
        self._reports.clear()
        self._plan = self._phase_since = self._progressed = None
        jobs = {wish.job for wish in ring.queue}
        self.waiting_because = {job: why for job, why in self.waiting_because.items() if job in jobs}
        self._wished_since = {wish.job: self._wished_since.get(wish.job, self.now()) for wish in ring.queue}
        if ids := self._raisable(ring):
            self._ahead &= self._lives(ring, ids)
            ahead = tuple(sorted(id for id, _ in self._ahead))
            return begun(ring, returning(ring, ahead or ids), why="they are back", **self.write_fields())
        if (following := self._without_the_lost(ring)) is not None:
            return following
        for wish in ring.queue:
            try:
                following = self._fulfilled(ring, wish)
            except RingError as error:
                if wish.kind == "rest" or all(node.state == "up" for node in ring.circle):  # no time will mend it
                    self.note("job", f"job {wish.job} ({wish}) is given up: {error}", log=log.warning, job=wish.job)
                    return given_up(ring, wish.job, "aborted", why=str(error), **self.write_fields())
                if self.waiting_because.get(wish.job) != str(error):
                    self.note("job", f"job {wish.job} ({wish}) waits: {error}", log=log.warning, job=wish.job)
                self.waiting_because[wish.job] = str(error)
            else:
                if following is not None:
                    return following
        return self._joined(ring)

    def _caught_up(self, ring: Ring) -> tuple[str, ...]:
        """Who would be raised by a change that raises several, if writes need not wait for the others (R15)."""
        assert ring.change is not None and self._plan is not None and self._phase_since is not None
        wish = ring.change.wish
        if ring.change.phase != "transfer" or wish.kind != "return" or len(wish.ids) == 1 or not ring.trouble:
            return ()
        left = self._phase_since[1] + APART_SECONDS - self.now()
        if left > 0:
            self._look_in(left)
            return ()
        self._look_in(APART_SECONDS)
        walks = [each for each in self.progress() if each.state == "walked" and not each.trouble]
        walked = {(each.source, each.target, each.first, each.last) for each in walks}
        plan = self._plan[1]
        late = {each.target for each in plan.transfers if (each.source, each.target, *each.slots) not in walked}
        ahead = tuple(id for id in wish.ids if id not in late)
        return ahead if ahead != wish.ids and any(short_of(ring, id) for id in ahead) else ()

    def _lives(self, ring: Ring, ids: Iterable[str]) -> set[tuple[str, str]]:
        return {(id, ring.by_id[id].incarnation) for id in ids}

    def _raisable(self, ring: Ring) -> tuple[str, ...]:
        """The nodes that are returning and can be raised now."""
        not_yet = self._not_yet(ring)
        return tuple(id for id in raisable(ring) if id not in not_yet)

    def _not_yet(self, ring: Ring) -> set[str]:
        """The nodes that are returning and may not be raised so soon: they died too often, or it did not succeed."""
        now = self.now()
        due = {
            node.id: max(self._deaths.get(node.id, (0, 0.0))[1], self._failures.get(node.id, (0, 0.0))[1])
            for node in ring.circle
            if node.state == "returning"
        }
        pauses = [moment - now for moment in due.values() if moment > now]
        if pauses:
            self._look_in(min(pauses))
        return {id for id, moment in due.items() if moment > now}

    def _without_the_lost(self, ring: Ring) -> Ring | None:
        """The change that gives up the nodes that have been down for too long, once those that went with them are due,
        too. Who is to be removed or replaced waits for that."""
        self._not_given_up = ""
        wanted = {id for wish in ring.queue if wish.kind in ("remove", "replace") for id in wish.ids}
        due = {id: since + self._out_after_seconds for (id, _), since in self._down_since.items() if id not in wanted}
        if not self._out_after_seconds or not due:
            return None
        if few_are_up(ring):
            self._not_given_up = f"{', '.join(sorted(due))}: fewer than half of the nodes are up"
            return None
        now, first = self.now(), min(due.values())
        together = {id for id, moment in due.items() if moment <= first + GONE_TOGETHER_SECONDS or moment <= now}
        last = max(due[id] for id in together)
        if last > now:
            self._look_in(last - now)
            return None
        why = f"down for {self._out_after_seconds:g} s"
        try:
            return begun(ring, giving_up(ring, together), why=why, **self.write_fields())
        except RingError as error:
            self._not_given_up = f"{', '.join(sorted(together))}: {error}"
            return None

    def _note_down(self, ring: Ring) -> None:
        """Count how long nodes have been down. While few are up no time counts: the others are on their way."""
        before = {} if self._few_were_up or few_are_up(ring) else self._down_since
        self._few_were_up = few_are_up(ring)
        down = [(node.id, node.incarnation) for node in ring.circle if node.state == "down"]
        self._down_since = {life: before.get(life, self.now()) for life in down}

    def _note_cancelled(self, before: Ring | None, ring: Ring) -> None:
        """Whoever cancels that a node is given up has a reason: it gets as much time again."""
        change = before.change if before is not None else None
        last = ring.history[-1] if ring.history else None
        if change is not None and change.wish.kind == "out" and last is not None and last.outcome == "cancelled":
            self._put_off(change.wish)

    def _put_off(self, wish: Wish) -> None:
        """Count anew how long those have been down who were not given up after all."""
        self._down_since |= {life: self.now() for life in self._down_since if life[0] in wish.ids}

    def _note_deaths(self, before: Ring | None, ring: Ring) -> None:
        """Who dies again before it has been up for a while is to be raised later every time."""
        now, were = self.now(), before.by_id if before is not None else {}
        for node in ring.circle:
            was = were.get(node.id, node)
            if was.state in ("up", "returning") and (node.state == "down" or node.incarnation != was.incarnation):
                times = self._deaths.get(node.id, (0, 0.0))[0] + 1
                if now - self._up_since.pop(node.id, now) >= STEADY_SECONDS:
                    times = 0
                pause = min(RAISE_AGAIN_SECONDS * 2 ** (times - 2), RAISE_AGAIN_SECONDS_MAX) if times > 1 else 0.0
                self._deaths[node.id] = times, now + pause
            if node.state == "up":
                self._up_since.setdefault(node.id, now)
        ids = {node.id for node in ring.circle}
        self._deaths = {id: deaths for id, deaths in self._deaths.items() if id in ids}
        self._up_since = {id: since for id, since in self._up_since.items() if id in ids}

    def _keepers(self, ring: Ring) -> Recovery:
        """The lists that can have a keeper now, and who that is (R15, R16)."""
        now, since = self.now(), self._recovering_since
        enough = {run for run, moment in since.items() if now - moment >= self._recovery_wait_seconds}
        found = recovery(ring, self.newest_lives(), self._highest, enough)
        self._recovering_since = {run: since.get(run, now) for run in sorted(found.waiting)}
        self._highest = {key: said for key, said in self._highest.items() if key[0] in found.waiting}
        if found.ask and not self._asking_numbers:
            self._ask_numbers(ring, found.ask)
        for run in found.waiting - enough:
            self._look_in(self._recovering_since[run] + self._recovery_wait_seconds - now)
        return found

    def _ask_numbers(self, ring: Ring, asked: dict[str, list[Run]]) -> None:
        """Ask nodes for the highest numbers of these slots, and look again when they have said them, or had the time
        to."""
        self._asking_numbers = True

        def gathered(figures: dict[str, Figures]) -> None:
            self._asking_numbers = False
            for id, runs in asked.items():
                said = figures[id].highest if id in figures else []
                for index, run in enumerate(runs):
                    self._highest[run, ring.by_id[id].incarnation] = said[index] if index < len(said) else None
            self._look_in(0.0)

        wanted = {ring.by_id[id]: [(run.first, run.last) for run in runs] for id, runs in sorted(asked.items())}
        self.verbs.gather(wanted, gathered)

    def _fulfilled(self, ring: Ring, wish: Wish) -> Ring | None:
        """The change that fulfils a wish; None: not yet. Raises RingError when it cannot be."""
        lives: list[Registration] = []
        if wish.comers:
            inside = self.members()
            left = {(node.id, node.incarnation) for node in ring.nodes if node.state == "out"}
            known = {id: life for id, life in self.newest_lives().items() if (id, life.incarnation) not in left}
            lives = [known[id] for id in wish.comers if id in known and id not in inside]
            missing = [id for id in wish.comers if id not in known and id not in inside]
            patience = self._wished_since[wish.job] + JOIN_SECONDS_MAX - self.now()
            if missing and patience > 0:
                self.waiting_because[wish.job] = f"{', '.join(missing)} has not registered yet"
                self._look_in(patience)
                return None
            if not lives:
                why = f"{', '.join(missing)} has not registered" if missing else "they are in the ring already"
                return given_up(ring, wish.job, "aborted", why=why, **self.write_fields())
        return begun(ring, wish, lives, why="its turn has come", **self.write_fields())

    def _joined(self, ring: Ring) -> Ring | None:
        """The change that takes in the nodes that have registered and that nobody holds back."""
        now = self.now()
        waiting = self._waiting(ring)
        self._seen_since = {
            (life.id, life.incarnation): self._seen_since.get((life.id, life.incarnation), now) for life in waiting
        }
        if self.verbs.starting_nodes():
            return None
        due = {
            life.id: max(
                self._seen_since[life.id, life.incarnation] + JOIN_SETTLE_SECONDS,
                self._failures.get(life.id, (0, 0.0))[1],
            )
            for life in waiting
        }
        for moment in due.values():
            if moment > now:
                self._look_in(moment - now)
        ready = [life for life in waiting if due[life.id] <= now]
        others = sum(now < moment <= now + JOIN_SETTLE_SECONDS for moment in due.values())
        patient = ready and now < min(due[life.id] for life in ready) + JOIN_SETTLE_SECONDS
        if not ready or (others and patient):
            return None  # others that came just after them are taken in with them
        if ring.place == "relief" and not self._knows_loads(ring):
            return None
        for lives in (ready, *([life] for life in ready if len(ready) > 1)):
            try:
                following = begun(ring, self._relieving(ring, lives), lives, why="registered", **self.write_fields())
            except RingError as error:
                for life in lives:
                    self._refuse(life.id, str(error))
            else:
                for life in lives:
                    self._refused.pop(life.id, None)
                return following
        return None

    def _knows_loads(self, ring: Ring) -> bool:
        """Whether it is known what the slots of this ring weigh; else that is asked, once."""

        def gathered(answer: LoadsGathered) -> None:
            self._loads = ring.epoch, answer.loads or Loads()  # a node that is silent keeps nobody from joining
            self.look()

        if self._loads[0] != ring.epoch:
            self._loads = ring.epoch, None
            self.verbs.ask_loads(ring, gathered)
        return self._loads[1] is not None

    def _relieving(self, ring: Ring, lives: list[Registration]) -> Wish | None:
        """The wish to take in these where the load is; None: as the ring places them."""
        if ring.place != "relief" or self._loads[1] is None:
            return None
        ids = tuple(sorted(life.id for life in lives))
        strangers = [id for id in ids if id not in ring.by_id or not ring.by_id[id].given_up]
        places = placed(ring, strangers, "relief", self._loads[1])
        return Wish(job=ring.epoch + 1, kind="add", ids=ids, tokens=tuple(sorted(places.tokens.items())))

    def _waiting(self, ring: Ring) -> list[Registration]:
        """Nodes that have registered, are not in the ring, and may be taken in by themselves."""
        wished = {id for wish in ring.queue for id in wish.comers}
        inside = {node.id for node in ring.circle}
        waiting = []
        for id, life in sorted(self.newest_lives().items()):
            node = ring.by_id.get(id)
            left = node is not None and node.state == "out" and node.data_id == life.data_id and not node.given_up
            left = left or (node is not None and node.incarnation == life.incarnation)
            joins = life.joins or (node is not None and node.given_up)  # whoever was a member was asked before
            if id not in inside and not left and id not in wished and joins and id not in ring.held_back:
                waiting.append(life)
        return waiting

    # Facts

    def newest_lives(self) -> dict[str, Registration]:
        """Per node its latest registered life. What a dead process has left stands there until its session ends; the
        incarnations of one data directory ascend, so the latest is known. Of several directories the one counts that
        the ring names, unless it is that life itself which the ring calls down."""
        named = {node.id: node for node in self.ring.circle} if self.ring is not None else {}

        def rank(life: Registration) -> tuple[bool, str]:
            node = named.get(life.id)
            is_over = node is not None and node.state == "down" and life.incarnation == node.incarnation
            return node is not None and life.data_id == node.data_id and not is_over, life.incarnation

        lives: dict[str, Registration] = {}
        for registration in self._registrations.values():
            other = lives.get(registration.id)
            if other is None or rank(registration) > rank(other):
                lives[registration.id] = registration
        return lives

    def _back(self, ring: Ring) -> list[Registration]:
        """The new lives of nodes of the ring that it can take up again; why not is noted for the others."""
        back = []
        unread = {self._names[name].id for name in self._names.keys() - self._registrations.keys()}
        doubled = self._doubled()
        for id, life in sorted(self.newest_lives().items()):
            node = ring.by_id.get(id)
            if node is None or node.state == "out":
                left = node is not None and not node.given_up and life.data_id == node.data_id
                if left and node is not None and life.incarnation != node.incarnation:
                    self._refuse(id, f"it has left the ring; `ringkeeper nodes add --node {id}` takes it in again")
                elif id in ring.held_back:
                    self._refuse(id, f"its joining was cancelled; `ringkeeper nodes add --node {id}` takes it in")
                elif not life.joins and (node is None or not node.given_up):
                    self._refuse(id, f"it waits to be asked; `ringkeeper nodes add --node {id}` takes it in")
            elif life.data_id != node.data_id or life.incarnation > node.incarnation:
                wish = ring.change.wish if ring.change is not None else None
                given_up = wish is not None and wish.kind == "out" and id in wish.ids
                waits = wish is not None and not given_up and not awaited(ring, life)
                if node.state == "down" and waits and not self._goes_first(ring, id):
                    continue  # R8
                try:
                    returned(ring, [life], **self.write_fields())
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
            elif id in doubled:
                self._refuse(
                    id,
                    f"two processes go by this name, with a data directory each; the ring has that which is in its "
                    f"life {life.incarnation}. End the other, or give it a name of its own.",
                )
            elif id not in unread:
                self._refused.pop(id, None)
        return back

    def _doubled(self) -> set[str]:
        """The nodes by whose names processes on several data directories are registered, for longer than the session of
        one that has died lasts."""
        folders: dict[str, set[str]] = {}
        for life in self._registrations.values():
            folders.setdefault(life.id, set()).add(life.data_id)
        now = self.now()
        self._doubled_since = {id: self._doubled_since.get(id, now) for id in folders if len(folders[id]) > 1}
        due = {id: since + self._patience_seconds for id, since in self._doubled_since.items()}
        for moment in due.values():
            if moment > now:
                self._look_in(moment - now)
        return {id for id, moment in due.items() if moment <= now}

    def _goes_first(self, ring: Ring, id: str) -> bool:
        """Whether the change in flight is to let this node be raised first: a list refuses writes for want of it (R8).
        Not who has just died again soon, or could not be raised: nothing else would ever come to its end."""
        change = ring.change
        if change is None or change.phase != "transfer" or id in change.wish.ids or not short_of(ring, id):
            return False
        if change.wish.kind == "return" and self._lives(ring, change.wish.ids) <= self._ahead:
            return False
        (failures, failed), (deaths, died) = self._failures.get(id, (0, 0.0)), self._deaths.get(id, (0, 0.0))
        first_again_at = max(failed + _rest_seconds(failures), died + _rest_seconds(deaths - 1))
        if (left := first_again_at - self.now()) > 0:
            self._look_in(left)
        return left <= 0

    def _registered(self) -> set[tuple[str, str]]:
        """The lives (id, incarnation) that are registered. The names alone say it: a registration that cannot be read
        is no sign of death."""
        return {(name.id, name.incarnation) for name in self._names.values()}

    def _gone(self, ring: Ring) -> dict[str, str]:
        """Nodes that the ring calls up or returning, or that its change brings, and that have not been registered for
        long enough (id -> incarnation)."""
        now = self.now()
        expected = [node for node in ring.circle if node.state in ("up", "returning")]
        expected += ring.change.comes if ring.change is not None else ()
        absent = {(node.id, node.incarnation) for node in expected} - self._registered()
        self._absent_since = {life: self._absent_since.get(life, now) for life in sorted(absent)}
        due = {life: max(since + ABSENT_SECONDS_MIN, self._patient_until) for life, since in self._absent_since.items()}
        still = [moment for moment in due.values() if moment > now]
        if still:
            self._look_in(min(still) - now)
            if min(still) <= min(due.values()) + ABSENT_SECONDS_MIN:
                return {}  # their sessions end one after the other: gone together, they are down by one write (R14)
        return dict(life for life, moment in due.items() if moment <= now)

    def _write(self, ring: Ring) -> None:
        assert self._version is not None
        self._writing, self._being_written, self.stored = True, ring, None
        what = ring.history[-1] if ring.history else None
        self.system.events.note(
            "ring",
            f"ring {ring.epoch} is written: {what.what if what is not None else 'no history'}",
            cause=what.why if what is not None else "",
            epoch=ring.epoch,
            log=log.info,
            job=what.job if what is not None else 0,
        )
        path, content = paths.ring(self._cluster_name), ring.to_json()
        if self._version < 0:
            self.send(self._watches, CreateNode(request="write ring", path=path, data=content, reply_to=self.ref))
        else:
            write = SetNode(request="write ring", path=path, data=content, version=self._version, reply_to=self.ref)
            self.send(self._watches, write)

    def _restore(self, ring: Ring, written: Callable[[str], None]) -> bool:
        """Write a lost ring back over what is in ZooKeeper, which this ECS would not go on from; ``written`` is called
        with what is wrong then, or nothing. False: what is there is not known."""
        if not self._leading or not self._connected or self._writing or self.stored is None:
            return False
        self._version, self._restored = self.stored.version, written
        self._write(ring)
        return True

    def _written(self, error: str) -> None:
        """What became of the write. What is there now is decided by what is read."""
        self._writing = False
        if error:
            what = f"the ring was not written for certain ({error}): it is read again"
            self.note("trouble", what, log=log.warning)
        if self._restored is not None:
            restored, self._restored = self._restored, None
            restored(_not_restored(error) if error else "")
        order, self._order, written = self._order, None, self._being_written
        if order is not None and order in self.verbs.orders and error != "bad_version":  # else it is made anew
            self.verbs.orders.remove(order)
            if error or written is None:
                order.refused(
                    f"INDOUBT ZooKeeper has not confirmed the write ({error}): it may have happened, look at the jobs"
                )
            else:
                self._carried_out.append((order, written))
        self._version = None
        self.send(self._watches, self._read_ring())

    def _be_in_trouble(self, what: str) -> None:
        if what:
            if what != self._trouble:
                self.note("trouble", f"{self.id} writes no ring: {what}", log=log.error)
            self.verbs.give_up_orders(f"TRYAGAIN no ring is written: {what}")
        self._trouble = what

    def _random_id(self) -> str:
        return f"{self.random.getrandbits(64):016x}"

    def note(
        self, kind: str, sentence: str, *, cause: str = "", log: Callable[..., object] | None = None, **fields: Any
    ) -> None:
        epoch = self.ring.epoch if self.ring is not None else 0
        self.system.events.note(kind, sentence, cause=cause, epoch=epoch, log=log, **fields)

    def _note_news(self, before: Ring | None, ring: Ring) -> None:
        """What a ring that was read makes true; its last write is told already if it was written here."""
        written = self._being_written.stamp if self._being_written is not None else None
        ours = ring.epoch if ring.stamp == written else 0
        news = [each for each in writes(before, ring) if each.epoch != ours]
        for kind, sentence, cause, epoch, fields in (*news, *states(before, ring), *jobs(before, ring)):
            self.system.events.note(kind, sentence, cause=cause, epoch=epoch, **fields)

    # What the verbs ask of it

    def known_ring(self) -> Ring:
        """The ring, where there is certainly one."""
        assert self.ring is not None
        return self.ring

    def members(self) -> set[str]:
        """The ids of the nodes that are in the ring."""
        return {node.id for node in self.ring.circle} if self.ring is not None else set()

    def write_fields(self) -> dict[str, Any]:
        """What every write of the ring is handed in besides its cause."""
        return {"nonce": self._random_id(), "wall_seconds": self.wall()}

    def remind(self, seconds: float, question: int) -> None:
        """Have ``overdue`` called for a question."""
        self.after(seconds, AnswersDue(question=question))

    def imagined(self, id: str) -> Registration:
        """A node that does not exist yet, for a plan. Raises RingError when it could not have that id."""
        host, _, port = id.rpartition(":")
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
        return Registration(
            id=id,
            incarnation=self._random_id(),
            data_id=self._random_id(),
            host=host.strip("[]"),
            port=number,
            bridge_host=host.strip("[]"),
            bridge_port=(number + BRIDGE_PORT_OFFSET) % 65536 or 1,
        )

    def status(self, figures: dict[str, Figures]) -> dict[str, object]:
        ring = self.ring
        nodes = [self._node_status(ring, node, figures.get(node.id)) for node in ring.nodes] if ring is not None else []
        known = {node.id for node in ring.nodes} if ring is not None else set()
        waiting = {r.id for r in self._registrations.values()} - known
        return {
            "cluster": self._cluster_name,
            "epoch": ring.epoch if ring is not None else 0,
            "leader": self.id if self._leading else None,
            "serving": ring is not None and ring.serving and all(ring.coordinators),
            "stopped": ring is not None and not ring.serving,
            "replicas": ring.replicas if ring is not None else self._replicas,
            "change": self.verbs.in_flight(),
            "queue": self.verbs.waiting(),
            "trouble": self._trouble or None,
            "refused": dict(sorted(self._refused.items())),
            "waiting": sorted(waiting),
            "not_given_up": self._not_given_up or None,
            "launchers": self.verbs.launchers(),
            "balancing": balancing_to_json(ring.balancing) if ring is not None else None,
            "nodes": nodes,
            "lists_in_trouble": lists_in_trouble(ring) if ring is not None else [],
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
            "capacity": node.capacity,
            "incarnation": node.incarnation,
            "address": node.address,
            "bridge": node.bridge_address,
            "reachable": figures is not None,
            "keys": figures.keys if figures is not None else None,
            "bytes": figures.bytes if figures is not None else None,
            "pid": figures.pid if figures is not None else None,
            "epoch": figures.epoch if figures is not None else None,
            "suspected_by": sorted(self._suspicions.by((node.id, node.incarnation), self.now())),
            "phi": {by: phi[node.id] for by, phi in sorted(self._phi.items()) if node.id in phi},
        }

    # Suspicions

    def _suspected(self, message: Suspected) -> None:
        if self.ring is None:
            return
        of, by = (message.node, message.incarnation), (message.by, message.by_incarnation)
        if self._suspicions.report(self.ring, of, by, message.why, self.now(), behind=message.behind):
            if message.why:
                self.note(
                    "suspicion",
                    f"{message.by} suspects {message.node} ({message.why} for {message.seconds:.1f} s)",
                    log=log.warning,
                    node=message.node,
                    by=message.by,
                )
            else:
                self.note(
                    "suspicion",
                    f"{message.by} suspects {message.node} no longer",
                    node=message.node,
                    by=message.by,
                )
            self.look()

    @property
    def ring_epoch(self) -> int:
        """Of the newest ring that it has read."""
        return self.ring.epoch if self.ring is not None else 0

    def inspect(self) -> dict[str, Any]:
        """What people want to know of it (``runtime/looking.py``)."""
        ring, now = self.ring, self.now()
        return {
            "leading": self._leading,
            "connected": self._connected,
            "ring": str(ring.stamp) if ring is not None else None,
            "last_write": _last_write(ring) if ring is not None else None,
            "writing": self._writing,
            "registered": {name: f"{each.id} {each.incarnation}" for name, each in self._registrations.items()},
            "absent_seconds": {f"{id} {life}": now - since for (id, life), since in self._absent_since.items()},
            "down_seconds": {f"{id} {life}": now - since for (id, life), since in self._down_since.items()},
            "suspicions": self._suspicions,
            "damaged": list(self._damaged),
            "reports": self._reports,
            "trouble": self._trouble,
        }

    def metrics(self) -> Iterator[Metric]:
        yield gauge("ecs_leads", "Whether this control service leads.", self._leading)
        yield gauge("ecs_registered", "Lives of nodes that are registered.", len(self._names))
        yield gauge("ecs_trouble", "Whether no ring can be written.", bool(self._trouble))
        ring = self.ring
        if ring is None or not self._leading:
            return
        yield gauge("ring_epoch", "Of the newest ring that was read.", ring.epoch)
        yield gauge("ring_serving", "Whether clients are to be answered.", ring.serving)
        for state in ("up", "down", "returning", "out"):
            count = sum(node.state == state for node in ring.nodes)
            yield gauge("ring_nodes", "Nodes of the ring by their state.", count, state=state)
        yield gauge("ring_copies_missing", "Copies of slots that are not up.", ring.copies_missing())
        yield gauge("ring_slots_unserved", "Slots that nobody answers for.", ring.coordinators.count(None))
        yield gauge("ring_change_in_flight", "Whether a change is in flight.", ring.change is not None)
        yield gauge("ring_jobs_waiting", "Changes that wait for their turn.", len(ring.queue))
        yield gauge(
            "ring_keys_moved", "Keys that the change in flight has passed.", sum(p.keys for p in self.progress())
        )
        moved = sum(p.keys_total for p in self.progress())
        yield gauge("ring_keys_to_move", "Keys that it has to pass.", moved)

    def readiness(self) -> str:
        """Why this control service neither leads nor could; empty when it does one of both."""
        if not self._connected:
            return "it has no ZooKeeper session"
        return f"it writes no ring: {self._trouble}" if self._leading and self._trouble else ""

    def check(self) -> None:
        assert self._registrations.keys() <= self._names.keys()
        assert self._connected or (self._version is None and not self._names_known and not self._absent_since)


def _rest_seconds(times: int) -> float:
    """For how long a node does not go first any more that has failed so often."""
    return STEADY_SECONDS * 2 ** min(times - 1, 6) if times > 0 else 0.0


def _not_restored(error: str) -> str:
    if error in ("bad_version", "node_exists", "no_node"):
        return "TRYAGAIN what is in ZooKeeper has become another meanwhile: nothing was written"
    return f"INDOUBT ZooKeeper has not confirmed the write ({error}): it may have happened, look at the status"


def _last_write(ring: Ring) -> str:
    return f"{ring.history[-1].what} ({ring.history[-1].why})" if ring.history else "no history"
