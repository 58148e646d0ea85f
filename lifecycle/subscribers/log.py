"""The subscriber that logs one line for each transition, with fields for logs that can be searched.

A subscriber of all `-ed` signals and of `failed`, connected by whoever shows the log: the command line when asked for
more or in the journal, a host's hook; or a program of your own, by `transition_log.connect()`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lifecycle import events
from lifecycle.errors import LifecycleError, printable

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.model import Change

log = logging.getLogger("lifecycle.transitions")


def connect() -> None:
    """Log every transition of every pool from now on; calling it again changes nothing."""
    for tenses in events.EVENTS.values():
        tenses.reported.connect(_log_done)
    events.failed.connect(_log_failed)


def text_of(volume: Volume, change: Change) -> str:
    """Say in a line what has happened."""
    moved = f" from {change.source} to {change.dest}" if change.source != change.dest else ""
    number = "" if change.revision is None else f", revision {change.revision}"
    reason = f" ({printable(change.reason)})" if change.reason else ""
    return f"{volume.id}: {change.event}{moved}{number}{reason}"


def fields_of(volume: Volume, change: Change) -> dict[str, str]:
    """Return the facts by the names that the journal gives them; what is not known is left out."""
    fields = {
        "LIFECYCLE_POOL": volume.pool.path,
        "LIFECYCLE_VM": volume.vm,
        "LIFECYCLE_VOLUME": volume.id,
        "LIFECYCLE_EVENT": change.event,
        "LIFECYCLE_FROM": change.source,
        "LIFECYCLE_TO": change.dest,
        "LIFECYCLE_REVISION": change.revision,
        "LIFECYCLE_REASON": change.reason,
    }
    return {name: str(value) for name, value in fields.items() if value is not None}


def _log_done(_pool: Pool, *, volume: Volume, change: Change) -> None:
    log.info("%s", text_of(volume, change), extra={"fields": fields_of(volume, change)})


def _log_failed(_pool: Pool, *, volume: Volume, change: Change, error: Exception) -> None:
    ours = isinstance(error, LifecycleError)  # and says of itself what was tried
    text = str(error) if ours else printable(f"{volume.id}: {change.event} failed: {error}")
    fields = {**fields_of(volume, change), "LIFECYCLE_ERROR": text}
    # where it was going is not where it is
    del fields["LIFECYCLE_TO"]
    log.error("%s", text, extra={"fields": fields})
