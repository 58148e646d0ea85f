"""From a disk's path, as a hypervisor knows it, to the volume in one of the known pools."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lifecycle.engine.pool import Pool
from lifecycle.machine import known_pools

if TYPE_CHECKING:
    from lifecycle.engine.volume import Volume


def volume_at(path: str) -> Volume | None:
    """Return the volume, of a known pool, whose working image has this path; None if there is none.

    Raises:
        LifecycleError: the pool it would be in cannot be opened.
    """
    directory, file = os.path.split(os.path.abspath(path))
    real = os.path.join(os.path.realpath(directory), file)
    # of pools within pools, the innermost holds the file
    for one in sorted(known_pools.known(), key=lambda one: -len(os.path.realpath(one.path))):
        root = os.path.realpath(one.path)
        if os.path.commonpath([root, real]) != root:
            continue
        pool = Pool.open(one.path)
        volume_id = pool.backend.id_at(os.path.relpath(real, root))
        return pool[volume_id] if volume_id is not None and volume_id in pool else None
    return None
