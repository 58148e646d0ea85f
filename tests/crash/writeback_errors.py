"""A disk that refuses what was written to one image, once, and what becomes of that later.

How this works. The kernel tells of what it could not write: each way of asking once. Then it takes the pages for clean,
and what is read looks right until memory is wanted for something else. A `Refusal` does the same to one image: its
first flushes fail, later ones succeed, and `reclaim` is the moment at which memory is emptied. A flush of the whole
file system says nothing: someone else has taken its one error.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from crash.pictures import BLOCK
from lifecycle import Pool
from lifecycle.linux import copying
from support.disks import seen

WRITE_OUT, FLUSH = "write out", "flush"
"""The two pieces of news of one refusal: who writes out is told the one, who flushes or asks the other."""
FLUSHES = {"write out": WRITE_OUT, "ask": FLUSH, "fsync": FLUSH}
"""The operations that tell of it, and which piece each tells."""


def image_of(fd: int) -> Path | None:
    """Return the path of an image that has a name, its own even while that is taken away; None for every other file."""
    path = Path(os.readlink(f"/proc/self/fd/{fd}").removesuffix("@withdrawn"))
    return path if path.name.endswith(".img") else None


class Refusal:
    """One image of which the disk refuses the first block.

    Attributes:
        fd: the image, to be known by.
    """

    def __init__(self, image: Path, *, told: bool = False) -> None:
        self.fd = os.open(image, os.O_PATH)  # which does not count as using it
        self._untold = set() if told else {WRITE_OUT, FLUSH}
        self._reclaimed = False

    def is_of(self, fd: int) -> bool:
        """Tell whether this descriptor is the image's."""
        return os.path.sameopenfile(fd, self.fd)

    def meet(self, operation: str, args: Any) -> None:
        """Let an operation fail that tells of it, if that was not told yet."""
        if operation == "reflink":
            of, news = args[-1], WRITE_OUT
        elif operation in FLUSHES:
            of, news = args[0], FLUSHES[operation]
        else:
            return
        if isinstance(of, int) and self.is_of(of) and news in self._untold:
            self._untold.discard(news)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def reclaim(self) -> None:
        """Let memory be emptied: what is read from now on is what the disk holds."""
        if self._reclaimed:
            return
        self._reclaimed = True
        status = os.fstat(self.fd)
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR)
        try:
            os.pwrite(fd, bytes(BLOCK), 0)
            os.fsync(fd)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let the product meet it when it empties memory."""
        drop_cache = copying.drop_cache

        def drop(fd: int) -> None:
            if self.is_of(fd):
                self.reclaim()
            drop_cache(fd)

        with mock.patch.object(copying, "drop_cache", drop):
            yield

    def close(self) -> None:
        os.close(self.fd)


def acknowledged(pool: Pool) -> dict[tuple[str, int | None], bytes]:
    """Return what is read of each image that the product acknowledges."""
    found = {}
    for volume in pool:
        view = volume.look()
        for number in view.numbers:
            found[volume.id, number] = seen(volume, number)
        if view.current is not None and not view.moved:
            found[volume.id, None] = seen(volume)
    return found


def settle_everything(pool: Pool, act: Callable[[Pool], object], errors: Any) -> None:
    """Do what people and hosts do after a failure: the same again, a recovery, a stop; then what mends damage."""
    for again in (act, act, act, lambda one: one.recover(), lambda one: one.recover()):
        with suppress(errors):
            again(pool)
    for volume in pool:
        with suppress(errors):
            volume.stop()
        if volume.state == "damaged":
            volume.revert()
