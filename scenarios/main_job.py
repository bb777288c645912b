"""The main job: a cluster takes in real files, grows and shrinks, loses every process at once, and has lost nothing.

A cluster of three stores the source files of this Python's standard library, some thousand files. Each is read back
and compared. While clients read and write, a fourth node joins, and then one that holds at least a fifth of all slots
leaves: no client may see an error, and everything is compared again. Then, while a client goes on writing, every
process of the cluster is killed with -9 in the same moment: nodes, ECS, ZooKeeper, launcher. It is started again from
its disk. Every file must be as it was, and every write that the cluster had acknowledged must be there; nothing is left
running.

    python -m ringkeeper.scenarios.main_job        (or: make run)

Exit status 0 when all of that was so, 1 otherwise.
"""

import sys
import sysconfig
from pathlib import Path

from .terminal import Reader, Terminal, Writer, sources

NODES = 3
WRITERS = READERS = 2
WRITES_BETWEEN_CHANGES = 500
SHARE_MIN = 0.2
"""The node that leaves answers for at least so much."""
WRITES_BEFORE_THE_CRASH = 2000


def main(library: Path | None = None, writes: int = WRITES_BEFORE_THE_CRASH) -> int:
    """Play the story; returns the exit status. ``library``: this Python's own if None."""
    with Terminal(NODES) as terminal:
        say, account = terminal.say, terminal.account
        try:
            story(terminal, library or Path(sysconfig.get_paths()["stdlib"]), writes)
        except Exception as trouble:
            account.differences.append(f"the story broke off: {trouble}")
        for difference in account.differences[:20]:
            say(f"NOT AS IT SHOULD BE: {difference}")
        say(f"{account.requests} requests, {account.errors} errors, {len(account.differences)} differences")
    say("all as it should be" if not account.differences else "failed")
    return 1 if account.differences else 0


def story(terminal: Terminal, library: Path, writes: int) -> None:
    """What happens, in order. What is not as it should be is noted in the terminal's account."""
    say, account = terminal.say, terminal.account
    say(f"three nodes, an ECS and ZooKeeper start in {terminal.folder}")
    terminal.up()
    terminal.ringkeeper("ring", quiet=False)

    say(f"the sources in {library} are taken in")
    stored = terminal.load(library, "--match", "*.py", "--exclude", "site-packages", "--exclude", "dist-packages")
    say(f"{stored} files are stored; every one is read back and compared")
    equal = terminal.compare(sources(library))
    say(f"{equal} files are equal")
    if not equal == stored > 0:
        account.differences.append(f"{stored} files were stored and {equal} read back")

    grow_and_shrink(terminal)
    say("every file is read and compared again")
    if (equal := terminal.compare(sources(library))) != stored:
        account.differences.append(f"{stored} files were stored and {equal} read back after the changes")

    say("a client writes on and on")
    writer = Writer(terminal, timeout_seconds=1.0).start()  # when all are dead it soon gives up
    try:
        writer.wait_for(writes)
        killed = terminal.kill_everything()
    finally:
        acknowledged = writer.stop()
    say(f"all {killed} processes are killed with -9: {len(acknowledged)} writes acknowledged, {writer.errors} not")
    if left := terminal.left_running():
        account.differences.append(f"still there after kill -9: {', '.join(left)}")

    say("the cluster is started again from its disk")
    terminal.up()
    say("every file is read and compared again, and every acknowledged write")
    again, kept = terminal.compare(sources(library)), terminal.compare(acknowledged.items())
    say(f"{again} files and {kept} acknowledged writes are there and equal")
    terminal.ringkeeper("ring", quiet=False)

    terminal.down()
    left = terminal.left_running()
    say(f"all processes have ended; left running: {', '.join(left) or 'nothing'}")
    account.differences += left


def grow_and_shrink(terminal: Terminal) -> None:
    """A node joins and another leaves, under clients that read and write."""
    say, account = terminal.say, terminal.account
    writers = [Writer(terminal, f"writer{number}").start() for number in range(WRITERS)]
    readers = [Reader(terminal, writers).start() for _ in range(READERS)]
    try:
        for writer in writers:
            writer.wait_for(WRITES_BETWEEN_CHANGES)
        say(f"{WRITERS} clients write, {READERS} read; a fourth node joins")
        terminal.ringkeeper("nodes", "add", 1)
        for writer in writers:
            writer.wait_for(len(writer.acknowledged) + WRITES_BETWEEN_CHANGES)
        shares = terminal.shares()
        leaving = max(sorted(shares), key=lambda id: shares[id])
        if shares[leaving] < SHARE_MIN:
            account.differences.append(f"no node has {SHARE_MIN:.0%} of the slots: {shares}")
        say(f"{leaving} leaves, which answers for {shares[leaving]:.1%} of all slots")
        terminal.ringkeeper("nodes", "remove", leaving)
        for writer in writers:
            writer.wait_for(len(writer.acknowledged) + WRITES_BETWEEN_CHANGES)
    finally:
        acknowledged = {key: value for writer in writers for key, value in writer.stop().items()}
        for reader in readers:
            reader.stop()
    clients: list[Writer | Reader] = [*writers, *readers]
    errors = sum(each.errors for each in clients)
    longest = max(each.longest_seconds for each in clients)
    say(
        f"{len(acknowledged)} writes and {sum(reader.reads for reader in readers)} reads meanwhile, {errors} errors; "
        f"the longest took {1000 * longest:.0f} ms"
    )
    if errors:
        account.differences.append(f"{errors} requests failed while nodes came and went")
    kept = terminal.compare(acknowledged.items())
    say(f"{kept} of {len(acknowledged)} acknowledged writes are there and equal")
    terminal.ringkeeper("ring", quiet=False)


if __name__ == "__main__":
    sys.exit(main())
