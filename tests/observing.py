"""Asks the observers of a cluster for tests: one of them, or all, and has them all follow the same trace.

    look = Observing(lambda *words: client.execute(*words))
    look.ask("127.0.0.1:7002", "INSPECT", actor="replica")
    trace = look.trace("key", "user:42")
    ...
    print(*as_diagram(trace.hops()), sep="\\n")

Everything goes by ``RING OBSERVE`` over the client port of any node, so a simulated cluster is asked the same way:
``Observing(lambda *words: cluster.execute(node, *words))``.
"""

import json
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from ringkeeper.actors.rules.journey import Hop, merged

Execute = Callable[..., Any]
"""Runs a command on any node: the reply, or an exception that is one, or that is raised."""


class Unobserved(Exception):
    """Raised when a process did not tell what was asked; the text says why."""


class Observing:
    """A cluster, to be looked into."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._numbers = count(1)

    def ask(self, where: str, word: str, **arguments: Any) -> Any:
        """The answer of one process: ``here``, ``ecs``, a node's id or a bridge's host:port. Raises Unobserved.

        An argument whose name is a word of Python is written with ``_`` behind it: ``from_``.
        """
        named = {name.rstrip("_"): value for name, value in arguments.items()}
        return json.loads(self._reply("RING", "OBSERVE", where, word, json.dumps(named)))

    def ask_all(self, word: str, wheres: Iterable[str] | None = None, **arguments: Any) -> dict[str, Any]:
        """By process, the answer of each; an Unobserved where there is none. All processes, unless some are named."""
        answers: dict[str, Any] = {}
        for where in self.processes() if wheres is None else wheres:
            try:
                answers[where] = self.ask(where, word, **arguments)
            except Unobserved as failure:
                answers[where] = failure
        return answers

    def processes(self) -> list[str]:
        """What ``where`` may be: every node of the ring that is not down, the leading ECS, every launcher."""
        try:
            status = json.loads(self._reply("RING", "STATUS"))
        except Unobserved:  # nobody leads: the ring tells at least of the nodes
            ring = json.loads(self._reply("RING", "SHOW"))
            return sorted(node["id"] for node in ring["nodes"] if node["state"] != "down")
        nodes = [node["id"] for node in status["nodes"] if node["state"] != "down"]
        return [*sorted(nodes), "ecs", *status["launchers"].values()]

    def trace(
        self, kind: str, about: str, *, wheres: Iterable[str] | None = None, id: str = "", **bounds: float
    ) -> "RunningTrace":
        """Begin a trace in every process, or in some. ``kind``: key, actor or type; ``bounds``: messages_max, seconds.

        A process that cannot follow it (a key in a launcher, say) is left out. Raises Unobserved when none can.
        """
        trace = RunningTrace(self, id or f"trace-{next(self._numbers)}")
        for where, answer in self.ask_all("TRACE", wheres, id=trace.id, **{kind: about}, **bounds).items():
            if isinstance(answer, Unobserved):
                trace.refusals[where] = str(answer)
            else:
                trace.wheres.append(where)
        if not trace.wheres:
            raise Unobserved(next(iter(trace.refusals.values()), "there is no process to follow it in"))
        return trace

    def _reply(self, *words: str) -> Any:
        try:
            reply = self._execute(*words)
        except Exception as failure:
            raise Unobserved(str(failure)) from failure
        if isinstance(reply, Exception):
            raise Unobserved(str(reply))
        return reply


class RunningTrace:
    """A trace in several processes. It ends there by itself; ``end`` ends it before, and has them forget it."""

    def __init__(self, observing: Observing, id: str) -> None:
        self.id = id
        self.wheres: list[str] = []
        """Where it runs."""
        self.refusals: dict[str, str] = {}
        """Where it does not, and why."""
        self._observing = observing

    def parts(self) -> list[dict[str, Any]]:
        """What each process has seen so far; of those that answer."""
        return self._told("TRACED")

    def hops(self) -> list[Hop]:
        """The same as one story."""
        return merged(self.parts())

    @property
    def runs(self) -> bool:
        """Whether it still runs anywhere."""
        return any(part["running"] for part in self.parts())

    def end(self) -> list[Hop]:
        """End it everywhere; returns the story."""
        return merged(self._told("UNTRACE"))

    def _told(self, word: str) -> list[dict[str, Any]]:
        answers = self._observing.ask_all(word, self.wheres, id=self.id)
        return [answer for answer in answers.values() if not isinstance(answer, Unobserved)]
