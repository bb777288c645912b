"""The processes of a simulated cluster, to be looked into as shell, ``events`` and ``top`` look into real ones."""

from itertools import count
from typing import Any

from ringkeeper.actors.rules.ring import Ring
from ringkeeper.cli.observing import Processes, RunningTrace
from ringkeeper.cli.outcomes import Trouble
from ringkeeper.cli.shell.simulated_target import reply_of
from ringkeeper.scenarios.simulated import SimulatedCluster

_numbers = count(1)


class SimulatedProcesses(Processes):
    """By way of one node."""

    def __init__(self, cluster: SimulatedCluster, node: str) -> None:
        super().__init__()
        self._cluster, self._node = cluster, node

    def execute(self, *words: str | bytes | int) -> Any:
        return self.execute_on(self._node, *words)

    def execute_on(self, node: str, *words: str | bytes | int) -> Any:
        return reply_of(self._cluster.execute(node, *words), node)

    def ring(self) -> Ring:
        ring = self._cluster.ring()
        if ring is None:
            raise Trouble("there is no ring yet")
        return ring

    def now(self) -> float:
        return self._cluster.now


def traced(processes: Processes, kind: str, about: str, *places: str, **bounds: float) -> RunningTrace:
    """Begin a trace in some processes, or in all."""
    return RunningTrace(processes, places or processes.everybody(), f"trace-{next(_numbers)}", kind, about, **bounds)
