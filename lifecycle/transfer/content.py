"""Reads and writes content as an image file, a block device, a stream or another volume.

What is imported is prepared first (`prepared`), before any volume is locked: a stream is read to its end, and an image
in a format of others is converted, into a file without a name in the pool, of which the import then shares the blocks.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeAlias

from lifecycle.errors import InvalidSize, NotContent, NotTheSame, storage
from lifecycle.linux import copying, files
from lifecycle.linux.copying import OpenFile
from lifecycle.linux.directories import Directory
from lifecycle.linux.failed_flush import Image
from lifecycle.readable import Progress, Readable
from lifecycle.states import Event

if TYPE_CHECKING:
    from typing import Self

    from lifecycle.backend import Pool, Volume

log = logging.getLogger("lifecycle.contents")

RAW = "raw"
"""The bytes of the disk as they are, which is no format."""
_READABLE = (stat.S_ISREG, stat.S_ISBLK, stat.S_ISFIFO)


class HasContent(Protocol):
    """What can be exported: a volume, of any pool."""

    def export(self, revision: int | None = None) -> Content:
        """Open the current image, or a revision, for reading."""


Origin: TypeAlias = "Content | HasContent | str | os.PathLike[str]"
"""Where content comes from: open already, a volume, or the path of a file, a block device or a pipe."""


class Content:
    """A disk's content, open for reading. Close it, or use it in a `with`.

    Attributes:
        readable: what it is read by; of a stream, only its descriptor is of use.
        name: what it is, for messages.
        cause: what an image made from it has as its cause; None for `import`.
        raw: whether it is known to be the disk's own bytes, whatever they look like.
        own: whether it is the file of an image of a pool, on which a flush that fails is noted.
        before_start: whether it is of a volume that was running: then it is what that held before its start.
    """

    __slots__ = ("before_start", "cause", "name", "own", "raw", "readable")

    def __init__(
        self,
        opened: int | Readable,
        name: str,
        cause: str | None = None,
        *,
        raw: bool = False,
        own: bool = False,
        before_start: bool = False,
    ) -> None:
        """Make it of a descriptor, or of what a backend opened; either is its own from then on."""
        self.readable: Readable = OpenFile(opened) if isinstance(opened, int) else opened
        self.name = name
        self.cause = cause
        self.raw = raw
        self.own = own
        self.before_start = before_start

    @classmethod
    def of(cls, origin: Origin) -> Content:
        """Open what is in a file, a block device, a pipe's path, or a volume.

        Args:
            origin: where it is; a `Content` is returned as it is.

        Raises:
            NotContent: the path is a directory, a terminal…
            OSError: it cannot be opened.
            NoSuchVolume: there is none.
        """
        if isinstance(origin, Content):
            return origin
        if not isinstance(origin, str | os.PathLike):
            return origin.export()
        path = os.fspath(origin)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        if not any(accepts(os.fstat(fd).st_mode) for accepts in _READABLE):
            os.close(fd)
            raise NotContent(path, "is no image file, block device or pipe")
        return cls(fd, path)

    @classmethod
    @contextmanager
    def using(cls, origin: Origin) -> Iterator[Content]:
        """Open content as `of` does, and close it afterwards unless it was handed in open."""
        content = cls.of(origin)
        try:
            yield content
        finally:
            if content is not origin:
                content.close()

    @property
    def fd(self) -> int | None:
        """The descriptor; None if it is not the content of a file, a block device or a pipe."""
        return self.readable.fd

    @property
    def size(self) -> int | None:
        """Bytes; None if it is a stream."""
        return self.readable.size if self.fd is None else copying.length(self.fd)

    def close(self) -> None:
        """Close it."""
        self.readable.close()

    def __enter__(self) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self.name}: an open descriptor can neither be copied nor sent to another process;"
            " send the volume or the path, and open it there"
        )

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
                if not self._is_shared_with(draft.fd):
                    copying.copy(self.whole, draft.fd, progress)
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
            copying.copy(self.whole, fd, progress)
            files.sync_content(fd)
        finally:
            os.close(fd)

    @property
    def whole(self) -> int | Readable:
        """What `copying.copy` reads all of it from."""
        return self.readable if self.fd is None else self.fd

    def _is_shared_with(self, target: int) -> bool:
        """Let an empty file share its blocks; return False if it cannot."""
        if self.fd is None:
            return False
        return Image(self.fd, self.name, own=self.own).share_with(target) is None


IsImage = Callable[[str], bool | None]
"""Tells of a file's path whether it is an image of a pool; None if that cannot be known."""


@contextmanager
def prepared(
    content: Content,
    volume: Volume,
    is_image: IsImage,
    *,
    image_format: str | None = None,
    follow: bool = False,
    verify: bool = False,
) -> Iterator[Content]:
    """Prepare content for an import into a volume: as the disk's own bytes, of known size.

    Args:
        content: what is to be imported; it stays open.
        volume: the volume, which need not be there yet.
        is_image: tells which files are images of a pool.
        image_format: the format of the image, one of `foreign_images.FORMATS` or `raw`. By default the content tells;
            but a volume, an image file of a pool and a block device are raw, for a VM may have written into them what
            looks like a format.
        follow: whether an image may refer to other files, which are then read too.
        verify: whether what is copied is read again and compared.

    Raises:
        NotContent: it cannot be read as a disk's content.
        NotTheSame: what was written is not what was read.
        InvalidSize: it is empty.
        StorageFailed: it cannot be read, or there is no room.
        Unsupported: it is in a format of others, and there is no qemu-img.
    """
    pool = volume.pool
    with ExitStack() as opened:
        with storage(volume.id, Event.IMPORT):
            if content.size is None:
                content = opened.enter_context(_read_to_its_end(content, pool, verify=verify))
            if not content.raw or image_format is not None:
                known = None if content.fd is None else is_image(path_of(content.fd))
                form = _format_of(content, known) if image_format is None else image_format
                if form == RAW:  # it stays open with what was given
                    own = content.own or (content.fd is not None and known is True)
                    content = Content(
                        content.readable, content.name, content.cause, raw=True, own=own
                    )
                else:
                    content = opened.enter_context(_converted(content, pool, form, follow, verify))
            if content.size == 0:
                raise InvalidSize(0, f"{content.name} is empty")
        yield content


def _read_to_its_end(stream: Content, pool: Pool, *, verify: bool) -> Content:
    with ExitStack() as opened:
        with Directory.open(pool.path) as directory:
            fd = directory.scratch("stream")
            content = opened.enter_context(Content(fd, stream.name, stream.cause))
        summary = copying.new_digest() if verify else None
        see = None if summary is None else summary.update
        copying.copy(stream.whole, fd, pool.progress(f"read {stream.name}"), see)
        if summary is not None:
            files.sync_content(fd)
            copying.drop_cache(fd)
            again = copying.digest(fd, pool.progress(f"verify {stream.name}"))
            if again != summary.digest():
                raise NotTheSame(stream.name, "its checksum is another")
        opened.pop_all()
        return content


def _format_of(content: Content, is_image: bool | None) -> str:
    """Return the format that content is in, as it tells itself; raw where a VM may have written what looks like one.

    That is so of what a backend keeps, of block devices, and of images of pools; and of a file in a pool that cannot
    be asked.
    """
    if content.fd is None or is_image is not False or stat.S_ISBLK(os.fstat(content.fd).st_mode):
        return RAW
    from lifecycle.transfer import formats  # noqa: PLC0415 - seldom needed

    return formats.probe(content.readable)


def _converted(content: Content, pool: Pool, form: str, follow: bool, verify: bool) -> Content:
    """Return the disk that an image in a format of others describes."""
    from lifecycle.transfer import formats  # noqa: PLC0415 - seldom needed

    with Directory.open(pool.path) as directory:
        fd = formats.convert(
            content.readable,
            content.name,
            form,
            directory,
            follow=follow,
            verify=verify,
            progress=pool.progress,
        )
    return Content(fd, content.name, content.cause, raw=True)


def path_of(fd: int) -> str:
    """Return the path of an open file, as the kernel knows it now."""
    return os.readlink(f"/proc/self/fd/{fd}")
