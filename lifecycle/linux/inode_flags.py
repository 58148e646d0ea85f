"""The inode's flags that decide whether two files can share blocks: NOCOW, and the project.

- btrfs shares blocks only between files that are alike in NOCOW (`chattr +C`), and that can be set only while a file is
  empty (ioctl_iflags(2)).
- XFS neither links nor renames a file into a directory of another project, if new files inherit that (xfs_quota(8)),
  not even one that lies there already, from before the directory was given its project.
"""

from __future__ import annotations

import fcntl
import struct

from lifecycle.linux.files import NUMBERS_IOCTLS_OTHERWISE

_READS, _WRITES = (0x40000000, 0x80000000) if NUMBERS_IOCTLS_OTHERWISE else (0x80000000, 0x40000000)

_FLAGS = struct.Struct("=I")
_LONG = struct.calcsize("l")
FS_IOC_GETFLAGS = _READS | _LONG << 16 | ord("f") << 8 | 1
FS_IOC_SETFLAGS = _WRITES | _LONG << 16 | ord("f") << 8 | 2
FS_NOCOW_FL = 0x00800000

_FSXATTR = struct.Struct("=IIIII8x")
"""`struct fsxattr` of linux/fs.h: flags, extent size, extents, project, copy-on-write extent size."""
FS_IOC_FSGETXATTR = _READS | _FSXATTR.size << 16 | ord("X") << 8 | 31
FS_IOC_FSSETXATTR = _WRITES | _FSXATTR.size << 16 | ord("X") << 8 | 32
FS_XFLAG_PROJINHERIT = 0x200


def is_nocow(fd: int) -> bool:
    """Tell whether a file is overwritten in place; False where the file system knows no such thing."""
    return bool(_flags(fd) & FS_NOCOW_FL)


def make_alike(source: int, target: int, *, clear: bool = True) -> bool:
    """Let an empty target be NOCOW if the source is, and if `clear` only then; return whether that changed it."""
    wanted, flags = is_nocow(source), _flags(target)
    if wanted is bool(flags & FS_NOCOW_FL) or not (wanted or clear):
        return False
    try:
        fcntl.ioctl(target, FS_IOC_SETFLAGS, _padded(flags ^ FS_NOCOW_FL))
    except OSError:
        return False  # a file system that has no such thing
    return True


def join_project(fd: int, directory: int) -> bool:
    """Let a file be of the project that its directory hands on to what is made in it; return whether it was not."""
    try:
        there = _FSXATTR.unpack(_asked(directory, FS_IOC_FSGETXATTR, _FSXATTR.size))
        own = list(_FSXATTR.unpack(_asked(fd, FS_IOC_FSGETXATTR, _FSXATTR.size)))
        if not there[0] & FS_XFLAG_PROJINHERIT or own[3] == there[3]:
            return False
        own[3] = there[3]
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, _FSXATTR.pack(*own))
    except OSError:
        return False
    return True


def _flags(fd: int) -> int:
    try:
        flags: int = _FLAGS.unpack_from(_asked(fd, FS_IOC_GETFLAGS, _LONG))[0]
    except OSError:
        return 0
    return flags


def _padded(flags: int) -> bytes:
    return _FLAGS.pack(flags).ljust(_LONG, b"\0")


def _asked(fd: int, request: int, size: int) -> bytes:
    return fcntl.ioctl(fd, request, bytes(size))
