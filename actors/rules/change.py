"""Describes what somebody wants of the ring (`Wish`), and the one change that is under way (`Change`).

A wish waits in the ring's queue until its turn comes; then it is a change, in flight through three phases, each of
them a write of the ring, until another write commits it or gives it up:

    wish --begin--> transfer --all learners caught up--> switch --holds everywhere--> seal --Ready of all--> committed
                       |                                    |                           |
                       +---- abort, cancel: as it was ------+---------------------------+
                       +---- a node's state changed: a wish again, first in the queue (R8)

What may be wanted, of the nodes that are named:

    add      they come, up                               move     they go on at other tokens
    remove   they go out, whatever they are              rest     they are up, and go down in order (R27)
    replace  one goes out, whatever it is, and another comes, up, at its token
    copies   of no node: slots have another number of copies, or need another number of them for a write

and, never in the queue, since the ECS begins it by itself when it can:

    return   they are returning, and are up again        out      they have been down for too long, and go out

A *job* is what people follow, from the wish to its end; its number is the epoch of the ring that first showed it. A
change is named by the epoch it began in: the same job may need several, and what was said of one (a Ready, an
acknowledgement) counts for no other (R9, R12).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from .fields import HEX_128, NODE_ID, Fields, RingError, one_of, text, whole
from .life import EPOCH_MAX
from .node import Node, State, node_from_json, node_to_json
from .placement import CIRCLE, NODES_MAX, REPLICAS_MAX

Kind = Literal["add", "remove", "move", "return", "rest", "out", "replace", "copies"]
KINDS: tuple[str, ...] = get_args(Kind)
UNASKED: tuple[Kind, ...] = ("return", "out")
"""What the ECS begins by itself, again and again, so that nothing of it is kept when it fails."""

Phase = Literal["transfer", "switch", "seal"]
PHASES: tuple[str, ...] = get_args(Phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants of the ring. Raises RingError when a field is malformed."""

    job: int
    kind: Kind
    ids: tuple[str, ...]
    """The nodes that it is about, ascending."""
    tokens: tuple[tuple[str, int], ...] = ()
    """Of a move: where every node of the ring is to stand, by id. Of nodes to add: where those are to stand of whom
    that was said."""
    by: str = ""
    """Of a replacement: who comes."""
    copies: tuple[int, int] | None = None
    """Of another number of copies: how many of each slot, and how many of them must be up for a write."""

    def __post_init__(self) -> None:
        whole("job of a wish", self.job, 1, EPOCH_MAX)
        one_of(f"kind of job {self.job}", self.kind, KINDS)
        _ids(f"job {self.job}", self.ids, least=0 if self.kind == "copies" else 1)
        for id, token in self.tokens:
            text(f"a node of job {self.job}", id, NODE_ID)
            whole(f"token of {id} in job {self.job}", token, 0, CIRCLE - 1)
        placed = sorted(id for id, _ in self.tokens)
        may_be = [id for id in self.ids if self.kind == "move" or (self.kind == "add" and id in placed)]
        if placed != may_be:
            raise RingError(f"job {self.job} gives tokens to other nodes than it names")
        if (self.by != "") != (self.kind == "replace") or (self.by and len(self.ids) != 1):
            raise RingError(f"job {self.job} does not say which one node is replaced by which")
        if self.by:
            text(f"a node of job {self.job}", self.by, NODE_ID)
            if self.by in self.ids:
                raise RingError(f"{self.by} cannot be replaced by itself: started on another folder it returns")
        if (self.copies is not None) != (self.kind == "copies") or (self.copies and self.ids):
            raise RingError(f"job {self.job} does not say how many copies there are to be")
        if self.copies is not None:
            whole(f"copies that job {self.job} wants", self.copies[0], 1, REPLICAS_MAX)
            whole(f"copies that job {self.job} wants for a write", self.copies[1], 1, REPLICAS_MAX)

    def among(self, ids: Iterable[str]) -> "Wish":
        """The same wish to add nodes, for these of them."""
        left = tuple(sorted(ids))
        return replace(self, ids=left, tokens=tuple(each for each in self.tokens if each[0] in left))

    @property
    def comers(self) -> tuple[str, ...]:
        """The nodes that are to come by it."""
        return self.ids if self.kind == "add" else (self.by,) if self.by else ()

    def __str__(self) -> str:
        if self.copies is not None:
            copies, needed = self.copies
            return f"keep {copies} {'copy' if copies == 1 else 'copies'} of each slot, {needed} needed for a write"
        if self.kind == "move":
            return f"balance {len(self.ids)} nodes"
        verb = "give up" if self.kind == "out" else self.kind
        return f"{verb} {', '.join(self.ids)}{f' by {self.by}' if self.by else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change in flight. Raises RingError when a field is malformed."""

    epoch: int
    """Of the ring that it began with: its name."""
    phase: Phase
    wish: Wish
    comes: tuple[Node, ...] = ()
    """The nodes that join, in the lives and at the tokens that they will have; by id."""

    def __post_init__(self) -> None:
        whole("epoch of the change", self.epoch, 1, EPOCH_MAX)
        one_of("phase of the change", self.phase, PHASES)
        if tuple(node.id for node in self.comes) != self.wish.comers:
            raise RingError(f"change {self.epoch} brings other nodes than its job {self.wish.job} wants")
        if any(node.state != "up" for node in self.comes):
            raise RingError(f"change {self.epoch} brings a node that would not be up")

    def __str__(self) -> str:
        return str(self.wish)

    def members(self, nodes: Iterable[Node]) -> tuple[Node, ...]:
        """The nodes of the ring once this is committed, given what they are now."""
        leads_to: dict[Kind, State] = {
            "remove": "out",
            "return": "up",
            "rest": "down",
            "out": "out",
            "replace": "out",
        }
        coming = {node.id for node in self.comes}
        kept = {node.id: node for node in nodes if node.id not in coming}
        if self.wish.kind == "move":
            for id, token in self.wish.tokens:
                kept[id] = replace(kept[id], token=token)
        if self.wish.kind in leads_to:
            for id in self.wish.ids:
                kept[id] = replace(kept[id], state=leads_to[self.wish.kind], given_up=self.wish.kind == "out")
        return (*kept.values(), *self.comes)


def wish_to_json(wish: Wish) -> dict[str, object]:
    tokens = {id: f"{token:032x}" for id, token in wish.tokens}
    more = {"by": wish.by} if wish.by else {"copies": wish.copies} if wish.copies is not None else {}
    return {"job": wish.job, "kind": wish.kind, "ids": wish.ids, "tokens": tokens, **more}


def wish_from_json(item: object) -> Wish:
    fields = Fields("a wish in the queue of the ring", item)
    tokens: Mapping[str, Any] = Fields("tokens of a wish", fields.take("tokens")).left
    return Wish(
        job=fields.take("job"),
        kind=fields.take("kind"),
        ids=tuple(fields.take_many("ids")),
        tokens=tuple((id, int(text(f"token of {id}", tokens[id], HEX_128), 16)) for id in sorted(tokens)),
        by=fields.take("by", ""),
        copies=_copies_from(fields),
    )


def _copies_from(fields: Fields) -> tuple[int, int] | None:
    copies = fields.take_many("copies", [])
    if copies and len(copies) != 2:
        raise RingError(f"copies of a wish must be two numbers, not {len(copies)}")
    return (copies[0], copies[1]) if copies else None


def change_to_json(change: Change | None) -> dict[str, object] | None:
    if change is None:
        return None
    return {
        "epoch": change.epoch,
        "phase": change.phase,
        "wish": wish_to_json(change.wish),
        "comes": [node_to_json(node) for node in change.comes],
    }


def change_from_json(item: object) -> Change | None:
    if item is None:
        return None
    fields = Fields("the change in flight", item)
    return Change(
        epoch=fields.take("epoch"),
        phase=fields.take("phase"),
        wish=wish_from_json(fields.take("wish")),
        comes=tuple(node_from_json("a node that comes", node) for node in fields.take_many("comes")),
    )


def _ids(what: str, ids: tuple[str, ...], least: int) -> None:
    if not least <= len(ids) <= NODES_MAX:
        raise RingError(f"{what} is about {len(ids)} nodes, not {least} to {NODES_MAX}")
    for id in ids:
        text(f"a node of {what}", id, NODE_ID)
    if list(ids) != sorted(set(ids)):
        raise RingError(f"the nodes of {what} do not ascend")
