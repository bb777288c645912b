"""Random stories: drawn alike from the same seed, kept as text, played, and made shorter when they fail."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.scenarios.play import play
from ringkeeper.scenarios.random_story import (
    WHATS,
    Event,
    NotASchedule,
    Schedule,
    What,
    as_scenario,
    draw,
    reduced,
)
from ringkeeper.scenarios.simulated_stage import SimulatedStage

pytestmark = pytest.mark.stories

STORIES = Path(__file__).parent / "stories"


def schedule(*events: Event) -> Schedule:
    return Schedule(
        seed=1, nodes=3, ecs=2, fsync="always", mix="mixed", clients=2, keys=5, operations_per_second=15.0,
        seconds=12.0, copies=2, min_copies=2, events=events,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_stories_end_as_they_must(seed: int) -> None:
    played = play(as_scenario(draw(seed)), SimulatedStage(seed))
    assert played.good, f"{played.failure or played.violations}"


@pytest.mark.parametrize("story", sorted(STORIES.glob("*.json")), ids=lambda path: path.stem)
def test_what_a_story_has_found_stays_mended(story: Path) -> None:
    """Kept as schedules: what a seed draws is another story as soon as more can be drawn.

    sent_away_before_it_joined    a node was sent away, then taken in by the change that waited for it, and ended
    what_is_not_a_nodes_own_lies  a record that lied, in a slot that its node was about to drop, broke the story off
    """
    schedule = Schedule.from_json(story.read_bytes())
    played = play(as_scenario(schedule), SimulatedStage(schedule.seed))
    assert played.good, f"{played.failure or played.violations}"


@pytest.mark.parametrize("what", WHATS)
def test_everything_that_may_happen_can_be_played_to_a_good_end(what: What) -> None:
    events = [Event(at=1.0, what="join"), Event(at=2.3, what=what, who=1, other=2, seconds=1.5, turn_seconds=0.01)]
    events.append(Event(at=2.4, what=what, who=2, other=2, seconds=0.2, turn_seconds=0.01, one_way=True))
    played = play(as_scenario(schedule(*events)), SimulatedStage(2))
    assert played.good, f"{played.failure or played.violations}"


def test_the_same_schedule_is_the_same_run() -> None:
    one, other = (play(as_scenario(draw(13)), SimulatedStage(13)) for _ in range(2))
    assert one.trace == other.trace


# Schedules


@given(st.integers(0, 10**9))
def test_a_schedule_is_drawn_from_its_seed_alone_and_survives_being_text(seed: int) -> None:
    drawn = draw(seed)
    assert drawn == draw(seed) == Schedule.from_json(drawn.to_json())
    assert list(drawn.events) == sorted(drawn.events, key=lambda event: event.at)
    assert drawn.events[-1].at < drawn.seconds


@given(st.integers(0, 10**9))
def test_nothing_is_drawn_that_may_lose_acknowledged_writes(seed: int) -> None:
    drawn = draw(seed)
    whats = {event.what for event in drawn.events}
    assert (
        drawn.copies > 1
        or (drawn.fsync == "always" or not whats & {"cut power", "fail syncs"})
        and not whats & {"crash disk", "lie"}
    )


def test_all_that_may_happen_is_drawn_by_some_seed() -> None:
    assert {event.what for seed in range(100) for event in draw(seed).events} == set(WHATS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`"),
        (draw(1).to_json().replace('"mix"', '"max"'), "mix"),
        (schedule(Event(at=1.0, what="leave")).to_json().replace("leave", "rain"), "rain"),
        (replace(draw(1), mix="cement").to_json(), "cement"),
        (replace(draw(1), nodes=0).to_json(), "needs nodes"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(NotASchedule, match=why):
        Schedule.from_json(text)


# Reducing


def numbered(count: int) -> Schedule:
    return schedule(*(Event(at=float(number), what="join", who=number) for number in range(count)))


def needs(*numbers: int) -> Callable[[Schedule], bool]:
    return lambda candidate: set(numbers) <= {event.who for event in candidate.events}


@given(st.integers(1, 60), st.data())
def test_a_failing_schedule_is_reduced_to_the_events_that_it_takes(count: int, data: st.DataObject) -> None:
    wanted = sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=4)))
    left = reduced(numbered(count), needs(*wanted), clock=lambda: 0.0)
    assert [event.who for event in left.events] == wanted


def test_when_time_is_over_the_shortest_that_was_found_is_taken() -> None:
    tried: list[int] = []

    def fails(candidate: Schedule) -> bool:
        tried.append(len(candidate.events))
        return needs(40, 41)(candidate)

    left = reduced(numbered(64), fails, seconds_max=3.0, clock=lambda: float(len(tried)))
    assert len(tried) == 3
    assert 2 < len(left.events) < 64 and fails(left)
