"""Plays a scenario with many seeds, on all cores, one process each.

The workers are started afresh (spawn): what a run is depends on nothing that this process has done before. A few seeds
are given out ahead, so that no worker waits, and few are played in vain when one fails.
"""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from .play import Played, load_scenario, play
from .random_story import as_scenario, draw
from .simulated_stage import SimulatedStage

AHEAD_PER_WORKER = 1
"""So many tasks of one worker are given out before their turn."""

T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """What many runs were, together."""

    runs: int = 0
    operations: int = 0
    messages: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def add(self, played: Played) -> None:
        self.runs += 1
        self.operations += played.operations
        self.messages += played.messages
        self.seconds += played.seconds

    def __str__(self) -> str:
        wall = max(time.monotonic() - self.began, 1e-6)
        return (
            f"{self.runs} runs, {self.operations} operations, {self.messages} messages, {self.seconds:.0f} s of "
            f"virtual time in {wall:.0f} s"
        )


def play_seeds(path: Path, seeds: Iterable[int], *, check: bool, workers: int) -> Iterator[Played]:
    """What came of each seed, in the order in which they end."""
    return in_workers(partial(play_seed, path, check=check), seeds, workers=workers)


def play_random_seeds(seeds: Iterable[int], *, check: bool, workers: int, seconds_max: float) -> Iterator[Played]:
    """What came of the random story of each seed, in the order in which they end; none begins after ``seconds_max``."""
    return in_workers(partial(play_random_seed, check=check), seeds, workers=workers, seconds_max=seconds_max)


def play_random_seed(seed: int, *, check: bool) -> Played:
    """Play the random story of a seed, in the simulation."""
    return replace(play(as_scenario(draw(seed)), SimulatedStage(seed, check=check)), history=None)


def play_seed(path: Path, seed: int, *, check: bool) -> Played:
    """Play the scenario of a file once, in the simulation."""
    return replace(play(load_scenario(path), SimulatedStage(seed, check=check)), history=None)


def in_workers(
    work: Callable[[int], T], items: Iterable[int], *, workers: int, seconds_max: float = math.inf
) -> Iterator[T]:
    """The results of ``work`` on each item, as they come. After ``seconds_max`` no more are begun.

    When the caller takes no more of them, what is under way ends, and nothing else is begun.
    """
    deadline = time.monotonic() + seconds_max
    left = iter(items)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_work)
    running: set[Future[T]] = set()
    try:
        while True:
            if time.monotonic() < deadline:
                free = workers * (1 + AHEAD_PER_WORKER) - len(running)
                running |= {pool.submit(work, item) for item in islice(left, free)}
            else:
                running = {future for future in running if not future.cancel()}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=id):
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_work() -> None:
    """In each worker: a Ctrl-C is for the parent, which then ends the workers; one that is killed cannot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="waits for the parent's end", daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)
