"""Tags on files: extended attributes that go with the file and are not copied to its clones.

Where the file system has no extended attributes, all goes on without.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Set

from lifecycle.linux import files
from lifecycle.linux.directories import Directory

log = logging.getLogger("lifecycle.tags")

_PREFIX = "user.lifecycle."
_NOT_TOLD = frozenset(
    {errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP}
)


def keys(fd: int) -> set[str]:
    """Return of which keys words were put to a file; none where the file system has no extended attributes."""
    try:
        found = os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return set()
    return {name[len(_PREFIX) :] for name in found if name.startswith(_PREFIX)}


def put(fd: int, key: str, value: str | None) -> None:
    """Put a word to a file, or with None take it off; the file's times stay, and a clone does not get it.

    Where the file system has no extended attributes, that is logged.
    """
    try:
        _put(fd, key, value)
    except OSError as error:
        if value is None and error.errno == errno.ENODATA:
            return
        if error.errno != errno.EOPNOTSUPP:
            raise
        log.warning("no extended attributes on this file system: %r is not noted", key)


def _put(fd: int, key: str, value: str | None) -> None:
    """Put it, though the file's permissions let no one write: its owner, who is asked for them too, may change them."""
    try:
        _change(fd, key, value)
    except PermissionError:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & stat.S_IWUSR:
            raise  # that is not why
        files.set_mode(fd, mode | stat.S_IWUSR)
        try:
            _change(fd, key, value)
        finally:
            files.set_mode(fd, mode)


def _change(fd: int, key: str, value: str | None) -> None:
    if value is None:
        os.removexattr(fd, _PREFIX + key)
    else:
        os.setxattr(fd, _PREFIX + key, value.encode())


def look_up(directory: Directory, file: str, key: str) -> str | None:
    """Return one of the words put to a file, without opening it; None if there is none, or it cannot be told."""
    try:
        found = os.getxattr(
            f"/proc/self/fd/{directory.fd}/{file}", _PREFIX + key, follow_symlinks=False
        )
    except OSError as error:
        if error.errno in _NOT_TOLD:
            return None
        raise
    return found.decode(errors="replace")


def drop_all_but(fd: int, kept: Set[str]) -> bool:
    """Take off the words put to a file, but those of these keys; return whether there were any."""
    dropped = keys(fd) - kept
    for key in dropped:
        put(fd, key, None)
    return bool(dropped)
