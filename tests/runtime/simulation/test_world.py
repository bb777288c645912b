"""Simulated processes, their clocks and ends; failures that end a run; the trace; disks; clients of RESP servers."""

import logging
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from pykka import ActorRegistry
from ringkeeper.runtime.actor import Actor, Ref
from ringkeeper.runtime.bridge import Bridge, BridgeConfig
from ringkeeper.runtime.message import message
from ringkeeper.runtime.resp import RespServer
from ringkeeper.runtime.simulation.disk import SimulatedDisk
from ringkeeper.runtime.simulation.process import SimulatedProcess
from ringkeeper.runtime.simulation.resp_caller import ErrorReply, NoReply, RespCaller
from ringkeeper.runtime.simulation.trace import Trace
from ringkeeper.runtime.simulation.world import SimulatedWorld, SimulationFailed
from ringkeeper.runtime.system import ESCALATE, RESTART


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Jotting:
    """Something to write down. The test -> Diary."""

    text: str
    number: int = 0


class Diary(Actor):
    """Writes down what it is told, and when by its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[float, Any]] = []
        self.broken = False

    def on_receive(self, message: Any) -> None:
        if message == "fail":
            raise RuntimeError("as asked")
        if message == "break":
            self.broken = True
        if isinstance(message, float):
            self.after(message, f"after {message:g}")
        self.notes.append((self.now(), message))

    def check(self) -> None:
        assert not self.broken


@pytest.fixture
def world() -> SimulatedWorld:
    return SimulatedWorld(seed=1)


def diary_in(process: SimulatedProcess) -> Any:
    process.system.spawn(Diary, name="diary", supervision=ESCALATE)
    return process.actor("diary")


def texts(diary: Any) -> list[Any]:
    return [what for _, what in diary.notes]


# Processes


def test_each_process_has_a_clock_of_its_own_that_may_be_wrong(world: SimulatedWorld) -> None:
    right, fast = world.start("right"), world.start("fast", clock_rate=1.1, wall_error_seconds=5.0)
    before = right.loop.time(), fast.loop.time()
    diary = diary_in(fast)
    diary.ref.tell(11.0)
    world.run(9.9)
    assert texts(diary) == [11.0]
    world.run(0.1)
    assert texts(diary) == [11.0, "after 11"]
    assert right.loop.time() - before[0] == pytest.approx(10.0)
    assert fast.loop.time() - before[1] == pytest.approx(11.0)
    assert abs(before[0] - before[1]) > 1.0, "no two clocks may be compared"
    assert fast.wall() - right.wall() == pytest.approx(5.0)


def test_a_clock_whose_rate_changes_goes_on_from_where_it_is(world: SimulatedWorld) -> None:
    process = world.start("a")
    before = process.loop.time()
    world.run(1.0)
    process.loop.rate = 2.0
    assert process.loop.time() - before == pytest.approx(1.0)
    world.run(1.0)
    assert process.loop.time() - before == pytest.approx(3.0)


def test_a_paused_process_does_nothing_and_then_all_that_is_due(world: SimulatedWorld) -> None:
    process = world.start("a")
    diary = diary_in(process)
    diary.ref.tell(1.0)
    world.run(0.1)
    process.pause()
    diary.ref.tell("late")
    world.run(10.0)
    assert texts(diary) == [1.0]
    process.resume()
    world.run(0.1)
    assert sorted(map(str, texts(diary))) == ["1.0", "after 1", "late"]
    assert diary.notes[-1][0] - diary.notes[0][0] == pytest.approx(10.1)


def test_nothing_of_a_killed_process_runs_any_more(world: SimulatedWorld) -> None:
    process = world.start("a")
    diary = diary_in(process)
    diary.ref.tell(1.0)
    world.run(0.1)
    diary.ref.tell("never read")
    process.kill()
    world.run(10.0)
    assert texts(diary) == [1.0] and not process.alive


def test_a_name_has_one_life_at_a_time(world: SimulatedWorld) -> None:
    first = world.start("a")
    with pytest.raises(ValueError, match="runs already"):
        world.start("a")
    first.kill()
    assert world.start("a").life == 2


def test_a_cancelled_timer_does_not_fire_even_if_it_is_due(world: SimulatedWorld) -> None:
    process = world.start("a")
    fired: list[str] = []
    second = process.loop.call_later(1.0, fired.append, "second")
    process.loop.call_later(0.5, fired.append, "first")
    process.pause()
    world.run(2.0)
    second.cancel()
    process.resume()
    world.run(1.0)
    assert fired == ["first"]


def test_pykkas_registry_does_not_know_simulated_actors(world: SimulatedWorld) -> None:
    before = len(ActorRegistry.get_all())
    diary = diary_in(world.start("a"))
    assert len(ActorRegistry.get_all()) == before
    diary.ref.stop(block=False)
    world.run(1.0)
    assert world.processes["a"].system.find("diary") is None


# Failures


def test_an_invariant_that_does_not_hold_ends_the_run_and_says_where(world: SimulatedWorld) -> None:
    diary = diary_in(world.start("a"))
    diary.ref.tell("break")
    with pytest.raises(SimulationFailed, match="diary of a does not hold its invariants after str(?s:.*)seed 1"):
        world.run(1.0)
    with pytest.raises(SimulationFailed):
        world.run(1.0)


def test_invariants_are_looked_at_only_if_wanted() -> None:
    world = SimulatedWorld(seed=1, check=False)
    diary_in(world.start("a")).ref.tell("break")
    world.run(1.0)


@pytest.mark.parametrize("supervision", [ESCALATE, RESTART])
def test_an_actor_that_fails_ends_the_run(world: SimulatedWorld, supervision: Any) -> None:
    world.start("a").system.spawn(Diary, name="diary", supervision=supervision).tell("fail")
    with pytest.raises(SimulationFailed, match="diary failed on fail: RuntimeError"):
        world.run(1.0)


def test_an_actor_that_fails_where_actors_may_fail_is_dealt_with_as_in_production(world: SimulatedWorld) -> None:
    world.actors_may_fail = True
    process = world.start("a")
    failed: list[str] = []
    process.on_failure = lambda actor, failure: failed.append(actor)
    diary_in(process).ref.tell("fail")
    world.run(1.0)
    assert failed == ["diary"] and any("diary failed for good" in line for line in world.trace.tail())


def test_an_exception_that_was_only_logged_ends_the_run(world: SimulatedWorld) -> None:
    def swallow() -> None:
        try:
            raise ValueError("swallowed")
        except ValueError:
            logging.getLogger("ringkeeper.somewhere").exception("something went wrong")

    world.start("a").loop.call_soon(swallow)
    with pytest.raises(SimulationFailed, match="something went wrong: ValueError"):
        world.run(1.0)


def test_the_log_is_told_with_moment_and_process() -> None:
    lines: list[str] = []
    world = SimulatedWorld(seed=1, log=lines.append)
    process = world.start("a")
    process.loop.call_later(1.5, logging.getLogger("ringkeeper.somewhere").warning, "look %s", "here")
    world.run(2.0)
    assert lines == ["1.500000 a WARNING look here"]
    assert not any(type(each).__name__ == "_Log" for each in logging.getLogger("ringkeeper").handlers)


def test_an_endless_turn_is_found(world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringkeeper.runtime.simulation.process.CALLBACKS_PER_TURN_MAX", 100)
    process = world.start("a")

    def again() -> None:
        process.loop.call_soon(again)

    again()
    with pytest.raises(RuntimeError, match="still not idle"):
        world.run(1.0)


def test_time_does_not_pass_inside_time(world: SimulatedWorld) -> None:
    world.loop.call_later(1.0, world.run, 1.0)
    with pytest.raises(RuntimeError, match="time passes already"):
        world.run(2.0)
    world.run(1.0)


# The trace


def test_the_trace_says_what_happened_and_nothing_that_differs_from_run_to_run() -> None:
    @dataclass(frozen=True)
    class Odd:
        text: str
        data: bytes
        many: tuple[int, ...]
        fraction: float
        thing: object
        ref: Ref
        nothing: None = None

    world = SimulatedWorld(seed=1)
    ref = diary_in(world.start("a")).ref
    trace = Trace()
    odd = Odd(text="t" * 40, data=b"\x00", many=(1, 2), fraction=1 / 3, thing=object(), ref=ref)
    trace.handled(1.5, "a", "diary", odd)
    trace.happened(2.0, "a", "killed")
    assert trace.tail() == [
        f"1.500000 a diary Odd text='{'t' * 32}'...40 data=b'\\x00' many[2] fraction=0.333333 thing:object ref=diary "
        "nothing=None",
        "2.000000 a killed",
    ]
    assert (trace.lines, trace.messages) == (2, 1)


def test_hashes_differ_when_one_line_does_and_do_not_depend_on_when_they_are_asked_for() -> None:
    def digest(*lines: str, ask: bool = False) -> str:
        trace = Trace()
        for line in lines:
            trace.happened(0.0, "*", line)
            if ask:
                trace.digest()
        return trace.digest()

    assert digest("a", "b") == digest("a", "b", ask=True) != digest("b", "a")


# Disks


def test_a_power_cut_takes_at_most_what_was_not_synced_and_a_kill_nothing() -> None:
    left = set()
    for seed in range(30):
        disk = SimulatedDisk(random.Random(seed))

        def write(key: bytes, disk: SimulatedDisk = disk) -> None:
            batch = disk.records.batch()
            batch.put(key, b"value")
            disk.records.write(batch)

        write(b"synced")
        disk.records.sync()
        write(b"first")
        write(b"second")
        disk.file("ring").write(b"whole")
        before = disk.copy()
        assert sorted(before.records) == [b"first", b"second", b"synced"]
        disk.lose_power()
        left.add(tuple(sorted(disk.copy().records)))
        assert disk.file("ring").read() == b"whole"
        disk.put_back(before)
        assert disk.copy() == before
        disk.wipe()
        assert disk.copy() == ({}, {}) and disk.file("ring").read() is None
    assert left == {(b"synced",), (b"first", b"synced"), (b"first", b"second", b"synced")}


def test_a_full_disk_takes_nothing() -> None:
    disk = SimulatedDisk(random.Random(0))
    file = disk.file("ring")
    disk.fill()
    with pytest.raises(OSError, match="No space"):
        file.write(b"x")
    disk.fill(False)
    file.write(b"x")


# Clients


class Echo(Actor):
    """Serves RESP: answers ECHO, fails on FAIL, says nothing to WAIT, closes on CLOSE."""

    def on_receive(self, message: Any) -> None:
        for connection, requests in getattr(message, "take", list)():
            for name, *args in requests:
                if name == b"WAIT" or connection.session == "waits":
                    connection.session = "waits"
                elif name == b"ECHO":
                    connection.write(b"$%d\r\n%b\r\n" % (len(args[0]), args[0]))
                elif name == b"FAIL":
                    connection.write(b"-ERR as asked\r\n")
                elif name == b"CLOSE":
                    connection.abort()


def test_a_caller_is_told_of_every_call_what_became_of_it(world: SimulatedWorld) -> None:
    server = world.start("server")
    echo = server.system.spawn(Echo, name="echo")
    RespServer(server.loop, server.network, "server", 1, echo)
    caller = RespCaller(world.start("client"))
    outcomes: list[Any] = []
    for words in (("ECHO", "a"), ("FAIL",), ("ECHO", "b")):
        caller.call("server:1", words, outcomes.append)
    world.run(1.0)
    assert outcomes[0::2] == [b"a", b"b"] and isinstance(outcomes[1], ErrorReply) and str(outcomes[1]) == "ERR as asked"

    outcomes.clear()
    caller.call("server:1", ("WAIT",), outcomes.append, seconds_max=2.0)
    caller.call("server:1", ("ECHO", "behind"), outcomes.append, seconds_max=60.0)
    world.run(3.0)
    assert outcomes == [NoReply("no reply within 2 s", sent=True)] * 2, "what comes behind cannot be told apart"

    outcomes.clear()
    caller.call("server:1", ("CLOSE",), outcomes.append)
    world.run(1.0)
    assert [outcome.sent for outcome in outcomes] == [True]

    outcomes.clear()
    caller.call("server:2", ("ECHO", "nobody"), outcomes.append)
    world.run(3.0)
    assert outcomes == [NoReply("Connection refused", sent=False)]


# The real bridge


def joined(seed: int) -> tuple[SimulatedWorld, list[Any], list[Bridge]]:
    """A world of three processes on a bridge each, with a diary each."""
    world = SimulatedWorld(seed)
    diaries, bridges = [], []
    for number in range(3):
        process = world.start(f"p{number}")
        config = BridgeConfig(cluster="test", node=process.name, host="127.0.0.1", port=1000 + number)
        bridges.append(Bridge(process.system, process.network, config, entropy=process.entropy))
        diaries.append(diary_in(process))
    return world, diaries, bridges


def run_of_bridges(seed: int) -> str:
    """What is told over the bridge arrives in order and at most once, whatever befalls the network; the run's hash."""
    world, diaries, bridges = joined(seed)
    dice = random.Random(seed)
    told: dict[tuple[int, int], list[int]] = {}
    for number in range(400):
        sender, to = dice.sample(range(3), 2)
        ref = bridges[sender].ref(f"ringkeeper://{bridges[to].address}/diary")
        ref.tell(Jotting(text=f"{sender} to {to}", number=number))
        told.setdefault((sender, to), []).append(number)
        world.run(dice.choice([0.0, 0.001, 0.1]))
        one, other = dice.sample(["p0", "p1", "p2"], 2)
        match dice.randrange(40):
            case 0:
                world.network.cut(one, other)
            case 1:
                world.network.mend()
            case 2:
                world.network.reset(one, other)
            case 3:
                world.processes[one].pause()
            case 4:
                world.processes[one].resume()
            case 5:
                world.network.delay(one, other, dice.choice([0.0, 0.05]))
            case 6:
                world.run(dice.uniform(0.0, 10.0))
    world.network.mend()
    for process in world.processes.values():
        process.resume()
    world.run(20.0)
    for (sender, to), numbers in told.items():
        arrived = [note.number for note in texts(diaries[to]) if note.text == f"{sender} to {to}"]
        assert arrived == [number for number in numbers if number in set(arrived)], "out of order, or twice"
        bridges[sender].ref(f"ringkeeper://{bridges[to].address}/diary").tell(Jotting(text="after all"))
    world.run(5.0)
    assert [texts(diary).count(Jotting(text="after all")) for diary in diaries] == [2, 2, 2]
    return world.trace.digest()


def test_the_real_bridge_keeps_its_promises_on_the_simulated_network() -> None:
    for seed in range(15):
        run_of_bridges(seed)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_run_is_replayed_exactly_in_another_process(hash_seed: str) -> None:
    program = f"from {__name__} import run_of_bridges; print(run_of_bridges(7))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.split() == [run_of_bridges(7)] != [run_of_bridges(8)]
