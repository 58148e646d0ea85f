"""A way to keep a disk undoable, and what is measured of each: a start, a write and a stop; and a revert."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks.images import BLOCK, Image
from benchmarks.places import Place
from benchmarks.runner import timed

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
