"""lifecycle itself: the library, with and without an image made ahead, and the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.places import Image, Place
from benchmarks.ways import NOT_READY, START, Way
from lifecycle import Pool, Volume
from lifecycle.linux import files
from lifecycle.linux.holders import BACKGROUND
from lifecycle.reflink import precached
from lifecycle.reflink.store import Store

SCRIPT = str(Path(sys.executable).with_name("lifecycle"))
CLONED = "clones"
_PATIENCE = 20.0
"""Seconds to wait for an image that is made in the background."""


class Clones:
    """Counts the clones that lifecycle makes in this process.

    Attributes:
        count: so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reflink = files.reflink
        files.reflink = self._counted

    def _counted(self, source: int, target: int) -> bool:
        done = self._reflink(source, target)
        self.count += done
        return done


CLONES = Clones()


def new_pool(where: Path, *, precache: str = "never", **settings: Any) -> Pool:
    """Make a pool that keeps all revisions."""
    return Pool.create(where / "pool", keep="all", precache=precache, **settings)


class Library(Way):
    """The library; each next working image is made ahead."""

    name: ClassVar[str] = "lifecycle"
    precache: ClassVar[str] = "always"
    keep: ClassVar[str] = "all"

    def __init__(self, where: Path, image: Image, kept: int) -> None:
        super().__init__(where, image, kept)
        self.pool = new_pool(where, precache=self.precache)
        self.volume: Volume = self.pool.clone(image.path, "vm/root")
        self._clones_at_start = 0
        self._is_made_ahead = self.precache == "always"
        for _number in range(kept):
            self.once()
        self.volume.configure(keep=self.keep.format(kept=kept))

    def start(self) -> None:
        """Start."""
        before = CLONES.count
        self.volume.start()
        self._clones_at_start = CLONES.count - before

    def name_of_start(self) -> str:
        """Return what the last start was: one for which an image is to be ready should clone nothing."""
        as_meant = self.precache == "never" or not self._clones_at_start
        return START if as_meant else NOT_READY

    def stop(self) -> None:
        """Commit."""
        self.volume.stop()

    def revert(self) -> None:
        """Revert, at rest."""
        self.volume.revert()

    def working(self) -> Path:
        """Return the working image."""
        return Path(self.volume.path)

    def settle(self) -> None:
        """Wait for the image that is made ahead, but not again once none came: starts are not ready then."""
        self._is_made_ahead = self._is_made_ahead and wait_until_ready(self.volume)

    def work(self, place: Place) -> dict[str, float]:
        """Return what a cycle asks of the device, and the clones in it, the one made ahead by a process too."""
        before, ahead = CLONES.count, self._ahead()
        work = super().work(place)
        self.settle()
        made_ahead = self._ahead() not in {None, ahead}
        return {**work, CLONED: CLONES.count - before + made_ahead}

    def _ahead(self) -> int | None:
        """Return the inode of the working image that is made ahead; None if there is none."""
        try:
            return os.stat(f"{self.volume.pool.path}/{self.volume.id}-precache.img").st_ino
        except FileNotFoundError:
            return None

    def trim(self) -> None:
        """Forget the oldest revisions."""
        known = self.volume.revisions
        old = [one.number for one in known[: len(known) - self.kept] if not one.current]
        if old:
            self.volume.forget(*old)


def wait_until_ready(volume: Volume) -> bool:
    """Return True once the volume's next working image is there and fresh, and who made it is gone; False if not."""
    end = time.monotonic() + _PATIENCE
    while not _is_fresh(volume) or _is_at_work():
        if time.monotonic() > end:
            return False
        time.sleep(0.0005)
    return True


def _is_at_work() -> bool:
    """Tell whether a process that makes images ahead is still there; how it ends takes its part of the machine too."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            about = stat.read_text(errors="replace")
            if f"({BACKGROUND})" in about and ") Z " not in about:
                return True
    return False


def _is_fresh(volume: Volume) -> bool:
    """Tell whether an image is ready that was made from what is current."""
    if not os.path.exists(f"{volume.pool.path}/{volume.id}-precache.img"):
        return False
    with Store(volume.pool.path, volume.pool.config).opened(volume.id) as opened:
        return precached.fresh_precache(opened) is not None


class LibraryCloning(Library):
    """The library; each start clones."""

    name = "lifecycle, nothing ahead"
    precache = "never"


class LibraryPruning(Library):
    """The library; each stop prunes the oldest revision too."""

    name = "lifecycle, pruning"
    keep = "last {kept}"


class Command(Library):
    """The command, a process each time."""

    name = "lifecycle, command"

    def __init__(self, where: Path, image: Image, kept: int) -> None:
        self._environment = {**os.environ, "LIFECYCLE_POOL": f"{where}/pool"}
        super().__init__(where, image, kept)

    def _run(self, command: str) -> None:
        words = [SCRIPT, command, self.volume.id]
        subprocess.run(words, env=self._environment, stdout=subprocess.DEVNULL, check=True)

    def work(self, place: Place) -> dict[str, float]:
        """Return what a cycle asks of the device; clones of other processes are not counted."""
        return Way.work(self, place)

    def start(self) -> None:
        """Run `lifecycle start`."""
        self._run("start")

    def stop(self) -> None:
        """Run `lifecycle stop`."""
        self._run("stop")

    def revert(self) -> None:
        """Run `lifecycle revert`."""
        self._run("revert")
