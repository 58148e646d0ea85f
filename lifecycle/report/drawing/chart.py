"""What the picture shows of the rules: states, their groups, and an arrow for each event.

How this works. Rules are taken apart into moves: this event, under this condition, from this state to that one. Moves
that differ in nothing but their state, and hold for every state of a group, become one arrow of the whole group. So
twenty-odd moves are some dozen arrows, and still nothing is said that the rules do not say: each arrow knows its moves.

Everything here is worked out from what it is given, by default `states.RULES`; which way arrows go is ways.py's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lifecycle.states import (
    APART,
    AT_REST,
    DIFFERS,
    KEEPS,
    OWNS,
    READABLE,
    RESTED_COMMITTED,
    RESTED_CREATED,
    RESTED_REVERTED,
    RESUMES,
    RULES,
    RUNNING,
    SAVES,
    UNWRITTEN,
    Condition,
    Event,
    Rule,
    State,
    rules_for,
)

WALK = (Event.CREATE, Event.START, Event.WRITE, Event.COMMIT, Event.REVERT)
"""From nothing to the first write, to content that is kept, and back to the empty image."""
SHORT_WALK = (Event.CREATE, Event.START, Event.WRITE, Event.REVERT)
"""The same, but what was written is thrown away."""

SHORT_CONDITIONS: dict[Condition, str] = {
    RESUMES: "left over",
    DIFFERS: "",
    UNWRITTEN: "nothing written",
    SAVES: "if persistent",
    KEEPS: "if persistent",
    OWNS: "not if disposable",
    READABLE: "",
    APART: "with snapshots",
    RESTED_CREATED: "rests as before",
    RESTED_COMMITTED: "rests as before",
    RESTED_REVERTED: "rests as before",
}
"""Conditions in two or three words, for arrows; nothing where the picture itself says it. The table has them whole."""

MEANINGS: dict[str, str] = {
    State.ABSENT: "no such volume",
    State.CREATED: "empty, as it was born",
    State.STARTED: "nothing written yet",
    State.DIRTY: "the VM wrote to it",
    State.COMMITTED: "holds new content",
    State.REVERTED: "back to earlier content, or to the empty disk",
    State.DAMAGED: "its files do not make a whole volume",
}
"""What a state is, in a few words."""

_LINE = 18  # characters of a condition in a line


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a walk through the rules.

    Attributes:
        number: its place in the walk, from 1.
        rule: the rule that allows it.
        source: the state before.
        dest: the state after.
    """

    number: int
    rule: Rule
    source: State
    dest: State

    @property
    def sign(self) -> str:
        """The number as it is drawn: ①."""
        return chr(ord("①") + self.number - 1)


def walk(events: tuple[Event, ...]) -> list[Step]:
    """Follow the rules from a volume that does not exist, one event after the other."""
    steps = []
    state = State.ABSENT
    for number, event in enumerate(events, start=1):
        rule = rules_for(event, state)[0]
        dest = rule.dest or state
        steps.append(Step(number, rule, state, dest))
        state = dest
    return steps


def road() -> list[Step]:
    """Return the steps from a volume's birth to its first write and back to the empty image, by both ways."""
    return walk(WALK) + walk(SHORT_WALK)


@dataclass(frozen=True, slots=True)
class Group:
    """States that are alike, drawn in a frame.

    Attributes:
        name: what is written on the frame.
        states: its states, from left to right.
    """

    name: str
    states: tuple[str, ...]


GROUPS = (Group("at rest", AT_REST), Group("running", RUNNING))

End = str | Group
"""What an arrow is fixed to: a state, or a group, which stands for each of its states."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """An event that leads from here to there. One that leaves a state as it is has the same tail and head.

    Attributes:
        event: the event.
        condition: in a few words, when it may happen, in lines; none if always.
        tail: where it begins.
        head: where it ends.
        moves: what it says: each state before with the state after.
        notes: what it does and when, as the table has it.
        number: of its step on the road; 0 off the road.
    """

    event: str
    condition: tuple[str, ...]
    tail: End
    head: End
    moves: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    number: int = 0

    @property
    def stays(self) -> bool:
        """Whether it leaves the state as it is."""
        return self.tail == self.head

    def leaves(self, state: str | None) -> bool:
        """Tell whether it is an event of this state."""
        return any(source == state for source, _dest in self.moves)


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn.

    Attributes:
        states: all states; of each row from left to right.
        groups: the groups, from above to below.
        arrows: what there is between the states.
    """

    states: tuple[str, ...]
    groups: tuple[Group, ...]
    arrows: tuple[Arrow, ...]


@dataclass(frozen=True, slots=True)
class _Move:
    event: str
    condition: tuple[str, ...]
    source: str
    dest: str
    note: str


def chart(
    rules: Sequence[Rule] = RULES,
    states: Sequence[str] = tuple(State),
    groups: Sequence[Group] = GROUPS,
    steps: Iterable[Step] | None = None,
) -> Chart:
    """Work out what is drawn of some rules.

    Args:
        rules: the rules.
        states: all states that they speak of.
        groups: which of the states belong together; the others stand alone.
        steps: what is numbered; by default the road.
    """
    numbers = {
        (step.rule.event.value, step.source.value, step.dest.value): step.number
        for step in (road() if steps is None else steps)
    }
    by_kind: dict[tuple[str, tuple[str, ...]], list[_Move]] = {}
    for rule in rules:
        for source in rule.sources:
            move = _Move(rule.event, _condition(rule), source, rule.dest or source, _note(rule))
            by_kind.setdefault((move.event, move.condition), []).append(move)
    arrows = [
        _arrow(tail, head, moves, numbers)
        for kind in by_kind.values()
        for tail, head, moves in _gathered(kind, groups)
    ]
    return Chart(tuple(states), tuple(groups), tuple(arrows))


def _condition(rule: Rule) -> tuple[str, ...]:
    words = (SHORT_CONDITIONS.get(one, one.text) for one in rule.when)
    whole = ", ".join(dict.fromkeys(one for one in words if one))
    return tuple(textwrap.wrap(whole, _LINE))


def _note(rule: Rule) -> str:
    when = "; ".join([one.text for one in rule.when] + ["not in use"] * rule.unused)
    return f"{rule.note} (when: {when})" if when else rule.note


def _arrow(
    tail: End, head: End, moves: list[_Move], numbers: dict[tuple[str, str, str], int]
) -> Arrow:
    first = moves[0]
    steps = [numbers.get((one.event, one.source, one.dest), 0) for one in moves]
    return Arrow(
        event=first.event,
        condition=first.condition,
        tail=tail,
        head=head,
        moves=tuple((str(one.source), str(one.dest)) for one in moves),
        notes=tuple(dict.fromkeys(one.note for one in moves)),
        number=max(steps),
    )


def _gathered(moves: list[_Move], groups: Sequence[Group]) -> list[tuple[End, End, list[_Move]]]:
    """Gather the moves of one event under one condition to arrows: of whole groups where all states have it."""
    left = list(moves)
    found: list[tuple[End, End, list[_Move]]] = []

    def take(tail: End, head: End, wanted: set[tuple[str, str]]) -> None:
        taken = [one for one in left if (one.source, one.dest) in wanted]
        if wanted and {(one.source, one.dest) for one in taken} == wanted:
            found.append((tail, head, taken))
            left[:] = [one for one in left if one not in taken]

    states = list(dict.fromkeys(state for one in moves for state in (one.source, one.dest)))
    for group in (one for one in groups if len(one.states) > 1):
        for dest in states:
            take(group, dest, {(source, dest) for source in group.states})
        take(group, group, {(source, source) for source in group.states})
        for source in states:
            if source not in group.states:
                take(source, group, {(source, dest) for dest in group.states})
    for source, dest in dict.fromkeys((one.source, one.dest) for one in left):
        take(source, dest, {(source, dest)})
    return found
