"""Changes to a volume's record that are no events: settings, pins, labels, and images declared right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lifecycle import times
from lifecycle.config import change_config
from lifecycle.engine import plan
from lifecycle.errors import InvalidConfig, NoSuchRevision, Refused, storage
from lifecycle.states import AT_REST

if TYPE_CHECKING:
    from lifecycle.backend import Volume
    from lifecycle.config import VolumeConfig
    from lifecycle.model import Note, View


_MAX_LABEL = 200


def require_writable(volume: Volume, what: str) -> View:
    """Return the volume as it is, settled, if something about it can be written down. Its VM is locked.

    Raises:
        ReadOnlyPool: nothing can.
        NoSuchVolume: there is none.
        Refused: it is damaged, and its record must be left as it is.
    """
    view = plan.require_whole(volume, what)
    plan.require_writable(volume, view, what)
    return view


def configure(volume: Volume, settings: Mapping[str, Any]) -> VolumeConfig:
    """Change settings of a volume, as `Volume.configure` says; durable when this returns."""
    pool = volume.pool
    with pool.changing(volume):
        view = require_writable(volume, "set")
        config = change_config(volume.id, view.config, settings, pool.config.timezone)
        changed = {key for key in settings if getattr(config, key) != getattr(view.config, key)}
        fixed = sorted(changed & {"rw", "source", "snapshots"})
        if fixed and view.state not in AT_REST:
            reason = f"`{fixed[0]}` changes only at rest; {plan.stop_first(view)}"
            raise Refused(volume.id, view.state, "set", reason)
        if "snapshots" in changed:
            _require_no_running_disposable(volume, view)
        if config.source is not None and config.source != view.config.source:
            plan.check_source(pool, volume.id, config.source)
        if "keep" in settings:  # what it makes of the revisions there are, before it is in force
            pool.policy_for(config).plan(volume.revisions, times.now())
        with storage(volume.id, "set"):
            pool.backend.configure(volume.id, config)
    return config


def _require_no_running_disposable(volume: Volume, view: View) -> None:
    running = [
        one.id
        for one in volume.pool
        if (found := one.look()).running and found.config.source == volume.id
    ]
    if running:
        reason = f"{running[0]} runs on what it holds; stop that first"
        raise Refused(volume.id, view.state, "set `snapshots`", reason)


def label(volume: Volume, number: int, text: str | None) -> None:
    """Put words to a revision or the current image, as `Volume.label` says; durable when this returns."""
    if text and (len(text) > _MAX_LABEL or not text.isprintable()):
        raise InvalidConfig(volume.id, f"a label is one line of at most {_MAX_LABEL} characters")
    annotate(volume, number, lambda note: note._replace(label=text or None))


def annotate(volume: Volume, number: int, change: Callable[[Note], Note]) -> None:
    """Change what is known of a revision or the current image; durable when this returns.

    Raises:
        NoSuchRevision: there is none of that number.
    """
    with volume.pool.changing(volume):
        view = require_writable(volume, "pin or label")
        if number == 0 or number not in {view.current, *view.numbers}:
            raise NoSuchRevision(volume.id, number, view.numbers)
        with storage(volume.id, "pin or label"):
            volume.pool.backend.annotate(volume.id, number, change)


def accept(volume: Volume) -> tuple[int, ...]:
    """Take images for right whose seals are lost, as `Volume.accept` says; durable when this returns."""
    with volume.pool.changing(volume):
        view = require_writable(volume, "accept")
        if view.state not in AT_REST:
            raise Refused(volume.id, view.state, "accept", "it is running; stop it first")
        with storage(volume.id, "accept"):
            return volume.pool.backend.accept(volume.id)
