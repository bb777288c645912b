"""Knows which slots a node coordinates, since when, and what it must wait for before it answers for them.

A part of `StorageNode`. A *tenure* is the time in which a node coordinates slots without a break, in every ring (R13).
In lists of several it begins with a `Takeover`; until that is over the slots are being *taken*.

    the ring names it --lists of several----> taking --TakenOver--> tenure --the ring names another--> over
                       '--nobody has--------------------------------^

Whoever coordinated the slots before may still serve reads, by the lease that its successors gave it (R21). So for a
while nothing is acknowledged in a tenure that began with a failure: until ``not_before``. That is no matter where the
former coordinator had said Ready, since then it serves no reads, or where its process has certainly ended.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from .rules.ring import Ring
from .rules.slots import SLOTS, Run

LEASE_SECONDS = 1.0
"""So long after the question a confirmation of the tenure lets reads be served (R21)."""

LEASE_OVER_SECONDS = LEASE_SECONDS * 1.1
"""So long after its own last confirmation a successor takes a lease for over: clocks may differ by a tenth."""

LifeName = tuple[str, str]
"""Id and incarnation of a node."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """Slots that a node coordinates, of one list."""

    slots: Run
    peers: tuple[str, ...]
    """The other up members, by id."""
    copies: int
    """Members that are up, the node itself included."""
    members: int
    since: int
    """The node's batch with which all peers began to hold these slots: who has it knows of the tenure."""
    not_before: float = 0.0
    awaits: LifeName | None = None
    """Nothing is acknowledged before that moment, because of this one."""


class Tenures:
    """The slots of one incarnation."""

    def __init__(self, id: str, incarnation: str) -> None:
        self.id, self.incarnation = id, incarnation
        self.held: tuple[Tenure, ...] = ()
        """Ascending."""
        self.taking: tuple[Run, ...] = ()
        """The slots that are being taken over; ascending, each of one list."""
        self._formers: tuple[Ring, ...] = ()
        """The rings before the one that made them this node's, and since."""
        self._gone: set[LifeName] = set()
        """Lives whose processes have certainly ended."""

    def ring_changed(self, before: Ring | None, ring: Ring, *, named: bool, batch: int, now: float) -> None:
        """See which tenures go on, which begin at once, and what has to be taken over. ``named``: the ring means this
        incarnation, and does not call it down."""
        read = (before,) if before is not None else ()
        self._formers = (*self._formers, *read) if self.taking else read
        self._gone = {life for life in self._gone if life[0] in ring.by_id}
        unbroken = before is not None and not _may_have_changed_hands(before, ring)
        former, self.held = self.held if unbroken else (), ()
        taking: list[Run] = []
        held: list[Tenure] = []
        for slots in self._own_pieces(ring, former) if named else ():
            tenure = next((each for each in former if each.slots.first <= slots.first <= each.slots.last), None)
            peers = self._peers(ring, slots.first)
            if tenure is not None:
                fresh = not set(peers) <= set(tenure.peers)
                held.append(self._tenure(ring, slots, batch if fresh else tenure.since, tenure))
            elif len(ring.lists[slots.first]) > 1:
                taking.append(slots)  # also alone: what not everybody holds is to be known
            else:
                held += self._begun(ring, slots, {}, batch, now)
        self.held, self.taking = tuple(held), tuple(taking)

    def begin(self, ring: Ring, confirmed: Mapping[LifeName, float], *, batch: int, now: float) -> tuple[Run, ...]:
        """What was being taken is this node's now; returns it. ``confirmed``: whose tenure it has confirmed, when."""
        taken, self.taking = self.taking, ()
        begun = [each for slots in taken for each in self._begun(ring, slots, confirmed, batch, now)]
        self.held = tuple(sorted((*self.held, *begun), key=lambda tenure: tenure.slots))
        return taken

    def ended(self, life: LifeName) -> bool:
        """A process has certainly ended; whether some tenure need not wait for it any more."""
        self._gone.add(life)
        awaited = any(tenure.awaits == life for tenure in self.held)
        self.held = tuple(
            replace(tenure, not_before=0.0, awaits=None) if tenure.awaits == life else tenure for tenure in self.held
        )
        return awaited

    def marks(self) -> bytearray:
        """1 for each slot that the node coordinates and has taken over."""
        marks = bytearray(SLOTS)
        for tenure in self.held:
            marks[tenure.slots.first : tenure.slots.last + 1] = b"\1" * tenure.slots.size
        return marks

    def _own_pieces(self, ring: Ring, former: Iterable[Tenure]) -> list[Run]:
        """The node's slots, cut where lists, former coordinators or former tenures change."""
        own = ring.coordinated_by(self.id)
        cuts = {run.first for run, _ in ring.list_runs}
        cuts |= {edge for tenure in former for edge in (tenure.slots.first, tenure.slots.last + 1)}
        return [piece for run in own for piece in pieces(run, cuts)]

    def _peers(self, ring: Ring, slot: int) -> tuple[str, ...]:
        return tuple(sorted(node.id for node in ring.lists[slot] if node.state == "up" and node.id != self.id))

    def _tenure(self, ring: Ring, slots: Run, since: int, like: Tenure | None = None) -> Tenure:
        members = ring.lists[slots.first]
        return Tenure(
            slots=slots,
            peers=self._peers(ring, slots.first),
            copies=sum(node.state == "up" for node in members),
            members=len(members),
            since=since,
            not_before=like.not_before if like is not None else 0.0,
            awaits=like.awaits if like is not None else None,
        )

    def _begun(
        self, ring: Ring, slots: Run, confirmed: Mapping[LifeName, float], batch: int, now: float
    ) -> list[Tenure]:
        cuts = {run.first for former in self._formers for run, _ in former.list_runs}
        cuts |= {edge for former in self._formers for each in former.trouble for edge in (each.slots.first,)}
        begun = []
        for piece in pieces(slots, cuts):
            tenure = self._tenure(ring, piece, batch)
            until, awaits = self._lease_of_others(ring, piece.first, tenure.members, confirmed, now)
            begun.append(replace(tenure, not_before=until, awaits=awaits))
        return begun

    def _lease_of_others(
        self, ring: Ring, slot: int, members: int, confirmed: Mapping[LifeName, float], now: float
    ) -> tuple[float, LifeName | None]:
        """Until when somebody else may believe that it has the lease of a slot, and who that is."""
        formers = self._formers
        if members == 1 or (not formers and ring.epoch == 1):
            return 0.0, None
        if not formers or any(_may_have_changed_hands(*pair) for pair in pairwise((*formers, ring))):
            return now + LEASE_OVER_SECONDS, None  # who knows whose they were
        if len(formers) == 1 and _was_planned(formers[0], ring):
            return 0.0, None
        until, awaits = 0.0, None
        lives = {
            (node.id, node.incarnation) if (node := each.coordinators[slot]) is not None else None for each in formers
        }
        up = {(node.id, node.incarnation) for node in ring.circle if node.state == "up"}
        lives |= confirmed.keys() - up  # somebody before those, who may not have heard of it yet
        for life in sorted(lives - self._gone - {(self.id, self.incarnation)}, key=str):
            over = (confirmed.get(life, now) if life is not None else now) + LEASE_OVER_SECONDS
            if over > until:
                until, awaits = over, life
        return until, awaits


def pieces(run: Run, cuts: Iterable[int]) -> list[Run]:
    """A run cut before each of some slots."""
    firsts = sorted({run.first, *(cut for cut in cuts if run.first < cut <= run.last)})
    return [Run(first, following - 1) for first, following in zip(firsts, [*firsts[1:], run.last + 1], strict=True)]


def _may_have_changed_hands(before: Ring, ring: Ring) -> bool:
    """Whether some slot may have had another coordinator in the rings between two, which were not read (R13)."""
    between = [write for write in ring.history if before.epoch < write.epoch < ring.epoch]
    if len(between) != ring.epoch - before.epoch - 1:
        return True
    return any(write.moved for write in between)


def _was_planned(before: Ring, ring: Ring) -> bool:
    """Whether the second ring, the next one, commits the change of the first: whoever coordinated a sealed slot had
    stopped answering for it."""
    change = before.change
    last = ring.history[-1]
    return (
        ring.epoch == before.epoch + 1
        and change is not None
        and change.phase == "seal"
        and (last.job, last.outcome) == (change.wish.job, "done")
    )
