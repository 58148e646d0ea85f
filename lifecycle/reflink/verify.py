"""Verify for a reflink pool: accounts for every file, and changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime

from lifecycle import config as settings
from lifecycle import ids, times
from lifecycle.config import CrashPolicy
from lifecycle.errors import storage
from lifecycle.linux.directories import Directory
from lifecycle.linux.status import is_directory, status_of
from lifecycle.machine.trees import Found, directories_below, open_vm
from lifecycle.model import Finding, View
from lifecycle.reflink import names, seals
from lifecycle.reflink.interpret import Judgement, is_copied, judge, leftover_files, two_files
from lifecycle.reflink.names import FileName, Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.scan import ATTEMPTS, Evidence, bears_seal, gather, gather_all, marks
from lifecycle.reflink.walk import exists
from lifecycle.states import State

_OF_THE_POOL = {settings.POOL_FILE, ids.HOOKS}
_TOLD_WITH_THEIR_VOLUME = (Kind.RECORD, Kind.CURRENT, Kind.WORKING, Kind.COW)
_OLD_NAMING = "a revision of the older naming, without a number; left alone"
_COW = "of the older `file` driver, which keeps changes there; left alone"
_ANOTHER_POOL = "another pool lies there, with all that is below it; left alone"
_FOREIGN = "not a file of any volume; left alone"


def findings(
    path: str,
    vm: str | None,
    on_crash: CrashPolicy,
    walk: Callable[[Directory], Iterator[Found]] = directories_below,
) -> Iterator[Finding]:
    """Yield what is found in the pool at this path, or in one VM of it; `walk` yields what lies in it.

    Raises:
        StorageFailed: the pool's own directory, or the VM's, cannot be listed.
    """
    with storage(vm or path, "verify"), Directory.open(path) as root:
        if vm is not None:
            with open_vm(root, vm) as directory:
                yield from _in_vm(vm, directory, directory.entries(), on_crash)
            return
        for entry in sorted(root.entries(), key=lambda one: one.name):
            if not is_directory(entry) and entry.name not in _OF_THE_POOL:
                yield Finding(ids.printable(entry.name), _FOREIGN, harmful=False)
        for found in walk(root):
            if found.is_pool:
                yield Finding(ids.printable(found.vm), _ANOTHER_POOL, harmful=False)
                continue
            if found.problem is not None:
                text = f"damaged: its directory cannot be listed: {found.problem.strerror}"
                yield Finding(ids.printable(found.vm), text, harmful=True)
            yield from _in_vm(found.vm, found.directory, found.entries, on_crash)


def _in_vm(
    vm: str, directory: Directory, entries: list[os.DirEntry[str]], on_crash: CrashPolicy
) -> Iterator[Finding]:
    there = set()
    for evidence in gather_all(directory, entries):
        judged = judge(evidence, on_crash)
        if judged.view.state is not State.ABSENT:
            there.add(evidence.name)
            yield from _of_volume(vm, directory, evidence, judged, on_crash)
    for entry in sorted(entries, key=lambda one: one.name):
        if not is_directory(entry):
            yield from _of_file(f"{vm}/{ids.printable(entry.name)}", entry, directory, there)


def _of_volume(
    vm: str, directory: Directory, evidence: Evidence, judged: Judgement, on_crash: CrashPolicy
) -> list[Finding]:
    """Return what is found of one volume, as of one moment."""
    for _attempt in range(ATTEMPTS):
        found = list(_examine(vm, directory, evidence, judged))
        if marks(directory, evidence.name) == evidence.marks:
            break
        evidence = gather(directory, evidence.name)
        judged = judge(evidence, on_crash)
    return found


def _examine(
    vm: str, directory: Directory, evidence: Evidence, judged: Judgement
) -> Iterator[Finding]:
    volume_id = f"{vm}/{evidence.name}"
    if judged.view.state is State.DAMAGED:
        text = f"damaged: {judged.view.damage}; `lifecycle revert` or `import` leads back"
        yield Finding(volume_id, text, harmful=True)
    for finding in judged.findings:
        yield Finding(volume_id, f"{finding}; the next event mends it", harmful=False)
    for file in evidence.revisions.doubles:
        text = (
            "bears the number of another revision, which counts; this one is not listed, and stays"
        )
        yield Finding(f"{vm}/{file}", text, harmful=False)
    for file in leftover_files(evidence):
        if status_of(directory, file) is not None:
            text = "left behind by a crash; the next start removes it"
            yield Finding(f"{vm}/{file}", text, harmful=False)
    if is_copied(evidence) and not judged.findings and evidence.record is not None:
        yield Finding(volume_id, f"{two_files(evidence.record)}; both are kept", harmful=False)
    yield from _of_seals(vm, directory, evidence, judged)
    if evidence.working is not None and _may_be_older(evidence, judged):
        yield Finding(f"{vm}/{evidence.file(Kind.WORKING)}", _OLDER, harmful=True)


def _of_seals(
    vm: str, directory: Directory, evidence: Evidence, judged: Judgement
) -> Iterator[Finding]:
    volume_id = f"{vm}/{evidence.name}"
    # a current image that has another number by now is sealed with it when that is written down
    before = evidence.record or judged.record
    is_sealed_later = bool(judged.findings) and bears_seal(evidence.current, before)
    for number, file, status, at in sealed_images(directory, evidence, judged.view, judged.record):
        if is_sealed_later and number == judged.view.current:
            continue
        where = f"{vm}/{file}"
        if status.st_size == 0:
            yield Finding(where, "was cut short: it is empty", harmful=True)
        elif not seals.is_sealed(status, number, at):
            yield Finding(where, _unsealed(volume_id, number, status), harmful=True)


def _unsealed(volume_id: str, number: int, status: os.stat_result) -> str:
    """Say what is the matter with an image that does not bear its seal."""
    how = f"if you know it to be right, `lifecycle accept {volume_id}`"
    if seals.lost_nanoseconds(status):
        return (
            f"has a time without nanoseconds, so it cannot be told whether it still is {number}: a tool that copied it"
            f" dropped them; {how}"
        )
    return f"was changed in place since it became {number}, or copied without its times; {how}"


_OLDER = (
    "was last written to before the current image was made: a copy or a restore may have left it there, of an earlier"
    " run. Compare them before the volume is started or stopped: `lifecycle export` reads the current image"
)


def _may_be_older(evidence: Evidence, judged: Judgement) -> bool:
    """Tell whether a working image that does not say what it was made from is older than the current image."""
    if evidence.working is None or evidence.made_from is not None or evidence.moved:
        return False
    differs, second = judged.view.differs, judged.record.second
    return differs and judged.view.saves and seals.second_in(evidence.working) < second


def sealed_images(
    directory: Directory, evidence: Evidence, view: View, record: Record
) -> Iterator[tuple[int, str, os.stat_result, datetime]]:
    """Yield number, file name, status and moment of the images that should bear their seal and can be looked at."""
    made = {number: (one.file, one.at) for number, one in evidence.revisions.items()}
    if view.current is not None and view.state is not State.DAMAGED:
        at = evidence.revisions[view.current].at if view.current in made else record.at
        made[view.current] = evidence.name + Kind.CURRENT, at or times.EARLIEST
    for number, (file, at) in sorted(made.items()):
        status = status_of(directory, file)
        if isinstance(status, os.stat_result) and number >= record.sealed:
            yield number, file, status, at


def _of_file(
    path: str, entry: os.DirEntry[str], directory: Directory, there: set[str]
) -> Iterator[Finding]:
    status = status_of(directory, entry.name)
    if status is None:
        return  # it vanished while we looked
    parsed = names.parse_file(entry.name)
    if parsed is None:
        old = names.is_old_revision(entry.name)
        yield Finding(path, _OLD_NAMING if old else _FOREIGN, harmful=False)
    elif isinstance(status, OSError):
        if parsed.kind not in _TOLD_WITH_THEIR_VOLUME or parsed.volume not in there:
            yield Finding(path, f"cannot be read: {status.strerror}", harmful=True)
    elif not stat.S_ISREG(status.st_mode):
        yield Finding(path, "not a regular file, but named as one of a volume", harmful=True)
    elif parsed.kind == Kind.COW:
        yield Finding(path, _COW, harmful=False)
    elif parsed.volume not in there and not exists(directory, parsed.volume):
        yield Finding(path, _without_volume(parsed), harmful=False)


def _without_volume(parsed: FileName) -> str:
    if parsed.kind == Kind.RECORD:
        return (
            "a record without images, of a volume that was being made or removed when a crash came"
        )
    return f"left behind by a crash; there is no volume {parsed.volume}"
