"""Draws a ring for a terminal: the circle with each node's part of it, and a table of the nodes.

Returns things that rich can print and prints nothing. Every node has a letter, the same in circle and table, so that the
picture says the same without colours; a node that does not answer for its slots is drawn in small letters. Slot 0
is at the top, slots ascend clockwise as they do on the ring. Fits into 80 columns.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..actors.rules.ring import Node, Ring, Write
from ..actors.rules.slots import SLOTS

CIRCLE_ROWS = 15
CIRCLE_COLUMNS = 33
"""A terminal's character is about twice as high as wide; odd, so that there is a middle."""
THICKNESS = 0.25
"""Of the circle's band, as a part of its radius."""
INDENT_COLUMNS = 4
COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
STATE_STYLES = {"up": "green", "down": "bold red", "returning": "yellow", "out": "dim"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WRITES_SHOWN_MAX = 5


class Held(NamedTuple):
    """What a node holds: how many keys, and how many bytes of keys and values."""

    keys: int
    bytes: int


def drawing(ring: Ring, held: Mapping[str, Held] | None = None) -> RenderableType:
    """The whole picture: headline, circle, table and the last writes. ``held`` is by node id; who is missing there
    gets a dash."""
    parts: list[RenderableType] = [headline(ring), "", Padding(circle(ring), (0, 0, 1, INDENT_COLUMNS)), table(ring, held)]
    if ring.history:
        parts.append(writes(ring))
    return Group(*parts)


def headline(ring: Ring) -> Text:
    """One sentence on what this ring is."""
    up = sum(node.state == "up" for node in ring.circle)
    copies = "1 copy of each slot" if ring.replicas == 1 else f"{ring.replicas} copies of each slot"
    if ring.replicas > 1:
        copies += f", {ring.copies_needed} needed to write"
    text = Text(f"ring {ring.epoch} of cluster {ring.cluster_name}: {up} of {len(ring.circle)} nodes up, {copies}")
    if not ring.serving:
        text.append(", stopped", style="bold red")
    unserved = ring.coordinators.count(None)
    if unserved:
        text.append(f", {unserved} slots without a coordinator", style="bold red")
    return text


def circle(ring: Ring) -> Text:
    """The circle, CIRCLE_ROWS by CIRCLE_COLUMNS, with the ring's name and epoch in its middle.

    A node with slots gets at least one character while there are enough, however small its range is.
    """
    marks = _marks(ring)
    band = sorted(_band())
    owners = [ring.lists[int(turn * SLOTS)][0].id for turn, _, _ in band]
    for node in ring.circle:
        runs = ring.slots_of(node.id)
        if runs and node.id not in owners:
            middle = (runs[0].first + runs[0].size // 2) / SLOTS
            nearest = min(range(len(band)), key=lambda index: abs(band[index][0] - middle))
            if owners.count(owners[nearest]) > 1:
                owners[nearest] = node.id
    rows = [[(" ", "")] * CIRCLE_COLUMNS for _ in range(CIRCLE_ROWS)]
    for (_, row, column), id in zip(band, owners, strict=True):
        rows[row][column] = marks[id]
    middle_row = CIRCLE_ROWS // 2
    for row, words in ((middle_row - 1, ring.cluster_name), (middle_row, f"ring {ring.epoch}"), (middle_row + 1, "")):
        room = sum(mark == (" ", "") for mark in rows[row]) - 2
        words = words if len(words) <= room else words[: room - 3] + "..."
        start = (CIRCLE_COLUMNS - len(words)) // 2
        for index, letter in enumerate(words):
            rows[row][start + index] = (letter, "bold")
    text = Text(no_wrap=True)
    for number, row_marks in enumerate(rows):
        for letter, style in row_marks:
            text.append(letter, style=style)
        text.append("\n" if number < CIRCLE_ROWS - 1 else "")
    return text


def table(ring: Ring, held: Mapping[str, Held] | None = None) -> Table:
    """A row per node in the order of the ring."""
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in ("", "node", "state", "token", "slots"):
        drawn.add_column(name, no_wrap=name != "slots", overflow="fold")
    for name in ("count", "share", "keys", "bytes"):
        drawn.add_column(name, justify="right", no_wrap=True)
    marks = _marks(ring)
    for node in ring.nodes:
        has = (held or {}).get(node.id)
        runs = ring.slots_of(node.id)
        drawn.add_row(
            Text(*marks[node.id]),
            Text(node.id, overflow="fold"),
            Text(node.state, style=STATE_STYLES[node.state]),
            f"{node.token >> 96:08x}",
            " ".join(map(str, runs)) or "-",
            str(sum(run.size for run in runs)),
            f"{ring.share(node.id):.1%}",
            f"{has.keys:,}".replace(",", " ") if has else "-",
            bytes_text(has.bytes) if has else "-",
        )
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


def _marks(ring: Ring) -> dict[str, tuple[str, str]]:
    """Letter and style of each node, in the order of the ring; beyond 26 nodes the letters begin again."""
    marks = {}
    for index, node in enumerate(ring.nodes):
        letter = LETTERS[index % len(LETTERS)]
        colour = COLOURS[index % len(COLOURS)]
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
