"""Three nodes with copies of each other's slots, and whatever can happen to them in any order.

Clients append tokens of one length to a few keys, so a reply says where its token is. Messages arrive, links are lost,
time passes; rings call nodes down (which may go on and know nothing of it), name new lives, and raise those that
return; each node reads the newest ring sooner or later, and rings in between not at all. Afterwards everything is
repaired, and:

-   what was acknowledged is there, at the place that its reply had named; at every node, once;
-   what was refused definitely is nowhere (R6);
-   what was read was true: a beginning of what is there at the end, with all that had been acknowledged before (R21);
-   all copies are equal.
"""

from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from ringkeeper.actors.messages import LATER, PeerGone
from ringkeeper.actors.rules.ring import Node
from ringkeeper.tests.actors.rules.rings import founded
from ringkeeper.tests.actors.trio import Place, Trio

IDS = [node.id for node in founded(3, 3).circle]
KEYS = ["a", "b", "c", "d"]
TOKEN = 4
"""Characters of a token."""

nodes, keys = st.sampled_from(IDS), st.sampled_from(KEYS)
links = st.sampled_from([(one, other) for one in IDS for other in IDS if one != other])


class Write(NamedTuple):
    """A token that was appended."""

    place: Place
    key: str
    token: bytes


class Read(NamedTuple):
    """A read, and what had been acknowledged when it was asked for."""

    place: Place
    key: str
    acknowledged: frozenset[bytes]


class Copies(RuleBasedStateMachine):
    """What can happen, a rule each."""

    def __init__(self) -> None:
        super().__init__()
        self.trio = Trio()
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self.ended: list[tuple[str, str]] = []
        """Lives whose processes have ended."""

    @initialize()
    def start(self) -> None:
        self.trio.start()

    # Clients

    @rule(key=keys, id=nodes)
    def append_anywhere(self, key: str, id: str) -> None:
        token = b"%04d" % len(self.writes)
        (place,) = self.trio.send(id, f"APPEND {key} {token.decode()}")
        self.writes.append(Write(place, key, token))

    @rule(key=keys, count=st.integers(1, 3))
    def append(self, key: str, count: int) -> None:
        for _ in range(count):
            if (id := self.trio.coordinator(key)) is not None:
                self.append_anywhere(key, id)

    @rule(key=keys, other=nodes)
    def append_and_reach_one(self, key: str, other: str) -> None:
        """One of the two that have to hold it, and its acknowledgement comes back."""
        if (id := self.trio.coordinator(key)) not in (None, other):
            assert id is not None
            self.append_anywhere(key, id)
            for link in ((id, other), (other, id)):
                while self.trio.step(*link):
                    pass

    @rule(key=keys, id=nodes)
    def read_anywhere(self, key: str, id: str) -> None:
        acknowledged = frozenset(write.token for write in self.writes if write.key == key and self._is_done(write))
        (place,) = self.trio.send(id, f"GET {key}")
        self.reads.append(Read(place, key, acknowledged))

    @rule(key=keys)
    def read_everywhere(self, key: str) -> None:
        for id in IDS:
            self.read_anywhere(key, id)

    @rule(key=keys, id=nodes, line=st.sampled_from(["SET {0}x 1", "DEL {0}x", "SET {0}x 2 KEEPTTL"]))
    def change(self, key: str, id: str, line: str) -> None:
        self.trio.send(id, line.format(key))

    # The network, and time

    @rule(link=links, count=st.integers(1, 5))
    def arrive(self, link: tuple[str, str], count: int) -> None:
        for _ in range(count):
            self.trio.step(*link)

    @rule()
    def arrive_all(self) -> None:
        self.trio.deliver()

    @rule(link=links)
    def lose(self, link: tuple[str, str]) -> None:
        self.trio.lose(*link)

    @rule(seconds=st.sampled_from([0.02, 0.15, 0.3, 1.2]))
    def pass_time(self, seconds: float) -> None:
        self.trio.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.1, 0.5]))
    def run(self, seconds: float) -> None:
        self.trio.run(seconds)

    # Rings

    @rule(id=nodes)
    def read_ring(self, id: str) -> None:
        self.trio.read(id)
        self.trio.confirm_ring(id)

    @rule()
    def read_ring_everywhere(self) -> None:
        for id in IDS:
            self.read_ring(id)

    @rule(ids=st.sets(nodes, min_size=1, max_size=2))
    def call_down(self, ids: set[str]) -> None:
        """They go on until they read that."""
        going = [id for id in sorted(ids) if self._node(id).state in ("up", "returning") and self._others_up(*ids)]
        if going:
            self.trio.down(*going)

    @rule(id=nodes)
    def depose(self, id: str) -> None:
        """All know of it but the one that it is about."""
        self.call_down({id})
        for other in IDS:
            if other != id:
                self.read_ring(other)
        for _ in range(10):
            for link in ((one, other) for one in IDS for other in IDS if id not in (one, other) and one != other):
                self.arrive(link, 1)

    @rule(id=nodes)
    def restart(self, id: str) -> None:
        if self._others_up(id):
            self.ended.append((id, self.trio[id].incarnation))
            self.trio.restart(id)

    @precondition(lambda self: self.ended)
    @rule(id=nodes, which=st.integers(0, 100))
    def hear_of_an_end(self, id: str, which: int) -> None:
        node, incarnation = self.ended[which % len(self.ended)]
        if node != id:
            self.trio[id].harness.tell(PeerGone(node=node, incarnation=incarnation))
            self.trio._hear(self.trio[id])

    @rule()
    def go_on_with_the_change(self) -> None:
        """What the ECS would do next to raise those that return."""
        trio = self.trio
        if trio.ring.change is None:
            if any(node.state == "returning" for node in trio.ring.nodes):
                trio.begin_return()
        elif trio.reached(trio.ring.change.phase):
            if trio.ring.change.phase == "seal":
                trio.commit()
            else:
                trio.advance_change()

    # What has to be

    def teardown(self) -> None:
        try:
            self._repair()
            self._compare()
        finally:
            self.trio.stop()

    def _repair(self) -> None:
        trio = self.trio
        for id in IDS:
            if self._node(id).state == "down":
                trio.restart(id)
        for _ in range(50):
            self.read_ring_everywhere()
            trio.run(0.2, step=0.2)
            self.go_on_with_the_change()
            if all(node.state == "up" for node in trio.ring.nodes):
                break
        for _ in range(6):
            self.read_ring_everywhere()
            trio.run(0.4, step=0.2)
        assert all(node.state == "up" for node in trio.ring.nodes), trio.ring.nodes

    def _compare(self) -> None:
        trio = self.trio
        for id in IDS[1:]:
            assert not trio.difference(IDS[0], id)
        values = {key: trio.value(IDS[0], key) or b"" for key in KEYS}
        for write in self.writes:
            reply, tokens = trio.replies[write.place], _tokens(values[write.key])
            found = tokens.count(write.token)
            if self._is_done(write):
                assert found == 1 and tokens[int(reply[1:]) // TOKEN - 1] == write.token, (write, reply, values)
            elif reply is LATER:
                assert found <= 1 and self._has_ended(write.place), (write, "still waits")
            else:
                assert found == 0 or (found == 1 and reply.startswith(b"-INDOUBT")), (write, reply, values)
        for read in self.reads:
            reply = trio.replies[read.place]
            if reply is None or reply[:1] == b"$":
                value = reply.partition(b"\r\n")[2][:-2] if reply is not None else b""
                assert values[read.key].startswith(value), (read, reply, values)
                assert read.acknowledged <= set(_tokens(value)), (read, reply, values)
            else:
                assert reply is not LATER or self._has_ended(read.place), (read, "still waits")

    def _is_done(self, write: Write) -> bool:
        return bool(self.trio.replies[write.place][:1] == b":")

    def _has_ended(self, place: Place) -> bool:
        """Whether the life that was asked is over: the connection with it."""
        return self.trio.born[place[0]] > place[1]

    def _node(self, id: str) -> Node:
        return self.trio.ring.by_id[id]

    def _others_up(self, *ids: str) -> bool:
        return any(node.state == "up" and node.id not in ids for node in self.trio.ring.nodes)


def _tokens(value: bytes) -> list[bytes]:
    return [value[at : at + TOKEN] for at in range(0, len(value), TOKEN)]


TestCopies: Any = Copies.TestCase
TestCopies.settings = settings(
    max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
