"""Says how sure one may be that somebody has fallen silent, from how regularly he was heard before.

This is the phi of Hayashibara, Défago, Yared and Katayama, "The phi accrual failure detector" (SRDS 2004): if the
pauses between heartbeats are normally distributed, phi = -log10(P), where P is the probability that a pause is longer
than the present one. Phi 1 is wrong once in ten times, phi 8 once in a hundred million. Who is heard irregularly is
given more time.

Heartbeats that are sent by one clock and read by another's turns are more regular than anything worth knowing: a floor
for the deviation keeps a short stall from being a death.
"""

from collections import deque
from math import erfc, log10, sqrt

PAUSES_MAX = 64
"""So many pauses are remembered."""

PHI_MAX = 99.0
"""No phi is higher; the probability then is no number any more."""


class Rhythm:
    """The pauses between the heartbeats of one sender, who sends one every ``pause_seconds``.

    No pause is expected to be shorter than that: what a stall has held up arrives in a burst, and says nothing.
    """

    def __init__(self, *, pause_seconds: float, deviation_seconds_min: float) -> None:
        self._pause_seconds, self._deviation_seconds_min = pause_seconds, deviation_seconds_min
        self._pauses: deque[float] = deque(maxlen=PAUSES_MAX)

    def heard(self, pause_seconds: float) -> None:
        """A heartbeat came so long after the one before."""
        self._pauses.append(max(pause_seconds, self._pause_seconds))

    def phi(self, silent_seconds: float) -> float:
        """How sure it is, after so long a silence, that no heartbeat is still to come: 0.0 to PHI_MAX."""
        count = len(self._pauses)
        mean = sum(self._pauses) / count if count else self._pause_seconds
        variance = sum((pause - mean) ** 2 for pause in self._pauses) / count if count else 0.0
        deviation = max(sqrt(variance), self._deviation_seconds_min)
        longer = erfc((silent_seconds - mean) / (deviation * sqrt(2))) / 2
        return min(-log10(longer), PHI_MAX) if longer > 10**-PHI_MAX else PHI_MAX
