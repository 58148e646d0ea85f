"""Those who hold an image open: this process, another one, a loop device."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from lifecycle.errors import Holder
from support.mounts import run

Hold = Callable[[str], AbstractContextManager[Holder]]


@contextmanager
def by_this_process(path: str) -> Iterator[Holder]:
    """Hold the file open here."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with open("/proc/self/comm", encoding="utf-8") as name:
            yield Holder(name.read().strip(), os.getpid())
    finally:
        os.close(fd)


@contextmanager
def by_another_process(path: str, name: str = "reader") -> Iterator[Holder]:
    """Let a process of that name hold the file open; it ends when its input does, so with this one at the latest."""
    fd = os.open(path, os.O_RDONLY)
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, name)
        # not one of those programs that do as their name says, of which many are one file
        os.symlink("/bin/sh", program)
        try:
            other = subprocess.Popen(
                [program, "-c", "read _"], stdin=subprocess.PIPE, pass_fds=[fd]
            )
        finally:
            os.close(fd)
    with other:
        yield Holder(name, other.pid)


@contextmanager
def by_loop_device(path: str) -> Iterator[Holder]:
    """Make a loop device of the file."""
    device = run("losetup", "--find", "--show", path).strip()
    with going_with_us(device, path):
        yield Holder(device)


@contextmanager
def going_with_us(device: str, path: str) -> Iterator[None]:
    """Let a loop device of the file go with its last user, which is this process, and at the end of the block."""
    fd = os.open(device, os.O_RDONLY)
    try:
        # while it is open this only asks it to detach itself once it is not
        run("losetup", "--detach", device)
        yield
    finally:
        os.close(fd)
        _see_detached(device, path)


def _see_detached(device: str, path: str) -> None:
    """Return once the device has let the file go; whoever looks for a free device opens each for a moment."""
    backing = f"/sys/block/{os.path.basename(device)}/loop/backing_file"
    for _look in range(1_000_000):
        try:
            with open(backing, encoding="utf-8") as name:
                if name.read().rstrip("\n") != path:
                    return
        except OSError:
            return
        os.sched_yield()
    raise AssertionError(f"{device} still holds {path}")


def device_size(device: str) -> int:
    """Return the bytes that a block device holds."""
    return int(run("blockdev", "--getsize64", device))
