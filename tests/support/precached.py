"""Working images made ahead: made here as the process in the background does, and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lifecycle import Volume
from support.disks import SIZE, cycle


def make(volume: Volume) -> int:
    """Do what the process in the background does."""
    return volume.pool.backend.make_ahead(volume.id)


def precache(volume: Volume) -> Path:
    return Path(volume.pool.path, f"{volume.id}-precache.img")


def waiting(volume: Volume) -> list[Path]:
    return sorted(Path(volume.pool.path, volume.vm).glob(".ready/*"))


CHANGES: dict[str, Callable[[Volume], object]] = {
    "commit": lambda volume: cycle(volume, b"two"),
    "revert": lambda volume: volume.revert(0),
    "resize": lambda volume: volume.resize(2 * SIZE),
    "import": lambda volume: volume.import_from(volume.pool["ci/other"]),
}
