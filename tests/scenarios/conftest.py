"""Properties are not timed: a busy machine refutes nothing. Who asks for it is spared what the actors log."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ringkeeper", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ringkeeper")


@pytest.fixture
def quiet() -> Iterator[None]:
    """What a planted fault makes the actors log is not worth reading."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
