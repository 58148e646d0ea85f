"""A retention term for lifecycle: `weekends N` keeps the newest revision of each of the last N weekends."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifecycle.policies import Keeps, Revision

SATURDAY = 6


def weekends(argument: str, zone: tzinfo) -> Keeps:
    """Return the term; lifecycle calls this when it reads a line with `weekends` in it.

    Args:
        argument: what stands beside the word in the line.
        zone: where days are counted.

    Raises:
        ValueError: the argument is no count; lifecycle refuses the line with this text.
    """
    if not (argument.isascii() and argument.isdecimal()):
        raise ValueError("it needs a count, as in `weekends 4`")
    count = int(argument)

    def keeps(candidates: Sequence[Revision], now: datetime) -> dict[int, str]:  # noqa: ARG001
        """Return a reason for the number of each revision that is kept; the candidates come newest first."""
        newest: dict[str, int] = {}
        for revision in candidates:
            day = revision.at.astimezone(zone)
            # Saturday and Sunday are of one ISO week, at the turn of the year too
            weekend = day.strftime("weekend of %G week %V")
            if day.isoweekday() >= SATURDAY and len(newest) < count:
                newest.setdefault(weekend, revision.number)
        return {number: weekend for weekend, number in newest.items()}

    return keeps
