"""What volumes should do, without files: the design's words as plain Python, to be compared with the real thing.

How this works. `Model` holds `Disk`s; each event is a method that refuses as the real one should (`Refusal`), or
changes the disk. An event that takes several steps on files says `self.step()` wherever a process that ends there
leaves something that can be told from before: `trail` is then all that may be found after a crash in the middle.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

SECTOR = 512
AT_REST = ("created", "committed", "reverted")


class Refusal(Exception):
    """The event cannot be; `str` is the name of the error that the caller gets."""


@dataclass
class Note:
    """What is known of one image."""

    cause: str = "commit"
    pinned: bool = False
    label: str | None = None


@dataclass
class Disk:
    """A volume that exists.

    Attributes:
        born: bytes of the empty image; of a disposable, the least its working image holds.
        save, rw, source, last: its settings; `last` is the N of `keep = "last N"`, None keeps all.
        current: the number of the current image; None of a disposable.
        images: what is on file, by number; the current image too.
        kept: the numbers that have a name of their own as revisions, 0 among them.
        made: when each image was made.
        working: what the VM sees; None at rest.
        snapshots: whether a start makes a working image beside the current one.
        moved: whether the working image is the only one.
        begun: the number that the working image was made from.
        written: whether the working image was written to.
        noticed: whether that was announced.
    """

    born: int
    save: bool = True
    rw: bool = True
    source: str | None = None
    last: int | None = None
    rest: str = "created"
    current: int | None = 0
    next: int = 1
    images: dict[int, bytes] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)
    made: dict[int, datetime] = field(default_factory=dict)
    notes: dict[int, Note] = field(default_factory=dict)
    working: bytes | None = None
    begun: int | None = None
    snapshots: bool = True
    moved: bool = False
    written: bool = False
    noticed: bool = False

    @property
    def state(self) -> str:
        """The state it is in."""
        if self.working is None:
            return self.rest
        return "dirty" if self.written else "started"

    @property
    def listed(self) -> list[int]:
        """The numbers of its revisions: the current image counts only if a revert made it current."""
        hidden = {0} if self.rest == "reverted" else {0, self.current}
        return sorted(self.kept - hidden)

    def note(self, number: int) -> Note:
        """Return the note on an image, to be read or changed."""
        return self.notes.setdefault(number, Note())

    def keep_current(self) -> None:
        """What is current becomes a revision, unless a revert made it current."""
        if self.current is not None:
            self.kept.add(self.current)

    def drop_working(self) -> None:
        """It rests."""
        self.working, self.begun, self.written, self.noticed = None, None, False, False
        self.moved = False


class Model:
    """A pool's volumes, by id."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.disks: dict[str, Disk] = {}
        self.trail: list[dict[str, Disk]] = []

    def step(self) -> None:
        """Remember that a crash may leave what is now."""
        self.trail.append(copy.deepcopy(self.disks))

    def _disk(self, name: str) -> Disk:
        if name not in self.disks:
            raise Refusal("NoSuchVolume")
        return self.disks[name]

    def _meeting(self, name: str) -> Disk:
        """Return the volume that is to meet an event of the rulebook: one that is absent is refused as such."""
        if name not in self.disks:
            raise Refusal("Refused")
        return self.disks[name]

    # ------------------------------------------------------------ making and removing

    def create(
        self,
        name: str,
        size: int,
        *,
        save: bool = True,
        rw: bool = True,
        source: str | None = None,
        snapshots: bool = True,
    ) -> None:
        if source is not None and size < self._size_of(source):
            raise Refusal("InvalidSize")
        if name in self.disks:
            raise Refusal("Refused")
        disk = Disk(size, save, rw, source, snapshots=snapshots)
        if source is None:
            disk.images[0], disk.made[0] = bytes(size), self.now
        else:
            disk.current = None
        self.disks[name] = disk

    def clone(self, name: str, content: bytes | str) -> None:
        cause = "import" if isinstance(content, bytes) else "clone"
        found = content if isinstance(content, bytes) else self.exported(content)
        if not found:
            raise Refusal("InvalidSize")
        self.create(name, _rounded(len(found)))
        self.step()
        self._import(name, found, cause)

    def remove(self, name: str) -> None:
        disk = self._meeting(name)
        depending = any(one.source == name for one in self.disks.values())
        if disk.state not in AT_REST or (disk.save and depending):
            raise Refusal("Refused")
        del self.disks[name]

    # ------------------------------------------------------------ starting and stopping

    def start(self, name: str) -> None:
        disk = self._meeting(name)
        source = None if disk.source is None else self.disks.get(disk.source, Disk(0, moved=True))
        if disk.working is None and source is not None and source.moved:
            raise Refusal("Refused")  # it runs on its only image, or is not there
        if disk.current in disk.kept and disk.rest != "reverted":
            disk.kept.discard(disk.current or 0)  # of a commit that a crash cut off
            self.step()
        if disk.working is not None:
            return  # left over, and used again
        origin = disk if disk.source is None else self.disks[disk.source]
        disk.begun = origin.current
        disk.working = origin.images[origin.current or 0]
        disk.moved = not disk.snapshots and disk.rw and disk.current not in disk.kept
        if disk.source is not None:
            disk.working = disk.working.ljust(disk.born, b"\0")

    def draw(self, name: str, mark: bytes, at: int) -> None:
        """The VM writes."""
        disk = self.disks[name]
        assert disk.working is not None
        disk.working = disk.working[:at] + mark + disk.working[at + len(mark) :]
        disk.written = True

    def write(self, name: str) -> None:
        disk = self._meeting(name)
        if disk.state != "dirty" or disk.noticed:
            raise Refusal("Refused")
        disk.noticed = True

    def release(self, name: str) -> None:
        disk = self._meeting(name)
        if disk.state != "started":
            raise Refusal("Refused")
        disk.drop_working()

    def commit(self, name: str, reason: str | None = None) -> None:
        disk = self._meeting(name)
        if disk.state != "dirty" or not (disk.save and disk.rw):
            raise Refusal("Refused")
        self._promote(disk, disk.working or b"", reason or "commit", drop=True)
        self._prune(disk)

    def set_snapshots(self, name: str, wanted: bool) -> None:
        disk = self._disk(name)
        if not wanted and not (disk.save and disk.source is None):
            raise Refusal("InvalidConfig")
        if disk.snapshots != wanted:
            depending = [one for one in self.disks.values() if one.source == name]
            if disk.working is not None or any(one.working is not None for one in depending):
                raise Refusal("Refused")
        disk.snapshots = wanted

    def stop(self, name: str, *, discard: bool = False, reason: str | None = None) -> None:
        disk = self._meeting(name)
        if disk.working is None:
            raise Refusal("Refused")
        if not disk.written:
            self.release(name)
        elif disk.save and disk.rw and not discard:
            self.commit(name, reason)
        else:
            self._throw_away(disk)

    def checkpoint(self, name: str) -> None:
        disk = self._meeting(name)
        if disk.working is None or not (disk.save and disk.rw):
            raise Refusal("Refused")
        number = disk.next
        disk.next += 1
        self.step()
        disk.images[number], disk.made[number] = disk.working, self.now
        disk.kept.add(number)
        disk.notes[number] = Note("checkpoint")

    # ------------------------------------------------------------ going back and forth at rest

    def revert(self, name: str, to: int | None = None) -> None:
        disk = self._meeting(name)
        if disk.working is not None:
            if to is not None:
                self._require_way_to(disk, to)
            self._throw_away(disk)
            if to is None:
                return
            self.step()
        if disk.source is not None:
            raise Refusal("Refused")
        if to is None:
            to = max((one for one in disk.listed if one < (disk.current or 0)), default=0)
        if to not in {0, disk.current, *disk.listed}:
            raise Refusal("NoSuchRevision")
        if to != disk.current:
            if to not in disk.kept:  # the empty image, of which a removal was cut off
                disk.images[0], disk.made[0] = bytes(disk.born), self.now
                disk.kept.add(0)
            disk.keep_current()
            self.step()
        disk.current, disk.rest = to, "reverted"

    @staticmethod
    def _require_way_to(disk: Disk, to: int) -> None:
        """Refuse to take a running volume to a revision that it has not, or without snapshots."""
        if disk.source is not None or disk.moved:
            raise Refusal("Refused")
        if to not in {0, disk.current, *disk.listed}:
            raise Refusal("NoSuchRevision")

    @staticmethod
    def _own_size(disk: Disk) -> int | None:
        if disk.working is not None:
            return len(disk.working)
        if disk.source is None and disk.rest != "created":
            return len(disk.images[disk.current or 0])
        return disk.born

    def resize(self, name: str, size: int, *, shrink: bool = False) -> None:
        disk = self._meeting(name)
        if size == self._own_size(disk):
            return
        if disk.working is not None:
            if size < len(disk.working) and not shrink:
                raise Refusal("Refused")
            disk.working, disk.written = disk.working[:size].ljust(size, b"\0"), True
            return
        if disk.source is not None and size < self._size_of(disk.source):
            raise Refusal("InvalidSize")
        if disk.source is None and disk.rest != "created":
            content = disk.images[disk.current or 0][:size].ljust(size, b"\0")
            self._promote(disk, content, "resize")
            return
        if disk.source is None:
            disk.kept.discard(0)
            self.step()
            disk.images[0], disk.made[0] = bytes(size), self.now
            self.step()
        disk.born = size
        disk.rest = "created" if disk.rest == "created" else "committed"

    def import_from(self, name: str, content: bytes | str) -> None:
        """Import bytes, or another volume."""
        if isinstance(content, bytes):
            self._import(name, content, "import")
        else:
            self._import(name, self.exported(content), "clone")

    def _import(self, name: str, content: bytes, cause: str) -> None:
        disk = self._meeting(name)
        if disk.working is not None or not disk.save:
            raise Refusal("Refused")
        if not content:
            raise Refusal("InvalidSize")
        self._promote(disk, content.ljust(_rounded(len(content)), b"\0"), cause)

    # ------------------------------------------------------------ revisions and settings

    def forget(self, name: str, number: int) -> None:
        disk = self._disk(name)
        if number == disk.current:
            raise Refusal("Refused")
        if number not in disk.listed:
            raise Refusal("NoSuchRevision")
        if disk.note(number).pinned:
            raise Refusal("Refused")
        disk.kept.discard(number)

    def prune(self, name: str) -> None:
        self._prune(self._disk(name))

    def pin(self, name: str, number: int, *, pinned: bool) -> None:
        self._annotated(name, number).pinned = pinned

    def label(self, name: str, number: int, text: str | None) -> None:
        self._annotated(name, number).label = text

    def keep(self, name: str, last: int | None) -> None:
        self._disk(name).last = last

    def set_rw(self, name: str, rw: bool) -> None:
        disk = self._disk(name)
        if disk.working is not None and disk.rw != rw:
            raise Refusal("Refused")
        disk.rw = rw

    def exported(self, name: str) -> bytes:
        """What the volume holds at rest: of a disposable, what its source holds."""
        disk = self._disk(name)
        disk = disk if disk.source is None else self._disk(disk.source)
        if disk.moved:
            raise Refusal("Refused")
        return disk.images[disk.current or 0]

    # ------------------------------------------------------------ inside

    def _promote(self, disk: Disk, content: bytes, cause: str, *, drop: bool = False) -> None:
        """New content becomes current, what was current a revision."""
        number = disk.next
        if not disk.moved:
            disk.keep_current()
            self.step()
        disk.images[number], disk.made[number] = content, self.now
        disk.notes[number] = Note(cause)
        disk.current, disk.next, disk.rest = number, number + 1, "committed"
        if drop:
            disk.drop_working()
        self.step()

    def _throw_away(self, disk: Disk) -> None:
        if disk.moved:
            raise Refusal("Refused")
        disk.rest = "reverted"
        self.step()
        disk.drop_working()

    def _prune(self, disk: Disk) -> None:
        if disk.last is None:
            return
        candidates = [
            number
            for number in disk.listed
            if not disk.note(number).pinned
            and number != disk.current
            and disk.made[number] <= self.now
        ]
        for number in candidates[: len(candidates) - disk.last] if disk.last else candidates:
            disk.kept.discard(number)
            self.step()

    def _annotated(self, name: str, number: int) -> Note:
        disk = self._disk(name)
        if number == 0 or number not in {disk.current, *disk.listed}:
            raise Refusal("NoSuchRevision")
        return disk.note(number)

    def _size_of(self, name: str) -> int:
        """Return the bytes that a source's newest image holds: the working one of a running source."""
        disk = self._disk(name)
        return len(disk.images[disk.current or 0] if disk.working is None else disk.working)


def _rounded(size: int) -> int:
    return -(-size // SECTOR) * SECTOR


def seen_in(disks: Mapping[str, Disk], only: Sequence[str] = ()) -> dict[str, dict[str, object]]:
    """Return all that a look at these volumes, or at all, must show."""
    return {name: _seen(disk, disks) for name, disk in disks.items() if not only or name in only}


def _seen(disk: Disk, disks: Mapping[str, Disk]) -> dict[str, object]:
    source = None if disk.source is None else disks[disk.source]
    return {
        "state": disk.state,
        "rest": disk.rest,
        "current": disk.current,
        "next": disk.next,
        "holds": None if disk.current is None or disk.moved else disk.images[disk.current],
        "vm sees": disk.working,
        "outdated": bool(source and disk.working is not None and source.current != disk.begun),
        "keep": "all" if disk.last is None else f"last {disk.last}",
        "born": disk.born,
        "rw": disk.rw,
        "snapshots": disk.snapshots,
        "revisions": {
            number: (
                disk.images[number],
                disk.made[number],
                disk.note(number).cause,
                disk.note(number).pinned,
                disk.note(number).label,
                number == disk.current,
            )
            for number in disk.listed
        },
    }
