"""The actor shell, line by line: on a simulated cluster, on one that is not there, and what it makes of nonsense."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from ringkeeper.cli.main import ringkeeper
from ringkeeper.cli.outcomes import BUG, DONE, INTERRUPTED, NO, REFUSED, USAGE
from ringkeeper.cli.shell import lines, terminal, tour
from ringkeeper.cli.shell.about_actors import hang_lines
from ringkeeper.cli.shell.lines import Said, Wrong
from ringkeeper.cli.shell.real_target import RealTarget
from ringkeeper.cli.shell.session import Shell
from ringkeeper.cli.shell.simulated_target import SimulatedTarget
from ringkeeper.cli.shell.table import COMMANDS, TABLE
from ringkeeper.runtime.process import free_port
from ringkeeper.scenarios import node_dies
from ringkeeper.tests.cli.fake_ring import FakeRing

KEY = "user:42"


@pytest.fixture
def shell() -> Iterator[Shell]:
    target = SimulatedTarget(7, None, lambda moment: None)
    yield Shell(target, TABLE)
    target.close()


Says = Callable[..., tuple[int, str]]


@pytest.fixture
def says(shell: Shell, capsys: pytest.CaptureFixture[str]) -> Says:
    """Runs lines; the worst exit status, and all that was said."""

    def run(*typed: str) -> tuple[int, str]:
        capsys.readouterr()
        statuses = [shell.run(line) for line in typed]
        heard = capsys.readouterr()
        return max(statuses), heard.out + heard.err

    return run


# What is typed


def test_a_line_is_taken_apart_where_nothing_is_quoted_or_in_brackets() -> None:
    assert lines.commands("put a 'b; c' & ; get a; # get b") == [Said("put a 'b; c'", True), Said("get a")]
    assert lines.commands("tell storage Sync(batch=1, reply_to='a;b'); py x & y") == [
        Said("tell storage Sync(batch=1, reply_to='a;b')"),
        Said("py x & y"),
    ]
    assert lines.commands("py {\n  a = 1; # one\n  a\n}") == [Said("py {\n  a = 1; # one\n  a\n}")]
    for broken in ("put 'a", "tell storage Sync(", 'get "'):
        with pytest.raises(Wrong):
            lines.commands(broken)


def test_the_first_word_may_stand_in_quotes() -> None:
    assert lines.first_word("  py\t{\n a\n}") == ("py", "{\n a\n}")
    assert lines.first_word("'a b' get") == ("a b", "get")
    assert lines.first_word(" ") == ("", "")


def test_a_message_is_made_of_literals_only() -> None:
    assert lines.message("Sync(batch=1, keys=[b'a', ('b', None)])") == (
        "Sync",
        {"batch": 1, "keys": ["a", ["b", None]]},
    )
    assert lines.message("LookForRing") == lines.message("LookForRing()") == ("LookForRing", {})
    for wrong in ("Sync(1)", "Sync(**{})", "Sync(batch=open('x'))", "a.Sync()", "Sync(batch=", "", "1", "Sync(a={1})"):
        with pytest.raises(Wrong):
            lines.message(wrong)


def test_spans_of_time_have_units_and_bounds() -> None:
    assert [lines.seconds(text) for text in ("300ms", "2s", "1.5", "2min")] == pytest.approx([0.3, 2.0, 1.5, 120.0])
    for wrong in ("", "0s", "-1s", "2 years", "1e9", "nan"):
        with pytest.raises(Wrong):
            lines.seconds(wrong)


# The commands


def test_every_command_has_help_with_an_example(says: Says) -> None:
    for name, command in TABLE.items():
        status, said = says(f"help {name}")
        assert status == DONE and command.example in said and said.startswith(name)
        assert command.help.endswith(".") and command.help in says("help")[1]


def test_every_command_answers_nonsense_in_a_sentence(says: Says) -> None:
    for line in (f"{name} {nonsense}" for name in TABLE for nonsense in ("a b c d e f g", "'", "\\") if name != "exit"):
        status, said = says(line)
        assert status in (USAGE, REFUSED, NO) and len(said.strip()) > 10 and "Traceback" not in said, (line, said)


EXAMPLES = [command.example for command in COMMANDS if command.name not in ("exit", "help")]


def test_every_example_with_a_dead_node_ends_in_words(says: Says) -> None:
    says("kill 7002", "until down 7002")
    for example in EXAMPLES:
        status, said = says(example.replace("60s", "1s"))
        assert status < BUG and "Traceback" not in said, (example, said)


def test_every_example_without_a_cluster_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    where = f"127.0.0.1:{free_port()}"
    target = RealTarget(where, None, 0.1)
    shell = Shell(target, TABLE)
    for example in EXAMPLES:
        if example.startswith(("wait", "run", "until", "heal", "traced", "untrace")):
            continue  # nobody is asked
        status = shell.run(example.removesuffix(" &"))
        heard = capsys.readouterr()
        assert status in (REFUSED, USAGE) and heard.err.count("\n") >= 1 and not heard.out, (example, heard)
    target.close()


def test_unknown_words_are_answered_with_what_was_probably_meant(says: Says) -> None:
    assert "did you mean inspect?" in says("inspct storage")[1]
    assert "did you mean storage?" in says("inspect storag")[1]
    assert "did you mean" in says("7001 top by deepth")[1]
    assert "there are 127.0.0.1:7001, 127.0.0.1:7002" in says("kill 9999")[1]
    assert (
        says("700 actors")[1] == "'700' is no node; there are 127.0.0.1:7001, 127.0.0.1:7002, 127.0.0.1:7003, and ecs\n"
    )


def test_an_aim_says_for_which_processes_a_command_is(says: Says) -> None:
    status, said = says(f"owner-of {KEY} inspect replicator")
    assert status == DONE and said.startswith("replicator of 127.0.0.1:7001:") and "parent: storage" in said
    assert says("all inspect observer")[1].count("observer of ") == 4
    assert says("ecs inspect ecs")[0] == says("inspect ecs")[0] == says("7002 inspect storage")[0] == DONE
    status, said = says("inspect storage")
    assert status == USAGE and "say which: 127.0.0.1:7001 inspect storage" in said
    assert "without a node" in says("7001 nodes")[1]
    assert "say what to do there" in says("7001")[1]


def test_keys_are_put_found_and_deleted(says: Says) -> None:
    assert says(f"put {KEY} 'Ada L'; put {KEY}3 x; get {KEY}")[1].endswith("Ada L\n")
    assert says("scan user:*")[1] == f"{KEY}\n{KEY}3\n"
    assert says(f"delete {KEY}")[0] == DONE
    assert says(f"get {KEY}") == (NO, f"{KEY} is not there\n")
    assert says(f"locate {KEY}")[1].startswith(f"{KEY} is in slot 15880; 127.0.0.1:7001 answers for it (ring epoch 1)")


def test_what_somebody_stored_does_nothing_to_the_terminal(says: Says, shell: Shell) -> None:
    key = b"a\x1b]52;c;cm0=\x07\n\xc2\x9b2Jb\xff"
    shell.target.execute("SET", key, b"x")
    shell.target.execute("SET", b"name", key)
    assert says("scan a*")[1] == "a\\x1b]52;c;cm0=\\x07\\n\\x9b2Jb\\xff\n"
    assert says("get name")[1] == "a\\x1b]52;c;cm0=\\x07\n\\x9b2Jb\\xff\n"
    assert "get name: a\\x1b]52;c;cm0=\\x07\\n\\x9b2Jb\\xff, after" in says("get name &", "wait")[1]
    assert says("get 'x\x1b[2J'") == (NO, "x\\x1b[2J is not there\n")


def test_a_held_message_lets_a_put_wait_until_it_is_released(says: Says) -> None:
    status, said = says(f"hold Append from owner-of {KEY} to successor-of {KEY}", f"put {KEY} Ada &", "run 300ms")
    assert status == DONE and "127.0.0.1:7001 holds Append from 127.0.0.1:17001 to 127.0.0.1:17003: fault 1" in said
    assert says("waiting")[1] == f"put {KEY} Ada: waits, for 0.30 s now\n"
    assert " 1     1\n" in says("faults")[1]
    assert "; 1 kept until now goes on\n" in says("release 1")[1]
    assert says("wait")[1].startswith(f"put {KEY} Ada: done, after 0.3")
    assert says("release")[1] == "there were no faults\n"


def test_who_takes_over_after_a_death_is_seen(says: Says) -> None:
    assert says(f"put {KEY} Ada; kill owner-of {KEY}; until down 7001; until serves")[0] == DONE
    assert "127.0.0.1:7003 answers for it (ring epoch 2)" in says(f"locate {KEY}")[1]
    assert "7001 is down" in says("ecs events")[1]
    status, said = says("top; events kind state max 1")
    assert status == DONE and "127.0.0.1:7001 does not answer" in said
    assert "ring 2 is written" in said and "ring 2: " not in said, "what nodes tell as well crowds out nothing"
    assert says("restart 7001; until up 7001; until steady")[0] == DONE
    assert says("pause 7002; until down 7002; resume 7002; until up 7002; cut 7001 7002; heal")[0] == DONE
    assert says("kill ecs")[0] == REFUSED


def test_a_trace_follows_a_put_through_three_processes(says: Says) -> None:
    status, said = says(f"put {KEY} Ada", f"trace key {KEY} do put {KEY} Grace")
    assert status == DONE and "done in " in said
    for node, actor, message in (
        ("7001", "storage", "Execute"),
        ("7002", "replica", "Append"),
        ("7003", "replica", "Append"),
    ):
        assert f"127.0.0.1:{node}  {actor}" in said and message in said
    assert "|---Requests--->|" in says(f"trace key {KEY} as diagram do get {KEY}")[1]
    assert "nothing is traced" in says("traced")[1]


def test_a_trace_ends_by_itself_and_is_shown_as_often_as_wanted(says: Says) -> None:
    assert "is traced in 4 processes for 1 s or 2 messages" in says("trace type Append for 1s max 2", "run 500ms")[1]
    assert says("traced")[1].count("Append") == 6 and "tells no more: it has its 2 records" in says("traced")[1]
    hops = json.loads(says("traced as json")[1].partition("127.0.0.1:7001 tells")[0])
    assert {hop["type"] for hop in hops} == {"Append"} and len(hops) == 6
    assert says("untrace")[0] == DONE and says("untrace")[0] == NO
    for wrong in (
        "trace keys a",
        "trace key",
        "trace key a for",
        "trace key a for 1h",
        "trace key a as art",
        "traced as art",
    ):
        assert says(wrong)[0] == USAGE, wrong


def test_hangs_are_told_by_process_and_circles_across_processes(says: Says) -> None:
    assert says("hangs") == (DONE, "nothing hangs, and nothing has\n")
    quiet: dict[str, Any] = {"working": [], "waits": [], "circles": [], "found": []}
    blocked = {"at": 3600.0, "kind": "blocked", "sentence": "the loop of a is blocked for 2.0 s", "stacks": {}}
    work = {"actor": "syncer", "message": "Sync", "seconds": 3.0, "stack": ["disk.py:1 sync: fsync(it)"]}
    waits = [
        {"waiting": f"ringkeeper://{one}/x", "asked": f"ringkeeper://{other}/x", "message": "Add", "seconds": 2.1}
        for one, other in ("ab", "bc", "ca")
    ]
    assert hang_lines({"a": {**quiet, "found": [blocked]}, "b": {**quiet, "working": [work]}}) == [
        "a 01:00:00: the loop of a is blocked for 2.0 s",
        "b now: syncer works on Sync, for 3.0 s",
        "  disk.py:1 sync: fsync(it)",
    ]
    (circle,) = hang_lines({place: {**quiet, "waits": [wait]} for place, wait in zip("abc", waits, strict=True)})
    assert circle.startswith("now: asks wait on each other: ringkeeper://a/x waits for ringkeeper://b/x (Add, 2.1 s), ")


def test_the_tour_ends_well_in_the_simulation_and_readme_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    target = SimulatedTarget(7, None, lambda moment: None)
    assert tour.play(target) == DONE
    target.close()
    said = capsys.readouterr().out
    assert "Barbara: waits, for 0.30 s now" in said and said.count("---Append---") == 2
    assert "since ring 2: 127.0.0.1:7001 down (127.0.0.1:7001 has ended" in said
    readme = (Path(tour.__file__).parents[2] / "README.md").read_text()
    assert [line for line in tour.LINES if f"> {line}\n" not in readme] == []


# The simulation


def test_going_back_leads_to_the_same_again_and_a_fork_elsewhere(shell: Shell, says: Says) -> None:
    assert isinstance(shell.target, SimulatedTarget)
    says(f"put {KEY} Ada", "run 1s")
    story = shell.target.story
    moment, trace = story.now, story.stage.trace
    says("step 5", "run 1s", f"kill owner-of {KEY}", "run 3s")
    there = story.stage.trace
    assert says("back 1ms", f"back to {moment!r}")[0] == DONE
    assert (story.now, story.stage.trace) == (moment, trace)
    assert says(f"get {KEY}")[1] == "Ada\n"
    says(f"back to {moment!r}", "step 5", "run 1s", f"kill owner-of {KEY}", "run 3s")
    assert story.stage.trace == there
    says(f"back to {moment!r}", "fork 8", "step 5", "run 1s", f"kill owner-of {KEY}", "run 3s")
    assert story.stage.trace != there
    assert "still to come" in says("back to 1h")[1]


def test_a_story_goes_on_as_far_as_time_is_let_pass() -> None:
    told = CliRunner().invoke(
        ringkeeper,
        ["shell", "--simulate", "3", str(node_dies.__file__), "-c", "run 200ms; run 1s; status; until steady"],
    )
    assert told.exit_code == DONE, told.output
    assert "127.0.0.1:7004 is killed" in told.stdout and "7004  down" in told.stdout
    assert told.stdout.rindex("is started again") < told.stdout.rindex("all nodes are up and no change is left, after")


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """As at a terminal; what a script has started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_cancels_what_is_waited_for_and_no_more(shell: Shell, says: Says) -> None:
    assert isinstance(shell.target, SimulatedTarget)

    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    shell.target.story.do(lambda stage: stage.cluster.world.loop.call_later(1.0, interrupt))
    assert says("run 10h; put a b") == (INTERRUPTED, "cancelled\n")
    assert says(f"get {KEY}")[0] == NO
    moment = shell.target.now()
    assert says("run 1s")[0] == DONE and shell.target.now() == pytest.approx(moment + 1.0)


# As a command


def test_in_a_pipe_the_exit_status_is_that_of_the_worst_answer() -> None:
    typed = f"# a comment\n\nput {KEY} Ada\nget nobody\nget {KEY}\n"
    told = CliRunner().invoke(ringkeeper, ["shell", "--simulate", "1"], input=typed)
    assert told.exit_code == NO and told.stdout.endswith("Ada\n") and told.stderr == "nobody is not there\n"
    told = CliRunner().invoke(
        ringkeeper, ["shell", "--simulate", "1"], input="7001 py {\n  a = 6\n  a * 7\n}\nput a b &\n"
    )
    assert told.exit_code == DONE and "127.0.0.1:7001: 42\nput a b: done, after " in told.stdout
    assert (
        CliRunner().invoke(ringkeeper, ["shell", "--simulate", "1", "-c", "fly; get nobody; exit; kill 7001"]).exit_code
        == 2
    )


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["nowhere.py"], USAGE),
        (["--simulate", "x"], USAGE),
        (["--simulate", "1", "nowhere.py"], USAGE),
        (["--cluster", "no address"], USAGE),
        (["--cluster", "127.0.0.1:1", "-c", "nodes", "--timeout", "0.1"], REFUSED),
    ],
)
def test_what_cannot_be_looked_into_is_said_in_a_sentence(words: list[str], status: int) -> None:
    told = CliRunner().invoke(ringkeeper, ["shell", *words])
    assert told.exit_code == status and told.stderr and "Traceback" not in told.output


def test_nothing_is_interfered_with_unless_the_cluster_or_somebody_allows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = FakeRing()
    with cluster:
        target = RealTarget(cluster.address(0), None, 1.0)
        shell = Shell(target, TABLE)
        node = cluster.address(1)
        for line in (f"kill {node}", f"pause {node}", f"restart {node}", f"cut {node} {cluster.address(2)}"):
            assert shell.run(line) == REFUSED
            assert "is for clusters that were started for it" in capsys.readouterr().err
        assert cluster.orders == []
        target.interfere = True
        assert shell.run(f"restart {node}") == DONE
        assert cluster.orders == [["RESTART", node, "FORCE"]]
        assert shell.run("nodes; ring; status; locate k; put k v; get k; step") == USAGE
        target.close()


# At a terminal


COMPLETED = (
    ("insp", "inspect"),
    ("700", "127.0.0.1:7001"),
    ("kill 127.0.0.1:7002; 7001 ins", "inspect"),
    ("7001 inspect stor", "storage"),
    ("tell storage Look", "LookForRing("),
    ("tell member LookForRing(que", "question="),
    ("hold App", "Append"),
    ("hold Append from owner-", "owner-of"),
    ("hold Append from owner-of us", KEY),
    ("get us", KEY),
    ("owner-of us", KEY),
    ("until st", "steady"),
    ("top by de", "depth"),
    ("trace ke", "key"),
    ("trace key us", KEY),
    ("traced as dia", "diagram"),
    ("help inv", ""),
)
"""What is typed, and what is offered for it; nothing at all."""


def test_tab_completes_commands_nodes_actors_messages_fields_and_keys(shell: Shell, says: Says) -> None:
    says(f"put {KEY} Ada")
    completer = terminal.ShellCompleter(shell)
    before = shell.target.now()
    for typed, offered in COMPLETED:
        found = [each.text for each in completer.get_completions(Document(typed), CompleteEvent())]
        assert (offered in found) if offered else found == [], (typed, found)
    assert shell.target.now() == before, "looking takes no time of that world"


def test_at_a_terminal_lines_are_read_until_ctrl_d(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(f"put {KEY} Ada\rfly\x03py {{\ra = 6\ra * 7\r}}\rget {KEY}\r\x04")
        terminal.read_lines(shell)
    assert "Ada\n" in (said := capsys.readouterr()).out and ": 42\n" in said.out and not said.err
    assert (
        "3 of 3 nodes up\nhere you may tell actors anything, and hold, delay or drop their messages and run code"
        in said.out
    )


def test_history_is_kept_where_others_cannot_read_it_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    terminal.history().append_string("nodes")
    file = tmp_path / "state" / "ringkeeper" / terminal.HISTORY
    assert file.stat().st_mode & 0o777 == 0o600 and "nodes" in file.read_text()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    terminal.history().append_string("nodes")
