"""Describes how a ring keeps the shares of its nodes even: by itself or when asked, by what, how closely."""

from dataclasses import dataclass
from typing import Literal, get_args

from .fields import Fields, RingError, flag, one_of, whole

By = Literal["slots", "keys", "bytes", "requests"]
BYS: tuple[str, ...] = get_args(By)

THRESHOLD_MIN, THRESHOLD_MAX = 0.001, 10.0
CAPACITY_MAX = 1000
"""A node may be so many times as strong as one of capacity 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """What the balancer does without being asked. Raises RingError when a field is malformed."""

    auto: bool = False
    by: By = "slots"
    """What is counted."""
    threshold: float = 0.05
    """So far from its part a share may be, in parts."""

    def __post_init__(self) -> None:
        flag("auto of the balancing", self.auto)
        one_of("what the ring is balanced by", self.by, BYS)
        check_threshold(self.threshold)


def check_threshold(threshold: object) -> None:
    """Raises RingError when shares cannot be held within it."""
    if type(threshold) not in (int, float) or not THRESHOLD_MIN <= threshold <= THRESHOLD_MAX:  # type: ignore[operator]
        raise RingError(
            f"shares cannot be held within {threshold!r} of their parts: use {THRESHOLD_MIN} (0.1 %) to {THRESHOLD_MAX}"
        )


def check_capacity(what: str, capacity: object) -> None:
    """Raises RingError unless it is a whole number; 0: the node coordinates nothing."""
    whole(what, capacity, 0, CAPACITY_MAX)


def balancing_to_json(balancing: Balancing) -> dict[str, object]:
    return {"auto": balancing.auto, "by": balancing.by, "threshold": balancing.threshold}


def balancing_from_json(item: object) -> Balancing:
    fields = Fields("the balancing of the ring", item)
    return Balancing(auto=fields.take("auto"), by=fields.take("by"), threshold=fields.take("threshold"))
