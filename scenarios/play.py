"""Plays a scenario on a stage and says whether all was as it must be.

A scenario is a Python file with three functions, which read like a story:

    def setup(stage): ...     a cluster is started and filled
    def story(stage): ...     what befalls it
    def check(stage): ...     what this story expects besides what always holds

After the story the stage is calmed, and then every check of `checks.py` looks at the history and at what the nodes
hold, and ``check`` at whatever it likes. A run is *good* if no check found anything and nothing else went wrong.
"""

import gc
import importlib
import importlib.util
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from ..runtime.simulation.world import SimulationFailed
from .checks import Violation, every_check
from .history import History
from .simulated_stage import SimulatedStage
from .stage import Moment, NotPossibleHere, Stage

PARTS = ("setup", "story", "check")

WORLDS_KEPT_MAX = 4
"""So many worlds whose stories are over may wait for a collection of all garbage."""


class NotAScenario(Exception):
    """Raised for a file that is no scenario; the text says why not."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is played."""

    name: str
    setup: Callable[[Stage], object]
    story: Callable[[Stage], object]
    check: Callable[[Stage], object]
    about: str = ""
    """What it is about, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one run."""

    scenario: str
    seed: int | str
    violations: tuple[Violation, ...] = ()
    failure: str = ""
    """What broke the run off; "" if nothing did."""
    kind: str = ""
    """By what it failed, in few words that are the same for similar failures."""
    skipped: str = ""
    """Why this world cannot play it."""
    trace: str = ""
    """The hash of a simulated run."""
    messages: int = 0
    operations: int = 0
    seconds: float = 0.0
    """How long it took in the time of its world."""
    wall_seconds: float = 0.0
    timeline: tuple[Moment, ...] = ()
    history: History | None = field(default=None, repr=False, compare=False)
    """What the clients did; None: it was not brought along from another process."""

    @property
    def good(self) -> bool:
        return not (self.violations or self.failure or self.skipped)


def load_scenario(path: Path) -> Scenario:
    """The scenario of a file. Raises NotAScenario."""
    path = path.resolve()
    if not path.is_file():
        raise NotAScenario(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    try:
        module = _imported(path)
    except NotAScenario:
        raise
    except Exception as error:
        raise NotAScenario(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    missing = [part for part in PARTS if not callable(getattr(module, part, None))]
    if missing:
        raise NotAScenario(
            f"{path} is no scenario: it has no {' and no '.join(f'{part}(stage)' for part in missing)}. A scenario has "
            "setup(stage), story(stage) and check(stage)"
        )
    return Scenario(path.stem, module.setup, module.story, module.check, (module.__doc__ or "").strip())


def _imported(path: Path) -> ModuleType:
    """A file of this package is imported by its name, so that it may import from its neighbours; others by path."""
    here = Path(__file__).resolve().parent
    if path.parent == here:
        return importlib.import_module(f"{__package__}.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"ringkeeper_scenario_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NotAScenario(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _kind_of(error: Exception) -> str:
    """What similar failures have in common: of a broken invariant its words without numbers and names of nodes."""
    name = type(error).__name__
    if not isinstance(error, SimulationFailed):
        return name
    return f"{name}: {re.sub(r'[0-9.:]+', '#', str(error).partition(chr(10))[0])}"


def play(scenario: Scenario, stage: Stage) -> Played:
    """Play a scenario to its end, whatever happens. The stage is closed afterwards."""
    began = time.perf_counter()
    violations: list[Violation] = []
    failure = kind = skipped = ""
    with _without_collections(stage), stage:
        try:
            scenario.setup(stage)
            scenario.story(stage)
            stage.calm()
            violations = every_check(stage.history, stage.state(), tenures=stage.tenures, power_cuts=stage.power_cuts)
            scenario.check(stage)
        except NotPossibleHere as reason:
            skipped = str(reason)
        except Exception as error:
            kind, failure = _kind_of(error), f"{type(error).__name__}: {error}"
        violations += stage.unmet
        simulated = stage if isinstance(stage, SimulatedStage) and stage.started else None
        return Played(
            scenario=scenario.name,
            seed=stage.seed,
            violations=tuple(violations),
            failure=failure,
            kind=violations[0].check if violations else kind,
            skipped=skipped,
            trace=simulated.trace if simulated is not None else "",
            messages=simulated.messages if simulated is not None else 0,
            operations=len(stage.history),
            seconds=stage.now(),
            wall_seconds=time.perf_counter() - began,
            timeline=tuple(stage.timeline),
            history=stage.history,
        )


@contextmanager
def _without_collections(stage: Stage) -> Iterator[None]:
    """In a simulated story cyclic garbage waits: looking for it, again and again in a world that is still needed, took
    a fifth of the time. On real processes nothing is changed."""
    changes = isinstance(stage, SimulatedStage) and gc.isenabled()
    if changes:
        gc.collect(2 if gc.get_count()[2] >= WORLDS_KEPT_MAX else 1)  # all garbage takes longer where much else lives
        gc.disable()
    try:
        yield
    finally:
        if changes:
            gc.enable()
