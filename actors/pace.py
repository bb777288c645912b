"""Says how fast slots may move off a node, so that its clients do not feel it: bulk yields.

A `Pace` is shared by all `Handoff` actors of a node. Two things slow them down:

- the limit of bytes per second that the ring names, for all moves of the node together. Each walk has an equal part of
  it, its `Allowance`: one that has little to send does not wait for one that has much (writes may wait for it, R8);
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
        """Handoffs that walk at once. Set by `share`."""
        self.clients_at = float("-inf")
        """When a request of a client was served last."""
        self._allowed, self._allowed_at = 0.0, 0.0
        self._unused: dict[str, list[Allowance]] = {}
        """By learner what walks that have ended had; the next ones to it go on with that, and with what was sent."""

    def allowance(self, learner: str) -> "Allowance":
        """For a walk that begins: of those of its learner the one under which least was sent. Give it back."""
        unused = self._unused.get(learner)
        if not unused:
            return Allowance(self, learner)
        best = min(unused, key=lambda each: each.used)
        unused.remove(best)
        return best

    def give_back(self, allowance: "Allowance") -> None:
        self._unused.setdefault(allowance.learner, []).append(allowance)

    def limit(self, bytes_per_second: int, now: float) -> None:
        """Another limit holds from now on, also for what was sent before."""
        self.allowed(now)
        self.bytes_per_second = bytes_per_second

    def share(self, walks: int, now: float) -> None:
        """From now on so many walk at once."""
        self.allowed(now)
        self.walks = walks

    @property
    def part(self) -> float:
        """The bytes per second of one walk; 0: no limit."""
        return self.bytes_per_second / self.walks

    def allowed(self, now: float) -> float:
        """How many bytes a walk could have sent by now, in all that time, by the limits that there were."""
        self._allowed += (now - self._allowed_at) * self.part
        self._allowed_at = now
        return self._allowed

    def yields(self, now: float) -> bool:
        """Whether clients are being served."""
        return now - self.clients_at < BUSY_SECONDS

    def pause_after(self, seconds: float, now: float) -> float:
        """How long a handoff is to pause after something that took so long."""
        return seconds * self.walks if self.yields(now) else 0.0


class Allowance:
    """What one walk may send under the limit of its node (``Pace.allowance``)."""

    def __init__(self, pace: Pace, learner: str) -> None:
        self._pace, self.learner = pace, learner
        self.used = 0.0
        """By the count of `Pace.allowed`: how far it has come, or is ahead."""

    def until_free(self, now: float) -> float:
        """Seconds until the next bytes may be sent."""
        ahead = self.used - self._pace.allowed(now)
        return max(0.0, ahead) / self._pace.part if self._pace.bytes_per_second else 0.0

    def sent(self, size: int, now: float) -> None:
        """Note what was sent."""
        if self._pace.bytes_per_second:
            self.used = max(self.used, self._pace.allowed(now)) + size
