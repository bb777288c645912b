"""Copies between two messages: what a planted fault changes there alone, or too seldom for stories to meet it.

Nodes are those of ``trio``; `test_planted_copies.py` sees to it that each test fails with the fault that it is about.
"""

from collections.abc import Iterator

import pytest
from ringkeeper.actors.tenures import LEASE_OVER_SECONDS
from ringkeeper.tests.actors.rules.rings import founded
from ringkeeper.tests.actors.trio import Trio

A, B, C = (node.id for node in founded(3, 3).circle)
"""In the order of the circle: for the slots of A, B is the first successor and C the second."""


@pytest.fixture
def trio() -> Iterator[Trio]:
    trio = Trio().start()
    yield trio
    trio.stop()


def back(trio: Trio, id: str) -> None:
    """A node has died and is back, and a change that is to raise it has come to the end of its switch."""
    trio.lose(id)
    trio.down(id)
    trio.read(*(other for other in trio.ids if other != id))
    trio.run(LEASE_OVER_SECONDS + 0.2)
    trio.restart(id)
    trio.read()
    trio.run(0.2)
    trio.begin_return()
    trio.come_to("transfer")
    trio.advance_change()
    trio.come_to("switch")


def test_who_has_answered_a_takeover_admits_nothing_of_the_deposed_though_it_reads_late(trio: Trio) -> None:
    """R19: C is asked by B before it has read the ring by which B asks, and A goes on writing."""
    key = trio.key(A)
    trio.down(A)
    trio.read(B)
    trio.deliver(B, C)
    (place,) = trio.send(A, f"SET {key} late")
    trio.deliver(C)
    trio.read(C)
    trio.run(LEASE_OVER_SECONDS + 0.2)
    assert trio.ask(B, f"GET {key}") is not None, "what C had admitted was in its answer"
    trio.read(A)
    assert trio.replies[place].startswith(b"-INDOUBT")
    assert not trio.difference(B, C)


def test_a_successor_that_lags_behind_a_seal_gets_all_before_ready(trio: Trio) -> None:
    """R9: the slots of B go back to it from C, and A has not got yet what C had stamped before they were sealed."""
    back(trio, B)
    key = trio.key(B)
    (place,) = trio.send(C, f"SET {key} new")
    trio.deliver(B)
    trio.advance_change()
    trio.read()
    pairs = [(one, other) for one in trio.ids for other in trio.ids if one != other and (one, other) != (C, A)]
    for _ in range(20):
        trio.pass_time(0.05)
        while sum(trio.step(*pair) for pair in pairs):
            pass
    assert trio.value(B, key) == b"new" and trio.value(A, key) is None
    assert not trio.reached("seal"), "A lacks it, and would never get it from B"
    trio.come_to("seal")
    trio.commit()
    trio.read()
    trio.run(0.5)
    assert trio.replies[place] == b"+OK\r\n"
    assert not trio.difference(A, B) and not trio.difference(B, C)


def test_what_only_a_learner_has_got_since_the_seal_is_taken_over(trio: Trio) -> None:
    """R18: A stays coordinator of its slots and dies when a commit has made B a member: C has not got what B has."""
    back(trio, B)
    trio.advance_change()
    trio.come_to("seal")
    key = trio.key(A)
    trio.send(A, f"SET {key} new")
    trio.deliver(B, A)
    assert trio.value(B, key) == b"new" and trio.value(C, key) is None
    trio.commit()
    trio.read(B, C)
    trio.lose(A)
    trio.still.add(A)
    trio.down(A)
    trio.read(B, C)
    trio.run(LEASE_OVER_SECONDS + 0.2)
    assert trio.value(C, key) == b"new" and not trio.difference(B, C)
