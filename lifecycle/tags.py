"""Words put to a working image, for the book-keeping of hosts: who started it, how its VM ended.

They are extended attributes of the file, so they go with it, cost no room, and a clone does not get them. Nothing that
is promised of an image depends on them.
"""

from __future__ import annotations

import errno
import logging
import os

log = logging.getLogger("lifecycle.tags")

_PREFIX = "user.lifecycle."


def read(fd: int) -> dict[str, str]:
    """Return the words that `put` put to a file; none where the file system has no extended attributes."""
    try:
        found = [name for name in os.listxattr(fd) if name.startswith(_PREFIX)]
        return {
            name[len(_PREFIX) :]: os.getxattr(fd, name).decode(errors="replace") for name in found
        }
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {}


def put(fd: int, key: str, value: str | None) -> None:
    """Put a word to a file, or with None take it off; the file's times stay, and a clone does not get it.

    Where the file system has no extended attributes, that is logged.
    """
    try:
        if value is None:
            os.removexattr(fd, _PREFIX + key)
        else:
            os.setxattr(fd, _PREFIX + key, value.encode())
    except OSError as error:
        if value is None and error.errno == errno.ENODATA:
            return
        if error.errno != errno.EOPNOTSUPP:
            raise
        log.warning("no extended attributes on this file system: %r is not noted", key)
