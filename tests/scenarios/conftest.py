"""Properties are not timed: a busy machine refutes nothing."""

from hypothesis import HealthCheck, settings

settings.register_profile("ringkeeper", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ringkeeper")
