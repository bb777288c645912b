"""Lets a person type: editing, a history from session to session, completion by Tab.

What can be completed is asked of the cluster when Tab is hit, within bounds, and remembered for a moment; a cluster
that does not answer completes nothing and says nothing.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ...scenarios.stage import PHASES
from ..events import KINDS
from ..outcomes import Trouble
from .about_actors import SORTS
from .about_time import CONDITIONS
from .about_traces import FORMS, SUBJECTS
from .lines import Wrong, first_word, unfinished
from .session import AIMS, OF_KEY, Command, Shell

KEYS_MAX = 50
"""So many keys are offered."""
REMEMBERED_SECONDS = 2.0
HISTORY = "shell-history"


def read_lines(shell: Shell) -> None:
    """Read and run lines until Ctrl-D or ``exit``."""
    session: PromptSession[str] = PromptSession(
        history=history(), completer=ShellCompleter(shell), complete_while_typing=False
    )
    greet(shell)
    while True:
        shell.tell_ended()
        try:
            line = session.prompt(prompt_of(shell))
            while unfinished(line):
                line += "\n" + session.prompt("... ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            shell.run(line)
        except EOFError:
            return


def greet(shell: Shell) -> None:
    """Say where one is, and how far one may interfere there."""
    try:
        ring = shell.target.ring()
        up = sum(node.state == "up" for node in ring.circle)
        shell.say(f"cluster {ring.cluster_name}, ring {ring.epoch}, {up} of {len(ring.circle)} nodes up")
        allowed = [what for what, yes in shell.target.allowed().items() if yes]
        if allowed:
            shell.say(f"here you may {' and '.join(allowed)}: never where it matters")
    except Trouble as trouble:
        shell.complain(str(trouble.message))
    shell.say("`help` lists the commands; Ctrl-D ends")


def prompt_of(shell: Shell) -> str:
    return f"{shell.target.now():.3f} s> " if shell.target.simulated else "ringkeeper> "


def history() -> History:
    """Of this user, in a file that nobody else can read; in memory where there can be none."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    file = Path(base) / "ringkeeper" / HISTORY
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        file.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))


# Completion


class ShellCompleter(Completer):
    """Of the commands of a shell."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._remembered: dict[str, tuple[float, Any]] = {}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        text = document.text_before_cursor
        begun = text.rpartition(" ")[2]
        for offered, start in self.offer(text):
            yield Completion(offered, start_position=start if start else -len(begun))

    def offer(self, text: str) -> Iterator[tuple[str, int]]:
        """What may follow, and where it begins before the cursor; 0: at the last blank."""
        rest = text.rpartition(";")[2].lstrip()
        command: Command | None = None
        words = rest.split(" ")
        begun = words.pop()
        while words:
            word = words.pop(0)
            if word in OF_KEY:
                if not words:
                    yield from self._of(begun, self._keys(begun))
                    return
                words.pop(0)
            elif word in self._shell.table:
                command = self._shell.table[word]
                break
        if command is None:
            yield from self._of(begun, [*self._shell.table, *AIMS, *self._nodes()])
            return
        if words[-1:] and words[-1] in OF_KEY:
            yield from self._of(begun, self._keys(begun))
            return
        given = [word for word in words if word not in OF_KEY]
        kinds = command.arguments
        kind = kinds[min(len(given), len(kinds) - 1)] if kinds else ""
        if "message" in kinds and len(given) >= kinds.index("message"):
            yield from self._message(rest)
        elif kind == "subject's":
            yield from self._of(begun, self._source(given[-1], begun) if given[-1] in SUBJECTS else ())
        else:
            yield from self._of(begun, self._source(kind, begun))

    def _of(self, begun: str, known: Iterable[str]) -> Iterator[tuple[str, int]]:
        for each in known:
            if each.startswith(begun) or (begun.isdigit() and each.rpartition(":")[2].startswith(begun)):
                yield each, 0

    def _source(self, kind: str, begun: str) -> Iterable[str]:
        match kind:
            case "key":
                return self._keys(begun)
            case "node":
                return [*self._nodes(), *OF_KEY]
            case _ if kind in SOURCES:
                return SOURCES[kind](self)
            case "":
                return ()
            case word:
                return (word,)

    def _message(self, rest: str) -> Iterator[tuple[str, int]]:
        """A type, or inside its brackets a field."""
        _, _, text = rest.partition(first_word(rest.split(" ", 1)[1])[0])
        kind, bracket, fields = text.strip().partition("(")
        known: Mapping[str, list[str]] = self._remember("fields", self._shell.target.message_fields)
        if not bracket:
            kind = kind.rpartition(" ")[2]
            yield from ((f"{name}(", -len(kind)) for name in known if name.startswith(kind) and kind != name)
            return
        begun = fields.replace(",", " ").rpartition(" ")[2]
        for field in known.get(kind.rpartition(" ")[2], ()):
            if field.startswith(begun) and f"{field}=" not in fields:
                yield f"{field}=", -len(begun) or -1 + 1

    # What is known

    def _remember(self, what: str, ask: Callable[[], Any]) -> Any:
        at, known = self._remembered.get(what, (float("-inf"), None))
        if time.monotonic() - at > REMEMBERED_SECONDS:
            try:
                known = ask()
            except (Trouble, Wrong):
                known = ()
            self._remembered[what] = time.monotonic(), known
        return known

    def _nodes(self) -> list[str]:
        return [*self._remember("nodes", self._shell.target.places)]

    def _keys(self, begun: str) -> list[str]:
        return [*self._remember(f"keys {begun}", lambda: self._shell.target.keys(begun, KEYS_MAX))]

    def actors(self) -> list[str]:
        return [*self._remember("actors", self._shell.target.actor_names)]

    def types(self) -> list[str]:
        return [*self._remember("fields", self._shell.target.message_fields)]

    def commands(self) -> list[str]:
        return [*self._shell.table]


SOURCES: Mapping[str, Callable[[ShellCompleter], Iterable[str]]] = {
    "actor": ShellCompleter.actors,
    "type": ShellCompleter.types,
    "command": ShellCompleter.commands,
    "sort": lambda completer: SORTS,
    "subject": lambda completer: SUBJECTS,
    "form": lambda completer: FORMS,
    "event kind": lambda completer: KINDS,
    "trace option": lambda completer: ("for", "max", "as", "do", *FORMS),
    "condition": lambda completer: (*CONDITIONS, *PHASES),
}
