"""Between the product and the kernel: count its file operations, and strike at one of them.

All of the product's file operations go through two modules of lifecycle/linux, `files` and `directories`, by the
names `os` and `fcntl`. `watch` replaces these two by stand-ins that count what changes a file or a directory and, at
a chosen count, do what was chosen: end the process before the operation or after it, or let the operation fail.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from crash.writeback_errors import FLUSHES, Refusal, image_of
from lifecycle.linux import directories, durability, failed_flush, files

STOPPED = 77
"""The exit status of a process that was stopped dead."""
RAISED = 78
"""The exit status of one in which the event raised an error."""

CHANGING = frozenset(
    [
        "link",
        "rename",
        "unlink",
        "mkdir",
        "rmdir",
        "write",
        "pwrite",
        "ftruncate",
        "fsync",
        "utime",
        "fchmod",
    ]
)
"""The functions of `os` that change a file or directory or make a change durable; and some of `open` and `ioctl`."""
_CREATING = os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY

_RANDOM = re.compile("~[0-9a-f]{8}")


class Operations:
    """What the product did, and where to strike.

    Attributes:
        done: the operations so far, in words.
        strike_at: the number (from 1) of the operation to strike at; None for none.
        strike: called with the real operation instead of it.
        opens: whether each opening counts, those for reading too.
        sync: whether what is synced is really synced. What a process leaves that dies does not depend on it, only
            what a power cut leaves.
        refusal: an image that the disk refuses.
        refused: the image that was to be flushed by the operation that was struck at, if it was one.
    """

    def __init__(
        self,
        strike_at: int | None = None,
        strike: Callable[[Callable[[], Any]], Any] | None = None,
        *,
        opens: bool = False,
        sync: bool = False,
        refusal: Refusal | None = None,
    ) -> None:
        self.done: list[str] = []
        self.strike_at = strike_at
        self.strike = strike
        self.opens = opens
        self.sync = sync
        self.refusal = refusal
        self.refused: Path | None = None

    def __call__(self, name: str, real: Callable[..., Any], args: Any, options: Any) -> Any:
        if name in {"fsync", "syncfs"} and not self.sync:
            real = _nothing
        texts = [_RANDOM.sub("~", one) for one in args if isinstance(one, str)]
        self.done.append(
            " ".join([name, *("(unnamed)" if "/fd/" in one else one for one in texts)])
        )
        if self.refusal is not None:
            self.refusal.meet(name, args)
        if len(self.done) == self.strike_at and self.strike is not None:
            if name in FLUSHES:
                self.refused = image_of(args[0])
            return self.strike(lambda: real(*args, **options))
        return real(*args, **options)


def _nothing(_fd: int) -> None:
    """Instead of a sync."""


class _Os:
    """Stands in for the module `os`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CHANGING:
            return real
        return lambda *args, **options: self._operations(name, real, args, options)

    def open(self, path: str, flags: int, *args: Any, **options: Any) -> int:
        if flags & _CREATING:
            return self._operations("create", os.open, (path, flags, *args), options)
        if self._operations.opens:
            return self._operations("open", os.open, (path, flags, *args), options)
        return os.open(path, flags, *args, **options)


class _Fcntl:
    """Stands in for the module `fcntl`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def ioctl(self, *args: Any) -> Any:
        return self._operations("reflink", fcntl.ioctl, args, {})


@contextmanager
def watch(operations: Operations) -> Iterator[Operations]:
    """Let the product's file operations go by way of this."""
    sync_all, write_out, ask = durability.sync_file_system, failed_flush.write_out, failed_flush.ask

    def patch(owner: Any, name: str, operation: str, real: Callable[[int], None]) -> Any:
        return mock.patch.object(owner, name, lambda fd: operations(operation, real, (fd,), {}))

    os_, fcntl_ = _Os(operations), _Fcntl(operations)
    with (
        mock.patch.object(directories, "os", os_),
        mock.patch.object(files, "os", os_),
        mock.patch.object(files, "fcntl", fcntl_),
        patch(durability, "sync_file_system", "syncfs", sync_all),
        patch(failed_flush, "write_out", "write out", write_out),
        patch(failed_flush, "ask", "ask", ask),
    ):
        yield operations


# ---------------------------------------------------------------- strikes


def stop_before(_operation: Callable[[], Any]) -> None:
    os._exit(STOPPED)


def stop_after(operation: Callable[[], Any]) -> None:
    operation()
    os._exit(STOPPED)


def fail_with(code: int) -> Callable[[Callable[[], Any]], Any]:
    """Return a strike that lets the operation fail with this errno."""

    def fail(_operation: Callable[[], Any]) -> None:
        raise OSError(code, os.strerror(code))

    return fail


FAULTS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)


def in_child(act: Callable[[], object]) -> tuple[int, str]:
    """Do it in a child process; return its exit status (0: done), and the error that it raised."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # pytest-xdist has threads, and newer Pythons warn of that; the child uses none of them
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever it is, the parent is told
            os.write(writing, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(RAISED)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text
