"""Who listens where on this machine."""

import os
import socket

import pytest
from ringkeeper.runtime.hosts import listening_process
from ringkeeper.runtime.process import free_port


@pytest.mark.parametrize(("bound", "asked"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_a_listener_is_found_by_its_address(bound: str, asked: str) -> None:
    try:
        listener = socket.create_server((bound, 0), family=socket.AF_INET6 if ":" in bound else socket.AF_INET)
    except OSError:
        pytest.skip(f"this machine has no {bound}")
    with listener:
        assert listening_process(f"{asked}:{listener.getsockname()[1]}") == os.getpid()


def test_where_nobody_listens_there_is_no_process() -> None:
    assert listening_process(f"127.0.0.1:{free_port()}") is None
    assert listening_process("no-such-host.invalid:80") is None
