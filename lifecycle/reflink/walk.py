"""Finding volumes: a walk through the pool's directories, each read once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lifecycle import ids
from lifecycle.backend import Surveyed, View
from lifecycle.config import POOL_SIGNS, CrashPolicy
from lifecycle.errors import ForeignFile, InAnotherPool, InvalidName, blames_file
from lifecycle.ids import Kind
from lifecycle.linux.files import Directory
from lifecycle.reflink.interpret import judge, leftover_files
from lifecycle.reflink.listing import Status, is_file, status_of
from lifecycle.reflink.scan import Evidence, gather, gather_all
from lifecycle.states import AT_REST, State


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


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Tell whether this is a directory, and no link to one; what cannot be told counts as one, to be looked at."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return True


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


def volumes_below(directory: Directory) -> tuple[list[str], list[Found]]:
    """Return the ids of the volumes below a pool's directory, and the directories that could not be listed.

    The ids come in the order of their VMs, then of their names.
    """
    found, failed = [], []
    for one in vms_below(directory):
        if one.problem is not None:
            failed.append(one)
        found += [(one.vm, name) for name in volumes_in(one.directory, one.entries)]
    return [f"{vm}/{name}" for vm, name in sorted(found)], failed


def volumes_in(directory: Directory, entries: Iterable[os.DirEntry[str]]) -> list[str]:
    """Return the NAMEs of the volumes in a VM's directory, in order."""
    kinds: dict[str, set[str]] = {}
    for entry in entries:
        parsed = ids.parse_file(entry.name)
        if parsed is not None:
            regular = is_file(entry)
            kinds.setdefault(parsed.volume, set()).add(parsed.kind if regular else "")
    return sorted(
        name for name, has in kinds.items() if _HAS_IMAGE & has or exists(directory, name)
    )


_HAS_IMAGE = {Kind.CURRENT, Kind.WORKING, Kind.REVISION}
"""What makes a volume be, whatever its record says."""


def names_in(entries: Iterable[os.DirEntry[str]]) -> list[str]:
    """Return the NAMEs that any file in a VM's directory bears, in order, of volumes or left behind."""
    parsed = (ids.parse_file(entry.name) for entry in entries)
    return sorted({one.volume for one in parsed if one is not None})


def exists(directory: Directory, name: str) -> bool:
    """Tell whether there is a volume of that NAME in the VM's directory."""
    return judge(gather(directory, name), CrashPolicy.RESUME).view.state is not State.ABSENT


def survey(found: Found, on_crash: CrashPolicy) -> Iterator[Surveyed]:
    """Yield what a list shows of each volume in a VM's directory; of one that cannot be listed, itself."""
    if found.problem is not None:
        damage = f"its directory cannot be listed: {found.problem.strerror}"
        view = View(state=State.DAMAGED, damage=damage)
        yield Surveyed(found.vm, view, 0, None, is_volume=False)
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
    """Tell whether a volume runs or is damaged in a VM's directory, or a crash left something there.

    One that cannot be listed is not at rest either.
    """
    if found.problem is not None:
        return True
    for evidence in gather_all(found.directory, found.entries):
        judged = judge(evidence, on_crash)
        at_rest = judged.view.state in AT_REST
        if not at_rest or judged.findings or any(leftover_files(evidence)):
            return True
    return False


def _usage(directory: Directory, evidence: Evidence) -> int:
    """Return the bytes allocated to a volume's images, a file with two names counted once."""
    found: list[Status] = [evidence.current, evidence.working, *evidence.revisions.statuses()]
    if Kind.PRECACHE in evidence.others.listed.entries:
        found.append(status_of(directory, evidence.file(Kind.PRECACHE)))
    blocks = {one.st_ino: one.st_blocks for one in found if isinstance(one, os.stat_result)}
    return 512 * sum(blocks.values())
