"""The loop devices made of a file."""

from __future__ import annotations

import fcntl
import glob
import os

LOOP_SET_CAPACITY = 0x4C07
"""From linux/loop.h: look at the backing file's size again."""

Identity = tuple[int, int]
"""A file's device and inode."""


def identity(status: os.stat_result) -> Identity:
    """Return what tells this file from every other."""
    return status.st_dev, status.st_ino


def find(file: Identity) -> list[str]:
    """Return the paths of the loop devices that are made of this file."""
    found = []
    for backing in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(backing, encoding="utf-8", errors="surrogateescape") as name:
                path = name.read().rstrip("\n")
            if identity(os.stat(path)) == file:
                found.append("/dev/" + backing.split("/")[3])
        except OSError:
            continue  # it was detached, or its file removed, meanwhile
    return sorted(found)


def tell(device: str) -> None:
    """Let a loop device see that its file has another size."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, LOOP_SET_CAPACITY)
    finally:
        os.close(fd)
