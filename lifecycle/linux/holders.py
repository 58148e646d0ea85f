"""Who holds a file: who has it open, who has a lease or a lock on it, which loop devices it is attached to.

The kernel knows, by leases and locks; who it is, /proc and /sys tell, as far as this process may see. Linux only, and
best as root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lifecycle.errors import Holder, printable

BACKGROUND = "lifecycle-ahead"
"""What the processes are called that make images ahead: one that reads a current image is in no one's way."""
LOOP_SET_CAPACITY = 0x4C07
"""From linux/loop.h: look at the backing file's size again."""

Identity = tuple[int, int]
"""A file's device and inode."""


def identity(status: os.stat_result) -> Identity:
    """Return what tells this file from every other."""
    return status.st_dev, status.st_ino


def is_open_elsewhere(fd: int) -> bool | None:
    """Tell whether anything but this descriptor has the file open; None if the kernel will not say.

    A write lease is granted only to the one who has the file open alone; loop devices and other machines' openings
    through this kernel count. It is given back at once. Should someone open the file in that moment, the kernel
    sends a signal: SIGURG, which does nothing, instead of SIGIO, which kills.
    """
    import signal  # noqa: PLC0415 - slow to load, and most commands do without

    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}:
            return None
        raise
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def users(ask: Callable[[], Asked]) -> tuple[Holder, ...]:
    """Return who has a file open; empty if no one has. If that cannot be known, the one holder says why.

    /proc is searched, which takes long, only if the kernel does not say that no one has it. One whom /proc does not
    know of is asked for again, since that may have been another who asked this very moment.

    Args:
        ask: asks the kernel.
    """
    asked = ask()
    for _again in range(_ATTEMPTS):
        if asked.in_use is False:
            return ()
        found = find(asked.file, asked.fd)
        if found:
            return found
        if asked.in_use is None:
            return (Holder(asked.doubt, known=False),) if asked.doubt else ()
        asked = ask()
    return () if asked.in_use is False else (Holder("a process that could not be found"),)


_ATTEMPTS = 3


class Asked(NamedTuple):
    """What the kernel says of a file.

    Attributes:
        in_use: whether anyone else has it open; None if the kernel will not say.
        file: which file it is.
        fd: a descriptor of it that whoever asks keeps open; None if it was closed again.
        doubt: why the kernel does not say, a clause; empty if whoever has it would have been found.
    """

    in_use: bool | None
    file: Identity
    fd: int | None = None
    doubt: str = ""


def ask(fd: int) -> Asked:
    """Ask the kernel about a file that is open here."""
    status = os.fstat(fd)
    doubt = "the file system does not say so"
    if status.st_uid != os.geteuid():
        doubt = f"it belongs to user {status.st_uid}, and lifecycle runs as user {os.geteuid()} without CAP_LEASE"
    return Asked(is_open_elsewhere(fd), identity(status), fd, doubt)


def ask_for(open_it: Callable[[], int]) -> Asked:
    """Open a file, ask the kernel about it, and close it again."""
    fd = open_it()
    try:
        return ask(fd)._replace(fd=None)
    finally:
        os.close(fd)


def find(file: Identity, asking: int | None = None) -> tuple[Holder, ...]:
    """Return who holds the file open, as far as this process may see them.

    A descriptor of it that is `asking` is left out; other descriptors of this process count.
    """
    own = str(os.getpid()), str(asking)
    processes = [
        Holder(_command(pid), int(pid))
        for pid in filter(str.isdecimal, os.listdir("/proc"))
        if _refers(f"/proc/{pid}/fd", file, skip=own[1] if pid == own[0] else None)
        or _refers(f"/proc/{pid}/map_files", file)  # mapped, and perhaps closed since
    ]
    return (*processes, *(Holder(device) for device in loop_devices_of(file)))


def sees_everyone() -> bool:
    """Tell whether this process can see every process of the machine, and what each has open."""
    try:
        whole_machine = os.readlink("/proc/self/ns/pid") == _FIRST_NAMESPACE
        os.listdir("/proc/1/fd")
    except OSError:
        return False
    return whole_machine


_FIRST_NAMESPACE = "pid:[4026531836]"
"""The one that the kernel begins with (PROC_PID_INIT_INO in linux/proc_ns.h)."""


def lock_holders(file: Identity) -> tuple[Holder, ...]:
    """Return the processes that hold a lock (flock) on the file or directory.

    That is whoever has the opening that the lock is on, as the kernel says of each descriptor (proc(5), fdinfo). Where
    this process may not see that, it is who took the lock, as /proc/locks says; he may have ended since, and a process
    that he forked hold it.
    """
    having = tuple(
        Holder(_command(pid), int(pid))
        for pid in filter(str.isdecimal, os.listdir("/proc"))
        if _has_lock(pid, file)
    )
    return having or _lock_takers(file)


def _has_lock(pid: str, file: Identity) -> bool:
    """Tell whether the process has an opening of the file with a lock on it."""
    try:
        links = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False  # the process ended, or is not ours to see
    for link in links:
        with contextlib.suppress(OSError):
            if identity(os.stat(f"/proc/{pid}/fd/{link}")) == file:
                with open(f"/proc/{pid}/fdinfo/{link}", encoding="ascii") as found:
                    if any(line.startswith("lock:") and "FLOCK" in line for line in found):
                        return True
    return False


def _lock_takers(file: Identity) -> tuple[Holder, ...]:
    device, inode = file
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    exact, same_inode = [], []
    with open("/proc/locks", encoding="ascii", errors="replace") as locks:
        for line in locks:
            # 1: FLOCK  ADVISORY  WRITE 4242 00:2d:1234 0 EOF (proc(5)); one who waits has `->`
            fields = line.split()
            if "FLOCK" not in fields[1:2]:
                continue
            if fields[5] == wanted:
                exact.append(fields[4])
            elif fields[5].endswith(f":{inode}"):
                same_inode.append(fields[4])  # btrfs says another device here than stat does
    pids = dict.fromkeys(exact or same_inode)
    return tuple(Holder(_command(pid), int(pid)) for pid in pids)


class Everyone:
    """Who holds what open, for a list of many images: /proc is gone through once, when it is first asked for."""

    def __init__(self) -> None:
        self._found: dict[Identity, list[Holder]] | None = None

    def of(self, file: Identity | None, *, at_rest: bool = False) -> tuple[Holder, ...]:
        """Return who holds this file, as far as this process may see; of an image at rest, who is in someone's way."""
        if file is None:
            return ()
        if self._found is None:
            self._found = everyone()
        found = self._found.get(file, ())
        return tuple(one for one in found if not (at_rest and one.name == BACKGROUND))


def everyone() -> dict[Identity, list[Holder]]:
    """Return who holds what open, as far as this process may see: for many files at once."""
    found: dict[Identity, list[Holder]] = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        held = {*_files_in(f"/proc/{pid}/fd"), *_files_in(f"/proc/{pid}/map_files")}
        if held:
            holder = Holder(_command(pid), int(pid))
            for file in held:
                found.setdefault(file, []).append(holder)
    for device, file in _loop_devices():
        found.setdefault(file, []).append(Holder(device))
    return found


def _files_in(directory: str) -> Iterator[Identity]:
    """Yield the files that the links in a directory of /proc lead to."""
    try:
        links = os.listdir(directory)
    except OSError:
        return  # the process ended, or is not ours to see
    for link in links:
        with contextlib.suppress(OSError):
            yield identity(os.stat(f"{directory}/{link}"))


def _refers(directory: str, file: Identity, skip: str | None = None) -> bool:
    """Tell whether a link in the directory of /proc leads to the file."""
    try:
        links = os.listdir(directory)
    except OSError:
        return False  # the process ended, or is not ours to see
    for link in links:
        try:
            if link != skip and identity(os.stat(f"{directory}/{link}")) == file:
                return True
        except OSError:
            continue
    return False


def _command(pid: int | str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as name:
            return printable(name.read().strip())
    except OSError:
        return "a process that has ended"


# ---------------------------------------------------------------- loop devices


def loop_devices_of(file: Identity) -> list[str]:
    """Return the paths of the loop devices that are made of this file."""
    return sorted(device for device, backing in _loop_devices() if backing == file)


def _loop_devices() -> Iterator[tuple[str, Identity]]:
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


def tell_size_to(device: str) -> None:
    """Let a loop device see that its file has another size."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, LOOP_SET_CAPACITY)
    finally:
        os.close(fd)
