"""Who is taken down because its peers say so, and who is not (R22)."""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.suspicion import (
    REFUSED_SETTLE_SECONDS,
    SETTLE_SECONDS,
    SPARED_SECONDS,
    SUSPICION_SECONDS_MAX,
    Life,
    Suspicion,
    Suspicions,
    Verdict,
    Why,
    judged,
)
from ringkeeper.actors.rules.transitions import downed
from ringkeeper.tests.actors.rules.rings import any_ring, founded, hex64, kept, lost

Story = str
"""What is said, by the last digit of the ports: "1-2 silent, 3-2 refused" - 7001 says of 7002... "1=2": both ways."""

LATER = 1.0
"""When everything has stood for long enough."""


def id_of(digit: str) -> str:
    return f"127.0.0.1:700{digit}"


def said(ring: Ring, story: Story, since: float = 0.0) -> dict[Life, dict[Life, Suspicion]]:
    lives = {node.id: (node.id, node.incarnation) for node in ring.nodes}
    table: dict[Life, dict[Life, Suspicion]] = {}
    for part in filter(None, story.split(", ")):
        who, why = part.split()
        pairs = [(who[0], who[2]), (who[2], who[0])][: 2 if who[1] == "=" else 1]
        for by, of in pairs:
            table.setdefault(lives[id_of(of)], {})[lives[id_of(by)]] = Suspicion(cast(Why, why), since, since)
    return table


def verdict(ring: Ring, story: Story, now: float = LATER) -> Verdict:
    return judged(ring, said(ring, story), now)


def gone(ring: Ring, story: Story, now: float = LATER) -> str:
    """The last digits of those who go, in order."""
    found = verdict(ring, story, now)
    assert all(ring.by_id[id].incarnation == incarnation for id, incarnation in found.gone.items())
    return "".join(sorted(id[-1] for id in found.gone))


three, four, five, six = (founded(count, replicas=3) for count in (3, 4, 5, 6))
two = founded(2, replicas=2)


@pytest.mark.parametrize(
    ("ring", "story", "goes"),
    [
        # Two witnesses.
        (three, "1-2 silent, 3-2 silent", "2"),
        (three, "1-2 refused, 3-2 refused", "2"),
        (three, "1-2 refused, 3-2 silent", "2"),
        (three, "1-2 silent", ""),
        (three, "1-2 refused", ""),  # another hears it well: a network that is broken in one place
        (five, "1-2 refused, 3-2 refused, 4-2 refused, 5-2 refused", "2"),
        # A coordinator whose successor does not acknowledge.
        (three, "1-2 stream", "2"),
        (three, "1-2 stream, 3-2 silent", "2"),
        (five, "1-2 stream, 3-1 silent", ""),  # somebody reports the reporter
        (five, "1-2 stream, 3-1 silent, 4-2 silent", "2"),
        # Two that accuse each other.
        (three, "1-2 stream, 2-1 silent", "2"),  # by a tie the successor
        (three, "2-1 stream, 1-2 silent", "1"),
        (five, "1-2 stream, 2-1 silent, 1-5 silent", "1"),  # it has fewer working links
        (three, "1=2 silent, 3-1 silent", "1"),
        (founded(6, replicas=1), "1=4 silent", ""),  # they have nothing to do with each other
        # Two nodes.
        (two, "1-2 refused", "2"),
        (two, "1-2 refused, 2-1 silent", "2"),
        (two, "1=2 refused", ""),
        (two, "1-2 silent", ""),
        (two, "1=2 silent", ""),
        (two, "1-2 stream", ""),  # it may only be slow, and too few copies would be left
        (founded(2, replicas=2, min_copies=1), "1-2 stream", "2"),
        (founded(2, replicas=2, min_copies=1), "1-2 stream, 2-1 silent", "2"),
        (founded(2, replicas=2, min_copies=1), "1=2 silent", ""),
        (lost(three, id_of("3")), "1-2 refused", "2"),
        (lost(three, id_of("3")), "1-2 silent", ""),
        # Who is cut off, and who is mad.
        (three, "1=2 silent, 1=3 silent", "1"),
        (five, "1-3 silent, 1-4 silent, 1-5 silent, 2-3 silent, 2-4 silent, 2-5 silent", ""),
        (three, "1-2 refused, 1-3 refused", ""),
        (three, "1-2 stream, 1-3 stream", ""),
        (five, "1-2 stream, 1-3 silent, 1-4 refused, 1-5 stream", ""),
        (five, "1-2 stream, 1-3 silent, 1-4 refused, 1-5 stream, 2-3 silent", ""),  # one honest witness is one
        # Several at once.
        (five, "1-2 refused, 3-2 refused, 1-4 refused, 3-4 refused, 5-2 refused, 5-4 refused", "24"),
        (four, "1-2 refused, 3-2 refused, 1-4 refused, 3-4 refused", ""),  # half of all: the sessions decide
        (three, "1-2 refused, 1-3 refused", ""),
        (six, "1-4 silent, 2-4 silent, 1-5 silent, 2-5 silent, 1-6 silent, 3-6 silent", ""),
        # A slow node whose lists need it.
        (founded(5, replicas=2), "1-2 silent, 3-2 silent", ""),
        (founded(5, replicas=2), "1-2 refused, 3-2 refused", "2"),
        (founded(5, replicas=1), "1-2 silent, 3-2 silent", ""),  # nobody would be left to serve its slots
        (founded(5, replicas=1), "1-2 refused, 3-2 refused", "2"),
        (founded(5, replicas=3), "1-2 silent, 4-2 silent, 1-3 silent, 4-3 silent", "3"),  # not two of one list
    ],
)  # fmt: skip
def test_the_cases_one_by_one(ring: Ring, story: Story, goes: str) -> None:
    assert gone(ring, story) == goes


def test_a_returning_node_needs_two_witnesses_and_a_keeper_has_to_be_gone() -> None:
    second = three.circle[1]
    back = replace(lost(three, second.id), nodes=tuple(
        replace(node, state="returning") if node.id == second.id else node for node in three.nodes
    ))  # fmt: skip
    by = [node.id[-1] for node in three.circle if node.id != second.id]
    of = second.id[-1]
    assert gone(back, f"{by[0]}-{of} silent") == ""
    assert gone(back, f"{by[0]}-{of} silent, {by[1]}-{of} silent") == of
    for cut_off, other in (by, by[::-1]):  # of two that accuse each other, who hears the third as little is cut off
        for reports in (f"{cut_off}-{other} stream, {other}-{cut_off} silent", f"{by[0]}={by[1]} stream"):
            assert gone(back, f"{reports}, {cut_off}-{of} silent", LATER + SPARED_SECONDS) == cut_off
    ring = kept(3)
    keeper = ring.circle[0].id[-1]
    assert gone(ring, "".join(f"{node.id[-1]}-{keeper} silent, " for node in ring.circle[1:])) == ""


def test_a_keeper_that_is_up_by_now_goes_as_any_other() -> None:
    """It may be needed by healthy lists, and nobody is spared for more than a moment who is up beside others."""
    ring = lost(founded(4, 3, min_copies=3), "127.0.0.1:7004")
    keeper = ring.coordinators[ring.trouble[0].slots.first]
    assert keeper is not None and keeper.state == "up"
    ring = replace(ring, trouble=(replace(ring.trouble[0], keeper=keeper.id), *ring.trouble[1:]))
    others = [node.id[-1] for node in ring.circle if node.state == "up" and node != keeper]
    said_of_it = ", ".join(f"{other}-{keeper.id[-1]} silent" for other in others)
    assert gone(ring, said_of_it, LATER + SPARED_SECONDS) == keeper.id[-1]


# Time


def test_silence_has_to_stand_for_a_moment_and_certainty_for_less() -> None:
    for why, seconds in (("silent", SETTLE_SECONDS), ("refused", REFUSED_SETTLE_SECONDS)):
        story = f"1-2 {why}, 3-2 {why}"
        waits = verdict(three, story, now=seconds - 0.01)
        assert not waits.gone and waits.again_at == pytest.approx(seconds)
        assert gone(three, story, now=seconds) == "2"


def test_who_is_needed_stays_a_while_longer_and_for_good_where_nobody_else_is_left() -> None:
    moment = SETTLE_SECONDS + SPARED_SECONDS
    table = said(two, "1-2 stream")
    table = {of: {by: each._replace(told=moment) for by, each in by_all.items()} for of, by_all in table.items()}
    assert not judged(two, table, moment - 0.01).gone and judged(two, table, 0.5).again_at == moment
    assert set(judged(two, table, moment).gone) == {id_of("2")}, "reads and its own slots wait for it, too"
    alone = lost(two, id_of("1"))
    assert not judged(alone, said(alone, "1-2 stream"), moment).gone


def test_who_is_found_gone_just_after_another_goes_with_it() -> None:
    table = said(five, "1-2 refused, 3-2 refused, 5-2 refused") | said(five, "1-4 refused, 3-4 refused", since=0.04)
    assert set(judged(five, table, REFUSED_SETTLE_SECONDS).gone) == {id_of("2"), id_of("4")}


def test_a_suspicion_that_is_not_repeated_passes() -> None:
    assert gone(three, "1-2 silent, 3-2 silent", now=SUSPICION_SECONDS_MAX) == "2"
    assert gone(three, "1-2 silent, 3-2 silent", now=SUSPICION_SECONDS_MAX + 0.1) == ""


def test_the_reason_names_the_witnesses() -> None:
    assert (
        verdict(three, "1-2 refused, 3-2 refused").why == f"{id_of('2')} has ended, say {id_of('1')} and {id_of('3')}"
    )
    assert verdict(three, "1-2 stream").why == f"{id_of('2')} does not acknowledge, says {id_of('1')}"
    assert verdict(three, "1-2 silent, 3-2 silent").why == f"{id_of('2')} is silent, say {id_of('1')} and {id_of('3')}"


# What is kept


def life(ring: Ring, digit: str) -> Life:
    return id_of(digit), ring.by_id[id_of(digit)].incarnation


def test_what_is_said_stands_until_it_is_taken_back_and_since_it_was_first_said() -> None:
    kept = Suspicions()
    of, by = life(three, "2"), [life(three, "1"), life(three, "3")]
    assert kept.report(three, of, by[0], "silent", 0.0)
    assert kept.report(three, of, by[1], "silent", 0.1)
    assert not kept.report(three, of, by[0], "silent", 0.2), "that was said before"
    assert kept.judged(three, 0.39).again_at == pytest.approx(0.1 + SETTLE_SECONDS)
    assert dict(kept.judged(three, 0.41).gone) == dict([of])
    assert kept.by(of, 0.5) == {by[0][0]: "silent", by[1][0]: "silent"}
    assert kept.report(three, of, by[0], "", 0.5)
    assert not kept.judged(three, 0.6).gone
    assert kept.report(three, of, by[0], "stream", 0.7)
    assert not kept.judged(three, 0.9).gone
    assert kept.report(three, of, by[0], "silent", 0.8), "that it does not acknowledge is a kind of silence"
    assert kept.judged(three, 0.9).again_at == pytest.approx(0.7 + SETTLE_SECONDS)
    assert kept.report(three, of, by[0], "refused", 0.95), "that it has ended is not"
    assert kept.judged(three, 0.96).again_at == pytest.approx(0.95 + SETTLE_SECONDS)


def test_for_a_time_after_zookeeper_was_away_nobody_goes_for_what_he_does_not_acknowledge() -> None:
    kept = Suspicions()
    for by in ("1", "3"):
        kept.report(three, life(three, "2"), life(three, by), "stream", 0.0, behind=True)
    kept.excuse_streams(0.0, 2.0)
    assert kept.judged(three, 1.9) == Verdict(again_at=2.0), "it may not have read the ring yet"
    assert dict(kept.judged(three, 2.0).gone) == dict([life(three, "2")])


def test_who_did_not_acknowledge_before_zookeeper_went_away_is_not_excused_by_that() -> None:
    kept = Suspicions()
    kept.report(three, life(three, "2"), life(three, "1"), "stream", 0.9, behind=True)
    kept.excuse_streams(1.0, 7.0)
    assert dict(kept.judged(three, 1.2).gone) == dict([life(three, "2")])


def test_who_is_silent_or_has_read_the_ring_goes_also_just_after_zookeeper_was_away() -> None:
    kept = Suspicions()
    kept.excuse_streams(0.0, 2.0)
    kept.report(three, life(three, "2"), life(three, "1"), "stream", 0.0)
    kept.report(three, life(three, "2"), life(three, "3"), "silent", 0.0)
    assert kept.judged(three, 0.0).again_at == pytest.approx(SETTLE_SECONDS)
    assert dict(kept.judged(three, SETTLE_SECONDS).gone) == dict([life(three, "2")])


def test_only_lives_of_the_ring_count_and_only_by_nodes_that_are_up() -> None:
    kept = Suspicions()
    of, by = life(three, "2"), life(three, "1")
    for past in ((of[0], "f" * 16), ("127.0.0.1:7009", of[1])):
        assert not kept.report(three, past, by, "silent", 0.0)
        assert not kept.report(three, of, past, "silent", 0.0)
    assert not kept.report(three, of, of, "silent", 0.0)
    kept.report(three, of, by, "silent", 0.0)
    kept.report(three, by, life(three, "3"), "silent", 0.0)
    after = lost(three, by[0])
    kept.obey(after)
    assert kept.by(of, 0.0) == kept.by(by, 0.0) == {}
    assert not kept.report(after, of, by, "silent", 0.0)


# Whatever is said


@st.composite
def sayings(draw: st.DrawFn, ring: Ring, by: Iterable[Life] | None = None) -> dict[Life, dict[Life, Suspicion]]:
    lives = [(node.id, node.incarnation) for node in ring.circle]
    witnesses = list(lives if by is None else by)
    whys: st.SearchStrategy[Why] = st.sampled_from(["silent", "refused", "stream"])
    heard = st.builds(lambda why, since: Suspicion(why, since, since), whys, st.sampled_from([0.0, 0.5, 0.9]))
    pairs = st.tuples(st.sampled_from(lives), st.sampled_from(witnesses))
    table: dict[Life, dict[Life, Suspicion]] = {}
    for (of, witness), what in draw(st.dictionaries(pairs, heard, max_size=20)).items():
        table.setdefault(of, {})[witness] = what
    return table


@given(st.data())
def test_a_verdict_can_be_written_and_takes_no_list_below_its_need_by_silence(data: st.DataObject) -> None:
    ring = data.draw(any_ring())
    table = data.draw(sayings(ring))
    found = judged(ring, table, LATER)
    up = {node.id for node in ring.circle if node.state == "up"}
    if not found.gone:
        return
    assert found.why
    assert len(up) < 3 or 2 * len(found.gone.keys() & up) < len(up)
    after = downed(ring, found.gone, why=found.why, nonce=hex64(99), wall_seconds=1.0)
    ended = {of[0] for of, by in table.items() if any(each.why == "refused" for each in by.values())}
    for _, members in ring.list_runs:
        if found.gone.keys() & {node.id for node in members} and not ended & {node.id for node in members}:
            assert sum(after.by_id[node.id].state == "up" for node in members) >= ring.copies_needed


@given(st.data())
def test_who_accuses_more_than_half_takes_nobody_down(data: st.DataObject) -> None:
    ring = founded(data.draw(st.integers(3, 8)), replicas=data.draw(st.integers(1, 4)), min_copies=1)
    lives = [(node.id, node.incarnation) for node in ring.circle]
    mad = data.draw(st.sampled_from(lives))
    accused = [each for each in lives if each != mad]
    if data.draw(st.booleans()):
        accused = accused[: len(accused) // 2 + 1]
    whys: st.SearchStrategy[Why] = st.sampled_from(["silent", "refused", "stream"])
    table = {of: {mad: Suspicion(data.draw(whys), 0.0, 0.0)} for of in accused}
    assert not judged(ring, table, LATER).gone


@given(st.data())
def test_what_former_lives_say_and_what_is_said_of_them_changes_nothing(data: st.DataObject) -> None:
    ring = data.draw(any_ring())
    table = data.draw(sayings(ring))
    past = [(node.id, "0" * 16) for node in ring.circle]
    more = {of: dict(by) for of, by in table.items()}
    for of, by in data.draw(sayings(ring, by=past)).items():
        more.setdefault(of, {}).update(by)
    more[past[0]] = {life: Suspicion("refused", 0.0, 0.0) for life in table}
    assert judged(ring, more, LATER) == judged(ring, table, LATER)
