"""Copies of directories, and what tells one directory from another."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from lifecycle.files import FICLONE


def copy_tree(origin: Path, target: Path) -> None:
    """Copy a directory with its hard links, times and shared blocks."""
    made: dict[int, Path] = {}
    for path, _directories, files in os.walk(origin):
        here = target / os.path.relpath(path, origin)
        here.mkdir(mode=0o700, exist_ok=True)
        for name in files:
            status = os.lstat(f"{path}/{name}")
            if status.st_ino in made:
                os.link(made[status.st_ino], here / name)
                continue
            made[status.st_ino] = here / name
            _copy_file(f"{path}/{name}", str(here / name), status)


def _copy_file(origin: str, target: str, status: os.stat_result) -> None:
    source = os.open(origin, os.O_RDONLY)
    copy = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IMODE(status.st_mode))
    try:
        try:
            fcntl.ioctl(copy, FICLONE, source)
        except OSError:
            os.pwrite(copy, os.pread(source, status.st_size, 0), 0)
            os.ftruncate(copy, status.st_size)
        os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
    finally:
        os.close(source)
        os.close(copy)


def fingerprint(directory: Path) -> str:
    """Return what tells this directory from every other, but for random names and the time a record was written."""
    made: dict[int, int] = {}
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        name = os.path.relpath(path, directory).partition("~")
        digest.update(f"{name[0]}{name[1]} {status.st_mode} ".encode())
        if stat.S_ISREG(status.st_mode):
            same = made.setdefault(status.st_ino, len(made))
            moment = 0 if ".json" in path.name else _moment(status.st_mtime_ns)
            digest.update(f"{same} {status.st_nlink} {moment} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _moment(mtime: int) -> int:
    """Return the time of an image if the product set it; all those that a writer set are as one."""
    return mtime if mtime < 10**9 or mtime % 10**9 <= 100_000 else -1


def new_directory(below: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=below))
