"""Copies, where a moment matters: faults between two messages of a takeover, of a return, of a ring that is read late.

Each of these once lost something, served something that was lost later, or stood still for ever. In the simulation,
where such a moment can be met exactly; what is only to be seen between two messages is shown by the nodes of ``trio``.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ringkeeper.actors.messages import LATER, Append, PeerGone
from ringkeeper.actors.replicator import BEAT_SECONDS
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.actors.storage_node import UNHELD_SECONDS_MAX
from ringkeeper.actors.tenures import LEASE_OVER_SECONDS
from ringkeeper.runtime.faults import Fault
from ringkeeper.runtime.simulation.resp_caller import ErrorReply
from ringkeeper.runtime.store import StoreError
from ringkeeper.scenarios.simulated import SimulatedCluster
from ringkeeper.tests.actors.trio import Trio

pytestmark = pytest.mark.stories

OLD, NEW = b"old", b"new"
OK = b"+OK\r\n"


class Copies:
    """A steady cluster; ``a`` coordinates the slot of the keys, ``b`` and ``c`` are its successors, in this order."""

    def __init__(self, nodes: int = 3, replicas: int = 3, min_copies: int = 2) -> None:
        self.cluster = SimulatedCluster(1, nodes=nodes, replicas=replicas, min_copies=min_copies, actors_may_fail=True)
        self.until(self.cluster.serves)
        self.run(2.0)
        self.a = self.ring.circle[-1].id
        self.tag = self.tag_of(self.a)
        self.slot = slot_of(self.tag.encode())
        _, self.b, *others = [node.id for node in self.ring.lists[self.slot]]
        self.c = others[0] if others else ""
        self.x = f"{self.tag}x"
        assert self.ask(self.a, "SET", self.x, OLD) == b"OK"

    @property
    def ring(self) -> Ring:
        ring = self.cluster.ring()
        assert ring is not None
        return ring

    @property
    def phase(self) -> str:
        """Of the change in flight; "" if there is none."""
        return self.ring.change.phase if self.ring.change is not None else ""

    @property
    def coordinator(self) -> str | None:
        node = self.ring.coordinators[self.slot]
        return node.id if node is not None else None

    def tag_of(self, id: str) -> str:
        """A hash tag whose slot a node coordinates."""
        tags = (f"{{tag{n}}}" for n in range(10_000))
        coordinators = self.ring.coordinators
        return next(tag for tag in tags if (node := coordinators[slot_of(tag.encode())]) is not None and node.id == id)

    def state(self, id: str) -> str:
        return self.ring.by_id[id].state

    def all_up(self) -> bool:
        return self.cluster.serves()

    def storage(self, id: str) -> Any:
        return self.cluster.node(id).actor("storage")

    def has_read(self, id: str) -> bool:
        """Whether a node obeys the newest ring, and has taken over what that gives it."""
        storage = self.storage(id)
        return storage._epoch == self.ring.epoch and not storage._tenures.taking

    def value(self, id: str, key: str) -> bytes | None:
        """What is in a node's store."""
        record = self.cluster.node(id).store.get(slot_of(key.encode()), key.encode())
        return record.value if record is not None else None

    def content(self, id: str) -> dict[bytes, Any]:
        """What is in a node's store of the slot: its number, and every record with its version."""
        store = self.cluster.node(id).store
        records = store.scan(self.slot, self.slot, None, 1 << 20, 1 << 30)
        return {b"": store.number(self.slot)} | {key: record for _, key, record in records}

    # Time and faults

    def run(self, seconds: float) -> None:
        self.cluster.run(seconds)

    def until(self, condition: Callable[[], bool], seconds_max: float = 30.0) -> None:
        self.cluster.run_until(condition, seconds_max)

    def die(self, *ids: str) -> None:
        """They are killed, and the ring says so."""
        for id in ids:
            self.cluster.kill(id)
        self.until(lambda: all(self.state(id) == "down" for id in ids))

    def come_back(self, *ids: str) -> None:
        for id in ids:
            if not self.cluster.process(id).alive:
                self.cluster.start_node(id)
        self.until(self.all_up, 60.0)

    def lose(self, sender: str, receiver: str = "*", what: str = "Append") -> Fault:
        """From now on these messages never arrive."""
        return self.cluster.node(sender).bridge.faults.drop(what, to=self._bridge(receiver))

    def hold(self, sender: str, what: str, receiver: str = "*") -> Fault:
        """These messages arrive when it is released."""
        return self.cluster.node(sender).bridge.faults.hold(what, to=self._bridge(receiver))

    def release(self, sender: str, fault: Fault) -> None:
        self.cluster.node(sender).bridge.faults.release(fault)

    def _bridge(self, id: str) -> str:
        if id == "*":
            return id
        host, _, port = id.rpartition(":")
        return f"{host}:{int(port) + 10_000}"

    # Requests

    def send(self, id: str, *words: bytes | str) -> list[Any]:
        """Ask a node; the list gets the reply when there is one."""
        replies: list[Any] = []
        self.cluster._caller(f"caller of {len(self.cluster._callers)}").call(id, words, replies.append, 20.0)
        return replies

    def ask(self, id: str, *words: bytes | str) -> Any:
        return self.cluster.execute(id, *words, seconds_max=6.0)

    def read(self) -> Any:
        """What a client reads of x: at whoever answers for it."""
        assert self.coordinator is not None
        return self.ask(self.coordinator, "GET", self.x)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What actors log of these faults is not worth reading."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def copies(request: pytest.FixtureRequest) -> Iterator[Copies]:
    """Three nodes with three copies, unless a test says otherwise."""
    copies = Copies(**getattr(request, "param", {}))
    yield copies
    copies.cluster.close()


def error(reply: Any) -> str:
    """The code of an error reply; "" for any other."""
    return str(reply).partition(" ")[0] if isinstance(reply, ErrorReply) else ""


# What a takeover must find (R18)


@pytest.mark.parametrize("parts", ["first", "all"])
def test_a_batch_that_came_in_several_messages_is_the_same_everywhere_after_a_takeover(
    copies: Copies, parts: str
) -> None:
    """Whichever of its messages had come to one successor, and none to the one that takes over."""
    a, b, c = copies.a, copies.b, copies.c
    keys = [f"{copies.tag}{n}" for n in range(3)]
    copies.lose(a, b)
    copies.send(a, "MSET", *(word for key in keys for word in (key, b"v" * 700_000)))
    copies.until(lambda: copies.value(c, keys[0] if parts == "first" else keys[-1]) is not None)
    copies.cluster.kill(a)
    assert (copies.value(c, keys[-1]) is None) == (parts == "first")
    copies.until(lambda: copies.state(a) == "down" and copies.has_read(b))
    copies.run(1.0)
    assert copies.cluster.process(b).alive, "it is in sync, and knows it"
    assert copies.content(b) == copies.content(c) and copies.value(b, keys[0]) is not None
    copies.come_back(a)
    assert copies.content(a) == copies.content(b) == copies.content(c)


def test_a_tail_longer_than_a_frame_is_taken_over(copies: Copies) -> None:
    a, b, c = copies.a, copies.b, copies.c
    copies.lose(a, b)
    for n in range(9):
        copies.send(a, "SET", f"{copies.tag}{n}", b"v" * (4 << 20))
    copies.until(lambda: copies.cluster.node(c).store.keys_in(copies.slot) == 10)
    copies.die(a)
    copies.until(lambda: copies.has_read(b), 3.0)
    assert copies.read() == OLD
    copies.run(1.0)
    assert copies.content(b) == copies.content(c) and len(copies.content(b)) == 11


@pytest.mark.parametrize("copies", [{"nodes": 4}], indirect=True)
def test_what_a_node_had_sent_to_nobody_is_not_lost_when_it_takes_over_its_own_slots_again(copies: Copies) -> None:
    """It has missed a ring in which slots moved (R13): the write that waited meanwhile is answered when all have it."""
    a, b, c = copies.a, copies.b, copies.c
    (other,) = {node.id for node in copies.ring.circle} - {a, b, c}
    copies.cluster.partition(a, "zookeeper")
    copies.die(other)
    copies.cluster.start_node(other)
    copies.until(lambda: copies.state(other) == "returning")
    lost = copies.lose(a)
    replies = copies.send(a, "SET", copies.x, NEW)
    copies.run(0.1)
    assert not replies and copies.value(a, copies.x) == NEW
    copies.cluster.heal()
    copies.until(lambda: copies.has_read(a), 5.0)
    copies.release(a, lost)
    copies.until(lambda: bool(replies), 10.0)
    assert replies == [b"OK"]
    assert copies.value(b, copies.x) == copies.value(c, copies.x) == NEW


@pytest.mark.parametrize("heir", ["the returning one", "the other one"])
def test_what_a_returning_node_got_before_the_commit_reaches_all_after_it(copies: Copies, heir: str) -> None:
    """The coordinator dies before it reads the commit: whoever is next, the other one gets it, and nobody is called
    not in sync."""
    a, b, c = copies.a, copies.b, copies.c
    back, other = (b, c) if heir == "the returning one" else (c, b)
    copies.die(back)
    copies.run(0.5)
    copies.cluster.start_node(back)
    copies.until(lambda: copies.phase == "seal")
    leader = copies.cluster.leader()
    assert leader is not None
    copies.cluster.world.network.delay(leader, "zookeeper", 0.1)  # the write gets there before the commit does
    copies.until(lambda: copies.storage(a)._part.ready_epoch == copies.ring.epoch, 3.0)
    copies.lose(a, other)
    copies.send(a, "SET", copies.x, NEW)
    copies.until(lambda: copies.phase == "", 5.0)
    assert copies.storage(a)._epoch < copies.ring.epoch and copies.value(back, copies.x) == NEW
    copies.die(a)
    copies.run(3.0)
    assert copies.cluster.process(b).alive and copies.cluster.process(c).alive
    assert copies.read() == NEW and copies.content(b) == copies.content(c)


def test_no_ready_while_what_a_walk_within_the_seal_has_brought_is_not_held_by_all(copies: Copies) -> None:
    """R9: the learner refuses one batch, so that it is walked through anew, and a chunk brings what is in no tail."""
    a, b, c = copies.a, copies.b, copies.c
    copies.die(b)
    copies.run(0.5)
    copies.cluster.start_node(b)
    copies.until(lambda: copies.phase == "seal")
    acknowledgements = copies.hold(b, "Replicated", a)
    copies.until(lambda: copies.has_read(a))
    copies.cluster.fill_disk(b)
    copies.send(a, "SET", f"{copies.tag}y", "refused")
    copies.run(0.03)
    copies.cluster.fill_disk(b, False)
    copies.release(b, acknowledgements)
    copies.run(0.05)
    lost = copies.lose(a, c)
    replies = copies.send(a, "SET", copies.x, NEW)
    copies.until(lambda: copies.value(b, copies.x) == NEW, 3.0)
    copies.run(0.3)
    assert copies.phase == "seal" and copies.value(c, copies.x) == OLD and not replies
    copies.release(a, lost)
    copies.until(lambda: copies.all_up() and bool(replies))
    assert copies.content(a) == copies.content(b) == copies.content(c)
    assert copies.read() == NEW


# What is not read, or not answered (R1, R6, R21)


def test_a_flushall_at_a_deposed_coordinator_is_in_doubt(copies: Copies) -> None:
    a, b, c = copies.a, copies.b, copies.c
    copies.cluster.partition(a, (b, c))
    replies = copies.send(a, "FLUSHALL")
    copies.until(lambda: bool(replies))
    assert error(replies[0]) == "INDOUBT"
    copies.cluster.heal()
    copies.come_back()
    assert copies.read() == OLD


def write_where_nobody_else_is_left(copies: Copies) -> list[Any]:
    """``c`` is dead, and ``b`` dies without having heard of a write; returns what a read that came before that is
    answered. The write is in doubt: ``a`` alone holds it, and ``b`` is written down as complete."""
    a, b, c = copies.a, copies.b, copies.c
    copies.die(c)
    copies.run(1.0)
    copies.lose(a, b)
    write = copies.send(a, "SET", copies.x, NEW)
    copies.run(0.02)
    early = copies.send(a, "GET", copies.x)
    copies.run(0.02)
    copies.die(b)
    copies.run(0.6)
    assert error(write[0]) == "INDOUBT"
    return early


def test_the_last_that_is_up_does_not_read_what_no_other_complete_one_holds(copies: Copies) -> None:
    """It is in doubt; and the other one may keep the list, so that who read it would see it taken back."""
    a, b, c = copies.a, copies.b, copies.c
    early = write_where_nobody_else_is_left(copies)
    assert not early
    assert error(copies.ask(a, "GET", copies.x)) == "TRYAGAIN"
    copies.die(a)
    copies.cluster.start_node(b)
    copies.until(lambda: copies.coordinator == b and copies.has_read(b))
    assert error(copies.ask(b, "GET", copies.x)) == "CLUSTERDOWN", "it does not know either what the other one holds"
    copies.come_back(a, c)
    assert copies.read() == OLD and copies.content(a) == copies.content(b) == copies.content(c)


@pytest.mark.parametrize("state", ["returning", "up"])
def test_who_is_the_first_to_be_back_shows_nothing_that_another_complete_one_may_lack(
    copies: Copies, state: str
) -> None:
    """What is dirty was in the memory of the life before; a keeper may be followed by another of the same record."""
    a, b, c = copies.a, copies.b, copies.c
    write_where_nobody_else_is_left(copies)
    copies.die(a)
    seen = []
    for keeper in (a, b):

        def reads(keeper: str = keeper) -> bool:
            return copies.coordinator == keeper and copies.state(keeper) == state and copies.has_read(keeper)

        copies.cluster.start_node(keeper)
        copies.until(reads)
        assert copies.value(keeper, copies.x) == (NEW if keeper == a else OLD)
        seen.append(error(copies.ask(keeper, "GET", copies.x)))
        copies.die(keeper)
    assert seen == ["CLUSTERDOWN"] * 2
    copies.come_back(a, b, c)
    assert copies.content(a) == copies.content(b) == copies.content(c)


LOOKS = (("KEYS", "*"), ("SCAN", "0"), ("DBSIZE",), ("RANDOMKEY",))
"""Reads that look at all slots of a node."""


@pytest.mark.parametrize("state", ["returning", "up"])
def test_who_is_the_first_to_be_back_names_and_counts_no_keys_that_another_complete_one_may_lack(
    copies: Copies, state: str
) -> None:
    """What looks at the whole node is answered as a GET is; else a key would be named that is gone a moment later. And
    a connection that may read what is old may not read that either."""
    a, b, c = copies.a, copies.b, copies.c
    copies.die(c)
    copies.lose(a, b)
    fresh = f"{copies.tag}fresh"
    writes = [copies.send(a, "SET", copies.x, NEW), copies.send(a, "SET", fresh, NEW)]
    copies.run(0.05)
    copies.die(b)
    copies.run(0.6)
    assert [error(reply) for write in writes for reply in write] == ["INDOUBT"] * 2
    copies.die(a)
    copies.cluster.start_node(a)
    copies.until(lambda: copies.coordinator == a and copies.state(a) == state and copies.has_read(a))
    copies.run(0.5)
    assert copies.value(a, fresh) == NEW
    assert [error(copies.ask(a, *look)) for look in LOOKS] == ["CLUSTERDOWN"] * len(LOOKS)
    caller = copies.cluster._caller("one that reads what is old")
    replies: list[Any] = []
    for words in (("READONLY",), ("GET", copies.x), ("GET", fresh), ("KEYS", "*")):
        caller.call(a, words, replies.append, 5.0)
    copies.until(lambda: len(replies) == 4)
    assert replies[0] == b"OK" and [error(reply) for reply in replies[1:]] == ["CLUSTERDOWN"] * 3
    copies.die(a)
    copies.cluster.start_node(b)
    copies.until(lambda: copies.coordinator == b and copies.has_read(b))
    copies.come_back(a, c)
    assert copies.read() == OLD and copies.ask(copies.coordinator or "", "GET", fresh) is None
    named = [copies.ask(node.id, "KEYS", f"{copies.tag}*") for node in copies.ring.circle]
    assert sorted(key for keys in named for key in keys) == [copies.x.encode()]


def test_a_look_at_the_whole_node_waits_for_what_is_being_taken_over(copies: Copies) -> None:
    """As a GET of it does: a count without it would look complete. What is not about those slots goes on."""
    a, b, c = copies.a, copies.b, copies.c
    mine = f"{copies.tag_of(b)}mine"
    assert copies.ask(b, "SET", mine, OLD) == b"OK"
    answers = copies.hold(c, "Tails", b)
    copies.cluster.kill(a)
    copies.until(lambda: bool(copies.storage(b)._tenures.taking))
    look, meanwhile = copies.send(b, "DBSIZE"), copies.send(b, "GET", mine)
    copies.run(0.05)
    assert not look and copies.storage(b)._tenures.taking
    copies.release(c, answers)
    copies.until(lambda: bool(look), 5.0)
    assert look == [2] and meanwhile == [OLD]


def test_a_look_at_the_whole_node_waits_for_what_not_all_hold(copies: Copies) -> None:
    """As a GET of the key does: a failure could still take the key back that it names (R1)."""
    a, b = copies.a, copies.b
    fresh = f"{copies.tag}fresh"
    held = copies.hold(a, "Append", b)
    write = copies.send(a, "SET", fresh, NEW)
    copies.run(0.05)
    looks = [copies.send(a, *look) for look in LOOKS]
    single = copies.send(a, "GET", fresh)
    copies.run(0.05)
    assert not any((write, single, *looks))
    copies.release(a, held)
    copies.until(lambda: all((write, single, *looks)))
    assert write == [b"OK"] and single == [NEW]
    assert sorted(looks[0][0]) == sorted([copies.x.encode(), fresh.encode()]) and looks[2] == [2]


def test_who_is_up_alone_after_all_had_died_reads_when_a_person_says_that_nobody_else_will_come(
    copies: Copies,
) -> None:
    """What it holds is all there is from then on, so what it shows cannot be taken back (R17)."""
    a, b, c = copies.a, copies.b, copies.c
    write_where_nobody_else_is_left(copies)
    copies.die(a)
    copies.cluster.start_node(a)
    copies.until(lambda: copies.state(a) == "up" and copies.has_read(a))
    assert error(copies.ask(a, "GET", copies.x)) == "CLUSTERDOWN"
    assert not isinstance(copies.ask(a, "RING", "RECOVER", a), ErrorReply)
    copies.until(lambda: copies.has_read(a))
    assert copies.ask(a, "GET", copies.x) == NEW
    copies.come_back(b, c)
    assert copies.read() == NEW and copies.content(a) == copies.content(b) == copies.content(c)


def test_the_last_that_is_up_does_not_read_what_it_alone_had_of_the_dead(copies: Copies) -> None:
    """The same where another one wrote it: the tail that its own replica has is not known to be held by all."""
    a, b, c = copies.a, copies.b, copies.c
    copies.lose(a, b)
    copies.send(a, "SET", copies.x, NEW)
    copies.until(lambda: copies.value(c, copies.x) == NEW)
    copies.die(a, b)
    copies.run(1.5)
    assert copies.coordinator == c and error(copies.read()) == "TRYAGAIN"
    copies.come_back(a, b)
    assert copies.read() == NEW and copies.content(a) == copies.content(b) == copies.content(c)


@pytest.mark.parametrize("copies", [{"nodes": 2, "replicas": 2}], indirect=True)
def test_the_last_that_is_up_is_not_replaced_since_the_other_could_not_read_what_is_in_doubt(copies: Copies) -> None:
    """The other would get it with everything else, and who was complete before may follow it (R11, R15)."""
    a, b = copies.a, copies.b
    copies.lose(a, b)
    copies.send(a, "SET", copies.x, NEW)
    copies.run(0.05)
    copies.die(b)
    copies.run(1.0)
    assert error(copies.read()) == "TRYAGAIN"
    new = copies.cluster.new_node(joins=False)
    copies.run(3.0)
    refused = copies.ask(a, "RING", "REPLACE", a, new)
    assert isinstance(refused, ErrorReply) and f"could not be read there without {b}" in str(refused)
    assert copies.coordinator == a and copies.phase == ""


def b_follows_and_does_not_read_then_c_follows(copies: Copies) -> None:
    """Each of them alone; in the end all are up."""
    a, b, c = copies.a, copies.b, copies.c
    copies.die(a)
    copies.until(lambda: copies.coordinator == b and copies.has_read(b))
    assert error(copies.read()) == "CLUSTERDOWN"
    copies.die(b)
    copies.cluster.start_node(c)
    copies.until(lambda: copies.coordinator == c and copies.has_read(c))
    copies.come_back(a, b)
    assert copies.content(a) == copies.content(b) == copies.content(c)


@pytest.mark.parametrize("copies", [{"min_copies": 3}], indirect=True)
def test_who_follows_in_a_list_in_trouble_does_not_read_what_a_complete_one_may_lack(copies: Copies) -> None:
    """What two that are up hold, the third, which is complete as well, need not: of that only the first knows."""
    a, b, c = copies.a, copies.b, copies.c
    copies.lose(a, c)
    copies.send(a, "SET", copies.x, NEW)
    copies.until(lambda: copies.value(b, copies.x) == NEW)
    copies.die(c)
    copies.run(1.0)
    assert error(copies.read()) == "TRYAGAIN"
    b_follows_and_does_not_read_then_c_follows(copies)
    assert copies.read() == OLD


@pytest.mark.parametrize("copies", [{"min_copies": 3}], indirect=True)
def test_who_follows_the_one_beside_which_it_was_raised_does_not_read_what_that_one_had_in_doubt(
    copies: Copies,
) -> None:
    a, b, c = copies.a, copies.b, copies.c
    faults = [copies.lose(a, other) for other in (b, c)]
    copies.send(a, "SET", copies.x, NEW)
    copies.run(0.05)
    copies.die(b, c)
    for fault in faults:
        copies.release(a, fault)
    copies.cluster.start_node(b)
    copies.until(lambda: copies.state(b) == "up", 60.0)
    assert copies.value(b, copies.x) == NEW
    b_follows_and_does_not_read_then_c_follows(copies)


@pytest.mark.parametrize("copies", [{"min_copies": 3}], indirect=True)
def test_those_that_are_up_read_when_a_person_says_that_the_last_will_not_come(copies: Copies) -> None:
    a, b, c = copies.a, copies.b, copies.c
    copies.die(a, b, c)
    copies.cluster.start_node(a)
    copies.cluster.start_node(b)
    copies.until(lambda: copies.state(a) == copies.state(b) == "up" and copies.has_read(a), 60.0)
    assert error(copies.read()) == "CLUSTERDOWN"
    for id in (a, b):
        assert not isinstance(copies.ask(a, "RING", "RECOVER", id), ErrorReply)
    copies.until(lambda: copies.has_read(a))
    assert copies.read() == OLD
    copies.come_back(c)
    assert copies.read() == OLD and copies.content(a) == copies.content(b) == copies.content(c)


def test_a_ring_that_was_read_and_could_not_be_kept_does_not_confirm_the_one_before(copies: Copies) -> None:
    """R21: alone, a node reads by the ring itself; one whose disk is full does not know the newest."""
    a, b, c = copies.a, copies.b, copies.c
    copies.die(b, c)
    copies.until(lambda: copies.has_read(a))
    assert copies.read() == OLD
    copies.cluster.partition(a, "zookeeper")
    copies.cluster.fill_disk(a)
    copies.until(lambda: copies.state(a) == "down")
    copies.cluster.start_node(b)
    copies.cluster.start_node(c)
    copies.until(lambda: copies.state(b) == copies.state(c) == "up" and copies.has_read(b), 60.0)
    assert copies.ask(b, "SET", copies.x, NEW) == b"OK"
    copies.cluster.heal()
    for _ in range(3):
        copies.run(2.0)
        assert error(copies.ask(a, "GET", copies.x)) in ("TRYAGAIN", "MOVED", "CLUSTERDOWN")
    copies.cluster.fill_disk(a, False)
    copies.come_back()
    assert copies.read() == NEW


# Nothing waits for ever, and nothing is kept for ever


def test_a_node_that_cannot_be_made_equal_keeps_no_other_from_being_raised(copies: Copies) -> None:
    a, b, c = copies.a, copies.b, copies.c
    copies.die(b, c)
    copies.cluster.fill_disk(c)
    copies.cluster.start_node(b)
    copies.cluster.start_node(c)
    copies.until(lambda: copies.state(b) == "up", 90.0)
    copies.until(lambda: copies.has_read(a))
    assert copies.ask(a, "SET", copies.x, NEW) == b"OK"
    copies.cluster.fill_disk(c, False)
    copies.come_back(c)


@pytest.mark.parametrize("deaths", [1, 6])
def test_nothing_is_kept_of_the_streams_of_lives_that_are_over(copies: Copies, deaths: int) -> None:
    a, b, c = copies.a, copies.b, copies.c
    copies.lose(a, c)
    for n in range(20):
        copies.send(a, "SET", f"{copies.tag}{n}", b"v" * 1000)
    copies.until(lambda: copies.cluster.node(b).store.keys_in(copies.slot) == 21)
    for death in range(deaths):
        if death:
            copies.come_back(a)
            copies.run(1.0)
        copies.die(a)
        copies.run(3.0)
    copies.run(5.0)
    assert copies.content(b) == copies.content(c) and len(copies.content(c)) == 22
    for id in (b, c):
        streams = copies.cluster.node(id).actor("replica")._streams.values()
        assert not any(stream.tail for stream in streams) and len(streams) <= 2


@pytest.mark.parametrize("copies", [{"nodes": 2, "replicas": 2}, {"nodes": 3}], indirect=True, ids=["two", "three"])
def test_reads_go_on_somewhere_though_one_of_the_last_two_is_not_heard_and_its_session_lives(copies: Copies) -> None:
    """As a loop that hangs while the thread that talks to ZooKeeper does not."""
    a, stuck, rest = copies.a, copies.b, copies.c
    if rest:
        copies.die(rest)
        copies.run(0.5)
    copies.cluster.partition(stuck, tuple(id for id in (a, rest) if id), one_way=True)
    copies.run(0.5)
    if rest:
        copies.cluster.start_node(rest)
    copies.run(8.0)
    for _ in range(3):
        assert copies.read() == OLD
        copies.run(5.0)
    copies.cluster.heal()
    copies.come_back()
    assert copies.ask(a, "SET", copies.x, NEW) == b"OK"


def test_what_was_parked_first_and_is_held_back_then_is_answered_as_soon_as_what_was_not_parked(copies: Copies) -> None:
    copies.cluster.kill("ecs-1")  # so that nobody is taken down
    backlog = copies.hold(copies.c, "Appended", copies.a)
    copies.run(1.5)
    began = copies.cluster.now
    write, read = copies.send(copies.a, "SET", copies.x, NEW), copies.send(copies.a, "GET", copies.x)
    copies.run(2.7)
    assert len(copies.storage(copies.a)._parked) == 2
    copies.release(copies.c, backlog)
    copies.until(lambda: not copies.storage(copies.a)._parked, 0.2)
    copies.hold(copies.c, "Appended", copies.a)
    copies.until(lambda: bool(write and read), 20.0)
    assert UNHELD_SECONDS_MAX < copies.cluster.now - began < UNHELD_SECONDS_MAX + 0.6
    assert str(write[0]).startswith("INDOUBT") and str(read[0]).startswith("TRYAGAIN")


# Between two messages


@pytest.fixture
def trio() -> Iterator[Trio]:
    trio = Trio().start()
    yield trio
    trio.stop()


def keys_of(trio: Trio, id: str) -> list[str]:
    """Some keys of lists that begin with a node."""
    keys = (f"key{n}" for n in range(100))
    return [key for key in keys if trio.ring.lists[slot_of(key.encode())][0].id == id]


def test_what_a_takeover_found_is_not_read_before_the_successor_holds_it(trio: Trio) -> None:
    """R18: that the successor knows of the ring, and of the tenure, does not mean that it has the tail."""
    a, b, c = (node.id for node in trio.ring.circle)
    key = trio.key(a)
    trio.still.add(c)
    trio.send(a, f"SET {key} new")
    trio.deliver()
    trio.lose(a)
    trio.still = {a}
    trio.down(a)
    trio.read(b, c)
    while trio[b].storage._tenures.taking:
        assert trio.step(b, c) or trio.step(c, b)
    while len(trio.under_way(b, c)) > 1:
        trio.step(b, c)
    trio.deliver(b)
    trio[b].harness.tell(PeerGone(node=a, incarnation=trio[a].incarnation))
    (begin,) = trio.under_way(b, c)
    assert isinstance(begin, Append) and begin.operations and begin.begins
    (place,) = trio.send(b, f"GET {key}")
    assert trio.value(c, key) is None and trio.replies[place] is LATER
    trio.deliver()
    assert trio.value(c, key) == NEW and trio.replies[place] == b"$3\r\nnew\r\n"


def test_whoever_takes_over_from_two_waits_for_each_of_their_leases_and_no_longer() -> None:
    """R21: the other one went while the first one's was waited for."""
    trio = Trio(5, replicas=4).start()
    first, second, third, *others = (node.id for node in trio.ring.circle)
    keys = [keys_of(trio, id)[0] for id in (first, second)]
    for gone in (second, first):
        trio.run(0.5)
        trio.lose(gone)
        trio.still.add(gone)
        trio.down(gone)
        trio.read(third, *others)
        trio.deliver()
    assert not trio[third].storage._tenures.taking
    places = [place for key in keys for place in trio.send(third, f"SET {key} new")]
    trio.deliver()
    assert [trio.replies[place] for place in places] == [LATER, LATER]
    trio.run(LEASE_OVER_SECONDS + 0.1)
    assert [trio.replies[place] for place in places] == [OK, OK]
    trio.stop()


def test_ready_stands_though_the_learner_refuses_a_batch_after_it(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """R12: the commit comes by that Ready, and brings by the stream what was refused."""
    a, b, c = (node.id for node in trio.ring.circle)
    trio.lose(c)
    trio.down(c)
    trio.read(a, b)
    trio.run(0.2)
    keys = keys_of(trio, a)
    trio.send(a, *(f"SET {key} old" for key in keys))
    trio.deliver()
    trio.restart(c)
    trio.read()
    trio.run(0.2)
    trio.begin_return()
    for phase in ("transfer", "switch", "seal"):
        trio.read()
        trio.run(3.0, until=lambda phase=phase: trio.reached(phase))  # type: ignore[misc]
        if phase != "seal":
            trio.advance_change()
    assert trio.reached("seal")

    def refuse(batch: object) -> None:
        raise StoreError("full")

    monkeypatch.setattr(trio[c].store.disk, "write", refuse)
    places = trio.send(a, f"SET {keys[0]} new")
    trio.deliver()
    monkeypatch.undo()
    for _ in range(20):
        trio.run(0.1)
        assert trio.reports[a].reached == "seal"
    places += trio.send(a, *(f"SET {key} new" for key in keys[1:]))
    trio.commit()
    trio.read()
    trio.run(0.5)
    assert all(trio.replies[place] == OK for place in places)
    assert not trio.difference(a, c) and not trio.difference(b, c)


def test_a_learner_that_has_all_there_is_lets_logs_and_tails_be_forgotten_though_no_write_concerned_it() -> None:
    """R5: from the switch on it counts, and what is written to other slots does not wait for it."""
    trio = Trio(4).start()
    a, b, c, d = (node.id for node in trio.ring.circle)
    trio.lose(d)
    trio.down(d)
    trio.read(a, b, c)
    trio.run(0.2)
    trio.restart(d)
    trio.read()
    trio.run(0.2)
    trio.begin_return()
    trio.read()
    trio.run(3.0, until=lambda: trio.reached("transfer"))
    trio.advance_change()
    trio.read()
    trio.run(3.0, until=lambda: trio.reached("switch"))
    key = keys_of(trio, a)[0]
    trio.send(a, *(f"SET {key} {n}" for n in range(10)))
    trio.run(3 * BEAT_SECONDS)
    replicator = trio[a].harness.system.find("replicator")
    assert replicator is not None
    actor: Any = replicator._actor_weakref()
    assert not actor._log
    for id in (b, c):
        assert trio.value(id, key) == b"9"
        assert not any(stream.tail for stream in trio[id].replica._streams.values())
    trio.stop()


def test_whose_equals_have_lost_their_disks_before_anybody_knew_goes_on_when_a_person_says_so() -> None:
    """Two lose their disks, and the third is back in another life before the ring has called them down: by that it may
    lack what they have acknowledged since, so only a person can know that they have not (R14, R17)."""
    copies = Copies()
    for id in (copies.b, copies.c):
        copies.cluster.lose_disk(id)
    copies.cluster.restart(copies.a)
    copies.run(15.0)
    for id in (copies.b, copies.c):
        copies.cluster.start_node(id)
    copies.run(10.0)
    assert copies.coordinator is None and {node.state for node in copies.ring.circle} == {"returning"}
    assert not isinstance(copies.ask(copies.a, "RING", "RECOVER", copies.a), ErrorReply)
    copies.until(copies.cluster.serves)
    assert copies.ask(copies.a, "GET", copies.x) == OLD
    assert "LOSS ACCEPTED" in " ".join(write.what for write in copies.ring.history)
