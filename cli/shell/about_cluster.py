"""Commands that show how the cluster is, and those for keys."""

import json
import os

from ..data import located_text
from ..drawing import Contents, drawing
from ..following import jobs_table
from ..outcomes import NO, Trouble
from ..printable import printable
from ..show import nodes_table, print_status
from .lines import number, seconds
from .session import Call, Shell, shown_reply

JOBS_SHOWN_MAX = 10
KEYS_SHOWN, KEYS_SHOWN_MAX = 100, 100_000
SCAN_COUNT = 1000
WAIT_SECONDS_MAX = 60.0
"""So long ``wait`` waits unless told otherwise; clients give up sooner."""


def nodes(shell: Shell, call: Call) -> None:
    if call.words:
        call.wrong()
    shell.say(nodes_table(shell.target.status()["nodes"]))


def ring(shell: Shell, call: Call) -> None:
    if call.words not in ([], ["--json"]):
        call.wrong()
    shown = shell.target.ring()
    if call.words:
        shell.say(json.dumps(json.loads(shown.to_json()), indent=2))
        return
    try:
        found = shell.target.status()["nodes"]
    except Trouble:
        found = []  # the picture is worth showing without figures
    held = {node["id"]: Contents(node["keys"], node["bytes"]) for node in found if node["bytes"] is not None}
    shell.say(drawing(shown, held))


def status(shell: Shell, call: Call) -> None:
    if call.words:
        call.wrong()
    now = shell.target.status()
    print_status(now)
    if not now["serving"]:
        shell.status = NO


def changes(shell: Shell, call: Call) -> None:
    if call.words:
        call.wrong()
    jobs = shell.target.ask("JOBS")["jobs"]
    if jobs:
        shell.say(jobs_table(jobs[-JOBS_SHOWN_MAX:]))
    else:
        shell.say("no change of the ring is remembered, and none waits")


# Keys


def locate(shell: Shell, call: Call) -> None:
    [key] = call.words if len(call.words) == 1 else call.wrong()
    shell.say(located_text(key, json.loads(shell.target.execute("RING", "LOCATE", os.fsencode(key)))))


def put(shell: Shell, call: Call) -> None:
    [key, value] = call.words if len(call.words) == 2 else call.wrong()
    _do(shell, call, "SET", key, value)


def get(shell: Shell, call: Call) -> None:
    [key] = call.words if len(call.words) == 1 else call.wrong()
    _do(shell, call, "GET", key)


def delete(shell: Shell, call: Call) -> None:
    [key] = call.words if len(call.words) == 1 else call.wrong()
    _do(shell, call, "DEL", key)


def _do(shell: Shell, call: Call, word: str, key: str, *values: str) -> None:
    if not key:
        call.wrong()
    wanted: list[str | bytes] = [word, os.fsencode(key), *(os.fsencode(value) for value in values)]
    if call.background:
        shell.pending.append(shell.target.begin(f"{call.command.name} {call.tail}", *wanted))
        return
    began = shell.target.now()
    reply = shell.target.execute(*wanted)
    if word == "SET":
        shell.say(f"done in {1000 * (shell.target.now() - began):.1f} ms")
    elif reply in (None, 0):
        raise Trouble(f"{key} {'is' if word == 'GET' else 'was'} not there", NO)
    elif word == "GET":
        shell.say(shown_reply(bytes(reply)) if reply != b"OK" else "OK")
    else:
        shell.say("done")


def scan(shell: Shell, call: Call) -> None:
    pattern, most = "*", KEYS_SHOWN
    match call.words:
        case []:
            pass
        case [pattern]:
            pass
        case [pattern, "max", word]:
            most = number(word, "number of keys", most=KEYS_SHOWN_MAX)
        case _:
            call.wrong()
    found: set[bytes] = set()
    for node in sorted({node.id for node in shell.target.ring().coordinators if node is not None}):
        cursor: bytes = b""
        while cursor != b"0" and len(found) <= most:
            cursor, keys = shell.target.execute_on(
                node, "SCAN", cursor or b"0", "MATCH", os.fsencode(pattern), "COUNT", SCAN_COUNT
            )
            found.update(keys)
    for key in sorted(found)[:most]:
        shell.say(printable(shown_reply(key)))
    if len(found) > most:
        shell.say(f"and more; `scan {pattern} max N` shows up to N")
    elif not found:
        raise Trouble("there is no such key" if call.words else "there are no keys", NO)


# What was left waiting


def waiting(shell: Shell, call: Call) -> None:
    if call.words:
        call.wrong()
    shell.tell_ended()
    for pending in shell.pending:
        shell.say(f"{pending.text}: waits, for {shell.target.now() - pending.began:.2f} s now")
    if not shell.pending:
        shell.say("nothing waits")


def wait(shell: Shell, call: Call) -> None:
    if len(call.words) > 1:
        call.wrong()
    most = seconds(call.words[0]) if call.words else WAIT_SECONDS_MAX
    shell.target.wait(lambda: all(pending.ended is not None for pending in shell.pending), most)
    shell.tell_ended()
    if shell.pending:
        raise Trouble(f"{shell.pending[0].text} still waits after {most:g} s", NO)
