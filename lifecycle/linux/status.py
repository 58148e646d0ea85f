"""The status of a file. A file that cannot be looked at is reported, and not passed over."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from lifecycle.errors import blames_file
from lifecycle.linux.directories import Directory

Status = os.stat_result | OSError | None
"""What was found of a file: its status, or why that could not be had; None if there is no such file."""


def status_of(directory: Directory, file: str) -> Status:
    """Look at a file of the directory."""
    return _asked(lambda: directory.stat(file))


def status_of_entry(entry: os.DirEntry[str] | None) -> Status:
    """Look at a file as the directory listed it; None if it did not."""
    return None if entry is None else _asked(lambda: entry.stat(follow_symlinks=False))


def _asked(ask: Callable[[], os.stat_result | None]) -> Status:
    try:
        return ask()
    except FileNotFoundError:
        return None
    except OSError as error:
        if not blames_file(error):
            raise
        # a name that is too long for this file system is no file's
        return None if error.errno == errno.ENAMETOOLONG else error


def is_file(entry: os.DirEntry[str]) -> bool:
    """Tell whether this is a regular file; what cannot be told counts as one, so that its number is not given again."""
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return True


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Tell whether this is a directory, and no link to one; what cannot be told counts as one, to be looked at."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return True
