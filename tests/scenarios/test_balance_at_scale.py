"""The comparison of ways to keep shares even: what it counts, and that it draws it."""

from random import Random
from xml.etree import ElementTree

from ringkeeper.scenarios.balance_at_scale import CIRCLE, LOADS, compare, hashes, moved, owned, picture, table


def test_what_has_another_owner_has_moved() -> None:
    quarter = CIRCLE // 4
    before = owned([(quarter, 1), (2 * quarter, 2), (3 * quarter, 3)])
    assert before.shares() == {1: 2 * quarter, 2: quarter, 3: quarter}
    assert moved(before, before) == 0
    assert moved(before, owned([(quarter + 5, 1), (2 * quarter, 2), (3 * quarter, 3)])) == 5
    assert moved(before, owned([(2 * quarter, 2), (3 * quarter, 3)])) == 2 * quarter
    assert moved(before, owned([(quarter, 1), (2 * quarter, 2), (3 * quarter, 3), (CIRCLE, 4)])) == quarter


def test_a_hash_falls_rarely_where_the_load_is() -> None:
    dense = hashes("clustered", Random(1))
    assert sum(dense() < CIRCLE // 2 for _ in range(4000)) < 400
    assert all(0 < hashes(load, Random(2))() <= CIRCLE for load in LOADS)


def test_every_way_lives_through_some_weeks_and_only_the_balancer_stays_within_the_threshold() -> None:
    all_seen = compare([10, 40], weeks=6, seed=1)
    assert all_seen == compare([10, 40], weeks=6, seed=1)
    balanced = [seen for seen in all_seen if seen.way == "balance"]
    assert all(1 <= largest <= 1.05 + 1e-9 for seen in balanced for largest in seen.largest)
    assert {seen.way for seen in all_seen if max(seen.largest) <= 1.06} == {"balance"}
    assert all(cost >= 0.9 for seen in balanced for cost in seen.moved)
    assert len(table(all_seen).splitlines()) == len(all_seen) + 1
    ElementTree.fromstring(picture(all_seen))
