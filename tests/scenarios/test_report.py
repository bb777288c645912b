"""A report tells what came of a run, loads nothing, believes nothing it is told, and works in a real browser.

The tests marked *browser* open pages in a headless Chromium (Debian: ``apt install chromium``) and look at what became
of them there; where there is none they are skipped.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.runtime.simulation.wiretap import Happened, Heard, Said
from ringkeeper.scenarios import report
from ringkeeper.scenarios.checks import Violation, no_value_never_written
from ringkeeper.scenarios.history import History, Operation
from ringkeeper.scenarios.play import Scenario, play
from ringkeeper.scenarios.recording import RecordedRealStage, RecordedSimulatedStage, record_of
from ringkeeper.scenarios.report import MESSAGES_MAX, RunRecord, page, write_report
from ringkeeper.scenarios.report_drawing import (
    binned,
    duration,
    evidence_picture,
    marks_of,
    percentile,
    ring_picture,
    ring_strip,
)
from ringkeeper.scenarios.simulated_stage import SimulatedStage
from ringkeeper.scenarios.stage import Moment, Stage

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_SECONDS_MAX = 50.0
SCRIPT_MILLISECONDS = 3000
"""Of virtual time, in which scripts of a page may work."""

PARTS = (
    "verdict", "verdicts", "timeline", "story", "availability", "latency", "rings-before", "rings-after", "epochs",
    "messages", "lamport", "kinds", "listed",
)  # fmt: skip

EVIL = (
    "</script><script>document.body.dataset.evil=1</script><img src=x onerror='document.body.dataset.evil=2'>&amp;\"'"
)


# What is reported


def setup(stage: Stage) -> None:
    stage.start(nodes=3, ecs=2)


def story(stage: Stage) -> None:
    load = stage.load(clients=3)
    stage.wait_for(40, load)
    (newcomer,) = stage.join()
    stage.wait_for_phase("switch")
    stage.wait_until(lambda: newcomer in stage.members(), 60, "the newcomer is a member")
    stage.pause(newcomer)
    stage.let_pass(0.5)
    stage.resume(newcomer)
    stage.kill(newcomer)
    stage.let_pass(9.0)
    stage.restart(newcomer)


def check(stage: Stage) -> None:
    pass


SCENARIO = Scenario("a hard day", setup, story, check, "What a node goes\nthrough.\n\nAt length.")


@pytest.fixture(scope="module")
def recorded() -> RunRecord:
    """A run in which a node joins, pauses, dies and comes back."""
    stage = RecordedSimulatedStage(11)
    played = play(SCENARIO, stage)
    assert played.good, (played.failure, played.violations)
    return record_of(played, stage, about=SCENARIO.about, again="ringkeeper run hard.py --seed 11 --simulate")


@pytest.fixture(scope="module")
def evil(recorded: RunRecord) -> RunRecord:
    """A run in which everything that comes from outside wants to be more than text, and a promise was broken."""
    history = History(recorded.history)
    number = history.invoke(client=EVIL, kind="get", key=EVIL.encode(), at=1.0)
    history.complete(number, "ok", at=1.5, value=EVIL.encode(), node=EVIL)
    violations = no_value_never_written(history, {})
    assert violations
    return replace(
        recorded,
        title=EVIL,
        about=EVIL,
        again=EVIL,
        trace=EVIL,
        world=EVIL,
        failure=EVIL,
        history=history,
        timeline=(Moment(0.0, EVIL), *recorded.timeline, Moment(2.0, "\ud800 is no character")),
        messages=[Heard(Said("actors", EVIL, EVIL, EVIL, EVIL), EVIL, EVIL, 1.0), *recorded.messages],
        events=(Happened(1.0, EVIL, EVIL), *recorded.events),
        violations=(*violations, Violation(check=EVIL, sentence=EVIL, certain=False)),
    )


def empty(**fields: Any) -> RunRecord:
    return RunRecord(
        **{"title": "nothing", "seed": 1, "world": "nowhere", "seconds": 0.0, "history": History(), **fields}
    )


# Pages, without a browser


class Outline(HTMLParser):
    """Reads a page strictly: everything that is opened is closed, in order."""

    VOID = frozenset({"meta", "input", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, text: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(text)

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]

    def data(self) -> Any:
        """What the script of the page is given."""
        return json.loads(self.texts["script"][0])


@pytest.fixture(params=["a run", "an evil run", "nothing"])
def text(request: pytest.FixtureRequest, recorded: RunRecord, evil: RunRecord) -> str:
    return page({"a run": recorded, "an evil run": evil, "nothing": empty()}[request.param])


def test_a_page_is_well_formed_and_no_id_is_there_twice(text: str) -> None:
    outline = Outline(text)
    assert sorted(set(outline.ids())) == sorted(outline.ids())


def test_a_page_loads_nothing_from_anywhere(text: str) -> None:
    outline = Outline(text)
    own = re.sub(r"<script type=.application/json.*?</script>", "", text, flags=re.DOTALL)
    assert "http://" not in own and "https://" not in own and "@import" not in own
    assert set(re.findall(r"url\(([^)]*)\)", own)) <= {"#hatched", "#inside"}
    for tag, attributes in outline.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "srcset", "action", "data"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")
    policies = [each["content"] for tag, each in outline.tags if each.get("http-equiv") == "Content-Security-Policy"]
    assert policies and (policies[0] or "").startswith("default-src 'none'")
    assert [each.get("type") for tag, each in outline.tags if tag == "script"] == ["application/json", None]


def test_what_comes_from_outside_stays_text(evil: RunRecord) -> None:
    outline = Outline(page(evil))
    for tag in ("title", "h1", "code", "pre", "h3", "li"):
        assert any(EVIL in part for part in outline.texts[tag]), tag
    assert any(EVIL[:20] in part for part in outline.texts["h4"]), "keys are cut"
    assert EVIL in outline.data()["words"] and EVIL in outline.data()["processes"]


def test_a_page_tells_whether_all_was_well_and_how_to_see_it_again(recorded: RunRecord) -> None:
    text = page(recorded)
    for told in (
        'class="good"', "All was as it must be", "What a node goes through.", "ringkeeper run hard.py --seed 11",
        recorded.trace, f"{len(recorded.history)} operations", "127.0.0.1:7004 is killed",
    ):  # fmt: skip
        assert told in text, told
    assert "At length" not in text
    assert not set(PARTS) - set(Outline(text).ids())


@pytest.mark.parametrize(
    ("fields", "grade", "headline"),
    [
        ({}, "good", "All was as it must be"),
        ({"violations": (Violation(check="expected", sentence="more"),)}, "bad", "A promise was not kept"),
        ({"failure": "NotInTime: too late"}, "bad", "The run broke off"),
        ({"skipped": "there is one machine"}, "skipped", "Not played to its end: there is one machine"),
    ],
)
def test_the_verdict_is_said_first(fields: dict[str, Any], grade: str, headline: str) -> None:
    text = page(empty(**fields))
    assert f'<header id="verdict" class="{grade}">' in text
    assert f'<p class="headline">{headline}</p>' in text


def test_what_was_not_looked_at_is_not_said_to_be_kept() -> None:
    text = page(empty(failure="NotInTime: too late"))
    assert "✓" not in "".join(Outline(text).texts["b"]) and "was not looked at" in text
    assert "✓" in "".join(Outline(page(empty())).texts["b"])


def test_the_evidence_of_a_violation_is_shown_with_its_time(evil: RunRecord) -> None:
    accused = next(each for each in evil.history if each.client == EVIL)
    text = page(replace(evil, failure="", title="broken"))
    assert f"#{accused.number}" in text and f'data-begin="{accused.invoked!r}"' in text
    begin, end = Outline(text).data()["window"]
    assert begin <= accused.invoked and end >= (accused.completed or 0.0)


def test_every_promise_that_is_listed_says_what_it_is() -> None:
    for promise in report.PROMISES:
        assert report._first_sentence(promise.__doc__ or "") != "."


def test_writing_a_report_makes_one_file(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", empty(timeline=(Moment(0.0, "\ud800"),)))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# Messages


def heard(number: int, kind: str = "Chunk") -> Heard:
    return Heard(Said("actors", kind), "a", "b", number / 1000, number / 1000 + 0.0001)


def test_of_too_many_messages_upkeep_goes_first_and_then_what_is_far_from_the_window() -> None:
    messages = [heard(number, "Heartbeat" if number % 3 == 0 else "Chunk") for number in range(2 * MESSAGES_MAX)]
    seconds = 2 * MESSAGES_MAX / 1000
    data = Outline(page(empty(messages=messages, seconds=seconds, window=(30.0, 30.1)))).data()
    sent = [row[0] for row in data["messages"]]
    assert len(sent) == MESSAGES_MAX and sent == sorted(sent) and sent[0] < 30.0 < 30.1 < sent[-1]
    assert "Heartbeat" not in {data["words"][row[4]] for row in data["messages"]}
    assert data["notes"] == [f"{MESSAGES_MAX} messages are left out of this page."]


def test_messages_that_were_forgotten_are_told(recorded: RunRecord) -> None:
    data = Outline(page(replace(recorded, messages_forgotten=7))).data()
    assert data["notes"] == ["The first 7 messages were forgotten."]


def test_the_first_window_shows_a_change_of_the_ring_with_few_messages(recorded: RunRecord) -> None:
    data = Outline(page(recorded)).data()
    begin, end = data["window"]
    shown = [row for row in data["messages"] if begin <= row[0] <= end and data["words"][row[4]] not in data["upkeep"]]
    assert begin <= recorded.rings[1][0] <= end and 5 <= len(shown) <= 60


def test_processes_stand_in_an_order_that_people_expect(recorded: RunRecord) -> None:
    names = Outline(page(recorded)).data()["processes"]
    assert names[:3] == ["client-1", "client-2", "client-3"]
    assert names[3:7] == [f"127.0.0.1:700{number}" for number in (1, 2, 3, 4)]
    assert names[7:9] == ["ecs-1", "ecs-2"] and names[-1] == "zookeeper"


# Recording


def test_recording_changes_nothing(recorded: RunRecord) -> None:
    assert play(SCENARIO, SimulatedStage(11)).trace == recorded.trace


def test_recording_changes_nothing_either_where_zookeeper_is_away_or_its_servers_are_slow() -> None:
    def troubled(stage: Stage) -> None:
        assert isinstance(stage, SimulatedStage)
        load = stage.load(clients=2)
        stage.cluster.slow("zookeeper", 0.02)
        stage.cluster.drift("zookeeper", 1.02)
        stage.join()
        stage.wait_for_phase("seal")
        stage.wait_for(20, load)
        stage.zookeeper_away(3.0)
        stage.let_pass(5.0)
        stage.cluster.slow("zookeeper", 0.00003)

    traces = []
    for kind in (RecordedSimulatedStage, SimulatedStage):
        played = play(Scenario("troubled", setup, troubled, check), kind(5))
        assert played.good, (played.failure, played.violations)
        traces.append(played.trace)
    assert traces[0] == traces[1]


def test_every_ring_is_recorded_in_its_order(recorded: RunRecord) -> None:
    epochs = [ring.epoch for _, ring in recorded.rings]
    assert epochs == list(range(1, epochs[-1] + 1)) and epochs[-1] >= 6
    moments = [at for at, _ in recorded.rings]
    assert moments == sorted(moments)


def test_messages_of_every_kind_are_recorded_and_those_to_a_dead_node_are_lost(recorded: RunRecord) -> None:
    assert {each.said.speech for each in recorded.messages} == {"actors", "clients", "zookeeper", "links"}
    assert {"Learn", "Chunk", "ChangeReported"} <= {each.said.kind for each in recorded.messages}
    lost = [each for each in recorded.messages if each.received is None]
    assert lost and {each.to for each in lost} >= {"127.0.0.1:7004"}
    assert {"paused", "resumed", "killed"} <= {each.what for each in recorded.events}


@pytest.mark.processes
def test_a_run_on_real_processes_is_told_too() -> None:
    def founded(stage: Stage) -> None:
        stage.start(nodes=1)

    def asked(stage: Stage) -> None:
        stage.wait_for(20, stage.load(clients=1))

    stage = RecordedRealStage(1)
    played = play(Scenario("a quiet day", founded, asked, check), stage)
    assert played.good, (played.failure, played.violations)
    record = record_of(played, stage)
    outline = Outline(page(record))
    assert [ring.epoch for _, ring in record.rings] == [1] and len(record.history) >= 20
    assert outline.data()["messages"] == [] and "rings-after" in outline.ids()
    assert any("on real processes" in text for text in outline.texts["dd"])


# Pictures


def operation(invoked: float, completed: float | None, outcome: Any, number: int = 0) -> Operation:
    return Operation(
        number=number, client="c", kind="set", key=b"k", argument=b"v", invoked=invoked, completed=completed,
        outcome=outcome,
    )  # fmt: skip


spans = st.tuples(st.floats(0.0, 900.0), st.floats(0.0, 50.0), st.sampled_from(["ok", "not", "maybe"]))


@given(st.lists(spans), st.floats(0.001, 5000.0))
def test_every_operation_counts_once_in_the_plots(times: list[tuple[float, float, Any]], seconds: float) -> None:
    history = History(operation(begin, begin + length, outcome) for begin, length, outcome in times)
    bins = binned(history, seconds).bins
    outcomes = [each.outcome for each in history]
    assert sum(each.ok for each in bins) == outcomes.count("ok") == sum(len(each.latencies) for each in bins)
    assert sum(each.no for each in bins) == outcomes.count("not")
    assert sum(each.maybe for each in bins) == outcomes.count("maybe")
    Outline(page(empty(history=history, seconds=seconds)))


def test_an_operation_that_was_never_answered_is_in_doubt_from_its_beginning() -> None:
    bins = binned(History([operation(0.25, None, "maybe")]), 1.0)
    assert bins.seconds == 0.1 and [each.maybe for each in bins.bins] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, part) for part in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 µs"), (2e-6, "2 µs"), (0.0004, "400 µs"), (0.0123, "12.3 ms"), (0.9999, "1 s"), (61.4, "61.4 s")],
)
def test_durations_are_said_with_a_unit_that_fits(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_pause_of_the_clients_is_no_gap_and_a_time_without_answers_is_one() -> None:
    quick = [operation(at, at + 0.01, "ok") for at in (0.0, 0.1, 5.0)]
    gap, since = report._longest_gap(History(quick))
    assert gap == pytest.approx(0.01)
    stuck = [operation(1.0, 3.0, "not"), operation(1.5, 4.0, "ok")]
    gap, since = report._longest_gap(History([*quick, *stuck]))
    assert gap == pytest.approx(3.0) and since == 1.0
    assert report._longest_gap(History()) == (0.0, 0.0)


def test_the_strip_of_a_ring_covers_every_slot_once(recorded: RunRecord) -> None:
    rings = [ring for _, ring in recorded.rings]
    marks = marks_of(rings)
    for ring in rings:
        titles = re.findall(r"slots (\d+)(?:-(\d+))?: (\S+)", ring_strip(ring, marks))
        covered = [(int(first), int(last or first), who) for first, last, who in titles]
        assert covered[0][0] == 0 and covered[-1][1] == SLOTS - 1
        assert all(one[1] + 1 == other[0] for one, other in zip(covered, covered[1:], strict=False))
        for first, last, who in covered:
            for slot in (first, last):
                coordinator = ring.coordinator(slot)
                assert who == (coordinator.id if coordinator is not None else "nobody")


def test_slots_that_nobody_answers_for_are_hatched(recorded: RunRecord) -> None:
    def hatched(ring: Ring) -> bool:
        return 'class="nobody"' in ring_picture(ring, marks_of([ring]))

    downs = [ring for _, ring in recorded.rings if None in ring.coordinators]
    assert downs and all(map(hatched, downs)) and not hatched(recorded.rings[0][1])


def test_the_accused_operations_are_always_in_the_picture() -> None:
    many = [operation(number / 100, number / 100 + 0.5, "ok", number) for number in range(500)]
    picture = evidence_picture(many, frozenset({3, 499}))
    assert picture.count("accused") == 2 and ">#3<" in picture and ">#499<" in picture
    assert 10 < picture.count("<rect") < 100


def test_what_is_only_known_of_the_end_has_no_picture() -> None:
    end = operation(float("inf"), float("inf"), "ok")
    assert evidence_picture([end], frozenset({0})) == ""
    page(empty(violations=(Violation(check="linearizable", sentence="no", operations=(end,)),)))


# In a browser


Browse = Callable[..., str]


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Browse]:
    """Open a page, run a script in it when it is ready, and return what became of it."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (Debian: apt install chromium)")
    chromium = CHROMIUM

    def browse(text: str, *, act: str = "", fragment: str = "") -> str:
        path = tmp_path / "page.html"
        acting = f"<script>setTimeout(() => {{ {act} }}, 500)</script></body>" if act else "</body>"
        path.write_text(text.replace("</body>", acting), encoding="utf-8", errors="backslashreplace")
        words = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-extensions", f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr", f"--virtual-time-budget={SCRIPT_MILLISECONDS}", "--window-size=1280,2000",
            "--dump-dom", path.as_uri() + fragment,
        ]  # fmt: skip
        environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        try:
            dom, log = process.communicate(timeout=BROWSER_SECONDS_MAX)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        assert process.returncode == 0, log
        console = [line for line in log.splitlines() if "CONSOLE" in line]
        return f"{dom}\n<!-- console -->\n" + "\n".join(console)

    yield browse


def assert_works(dom: str) -> None:
    assert 'data-ready="yes"' in dom
    assert 'id="script-errors"' not in dom, dom[dom.index('id="script-errors"') :][:500]
    assert dom.endswith("<!-- console -->\n"), "nothing is said on the console"


def drawn(dom: str) -> int:
    (count,) = re.findall(r'id="lamport"[^>]* data-drawn="(\d+)"', dom)
    return int(count)


@pytest.mark.browser
def test_a_browser_shows_all_parts_without_errors(recorded: RunRecord, browse: Browse) -> None:
    dom = browse(page(recorded))
    assert_works(dom)
    assert not [part for part in PARTS if f'id="{part}"' not in dom]
    assert 5 <= drawn(dom) == dom.count('class="arrow') <= 60
    for name in ("client-1", "127.0.0.1:7004", "ecs-1", "zookeeper"):
        assert f">{name}</text>" in dom
    assert '<p id="missing" hidden' in dom and '<div id="diagram">' in dom


@pytest.mark.browser
def test_in_a_browser_too_what_comes_from_outside_stays_text(evil: RunRecord, browse: Browse) -> None:
    dom = browse(page(evil), fragment="#window=0.9-1.1")
    assert_works(dom)
    assert "data-evil" not in dom.replace("dataset.evil", "") and drawn(dom) > 0


@pytest.mark.browser
def test_the_window_is_taken_from_the_address(recorded: RunRecord, browse: Browse) -> None:
    killed = next(each.at for each in recorded.events if each.what == "killed")
    dom = browse(page(recorded), fragment=f"#window={killed - 0.02}-{killed + 0.02}")
    assert_works(dom)
    assert "40 ms from" in dom and "s: killed</title>" in dom and "dead-line" in dom


@pytest.mark.browser
def test_a_window_with_too_many_messages_draws_some_and_says_so(recorded: RunRecord, browse: Browse) -> None:
    dom = browse(page(recorded), act="document.getElementById('whole').click()")
    assert_works(dom)
    lost = [each for each in recorded.messages if each.received is None]
    assert 300 <= drawn(dom) <= 501 + len(lost) and "are drawn: zoom in, or choose fewer kinds" in dom


@pytest.mark.browser
def test_kinds_can_be_taken_away_and_words_searched_for(recorded: RunRecord, browse: Browse) -> None:
    none = (
        "for (const each of document.querySelectorAll('#kinds button')) if (each.textContent === 'none') each.click();"
    )
    assert drawn(browse(page(recorded), act=none)) == 0
    search = """
        const field = document.getElementById("search");
        field.value = "Learn";
        field.dispatchEvent(new Event("input"));
        document.getElementById("whole").click();
    """
    dom = browse(page(recorded), act=search)
    assert_works(dom)
    of_learning = [each for each in recorded.messages if "learn" in f"{each.said.kind} {each.said.detail}".lower()]
    assert 2 <= drawn(dom) <= len(of_learning) + 20 and ">Learn</text>" in dom


@pytest.mark.browser
def test_causes_and_consequences_of_a_message_are_found(browse: Browse) -> None:
    """a -> b -> c at once, and d -> a too late to matter; the chosen one is that from b to c."""
    said = Said("actors", "Note")
    messages = [
        Heard(said, "a", "b", 0.010, 0.020),
        Heard(said, "d", "c", 0.015, 0.050),
        Heard(said, "b", "c", 0.030, 0.040),
        Heard(said, "c", "d", 0.035, 0.060),
        Heard(said, "c", "a", 0.045, 0.055),
        Heard(said, "d", "b", 0.050),
        Heard(said, "a", "d", 0.070, 0.080),
    ]
    act = """document.querySelectorAll("#lamport g.arrow")[2].dispatchEvent(new MouseEvent("click", {bubbles: true}))"""
    dom = browse(page(empty(messages=messages, seconds=0.1, window=(0.0, 0.1))), act=act)
    assert_works(dom)
    roles = [name.split()[1:] for name in re.findall(r'class="(arrow[^"]*)"', dom)]
    assert roles == [["past"], [], ["chosen"], [], ["future"], ["lost"], ["future"]]
    assert "1 messages can have caused it, it can have caused 2." in dom


@pytest.mark.browser
def test_the_list_tells_the_messages_of_the_window_one_by_one(recorded: RunRecord, browse: Browse) -> None:
    dom = browse(page(recorded), act="document.getElementById('listed').open = true")
    assert_works(dom)
    assert dom[dom.index('id="listed"') :].count("<tr") == drawn(dom) + 1


@pytest.mark.browser
def test_a_moment_of_the_timeline_leads_to_its_messages(recorded: RunRecord, browse: Browse) -> None:
    at = recorded.timeline[2].at
    dom = browse(page(recorded), act="document.querySelectorAll('#timeline button')[2].click()")
    assert_works(dom)
    assert f"40 ms from {at - 0.02:.6f} s" in dom


@pytest.mark.browser
def test_a_run_without_messages_says_why_there_are_none(browse: Browse) -> None:
    dom = browse(page(empty(messages_missing="Nobody listened.")))
    assert_works(dom)
    assert '<p id="missing">Nobody listened.</p>' in dom and '<div id="diagram" hidden' in dom


@pytest.mark.browser
@pytest.mark.parametrize(
    "fault",
    ["throw new Error('as asked')", "const image = new Image(); image.src = 'data:,x'; document.body.append(image)"],
)
def test_an_error_of_a_script_and_an_attempt_to_load_would_be_seen(fault: str, browse: Browse) -> None:
    dom = browse(page(empty()), act=fault)
    assert 'id="script-errors"' in dom
    with pytest.raises(AssertionError):
        assert_works(dom)
