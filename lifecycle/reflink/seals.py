"""Seals: the number of an image, kept in the image's modification time, which any write breaks. Pure.

How this works. Any write, discard or resize makes the kernel set a real time. So a time that was set on purpose says,
as long as it stands, that the image was not changed since; and what the time is says which image it is:

- **A sealed image** (all but the working one) bears the second in which it was made and, in the nanoseconds, its
  number. No two images of a volume are sealed with the same second: the later one gets the next second that is free.
  For there are tools that take two files for the same if their sizes and whole seconds agree.
- **An unwritten working image** bears a time that follows from what it was made from *and from the file itself* (its
  inode and its size). So a time that another tool brought along with other content is not taken for it. Its second
  follows from that of the image it was made from, and lies where no clock stands.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import NamedTuple

SECOND = 10**9
"""Nanoseconds."""
LAST_SECOND = 2**63 // SECOND - 1
"""The last second that a file's time can be, on file systems that count nanoseconds: in the year 2262."""
_LATEST = 7_258_118_400
"""The year 2200. So the seconds that follow, one for each image, can be borne too."""
_ELSEWHERE = 1 << 30
"""Flipping this bit of a second of these decades leads to one before 2004: no image is made or written then."""
_ALL_BITS = (1 << 64) - 1


class Origin(NamedTuple):
    """The image that a working image is made from.

    Attributes:
        number: its number.
        second: the second it was sealed with, since 1970; 0 if not known.
        inode: its inode; 0 for a disposable's, whose origin may be gone while it runs.
        time: its modification time in nanoseconds since 1970, which no longer is its seal if it was written over; 0 as
            `inode`.
    """

    number: int
    second: int = 0
    inode: int = 0
    time: int = 0


def seal(number: int, second: int) -> int:
    """Return the modification time (nanoseconds since 1970) that an image is sealed with."""
    return second * SECOND + number


def second_of(at: datetime) -> int:
    """Return the second of a moment, since 1970; of all that a wrong clock puts later than 2200, that year's first."""
    return min(int(at.timestamp()), _LATEST)


def bearable(second: int) -> int:
    """Return the second, or the one nearest to it that a seal can bear: files can have times of any age."""
    return min(max(second, 0), LAST_SECOND)


def number_in(status: os.stat_result) -> int:
    """Return the number that an image is sealed with, if it is sealed: any other time holds some number too."""
    return status.st_mtime_ns % SECOND


def second_in(status: os.stat_result) -> int:
    """Return the second that an image is sealed with, if it is sealed."""
    return status.st_mtime_ns // SECOND


def is_sealed(status: os.stat_result, number: int, at: datetime) -> bool:
    """Tell whether an image bears the seal of this number; it was made then, and sealed then or somewhat later."""
    return number_in(status) == number and second_in(status) >= second_of(at)


def lost_nanoseconds(status: os.stat_result) -> bool:
    """Tell whether a file's time is of a whole second, as tools and file systems leave it that keep no more."""
    return status.st_mtime_ns % SECOND == 0


def unwritten(inode: int, size: int, origin: Origin) -> int:
    """Return the modification time of the working image of this inode and size (bytes) until someone writes to it."""
    mark = _mixed(inode, size, origin.number, origin.inode, origin.time) % SECOND
    return (origin.second ^ _ELSEWHERE) * SECOND + mark


def is_unwritten(status: os.stat_result, origin: Origin) -> bool:
    """Tell whether a working image is what it was made as: this file, of this size and origin, never written to."""
    return status.st_mtime_ns == unwritten(status.st_ino, status.st_size, origin)


def _mixed(*numbers: int) -> int:
    """Return 64 bits in which each bit of the numbers has a part (as in splitmix64: multiply, shift, exclusive or)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed ^ number) * 0x9E3779B97F4A7C15 & _ALL_BITS
        mixed ^= mixed >> 29
        mixed = mixed * 0xBF58476D1CE4E5B9 & _ALL_BITS
        mixed ^= mixed >> 32
    return mixed
