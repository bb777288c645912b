"""Worlds of bridges in memory and virtual time."""

from collections.abc import Iterator

import pytest
from ringkeeper.tests.runtime.pipes import MakeWorld, World


@pytest.fixture
def make_world() -> Iterator[MakeWorld]:
    """Makes worlds of a seed; all are closed at the end."""
    worlds: list[World] = []

    def make(seed: int = 0) -> World:
        worlds.append(World(seed))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(0)
