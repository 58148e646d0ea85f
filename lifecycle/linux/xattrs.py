"""Tags on images: extended attributes that go with the file and are not copied to its clones.

Those on a working image are the book-keeping of hosts: who started it, how its VM ended. A start that uses a left-over
image again takes them off. Two more say what the image is (`OF_THE_IMAGE`), in case a copy brought together what does
not belong together, or a record was lost. Where the file system has no extended attributes, all goes on without.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from typing import NamedTuple

from lifecycle.linux.files import Directory

log = logging.getLogger("lifecycle.tags")

MADE_FROM = "made_from"
"""Which image a working image was made from: `NUMBER SECOND`, as its seal says."""
NUMBER = "number"
"""Which number an image was sealed with, and when it was made: `NUMBER SECOND MADE`."""
OF_THE_IMAGE = frozenset({MADE_FROM, NUMBER})
"""What stays with the image as long as it is there."""

_PREFIX = "user.lifecycle."
_NOT_TOLD = frozenset(
    {errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP}
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.E2BIG})


class SealTold(NamedTuple):
    """What a tag says of a seal.

    Attributes:
        number: the number.
        second: the second since 1970.
        made: the second in which the image was made, which can be somewhat before; None if it is not told.
    """

    number: int
    second: int
    made: int | None = None


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


def look_up_seal(directory: Directory, file: str, key: str) -> SealTold | None:
    """Return what `MADE_FROM` or `NUMBER` says of an image; None if it says nothing."""
    match = re.fullmatch(
        "([0-9]{1,9}) ([0-9]{1,19})( [0-9]{1,19})?", look_up(directory, file, key) or ""
    )
    if match is None:
        return None
    return SealTold(int(match[1]), int(match[2]), None if match[3] is None else int(match[3]))


def put_seal(fd: int, key: str, told: SealTold) -> None:
    """Put `MADE_FROM` or `NUMBER` to an image, unless the disk has no room for it: all goes on without."""
    try:
        put(fd, key, " ".join(str(one) for one in told if one is not None))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.warning("no room for an extended attribute: %r is not noted", key)


def drop_all_of_hosts(fd: int) -> None:
    """Take off all but what the image is: it was of an earlier run of its VM."""
    for key in read(fd).keys() - OF_THE_IMAGE:
        put(fd, key, None)
