"""Copies disks whose blocks cannot be shared: holes and zeros stay holes, and progress is reported."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lifecycle.errors import ForeignFile
from lifecycle.linux import files
from lifecycle.linux.directories import Directory
from lifecycle.readable import CHUNK, Progress, Readable, chunks

if TYPE_CHECKING:
    import hashlib

_WINDOW = 1 << 30
"""Bytes of a file that are asked about in one go."""

_ZEROS = bytes(CHUNK)
_HOLE = 1 << 16
"""Bytes. Runs of zeros of this length become holes in a copy."""


class OpenFile:
    """What a file or block device holds, by its descriptor.

    Attributes:
        fd: the descriptor.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @property
    def size(self) -> int:
        """Bytes."""
        return length(self.fd) or 0

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield where there is content, as start and end."""
        return extents(self.fd, self.size)

    def read(self, offset: int, count: int) -> bytes:
        """Return these bytes; fewer only where the file ends."""
        return os.pread(self.fd, count, offset)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def copy(
    source: int | Readable,
    target: int,
    progress: Progress | None = None,
    see: Callable[[bytes], object] | None = None,
) -> int:
    """Copy all content and return its length in bytes.

    Args:
        source: a file, a block device or a pipe, by its descriptor; or any other content.
        target: an empty file, in which holes and runs of zeros become holes; or a block device, or a pipe, to which
            everything is written.
        progress: told after each chunk.
        see: shown each chunk as it was read, in order; what is stepped over, as a hole, it does not see.
    """
    mode = os.fstat(target).st_mode
    sparse, seekable = stat.S_ISREG(mode), stat.S_ISREG(mode) or stat.S_ISBLK(mode)
    size = length(source) if isinstance(source, int) else source.size
    done = 0
    for offset, chunk in _chunks(source, holes=not sparse):
        if see is not None:
            see(chunk)
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


def is_blank(directory: Directory, file: str) -> bool:
    """Tell whether a file holds nothing but holes and zeros, as some tools copy holes; only what is no hole is read."""
    fd = directory.open_file(file)
    try:
        return not any(piece for _at, chunk in _chunks(fd, holes=False) for piece in _pieces(chunk))
    finally:
        os.close(fd)


def drop_cache(fd: int) -> None:
    """Let what is read next come from the disk; what is not yet durable stays in memory."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def is_cached(fd: int) -> bool:
    """Tell whether memory holds any of a file's content; True too where that cannot be found out."""
    import ctypes  # noqa: PLC0415 - seldom needed
    import mmap  # noqa: PLC0415 - seldom needed

    size = length(fd) or 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    for offset in range(0, size, _WINDOW):
        count = min(_WINDOW, size - offset)
        where = libc.mmap(None, count, mmap.PROT_READ, mmap.MAP_SHARED, fd, offset)
        if where == ctypes.c_void_p(-1).value:
            return True
        pages = ctypes.create_string_buffer(-(-count // mmap.PAGESIZE))
        failed = libc.mincore(where, count, pages)
        libc.munmap(where, count)
        if failed or any(page & 1 for page in pages.raw):
            return True
    return False


def length(fd: int) -> int | None:
    """Return how many bytes a file or block device holds; None for a pipe."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        return None
    return os.lseek(fd, 0, os.SEEK_END)


def digest(fd: int, progress: Progress | None = None) -> bytes:
    """Return what tells the content of a file from every other."""
    summary = new_digest()
    for offset, chunk in _chunks(fd, holes=True):
        summary.update(chunk)
        if progress is not None:
            progress(offset + len(chunk), length(fd))
    return summary.digest()


def new_digest() -> hashlib.blake2b:
    """Return what `digest` sums up with, empty."""
    import hashlib  # noqa: PLC0415 - seldom needed

    return hashlib.blake2b()


def _chunks(source: int | Readable, *, holes: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the content in order, with offsets; the holes too, or stepping over them."""
    if not isinstance(source, int):
        yield from chunks(source, holes=holes)
    elif length(source) is not None:
        yield from chunks(OpenFile(source), holes=holes)
    else:
        offset = 0
        while chunk := os.read(source, CHUNK):
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
