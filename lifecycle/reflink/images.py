"""One volume's files, opened: what was found of them and what that means, and its images, to be read."""

from __future__ import annotations

import errno
import os
from datetime import datetime

from lifecycle import times
from lifecycle.config import UnknownUse
from lifecycle.errors import InvalidSize, NoSuchRevision
from lifecycle.linux import files
from lifecycle.linux.directories import Directory, Draft
from lifecycle.linux.failed_flush import Image
from lifecycle.linux.status import Status, status_of
from lifecycle.model import Revision
from lifecycle.reflink import names, seals
from lifecycle.reflink.interpret import Judgement, origin_of
from lifecycle.reflink.names import Kind
from lifecycle.reflink.scan import Evidence
from lifecycle.reflink.seals import Origin

_TOO_LARGE = frozenset({errno.EFBIG, errno.EINVAL})


class VolumeImages:
    """One volume's files.

    Attributes:
        directory: the VM's, open.
        volume_id: the volume's id.
        name: its NAME.
        evidence: what was found.
        view: what that means.
        record: the record as it should be, and after `write` as it is.
        findings: what the record does not say, as a crash or a copy left it, in words.
        unknown_use: what is made of an image of which the kernel will not say whether anyone has it open.
        last_second: the last second, since 1970, that the record or an image of the volume was given as its time.
    """

    __slots__ = (
        "directory",
        "evidence",
        "findings",
        "last_second",
        "name",
        "record",
        "unknown_use",
        "view",
        "volume_id",
    )

    def __init__(
        self,
        directory: Directory,
        volume_id: str,
        evidence: Evidence,
        judged: Judgement,
        unknown_use: UnknownUse = UnknownUse.REFUSE,
    ) -> None:
        self.directory = directory
        self.volume_id = volume_id
        self.name = evidence.name
        self.evidence = evidence
        self.view = judged.view
        self.record = judged.record
        self.findings = judged.findings
        self.unknown_use = unknown_use
        recorded = evidence.statuses.get(Kind.RECORD)
        self.last_second = 0
        if isinstance(recorded, os.stat_result):
            self.last_second = seals.bearable(seals.second_in(recorded))

    @property
    def vm(self) -> str:
        """The name of its VM."""
        return self.volume_id.rpartition("/")[0]

    @property
    def current(self) -> str:
        """The current image's file name."""
        return self.evidence.file(Kind.CURRENT)

    @property
    def working(self) -> str:
        """The working image's file name."""
        return self.evidence.file(Kind.WORKING)

    @property
    def origin(self) -> Origin | None:
        """What the next working image is made from; None if there is nothing, or it is a source's."""
        return origin_of(self.evidence, self.record)

    def open_current(self) -> int:
        """Open the current image for reading and return the descriptor, the caller's to close."""
        return self.directory.open_file(self.current)

    def open_image(self, number: int | None) -> int:
        """Open the current image or a revision for reading and return the descriptor, the caller's to close.

        Raises:
            NoSuchRevision: there is none of that number.
            FileNotFoundError: it was removed, or another image became current, since this was opened.
        """
        if number is None:
            return self.open_current()
        if number != self.view.current or self.evidence.current is None:
            return self.directory.open_file(self.revision_file(number))
        fd = self.open_current()
        if os.fstat(fd).st_ino != self.evidence.current.st_ino:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "another image became current", self.current)
        return fd

    def open_working(self) -> int:
        """Open the working image for reading and return the descriptor, the caller's to close."""
        return self.directory.open_file(self.working)

    def revision_file(self, number: int) -> str:
        """Return the name of the revision's file.

        Raises:
            NoSuchRevision: there is none of that number.
        """
        found = self.evidence.revisions.get(number)
        if found is None:
            raise NoSuchRevision(self.volume_id, number, self.view.numbers)
        return found.file

    def revision(self, number: int) -> Revision:
        """Return what there is to know of a revision, or of the current image."""
        note = self.record.note(number)
        if number in self.view.numbers:
            found = self.evidence.revisions[number]
            at: datetime | None = found.at
            status = status_of(self.directory, found.file)
            if status is None:
                raise FileNotFoundError(errno.ENOENT, "it was removed", found.file)
        else:
            at = self.record.at
            status = self.evidence.working if self.view.moved else self.evidence.current
        size = status.st_size if isinstance(status, os.stat_result) else None
        return Revision(
            number=number,
            at=at or times.EARLIEST,
            cause=note.cause,
            size=size,
            pinned=note.pinned,
            label=note.label,
            current=number == self.view.current,
        )

    def images(self) -> list[os.stat_result]:
        """Return the status of every image that can be looked at, a file with two names twice."""
        found: list[Status] = [self.evidence.current, self.evidence.working]
        found += [status_of(self.directory, one.file) for one in self.evidence.revisions.values()]
        return [one for one in found if isinstance(one, os.stat_result)]

    # ------------------------------------------------------------ what others are made from

    def draft(self) -> Draft:
        """Return a new image, without a name yet."""
        return self.directory.draft(self.current)

    def image(self, fd: int, file: str) -> Image:
        """Return what is open of this file as an image that others wrote to."""
        return Image(fd, f"{self.directory.path}/{file}")

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
