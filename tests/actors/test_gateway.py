"""The gateway, driven by hand: order of replies, who answers what, authentication, what Redis clients see."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import hiredis
import pytest
from ringkeeper.actors import gateway
from ringkeeper.actors.gateway import (
    ANSWERED_BYTES_MAX,
    ANSWERING_SECONDS_MAX,
    ASKED_SECONDS_MAX,
    KEYS_PER_TURN_MAX,
    OBSERVE_SECONDS_MAX,
    QUESTION_SECONDS_MAX,
    QUESTIONS_PER_TURN_MAX,
    Gateway,
)
from ringkeeper.actors.messages import (
    LATER,
    Execute,
    Executed,
    Figures,
    ReportFigures,
    RingChanged,
    RunVerb,
    Settled,
    VerbRun,
)
from ringkeeper.actors.rules import cluster_view
from ringkeeper.actors.rules.commands import KEYS_MAX, WORDS_MAX
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import slot as slot_of
from ringkeeper.runtime.election import LeaderChanged
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.observer import Observed
from ringkeeper.runtime.resp import ConnectionLost, ConnectionMade, Requests
from ringkeeper.tests.actors.rules.rings import founded, lost

LEADER = b"ringkeeper://127.0.0.1:9/ecs"


class Client:
    """A connection as the edge would have it; what is written to it can be read as RESP."""

    def __init__(self, number: int, authenticated: bool) -> None:
        self.id, self.authenticated = number, authenticated
        self.address, self.local_address = f"127.0.0.1:{50_000 + number}", "127.0.0.1:7001"
        self.name, self.protocol, self.session = b"", 2, None
        self.made_at = self.active_at = 0.0
        self.closed = False
        self.answered = 0
        self._reader = hiredis.Reader()

    def write(self, data: bytes, answers: int = 1) -> None:
        assert not self.closed
        self.answered += answers
        self._reader.feed(data)

    def close_after_write(self) -> None:
        self.closed = True

    abort = close_after_write

    def replies(self) -> list[Any]:
        """What has arrived since the last look."""
        found = []
        while (reply := self._reader.gets()) is not False:
            found.append(reply)
        return found


class Edge:
    """The server's side of `Requests`."""

    def begin_anew(self, taken: Requests) -> None:
        pass


class Stage:
    def __init__(self, password: str = "", **options: Any) -> None:
        self.harness = Harness(
            Gateway, id="127.0.0.1:7001", storage="probe:storage", settings={"port": "7001", "appendfsync": "everysec"},
            password=password, **options,
        )  # fmt: skip
        self.password = password
        self.clients = 0
        self.executes: list[int] = []

    def client(self) -> Client:
        self.clients += 1
        client = Client(self.clients, not self.password)
        self.harness.tell(ConnectionMade(client))  # type: ignore[arg-type]
        return client

    def send(self, *asked: tuple[Client, list[str]]) -> list[tuple[str, Any]]:
        """Requests of one turn, from several clients."""
        requests = Requests(Edge())  # type: ignore[arg-type]
        for client, lines in asked:
            requests.join(client, [line.encode().split(b" ") for line in lines])  # type: ignore[arg-type]
        sent = self.harness.tell(requests)
        self.executes += [message.number for _, message in sent if isinstance(message, Execute)]
        return sent

    def executed(self, replies: list[Any]) -> None:
        """The storage node answers the Execute of the last turn."""
        later = sum(reply is LATER for reply in replies)
        self.harness.tell(Executed(number=self.executes[-1], replies=replies, later=later))

    def settled(self, index: int, reply: Any) -> None:
        self.harness.tell(Settled(replies=[(self.executes[-1], index, reply)]))

    def ask(self, client: Client, *lines: str) -> list[Any]:
        """The replies to requests that the gateway answers by itself."""
        assert self.send((client, list(lines))) == []
        return client.replies()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.harness.tell(RingChanged(ring=founded(3)))
    yield stage
    stage.harness.stop()


def test_the_data_commands_of_all_clients_in_a_turn_go_to_storage_as_one(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    ((to, execute),) = stage.send((ann, ["SET a 1", "GET a"]), (bob, ["get b"]))
    assert to == "storage" and isinstance(execute, Execute)
    assert [(command.name, args) for command, args in execute.requests] == [
        ("set", [b"SET", b"a", b"1"]), ("get", [b"GET", b"a"]), ("get", [b"get", b"b"]),
    ]  # fmt: skip
    assert ann.replies() == bob.replies() == []
    stage.executed([b"+OK\r\n", b"$1\r\n1\r\n", None])
    assert ann.replies() == [b"OK", b"1"] and bob.replies() == [None]


def test_replies_keep_each_connections_order_whoever_gives_them(stage: Stage) -> None:
    ann = stage.client()
    stage.send((ann, ["PING", "GET a", "ECHO hi", "NONSENSE", "GET b"]))
    assert ann.replies() == [], "the first reply waits for nothing, but all leave together"
    stage.executed([b"$1\r\n1\r\n", b"$1\r\n2\r\n"])
    replies = ann.replies()
    assert replies[:3] == [b"PONG", b"1", b"hi"] and replies[4] == b"2"
    assert "unknown command 'NONSENSE'" in str(replies[3])
    assert ann.answered == 5


def test_a_question_to_another_process_holds_up_what_came_after_it_on_its_connection_only(stage: Stage) -> None:
    stage.harness.tell(LeaderChanged(path="", data=LEADER, term=1))
    ann, bob = stage.client(), stage.client()
    ((_, verb),) = stage.send((ann, ["RING STATUS"]))
    assert isinstance(verb, RunVerb) and verb.verb == "STATUS"
    stage.send((ann, ["GET a"]), (bob, ["GET a"]))
    stage.executed([b"$1\r\n1\r\n", b"$1\r\n1\r\n"])
    assert bob.replies() == [b"1"] and ann.replies() == []
    stage.harness.tell(VerbRun(question=verb.question, text="{}"))
    assert ann.replies() == [b"{}", b"1"]


def test_a_leader_that_does_not_answer_is_an_error_after_a_while_and_its_late_answer_is_nothing(stage: Stage) -> None:
    stage.harness.tell(LeaderChanged(path="", data=LEADER, term=1))
    ann = stage.client()
    ((_, verb),) = stage.send((ann, ["RING STATUS"]))
    stage.harness.advance(QUESTION_SECONDS_MAX + 0.1)
    (reply,) = ann.replies()
    assert str(reply).startswith("TRYAGAIN")
    stage.harness.tell(VerbRun(question=verb.question, text="late"))
    assert ann.replies() == []
    stage.harness.tell(LeaderChanged(path="", data=None, term=-1))
    (reply,) = stage.ask(ann, "RING STATUS")
    assert "no ECS leads" in str(reply)


def test_an_answer_to_another_kind_of_question_or_nonsense_from_the_leader_is_nothing(stage: Stage) -> None:
    ann = stage.client()
    ((_, question),) = stage.send((ann, ["INFO"]))
    stage.harness.tell(VerbRun(question=question.question, text="late, for a former life"))
    assert ann.replies() == []
    stage.harness.advance(QUESTION_SECONDS_MAX + 0.1)
    assert len(ann.replies()) == 1
    for nonsense in (b"\xff\xfe", b"hello", b"ringkeeper://"):
        stage.harness.tell(LeaderChanged(path="", data=nonsense, term=1))
        stage.send((ann, ["RING STATUS"]))
        stage.harness.advance(QUESTION_SECONDS_MAX + 0.1)
        (reply,) = ann.replies()
        assert str(reply).startswith("TRYAGAIN")


def test_long_replies_are_written_one_by_one_so_that_the_edge_can_cut_off_in_between(stage: Stage) -> None:
    ann = stage.client()
    written: list[int] = []
    ann.write = lambda data, answers=1: written.append(len(data))  # type: ignore[method-assign]
    stage.send((ann, ["COMMAND"] * 100))
    assert len(written) == 100 and len(set(written)) == 1


def test_without_the_password_nothing_is_done_or_told() -> None:
    stage = Stage(password="secret")
    stage.harness.tell(RingChanged(ring=founded(1)))
    ann = stage.client()
    replies = stage.ask(ann, "GET a", "RING SHOW", "NONSENSE", "AUTH wrong", "AUTH someone secret", "CLUSTER NODES")
    assert [str(reply).split()[0] for reply in replies] == ["NOAUTH"] * 3 + ["WRONGPASS"] * 2 + ["NOAUTH"]
    assert stage.ask(ann, "AUTH secret") == [b"OK"] and ann.authenticated
    assert len(stage.send((ann, ["GET a"]))) == 1
    stage.harness.stop()


def test_a_reply_that_comes_later_holds_up_its_own_connection_only(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    stage.send((ann, ["SET a 1", "PING", "GET b"]), (bob, ["GET b", "SET c 1"]))
    stage.executed([LATER, None, b"$1\r\n1\r\n", b"+OK\r\n"])
    assert ann.replies() == [] and bob.replies() == [b"1", b"OK"]
    stage.settled(0, b"+OK\r\n")
    assert ann.replies() == [b"OK", b"PONG", None]


def test_a_reply_may_come_before_the_others_of_its_turn(stage: Stage) -> None:
    ann = stage.client()
    stage.send((ann, ["SET a 1", "SET b 1"]))
    stage.settled(1, b"-TRYAGAIN moving\r\n")
    stage.executed([b"+OK\r\n", LATER])
    assert [str(reply) for reply in ann.replies()] == ["b'OK'", "TRYAGAIN moving"]
    stage.send((ann, ["GET a"]))
    stage.executed([None])
    assert ann.replies() == [None]


def test_all_replies_may_come_before_the_word_that_they_come_later(stage: Stage) -> None:
    ann = stage.client()
    stage.send((ann, ["SET a 1", "SET b 1"]))
    stage.settled(1, b"+OK\r\n")
    stage.settled(0, b"-INDOUBT who knows\r\n")
    assert [str(reply) for reply in ann.replies()] == ["INDOUBT who knows", "b'OK'"]
    stage.executed([LATER, LATER])
    assert ann.replies() == []


def test_the_next_turns_replies_wait_for_one_that_comes_later(stage: Stage) -> None:
    ann = stage.client()
    stage.send((ann, ["SET a 1"]))
    stage.executed([LATER])
    first = stage.executes[-1]
    stage.send((ann, ["GET a"]))
    stage.executed([b"$1\r\n1\r\n"])
    assert ann.replies() == []
    stage.harness.tell(Settled(replies=[(first, 0, b"+OK\r\n")]))
    assert ann.replies() == [b"OK", b"1"]


def test_the_observer_of_any_process_is_asked_and_waited_for_as_long_as_its_word_may_take() -> None:
    stage = Stage()
    stage.harness.tell(RingChanged(ring=founded(3)), LeaderChanged(path="", data=LEADER, term=1))
    ann = stage.client()
    for where, process in (
        ("127.0.0.1:7002", "127.0.0.1:17002"), ("ecs", "127.0.0.1:9"), ("127.0.0.1:17003", "127.0.0.1:17003"),
    ):  # fmt: skip
        ((whom, asked),) = stage.send((ann, [f"RING OBSERVE {where} actors"]))
        assert whom == f"ringkeeper://{process}/observer"
        assert (asked.words, asked.text) == (("ACTORS",), "{}")
        stage.harness.tell(Observed(question=asked.question, text="[]"))
        assert ann.replies() == [b"[]"]
    ((_, asked),) = stage.send((ann, ['RING OBSERVE ecs ASK {"seconds":30}']))
    stage.harness.advance(OBSERVE_SECONDS_MAX + 29.0)
    assert ann.replies() == []
    stage.harness.advance(1.0)
    assert str(ann.replies()[0]) == "TRYAGAIN the leading ECS did not answer within 35 s"
    stage.harness.tell(Observed(question=asked.question, text="[]"))
    assert ann.replies() == [], "that was too late"
    stage.send((ann, [f'RING OBSERVE ecs ASK {{"seconds":{10**400}}}']))
    stage.harness.advance(OBSERVE_SECONDS_MAX + ASKED_SECONDS_MAX)
    assert str(ann.replies()[0]) == "TRYAGAIN the leading ECS did not answer within 65 s"
    for words, complaint in (
        ("RING OBSERVE nowhere ACTORS", "ERR 'nowhere' is no process"),
        ("RING OBSERVE here ACTORS [1]", "ERR the arguments are not a JSON object"),
        ("RING OBSERVE here ACTORS {} {}", "ERR RING OBSERVE takes one JSON object"),
    ):
        assert str(stage.ask(ann, words)[0]).startswith(complaint)


def test_one_request_is_as_much_work_as_one_turn_may_do_and_long_ones_together_little_more(stage: Stage) -> None:
    ann = stage.client()
    longest = "EXISTS" + " a" * KEYS_MAX
    turn = KEYS_PER_TURN_MAX // KEYS_MAX
    ((_, execute),) = stage.send((ann, [longest] * (turn + 1)), (stage.client(), ["GET a", "MSET" + " a v" * 400]))
    assert len(execute.requests) == turn + 2, "short ones are done, whatever comes with them"
    stage.executed([b":1\r\n"] * turn + [None, b"+OK\r\n"])
    *done, refused = ann.replies()
    assert done == [1] * turn and str(refused).startswith(
        "TRYAGAIN long requests that were sent at once name more than"
    )
    ((_, execute),) = stage.send((ann, [longest]))
    stage.executed([b":1\r\n"])
    assert ann.replies() == [1], "the next turn has its own time"
    for words, said in (
        ("MSET" + " a v" * (KEYS_MAX + 1), "ERR a request names at most 10000 keys, this one 10001; nothing was done"),
        ("SET a v" + " NX" * WORDS_MAX, "ERR a request of 'set' has at most 1000 words, this one has 1003"),
        ("HELLO 3" + " SETNAME ann" * WORDS_MAX, "ERR a request of 'hello' has at most 1000 words"),
        ("COMMAND INFO" + " ring" * WORDS_MAX, "ERR a request of 'command|info' has at most 1000 words"),
    ):
        assert str(stage.ask(ann, words)[0]).startswith(said)
    spelt = stage.ask(ann, "COMMAND INFO" + " ring" * 998)[0]
    assert len(spelt) == 998 and spelt[0] == spelt[-1] == stage.ask(ann, "COMMAND INFO ring")[0][0]


# More than one turn has time for


@pytest.fixture
def slow(stage: Stage) -> Stage:
    """Each look at the time finds a good quarter of what a turn has for answering gone."""
    looks = count(1)
    stage.harness.actor._stopwatch = lambda: next(looks) * ANSWERING_SECONDS_MAX * 0.26
    return stage


def turns_of(stage: Stage, look: Callable[[], Any], *asked: tuple[Client, list[str]]) -> list[Any]:
    """What is to be seen after each message that the gateway handles until all of this is answered."""
    seen: list[Any] = []

    def see(actor: Any, _: Any) -> None:
        actor.check()
        seen.append(look())

    stage.harness.system.after_message = see
    stage.send(*asked)
    return seen


def echoes(count: int, bytes_each: int = 0) -> list[str]:
    return [f"ECHO {number}{'.' * bytes_each}" for number in range(count)]


def test_who_asks_for_much_at_once_waits_for_further_turns_and_others_are_answered_in_each(slow: Stage) -> None:
    ann, bob, cora = slow.client(), slow.client(), slow.client()
    asked = (ann, echoes(20)), (bob, ["PING", "PING"]), (cora, ["PING"]), (ann, ["ECHO 20", "ECHO 21"])
    turns = turns_of(slow, lambda: (ann.answered, bob.answered, cora.answered), *asked)
    assert turns == [(5, 1, 1), (10, 2, 1), (15, 2, 1), (20, 2, 1), (22, 2, 1)]
    assert ann.replies() == [b"%d" % number for number in range(22)]


def test_those_who_ask_for_much_have_their_turns_one_after_the_other(slow: Stage) -> None:
    ann, bob = slow.client(), slow.client()
    turns = turns_of(slow, lambda: (ann.answered, bob.answered), (ann, echoes(24)), (bob, echoes(24)))
    assert turns == [(5, 1), (10, 2), (11, 7), (16, 8), (17, 13), (22, 14), (23, 19), (24, 24)]
    assert bob.replies() == [b"%d" % number for number in range(24)]


@pytest.mark.parametrize(
    ("asked", "by_turn"),
    [
        (["INFO"] * (2 * QUESTIONS_PER_TURN_MAX + 50), [QUESTIONS_PER_TURN_MAX, 2 * QUESTIONS_PER_TURN_MAX, 250]),
        (echoes(20, ANSWERED_BYTES_MAX // 8), [8, 16, 20]),
    ],
    ids=["questions", "bytes"],
)
def test_questions_and_bytes_of_a_turn_are_bounded(stage: Stage, asked: list[str], by_turn: list[int]) -> None:
    ann = stage.client()
    before = len(stage.harness.sent)
    assert turns_of(stage, lambda: len(stage.harness.sent) - before + ann.answered, (ann, asked)) == by_turn


def test_requests_of_further_turns_keep_their_order_their_protocol_and_their_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "ANSWERING_SECONDS_MAX", 0.0)  # no turn has time for a second answer
    ann = stage.client()
    written: list[bytes] = []
    ann.write = lambda data, answers=1: written.append(data)  # type: ignore[method-assign]
    asked = ["GET a", "HELLO 3", "GET b", "PING", "RING ACKS one", "SET c 1", "HELLO 2", "GET d", "QUIT", "SET e 1"]
    sent = stage.send((ann, asked))
    executes = [message for _, message in sent if isinstance(message, Execute)]
    asked_there = [[b" ".join(args) for _, args in execute.requests] for execute in executes]
    assert asked_there == [[b"GET a"], [b"GET b"], [b"SET c 1"], [b"GET d"]]
    assert [set(execute.eager) for execute in executes] == [set(), set(), {0}, set()]
    for execute in reversed(executes):
        assert not written
        replies: list[Any] = [None] * len(execute.requests)
        stage.harness.tell(Executed(number=execute.number, replies=replies, later=0))
    told = b"".join(written)
    assert told.startswith(b"$-1\r\n%7\r\n") and b"_\r\n+PONG\r\n+OK\r\n_\r\n*14\r\n" in told
    assert told.endswith(b"$-1\r\n+OK\r\n") and ann.closed


def test_a_client_that_goes_while_it_is_behind_is_forgotten(slow: Stage) -> None:
    ann = slow.client()
    slow.harness.system.after_message = lambda actor, _: ann.close_after_write()
    slow.send((ann, echoes(20)))
    assert ann.answered == 5 and not slow.harness.actor._behind


def test_a_number_that_is_none_or_too_long_is_refused_as_such(stage: Stage) -> None:
    ann = stage.client()
    digits = "9" * 5000
    asked = ["SELECT --5", f"SELECT {digits}", f"CLIENT LIST ID {digits}", "CLIENT LIST ID 1 x"]
    invalid, syntax = "ERR invalid DB index", "ERR syntax error"
    assert list(map(str, stage.ask(ann, *asked))) == [invalid, invalid, syntax, syntax]
    assert b"id=1 " in stage.ask(ann, "CLIENT LIST ID 7 1")[0]


def test_an_observer_is_told_whether_its_asker_has_proved_a_password() -> None:
    for password, allow_code, proven in (("", False, False), ("open sesame", False, True), ("", True, True)):
        stage = Stage(password=password)
        stage.harness.tell(RingChanged(ring=founded(3)), LeaderChanged(path="", data=LEADER, term=1))
        stage.harness.system.allow_code = allow_code
        ann = stage.client()
        ann.authenticated = True
        ((_, asked),) = stage.send((ann, ["RING OBSERVE ecs PY"]))
        assert asked.proven is proven
        stage.harness.stop()


def test_a_verb_that_changes_the_ring_is_for_this_host_or_for_who_knows_the_password() -> None:
    stage = Stage()
    stage.harness.tell(RingChanged(ring=founded(3)), LeaderChanged(path="", data=LEADER, term=1))
    near, far = stage.client(), stage.client()
    far.address = "10.0.0.9:51000"
    ((_, verb),) = stage.send((near, ["RING REMOVE 127.0.0.1:7002"]))
    assert (verb.verb, verb.arguments) == ("REMOVE", ("127.0.0.1:7002",))
    (refused,) = stage.ask(far, "RING REMOVE 127.0.0.1:7002")
    assert str(refused).startswith("NOPERM")
    assert str(stage.ask(far, "RING RECOVER 127.0.0.1:7002")[0]).startswith("NOPERM")
    assert str(stage.ask(far, "RING OBSERVE here ACTORS")[0]).startswith("NOPERM")
    assert [verb.verb for _, verb in stage.send((far, ["RING JOBS"]))] == ["JOBS"]
    stage.harness.stop()
    stage = Stage(password="open sesame")
    stage.harness.tell(RingChanged(ring=founded(3)), LeaderChanged(path="", data=LEADER, term=1))
    far = stage.client()
    far.address = "10.0.0.9:51000"
    assert "NOAUTH" in str(stage.ask(far, "RING REMOVE 127.0.0.1:7002")[0])
    far.authenticated = True
    assert [verb.verb for _, verb in stage.send((far, ["RING STOP"]))] == ["STOP"]
    stage.harness.stop()


def marked(sent: list[tuple[str, Any]]) -> tuple[set[bytes], set[bytes]]:
    """The keys of the eager and of the stale requests of a turn."""
    ((_, execute),) = sent
    return tuple({execute.requests[at][1][1] for at in positions} for positions in (execute.eager, execute.stale))  # type: ignore[return-value]


def test_reads_of_a_connection_that_said_readonly_may_be_stale_and_only_those(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    sent = stage.send((bob, ["GET a"]), (ann, ["GET b", "READONLY", "GET c", "SET d 1", "MGET e"]), (bob, ["GET g"]))
    assert marked(sent) == (set(), {b"c", b"e"})
    stage.executed([None] * 6)
    ann.replies()
    assert b" flags=r " in stage.ask(ann, "CLIENT INFO")[0]
    assert marked(stage.send((ann, ["GET h", "DBSIZE", "READWRITE", "GET i"]))) == (set(), {b"h"})
    stage.executed([None] * 3)
    assert ann.replies()[2] == b"OK"
    assert b" flags=N " in stage.ask(ann, "CLIENT INFO")[0]


def test_writes_of_a_connection_that_wants_one_copy_are_eager_and_only_those(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    sent = stage.send((ann, ["SET a 1", "RING ACKS ONE", "SET b 1", "GET c", "DEL d"]), (bob, ["SET e 1"]))
    assert marked(sent) == ({b"b", b"d"}, set())
    stage.executed([b"+OK\r\n"] * 5)
    assert ann.replies() == [b"OK"] * 5 and bob.replies() == [b"OK"]
    assert stage.ask(ann, "RING ACKS") == [b"one"] and stage.ask(bob, "RING ACKS") == [b"all"]
    assert marked(stage.send((ann, ["SET f 1", "ring acks all", "SET g 1"]))) == ({b"f"}, set())
    both = stage.ask(bob, "RING ACKS some", "RING ACKS all one")
    assert [str(reply) for reply in both] == ["ERR syntax error"] * 2


def test_what_a_connection_has_not_said_is_as_the_ring_says(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    assert stage.ask(bob, "RING ACKS all") == [b"OK"]
    ring = founded(3)
    stage.harness.tell(RingChanged(ring=replace(ring, epoch=2, acks="one")))
    late = stage.client()
    assert marked(stage.send((ann, ["SET a 1"]), (bob, ["SET b 1"]), (late, ["SET c 1"]))) == ({b"a", b"c"}, set())
    stage.executed([b"+OK\r\n"] * 3)
    assert bob.replies() == [b"OK"] and stage.ask(bob, "RING ACKS DEFAULT", "RING ACKS") == [b"OK", b"one"]
    stage.harness.tell(RingChanged(ring=replace(ring, epoch=3)))
    assert marked(stage.send((ann, ["SET a 1"]), (bob, ["SET b 1"]))) == (set(), set())


def test_nothing_is_answered_alone_by_the_ring_that_could_not_be_noted_first() -> None:
    troubles, noted = [OSError("no space left")], []

    def note() -> None:
        if troubles:
            raise troubles.pop()
        noted.append(True)

    stage = Stage(note_answered_alone=note)
    ann = stage.client()
    ring = replace(founded(3), acks="one")
    stage.harness.tell(RingChanged(ring=ring))
    assert not noted and stage.ask(ann, "RING ACKS") == [b"all"]
    stage.harness.tell(RingChanged(ring=replace(ring, epoch=2)))
    assert noted and stage.ask(ann, "RING ACKS") == [b"one"]
    stage.harness.stop()


def test_reset_takes_both_modes_back(stage: Stage) -> None:
    ann = stage.client()
    assert stage.ask(ann, "READONLY", "RING ACKS one", "RESET") == [b"OK", b"OK", b"RESET"]
    assert marked(stage.send((ann, ["SET a 1", "GET b"]))) == (set(), set())


def test_wait_is_the_storage_nodes_once_its_numbers_are_numbers(stage: Stage) -> None:
    ann = stage.client()
    refused = stage.ask(ann, "WAIT x 1", "WAIT 1 1.5", "WAIT 1 -1", "WAIT 1")
    assert [str(reply) for reply in refused] == [
        "ERR value is not an integer or out of range",
        "ERR timeout is not an integer or out of range",
        "ERR timeout is negative",
        "ERR wrong number of arguments for 'wait' command",
    ]
    ((_, execute),) = stage.send((ann, ["SET a 1", "WAIT 2 100"]))
    assert [command.name for command, _ in execute.requests] == ["set", "wait"]
    stage.executed([b"+OK\r\n", LATER])
    stage.settled(1, b":2\r\n")
    assert ann.replies() == [b"OK", 2]


def test_hello_chooses_the_protocol_and_says_who_answers(stage: Stage) -> None:
    ann = stage.client()
    (hello,) = stage.ask(ann, "HELLO 3 SETNAME ann")
    assert hello[b"proto"] == 3 and hello[b"mode"] == b"cluster" and ann.name == b"ann"
    stage.send((ann, ["GET nothing"]))
    stage.executed([None])
    assert ann.replies() == [None] and ann.protocol == 3
    assert [str(r).split()[0] for r in stage.ask(ann, "HELLO 9", "HELLO x", "HELLO 2 DANCE")] == [
        "NOPROTO",
        "ERR",
        "ERR",
    ]
    assert ann.protocol == 3
    assert stage.ask(ann, "RESET") == [b"RESET"] and ann.protocol == 2


def test_quit_closes_after_the_replies_before_it(stage: Stage) -> None:
    ann = stage.client()
    stage.send((ann, ["GET a", "QUIT"]))
    assert not ann.closed
    stage.executed([b"$1\r\n1\r\n"])
    assert ann.replies() == [b"1", b"OK"] and ann.closed


def test_what_was_asked_after_quit_is_not_done(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    ((_, execute),) = stage.send((ann, ["SET a 1", "QUIT", "SET a 2"]), (bob, ["GET b"]), (ann, ["SET a 3"]))
    assert [args for _, args in execute.requests] == [[b"SET", b"a", b"1"], [b"GET", b"b"]]
    stage.executed([b"+OK\r\n", None])
    assert ann.replies() == [b"OK", b"OK"] and ann.closed and bob.replies() == [None]


def test_who_closes_its_own_connection_still_gets_the_reply(stage: Stage) -> None:
    ann = stage.client()
    assert stage.ask(ann, f"CLIENT KILL ID {ann.id} SKIPME no", "PING") == [1] and ann.closed


def test_each_reply_is_spelt_in_the_protocol_of_its_time(stage: Stage) -> None:
    ann = stage.client()
    written: list[bytes] = []
    ann.write = lambda data, answers=1: written.append(data)  # type: ignore[method-assign]
    stage.send((ann, ["GET a", "HELLO 3", "GET b", "PING", "HELLO 2", "GET c"]))
    stage.executed([None, None, None])
    sent = b"".join(written)
    assert sent.startswith(b"$-1\r\n%7\r\n") and b"_\r\n+PONG\r\n*14\r\n" in sent and sent.endswith(b"$-1\r\n")


def test_a_client_that_has_gone_leaves_the_others_replies_in_place(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    stage.send((ann, ["GET a"]), (bob, ["GET b"]))
    stage.harness.tell(ConnectionLost(ann))  # type: ignore[arg-type]
    stage.executed([b"$1\r\n1\r\n", b"$1\r\n2\r\n"])
    assert bob.replies() == [b"2"]


def test_the_cluster_is_shown_as_redis_clients_expect_it(stage: Stage) -> None:
    ann = stage.client()
    slots, shards, nodes, info, my_id = stage.ask(
        ann, "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES", "CLUSTER INFO", "CLUSTER MYID"
    )
    assert [row[:2] for row in slots] == [[0, 5460], [5461, 10921], [10922, 16383]]
    assert sum(row[2][:2] == [b"127.0.0.1", 7001] for row in slots) == 1
    assert len(shards) == 3
    lines = nodes.decode().splitlines()
    assert [line.split()[1] for line in lines if "myself" in line] == ["127.0.0.1:7001@17001"]
    assert all(len(line.split()) == 9 for line in lines)
    assert b"cluster_state:ok" in info and b"cluster_current_epoch:1" in info
    assert any(line.startswith(my_id.decode()) and "myself" in line for line in lines)


def test_what_is_told_of_a_ring_is_found_out_once_however_many_ask(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    shards = cluster_view.shards

    def find(ring: Ring) -> Any:
        found.append(ring.epoch)
        return shards(ring)

    monkeypatch.setattr(cluster_view, "shards", find)
    ann, bob = stage.client(), stage.client()
    first, again = stage.ask(ann, "CLUSTER SHARDS", "CLUSTER SHARDS")
    assert stage.ask(bob, "CLUSTER SHARDS", "RING SHOW") == [first, founded(3).to_json()] and first == again
    stage.ask(bob, "HELLO 3")
    assert stage.ask(bob, "CLUSTER SHARDS")[0][0][b"slots"] == first[0][1] and found == [1, 1], "a map is another one"
    stage.harness.tell(RingChanged(ring=lost(founded(3), "127.0.0.1:7002")))
    assert stage.ask(ann, "CLUSTER SHARDS")[0] != first and found == [1, 1, 2]


def test_the_slots_of_a_node_that_is_down_are_not_covered(stage: Stage) -> None:
    ring = founded(3)
    stage.harness.tell(RingChanged(ring=lost(ring, "127.0.0.1:7002")))
    slots, info, nodes = stage.ask(stage.client(), "CLUSTER SLOTS", "CLUSTER INFO", "CLUSTER NODES")
    assert len(slots) == 2 and b"cluster_state:fail" in info and b"master,fail" in nodes


def test_the_ring_is_shown_in_our_own_words(stage: Stage) -> None:
    shown, keyrange, located = stage.ask(stage.client(), "RING SHOW", "RING KEYRANGE", "RING LOCATE user:42")
    assert Ring.from_json(shown) == founded(3)
    assert keyrange.decode() == founded(3).keyrange()
    located = json.loads(located)
    assert located["slot"] == slot_of(b"user:42") and located["coordinator"].startswith("127.0.0.1:")


def test_info_has_the_storage_nodes_figures(stage: Stage) -> None:
    ann = stage.client()
    ((_, question),) = stage.send((ann, ["INFO"]))
    assert isinstance(question, ReportFigures)
    figures = Figures(
        question=question.question, node="", incarnation="", pid=1, epoch=1, keys=7, bytes=70, commands=1, writes=3,
        refused=0, synced=True,
    )  # fmt: skip
    stage.harness.tell(figures)
    (info,) = ann.replies()
    assert b"cluster_enabled:1" in info and b"db0:keys=7," in info and b"total_writes_processed:3" in info
    assert b"\r\nprocess_id:1\r\n" in info


def test_info_counts_successors_as_redis_counts_replicas(stage: Stage) -> None:
    stage.harness.tell(RingChanged(ring=lost(founded(3, replicas=3), "127.0.0.1:7003")))
    ann = stage.client()
    stage.send((ann, ["INFO replication"]))
    stage.harness.advance(QUESTION_SECONDS_MAX + 0.1)
    assert ann.replies() == [
        b"# Replication\r\nrole:master\r\nconnected_slaves:1\r\nslave0:ip=127.0.0.1,port=7002,state=online\r\n"
    ]


def test_settings_are_shown_and_only_what_they_are_may_be_set(stage: Stage) -> None:
    ann = stage.client()
    shown, same, other, unknown = stage.ask(
        ann, "CONFIG GET append* port", "CONFIG SET appendfsync everysec", "CONFIG SET appendfsync no", "CONFIG SET x 1"
    )
    (long,) = stage.ask(ann, "CONFIG GET " + "*a" * 4096)
    (many,) = stage.ask(ann, "CONFIG GET " + " ".join(f"a*{n}*[a-z]?" for n in range(900)))
    assert "patterns have at most 4096 bytes together" in str(long) == str(many)
    assert shown == [b"appendfsync", b"everysec", b"port", b"7001"] and same == b"OK"
    assert "can't set immutable config" in str(other) and "Unknown option" in str(unknown)


def test_clients_are_listed_and_can_be_closed(stage: Stage) -> None:
    ann, bob = stage.client(), stage.client()
    listed, named, name = stage.ask(ann, "CLIENT LIST", "CLIENT SETNAME ann", "CLIENT GETNAME")
    assert listed.count(b"\n") == 2 and named == b"OK" and name == b"ann"
    assert stage.ask(ann, f"CLIENT KILL ID {bob.id}", "CLIENT KILL ADDR 1.2.3.4:5") == [1, 0]
    assert bob.closed and not ann.closed
    bad = stage.ask(ann, "CLIENT KILL DANCE 1", "CLIENT SETINFO LIB-NAME a\tb", "SELECT 1", "SELECT x", "SELECT 0")
    assert [str(r).split()[0] for r in bad[:4]] == ["ERR"] * 4 and bad[4] == b"OK"
