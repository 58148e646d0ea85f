"""Finds out what a file system can do, by asking it or, where files may be made, by trying."""

from __future__ import annotations

import fcntl
import os
import struct

from lifecycle.linux import files
from lifecycle.linux.files import Directory, reflink, set_time

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
        return reflink(source.fd, target.fd)


def keeps_nanoseconds(directory: Directory) -> bool:
    """Tell whether files in this directory keep their times to the nanosecond, by trying it.

    Raises:
        OSError: the directory cannot be written to.
    """
    with directory.draft("probe") as draft:
        set_time(draft.fd, 7)
        return os.fstat(draft.fd).st_mtime_ns == 7  # noqa: PLR2004 - what was set
