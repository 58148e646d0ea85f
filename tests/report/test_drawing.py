"""The picture of the rulebook as SVG: true to the rules, for people and for pages, and the same everywhere."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

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
from lifecycle.report.drawing.svg import COLOURS, svg
from lifecycle.states import CONDITIONS, RULES, Event, Rule
from support.rulebooks import CHARTS, LONG, PLUS, each_chart, elements, moves_of

ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------- true to the rules


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
