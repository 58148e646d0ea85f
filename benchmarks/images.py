"""Images as VMs leave them: sparse, and of as many extents as one wants."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path

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


def make(path: Path, size: int, extents: int) -> Image:
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
