"""From what was found in a tree of images to the plan that makes it a pool. Pure: reads and changes nothing.

How this works. Of each volume this is asked, in this order: does it have a record, which stays; does a qubes.xml say
what it is; what do its images say? An image without a record is a persistent volume with default settings, so a record
is planned only where there is more to say: settings of its own, or a volume that keeps nothing. Of these, a volatile
one needs an image to begin from, an empty one, which is planned with its record. No file that is there is written to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import datetime

from lifecycle import policies
from lifecycle.adopt.findings import (
    Found,
    FoundVolume,
    Plan,
    Planned,
    as_it_is,
    born_empty,
    volatile,
)
from lifecycle.adopt.plan_xml import Said
from lifecycle.config import DEFAULT_KEEP, Kind, VolumeConfig
from lifecycle.ids import MAX_NUMBER
from lifecycle.reflink.scan import Evidence
from lifecycle.sizes import SECTOR, round_up
from lifecycle.states import RUNNING

_BY_IMAGES, _BY_RECORD = "images", "record"


def plan(
    found: Found,
    now: datetime,
    said: Said | None = None,
    *,
    keep: str | None = None,
    remove_cow: bool = False,
) -> Plan:
    """Return what the tree becomes.

    Args:
        found: what is there.
        now: the moment that new records bear.
        said: what a qubes.xml says.
        keep: the retention policy's line, whatever the qubes.xml says; by default that, else every pool's default.
        remove_cow: whether to remove what the `file` driver left and is of no more use.

    Raises:
        InvalidPolicy: `keep` is none.
    """
    said = said or Said()
    if keep is not None:
        said = said.without_keep()
    keep = keep or said.keep or DEFAULT_KEEP
    here = {one.id: _of_files(one, said, now) for one in found.volumes.values()}
    missing = [FoundVolume(one, _no_files(one)) for one in said.volumes if one not in here]
    of_xml = [said.of_volume(one, now) for one in missing]
    planned = here | {one.id: one for one in of_xml if one is not None}
    ordered = sorted(planned.values(), key=lambda one: one.id.rpartition("/")[::2])
    volumes = [
        one.remarked(
            *said.source_remarks(one, planned),
            *_cautions(found.volumes.get(one.id), one, keep, now),
        )
        for one in ordered
    ]
    removed = found.removable if remove_cow else ()
    notes = (*(one for one in found.notes if one.path not in removed), *said.notes(planned))
    directories = tuple(_missing_directories(volumes, found.vms))
    return Plan(found.path, keep, tuple(volumes), directories, removed, notes)


def _of_files(found: FoundVolume, said: Said, now: datetime) -> Planned:
    """Return what a volume becomes that has files."""
    if found.evidence.record is not None:
        remarks = ["it has a record, which stays, whatever qubes.xml says"]
        return _as_recorded(found).remarked(*(remarks if found.id in said.volumes else ()))
    by_xml = said.of_volume(found, now)
    if by_xml is not None:
        return by_xml
    return _as_images_say(found, now).remarked(*said.remarks(found.id))


def _as_recorded(found: FoundVolume) -> Planned:
    """Return a volume with a record; one whose empty image an adoption did not come to gets it."""
    planned, record = as_it_is(found, _BY_RECORD), found.evidence.record
    if record is None or record.config.kind is not Kind.VOLATILE or found.evidence.current:
        return planned
    if record.current != 0:
        return planned
    return dataclasses.replace(
        planned, view=born_empty(found.evidence, record), empty=record.config.size
    )


def _as_images_say(found: FoundVolume, now: datetime) -> Planned:
    """Return a volume of which only the images are known.

    A working image alone was made for a volume that keeps nothing: one that does has a current image from its birth.
    """
    working = found.evidence.working
    if working is None or found.evidence.current or found.evidence.revisions:
        return as_it_is(found, _BY_IMAGES)
    if found.evidence.damage is not None:
        return as_it_is(found, _BY_IMAGES)
    config = VolumeConfig(size=round_up(working.st_size) or SECTOR, save_on_stop=False)
    return volatile(found, _BY_IMAGES, config, now).remarked(
        "a working image alone, so of a volume that keeps nothing: taken for volatile"
    )


def _no_files(volume_id: str) -> Evidence:
    return Evidence(volume_id.rpartition("/")[2])


def _missing_directories(volumes: Iterable[Planned], vms: Iterable[str]) -> Iterator[str]:
    """Yield the directories that the volumes need and that are not there, outer ones first."""
    there = set(vms)
    for one in volumes:
        parts = one.id.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            if directory not in there:
                there.add(directory)
                yield directory


# ---------------------------------------------------------------- remarks


def _cautions(found: FoundVolume | None, one: Planned, keep: str, now: datetime) -> Iterator[str]:
    """Say what a person should know of a volume that has files before it is used."""
    if found is None or not one.is_fit:
        return
    if one.in_use_by and one.view.state not in RUNNING:
        yield "its image itself is in use: stop its VM with the driver that started it before a start"
    if one.view.next > MAX_NUMBER:
        yield "its numbers are used up, so it cannot commit; clone it to a new volume"
    elif one.view.saves:
        line = one.view.config.keep or keep
        after = [revision._replace(current=False) for revision in found.history]
        gone = policies.parse(line).plan(after, now).remove
        if gone:
            numbers = ", ".join(str(number) for number in gone)
            yield f"keeps {line}: its next commit removes {numbers}"
