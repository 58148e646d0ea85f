"""Image files as other programs make them, and what is in a pool into which they are imported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lifecycle import Pool, Volume
from support.disks import MIB, disk, seen

DISK = disk(b"a disk", size=8 * MIB)
"""What the images of these tests hold."""
IMAGES = {
    "qcow2": ("qcow2",),
    "qcow2-old": ("qcow2", "-o", "compat=0.10"),
    "qcow2-compressed": ("qcow2", "-c"),
    "qcow": ("qcow",),
    "qed": ("qed",),
    "vmdk": ("vmdk",),
    "vmdk-stream": ("vmdk", "-o", "subformat=streamOptimized"),
    "vdi": ("vdi",),
    "vhd": ("vpc", "-o", "force_size=on"),
    "vhd-fixed": ("vpc", "-o", "force_size=on,subformat=fixed"),
    "vhdx": ("vhdx",),
    "parallels": ("parallels",),
}
"""Kinds of images, and how qemu-img makes them."""
Make = Callable[..., Path]


def is_as_it_was(volume: Volume) -> bool:
    """Tell whether nothing has become of the volume."""
    return (volume.state, volume.current, seen(volume)) == ("committed", 1, disk(b"as it was"))


def in_the_pool(pool: Pool) -> set[str]:
    return set(os.listdir(pool.path))
