"""The room that a pool keeps free: a start is refused in time, rather than a VM stopped by a full disk."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle import ids
from lifecycle.errors import Locked, NoSuchVolume, Refused, StorageFailed, Vetoed
from lifecycle.sizes import format_size
from lifecycle.states import Event, State

if TYPE_CHECKING:
    from lifecycle.backend import View
    from lifecycle.engine.pool import Pool
    from lifecycle.engine.volume import Volume

_PAUSES = 10
_PAUSE_SECONDS = 0.01

log = logging.getLogger("lifecycle.room")


def missing(pool: Pool) -> int:
    """Return how many bytes the pool lacks of its reserve; 0 if none, or if its room is not known."""
    if not pool.config.reserve:
        return 0
    room = pool.backend.room()
    if room is None:
        return 0
    free, total = room
    return max(pool.config.reserved(total) - free, 0)


def require(volume: Volume, view: View) -> None:
    """Refuse a start while the pool lacks some of its reserve.

    Raises:
        Refused: it does, with how much.
    """
    lacking = missing(volume.pool)
    if lacking:
        raise Refused(
            volume.id,
            view.state,
            Event.START,
            f"the pool must keep {volume.pool.config.reserve} free and lacks {format_size(lacking)} of it;"
            " `lifecycle forget` or `remove` something, or lower `reserve` in pool.toml",
        )


def make(pool: Pool) -> list[tuple[str, int]]:
    """Remove revisions, the oldest first, until the pool has its reserve; return the ids and numbers removed.

    Does so only if the pool's `prune_for_reserve` says so, and never removes what retention may not touch: pinned,
    current and needed revisions, and those from the future. No lock is held when this is called.
    """
    if not pool.config.prune_for_reserve or not (lacking := missing(pool)):
        return []
    from lifecycle.engine import retention  # noqa: PLC0415 - seldom needed

    removed: list[tuple[str, int]] = []
    used = pool.capacity().usage
    enough = None if used is None else used - lacking
    for volume, number in _removable(pool):
        if not _is_missing_still(pool, enough, after_removal=bool(removed)):
            break
        try:
            retention.remove_one(volume, number, reason="reserve")
        except (Vetoed, Locked, StorageFailed, NoSuchVolume) as reason:
            log.warning("%s: revision %d stays: %s", volume.id, number, reason)
        else:
            removed.append((volume.id, number))
    return removed


def _is_missing_still(pool: Pool, enough: int | None, *, after_removal: bool) -> bool:
    """Tell whether the pool lacks room, giving the file system a moment to free what was just removed.

    XFS frees a file's blocks in the background, some milliseconds after its last name is gone. What an embedded pool
    frees comes back to the disk below later still; no more is removed than that disk lacked.

    Args:
        pool: the pool.
        enough: bytes used in the pool from which on enough was removed; None if not known.
        after_removal: whether something was removed.
    """
    for _pause in range(_PAUSES if after_removal else 0):
        if _has_room(pool, enough):
            return False
        time.sleep(_PAUSE_SECONDS)
    return not _has_room(pool, enough)


def _has_room(pool: Pool, enough: int | None) -> bool:
    if not missing(pool):
        return True
    used = pool.capacity().usage
    return used is not None and enough is not None and used <= enough


def _that_can_be_looked_at(pool: Pool) -> Iterator[Volume]:
    """Yield the pool's volumes, but for those in directories that cannot be listed."""
    with contextlib.suppress(StorageFailed):
        yield from pool


def _removable(pool: Pool) -> list[tuple[Volume, int]]:
    """Return all revisions that may be removed at need, the oldest first."""
    from lifecycle import policies  # noqa: PLC0415 - seldom needed

    nothing = policies.parse("last 0")
    found = []
    for volume in _that_can_be_looked_at(pool):
        with contextlib.suppress(StorageFailed):
            if volume.state is State.DAMAGED:
                continue  # its revisions are the way back
            at = {one.number: one.at for one in volume.revisions}
            numbers = nothing.plan(volume.revisions, ids.now()).remove
            found += [(at[number], number, volume) for number in numbers if number in at]
    found.sort(key=lambda one: one[:2])
    return [(volume, number) for _at, number, volume in found]
