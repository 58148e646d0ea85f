"""On the way back from damage, keeps beside the volume what is of no use to it, so that nothing is lost."""

from __future__ import annotations

import os
import stat

from lifecycle import times
from lifecycle.linux import failed_flush
from lifecycle.linux.status import status_of
from lifecycle.model import CRASH, Change, Note
from lifecycle.reflink import recording, withdrawal, working
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.names import Kind
from lifecycle.states import Event


def rescue(opened: VolumeImages, change: Change) -> tuple[int, str] | None:
    """Keep all that there is of a damaged volume.

    A working image is kept as a revision; what cannot be used, be it a record, something in an image's place, or
    changes beside the image, under a name of its own.

    Returns:
        the number and file of that revision; None if there is none.

    Raises:
        ForeignFile: the working image is the only one, and has another name elsewhere. Nothing was changed.
    """
    if opened.evidence.moved:
        withdrawal.require_own_name_only(opened)  # put aside, it would leave no volume
    found = {
        Kind.RECORD: opened.evidence.record,
        Kind.CURRENT: opened.evidence.current,
        Kind.WORKING: opened.evidence.working,
    }
    image = opened.evidence.working
    is_shared = image is not None and image.st_nlink > 1  # to seal it would change another file
    for kind, usable in found.items():
        if usable is None or (kind == Kind.WORKING and is_shared):
            _put_aside(opened, opened.evidence.file(kind), change)
    if opened.evidence.changed_beside:
        _put_aside(opened, opened.name + Kind.COW, change)
        opened.directory.remove(opened.name + Kind.COW)
    for file in opened.evidence.rivals:
        _put_aside(opened, file, change)
        opened.directory.remove(file)
    return None if image is None or is_shared else _rescue_working(opened, change)


def _rescue_working(opened: VolumeImages, change: Change) -> tuple[int, str]:
    """Keep what the disk holds of the working image as a revision; return its number and file."""
    is_taken = change.event == Event.IMPORT and change.revision == opened.record.next
    number = opened.record.next + is_taken
    record = opened.record.with_note(number, Note(cause=CRASH))
    if opened.evidence.record is not None:
        recording.write(opened, record)
    opened.record = record._replace(next=number + 1)
    file = opened.free_revision_file(number, change.at)
    with working.finishing(opened, change._replace(revision=number)) as (
        withdrawn,
        images,
        _second,
    ):
        is_in_doubt = failed_flush.settle(opened.directory, withdrawn)
        for image in images:
            image.sync()
        opened.directory.rename(withdrawn, file)
        if is_in_doubt:
            for image in images:
                # after a crash before that, going back to it does so
                failed_flush.clear(image.fd)
    return number, file


def _put_aside(opened: VolumeImages, file: str, change: Change) -> None:
    """Keep what bears a name of the volume and is of no use to it, under a name that is no volume's."""
    status = status_of(opened.directory, file)
    if status is None:
        return
    aside, number = f"{file}.damaged@{times.format_time(change.at)}", 1
    is_file = isinstance(status, os.stat_result) and stat.S_ISREG(status.st_mode)
    while (taken := opened.directory.stat(aside)) is not None:
        if isinstance(status, os.stat_result) and os.path.samestat(taken, status):
            return  # a crash came after it was kept
        number += 1
        aside = f"{file}.damaged@{times.format_time(change.at)}.{number}"
    if file == opened.working or not is_file:
        opened.directory.rename(file, aside)
        return
    # it keeps its own name until the new one replaces it: a crash before that has changed nothing
    opened.directory.link(file, aside)
