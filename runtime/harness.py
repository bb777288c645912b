"""Drives one actor by hand: a message in, the list of messages it sent out.

    harness = Harness(Greeter, greeting="hello")
    assert harness.tell(Greet(whom="ann", reply_to=harness.probe("ann"))) == [("ann", Greeting(text="hello ann"))]

Time is virtual and chance is seeded, so a test needs neither sleeps nor patience. The actor's ``check()`` runs after
every message.
"""

import random
from typing import Any

from .actor import Actor, LocalRef
from .system import ESCALATE, ActorSystem, Nobody
from .virtual import VirtualLoop

Sent = list[tuple[str, Any]]


class Probe(Nobody):
    """A ref that keeps what it is told, for the harness to look at."""

    def __init__(self, system: ActorSystem, name: str, sent: Sent) -> None:
        super().__init__(system, name)
        self._sent = sent

    def is_alive(self) -> bool:
        return True

    def tell(self, message: Any) -> None:
        self._sent.append((self.name, message))


class Harness:
    """One actor in a world of its own. A failure of the actor is raised where the message was put in."""

    def __init__(self, cls: type[Actor], *args: Any, seed: int = 0, name: str = "subject", **kwargs: Any) -> None:
        self.loop = VirtualLoop()
        self.epoch_seconds = 1_700_000_000.0
        self.system = ActorSystem(
            loop=self.loop,
            random=random.Random(seed),
            wall=lambda: self.epoch_seconds + self.loop.time(),
            stopwatch=self.loop.time,
        )
        self.sent: Sent = []
        self._failures: list[BaseException] = []
        self.system.on_escalation = lambda _, failure: self._failures.append(failure)
        self.system.after_message = lambda actor, _: actor.check()
        self.system.resolver = lambda address: self.probe(address)
        kwargs = {k: self.probe(v.removeprefix("probe:")) if _is_probe(v) else v for k, v in kwargs.items()}
        self.ref: LocalRef = self.system.spawn(cls, *args, name=name, supervision=ESCALATE, **kwargs)
        self._run()

    @property
    def actor(self) -> Any:
        """The actor itself, for asserting on its state."""
        return self.ref._actor_weakref()

    def probe(self, name: str) -> Probe:
        """A ref to hand to the actor; what it is told appears in the list of messages sent, under this name.

        Constructor arguments are made before the harness is: there ``"probe:name"`` stands for ``probe("name")``.
        """
        return Probe(self.system, name, self.sent)

    def tell(self, *messages: Any) -> Sent:
        """Put messages in; returns what the actor sent while it handled them."""
        for message in messages:
            self.ref.tell(message)
        return self._run()

    def ask(self, message: Any) -> Any:
        """What an edge would get as the answer."""
        future = self.ref.ask(message, block=False)
        self._run()
        return future.get(timeout=0)

    def advance(self, seconds: float) -> Sent:
        """Let virtual time pass; returns what the actor sent meanwhile."""
        before = len(self.sent)
        self.loop.advance(seconds)
        return self._since(before)

    def _run(self) -> Sent:
        before = len(self.sent)
        self.loop.run_until_idle()
        return self._since(before)

    def _since(self, before: int) -> Sent:
        if self._failures:
            raise self._failures.pop()
        return self.sent[before:]

    def stop(self) -> None:
        self.system.stop()


def _is_probe(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("probe:")
