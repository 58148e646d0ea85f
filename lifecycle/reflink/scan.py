"""Reads which files a volume has in its VM's directory; interpret.py says what they mean.

What it means is reflink/interpret.py's to say. The record, the current and the working image are looked at by their
names. All other files must be listed, and there can be thousands; so for who holds the VM's lock, under which nothing
changes, they are listed only when they are asked for. Without it all is read in one go.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from lifecycle.errors import ForeignFile, InvalidConfig, NewerFormat, blames_file, storage
from lifecycle.linux import copying
from lifecycle.linux.directories import Directory
from lifecycle.linux.status import Status, status_of, status_of_entry
from lifecycle.reflink import names, seals, tags
from lifecycle.reflink import record as records
from lifecycle.reflink.listing import NOTHING, Listed, Others, RevisionFile, Revisions
from lifecycle.reflink.names import WITHDRAWN, Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.tags import SealTold

ATTEMPTS = 100
"""How often to read again when a transition went on meanwhile. Each takes microseconds, a transition longer."""


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
        unreadable: what the file system said of what could not be read, which is damage too. It may be whole all the
            same, so nothing may be thrown away for that.
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
    others: Others = NOTHING
    revisions: Revisions = Revisions("", NOTHING)
    namesake: os.stat_result | None = None
    changed_beside: bool = False
    record: Record | None = None
    damage: str | None = None
    unreadable: OSError | None = None
    newer: bool = False
    statuses: Mapping[str, Status] = MappingProxyType({})
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
        try:
            evidence.others.listed  # noqa: B018 - before it is asked whether one went on
        except OSError as error:
            evidence = _unlisted(evidence, error)
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
    return tuple(_mark(status_of(directory, name + kind)) for kind in _MARKED)


_MARKED = (Kind.RECORD, Kind.CURRENT, Kind.WORKING)
_LOOKED_AT = (*_MARKED, *WITHDRAWN.values(), Kind.COW)


def _mark(status: Status) -> object:
    if isinstance(status, OSError):
        return status.errno
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
    statuses = {kind: status_of_entry(listed.entries.get(kind)) for kind in _LOOKED_AT}
    evidence = _evidence(directory, name, statuses, Others(lambda: listed))
    is_as_listed = all(
        _mark(status_of(directory, name + kind)) == _mark(statuses[kind])
        for kind in _MARKED
        if kind in listed.entries
    )
    return evidence if is_as_listed else gather(directory, name)


def _gather(directory: Directory, name: str, others: Others) -> Evidence:
    statuses = {kind: status_of(directory, name + kind) for kind in _LOOKED_AT}
    return _evidence(directory, name, statuses, others)


def _unlisted(evidence: Evidence, error: OSError) -> Evidence:
    """Return what there is without the files that are told by a listing, since the directory cannot be listed."""
    if not blames_file(error):
        raise error
    return evidence._replace(
        others=NOTHING,
        revisions=Revisions(evidence.name, NOTHING),
        damage=evidence.damage or f"its directory cannot be listed: {error.strerror}",
        unreadable=evidence.unreadable or error,
    )


def _evidence(
    directory: Directory,
    name: str,
    statuses: Mapping[str, Status],
    others: Others,
) -> Evidence:
    """Read the record, and put all of it together."""
    unread = {kind: one for kind, one in statuses.items() if isinstance(one, OSError)}
    damage, record, newer = None, None, False
    try:
        with _taken_down(unread, Kind.RECORD):
            record = _read_record(directory, name) if statuses[Kind.RECORD] else None
    except NewerFormat as error:
        damage, newer = f"its record {error.reason}", True
    except (InvalidConfig, ForeignFile) as error:
        damage = f"its record cannot be read: {error}"
    images: dict[str, os.stat_result | None] = {}
    withdrawn: set[str] = set()
    second_names: list[str] = []
    rivals: list[str] = []
    for kind, away in WITHDRAWN.items():
        status, other = statuses[kind], statuses[away]
        if status is None and other is not None:
            status, other = other, None
            withdrawn.add(kind)
        if isinstance(status, OSError) or isinstance(other, OSError):
            images[kind] = None  # it counts as what could not be read
            continue
        if status is not None and other is not None and os.path.samestat(status, other):
            second_names.append(name + away)
        elif other is not None:
            rivals.append(name + away)
            damage = f"{name}{kind} and {name}{away} are two files, and only one can be the image"
        if status is not None and not stat.S_ISREG(status.st_mode):
            damage, status = f"{name}{kind} is not a regular file", None
        images[kind] = status
    changed_beside = _is_changed_beside(directory, name, statuses, unread)
    made_from, told_number = _told(directory, name, images, withdrawn, record, unread)
    for kind, why in unread.items():
        damage = damage or f"{name}{kind} cannot be read: {why.strerror}"
    return Evidence(
        name=name,
        current=images[Kind.CURRENT],
        working=images[Kind.WORKING],
        withdrawn=frozenset(withdrawn),
        second_names=tuple(second_names),
        rivals=tuple(rivals),
        others=others,
        revisions=Revisions(name, others),
        namesake=_namesake(directory, name, record),
        changed_beside=changed_beside,
        record=record,
        damage=damage,
        unreadable=next(iter(unread.values()), None),
        newer=newer,
        statuses=statuses,
        made_from=made_from,
        told_number=told_number,
    )


def bears_seal(image: os.stat_result | None, record: Record | None) -> bool:
    """Tell whether an image bears the seal of the one that the record calls current."""
    if image is None or record is None or record.current is None or record.at is None:
        return False
    return image.st_mtime_ns == seals.seal(record.current, record.second)


def _file(name: str, kind: str, withdrawn: Collection[str]) -> str:
    return name + (WITHDRAWN[kind] if kind in withdrawn else kind)


def _is_changed_beside(
    directory: Directory, name: str, statuses: Mapping[str, Status], unread: dict[str, OSError]
) -> bool:
    """Tell whether a `-cow.img` holds what the image lacks, or may hold it."""
    changed = statuses[Kind.COW] is not None
    with _taken_down(unread, Kind.COW):
        return changed and copying.holds_data(directory, name + Kind.COW)
    return changed


def _told(
    directory: Directory,
    name: str,
    images: Mapping[str, os.stat_result | None],
    withdrawn: Collection[str],
    record: Record | None,
    unread: dict[str, OSError],
) -> tuple[SealTold | None, SealTold | None]:
    """Return what the working image was made from, and of which number a current one is that no record speaks of."""
    made_from, number = None, None
    with _taken_down(unread, Kind.WORKING):
        if images[Kind.WORKING] is not None:
            file = _file(name, Kind.WORKING, withdrawn)
            made_from = tags.look_up(directory, file, tags.MADE_FROM)
    with _taken_down(unread, Kind.CURRENT):
        if images[Kind.CURRENT] is not None and not bears_seal(images[Kind.CURRENT], record):
            file = _file(name, Kind.CURRENT, withdrawn)
            number = tags.look_up(directory, file, tags.NUMBER)
    return made_from, number


class _taken_down:  # noqa: N801 - it is used as a function; as a generator it would cost each look a good part more
    """Take down that the volume's file of that kind could not be read in the block."""

    __slots__ = ("_kind", "_unread")

    def __init__(self, unread: dict[str, OSError], kind: str) -> None:
        self._unread = unread
        self._kind = kind

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, OSError) or not blames_file(error):
            return False
        self._unread[self._kind] = error
        return True


def _namesake(directory: Directory, name: str, record: Record | None) -> os.stat_result | None:
    """Return the status of the file that bears the number and time of what the record calls current."""
    if record is None or record.current is None or record.at is None:
        return None
    found = status_of(directory, names.revision_file(name, record.current, record.at))
    return found if isinstance(found, os.stat_result) else None


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
