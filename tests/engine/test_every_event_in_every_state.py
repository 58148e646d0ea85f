"""Every event in every state, for every kind of volume, on every file system.

The expectation comes from the rulebook's own table, so that a new row is tried at once. That the table itself says
what it should is checked against `PERSISTENT`, written by hand.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Event, InUse, Pool, Refused, State, Vetoed, Volume, events
from lifecycle.errors import Unsupported
from lifecycle.states import RULES, holds, rules_for
from support import holding_open
from support.disks import SIZE, cycle, disk, draw
from support.snapshots import snapshot

ID = "ci-42/root"
Reach = Callable[[Volume], None]

# ---------------------------------------------------------------- how each state is reached


def stay(_volume: Volume) -> None:
    """It was born in this state."""


def remove(volume: Volume) -> None:
    volume.remove()


def start(volume: Volume) -> None:
    volume.start()


def write(volume: Volume) -> None:
    volume.start()
    draw(volume, b"written")
    volume.write()


def write_unnoticed(volume: Volume) -> None:
    volume.start()
    draw(volume, b"written")


def commit(volume: Volume) -> None:
    cycle(volume, b"first")
    cycle(volume, b"second")


def commit_and_start(volume: Volume) -> None:
    commit(volume)
    volume.start()


def revert(volume: Volume) -> None:
    commit(volume)
    volume.revert()


def revert_and_start(volume: Volume) -> None:
    revert(volume)
    volume.start()


def throw_away(volume: Volume) -> None:
    volume.start()
    draw(volume, b"written")
    volume.stop(discard=True)


def throw_away_and_resize(volume: Volume) -> None:
    throw_away(volume)
    volume.resize(2 * SIZE)


def import_twice(volume: Volume) -> None:
    volume.import_from(outside(volume))
    volume.import_from(outside(volume))


def import_and_revert(volume: Volume) -> None:
    import_twice(volume)
    volume.revert()


def losing_its_image(reach: Reach) -> Reach:
    """Return how to reach a state, and then to be damaged: someone deletes the current image."""

    def lose(volume: Volume) -> None:
        reach(volume)
        os.unlink(f"{volume.pool.path}/{volume.id}.img")

    return lose


def with_a_foreign_working_image(volume: Volume) -> None:
    """Damage what has no current image: its working image is no file."""
    volume.start()
    os.unlink(volume.path)
    os.symlink("/dev/null", volume.path)


KINDS: dict[str, dict[str, object]] = {
    "persistent": {"size": SIZE},
    "persistent, crash policy not resume": {"size": SIZE, "on_crash": "revert"},
    "read-only": {"size": SIZE, "rw": False},
    "disposable": {"source": "templates/debian"},
    "volatile": {"size": SIZE, "save_on_stop": False},
    "without snapshots": {"size": SIZE, "snapshots": False},
}

_EVERYONE: dict[str, tuple[State, Reach]] = {
    "absent": (State.ABSENT, remove),
    "created": (State.CREATED, stay),
    "started": (State.STARTED, start),
    "dirty": (State.DIRTY, write),
}
STATES: dict[str, dict[str, tuple[State, Reach]]] = {
    "persistent": {
        **_EVERYONE,
        "started from committed": (State.STARTED, commit_and_start),
        "started from reverted": (State.STARTED, revert_and_start),
        "committed": (State.COMMITTED, commit),
        "reverted": (State.REVERTED, revert),
        "damaged": (State.DAMAGED, losing_its_image(commit)),
    },
    "persistent, crash policy not resume": {
        "started": (State.STARTED, start),
        "dirty": (State.DIRTY, write),
    },
    "read-only": {
        **_EVERYONE,
        "committed": (State.COMMITTED, import_twice),
        "reverted": (State.REVERTED, import_and_revert),
        "damaged": (State.DAMAGED, losing_its_image(import_twice)),
    },
    "disposable": {
        **_EVERYONE,
        "committed": (State.COMMITTED, throw_away_and_resize),
        "reverted": (State.REVERTED, throw_away),
        "damaged": (State.DAMAGED, with_a_foreign_working_image),
    },
    "volatile": {
        **_EVERYONE,
        "committed": (State.COMMITTED, throw_away_and_resize),
        "reverted": (State.REVERTED, throw_away),
        "damaged": (State.DAMAGED, losing_its_image(throw_away_and_resize)),
    },
    "without snapshots": {
        **_EVERYONE,
        "committed": (State.COMMITTED, commit),
        "reverted": (State.REVERTED, revert),
        "started from reverted": (State.STARTED, revert_and_start),
        "damaged": (State.DAMAGED, losing_its_image(import_twice)),
    },
}
SITUATIONS = [(kind, name) for kind, names in STATES.items() for name in names]


def outside(volume: Volume) -> Path:
    """Return an image file outside the pool."""
    path = Path(volume.pool.path + ".outside.img")
    path.write_bytes(disk(b"outside"))
    return path


def volume_in(pool: Pool, kind: str, situation: str) -> Volume:
    """Return a volume of this kind, by real operations in this state."""
    cycle(pool.create_volume("templates/debian", SIZE), b"debian")
    volume = pool.create_volume(ID, **KINDS[kind])  # type: ignore[arg-type]
    state, reach = STATES[kind][situation]
    reach(volume)
    assert volume.state is state
    return volume


# ---------------------------------------------------------------- how each event is asked for

ASK: dict[Event, Callable[[Volume], object]] = {
    Event.CREATE: lambda volume: volume.pool.create_volume(volume.id, SIZE),
    Event.START: Volume.start,
    Event.WRITE: Volume.write,
    Event.RELEASE: Volume.release,
    Event.COMMIT: Volume.commit,
    Event.CHECKPOINT: Volume.checkpoint,
    Event.REVERT: Volume.revert,
    Event.RESIZE: lambda volume: volume.resize(4 * SIZE),
    Event.IMPORT: lambda volume: volume.import_from(outside(volume)),
    Event.REMOVE: Volume.remove,
}


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize(("kind", "situation"), SITUATIONS)
def test_the_table_is_obeyed(pool: Pool, kind: str, situation: str, event: Event) -> None:
    volume = volume_in(pool, kind, situation)
    state, facts = volume.state, volume.look()
    fitting = [rule for rule in rules_for(event, state) if holds(rule, facts)]
    allowed = volume.allowed
    assert (event in allowed) is bool(fitting)

    if fitting:
        ASK[event](volume)
        assert volume.state is outcome(event, state, fitting[0].dest)
        return

    before = snapshot(pool.path)
    with pytest.raises(Refused) as refusal:
        ASK[event](volume)
    assert type(refusal.value) is Refused
    assert (refusal.value.volume, refusal.value.state) == (ID, state)
    assert refusal.value.event == event
    assert refusal.value.allowed == allowed
    assert refusal.value.reason
    assert snapshot(pool.path) == before
    assert volume.state is state


def outcome(event: Event, state: State, dest: State | None) -> State:
    """Return the state that a volume is found in after an allowed event."""
    if (event, state) == (Event.RESIZE, State.STARTED):
        return State.DIRTY  # it differs from what it was made from now, so a stop keeps it
    return state if dest is None else dest


# ---------------------------------------------------------------- the table itself

PERSISTENT: dict[str, dict[Event, State]] = {
    "absent": {Event.CREATE: State.CREATED},
    "created": {
        Event.START: State.STARTED,
        Event.REVERT: State.REVERTED,
        Event.RESIZE: State.CREATED,
        Event.IMPORT: State.COMMITTED,
        Event.REMOVE: State.ABSENT,
    },
    "started": {
        Event.START: State.STARTED,
        Event.RELEASE: State.CREATED,
        Event.CHECKPOINT: State.STARTED,
        Event.REVERT: State.REVERTED,
        Event.RESIZE: State.DIRTY,
    },
    "started from committed": {
        Event.START: State.STARTED,
        Event.RELEASE: State.COMMITTED,
        Event.CHECKPOINT: State.STARTED,
        Event.REVERT: State.REVERTED,
        Event.RESIZE: State.DIRTY,
    },
    "started from reverted": {
        Event.START: State.STARTED,
        Event.RELEASE: State.REVERTED,
        Event.CHECKPOINT: State.STARTED,
        Event.REVERT: State.REVERTED,
        Event.RESIZE: State.DIRTY,
    },
    "dirty": {
        Event.START: State.DIRTY,
        Event.COMMIT: State.COMMITTED,
        Event.CHECKPOINT: State.DIRTY,
        Event.REVERT: State.REVERTED,
        Event.RESIZE: State.DIRTY,
    },
    "committed": {
        Event.START: State.STARTED,
        Event.REVERT: State.REVERTED,
        Event.RESIZE: State.COMMITTED,
        Event.IMPORT: State.COMMITTED,
        Event.REMOVE: State.ABSENT,
    },
    "reverted": {
        Event.START: State.STARTED,
        Event.REVERT: State.REVERTED,
        Event.RESIZE: State.COMMITTED,
        Event.IMPORT: State.COMMITTED,
        Event.REMOVE: State.ABSENT,
    },
    "damaged": {
        Event.REVERT: State.REVERTED,
        Event.IMPORT: State.COMMITTED,
        Event.REMOVE: State.ABSENT,
    },
}
"""Where each event leads a persistent volume; those that are not there are refused."""


@pytest.mark.parametrize("situation", PERSISTENT)
def test_the_table_says_what_it_should(pool: Pool, situation: str) -> None:
    volume = volume_in(pool, "persistent", situation)
    facts = volume.look()
    found = {
        event: outcome(event, facts.state, rule.dest)
        for event in Event
        for rule in rules_for(event, facts.state)
        if holds(rule, facts)
    }

    assert found == PERSISTENT[situation]
    assert set(volume.allowed) == set(PERSISTENT[situation])


def test_every_state_is_tried_for_every_kind() -> None:
    for kind in ("persistent", "read-only", "disposable", "volatile", "without snapshots"):
        assert {state for state, _ in STATES[kind].values()} == set(State)
    assert set(ASK) == set(Event) == {rule.event for rule in RULES}


# ---------------------------------------------------------------- a write that no one noticed yet


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_is_noticed_once(pool: Pool, kind: str) -> None:
    """The files show it at once; the event is for those who subscribed to it."""
    volume = pool.create_volume("templates/debian", SIZE)
    volume = volume if kind == "persistent" else pool.create_volume(ID, **KINDS[kind])  # type: ignore[arg-type]
    write_unnoticed(volume)
    change = volume.write()

    assert (change.source, change.dest) == (State.STARTED, State.DIRTY)
    before = snapshot(pool.path)
    with pytest.raises(Refused):
        volume.write()
    assert snapshot(pool.path) == before


# ---------------------------------------------------------------- objections

ALLOWED = [(situation, event) for situation, found in PERSISTENT.items() for event in found]
WITH_AN_IMAGE = [one for one in ALLOWED if one[0] not in {"absent", "damaged"}]


@pytest.mark.parametrize(("situation", "event"), ALLOWED)
def test_every_event_can_be_vetoed(pool: Pool, situation: str, event: Event) -> None:
    volume = volume_in(pool, "persistent", situation)
    before = snapshot(pool.path)

    def refuse(sender: Pool, *, volume: Volume, change: object) -> None:
        raise RuntimeError("not today")

    events.EVENTS[event].announced.connect(refuse, sender=pool)
    with pytest.raises(Vetoed, match="not today") as veto:
        ASK[event](volume)

    assert (veto.value.volume, veto.value.event) == (ID, event)
    assert isinstance(veto.value.__cause__, RuntimeError)
    assert snapshot(pool.path) == before


@pytest.mark.parametrize(("situation", "event"), WITH_AN_IMAGE)
def test_what_would_pull_an_image_away_is_refused_while_it_is_used(
    pool: Pool, situation: str, event: Event
) -> None:
    volume = volume_in(pool, "persistent", situation)
    facts = volume.look()
    rule = next(rule for rule in rules_for(event, facts.state) if holds(rule, facts))
    image = volume.path if os.path.exists(volume.path) else f"{pool.path}/{ID}.img"
    before = snapshot(pool.path)
    with holding_open.by_this_process(image) as holder:
        if rule.unused:
            with pytest.raises(InUse) as error:
                ASK[event](volume)
            assert error.value.holders == (holder,)
            assert snapshot(pool.path) == before
        elif event is Event.CHECKPOINT and not pool.capacity().reflinks:
            with pytest.raises(Unsupported):
                ASK[event](volume)
        else:
            ASK[event](volume)
            assert volume.state is outcome(event, facts.state, rule.dest)
