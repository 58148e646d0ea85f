"""Sharing blocks between files: what a file system can do, and doing it, whole or piece by piece.

A clone of a whole image keeps all others from that image until it is done, which on a fragmented one takes long. What
is done in the background shares one stretch at a time instead.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable

from lifecycle.linux import copying, files, inode_flags
from lifecycle.linux.directories import Directory

_CLONE_RANGE = struct.Struct("=qQQQ")
"""`struct file_clone_range` of linux/fs.h: source, its offset, length, the target's offset."""
FICLONERANGE = files.FICLONE - (4 << 16) - 9 + (_CLONE_RANGE.size << 16) + 13
"""From linux/fs.h: as FICLONE (an int, number 9), but with that structure, and number 13."""
FIEMAP = struct.Struct("=QQIIII")
"""`struct fiemap` of linux/fiemap.h: start, length, flags, extents mapped, room for extents, reserved."""
_FIEMAP_EXTENT = 56
"""Bytes that one extent takes behind it."""
FS_IOC_FIEMAP = 0xC020660B

_STRETCH = 4 << 20
"""Bytes shared in one go: at most a thousand extents, some milliseconds."""

_ALWAYS = frozenset({"btrfs", "bcachefs"})
_NEVER = frozenset({"ext2", "ext3", "ext4", "tmpfs", "vfat", "exfat", "ntfs3", "f2fs"})
"""File systems, as /proc/self/mountinfo names them, that always share blocks between files, or never do."""

_XFS_GEOMETRY = struct.Struct("=92xI16x")
"""`struct xfs_fsop_geom_v1` of xfs/xfs_fs.h, of which only the flags are read."""
_XFS_READ_BIT = 0x40000000 if files.FICLONE & 0x80000000 else 0x80000000
XFS_IOC_FSGEOMETRY_V1 = _XFS_READ_BIT | _XFS_GEOMETRY.size << 16 | ord("X") << 8 | 100
_XFS_REFLINK = 1 << 20
"""XFS_FSOP_GEOM_FLAGS_REFLINK."""


def shares_blocks(directory: Directory) -> bool | None:
    """Tell whether files in this directory can share blocks; None where only trying would tell. Writes nothing."""
    kind = _file_system(directory)
    if kind == "xfs":
        answer = bytearray(_XFS_GEOMETRY.size)
        try:
            fcntl.ioctl(directory.fd, XFS_IOC_FSGEOMETRY_V1, answer)
        except OSError:
            return None
        return bool(_XFS_GEOMETRY.unpack(answer)[0] & _XFS_REFLINK)
    return True if kind in _ALWAYS else False if kind in _NEVER else None


def _file_system(directory: Directory) -> str | None:
    """Return the kind of file system that the directory lies on (proc(5)); None if that cannot be seen."""
    try:
        with open(f"/proc/self/fdinfo/{directory.fd}", encoding="ascii") as told:
            own = next(line.split()[1] for line in told if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            line = next(line for line in mounts if line.partition(" ")[0] == own)
    except (OSError, StopIteration):
        return None
    return line.partition(" - ")[2].split()[0]


def has_reflinks(directory: Directory) -> bool:
    """Tell whether files in this directory can share blocks, by trying it.

    Raises:
        OSError: the directory cannot be written to, or trying failed for another reason.
    """
    with directory.draft("probe") as source, directory.draft("probe") as target:
        os.write(source.fd, b"probe" * 1000)
        return files.reflink(source.fd, target.fd)


def keeps_nanoseconds(directory: Directory) -> bool:
    """Tell whether files in this directory keep their times to the nanosecond, by trying it.

    Raises:
        OSError: the directory cannot be written to.
    """
    with directory.draft("probe") as draft:
        files.set_time(draft.fd, 7)
        return os.fstat(draft.fd).st_mtime_ns == 7  # noqa: PLR2004 - what was set


def are_more_than(fd: int, limit: int) -> bool:
    """Tell whether a file lies in more than so many extents; False where the file system does not say.

    Costs the same however many there are.
    """
    answer = bytearray(FIEMAP.size + (limit + 1) * _FIEMAP_EXTENT)
    FIEMAP.pack_into(answer, 0, 0, (1 << 64) - 1, 0, 0, limit + 1, 0)
    try:
        fcntl.ioctl(fd, FS_IOC_FIEMAP, answer)
    except OSError as error:
        if error.errno in files.NO_REFLINKS:
            return False
        raise
    mapped: int = FIEMAP.unpack_from(answer)[3]
    return mapped > limit


def share_whole(source: int, target: int, *, clear_nocow: bool = True) -> str | None:
    """Let an empty target share all of the source's blocks; return None, or why these two cannot.

    On btrfs a target that is not NOCOW as its source is made so first.

    Args:
        source: a file.
        target: an empty file.
        clear_nocow: whether a target that is NOCOW, by its directory, may become one that is not.

    Raises:
        OSError: it can be done and failed.
    """
    if files.reflink(source, target):
        return None
    if inode_flags.make_alike(source, target, clear=clear_nocow) and files.reflink(source, target):
        return None
    if os.fstat(source).st_dev != os.fstat(target).st_dev:
        return "they lie on different file systems"
    if inode_flags.is_nocow(source) is not inode_flags.is_nocow(target):
        return "one of them is NOCOW (chattr +C) and the other is not"
    return "the file system shares no blocks between them"


def share(source: int, target: int, is_wanted: Callable[[], bool]) -> bool | None:
    """Let an empty target share all of the source's blocks, stretch by stretch.

    Args:
        source: a file.
        target: an empty file.
        is_wanted: asked before each stretch whether to go on.

    Returns:
        whether it was shared; None if it was no longer wanted.

    Raises:
        OSError: it can be done and failed.
    """
    inode_flags.make_alike(source, target)
    size = os.fstat(source).st_size
    files.truncate(target, size)
    for start, end in copying.extents(source, size):
        for offset in range(start, end, _STRETCH):
            if not is_wanted():
                return None
            length = min(_STRETCH, end - offset)
            try:
                fcntl.ioctl(target, FICLONERANGE, _CLONE_RANGE.pack(source, offset, length, offset))
            except OSError as error:
                if error.errno in files.NO_REFLINKS:
                    return False
                raise
    return True
