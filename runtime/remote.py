"""Refs of actors in other processes: their addresses, what they can do, how that can fail.

    ringkeeper://host:port/name     ``host:port`` is where the bridge of the actor's process listens

A ``RemoteRef`` is an address and a way to its own process' bridge, nothing more: making one dials nobody, and it stays
good over every restart of the other side. It may be used on any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pykka import ActorDeadError

from .actor import Ref, WouldDeadlock, on_loop_thread
from .wire import shown

if TYPE_CHECKING:
    from .bridge import Bridge

SCHEME = "ringkeeper://"

CODE_REFUSED = "it takes messages only: it was started without allow_code (--allow-code)"


class Unsent(ActorDeadError):
    """Raised when a question did not leave this process: nothing happened, it is safe to ask again."""


class Unanswered(ActorDeadError):
    """Raised when the link was lost before the answer came, or the answer itself: it may have happened."""


class RemoteError(Exception):
    """Raised when an actor in another process failed on a question. ``error`` is the name of what it raised."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(f"{error}: {text}" if text else error)
        self.error = error


class CodeRefused(RemoteError):
    """Raised when code was to be sent from, or to, a process that does not allow it."""

    def __init__(self, text: str) -> None:
        super().__init__("CodeRefused", text)
        self.args = (text,)


def text_of(error: BaseException) -> str:
    """What an exception says. Others make exceptions as well, and theirs may raise when they are asked."""
    try:
        return str(error)
    except Exception as failure:
        return f"(it cannot say what: {type(failure).__name__})"


def parse_process(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[host]:port``. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{shown(address)} is not host:port")
    return host, int(port)


def parse_address(address: str) -> tuple[str, str]:
    """Process and name of ``ringkeeper://host:port/name``. Raises ValueError."""
    process, slash, name = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not slash or not name:
        raise ValueError(f"{shown(address)} is not the address of an actor: {SCHEME}host:port/name is")
    parse_process(process)
    return process, name


class RemoteRef(Ref):
    """An actor in another process. Equal to every ref with the same address; safe on any thread."""

    __slots__ = ("__weakref__", "_bridge", "name", "process")

    def __init__(self, bridge: Bridge, process: str, name: str) -> None:
        self._bridge = bridge
        self.process = process
        self.name = name

    @property
    def address(self) -> str:
        return f"{SCHEME}{self.process}/{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteRef) and self.name == other.name and self.process == other.process

    def __hash__(self) -> int:
        return hash((self.process, self.name))

    def __repr__(self) -> str:
        return f"<RemoteRef {self.address}>"

    def is_alive(self) -> bool:
        """False while its process is known to be out of reach, which is forgotten some seconds after the last try.

        More cannot be known without asking, or watching.
        """
        return self._bridge.in_reach(self.process)

    def tell(self, message: Any) -> None:
        """Send it, and never fail for the other side's sake: what cannot arrive is a dead letter.

        Raises TypeError when it is no ``@message``, CodeRefused when it is a proxy's and this process allows no code.
        """
        self._bridge.post.tell(self, message)

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """Send it and wait for the answer, or return the future of it. ``timeout`` (seconds) bounds both.

        Raises, or lets the future raise: ``pykka.Timeout``; ``Unsent`` or ``Unanswered`` without a link; ActorDeadError
        when nobody there has that name; what the actor raised, as a RemoteError unless both processes allow code, then
        as itself, with the traceback as its note; WireError when a value cannot travel.
        """
        may_wait(block)
        future = self._bridge.post.ask(self, message, timeout, block)
        return future.get(timeout=timeout) if block else future

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        """Stop it after what is in its mailbox: True if it was alive. Otherwise like ``ask``."""
        may_wait(block)
        future = self._bridge.post.stop(self, timeout)
        return future.get(timeout=timeout) if block else future

    def proxy(self) -> Any:
        """A proxy as Pykka's: attributes and calls give futures. They travel as code, so both processes must allow it.

        Asks the actor what it has, and waits for that: raises CodeRefused, and like ``ask``.
        """
        from .code_frames import RemoteProxy  # imports cloudpickle, which most processes never need

        return RemoteProxy(self)

    def watch(self, watcher: Ref) -> None:
        """Have ``watcher`` told Terminated when the actor ends or the link to it; called by ``death_watch``."""
        self._bridge.post.watch(self, watcher)

    def unwatch(self, watcher: Ref) -> None:
        """Take back the ``watch`` of this watcher."""
        self._bridge.post.unwatch(self, watcher)


def may_wait(block: bool) -> None:
    """Raises WouldDeadlock."""
    if block and on_loop_thread():
        raise WouldDeadlock("the loop thread was asked to wait for another process; use block=False")
