"""What there is of one volume in its VM's directory: read in one go, without a lock.

What it means is judging.py's to say. Files of other volumes are passed by as cheaply as can be, and revisions are only
listed until someone asks for one, since a directory can hold thousands.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from lifecycle import copying, names
from lifecycle import record as records
from lifecycle.errors import ForeignFile, InvalidConfig, NewerFormat
from lifecycle.files import Directory
from lifecycle.names import Kind
from lifecycle.record import Record

ATTEMPTS = 100
"""How often to read again when a transition went on meanwhile. Each takes microseconds, a transition longer."""


class RevisionFile(NamedTuple):
    """A revision as the directory lists it."""

    file: str
    number: int
    at: datetime
    inode: int


class Revisions(Mapping[int, RevisionFile]):
    """The revisions on file by number, 0 too: read from the directory's entries when they are first asked for.

    Most events ask nothing of them, and there can be thousands.

    Attributes:
        doubles: further files that claim to be a revision of the same number; of two the later counts.
    """

    def __init__(self, name: str = "", entries: Iterable[os.DirEntry[str]] = ()) -> None:
        self._name = name
        self._entries = entries

    @functools.cached_property
    def _found(self) -> tuple[dict[int, RevisionFile], tuple[str, ...]]:
        found: dict[int, RevisionFile] = {}
        doubles = []
        for entry in self._entries:
            parsed = names.parse_revision(entry.name[len(self._name) :])
            if parsed is None or not entry.is_file(follow_symlinks=False):
                continue
            one = RevisionFile(entry.name, *parsed, entry.inode())
            other = found.setdefault(one.number, one)
            if other is not one:
                older, newer = sorted((other, one), key=lambda two: (two.at, two.file))
                found[one.number] = newer
                doubles.append(older.file)
        return found, tuple(doubles)

    @property
    def doubles(self) -> tuple[str, ...]:
        """Further files that claim a number which another one has."""
        return self._found[1]

    def statuses(self) -> Iterator[os.stat_result]:
        """Yield the status of each file."""
        for entry in self._entries:
            if names.parse_revision(entry.name[len(self._name) :]) is not None:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False)

    def __getitem__(self, number: int) -> RevisionFile:
        return self._found[0][number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._found[0])

    def __len__(self) -> int:
        return len(self._found[0])


class Evidence(NamedTuple):
    """What was found of one volume.

    Attributes:
        name: the volume's NAME.
        current, working: the images' status; None where there is none.
        revisions: those on file.
        leftovers: temporary files of no worth.
        changed_beside: whether a `-cow.img` of the older `file` driver holds what the image lacks.
        record: the record; None if there is none or it cannot be read.
        precache: whether there is a working image made ahead, fresh or not.
        importing: whether there is an image on its way in, or what a crash left of one.
        ready: whether images of the VM wait for disposables.
        statuses: those of the record, the current and the working image, as they were found.
        damage: what makes the volume unusable as it is.
        newer: whether a newer version wrote the record, which must then be left as it is.
    """

    name: str
    current: os.stat_result | None = None
    working: os.stat_result | None = None
    revisions: Revisions = Revisions()
    leftovers: tuple[str, ...] = ()
    changed_beside: bool = False
    record: Record | None = None
    damage: str | None = None
    newer: bool = False
    precache: bool = False
    importing: bool = False
    ready: bool = False
    statuses: Mapping[str, os.stat_result | None] = MappingProxyType({})

    @property
    def current_size(self) -> int | None:
        """Bytes of the current image; None if there is none."""
        return None if self.current is None else self.current.st_size

    @property
    def has_images(self) -> bool:
        """Whether there is any image."""
        return bool(self.current or self.working or self.revisions)

    @property
    def marks(self) -> tuple[object, ...]:
        """What `marks` returned as this was found."""
        return tuple(_mark(self.statuses[kind]) for kind in _MARKED)

    def file(self, kind: str) -> str:
        """Return the name of the volume's file of that kind."""
        return self.name + kind

    @property
    def moved(self) -> bool:
        """Whether the current image itself is what the VM writes to: a volume without snapshots runs."""
        return (
            self.current is None
            and self.working is not None
            and self.record is not None
            and not self.record.config.snapshots
        )

    def current_on_file(self) -> RevisionFile | None:
        """Return the revision that is the same file as the current image."""
        if self.current is None or self.current.st_nlink == 1:
            return None
        return next(
            (one for one in self.revisions.values() if one.inode == self.current.st_ino), None
        )


def gather(directory: Directory, name: str, *, locked: bool = False) -> Evidence:
    """Read what there is of one volume, as of one moment.

    Without its VM's lock (`locked`) it is read again if a transition went on meanwhile.
    """
    evidence = _gather(directory, name)
    for _attempt in range(0 if locked else ATTEMPTS):
        before = evidence.marks
        if marks(directory, name) == before:
            break
        evidence = _gather(directory, name)
    return evidence


def marks(directory: Directory, name: str) -> tuple[object, ...]:
    """Return what no transition leaves as it was: the same before and after means that none went on."""
    return tuple(_mark(directory.stat(name + kind)) for kind in _MARKED)


_MARKED = (Kind.RECORD, Kind.CURRENT, Kind.WORKING)


def _mark(status: os.stat_result | None) -> object:
    return status and (status.st_ino, status.st_ctime_ns, status.st_nlink)


def gather_all(directory: Directory, entries: Iterable[os.DirEntry[str]]) -> list[Evidence]:
    """Read what there is of all volumes in a directory, in the order of their NAMEs, from one listing of it.

    A volume that goes through a transition meanwhile is read once more by itself.
    """
    found: dict[str, Listed] = {}
    for entry in entries:
        parsed = names.parse_file(entry.name)
        if parsed is not None:
            found.setdefault(parsed.volume, Listed()).add(entry, parsed.kind)
    ready = any(entry.name == _READY for entry in entries)
    return [_of_listed(directory, name, found[name], ready=ready) for name in sorted(found)]


def _of_listed(directory: Directory, name: str, listed: Listed, *, ready: bool) -> Evidence:
    listed.ready = ready
    statuses = {kind: _status(listed.entries.get(kind)) for kind in _MARKED}
    evidence = _evidence(directory, name, statuses, listed)
    is_as_listed = all(
        _mark(directory.stat(name + kind)) == _mark(statuses[kind])
        for kind in (Kind.RECORD, Kind.CURRENT)
        if kind in listed.entries
    )
    return evidence if is_as_listed else gather(directory, name)


def _status(entry: os.DirEntry[str] | None) -> os.stat_result | None:
    try:
        return None if entry is None else entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _gather(directory: Directory, name: str) -> Evidence:
    statuses = {kind: directory.stat(name + kind) for kind in _MARKED}
    return _evidence(directory, name, statuses, None)


def _evidence(
    directory: Directory,
    name: str,
    statuses: Mapping[str, os.stat_result | None],
    listed: Listed | None,
) -> Evidence:
    """Read the record, list the other files unless that is done, and put all of it together."""
    damage, record, newer = None, None, False
    try:
        record = _read_record(directory, name) if statuses[Kind.RECORD] else None
    except NewerFormat as error:
        damage, newer = f"its record {error.reason}", True
    except (InvalidConfig, ForeignFile) as error:
        damage = f"its record cannot be read: {error}"
    images = {}
    for kind in (Kind.CURRENT, Kind.WORKING):
        status = statuses[kind]
        if status is not None and not stat.S_ISREG(status.st_mode):
            damage, status = f"{name}{kind} is not a regular file", None
        images[kind] = status
    others = listed or _list(directory, name)
    return Evidence(
        name=name,
        current=images[Kind.CURRENT],
        working=images[Kind.WORKING],
        precache=Kind.PRECACHE in others.entries,
        importing=Kind.IMPORT in others.entries,
        ready=others.ready,
        revisions=Revisions(name, others.revisions),
        leftovers=tuple(others.leftovers),
        changed_beside=Kind.COW in others.entries
        and copying.holds_data(directory, name + Kind.COW),
        record=record,
        damage=damage,
        newer=newer,
        statuses=statuses,
    )


class Listed:
    """The files of one volume as a directory lists them.

    Attributes:
        entries: those that are told by their endings, by kind.
        revisions: the revisions'.
        leftovers: the names of temporary files of no worth.
        ready: whether images of the VM wait for disposables.
    """

    __slots__ = ("entries", "leftovers", "ready", "revisions")

    def __init__(self) -> None:
        self.entries: dict[str, os.DirEntry[str]] = {}
        self.revisions: list[os.DirEntry[str]] = []
        self.leftovers: list[str] = []
        self.ready = False

    def add(self, entry: os.DirEntry[str], kind: str) -> None:
        """Add a file of that kind."""
        if kind == Kind.REVISION:
            self.revisions.append(entry)
        elif kind == Kind.LEFTOVER:
            self.leftovers.append(entry.name)
        else:
            self.entries[kind] = entry


_READY = ".ready"
"""The directory of ahead_files.py."""


def _list(directory: Directory, name: str) -> Listed:
    """List one volume's files, telling them apart as cheaply as can be."""
    found = Listed()
    revision = name + Kind.CURRENT + "."
    for entry in directory.entries():
        # the cheap tests first: most files of a directory are another volume's, or revisions that no one asks for
        file = entry.name
        if not file.startswith(name):
            found.ready = found.ready or file == _READY
        elif file.startswith(revision) and "~" not in file:
            found.revisions.append(entry)
        else:
            parsed = names.parse_file(file)
            if parsed is not None and parsed.volume == name:
                found.add(entry, parsed.kind)
    return found


def _read_record(directory: Directory, name: str) -> Record | None:
    file = name + Kind.RECORD
    try:
        content = directory.read(file, records.MAX_BYTES)
    except FileNotFoundError:
        return None
    where = f"{directory.path}/{file}"
    if len(content) > records.MAX_BYTES:
        raise InvalidConfig(where, "is larger than any record")
    return records.read(where, content)
