"""The rulebook as a table, and the machine made of it: every state with every event and every answer."""

import itertools
import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from transitions import MachineError

from lifecycle.states import (
    AT_REST,
    CONDITIONS,
    DIFFERS,
    KEEPS,
    OWNS,
    RESUMES,
    RULEBOOK,
    RULES,
    RUNNING,
    SAVES,
    UNWRITTEN,
    Event,
    Rule,
    State,
    allowed,
    dest_of,
    holds,
    rules_for,
    why_not,
)

CONDITION_NAMES = [condition.name for condition in CONDITIONS]
EVERY_ANSWER = [
    SimpleNamespace(**dict(zip(CONDITION_NAMES, answers, strict=True)))
    for answers in itertools.product([True, False], repeat=len(CONDITION_NAMES))
]
EVERY_PAIR = list(itertools.product(State, Event))


def facts(**answers: bool) -> SimpleNamespace:
    """Return a volume's answers: yes to what is not said, and rested in `committed`."""
    rested = {f"rested_{state}": state is State.COMMITTED for state in AT_REST}
    return SimpleNamespace(**{**dict.fromkeys(CONDITION_NAMES, True), **rested, **answers})


@dataclass(slots=True)
class Disk:
    """What the machine moves, in a volume's place: it writes down what it is called back for."""

    _state: State
    facts: SimpleNamespace
    calls: list[str] = field(default_factory=list)
    raises_in: str | None = None

    def _called(self, name: str) -> None:
        self.calls.append(f"{name} in {self._state}")
        if name == self.raises_in:
            raise RuntimeError(name)

    def _require_unused(self, _event: Any) -> None:
        self._called("require unused")

    def _announce(self, event: Any) -> None:
        self._called(f"announce {dest_of(event)}")

    def _act(self, _event: Any) -> None:
        self._called("act")

    def _report(self, _event: Any) -> None:
        self._called("report")

    @property
    def state(self) -> State:
        return self._state


def fitting(event: Event, state: State, answers: SimpleNamespace) -> Rule | None:
    """Return the first row that applies, worked out from RULES alone."""
    for rule in RULES:
        asked = [getattr(answers, condition.name) for condition in rule.when]
        if rule.event is event and state in rule.sources and all(asked):
            return rule
    return None


# ---------------------------------------------------------------- the machine agrees with the table


@pytest.mark.parametrize(("state", "event"), EVERY_PAIR)
def test_the_machine_does_what_the_table_says(state: State, event: Event) -> None:
    for answers in EVERY_ANSWER:
        disk = Disk(state, answers)
        rule = fitting(event, state, answers)
        try:
            moved = RULEBOOK.events[event].trigger(disk)
        except MachineError:
            moved = False
            assert not rules_for(event, state)
        assert moved is (rule is not None)
        if rule is None:
            assert disk.state is state
            assert set(disk.calls) <= {f"require unused in {state}"}
            continue
        dest = rule.dest or state
        assert disk.state is dest
        assert disk.calls[-3:] == [
            f"announce {dest} in {state}",
            f"act in {state}",
            f"report in {dest}",
        ]
        assert bool(disk.calls[:-3]) is rule.unused


@pytest.mark.parametrize(("state", "event"), EVERY_PAIR)
def test_what_is_allowed_and_why_something_is_not_agree_with_the_table(
    state: State, event: Event
) -> None:
    for answers in EVERY_ANSWER:
        rule = fitting(event, state, answers)
        assert (event in allowed(state, answers)) is (rule is not None)
        if rule is not None:
            continue
        reason = why_not(event, state, answers)
        rows = rules_for(event, state)
        if rows:
            assert reason in {one.otherwise for row in rows for one in row.when}
        else:
            assert reason in {
                f"this is not possible in the state `{state}`",
                "there is such a volume already",
                "it is running; stop it first" if state in RUNNING else "it is not running",
            }


def test_a_volumes_conditions_never_fit_two_rows_with_different_ends() -> None:
    rested = [f"rested_{state}" for state in AT_REST]
    for answers in EVERY_ANSWER:
        if sum(getattr(answers, name) for name in rested) != 1:
            continue  # a volume rests in one state
        for state, event in EVERY_PAIR:
            rows = [rule for rule in rules_for(event, state) if holds(rule, answers)]
            assert len(rows) <= 1


@pytest.mark.parametrize("where", ["require unused", "announce committed", "act"])
def test_an_exception_before_the_state_changes_leaves_it_as_it_was(where: str) -> None:
    disk = Disk(State.DIRTY, facts(), raises_in=where)
    with pytest.raises(RuntimeError, match=where):
        RULEBOOK.events["commit"].trigger(disk)
    assert disk.state is State.DIRTY
    assert disk.calls[-1] == f"{where} in dirty"


def test_an_exception_after_it_changed_does_not_change_it_back() -> None:
    disk = Disk(State.DIRTY, facts(), raises_in="report")
    with pytest.raises(RuntimeError, match="report"):
        RULEBOOK.events["commit"].trigger(disk)
    assert disk.state is State.COMMITTED


def test_the_machine_holds_no_volumes() -> None:
    disks = [Disk(State.ABSENT, facts()) for _ in range(3)]
    for disk in disks:
        RULEBOOK.events["create"].trigger(disk)
    RULEBOOK.events["start"].trigger(disks[1])
    assert [disk.state for disk in disks] == [State.CREATED, State.STARTED, State.CREATED]
    assert RULEBOOK.models == []


def test_the_machine_knows_the_tables_events_and_states_and_no_others() -> None:
    assert set(RULEBOOK.events) == set(Event)
    assert set(RULEBOOK.states) == {state.name for state in State}


# ---------------------------------------------------------------- the table itself


# what the design promises, row by row: (event, from, answers) -> to; None: refused
PROMISED = [
    ("create", State.ABSENT, {}, State.CREATED),
    *[("start", state, {}, State.STARTED) for state in AT_REST],
    *[("start", state, {"resumes": False}, State.STARTED) for state in AT_REST],
    ("start", State.STARTED, {}, State.STARTED),
    ("start", State.DIRTY, {}, State.DIRTY),
    *[("start", state, {"resumes": False}, None) for state in RUNNING],
    ("write", State.STARTED, {}, State.DIRTY),
    ("write", State.STARTED, {"differs": False}, None),
    ("write", State.DIRTY, {}, None),
    ("release", State.STARTED, {}, State.COMMITTED),
    (
        "release",
        State.STARTED,
        {"rested_committed": False, "rested_created": True},
        State.CREATED,
    ),
    (
        "release",
        State.STARTED,
        {"rested_committed": False, "rested_reverted": True},
        State.REVERTED,
    ),
    ("release", State.STARTED, {"unwritten": False}, None),
    ("release", State.DIRTY, {}, None),
    ("commit", State.DIRTY, {}, State.COMMITTED),
    ("commit", State.DIRTY, {"saves": False}, None),
    ("commit", State.STARTED, {}, None),
    *[("checkpoint", state, {}, state) for state in RUNNING],
    *[("checkpoint", state, {"saves": False}, None) for state in RUNNING],
    *[("revert", state, {}, State.REVERTED) for state in (*RUNNING, *AT_REST, State.DAMAGED)],
    *[("revert", state, {"owns": False}, State.REVERTED) for state in RUNNING],
    *[("revert", state, {"owns": False}, None) for state in (*AT_REST, State.DAMAGED)],
    ("resize", State.CREATED, {}, State.CREATED),
    ("resize", State.COMMITTED, {}, State.COMMITTED),
    ("resize", State.REVERTED, {}, State.COMMITTED),
    *[("resize", state, {}, state) for state in RUNNING],
    *[("import", state, {}, State.COMMITTED) for state in (*AT_REST, State.DAMAGED)],
    *[("import", state, {"keeps": False}, None) for state in (*AT_REST, State.DAMAGED)],
    *[("import", state, {}, None) for state in RUNNING],
    *[("remove", state, {}, State.ABSENT) for state in (*AT_REST, State.DAMAGED)],
    *[("remove", state, {}, None) for state in RUNNING],
    *[(event, State.ABSENT, {}, None) for event in Event if event is not Event.CREATE],
    *[("create", state, {}, None) for state in State if state is not State.ABSENT],
    *[
        (event, State.DAMAGED, {}, None)
        for event in Event
        if event not in {Event.REVERT, Event.IMPORT, Event.REMOVE}
    ],
]


@pytest.mark.parametrize(("event", "source", "answers", "dest"), PROMISED)
def test_the_table_says_what_was_promised(
    event: str, source: State, answers: dict[str, bool], dest: State | None
) -> None:
    asked = facts(**answers)
    rule = fitting(Event(event), source, asked)
    assert (None if rule is None else rule.dest or source) == dest
    assert (event in allowed(source, asked)) is (dest is not None)


@pytest.mark.parametrize(
    ("event", "state", "answers", "reason"),
    [
        ("start", State.DIRTY, {"resumes": False}, RESUMES.otherwise),
        ("write", State.STARTED, {"differs": False}, DIFFERS.otherwise),
        ("release", State.STARTED, {"unwritten": False}, UNWRITTEN.otherwise),
        ("commit", State.DIRTY, {"saves": False}, SAVES.otherwise),
        ("checkpoint", State.STARTED, {"saves": False}, SAVES.otherwise),
        ("revert", State.COMMITTED, {"owns": False}, OWNS.otherwise),
        ("import", State.DAMAGED, {"keeps": False}, KEEPS.otherwise),
        ("commit", State.STARTED, {}, "this is not possible in the state `started`"),
        ("start", State.ABSENT, {}, "this is not possible in the state `absent`"),
        ("create", State.DIRTY, {}, "there is such a volume already"),
        ("remove", State.DIRTY, {}, "it is running; stop it first"),
        ("remove", State.STARTED, {}, "it is running; stop it first"),
        ("import", State.STARTED, {}, "it is running; stop it first"),
        ("checkpoint", State.COMMITTED, {}, "it is not running"),
        ("commit", State.REVERTED, {}, "it is not running"),
        ("release", State.DIRTY, {}, "this is not possible in the state `dirty`"),
        ("checkpoint", State.DAMAGED, {}, "this is not possible in the state `damaged`"),
    ],
)
def test_a_refusal_has_its_reason(
    event: str, state: State, answers: dict[str, bool], reason: str
) -> None:
    assert why_not(event, state, facts(**answers)) == reason


def test_allowed_is_in_the_tables_order() -> None:
    assert allowed(State.COMMITTED, facts()) == (
        Event.START,
        Event.REVERT,
        Event.RESIZE,
        Event.IMPORT,
        Event.REMOVE,
    )
    assert allowed(State.ABSENT, facts()) == (Event.CREATE,)


def test_an_event_that_moves_or_drops_an_image_in_use_asks_whether_it_is() -> None:
    asking = {(rule.event, source) for rule in RULES if rule.unused for source in rule.sources}
    assert asking == {
        *itertools.product([Event.START, Event.REVERT], RUNNING),
        (Event.RELEASE, State.STARTED),
        (Event.COMMIT, State.DIRTY),
        *itertools.product([Event.REMOVE], [*AT_REST, State.DAMAGED]),
        *itertools.product([Event.REVERT, Event.IMPORT], [State.DAMAGED]),
    }


def test_every_state_can_be_reached_and_left() -> None:
    reached = {rule.dest for rule in RULES if rule.dest is not None}
    left = {source for rule in RULES for source in rule.sources}
    assert left == set(State)
    # no event leads to damage: crashes and people do
    assert reached == set(State) - {State.DAMAGED}


def test_every_condition_is_asked_and_explains_itself() -> None:
    assert {one for rule in RULES for one in rule.when} == set(CONDITIONS)
    for condition in CONDITIONS:
        assert condition.name.isidentifier()
        for text in (condition.text, condition.otherwise):
            assert re.fullmatch(r"[a-z`].*[^.]", text)


def test_every_row_says_what_it_does() -> None:
    for rule in RULES:
        assert re.fullmatch(r"[a-z].*[^.]", rule.note)
