"""Keeps the client's time: what an operation has left, and how often all of them together may try again.

`Client._back_off` in `client.py` asks both before another attempt, and says how long the pause between two is.
A moment is one of ``time.monotonic``, in seconds.
"""

import threading
from dataclasses import dataclass, field
from time import monotonic

LAST_PART = 0.1
"""Nothing is sent in the last tenth of an operation's time: it would be in doubt more often than not."""


@dataclass(slots=True)
class Operation:
    """The time and the attempts that one call of a method has."""

    timeout_seconds: float
    started: float = field(default_factory=monotonic)
    attempt: int = 0

    @property
    def deadline(self) -> float:
        return self.started + self.timeout_seconds

    @property
    def sends_until(self) -> float:
        return self.deadline - LAST_PART * self.timeout_seconds

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return monotonic() - self.started

    def part(self, share: float) -> float:
        """The moment when this share of the time that is left will be over."""
        now = monotonic()
        return now + max(0.0, self.deadline - now) * share


class RetryBudget:
    """Lets retries through at a rate, after a burst of one second's worth (a token bucket, kept as one moment)."""

    def __init__(self, per_second: float) -> None:
        self._seconds_each = 1 / per_second
        self._next_at = 0.0
        self._lock = threading.Lock()

    def take(self, within_seconds: float) -> float | None:
        """Reserve the next token: the seconds until it may be used, None when that is too long."""
        with self._lock:
            now = monotonic()
            usable_at = max(self._next_at, now - 1.0)
            if usable_at - now > within_seconds:
                return None
            self._next_at = usable_at + self._seconds_each
            return max(0.0, usable_at - now)
