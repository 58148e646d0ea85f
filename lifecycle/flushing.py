"""When what has been written must be durable before the next step may be taken, and how many can share that.

How this works. An event on files is a generator: it stops at each point where something must be durable before it goes
on, and says what. One event is taken from point to point by `take`. Many events are taken together (`take_all`): all up
to their first point, then one flush for all, then all to their second. So a hundred stops wait for the disk as often as
one does, and none is acknowledged before it is durable.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence

from lifecycle import files
from lifecycle.files import Directory

Unflushed = Sequence[int | Directory]
"""What must be durable before the next step may be taken: contents by descriptor, names by directory."""
Steps = Generator[Unflushed, None, None]
"""An event on its way: it stops wherever something must be durable before it goes on (`flush`)."""

_MANY = 8
"""From so many on, one flush of the whole file system costs less than one of each file."""


def take(steps: Steps) -> None:
    """Go through all steps, making durable what each of them wants. An error in that is raised within the steps."""
    try:
        unflushed = next(steps)
        while True:
            try:
                flush(unflushed)
            except OSError as error:
                unflushed = steps.throw(error)
            else:
                unflushed = next(steps)
    except StopIteration:
        pass
    finally:
        steps.close()  # what they hold must not outlive the lock


def take_all(several: Sequence[Steps], *, all_or_none: bool = False) -> list[Exception | None]:
    """Go through the steps of many events side by side, each flush shared by all.

    Args:
        several: the events.
        all_or_none: whether one that fails before its first stop is raised in all others, so that none goes on.

    Returns:
        for each what it raised, or None. A failure of one does not stop the others; that of a flush meets all.
    """
    failed: list[Exception | None] = [None] * len(several)
    error: Exception | None = None
    going = list(range(len(several)))
    with contextlib.ExitStack() as all_of_them:
        for steps in several:
            all_of_them.callback(steps.close)
        while going:
            waiting: dict[int, Unflushed] = {}
            for one in going:
                try:
                    waiting[one] = (
                        next(several[one]) if error is None else several[one].throw(error)
                    )
                except StopIteration:
                    continue
                except Exception as raised:  # noqa: BLE001 - told to the caller, who knows whose it is
                    failed[one] = raised
            error, going = None, list(waiting)
            if all_or_none:
                error, all_or_none = next(filter(None, failed), None), False
                if error is not None:
                    continue
            try:
                # a directory that several wait for is flushed once
                flush(list(dict.fromkeys(it for some in waiting.values() for it in some)))
            except OSError as raised:
                error = raised
    return failed


def flush(unflushed: Unflushed) -> None:
    """Make all of this durable, together if it is much."""
    if len(unflushed) < _MANY:
        for one in unflushed:
            one.sync() if isinstance(one, Directory) else files.sync_content(one)
        return
    fds = [one.fd if isinstance(one, Directory) else one for one in unflushed]
    for fd in {os.fstat(fd).st_dev: fd for fd in fds}.values():
        sync_file_system(fd)


def sync_file_system(fd: int) -> None:
    """Make everything durable on the file system of this file (syncfs(2), which Python does not offer)."""
    import ctypes  # noqa: PLC0415 - slow to load, and only needed for many files at once

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
