"""Lets programs travel between processes that both allow it: actors to be spawned there, calls of proxies, probes.

A message can only name what the other process knows already; a *code frame* brings a pickle (cloudpickle, so that a
class or a closure of a script comes along whole), and unpickling is running. So a process looks into one only if it was
started with ``allow_code``, and only on a link whose peer has proven the cluster's secret. Otherwise it is refused by a
Failure, unread, and the link goes on. What comes back is a pickle as well, which is why whoever sends code must allow
it, too. Whoever knows the secret of a process that allows code can do there whatever that process can.

    RemoteSystem.spawn     -> Spawn        an actor made and supervised there; its ref
    RemoteRef.proxy        -> Introspect   then Pykka's own ProxyGetAttr, ProxySetAttr and ProxyCall
    RemoteSystem.beside    -> Beside       a closure, called with an actor between two of its messages

Refs inside a pickle travel as their addresses. Code by reference (an imported module's) must be importable there too;
what a script defines in ``__main__`` travels by value, and its messages are registered there with the actor that speaks
them, unless their annotations are text (``from __future__ import annotations``), which no other process can read.

Where to look next: ``post.py`` carries the frames, ``wire.py`` has their form.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]
from pykka import CallableProxy
from pykka._introspection import AttrInfo, introspect_attrs
from pykka.messages import ProxyGetAttr, ProxySetAttr

from .actor import Actor, BlockingActor, Ref, on_loop_thread
from .message import MESSAGES, URGENT, message
from .remote import RemoteRef, may_wait, text_of
from .system import RESTART, ActorSystem, Supervision
from .wire import WireError

if TYPE_CHECKING:
    from .bridge import Bridge

ANSWER_SECONDS = 10.0
"""How long another process may take to answer what is waited for, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Make an actor. The answer is its address."""

    cls: type
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    supervision: Supervision
    messages: tuple[tuple[type, bool], ...]
    """Message types that travel by value with it, and whether each is urgent."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Call a closure with an actor. The answer is what it returns."""

    closure: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Introspect:
    """What a proxy of an actor may be asked for. The answer is Pykka's table of attributes."""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def persistent_id(self, value: Any) -> str | None:
        return value.address if isinstance(value, Ref) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, resolve: Callable[[str], Ref]) -> None:
        super().__init__(io.BytesIO(content))
        self._resolve = resolve

    def persistent_load(self, address: str) -> Ref:
        return self._resolve(address)


def dump(value: Any, bytes_max: int) -> bytes:
    """A pickle. Raises WireError when the value has none, or a larger one."""
    pickled = io.BytesIO()
    try:
        _Pickler(pickled).dump(value)
    except Exception as error:  # whatever a value's own way to be pickled raises
        raise WireError(f"a {type(value).__name__} cannot travel: {text_of(error)}") from error
    content = pickled.getvalue()
    if len(content) > bytes_max:
        raise WireError(f"a {type(value).__name__} of {len(content)} bytes is more code than {bytes_max} bytes")
    return content


def load(content: bytes, resolve: Callable[[str], Ref]) -> Any:
    """What ``dump`` was given. This runs what is in it: only for a process that allows code. Raises WireError."""
    try:
        return _Unpickler(content, resolve).load()
    except (Exception, SystemExit) as error:  # a pickle can call anything
        raise WireError(
            f"{len(content)} bytes of code cannot be read: {type(error).__name__}: {text_of(error)}"
        ) from error


_carried: set[str] = set()
"""Names of the message types that came from other processes."""


def register(messages: Iterable[tuple[type, bool]], forget: Callable[[str], None]) -> None:
    """Know the messages of an actor that comes from elsewhere; ``forget`` what is known of an earlier one's.

    A script that is run again brings the same names, and they mean its own types from then on. Raises TypeError when
    this process has a message of that name itself.
    """
    for cls, urgent in messages:
        name = cls.__name__
        known = MESSAGES.get(name)
        if known is cls:
            continue
        if known is not None and name not in _carried:
            raise TypeError(f"this process has a message called {name} itself: give yours another name")
        _carried.add(name)
        MESSAGES.pop(name, None)
        message(urgent=urgent)(cls)
        forget(name)


def perform(system: ActorSystem, name: str, order: Spawn | Beside | Introspect) -> Any:
    """Do what another process orders, on the loop thread, beside the actor of that name. Raises whatever that does."""
    if isinstance(order, Spawn):
        if not (isinstance(order.cls, type) and issubclass(order.cls, Actor | BlockingActor)):
            raise TypeError(f"{order.cls!r} is no actor: subclass ringkeeper.Actor or ringkeeper.BlockingActor")
        return system.spawn(order.cls, *order.args, name=order.name, supervision=order.supervision, **order.kwargs)
    if isinstance(order, Beside):
        return system.beside(name, order.closure)
    return system.beside(name, _attributes)


def _attributes(actor: Any) -> dict[tuple[str, ...], AttrInfo]:
    return introspect_attrs(root=actor, proxy=object())  # type: ignore[arg-type]  # no attribute equals it


def with_trace(failure: BaseException) -> str:
    """The traceback of a failure, for whoever asked."""
    return "".join(traceback.format_exception(failure))


class RemoteSystem:
    """The actors of another process, for spawning and looking. ``process`` is ``host:port`` of its bridge.

    For any thread but the loop's, unless ``block=False``: then these return futures. They raise, or the futures do,
    CodeRefused unless both processes allow code; what went wrong there, with its type if it can be had here; and like
    ``RemoteRef.ask``.
    """

    def __init__(self, bridge: Bridge, process: str) -> None:
        self._bridge, self.process = bridge, process

    def __repr__(self) -> str:
        return f"<RemoteSystem {self.process}>"

    def ref(self, name: str) -> Ref:
        """The actor of that name there, if there is one."""
        return self._bridge.ref(f"ringkeeper://{self.process}/{name}")

    def spawn(
        self, cls: type, *args: Any, name: str, supervision: Supervision = RESTART, block: bool = True,
        timeout: float | None = ANSWER_SECONDS, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Make an actor there, supervised there as ``ActorSystem.spawn`` does here; its ref."""
        carried = tuple((each, each in URGENT) for each in MESSAGES.values() if _by_value(each.__module__))
        spawn = Spawn(cls, args, kwargs, name, supervision, carried if _by_value(cls.__module__) else ())
        return self._ask(name, spawn, block, timeout)

    def beside(
        self, name: str, closure: Callable[[Any], Any], *, block: bool = True, timeout: float | None = ANSWER_SECONDS
    ) -> Any:
        """Call ``closure(actor)`` there, on its loop, between two messages of the actor; what it returns.

        A blocking actor's own thread goes on meanwhile.
        """
        return self._ask(name, Beside(closure), block, timeout)

    def _ask(self, name: str, order: Spawn | Beside, block: bool, timeout: float | None) -> Any:
        may_wait(block)
        future = self._bridge.post.ask_by_code(RemoteRef(self._bridge, self.process, name), order, timeout)
        return future.get(timeout=timeout) if block else future


def _by_value(module: str) -> bool:
    """Whether what a module defines travels whole."""
    return module == "__main__" or module in cloudpickle.list_registry_pickle_by_value()


class RemoteProxy:
    """Attributes and methods of an actor in another process, as Pykka's ``ActorProxy``.

    Reading an attribute and calling a method give futures, ``proxy.method.defer(...)`` tells, setting an attribute
    waits until it is set. Arguments, values and exceptions travel as pickles: both processes must allow code.
    """

    def __init__(self, ref: RemoteRef, path: tuple[str, ...] = (), known: Any = None) -> None:
        self.actor_ref = ref
        self._path = path
        self._known: dict[tuple[str, ...], AttrInfo] = known if known is not None else self._look()

    def _look(self) -> Any:
        may_wait(True)
        future = self.actor_ref._bridge.post.ask_by_code(self.actor_ref, Introspect(), ANSWER_SECONDS)
        return future.get(timeout=ANSWER_SECONDS)

    def __repr__(self) -> str:
        return f"<RemoteProxy {'.'.join((self.actor_ref.address, *self._path))}>"

    def __getattr__(self, name: str) -> Any:
        path = (*self._path, name)
        if name.startswith("_"):
            raise AttributeError(f"{name} is private to {self.actor_ref.address}")
        if path not in self._known and not on_loop_thread():
            self._known = self._look()  # it may have been made since
        if path not in self._known:
            raise AttributeError(f"{self.actor_ref.address} has no attribute {'.'.join(path)}")
        kind = self._known[path]
        if kind.callable:
            return CallableProxy(actor_ref=self.actor_ref, attr_path=path)  # type: ignore[arg-type]
        if kind.traversable:
            return RemoteProxy(self.actor_ref, path, self._known)
        return self.actor_ref.ask(ProxyGetAttr(attr_path=path), block=False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "actor_ref" or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.actor_ref.ask(ProxySetAttr(attr_path=(*self._path, name), value=value), timeout=ANSWER_SECONDS)
