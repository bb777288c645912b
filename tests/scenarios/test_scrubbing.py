"""Copies that are not what they should be, in the simulation: found, said, made anew (R25); what mirrors take (R17);
disks that fail to sync (R16)."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ringkeeper.actors.member import HURT_SECONDS
from ringkeeper.actors.rules.slots import SLOTS, slot
from ringkeeper.runtime.store import Corrupt, Full, StoreError
from ringkeeper.runtime.store.layout import PREFIXES, Record, encode
from ringkeeper.runtime.store.store import SHARDS
from ringkeeper.scenarios.simulated import SimulatedCluster

pytestmark = pytest.mark.stories

KEY = b"k7"
SLOT = slot(KEY)
OTHER_KEY = b"k2"
"""In another slot of the same list."""
KEYS = 30


@contextmanager
def filled(seed: int, replicas: int = 3, pause_seconds: float = 1.0) -> Iterator[SimulatedCluster]:
    with SimulatedCluster(
        seed, nodes=3, replicas=replicas, scrub_bytes_per_second=1 << 20, scrub_pause_seconds=pause_seconds
    ) as cluster:
        cluster.run_until(cluster.serves, 30)
        for number in range(KEYS):
            key = f"k{number}"
            assert cluster.execute(list_of(cluster, key.encode())[0], "SET", key, "right", "EX", 1000) == b"OK"
        yield cluster


def bad_in_two_slots(cluster: SimulatedCluster, places: tuple[int, int]) -> tuple[dict[str, str], list[str]]:
    """Two members of a list have a bad record each, in slots of their own; all members' data ids, and who they are."""
    members = list_of(cluster)
    assert members == list_of(cluster, OTHER_KEY) and slot(OTHER_KEY) != SLOT
    bad = [members[place] for place in places]
    lie(cluster, bad[0], "another value")
    lie(cluster, bad[1], "another value", OTHER_KEY)
    return {id: cluster.machines[id].data_id for id in members}, bad


def list_of(cluster: SimulatedCluster, key: bytes = KEY) -> list[str]:
    ring = cluster.ring()
    assert ring is not None
    return [node.id for node in ring.lists[slot(key)]]


def record(cluster: SimulatedCluster, id: str, key: bytes = KEY) -> Record | None:
    return cluster.node(id).store.get(slot(key), key)


def lie(cluster: SimulatedCluster, id: str, how: str, key: bytes = KEY) -> None:
    """Have a node's disk say something else of the key than was written."""
    disk, disk_key = cluster.machines[id].disk.records, PREFIXES[slot(key)] + key
    data, right = disk.get(disk_key), record(cluster, id, key)
    assert data is not None and right is not None
    lies = {
        "a bit is flipped": data[:-6] + bytes([data[-6] ^ 1]) + data[-5:],
        "another value": encode(disk_key, Record(b"wrong", right.epoch, right.seq, right.expiry)),
        "another expiry": encode(disk_key, Record(right.value, right.epoch, right.seq, right.expiry + 1)),
        "nothing": None,
    }
    disk.lie(disk_key, lies[how])
    cluster.node(id).store._drop_shard(slot(key) % SHARDS)  # what is cached is not read


def history(cluster: SimulatedCluster) -> str:
    ring = cluster.ring()
    assert ring is not None
    return "\n".join(f"{write.what}: {write.why}" for write in ring.history)


def verify(cluster: SimulatedCluster) -> dict[str, Any]:
    """Have each node compare all that it coordinates; what they have found, together."""
    ids = [node.machine.id for node in cluster.nodes()]
    for id in ids:
        cluster.execute(id, "RING", "VERIFY", "START")
    cluster.run(1.0)
    said = [json.loads(cluster.execute(id, "RING", "VERIFY")) for id in ids]
    assert all(each["state"] == "done" for each in said)
    return {
        "different": sum(each["different"] for each in said),
        "sentences": [found["sentence"] for each in said for found in each["differences"]],
        "undecided": [sentence for each in said for sentence in each["undecided"]],
        "skipped": sum(each["skipped"] for each in said),
        "keys": sum(keys for each in said for _, keys in each["keys_by_slot"]),
    }


@pytest.mark.parametrize("how", ["a bit is flipped", "another value", "another expiry", "nothing"])
@pytest.mark.parametrize("place", [0, 2])
def test_of_three_copies_the_bad_one_is_found_and_made_anew(place: int, how: str) -> None:
    with filled(seed=place) as cluster:
        bad = list_of(cluster)[place]
        before = cluster.machines[bad].data_id
        lie(cluster, bad, how)
        cluster.run_until(lambda: cluster.machines[bad].data_id != before and cluster.serves(), 30)
        assert f"{bad} down: its copy is damaged" in history(cluster)
        assert KEY.decode() in history(cluster)
        records = {record(cluster, id) for id in list_of(cluster)}
        assert len(records) == 1 and {each.value for each in records if each} == {b"right"}
        aside = cluster.machines[bad].disk.aside
        assert aside is not None and len(list(aside.items(b"", b"\xff"))) >= KEYS - 1  # nothing was thrown away


def heal_one_by_one(
    cluster: SimulatedCluster, bad: list[str], before: dict[str, str], then_seconds: float = 0.0
) -> None:
    """The bad copies are made anew, never two of them at once; ``before``: the data directories by node."""
    up: set[int] = set()

    def are_healed() -> bool:
        ring = cluster.ring()
        up.add(sum(node.state == "up" for node in ring.circle) if ring is not None else 0)
        return all(cluster.machines[id].data_id != before[id] for id in bad) and cluster.serves()

    cluster.run_until(are_healed, 60)
    cluster.run(then_seconds)
    assert min(up) == 2, "both were away at once"


@pytest.mark.parametrize("places", [(0, 2), (1, 2)])
def test_of_three_copies_two_with_a_bad_record_each_are_made_anew_one_after_the_other(places: tuple[int, int]) -> None:
    with filled(seed=sum(places)) as cluster:
        members = list_of(cluster)
        other = "{k7}other"
        assert cluster.execute(members[0], "SET", other, "right") == b"OK"
        cluster.run(0.1)
        bad = [members[place] for place in places]
        before = {id: cluster.machines[id].data_id for id in members}
        lie(cluster, bad[0], "another value")
        lie(cluster, bad[1], "another value", other.encode())
        heal_one_by_one(cluster, bad, before)
        for key in (KEY, other.encode()):
            records = {record(cluster, id, key) for id in members}
            assert len(records) == 1 and {each.value for each in records if each} == {b"right"}
        assert verify(cluster)["different"] == 0
        (good,) = set(members) - set(bad)
        assert cluster.machines[good].data_id == before[good]


def test_of_two_bad_copies_that_would_answer_one_after_the_other_neither_is_the_source_of_the_other() -> None:
    with filled(seed=12) as cluster:
        members = list_of(cluster)
        other = "{k7}other"
        assert cluster.execute(members[0], "SET", other, "right") == b"OK"
        cluster.run(0.1)
        lie(cluster, members[0], "another value")
        lie(cluster, members[1], "another value", other.encode())
        cluster.run(5.0)
        found = verify(cluster)
        assert found["different"] == 1 and "right in all, and nothing is removed" in found["sentences"][0]
        assert cluster.serves() and "down" not in history(cluster)
        for key in (KEY.decode(), other):
            assert cluster.execute(members[0], "SET", key, "written anew") == b"OK"
        cluster.run(0.1)
        assert verify(cluster)["different"] == 0


@pytest.mark.parametrize("places", [(0, 2), (1, 2)])
def test_a_bad_record_is_not_taken_over_from_who_has_another_one_in_another_slot(places: tuple[int, int]) -> None:
    with filled(seed=1) as cluster:
        before, bad = bad_in_two_slots(cluster, places)
        heal_one_by_one(cluster, bad, before, then_seconds=10.0)
        (good,) = before.keys() - set(bad)
        assert cluster.machines[good].data_id == before[good]
        for key in (KEY, OTHER_KEY):
            records = {record(cluster, id, key) for id in before}
            assert len(records) == 1 and {each.value for each in records if each} == {b"right"}
        assert verify(cluster)["different"] == 0


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_of_who_would_coordinate_one_after_the_other_and_is_bad_in_a_slot_each_nobody_is_made_anew(
    places: tuple[int, int],
) -> None:
    with filled(seed=1) as cluster:
        before, bad = bad_in_two_slots(cluster, places)
        held = {(id, key): record(cluster, id, key) for id in before for key in (KEY, OTHER_KEY)}
        cluster.run(60.0)
        assert {(id, key): record(cluster, id, key) for id, key in held} == held
        assert {id: cluster.machines[id].data_id for id in before} == before and "down" not in history(cluster)
        found = verify(cluster)
        assert found["different"] == 2 and len(found["sentences"]) == 2
        assert len(found["undecided"]) == 1 and "nothing is removed" in found["undecided"][0]
        assert all(f"{id} in 1" in found["undecided"][0] for id in bad)
        for key in (KEY, OTHER_KEY):
            assert cluster.execute(list_of(cluster)[0], "SET", key, "written anew") == b"OK"
        cluster.run(5.0)  # a round that was under way may have met one of them before it was written
        cluster.run_until(cluster.serves, 30)
        found = verify(cluster)
        assert found["different"] == 0 and not found["undecided"]
        assert {each.value for id, key in held if (each := record(cluster, id, key))} == {b"written anew"}


def test_nobody_goes_before_a_round_has_seen_its_whole_list() -> None:
    with filled(seed=1, pause_seconds=1e6) as cluster:
        before, _ = bad_in_two_slots(cluster, (0, 2))  # the slot in which the coordinator is bad comes last
        coordinator, second, third = before
        for other in (second, third):
            cluster.world.network.delay(coordinator, other, 0.1)
        cluster.execute(coordinator, "RING", "VERIFY", "START", "REPAIR")

        def state() -> dict[str, Any]:
            return dict(json.loads(cluster.execute(coordinator, "RING", "VERIFY")))

        while not state()["different"]:
            cluster.run(0.1)
        assert state()["state"] == "running" and state()["different"] == 1
        cluster.run(0.5)
        assert state()["state"] == "running" and "down" not in history(cluster)
        cluster.run_until(lambda: f"{coordinator} down: its copy is damaged" in history(cluster), 30)
        cluster.run_until(cluster.serves, 30)
        assert f"{third} down" not in history(cluster)


def test_a_round_that_has_seen_half_of_a_list_as_it_is_has_nobody_go() -> None:
    with filled(seed=1, pause_seconds=1e6) as cluster:
        before, _ = bad_in_two_slots(cluster, (2, 0))  # the slot in which the coordinator is bad comes first
        coordinator, second, third = before
        cluster.world.network.delay(coordinator, third, 0.7)
        cluster.execute(coordinator, "RING", "VERIFY", "START", "REPAIR")

        def state() -> dict[str, Any]:
            return dict(json.loads(cluster.execute(coordinator, "RING", "VERIFY")))

        while not state()["different"]:
            cluster.run(0.1)
        cluster.kill(second)
        cluster.run_until(lambda: state_of(cluster, second) == "down", 10)
        cluster.start_node(second)
        cluster.run_until(lambda: state_of(cluster, second) == "up", 10)
        assert state()["state"] == "running" and state()["different"] == 1, "the list has changed too late"
        while state()["state"] == "running":
            cluster.run(0.1)
        cluster.run(5.0)
        assert state()["different"] == 2
        assert "damaged" not in history(cluster), "the third would take over what is wrong at the coordinator"


def test_while_all_is_well_nothing_is_found_though_clients_write_all_the_time() -> None:
    with filled(seed=4, pause_seconds=0.2) as cluster:
        client = cluster.client()
        left = [1000]

        def again(_: Any = None) -> None:
            left[0] -= 1
            if left[0]:
                client.call(("APPEND", "k7", "x"), again)

        again()
        cluster.run(1.0)
        assert left[0] < 900, "the load is no load"
        said = verify(cluster)
        assert (said["different"], said["skipped"], said["keys"]) == (0, 0, KEYS)
        assert "damaged" not in history(cluster)


def test_what_is_compared_anew_under_another_ring_counts_once() -> None:
    with filled(seed=10, pause_seconds=1e6) as cluster:
        ids = [node.machine.id for node in cluster.nodes()]
        for one in ids:
            for other in ids:
                if one != other:
                    cluster.world.network.delay(one, other, 0.05)
        for id in ids:
            cluster.execute(id, "RING", "VERIFY", "START")
        for limit in range(1, 6):
            cluster.execute(ids[0], "RING", "LIMIT", "BYTES_PER_SECOND", limit)
        cluster.run(20.0)
        said = [json.loads(cluster.execute(id, "RING", "VERIFY")) for id in ids]
        assert [each["state"] for each in said] == ["done"] * 3
        compared = [pair for each in said for pair in each["keys_by_slot"]]
        assert len(dict(compared)) == len(compared) == SLOTS and sum(dict(compared).values()) == KEYS


def test_slots_that_become_a_nodes_own_behind_its_cursor_do_not_count_as_compared() -> None:
    with filled(seed=11, pause_seconds=1e6) as cluster:
        ring = cluster.ring()
        assert ring is not None
        gone, heir, third = (node.id for node in ring.circle)
        own = {slot for run in ring.coordinated_by(heir) for slot in range(run.first, run.last + 1)}
        cluster.world.network.delay(heir, third, 0.05)
        cluster.execute(heir, "RING", "VERIFY", "START")
        cluster.run(0.5)
        state = json.loads(cluster.execute(heir, "RING", "VERIFY"))
        assert state["state"] == "running" and 0 < state["slots"] < len(own)
        cluster.kill(gone)
        cluster.run(10.0)
        state = json.loads(cluster.execute(heir, "RING", "VERIFY"))
        assert state["state"] == "done" and state["slots_total"] > len(own)
        assert {slot for slot, _ in state["keys_by_slot"]} == own and state["slots"] == len(own)


def test_of_two_copies_nobody_says_which_is_right_until_a_person_asks_for_it() -> None:
    with filled(seed=5, replicas=2) as cluster:
        _, successor = list_of(cluster)
        lie(cluster, successor, "another value")
        before = cluster.machines[successor].data_id
        cluster.run(5.0)
        found = verify(cluster)
        assert found["different"] == 1 and "nobody can say" in found["sentences"][0]
        assert cluster.serves() and "down" not in history(cluster)
        cluster.execute(list_of(cluster)[0], "RING", "VERIFY", "START", "REPAIR")
        cluster.run_until(lambda: cluster.machines[successor].data_id != before and cluster.serves(), 30)
        assert record(cluster, successor) == record(cluster, list_of(cluster)[0])
        assert verify(cluster)["different"] == 0


def test_a_bad_copy_that_a_client_meets_is_not_waited_for_by_the_scrubber() -> None:
    with filled(seed=6, pause_seconds=1e6) as cluster:
        coordinator = list_of(cluster)[0]
        lie(cluster, coordinator, "a bit is flipped")
        told = str(cluster.execute(coordinator, "GET", KEY))
        assert told.startswith("TRYAGAIN") and "is not what was written" in told
        cluster.run_until(lambda: "its copy is damaged" in history(cluster), 5)
        ring = cluster.ring()
        follower = ring.coordinators[SLOT] if ring is not None else None
        assert follower is not None and follower.id == list_of(cluster)[1]
        cluster.run_until(cluster.serves, 30)
        assert cluster.execute(coordinator, "GET", KEY) == b"right"


def test_the_last_copy_that_is_up_stays_however_damaged() -> None:
    with filled(seed=7) as cluster:
        kept, *others = list_of(cluster)
        for id in others:
            cluster.kill(id)
        cluster.run_until(lambda: history(cluster).count(" down") >= 1, 10)
        lie(cluster, kept, "a bit is flipped")
        cluster.run(2.0)
        cluster.execute(kept, "GET", KEY)
        cluster.run(5.0)
        ring = cluster.ring()
        assert ring is not None and ring.by_id[kept].state == "up" and "damaged" not in history(cluster)
        for id in others:
            cluster.start_node(id)
        cluster.run_until(lambda: "its copy is damaged" in history(cluster), 60)  # now it can be spared
        cluster.run_until(cluster.serves, 60)
        right = record(cluster, others[0])
        assert right is not None and record(cluster, kept) == right


def why_last(cluster: SimulatedCluster, id: str) -> str:
    return str(json.loads(cluster.execute(id, "RING", "JOBS"))["jobs"][-1]["why"])


@pytest.mark.parametrize("words", [("SET", "k7", "anew"), ("DEL", "k7")])
@pytest.mark.parametrize("min_copies", [1, 2])
def test_a_damaged_record_that_nobody_else_has_keeps_others_from_returning_until_it_is_written_or_deleted(
    min_copies: int, words: tuple[str, ...]
) -> None:
    with SimulatedCluster(8, nodes=3, replicas=2, min_copies=min_copies) as cluster:
        kept, returning = filled_list(cluster)
        lie(cluster, kept, "a bit is flipped")
        if min_copies == 1:
            cluster.kill(returning)
        else:  # with its disk it would be complete, and the other one made equal to it
            cluster.lose_disk(returning)
        cluster.run(5.0)
        cluster.start_node(returning)
        cluster.run_until(lambda: "no key has passed" in history(cluster), 60)
        assert f"{kept} cannot read key b'k7' of slot {SLOT}" in why_last(cluster, kept)
        assert "write or delete that key" in why_last(cluster, kept)
        if min_copies > 1:
            assert str(cluster.execute(kept, *words)).startswith("NOREPLICAS")
            cluster.execute(kept, "RING", "REPLICAS", 2, "MIN", 1)
            cluster.run(5.0)
        assert str(cluster.execute(kept, "GET", KEY)).endswith("unless other nodes have copies of what was in it.")
        assert cluster.execute(kept, *words) == (b"OK" if words[0] == "SET" else 1)
        cluster.run_until(lambda: "its copy is damaged" in history(cluster), 120)  # all others are up by then
        cluster.run_until(cluster.serves, 60)
        records = {record(cluster, id) for id in list_of(cluster)}
        assert {each.value if each else None for each in records} == {b"anew" if words[0] == "SET" else None}


def test_a_coordinator_that_reads_a_ring_late_compares_all_the_same() -> None:
    """The others have read it, and cannot say anything to who asks in the one before; that it asked is no attempt."""
    with filled(seed=4, pause_seconds=1000.0) as cluster:
        late, *others = list_of(cluster)
        for server in cluster.zookeeper.names:
            cluster.world.network.delay(server, late, 0.3)
        before = ring_of(cluster, others[0])
        cluster.execute(others[0], "RING", "LIMIT", "BYTES_PER_SECOND", str(1 << 30))
        cluster.run_until(lambda: min(ring_of(cluster, id) for id in others) > before, 5.0)
        assert ring_of(cluster, late) == before
        assert verify(cluster)["skipped"] == 0


def ring_of(cluster: SimulatedCluster, id: str) -> int:
    """The epoch of the ring that a node obeys."""
    return int(cluster.node(id).actor("storage").ring_epoch)


def test_a_bad_record_that_is_met_at_a_start_has_the_copy_made_anew() -> None:
    with filled(seed=8) as cluster:
        bad = list_of(cluster)[1]
        cluster.kill(bad)
        lie(cluster, bad, "a bit is flipped")
        before = cluster.machines[bad].data_id
        cluster.run(1.0)
        cluster.start_node(bad)
        cluster.run_until(lambda: cluster.machines[bad].data_id != before, 30)
        cluster.run_until(cluster.serves, 30)
        assert record(cluster, bad) == record(cluster, list_of(cluster)[0])


def test_the_only_copy_starts_with_a_bad_record_and_keeps_all_others() -> None:
    """Its successor has lost its disk; that the ring still has that down as complete does not make it a copy."""
    with SimulatedCluster(3, nodes=3, replicas=2) as cluster:
        a, b = filled_list(cluster)
        lie(cluster, a, "a bit is flipped")
        cluster.lose_disk(b)
        cluster.run(2.0)
        cluster.start_node(b)
        cluster.run_until(lambda: state_of(cluster, b) == "returning", 10)
        cluster.run(1.0)
        before = cluster.machines[a].data_id
        cluster.kill(a)
        cluster.run(1.0)
        cluster.start_node(a)
        cluster.run(60.0)
        assert cluster.machines[a].data_id == before
        ours = keys_of(cluster, [a, b])
        assert len(ours) > 2 and [key for key in ours if not readable(cluster, a, key)] == [KEY.decode()]


@pytest.mark.parametrize("replicas", [2, 3])
def test_copies_that_are_all_bad_in_one_record_each_lose_nothing_when_all_are_killed(replicas: int) -> None:
    """Each has what another one cannot read: none of them goes, and none is put aside by what it alone knows."""
    with SimulatedCluster(3, nodes=3, replicas=replicas) as cluster:
        members = filled_list(cluster)
        ours = keys_of(cluster, members)
        for id, key in zip(members, ours, strict=False):
            lie(cluster, id, "a bit is flipped", key.encode())
        before = [cluster.machines[id].data_id for id in members]
        ids = [node.machine.id for node in cluster.nodes()]
        for id in ids:
            cluster.kill(id)
        cluster.run(1.0)
        for id in ids:
            cluster.start_node(id)
        cluster.run(60.0)
        assert [cluster.machines[id].data_id for id in members] == before
        bad = dict(zip(ours, members, strict=False))
        assert {key: [id for id in members if not readable(cluster, id, key)] for key in ours} == {
            key: [bad[key]] if key in bad else [] for key in ours
        }


def test_a_bad_record_is_no_reason_to_go_for_who_has_died_and_nobody_knows_it() -> None:
    with SimulatedCluster(3, nodes=3, replicas=2) as cluster:
        a, b = filled_list(cluster)
        before, ours = cluster.machines[a].data_id, keys_of(cluster, [a, b])
        lie(cluster, a, "a bit is flipped")
        cluster.lose_disk(b)
        assert str(cluster.execute(a, "GET", KEY)).startswith("TRYAGAIN") and state_of(cluster, b) == "up"
        cluster.run(10.0)
        assert state_of(cluster, a) == "up", "as the last one"
        cluster.start_node(b)
        cluster.run(60.0)
        assert cluster.machines[a].data_id == before
        assert [key for key in ours if not readable(cluster, a, key)] == [KEY.decode()] != ours


def test_a_bad_record_is_no_reason_to_go_for_who_has_what_a_power_cut_took_of_the_other() -> None:
    """With two copies: the one that is back is complete by what is written down, and is not whole (R16)."""
    with SimulatedCluster(1, nodes=2, replicas=2) as cluster:
        a, b = filled_list(cluster)
        cluster.run(5.0)
        lie(cluster, a, "a bit is flipped")
        late = [f"{{k7}}{number}" for number in range(30)]
        for key in late:
            assert cluster.execute(a, "SET", key, "acknowledged") == b"OK"
            cluster.run(0.03)
        cluster.cut_power(b)
        cluster.run_until(lambda: state_of(cluster, b) == "down", 30)
        cluster.start_node(b)
        cluster.run_until(lambda: state_of(cluster, b) == "returning", 30)
        assert not all(readable(cluster, b, key) for key in late), "the power cut took nothing"
        cluster.run(60.0)
        assert all(cluster.execute(list_of(cluster)[0], "GET", key) == b"acknowledged" for key in late)


def test_what_the_first_to_be_back_after_a_power_cut_of_all_has_kept_is_salvaged() -> None:
    """It is written down as complete no more, since the ring still called the others up, and they have lost it."""
    with SimulatedCluster(1, nodes=3, replicas=3, recovery_wait_seconds=5.0) as cluster:
        cluster.run_until(cluster.serves, 30)
        first, *others = list_of(cluster)
        assert cluster.execute(first, "SET", KEY, "before") == b"OK"
        cluster.run(3.0)
        assert cluster.execute(first, "SET", KEY, "acknowledged") == b"OK"
        cluster.machines[first].disk.records.sync()
        for id in (first, *others):
            cluster.cut_power(id)
        cluster.run(0.2)
        for id, seconds in ((first, 1.0), (others[0], 0.5), (others[1], 0.0)):
            cluster.start_node(id)
            cluster.run(seconds)
        values = [found.value for id in (first, *others) if (found := record(cluster, id)) is not None]
        assert values == [b"acknowledged", b"before", b"before"], "the power cut took it of the others"
        cluster.run_until(cluster.serves, 90)
        found = record(cluster, first)
        assert found is not None and found.value == b"before"
        assert salvaged(cluster, first) == [(KEY.decode(), "acknowledged")]


def filled_list(cluster: SimulatedCluster) -> list[str]:
    """Keys are written; nothing of them is in a node's cache. Returns the list of KEY."""
    cluster.run_until(cluster.serves, 30)
    for number in range(KEYS):
        key = f"k{number}"
        assert cluster.execute(list_of(cluster, key.encode())[0], "SET", key, "right") == b"OK"
    cluster.run(3.0)
    for node in cluster.nodes():
        for shard in range(SHARDS):
            node.store._drop_shard(shard)
    return list_of(cluster)


def keys_of(cluster: SimulatedCluster, members: list[str]) -> list[str]:
    return [key for key in (f"k{number}" for number in range(KEYS)) if list_of(cluster, key.encode()) == members]


def readable(cluster: SimulatedCluster, id: str, key: str) -> bool:
    """Whether a node holds a key, and its disk says what was written."""
    try:
        return record(cluster, id, key.encode()) is not None
    except Corrupt:
        return False


def state_of(cluster: SimulatedCluster, id: str) -> str:
    ring = cluster.ring()
    assert ring is not None
    return ring.by_id[id].state


def answered_alone(cluster: SimulatedCluster, before_it_dies: Callable[[], object] = lambda: None) -> str:
    """Has the coordinator of KEY answer alone and die, and KEY written anew without it; says who that was."""
    cluster.run_until(cluster.serves, 30)
    coordinator, *others = list_of(cluster)
    for number in range(30):
        keep = f"{{k7}}{number}"
        assert cluster.execute(coordinator, "SET", keep, "everywhere") == b"OK"
    cluster.run(1.0)
    cluster.partition(coordinator, tuple(others))
    cluster.execute(coordinator, "SET", KEY, "here alone")  # where all must hold it, it is in doubt, and here as well
    before_it_dies()
    cluster.kill(coordinator)
    cluster.heal()
    cluster.run(5.0)
    assert cluster.execute(others[0], "SET", KEY, "later") == b"OK"
    return coordinator


def salvaged(cluster: SimulatedCluster, id: str) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in cluster.machines[id].disk.salvage.content.splitlines()]
    return [(line["key"], line["value"]) for line in lines]


def test_what_the_coordinator_alone_has_answered_is_salvaged_when_it_returns() -> None:
    with SimulatedCluster(9, nodes=3, replicas=3, acks="one") as cluster:
        coordinator = answered_alone(cluster)
        cluster.start_node(coordinator)
        cluster.run_until(cluster.serves, 60)
        assert salvaged(cluster, coordinator) == [("k7", "here alone")]
        others = list_of(cluster)[1:]
        assert not any(cluster.machines[id].disk.salvage.content for id in others)
        assert record(cluster, coordinator) == record(cluster, others[0])


def test_what_an_older_value_of_the_same_tenure_replaces_is_salvaged() -> None:
    with SimulatedCluster(9, nodes=3, replicas=3, acks="one") as cluster:
        cluster.run_until(cluster.serves, 30)
        coordinator, successor, _ = list_of(cluster)
        assert cluster.execute(coordinator, "SET", KEY, "before") == b"OK"
        cluster.run(1.0)
        cluster.node(coordinator).bridge.faults.drop("Append", to="*")
        assert cluster.execute(coordinator, "SET", KEY, "here alone") == b"OK"
        assert cluster.execute(coordinator, "SET", "{k7}new", "here alone too") == b"OK"
        cluster.kill(coordinator)
        cluster.run(5.0)
        assert cluster.execute(successor, "GET", KEY) == b"before"
        cluster.start_node(coordinator)
        cluster.run_until(cluster.serves, 60)
        assert sorted(salvaged(cluster, coordinator)) == [("k7", "here alone"), ("{k7}new", "here alone too")]


def robbed_and_up_alone(cluster: SimulatedCluster) -> tuple[str, str, str]:
    """A power cut has taken KEY and {k7}new of who is up alone; who else is complete has them, and is down; a third one
    died before."""
    cluster.run_until(cluster.serves, 30)
    robbed, other, complete = list_of(cluster)
    cluster.kill(other)
    cluster.run(4.0)
    assert cluster.execute(robbed, "SET", KEY, "before") == b"OK"
    cluster.run(3.0)
    assert cluster.execute(robbed, "SET", KEY, "acknowledged") == b"OK"
    assert cluster.execute(robbed, "SET", "{k7}new", "acknowledged too") == b"OK"
    cluster.cut_power(robbed)
    cluster.kill(complete)
    cluster.run(10.0)
    cluster.start_node(robbed)
    found = record(cluster, robbed)
    assert found is not None and found.value == b"before", "the power cut took nothing"
    cluster.run_until(lambda: state_of(cluster, robbed) == "up", 15)
    return robbed, complete, other


def test_what_a_recovery_that_did_not_wait_takes_is_salvaged() -> None:
    with SimulatedCluster(2, nodes=3, replicas=3, recovery_wait_seconds=5.0) as cluster:
        robbed, complete, other = robbed_and_up_alone(cluster)
        cluster.start_node(other)
        cluster.start_node(complete)
        cluster.run_until(cluster.serves, 60)
        assert record(cluster, complete) == record(cluster, robbed)
        assert sorted(salvaged(cluster, complete)) == [("k7", "acknowledged"), ("{k7}new", "acknowledged too")]


def test_who_may_lack_something_is_not_whole_by_being_up_alone_and_gives_way_to_who_has_it() -> None:
    with SimulatedCluster(2, nodes=3, replicas=3, recovery_wait_seconds=5.0, out_after_seconds=0) as cluster:
        robbed, complete, other = robbed_and_up_alone(cluster)
        cluster.run(1.0)
        assert not cluster.machines[robbed].whole
        cluster.kill(robbed)
        cluster.run(3.0)
        cluster.start_node(robbed)
        cluster.start_node(complete)
        cluster.run_until(lambda: state_of(cluster, robbed) == state_of(cluster, complete) == "up", 60)
        cluster.run_until(lambda: cluster.machines[robbed].whole, 5)  # it was made equal
        cluster.start_node(other)
        cluster.run_until(cluster.serves, 60)
        assert {found.value for id in list_of(cluster) if (found := record(cluster, id))} == {b"acknowledged"}
        assert not salvaged(cluster, complete)


def test_who_may_lack_something_is_whole_when_a_person_has_said_that_nobody_else_will_come() -> None:
    with SimulatedCluster(2, nodes=3, replicas=3, recovery_wait_seconds=5.0, out_after_seconds=0) as cluster:
        robbed, *_ = robbed_and_up_alone(cluster)
        cluster.run(1.0)
        assert not cluster.machines[robbed].whole
        cluster.execute(robbed, "PING")  # the connection to its former life
        cluster.execute(robbed, "RING", "RECOVER", robbed)
        cluster.run_until(lambda: "LOSS ACCEPTED" in history(cluster), 10)
        cluster.run_until(lambda: cluster.machines[robbed].whole, 5)


@pytest.mark.parametrize("restarted", [False, True])
def test_who_is_half_made_equal_to_one_that_may_lack_something_gives_way_to_who_has_everything(restarted: bool) -> None:
    with SimulatedCluster(3, nodes=3, replicas=3, recovery_wait_seconds=20.0, out_after_seconds=0) as cluster:
        cluster.run_until(cluster.serves, 30)
        robbed, half, all_of_it = list_of(cluster)
        keys = [key for key in (f"k{number}" for number in range(200)) if list_of(cluster, key.encode())[0] == robbed]
        cluster.execute(robbed, "RING", "LIMIT", "BYTES_PER_SECOND", 1000)
        cluster.run(3.0)
        for key in keys:
            assert cluster.execute(robbed, "SET", key, "acknowledged") == b"OK"
        disk = cluster.machines[robbed].disk
        disk.lose_power = lambda: setattr(disk, "records", disk.records.crash())  # type: ignore[method-assign]
        cluster.kill("ecs-1")  # so that all are found gone together
        cluster.cut_power(robbed)
        cluster.kill(half)
        cluster.kill(all_of_it)
        cluster.run(8.0)
        cluster.restart("ecs-1")
        cluster.run(8.0)
        cluster.start_node(robbed)
        cluster.run_until(lambda: state_of(cluster, robbed) == "up", 60)
        cluster.start_node(half)
        cluster.run_until(lambda: bool(salvaged(cluster, half)), 30)
        assert not cluster.machines[half].whole
        cluster.kill(robbed)
        if restarted:
            cluster.restart(half)
        cluster.run(8.0)
        assert not all(readable(cluster, half, key) for key in keys), "nothing was taken"
        assert state_of(cluster, half) == "returning", "it has waited for who may have more"
        cluster.start_node(all_of_it)
        cluster.run_until(lambda: state_of(cluster, half) == state_of(cluster, all_of_it) == "up", 60)
        assert all(readable(cluster, half, key) and readable(cluster, all_of_it, key) for key in keys)
        cluster.run_until(lambda: cluster.machines[half].whole, 5)


def test_what_was_answered_alone_while_the_ring_said_so_is_salvaged_though_it_says_all_by_then() -> None:
    with SimulatedCluster(9, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)

        def default(acks: str) -> None:
            reply = json.loads(cluster.execute(list_of(cluster)[1], "RING", "DEFAULT", "ACKS", acks))
            ring = cluster.ring()
            assert reply["acks"] == acks and ring is not None and ring.acks == acks
            cluster.run(0.1)

        default("one")
        coordinator = answered_alone(cluster, lambda: default("all"))
        cluster.start_node(coordinator)
        cluster.run_until(cluster.serves, 60)
        assert salvaged(cluster, coordinator) == [("k7", "here alone")]


@pytest.mark.parametrize("asked", [False, True])
def test_what_a_connection_wanted_to_be_answered_alone_is_salvaged(asked: bool) -> None:
    with SimulatedCluster(10, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)
        if asked:
            assert cluster.execute(list_of(cluster)[0], "RING", "ACKS", "one") == b"OK"
        coordinator = answered_alone(cluster)
        cluster.start_node(coordinator)
        cluster.run_until(cluster.serves, 60)
        assert salvaged(cluster, coordinator) == [("k7", "here alone")] * asked


def test_what_a_node_alone_has_answered_is_salvaged_before_slots_are_dropped_that_have_become_others() -> None:
    with SimulatedCluster(9, nodes=3, replicas=3, acks="one") as cluster:
        former = answered_alone(cluster)
        new = cluster.new_node(joins=False)
        cluster.run(1.0)
        asked = next(id for id in list_of(cluster) if id != former)
        cluster.execute(asked, "RING", "REPLACE", former, new)
        cluster.run_until(lambda: new in list_of(cluster), 30)
        cluster.start_node(former)
        cluster.run_until(lambda: cluster.node(former).store.keys == 0, 60)
        assert salvaged(cluster, former) == [("k7", "here alone")]  # of the others nothing: there they have copies


def test_who_was_given_up_keeps_what_it_holds_until_it_is_a_member_again() -> None:
    with SimulatedCluster(9, nodes=4, replicas=3, out_after_seconds=2.0) as cluster:
        former = answered_alone(cluster)
        cluster.run_until(lambda: former not in list_of(cluster), 30)
        new = cluster.new_node()  # another change is in the way
        for id in list_of(cluster):
            cluster.partition(id, new)
        cluster.run(3.0)
        cluster.start_node(former)
        keys = cluster.node(former).store.keys
        cluster.run(20.0)
        assert cluster.node(former).store.keys == keys > 0


# Disks that fail to sync


def fail_once(cluster: SimulatedCluster, id: str, failure: StoreError | None = None) -> list[bool]:
    """The next sync of a node's disk fails, and none after it; the list says whether that has come."""
    disk = cluster.node(id).store.disk
    right, failed = disk.sync, list[bool]()

    def sync() -> None:
        if failed:
            return right()
        failed.append(True)
        raise failure if failure is not None else StoreError("input/output error")

    disk.sync = sync  # type: ignore[method-assign]
    return failed


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_who_failed_to_sync_once_leaves_its_lists_to_others_and_is_made_equal(fsync: str) -> None:
    with SimulatedCluster(9, nodes=3, replicas=3, fsync=fsync) as cluster:
        cluster.run_until(cluster.serves, 30)
        coordinator, second, _ = list_of(cluster)
        life, machine = cluster.node(coordinator).incarnation, cluster.machines[coordinator]
        failed = fail_once(cluster, coordinator)
        said = cluster.execute(coordinator, "SET", KEY, "x")
        cluster.run_until(lambda: bool(failed) and not cluster.serves(), 5)
        cluster.run_until(lambda: cluster.node(coordinator).incarnation != life, 5)
        assert not machine.whole, "whatever was synced since"
        cluster.run_until(lambda: answers(cluster, second), 10)
        if fsync == "everysec":  # it was acknowledged
            assert said == b"OK" and cluster.execute(second, "GET", KEY) == b"x"
        cluster.run_until(cluster.serves, 30)
        assert machine.whole and cluster.execute(coordinator, "SET", KEY, "y") == b"OK"
        assert len({record(cluster, id) for id in list_of(cluster)}) == 1


def answers(cluster: SimulatedCluster, id: str) -> bool:
    ring = cluster.ring()
    assert ring is not None
    node = ring.coordinators[SLOT]
    if node is None or node.id != id or ring_of(cluster, id) != ring.epoch:
        return False
    return not cluster.node(id).actor("storage").readiness()


def test_a_learner_that_failed_to_sync_once_is_made_equal_all_the_same() -> None:
    with SimulatedCluster(9, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)
        for number in range(50):
            cluster.execute(list_of(cluster, b"a%d" % number)[0], "SET", f"a{number}", "x")
        gone = list_of(cluster)[2]
        cluster.kill(gone)
        cluster.run(5.0)
        cluster.start_node(gone)
        failed = fail_once(cluster, gone)
        cluster.run_until(lambda: bool(failed), 10)
        assert not cluster.serves()
        cluster.run_until(cluster.serves, 30)


@pytest.mark.parametrize("nodes", [1, 3])
def test_who_failed_to_sync_and_has_the_only_copy_goes_on_with_what_it_has(nodes: int) -> None:
    with SimulatedCluster(9, nodes=nodes, replicas=1) as cluster:
        cluster.run_until(cluster.serves, 30)
        (coordinator,) = list_of(cluster)
        life = cluster.node(coordinator).incarnation
        failed = fail_once(cluster, coordinator)
        assert cluster.execute(coordinator, "SET", KEY, "x") == b"OK"
        cluster.run_until(lambda: cluster.node(coordinator).incarnation != life, 5)
        cluster.run_until(lambda: answers(cluster, coordinator), 10)
        assert failed and cluster.execute(coordinator, "GET", KEY) == b"x"
        cluster.run_until(cluster.serves, 10)
        assert cluster.machines[coordinator].whole, "it was taken for the best that is left"


def test_who_failed_to_sync_as_the_last_that_was_up_lets_one_keep_the_list_that_did_not() -> None:
    with SimulatedCluster(9, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)
        last, second, third = list_of(cluster)
        assert cluster.execute(last, "SET", KEY, "x") == b"OK"
        cluster.kill(third)
        cluster.run(5.0)
        fail_once(cluster, last)
        assert cluster.execute(last, "SET", KEY, "y") == b"OK"
        cluster.kill(second)
        cluster.run_until(lambda: not cluster.machines[last].whole, 5)
        cluster.run(5.0)
        assert not answers(cluster, last), "it may lack what the other one has"
        cluster.start_node(second)
        cluster.run_until(lambda: answers(cluster, last), 10)
        assert f"kept: 0-5460 by {second}" in history(cluster), "and it was made equal to that one"
        cluster.start_node(third)
        cluster.run_until(cluster.serves, 30)
        assert cluster.execute(last, "GET", KEY) == b"y"


@pytest.mark.parametrize("failure", [StoreError("input/output error"), Full("no space left on device")])
def test_who_failed_to_sync_and_was_killed_before_it_had_ended_is_not_believed(failure: StoreError) -> None:
    with SimulatedCluster(2, nodes=3, replicas=3, recovery_wait_seconds=5.0, out_after_seconds=0) as cluster:
        cluster.run_until(cluster.serves, 30)
        last, second, third = list_of(cluster)
        cluster.kill(third)
        cluster.run(4.0)
        assert cluster.execute(last, "SET", KEY, "before") == b"OK"
        cluster.run(3.0)
        machine = cluster.machines[last]
        failed = fail_once(cluster, last, failure)
        assert cluster.execute(last, "SET", KEY, "x") == b"OK"
        cluster.run_until(lambda: bool(failed), 3)
        cluster.run(0.05)
        if cluster.process(last).alive:
            cluster.kill(last)
        machine.disk.records = machine.disk.records.crash()  # the system has dropped what it could not write
        cluster.kill(second)
        cluster.run(8.0)
        for id in (last, second, third):
            if not cluster.process(id).alive:
                cluster.start_node(id)
            cluster.run(1.0)
        cluster.run_until(cluster.serves, 60)
        assert cluster.execute(list_of(cluster)[0], "GET", KEY) == b"x"


def test_who_had_no_room_to_sync_leaves_its_lists_to_others_and_is_made_equal() -> None:
    with SimulatedCluster(9, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)
        coordinator, second, _ = list_of(cluster)
        failed = fail_once(cluster, coordinator, Full("no space left on device"))
        assert cluster.execute(coordinator, "SET", KEY, "x") == b"OK"
        cluster.run_until(lambda: bool(failed) and answers(cluster, second), 10)
        assert cluster.execute(second, "GET", KEY) == b"x"
        cluster.run_until(cluster.serves, 30)
        assert len({record(cluster, id) for id in list_of(cluster)}) == 1


def test_nodes_that_had_no_room_to_sync_at_the_same_time_keep_what_no_disk_has_until_they_are_restarted_in_turn() -> (
    None
):
    """As on one disk: each one's next life has lost what was acknowledged."""
    with SimulatedCluster(9, nodes=3, replicas=3, out_after_seconds=0) as cluster:
        cluster.run_until(cluster.serves, 30)
        ids = list_of(cluster)
        assert cluster.execute(ids[0], "SET", KEY, "before") == b"OK"
        cluster.run(3.0)
        failed = {id: fail_once(cluster, id, Full("no space left on device")) for id in ids}
        lives = {id: cluster.machines[id].lives for id in ids}
        assert cluster.execute(ids[0], "SET", KEY, "acknowledged") == b"OK"
        cluster.run(20.0)
        assert all(failed.values()) and {id: cluster.machines[id].lives for id in ids} == lives
        for id in ids:
            cluster.kill(id)
            cluster.machines[id].disk.records = cluster.machines[id].disk.records.crash()
            cluster.run(3.0)
            cluster.start_node(id)
            cluster.run_until(lambda id=id: state_of(cluster, id) == "up", 60)  # type: ignore[misc]
        assert cluster.execute(list_of(cluster)[0], "GET", KEY) == b"acknowledged"


def test_a_learner_that_had_no_room_to_sync_is_made_equal_all_the_same() -> None:
    with SimulatedCluster(2, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)
        coordinator, _, learner = list_of(cluster)
        cluster.kill(learner)
        cluster.run(4.0)
        assert cluster.execute(coordinator, "SET", KEY, "x") == b"OK"
        cluster.start_node(learner)
        failed = fail_once(cluster, learner, Full("no space left on device"))
        cluster.run_until(lambda: bool(failed), 10)
        assert not cluster.serves()
        cluster.run_until(cluster.serves, 30)


@pytest.mark.parametrize("failure", [StoreError("input/output error"), Full("no space left on device")])
def test_who_cannot_sync_for_long_starts_again_now_and_then_and_the_others_answer_meanwhile(
    failure: StoreError,
) -> None:
    """Here it can start, whatever its disk does; a process that cannot write its small files ends."""
    with SimulatedCluster(9, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)
        coordinator, second, _ = list_of(cluster)
        disk, machine = cluster.node(coordinator).store.disk, cluster.machines[coordinator]
        right, lives = disk.sync, machine.lives

        def sync() -> None:
            raise failure

        disk.sync = sync  # type: ignore[method-assign]
        cluster.execute(coordinator, "SET", KEY, "x")
        cluster.run_until(lambda: answers(cluster, second), 10)
        answered = 0
        for number in range(180):
            answered += any(cluster.execute(id, "SET", KEY, f"{number}") == b"OK" for id in list_of(cluster))
            cluster.run(1.0)
        assert answered >= 170 and 3 <= machine.lives - lives <= 180 / HURT_SECONDS + 1
        disk.sync = right  # type: ignore[method-assign]
        cluster.run_until(cluster.serves, 60)
        assert len({record(cluster, id) for id in list_of(cluster)}) == 1


def test_who_has_no_room_to_sync_and_the_only_copy_does_not_start_again_which_would_make_none() -> None:
    with SimulatedCluster(9, nodes=3, replicas=1) as cluster:
        cluster.run_until(cluster.serves, 30)
        (coordinator,) = list_of(cluster)
        life = cluster.node(coordinator).incarnation
        fail_once(cluster, coordinator, Full("no space left on device"))
        cluster.execute(coordinator, "SET", KEY, "x")
        cluster.run(5.0)
        assert cluster.node(coordinator).incarnation == life and not cluster.machines[coordinator].whole
        assert str(cluster.execute(coordinator, "GET", KEY)).startswith("MISCONF")
        cluster.kill(coordinator)
        cluster.start_node(coordinator)  # somebody has made room
        cluster.run_until(lambda: answers(cluster, coordinator), 30)
        assert cluster.execute(coordinator, "GET", KEY) == b"x"
