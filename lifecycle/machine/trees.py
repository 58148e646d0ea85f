"""Walks the directories of a pool that can be VMs, past links and other pools among them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from lifecycle import ids
from lifecycle.config import POOL_SIGNS
from lifecycle.errors import ForeignFile, InAnotherPool, InvalidName, blames_file
from lifecycle.linux.directories import Directory
from lifecycle.linux.status import is_directory


class Found(NamedTuple):
    """A directory that can be a VM.

    Attributes:
        vm: the VM's name.
        directory: it, open until the next one is asked for.
        entries: what is in it.
        problem: why it could not be listed, if it could not be; it is not open then.
        is_pool: whether another pool lies there: that has it alone, with all below it.
    """

    vm: str
    directory: Directory
    entries: list[os.DirEntry[str]]
    problem: OSError | None = None
    is_pool: bool = False


def directories_below(directory: Directory, path: str = "") -> Iterator[Found]:
    """Yield the directories that can be VMs, those that cannot be listed too, and the pools that lie among them.

    Args:
        directory: where to look.
        path: its own name in the pool.

    Raises:
        OSError: the first directory cannot be listed.
    """
    try:
        entries = directory.entries()
    except OSError as error:
        if not path or not blames_file(error):
            raise
        yield Found(path, directory, [], error)
        return
    if path:
        is_pool = any(entry.name in POOL_SIGNS for entry in entries)
        yield Found(path, directory, entries, is_pool=is_pool)
        if is_pool:
            return
    for name in sorted(entry.name for entry in entries if is_directory(entry)):
        vm = f"{path}/{name}" if path else name
        try:
            ids.check_vm(vm)
            child = directory.step(name)
        except (FileNotFoundError, ForeignFile, InvalidName):
            continue  # no VM, or what vanishes or changes while we walk
        except OSError as error:
            if not blames_file(error):
                raise
            yield Found(vm, directory, [], error)
            continue
        with child:
            yield from directories_below(child, vm)


def vms_below(directory: Directory) -> Iterator[Found]:
    """Yield the directories below a pool's that can be its VMs, those that cannot be listed too."""
    return (one for one in directories_below(directory) if not one.is_pool)


def open_vm(root: Directory, vm: str, *, create: bool = False) -> Directory:
    """Open a VM's directory in a pool's, step by step.

    Args:
        root: the pool's directory.
        vm: the VM's name.
        create: make the directories that are missing (mode 0700), durably.

    Raises:
        FileNotFoundError: there is none, and `create` is not set.
        ForeignFile: a step is no directory.
        InAnotherPool: another pool lies at a step.
        OSError: a step cannot be opened, or it cannot be told whether another pool lies there.
    """
    here = root
    for part in vm.split("/"):
        above = here
        try:
            here = above.step(part, create=create)
        finally:
            if above is not root:
                above.close()
        try:
            if any(here.stat(sign) is not None for sign in POOL_SIGNS):
                raise InAnotherPool(vm, root.path, here.path)
        except BaseException:
            here.close()
            raise
    return here
