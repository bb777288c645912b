"""Who is to keep a list of which no member is up: at once, after all are back, after a wait."""

from dataclasses import replace

import pytest
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.recovery import recovery
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import Run
from ringkeeper.actors.rules.transitions import kept, returned
from ringkeeper.tests.actors.rules.rings import founded, hex64, ids, lost, registration

ALL = ids(3)


class Outage:
    """Three nodes that hold three copies, all of which were down; some are back."""

    def __init__(self, *back: str, whole: frozenset[str] = frozenset(), replicas: int = 3) -> None:
        ring = lost(founded(3, replicas), *ALL)
        self.lives = {id: replace(registration(id, 2, ring.stamp), whole=id in whole) for id in back}
        self.ring: Ring = returned(ring, self.lives.values(), nonce=hex64(9), wall_seconds=1.0) if back else ring
        self.runs = [each.slots for each in self.ring.trouble]
        self.lists = [tuple(node.id for node in self.ring.lists[run.first]) for run in self.runs]

    def said(self, numbers: dict[str, tuple[int, int] | None]) -> dict[tuple[Run, str], tuple[int, int] | None]:
        return {(run, self.lives[id].incarnation): number for id, number in numbers.items() for run in self.runs}


def test_nobody_keeps_a_list_while_none_of_its_complete_members_is_back() -> None:
    found = recovery(Outage().ring, {}, {})
    assert not found.keepers and not found.ask and not found.waiting


def test_a_whole_one_is_keeper_at_once_and_of_several_the_first_in_the_list() -> None:
    outage = Outage(*ALL, whole=frozenset(ALL[1:]))
    found = recovery(outage.ring, outage.lives, {})
    firsts = [next(id for id in members if id != ALL[0]) for members in outage.lists]
    assert found.keepers == dict(zip(outage.runs, firsts, strict=True)) and not found.waiting and not found.ask


def test_of_those_that_a_power_cut_took_all_are_waited_for_then_their_numbers_are_asked_and_the_highest_wins() -> None:
    outage = Outage(*ALL[:2])
    found = recovery(outage.ring, outage.lives, {})
    assert (found.keepers, found.ask, found.waiting) == ({}, {}, set(outage.runs))
    outage = Outage(*ALL)
    found = recovery(outage.ring, outage.lives, {})
    assert found.ask == dict.fromkeys(ALL, outage.runs) and not found.keepers
    said = outage.said({ALL[0]: (1, 7), ALL[1]: (2, 3), ALL[2]: (2, 1)})
    assert set(recovery(outage.ring, outage.lives, said).keepers.values()) == {ALL[1]}
    same = outage.said(dict.fromkeys(ALL, (2, 3)))
    assert list(recovery(outage.ring, outage.lives, same).keepers.values()) == [members[0] for members in outage.lists]


def test_when_all_are_back_one_that_has_not_said_its_number_is_asked_again() -> None:
    outage = Outage(*ALL)
    said = outage.said({ALL[0]: (1, 7), ALL[1]: None, ALL[2]: (2, 1)})
    found = recovery(outage.ring, outage.lives, said)
    assert found.ask == {ALL[1]: outage.runs} and not found.keepers
    found = recovery(outage.ring, outage.lives, said, outage.runs)
    assert set(found.keepers.values()) == {ALL[2]}, "it is not waited for for ever"


def test_after_the_wait_those_who_are_back_are_enough_and_a_single_one_is_not_asked() -> None:
    outage = Outage(*ALL[:2])
    assert recovery(outage.ring, outage.lives, {}, outage.runs).ask == dict.fromkeys(ALL[:2], outage.runs)
    outage = Outage(ALL[1])
    found = recovery(outage.ring, outage.lives, {}, outage.runs)
    assert found.keepers == dict.fromkeys(outage.runs, ALL[1]) and not found.ask


def test_each_list_goes_by_its_own_members() -> None:
    outage = Outage(*ALL[:2], replicas=2)
    found = recovery(outage.ring, outage.lives, {})
    both = [run for run, members in zip(outage.runs, outage.lists, strict=True) if set(members) == set(ALL[:2])]
    assert found.ask == dict.fromkeys(ALL[:2], both) and found.waiting == set(outage.runs)


@pytest.mark.parametrize("what", ["another life", "another directory", "not registered", "kept"])
def test_who_is_not_counted_as_back(what: str) -> None:
    outage = Outage(ALL[1], whole=frozenset(ALL))
    ring, lives = outage.ring, dict[str, Registration](outage.lives)
    if what == "another life":
        lives[ALL[1]] = registration(ALL[1], 3)
    elif what == "another directory":
        ring = replace(ring, nodes=tuple(replace(n, data_id=hex64(5)) if n.id == ALL[1] else n for n in ring.nodes))
    elif what == "not registered":
        lives = {}
    else:
        ring = kept(ring, dict.fromkeys(outage.runs, ALL[1]), why="", nonce=hex64(10), wall_seconds=1.0)
    found = recovery(ring, lives, {})
    assert not found.keepers and not found.ask and not found.waiting
