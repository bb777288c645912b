"""The network of a stage of real processes: what is cut is lost without a sound, in one direction if so wished."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

import pytest
from ringkeeper.scenarios import own_network
from ringkeeper.scenarios.own_network import ADDRESSES, ROUTER, NoOwnNetwork, OwnNetwork

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

HERE, THERE = (ROUTER, 7000), (ADDRESSES[0], 7000)
COMES_SECONDS_MAX, LOST_SECONDS = 20.0, 0.1
"""So long an answer may take; and so long one is waited for that was sent and must not come, no further than from one
namespace of this machine to the next."""
ECHO = (
    "import socket\n"
    "heard = socket.socket(type=socket.SOCK_DGRAM)\n"
    f"heard.bind({THERE})\n"
    "print('bound', flush=True)\n"
    "while True:\n"
    "    datagram, sender = heard.recvfrom(100)\n"
    "    heard.sendto(datagram, sender)\n"
    "    print(datagram.decode(), flush=True)\n"
)


@pytest.fixture
def network() -> Iterator[OwnNetwork]:
    try:
        network = OwnNetwork()
    except NoOwnNetwork as reason:
        pytest.skip(str(reason))
    yield network
    network.close()


@pytest.fixture
def there(network: OwnNetwork) -> Iterator[IO[str]]:
    """What a process at another address has heard, and sent back."""
    command = [*network.enter(THERE[0]), sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "bound\n"
        yield process.stdout
        process.kill()


def test_what_is_cut_is_lost_without_a_sound_until_the_network_is_whole(network: OwnNetwork, there: IO[str]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as here:
        here.bind(HERE)

        def comes_back(text: str, seconds_max: float = COMES_SECONDS_MAX) -> bool:
            here.settimeout(seconds_max)
            try:
                return here.recv(100) == text.encode()
            except TimeoutError:
                return False

        here.sendto(b"whole", THERE)
        assert comes_back("whole") and there.readline() == "whole\n"
        network.cut(source=THERE[0], target=HERE[0])
        here.sendto(b"answer lost", THERE)
        assert there.readline() == "answer lost\n" and not comes_back("answer lost", LOST_SECONDS)
        network.heal()
        network.cut(source=HERE[0], target=THERE[0])
        with suppress(OSError):  # a datagram of the router's own is refused, as a stream's are not
            here.sendto(b"question lost", THERE)
        assert not comes_back("question lost", LOST_SECONDS)
        network.heal()
        network.cut(source=HERE[0], target=THERE[0], ports="ipproto udp dport 7001")
        here.sendto(b"to another port", THERE)
        assert comes_back("to another port") and there.readline() == "to another port\n"


def test_it_is_left_and_a_machine_that_does_not_allow_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = os.readlink(own_network.HERE)
    try:
        network = OwnNetwork()
    except NoOwnNetwork:
        assert os.readlink(own_network.HERE) == outside
    else:
        assert os.readlink(own_network.HERE) != outside
        network.close()
        assert os.readlink(own_network.HERE) == outside
    monkeypatch.setitem(own_network.SETTINGS, "no such setting", "1")
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(NoOwnNetwork):
        OwnNetwork()
    assert os.readlink(own_network.HERE) == outside and os.listdir("/proc/self/fd") == descriptors
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoOwnNetwork, match="the program ip is not here"):
        OwnNetwork()
