"""Times as records and the names of files bear them: UTC, to the second, from 1970 to the year 9999."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

PATTERN = (
    "(?:19[7-9]|2[0-9]{2}|[3-9][0-9]{2})[0-9]-(?:0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
)
"""A time as names and records bear it, as a regular expression; its one group is the day of the month."""


def format_time(at: datetime) -> str:
    """Return the time as names and records bear it: UTC, to the second."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> datetime | None:
    """Read what `format_time` wrote; None if it is no time."""
    try:
        return datetime.fromisoformat(text) if re.fullmatch(PATTERN, text) else None
    except ValueError:
        return None


def now() -> datetime:
    """Return the time now, as names and records bear it: UTC, to the second, and never one that they cannot bear."""
    try:
        return bearable(int(datetime.now(UTC).timestamp()))
    except (OverflowError, ValueError):  # a clock beyond the calendar
        return LATEST


def bearable(seconds: int) -> datetime:
    """Return the moment so many seconds after 1970 began (UTC), or the one nearest to it that names can bear.

    Clocks that are set wrong, and the times of files, can be of any age: before 1970, or after the year 9999.
    """
    return _BEGINNING + timedelta(seconds=min(max(seconds, 1), _LONGEST))


_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = _BEGINNING + timedelta(seconds=1)
"""What is made sooner counts as made then: a seal of second 0 would be the mark of an unwritten working image."""
LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_LONGEST = int((LATEST - _BEGINNING).total_seconds())
