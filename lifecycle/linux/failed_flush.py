"""Marks an image whose flush failed, and says what may still be believed of the image.

Why this is hard. When the disk refuses what is to be written, the kernel tells whoever asks first, once for each open
file, and takes the pages for clean: the next flush succeeds though nothing was written, and what is read looks right
until the memory is wanted for something else. So after a failed flush nothing that is asked later proves anything but
what is read from the disk itself. Therefore:

- The image is marked at once, by a bit of its mode that means nothing else on a file: it needs no room, goes with the
  file, and is seen by whoever looks at the file at all.
- What is to be written is first written in a way that takes the news from no one (`write_out`), and only then flushed.
  So a process that is killed while it waits for a failing disk leaves the news to the next one that flushes.
- An image is believed again once memory holds nothing of it: what is read then is what the disk holds (`settle`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

from lifecycle.errors import FlushError
from lifecycle.linux import copying, files, reflinks
from lifecycle.linux.directories import Directory

MARK = stat.S_ISVTX
"""The bit of an image's mode that says that a flush of it failed: `ls -l` shows it as a T at the end."""
_FIEMAP_SYNC = 1
"""FIEMAP_FLAG_SYNC of linux/fiemap.h."""
_WAIT_BEFORE = 1
"""SYNC_FILE_RANGE_WAIT_BEFORE of linux/fs.h."""
_REFUSED = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})
"""What a file system answers when content could not be written."""
_CACHED = "something reads it or maps it, so memory holds what the disk may not; try again when nothing has it open"
_SECTOR = 512
_ATTEMPTS = 3
"""How often to ask that the mark be durable: the first time the kernel may tell of the content once more."""


def is_marked(status: os.stat_result | None) -> bool:
    """Tell whether a flush of this image failed."""
    return status is not None and bool(status.st_mode & MARK)


class Image:
    """An image, open, that others wrote to: what they wrote is nowhere else.

    Attributes:
        fd: the descriptor.
        path: for messages.
        own: whether it is a pool's, and may be marked.
    """

    __slots__ = ("fd", "own", "path")

    def __init__(self, fd: int, path: str, *, own: bool = True) -> None:
        self.fd = fd
        self.path = path
        self.own = own

    def sync(self) -> None:
        """Make its content and status durable, whoever wrote it.

        Raises:
            FlushError: that failed, now or before without anyone having been told; the image is marked.
        """
        try:
            write_out(self.fd)
            files.sync_content(self.fd)
        except OSError as error:
            raise self._refused(error) from error

    def ask(self) -> None:
        """Ask whether a flush of its whole file system, which has just been made, failed for this image.

        Raises:
            FlushError: as of `sync`.
        """
        try:
            ask(self.fd)
        except OSError as error:
            raise self._refused(error) from error

    def share_with(self, target: int, *, clear_nocow: bool = True) -> str | None:
        """Let the target share all of its blocks, as `reflinks.share_whole`; that writes out what memory holds of it.

        Raises:
            FlushError: it could not be written out; the image is marked. OSError: the target failed.
        """
        try:
            return reflinks.share_whole(self.fd, target, clear_nocow=clear_nocow)
        except OSError:
            self.sync()  # which of the two it was
            raise

    def _refused(self, error: OSError) -> FlushError:
        return FlushError(error, self.path, own=self.own, unnoted=self._note())

    def _note(self) -> str | None:
        """Mark it; return why that could not be, or is not durable."""
        if not self.own:
            return None
        try:
            files.set_mode(self.fd, stat.S_IMODE(os.fstat(self.fd).st_mode) | MARK)
        except OSError as error:
            return error.strerror or str(error)
        why: str | None = None
        for _attempt in range(_ATTEMPTS):
            try:
                files.sync_content(self.fd)
            except OSError as error:
                why = error.strerror or str(error)
            else:
                return None
        return why


def write_out(fd: int) -> None:
    """Write to the disk what memory holds of a file's content, and wait; that is not durable yet.

    An error told here is told again by the next flush, whoever asks for that: FIEMAP writes all of a file out before it
    looks at it, and keeps no count of whom it told. Where a file system does not know it, nothing is done.

    Raises:
        OSError: the disk refused something.
    """
    try:
        fcntl.ioctl(fd, reflinks.FS_IOC_FIEMAP, reflinks.FIEMAP.pack(0, 1, _FIEMAP_SYNC, 0, 0, 0))
    except OSError as error:
        if error.errno in _REFUSED:
            raise


def ask(fd: int) -> None:
    """Ask for an error in writing a file's content that was not told by this descriptor; nothing is written for it.

    Raises:
        OSError: there is one.
    """
    import ctypes  # noqa: PLC0415 - slow to load, and only needed for many files at once

    libc = ctypes.CDLL(None, use_errno=True)
    # sync_file_range(2) of nothing but waiting
    if libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _WAIT_BEFORE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def settle(directory: Directory, file: str) -> bool:
    """Let what is read of an image in doubt be what the disk holds of it; any other is left as it is.

    What can still be written is written first. No one else may have the image open. It stays marked.

    Returns:
        whether it is in doubt.

    Raises:
        OSError: memory still holds some of it, since something reads it or has it mapped.
    """
    if not is_marked(directory.stat(file)):
        return False
    fd = directory.open_file(file, writable=True)
    try:
        with suppress(OSError):  # of what cannot be written the disk keeps what it has
            write_out(fd)
        _let_size_be_written(fd)
        files.sync_content(fd)
        for _attempt in range(_ATTEMPTS):
            copying.drop_cache(fd)
            if not copying.is_cached(fd):
                return True
    finally:
        os.close(fd)
    raise OSError(errno.EBUSY, _CACHED, file)


def _let_size_be_written(fd: int) -> None:
    """Let an image's size be durable with its status: memory alone knows it, if what was refused made it longer."""
    status = os.fstat(fd)
    files.truncate(fd, status.st_size + _SECTOR)
    files.truncate(fd, status.st_size)
    files.set_time(fd, status.st_mtime_ns)


def clear(fd: int) -> None:
    """Take the mark off an image that has been settled; durable with its status."""
    files.set_mode(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~MARK)


def believe(directory: Directory, file: str) -> None:
    """Settle an image in doubt, and take the mark off; durable. Any other is left as it is."""
    if settle(directory, file):
        fd = directory.open_file(file)
        try:
            clear(fd)
            files.sync_content(fd)
        finally:
            os.close(fd)
