"""The floor: the system calls that change something in lifecycle's protocol, with nothing around them.

No look at what is there, no lock, no question who uses the image, no record read, no signal: so nothing that keeps
the same promises in the same way can be quicker.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from benchmarks.images import Image
from benchmarks.ways import Way
from lifecycle.linux.files import FICLONE

_RECORD = b"{" + b" " * 300 + b"}"
"""As long as a volume's record is."""


class Floor(Way):
    """The bare system calls; each next working image is made ahead."""

    name: ClassVar[str] = "floor"
    is_ahead: ClassVar[bool] = True

    def __init__(self, where: Path, image: Image, kept: int) -> None:
        super().__init__(where, image, kept)
        self._directory = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        self._current = 1
        self._oldest = 1
        self._make("root.img", image.path)
        self.settle()
        for _number in range(kept):
            self.once()

    def __del__(self) -> None:
        os.close(self._directory)

    def start(self) -> None:
        """Rename the image made ahead, or make one; sync the directory."""
        if self.is_ahead:
            self._rename("root-precache.img", "root-dirty.img")
        else:
            self._make("root-dirty.img", self.where / "root.img")
        os.fsync(self._directory)

    def stop(self) -> None:
        """Sync the image, write the record beside the old one, link, rename, rename, sync the directory."""
        fd = os.open("root-dirty.img", os.O_RDONLY, dir_fd=self._directory)
        os.utime(fd, ns=(1, 1))
        os.fsync(fd)
        os.close(fd)
        self._stage()
        self._link("root.img", f"root.img.{self._current}")
        self._rename("root-dirty.img", "root.img")
        self._rename("root.json~", "root.json")
        os.fsync(self._directory)
        self._current += 1

    def revert(self) -> None:
        """As a stop, but what becomes current is a link to the state before."""
        self._stage()
        self._link("root.img", f"root.img.{self._current}")
        self._link(f"root.img.{self._current - 1}", "root.img~")
        self._rename("root.img~", "root.img")
        self._rename("root.json~", "root.json")
        os.fsync(self._directory)
        self._current += 1

    def settle(self) -> None:
        """Make the next working image."""
        if self.is_ahead:
            with suppress(FileNotFoundError):
                os.unlink("root-precache.img", dir_fd=self._directory)
            self._make("root-precache.img", self.where / "root.img")

    def working(self) -> Path:
        """Return the working image."""
        return self.where / "root-dirty.img"

    def trim(self) -> None:
        """Unlink the oldest."""
        while self._current - self._oldest > self.kept:
            os.unlink(f"root.img.{self._oldest}", dir_fd=self._directory)
            self._oldest += 1

    def _make(self, name: str, origin: Path) -> None:
        """Clone into a file without a name, sync it, name it."""
        source = os.open(origin, os.O_RDONLY)
        target = os.open(".", os.O_RDWR | os.O_TMPFILE, 0o600, dir_fd=self._directory)
        fcntl.ioctl(target, FICLONE, source)
        os.utime(target, ns=(1, 1))
        os.fsync(target)
        self._name(target, name)
        os.close(target)
        os.close(source)

    def _stage(self) -> None:
        fd = os.open(".", os.O_RDWR | os.O_TMPFILE, 0o600, dir_fd=self._directory)
        os.write(fd, _RECORD)
        os.fsync(fd)
        self._name(fd, "root.json~")
        os.close(fd)

    def _name(self, fd: int, name: str) -> None:
        here = self._directory
        os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=True)

    def _link(self, old: str, new: str) -> None:
        os.link(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)


class FloorCloning(Floor):
    """The bare system calls; each start clones."""

    name = "floor, nothing ahead"
    is_ahead = False
