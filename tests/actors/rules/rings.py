"""Makes rings for tests: by hand, and any that the rules allow."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import strategies as st
from ringkeeper.actors.rules.life import Registration, Stamp
from ringkeeper.actors.rules.placement import CIRCLE, Place
from ringkeeper.actors.rules.ring import Node, Ring
from ringkeeper.actors.rules.transitions import downed, found

CLUSTER_ID = "c" * 16


def hex64(number: int) -> str:
    return f"{number:016x}"


def registration(id: str, life: int = 1, held: Stamp | None = None, data_id: str | None = None) -> Registration:
    """Node ``host:port`` in its ``life``-th incarnation, by default always on the same data directory."""
    name, _, port = id.rpartition(":")
    host = name.strip("[]")
    return Registration(
        id=id,
        incarnation=hex64(int(port) * 1000 + life),
        data_id=data_id or hex64(int(port)),
        host=host,
        port=int(port),
        bridge_host=host,
        bridge_port=int(port) + 10_000,
        held=held,
    )


def ids(count: int, host: str = "127.0.0.1", first_port: int = 7001) -> list[str]:
    return [f"{host}:{first_port + index}" for index in range(count)]


def founded(nodes: int | Iterable[str], replicas: int = 1, min_copies: int = 2, how: Place = "even") -> Ring:
    names = ids(nodes) if isinstance(nodes, int) else nodes
    return found(
        [registration(id) for id in names],
        cluster_id=CLUSTER_ID,
        cluster_name="test",
        nonce=hex64(1),
        wall_seconds=1_700_000_000.0,
        replicas=replicas,
        min_copies=min_copies,
        how=how,
    )


def lost(ring: Ring, *gone: str) -> Ring:
    """The next ring, in which these nodes are down."""
    lives = {id: ring.by_id[id].incarnation for id in gone}
    return downed(ring, lives, why="gone", nonce=hex64(ring.epoch + 1), wall_seconds=1_700_000_000.0 + ring.epoch)


def kept(replicas: int) -> Ring:
    """A ring of three, all of which were down; the first on the circle is back and keeper of its own list."""
    ring = lost(founded(3, replicas), *ids(3))
    first = ring.circle[0]
    return replace(
        ring,
        nodes=(replace(first, state="returning"), *ring.circle[1:]),
        trouble=(replace(ring.trouble[0], keeper=first.id), *ring.trouble[1:]),
    )


def standing(tokens: dict[str, int], replicas: int = 1) -> Ring:
    """A ring with its nodes, all up, at these tokens."""
    return Ring(
        cluster_id=CLUSTER_ID,
        cluster_name="test",
        epoch=1,
        nonce=hex64(1),
        replicas=replicas,
        min_copies=2,
        place="md5",
        nodes=tuple(node(id, token) for id, token in tokens.items()),
    )


def node(id: str, token: int) -> Node:
    return Node(**registration(id).life(), token=token)


@st.composite
def all_up(draw: st.DrawFn, nodes_max: int = 12) -> Ring:
    """Any ring with every node up: tokens anywhere, often in the same slot, often on a slot's own position."""
    count = draw(st.integers(1, nodes_max))
    token = st.one_of(
        st.integers(0, CIRCLE - 1),
        st.builds(lambda slot, beside: ((slot << 114) + beside) % CIRCLE, st.integers(0, 16384), st.integers(-1, 1)),
        st.integers(0, 50),
    )
    tokens = draw(st.lists(token, min_size=count, max_size=count, unique=True))
    return standing(dict(zip(ids(count), tokens, strict=True)), replicas=draw(st.integers(1, 4)))


@st.composite
def any_ring(draw: st.DrawFn, nodes_max: int = 8) -> Ring:
    """Any ring that nodes going down, one after the other or together, can lead to."""
    ring = draw(all_up(nodes_max))
    for _ in range(draw(st.integers(0, 3))):
        up = [each.id for each in ring.nodes if each.state == "up"]
        if up:
            ring = lost(ring, *draw(st.sets(st.sampled_from(up), min_size=1)))
    return ring
