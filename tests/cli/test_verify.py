"""What `ringkeeper verify` makes of what the nodes say."""

import json
from typing import Any, cast

from ringkeeper.actors.client import Client
from ringkeeper.actors.client_errors import Unavailable
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.cli.verify import compare
from ringkeeper.tests.actors.rules.rings import founded, ids

RING = founded(2, replicas=2)
A, B = ids(2)


class Nodes:
    """Nodes that have compared these slots."""

    def __init__(self, said: dict[str, dict[int, int]]) -> None:
        self.said = said

    def execute(self, *words: str) -> bytes:
        assert words == ("RING", "SHOW")
        return RING.to_json()

    def execute_on(self, id: str, *words: str) -> str:
        compared = sorted(self.said[id].items())
        nothing: dict[str, Any] = {"differences": [], "different": 0, "unreadable": None, "damaged": None, "skipped": 0}
        return json.dumps({**nothing, "state": "done", "slots": len(compared), "keys_by_slot": compared})


def test_a_slot_that_two_have_compared_counts_once_and_hides_none_that_nobody_has() -> None:
    half = dict.fromkeys(range(SLOTS // 2), 1)
    found = compare(cast(Client, Nodes({A: half, B: half})), repair=False)
    assert (found["slots"], found["keys"], found["not_compared"]) == (SLOTS // 2, SLOTS // 2, SLOTS // 2)
    assert not found["equal"]


def test_a_node_that_begins_anew_as_it_is_asked_has_compared_nothing_and_the_others_have() -> None:
    class Anew(Nodes):
        def execute_on(self, id: str, *words: str) -> str:
            if id == A:
                return super().execute_on(id, *words)
            if "START" in words:
                raise Unavailable(f"{id} broke the connection", address=id)
            return json.dumps({"state": "none"})

    found = compare(cast(Client, Anew({A: dict.fromkeys(range(9000), 1)})), repair=False)
    assert (found["slots"], found["not_compared"], found["equal"]) == (9000, SLOTS - 9000, False)


def test_what_all_together_have_compared_is_all() -> None:
    low, high = dict.fromkeys(range(9000), 1), dict.fromkeys(range(8000, SLOTS), 1)
    found = compare(cast(Client, Nodes({A: low, B: high})), repair=False)
    assert (found["slots"], found["keys"], found["not_compared"], found["equal"]) == (SLOTS, SLOTS, 0, True)
