"""Cutting the power of a real file system.

How this works. The file system lies in a file on an outer XFS. Its content at one moment is had by reflinking that
file while it is mounted: what the file system has not yet handed to its disk is not in it. So a cut is: reflink the
file, take the old one away, mount the copy, and let the file system replay its journal. An XFS can also be shut down
without writing its log, which is the second way.

What the file system has handed to its disk is all kept; a disk that loses what it has in its cache, or that tears a
sector, is not modelled: that is between the file system and the disk.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import tempfile
from pathlib import Path

from lifecycle.linux.files import FICLONE
from support.mounts import FileSystem, run

_MAKE = {"xfs": ("mkfs.xfs", "-q", "-f"), "btrfs": ("mkfs.btrfs", "-q", "-f", "-m", "single")}
_SIZE = 320 << 20
"""Bytes: little more than mkfs.xfs makes at the least. Sparse."""
_LIBC = ctypes.CDLL(None, use_errno=True)

WAYS = ("xfs, shut down", "xfs, copied", "btrfs, copied")
"""The file systems and how their power is cut."""


class Mains:
    """A file system whose power can be cut.

    Attributes:
        path: where it is mounted.
        kind: as `mounts.KINDS` has it.
    """

    def __init__(self, outer: FileSystem, way: str) -> None:
        self.kind, _, how = way.partition(", ")
        self._shut_down = how == "shut down"
        where = Path(tempfile.mkdtemp(dir=outer.path))  # it stays for many tests
        self._images = [where / "one.image", where / "other.image"]
        self.path = where / "inner"
        self.path.mkdir()
        self._images[0].touch()
        os.truncate(self._images[0], _SIZE)
        run(*_MAKE[self.kind], str(self._images[0]))
        self._mount()

    def sync(self) -> None:
        """Write everything out, as at a moment long ago."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            if _LIBC.syncfs(fd) != 0:
                raise OSError(ctypes.get_errno(), "syncfs failed")
        finally:
            os.close(fd)

    def cut(self) -> None:
        """Cut the power, and boot again."""
        if self._shut_down:
            run("xfs_io", "-x", "-c", "shutdown", str(self.path))
            run("umount", str(self.path))
        else:
            old, new = self._images
            _reflink(old, new)
            run("umount", str(self.path))
            old.unlink()
            self._images = [new, old]
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop", str(self._images[0]), str(self.path))


def _reflink(origin: Path, target: Path) -> None:
    source = os.open(origin, os.O_RDONLY)
    copy = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.ioctl(copy, FICLONE, source)
    finally:
        os.close(source)
        os.close(copy)
