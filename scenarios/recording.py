"""Records a run while it is played, so that a report can be written of it.

    stage = RecordedSimulatedStage(seed)            or RecordedRealStage(seed)
    played = play(scenario, stage)
    write_report(path, record_of(played, stage, about=scenario.about))

A recorded stage remembers every ring that is seen on it. In the simulation it also listens to what processes say to
each other, and looks for a new ring whenever something is said to ZooKeeper or by it. So it needs no timers of its own,
and the run is the same with it and without.
"""

from typing import Any

from ..actors.rules import paths
from ..actors.rules.life import Stamp
from ..actors.rules.placement import Place
from ..actors.rules.ring import Ring
from ..runtime.simulation.wiretap import Heard, Wiretap
from .history import History
from .play import Played
from .real_stage import RealStage
from .report import RunRecord
from .simulated_stage import SimulatedStage
from .stage import Stage

RINGS_MAX = 1000
"""So many rings are remembered; later ones are not."""


class RecordedStage(Stage):
    """To be put before the stage of a world, which does the work."""

    world = "on real processes"
    wiretap: Wiretap | None = None
    """Hears the messages between processes, where that can be."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._rings: dict[Stamp, tuple[float, Ring]] = {}

    @property
    def rings(self) -> tuple[tuple[float, Ring], ...]:
        """Every ring with the moment in which it was first seen."""
        return tuple(self._rings.values())

    def ring(self) -> Ring | None:
        ring = super().ring()  # type: ignore[safe-super]  # that of the world's stage
        if ring is not None:
            self._remember(ring)
        return ring

    def _remember(self, ring: Ring) -> None:
        if ring.stamp not in self._rings and len(self._rings) < RINGS_MAX:
            self._rings[ring.stamp] = self.now(), ring


class RecordedRealStage(RecordedStage, RealStage):
    """Processes of this machine; rings are remembered when the story or the stage itself looks at them."""


class RecordedSimulatedStage(RecordedStage, SimulatedStage):
    """A simulated stage that is recorded."""

    world = "in the simulation"

    _ring_seen = b""

    def _start(
        self, nodes: int, ecs: int, fsync: str, replicas: int, min_copies: int, out_after: float, place: Place
    ) -> None:
        super()._start(nodes, ecs, fsync, replicas, min_copies, out_after, place)
        self.wiretap = Wiretap(self.cluster.world, on_sent=self._said)

    def _said(self, heard: Heard) -> None:
        """Look at the ring as the servers have it now; ``ring()`` would make them catch up, and so change the run."""
        if heard.said.speech != "zookeeper":
            return
        path = paths.ring(self.cluster.name)
        for server in self.cluster.zookeeper.servers.values():
            node = server.keeper.tree.nodes.get(path)
            if node is not None and node.data and node.data != self._ring_seen:
                self._ring_seen = node.data
                self._remember(Ring.from_json(node.data))


def record_of(played: Played, stage: RecordedStage, *, about: str = "", again: str = "") -> RunRecord:
    """All that a report tells of a run that was played on a stage. ``again``: the command that plays it again."""
    wiretap = stage.wiretap
    return RunRecord(
        title=played.scenario,
        about=about,
        seed=played.seed,
        world=stage.world,
        seconds=played.seconds,
        wall_seconds=played.wall_seconds if wiretap is not None else 0.0,
        again=again,
        trace=played.trace,
        timeline=played.timeline,
        history=played.history if played.history is not None else History(),
        rings=stage.rings,
        messages=tuple(wiretap.heard) if wiretap is not None else (),
        messages_missing="Messages between processes are recorded in the simulation only.",
        messages_forgotten=wiretap.forgotten if wiretap is not None else 0,
        events=tuple(wiretap.events) if wiretap is not None else (),
        violations=played.violations,
        failure=played.failure,
        skipped=played.skipped,
    )
