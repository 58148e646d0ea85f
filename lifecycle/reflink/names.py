"""The names of a volume's files. They are built and taken apart only here, always as whole names.

NAME is the stem of the volume's files in its VM's directory. Files are told apart by parsing the whole name, never by
a prefix: `private` and `private2` are strangers. No two volumes can claim one file, since a NAME that ends as another
volume's file would is refused (ids.py).
"""

from __future__ import annotations

import functools
import re
from datetime import datetime
from typing import NamedTuple

from lifecycle import times
from lifecycle.ids import objection_to

# patterns as text: each is compiled when it is first used, and then kept by `re`
_FILE = (
    r"(?s)(?P<name>.+?)(?:"
    r"\.img\.(?P<number>0|[1-9][0-9]{0,8})@(?P<at>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
    r"|(?P<kind>(?:-dirty)?\.img@withdrawn|-dirty\.img|-precache\.img|-import\.img|-cow\.img|\.img|\.json)"
    r"|(?P<left>(?:(?:-dirty|-precache|-import)?\.img|\.json)~.+)"
    r")"
)
_LAST_DAY_OF_ALL_MONTHS = "28"
_OLD_REVISION = r"(?P<name>.+?)\.img@[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+Z?"


class Kind:
    """What a file is to its volume: the ending of its name, but for revisions and leftovers."""

    CURRENT = ".img"
    WORKING = "-dirty.img"
    PRECACHE = "-precache.img"
    IMPORT = "-import.img"
    COW = "-cow.img"
    """Changes that the older `file` driver keeps beside the image; never made here."""
    WITHDRAWN_WORKING = "-dirty.img@withdrawn"
    WITHDRAWN_CURRENT = ".img@withdrawn"
    """An image whose name is taken away for the moment in which an event asks who has it open."""
    RECORD = ".json"
    REVISION = "revision"
    LEFTOVER = "leftover"
    """A temporary name that a crash left behind; of no worth."""


WITHDRAWN = {Kind.CURRENT: Kind.WITHDRAWN_CURRENT, Kind.WORKING: Kind.WITHDRAWN_WORKING}
"""The name that an image bears while its own is taken away."""

_ENDINGS = (
    Kind.WORKING,
    Kind.PRECACHE,
    Kind.IMPORT,
    Kind.COW,
    Kind.CURRENT,
    Kind.RECORD,
    Kind.WITHDRAWN_WORKING,
    Kind.WITHDRAWN_CURRENT,
)
"""Those of a volume's files that are told by their endings, the longer before what they end in."""


class FileName(NamedTuple):
    """A file's name, taken apart.

    Attributes:
        volume: the NAME of the volume it belongs to.
        kind: one of `Kind`.
        number: a revision's number.
        at: when the revision was made (UTC).
    """

    volume: str
    kind: str
    number: int | None = None
    at: datetime | None = None


def parse_file(name: str) -> FileName | None:
    """Take a file's name apart; None if it is no file of any volume."""
    if "@" not in name and "~" not in name:  # neither revision nor leftover
        return _parse_by_ending(name)
    match = re.fullmatch(_FILE, name)
    if match is None or objection_to(match["name"], last=True):
        return None
    if match["kind"]:
        return FileName(match["name"], match["kind"])
    if match["left"]:
        return FileName(match["name"], Kind.LEFTOVER)
    at = times.parse_time(match["at"])
    if at is None:
        return None
    return FileName(match["name"], Kind.REVISION, int(match["number"]), at)


def kind_of(file: str, volume: str) -> str | None:
    """Return what a file is to the volume of that NAME: one of `Kind`; None if it is not its file."""
    if file.startswith(volume) and file[len(volume) :] in _ENDINGS:
        return file[len(volume) :]
    parsed = parse_file(file)
    return None if parsed is None or parsed.volume != volume else parsed.kind


def _parse_by_ending(name: str) -> FileName | None:
    kind = next((kind for kind in _ENDINGS if name.endswith(kind) and name != kind), None)
    if kind is None or objection_to(name[: -len(kind)], last=True):
        return None
    return FileName(name[: -len(kind)], kind)


def revision_number(name: str, start: int) -> int | None:
    """Return the number in a revision's file name, of which a volume's NAME takes up to `start`; None if it is none's.

    It is called for each of thousands, so a day is looked up in the calendar only if not every month has it.
    """
    match = _revision_pattern().fullmatch(name, start)
    if match is None or (match[2] > _LAST_DAY_OF_ALL_MONTHS and revision_time(name) is None):
        return None
    return int(match[1])


@functools.cache
def _revision_pattern() -> re.Pattern[str]:
    return re.compile(rf"\.img\.(0|[1-9][0-9]{{0,8}})@{times.PATTERN}")


def revision_time(name: str) -> datetime | None:
    """Return the time at the end of a revision's file name; None if it is no time."""
    return times.parse_time(name.rpartition("@")[2])


def is_old_revision(name: str) -> bool:
    """Tell whether this is a revision of the older naming, which bears a time but no number."""
    return re.fullmatch(_OLD_REVISION, name) is not None


def revision_file(volume: str, number: int, at: datetime) -> str:
    """Return the name of the file that holds the revision."""
    return f"{volume}.img.{number}@{times.format_time(at)}"
