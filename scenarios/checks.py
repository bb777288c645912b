"""Says whether what clients saw, and what the nodes hold in the end, is what a cluster promises. Plain functions.

Each check takes a `History`, the `ClusterState` at the end, or both, and returns violations: sentences with their
evidence. None is good. The state is plain data that whoever plays a story collects from the nodes; what is said of it
holds only after calm: no fault, no change and no client has been at work for a while.

What clients saw                                    what is held in the end
    no_acknowledged_write_lost                          copies_equal
    nothing_deleted_back                                no_foreign_slots
    no_stale_read            at coordinators only       every_slot_served
    no_value_never_written                              every_list_up
    counters_exact
    versions_ascend                                 both
    linearizable             what was promised so       one_coordinator
    expired_in_time          by clocks that differ

`every_check` runs all of them.

**What may pass.** A key that is given an expiry is written once, and judged by ``expired_in_time`` alone. A write that
one copy was enough for is a maybe in the history: a failure may take it back, but not once somebody has read it. Reads
that were allowed to lag must find what somebody had written by then, and no more is said of them.

**Power cuts.** Where power is cut everywhere at once, and disks are synced once a second, the last of what was
acknowledged may be gone. A history with such a cut is judged in lives: that before the cut as it is, without an end;
that after it as if every write of the last moments before had had an unknown outcome, and nobody had read meanwhile.

**Why so many, when linearizability implies half of them?** It is exponential where there are many maybes, and says only
that something is wrong. The others take n log n for n operations, and say what: they look at each observation (a read,
what a compare-and-set found, the final value) and ask for an operation that explains it, one that wrote the value, was
invoked before the observation was completed, and was not overwritten by an acknowledged write in between. They miss
what takes several observations to see; unique values, which a workload should write, keep that little. They never
blame what can have happened.

Keys have no value when the history begins. A value that nobody can predict (APPEND; INCR with an unknown outcome) is
left to ``counters_exact`` and ``linearizable``.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from ..actors.client_requests import as_text
from ..actors.rules.data_commands import parse_integer
from ..actors.rules.ring import Ring
from ..actors.rules.slots import SLOTS, Run, runs, slot
from .history import DELETES, READS, History, Operation, Value, Version, shown
from .linearizability import OPERATIONS_PER_KEY_MAX, PLACES_PER_KEY_MAX, judge

VIOLATIONS_PER_CHECK_MAX = 20
"""So many are told; a further one says how many there were."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was not kept."""

    check: str
    """The name of the check."""
    sentence: str
    operations: tuple[Operation, ...] = ()
    """The evidence, where it lies in the history."""
    certain: bool = True
    """False: nobody knows, since the check came to its limits."""

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A record as one copy holds it."""

    value: bytes
    version: Version
    expiry: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """One incarnation took itself for the coordinator of these slots while it obeyed the ring of this epoch."""

    node: str
    incarnation: str
    epoch: int
    slots: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What one running node holds and does."""

    id: str
    incarnation: str
    epoch: int
    """Of the newest ring that it has read."""
    serving: tuple[Run, ...]
    """The slots it answers for."""
    records: Mapping[bytes, Held]
    """All that it holds, as coordinator or as successor."""
    numbers: Mapping[int, Version] = field(default_factory=dict)
    """By slot the number of the last operation applied (R4), where there is one. Empty where nobody can ask for it."""


@dataclass(frozen=True, kw_only=True)
class ClusterState:
    """A cluster at one moment."""

    ring: Ring
    """The one in ZooKeeper."""
    nodes: tuple[NodeState, ...]
    """Those that run."""

    @cached_property
    def up(self) -> Mapping[str, NodeState]:
        """By id, the nodes that run and that the ring calls up, in this very incarnation (R3)."""
        members = {node.id: node for node in self.ring.nodes if node.state == "up"}
        return {
            node.id: node
            for node in self.nodes
            if node.id in members and members[node.id].incarnation == node.incarnation
        }

    @cached_property
    def values(self) -> Mapping[bytes, bytes]:
        """What a reader would get: the records at the coordinator of each slot."""
        found = {}
        for node in self.nodes:
            for key, held in node.records.items():
                coordinator = self.ring.coordinators[slot(key)]
                if coordinator is not None and (coordinator.id, coordinator.incarnation) == (node.id, node.incarnation):
                    found[key] = held.value
        return found


def every_check(
    history: History,
    state: ClusterState,
    *,
    tenures: Iterable[Tenure] = (),
    power_cuts: Sequence[float] = (),
    reads_at_successors: bool = False,
) -> list[Violation]:
    """All checks. ``power_cuts``: when all that was not synced yet may have been lost. ``reads_at_successors``: some
    reads were allowed to lag, so nothing is said of stale reads and of linearizability."""
    whole, values, fleeting = history, state.values, {each.key for each in history if each.expires_seconds is not None}
    stale = any(each.stale for each in history)
    if fleeting or stale:
        history = History(each for each in whole if each.key not in fleeting and not each.stale)
        values = {key: value for key, value in values.items() if key not in fleeting}
    *former, last = lives_of(history, power_cuts, values)
    observed = (LOST, BACK, NEVER) if reads_at_successors else (LOST, BACK, NEVER, STALE)
    found = [
        *(each for life in former for each in _told_of_observations(life, None, *observed)),
        *_told_of_observations(last, values, *observed),
        *counters_exact(last, values),
        *versions_ascend(history),
        *one_coordinator(history, [*tenures, *tenures_of(state)]),
        *copies_equal(state),
        *no_foreign_slots(state),
        *every_slot_served(state),
        *every_list_up(state),
    ]
    if not reads_at_successors:
        found += [each for life in former for each in linearizable(life)]
        found += linearizable(last, values)
    if stale:
        found += _told_of_observations(History(each for each in whole if each.key not in fleeting), None, NEVER)
    if fleeting:
        passing = History(each for each in whole if each.key in fleeting and not each.stale)
        found += expired_in_time(lives_of(passing, power_cuts, state.values)[-1], state.values)
    return found


# Power cuts.

UNSYNCED_SECONDS_MAX = 1.2
"""What was acknowledged so long before a power cut has been synced, where disks are synced once a second."""


def lives_of(
    history: History, power_cuts: Sequence[float], values: Mapping[bytes, bytes] | None = None
) -> list[History]:
    """What happened up to each power cut, and what happened in all: each time without what the cuts before that can
    have undone. ``values``: those at the end.

    A write of the last moments whose value was found after the cut has happened, and before it: what was lost cannot
    come back later. A workload writes each value once, and no piece that it appends is a part of another.
    """
    lives = []
    for count, end in enumerate((*sorted(power_cuts), math.inf)):
        operations = [_cut_off(each, end) for each in history if each.invoked < end]
        for cut in sorted(power_cuts)[:count]:
            kept: dict[bytes, set[bytes | None]] = defaultdict(set)
            for each in operations:
                if each.found is not None and each.invoked > cut:
                    kept[each.key].add(each.found[0])
            for key, value in values.items() if values is not None and end == math.inf else ():
                kept[key].add(value)
            operations = [each if _outlived(each, cut, kept) else _in_doubt(each) for each in operations]
        lives.append(History(each for each in operations if each.outcome != "maybe" or each.kind not in READS))
    return lives


def _outlived(operation: Operation, cut: float, kept: Mapping[bytes, Collection[bytes | None]]) -> bool:
    """Whether a power cut leaves no doubt of an operation. ``kept``: the values that were found after it, by key."""
    if operation.invoked > cut or _end(operation) < cut - UNSYNCED_SECONDS_MAX:
        return True
    if _end(operation) >= cut or not operation.may_write or not isinstance(operation.argument, bytes):
        return False
    found = kept.get(operation.key, ())
    if operation.kind == "append":  # what was added is a part of what was found
        return any(operation.argument in value for value in found if value is not None)
    return operation.argument in found


def _cut_off(operation: Operation, end: float) -> Operation:
    """As it was known at a moment."""
    return operation if end == math.inf or _end(operation) < end else _in_doubt(operation)


def _in_doubt(operation: Operation) -> Operation:
    if operation.outcome == "not":
        return operation
    return replace(operation, outcome="maybe", value=None, node=None, version=None)


# What clients saw.

LOST = "no_acknowledged_write_lost"
BACK = "nothing_deleted_back"
STALE = "no_stale_read"
NEVER = "no_value_never_written"


def no_acknowledged_write_lost(history: History, values: Mapping[bytes, bytes]) -> list[Violation]:
    """Each key ends with a value that no acknowledged write has overwritten. ``values``: those at the end."""
    return _told_of_observations(history, values, LOST)


def nothing_deleted_back(history: History, values: Mapping[bytes, bytes]) -> list[Violation]:
    """What was written before an acknowledged delete was not seen after it, nor is it there at the end."""
    return _told_of_observations(history, values, BACK)


def no_stale_read(history: History) -> list[Violation]:
    """No read found what an acknowledged write had overwritten before the read was invoked."""
    return _told_of_observations(history, None, STALE)


def no_value_never_written(history: History, values: Mapping[bytes, bytes]) -> list[Violation]:
    """Whatever was found had been written by somebody, who was not refused, and not later."""
    return _told_of_observations(history, values, NEVER)


class _Observation(NamedTuple):
    """Somebody found this value between two moments; the end is after all of them."""

    value: bytes | None
    invoked: float
    completed: float
    operation: Operation | None
    """None: it is the final value."""


class _Writer(NamedTuple):
    """What can explain a value: it took effect between these moments."""

    invoked: float
    completed: float


class _Over(Generic[T]):
    """Answers which of those that were over before a moment ranks highest."""

    def __init__(self, items: Iterable[T], *, end: Callable[[T], float], rank: Callable[[T], Any]) -> None:
        by_end = sorted(items, key=end)
        self._ends = [end(each) for each in by_end]
        self._greatest: list[T] = []
        for each in by_end:
            behind = bool(self._greatest) and rank(each) <= rank(self._greatest[-1])
            self._greatest.append(self._greatest[-1] if behind else each)

    def greatest(self, moment: float) -> T | None:
        count = bisect_left(self._ends, moment)
        return self._greatest[count - 1] if count else None


class _Story:
    """The operations on one key, put in order for questions about observations."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.predictable = not any(
            each.kind == "append" or (each.kind == "incr" and each.outcome == "maybe") for each in operations
        )
        self.observations = [
            _Observation(each.found[0], each.invoked, _end(each), each) for each in operations if each.found is not None
        ]
        lasting = [each for each in operations if each.outcome == "ok" and each.may_write]
        self._lasting = _Over(lasting, end=_end, rank=lambda each: each.invoked)
        self._writers: dict[bytes | None, list[_Writer]] = defaultdict(list)
        self._writers[None].append(_Writer(-math.inf, -math.inf))  # there was nothing at the beginning
        seen: dict[bytes | None, float] = {}
        for value, _, completed, _ in self.observations:
            seen[value] = min(completed, seen.get(value, math.inf))
        for each in operations if self.predictable else ():
            if each.may_write:
                self._writers[each.written].append(
                    _Writer(each.invoked, math.inf if each.outcome == "maybe" else _end(each))
                )
        for value, writers in self._writers.items():
            if len(writers) == 1 and value in seen:  # it had happened when somebody saw it, and this one can only be it
                invoked, completed = writers[0]
                writers[0] = _Writer(invoked, max(invoked, min(completed, seen[value])))
        self._operations = operations
        self._explanations: dict[bytes | None, tuple[list[float], list[float]]] = {}

    def last_before(self, moment: float) -> Operation | None:
        """Of the acknowledged writes that were completed before this moment the one that was invoked last."""
        return self._lasting.greatest(moment)

    def writer_until(self, value: bytes | None, moment: float) -> float | None:
        """When the latest of those that wrote the value, and were invoked by this moment, had taken effect."""
        if value not in self._explanations:
            writers = sorted(self._writers.get(value, ()))
            ends = list(accumulate((each.completed for each in writers), max))
            self._explanations[value] = [each.invoked for each in writers], ends
        begins, ends = self._explanations[value]
        count = bisect_right(begins, moment)
        return ends[count - 1] if count else None

    def why_nobody_wrote(self, value: bytes | None) -> tuple[str, Operation | None]:
        """Words for a value that nothing explains, and what they end with."""
        if value in self._writers:
            return "it was written only later", self._by_argument.get(value)
        if value in self._by_argument:
            return "who would have written it was told that it was not done", self._by_argument[value]
        return "nobody wrote it", None

    @cached_property
    def _by_argument(self) -> Mapping[Value, Operation]:
        return {each.argument: each for each in reversed(self._operations) if each.kind not in READS}


def _end(operation: Operation) -> float:
    return math.inf if operation.completed is None else operation.completed


def _told_of_observations(history: History, values: Mapping[bytes, bytes] | None, *checks: str) -> list[Violation]:
    """What no operation explains, sorted by the promise it breaks; only these ``checks`` are told."""
    found: dict[str, list[Violation]] = {check: [] for check in checks}
    by_key = history.by_key()
    for key, operations in by_key.items():
        story = _Story(operations)
        if not story.predictable:
            continue
        observations = story.observations
        if values is not None:
            observations = [*observations, _Observation(values.get(key), math.inf, math.inf, None)]
        for observation in observations:
            value, invoked, completed, operation = observation
            effect = story.writer_until(value, completed)
            last = story.last_before(invoked)
            if effect is not None and (last is None or effect >= last.invoked):
                continue
            if effect is None:
                check, (why, evidence) = NEVER, story.why_nobody_wrote(value)
            else:
                assert last is not None
                check = BACK if last.kind in DELETES else LOST if operation is None else STALE
                done = "deleted" if last.kind in DELETES else "overwritten"
                why, evidence = f"before that it was {done} by the acknowledged", last
            if check in found:
                what = f"ends with {shown(value)}" if operation is None else f"held {shown(value)} for {operation}"
                found[check].append(_violation(check, f"{_name(key)} {what}; {why}", evidence, operation))
    if values is not None and NEVER in found:
        for key in sorted(values.keys() - by_key.keys()):
            sentence = f"{_name(key)} ends with {shown(values[key])}; no operation was about this key"
            found[NEVER].append(Violation(check=NEVER, sentence=sentence))
    return [violation for check in checks for violation in _bounded(check, found[check])]


def _violation(check: str, text: str, *evidence: Operation | None) -> Violation:
    """A sentence that ends with its first piece of evidence."""
    if evidence[0] is not None:
        text = f"{text}: {evidence[0]}"
    return Violation(check=check, sentence=text, operations=tuple(each for each in evidence if each is not None))


def counters_exact(history: History, values: Mapping[bytes, bytes]) -> list[Violation]:
    """Of keys that were only counted: every number that was returned, read or is there in the end lies between what was
    certainly added by then and what may have been; and where all add alike (1 upwards, or all downwards), none was
    returned twice, and whatever was invoked after another was completed has counted it."""
    found: list[Violation] = []
    for key, operations in history.by_key().items():
        counted = [each for each in operations if each.kind == "incr" and each.outcome != "not"]
        if counted and all(each.kind == "incr" or each.kind in READS for each in operations):
            name = _name(key)
            seen = [
                _Number(_number(each.value), _by(each), each.invoked, each.completed, each)
                for each in operations
                if each.outcome == "ok" and each.kind in ("incr", "get") and each.completed is not None
            ]
            seen.append(_Number(_number(values.get(key)), 0, math.inf, math.inf, None))
            found += _wrong_sums(name, counted, seen)
            found += _wrong_order(name, counted, seen)
    return _bounded("counters_exact", found)


class _Number(NamedTuple):
    """A number that somebody saw, after adding ``by`` to it. None: it was no number."""

    number: int | None
    by: int
    invoked: float
    completed: float
    operation: Operation | None
    """None: it is the final value."""

    def __str__(self) -> str:
        return f"it ends with {self.number}" if self.operation is None else str(self.operation)


def _number(value: object) -> int | None:
    return 0 if value is None else parse_integer(value) if isinstance(value, bytes) else int(str(value))


def _by(operation: Operation) -> int:
    return operation.argument if isinstance(operation.argument, int) else 0


def _wrong_sums(name: str, counted: Sequence[Operation], seen: Sequence[_Number]) -> Iterator[Violation]:
    done = sorted((_end(each), _by(each)) for each in counted if each.outcome == "ok")
    ends = [end for end, _ in done]
    certain = _sums(by for _, by in done)
    certain_up, certain_down = (_sums(_part(by, sign) for _, by in done) for sign in (1, -1))
    begun = sorted((each.invoked, _by(each)) for each in counted)
    begins = [begin for begin, _ in begun]
    possible_up, possible_down = (_sums(_part(by, sign) for _, by in begun) for sign in (1, -1))
    for each in seen:
        before, by_then = bisect_left(ends, each.invoked), bisect_right(begins, each.completed)
        own_up, own_down = _part(each.by, 1), _part(each.by, -1)
        low = certain[before] + each.by + possible_down[by_then] - certain_down[before] - own_down
        high = certain[before] + each.by + possible_up[by_then] - certain_up[before] - own_up
        if each.number is None or not low <= each.number <= high:
            yield Violation(
                check="counters_exact",
                sentence=f"{name}: {each}; but by then it was from {low} to {high}: {before} acknowledged additions "
                f"were over, and {by_then} had been invoked and not refused",
                operations=() if each.operation is None else (each.operation,),
            )


def _part(by: int, sign: int) -> int:
    return by if by * sign > 0 else 0


def _sums(numbers: Iterable[int]) -> list[int]:
    return list(accumulate(numbers, initial=0))


def _wrong_order(name: str, counted: Sequence[Operation], seen: Sequence[_Number]) -> Iterator[Violation]:
    sign = 1 if all(_by(each) > 0 for each in counted) else -1 if all(_by(each) < 0 for each in counted) else 0
    numbers = [each for each in seen if each.number is not None] if sign else []
    returned: dict[int | None, _Number] = {}
    for each in numbers:
        if each.by and returned.setdefault(each.number, each) is not each:
            yield _contradiction(name, returned[each.number], each, "the number was given twice")
    over = _Over(numbers, end=lambda each: each.completed, rank=lambda each: sign * (each.number or 0))
    for each in numbers:
        before = over.greatest(each.invoked)
        if before is not None and sign * (before.number or 0) > sign * ((each.number or 0) - each.by):
            yield _contradiction(name, before, each, "the second has not counted the first")


def _contradiction(name: str, one: _Number, other: _Number, why: str) -> Violation:
    operations = tuple(each.operation for each in (one, other) if each.operation is not None)
    return Violation(check="counters_exact", sentence=f"{name}: {why}: {one}; {other}", operations=operations)


CLOCKS_SECONDS = 0.12
"""By so much the clocks of two nodes differ at most, and their milliseconds."""

LASTING_SECONDS = 600.0
"""What expires later than this does not do so before the end of a story."""


def expiring(history: History) -> set[bytes]:
    """The keys that a story lasts longer than."""
    return {each.key for each in history if each.expires_seconds is not None and each.expires_seconds < LASTING_SECONDS}


def about_to_expire(state: ClusterState, history: History) -> set[bytes]:
    """Those of them that some node still holds."""
    return expiring(history) & {key for node in state.nodes for key in node.records}


def expired_in_time(history: History, values: Mapping[bytes, bytes]) -> list[Violation]:
    """Of keys that were written once, with an expiry: the value is seen, once it was acknowledged, until it expires,
    and not afterwards; give and take what clocks differ by. Keys that no story outlasts are there in the end."""
    found = []
    for key, operations in history.by_key().items():
        (write,) = (each for each in operations if each.kind == "set")
        assert write.expires_seconds is not None
        done = write.outcome == "ok"
        gone_from = write.invoked + write.expires_seconds - CLOCKS_SECONDS
        gone_at = _end(write) + write.expires_seconds + CLOCKS_SECONDS if done else math.inf
        for each in operations:
            if each.found is None or each is write:
                continue
            (value,), why = each.found, ""
            if value is None:
                if done and _end(write) < each.invoked and _end(each) < gone_from:
                    why = "found nothing before it was to expire"
            elif value != write.argument or write.outcome == "not" or _end(each) < write.invoked:
                why = "found what nobody had written"
            elif each.invoked > gone_at:
                why = "found it after it was to expire"
            if why:
                found.append(_violation("expired_in_time", f"{_name(key)}: {each} {why}", write, each))
        lasts = done and write.expires_seconds >= LASTING_SECONDS
        if values.get(key, write.argument if not lasts else None) != write.argument or (
            key in values and write.outcome == "not"
        ):
            found.append(
                _violation("expired_in_time", f"{_name(key)} ends with {shown(values.get(key))}; it was written", write)
            )
    return _bounded("expired_in_time", found)


def versions_ascend(history: History) -> list[Violation]:
    """Where the versions of acknowledged writes are known: no two writes of a slot have the same, and what was invoked
    after another of its slot was completed has the higher."""
    by_slot: dict[int, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.version is not None and operation.outcome == "ok" and operation.may_write:
            by_slot[slot(operation.key)].append(operation)
    found = []
    for number, writes in sorted(by_slot.items()):
        given: dict[Version | None, Operation] = {}
        for each in writes:
            first = given.setdefault(each.version, each)
            if first is not each:
                found.append((f"slot {number}: two writes have the same version", first, each))
        over = _Over(writes, end=_end, rank=_version)
        for each in writes:
            before = over.greatest(each.invoked)
            if before is not None and _version(before) > _version(each):
                found.append((f"slot {number}: the version went back", before, each))
    return _bounded(
        "versions_ascend",
        [
            Violation(check="versions_ascend", sentence=f"{what}: {one}; {other}", operations=(one, other))
            for what, one, other in found
        ],
    )


def _version(operation: Operation) -> Version:
    return operation.version or (0, 0)


def linearizable(
    history: History,
    values: Mapping[bytes, bytes] | None = None,
    *,
    operations_max: int = OPERATIONS_PER_KEY_MAX,
    places_max: int = PLACES_PER_KEY_MAX,
) -> list[Violation]:
    """The operations on each key can have happened one at a time, and left ``values``, if these are given. A key for
    which nobody can tell is told of too, as not certain."""
    found = []
    for key, operations in history.by_key().items():
        if values is not None:
            operations = [*operations, _final_read(key, values.get(key), history)]
        verdict = judge(operations, operations_max=operations_max, places_max=places_max)
        if verdict.answer != "yes":
            evidence = () if verdict.unexplained is None else (*verdict.around, verdict.unexplained)
            found.append(
                Violation(
                    check="linearizable",
                    sentence=verdict.sentence,
                    operations=evidence,
                    certain=verdict.answer == "no",
                )
            )
    return _bounded("linearizable", found)


def _final_read(key: bytes, value: bytes | None, history: History) -> Operation:
    return Operation(
        number=len(history),
        client="(the end)",
        kind="get",
        key=key,
        invoked=math.inf,
        completed=math.inf,
        outcome="ok",
        value=value,
    )


# What is held in the end.


def copies_equal(state: ClusterState) -> list[Violation]:
    """All members of a list that are up hold the same records, version and expiry included, as the first that is up,
    and number them alike."""
    found = []
    lists = state.ring.lists
    for number in sorted({number for node in state.up.values() for number in node.numbers}):
        copies = [state.up[member.id] for member in lists[number] if member.id in state.up]
        for copy in copies[1:]:
            if copy.numbers.get(number) != copies[0].numbers.get(number):
                one, other = (f"at {each.id} {_numbered(each.numbers.get(number))}" for each in (copies[0], copy))
                sentence = f"slot {number} is {one}, and {other}"
                found.append(Violation(check="copies_equal", sentence=sentence))
    for key in sorted({key for node in state.up.values() for key in node.records}):
        copies = [state.up[member.id] for member in lists[slot(key)] if member.id in state.up]
        for copy in copies[1:]:
            if copy.records.get(key) != copies[0].records.get(key):
                one, other = (f"{each.id} holds {_record(each.records.get(key))}" for each in (copies[0], copy))
                sentence = f"{as_text(key)} (slot {slot(key)}): {one}, {other}"
                found.append(Violation(check="copies_equal", sentence=sentence))
    return _bounded("copies_equal", found)


def no_foreign_slots(state: ClusterState) -> list[Violation]:
    """No node holds records of a slot in whose list it does not stand. Who was given up keeps what it holds until it is
    a member again."""
    found = []
    waiting = {node.id for node in state.ring.nodes if node.given_up}
    for node in sorted((node for node in state.nodes if node.id not in waiting), key=lambda node: node.id):
        foreign: dict[int, list[bytes]] = defaultdict(list)
        for key in node.records:
            number = slot(key)
            if all(member.id != node.id for member in state.ring.lists[number]):
                foreign[number].append(key)
        if foreign:
            keys = sorted(key for some in foreign.values() for key in some)
            found.append(
                Violation(
                    check="no_foreign_slots",
                    sentence=f"{node.id} holds {len(keys)} keys in {len(foreign)} slots that are not its own in ring "
                    f"{state.ring.epoch}, such as {as_text(keys[0])} in slot {slot(keys[0])}",
                )
            )
    return _bounded("no_foreign_slots", found)


def every_slot_served(state: ClusterState) -> list[Violation]:
    """The coordinator of each slot runs, has read the ring and answers for it, and nobody else does."""
    coordinators = state.ring.coordinators
    nodes = sorted(state.nodes, key=lambda node: node.id)
    running = {(node.id, node.incarnation): node for node in nodes}
    edges = {run.first for run, _ in runs(coordinators)} | {SLOTS}
    edges |= {edge for node in nodes for run in node.serving for edge in (run.first, run.last + 1)}
    table: list[str] = []
    for first, end in pairwise(sorted(edges)):
        coordinator = coordinators[first]
        names = [node.id for node in nodes if any(run.first <= first <= run.last for run in node.serving)]
        trouble = ""
        if coordinator is None:
            trouble = "have no coordinator"
        elif (holder := running.get((coordinator.id, coordinator.incarnation))) is None:
            trouble = (
                f"have the coordinator {coordinator.id}, which does not run in the incarnation that the ring names"
            )
        elif holder.epoch != state.ring.epoch:
            trouble = f"have the coordinator {coordinator.id}, which obeys ring {holder.epoch}"
        elif coordinator.id not in names:
            trouble = f"have the coordinator {coordinator.id}, which does not answer for them"
        elif len(names) > 1:
            trouble = f"are answered for by {', '.join(names)}"
        table += [trouble] * (end - first)
    return _bounded(
        "every_slot_served",
        [
            Violation(check="every_slot_served", sentence=f"slots {run} {trouble} (ring {state.ring.epoch})")
            for run, trouble in runs(table)
            if trouble
        ],
    )


def every_list_up(state: ClusterState) -> list[Violation]:
    """All members of all lists are up, and run."""
    found = []
    for node in state.ring.circle:
        if node.id not in state.up:
            how = f"is {node.state} in ring {state.ring.epoch}"
            if node.state == "up":
                how += f" as incarnation {node.incarnation}, which does not run"
            found.append(Violation(check="every_list_up", sentence=f"{node.id} {how}"))
    return _bounded("every_list_up", found)


# Both.


def one_coordinator(history: History, tenures: Iterable[Tenure]) -> list[Violation]:
    """In each epoch every slot had at most one coordinator: by what nodes took themselves for, and by who stamped the
    acknowledged writes."""
    by_epoch: dict[int, set[tuple[Run, str, str]]] = defaultdict(set)
    for tenure in tenures:
        by_epoch[tenure.epoch] |= {(run, tenure.node, tenure.incarnation) for run in tenure.slots}
    found = []
    for epoch, claims in sorted(by_epoch.items()):
        farthest: tuple[Run, str, str] | None = None
        for claim in sorted(claims):
            if farthest is not None and claim[0].first <= farthest[0].last and claim[1:] != farthest[1:]:
                both = Run(claim[0].first, min(claim[0].last, farthest[0].last))
                one, other = (f"{node} (incarnation {incarnation})" for _, node, incarnation in (farthest, claim))
                sentence = f"slots {both} have two coordinators in epoch {epoch}: {one} and {other}"
                found.append(Violation(check="one_coordinator", sentence=sentence))
            if farthest is None or claim[0].last > farthest[0].last:
                farthest = claim
    stamped: dict[tuple[int, int], Operation] = {}
    for each in history:
        if each.version is not None and each.node is not None and each.outcome == "ok" and each.may_write:
            first = stamped.setdefault((slot(each.key), each.version[0]), each)
            if first.node != each.node:
                sentence = f"slot {slot(each.key)} was written by two coordinators in epoch {each.version[0]}: "
                found.append(
                    Violation(check="one_coordinator", sentence=f"{sentence}{first}; {each}", operations=(first, each))
                )
    return _bounded("one_coordinator", found)


def tenures_of(state: ClusterState) -> list[Tenure]:
    """What the nodes of a state take themselves for."""
    return [
        Tenure(node=node.id, incarnation=node.incarnation, epoch=node.epoch, slots=node.serving) for node in state.nodes
    ]


# Words.


def _name(key: bytes) -> str:
    return f"{as_text(key)} (slot {slot(key)})"


def _record(held: Held | None) -> str:
    if held is None:
        return "nothing"
    expiry = f", expiring at {held.expiry} ms" if held.expiry else ""
    return f"{shown(held.value)} of version {held.version[0]}.{held.version[1]}{expiry}"


def _numbered(number: Version | None) -> str:
    return "unnumbered" if number is None else f"at number {number[0]}.{number[1]}"


def _bounded(check: str, found: Sequence[Violation]) -> list[Violation]:
    if len(found) <= VIOLATIONS_PER_CHECK_MAX:
        return list(found)
    sentence = f"{check}: {len(found)} violations in all, of which the first {VIOLATIONS_PER_CHECK_MAX} are told"
    return [*found[:VIOLATIONS_PER_CHECK_MAX], Violation(check=check, sentence=sentence)]
