"""Carries messages, questions and watches between actors of different processes.

    tell      Tell ---------------------------------->
    ask       Ask ----------------------------------->      Answer or Failure comes back, on the same lane
    stop      Stop ---------------------------------->      Answer(was it alive)
    watch     Watch --------------------------------->      Ended, behind everything the actor said
    code      Code ---------------------------------->      CodeAnswer or Failure, if both processes allow code

Whatever is lost on the way ends in one place on the side that still has it: a message as a dead letter, a question by
failing (``Unsent``: it never left; ``Unanswered``: it may have happened), a watch as ``Terminated``. Messages pass the
faults once on their way out and once on their way in.

Refs call from any thread; the work is done on the loop's.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, assert_never, cast

import pykka
from pykka import ActorDeadError
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from . import wire
from .actor import LoopFuture, Ref, blocking_actor_here
from .message import URGENT
from .peer import Parcel, Peer, Question
from .remote import CODE_REFUSED, SCHEME, CodeRefused, RemoteError, RemoteRef, Unanswered, Unsent, text_of
from .system import Nobody, Terminated
from .wire import LENGTH_BYTES, Lane, Wire, WireError, pack, shown

if TYPE_CHECKING:
    from .bridge import Bridge
    from .connection import Connection

FAILURE_CHARACTERS_MAX = 1000
"""How much of an exception's text travels back to whoever asked."""

TRACE_CHARACTERS_MAX = 10_000
"""How much of its traceback does, where code is allowed: the end."""

_PROXYS_OWN = frozenset({ProxyCall, ProxyGetAttr, ProxySetAttr})
"""What a proxy asks of its ref; to another process it goes as code."""


class Ending(Nobody):
    """Stands between a local actor and all peers that watch it, so that it has one watcher however many they are."""

    def __init__(self, post: Post, name: str) -> None:
        super().__init__(post.system, name)
        self._post = post
        self.watchers: dict[tuple[Peer, int], None] = {}

    def tell(self, message: Any) -> None:
        assert isinstance(message, Terminated)
        self._post.ended(self, message.why)


class Post:
    """The messages of one bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self.system = bridge.system
        self._bridge, self._config, self._faults = bridge, bridge.config, bridge.faults
        self._wire = Wire(bridge.system.resolve)
        self._thread = threading.get_ident()
        self._numbers = count(1)
        self._endings: dict[str, Ending] = {}

    # What refs ask for; on any thread

    def tell(self, to: RemoteRef, message: Any) -> None:
        sender = self._sender()
        lose = partial(self.system.dead_letter, to, message)
        try:
            if type(message) in _PROXYS_OWN:
                content = self._code(0, to, sender, message)
            else:
                content = self._checked(self._wire.tell(to.name, sender, message), message)
        except WireError as error:
            self._here(lose, str(error))
        else:
            self._here(self._send, to, sender, message, content, lose, lose)

    def ask(self, to: RemoteRef, message: Any, timeout: float | None, blocks: bool) -> LoopFuture:
        """``blocks``: whoever asks does nothing else until the answer is there."""
        if type(message) in _PROXYS_OWN:
            return self.ask_by_code(to, message, timeout, blocks)
        number, sender, future = next(self._numbers), self._sender(), _answer_of(to, message)
        try:
            content = self._checked(self._wire.ask(number, to.name, sender, message, blocks), message)
        except WireError as error:
            _fail(future, error)
        else:
            self._put_question(to, sender, message, content, number, future, timeout)
        return future

    def ask_by_code(self, to: RemoteRef, order: Any, timeout: float | None, blocks: bool = False) -> LoopFuture:
        """Ask for what no message says: see ``code_frames.py``."""
        number, sender, future = next(self._numbers), self._sender(), _answer_of(to, order)
        try:
            content = self._code(number, to, sender, order, blocks)
        except (WireError, CodeRefused) as error:
            _fail(future, error)
        else:
            self._put_question(to, sender, order, content, number, future, timeout)
        return future

    def _code(self, number: int, to: RemoteRef, sender: str, order: Any, blocks: bool = False) -> bytes:
        """A Code frame, packed. Raises WireError, or CodeRefused: the answer will be a pickle, too."""
        if not self.system.allow_code:
            raise CodeRefused(f"this process sends no code to {to.address}: {CODE_REFUSED}. Nothing happened.")
        from .code_frames import dump

        code = dump(order, self._config.code_bytes_max)
        return pack(wire.Code(code, number, to.name, sender, type(order).__name__, blocks))

    def stop(self, to: RemoteRef, timeout: float | None) -> LoopFuture:
        number, future = next(self._numbers), LoopFuture()
        stop = wire.Stop(number, to.name)
        self._put_question(to, self._sender(), stop, pack(stop), number, future, timeout)
        return future

    def _put_question(
        self, to: RemoteRef, sender: str, message: Any, content: bytes, number: int, future: LoopFuture,
        timeout: float | None,
    ) -> None:  # fmt: skip
        if self._bridge.closed:  # the loop may end before it comes to this
            _fail(future, _not_sent(type(message).__name__, to.address, "this process closed its bridge"))
        else:
            self._here(self._question, to, sender, message, content, number, future, timeout)

    def watch(self, watched: RemoteRef, watcher: Ref) -> None:
        self._here(self._watch, watched, watcher, next(self._numbers))

    def unwatch(self, watched: RemoteRef, watcher: Ref) -> None:
        self._here(self._unwatch, watched, watcher)

    def _sender(self) -> str:
        on_loop = threading.get_ident() == self._thread
        sender = self.system.sender if on_loop else blocking_actor_here()
        return sender.name if sender is not None else ""

    def _checked(self, content: bytes, message: Any) -> bytes:
        if len(content) - LENGTH_BYTES > self._config.frame_bytes_max:
            what = f"a {type(message).__name__} of {len(content)} bytes"
            raise WireError(f"{what} does not fit into a frame of {self._config.frame_bytes_max} bytes")
        return content

    def _here(self, callback: Callable[..., object], *args: Any) -> None:
        """Call on the loop thread, now if this is it."""
        if threading.get_ident() == self._thread:
            callback(*args)
            return
        try:
            self.system.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError as ended:
            raise ActorDeadError("the loop of this process has ended") from ended

    # Sending

    def _send(
        self, to: RemoteRef, sender: str, message: Any, content: bytes,
        lost: Callable[[str], object], dropped: Callable[[str], object],
    ) -> None:  # fmt: skip
        """Queue a message. ``lost``: it could not leave; ``dropped``: a fault lets nobody know."""
        lane: Lane = "control" if type(message) in URGENT else "data"
        peer = self._bridge.peer(to.process)
        parcel = Parcel(content, lost, self._now())
        if self._faults.rules:
            deliver = partial(self._put_later, peer, peer.links_lost, lane, parcel)
            kind, source = type(message).__name__, self.system.address_of(sender)
            if self._faults.take(kind, source, to.address, len(content), deliver, dropped):
                return
        peer.put(lane, parcel)

    def _put_later(self, peer: Peer, link: int, lane: Lane, parcel: Parcel) -> None:
        """Hand over what belongs to that link of the peer, or to its first one."""
        if peer.links_lost != link:
            parcel.lost(f"the link to {peer.address} was lost meanwhile")
        else:
            self._bridge.peer(peer.address).put(lane, parcel)  # the peer may have been forgotten meanwhile

    def _question(
        self, to: RemoteRef, sender: str, message: Any, content: bytes, number: int, future: LoopFuture,
        timeout: float | None,
    ) -> None:  # fmt: skip
        peer = self._bridge.peer(to.process)
        what = type(message).__name__
        if len(peer.questions) >= self._config.questions_max:
            waiting = f"{len(peer.questions)} questions to {peer.address} wait already"
            _fail(future, Unsent(f"{what} was not sent: {waiting}. Nothing happened; ask again later."))
            return
        timer = None
        if timeout is not None:
            timer = self.system.loop.call_later(timeout, self._too_late, peer, number, timeout)
        peer.questions[number] = Question(future, timer, what, to.address, sender)
        unsent = partial(self._unsent, peer, number)
        self._send(to, sender, message, content, unsent, partial(self.system.dead_letter, to, message))

    def _unsent(self, peer: Peer, number: int, why: str) -> None:
        question = self._taken(peer, number)
        if question is not None:
            _fail(question.future, _not_sent(question.what, question.to, why))

    def give_up(self, peer: Peer, why: str) -> None:
        """There is no link, and there will be none: fail the questions that a fault has kept back or dropped, too."""
        for number in list(peer.questions):
            self._unsent(peer, number, why)

    def _too_late(self, peer: Peer, number: int, seconds: float) -> None:
        question = self._taken(peer, number)
        if question is not None:
            _fail(question.future, pykka.Timeout(f"{question.to} did not answer within {seconds:g} s"))

    def _taken(self, peer: Peer, number: int) -> Question | None:
        question = peer.questions.pop(number, None)
        if question is not None and question.timer is not None:
            question.timer.cancel()
        return question

    def _watch(self, watched: RemoteRef, watcher: Ref, number: int) -> None:
        peer = self._bridge.peer(watched.process)
        if (watcher, watched) in peer.watching:
            return
        peer.watches[number] = (watcher, watched)
        peer.watching[watcher, watched] = number
        lost = partial(self._terminated, peer, number)
        peer.put("data", Parcel(pack(wire.Watch(number, watched.name)), lost, self._now()))

    def _unwatch(self, watched: RemoteRef, watcher: Ref) -> None:
        peer = self._bridge.known_peer(watched.process)
        number = peer.watching.pop((watcher, watched), None) if peer is not None else None
        if peer is not None and number is not None:
            del peer.watches[number]
            if peer.up:
                peer.put("data", Parcel(pack(wire.Unwatch(number)), _unheeded, self._now()), exempt=True)

    def _terminated(self, peer: Peer, number: int, why: str) -> None:
        if number in peer.watches:
            watcher, watched = pair = peer.watches.pop(number)
            del peer.watching[pair]
            self._bridge.tell(watcher, Terminated(ref=watched, why=why))

    # Receiving

    def received(self, peer: Peer, connection: Connection, frame: wire.Frame) -> None:
        """A frame arrived over an open link. Raises WireError when it must end the link."""
        lane = connection.lane
        match frame:
            case wire.Tell():
                self._told(peer, frame)
            case wire.Ask():
                self._asked(peer, lane, frame)
            case wire.Answer():
                self._answered(peer, frame)
            case wire.Failure():
                self._failed(peer, frame)
            case wire.Stop():
                self._asked_to_stop(peer, lane, frame)
            case wire.Watch():
                self._watched(peer, frame)
            case wire.Unwatch():
                self._unwatched(peer, frame)
            case wire.Ended():
                self._terminated(peer, frame.number, frame.why)
            case wire.Ping():
                peer.put(lane, Parcel(pack(wire.Pong(frame.number)), _unheeded, self._now()))
            case wire.Pong():
                peer.ponged(lane, frame.number)
            case wire.Goodbye():
                connection.end()
                peer.ended(connection, f"it said goodbye: {shown(frame.reason)}")
            case wire.Refused():
                peer.lose(f"it refused: {shown(frame.reason)}")
            case wire.Code():
                self._coded(peer, lane, frame)
            case wire.CodeAnswer():
                self._answered(peer, frame)
            case wire.Hello() | wire.Challenge() | wire.Proof() | wire.Welcome():
                raise WireError(f"a {type(frame).__name__} frame after the handshake")
            case _:
                assert_never(frame)

    def _told(self, peer: Peer, frame: wire.Tell) -> None:
        try:
            message = self._wire.message(frame.type_name, frame.body)
        except WireError as error:
            self._undeliverable(peer, frame, str(error))
            return
        if self._faults.rules:
            deliver = partial(self._deliver, peer, peer.links_lost, frame, message)
            if self._kept_on_arrival(peer, frame, deliver):
                return
        self._deliver(peer, peer.links_lost, frame, message)

    def _deliver(self, peer: Peer, link: int, frame: wire.Tell | wire.Code, message: Any) -> None:
        ref = self.system.find(frame.to)
        if peer.links_lost != link:
            self._undeliverable(peer, frame, "its link was lost meanwhile")
        elif ref is None:
            self._undeliverable(peer, frame, "no actor here has that name")
        else:
            self._bridge.tell(ref, message)

    def _asked(self, peer: Peer, lane: Lane, frame: wire.Ask) -> None:
        try:
            message = self._wire.message(frame.type_name, frame.body)
        except WireError as error:
            self._undeliverable(peer, frame, str(error))
            self._fail_there(peer, peer.links_lost, lane, frame.number, WireError.__name__, str(error))
            return
        deliver = partial(self._deliver_question, peer, peer.links_lost, lane, frame, message)
        if not self._faults.rules or not self._kept_on_arrival(peer, frame, deliver):
            deliver()

    def _deliver_question(self, peer: Peer, link: int, lane: Lane, frame: wire.Ask | wire.Code, message: Any) -> None:
        ref = self.system.find(frame.to)
        if peer.links_lost != link:
            self._undeliverable(peer, frame, "its link was lost meanwhile")
        elif ref is None:
            self._undeliverable(peer, frame, "no actor here has that name")
            gone = f"there is no actor called {shown(frame.to)} at {self._bridge.address}"
            self._fail_there(peer, link, lane, frame.number, ActorDeadError.__name__, gone)
        else:
            answer = partial(self._here, self._answer, peer, link, lane, frame)
            future = cast(LoopFuture, ref.ask(message, block=False))
            future.asker = _address(peer, frame.sender) if frame.sender and frame.blocks else ""
            future.when_done(answer)

    def _coded(self, peer: Peer, lane: Lane, frame: wire.Code) -> None:
        """Code arrived. It is looked into only where that is allowed."""
        try:
            if not self.system.allow_code:
                raise CodeRefused(f"{self._bridge.address} refuses code: {CODE_REFUSED}. The code was not looked at.")
            order = self._loaded(frame.code)
        except (WireError, CodeRefused) as error:
            self._undeliverable(peer, frame, str(error))
            self._fail_there(peer, peer.links_lost, lane, frame.number, type(error).__name__, str(error))
            return
        deliver = partial(self._deliver_code, peer, peer.links_lost, lane, frame, order)
        if not self._faults.rules or not self._kept_on_arrival(peer, frame, deliver):
            deliver()

    def _deliver_code(self, peer: Peer, link: int, lane: Lane, frame: wire.Code, order: Any) -> None:
        if type(order) in _PROXYS_OWN:  # in the actor's mailbox, in order with what it is told
            if frame.number:
                self._deliver_question(peer, link, lane, frame, order)
            else:
                self._deliver(peer, link, frame, order)
            return
        from .code_frames import Spawn, perform, register

        future = LoopFuture()
        try:
            if isinstance(order, Spawn):
                register(order.messages, self._wire.forget)
            future.set(perform(self.system, frame.to, order))
        except (Exception, SystemExit) as error:
            _fail(future, error)
        self._answer(peer, link, lane, frame, future)

    def _loaded(self, code: bytes) -> Any:
        """What a peer has pickled. Raises WireError. Call it only where code is allowed."""
        from .code_frames import load

        if len(code) > self._config.code_bytes_max:
            raise WireError(f"{len(code)} bytes of code came, {self._config.code_bytes_max} are allowed")
        return load(code, self.system.resolve)

    def _kept_on_arrival(
        self, peer: Peer, frame: wire.Tell | wire.Ask | wire.Code, deliver: Callable[[], None]
    ) -> bool:
        source, to = _address(peer, frame.sender), self.system.address_of(frame.to)
        dropped = partial(self._undeliverable, peer, frame)
        return self._faults.take(frame.type_name, source, to, len(memoryview(frame.body)), deliver, dropped)

    def _undeliverable(self, peer: Peer, frame: wire.Tell | wire.Ask | wire.Code, why: str) -> None:
        self.system.dead_letter(frame.to, frame, f"{why} ({shown(frame.type_name)} from {peer.address})")

    def _answer(self, peer: Peer, link: int, lane: Lane, frame: wire.Ask | wire.Code, future: LoopFuture) -> None:
        """An actor here has answered a question from there, or code has."""
        try:
            value = future.get(timeout=0)
            content = self._answer_to(frame, value)
        except (Exception, SystemExit) as error:
            value = self._failure(frame.number, error)
            content = pack(value)
        if self._faults.rules:
            deliver = partial(self._reply, peer, link, lane, frame.number, value, content)
            source, to = self.system.address_of(frame.to), _address(peer, frame.sender)
            dropped = partial(self.system.dead_letter, to, value)
            if self._faults.take(type(value).__name__, source, to, len(content), deliver, dropped):
                return
        self._reply(peer, link, lane, frame.number, value, content)

    def _answer_to(self, frame: wire.Ask | wire.Code, value: Any) -> bytes:
        if isinstance(frame, wire.Ask):
            return self._checked(self._wire.answer(frame.number, value), value)
        from .code_frames import dump

        return pack(wire.CodeAnswer(frame.number, dump(value, self._config.code_bytes_max)))

    def _failure(self, number: int, error: BaseException) -> wire.Failure:
        """What was raised, as others are told it. Its type and its traceback only where code is allowed."""
        name, text = type(error).__name__, text_of(error)[:FAILURE_CHARACTERS_MAX]
        if not self.system.allow_code:
            return wire.Failure(number, name, text)
        from .code_frames import dump, with_trace

        try:
            code = dump(error, self._config.code_bytes_max)
        except WireError:
            code = b""
        return wire.Failure(number, name, text, code, with_trace(error)[-TRACE_CHARACTERS_MAX:])

    def _fail_there(self, peer: Peer, link: int, lane: Lane, number: int, error: str, text: str) -> None:
        failure = wire.Failure(number, error, text)
        self._reply(peer, link, lane, number, failure, pack(failure))

    def _reply(self, peer: Peer, link: int, lane: Lane, number: int, answer: Any, content: bytes) -> None:
        lost = partial(self._answer_lost, peer, link, lane, number, answer)
        self._put_later(peer, link, lane, Parcel(content, lost, self._now()))

    def _answer_lost(self, peer: Peer, link: int, lane: Lane, number: int, answer: Any, why: str) -> None:
        """Whoever asked must not wait for it. That the link was lost they know themselves."""
        self.system.dead_letter(f"whoever asked at {peer.address}", answer, why)
        if peer.links_lost != link:
            return
        config = self._config
        if len(peer.lanes[lane].queue) >= config.outbound_messages_max + config.questions_max:
            peer.lose(f"it asks and asks, and does not read: {why}")
            return
        # Let in though there is no room: there is one at most for each question that may be open.
        failure = wire.Failure(
            number, Unanswered.__name__, f"the answer was lost: {why}. It may have happened all the same."
        )
        peer.put(lane, Parcel(pack(failure), _unheeded, self._now()), exempt=True)

    def _answered(self, peer: Peer, frame: wire.Answer | wire.CodeAnswer) -> None:
        question = peer.questions.get(frame.number)
        if question is None:
            return  # it came too late: whoever asked was told so
        try:
            if isinstance(frame, wire.Answer):
                kind, size = frame.type_name, len(memoryview(frame.body))
                value = self._wire.answered(frame.type_name, frame.body)
            elif self.system.allow_code:
                kind, size = "", len(frame.code)
                value = self._loaded(frame.code)
            else:
                raise WireError(f"{peer.address} answers by code, and this process allows none")
        except WireError as error:
            self._taken(peer, frame.number)
            _fail(question.future, error)
            return
        deliver = partial(self._settle, peer, frame.number, value)
        if self._faults.rules:
            kind, to = kind or type(value).__name__, self.system.address_of(question.sender)
            dropped = partial(self.system.dead_letter, to, frame)
            if self._faults.take(kind, question.to, to, size, deliver, dropped):
                return
        deliver()

    def _settle(self, peer: Peer, number: int, value: Any) -> None:
        question = self._taken(peer, number)
        if question is not None:
            question.future.set(value)

    def _failed(self, peer: Peer, frame: wire.Failure) -> None:
        question = self._taken(peer, frame.number)
        if question is None:
            return
        error: BaseException
        if frame.error == ActorDeadError.__name__:
            error = ActorDeadError(frame.text)
        elif frame.error == Unanswered.__name__:
            error = Unanswered(frame.text)
        elif frame.error == CodeRefused.__name__:
            error = CodeRefused(frame.text)
        else:
            error = RemoteError(frame.error, frame.text)
        if self.system.allow_code and frame.code:
            with contextlib.suppress(WireError):  # its type is not known here
                raised = self._loaded(frame.code)
                # What says of a question that it was not answered is not for an answer to say.
                if isinstance(raised, Exception) and not isinstance(raised, ActorDeadError | pykka.Timeout):
                    error = raised
        if frame.trace:
            error.add_note(f"raised at {question.to}:\n{frame.trace}")
        _fail(question.future, error)

    def _asked_to_stop(self, peer: Peer, lane: Lane, frame: wire.Stop) -> None:
        ref = self.system.find(frame.to)
        if ref is None:
            self._stopped(peer, peer.links_lost, lane, frame.number, None)
        else:
            stopped = partial(self._here, self._stopped, peer, peer.links_lost, lane, frame.number)
            cast(LoopFuture, ref.ask(_ActorStop(), block=False)).when_done(stopped)

    def _stopped(self, peer: Peer, link: int, lane: Lane, number: int, future: LoopFuture | None) -> None:
        alive = future is not None and not isinstance(_failure(future), ActorDeadError)
        self._reply(peer, link, lane, number, alive, self._wire.answer(number, alive))

    def _watched(self, peer: Peer, frame: wire.Watch) -> None:
        ref = self.system.find(frame.to)
        if ref is None:
            self._say_ended(peer, frame.number, f"there is no actor called {shown(frame.to)} at {self._bridge.address}")
        elif len(peer.watched) >= self._config.watches_max:
            self._say_ended(peer, frame.number, f"one peer may watch {self._config.watches_max} actors, no more")
        else:
            ending = self._endings.get(frame.to)
            if ending is None:
                ending = self._endings[frame.to] = Ending(self, frame.to)
                self.system.death_watch(ending, ref)
            ending.watchers[peer, frame.number] = None
            peer.watched[frame.number] = ending

    def _unwatched(self, peer: Peer, frame: wire.Unwatch) -> None:
        ending = peer.watched.pop(frame.number, None)
        if ending is not None:
            ending.watchers.pop((peer, frame.number), None)

    def ended(self, ending: Ending, why: str) -> None:
        """A local actor that peers watch is gone."""
        self._endings.pop(ending.name, None)
        for peer, number in ending.watchers:
            peer.watched.pop(number, None)
            self._say_ended(peer, number, why)

    def _say_ended(self, peer: Peer, number: int, why: str) -> None:
        # Over the data lane, behind everything the actor said, and always let in: there is at most one for each watch.
        ended = pack(wire.Ended(number, why[:FAILURE_CHARACTERS_MAX]))
        peer.put("data", Parcel(ended, _unheeded, self._now()), exempt=True)

    # The end of a link

    def link_lost(self, peer: Peer, waiting: list[Parcel], why: str) -> None:
        """Nothing that waits or was under way arrives any more: settle it.

        Whoever hears of that may ask and watch anew at once, which is for the next link and none of this.
        """
        questions, watches = list(peer.questions), list(peer.watches)
        for parcel in waiting:
            parcel.lost(f"the link to {peer.address} was lost: {why}")
        for number, ending in peer.watched.items():
            ending.watchers.pop((peer, number), None)
        peer.watched.clear()
        for number in questions:
            question = self._taken(peer, number)
            if question is not None:
                text = f"the link to {peer.address} was lost before {question.what} was answered: {why}."
                _fail(question.future, Unanswered(f"{text} It may have happened all the same."))
        for number in watches:
            self._terminated(peer, number, f"the link to {peer.address} was lost: {why}")

    def _now(self) -> float:
        return self.system.loop.time()


def _answer_of(asked: RemoteRef, message: Any) -> LoopFuture:
    future = LoopFuture()
    future.asked, future.question = asked, type(message).__name__
    return future


def _not_sent(what: str, to: str, why: str) -> Unsent:
    return Unsent(f"{what} was not sent to {to}: {why}. Nothing happened; it is safe to ask again.")


def _address(peer: Peer, name: str) -> str:
    return f"{SCHEME}{peer.address}/{name}"


def _fail(future: LoopFuture, error: BaseException) -> None:
    future.set_exception((type(error), error, None))


def _failure(future: LoopFuture) -> BaseException | None:
    try:
        future.get(timeout=0)
    except Exception as error:
        return error
    return None


def _unheeded(why: str) -> None:
    """For frames that mean nothing once their link is lost."""
