"""What a VM wrote and its disk refused; and whether all that can be had is what the disk holds."""

from __future__ import annotations

import os

from lifecycle import Pool, Volume
from support.disks import MIB, cycle, draw, seen
from support.thin_disk import ThinDisk

SIZE = 4 * MIB
REFUSED_AT, REFUSED = 2 * MIB, b"refused!" * (MIB // 8)
"""What the disk refuses, where nothing was before."""


def written(pool: Pool, volume_id: str = "ci/root", **settings: object) -> Volume:
    """Return a volume that has a content, runs, and was written to by its VM, all of which is on the disk."""
    volume = pool.create_volume(volume_id, SIZE, **settings)
    if volume.config.save_on_stop:
        cycle(volume, b"one")
    volume.start()
    draw(volume, b"two")
    os.sync()
    return volume


def refused(disk: ThinDisk, *volumes: Volume) -> None:
    """Let VMs write what the disk refuses; it has not been asked yet."""
    disk.refuse()
    for volume in volumes:
        draw(volume, REFUSED, REFUSED_AT)


def images(pool: Pool) -> dict[tuple[str, int | None], bytes]:
    """Return what is read of each image that lifecycle acknowledges."""
    found = {}
    for volume in pool:
        numbers = [None, *(one.number for one in volume.revisions)]
        for number in numbers if volume.look().current is not None else numbers[1:]:
            found[volume.id, number] = seen(volume, number)
    return found


def nothing_is_other_than_on_the_disk(pool: Pool, disk: ThinDisk) -> None:
    before = images(pool)
    disk.reboot()
    assert {key for key, content in images(pool).items() if content != before[key]} == set()
