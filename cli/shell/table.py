"""All commands of the shell, in the order in which ``help`` lists them."""

from collections.abc import Mapping

from rich.text import Text

from . import about_actors, about_cluster, about_faults, about_time, about_traces
from .lines import Wrong, did_you_mean
from .session import Call, Command, Shell

THE_CLUSTER, KEYS, ACTORS, JOURNEYS, FAULTS, TIME, ITSELF = (
    "The cluster", "Keys", "Actors", "Journeys and events", "Faults", "Time", "The shell",
)  # fmt: skip


def help_(shell: Shell, call: Call) -> None:
    if len(call.words) > 1:
        call.wrong()
    if call.words:
        _help_on(shell, call.words[0])
        return
    theme = ""
    for command in shell.table.values():
        if command.simulation_only and not shell.target.simulated:
            continue
        if command.theme != theme:
            theme = command.theme
            shell.say(Text(theme, style="bold"))
        shell.say(f"  {command.name:<10}{command.help}")
    shell.say(
        "before a command: a node (7001), ecs, all, owner-of KEY, successor-of KEY or it (the last that was named) say "
        "for which processes it is; `help COMMAND` has an example; Ctrl-C cancels, Ctrl-D ends"
    )


def _help_on(shell: Shell, word: str) -> None:
    command = shell.table.get(word)
    if command is None:
        raise Wrong(f"there is no command {word!r}{did_you_mean(word, shell.table)}; `help` lists them")
    shell.say(f"{command.name} {command.syntax}".rstrip(), f"  {command.help}", f"  for example: {command.example}")


def exit_(shell: Shell, call: Call) -> None:
    raise EOFError


COMMANDS = (
    Command(
        name="nodes", syntax="", help="The nodes: states, lives, slots, keys, process ids.", example="nodes",
        run=about_cluster.nodes, theme=THE_CLUSTER,
    ),
    Command(
        name="ring", syntax="[--json]", help="Draw the ring, and what changed last.", example="ring",
        run=about_cluster.ring, theme=THE_CLUSTER, arguments=("--json",),
    ),
    Command(
        name="status", syntax="", help="How the cluster is: who leads, what is wrong.", example="status",
        run=about_cluster.status, theme=THE_CLUSTER,
    ),
    Command(
        name="changes", syntax="", help="Changes of the ring: waiting, in flight, lately ended.", example="changes",
        run=about_cluster.changes, theme=THE_CLUSTER,
    ),
    Command(
        name="locate", syntax="KEY", help="Which slot a key is in, and which nodes have it.", example="locate user:42",
        run=about_cluster.locate, theme=KEYS, arguments=("key",),
    ),
    Command(
        name="put", syntax="KEY VALUE [&]", help="Store a value; with & it is not waited for.",
        example="put user:42 Ada &", run=about_cluster.put, theme=KEYS, arguments=("key", ""), background=True,
    ),
    Command(
        name="get", syntax="KEY [&]", help="Show the value of a key.", example="get user:42",
        run=about_cluster.get, theme=KEYS, arguments=("key", ""), background=True,
    ),
    Command(
        name="delete", syntax="KEY [&]", help="Remove a key.", example="delete user:42",
        run=about_cluster.delete, theme=KEYS, arguments=("key", ""), background=True,
    ),
    Command(
        name="scan", syntax="[PATTERN [max N]]", help="List keys that fit a pattern (* and ?), 100 unless told.",
        example="scan user:* max 20", run=about_cluster.scan, theme=KEYS, arguments=("key", "max", ""),
    ),
    Command(
        name="waiting", syntax="", help="What was begun with & and is not answered yet.", example="waiting",
        run=about_cluster.waiting, theme=KEYS,
    ),
    Command(
        name="wait", syntax="[SPAN]", help="Wait until all that was begun with & is answered.", example="wait 10s",
        run=about_cluster.wait, theme=KEYS,
    ),
    Command(
        name="actors", syntax="[NODE]", help="Every actor: mailbox, messages a second, time for each, restarts, age.",
        example="7001 actors", run=about_actors.actors, theme=ACTORS, arguments=("node", ""), aimed=True,
    ),
    Command(
        name="top", syntax="[by rate|time|depth|restarts|name] [NODE]",
        help="The cluster at work, live until Ctrl-C; with `by` or for a NODE the busiest actors.",
        example="top by time", run=about_actors.top, theme=ACTORS, arguments=("by", "sort", "node", ""), aimed=True,
    ),
    Command(
        name="inspect", syntax="ACTOR", help="The state of an actor.", example="owner-of user:42 inspect storage",
        run=about_actors.inspect, theme=ACTORS, arguments=("actor", ""), aimed=True,
    ),
    Command(
        name="tell", syntax="ACTOR MESSAGE(FIELD=VALUE, ...)", help="Tell an actor something.",
        example="7001 tell member LookForRing()", run=about_actors.tell, theme=ACTORS,
        arguments=("actor", "message"), aimed=True,
    ),
    Command(
        name="ask", syntax="ACTOR MESSAGE(FIELD=VALUE, ...)", help="Ask an actor, and show its answer.",
        example="7001 ask storage ReportFigures(question=1)", run=about_actors.ask, theme=ACTORS,
        arguments=("actor", "message"), aimed=True,
    ),
    Command(
        name="stacks", syntax="[NODE]", help="What every thread of a process does right now.", example="7001 stacks",
        run=about_actors.stacks, theme=ACTORS, arguments=("node", ""), aimed=True,
    ),
    Command(
        name="hangs", syntax="[NODE]", help="What hangs or has hung: loops, long work, asks that wait on each other.",
        example="hangs", run=about_actors.hangs, theme=ACTORS, arguments=("node", ""), aimed=True,
    ),
    Command(
        name="py", syntax="[at ACTOR] EXPRESSION | { LINES }",
        help="Run Python beside an actor, which it knows as `actor`; where code is allowed.",
        example="7001 py at storage len(actor._parked)", run=about_actors.py, theme=ACTORS,
        arguments=("at", "actor", ""), aimed=True,
    ),
    Command(
        name="trace", syntax="key KEY | actor ACTOR | type TYPE [for SPAN] [max N] [as text|json|diagram] [do COMMAND]",
        help="Follow messages through all processes, for 10 s and 200 messages unless told; `do` shows it at once.",
        example="trace key user:42 do put user:42 Ada", run=about_traces.trace, theme=JOURNEYS,
        arguments=("subject", "subject's", "trace option"), aimed=True,
    ),
    Command(
        name="traced", syntax="[as text|json|diagram]", help="What the last trace has found so far.",
        example="traced as diagram", run=about_traces.traced, theme=JOURNEYS, arguments=("as", "form", ""),
    ),
    Command(
        name="untrace", syntax="", help="End the last trace before its time.", example="untrace",
        run=about_traces.untrace, theme=JOURNEYS,
    ),
    Command(
        name="why", syntax="KEY", help="Who answers for a key, since when, by which change and cause.",
        example="why user:42", run=about_traces.why, theme=JOURNEYS, arguments=("key", ""),
    ),
    Command(
        name="events", syntax="[NODE] [kind KIND]... [max N]",
        help="The last events of all processes, or of one, in order.", example="events kind state max 50",
        run=about_traces.events, theme=JOURNEYS, arguments=("node", "kind", "event kind", "max", ""), aimed=True,
    ),
    Command(
        name="hold", syntax="MESSAGE [from A] [to B]", help="Keep messages between processes back until `release`.",
        example="hold Append from 7001 to 7002", run=about_faults.hold, theme=FAULTS,
        arguments=("type", "from", "node", "to", "node", ""), aimed=True,
    ),
    Command(
        name="delay", syntax="MESSAGE [from A] [to B] by SPAN", help="Have messages arrive so much later.",
        example="delay Heartbeat from 7001 to 7002 by 200ms", run=about_faults.delay, theme=FAULTS,
        arguments=("type", "from", "node", "to", "node", "by", ""), aimed=True,
    ),
    Command(
        name="drop", syntax="MESSAGE [from A] [to B]", help="Let messages never arrive.",
        example="drop Heartbeat* to 7003", run=about_faults.drop, theme=FAULTS,
        arguments=("type", "from", "node", "to", "node", ""), aimed=True,
    ),
    Command(
        name="release", syntax="[N]", help="End a fault, or all of them: what was kept goes on its way.",
        example="7001 release 3", run=about_faults.release, theme=FAULTS, aimed=True,
    ),
    Command(
        name="faults", syntax="", help="The faults there are, and how many messages met them.", example="faults",
        run=about_faults.faults, theme=FAULTS, aimed=True,
    ),
    Command(
        name="kill", syntax="NODE", help="End a node as a crash does.", example="kill owner-of user:42",
        run=about_faults.kill, theme=FAULTS, arguments=("node", ""), aimed=True,
    ),
    Command(
        name="pause", syntax="NODE", help="Have a node stand still, as SIGSTOP does.", example="pause 7002",
        run=about_faults.pause, theme=FAULTS, arguments=("node", ""), aimed=True,
    ),
    Command(
        name="resume", syntax="NODE", help="Let a paused node go on.", example="resume 7002",
        run=about_faults.resume, theme=FAULTS, arguments=("node", ""), aimed=True,
    ),
    Command(
        name="restart", syntax="NODE", help="Start a node again, killing it first if it lives.", example="restart 7002",
        run=about_faults.restart, theme=FAULTS, arguments=("node", ""), aimed=True,
    ),
    Command(
        name="cut", syntax="A B", help="Let nothing through between two nodes.", example="cut 7001 7002",
        run=about_faults.cut, theme=FAULTS, arguments=("node", "node", ""),
    ),
    Command(
        name="heal", syntax="", help="End all cuts.", example="heal", run=about_faults.heal, theme=FAULTS,
    ),
    Command(
        name="run", syntax="SPAN", help="Let time pass.", example="run 2s", run=about_time.run, theme=TIME,
    ),
    Command(
        name="until",
        syntax="steady | serves | answered | up NODE | down NODE | epoch N | job N | phase PHASE [within SPAN]",
        help="Let time pass until something is so, 60 s at most unless told.", example="until down 7002 within 10s",
        run=about_time.until, theme=TIME, arguments=("condition", "node", "within", ""),
    ),
    Command(
        name="step", syntax="[N]", help="Let one message be handled, or N, and show them.", example="step 10",
        run=about_time.step, theme=TIME, simulation_only=True,
    ),
    Command(
        name="back", syntax="SPAN | to SECONDS", help="Be at an earlier moment again: the same, played anew up to it.",
        example="back 2s", run=about_time.back, theme=TIME, simulation_only=True,
    ),
    Command(
        name="fork", syntax="SEED", help="From now on have chance go the way of another seed.", example="fork 8",
        run=about_time.fork, theme=TIME, simulation_only=True,
    ),
    Command(
        name="help", syntax="[COMMAND]", help="All commands, or one with an example.", example="help trace",
        run=help_, theme=ITSELF, arguments=("command", ""),
    ),
    Command(name="exit", syntax="", help="End the shell, as Ctrl-D does.", example="exit", run=exit_, theme=ITSELF),
)  # fmt: skip

TABLE: Mapping[str, Command] = {command.name: command for command in COMMANDS}
