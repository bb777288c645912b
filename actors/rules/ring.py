"""Holds the one truth about the cluster: who is in it, where on the circle, in which state, and whose each slot is.

A `Ring` is a value. The ECS leader writes the next one to the ring znode by compare-and-set; everybody else reads it
and obeys. It is checked whole when it is made, from JSON or by a program, so that a ring that exists is a sound one.
Its tables are computed at the first question and then shared, since a ring never changes.

Lists and coordinators are two things. A slot's *preference list* follows from the tokens alone: the first ``replicas``
distinct nodes clockwise; a node that goes down stays in its lists (R7). Its *coordinator* is the first member that is
up, failing that the keeper named for the list (R15), failing that nobody.

What a node's state asserts, and who may change it:

    up ---------> down          gone; one ring write (transitions.downed)
    down -------> up            back with its data where it is the only copy (transitions.returned)
    down -------> returning     back, being made equal
    up ---------> returning     back before anyone had seen that it was gone: its new life is the end of the old (R3)
    up ---------> down          at rest, by the commit of a change (R27)
    returning --> up | down     caught up, by the commit of a change | gone again
    any --------> out           removed, replaced or given up, by the commit of a change; off the circle from then on

Invariants, all checked here: ids, tokens, addresses, incarnations and data directories are distinct; the chain of
former rings ascends and ends before this one; every list with fewer than `copies_needed` members up, and no other, is
written down in `trouble` with the members that were complete (R14); whoever is up there is one of them.

Look next at transitions (how one ring follows from another) and difference (what that means for slots and nodes).
"""

import hashlib
import reprlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

from .balancing import Balancing, balancing_from_json, balancing_to_json
from .change import Change, Wish, change_from_json, change_to_json, wish_from_json, wish_to_json
from .fields import (
    CLUSTER_NAME,
    HEX_64,
    NODE_ID,
    RUN,
    Fields,
    RingError,
    flag,
    one_of,
    pack,
    parse,
    prose,
    text,
    wall_seconds,
    whole,
)
from .life import EPOCH_MAX, Stamp
from .node import STATES, Node, State, node_from_json, node_to_json
from .placement import CIRCLE, NODES_MAX, PLACES, REPLICAS_MAX, Place
from .slots import SLOT_SHIFT, SLOTS, Run, runs

__all__ = ["Acks", "Change", "Node", "Range", "Ring", "STATES", "State", "Trouble", "Wish", "Write", "shortened"]

RULES = 3
"""Version of the rules that this release keeps; a ring written under newer ones is refused. Since 2 changes fly; since
3 lists have copies."""
CHAIN_MAX = 64
"""Former rings that a ring remembers by (epoch, nonce) (R23)."""
HISTORY_MAX = 32
"""Last writes of the ring that it tells people about."""
QUEUE_MAX = 64
"""Wishes that wait."""
HELD_BACK_MAX = 1024
LEFT_BEHIND_MAX = 256
PROSE_CHARACTERS_MAX = 500
BYTES_PER_SECOND_MAX = 2**50


class Range(NamedTuple):
    """A node's part of the circle: from ``first``, the position after its predecessor's token, to its own token."""

    node: Node
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first:032x},{self.last:032x},{self.node.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A list with fewer members up than a write needs: who held everything when it came to that (R14), who answers."""

    slots: Run
    complete: tuple[tuple[str, str], ...]
    """Its complete members, (id, data_id) ascending."""
    keeper: str | None = None
    """The complete member that has answered for the list since nobody was up (R15): returning, or up by now."""

    def __post_init__(self) -> None:
        whole("first slot of a list in trouble", self.slots.first, 0, SLOTS - 1)
        whole("last slot of a list in trouble", self.slots.last, self.slots.first, SLOTS - 1)
        if not self.complete:
            raise RingError(f"slots {self.slots} are in trouble without a complete member")
        if self.keeper is not None:
            text(f"keeper of slots {self.slots}", self.keeper, NODE_ID)
        for id, data_id in self.complete:
            text(f"a complete member of slots {self.slots}", id, NODE_ID)
            text(f"data_id of the complete member {id} of slots {self.slots}", data_id, HEX_64)
        if list(self.complete) != sorted(dict(self.complete).items()):
            raise RingError(f"the complete members of slots {self.slots} do not ascend")
        if self.keeper is not None and self.keeper not in dict(self.complete):
            raise RingError(f"the keeper of slots {self.slots}, {self.keeper!r}, is not one of their complete members")


Acks = Literal["all", "one"]
ACKS: tuple[str, ...] = get_args(Acks)
HOLDERS = {"all": "every copy that is up has them", "one": "their coordinator has them"}
"""In words, once what writes are answered."""

Outcome = Literal["", "done", "aborted", "cancelled"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write of the ring, for people: what it did and why."""

    epoch: int
    what: str
    why: str
    wall_seconds: float
    """When, in seconds since the Unix epoch, by the clock of the ECS leader."""
    job: int = 0
    """The job that it carried on; 0: of none."""
    outcome: Outcome = ""
    """How that job ended with it."""
    moved: bool = True
    """Whether some slot has another coordinator since, or the same in another life: whoever has not read this ring
    cannot know that it has coordinated all the time (R13)."""

    def __post_init__(self) -> None:
        whole("job of a write in history", self.job, 0, EPOCH_MAX)
        one_of("outcome of a write in history", self.outcome, OUTCOMES)
        whole("epoch of a write in history", self.epoch, 1, EPOCH_MAX)
        prose(f"what write {self.epoch} did", self.what, PROSE_CHARACTERS_MAX)
        prose(f"why write {self.epoch} was made", self.why, PROSE_CHARACTERS_MAX)
        wall_seconds(f"wall_seconds of write {self.epoch}", self.wall_seconds)
        flag(f"moved of write {self.epoch}", self.moved)


@dataclass(frozen=True, kw_only=True)
class Ring:
    """The ring of one epoch. Raises RingError when made of parts that do not fit together."""

    cluster_id: str
    """Random, 16 hex digits: tells this cluster from another of the same name."""
    cluster_name: str
    epoch: int
    nonce: str
    """Random, 16 hex digits: tells this ring from another of the same epoch (R23)."""
    chain: tuple[tuple[int, str], ...] = ()
    """(epoch, nonce) of the rings before it, ascending, at most CHAIN_MAX (R23)."""
    rules: int = RULES
    replicas: int
    """Copies of a slot, the coordinator's included."""
    min_copies: int
    """Copies that must be up for a write, where a list has as many (R2: see copies_needed)."""
    acks: Acks = "all"
    """Who must hold a write before it is answered: every member that is up (R1), or the coordinator alone."""
    serving: bool = True
    """False: client requests are refused, data and nodes stay."""
    place: Place
    """How a node that joins gets its token."""
    move_bytes_per_second: int = 0
    """So much each node may send of slots that move; 0: no limit."""
    balancing: Balancing = Balancing()
    """How shares are kept even."""
    nodes: tuple[Node, ...]
    """By token, whatever order they were given in."""
    trouble: tuple[Trouble, ...] = ()
    """The lists below copies_needed, by their slots."""
    change: Change | None = None
    """The change in flight."""
    queue: tuple[Wish, ...] = ()
    """What is wanted next, in this order."""
    left_behind: tuple[tuple[str, str], ...] = ()
    """Data directories, as (id, data_id), that were complete in lists that went on without asking them: a mirror may
    take from them what nobody else has any more (R17). The last LEFT_BEHIND_MAX."""
    held_back: tuple[str, ...] = ()
    """Nodes that are not taken in by themselves: the change that would have was cancelled. Ascending."""
    history: tuple[Write, ...] = ()
    """The last writes with their causes, oldest first, at most HISTORY_MAX."""
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Fields of a neighbouring release, kept as they are."""

    # ---- questions

    @property
    def stamp(self) -> Stamp:
        """Which ring this is."""
        return Stamp(self.cluster_id, self.epoch, self.nonce)

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Every node of the ring, out ones too."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def circle(self) -> tuple[Node, ...]:
        """The members: every node that is not out, clockwise."""
        return circle_of(self.nodes)

    @property
    def copies_needed(self) -> int:
        """Members of a list that must be up before it takes a write (R2)."""
        return min(self.min_copies, self.replicas, len(self.circle))

    @cached_property
    def list_runs(self) -> tuple[tuple[Run, tuple[Node, ...]], ...]:
        """Each preference list with its slots, ascending. The seam cuts one list into two runs."""
        return tuple(list_runs(self.circle, self.replicas))

    def copies_missing(self, coordinator: str = "") -> int:
        """How many copies of slots are at members that are not up; with an id, of the slots that it coordinates."""
        missing = 0
        for run, members in self.list_runs:
            leads = self.coordinators[run.first]
            if not coordinator or (leads is not None and leads.id == coordinator):
                missing += run.size * sum(node.state != "up" for node in members)
        return missing

    @cached_property
    def lists(self) -> tuple[tuple[Node, ...], ...]:
        """Each slot's preference list. Slots of one run share one tuple."""
        table: list[tuple[Node, ...]] = []
        for run, members in self.list_runs:
            table += [members] * run.size
        return tuple(table)

    @cached_property
    def coordinators(self) -> tuple[Node | None, ...]:
        """Each slot's coordinator. The hot path asks ``ring.coordinators[slot] is me``, me from this ring's by_id."""
        table: list[Node | None] = []
        for run, members in self.list_runs:
            table += [next((node for node in members if node.state == "up"), None)] * run.size
        for each in self.trouble:
            if each.keeper is not None:
                table[each.slots.first : each.slots.last + 1] = [self.by_id[each.keeper]] * each.slots.size
        return tuple(table)

    def preference_list(self, slot: int) -> tuple[Node, ...]:
        """The first ``replicas`` distinct nodes clockwise from a slot, fewer where the ring has fewer."""
        return self.lists[slot]

    def coordinator(self, slot: int) -> Node | None:
        """Who answers for a slot; None: nobody does until a member is back."""
        return self.coordinators[slot]

    def slots_of(self, id: str) -> tuple[Run, ...]:
        """The slots in a node's own range, whatever its state: one run, two where the range crosses the seam."""
        return self._ranges_in_slots.get(id, ())

    def coordinated_by(self, id: str) -> tuple[Run, ...]:
        """The slots that a node answers for now."""
        return self._coordinated.get(id, ())

    def share(self, id: str) -> float:
        """The part of all slots that lies in a node's own range, 0.0 to 1.0."""
        return sum(run.size for run in self.slots_of(id)) / SLOTS

    def ranges(self, copies: int = 1) -> tuple[Range, ...]:
        """Each member's part of the circle, by token; with copies = N the part whose lists of N hold it. With at most
        as many nodes as copies that is the whole circle, said as (own token + 1, own token)."""
        circle = self.circle
        back = min(copies, len(circle))
        return tuple(Range(node, (circle[i - back].token + 1) % CIRCLE, node.token) for i, node in enumerate(circle))

    def unsettled(self, id: str) -> tuple[Run, ...]:
        """The slots that a node keeps and that others might keep instead of it. It cannot know which of the writes that
        it holds they hold as well: a value that it showed might be gone when one of them answers (R15)."""
        return tuple(slots for slots, keeper in self.unsettled_by_keeper if keeper == id)

    @cached_property
    def unsettled_by_keeper(self) -> tuple[tuple[Run, str], ...]:
        """The slots that some node keeps and that others might keep instead of it, and which that is."""
        return tuple(
            (each.slots, each.keeper) for each in self.trouble if each.keeper is not None and len(each.complete) > 1
        )

    def is_settled(self, id: str) -> bool:
        """Whether none of a node's lists has a keeper, or who is equal to it, while others might be instead: what they
        hold and it lacks is not given up yet, and comes back with them (R15, R16)."""
        return not any(node.id == id for slots, _ in self.unsettled_by_keeper for node in self.lists[slots.first])

    def trouble_at(self, slot: int) -> Trouble | None:
        """What is written down of a slot's list; None: enough of its members are up."""
        index = bisect_right(self.trouble, slot, key=lambda each: each.slots.first) - 1
        return self.trouble[index] if index >= 0 and slot <= self.trouble[index].slots.last else None

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """The slots at which the list, or what is written down of it, may be another than before; ascending, from 0."""
        return tuple(sorted({run.first for run, _ in self.list_runs} | {each.slots.first for each in self.trouble}))

    def stretches(self, run: Run) -> Iterator[Run]:
        """The slots of a run, cut at the edges."""
        inner = self.edges[bisect_right(self.edges, run.first) : bisect_right(self.edges, run.last)]
        for first, end in pairwise((run.first, *inner, run.last + 1)):
            yield Run(first, end - 1)

    def keyrange(self) -> str:
        """Who owns which part of the circle: ``from,to,host:port;`` in hex, both ends included, ascending by ``to``."""
        return "".join(f"{each};" for each in self.ranges())

    def keyrange_read(self) -> str:
        """As keyrange, but which part each may be read for: as coordinator or as one of its successors."""
        return "".join(f"{each};" for each in self.ranges(self.replicas))

    def cluster_node_id(self, id: str) -> str:
        """A node's id towards Redis clients: SHA-1 of the cluster's name, a blank and its id, 40 hex digits."""
        return hashlib.sha1(f"{self.cluster_name} {id}".encode(), usedforsecurity=False).hexdigest()

    def objection(self, held: Stamp) -> str | None:
        """Why one who holds the ring ``held`` must not take this one instead (R23); None: it may (the same ring too).

        A ring is taken by those whose own is among its last 64. One that should be and is not means that ZooKeeper's
        disk was lost or put back, or that somebody points at the wrong cluster.

        A ring that is older than all of these is taken on its cluster and epoch alone: nobody is locked out for having
        been away long. So a fork is recognised for certain as long as its rings are at most 64; it stays unnoticed only
        if whoever holds the other branch was away during all of them.
        """
        if held.cluster_id != self.cluster_id:
            return f"{self.stamp} is another cluster's: held is {held}"
        if (held.epoch, held.nonce) in ((self.epoch, self.nonce), *self.chain):
            return None
        if held.epoch > self.epoch:
            return f"{self.stamp} is older than {held}: ring lost or rolled back"
        if len(self.chain) == CHAIN_MAX and held.epoch < self.chain[0][0]:
            return None
        return f"{self.stamp} does not descend from {held}: ring rolled back and written anew"

    # ---- the next ring

    def amended(
        self,
        *,
        nonce: str,
        what: str,
        why: str,
        wall_seconds: float,
        job: int = 0,
        outcome: Outcome = "",
        epoch: int = 0,
        **fields: Any,
    ) -> "Ring":
        """The ring that follows this one with ``fields`` exchanged: epoch + 1, chained to this one, its cause noted.
        ``epoch``: a later one, where rings that nobody knows may have followed.

        Raises RingError when the result is not sound or the nonce was used before.
        """
        chain = (*self.chain, (self.epoch, self.nonce))
        if nonce in (former for _, former in chain):
            raise RingError(f"nonce {nonce} was used before; a ring needs a new one")
        epoch = max(self.epoch + 1, epoch)
        write = Write(
            epoch=epoch,
            what=shortened(what),
            why=shortened(why),
            wall_seconds=wall_seconds,
            job=job,
            outcome=outcome,
        )
        following = replace(
            self,
            epoch=epoch,
            nonce=nonce,
            chain=chain[-CHAIN_MAX:],
            rules=RULES,
            history=(*self.history, write)[-HISTORY_MAX:],
            **fields,
        )
        if epoch > self.epoch + 1:
            return following
        same = (following.nodes, following.trouble, following.replicas) == (self.nodes, self.trouble, self.replicas)
        if same or following._tenures == self._tenures:
            unmoved = replace(write, moved=False)
            following = replace(following, history=(*following.history[:-1], unmoved))
        return following

    # ---- JSON

    def to_json(self) -> bytes:
        """What the znode holds. Equal rings give equal bytes. Raises RingError when it is too large for a znode."""
        return pack(
            "the ring",
            {
                **self.unknown,
                "cluster_id": self.cluster_id,
                "cluster_name": self.cluster_name,
                "epoch": self.epoch,
                "nonce": self.nonce,
                "chain": self.chain,
                "rules": self.rules,
                "replicas": self.replicas,
                "min_copies": self.min_copies,
                "acks": self.acks,
                "serving": self.serving,
                "place": self.place,
                "move_bytes_per_second": self.move_bytes_per_second,
                "balancing": balancing_to_json(self.balancing),
                "nodes": [node_to_json(node) for node in self.nodes],
                "trouble": [
                    {"slots": str(each.slots), "complete": dict(each.complete), "keeper": each.keeper}
                    for each in self.trouble
                ],
                "change": change_to_json(self.change),
                "queue": [wish_to_json(wish) for wish in self.queue],
                "left_behind": self.left_behind,
                "held_back": self.held_back,
                "history": [
                    {name: getattr(each, name) for name in Write.__dataclass_fields__} for each in self.history
                ],
            },
        )

    @classmethod
    def from_json(cls, data: bytes) -> "Ring":
        """The ring in a znode or a file. Raises RingError that says what is wrong with it, or that it was written under
        newer rules. Fields that these rules do not know are kept. The last few are remembered: a ring is a value."""
        return _from_json(data)

    @classmethod
    def _from_json(cls, data: bytes) -> "Ring":
        fields = parse("the ring", data)
        rules = whole("rules of the ring", fields.take("rules"), 1, EPOCH_MAX)
        if rules > RULES:
            raise RingError(
                f"the ring was written under rules version {rules}, this release knows {RULES}: use a newer release"
            )
        items = fields.take_many("nodes")
        nodes = tuple(node_from_json(f"node {index} of the ring", item) for index, item in enumerate(items))
        trouble = tuple(_trouble_from_json(item) for item in fields.take_many("trouble"))
        history = tuple(_write_from_json(item) for item in fields.take_many("history"))
        chain = tuple(_link_from_json(item) for item in fields.take_many("chain"))
        change = change_from_json(fields.take("change"))
        left_behind = tuple(_left_from_json(item) for item in fields.take_many("left_behind", []))
        queue, held_back = fields.take_many("queue", []), tuple(fields.take_many("held_back", []))
        acks = fields.take("acks", "all")
        limit = fields.take("move_bytes_per_second", 0)
        balancing = fields.take("balancing", None)
        names = ("cluster_id", "cluster_name", "epoch", "nonce", "replicas", "min_copies", "serving", "place")
        known = {name: fields.take(name) for name in names}
        return cls(
            rules=rules,
            nodes=nodes,
            trouble=trouble,
            history=history,
            chain=chain,
            change=change,
            queue=tuple(map(wish_from_json, queue)),
            held_back=held_back,
            left_behind=left_behind,
            acks=acks,
            move_bytes_per_second=limit,
            balancing=balancing_from_json(balancing) if balancing is not None else Balancing(),
            unknown=fields.left,
            **known,
        )

    # ---- soundness

    def __post_init__(self) -> None:
        text("cluster_id of the ring", self.cluster_id, HEX_64)
        text("cluster_name of the ring", self.cluster_name, CLUSTER_NAME)
        whole("epoch of the ring", self.epoch, 1, EPOCH_MAX)
        text("nonce of the ring", self.nonce, HEX_64)
        whole("rules of the ring", self.rules, 1, RULES)
        whole("replicas of the ring", self.replicas, 1, REPLICAS_MAX)
        whole("min_copies of the ring", self.min_copies, 1, REPLICAS_MAX)
        one_of("acks of the ring", self.acks, ACKS)
        flag("serving of the ring", self.serving)
        one_of("place of the ring", self.place, PLACES)
        whole("move_bytes_per_second of the ring", self.move_bytes_per_second, 0, BYTES_PER_SECOND_MAX)
        object.__setattr__(self, "nodes", tuple(sorted(self.nodes, key=_place_of)))
        object.__setattr__(self, "trouble", tuple(sorted(self.trouble, key=lambda each: each.slots)))
        self._check_chain()
        self._check_nodes()
        self._check_trouble()
        self._check_wishes()

    def _check_chain(self) -> None:
        if len(self.chain) > CHAIN_MAX:
            raise RingError(f"the chain of the ring has {len(self.chain)} links, not at most {CHAIN_MAX}")
        if len(self.history) > HISTORY_MAX:
            raise RingError(f"the history of the ring has {len(self.history)} writes, not at most {HISTORY_MAX}")
        for epoch, nonce in self.chain:
            whole("an epoch in the chain", epoch, 1, EPOCH_MAX)
            text(f"the nonce of epoch {epoch} in the chain", nonce, HEX_64)
        for (before, _), (after, _) in pairwise((*self.chain, (self.epoch, self.nonce))):
            if before >= after:
                raise RingError(f"the chain of the ring does not ascend: epoch {before} stands before {after}")

    def _check_nodes(self) -> None:
        if not self.circle:
            raise RingError("a ring needs a node that is not out")
        if len(self.nodes) > NODES_MAX:
            raise RingError(f"a ring has at most {NODES_MAX} nodes, not {len(self.nodes)}")
        _distinct("id", (node.id for node in self.nodes))
        _distinct("incarnation", (node.incarnation for node in self.nodes))
        _distinct("data directory", (node.data_id for node in self.nodes))
        _distinct("token", (f"{node.token:032x}" for node in self.circle))
        _distinct("address", (node.address for node in self.circle))
        _distinct("bridge address", (node.bridge_address for node in self.circle))

    def _check_trouble(self) -> None:
        """R14: written down are all lists below copies_needed and no others."""
        left = list(self.trouble)
        for run, members in self.list_runs:
            below = sum(node.state == "up" for node in members) < self.copies_needed
            first = run.first
            while below and first <= run.last:
                if not left or left[0].slots.first != first:
                    raise RingError(f"slot {first} has too few members up, and who was complete is not written down")
                each = left.pop(0)
                first = each.slots.last + 1
                if each.slots.last > run.last or not {id for id, _ in each.complete} <= {node.id for node in members}:
                    raise RingError(f"slots {each.slots}, written down as in trouble, do not belong to one list")
                if not {(node.id, node.data_id) for node in members if node.state == "up"} <= set(each.complete):
                    raise RingError(f"slots {each.slots} have a member that is up and not complete")
                first_up = next((node.id for node in members if node.state == "up"), None)
                if each.keeper is not None and first_up not in (each.keeper, None):
                    raise RingError(f"slots {each.slots} have a keeper, {each.keeper}, and {first_up} is up")
                if each.keeper is not None and self.by_id[each.keeper].state not in ("returning", "up"):
                    raise RingError(f"the keeper of slots {each.slots}, {each.keeper}, is not back")
                if each.keeper is not None and self.by_id[each.keeper].data_id != dict(each.complete)[each.keeper]:
                    raise RingError(f"the keeper of slots {each.slots}, {each.keeper}, has another data directory")
        if left:
            raise RingError(f"slots {left[0].slots} are written down as in trouble and are not, or stand there twice")

    def _check_wishes(self) -> None:
        if len(self.queue) > QUEUE_MAX or len(self.held_back) > HELD_BACK_MAX:
            raise RingError(f"the ring holds more than {QUEUE_MAX} wishes, or {HELD_BACK_MAX} nodes back")
        if len(self.left_behind) > LEFT_BEHIND_MAX:
            raise RingError(f"the ring has left {len(self.left_behind)} data directories behind, not {LEFT_BEHIND_MAX}")
        for id in self.held_back:
            text("a node that is held back", id, NODE_ID)
        wishes = (*self.queue, *((self.change.wish,) if self.change is not None else ()))
        _distinct("job", (str(wish.job) for wish in wishes), "wishes")
        for wish in wishes:
            if wish.job > self.epoch:
                raise RingError(f"job {wish.job} is younger than ring {self.epoch} that holds it")
        if self.change is not None:
            if self.change.epoch > self.epoch:
                raise RingError(f"change {self.change.epoch} is younger than ring {self.epoch} that holds it")
            if self.change.wish.kind != "add":
                for id in self.change.wish.ids:
                    if id not in self.by_id or self.by_id[id].state == "out":
                        raise RingError(f"change {self.change.epoch} is about {id}, which is not in the ring")
                    if self.by_id[id].state != _BEGINS_AS.get(self.change.wish.kind, self.by_id[id].state):
                        raise RingError(f"{self.change} cannot be in flight: {id} is {self.by_id[id].state}")

    @cached_property
    def _ranges_in_slots(self) -> Mapping[str, tuple[Run, ...]]:
        return _grouped((run, members[0].id) for run, members in self.list_runs)

    @cached_property
    def _tenures(self) -> Mapping[tuple[str, str], tuple[Run, ...]]:
        """Who coordinates which slots, in which lives."""
        return {(id, self.by_id[id].incarnation): slots for id, slots in self._coordinated.items()}

    @cached_property
    def _coordinated(self) -> Mapping[str, tuple[Run, ...]]:
        return _grouped((run, node.id) for run, node in runs(self.coordinators) if node is not None)


_BEGINS_AS: dict[str, State] = {"return": "returning", "rest": "up", "move": "up", "out": "down"}
"""What nodes are before a change of this kind."""


@lru_cache(maxsize=8)
def _from_json(data: bytes) -> Ring:
    return Ring._from_json(data)


def circle_of(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Those that are not out, clockwise."""
    return tuple(sorted((node for node in nodes if node.state != "out"), key=_place_of))


def list_runs(circle: tuple[Node, ...], replicas: int) -> list[tuple[Run, tuple[Node, ...]]]:
    """Each preference list of a circle with its slots, ascending. The seam cuts one list into two runs."""
    length = min(replicas, len(circle))
    clockwise = circle + circle
    rows: list[tuple[Run, tuple[Node, ...]]] = []
    first = 0
    for index, node in enumerate(circle):
        end = (node.token >> SLOT_SHIFT) + 1
        if first < end:
            rows.append((Run(first, end - 1), clockwise[index : index + length]))
        first = end
    if first < SLOTS:
        if rows and rows[-1][1][0] is circle[0]:  # it has every slot: no seam to see
            first = rows.pop()[0].first
        rows.append((Run(first, SLOTS - 1), circle[:length]))
    return rows


def _place_of(node: Node) -> tuple[int, str]:
    return node.token, node.id


def shortened(prose: str) -> str:
    """Prose made fit for the history: printable, and cut where it is too long."""
    printable = "".join(letter if letter.isprintable() else " " for letter in prose[: PROSE_CHARACTERS_MAX + 1])
    return printable if len(prose) <= PROSE_CHARACTERS_MAX else printable[: PROSE_CHARACTERS_MAX - 3] + "..."


def _grouped(pairs: Iterable[tuple[Run, str]]) -> dict[str, tuple[Run, ...]]:
    groups: dict[str, tuple[Run, ...]] = {}
    for run, id in pairs:
        groups[id] = (*groups.get(id, ()), run)
    return groups


def _distinct(what: str, values: Iterable[str], whose: str = "nodes") -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise RingError(f"two {whose} of the ring have the same {what}, {value}")
        seen.add(value)


def _left_from_json(item: object) -> tuple[str, str]:
    if not isinstance(item, list) or len(item) != 2:
        raise RingError(f"{reprlib.repr(item)} is no data directory that was left behind")
    return text("id of a directory left behind", item[0], NODE_ID), text("data_id left behind", item[1], HEX_64)


def _trouble_from_json(item: object) -> Trouble:
    fields = Fields("a list in trouble", item)
    first, _, last = text("slots of a list in trouble", fields.take("slots"), RUN).partition("-")
    complete: dict[str, Any] = Fields("complete of a list in trouble", fields.take("complete")).left
    return Trouble(
        slots=Run(int(first), int(last or first)),
        complete=tuple((id, complete[id]) for id in sorted(complete)),
        keeper=fields.take("keeper"),
    )


def _write_from_json(item: object) -> Write:
    fields = Fields("a write in history", item)
    known = {name: fields.take(name) for name in ("epoch", "what", "why", "wall_seconds")}
    return Write(
        job=fields.take("job", 0), outcome=fields.take("outcome", ""), moved=fields.take("moved", True), **known
    )


def _link_from_json(item: object) -> tuple[int, str]:
    if type(item) is not list or len(item) != 2:
        raise RingError(f"a link of the chain must be [epoch, nonce], not {reprlib.repr(item)}")
    return item[0], item[1]
