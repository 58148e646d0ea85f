"""How large each thing in the drawing is, in pixels.

Texts are as wide as common sans-serif fonts make them, and are held to that width when they are drawn; the room kept
for them is a fifth wider, for programs that hold them to nothing. Only whole numbers are reckoned with, so that the
same rules give the same drawing everywhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from lifecycle.report.drawing.chart import MEANINGS, Arrow
from lifecycle.report.drawing.ways import Row, Upright

NAME, EVENT, SMALL = 15, 13, 11
"""Sizes of letters: names of states, names of events, all else."""

MARGIN = 20
"""Around it all."""
PAD = 14
"""Between a border and what is inside it."""
GAP = 16
"""At least, between things side by side."""
BADGE = 22
"""Room before the name of an event for its number, or for the sign that it leaves a state as it is."""
TITLE = 28
"""Room above boxes for the name of their group."""
HEAD = 30
"""Room for the name of a state, with what is above it."""
LINE = 15
"""From one line of text to the next."""
STUB = 20
"""Of a line, seen on each side of an event's name."""
LANE = 14
"""From one line across to the next."""
BETWEEN = 6
"""Between events' names, one above the other."""
_WRAP = 23  # characters in a line of text

_LETTERS = {27: "ijl.,:;'|!", 36: "frtI()[]/- ", 86: "mwMW@%", 68: "ABCDEFGHKLNOPQRSTUVXYZ"}
_WIDTHS = {letter: width for width, letters in _LETTERS.items() for letter in letters}


def text_width(text: str, size: int, *, bold: bool = False) -> int:
    """Return how wide a text is drawn: about what common sans-serif fonts make of it, and all are held to it."""
    hundredths = sum(_WIDTHS.get(one, 57 if one.isascii() else 100) for one in text)
    return -(-hundredths * size * (110 if bold else 100) // 10_000)


def room(text: str, size: int, *, bold: bool = False) -> int:
    """Return how wide the room kept for a text is."""
    return text_width(text, size, bold=bold) * 6 // 5


def pill_size(arrow: Arrow) -> tuple[int, int]:
    """Return how wide and how high an event's name is drawn, with its condition. The width is even."""
    name = room(arrow.event, EVENT) + (BADGE if arrow.number or arrow.stays else 0)
    widest = max([name, *(room(line, SMALL) for line in arrow.condition)])
    return 2 * ((widest + 21) // 2), 26 + LINE * len(arrow.condition)


def half(one: Upright) -> int:
    """Return how far what sits on an upright line reaches to either side."""
    return pill_size(one.arrow)[0] // 2 if one.named else 0


def stack_height(arrows: Iterable[Arrow]) -> int:
    """Return how high events' names are, one above the other."""
    return sum(pill_size(arrow)[1] + BETWEEN for arrow in arrows)


def text_of(state: str) -> list[str]:
    """Return what is written below the name of a state."""
    return textwrap.wrap(MEANINGS.get(state, ""), _WRAP)


def cell_size(row: Row, cell: str | None) -> tuple[int, int]:
    """Return how wide and high a state's box must be, or the place for what leaves a group as it is."""
    stays = row.stays.get(cell, [])
    widths = [pill_size(arrow)[0] for arrow in stays]
    height = stack_height(stays)
    if cell is not None:
        text = text_of(cell)
        widths += [room(cell, NAME, bold=True), *(room(line, SMALL) for line in text)]
        height += HEAD + LINE * len(text) + PAD
    return max(widths) + 2 * PAD, height


def distance(row: Row, left: int) -> int:
    """Return how far a box and the next must be apart, for the arrows between them."""
    widths = [pill_size(arrow)[0] + 2 * STUB for arrow in row.beside.get(left, [])]
    return max(widths, default=GAP)
