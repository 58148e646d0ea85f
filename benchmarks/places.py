"""Where it is measured: XFS and btrfs on loop devices; and sparse images there, of as many extents as one wants."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.mounts import Mounts, run

KINDS = ("xfs", "btrfs")
MEMORY, DISK = "memory", "disk"

_SECTOR = 512
_SECTORS_WRITTEN, _FLUSHES = 6, 15
"""Fields of /sys/block/*/stat, from 0 (Documentation/block/stat.rst)."""
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
"""From linux/fs.h."""
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Work:
    """What a device was asked for, in all: bytes written, and flushes."""

    written: int
    flushes: int


@dataclass(frozen=True, slots=True)
class Place:
    """A mounted file system.

    Attributes:
        kind: `xfs` or `btrfs`.
        medium: what its file lies on, `memory` or `disk`.
        path: where it is mounted.
        device: its block device's name in /sys/block.
    """

    kind: str
    medium: str
    path: Path
    device: str

    @property
    def name(self) -> str:
        """What results call it."""
        return self.kind if self.medium == MEMORY else f"{self.kind} on {self.medium}"

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """Yield an empty directory; it is removed afterwards, with all that is in it."""
        path = Path(tempfile.mkdtemp(dir=self.path))
        try:
            yield path
        finally:
            shutil.rmtree(path)
            self.finish()

    def sync(self) -> None:
        """Let the file system write all that it still has to."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            if _libc.syncfs(fd) != 0:
                raise OSError(ctypes.get_errno(), "cannot sync", str(self.path))
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Let the file system do all that it put off: an XFS frees the blocks of a removed file in the background.

        So what one way leaves behind does not slow down the next. To be frozen, a file system must have finished.
        """
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FIFREEZE, 0)
            fcntl.ioctl(fd, _FITHAW, 0)
        finally:
            os.close(fd)

    def work(self) -> Work:
        """Return what the device was asked for so far, all that waits to be written included."""
        self.sync()
        fields = Path(f"/sys/block/{self.device}/stat").read_text().split()
        return Work(int(fields[_SECTORS_WRITTEN]) * _SECTOR, int(fields[_FLUSHES]))

    def forget(self) -> None:
        """Let the kernel forget what it knows of files, so that the next look is a cold one."""
        self.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")


class Places:
    """The file systems of this process, made when first asked for; they go with it, or with the block it is used in."""

    def __init__(self, below: Path, size: int) -> None:
        """Make ready to mount file systems of `size` bytes each; `below` is an empty directory on a disk.

        Raises:
            CannotMount: this user or machine cannot.
        """
        in_memory, on_disk, images = below / MEMORY, below / DISK, below / "images"
        for directory in (in_memory, on_disk, images):
            directory.mkdir()
        self._mounts = {
            MEMORY: Mounts(in_memory, size=size),
            DISK: Mounts(on_disk, size=size, images=images),
        }

        self._mounted = (in_memory, on_disk)

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        for directory in self._mounted:
            # lazily: what was interrupted may still have files open
            run("umount", "--recursive", "--lazy", str(directory))

    def get(self, kind: str, medium: str = MEMORY) -> Place:
        """Return the file system of that kind.

        Raises:
            CannotMount: it cannot be made here.
        """
        path = self._mounts[medium].get(kind).path
        device = run("findmnt", "--noheadings", "--output", "SOURCE", str(path)).strip()
        return Place(kind, medium, path, os.path.basename(device))


# ---------------------------------------------------------------- images as VMs leave them

BLOCK = 4096
_FIEMAP = 0xC020660B
_FIEMAP_FLAG_SYNC = 1
_HEAD = struct.Struct("=QQIIII")
"""struct fiemap: start, length, flags, mapped extents, room for extents, reserved (linux/fiemap.h)."""


@dataclass(frozen=True, slots=True)
class Image:
    """A raw image.

    Attributes:
        path: the file.
        size: bytes.
        extents: how many it has.
    """

    path: Path
    size: int
    extents: int

    def offset(self, number: int) -> int:
        """Return where one of its blocks lies; for each number as a rule another one, all over the image."""
        return 2 * BLOCK * random.Random(number).randrange(self.extents)


def make_image(path: Path, size: int, extents: int) -> Image:
    """Make an image in which each second block is written, from its start on, until it has so many extents."""
    if 2 * BLOCK * extents > size:
        raise ValueError(f"{extents} extents do not fit in {size} bytes")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.truncate(fd, size)
        for number in range(extents):
            os.pwrite(fd, number.to_bytes(8) * (BLOCK // 8), 2 * BLOCK * number)
        os.fsync(fd)
        found = count_extents(fd)
    finally:
        os.close(fd)
    if found != extents:
        raise AssertionError(f"{path} has {found} extents, not {extents}")
    return Image(path, size, extents)


def count_extents(fd: int) -> int:
    """Return how many extents a file has, by FIEMAP."""
    asked = bytearray(_HEAD.pack(0, 2**64 - 1, _FIEMAP_FLAG_SYNC, 0, 0, 0))
    fcntl.ioctl(fd, _FIEMAP, asked)
    return int(_HEAD.unpack(asked)[3])
