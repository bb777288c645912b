"""Judges copies of the same slots: which of them are what they should be (R25).

Two copies of a slot that have applied the same operations, as its number says (R4), hold the same: keys, versions,
expiries, values. Expiry is no exception, since an expired record is there until its coordinator deletes it by an
operation. So copies are compared at one number, first by a sum over each slot, then, where the sums differ, record by
record.

Of copies that differ the *odd* ones are those that most of all copies contradict with one voice. Of two copies nobody
can say which is the odd one.

Where no such majority agrees about the whole slot, most copies may still agree about each key: of three, two have a bad
record each. Then one of them goes, the others when it is back. It is made anew from whoever coordinates meanwhile, and
if that one has a bad record in turn, two have it then, and the right copy is the odd one next. So a node goes only
where that one is right in all; else nothing is removed. And what fewer have in a newer version, or have at all, may be
what the others have missed, one more of it than another: of such a key nobody can say.

A node is made anew with all that it holds, so this is asked of a whole list, not of one slot: `Votes` adds up what was
found in its slots.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from .mirror import Recorded, digest_of
from .ring import Node, Ring, Trouble

Position = tuple[int, bytes]
Listed = tuple[int, bytes, int, int, int, int]
"""A record: slot, key, epoch, seq, expiry, CRC-32 of the value."""

Content = tuple[int, int, int, int]
"""What a copy has under a key: epoch, seq, expiry, CRC-32 of the value."""

Summed = tuple[int, int, int, int, int]
"""What a copy holds of a slot between two positions: slot, epoch and seq of its number, keys, digest."""

KEYS_SHOWN_MAX = 3
KEY_SHOWN_BYTES_MAX = 48


def summed(records: Iterable[tuple[int, bytes, Recorded]], numbers: Iterable[tuple[int, int, int]]) -> list[Summed]:
    """By slot, records in the order of (slot, key) and the slots' numbers; a slot with neither is left out."""
    sums = {slot: (slot, epoch, seq, 0, 0) for slot, epoch, seq in numbers}
    for slot, group in groupby(records, key=lambda each: each[0]):
        content = list(group)
        _, epoch, seq, _, _ = sums.get(slot, (slot, 0, 0, 0, 0))
        sums[slot] = slot, epoch, seq, len(content), digest_of(content, ())
    return [sums[slot] for slot in sorted(sums)]


def compared(own: Sequence[Summed], other: Sequence[Summed]) -> tuple[set[int], set[int]]:
    """The slots of which two copies differ, and those of which nobody can say: they are at other numbers."""
    ours, theirs = ({each[0]: each[1:] for each in sums} for sums in (own, other))
    differ, busy = set(), set()
    for slot in ours.keys() | theirs.keys():
        mine, its = ours.get(slot, (0, 0, 0, 0)), theirs.get(slot, (0, 0, 0, 0))
        if mine[:2] != its[:2]:
            busy.add(slot)
        elif mine != its:
            differ.add(slot)
    return differ, busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Copies of a slot that hold different things at one number."""

    slot: int
    number: tuple[int, int]
    keys: tuple[bytes, ...]
    """Of the records that differ, ascending."""
    bad: Mapping[str, int]
    """By node, in how many keys most others contradict it; none: nobody can say."""
    odd: tuple[str, ...]
    """The nodes whose copies are to be made anew, as far as this slot tells; none: nobody can say, or no copy can be
    made anew from a right one."""
    sentence: str


def difference(slot: int, number: tuple[int, int], copies: Mapping[str, Sequence[Listed]]) -> Difference | None:
    """What differs between the copies of a slot, by node in the order of the slot's list; None: nothing does."""
    contents = {node: {each[1]: each[2:] for each in records} for node, records in copies.items()}
    all_keys = sorted({key for content in contents.values() for key in content})
    keys = tuple(key for key in all_keys if len({content.get(key) for content in contents.values()}) > 1)
    if not keys:
        return None
    agreeing = max(([node for node in contents if contents[node] == content] for content in contents.values()), key=len)
    verdict = "nobody can say which of them is right, and nothing is removed"
    most = 2 * len(agreeing) > len(contents)
    if most:
        right = contents[agreeing[0]]
        bad = Counter(node for key in keys for node in contents if contents[node].get(key) != right.get(key))
    else:
        bad = _bad_keys(keys, contents)
    odd = to_go(list(contents), bad)
    if most:
        verdict = f"{', '.join(odd)} {'is' if len(odd) == 1 else 'are'} the odd one out"
    elif bad:
        verdict = f"most agree about each key, and the odd one out is {_counted(bad)}"
        if odd:
            verdict += f"; one after the other is made anew, {odd[0]} first"
        else:
            verdict += "; none can be made anew from a copy that is right in all, and nothing is removed"
    shown = "; ".join(
        f"key {_shown(key)}: "
        + ", ".join(f"{node} has {_said(content.get(key))}" for node, content in sorted(contents.items()))
        for key in keys[:KEYS_SHOWN_MAX]
    )
    more = f"; and {len(keys) - KEYS_SHOWN_MAX} more keys" if len(keys) > KEYS_SHOWN_MAX else ""
    sentence = f"the copies of slot {slot} differ at number {number[0]}.{number[1]}: {shown}{more}; {verdict}"
    return Difference(slot=slot, number=number, keys=keys, bad=dict(bad), odd=odd, sentence=sentence)


def _bad_keys(keys: Iterable[bytes], contents: Mapping[str, Mapping[bytes, Content]]) -> Counter[str]:
    """By node, in how many of the keys most of all copies contradict it; none: of some key nobody can say."""
    bad: Counter[str] = Counter()
    for key in keys:
        had = Counter(content.get(key) for content in contents.values())
        right, times = had.most_common(1)[0]
        newest = max(each[:2] for each in had if each is not None)
        if 2 * times <= len(contents) or right is None or right[:2] < newest:
            return Counter()
        bad.update(node for node, content in contents.items() if content.get(key) != right)
    return bad


def to_go(nodes: Sequence[str], bad: Mapping[str, int]) -> tuple[str, ...]:
    """Which of the bad copies go, nodes in the order of their list: all, where most are right in all; else one that can
    be made anew from a right one, of several the worst; none: no one can."""
    if 2 * len(bad) < len(nodes):
        return tuple(sorted(bad))
    coordinator, follower = nodes[:2]
    if coordinator not in bad:
        return (min(bad, key=lambda node: (-bad[node], node)),)
    return () if follower in bad else (coordinator,)


def _counted(bad: Mapping[str, int]) -> str:
    return ", ".join(f"{node} in {bad[node]}" for node in sorted(bad))


@dataclass(slots=True)
class Votes:
    """What was found in the slots of one list, added up."""

    nodes: tuple[str, ...]
    """The members that were compared, in the order of the list."""
    bad: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)
    """By bad node, the sentence of the first slot in which it is."""
    unsure: bool = False
    """Of a key nobody can say which copy is right."""

    def add(self, found: Difference) -> None:
        self.bad.update(found.bad)
        self.unsure = self.unsure or not found.bad
        for node in found.bad:
            self.why.setdefault(node, found.sentence)

    def odd(self) -> tuple[str, ...]:
        return () if self.unsure else to_go(self.nodes, self.bad)

    def sentence(self) -> str:
        keys = f"of the copies of one list at {', '.join(self.nodes)} the odd one out is, by keys, {_counted(self.bad)}"
        if odd := self.odd():
            first = " first" if len(odd) < len(self.bad) else ""
            return f"{keys}; {', '.join(odd)} {'is' if len(odd) == 1 else 'are'} made anew{first}"
        if self.unsure:
            return f"{keys}; of another key nobody can say which is right, and nothing is removed"
        none = "none can be made anew from a copy that is right in all, and nothing is removed: write those keys anew"
        return f"{keys}; {none}"


def spares(ring: Ring, id: str) -> bool:
    """Whether nothing is lost with a node's copies: each list that it is in is answered for by another member."""
    return _in_each_list(ring, id, lambda each: each.keeper not in (None, id))


def may_go(ring: Ring, id: str, good: Container[str]) -> bool:
    """Whether a node may be called down: as above, or another member is back that was complete when the list fell below
    ``copies_needed`` (R14), and will be its keeper.

    Only the ``good`` count: who is known to live, whose own copy is not damaged, since each may hold what the other
    cannot read, and of whom, if it is returning, a power cut has taken nothing.
    """

    def is_back(each: Trouble) -> bool:
        members = [node for node in ring.circle if node.id != id and node.state == "returning" and node.id in good]
        return any((node.id, node.data_id) in each.complete for node in members)

    return _in_each_list(ring, id, is_back, lambda node: node.id in good)


def others_hold(ring: Ring, id: str) -> bool:
    """Whether a node that does not run yet may begin without what it holds: in each list that it is in another member
    was up in this ring, or complete when nobody was (R14), and has not lost its data directory since."""

    def is_held(each: Trouble) -> bool:
        return any(other != id and ring.by_id[other].data_id == data_id for other, data_id in each.complete)

    return _in_each_list(ring, id, is_held)


def _in_each_list(
    ring: Ring, id: str, enough: Callable[[Trouble], bool], counts: Callable[[Node], bool] = lambda node: True
) -> bool:
    """Whether in each list of a node another member is up that ``counts``, or what is written down of it is enough."""
    for run, members in ring.list_runs:
        others = [node for node in members if node.id != id]
        if len(others) == len(members) or any(node.state == "up" and counts(node) for node in others):
            continue
        noted = [each for each in ring.trouble if run.first <= each.slots.first <= run.last]
        if sum(each.slots.size for each in noted) < run.size or not all(map(enough, noted)):
            return False
    return True


def _shown(key: bytes) -> str:
    return repr(key[:KEY_SHOWN_BYTES_MAX]) + ("..." if len(key) > KEY_SHOWN_BYTES_MAX else "")


def _said(record: Content | None) -> str:
    if record is None:
        return "nothing"
    epoch, seq, expiry, checksum = record
    return f"version {epoch}.{seq}{f' expiring at {expiry}' if expiry else ''}, checksum {checksum:08x}"
