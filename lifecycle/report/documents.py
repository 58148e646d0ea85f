"""The JSON that `--json` prints and hooks are given. Names in it are kept; what is unknown is null."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle.errors import LifecycleError, StorageFailed
from lifecycle.model import Attached, Attachment
from lifecycle.times import format_time

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.errors import Holder
    from lifecycle.model import Finding, Revision, Surveyed, View
    from lifecycle.policies import Plan

Document = dict[str, Any]


def of_volume(volume: Volume, *, revisions: bool = True) -> Document:
    """Return what `show` prints; `list` leaves the revisions out."""
    document = _of_view(volume, volume.look(), volume.usage, _in_use_by(volume))
    if revisions:
        document["revisions"] = [of_revision(one) for one in volume.revisions]
    return document


def of_survey(pool: Pool, vm: str | None = None) -> Iterator[Document]:
    """Yield what `list` prints of each of the pool's volumes, or of one VM's: in one go, for there may be many."""
    for one in pool.backend.survey(vm):
        if one.is_volume:
            yield _of_view(pool.volume(one.id), one.view, one.usage, one.in_use_by)
        else:
            yield _of_directory(one)


def _in_use_by(volume: Volume) -> Sequence[Holder] | None:
    """Return who holds its image open; None if that cannot be asked, for it cannot be opened."""
    try:
        return volume.in_use_by
    except StorageFailed:
        return None


def _of_directory(surveyed: Surveyed) -> Document:
    """Return what `list` prints of a VM whose volumes cannot be listed: as one that is damaged, without a name."""
    known: Document = {
        "id": surveyed.id,
        "vm": surveyed.id,
        "state": surveyed.view.state,
        "allowed": [],
        "damage": surveyed.view.damage,
    }
    return dict.fromkeys(_OF_A_VOLUME) | known


def _of_view(
    volume: Volume, view: View, usage: int, in_use_by: Sequence[Holder] | None
) -> Document:
    attachment = volume.attachment
    document: Document = {
        "id": volume.id,
        "vm": volume.vm,
        "name": volume.name,
        "state": view.state,
        "kind": view.config.kind,
        "size": volume.size_in(view),
        "usage": usage,
        "rw": view.config.rw,
        "source": view.config.source,
        "save_on_stop": view.config.save_on_stop,
        "snap_on_start": view.config.snap_on_start,
        "snapshots": view.config.snapshots,
        "path": str(attachment),
        "attachment": of_attachment(attachment),
        "current": view.current,
        "outdated": volume.outdated_in(view),
        "left_over": None if in_use_by is None else view.running and not in_use_by,
        "in_use_by": None if in_use_by is None else [one._asdict() for one in in_use_by],
        "keep": view.config.keep or volume.pool.config.keep,
        "on_crash": view.on_crash,
        "precache": view.config.precache or volume.pool.config.precache,
        "ready": view.config.ready,
        "allowed": list(view.allowed),
    }
    if view.damage is not None:
        document["damage"] = view.damage
    return document


_OF_A_VOLUME = (
    "id",
    "vm",
    "name",
    "state",
    "kind",
    "size",
    "usage",
    "rw",
    "source",
    "save_on_stop",
    "snap_on_start",
    "snapshots",
    "path",
    "attachment",
    "current",
    "outdated",
    "left_over",
    "in_use_by",
    "keep",
    "on_crash",
    "precache",
    "ready",
    "allowed",
)
"""The keys of a volume's document, in order."""


def of_attachment(attachment: Attachment) -> Document:
    """Return what a hypervisor is given for a disk; only of a network disk are all keys said."""
    kind = {"kind": attachment.kind, "name": attachment.name}
    if attachment.protocol is None:
        return kind
    return {
        **kind,
        "protocol": attachment.protocol,
        "hosts": list(attachment.hosts),
        "options": dict(attachment.options),
    }


def of_revision(revision: Revision) -> Document:
    """Return one revision."""
    return {
        "number": revision.number,
        "at": format_time(revision.at),
        "cause": revision.cause,
        "size": revision.size,
        "pinned": revision.pinned,
        "label": revision.label,
    }


def of_pool(pool: Pool, open_pool: Callable[[str], Pool]) -> Document:
    """Return what `pool` prints; `open_pool` opens the pool of a directory."""
    from lifecycle.machine import known_pools  # noqa: PLC0415 - not needed by a start
    from lifecycle.machine.nesting import Storage  # noqa: PLC0415 - not needed by a start

    name = known_pools.name_of(pool.path) or os.path.basename(pool.path)
    ground = Storage.now().ground(pool.path, known_pools.known(), _volume_in(open_pool))
    return _of_pool(pool, name, ground.included_in)


def _volume_in(open_pool: Callable[[str], Pool]) -> Callable[[str, str], str | None]:
    def volume_in(directory: str, file: str) -> str | None:
        image = Attachment(Attached.FILE, os.path.join(os.path.realpath(directory), file))
        try:
            return open_pool(directory).backend.id_of(image, any_image=True)
        except (LifecycleError, OSError):
            return None  # that pool cannot be asked now

    return volume_in


def _of_pool(pool: Pool, name: str, included_in: str | None) -> Document:
    capacity = pool.capacity()
    return {
        "name": name,
        "path": pool.path,
        "driver": pool.config.driver,
        "size": capacity.size,
        "usage": capacity.usage,
        "reflinks": capacity.reflinks,
        "volumes": _count(pool),
        "keep": pool.config.keep,
        "retention": pool.config.retention or None,
        "included_in": included_in,
    }


def _count(pool: Pool) -> int | None:
    """Return how many volumes the pool has; None if a directory cannot be listed."""
    try:
        return sum(1 for _volume in pool)
    except StorageFailed:
        return None


_UNKNOWN = (
    "driver",
    "size",
    "usage",
    "reflinks",
    "volumes",
    "keep",
    "retention",
    "included_in",
)


def of_known_pools(open_pool: Callable[[str], Pool]) -> list[Document]:
    """Return what `pools` prints: each known pool as `pool` does, with two keys more.

    `problem` says why a pool cannot be looked at; then all else but its name and path is null. `counted` is whether
    its size and usage belong in a total that counts no space twice.

    Args:
        open_pool: opens the pool of a directory, which mounts an embedded one.
    """
    from lifecycle.machine import known_pools  # noqa: PLC0415 - not needed by a start
    from lifecycle.machine.nesting import Ground, Storage, counted  # noqa: PLC0415 - not needed by a start

    known = known_pools.known()
    found: list[Document] = []
    pools: list[Pool | None] = []
    for one in known:
        document = {"name": one.name, "path": one.path} | dict.fromkeys(_UNKNOWN)
        try:
            pool = open_pool(one.path)
            document |= _of_pool(pool, one.name, None) | {"problem": None}
            pools.append(pool)
        except (LifecycleError, OSError) as error:
            document["problem"] = str(error)
            pools.append(None)
        found.append(document)
    storage = Storage.now()  # only now, when all are mounted
    grounds: list[Ground | None] = [
        None if pool is None else storage.ground(pool.path, known, _volume_in(open_pool))
        for pool in pools
    ]
    for document, ground, counts in zip(found, grounds, counted(grounds), strict=True):
        document["included_in"] = None if ground is None else ground.included_in
        document["counted"] = counts
    return found


def of_plan(volume: Volume, plan: Plan) -> Document:
    """Return what `prune` prints of one volume."""
    return {
        "id": volume.id,
        "revisions": [
            {"number": one.number, "keep": one.keep, "reasons": list(one.reasons)}
            for one in plan.verdicts
        ],
    }


def of_finding(finding: Finding) -> Document:
    """Return what `verify` prints of one finding."""
    return {"path": finding.path, "text": finding.text, "harmful": finding.harmful}
