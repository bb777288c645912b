"""The stage: what may happen to a cluster in a story, in one language for two worlds.

    def story(stage: Stage) -> None:
        load = stage.load(clients=4)
        (newcomer,) = stage.join()
        stage.wait_until(lambda: newcomer in stage.members(), 60, f"{newcomer} is a member")

`SimulatedStage` plays on the same actors in virtual time: time passes inside the calls here and nowhere else, so a
story of a minute takes a second and is the same for the same seed. `RealStage` plays on processes of this machine. A
verb means the same on both, and returns as soon as it has happened; what follows from it is waited for by
``wait_until``. A world in which something cannot be done raises `NotPossibleHere`, and the story is then skipped.

Processes go by their names: nodes by id (``127.0.0.1:7001``). Every verb tells the timeline what it does.

    start --> story: load, faults, changes of the ring --> calm --> checks

`play.py` plays a scenario on a stage and judges it; `checks.py` says what must hold in the end.
"""

import random as random_module
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, get_args

from ..actors.config import OUT_AFTER_SECONDS
from ..actors.rules import change
from ..actors.rules.balancing import By
from ..actors.rules.placement import Place
from ..actors.rules.ring import Ring
from ..actors.rules.transitions import EPOCHS_SKIPPED
from .checks import ClusterState, Tenure, Violation, about_to_expire, every_slot_served, no_foreign_slots
from .history import History, Outcome, Value
from .workload import HEAVY_BYTES, HEAVY_KEYS, MIXES, Keys, Manner, Mix, Task, Workload

Phase = change.Phase
PHASES: tuple[Phase, ...] = get_args(Phase)
"""Those that a change of the ring goes through, in order."""

REPLICAS, MIN_COPIES = 1, 2
"""Copies of each slot, where a story does not say."""
SERVES_SECONDS_MAX = 60.0
UNHEARD_SECONDS = 10.0
"""So long after all were started everybody has said what it holds who can."""
CALM_SECONDS_MAX = 180.0
"""So long a cluster may take, once nothing befalls it any more, until it is steady: a start of a node that was tried
again and again waits for up to a minute."""
TIDY_SECONDS_MAX = 60.0
"""So long nodes may take after that to remove what is not theirs; then the check says so."""
MEMBERS_SECONDS_MAX = 180.0
"""So long a node may take to be a member: a join that failed is tried again after up to a minute."""
PHASE_SECONDS_MAX = 5.0
"""So long it is waited for a change to begin, or to come to a phase."""
VERIFIED_SECONDS_MAX = 30.0
"""So long it may take to compare all copies."""
ANSWERS_SECONDS_MAX = 5.0
"""So long it may take, once a ring is read, until whoever coordinates by it answers: others confirm it first (R21)."""
COMPARED_MAX, COMPARED_PAUSE_SECONDS = 4, 2.0
"""So often all copies are compared in the end, where a disk has lied, until nothing is found; and what is found is made
anew after the pause between."""
COMMAND_SECONDS_MAX = 15.0
"""So long a command to the cluster is tried."""
OPERATIONS_PER_SECOND = 30.0
"""What one client of a load asks for, unless said otherwise."""
HEAVY_PER_SECOND = 2.0
"""What the client of heavy values asks for: each is kept in the history, twice if it is read."""
ERRORS_KEPT_MAX = 20


Lie = Literal["flip", "value", "expiry", "nothing"]
LIES: dict[Lie, str] = {
    "flip": "a bit is flipped",
    "value": "another value, and its checksum is right",
    "expiry": "another expiry, and its checksum is right",
    "nothing": "there is nothing",
}


NO_ROOM, IO_ERROR = "no space left on device", "input/output error"
"""What a sync fails with."""


class NotPossibleHere(Exception):
    """Raised when this world cannot do what a story asks; the text says why."""


class NotInTime(Exception):
    """Raised when what a story waits for did not come to be."""


class RefusedByCluster(Exception):
    """Raised when the cluster does not do what a story asks of it, and says why."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline."""

    at: float
    """Seconds since the stage was made."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Life:
    """A node process that runs."""

    incarnation: str
    """"" when nobody can say: it has not registered yet, or no more."""
    epoch: int
    """Of the ring that it obeys."""


class Load(ABC):
    """Some clients that ask one thing after the other until they are stopped. `Stage.load` begins it."""

    def __init__(self, stage: "Stage", workloads: Sequence[Workload], operations_per_second: float) -> None:
        self.stage, self.workloads = stage, tuple(workloads)
        self.pause_seconds = (0.0, 2.0 / operations_per_second)
        """Between an answer and the next question of a client, at least and at most."""
        self.counts: Counter[Outcome] = Counter()
        self._counting = threading.Lock()
        self.errors: list[str] = []
        """What clients were told when something was not done, or not certainly; the first of it."""
        self.troubles: list[str] = []
        """What must not happen to the load itself."""

    @property
    def completed(self) -> int:
        """Operations whose outcome is known."""
        return sum(self.counts.values())

    def stop(self) -> None:
        """Let the operations under way end, and begin no others. May be called again."""
        if self._stop():
            self.stage.say(f"the load has ended: {self}")
        if self.troubles:
            raise RuntimeError(f"the load failed: {self.troubles[0]}")

    def __str__(self) -> str:
        ok, no, maybe = (self.counts[outcome] for outcome in ("ok", "not", "maybe"))
        return f"{self.completed} operations, {ok} done, {no} not done, {maybe} in doubt"

    @abstractmethod
    def _stop(self) -> bool:
        """Stop; False: it was stopped before."""

    def _invoked(self, workload: Workload, task: Task) -> int:
        return self.stage.history.invoke(
            client=workload.client,
            kind=task.kind,
            key=task.key,
            argument=task.argument,
            expected=task.expected,
            expires_seconds=task.expires_seconds,
            stale=workload.manner == "stale" or None,
            at=self.stage.now(),
        )

    def _completed(
        self, workload: Workload, task: Task, number: int, outcome: Outcome, reply: Any, node: str | None
    ) -> None:
        """``reply`` is the reply if it is ok, and else what went wrong."""
        value: Value = None
        if outcome == "ok":
            value = task.value_of(reply)
            workload.heard(task, value)
        known: Outcome = "maybe" if outcome == "ok" and task.kind == "set" and workload.manner == "hasty" else outcome
        self.stage.history.complete(number, known, at=self.stage.now(), value=value, node=node)
        with self._counting:
            self.counts[outcome] += 1
            if outcome != "ok" and len(self.errors) < ERRORS_KEPT_MAX:
                self.errors.append(f"{workload.client}: {task.kind}: {reply}")


class Stage(ABC):
    """One cluster, and all that may happen to it. To be used in a ``with`` statement."""

    def __init__(self, seed: int | str, *, tell: Callable[[Moment], object] | None = None) -> None:
        """``tell`` is called with every line of the timeline as it comes."""
        self.seed = seed
        self.random = random_module.Random(f"{seed} story")
        """The dice of the story. Roll them only here, in the order of the story."""
        self.more = random_module.Random(f"{seed} more")
        """Dice for what a story was given later, so that a seed is the story that it was, and something besides."""
        self.history = History()
        self.timeline: list[Moment] = []
        self.loads: list[Load] = []
        self.unmet: list[Violation] = []
        """What the scenario itself expected, and found otherwise."""
        self.tenures: list[Tenure] = []
        """Who took itself for the coordinator of what, as far as this world sees that."""
        self.power_cuts: list[float] = []
        """When what was acknowledged a moment before, and not synced yet, may have been lost."""
        self._fsync = "everysec"
        self._scrub: int | None = None
        self._tell = tell
        self._keys: Keys | None = None
        self._full: set[str] = set()
        """Nodes whose disks are full."""
        self._unsynced: set[str] = set()
        """Nodes whose disks fail to sync."""
        self._crashed: set[str] = set()
        """Nodes that have lost a disk."""
        self._away: set[str] = set()
        """Nodes that were asked to leave."""
        self._spare: set[str] = set()
        """Nodes that were started to replace others; they may wait in vain."""
        self._lied = False
        """Whether a disk has lied."""
        self.rolled_back = False
        """Whether ZooKeeper has an older disk, and the ring has not been restored since."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Telling

    def say(self, sentence: str) -> None:
        """Add a line to the timeline."""
        moment = Moment(self.now(), sentence)
        self.timeline.append(moment)
        if self._tell is not None:
            self._tell(moment)

    def expect(self, holds: bool, sentence: str) -> None:
        """What must be so in this scenario; that it is not is a violation, and the story goes on."""
        if not holds:
            self.say(f"NOT AS EXPECTED: {sentence}")
            self.unmet.append(Violation(check="expected", sentence=sentence))

    # The cluster

    def start(
        self,
        nodes: int = 3,
        ecs: int = 1,
        *,
        fsync: str = "everysec",
        replicas: int | None = None,
        min_copies: int = MIN_COPIES,
        out_after: float = OUT_AFTER_SECONDS,
        place: Place = "even",
        scrub: int | None = None,
    ) -> None:
        """Start a cluster, and wait until it serves. ``replicas``: copies of each slot; None: REPLICAS.
        ``min_copies``: how many of them must be up for a write, where there are as many. ``out_after``: who has been
        down for so long is given up; 0: nobody is. ``place``: how nodes get their tokens. ``scrub``: so many bytes per
        second each node compares with their other copies in the background; None: as this world does it."""
        copies = "" if replicas is None else f", {'one copy' if replicas == 1 else f'{replicas} copies'} of each slot"
        copies += "" if min_copies == MIN_COPIES else f", {min_copies} needed for a write"
        copies += "" if out_after == OUT_AFTER_SECONDS else f", {_given_up_after(out_after)}"
        copies += "" if place == "even" else f", placed by {place}"
        copies += "" if scrub is None else f", compared at {scrub} bytes per second"
        parts = f"{_count(nodes, 'node')}, {_count(ecs, 'control service')} and ZooKeeper"
        self.say(f"{parts} start; fsync is {fsync}{copies}")
        self._fsync, self._scrub = fsync, scrub
        self._start(nodes, ecs, fsync, REPLICAS if replicas is None else replicas, min_copies, out_after, place)
        self.wait_until(self.serves, SERVES_SECONDS_MAX, "the cluster serves")

    def join(self, count: int = 1, place: Place | None = None) -> tuple[str, ...]:
        """Start more nodes, which join the ring; returns their ids. ``place``: how they get their tokens; None: as all
        nodes of the ring do."""
        ids = self._join(count, place)
        self.say(f"{_listed(ids)} started, to join the ring{'' if place is None else f', placed by {place}'}")
        return ids

    def replace(self, id: str) -> tuple[str, int]:
        """Start a node that is put in the place of another, which leaves the ring; returns its id, and the number of
        the job. Raises RefusedByCluster."""
        order = self._replace(id)
        new, job = str(order["by"]), int(order["job"])
        self._away.add(id)
        self.say(f"{new} started, to replace {id}: job {job}")
        return new, job

    def copies(self, replicas: int, min_copies: int) -> int:
        """Ask for another number of copies of each slot; returns the number of the job. Raises RefusedByCluster."""
        job = int(self._command("REPLICAS", str(replicas), "MIN", str(min_copies))["job"])
        self.say(f"there are to be {replicas} copies of each slot, {min_copies} needed for a write: job {job}")
        return job

    def balance(self, by: By = "slots", threshold: float = 0.05) -> int:
        """Ask for even shares; returns the number of the job, 0 when nothing has to move. Raises RefusedByCluster."""
        asked = self._command("BALANCE", "BY", by, "THRESHOLD", f"{100 * threshold:g}")
        job, found = int(asked["job"] or 0), asked["balance"]
        peaks = f"{found['peak_before']:.2f} times its part now, {found['peak_after']:.2f} then"
        why = f"job {job}" if job else found["why_not"]
        self.say(f"the ring is to be balanced by {by}, the busiest node has {peaks}: {why}")
        return job

    def balance_by_itself(self, by: By, threshold: float) -> None:
        """Have the cluster keep shares even from now on. Raises RefusedByCluster."""
        self._command("BALANCE", "AUTO", "ON", "BY", by, "THRESHOLD", f"{100 * threshold:g}")
        self.say(f"the ring is to keep itself balanced by {by}, within {threshold:.0%}")

    def limit(self, bytes_per_second: int) -> None:
        """Have each node send no more than this of slots that move, until it is calm; 0: as much as it can. Raises
        RefusedByCluster."""
        self._command("LIMIT", "BYTES_PER_SECOND", str(bytes_per_second))
        speed = f"{bytes_per_second} bytes per second" if bytes_per_second else "any speed"
        self.say(f"slots are to move at {speed}")

    def move_slowly(self, seconds: float) -> Load:
        """Begin to write what is heavy, and have a node take about so long to send all of that; returns the load."""
        load = self.load(clients=1, operations_per_second=HEAVY_PER_SECOND, manner="heavy")
        self.wait_for(HEAVY_KEYS, load)
        self.limit(round(HEAVY_KEYS * HEAVY_BYTES / seconds))
        return load

    def weigh(self, id: str, capacity: int) -> None:
        """Say how many times the load of others a node is to have. Raises RefusedByCluster."""
        self._command("BALANCE", "CAPACITY", id, str(capacity))
        self.say(f"{id} is of capacity {capacity} now")

    def rest(self, id: str) -> int:
        """Have a node restarted in order; returns the number of the job that takes it down. Raises RefusedByCluster
        when it cannot be now."""
        job = int(self._command("RESTART", id)["job"])
        self.say(f"{id} is to be restarted in order: job {job}")
        return job

    def leave(self, id: str) -> int:
        """Ask for a node to be taken out of the ring; returns the number of the job. Raises RefusedByCluster."""
        job = int(self._command("REMOVE", id)["job"])
        self._away.add(id)
        self.say(f"{id} is to leave the ring: job {job}")
        return job

    def cancel(self, job: int) -> None:
        """Give up a change of the ring. Raises RefusedByCluster when it has ended."""
        self._command("CANCEL", str(job))
        self.say(f"job {job} is cancelled")

    def kill(self, id: str) -> None:
        """End a node as SIGKILL does. It stays dead until it is restarted."""
        self.say(f"{id} is killed")
        self._kill(id)

    def restart(self, id: str) -> None:
        """Start a node again; one that lives is ended in order first."""
        self.say(f"{id} is started again")
        self._restart(id)

    def pause(self, id: str) -> None:
        """Stop a node as SIGSTOP does."""
        self.say(f"{id} is paused")
        self._pause(id)

    def resume(self, id: str) -> None:
        """Let a paused node go on."""
        self.say(f"{id} goes on")
        self._resume(id)

    def slow(self, id: str, turn_seconds: float) -> None:
        """From now on every turn of a node takes so long; 0: no longer."""
        self.say(f"{id} is slow: {turn_seconds * 1000:g} ms a turn" if turn_seconds else f"{id} is no longer slow")
        self._slow(id, turn_seconds)

    def delay(self, sender: str, id: str, seconds: float) -> None:
        """From now on all that ``sender`` (a node, or zookeeper) sends to a node takes so much longer; 0: no longer."""
        late = f"takes {seconds * 1000:g} ms longer" if seconds else "is no longer late"
        self.say(f"what {sender} sends to {id} {late}")
        self._delay(sender, id, seconds)

    def partition(self, some: Iterable[str], others: Iterable[str], *, one_way: bool = False) -> None:
        """Let nothing through between two groups of nodes; ``one_way``: nothing from the first to the second."""
        some, others = tuple(some), tuple(others)
        self.say(f"nothing comes through from {_listed(some)} to {_listed(others)}{'' if one_way else ' and back'}")
        self._partition(some, others, one_way)

    def reset(self, one: str, other: str) -> None:
        """Break all connections between two nodes, with what is under way on them."""
        self.say(f"the connections between {one} and {other} break")
        self._reset(one, other)

    def heal(self) -> None:
        """End all partitions."""
        self.say("the network is whole")
        self._heal()

    def lose_session(self, id: str) -> None:
        """ZooKeeper ends a node's session, as if it had not been heard for too long."""
        self.say(f"{id} loses its ZooKeeper session")
        self._lose_session(id)

    def zookeeper_away(self, seconds: float) -> None:
        """ZooKeeper is gone, and back after about so long; returns at once."""
        self.say(f"ZooKeeper is away for {seconds:.1f} s")
        self._zookeeper_away(seconds)

    def copy_zookeeper(self) -> None:
        """Keep a copy of ZooKeeper's disk as it is now, in the place of an earlier one."""
        self.say("ZooKeeper's disk is copied")
        self._copy_zookeeper()

    def put_zookeeper_back(self) -> None:
        """ZooKeeper dies, and comes back with what was copied: all that it was told since is lost."""
        self.say("ZooKeeper is killed, and comes back with the copy of its disk")
        self._put_zookeeper_back()
        self.rolled_back = True

    def restore_ring(self, *options: str) -> int:
        """Have the ring written back that ZooKeeper has lost; returns its epoch, or that of a ring after it. Raises
        RefusedByCluster."""
        before = self.ring()
        try:
            epoch = int(self._command("RESTORE", *options)["epoch"])
        except RefusedByCluster:
            # Who was asked may have begun anew before it answered: then nothing is lost when it is asked once more.
            ring = self.ring()
            if ring is None or before is not None and ring.epoch < before.epoch + EPOCHS_SKIPPED:
                raise
            epoch = ring.epoch
        self.rolled_back = False
        self.say(f"the newest ring is written back: ring {epoch}")
        return epoch

    def unheard(self) -> tuple[str, ...]:
        """Who has not said yet what ring it holds, where that is lost in ZooKeeper. Raises RefusedByCluster."""
        return tuple(self._command("RESTORE", "DRYRUN")["unheard"])

    def kill_ecs_leader(self) -> None:
        """Kill the control service that leads. It is brought back after a moment, and may lead again."""
        self.say(f"the leading control service is killed{self._kill_ecs_leader()}")

    def pause_ecs_leader(self, seconds: float) -> None:
        """Stop the control service that leads as SIGSTOP does, for so long; returns at once. It may believe afterwards
        that it still leads."""
        self.say(f"the leading control service is paused for {seconds:.1f} s{self._pause_ecs_leader(seconds)}")

    def cut_power(self, id: str) -> None:
        """A node's machine loses power: what was not synced may be gone. It stays dead until it is restarted."""
        self.say(f"{id} loses power")
        self._cut_power(id)

    def crash_disk(self, id: str) -> None:
        """A node is killed, and all that was on its disk is lost."""
        self.say(f"{id} is killed and loses its disk")
        self._crashed.add(id)
        self._crash_disk(id)

    def fill_disk(self, id: str) -> None:
        """From now on a node's disk takes nothing more, until it is calm or the disk is emptied."""
        self.say(f"the disk of {id} is full")
        self._fill_disk(id, True)
        self._full.add(id)

    def empty_disk(self, id: str) -> None:
        """There is room on a node's disk again. A node that has ended for want of it is still to be restarted."""
        self.say(f"there is room on the disk of {id} again")
        self._fill_disk(id, False)
        self._full.discard(id)

    def fail_syncs(self, id: str, failure: str = IO_ERROR) -> None:
        """From now on a node's disk takes what is written, and fails to sync it, until it is calm or the disk works
        again. What was not synced may be gone with the life that wrote it."""
        self.say(f"the disk of {id} fails to sync: {failure}")
        self._fail_syncs(id, failure)
        self._unsynced.add(id)

    def mend_syncs(self, id: str) -> None:
        """A node's disk syncs again."""
        self.say(f"the disk of {id} syncs again")
        self._fail_syncs(id, "")
        self._unsynced.discard(id)

    def lie(self, id: str, how: Lie) -> bytes:
        """What a node's disk holds under some key is not what was written there; returns the key. It is one of those
        that clients use. Raises NotInTime when the node holds none of them."""
        key = self._lie(id, how)
        self._lied = True
        self.say(f"the disk of {id} lies about {key.decode()}: {LIES[how]}")
        return key

    def verify(self, seconds_max: float = VERIFIED_SECONDS_MAX) -> int:
        """Have every node that is up compare all its slots with their other copies, and have bad copies made anew;
        returns how many differences were found. A node that goes down meanwhile is waited for no longer."""
        members = self.members()
        for id in members:
            self._ask(id, "RING", "VERIFY", "START", "REPAIR")
        found: dict[str, Any] = {}

        def all_are_done() -> bool:
            for id in members:
                found[id] = self._ask(id, "RING", "VERIFY")
            return all(each is None or each["state"] != "running" for each in found.values())

        self.wait_until(all_are_done, seconds_max, "all copies are compared")
        differences = sum(int(each.get("different", 0)) for each in found.values() if each is not None)
        self.say(f"all copies are compared: {differences} slots differ")
        return differences

    def begin_verify(self) -> None:
        """Have every node that is up begin to compare all its slots with their other copies; it goes on by itself."""
        self.say("all copies are to be compared")
        for id in self.members():
            self._order(id, "RING", "VERIFY", "START")

    def kill_everything(self) -> None:
        """Kill every process of the cluster: nodes, control services, ZooKeeper."""
        self.say("every process of the cluster is killed")
        self._kill_everything()

    def cut_all_power(self) -> None:
        """Every machine loses power in the same moment. Unless fsync is always, the last of what was acknowledged may
        be gone."""
        self.say("every machine of the cluster loses power")
        self._cut_all_power()
        if self._fsync != "always":
            self.power_cuts.append(self.now())

    def start_everything(self) -> None:
        """Start every process that is dead, except nodes that have left. The cluster may take a while to serve."""
        self.say("everything is started again")
        self._start_everything()

    # Time

    @abstractmethod
    def now(self) -> float:
        """Seconds since the stage was made: virtual, or of a clock that never goes back."""

    @abstractmethod
    def let_pass(self, seconds: float) -> None:
        """Let time pass. For moments that chance chooses; what shall come to be is waited for by ``wait_until``."""

    def moment(self, seconds_max: float) -> None:
        """Let some time pass, up to this much."""
        self.let_pass(self.random.uniform(0.0, seconds_max))

    def wait_until(self, condition: Callable[[], bool], seconds_max: float, what: str) -> None:
        """Let time pass until a condition holds. Raises NotInTime, saying that ``what`` did not come to be."""
        if not self._wait(condition, seconds_max):
            raise NotInTime(f"in {seconds_max:g} s it did not come to be that {what}")

    def wait_for_members(self, ids: Iterable[str], seconds_max: float = MEMBERS_SECONDS_MAX) -> None:
        """Wait until these nodes are members of the ring, and up."""
        wanted = set(ids)
        self.wait_until(lambda: wanted <= set(self.members()), seconds_max, f"{_listed(sorted(wanted))} are members")

    def wait_for_phase(self, phase: Phase, seconds_max: float = PHASE_SECONDS_MAX) -> bool:
        """Wait until the change in flight, or the next that begins, has come to a phase; False when it was over first.

        On real processes a phase is short, and may pass unseen between two looks: that, too, is False.
        """
        begun = [False]

        def reached() -> bool:
            ring = self.ring()
            in_flight = ring.change if ring is not None else None
            begun[0] = begun[0] or in_flight is not None
            if in_flight is None:
                return begun[0]
            return PHASES.index(in_flight.phase) >= PHASES.index(phase)

        self._wait(reached, seconds_max, closely=True)
        return self.phase() == phase

    def wait_for_job(self, job: int, seconds_max: float = CALM_SECONDS_MAX) -> str:
        """Wait until a job has ended, and return how: done, aborted or cancelled."""
        self.wait_until(lambda: bool(self._outcome(job)), seconds_max, f"job {job} has ended")
        self.say(f"job {job} is {self._outcome(job)}")
        return self._outcome(job)

    def _outcome(self, job: int) -> str:
        ring = self.ring()
        writes = ring.history if ring is not None else ()
        return next((str(write.outcome) for write in reversed(writes) if write.job == job and write.outcome), "")

    # Load

    def load(
        self,
        what: str | Mix = "mixed",
        *,
        clients: int = 3,
        keys: int = 20,
        operations_per_second: float = OPERATIONS_PER_SECOND,
        manner: Manner = "",
        skew: float = 0.0,
    ) -> Load:
        """Begin a load. ``what``: one of MIXES, or a mix. ``operations_per_second``: of one client, about. ``manner``:
        see `workload.py`; what is written in a manner is of no mix. ``skew``: as for a `Workload`.

        All loads of a story use the same keys, so that there is one history of each.
        """
        mix = MIXES[what] if isinstance(what, str) else what
        if self._keys is None:
            self._keys = Keys.drawn(self.random, keys)
        first = sum(len(load.workloads) for load in self.loads) + 1
        names = [f"client-{number}" for number in range(first, first + clients)]
        workloads = [
            Workload(name, random_module.Random(f"{self.seed} {name}"), self._keys, mix, manner, skew) for name in names
        ]
        work = manner or (what if isinstance(what, str) else ", ".join(mix))
        self.say(f"{_count(clients, 'client')} at work: {work}{f', skewed by {skew:g}' if skew else ''}")
        load = self._load(workloads, operations_per_second)
        self.loads.append(load)
        return load

    def change_fashion(self, load: Load) -> None:
        """From now on others of the keys are asked for most. For a load with a skew."""
        for workload in load.workloads:
            workload.fashion += max(1, len(self.keys().registers) // 3)
        self.say("other keys are asked for most")

    def keys(self) -> Keys:
        """Those of the loads. To be asked when there is one."""
        assert self._keys is not None, "no load has begun on this stage yet"
        return self._keys

    def wait_for(self, operations: int, load: Load, seconds_max: float = 60.0) -> None:
        """Wait until a load has completed so many more operations."""
        target = load.completed + operations
        self.wait_until(lambda: load.completed >= target, seconds_max, f"{operations} more operations are completed")

    # Looking

    @abstractmethod
    def ring(self) -> Ring | None:
        """The newest ring; None: there is none, or nobody who could be asked."""

    @abstractmethod
    def lives(self) -> dict[str, Life]:
        """The nodes whose processes run and can be looked at, by id."""

    @abstractmethod
    def state(self) -> ClusterState:
        """All that the nodes hold and do, for the checks. Raises NotInTime when they cannot be asked."""

    def members(self) -> tuple[str, ...]:
        """The nodes of the ring that are up, by id ascending."""
        ring = self.ring()
        return tuple(sorted(node.id for node in ring.circle if node.state == "up")) if ring is not None else ()

    def phase(self) -> Phase | None:
        """Of the change in flight, if there is one."""
        ring = self.ring()
        return ring.change.phase if ring is not None and ring.change is not None else None

    def seals(self) -> bool:
        """Whether slots are sealed, or some node may not have read yet that they no longer are, or that it has left."""
        ring, lives = self.ring(), self.lives()
        left = [node.id for node in ring.nodes if node.state == "out" and node.id in lives] if ring is not None else []
        return self.phase() == "seal" or bool(left) or bool(self._why_not_serving(ring, lives))

    def slots(self, id: str) -> int:
        """How many slots lie in a node's range."""
        ring = self.ring()
        return sum(run.size for run in ring.slots_of(id)) if ring is not None else 0

    def serves(self) -> bool:
        """Whether there is a ring, and each of its nodes is up, runs in the life that the ring names, and obeys it."""
        return not self._why_not_serving(self.ring(), self.lives())

    def _why_not_serving(self, ring: Ring | None, lives: dict[str, Life]) -> str:
        if ring is None:
            return "there is no ring, or nobody who knows it"
        for node in ring.circle:
            if node.state != "up":
                return f"{node.id} is {node.state}"
            if node.id not in lives or lives[node.id].incarnation != node.incarnation:
                return f"{node.id} does not run in the life that ring {ring.epoch} names"
            if lives[node.id].epoch != ring.epoch:
                return f"{node.id} obeys ring {lives[node.id].epoch}, not {ring.epoch}"
        return "" if ring.serving else f"ring {ring.epoch} does not serve"

    def why_not_settled(self) -> str:
        """What is not at rest in the ring, in words; "" when everything is."""
        ring = self.ring()
        if (why := self._why_not_serving(ring, self.lives())) or ring is None:
            return why
        if ring.change is not None:
            return f"{ring.change} is in {ring.change.phase}"
        return f"{ring.queue[0]} waits" if ring.queue else ""

    def why_not_steady(self) -> str:
        """As above; and nobody runs who is still to join, or has left and is still to end."""
        if why := self.why_not_settled():
            return why
        ring, lives = self.ring(), self.lives()
        known = {node.id for node in ring.circle} | set(ring.held_back) if ring is not None else set()
        known |= self._spare
        strangers = sorted(id for id in lives.keys() - known if not self._waits_on_purpose(id))
        return f"{_listed(strangers)} run and are no members" if strangers else ""

    def _waits_on_purpose(self, id: str) -> bool:
        """Whether a node runs that knew when it was started that it had left: it waits to be asked."""
        return False

    # The end

    def calm(self) -> None:
        """End all faults, start everybody, wait until the ring is at rest, stop the loads, wait until all is tidy.

        Where ZooKeeper has an older ring the newest is restored; where a disk has lied all copies are compared. Slots
        move at any speed."""
        self.say("calm: all faults end, everybody is started")
        for id in sorted(self._full):
            self.empty_disk(id)
        for id in sorted(self._unsynced):
            self.mend_syncs(id)
        self._end_faults()
        self._start_everything()
        accept_loss_at = self.now() + UNHEARD_SECONDS
        self._become(lambda: self._why_not_settled_or_restored(accept_loss_at))
        for _ in range(COMPARED_MAX if self._lied else 0):
            if not self.verify():
                break
            self.let_pass(COMPARED_PAUSE_SECONDS)
            self._become(self.why_not_settled)
        for load in self.loads:
            load.stop()
        for _ in range(COMPARED_MAX):
            self._become(self.why_not_steady)
            with suppress(NotInTime):  # as below
                self.wait_until(self._answers, ANSWERS_SECONDS_MAX, "every slot is answered for")
            with suppress(NotInTime):  # then the check says what is where it should not be
                self.wait_until(
                    self._tidy, TIDY_SECONDS_MAX, "no node holds what is not its own, or is about to expire"
                )
            if not (self._lied and self.why_not_steady()):
                break  # else a lie has come out only now, in slots that are another's
        ring = self.ring()
        self.say(f"the cluster is steady: {_listed(self.members())} in ring {ring.epoch if ring is not None else 0}")

    def _why_not_settled_or_restored(self, accept_loss_at: float) -> str:
        """As ``why_not_settled``; it also tries to have slots move at any speed, and the ring restored that ZooKeeper
        has lost. Where for some time only nodes are not heard that have lost the disk that is meant, it says that this
        is lost, as a person would."""
        ring = self.ring()
        if ring is not None and ring.move_bytes_per_second and not self.rolled_back:
            with suppress(RefusedByCluster):  # nobody leads yet
                self.limit(0)
        why = self.why_not_settled()
        if why and self.rolled_back:
            try:
                unheard = self.unheard() if self.now() > accept_loss_at else ()
                lost = unheard and self._crashed.issuperset(unheard)
                self.restore_ring(*(["ACCEPTLOSS"] if lost else []))
            except RefusedByCluster as refusal:
                return f"{why}; the ring is not restored: {refusal}"
        return why

    def _become(self, why_not: Callable[[], str]) -> None:
        """Wait until there is no reason left why it should not be so."""
        why = ""

        def over() -> bool:
            nonlocal why
            why = why_not()
            return not why

        if not self._wait(over, CALM_SECONDS_MAX):
            raise NotInTime(f"in {CALM_SECONDS_MAX:g} s of calm the cluster did not become steady: {why}")

    def _answers(self) -> bool:
        return not every_slot_served(self.state())

    def _tidy(self) -> bool:
        state = self.state()
        return not no_foreign_slots(state) and not about_to_expire(state, self.history)

    @abstractmethod
    def close(self) -> None:
        """End everything. May be called again."""

    # What worlds do

    @abstractmethod
    def _wait(self, condition: Callable[[], bool], seconds_max: float, *, closely: bool = False) -> bool:
        """Let time pass until a condition holds; False if it did not in time. ``closely``: look as often as can be."""

    @abstractmethod
    def _command(self, verb: str, *arguments: str) -> dict[str, Any]:
        """What a verb of RING answers. Raises RefusedByCluster."""

    @abstractmethod
    def _load(self, workloads: Sequence[Workload], operations_per_second: float) -> Load: ...
    @abstractmethod
    def _start(
        self, nodes: int, ecs: int, fsync: str, replicas: int, min_copies: int, out_after: float, place: Place
    ) -> None: ...
    @abstractmethod
    def _join(self, count: int, place: Place | None) -> tuple[str, ...]: ...
    @abstractmethod
    def _replace(self, id: str) -> dict[str, Any]:
        """What RING REPLACE answers."""

    @abstractmethod
    def _kill(self, id: str) -> None: ...
    @abstractmethod
    def _restart(self, id: str) -> None: ...
    @abstractmethod
    def _pause(self, id: str) -> None: ...
    @abstractmethod
    def _resume(self, id: str) -> None: ...
    @abstractmethod
    def _slow(self, id: str, turn_seconds: float) -> None: ...
    @abstractmethod
    def _delay(self, sender: str, id: str, seconds: float) -> None: ...
    @abstractmethod
    def _partition(self, some: tuple[str, ...], others: tuple[str, ...], one_way: bool) -> None: ...
    @abstractmethod
    def _reset(self, one: str, other: str) -> None: ...
    @abstractmethod
    def _heal(self) -> None: ...
    @abstractmethod
    def _lose_session(self, id: str) -> None: ...
    @abstractmethod
    def _zookeeper_away(self, seconds: float) -> None: ...
    @abstractmethod
    def _copy_zookeeper(self) -> None: ...
    @abstractmethod
    def _put_zookeeper_back(self) -> None: ...
    @abstractmethod
    def _kill_ecs_leader(self) -> str:
        """Returns words for the timeline that follow on "is killed"."""

    @abstractmethod
    def _pause_ecs_leader(self, seconds: float) -> str:
        """As _kill_ecs_leader."""

    @abstractmethod
    def _cut_power(self, id: str) -> None: ...
    @abstractmethod
    def _crash_disk(self, id: str) -> None: ...
    @abstractmethod
    def _fill_disk(self, id: str, full: bool) -> None: ...
    @abstractmethod
    def _fail_syncs(self, id: str, failure: str) -> None:
        """ "": they work again."""

    @abstractmethod
    def _lie(self, id: str, how: Lie) -> bytes: ...
    @abstractmethod
    def _ask(self, id: str, *words: str) -> dict[str, Any] | None:
        """What one node answers to a command that is answered in JSON; None: it does not."""

    @abstractmethod
    def _order(self, id: str, *words: str) -> None:
        """Send a command to one node, whatever it answers."""

    @abstractmethod
    def _kill_everything(self) -> None: ...
    @abstractmethod
    def _cut_all_power(self) -> None: ...
    @abstractmethod
    def _start_everything(self) -> None: ...
    @abstractmethod
    def _end_faults(self) -> None:
        """Pauses, slowness, partitions, and what else is there no more when it is calm."""


def _given_up_after(seconds: float) -> str:
    return f"who is down for {seconds:g} s is given up" if seconds else "nobody is given up"


def _count(number: int, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"


def _listed(names: Iterable[str]) -> str:
    *some, last = (*names,) or ("nobody",)
    return f"{', '.join(some)} and {last}" if some else last
