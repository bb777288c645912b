"""Slots move from one node to another: storage node, handoffs and replica together, message by message."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringkeeper.actors import handoff, storage_node
from ringkeeper.actors.handoff import SURVEY_KEYS_MAX
from ringkeeper.actors.messages import (
    LATER,
    Chunk,
    Disowned,
    KeysListed,
    Learn,
    ListKeys,
    Replicate,
    Replicated,
    Survey,
    Surveyed,
)
from ringkeeper.actors.replica import Replica
from ringkeeper.actors.rules.mirror import PARTS, part_of
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.runtime.store import Record, Store, StoreError, open_store
from ringkeeper.runtime.store.memory import MemoryDisk
from ringkeeper.tests.actors.pair import SOURCE, TARGET, Pair, operations_sent


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    pair.read()
    yield pair
    pair.stop()


def filled(pair: Pair, keys: int = 50) -> None:
    pair.send(*(f"SET key{number} {number}" for number in range(keys)))


def transferred(pair: Pair) -> None:
    """A change has begun, and the learner has caught up."""
    pair.begin()
    pair.read()
    pair.deliver()


def switched(pair: Pair) -> None:
    """And the learner is required."""
    transferred(pair)
    pair.advance()
    pair.read()
    pair.deliver()


def sealing(pair: Pair) -> None:
    """And the source has read that its slots are sealed; the learner has not, so nothing is proved."""
    switched(pair)
    pair.advance()
    pair.source_reads()


def sealed(pair: Pair) -> None:
    """Through transfer and switch, into the seal, everything delivered."""
    pair.begin()
    pair.read()
    pair.deliver()
    assert pair.reached == "transfer"
    for phase in ("switch", "seal"):
        pair.advance()
        pair.read()
        pair.deliver()
        assert pair.reached == phase


def test_a_learner_gets_everything_that_was_there(pair: Pair) -> None:
    filled(pair)
    transferred(pair)
    assert pair.reached == "transfer" and not pair.difference()
    assert pair.learned.keys > 0


def test_a_write_behind_the_cursor_follows_and_one_ahead_of_it_does_not_need_to(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "CHUNK_KEYS_MAX", 5)
    monkeypatch.setattr(handoff, "CHUNKS_UNACKNOWLEDGED_MAX", 1)
    filled(pair)
    pair.begin()
    pair.read()
    pair.deliver_to_target()  # Learn
    pair.deliver_to_source()  # Learning: the first chunk leaves
    cursor = pair.handoffs()[0]._cursor
    keys = [key for _, key, _ in pair.store.scan(0, 8191, None, 1000, 1 << 30)]
    places = {record[1]: record[:2] for record in pair.store.scan(0, 8191, None, 1000, 1 << 30)}
    behind, ahead = [k for k in keys if places[k] <= cursor], [k for k in keys if places[k] > cursor]
    assert behind and ahead
    pair.send(f"SET {behind[0].decode()} new", f"DEL {behind[1].decode()}", f"SET {ahead[0].decode()} new")
    assert operations_sent(pair) == 2
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_while_clients_are_served_one_chunk_at_a_time_is_under_way(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "CHUNK_KEYS_MAX", 5)
    filled(pair)
    pair.begin()
    pair.read()
    pair.deliver_to_target()
    pair.send(f"GET {pair.staying()}")
    pair.deliver_to_source()
    (walk,) = pair.handoffs()
    assert walk._chunks == 1
    pair.deliver_to_target()
    pair.send(f"GET {pair.staying()}")
    pair.deliver_to_source()
    assert walk._chunks == 1 and walk._state == "walking"
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_in_a_switch_a_write_to_a_slot_that_moves_is_answered_once_the_learner_holds_it(pair: Pair) -> None:
    filled(pair)
    transferred(pair)
    assert pair.ask(f"SET {pair.moving()} 1") == b"+OK\r\n", "not required yet"
    pair.advance()
    pair.read()
    assert pair.ask(f"SET {pair.moving()} 2") is LATER
    assert pair.ask(f"SET {pair.staying()} 2") == b"+OK\r\n"
    (read,) = pair.send(f"GET {pair.moving()}")
    assert pair.replies[read] is LATER, "nobody is told of what a failure could still take back"
    assert pair.ask(f"GET {pair.moving('other')}") is not LATER, "reads of what everybody holds do not wait"
    (place,) = pair.send(f"INCR {pair.moving('n')}")
    pair.deliver()
    assert pair.replies[place] == b":1\r\n" and not pair.difference()
    assert LATER not in pair.replies.values()


def test_a_switch_holds_when_what_was_on_the_link_has_arrived(pair: Pair) -> None:
    transferred(pair)
    pair.send(f"SET {pair.moving()} 1")
    pair.advance()
    pair.read()
    assert pair.reached == "transfer"
    pair.deliver()
    assert pair.reached == "switch"


def test_a_seal_parks_writes_then_all_and_commit_sends_them_on(pair: Pair) -> None:
    filled(pair)
    sealing(pair)
    write, read = pair.moving(), pair.moving("other")
    (parked,) = pair.send(f"SET {write} parked")
    assert pair.replies[parked] is LATER
    assert pair.ask(f"GET {read}") is None, "reads go on until Ready is given"
    stamped = pair.store.get(0, b"nothing"), pair.source.actor.last_stamp
    pair.target_reads()
    pair.deliver()
    assert pair.reached == "seal"
    (late,) = pair.send(f"GET {read}")
    assert pair.replies[late] is LATER
    assert pair.ask(f"SET {pair.staying()} 1") == b"+OK\r\n", "others are not parked"
    assert stamped[1][1] + 1 == pair.source.actor.last_stamp[1], "what is parked is not stamped"
    pair.commit()
    pair.read()
    assert pair.replies[parked].startswith(b"-MOVED") and pair.replies[late].startswith(b"-MOVED")
    assert TARGET.encode() in pair.replies[parked]


def test_ready_is_a_promise_that_no_time_and_no_message_ends(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    (parked,) = pair.send(f"SET {pair.moving()} 1")
    before = pair.source.actor.last_stamp
    pair.lose_link()
    pair.pass_time(storage_node.PARKED_SECONDS_MAX + 1)
    assert pair.replies[parked].startswith(b"-TRYAGAIN"), "it may end, definitely not done, but it does not run"
    assert pair.ask(f"SET {pair.moving()} 2") is LATER
    assert pair.ask(f"GET {pair.moving()}") is LATER
    assert pair.source.actor.last_stamp == before


def test_ready_is_not_given_before_the_learner_has_read_the_ring_and_synced(pair: Pair) -> None:
    filled(pair)
    sealing(pair)
    synced: list[int] = []
    sync = pair.learned.sync

    def noted_sync() -> None:
        synced.append(1)
        sync()

    pair.learned.sync = noted_sync  # type: ignore[method-assign]
    pair.deliver()
    assert synced and pair.reached == "switch", "the learner has not read the ring yet"
    pair.target_reads()
    pair.deliver()
    assert pair.reached == "seal"


def test_an_abort_runs_what_was_parked_and_answers_what_waited_for_the_learner(pair: Pair) -> None:
    filled(pair)
    transferred(pair)
    pair.advance()
    pair.read()
    (unheld,) = pair.send(f"SET {pair.moving('a')} 1")
    pair.advance()
    pair.read()
    (parked,) = pair.send(f"SET {pair.moving('b')} 2")
    assert (pair.replies[unheld], pair.replies[parked]) == (LATER, LATER)
    pair.abort()
    pair.read()
    assert (pair.replies[unheld], pair.replies[parked]) == (b"+OK\r\n", b"+OK\r\n")
    assert pair.ask(f"GET {pair.moving('b')}") == b"$1\r\n2\r\n"


def test_an_acknowledgement_of_an_aborted_change_counts_for_nothing_in_the_next(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    old = [
        (handoff.name, Replicated(walk=handoff._walk, number=10**6, synced=10**6, epoch=10**6))
        for handoff in pair.handoffs()
    ]
    pair.abort()
    pair.read()
    pair.begin()
    pair.read()
    for name, message in old:
        new = pair.handoffs()[0]
        assert name != new.name
        new.ref.tell(message)
    pair.hear(pair.source._run())
    assert pair.reached is None
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_a_second_change_sends_only_the_difference(pair: Pair) -> None:
    filled(pair, 2000)
    sealed(pair)
    pair.abort()
    pair.read()
    pair.send(f"SET {pair.moving('new')} 1", f"DEL {pair.moving()}")
    pair.begin()
    pair.read()
    sent = [0, 0]

    def count() -> None:
        for message in pair.to_target:
            if isinstance(message, Chunk):
                sent[0] += len(message.puts)
                sent[1] += len(message.removals)

    while pair.to_target or pair.to_source:
        count()
        while pair.deliver_to_target():
            pass
        while pair.deliver_to_source():
            pass
    assert pair.reached == "transfer" and not pair.difference()
    assert sent == [1, 1]


def known_from_before(pair: Pair) -> list[str]:
    """The learner holds what an aborted change has brought it; the keys of that, in their order."""
    filled(pair, 2000)
    sealed(pair)
    pair.abort()
    pair.read()
    first, last = pair.moved
    return [key.decode() for _, key, _ in pair.store.scan(first, last, None, 1 << 30, 1 << 40)]


def until(pair: Pair, kind: type) -> Any:
    """Let messages arrive until one of a kind is the next on its way, and return that."""
    while True:
        for message in (*pair.to_target, *(message for _, message in pair.to_source)):
            if isinstance(message, kind):
                return message
        assert pair.deliver_to_target() or pair.deliver_to_source()


def test_what_was_written_since_is_found_without_naming_what_was_not(pair: Pair) -> None:
    keys = known_from_before(pair)
    pair.send(*(f"SET {key} new" for key in keys[::20]), f"SET {pair.moving('new')} 1", f"DEL {keys[1]}")
    pair.begin()
    pair.read()
    named = records = numbers = 0
    while pair.to_target or pair.to_source:
        records += sum(len(each.puts) for each in pair.to_target if isinstance(each, Chunk))
        numbers += sum(len(each.numbers) for each in pair.to_target if isinstance(each, Chunk))
        while pair.deliver_to_target():
            pass
        named += sum(len(each.records) for _, each in pair.to_source if isinstance(each, KeysListed))
        while pair.deliver_to_source():
            pass
    assert pair.reached == "transfer" and not pair.difference()
    assert records == len(keys[::20]) + 1 and numbers <= records + 1
    assert 1 <= named <= 2 * SURVEY_KEYS_MAX // PARTS, "only the part in which a key was deleted"


def test_writes_that_follow_into_the_slot_of_the_cursor_do_not_pass_for_what_the_learner_had(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "SURVEY_KEYS_MAX", 8)
    monkeypatch.setattr(handoff, "CHUNK_KEYS_MAX", 8)
    keys = [f"{{{pair.moving()}}}{number}" for number in range(24)]
    pair.send(*(f"SET {key} old" for key in keys))
    sealed(pair)
    pair.abort()
    pair.read()
    keys.sort()
    pair.send(f"SET {keys[20]} new")
    pair.begin()
    pair.read()
    until(pair, Surveyed)
    pair.deliver_to_source()
    until(pair, Surveyed)
    assert pair.handoffs()[0]._cursor[1] == keys[7].encode()
    pair.send(f"SET {keys[0]} new")
    assert isinstance(until(pair, Replicate), Replicate)
    assert [key.decode() for _, key in until(pair, ListKeys).without] == [keys[20]]
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_a_key_that_goes_after_it_was_left_out_of_the_sums_goes_at_the_learner(pair: Pair) -> None:
    keys = known_from_before(pair)
    pair.send(f"SET {keys[1]} new")
    pair.begin()
    pair.read()
    assert [key.decode() for _, key in until(pair, ListKeys).without] == [keys[1]]
    pair.send(f"DEL {keys[1]}")
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_a_key_that_goes_after_a_late_answer_has_left_it_out_goes_at_the_learner(pair: Pair) -> None:
    keys = known_from_before(pair)
    surveyed, used = keys[:SURVEY_KEYS_MAX], {slot_of(key.encode()) for key in keys}
    gone: dict[int, str] = {}  # one key of each part, so that no part is equal
    for key in surveyed[1:-1]:
        gone.setdefault(part_of(slot_of(key.encode()), key.encode()), key)
    written = next(key for key in surveyed if key not in gone.values())
    unknown = next(slot for slot in range(slot_of(surveyed[0].encode()), 8191) if slot not in used)
    pair.learned.put(unknown, b"indoubt", Record(b"", 1, 1))  # nor are the numbers
    pair.learned.commit()
    pair.send(*(f"DEL {key}" for key in gone.values()), f"SET {written} new")
    pair.begin()
    pair.read()
    until(pair, Survey)
    pair.pass_time(handoff.RESEND_SECONDS + 1)
    assert len({each.after for each in pair.to_target}) == 1 < len(pair.to_target), "asked twice or more"
    while pair.deliver_to_target():
        pass
    pair.deliver_to_source()
    assert [key.decode() for _, key in until(pair, ListKeys).without] == [written]
    pair.send(f"DEL {written}")
    pair.deliver_to_source()
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_an_answer_to_another_question_is_not_believed(pair: Pair) -> None:
    keys = known_from_before(pair)
    pair.send(f"SET {keys[1]} new", f"DEL {keys[2]}")
    pair.begin()
    pair.read()
    answer = until(pair, KeysListed)
    name, _ = pair.to_source.pop()
    pair.to_source.append((name, replace(answer, question=answer.question - 1, records=[], equal=[])))
    pair.deliver_to_source()
    assert pair.handoffs()[0]._asked is not None
    pair.pass_time(handoff.RESEND_SECONDS + 1)
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_a_learner_that_always_answers_after_it_was_asked_again_is_made_equal(pair: Pair) -> None:
    keys = known_from_before(pair)
    pair.send(f"SET {keys[1]} new", f"DEL {keys[2]}")
    pair.begin()
    pair.read()
    for _ in range(50):
        while pair.deliver_to_target():
            pass
        answers = len(pair.to_source)
        pair.pass_time(handoff.RESEND_SECONDS + 0.5)
        for _ in range(answers):
            pair.deliver_to_source()
    assert pair.reached == "transfer" and not pair.difference()


def test_a_learner_that_names_everything_is_made_equal(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = known_from_before(pair)
    pair.send(f"SET {keys[1]} new", f"SET {pair.moving('new')} 1", f"DEL {keys[3]}")
    answer = Replica._list_keys
    monkeypatch.setattr(Replica, "_list_keys", lambda self, asked: answer(self, replace(asked, sums=[])))
    pair.begin()
    pair.read()
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_what_only_the_learner_has_is_removed(pair: Pair) -> None:
    filled(pair)
    for slot, key in ((5, b"stray"), (8191, b"other")):
        pair.learned.put(slot, key, Record(b"old", 1, 1))
    pair.learned.commit()
    transferred(pair)
    assert pair.reached == "transfer"
    assert pair.learned.get(5, b"stray") is None and pair.learned.get(8191, b"other") is None
    assert [row for row in pair.difference() if isinstance(row[0], tuple)] == []


def test_a_lost_link_is_made_good_in_every_phase(pair: Pair) -> None:
    filled(pair, 200)
    pair.begin()
    pair.read()
    for phase in ("transfer", "switch", "seal"):
        pair.deliver_to_target()
        pair.deliver_to_source()
        (place,) = pair.send(f"SET {pair.moving(phase)} 1") if phase != "seal" else (None,)
        pair.lose_link()
        pair.pass_time(2.0)
        pair.deliver()
        pair.pass_time(2.0)
        pair.deliver()
        assert pair.reached == phase
        assert place is None or pair.replies[place] == b"+OK\r\n"
        if phase != "seal":
            pair.advance()
            pair.read()
    assert not pair.difference()


def test_messages_that_arrive_twice_are_taken_once(pair: Pair) -> None:
    filled(pair)
    pair.begin()
    pair.read()
    while pair.to_target or pair.to_source:
        pair.to_target.extend(list(pair.to_target))
        pair.deliver_to_target()
        pair.deliver_to_source()
        if len(pair.to_target) > 200:
            break
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_a_gap_is_not_accepted_and_what_is_missing_is_sent_again(pair: Pair) -> None:
    transferred(pair)
    pair.send(f"SET {pair.moving()} 1")
    lost = pair.to_target.popleft()
    assert isinstance(lost, Replicate)
    pair.send(f"SET {pair.moving('b')} 1")
    pair.deliver_to_target()
    assert pair.learned.keys == 0, "the second was not taken before the first"
    pair.deliver()
    assert not pair.difference()


def test_a_learner_that_does_not_answer_is_walked_through_anew_and_not_waited_for_in_memory(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "UNACKNOWLEDGED_MESSAGES_MAX", 5)
    switched(pair)
    assert pair.reached == "switch"
    places = [pair.send(f"SET {pair.moving(f'k{n}-')} 1")[0] for n in range(8)]
    assert pair.reached is None, "it must catch up again before the change can go on"
    pair.deliver()
    pair.pass_time(2.0)
    pair.deliver()
    assert pair.reached == "switch" and not pair.difference()
    assert [pair.replies[place] for place in places] == [b"+OK\r\n"] * 8


def test_a_write_that_no_learner_takes_is_in_doubt_in_the_end(pair: Pair) -> None:
    transferred(pair)
    pair.advance()
    pair.read()
    (place,) = pair.send(f"SET {pair.moving()} 1")
    pair.pass_time(storage_node.UNHELD_SECONDS_MAX + 1)
    assert pair.replies[place].startswith(b"-INDOUBT")


def test_flushing_the_node_in_the_midst_of_a_walk_leaves_nothing_at_the_learner(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "CHUNK_KEYS_MAX", 5)
    monkeypatch.setattr(handoff, "CHUNKS_UNACKNOWLEDGED_MAX", 1)
    filled(pair)
    pair.begin()
    pair.read()
    for _ in range(3):
        pair.deliver_to_target()
        pair.deliver_to_source()
    assert pair.ask("FLUSHALL") == b"+OK\r\n"
    pair.deliver()
    assert pair.reached == "transfer" and pair.learned.keys == 0 and not pair.difference()


def test_flushing_the_node_waits_for_the_end_of_a_seal(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    (place,) = pair.send("FLUSHALL")
    assert pair.replies[place] is LATER and pair.store.keys == 50
    pair.commit()
    pair.read()
    assert pair.replies[place] == b"+OK\r\n"
    assert pair.learned.keys > 0, "what is another's is not flushed here"


def test_under_always_a_write_is_answered_when_both_disks_have_it() -> None:
    pair = Pair(fsync="always")
    pair.read()
    transferred(pair)
    pair.sync_source()
    pair.advance()
    pair.read()
    pair.deliver()
    (place,) = pair.send(f"SET {pair.moving()} 1")
    pair.deliver()
    assert pair.replies.get(place, LATER) is LATER, "the learner has it, the source's own disk has not"
    pair.sync_source()
    assert pair.replies[place] == b"+OK\r\n"
    (place,) = pair.send(f"SET {pair.moving()} 2")
    pair.sync_source()
    assert pair.replies.get(place, LATER) is LATER
    pair.deliver()
    assert pair.replies[place] == b"+OK\r\n"
    pair.stop()


def test_under_always_a_walk_of_many_chunks_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "CHUNK_KEYS_MAX", 2)
    pair = Pair(fsync="always")
    pair.read()
    filled(pair, 200)
    pair.sync_source()
    transferred(pair)
    assert pair.reached == "transfer" and not pair.difference()
    pair.stop()


def test_under_always_nobody_reads_what_was_resumed_and_is_not_on_disk_yet() -> None:
    pair = Pair(fsync="always")
    pair.read()
    sealing(pair)
    key = pair.moving()
    (write,) = pair.send(f"SET {key} new")
    pair.abort()
    pair.source_reads()
    assert pair.replies.get(write, LATER) is LATER, "its sync is under way"
    (read,) = pair.send(f"GET {key}")
    assert read not in pair.replies
    pair.sync_source()
    assert (pair.replies[write], pair.replies[read]) == (b"+OK\r\n", b"$3\r\nnew\r\n")
    pair.stop()


def test_large_values_are_not_all_under_way_at_once(pair: Pair) -> None:
    keys = [key for key in (f"key{n}" for n in range(60)) if pair._moves(key)][:20]
    for key in keys:
        pair.send(b"SET %b " % key.encode() + b"x" * (2 * 1024 * 1024))
    pair.begin()
    pair.read()
    walks = set()
    for number in range(200):
        pair.deliver_to_target()
        pair.deliver_to_source()
        pair.send(f"SET {keys[0]} {number}")
        assert sum(len(put[2]) for each in pair.to_target if isinstance(each, Chunk) for put in each.puts) <= 12 << 20
        walks.add(pair.handoffs()[0]._walk)
    pair.deliver()
    assert pair.reached == "transfer" and len(walks) == 1


def test_what_a_learners_disk_refuses_leaves_nothing_of_the_chunk_behind() -> None:
    class Flaky(MemoryDisk):
        bad = b""

        def get(self, key: bytes) -> bytes | None:
            if self.bad and key.endswith(self.bad):
                raise StoreError("the disk could not be read")
            return super().get(key)

    disk = Flaky()
    pair = Pair(learned=Store(disk))
    pair.read()
    keys = sorted((key for key in (f"key{n}" for n in range(20)) if pair._moves(key)), key=_slot)
    pair.send(*(f"SET {key} 1" for key in keys))
    disk.bad = keys[1].encode()
    transferred(pair)
    assert pair.reached is None and not pair.to_target, "it is not asked again at once"
    disk.bad = b""
    assert pair.ask(f"DEL {keys[0]}") == b":1\r\n"
    pair.pass_time(2.0)
    pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()
    pair.stop()


@pytest.mark.parametrize("learned", [0, 40])
def test_a_source_that_cannot_read_what_it_is_to_hand_over_tries_again_now_and_then(pair: Pair, learned: int) -> None:
    filled(pair)
    for number in range(learned):
        pair.learned.put(_slot(f"key{number}"), f"key{number}".encode(), Record(b"old", 1, 1, 0))
    pair.learned.commit()
    pair.pass_time(5.0)  # nobody looks for what has expired from then on
    walk, tries = pair.store.walk, []

    def fail(*_: Any) -> Any:
        tries.append(True)
        assert len(tries) < 50, "it gives nobody else a turn"
        raise StoreError("input/output error")

    pair.store.walk = fail  # type: ignore[assignment,method-assign]
    pair.begin()
    pair.read()
    pair.deliver()
    for _ in range(20):
        pair.pass_time(0.1)
        pair.deliver()
    assert 2 <= len(tries) < 10 and "input/output error" in pair.handoffs()[0]._trouble
    pair.store.walk = walk  # type: ignore[method-assign]
    for _ in range(4):
        pair.pass_time(1.0)
        pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()


def test_a_handoff_that_did_not_hear_that_it_was_disowned_is_told_again() -> None:
    disk = MemoryDisk()
    pair = Pair(learned=Store(disk))
    pair.read()
    filled(pair)
    disk.full = True
    pair.begin()
    pair.read()
    while not any(isinstance(message, Disowned) for _, message in pair.to_source):
        pair.deliver_to_source() or pair.deliver_to_target()
    pair.lose_link()
    disk.full = False
    for _ in range(4):
        pair.pass_time(1.0)
        pair.deliver()
    assert pair.reached == "transfer" and not pair.difference()
    pair.stop()


def test_a_read_does_not_overtake_a_parked_write_of_its_slot(pair: Pair) -> None:
    key = pair.moving()
    pair.send(f"SET {key} old")
    sealing(pair)
    write, read = pair.send(f"SET {key} new", f"GET {key}")
    assert pair.replies[write] is LATER and pair.replies[read] is LATER
    assert pair.ask(f"GET {pair.moving('other')}") is None, "other slots are read as before"
    pair.abort()
    pair.read()
    assert (pair.replies[write], pair.replies[read]) == (b"+OK\r\n", b"$3\r\nnew\r\n")


def test_nothing_overtakes_a_flush_that_waits_for_the_end_of_a_seal(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    flush, write = pair.send("FLUSHALL", f"SET {pair.staying('after')} 1")
    assert pair.replies[flush] is LATER and pair.replies[write] is LATER
    pair.commit()
    pair.read()
    assert pair.replies[flush] == pair.replies[write] == b"+OK\r\n"
    assert pair.ask(f"GET {pair.staying('after')}") == b"$1\r\n1\r\n"


def test_what_waits_for_order_goes_on_waiting_when_ready_is_given(pair: Pair) -> None:
    filled(pair)
    sealing(pair)
    (flush,) = pair.send("FLUSHALL")
    pair.target_reads()
    pair.deliver()
    assert pair.reached == "seal"
    (write,) = pair.send(f"SET {pair.staying('after')} 1")
    assert pair.replies[flush] is LATER and pair.replies[write] is LATER
    pair.commit()
    pair.read()
    assert pair.ask(f"GET {pair.staying('after')}") == b"$1\r\n1\r\n"


def test_under_always_ready_waits_for_the_own_disk_so_that_no_write_of_an_orderly_change_is_in_doubt() -> None:
    pair = Pair(fsync="always")
    pair.read()
    switched(pair)
    (write,) = pair.send(f"SET {pair.moving()} 1")
    pair.advance()
    pair.read()
    pair.deliver()
    assert pair.reached == "switch", "the learner has it all, the source's own disk has not"
    pair.sync_source()
    assert pair.reached == "seal" and pair.replies[write] == b"+OK\r\n"
    pair.commit()
    pair.read()
    assert pair.replies[write] == b"+OK\r\n"
    pair.stop()


def test_a_learner_whose_sync_has_failed_once_takes_nothing_in_any_more(pair: Pair) -> None:
    filled(pair)
    switched(pair)
    failed: list[int] = []

    def fail() -> None:
        failed.append(1)
        raise StoreError("input/output error")

    pair.learned.sync = fail  # type: ignore[method-assign]
    pair.advance()
    pair.read()
    pair.deliver()
    assert failed and pair.reached is None
    for _ in range(4):
        pair.pass_time(1.0)
        pair.deliver()
    assert pair.reached is None and "failed to sync" in pair.handoffs()[0]._trouble


def test_what_was_parked_for_order_alone_is_served_again_when_nothing_is_parked(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    (flush,) = pair.send("FLUSHALL")
    pair.pass_time(storage_node.PARKED_SECONDS_MAX + 1)
    assert pair.replies[flush].startswith(b"-TRYAGAIN")
    assert pair.ask(f"SET {pair.staying()} 1") == b"+OK\r\n"
    assert pair.ask(f"SET {pair.moving()} 1") is LATER, "the seal is a promise all the same"


def test_a_flush_that_is_given_up_takes_nothing_down_with_it_while_zookeeper_is_away(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    pair.send("FLUSHALL")
    pair.pass_time(1.0)
    behind = [pair.send(f"SET {pair.staying()} {number}")[0] for number in range(3)]
    pair.pass_time(storage_node.PARKED_SECONDS_MAX - 0.5)
    assert [pair.replies[place] for place in behind] == [b"+OK\r\n"] * 3
    assert pair.ask(f"GET {pair.staying()}") == b"$1\r\n2\r\n"


def test_what_waits_for_a_change_is_bounded_in_bytes_within_one_turn_too(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_node, "PARKED_BYTES_MAX", 1000)
    sealed(pair)
    places = pair.send(*(b"SET %b %b" % (pair.moving(f"k{n}-").encode(), b"x" * 300) for n in range(5)))
    later = [pair.replies[place] is LATER for place in places]
    assert later == [True, True, False, False, False] or later == [True, True, True, False, False]
    assert pair.replies[places[-1]].startswith(b"-TRYAGAIN")


def test_a_value_of_the_largest_size_moves_in_a_chunk_of_its_own(pair: Pair) -> None:
    big = b"SET %s " % pair.moving("big").encode() + b"x" * (3 * handoff.CHUNK_BYTES_MAX)
    pair.send(big, f"SET {pair.moving('small')} 1")
    transferred(pair)
    assert pair.reached == "transfer" and not pair.difference()


# The replica's side of it


def test_a_sender_of_the_past_is_disowned(pair: Pair) -> None:
    pair.begin()
    pair.read()
    (learn,) = pair.to_target
    assert isinstance(learn, Learn)
    for fields, why in (
        ({"incarnation": "0" * 16}, "is not"),
        ({"change": 99}, "not in flight"),
        ({"epoch": 99}, "has not read ring 99 yet"),
        ({"last": 100}, "not to come here"),
        ({"node": "127.0.0.1:7009"}, "is not"),
    ):
        wrong = Learn(**{**{name: getattr(learn, name) for name in Learn.__dataclass_fields__}, **fields})
        sent = pair.target.tell(pair._with_probe(wrong))
        assert isinstance(sent[0][1], Disowned) and why in sent[0][1].why
    assert not pair.target.actor._walks


def test_what_comes_of_a_walk_after_its_change_is_ignored(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    walk = pair.handoffs()[0]._walk
    number = pair.target.actor._walks[walk].number
    pair.commit()
    pair.target_reads()
    keys = pair.learned.keys
    late = Replicate(walk=walk, number=number + 1, operations=[(5, b"late", b"v", 9, 9, 0)])
    pair.target.tell(
        late, Survey(walk=walk, after=(0, b""), keys_max=5), ListKeys(walk=walk, after=(0, b""), upto=(9, b""))
    )
    assert pair.learned.keys == keys and pair.learned.get(5, b"late") is None


def test_foreign_slots_are_dropped_after_a_while_and_only_when_their_coordinator_allows_it(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    pair.abort()
    pair.target_reads()
    before = pair.learned.keys
    assert before > 0
    assert pair.target.advance(5.0) == [], "a change that is tried again may want them"
    ((to, asked),) = pair.target.advance(6.0)
    assert to == "ringkeeper://127.0.0.1:17001/replica" and asked.runs
    assert pair.learned.keys == before
    from ringkeeper.actors.messages import DropAllowed

    pair.target.tell(DropAllowed(epoch=pair.ring.epoch - 1, runs=[(0, 16383)]))
    assert pair.learned.keys == before, "what was allowed in another ring is past"
    pair.target.tell(DropAllowed(epoch=pair.ring.epoch, runs=[(0, 16383)]))
    assert pair.learned.keys == 0


def test_slots_that_a_new_change_wants_are_not_dropped(pair: Pair) -> None:
    filled(pair)
    sealed(pair)
    pair.abort()
    pair.target_reads()
    pair.begin()
    pair.read()
    from ringkeeper.actors.messages import DropAllowed

    before = pair.learned.keys
    pair.target.tell(DropAllowed(epoch=pair.ring.epoch, runs=[(0, 16383)]))
    assert pair.learned.keys == before > 0


# All of it at once


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_happens_on_the_way_the_learner_is_equal_when_the_source_is_ready(data: st.DataObject) -> None:
    stale = open_store("memory")
    for number in data.draw(st.sets(st.integers(0, 30))):
        slot = _slot(f"key{number}")
        stale.put(slot, b"key%d" % number, Record(b"stale", 1, number + 1))
    stale.commit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handoff, "CHUNK_KEYS_MAX", data.draw(st.integers(1, 6)))
        patch.setattr(handoff, "SURVEY_KEYS_MAX", data.draw(st.integers(1, 6)))
        patch.setattr(handoff, "CHUNKS_UNACKNOWLEDGED_MAX", data.draw(st.integers(1, 3)))
        patch.setattr(handoff, "UNACKNOWLEDGED_MESSAGES_MAX", data.draw(st.sampled_from([4, 10_000])))
        pair = Pair(learned=stale)
        pair.read()
        pair.send(*(f"SET key{n} a{n}" for n in data.draw(st.sets(st.integers(0, 30)))))
        pair.begin()
        pair.read()
        written = 0
        for _ in range(data.draw(st.integers(0, 60))):
            match data.draw(
                st.sampled_from(["set", "set", "del", "flush", "in", "in", "in", "out", "out", "out", "lose"])
            ):
                case "set":
                    written += 1
                    pair.send(f"SET key{data.draw(st.integers(0, 30))} b{written}")
                case "del":
                    pair.send(f"DEL key{data.draw(st.integers(0, 30))}", f"SET key{data.draw(st.integers(0, 30))} c")
                case "flush":
                    pair.send("FLUSHALL")
                case "in":
                    pair.deliver_to_target()
                case "out":
                    pair.deliver_to_source()
                case "lose":
                    pair.lose_link()
        for phase in ("transfer", "switch", "seal"):
            _settle(pair)
            assert pair.reached == phase
            if phase != "seal":
                pair.advance()
                for reads in data.draw(st.permutations([pair.source_reads, pair.target_reads])):
                    reads()
                    pair.send(f"SET key{data.draw(st.integers(0, 30))} {phase}")
        assert [row for row in pair.difference() if isinstance(row[0], tuple)] == []
        assert all(reply is not LATER or phase == "seal" for reply in pair.replies.values())
        pair.commit()
        pair.read()
        assert LATER not in pair.replies.values()
        pair.stop()


def _settle(pair: Pair) -> None:
    for _ in range(4):
        pair.deliver()
        pair.pass_time(1.5)
    pair.deliver()


def _slot(key: str) -> int:
    from ringkeeper.actors.rules.slots import slot

    return slot(key.encode())


def test_the_names_of_the_pair_are_those_of_the_ring(pair: Pair) -> None:
    assert [node.id for node in pair.ring.circle] == [SOURCE]
    pair.begin()
    changes: Any = pair.ring.change
    assert [node.id for node in changes.comes] == [TARGET]
