"""Commands that tell what has happened: to a key, to an actor, to messages of a type, to the cluster."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from ...actors.rules.journey import as_diagram, as_table
from ...runtime.tracing import MESSAGES, MESSAGES_MAX, SECONDS, SECONDS_MAX
from ..events import KINDS, EventsOf, in_words, of_kinds
from ..observing import RunningTrace, sentences
from ..outcomes import NO, Trouble
from .lines import Said, Wrong, did_you_mean, number, seconds, words
from .session import Call, Shell

SUBJECTS = ("key", "actor", "type")
FORMS = ("text", "json", "diagram")
EVENTS_SHOWN, EVENTS_SHOWN_MAX = 20, 10_000


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace that was begun, and as what it is shown."""

    trace: RunningTrace
    form: str


def trace(shell: Shell, call: Call) -> None:
    """Begin a trace in all processes; with ``do`` show what it has found as soon as that command is over."""
    said, _, command = f"{call.tail} ".partition(" do ")
    given = words(said)
    if len(given) < 2:
        call.wrong()
    kind, about, *left = given
    if kind not in SUBJECTS:
        raise Wrong(f"{kind!r} cannot be traced{did_you_mean(kind, SUBJECTS)}; {', '.join(SUBJECTS)} can")
    bounds: dict[str, float] = {"messages_max": MESSAGES, "seconds": SECONDS}
    form = FORMS[0]
    while left:
        match left:
            case ["for", span, *left]:
                bounds["seconds"] = seconds(span)
            case ["max", count, *left]:
                bounds["messages_max"] = number(count, "number of messages", most=MESSAGES_MAX)
            case ["as", form, *left]:
                _check_form(form)
            case _:
                call.wrong()
    if bounds["seconds"] > SECONDS_MAX:
        raise Wrong(f"a trace runs for {SECONDS_MAX:g} s at most")
    shell.traces += 1
    id = f"shell-{0 if shell.target.simulated else os.getpid()}-{shell.traces}"
    begun = RunningTrace(shell.target, call.aim or shell.target.places(), id, kind, about, **bounds)
    shell.complain_all(sentences(begun.refusals))
    shell.trace = Traced(begun, form)
    if command.strip():
        shell.run_one(Said(command.strip()))
        _show(shell, "UNTRACE", form)
        shell.trace = None
    else:
        bound = f"{bounds['seconds']:g} s or {bounds['messages_max']:g} messages"
        shell.say(
            f"{kind} {about} is traced in {len(begun.places)} processes for {bound}; `traced` shows what was found"
        )


def traced(shell: Shell, call: Call) -> None:
    match call.words:
        case []:
            _show(shell, "TRACED")
        case ["as", form]:
            _check_form(form)
            _show(shell, "TRACED", form)
        case _:
            call.wrong()


def untrace(shell: Shell, call: Call) -> None:
    if call.words:
        call.wrong()
    _show(shell, "UNTRACE")
    shell.trace = None


def _check_form(form: str) -> None:
    if form not in FORMS:
        raise Wrong(f"a trace is shown as {', '.join(FORMS)}, not as {form!r}{did_you_mean(form, FORMS)}")


def _show(shell: Shell, word: str, form: str = "") -> None:
    known = shell.trace
    if known is None:
        raise Trouble("nothing is traced: `trace key KEY` begins to", NO)
    hops, ended, troubles = known.trace.told(word)
    match form or known.form:
        case "json":
            lines: Sequence[str] = [json.dumps([hop.to_json() for hop in hops], indent=2)]
        case "diagram":
            lines = as_diagram(hops)
        case _:
            lines = as_table(hops)
    shell.say(*lines)
    if not hops:
        shell.say("nothing was seen")
    for place, reason in ended.items():
        if "record" in reason and word == "TRACED":
            shell.complain(f"{place} tells no more: {reason}")
    shell.complain_all(troubles)


def why(shell: Shell, call: Call) -> None:
    """As the node that answers for the key has seen it: it knows best since when it does."""
    [key] = call.words if len(call.words) == 1 else call.wrong()
    words = ("RING", "WHY", os.fsencode(key))
    try:
        text = shell.target.execute_on(shell.target.members(key)[0], *words)
    except Trouble:  # nobody answers, or not any more: the others know of that
        text = shell.target.execute(*words)
    told = json.loads(text)
    shell.say(f"{key} is in slot {told['slot']} (ring epoch {told['epoch']})")
    shell.say(*(f"  {sentence}" for sentence in told["sentences"]))


def events(shell: Shell, call: Call) -> None:
    """As ``ringkeeper events`` tells them."""
    count, kinds, left = EVENTS_SHOWN, list[str](), call.words
    while len(left) >= 2 and left[-2] in ("max", "kind"):
        *left, option, value = left
        if option == "max":
            count = number(value, "number of events", most=EVENTS_SHOWN_MAX)
        elif value in KINDS:
            kinds.append(value)
        else:
            raise Wrong(f"{value!r} is no kind of event{did_you_mean(value, KINDS)}; there are {', '.join(KINDS)}")
    places = shell.processes(call, left) if call.aim is not None or left else None
    troubles: list[str] = []
    found = of_kinds(EventsOf(shell.target, troubles.append, places).new(), kinds)
    shell.say(*map(in_words, found[-count:]))
    if found:
        for sentence in troubles:  # the others have told what there is
            shell.complain(sentence)
    elif troubles:
        shell.complain_all(troubles)
    else:
        raise Trouble("nothing of that kind has happened yet" if kinds else "nothing has happened yet", NO)
