"""Commands that let time pass; in the simulation also step by step, back, and another way."""

from collections.abc import Callable
from typing import cast

from ...actors.rules.ring import Ring
from ...scenarios.stage import PHASES
from ...scenarios.stepped import QUIET
from ..outcomes import NO, Trouble
from .lines import Wrong, number, seconds
from .session import Call, Shell
from .simulated_target import SimulatedTarget

UNTIL_SECONDS_MAX = 60.0
STEP_LINES_SHOWN_MAX = 200
CONDITIONS = ("steady", "serves", "up", "down", "epoch", "job", "phase", "answered")
"""What can be waited for."""


def run(shell: Shell, call: Call) -> None:
    [span] = call.words if len(call.words) == 1 else call.wrong()
    shell.target.let_pass(seconds(span))
    _tell_moment(shell)


def until(shell: Shell, call: Call) -> None:
    words, most = call.words, UNTIL_SECONDS_MAX
    if len(words) >= 2 and words[-2] == "within":
        words, most = words[:-2], seconds(words[-1])
    sentence, holds = _condition(shell, words, call)
    began = shell.target.now()

    def met() -> bool:
        try:
            return holds()
        except Trouble:  # nobody can say at the moment
            return False

    if not shell.target.wait(met, most):
        raise Trouble(f"in {most:g} s it did not come to be that {sentence}", NO)
    shell.say(f"{sentence}, after {shell.target.now() - began:.2f} s")
    shell.tell_ended()


def _condition(shell: Shell, words: list[str], call: Call) -> tuple[str, Callable[[], bool]]:
    """What is waited for, in a sentence, and whether it is so. Raises Wrong, Trouble."""
    ring = shell.target.ring
    match words:
        case ["steady"]:
            return "all nodes are up and no change is left", lambda: _steady(ring())
        case ["serves"]:
            return "every slot is answered for", lambda: (now := ring()).serving and None not in now.coordinators
        case ["answered"]:
            return "all is answered", lambda: all(pending.ended is not None for pending in shell.pending)
        case [("up" | "down") as state, *node] if node:
            place, left = shell.take_place(node)
            if left:
                call.wrong()
            return f"{place} is {state}", lambda: place in (now := ring()).by_id and now.by_id[place].state == state
        case ["epoch", word]:
            epoch = number(word, "epoch")
            return f"ring {epoch} is there", lambda: ring().epoch >= epoch
        case ["job", word]:
            job = number(word, "job")
            return f"job {job} has ended", lambda: any(w.job == job and w.outcome for w in ring().history)
        case ["phase", phase] if phase in PHASES:
            least = PHASES.index(phase)
            return (
                f"a change is in {phase}",
                lambda: (change := ring().change) is not None and PHASES.index(change.phase) >= least,
            )
        case ["phase", *_]:
            raise Wrong(f"a change has the phases {', '.join(PHASES)}")
        case _:
            raise Wrong(call.usage())


def _steady(ring: Ring) -> bool:
    up = all(node.state == "up" for node in ring.circle)
    return up and ring.serving and ring.change is None and not ring.queue


# In the simulation


def step(shell: Shell, call: Call) -> None:
    if len(call.words) > 1:
        call.wrong()
    count = number(call.words[0], "number of messages", most=100_000) if call.words else 1
    target = _simulation(shell)
    lines = target.story.stage.cluster.world.trace.lines
    target.step(count)
    trace = target.story.stage.cluster.world.trace
    for line in trace.tail(min(trace.lines - lines, STEP_LINES_SHOWN_MAX)):
        shell.say(line)


def back(shell: Shell, call: Call) -> None:
    target = _simulation(shell)
    match call.words:
        case ["to", word]:
            moment = 0.0 if word == "0" else seconds(word)
        case [word]:
            moment = target.now() - seconds(word)
        case _:
            call.wrong()
    if moment > target.now():
        raise Wrong(f"it is {target.now():.3f} s: {moment:.3f} s is still to come")
    shell.pending.clear()
    shell.counts.clear()
    target.story.back(moment)
    _tell_moment(shell)


def fork(shell: Shell, call: Call) -> None:
    [word] = call.words if len(call.words) == 1 else call.wrong()
    seed = number(word, "seed", least=0, most=1 << 62)
    _simulation(shell).story.fork(seed)
    shell.say(f"from {shell.target.now():.3f} s on chance goes the way of seed {seed}; `back` leads to before")


def _simulation(shell: Shell) -> SimulatedTarget:
    return cast("SimulatedTarget", shell.target)


def _tell_moment(shell: Shell) -> None:
    if shell.target.simulated:
        story = _simulation(shell).story
        over = story.over if story.scenario is not QUIET else ""
        shell.say(f"it is {shell.target.now():.3f} s" + (f"; {over}" if over else ""))
    shell.tell_ended()
