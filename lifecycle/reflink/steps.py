"""The steps on files that events are made of, with the commit point of commit, resize and import.

How this works. A `VolumeFiles` is opened for one event, with what was found of the volume and what that means
(reflink/scan.py). Its methods are the steps; `promote` is the one that matters, for in it lies the commit point of
commit, resize and import:

    write the new record beside the old one               (what wants room comes first)
    keep what is current under its revision's name        (link: nothing is lost yet, nothing has changed)
    rename the new, durable image over the current one    (the commit point)
    rename the new record over the old one                (explains what the images already say)
    sync the directory                                    (now it is durable)
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime

from lifecycle import times
from lifecycle.errors import InUse, InvalidSize, cut_short
from lifecycle.linux import durability, failed_flush, files, holders
from lifecycle.linux.directories import Draft
from lifecycle.linux.durability import Steps, Unflushed
from lifecycle.linux.failed_flush import Image
from lifecycle.linux.status import status_of
from lifecycle.model import CRASH, Change, Note
from lifecycle.reflink import names, precached, seals, tags, withdrawal
from lifecycle.reflink import record as records
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.interpret import leftover_files
from lifecycle.reflink.names import Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.scan import bears_seal
from lifecycle.reflink.seals import Origin
from lifecycle.reflink.tags import SealTold
from lifecycle.sizes import SECTOR
from lifecycle.states import Event, State

log = logging.getLogger("lifecycle.backend")

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_LARGE = frozenset({errno.EFBIG, errno.EINVAL})


_BETWEEN_LISTINGS = 16
"""Numbers until the notes on revisions that are gone are dropped: to know which, one must list them all."""


class VolumeFiles(VolumeImages):
    """One volume's files, to be changed."""

    __slots__ = ()

    # ------------------------------------------------------------ steps

    def draft(self) -> Draft:
        """Return a new image, without a name yet."""
        return self.directory.draft(self.current)

    def _image(self, fd: int, file: str) -> Image:
        """Return what is open of this file as an image that others wrote to."""
        return Image(fd, f"{self.directory.path}/{file}")

    def write(self, record: Record) -> None:
        """Replace the record; durable when the directory is synced."""
        with self.ready(record) as draft:
            files.sync_content(draft.fd)

    @contextlib.contextmanager
    def ready(self, record: Record) -> Iterator[Draft]:
        """Have the new record ready before the block, which makes it durable, and in its place after it.

        The block may hold a commit point. What comes after that must not fail for want of room, or what has happened
        would be reported as failed; a rename wants none.
        """
        file = self.name + Kind.RECORD
        with self.directory.staged(file, records.write(record, self.volume_id)) as draft:
            files.set_time(draft.fd, seals.seal(0, self._next_second(times.now())))
            yield draft
            draft.replace(file)
        self.record = record

    def seal(self, fd: int, number: int, at: datetime) -> int:
        """Seal an image that was made then with its number; return the second it is sealed with."""
        second = self._next_second(at)
        files.set_time(fd, seals.seal(number, second))
        told = SealTold(number, second, max(seals.second_of(at), 0))
        tags.put(fd, tags.NUMBER, told)
        return second

    def _next_second(self, at: datetime) -> int:
        """Return the second of a moment, or the next one that no image and no record of this volume was given yet.

        The record is written at each event that seals an image, so its time is not before any image's.
        """
        self.last_second = seals.bearable(max(seals.second_of(at), self.last_second + 1))
        return self.last_second

    def write_down(self) -> None:
        """Write what was found and the record does not say. Durable when this returns.

        A current image that gets another number is sealed with it first: so after a crash it still tells its number.
        """
        image, before = self.evidence.current, self.evidence.record
        number, at = self.record.current, self.record.at
        is_copied = before is not None and number != before.current and bears_seal(image, before)
        if is_copied and image is not None and image.st_nlink == 1 and number and at:
            fd = self.open_current()
            try:
                second = self.seal(fd, number, at)
                files.sync_content(fd)
            finally:
                os.close(fd)
            self.record = self.record._replace(stamp=second)
        if self.record != before:  # a full disk may have no room for it
            self.write(self.record)
        self.directory.sync()

    def clear(self) -> None:
        """Remove what a crash left behind and no one needs."""
        for file in leftover_files(self.evidence):
            self.directory.remove(file)

    def promote(self, image: str, change: Change, second: int, unflushed: Unflushed = ()) -> Steps:
        """Make an image current, as number `change.revision`; what was current becomes a revision.

        Args:
            image: the image's file.
            change: what makes it current.
            second: the second it is sealed with.
            unflushed: what must be durable first.
        """
        number, note = revision_of(change), Note(cause=change.cause)
        if self.record.note(number) != note:
            # written before, so that it is known even if a crash comes between the rename and the record
            self.write(self.record.with_note(number, note))
        record = self.record._replace(
            current=number,
            at=change.at,
            next=max(self.record.next, number + 1),
            rest=State.COMMITTED,
            stamp=second,
        )
        # checkpoints take numbers too, so a commit may skip any
        before = self.record.current or 0
        if record.notes and number // _BETWEEN_LISTINGS != before // _BETWEEN_LISTINGS:
            kept = {*self.evidence.revisions, self.view.current}
            record = record.with_notes_on(kept, above=number)
        with self.ready(record) as draft:
            yield [*unflushed, draft.fd]
            precached.drop_ready(self)
            self._keep_current(change)
            self.directory.rename(image, self.current)
        yield [self.directory]

    def promote_draft(self, draft: Draft, change: Change) -> None:
        """Make a new image current, by way of a name of its own."""
        image = self.name + Kind.IMPORT
        self.directory.remove(image)
        second = self.seal(draft.fd, revision_of(change), change.at)
        draft.publish(image)
        self.rescue(change)
        durability.take(self.promote(image, change, second))

    def go_back(self, change: Change) -> None:
        """Make revision `change.revision` (0: the empty image) current; what was current becomes a revision."""
        rescued = self.rescue(change)
        number, file = revision_of(change), None
        at, stamp = self.record.at, self.record.stamp
        if rescued is not None and rescued[0] == number:
            file, at = rescued[1], change.at
        elif number != self.view.current:
            file, at = self._file_to_go_back_to(number, change)
        if file is not None:
            stamp = self._stamp_of(file, number)
        failed_flush.believe(self.directory, file or self.current)
        record = self.record._replace(current=number, at=at, rest=State.REVERTED, stamp=stamp)
        with self.ready(record) as draft:
            files.sync_content(draft.fd)
            if file is not None:
                precached.drop_ready(self)
                self._keep_current(change)
                self.directory.replace_by_link(file, self.current)
        self.directory.sync()

    def _stamp_of(self, file: str, number: int) -> int | None:
        """Return the second that a revision's file is sealed with; None if it does not bear its seal."""
        status = self.directory.stat(file)
        if status is None or seals.number_in(status) != number:
            return None
        return seals.bearable(seals.second_in(status))

    def take_current(self, change: Change) -> bool:
        """Let the current image itself be the working one; durable when the directory is synced.

        Returns:
            False, and nothing is changed, if it has another name too: then it is a revision, which stays.

        Raises:
            InUse: someone has it open, who would see what the VM writes.
        """
        current = self.directory.stat(self.current)  # now, that what a crash left is cleared
        if current is None or current.st_nlink > 1:
            return False
        fd = self.open_current()
        try:
            self._make_sealed(fd, change)
            tags.drop_all_of_hosts(fd)
        finally:
            os.close(fd)
        working = self.working
        self.directory.rename(self.current, working)
        try:
            # asked only now, when no one can open it by its old name any more
            found = holders.users(
                lambda: holders.ask_for(lambda: self.directory.open_file(working))
            )
            found = withdrawal.count(found, Kind.WORKING, self.unknown_use)
            if found:
                raise InUse(self.volume_id, change.source, change.event, found)
        except BaseException:
            self.give_back()
            raise
        return True

    def is_written_meanwhile(self, working: str) -> bool:
        """Tell whether the working image, by the name it bears now, is no longer as it was found."""
        found, now = self.evidence.working, self.directory.stat(working)
        return found is None or now is None or found.st_mtime_ns != now.st_mtime_ns

    def give_back(self) -> None:
        """Let the working image, which no one wrote to, be the current one again, as it was before the start."""
        self.directory.rename(self.working, self.current)

    def _make_sealed(self, fd: int, change: Change) -> None:
        """Seal an image that others made, so that it can be told whether it is written to."""
        at = self.record.at or change.at
        if self.evidence.record is None or self.record.at is None:
            self.write(self.record._replace(at=at))
        if self.record.current is not None and self.record.current < self.record.sealed:
            files.set_time(fd, seals.seal(self.record.current, self.record.second))
            self._image(fd, self.current).sync()

    def throw_away(self, working: str) -> Steps:
        """Remove the working image, by the name it bears now; the volume then rests without it."""
        record = self.record._replace(rest=State.REVERTED)
        try:
            with self.ready(record) as draft:
                yield [draft.fd]
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._throw_away_on_full_disk(working, record)
        self.directory.remove(working)
        yield [self.directory]

    def _throw_away_on_full_disk(self, working: str, record: Record) -> None:
        """Remove the working image before the record is written: it is this that makes room for it."""
        self.directory.remove(working)
        self.directory.sync()
        try:
            self.write(record)
        except OSError:
            log.warning("%s: reverted, though no room was left to note it", self.volume_id)

    def _file_to_go_back_to(self, number: int, change: Change) -> tuple[str, datetime]:
        """Return a revision's file and when it was made; the empty image is made if there is none."""
        if number in self.evidence.revisions or number != 0:
            file = self.revision_file(number)
            status = self.directory.stat(file)
            if status is None or status.st_size == 0:
                raise cut_short(self.volume_id, number)
            return file, self.evidence.revisions[number].at
        file = self.free_revision_file(0, change.at)
        with self.draft() as draft:
            truncate(draft.fd, self._birth_size())
            self.seal(draft.fd, 0, change.at)
            draft.publish(file)
        return file, change.at

    def _keep_current(self, change: Change) -> None:
        """Give what is current its name as a revision, unless it has it, from a revert."""
        number = self.view.current  # None where what bears the name is missing or was cut short
        if number is None or self.evidence.current is None:
            return
        known = self.evidence.current_on_file()
        # the file of another number is no reason if the image bears its own seal: some tools make equal files one
        if known and (known.number == number or not bears_seal(self.evidence.current, self.record)):
            return
        if self.evidence.record is None and self.view.state is not State.DAMAGED:
            self.write(self.record)  # without one, the second name would look like a revert
        at = self.record.at or change.at
        self.directory.link(self.current, self.free_revision_file(number, at))

    def free_revision_file(self, number: int, at: datetime) -> str:
        """Return a name for the revision's file that nothing bears, whatever others have put there.

        If need be it has an earlier time, since of two files of one number the later counts: so the number stays that
        of what was there.
        """
        while self.directory.stat(file := names.revision_file(self.name, number, at)) is not None:
            at = times.bearable(int(at.timestamp()) - 1)
            if at == times.EARLIEST:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), file)
        return file

    def _birth_size(self) -> int:
        """Return the bytes of the empty image that the volume was born as, as far as that is known."""
        if self.record.config.size is not None:
            return self.record.config.size
        return next((one.st_size for one in self.images()), SECTOR)

    def rescue(self, change: Change) -> tuple[int, str] | None:
        """On the way back from damage, lose nothing.

        A working image is kept as a revision; what cannot be used, be it a record, something in an image's place, or
        changes beside the image, under a name of its own.

        Returns:
            the number and file of that revision; None if there is none.
        """
        if change.source is not State.DAMAGED:
            return None
        found = {
            Kind.RECORD: self.evidence.record,
            Kind.CURRENT: self.evidence.current,
            Kind.WORKING: self.evidence.working,
        }
        image = self.evidence.working
        is_shared = image is not None and image.st_nlink > 1  # to seal it would change another file
        for kind, usable in found.items():
            if usable is None or (kind == Kind.WORKING and is_shared):
                self._put_aside(self.name + kind, change)
        if self.evidence.changed_beside:
            self._put_aside(self.name + Kind.COW, change)
            self.directory.remove(self.name + Kind.COW)
        for file in self.evidence.rivals:
            self._put_aside(file, change)
            self.directory.remove(file)
        return None if image is None or is_shared else self._rescue_working(change)

    def _rescue_working(self, change: Change) -> tuple[int, str]:
        """Keep what the disk holds of the working image as a revision; return its number and file."""
        is_taken = change.event == Event.IMPORT and change.revision == self.record.next
        number = self.record.next + is_taken
        record = self.record.with_note(number, Note(cause=CRASH))
        if self.evidence.record is not None:
            self.write(record)
        self.record = record._replace(next=number + 1)
        file = self.free_revision_file(number, change.at)
        with self.finishing(change._replace(revision=number)) as (working, images, _second):
            is_in_doubt = failed_flush.settle(self.directory, working)
            for image in images:
                image.sync()
            self.directory.rename(working, file)
            if is_in_doubt:
                for image in images:
                    failed_flush.clear(
                        image.fd
                    )  # after a crash before that, going back to it does so
        return number, file

    def _put_aside(self, file: str, change: Change) -> None:
        """Keep what bears a name of the volume and is of no use to it, under a name that is no volume's."""
        status = status_of(self.directory, file)
        if status is None:
            return
        aside, number = f"{file}.damaged@{times.format_time(change.at)}", 1
        is_file = isinstance(status, os.stat_result) and stat.S_ISREG(status.st_mode)
        while (taken := self.directory.stat(aside)) is not None:
            if isinstance(status, os.stat_result) and os.path.samestat(taken, status):
                return  # a crash came after it was kept
            number += 1
            aside = f"{file}.damaged@{times.format_time(change.at)}.{number}"
        if file == self.working or not is_file:
            self.directory.rename(file, aside)
            return
        # it keeps its own name until the new one replaces it: a crash before that has changed nothing
        self.directory.link(file, aside)

    @contextlib.contextmanager
    def finishing(self, change: Change) -> Iterator[tuple[str, Sequence[Image], int]]:
        """Withdraw and seal the working image; the block makes it durable, with all that was written to it.

        Yields the name it bears now, what is to be made durable, and the second that the image is sealed with.

        Raises:
            InUse: someone has it open.
            ForeignFile: it has another name elsewhere, which would be changed too.
        """
        withdrawal.require_own_name_only(self)
        with withdrawal.withdrawn(self, change) as working:
            fd = self.directory.open_file(working)
            try:
                second = self.seal(fd, revision_of(change), change.at)
                yield working, [self._image(fd, self.working)], second
            finally:
                os.close(fd)

    def drop_tags(self) -> None:
        """Take the tags off the working image: they were of an earlier run of its VM.

        Raises:
            ForeignFile: it has another name elsewhere, through which the VM's writes would be seen.
        """
        fd = self.open_working()
        try:
            if (
                os.fstat(fd).st_nlink > 1
            ):  # asked now, when what a crash left of its making has been cleared away
                withdrawal.require_own_name_only(self)
            tags.drop_all_of_hosts(fd)
        finally:
            os.close(fd)

    def resize_empty(self, size: int, change: Change) -> None:
        """Give a volume that holds nothing yet, or nothing of its own, another size (bytes)."""
        stamp = self.record.stamp
        if self.evidence.current is not None:
            precached.drop(self)
            with self.draft() as draft:
                truncate(draft.fd, size)
                stamp = self.seal(draft.fd, 0, self.record.at or change.at)
                draft.replace(self.current)
        config = self.record.config._replace(size=size)
        self.write(self.record._replace(config=config, rest=change.dest, stamp=stamp))
        self.directory.sync()

    def resize_working(self, size: int) -> None:
        """Give the working image another size (bytes), durably, and tell the loop devices made of it."""
        withdrawal.require_own_name_only(self)
        fd = self.directory.open_file(self.working, writable=True)
        try:
            truncate(fd, size)
            if self.view.saves:
                self._image(fd, self.working).sync()
            else:
                files.sync_content(fd)  # what is thrown away is never in doubt
            for device in holders.loop_devices_of(holders.identity(os.fstat(fd))):
                holders.tell_size_to(device)
        finally:
            os.close(fd)

    def remove(self, change: Change) -> None:
        """Remove all images, the current one last, and then the record: without images there is no volume.

        Raises:
            InUse: someone has one open that a VM may write to; nothing is removed.
        """
        found = {Kind.WORKING: self.evidence.working, Kind.CURRENT: self.evidence.current}
        with contextlib.ExitStack() as unused:
            images = [
                unused.enter_context(withdrawal.withdrawn(self, change, kind))
                if status is not None
                else self.name + kind
                for kind, status in found.items()
            ]
            self.clear()
            revisions = (one.file for one in self.evidence.revisions.values())
            for file in (*revisions, *self.evidence.revisions.doubles):
                self.directory.remove(file)
            precached.drop(self)
            for file in (self.name + Kind.COW, *images):
                self.directory.remove(file)
        self.directory.sync()
        self.directory.remove(self.name + Kind.RECORD)
        self.directory.sync()


def revision_of(change: Change) -> int:
    """Return the change's number, where there must be one."""
    if change.revision is None:
        raise ValueError(f"{change.event} needs a number")
    return change.revision


def seal_unwritten(fd: int, origin: Origin) -> None:
    """Seal a working image that has all its content and its size: it is unwritten as long as the time stands."""
    status = os.fstat(fd)
    files.set_time(fd, seals.unwritten(status.st_ino, status.st_size, origin))
    tags.put(fd, tags.MADE_FROM, SealTold(origin.number, origin.second))


def truncate(fd: int, size: int) -> None:
    """Give an image its size in bytes; what is added is a hole.

    Raises:
        InvalidSize: a file cannot be that large here.
    """
    try:
        files.truncate(fd, size)
    except OSError as error:
        if error.errno in _TOO_LARGE:
            raise InvalidSize(
                size, "it is more than this file system can hold in a file"
            ) from error
        raise
