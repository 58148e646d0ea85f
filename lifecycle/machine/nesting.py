"""Which other pool or volume holds the file system that a pool lies on.

How this works. A file's `Place` is its file system and its path within that, so that neither bind mounts nor symbolic
links can hide that two directories lie in one another. From a pool's directory we go down: to the device below its
file system, through partitions and device-mapper, to the file that a loop device is made of, to that file's place,
and on. The first place that lies in a known pool is the answer. All is read from two texts that the kernel keeps:
/proc/self/mountinfo (proc(5)) and /sys; nothing is opened, and no program run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

VolumeIn = Callable[[str, str], str | None]
"""From a pool's directory, and a file's path in that, to the id of the volume that the file is an image of."""

_DELETED = " (deleted)"
_NO_DEVICE = "0"
"""The major number of a file system that has no block device, or more than one (btrfs)."""


class Named(Protocol):
    """A known pool: its name, and its directory."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def path(self) -> str:
        """Its directory."""


class Place(NamedTuple):
    """Where a file lies, however it is reached.

    Attributes:
        file_system: the number of its device, as `7:0`.
        path: within that file system, from its top.
        removed: whether it has lost its name, and is only held open.
    """

    file_system: str
    path: str
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """What a pool stands on.

    Attributes:
        included_in: the known pool (`POOL`) or its volume (`POOL:VM/NAME`) that holds the pool's file system; else the
            LVM volume (`VG/LV`) that does; None if nothing that is known.
        file_systems: the pool's own, then those below it.
    """

    included_in: str | None
    file_systems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Mount:
    id: str
    parent: str
    device: str
    root: str
    point: str
    source: str


class Storage:
    """The machine's file systems and the devices below them, at one moment."""

    def __init__(self, mountinfo: str, sysfs: str = "/sys") -> None:
        """Take the text of /proc/self/mountinfo, and where sysfs is."""
        self._mounts = [_read_mount(line) for line in mountinfo.split("\n") if line]
        self._sysfs = sysfs

    @classmethod
    def now(cls) -> Storage:
        """Return this machine's, as this process sees it.

        Raises:
            OSError: /proc cannot be read.
        """
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            return cls(mounts.read())

    def ground(self, path: str, pools: Iterable[Named], volume_in: VolumeIn) -> Ground:
        """Return what the pool in the directory stands on, as far as it can be seen.

        Args:
            path: the pool's directory.
            pools: the known pools, that one among them or not.
            volume_in: returns the id of the volume that a file is an image of, by the pool's directory and the file's
                path in that; None if of none.
        """
        places = {
            one: place
            for one in pools
            if (place := self._place(os.path.realpath(one.path), frozenset())) is not None
        }
        found: str | None = None
        logical: str | None = None
        file_systems = []
        for step in self._down(os.path.realpath(path), frozenset()):
            if isinstance(step, Place):
                file_systems.append(step.file_system)
                found = found or _holder(step, places, volume_in)
            else:
                logical = logical or step
        return Ground(found or logical, tuple(dict.fromkeys(file_systems)))

    # ------------------------------------------------------------ going down

    def _down(self, path: str, above: frozenset[str]) -> Iterator[Place | str]:
        """Yield the place of a file and the places below that, and the names of LVM volumes on the way."""
        place = self._place(path, above)
        if place is None:
            return
        yield place
        for device in self._devices(place.file_system):
            yield from self._through(device, above | {place.file_system})

    def _through(self, device: str, above: frozenset[str]) -> Iterator[Place | str]:
        """Go on below a block device, given by its directory in sysfs."""
        if os.path.exists(f"{device}/partition"):
            device = os.path.dirname(device)
        logical = _logical_volume(device)
        if logical is not None:
            yield logical
        backing = _read(f"{device}/loop/backing_file")
        if backing is not None:
            yield from self._down(backing, above)
        for name in _listed(f"{device}/slaves"):
            yield from self._through(os.path.realpath(f"{device}/slaves/{name}"), above)

    def _place(self, path: str, above: frozenset[str]) -> Place | None:
        """Return where a real path leads, without entering the file systems that stand upon it.

        (A pool embedded in a file is mounted over the directory of that file, and hides it.)
        """
        removed = path.endswith(_DELETED)
        path = path.removesuffix(_DELETED)
        inside = [one for one in self._mounts if is_within(path, one.point)]
        inside = [one for one in inside if one.device not in above]
        known = {one.id for one in inside}
        here = next((one for one in inside if one.parent not in known), None)
        if here is None:
            return None
        # as the kernel does: the mount that is met first on the way hides what is mounted further on
        while further := [one for one in inside if one.parent == here.id and one is not here]:
            here = min(further, key=lambda one: len(one.point))
        within = os.path.relpath(path, here.point)
        return Place(here.device, os.path.normpath(os.path.join(here.root, within)), removed)

    def _devices(self, file_system: str) -> list[str]:
        """Return the block devices that a file system lies on, by their directories in sysfs."""
        if not file_system.startswith(f"{_NO_DEVICE}:"):
            return [os.path.realpath(f"{self._sysfs}/dev/block/{file_system}")]
        source = next(one.source for one in self._mounts if one.device == file_system)
        if not source.startswith("/dev/"):
            return []
        block = f"{self._sysfs}/class/block"
        name = os.path.basename(os.path.realpath(source))
        if not os.path.exists(f"{block}/{name}"):
            alike = (one for one in _listed(block) if _read(f"{block}/{one}/dm/name") == name)
            name = next(alike, name)
        together = [name]
        for uuid in _listed(f"{self._sysfs}/fs/btrfs"):
            members = _listed(f"{self._sysfs}/fs/btrfs/{uuid}/devices")
            if name in members:
                together = members
        return [os.path.realpath(f"{block}/{one}") for one in together]


def counted(grounds: Sequence[Ground | None]) -> list[bool]:
    """Tell for each pool whether its space belongs in a total that counts no space twice.

    Args:
        grounds: what each stands on; None for one whose space is not known.
    """
    own = {one.file_systems[0] for one in grounds if one is not None and one.file_systems}
    seen: set[str] = set()
    answers = []
    for ground in grounds:
        first, *below = ground.file_systems if ground is not None and ground.file_systems else [""]
        answers.append(ground is not None and first not in seen and not own.intersection(below))
        if first:
            seen.add(first)
    return answers


def is_within(path: str, directory: str) -> bool:
    """Tell whether a path is the directory, or lies below it: `/foo` does not hold `/foobar`."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _holder(place: Place, pools: Mapping[Named, Place], volume_in: VolumeIn) -> str | None:
    """Return the innermost pool that the place lies in, or the volume of it whose image the place is."""
    around = {
        one: pool.path
        for one, pool in pools.items()
        if pool.file_system == place.file_system
        and pool.path != place.path
        and is_within(place.path, pool.path)
    }
    if not around:
        return None
    innermost = max(around, key=lambda one: len(around[one]))
    file = os.path.relpath(place.path, around[innermost])
    volume_id = None if place.removed else volume_in(innermost.path, file)
    return innermost.name if volume_id is None else f"{innermost.name}:{volume_id}"


def _logical_volume(device: str) -> str | None:
    """Return the name `VG/LV` of a device-mapper device that LVM made for use; None for any other."""
    uuid, name = _read(f"{device}/dm/uuid"), _read(f"{device}/dm/name")
    # LVM-, two ids of 32 characters; with more behind them it is a part of a volume
    if uuid is None or name is None or not re.fullmatch(r"LVM-[A-Za-z0-9]{64}", uuid):
        return None
    # a single dash parts the two names; in each of them a dash is written twice
    parted = re.fullmatch(r"((?:[^-]|--)+)-((?:[^-]|--)+)", name)
    return "/".join(one.replace("--", "-") for one in parted.groups()) if parted else name


def _read_mount(line: str) -> _Mount:
    # 36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw (proc(5))
    before, _, after = line.partition(" - ")
    number, parent, device, root, point, *_rest = before.split(" ")
    return _Mount(number, parent, device, *map(plain, (root, point, after.split(" ")[1])))


def plain(text: str) -> str:
    """Undo the kernel's writing of spaces and the like as `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().removesuffix("\n")
    except OSError:
        return None


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
