"""Makes up stories: what befalls a cluster, and when, drawn from a seed; and makes one that fails shorter.

    seed --draw--> Schedule --as_scenario--> Scenario, to be played    a failing Schedule --reduced--> a shorter one

A `Schedule` is plain data, and JSON in a file, so that it can be looked at, changed by hand and played again. An event
names no node: ``who`` is a number, and means one of those that run at that moment, so an event makes sense whatever
became of those before it. What lasts (a pause, a partition, a death) has its end in the same event: whoever leaves the
event out leaves out all of it.

Every seed chooses the few kinds of events that its story is made of, and how often each comes: a story of everything at
once seldom goes deep (swarm testing, Groce et al. 2012). Moments come in bursts, since what goes wrong goes wrong in
the midst of something else.

Nothing befalls a cluster that may lose acknowledged writes. With one copy of each slot power is cut only under ``fsync
= always``, and no disk is lost. With several a disk may be lost, and power be cut whatever ``fsync`` is, but only of a
node all of whose lists keep an up member that nothing like it has befallen in this life; and not where a list is in
trouble, or where one copy is enough for a write, since that very node may be the last to hold everything. It is decided
when it is to happen. The same goes for a disk that fails to sync, unless ``fsync = always``, and for one that lies;
where one does, dead nodes are not given up in the midst of the story. Several may lie at once, as long as each list has
a member that holds everything, which nothing befalls then. What lies is a bit that is flipped: what has a good checksum
passes for what was written, until all copies are compared. Where ZooKeeper has an older ring no disk is touched until
the newest is restored.
"""

import heapq
import random as random_module
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal, get_args

import msgspec

from ..actors.config import OUT_AFTER_SECONDS
from ..actors.rules.change import Wish
from ..actors.rules.ring import Node, Ring
from ..actors.rules.transitions import target
from .play import Scenario
from .stage import HEAVY_PER_SECOND, IO_ERROR, NO_ROOM, PHASES, NotInTime, Phase, RefusedByCluster, Stage
from .workload import HEAVY_BYTES, HEAVY_KEYS, MANNERS, MIXES, Manner

What = Literal[
    "join",
    "leave",
    "cancel",
    "kill",
    "restart",
    "pause",
    "session",
    "zookeeper",
    "kill ecs",
    "pause ecs",
    "cut",
    "cut from zookeeper",
    "slow",
    "late news",
    "late words",
    "late line",
    "reset",
    "cut power",
    "crash disk",
    "fill disk",
    "lie",
    "replace",
    "copies",
    "old zookeeper",
    "fail syncs",
    "verify",
    "limit",
]
"""What may happen. ``kill``, ``cut power``, ``crash disk``, ``fill disk``, ``fail syncs``, ``pause``, ``slow``, the
cuts, what is late, a ``limit``, and ``zookeeper`` last for ``seconds``; an old ZooKeeper is what it was ``seconds``
before, until its ring is restored. Late news: a node hears of ZooKeeper, hence of every ring, later than others; late
words: others hear of it later; a late line: one other does. A reset breaks the connections of two nodes, with what is
under way on them."""
WHATS: tuple[What, ...] = get_args(What)

CHANGES: tuple[What, ...] = ("join", "leave")
LINE_FAULTS: tuple[What, ...] = ("late line", "reset")
"""What befalls the lines between two nodes."""
HEALED_FAULTS: tuple[What, ...] = ("fill disk", "lie", "replace", "copies", "old zookeeper", "kill", "crash disk")
"""What a cluster heals, and what changes its copies."""
DISK_FAULTS: tuple[What, ...] = ("fail syncs", "lie", "verify")
"""What copies are compared for, and that they are."""
ONE_COPY_FAULTS: tuple[What, ...] = tuple(
    what
    for what in WHATS
    if what not in (*CHANGES, *LINE_FAULTS, *HEALED_FAULTS, *DISK_FAULTS, "limit") or what == "kill"
)
COPIES_FAULTS: tuple[What, ...] = ("kill", "pause", "cut", "cut from zookeeper", "session", "cut power", "crash disk")
"""What rings with several copies are there for."""
KINDS = (1, 5)
"""So many kinds of events, besides changes of the ring, a story is made of."""

STORY_SECONDS = (5.0, 40.0)
PAUSE_SECONDS = ((0.0, 0.05), (0.0, 0.5), (0.0, 4.0))
"""Between two events: in a burst, in a row, at leisure; each as often."""
LASTS_SECONDS = (0.05, 0.5, 2.0, 5.0, 9.0)
"""About so long lasts what lasts: shorter and longer than the bounds of the cluster, of which a session is one."""
COPIES_LAST_SECONDS = (0.9, 1.2, 1.8, 2.5, 6.0)
"""About so long last those: as long as a lease, a suspicion, a session."""
ALONE_SECONDS = (1.0, 8.0)
"""So long all are dead, or one of them is back alone."""
DOUBT_SECONDS = (0.3, 0.6)
"""How late others hear of what is written when all of them are about to die."""
OFTEN_PER_SECOND = (5.0, 15.0, 40.0)
"""So much is asked for."""
MEMBERS_MAX = 7
OUT_AFTER_SECONDS_DRAWN = (OUT_AFTER_SECONDS, 2.0, 5.0)
"""After so long a dead node is given up: after the story, or in its midst."""
RESTORE_SECONDS = 1.0
"""Between two attempts to have a lost ring restored."""
TURN_SECONDS = (0.001, 0.02, 0.2)
"""How slow a slow node is."""
LATE_SECONDS = (0.02, 0.3, 1.2)
"""How late what is late comes: longer than a phase of a change lasts otherwise."""

LINE_SECONDS = (0.02, 0.1, 0.3, 0.6)
"""How late a late line is: less than it takes to be suspected, or just so much."""
DISTANCE_SECONDS = (0.0, 0.0, 0.0, 0.01, 0.05, 0.15)
"""How much longer what one node says to another is under way than next door: what lasts a moment there, as the walk of
a handoff does, then lasts long enough to be met by something."""
PHASE_SECONDS_MAX = 3.0
"""So long an event that is to meet a phase of a change waits for it."""
PHASE_LOOK_SECONDS = 0.002

MOVES_SECONDS = (2.0, 6.0, 20.0)
"""About so long it takes in a slow story until a node has sent all that is heavy."""
MET_SECONDS = (0.2, 4.0)
"""So long a slow change has been under way when something meets it."""
SYNC_FAILS_SECONDS_MIN = 1.2
"""A disk that is synced once a second is to fail at least once."""
SCRUB_BYTES_PER_SECOND = (0, 0, 50_000, 1_000_000)
"""So fast are copies compared in the background: not at all, in a minute, at once."""

REDUCE_SECONDS_MAX = 60.0


class NotASchedule(Exception):
    """Raised for a text that is no schedule; says why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens."""

    at: float
    """Seconds since the load began."""
    what: What
    who: int = 0
    """Which of the nodes that run, counted round and round."""
    other: int = 0
    """To a cut: the other side. Equal to ``who``: all others."""
    seconds: float = 0.0
    """How long it lasts."""
    number: int = 1
    """To a join: how many nodes. To copies: how many there are to be of each slot."""
    needed: int = 1
    """To copies: how many of them a write needs."""
    turn_seconds: float = 0.0
    """To a slow node: how slow."""
    late_seconds: float = 0.0
    one_way: bool = False
    phase: Phase | None = None
    """It waits for the change in flight, or the next that begins, to come to this phase; None: it does not wait."""
    no_room: bool = False
    """To syncs: they fail for want of room."""
    bytes_per_second: int = 1000
    """To a limit: what slots move at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A story as data."""

    seed: int
    """Of everything that the schedule does not say: the network's delays, the clients' wishes."""
    nodes: int
    ecs: int
    fsync: str
    mix: str
    clients: int
    keys: int
    operations_per_second: float
    seconds: float
    """How long it goes on, calm apart."""
    events: tuple[Event, ...]
    copies: int = 1
    """Of each slot."""
    min_copies: int = 2
    """How many of them must be up for a write."""
    out_after_seconds: float = OUT_AFTER_SECONDS
    """Who has been down for so long is given up."""
    distance_seconds: float = 0.0
    """How far the nodes are from each other; 0: next door."""
    manners: tuple[Manner, ...] = ()
    """Besides the others, a client for each, which asks for no more than its manner (`workload.py`) says."""
    readers: int = 0
    """Besides the others, so many clients only read: who writes waits where reads are answered, and writes are not."""
    heavy: bool = False
    """Some values are so large that moving them lasts."""
    scrub_bytes_per_second: int = 0
    """So fast are copies compared in the background; 0: they are not."""
    many_lie: bool = False
    """A disk may lie where another does already."""

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Schedule":
        """Raises NotASchedule."""
        try:
            schedule = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotASchedule(str(error)) from error
        if schedule.mix not in MIXES:
            raise NotASchedule(f"the mix {schedule.mix!r} is none of {', '.join(MIXES)}")
        counts = schedule.nodes, schedule.ecs, schedule.clients, schedule.keys, schedule.copies, schedule.min_copies
        if min(*counts, schedule.operations_per_second) <= 0:
            raise NotASchedule(
                "a story needs nodes, control services, clients, keys, copies, and something that is asked"
            )
        return schedule


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    random = random_module.Random(f"{seed} schedule")
    fsync = random.choice(("everysec", "everysec", "always", "never"))
    faults = [what for what in ONE_COPY_FAULTS if what != "cut power" or fsync == "always"]
    kinds = [*CHANGES, *random.sample(faults, random.randint(*KINDS))]
    weights = [random.choice((1, 1, 2, 4)) for _ in kinds]
    seconds = random.uniform(*STORY_SECONDS)
    events = []
    at = random.uniform(0.0, 1.0)
    while at < seconds:
        (what,) = random.choices(kinds, weights)
        events.append(_event(random, at, what))
        at += random.uniform(*random.choice(PAUSE_SECONDS))
    schedule = Schedule(
        seed=seed,
        nodes=random.choice((1, 2, 3, 3, 4, 5)),
        ecs=random.choice((1, 2, 2, 3)),
        fsync=fsync,
        mix=random.choice(("mixed", "mixed", "mixed", "read and write", "incr")),
        clients=random.randint(1, 5),
        keys=random.choice((5, 15, 40)),
        operations_per_second=random.choice(OFTEN_PER_SECOND),
        seconds=round(seconds, 3),
        events=tuple(events),
    )
    schedule = _with_copies(schedule, random_module.Random(f"{seed} copies"))
    schedule = _with_lines(schedule, random_module.Random(f"{seed} lines"))
    schedule = _with_healing(schedule, random_module.Random(f"{seed} healing"))
    schedule = _with_all_dead(schedule, random_module.Random(f"{seed} all dead"))
    return _with_more(schedule, random_module.Random(f"{seed} and more"))


def _with_more(schedule: Schedule, random: random_module.Random) -> Schedule:
    """Every third story with slow moves that are met by something, or with disks that are not to be trusted, or both;
    and with comparisons in the midst of it all."""
    if random.random() < 2 / 3:
        return schedule
    slow = random.random() < 0.6
    events = list(_slow_moves(schedule, random)) if slow else []
    kinds = random.sample(DISK_FAULTS, random.randint(0 if slow else 1, 3))
    if schedule.copies == 1:
        kinds = [what for what in kinds if what == "fail syncs" and schedule.fsync == "always"]
    at = random.uniform(0.5, 3.0)
    while kinds and at < schedule.seconds:
        event = _event(random, at, random.choice(kinds))
        if event.what == "fail syncs":
            lasts = max(event.seconds, SYNC_FAILS_SECONDS_MIN)
            event = replace(event, seconds=lasts, no_room=schedule.copies > 1 and random.random() < 0.4)
        events.append(event)
        at += random.uniform(0.0, random.choice((0.3, 3.0, 8.0)))
    return replace(
        schedule,
        events=tuple(sorted((*schedule.events, *events), key=lambda event: event.at)),
        heavy=slow,
        min_copies=schedule.copies if random.random() < 0.25 else schedule.min_copies,
        scrub_bytes_per_second=random.choice(SCRUB_BYTES_PER_SECOND),
        many_lie=True,
        out_after_seconds=OUT_AFTER_SECONDS if "lie" in kinds else schedule.out_after_seconds,
    )


def _slow_moves(schedule: Schedule, random: random_module.Random) -> Iterator[Event]:
    """Slots move slowly, most of the time, and whatever makes them move is soon followed by something else."""
    several = schedule.copies > 1
    moves: tuple[What, ...] = (*CHANGES, "replace", *(("kill", "crash disk", "copies") if several else ()))
    meets: tuple[What, ...] = ("kill", "pause", "cut", "reset", "session", "kill ecs", "cancel", "restart", *CHANGES)
    if several:
        meets += ("kill", "crash disk", "cut power", "replace")
    limit = round(HEAVY_KEYS * HEAVY_BYTES / random.choice(MOVES_SECONDS))
    at = random.uniform(0.0, 2.0)
    while at < schedule.seconds:
        lasts = random.choice((schedule.seconds, random.uniform(3.0, 12.0)))
        yield replace(_event(random, at, "limit"), seconds=round(lasts, 3), bytes_per_second=limit)
        at += lasts + random.uniform(0.0, 4.0)
    at = random.uniform(1.0, 4.0)
    while at < schedule.seconds:
        copies = random.randint(2, 3)
        yield replace(_event(random, at, random.choice(moves)), number=copies, needed=random.randint(1, copies))
        met = at
        for _ in range(random.choice((0, 1, 1, 2))):
            met += random.uniform(*MET_SECONDS)
            if met < schedule.seconds:
                yield _event(random, met, random.choice(meets))
        at = met + random.uniform(2.0, 12.0)


def _with_healing(schedule: Schedule, random: random_module.Random) -> Schedule:
    """Every other story with what a cluster heals by itself, and with changes of its copies."""
    if random.random() < 0.5:
        return schedule
    kinds = random.sample(HEALED_FAULTS, random.randint(1, 4))
    if schedule.copies == 1:
        kinds = [what for what in kinds if what not in ("lie", "crash disk")] or ["replace", "copies"]
    events: list[Event] = []
    at = random.uniform(0.0, 3.0)
    while at < schedule.seconds:
        what = random.choice(kinds)
        again = what == "old zookeeper" and any(event.what == what for event in events)
        copies = random.randint(1, 3)
        event = replace(_event(random, at, what), number=copies, needed=random.randint(1, copies))
        if what == "replace" and random.random() < 0.5:  # it may be dead, or die meanwhile
            events.append(replace(event, what="kill", phase=random.choice((None, *PHASES))))
        if not again:
            events.append(event)
        at += random.uniform(0.0, random.choice((0.3, 4.0, 12.0)))
    return replace(
        schedule,
        events=tuple(sorted((*schedule.events, *events), key=lambda event: event.at)),
        out_after_seconds=OUT_AFTER_SECONDS if "lie" in kinds else random.choice(OUT_AFTER_SECONDS_DRAWN),
    )


def _with_all_dead(schedule: Schedule, random: random_module.Random) -> Schedule:
    """Every fourth story with copies is about few keys, and about lists all of whose members die while writes are in
    doubt, and of which one after the other is back alone for a while: none may show what who follows it may lack."""
    if schedule.copies == 1 or random.random() < 0.75:
        return schedule
    nodes = random.choice((schedule.copies, schedule.copies, schedule.copies + 1))
    events: list[Event] = []
    at = random.uniform(1.0, 3.0)
    while at < schedule.seconds:
        if random.random() < 0.7:  # what is written now only its coordinator has
            late = _event(random, max(0.0, at - random.uniform(0.1, 0.3)), "late words")
            late = replace(late, seconds=random.choice((0.5, 2.0)), late_seconds=random.choice(DOUBT_SECONDS))
            events += [replace(late, who=who) for who in range(nodes)]
        spread = random.choice((0.01, 0.1, 0.5))
        back = at + random.uniform(*ALONE_SECONDS)
        for _ in range(nodes):
            dies = at + random.uniform(0.0, spread)
            events.append(replace(_event(random, dies, "kill"), seconds=round(max(0.1, back - dies), 3)))
            leaves = back + random.uniform(*ALONE_SECONDS)
            if random.random() < 0.7:  # who is back now is alone, and goes before the next one comes
                away = random.choice((1.0, 5.0, 12.0)) * random.uniform(0.8, 1.2)
                events.append(replace(_event(random, leaves, "kill"), seconds=round(away, 3)))
            back = leaves + random.uniform(-0.5, 1.0)
        at = back + random.uniform(*random.choice(((0.0, 3.0), (5.0, 10.0))))
    if random.random() < 0.3:
        events += schedule.events
    return replace(
        schedule,
        nodes=nodes,
        clients=random.randint(2, 4),
        keys=random.randint(1, 3),
        min_copies=max(2, schedule.min_copies),
        readers=random.randint(1, 2),
        operations_per_second=OFTEN_PER_SECOND[-1],
        events=tuple(sorted((event for event in events if event.at < schedule.seconds), key=lambda event: event.at)),
    )


def _with_lines(schedule: Schedule, random: random_module.Random) -> Schedule:
    """Every other story with more of what can be between nodes, with faults that meet a change of the ring, and with
    clients who ask for less."""
    if random.random() < 0.5:
        return schedule
    faults: tuple[What, ...] = ("kill", "pause", "cut", "reset") + (("crash disk",) if schedule.copies > 1 else ())
    if schedule.copies > 1 or schedule.fsync == "always":
        faults += ("cut power",)
    kinds = random.sample((*LINE_FAULTS, "in a change"), random.randint(1, 3))
    events = []
    at = random.uniform(0.0, 2.0)
    while at < schedule.seconds:
        kind = random.choice(kinds)
        if kind == "in a change":
            events.append(_event(random, at, random.choice((*CHANGES, "kill"))))
            for _ in range(random.choice((1, 1, 2))):
                event = _event(random, at, random.choice(faults))
                events.append(replace(event, phase=random.choice(PHASES)))
        else:
            what: What = "reset" if kind == "reset" else "late line"
            events.append(replace(_event(random, at, what), late_seconds=random.choice(LINE_SECONDS)))
        at += random.uniform(0.0, random.choice((0.3, 2.0, 8.0)))
    return replace(
        schedule,
        events=tuple(sorted((*schedule.events, *events), key=lambda event: event.at)),
        distance_seconds=random.choice(DISTANCE_SECONDS),
        manners=tuple(manner for manner in MANNERS if random.random() < 0.5),
    )


def _with_copies(schedule: Schedule, random: random_module.Random) -> Schedule:
    """The story in a ring with as many copies as chance wants, and with more of what these are there for."""
    copies = random.choice((1, 2, 3, 3, 3))
    if copies == 1:
        return schedule
    kinds = random.sample(COPIES_FAULTS, random.randint(1, 3))
    events = []
    at = random.uniform(0.0, 3.0)
    while at < schedule.seconds:
        lasts = round(random.choice(COPIES_LAST_SECONDS) * random.uniform(0.8, 1.2), 3)
        events.append(replace(_event(random, at, random.choice(kinds)), seconds=lasts))
        at += random.uniform(0.0, random.choice((0.1, 2.0, 12.0)))
    return replace(
        schedule,
        nodes=random.choice((2, 3, 3, 4, 5, 6)),
        copies=copies,
        min_copies=random.choice((1, 2, 2, 2, copies)),
        events=tuple(sorted((*schedule.events, *events), key=lambda event: event.at)),
    )


def _event(random: random_module.Random, at: float, what: What) -> Event:
    who = random.randrange(1000)
    return Event(
        at=round(at, 4),
        what=what,
        who=who,
        other=who if random.random() < 0.3 else random.randrange(1000),
        seconds=round(random.choice(LASTS_SECONDS) * random.uniform(0.5, 1.5), 3),
        number=random.choice((1, 1, 2)),
        turn_seconds=random.choice(TURN_SECONDS),
        one_way=random.random() < 0.4,
        late_seconds=random.choice(LATE_SECONDS),
    )


# Playing


def as_scenario(schedule: Schedule) -> Scenario:
    """The scenario that plays a schedule."""

    def setup(stage: Stage) -> None:
        stage.start(
            nodes=schedule.nodes,
            ecs=schedule.ecs,
            fsync=schedule.fsync,
            replicas=schedule.copies,
            min_copies=schedule.min_copies,
            out_after=schedule.out_after_seconds,
            scrub=schedule.scrub_bytes_per_second,
        )
        stage.load(
            schedule.mix,
            clients=schedule.clients,
            keys=schedule.keys,
            operations_per_second=schedule.operations_per_second,
        )
        if schedule.readers:
            stage.load("get", clients=schedule.readers, operations_per_second=schedule.operations_per_second)
        for manner in schedule.manners:
            stage.load("get", clients=1, operations_per_second=min(15.0, schedule.operations_per_second), manner=manner)

        if schedule.heavy:
            stage.load(clients=1, operations_per_second=HEAVY_PER_SECOND, manner="heavy")

    def story(stage: Stage) -> None:
        _Player(stage, schedule).play()

    return Scenario("random story", setup, story, lambda stage: None)


class _Player:
    """Lets events happen at their moments, and end at theirs."""

    def __init__(self, stage: Stage, schedule: Schedule) -> None:
        self._stage, self._schedule = stage, schedule
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._harmed: dict[str, str] = {}
        """Nodes whose disks have lost something, by id, and the life in which that befell them."""
        self._unsynced: set[str] = set()
        """Nodes whose disks have failed to sync: what they hold alone may be lost with their lives."""
        self._lying: dict[str, str] = {}
        """Nodes whose disks lie, by id, and the data directory that is no copy any more."""

    def play(self) -> None:
        schedule, began = self._schedule, self._stage.now()
        self._move_away(sorted(self._stage.lives()))
        for event in schedule.events:
            self._at(began + event.at, lambda event=event: self._happens(event))  # type: ignore[misc]
        self._at(began + schedule.seconds, lambda: None)
        while self._due and self._due[0][0] <= began + schedule.seconds:
            moment, _, do = heapq.heappop(self._due)
            if moment > self._stage.now():
                self._stage.let_pass(moment - self._stage.now())
            do()

    def _at(self, moment: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), do))

    def _after(self, seconds: float, do: Callable[[], object]) -> None:
        self._at(self._stage.now() + seconds, do)

    def _happens(self, event: Event, until: float | None = None) -> None:
        stage = self._stage
        if event.phase is not None and stage.phase() != event.phase:
            until = until if until is not None else stage.now() + PHASE_SECONDS_MAX
            if stage.now() < until:
                self._after(PHASE_LOOK_SECONDS, lambda: self._happens(event, until))
            return
        running = sorted(stage.lives())
        if event.what == "join":
            if len(running) < MEMBERS_MAX:
                self._move_away(stage.join(event.number))
        elif event.what == "cancel":
            self._cancel()
        elif event.what == "replace":
            self._replace(event)
        elif event.what == "copies":
            self._copies(event)
        elif event.what == "old zookeeper":
            stage.copy_zookeeper()
            self._after(event.seconds, self._put_zookeeper_back)
        elif event.what == "zookeeper":
            stage.zookeeper_away(event.seconds)
        elif event.what == "verify":
            stage.begin_verify()
        elif event.what == "limit":
            self._limit(event.bytes_per_second)
            self._after(event.seconds, lambda: self._limit(0))
        elif event.what == "kill ecs":
            if not stage.rolled_back:  # it may be the last that knows of the newer ring
                stage.kill_ecs_leader()
        elif event.what == "pause ecs":
            stage.pause_ecs_leader(event.seconds)
        elif running:
            self._befalls(event, running[event.who % len(running)], running)

    def _limit(self, bytes_per_second: int) -> None:
        if not self._stage.rolled_back:
            with suppress(RefusedByCluster):  # it is so already, or nobody can be asked
                self._stage.limit(bytes_per_second)

    def _cancel(self) -> None:
        ring = self._stage.ring()
        if ring is not None and (ring.change is not None or ring.queue):
            wish = ring.change.wish if ring.change is not None else ring.queue[0]
            with suppress(RefusedByCluster):  # it has ended meanwhile
                self._stage.cancel(wish.job)

    def _replace(self, event: Event) -> None:
        """One of the members, dead or alive."""
        ring = self._stage.ring()
        if ring is not None and len(ring.circle) < MEMBERS_MAX:
            with suppress(RefusedByCluster):  # it leaves already, or nobody can be asked
                new, _ = self._stage.replace(sorted(node.id for node in ring.circle)[event.who % len(ring.circle)])
                self._move_away([new])

    def _copies(self, event: Event) -> None:
        ring = self._stage.ring()
        fewer = ring is None or event.number < ring.replicas or event.needed < ring.min_copies
        if not (fewer and (self._lying or self._unsynced)):  # what is to be kept may be what is damaged, or lost
            with suppress(RefusedByCluster):  # there are so many, or nobody can be asked
                self._stage.copies(event.number, event.needed)

    def _put_zookeeper_back(self) -> None:
        self._stage.put_zookeeper_back()
        self._after(RESTORE_SECONDS, self._restore)

    def _restore(self) -> None:
        if self._stage.rolled_back:
            with suppress(RefusedByCluster):  # somebody has not said yet what it holds
                self._stage.restore_ring()
            self._after(RESTORE_SECONDS, self._restore)

    def _befalls(self, event: Event, id: str, running: Sequence[str]) -> None:
        """Something happens to one node."""
        stage = self._stage
        if self._is_needed(id):
            return
        match event.what:
            case "leave":
                ring = stage.ring()
                doubtful = self._lying or self._unsynced
                if not (doubtful and ring is not None and _fewer_are_left(ring, 1)):  # as where fewer are wanted
                    with suppress(RefusedByCluster):  # it is the last, is down, or leaves already
                        stage.leave(id)
            case "kill":
                stage.kill(id)
                self._after(event.seconds, lambda: self._start_if_dead(id))
            case "cut power":
                # Who then meets damage as well waits for a person: what struck it may have struck the others, too.
                if id not in self._lying and (self._schedule.fsync == "always" or self._may_lose(id)):
                    stage.cut_power(id)
                    self._after(event.seconds, lambda: self._start_if_dead(id))
            case "crash disk":
                if self._may_lose(id):
                    stage.crash_disk(id)
                    self._after(event.seconds, lambda: self._start_if_dead(id))
            case "fill disk":
                stage.fill_disk(id)
                self._after(event.seconds, lambda: self._empty(id))
            case "fail syncs":
                if self._schedule.fsync == "always" or (self._may_lose(id) and not self._fewer_are_wanted()):
                    self._unsynced.add(id)
                    # Without room whoever has the only copy waits for a person, however much room there is later.
                    stage.fail_syncs(id, NO_ROOM if event.no_room and self._may_lose(id) else IO_ERROR)
                    self._after(event.seconds, lambda: stage.mend_syncs(id))
            case "lie":
                self._lie(id)
            case "restart":
                stage.restart(id)
            case "pause":
                stage.pause(id)
                self._after(event.seconds, lambda: stage.resume(id))
            case "session":
                stage.lose_session(id)
            case "cut":
                others = [each for each in running if each != id]
                if event.other % len(running) != event.who % len(running):
                    others = [running[event.other % len(running)]]
                if others:
                    stage.partition([id], others, one_way=event.one_way)
                    self._after(event.seconds, stage.heal)
            case "cut from zookeeper":
                stage.partition([id], ["zookeeper"], one_way=event.one_way)
                self._after(event.seconds, stage.heal)
            case "slow":
                stage.slow(id, event.turn_seconds)
                self._after(event.seconds, lambda: stage.slow(id, 0.0))
            case "late news":
                stage.delay("zookeeper", id, event.late_seconds)
                self._after(event.seconds, lambda: stage.delay("zookeeper", id, 0.0))
            case "late words":
                for other in running:
                    if other != id:
                        self._is_late(id, other, event)
            case "late line" if len(running) > 1:
                self._is_late(id, self._other(event, running), event)
            case "reset" if len(running) > 1:
                stage.reset(id, self._other(event, running))

    def _other(self, event: Event, running: Sequence[str]) -> str:
        """Another one than whom it befalls."""
        who, other = event.who % len(running), event.other % len(running)
        return running[other if other != who else (who + 1) % len(running)]

    def _is_late(self, id: str, other: str, event: Event) -> None:
        distance = self._schedule.distance_seconds
        self._stage.delay(id, other, distance + event.late_seconds)
        self._after(event.seconds, lambda: self._stage.delay(id, other, distance))

    def _move_away(self, ids: Sequence[str]) -> None:
        """These are as far from all others, and from each other, as nodes are in this story."""
        distance = self._schedule.distance_seconds
        for other in sorted(self._stage.lives()) if distance else ():
            for id in ids:
                if other != id:
                    self._stage.delay(id, other, distance)
                    self._stage.delay(other, id, distance)

    def _may_lose(self, id: str, *, lies: bool = False) -> bool:
        """Whether nothing acknowledged is lost with what a node holds, or with a record about which its disk ``lies``;
        if so it is taken to lose it now."""
        ring = self._stage.ring()
        if ring is None or self._stage.rolled_back:
            return False
        rings = [ring, *([target(ring)] if ring.change is not None else [])]
        if not all(self._others_hold(each, id, lies=lies) for each in rings):
            return False
        known = ring.by_id.get(id)
        self._harmed[id] = known.incarnation if known is not None else ""
        return True

    def _others_hold(self, ring: Ring, id: str, *, lies: bool) -> bool:
        """Whether each list of a node has another one that holds everything, and runs; and none of them is in trouble.
        Those whose disks lie already keep no other from lying, where many may.

        Not where one copy is enough for a write: who is down last by the ring is then the only complete one, though it
        may have died first (R14)."""
        if ring.min_copies == 1 or len(ring.circle) == 1:
            return False
        whole, harmed = self._whole(ring), {node.id for node in ring.circle if node.state == "up" and self._hurt(node)}
        if lies and self._schedule.many_lie:
            harmed -= {node.id for node in ring.circle if self._lies(node)}
        for _, members in ring.list_runs:
            others = {node.id for node in members if node.id != id}
            if len(others) < len(members) and (not whole & others or harmed & others):
                return False  # of two losses that the ring has not seen it cannot tell which came first
        return not any(id in (node.id for node in ring.lists[each.slots.first]) for each in ring.trouble)

    def _hurt(self, node: Node) -> bool:
        return self._harmed.get(node.id, "") == node.incarnation

    def _lies(self, node: Node) -> bool:
        return self._lying.get(node.id, "") == node.data_id

    def _whole(self, ring: Ring) -> set[str]:
        """Who holds everything, as far as the ring knows and we do."""
        lives = self._stage.lives()
        return {
            node.id
            for node in ring.circle
            if node.state == "up" and node.id in lives and not self._hurt(node) and not self._lies(node)
        }

    def _is_needed(self, id: str) -> bool:
        """Whether a node is the last that holds what another's disk lies about: damage in the only copy is a loss."""
        ring = self._stage.ring()
        if ring is None:
            return False
        rest = self._whole(ring) - {id}
        lists = [members for _, members in ring.list_runs if any(self._lies(node) for node in members)]
        return any(not rest & {node.id for node in members} for members in lists)

    def _fewer_are_wanted(self) -> bool:
        """Whether slots are to have fewer copies than now, or nodes leave so that there are fewer."""
        ring = self._stage.ring()
        return ring is None or any(wish.copies is not None for wish in _wishes(ring)) or _fewer_are_left(ring)

    def _lie(self, id: str) -> None:
        """A bit of a record is flipped. Not while fewer copies are wanted, or nodes leave so that there are fewer: the
        only one left may be the bad one."""
        ring = self._stage.ring()
        if ring is None or id not in ring.by_id or not self._may_lose(id, lies=True):
            return
        if not self._fewer_are_wanted():
            with suppress(NotInTime):  # it holds nothing yet
                self._stage.lie(id, "flip")
                self._lying[id] = ring.by_id[id].data_id

    def _empty(self, id: str) -> None:
        self._stage.empty_disk(id)
        self._start_if_dead(id)

    def _start_if_dead(self, id: str) -> None:
        if id not in self._stage.lives():
            self._stage.restart(id)


def _wishes(ring: Ring) -> tuple[Wish, ...]:
    return (*ring.queue, *((ring.change.wish,) if ring.change is not None else ()))


def _fewer_are_left(ring: Ring, more: int = 0) -> bool:
    """Whether slots have fewer copies than now once all those have left who are to, and so many more."""
    leaving = more + sum(len(wish.ids) for wish in _wishes(ring) if wish.kind == "remove")
    return len(ring.circle) - leaving < min(ring.replicas, len(ring.circle))


# Reducing


def reduced(
    schedule: Schedule,
    fails: Callable[[Schedule], bool],
    *,
    seconds_max: float = REDUCE_SECONDS_MAX,
    clock: Callable[[], float] = time.monotonic,
) -> Schedule:
    """A schedule with as few of the events as time allows that still ``fails``; this one fails, too.

    Delta debugging (Zeller and Hildebrandt 2002): parts are left out, halves first, then ever smaller ones, until no
    single event can be.
    """
    deadline = clock() + seconds_max

    def holds(events: Sequence[Event]) -> bool:
        return clock() < deadline and fails(replace(schedule, events=tuple(events)))

    events = list(schedule.events)
    size = max(1, len(events) // 2)
    while events:
        left, start = events, 0
        while start < len(left):
            fewer = left[:start] + left[start + size :]
            if holds(fewer):
                left = fewer
            else:
                start += size
        if size == 1 and len(left) == len(events):
            break
        events, size = left, max(1, min(size // 2, len(left)))
    return replace(schedule, events=tuple(events))
