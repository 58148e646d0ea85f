"""Verify for such a directory: files that are no volume, and files that cannot be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from lifecycle import ids
from lifecycle.config import POOL_FILE, PoolConfig
from lifecycle.directory.tree import (
    CANNOT_BE_READ,
    files_in,
    image_of,
    name_of,
    objection_to,
    vms_below,
    without_use,
)
from lifecycle.errors import ForeignFile
from lifecycle.linux.directories import Directory
from lifecycle.model import Finding


def of_pool(root: Directory, config: PoolConfig) -> list[Finding]:
    """Return what is found in the whole pool."""
    found: list[Finding] = []

    def note(path: str, text: str) -> None:
        found.append(Finding(path, text, harmful=text.startswith(CANNOT_BE_READ)))

    def note_unless_hooks(path: str, text: str) -> None:
        if path != ids.HOOKS:
            note(path, text)

    for setting in without_use(config):
        note(POOL_FILE, f"`{setting}` has no effect, for nothing is ever written here")
    for file in files_in(root):
        if file != POOL_FILE:
            note(
                ids.printable(file),
                "lies in no VM, so it is no volume; a directory makes it one's",
            )
    for vm, directory in vms_below(root, passed_over=note_unless_hooks):
        found += of_vm(vm, directory)
    return found


def of_vm(vm: str, directory: Directory) -> list[Finding]:
    """Return what is found in one VM's directory."""
    return list(_findings(vm, directory))


def _findings(vm: str, directory: Directory) -> Iterator[Finding]:
    for file in files_in(directory):
        path = f"{vm}/{ids.printable(file)}"
        try:
            why = _why_no_volume(vm, directory, file)
            if why is not None:
                yield Finding(path, f"is no volume: {why}", harmful=False)
                continue
            fd = directory.open_file(file)
        except FileNotFoundError:
            continue  # it vanished while we looked
        except (ForeignFile, OSError) as error:
            yield Finding(path, f"cannot be read: {error}", harmful=True)
            continue
        if os.fstat(fd).st_size == 0:
            yield Finding(path, "is empty, so no VM can use it as a disk", harmful=False)
        os.close(fd)


def _why_no_volume(vm: str, directory: Directory, file: str) -> str | None:
    """Say why a file is no volume; None if it is one, or has vanished."""
    status = directory.stat(file)
    if status is None:
        return None
    if not stat.S_ISREG(status.st_mode):
        return f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'a device')}"
    name = name_of(file)
    objection = objection_to(f"{vm}/{name}")
    if objection is not None:
        return objection
    image = image_of(directory, name)
    if image is not None and image.file != file:
        return f"{vm}/{name} is the file {image.file} beside it; rename one of them"
    return None


_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
