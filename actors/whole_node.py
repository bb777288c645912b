"""Answers the data commands that look at all slots of a node: DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHALL and their like.

A part of `StorageNode`, which owns the store and says which slots are served; apart from it because nothing here is on
the path of an ordinary request. What one turn of the loop may look at is bounded, since a node that stands still for
long is soon taken for dead.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..runtime.store import Record, Store
from .rules.data_commands import NOT_AN_INTEGER, PATTERN_BYTES_MAX, SYNTAX_ERROR, glob, parse_integer
from .rules.replies import OK, Reply, bulk, error, refusal
from .rules.slots import SLOTS
from .rules.slots import slot as slot_of
from .slot_view import expired

if TYPE_CHECKING:
    from .storage_node import StorageNode

SCAN_KEYS_MAX = 10_000
"""The most that one SCAN looks at, whatever COUNT asks for."""

SCAN_BYTES_MAX = 4 * 1024 * 1024
"""The most that one visit to the disk reads for SCAN or KEYS."""

LOOKS_PER_TURN_MAX = 200_000
"""Keys looked at, for the commands of one turn, by those that look at the whole node; a slot counts as much, and so do
`BYTES_PER_LOOK`. That is about a second, and a node that stands still for longer is soon taken for dead. KEYS is
refused where there are more."""

BYTES_PER_LOOK = 1024
"""What can be read from the disk while a key is looked at: scans read the values, too."""

LOOKS_PER_PATTERN_BYTE = 4
"""What it costs to compile a byte of the worst pattern, in keys looked at."""

MATCH_STEPS_PER_TURN_MAX = 1 << 30
"""Bytes of patterns times bytes of the keys that they are matched with, for the commands of one turn: that is more than
a second at the worst, which is a long piece that begins everywhere in a key and nowhere ends."""

RANDOM_TRIES_MAX = 10
"""Slots in which RANDOMKEY looks for a key that has not expired."""

LOOKERS = frozenset({"dbsize", "keys", "scan", "randomkey"})
"""Those that read all slots of the node, which is possible only while each of them may be read (R1, R15)."""

CURSORS_MAX = 1024
"""Open SCAN cursors remembered; one that was forgotten starts its slot again (SCAN may return a key twice)."""

NO_SUCH_SLOT = error(b"ERR Invalid slot")
TOO_MANY_LOOKS = error(
    b"TRYAGAIN the commands sent at once look at more than %d keys; this one was not done" % LOOKS_PER_TURN_MAX
)
TOO_LONG_VALUES = error(
    b"ERR the values of these keys have more than %d KiB, and would stop this node while they are read: ask for fewer"
    % (LOOKS_PER_TURN_MAX * BYTES_PER_LOOK >> 10)
)
TOO_MUCH_TO_MATCH = error(b"ERR these keys are too many and too long for so long a pattern: use SCAN")
PATTERN_TOO_LONG = error(b"ERR a pattern has at most %d bytes" % PATTERN_BYTES_MAX)


class WholeNode:
    """The commands by their names in the table (``commands``), for one storage node."""

    def __init__(self, node: "StorageNode", store: Store) -> None:
        self._node, self._store = node, store
        self._looks_left = 0  # keys that this turn may still look at
        self._match_steps_left = 0
        self._now_ms = 0
        self._counted: tuple[tuple[int, int], int] | None = None  # stamp and DBSIZE when it was counted last
        self._cursors: dict[int, tuple[int, bytes]] = {}
        self._next_cursor = 0
        self.commands: dict[str, Callable[[list[bytes]], Reply]] = {
            "dbsize": self._dbsize,
            "keys": self._keys,
            "scan": self._scan,
            "randomkey": self._randomkey,
            "flushdb": self._flush,
            "flushall": self._flush,
            "cluster|countkeysinslot": self._count_keys_in_slot,
            "cluster|getkeysinslot": self._get_keys_in_slot,
            "ring|version": self._version,
        }

    def begin_turn(self, now_ms: int) -> None:
        self._looks_left, self._now_ms = LOOKS_PER_TURN_MAX, now_ms
        self._match_steps_left = MATCH_STEPS_PER_TURN_MAX

    def _dbsize(self, args: list[bytes]) -> Reply:
        if not self._node.serves:
            return self._node.refuse(0)
        stamp = self._node.last_stamp
        if self._counted is None or self._counted[0] != stamp:
            if not self._may_look(SLOTS):
                return TOO_MANY_LOOKS
            count = self._store.keys_in
            keys = sum(count(slot) for first, last in self._node.own_runs() for slot in range(first, last + 1))
            self._counted = (stamp, keys)
        return self._counted[1]

    def _may_look(self, keys: int) -> bool:
        """Whether this turn has time left to look at so many keys; one command always may."""
        first = self._looks_left == LOOKS_PER_TURN_MAX
        self._looks_left -= keys
        return first or (self._looks_left >= 0 and self._match_steps_left >= 0)

    def _scanned(self, first: int, last: int, after: tuple[int, bytes] | None, keys_max: int) -> list[Any]:
        """A look at the disk, which does not know what is staged. What it has read is counted."""
        assert not self._node.staged
        part = self._store.scan(first, last, after, keys_max, SCAN_BYTES_MAX)
        self._looks_left -= sum(len(record.value) for _, _, record in part) // BYTES_PER_LOOK
        return part

    def _keys(self, args: list[bytes]) -> Reply:
        if not self._node.serves:
            return self._node.refuse(0)
        if len(args[1]) > PATTERN_BYTES_MAX:
            return PATTERN_TOO_LONG
        held = [self._store.held_in(first, last + 1) for first, last in self._node.own_runs()]
        keys, size = sum(keys for keys, _ in held), sum(size for _, size in held)
        if keys + size // BYTES_PER_LOOK > LOOKS_PER_TURN_MAX:
            return refusal(
                f"ERR KEYS would look at {keys} keys and read {size >> 10} KiB, together more than "
                f"{LOOKS_PER_TURN_MAX}, and stop this node meanwhile: use SCAN"
            )
        if not self._may_look(keys + LOOKS_PER_PATTERN_BYTE * len(args[1])):
            return TOO_MANY_LOOKS
        found: list[Reply] = []
        for first, last in self._node.own_runs():
            after = None
            while part := self._scanned(first, last, after, SCAN_KEYS_MAX):
                matching, after = self._matching(part, args[1])
                found += matching
                if self._match_steps_left < 0:
                    return TOO_MUCH_TO_MATCH
        return found

    def _matching(self, part: list[tuple[int, bytes, Record]], pattern: bytes) -> tuple[list[Reply], tuple[int, bytes]]:
        """What lives and matches in a part of a slot or several, up to the place that is told: its end, or where this
        turn has no more time for matching."""
        matches, found = glob(pattern).fullmatch, list[Reply]()
        for each in part:
            _, key, record = each
            if self._lives(record) and matches(key):
                found.append(bulk(key))
            self._match_steps_left -= len(pattern) * len(key)
            if self._match_steps_left < 0:
                break
        return found, each[:2]

    def _lives(self, record: Record) -> bool:
        return not expired(record, self._now_ms)

    def _scan(self, args: list[bytes]) -> Reply:
        """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]: a cursor names a slot and a place in it."""
        if not self._node.serves:
            return self._node.refuse(0)
        cursor = parse_integer(args[1])
        if cursor is None or cursor < 0:
            return error(b"ERR invalid cursor")
        pattern, count, wanted = b"*", 10, b"string"
        options = iter(args[2:])
        for option in options:
            value = next(options, None)
            match option.upper():
                case b"MATCH" if value is not None:
                    pattern = value
                case b"COUNT" if value is not None:
                    wished = parse_integer(value)
                    if wished is None:
                        return NOT_AN_INTEGER
                    if wished < 1:
                        return SYNTAX_ERROR
                    count = min(wished, SCAN_KEYS_MAX)
                case b"TYPE" if value is not None:
                    wanted = value.lower()
                case _:
                    return SYNTAX_ERROR
        if len(pattern) > PATTERN_BYTES_MAX:
            return PATTERN_TOO_LONG
        if not self._may_look(count + LOOKS_PER_PATTERN_BYTE * len(pattern)):
            return TOO_MANY_LOOKS
        slot = cursor & (SLOTS - 1)
        after = self._cursors.pop(cursor >> 14, None) if cursor else None
        if after is not None and after[0] != slot:
            after = None
        for first, last in self._node.own_runs():
            if last < slot:
                continue
            part = self._scanned(max(first, slot), last, after, count)
            after = None
            if part:
                found, place = self._matching(part, pattern)
                return [bulk(b"%d" % self._remember(place)), found if wanted == b"string" else []]
        return [bulk(b"0"), []]

    def _remember(self, place: tuple[int, bytes]) -> int:
        """A cursor for the place; never 0, which means the beginning and the end."""
        self._next_cursor += 1
        if len(self._cursors) >= CURSORS_MAX:
            del self._cursors[next(iter(self._cursors))]
        self._cursors[self._next_cursor] = place
        return self._next_cursor << 14 | place[0]

    def _randomkey(self, args: list[bytes]) -> Reply:
        if not self._node.serves:
            return self._node.refuse(0)
        if not self._may_look(SLOTS):
            return TOO_MANY_LOOKS
        counts = [
            (slot, self._store.keys_in(slot))
            for first, last in self._node.own_runs()
            for slot in range(first, last + 1)
        ]
        slots, weights = zip(*[each for each in counts if each[1]] or [(0, 0)], strict=True)
        if not any(weights):
            return None
        for slot in self._node.random.choices(slots, weights, k=RANDOM_TRIES_MAX):
            part = self._scanned(slot, slot, None, min(self._store.keys_in(slot), SCAN_KEYS_MAX))
            if living := [key for _, key, record in part if self._lives(record)]:
                return bulk(self._node.random.choice(living))
        return None

    def _flush(self, args: list[bytes]) -> Reply:
        if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"SYNC", b"ASYNC")):
            return SYNTAX_ERROR
        if not self._node.serves:
            return self._node.refuse(0)
        if not self._may_look(SLOTS):
            return TOO_MANY_LOOKS
        for first, last in self._node.own_runs():
            for slot in range(first, last + 1):
                if self._store.keys_in(slot):
                    self._node.flush_slot(slot)
        return OK

    def _count_keys_in_slot(self, args: list[bytes]) -> Reply:
        slot = _slot_argument(args[2])
        return NO_SUCH_SLOT if slot is None else self._store.keys_in(slot)

    def _get_keys_in_slot(self, args: list[bytes]) -> Reply:
        slot, left = _slot_argument(args[2]), parse_integer(args[3])
        if slot is None or left is None or left < 0:
            return error(b"ERR Invalid slot or number of keys")
        left = min(left, self._store.keys_in(slot))
        if not self._may_look(left):
            return TOO_MANY_LOOKS
        found: list[Reply] = []
        after = None
        while left > 0 and (part := self._scanned(slot, slot, after, min(left, SCAN_KEYS_MAX))):
            found += [bulk(key) for _, key, _ in part]
            after, left = part[-1][:2], left - len(part)
            if self._looks_left < 0:
                return TOO_LONG_VALUES
        return found

    def _version(self, args: list[bytes]) -> Reply:
        slot = slot_of(args[2])
        if not self._node.serves_reads_of(slot):
            return self._node.refuse(slot)
        record = self._store.get(slot, args[2])
        return None if record is None or expired(record, self._now_ms) else [record.epoch, record.seq]


def _slot_argument(text: bytes) -> int | None:
    slot = parse_integer(text)
    return slot if slot is not None and 0 <= slot < SLOTS else None
