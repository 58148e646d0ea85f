"""A process that ends at its N-th change to files, played in the test's own process.

Every call of `os` that changes something, in the two modules that change files, is counted; the N-th one raises
`Stopped` instead of doing it, and so does every later one until the block is left. `Stopped` is a
`KeyboardInterrupt`, so nothing of the product keeps it to itself; but its `with` and `finally` blocks still run,
which they would not if the process were killed. They cannot change anything any more, only close what is open and let
locks go. (tests/crash ends real processes.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from lifecycle.linux import directories, files

_CHANGING = frozenset(
    {
        "fchmod",
        "fsync",
        "ftruncate",
        "link",
        "mkdir",
        "pwrite",
        "rename",
        "rmdir",
        "unlink",
        "utime",
        "write",
    }
)


class Stopped(KeyboardInterrupt):
    """The process has ended here."""


class _CountingOs:
    """The module `os`, with `act` called before each call that changes something."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _CHANGING:
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            self._act()
            return real(*arguments, **named)

        return call


@contextmanager
def acting_before_each_change(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` before each change to files inside the block."""
    counting = _CountingOs(act)
    with mock.patch.object(files, "os", counting), mock.patch.object(directories, "os", counting):
        yield


@contextmanager
def stopping_at(change: int | None) -> Iterator[None]:
    """Raise `Stopped` at the change of this number, counted from 1, and at all later ones; never for None."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if change is not None and done >= change:
            raise Stopped

    with acting_before_each_change(count):
        yield
