"""Draw diagrams/rooms.svg: the rooms of lifecycle/ on their floors, and what each imports. `make diagrams` runs this.

How this works. Each floor is a band; where rooms of one floor import each other it has several rows of boxes. An arrow
that a longer way along others says already is left out. One that passes a row has a place in it, as boxes have, so that
it runs between them. In each row the order is chosen so that few arrows cross, and then each box and each passing arrow
is moved towards what it is tied to. Only whole numbers are drawn, so that the same imports give the same picture.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

import rooms

from lifecycle.report.drawing.sizes import MARGIN, NAME, PAD, SMALL, room, text_width

PICTURE = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), os.pardir, "diagrams", "rooms.svg"
)
BOX, BETWEEN_ROWS, BETWEEN_FLOORS, PASSING, GAP = 32, 30, 44, 6, 18
"""How high a box is; the room from row to row and from floor to floor; how wide a passing arrow is; what is between."""
SWEEPS = 100
"""How often the rows are gone through, for their order and again for where things lie."""
COLOURS = (
    # selector, property, light, dark
    (".paper", "fill", "#ffffff", "#0d1117"),
    (".paper", "stroke", "#d1d9e0", "#3d444d"),
    (".floor", "fill", "#f6f8fa", "#151b23"),
    (".number", "fill", "#59636e", "#a5b0bb"),
    (".box", "fill", "#ddf4ff", "#10305f"),
    (".box", "stroke", "#0969da", "#58a6ff"),
    (".name", "fill", "#1f2328", "#f0f6fc"),
    (".line", "stroke", "#6e7781", "#8b949e"),
    (".tip", "fill", "#6e7781", "#8b949e"),
)


class Passing(NamedTuple):
    """An arrow where it passes a row."""

    tail: str
    head: str
    row: int


Item = str | Passing
Arrow = tuple[str, str]


def drawn() -> set[Arrow]:
    """Return the arrows that are drawn: down, each that no longer way says already."""
    arrows = rooms.between_rooms(rooms.imports())
    return rooms.reduced(
        (tail, head)
        for tail, head in arrows
        if head != rooms.DOOR and rooms.floor_of(tail) <= rooms.floor_of(head)
    )


# ---------------------------------------------------------------- from above to below


def row_by_row(arrows: set[Arrow]) -> list[list[str]]:
    """Return the rooms of each row. Within a floor, what is imported is further down."""
    found = []
    for floor in rooms.FLOORS:
        inside = {(tail, head) for tail, head in arrows if {tail, head} <= set(floor)}
        reached = rooms.below(inside)
        depth = {
            one: rooms.height(
                arrow for arrow in inside if one == arrow[1] or one in reached[arrow[1]]
            )
            for one in floor
        }
        found += [[one for one in floor if depth[one] == at] for at in sorted(set(depth.values()))]
    return found


def with_passing(rows: list[list[str]], arrows: set[Arrow]) -> tuple[list[list[Item]], list[Arrow]]:
    """Return the rows with the arrows that pass them, and the arrows that lead from a row to a lower one."""
    place = {one: at for at, row in enumerate(rows) for one in row}
    found: list[list[Item]] = [list(row) for row in rows]
    downward = sorted(one for one in arrows if place[one[0]] < place[one[1]])
    for tail, head in downward:
        for at in range(place[tail] + 1, place[head]):
            found[at].append(Passing(tail, head, at))
    return found, downward


def links(rows: list[list[Item]], arrows: list[Arrow]) -> list[tuple[Item, Item]]:
    """Return the pieces of arrows, each from a row to the next."""
    place = {one: at for at, row in enumerate(rows) for one in row}
    found: list[tuple[Item, Item]] = []
    for tail, head in arrows:
        between = [Passing(tail, head, at) for at in range(place[tail] + 1, place[head])]
        stops: list[Item] = [tail, *between, head]
        found += pairwise(stops)
    return found


# ---------------------------------------------------------------- from left to right


def crossings(rows: list[list[Item]], pieces: list[tuple[Item, Item]]) -> int:
    """Return how often pieces of arrows cross."""
    at = {one: (row, place) for row, items in enumerate(rows) for place, one in enumerate(items)}
    ends = sorted((at[upper], at[lower]) for upper, lower in pieces)
    return sum(
        one[0] < other[0] and one[1] > other[1]
        for number, one in enumerate(ends)
        for other in ends[number + 1 :]
        if one[0][0] == other[0][0]
    )


def ordered(rows: list[list[Item]], pieces: list[tuple[Item, Item]]) -> list[list[Item]]:
    """Return the rows in an order from left to right in which few arrows cross."""
    best = rows = [list(row) for row in rows]
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        for row in rows if downward else reversed(rows):
            place = {one: (at + 0.5) / len(items) for items in rows for at, one in enumerate(items)}
            near: dict[Item, list[float]] = {one: [] for one in row}
            for upper, lower in pieces:
                mine, its = (lower, upper) if downward else (upper, lower)
                if mine in near:
                    near[mine].append(place[its])
            row.sort(key=lambda one: sum(near[one]) / len(near[one]) if near[one] else place[one])
        if crossings(rows, pieces) < crossings(best, pieces):
            best = [list(row) for row in rows]
    return best


def width_of(item: Item) -> int:
    """Return how wide a box is, or a passing arrow; an even number."""
    return PASSING if isinstance(item, Passing) else 2 * (room(item, NAME, bold=True) // 2 + PAD)


def settled(
    row: Sequence[Item], wanted: dict[Item, float], weights: dict[Item, float]
) -> dict[Item, float]:
    """Return where the middles of a row's items are, as near to where they are wanted as their order allows.

    Neighbours that want to lie on one another make a block; it lies where its members want it on the average, by their
    weights.
    """
    offsets, at = {}, 0.0
    for left, one in zip([None, *row], row, strict=False):
        if left is not None:
            at += (width_of(left) + width_of(one)) / 2 + GAP
        offsets[one] = at
    blocks: list[tuple[float, float, list[Item]]] = []  # where it wants to begin, weight, members
    for one in row:
        weight = weights[one]
        begin, members = wanted[one] - offsets[one], [one]
        while blocks and blocks[-1][0] > begin:
            other, its, before = blocks.pop()
            begin = (begin * weight + other * its) / (weight + its)
            weight, members = weight + its, before + members
        blocks.append((begin, weight, members))
    return {one: begin + offsets[one] for begin, _weight, members in blocks for one in members}


def from_left_to_right(
    rows: list[list[Item]], pieces: list[tuple[Item, Item]]
) -> tuple[dict[Item, int], int]:
    """Return where the middle of each item is, and how wide all is together."""
    ties: dict[Item, dict[Item, float]] = {one: {} for row in rows for one in row}
    for upper, lower in pieces:
        straight = isinstance(upper, Passing) + isinstance(lower, Passing)
        ties[upper][lower] = ties[lower][upper] = (1.0, 2.0, 8.0)[straight]
    weights = {one: sum(its.values()) or 1.0 for one, its in ties.items()}
    middle: dict[Item, float] = {}
    for row in rows:
        middle |= settled(row, dict.fromkeys(row, 0.0), weights)
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {
                one: sum(middle[other] * tie for other, tie in ties[one].items()) / weights[one]
                if ties[one]
                else middle[one]
                for one in row
            }
            middle |= settled(row, wanted, weights)
    left = min(middle[one] - width_of(one) / 2 for one in middle)
    right = max(middle[one] + width_of(one) / 2 for one in middle)
    start = 3 * MARGIN - left
    return {one: round(at + start) for one, at in middle.items()}, round(right + start) + 2 * MARGIN


# ---------------------------------------------------------------- as SVG


def svg() -> str:
    """Return the picture."""
    arrows = drawn()
    boxes = row_by_row(arrows)
    rows, downward = with_passing(boxes, arrows)
    pieces = links(rows, downward)
    rows = ordered(rows, pieces)
    middle, width = from_left_to_right(rows, pieces)
    tops: list[int] = []
    for row, before in zip(boxes, [None, *boxes], strict=False):
        same = before is not None and rooms.floor_of(before[0]) == rooms.floor_of(row[0])
        above = tops[-1] + BOX + (BETWEEN_ROWS if same else BETWEEN_FLOORS) if tops else 2 * MARGIN
        tops.append(above)
    height = tops[-1] + BOX + 2 * MARGIN
    told_by = 'aria-labelledby="lifecycle-rooms-title lifecycle-rooms-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lifecycle-rooms" role="img" {told_by}',
        f'     width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        '<title id="lifecycle-rooms-title">The rooms of lifecycle/ and what each imports</title>',
        f'<desc id="lifecycle-rooms-desc">{escape(_in_words(downward))}</desc>',
        f"<style>\n{_style()}\n</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>',
        *_floors(boxes, tops, width),
        *_lines(rows, tops, downward, middle),
        *(_box(one, middle[one], tops[at]) for at, row in enumerate(boxes) for one in row),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _in_words(arrows: list[Arrow]) -> str:
    heads: dict[str, list[str]] = {}
    for tail, head in arrows:
        heads.setdefault(tail, []).append(head)
    return " ".join(f"{tail} imports {', '.join(its)}." for tail, its in heads.items())


def _style() -> str:
    def rules(place: int) -> list[str]:
        return [f".lifecycle-rooms {one[0]} {{ {one[1]}: {one[2 + place]} }}" for one in COLOURS]

    fonts = 'system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif'
    shapes = (
        f".lifecycle-rooms {{ font-family: {fonts} }}",
        ".lifecycle-rooms text { text-anchor: middle }",
        ".lifecycle-rooms .name { font-weight: 700 }",
        ".lifecycle-rooms .line { fill: none; stroke-width: 1.5 }",
    )
    dark = "\n".join(rules(1))
    return "\n".join([*shapes, *rules(0), f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}"])


def _floors(boxes: list[list[str]], tops: list[int], width: int) -> list[str]:
    found = []
    for number in range(len(rooms.FLOORS)):
        its = [
            top for top, row in zip(tops, boxes, strict=True) if rooms.floor_of(row[0]) == number
        ]
        top, high = its[0] - 8, its[-1] - its[0] + BOX + 16
        found.append(
            f'<rect class="floor" x="10" y="{top}" width="{width - 20}" height="{high}" rx="6"/>'
            f'<text class="number" x="28" y="{top + high // 2 + 4}" font-size="{SMALL}">{number + 1}</text>'
        )
    return found


def _box(name: str, x: int, y: int) -> str:
    width = width_of(name)
    return (
        f'<rect class="box" x="{x - width // 2}" y="{y}" width="{width}" height="{BOX}" rx="6"/>'
        f'<text class="name" x="{x}" y="{y + 21}" font-size="{NAME}" lengthAdjust="spacingAndGlyphs"'
        f' textLength="{text_width(name, NAME, bold=True)}">{escape(name)}</text>'
    )


def _lines(
    rows: list[list[Item]], tops: list[int], arrows: list[Arrow], middle: dict[Item, int]
) -> list[str]:
    """Return the arrows; those at one box are spread along its edge in the order of what they come from."""
    place = {one: at for at, row in enumerate(rows) for one in row}
    ways: dict[Arrow, list[Item]] = {
        (tail, head): [
            tail,
            *(Passing(tail, head, at) for at in range(place[tail] + 1, place[head])),
            head,
        ]
        for tail, head in arrows
    }
    found = []
    for (tail, head), way in ways.items():
        leaving = sorted((middle[its[1]], one) for one, its in ways.items() if one[0] == tail)
        coming = sorted((middle[its[-2]], one) for one, its in ways.items() if one[1] == head)
        x = _spread(tail, [one for _at, one in leaving].index((tail, head)), len(leaving), middle)
        y = tops[place[tail]] + BOX
        path = f"M{x} {y}"
        for one in way[1:-1]:
            path += _curve(x, y, middle[one], tops[place[one]]) + f"V{tops[place[one]] + BOX}"
            x, y = middle[one], tops[place[one]] + BOX
        end = _spread(head, [one for _at, one in coming].index((tail, head)), len(coming), middle)
        top = tops[place[head]]
        path += _curve(x, y, end, top - 7)
        tip = f"{end},{top} {end - 4},{top - 8} {end + 4},{top - 8}"
        found.append(f'<path class="line" d="{path}"/><polygon class="tip" points="{tip}"/>')
    return found


def _spread(name: str, at: int, count: int, middle: dict[Item, int]) -> int:
    inner = width_of(name) - 2 * PAD
    return middle[name] - inner // 2 + inner * (2 * at + 1) // (2 * count)


def _curve(x: int, y: int, to_x: int, to_y: int) -> str:
    half = (y + to_y) // 2
    return f"C{x} {half} {to_x} {half} {to_x} {to_y}"


if __name__ == "__main__":
    path = os.path.normpath(PICTURE)
    with open(path, "w", encoding="utf-8") as file:
        file.write(svg())
    sys.stdout.write(f"{path}\n")
