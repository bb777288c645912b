"""Commands that look at actors and talk to them."""

import ast
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import cloudpickle  # type: ignore[import-untyped]
from rich.console import Group

from ...runtime.observer import OBSERVER
from ...runtime.watchdog import CIRCLE_SECONDS, Wait, circles
from ..drawing import plain_table
from ..following import number_text, seconds_text
from ..outcomes import NO, REFUSED, Trouble
from ..top import Watched, screen, show
from .lines import Wrong, did_you_mean, first_word, message, shipped
from .session import Call, Shell

TYPES_SHOWN, RATE_SHOWN_MIN = 3, 0.05
TOP_ROWS = 20
WIDE_COLUMNS = 120
INDENT = 2
WIDTH_MAX = 100
"""A value that is longer, written in a line, is shown in several."""


class Seen(NamedTuple):
    """An actor as it was found, and what it has done since it was found last."""

    place: str
    actor: dict[str, Any]
    rates: dict[str, float]
    """Messages a second, by type; the busiest first."""
    each_seconds: float
    """The time that it takes for a message, over all its life."""

    @property
    def rate(self) -> float:
        return sum(self.rates.values())

    @property
    def busy(self) -> float:
        """The part of its time that it works."""
        return self.rate * self.each_seconds


SORTS: dict[str, Callable[[Seen], Any]] = {
    "rate": lambda seen: -seen.rate,
    "time": lambda seen: -seen.busy,
    "depth": lambda seen: (-seen.actor["depth"], -seen.actor["depth_max"]),
    "restarts": lambda seen: -seen.actor["restarts"],
    "name": lambda seen: (seen.place, seen.actor["name"]),
}


def actors(shell: Shell, call: Call) -> None:
    places = shell.processes(call, call.words)
    seen, troubles = _look(shell, places)
    if seen:
        shell.say(_table(shell, seen))
    shell.complain_all(troubles)


def top(shell: Shell, call: Call) -> None:
    """The cluster at work, as ``ringkeeper top`` shows it; the busiest actors, where one says by what, or whose."""
    once = not shell.out.is_terminal or shell.target.simulated  # there time passes too fast to be watched
    picture = _busiest(shell, call, once) if call.words or call.aim is not None else _cluster(shell)
    try:
        show(shell.out, picture, shell.target.let_pass, once=once)
    except KeyboardInterrupt:
        if once:
            raise


def _cluster(shell: Shell) -> Callable[[], Any]:
    watched = Watched(shell.target)
    return lambda: screen(watched.frame())


def _busiest(shell: Shell, call: Call, once: bool) -> Callable[[], Any]:
    by, words = "rate", call.words
    if words[:1] == ["by"] and len(words) >= 2:
        by, words = words[1], words[2:]
    if by not in SORTS:
        raise Wrong(f"top sorts by {', '.join(SORTS)}, not by {by!r}{did_you_mean(by, SORTS)}")
    places = shell.processes(call, words)
    _look(shell, places)

    def picture() -> Any:
        seen, troubles = _look(shell, places)
        table = _table(shell, sorted(seen, key=SORTS[by])[:TOP_ROWS])
        if not once:
            return Group(table, *troubles)
        shell.complain_all(troubles)
        return table

    return picture


def _look(shell: Shell, places: list[str]) -> tuple[list[Seen], list[str]]:
    answers, troubles = shell.target.everywhere(places, "ACTORS")
    now = shell.target.now()
    return [_seen(shell, place, actor, now) for place, listed in answers.items() for actor in listed], troubles


def _seen(shell: Shell, place: str, actor: dict[str, Any], now: float) -> Seen:
    """Rates are since the last look at it; at the first over its life."""
    counts = {name: count for name, (count, _) in actor["messages"].items()}
    at, before = shell.counts.get((place, actor["name"]), (now - actor["age"], {}))
    if now - at > actor["age"] or any(before[name] > counts.get(name, 0) for name in before):
        at, before = now - actor["age"], {}  # it is another one of that name
    shell.counts[place, actor["name"]] = now, counts
    passed = max(now - at, 1e-3)
    rates = {name: (count - before.get(name, 0)) / passed for name, count in counts.items()}
    busiest = dict(sorted(rates.items(), key=lambda entry: -entry[1]))
    worked, handled = sum(spent for _, spent in actor["messages"].values()), sum(counts.values())
    return Seen(place, actor, busiest, worked / handled if handled else 0.0)


def _table(shell: Shell, seen: list[Seen]) -> Any:
    """A row for each: without the process where there is one only, without the types where there is no room."""
    several = len({each.place for each in seen}) > 1
    table = plain_table(
        *(("process",) if several else ()), "actor", right=("waiting", "most", "a second", "each", "restarts", "age")
    )
    wide = shell.out.width >= WIDE_COLUMNS
    if wide:
        table.add_column("mostly", no_wrap=True)
    for each in seen:
        actor = each.actor
        name = actor["name"] + (f" of {actor['parent']}" if actor["parent"] else "")
        name += ("" if actor["alive"] else ", ended") + (", on a thread" if actor["blocking"] else "")
        rates = [f"{kind} {rate:.1f}" for kind, rate in each.rates.items() if rate >= RATE_SHOWN_MIN]
        table.add_row(
            *((each.place,) if several else ()),
            *(name, number_text(actor["depth"]), number_text(actor["depth_max"]), f"{each.rate:.1f}"),
            *(_microseconds(each.each_seconds), str(actor["restarts"]), seconds_text(actor["age"])),
            *((", ".join(rates[:TYPES_SHOWN]) or "-",) if wide else ()),
        )
    return table


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} us" if seconds else "-"


# One actor


def inspect(shell: Shell, call: Call) -> None:
    [name] = call.words if len(call.words) == 1 else call.wrong()
    for place in _homes(shell, call, name):
        found = _ask(shell, place, "INSPECT", name)
        counted = found.get("messages", {}).items()
        found["messages"] = {kind: f"{count} in {1000 * spent:.1f} ms" for kind, (count, spent) in counted}
        shell.say(f"{_bare(name)} of {place}:", *(f"  {line}" for line in _lines(found)))


def tell(shell: Shell, call: Call) -> None:
    name, kind, fields = _message(call)
    for place in _homes(shell, call, name):
        _ask(shell, place, "TELL", name, type=kind, fields=fields)
        shell.say(f"{kind} is told to {_bare(name)} of {place}")


def ask(shell: Shell, call: Call) -> None:
    name, kind, fields = _message(call)
    for place in _homes(shell, call, name):
        answer = _ask(shell, place, "ASK", name, type=kind, fields=fields)
        shell.say(*_lines(answer))


def _message(call: Call) -> tuple[str, str, dict[str, Any]]:
    name, text = first_word(call.tail)
    if not text:
        call.wrong()
    return (name, *message(text))


def _ask(shell: Shell, place: str, word: str, name: str, **arguments: Any) -> Any:
    return shell.target.observe(place, word, actor=_bare(name), **arguments)


def _bare(name: str) -> str:
    """The name of an actor without the process before it."""
    return name.rpartition("/")[2]


def _homes(shell: Shell, call: Call, name: str) -> list[str]:
    """The processes that are meant by an aim, by ``7001/storage``, or since no other has an actor of that name."""
    place, _, bare = name.rpartition("/")
    if place:
        return [shell.target.place(place)]
    if call.aim:
        return call.aim
    answers, troubles = shell.target.everywhere(shell.target.everybody(), "ACTORS")
    homes = [place for place, listed in answers.items() if any(actor["name"] == bare for actor in listed)]
    if len(homes) > 1:
        raise Wrong(
            f"{bare} lives in {', '.join(homes)}; say which: {homes[0]} {call.command.name} {call.tail}, or all ..."
        )
    if not homes:
        known = {actor["name"] for listed in answers.values() for actor in listed}
        shell.complain_all(troubles)
        raise Trouble(f"there is no actor called {bare!r}{did_you_mean(bare, known)}; `actors` lists them", NO)
    return homes


def _lines(value: Any) -> Iterator[str]:
    """A value of JSON for people."""
    match value:
        case dict() if value and not _short(value):
            for name, each in value.items():
                yield from _entry(f"{name}:", each)
        case list() if value and not _short(value):
            for each in value:
                yield from _entry("-", each)
        case _:
            yield _text(value)


def _entry(begin: str, value: Any) -> Iterator[str]:
    lines = list(_lines(value))
    if len(lines) == 1 and len(begin) + len(lines[0]) < WIDTH_MAX:
        yield f"{begin} {lines[0]}"
    elif begin == "-":
        yield from (f"{'- ' if number == 0 else '  '}{line}" for number, line in enumerate(lines))
    else:
        yield begin
        yield from (" " * INDENT + line for line in lines)


def _short(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    plain = not any(isinstance(each, dict | list) and each for each in parts)
    return plain and (isinstance(value, list) or len(_text(value)) < WIDTH_MAX)


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case dict():
            return ", ".join(f"{name} {_text(each)}" for name, each in value.items()) or "{}"
        case list():
            return ", ".join(map(_text, value)) or "[]"
        case float():
            return f"{value:.6g}"
        case None:
            return "-"
        case _:
            return json.dumps(value)


# Threads and code


def stacks(shell: Shell, call: Call) -> None:
    places = shell.processes(call, call.words)
    found, troubles = shell.target.everywhere(places, "STACKS")
    for place, threads in found.items():
        for thread, stack in threads.items():
            shell.say(f"{place} {thread}", *(f"  {line}" for line in stack))
    shell.complain_all(troubles)


def hangs(shell: Shell, call: Call) -> None:
    """What the watchdogs have found: it has happened, and may be over."""
    places = shell.processes(call, call.words)
    found, troubles = shell.target.everywhere(places, "HANGS")
    if found:
        shell.say(*hang_lines(found))
    shell.complain_all(troubles)


def hang_lines(found: Mapping[str, dict[str, Any]]) -> list[str]:
    """What the watchdogs of some processes tell; asks that wait on each other across these processes as well."""
    lines = []
    for place, told in found.items():
        for each in told["found"]:
            lines.append(f"{place} {datetime.fromtimestamp(each['at'], UTC):%H:%M:%S}: {each['sentence']}")
        for work in told["working"]:
            lines.append(f"{place} now: {work['actor']} works on {work['message']}, for {work['seconds']:.1f} s")
            lines += [f"  {line}" for line in work["stack"]]
    waits = (Wait(**wait) for told in found.values() for wait in told["waits"])
    for circle in circles(wait for wait in waits if wait.seconds >= CIRCLE_SECONDS):
        lines.append(f"now: asks wait on each other: {', '.join(map(str, circle))}")
    return lines or ["nothing hangs, and nothing has"]


def py(shell: Shell, call: Call) -> None:
    text, name = call.tail, OBSERVER
    word, rest = first_word(text)
    if word == "at":
        name, text = first_word(rest)
    if not text:
        call.wrong()
    code = shipped(cloudpickle.dumps(_function(text)))
    anywhere = name == OBSERVER and not call.aim
    for place in _any(shell) if anywhere else _homes(shell, call, name):
        shell.say(f"{place}: {_text(_ask(shell, place, 'PY', name, code=code))}")


def _any(shell: Shell) -> list[str]:
    nodes = shell.target.nodes()
    if not nodes:
        raise Trouble("no node of the cluster is up", REFUSED)
    return nodes[:1]


def _function(text: str) -> Callable[[Any], Any]:
    """A function of ``actor`` that evaluates an expression, or runs ``{ lines }`` and returns the last of them.

    It is made of source, in a module that nobody can import, so that it travels whole. Raises Wrong.
    """
    source = text.strip()
    if source.startswith("{") and source.endswith("}") and "\n" in source:
        source = textwrap.dedent(source[1:-1].strip("\n"))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as wrong:
        raise Wrong(f"that is no Python: {getattr(wrong, 'msg', wrong)}") from None
    if not tree.body:
        raise Wrong("there is nothing to run")
    body = ast.parse("def shipped(actor):\n    pass").body
    function = body[0]
    assert isinstance(function, ast.FunctionDef)
    *_, last = function.body = tree.body
    if isinstance(last, ast.Expr):
        function.body[-1] = ast.copy_location(ast.Return(last.value), last)
    namespace: dict[str, Any] = {"__name__": "ringkeeper_shell"}
    try:
        exec(compile(ast.Module(body, []), "<shell>", "exec"), namespace)
    except (SyntaxError, ValueError) as wrong:
        raise Wrong(f"that is no Python: {getattr(wrong, 'msg', wrong)}") from None
    return namespace["shipped"]  # type: ignore[no-any-return]
