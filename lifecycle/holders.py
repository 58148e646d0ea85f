"""Who holds a file: whether anyone has it open, who that is, and the lock that one process holds at a time.

The kernel knows, by leases and locks; who it is, /proc and /sys tell, as far as this process may see. Linux only, and
best as root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from lifecycle import loop_devices
from lifecycle.errors import Holder
from lifecycle.files import Directory
from lifecycle.loop_devices import Identity, identity


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


def users(open_it: Callable[[], int]) -> tuple[Holder, ...]:
    """Return who has a file open; empty if no one, as far as can be known.

    Whoever asks this has the file open too, and must be in no one's way: so not while /proc is searched, which takes
    long. And one whom /proc does not know of is asked for again, since that may have been another who asked this.

    Args:
        open_it: opens the file and returns the descriptor.
    """
    in_use, file = _ask(open_it)
    if in_use is False:
        return ()
    found = find(file)
    if found or not in_use:
        return found
    in_use, _file = _ask(open_it)
    return (Holder("a process that could not be found"),) if in_use else ()


def _ask(open_it: Callable[[], int]) -> tuple[bool | None, Identity]:
    """Return what the kernel says, and which file it is."""
    fd = open_it()
    try:
        return is_open_elsewhere(fd), identity(os.fstat(fd))
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
    return (*processes, *(Holder(device) for device in loop_devices.find(file)))


def lock(directory: Directory, timeout: float) -> bool:
    """Lock the directory until it is closed; return False if that took longer than `timeout` seconds.

    The kernel frees the lock when the process ends, however it ends.
    """
    waited, pause = 0.0, 0.0001
    while True:
        try:
            fcntl.flock(directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waited >= timeout:
                return False
            # the pauses are added up, not read off a clock: clocks may be frozen, or jump
            time.sleep(pause)
            waited += pause
            pause = min(pause * 2, 0.05)
        else:
            return True


def lock_holders(file: Identity) -> tuple[Holder, ...]:
    """Return the processes that hold a lock (flock) on the file or directory."""
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
    for device, file in loop_devices.all_of_them():
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
            return name.read().strip()
    except OSError:
        return "a process that has ended"
