"""Even shares for the least moved: against a linear program, against trying everything, and on rings one knows."""

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement, product
from random import Random

import pytest
from ringkeeper.actors.rules.balance import Balance, balance, greedy, handed_over
from ringkeeper.actors.rules.least_shift import _lowest, between, cost_of_cuts, least_shift
from ringkeeper.actors.rules.placement import CIRCLE, md5_token, place
from ringkeeper.actors.rules.slot_shift import Gap, Slots
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.tests.actors.rules.rings import ids, standing
from scipy.optimize import linprog  # type: ignore[import-untyped]

Bounds = Sequence[int]


def gaps_of(ends: Sequence[int], circle: int) -> list[int]:
    return [end - ends[index - 1] + (circle if index == 0 else 0) for index, end in enumerate(ends)]


def shift(ends: Sequence[int], places: Sequence[int]) -> int:
    return sum(abs(place - end) for end, place in zip(ends, places, strict=True))


def by_linear_program(ends: Sequence[int], lower: Bounds, upper: Bounds, circle: int) -> float | None:
    """The least shift according to HiGHS: it knows places and shifts, and nothing of chains or cuts."""
    count = len(ends)
    rows: list[list[int]] = []
    limits: list[int] = []
    for index, end in enumerate(ends):
        for sign in (1, -1):
            row = [0] * (2 * count)
            row[index], row[count + index] = sign, -1
            rows.append(row)
            limits.append(sign * end)
        row = [0] * (2 * count)
        row[index] += 1
        row[(index - 1) % count] -= 1
        lap = circle if index == 0 else 0
        rows += [row, [-each for each in row]]
        limits += [upper[index] - lap, lap - lower[index]]
    free: list[tuple[int | None, int | None]] = [(None, None)] * count
    costs = [0] * count + [1] * count
    found = linprog(costs, A_ub=rows, b_ub=limits, bounds=[*free, *[(0, None)] * count], method="highs")
    return found.fun if found.status == 0 else None


def random_ring(dice: Random) -> tuple[list[int], list[int], list[int], int]:
    """Ends, bounds of gaps, and the circle; now and then such that there is no solution."""
    count, circle = dice.randint(1, 25), dice.choice((50, 1000, SLOTS, 10**6))
    crowded = circle // dice.choice((1, 1, 4, 20)) + 1
    ends = sorted(dice.randrange(crowded) for _ in range(count))
    powers = [dice.choice((0, 1, 1, 2, 3)) for _ in ends] if dice.random() < 0.3 else [1] * count
    capacity, deviation = sum(powers) or 1, dice.choice((0.0, 0.05, 0.2, 0.5))
    down, up = (math.ceil, math.floor) if dice.random() < 0.2 else (math.floor, math.ceil)
    lower = [down(circle * power / capacity * (1 - deviation)) for power in powers]
    upper = [up(circle * power / capacity * (1 + deviation)) for power in powers]
    return ends, lower, upper, circle


def equals_linear_program(rings: int, seed: int) -> int:
    """How many of so many rings have a solution; of all it is compared."""
    dice = Random(seed)
    solved = 0
    for _ in range(rings):
        ends, lower, upper, circle = random_ring(dice)
        places = least_shift(ends, lower, upper, circle)
        least = by_linear_program(ends, lower, upper, circle)
        if least is None:
            assert places is None
            continue
        assert places is not None
        assert all(x <= y <= z for x, y, z in zip(lower, gaps_of(places, circle), upper, strict=True))
        assert shift(ends, places) == pytest.approx(least, rel=1e-7, abs=1e-6)
        solved += 1
    return solved


def test_no_linear_program_finds_less_to_shift() -> None:
    assert 150 < equals_linear_program(200, seed=1) < 200


def test_the_best_cut_is_found_wherever_one_begins_to_look() -> None:
    dice = Random(2)
    for _ in range(40):
        ends, lower, upper, circle = random_ring(dice)
        places = least_shift(ends, lower, upper, circle)
        if places is None or len(ends) == 1:
            continue
        cost = cost_of_cuts(ends, lower, upper, circle)
        for guess in (ends[0], places[0] - 777, places[0] + circle):
            assert cost(_lowest(cost, guess, ends[0])) == shift(ends, places)


def test_between_two_points_that_stand_still_there_may_be_no_room() -> None:
    assert between(0, [10, 10], [5, 5, 5], [9, 9, 9], 15) == [5, 10]
    assert between(0, [10, 10], [5, 5, 5], [9, 9, 9], 14) is None
    assert between(0, [10, 10], [5, 5, 5], [9, 9, 9], 28) is None


# ---- slots of unequal weight


def passed(weights: Sequence[int], end: int, other: int) -> tuple[int, int]:
    """Weight and slots between two ends."""
    first, last = min(end, other), max(end, other)
    return sum(weights[slot % len(weights)] for slot in range(first, last)), last - first


def allowed(weights: Sequence[int], first: int, end: int, gap: Gap) -> bool:
    inside = [weights[slot % len(weights)] for slot in range(first, end)]
    if not gap.alone and gap.most == 0:
        return first == end
    undivided = gap.alone and sum(weight > 0 for weight in inside) <= 1
    return gap.least <= sum(inside) and (sum(inside) <= gap.most or undivided)


def by_trying_all(weights: Sequence[int], gaps: Sequence[Gap], homes: Sequence[int]) -> tuple[int, int] | None:
    """The least weight, and then slots, passed by any ends at all."""
    count, found = len(weights), []
    for start in range(homes[0] - count + 1, homes[0] + count):
        for rest in combinations_with_replacement(range(start, start + count + 1), len(homes) - 1):
            ends = (start, *rest)
            befores = (ends[-1] - count, *ends)
            if all(allowed(weights, *each) for each in zip(befores, ends, gaps, strict=False)):
                costs = [passed(weights, end, home) for end, home in zip(ends, homes, strict=True)]
                found.append((sum(cost for cost, _ in costs), sum(slots for _, slots in costs)))
    return min(found, default=None)


def test_slots_are_given_out_as_well_as_by_trying_all() -> None:
    dice = Random(3)
    solved = 0
    for _ in range(250):
        weights = [dice.choice((0, 1, 1, 2, 3, 9, 20)) for _ in range(dice.randint(2, 7))]
        homes = sorted(dice.randint(1, len(weights)) for _ in range(dice.randint(1, 4)))
        mean, deviation = sum(weights) / len(homes), dice.choice((0.05, 0.2, 0.5, 1.0))
        gaps = [Gap(int(mean * (1 - deviation)), int(mean * (1 + deviation)), dice.random() < 0.8) for _ in homes]
        if dice.random() < 0.2:
            gaps[0] = Gap(0, 0, False)
        least, found = by_trying_all(weights, gaps, homes), Slots(weights).cheapest_round(gaps, homes)
        assert (found is None) == (least is None)
        if found is not None:
            costs = [passed(weights, end, home) for end, home in zip(found.ends, homes, strict=True)]
            assert (sum(cost for cost, _ in costs), sum(slots for _, slots in costs)) == least
            assert found.proven
            solved += 1
    assert 100 < solved < 250


def test_equal_weights_and_no_weights_have_the_same_best() -> None:
    dice = Random(4)
    for _ in range(5):
        tokens = {id: dice.randrange(CIRCLE) for id in ids(dice.randint(2, 9))}
        by_slots, by_weights = balance(tokens), balance(tokens, [7] * SLOTS)
        assert by_weights.handed_over.shifted == 7 * by_slots.handed_over.shifted
        assert by_weights.proven


# ---- rings


def uneven(count: int, first_port: int = 5001) -> dict[str, int]:
    """The seed's servers, where the seed puts them."""
    return {id: md5_token(id) for id in ids(count, first_port=first_port)}


def loads(tokens: dict[str, int], weights: Sequence[int]) -> dict[str, int]:
    ring = standing(tokens)
    return {
        node.id: sum(weights[slot] for run in ring.slots_of(node.id) for slot in range(run.first, run.last + 1))
        for node in ring.nodes
    }


def agrees_with_the_ring(found: Balance, tokens: dict[str, int], weights: Sequence[int], copies: int) -> None:
    """Shares and what is handed over, counted slot by slot."""
    assert found.before == loads(tokens, weights)
    assert found.after == loads(dict(found.tokens), weights)
    assert list(found.tokens) == sorted(tokens, key=lambda id: tokens[id])
    before, after = standing(tokens, replicas=copies), standing(dict(found.tokens), replicas=copies)
    moved = copied = 0
    for (run, new), (table, _) in product(after.list_runs, before.list_runs):
        weight = sum(weights[max(run.first, table.first) : min(run.last, table.last) + 1])
        if weight:
            old = before.preference_list(max(run.first, table.first))
            moved += weight * (old[0].id != new[0].id)
            copied += weight * len({node.id for node in new} - {node.id for node in old})
    assert found.handed_over[1:] == (moved, copied)
    assert copied <= found.handed_over.shifted
    assert moved <= copied or len(tokens) <= copies


@pytest.mark.parametrize("copies", [1, 3])
def test_loads_and_what_is_handed_over_are_those_of_the_ring(copies: int) -> None:
    dice = Random(copies)
    for _ in range(4):
        tokens = {id: dice.randrange(CIRCLE >> dice.choice((0, 3))) for id in ids(dice.randint(1, 9))}
        weights = [dice.choice((0, 1, 5, 40)) for _ in range(SLOTS)]
        agrees_with_the_ring(balance(tokens, copies=copies), tokens, [1] * SLOTS, copies)
        found = balance(tokens, weights, copies=copies)
        agrees_with_the_ring(found, tokens, weights, copies)
        assert found.deviation <= 0.05
        assert balance(found.tokens, weights).tokens == found.tokens


@pytest.mark.parametrize(
    ("count", "before", "first_balancer", "moves"), [(3, 2.23, 1.31, 3), (6, 2.11, 2.11, 7), (12, 4.21, 4.21, 17)]
)
def test_the_seeds_servers_are_balanced(count: int, before: float, first_balancer: float, moves: int) -> None:
    tokens = uneven(count)
    ends = sorted(tokens.values())
    places, made, _ = greedy(ends, CIRCLE)
    assert made == moves
    assert max(gaps_of(ends, CIRCLE)) * count / CIRCLE == pytest.approx(before, abs=0.01)
    assert max(gaps_of(places, CIRCLE)) * count / CIRCLE == pytest.approx(first_balancer, abs=0.01)
    found = balance(tokens, copies=3)
    assert found.peak_before == pytest.approx(before, abs=0.01)
    assert found.peak_after <= 1.05
    agrees_with_the_ring(found, tokens, [1] * SLOTS, 3)


def test_a_ring_within_the_threshold_is_left_alone() -> None:
    tokens = place(ids(7), "even")
    assert balance(tokens).tokens == tokens
    assert balance(tokens, [0] * SLOTS).tokens == tokens
    assert balance({"127.0.0.1:7001": 5}, [3] * SLOTS).tokens == {"127.0.0.1:7001": 5}


def test_empty_slots_stay_where_they_are() -> None:
    tokens = place(ids(4), "even")
    weights = [0] * SLOTS
    weights[100], weights[5000], weights[9000], weights[9001] = 5, 5, 5, 5
    found = balance(tokens, weights)
    assert set(found.after.values()) == {5}
    assert found.handed_over == (5, 5, 5)
    assert sum(found.tokens[id] != token for id, token in tokens.items()) == 1


def test_who_can_do_more_has_more() -> None:
    tokens = place(ids(3), "even")
    big = ids(3)[0]
    found = balance(tokens, capacities={big: 2})
    assert all(abs(load / found.fair[id] - 1) <= 0.05 for id, load in found.after.items())
    assert found.fair[big] == SLOTS / 2


def test_a_drained_node_coordinates_nothing_and_stays_on_the_ring() -> None:
    tokens = uneven(6)
    for drained in tokens:
        found = balance(tokens, capacities={drained: 0})
        assert found.after[drained] == 0
        assert found.peak_after <= 1.05
        agrees_with_the_ring(found, tokens, [1] * SLOTS, 1)
    drained = min(tokens)
    weights = [slot % 2 for slot in range(SLOTS // 2)] + [0] * (SLOTS // 2)
    assert not standing(dict(balance(tokens, weights, capacities={drained: 0}).tokens)).slots_of(drained)
    nobody = balance(tokens, capacities=dict.fromkeys(tokens, 0))
    assert nobody.tokens == tokens


def test_a_pinned_token_stays_and_the_others_do_what_can_be_done() -> None:
    tokens = uneven(8)
    dice = Random(6)
    weights = [dice.randrange(9) for _ in range(SLOTS)]
    for pinned in ([min(tokens)], sorted(tokens)[2:4], sorted(tokens, key=lambda id: tokens[id])[::3], list(tokens)):
        for load in (None, weights):
            found = balance(tokens, load, pinned=pinned)
            assert all(found.tokens[id] == tokens[id] for id in pinned)
            agrees_with_the_ring(found, tokens, load or [1] * SLOTS, 1)
            assert max(abs(after / 2048 - 1) for after in balance(tokens, pinned=pinned).after.values()) <= (
                balance(tokens, pinned=pinned).deviation + 1e-6
            )
            assert found.deviation <= 0.05 or len(pinned) > 1
    assert found.tokens == tokens


def test_a_slot_too_heavy_for_anybody_stands_alone_and_the_others_share_the_rest() -> None:
    tokens = place(ids(5), "even")
    weights = [1] * SLOTS
    weights[7000] = 10 * SLOTS
    found = balance(tokens, weights)
    heavy = max(found.after, key=lambda id: found.after[id])
    assert found.after[heavy] == 10 * SLOTS
    assert all(abs(load / ((SLOTS - 1) / 4) - 1) <= 0.05 for id, load in found.after.items() if id != heavy)
    assert found.deviation <= 0.05


def test_where_slots_are_too_coarse_the_smallest_deviation_comes_first() -> None:
    tokens = place(ids(3), "even")
    weights = [0] * SLOTS
    weights[10], weights[20], weights[30], weights[16000] = 30, 35, 25, 30
    found = balance(tokens, weights)
    assert sorted(found.after.values()) == [30, 35, 55]
    assert found.deviation == pytest.approx(15 / 40, abs=1e-6)
    assert found.handed_over.shifted == 85


def test_with_a_cap_it_gets_as_even_as_the_cap_allows() -> None:
    tokens = uneven(12)
    best = balance(tokens)
    peaks = []
    for cap in (0, best.handed_over.shifted // 4, best.handed_over.shifted // 2, best.handed_over.shifted):
        found = balance(tokens, shifted_max=cap)
        assert found.handed_over.shifted <= cap
        peaks.append(found.peak_after)
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] == best.peak_before > peaks[1]
    assert peaks[-1] == best.peak_after
    assert balance(tokens, shifted_max=0).tokens == tokens


def test_several_ends_in_one_slot_keep_their_order() -> None:
    tokens = {id: (500 << 114) + index for index, id in enumerate(ids(20))}
    weights = [0] * SLOTS
    weights[400] = 9
    found = balance(tokens, weights)
    assert sorted(found.after.values())[-2:] == [0, 9]
    agrees_with_the_ring(found, tokens, weights, 1)


def test_what_one_hands_over_counts_every_node_that_gets_a_copy() -> None:
    assert handed_over([10, 20, 30, 40], [10, 20, 30, 40], circle=40) == (0, 0, 0)
    assert handed_over([10, 20, 30, 40], [10, 21, 30, 40], circle=40, copies=2) == (1, 1, 1)
    assert handed_over([10, 20, 30, 40], [15, 25, 35, 45], circle=40, copies=2) == (20, 20, 20)
    assert handed_over([10, 20, 30, 40], [30, 40, 50, 60], circle=40, copies=1) == (80, 40, 40)
    assert handed_over([10, 20, 30], [30, 40, 50], circle=30, copies=3) == (60, 30, 0)
