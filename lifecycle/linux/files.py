"""What is done to an open file: its content, its times, who may use it, what it shares.

This module and directories.py are the only ones that change files. What is done to a file's name is in the other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

FILE_MODE = 0o600

NO_REFLINKS = frozenset(
    {errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS}
)
"""What FICLONE answers where it cannot clone. Every other error is a real failure."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a file system answers that is full, or has given this user all that he may have."""

NUMBERS_IOCTLS_OTHERWISE = os.uname().machine.startswith(("alpha", "mips", "ppc", "sparc"))
"""Whether this is a machine on which an ioctl that reads, and one that writes, is numbered with other bits
(asm/ioctl.h)."""
FICLONE = 0x80049409 if NUMBERS_IOCTLS_OTHERWISE else 0x40049409


def truncate(fd: int, size: int) -> None:
    """Give a file its size in bytes; what is added is a hole."""
    os.ftruncate(fd, size)


def sync_content(fd: int) -> None:
    """Make a file's content and status durable, whoever wrote it."""
    os.fsync(fd)


def set_time(fd: int, moment: int) -> None:
    """Set a file's modification time, in nanoseconds since 1970; durable with the content."""
    os.utime(fd, ns=(moment, moment))


def make_own(fd: int) -> None:
    """Let a file be this user's alone: its owner, its permissions, and what libvirt or an access list says else."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        os.fchown(fd, os.geteuid(), -1)
    # the sticky bit marks an image in doubt (failed_flush.py)
    mode = FILE_MODE | (status.st_mode & stat.S_ISVTX)
    if stat.S_IMODE(status.st_mode) != mode:
        os.fchmod(fd, mode)
    for name in _attributes(fd):
        if name.startswith(_OF_OTHERS):
            os.removexattr(fd, name)


_OF_OTHERS = ("trusted.libvirt.security.", "system.posix_acl_access")
"""Attributes by which someone else has, or gets back, what make_own takes."""


def _attributes(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []


def give(fd: int, user: int, group: int = -1) -> None:
    """Let a file be that user's, by number; a group of -1 stays as it is. Durable with the content."""
    os.fchown(fd, user, group)


def set_mode(fd: int, mode: int) -> None:
    """Set a file's permissions; durable with the content."""
    os.fchmod(fd, mode)


def write_at(fd: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of it at an offset in bytes."""
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def write_all(fd: int, content: bytes) -> None:
    """Write all of it where the descriptor stands."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def reflink(source: int, target: int) -> bool:
    """Let the target share all of the source's blocks; return False where that cannot be done.

    Raises:
        OSError: it can be done and failed (no space, an input/output error…).
    """
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in NO_REFLINKS:
            return False
        raise
    return True
