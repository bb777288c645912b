"""The storage node, driven by hand: what it serves, stamps, commits, syncs and refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ringkeeper.actors import storage_node, whole_node
from ringkeeper.actors.messages import Execute, Executed, Figures, ReportFigures, RingChanged, Sync, Synced, SyncFailed
from ringkeeper.actors.rules.commands import Command, resolve
from ringkeeper.actors.rules.data_commands import PATTERN_BYTES_MAX
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.actors.rules.transitions import returned
from ringkeeper.actors.storage_node import StorageNode
from ringkeeper.actors.whole_node import CURSORS_MAX
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.store import Store, StoreError, open_store
from ringkeeper.runtime.store.layout import PREFIXES
from ringkeeper.runtime.store.store import SHARDS
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration
from ringkeeper.tests.actors.trio import Ear


def life(number: int, incarnation: int = 1) -> Registration:
    return registration(f"127.0.0.1:{7000 + number}", incarnation)


def ring_of(*numbers: int) -> Ring:
    return founded([life(number).id for number in numbers])


class Stage:
    """One storage node (number 1), and what a gateway would see."""

    def __init__(self, *numbers: int, fsync: str = "never", store: Store | None = None, **options: Any) -> None:
        self.store = store if store is not None else open_store("memory")
        self.ring = ring_of(*(numbers or (1,)))
        self.harness = Harness(
            StorageNode, id=life(1).id, incarnation=life(1).incarnation, store=self.store, syncer="probe:syncer", pid=1,
            fsync=fsync, **options,
        )  # fmt: skip

    def obey(self, ring: Ring | None = None) -> "Stage":
        self.ring = ring or self.ring
        self.harness.tell(RingChanged(ring=self.ring))
        return self

    def send(self, *lines: str | bytes) -> list[tuple[str, Any]]:
        """Requests of one turn; words are separated by blanks."""
        requests: list[tuple[Command, list[bytes]]] = []
        for line in lines:
            words = line.encode().split() if isinstance(line, str) else line.split()
            command = resolve(words)
            assert isinstance(command, Command), command
            requests.append((command, words))
        return self.harness.tell(Execute(requests=requests, reply_to=self.harness.probe("gateway")))

    def run(self, *lines: str | bytes) -> list[Any]:
        """The replies, which must come at once."""
        replies = [m.replies for _, m in self.send(*lines) if isinstance(m, Executed)]
        assert len(replies) == 1
        return list(replies[0])

    def mine(self, stem: str = "key") -> str:
        """A key whose slot this node coordinates."""
        return next(k for k in (f"{stem}{n}" for n in range(10_000)) if self.owner(k) == life(1).id)

    def foreign(self, stem: str = "key") -> str:
        return next(k for k in (f"{stem}{n}" for n in range(10_000)) if self.owner(k) != life(1).id)

    def owner(self, key: str) -> str:
        coordinator = self.ring.coordinators[slot_of(key.encode())]
        assert coordinator is not None
        return coordinator.id


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage().obey()
    yield stage
    stage.harness.stop()


def test_commands_of_a_turn_run_in_order_and_see_each_other(stage: Stage) -> None:
    assert stage.run("SET a 1", "GET a", "INCR a", "GET a", "DEL a", "GET a") == [
        b"+OK\r\n", b"$1\r\n1\r\n", b":2\r\n", b"$1\r\n2\r\n", b":1\r\n", None,
    ]  # fmt: skip


def test_a_turn_is_one_batch_in_the_store(stage: Stage) -> None:
    commits: list[int] = []
    commit = stage.store.commit
    stage.store.commit = lambda: commits.append(1) or commit()  # type: ignore[func-returns-value,method-assign]
    stage.run("SET a 1", "SET b 2", "INCR c", "GET a")
    assert len(commits) == 1
    stage.run("GET a")
    assert len(commits) == 1, "nothing was written, nothing is committed"


def test_nothing_is_served_before_a_ring_names_this_incarnation() -> None:
    stage = Stage()
    (reply,) = stage.run("SET a 1")
    assert reply.startswith(b"-CLUSTERDOWN")
    stage.obey(returned(ring_of(1), [life(1, incarnation=2)], nonce=hex64(9), wall_seconds=1))
    (reply,) = stage.run("SET a 1")
    assert reply.startswith(b"-CLUSTERDOWN") and b"restarted" in reply
    assert stage.store.keys == 0
    stage.harness.stop()


def test_a_slot_of_another_node_is_answered_moved_and_nothing_is_stamped() -> None:
    stage = Stage(1, 2).obey()
    key = stage.foreign()
    slot = slot_of(key.encode())
    assert stage.run(f"SET {key} 1", f"GET {key}", f"INCR {key}") == [b"-MOVED %d 127.0.0.1:7002\r\n" % slot] * 3
    assert stage.store.keys == 0 and stage.harness.actor._seq == 0
    stage.harness.stop()


def test_slots_of_a_node_that_is_down_say_so() -> None:
    stage = Stage(1, 2).obey()
    key = stage.foreign()
    stage.obey(lost(stage.ring, life(2).id))
    (reply,) = stage.run(f"GET {key}")
    assert reply.startswith(b"-CLUSTERDOWN Hash slot not served") and b"127.0.0.1:7002 is down" in reply
    stage.harness.stop()


def test_an_older_ring_is_not_obeyed() -> None:
    stage = Stage(1, 2)
    first = stage.ring
    stage.obey(lost(first, life(1).id))
    stage.obey(first)
    (reply,) = stage.run(f"SET {stage.mine()} 1")
    assert reply.startswith(b"-CLUSTERDOWN")
    stage.harness.stop()


def test_stamps_are_the_rings_epoch_and_a_number_that_grows(stage: Stage) -> None:
    assert stage.run("SET a 1", "RING VERSION a", "SET a 2", "RING VERSION a")[1::2] == [[1, 1], [1, 2]]
    assert stage.run("RING VERSION nothing") == [None]


def test_keys_of_different_slots_are_refused_together(stage: Stage) -> None:
    assert stage.run("MSET a 1 b 2") == [b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"]
    assert stage.store.keys == 0
    assert stage.run("MSET {a}1 1 {a}2 2", "MGET {a}1 {a}2") == [b"+OK\r\n", [b"$1\r\n1\r\n", b"$1\r\n2\r\n"]]


def test_keys_and_values_over_the_limit_are_refused_and_nothing_is_written() -> None:
    stage = Stage(key_bytes_max=8, value_bytes_max=8).obey()
    for line in ("SET 123456789 1", "SET a 123456789", "INCR 123456789", "SETNX a 123456789"):
        (reply,) = stage.run(line)
        assert reply.startswith(b"-ERR"), line
    stage.run("SET a 12345678")
    (reply,) = stage.run("APPEND a 9")
    assert reply.startswith(b"-ERR")
    assert stage.run("GET a") == [b"$8\r\n12345678\r\n"]
    stage.harness.stop()


def test_a_disk_that_refuses_a_batch_leaves_nothing_of_it_and_reads_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run("SET a 1")

    def refuse(batch: object) -> None:
        raise StoreError("no space left on device; make room, then write again")

    monkeypatch.setattr(stage.store.disk, "write", refuse)
    replies = stage.run("SET a 2", "GET a", "SET b 2", "GET b")
    assert replies[0].startswith(b"-MISCONF nothing was written") and replies[2].startswith(b"-MISCONF")
    assert replies[1::2] == [b"$1\r\n1\r\n", None]
    monkeypatch.undo()
    assert stage.run("GET a", "SET a 3", "GET a") == [b"$1\r\n1\r\n", b"+OK\r\n", b"$1\r\n3\r\n"]


def test_what_one_turn_reads_is_bounded_and_the_rest_is_asked_to_try_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_node, "READ_BYTES_PER_TURN_MAX", 100)
    value = "x" * 60
    assert stage.run(f"MSET {{t}}1 {value} {{t}}2 {value}") == [b"+OK\r\n"]
    replies = stage.run("GET {t}1", "GET {t}2", "SET other 1", "APPEND {t}1 y", "STRLEN {t}1")
    assert [reply[:9] for reply in replies] == [b"$60\r\nxxxx", b"-TRYAGAIN", b"+OK\r\n", b"-TRYAGAIN", b"-TRYAGAIN"]
    assert stage.run("STRLEN {t}1") == [b":60\r\n"], "a refused command did nothing"
    (reply,) = stage.run("MGET {t}1 {t}2")
    assert reply.startswith(b"-TRYAGAIN")


def test_a_command_on_the_whole_node_sees_what_was_written_in_its_turn(stage: Stage) -> None:
    replies = stage.run("SET a 1", "KEYS *", "SET b 1", "DBSIZE", "FLUSHALL", "KEYS *", "DBSIZE")
    assert replies == [b"+OK\r\n", [b"$1\r\na\r\n"], b"+OK\r\n", 2, b"+OK\r\n", [], 0]


def test_flushall_empties_every_slot_the_first_one_too(tmp_path: Path) -> None:
    stage = Stage(store=open_store("rocksdb", tmp_path / "store")).obey()
    in_first = next(key for key in (f"k{n}" for n in range(100_000)) if slot_of(key.encode()) == 0)
    stage.run(f"SET {in_first} 1", "SET a 1", "SET b 1")
    assert stage.run("FLUSHALL", "DBSIZE", f"GET {in_first}", "KEYS *") == [b"+OK\r\n", 0, None, []]
    stage.harness.stop()
    stage.store.close()


def test_always_holds_replies_until_the_disk_has_synced_and_keeps_their_order() -> None:
    stage = Stage(fsync="always").obey()
    assert [type(m) for _, m in stage.send("SET a 1")] == [Sync]
    assert stage.send("GET a") == [], "a reader must not see what a power cut could take back"
    assert stage.send("SET b 1") == [], "one sync at a time"
    sent = stage.harness.tell(Synced(batch=1))
    assert [m.replies for _, m in sent if isinstance(m, Executed)] == [[b"+OK\r\n"], [b"$1\r\n1\r\n"]]
    (second,) = [m for _, m in sent if isinstance(m, Sync)]
    assert second.batch == 2
    assert [m.replies for _, m in stage.harness.tell(Synced(batch=2))] == [[b"+OK\r\n"]]
    assert stage.run("GET a") == [b"$1\r\n1\r\n"], "nothing unsynced: at once"
    stage.harness.stop()


def test_after_a_failed_sync_writes_are_in_doubt_and_nothing_is_served_any_more() -> None:
    stage = Stage(fsync="always").obey()
    stage.send("SET a 1", "GET a")
    ((_, executed),) = stage.harness.tell(Synced(batch=1, error="input/output error"))
    assert [reply[:8] for reply in executed.replies] == [b"-INDOUBT", b"-MISCONF"], "what was read may be gone as well"
    stage.obey(lost(founded(2), life(2).id))
    replies = stage.run("SET b 1", "INCR b", "FLUSHALL", "GET a")
    assert [reply[:8] for reply in replies] == [b"-MISCONF"] * 4
    stage.harness.stop()


@pytest.mark.parametrize("full", [False, True])
def test_the_member_is_told_of_a_failed_sync_and_whether_it_was_for_want_of_room(full: bool) -> None:
    stage = Stage(fsync="always").obey()
    told = list[object]()
    stage.harness.system.spawn(Ear, told, name="member")
    stage.send("SET a 1")
    stage.harness.tell(Synced(batch=1, error="input/output error", full=full))
    assert told == [SyncFailed(why="input/output error", full=full)]
    stage.harness.stop()


def test_everysec_syncs_once_a_second_and_only_what_is_new() -> None:
    stage = Stage(fsync="everysec").obey()
    assert stage.run("SET a 1") == [b"+OK\r\n"]
    ((_, sync),) = stage.harness.advance(1.0)
    assert sync.batch == 1
    stage.harness.tell(Synced(batch=1))
    assert stage.harness.advance(5.0) == []
    stage.harness.stop()


def test_scan_visits_every_key_once_and_ends_with_zero(stage: Stage) -> None:
    names = {b"k%d" % n for n in range(500)}
    stage.run(*(b"SET %b 1" % name for name in sorted(names)))
    found: list[bytes] = []
    cursor = b"0"
    for _ in range(500):
        ((encoded, keys),) = stage.run(b"SCAN %b COUNT 7" % cursor)
        cursor = encoded.split(b"\r\n")[1]
        found += [key.split(b"\r\n")[1] for key in keys]
        if cursor == b"0":
            break
    assert cursor == b"0" and sorted(found) == sorted(names)


def test_a_forgotten_cursor_starts_its_slot_again_and_misses_nothing(stage: Stage) -> None:
    stage.run(*(f"SET {{t}}{n} 1" for n in range(50)))
    ((encoded, first),) = stage.run("SCAN 0 COUNT 20")
    cursor = encoded.split(b"\r\n")[1]
    for _ in range(CURSORS_MAX + 1):
        stage.run("SCAN 0 COUNT 1")
    found = list(first)
    while cursor != b"0":
        ((encoded, keys),) = stage.run(b"SCAN %b COUNT 20" % cursor)
        cursor = encoded.split(b"\r\n")[1]
        found += keys
    assert {bytes(key) for key in found} == {b"$%d\r\n{t}%d\r\n" % (len(str(n)) + 3, n) for n in range(50)}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("SCAN x", b"-ERR invalid cursor"),
        ("SCAN 0 COUNT x", b"-ERR value is not an integer"),
        ("SCAN 0 COUNT 0", b"-ERR syntax error"),
        ("SCAN 0 DANCE 1", b"-ERR syntax error"),
        ("CLUSTER COUNTKEYSINSLOT 16384", b"-ERR Invalid slot"),
        ("CLUSTER GETKEYSINSLOT 0 x", b"-ERR Invalid slot"),
        ("FLUSHALL NOW", b"-ERR syntax error"),
        ("SCAN " + "9" * 5000, b"-ERR invalid cursor"),
        ("SCAN 0 COUNT " + "9" * 5000, b"-ERR value is not an integer"),
        ("CLUSTER COUNTKEYSINSLOT " + "9" * 5000, b"-ERR Invalid slot"),
        ("CLUSTER GETKEYSINSLOT 0 " + "9" * 5000, b"-ERR Invalid slot"),
        ("KEYS " + "a" * 5000, b"-ERR a pattern has at most"),
    ],
)
def test_bad_arguments_are_refused_as_redis_does(stage: Stage, line: str, error: bytes) -> None:
    (reply,) = stage.run(line)
    assert reply.startswith(error)


def test_commands_on_the_whole_node_are_refused_while_it_serves_nothing(stage: Stage) -> None:
    stage.run("SET a 1")
    stage.obey(returned(lost(stage.ring, life(1).id), [life(1, incarnation=2)], nonce=hex64(9), wall_seconds=1))
    for line in ("FLUSHALL", "FLUSHDB", "DBSIZE", "KEYS *", "SCAN 0", "RANDOMKEY"):
        (reply,) = stage.run(line)
        assert reply.startswith(b"-CLUSTERDOWN"), line
    assert stage.store.keys == 1


def test_a_write_of_several_keys_that_meets_a_bad_record_changes_none_of_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run("MSET {t}1 a {t}2 b {t}3 c")
    get = stage.store.get

    def rotten(slot: int, key: bytes) -> Any:
        if key == b"{t}3":
            raise StoreError("key {t}3 is not what was written")
        return get(slot, key)

    monkeypatch.setattr(stage.store, "get", rotten)
    replies = stage.run("MSET {t}1 x {t}2 x {t}3 x", "DEL {t}1 {t}3", "MGET {t}1 {t}2")
    assert [reply[:4] for reply in replies[:2]] == [b"-ERR", b"-ERR"]
    assert replies[2] == [b"$1\r\na\r\n", b"$1\r\nb\r\n"]


def damage(store: Store, key: bytes) -> None:
    """Have the disk say something else of a key than was written."""
    disk_key = PREFIXES[slot_of(key)] + key
    data, batch = store.disk.get(disk_key), store.disk.batch()
    assert data is not None
    batch.put(disk_key, data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    store.disk.write(batch)
    store._drop_shard(slot_of(key) % SHARDS)  # what is cached is not read


@pytest.mark.parametrize(
    ("line", "reply", "value"),
    [
        ("SET {t}1 new", b"+OK\r\n", b"new"),
        ("SET {t}1 new EX 100", b"+OK\r\n", b"new"),
        ("SETEX {t}1 100 new", b"+OK\r\n", b"new"),
        ("MSET {t}0 new {t}1 new", b"+OK\r\n", b"new"),
        ("DEL {t}1", b":1\r\n", None),
        ("UNLINK {t}0 {t}1 {t}9", b":2\r\n", None),
        ("FLUSHALL", b"+OK\r\n", None),
    ],
)
def test_a_record_that_cannot_be_read_goes_by_what_does_not_need_to_know_it(
    stage: Stage, line: str, reply: bytes, value: bytes | None
) -> None:
    stage.run("SET {t}0 a", "SET {t}1 b")
    damage(stage.store, b"{t}1")
    number, slot = stage.store.number(slot_of(b"{t}")), slot_of(b"{t}")
    assert stage.run(line) == [reply]
    assert stage.run("GET {t}1") == [None if value is None else b"$%d\r\n%b\r\n" % (len(value), value)]
    assert stage.store.number(slot) > number
    stage.store.check()


@pytest.mark.parametrize(
    "line",
    [
        "GET {t}1", "SET {t}1 new NX", "SET {t}1 new XX", "SET {t}1 new GET", "SET {t}1 new KEEPTTL",
        "SET {t}1 new IFEQ b", "SETNX {t}1 new", "GETSET {t}1 new", "GETDEL {t}1", "GETEX {t}1 EX 1", "APPEND {t}1 x",
        "INCR {t}1", "EXPIRE {t}1 1", "PERSIST {t}1", "MSETNX {t}9 new {t}1 new", "MGET {t}0 {t}1",
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_read_stays_by_what_would_need_to_know_it(stage: Stage, line: str) -> None:
    stage.run("SET {t}0 a", "SET {t}1 b")
    damage(stage.store, b"{t}1")
    before = stage.store.disk.get(PREFIXES[slot_of(b"{t}1")] + b"{t}1")
    number = stage.store.number(slot_of(b"{t}"))
    (refused,) = stage.run(line)
    assert refused.startswith(b"-ERR key b'{t}1' of slot")
    assert stage.store.disk.get(PREFIXES[slot_of(b"{t}1")] + b"{t}1") == before
    assert stage.store.number(slot_of(b"{t}")) == number and stage.run("GET {t}0") == [b"$1\r\na\r\n"]


def test_looking_at_the_whole_node_is_bounded_in_one_turn(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.run("SET a 1", "SET b 1", "SET c 1")
    monkeypatch.setattr(whole_node, "LOOKS_PER_TURN_MAX", 4)
    replies = stage.run("KEYS *", "KEYS *", "SCAN 0 COUNT 1", "SCAN 0 COUNT 1")
    assert len(replies[0]) == 3
    assert [bytes(reply)[:9] for reply in replies[1:]] == [b"-TRYAGAIN"] * 3
    assert stage.run("DBSIZE", "DBSIZE") == [3, 3], "the second need not count"
    stage.run("SET d 1", "SET e 1")
    (reply,) = stage.run("KEYS *")
    assert reply.startswith(b"-ERR KEYS would look at 5 keys")


def test_values_that_are_read_in_one_turn_for_their_keys_are_bounded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("{t}a", "{t}b", "{t}c"):
        stage.run(f"SET {key} {'x' * 4000}")
    monkeypatch.setattr(whole_node, "LOOKS_PER_TURN_MAX", 10)
    monkeypatch.setattr(whole_node, "SCAN_BYTES_MAX", 4100)
    (reply,) = stage.run("KEYS *")
    assert reply.startswith(b"-ERR KEYS would look at 3 keys and read 11 KiB, together more than 10, and stop")
    slot = slot_of(b"{t}a")
    (reply,) = stage.run(f"CLUSTER GETKEYSINSLOT {slot} 10")
    assert reply == whole_node.TOO_LONG_VALUES
    assert stage.run(f"CLUSTER GETKEYSINSLOT {slot} 2") == [[b"$4\r\n{t}a\r\n", b"$4\r\n{t}b\r\n"]]
    replies = stage.run(*["SCAN 0 COUNT 1 MATCH c"] * 2)
    assert isinstance(replies[0], list) and replies[1].startswith(b"-TRYAGAIN")
    stage.run("SET {t}a x", "SET {t}b x")
    assert len(stage.run("KEYS *")[0]) == 3


def test_matching_in_one_turn_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{{t}}{name * 10}" for name in "abc"]
    stage.run(*(f"SET {key} 1" for key in keys))
    monkeypatch.setattr(whole_node, "MATCH_STEPS_PER_TURN_MAX", 40)
    assert stage.run("KEYS *") == [[f"$13\r\n{key}\r\n".encode() for key in keys]]
    assert stage.run("KEYS *a*") == [whole_node.TOO_MUCH_TO_MATCH]
    cursor, found = b"0", []
    for _ in keys:
        (told, refused) = stage.run(*[f"SCAN {cursor.decode()} MATCH ***{{t}}*****"] * 2)
        assert refused == whole_node.TOO_MANY_LOOKS, "the turn is over"
        cursor = told[0].split(b"\r\n")[1]
        found += told[1]
    assert len(found) == len(set(found)) == 3, "a key at a time, and none twice"


def test_patterns_that_are_compiled_in_one_turn_are_bounded(stage: Stage) -> None:
    replies = stage.run(*["SCAN 0 MATCH " + "*" * PATTERN_BYTES_MAX] * 20)
    done = [reply for reply in replies if isinstance(reply, list)]
    assert 0 < len(done) < 20 and all(reply.startswith(b"-TRYAGAIN") for reply in replies if reply not in done)


def test_a_bug_on_one_command_does_not_end_the_node(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: list[bytes]) -> Any:
        raise KeyError("a bug")

    monkeypatch.setitem(stage.harness.actor._whole_node.commands, "dbsize", fail)
    replies = stage.run("SET a 1", "DBSIZE", "GET a")
    assert replies[0] == b"+OK\r\n" and replies[1].startswith(b"-ERR internal error") and replies[2] == b"$1\r\n1\r\n"


def test_keys_of_a_slot_are_counted_and_listed(stage: Stage) -> None:
    stage.run("SET {t}1 1", "SET {t}2 1", "SET other 1")
    slot = slot_of(b"{t}")
    assert stage.run(f"CLUSTER COUNTKEYSINSLOT {slot}", f"CLUSTER GETKEYSINSLOT {slot} 1", "DBSIZE") == [
        2, [b"$4\r\n{t}1\r\n"], 3,
    ]  # fmt: skip
    assert stage.run("RANDOMKEY")[0] is not None


def test_figures_say_what_it_holds(stage: Stage) -> None:
    stage.run("SET a 1", "GET a")
    ((_, figures),) = stage.harness.tell(ReportFigures(question=9, reply_to=stage.harness.probe("ecs")))
    assert isinstance(figures, Figures)
    assert (figures.question, figures.keys, figures.commands, figures.writes, figures.epoch) == (9, 1, 2, 1, 1)
