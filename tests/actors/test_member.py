"""Membership: what is registered, which rings are taken, and when a life is over."""

from dataclasses import replace
from typing import Any

import pytest
from ringkeeper.actors.member import (
    HURT_SECONDS,
    KEEP_AGAIN_SECONDS,
    LEAVE_LINGER_SECONDS,
    REST_LINGER_SECONDS,
    Member,
)
from ringkeeper.actors.messages import (
    CopyDamaged,
    DamageFound,
    HoldsNothingForeign,
    NoLongerWhole,
    RingChanged,
    SyncFailed,
)
from ringkeeper.actors.rules import paths
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.transitions import advanced, begun, committed, found, queued, returned
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.session import Answered, Connected, CreateNode, DeleteNode, Lost, NodeChanged, SetNode
from ringkeeper.tests.actors.rules.rings import founded, hex64, lost, registration

CLUSTER = "demo"


def life(number: int, incarnation: int = 1) -> Registration:
    return registration(f"127.0.0.1:{7000 + number}", incarnation)


def first_ring() -> Ring:
    return founded(2)


class Shelf:
    """An archive in memory that notes when it was written."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        self.content = content


class Stage:
    def __init__(self, mine: Registration, archive: Shelf) -> None:
        self.archive = archive
        self.ends: list[str] = []
        self.harness = Harness(
            Member, life=mine, cluster_name=CLUSTER, watches="probe:watches", archive=archive, listeners=(),
            start_again=self.ends.append,
        )  # fmt: skip
        self.harness.actor._listeners = (self.harness.probe("storage"), self.harness.probe("gateway"))

    def read(self, ring: Ring | bytes | None) -> list[tuple[str, Any]]:
        data = ring.to_json() if isinstance(ring, Ring) else ring
        return self.harness.tell(NodeChanged(path=paths.ring(CLUSTER), data=data, version=0))


@pytest.fixture
def stage() -> Any:
    stage = Stage(life(1), Shelf())
    yield stage
    stage.harness.stop()


def created(sent: list[tuple[str, Any]]) -> CreateNode:
    (message,) = [message for _, message in sent if isinstance(message, CreateNode)]
    return message


def updated(sent: list[tuple[str, Any]]) -> Registration:
    (message,) = [message for _, message in sent if isinstance(message, SetNode)]
    return Registration.from_json(message.data)


def test_a_node_registers_its_life_under_its_session(stage: Stage) -> None:
    create = created(stage.harness.tell(Connected(session_id=0xABC, timeout_seconds=6.0)))
    assert create.path == f"{paths.nodes(CLUSTER)}/{life(1).id}@{life(1).incarnation}.0000000000000abc"
    assert create.ephemeral and Registration.from_json(create.data) == life(1)


def test_a_new_session_registers_the_same_life_before_the_old_registration_goes(stage: Stage) -> None:
    first = created(stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))
    stage.harness.tell(Answered(request=first.request, path=first.path))
    stage.harness.tell(Lost())
    second = created(stage.harness.tell(Connected(session_id=2, timeout_seconds=6.0)))
    assert second.path != first.path
    ((_, removal),) = stage.harness.tell(Answered(request=second.request, path=second.path))
    assert isinstance(removal, DeleteNode) and removal.path == first.path


def test_a_suspended_session_that_is_back_registers_nothing_anew(stage: Stage) -> None:
    stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0))
    assert stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0)) == []


def test_a_registration_that_failed_is_tried_again(stage: Stage) -> None:
    first = created(stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))
    assert stage.harness.tell(Answered(request=first.request, error="connection_loss", path=first.path)) == []
    assert created(stage.harness.advance(1.1)).path == first.path


def test_a_registration_says_which_ring_the_node_has_taken(stage: Stage) -> None:
    first = created(stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))
    stage.harness.tell(Answered(request=first.request, path=first.path))
    sent = stage.read(first_ring())
    assert updated(sent) == replace(life(1), held=first_ring().stamp)
    (update,) = [m for _, m in sent if isinstance(m, SetNode)]
    assert (update.path, update.version) == (first.path, -1)
    assert stage.harness.tell(Answered(request=update.request, path=update.path, version=1)) == []


def test_a_registration_that_is_gone_when_it_is_updated_is_made_again_with_the_new_content(stage: Stage) -> None:
    first = created(stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))
    stage.read(first_ring())
    again = created(stage.harness.tell(Answered(request=first.request, error="no_node", path=first.path)))
    assert again.path == first.path and Registration.from_json(again.data).held == first_ring().stamp


def test_a_registration_that_stands_already_is_given_the_content_that_is_true_now(stage: Stage) -> None:
    first = created(stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))
    stage.harness.tell(Answered(request=first.request, error="connection_loss", path=first.path))
    stage.read(first_ring())
    stage.harness.advance(1.1)
    sent = stage.harness.tell(Answered(request=first.request, error="node_exists", path=first.path))
    assert updated(sent).held == first_ring().stamp


def test_a_ring_is_on_disk_when_the_others_hear_of_it(stage: Stage) -> None:
    ring = first_ring()
    assert stage.read(ring) == [("storage", RingChanged(ring=ring)), ("gateway", RingChanged(ring=ring))]
    assert stage.archive.content == ring.to_json()


def test_a_ring_that_cannot_be_written_to_disk_is_not_told(stage: Stage) -> None:
    def refuse(content: bytes) -> None:
        raise OSError("no space left on device")

    stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0))
    stage.archive.write = refuse  # type: ignore[method-assign]
    assert stage.read(first_ring()) == []
    assert stage.harness.advance(60.0) == [] and stage.harness.actor._ring is None
    del stage.archive.write
    sent = stage.harness.advance(KEEP_AGAIN_SECONDS + 0.1)
    assert [m.ring for _, m in sent if isinstance(m, RingChanged)] == [first_ring()] * 2
    assert updated(sent).held == first_ring().stamp
    assert stage.archive.content == first_ring().to_json()


def test_only_the_newest_of_the_rings_that_found_no_room_is_put_on_disk_later(stage: Stage) -> None:
    def refuse(content: bytes) -> None:
        raise OSError("no space left on device")

    stage.archive.write = refuse  # type: ignore[method-assign]
    second = lost(first_ring(), life(2).id)
    stage.read(first_ring())
    stage.read(second)
    del stage.archive.write
    sent = stage.harness.advance(3 * KEEP_AGAIN_SECONDS)
    assert [m.ring for _, m in sent if isinstance(m, RingChanged)] == [second] * 2


def test_a_ring_that_is_gone_before_there_was_room_for_it_is_not_taken(stage: Stage) -> None:
    def refuse(content: bytes) -> None:
        raise OSError("no space left on device")

    stage.archive.write = refuse  # type: ignore[method-assign]
    stage.read(first_ring())
    stage.read(None)
    del stage.archive.write
    assert stage.harness.advance(3 * KEEP_AGAIN_SECONDS) == []


def test_after_a_restart_clients_are_told_of_the_ring_on_disk_at_once() -> None:
    stage = Stage(life(1, incarnation=2), Shelf(first_ring().to_json()))
    assert stage.harness.actor._ring == first_ring()
    stage.harness.stop()


@pytest.mark.parametrize("kind", ["older", "foreign", "garbage", "gone"])
def test_a_ring_that_does_not_follow_the_one_held_changes_nothing(stage: Stage, kind: str) -> None:
    first = first_ring()
    second = lost(first, life(2).id)
    stage.read(second)
    bad: dict[str, Ring | bytes | None] = {
        "older": first,
        "foreign": found(
            [life(1)], cluster_id="00000000000000bb", cluster_name=CLUSTER, nonce=hex64(8), wall_seconds=0, replicas=1
        ),
        "garbage": b"{",
        "gone": None,
    }
    assert stage.read(bad[kind]) == []
    assert stage.archive.content == second.to_json()
    assert stage.ends == []


@pytest.mark.parametrize("there", [first_ring(), None])
def test_who_does_not_take_an_older_ring_says_again_what_it_holds(stage: Stage, there: Ring | None) -> None:
    second = lost(first_ring(), life(2).id)
    stage.harness.tell(Connected(session_id=1, timeout_seconds=6.0))
    stage.read(second)
    assert updated(stage.read(there)).held == second.stamp


def test_a_node_that_was_away_for_a_hundred_rings_takes_the_one_that_is_there(stage: Stage) -> None:
    stage.read(first_ring())
    ring = first_ring()
    for _ in range(100):
        ring = ring.amended(nonce=hex64(1000 + ring.epoch), what="nothing", why="a test", wall_seconds=0.0)
    assert stage.read(ring) == [("storage", RingChanged(ring=ring)), ("gateway", RingChanged(ring=ring))]


def test_a_life_that_the_ring_calls_down_is_over(stage: Stage) -> None:
    stage.read(first_ring())
    assert stage.ends == []
    stage.read(lost(first_ring(), life(1).id))
    assert len(stage.ends) == 1


def test_a_life_that_another_has_followed_is_over(stage: Stage) -> None:
    stage.read(first_ring())
    stage.read(returned(first_ring(), [life(1, incarnation=2)], nonce=hex64(9), wall_seconds=1))
    assert len(stage.ends) == 1


def out(ring: Ring, **more: Any) -> Ring:
    """The next ring, in which the first node has left."""
    nodes = tuple(replace(node, state="out", **more) if node.id == life(1).id else node for node in ring.nodes)
    fields: dict[str, Any] = {"what": "remove", "why": "asked", "wall_seconds": 2.0}
    return ring.amended(nonce=hex64(ring.epoch + 1), nodes=nodes, **fields)


@pytest.mark.parametrize("case", ["unseen", "sent away", "known", "given up", "another folder", "asked for again"])
def test_who_was_called_down_while_it_was_leaving_and_reads_that_it_has_left_ends_once_it_holds_nothing(
    case: str,
) -> None:
    down = lost(founded(4, replicas=3), life(1).id)
    left = out(down, given_up=case == "given up")
    me = registration(life(1).id, 2, data_id=hex64(99) if case == "another folder" else None)
    kept = founded(["127.0.0.1:7009"]) if case == "sent away" else left if case == "known" else down
    stage = Stage(me, Shelf(kept.to_json()))
    told: list[Any] = []
    stage.harness.actor._note_left = told.append
    stage.harness.actor._leave = lambda why: told.append("left")
    stage.read(left)
    leaves = case in ("unseen", "sent away", "asked for again")
    assert told == ([True] if leaves else []) and not stage.ends
    if case == "asked for again":
        fields: dict[str, Any] = {"why": "asked", "wall_seconds": 3.0}
        left = queued(left, "add", [me.id], nonce=hex64(8), **fields)
        stage.read(begun(left, left.queue[0], [me], nonce=hex64(9), **fields))
        assert told.pop() is False
    stage.harness.tell(HoldsNothingForeign())
    assert told[1:] == (["left"] if leaves and case != "asked for again" else []) and not stage.ends
    stage.harness.stop()


def test_a_new_life_waits_for_a_ring_that_names_it() -> None:
    stage = Stage(life(1, incarnation=2), Shelf())
    assert [name for name, _ in stage.read(first_ring())] == ["storage", "gateway"]
    assert stage.ends == []
    stage.read(returned(first_ring(), [life(1, incarnation=2)], nonce=hex64(9), wall_seconds=1))
    assert stage.ends == []
    stage.harness.stop()


def test_who_may_lack_something_after_a_power_cut_says_so_until_the_ring_calls_it_up(stage: Stage) -> None:
    ring, noted = first_ring(), list[str]()
    me = replace(life(1, 2), whole=False, held=ring.stamp)
    member = Stage(me, Shelf(ring.to_json()))
    member.harness.actor._note_whole = lambda: noted.append("whole")
    create = created(member.harness.tell(Connected(session_id=1, timeout_seconds=6.0)))
    assert not Registration.from_json(create.data).whole
    down = lost(ring, life(1).id)
    assert not updated(member.read(down)).whole and not noted
    up = returned(replace(down, replicas=1), [me], nonce=hex64(3), wall_seconds=1.0)
    assert updated(member.read(up)).whole and noted == ["whole"]
    member.harness.stop()


def taken_down_in_order(stage: Stage, ring: Ring) -> Ring:
    """The first node reads that it is to be restarted, and the ring that calls it down for that, which is returned."""
    fields: dict[str, Any] = {"why": "asked", "wall_seconds": 1.0}
    ring = queued(ring, "rest", [life(1).id], nonce=hex64(2), **fields)
    ring = begun(ring, ring.queue[0], nonce=hex64(3), **fields)
    for nonce in (4, 5):
        ring = advanced(ring, nonce=hex64(nonce), **fields)
    stage.read(ring)
    stage.read(down := committed(ring, nonce=hex64(6), **fields))
    return down


def test_a_node_that_is_taken_down_in_order_answers_moved_for_a_while_before_it_starts_again(stage: Stage) -> None:
    down = taken_down_in_order(stage, founded(3, replicas=3))
    stage.read(lost(down, life(2).id))
    assert stage.ends == []
    stage.harness.advance(REST_LINGER_SECONDS + 0.01)
    assert len(stage.ends) == 1 and "is to be restarted" in stage.ends[0]


def test_who_is_removed_just_after_it_was_taken_down_to_be_restarted_has_no_next_life(stage: Stage) -> None:
    stage.read(out(taken_down_in_order(stage, founded(4, replicas=3))))
    stage.harness.advance(LEAVE_LINGER_SECONDS + 0.1)
    assert stage.ends == []


@pytest.mark.parametrize("others_are_up", [True, False])
def test_a_damaged_store_is_put_aside_only_once_the_ring_has_others_answer_for_it(others_are_up: bool) -> None:
    stage, noted = Stage(life(1), Shelf()), list[str]()
    stage.harness.actor._note_damaged = noted.append
    ring = founded(2, replicas=2)
    stage.read(ring)
    stage.harness.tell(CopyDamaged(node=life(1).id, incarnation=life(1).incarnation, why="a bit is flipped"))
    assert not noted and not stage.ends
    stage.read(lost(ring, life(1).id) if others_are_up else lost(ring, life(1).id, life(2).id))
    assert noted == (["a bit is flipped"] if others_are_up else []) and stage.ends
    stage.harness.stop()


@pytest.mark.parametrize("lingers", [False, True])
def test_a_life_whose_disk_failed_to_sync_ends_once_that_is_written_down(stage: Stage, lingers: bool) -> None:
    noted = list[int]()
    stage.harness.actor._note_not_whole = lambda: noted.append(len(stage.ends))
    stage.read(first_ring())
    stage.harness.actor._lingers = lingers
    stage.harness.tell(SyncFailed(why="input/output error"))
    assert noted == [0]
    assert len(stage.ends) == (0 if lingers else 1), "who has left the ring has no next life"


def test_who_has_no_room_to_sync_starts_again_when_the_ring_calls_it_down_and_keeps_its_store(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = list[int]()
    put_aside = list[str]()
    stage.harness.actor._note_not_whole = lambda: noted.append(len(stage.ends))
    stage.harness.actor._note_damaged = put_aside.append
    scrubber = stage.harness.probe("scrubber")
    monkeypatch.setattr(stage.harness.system, "find", {"scrubber": scrubber}.get)
    stage.read(first_ring())
    ((name, told),) = stage.harness.tell(SyncFailed(why="no space left", full=True))
    assert name == "scrubber" and isinstance(told, DamageFound) and "no space left" in told.why
    assert noted == [0] and not stage.ends, "others may have no room either"
    stage.harness.tell(CopyDamaged(node=life(1).id, incarnation=life(1).incarnation, why=told.why))
    stage.read(lost(first_ring(), life(1).id))
    assert len(stage.ends) == 1 and not put_aside


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("given_up", [False, True])
def test_who_is_not_up_goes_on_for_a_while_after_a_sync_that_failed(given_up: bool, full: bool) -> None:
    """Also for want of room: a life that the ring does not name it never calls down."""
    stage = Stage(life(1, incarnation=2), Shelf())
    others = founded(["127.0.0.1:7002", "127.0.0.1:7003"], replicas=2)
    stage.read(out(lost(founded(4, replicas=3), life(1).id), given_up=True) if given_up else others)
    stage.harness.tell(SyncFailed(why="input/output error", full=full))
    stage.harness.advance(HURT_SECONDS - 0.1)
    assert not stage.ends
    stage.harness.advance(0.1)
    assert len(stage.ends) == 1
    stage.harness.stop()


def test_a_ring_that_ends_this_life_is_obeyed_even_if_there_is_no_room_for_it(stage: Stage) -> None:
    def refuse(content: bytes) -> None:
        raise OSError("no space left on device")

    stage.read(first_ring())
    stage.archive.write = refuse  # type: ignore[method-assign]
    assert stage.read(lost(first_ring(), life(2).id)) == [] and not stage.ends
    assert stage.read(lost(lost(first_ring(), life(2).id), life(1).id)) == []
    assert len(stage.ends) == 1 and "no room" in stage.ends[0]


def test_a_life_that_says_it_is_whole_ends_before_that_is_over_once_it_is_written_down(stage: Stage) -> None:
    noted = list[int]()
    stage.harness.actor._note_not_whole = lambda: noted.append(len(stage.ends))
    stage.read(first_ring())
    stage.harness.tell(NoLongerWhole(why="another takes what it has"))
    assert noted == [0] and stage.ends == ["another takes what it has"]
