"""Counts what is asked of each slot: requests per second, smoothed, for the balancer.

A part of `StorageNode`, on its hot path: a request costs one addition to a list. Everything else happens every few
seconds of requests, or when somebody asks, and no timer runs for it.
"""

import math

from .rules.slots import SLOTS

FOLD_SECONDS = 10.0
"""What was counted for so long becomes part of the rates."""

SMOOTHED_SECONDS = 30.0
"""A rate that changes is followed to two thirds in so long."""


class SlotRates:
    """The rates of one node's slots."""

    def __init__(self) -> None:
        self.counts = [0] * SLOTS
        """Requests since the last fold: the hot path adds to these."""
        self._rates = [0.0] * SLOTS
        self._folded_at: float | None = None

    def turn(self, now: float) -> None:
        """A batch of requests begins."""
        if self._folded_at is None:
            self._folded_at = now
        elif now - self._folded_at >= FOLD_SECONDS:
            self._fold(now)

    def _fold(self, now: float) -> None:
        assert self._folded_at is not None
        seconds = now - self._folded_at
        if seconds <= 0:
            return
        kept = math.exp(-seconds / SMOOTHED_SECONDS)
        gain = (1 - kept) / seconds
        counts = self.counts
        self._rates = [rate * kept + count * gain for rate, count in zip(self._rates, counts, strict=True)]
        counts[:] = [0] * SLOTS
        self._folded_at = now

    def of(self, first: int, last: int, now: float) -> list[int]:
        """The rates of some slots, in thousandths of a request per second."""
        if self._folded_at is not None:
            self._fold(now)
        return [round(rate * 1000) for rate in self._rates[first : last + 1]]
