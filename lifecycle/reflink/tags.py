"""What an image says of itself in tags, in case a copy brought together what does not belong together.

Tags are extended attributes of the image's file (linux/xattrs.py). All others on a working image are the book-keeping
of hosts: who started it, how its VM ended. A start that uses a left-over image again takes those off.
"""

from __future__ import annotations

import errno
import logging
import re
from typing import NamedTuple

from lifecycle.linux import xattrs
from lifecycle.linux.directories import Directory

log = logging.getLogger("lifecycle.tags")

MADE_FROM = "made_from"
"""Which image a working image was made from: `NUMBER SECOND`, as its seal says."""
NUMBER = "number"
"""Which number an image was sealed with, and when it was made: `NUMBER SECOND MADE`."""
OF_THE_IMAGE = frozenset({MADE_FROM, NUMBER})
"""What stays with the image as long as it is there."""

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


def look_up(directory: Directory, file: str, key: str) -> SealTold | None:
    """Return what `MADE_FROM` or `NUMBER` says of an image; None if it says nothing."""
    match = re.fullmatch(
        "([0-9]{1,9}) ([0-9]{1,19})( [0-9]{1,19})?", xattrs.look_up(directory, file, key) or ""
    )
    if match is None:
        return None
    return SealTold(int(match[1]), int(match[2]), None if match[3] is None else int(match[3]))


def put(fd: int, key: str, told: SealTold) -> None:
    """Put `MADE_FROM` or `NUMBER` to an image, unless the disk has no room for it: all goes on without."""
    try:
        xattrs.put(fd, key, " ".join(str(one) for one in told if one is not None))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.warning("no room for an extended attribute: %r is not noted", key)


def drop_all_of_hosts(fd: int) -> bool:
    """Take off all but what the image says of itself, which was of an earlier run of its VM; return whether any was."""
    return xattrs.drop_all_but(fd, OF_THE_IMAGE)
