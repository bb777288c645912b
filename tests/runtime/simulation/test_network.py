"""The simulated network behaves as TCP does, and does what is asked of it."""

import random
from collections.abc import Callable

import pytest
import uvloop
from ringkeeper.runtime.network import TcpNetwork
from ringkeeper.runtime.simulation.network import WINDOW_BYTES
from ringkeeper.runtime.simulation.process import SimulatedProcess
from ringkeeper.runtime.simulation.world import SimulatedWorld
from ringkeeper.tests.runtime.simulation.ends import Recorder

PORT = 100


class Net:
    """Two processes, "a" listening, and connections of "b" to it."""

    def __init__(self, seed: int = 0) -> None:
        self.world = SimulatedWorld(seed)
        self.a, self.b = self.world.start("a"), self.world.start("b")
        self.accepted: list[Recorder] = []
        self.listen()

    def listen(self, keeps_open: bool = False) -> None:
        def accept() -> Recorder:
            self.accepted.append(Recorder(keeps_open=keeps_open))
            return self.accepted[-1]

        self.listener = self.a.network.listen("a", PORT, accept)

    def dial(self, timeout_seconds: float = 5.0) -> Recorder:
        end = Recorder()
        self.b.network.connect("a", PORT, lambda: end, end.failed, timeout_seconds)
        return end

    def connect(self) -> tuple[Recorder, Recorder]:
        """Both ends of a new connection: that of "a", that of "b"."""
        end = self.dial()
        self.world.run(1)
        return self.accepted[-1], end

    def run(self, seconds: float = 1.0) -> None:
        self.world.run(seconds)

    def restart(self) -> None:
        self.a = self.world.start("a")
        self.listen()


@pytest.fixture
def net() -> Net:
    return Net()


# As TCP


Step = Callable[[Recorder, Recorder], object]

STORIES: dict[str, tuple[Step, ...]] = {
    "both speak, then one closes": (
        lambda a, b: (a.transport.write(b"from a"), b.transport.write(b"from b")),
        lambda a, b: b.transport.close(),
    ),
    "what was written before closing arrives": (
        lambda a, b: (b.transport.write(b"x" * 100_000), b.transport.close()),
    ),
    "one gives up": (lambda a, b: a.transport.abort(),),
    "one closes with something unread": (
        lambda a, b: a.transport.pause_reading(),
        lambda a, b: b.transport.write(b"unread"),
        lambda a, b: a.transport.close(),
    ),
    "both close at once": (lambda a, b: (a.transport.close(), b.transport.close()),),
    "who writes to one that does not read is asked to pause": (
        lambda a, b: (a.transport.pause_reading(), b.transport.set_write_buffer_limits(high=1000)),
        lambda a, b: b.transport.write(b"x" * 8_000_000),
        lambda a, b: a.transport.resume_reading(),
        lambda a, b: b.transport.close(),
    ),
    "writing to one that is closing means nothing": (
        lambda a, b: (b.transport.close(), b.transport.write(b"too late")),
    ),
}  # fmt: skip


def told_on_a_simulated_network(story: tuple[Step, ...]) -> list[tuple[list[str], int]]:
    net = Net()
    a, b = net.connect()
    for step in story:
        step(a, b)
        net.run()
    return [(a.events, len(a.data)), (b.events, len(b.data))]


def told_on_a_real_network(story: tuple[Step, ...], expected: list[tuple[list[str], int]]) -> object:
    """What is told in the end; that is once it is what is expected, or after a while."""
    loop = uvloop.new_event_loop()
    network = TcpNetwork(loop)
    a, b = Recorder(), Recorder()
    listener = network.listen("127.0.0.1", 0, lambda: a)
    network.connect("127.0.0.1", listener.port, lambda: b, b.failed)
    steps = iter([lambda a, b: None, *story])
    deadline = loop.time() + 10
    told: list[tuple[list[str], int]] = []

    def look(before: tuple[object, int]) -> None:
        """Take the next step when nothing has changed for a moment."""
        nonlocal told
        told = [(a.events, len(a.data)), (b.events, len(b.data))]
        now = (repr(told), before[1] + 1 if repr(told) == before[0] else 0)
        if told == expected and next(steps, None) is None or loop.time() > deadline:
            loop.stop()
        elif a.transport is not None and b.transport is not None and now[1] > 5:
            step = next(steps, None)
            if step is not None:
                step(a, b)
            loop.call_later(0.002, look, (now[0], 0))
        else:
            loop.call_later(0.002, look, now)

    loop.call_soon(look, ("", 0))
    loop.run_forever()
    listener.close()
    network.close()
    for end in (a, b):
        if end.transport is not None:
            end.transport.abort()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.close()
    return told


@pytest.mark.parametrize("name", STORIES)
def test_protocols_are_told_the_same_as_on_a_real_network(name: str) -> None:
    expected = told_on_a_simulated_network(STORIES[name])
    assert told_on_a_real_network(STORIES[name], expected) == expected


def test_nobody_listens(net: Net) -> None:
    net.listener.close()
    end = net.dial()
    net.run()
    assert end.events == ["failed ConnectionRefusedError"]


def test_a_port_is_bound_once(net: Net) -> None:
    with pytest.raises(OSError, match="in use"):
        net.listen()
    net.listener.close()
    net.listen()


def test_bytes_arrive_in_order_however_they_are_torn_and_joined(net: Net) -> None:
    a, b = net.connect()
    sent = b""
    dice = random.Random(1)
    for _ in range(300):
        piece = dice.randbytes(dice.randint(1, 3000))
        sent += piece
        b.transport.write(piece)
        if dice.random() < 0.3:
            net.run(0.001)
    net.run()
    assert a.data == sent
    assert 1 < a.reads != 300


def test_a_reader_that_stands_still_stops_the_writer(net: Net) -> None:
    a, b = net.connect()
    net.a.pause()
    for _ in range(100):
        b.transport.write(b"x" * 10_000)
    net.run()
    assert b.events == ["made", "paused"] and b.transport.get_write_buffer_size() == 1_000_000 - WINDOW_BYTES
    net.a.resume()
    net.run()
    assert b.events == ["made", "paused", "resumed"] and len(a.data) == 1_000_000


# Faults


def test_a_cut_connection_goes_on_after_the_cut_and_nothing_is_lost(net: Net) -> None:
    a, b = net.connect()
    net.world.network.cut("b", "a")
    b.transport.write(b"held up")
    a.transport.write(b"not held up")
    net.run(20)
    assert a.data == b"" and b.data == b"not held up"
    net.world.network.mend()
    b.transport.write(b", not lost")
    net.run(20)
    assert a.data == b"held up, not lost"
    assert not a.over and not b.over


def test_word_of_what_was_read_does_not_get_through_a_cut(net: Net) -> None:
    a, b = net.connect()
    net.world.network.cut("a", "b")
    b.transport.write(b"x" * (2 * WINDOW_BYTES))
    net.run(20)
    assert len(a.data) == WINDOW_BYTES
    net.world.network.mend("a", "b")
    net.run(20)
    assert len(a.data) == 2 * WINDOW_BYTES


def test_who_gave_a_connection_up_during_a_cut_resets_it_afterwards(net: Net) -> None:
    a, b = net.connect()
    net.world.network.cut("a", "b")
    net.world.network.cut("b", "a")
    a.transport.abort()
    b.transport.write(b"too late")
    net.run(20)
    assert a.events == ["made", "lost"] and b.events == ["made"]
    net.world.network.mend()
    net.run(20)
    assert a.data == b"" and b.over


@pytest.mark.parametrize("direction", [("a", "b"), ("b", "a")])
def test_a_dial_across_a_cut_takes_its_time_and_fails(net: Net, direction: tuple[str, str]) -> None:
    net.world.network.cut(*direction)
    end = net.dial(timeout_seconds=3.0)
    net.run(2.9)
    assert end.events == []
    net.run(0.2)
    assert end.events == ["failed TimeoutError"] and net.accepted == []


def test_a_dial_that_is_repeated_after_the_cut_has_healed_succeeds(net: Net) -> None:
    net.world.network.cut("b", "a")
    end = net.dial(timeout_seconds=10.0)
    net.run(2)
    net.world.network.mend()
    net.run(8)
    assert end.events == ["made"]


def test_a_delay_holds_for_one_direction(net: Net) -> None:
    a, b = net.connect()
    net.world.network.delay("b", "a", 0.5)
    b.transport.write(b"slowly")
    a.transport.write(b"fast")
    net.run(0.1)
    assert (a.data, b.data) == (b"", b"fast")
    net.run(0.5)
    assert a.data == b"slowly"


def test_a_connection_that_the_network_resets_is_lost_at_both_ends(net: Net) -> None:
    a, b = net.connect()
    assert net.world.network.reset("a", "b") == 1
    net.run()
    assert a.events == b.events == ["made", "lost ConnectionResetError"]


def test_a_dial_is_answered_once_also_if_it_is_reset_on_the_way() -> None:
    for seed in range(50):
        net = Net(seed)
        end = net.dial()
        dice = random.Random(seed)
        net.run(dice.uniform(0.0, 0.001))
        net.world.network.reset("a", "b")
        net.run()
        assert [event.split()[0] for event in end.events] in (["made"], ["made", "lost"], ["failed"])


# Processes


def test_a_process_that_is_killed_ends_its_connections(net: Net) -> None:
    a, b = net.connect()
    a.transport.write(b"last words")
    net.a.kill()
    net.run()
    assert b.data == b"last words" and b.events == ["made", "data", "end", "lost"]
    assert a.events == ["made"], "the dead are told nothing"
    end = net.dial()
    net.run()
    assert end.events == ["failed ConnectionRefusedError"]


def test_a_machine_without_power_says_nothing_until_it_is_up_again(net: Net) -> None:
    a, b = net.connect()
    net.a.kill(silent=True)
    b.transport.write(b"hello?")
    end = net.dial(timeout_seconds=3.0)
    net.run(30)
    assert b.events == ["made"] and end.events == ["failed TimeoutError"]
    net.restart()
    net.run(1)
    assert b.events == ["made", "lost ConnectionResetError"]


def test_a_quiet_connection_to_a_machine_that_was_without_power_is_reset_when_it_is_used(net: Net) -> None:
    a, b = net.connect()
    net.a.kill(silent=True)
    net.run(30)
    net.restart()
    net.run(30)
    assert b.events == ["made"]
    b.transport.write(b"still there?")
    net.run(1)
    assert b.events == ["made", "lost ConnectionResetError"]


def test_a_process_that_is_paused_is_connected_to_by_its_kernel(net: Net) -> None:
    net.a.pause()
    end = net.dial()
    net.run()
    end.transport.write(b"are you there?")
    net.run()
    assert end.events == ["made"] and net.accepted == []
    net.a.resume()
    net.run()
    assert net.accepted[0].data == b"are you there?"


def test_what_arrives_while_a_process_is_busy_is_read_together(net: Net) -> None:
    a, b = net.connect()
    net.a.loop.turn_seconds = 0.5
    for _ in range(100):
        b.transport.write(b"x")
        net.run(0.01)
    net.run()
    assert a.data == b"x" * 100 and a.reads <= 5


def test_connections_that_are_over_leave_nothing_behind() -> None:
    for seed in range(20):
        net = Net(seed)
        dice = random.Random(seed)
        for _ in range(10):
            a, b = net.connect()
            a.transport.write(b"x" * dice.randint(0, 1000))
            net.run(dice.choice([0.0, 0.0002, 1.0]))
            end: Recorder = dice.choice([a, b])
            (end.transport.close if dice.random() < 0.5 else end.transport.abort)()
            net.run(dice.choice([0.0, 0.0002, 1.0]))
        processes: list[SimulatedProcess] = [net.a, net.b]
        dice.choice(processes).kill()
        net.run()
        assert not net.world.network.ends
