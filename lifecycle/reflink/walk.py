"""Finds the volumes in the directories of VMs, and reads each directory once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias

from lifecycle.config import CrashPolicy
from lifecycle.errors import Holder
from lifecycle.linux.directories import Directory
from lifecycle.linux.status import Status, is_file, status_of
from lifecycle.machine.trees import Found, vms_below
from lifecycle.model import Surveyed, View
from lifecycle.reflink import names
from lifecycle.reflink.interpret import judge, leftover_files
from lifecycle.reflink.names import Kind
from lifecycle.reflink.scan import Evidence, gather, gather_all
from lifecycle.states import AT_REST, State


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
        parsed = names.parse_file(entry.name)
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
    parsed = (names.parse_file(entry.name) for entry in entries)
    return sorted({one.volume for one in parsed if one is not None})


def exists(directory: Directory, name: str) -> bool:
    """Tell whether there is a volume of that NAME in the VM's directory."""
    return judge(gather(directory, name), CrashPolicy.RESUME).view.state is not State.ABSENT


Users: TypeAlias = tuple[Holder, ...] | None
"""Who has an image open; None if that cannot be asked."""


class InUseBy(Protocol):
    """Tells who has a volume's image open, the working one if it runs."""

    def __call__(self, volume_id: str, image: os.stat_result | None, /, *, running: bool) -> Users:
        """Return who has it."""


def survey(found: Found, on_crash: CrashPolicy, in_use_by: InUseBy) -> Iterator[Surveyed]:
    """Yield what a list shows of each volume in a VM's directory; of one that cannot be listed, itself."""
    if found.problem is not None:
        damage = f"its directory cannot be listed: {found.problem.strerror}"
        view = View(state=State.DAMAGED, damage=damage)
        yield Surveyed(found.vm, view, 0, None, is_volume=False)
    for evidence in gather_all(found.directory, found.entries):
        view = judge(evidence, on_crash).view
        if view.state is not State.ABSENT:
            volume_id, usage = f"{found.vm}/{evidence.name}", _usage(found.directory, evidence)
            image = evidence.working or evidence.current
            users = in_use_by(volume_id, image, running=view.running)
            yield Surveyed(volume_id, view, usage, users)


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
