"""The space that a pool keeps free: a start is refused early, so that no running VM meets a full disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.errors import Refused
from lifecycle.sizes import format_size
from lifecycle.states import Event

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.model import View


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
