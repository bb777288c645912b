"""events and top: what they make of what the processes tell, and of those that tell nothing."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from ringkeeper.cli import top as top_module
from ringkeeper.cli.events import KINDS, EventsOf
from ringkeeper.cli.main import ringkeeper
from ringkeeper.cli.observing import ClientProcesses
from ringkeeper.cli.options import opened
from ringkeeper.cli.outcomes import USAGE, Trouble
from ringkeeper.cli.shell.real_target import RealTarget
from ringkeeper.cli.shell.session import Shell
from ringkeeper.cli.shell.table import TABLE
from ringkeeper.cli.top import frame, screen
from ringkeeper.runtime.process import free_port
from ringkeeper.tests.actors.fake_cluster import SILENT, Refusal
from ringkeeper.tests.cli.fake_ring import FakeRing


def event(process: str, number: int, at: float, kind: str = "state") -> dict[str, Any]:
    told = {"number": number, "at": at, "process": process, "kind": kind, "sentence": f"event {number}"}
    return {**told, "cause": "a reason", "epoch": 8, "fields": {}}


class Telling(FakeRing):
    """Its processes tell what they were given, in pieces of two events; the third node says that it will not."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[str, list[dict[str, Any]]] = {
            "0": [event("node 1", number, 10.0 + number) for number in range(3)],
            "1": [event("node 2", 0, 11.0), event("node 2", 1, 20.0, "ring")],
            "ecs": [event("ecs", 0, 10.5)],
        }

    def _execute(self, index: int, words: list[bytes]) -> Any:
        match words:
            case [b"RING", b"OBSERVE", where, word, text]:
                whose = "ecs" if where == b"ecs" else str(index)
                if whose == "2":
                    raise Refusal("TRYAGAIN this node did not answer within 5 s")
                if word == b"METRICS":
                    return json.dumps({"ringkeeper_keys": 7}).encode()
                since = json.loads(text).get("since", 0)
                told = self.events[whose][since : since + 2]
                more = since + len(told) < len(self.events[whose])
                answer = {"process": whose, "began": 1.0, "events": told, "next": since + len(told), "more": more}
                return json.dumps({**answer, "lost": 0}).encode()
        return super()._execute(index, words)


@pytest.fixture
def cluster() -> Iterator[Telling]:
    cluster = Telling()
    with cluster:
        yield cluster


def type_(cluster: FakeRing | str, *words: str) -> Result:
    seeds = cluster if isinstance(cluster, str) else f"{cluster.address(0)},{cluster.address(1)}"
    return CliRunner(env={"RINGKEEPER_CLUSTER": seeds, "TZ": "UTC"}).invoke(ringkeeper, words)


def test_events_of_all_processes_are_told_in_the_order_of_their_clocks(cluster: Telling) -> None:
    told = type_(cluster, "events", "--json")
    assert told.exit_code == 0
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(each["process"], each["number"]) for each in events] == [
        ("node 1", 0), ("ecs", 0), ("node 1", 1), ("node 2", 0), ("node 1", 2), ("node 2", 1),
    ]  # fmt: skip
    assert told.stderr == f"ringkeeper: {cluster.address(2)}: this node did not answer within 5 s\n"


def test_an_event_is_one_line_that_does_nothing_to_the_terminal(cluster: Telling) -> None:
    cluster.events["ecs"][0]["sentence"] = "key a\x1b[2J\nb differs"
    told = type_(cluster, "events").stdout
    assert "ecs  state: key a\\x1b[2J\\nb differs (a reason)\n" in told


def test_events_may_be_chosen_by_kind_and_number(cluster: Telling) -> None:
    told = type_(cluster, "events", "--kind", "ring")
    assert told.stdout.endswith("  node 2  ring: event 1 (a reason)\n") and told.stdout.count("\n") == 1
    assert type_(cluster, "events", "--last", "2").stdout.count("\n") == 2
    assert type_(cluster, "events", "--last", "0").stdout == ""
    refused = type_(cluster, "events", "--kind", "nonsense")
    assert refused.exit_code == 2 and "'nonsense' is not one of 'ring'" in refused.stderr


def test_who_follows_hears_of_a_new_life_and_of_what_is_gone() -> None:
    told = [
        (1.0, [event("n", 0, 1.0)], 0),
        (1.0, [event("n", 7, 2.0)], 6),
        (9.0, [], 0),
        (9.0, [event("n", 0, 3.0)], 0),
    ]

    class Process:
        def observe_all(self, places: list[str], word: str, since: dict[str, Any]) -> Any:
            began, events, lost = told.pop(0)
            following = events[-1]["number"] + 1 if events else 0
            return {"n": {"began": began, "events": events, "next": following, "more": False, "lost": lost}}, {}

    said: list[str] = []
    follower = EventsOf(Process(), said.append, ["n"])  # type: ignore[arg-type]
    assert [[each["number"] for each in follower.new()] for _ in range(3)] == [[0], [7], [0]]
    assert said == ["n does not remember 6 more events: they came too fast"]


def test_a_leader_that_leads_again_tells_nothing_twice() -> None:
    lives = {1.0: [event("ecs", number, number) for number in range(2)], 2.0: [event("ecs", 0, 3.0)]}
    leads = [1.0, 2.0, 1.0]

    class Leader:
        def observe_all(self, places: list[str], word: str, since: dict[str, Any]) -> Any:
            began, number = leads[0], since.get("ecs", {"since": 0})["since"]
            events, following = lives[began][number:], number + len(lives[began][number:])
            return {"ecs": {"began": began, "events": events, "next": following, "more": False, "lost": 0}}, {}

    follower = EventsOf(Leader(), str, ["ecs"])  # type: ignore[arg-type]
    told = []
    while leads:
        told += [(leads[0], each["number"]) for each in follower.new()]
        lives[1.0].append(event("ecs", len(lives[1.0]), 4.0))
        leads.pop(0)
    assert told == [(1.0, 0), (1.0, 1), (2.0, 0), (1.0, 2), (1.0, 3)]


def test_where_there_is_no_cluster_that_is_said() -> None:
    for command in ("events", "top"):
        ended = type_(f"127.0.0.1:{free_port()}", command, "--timeout", "0.5")
        assert ended.exit_code == 3 and ended.stderr.startswith("ringkeeper: RING SHOW was not done"), ended.output


def test_top_shows_one_frame_where_there_is_no_terminal(cluster: Telling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_module, "REFRESH_SECONDS", 0.01)
    shown = type_(cluster, "top")
    assert shown.exit_code == 0, shown.output
    assert f"{cluster.address(2)}: this node did not answer within 5 s" in shown.stdout
    assert shown.stdout.splitlines()[0].endswith(f"cluster fake: ring 1; the ECS at {cluster.leader} leads")


def test_the_shell_shows_and_tells_what_the_commands_do(
    cluster: Telling, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_moments(text: str) -> list[str]:
        return [line.partition("  ")[2] for line in text.splitlines()]

    monkeypatch.setattr(top_module, "REFRESH_SECONDS", 0.01)
    target = RealTarget(f"{cluster.address(0)},{cluster.address(1)}", None, 5.0)
    try:
        shell = Shell(target, TABLE)
        shell.out.width = 80
        for typed, command in (("top", "top"), ("events kind state max 3", "events --kind state --last 3")):
            shell.run(typed)
            said = without_moments(capsys.readouterr().out)
            assert said == without_moments(type_(cluster, *command.split()).stdout) and len(said) >= 3
        assert shell.run("events kind states") == USAGE and "did you mean state?" in capsys.readouterr().err
    finally:
        target.close()


def test_who_was_silent_is_the_last_by_way_of_whom_others_are_asked(cluster: Telling) -> None:
    with opened(cluster.address(1), None, 1.0) as client:
        processes = ClientProcesses(client)
        first = processes.nodes()[0]
        index = [cluster.address(each) for each in range(3)].index(first)
        cluster.script(index, "RING", SILENT)
        answers, silent = processes.observe_all([first], "METRICS")
        assert not answers and list(silent) == [first]
        with suppress(Trouble):  # the third node refuses
            processes.observe("ecs", "EVENTS")
        asked = [who for who, words in cluster.log if words[:3] == (b"RING", b"OBSERVE", b"ecs")]
        assert asked and index not in asked


STATUS = {
    "cluster": "fake", "epoch": 8, "leader": "127.0.0.1:9",
    "nodes": [{"id": "a:1", "state": "up", "share": 0.5}, {"id": "b:2", "state": "down", "share": 0.5}],
}  # fmt: skip


def figures(requests: int, slow: int) -> dict[str, Any]:
    return {
        "ringkeeper_request_seconds_count": [[{"answered": "at once"}, requests]],
        "ringkeeper_request_seconds_bucket": [
            [{"le": "0.001"}, requests - slow], [{"le": "0.5"}, requests], [{"le": "+Inf"}, requests],
        ],
        "ringkeeper_keys": 1234,
        "ringkeeper_mailbox_messages": [[{"actor": "gateway"}, 3], [{"actor": "storage"}, 12]],
        "ringkeeper_replication_lag_seconds": [[{"successor": "b:2"}, 0.25], [{"successor": "c:3"}, 0.5]],
    }  # fmt: skip


def test_rates_and_times_are_those_between_two_samples() -> None:
    shown = frame(1e9, STATUS, {"a:1": figures(1000, 0)}, {"a:1": figures(1200, 20), "b:2": "dead"}, 2.0, [])
    up, down = shown["nodes"]
    assert (up["requests_per_second"], up["keys"], up["lag_seconds"]) == (100, 1234, 0.5)
    assert up["p50_seconds"] < 0.001 < up["p99_seconds"] < 0.5
    assert (up["mailbox"], up["mailbox_of"]) == (12, "storage")
    assert down["silent"] == "dead"
    console = Console(width=80, color_system=None)
    with console.capture() as drawn:
        console.print(screen(shown))
    lines = drawn.get().splitlines()
    assert max(map(len, lines)) <= 80 and "12 storage" in lines[3] and "100" in lines[3]


def test_a_process_that_has_started_again_has_no_rate_yet() -> None:
    shown = frame(1e9, STATUS, {"a:1": figures(1000, 0)}, {"a:1": figures(10, 0)}, 1.0, [])
    assert shown["nodes"][0]["requests_per_second"] is None
    assert shown["nodes"][0]["p50_seconds"] is not None


def test_every_kind_of_event_that_the_code_notes_can_be_asked_for() -> None:
    """The kinds are words in calls of ``note``; who invents one adds it to the command."""
    import re
    from pathlib import Path

    root = Path(top_module.__file__).parent.parent
    call = re.compile(r"\b(?:events|self)\.(?:_?note)\(\s*\"([a-z ]+)\"")
    found = {kind for room in ("actors", "runtime") for file in (root / room).rglob("*.py")
             for kind in call.findall(file.read_text())}  # fmt: skip
    assert {"ring", "session", "takeover"} <= found <= set(KINDS), found - set(KINDS)
