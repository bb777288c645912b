"""Says how fast slots may move off a node, so that its clients do not feel it: bulk yields.

One of these is shared by all `Handoff` actors of a node. Two things slow them down:

- the limit of bytes per second that the ring names, for all moves of the node together;
- clients: while some are served, a handoff has one question or chunk under way at a time, and after each it pauses for
  as long as that took, times the walks at once. So moving takes at most half of what is there, and less where the other
  side is slow to answer because it has much to do.
"""

BUSY_SECONDS = 0.2
"""So long after a request of a client a node counts as serving clients: longer than clients wait where moves have
slowed them down. With a tenth of it moves took them for gone, and they waited for a second."""


class Pace:
    """The pace of one node's moves. Times are those of the actors' clock."""

    def __init__(self) -> None:
        self.bytes_per_second = 0
        """0: no limit. Set by `limit`."""
        self.walks = 1
        """Handoffs that walk at once."""
        self.clients_at = float("-inf")
        """When a request of a client was served last."""
        self._free_at = float("-inf")

    def limit(self, bytes_per_second: int, now: float) -> None:
        """Another limit holds from now on, also for what was sent before."""
        owed = self.until_free(now) * self.bytes_per_second
        self.bytes_per_second = bytes_per_second
        self._free_at = now + owed / bytes_per_second if bytes_per_second else now

    def yields(self, now: float) -> bool:
        """Whether clients are being served."""
        return now - self.clients_at < BUSY_SECONDS

    def pause_after(self, seconds: float, now: float) -> float:
        """How long a handoff is to pause after something that took so long."""
        return seconds * self.walks if self.yields(now) else 0.0

    def until_free(self, now: float) -> float:
        """Seconds until the next bytes may be sent."""
        return max(0.0, self._free_at - now) if self.bytes_per_second else 0.0

    def sent(self, size: int, now: float) -> None:
        """Note what was sent."""
        if self.bytes_per_second:
            self._free_at = max(self._free_at, now) + size / self.bytes_per_second
