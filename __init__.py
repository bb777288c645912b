"""Ringkeeper: a replicated key-value store made of actors, for Redis Cluster clients, Python programs and the curious.

    from ringkeeper import Client, LocalCluster

    with LocalCluster(nodes=3) as cluster, cluster.client() as client:
        client.set("user:42", "ann")

The names below are what an embedding program uses. They are loaded at first use, so that importing a pure module, such
as ``ringkeeper.actors.rules.slots``, costs no more than that module.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from .version import VERSION as __version__

if TYPE_CHECKING:
    from pykka import ActorDeadError

    from .actors.async_client import AsyncClient
    from .actors.client import Client
    from .actors.client_errors import ClientError, InDoubt, NotDone
    from .actors.local import LocalCluster
    from .runtime.actor import Actor, BlockingActor, Ref, WouldDeadlock
    from .runtime.bridge import Bridge, BridgeConfig, LinkLost, LinkUp
    from .runtime.message import message
    from .runtime.network import TcpNetwork
    from .runtime.remote import CodeRefused, RemoteError, Unanswered, Unsent
    from .runtime.running import running_system
    from .runtime.system import ActorSystem, Supervision, Terminated

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library speaks up only where it is asked to

_HOMES = {
    "AsyncClient": "actors.async_client",
    "Client": "actors.client",
    "ClientError": "actors.client_errors",
    "InDoubt": "actors.client_errors",
    "NotDone": "actors.client_errors",
    "LocalCluster": "actors.local",
    "Actor": "runtime.actor",
    "ActorDeadError": "runtime.actor",
    "BlockingActor": "runtime.actor",
    "Ref": "runtime.actor",
    "WouldDeadlock": "runtime.actor",
    "ActorSystem": "runtime.system",
    "Supervision": "runtime.system",
    "Terminated": "runtime.system",
    "running_system": "runtime.running",
    "Bridge": "runtime.bridge",
    "BridgeConfig": "runtime.bridge",
    "LinkLost": "runtime.bridge",
    "LinkUp": "runtime.bridge",
    "TcpNetwork": "runtime.network",
    "CodeRefused": "runtime.remote",
    "RemoteError": "runtime.remote",
    "Unanswered": "runtime.remote",
    "Unsent": "runtime.remote",
    "message": "runtime.message",
}

__all__ = [
    "Actor",
    "ActorDeadError",
    "ActorSystem",
    "AsyncClient",
    "BlockingActor",
    "Bridge",
    "BridgeConfig",
    "Client",
    "ClientError",
    "CodeRefused",
    "InDoubt",
    "LinkLost",
    "LinkUp",
    "LocalCluster",
    "NotDone",
    "Ref",
    "RemoteError",
    "Supervision",
    "TcpNetwork",
    "Terminated",
    "Unanswered",
    "Unsent",
    "WouldDeadlock",
    "__version__",
    "message",
    "running_system",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"ringkeeper has no {name}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
