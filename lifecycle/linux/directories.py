"""Durable operations on names: drafts, renames and links whose order survives a crash.

Why this is hard. A file system may keep the name of a file and lose its content, may replay a rename and not the
one before it, and gives no way to replace a file by an unnamed one. So everything is built from a few operations
whose order is fixed here:

- New content is written to a `Draft`, a file without a name. `Draft.publish` makes the content durable first and
  only then gives it the name; `Draft.replace` does the same over an existing name, by way of a temporary one.
- Names are durable only after `Directory.sync`. The caller says when, since one sync can serve many names.
- Every name is relative to an open `Directory`, reached without following a symbolic link; only regular files are
  ever opened.

Every operation that changes a name is logged at INFO with both names quoted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from lifecycle.errors import ForeignFile
from lifecycle.linux import files, inode_flags

log = logging.getLogger("lifecycle.files")

MODE = 0o700
"""The permissions of a directory that is made here."""
_SEARCHABLE = 0o011

_NOT_TO_BE_REMOVED = frozenset(
    {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EBUSY, errno.EROFS}
)
"""What rmdir answers for what stays: it holds something, is gone, no directory, mounted on, or not ours to write."""

_PAUSES = (0.0001, 0.001, 0.01, 0.1, 0.5)
"""Seconds to wait for a lease to be given back, which is held for microseconds."""


class Directory:
    """An open directory; every name given to its methods is a plain name in it.

    Attributes:
        path: for messages only.
        fd: the descriptor.
    """

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    @classmethod
    def open(cls, path: str) -> Directory:
        """Open a directory by its path; here a symbolic link is followed, as it is the user's own choice.

        Raises:
            OSError: it cannot be opened.
        """
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def child(self, relative: str, *, create: bool = False) -> Directory:
        """Open a directory below this one, step by step and without following symbolic links.

        Args:
            relative: plain names with `/` between.
            create: make the missing ones (mode 0700), durably.

        Raises:
            FileNotFoundError: there is none, and `create` is not set.
            ForeignFile: a step is no directory.
        """
        first, *others = relative.split("/")
        here = self.step(first, create=create)
        for part in others:
            with here:
                here = here.step(part, create=create)
        return here

    def step(self, part: str, *, create: bool = False) -> Directory:
        """Open a directory in this one, as `child` does with a single name."""
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, MODE, dir_fd=self.fd)
                log.info("made directory %r", self._at(part))
                self.sync()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return Directory(os.open(part, flags, dir_fd=self.fd), self._at(part))
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise ForeignFile(self._at(part), "not a directory") from error
            raise self._named(error, part) from error

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)
        self.fd = -1  # what asks it for something yet must not meet another file

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _named(self, error: OSError, name: str) -> OSError:
        """Return the system's error with the whole name of the file in it."""
        return OSError(error.errno, error.strerror, self._at(name))

    # ------------------------------------------------------------ looking

    def entries(self) -> list[os.DirEntry[str]]:
        """Return what is in the directory, in no order."""
        # btrfs lists what was there when the directory was opened or last rewound
        try:
            os.lseek(self.fd, 0, os.SEEK_SET)
            with os.scandir(self.fd) as found:
                return list(found)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error

    def stat(self, name: str) -> os.stat_result | None:
        """Return the file's status, of a symbolic link itself; None if there is no such name."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def lets_change(self, name: str) -> bool:
        """Tell whether this user may change what bears the name: by permissions, and as it is not immutable."""
        return os.access(name, os.W_OK, dir_fd=self.fd)

    def open_file(self, name: str, *, writable: bool = False) -> int:
        """Open a regular file and return its descriptor.

        Raises:
            ForeignFile: it is a symbolic link, a device, a pipe, a directory.
            FileNotFoundError: it is not there.
        """
        flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = self._open(name, flags | (os.O_RDWR if writable else os.O_RDONLY))
        except OSError as error:
            kind = {
                errno.ELOOP: "a symbolic link",
                errno.ENXIO: "a socket or device",
                errno.EISDIR: "a directory",
            }.get(error.errno or 0)
            if kind is None:
                raise
            raise ForeignFile(self._at(name), kind) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ForeignFile(self._at(name), "not a regular file")
        return fd

    def _open(self, name: str, flags: int) -> int:
        """Open a file; if someone holds a lease on it, as whoever asks who has it open does, a moment later."""
        for pause in _PAUSES:
            try:
                return os.open(name, flags, dir_fd=self.fd)
            except BlockingIOError:
                time.sleep(pause)
        return os.open(name, flags, dir_fd=self.fd)

    def read(self, name: str, limit: int) -> bytes:
        """Return a small file's content, at most `limit` bytes and one more."""
        fd = self.open_file(name)
        try:
            return os.read(fd, min(os.fstat(fd).st_size, limit) + 1)
        except OSError as error:
            raise self._named(error, name) from error
        finally:
            os.close(fd)

    # ------------------------------------------------------------ changing

    def link(self, old: str, new: str) -> None:
        """Give the file a second name.

        Raises:
            FileExistsError: the name is taken.
        """
        link = functools.partial(os.link, follow_symlinks=False)
        self._within(link, old, new)
        log.info("linked %r to %r", self._at(old), self._at(new))

    def rename(self, old: str, new: str) -> None:
        """Rename a file, over what bears the new name."""
        self._within(os.rename, old, new)
        log.info("renamed %r to %r", self._at(old), self._at(new))

    def _within(self, call: Callable[..., None], old: str, new: str) -> None:
        """Link or rename within this directory, which fails between projects if the file is not of the directory's."""
        try:
            call(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            if error.errno != errno.EXDEV or not self._joins_project(old):
                raise
            call(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def _joins_project(self, name: str) -> bool:
        fd = self.open_file(name)
        try:
            return inode_flags.join_project(fd, self.fd)
        finally:
            os.close(fd)

    def move(self, old: str, other: Directory, new: str) -> None:
        """Rename a file into another directory of the same file system."""
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=other.fd)
        log.info("renamed %r to %r", self._at(old), other._at(new))

    def remove(self, name: str) -> bool:
        """Remove a name; return whether it was there."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        log.info("removed %r", self._at(name))
        return True

    @contextlib.contextmanager
    def keeping(self, name: str) -> Iterator[None]:
        """Let a file's blocks stay until the end of the block, though its name is removed in it.

        To give back those of a fragmented file takes long. Holding it so does not count as using it.
        """
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError:  # it is not there, or cannot be kept
            yield
            return
        try:
            yield
        finally:
            os.close(fd)

    def remove_directory(self, relative: str) -> bool:
        """Remove an empty directory below this one, reached as `child` does.

        Returns:
            False if it is not empty, not there, not reached without a link, or cannot be removed.
        """
        above, _, name = relative.rpartition("/")
        try:
            with self.child(above) if above else contextlib.nullcontext(self) as parent:
                os.rmdir(name, dir_fd=parent.fd)
        except ForeignFile:
            return False
        except OSError as error:
            if error.errno in _NOT_TO_BE_REMOVED:
                return False
            raise
        log.info("removed directory %r", self._at(relative))
        return True

    def let_through(self) -> None:
        """Let every user pass through to a name they know; they still cannot list the directory."""
        mode = stat.S_IMODE(os.fstat(self.fd).st_mode)
        if mode | _SEARCHABLE != mode:
            os.fchmod(self.fd, mode | _SEARCHABLE)
            log.info("made %r searchable", self.path)

    def sync(self) -> None:
        """Make the names in this directory durable."""
        os.fsync(self.fd)

    def draft(self, name: str) -> Draft:
        """Return a new empty file (mode 0600) that has no name yet; `name` is the one it is meant to get."""
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return Draft(
                self, os.open(".", flags | os.O_TMPFILE, files.FILE_MODE, dir_fd=self.fd), None
            )
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
                raise OSError(error.errno, error.strerror, self._at(name)) from error
        # a file system without unnamed files (NFS): a temporary name does it
        temporary = temporary_name(name)
        exclusive = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        return Draft(
            self, os.open(temporary, exclusive, files.FILE_MODE, dir_fd=self.fd), temporary
        )

    def reopened(self, name: str) -> Draft:
        """Return a file that bears a temporary name as the draft that it is."""
        return Draft(self, self.open_file(name, writable=True), name)

    def scratch(self, name: str) -> int:
        """Return a new empty file (mode 0600) that never gets a name: its descriptor, with which it vanishes.

        Args:
            name: what it is, for a file system that cannot do without a name at first.
        """
        with self.draft(name) as draft:
            return os.dup(draft.fd)

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file's content in one step: a reader sees the old or the new, never a part."""
        with self.staged(name, content) as draft:
            files.sync_content(draft.fd)
            draft.replace(name)

    @contextlib.contextmanager
    def staged(self, name: str, content: bytes) -> Iterator[Draft]:
        """Write a small file's new content beside it; within the block it is to be flushed, and then put in its place.

        So what may want room is over before the step that must not be left half done.
        """
        with self.draft(name) as draft:
            files.write_all(draft.fd, content)
            draft.stage(name)
            yield draft

    def replace_by_link(self, old: str, name: str) -> None:
        """Give the file `old` a second name, over what bears that."""
        temporary = temporary_name(name)
        self.link(old, temporary)
        try:
            self.rename(temporary, name)
        except OSError:
            self.remove(temporary)
            raise


def temporary_name(name: str) -> str:
    """Return a name for the moment before a file gets the name it is meant to have."""
    return f"{name}~{os.urandom(4).hex()}"


class Draft:
    """A file on its way to a name. Left without one, it vanishes.

    Attributes:
        fd: the descriptor, open for reading and writing.
        directory: where it is meant to get its name.
    """

    __slots__ = ("_staged", "_temporary", "directory", "fd")

    def __init__(self, directory: Directory, fd: int, temporary: str | None) -> None:
        self.directory = directory
        self._temporary = temporary
        self._staged = False
        self.fd = fd

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # where even that fails, what went wrong first is what is told; leftovers are removed later
        with contextlib.suppress(*([] if error is None else [OSError])):
            self.close()

    def close(self) -> None:
        """Let it go; without a name it vanishes."""
        os.close(self.fd)
        if self._temporary is not None:
            self.directory.remove(self._temporary)

    def publish(self, name: str) -> None:
        """Make the content durable, then give it the name. `Directory.sync` makes the name durable.

        Raises:
            FileExistsError: the name is taken.
        """
        files.sync_content(self.fd)
        self.give_name(name)

    def replace(self, name: str) -> None:
        """Let it replace what bears the name. What was not staged is made durable first."""
        if not self._staged:
            files.sync_content(self.fd)
            self.stage(name)
        if self._temporary is not None:
            self.directory.rename(self._temporary, name)
            self._temporary = None

    def stage(self, name: str) -> None:
        """Give it a temporary name; once the caller has made it durable, `replace` only renames it."""
        if self._temporary is None:
            temporary = temporary_name(name)
            self.give_name(temporary)
            self._temporary = temporary
        self._staged = True

    def give_name(self, name: str) -> None:
        """Give it a name; the content must be durable by now, or the name one that a crash may leave behind.

        Raises:
            FileExistsError: the name is taken.
        """
        source = self._temporary or f"/proc/self/fd/{self.fd}"
        # with a directory's descriptor Python calls linkat(), which can follow the link in /proc
        os.link(
            source,
            name,
            src_dir_fd=self.directory.fd,
            dst_dir_fd=self.directory.fd,
            follow_symlinks=self._temporary is None,
        )
        log.info("linked a new file to %r", f"{self.directory.path}/{name}")
