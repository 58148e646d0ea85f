"""The points at which an event must be durable before it goes on, and one flush for many events.

How this works. An event on files is a generator: it stops at each point where something must be durable before it goes
on, and says what. One event is taken from point to point by `take`. Many events are taken together (`take_all`): all up
to their first point, then one flush for all, then all to their second. So a hundred stops wait for the disk as often as
one does, and none is acknowledged before it is durable.

Each file and directory is asked for its own error, however many share a flush: a file system keeps one error for
`syncfs`, which whoever asks first takes, and which says nothing of whose it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator, Sequence

from lifecycle.errors import Refused
from lifecycle.linux import failed_flush, files
from lifecycle.linux.directories import Directory
from lifecycle.linux.failed_flush import Image

log = logging.getLogger("lifecycle.backend")

Unflushed = Sequence[int | Directory | Image]
"""What must be durable before the next step may be taken: what others wrote by image, new contents by descriptor,
names by directory."""
Steps = Generator[Unflushed, None, None]
"""An event on its way: it stops wherever something must be durable before it goes on (`flush`)."""

_MANY = 8
"""From so many on, one flush of the whole file system costs less than one of each file."""


def take(steps: Steps) -> None:
    """Go through all steps, making durable what each of them wants. An error in that is raised within the steps."""
    try:
        unflushed = next(steps)
        while True:
            error = _first_of(flush(unflushed), unflushed)
            unflushed = next(steps) if error is None else steps.throw(error)
    except StopIteration:
        pass
    finally:
        steps.close()  # what they hold must not outlive the lock


def take_all(several: Sequence[Steps], *, all_or_none: bool = False) -> list[Exception | None]:
    """Go through the steps of many events side by side, each flush shared by all.

    Args:
        several: the events.
        all_or_none: whether one that is refused before its first stop is so in all others, so that none goes on.

    Returns:
        for each what it raised, or None. A failure of one does not stop the others; that of a flush meets those who
        wait for what could not be flushed.
    """
    failed: list[Exception | None] = [None] * len(several)
    errors: dict[int, Exception | None] = {}
    going = list(range(len(several)))
    with contextlib.ExitStack() as all_of_them:
        for steps in several:
            all_of_them.callback(steps.close)
        while going:
            waiting: dict[int, Unflushed] = {}
            for one in going:
                error = errors.get(one)
                try:
                    waiting[one] = (
                        next(several[one]) if error is None else several[one].throw(error)
                    )
                except StopIteration:
                    continue
                except Exception as raised:  # noqa: BLE001 - told to the caller, who knows whose it is
                    failed[one] = raised
            going = list(waiting)
            objections = (one for one in failed if isinstance(one, Refused))
            first = next(objections, None) if all_or_none else None
            all_or_none = False
            if first is not None:
                errors = dict.fromkeys(going, first)
                continue
            # a directory that several wait for is flushed once
            refused = flush(list(dict.fromkeys(it for some in waiting.values() for it in some)))
            errors = {one: _first_of(refused, waiting[one]) for one in going}
    return failed


def flush(unflushed: Unflushed) -> dict[int | Directory | Image, OSError]:
    """Make all of this durable, together if it is much; return what could not be made so, and why."""
    sync = _sync
    if len(unflushed) >= _MANY:
        fds = [one if isinstance(one, int) else one.fd for one in unflushed]
        try:
            for fd in {os.fstat(fd).st_dev: fd for fd in fds}.values():
                sync_file_system(fd)
            sync = _ask
        except OSError as error:
            log.warning(
                "a flush of many files at once failed (%s); each is flushed by itself", error
            )
    refused: dict[int | Directory | Image, OSError] = {}
    for one in unflushed:
        try:
            sync(one)
        except OSError as error:
            refused[one] = error
    return refused


def _sync(one: int | Directory | Image) -> None:
    """Flush this."""
    files.sync_content(one) if isinstance(one, int) else one.sync()


def _ask(one: int | Directory | Image) -> None:
    """Ask this for its own error, when its whole file system has been flushed; names have none of their own."""
    if isinstance(one, int):
        failed_flush.ask(one)
    elif isinstance(one, Image):
        one.ask()


def _first_of(
    refused: dict[int | Directory | Image, OSError], unflushed: Unflushed
) -> OSError | None:
    """Return the error of what someone waits for; None if there is none."""
    return next((refused[one] for one in unflushed if one in refused), None)


def sync_file_system(fd: int) -> None:
    """Make everything durable on the file system of this file (syncfs(2), which Python does not offer)."""
    import ctypes  # noqa: PLC0415 - slow to load, and only needed for many files at once

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
