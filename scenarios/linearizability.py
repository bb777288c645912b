"""Asks whether the operations on one key can have happened one at a time, each between its invocation and its answer.

That is linearizability (Herlihy and Wing 1990). It is local: a history is linearizable if the operations on each key
are, so keys are judged apart. Deciding it takes exponential time in the worst case; the search is the one of Wing and
Gong (1993) with what Lowe (2017) added, states seen once are not looked at twice and nothing is ordered before it must:

    at the answer of x:   x is in the order already ------------------------------> go to the next answer
                          else put x into the order, or before it any operation that is open, until x is in
                          no way left --------------------------------------------> back to the last choice

A place in the search is (answers passed, open operations in the order, value of the key). When no place gets past the
answer of x, no order explains x and what happened before it: that is the verdict's sentence.

**Maybe.** An operation without a known outcome is open from its invocation for ever, need not be in the order, and its
answer says nothing. n of them can be left out in 2^n ways, so three rules keep the search small, none of which
changes a verdict:

- what changes nothing (reads, conditions that did not hold) is put into the order as soon as it fits the value;
- a place is skipped if another with the same answers, value and known operations needed only some of its maybes;
- a maybe is pointless if the next operation does the same without it; of equal maybes the oldest goes first.

**Limits.** OPERATIONS_PER_KEY_MAX and PLACES_PER_KEY_MAX, numbers rather than seconds: the same history gets the same
verdict on every machine. Beyond them the verdict is ``unknown``, which is no kind of ok.

A *model* says what one operation does to a value: it makes of an operation a step, from the value before to the value
after, or IMPOSSIBLE if the answer cannot be given then. `string` is that of the keys of ringkeeper: registers with
compare-and-set, counters, strings.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..actors.client_requests import as_text
from ..actors.rules.data_commands import parse_integer
from .history import READS, Operation, shown

OPERATIONS_PER_KEY_MAX = 100_000
PLACES_PER_KEY_MAX = 500_000
"""Places of the search that are remembered for one key, about 300 bytes and 10 us each."""
VALUES_SHOWN_MAX = 5

IMPOSSIBLE: Final = object()
"""What a step gives when the operation cannot have had its answer on this value."""

State = Hashable
Step = Callable[[Any], Any]
Model = Callable[[Operation], Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the search found for one key."""

    key: bytes
    answer: Literal["yes", "no", "unknown"]
    sentence: str
    """Why not, or why nobody knows; "" for yes."""
    unexplained: Operation | None = None
    """For no: the first operation, by the time of its answer, that no order explains."""
    around: tuple[Operation, ...] = ()
    """For no: what was open at its answer, and the last that were over."""
    places: int = 0
    """How many the search looked at."""


def string(operation: Operation) -> Step:
    """The model of a key that holds bytes, or None when there is no value."""
    value, argument, expected = operation.value, operation.argument, operation.expected
    known = operation.outcome == "ok"
    match operation.kind:
        case "get":
            return lambda state: state if state == value else IMPOSSIBLE
        case "exists":
            return lambda state: state if (state is not None) == bool(value) else IMPOSSIBLE
        case "strlen":
            return lambda state: state if len(state or b"") == value else IMPOSSIBLE
        case "set":
            return lambda state: argument
        case "setnx" if known and not value:
            return lambda state: state if state is not None else IMPOSSIBLE
        case "setnx":
            return lambda state: argument if state is None else IMPOSSIBLE
        case "setxx" if known and not value:
            return lambda state: state if state is None else IMPOSSIBLE
        case "setxx":
            return lambda state: argument if state is not None else IMPOSSIBLE
        case "cas" if known and not value:
            return lambda state: state if state != expected else IMPOSSIBLE
        case "cas":
            return lambda state: argument if state == expected else IMPOSSIBLE
        case "getset" if known:
            return lambda state: argument if state == value else IMPOSSIBLE
        case "getset":
            return lambda state: argument
        case "delete" if known:
            return lambda state: None if (state is not None) == bool(value) else IMPOSSIBLE
        case "getdel" if known:
            return lambda state: None if state == value else IMPOSSIBLE
        case "delete" | "getdel":
            return lambda state: None
        case "append":
            return _append(operation)
        case "incr":
            return _incr(operation)


def _append(operation: Operation) -> Step:
    added, length = operation.argument, operation.value if operation.outcome == "ok" else None
    assert isinstance(added, bytes)

    def step(state: bytes | None) -> object:
        after = (state or b"") + added
        return after if length is None or len(after) == length else IMPOSSIBLE

    return step


def _incr(operation: Operation) -> Step:
    by, total = operation.argument, operation.value if operation.outcome == "ok" else None
    assert isinstance(by, int)

    def step(state: bytes | None) -> object:
        number = 0 if state is None else parse_integer(state)
        if number is None or (total is not None and number + by != total):
            return IMPOSSIBLE
        return b"%d" % (number + by)

    return step


def judge(
    operations: Sequence[Operation],
    *,
    initial: State = None,
    model: Model = string,
    operations_max: int = OPERATIONS_PER_KEY_MAX,
    places_max: int = PLACES_PER_KEY_MAX,
) -> Verdict:
    """Judge the operations on one key, which held ``initial`` before. Raises ValueError when there are several keys."""
    keys = {operation.key for operation in operations}
    if len(keys) > 1:
        raise ValueError(f"one key is judged at a time, and these operations have {len(keys)}")
    key = keys.pop() if keys else b""
    if len(operations) > operations_max:
        text = f"{as_text(key)}: nobody knows whether its {len(operations)} operations are linearizable: "
        return Verdict(key=key, answer="unknown", sentence=f"{text}more than {operations_max} are not looked at")
    return _Search(key, operations, initial, model, places_max).run()


class _Search:
    """The search for an order of the operations on one key.

    Of the operations that are over each has a bit while it is open; bits are given again, so that they stay few. The
    maybes have bits of their own, in the order of their invocation, and keep them.
    """

    def __init__(
        self, key: bytes, operations: Sequence[Operation], initial: State, model: Model, places_max: int
    ) -> None:
        self._key, self._initial, self._places_max = key, initial, places_max
        self._operations = [each for each in operations if each.outcome != "not"]
        over = [each for each in self._operations if each.outcome == "ok"]
        maybes = [each for each in self._operations if each.outcome == "maybe" and each.kind not in READS]
        self._lay_out_answers(sorted(over, key=lambda each: (each.completed, each.number)), model)
        self._lay_out_maybes(sorted(maybes, key=lambda each: (each.invoked, each.number)), model)
        self._seen: dict[tuple[int, int, State], tuple[int, ...]] = {}
        self._places = 0
        self._farthest = 0
        """Answers that some place has got past..."""
        self._values: list[State] = []
        """...and the values of the key at those places."""

    def _lay_out_answers(self, answers: list[Operation], model: Model) -> None:
        self._answers = answers
        self._steps: list[Step] = [model(each) for each in answers]
        self._bits = [0] * len(answers)
        self._changing: list[tuple[int, ...]] = []
        """Which operations that may change the value are open at each answer, those answered first first..."""
        self._reading: list[tuple[int, ...]] = []
        """...and which that do not."""
        begins = sorted(range(len(answers)), key=lambda index: (answers[index].invoked, answers[index].number))
        changes_nothing = [not each.may_write for each in answers]
        is_open: dict[int, None] = {}
        free: list[int] = []
        begun = bits = 0
        for index, answer in enumerate(answers):
            assert answer.completed is not None
            while begun < len(begins) and answers[begins[begun]].invoked <= answer.completed:
                if not free:
                    free.append(1 << bits)
                    bits += 1
                is_open[begins[begun]] = None
                self._bits[begins[begun]] = free.pop()
                begun += 1
            now = sorted(is_open)
            self._changing.append(tuple(each for each in now if not changes_nothing[each] and each != index))
            self._reading.append(tuple(each for each in now if changes_nothing[each]))
            free.append(self._bits[index])
            del is_open[index]

    def _lay_out_maybes(self, maybes: list[Operation], model: Model) -> None:
        self._maybes = maybes
        self._maybe_steps: list[Step] = [model(each) for each in maybes]
        self._after: list[int] = []
        """The bit of the next older maybe that is equal to this one; 0: there is none."""
        last: dict[Hashable, int] = {}
        for index, each in enumerate(maybes):
            like = (each.kind, each.argument, each.expected)
            self._after.append(last.get(like, 0))
            last[like] = 1 << index
        self._maybes_open: list[int] = []
        begun = 0
        for answer in self._answers:
            assert answer.completed is not None
            while begun < len(maybes) and maybes[begun].invoked <= answer.completed:
                begun += 1
            self._maybes_open.append(begun)

    def run(self) -> Verdict:
        # Generators, so that what is not needed is not even made: mostly the first way on is the right one.
        self._values.append(self._initial)
        path = [iter([(0, 0, 0, self._initial, IMPOSSIBLE)])]
        while path:
            for here, had, maybes, value, before in path[-1]:
                position, ordered = self._settle(here, had, value)
                if position == len(self._answers):
                    return Verdict(key=self._key, answer="yes", sentence="", places=self._places)
                if self._is_new(position, ordered, maybes, value):
                    if self._places > self._places_max:
                        return self._unknown()
                    if (position, ordered) != (here, had):  # somebody has read what the maybe wrote
                        before = IMPOSSIBLE
                    path.append(self._ways_on(position, ordered, maybes, value, before))
                    break
            else:
                path.pop()
        return self._no()

    def _settle(self, position: int, ordered: int, value: State) -> tuple[int, int]:
        """Put into the order what fits and changes nothing, and pass the answers that are explained by now."""
        steps, bits = self._steps, self._bits
        while position < len(bits):
            for index in self._reading[position]:
                if not ordered & bits[index] and steps[index](value) is not IMPOSSIBLE:
                    ordered |= bits[index]
            if not ordered & bits[position]:
                break
            ordered ^= bits[position]
            position += 1
        return position, ordered

    def _is_new(self, position: int, ordered: int, maybes: int, value: State) -> bool:
        place = position, ordered, value
        known = self._seen.get(place, ())
        if known and any(fewer & maybes == fewer for fewer in known):
            return False
        self._seen[place] = (*known, maybes)
        self._places += 1
        if position > self._farthest:
            self._farthest = position
            self._values.clear()
        if position == self._farthest and value not in self._values and len(self._values) <= VALUES_SHOWN_MAX:
            self._values.append(value)
        return True

    def _ways_on(
        self, position: int, ordered: int, maybes: int, value: State, before: State
    ) -> Iterator[tuple[int, int, int, State, State]]:
        """Every place that one more operation leads to. ``before``: the value that a maybe has just changed to
        ``value``; IMPOSSIBLE: it was no maybe."""
        for index in (position, *self._changing[position]):
            bit, step = self._bits[index], self._steps[index]
            if ordered & bit:
                continue
            after = step(value)
            if after is not IMPOSSIBLE and (before is IMPOSSIBLE or step(before) != after):
                yield position, ordered | bit, maybes, after, IMPOSSIBLE
        for index in range(self._maybes_open[position]):
            bit, older, step = 1 << index, self._after[index], self._maybe_steps[index]
            if maybes & bit or (older and not maybes & older):
                continue
            after = step(value)
            if after is not IMPOSSIBLE and (before is IMPOSSIBLE or step(before) != after):
                yield position, ordered, maybes | bit, after, value

    def _no(self) -> Verdict:
        stuck = self._answers[self._farthest]
        assert stuck.completed is not None
        is_open = [
            each for each in (*self._answers[self._farthest + 1 :], *self._maybes) if each.invoked <= stuck.completed
        ]
        over = self._answers[max(0, self._farthest - 3) : self._farthest]
        values = ", ".join(_text(value) for value in self._values[:VALUES_SHOWN_MAX])
        more = " or more" if len(self._values) > VALUES_SHOWN_MAX else ""
        sentence = (
            f"{as_text(self._key)}: no order of its {len(self._operations)} operations explains {stuck}: "
            f"until then the key held {values}{more}"
        )
        if over:
            sentence += f"; before it: {'; '.join(map(str, over))}"
        if is_open:
            sentence += f"; open: {'; '.join(map(str, is_open[:VALUES_SHOWN_MAX]))}"
            sentence += f" and {len(is_open) - VALUES_SHOWN_MAX} more" * (len(is_open) > VALUES_SHOWN_MAX)
        return Verdict(
            key=self._key,
            answer="no",
            sentence=sentence,
            unexplained=stuck,
            around=(*over, *is_open),
            places=self._places,
        )

    def _unknown(self) -> Verdict:
        return Verdict(
            key=self._key,
            answer="unknown",
            sentence=f"{as_text(self._key)}: nobody knows whether its {len(self._operations)} operations are "
            f"linearizable: {self._places_max} places were looked at, and the search got past {self._farthest} of "
            f"{len(self._answers)} answers",
            places=self._places,
        )


def _text(value: State) -> str:
    return shown(value) if value is None or isinstance(value, bytes | int) else str(value)
