"""The client against a cluster of fakes that do exactly what a script says, and against a real Redis Cluster."""

import contextlib
import os
import pickle
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringkeeper.actors import client_engine, client_pacing, client_requests
from ringkeeper.actors.client import (
    Client,
    ClientError,
    Closed,
    CommandError,
    InDoubt,
    NoReplicas,
    NotDone,
    PartlyDone,
    Refused,
    Unavailable,
)
from ringkeeper.actors.client_links import LOOKS_LEFT, Connection, Flight, Node, exchange
from ringkeeper.actors.client_requests import Request
from ringkeeper.actors.rules.slots import SLOTS, slot
from ringkeeper.runtime.process import free_port
from ringkeeper.tests.actors.fake_cluster import (
    ASK,
    CLOSE,
    CLUSTERDOWN,
    EXECUTE,
    EXECUTE_CLOSE,
    EXECUTE_INDOUBT,
    INDOUBT,
    LARGE,
    LOADING,
    MOVED,
    NOREPLICAS,
    SILENT,
    TRYAGAIN,
    FakeCluster,
    encoded,
)

pytestmark = pytest.mark.usefixtures("no_socket_is_left_open")


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    with Client(cluster.address(0)) as client:
        yield client


def hurried(cluster: FakeCluster, seconds: float = 0.3) -> Client:
    """A client for operations that are to run out of time."""
    return Client(cluster.address(0), timeout_seconds=seconds)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)


# Commands and their values.


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (("GET", b"user:42"), "GET user:42"),
        (("RING", "REMOVE", "127.0.0.1:7001"), "RING REMOVE"),
        (("RING", "VERSION", "k"), "RING VERSION k"),
        (("ring",), "ring"),
        (("NEW.COMMAND", "k", "v"), "NEW.COMMAND k"),
        (("DBSIZE",), "DBSIZE"),
    ],
)
def test_an_error_calls_a_command_by_its_whole_name_and_its_key(words: tuple[Any, ...], label: str) -> None:
    assert str(client_requests.command(words, None, node="h:1")) == label


def test_what_was_set_is_read_back_from_every_node(cluster: FakeCluster, client: Client) -> None:
    for index in range(3):
        assert client.set(cluster.key(index), f"value {index}")
    assert [client.get(cluster.key(index)) for index in range(3)] == [b"value 0", b"value 1", b"value 2"]
    assert client.get("absent") is None
    assert client.statistics.moved == 0


def test_values_are_bytes_text_or_whole_numbers(client: Client) -> None:
    for value, stored in ((b"\0\xff", b"\0\xff"), ("grün", "grün".encode()), (-12, b"-12"), (bytearray(b"x"), b"x")):
        assert client.set("k", value)  # type: ignore[arg-type]
        assert client.get("k") == stored


@pytest.mark.parametrize("value", [1.5, True, None, ["a"]])
def test_a_value_without_a_plain_form_is_refused_before_anything_is_sent(
    cluster: FakeCluster, client: Client, value: Any
) -> None:
    with pytest.raises(TypeError, match="a value is bytes, str or int"):
        client.set("k", value)
    with pytest.raises(TypeError, match="a key is bytes or str"):
        client.get(value)
    assert cluster.log == []


def test_set_obeys_its_conditions(client: Client) -> None:
    assert client.set("k", 1, xx=True) is False
    assert client.set("k", 1, nx=True) is True
    assert client.set("k", 2, nx=True) is False
    assert client.set("k", 2, ifeq=9) is False
    assert client.set("k", 2, ifeq=1) is True
    assert client.set("k", 3, get=True) == b"2"
    with pytest.raises(ValueError, match="exclude each other"):
        client.set("k", 4, nx=True, xx=True)
    assert client.get("k") == b"3"


def test_commands_of_many_keys_reach_all_nodes(cluster: FakeCluster, client: Client) -> None:
    values = {f"key:{n}": f"value {n}" for n in range(50)}
    client.mset(values)
    assert len(cluster.values) == 50
    assert client.mget([*values, "absent", "key:0"]) == [*(v.encode() for v in values.values()), None, b"value 0"]
    assert client.exists("key:0", "key:1", "key:0", "absent") == 3
    assert client.dbsize() == 50
    assert sorted(client.keys()) == sorted(client.scan_iter()) == sorted(key.encode() for key in values)
    assert client.delete("key:0", "key:1", "absent") == 2
    client.flush_all()
    assert cluster.values == {}
    assert client.mget([]) == []
    assert client.delete() == 0


def test_any_command_goes_to_the_node_of_its_key(cluster: FakeCluster, client: Client) -> None:
    key = cluster.key(2)
    assert client.execute("set", key, 5) == b"OK"
    assert client.execute(b"GET", key) == b"5"
    with pytest.raises(CommandError, match="unknown command"):
        client.execute("HSET", key, "field", 1)
    with pytest.raises(CommandError):
        client.execute("OBJECT", "ENCODING", key, key=key)
    assert {index for index, name in cluster.commands("SET", "GET", "HSET", "OBJECT")} == {2}
    assert client.ping()
    assert client.ring() == {"epoch": 7}
    assert client.locate(key) == (slot(key.encode()), cluster.address(2))
    assert client.nodes() == tuple(sorted(cluster.address(index) for index in range(3)))


def test_a_command_on_a_named_node_stays_there(cluster: FakeCluster, client: Client) -> None:
    assert client.execute("DBSIZE", node=cluster.address(1)) == 0
    assert client.execute_on(cluster.address(2), "PING") == b"PONG"
    with pytest.raises(CommandError, match="MOVED"):
        client.execute_on(cluster.address(0), "GET", cluster.key(1))
    cluster.script(0, "GET", TRYAGAIN)
    with pytest.raises(Unavailable, match="TRYAGAIN"):
        client.execute_on(cluster.address(0), "GET", cluster.key(0))
    assert cluster.commands("GET", "DBSIZE", "PING") == [(1, b"DBSIZE"), (2, b"PING"), (0, b"GET"), (0, b"GET")]


@pytest.mark.parametrize("command", ["SELECT 1", "multi", "SUBSCRIBE x", "CLIENT reply OFF", "RING ACKS one"])
def test_commands_that_change_the_shared_connection_are_not_sent(
    cluster: FakeCluster, client: Client, command: str
) -> None:
    with pytest.raises(ValueError, match="connections are shared"):
        client.execute(*command.split())
    with pytest.raises(ValueError, match="connections are shared"):
        client.execute_on(cluster.address(0), *command.split())
    assert cluster.log == []


@pytest.mark.parametrize("command", ["DBSIZE", "scan 0", "FLUSHALL"])
def test_a_command_about_one_nodes_data_needs_the_node(cluster: FakeCluster, client: Client, command: str) -> None:
    with pytest.raises(ValueError, match="one node's data"):
        client.execute(*command.split())
    assert cluster.log == []


@pytest.mark.parametrize("seeds", ["", "localhost", "host:", ":7001", "host:port", "host:0", "host:65536", ()])
def test_seeds_that_are_no_addresses_are_refused(seeds: Any) -> None:
    with pytest.raises(ValueError, match=r"host:port|1 to 65535"):
        Client(seeds)


def test_limits_must_be_more_than_nothing() -> None:
    with pytest.raises(ValueError, match="timeout_seconds is 0"):
        Client(timeout_seconds=0)
    with pytest.raises(ValueError, match="user name needs a password"):
        Client(username="ann")


# The map.


def test_moved_is_learned_from_at_once(cluster: FakeCluster, client: Client) -> None:
    key = cluster.key(0)
    client.get(key)
    cluster.table[slot(key.encode())] = 2
    assert client.set(key, 1)
    assert client.set(key, 2)
    assert cluster.commands("SET") == [(0, b"SET"), (2, b"SET"), (2, b"SET")]
    assert client.statistics.moved == 1
    assert client.statistics.retries == 0


def test_moved_makes_the_next_operations_read_the_map_again(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    client.get(cluster.key(0))
    cluster.table = [2] * SLOTS
    cluster.epoch += 1
    client.get("a")  # MOVED, perhaps
    client.get("b{x}")
    client.get("key:0")
    moved = client.statistics.moved
    for n in range(20):
        client.get(f"key:{n}")
    assert client.statistics.moved == moved <= 2
    assert client.epoch == 8
    assert client.nodes() == (cluster.address(2),)


def test_a_moved_without_a_host_means_the_node_that_said_it(cluster: FakeCluster, client: Client) -> None:
    key = cluster.key(0)
    number = slot(key.encode())
    cluster.table[number] = 1
    cluster.views[0] = (7, [0] * SLOTS)
    cluster.script(0, "SET", b"-MOVED %d :%d\r\n" % (number, cluster.ports[1]))
    with Client(cluster.address(0)) as other:
        other.nodes()
        cluster.views.clear()
        assert other.set(key, 1)
    assert cluster.commands("SET") == [(0, b"SET"), (1, b"SET")]


def test_nodes_that_send_a_client_in_circles_end_in_an_error(cluster: FakeCluster) -> None:
    cluster.everywhere.extend([MOVED] * 1000)
    with hurried(cluster) as client, pytest.raises(Unavailable, match="MOVED") as raised:
        client.set("k", 1)
    assert raised.value.code == "MOVED"
    assert len(cluster.commands("SET")) < 100
    assert cluster.values == {}


def test_ask_is_followed_once_and_not_learned(cluster: FakeCluster, client: Client) -> None:
    key = cluster.key(0)
    cluster.script(0, "SET", ASK)
    assert client.set(key, 1)
    assert client.set(key, 2)
    assert cluster.commands("SET", "ASKING") == [(0, b"SET"), (1, b"ASKING"), (1, b"SET"), (0, b"SET")]
    assert client.statistics.asked == 1


def test_ask_within_a_pipeline_keeps_the_other_replies_in_their_places(cluster: FakeCluster, client: Client) -> None:
    cluster.script(0, "INCRBY", ASK, EXECUTE, ASK)
    with client.pipeline() as pipeline:
        for n in range(4):
            pipeline.incr(cluster.key(0, n), n + 10)
        assert pipeline.execute() == [10, 11, 12, 13]


def test_commands_for_a_key_stay_together_when_one_is_asked_elsewhere(cluster: FakeCluster, client: Client) -> None:
    key, other = cluster.key(0), cluster.key(0, 1)
    cluster.script(0, "APPEND", ASK)
    cluster.script(0, "GET", TRYAGAIN, TRYAGAIN)
    with client.pipeline() as pipeline:
        assert pipeline.append(key, "x").get(key).get(other).execute() == [1, b"x", None]
    assert cluster.commands("APPEND", "GET")[3:] in (
        [(0, b"GET"), (1, b"APPEND"), (1, b"GET")],
        [(1, b"APPEND"), (0, b"GET"), (1, b"GET")],
        [(1, b"APPEND"), (1, b"GET"), (0, b"GET")],
    )


def test_a_map_of_an_older_epoch_is_refused(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    cluster.epoch = 8
    assert client.set("k", 1)
    for index in range(3):
        cluster.views[index] = (7, [0] * SLOTS)
    cluster.everywhere.append(TRYAGAIN)
    assert client.set("k", 2)
    assert client.epoch == 8
    assert len(client.nodes()) == 3
    assert client.statistics.maps_refused > 0
    cluster.views.clear()
    cluster.epoch = 9
    assert client.set("k", 3)
    assert client.epoch == 9


def test_a_ring_that_was_rolled_back_is_not_followed(cluster: FakeCluster) -> None:
    with hurried(cluster) as client:
        key = cluster.key(1)
        assert client.locate(key)[1] == cluster.address(1)
        cluster.epoch = 3
        cluster.table = [0] * SLOTS
        cluster.stop_node(1)
        with pytest.raises(Unavailable, match="refuses connections"):
            client.set(key, 2)
        assert client.epoch == 7
        assert client.statistics.troubles["older"] > 0


def test_one_seed_that_answers_is_enough(cluster: FakeCluster) -> None:
    dead = cluster.address(2)
    cluster.table = [slot * 2 // SLOTS for slot in range(SLOTS)]
    cluster.stop_node(2)
    with Client(f"{dead}, {cluster.address(1)}") as client:
        assert client.set("k", 1)
    with Client([dead, cluster.address(0), dead]) as client:
        assert client.get("k") == b"1"


def test_a_client_whose_only_seed_is_gone_goes_on_with_the_nodes_it_learned(
    cluster: FakeCluster, client: Client
) -> None:
    client.set("k", 1)
    cluster.table = [1 + slot * 2 // SLOTS for slot in range(SLOTS)]
    cluster.epoch += 1
    cluster.stop_node(0)
    for n in range(30):
        client.set(f"key:{n}", n)
    assert client.epoch == 8
    assert client.nodes() == tuple(sorted((cluster.address(1), cluster.address(2))))
    assert len(cluster.values) >= 30


def test_a_client_whose_only_seed_leaves_the_ring_works_while_that_lingers_and_afterwards(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    with Client(cluster.address(0)) as client:
        client.mset({f"key:{n}": n for n in range(30)})
        cluster.table = [1 + slot * 2 // SLOTS for slot in range(SLOTS)]
        cluster.epoch += 1
        for n in range(30):
            assert client.incr(f"key:{n}") == n + 1  # the node that leaves answers MOVED
        assert client.epoch == 8
        assert client.statistics.moved == 1, "the first MOVED is enough to read the map anew"
        cluster.stop_node(0)
        assert client.incr("key:0") == 2
        assert client.nodes() == tuple(sorted((cluster.address(1), cluster.address(2))))
        assert client.execute("RING", "SHOW")
        cluster.table = [1] * SLOTS
        cluster.epoch += 1
        assert client.incr("key:0") == 3, "it learns of later changes from those that it has learned of"
        assert sum(int(value or 0) for value in client.mget([f"key:{n}" for n in range(30)])) == 15 * 31 + 2
        assert client.statistics.errors == {}


def test_a_slot_that_nobody_coordinates_is_waited_for_and_then_named(cluster: FakeCluster) -> None:
    with hurried(cluster) as client:
        client.set("k", 1)
    cluster.script(0, "CLUSTER", *[b"$25\r\ncluster_current_epoch:7\r\n\r\n", b"*0\r\n"] * 100)
    with hurried(cluster) as client, pytest.raises(Unavailable, match="knows no node that coordinates a slot"):
        client.set("k", 2)
    assert cluster.values == {b"k": b"1"}


@pytest.mark.parametrize("slots", [1, [1], [[5, 99999]], [[0, 5]], [[0, 5, [b"host", 0]]], [["a", "b", []]], None])
def test_a_map_that_makes_no_sense_is_asked_of_another_node(cluster: FakeCluster, slots: Any) -> None:
    cluster.script(0, "CLUSTER", *[b"+cluster_current_epoch:7\r\n", encoded(slots)] * 1000)
    with Client([cluster.address(0), cluster.address(1)]) as client:
        assert client.set("k", 1)


def test_a_server_that_is_no_cluster_is_named_at_once(cluster: FakeCluster, client: Client) -> None:
    cluster.script(0, "CLUSTER", *[b"-ERR This instance has cluster support disabled\r\n"] * 2)
    with pytest.raises(Refused, match="node of a cluster"):
        client.get("k")
    assert len(cluster.commands("CLUSTER")) == 2


def test_a_wrong_password_is_refused_at_once_and_not_repeated_in_the_error(cluster: FakeCluster) -> None:
    cluster.script(0, "HELLO", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
    with Client(cluster.address(0), password="opensesame") as client, pytest.raises(Refused, match="right ") as raised:
        client.set("k", 1)
    assert "opensesame" not in str(raised.value)
    assert raised.value.happened == "no"
    assert cluster.log == [(0, (b"HELLO", b"3", b"AUTH", b"default", b"opensesame"))]


def test_a_server_that_does_not_speak_resp3_is_named(cluster: FakeCluster, client: Client) -> None:
    cluster.script(0, "HELLO", b"-ERR unknown command 'HELLO'\r\n")
    with pytest.raises(Refused, match="RESP3"):
        client.get("k")


# What is done again, and what is not.


@pytest.mark.parametrize("reply", [TRYAGAIN, CLUSTERDOWN, LOADING, NOREPLICAS])
def test_a_write_that_was_turned_away_is_done_when_that_is_over(
    cluster: FakeCluster, client: Client, reply: bytes
) -> None:
    cluster.everywhere.extend([reply] * 3)
    assert client.incr("visits") == 1
    assert client.statistics.retries == 3
    assert client.statistics.troubles == {reply[1:].split()[0].decode(): 3}
    assert client.statistics.errors == {}


def test_a_write_that_is_turned_away_until_the_end_was_not_done(cluster: FakeCluster) -> None:
    cluster.everywhere.extend([NOREPLICAS] * 1000)
    with hurried(cluster) as client, pytest.raises(NoReplicas) as raised:
        client.set("user:42", "Ada")
    assert raised.value.happened == "no"
    assert isinstance(raised.value, NotDone)
    assert raised.value.code == "NOREPLICAS"
    said = str(raised.value)
    assert said.startswith("SET user:42 was not done in 0.")
    assert f"slot {slot(b'user:42')}, ring epoch 7" in said
    assert "Nothing was written." in said
    assert cluster.values == {}
    assert client.statistics.errors == {"NoReplicas": 1}


def test_a_write_whose_connection_breaks_before_the_answer_is_in_doubt_and_never_repeated(
    cluster: FakeCluster, client: Client
) -> None:
    for act, executed in ((CLOSE, 0), (EXECUTE_CLOSE, 1)):
        key = cluster.key(act is CLOSE)
        cluster.log.clear()
        cluster.everywhere.append(act)
        with pytest.raises(InDoubt, match=f"INCRBY {key} is in doubt.*Read the key before trying again") as raised:
            client.incr(key)
        assert raised.value.happened == "maybe"
        assert raised.value.code == "broken"
        assert len(cluster.commands("INCRBY")) == 1
        assert cluster.values.get(key.encode(), b"0") == b"%d" % executed
        assert client.incr(key) == executed + 1


def test_a_read_whose_connection_breaks_is_done_again(cluster: FakeCluster, client: Client) -> None:
    client.set("k", 1)
    cluster.everywhere.extend([CLOSE, EXECUTE_CLOSE, CLOSE])
    assert client.get("k") == b"1"
    assert client.mget(["k"]) == [b"1"]
    assert client.statistics.reconnections == 3


def test_a_write_that_the_server_itself_doubts_is_in_doubt(cluster: FakeCluster, client: Client) -> None:
    cluster.everywhere.append(EXECUTE_INDOUBT)
    with pytest.raises(InDoubt, match="says: INDOUBT stamped"):
        client.incr("visits")
    assert client.incr("visits") == 2


def test_a_write_that_could_not_be_sent_whole_is_done_again(cluster: FakeCluster, client: Client) -> None:
    key, value = cluster.key(1), b"x" * (LARGE)
    client.get(key)
    cluster.bytes_max[1] = 100_000
    assert client.append(key, value) == len(value)
    assert client.statistics.troubles == {"broken": 1}
    assert cluster.values[key.encode()] == value


def test_of_a_pipeline_that_breaks_midway_only_what_was_sent_whole_is_in_doubt(
    cluster: FakeCluster, client: Client
) -> None:
    small, large, last = (cluster.key(1, n) for n in range(3))
    client.get(small)
    cluster.bytes_max[1] = 10
    with client.pipeline() as pipeline:
        pipeline.append(small, "x").append(large, b"x" * (LARGE)).append(last, "x").get(last)
        results = pipeline.execute(raise_on_error=False)
    assert isinstance(results[0], InDoubt)
    assert results[1:] == [LARGE, 1, b"x"]
    assert small.encode() not in cluster.values


def test_a_refusal_that_comes_before_the_command_is_sent_whole_is_heard(cluster: FakeCluster) -> None:
    """The node reads on only when the client has heard it. Else a single write may carry everything over while the
    node reads, the connection is good for more commands, and nobody ends it."""
    said = b"-ERR Protocol error: invalid bulk length\r\n"
    heard = threading.Event()
    rest: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as strict, Client(cluster.address(0)) as client:
        strict.settimeout(10)

        def refuse_early() -> None:
            connection, _ = strict.accept()
            connection.settimeout(10)
            with connection:
                connection.recv(1000)
                connection.sendall(b"%0\r\n")
                connection.recv(1000)
                connection.sendall(said)
                assert heard.wait(10)
                rest.append(sum(map(len, iter(lambda: connection.recv(1 << 20), b""))))

        thread = threading.Thread(target=refuse_early)
        thread.start()
        try:
            with pytest.raises(CommandError, match="invalid bulk length"):
                client.execute_on(f"127.0.0.1:{strict.getsockname()[1]}", "SET", "k", b"x" * (LARGE))
        finally:
            heard.set()
            thread.join()
    assert rest and rest[0] < LARGE - 1000, "sent whole, or the connection was kept"


def test_a_node_that_restarts_while_its_connection_is_idle_puts_no_write_in_doubt(
    cluster: FakeCluster, client: Client
) -> None:
    key = cluster.key(1)
    for number in range(1, 6):
        assert client.incr(key) == number
        cluster.stop_node(1)
        cluster.start_node(1)
    assert client.statistics.reconnections == 4
    assert client.statistics.troubles == {}


def test_a_node_that_is_gone_is_waited_for_until_another_has_its_slots(cluster: FakeCluster, client: Client) -> None:
    key = cluster.key(1)
    client.incr(key)
    cluster.stop_node(1)

    def take_over() -> None:
        wait_until(lambda: client.statistics.troubles.get("refused", 0) > 1)
        cluster.table = [0 if owner == 1 else owner for owner in cluster.table]
        cluster.epoch += 1

    thread = threading.Thread(target=take_over)
    thread.start()
    assert client.incr(key) == 2
    thread.join()
    assert client.locate(key)[1] == cluster.address(0)


def test_a_node_that_stays_gone_is_named(cluster: FakeCluster) -> None:
    with Client(cluster.address(0)) as client:
        client.get("k")
        cluster.stop_node(1)
        client.timeout_seconds = 0.3
        with pytest.raises(Unavailable, match=f"{cluster.address(1)} .*refuses connections. Nothing was written"):
            client.set(cluster.key(1), 1)
        with pytest.raises(Unavailable, match="Reading changes nothing"):
            client.get(cluster.key(1))
        client.timeout_seconds = 10
        assert client.set(cluster.key(2), 1)
    for index in (0, 2):
        cluster.stop_node(index)
    with hurried(cluster) as client, pytest.raises(Unavailable, match="no node shows the ring"):
        client.nodes()


def test_a_write_to_a_silent_node_is_in_doubt_when_its_time_is_over(cluster: FakeCluster) -> None:
    cluster.script(1, "SET", SILENT)
    with hurried(cluster) as client:
        client.nodes()
        with pytest.raises(InDoubt, match="did not answer in time. It may have taken effect, or may still") as raised:
            client.set(cluster.key(1), 1)
        assert raised.value.code == "silent"
        client.timeout_seconds = 10
        assert client.set(cluster.key(1), 2)
    assert len(cluster.commands("SET")) == 2


def test_a_read_from_a_silent_node_is_asked_again_within_its_time(cluster: FakeCluster) -> None:
    cluster.script(1, "GET", SILENT)
    with hurried(cluster, 2.0) as client:
        assert client.get(cluster.key(1)) is None
    assert len(cluster.commands("GET")) == 2


def test_who_waits_for_a_node_that_hangs_hears_of_its_end(cluster: FakeCluster) -> None:
    """Its connections stay open, but the ring has taken it down."""
    write, read = cluster.key(1), cluster.key(1, 1)
    cluster.script(1, "SET", SILENT)
    cluster.script(1, "GET", SILENT)
    with Client(cluster.address(0), timeout_seconds=60) as client:
        client.nodes()
        cluster.table = [0 if index == 1 else index for index in cluster.table]
        cluster.epoch = 8
        with pytest.raises(InDoubt, match="is down in the ring of epoch 8. It may have taken effect") as raised:
            client.set(write, 1)
        assert raised.value.code == "gone"
        assert client.get(read) is None
    assert cluster.commands("SET") == [(1, b"SET")], "a write is not repeated"


def test_who_has_left_is_waited_for_a_while_since_it_will_answer_and_not_for_ever(cluster: FakeCluster) -> None:
    """Its requests wait while slots are sealed, and others may have read earlier than it that it has left."""
    cluster.script(1, "SET", SILENT)
    with Client(cluster.address(0), timeout_seconds=60) as client:
        client.nodes()
        key = cluster.key(1)
        cluster.table = [0 if index == 1 else index for index in cluster.table]
        cluster.epoch, cluster.left = 8, {1}
        with pytest.raises(InDoubt, match="is no member any more in the ring of epoch 8") as raised:
            client.set(key, 1)
        assert raised.value.code == "gone"
    assert sum(words == (b"CLUSTER", b"NODES") for _, words in cluster.log) == LOOKS_LEFT


def test_a_silent_node_keeps_nobody_from_hearing_the_others(cluster: FakeCluster) -> None:
    cluster.script(0, "INCRBY", SILENT)
    with hurried(cluster, 1.0) as client, client.pipeline() as pipeline:
        for index in range(3):
            pipeline.incr(cluster.key(index))
        results = pipeline.execute(raise_on_error=False)
    assert isinstance(results[0], InDoubt)
    assert results[1:] == [1, 1]


def test_a_node_that_does_not_even_greet_is_sent_nothing(cluster: FakeCluster) -> None:
    with Client(cluster.address(0)) as client:
        client.get(cluster.key(0))
        client.timeout_seconds = 0.3
        cluster.script(1, "HELLO", *[SILENT] * 10)
        with pytest.raises(Unavailable, match="Nothing was written"):
            client.set(cluster.key(1), 1)
    assert cluster.commands("SET") == []


def test_a_write_is_not_sent_when_its_time_is_nearly_over() -> None:
    with FakeCluster(nodes=6) as cluster, Client(cluster.address(0)) as client:
        client.nodes()
        cluster.drop_connections(0)
        *mute, last = sorted(range(6), key=cluster.address)
        client.get(cluster.key(last))
        client.timeout_seconds = 0.3
        for index in mute:
            cluster.script(index, "HELLO", *[SILENT] * 10)
        with client.pipeline() as pipeline:
            for index in range(6):
                pipeline.set(cluster.key(index), 1)
            results = pipeline.execute(raise_on_error=False)
        assert [type(result) for result in results] == [Unavailable] * 6
        assert results[last].code == "late"
    assert cluster.commands("SET") == []


def test_the_last_word_of_a_node_is_heard_though_it_has_closed_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        connection = Connection.dial(address, time.monotonic() + 10)
        peer, _ = listener.accept()
        peer.sendall(b"-ERR too much\r\n")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        node = Node(address, (), 1, lambda what: None)
        flight = Flight(node, connection, [Request(("SET", "k", "v"), (b"k",))])
        wait_until(lambda: not connection.is_quiet())
        exchange([flight], time.monotonic() + 10)
        assert [str(reply) for reply in flight.replies] == ["ERR too much"]
        assert not flight.is_clean
        connection.close()


def test_what_concerns_all_keys_is_refused_while_a_slot_has_no_coordinator(cluster: FakeCluster) -> None:
    covered = [[0, 16382, [b"127.0.0.1", cluster.ports[0], b"id"]]]
    cluster.table = [0] * SLOTS
    cluster.script(0, "CLUSTER", *[b"+cluster_current_epoch:7\r\n", encoded(covered)] * 100)
    with hurried(cluster) as client:
        for ask in (client.dbsize, client.keys, client.flush_all, lambda: next(client.scan_iter())):
            with pytest.raises(Unavailable, match="no node coordinates slot 16383 in the ring of epoch 7"):
                ask()
        client.timeout_seconds = 10
        assert client.set("k", 1)
    assert cluster.commands("DBSIZE", "KEYS", "FLUSHALL", "SCAN") == []


def test_counting_all_keys_begins_again_when_a_node_is_gone_meanwhile(cluster: FakeCluster, client: Client) -> None:
    client.mset({f"key:{n}": n for n in range(30)})
    cluster.table = [owner or 1 for owner in cluster.table]
    cluster.epoch += 1
    cluster.stop_node(0)
    assert client.dbsize() == 30
    assert len(client.keys()) == 30


def test_more_keys_of_a_slot_than_a_node_takes_at_once_are_sent_in_parts(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "KEYS_MAX", 3)
    values = {f"{{t}}{n}": b"%d" % n for n in range(7)}
    client.mset(values)
    assert client.mget(values) == list(values.values())
    assert client.exists(*values, "{t}0") == 8
    assert client.delete(*values) == 7 and not cluster.values
    assert [len(cluster.commands(name)) for name in ("MSET", "MGET", "EXISTS", "DEL")] == [3] * 4


def without_the_last(cluster: FakeCluster) -> list[int]:
    """What the table was before the last node came."""
    return [min(owner, len(cluster.ports) - 2) for owner in cluster.table]


def test_what_concerns_all_keys_concerns_those_of_a_node_that_came_since_the_map_was_read(
    cluster: FakeCluster, client: Client
) -> None:
    table, cluster.table = cluster.table, without_the_last(cluster)
    client.mset({f"key:{n}": n for n in range(30)})
    for asked in (client.dbsize, lambda: len(client.keys()), client.flush_all):
        cluster.table = without_the_last(cluster)
        cluster.epoch += 1
        assert client.dbsize() == 30
        cluster.table = table
        cluster.epoch += 1
        assert asked() in (30, None)
    assert not cluster.values


def test_what_concerns_all_keys_begins_again_when_slots_move_meanwhile(cluster: FakeCluster, client: Client) -> None:
    table, before = cluster.table, without_the_last(cluster)

    def move() -> None:
        cluster.table = table
        cluster.epoch += 1

    cluster.table = before
    client.mset({f"key:{n}": n for n in range(30)})
    for name, asked in (
        ("DBSIZE", client.dbsize),
        ("KEYS", lambda: len(client.keys())),
        ("FLUSHALL", client.flush_all),
    ):
        cluster.table = before
        cluster.epoch += 1
        for index in (0, 1):  # whoever is asked first
            cluster.script(index, name, move)
        assert asked() in (30, None)
        assert len(cluster.commands(name)) > 3
        for act in cluster.acts.values():
            act.clear()
    assert not cluster.values


def test_what_concerns_all_keys_fails_while_nodes_go_by_several_rings(cluster: FakeCluster) -> None:
    cluster.views[1] = 6, cluster.table
    with hurried(cluster) as client:
        for ask in (client.dbsize, client.keys, client.flush_all):
            with pytest.raises(
                Unavailable, match=r"the ring is changing, .* that of epoch 7|while there was time for an answer"
            ):
                ask()
    assert cluster.commands("DBSIZE", "KEYS", "FLUSHALL") == []


def test_a_flush_in_a_ring_that_goes_on_changing_is_in_doubt(cluster: FakeCluster) -> None:
    def change() -> None:
        cluster.epoch += 1

    cluster.script(1, "FLUSHALL", *[change] * 1000)
    with hurried(cluster) as client, pytest.raises(InDoubt, match="FLUSHALL is in doubt .* not in one ring by all"):
        client.flush_all()
    assert cluster.commands("FLUSHALL")


@pytest.mark.parametrize("garbage", [b"hello\r\n", b"*4294967295\r\n", b"$abc\r\n", b"+OK\r\n+OK\r\n"])
def test_what_is_not_a_reply_ends_the_connection_and_not_the_client(
    cluster: FakeCluster, client: Client, garbage: bytes
) -> None:
    cluster.script(0, "SET", garbage)
    cluster.script(0, "GET", garbage)
    key = cluster.key(0)
    if not garbage.startswith(b"+"):
        with pytest.raises(InDoubt, match="not a reply"):
            client.set(key, 1)
        assert client.get(key) is None
    else:
        assert client.set(key, 1)
    assert client.set(key, 2)
    assert client.statistics.connections == 2 + (not garbage.startswith(b"+"))


def test_a_command_that_cannot_work_is_not_done_again(cluster: FakeCluster, client: Client) -> None:
    client.set("k", "text")
    with pytest.raises(CommandError, match="INCRBY k failed: .*not an integer.*Nothing was changed") as raised:
        client.incr("k")
    assert (raised.value.happened, raised.value.code) == ("no", "ERR")
    assert len(cluster.commands("INCRBY")) == 1


def test_retries_of_all_threads_keep_to_one_budget(cluster: FakeCluster) -> None:
    cluster.everywhere.extend([TRYAGAIN] * 10_000)
    started = time.monotonic()
    with Client(cluster.address(0), timeout_seconds=0.5, retries_per_second_max=10) as client:
        in_threads(8, lambda _: pytest.raises(Unavailable, client.set, "k", 1))
    seconds = time.monotonic() - started
    assert len(cluster.commands("SET")) <= 8 + 10 * (1 + seconds) + 1


def test_the_budget_lets_a_burst_through_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(client_pacing, "monotonic", lambda: now)
    budget = client_pacing.RetryBudget(per_second=4)
    assert [budget.take(within_seconds=1) for _ in range(6)] == [0, 0, 0, 0, 0, 0.25]
    assert budget.take(within_seconds=0.4) is None
    assert budget.take(within_seconds=0.5) == 0.5
    now += 60
    assert [budget.take(within_seconds=1) for _ in range(6)] == [0, 0, 0, 0, 0, 0.25]


# Copies.


def test_a_write_is_answered_when_its_caller_wants_it_whatever_was_asked_before(cluster: FakeCluster) -> None:
    with Client(cluster.address(0), connections_per_node_max=1) as client:
        client.set("a", 1)
        client.set("b", 1, acks="one")
        client.get("b")
        client.incr("c", acks="one")
        client.mset({"d": 1}, acks="all")
        client.delete("e")
        with client.pipeline(acks="one") as pipeline:
            pipeline.set("f", 1).get("f").set("g", 1).execute()
        client.execute("SET", "h", 1)
    assert sorted(cluster.eager) == [b"b", b"c", b"f", b"g"]
    assert len(cluster.commands("RING")) < 10, "what a node was told already is not said again"
    with Client(cluster.address(0), acks="one") as client:
        client.set("i", 1)
        client.set("j", 1, acks="all")
        client.set("k", 1)
    assert cluster.eager[4:] == [b"i", b"k"]


def test_a_connection_that_was_not_used_after_all_has_not_been_told_anything(cluster: FakeCluster) -> None:
    with Client(cluster.address(0), connections_per_node_max=1) as client:
        client.set("a", 1)
        node = client._node(client.locate("a")[1])
        connection = node.acquire(time.monotonic() + 1)
        eager = client_requests.setnx("a", 2)
        eager.acks = "one"
        Flight(node, connection, [eager])
        node.release(connection)
        client.set("a", 3, acks="one")
    assert cluster.eager == [b"a"]


def test_a_wrong_word_about_acks_or_reading_is_refused_before_anything_is_sent(cluster: FakeCluster) -> None:
    for options in ({"acks": "two"}, {"read_from": "anywhere"}):
        with pytest.raises(ValueError, match="must be"):
            Client(cluster.address(0), **options)  # type: ignore[arg-type]
    with Client(cluster.address(0)) as client, pytest.raises(ValueError, match="must be one of all, one"):
        client.set("a", 1, acks="some")  # type: ignore[call-overload]
    assert cluster.log == []


def test_reads_go_to_any_copy_when_the_caller_wants_it_and_writes_to_the_coordinator(cluster: FakeCluster) -> None:
    cluster.copies = 2
    key = cluster.key(0)
    with Client(cluster.address(0), read_from="any") as client:
        for _ in range(40):
            client.set(key, "x")
            assert client.get(key) == b"x" and client.mget([key]) == [b"x"]
    assert {index for index, _ in cluster.commands("SET")} == {0}
    assert {index for index, _ in cluster.commands("GET")} == {index for index, _ in cluster.commands("MGET")} == {0, 1}
    assert client.statistics.moved == 0
    with Client(cluster.address(0)) as client:
        cluster.log.clear()
        assert {client.get(key) for _ in range(20)} == {b"x"}
    assert {index for index, _ in cluster.commands("GET")} == {0} and not cluster.commands("READONLY")


def test_a_pipeline_that_writes_a_key_reads_it_where_it_writes_it(cluster: FakeCluster) -> None:
    cluster.copies = 3
    key, other = cluster.key(0), cluster.key(0, 1)
    with Client(cluster.address(0), read_from="any") as client:
        for number in range(20):
            with client.pipeline() as pipeline:
                pipeline.set(key, number).get(key).get(other)
                assert pipeline.execute()[1] == b"%d" % number
    read_at = defaultdict(set)
    for index, words in cluster.log:
        if words[0] == b"GET":
            read_at[words[1].decode()].add(index)
    assert read_at[key] == {0} and len(read_at[other]) > 1


def test_a_copy_that_does_not_answer_or_turns_a_read_away_costs_no_read(cluster: FakeCluster) -> None:
    cluster.copies = 3
    keys = [cluster.key(index) for index in range(3)]
    with Client(cluster.address(0), read_from="any") as client:
        client.mset(dict.fromkeys(keys, "x"))
        cluster.stop_node(1)
        assert [client.get(key) for key in keys * 10] == [b"x"] * 30
        refused = client.statistics.troubles.get("refused", 0) + client.statistics.troubles.get("broken", 0)
        assert refused <= 2, "a node that gave trouble is avoided"
        cluster.copies = 1  # the others are no successors any more: they send the client to the coordinator
        assert client.get(keys[0]) == b"x" and client.get(keys[2]) == b"x"


# Pipelines.


def test_a_pipeline_is_one_write_per_node_and_answers_in_order(cluster: FakeCluster, client: Client) -> None:
    client.nodes()
    with client.pipeline() as pipeline:
        for n in range(30):
            pipeline.set(f"key:{n}", n).get(f"key:{n}").add("APPEND", f"key:{n}", "x")
        assert len(pipeline) == 90
        results = pipeline.execute()
        assert pipeline.execute() == []
    assert results == [part for n in range(30) for part in (True, b"%d" % n, len(f"{n}x"))]
    assert len([read for read in cluster.reads if read[1] > 2]) == 3


def test_a_pipeline_larger_than_all_buffers_passes(cluster: FakeCluster, client: Client) -> None:
    value = b"x" * (1 << 20)
    with client.pipeline() as pipeline:
        for n in range(14):
            pipeline.set(cluster.key(0, n), value).get(cluster.key(0, n))
        assert pipeline.execute() == [True, value] * 14


def test_a_pipeline_that_failed_in_part_says_what_was_done(cluster: FakeCluster, client: Client) -> None:
    client.set("text", "abc")
    cluster.script(cluster.table[slot(b"lost")], "SET", CLOSE)
    with client.pipeline() as pipeline, pytest.raises(PartlyDone, match="1 done, 1 not done, 1 in doubt") as raised:
        pipeline.incr("text").incr("number").set("lost", 1).execute()
    error = raised.value
    assert error.happened == "maybe"
    assert {position: type(error) for position, error in error.errors.items()} == {0: CommandError, 2: InDoubt}
    assert error.results == [error.errors[0], 1, error.errors[2]]
    assert error.__cause__ is error.errors[0]


def test_a_pipeline_that_changed_nothing_raises_its_first_error(cluster: FakeCluster, client: Client) -> None:
    client.set("text", "abc")
    with client.pipeline() as pipeline, pytest.raises(CommandError, match="not an integer"):
        pipeline.get("text").incr("text").execute()


def test_an_earlier_command_is_not_done_after_a_later_one_for_the_same_key(
    cluster: FakeCluster, client: Client
) -> None:
    key, other = cluster.key(0), cluster.key(0, 1)
    cluster.script(0, "SET", TRYAGAIN, EXECUTE, TRYAGAIN)
    with client.pipeline() as pipeline:
        pipeline.set(key, "first").set(key, "second").set(other, 1).get(key)
        results = pipeline.execute(raise_on_error=False)
    assert isinstance(results[0], NotDone)
    assert results[0].code == "overtaken"
    assert results[1:] == [True, True, b"second"]
    assert cluster.values == {key.encode(): b"second", other.encode(): b"1"}


def test_an_mset_that_failed_in_part_names_the_keys(cluster: FakeCluster) -> None:
    keys = [cluster.key(0), cluster.key(1), cluster.key(2)]
    cluster.script(1, "MSET", *[NOREPLICAS] * 1000)
    cluster.script(2, "MSET", EXECUTE_INDOUBT)
    with hurried(cluster, 1.0) as client, pytest.raises(PartlyDone, match="MSET of 3 keys was done in part") as raised:
        client.mset(dict.fromkeys(keys, 1))
    assert {key: type(error) for key, error in raised.value.errors.items()} == {
        keys[1].encode(): NoReplicas,
        keys[2].encode(): InDoubt,
    }
    assert set(cluster.values) == {keys[0].encode(), keys[2].encode()}


TROUBLES = [TRYAGAIN, NOREPLICAS, MOVED, ASK, CLOSE, EXECUTE_CLOSE, INDOUBT, EXECUTE_INDOUBT]
ACTS = st.sampled_from([EXECUTE] * 4 + TROUBLES)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, max_size=30), commands=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1))
def test_whatever_goes_wrong_results_tell_what_the_servers_did(
    monkeypatch: pytest.MonkeyPatch, acts: list[Any], commands: list[tuple[int, bool]]
) -> None:
    """Appends of one letter each, and reads, on four keys. The values that the servers end up with are the witness."""
    monkeypatch.setattr(client_engine, "PAUSE_SECONDS_MIN", 0.0002)
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.001)
    with FakeCluster() as cluster, Client(cluster.address(0), retries_per_second_max=100_000) as client:
        cluster.everywhere.extend(acts)
        pipeline = client.pipeline()
        for position, (key, writes) in enumerate(commands):
            if writes:
                pipeline.append(f"key:{key}", chr(0x4E00 + position))
            else:
                pipeline.get(f"key:{key}")
        results = pipeline.execute(raise_on_error=False)
        final = {key: cluster.values.get(f"key:{key}".encode(), b"").decode() for key in range(4)}
    for value in final.values():
        assert sorted(value) == list(value), "commands for a key were done in another order"
        assert len(set(value)) == len(value), "a command was done twice"
    for position, ((key, writes), result) in enumerate(zip(commands, results, strict=True)):
        letter = chr(0x4E00 + position)
        if not writes:
            assert not isinstance(result, InDoubt)
            if not isinstance(result, ClientError):
                seen = (result or b"").decode()
                assert final[key].startswith(seen)
                assert all(one < letter for one in seen), "a read saw a later write"
                before = [
                    chr(0x4E00 + earlier)
                    for earlier in range(position)
                    if commands[earlier] == (key, True) and isinstance(results[earlier], int)
                ]
                assert set(before) <= set(seen), "a read missed an earlier write"
        elif isinstance(result, int):
            assert letter in final[key]
        elif not isinstance(result, InDoubt):
            assert isinstance(result, NotDone)
            assert letter not in final[key]


# Scans.


def test_a_scan_finds_every_key_though_slots_move_meanwhile(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    keys = {f"key:{n}".encode() for n in range(60)}
    client.mset(dict.fromkeys(keys, 1))
    found: set[bytes] = set()
    for number, key in enumerate(client.scan_iter(count=3)):
        found.add(key)
        if number in (5, 25):  # in the middle of the first and of the second node: its slots move to the one before
            cluster.table = [(owner - 1) % 3 if owner == (number > 5) else owner for owner in cluster.table]
            cluster.epoch += 1
    assert found == keys


def test_a_scan_finds_what_leaves_a_node_and_comes_back_to_it_while_that_is_scanned(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    keys = sorted(f"key:{n}".encode() for n in range(60))
    client.mset(dict.fromkeys(keys, 1))
    here = [key for key in keys if cluster.table[slot(key)] == 0]
    away = {slot(key) for key in here[3:9]}

    def give(owner: int) -> None:
        cluster.table = [owner if each in away else had for each, had in enumerate(cluster.table)]
        cluster.epoch += 1

    cluster.script(0, "SCAN", EXECUTE, lambda: give(1), lambda: give(0))
    assert sorted(client.scan_iter(count=3)) == keys


def test_a_scan_finds_what_its_node_does_not_know_yet_that_it_has(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    keys = sorted(f"key:{n}".encode() for n in range(60))
    client.mset(dict.fromkeys(keys, 1))
    now, before = cluster.table, [1 if owner == 0 else owner for owner in cluster.table]

    def learn() -> None:
        cluster.table = now
        cluster.views.clear()

    cluster.views = dict.fromkeys((0, 1, 2), (cluster.epoch, now))
    cluster.table, cluster.views[0] = before, (cluster.epoch - 1, before)
    cluster.script(0, "CLUSTER", EXECUTE, EXECUTE, EXECUTE, learn)
    assert sorted(set(client.scan_iter(count=3))) == keys


def test_a_scan_goes_on_when_a_node_dies_and_others_have_its_slots(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    keys = {f"key:{n}".encode() for n in range(60)}
    client.mset(dict.fromkeys(keys, 1))
    found = set()
    for number, key in enumerate(client.scan_iter(count=3)):
        found.add(key)
        if number == 0:
            cluster.table = [owner or 1 for owner in cluster.table]
            cluster.epoch += 1
            cluster.stop_node(0)
    assert found == keys
    assert client.statistics.retries < 3


# Threads, processes, the end.


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run ``work(number)`` in so many threads at once; raises what one of them raised."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_eight_threads_share_a_client_and_its_one_connection_per_node(cluster: FakeCluster) -> None:
    with Client(cluster.address(0), connections_per_node_max=1) as client:

        def work(number: int) -> None:
            keys = range(6) if number % 2 else range(5, -1, -1)
            for n in range(40):
                client.incr("shared")
                assert client.set(f"key:{number}", n)
                assert client.get(f"key:{number}") == b"%d" % n
                with client.pipeline() as pipeline:
                    for key in keys:
                        pipeline.incr(f"count:{key}")
                    pipeline.execute()

        in_threads(8, work)
        assert client.get("shared") == b"320"
        assert client.mget([f"count:{key}" for key in range(6)]) == [b"320"] * 6
        assert client.statistics.requests == 8 * 40 * 9 + 1 + 6
        assert client.statistics.troubles == {}
    assert cluster.connections_max == 1


def test_all_threads_take_connections_in_one_order(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    idle = Node.idle

    def recorded(node: Node) -> Connection | None:
        if taken[-1:] != [node.address]:
            taken.append(node.address)
        return idle(node)

    client.nodes()
    monkeypatch.setattr(Node, "idle", recorded)
    for order in (0, 1, 2), (2, 1, 0), (1, 0, 2):
        client.mget([cluster.key(index) for index in order])
    assert taken == sorted(map(cluster.address, range(3))) * 3


def test_an_echo_is_not_taken_for_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as echo:
        address = f"127.0.0.1:{echo.getsockname()[1]}"

        def reflect() -> None:
            connection, _ = echo.accept()
            with connection:
                while data := connection.recv(1000):
                    connection.sendall(data)

        thread = threading.Thread(target=reflect)
        thread.start()
        with Client(address) as client, pytest.raises(Unavailable, match="did not greet"):
            client.execute_on(address, "SET", "k", 1)
        thread.join()


def test_who_waits_too_long_for_a_connection_sends_nothing(cluster: FakeCluster) -> None:
    key = cluster.key(1)
    cluster.script(1, "SET", SILENT)
    with Client(cluster.address(0), connections_per_node_max=1, timeout_seconds=0.5) as client:
        outcomes = []

        def work(number: int) -> None:
            if number:
                wait_until(lambda: bool(cluster.commands("SET")))
                client.timeout_seconds = 0.2
                outcomes.append(pytest.raises(Unavailable, client.incr, key).value.code)
            else:
                pytest.raises(InDoubt, client.set, key, 1)

        client.get("k")
        in_threads(2, work)
    assert outcomes == ["busy"]
    assert cluster.commands("INCRBY") == []


def test_only_one_thread_reads_the_map(cluster: FakeCluster, client: Client) -> None:
    in_threads(8, lambda number: client.get(f"key:{number}"))
    assert client.statistics.refreshes == 1


def test_closing_ends_what_other_threads_wait_for(cluster: FakeCluster) -> None:
    for index in range(3):
        cluster.script(index, "SET", *[SILENT] * 10)
        cluster.script(index, "GET", *[SILENT] * 10)
        cluster.script(index, "DEL", *[TRYAGAIN] * 1000)
    client = Client(cluster.address(0), timeout_seconds=50)

    def work(number: int) -> None:
        match number:
            case 0:
                assert pytest.raises(InDoubt, client.set, "k", 1).value.code == "closed"
            case 1:
                pytest.raises(Closed, client.get, "k")
            case 2:
                pytest.raises(Closed, client.delete, "k")
            case 3:
                wait_until(lambda: len(cluster.commands("SET", "GET")) == 2 and len(cluster.commands("DEL")) > 2)
                client.close()

    in_threads(4, work)
    with pytest.raises(Closed, match="the client is closed"):
        client.set("k", 1)
    with pytest.raises(Closed):
        client.nodes()
    client.close()


@pytest.mark.processes
def test_a_forked_child_has_connections_of_its_own(cluster: FakeCluster, client: Client) -> None:
    for n in range(1, 4):
        assert client.incr("visits") == n
    connections = client.statistics.connections
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            counted = [client.incr("visits") for _ in range(3)] == [4, 5, 6]
            status = 0 if counted and client.statistics.connections == connections + 1 else 2
            client.close()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert client.incr("visits") == 7
    assert client.statistics.connections == connections


def test_errors_travel_between_processes() -> None:
    inner = InDoubt("perhaps", code="broken", address="h:1")
    partly = PartlyDone("in part", errors={b"k": inner}, results=[1, inner], code="broken", address="h:1")
    for error in (NoReplicas("no", code="NOREPLICAS", address="h:1"), inner, partly):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), copy.code, copy.address, copy.happened) == (str(error), error.code, "h:1", error.happened)
    assert str(copy.errors[b"k"]) == "perhaps"
    assert copy.results[0] == 1


# The same methods on a real Redis Cluster.


class RedisCluster:
    """Three redis-server processes that form a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port(beside=10_000) for _ in range(3)]
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "RedisCluster":
        try:
            self.processes.extend(map(self._start, self.ports))
            for index, port in enumerate(self.ports):
                wait_until(partial(self.answers, port))
                self.ask(port, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                self.ask(port, "CLUSTER", "ADDSLOTSRANGE", SLOTS * index // 3, SLOTS * (index + 1) // 3 - 1)
                self.ask(port, "CLUSTER", "MEET", "127.0.0.1", self.ports[0])
            wait_until(self.is_whole, 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            self._end(process)

    def ask(self, port: int, *words: object) -> str:
        command = ["redis-cli", "-p", str(port), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def answers(self, port: int) -> bool:
        return self.ask(port, "PING") == "PONG"

    def is_whole(self) -> bool:
        told = [self.ask(port, "CLUSTER", "INFO") for port in self.ports]
        return all("cluster_state:ok" in info and "cluster_known_nodes:3" in info for info in told)

    def restart(self, index: int) -> None:
        self._end(self.processes[index])
        self.processes[index] = self._start(self.ports[index])
        wait_until(partial(self.answers, self.ports[index]))

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        home = self.folder / str(port)
        home.mkdir(exist_ok=True)
        options = ["--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "", "--loglevel", "warning"]
        command = ["redis-server", "--port", str(port), *options]
        return subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def redis_tools() -> None:
    for tool in ("redis-server", "redis-cli"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="module")
def redis_cluster(redis_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("redis")) as servers:
        yield servers


@pytest.fixture
def redis_client(redis_cluster: RedisCluster) -> Iterator[Client]:
    with Client(f"127.0.0.1:{redis_cluster.ports[0]}", timeout_seconds=20) as client:
        client.flush_all()
        yield client


KEYS = [f"user:{n}" for n in range(6)]
ONE_KEY = st.sampled_from(KEYS)
MANY_KEYS = st.lists(ONE_KEY, min_size=1, max_size=5)
VALUES = st.one_of(st.sampled_from(["", "5", "text"]), st.integers(-100, 100), st.binary(max_size=8))
COMMANDS = st.one_of(
    st.tuples(st.sampled_from(["get", "strlen", "getdel", "type", "exists", "delete"]), ONE_KEY),
    st.tuples(st.sampled_from(["set", "setnx", "getset", "append"]), ONE_KEY, VALUES),
    st.tuples(st.sampled_from(["incr", "decr"]), ONE_KEY, st.integers(-(2**63), 2**63 - 1)),
)
MANY_COMMANDS = st.one_of(
    COMMANDS,
    st.tuples(st.sampled_from(["delete", "exists"]), ONE_KEY, ONE_KEY, ONE_KEY),
    st.tuples(st.just("mget"), MANY_KEYS),
    st.tuples(st.just("mset"), st.dictionaries(ONE_KEY, VALUES, min_size=1)),
    st.tuples(st.sampled_from(["set nx", "set xx", "set get", "set nx get", "set xx get"]), ONE_KEY, VALUES),
)


def outcome(call: Callable[[], Any]) -> Any:
    import redis

    try:
        return call()
    except (CommandError, redis.ResponseError):
        return "refused"


def theirs(other: Any, name: str, args: list[Any]) -> Any:
    """What redis-py says to the same, in the words of our client."""
    method, *options = name.split()
    method = {"mget": "mget_nonatomic", "mset": "mset_nonatomic"}.get(method, method)
    said = outcome(lambda: getattr(other, method)(*args, **dict.fromkeys(options, True)))
    if name == "type":
        return said.decode()
    if method == "set" and "get" not in options and said is None:
        return False
    return None if name == "mset" else said


@pytest.mark.processes
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=st.lists(MANY_COMMANDS, max_size=15), piped=st.lists(COMMANDS, max_size=15))
def test_every_method_does_on_redis_what_redis_py_does(
    redis_cluster: RedisCluster, redis_client: Client, commands: list[tuple[Any, ...]], piped: list[tuple[Any, ...]]
) -> None:
    import redis

    redis_client.flush_all()
    with contextlib.closing(redis.RedisCluster("127.0.0.1", redis_cluster.ports[1])) as other:
        for name, *args in commands:
            method, *options = name.split()
            ours = outcome(lambda: getattr(redis_client, method)(*args, **dict.fromkeys(options, True)))  # noqa: B023
            mirror = [[f"m:{a}" for a in args[0]]] if name == "mget" else args
            if name == "mset":
                mirror = [{f"m:{key}": value for key, value in args[0].items()}]
            elif name in ("delete", "exists"):
                mirror = [f"m:{key}" for key in args]
            elif name != "mget":
                mirror = [f"m:{args[0]}", *args[1:]]
            assert ours == theirs(other, name, mirror), (name, args)
        pipeline = redis_client.pipeline()
        mirrored = other.pipeline()  # type: ignore[no-untyped-call]
        for name, key, *args in piped:
            getattr(pipeline, name)(key, *args)
            getattr(mirrored, name)(f"m:{key}", *args)
        ours = ["refused" if isinstance(r, CommandError) else r for r in pipeline.execute(raise_on_error=False)]
        expected = [
            "refused" if isinstance(r, redis.ResponseError) else r.decode() if name == "type" else r
            for (name, *_), r in zip(piped, mirrored.execute(raise_on_error=False), strict=True)
        ]
        assert ours == expected
        assert redis_client.mget(KEYS) == other.mget_nonatomic([f"m:{key}" for key in KEYS])


@pytest.mark.processes
def test_a_redis_cluster_is_counted_listed_scanned_and_flushed(redis_client: Client) -> None:
    with redis_client.pipeline() as pipeline:
        for n in range(3000):
            pipeline.set(f"key:{n}", n)
        assert all(pipeline.execute())
    assert redis_client.dbsize() == 3000
    assert set(redis_client.scan_iter(count=100)) == {f"key:{n}".encode() for n in range(3000)}
    assert sorted(redis_client.scan_iter("key:1?")) == sorted(redis_client.keys("key:1?")) != []
    assert redis_client.epoch > 0
    assert redis_client.statistics.moved == 0
    redis_client.flush_all()
    assert redis_client.dbsize() == 0


@pytest.mark.processes
def test_a_slot_that_moves_between_redis_nodes_is_followed(redis_cluster: RedisCluster, redis_client: Client) -> None:
    number, key = slot(b"{tag}"), "{tag}"
    names = [f"{{tag}}{n}" for n in range(40)]
    redis_client.mset(dict.fromkeys(names, 0))
    source = redis_client.locate(key)[1]
    target = next(address for address in redis_client.nodes() if address != source)
    ids = {address: redis_client.execute_on(address, "CLUSTER", "MYID") for address in (source, target)}
    redis_client.execute_on(target, "CLUSTER", "SETSLOT", number, "IMPORTING", ids[source])
    redis_client.execute_on(source, "CLUSTER", "SETSLOT", number, "MIGRATING", ids[target])
    host, port = target.split(":")
    for name in names[:20]:
        assert redis_client.execute_on(source, "MIGRATE", host, port, name, 0, 5000) == b"OK"
    with redis_client.pipeline() as pipeline:
        for name in names:
            pipeline.incr(name)
        assert pipeline.execute() == [1] * 40
    assert redis_client.statistics.asked == 20
    for name in names[20:]:
        redis_client.execute_on(source, "MIGRATE", host, port, name, 0, 5000)
    for address in (target, source):
        redis_client.execute_on(address, "CLUSTER", "SETSLOT", number, "NODE", ids[target])
    assert [redis_client.incr(name) for name in names] == [2] * 40
    assert redis_client.locate(key) == (number, target)
    assert redis_client.statistics.moved <= 1
    with Client(source) as another:
        wait_until(lambda: Client.locate(another, key) == (number, target))


@pytest.mark.processes
def test_a_redis_node_that_restarts_puts_no_write_in_doubt(redis_tools: None, tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as servers, Client(f"127.0.0.1:{servers.ports[0]}", timeout_seconds=20) as client:
        assert [client.incr(key) for key in KEYS] == [1] * len(KEYS)
        servers.restart(1)  # it keeps nothing: its counts begin again
        restarted = f"127.0.0.1:{servers.ports[1]}"
        counts = [1 if client.locate(key)[1] == restarted else 2 for key in KEYS]
        assert set(counts) == {1, 2}
        assert [client.incr(key) for key in KEYS] == counts
        assert client.statistics.errors == {}


@pytest.mark.processes
def test_eight_threads_share_a_client_of_a_redis_cluster(redis_client: Client) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            redis_client.incr("shared")
            with redis_client.pipeline() as pipeline:
                for key in KEYS:
                    pipeline.incr(key).append(f"{key}:{number}", "x")
                pipeline.execute()

    in_threads(8, work)
    assert redis_client.get("shared") == b"400"
    assert redis_client.mget(KEYS) == [b"400"] * 6
    assert redis_client.strlen("user:0:7") == 50
