"""What tests do to a disk, as a VM would, and how they look at one."""

from __future__ import annotations

import os

from lifecycle import Volume
from lifecycle.transfer.content import Content
from support.attached_disks import attached

MIB = 1 << 20
SIZE = 128 << 10
"""Bytes of a disk, where its size does not matter: small, so that a failing test can show it."""


def draw(volume: Volume, mark: bytes, at: int = 0) -> None:
    """Write to the working image as its VM would, and close it."""
    with attached(volume) as opened:
        opened.write(at, mark)


def cycle(volume: Volume, mark: bytes, at: int = 0) -> int:
    """Start, write and stop; return the number that the volume then has."""
    volume.start()
    draw(volume, mark, at)
    number = volume.stop().revision
    assert number is not None
    return number


def seen(volume: Volume, revision: int | None = None) -> bytes:
    """Return all that the current image holds, or a revision."""
    with volume.export(revision) as content:
        return read_all(content)


def seen_by_vm(volume: Volume) -> bytes:
    """Return all that the working image holds."""
    with attached(volume, writable=False) as opened:
        return opened.read(0, opened.size)


def read_all(content: Content) -> bytes:
    """Return all that content holds."""
    return content.readable.read(0, content.readable.size)


def read(fd: int) -> bytes:
    """Return all that is behind a descriptor of a file or device."""
    return os.pread(fd, os.lseek(fd, 0, os.SEEK_END), 0)


def disk(*marks: bytes, size: int = SIZE) -> bytes:
    """Return the content of a disk with these marks from its start on, and zeros behind them."""
    return b"".join(marks).ljust(size, b"\0")


def numbers(volume: Volume) -> list[int]:
    """Return the numbers of its revisions, in the order in which they are listed."""
    return [revision.number for revision in volume.revisions]
