"""The data of an adoption: what was found in the tree, and what the plan makes of each volume."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from lifecycle.config import DEFAULT_KEEP, POOL_FILE, CrashPolicy, VolumeConfig
from lifecycle.errors import Holder
from lifecycle.model import Finding, Revision, View
from lifecycle.reflink.interpret import judge, view_of
from lifecycle.reflink.names import Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.scan import Evidence
from lifecycle.states import State

ON_CRASH = CrashPolicy.RESUME
"""The crash policy of an adopted pool: nothing that was left over is thrown away, or kept, before someone says so."""


@dataclass(frozen=True, slots=True)
class FoundVolume:
    """What was found of one volume.

    Attributes:
        id: its id.
        evidence: its files.
        history: its revisions and the current image among them.
        in_use_by: who holds its working image open, or the current one if there is none.
        filled: whether its current image holds any data.
        remarks: what is strange about its files.
    """

    id: str
    evidence: Evidence
    history: tuple[Revision, ...] = ()
    in_use_by: tuple[Holder, ...] = ()
    filled: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a tree.

    Attributes:
        path: its directory, absolute.
        vms: the directories that can be VMs.
        volumes: what has images or a record, by id.
        notes: files and directories that are no volume's, or that deserve a word.
        removable: files of the `file` driver that are of no more use, by their paths in the tree.
    """

    path: str
    vms: frozenset[str] = frozenset()
    volumes: Mapping[str, FoundVolume] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[Finding, ...] = ()
    removable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """What one volume becomes.

    Attributes:
        id: its id.
        view: what it is like then.
        told_by: what that was told from: `record`, `qubes.xml` or `images`.
        in_use_by: as found.
        remarks: what a person should know.
        record: the record to add; None if none is needed, or there is one.
        empty: the bytes of the empty image to add; None if none is needed.
    """

    id: str
    view: View
    told_by: str
    in_use_by: tuple[Holder, ...] = ()
    remarks: tuple[str, ...] = ()
    record: Record | None = None
    empty: int | None = None

    @property
    def is_fit(self) -> bool:
        """Whether it is a whole volume."""
        return self.view.state is not State.DAMAGED

    def remarked(self, *remarks: str) -> Planned:
        """Return it with further remarks."""
        return dataclasses.replace(self, remarks=(*self.remarks, *remarks))


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a tree.

    Attributes:
        path: its directory, absolute.
        keep: the retention policy's line of the pool.
        volumes: what each becomes, in the order of their VMs, then of their names.
        directories: those to make, of VMs that have no file yet.
        removed: files to remove, by their paths in the tree.
        notes: what else is to be said.
    """

    path: str
    keep: str = DEFAULT_KEEP
    volumes: tuple[Planned, ...] = ()
    directories: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def added(self) -> tuple[str, ...]:
        """What is added, by its path in the tree; directories end in `/`."""
        files = [
            one.id + kind
            for one in self.volumes
            for kind, wanted in ((Kind.RECORD, one.record), (Kind.CURRENT, one.empty))
            if wanted is not None
        ]
        return (*(f"{one}/" for one in self.directories), *files, POOL_FILE)


# ---------------------------------------------------------------- single volumes


def as_it_is(found: FoundVolume, told_by: str) -> Planned:
    """Return a volume for which nothing needs to be written down."""
    view = judge(found.evidence, ON_CRASH).view
    return Planned(found.id, view, told_by, found.in_use_by, found.remarks)


def recorded(found: FoundVolume, told_by: str, record: Record, *remarks: str) -> Planned:
    """Return a volume that gets this record."""
    view = judge(found.evidence._replace(record=record), ON_CRASH).view
    return Planned(
        found.id, view, told_by, found.in_use_by, (*found.remarks, *remarks), record=record
    )


def volatile(found: FoundVolume, told_by: str, config: VolumeConfig, now: datetime) -> Planned:
    """Return a volatile volume: its image to begin from is the one that is there, or an empty one to be made."""
    evidence = found.evidence
    if evidence.current is not None and found.filled:
        text = f"its image holds data; `lifecycle revert {found.id} --to empty` lets starts begin empty"
        own = judge(evidence, ON_CRASH).record._replace(config=config)
        return recorded(found, told_by, own, text)
    born = Record(config=config, current=0, at=now)
    if evidence.current is not None:
        # others made it, so it bears no seal
        return recorded(found, told_by, born._replace(sealed=1))
    return Planned(
        found.id,
        born_empty(evidence, born),
        told_by,
        found.in_use_by,
        found.remarks,
        record=born,
        empty=config.size,
    )


def born_empty(evidence: Evidence, record: Record) -> View:
    """Return what a volume is like once the empty image that it lacks is made."""
    view = view_of(evidence, record, ON_CRASH)
    return view._replace(size=record.config.size) if view.size is None else view
