"""Finding volumes: a walk through the pool's directories, each read once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lifecycle import names
from lifecycle.backend import Surveyed
from lifecycle.config import CrashPolicy
from lifecycle.errors import InvalidName
from lifecycle.evidence import Evidence, gather, gather_all
from lifecycle.files import Directory
from lifecycle.judging import judge, leftover_files
from lifecycle.names import Kind
from lifecycle.states import AT_REST, State


class Found(NamedTuple):
    """A directory that can be a VM.

    Attributes:
        vm: the VM's name.
        directory: it, open until the next one is asked for.
        entries: what is in it.
    """

    vm: str
    directory: Directory
    entries: list[os.DirEntry[str]]


def vms_below(directory: Directory, path: str = "") -> Iterator[Found]:
    """Yield the directories that can be VMs.

    Args:
        directory: where to look.
        path: its own name in the pool.
    """
    entries = directory.entries()
    if path:
        yield Found(path, directory, entries)
    for name in sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False)):
        vm = f"{path}/{name}" if path else name
        # what vanishes while we walk is not there
        with contextlib.suppress(FileNotFoundError, InvalidName):
            names.check_vm(vm)
            with directory.step(name) as child:
                yield from vms_below(child, vm)


def volumes_below(directory: Directory) -> list[str]:
    """Return the ids of the volumes below a pool's directory, in the order of their VMs, then of their names."""
    found = [
        (one.vm, name)
        for one in vms_below(directory)
        for name in volumes_in(one.directory, one.entries)
    ]
    return [f"{vm}/{name}" for vm, name in sorted(found)]


def volumes_in(directory: Directory, entries: Iterable[os.DirEntry[str]]) -> list[str]:
    """Return the NAMEs of the volumes in a VM's directory, in order."""
    kinds: dict[str, set[str]] = {}
    for entry in entries:
        parsed = names.parse_file(entry.name)
        if parsed is not None:
            regular = entry.is_file(follow_symlinks=False)
            kinds.setdefault(parsed.volume, set()).add(parsed.kind if regular else "")
    return sorted(
        name for name, has in kinds.items() if _HAS_IMAGE & has or exists(directory, name)
    )


_HAS_IMAGE = {Kind.CURRENT, Kind.WORKING, Kind.REVISION}
"""What makes a volume be, whatever its record says."""


def names_in(entries: Iterable[os.DirEntry[str]]) -> list[str]:
    """Return the NAMEs that any file in a VM's directory bears, in order, of volumes or left behind."""
    parsed = (names.parse_file(entry.name) for entry in entries)
    return sorted({one.volume for one in parsed if one is not None})


def exists(directory: Directory, name: str) -> bool:
    """Tell whether there is a volume of that NAME in the VM's directory."""
    return judge(gather(directory, name), CrashPolicy.RESUME).view.state is not State.ABSENT


def survey(found: Found, on_crash: CrashPolicy) -> Iterator[Surveyed]:
    """Yield what a list shows of each volume in a VM's directory."""
    for evidence in gather_all(found.directory, found.entries):
        view = judge(evidence, on_crash).view
        if view.state is not State.ABSENT:
            image = evidence.working or evidence.current
            yield Surveyed(
                f"{found.vm}/{evidence.name}",
                view,
                _usage(found.directory, evidence),
                (image.st_dev, image.st_ino) if image else None,
            )


def is_restless(found: Found, on_crash: CrashPolicy) -> bool:
    """Tell whether a volume runs or is damaged in a VM's directory, or a crash left something there."""
    for evidence in gather_all(found.directory, found.entries):
        judged = judge(evidence, on_crash)
        at_rest = judged.view.state in AT_REST
        if not at_rest or judged.findings or any(leftover_files(evidence)):
            return True
    return False


def _usage(directory: Directory, evidence: Evidence) -> int:
    """Return the bytes allocated to a volume's images, a file with two names counted once."""
    found = [evidence.current, evidence.working, *evidence.revisions.statuses()]
    if Kind.PRECACHE in evidence.others.listed.entries:
        found.append(directory.stat(evidence.file(Kind.PRECACHE)))
    blocks = {one.st_ino: one.st_blocks for one in found if one is not None}
    return 512 * sum(blocks.values())
