"""Files that must not be touched: what is outside a pool."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.snapshots import Entry, snapshot

_IN_MODIFY, _IN_CLOSE_WRITE = 0x2, 0x8
"""From sys/inotify.h: it was written to; it was closed by one who could have."""


@contextmanager
def untouched(directory: Path) -> Iterator[None]:
    """Check that nothing in the directory is changed inside the block, or as much as opened for writing.

    The count of a file's names may grow: a revision of the pool is one more name of its image.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    before = _without_links(directory)
    for path in before:
        name = os.fsencode(directory / path)
        if (directory / path).is_file() and not (directory / path).is_symlink():
            assert libc.inotify_add_watch(watch, name, _IN_MODIFY | _IN_CLOSE_WRITE) >= 0
    try:
        yield
        assert _without_links(directory) == before
        try:
            written = os.read(watch, 4096)
        except BlockingIOError:
            written = b""
        assert written == b"", "a file was opened for writing"
    finally:
        os.close(watch)


def _without_links(directory: Path) -> dict[str, Entry]:
    return {path: entry._replace(links=None) for path, entry in snapshot(directory).items()}


class Blocked(BaseException):
    """Something waited that should not."""


@contextmanager
def not_blocking(seconds: int = 20) -> Iterator[None]:
    """End the block with `Blocked` if it waits for something that will never come, such as a pipe's other end."""

    def give_up(*_: object) -> None:
        raise Blocked

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
