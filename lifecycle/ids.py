"""Names: the id of a volume, and the names of its files. Names are built and taken apart only here.

A volume's id is `VM/NAME`. The VM is a directory of the pool, perhaps below others (`appvms/work`); NAME is the
stem of the volume's files in it. Files are told apart by parsing the whole name, never by a prefix: `private` and
`private2` are strangers. So that no two volumes can claim one file, a name that ends as another volume's file
would, or holds a mark that the files use, is refused.
"""

from __future__ import annotations

import functools
import os
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from lifecycle import errors
from lifecycle.errors import InvalidName

MAX_NUMBER = 10**9 - 1
"""The highest number a revision can have: it must fit in the nanoseconds of a second (see backend_reflink)."""

HOOKS = "hooks.d"
"""The directory of a pool with its hooks: no VM."""

_MAX_NAME = 190
"""Bytes. A name of 255, the most a file system takes, less the longest ending that is put behind it."""
_MAX_ID = 1000
"""Bytes. Well under what the kernel takes as a path (4096), the pool's own path before it included."""
_RESERVED_ENDINGS = ("-dirty", "-precache", "-import", "-cow")

# patterns as text: each is compiled when it is first used, and then kept by `re`; but the one of all names at once
_FILE = (
    r"(?s)(?P<name>.+?)(?:"
    r"\.img\.(?P<number>0|[1-9][0-9]{0,8})@(?P<at>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
    r"|(?P<kind>(?:-dirty)?\.img@withdrawn|-dirty\.img|-precache\.img|-import\.img|-cow\.img|\.img|\.json)"
    r"|(?P<left>(?:(?:-dirty|-precache|-import)?\.img|\.json)~.+)"
    r")"
)
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of characters that control, break lines, or cannot be shown."""
_TIME = (
    "(?:19[7-9]|2[0-9]{2}|[3-9][0-9]{2})[0-9]-(?:0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
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
    if match is None or _objection(match["name"], last=True):
        return None
    if match["kind"]:
        return FileName(match["name"], match["kind"])
    if match["left"]:
        return FileName(match["name"], Kind.LEFTOVER)
    at = parse_time(match["at"])
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
    if kind is None or _objection(name[: -len(kind)], last=True):
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
    return re.compile(rf"\.img\.(0|[1-9][0-9]{{0,8}})@{_TIME}")


def revision_time(name: str) -> datetime | None:
    """Return the time at the end of a revision's file name; None if it is no time."""
    return parse_time(name.rpartition("@")[2])


def is_old_revision(name: str) -> bool:
    """Tell whether this is a revision of the older naming, which bears a time but no number."""
    return re.fullmatch(_OLD_REVISION, name) is not None


def revision_file(volume: str, number: int, at: datetime) -> str:
    """Return the name of the file that holds the revision."""
    return f"{volume}.img.{number}@{format_time(at)}"


def format_time(at: datetime) -> str:
    """Return the time as names and records bear it: UTC, to the second."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> datetime | None:
    """Read what `format_time` wrote; None if it is no time."""
    try:
        return datetime.fromisoformat(text) if re.fullmatch(_TIME, text) else None
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


def printable(name: str) -> str:
    """Return a file's name as it can be printed anywhere; names on disk are bytes of any kind."""
    return errors.printable(os.fsencode(name).decode(errors="backslashreplace"))


def split_id(volume_id: str) -> tuple[str, str]:
    """Check a volume's id and return its VM and its NAME.

    Raises:
        InvalidName: it is none, with the reason.
    """
    _check_is_text(volume_id)
    return _split_id(volume_id)


@functools.lru_cache(maxsize=1000)
def _split_id(volume_id: str) -> tuple[str, str]:
    _check_path(volume_id)
    vm, slash, name = volume_id.rpartition("/")
    if not slash:
        raise InvalidName(volume_id, "a volume's id is VM/NAME, as in `ci-42/root`")
    _check_part(volume_id, name, last=True)
    try:
        check_vm(vm)
    except InvalidName as error:
        raise InvalidName(volume_id, error.reason) from None
    return vm, name


def check_vm(vm: str) -> None:
    """Check a VM's name.

    Raises:
        InvalidName: it is none, with the reason.
    """
    _check_is_text(vm)
    _check_path(vm)
    for depth, part in enumerate(vm.split("/")):
        _check_part(vm, part, last=False)
        if not depth and part == HOOKS:
            raise InvalidName(vm, "a pool's own hooks are there")
        if depth and re.fullmatch(_FILE, part):
            raise InvalidName(
                vm, f"`{part}` would lie where a volume of the VM above it has a file of that name"
            )


def _check_is_text(path: object) -> None:
    if not isinstance(path, str):
        raise InvalidName(path, "a name is a string")


def _check_path(path: str) -> None:
    if not path:
        raise InvalidName(path, "it is empty")
    if path.startswith("/"):
        raise InvalidName(path, "it is an absolute path; names are relative to the pool")
    if len(path.encode(errors="surrogatepass")) > _MAX_ID:
        raise InvalidName(path, f"it is longer than {_MAX_ID} bytes")


def _check_part(path: str, part: str, *, last: bool) -> None:
    objection = _objection(part, last=last)
    if objection:
        raise InvalidName(path, objection)


@functools.lru_cache(maxsize=4096)
def _objection(part: str, *, last: bool) -> str | None:
    """Say why the part of a path cannot be (part of) a name; `last` for a volume's own name."""
    if _PLAIN.fullmatch(part) and not (last and part.endswith(_RESERVED_ENDINGS)):
        return None  # most names by far: nothing below can object to one
    import unicodedata  # noqa: PLC0415 - most names need none of it

    checks = (
        (not part, "it has an empty part"),
        (part in {".", ".."}, "it has a part that is `.` or `..`"),
        (part.startswith((".", "-")), "a part of it starts with `.` or `-`"),
        ("@" in part or "~" in part, "`@` and `~` mark revisions and temporary files"),
        (
            any(unicodedata.category(char) in _UNSEEN for char in part),
            "it has a control character or one that cannot be shown",
        ),
        (part != part.strip(), "a part of it starts or ends with a space"),
        (
            not unicodedata.is_normalized("NFC", part),
            "it is not in Unicode's composed form (NFC), so two names could look the same",
        ),
        (
            last and part.endswith(_RESERVED_ENDINGS),
            "it ends in -dirty, -precache, -import or -cow, as another volume's file would",
        ),
        (
            len(part.encode(errors="surrogatepass")) > _MAX_NAME,
            f"a part of it is longer than {_MAX_NAME} bytes",
        ),
    )
    return next((reason for wrong, reason in checks if wrong), None)
