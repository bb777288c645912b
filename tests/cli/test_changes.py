"""The commands that change a running cluster: what they order, how they follow a job, and what people read."""

import io
import json
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from ringkeeper.actors.client import Client
from ringkeeper.actors.client_errors import Unavailable
from ringkeeper.cli import changes, following
from ringkeeper.cli.main import ringkeeper
from ringkeeper.cli.show import nodes_table
from ringkeeper.runtime.process import free_port
from ringkeeper.tests.actors.fake_cluster import CLOSE, EXECUTE, EXECUTE_CLOSE
from ringkeeper.tests.cli.fake_ring import FakeRing, ring_of


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRing]:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(changes, "LOOK_SECONDS", 0.0)
    cluster = FakeRing()
    with cluster:
        yield cluster


def type_(cluster: FakeRing, *words: str, **environment: str) -> Result:
    seeds = f"{cluster.address(0)},{cluster.address(1)}"
    return CliRunner(env={"RINGKEEPER_CLUSTER": seeds, **environment}).invoke(ringkeeper, words)


TRANSFER = {
    "slots": "4096-5460",
    "source": "127.0.0.1:7001",
    "target": "127.0.0.1:7004",
    "keys": 40,
    "keys_total": 100,
    "bytes": 2048,
    "state": "transfer",
}


def job(state: str, **changed: Any) -> dict[str, Any]:
    return {
        "job": 7,
        "what": "add 127.0.0.1:7004",
        "state": state,
        "why": "",
        "began_wall_seconds": 1.7e9,
        "keys": 12_000,
        "keys_total": 100_000,
        "bytes": 3 << 20,
        "bytes_per_second": 1024.0 * 1024,
        "seconds_left": 4.2,
        "transfers": [TRANSFER],
        **changed,
    }


DONE = job("done", keys=0, keys_total=0, bytes=0, bytes_per_second=0.0, seconds_left=None, transfers=[])
"""The ring remembers how a job ended, not what it moved."""
ALL = {"keys": 100_000, "bytes_per_second": 0.0, "seconds_left": 0.0}
COURSE = (
    job("queued", keys=0, keys_total=0),
    job("transfer"),
    job("transfer"),
    job("switch", **ALL),
    job("seal", **ALL),
    DONE,
)


def begun(cluster: FakeRing, *course: dict[str, Any]) -> None:
    """The cluster takes an order as job 7, which then goes like this."""
    cluster.reply = {"job": 7, "nodes": ["127.0.0.1:7004"], "plan": None}
    cluster.course = deque(course or COURSE)


PLAN: dict[str, Any] = {
    "what": "add 127.0.0.1:7004",
    "transfers": [
        {
            "slots": "0-100",
            "size": 101,
            "source": "127.0.0.1:7001",
            "target": "127.0.0.1:7004",
            "keys": 55,
            "bytes": 4096,
        },
        {
            "slots": "200",
            "size": 1,
            "source": "127.0.0.1:7002",
            "target": "127.0.0.1:7004",
            "keys": None,
            "bytes": None,
        },
    ],
    "slots": 102,
    "keys": None,
    "bytes": None,
    "shares": {"127.0.0.1:7001": [0.3333, 0.3271], "127.0.0.1:7004": [0.0, 0.0062]},
    "warnings": ["127.0.0.1:7004 gets very little"],
}


# Adding and removing


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (("add",), ["ADD", "COUNT", "1"]),
        (("add", "3"), ["ADD", "COUNT", "3"]),
        (("add", "--node", "h:1", "--node", "10.0.0.1:7001"), ["ADD", "NODE", "h:1", "10.0.0.1:7001"]),
        (("add", "2", "--place", "relief"), ["ADD", "COUNT", "2", "PLACE", "relief"]),
        (("remove", "127.0.0.1:7004", "h:2"), ["REMOVE", "127.0.0.1:7004", "h:2"]),
        (("remove", "127.0.0.1:7004", "--accept-loss"), ["REMOVE", "127.0.0.1:7004", "ACCEPTLOSS"]),
        (("replace", "127.0.0.1:7004"), ["REPLACE", "127.0.0.1:7004"]),
        (("replace", "127.0.0.1:7004", "h:2"), ["REPLACE", "127.0.0.1:7004", "h:2"]),
    ],
)
def test_a_change_is_ordered_once_and_followed_to_its_end(
    cluster: FakeRing, words: tuple[str, ...], order: list[str]
) -> None:
    begun(cluster)
    cluster.ring_after = ring_of([*cluster.ports, 7004])
    said = type_(cluster, "nodes", *words)
    assert said.exit_code == 0, said.stderr
    assert cluster.orders == [order]
    assert said.stderr.splitlines() == [
        "job 7, add 127.0.0.1:7004: queued, 1.0 MiB/s, 4 s left",
        "job 7, add 127.0.0.1:7004: transfer, 12 000 of 100 000 keys, 1.0 MiB/s, 4 s left",
        "job 7, add 127.0.0.1:7004: switch, 100 000 of 100 000 keys",
        "job 7, add 127.0.0.1:7004: seal, 100 000 of 100 000 keys",
        "job 7, add 127.0.0.1:7004: done, 100 000 of 100 000 keys",
    ], "a line whenever the state changes, where there is no terminal"
    assert said.stdout.startswith("add 127.0.0.1:7004: done; 100 000 keys moved (3.0 MiB)\n")
    rows = [line.split() for line in said.stdout.splitlines() if "127.0.0.1:" in line][1:]
    assert [cluster.address(0), "33.3%", "25.0%"] in rows
    assert ["127.0.0.1:7004", "-", "25.0%"] in rows


def test_in_a_terminal_a_bar_shows_keys_rate_and_time_left(cluster: FakeRing) -> None:
    begun(cluster)
    said = type_(cluster, "nodes", "add", FORCE_COLOR="1", COLUMNS="120")
    assert said.exit_code == 0, said.stderr
    assert "add 127.0.0.1:7004: " in said.stderr
    assert "100 000 of 100 000 keys" in said.stderr
    assert "━━━" in said.stderr


def test_every_phase_of_a_job_has_its_figures_in_words() -> None:
    assert following.figures(job("transfer")) == "12 000 of 100 000 keys, 1.0 MiB/s, 4 s left"
    assert following.figures(job("queued", keys_total=0, bytes_per_second=0.0, seconds_left=None)) == ""
    assert following.sentence(job("aborted", why="the target died")) == (
        "job 7, add 127.0.0.1:7004: aborted, 12 000 of 100 000 keys (the target died)"
    )
    assert [following.seconds_text(s) for s in (0.0, 59.4, 125, 12_000)] == ["1 s", "59 s", "2 min 5 s", "3 h 20 min"]


@pytest.mark.parametrize("state", ["aborted", "cancelled"])
def test_a_job_that_was_given_up_is_a_negative_answer_with_its_reason(cluster: FakeRing, state: str) -> None:
    begun(cluster, job("transfer"), job(state, why="127.0.0.1:7004 died"))
    said = type_(cluster, "nodes", "add")
    assert said.exit_code == 1
    assert f"add 127.0.0.1:7004, was {state}: 127.0.0.1:7004 died. The ring is as it was" in said.stderr
    begun(cluster, job(state, why="127.0.0.1:7004 died"))
    for_programs = type_(cluster, "nodes", "add", "--json")
    assert for_programs.exit_code == 1
    assert json.loads(for_programs.stdout)["outcome"]["state"] == state


def test_what_is_refused_is_a_sentence_and_nothing_is_followed(cluster: FakeRing) -> None:
    cluster.refusal = "ERR 127.0.0.1:7001 is the last node"
    said = type_(cluster, "nodes", "remove", "127.0.0.1:7001")
    assert said.exit_code == 3
    assert "127.0.0.1:7001 is the last node" in said.stderr
    assert "Traceback" not in said.output


def test_an_order_that_was_not_answered_is_not_repeated_and_says_where_to_look(cluster: FakeRing) -> None:
    begun(cluster)
    for index in range(3):
        cluster.script(index, "RING", CLOSE)
    said = type_(cluster, "nodes", "add", "--detach", "--timeout", "1")
    assert said.exit_code == 4
    assert "Whether the order has arrived is not known: `ringkeeper jobs` shows it." in said.stderr
    assert cluster.orders == []


def nobody_leads(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """So many looks at jobs find nobody who could tell of them."""

    def read(client: Client) -> dict[str, Any]:
        nonlocal looks
        if looks:
            looks -= 1
            raise Unavailable("no ECS leads at the moment.", code="TRYAGAIN")
        return read_jobs(client)

    read_jobs = following.read_jobs
    monkeypatch.setattr(following, "read_jobs", read)


def test_while_nobody_leads_a_job_is_followed_all_the_same(cluster: FakeRing, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(cluster)
    nobody_leads(monkeypatch, looks=3)
    assert type_(cluster, "nodes", "add").exit_code == 0


def test_a_job_that_nobody_tells_of_for_long_is_left_in_doubt(
    cluster: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SILENT_SECONDS_MAX", 0.05)
    begun(cluster)
    nobody_leads(monkeypatch, looks=10**9)
    said = type_(cluster, "nodes", "add")
    assert said.exit_code == 4
    assert "job 7 goes on unseen" in said.stderr


def test_a_job_that_is_forgotten_is_left_in_doubt(cluster: FakeRing) -> None:
    begun(cluster, job("done", job=8))
    said = type_(cluster, "nodes", "add")
    assert said.exit_code == 4
    assert "job 7 is not among the latest any more" in said.stderr


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_see_and_cancel_it(
    cluster: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(cluster)

    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "read_jobs", press)
    said = type_(cluster, "nodes", "add")
    assert said.exit_code == 130
    assert "job 7 goes on: `ringkeeper jobs` shows how far it is, `ringkeeper jobs cancel 7` gives it up" in said.stderr
    assert cluster.orders == [["ADD", "COUNT", "1"]]


def test_detached_nothing_is_waited_for(cluster: FakeRing) -> None:
    begun(cluster, job("transfer"))
    said = type_(cluster, "nodes", "add", "2", "--detach")
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout == "job 7 has begun: `ringkeeper jobs` shows how far it is\n"
    assert json.loads(type_(cluster, "nodes", "add", "--detach", "--json").stdout) == cluster.reply


@pytest.mark.parametrize(
    ("words", "order"), [(("add", "2"), ["ADD", "COUNT", "2"]), (("remove", "h:1"), ["REMOVE", "h:1"])]
)
def test_a_dry_run_shows_what_would_move_and_orders_nothing(
    cluster: FakeRing, words: tuple[str, ...], order: list[str]
) -> None:
    cluster.reply = {"job": None, "nodes": ["127.0.0.1:7004"], "plan": PLAN}
    said = type_(cluster, "nodes", *words, "--dry-run")
    assert (said.exit_code, said.stderr) == (0, "")
    assert cluster.orders == [[*order, "DRYRUN"]]
    rows = [line.split() for line in said.stdout.splitlines()]
    assert ["0-100", "127.0.0.1:7001", "127.0.0.1:7004", "101", "55", "4.0", "KiB"] in rows
    assert ["200", "127.0.0.1:7002", "127.0.0.1:7004", "1", "-", "-"] in rows
    assert ["127.0.0.1:7001", "33.3%", "32.7%"] in rows
    assert ["127.0.0.1:7004", "-", "0.6%"] in rows
    assert "102 slots with an unknown number of keys to move" in said.stdout
    assert "warning: 127.0.0.1:7004 gets very little" in said.stdout
    assert said.stdout.endswith("nothing was changed\n")
    assert json.loads(type_(cluster, "nodes", *words, "--dry-run", "--json").stdout) == cluster.reply


def test_a_plan_of_many_transfers_is_cut_for_people(cluster: FakeRing) -> None:
    plan = {**PLAN, "transfers": PLAN["transfers"] * following.TRANSFERS_SHOWN_MAX, "keys": 1000, "bytes": 2048}
    cluster.reply = {"job": None, "nodes": [], "plan": plan}
    said = type_(cluster, "nodes", "add", "--dry-run").stdout
    assert f"and {following.TRANSFERS_SHOWN_MAX} more transfers" in said
    assert "102 slots with 1 000 keys, 2.0 KiB to move" in said


def test_for_programs_a_change_ends_with_its_outcome_and_the_shares(cluster: FakeRing) -> None:
    begun(cluster)
    cluster.ring_after = ring_of(cluster.ports[:2])
    outcome = json.loads(type_(cluster, "nodes", "remove", cluster.address(2), "--json").stdout)
    assert (outcome["job"], outcome["outcome"]["state"]) == (7, "done")
    before, after = outcome["shares"][cluster.address(2)]
    assert (round(before, 2), after) == (0.33, None)


@pytest.mark.parametrize(
    "words",
    [
        ("nodes", "add", "0"),
        ("nodes", "add", "-1"),
        ("nodes", "add", "many"),
        ("nodes", "add", "100000"),
        ("nodes", "add", "1", "--node", "h:1"),
        ("nodes", "add", "--node", "7004"),
        ("nodes", "remove"),
        ("nodes", "remove", "7004"),
        ("nodes", "remove", "h:1", "no node"),
        ("nodes", "restart"),
        ("nodes", "restart", "a", "b"),
        ("nodes", "fly"),
        ("jobs", "cancel"),
        ("jobs", "cancel", "x"),
        ("jobs", "cancel", "0"),
        ("start", "now"),
        ("stop", "--cluster", "no address"),
    ],
)
def test_what_makes_no_sense_ends_with_2_and_orders_nothing(cluster: FakeRing, words: tuple[str, ...]) -> None:
    said = type_(cluster, *words)
    assert said.exit_code == 2
    assert said.stderr
    assert "Traceback" not in said.output
    assert cluster.orders == []


def test_what_is_said_between_group_and_command_counts(cluster: FakeRing) -> None:
    begun(cluster)
    said = type_(
        cluster, "nodes", "--cluster", cluster.address(2), "--json", "add", "--detach", RINGKEEPER_CLUSTER="h:1"
    )
    assert said.exit_code == 0, said.stderr
    assert json.loads(said.stdout) == cluster.reply
    nearer = type_(cluster, "nodes", "--cluster", "h:1", "add", "--cluster", cluster.address(2), "--detach")
    assert nearer.exit_code == 0, nearer.stderr


# Looking at nodes and jobs


def test_the_nodes_are_listed_with_those_that_wait(cluster: FakeRing) -> None:
    said = type_(cluster, "nodes")
    assert said.exit_code == 0
    assert all(node.id in said.stdout for node in cluster.ring.nodes)
    assert "127.0.0.1:2 has registered and is not in the ring: `ringkeeper nodes add --node 127.0.0.1:2`" in said.stdout
    listed = json.loads(type_(cluster, "nodes", "--json").stdout)
    assert [node["id"] for node in listed["nodes"]] == [node.id for node in cluster.ring.nodes]
    assert listed["waiting"] == ["127.0.0.1:2"]


def test_jobs_are_listed_with_what_they_move_and_why_they_ended(cluster: FakeRing) -> None:
    assert "no change of the ring waits" in type_(cluster, "jobs").stdout
    cluster.course = deque([job("transfer")])
    said = type_(cluster, "jobs", COLUMNS="100").stdout
    (row,) = [line.split() for line in said.splitlines() if line.startswith("7 ")]
    assert row[:4] == ["7", "add", "127.0.0.1:7004", "transfer"]
    assert row[4:] == ["12", "000", "12%", "3.0", "MiB", "1.0", "MiB", "4", "s"]
    assert "4096-5460" in said
    cluster.course = deque([job("aborted", why="127.0.0.1:7004 died", began_wall_seconds=0.0)])
    said = type_(cluster, "jobs").stdout
    assert "job 7, add 127.0.0.1:7004: aborted, 12 000 of 100 000 keys (127.0.0.1:7004 died)" in said
    assert "4096-5460" not in said
    assert json.loads(type_(cluster, "jobs", "--json").stdout)["jobs"][0]["state"] == "aborted"


def test_the_lists_fit_into_a_terminal(cluster: FakeRing) -> None:
    cluster.course = deque([job("transfer", what="remove 127.0.0.1:17004, 127.0.0.1:17005", keys=12_345_678)])
    said = type_(cluster, "jobs", COLUMNS="80").stdout
    assert all(len(line) <= 80 for line in said.splitlines())
    assert "17005" in said
    assert "12 345 678" in said
    nodes = [
        {
            "id": "127.0.0.1:17803",
            "state": "down",
            "incarnation": "00000001fce360d0",
            "slots": 16384,
            "keys": 12_345_678,
            "bytes": 99 << 30,
            "pid": 4_194_304,
        }
    ]
    page = io.StringIO()
    Console(width=80, file=page).print(nodes_table(nodes))
    assert "…" not in page.getvalue()
    assert "4194304" in page.getvalue()


def test_status_shows_the_change_in_flight_and_what_waits(cluster: FakeRing) -> None:
    cluster.change = job("transfer")
    cluster.queue = [
        job("queued", job=8, what="remove 127.0.0.1:7002", keys_total=0, bytes_per_second=0.0, seconds_left=None)
    ]
    said = type_(cluster, "status").stdout
    assert said.splitlines()[0].endswith("leads; a change is in flight")
    assert "job 7, add 127.0.0.1:7004: transfer, 12 000 of 100 000 keys, 1.0 MiB/s, 4 s left\n" in said
    assert "job 8, remove 127.0.0.1:7002: queued\n" in said


# Cancelling


def test_a_cancelled_job_is_waited_for(cluster: FakeRing) -> None:
    cluster.reply = {"job": 7}
    cluster.course = deque([job("transfer"), job("cancelled")])
    said = type_(cluster, "jobs", "cancel", "7")
    assert (said.exit_code, cluster.orders) == (0, [["CANCEL", "7"]])
    assert "job 7, add 127.0.0.1:7004, is cancelled; the ring is as it was before it" in said.stdout


def test_a_job_that_was_done_first_is_a_negative_answer(cluster: FakeRing) -> None:
    cluster.reply = {"job": 7}
    cluster.course = deque([job("seal"), DONE])
    said = type_(cluster, "jobs", "cancel", "7")
    assert said.exit_code == 1
    assert "was done before it could be cancelled" in said.stderr


def test_a_job_that_cannot_be_cancelled_yet_is_not_said_to_be(
    cluster: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CANCEL_SECONDS_MAX", 0.05)
    cluster.reply = {"job": 7}
    cluster.course = deque([job("seal")])
    said = type_(cluster, "jobs", "cancel", "7")
    assert said.exit_code == 4
    assert "has not ended" in said.stderr


def test_an_unknown_job_is_refused_by_the_cluster(cluster: FakeRing) -> None:
    cluster.refusal = "ERR there is no job 99"
    said = type_(cluster, "jobs", "cancel", "99")
    assert said.exit_code == 3
    assert "there is no job 99" in said.stderr


# Restarting


@pytest.mark.parametrize("unanswered", [False, True])
def test_a_restart_is_over_when_the_node_is_up_in_a_new_life(
    cluster: FakeRing, monkeypatch: pytest.MonkeyPatch, unanswered: bool
) -> None:
    node = cluster.address(1)
    cluster.reply = {"job": None, "node": node}
    lives = iter(["0000000000000002", "0000000000000002", "0000000300000007"])
    status = type(cluster).status

    def living(self: FakeRing) -> dict[str, Any]:
        now = status.fget(self)  # type: ignore[attr-defined]
        life = next(lives)
        return {**now, "nodes": [{**each, "incarnation": life} for each in now["nodes"] if each["id"] == node]}

    monkeypatch.setattr(FakeRing, "status", property(living))
    if unanswered:  # the node that was to pass the answer on has ended
        cluster.everywhere.extend([EXECUTE, EXECUTE_CLOSE])
    said = type_(cluster, "nodes", "restart", node, "--force")
    assert said.exit_code == 0, said.stderr
    assert cluster.orders == [["RESTART", node, "FORCE"]]
    assert said.stdout == f"{node} is up again, as incarnation 0000000300000007\n"


def test_a_node_that_does_not_come_back_is_not_said_to_be_up(
    cluster: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "RESTART_SECONDS_MAX", 0.05)
    cluster.reply = {"job": None, "node": cluster.address(1)}
    said = type_(cluster, "nodes", "restart", cluster.address(1))
    assert said.exit_code == 4
    assert "is not up again" in said.stderr


def test_a_restart_that_would_leave_slots_unserved_is_refused(cluster: FakeRing) -> None:
    cluster.refusal = "ERR some slots have one copy only: FORCE would leave them unserved meanwhile"
    said = type_(cluster, "nodes", "restart", cluster.address(1))
    assert said.exit_code == 3
    assert "one copy only" in said.stderr


# Starting and stopping to serve


def test_start_and_stop_say_what_clients_get_now(cluster: FakeRing) -> None:
    cluster.reply = {"serving": False, "epoch": 9}
    stopped = type_(cluster, "stop")
    assert stopped.stdout == ("ring 9: client requests are refused until `ringkeeper start`; data and nodes stay\n")
    assert json.loads(type_(cluster, "stop", "--json").stdout) == cluster.reply
    cluster.reply = {"serving": True, "epoch": 10}
    assert type_(cluster, "start").stdout == "ring 10: client requests are answered\n"
    assert cluster.orders == [["STOP"], ["STOP"], ["START"]]


# Balance

BALANCE = {
    "by": "keys",
    "threshold": 0.05,
    "off_before": 0.76,
    "off_after": 0.049,
    "peak_before": 1.76,
    "peak_after": 1.05,
    "nodes": {"127.0.0.1:7001": {"before": 1760, "after": 1049, "part": 1000.0}},
    "copied_bytes": 3 << 20,
    "shifted": 711,
    "least": 711,
    "of_least": 1.0,
    "proven": True,
    "hottest": [[7, 12]],
    "missing": [],
    "why_not": "",
}


def test_a_balance_is_shown_before_it_is_done_and_says_why_it_would_do_nothing(cluster: FakeRing) -> None:
    cluster.reply = {"job": None, "nodes": [], "plan": PLAN, "balance": BALANCE}
    said = type_(cluster, "balance", "--by", "keys", "--threshold", "5%", "--max-move", "1000", "--dry-run")
    assert said.exit_code == 0 and "1 760" in said.stdout and "1.76 times its part before, 1.05 after" in said.stdout
    assert "1.00 of the least" in said.stdout and "nothing was changed" in said.stdout
    why = "every share is within 5.0% of its part"
    cluster.reply = {"job": None, "nodes": [], "plan": None, "balance": {**BALANCE, "why_not": why}}
    assert f"nothing moves: {why}" in type_(cluster, "balance").stdout
    assert cluster.orders == [["BALANCE", "BY", "keys", "THRESHOLD", "5", "MAXMOVE", "1000", "DRYRUN"], ["BALANCE"]]


def test_a_balance_is_asked_for_again_while_it_is_computed_and_not_where_nobody_is_reached(
    cluster: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ordered(client: Client, verb: str, *words: str) -> dict[str, Any]:
        tries.append(verb)
        if refusals:
            raise refusals.pop()
        return order(client, verb, *words)

    tries: list[str] = []
    refusals = [Unavailable("tokens are being computed", code="TRYAGAIN")]
    order = changes.order
    monkeypatch.setattr(changes, "order", ordered)
    monkeypatch.setattr(changes, "BALANCE_SECONDS_MAX", 5.0)
    cluster.reply = {"job": None, "plan": None}
    assert type_(cluster, "balance").exit_code == 0
    assert tries == ["BALANCE", "BALANCE"]
    tries.clear()
    nobody = type_(cluster, "balance", "--timeout", "0.1", "--cluster", f"127.0.0.1:{free_port()}")
    assert nobody.exit_code == 3 and "refuses connections" in nobody.stderr
    assert tries == ["BALANCE"]


def test_how_the_cluster_balances_itself_and_what_nodes_can_bear_is_set(cluster: FakeRing) -> None:
    cluster.reply = {"balancing": {"auto": True, "by": "requests", "threshold": 0.1}, "epoch": 9}
    said = type_(cluster, "balance", "--auto", "on", "--by", "requests", "--threshold", "10")
    assert said.stdout == "ring 9: the cluster balances itself by requests, within 10.0%\n"
    cluster.reply = {"node": cluster.address(1), "capacity": 2, "epoch": 10}
    assert "is of capacity 2" in type_(cluster, "balance", "--capacity", f"{cluster.address(1)}=2").stdout
    assert cluster.orders == [
        ["BALANCE", "AUTO", "ON", "BY", "requests", "THRESHOLD", "10"],
        ["BALANCE", "CAPACITY", cluster.address(1), "2"],
    ]
    for nonsense in (["--threshold", "x"], ["--capacity", "a=b"], ["--auto", "on", "--dry-run"], ["--by", "colour"]):
        assert type_(cluster, "balance", *nonsense).exit_code == 2


# When writes are answered


def test_when_writes_are_answered_is_said_and_set(cluster: FakeRing) -> None:
    assert type_(cluster, "acks").stdout.endswith("writes are answered once every copy that is up has them\n")
    cluster.reply = {"acks": "one", "epoch": 10}
    assert type_(cluster, "acks", "one").stdout == "ring 10: writes are answered once their coordinator has them\n"
    assert cluster.orders == [["DEFAULT", "ACKS", "one"]]
    assert type_(cluster, "acks", "some").exit_code == 2


# Limits


def test_how_fast_slots_move_is_said_and_set(cluster: FakeRing) -> None:
    assert "as much as it can" in type_(cluster, "limit").stdout
    cluster.reply = {"bytes_per_second": 5000, "epoch": 10}
    said = type_(cluster, "limit", "--bytes-per-second", "5000")
    assert said.stdout == "ring 10: each node sends at most 5000 bytes per second of slots that move\n"
    assert cluster.orders == [["LIMIT", "BYTES_PER_SECOND", "5000"]]
    for nonsense in ("-1", "fast", str(2**60)):
        assert type_(cluster, "limit", "--bytes-per-second", nonsense).exit_code == 2


# Recovering


def test_recovering_says_what_would_be_lost_and_does_it_only_when_that_is_accepted(cluster: FakeRing) -> None:
    node, other = cluster.address(1), cluster.address(2)
    cluster.reply = {"node": node, "epoch": 9, "lists": [{"slots": "0-5460", "complete": {other: "down"}}]}
    said = type_(cluster, "recover", node)
    assert said.exit_code == 3
    assert f"slots 0-5460: {other} (down) held everything" in said.stderr and "nothing was changed" in said.stderr
    said = type_(cluster, "recover", node, "--accept-loss")
    assert said.exit_code == 0 and said.stdout.startswith(f"ring 9: what {node} holds is all there is of\nslots 0-5460")
    assert cluster.orders == [["RECOVER", node, "DRYRUN"], ["RECOVER", node]]


# A ring that ZooKeeper has lost


def test_restoring_the_ring_says_what_was_found_and_what_was_written(cluster: FakeRing) -> None:
    holder = cluster.address(1)
    cluster.reply = {"epoch": None, "restored": 7, "stored": 1, "holders": [holder], "unheard": [cluster.address(2)]}
    said = type_(cluster, "ring", "restore", "--dry-run")
    assert (said.exit_code, said.stdout) == (
        0,
        f"the newest ring is 7, held by {holder}, ZooKeeper has ring 1; not heard: {cluster.address(2)}\n"
        "nothing was changed\n",
    )
    cluster.reply |= {"epoch": 1007, "stored": None}
    assert "ZooKeeper has none; not heard" in type_(cluster, "ring", "restore", "--accept-loss").stdout
    cluster.refusal = "ERR nothing is lost"
    said = type_(cluster, "ring", "restore")
    assert said.exit_code == 3 and "nothing is lost" in said.stderr
    assert cluster.orders == [["RESTORE", "DRYRUN"], ["RESTORE", "ACCEPTLOSS"], ["RESTORE"]]


# Help


@pytest.mark.parametrize(
    "words",
    [("nodes", name) for name in changes.nodes.commands]
    + [("jobs", "cancel"), ("limit",), ("acks",), ("recover",), ("ring", "restore")],
)
def test_every_command_of_a_group_has_help_with_an_example(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(ringkeeper, [*words, "--help"])
    assert said.exit_code == 0
    assert f"  ringkeeper {' '.join(words)}" in said.stdout


@pytest.mark.parametrize("group", ["nodes", "jobs", "ring"])
def test_the_list_of_a_groups_commands_is_not_cut_off(group: str) -> None:
    assert "..." not in CliRunner().invoke(ringkeeper, [group, "--help"]).stdout.partition("Commands:")[2]
