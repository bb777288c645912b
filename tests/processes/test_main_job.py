"""The main job, on a smaller library: it ends well when nothing is lost, and notices when something is."""

import json
import re
from pathlib import Path

import pytest
from ringkeeper.scenarios import main_job
from ringkeeper.scenarios.terminal import Terminal, sources

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

LIBRARY = Path(json.__file__).parent


@pytest.fixture(autouse=True)
def little_is_written_between_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_job, "WRITES_BETWEEN_CHANGES", 50)


def test_a_cluster_that_is_killed_whole_comes_back_with_everything(capfd: pytest.CaptureFixture[str]) -> None:
    assert main_job.main(LIBRARY, writes=50) == 0
    told = capfd.readouterr().out
    files = len(list(sources(LIBRARY)))
    assert files > 3
    assert f"{files} files are equal" in told
    assert re.search(r"all [67] processes are killed with -9", told), "six, and the node that leaves if it lingers yet"
    assert "left running: nothing" in told
    assert "0 differences" in told
    assert "ring 1 of cluster ringkeeper: 3 of 3 nodes up" in told


def test_a_file_that_was_lost_or_changed_is_noticed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    up = Terminal.up

    def forgetful(terminal: Terminal) -> None:
        again = terminal.folder.cluster() is not None
        up(terminal)
        if again:
            terminal.ringkeeper("delete", "decoder.py")
            terminal.ringkeeper("put", "encoder.py", "something else")
            terminal.ringkeeper("delete", "counter:7")

    monkeypatch.setattr(Terminal, "up", forgetful)
    monkeypatch.setattr(main_job, "grow_and_shrink", lambda _: None)  # the test before this one has it
    assert main_job.main(LIBRARY, writes=50) == 1
    told = capfd.readouterr().out
    assert "b'decoder.py' is gone" in told
    assert "b'encoder.py' has other content (14 bytes instead of" in told
    assert "b'counter:7' is gone" in told
    assert "3 differences" in told


def test_a_story_that_breaks_off_fails_and_leaves_nothing_running(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Terminal] = []

    def stumble(terminal: Terminal, *_: object) -> int:
        started.append(terminal)
        raise RuntimeError("no more disk")

    monkeypatch.setattr(Terminal, "load", stumble)
    assert main_job.main(LIBRARY, writes=50) == 1
    assert "the story broke off: no more disk" in capfd.readouterr().out
    processes = started[0]._started
    assert len(processes) == 6
    assert not [process for process in processes if process.lives()]
