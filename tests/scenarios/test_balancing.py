"""A cluster that balances itself moves nothing in vain; `bench_balancing.py` lets hours pass."""

import pytest
from ringkeeper.tests.scenarios.bench_balancing import THRESHOLD_PERCENT, course


@pytest.mark.stories
def test_a_load_that_wanders_is_followed_by_moves_that_help() -> None:
    found = course(3, wanders=True)
    assert found.moves and not found.in_vain
    assert found.peaks[-1] < min(found.first, 1 + THRESHOLD_PERCENT / 100)
