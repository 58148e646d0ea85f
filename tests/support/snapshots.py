"""A directory, byte for byte: to prove that nothing in it was touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One name in a directory. Of directories neither size nor time: names that came and went do not count."""

    inode: int
    mode: int
    links: int | None
    size: int | None
    mtime_ns: int | None
    content: bytes | str | None


def snapshot(directory: str | Path) -> dict[str, Entry]:
    """Return everything that is in the directory and below it, by path."""
    return {
        os.path.relpath(path, directory): _entry(path)
        for path in sorted(Path(directory).rglob("*"))
    }


def _entry(path: Path) -> Entry:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return Entry(status.st_ino, status.st_mode, None, None, None, None)
    content: bytes | str | None = None  # as of a pipe or socket
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        content = path.read_bytes()
    return Entry(
        status.st_ino, status.st_mode, status.st_nlink, status.st_size, status.st_mtime_ns, content
    )
