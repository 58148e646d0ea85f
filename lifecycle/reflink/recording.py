"""Writes a volume's record, and the seals of its images.

The record is written at each event that seals an image, so its own time is not before any image's, and what comes next
gets a later second.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime

from lifecycle import times
from lifecycle.linux import files
from lifecycle.linux.directories import Draft
from lifecycle.model import Change
from lifecycle.reflink import record as records
from lifecycle.reflink import seals, tags
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.names import Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.scan import bears_seal
from lifecycle.reflink.seals import Origin
from lifecycle.reflink.tags import SealTold


def write(opened: VolumeImages, record: Record) -> None:
    """Replace the record; durable when the directory is synced."""
    with ready(opened, record) as draft:
        files.sync_content(draft.fd)


@contextlib.contextmanager
def ready(opened: VolumeImages, record: Record) -> Iterator[Draft]:
    """Have the new record ready before the block, which makes it durable, and in its place after it.

    The block may hold a commit point. What comes after that must not fail for want of room, or what has happened
    would be reported as failed; a rename wants none.
    """
    file = opened.name + Kind.RECORD
    with opened.directory.staged(file, records.write(record, opened.volume_id)) as draft:
        files.set_time(draft.fd, seals.seal(0, _next_second(opened, times.now())))
        yield draft
        draft.replace(file)
    opened.record = record


def write_down(opened: VolumeImages) -> None:
    """Write what was found and the record does not say. Durable when this returns.

    A current image that gets another number is sealed with it first: so after a crash it still tells its number.

    Raises:
        FlushError: what others wrote to it is not on the disk, and the volume is damaged from now on.
    """
    image, before = opened.evidence.current, opened.evidence.record
    number, at = opened.record.current, opened.record.at
    is_copied = before is not None and number != before.current and bears_seal(image, before)
    if is_copied and image is not None and image.st_nlink == 1 and number and at:
        fd = opened.open_current()
        try:
            second = seal(opened, fd, number, at)
            opened.image(fd, opened.current).sync()  # others wrote it
        finally:
            os.close(fd)
        opened.record = opened.record._replace(stamp=second)
    if opened.record != before:  # a full disk may have no room for it
        write(opened, opened.record)
    opened.directory.sync()


def seal(opened: VolumeImages, fd: int, number: int, at: datetime) -> int:
    """Seal an image that was made then with its number; return the second it is sealed with."""
    second = _next_second(opened, at)
    files.set_time(fd, seals.seal(number, second))
    told = SealTold(number, second, max(seals.second_of(at), 0))
    tags.put(fd, tags.NUMBER, told)
    return second


def seal_unwritten(fd: int, origin: Origin) -> None:
    """Seal a working image that has all its content and its size: it is unwritten as long as the time stands."""
    status = os.fstat(fd)
    files.set_time(fd, seals.unwritten(status.st_ino, status.st_size, origin))
    tags.put(fd, tags.MADE_FROM, SealTold(origin.number, origin.second))


def _next_second(opened: VolumeImages, at: datetime) -> int:
    """Return the second of a moment, or the next one that no image and no record of this volume was given yet.

    The record is written at each event that seals an image, so its time is not before any image's.
    """
    opened.last_second = seals.bearable(max(seals.second_of(at), opened.last_second + 1))
    return opened.last_second


def revision_of(change: Change) -> int:
    """Return the change's number, where there must be one."""
    if change.revision is None:
        raise ValueError(f"{change.event} needs a number")
    return change.revision
