"""The picture of a ring: right without colours, within 80 columns, whatever the ring."""

import io
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from rich.console import Console, RenderableType
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import position
from ringkeeper.cli.drawing import Contents, bytes_text, circle, drawing, headline, table, writes
from ringkeeper.tests.actors.rules.rings import any_ring, founded, hex64, ids, lost, standing

A, B, C = ids(3)


def printed(drawn: RenderableType, colour: bool = False, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=colour, color_system="truecolor" if colour else None).print(drawn)
    return file.getvalue()


def picture(ring: Ring) -> Counter[str]:
    """How many characters of the circle each letter has; the words inside and the numbers outside do not count."""
    words = re.findall(r"[A-Za-z]+", str(circle(ring)))
    return Counter("".join(word for word in words if word not in (ring.cluster_name, "ring")))


def test_three_even_nodes_have_a_third_of_the_circle_each_and_begin_at_the_top() -> None:
    lines = str(circle(founded(3))).splitlines()
    assert lines[0].strip() == "0"
    assert lines[1].strip() == "CCCAAAA"
    assert lines[-2].strip() == "BBBBBBB"
    assert lines[-1].strip() == "8192"
    assert lines[8].split() == ["12288", "CCCCC", "AAAAA", "4096"]
    counts = picture(founded(3))
    assert set(counts) == {"A", "B", "C"}
    assert max(counts.values()) - min(counts.values()) <= 8


def test_the_middle_names_the_cluster_and_the_ring() -> None:
    text = str(circle(lost(founded(3), A)))
    assert "test" in text and "ring 2" in text


def test_a_long_name_stays_within_the_circle() -> None:
    lines = str(circle(replace(founded(1), cluster_name="a" * 30 + "b" * 30))).splitlines()
    assert max(map(len, lines)) <= 80
    assert "aaa..." in lines[7]
    assert lines[7].count("AAAA ") == 1 and lines[7].endswith("AAAAA")


def test_a_node_that_is_down_is_drawn_in_small_letters() -> None:
    ring = lost(founded(3), founded(3).circle[0].id)
    assert set(picture(ring)) == {"a", "B", "C"}
    row = next(line for line in printed(table(ring)).splitlines() if line.startswith("a "))
    assert " down " in row and ring.circle[0].id in row


def test_a_range_too_small_to_be_seen_gets_one_letter() -> None:
    ring = founded(3, how="md5")
    assert sum(run.size for run in ring.slots_of(A)) == 27
    assert picture(ring)["C"] == 1
    assert ring.circle[2].id == A


def test_small_ranges_side_by_side_do_not_hide_each_other() -> None:
    ring = standing({f"h:{number + 1}": position(100 + number) for number in range(8)})
    assert set(picture(ring)) == set("ABCDEFGH")


def test_a_node_without_slots_is_in_the_table_and_not_in_the_picture() -> None:
    ring = standing({A: 1, B: 2, C: 2**127})
    assert set(picture(ring)) == {"A", "C"}
    row = next(line for line in printed(table(ring)).splitlines() if line.startswith("B "))
    assert row.split() == ["B", B, "up", "000000", "-", "0", "0.0%", "-", "-"]


def test_the_table_tells_each_nodes_place_and_contents() -> None:
    lines = printed(table(founded(3), {C: Contents(1_234_567, 3_300_000)})).splitlines()
    assert lines[0].split() == ["node", "state", "token", "slots", "size", "share", "keys", "bytes"]
    assert lines[2].split() == ["A", C, "up", "5553ff", "0-5460", "5461", "33.3%", "1", "234", "567", "3.1", "MiB"]
    assert lines[3].split() == ["B", B, "up", "aaa7ff", "5461-10921", "5461", "33.3%", "-", "-"]


def test_a_range_across_the_seam_is_told_in_two_lines() -> None:
    text = printed(table(founded(3, how="md5")))
    assert re.search(r"0-3711 .*8505 .*\n\s+11591-16383", text)


@pytest.mark.parametrize(
    ("ring", "sentence"),
    [
        (founded(3), "ring 1 of cluster test: 3 of 3 nodes up, 1 copy of each slot"),
        (founded(5, replicas=3), "5 of 5 nodes up, 3 copies of each slot, 2 needed to write"),
        (founded(2, replicas=3), "2 of 2 nodes up, 2 copies of each slot (3 with more nodes), 2 needed to write"),
        (lost(founded(3, 3), A), "2 of 3 nodes up, 3 copies of each slot, 2 needed to write"),
        (lost(founded(3, 3), A, B), "3 copies of each slot, 2 needed to write, 16384 slots not written to"),
        (lost(founded(3), A), "2 of 3 nodes up, 1 copy of each slot, 5462 slots without a coordinator"),
        (replace(founded(1), serving=False), "1 copy of each slot, stopped"),
    ],
    ids=["three", "copies", "few nodes", "one of three down", "two of three down", "one down", "stopped"],
)
def test_the_headline_says_what_the_ring_is(ring: Ring, sentence: str) -> None:
    assert str(headline(ring)).endswith(sentence)


def test_the_last_writes_are_told_newest_first_with_their_causes() -> None:
    ring = lost(founded(3), A)
    assert str(writes(ring)).strip().splitlines() == [
        f"epoch 2  2023-11-14 22:13:21Z  {A} down: gone",
        f"epoch 1  2023-11-14 22:13:20Z  found with {A}, {B}, {C}: founded",
    ]
    for _ in range(9):
        ring = ring.amended(nonce=hex64(ring.epoch + 1), what="stop", why="asked to", wall_seconds=0.0)
    assert len(str(writes(ring)).strip().splitlines()) == 5


def test_words_from_outside_are_no_markup() -> None:
    ring = founded(1).amended(nonce=hex64(2), what="[red]stop[/red]", why="[link=x]y", wall_seconds=0.0)
    assert "[red]stop[/red]: [link=x]y" in printed(drawing(ring))
    assert "[bold]:7001" in printed(table(standing({"[bold]:7001": 5})))


@given(any_ring(nodes_max=40))
@settings(max_examples=25, deadline=None)
def test_any_ring_fits_into_eighty_columns_and_says_the_same_without_colours(ring: Ring) -> None:
    contents = {node.id: Contents(123_456_789, 1023 * 2**20) for node in ring.nodes}
    plain = printed(drawing(ring, contents))
    assert max(map(len, plain.splitlines())) <= 80
    assert re.sub(r"\x1b\[[0-9;]*m", "", printed(drawing(ring, contents), colour=True)) == plain
    for node in ring.nodes:
        assert node.state in plain


def test_long_ids_are_folded_rather_than_cut() -> None:
    names = [f"storage-node-{number}.rack-17.example.org:{7001 + number}" for number in range(3)]
    lines = printed(table(standing({id: 2**127 + number for number, id in enumerate(names)}))).splitlines()
    assert max(map(len, lines)) <= 80
    folded = "".join(re.sub(r"^.  | up .*", "", line).strip() for line in lines[2:])
    assert folded == "".join(names)


def test_neighbours_differ_in_colour_the_last_and_the_first_too() -> None:
    for count in (2, 3, 7, 13, 25, 31, 61):
        colours = [row.style for row in table(standing({f"h:{n + 1}": n for n in range(count)})).columns[0].cells]  # type: ignore[union-attr]
        assert all(one != other for one, other in zip(colours, colours[1:] + colours[:1], strict=True)), count


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3_300_000, "3.1 MiB"), (2**61, "2048.0 PiB")]
)
def test_bytes_read_like_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text
