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
    from .actors.client import Client
    from .actors.client_errors import ClientError, InDoubt, NotDone
    from .actors.local import LocalCluster
    from .runtime.actor import Actor, BlockingActor
    from .runtime.message import message
    from .runtime.system import ActorSystem

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library speaks up only where it is asked to

_HOMES = {
    "Client": "actors.client",
    "ClientError": "actors.client_errors",
    "InDoubt": "actors.client_errors",
    "NotDone": "actors.client_errors",
    "LocalCluster": "actors.local",
    "Actor": "runtime.actor",
    "ActorSystem": "runtime.system",
    "BlockingActor": "runtime.actor",
    "message": "runtime.message",
}

__all__ = [
    "Actor",
    "ActorSystem",
    "BlockingActor",
    "Client",
    "ClientError",
    "InDoubt",
    "LocalCluster",
    "NotDone",
    "__version__",
    "message",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"ringkeeper has no {name}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
