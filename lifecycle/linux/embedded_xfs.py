"""For hosts without reflinks: an XFS in a sparse file, mounted over the pool's directory.

The file lies in the pool's own directory and is hidden by the mount; after a reboot it is what shows, and opening
the pool mounts it again. Space that the pool frees is given back to the file system outside (`discard`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator

from lifecycle.errors import InvalidSize, NotAPool, Unsupported
from lifecycle.linux import directories, files
from lifecycle.linux.child_processes import ends_told
from lifecycle.linux.directories import Directory
from lifecycle.linux.fork_safety import Lock

log = logging.getLogger("lifecycle.loop_pool")

IMAGE = "pool.xfs"
MIN_SIZE = 300 * 1024 * 1024
"""Bytes. mkfs.xfs makes nothing smaller."""

_LOCK_SECONDS = 60.0


def create(path: str, size: int) -> None:
    """Make the file, an XFS of `size` bytes in it, and mount it over the directory.

    Raises:
        Unsupported: this user or machine cannot.
        InvalidSize: an XFS cannot be that small, or a file that large.
        NotAPool: the directory is not empty.
    """
    _require_tools()
    if size < MIN_SIZE:
        raise InvalidSize(size, "an XFS takes at least 300 MiB")
    image = os.path.join(path, IMAGE)
    with Directory.open(path) as directory, _locked(directory):
        # locked, so that no one mounts what is half made, or uses what is taken back
        if directory.entries() or _is_covered(directory):
            raise NotAPool(
                path, "must be empty to become an embedded pool, which would hide what is in it"
            )
        _warn_of_little_room(path, size)
        try:
            with directory.draft(IMAGE) as draft:
                files.truncate(draft.fd, size)
                draft.publish(IMAGE)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise InvalidSize(size, "it is more than a file can hold here") from error
            raise NotAPool(path, f"cannot be made a pool: {error.strerror}") from error
        try:
            _run("mkfs.xfs", "-q", image)
            _mount(path, image)
        except BaseException:
            directory.remove(IMAGE)
            raise
        directory.sync()
    os.chmod(path, directories.MODE)


def is_there(path: str) -> bool:
    """Tell whether the directory holds an embedded pool's file, which shows while it is not mounted."""
    with Directory.open(path) as directory:
        return directory.stat(IMAGE) is not None


def mount_again(path: str) -> None:
    """Mount the pool's file, if there is one and it is not mounted.

    Raises:
        Unsupported: this user or machine cannot mount it.
    """
    with Directory.open(path) as directory:
        if directory.stat(IMAGE) is None:
            return
        _require_tools()
        # two processes that find the pool unmounted must not both mount it
        with _locked(directory):
            if not _is_covered(directory):
                _mount(path, os.path.join(path, IMAGE))


@contextlib.contextmanager
def _locked(directory: Directory) -> Iterator[None]:
    with Lock(directory.fd) as lock:
        if not lock.take(_LOCK_SECONDS):
            raise Unsupported(
                f"{directory.path}: another process did not finish mounting it in {_LOCK_SECONDS:g} s"
            )
        yield


def _is_covered(directory: Directory) -> bool:
    """Tell whether something is mounted over the directory since it was opened; it may be a mount point itself."""
    return not os.path.samestat(os.stat(directory.path), os.fstat(directory.fd))


def room_below(path: str, backing: str) -> int | None:
    """Return the bytes that the file system can still give on which a pool's file lies; None if it cannot be asked.

    Args:
        path: the directory over which that file is mounted.
        backing: the file. If it is the pool's own, the mount hides it, and with it maybe all of that file system.
    """
    if os.path.exists(backing):
        below = os.statvfs(backing)
        return below.f_bavail * below.f_frsize
    # so it is asked where that is not mounted: in a mount namespace of its own
    ask = 'umount --lazy -- "$1" && exec stat --file-system --format="%a %S" -- "$1"'
    try:
        said = _run("unshare", "--mount", "sh", "-c", ask, "sh", os.path.realpath(path))
        blocks, size = said.split()
    except (Unsupported, OSError, ValueError):
        return None
    return int(blocks) * int(size)


def _warn_of_little_room(path: str, size: int) -> None:
    from lifecycle.sizes import format_size  # noqa: PLC0415 - only here

    below = os.statvfs(path)
    free = below.f_bavail * below.f_frsize
    if size > free:
        log.warning(
            "%s: the disk below has %s free, less than the %s of the pool. Its file is sparse and takes only what is"
            " written, but cannot be filled; `reserve` in pool.toml refuses starts in time",
            path,
            format_size(free),
            format_size(size),
        )


def _mount(path: str, image: str) -> None:
    _run("mount", "-t", "xfs", "-o", "loop,discard", image, path)


def _require_tools() -> None:
    if os.geteuid() != 0:
        raise Unsupported("an embedded pool is mounted, which takes root; run this as root")
    for tool, package in (("mkfs.xfs", "xfsprogs"), ("mount", "mount")):
        if shutil.which(tool, path=_PATH) is None:
            raise Unsupported(f"{tool} is not installed; install the package {package}")


_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _run(*command: str) -> str:
    environment = {**os.environ, "PATH": _PATH}
    with ends_told():
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise Unsupported(f"{command[0]} failed: {said}")
    return done.stdout
