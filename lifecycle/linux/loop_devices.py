"""The loop devices that are attached to a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

LOOP_SET_CAPACITY = 0x4C07
"""From linux/loop.h: look at the backing file's size again."""

Identity = tuple[int, int]
"""A file's device and inode."""


def identity(status: os.stat_result) -> Identity:
    """Return what tells this file from every other."""
    return status.st_dev, status.st_ino


def find(file: Identity) -> list[str]:
    """Return the paths of the loop devices that are made of this file."""
    return sorted(device for device, backing in all_of_them() if backing == file)


def all_of_them() -> Iterator[tuple[str, Identity]]:
    """Yield the paths of all loop devices, each with the file that it is made of."""
    import glob  # noqa: PLC0415 - most images are in no one's use

    for backing in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(backing, encoding="utf-8", errors="surrogateescape") as name:
                path = name.read().rstrip("\n")
            yield "/dev/" + backing.split("/")[3], identity(os.stat(path))
        except OSError:
            continue  # it was detached, or its file removed, meanwhile


def backing_file(device: int) -> str | None:
    """Return the path of the file that a file system's device (`st_dev`) is made of, if it is a loop device."""
    where = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file"
    try:
        with open(where, encoding="utf-8", errors="surrogateescape") as name:
            return name.read().removesuffix("\n")
    except OSError:
        return None


def tell(device: str) -> None:
    """Let a loop device see that its file has another size."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, LOOP_SET_CAPACITY)
    finally:
        os.close(fd)
