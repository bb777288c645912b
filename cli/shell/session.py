"""Runs lines of commands: finds who is meant and what, says what came of it, and remembers the worst of it.

    [AIM...] COMMAND [ARGUMENTS]        AIM: a node, ecs, all, owner-of KEY, successor-of KEY, it

An aim names the processes that a command is for; ``it`` is the one that was named last. Answers go to standard output,
whatever went wrong to standard error, in a sentence; the exit status is that of ``cli/outcomes.py``. A command that
ends with ``&`` is begun and not waited for; ``waiting`` shows it, ``wait`` waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from ..observing import ECS, LAUNCHER
from ..outcomes import BUG, DONE, INTERRUPTED, REFUSED, USAGE, Trouble, keep_trace
from ..printable import printable
from .lines import Said, Wrong, commands, did_you_mean, first_word, words
from .target import Pending, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .about_traces import Traced

IT = "it"
"""The process that was meant last."""
AIMS = ("all", IT, "owner-of", "successor-of")
"""Words before a command that say for which processes it is, beside the names of processes."""
OF_KEY = ("owner-of", "successor-of")
PIPE_COLUMNS = 200
"""So wide tables may be where nobody knows how wide it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command, with all that is known of it."""

    name: str
    syntax: str
    """What follows the name, for people."""
    help: str
    """In a line."""
    example: str
    run: Callable[[Shell, Call], None]
    theme: str
    arguments: tuple[str, ...] = ()
    """What each argument is, for completion: names of ``terminal.SOURCES`` and plain words; the last is for all that
    follow."""
    aimed: bool = False
    """An aim makes sense for it."""
    background: bool = False
    """It may be left waiting."""
    simulation_only: bool = False


@dataclass(slots=True)
class Call:
    """A command as it was typed."""

    command: Command
    tail: str
    """All that follows the name, as it was typed."""
    aim: list[str] | None = None
    """The processes it is for; None: nobody has said."""
    background: bool = False
    _words: list[str] | None = field(default=None, repr=False)

    @property
    def words(self) -> list[str]:
        """What follows the name. Raises Wrong."""
        if self._words is None:
            self._words = words(self.tail)
        return self._words

    def usage(self) -> str:
        """How it is typed."""
        command = self.command
        if not command.syntax:
            return f"{command.name} takes nothing more"
        return f"type: {command.name} {command.syntax} - for example: {command.example}"

    def wrong(self) -> NoReturn:
        """Raises Wrong, which says how it is typed."""
        raise Wrong(self.usage())


class Shell:
    """One session with one target. ``table``: the commands by name."""

    def __init__(self, target: Target, table: Mapping[str, Command]) -> None:
        self.target, self.table = target, table
        self.out = Console(highlight=False)
        if not self.out.is_terminal:
            self.out.width = PIPE_COLUMNS
        self.err = Console(highlight=False, stderr=True)
        self.pending: list[Pending] = []
        """Commands that were not waited for, and nobody was told yet how they ended."""
        self.status = DONE
        """The worst so far."""
        self.counts: dict[tuple[str, str], tuple[float, Mapping[str, Any]]] = {}
        """By process and actor, when its messages were counted last, and what was counted."""
        self.trace: Traced | None = None
        """The last trace that was begun, unless it was ended."""
        self.traces = 0
        self.it = ""
        """The process that was meant last; "": none was yet."""

    # Saying

    def say(self, *what: RenderableType) -> None:
        for each in what:
            shown = _shown_lines(each) if isinstance(each, str) else each
            self.out.print(shown, markup=False, soft_wrap=isinstance(each, str))

    def complain(self, sentence: str) -> None:
        self.err.print(_shown_lines(sentence), markup=False, soft_wrap=True)

    def complain_all(self, sentences: Iterable[str]) -> None:
        """Of processes that did not answer."""
        for sentence in sentences:
            self.complain(sentence)
            self.status = max(self.status, REFUSED)

    # Lines

    def run(self, line: str) -> int:
        """Run the commands of a line; returns the worst status of them. After one that is interrupted the rest is not
        run."""
        try:
            said = commands(line)
        except Wrong as wrong:
            return self._ended(USAGE, str(wrong))
        worst = DONE
        for each in said:
            status = self.run_one(each)
            worst = max(worst, status)
            if status == INTERRUPTED:
                break
        return worst

    def run_one(self, said: Said) -> int:
        """Run one command, and say what went wrong; returns its status."""
        before, self.status = self.status, DONE
        try:
            self.run_command(said)
            status = self.status
        except Wrong as wrong:
            status = self._ended(USAGE, str(wrong))
        except Trouble as trouble:
            status = self._ended(trouble.exit_code, str(trouble.message))
        except KeyboardInterrupt:
            status = self._ended(INTERRUPTED, "cancelled")
        except (BrokenPipeError, EOFError):
            self.status = max(before, self.status)
            raise
        except Exception as bug:
            what = f"{said.text} failed in a way that it should not: {type(bug).__name__}: {bug}"
            status = self._ended(BUG, f"{what}. What it was doing is in {keep_trace(bug)}; please report it.")
        self.status = max(before, status)
        return status

    def _ended(self, status: int, sentence: str) -> int:
        self.complain(sentence)
        self.status = max(self.status, status)
        return status

    def run_command(self, said: Said) -> None:
        """Run one command. Raises Wrong, Trouble."""
        aim, word, rest = self._aimed(said.text)
        command = self.table[word]
        if aim is not None and not command.aimed:
            raise Wrong(f"{word} is about the whole cluster: say it without a node before it")
        if said.background and not command.background:
            raise Wrong(f"{word} is always waited for; put, get and delete may end with &")
        if command.simulation_only and not self.target.simulated:
            raise Wrong(f"{word} is for the simulation: ringkeeper shell --simulate SEED [SCENARIO]")
        command.run(self, Call(command, rest, aim, said.background))

    def _aimed(self, text: str) -> tuple[list[str] | None, str, str]:
        """For which processes it is, the name of the command, and the rest. Raises Wrong, Trouble."""
        aim: list[str] | None = None
        word, rest = first_word(text)
        while word not in self.table:
            place, rest = self._aim(word, rest, text)
            aim = place if aim is None else [*aim, *(each for each in place if each not in aim)]
            word, rest = first_word(rest)
            if not word:
                raise Wrong(f"say what to do there, for example: {text} actors")
        return aim, word, rest

    def _aim(self, word: str, rest: str, text: str) -> tuple[list[str], str]:
        if word == "all":
            return self.target.places(), rest
        if word in OF_KEY:
            key, rest = first_word(rest)
            if not key:
                raise Wrong(f"{word} what? For example: {word} user:42 actors")
            return [self.take_place([word, key])[0]], rest
        if word[:1].isdigit() or word in (ECS, LAUNCHER, IT) or word.startswith(":") or self.target.is_place(word):
            return [self.take_place([word])[0]], rest
        known = [*self.table, *AIMS]
        raise Wrong(f"there is no command {word!r}{did_you_mean(word, known)}; `help` lists them")

    # Who is meant

    def places_in(self, call: Call, count: int = 1) -> list[str]:
        """Exactly so many processes that the arguments of a command name, or its aim. Raises Wrong, Trouble."""
        found: list[str] = list(call.aim or ())
        left = list(call.words)
        while left:
            place, left = self.take_place(left)
            found.append(place)
        if len(found) != count:
            call.wrong()
        return found

    def processes(self, call: Call, words: list[str]) -> list[str]:
        """The processes of an aim, or the one that words name, or all. Raises Wrong, Trouble."""
        if call.aim is not None and not words:
            return call.aim
        if not words:
            return self.target.everybody()
        place, left = self.take_place(words)
        if left or call.aim is not None:
            call.wrong()
        return [place]

    def take_place(self, left: list[str]) -> tuple[str, list[str]]:
        """The process that the first words name, and the words after it. Raises Wrong, Trouble."""
        word, *left = left
        if word == IT:
            if not self.it:
                raise Wrong(f"{IT} is the process that was named last, and none was yet")
        elif word in OF_KEY:
            if not left:
                raise Wrong(f"{word} what? It takes a key")
            key, *left = left
            self.it = self._of_key(word, key)
        else:
            self.it = self.target.place(word)
        return self.it, left

    def _of_key(self, word: str, key: str) -> str:
        """The coordinator of a key, or its first successor. Raises Trouble."""
        members = self.target.members(key)
        if word == "owner-of":
            return members[0]
        if len(members) < 2:
            raise Trouble(f"{key} has no successor that is up: {members[0]} alone has it", REFUSED)
        return members[1]

    # What is not waited for

    def tell_ended(self) -> None:
        """Say how commands that were left waiting have ended since."""
        for pending in [each for each in self.pending if each.ended is not None]:
            self.pending.remove(pending)
            assert pending.ended is not None
            took = f"after {pending.ended - pending.began:.2f} s"
            if pending.trouble is not None:
                self._ended(pending.trouble.exit_code, f"{pending.text}: {pending.trouble.message} ({took})")
            else:
                self.say(f"{pending.text}: {printable(shown_reply(pending.reply))}, {took}")


def shown_reply(reply: Any) -> str:
    """A reply for people."""
    if isinstance(reply, bytes):
        return "done" if reply == b"OK" else reply.decode("utf-8", "backslashreplace")
    return "nothing there" if reply is None else str(reply)


def _shown_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
