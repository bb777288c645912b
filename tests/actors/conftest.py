"""What the tests of both clients share."""

from collections.abc import Iterator

import pytest
from ringkeeper.tests.actors.fake_cluster import FakeCluster, open_sockets


@pytest.fixture
def no_socket_is_left_open() -> Iterator[None]:
    sockets = open_sockets()
    yield
    assert open_sockets() == sockets


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster
