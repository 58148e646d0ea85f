"""What there is of one volume in its VM's directory.

What it means is judging.py's to say. The record, the current and the working image are looked at by their names. All
other files must be listed, and there can be thousands; so for who holds the VM's lock, under which nothing changes,
they are listed only when they are asked for. Without it all is read in one go.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from lifecycle import copying, names, seals, tags
from lifecycle import record as records
from lifecycle.errors import ForeignFile, InvalidConfig, NewerFormat, storage
from lifecycle.files import Directory
from lifecycle.names import Kind
from lifecycle.record import Record
from lifecycle.tags import SealTold

ATTEMPTS = 100
"""How often to read again when a transition went on meanwhile. Each takes microseconds, a transition longer."""


class Listed:
    """The files of one volume as a directory lists them.

    Attributes:
        entries: those that are told by their endings, by kind.
        revisions: the revisions'.
        leftovers: the names of temporary files of no worth.
    """

    __slots__ = ("entries", "leftovers", "revisions")

    def __init__(self) -> None:
        self.entries: dict[str, os.DirEntry[str]] = {}
        self.revisions: list[os.DirEntry[str]] = []
        self.leftovers: list[str] = []

    def add(self, entry: os.DirEntry[str], kind: str) -> None:
        """Add a file of that kind."""
        if kind == Kind.REVISION:
            self.revisions.append(entry)
        elif kind == Kind.LEFTOVER:
            self.leftovers.append(entry.name)
        else:
            self.entries[kind] = entry


class Others:
    """The files of one volume beside its record, its current and its working image."""

    def __init__(self, list_them: Callable[[], Listed]) -> None:
        self._list_them = list_them

    @functools.cached_property
    def listed(self) -> Listed:
        """What the directory lists, or listed when this was first asked for."""
        return self._list_them()


_NONE = Others(Listed)


class RevisionFile(NamedTuple):
    """A revision as the directory lists it."""

    file: str
    number: int
    at: datetime
    inode: int


class Revisions(Mapping[int, RevisionFile]):
    """The revisions on file by number, 0 too: read from the directory's entries when they are first asked for.

    Attributes:
        doubles: further files that claim to be a revision of the same number; of two the later counts.
    """

    def __init__(self, name: str, others: Others) -> None:
        self._name = name
        self._others = others

    @functools.cached_property
    def _found(self) -> tuple[dict[int, os.DirEntry[str]], tuple[str, ...]]:
        found: dict[int, os.DirEntry[str]] = {}
        doubles = []
        start = len(self._name)
        for entry in self._others.listed.revisions:
            number = names.revision_number(entry.name, start)
            if number is None or not entry.is_file(follow_symlinks=False):
                continue
            other = found.setdefault(number, entry)
            if other is not entry:
                # their names differ in the time only, and times are ordered as texts
                older, newer = sorted((other, entry), key=lambda two: two.name)
                found[number] = newer
                doubles.append(older.name)
        return found, tuple(doubles)

    @property
    def doubles(self) -> tuple[str, ...]:
        """Further files that claim a number which another one has."""
        return self._found[1]

    def statuses(self) -> Iterator[os.stat_result]:
        """Yield the status of each file."""
        for entry in self._others.listed.revisions:
            if names.revision_number(entry.name, len(self._name)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False)

    def __getitem__(self, number: int) -> RevisionFile:
        entry = self._found[0][number]
        at = names.revision_time(entry.name)
        if at is None:
            raise ValueError(f"{entry.name} is no revision's")  # never, since its number was read
        return RevisionFile(entry.name, number, at, entry.inode())

    def __iter__(self) -> Iterator[int]:
        return iter(self._found[0])

    def __len__(self) -> int:
        return len(self._found[0])


class Evidence(NamedTuple):
    """What was found of one volume.

    Attributes:
        name: the volume's NAME.
        current, working: the images' status; None where there is none.
        withdrawn: those of the two, as kinds, whose names an event had taken away when it was cut off.
        second_names: the names of those that have got their own back, and still bear the other one too.
        rivals: other files that bear the name of an image whose own name was taken away.
        others: the files beside those and the record.
        revisions: those among them.
        namesake: the status of the file that bears, as a revision, the number and time of the current image: that same
            file after a revert, another one in a copy without hard links; None if there is none.
        changed_beside: whether a `-cow.img` of the older `file` driver holds what the image lacks.
        record: the record; None if there is none or it cannot be read.
        statuses: those of the record, the current and the working image and `-cow.img`, as they were found.
        damage: what makes the volume unusable as it is.
        newer: whether a newer version wrote the record, which must then be left as it is.
        made_from: what the working image's tag says it was made from; None if it says nothing.
        told_number: what the current image's tag says its number is; None if it says nothing, or the image is the one
            that the record speaks of.
    """

    name: str
    current: os.stat_result | None = None
    working: os.stat_result | None = None
    withdrawn: frozenset[str] = frozenset()
    second_names: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    others: Others = _NONE
    revisions: Revisions = Revisions("", _NONE)
    namesake: os.stat_result | None = None
    changed_beside: bool = False
    record: Record | None = None
    damage: str | None = None
    newer: bool = False
    statuses: Mapping[str, os.stat_result | None] = MappingProxyType({})
    made_from: SealTold | None = None
    told_number: SealTold | None = None

    @property
    def leftovers(self) -> Sequence[str]:
        """Temporary files of no worth."""
        return self.others.listed.leftovers

    @property
    def importing(self) -> bool:
        """Whether there is an image on its way in, or what a crash left of one."""
        return Kind.IMPORT in self.others.listed.entries

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
        """Return the name of the volume's file of that kind, as it is now."""
        return _file(self.name, kind, self.withdrawn)

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
        """Return the revision that is the same file as the current image; of several, the one that the record names."""
        if self.current is None or self.current.st_nlink == 1:
            return None
        recorded = self.revisions.get(self.record.current or 0) if self.record else None
        if recorded is not None and recorded.inode == self.current.st_ino:
            return recorded
        return next(
            (one for one in self.revisions.values() if one.inode == self.current.st_ino), None
        )


def gather(directory: Directory, name: str) -> Evidence:
    """Read what there is of one volume, as of one moment: again, if a transition went on meanwhile."""
    for _attempt in range(ATTEMPTS):
        evidence = _gather(directory, name, Others(lambda: _list(directory, name)))
        evidence.others.listed  # noqa: B018 - before it is asked whether one went on
        if marks(directory, name) == evidence.marks:
            break
    return evidence


def gather_locked(directory: Directory, volume_id: str) -> Evidence:
    """Read what there is of one volume whose VM is locked, the directory of which must stay open.

    The files that are listed when they are first asked for may raise StorageFailed then.
    """
    name = volume_id.rpartition("/")[2]

    def list_them() -> Listed:
        with storage(volume_id, "look"):
            return _list(directory, name)

    return _gather(directory, name, Others(list_them))


def marks(directory: Directory, name: str) -> tuple[object, ...]:
    """Return what no transition leaves as it was: the same before and after means that none went on."""
    return tuple(_mark(directory.stat(name + kind)) for kind in _MARKED)


_MARKED = (Kind.RECORD, Kind.CURRENT, Kind.WORKING)
_WITHDRAWN = {Kind.CURRENT: Kind.WITHDRAWN_CURRENT, Kind.WORKING: Kind.WITHDRAWN_WORKING}
"""The name that an image bears while its own is taken away."""
_LOOKED_AT = (*_MARKED, *_WITHDRAWN.values(), Kind.COW)


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
    return [_of_listed(directory, name, found[name]) for name in sorted(found)]


def _of_listed(directory: Directory, name: str, listed: Listed) -> Evidence:
    statuses = {kind: _status(listed.entries.get(kind)) for kind in _LOOKED_AT}
    evidence = _evidence(directory, name, statuses, Others(lambda: listed))
    is_as_listed = all(
        _mark(directory.stat(name + kind)) == _mark(statuses[kind])
        for kind in _MARKED
        if kind in listed.entries
    )
    return evidence if is_as_listed else gather(directory, name)


def _status(entry: os.DirEntry[str] | None) -> os.stat_result | None:
    try:
        return None if entry is None else entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _gather(directory: Directory, name: str, others: Others) -> Evidence:
    statuses = {kind: directory.stat(name + kind) for kind in _LOOKED_AT}
    return _evidence(directory, name, statuses, others)


def _evidence(
    directory: Directory,
    name: str,
    statuses: Mapping[str, os.stat_result | None],
    others: Others,
) -> Evidence:
    """Read the record, and put all of it together."""
    damage, record, newer = None, None, False
    try:
        record = _read_record(directory, name) if statuses[Kind.RECORD] else None
    except NewerFormat as error:
        damage, newer = f"its record {error.reason}", True
    except (InvalidConfig, ForeignFile) as error:
        damage = f"its record cannot be read: {error}"
    images: dict[str, os.stat_result | None] = {}
    withdrawn: set[str] = set()
    second_names: list[str] = []
    rivals: list[str] = []
    for kind, away in _WITHDRAWN.items():
        status, other = statuses[kind], statuses[away]
        if status is None and other is not None:
            status = other
            withdrawn.add(kind)
        elif status is not None and other is not None and os.path.samestat(status, other):
            second_names.append(name + away)
        elif status is not None and other is not None:
            rivals.append(name + away)
            damage = f"{name}{kind} and {name}{away} are two files, and only one can be the image"
        if status is not None and not stat.S_ISREG(status.st_mode):
            damage, status = f"{name}{kind} is not a regular file", None
        images[kind] = status
    current, working = images[Kind.CURRENT], images[Kind.WORKING]
    namesake = None
    if record is not None and record.current is not None and record.at is not None:
        namesake = directory.stat(names.revision_file(name, record.current, record.at))
    return Evidence(
        name=name,
        current=current,
        working=working,
        withdrawn=frozenset(withdrawn),
        second_names=tuple(second_names),
        rivals=tuple(rivals),
        others=others,
        revisions=Revisions(name, others),
        namesake=namesake,
        changed_beside=statuses[Kind.COW] is not None
        and copying.holds_data(directory, name + Kind.COW),
        record=record,
        damage=damage,
        newer=newer,
        statuses=statuses,
        made_from=None
        if working is None
        else tags.look_up_seal(directory, _file(name, Kind.WORKING, withdrawn), tags.MADE_FROM),
        told_number=None
        if current is None or is_recorded(current, record)
        else tags.look_up_seal(directory, _file(name, Kind.CURRENT, withdrawn), tags.NUMBER),
    )


def is_recorded(current: os.stat_result | None, record: Record | None) -> bool:
    """Tell by its seal alone whether the current image is the one that the record speaks of.

    The empty image is not told so: it bears the same seal in every size.
    """
    if current is None or record is None or not record.current or record.at is None:
        return False
    return current.st_mtime_ns == seals.seal(record.current, record.second)


def _file(name: str, kind: str, withdrawn: Collection[str]) -> str:
    return name + (_WITHDRAWN[kind] if kind in withdrawn else kind)


def _list(directory: Directory, name: str) -> Listed:
    """List one volume's files, telling them apart as cheaply as can be."""
    found = Listed()
    revision = name + Kind.CURRENT + "."
    for entry in directory.entries():
        # the cheap tests first: most files of a directory are another volume's, or revisions that no one asks for
        file = entry.name
        if file.startswith(revision) and "~" not in file:
            found.revisions.append(entry)
        elif file.startswith(name):
            kind = names.kind_of(file, name)
            if kind is not None:
                found.add(entry, kind)
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
