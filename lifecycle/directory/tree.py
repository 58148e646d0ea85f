"""Which directories of a tree of ready images can be VMs, and which of the files in them are volumes."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lifecycle import ids
from lifecycle.config import POOL_SIGNS, PoolConfig
from lifecycle.errors import ForeignFile, InvalidName, blames_file
from lifecycle.linux.directories import Directory
from lifecycle.linux.status import is_directory, status_of

log = logging.getLogger("lifecycle.backend")

ENDING = ".img"

ANOTHER_POOL = "another pool lies there, with all that is below it; left alone"
CANNOT_BE_READ = "cannot be read: "
"""How that begins which is harmful of what is passed over."""

PassedOver = Callable[[str, str], None]
"""Told of a directory that is passed over: its path in the pool, and why."""


class Image(NamedTuple):
    """A volume's file.

    Attributes:
        file: its name in the VM's directory.
        size: bytes it holds.
        usage: bytes it takes.
        identity: its device and inode; None if they cannot be told.
        problem: why it cannot be looked at, if it cannot be.
    """

    file: str
    size: int = 0
    usage: int = 0
    identity: tuple[int, int] | None = None
    problem: str | None = None


def vms_below(
    directory: Directory, path: str = "", passed_over: PassedOver = lambda _path, _reason: None
) -> Iterator[tuple[str, Directory]]:
    """Yield the directories that can be VMs, with their names, each open until the next is asked for.

    Links are not followed. Directories that cannot be read, that cannot be VMs, or in which another pool lies, are
    passed over.
    """
    entries = directory.entries()
    if path and any(one.name in POOL_SIGNS for one in entries):
        passed_over(path, ANOTHER_POOL)
        return
    if path:
        yield path, directory
    for name in sorted(one.name for one in entries if is_directory(one)):
        vm = f"{path}/{name}" if path else name
        try:
            ids.check_vm(vm)
            with directory.child(name) as child:
                yield from vms_below(child, vm, passed_over)
        except InvalidName as error:
            passed_over(ids.printable(vm), f"is no VM, with all that is in it: {error.reason}")
        except PermissionError as error:
            passed_over(vm, f"cannot be read by this user: {error.strerror}")
        except (FileNotFoundError, ForeignFile):
            continue  # it vanished, or became something else, while we walk
        except OSError as error:
            if not blames_file(error):
                raise
            log.warning("%s is passed over: %s", error.filename, error.strerror)
            passed_over(vm, f"{CANNOT_BE_READ}{error.strerror}")


def names_in(vm: str, directory: Directory) -> list[str]:
    """Return the NAMEs of the volumes in a VM's directory, in order."""
    found = {name_of(file) for file in files_in(directory)}
    return sorted(
        name
        for name in found
        if objection_to(f"{vm}/{name}") is None and image_of(directory, name) is not None
    )


def files_in(directory: Directory) -> list[str]:
    """Return the names of what is no directory, in order."""
    return sorted(one.name for one in directory.entries() if not one.is_dir(follow_symlinks=False))


def name_of(file: str) -> str:
    """Return the NAME of the volume that a file would be."""
    return file.removesuffix(ENDING)


def image_of(directory: Directory, name: str) -> Image | None:
    """Return the file of the volume NAME; None if there is none that this user may look at."""
    # so that no file has two names, `x.img` can only be the volume `x`
    for file in (name + ENDING,) if name.endswith(ENDING) else (name + ENDING, name):
        status = status_of(directory, file)
        if isinstance(status, OSError):
            if isinstance(status, PermissionError):
                continue
            return Image(file, problem=f"{file} cannot be read: {status.strerror}")
        if status is not None and stat.S_ISREG(status.st_mode):
            identity = status.st_dev, status.st_ino
            return Image(file, status.st_size, 512 * status.st_blocks, identity)
    return None


def objection_to(volume_id: str) -> str | None:
    """Say why this cannot be a volume's id; None if it can."""
    try:
        ids.split_id(volume_id)
    except InvalidName as error:
        return error.reason
    return None


def without_use(config: PoolConfig) -> list[str]:
    """Return the settings that someone changed and that have no effect on images that are only read."""
    return [
        name
        for name, default in PoolConfig._field_defaults.items()
        if name != "driver" and getattr(config, name) != default
    ]
