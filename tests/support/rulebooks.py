"""Rulebooks to be drawn: ours, and others that it may become; and what is found in a drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

import pytest

from lifecycle import State
from lifecycle.report.drawing.chart import GROUPS, Chart, Group, chart
from lifecycle.states import AT_REST, RULES, RUNNING, Condition, Event, Rule

SVG = "{http://www.w3.org/2000/svg}"
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


def moves_of(rules: Sequence[Rule]) -> set[tuple[str, str, str]]:
    return {
        (rule.event.value, str(source), str(rule.dest or source))
        for rule in rules
        for source in rule.sources
    }


def elements(text: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter(f"{SVG}{kind}"))
