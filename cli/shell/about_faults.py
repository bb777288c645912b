"""Commands that interfere: with messages between processes, with processes, with the network."""

from typing import Any, Literal

from ..drawing import plain_table
from ..outcomes import NO, REFUSED, Trouble
from .lines import Wrong, number, seconds
from .session import IT, OF_KEY, Call, Shell

Action = Literal["hold", "delay", "drop"]


def hold(shell: Shell, call: Call) -> None:
    _fault(shell, call, "hold")


def delay(shell: Shell, call: Call) -> None:
    _fault(shell, call, "delay")


def drop(shell: Shell, call: Call) -> None:
    _fault(shell, call, "drop")


def _fault(shell: Shell, call: Call, action: Action) -> None:
    if not call.words:
        call.wrong()
    kind, *left = call.words
    ends: dict[str, str] = {"from": "*", "to": "*"}
    places: dict[str, str] = {}
    span: float | None = None
    while left:
        word, *left = left
        if not left:
            call.wrong()
        if word in ends:
            place, ends[word], left = _end(shell, left)
            if place:
                places[word] = place
        elif word == "by" and action == "delay":
            span, left = seconds(left[0]), left[1:]
        else:
            call.wrong()
    if (action == "delay") != (span is not None):
        call.wrong()
    asked: dict[str, Any] = {"action": action, "type": kind, **ends}
    if span is not None:
        asked["seconds"] = span
    at = [places.get("from") or places["to"]] if places else call.aim or shell.target.places()
    made, troubles = shell.target.everywhere(at, "FAULT", **asked)
    for place, fault in made.items():
        shell.say(f"{place} {_sentence(fault)}: fault {fault['id']}")
    shell.complain_all(troubles)


def _end(shell: Shell, left: list[str]) -> tuple[str, str, list[str]]:
    """One end of messages: the process if it names one, the pattern for the bridge, and the words after it."""
    if left[0] in (IT, *OF_KEY):
        place, left = shell.take_place(left)
        return place, shell.target.bridge(place), left
    word, *left = left
    where, _, actor = word.partition("/")
    if shell.target.is_place(where):
        place = shell.target.place(where)
        address = shell.target.bridge(place)
        return place, f"ringkeeper://{address}/{actor}" if actor else address, left
    if actor or where[:1].isdigit():
        shell.target.place(where)  # says what is wrong with it
    return "", word, left


def _sentence(fault: dict[str, Any]) -> str:
    verb = {"hold": "holds", "delay": "delays", "drop": "drops"}[fault["action"]]
    by = f" by {fault['seconds']:g} s" if fault["action"] == "delay" else ""
    ends = "".join(f" {word} {_short(fault[word])}" for word in ("from", "to") if fault[word] != "*")
    return f"{verb} {fault['type']}{ends}{by}"


def _short(pattern: str) -> str:
    return pattern.removeprefix("ringkeeper://")


def faults(shell: Shell, call: Call) -> None:
    if call.words:
        call.wrong()
    found, troubles = shell.target.everywhere(call.aim or shell.target.places(), "FAULTS")
    table = plain_table("at", "fault", "what", right=("matched", "kept"), folds="what")
    for place, each in ((place, fault) for place, listed in found.items() for fault in listed):
        table.add_row(place, str(each["id"]), _sentence(each), str(each["matched"]), str(each["kept"]))
    if table.row_count:
        shell.say(table)
    elif found:
        shell.say("there are no faults")
    shell.complain_all(troubles)


def release(shell: Shell, call: Call) -> None:
    if len(call.words) > 1:
        call.wrong()
    at = call.aim or shell.target.places()
    if call.words:
        wanted = number(call.words[0], "fault", least=0)
        found, troubles = shell.target.everywhere(at, "FAULTS")
        at = [place for place, listed in found.items() if any(each["id"] == wanted for each in listed)]
        if not at:
            shell.complain_all(troubles)
            raise Trouble(f"there is no fault {wanted}; `faults` lists them", NO)
        if len(at) > 1:
            raise Wrong(f"fault {wanted} may be at {' or '.join(at)}; say where: {at[0]} release {wanted}")
        ended, troubles = shell.target.everywhere(at, "RELEASE", id=wanted)
    else:
        ended, troubles = shell.target.everywhere(at, "RELEASE", id=None)
    for place, fault in ((place, fault) for place, listed in ended.items() for fault in listed):
        kept = f"; {fault['kept']} kept until now {'goes' if fault['kept'] == 1 else 'go'} on" if fault["kept"] else ""
        shell.say(f"{place} no longer {_sentence(fault)}{kept}")
    if not any(ended.values()) and not troubles:
        shell.say("there were no faults")
    shell.complain_all(troubles)


# Processes and the network


def kill(shell: Shell, call: Call) -> None:
    node = _node(shell, call)
    shell.target.kill(node)
    shell.say(f"{node} is killed")


def pause(shell: Shell, call: Call) -> None:
    node = _node(shell, call)
    shell.target.pause(node)
    shell.say(f"{node} stands still; `resume {node}` lets it go on")


def resume(shell: Shell, call: Call) -> None:
    node = _node(shell, call)
    shell.target.resume(node)
    shell.say(f"{node} goes on")


def restart(shell: Shell, call: Call) -> None:
    shell.say(shell.target.restart(_node(shell, call)))


def cut(shell: Shell, call: Call) -> None:
    one, other = (_known(shell, place) for place in shell.places_in(call, 2))
    if one == other:
        raise Wrong(f"{one} cannot be cut off from itself")
    shell.target.insist_on_interfering("cut")
    shell.say(shell.target.cut(one, other))


def heal(shell: Shell, call: Call) -> None:
    if call.words:
        call.wrong()
    shell.say(shell.target.heal())


def _node(shell: Shell, call: Call) -> str:
    [place] = shell.places_in(call)
    shell.target.insist_on_interfering(call.command.name)
    return _known(shell, place)


def _known(shell: Shell, place: str) -> str:
    if place not in shell.target.ring().by_id:
        raise Trouble(f"{place} is no node of the ring: nodes alone can be treated so", REFUSED)
    return place
