"""Lets a simulated cluster balance itself for hours, under a Zipf load that stays or wanders, and counts what moves.

    python tests/scenarios/bench_balancing.py [ROUNDS] [SEED]

Four nodes, their actors and the control service's are those of a cluster. Only the requests are not sent: they are
added where each coordinator counts its own (``slot_rates.py``), two thousand a second with the chance that is in them,
so that hours pass in minutes. A round is as long as a balance takes to be called for. Each move is judged by the
load as it truly was in that moment: it helped if the busiest node had less to do after it, or, where no slot of that
node can be divided, the node that is farthest from its part came nearer.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ringkeeper.actors.balancer import SETTLED_SECONDS
from ringkeeper.actors.rules.rebalance import deviations
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS, slot
from ringkeeper.scenarios.simulated import SimulatedCluster

NODES, KEYS, REQUESTS_PER_SECOND = 4, 2000, 2000
THRESHOLD_PERCENT = 10
ROUND_SECONDS = 90
WANDERS = 0.1
"""So much, as a logarithm, how often a key is asked for changes by chance in each round."""
NOISE = 0.01
"""What is less is no difference."""

assert ROUND_SECONDS > SETTLED_SECONDS


@dataclass(frozen=True, slots=True)
class Look:
    """How the load lies at one moment: what the busiest node has, and how far the farthest is off, in parts."""

    peak: float
    farthest: float

    def is_better_than(self, other: "Look") -> bool:
        return self.peak < other.peak - NOISE or (
            self.peak < other.peak + NOISE and self.farthest < other.farthest - NOISE
        )


@dataclass(frozen=True, slots=True)
class Course:
    """What has happened in so many rounds."""

    moves: list[tuple[Look, Look]]
    """How the load lay before and after each of them."""
    peaks: list[float]
    """Of the busiest node at the end of each round."""
    first: float
    """Of the busiest node at the beginning."""

    @property
    def in_vain(self) -> list[tuple[Look, Look]]:
        return [(before, after) for before, after in self.moves if not after.is_better_than(before)]


class Requests:
    """A Zipf load: every key's requests per second."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._dice = cluster.world.stream("requests")
        weights = [1.0 / rank for rank in range(1, KEYS + 1)]
        self._dice.shuffle(weights)
        self._slots = [slot(b"key:%d" % number) for number in range(KEYS)]
        self._rates = [REQUESTS_PER_SECOND * weight / sum(weights) for weight in weights]

    def wander(self) -> None:
        changed = [rate * math.exp(self._dice.gauss(0.0, WANDERS / math.sqrt(ROUND_SECONDS))) for rate in self._rates]
        self._rates = [REQUESTS_PER_SECOND * rate / sum(changed) for rate in changed]

    def arrive(self, cluster: SimulatedCluster) -> None:
        """Requests of a second reach those who coordinate."""
        ring, by_id = _ring(cluster), {node.machine.id: node.actor("storage") for node in cluster.nodes()}
        for storage in by_id.values():
            storage._rates.turn(storage.now())
        for place in self._dice.choices(self._slots, self._rates, k=REQUESTS_PER_SECOND):
            coordinator = ring.coordinators[place]
            if coordinator is not None:
                by_id[coordinator.id]._rates.counts[place] += 1

    def look(self, ring: Ring) -> Look:
        off = deviations(ring, self._by_slot())
        return Look(1 + max(off.values()), max(map(abs, off.values())))

    def _by_slot(self) -> Sequence[int]:
        load = [0] * SLOTS
        for place, rate in zip(self._slots, self._rates, strict=True):
            load[place] += round(rate * 1000)
        return load


def course(rounds: int, *, wanders: bool, seed: int = 1) -> Course:
    """Let so many rounds pass."""
    with SimulatedCluster(seed, nodes=NODES, replicas=2, check=False) as cluster:
        cluster.run_until(cluster.serves, 30)
        requests = Requests(cluster)
        words = ("BALANCE", "AUTO", "ON", "BY", "requests", "THRESHOLD", str(THRESHOLD_PERCENT))
        cluster.execute("127.0.0.1:7001", "RING", *words)
        ring = _ring(cluster)
        first, moves, peaks = requests.look(ring), [], []
        for _ in range(rounds):
            for _ in range(ROUND_SECONDS):
                cluster.run(1.0)
                before, ring = ring, _ring(cluster)
                if _tokens(before) != _tokens(ring):
                    moves.append((requests.look(before), requests.look(ring)))
                requests.arrive(cluster)
                if wanders:
                    requests.wander()
            peaks.append(requests.look(ring).peak)
        return Course(moves, peaks, first.peak)


def _ring(cluster: SimulatedCluster) -> Ring:
    ring = cluster.ring()
    assert ring is not None
    return ring


def _tokens(ring: Ring) -> list[int]:
    return [node.token for node in ring.circle]


def main(rounds: int = 100, seed: int = 1) -> None:
    for wanders in (False, True):
        found = course(rounds, wanders=wanders, seed=seed)
        peaks = sorted(found.peaks)
        print(f"{rounds} rounds of a load that {'wanders' if wanders else 'stays'}: {len(found.moves)} moves")
        print(f"  the busiest node had {found.first:.2f} times the mean before any; at the ends of rounds")
        print(f"  {peaks[len(peaks) // 2]:.2f} (median), {peaks[-1]:.2f} (most), {found.peaks[-1]:.2f} (last)")
        print(f"  moves that did not help: {len(found.in_vain)}")
        for before, after in found.in_vain:
            print(f"    {before} -> {after}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
