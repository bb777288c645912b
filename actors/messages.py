"""What the actors of the database say to each other, in the order in which their stories send it.

Commands are imperative, facts are past tense. Every message names its sender and its receiver. What travels between
processes is typed field by field and checked on arrival; messages marked *local* never leave their process, and carry
references to live objects where copying them would cost more than the work itself.

The session's messages (Connected, NodeChanged, Answered...) are in ``runtime/session.py``, the clients' connections
(Requests, ConnectionMade...) in ``runtime/resp.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..runtime.actor import Ref
from ..runtime.message import message
from .rules.commands import Command
from .rules.ring import Ring

# A process becomes part of the cluster.


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class RingChanged:
    """The newest ring, kept on disk before anyone hears of it; local. Member -> all actors of the node."""

    ring: Ring


# A client's request.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """Run these data commands in order; local. Gateway -> StorageNode."""

    requests: list[tuple[Command, list[bytes]]]
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """The replies to one Execute, in its order and in the order of the Executes; local. StorageNode -> Gateway."""

    replies: list[Any]


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Make everything written so far survive a power cut; local. StorageNode -> Syncer."""

    batch: int
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """Everything up to ``batch`` is on disk, or why it is not; local. Syncer -> StorageNode."""

    batch: int
    error: str = ""


# Somebody asks how things are.


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerb:
    """A ``RING <verb>`` that only the leader can answer. Gateway -> Ecs."""

    question: int
    verb: str
    arguments: tuple[str, ...]
    reply_to: Ref


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class VerbRun:
    """The outcome of a verb: a text, or why not. Ecs -> Gateway."""

    question: int
    text: str = ""
    error: str = ""
    """As clients get it, with its code."""


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigures:
    """How much do you hold? Ecs, Gateway -> StorageNode."""

    question: int
    reply_to: Ref


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How much a storage node holds and has done. StorageNode -> Ecs, Gateway."""

    question: int
    node: str
    incarnation: str
    pid: int
    epoch: int
    keys: int
    bytes: int
    commands: int
    writes: int
    refused: int
    synced: bool


# Nodes watch each other.


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """I am alive. FailureDetector -> FailureDetector of every other node."""

    node: str
    incarnation: str
    number: int


@message(urgent=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """That incarnation has been silent to me for so long (None: it is heard again). FailureDetector -> Ecs."""

    node: str
    incarnation: str
    by: str
    silent_seconds: float | None
