"""The picture of the rulebook: nothing in it lies on anything else, whatever the rules are, and all writing fits."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from fontTools import ttLib

from lifecycle.report.drawing.chart import Chart
from lifecycle.report.drawing.layout import Area, Line, Picture, layout
from lifecycle.report.drawing.sizes import MARGIN, PAD, SMALL, text_width
from lifecycle.report.drawing.svg import svg
from support.rulebooks import SVG, each_chart, elements

# ---------------------------------------------------------------- nothing lies on anything else


def segments(line: Line) -> list[Area]:
    """Return the pieces of a line as areas without thickness."""
    return [
        Area(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
        for (x0, y0), (x1, y1) in itertools.pairwise(line.points)
    ]


def apart(one: Area, other: Area, by: int = 0) -> bool:
    return (
        one.right + by <= other.x
        or other.right + by <= one.x
        or one.bottom + by <= other.y
        or other.bottom + by <= one.y
    )


def inside(one: Area, other: Area) -> bool:
    return (
        other.x <= one.x
        and one.right <= other.right
        and other.y <= one.y
        and one.bottom <= other.bottom
    )


def whole(picture: Picture) -> Area:
    return Area(0, 0, picture.width, picture.height)


@each_chart
def test_no_two_names_or_boxes_overlap(shown: Chart) -> None:
    picture = layout(shown)
    for one, other in itertools.combinations([box.area for box in picture.boxes], 2):
        assert apart(one, other, by=10)
    for pill, other_pill in itertools.combinations(picture.pills, 2):
        assert apart(pill.area, other_pill.area, by=4), (pill, other_pill)
    for pill, box in itertools.product(picture.pills, picture.boxes):
        own = pill.arrow.stays and pill.arrow.tail == box.state
        assert inside(pill.area, box.area) if own else apart(pill.area, box.area, by=4)


@each_chart
def test_all_is_on_the_paper_and_states_are_in_their_frames(shown: Chart) -> None:
    picture = layout(shown)
    for area in [*(one.area for one in [*picture.pills, *picture.boxes, *picture.frames])]:
        assert inside(area, whole(picture))
    for line in picture.lines:
        assert all(inside(piece, whole(picture)) for piece in segments(line))
    frames = {one.group: one.area for one in picture.frames}
    for box in picture.boxes:
        for group, frame in frames.items():
            within = inside(box.area, frame)
            assert within if box.state in group.states else apart(box.area, frame)


@each_chart
def test_each_state_and_each_event_is_there_once(shown: Chart) -> None:
    picture = layout(shown)
    assert sorted(one.state for one in picture.boxes) == sorted(shown.states)
    assert sorted(map(id, shown.arrows)) == sorted(id(one.arrow) for one in picture.pills)
    leading = [one for one in shown.arrows if not one.stays]
    assert sorted(map(id, leading)) == sorted(id(one.arrow) for one in picture.lines)


@each_chart
def test_every_arrow_leads_from_its_tail_to_its_head(shown: Chart) -> None:
    picture = layout(shown)
    edges: dict[object, Area] = {one.state: one.area for one in picture.boxes}
    edges |= {one.group: one.area for one in picture.frames}
    for line in picture.lines:
        for end, (x, y) in zip(
            (line.arrow.tail, line.arrow.head), (line.points[0], line.points[-1]), strict=True
        ):
            area = edges[end]
            on_side = x in (area.x, area.right) and area.y < y < area.bottom
            on_top = y in (area.y, area.bottom) and area.x < x < area.right
            assert on_side or on_top, line


@each_chart
def test_an_event_stands_on_its_own_line_and_no_other_touches_it(shown: Chart) -> None:
    picture = layout(shown)
    for pill, line in itertools.product(picture.pills, picture.lines):
        touched = [piece for piece in segments(line) if not apart(piece, pill.area, by=3)]
        assert len(touched) == (pill.arrow is line.arrow), (pill, line)


@each_chart
def test_no_line_runs_over_a_box_or_along_another_line(shown: Chart) -> None:
    picture = layout(shown)
    for line, box in itertools.product(picture.lines, picture.boxes):
        assert all(apart(piece, box.area) for piece in segments(line)), (line, box)
    for line, other in itertools.combinations(picture.lines, 2):
        for one, two in itertools.product(segments(line), segments(other)):
            if (one.width == 0) == (two.width == 0):
                assert apart(one, two, by=6), (line, other)


@each_chart
def test_no_line_runs_over_the_name_of_a_frame(shown: Chart) -> None:
    picture = layout(shown)
    for frame, line in itertools.product(picture.frames, picture.lines):
        width = text_width(frame.group.name, SMALL, bold=True) * WIDE // 100
        title = Area(frame.area.x, frame.area.y + 4, PAD + width, 20)
        for piece in segments(line):
            assert apart(piece, title), (frame, line)


# ---------------------------------------------------------------- what is written fits, in any font

WIDE = 116
"""In hundredths of the width that is reckoned with: what the widest common font for screens makes of a text."""


@each_chart
def test_every_writing_is_held_to_its_width(shown: Chart) -> None:
    for one in elements(svg(shown=shown), "text"):
        if one.get("class") != "digit":
            assert int(one.attrib["textLength"]) > 0
            assert one.get("lengthAdjust") == "spacingAndGlyphs"


def written(one: ElementTree.Element) -> Area:
    """Return where a text lies, in a wide font that is held to nothing."""
    width = int(one.attrib["textLength"]) * WIDE // 100
    x, y, size = (int(one.attrib[name]) for name in ("x", "y", "font-size"))
    left = x if "begin" in one.get("class", "") else x - width // 2
    return Area(left, y - size, width, size + 3)


FONTS = [
    Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVu{name}.ttf")
    for name in ("Sans", "Sans-Oblique", "Serif", "SansMono", "Sans-Bold", "Serif-Bold")
]
"""As wide as Verdana, and wider: what is there on a Linux machine without any other."""


@pytest.mark.parametrize("path", FONTS, ids=lambda path: path.stem)
def test_in_wide_fonts_writing_is_hardly_squeezed(path: Path) -> None:
    """And of those for running text none is wider than the room kept where a program does not squeeze."""
    font = ttLib.TTFont(path)
    glyphs, widths, em = font.getBestCmap(), font["hmtx"], font["head"].unitsPerEm
    texts = {
        one: one.get("class") in ("name", "title begin")
        for one in elements(svg(), "text")
        if one.get("class") != "digit"
    }
    for one in [text for text, bold in texts.items() if bold == ("Bold" in path.stem)]:
        units = sum(widths[glyphs[ord(letter)]][0] for letter in str(one.text))
        natural = units * int(one.attrib["font-size"]) / em
        held = int(one.attrib["textLength"])
        assert 0.7 < held / natural < 1.15, one.text
        assert natural < held * WIDE / 100 or "Mono" in path.stem, one.text


def drawn(one: ElementTree.Element) -> Area:
    return Area(*(int(one.attrib[name]) for name in ("x", "y", "width", "height")))


@each_chart
def test_in_a_wide_font_every_writing_stays_in_its_box(shown: Chart) -> None:
    root = ElementTree.fromstring(svg(shown=shown))
    for group in root.iter(f"{SVG}g"):
        (rect,) = group.iter(f"{SVG}rect")
        lines = [written(one) for one in group.iter(f"{SVG}text") if one.get("class") != "digit"]
        assert lines
        for line in lines:
            assert inside(line, drawn(rect)), (line, rect.attrib)
        for one, other in itertools.combinations(lines, 2):
            assert apart(one, other)


@each_chart
def test_what_explains_the_signs_lies_below_all_and_on_the_paper(shown: Chart) -> None:
    root = ElementTree.fromstring(svg(shown=shown))
    lines = [written(one) for one in root.findall(f"{SVG}text") if one.get("class") != "digit"]
    picture = layout(shown)
    paper = Area(0, picture.height - MARGIN, int(root.attrib["width"]), int(root.attrib["height"]))
    assert all(inside(one, paper) for one in lines)
    assert all(apart(one, other) for one, other in itertools.combinations(lines, 2))
