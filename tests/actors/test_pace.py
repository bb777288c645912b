"""How fast slots may move: limits and clients."""

from ringkeeper.actors.pace import BUSY_SECONDS, Pace


def test_all_moves_of_a_node_share_its_limit_and_without_one_nothing_is_waited_for() -> None:
    pace = Pace()
    pace.sent(10_000_000, now=5.0)
    assert pace.until_free(now=5.0) == 0.0
    pace.bytes_per_second = 1000
    pace.sent(500, now=5.0)
    pace.sent(1500, now=5.1)
    assert pace.until_free(now=5.5) == 1.5
    assert pace.until_free(now=9.0) == 0.0
    pace.bytes_per_second = 0
    assert pace.until_free(now=5.5) == 0.0


def test_another_limit_holds_also_for_what_was_sent_before() -> None:
    pace = Pace()
    pace.limit(1, now=0.0)
    pace.sent(1024, now=0.0)
    pace.limit(512, now=128.0)
    assert pace.until_free(now=128.0) == (1024 - 128) / 512
    pace.limit(0, now=128.0)
    pace.limit(1, now=129.0)
    assert pace.until_free(now=129.0) == 0.0


def test_while_clients_are_served_a_move_pauses_for_as_long_as_its_last_step_took_for_each_walk() -> None:
    pace = Pace()
    assert not pace.yields(now=1.0) and pace.pause_after(0.01, now=1.0) == 0.0
    pace.clients_at, pace.walks = 1.0, 3
    assert pace.yields(now=1.0) and pace.pause_after(0.01, now=1.0) == 0.03
    assert not pace.yields(now=1.0 + 2 * BUSY_SECONDS)


def test_clients_whom_moves_have_slowed_down_are_still_clients() -> None:
    pace = Pace()
    pace.clients_at = 1.0
    assert pace.yields(now=1.1), "the next request comes when the last one is answered"
