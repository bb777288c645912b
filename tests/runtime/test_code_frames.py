"""Code between processes: who takes it and who refuses it, spawning, proxies, probes, and what goes wrong there."""

import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError
from ringkeeper.runtime import wire
from ringkeeper.runtime.actor import Actor, Ref
from ringkeeper.runtime.bridge import BridgeConfig
from ringkeeper.runtime.code_frames import register
from ringkeeper.runtime.message import MESSAGES, message
from ringkeeper.runtime.remote import CodeRefused, RemoteError
from ringkeeper.runtime.running import running_system
from ringkeeper.runtime.system import STOP, ActorSystem
from ringkeeper.runtime.wire import WireError, pack
from ringkeeper.tests.runtime.pipes import World

SECRET = b"what all of them know"


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """A number for the sum. Test -> Adder."""

    n: int


class Clerk:
    """Something inside an actor that a proxy may walk through."""

    pykka_traversable = True

    def __init__(self) -> None:
        self.name = "eve"

    def greets(self, whom: str) -> str:
        return f"{self.name} greets {whom}"


class Adder(Actor):
    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.sum = start
        self.clerk = Clerk()

    def on_receive(self, message: Add) -> Any:
        self.sum += message.n
        if message.n == 13:
            raise UnluckyError(message.n)
        return self.sum

    def plus(self, n: int, *, times: int = 1) -> int:
        self.sum += n * times
        return self.sum

    def fails(self) -> None:
        raise UnluckyError(7)

    def me(self) -> Ref:
        return self.ref

    def unpicklable(self) -> Any:
        return (each for each in [1])


class UnluckyError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(f"{number} brings bad luck")
        self.number = number


@pytest.fixture
def pair() -> Iterator[tuple[ActorSystem, ActorSystem]]:
    """Two systems that allow code, on threads of their own."""
    with ExitStack() as stack:
        ann, bob = (BridgeConfig(cluster="test", node=node, secret=SECRET, allow_code=True) for node in ("ann", "bob"))
        yield stack.enter_context(running_system(ann)), stack.enter_context(running_system(bob))


def test_an_actor_is_spawned_in_another_process_and_supervised_there(pair: tuple[ActorSystem, ActorSystem]) -> None:
    ann, bob = pair
    there = ann.bridge.at(bob.bridge.address)
    adder = there.spawn(Adder, 40, name="adder", supervision=STOP)
    assert adder.address == f"ringkeeper://{bob.bridge.address}/adder"
    assert adder.ask(Add(n=2), timeout=10) == 42
    assert there.beside("adder", lambda actor: actor.sum + 1) == 43
    with pytest.raises(ValueError, match="an actor called adder is already here") as refused:
        there.spawn(Adder, name="adder")
    assert bob.bridge.address in refused.value.__notes__[0]
    with pytest.raises(TypeError, match="is no actor"):
        there.spawn(Clerk, name="clerk")
    with pytest.raises(ActorDeadError, match="no actor called nobody"):
        there.beside("nobody", repr)
    adder.tell(Add(n=13))  # it fails, and is not restarted
    with pytest.raises(ActorDeadError):
        for _ in range(1000):
            adder.ask(Add(n=1), timeout=10)


def test_messages_that_come_with_an_actor_take_the_place_of_those_of_an_earlier_run_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(MESSAGES, "Weigh", int)
    del MESSAGES["Weigh"]
    runs: list[type] = [dataclass(frozen=True)(type("Weigh", (), {"__module__": "__main__"})) for _ in range(2)]
    forgotten: list[str] = []
    for run in runs:
        for _ in range(2):
            register([(run, False)], forgotten.append)
            assert MESSAGES["Weigh"] is run
    assert forgotten == ["Weigh", "Weigh"]
    with pytest.raises(TypeError, match="this process has a message called Add itself"):
        register([(type("Add", (), {"__module__": "__main__"}), False)], forgotten.append)
    assert MESSAGES["Add"] is Add


def test_a_proxy_reaches_attributes_and_methods_in_another_process(pair: tuple[ActorSystem, ActorSystem]) -> None:
    ann, bob = pair
    adder = ann.bridge.at(bob.bridge.address).spawn(Adder, name="adder")
    proxy = adder.proxy()
    assert proxy.plus(3, times=2).get(timeout=10) == 6
    assert proxy.sum.get(timeout=10) == 6
    proxy.sum = 10
    proxy.plus.defer(1)
    assert proxy.sum.get(timeout=10) == 11
    assert proxy.clerk.greets("bob").get(timeout=10) == "eve greets bob"
    proxy.clerk.name = "zoe"
    assert proxy.clerk.name.get(timeout=10) == "zoe"
    assert proxy.me().get(timeout=10) == adder  # refs travel
    with pytest.raises(AttributeError, match="has no attribute nothing"):
        proxy.nothing  # noqa: B018
    with pytest.raises(UnluckyError, match="7 brings") as raised:
        proxy.fails().get(timeout=10)
    assert raised.value.number == 7
    assert "in fails" in raised.value.__notes__[0]
    with pytest.raises(WireError, match="a generator cannot travel"):
        proxy.unpicklable().get(timeout=10)


def test_what_an_asked_actor_raises_keeps_its_type_where_code_is_allowed(
    pair: tuple[ActorSystem, ActorSystem],
) -> None:
    ann, bob = pair
    bob.spawn(Adder, name="adder")
    with pytest.raises(UnluckyError) as raised:
        ann.resolve(f"ringkeeper://{bob.bridge.address}/adder").ask(Add(n=13), timeout=10)
    assert raised.value.number == 13
    assert "in on_receive" in raised.value.__notes__[0]


def test_a_process_without_allow_code_neither_takes_nor_sends_it(world: World) -> None:
    ann, bob = world.home(7001, secret=SECRET, allow_code=True), world.home(7002, secret=SECRET)
    bob.system.spawn(Adder, name="adder")
    taken = ann.bridge.at("127.0.0.1:7002").spawn(Adder, name="new", block=False)
    called = ann.far(bob, "adder").ask(pykka.messages.ProxyGetAttr(attr_path=("sum",)), block=False)
    sent = bob.bridge.at("127.0.0.1:7001").spawn(Adder, name="new", block=False)
    plain = ann.far(bob, "adder").ask(Add(n=13), block=False)
    world.advance()
    for future, culprit in ((taken, "127.0.0.1:7002 refuses code"), (called, "7002 refuses"), (sent, "sends no code")):
        with pytest.raises(CodeRefused, match=culprit) as refused:
            future.get(timeout=0)
        assert "started without allow_code" in str(refused.value)
    with pytest.raises(RemoteError, match="UnluckyError: 13 brings bad luck"):
        plain.get(timeout=0)
    assert bob.system.find("new") is None
    assert ann.system.find("new") is None
    assert [link.links_lost for link in ann.bridge.links()] == [0]


def test_an_exception_that_cannot_say_what_it_is_about_is_told_and_the_link_lives(world: World) -> None:
    ann, bob = (world.home(port, secret=SECRET, allow_code=True) for port in (7001, 7002))
    bob.system.spawn(Adder, name="adder")
    failed = ann.bridge.at("127.0.0.1:7002").beside("adder", lambda actor: _raise(Dumb()), block=False)
    closure: Any = Unread()
    unread = ann.bridge.at("127.0.0.1:7002").beside("adder", closure, block=False)
    world.advance()
    with pytest.raises(Dumb):
        failed.get(timeout=0)
    with pytest.raises(RemoteError, match="cannot be read: Dumb: .it cannot say what: KeyError"):
        unread.get(timeout=0)
    assert [link.links_lost for link in ann.bridge.links()] == [0]


class Dumb(Exception):
    def __str__(self) -> str:
        raise KeyError("nothing")


def _raise(error: Exception) -> None:
    raise error


class Unread:
    def __reduce__(self) -> Any:
        return _raise, (Dumb(),)


def test_broken_and_oversized_code_is_refused_and_the_link_lives(world: World) -> None:
    ann = world.home(7001, secret=SECRET, allow_code=True, code_bytes_max=10_000)
    bob = world.home(7002, secret=SECRET, allow_code=True, code_bytes_max=2_000)
    bob.system.spawn(Adder, name="adder")
    peer = ann.bridge.peer("127.0.0.1:7002")
    there = ann.bridge.at("127.0.0.1:7002")
    with pytest.raises(WireError, match="more code than 10000 bytes"):
        there.spawn(Adder, "x" * 20_000, name="new", block=False).get(timeout=0)
    too_large = there.spawn(Adder, "x" * 5_000, name="new", block=False)
    answer_too_large = there.beside("adder", lambda actor: "x" * 5_000, block=False)
    exits = there.beside("adder", lambda actor: exit(1), block=False)
    broken = []
    for code in (b"", b"\x80\x05", b"cos\nno such thing\n.", pickle.dumps(Exit())):
        broken.append(there.beside("adder", repr, block=False))
        number, question = peer.questions.popitem()
        peer.questions[number] = question
        # the same question, garbled on its way
        parcel = peer.lanes["data"].queue.pop()
        garbled = pack(wire.Code(code, number, "adder", "", "Beside"))
        peer.lanes["data"].queue.append(parcel._replace(content=garbled))
    world.advance()
    with pytest.raises(RemoteError, match="WireError: .* bytes of code came, 2000 are allowed"):
        too_large.get(timeout=0)
    with pytest.raises(WireError, match="a str of .* is more code than 2000 bytes"):
        answer_too_large.get(timeout=0)
    with pytest.raises(RemoteError, match="SystemExit"):
        exits.get(timeout=0)
    for future in broken:
        with pytest.raises(RemoteError, match="bytes of code cannot be read"):
            future.get(timeout=0)
    after = ann.far(bob, "adder").ask(Add(n=1), block=False)
    world.advance()
    assert after.get(timeout=0) == 1
    assert [link.links_lost for link in ann.bridge.links()] == [0]


class Exit:
    def __reduce__(self) -> Any:
        return exit, (1,)


def test_an_answer_by_code_is_not_looked_at_where_code_is_not_allowed(world: World) -> None:
    ann, bob = world.home(7001), world.home(7002)
    bob.system.spawn(Adder, name="adder")
    asked = ann.far(bob, "adder").ask(Add(n=1), block=False)
    (number,) = ann.bridge.peer("127.0.0.1:7002").questions
    bob.bridge.peer("127.0.0.1:7001").put("data", _parcel(wire.CodeAnswer(number, pickle.dumps(2)), world))
    world.advance()
    with pytest.raises(WireError, match="answers by code, and this process allows none"):
        asked.get(timeout=0)


def _parcel(frame: Any, world: World) -> Any:
    from ringkeeper.runtime.peer import Parcel

    return Parcel(pack(frame), lambda why: None, world.loop.time())


def test_code_is_not_allowed_without_a_secret() -> None:
    with pytest.raises(ValueError, match="a process that allows code needs a secret"):
        BridgeConfig(cluster="test", node="ann", allow_code=True)
