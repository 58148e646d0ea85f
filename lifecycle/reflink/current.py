"""Makes an image current: the commit point of commit, resize, import and revert.

How this works. In `promote` lies the one step that counts:

    write the new record beside the old one               (what wants room comes first)
    keep what is current under its revision's name        (link: nothing is lost yet, nothing has changed)
    rename the new, durable image over the current one    (the commit point)
    rename the new record over the old one                (explains what the images already say)
    sync the directory                                    (now it is durable)

A revert goes the same way, with a link to a revision in place of the new image.
"""

from __future__ import annotations

from datetime import datetime

from lifecycle.errors import Refused, cut_short
from lifecycle.linux import copying, durability, failed_flush, files
from lifecycle.linux.directories import Draft
from lifecycle.linux.durability import Steps, Unflushed
from lifecycle.model import Change, Note
from lifecycle.reflink import images, precached, recording, seals
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.names import Kind
from lifecycle.reflink.scan import bears_seal
from lifecycle.sizes import SECTOR
from lifecycle.states import State

_BETWEEN_LISTINGS = 16
"""Numbers until the notes on revisions that are gone are dropped: to know which, one must list them all."""


def promote(
    opened: VolumeImages, image: str, change: Change, second: int, unflushed: Unflushed = ()
) -> Steps:
    """Make an image current, as number `change.revision`; what was current becomes a revision.

    Args:
        opened: the volume.
        image: the image's file.
        change: what makes it current.
        second: the second it is sealed with.
        unflushed: what must be durable first.
    """
    number, note = recording.revision_of(change), Note(cause=change.cause)
    if opened.record.note(number) != note:
        # written before, so that it is known even if a crash comes between the rename and the record
        recording.write(opened, opened.record.with_note(number, note))
    record = opened.record._replace(
        current=number,
        at=change.at,
        next=max(opened.record.next, number + 1),
        rest=State.COMMITTED,
        stamp=second,
    )
    # checkpoints take numbers too, so a commit may skip any
    before = opened.record.current or 0
    if record.notes and number // _BETWEEN_LISTINGS != before // _BETWEEN_LISTINGS:
        kept = {*opened.evidence.revisions, opened.view.current}
        record = record.with_notes_on(kept, above=number)
    with recording.ready(opened, record) as draft:
        yield [*unflushed, draft.fd]
        precached.drop_ready(opened)
        _keep_current(opened, change)
        opened.directory.rename(image, opened.current)
    yield [opened.directory]


def promote_draft(opened: VolumeImages, draft: Draft, change: Change) -> None:
    """Make a new image current, by way of a name of its own."""
    image = opened.name + Kind.IMPORT
    opened.directory.remove(image)
    second = recording.seal(opened, draft.fd, recording.revision_of(change), change.at)
    draft.publish(image)
    _rescue(opened, change)
    durability.take(promote(opened, image, change, second))


def go_back(opened: VolumeImages, change: Change) -> None:
    """Make revision `change.revision` (0: the empty image) current; what was current becomes a revision."""
    rescued = _rescue(opened, change)
    number, file = recording.revision_of(change), None
    at, stamp = opened.record.at, opened.record.stamp
    if rescued is not None and rescued[0] == number:
        file, at = rescued[1], change.at
    elif number != opened.view.current:
        file, at = _file_to_go_back_to(opened, number, change)
    if file is not None:
        stamp = _stamp_of(opened, file, number)
    failed_flush.believe(opened.directory, file or opened.current)
    record = opened.record._replace(current=number, at=at, rest=State.REVERTED, stamp=stamp)
    with recording.ready(opened, record) as draft:
        files.sync_content(draft.fd)
        if file is not None:
            precached.drop_ready(opened)
            _keep_current(opened, change)
            opened.directory.replace_by_link(file, opened.current)
    opened.directory.sync()


def resize_empty(opened: VolumeImages, size: int, change: Change) -> None:
    """Give a volume that holds nothing yet, or nothing of its own, another size (bytes).

    Raises:
        Refused: its image holds something all the same, which would be gone.
    """
    stamp = opened.record.stamp
    if opened.evidence.current is not None:
        if not copying.is_blank(opened.directory, opened.current):
            file = f"{opened.directory.path}/{opened.current}"
            reason = (
                f"its image should be empty, but someone wrote to {file}; `lifecycle import {opened.volume_id} {file}`"
                " keeps that, and then it can be resized"
            )
            raise Refused(opened.volume_id, change.source, change.event, reason)
        precached.drop(opened)
        with opened.draft() as draft:
            images.truncate(draft.fd, size)
            stamp = recording.seal(opened, draft.fd, 0, opened.record.at or change.at)
            draft.replace(opened.current)
    config = opened.record.config._replace(size=size)
    recording.write(opened, opened.record._replace(config=config, rest=change.dest, stamp=stamp))
    opened.directory.sync()


def _rescue(opened: VolumeImages, change: Change) -> tuple[int, str] | None:
    """On the way back from damage, keep what there is; return the number and file of a revision made for that."""
    if change.source is not State.DAMAGED:
        return None
    from lifecycle.reflink import rescue  # noqa: PLC0415 - seldom needed

    return rescue.rescue(opened, change)


def _keep_current(opened: VolumeImages, change: Change) -> None:
    """Give what is current its name as a revision, unless it has it, from a revert."""
    number = opened.view.current  # None where what bears the name is missing or was cut short
    if number is None or opened.evidence.current is None:
        return
    known = opened.evidence.current_on_file()
    # the file of another number is no reason if the image bears its own seal: some tools make equal files one
    if known and (known.number == number or not bears_seal(opened.evidence.current, opened.record)):
        return
    if opened.evidence.record is None and opened.view.state is not State.DAMAGED:
        recording.write(
            opened, opened.record
        )  # without one, the second name would look like a revert
    at = opened.record.at or change.at
    opened.directory.link(opened.current, opened.free_revision_file(number, at))


def _file_to_go_back_to(opened: VolumeImages, number: int, change: Change) -> tuple[str, datetime]:
    """Return a revision's file and when it was made; the empty image is made if there is none."""
    if number in opened.evidence.revisions or number != 0:
        file = opened.revision_file(number)
        status = opened.directory.stat(file)
        if status is None or status.st_size == 0:
            raise cut_short(opened.volume_id, number)
        return file, opened.evidence.revisions[number].at
    file = opened.free_revision_file(0, change.at)
    with opened.draft() as draft:
        images.truncate(draft.fd, _birth_size(opened))
        recording.seal(opened, draft.fd, 0, change.at)
        draft.publish(file)
    return file, change.at


def _stamp_of(opened: VolumeImages, file: str, number: int) -> int | None:
    """Return the second that a revision's file is sealed with; None if it does not bear its seal."""
    status = opened.directory.stat(file)
    if status is None or seals.number_in(status) != number:
        return None
    return seals.bearable(seals.second_in(status))


def _birth_size(opened: VolumeImages) -> int:
    """Return the bytes of the empty image that the volume was born as, as far as that is known."""
    if opened.record.config.size is not None:
        return opened.record.config.size
    return next((one.st_size for one in opened.images()), SECTOR)
