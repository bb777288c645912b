"""Commands that tell what has happened: to a key, to an actor, to messages of a type, to the cluster."""

from datetime import UTC, datetime
from typing import Any

from ..outcomes import NO, Trouble
from .lines import number
from .session import Call, Shell

EVENTS_SHOWN, EVENTS_SHOWN_MAX = 20, 10_000


def events(shell: Shell, call: Call) -> None:
    """Of all processes in order; of the same moment by process and number."""
    count, words = EVENTS_SHOWN, call.words
    if len(words) >= 2 and words[-2] == "max":
        count, words = number(words[-1], "number of events", most=EVENTS_SHOWN_MAX), words[:-2]
    if len(words) > (0 if call.aim else 1):
        call.wrong()
    places = call.aim or [shell.target.place(word) for word in words] or shell.target.places()
    found: list[dict[str, Any]] = []
    troubles: list[str] = []
    for place in places:
        since = 0
        while True:
            answers, trouble = shell.target.everywhere([place], "EVENTS", since=since)
            troubles += trouble
            if not answers or not answers[place]["events"]:
                break
            found += answers[place]["events"]
            since = answers[place]["next"]
    found.sort(key=lambda event: (event["at"], event["process"], event["number"]))
    for event in found[-count:]:
        at = datetime.fromtimestamp(event["at"], UTC)
        cause = f" ({event['cause']})" if event["cause"] else ""
        moment = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        shell.say(f"{moment}  {event['process']}  {event['kind']}: {event['sentence']}{cause}")
    if not found and not troubles:
        raise Trouble("nothing has happened yet", NO)
    shell.complain_all(troubles)
