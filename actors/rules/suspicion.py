"""Judges who is to be taken down because its peers say so (R22).

ZooKeeper's sessions say late that a process has died, and never that one hangs whose session lives. Its peers know
earlier, but each of them may be wrong: its own network may be broken, it may be slow, or mad. So nobody is believed
alone. `Suspicions` keeps what the up nodes say of each other; `judged` decides, from that and the ring alone:

1.  A *witness* is a node that is up, in the life that the ring names. It does not count while a majority of the other
    up nodes accuse it, nor while it accuses a majority of them: more likely it is the one that is cut off, or mad.
    (Where only two are up there is no majority, and both count.)
2.  A node is *accused* by two witnesses; or by one whose stream it does not acknowledge, if nobody accuses that one;
    or, where only one other node is up, by that one if it is refused and does not say the same. Between two nodes
    silence says nothing: each would accuse the other, and the session decides.
3.  Of two that accuse each other, and that nobody else accuses, one goes if they share a list, since writes to it wait
    for both: the one with fewer working links (up or returning nodes, no suspicion in either direction), by a tie
    the successor, which is the one that does not acknowledge the other's stream, else the one that stands later on the
    circle. Where only two are up, only if a stream is at stake.
4.  Accused together are half of the up nodes or more: nobody goes, the sessions decide. A network that splits, or a
    judge that is wrong, looks like that.
5.  Who is *refused* by two witnesses (rule 2: by one) has ended, and goes. Anybody else may be alive with its session,
    and merely slow: where one of its lists would have fewer than ``copies_needed`` members up without it, it stays for
    SPARED_SECONDS more, and for good where a list would have none. (For good in both cases, as R22 has it, would be
    worse than that writes are refused: reads wait for its confirmation, too, its own slots have nobody, and nobody else
    can be made equal. Nothing is lost by it, since it is written down as complete.)
6.  A node that is returning holds nothing together: two witnesses are enough, unless it is the keeper of a list, which
    goes only if it is refused.

Time has a part in it, since reports do not come together: an accusation counts once it has stood for SETTLE_SECONDS
(REFUSED_SETTLE_SECONDS where it is certain), so that the accusers are accused as well by then if they are the ones cut
off, and so that nodes found gone together go by one write. Once somebody goes, all who are accused by then do. A
suspicion that is not repeated for SUSPICION_SECONDS_MAX is over: whoever had it may hang by now. And whoever has not
read a ring acknowledges nothing that it asks for: of whom it was first said after ZooKeeper had gone away that he does
not acknowledge, and who is heard to go by an older ring, goes only after a time for everybody to read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, NamedTuple

from .ring import Node, Ring

Why = Literal["silent", "refused", "stream", ""]

Life = tuple[str, str]
"""A node's id and its incarnation."""

SETTLE_SECONDS = 0.3
REFUSED_SETTLE_SECONDS = 0.05

SPARED_SECONDS = 2.0
"""So long longer a node that some list needs must be accused."""

SUSPICION_SECONDS_MAX = 3.0
"""Three times as long as a detector takes to repeat what it says."""


class Suspicion(NamedTuple):
    """What one node says of another."""

    why: Why
    since: float
    """When it was first said, and"""
    told: float
    """when last, by the clock of whoever keeps it."""
    behind: bool = False
    """Whether he is heard to go by an older ring than who says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Who is to be taken down now (id -> incarnation), and why; when to judge again if nothing is reported before."""

    gone: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    again_at: float | None = None


class Suspicions:
    """What the up nodes say of others, in the lives that the ring names. Times are the keeper's, in seconds."""

    def __init__(self) -> None:
        self._said: dict[Life, dict[Life, Suspicion]] = {}
        self._excused = (0.0, 0.0)

    def excuse_streams(self, since: float, until: float) -> None:
        """From the one moment to the other nodes may not have read the ring yet, for no fault of theirs."""
        self._excused = since, until

    def report(self, ring: Ring, of: Life, by: Life, why: Why, now: float, *, behind: bool = False) -> bool:
        """Take what one node says of another; with no ``why`` it takes back what it said. Returns whether that is new.
        What concerns a life that is past, or comes from a node that is not up, counts for nothing."""
        if of not in _lives(ring, "up", "returning") or by not in _lives(ring, "up") or of == by:
            return False
        said = self._said.get(of, {})
        before = said.get(by)
        if why:
            if before is not None and now - before.told > SUSPICION_SECONDS_MAX:
                before = None
            # Who is silent, and then does not acknowledge either, is accused of the same.
            same = before is not None and (why == before.why or "refused" not in (why, before.why))
            since = before.since if before is not None and same else now
            self._said[of] = {**said, by: Suspicion(why, since, now, behind)}
            return before is None or (before.why, before.behind) != (why, behind)
        self._said[of] = {life: each for life, each in said.items() if life != by}
        return before is not None

    def obey(self, ring: Ring) -> None:
        """Forget what this ring has settled: a new life begins without suspicions, and without any of its own."""
        lives, up = _lives(ring, "up", "returning"), _lives(ring, "up")
        kept = {
            of: {by: each for by, each in said.items() if by in up} for of, said in self._said.items() if of in lives
        }
        self._said = {of: said for of, said in kept.items() if said}

    def by(self, of: Life, now: float) -> dict[str, Why]:
        """Who suspects this life now, and why."""
        said = self._said.get(of, {})
        return {id: each.why for (id, _), each in sorted(said.items()) if now - each.told <= SUSPICION_SECONDS_MAX}

    def judged(self, ring: Ring, now: float) -> Verdict:
        since, until = self._excused
        if now >= until:
            return judged(ring, self._said, now)
        counts = {
            of: {by: each for by, each in said.items() if each.why != "stream" or not each.behind or each.since < since}
            for of, said in self._said.items()
        }
        verdict = judged(ring, counts, now)
        return verdict if counts == self._said else replace(verdict, again_at=min(verdict.again_at or until, until))


def judged(ring: Ring, said: Mapping[Life, Mapping[Life, Suspicion]], now: float) -> Verdict:
    """Who is to be taken down, and why, by the rules above. ``said``: of whom, by whom, what."""
    hearing = _Hearing(ring, said, now)
    accused = hearing.accused()
    if len(hearing.up) > 2 and 2 * len(accused.keys() & hearing.up) >= len(hearing.up):
        return Verdict()
    needed = _needed(ring, accused)
    due = min((accused[life].due + needed[life] for life in needed), default=None)
    if due is None or due > now:
        return Verdict(again_at=due)
    going = [life for life in needed if not needed[life] or accused[life].due + needed[life] <= now]
    return Verdict(gone=dict(going), why="; ".join(accused[life].sentence(life) for life in going))


class _Accusation(NamedTuple):
    """What is enough to take a node down, if its lists can spare it."""

    what: Why
    by: tuple[Life, ...]
    due: float
    """When it has stood for long enough."""

    def sentence(self, of: Life) -> str:
        words = {"refused": "has ended", "silent": "is silent", "stream": "does not acknowledge"}
        says = "say" if len(self.by) > 1 else "says"
        return f"{of[0]} {words[self.what]}, {says} {' and '.join(id for id, _ in self.by)}"


class _Hearing:
    """What was said that still counts, of whom and by whom."""

    def __init__(self, ring: Ring, said: Mapping[Life, Mapping[Life, Suspicion]], now: float) -> None:
        self._ring = ring
        self.up = _lives(ring, "up")
        self._of: dict[Life, dict[Life, Suspicion]] = {}
        for of in sorted(said.keys() & _lives(ring, "up", "returning")):
            fresh = {by: each for by, each in said[of].items() if now - each.told <= SUSPICION_SECONDS_MAX}
            self._of[of] = {by: fresh[by] for by in sorted(fresh.keys() & self.up - {of})}
        self._credible = {life for life in self.up if len(self.up) == 2 or self._is_credible(life)}

    def accused(self) -> dict[Life, _Accusation]:
        """Rules 2 and 3."""
        accusations = {of: self._accusation(of) for of in self._of}
        accused = {of: each for of, each in accusations.items() if each is not None}
        return accused | self._one_of_two(self.up - accused.keys())

    def _is_credible(self, life: Life) -> bool:
        """Rule 1."""
        accusers = len(self._of.get(life, ()))
        accuses = sum(life in by for of, by in self._of.items() if of in self.up)
        return 2 * max(accusers, accuses) < len(self.up)

    def _says(self, by: Life, of: Life) -> Suspicion | None:
        """What a witness says of another node."""
        return self._of.get(of, {}).get(by) if by in self._credible else None

    def _accusation(self, of: Life) -> _Accusation | None:
        """Rule 2."""
        by = {life: each for life, each in self._of[of].items() if life in self._credible}
        refused = {life: each for life, each in by.items() if each.why == "refused"}
        if len(refused) > 1:
            return _Accusation("refused", tuple(refused), _second(refused) + REFUSED_SETTLE_SECONDS)
        if len(by) > 1:
            what: Why = "stream" if any(each.why == "stream" for each in by.values()) else "silent"
            return _Accusation(what, tuple(by), _second(by) + SETTLE_SECONDS)
        for life, each in by.items():
            counter = self._says(of, life)
            if each.why == "refused" and self.up - {of} == {life} and (counter is None or counter.why != "refused"):
                return _Accusation("refused", (life,), each.since + REFUSED_SETTLE_SECONDS)
            if each.why == "stream" and not self._of.get(life, {}).keys() & self._credible:
                return _Accusation("stream", (life,), each.since + SETTLE_SECONDS)
        return None

    def _one_of_two(self, among: set[Life]) -> dict[Life, _Accusation]:
        """Rule 3. Who is in two such pairs has two accusers, so no pair meets another."""
        going = {}
        circle = [life for life in map(_life, self._ring.circle) if life in among]
        for one, other in combinations(circle, 2):
            of_one, of_other = self._says(other, one), self._says(one, other)
            if of_one is None or of_other is None or not self._share_a_list(one, other):
                continue
            streams = [life for life, each in ((one, of_one), (other, of_other)) if each.why == "stream"]
            if len(self.up) == 2 and not streams:
                continue
            links = {life: self._working_links(life, {one, other}) for life in (one, other)}
            if links[one] != links[other]:
                loser = min(links, key=links.__getitem__)
            else:
                loser = streams[0] if len(streams) == 1 else other
            what, by = (of_one.why, other) if loser == one else (of_other.why, one)
            due = max(of_one.since, of_other.since) + SETTLE_SECONDS
            going[loser] = _Accusation("stream" if what == "stream" else "silent", (by,), due)
        return going

    def _working_links(self, life: Life, pair: set[Life]) -> int:
        others = _lives(self._ring, "up", "returning") - pair
        return sum(life not in self._of.get(each, {}) and each not in self._of.get(life, {}) for each in others)

    def _share_a_list(self, one: Life, other: Life) -> bool:
        ids = {one[0], other[0]}
        return any(ids <= {node.id for node in members} for _, members in self._ring.list_runs)


def _needed(ring: Ring, accused: Mapping[Life, _Accusation]) -> dict[Life, float]:
    """Rules 5 and 6: those who may go, clockwise, and for how many seconds more each of them stays."""
    circle = [life for life in map(_life, ring.circle) if life in accused]
    going = {life: 0.0 for life in circle if accused[life].what == "refused"}
    keepers = {each.keeper for each in ring.trouble} - {node.id for node in ring.circle if node.state == "up"}
    up = {id for id, _ in _lives(ring, "up") - going.keys()}
    for life in circle:
        id, left = life[0], up - {life[0]}
        lists = [{node.id for node in members} for _, members in ring.list_runs] if id in up else []
        remaining = min((len(each & left) for each in lists if id in each), default=ring.copies_needed)
        if life in going or id in keepers or not remaining:
            continue
        going[life] = SPARED_SECONDS if remaining < ring.copies_needed else 0.0
        up = left
    return going


def _second(suspicions: Mapping[Life, Suspicion]) -> float:
    """When the second witness came."""
    return sorted(each.since for each in suspicions.values())[1]


def _life(node: Node) -> Life:
    return node.id, node.incarnation


def _lives(ring: Ring, *states: str) -> set[Life]:
    return {_life(node) for node in ring.circle if node.state in states}
