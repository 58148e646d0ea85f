"""From what was asked of a volume to the event that does it. Pure.

The rulebook says which event may happen in which state. Here is what must be known beyond that: which of a stop's
three events it is, which number the event is about, and what concerns other volumes (a source, those that depend on
this one) or sizes. The VM is locked while any of this runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle import ids
from lifecycle.engine import reserve
from lifecycle.engine.transaction import Transition
from lifecycle.errors import (
    InvalidConfig,
    InvalidSize,
    NoSuchRevision,
    ReadOnlyPool,
    Refused,
    Unsupported,
    cut_short,
)
from lifecycle.model import WITHOUT_WRITING
from lifecycle.states import AT_REST, OWNS, RUNNING, Event, State, why_not

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.config import VolumeConfig
    from lifecycle.model import View

_WRITING = frozenset(Event) - frozenset(WITHOUT_WRITING)
_SHOWN = 5
"""How many ids an error names."""


def plan(
    volume: Volume,
    event: Event,
    *,
    reason: str | None = None,
    asked: dict[str, Any] | None = None,
) -> Transition:
    """Look at the volume and return the transition that the event is.

    Raises:
        NoSuchRevision, InvalidSize, Refused: what is asked for cannot be.
    """
    if event is Event.REMOVE:
        return remove(volume)
    view = volume.pool.settle(volume.id)
    return _transition(volume, event, view, reason, asked or {})


def remove(volume: Volume, leaving: Collection[str] = ()) -> Transition:
    """Return the transition that the volume's removal is; `leaving` are the ids of those that go together with it.

    Raises:
        Refused: it is the source of a volume that is to stay, or perhaps is.
    """
    view = volume.pool.settle(volume.id)
    transition = _transition(volume, Event.REMOVE, view, None, {})
    _require_no_dependents(volume, view, leaving)
    return transition


def resize(volume: Volume, size: int, *, shrink: bool) -> Transition | None:
    """Return the transition that a resize to so many bytes is; None if the volume has that size: nothing is to be done.

    Raises:
        InvalidSize, Refused: it cannot be.
    """
    view = volume.pool.settle(volume.id)
    has = view.config.size if view.size is None else view.size
    if size == has and Event.RESIZE in view.allowed:
        return None
    asked = {"size": size, "shrink": shrink}
    return _transition(volume, Event.RESIZE, view, None, asked)


def stop(volume: Volume, *, discard: bool = False, reason: str | None = None) -> Transition:
    """Return the transition that a stop is: release, commit or revert. `write` has been fired if there was one.

    Raises:
        Refused: the volume is not running; or its working image is in doubt, and not to be discarded.
    """
    view = volume.pool.settle(volume.id)
    if view.in_doubt and discard and view.apart:
        return _transition(volume, Event.REVERT, view, reason, {"discard": True})
    if not view.may_run:
        raise refusal(volume, view, "stop")
    if not view.differs:
        return _transition(volume, Event.RELEASE, view, reason, {})
    if volume.noticed != view.run:
        _transition(volume, Event.WRITE, view, None, {}).run()
    event = Event.COMMIT if view.saves and not discard else Event.REVERT
    return _transition(volume, event, view, reason, {})


def revert(volume: Volume, to: int | None) -> list[Transition]:
    """Return the transitions that a revert is: one, or of a running volume to a revision two.

    Raises:
        NoSuchRevision, Refused, Unsupported: it cannot be taken there.
    """
    view = volume.pool.settle(volume.id)
    asked = {"to": to}
    first = _transition(volume, Event.REVERT, view, None, asked)
    if to is None or view.state not in RUNNING:
        return [first]
    reason = None
    if not view.owns:
        reason = OWNS.otherwise
    elif view.moved:
        # the stop commits, and what it prunes must not be what is wanted
        keep = f"`lifecycle pin {volume.id} {to}`, " if to in view.numbers else ""
        reason = f"it has no snapshots: its working image is the only one it has; {keep}stop it, and revert it then"
    if reason is not None:
        raise Refused(volume.id, view.state, "revert to a revision", reason, view.allowed)
    resting = view._replace(state=State.REVERTED, rest=State.REVERTED, differs=False, run=None)
    second = _transition(volume, Event.REVERT, resting, None, asked)
    if any(one.number == to and one.size == 0 for one in volume.revisions):
        raise cut_short(volume.id, to)  # known before anything is thrown away
    return [first, second]


def stop_first(view: View) -> str:
    """Say that a running volume must be stopped first, and what that costs."""
    throws_away = view.config.rw and not view.saves
    return "stop it first" + (", which throws away what was written to it" if throws_away else "")


def refusal(volume: Volume, view: View, event: str) -> Refused:
    """Return the error for an event that cannot be in the volume's state."""
    if view.read_only and event in _WRITING:
        return ReadOnlyPool(volume.id, view.state, event, view.allowed)
    reason = view.damage or why_not(event, view.state, view)
    return Refused(volume.id, view.state, event, reason, view.allowed)


def require_allowed(volume: Volume, event: Event) -> None:
    """Refuse what cannot be now, before what may take long.

    Raises:
        Refused: the event is not allowed.
    """
    view = volume.look()
    if event not in view.allowed:
        raise refusal(volume, view, event)


def require_whole(volume: Volume, what: str) -> View:
    """Return the volume as it is, settled. Its VM is locked.

    Raises:
        NoSuchVolume: there is none. Refused: it is damaged, and its record must be left as it is.
    """
    view = volume.require(volume.pool.settle(volume.id))
    if view.state is State.DAMAGED:
        raise Refused(volume.id, view.state, what, view.damage or "", view.allowed)
    return view


def require_writable(volume: Volume, view: View, what: str) -> None:
    """Refuse what would write where nothing is ever written.

    Raises:
        ReadOnlyPool: that is so.
    """
    if view.read_only:
        raise ReadOnlyPool(volume.id, view.state, what, view.allowed)


def _transition(
    volume: Volume, event: Event, view: View, reason: str | None, asked: dict[str, Any]
) -> Transition:
    state = view.state
    if event is Event.WRITE and state is State.DIRTY and volume.noticed != view.run:
        state = State.STARTED  # what the files show already is noticed only now
    if view.read_only:
        if event in _WRITING:
            raise refusal(volume, view, event)
        if event is Event.RELEASE and view.may_run:
            state = State.STARTED  # as far as this VM goes; it shows as at rest for all of them
    if event in _CHECKS:
        _CHECKS[event](volume, view, asked)
    revision = _number(volume, event, view, asked)
    return Transition(volume, event, view, state, revision=revision, reason=reason, asked=asked)


# ---------------------------------------------------------------- which number


def _number(volume: Volume, event: Event, view: View, asked: dict[str, Any]) -> int | None:
    """Return the number that the event is about; the signals' docstrings say which that is."""
    number = _which(volume, event, view, asked)
    if number is not None and number > ids.MAX_NUMBER:
        raise Unsupported(f"{volume.id} has used up its numbers; clone it to a new volume")
    return number


def _which(volume: Volume, event: Event, view: View, asked: dict[str, Any]) -> int | None:
    if event in {Event.COMMIT, Event.CHECKPOINT, Event.IMPORT}:
        return view.next
    if event in {Event.START, Event.CREATE}:
        return view.current if event is Event.START else 0
    if event is Event.RESIZE and view.owns and view.state in {State.COMMITTED, State.REVERTED}:
        return view.next
    if event is Event.REVERT and view.owns and not asked.get("discard"):
        return _target(volume, view, asked.get("to"))
    return None


def _target(volume: Volume, view: View, to: int | None) -> int | None:
    """Return the number to revert to; None to throw the working image away, or where nothing can be."""
    if view.state is State.ABSENT:
        return None
    if view.state in RUNNING:
        return None
    if to is not None:
        if to not in {0, view.current, *view.numbers}:
            raise NoSuchRevision(volume.id, to, view.numbers)
        return to
    if view.state is State.DAMAGED:
        return view.way_back
    return max((n for n in view.numbers if n < (view.current or 0)), default=0)


# ---------------------------------------------------------------- what concerns sizes and other volumes


def check_new(pool: Pool, volume_id: str, config: VolumeConfig) -> None:
    """Check that a new volume can be set up like this.

    Raises:
        InvalidSize, InvalidConfig, NoSuchVolume: it cannot.
    """
    if config.source is not None:
        least = check_source(pool, volume_id, config.source)
        if config.size is not None and config.size < least:
            raise InvalidSize(config.size, f"its source {config.source} holds {least} bytes")
    elif config.size is None:
        raise InvalidSize(None, "a volume without a source needs a size")


def check_source(pool: Pool, volume_id: str, source: str) -> int:
    """Return the bytes that a source holds.

    Raises:
        NoSuchVolume: there is none. InvalidConfig: that volume cannot be a source, or not of this one.
    """
    if source == volume_id:
        raise InvalidConfig(volume_id, "a volume cannot be its own source")
    found = pool[source].look()
    if not found.keeps:
        raise InvalidConfig(
            volume_id,
            f"{source} cannot be its source: that is {found.config.kind} itself and keeps nothing",
        )
    return found.size or 0


def _require_source(volume: Volume, view: View) -> None:
    source = view.config.source
    if source is None or view.state not in AT_REST:
        return
    found = volume.pool.backend.look(source)
    reason = f"its source {source} is {found.state}; mend that first"
    if found.moved:
        reason = f"its source {source} has no snapshots and is running; stop that first"
    is_whole = found.state is not State.DAMAGED or found.in_doubt  # what is current is not in doubt
    if found.moved or found.state is State.ABSENT or not is_whole:
        raise Refused(volume.id, view.state, Event.START, reason)


def _check_start(volume: Volume, view: View, _asked: dict[str, Any]) -> None:
    _require_source(volume, view)
    if view.state in AT_REST:
        reserve.require(volume, view)


def _check_size(volume: Volume, view: View, asked: dict[str, Any]) -> None:
    size: int = asked["size"]
    if view.state in RUNNING and size < (view.size or 0) and not asked.get("shrink"):
        raise Refused(
            volume.id,
            view.state,
            Event.RESIZE,
            f"it would shrink from {view.size} to {size} bytes while it runs, which cannot be undone;"
            f" {stop_first(view)} (a shrink at rest can be undone), or insist with --shrink",
        )
    if view.config.source is not None and view.state in AT_REST:
        least = volume.pool.backend.look(view.config.source).size or 0
        if size < least:
            raise InvalidSize(size, f"its source {view.config.source} holds {least} bytes")


def _require_no_dependents(volume: Volume, view: View, leaving: Collection[str]) -> None:
    if not view.keeps or view.state not in {*AT_REST, State.DAMAGED}:
        return
    views = [(one.id, one.look()) for one in volume.pool.volumes() if one.id not in leaving]
    dependents = [one for one, view in views if view.config.source == volume.id]
    if not dependents:
        _require_known_sources(volume, view, views)
    if dependents:
        shown = ", ".join(dependents[:_SHOWN]) + (" …" if len(dependents) > _SHOWN else "")
        raise Refused(
            volume.id,
            view.state,
            Event.REMOVE,
            f"it is the source of {shown}; give those another (`lifecycle set {dependents[0]} source=VM/NAME`),"
            " or remove them first",
        )


def _require_known_sources(volume: Volume, view: View, others: Sequence[tuple[str, View]]) -> None:
    """Refuse what would take a source away from a disposable of which it cannot be told whether it begins from it.

    Only a volume without images of its own can be a disposable.
    """
    for one, found in others:
        may_be_one = found.current is None and not found.numbers
        if one != volume.id and not found.is_known and may_be_one:
            raise Refused(
                volume.id,
                view.state,
                Event.REMOVE,
                f"whether {one} begins from it cannot be told: {found.damage}; mend or remove that first",
            )


_CHECKS: dict[Event, Callable[[Volume, View, dict[str, Any]], None]] = {
    Event.START: _check_start,
    Event.RESIZE: _check_size,
}
