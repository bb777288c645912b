"""Shows a ring to Redis clients: what CLUSTER SLOTS, SHARDS, NODES and INFO say of it.

Redis knows primaries and replicas of whole shards; a ring knows a preference list for every slot. So a node appears as
the primary of the slots that it coordinates, and in SLOTS, where entries are per run of slots, its successors follow it
as replicas. Every node of the cluster gives the same answers, but for the ``myself`` flag.
"""

import ipaddress

from .replies import Reply
from .ring import Node, Ring
from .slots import SLOTS, runs


def slots(ring: Ring) -> Reply:
    """CLUSTER SLOTS: per run of slots first and last, then coordinator and up successors as [host, port, id, []]."""
    return [
        [first, last, *([node.host, node.port, _id(ring, node), []] for node in members)]
        for (first, last), members in _served(ring)
    ]


def shards(ring: Ring) -> Reply:
    """CLUSTER SHARDS: one shard per node, with the slots it coordinates."""
    return [
        {
            "slots": [end for run in ring.coordinated_by(node.id) for end in (run.first, run.last)],
            "nodes": [
                {
                    "id": _id(ring, node),
                    "port": node.port,
                    "ip": node.host,
                    "endpoint": node.host,
                    "role": "master",
                    "replication-offset": ring.epoch,
                    "health": _HEALTH[node.state],
                }
            ],
        }
        for node in ring.circle
    ]


def nodes(ring: Ring, myself: str) -> Reply:
    """CLUSTER NODES: a line per node, as ``redis-cli --cluster check`` reads it."""
    lines = []
    for node in ring.circle:
        hostname = "" if _is_ip(node.host) else f",{node.host}"
        flags = ("myself," if node.id == myself else "") + ("master" if node.state == "up" else "master,fail")
        link = "connected" if node.state == "up" else "disconnected"
        owned = "".join(f" {run}" for run in ring.coordinated_by(node.id))
        address = f"{node.host}:{node.port}@{node.bridge_port}{hostname}"
        lines.append(f"{ring.cluster_node_id(node.id)} {address} {flags} - 0 0 {ring.epoch} {link}{owned}\n")
    return "".join(lines)


def info(ring: Ring | None, myself: str) -> Reply:
    """CLUSTER INFO. ``cluster_current_epoch`` is the ring's epoch: a map from here is as new as that."""
    if ring is None:
        figures: dict[str, object] = {"cluster_state": "fail", "cluster_slots_assigned": 0, "cluster_current_epoch": 0}
    else:
        covered = sum(run[1] - run[0] + 1 for run, _ in _served(ring))
        figures = {
            "cluster_state": "ok" if covered == SLOTS and ring.serving else "fail",
            "cluster_slots_assigned": SLOTS,
            "cluster_slots_ok": covered,
            "cluster_slots_pfail": 0,
            "cluster_slots_fail": SLOTS - covered,
            "cluster_known_nodes": len(ring.circle),
            "cluster_size": sum(bool(ring.coordinated_by(node.id)) for node in ring.circle),
            "cluster_current_epoch": ring.epoch,
            "cluster_my_epoch": ring.epoch,
        }
    return "".join(f"{name}:{value}\r\n" for name, value in figures.items())


Served = list[tuple[tuple[int, int], tuple[Node, ...]]]

RINGS_REMEMBERED = 16
"""Of so many rings it is remembered who serves what: clients ask for it in swarms, and finding it out takes 5 ms."""

_remembered: list[tuple[Ring, Served]] = []


def _served(ring: Ring) -> Served:
    """Runs of slots that somebody answers for, with the coordinator first and its up successors after it."""
    for known, served in _remembered:
        if known is ring:
            return served
    _remembered.append((ring, _find_served(ring)))
    del _remembered[:-RINGS_REMEMBERED]
    return _remembered[-1][1]


def _find_served(ring: Ring) -> Served:
    table: list[tuple[Node, ...]] = []
    for coordinator, members in zip(ring.coordinators, ring.lists, strict=True):
        if coordinator is None:
            table.append(())
        elif coordinator is members[0] and len(members) == 1:
            table.append(members)
        else:
            table.append((coordinator, *(n for n in members if n is not coordinator and n.state == "up")))
    return [((run.first, run.last), members) for run, members in runs(table) if members]


def _id(ring: Ring, node: Node) -> str:
    return ring.cluster_node_id(node.id)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_HEALTH = {"up": "online", "returning": "loading", "down": "fail", "out": "fail"}
