"""Where each upright line and box in the drawing lies from left to right.

How this works. All conditions are of one kind, "this is at least so far right of that" (`_Apart`). Each place is at
first halfway between the leftmost and the rightmost that fulfils them all. Then, for some rounds, lines are pulled to
the middle of their boxes and boxes to the middle of their lines, as far as the conditions let them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from graphlib import TopologicalSorter

from lifecycle.report.drawing.sizes import GAP, MARGIN, PAD, SMALL, cell_size, distance, half, room
from lifecycle.report.drawing.ways import Row, Upright, Ways, insert

Place = tuple[str, object]
"""What has a place: `left_of` and `right_of` a cell, `line_of` an upright line, `START` and `END`."""
START: Place = ("start", None)
END: Place = ("end", None)


class _Apart:
    """Places from left to right, each at least so far from some others."""

    def __init__(self) -> None:
        self._before: dict[Place, dict[Place, int]] = {START: {}, END: {}}
        self._after: dict[Place, dict[Place, int]] = {}
        self.at: dict[Place, int] = {}

    def require(self, left: Place, by: int, right: Place) -> None:
        """Keep them at least so far apart."""
        self._before.setdefault(left, {})
        before = self._before.setdefault(right, {})
        before[left] = max(by, before.get(left, 0))
        self._after.setdefault(left, {})[right] = before[left]

    def within(self, one: Place, by: int, left: Place, right: Place) -> None:
        """Keep one between two others, as far from each."""
        self.require(left, by, one)
        self.require(one, by, right)

    def solve(self) -> None:
        """Find out where each lies (`at`): halfway between the leftmost and the rightmost that is right for all."""
        order = list(TopologicalSorter(self._before).static_order())
        leftmost: dict[Place, int] = {}
        for place in order:
            before = self._before[place].items()
            leftmost[place] = max((leftmost[one] + by for one, by in before), default=0)
        rightmost = dict.fromkeys(order, leftmost[END])
        for place in reversed(order):
            for one, by in self._before[place].items():
                rightmost[one] = min(rightmost[one], rightmost[place] - by)
        self.at = {place: (leftmost[place] + rightmost[place]) // 2 for place in order}

    def move(self, place: Place, wanted: int) -> None:
        """Move one as near to where it is wanted as the others, where they are now, let it."""
        lowest = max(self.at[one] + by for one, by in self._before[place].items())
        highest = min(self.at[one] - by for one, by in self._after[place].items())
        self.at[place] = min(max(wanted, lowest), highest)


def left_of(row: Row, cell: str | None) -> Place:
    """Name the left edge of a cell of a row."""
    return ("left", (row.group, cell))


def right_of(row: Row, cell: str | None) -> Place:
    """Name the right edge of a cell of a row."""
    return ("right", (row.group, cell))


def line_of(one: Upright) -> Place:
    """Name the place of an upright line."""
    return ("line", one)


def from_left_to_right(ways: Ways) -> dict[Place, int]:
    """Find the place of each cell's edges, of each line, and of the right edge of it all (`END`)."""
    apart = _Apart()
    border = MARGIN + PAD
    box_width = max(cell_size(row, state)[0] for row in ways.rows for state in row.states)
    fixed: dict[tuple[int, int], list[Upright]] = {}  # by the number of a row, and of a box in it
    for row in ways.rows:
        for at, cell in enumerate(row.cells):
            width = box_width if cell else cell_size(row, cell)[0]
            apart.require(left_of(row, cell), width, right_of(row, cell))
            apart.require(START, border, left_of(row, cell))
            apart.require(right_of(row, cell), border, END)
            if at:
                before = right_of(row, row.cells[at - 1])
                apart.require(before, distance(row, at - 1), left_of(row, cell))
    for at, (row, channel) in enumerate(zip(ways.rows, ways.channels, strict=True)):
        below = ways.rows[at + 1] if at + 1 < len(ways.rows) else None
        everything = list(channel.uprights)
        for one in row.inner:
            insert(one, everything)
        for one in everything:
            apart.within(line_of(one), border + half(one), START, END)
            for its_row, place in ((at, one.above), (at + 1, one.below)):
                if place is not None:
                    ends = _ends(ways.rows[its_row], place)
                    apart.within(line_of(one), PAD, *ends)
                    fixed.setdefault((its_row, place), []).append(one)
            if below is not None and below.group is not None and one.below is not None:
                title = room(below.group.name, SMALL, bold=True)
                apart.require(START, border + title + GAP, line_of(one))  # it passes the title
        inside = [one for one in everything if one.above is not None]
        _side_by_side(apart, [(one, half(one)) for one in channel.uprights])
        _side_by_side(apart, [(one, 0) for one in everything])
        _side_by_side(apart, [(one, half(one) if one in row.inner else 0) for one in inside])
    apart.solve()
    boxes = {(_ends(ways.rows[row], place)): lines for (row, place), lines in fixed.items()}
    _pull_to_middles(apart, boxes, box_width)
    return apart.at


def _ends(row: Row, place: int) -> tuple[Place, Place]:
    """Return the places of a box's left and right edge."""
    return left_of(row, row.states[place]), right_of(row, row.states[place])


_ROUNDS = 24  # after which nothing moves any more, or hardly


def _pull_to_middles(
    apart: _Apart, boxes: dict[tuple[Place, Place], list[Upright]], width: int
) -> None:
    """Pull lines to the middles of their boxes, and boxes to the middles of their lines."""
    at = apart.at
    of_line: dict[Upright, list[tuple[Place, Place]]] = {}
    for ends, lines in boxes.items():
        for one in lines:
            of_line.setdefault(one, []).append(ends)
    for _ in range(_ROUNDS):
        for one, its in of_line.items():
            apart.move(
                line_of(one), sum(at[left] + at[right] for left, right in its) // (2 * len(its))
            )
        for (left, right), lines in boxes.items():
            places = [at[line_of(one)] for one in lines]
            middle = (min(places) + max(places)) // 2
            apart.move(left, middle - width // 2)
            apart.move(right, max(middle + width // 2, at[left] + width))
            apart.move(left, at[right] - width)


def _side_by_side(apart: _Apart, uprights: Iterable[tuple[Upright, int]]) -> None:
    """Keep lines apart, each with how far something on it reaches to either side."""
    for (one, reach), (other, its_reach) in itertools.pairwise(uprights):
        apart.require(line_of(one), reach + GAP + its_reach, line_of(other))
