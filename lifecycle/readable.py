"""What a disk holds, to be read range by range, whatever keeps it.

A file has a descriptor, from which the kernel can share or copy. What a cluster or a database keeps has none: it is
read range by range, and what is known to be empty is stepped over.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Protocol

Progress = Callable[[int, int | None], None]
"""Called during a copy with the bytes gone through and the bytes in all (None if not known)."""

CHUNK = 1 << 20
"""Bytes that are read in one go, at most."""


class Readable(Protocol):
    """The content of a disk, open for reading; it stays as it is however long it is read."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def fd(self) -> int | None:
        """A descriptor of a file or block device that holds the same from its first byte to its last; None without one.

        It belongs to this object, which closes it.
        """

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield where there may be something, as start and end, in order; all else is zeros."""

    def read(self, offset: int, count: int) -> bytes:
        """Return these bytes; fewer only where the content ends.

        Raises:
            OSError: they cannot be read.
        """

    def close(self) -> None:
        """Close it."""


def chunks(source: Readable, *, holes: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the content in order, with offsets, a `CHUNK` at most at a time.

    Args:
        source: the content.
        holes: whether zeros where nothing is are yielded too; else they are stepped over.

    Raises:
        OSError: it cannot be read, or became shorter meanwhile.
    """
    for start, end in [(0, source.size)] if holes else source.extents():
        offset = start
        while offset < end:
            chunk = source.read(offset, min(CHUNK, end - offset))
            if not chunk:
                raise OSError(errno.EIO, "the image became shorter while it was read")
            yield offset, chunk
            offset += len(chunk)


def difference(one: Readable, other: Readable, progress: Progress | None = None) -> int | None:
    """Return where two contents first differ, in bytes; None if they hold the same.

    Where both say that there is nothing, nothing is read.
    """
    from heapq import merge  # noqa: PLC0415 - seldom needed

    size = one.size
    if other.size != size:
        return min(size, other.size)
    done = 0
    for start, end in merge(one.extents(), other.extents()):
        for offset in range(max(start, done), end, CHUNK):
            count = min(CHUNK, end - offset)
            first, second = one.read(offset, count), other.read(offset, count)
            if first != second:
                pairs = enumerate(zip(first, second, strict=False))
                shorter = min(len(first), len(second))
                return offset + next((at for at, (a, b) in pairs if a != b), shorter)
            if progress is not None:
                progress(offset + count, size)
        done = max(done, end)
    if progress is not None:
        progress(size, size)
    return None
