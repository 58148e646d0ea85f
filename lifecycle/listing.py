"""Finding volumes: a walk through the pool's directories."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lifecycle import names
from lifecycle.config import CrashPolicy
from lifecycle.errors import InvalidName
from lifecycle.evidence import gather
from lifecycle.files import Directory
from lifecycle.judging import judge
from lifecycle.states import State


def volumes_below(directory: Directory) -> list[str]:
    """Return the ids of the volumes below a pool's directory, in the order of their VMs, then of their names."""
    found = [(vm, name) for vm, inside in vms_below(directory) for name in volumes_in(inside)]
    return [f"{vm}/{name}" for vm, name in sorted(found)]


def vms_below(directory: Directory, path: str = "") -> Iterator[tuple[str, Directory]]:
    """Yield the directories that can be VMs, with their names, each open until the next is asked for.

    Args:
        directory: where to look.
        path: its own name in the pool.
    """
    if path:
        yield path, directory
    below = sorted(
        entry.name for entry in directory.entries() if entry.is_dir(follow_symlinks=False)
    )
    for name in below:
        vm = f"{path}/{name}" if path else name
        # what vanishes while we walk is not there
        with contextlib.suppress(FileNotFoundError, InvalidName):
            names.check_vm(vm)
            with directory.child(name) as child:
                yield from vms_below(child, vm)


def volumes_in(directory: Directory) -> list[str]:
    """Return the NAMEs of the volumes in a VM's directory, in order."""
    return [name for name in names_in(directory) if exists(directory, name)]


def names_in(directory: Directory) -> list[str]:
    """Return the NAMEs that any file in a VM's directory bears, in order, of volumes or left behind."""
    parsed = (names.parse_file(entry.name) for entry in directory.entries())
    return sorted({one.volume for one in parsed if one is not None})


def exists(directory: Directory, name: str) -> bool:
    """Tell whether there is a volume of that NAME in the VM's directory."""
    return judge(gather(directory, name), CrashPolicy.RESUME).view.state is not State.ABSENT
