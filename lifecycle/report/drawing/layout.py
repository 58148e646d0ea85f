"""Where each box, frame, line and name in the drawing lies, so that nothing covers anything.

How this works. Each upright line has a place from left to right that is its own (places.py). Of each channel (ways.py)
the upper part is for the events' names, which sit on upright lines, and the lower part for lines across, each at a
height that is its own. So lines can meet only at right angles, and never where something is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lifecycle.report.drawing.chart import Arrow, Chart, Group
from lifecycle.report.drawing.places import (
    END,
    Place,
    from_left_to_right,
    left_of,
    line_of,
    right_of,
)
from lifecycle.report.drawing.sizes import (
    BETWEEN,
    GAP,
    HEAD,
    LANE,
    LINE,
    MARGIN,
    PAD,
    STUB,
    TITLE,
    cell_size,
    pill_size,
    stack_height,
    text_of,
)
from lifecycle.report.drawing.ways import BentEnd, Channel, Row, Ways


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Pill:
    """The name of an event, with its condition."""

    arrow: Arrow
    area: Area


@dataclass(frozen=True, slots=True)
class Box:
    """A state: from `text` on down its name and what it is. The events that leave it as it is are pills inside it."""

    state: str
    area: Area
    text: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A group of states."""

    group: Group
    area: Area


@dataclass(frozen=True, slots=True)
class Line:
    """An arrow's line, from corner to corner."""

    arrow: Arrow
    points: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Picture:
    """Everything, with its place."""

    width: int = 0
    height: int = 0
    frames: list[Frame] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    pills: list[Pill] = field(default_factory=list)


# ---------------------------------------------------------------- from above to below


@dataclass(slots=True)
class _Heights:
    """Where a row lies, with its boxes, and the channel below it, with its names and lines across."""

    top: int
    boxes: int
    boxes_end: int
    bottom: int
    names: int
    lanes: int
    end: int


def _heights(row: Row, channel: Channel, top: int) -> _Heights:
    boxes = top + (TITLE if row.group else 0)
    beside = [stack_height(arrows) for arrows in row.beside.values()]
    high = max([cell_size(row, cell)[1] for cell in row.cells] + beside)
    boxes_end = bottom = boxes + high
    if row.inner:
        bottom += 2 * STUB + max(pill_size(one.arrow)[1] for one in row.inner)
    elif row.group:
        bottom += PAD
    named = [pill_size(one.arrow)[1] for one in channel.uprights if one.named]
    names = bottom + STUB + max(named, default=0) // 2
    lanes = names + max(named, default=0) // 2 + STUB
    end = lanes + LANE * len(channel.lanes) if channel.uprights else bottom + GAP
    return _Heights(top, boxes, boxes_end, bottom, names, lanes, end)


def layout(chart: Chart) -> Picture:
    """Give everything its place."""
    ways = Ways(chart)
    places = from_left_to_right(ways)
    heights: list[_Heights] = []
    for row, channel in zip(ways.rows, ways.channels, strict=True):
        heights.append(_heights(row, channel, heights[-1].end if heights else MARGIN))
    picture = Picture(width=places[END], height=heights[-1].end + MARGIN)
    for row, at in zip(ways.rows, heights, strict=True):
        _lay_row(picture, row, places, at)
    bent = {one.arrow for one in ways.bent}
    for number, (channel, at) in enumerate(zip(ways.channels, heights, strict=True)):
        for one in channel.uprights:
            x = places[line_of(one)]
            if one.named:
                picture.pills.append(_pill(one.arrow, x, at.names))
            if one.arrow not in bent:
                below = heights[number + 1]
                upper = (x, at.bottom if one.above is None else at.boxes_end)
                lower = (x, below.top if one.below is None else below.boxes)
                downward = one.arrow.tail in (ways.rows[number].group, *ways.rows[number].states)
                ends = (upper, lower) if downward else (lower, upper)
                picture.lines.append(Line(one.arrow, ends))
    _lay_bent(picture, ways, places, heights)
    return picture


def _pill(arrow: Arrow, x: int, y: int) -> Pill:
    """Return an event's name around a point."""
    width, height = pill_size(arrow)
    return Pill(arrow, Area(x - width // 2, y - height // 2, width, height))


def _stack(arrows: Iterable[Arrow], x: int, top: int) -> list[Pill]:
    found = []
    for arrow in arrows:
        high = pill_size(arrow)[1]
        found.append(_pill(arrow, x, top + high // 2))
        top += high + BETWEEN
    return found


def _lay_row(picture: Picture, row: Row, places: dict[Place, int], at: _Heights) -> None:
    if row.group is not None:
        width = places[END] - 2 * MARGIN
        picture.frames.append(Frame(row.group, Area(MARGIN, at.top, width, at.bottom - at.top)))
    high = at.boxes_end - at.boxes
    for cell in row.cells:
        left, right = places[left_of(row, cell)], places[right_of(row, cell)]
        stays = row.stays.get(cell, [])
        if cell is None:
            top = at.boxes + (high - stack_height(stays) + BETWEEN) // 2
        else:
            text = text_of(cell)
            space = (high - cell_size(row, cell)[1]) // 2
            area = Area(left, at.boxes, right - left, high)
            picture.boxes.append(Box(cell, area, at.boxes + space, tuple(text)))
            top = at.boxes + space + HEAD + LINE * len(text) + BETWEEN
        picture.pills += _stack(stays, (left + right) // 2, top)
    for place, arrows in row.beside.items():
        left = places[right_of(row, row.states[place])]
        right = places[left_of(row, row.states[place + 1])]
        top = at.boxes + (high - stack_height(arrows) + BETWEEN) // 2
        for pill in _stack(arrows, (left + right) // 2, top):
            y = pill.area.y + pill.area.height // 2
            ends = ((left, y), (right, y))
            forth = row.place(pill.arrow.tail) == place
            picture.lines.append(Line(pill.arrow, ends if forth else ends[::-1]))
            picture.pills.append(pill)
    for one in row.inner:
        x = places[line_of(one)]
        picture.lines.append(Line(one.arrow, ((x, at.bottom), (x, at.boxes_end))))
        picture.pills.append(_pill(one.arrow, x, (at.bottom + at.boxes_end) // 2))


def _lay_bent(
    picture: Picture, ways: Ways, places: dict[Place, int], heights: list[_Heights]
) -> None:
    for bent in ways.bent:
        (first, *tail), (last, *head) = (
            _bent_end(end, bent.arrow, ways, places, heights) for end in (bent.tail, bent.head)
        )
        over = []
        if bent.tail.channel != bent.head.channel:
            picture.width += LANE
            over = [(picture.width - MARGIN, y) for _x, y in (*tail, *head)]
        picture.lines.append(Line(bent.arrow, (first, *tail, *over, *head, last)))


def _bent_end(
    end: BentEnd, arrow: Arrow, ways: Ways, places: dict[Place, int], heights: list[_Heights]
) -> list[tuple[int, int]]:
    """Return where such an end is fixed, and where it turns."""
    x, at, one = places[line_of(end.upright)], heights[end.row], end.upright
    lanes = [bent.arrow for bent in ways.channels[end.channel].lanes]
    turn = heights[end.channel].lanes + LANE * lanes.index(arrow)
    if end.channel == end.row:
        fixed = at.bottom if one.above is None else at.boxes_end
    else:
        fixed = at.top if one.below is None else at.boxes
    return [(x, fixed), (x, turn)]
