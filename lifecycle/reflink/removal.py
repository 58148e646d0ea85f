"""Removes a volume, and what crashes left behind."""

from __future__ import annotations

import contextlib

from lifecycle.model import Change
from lifecycle.reflink import precached, walk, withdrawal
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.interpret import leftover_files
from lifecycle.reflink.names import Kind
from lifecycle.reflink.store import Store
from lifecycle.states import State


def clear(opened: VolumeImages) -> None:
    """Remove what a crash left behind and no one needs."""
    for file in leftover_files(opened.evidence):
        opened.directory.remove(file)


def remove(opened: VolumeImages, change: Change) -> None:
    """Remove all images, the current one last, and then the record: without images there is no volume.

    Raises:
        InUse: someone has one open that a VM may write to; nothing is removed.
    """
    found = {Kind.WORKING: opened.evidence.working, Kind.CURRENT: opened.evidence.current}
    with contextlib.ExitStack() as unused:
        images = {
            kind: unused.enter_context(withdrawal.withdrawn(opened, change, kind, throws_away=True))
            for kind, status in found.items()
            if status is not None
        }
        clear(opened)
        revisions = (one.file for one in opened.evidence.revisions.values())
        for file in (*revisions, *opened.evidence.revisions.doubles):
            opened.directory.remove(file)
        precached.drop(opened)
        opened.directory.remove(opened.name + Kind.COW)
        for kind in found:
            if kind in images:
                withdrawal.drop(opened, change, images[kind], kind)
            else:
                opened.directory.remove(opened.name + kind)
    opened.directory.sync()
    opened.directory.remove(opened.name + Kind.RECORD)
    opened.directory.sync()


def tidy(store: Store, vm: str) -> None:
    """Remove the leftovers of all names in a locked VM's directory, and records without images."""
    with store.directory(vm) as directory:
        for name in walk.names_in(directory.entries()):
            with store.opened(f"{vm}/{name}") as opened:
                if opened.evidence.unreadable is not None:
                    continue  # what is of no worth cannot be told by less than all of it
                clear(opened)
                if opened.view.state is State.ABSENT:
                    precached.drop(opened)
                    directory.remove(name + Kind.RECORD)
        directory.sync()
    store.drop_empty(vm)
