"""Which of the copies of a slot are what they should be."""

from dataclasses import replace

from ringkeeper.actors.rules.mirror import listed
from ringkeeper.actors.rules.ring import Node
from ringkeeper.actors.rules.scrub import Listed, Votes, compared, difference, may_go, others_hold, spares, summed
from ringkeeper.runtime.store import Record
from ringkeeper.tests.actors.rules.rings import founded, hex64, ids, lost

RIGHT = [listed(5, b"a", Record(b"1", 3, 1)), listed(5, b"b", Record(b"2", 3, 2, 9_000))]


def test_slots_are_summed_apart_and_compared_where_they_are_at_one_number() -> None:
    records = [(5, b"a", Record(b"1", 3, 1)), (7, b"b", Record(b"2", 3, 2))]
    own = summed(records, [(5, 3, 1), (7, 3, 4), (9, 3, 3)])
    assert [each[:4] for each in own] == [(5, 3, 1, 1), (7, 3, 4, 1), (9, 3, 3, 0)]
    other = summed([(5, b"a", Record(b"1", 3, 1, 1)), (7, b"b", Record(b"X", 3, 2))], [(5, 3, 1), (7, 3, 5), (9, 3, 3)])
    assert compared(own, other) == ({5}, {7})  # of 7 nobody can say: one of them has gone on
    assert compared(own, own) == (set(), set())
    assert compared(own, own[:2]) == (set(), {9})


def test_of_three_copies_the_odd_one_out_is_named_whatever_it_is_that_differs() -> None:
    expires = [RIGHT[0], listed(5, b"b", Record(b"2", 3, 2, 9_001))]
    for wrong in (RIGHT[:1], expires, [*RIGHT, listed(5, b"c", Record(b"", 3, 1))]):
        found = difference(5, (3, 2), {"one": RIGHT, "two": wrong, "three": RIGHT})
        assert found is not None and found.odd == ("two",)
        assert "slot 5 differ at number 3.2" in found.sentence and "two is the odd one out" in found.sentence
    assert difference(5, (3, 2), {"one": RIGHT, "two": RIGHT}) is None


def test_of_copies_that_all_differ_nobody_is_the_odd_one() -> None:
    found = difference(5, (3, 2), {"one": RIGHT, "two": RIGHT[:1]})
    assert found is not None and not found.odd and found.keys == (b"b",)
    assert "two has nothing" in found.sentence and "nothing is removed" in found.sentence
    three = difference(5, (3, 2), {"one": RIGHT, "two": RIGHT[:1], "three": []})
    assert three is not None and not three.odd


ALL = [listed(5, key, Record(b"right", 3, number)) for number, key in enumerate((b"a", b"b", b"c"), start=1)]


def bad_in(*keys: bytes) -> list[Listed]:
    return [listed(5, each[1], Record(b"wrong", *each[2:4])) if each[1] in keys else each for each in ALL]


def test_of_two_copies_with_bad_records_of_different_keys_one_goes_at_a_time() -> None:
    found = difference(5, (3, 3), {"one": bad_in(b"a"), "two": ALL, "three": bad_in(b"b")})
    assert found is not None and found.keys == (b"a", b"b")
    assert found.odd == ("one",)  # while it coordinates, three would be made anew from its bad record
    assert "odd one out is one in 1, three in 1; one after the other is made anew, one first" in found.sentence
    found = difference(5, (3, 3), {"one": ALL, "two": bad_in(b"a"), "three": bad_in(b"b", b"c")})
    assert found is not None and found.odd == ("three",)
    lacks = difference(5, (3, 3), {"one": ALL, "two": ALL[1:], "three": bad_in(b"b")})
    assert lacks is not None and lacks.odd == ("three",)


def test_no_copy_is_made_anew_from_one_that_has_another_bad_record() -> None:
    for third in (ALL, bad_in(b"c")):  # whoever goes, two comes next
        found = difference(5, (3, 3), {"one": bad_in(b"a"), "two": bad_in(b"b"), "three": third})
        assert found is not None and not found.odd
        assert "none can be made anew from a copy that is right in all, and nothing is removed" in found.sentence
    found = difference(5, (3, 3), {"one": bad_in(b"a"), "two": bad_in(b"b"), "3": ALL, "4": ALL, "5": ALL})
    assert found is not None and found.odd == ("one", "two")  # most are right in all: both go, and only then return


def votes(*slots: tuple[list[Listed], list[Listed], list[Listed]]) -> Votes:
    votes = Votes(("one", "two", "three"))
    for copies in slots:
        found = difference(5, (3, 3), dict(zip(votes.nodes, copies, strict=True)))
        assert found is not None
        votes.add(found)
    return votes


def test_who_goes_is_asked_of_all_slots_of_a_list_together() -> None:
    one, two, three = (bad_in(b"a"), ALL, ALL), (ALL, bad_in(b"b", b"c"), ALL), (ALL, ALL, bad_in(b"b"))
    assert votes(one).odd() == ("one",) and votes(one, one).odd() == ("one",)
    assert votes(three, two).odd() == ("two",)  # the worst
    assert "three in 1, two in 2; two is made anew first" in votes(three, two).sentence()
    assert votes(three, one).odd() == ("one",)  # while it coordinates, three would be made anew from it
    assert votes(one, two).odd() == () and "nothing is removed" in votes(one, two).sentence()
    nobody_can_say = (ALL, bad_in(b"a"), bad_in(b"b")[1:])
    assert votes(two, nobody_can_say).odd() == () and "nobody can say" in votes(two, nobody_can_say).sentence()


def test_what_fewer_copies_have_alone_or_newer_is_not_voted_down_key_by_key() -> None:
    older = [listed(5, b"a", Record(b"older", 2, 9)), *ALL[1:]]
    for others in ((ALL[:2], bad_in(b"b")[:2]), (older, [older[0], *bad_in(b"b")[1:]])):
        found = difference(5, (3, 3), dict(zip(("one", "two", "three"), (ALL, *others), strict=True)))
        assert found is not None and not found.odd and "nobody can say" in found.sentence


def test_a_key_without_a_majority_leaves_everybody_where_he_is() -> None:
    three = [listed(5, b"a", Record(b"third", 3, 1)), *bad_in(b"b")[1:]]
    found = difference(5, (3, 3), {"one": ALL, "two": bad_in(b"a"), "three": three})
    assert found is not None and not found.odd and "nobody can say" in found.sentence


def test_a_copy_may_go_while_others_answer_for_its_lists_or_will_and_is_spared_when_they_do() -> None:
    ring = founded(3, replicas=2)
    a, b, c = ids(3)
    all = {a, b, c}
    assert may_go(ring, a, all) and spares(ring, a)
    assert not may_go(ring, a, {c}) and not may_go(ring, a, {b})  # each of the others answers for one of its lists
    assert not may_go(lost(ring, b), a, all) and not may_go(founded(2), a, all)
    back = replace(lost(ring, b), nodes=tuple(_returning(each, b) for each in lost(ring, b).nodes))
    assert may_go(back, a, all) and not spares(back, a)  # b was complete, and will be the keeper of what only a has
    assert not may_go(back, a, {a, c})
    other = replace(back, nodes=tuple(replace(n, data_id=hex64(99)) if n.id == b else n for n in back.nodes))
    assert not may_go(other, a, all)


def _returning(node: Node, id: str) -> Node:
    return replace(node, state="returning") if node.id == id else node


def test_a_store_that_cannot_be_opened_is_no_loss_where_another_was_up_or_complete() -> None:
    a, b, _ = ids(3)
    ring = founded(3, replicas=2)
    assert others_hold(ring, a) and others_hold(lost(ring, a), a)
    assert others_hold(lost(lost(ring, b), a), a)  # too few were left for a write, so b lacks nothing
    alone = lost(replace(ring, min_copies=1), b)
    assert not others_hold(alone, a) and not others_hold(lost(alone, a), a)  # a went on without it
    assert not others_hold(founded(3), a)
    both = lost(lost(ring, b), a)
    empty = replace(both, nodes=tuple(replace(n, data_id=hex64(99)) if n.id == b else n for n in both.nodes))
    assert not others_hold(empty, a)  # b is back, and has lost what it was complete with
