"""Draws a ring for a terminal: the circle with each node's part of it, and a table of the nodes.

Returns what rich can print and prints nothing. Slot 0 is at the top and slots ascend clockwise. Every node has a
letter, the same in circle and table, so that the picture says as much without colours; the letter of a node that is not
up is a small one. Fits into 80 columns.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..actors.rules.ring import Ring, Write
from ..actors.rules.slots import SLOTS

CIRCLE_ROWS = 15
CIRCLE_COLUMNS = 33
"""A character of a terminal is about twice as high as wide. Both odd, so that there is a middle."""
THICKNESS = 0.25
"""Of the circle's band, as a part of its radius."""
MARGIN_COLUMNS = 8
"""Beside the circle, for the slots at its left and right."""
COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
STATE_STYLES = {"up": "green", "down": "bold red", "returning": "yellow", "out": "dim"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WRITES_SHOWN_MAX = 5


class Contents(NamedTuple):
    """What a node holds: how many keys, and how many bytes of keys and values."""

    keys: int
    bytes: int


def drawing(ring: Ring, contents: Mapping[str, Contents] | None = None) -> RenderableType:
    """The whole picture: headline, circle, table and the last writes. ``contents`` is by node id; who is missing
    there gets a dash."""
    parts: list[RenderableType] = [headline(ring), "", circle(ring), "", table(ring, contents)]
    if ring.history:
        parts.append(writes(ring))
    return Group(*parts)


def headline(ring: Ring) -> Text:
    """One sentence on what this ring is."""
    up = sum(node.state == "up" for node in ring.circle)
    count = min(ring.replicas, len(ring.circle))
    copies = "1 copy of each slot" if count == 1 else f"{count} copies of each slot"
    if count < ring.replicas:
        copies += f" ({ring.replicas} with more nodes)"
    if count > 1:
        copies += f", {ring.copies_needed} needed to write"
    text = Text(f"ring {ring.epoch} of cluster {ring.cluster_name}: {up} of {len(ring.circle)} nodes up, {copies}")
    if not ring.serving:
        text.append(", stopped", style="bold red")
    unwritten = sum(each.slots.size for each in ring.trouble if ring.coordinators[each.slots.first] is not None)
    if unwritten:
        text.append(f", {unwritten} slots not written to", style="bold red")
    unserved = ring.coordinators.count(None)
    if unserved:
        text.append(f", {unserved} slots without a coordinator", style="bold red")
    return text


def circle(ring: Ring) -> Text:
    """The circle, with the slots at its four quarters outside and the names of cluster and ring inside.

    A node with slots gets at least one character as long as another has more than one, however small its range is.
    """
    band = sorted(_band())
    owners = [ring.lists[int(turn * SLOTS)][0].id for turn, _, _ in band]
    drawn = Counter(owners)
    for node in ring.circle:
        if node.id in drawn or not (runs := ring.slots_of(node.id)):
            continue
        middle = (runs[0].first + runs[0].size / 2) / SLOTS
        free = [index for index, owner in enumerate(owners) if drawn[owner] > 1]
        if free:
            nearest = min(free, key=lambda index: abs((band[index][0] - middle + 0.5) % 1.0 - 0.5))
            drawn[owners[nearest]] -= 1
            drawn[node.id] = 1
            owners[nearest] = node.id
    canvas: dict[tuple[int, int], tuple[str, str]] = {}
    marks = _marks(ring)
    for (_, row, column), id in zip(band, owners, strict=True):
        canvas[row, column] = marks[id]
    middle_row, middle_column = CIRCLE_ROWS // 2, CIRCLE_COLUMNS // 2
    inside = round(CIRCLE_COLUMNS * (1 - THICKNESS)) - 4
    for row, column, words, style in (
        (-1, middle_column, "0", ""),
        (middle_row, CIRCLE_COLUMNS + 3, f"{SLOTS // 4}", ""),
        (CIRCLE_ROWS, middle_column, f"{SLOTS // 2}", ""),
        (middle_row, -5, f"{SLOTS * 3 // 4}", ""),
        (middle_row - 1, middle_column, _fitting(ring.cluster_name, inside), "bold"),
        (middle_row + 1, middle_column, f"ring {ring.epoch}", "bold"),
    ):
        for index, letter in enumerate(words):
            canvas[row, column - len(words) // 2 + index] = (letter, style)
    text = Text(no_wrap=True)
    for row in range(-1, CIRCLE_ROWS + 1):
        columns = range(-MARGIN_COLUMNS, max(column for at, column in canvas if at == row) + 1)
        line = [canvas.get((row, column), (" ", "")) for column in columns]
        for style, letters in groupby(line, key=itemgetter(1)):
            text.append("".join(letter for letter, _ in letters), style=style)
        text.append("\n")
    text.right_crop(1)
    return text


def table(ring: Ring, contents: Mapping[str, Contents] | None = None) -> Table:
    """A row per node in the order of the ring. Tokens by the first 6 of their 32 hex digits."""
    drawn = plain_table("", "node", "state", "token", "slots", right=("size", "share", "keys", "bytes"), folds="node")
    marks = _marks(ring)
    for node in ring.nodes:
        has = (contents or {}).get(node.id)
        runs = ring.slots_of(node.id)
        drawn.add_row(
            Text(*marks[node.id]),
            Text(node.id),
            Text(node.state, style=STATE_STYLES[node.state]),
            f"{node.token >> 104:06x}",
            "\n".join(map(str, runs)) or "-",
            str(sum(run.size for run in runs)),
            f"{ring.share(node.id):.1%}",
            f"{has.keys:,}".replace(",", " ") if has else "-",
            bytes_text(has.bytes) if has else "-",
        )
    return drawn


def plain_table(*names: str, right: tuple[str, ...] = (), folds: str = "") -> Table:
    """An empty table without a frame: columns of words, then those of numbers; ``folds`` may take several lines."""
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in names:
        drawn.add_column(name, no_wrap=name != folds, overflow="fold")
    for name in right:
        drawn.add_column(name, justify="right", no_wrap=True)
    return drawn


def writes(ring: Ring) -> Text:
    """The last writes of the ring with their causes, newest first."""
    text = Text()
    for write in ring.history[: -WRITES_SHOWN_MAX - 1 : -1]:
        text.append(f"\n{_sentence(write)}")
    return text


def bytes_text(count: int) -> str:
    """A number of bytes for people: ``17 B``, ``3.1 MiB``."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, 5)
    return f"{count / 1024**power:.1f} {'KMGTP'[power - 1]}iB"


def _sentence(write: Write) -> str:
    at = datetime.fromtimestamp(write.wall_seconds, UTC)
    return f"epoch {write.epoch}  {at:%Y-%m-%d %H:%M:%S}Z  {write.what}: {write.why}"


def _fitting(words: str, characters_max: int) -> str:
    return words if len(words) <= characters_max else words[: characters_max - 3] + "..."


def _marks(ring: Ring) -> dict[str, tuple[str, str]]:
    """Letter and style of each node, in the order of the ring; beyond 26 nodes the letters begin again. Neighbours
    differ in colour, the last and the first too."""
    marks = {}
    for index, node in enumerate(ring.nodes):
        letter, colour = LETTERS[index % len(LETTERS)], COLOURS[index % len(COLOURS)]
        if 0 < index == len(ring.nodes) - 1 and colour == COLOURS[0]:
            colour = COLOURS[2]
        marks[node.id] = (letter, f"bold {colour}") if node.state == "up" else (letter.lower(), f"dim {colour}")
    return marks


def _band() -> Iterator[tuple[float, int, int]]:
    """The characters of the circle's band: how far around (0.0 at the top, up to 1.0), row and column."""
    middle_row, middle_column = CIRCLE_ROWS // 2, CIRCLE_COLUMNS // 2
    for row in range(CIRCLE_ROWS):
        for column in range(CIRCLE_COLUMNS):
            right, up = (column - middle_column) / middle_column, (middle_row - row) / middle_row
            if 1 - THICKNESS <= math.hypot(right, up) <= 1.03:
                yield math.atan2(right, up) / math.tau % 1.0, row, column
