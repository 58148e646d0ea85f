"""What a way to keep a disk undoable is, what is measured of each, and the quickest one: the bare system calls."""

from __future__ import annotations

import fcntl
import os
import shutil
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import timed
from benchmarks.places import BLOCK, Image, Place
from lifecycle.linux.files import FICLONE

START, STOP, REVERT, CYCLE = "start", "stop", "revert", "whole cycle"
NOT_READY = "start, not ready"
"""A start that had to make its working image, though one was to be ready."""
WRITTEN, FLUSHES = "written", "flushes"


class Way(ABC):
    """One disk, kept undoable in one way. Made with `kept` earlier states to go back to."""

    name: ClassVar[str]
    can_revert: ClassVar[bool] = True
    programs: ClassVar[tuple[str, ...]] = ()
    """That it is made of, beside those of every machine."""

    def __init__(self, where: Path, image: Image, kept: int) -> None:
        self.where = where
        self.image = image
        self.kept = kept
        self.writes = 0

    @classmethod
    def lacking(cls, place: Place) -> str | None:  # noqa: ARG003 - others ask
        """Return why this cannot be measured there, in words; None if it can."""
        missing = [one for one in cls.programs if shutil.which(one) is None]
        return f"{missing[0]} is not installed" if missing else None

    @abstractmethod
    def start(self) -> None:
        """Make ready for the VM to start; durable."""

    @abstractmethod
    def stop(self) -> None:
        """Keep what the VM wrote, and what was before as a state to go back to; durable."""

    @abstractmethod
    def revert(self) -> None:
        """Go back to the state before; durable."""

    @abstractmethod
    def working(self) -> Path:
        """Return what the VM opens."""

    @abstractmethod
    def trim(self) -> None:
        """Forget the states beyond `kept`; not measured."""

    def write(self) -> None:
        """Write one block and flush nothing, as the VM would."""
        self.writes += 1
        fd = os.open(self.working(), os.O_WRONLY)
        try:
            os.pwrite(fd, os.urandom(BLOCK), self.image.offset(self.writes))
        finally:
            os.close(fd)

    def settle(self) -> None:  # noqa: B027 - most ways leave nothing
        """Do, or wait for, what a stop leaves to be done before the next start can be quick."""

    def name_of_start(self) -> str:
        """Return what the last start was."""
        return START

    # ------------------------------------------------------------ what is measured

    def once(self) -> None:
        """Start, write, stop, and all that follows."""
        self.start()
        self.write()
        self.stop()
        self.settle()

    def cycle(self) -> dict[str, float]:
        """Return the seconds of a start, of a stop, and of both with what is left to be done."""
        start = timed(self.start)
        name = self.name_of_start()
        self.write()
        stop = timed(self.stop)
        left = timed(self.settle)
        self.trim()
        return {name: start, STOP: stop, CYCLE: start + stop + left}

    def back(self) -> dict[str, float]:
        """Return the seconds of a revert, after a write to revert."""
        self.once()
        seconds = timed(self.revert)
        self.settle()
        self.trim()
        return {REVERT: seconds}

    def work(self, place: Place) -> dict[str, float]:
        """Return the bytes written to the device and its flushes, in a cycle."""
        before = place.work()
        self.once()
        after = place.work()
        self.trim()
        return {
            WRITTEN: after.written - before.written,
            FLUSHES: after.flushes - before.flushes,
        }


# ---------------------------------------------------------------- the floor
#
# The system calls that change something in lifecycle's protocol, with nothing around them: no look at what is there, no
# lock, no question who uses the image, no record read, no signal. Nothing that keeps the same promises in the same way
# can be quicker.

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
