"""Says what is new in a ring that follows another: its writes, the nodes whose state changed, the jobs that ended.

Whoever reads a ring may have missed some before it; the ring's own history tells of those as well.
"""

from typing import Any, NamedTuple

from .ring import Ring, Write


class News(NamedTuple):
    """One thing that is new, as `runtime.events` has it."""

    kind: str
    sentence: str
    cause: str
    epoch: int
    fields: dict[str, Any]


def writes(before: Ring | None, after: Ring) -> list[News]:
    """The writes that lead from one ring to the other, as far as the later one remembers them. Of a ring that nothing
    went before, its last one."""
    known = before.epoch if before is not None else after.epoch - 1
    return [_write(after, each) for each in after.history if each.epoch > known]


def _write(ring: Ring, write: Write) -> News:
    fields: dict[str, Any] = {"job": write.job} if write.job else {}
    if write.outcome:
        fields["outcome"] = write.outcome
    if ring.change is not None and write.epoch == ring.epoch:
        fields |= {"change": ring.change.epoch, "phase": ring.change.phase}
    return News("ring", f"ring {write.epoch}: {write.what}", write.why, write.epoch, fields)


def states(before: Ring | None, after: Ring) -> list[News]:
    """The nodes whose state, or life, is another than before."""
    news = []
    were = before.by_id if before is not None else {}
    for node in after.nodes:
        was = were.get(node.id)
        if was is not None and (was.state, was.incarnation) == (node.state, node.incarnation):
            continue
        came_from = "was not in the ring" if was is None else f"was {was.state}"
        if was is not None and was.state == node.state:
            came_from = "in another life"
        fields = {"node": node.id, "state": node.state, "was": was.state if was is not None else None}
        fields["incarnation"] = node.incarnation
        cause = after.history[-1].why if after.history else ""
        news.append(News("state", f"{node.id} is {node.state} ({came_from})", cause, after.epoch, fields))
    return news


def jobs(before: Ring | None, after: Ring) -> list[News]:
    """The jobs that have ended."""
    known = before.epoch if before is not None else after.epoch - 1
    return [
        News("job", f"job {each.job} has ended: {each.what}", each.why, each.epoch,
             {"job": each.job, "outcome": each.outcome})
        for each in after.history
        if each.epoch > known and each.outcome
    ]  # fmt: skip
