"""How a VM has a volume's disk: opened by what hypervisors are given for it, whatever that is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from lifecycle import Volume
from lifecycle.model import Attached


class Disk(Protocol):
    """A disk, open."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, offset: int, count: int) -> bytes: ...

    def write(self, offset: int, content: bytes) -> None: ...

    def resize(self, size: int) -> None:
        """Give it another size from within, as root can."""


class File:
    """A disk that is a file."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @property
    def size(self) -> int:
        return os.lseek(self.fd, 0, os.SEEK_END)

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self.fd, count, offset)

    def write(self, offset: int, content: bytes) -> None:
        os.pwrite(self.fd, content, offset)

    def resize(self, size: int) -> None:
        os.ftruncate(self.fd, size)


@contextmanager
def _file(path: str, *, writable: bool) -> Iterator[File]:
    fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
    try:
        yield File(fd)
    finally:
        os.close(fd)


def attached(volume: Volume, *, writable: bool = True) -> AbstractContextManager[Disk]:
    """Have a started volume's disk open, as its VM has it; also to write to what is read-only, as root can."""
    given = volume.attachment
    if given.kind is Attached.FILE:
        return _file(given.name, writable=writable)
    from lifecycle_sqlite import client

    assert given.protocol == client.PROTOCOL
    return client.attached(given, writable=writable, forced=True)


def is_writable(volume: Volume) -> bool:
    """Tell whether the VM of a started volume may write to its disk."""
    given = volume.attachment
    if given.kind is Attached.FILE:
        return bool(stat.S_IMODE(os.stat(given.name).st_mode) & 0o222)
    from lifecycle_sqlite import client

    try:
        with client.attached(given):
            return True
    except PermissionError:
        return False
