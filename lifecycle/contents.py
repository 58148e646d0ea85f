"""Content that comes from outside, or goes there: image files, block devices, streams, other volumes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from lifecycle import copying, files
from lifecycle.copying import Progress
from lifecycle.errors import NotContent
from lifecycle.files import Directory
from lifecycle.volume import Volume

if TYPE_CHECKING:
    from typing import Self

_READABLE = (stat.S_ISREG, stat.S_ISBLK, stat.S_ISFIFO)


class Content:
    """A disk's content, open for reading. Close it, or use it in a `with`.

    Attributes:
        fd: the descriptor.
        name: what it is, for messages.
        cause: what an image made from it has as its cause; None for `import`.
    """

    __slots__ = ("cause", "fd", "name")

    def __init__(self, fd: int, name: str, cause: str | None = None) -> None:
        self.fd = fd
        self.name = name
        self.cause = cause

    @classmethod
    def of(
        cls, origin: Content | Volume | str | os.PathLike[str], revision: int | None = None
    ) -> Content:
        """Open what is in a file, a block device, a pipe's path, or a volume.

        Args:
            origin: where it is; a `Content` is returned as it is.
            revision: of a volume: the revision instead of the current image.

        Raises:
            NotContent: the path is a directory, a terminal…
            OSError: it cannot be opened.
            NoSuchVolume, NoSuchRevision: there is none.
        """
        if isinstance(origin, Content):
            return origin
        if isinstance(origin, Volume):
            origin.require(origin.look())
            return cls(origin.pool.backend.open_image(origin.id, revision), origin.id, "clone")
        path = os.fspath(origin)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        if not any(accepts(os.fstat(fd).st_mode) for accepts in _READABLE):
            os.close(fd)
            raise NotContent(path, "is no image file, block device or pipe")
        return cls(fd, path)

    @classmethod
    @contextmanager
    def using(cls, origin: Content | Volume | str | os.PathLike[str]) -> Iterator[Content]:
        """Open content as `of` does, and close it afterwards unless it was handed in open."""
        content = cls.of(origin)
        try:
            yield content
        finally:
            if content is not origin:
                content.close()

    @property
    def size(self) -> int | None:
        """Bytes; None if it is a stream."""
        return copying.length(self.fd)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def save(self, path: str, *, replace: bool = False, progress: Progress | None = None) -> None:
        """Write the content to a file or block device; durable when this returns.

        A file is shared by reflink where possible, else sparse, has mode 0600, and appears whole or not at all.

        Args:
            path: the file, or a block device at least as large.
            replace: replace a file that is there.
            progress: told during a copy.

        Raises:
            FileExistsError: there is such a file, and `replace` is not set.
            NotContent: it is neither file nor block device, or too small.
            OSError: it cannot be written.
        """
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
        if stat.S_ISBLK(mode):
            self._save_to_device(path, progress)
        elif stat.S_ISREG(mode):
            self._save_to_file(path, replace=replace, progress=progress)
        else:
            raise NotContent(path, "is neither a file nor a block device")

    def _save_to_file(self, path: str, *, replace: bool, progress: Progress | None) -> None:
        # a link to a file is followed, as any program does that writes to it
        parent, name = os.path.split(os.path.realpath(path))
        with Directory.open(parent) as directory:
            if not replace and directory.stat(name) is not None:
                raise FileExistsError(errno.EEXIST, "there is such a file already", path)
            with directory.draft(name) as draft:
                if not files.reflink(self.fd, draft.fd):
                    copying.copy(self.fd, draft.fd, progress)
                if replace:
                    draft.replace(name)
                else:
                    draft.publish(name)
            directory.sync()

    def _save_to_device(self, path: str, progress: Progress | None) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_EXCL)
        try:
            room, size = copying.length(fd) or 0, self.size or 0
            if size > room:
                raise NotContent(path, f"holds {room} bytes, fewer than the {size} of {self.name}")
            copying.copy(self.fd, fd, progress)
            files.sync_content(fd)
        finally:
            os.close(fd)
