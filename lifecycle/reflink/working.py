"""The working image: made by a start, sealed when it is committed, thrown away, given another size."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lifecycle import ids
from lifecycle.config import VolumeConfig
from lifecycle.errors import InUse, NoSuchVolume
from lifecycle.linux import files, holders
from lifecycle.linux.directories import Draft
from lifecycle.linux.durability import Steps, Unflushed
from lifecycle.linux.failed_flush import Image
from lifecycle.model import Change
from lifecycle.reflink import cloning, images, precached, recording, seals, tags, withdrawal
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.names import Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.seals import Origin
from lifecycle.reflink.store import Store
from lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle.backend import Pool


log = logging.getLogger("lifecycle.backend")

_READ_ONLY = 0o400


def begin(store: Store, pool: Pool, opened: VolumeImages) -> Steps:
    """Make the working image, named but not durably so."""
    config = opened.record.config
    mode = files.FILE_MODE if config.rw else _READ_ONLY
    if config.source is None:
        made_from = opened.origin
        if made_from is None:
            raise NoSuchVolume(opened.volume_id, store.root)
        if precached.take_precache(opened, mode):
            return
        store.free_afterwards(opened.volume_id, opened.name + Kind.PRECACHE)
        precached.drop_precache(opened)
        origin, of_image = opened.open_current(), made_from
    else:
        origin, of_image = store.open_current(config.source)
        # the source may move on while this runs: its number is what is written down
        made_from = Origin(of_image.number)
        opened.record = opened.record._replace(begun=made_from.number)
    try:
        with _working_image(store, pool, opened, origin, of_image) as image:
            _grow(image.fd, config)
            recording.seal_unwritten(image.fd, made_from)
            files.set_mode(image.fd, mode)
            if opened.record == opened.evidence.record or config.source is None:
                yield [image.fd]
            else:
                with recording.ready(opened, opened.record) as record:
                    yield [image.fd, record.fd]
            image.give_name(opened.working)
    finally:
        os.close(origin)


def _working_image(
    store: Store, pool: Pool, opened: VolumeImages, origin: int, of_image: Origin
) -> Draft:
    """Return a clone of what is open at `origin`, or an image of the source's that waits to be taken."""
    source = opened.record.config.source
    if source is not None:
        vm, name = ids.split_id(source)
        with store.directory(vm) as there:
            size = os.fstat(origin).st_size
            claimed = precached.claim_ready(
                there, name, of_image, size, opened.directory, opened.working
            )
        if claimed is not None:
            return opened.directory.reopened(claimed)
    draft = opened.draft()
    try:
        cloning.clone(store, pool, origin, draft, source or opened.volume_id)
    except BaseException:
        draft.close()
        raise
    return draft


def _grow(fd: int, config: VolumeConfig) -> None:
    """Give a disposable's working image the size it is set up with, if its source is smaller."""
    wanted = config.size if config.source is not None else None
    if wanted is not None and wanted > os.fstat(fd).st_size:
        images.truncate(fd, wanted)


def hand_over(store: Store, opened: VolumeImages) -> None:
    """Give the working image to the user whom the hypervisor runs as, if one is set."""
    owner = opened.record.config.owner or store.config.owner
    if not owner:
        return
    from lifecycle.linux import ownership  # noqa: PLC0415 - only where one is set

    fd = opened.open_working()
    try:
        ownership.hand_over(fd, owner, store.root, opened.vm)
    finally:
        os.close(fd)


def take_current(opened: VolumeImages, change: Change) -> bool:
    """Let the current image itself be the working one; durable when the directory is synced.

    Returns:
        False, and nothing is changed, if it has another name too: then it is a revision, which stays.

    Raises:
        InUse: someone has it open, who would see what the VM writes.
    """
    current = opened.directory.stat(opened.current)  # now, that what a crash left is cleared
    if current is None or current.st_nlink > 1:
        return False
    fd = opened.open_current()
    try:
        _make_sealed(opened, fd, change)
        tags.drop_all_of_hosts(fd)
    finally:
        os.close(fd)
    file = opened.working
    opened.directory.rename(opened.current, file)
    try:
        # asked only now, when no one can open it by its old name any more
        found = holders.users(lambda: holders.ask_for(lambda: opened.directory.open_file(file)))
        found = withdrawal.count(found, Kind.WORKING, opened.unknown_use)
        if found:
            raise InUse(opened.volume_id, change.source, change.event, found)
    except BaseException:
        give_back(opened)
        raise
    return True


def give_back(opened: VolumeImages) -> None:
    """Let the working image, which no one wrote to, be the current one again, as it was before the start."""
    opened.directory.rename(opened.working, opened.current)


def _make_sealed(opened: VolumeImages, fd: int, change: Change) -> None:
    """Seal an image that others made, so that it can be told whether it is written to."""
    at = opened.record.at or change.at
    if opened.evidence.record is None or opened.record.at is None:
        recording.write(opened, opened.record._replace(at=at))
    if opened.record.current is not None and opened.record.current < opened.record.sealed:
        files.set_time(fd, seals.seal(opened.record.current, opened.record.second))
        opened.image(fd, opened.current).sync()


@contextlib.contextmanager
def dropping_tags(opened: VolumeImages) -> Iterator[Unflushed]:
    """Take the tags off the working image: they were of an earlier run of its VM.

    Yields what the block is to make durable. A tag that a power cut brought back would end the run that begins now as
    the earlier one was to end, and that may be to throw away what it wrote.

    Raises:
        ForeignFile: it has another name elsewhere, through which the VM's writes would be seen.
    """
    fd = opened.open_working()
    try:
        # asked now, when what a crash left of its making has been cleared away
        if os.fstat(fd).st_nlink > 1:
            withdrawal.require_own_name_only(opened)
        yield [_unflushed(opened, fd)] if tags.drop_all_of_hosts(fd) else []
    finally:
        os.close(fd)


def sync(opened: VolumeImages, fd: int) -> None:
    """Make the working image durable, with all that was written to it and what it says of itself."""
    unflushed = _unflushed(opened, fd)
    files.sync_content(unflushed) if isinstance(unflushed, int) else unflushed.sync()


def _unflushed(opened: VolumeImages, fd: int) -> int | Image:
    """Return the working image as what is to be flushed; what is thrown away is never in doubt."""
    return opened.image(fd, opened.working) if opened.view.saves else fd


def resize(opened: VolumeImages, size: int) -> None:
    """Give the working image another size (bytes), durably, and tell the loop devices made of it."""
    withdrawal.require_own_name_only(opened)
    fd = opened.directory.open_file(opened.working, writable=True)
    try:
        images.truncate(fd, size)
        sync(opened, fd)
        for device in holders.loop_devices_of(holders.identity(os.fstat(fd))):
            holders.tell_size_to(device)
    finally:
        os.close(fd)


def is_written_meanwhile(opened: VolumeImages, file: str) -> bool:
    """Tell whether the working image, by the name it bears now, is no longer as it was found."""
    found, now = opened.evidence.working, opened.directory.stat(file)
    return found is None or now is None or found.st_mtime_ns != now.st_mtime_ns


@contextlib.contextmanager
def finishing(opened: VolumeImages, change: Change) -> Iterator[tuple[str, Sequence[Image], int]]:
    """Withdraw and seal the working image; the block makes it durable, with all that was written to it.

    Yields the name it bears now, what is to be made durable, and the second that the image is sealed with.

    Raises:
        InUse: someone has it open.
        ForeignFile: it has another name elsewhere, which would be changed too.
    """
    withdrawal.require_own_name_only(opened)
    with withdrawal.withdrawn(opened, change) as file:
        fd = opened.directory.open_file(file)
        try:
            second = recording.seal(opened, fd, recording.revision_of(change), change.at)
            yield file, [opened.image(fd, opened.working)], second
        finally:
            os.close(fd)


def throw_away(opened: VolumeImages, change: Change, file: str) -> Steps:
    """Remove the working image, by the name it bears now; the volume then rests without it."""
    record = opened.record._replace(rest=State.REVERTED)
    try:
        if record != opened.evidence.record:  # a disposable's stays the same
            with recording.ready(opened, record) as draft:
                yield [draft.fd]
    except OSError as error:
        if error.errno not in files.NO_ROOM:
            raise
        _throw_away_on_full_disk(opened, change, file, record)
    else:
        withdrawal.drop(opened, change, file)
    yield [opened.directory]


def _throw_away_on_full_disk(
    opened: VolumeImages, change: Change, file: str, record: Record
) -> None:
    """Remove the working image before the record is written: it is this that makes room for it."""
    withdrawal.drop(opened, change, file)
    opened.directory.sync()
    try:
        recording.write(opened, record)
    except OSError:
        log.warning("%s: reverted, though no room was left to note it", opened.volume_id)
