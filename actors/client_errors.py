"""Says what became of a command that did not go well: definitely nothing, or perhaps something.

A program that gets an error from a store has one question: may I simply try again? So the types answer it.

    ClientError
      NotDone           happened "no": nothing was done; safe to try again
        Unavailable       no node that answers for the key was reached, or was ready, in time
        NoReplicas        fewer copies are up than a write needs
        Refused           the nodes will not work for this client: password, permission, memory
        Closed            the client was closed
      CommandError      happened "no": the command does not fit the key or the server; it would fail again
      InDoubt           happened "maybe": read before trying again
        PartlyDone        of several commands given together some were done, or may have been

"Definitely nothing" is never a guess. It needs a connection that took less than the whole command, or a reply that a
server gives only before it stamps a write: MOVED, ASK, TRYAGAIN, CLUSTERDOWN, LOADING, NOREPLICAS (rule R6), a refusal,
or an ordinary error. All else that a write can meet, and ``-INDOUBT`` above all, is a "maybe". A read changes nothing,
so it is never in doubt.

Texts are for people: what happened - what we know - what it means - what to do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

__all__ = [
    "ClientError",
    "Closed",
    "CommandError",
    "InDoubt",
    "NoReplicas",
    "NotDone",
    "PartlyDone",
    "Refused",
    "Trouble",
    "Unavailable",
]

REDIRECTIONS = frozenset({"MOVED", "ASK"})
"""Replies that name the node to ask instead."""

TRANSIENT = frozenset({"TRYAGAIN", "CLUSTERDOWN", "LOADING", "NOREPLICAS"})
"""Replies of a server that did nothing and may do it soon."""

REFUSALS = frozenset({"NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "OOM", "MISCONF", "NOCLUSTER", "NOPROTO"})
"""Replies of a server that did nothing and will not until somebody changes it or the client."""


class Trouble(NamedTuple):
    """What stood in the way of one attempt."""

    code: str
    """The first word of the server's error, or ours in small letters: refused, unreachable, silent, broken..."""
    says: str
    """The rest of a sentence that begins with a node."""
    address: str = ""
    place: str = ""
    """The slot and the ring's epoch as the client knew them."""

    def __str__(self) -> str:
        return " ".join(part for part in (self.address, self.place and f"({self.place})", self.says) if part)


class ClientError(Exception):
    """A command did not end well. ``happened`` says whether it may have taken effect."""

    happened: ClassVar[Literal["no", "maybe"]] = "no"

    def __init__(self, text: str, *, code: str = "", address: str = "") -> None:
        super().__init__(text)
        self.code = code
        """The first word of the server's error (``NOREPLICAS``), or the client's own for what no server said
        (``refused``, ``unreachable``, ``silent``, ``broken``, ``garbage``)."""
        self.address = address
        """``host:port`` of the node that caused it, "" when there was none."""


class NotDone(ClientError):
    """Nothing was done, for certain: it is safe to try again."""


class Unavailable(NotDone):
    """No node that answers for the key was reached, or was ready, within the operation's time."""


class NoReplicas(NotDone):
    """Fewer copies are up than a write needs, so it was refused before anything happened (``-NOREPLICAS``)."""


class Refused(NotDone):
    """The nodes will not work for this client, or cannot, until somebody changes something."""


class Closed(NotDone):
    """The client was closed."""


class CommandError(ClientError):
    """The server refuses the command as such: wrong type, not an integer, unknown... The same would fail again."""


class InDoubt(ClientError):
    """It may have taken effect, or may still do so: read before trying again."""

    happened = "maybe"


class PartlyDone(InDoubt):
    """Of several commands given together some were done, or may have been, and some were not."""

    def __init__(
        self,
        text: str,
        *,
        errors: Mapping[Any, ClientError],
        results: Sequence[Any] = (),
        code: str = "",
        address: str = "",
    ) -> None:
        super().__init__(text, code=code, address=address)
        self.errors = dict(errors)
        """What did not end well: key -> error; from a pipeline, position -> error. All else was done."""
        self.results = list(results)
        """From a pipeline: what ``execute(raise_on_error=False)`` would have returned."""

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions are rebuilt from positional arguments, and ours have none
        return _partly_done, (str(self), self.errors, self.results, self.code, self.address)


def _partly_done(text: str, errors: dict[Any, ClientError], results: list[Any], code: str, address: str) -> PartlyDone:
    return PartlyDone(text, errors=errors, results=results, code=code, address=address)


def not_done(label: str, reads: bool, trouble: Trouble, attempts: int, seconds: float) -> NotDone:
    """Nothing was done and the time is over, or more time would not help."""
    kind: type[NotDone] = Unavailable
    advice = "It is safe to try again; `ringkeeper status` shows which nodes serve."
    if trouble.code in REFUSALS:
        kind, advice = Refused, _ADVICE.get(trouble.code, "Put that right, then it is safe to try again.")
    elif trouble.code == "NOREPLICAS":
        kind, advice = NoReplicas, "It is safe to try again when more copies are up; `ringkeeper status` shows them."
    elif trouble.code == "closed":
        kind, advice = Closed, "Use a client that is open."
    elif trouble.code == "overtaken":
        kind, advice = NotDone, "Decide what the key should hold, then write it."
    tries = f" ({attempts} attempts)" if attempts > 1 else ""
    nothing = "Reading changes nothing." if reads else "Nothing was written."
    return kind(
        f"{label} was not done in {seconds:.1f} s{tries}: {trouble}. {nothing} {advice}",
        code=trouble.code,
        address=trouble.address,
    )


_ADVICE = {
    "NOAUTH": "The node wants a password: give the client one.",
    "WRONGPASS": "Give the client the right user name and password.",
    "NOPERM": "Ask for the permission, or connect as another user.",
    "NOCLUSTER": "Give the client the address of a node of a cluster.",
    "NOPROTO": "Give the client the address of a node that speaks RESP3: ringkeeper, or Redis 6 or later.",
}


def in_doubt(label: str, keys: int, trouble: Trouble, seconds: float) -> InDoubt:
    """The command went out whole, and no answer says what became of it."""
    what = {0: "the data", 1: "the key"}.get(keys, "the keys")
    return InDoubt(
        f"{label} is in doubt after {seconds:.1f} s: {trouble}. It may have taken effect, or may still do so. "
        f"Read {what} before trying again.",
        code=trouble.code,
        address=trouble.address,
    )


def command_error(label: str, trouble: Trouble) -> CommandError:
    """The server understood, and refuses the command as such."""
    return CommandError(
        f"{label} failed: {trouble}. Nothing was changed, and the same command would fail again.",
        code=trouble.code,
        address=trouble.address,
    )


def partly_done(label: str, errors: Mapping[Any, ClientError], done: int, results: Sequence[Any] = ()) -> PartlyDone:
    """Some of several commands were done or are in doubt. ``errors`` is not empty, in the order of the commands."""
    doubtful = sum(error.happened == "maybe" for error in errors.values())
    first = next(iter(errors.values()))
    return PartlyDone(
        f"{label} was done in part: {done} done, {len(errors) - doubtful} not done, {doubtful} in doubt. The first "
        f"trouble: {first} The error's `errors` names each; try again only what was not done.",
        errors=errors,
        results=results,
        code=first.code,
        address=first.address,
    )
