"""Shows a ring to Redis clients: what CLUSTER SLOTS, SHARDS, NODES and INFO say of it.

Redis knows primaries and replicas of whole shards; a ring knows a preference list for every slot, so a node coordinates
some slots and is a successor for others. SLOTS and SHARDS have entries for sets of slots and can say that: there the
successors that are up follow their coordinator as its replicas. NODES has one line and one role for a node: there
everybody is a master. Clients that read roles from NODES (Lettuce, StackExchange.Redis) therefore find no replica, and
read at the coordinators. Every node of the cluster gives the same answers, but for the ``myself`` flag.

What clients make of SLOTS, by their sources and by trying. redis-py and node-redis take the role in which a node is
*first* named for its role altogether, and send what is for all primaries (DBSIZE, FLUSHALL, SCAN...) only to those; so
every coordinator is named as one before it is named as a successor, see `slots`. Then redis-py reads at successors,
since it says READONLY to everybody; so does go-redis. ioredis (``scaleReads``) says READONLY only to what is nobody's
master, and gives up after some MOVED, unless the program sees to it:

    cluster.on("+node", (node) => node.on("connect", () => node.readonly()))

node-redis (``useReplicas``) cannot be told: it gets there by MOVED, slowly. Better leave it off.
"""

import ipaddress

from .replies import Reply
from .ring import Node, Ring
from .slots import SLOTS, Run, runs


def slots(ring: Ring) -> Reply:
    """CLUSTER SLOTS: per run of slots first and last, then coordinator and up successors as [host, port, id, []].

    Where there are successors, one slot of each coordinator comes first and without them, so that it is known as a
    coordinator before it is named as anybody's successor; the price is that nobody reads these few slots elsewhere.
    """
    first: dict[str, Reply] = {}
    rows: list[Reply] = []
    with_successors = any(len(members) > 1 for _, members in _served(ring))
    for (start, end), members in _served(ring):
        shown: list[Reply] = [[node.host, node.port, _id(ring, node), []] for node in members]
        if with_successors and members[0].id not in first:
            first[members[0].id] = [start, start, shown[0]]
            start += 1
        if start <= end:
            rows.append([start, end, *shown])
    return [*first.values(), *rows]


def shards(ring: Ring) -> Reply:
    """CLUSTER SHARDS: one shard for each preference list and coordinator of it; a node is in several."""
    lists: dict[tuple[Node, ...], list[int]] = {}
    for run, (coordinator, members) in runs(list(zip(ring.coordinators, ring.lists, strict=True))):
        if coordinator is not None:
            members = (coordinator, *(node for node in members if node is not coordinator))
        lists.setdefault(members, []).extend((run.first, run.last))
    return [
        {
            "slots": ends,
            "nodes": [
                {
                    "id": _id(ring, node),
                    "port": node.port,
                    "ip": node.host,
                    "endpoint": node.host,
                    "role": "replica" if place else "master",
                    "replication-offset": ring.epoch,
                    "health": "online" if node is ring.coordinators[ends[0]] else HEALTH[node.state],
                }
                for place, node in enumerate(members)
            ],
        }
        for members, ends in lists.items()
    ]


def nodes(ring: Ring, myself: str) -> Reply:
    """CLUSTER NODES: a line per node, as ``redis-cli --cluster check`` reads it; one that is returning has no slots."""
    lines = []
    for node in ring.circle:
        hostname = "" if _is_ip(node.host) else f",{node.host}"
        flags = ("myself," if node.id == myself else "") + ("master,fail" if node.state == "down" else "master")
        link = "disconnected" if node.state == "down" else "connected"
        owned = "".join(f" {run}" for run in ring.coordinated_by(node.id))
        address = f"{node.host}:{node.port}@{node.bridge_port}{hostname}"
        lines.append(f"{ring.cluster_node_id(node.id)} {address} {flags} - 0 0 {ring.epoch} {link}{owned}\n")
    return "".join(lines)


def info(ring: Ring | None, myself: str) -> Reply:
    """CLUSTER INFO. ``cluster_current_epoch`` is the ring's epoch: a map from here is as new as that. Slots that are
    read and, for want of copies, not written count as ``pfail``."""
    if ring is None:
        figures: dict[str, object] = {"cluster_state": "fail", "cluster_slots_assigned": 0, "cluster_current_epoch": 0}
    else:
        covered = sum(run[1] - run[0] + 1 for run, _ in _served(ring))
        ailing = sum(each.slots.size for each in ring.trouble if ring.coordinators[each.slots.first] is not None)
        figures = {
            "cluster_state": "ok" if covered == SLOTS and ring.serving else "fail",
            "cluster_slots_assigned": SLOTS,
            "cluster_slots_ok": covered - ailing,
            "cluster_slots_pfail": ailing,
            "cluster_slots_fail": SLOTS - covered,
            "cluster_known_nodes": len(ring.circle),
            "cluster_size": sum(bool(ring.coordinated_by(node.id)) for node in ring.circle),
            "cluster_current_epoch": ring.epoch,
            "cluster_my_epoch": ring.epoch,
        }
    return "".join(f"{name}:{value}\r\n" for name, value in figures.items())


def successors(ring: Ring, id: str) -> tuple[Node, ...]:
    """The up successors of the slots that a node coordinates, clockwise: what Redis would call its replicas."""
    found = {node.id for _, members in _served(ring) if members[0].id == id for node in members[1:]}
    return tuple(node for node in ring.circle if node.id in found)


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
    for stretch in ring.stretches(Run(0, SLOTS - 1)):
        coordinator, members = ring.coordinators[stretch.first], ring.lists[stretch.first]
        successors = (node for node in members if node is not coordinator and node.state == "up")
        table += [() if coordinator is None else (coordinator, *successors)] * stretch.size
    return [((run.first, run.last), members) for run, members in runs(table) if members]


def _id(ring: Ring, node: Node) -> str:
    return ring.cluster_node_id(node.id)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


HEALTH = {"up": "online", "returning": "loading", "down": "fail", "out": "fail"}
