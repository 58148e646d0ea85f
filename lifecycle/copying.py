"""Copies of disks, where blocks cannot be shared: holes and runs of zeros stay holes, and progress is told."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from lifecycle import files
from lifecycle.errors import ForeignFile
from lifecycle.files import Directory

Progress = Callable[[int, int | None], None]
"""Called during a copy with the bytes gone through and the bytes in all (None if not known)."""

CHUNK = 1 << 20
_ZEROS = bytes(CHUNK)
_HOLE = 1 << 16
"""Bytes. Runs of zeros of this length become holes in a copy."""


def copy(source: int, target: int, progress: Progress | None = None) -> int:
    """Copy all content and return its length in bytes.

    Args:
        source: a file, a block device, or a pipe.
        target: an empty file, in which holes and runs of zeros become holes; or a block device, or a pipe, to which
            everything is written.
        progress: told after each chunk.
    """
    mode = os.fstat(target).st_mode
    sparse, seekable = stat.S_ISREG(mode), stat.S_ISREG(mode) or stat.S_ISBLK(mode)
    size = length(source)
    done = 0
    for offset, chunk in _chunks(source, size, holes=not sparse):
        if seekable:
            for start, piece in _pieces(chunk) if sparse else [(0, chunk)]:
                files.write_at(target, piece, offset + start)
        else:
            files.write_all(target, chunk)
        done = offset + len(chunk)
        if progress is not None:
            progress(done, size)
    total = done if size is None else size
    if sparse:
        files.truncate(target, total)
    if progress is not None:
        progress(total, total)
    return total


def holds_data(directory: Directory, file: str) -> bool:
    """Tell whether a file holds anything but a hole; what is gone, or no file, holds nothing."""
    try:
        fd = directory.open_file(file)
    except (FileNotFoundError, ForeignFile):
        return False
    try:
        return next(extents(fd, length(fd) or 0), None) is not None
    finally:
        os.close(fd)


def length(fd: int) -> int | None:
    """Return how many bytes a file or block device holds; None for a pipe."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        return None
    return os.lseek(fd, 0, os.SEEK_END)


def _chunks(fd: int, size: int | None, *, holes: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the content in order, with offsets; the holes too, or stepping over them."""
    if size is None:
        offset = 0
        while chunk := os.read(fd, CHUNK):
            yield offset, chunk
            offset += len(chunk)
        return
    for start, end in [(0, size)] if holes else extents(fd, size):
        offset = start
        while offset < end:
            chunk = os.pread(fd, min(CHUNK, end - offset), offset)
            if not chunk:
                raise OSError(errno.EIO, "the image became shorter while it was read")
            yield offset, chunk
            offset += len(chunk)


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where there is content, as start and end."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more but a hole
                return
            if error.errno != errno.EINVAL:
                raise
            yield offset, size  # a device, or a file system that does not tell
            return
        offset = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, min(offset, size)


def _pieces(chunk: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield the parts of the chunk that are not zeros, with their offsets."""
    view = memoryview(chunk)
    for start in range(0, len(chunk), _HOLE):
        piece = view[start : start + _HOLE]
        if piece != _ZEROS[: len(piece)]:
            yield start, piece
