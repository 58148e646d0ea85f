"""What a volume's files say: which state it is in, and what a crash left half done.

How this works. `gather` reads a VM's directory for one volume, without a lock; `judge` is a pure function from what
was found to the volume's `View` and to the record as it should be. The images decide, the record explains. A crash
can fall between the one rename that makes an image current and the writing of the record, so:

- the current image is the same file as revision N: current is N (a revert happened, if the record says otherwise);
- the current image is no revision, but the number that the record calls current is on file as one: the image is
  new, a commit happened, and its number is the one the record gives next;
- else the record is right.

Modification times speak too, since the kernel sets a real one at any write. The working image bears the number of the
image it was cloned from, in nanoseconds since 1970, until someone writes to it: so "written?" is one comparison. Every
other image is sealed with the moment it was made and, in the nanoseconds, its number: so an image that was changed in
place can be told, and one whose record is lost still knows its number.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lifecycle import copying, names
from lifecycle import record as records
from lifecycle.backend import View
from lifecycle.config import CrashPolicy
from lifecycle.errors import ForeignFile, InvalidConfig, NewerFormat
from lifecycle.files import Directory
from lifecycle.names import FileName, Kind
from lifecycle.record import CRASH, Record
from lifecycle.states import State

_SECOND = 10**9
"""Nanoseconds."""
_PLAUSIBLE = 100_000
"""A number up to this in a time is taken for a seal; a real time is so rarely, and then a number is skipped."""

_CHANGED_BESIDE = (
    "its -cow.img, of the older `file` driver, holds data that its image lacks; start and stop the"
    " VM once with that driver"
)

ATTEMPTS = 100
"""How often to read again when a transition went on meanwhile. Each takes microseconds, a transition longer."""


@dataclass(frozen=True, slots=True)
class RevisionFile:
    """A revision as the directory lists it."""

    file: str
    number: int
    at: datetime
    inode: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found of one volume.

    Attributes:
        name: the volume's NAME.
        current, working: the images' status; None where there is none.
        revisions: those on file, 0 too, by number.
        doubles: further files that claim to be a revision of the same number.
        leftovers: temporary files of no worth.
        changed_beside: whether a `-cow.img` of the older `file` driver holds what the image lacks.
        record: the record; None if there is none or it cannot be read.
        damage: what makes the volume unusable as it is.
        newer: whether a newer version wrote the record, which must then be left as it is.
    """

    name: str
    current: os.stat_result | None = None
    working: os.stat_result | None = None
    revisions: Mapping[int, RevisionFile] = field(default_factory=dict)
    doubles: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    changed_beside: bool = False
    record: Record | None = None
    damage: str | None = None
    newer: bool = False

    @property
    def current_size(self) -> int | None:
        """Bytes of the current image; None if there is none."""
        return None if self.current is None else self.current.st_size

    @property
    def has_images(self) -> bool:
        """Whether there is any image."""
        return bool(self.current or self.working or self.revisions)

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
        if self.current is None:
            return None
        return next(
            (one for one in self.revisions.values() if one.inode == self.current.st_ino), None
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to make of the evidence.

    Attributes:
        view: the volume.
        record: the record as it should be.
        findings: what a crash left half done, in words; empty if the record is right.
    """

    view: View
    record: Record
    findings: tuple[str, ...] = ()


def seal(number: int, at: datetime) -> int:
    """Return the modification time (nanoseconds since 1970) that image `number`, made then, is sealed with."""
    return int(at.timestamp()) * _SECOND + number


def _sealed_number(status: os.stat_result) -> int | None:
    """Return the number that an image seems to be sealed with; None if its time looks like any other."""
    number = status.st_mtime_ns % _SECOND
    return number if number <= _PLAUSIBLE else None


def gather(directory: Directory, name: str) -> Evidence:
    """Read what there is of one volume, as of one moment, without a lock."""
    for _attempt in range(ATTEMPTS):
        before = marks(directory, name)
        evidence = _gather(directory, name)
        if marks(directory, name) == before:
            break
    return evidence


def marks(directory: Directory, name: str) -> tuple[object, ...]:
    """Return what no transition leaves as it was: the same before and after means that none went on."""
    found = (directory.stat(name + kind) for kind in (Kind.RECORD, Kind.CURRENT, Kind.WORKING))
    return tuple(one and (one.st_ino, one.st_ctime_ns, one.st_nlink) for one in found)


def _gather(directory: Directory, name: str) -> Evidence:
    revisions: dict[int, RevisionFile] = {}
    leftovers = []
    doubles: list[str] = []
    for entry in directory.entries():
        # a cheap test first: most files of a directory are another volume's
        parsed = names.parse_file(entry.name) if entry.name.startswith(name) else None
        if parsed is None or parsed.volume != name:
            continue
        if parsed.kind == Kind.REVISION:
            if entry.is_file(follow_symlinks=False):
                doubles += _enter(revisions, entry, parsed)
        elif parsed.kind == Kind.LEFTOVER:
            leftovers.append(entry.name)
    damage, record, newer = None, None, False
    try:
        record = _read_record(directory, name)
    except NewerFormat as error:
        damage, newer = f"its record {error.reason}", True
    except (InvalidConfig, ForeignFile) as error:
        damage = f"its record cannot be read: {error}"
    images = {}
    for kind in (Kind.CURRENT, Kind.WORKING):
        status = directory.stat(name + kind)
        if status is not None and not stat.S_ISREG(status.st_mode):
            damage, status = f"{name}{kind} is not a regular file", None
        images[kind] = status
    return Evidence(
        name=name,
        current=images[Kind.CURRENT],
        working=images[Kind.WORKING],
        revisions=revisions,
        doubles=tuple(doubles),
        leftovers=tuple(leftovers),
        changed_beside=copying.holds_data(directory, name + Kind.COW),
        record=record,
        damage=damage,
        newer=newer,
    )


def _enter(
    revisions: dict[int, RevisionFile], entry: os.DirEntry[str], parsed: FileName
) -> list[str]:
    """Enter a revision. Of two with one number, which nothing here makes, the later counts; return the other."""
    if parsed.number is None or parsed.at is None:
        return []
    found = RevisionFile(entry.name, parsed.number, parsed.at, entry.inode())
    known = revisions.setdefault(parsed.number, found)
    if known is found:
        return []
    older, newer = sorted((known, found), key=lambda one: (one.at, one.file))
    revisions[parsed.number] = newer
    return [older.file]


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


# ---------------------------------------------------------------- judging


def judge(evidence: Evidence, on_crash: CrashPolicy) -> Judgement:
    """Return what the evidence means; `on_crash` is the pool's crash policy."""
    if _is_absent(evidence):
        return Judgement(View(), evidence.record or Record())
    damage = evidence.damage or _damage_of_images(evidence)
    if damage is not None:
        return _damaged(evidence, on_crash, damage)
    record = evidence.record or _found_without_record(evidence)
    findings: tuple[str, ...] = ()
    if record.config.source is None and not evidence.moved:
        record, findings = _settled(evidence, record)
    return Judgement(_view(evidence, record, on_crash), record, findings)


def _is_disposable(evidence: Evidence) -> bool:
    return evidence.record is not None and evidence.record.config.source is not None


def _is_absent(evidence: Evidence) -> bool:
    """Tell whether there is no such volume; a record without images is what a crash left of making or removing one."""
    return evidence.damage is None and not evidence.has_images and not _is_disposable(evidence)


def _damage_of_images(evidence: Evidence) -> str | None:
    if _is_disposable(evidence) or evidence.moved:
        return None
    if evidence.current is None:
        return f"its current image {evidence.name}.img is missing"
    if evidence.current.st_size == 0:
        return f"its current image {evidence.name}.img was cut short"
    keeps = evidence.record is None or evidence.record.config.save_on_stop
    return _CHANGED_BESIDE if evidence.changed_beside and keeps else None


def _found_without_record(evidence: Evidence) -> Record:
    """Return the record that an image without one gets: a persistent volume with default configuration."""
    known = evidence.current_on_file()
    highest = max(evidence.revisions, default=0)
    sealed = _sealed_number(evidence.current) if evidence.current else None
    current = known.number if known else max(highest + 1, sealed or 0)
    return Record(
        current=current,
        at=known.at if known else _made_at(evidence.current),
        next=max(current, highest) + 1,
        rest=State.REVERTED if known else State.COMMITTED,
        sealed=max(current, highest) + 1,
    )


def _made_at(status: os.stat_result | None) -> datetime | None:
    """Return when an image that no one told us of was made: as its seal says, or when it was last written."""
    return datetime.fromtimestamp(int(status.st_mtime), UTC) if status is not None else None


def _settled(evidence: Evidence, record: Record) -> tuple[Record, tuple[str, ...]]:
    """Return the record as the images say it should be, and what was found."""
    findings = []
    known = evidence.current_on_file()
    highest = max(evidence.revisions, default=0)
    if record.next <= highest:
        record = dataclasses.replace(record, next=highest + 1)
        findings.append(f"revision {highest} is newer than the record")
    if known is not None:
        if known.number != record.current:
            findings.append(f"a revert to {known.number} had happened")
            record = dataclasses.replace(
                record, current=known.number, at=known.at, rest=State.REVERTED
            )
    elif (number := _new_number(evidence, record)) is not None:
        findings.append(f"a commit of {number} had happened")
        record = dataclasses.replace(
            record,
            current=number,
            at=_made_at(evidence.current),
            next=max(record.next, number + 1),
            rest=State.COMMITTED,
        )
    elif _has_grown_empty(evidence, record):
        findings.append("a resize of the empty image had happened")
        config = dataclasses.replace(record.config, size=evidence.current_size)
        record = dataclasses.replace(record, config=config)
    return record, tuple(findings)


def _has_grown_empty(evidence: Evidence, record: Record) -> bool:
    """Tell whether a resize of what is still empty got as far as the image."""
    born = record.config.size
    is_empty = record.current == 0 and record.rest is State.CREATED
    return is_empty and born is not None and born != evidence.current_size


def _new_number(evidence: Evidence, record: Record) -> int | None:
    """Return the number of a current image that became so after the record was written; None if it did not.

    The image is no revision. Its seal says its number; an image made by others bears none, and gets the next one.
    """
    sealed = _sealed_number(evidence.current) if evidence.current else None
    if sealed is not None and (record.current or 0) < sealed <= record.next:
        return sealed
    return record.next if record.current is None or record.current in evidence.revisions else None


def _view(evidence: Evidence, record: Record, on_crash: CrashPolicy) -> View:
    """Return what a whole volume is like; a disposable has a working image at most, begun from its source's."""
    owns = record.config.source is None
    image = evidence.working or (evidence.current if owns else None)
    differs = evidence.working is not None and evidence.working.st_mtime_ns != _unwritten(
        evidence, record
    )
    return View(
        state=_state(evidence, record, differs=differs),
        config=record.config,
        on_crash=_crash_policy(record, on_crash),
        rest=record.rest,
        current=record.current if owns else None,
        next=record.next,
        numbers=_listed(evidence, record) if owns else (),
        size=image.st_size if image else None,
        begun=record.begun if evidence.working and not owns else None,
        run=_run(evidence, record),
        moved=evidence.moved,
        differs=differs,
    )


def _unwritten(evidence: Evidence, record: Record) -> int | None:
    """Return the modification time of a working image that no one has written to."""
    if evidence.moved and record.current is not None and record.at is not None:
        return seal(record.current, record.at)  # it is the current image, and still sealed
    return record.current if record.config.source is None else record.begun


def _crash_policy(record: Record, of_pool: CrashPolicy) -> CrashPolicy:
    policy = record.config.on_crash or of_pool
    can = record.config.snapshots or policy is not CrashPolicy.REVERT
    return policy if can else CrashPolicy.RESUME


def _damaged(evidence: Evidence, on_crash: CrashPolicy, damage: str) -> Judgement:
    """Return what can still be said of a volume whose files do not make a whole one."""
    record = evidence.record or _found_without_record(evidence)
    highest = max(evidence.revisions, default=0)
    record = dataclasses.replace(record, next=max(record.next, highest + 1))
    current = record.current if evidence.current_size else None
    view = View(
        state=State.DAMAGED,
        config=record.config,
        on_crash=_crash_policy(record, on_crash),
        rest=record.rest,
        next=record.next,
        current=current,
        numbers=tuple(sorted(set(evidence.revisions) - {0})),
        damage=damage,
        way_back=current if current is not None else _newest_kept(evidence, record),
        readable=not evidence.newer,
    )
    return Judgement(view, record)


def _newest_kept(evidence: Evidence, record: Record) -> int:
    """Return the newest revision that is not what a crash left, or 0."""
    kept = (number for number in evidence.revisions if record.note(number).cause != CRASH)
    return max(kept, default=0)


def _state(evidence: Evidence, record: Record, *, differs: bool) -> State:
    if evidence.working is None:
        return record.rest
    return State.DIRTY if differs else State.STARTED


def _run(evidence: Evidence, record: Record) -> tuple[int, int] | None:
    return None if evidence.working is None else (evidence.working.st_ino, record.next)


def _listed(evidence: Evidence, record: Record) -> tuple[int, ...]:
    """Return the revisions' numbers: without 0, and without the current image unless a revert made it current."""
    hidden = {0} if record.rest is State.REVERTED else {0, record.current}
    return tuple(sorted(set(evidence.revisions) - hidden))


def leftover_files(evidence: Evidence) -> Iterable[str]:
    """Return the names of what a crash left and no one needs."""
    yield from evidence.leftovers
    yield evidence.file(Kind.IMPORT)
    known, record = evidence.current_on_file(), evidence.record
    # a commit or resize that went no further than keeping what is current; after a revert it is kept on purpose
    if known and record and known.number == record.current and record.rest is not State.REVERTED:
        yield known.file
