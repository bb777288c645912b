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

**Zones.** A value with one possible writer, as a workload should write them, cannot come back once it was overwritten:
it stays until the last that finds it was invoked, and a place where something else must come first is given up at once.
That is also how to guess what comes first of all that is open: the values in the order of their zones (Gibbons and
Korach, 1997). A register with unique values that is only read and written is judged without going back, if all is well.

**Limits.** OPERATIONS_PER_KEY_MAX, PLACES_PER_KEY_MAX and STEPS_PER_KEY_MAX, numbers rather than seconds: the same
history gets the same verdict on every machine. Beyond them the verdict is ``unknown``, which is no kind of ok. Hardest
are a wrong answer among dozens of simultaneous writes, and dozens of simultaneous APPENDs of unknown length.

A *model* says what one operation does to a value: it makes of an operation a step, from the value before to the value
after, or IMPOSSIBLE if the answer cannot be given then. `string` is that of the keys of ringkeeper: registers with
compare-and-set, counters, strings.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..actors.client_requests import as_text
from ..actors.rules.data_commands import parse_integer
from .history import READS, Operation, shown

OPERATIONS_PER_KEY_MAX = 100_000
PLACES_PER_KEY_MAX = 500_000
"""Places of the search that are remembered for one key, about 300 bytes each."""
STEPS_PER_KEY_MAX = 10_000_000
"""Operations that are tried, at all places together, about 0.4 us each."""
PLACES_FOR_EVIDENCE_MAX = 20_000
"""Places of a second search, when the verdict is no, that looks for its best evidence."""
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
    steps_max: int = STEPS_PER_KEY_MAX,
) -> Verdict:
    """Judge the operations on one key, which held ``initial`` before. Raises ValueError when there are several keys."""
    keys = {operation.key for operation in operations}
    if len(keys) > 1:
        raise ValueError(f"one key is judged at a time, and these operations have {len(keys)}")
    key = keys.pop() if keys else b""
    if len(operations) > operations_max:
        text = f"{as_text(key)}: nobody knows whether its {len(operations)} operations are linearizable: "
        return Verdict(key=key, answer="unknown", sentence=f"{text}more than {operations_max} are not looked at")
    verdict = _Search(key, operations, initial, model, places_max, steps_max).run()
    if verdict.answer == "no":
        # Zones give up early, at what would overwrite a value that is found too late. Without them the search goes on
        # to whoever found it: the better evidence. It also is a second opinion.
        plain = _Search(key, operations, initial, model, PLACES_FOR_EVIDENCE_MAX, steps_max, zones=False).run()
        assert plain.answer != "yes", f"the search contradicts itself: {verdict.sentence}"
        return plain if plain.answer == "no" else verdict
    return verdict


class _Search:
    """The search for an order of the operations on one key.

    Of the operations that are over each has a bit while it is open; bits are given again, so that they stay few. The
    maybes have bits of their own, in the order of their invocation, and keep them. An operation is named by its index
    among those that are over, sorted by answer, or by ~index among the maybes.
    """

    def __init__(
        self,
        key: bytes,
        operations: Sequence[Operation],
        initial: State,
        model: Model,
        places_max: int,
        steps_max: int,
        *,
        zones: bool = True,
    ) -> None:
        self._key, self._initial, self._places_max, self._steps_max = key, initial, places_max, steps_max
        self._operations = [each for each in operations if each.outcome != "not"]
        over = [each for each in self._operations if each.outcome == "ok"]
        maybes = [each for each in self._operations if each.outcome == "maybe" and each.kind not in READS]
        self._answers = sorted(over, key=lambda each: (_end(each), each.number))
        self._steps = [model(each) for each in self._answers]
        self._maybes = sorted(maybes, key=lambda each: (each.invoked, each.number))
        self._maybe_steps = [model(each) for each in self._maybes]
        self._zones = _Zones([*self._answers, *self._maybes], initial)
        self._needed = self._zones.needed if zones and model is string else {}
        self._lay_out_answers()
        self._lay_out_maybes()
        self._seen: dict[tuple[int, int, State], tuple[int, ...]] = {}
        self._places = self._tried = 0
        self._farthest = 0
        """Answers that some place has got past..."""
        self._values: list[State] = []
        """...and the values of the key at those places."""

    def _lay_out_answers(self) -> None:
        answers = self._answers
        self._bits = [0] * len(answers)
        self._changing: list[tuple[int, ...]] = []
        """What may change the value and is open at each answer, that whose value must be there first first. Of the
        maybes only those whose value somebody has seen and still waits for..."""
        self._reading: list[tuple[int, ...]] = []
        """...and what does not change it."""
        due, until = self._zones.due, self._zones.until
        begins = sorted(range(len(answers)), key=lambda index: (answers[index].invoked, answers[index].number))
        is_open: dict[int, None] = {}
        awaited: dict[int, None] = {}
        free: list[int] = []
        begun = maybes_begun = bits = 0
        for index, answer in enumerate(answers):
            while begun < len(begins) and answers[begins[begun]].invoked <= _end(answer):
                if not free:
                    free.append(1 << bits)
                    bits += 1
                is_open[begins[begun]] = None
                self._bits[begins[begun]] = free.pop()
                begun += 1
            while maybes_begun < len(self._maybes) and self._maybes[maybes_begun].invoked <= _end(answer):
                if self._maybes[maybes_begun].number in until:
                    awaited[~maybes_begun] = None
                maybes_begun += 1
            for name in [name for name in awaited if until[self._maybes[~name].number] < _end(answer)]:
                del awaited[name]
            ranked = [(due[answers[name].number], name) for name in is_open if answers[name].may_write]
            ranked += [(due[self._maybes[~name].number], name) for name in awaited]
            self._changing.append(tuple(name for _, name in sorted(ranked)))
            self._reading.append(tuple(name for name in is_open if not answers[name].may_write))
            free.append(self._bits[index])
            del is_open[index]

    def _lay_out_maybes(self) -> None:
        self._after: list[int] = []
        """The bit of the next older maybe that is equal to this one; 0: there is none."""
        last: dict[Hashable, int] = {}
        for index, each in enumerate(self._maybes):
            like = (each.kind, each.argument, each.expected)
            self._after.append(last.get(like, 0))
            last[like] = 1 << index
        begins = [each.invoked for each in self._maybes]
        self._maybes_open = [bisect_right(begins, _end(answer)) for answer in self._answers]

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
                    if self._places > self._places_max or self._tried > self._steps_max:
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
        if self._needed.get(value, -math.inf) > _end(self._answers[position]):
            return  # somebody who is not there yet finds this value, and what comes next would take it away
        for name in (*self._changing[position], *range(-1, ~self._maybes_open[position], -1)):
            self._tried += 1
            if name >= 0:
                step, bit, maybe = self._steps[name], self._bits[name], 0
                if ordered & bit:
                    continue
            else:
                step, bit, maybe = self._maybe_steps[~name], 0, 1 << ~name
                older = self._after[~name]
                if maybes & maybe or (older and not maybes & older):
                    continue
            after = step(value)
            if after is not IMPOSSIBLE and (before is IMPOSSIBLE or step(before) != after):
                yield position, ordered | bit, maybes | maybe, after, value if maybe else IMPOSSIBLE

    def _no(self) -> Verdict:
        stuck = self._answers[self._farthest]
        is_open = [
            each for each in (*self._answers[self._farthest + 1 :], *self._maybes) if each.invoked <= _end(stuck)
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
            f"linearizable: at {self._places} places {self._tried} steps were tried, and the search got past "
            f"{self._farthest} of "
            f"{len(self._answers)} answers",
            places=self._places,
        )


class _Zones:
    """What the answers say of when each value was there.

    A value that one operation alone can have written has a zone: from the first answer that knows it to the last
    invocation of one that finds it, or, if all of these are simultaneous, somewhere between that invocation and that
    answer. Of other values nothing is said.
    """

    def __init__(self, operations: Sequence[Operation], initial: State) -> None:
        self.due: dict[int, float] = {}
        """By number, when what an operation writes is due; a guess that decides about nothing but the time needed."""
        self.until: dict[int, float] = {}
        """By number, the last answer that knows what it wrote."""
        self.needed: dict[State, float] = {}
        """By value, when the last that finds it was invoked: whoever leaves the value before is wrong, since it cannot
        come back."""
        writers: dict[State, list[Operation]] = {initial: [], None: []}
        finders: dict[State, list[Operation]] = {}
        predictable = True
        for each in operations:
            self.due[each.number] = each.invoked
            if each.kind == "append" or (each.kind == "incr" and each.outcome != "ok"):
                predictable = False
            elif each.may_write:
                writers.setdefault(each.written, []).append(each)
            if each.found is not None:
                finders.setdefault(each.found[0], []).append(each)
        for value in finders.keys() & writers.keys() - {initial, None}:
            if len(writers[value]) == 1:
                (writer,), found = writers[value], finders[value]
                first = min(_end(each) for each in (writer, *found) if each.outcome == "ok")
                begun = max(each.invoked for each in (writer, *found))
                self.due[writer.number] = min(first, begun)
                self.until[writer.number] = max(_end(each) for each in found)
                if predictable:
                    self.needed[value] = max(each.invoked for each in found)
        if not predictable:
            self.needed.clear()


def _end(operation: Operation) -> float:
    return math.inf if operation.completed is None else operation.completed


def _text(value: State) -> str:
    return shown(value) if value is None or isinstance(value, bytes | int) else str(value)
