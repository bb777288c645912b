"""Answers what people and programs ask of the control service: the verbs of ``RING``.

A part of `Ecs`, which leads and is the only writer of the ring. A verb that changes the ring becomes an `Order`: a
function from the ring to the next one, which the Ecs calls when it may write, and what to say when that was written. A
verb that asks others (the storage nodes for figures, a launcher for processes) waits here for their answers, with a
bound, and says what it has heard by then.

    RunVerb -> order ---- written, refused ----> VerbRun
            -> question -- answered, overdue --> VerbRun, or an order
"""

import json
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from ..runtime.actor import Ref
from ..runtime.session import Answered, ChildrenChanged, ReadNode, WatchChildren
from .job_view import balance_view, job_in_flight, jobs_ended, jobs_waiting, list_view, placed_view, plan_view
from .launcher import NodeRestarted, NodesStarted, RestartNode, StartNodes
from .messages import (
    BalancePlanned,
    BalanceWanted,
    Figures,
    GatherLoads,
    LoadsGathered,
    PlanBalance,
    ReportFigures,
    RunVerb,
    VerbRun,
)
from .rules import paths
from .rules.balancing import Balancing, By, balancing_to_json
from .rules.change import Kind, Wish
from .rules.fields import MovedOn, RingError
from .rules.placement import Place
from .rules.plan import Plan, Transfer
from .rules.rebalance import Loads, Rebalance, is_of, placed
from .rules.ring import ACKS, Acks, Node, Ring
from .rules.transitions import (
    abandoned,
    acknowledged_by,
    begun,
    dismissed,
    given_up,
    limited,
    planned,
    queued,
    recovered,
    renounced,
    served,
    set_balancing,
    weighed,
)

if TYPE_CHECKING:
    from .ecs import Ecs

log = logging.getLogger(__name__)

FIGURES_SECONDS_MAX = 1.0
"""How long the nodes' figures are waited for; those of a silent node are left empty."""

LAUNCHER_SECONDS_MAX = 2.5
"""How long a launcher may take to start processes; restarting one is answered when it is ordered."""

LAUNCHER_COMES_SECONDS = 1.0
"""How long a launcher that is needed may take to register."""

ORDER_SECONDS_MAX = 2.5
"""So long an order waits until the ring can be written; then it is not carried out."""

VERBS_MAX = 64
"""Verbs in the works at once; more are refused."""

NODES_ADDED_MAX = 64
"""Nodes that one ``RING ADD COUNT`` starts at most."""

ASKED = "asked for"

ADD_SYNTAX = "RING ADD COUNT n | NODE id [id ...], then PLACE even|md5|relief, and DRYRUN to see only"

BALANCE_SYNTAX = (
    "RING BALANCE [BY slots|keys|bytes|requests] [THRESHOLD percent] [MAXMOVE bytes] [DRYRUN] | AUTO ON|OFF [BY ...] "
    "[THRESHOLD ...] | CAPACITY id number"
)

VERBS = frozenset(
    {
        "STATUS",
        "JOBS",
        "ADD",
        "REMOVE",
        "REPLACE",
        "REPLICAS",
        "RESTART",
        "CANCEL",
        "START",
        "STOP",
        "LIMIT",
        "DEFAULT",
        "BALANCE",
        "RECOVER",
        "RESTORE",
    }
)

LAUNCHER = "launcher "
"""What requests begin with that read a launcher's registration; the host follows."""


@dataclass(slots=True, eq=False)
class Order:
    """A write of the ring that somebody asked for."""

    make: Callable[[Ring], Ring]
    """The next ring. Raises RingError with the reason when it must not be."""
    written: Callable[[Ring], None]
    """Called once it is in ZooKeeper."""
    refused: Callable[[str], None]
    """Called with an error, its code first, when it is not, or nobody knows."""
    asked_at: float


@dataclass(slots=True, eq=False)
class Gathering:
    """A question to storage nodes, and what they have answered."""

    expected: set[str]
    then: Callable[[dict[str, Figures]], None]
    figures: dict[str, Figures] = field(default_factory=dict)


class Verbs:
    """The verbs of one control service."""

    def __init__(self, ecs: "Ecs", cluster_name: str, watches: Ref, balancer: Ref, node_command: str) -> None:
        self._ecs, self._cluster_name, self._watches, self._node_command = ecs, cluster_name, watches, node_command
        self._balancer = balancer
        self._balances: dict[int, Callable[[BalancePlanned], None]] = {}
        """What to do with the Balancer's answers."""
        self._load_questions: dict[int, Callable[[LoadsGathered], None]] = {}
        """The same where loads were asked for."""
        self.orders: list[Order] = []
        """In the order in which they are to be carried out."""
        self._gatherings: dict[int, Gathering] = {}
        self._at_launcher: dict[int, tuple[Callable[[Any], None], Callable[[], None]]] = {}
        """What to do with a launcher's answer, and without one."""
        self._launchers: dict[str, str] = {}
        """By host, the address of a launcher's bridge."""
        self._next_question = 0

    def on_start(self) -> None:
        self._ecs.send(self._watches, WatchChildren(path=paths.launchers(self._cluster_name), reply_to=self._ecs.ref))

    # What is asked

    def run(self, message: RunVerb) -> None:
        """Answer a verb, now or later."""
        at_balancer = len(self._balances) + len(self._load_questions)
        if len(self.orders) + len(self._gatherings) + len(self._at_launcher) + at_balancer >= VERBS_MAX:
            self._answer(message, error=f"TRYAGAIN {VERBS_MAX} questions are in the works; ask again")
            return
        words = list(message.arguments)
        match message.verb, words:
            case "STATUS", []:
                self.gather(self._figures_of_all(), lambda figures: self._say(message, self._ecs.status(figures)))
            case verb, _ if verb not in VERBS:
                self._answer(message, error=f"ERR unknown verb {verb!r}; see RING HELP")
            case "RESTORE", [*options] if {word.upper() for word in options} <= {"ACCEPTLOSS", "DRYRUN"}:
                self._ecs.restoring.run(message, self._question(), [word.upper() for word in options])
            case _ if self._ecs.ring is None:
                self._answer(message, error="CLUSTERDOWN The cluster has no ring yet")
            case "JOBS", []:
                self._say(message, self._jobs())
            case "ADD", [*rest]:
                self._add(message, rest)
            case "REMOVE", [id] if id not in self._ecs.members() and id in self._ecs.newest_lives():
                self._dismiss(message, id)
            case "REMOVE", [*rest]:
                self._remove(message, rest)
            case "REPLACE", [*rest]:
                self._replace(message, rest)
            case "REPLICAS", [*rest]:
                self._copies(message, rest)
            case "RESTART", [id, *force] if [word.upper() for word in force] in ([], ["FORCE"]):
                self._restart(message, id, bool(force))
            case "CANCEL", [word] if (job := _number(word)) is not None:
                self._cancel(message, job)
            case "RECOVER", [id, *rest] if [word.upper() for word in rest] in ([], ["DRYRUN"]):
                self._recover(message, id, bool(rest))
            case "LIMIT", [name, word] if name.upper() == "BYTES_PER_SECOND" and (limit := _number(word)) is not None:
                self._limit(message, limit)
            case "DEFAULT", [name, word] if name.upper() == "ACKS" and word.lower() in ACKS:
                self._set_acks(message, "one" if word.lower() == "one" else "all")
            case "BALANCE", [*rest]:
                self._balance(message, rest)
            case (("START" | "STOP"), []):
                self._serve(message, message.verb == "START")
            case _:
                self._answer(message, error=f"ERR wrong arguments of RING {message.verb}; see RING HELP")

    def _jobs(self) -> dict[str, Any]:
        ring = self._ecs.known_ring()
        in_flight = self.in_flight()
        jobs = [*jobs_ended(ring), *([in_flight] if in_flight else []), *self.waiting()]
        return {"epoch": ring.epoch, "jobs": jobs}

    def in_flight(self) -> dict[str, Any] | None:
        """The job in flight, for people."""
        ring = self._ecs.ring
        return job_in_flight(ring, self._ecs.progress()) if ring is not None else None

    def waiting(self) -> list[dict[str, Any]]:
        """The jobs in the queue, for people."""
        ring = self._ecs.ring
        return jobs_waiting(ring, self._ecs.waiting_because) if ring is not None else []

    # Nodes come

    def _add(self, message: RunVerb, words: list[str]) -> None:
        words, dry_run = _without_dry_run(words)
        ring = self._ecs.known_ring()
        how: Place | None = "relief" if ring.place == "relief" else None
        if len(words) > 1 and words[-2].upper() == "PLACE":
            how = next((each for each in get_args(Place) if each == words[-1].lower()), None)
            words = words[:-2] if how is not None else []
        match [word.upper() for word in words[:1]], words[1:]:
            case ["COUNT"], [word] if 0 < (_number(word) or 0) <= NODES_ADDED_MAX:

                def start(loads: Loads) -> None:
                    self._start_nodes(
                        message, int(word), dry_run, lambda ids: self._take_in(message, ids, how, loads, dry_run)
                    )

                self._knowing_loads(message, how, start)
            case ["COUNT"], _:
                self._answer(message, error=f"ERR RING ADD COUNT takes a number of nodes from 1 to {NODES_ADDED_MAX}")
            case ["NODE"], [_, *_]:
                for id in words[1:] if not dry_run else ():
                    if id not in self._ecs.newest_lives():
                        self._answer(message, error=f"ERR {id} has not registered: start it, then add it")
                        return
                self._knowing_loads(message, how, lambda loads: self._take_in(message, words[1:], how, loads, dry_run))
            case _:
                self._answer(message, error=f"ERR {ADD_SYNTAX}")

    def _knowing_loads(self, message: RunVerb, how: Place | None, then: Callable[[Loads], None]) -> None:
        """Go on once it is known what the slots weigh, if nodes are to be placed by that."""

        def gathered(answer: LoadsGathered) -> None:
            if answer.loads is None:
                self._answer(message, error=answer.error)
            else:
                then(answer.loads)

        if how == "relief":
            self.ask_loads(self._ecs.known_ring(), gathered)
        else:
            then(Loads())

    def _take_in(self, message: RunVerb, ids: Iterable[str], how: Place | None, loads: Loads, dry_run: bool) -> None:
        """Have nodes taken in, at places that are chosen now; None: by the ring's way, once their turn has come."""
        names = sorted(set(ids))
        if how is None:
            self._wish(message, "add", names, dry_run)
            return

        def wish(ring: Ring) -> Ring:
            tokens = placed(ring, names, how, loads).tokens
            return queued(ring, "add", names, tokens=tokens, why=ASKED, **self._ecs.write_fields())

        if dry_run:
            try:
                places = placed(self._ecs.known_ring(), names, how, loads)
            except RingError as error:
                self._answer(message, error=f"ERR {error}")
                return
            self._show_plan(message, "add", names, {"placed": placed_view(places)}, tokens=places.tokens)
        else:
            nodes = {"nodes": names, "by": None, "plan": None}
            self.order(message, wish, lambda ring: self._say(message, {"job": ring.epoch, **nodes}))

    def ask_loads(self, ring: Ring, then: Callable[[LoadsGathered], None]) -> None:
        """Go on with what the slots of the ring weigh."""
        question = self._question()
        self._load_questions[question] = then
        self._ecs.send(self._balancer, GatherLoads(question=question, ring=ring, reply_to=self._ecs.ref))

    def loads_gathered(self, message: LoadsGathered) -> None:
        """The Balancer knows what the slots weigh, or says why not."""
        self._load_questions.pop(message.question)(message)

    def _start_nodes(
        self,
        message: RunVerb,
        count: int,
        dry_run: bool,
        then: Callable[[tuple[str, ...]], None],
        waited: bool = False,
    ) -> None:
        """Have a launcher start nodes, and go on with their ids; ``dry_run``: with those that they would have."""
        launcher = self._launcher()
        if launcher is None and not waited:  # that of a cluster which has just come up may not have registered yet
            question = self._ask_launcher(
                lambda _: None, lambda: self._start_nodes(message, count, dry_run, then, True)
            )
            self._ecs.remind(LAUNCHER_COMES_SECONDS, question)
            return
        if launcher is None:
            self._answer(message, error=f"ERR no launcher is registered that could start nodes. {self._by_hand()}")
            return

        def started(answer: NodesStarted) -> None:
            if answer.error and not answer.ids:
                self._answer(message, error=f"ERR {answer.error}")
            else:
                then(answer.ids)

        def late() -> None:
            late = "INDOUBT the launcher has not said in time what it has started: see `ringkeeper nodes`"
            self._answer(message, error=late)

        question = self._ask_launcher(started, late)
        start = StartNodes(question=question, count=count, dry_run=dry_run, reply_to=self._ecs.ref)
        self._ecs.send(launcher, start)

    def starting_nodes(self) -> bool:
        """Whether a launcher is starting nodes whose names are not known yet."""
        return bool(self._at_launcher)

    # Nodes go

    def _remove(self, message: RunVerb, words: list[str]) -> None:
        words, dry_run = _without_dry_run(words)
        accept_loss = bool(words) and words[-1].upper() == "ACCEPTLOSS"
        words = words[:-1] if accept_loss else words
        if not words or (accept_loss and dry_run):
            self._answer(message, error="ERR RING REMOVE id [id ...] [ACCEPTLOSS | DRYRUN]")
        elif accept_loss:
            self._renounce(message, words)
        else:
            self._wish(message, "remove", words, dry_run)

    def _renounce(self, message: RunVerb, ids: list[str]) -> None:
        """Give up what dead nodes alone hold (R17)."""

        def renounce(ring: Ring) -> Ring:
            return renounced(ring, ids, why=ASKED, **self._ecs.write_fields())

        def written(ring: Ring) -> None:
            self._say(message, {"job": ring.epoch, "nodes": sorted(set(ids)), "plan": None})

        self.order(message, renounce, written)

    def _replace(self, message: RunVerb, words: list[str]) -> None:
        words, dry_run = _without_dry_run(words)
        match words:
            case [old] if old not in self._ecs.members():
                self._answer(message, error=f"ERR {old} is not in ring {self._ecs.known_ring().epoch}")
            case [old]:
                self._start_nodes(
                    message, 1, dry_run, lambda ids: self._wish(message, "replace", [old], dry_run, by=ids[0])
                )
            case [old, new] if not dry_run and new not in self._ecs.newest_lives():
                self._answer(message, error=f"ERR {new} has not registered: start it, then have it replace {old}")
            case [old, new]:
                self._wish(message, "replace", [old], dry_run, by=new)
            case _:
                self._answer(message, error="ERR RING REPLACE id [by], and DRYRUN to see only")

    def _copies(self, message: RunVerb, words: list[str]) -> None:
        words, dry_run = _without_dry_run(words)
        ring = self._ecs.known_ring()
        match [words[0], *(word.upper() for word in words[1:2]), *words[2:]] if words else []:
            case [replicas] if (copies := _number(replicas)) is not None:
                wanted = copies, ring.min_copies
            case [replicas, "MIN", needed] if _number(replicas) is not None and _number(needed) is not None:
                wanted = int(replicas), int(needed)
            case _:
                self._answer(message, error="ERR RING REPLICAS copies [MIN copies], and DRYRUN to see only")
                return
        self._wish(message, "copies", (), dry_run, copies=wanted)

    def _wish(self, message: RunVerb, kind: Kind, ids: Iterable[str], dry_run: bool, **what: Any) -> None:
        """Have it done when its turn has come, and say under which number; or only say what would move."""
        names = sorted(set(ids))
        if dry_run:
            self._show_plan(message, kind, names, **what)
            return

        def wish(ring: Ring) -> Ring:
            following = queued(ring, kind, names, **what, why=ASKED, **self._ecs.write_fields())
            if kind != "add":
                self._plan(ring, kind, names, **what)  # refused now, where the reason is known already
            return following

        def written(ring: Ring) -> None:
            self._say(message, {"job": ring.epoch, "nodes": names, "by": what.get("by"), "plan": None})

        self.order(message, wish, written)

    def _dismiss(self, message: RunVerb, id: str) -> None:
        """Send away a node that has registered and is not in the ring."""

        def dismiss(ring: Ring) -> Ring:
            life = self._ecs.newest_lives().get(id)
            if life is None:
                raise RingError(f"{id} is not registered any more")
            return dismissed(ring, life, why=ASKED, **self._ecs.write_fields())

        self.order(message, dismiss, lambda ring: self._say(message, {"job": ring.epoch, "nodes": [id], "plan": None}))

    # The ring is balanced

    def _balance(self, message: RunVerb, words: list[str]) -> None:
        words, dry_run = _without_dry_run(words)
        try:
            match [word.upper() for word in words[:2]]:
                case ["AUTO", ("ON" | "OFF") as auto] if not dry_run:
                    by, threshold, bound = self._how_balanced(words[2:])
                    if bound is not None:
                        raise RingError("a bound of bytes is for one balance")
                    self._set_balancing(message, Balancing(auto=auto == "ON", by=by, threshold=threshold))
                case ["CAPACITY", _] if len(words) == 3 and _number(words[2]) is not None and not dry_run:
                    self._set_capacity(message, words[1], int(words[2]))
                case _:
                    self._plan_balance(message, *self._how_balanced(words), dry_run)
        except RingError as error:
            self._answer(message, error=f"ERR {error}")

    def _how_balanced(self, words: list[str]) -> tuple[By, float, int | None]:
        """BY, THRESHOLD (in per cent) and MAXMOVE as they were said, or as the ring says. Raises RingError."""
        balancing, bound = self._ecs.known_ring().balancing, None
        for name, value in zip(words[::2], words[1::2], strict=False):
            match name.upper():
                case "BY":
                    balancing = replace(balancing, by=value.lower())  # type: ignore[arg-type]  # it is checked
                case "THRESHOLD" if (percent := _decimal(value)) is not None:
                    balancing = replace(balancing, threshold=percent / 100)
                case "MAXMOVE" if (bound := _number(value)) is not None:
                    pass
                case _:
                    raise RingError(BALANCE_SYNTAX)
        if len(words) % 2:
            raise RingError(BALANCE_SYNTAX)
        return balancing.by, balancing.threshold, bound

    def _plan_balance(self, message: RunVerb, by: By, threshold: float, bound: int | None, dry_run: bool) -> None:
        def planned(answer: BalancePlanned) -> None:
            found = answer.found
            if found is None:
                self._answer(message, error=answer.error)
            elif not found.moves:
                self._say(message, {"job": None, "nodes": [], "plan": None, "balance": balance_view(found)})
            elif dry_run:
                tokens = found.found.tokens
                self._show_plan(message, "move", tokens, {"balance": balance_view(found)}, tokens=tokens)
            else:
                self._order_balance(
                    found,
                    ASKED,
                    lambda ring: self._say(
                        message, {"job": ring.epoch, "nodes": [], "plan": None, "balance": balance_view(found)}
                    ),
                    lambda error: self._answer(message, error=error),
                )

        question = self._question()
        self._balances[question] = planned
        ask = PlanBalance(
            question=question,
            ring=self._ecs.known_ring(),
            by=by,
            threshold=threshold,
            bytes_max=bound,
            reply_to=self._ecs.ref,
        )
        self._ecs.send(self._balancer, ask)

    def balance_planned(self, message: BalancePlanned) -> None:
        """The Balancer has found tokens, or says why not."""
        self._balances.pop(message.question)(message)

    def balance_wanted(self, message: BalanceWanted) -> None:
        """The Balancer has seen that the load has moved."""
        found = message.found
        why = "by {}: the busiest has {:.2f} times its part, and will have {:.2f}".format(found.by, *found.peaks)

        def refused(error: str) -> None:
            log.info("the ring is not balanced now: %s", error)

        if self._ecs.ring is not None and self._ecs.ring.balancing.auto:
            self._order_balance(found, why, lambda ring: None, refused)

    def _order_balance(
        self, found: Rebalance, why: str, written: Callable[[Ring], None], refused: Callable[[str], None]
    ) -> None:
        tokens = found.found.tokens

        def balance(ring: Ring) -> Ring:
            if not is_of(found, ring):
                raise MovedOn("the ring has become another since the tokens were chosen: ask again")
            self._plan(ring, "move", tokens, tokens=tokens)
            return queued(ring, "move", tokens, tokens=tokens, why=why, **self._ecs.write_fields())

        self.orders.append(Order(balance, written, refused, self._ecs.now()))
        self._ecs.look()

    def _set_balancing(self, message: RunVerb, balancing: Balancing) -> None:
        def said(ring: Ring) -> dict[str, Any]:
            return {"balancing": balancing_to_json(ring.balancing)}

        wanted = {"balancing": balancing_to_json(balancing)}
        self._set(message, wanted, partial(set_balancing, balancing=balancing), said)

    def _set_capacity(self, message: RunVerb, id: str, capacity: int) -> None:
        def said(ring: Ring) -> dict[str, Any]:
            node = ring.by_id.get(id)
            return {"node": id, "capacity": node.capacity if node is not None else None}

        self._set(message, {"node": id, "capacity": capacity}, partial(weighed, id=id, capacity=capacity), said)

    # Plans

    def _plan(self, ring: Ring, kind: Kind, ids: Iterable[str], **what: Any) -> tuple[str, Plan]:
        """What it would be to change the ring like this now, whatever is in flight. Raises RingError."""
        fields = self._ecs.write_fields()
        calm = replace(ring, change=None, queue=())
        lives = self._ecs.newest_lives()
        if kind == "add":
            known = [lives[id] if id in lives else self._ecs.imagined(id) for id in sorted(set(ids))]
            places = tuple(sorted(what.get("tokens", {}).items()))
            wish = Wish(job=calm.epoch + 1, kind="add", ids=tuple(sorted(set(ids))), tokens=places)
            following = begun(calm, wish, known, why=ASKED, **fields)
        else:
            waiting = queued(calm, kind, ids, **what, why=ASKED, **fields)
            wish = waiting.queue[0]
            comes = [lives[id] if id in lives else self._ecs.imagined(id) for id in wish.comers]
            following = begun(waiting, wish, comes, why=ASKED, **self._ecs.write_fields())
        return str(following.change), planned(following)

    def _show_plan(
        self,
        message: RunVerb,
        kind: Kind,
        ids: Iterable[str],
        shown_too: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        ring = self._ecs.known_ring()
        try:
            what, plan = self._plan(ring, kind, ids, **more)
        except RingError as error:
            self._answer(message, error=f"ERR {error}")
            return
        runs: dict[str, list[Transfer]] = {}
        for transfer in plan.transfers:
            runs.setdefault(transfer.source, []).append(transfer)

        def gathered(figures: dict[str, Figures]) -> None:
            holdings: dict[Transfer, tuple[int, int]] = {}
            for source, transfers in runs.items():
                if source in figures and len(figures[source].runs) == len(transfers):
                    holdings |= zip(transfers, figures[source].runs, strict=True)
            shown = {"job": None, "nodes": sorted(ids), "plan": plan_view(what, plan, holdings)}
            self._say(message, {**shown, **(shown_too or {})})

        wanted = {ring.by_id[source]: [tuple(t.slots) for t in transfers] for source, transfers in runs.items()}
        self.gather(wanted, gathered)  # type: ignore[arg-type]  # a Run is a pair

    # The others

    def _restart(self, message: RunVerb, id: str, force: bool) -> None:
        ring = self._ecs.known_ring()
        node = ring.by_id.get(id)
        if node is None or node.state == "out":
            self._answer(message, error=f"ERR {id} is not in ring {ring.epoch}")
            return
        if ring.replicas > 1 and len(ring.circle) > 1:
            self._rest(message, id, force)
            return
        if not force:
            slots = sum(run.size for run in ring.coordinated_by(id))
            self._answer(
                message,
                error=f"ERR {id} holds the only copy of {slots} slots, which nobody would answer for until it is back, "
                "a second or so. FORCE restarts it all the same; nothing is lost by it",
            )
            return
        self._restart_at_once(message, id)

    def _rest(self, message: RunVerb, id: str, force: bool) -> None:
        """Take a node down in order (R27): it starts again by itself, and returns. No client sees an error by it."""

        def rest(ring: Ring) -> Ring:
            following = queued(ring, "rest", [id], why=ASKED, **self._ecs.write_fields())
            try:
                self._plan(ring, "rest", [id])
            except RingError as error:
                raise RingError(
                    f"{id} cannot be restarted in order now: {error}. FORCE restarts it all the same: what is asked of "
                    "its slots waits or fails meanwhile, and nothing is lost"
                ) from error
            return following

        if force:
            try:
                rest(self._ecs.known_ring())
            except RingError:
                self._restart_at_once(message, id)
                return
        self.order(message, rest, lambda ring: self._say(message, {"job": ring.epoch, "node": id}))

    def _restart_at_once(self, message: RunVerb, id: str) -> None:
        launcher = self._launcher()
        if launcher is None:
            self._answer(message, error=f"ERR no launcher is registered that could restart {id}: restart it by hand")
            return

        def restarted(answer: NodeRestarted) -> None:
            if answer.error:
                self._answer(message, error=f"ERR {answer.error}")
            else:
                self._say(message, {"job": None, "node": id})

        question = self._ask_launcher(restarted, lambda: self._say(message, {"job": None, "node": id}))
        self._ecs.send(launcher, RestartNode(question=question, node=id, reply_to=self._ecs.ref))

    def _cancel(self, message: RunVerb, job: int) -> None:
        def cancel(ring: Ring) -> Ring:
            return given_up(ring, job, "cancelled", why=ASKED, **self._ecs.write_fields())

        self.order(message, cancel, lambda ring: self._say(message, {"job": job}))

    def _serve(self, message: RunVerb, serving: bool) -> None:
        self._set(
            message, {"serving": serving}, partial(served, serving=serving), lambda ring: {"serving": ring.serving}
        )

    def _limit(self, message: RunVerb, bytes_per_second: int) -> None:
        def said(ring: Ring) -> dict[str, Any]:
            return {"bytes_per_second": ring.move_bytes_per_second}

        change = partial(limited, bytes_per_second=bytes_per_second)
        self._set(message, {"bytes_per_second": bytes_per_second}, change, said)

    def _set_acks(self, message: RunVerb, acks: Acks) -> None:
        self._set(message, {"acks": acks}, partial(acknowledged_by, acks=acks), lambda ring: {"acks": ring.acks})

    def _set(
        self,
        message: RunVerb,
        wanted: dict[str, Any],
        change: Callable[..., Ring],
        said: Callable[[Ring], dict[str, Any]],
    ) -> None:
        """Have the ring changed so that this is ``said`` of it, and say it; at once, if it is so already."""

        def written(ring: Ring) -> None:
            self._say(message, {**said(ring), "epoch": ring.epoch})

        known = self._ecs.known_ring()
        if said(known) == wanted:
            written(known)
        else:
            self.order(message, lambda ring: change(ring, why=ASKED, **self._ecs.write_fields()), written)

    def _recover(self, message: RunVerb, id: str, dry_run: bool) -> None:
        """Go on with what one node holds of the slots that nobody answers for (R17), or say which these are."""

        def view(ring: Ring) -> dict[str, Any]:
            return {"node": id, "epoch": ring.epoch, "lists": [list_view(ring, each) for each in abandoned(ring, id)]}

        def recover(ring: Ring) -> Ring:
            return recovered(ring, id, why=ASKED, **self._ecs.write_fields())

        try:
            now = view(self._ecs.known_ring())
        except RingError as error:
            self._answer(message, error=f"ERR {error}")
            return
        if dry_run:
            self._say(message, now)
        else:
            self.order(message, recover, lambda ring: self._say(message, {**now, "epoch": ring.epoch}))

    # Orders

    def order(self, message: RunVerb, make: Callable[[Ring], Ring], written: Callable[[Ring], None]) -> None:
        """Have the ring written when it may be."""

        def refused(error: str) -> None:
            self._answer(message, error=error)

        self.orders.append(Order(make, written, refused, self._ecs.now()))
        self._ecs.look()

    def give_up_orders(self, error: str) -> None:
        """None of them will be carried out."""
        orders, self.orders = self.orders, []
        for order in orders:
            order.refused(error)

    def expire_orders(self, now: float) -> None:
        """Those that nobody waits for any more are not carried out."""
        for order in [order for order in self.orders if now - order.asked_at > ORDER_SECONDS_MAX]:
            self.orders.remove(order)
            order.refused("TRYAGAIN the ring could not be written in time; nothing was changed")

    # Questions to storage nodes

    def _figures_of_all(self) -> dict[Node, list[tuple[int, int]]]:
        ring = self._ecs.ring
        return {node: [] for node in ring.circle if node.state != "down"} if ring is not None else {}

    def gather(self, wanted: dict[Node, list[tuple[int, int]]], then: Callable[[dict[str, Figures]], None]) -> None:
        """Ask nodes for their figures, and of the runs given; go on with those that have answered in time."""
        question = self._question()
        self._gatherings[question] = Gathering({node.id for node in wanted}, then)
        for node, runs in wanted.items():
            storage = self._ecs.system.resolve(f"ringkeeper://{node.bridge_address}/storage")
            self._ecs.send(storage, ReportFigures(question=question, reply_to=self._ecs.ref, runs=runs))
        self._ecs.remind(FIGURES_SECONDS_MAX, question)
        if not wanted:
            self.overdue(question)

    def figures(self, message: Figures) -> None:
        """A storage node has answered."""
        gathering = self._gatherings.get(message.question)
        ring = self._ecs.ring
        node = ring.by_id.get(message.node) if ring is not None else None
        if gathering is not None and node is not None and node.incarnation == message.incarnation:
            gathering.figures[message.node] = message
            if gathering.figures.keys() >= gathering.expected:
                self.overdue(message.question)

    def overdue(self, question: int) -> None:
        """No more answers are waited for."""
        gathering = self._gatherings.pop(question, None)
        if gathering is not None:
            gathering.then(gathering.figures)
        _, late = self._at_launcher.pop(question, (None, None))
        if late is not None:
            late()

    def _question(self) -> int:
        self._next_question += 1
        return self._next_question

    # Launchers

    def launchers_changed(self, message: ChildrenChanged) -> None:
        self._launchers = {host: bridge for host, bridge in self._launchers.items() if host in message.names}
        for host in message.names:
            path = f"{paths.launchers(self._cluster_name)}/{host}"
            self._ecs.send(self._watches, ReadNode(request=LAUNCHER + host, path=path, reply_to=self._ecs.ref))

    def launchers(self) -> dict[str, str]:
        """By host, where the launchers' bridges are, for people and for whoever waits until its own is known."""
        return dict(sorted(self._launchers.items()))

    def launcher_read(self, host: str, message: Answered) -> None:
        """What a launcher has registered."""
        self._launchers.pop(host, None)
        try:
            bridge = str(json.loads(message.data or b"")["bridge"])
        except (ValueError, KeyError, TypeError):
            return
        if not message.error and bridge:
            self._launchers[host] = bridge

    def _launcher(self) -> Ref | None:
        for _, bridge in sorted(self._launchers.items()):
            try:
                return self._ecs.system.resolve(f"ringkeeper://{bridge}/launcher")
            except ValueError:
                continue
        return None

    def _ask_launcher(self, then: Callable[[Any], None], late: Callable[[], None]) -> int:
        """The number of a question to a launcher; ``late`` is called when it is not answered in time."""
        question = self._question()
        self._at_launcher[question] = (then, late)
        self._ecs.remind(LAUNCHER_SECONDS_MAX, question)
        return question

    def launcher_answered(self, message: NodesStarted | NodeRestarted) -> None:
        then, _ = self._at_launcher.pop(message.question, (None, None))
        if then is not None:
            then(message)

    def _by_hand(self) -> str:
        return f"On the host of the new node, type: {self._node_command}"

    # Answers

    def _say(self, message: RunVerb, content: dict[str, Any]) -> None:
        self._answer(message, json.dumps(content, sort_keys=True))

    def _answer(self, message: RunVerb, text: str = "", error: str = "") -> None:
        self._ecs.send(message.reply_to, VerbRun(question=message.question, text=text, error=error))


def _number(word: str) -> int | None:
    """What a word of decimal digits says; None for anything else."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 18 else None


def _decimal(word: str) -> float | None:
    """What a word like 5 or 2.5 or 5% says; None for anything else."""
    return float(word.rstrip("%")) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?%?", word) else None


def _without_dry_run(words: list[str]) -> tuple[list[str], bool]:
    dry_run = bool(words) and words[-1].upper() == "DRYRUN"
    return (words[:-1] if dry_run else words), dry_run
