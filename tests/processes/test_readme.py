"""The programs in README are run as they stand there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ringkeeper.runtime.process import free_port

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

README = Path(__file__).resolve().parents[2] / "README.md"
LINES_MAX = 40


def program(name: str) -> str:
    """The indented block whose first line is a comment with this name."""
    block = re.search(rf"^    # {re.escape(name)}\n((?:    .*\n|\n)+)", README.read_text(), re.MULTILINE)
    assert block is not None, f"README shows no {name}"
    text = "".join(line[4:] or "\n" for line in block[1].rstrip().splitlines(keepends=True)) + "\n"
    assert len(text.splitlines()) < LINES_MAX
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the programs are put, with free ports for those that README names."""
    ports = {port: str(free_port()) for port in ("7900", "7901")}
    for name in ("visits.py", "tally.py", "greeter.py", "asker.py", "home.py", "sender.py"):
        (tmp_path / name).write_text(re.sub("|".join(ports), lambda found: ports[found[0]], program(name)))
    return tmp_path


@contextmanager
def started(folder: Path, name: str) -> Iterator["subprocess.Popen[str]"]:
    """A program that runs until the end of the block at most; it has said its first line."""
    with subprocess.Popen(
        [sys.executable, name], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            assert first, "it said nothing"
            process.first = first.strip()  # type: ignore[attr-defined]
            yield process
        finally:
            process.kill()


def rest(process: "subprocess.Popen[str]") -> list[str]:
    said, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 0, said
    return said.splitlines()


def said_by(folder: Path, name: str) -> list[str]:
    run = subprocess.run([sys.executable, name], cwd=folder, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.splitlines()


def test_actors_are_supervised_and_watched(folder: Path) -> None:
    assert said_by(folder, "tally.py") == [
        "25",
        "10",
        "tally is gone: ZeroDivisionError('integer division or modulo by zero')",
    ]


def test_two_programs_ask_each_other_and_the_death_of_one_is_told(folder: Path) -> None:
    with ExitStack() as both:
        greeter = both.enter_context(started(folder, "greeter.py"))
        asker = both.enter_context(started(folder, "asker.py"))
        assert asker.first == "hello Ada"  # type: ignore[attr-defined]
        greeter.kill()
        (gone,) = rest(asker)
        assert re.match(r"ringkeeper://127\.0\.0\.1:\d+/greeter is gone: the link to .* was lost", gone)


def test_an_actor_is_sent_to_another_program(folder: Path) -> None:
    with started(folder, "home.py") as home:
        assert said_by(folder, "sender.py") == ["3", "3 True", "counter has counted 3"]
        again = (folder / "sender.py").read_text().replace('"counter"', '"another"')  # its messages are other types
        (folder / "again.py").write_text(again)
        assert said_by(folder, "again.py") == ["3", "3 True", "another has counted 3"]
        assert rest(home) == []


def test_an_asyncio_program_and_a_cluster(folder: Path) -> None:
    assert said_by(folder, "visits.py") == ["[b'100', b'100', b'100']"]
