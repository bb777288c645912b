"""How fast slots may move: limits and clients."""

from ringkeeper.actors.pace import BUSY_SECONDS, Pace


def test_what_was_sent_is_waited_for_as_long_as_the_limit_says_and_without_one_not_at_all() -> None:
    pace = Pace()
    walk = pace.allowance("x")
    walk.sent(10_000_000, now=5.0)
    assert walk.until_free(now=5.0) == 0.0
    pace.limit(1000, now=5.0)
    walk.sent(500, now=5.0)
    walk.sent(1500, now=5.125)
    assert walk.until_free(now=5.5) == 1.5
    assert walk.until_free(now=9.0) == 0.0
    walk.sent(1000, now=9.0)
    assert walk.until_free(now=9.0) == 1.0, "what it did not send it has not saved"
    pace.limit(0, now=9.0)
    assert walk.until_free(now=9.0) == 0.0


def test_walks_have_equal_parts_of_the_limit_and_none_waits_for_what_another_sends() -> None:
    pace = Pace()
    much, little = pace.allowance("x"), pace.allowance("x")
    pace.limit(1000, now=0.0)
    pace.share(2, now=0.0)
    much.sent(1000, now=0.0)
    assert (much.until_free(now=0.0), little.until_free(now=0.0)) == (2.0, 0.0)
    pace.share(1, now=1.0)
    assert much.until_free(now=1.0) == 0.5, "the other is done"


def test_a_walk_that_begins_goes_on_with_what_was_sent_before_it() -> None:
    """However many walks follow each other, and each sends little."""
    pace = Pace()
    pace.limit(1000, now=0.0)
    first, second = pace.allowance("x"), pace.allowance("x")
    first.sent(3000, now=0.0)
    second.sent(2000, now=0.0)
    pace.give_back(first)
    pace.give_back(second)
    assert pace.allowance("y").until_free(now=0.0) == 0.0, "another lacks nothing of that"
    assert [pace.allowance("x").until_free(now=0.0) for _ in range(3)] == [2.0, 3.0, 0.0]


def test_another_limit_holds_also_for_what_was_sent_before() -> None:
    pace = Pace()
    walk = pace.allowance("x")
    pace.limit(1, now=0.0)
    walk.sent(1024, now=0.0)
    pace.limit(512, now=128.0)
    assert walk.until_free(now=128.0) == (1024 - 128) / 512


def test_while_clients_are_served_a_move_pauses_for_as_long_as_its_last_step_took_for_each_walk() -> None:
    pace = Pace()
    assert not pace.yields(now=1.0) and pace.pause_after(0.01, now=1.0) == 0.0
    pace.clients_at = 1.0
    pace.share(3, now=1.0)
    assert pace.yields(now=1.0) and pace.pause_after(0.01, now=1.0) == 0.03
    assert not pace.yields(now=1.0 + 2 * BUSY_SECONDS)


def test_clients_whom_moves_have_slowed_down_are_still_clients() -> None:
    pace = Pace()
    pace.clients_at = 1.0
    assert pace.yields(now=1.1), "the next request comes when the last one is answered"
