"""The command that plays scenarios: what it prints, how it ends, and how a failing run is played again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ringkeeper.cli.main import ringkeeper
from ringkeeper.scenarios import play as playing
from ringkeeper.scenarios.history import History
from ringkeeper.scenarios.play import load_scenario, play
from ringkeeper.scenarios.random_story import Schedule, draw
from ringkeeper.scenarios.simulated_stage import SimulatedStage

pytestmark = pytest.mark.timeout(180)  # more than a command has that plays whole stories in processes of its own

NODE_JOINS = Path(playing.__file__).parent / "node_joins.py"

MOODY = """'''It does not like some seeds.'''
def setup(stage): stage.start(nodes=1)
def story(stage): stage.wait_for(5, stage.load(clients=1))
def check(stage): stage.expect(stage.seed % 7 != 4, "the seed is to its taste")
"""

DREAMY = """'''It wants what cannot be.'''
from ringkeeper.scenarios.stage import NotPossibleHere
def setup(stage): pass
def story(stage): raise NotPossibleHere("water does not flow uphill")
def check(stage): pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is typed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moody.py").write_text(MOODY)
    (tmp_path / "dreamy.py").write_text(DREAMY)
    return tmp_path


def type_(*words: object) -> Result:
    return CliRunner().invoke(ringkeeper, ["run", *map(str, words)])


def shell(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which leaves no helpers of its workers here."""
    command = [sys.executable, "-m", "ringkeeper.cli.main", "run", *map(str, words)]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=150, check=False)


# One run


def test_a_simulated_run_tells_its_story_and_ends_with_the_hash_of_its_trace(folder: Path) -> None:
    run = type_(NODE_JOINS, "--simulate", "--seed", 3)
    assert run.exit_code == 0, run.output
    lines = run.stdout.splitlines()
    assert lines[0] == "node_joins, seed 3, simulated"
    assert lines[1] == "  A node joins while clients read and write, and nobody notices."
    assert "0.000 s" in lines[2] and "start" in lines[2]
    assert "all as it must be" in lines[-2]
    assert lines[-1] == f"trace {play(load_scenario(NODE_JOINS), SimulatedStage(3)).trace}"


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_hash_is_the_same_in_another_process(hash_seed: str, folder: Path) -> None:
    there = shell(NODE_JOINS, "--simulate", "--seed", 3, PYTHONHASHSEED=hash_seed)
    assert there.returncode == 0, there.stderr
    assert there.stdout.splitlines()[-1] == f"trace {play(load_scenario(NODE_JOINS), SimulatedStage(3)).trace}"


def test_a_run_that_fails_says_why_and_how_to_play_it_again(folder: Path) -> None:
    run = type_("moody.py", "--simulate", "--seed", 4, "--no-check")
    assert run.exit_code == 1
    lines = run.stdout.splitlines()
    assert "NOT AS IT MUST BE (expected): the seed is to its taste" in lines
    assert "again: ringkeeper run moody.py --seed 4 --simulate --no-check" in lines
    assert lines[-1].startswith("trace ")


def test_what_this_world_cannot_play_is_skipped_loudly(folder: Path) -> None:
    for words in (["dreamy.py", "--simulate"], ["dreamy.py"]):
        run = type_(*words)
        assert run.exit_code == 3
        assert "SKIPPED" in run.stderr and "water does not flow uphill" in run.stderr


def test_messages_operations_and_a_report_are_written_where_it_is_asked_for(folder: Path) -> None:
    run = type_(NODE_JOINS, "--simulate", "--trace", "t", "--history", "h.jsonl", "--report", "r.html")
    assert run.exit_code == 0, run.output
    assert any(" gateway Requests" in line for line in (folder / "t").read_text().splitlines())
    assert len(History.read(folder / "h.jsonl")) > 20
    assert "<html" in (folder / "r.html").read_text()
    assert run.stdout.splitlines()[-1] == f"trace {play(load_scenario(NODE_JOINS), SimulatedStage(1)).trace}"


# Many runs


def test_many_seeds_are_played_on_all_cores(folder: Path) -> None:
    run = shell("moody.py", "--simulate", "--seed", 5, "--seeds", 6)
    assert run.returncode == 0, run.stderr
    assert "6 runs" in run.stdout and "all as it must be" in run.stdout


def test_workers_end_with_a_command_that_is_killed(folder: Path) -> None:
    command = [sys.executable, "-m", "ringkeeper.cli.main", "run", str(NODE_JOINS), "--simulate", "--seeds", "100000"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        workers: set[int] = set()
        deadline = time.monotonic() + 30
        while len(workers) < (os.cpu_count() or 1) and time.monotonic() < deadline:
            time.sleep(0.05)
            workers = {pid for pid in children_of(run.pid) if "spawn_main" in command_of(pid)}
        assert workers, "it has begun"
    finally:
        run.kill()
        run.wait()
    while any(command_of(pid) for pid in workers) and time.monotonic() < deadline + 10:
        time.sleep(0.05)
    assert not any(command_of(pid) for pid in workers)


def children_of(pid: int) -> set[int]:
    return {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def command_of(pid: int) -> str:
    """Empty once it has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


def test_the_first_seed_that_fails_ends_it_with_its_story(folder: Path) -> None:
    run = shell("moody.py", "--simulate", "--seeds", 400)
    assert run.returncode == 1
    assert "NOT AS IT MUST BE (expected): the seed is to its taste" in run.stdout
    assert "client at work" in run.stdout
    again = next(line for line in run.stdout.splitlines() if line.startswith("again: "))
    assert again in {f"again: ringkeeper run moody.py --seed {seed} --simulate" for seed in (4, 11)}


# Random stories


def test_a_random_story_is_that_of_its_seed(folder: Path) -> None:
    one, other = (type_("--random", "--simulate", "--seed", 13) for _ in range(2))
    assert one.exit_code == 0 and one.stdout.splitlines()[-1].startswith("trace ")
    assert one.stdout.splitlines()[-1] == other.stdout.splitlines()[-1]


@pytest.mark.stories
def test_random_stories_are_played_for_some_minutes(folder: Path) -> None:
    run = shell("--random", "--simulate", "--minutes", 0.05, "--seed", 615)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("random stories, from seed 615 on\n")
    assert "all as it must be" in run.stdout


@pytest.mark.stories
def test_a_failing_schedule_is_made_shorter_and_can_be_played_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: a stage on which nobody may lose a session."""

    def fails(stage: SimulatedStage, id: str) -> None:
        raise RuntimeError("nobody may lose a session")

    monkeypatch.setattr(SimulatedStage, "_lose_session", fails)
    seeds = [seed for seed in range(300) if any(event.what == "session" for event in draw(seed).events)]
    seed = min(seeds, key=lambda seed: len(draw(seed).events))
    run = type_("--random", "--simulate", "--seed", seed)
    assert run.exit_code == 1
    kept = folder / f"story-{seed}.json"
    schedule = Schedule.from_json(kept.read_text())
    assert [event.what for event in schedule.events] == ["session"]
    assert kept.read_text() in run.stdout
    assert run.stdout.splitlines()[-2] == f"again: ringkeeper run --random --seed {seed} --simulate"
    assert f"ringkeeper run --schedule {kept.name} --simulate" in run.stdout

    again = type_("--schedule", kept.name, "--simulate")
    assert again.exit_code == 1 and "nobody may lose a session" in again.stdout
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert type_("--schedule", kept.name, "--simulate").exit_code == 0


# What makes no sense


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "name the file of a scenario"),
        (["nowhere.py"], "does not exist"),
        (["."], "is no file"),
        (["moody.py", "--seeds", "3"], "--seeds needs --simulate"),
        (["moody.py", "--no-check"], "--no-check needs --simulate"),
        (["moody.py", "--trace", "t"], "--trace needs --simulate"),
        (["moody.py", "--simulate", "--seeds", "0"], "--seeds"),
        (["moody.py", "--simulate", "--seed", "-1"], "--seed"),
        (["moody.py", "--simulate", "--seed", "x"], "--seed"),
        (["moody.py", "--simulate", "--seeds", "2", "--history", "h"], "--history is for one run"),
        (["moody.py", "--simulate", "--minutes", "1"], "--minutes needs --random"),
        (["moody.py", "--simulate", "--random"], "exclude each other"),
        (["--random"], "--random needs --simulate"),
        (["--random", "--simulate", "--minutes", "0"], "--minutes"),
        (["--random", "--simulate", "--minutes", "1", "--trace", "t"], "--trace is for one run"),
        (["--schedule", "moody.py"], "--schedule needs --simulate"),
        (["--schedule", "moody.py", "--simulate"], "moody.py is no schedule"),
        (["--schedule", "nowhere.json", "--simulate"], "No such file"),
        (["--schedule", "moody.py", "--simulate", "--seed", "1"], "has its seed in it"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence_before_anything_runs(
    words: list[str], why: str, folder: Path
) -> None:
    run = type_(*words)
    assert run.exit_code == 2
    assert why in run.stderr
    assert "Traceback" not in run.stderr


def test_many_runs_of_what_is_no_scenario_are_refused_once(folder: Path) -> None:
    (folder / "tale.py").write_text("once = 'upon a time'")
    run = type_("tale.py", "--simulate", "--seeds", "5")
    assert run.exit_code == 2 and run.stderr.count("is no scenario") == 1


def test_the_schedule_is_readable(folder: Path) -> None:
    (folder / "s.json").write_text(draw(3).to_json())
    assert json.loads((folder / "s.json").read_text())["seed"] == 3
    assert len((folder / "s.json").read_text().splitlines()) > 10
