"""The picture of the rulebook as SVG: true to the rules, and nothing lies on anything else, whatever the rules are."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from fontTools import ttLib

from lifecycle import State
from lifecycle.report.drawing.chart import (
    GROUPS,
    MEANINGS,
    SHORT_CONDITIONS,
    Chart,
    Group,
    chart,
    road,
)
from lifecycle.report.drawing.layout import Area, Line, Picture, layout
from lifecycle.report.drawing.sizes import MARGIN, PAD, SMALL, text_width
from lifecycle.report.drawing.svg import COLOURS, svg
from lifecycle.states import AT_REST, CONDITIONS, RULES, RUNNING, Condition, Event, Rule

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


# ---------------------------------------------------------------- rulebooks: ours, and others that it may become

LONG = Condition("long", "the moon is full & the tide is “neither” <high> nor low", "it is not")
ARCHIVED: State = "archived"  # type: ignore[assignment]  # a state that there is not
PAUSED: State = "paused"  # type: ignore[assignment]
LOST: State = "lost"  # type: ignore[assignment]
PLUS: dict[str, Sequence[Rule]] = {
    "as it is": (),
    "past a row": (
        Rule(Event.WRITE, (State.DIRTY,), State.DAMAGED, "the disk failed"),
        Rule(Event.IMPORT, (State.ABSENT,), State.DIRTY, "born running"),
    ),
    "past a box": (
        Rule(Event.RELEASE, (State.CREATED,), State.REVERTED, "far"),
        Rule(Event.WRITE, (State.REVERTED,), State.CREATED, "and back"),
    ),
    "both ways between neighbours": (
        Rule(Event.RELEASE, (State.DIRTY,), State.STARTED, "undone"),
        Rule(Event.RESIZE, (State.COMMITTED,), State.REVERTED, "undone"),
        Rule(Event.CHECKPOINT, (State.COMMITTED,), State.REVERTED, "undone"),
    ),
    "across others": (
        Rule(Event.START, (State.CREATED,), State.DIRTY, "already written"),
        Rule(Event.RELEASE, (State.DIRTY,), State.CREATED, "as if never"),
        Rule(Event.CREATE, (State.ABSENT,), State.REVERTED, "born elsewhere"),
        Rule(Event.RESIZE, (State.DAMAGED,), State.CREATED, "made anew"),
    ),
    "a long condition": (
        Rule(Event.RELEASE, (State.REVERTED,), State.ABSENT, "by moonlight", when=(LONG,)),
        Rule(Event.COMMIT, (State.CREATED,), None, "by moonlight", when=(LONG,)),
    ),
    "all from one": tuple(
        Rule(event, (State.STARTED,), dest, "anything goes")
        for event in (Event.IMPORT, Event.REMOVE)
        for dest in State
    ),
}
MORE_STATES = (
    Rule(Event.CHECKPOINT, (ARCHIVED,), State.CREATED, "unpacked"),
    Rule(Event.RELEASE, (*AT_REST, State.DAMAGED), ARCHIVED, "packed"),
    Rule(Event.REMOVE, (ARCHIVED,), State.ABSENT, "gone"),
    Rule(Event.CHECKPOINT, (State.DIRTY,), PAUSED, "held"),
    Rule(Event.START, (PAUSED,), State.STARTED, "goes on"),
    Rule(Event.REVERT, (PAUSED,), LOST, "never seen again"),
    Rule(Event.WRITE, (LOST,), LOST, "still not seen"),
)


def charts() -> Iterator[tuple[str, Chart]]:
    for name, more in PLUS.items():
        yield name, chart((*RULES, *more))
    groups = (Group("at rest", (*AT_REST, ARCHIVED)), Group("running", (*RUNNING, PAUSED)))
    states = (*State, ARCHIVED, PAUSED, LOST)
    yield "more states", chart((*RULES, *MORE_STATES), states, groups)
    yield "a group more", chart((*RULES, *MORE_STATES), states, (*groups, Group("gone", (LOST,))))
    yield "no groups", chart(groups=())
    yield "no states alone", chart(groups=(*GROUPS, Group("no", (State.ABSENT, State.DAMAGED))))
    yield "no rules", chart(rules=())
    every = [
        Rule(event, (source,), dest, "anything")
        for event in (Event.START, Event.COMMIT)
        for source in State
        for dest in State
    ]
    yield "every move", chart(every)
    pairs = (Group("at rest", AT_REST[:2]), Group("running", RUNNING))
    below_each_other = [
        Rule(Event.REVERT, AT_REST[:2], State.CREATED, "inside the frame"),
        Rule(Event.START, AT_REST[:2], State.STARTED, "out of it, below"),
    ]
    yield "a line below a line", chart(below_each_other, (*AT_REST[:2], *RUNNING), pairs, ())
    for left_out in range(len(RULES)):
        yield f"without rule {left_out}", chart(RULES[:left_out] + RULES[left_out + 1 :], steps=())


CHARTS = dict(charts())
each_chart = pytest.mark.parametrize("shown", CHARTS.values(), ids=CHARTS)


# ---------------------------------------------------------------- true to the rules


def moves_of(rules: Sequence[Rule]) -> set[tuple[str, str, str]]:
    return {
        (rule.event.value, str(source), str(rule.dest or source))
        for rule in rules
        for source in rule.sources
    }


@pytest.mark.parametrize("more", PLUS.values(), ids=PLUS)
def test_the_arrows_say_what_the_rules_say_and_nothing_else(more: Sequence[Rule]) -> None:
    rules = (*RULES, *more)
    said = [(one.event, *move) for one in chart(rules).arrows for move in one.moves]
    assert {(str(event), source, dest) for event, source, dest in said} == moves_of(rules)


@each_chart
def test_an_arrow_of_a_group_is_of_each_of_its_states(shown: Chart) -> None:
    for arrow in shown.arrows:
        tails = arrow.tail.states if isinstance(arrow.tail, Group) else (arrow.tail,)
        heads = arrow.head.states if isinstance(arrow.head, Group) else (arrow.head,)
        wanted = (
            {(one, one) for one in tails} if arrow.stays else set(itertools.product(tails, heads))
        )
        assert set(arrow.moves) == wanted


def test_what_holds_for_a_whole_group_is_one_arrow() -> None:
    rest, running = GROUPS
    ends = [(one.event, one.tail, one.head) for one in chart().arrows]
    assert ends.count((Event.START, rest, State.STARTED)) == 1
    assert ends.count((Event.RELEASE, State.STARTED, rest)) == 1
    assert ends.count((Event.REVERT, running, State.REVERTED)) == 1
    assert ends.count((Event.CHECKPOINT, running, running)) == 1
    assert (Event.START, State.CREATED, State.STARTED) not in ends


def test_under_different_conditions_it_is_not_one_arrow() -> None:
    rules = [
        Rule(Event.START, (State.CREATED, State.COMMITTED), State.STARTED, "so"),
        Rule(Event.START, (State.REVERTED,), State.STARTED, "or so", when=(LONG,)),
    ]
    found = chart(rules, steps=()).arrows
    assert [(one.tail, bool(one.condition)) for one in found] == [
        (State.CREATED, False),
        (State.COMMITTED, False),
        (State.REVERTED, True),
    ]


def test_the_road_is_numbered() -> None:
    steps = {(one.number, one.rule.event.value, one.source, one.dest) for one in road()}
    numbered = {
        (arrow.number, arrow.event, source, dest)
        for arrow in chart().arrows
        for source, dest in arrow.moves
        if arrow.number
    }
    assert steps <= numbered
    assert {one[0] for one in numbered} == {one[0] for one in steps}


def test_every_condition_and_every_state_has_its_few_words() -> None:
    assert set(SHORT_CONDITIONS) == set(CONDITIONS)
    assert set(MEANINGS) == set(State)
    assert all(len(words) < 20 for words in SHORT_CONDITIONS.values())


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


def elements(text: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter(f"{SVG}{kind}"))


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


# ---------------------------------------------------------------- as a file and for people


def test_it_shows_every_move_of_the_rules() -> None:
    groups = [one for one in elements(svg(), "g") if "event" in one.get("class", "").split()]
    said = {
        (one.attrib["data-event"], source, dest)
        for one in groups
        for source in one.attrib["data-from"].split()
        for dest in one.attrib["data-to"].split()
    }
    assert moves_of(RULES) <= said
    states = [one for one in elements(svg(), "g") if "state" in one.get("class", "").split()]
    assert {one.get("data-state") for one in states} == set(State)


def test_what_rules_say_is_written_as_it_must_be_in_any_locale() -> None:
    text = svg(shown=CHARTS["a long condition"])
    assert text.isascii()
    words = " ".join(str(one.text) for one in elements(text, "text"))
    assert "is full & the tide is “neither” <high> nor low" in words


def test_it_needs_nothing_from_elsewhere() -> None:
    text = svg()
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|url\(|@import|<script|<image|<foreignObject", text)


def test_it_can_be_told_to_who_does_not_see_it() -> None:
    root = ElementTree.fromstring(svg())
    named = {one.get("id"): one.text for one in root if one.get("id")}
    assert root.get("role") == "img"
    title, description = (named[one] for one in root.attrib["aria-labelledby"].split())
    assert title == "The states of a volume and the events between them"
    assert re.search(r"From dirty, [^.]*commit leads to committed", str(description))
    for arrow in chart().arrows:
        assert arrow.event in str(description)


def test_the_colours_of_light_and_dark_are_for_the_same_things() -> None:
    (style,) = elements(svg(), "style")
    shapes, dark = str(style.text).split("@media (prefers-color-scheme: dark)")
    coloured = re.findall(r"^(\.lifecycle.*) \{ (\w+): #\w{6} \}$", shapes, re.MULTILINE)
    assert coloured == re.findall(r"^(\.lifecycle.*) \{ (\w+): #\w{6} \}$", dark, re.MULTILINE)
    selectors = re.findall(r"^([^@}\n].*?) \{", str(style.text), re.MULTILINE)
    for selector in selectors:  # on a page, nothing else is coloured
        assert all(one.startswith(".lifecycle-states") for one in selector.split(", "))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(share * one for share, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("at", [0, 1], ids=["light", "dark"])
def test_all_writing_can_be_read_on_what_is_below_it(at: int) -> None:
    """WCAG 2: a contrast of 4.5 to 1."""
    colours = {(selector, prop): found[at] for selector, prop, *found in COLOURS}
    grounds = [
        colour
        for (selector, prop), colour in colours.items()
        if prop == "fill" and re.search(r"paper|pill|box|frame", selector)
    ]
    pairs = [(colours[one, "fill"], two) for one in ("text", ".small") for two in grounds]
    pairs += [
        (colours[f".{one} .title", "fill"], colours[f".{one} .frame", "fill"])
        for one in ("rest", "running")
    ]
    pairs.append((colours[".digit", "fill"], colours[".road .tip, .number", "fill"]))
    for writing, ground in pairs:
        darker, lighter = sorted((luminance(writing), luminance(ground)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (writing, ground)


# ---------------------------------------------------------------- lit


@pytest.mark.parametrize("state", State)
def test_the_state_is_lit_and_what_does_not_leave_it_is_faded(state: State) -> None:
    groups = elements(svg(state), "g")
    lit = [one.get("data-state") for one in groups if "lit" in one.get("class", "").split()]
    assert lit == [state]
    for one in groups:
        if "data-event" in one.attrib:
            leaves = state in one.attrib["data-from"].split()
            assert leaves != ("faded" in one.attrib["class"].split())
    assert f"The volume is {state} now." in svg(state)


def test_nothing_else_changes_when_it_is_lit() -> None:
    plain = re.sub(r"The volume is dirty now\. | lit| faded", "", svg(State.DIRTY))
    assert plain == re.sub(r" lit| faded", "", svg())


# ---------------------------------------------------------------- the same everywhere


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_it_is_the_same_in_every_process(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from lifecycle.report.diagrams import svg; print(end=svg())"],
        env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C", "PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == (ROOT / "diagrams" / "volume.svg").read_bytes()


def test_it_needs_nothing_that_the_package_does_not() -> None:
    """All else that is installed here is out of reach."""
    script = """
import sys
sys.modules |= dict.fromkeys(["pygraphviz", "graphviz", "pydot", "matplotlib", "numpy"])
from lifecycle.report.diagrams import svg
print(svg().startswith("<svg"))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
