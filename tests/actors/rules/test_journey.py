"""One story of what several processes have seen of a trace."""

from typing import Any

import pytest
from ringkeeper.actors.rules.journey import as_diagram, as_table, merged

A, B = "ringkeeper://a:1/", "ringkeeper://b:1/"


def record(
    process: str, at: float, sender: str, to: str, number: int, type: str = "Append", **more: Any
) -> dict[str, Any]:
    sent = bool(more.pop("sent", False))
    times = {"waited": None, "worked": None} if sent else {"waited": 0.0, "worked": 0.001}
    known = {"actor": to.rpartition("/")[2], "epoch": 3, "what": "put k", "sent": sent, "number": number}
    return {"at": at, "process": process, "type": type, "sender": sender, "to": to, **known, **times, **more}


def parts(skew: float, back: bool = True) -> list[dict[str, Any]]:
    """A tells B at 10.000, which arrives at 10.004 and is answered, which arrives at 10.008; B's clock is wrong."""
    answers = [
        record("b", 10.004 + skew, B + "replica", A + "replicator", 2, "Appended", sent=True),
        record("a", 10.008, B + "replica", A + "replicator", 2, "Appended"),
    ]
    sent = record("a", 10.0, A + "replicator", B + "replica", 1, sent=True)
    arrived = record("b", 10.004 + skew, A + "replicator", B + "replica", 1)
    return [
        {"address": A, "process": "a", "records": [sent, *answers[1:][: int(back)]]},
        {"address": B, "process": "b", "records": [arrived, *answers[:1][: int(back)]]},
    ]


@pytest.mark.parametrize("skew", [0.0, 0.003, -0.003, 5.0, -5.0])
def test_nothing_arrives_before_it_was_sent_whatever_the_clocks_say(skew: float) -> None:
    hops = merged(parts(skew))
    assert [(hop.process, hop.actor, hop.type, hop.under_way) for hop in hops] == [
        ("b", "replica", "Append", False),
        ("a", "replicator", "Appended", False),
    ]
    assert all(hop.travelled is not None and hop.travelled >= 0 for hop in hops)
    assert sum(hop.travelled or 0 for hop in hops) == pytest.approx(0.008)
    if abs(skew) < 0.004:
        assert hops[0].at == pytest.approx(10.004 + skew), "clocks that do not contradict each other are believed"


@pytest.mark.parametrize("skew", [-5.0, 5.0])
def test_one_way_alone_is_never_negative(skew: float) -> None:
    [hop] = merged(parts(skew, back=False))
    assert hop.travelled == pytest.approx(max(0.0, 0.004 + skew))


def test_what_arrived_nowhere_is_under_way() -> None:
    first, second = parts(0.0)
    [hop, *_] = merged([first, {**second, "records": []}])
    assert hop.under_way and hop.process == "b" and hop.sender_process == "a"
    [hop, *_] = merged([first])
    assert hop.process == "b:1", "who was not asked goes by its address"


def test_a_message_that_was_sent_twice_and_arrived_once_is_there_once_more() -> None:
    first, second = parts(0.0)
    again = record("a", 10.001, A + "replicator", B + "replica", 9, sent=True)
    hops = merged([{**first, "records": [*first["records"], again]}, second])
    assert [(hop.type, hop.under_way) for hop in hops] == [("Append", True), ("Append", False), ("Appended", False)]


def test_a_story_is_a_table_and_a_diagram() -> None:
    first, second = parts(0.0)
    asked = record("a", 9.999, "", A + "gateway", 0, "Requests", waited=0.0002, what="SET k of 1:2")
    lost = record("a", 10.009, A + "replicator", B + "replica", 7, sent=True, what="put k again")
    hops = merged([{**first, "records": [asked, *first["records"], lost]}, second])
    assert as_table(hops) == [
        " at ms  process  actor       message   from          way ms  waited     worked  epoch  what",
        " 0.000  a        gateway     Requests                         0.200      1.000      3  SET k of 1:2",
        " 5.000  b        replica     Append    a replicator   4.000   0.000      1.000      3  put k",
        " 9.000  a        replicator  Appended  b replica      4.000   0.000      1.000      3  put k",
        "10.000  b        replica     Append    a replicator                  under way      3  put k again",
    ]
    assert as_diagram(hops) == [
        "   clients         a            a            b",
        "                gateway     replicator    replica",
        "      |--Requests->|            |            |           0.000 ms",
        "      |            |            |---Append-->|           5.000 ms",
        "      |            |            |<-Appended--|           9.000 ms",
        "      |            |            |...Append..x|          10.000 ms",
    ]
    assert as_table([]) == [] and as_diagram([]) == []
