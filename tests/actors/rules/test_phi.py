"""Phi: how sure one may be that no heartbeat is still to come."""

from math import erfc, log10, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.phi import PHI_MAX, Rhythm

pauses = st.lists(st.floats(0.0, 5.0), max_size=80)


def rhythm(*heard: float) -> Rhythm:
    made = Rhythm(pause_seconds=0.2, deviation_seconds_min=0.1)
    for pause in heard:
        made.heard(pause)
    return made


def test_phi_is_that_of_the_paper() -> None:
    heard = rhythm(0.2, 0.6)  # mean 0.4, deviation 0.2
    assert heard.phi(0.4) == pytest.approx(-log10(0.5))
    assert heard.phi(1.0) == pytest.approx(-log10(erfc(3 / sqrt(2)) / 2))


def test_whoever_is_heard_regularly_is_suspected_soon_and_others_later() -> None:
    assert rhythm(*[0.2] * 20).phi(0.8) > 8.0
    assert rhythm(*[0.2, 0.9] * 10).phi(0.8) < 1.0


def test_what_arrives_in_a_burst_after_a_stall_makes_nobody_impatient() -> None:
    burst = [0.0] * 15
    assert rhythm(*[0.2] * 20, *burst).phi(0.6) == rhythm(*[0.2] * 20).phi(0.6)


@given(pauses, st.floats(-5.0, 1e6), st.floats(0.0, 10.0))
def test_phi_only_grows_in_silence_and_is_a_number(heard: list[float], silent: float, more: float) -> None:
    one = rhythm(*heard)
    assert 0.0 <= one.phi(silent) <= one.phi(silent + more) <= PHI_MAX
