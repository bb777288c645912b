"""Speaks the Redis Cluster protocol with clients: connections, requests in, replies out in order.

Hears   ConnectionMade, Requests, ConnectionLost     from the RESP edge
        Executed, Settled                            from StorageNode
        RingChanged                                  from Member
        LeaderChanged                                from Election
        Figures                                      from StorageNode, for INFO
        VerbRun                                      from the leading Ecs, and from Scrubber
        BackupTold                                   from Backup
        Observed                                     from an Observer, of whatever process
        Unanswered                                   from itself: a question has waited too long
        AnswerRest                                   from itself: the next turn has come
Tells   Execute, ReportFigures -> StorageNode; RunVerb -> Ecs; RunVerify -> Scrubber;
        AskBackup -> Backup; Observe -> Observer

Everything that was read from the sockets in one turn of the loop arrives as one ``Requests``. Its data commands, of all
connections, go to the storage node as one ``Execute``; what concerns the connection or the cluster is answered here.
Each connection's commands of one turn are an *exchange*. Its replies leave together once all are there, and a
connection's exchanges leave in the order in which they came, however long one of them waits for another process.

    read -> exchange (replies here | from StorageNode | from the leader) -> complete -> first in its queue -> written

An exchange is complete when ``missing`` is 0. Most of the storage node's replies come at once; that of a request which
waits for a change of the ring, or of a write that another node must hold first, comes later, and holds up only its own
connection. The edge stops reading from a connection that has too many requests
unanswered.

What is answered here may be far more work than its few bytes look like, and meanwhile nobody else is served, nor do
peers hear from this node. So a turn has limits, the same for those who speak in it: who asks for more has one request
answered in each turn, and its *rest* waits for the next one (AnswerRest), with all that it asks from then on.

A connection has *modes*: READONLY lets successors answer its reads, ``RING ACKS one`` has its writes answered by the
coordinator alone; what it has not said itself is as the ring says. A request is marked by the modes in which it was
asked, so one turn may hold requests of several.
"""

import contextlib
import hmac
import json
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, assert_never

from ..runtime.actor import Actor, Ref
from ..runtime.election import LeaderChanged
from ..runtime.hosts import is_loopback
from ..runtime.looking import ObserveError
from ..runtime.message import message
from ..runtime.metrics import Histogram, Metric, counter, gauge, histogram
from ..runtime.observer import OBSERVER, Observe, Observed, arguments_of
from ..runtime.remote import SCHEME, parse_address, parse_process
from ..runtime.resp import Connection, ConnectionLost, ConnectionMade, Requests, encode
from ..version import VERSION
from .messages import (
    LATER,
    AskBackup,
    BackupTold,
    Execute,
    Executed,
    Figures,
    ReportFigures,
    RingChanged,
    RunVerb,
    RunVerify,
    Settled,
    VerbRun,
)
from .rules import cluster_view
from .rules.commands import COMMANDS, KEYS_MAX, WORDS_MAX, Command, describe, find, help_lines, resolve, wait_error
from .rules.data_commands import PATTERN_BYTES_MAX, SYNTAX_ERROR, glob, parse_integer
from .rules.hands import Hand, handed_on, why
from .rules.replies import OK, Reply, bulk, error, integer, refusal, simple
from .rules.ring import Ring
from .rules.slots import slot as slot_of

log = logging.getLogger(__name__)

QUESTION_SECONDS_MAX = 3.0
"""How long a client waits for an answer from another process before it gets an error instead."""

OBSERVE_SECONDS_MAX = 5.0
"""How long it waits for what somebody wants to see, and, where the arguments give ``seconds`` for that,"""
ASKED_SECONDS_MAX = 60.0
"""at most so much longer."""

PATIENT_WORDS = frozenset({"ASK", "PY"})
"""Words of an observer whose ``seconds`` say how long the answer may take."""

JOINED_BYTES_MAX = 1024 * 1024
"""Replies of one exchange that are longer are handed to the connection one by one."""

ANSWERING_SECONDS_MAX = 0.02
"""What is asked together and answered here takes so long at most, not counting what every connection is due, and"""
ANSWERED_BYTES_MAX = 8 * 1024 * 1024
"""so many bytes, which take about as long to be written, and"""
QUESTIONS_PER_TURN_MAX = 100
"""so many questions to others; an observer of this process may need 0.4 ms for each."""

KEYS_PER_TURN_MAX = 5 * KEYS_MAX
"""Keys that the requests of more than `WORDS_MAX` words which come in one turn may name, all together."""

ONLY_BYTES = {bytes}
MINUS = ord("-")

CHANGING_VERBS = frozenset(
    {"ADD", "REMOVE", "REPLACE", "REPLICAS", "RESTART", "CANCEL"}
    | {"START", "STOP", "LIMIT", "DEFAULT", "BALANCE", "RECOVER", "RESTORE"}
)
"""Verbs that change anything: for clients of this host, and for those that know the password."""

LEADER_VERBS = {f"ring|{verb.lower()}": verb for verb in ("STATUS", "JOBS", *sorted(CHANGING_VERBS))}
"""Commands that the leading ECS answers, as verbs."""

NOT_FROM_THERE = error(
    b"NOPERM verbs that change the ring are for clients on the node's own host, or with a password (AUTH): start the "
    b"nodes with one"
)

ON_STORE = {"dbsize", "keys", "scan", "randomkey", "flushdb", "flushall", "wait"} | {
    "cluster|countkeysinslot", "cluster|getkeysinslot", "ring|version",
}  # fmt: skip
"""Commands of the storage node without a function in the table: they look at more than one slot, or beside a value."""

ON_RING = frozenset(
    {"cluster|slots", "cluster|shards", "cluster|nodes", "ring|show", "ring|keyrange", "ring|keyrange_read"}
)
"""Commands that tell everybody the same as long as the ring is the same."""

STALE, EAGER = 1, 2
"""Modes of a connection: successors may answer its reads; the coordinator alone answers its writes."""

BEFORE_AUTH = {"auth", "hello", "quit", "reset"}

NOAUTH = error(b"NOAUTH Authentication required.")
WRONGPASS = error(b"WRONGPASS invalid username-password pair or user is disabled.")
NO_PASSWORD_SET = error(
    b"ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?"
)
NO_LEADER = error(
    b"TRYAGAIN no ECS leads at the moment; data is served as the newest ring says, only ring changes wait"
)
TOO_MANY_KEYS = error(
    b"TRYAGAIN long requests that were sent at once name more than %d keys; this one was not done" % KEYS_PER_TURN_MAX
)
NO_BACKUPS = error(b"ERR this node makes no backups")
NO_RING = error(b"CLUSTERDOWN The cluster has no ring yet")


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A question has waited long enough; local. Gateway -> Gateway."""

    question: int


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRest:
    """There are requests that an earlier turn had no time for; local. Gateway -> Gateway."""


class Session:
    """What the gateway keeps of one connection, besides what the connection itself says (id, name, protocol...)."""

    __slots__ = ("acks", "connection", "ending", "library", "library_version", "modes", "queue", "rest")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.library = self.library_version = ""
        self.modes = 0
        self.acks = ""  # all or one; not said: as the ring says
        self.ending = False  # nothing more is read from it; it closes once what was asked is answered
        self.queue: deque[Exchange] = deque()
        self.rest: list[list[bytes]] = []  # requests that wait for the next turn

    def describe(self, now: float) -> str:
        """A line of CLIENT LIST."""
        connection = self.connection
        return (
            f"id={connection.id} addr={connection.address} laddr={connection.local_address} fd=-1 "
            f"name={connection.name.decode()} "
            f"age={int(now - connection.made_at)} idle={int(now - connection.active_at)} "
            f"flags={'r' if self.modes & STALE else 'N'} db=0 sub=0 psub=0 ssub=0 multi=-1 user=default "
            f"resp={connection.protocol} lib-name={self.library} lib-ver={self.library_version}"
        )


class Exchange:
    """The commands of one connection in one turn, and their replies as far as they are there."""

    __slots__ = ("missing", "on_store", "protocol", "replies", "session")

    def __init__(self, session: Session, replies: list[Reply]) -> None:
        self.session, self.replies = session, replies
        self.protocol = session.connection.protocol
        self.on_store: list[int] = []  # positions of the commands that are the storage node's
        self.missing = 0


class Gateway(Actor):
    """The clients' side of one node."""

    def __init__(
        self,
        *,
        id: str,
        storage: Ref,
        scrubber: Ref | None = None,
        settings: dict[str, str],
        password: str = "",
        note_answered_alone: Callable[[], None] = lambda: None,
    ) -> None:
        """``note_answered_alone`` writes down that a connection may be answered before others hold its writes (R17). It
        may raise OSError."""
        super().__init__()
        self._note_answered_alone = note_answered_alone
        self.id, self._storage, self._scrubber, self._settings = id, storage, scrubber, settings
        self._password = password.encode()
        self._ring: Ring | None = None
        self._default_acks = "all"
        self._hands: tuple[Hand, ...] = ()
        """Whose the slots are since when, as far as this process has seen it."""
        self._leader = ""
        self._sessions: dict[int, Session] = {}
        self._at_storage: dict[int, list[Exchange]] = {}
        self._left: dict[int, int] = {}
        """How many replies are to come, of the Executes that have got some of theirs."""
        self._places: dict[int, list[tuple[Exchange, int]]] = {}
        """Of these, where each of their replies belongs."""
        self._executes = 0
        self._keys_left = KEYS_PER_TURN_MAX
        """Keys that further long requests of this turn may name."""
        self._behind: list[Session] = []
        """Those with a rest, in the order in which they will have their turn."""
        self._answers_until = 0.0
        """When this turn has no time left to answer more here, by the stopwatch; 0: nothing was answered yet."""
        self._answer_bytes_left = ANSWERED_BYTES_MAX
        self._questions_left = QUESTIONS_PER_TURN_MAX
        self._stopwatch = self.system.stopwatch
        self._begun: dict[int, float] = {}
        """When an Execute was sent that has not got all of its replies, by the stopwatch."""
        self._spelt: defaultdict[bytes, int] = defaultdict(int)
        """How often data commands were asked for, as they were spelt; the others:"""
        self._requested: Counter[str] = Counter()
        self._errors: Counter[bytes] = Counter()
        """By the first word of the reply."""
        self._at_once, self._later = Histogram(), Histogram()
        """How long the requests took that the storage node answered in its turn, and those that waited for others."""
        self._questions: dict[int, tuple[Exchange, int, type, Callable[[Any], Reply]]] = {}
        self._described: dict[tuple[int | bytes, ...], bytes] = {}
        self._shown: dict[tuple[int, str], bytes] = {}
        """What is told of the ring, by protocol and command."""
        self._next_question = self.random.getrandbits(48)  # so that answers to a former life fit no question
        self._started = 0.0
        self.commands = self.connections = 0
        self._direct = {
            name: command
            for name, command in COMMANDS.items()
            if command.run is not None or (command.name in ON_STORE and not command.subcommands)
            if command.name != "wait"  # whose numbers are looked at first
        }
        self._answers: dict[str, Callable[[Session, list[bytes]], Reply]] = {
            "ping": self._ping,
            "echo": lambda session, args: bulk(args[1]),
            "hello": self._hello,
            "auth": self._auth,
            "select": self._select,
            "reset": self._reset,
            "readonly": self._readonly,
            "readwrite": self._readwrite,
            "time": self._time,
            "client|id": lambda session, args: integer(session.connection.id),
            "client|info": lambda session, args: session.describe(self.now()) + "\n",
            "client|list": self._client_list,
            "client|getname": lambda session, args: bulk(session.connection.name) if session.connection.name else None,
            "client|setname": self._client_setname,
            "client|setinfo": self._client_setinfo,
            "config|get": self._config_get,
            "config|set": self._config_set,
            "cluster|slots": self._cluster_slots,
            "cluster|shards": lambda session, args: cluster_view.shards(self._ring) if self._ring else [],
            "cluster|nodes": lambda session, args: cluster_view.nodes(self._ring, self.id) if self._ring else "",
            "cluster|info": lambda session, args: cluster_view.info(self._ring, self.id),
            "cluster|keyslot": lambda session, args: integer(slot_of(args[2])),
            "cluster|myid": self._cluster_myid,
            "ring|acks": self._ring_acks,
            "ring|show": lambda session, args: bulk(self._ring.to_json()) if self._ring else NO_RING,
            "ring|locate": self._ring_locate,
            "ring|why": self._ring_why,
            "ring|keyrange": lambda session, args: self._ring.keyrange() if self._ring else NO_RING,
            "ring|keyrange_read": lambda session, args: self._ring.keyrange_read() if self._ring else NO_RING,
        }

    def on_start(self) -> None:
        self._started = self.now()

    def on_receive(
        self,
        message: Requests
        | Executed
        | Settled
        | ConnectionMade
        | ConnectionLost
        | RingChanged
        | LeaderChanged
        | Figures
        | VerbRun
        | BackupTold
        | Observed
        | Unanswered
        | AnswerRest,
    ) -> None:
        match message:
            case Requests():
                self._requests(message.take())
            case Executed():
                self._executed(message)
            case Settled():
                self._settled(message)
            case ConnectionMade():
                self._connection_made(message.connection)
            case ConnectionLost():
                self._sessions.pop(message.connection.id, None)
            case RingChanged():
                self._ring_changed(message.ring)
            case LeaderChanged():
                self._leader = (message.data or b"").decode("utf-8", "replace")
            case Figures():
                self._answered(message.question, message)
            case VerbRun() | BackupTold() | Observed():
                self._answered(message.question, message)
            case Unanswered():
                self._answered(message.question, None)
            case AnswerRest():
                self._answer_rest()
            case _:
                assert_never(message)

    # Requests and replies

    def _connection_made(self, connection: Connection) -> None:
        self.connections += 1
        session = connection.session = self._sessions[connection.id] = Session(connection)
        self._settle_acks(session)

    def _requests(self, batch: list[tuple[Connection, list[list[bytes]]]]) -> None:
        """The hot path: one pass over all that arrived in this turn."""
        direct, spelt = self._direct, self._spelt
        to_store: list[tuple[Command, list[bytes]]] = []
        exchanges: list[Exchange] = []
        waiting: list[Exchange] = []
        eager: set[int] = set()
        stale: set[int] = set()
        self._keys_left = KEYS_PER_TURN_MAX
        self._answers_until, self._answer_bytes_left = 0.0, ANSWERED_BYTES_MAX
        self._questions_left = QUESTIONS_PER_TURN_MAX
        for connection, commands in batch:
            session: Session = connection.session
            if connection.closed or session.ending:
                continue
            if session.rest:
                session.rest += commands
                continue
            exchange = self._begin(session, len(commands))
            exchanges.append(exchange)
            on_store = exchange.on_store
            trusted = connection.authenticated
            first, index = len(to_store), 0
            for args in commands:
                command = direct.get(args[0])
                if (
                    command is not None
                    and trusted
                    and (
                        (count := len(args)) == (arity := command.arity)
                        or WORDS_MAX >= count >= -arity > 0  # Command.accepts; long ones are looked at
                    )
                ):
                    on_store.append(index)
                    to_store.append((command, args))
                    spelt[args[0]] += 1
                else:
                    modes = session.modes
                    self._answer(exchange, index, args, to_store)
                    self._spell(exchange, index)
                    if session.modes != modes:  # that is for what follows
                        _mark(to_store, first, modes, eager, stale)
                        first = len(to_store)
                    if session.ending:
                        break
                    trusted = connection.authenticated
                    if connection.protocol != exchange.protocol:  # what follows is spelt in the other protocol
                        left = len(exchange.replies) - index - 1
                        del exchange.replies[index + 1 :]
                        exchange = self._begin(session, left)
                        exchanges.append(exchange)
                        on_store, index = exchange.on_store, -1
                    left = len(exchange.replies) - index - 1
                    if left and self._has_answered_enough():
                        del exchange.replies[index + 1 :]
                        self._leave_rest(session, commands[-left:])
                        self.commands -= left
                        break
                index += 1
            if session.modes:
                _mark(to_store, first, session.modes, eager, stale)
            self.commands += len(commands)
        for exchange in exchanges:
            if exchange.on_store:
                exchange.missing += len(exchange.on_store)
                waiting.append(exchange)
        if to_store:
            self._executes += 1
            self._at_storage[self._executes] = waiting
            self._begun[self._executes] = self._stopwatch()
            execute = Execute(
                number=self._executes,
                requests=to_store,
                reply_to=self.ref,
                eager=frozenset(eager),
                stale=frozenset(stale),
            )
            self.send(self._storage, execute)
        for exchange in exchanges:
            if not exchange.missing:
                self._write(exchange.session)

    def _spell(self, exchange: Exchange, index: int) -> None:
        """Put a reply into bytes now, since that takes time, too. None, which is null or no reply yet, takes none."""
        reply = exchange.replies[index]
        if reply is not None:
            exchange.replies[index] = spelt = encode(reply, exchange.protocol)
            self._answer_bytes_left -= len(spelt)

    def _has_answered_enough(self) -> bool:
        """Whether this turn has no time left for what is not plainly the storage node's."""
        now = self._stopwatch()
        if not self._answers_until:  # a turn of nothing but data commands need not look at the time
            self._answers_until = now + ANSWERING_SECONDS_MAX
        return now >= self._answers_until or self._answer_bytes_left < 0 or self._questions_left <= 0

    def _leave_rest(self, session: Session, requests: list[list[bytes]]) -> None:
        if not self._behind:
            self.after(0.0, AnswerRest())
        session.rest = requests
        self._behind.append(session)

    def _answer_rest(self) -> None:
        """Give everybody with a rest another turn, and time to the one who has waited for that the longest."""
        behind, self._behind = self._behind, []
        batch = [(session.connection, session.rest) for session in behind]
        for session in behind:
            session.rest = []
        self._requests(batch)
        if self._behind and self._behind[0] is behind[0]:
            self._behind.append(self._behind.pop(0))

    def _begin(self, session: Session, count: int) -> Exchange:
        exchange = Exchange(session, [None] * count)
        session.queue.append(exchange)
        return exchange

    def _answer(
        self, exchange: Exchange, index: int, args: list[bytes], to_store: list[tuple[Command, list[bytes]]]
    ) -> None:
        """A command that is not plainly the storage node's: answer it here, or say who will."""
        session, replies = exchange.session, exchange.replies
        command = resolve(args)
        self._requested["unknown" if isinstance(command, bytes) else command.name] += 1
        if not session.connection.authenticated and (isinstance(command, bytes) or command.name not in BEFORE_AUTH):
            replies[index] = NOAUTH
        elif isinstance(command, bytes):
            replies[index] = command
        elif command.name == "wait" and (refusal := wait_error(args)) is not None:
            replies[index] = refusal
        elif len(args) > WORDS_MAX and not self._may_name(len(command.keys(args))):
            replies[index] = TOO_MANY_KEYS
        elif command.name in ON_STORE or command.run is not None:
            exchange.on_store.append(index)
            to_store.append((command, args))
        elif LEADER_VERBS.get(command.name) in CHANGING_VERBS and not self._may_change(session):
            replies[index] = NOT_FROM_THERE
        elif command.name in LEADER_VERBS:
            self._ask_leader(exchange, index, LEADER_VERBS[command.name], args[2:])
        elif command.name == "ring|verify":
            replies[index] = NOT_FROM_THERE
            if self._scrubber is not None and self._may_change(session):
                question = self._ask(exchange, index, VerbRun, lambda answer: _verb_reply(answer, False))
                words = tuple(word.decode("utf-8", "replace") for word in args[2:])
                self.send(self._scrubber, RunVerify(question=question, arguments=words, reply_to=self.ref))
        elif command.name == "ring|observe":
            replies[index] = NOT_FROM_THERE
            if self._may_change(session):
                self._ask_observer(exchange, index, *args[2:])
        elif command.name == "ring|backup" and not self._may_change(session):
            replies[index] = NOT_FROM_THERE
        elif command.name == "ring|backup":
            self._ask_backup(exchange, index, args[2:])
        elif command.name == "info":
            question = self._ask(exchange, index, Figures, lambda figures: self._info(args[1:], figures))
            self.send(self._storage, ReportFigures(question=question, reply_to=self.ref))
        elif command.name == "quit":
            replies[index] = OK
            self._end_after(exchange, index)
        elif command.name == "client|kill":
            replies[index] = self._client_kill(session, args)
            if session.ending:
                self._end_after(exchange, index)
        elif command.name.partition("|")[0] == "command":
            replies[index] = self._describe(exchange.protocol, args)
        elif command.name.endswith("|help"):
            container = find(COMMANDS, args[0])
            replies[index] = help_lines(container) if container is not None else SYNTAX_ERROR
        else:
            try:
                if command.name in ON_RING:
                    replies[index] = self._show(session, command.name, args)
                else:
                    replies[index] = self._answers[command.name](session, args)
            except Exception:  # a bug on one client's command must not end everybody's node
                log.exception("%s failed on %s", self.id, command.name)
                replies[index] = error(b"ERR internal error, see the log of this node; nothing was done")

    def _may_name(self, keys: int) -> bool:
        """Whether there is time left in this turn for so many keys of a long request."""
        self._keys_left -= keys
        return self._keys_left >= 0

    def _end_after(self, exchange: Exchange, index: int) -> None:
        """The connection closes behind this reply; what was asked after it is not done."""
        exchange.session.ending = True
        del exchange.replies[index + 1 :]

    def _describe(self, protocol: int, args: list[bytes]) -> Reply:
        """COMMAND in all its forms. The whole table is 100 kB and asked for by every client: it is spelt once."""
        if len(args) > 2:
            return describe(args, lambda entry: encode(entry, protocol))
        form: tuple[int | bytes, ...] = (protocol, *(word.upper() for word in args))
        reply = self._described.get(form)
        if reply is None:
            reply = self._described[form] = encode(describe(args), protocol)
        return reply

    def _show(self, session: Session, name: str, args: list[bytes]) -> Reply:
        """What a command tells of the ring. Clients ask for it in swarms, and finding it out takes up to 10 ms."""
        form = (session.connection.protocol, name)
        reply = self._shown.get(form)
        if reply is None:
            reply = self._shown[form] = encode(self._answers[name](session, args), session.connection.protocol)
        return reply

    def _executed(self, message: Executed) -> None:
        if message.later:
            self._executed_in_part(message)
            return
        self._at_once.observe(self._stopwatch() - self._begun.pop(message.number), len(message.replies))
        replies = iter(message.replies)
        for exchange in self._at_storage.pop(message.number):
            into, on_store = exchange.replies, exchange.on_store
            if len(on_store) == len(into):  # nothing but data commands
                exchange.replies = list(islice(replies, len(on_store)))
            else:
                for index in on_store:
                    into[index] = next(replies)
            exchange.missing -= len(on_store)
            if not exchange.missing:
                self._write(exchange.session)

    def _executed_in_part(self, message: Executed) -> None:
        """As above, where some replies come later: by Settled, which may have been here already."""
        if message.number not in self._at_storage:
            return  # every one of them came by Settled
        come = len(message.replies) - message.later
        if not come:
            return
        self._at_once.observe(self._stopwatch() - self._begun[message.number], come)
        replies = iter(message.replies)
        for exchange in self._at_storage[message.number]:
            for index in exchange.on_store:
                reply = next(replies)
                if reply is not LATER:
                    exchange.replies[index] = reply
                    exchange.missing -= 1
            if not exchange.missing:
                self._write(exchange.session)
        self._came(message.number, come)

    def _settled(self, message: Settled) -> None:
        came: dict[int, int] = {}
        places: list[tuple[Exchange, int]] = []
        last = 0  # no Execute has this number
        for number, place, reply in message.replies:
            if number != last:
                last, places = number, self._places_of(number)
                came.setdefault(number, 0)
            exchange, index = places[place]
            exchange.replies[index] = reply
            exchange.missing -= 1
            if not exchange.missing:
                self._write(exchange.session)
            came[number] += 1
        now = self._stopwatch()
        for number, replies in came.items():
            self._later.observe(now - self._begun[number], replies)
            self._came(number, replies)

    def _places_of(self, number: int) -> list[tuple[Exchange, int]]:
        """Where the replies to an Execute belong; found out once, if some of them come later."""
        places = self._places.get(number)
        if places is None:
            exchanges = self._at_storage[number]
            places = self._places[number] = [(exchange, index) for exchange in exchanges for index in exchange.on_store]
        return places

    def _came(self, number: int, replies: int) -> None:
        """So many more replies to an Execute are there; it is forgotten when all are."""
        left = self._left.pop(number, None)
        if left is None:
            left = len(self._places_of(number))
        if left > replies:
            self._left[number] = left - replies
        else:
            del self._at_storage[number], self._begun[number]
            self._places.pop(number, None)

    def _write(self, session: Session) -> None:
        """Write the replies of all exchanges that are complete and have no incomplete one before them."""
        queue, connection = session.queue, session.connection
        while queue and not queue[0].missing:
            exchange = queue.popleft()
            replies: list[Any] = exchange.replies
            if set(map(type, replies)) != ONLY_BYTES:  # something in it is spelt differently in RESP2 and RESP3
                replies = [reply if type(reply) is bytes else encode(reply, exchange.protocol) for reply in replies]
            if sum(map(len, replies)) <= JOINED_BYTES_MAX:
                joined = b"".join(replies)
                if MINUS in joined:  # with which errors begin
                    self._count_errors(replies)
                connection.write(joined, len(replies))
            else:  # one by one, so that the edge can cut off who asks for more than it reads
                self._count_errors(replies)
                for reply in replies:
                    connection.write(reply)
        if session.ending and not queue:
            connection.close_after_write()

    def _count_errors(self, replies: list[bytes]) -> None:
        self._errors.update([reply[1:].split(None, 1)[0] for reply in replies if reply.startswith(b"-")])

    # Questions to others

    def _may_change(self, session: Session) -> bool:
        return bool(self._password) or is_loopback(session.connection.address.rpartition(":")[0].strip("[]"))

    def _ask(
        self, exchange: Exchange, index: int, answer: type, reply: Callable[[Any], Reply],
        seconds_max: float = QUESTION_SECONDS_MAX,
    ) -> int:  # fmt: skip
        """Note that a reply waits for an answer; returns the question's number."""
        self._next_question += 1
        self._questions_left -= 1
        exchange.missing += 1
        self._questions[self._next_question] = (exchange, index, answer, reply)
        self.after(seconds_max, Unanswered(question=self._next_question))
        return self._next_question

    def _answered(self, question: int, answer: Figures | VerbRun | BackupTold | Observed | None) -> None:
        """Put an answer in its place; None: it took too long. What answers no open question is nothing."""
        exchange, index, kind, reply = self._questions.get(question, (None, 0, object, None))
        if exchange is None or reply is None or not (answer is None or isinstance(answer, kind)):
            return
        del self._questions[question]
        exchange.replies[index] = reply(answer)
        exchange.missing -= 1
        if not exchange.missing:
            self._write(exchange.session)

    def _ask_leader(self, exchange: Exchange, index: int, verb: str, args: list[bytes]) -> None:
        leader = None
        with contextlib.suppress(ValueError):  # its candidate says nonsense
            leader = self.system.resolve(self._leader) if self._leader else None
        if leader is None:
            exchange.replies[index] = NO_LEADER
            return
        changing = verb in CHANGING_VERBS
        question = self._ask(exchange, index, VerbRun, lambda answer: _verb_reply(answer, changing))
        arguments = tuple(word.decode("utf-8", "replace") for word in args)
        self.send(leader, RunVerb(question=question, verb=verb, arguments=arguments, reply_to=self.ref))

    def _ask_backup(self, exchange: Exchange, index: int, args: list[bytes]) -> None:
        backup = self.system.find("backup")
        if backup is None:
            exchange.replies[index] = NO_BACKUPS
            return
        question = self._ask(exchange, index, BackupTold, _backup_reply)
        self.send(backup, AskBackup(question=question, words=args, reply_to=self.ref))

    def _ask_observer(
        self, exchange: Exchange, index: int, where: bytes, word: bytes, text: bytes = b"", *more: bytes
    ) -> None:
        name = word.decode("utf-8", "replace").upper()
        try:
            if more:
                raise ObserveError("RING OBSERVE takes one JSON object; put it in quotes")
            arguments = arguments_of(text.decode("utf-8", "replace"))
            observer, whose = self._observer(where.decode("utf-8", "replace"))
        except ObserveError as refusal:
            exchange.replies[index] = error(f"ERR {refusal}".encode())
            return
        wished = arguments.get("seconds") if name in PATIENT_WORDS else None
        seconds = OBSERVE_SECONDS_MAX
        if isinstance(wished, int | float) and wished > 0:
            seconds += min(wished, ASKED_SECONDS_MAX)  # not as a float: JSON has numbers that none can hold

        def reply(answer: Observed | None) -> Reply:
            return _observed_reply(answer, whose, seconds, observer.is_alive())

        question = self._ask(exchange, index, Observed, reply, seconds)
        proven = bool(self._password) or self.system.allow_code  # which takes a password, but in the simulation
        asked = Observe(question=question, words=(name,), text=json.dumps(arguments), proven=proven, reply_to=self.ref)
        self.send(observer, asked)

    def _observer(self, where: str) -> tuple[Ref, str]:
        """The observer of the process that somebody means, and what to call the process. Raises ObserveError."""
        known = self._ring.by_id if self._ring is not None else {}
        if where == "here" or where == self.id:
            return self.system.resolve(self.system.address_of(OBSERVER)), "this node"
        try:
            if where == "ecs":
                if not self._leader:
                    raise ObserveError("no ECS leads at the moment; try again")
                process, whose = parse_address(self._leader)[0], "the leading ECS"
            else:
                process, whose = known[where].bridge_address if where in known else where, where
                parse_process(process)
            observer = self.system.resolve(f"{SCHEME}{process}/{OBSERVER}")
        except ValueError as failure:
            raise ObserveError(
                f"{where!r} is no process: say here, ecs, the id of a node, or the host:port of a bridge"
            ) from failure
        if not observer.is_alive():
            raise ObserveError(f"{whose} cannot be reached at the moment: nobody answers at {process}")
        return observer, whose

    # The connection

    def _ping(self, session: Session, args: list[bytes]) -> Reply:
        return bulk(args[1]) if len(args) > 1 else b"+PONG\r\n"

    def _hello(self, session: Session, args: list[bytes]) -> Reply:
        options = list(args[2:])
        if len(args) > 1 and args[1] not in (b"2", b"3"):
            if args[1].lstrip(b"-").isdigit():
                return error(b"NOPROTO unsupported protocol version")
            return error(b"ERR Protocol version is not an integer or out of range")
        name = None
        while options:
            match options:
                case [word, user, password, *rest] if word.upper() == b"AUTH":
                    refused = self._log_in(session, user, password)
                    if refused is not None:
                        return refused
                    options = rest
                case [word, given, *rest] if word.upper() == b"SETNAME":
                    if not _is_name(given):
                        return error(b"ERR Client names cannot contain spaces, newlines or special characters.")
                    name, options = given, rest
                case _:
                    return error(b"ERR Syntax error in HELLO option '%b'" % options[0])
        if not session.connection.authenticated:
            return error(
                b"NOAUTH HELLO must be called with the client already authenticated, otherwise the "
                b"HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP "
                b"protocol version at the same time"
            )
        if name is not None:
            session.connection.name = name
        if len(args) > 1:
            session.connection.protocol = int(args[1])
        hello: dict[str, Reply] = {
            "server": "redis",
            "version": REDIS_VERSION,
            "proto": session.connection.protocol,
            "id": session.connection.id,
            "mode": "cluster",
            "role": "master",
            "modules": [],
        }
        return encode(hello, session.connection.protocol)

    def _auth(self, session: Session, args: list[bytes]) -> Reply:
        if len(args) > 3:
            return SYNTAX_ERROR
        if not self._password and len(args) == 2:
            return NO_PASSWORD_SET
        user, password = args[1:] if len(args) == 3 else (b"default", args[1])
        return self._log_in(session, user, password) or OK

    def _log_in(self, session: Session, user: bytes, password: bytes) -> bytes | None:
        """None when the password is right, else the refusal."""
        right = not self._password or hmac.compare_digest(password, self._password)
        if user != b"default" or not right:
            return WRONGPASS
        session.connection.authenticated = True
        return None

    def _select(self, session: Session, args: list[bytes]) -> Reply:
        number = parse_integer(args[1])
        if number is None:
            return error(b"ERR invalid DB index")
        return OK if number == 0 else error(b"ERR SELECT is not allowed in cluster mode")

    def _reset(self, session: Session, args: list[bytes]) -> Reply:
        session.modes, session.acks = 0, ""
        self._settle_acks(session)
        session.connection.protocol, session.connection.name = 2, b""
        session.connection.authenticated = not self._password
        return simple(b"RESET")

    def _readonly(self, session: Session, args: list[bytes]) -> Reply:
        session.modes |= STALE
        return OK

    def _readwrite(self, session: Session, args: list[bytes]) -> Reply:
        session.modes &= ~STALE
        return OK

    def _ring_acks(self, session: Session, args: list[bytes]) -> Reply:
        match [word.upper() for word in args[2:]]:
            case []:
                return bulk(b"one" if session.modes & EAGER else b"all")
            case [(b"ALL" | b"ONE" | b"DEFAULT") as acks]:
                if acks == b"ONE":
                    try:
                        self._note_answered_alone()
                    except OSError as failure:
                        return error(
                            b"ERR it cannot be noted on disk, so nothing is changed: %s" % str(failure).encode()
                        )
                session.acks = "" if acks == b"DEFAULT" else acks.decode().lower()
                self._settle_acks(session)
                return OK
            case _:
                return SYNTAX_ERROR

    def _settle_acks(self, session: Session) -> None:
        """As the connection said, or else as the ring says."""
        acks = session.acks or self._default_acks
        session.modes = session.modes & ~EAGER | (EAGER if acks == "one" else 0)

    def _time(self, session: Session, args: list[bytes]) -> Reply:
        microseconds = int(self.wall() * 1_000_000)
        return [str(microseconds // 1_000_000), str(microseconds % 1_000_000)]

    def _client_list(self, session: Session, args: list[bytes]) -> Reply:
        chosen = list(self._sessions.values())
        if len(args) > 2:
            wanted = {parse_integer(word) for word in args[3:]}
            if args[2].upper() != b"ID" or None in wanted:
                return SYNTAX_ERROR
            chosen = [each for each in chosen if each.connection.id in wanted]
        return "".join(each.describe(self.now()) + "\n" for each in chosen)

    def _client_setname(self, session: Session, args: list[bytes]) -> Reply:
        if not _is_name(args[2]):
            return error(b"ERR Client names cannot contain spaces, newlines or special characters.")
        session.connection.name = args[2]
        return OK

    def _client_setinfo(self, session: Session, args: list[bytes]) -> Reply:
        if not _is_name(args[3]):
            return error(b"ERR %b cannot contain spaces, newlines or special characters." % args[2].lower())
        match args[2].upper():
            case b"LIB-NAME":
                session.library = args[3].decode()
            case b"LIB-VER":
                session.library_version = args[3].decode()
            case _:
                return error(b"ERR Unrecognized option '%b'" % args[2])
        return OK

    def _client_kill(self, session: Session, args: list[bytes]) -> Reply:
        """CLIENT KILL addr, or filters ID, ADDR, LADDR, SKIPME; the new form answers with how many were closed."""
        sessions = list(self._sessions.values())
        if len(args) == 3:
            victims = [each for each in sessions if each.connection.address == args[2].decode("latin-1")]
            if not victims:
                return error(b"ERR No such client")
        else:
            filters = dict(zip((word.upper() for word in args[2::2]), args[3::2], strict=False))
            if len(args) % 2 or not filters.keys() <= {b"ID", b"ADDR", b"LADDR", b"SKIPME"}:
                return SYNTAX_ERROR
            text = {name: value.decode("latin-1") for name, value in filters.items()}
            victims = [
                each
                for each in sessions
                if text.get(b"ID", str(each.connection.id)) == str(each.connection.id)
                and text.get(b"ADDR", each.connection.address) == each.connection.address
                and text.get(b"LADDR", each.connection.local_address) == each.connection.local_address
                and (each is not session or text.get(b"SKIPME", "yes").lower() == "no")
            ]
        for each in victims:
            if each is session:
                session.ending = True
            else:
                each.connection.abort()
        return OK if len(args) == 3 else integer(len(victims))

    # Settings

    def _config_get(self, session: Session, args: list[bytes]) -> Reply:
        if sum(map(len, args[2:])) > PATTERN_BYTES_MAX:
            return error(b"ERR patterns have at most %d bytes together" % PATTERN_BYTES_MAX)
        patterns = [glob(word.lower()) for word in args[2:]]
        return {
            name: value
            for name, value in sorted(self._settings.items())
            if any(pattern.fullmatch(name.encode()) for pattern in patterns)
        }

    def _config_set(self, session: Session, args: list[bytes]) -> Reply:
        """Settings are given at the start of a node; what tools set by habit to the value it has is accepted."""
        if len(args) % 2:
            return SYNTAX_ERROR
        for name, value in zip(args[2::2], args[3::2], strict=True):
            known = self._settings.get(name.decode("latin-1").lower())
            if known is None:
                return error(b"ERR Unknown option or number of arguments for CONFIG SET - '%b'" % name)
            if value.decode("latin-1") != known:
                return error(
                    b"ERR CONFIG SET failed (possibly related to argument '%b') - can't set immutable config: "
                    b"it is %b; restart the node with another value" % (name, known.encode())
                )
        return OK

    # The cluster

    def _ring_changed(self, ring: Ring) -> None:
        self._hands = handed_on(self._hands, self._ring, ring)
        self._ring = ring
        self._shown.clear()
        if ring.acks != self._default_acks:
            self._default_acks = self._acks_of(ring)
            for session in self._sessions.values():
                self._settle_acks(session)

    def _acks_of(self, ring: Ring) -> str:
        """As the ring says; but nothing is answered alone that this node could not note first."""
        if ring.acks == "one":
            try:
                self._note_answered_alone()
            except OSError as failure:
                log.error(
                    "%s answers writes once all copies have them, though the ring says one: it cannot be noted (%s)",
                    self.id, failure,
                )  # fmt: skip
                return "all"
        return ring.acks

    def _cluster_slots(self, session: Session, args: list[bytes]) -> Reply:
        return cluster_view.slots(self._ring) if self._ring is not None else []

    def _cluster_myid(self, session: Session, args: list[bytes]) -> Reply:
        return self._ring.cluster_node_id(self.id) if self._ring is not None else NO_RING

    def _ring_locate(self, session: Session, args: list[bytes]) -> Reply:
        ring = self._ring
        if ring is None:
            return NO_RING
        slot = slot_of(args[2])
        coordinator = ring.coordinators[slot]
        members = ring.lists[slot]
        located = {
            "slot": slot,
            "epoch": ring.epoch,
            "coordinator": coordinator.id if coordinator is not None else None,
            "address": coordinator.address if coordinator is not None else None,
            "list": [{"id": node.id, "state": node.state} for node in members],
        }
        return json.dumps(located)

    def _ring_why(self, session: Session, args: list[bytes]) -> Reply:
        ring = self._ring
        return json.dumps(why(self._hands, ring, slot_of(args[2]))) if ring is not None else NO_RING

    # INFO

    def _info(self, sections: list[bytes], figures: Figures | None) -> Reply:
        ring = self._ring
        keys = figures.keys if figures is not None else 0
        text: dict[str, dict[str, object]] = {
            "Server": {
                "redis_version": REDIS_VERSION,
                "redis_mode": "cluster",
                "ringkeeper_version": VERSION,
                "process_id": figures.pid if figures is not None else 0,
                "tcp_port": self._settings.get("port", ""),
                "uptime_in_seconds": int(self.now() - self._started),
            },
            "Clients": {"connected_clients": len(self._sessions), "maxclients": self._settings.get("maxclients", "")},
            "Memory": {"used_memory_dataset": figures.bytes if figures is not None else 0, "maxmemory": 0},
            "Persistence": {
                "loading": int(ring is None),
                "aof_enabled": 1,
                "appendfsync": self._settings.get("appendfsync", ""),
                "synced": int(figures.synced) if figures is not None else 0,
            },
            "Stats": {
                "total_connections_received": self.connections,
                "total_commands_processed": self.commands,
                "total_writes_processed": figures.writes if figures is not None else 0,
                "total_commands_refused": figures.refused if figures is not None else 0,
                "total_commands_parked": figures.parked if figures is not None else 0,
                **_parked_milliseconds(figures),
            },
            "Replication": _replication(ring, self.id),
            "Cluster": {"cluster_enabled": 1},
            "Ring": {
                "ring_node": self.id,
                "ring_epoch": ring.epoch if ring is not None else 0,
                "ring_slots": sum(r.size for r in ring.coordinated_by(self.id)) if ring is not None else 0,
                "ring_leader": self._leader,
            },
            "Keyspace": {"db0": f"keys={keys},expires=0,avg_ttl=0"} if keys else {},
        }
        wanted = {word.decode("latin-1").lower() for word in sections} or {"default"}
        everything = bool(wanted & {"default", "all", "everything"})
        return "\r\n".join(
            f"# {title}\r\n" + "".join(f"{name}:{value}\r\n" for name, value in lines.items())
            for title, lines in text.items()
            if everything or title.lower() in wanted
        )

    def metrics(self) -> Iterator[Metric]:
        took = "From the turn in which a request was read until it was answered."
        yield histogram("request_seconds", took, self._at_once, answered="at once")
        yield histogram("request_seconds", took, self._later, answered="after others")
        requested = self._requested.copy()
        for word, count in self._spelt.items():
            requested[self._direct[word].name] += count
        for name, count in sorted(requested.items()):
            yield counter("requests", "Requests of clients.", count, command=name)
        for code, count in sorted(self._errors.items()):
            yield counter("errors", "Requests that were answered by an error.", count, code=code.decode("latin-1"))
        yield gauge("clients", "Connections of clients.", len(self._sessions))
        yield counter("client_connections", "Connections that clients have made.", self.connections)
        unanswered = sum(len(exchange.replies) for each in self._sessions.values() for exchange in each.queue)
        unanswered += sum(len(each.rest) for each in self._sessions.values())
        yield gauge("requests_unanswered", "Requests whose replies cannot be written yet.", unanswered)

    def check(self) -> None:
        assert self._begun.keys() == self._at_storage.keys(), "somebody's time is not taken, or for ever"
        for session in self._sessions.values():
            assert not session.queue or session.queue[0].missing, "a complete exchange was not written"
            assert not session.rest or session in self._behind, "a rest would never be answered"


REDIS_VERSION = "7.2.0"
"""The Redis whose protocol and replies this speaks, as client libraries ask for it."""


def _replication(ring: Ring | None, myself: str) -> dict[str, object]:
    """The successors of the slots that a node coordinates, in Redis' words for replicas."""
    successors = cluster_view.successors(ring, myself) if ring is not None else ()
    lines = {f"slave{i}": f"ip={node.host},port={node.port},state=online" for i, node in enumerate(successors)}
    return {"role": "master", "connected_slaves": len(successors), **lines}


def _mark(
    to_store: list[tuple[Command, list[bytes]]], first: int, modes: int, eager: set[int], stale: set[int]
) -> None:
    """Note which requests from a position on were asked in these modes, where that makes a difference to them."""
    for position in range(first, len(to_store)):
        command, _ = to_store[position]
        if command.writes:
            if modes & EAGER:
                eager.add(position)
        elif modes & STALE and command.first_key:  # one that looks at a whole node tells of what that coordinates
            stale.add(position)


def _parked_milliseconds(figures: Figures | None) -> dict[str, object]:
    """How long requests have waited for changes of the ring."""
    seconds = figures.parked_seconds if figures is not None else (0.0, 0.0, 0.0)
    names = ("parked_ms_p50", "parked_ms_p999", "parked_ms_max")
    return {name: f"{1000 * each:.3f}" for name, each in zip(names, seconds, strict=True)}


def _verb_reply(answer: VerbRun | None, changing: bool) -> Reply:
    if answer is None and changing:
        return error(b"INDOUBT the leading ECS did not answer in time: it may have happened, look at RING JOBS first")
    if answer is None:
        return error(b"TRYAGAIN the leading ECS did not answer in time")
    if answer.error:
        return error(answer.error.encode())
    return answer.text


def _backup_reply(answer: BackupTold | None) -> Reply:
    if answer is None:
        return error(b"TRYAGAIN the node was too busy to answer in time")
    return refusal(answer.error) if answer.error else bulk(answer.content)


def _observed_reply(answer: Observed | None, whose: str, seconds: float, in_reach: bool) -> Reply:
    if answer is None:
        unreachable = "" if in_reach else ", and cannot be reached at the moment"
        return error(f"TRYAGAIN {whose} did not answer within {seconds:g} s{unreachable}".encode())
    return refusal(answer.error) if answer.error else bulk(answer.text.encode())


def _is_name(word: bytes) -> bool:
    return all(33 <= byte <= 126 for byte in word)
