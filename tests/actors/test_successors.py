"""Nodes with copies of each other's slots, message by message: writes, reads, failures, takeovers."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from ringkeeper.actors import replicator, storage_node
from ringkeeper.actors.messages import (
    LATER,
    Append,
    Appended,
    AskTail,
    LookForRing,
    StreamSilent,
)
from ringkeeper.actors.replicator import BEAT_SECONDS, RESEND_SECONDS
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.actors.storage_node import CONFIRM_SECONDS, UNHELD_SECONDS_MAX, StorageNode
from ringkeeper.actors.takeover import SILENT_SECONDS
from ringkeeper.actors.tenures import LEASE_OVER_SECONDS, LEASE_SECONDS
from ringkeeper.runtime.store import Record, StoreError
from ringkeeper.tests.actors.rules.rings import founded
from ringkeeper.tests.actors.trio import Trio

A, B, C = (node.id for node in founded(3, 3).circle)
"""In the order of the circle: for the slots of A, B is the first successor and C the second."""
OK = b"+OK\r\n"


@pytest.fixture
def trio() -> Iterator[Trio]:
    trio = Trio().start()
    yield trio
    trio.stop()


def value(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def dies(trio: Trio, id: str, *others: str) -> None:
    """Nothing comes from this node any more; a ring says so, and these read it (by default all others)."""
    trio.lose(id)
    trio.still.add(id)
    trio.down(id)
    trio.read(*(others or [each for each in trio.ids if each not in trio.still]))


# A write, and who must hold it (R1, R3, R6)


def test_a_write_is_answered_when_all_members_that_are_up_hold_it(trio: Trio) -> None:
    """R1."""
    key = trio.key(A)
    (place,) = trio.send(A, f"SET {key} 1")
    trio.deliver(B, A)
    assert trio.value(B, key) == b"1" and trio.replies[place] is LATER
    trio.deliver()
    assert trio.replies[place] == OK
    assert trio.value(C, key) == b"1" and not trio.difference(A, B) and not trio.difference(A, C)


def test_who_goes_down_is_not_waited_for_any_more(trio: Trio) -> None:
    key = trio.key(A)
    trio.still.add(C)
    (place,) = trio.send(A, f"SET {key} 1")
    trio.deliver()
    assert trio.replies[place] is LATER
    dies(trio, C)
    trio.deliver()
    assert trio.replies[place] == OK


def test_enough_copies_are_asked_for_at_the_moment_of_the_acknowledgement(trio: Trio) -> None:
    """R1: when both successors go with one ring nobody is left who could hold it, and yet it is not answered OK."""
    key = trio.key(A)
    trio.still |= {B, C}
    (write,) = trio.send(A, f"SET {key} 1")
    (read,) = trio.send(A, f"GET {key}")
    trio.down(B, C)
    trio.read(A)
    trio.run(0.1)
    assert trio.replies[write].startswith(b"-INDOUBT") and b"fewer copies" in trio.replies[write]
    trio.confirm_ring(A)
    assert trio.replies[read] is LATER and trio.ask(A, f"GET {key}") is LATER, "nobody else holds it"
    assert trio.ask(A, f"GET {trio.key(A, 'clean')}") is None
    for line in (f"SET {key} 2", f"INCR {key}"):
        assert trio.ask(A, line).startswith(b"-NOREPLICAS"), "nothing was done, whatever becomes of the write in doubt"


def test_with_too_few_copies_up_nothing_is_stamped(trio: Trio) -> None:
    """R6, R2: and a write of all slots is refused whole."""
    key = trio.key(A)
    trio.send(A, f"SET {key} 1")
    trio.deliver()
    dies(trio, B)
    trio.run(0.1)
    trio.down(C)
    trio.still.add(C)
    trio.read(A)
    before = trio[A].storage.last_stamp
    for line in (f"SET {key} 2", f"INCR {key}", f"DEL {key}", "FLUSHALL"):
        (place,) = trio.send(A, line)
        trio.confirm_ring(A)
        assert trio.replies[place].startswith(b"-NOREPLICAS 1 of the 2"), line
    assert trio[A].storage.last_stamp[1] == before[1] and trio.value(A, key) == b"1"
    assert trio.ask(A, f"GET {key}") == value("1")


def test_a_write_that_is_not_held_in_time_is_in_doubt_and_stays_dirty(trio: Trio) -> None:
    """R6: what reads it is not answered, definitely."""
    key = trio.key(A)
    (other,) = trio.send(A, f"SET {trio.key(A, 'other')} 1")
    trio.deliver()
    trio.still.add(C)
    write, read = trio.send(A, f"SET {key} 1", f"GET {key}")
    trio.run(UNHELD_SECONDS_MAX + 0.5)
    assert trio.replies[other] == OK
    assert trio.replies[write].startswith(b"-INDOUBT") and trio.replies[read].startswith(b"-TRYAGAIN")
    assert any(isinstance(each, StreamSilent) and each.node == C for each in trio[A].to_detector)
    trio.still.clear()
    trio.run(RESEND_SECONDS + 0.5)
    assert trio.ask(A, f"GET {key}") == value("1"), "in doubt, and it took effect"


def test_the_acknowledgement_of_another_incarnation_counts_for_nothing(trio: Trio) -> None:
    """R3: C restarts at once; what its earlier life acknowledged last arrives late."""
    key = trio.key(A)
    (place,) = trio.send(A, f"SET {key} 1")
    trio.step(A, C)
    (late,) = [each for each in trio.under_way(C, A) if isinstance(each, Appended)]
    trio.restart(C)
    trio.read(A)
    replicator_of_a = trio[A].harness.system.find("replicator")
    assert replicator_of_a is not None
    replicator_of_a.tell(late)
    trio[A].harness.advance(0.0)
    assert trio.replies[place] is LATER
    assert C not in trio[A].storage._acknowledging.held, "nor does a life that is returning"
    trio.deliver()
    assert trio.replies[place] == OK and trio.value(B, key) == b"1"


def test_only_the_writer_of_the_newest_life_is_followed(trio: Trio) -> None:
    """R3 at the copy: a coordinator that has restarted is another; nothing of its earlier life is admitted."""
    key = trio.key(A)
    trio.send(A, f"SET {key} old")
    append = next(each for each in trio.under_way(A, B) if isinstance(each, Append) and each.operations)
    trio.restart(A)
    trio.read(B, C)
    trio.deliver()
    trio[B].replica_ref.tell(append)
    trio[B].harness._run()
    assert trio.value(B, key) is None


# The stream (R4, R5)


def test_what_is_lost_with_a_link_is_sent_again_and_taken_once(trio: Trio) -> None:
    """R4."""
    key = trio.key(A)
    first = trio.send(A, f"APPEND {key} a", f"APPEND {key} b")
    trio.lose(A, C)
    second = trio.send(A, f"APPEND {key} c")
    trio.run(0.3)
    assert [trio.replies[place] for place in (*first, *second)] == [b":1\r\n", b":2\r\n", b":3\r\n"]
    assert trio.value(C, key) == b"abc" and not trio.difference(A, C)


def test_acknowledgements_that_are_lost_do_no_harm(trio: Trio) -> None:
    key = trio.key(A)
    (place,) = trio.send(A, f"APPEND {key} a")
    trio.step(A, B)
    trio.step(A, C)
    trio.lose(A)
    assert trio.replies[place] is LATER
    trio.run(0.3)
    assert trio.replies[place] == b":1\r\n" and trio.value(B, key) == b"a"


def test_copies_forget_their_tails_when_everybody_holds_them(trio: Trio) -> None:
    """R5."""
    trio.still.add(C)
    trio.send(A, f"SET {trio.key(A)} 1")
    trio.run(0.5)
    tails = [stream.tail for stream in trio[B].replica._streams.values() if stream.node == A]
    assert any(tails), "C does not hold it"
    trio.still.clear()
    trio.run(RESEND_SECONDS + 2 * BEAT_SECONDS)
    assert not any(stream.tail for stream in trio[B].replica._streams.values())


# What is asked of a write (acks one, WAIT, FLUSHALL, dirty reads, READONLY)


def test_a_read_of_what_not_everybody_holds_waits_and_others_do_not(trio: Trio) -> None:
    key, clean = trio.key(A), trio.key(A, "clean")
    (write,) = trio.send(A, f"SET {key} 1")
    dirty, multi, other = trio.send(A, f"GET {key}", f"EXISTS {key}", f"GET {clean}")
    assert trio.replies[dirty] is LATER and trio.replies[multi] is LATER and trio.replies[other] is None
    trio.deliver()
    assert (trio.replies[write], trio.replies[dirty], trio.replies[multi]) == (OK, value("1"), b":1\r\n")


def test_who_asks_for_one_copy_is_answered_at_once_and_the_reader_waits_all_the_same(trio: Trio) -> None:
    key = trio.key(A)
    eager, other = trio.send(A, f"SET {key} 1", f"SET {trio.key(A, 'other')} 1", eager=[0])
    assert trio.replies[eager] == OK and trio.replies[other] is LATER
    assert trio.ask(A, f"GET {key}") is LATER
    trio.deliver()
    assert LATER not in trio.replies.values()


def test_a_successor_answers_reads_that_may_be_stale_and_no_others(trio: Trio) -> None:
    key = trio.key(A)
    trio.send(A, f"SET {key} 1")
    trio.deliver()
    trio.send(A, f"SET {key} 2")
    assert trio.ask(C, f"GET {key}", stale=[0]) == value("1")
    assert trio.ask(C, f"GET {key}").startswith(b"-MOVED")
    replies = trio.send(C, f"GET {key}", f"SET {key} 3", f"GET {trio.key(C)}", f"GET {key}", stale=[0, 2])
    assert [trio.replies[place] for place in replies[::2]] == [value("1"), None]
    assert all(trio.replies[place].startswith(b"-MOVED") for place in replies[1::2])
    trio.down(C)
    trio.read(C)
    assert trio.ask(C, f"GET {key}", stale=[0]).startswith(b"-MOVED"), "it may lack anything by now"


def test_wait_is_answered_when_so_many_hold_all_that_was_written_or_time_is_up(trio: Trio) -> None:
    trio.still.add(C)
    trio.send(A, f"SET {trio.key(A)} 1", eager=[0])
    assert trio.ask(A, "WAIT 0 0") == b":0\r\n"
    (one,) = trio.send(A, "WAIT 1 0")
    (two,) = trio.send(A, "WAIT 2 500")
    assert trio.replies[one] is LATER and trio.replies[two] is LATER
    trio.deliver()
    assert trio.replies[one] == b":1\r\n" and trio.replies[two] is LATER
    trio.run(1.0)
    assert trio.replies[two] == b":1\r\n"
    trio.still.clear()
    trio.run(RESEND_SECONDS + 0.5)
    assert trio.ask(A, "WAIT 2 0") == b":2\r\n"


def test_waits_for_the_same_writes_are_looked_at_once_and_answered_together(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    copies_of = StorageNode._copies_of

    def looked(node: StorageNode, batch: int) -> int:
        looks.append(batch)
        return copies_of(node, batch)

    monkeypatch.setattr(StorageNode, "_copies_of", looked)
    trio.still.add(C)
    trio.send(A, f"SET {trio.key(A)} 1")
    waits = trio.send(A, *["WAIT 2 0"] * 50)
    looks.clear()
    trio.send(A, f"SET {trio.key(A)} 2")
    trio.deliver()
    assert 0 < len(looks) <= 4, "one look, or one for each write, whenever B has confirmed something"
    assert all(trio.replies[wait] is LATER for wait in waits)
    trio.still.clear()
    trio.run(RESEND_SECONDS + 0.5)
    assert {trio.replies[wait] for wait in waits} == {b":2\r\n"}


def test_a_flushall_waits_for_everybody_of_every_group_and_all_copies_are_empty() -> None:
    trio = Trio(4).start()
    first, *_ = [node.id for node in trio.ring.circle]
    last = trio.ring.circle[-1].id
    dies(trio, last)
    trio.run(LEASE_OVER_SECONDS + 0.2)
    keys = [key for key in (f"key{n}" for n in range(200)) if trio.coordinator(key) == first]
    assert len(trio[first].storage._acknowledging.groups) > 1, "of its own slots, and of those that it took over"
    trio.send(first, *(f"SET {key} 1" for key in keys))
    trio.deliver()
    third = trio.ring.circle[2].id
    trio.still.add(third)
    (flush,) = trio.send(first, "FLUSHALL")
    (read,) = trio.send(first, f"GET {keys[0]}")
    trio.deliver()
    assert trio.replies[flush] is LATER
    trio.still.discard(third)
    trio.deliver()
    assert trio.replies[flush] == OK and trio.replies[read] is None
    for id in (first, trio.ring.circle[1].id, third):
        assert all(trio.value(id, key) is None for key in keys)
        assert not trio.difference(first, id)
    trio.stop()


def test_too_much_that_waits_for_a_successor_stalls_writes_and_nothing_is_lost(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicator, "KEPT_BYTES_MAX", 1000)
    key = trio.key(A)
    trio.send(A, f"SET {trio.key(A, 'clean')} 1")
    trio.deliver()
    trio.still.add(C)
    for _ in range(30):
        trio.send(A, f"APPEND {key} {'x' * 50}")
        trio.deliver()
    stamped = trio[A].storage.last_stamp[1]
    assert stamped < 30, "so much waits for C that no more was stamped"
    assert trio.ask(A, f"GET {trio.key(A, 'clean')}") == value("1"), "reads go on"
    trio.still.clear()
    trio.run(RESEND_SECONDS + 0.5)
    assert LATER not in trio.replies.values()
    assert trio.value(C, key) == b"x" * 1500 and not trio.difference(A, C)


def test_too_many_replies_that_wait_stall_writes_too(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_node, "UNHELD_MAX", 4)
    key = trio.key(A)
    for _ in range(3):
        trio.send(A, f"APPEND {key} a", f"APPEND {key} a")
    assert trio[A].storage.last_stamp[1] == 4
    trio.deliver()
    assert LATER not in trio.replies.values() and trio.value(C, key) == b"aaaaaa"


def test_under_fsync_always_a_copy_counts_when_it_has_synced() -> None:
    trio = Trio(fsync="always").start()
    key = trio.key(A)
    trio.syncs_wait = True
    (place,) = trio.send(A, f"SET {key} 1")
    trio.sync(A)
    trio.deliver()
    assert trio.value(B, key) == trio.value(C, key) == b"1" and trio.replies[place] is LATER
    trio.sync(B)
    trio.deliver()
    assert trio.replies[place] is LATER
    trio.sync(C)
    trio.deliver()
    assert trio.replies[place] == OK
    trio.stop()


def test_under_fsync_always_the_own_disk_is_waited_for_too() -> None:
    trio = Trio(fsync="always").start()
    trio.syncs_wait = True
    place = trio.send(A, f"SET {trio.key(A)} 1")[0]
    trio.deliver()
    trio.sync(B, C)
    trio.deliver()
    assert trio.replies.get(place, LATER) is LATER
    trio.sync(A)
    trio.deliver()
    assert trio.replies[place] == OK
    trio.stop()


def test_what_was_parked_and_is_run_while_the_disk_syncs_is_synced_after_that() -> None:
    trio = Trio(fsync="always").start()
    key = trio.key(A)
    trio.syncs_wait = True
    dies(trio, A)
    trio.hear_gone(A, B, C)
    (place,) = trio.send(B, f"SET {key} 1")  # parked: B takes over, and syncs because it has read a ring
    for _ in range(3):
        trio.sync(C)
        trio.deliver()
    assert trio.value(C, key) == b"1"  # it is run, and B still syncs
    for _ in range(3):  # nobody else writes meanwhile
        trio.sync(B, C)
        trio.deliver()
    assert trio.replies[place] == OK
    trio.stop()


def test_reads_that_were_parked_wait_for_the_own_disk_and_for_nobody_else() -> None:
    """Under fsync = always too few are up to write, and what is read is clean."""
    trio = Trio(3, replicas=2, fsync="always").start()
    key, other = trio.key(A), trio.key(A, "other")
    trio.send(A, f"SET {key} 1")
    trio.deliver()
    trio.still.add(B)
    trio.pass_time(LEASE_SECONDS + 0.1)
    parked = trio.send(A, f"GET {key}", f"GET {other}", "DBSIZE")
    assert [trio.replies[place] for place in parked] == [LATER] * 3
    trio.syncs_wait = True
    dies(trio, B)
    trio.confirm_ring(A)
    assert [trio.replies[place] for place in parked] == [LATER] * 3, "of what ring they are is not on disk yet"
    trio.sync(A)
    assert [trio.replies[place] for place in parked] == [value("1"), None, 1]
    trio.stop()


# Takeover (R13, R18, R19)


def test_a_node_dies_and_the_next_has_all_that_was_acknowledged_and_serves_at_once(trio: Trio) -> None:
    key = trio.key(A)
    trio.send(A, f"SET {key} 1")
    trio.deliver()
    dies(trio, A)
    trio.hear_gone(A, B, C)
    (write,) = trio.send(B, f"APPEND {key} 2")
    assert trio.replies[write] is LATER
    trio.deliver()
    assert trio.replies[write] == b":2\r\n" and trio.ask(B, f"GET {key}") == value("12")
    assert not trio.difference(B, C)


def test_the_longest_tail_is_taken_over_old_numbers_and_all_before_anything_new(trio: Trio) -> None:
    """R18: C has what B lacks, and what A may have acknowledged nobody can know."""
    key = trio.key(A)
    trio.still.add(B)
    trio.send(A, f"APPEND {key} a", f"APPEND {key} b")
    trio.deliver()
    version = trio[A].store.number(slot_of(key.encode()))
    trio.still.clear()
    trio.links.clear()
    dies(trio, A)
    (parked,) = trio.send(B, f"APPEND {key} c")
    trio.run(LEASE_OVER_SECONDS + 0.2)
    assert trio.replies[parked] == b":3\r\n", "what was parked came after it"
    assert trio.value(B, key) == trio.value(C, key) == b"abc" and not trio.difference(B, C)
    slot = slot_of(key.encode())
    assert version[0] < trio[B].store.number(slot)[0]


def test_what_only_the_next_one_has_is_sent_to_the_others_with_its_old_number(trio: Trio) -> None:
    key = trio.key(A)
    trio.still.add(C)
    trio.send(A, f"SET {key} 1")
    trio.deliver()
    trio.still.clear()
    trio.links.clear()
    dies(trio, A)
    trio.deliver()
    assert trio.value(C, key) == b"1"
    slot = slot_of(key.encode())
    assert trio[C].store.number(slot) == trio[B].store.number(slot) == (1, 1)


@pytest.mark.parametrize("last_part_arrives", [False, True])
def test_who_dies_while_it_sends_on_what_it_took_over_leaves_all_of_it_to_the_next(
    monkeypatch: pytest.MonkeyPatch, last_part_arrives: bool
) -> None:
    """R5, R18: only the last has what it took over, and is sent it in two parts."""
    monkeypatch.setattr(replicator, "APPEND_BYTES_MAX", 8)
    trio = Trio(4, replicas=4).start()
    first, second, third, last = (node.id for node in founded(4, 4).circle)
    keys = trio.key(first), trio.key(first, "other")
    trio.still |= {second, third}
    trio.send(first, *(f"SET {key} as-long-as-a-part" for key in keys))
    trio.deliver()
    trio.still.clear()
    trio.links.clear()
    dies(trio, first)
    while trio[second].storage._tenures.taking:
        assert sum(trio.step(*link) for other in (third, last) for link in ((second, other), (other, second)))
    parts = [each for each in trio.under_way(second, last) if isinstance(each, Append) and each.operations]
    assert [each.more for each in parts] == [True, False]
    while parts[last_part_arrives] in trio.under_way(second, last):
        assert trio.step(second, last)
    assert trio.value(third, keys[0]) is None
    dies(trio, second)
    trio.deliver()
    assert not trio[third].storage._tenures.taking
    assert [trio.value(third, key) for key in keys] == [b"as-long-as-a-part"] * 2
    assert not trio.difference(third, last)
    trio.stop()


def test_who_was_asked_for_its_tail_admits_nothing_of_the_deposed(trio: Trio) -> None:
    """R19: A knows nothing of it, and cannot acknowledge any more."""
    key = trio.key(A)
    trio.down(A)
    trio.read(B, C)
    trio.deliver(B, C)
    (place,) = trio.send(A, f"SET {key} late")
    trio.deliver()
    assert trio.replies[place] is LATER and trio.value(B, key) is None and trio.value(C, key) is None
    (other,) = trio.send(B, f"SET {key} new")
    trio.run(LEASE_OVER_SECONDS + 0.2)
    assert trio.replies[other] == OK
    trio.read(A)
    trio.deliver()
    assert trio.replies[place].startswith(b"-INDOUBT"), "never MOVED: it was stamped"
    assert trio.ask(A, f"GET {key}").startswith(b"-MOVED")
    assert trio.value(C, key) == b"new"


def test_a_copy_that_has_read_the_ring_refuses_though_the_other_has_not(trio: Trio) -> None:
    key = trio.key(A)
    trio.down(A)
    trio.read(C)
    (place,) = trio.send(A, f"SET {key} late")
    trio.deliver()
    assert trio.value(B, key) == b"late" and trio.value(C, key) is None
    assert trio.replies[place] is LATER
    trio.read(B)
    trio.run(LEASE_OVER_SECONDS + 0.2)
    assert trio.value(C, key) == b"late", "it was in the tail of B"
    trio.read(A)
    assert trio.replies[place].startswith(b"-INDOUBT")


def test_who_does_not_answer_is_asked_again_and_nothing_is_served_before(trio: Trio) -> None:
    """R18."""
    key = trio.key(A)
    trio.still.add(C)
    dies(trio, A, B)
    (place,) = trio.send(B, f"GET {key}")
    trio.run(SILENT_SECONDS + 0.3)
    assert trio.replies[place] is LATER
    assert sum(isinstance(each, AskTail) for each in trio.under_way(B, C)) > 1
    assert any(each.node == C and each.seconds for each in trio[B].to_detector if isinstance(each, StreamSilent))
    trio.still.discard(C)
    trio.read(C)
    trio.run(0.3)
    assert trio.replies[place] is None


def test_who_acknowledges_nothing_and_answers_a_takeover_late_is_reported_again(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R22: what the takeover takes back is what it has said itself."""

    def refuse(batch: object) -> None:
        raise StoreError("full")

    monkeypatch.setattr(trio[C].store.disk, "write", refuse)
    trio.send(B, f"SET {trio.key(B)} 1")
    dies(trio, A, B)
    trio.run(SILENT_SECONDS + 0.3)
    trio.read(C)
    trio.run(0.3)
    assert not trio[B].storage._tenures.taking
    said = [each.seconds for each in trio[B].to_detector if isinstance(each, StreamSilent) and each.node == C]
    assert 0.0 in said and said[-1]


def test_a_newer_ring_ends_the_questions_and_they_are_asked_anew(trio: Trio) -> None:
    """R18: for each newer ring anew; answers to the former count for nothing."""
    trio.still.add(A)
    trio.lose(A)
    trio.down(A)
    trio.read(B, C)
    key = trio.key(B)
    (old,) = {each.takeover for each in trio.under_way(B, C) if isinstance(each, AskTail)}
    trio.step(B, C)
    trio.amend()
    trio.read(B)
    trio.deliver(B)
    assert trio[B].storage._tenures.taking, "the answers were those of the ring before"
    assert old not in {each.takeover for each in trio.under_way(B, C) if isinstance(each, AskTail)}
    trio.read(C)
    trio.deliver()
    assert not trio[B].storage._tenures.taking and trio.ask(B, f"GET {key}") is None


def test_who_takes_over_and_lacks_what_another_holds_without_a_tail_ends_loudly(trio: Trio) -> None:
    """R18: that is no race but a bug, so nothing is served on it."""
    key = trio.key(A)
    slot = slot_of(key.encode())
    trio[C].store.put(slot, key.encode(), Record(b"from nowhere", 1, 99, 0))
    trio[C].store.commit()
    dies(trio, A)
    with pytest.raises(AssertionError, match="not in sync"):
        trio.deliver()


def test_a_coordinator_that_missed_a_ring_which_moved_slots_takes_over_again(trio: Trio) -> None:
    """R13: and what it had not got acknowledged is not lost, nor answered before it is held."""
    key = trio.key(A)
    trio.still.add(C)
    (place,) = trio.send(A, f"SET {key} 1")
    trio.deliver()
    trio.down(C)
    trio.amend()
    trio.read(A, B)
    assert trio[A].storage._tenures.taking and trio.ask(A, f"GET {key}") is LATER
    trio.run(LEASE_OVER_SECONDS + 0.3)
    assert trio.replies[place] == OK and trio.value(B, key) == b"1"
    assert LATER not in trio.replies.values()


def test_a_coordinator_that_missed_a_ring_which_moved_none_goes_on(trio: Trio) -> None:
    """R13."""
    key = trio.key(A)
    for _ in range(2):
        trio.amend()
    trio.read(A)
    assert not trio[A].storage._tenures.taking and trio.ask(A, f"GET {key}") is None
    (place,) = trio.send(A, f"SET {key} 1")
    trio.read(B, C)
    trio.deliver()
    assert trio.replies[place] == OK


# Rings that are read at different times (R20)


def test_a_copy_that_has_not_read_the_ring_yet_takes_it_in_later_and_in_order(trio: Trio) -> None:
    """R20."""
    key = trio.key(A)
    trio.amend()
    trio.read(A, B)
    places = trio.send(A, f"APPEND {key} a", f"APPEND {key} b")
    trio.deliver()
    assert trio.value(B, key) == b"ab" and trio.value(C, key) is None
    assert any(isinstance(each, LookForRing) for each in trio[C].to_member)
    assert trio.replies[places[1]] is LATER
    trio.read(C)
    trio.deliver()
    assert trio.value(C, key) == b"ab" and trio.replies[places[1]] == b":2\r\n"


def test_who_has_read_a_commit_takes_in_what_comes_from_the_ring_before(trio: Trio) -> None:
    """R20: the sender is still right about its own slots."""
    dies(trio, A)
    trio.hear_gone(A, B, C)
    trio.run(0.3)
    trio.still.clear()
    trio.restart(A)
    trio.read()
    trio.run(0.3)
    trio.seal_return()
    own, others = trio.key(B), trio.key(A)
    (parked,) = trio.send(B, f"SET {others} 1")
    trio.commit()
    trio.read(A, C)
    (write,) = trio.send(B, f"SET {own} 1")
    trio.deliver()
    assert trio.value(C, own) == b"1"
    trio.read(B)
    trio.run(0.3)
    assert trio.replies[write] == OK and trio.replies[parked].startswith(b"-MOVED")
    assert trio.value(A, own) == b"1", "which became a member with that commit"
    assert not trio.difference(A, B) and not trio.difference(A, C)


# Current reads (R21)


def test_without_confirmation_reads_are_parked_and_run_when_it_comes(trio: Trio) -> None:
    key = trio.key(A)
    trio.still.add(C)
    trio.run(LEASE_SECONDS + 2 * BEAT_SECONDS)
    (place,) = trio.send(A, f"GET {key}")
    assert trio.replies[place] is LATER, "somebody may have taken over with C"
    trio.still.clear()
    trio.run(RESEND_SECONDS + BEAT_SECONDS)
    assert trio.replies[place] is None


def test_a_node_that_nobody_heard_of_for_a_lease_does_not_read_after_another_may_have_written(trio: Trio) -> None:
    """The deposed is cut off and serves reads by its lease; who took over acknowledges nothing until that is over."""
    key = trio.key(A)
    trio.send(A, f"SET {key} old")
    trio.deliver()
    trio.still.add(A)
    trio.down(A)
    trio.read(B, C)
    trio.deliver()
    (write,) = trio.send(B, f"SET {key} new")
    for _ in range(30):
        trio.run(0.05)
        (read,) = trio.send(A, f"GET {key}")
        if trio.replies[write] == OK:
            assert trio.replies[read] is LATER
        elif trio.replies[read] is not LATER:
            assert trio.replies[read] == value("old")
    assert trio.replies[write] == OK


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("fsync", ["never", "always"])
def test_who_is_left_alone_and_may_write_does_not_before_the_other_has_stopped_reading(fsync: str, ended: bool) -> None:
    """R21: with min_copies 1 there is nobody whose word it would wait for."""
    trio = Trio(2, replicas=2, min_copies=1, fsync=fsync).start()
    one, other = trio.ids
    key = trio.key(one)
    trio.send(one, f"SET {key} old")
    trio.run(0.5)
    dies(trio, one)
    trio.deliver()
    trio.confirm_ring(other)
    write, read = trio.send(other, f"SET {key} new", f"GET {key}")
    trio.deliver()
    assert trio.ask(one, f"GET {key}") == value("old"), "it has not read the ring"
    assert trio.replies[write] is LATER
    if ended:
        trio.hear_gone(one, other)
    else:
        trio.pass_time(LEASE_OVER_SECONDS - 0.15)
        assert trio.ask(one, f"GET {key}") is LATER and trio.replies[write] is LATER
        trio.confirm_ring(other)
    trio.run(CONFIRM_SECONDS + 0.05)
    trio.confirm_ring(other)
    assert trio.replies[write] == OK and trio.replies[read] == value("new")
    assert trio.ask(other, f"SET {key} newer") == OK
    trio.stop()


@pytest.mark.parametrize("when", ["before the ring", "after the ring", "never"])
def test_the_lease_of_a_process_that_has_ended_is_not_waited_for(trio: Trio, when: str) -> None:
    key = trio.key(A)
    trio.run(0.5)
    if when == "before the ring":
        trio.hear_gone(A, B, C)
    dies(trio, A)
    trio.deliver()
    (write,) = trio.send(B, f"SET {key} 1")
    trio.deliver()
    if when == "after the ring":
        assert trio.replies[write] is LATER
        trio.hear_gone(A, B)
    if when == "never":
        assert trio.replies[write] is LATER
        trio.run(LEASE_OVER_SECONDS - 0.15)
        assert trio.replies[write] is LATER
        trio.run(0.3)
    assert trio.replies[write] == OK


def test_reads_go_on_at_once_after_a_takeover_but_not_of_what_was_just_written(trio: Trio) -> None:
    key = trio.key(A)
    trio.send(A, f"SET {key} 1")
    trio.run(2 * BEAT_SECONDS)
    dies(trio, A)
    trio.deliver()
    assert trio.ask(B, f"GET {key}") == value("1")
    (write,) = trio.send(B, f"SET {key} 2")
    (read,) = trio.send(B, f"GET {key}")
    trio.deliver()
    assert trio.replies[write] is LATER and trio.replies[read] is LATER
    trio.run(LEASE_OVER_SECONDS + 0.1)
    assert trio.replies[read] == value("2")


def test_a_coordinator_that_is_alone_reads_by_the_ring_itself(trio: Trio) -> None:
    key = trio.key(A)
    dies(trio, B)
    trio.run(0.1)
    dies(trio, C)
    trio.run(0.1)
    (place,) = trio.send(A, f"GET {key}")
    assert trio.replies[place] is LATER
    trio.confirm_ring(A)
    trio.deliver()
    assert trio.replies[place] is None
    trio.run(LEASE_SECONDS + 0.3)
    (place,) = trio.send(A, f"GET {key}")
    assert trio.replies[place] is LATER, "it was not told that it still is the only one"
    trio.confirm_ring(A)
    trio.deliver()
    assert trio.replies[place] is None


def test_who_may_hold_what_others_lack_says_how_many_are_up_and_not_that_all_had_died() -> None:
    """R15: it may just have come to answer for a list with too few up, by a join or a leave."""
    trio = Trio(2, replicas=2).start()
    one, other = trio.ids
    key = trio.key(one)
    dies(trio, other)
    kept = tuple(replace(each, keeper=one) for each in trio.ring.trouble)
    trio.ring = trio.ring.amended(trouble=kept, what="leave", **trio.fields())
    trio.read(one)
    trio.deliver()
    trio.confirm_ring(one)
    said = trio.ask(one, f"GET {key}")
    assert said.startswith(b"-CLUSTERDOWN Hash slot not served: 1 of the 2 copies that a write needs are up, and")
    assert b"died" not in said and b"%b is down" % other.encode() in said
    trio.stop()


# A node comes back (R9)


def test_who_comes_back_gets_what_it_missed_and_holds_every_write_from_the_switch_on(trio: Trio) -> None:
    key = trio.key(A)
    dies(trio, C)
    trio.run(0.2)
    trio.send(A, *(f"SET {key}{n} 1" for n in range(20)))
    trio.deliver()
    trio.still.clear()
    trio.restart(C)
    trio.read()
    trio.run(0.3)
    trio.raise_returning()
    assert {node.state for node in trio.ring.nodes} == {"up"}
    assert not trio.difference(A, C) and not trio.difference(B, C)
    (place,) = trio.send(A, f"SET {key} 2")
    trio.deliver(B)
    trio.deliver(A)
    assert trio.replies[place] is LATER or trio.value(C, key) == b"2"
    trio.deliver()
    assert trio.replies[place] == OK


def test_what_was_under_way_when_a_change_began_is_answered_before_its_commit(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: the learner has it by the walk, so that no batch of it is ever followed."""
    step = trio.step
    dies(trio, C)
    trio.run(0.2)
    trio.still.clear()
    trio.restart(C)
    trio.read()
    trio.run(0.3)
    (place,) = trio.send(A, f"SET {trio.key(A)} 1")
    monkeypatch.setattr(trio, "step", lambda one, other: (one, other) != (A, B) and step(one, other))
    trio.begin_return()
    trio.come_to("transfer")
    trio.advance_change()
    trio.come_to("switch")
    assert trio.replies[place] is LATER
    monkeypatch.undo()
    trio.deliver()
    assert trio.replies[place] == OK


def test_at_the_commit_a_new_member_gets_by_the_stream_what_its_handoff_had_not_brought(trio: Trio) -> None:
    """R9: and the write waits for it."""
    dies(trio, C)
    trio.run(0.2)
    trio.still.clear()
    trio.restart(C)
    trio.read()
    trio.run(0.3)
    trio.seal_return()
    key = trio.key(A)
    (place,) = trio.send(A, f"SET {key} 1")
    trio.step(A, B)
    trio.lose(A, C)
    trio.deliver(B, A)
    assert trio.value(B, key) == b"1" and trio.replies[place] is LATER
    trio.links.pop((trio[A].port, trio[C].port), None)
    trio.commit()
    trio.read(A, B)
    trio.deliver(A, B)
    assert trio.replies[place] is LATER and trio.value(C, key) is None
    trio.read(C)
    trio.run(0.3)
    assert trio.replies[place] == OK and trio.value(C, key) == b"1"
    assert not trio.difference(A, C)
