"""Turns ZooKeeper into messages: the session, watches and requests. The one file that imports kazoo.

Hears   Subscribe, CloseSession, WatchNode, WatchChildren, Unwatch, CreateNode, SetNode, DeleteNode, ReadNode
Tells   Connected, Suspended, Lost, SessionClosed, NodeChanged, ChildrenChanged, Answered

kazoo's callbacks run on kazoo's threads. They do nothing but hop onto the loop with a message to this actor, where
everything is decided. Only kazoo's raw asynchronous calls are used: its recipes block its one callback thread while
disconnected.

    reaching --> connected <--> suspended          closed (from any, by CloseSession)
       ^             |              |
       +------- Lost, a new client -+

*One kazoo client is one session at most.* When a session is lost its client is discarded (ended on a thread in the
background) and a new one made; a generation number tells the callbacks of the two apart.

*Connected* is told when the first question of a connection is answered. That question is a sync, so that what is read
after it is not older than anything that was ever told before, and its answer is the first proof of contact.

*Lost* comes from our own clock or from kazoo, whichever is first: kazoo does not report it while no server can be
reached. The server counts the session's time from when it last heard us; we count it from when we *sent* the last
question that was answered (every session asks one in a sixth of its time), so our clock is never behind the server's;
unless this machine sleeps, which its clock does not count. How much time the server granted kazoo does not say; the
answer to its Connect is overheard. kazoo would wait for that answer as long as the session lasts, and Apache's server
never gives it on a connection that it takes just as it starts: one such try would cost the session, so we bound it.

*Watches say "look again".* Per watched path at most one read is on its way; a watch that fires meanwhile causes one
more. Every read sets its watch before it reads: ``exists`` sets one on missing nodes too. Everything watched is read
again after every reconnection (kazoo forgets its watches then); watchers are told only what they were not told last.

*Requests* are answered once. When the connection breaks, or is not there, the answer is connection_loss at once,
after Suspended was told: nothing waits for a connection, since who acts on levels would have to look again anyway.

*Who may change what.* With ``auth`` every connection proves to be these users, and what is made can be changed by the
first of them alone and read by everybody: people look into ZooKeeper, and nothing there is secret. Who may remove a
node, or make one beside it, is said by the node above. So where we have made or written something we look, once a
session, at the node above it and at what was written, and make them ours if they are not: an earlier release left them
to everybody (its processes may go on beside ours until they need a new session), or they are the other users', who we
were before. Nodes directly below "/" stay everybody's: clusters share them.

What others asked to be told lives in this actor only, so a failure of it must escalate: spawn it with ``ESCALATE``.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, assert_never

from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import (  # type: ignore[import-untyped]
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    SessionExpiredError,
    UnimplementedError,
)
from kazoo.handlers.threading import SequentialThreadingHandler  # type: ignore[import-untyped]
from kazoo.hosts import collect_hosts  # type: ignore[import-untyped]
from kazoo.protocol.serialization import Connect  # type: ignore[import-untyped]
from kazoo.protocol.states import EventType, KazooState  # type: ignore[import-untyped]
from kazoo.security import (  # type: ignore[import-untyped]
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    make_digest_acl,
)
from pykka import ActorDeadError

from .actor import Actor, Ref
from .metrics import Metric, gauge
from .session import (
    Answered,
    ChildrenChanged,
    CloseSession,
    Connected,
    CreateNode,
    DeleteNode,
    Lost,
    NodeChanged,
    ReadNode,
    Request,
    SessionClosed,
    SetNode,
    Subscribe,
    Suspended,
    Unwatch,
    WatchChildren,
    WatchNode,
)
from .world import Timer

log = logging.getLogger(__name__)

BEATS_PER_SESSION = 6
"""So often within the session's time we ask something just to be heard. A server that is to take the session up again
has as long for its answer."""

REQUEST_SECONDS_MAX = 15.0
"""A request without an answer for so long is answered connection_loss, even if the connection seems to live."""

REQUESTS_MAX, READS_MAX = 100, 30
"""Requests, and watched paths being read, that are on their way at once; the others wait for their turn. kazoo wakes
its thread through a socket pair, a byte a question, and blocks the caller when 278 bytes are unread. A request or read
is at most two questions, and few paths are guarded, so the loop never comes there, even if kazoo's thread stands
still."""

WAITING_MAX = 10_000
"""Requests that wait for their turn; more are refused."""

DATA_BYTES_MAX = 1_000_000
"""More content than this is refused: past its limit (1 MiB with the path) a server cuts the connection unanswered."""

RECONNECT_SECONDS_MAX = 1.0
"""kazoo tries to reconnect at least so often, give or take its jitter. (Left alone it would wait up to an hour.)"""

REACH_SECONDS_MAX = 30.0
"""A client that has no session after so long is replaced: whatever it waits for, another may do better."""

NEW_SESSION_SECONDS = 2.0
"""A new session may take so long, at the first try, and twice as long at each that follows: a server that takes the
connection as it starts and never answers is left, one whose disk is slow is waited for in the end."""

RENEW_SECONDS, RENEW_SECONDS_MAX = 0.1, 5.0
"""The pause before a new client, doubling from the first to the second while none of them reaches a session."""

RENEWALS_COUNTED_MAX = 10
"""From here on the pause does not double any more."""

LOOK_AGAIN_SECONDS = 5.0
"""The pause after a watched path could not be read although the server answered."""

CLOSE_SECONDS_MAX = 3.0
"""Ending a session may take so long; then its ephemeral nodes are left to time out."""

UNREACHED_SECONDS_MIN = 1.0
"""A server that cannot be dialled is not worth a word before this: another of the list, or of its addresses, may do."""

TIMER_SECONDS_MIN = 0.001
"""Clocks and timers are not exact: a timer for less would fire before its time is up, again and again."""

COMPLAINT_SECONDS = 30.0
"""The same trouble is logged at most so often."""


class _OfInterest(logging.Filter):
    """Lets pass what kazoo says and we do not, unless it said the same just before."""

    OURS = ("Transition to CONNECTING", "Failed connecting to Zookeeper within the connection retry policy.")
    """Suspended, and what it says of every client that is ended while no server can be reached."""

    def __init__(self) -> None:
        super().__init__()
        self._last, self._last_at = "", float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        text, now = record.getMessage(), time.monotonic()
        if text in self.OURS or (text == self._last and now - self._last_at < COMPLAINT_SECONDS):
            return False
        self._last, self._last_at = text, now
        return True


kazoo_log = logging.getLogger(__name__ + ".kazoo")
"""What kazoo has to say, warnings and worse."""
kazoo_log.setLevel(logging.WARNING)
kazoo_log.addFilter(_OfInterest())

NODE, CHILDREN = "content", "children"
"""What is watched of a path."""

ERROR_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (NoNodeError, "no_node"),
    (NodeExistsError, "node_exists"),
    (BadVersionError, "bad_version"),
    (NotEmptyError, "not_empty"),
    (NoAuthError, "no_auth"),
)

REFUSALS = (AuthFailedError, BadArgumentsError, InvalidACLError, NoChildrenForEphemeralsError, UnimplementedError)
"""With these a server says that it has not done, and will not do, what it was asked."""

_GIVEN_UP = (ConnectionLoss, SessionExpiredError)
"""kazoo sets these on questions that it gives up (ConnectionClosedError is the second, too)."""


class Result(Protocol):
    """kazoo's AsyncResult."""

    value: Any
    exception: Exception | None

    def rawlink(self, callback: Callable[[Result], None]) -> None: ...


class Client(Protocol):
    """The part of KazooClient that the actor uses."""

    def start_async(self) -> object: ...
    def sync_async(self, path: str) -> Result: ...
    def exists_async(self, path: str, watch: Callable[[Any], None] | None = None) -> Result: ...
    def get_async(self, path: str) -> Result: ...
    def get_children_async(self, path: str, watch: Callable[[Any], None] | None = None) -> Result: ...
    def create_async(self, path: str, value: bytes, *, ephemeral: bool, sequence: bool, makepath: bool) -> Result: ...
    def set_async(self, path: str, value: bytes, version: int) -> Result: ...
    def delete_async(self, path: str, version: int) -> Result: ...
    def get_acls_async(self, path: str) -> Result: ...
    def set_acls_async(self, path: str, acls: list[Any]) -> Result: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


# What the actor tells itself: first what happens on kazoo's threads, then its timers. Nobody else hears of it, hence it
# is not on the wire.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turned:
    generation: int
    state: str
    session_id: int
    granted_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unreached:
    generation: int
    server: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    number: int
    value: Any
    error: Exception | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _LookAgain:
    generation: int
    key: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """A session has been ended as CloseSession asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begin:
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _GiveUp:
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beat:
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overdue:
    number: int


_Inner = _Turned | _Unreached | _Heard | _LookAgain | _Ended | _Begin | _GiveUp | _Beat | _Overdue


@dataclass(frozen=True, slots=True)
class _Look:
    """A kazoo watch. Equal ones are one to kazoo, which keeps them in sets: a path never gathers more than one."""

    hop: Callable[[object], None]
    generation: int
    key: tuple[str, str]

    def __call__(self, event: Any) -> None:
        if event.type != EventType.NONE:  # NONE: kazoo forgets its watches, since the connection is gone
            self.hop(_LookAgain(generation=self.generation, key=self.key))


@dataclass(slots=True)
class _Question:
    """Something that kazoo was asked and has not answered."""

    sent_at: float
    answered: Callable[[Any, Exception | None], None]
    request: Request | None = None
    overdue: Timer | None = None


@dataclass(slots=True, eq=False)
class _Watched:
    """A path whose content or children somebody wants to know."""

    key: tuple[str, str]
    told: dict[Ref, object] = field(default_factory=dict)
    """Per watcher a mark of what it was told last; None: nothing yet."""
    seen: tuple[object, NodeChanged | ChildrenChanged] | None = None
    """The mark and the fact that were read last, on this connection."""
    reading: bool = False
    again: bool = False
    """A watch fired while it was being read."""

    @property
    def path(self) -> str:
        return self.key[1]


class Watches(Actor):
    """ZooKeeper, for the actors of this process. See the head of this file.

    ``hosts`` is "host:port,host:port"; ``session_timeout_seconds`` is what we ask for (servers grant what their limits
    allow: Connected says how much). With ``auth``, users and their passwords, what is made may be changed by the first
    of them only, by a digest ACL; without it, by everybody. Raises ValueError when ``hosts`` cannot be understood.
    """

    def __init__(
        self,
        *,
        hosts: str,
        session_timeout_seconds: float = 10.0,
        auth: tuple[tuple[str, str], ...] = (),
        open_client: Callable[..., Client] | None = None,
        end_client: Callable[[Client, Callable[[], None]], None] | None = None,
    ) -> None:
        super().__init__()
        check_hosts(hosts)
        self.hosts, self.asked_seconds = hosts, session_timeout_seconds
        self.passwords = auth
        """By this name, not shown to whoever looks into the actor."""
        self.open_client, self.end_client = open_client or open_kazoo, end_client or end_in_background
        self.hop = partial(_hop, self.ref)
        self.state = "reaching"
        self.client: Client | None = None
        self.generation = 0
        """Counts the clients that were discarded; whatever names another one than this is late."""
        self.session: Connected | None = None
        self.contact_at = 0.0
        """When the last question was sent that has been answered."""
        self.beating = False
        """A question that is only there to be heard is on its way."""
        self.renewals = 0
        self.reaching_since, self.complained_at = self.now(), float("-inf")
        self.subscribers: dict[Ref, None] = {}
        self.watched: dict[tuple[str, str], _Watched] = {}
        self.unread: dict[tuple[str, str], None] = {}
        """Watched paths that wait for their turn to be read."""
        self.questions: dict[int, _Question] = {}
        self.asked = self.reads = self.requests = 0
        """Questions ever asked; reads and requests that are on their way now."""
        self.waiting: deque[Request] = deque()
        """Requests that wait for their turn."""
        self.guarded: set[str] = set()
        """Paths that were looked at, or are: can others change them?"""
        self.refused_at = float("-inf")
        self.closers: list[Ref] = []
        self.ended = False

    def on_start(self) -> None:
        self._begin()

    def metrics(self) -> Iterator[Metric]:
        for state in ("connected", "suspended", "reaching", "closed"):
            here = self.state == state
            yield gauge("zookeeper_session", "In which state the session is, by a 1.", here, state=state)
        granted = self.session.timeout_seconds if self.session is not None else 0.0
        yield gauge("zookeeper_session_timeout_seconds", "What the server has granted.", granted)
        yield gauge("zookeeper_requests_waiting", "What it has not answered.", len(self.questions) + len(self.waiting))

    def on_stop(self) -> None:
        self._discard_client(lambda: None)

    def on_failure(self, *_: Any) -> None:
        self._discard_client(lambda: None)

    def on_receive(
        self, message: _Inner | Subscribe | CloseSession | WatchNode | WatchChildren | Unwatch | Request
    ) -> None:
        match message:
            case _Heard():
                self._heard(message)
            case _LookAgain():
                self._look_again(message)
            case _Turned():
                self._turned(message)
            case _Unreached():
                self._unreached(message)
            case _Beat():
                self._beat(message)
            case _Overdue():
                self._overdue(message)
            case _Begin():
                if message.generation == self.generation and self.state == "reaching":
                    self._begin()
            case _GiveUp():
                self._give_up(message)
            case _Ended():
                self._closed()
            case Subscribe():
                self._subscribe(message)
            case CloseSession():
                self._close_session(message)
            case WatchNode() | WatchChildren():
                self._watch(message)
            case Unwatch():
                self._unwatch(message)
            case CreateNode() | SetNode() | DeleteNode() | ReadNode():
                self._request(message)
            case _:
                assert_never(message)

    # The session

    def _begin(self) -> None:
        """Make a client; what happens to it we hear as _Turned and _Unreached."""
        assert self.client is None
        generation, hop = self.generation, self.hop

        def turned(state: str, session_id: int, granted_seconds: float) -> None:
            hop(_Turned(generation=generation, state=state, session_id=session_id, granted_seconds=granted_seconds))

        def unreached(server: str, why: str) -> None:
            hop(_Unreached(generation=generation, server=server, why=why))

        self.client = self.open_client(self.hosts, self.asked_seconds, self.passwords, turned, unreached)
        self.client.start_async()
        self.after(REACH_SECONDS_MAX, _GiveUp(generation=generation))

    def _turned(self, turned: _Turned) -> None:
        if turned.generation != self.generation:
            return
        if turned.state == KazooState.CONNECTED:
            assert self.client is not None
            connected = Connected(session_id=turned.session_id, timeout_seconds=turned.granted_seconds)
            self._ask(self.client.sync_async("/"), partial(self._connected, connected))
        elif turned.state == KazooState.SUSPENDED:
            self._suspend()
        else:
            if self.session is None:
                self._complain("gives us no session", "it ended before it began: is the user unknown there?")
            self._lose("ZooKeeper has ended it")

    def _connected(self, connected: Connected, _: Any, error: Exception | None) -> None:
        if error is not None:
            log.warning("ZooKeeper at %s accepts a session but refuses to sync: %r - trying anew", self.hosts, error)
            self._lose("it could not be used")
            return
        if self.session is None:
            granted, asked = connected.timeout_seconds, self.asked_seconds
            less = f", less than the {asked:g} s asked for (its maxSessionTimeout)" if granted < asked else ""
            begun = f"ZooKeeper session {_hex(connected)} with {self.hosts}: {granted:g} s{less}"
            self.system.events.note("session", begun, log=log.info, state="connected")
            self.after(_beat_seconds(connected), _Beat(generation=self.generation))
        else:
            assert self.session.session_id == connected.session_id, "one kazoo client had two sessions"
            again = f"ZooKeeper session {_hex(connected)} is connected again"
            self.system.events.note("session", again, log=log.info, state="connected")
        self.session, self.state, self.renewals = connected, "connected", 0
        self._tell_subscribers(connected)
        for key in sorted(self.watched):
            self._read(self.watched[key])

    def _suspend(self) -> None:
        if self.state == "connected":
            assert self.session is not None
            self.state = "suspended"
            left = self.contact_at + self.session.timeout_seconds - self.now()
            what = (
                f"ZooKeeper session {_hex(self.session)} is suspended: the connection broke - the session is lost "
                f"unless the connection is back within {left:.1f} s"
            )
            self.system.events.note("session", what, log=log.warning, state="suspended")
            self._tell_subscribers(Suspended())
        self._forget("connection_loss")

    def _beat(self, beat: _Beat) -> None:
        """Find out whether the server can have forgotten us; ask something, so that it does not."""
        if beat.generation != self.generation:
            return
        assert self.client is not None and self.session is not None
        left = self.contact_at + self.session.timeout_seconds - self.now()
        if left <= 0.0:
            self._lose(f"no answer for {self.session.timeout_seconds:g} s, which is all the time it had")
            return
        # One at a time: requests keep kazoo from sending pings, and only an unanswered ping makes it reconnect.
        if self.state == "connected" and not self.beating:
            self.beating = True
            self._ask(self.client.exists_async("/"), self._beaten)
        self.after(max(TIMER_SECONDS_MIN, min(left, _beat_seconds(self.session))), beat)

    def _beaten(self, _: Any, __: Exception | None) -> None:
        self.beating = False

    def _lose(self, why: str) -> None:
        """Give up client and session, and begin anew after a pause."""
        lost, self.session, self.state = self.session, None, "reaching"
        self._discard_client(lambda: None)
        if lost is not None:
            what = f"ZooKeeper session {_hex(lost)} is lost: {why}"
            self.system.events.note("session", what, log=log.warning, state="lost")
            self._tell_subscribers(Lost())
        self._forget("session_lost")
        pause = min(RENEW_SECONDS_MAX, RENEW_SECONDS * 2.0**self.renewals)
        self.renewals = min(self.renewals + 1, RENEWALS_COUNTED_MAX)
        self.reaching_since = self.now()
        self.after(pause * self.random.uniform(0.5, 1.0), _Begin(generation=self.generation))

    def _discard_client(self, ended: Callable[[], None]) -> None:
        """From now on nothing that the client calls back is believed; its session ends in the background."""
        self.generation += 1
        self.guarded.clear()
        client, self.client = self.client, None
        if client is not None:
            self.end_client(client, ended)
        else:
            ended()

    def _forget(self, error: str) -> None:
        """The connection is gone: nothing that was asked on it will be answered, nothing that was read holds."""
        questions, self.questions = self.questions, {}
        waiting, self.waiting = self.waiting, deque()
        self.unread.clear()
        self.reads, self.requests, self.beating = 0, 0, False
        for watched in self.watched.values():
            watched.reading = watched.again = False
            watched.seen = None
        for question in questions.values():
            if question.overdue is not None:
                question.overdue.cancel()
            if question.request is not None:
                self._answer(question.request, error)
        for request in waiting:
            self._answer(request, error)

    def _give_up(self, due: _GiveUp) -> None:
        if due.generation == self.generation and self.session is None:
            self._complain("gives us no session", f"within {REACH_SECONDS_MAX:g} s")
            self._lose("there was none")

    def _unreached(self, unreached: _Unreached) -> None:
        if unreached.generation != self.generation or self.state != "reaching":
            return
        if self.now() - self.reaching_since >= UNREACHED_SECONDS_MIN:
            self._complain("cannot be reached", f"{unreached.server}: {unreached.why}")

    def _complain(self, what: str, why: str) -> None:
        if self.now() - self.complained_at >= COMPLAINT_SECONDS:
            self.complained_at = self.now()
            log.warning(
                "ZooKeeper at %s %s (%s) - nothing there can be read or changed - check that it runs and that the "
                "address is right; trying on until it answers",
                self.hosts,
                what,
                why,
            )

    def _subscribe(self, subscribe: Subscribe) -> None:
        self.subscribers[subscribe.reply_to] = None
        if self.state == "connected":
            self.send(subscribe.reply_to, self.session)

    def _tell_subscribers(self, fact: Connected | Suspended | Lost) -> None:
        for subscriber in list(self.subscribers):
            if subscriber.is_alive():
                self.send(subscriber, fact)
            else:
                del self.subscribers[subscriber]

    def _close_session(self, close: CloseSession) -> None:
        self.closers.append(close.reply_to)
        if self.state != "closed":
            session, self.session, self.state = self.session, None, "closed"
            if session is not None:
                self._tell_subscribers(Lost())
            self._forget("session_lost")
            self._discard_client(partial(self.hop, _Ended()))
        elif self.ended:
            self._closed()

    def _closed(self) -> None:
        self.ended = True
        closers, self.closers = self.closers, []
        for closer in closers:
            self.send(closer, SessionClosed())

    # Questions to ZooKeeper

    def _ask(
        self, result: Result, answered: Callable[[Any, Exception | None], None], request: Request | None = None
    ) -> None:
        """Have ``answered`` called with value and error, on the loop, if an answer comes on this connection."""
        self.asked += 1
        number, hop = self.asked, self.hop
        question = self.questions[number] = _Question(self.now(), answered, request)
        if request is not None:
            question.overdue = self.after(REQUEST_SECONDS_MAX, _Overdue(number=number))
        result.rawlink(lambda result: hop(_Heard(number=number, value=result.value, error=result.exception)))

    def _heard(self, heard: _Heard) -> None:
        # What kazoo itself gives up we settle when it tells its new state, so that everybody hears Suspended first.
        if heard.number not in self.questions or isinstance(heard.error, _GIVEN_UP):
            return
        question = self.questions.pop(heard.number)
        if question.overdue is not None:
            question.overdue.cancel()
        self.contact_at = max(self.contact_at, question.sent_at)
        question.answered(heard.value, heard.error)

    def _request(self, request: Request) -> None:
        refusal = self._refusal(request)
        if refusal:
            self._answer(request, refusal)
        elif self.requests < REQUESTS_MAX:
            self._pass_on(request)
        else:
            self.waiting.append(request)

    def _pass_on(self, request: Request) -> None:
        client = self.client
        assert client is not None
        try:
            match request:
                case CreateNode():
                    result = client.create_async(
                        request.path,
                        request.data,
                        ephemeral=request.ephemeral,
                        sequence=request.sequential,
                        makepath=True,
                    )
                case SetNode():
                    result = client.set_async(request.path, request.data, request.version)
                case DeleteNode():
                    result = client.delete_async(request.path, request.version)
                case ReadNode():
                    client.sync_async(request.path)
                    result = client.get_async(request.path)
                case _:
                    assert_never(request)
        except (TypeError, ValueError) as error:  # kazoo looked at it and sent nothing
            self._answer(request, f"other:{error}")
        else:
            self.requests += 1
            self._ask(result, partial(self._answered, request), request)

    def _request_done(self) -> None:
        """One request less is on its way: the next may go."""
        self.requests -= 1
        while self.waiting and self.requests < REQUESTS_MAX:
            self._pass_on(self.waiting.popleft())

    def _refusal(self, request: Request) -> str:
        """Why a request is not passed on; "" if it is."""
        if self.state != "connected":
            return "session_lost" if self.state == "closed" else "connection_loss"
        if not _is_path(request.path):
            return f"other:{request.path!r} is no path: it must begin with a slash and not end with one"
        if isinstance(request, CreateNode | SetNode) and len(request.data) > DATA_BYTES_MAX:
            return f"other:{len(request.data)} bytes are more than the {DATA_BYTES_MAX} that a node may hold"
        if len(self.waiting) >= WAITING_MAX:
            return f"other:{WAITING_MAX} requests wait already"
        return ""

    def _answered(self, request: Request, value: Any, error: Exception | None) -> None:
        if error is not None:
            if isinstance(error, NoAuthError):
                self._complain_of_refusal(request.path)
            self._answer(request, _word(error))
        else:
            self._answer_done(request, value)
            if self.passwords and not isinstance(request, ReadNode):
                self._guard(request.path, written=isinstance(request, SetNode))
        self._request_done()

    def _guard(self, path: str, *, written: bool) -> None:
        """See to it that nobody else can change what was written, or remove what was made."""
        assert self.client is not None
        for each in (path.rpartition("/")[0], *([path] if written else [])):
            if not _is_shared(each) and each not in self.guarded:
                self.guarded.add(each)
                self._ask(self.client.get_acls_async(each), partial(self._acls_read, each))

    def _acls_read(self, path: str, value: Any, error: Exception | None) -> None:
        assert self.client is not None
        if error is None and set(value[0]) != set(ours := _acls_of(self.passwords)):
            self._ask(self.client.set_acls_async(path, ours), partial(self._acls_set, path))

    def _acls_set(self, path: str, _: Any, error: Exception | None) -> None:
        if error is None:
            log.warning("others could change %s in ZooKeeper; now only the processes of this cluster can", path)
        else:
            log.warning("others can change %s in ZooKeeper, and that cannot be ended: %r", path, error)

    def _complain_of_refusal(self, path: str) -> None:
        if self.now() - self.refused_at >= COMPLAINT_SECONDS:
            self.refused_at = self.now()
            log.warning(
                "ZooKeeper refuses us %s: it was made by processes with another secret than ours - give this one the "
                "secret of its cluster; if that was changed, keep the former beside it, as FILE.former",
                path,
            )

    def _answer_done(self, request: Request, value: Any) -> None:
        match request:
            case CreateNode():
                assert self.session is not None
                owner = self.session.session_id if request.ephemeral else 0
                self._answer(request, "", path=value, version=0, owner=owner)
            case SetNode():
                self._answer(request, "", version=value.version, owner=value.ephemeralOwner)
            case DeleteNode():
                self._answer(request, "")
            case ReadNode():
                data, stat = value
                self._answer(request, "", data=data, version=stat.version, owner=stat.ephemeralOwner)
            case _:
                assert_never(request)

    def _overdue(self, overdue: _Overdue) -> None:
        question = self.questions.pop(overdue.number, None)
        if question is not None and question.request is not None:
            self._answer(question.request, "connection_loss")
            self._request_done()

    def _answer(
        self,
        request: Request,
        error: str,
        *,
        path: str | None = None,
        data: bytes | None = None,
        version: int = -1,
        owner: int = 0,
    ) -> None:
        if request.reply_to.is_alive():
            path = request.path if path is None else path
            answer = Answered(request=request.request, error=error, path=path, data=data, version=version, owner=owner)
            self.send(request.reply_to, answer)

    # Watches

    def _watch(self, watch: WatchNode | WatchChildren) -> None:
        if not _is_path(watch.path):
            log.error("%s of %s: %r is no path; not watched", type(watch).__name__, watch.reply_to.name, watch.path)
            return
        key = (CHILDREN if isinstance(watch, WatchChildren) else NODE, watch.path)
        watched = self.watched.setdefault(key, _Watched(key))
        watched.told[watch.reply_to] = None
        if watched.seen is not None:
            self._tell_watchers(watched)
        elif not watched.reading:
            self._read(watched)

    def _unwatch(self, unwatch: Unwatch) -> None:
        for key in ((CHILDREN, unwatch.path), (NODE, unwatch.path)):
            watched = self.watched.get(key)
            if watched is not None:
                watched.told.pop(unwatch.reply_to, None)
                self._drop_unwatched(watched)

    def _drop_unwatched(self, watched: _Watched) -> None:
        if not watched.told:
            del self.watched[watched.key]
            self.unread.pop(watched.key, None)

    def _look_again(self, look: _LookAgain) -> None:
        watched = self.watched.get(look.key)
        if watched is not None and look.generation == self.generation:
            self._read(watched)

    def _read(self, watched: _Watched) -> None:
        """Read it now, or after the read that is on its way, or when it is connected."""
        if self.state != "connected":
            return
        if watched.reading:
            watched.again = True
            return
        if self.reads >= READS_MAX:
            self.unread[watched.key] = None
            return
        assert self.client is not None
        watched.reading = True
        self.reads += 1
        look = _Look(self.hop, self.generation, watched.key)
        self.client.exists_async(watched.path, watch=look)
        if watched.key[0] == CHILDREN:
            result = self.client.get_children_async(watched.path, watch=look)
        else:
            result = self.client.get_async(watched.path)
        self._ask(result, partial(self._read_done, watched))

    def _read_done(self, watched: _Watched, value: Any, error: Exception | None) -> None:
        self.reads -= 1
        watched.reading = False
        again, watched.again = watched.again, False
        if self.watched.get(watched.key) is watched:
            if error is None or isinstance(error, NoNodeError):
                watched.seen = _seen(watched, value)
                self._tell_watchers(watched)
            else:
                log.warning("ZooKeeper does not let us read the %s at %s: %r", *watched.key, error)
                self.after(LOOK_AGAIN_SECONDS, _LookAgain(generation=self.generation, key=watched.key))
            if again and watched.told:
                self._read(watched)
        while self.unread and self.reads < READS_MAX:
            key = next(iter(self.unread))
            del self.unread[key]
            self._read(self.watched[key])

    def _tell_watchers(self, watched: _Watched) -> None:
        assert watched.seen is not None
        mark, fact = watched.seen
        for watcher, told in list(watched.told.items()):
            if not watcher.is_alive():
                del watched.told[watcher]
            elif told != mark:
                watched.told[watcher] = mark
                self.send(watcher, fact)
        self._drop_unwatched(watched)

    def check(self) -> None:
        assert (self.session is not None) == (self.state in ("connected", "suspended")), self.state
        assert self.state == "connected" or not any(w.reading or w.seen for w in self.watched.values())
        assert self.reads == 0 if self.state != "connected" else 0 <= self.reads <= READS_MAX
        assert all(watched.told for watched in self.watched.values()), "a path is watched for nobody"
        assert self.unread.keys() <= self.watched.keys()
        assert self.requests == sum(question.request is not None for question in self.questions.values())
        assert self.requests == REQUESTS_MAX if self.waiting else self.requests <= REQUESTS_MAX


def check_hosts(hosts: str) -> None:
    """Raises ValueError unless ``hosts`` is "host:port", or several of them with commas between."""
    try:
        servers, root = collect_hosts(hosts)
    except ValueError as error:
        servers, root = [], str(error)
    if not servers or root is not None:
        why = f" ({root})" if root else ""
        raise ValueError(f"{hosts!r} is not a list of ZooKeeper servers{why}; write host:port,host:port")


def open_kazoo(
    hosts: str,
    session_timeout_seconds: float,
    auth: tuple[tuple[str, str], ...],
    turned: Callable[[str, int, float], None],
    unreached: Callable[[str, str], None],
) -> Client:
    """Make a kazoo client that tells its state (with session id and granted seconds) and servers it cannot reach.

    Both are called on kazoo's threads.
    """
    servers, _ = collect_hosts(hosts)
    client = _KazooClient(
        hosts,
        timeout=session_timeout_seconds,
        handler=_Handler(session_timeout_seconds / len(servers), unreached),
        auth_data=[("digest", ":".join(user)) for user in auth],
        default_acl=_acls_of(auth) if auth else None,
        connection_retry={
            "max_tries": -1,
            "delay": 0.1,
            "backoff": 1.5,
            "max_delay": min(RECONNECT_SECONDS_MAX, session_timeout_seconds / BEATS_PER_SESSION),
        },
        logger=kazoo_log,
    )
    granted_seconds, patience_seconds = session_timeout_seconds, NEW_SESSION_SECONDS
    invoke = client._connection._invoke

    def overhear(timeout: float, request: Any, xid: int | None = None) -> Any:
        nonlocal granted_seconds, patience_seconds
        if not isinstance(request, Connect):
            return invoke(timeout, request, xid)
        if request.session_id:
            timeout = min(timeout, granted_seconds / BEATS_PER_SESSION)
        else:  # to make a new one takes a server as long as its disk does, and nothing is lost by it
            timeout, patience_seconds = min(timeout, patience_seconds), patience_seconds * 2
        answer = invoke(timeout, request, xid)
        granted_seconds = answer[0].time_out / 1000.0
        return answer

    def listen(state: str) -> None:
        session_id = client.client_id[0] if state == KazooState.CONNECTED else 0
        turned(state, session_id, granted_seconds)

    client._connection._invoke = overhear
    client.add_listener(listen)
    opened: Client = client
    return opened


class _KazooClient(KazooClient):  # type: ignore[misc]
    """Leaves to everybody what clusters share, also where it is made as a parent."""

    def create_async(self, path: str, value: bytes = b"", acl: Any = None, **options: Any) -> Any:
        return super().create_async(path, value, OPEN_ACL_UNSAFE if _is_shared(path) else acl, **options)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads and sockets, with a bound on dialling one server of several, and word of the failures."""

    def __init__(self, dial_seconds_max: float, unreached: Callable[[str, str], None]) -> None:
        super().__init__()
        self._dial_seconds_max, self._unreached = dial_seconds_max, unreached

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["timeout"] = min(kwargs.get("timeout") or self._dial_seconds_max, self._dial_seconds_max)
        try:
            return super().create_connection(*args, **kwargs)
        except OSError as error:
            host, port = (args or (kwargs["address"],))[0]
            self._unreached(f"{host}:{port}", error.strerror or str(error) or "no answer")
            raise


def end_in_background(client: Client, ended: Callable[[], None]) -> None:
    """Close a client's session without waiting; ``ended`` is called, on another thread, when done or out of time.

    kazoo's ``stop`` may take longer than a process that ends has patience for: it goes on a daemon thread. The thread
    that waits for it is none, so the interpreter does not exit before the session is closed or CLOSE_SECONDS_MAX over.
    """

    def end() -> None:
        try:
            client.stop()
            client.close()
        except Exception as error:
            log.info("a ZooKeeper client ended badly; its session times out by itself: %r", error)

    def wait() -> None:
        ending = threading.Thread(target=end, name="ends a ZooKeeper session", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS_MAX)
        ended()

    threading.Thread(target=wait, name="waits for the end of a ZooKeeper session").start()


def _hop(ref: Ref, message: object) -> None:
    """Tell the actor from any thread; if it is gone nobody needs to know."""
    with suppress(ActorDeadError):
        ref.tell(message)


def _seen(watched: _Watched, value: Any) -> tuple[object, NodeChanged | ChildrenChanged]:
    """The fact that was read (value None: no such node), and a mark that differs when the fact does."""
    if watched.key[0] == CHILDREN:
        names = tuple(sorted(value or ()))
        return names, ChildrenChanged(path=watched.path, names=names)
    if value is None:
        return "missing", NodeChanged(path=watched.path, data=None, version=-1)
    data, stat = value  # one node can be removed and made again with the same version: czxid tells them apart
    return (stat.czxid, stat.mzxid, stat.version), NodeChanged(path=watched.path, data=data, version=stat.version)


def _word(error: Exception) -> str:
    """What Answered calls an error of kazoo's. What is not certainly a refusal is of unknown outcome."""
    for kind, word in ERROR_WORDS:
        if isinstance(error, kind):
            return word
    return f"other:{type(error).__name__}" if isinstance(error, REFUSALS) else "connection_loss"


def auth_of(*secrets: bytes) -> tuple[tuple[str, str], ...]:
    """Who the processes that share these secrets are to ZooKeeper; an empty one is none.

    ZooKeeper is told, and keeps, what does not lead back to the secret.
    """
    said = b"ringkeeper to ZooKeeper"
    return tuple(("ringkeeper", hmac.digest(secret, said, "sha256").hex()) for secret in secrets if secret)


def _acls_of(auth: tuple[tuple[str, str], ...]) -> list[Any]:
    return [make_digest_acl(*auth[0], all=True), *READ_ACL_UNSAFE]


def _is_shared(path: str) -> bool:
    """Whether it stands directly below "/", or is that."""
    return path.count("/") <= 1


def _is_path(path: str) -> bool:
    return path == "/" or (path.startswith("/") and all(path.split("/")[1:]) and "\0" not in path)


def _beat_seconds(session: Connected) -> float:
    return session.timeout_seconds / BEATS_PER_SESSION


def _hex(session: Connected) -> str:
    """As ZooKeeper's own logs write it."""
    return f"0x{session.session_id & (1 << 64) - 1:x}"
