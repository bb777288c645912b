"""Shows plans, jobs and troubles to people and programs: the JSON of ``RING ADD``, ``REMOVE``, ``JOBS``, ``STATUS``.

Pure: what is known of a change (the ring, the plan, the coordinators' reports) goes in, plain values come out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from .messages import HandoffProgress
from .rules.change import Wish
from .rules.plan import Plan, Transfer
from .rules.rebalance import Placed, Rebalance
from .rules.ring import Ring, Trouble

Holdings = Mapping[Transfer, tuple[int, int]]
"""Keys and bytes that the source of a transfer holds of its slots, as far as they are known."""


def plan_view(what: str, plan: Plan, holdings: Holdings) -> dict[str, Any]:
    """What a change would move, or moves. Keys and bytes are null where a source has not said them."""
    rows = []
    for transfer in plan.transfers:
        keys, size = holdings.get(transfer, (None, None))
        rows.append(
            {
                "slots": str(transfer.slots),
                "size": transfer.slots.size,
                "source": transfer.source,
                "target": transfer.target,
                "keys": keys,
                "bytes": size,
            }
        )
    known = len(holdings) == len(plan.transfers)
    return {
        "what": what,
        "transfers": rows,
        "slots": sum(transfer.slots.size for transfer in plan.transfers),
        "keys": sum(keys for keys, _ in holdings.values()) if known else None,
        "bytes": sum(size for _, size in holdings.values()) if known else None,
        "shares": {id: list(shares) for id, shares in sorted(plan.shares.items())},
        "warnings": list(plan.warnings),
    }


def placed_view(places: Placed) -> dict[str, Any]:
    """Where nodes that come will stand, and which part of what each of them will have."""
    return {
        "how": places.how,
        "by": places.by,
        "nodes": {
            id: {"token": f"{token:032x}", "part": places.parts[id]} for id, token in sorted(places.tokens.items())
        },
    }


def balance_view(found: Rebalance) -> dict[str, Any]:
    """What tokens bring: each node's load before and after, in its parts; what they cost, and what that could be at
    least."""
    before, after = found.percents
    peak_before, peak_after = found.peaks
    return {
        "peak_before": peak_before,
        "peak_after": peak_after,
        "by": found.by,
        "threshold": found.threshold,
        "off_before": before / 100,
        "off_after": after / 100,
        "nodes": {
            id: {
                "before": load,
                "after": found.found.after[id],
                "part": float(found.found.fair[id]),
            }
            for id, load in sorted(found.found.before.items())
        },
        "copied_bytes": found.copied_bytes,
        "shifted": found.found.handed_over.shifted,
        "least": found.least,
        "of_least": found.of_least,
        "proven": found.found.proven,
        "hottest": [list(each) for each in found.hottest],
        "missing": list(found.missing),
        "why_not": "" if found.moves else _why_not(found),
    }


def _why_not(found: Rebalance) -> str:
    """Why nothing would move."""
    before, _ = found.percents
    if not sum(found.found.before.values()):
        return f"there are no {found.by} yet to balance by"
    if found.deviation_before <= found.threshold:
        return f"every share is within {found.threshold:.1%} of its part: the farthest is {before:.1f} % off"
    if found.least:
        return "no token can move for so few bytes"
    return "no tokens are better: slots cannot be divided"


def job_in_flight(ring: Ring, progress: Iterable[HandoffProgress]) -> dict[str, Any] | None:
    """The job whose change is in flight; None: there is none."""
    change = ring.change
    if change is None:
        return None
    rows = sorted(progress, key=lambda each: (each.first, each.target))
    keys, total = sum(each.keys for each in rows), sum(each.keys_total for each in rows)
    size, seconds = sum(each.bytes for each in rows), max((each.seconds for each in rows), default=0.0)
    rate = keys / seconds if seconds > 0 else 0.0
    left = max(0, total - keys) / rate if rate > 0 else None
    troubles = sorted({each.trouble for each in rows if each.trouble})
    return {
        **_job(ring, change.wish, change.phase, "; ".join(troubles)),
        "keys": keys,
        "keys_total": max(keys, total),
        "bytes": size,
        "bytes_per_second": size / seconds if seconds > 0 else 0.0,
        "seconds_left": left,
        "transfers": [
            {
                "slots": f"{each.first}-{each.last}",
                "source": each.source,
                "target": each.target,
                "keys": each.keys,
                "keys_total": max(each.keys, each.keys_total),
                "bytes": each.bytes,
                "state": each.state,
            }
            for each in rows
        ],
    }


def jobs_waiting(ring: Ring, because: Mapping[int, str]) -> list[dict[str, Any]]:
    """The jobs in the queue, in their order; ``because`` says by job why one cannot begin."""
    return [_job(ring, wish, "queued", because.get(wish.job, "")) for wish in ring.queue]


def jobs_ended(ring: Ring) -> list[dict[str, Any]]:
    """The jobs that the ring remembers to have ended, the last one last."""
    ended = [write for write in ring.history if write.outcome]
    return [
        {
            **_blank(write.job, write.what.rpartition(":")[0], str(write.outcome), write.why),
            "began_wall_seconds": _began(ring, write.job),
        }
        for write in ended
    ]


def lists_in_trouble(ring: Ring) -> list[dict[str, Any]]:
    """The lists with too few members up, why they take no writes, or nobody answers for them (R14)."""
    return [list_view(ring, each) for each in ring.trouble]


def list_view(ring: Ring, each: Trouble) -> dict[str, Any]:
    """One of them: its slots, its complete members and whether their data directories are back, who answers."""
    coordinator = ring.coordinators[each.slots.first]
    up = [node.id for node in ring.lists[each.slots.first] if node.state == "up"]
    return {
        "slots": str(each.slots),
        "complete": {
            id: ring.by_id[id].state if ring.by_id[id].data_id == data_id else "another directory"
            for id, data_id in each.complete
        },
        "keeper": each.keeper,
        "coordinator": coordinator.id if coordinator is not None else None,
        "up": up,
        "copies_needed": ring.copies_needed,
    }


def _job(ring: Ring, wish: Wish, state: str, why: str) -> dict[str, Any]:
    return {**_blank(wish.job, str(wish), state, why), "began_wall_seconds": _began(ring, wish.job)}


def _blank(job: int, what: str, state: str, why: str) -> dict[str, Any]:
    return {
        "job": job,
        "what": what,
        "state": state,
        "why": why,
        "keys": 0,
        "keys_total": 0,
        "bytes": 0,
        "bytes_per_second": 0.0,
        "seconds_left": None,
        "transfers": [],
    }


def _began(ring: Ring, job: int) -> float:
    return min((write.wall_seconds for write in ring.history if write.job == job), default=0.0)
