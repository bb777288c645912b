"""Looking into the processes of a simulated cluster by way of any node's client port."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest
from hiredis import ReplyError
from ringkeeper.actors.rules.journey import Hop, as_diagram
from ringkeeper.actors.rules.slots import slot
from ringkeeper.cli.outcomes import Trouble
from ringkeeper.scenarios.simulated import SimulatedCluster
from ringkeeper.tests.observing import SimulatedProcesses, traced

NODE = "127.0.0.1:7001"


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    with SimulatedCluster(seed=8, nodes=3, replicas=3) as cluster:
        cluster.run_until(cluster.serves, 30)
        yield cluster


def observe(cluster: SimulatedCluster, where: str, word: str, **arguments: Any) -> Any:
    reply = cluster.execute(NODE, "RING", "OBSERVE", where, word, json.dumps(arguments))
    return json.loads(reply) if isinstance(reply, bytes) else reply


def test_any_node_shows_the_actors_of_every_process(cluster: SimulatedCluster) -> None:
    here = {actor["name"]: actor for actor in observe(cluster, "here", "ACTORS")}
    assert here["replicator"]["parent"] == "storage" and here["gateway"]["parent"] == ""
    assert {actor["name"] for actor in observe(cluster, "127.0.0.1:7002", "ACTORS")} == here.keys()
    assert "ecs" in {actor["name"] for actor in observe(cluster, "ecs", "ACTORS")}
    bridge = cluster.ecs["ecs-1"].bridge.address
    assert "balancer" in {actor["name"] for actor in observe(cluster, bridge, "ACTORS")}


def test_what_has_happened_is_told_with_its_cause_by_the_nodes_and_the_leading_ecs(cluster: SimulatedCluster) -> None:
    told = observe(cluster, "ecs", "EVENTS")
    assert told["events"][-1]["number"] == told["next"] - 1 and not told["lost"]
    cluster.kill("127.0.0.1:7003")
    cluster.run(3)
    after = observe(cluster, "ecs", "EVENTS", since=told["next"])["events"]
    [down] = [each for each in after if each["kind"] == "state"]
    assert down["sentence"] == "127.0.0.1:7003 is down (was up)" and down["cause"]
    assert {each["fields"]["by"] for each in after if each["kind"] == "suspicion"} == {NODE, "127.0.0.1:7002"}
    [written] = [each for each in after if each["kind"] == "ring"]
    assert down["epoch"] == written["epoch"]
    here = observe(cluster, "here", "EVENTS")["events"]
    assert {"session", "ring", "state", "takeover", "link"} <= {each["kind"] for each in here}
    assert all(each["process"].endswith(NODE) for each in here)
    assert isinstance(observe(cluster, "here", "EVENTS", since=-1), ReplyError)


def test_code_is_run_beside_an_actor(cluster: SimulatedCluster) -> None:
    def py(where: str, code: bytes, actor: str = "storage") -> str:
        return str(observe(cluster, where, "PY", code=base64.b64encode(code).decode(), actor=actor))

    assert py("127.0.0.1:7002", cloudpickle.dumps(lambda storage: storage.name * 2)) == "'storagestorage'"
    failed = py("ecs", cloudpickle.dumps(lambda ecs: 1 / 0), "ecs")
    assert failed == "ERR the code raised ZeroDivisionError: division by zero"
    assert py("here", b"") == "ERR the code cannot be read: 0 bytes of code cannot be read: EOFError: Ran out of input"
    assert py("here", cloudpickle.dumps(42)) == "ERR the code is of type int, which cannot be called with an actor"
    assert py("here", cloudpickle.dumps(str), "nobody") == "ERR there is no actor called nobody"
    assert str(observe(cluster, "here", "PY", code="?", actor="storage")).startswith("ERR the code cannot be read: ")
    next(node for node in cluster.nodes() if node.machine.id == NODE).system.allow_code = False
    assert py("here", cloudpickle.dumps(str)).startswith("ERR this process takes no code: ")
    assert observe(cluster, "here", "HANGS") == {"working": [], "waits": [], "circles": [], "found": []}


def test_the_figures_of_every_process_are_told(cluster: SimulatedCluster) -> None:
    for number in range(20):
        cluster.execute(NODE, "SET", f"key-{number}", "x")
    told = observe(cluster, "here", "METRICS")
    asked = {labels["command"]: count for labels, count in told["ringkeeper_requests_total"]}
    answered = {labels["answered"]: count for labels, count in told["ringkeeper_request_seconds_count"]}
    [moved] = [count for labels, count in told["ringkeeper_errors_total"] if labels["code"] == "MOVED"]
    assert asked["set"] == 20
    assert answered["after others"] == told["ringkeeper_writes_total"] == 20 - moved > 0
    assert told["ringkeeper_keys"] > 0 and told["ringkeeper_copies_missing"] == 0
    assert {labels["successor"] for labels, _ in told["ringkeeper_replication_lag_seconds"]} == {
        "127.0.0.1:7002", "127.0.0.1:7003",
    }  # fmt: skip
    assert [{"state": "connected"}, True] in told["ringkeeper_zookeeper_session"]
    leading = observe(cluster, "ecs", "METRICS")
    assert leading["ringkeeper_ecs_leads"] and leading["ringkeeper_ring_slots_unserved"] == 0


def test_who_asks_for_a_process_that_is_not_there_is_told_so(cluster: SimulatedCluster) -> None:
    cluster.kill("127.0.0.1:7003")
    said = {str(observe(cluster, where, "ACTORS")) for where in ("nowhere", "127.0.0.1:7003", "127.0.0.1:9")}
    assert said == {
        "ERR 'nowhere' is no process: say here, ecs, the id of a node, or the host:port of a bridge",
        "ERR 127.0.0.1:7003 cannot be reached at the moment: nobody answers at 127.0.0.1:17003",
        "TRYAGAIN 127.0.0.1:9 did not answer within 5 s, and cannot be reached at the moment",
    }
    assert isinstance(observe(cluster, "here", "ACTORS", nonsense=1), list)
    refused = str(observe(cluster, "here", "TRACE", id="t", key="\ud800"))
    assert refused == "ERR '\\ud800' is no key: surrogates not allowed"
    assert isinstance(cluster.execute(NODE, "RING", "OBSERVE", "here", "ACTORS", "{"), ReplyError)


def test_every_actor_of_a_cluster_shows_its_state(cluster: SimulatedCluster) -> None:
    cluster.execute(NODE, "SET", "user:42", "Ada")
    for where in ("here", "ecs"):
        for actor in observe(cluster, where, "ACTORS"):
            shown = observe(cluster, where, "INSPECT", actor=actor["name"], depth=8, items=1000)
            assert shown["state"] or actor["name"] in ("solver", "freezer"), actor["name"]
            assert "failed" not in str(shown["state"].keys())
    streams = observe(cluster, "here", "INSPECT", actor="replicator")["state"]["streams"]
    assert [stream["to"] for stream in streams] == ["127.0.0.1:7002", "127.0.0.1:7003"]


def test_a_message_that_is_held_between_nodes_holds_up_the_put_until_it_is_released(cluster: SimulatedCluster) -> None:
    fault = observe(cluster, "here", "FAULT", action="hold", type="Append", to="127.0.0.1:17002")
    before = cluster.now
    cluster.world.loop.call_later(0.5, lambda: cluster.node(NODE).bridge.faults.release())
    assert cluster.execute(NODE, "SET", key_of(cluster), "Ada") == b"OK"
    assert cluster.now - before >= 0.5
    assert fault["id"] == 1 and observe(cluster, "here", "FAULTS") == []
    again = observe(cluster, "here", "FAULT", action="delay", seconds=0.1)
    assert observe(cluster, "here", "RELEASE", id=again["id"])[0]["seconds"] == 0.1
    assert "there is no fault 77 here; there are: none" in str(observe(cluster, "here", "RELEASE", id=77))
    assert "'seconds' must be" in str(observe(cluster, "here", "FAULT", action="delay"))
    mistyped = str(observe(cluster, "here", "FAULT", action="hold", type="Apend"))
    assert "'Apend' is no message here" in mistyped and "Append" in mistyped
    assert "is no fault; there are hold" in str(observe(cluster, "here", "FAULT", action="bend"))


def coordinator(cluster: SimulatedCluster, key: str) -> str:
    ring = cluster.ring()
    found = ring.coordinator(slot(key.encode())) if ring is not None else None
    assert found is not None
    return found.id


def key_of(cluster: SimulatedCluster) -> str:
    """A key that the node asked coordinates."""
    return next(key for key in map(str, range(100)) if coordinator(cluster, key) == NODE)


def story(hops: list[Hop]) -> list[tuple[str, str, str]]:
    return [(hop.process, hop.actor, hop.type + (", under way" if hop.under_way else "")) for hop in hops]


def test_the_journey_of_a_put_is_followed_through_all_processes_and_back(cluster: SimulatedCluster) -> None:
    look, key = SimulatedProcesses(cluster, NODE), key_of(cluster)
    trace = traced(look, "key", key)
    assert len(trace.places) == 4 and not trace.refusals
    assert cluster.execute(NODE, "SET", key, "Ada") == b"OK"
    cluster.execute(NODE, "SET", key + "x", "Ada")
    cluster.run(0.1)
    hops = trace.told("UNTRACE").hops
    journey = story(hops)
    assert [each for each in journey if each[0] == NODE] == [
        (NODE, "gateway", "Requests"),
        (NODE, "storage", "Execute"),
        (NODE, "replicator", "Follow"),
        (NODE, "gateway", "Executed"),
        *[(NODE, "replicator", "Appended"), (NODE, "storage", "PeerHolds")] * 2,
        (NODE, "gateway", "Settled"),
    ]
    assert sorted(each for each in journey if each[0] != NODE) == [
        ("127.0.0.1:7002", "replica", "Append"), ("127.0.0.1:7003", "replica", "Append"),
    ]  # fmt: skip
    assert hops[0].what.startswith(f"SET {key} of 127.0.0.1:") and hops[-1].what == f"SET {key}: +OK"
    assert {hop.epoch for hop in hops} == {1}
    ways = [hop.travelled for hop in hops if hop.sender and hop.sender_process != hop.process]
    assert len(ways) == 4 and all(way is not None and 0 <= way < 0.01 for way in ways)
    assert set(as_diagram(hops)[0].split()) == {"clients", NODE, "127.0.0.1:7002", "127.0.0.1:7003"}
    for node in cluster.nodes():
        assert "_begin" not in vars(node.system), "nothing of the trace stays"


def test_a_put_that_a_fault_holds_up_is_seen_where_it_waits(cluster: SimulatedCluster) -> None:
    look, key = SimulatedProcesses(cluster, NODE), key_of(cluster)
    trace = traced(look, "key", key, seconds=5)
    look.observe(NODE, "FAULT", action="hold", type="Append", to="127.0.0.1:17002")
    answers: list[Any] = []
    cluster._caller("somebody else").call(NODE, ("SET", key, "Ada"), answers.append, 5.0)
    cluster.run(0.2)
    assert ("127.0.0.1:7002", "replica", "Append, under way") in story(trace.told().hops) and not answers
    look.observe(NODE, "RELEASE")
    cluster.run(0.2)
    assert answers == [b"OK"] and story(trace.told().hops)[-1] == (NODE, "gateway", "Settled")
    cluster.run(5)
    assert all(trace.told().ended.values())


def test_a_read_and_what_is_sent_elsewhere_are_followed_too(cluster: SimulatedCluster) -> None:
    look, key = SimulatedProcesses(cluster, NODE), key_of(cluster)
    cluster.run(1)  # until there is a lease
    trace = traced(look, "key", key, NODE, "127.0.0.1:7002")
    cluster.execute(NODE, "GET", key)
    cluster.execute("127.0.0.1:7002", "GET", key)
    said = sorted((hop.process, hop.what) for hop in trace.told("UNTRACE").hops if hop.type == "Executed")
    assert said == [(NODE, f"GET {key}: nil"), ("127.0.0.1:7002", f"GET {key}: -MOVED {slot(key.encode())} {NODE}")]


def test_the_copying_of_a_key_to_a_node_that_joins_is_followed(cluster: SimulatedCluster) -> None:
    look = SimulatedProcesses(cluster, NODE)
    keys = [str(number) for number in range(200)]
    for key in keys:
        cluster.execute(coordinator(cluster, key), "SET", key, "Ada")
    traces = {key: traced(look, "key", key, seconds=60) for key in keys[:5]}
    newcomer = cluster.new_node()
    cluster.run_until(lambda: newcomer in {coordinator(cluster, key) for key in keys} and cluster.serves(), 60)
    moved = [trace.told().hops for trace in traces.values()]
    chunks = [(hop.sender_process, hop.process) for hops in moved for hop in hops if hop.type == "Chunk"]
    assert chunks, "some of these keys went to the newcomer"
    assert any(hop.type == "Replicated" for hops in moved for hop in hops)


def test_an_actor_and_a_type_are_followed_over_the_bridge(cluster: SimulatedCluster) -> None:
    look = SimulatedProcesses(cluster, NODE)
    beats = traced(look, "type", "Heartbeat", messages_max=6)
    detector = traced(look, "actor", "failure-detector", messages_max=10_000)
    cluster.run(1)
    arrived = [hop for hop in beats.told().hops if not hop.under_way]
    assert arrived and all(hop.actor == hop.sender == "failure-detector" for hop in arrived)
    assert set(beats.told().ended.values()) == {"it has its 6 records", ""}, "the ECS hears none"
    assert {"Beat", "Heartbeat"} <= {hop.type for hop in detector.told("UNTRACE").hops}
    with pytest.raises(Trouble, match="say what to trace: one of actor, key, type"):
        traced(look, "colour", "blue")


def test_why_a_node_coordinates_a_key_is_told_with_its_cause(cluster: SimulatedCluster) -> None:
    key = key_of(cluster)
    told = json.loads(cluster.execute("127.0.0.1:7003", "RING", "WHY", key))
    assert told["coordinator"] == NODE and told["since"] == 1
    cluster.kill(NODE)
    cluster.run_until(lambda: coordinator(cluster, key) != NODE, 30)
    cluster.run(1)
    told = json.loads(cluster.execute("127.0.0.1:7003", "RING", "WHY", key))
    assert told["since"] > 1 and f"{NODE} is down" in told["sentences"][0]
    assert told["sentences"][1].startswith(f"since ring {told['since']}: ") and NODE in told["sentences"][1]


def test_any_actor_of_any_process_can_be_asked(cluster: SimulatedCluster) -> None:
    figures = observe(cluster, "127.0.0.1:7002", "ASK", actor="storage", type="ReportFigures", fields={"question": 7})
    assert figures["type"] == "Figures" and figures["answer"]["Figures"]["node"] == "127.0.0.1:7002"
    verb = {"question": 1, "verb": "JOBS", "arguments": []}
    jobs = observe(cluster, "ecs", "ASK", actor="ecs", type="RunVerb", fields=verb)
    assert jobs["type"] == "VerbRun" and json.loads(jobs["answer"]["VerbRun"]["text"]) == {"epoch": 1, "jobs": []}
    refused = observe(cluster, "here", "TELL", actor="storage", type="Settle", fields={"epoch": 1, "runs": []})
    assert "storage does not hear Settle; it hears" in str(refused)
    told = observe(cluster, "127.0.0.1:7002", "TELL", actor="storage", type="RingChanged", fields={"ring": {}})
    assert "RingChanged cannot be made of that" in str(told)
    told = observe(
        cluster, "here", "TELL", actor="storage", type="Execute", fields={"requests": [], "reply_to": "gateway"}
    )
    assert "Execute cannot be made of JSON: it carries objects that live in one process" in str(told)
    assert cluster.serves()
