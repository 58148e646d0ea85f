"""From a disk's path, as a hypervisor knows it, to the volume in one of the known pools."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle.engine.pool import Pool
from lifecycle.errors import LifecycleError
from lifecycle.machine import known_pools
from lifecycle.model import Attached, Attachment

if TYPE_CHECKING:
    from lifecycle.engine.volume import Volume

log = logging.getLogger("lifecycle.lookup")


def volume_at(path: str) -> Volume | None:
    """Return the volume, of a known pool, whose working image has this path; None if there is none.

    Raises:
        LifecycleError: the pool it would be in cannot be opened.
    """
    return volume_of(Attachment(Attached.FILE, path))


def volume_of(attachment: Attachment) -> Volume | None:
    """Return the volume, of a known pool, that a hypervisor is given by this; None if there is none.

    A file can only be of the pool that it lies in. For anything else each known pool is asked; one that cannot be
    opened is passed over, and that is logged.

    Raises:
        LifecycleError: the pool that a file would be of cannot be opened.
    """
    if attachment.kind is not Attached.FILE:
        found = (_volume_in(pool, attachment) for pool in _known())
        return next((one for one in found if one is not None), None)
    directory, file = os.path.split(os.path.abspath(attachment.name))
    real = os.path.join(os.path.realpath(directory), file)
    # of pools within pools, the innermost holds the file
    for one in sorted(known_pools.known(), key=lambda one: -len(os.path.realpath(one.path))):
        root = os.path.realpath(one.path)
        if os.path.commonpath([root, real]) == root:
            return _volume_in(Pool.open(one.path), attachment._replace(name=real))
    return None


def _known() -> Iterator[Pool]:
    """Yield the known pools that can be opened."""
    for one in known_pools.known():
        try:
            yield Pool.open(one.path)
        except (LifecycleError, OSError) as error:
            log.warning("the pool %s is passed over: %s", one.name, error)


def _volume_in(pool: Pool, attachment: Attachment) -> Volume | None:
    volume_id = pool.backend.id_of(attachment)
    return pool[volume_id] if volume_id is not None and volume_id in pool else None
