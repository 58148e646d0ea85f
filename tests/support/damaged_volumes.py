"""What a crash or a person leaves of a volume: a record that cannot be read, and files that lie about."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from lifecycle import Pool, State, Volume
from support.disks import SIZE, cycle, draw

ID = "ci-42/root"


def beside(volume: Volume, ending: str) -> Path:
    """Return the path of a file of the volume."""
    return Path(f"{volume.pool.path}/{volume.id}{ending}")


def files_of(volume: Volume) -> set[str]:
    """Return the names in its VM's directory."""
    return set(os.listdir(beside(volume, "").parent))


LEFTOVERS = [
    "root.img~abcd1234",
    "root-dirty.img~0",
    "root.json~ffffffff",
    "root-import.img",
    "gone.json",
    "gone.img~abcd1234",
    "gone-import.img",
]
FOREIGN = [
    "notes.txt",
    "root.img.bak",
    "root.img@2018-01-02T03:04:05Z",
    "root.img.01@2026-01-02T03:04:05Z",
    ".root.img~abcd1234",
    "-root.json",
    "root",
]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def with_an_unreadable_record(pool: Pool, content: bytes, *, running: bool = False) -> Volume:
    """Return a volume with the revisions 1 and 2 and the current image 3, and such a record."""
    volume = pool.create_volume(ID, SIZE)
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    if running:
        volume.start()
        draw(volume, b"four!")
    beside(volume, ".json").write_bytes(content)
    assert volume.state is State.DAMAGED
    return volume
