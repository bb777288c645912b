"""Expiry at a storage node: nobody sees what has expired, and the coordinator alone deletes it, a little at a time."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.actors import expiry
from ringkeeper.actors.expiry import LOOKS_PER_SWEEP_MAX
from ringkeeper.actors.messages import Execute, Executed, RingChanged, RingSeen
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules.commands import COMMANDS
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.runtime.store import Record, StoreError, open_store
from ringkeeper.scenarios.simulated import SimulatedCluster
from ringkeeper.scenarios.simulated_client import Outcome
from ringkeeper.tests.actors.pair import Pair
from ringkeeper.tests.actors.rules.rings import founded, lost
from ringkeeper.tests.actors.test_storage_node import Stage, life

SOON = 2.0
"""Within so many seconds something that has expired is deleted where there is little to look at."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage().obey()
    stage.harness.advance(SOON)
    yield stage
    stage.harness.stop()


def test_what_has_expired_is_missing_for_every_command(stage: Stage) -> None:
    stage.run("SET {t}a 1 PX 500", "SET {t}b 1", "SETEX {t}c 1 1")
    assert sorted(stage.run("KEYS *")[0]) == [b"$4\r\n{t}%b\r\n" % key for key in (b"a", b"b", b"c")]
    stage.harness.epoch_seconds += 1.0  # the clock alone: no sweep has come
    assert stage.run("GET {t}a", "MGET {t}a {t}b {t}c", "EXISTS {t}a {t}b", "TTL {t}a", "DEL {t}a", "STRLEN {t}c") == [
        None, [None, b"$1\r\n1\r\n", None], b":1\r\n", b":-2\r\n", b":0\r\n", b":0\r\n",
    ]  # fmt: skip
    left = b"$4\r\n{t}b\r\n"
    assert stage.run("KEYS *", "RANDOMKEY", "RING VERSION {t}a") == [[left], left, None]
    assert stage.run("SCAN 0 COUNT 100")[0][1] == [left]
    assert stage.run("DBSIZE") == [3], "as in Redis: it counts what is there"


def test_a_read_hides_and_only_the_sweep_writes(stage: Stage) -> None:
    stage.run("SET a 1 PX 500")
    stage.harness.epoch_seconds += 1.0
    before = stage.harness.actor.last_stamp
    assert stage.run("GET a") == [None]
    assert stage.harness.actor.last_stamp == before and stage.store.keys == 1
    stage.harness.advance(expiry.IDLE_SECONDS)
    assert stage.store.keys == 0
    epoch, seq = before
    assert stage.store.number(slot_of(b"a")) == (epoch, seq + 1), "the delete is an operation, stamped"


def test_what_was_put_again_meanwhile_stays(stage: Stage) -> None:
    stage.run("SET a 1 PX 500")
    stage.harness.epoch_seconds += 1.0
    stage.run("GET a", "SET a 2")
    stage.harness.advance(SOON)
    assert stage.run("GET a") == [b"$1\r\n2\r\n"]


def test_a_clock_that_goes_back_lets_nothing_live_longer_than_its_record_says(stage: Stage) -> None:
    stage.run("SET a 1 PX 500")
    stage.harness.epoch_seconds += 1.0
    assert stage.run("GET a") == [None]
    stage.harness.epoch_seconds -= 1.0
    stage.harness.advance(expiry.SWEEP_SECONDS)
    assert stage.run("GET a") == [b"$1\r\n1\r\n"], "what has not expired by this clock is not deleted"
    stage.harness.advance(SOON)
    assert stage.store.keys == 0


def test_where_nothing_expires_nothing_is_looked_at(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.run("SET a 1", "APPEND b 1")
    monkeypatch.setattr(stage.harness.actor.expiry, "sweep", None)  # calling it would fail
    stage.harness.advance(60.0)


def test_a_slot_that_was_gained_is_looked_at_whatever_is_in_it() -> None:
    store = open_store("memory")
    first = Stage(store=store).obey()
    first.run("SET a 1 PX 500", "SET b 1 EX 60", "SET c 1")
    first.harness.stop()
    second = Stage(store=store)
    second.harness.advance(3.0)
    assert store.keys == 3, "it does not coordinate yet"
    second.obey()
    second.harness.advance(SOON)
    assert second.run("DBSIZE") == [2]
    second.harness.advance(60.0)
    assert second.run("DBSIZE") == [1]
    second.harness.stop()


def test_where_no_write_is_served_nothing_is_deleted() -> None:
    stage = Stage(1, 2).obey()
    stage.run(f"SET {stage.mine()} 1 PX 500")
    stage.obey(lost(stage.ring, life(1).id))
    stamp = stage.harness.actor.last_stamp[1]
    stage.harness.advance(10.0)
    assert stage.store.keys == 1 and stage.harness.actor.last_stamp[1] == stamp
    stage.harness.stop()


def test_a_sweep_is_bounded_and_hurries_where_that_pays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 3 * LOOKS_PER_SWEEP_MAX
    stage.run(*(f"SET {{t}}{n} 1 PX 500" for n in range(count)), *(f"SET {{t}}{n}stays 1" for n in range(50)))
    left = [stage.store.keys]
    commit = stage.store.commit

    def watched() -> None:
        commit()
        left.append(stage.store.keys)

    monkeypatch.setattr(stage.store, "commit", watched)
    stage.harness.advance(expiry.IDLE_SECONDS + 5 * expiry.HURRIED_SECONDS)
    assert left[-1] == 50, "the keys that stay are fewer than those that had expired: sweeps follow each other"
    assert max(before - after for before, after in zip(left, left[1:], strict=False)) <= LOOKS_PER_SWEEP_MAX


def test_a_slot_that_is_emptied_while_it_is_looked_at_is_looked_at_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "LOOKS_PER_SWEEP_MAX", 1)
    stage.run(*(f"SET {{t}}{n} 1 PX 500" for n in range(9)))
    stage.harness.advance(expiry.IDLE_SECONDS + expiry.HURRIED_SECONDS)
    assert 0 < stage.store.keys < 9
    stage.run("FLUSHALL")
    stage.harness.advance(SOON)
    stage.run("SET {t}0 1 PX 500")
    stage.harness.advance(SOON)
    assert stage.store.keys == 0


def test_values_that_are_large_bound_a_sweep_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "BYTES_PER_SWEEP_MAX", 100)
    stage.run(*(f"SET {{t}}{n} {'x' * 60} PX 500" for n in range(10)))
    batch = stage.harness.actor._batch
    stage.harness.advance(SOON)
    assert stage.store.keys == 0 and stage.harness.actor._batch == batch + 10, "a second value is over the bound"


def test_a_disk_that_refuses_the_deletes_is_asked_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(batch: object) -> None:
        raise StoreError("no space left on device")

    stage.run("SET a 1 PX 500")
    with monkeypatch.context() as full:
        full.setattr(stage.store.disk, "write", refuse)
        stage.harness.advance(SOON)
        assert stage.store.keys == 1 and stage.run("GET a") == [None]
    stage.harness.advance(SOON)
    assert stage.store.keys == 0 and stage.harness.actor.expiry.deleted == 1


def test_a_record_that_cannot_be_read_spoils_its_own_slot_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = stage.store.walk

    def damaged(after: tuple[int, bytes], upto: tuple[int, bytes], keys_max: int, bytes_max: int) -> object:
        if after[0] == slot_of(b"a"):
            raise StoreError("key a is not what was written")
        return walk(after, upto, keys_max, bytes_max)

    monkeypatch.setattr(stage.store, "walk", damaged)
    stage.run("SET a 1 PX 500", "SET b 1 PX 500")
    stage.harness.advance(SOON)
    assert stage.store.keys == 1 and stage.run("GET a", "GET b") == [None, None]


@pytest.mark.parametrize("follows", [False, True])
def test_expiry_goes_with_a_slot_and_its_delete_is_passed_on(follows: bool) -> None:
    pair = Pair()
    pair.read()
    key = pair.moving()
    if not follows:
        pair.send(f"SET {key} 1 PX 2000")
    pair.begin()
    pair.read()
    pair.deliver()
    if follows:
        pair.send(f"SET {key} 1 PX 2000")
        pair.deliver()
    record = pair.learned.get(slot_of(key.encode()), key.encode())
    assert record is not None and record.expiry == 1_700_000_002_000
    pair.hear_target(pair.target.advance(60.0))
    assert pair.learned.keys == 1, "a copy deletes nothing by its own clock"
    pair.hear(pair.source.advance(2.0 + SOON))
    pair.deliver()
    assert pair.learned.keys == 0
    assert pair.difference() == []
    pair.stop()


def test_where_fewer_copies_are_up_than_a_write_needs_what_has_expired_is_hidden_and_nothing_is_stamped() -> None:
    store = open_store("memory")
    for slot in range(0, SLOTS, 100):
        store.put(slot, b"k%d" % slot, Record(b"v", 1, 1 + slot, 1_700_000_000_500))
    store.commit()
    stage = Stage(store=store)
    stage.harness.advance(10.0)
    ring = lost(founded(3, replicas=3), life(2).id, life(3).id)
    replica = stage.harness.system.spawn(
        Replica,
        id=life(1).id,
        incarnation=life(1).incarnation,
        store=store,
        syncer=stage.harness.probe("syncer"),
        name="replica",
    )
    replica.tell(RingChanged(ring=ring))
    stage.obey(ring)
    before = store.numbers(0, SLOTS)
    for _ in range(20):
        now = stage.harness.loop.time()
        stage.harness.tell(RingSeen(epoch=stage.ring.epoch, question=int(now * 1e6)))  # it has the lease
        stage.harness.advance(0.5)
    (reply,) = stage.run("SET k 1")
    assert reply.startswith(b"-NOREPLICAS")
    assert store.numbers(0, SLOTS) == before and store.keys == len(before)
    stage.harness.stop()


def test_a_copy_hides_what_has_expired_by_its_own_clock_and_deletes_nothing() -> None:
    stage = Stage(store=open_store("memory")).obey(founded(3, replicas=3))
    key = next(f"k{n}" for n in range(1000) if stage.owner(f"k{n}") != life(1).id)
    stage.store.put(slot_of(key.encode()), key.encode(), Record(b"v", 1, 1, 1_700_000_001_000))
    stage.store.commit()

    def read() -> list[object]:
        requests = [(COMMANDS[name.lower()], [name, key.encode()]) for name in (b"GET", b"MGET", b"PTTL")]
        gateway = stage.harness.probe("gateway")
        sent = stage.harness.tell(Execute(requests=requests, reply_to=gateway, stale=frozenset({0, 1, 2})))
        return next(message.replies for _, message in sent if isinstance(message, Executed))

    assert read() == [b"$1\r\nv\r\n", [b"$1\r\nv\r\n"], b":1000\r\n"]
    stage.harness.advance(1.0)
    assert read() == [None, [None], b":-2\r\n"]
    stage.harness.advance(10.0)
    assert stage.store.keys == 1
    stage.harness.stop()


@pytest.mark.stories
def test_keys_expire_on_every_copy_also_when_another_node_has_taken_over() -> None:
    with SimulatedCluster(seed=1, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 10.0)

        def call(*words: str) -> object:
            outcomes: list[Outcome] = []
            cluster.client().call(words, outcomes.append)
            cluster.run_until(lambda: bool(outcomes), 30.0)
            return outcomes[0].reply

        for number in range(30):
            assert call("SET", f"key{number}", "v", "PX", str(8000 + number)) == b"OK"
        cluster.kill(life(2).id)
        cluster.run(4.0)
        assert [node.store.keys for node in cluster.nodes()] == [30, 30]
        assert all(0 < int(str(call("PTTL", f"key{number}"))) < 4200 for number in range(30))
        cluster.run(10.0)
        assert [node.store.keys for node in cluster.nodes()] == [0, 0]


KEYS = ["{t}a", "{t}b", "c", "d"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("SET {} 1"), st.sampled_from(KEYS), st.just(0)),
        st.tuples(st.just("SET {} 1 PX {}"), st.sampled_from(KEYS), st.integers(1, 4000)),
        st.tuples(st.just("PEXPIRE {} {}"), st.sampled_from(KEYS), st.integers(0, 4000)),
        st.tuples(st.just("PERSIST {}"), st.sampled_from(KEYS), st.just(0)),
        st.tuples(st.just("APPEND {} 1"), st.sampled_from(KEYS), st.just(0)),
        st.tuples(st.just("FLUSHALL"), st.just(""), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 2000)),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, looks=st.sampled_from([1, 7, LOOKS_PER_SWEEP_MAX]))
def test_at_any_time_exactly_the_living_are_seen_and_in_the_end_they_alone_are_there(
    steps: list[tuple[str, str, int]], looks: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expiry, "LOOKS_PER_SWEEP_MAX", looks)
        stage = Stage().obey()
        living: dict[str, float] = {}
        for line, key, milliseconds in steps:
            now = round(stage.harness.loop.time() * 1000)
            living = {each: until for each, until in living.items() if until > now}
            match line.split()[0]:
                case "wait":
                    stage.harness.advance(milliseconds / 1000)
                    continue
                case "SET":
                    living[key] = now + milliseconds if milliseconds else float("inf")
                case "FLUSHALL":
                    living.clear()
                case "APPEND":
                    living.setdefault(key, float("inf"))
                case "PERSIST" if key in living:
                    living[key] = float("inf")
                case "PEXPIRE" if key in living:
                    living[key] = now + milliseconds
                    if not milliseconds:
                        del living[key]
            stage.run(line.format(key, milliseconds))
            assert {each for each in KEYS if stage.run(f"EXISTS {each}") == [b":1\r\n"]} == living.keys()
        stage.harness.advance(4.0 + 2 * SOON)
        assert stage.store.keys == sum(until == float("inf") for until in living.values())
        stage.store.check()
        stage.harness.stop()
