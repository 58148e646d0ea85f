"""The rulebook: which events a volume may meet in which state, and where they lead.

How this works. `RULES` is the one table. From it come the one `transitions.Machine` that all volumes share
(`RULEBOOK`), what is allowed now (`allowed`), why something is not (`why_not`), the diagrams, the table in the
docs and the exhaustive test of every state with every event. A new rule is a new row; nothing else changes.

The machine holds no volumes: `RULEBOOK.events[name].trigger(one)` moves any object that has a `_state`, `facts` to put
the conditions to, and the methods called back (see engine/transaction.py), so a hundred thousand volumes cost nothing.

This module knows no files and no signals, and imports nothing of the package but its errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from transitions import EventData, Machine


class State(StrEnum):
    """What a volume is in. Worked out from its files, never stored as such."""

    ABSENT = "absent"
    """There is no such volume: not yet, or no longer."""
    CREATED = "created"
    """At rest, and empty: as it was born."""
    STARTED = "started"
    """It has a working image, which does not differ from what it was made from."""
    DIRTY = "dirty"
    """It has a working image that was written to."""
    COMMITTED = "committed"
    """At rest, with new content."""
    REVERTED = "reverted"
    """At rest, taken back to earlier content."""
    DAMAGED = "damaged"
    """Its files do not make a whole volume; `revert` and `import` lead back."""


AT_REST = (State.CREATED, State.COMMITTED, State.REVERTED)
RUNNING = (State.STARTED, State.DIRTY)


class Event(StrEnum):
    """What can happen to a volume."""

    CREATE = "create"
    START = "start"
    WRITE = "write"
    RELEASE = "release"
    COMMIT = "commit"
    CHECKPOINT = "checkpoint"
    REVERT = "revert"
    RESIZE = "resize"
    IMPORT = "import"
    REMOVE = "remove"


class Condition(NamedTuple):
    """A question put to the volume; `name` is the attribute of it that answers yes or no.

    Attributes:
        name: the attribute.
        text: the condition as the table shows it.
        otherwise: the reason given when the answer is no.
    """

    name: str
    text: str
    otherwise: str


RESUMES = Condition(
    "resumes",
    "its crash policy is `resume`",
    "its working image is left over from a crash and its crash policy is not `resume`;"
    " `lifecycle recover` carries that out (a stop keeps what was written, with --discard it does not)",
)
DIFFERS = Condition(
    "differs",
    "the working image differs from what it was made from",
    "nothing has been written to the working image",
)
UNWRITTEN = Condition(
    "unwritten",
    "nothing was written",
    "its working image was written to; commit or revert it",
)
SAVES = Condition(
    "saves",
    "`save_on_stop`, and not read-only",
    "what is written to it is not kept (it is disposable, volatile or read-only)",
)
KEEPS = Condition(
    "keeps",
    "`save_on_stop`",
    "it has no content of its own (it is disposable or volatile)",
)
OWNS = Condition(
    "owns",
    "it has no source",
    "it has no images of its own: each start begins from its source",
)
READABLE = Condition(
    "readable",
    "no newer version wrote its record",
    "a newer version of lifecycle wrote its record; upgrade lifecycle to use it",
)
APART = Condition(
    "apart",
    "the working image is not the only one",
    "it has no snapshots: its working image is the only one it has; stop it without --discard",
)
RESTED_CREATED = Condition("rested_created", "it rested in `created`", "it rested elsewhere")
RESTED_COMMITTED = Condition("rested_committed", "it rested in `committed`", "it rested elsewhere")
RESTED_REVERTED = Condition("rested_reverted", "it rested in `reverted`", "it rested elsewhere")

CONDITIONS = (
    RESUMES,
    DIFFERS,
    UNWRITTEN,
    SAVES,
    KEEPS,
    OWNS,
    READABLE,
    APART,
    RESTED_CREATED,
    RESTED_COMMITTED,
    RESTED_REVERTED,
)


class Rule(NamedTuple):
    """One row of the table.

    Attributes:
        event: the event.
        sources: the states in which it may happen.
        dest: the state it leads to; None leaves the volume in the state it is in.
        note: what it does, for people.
        when: conditions that must all hold.
        unused: whether it is refused while someone holds an image of the volume open.
    """

    event: Event
    sources: tuple[State, ...]
    dest: State | None
    note: str
    when: tuple[Condition, ...] = ()
    unused: bool = False


_STOPPED_UNWRITTEN = "the VM stopped without writing: nothing to keep, no revision is spent"

RULES: tuple[Rule, ...] = (
    Rule(Event.CREATE, (State.ABSENT,), State.CREATED, "born as the empty image, number 0"),
    Rule(Event.START, AT_REST, State.STARTED, "a private working image is made"),
    Rule(
        Event.START,
        RUNNING,
        None,
        "a left-over working image is used again",
        when=(RESUMES,),
        unused=True,
    ),
    Rule(Event.WRITE, (State.STARTED,), State.DIRTY, "the VM wrote", when=(DIFFERS,)),
    Rule(
        Event.RELEASE,
        (State.STARTED,),
        State.CREATED,
        _STOPPED_UNWRITTEN,
        when=(UNWRITTEN, RESTED_CREATED),
        unused=True,
    ),
    Rule(
        Event.RELEASE,
        (State.STARTED,),
        State.COMMITTED,
        _STOPPED_UNWRITTEN,
        when=(UNWRITTEN, RESTED_COMMITTED),
        unused=True,
    ),
    Rule(
        Event.RELEASE,
        (State.STARTED,),
        State.REVERTED,
        _STOPPED_UNWRITTEN,
        when=(UNWRITTEN, RESTED_REVERTED),
        unused=True,
    ),
    Rule(
        Event.COMMIT,
        (State.DIRTY,),
        State.COMMITTED,
        "the working image becomes current; what was current becomes a revision",
        when=(SAVES,),
        unused=True,
    ),
    Rule(
        Event.CHECKPOINT,
        RUNNING,
        None,
        "a revision from the running VM's image, crash-consistent and marked so",
        when=(SAVES,),
    ),
    Rule(
        Event.REVERT,
        RUNNING,
        State.REVERTED,
        "the working image is thrown away",
        when=(APART,),
        unused=True,
    ),
    Rule(
        Event.REVERT,
        AT_REST,
        State.REVERTED,
        "to a revision, or to 0, the empty image; by default one step back",
        when=(OWNS,),
    ),
    Rule(Event.RESIZE, (State.CREATED,), State.CREATED, "the empty image gets the new size"),
    Rule(
        Event.RESIZE,
        (State.COMMITTED, State.REVERTED),
        State.COMMITTED,
        "the old size stays a revision, so that a shrink can be undone",
    ),
    Rule(Event.RESIZE, RUNNING, None, "the working image gets the new size, loop devices are told"),
    Rule(
        Event.IMPORT,
        AT_REST,
        State.COMMITTED,
        "new content from outside; what was current becomes a revision",
        when=(KEEPS,),
    ),
    Rule(
        Event.REMOVE,
        (*AT_REST, State.DAMAGED),
        State.ABSENT,
        "with all its revisions",
        when=(READABLE,),
        unused=True,
    ),
    Rule(
        Event.REVERT,
        (State.DAMAGED,),
        State.REVERTED,
        "the way back from damage",
        when=(READABLE, OWNS),
        unused=True,
    ),
    Rule(
        Event.IMPORT,
        (State.DAMAGED,),
        State.COMMITTED,
        "the way back from damage",
        when=(READABLE, KEEPS),
        unused=True,
    ),
)


def rules_for(event: str, state: State) -> list[Rule]:
    """Return the rows of the table for this event in this state, conditions not asked."""
    return [rule for rule in RULES if rule.event == event and state in rule.sources]


def holds(rule: Rule, facts: Any) -> bool:
    """Tell whether all of the rule's conditions hold; `facts` has an attribute for each."""
    return all(getattr(facts, condition.name) for condition in rule.when)


def allowed(state: State, facts: Any) -> tuple[Event, ...]:
    """Return the events that the table allows in this state, in the table's order.

    Whether an image is in use is not asked here: it can change at any moment, and is asked when it matters.
    """
    return tuple(
        event for event in Event if any(holds(rule, facts) for rule in rules_for(event, state))
    )


def why_not(event: str, state: State, facts: Any) -> str:
    """Return the reason why the event is refused now, a clause without a full stop."""
    candidates = rules_for(event, state)
    if not candidates:
        return _SAID_OF.get(event) or _said_of_state(event, state)
    return _first_failing(candidates, facts).otherwise


_SAID_OF = {"create": "there is such a volume already", "stop": "it is not running"}
"""What is said where no row fits, if there is something better to say; `stop` is what hosts call (engine/plan.py)."""


def _said_of_state(event: str, state: State) -> str:
    """Return what is said where no row fits: of a running volume what is for one at rest, and the other way round."""
    if state in RUNNING and any(rules_for(event, one) for one in AT_REST):
        return "it is running; stop it first"
    if state in AT_REST and any(rules_for(event, one) for one in RUNNING):
        return "it is not running"
    return f"this is not possible in the state `{state}`"


def _first_failing(rules: Iterable[Rule], facts: Any) -> Condition:
    return next(
        condition for rule in rules for condition in rule.when if not getattr(facts, condition.name)
    )


def _asks(condition: Condition) -> Callable[[EventData], bool]:
    """Return the condition as the machine calls it."""

    def ask(data: EventData) -> bool:
        model: Any = data.model
        return bool(getattr(model.facts, condition.name))

    return ask


def _build_machine() -> Machine:
    """Make the machine. The volume is asked to check, announce, act and report, in this order.

    An exception in the first three leaves the state as it was (transitions flips it after them).
    """
    machine = Machine(
        model=None,
        states=State,
        initial=State.ABSENT,
        auto_transitions=False,
        send_event=True,
        queued=False,
        model_attribute="_state",
        before_state_change=["_announce", "_act"],
        after_state_change="_report",
    )
    for rule in RULES:
        machine.add_transition(
            rule.event.value,
            list(rule.sources),
            "=" if rule.dest is None else rule.dest,
            prepare=["_require_unused"] if rule.unused else [],
            conditions=[_asks(condition) for condition in rule.when],
        )
    return machine


RULEBOOK = _build_machine()


def dest_of(data: EventData) -> State:
    """Return the state that the machine is about to move to."""
    dest = data.transition.dest if data.transition else None
    if dest is None:
        raise ValueError("the machine is not moving")
    return State(str(RULEBOOK.get_state(dest).value))
