"""Where it is measured: XFS and btrfs on loop devices, in files in memory or on the machine's disk."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
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
