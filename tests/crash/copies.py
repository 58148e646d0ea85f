"""Copies of directories, and what tells one directory from another."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from lifecycle.config import CrashPolicy
from lifecycle.linux.directories import Directory
from lifecycle.linux.files import FICLONE
from lifecycle.reflink import names, seals
from lifecycle.reflink.interpret import judge, origin_of
from lifecycle.reflink.scan import gather


def copy_tree(origin: Path, target: Path) -> None:
    """Copy a directory with its hard links, times, attributes and shared blocks; unwritten images stay unwritten."""
    _copy_files(origin, target)
    for path, _directories, files in os.walk(origin):
        here = os.path.relpath(path, origin)
        for name in {one.volume for one in map(names.parse_file, files) if one}:
            _seal_as_before(f"{path}", f"{target}/{here}", name)


def _seal_as_before(origin: str, target: str, name: str) -> None:
    """Seal the unwritten images of a volume that has been copied, for their seals name the files themselves."""
    with Directory.open(origin) as old, Directory.open(target) as new:
        of_old, of_new = (_origin(directory, name) for directory in (old, new))
        if of_old is None or of_new is None:
            return
        endings = ("-dirty.img", "-dirty.img@withdrawn", "-precache.img")
        images = [name + ending for ending in endings]
        if (Path(origin) / ".ready").exists():
            images += [f".ready/{one}" for one in os.listdir(f"{origin}/.ready")]
        for image in images:
            before, after = old.stat(image), new.stat(image)
            if before and after and seals.is_unwritten(before, of_old):
                time = seals.unwritten(after.st_ino, after.st_size, of_new)
                os.utime(f"{target}/{image}", ns=(time, time))


def _origin(directory: Directory, name: str) -> seals.Origin | None:
    found = gather(directory, name)
    return origin_of(found, judge(found, CrashPolicy.RESUME).record)


def _copy_files(origin: Path, target: Path) -> None:
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
        for attribute in os.listxattr(source):
            if attribute.startswith("user."):
                os.setxattr(copy, attribute, os.getxattr(source, attribute))
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
    """Return the time of an image if the product set it; all those that a writer set are as one.

    What an unwritten image's nanoseconds are follows from the file, and differs from copy to copy.
    """
    second, number = divmod(mtime, seals.SECOND)
    if second < 1 << 30:
        return second
    return mtime if number <= 100_000 else -1


def new_directory(below: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=below))
