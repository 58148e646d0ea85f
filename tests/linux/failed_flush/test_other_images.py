"""A flush that failed of an image that no VM wrote to: one that was copied here, made ahead, or is to be imported."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lifecycle import Pool, StorageFailed, Volume
from lifecycle.errors import FlushError, FlushFailed, Refused
from support.disks import cycle, seen
from support.refused_writes import (
    REFUSED,
    REFUSED_AT,
    SIZE,
    nothing_is_other_than_on_the_disk,
    written,
)
from support.thin_disk import ThinDisk


def test_a_current_image_that_others_put_there(disk: ThinDisk, pool: Pool) -> None:
    if disk.kind == "plain":
        pytest.skip("there it is copied, and not flushed")
    written(pool)
    disk.refuse()
    volume = Volume(pool, "ci/adopted")
    with open(f"{pool.path}/ci/adopted.img", "wb") as image:
        image.write(REFUSED)
    with pytest.raises(FlushFailed) as caught:
        volume.start()
    assert caught.value.image.endswith("/ci/adopted.img")
    disk.take()
    with pytest.raises(Refused, match="flush of its current image failed"):
        volume.start()
    volume.revert()
    assert seen(volume) != REFUSED
    nothing_is_other_than_on_the_disk(pool, disk)
    volume.start()


def test_an_image_that_was_copied_here_is_not_accepted(disk: ThinDisk, pool: Pool) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    (file,) = Path(pool.path, "ci").glob("root.img.1@*")
    os.utime(file)
    os.truncate(file, 0)
    disk.refuse()
    with open(file, "r+b") as image:
        image.write(REFUSED * 4)
    os.utime(file)
    os.sync()
    disk.take()
    with pytest.raises(FlushFailed) as caught:
        volume.accept()
    assert caught.value.image == str(file)
    with pytest.raises(Refused, match="copy it anew"):
        volume.accept()


def test_a_current_image_that_a_copy_without_hard_links_brought(disk: ThinDisk, pool: Pool) -> None:
    """It gets another number, and is sealed with that: which must not be the last that is heard of it."""
    volume = pool.create_volume("ci/root", SIZE)
    for mark in (b"one", b"two"):
        cycle(volume, mark)
    volume.revert()
    current = Path(pool.path, "ci/root.img")
    status = os.stat(current)
    disk.refuse()
    copy = current.with_name("copy")
    shutil.copy2(current, copy)
    with open(copy, "r+b") as image:
        image.seek(REFUSED_AT)
        image.write(REFUSED)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(copy, current)
    with pytest.raises(FlushFailed) as caught:
        volume.start()
    assert caught.value.image == str(current)
    disk.take()
    for _twice in range(2):
        with pytest.raises(Refused, match="flush of its current image failed"):
            volume.start()
    volume.revert()
    nothing_is_other_than_on_the_disk(pool, disk)


def test_an_image_made_ahead_of_one_that_was_refused(disk: ThinDisk, pool: Pool) -> None:
    if disk.kind == "plain":
        pytest.skip("there it is copied, and not flushed")
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    volume.configure(precache="always")
    current = Path(pool.path, "ci/root.img")
    disk.refuse()
    with open(current, "r+b") as image:
        image.seek(REFUSED_AT)
        image.write(REFUSED)
    with pytest.raises(FlushError) as caught:
        pool.backend.make_ahead(volume.id)
    assert caught.value.filename == str(current)
    assert not current.with_name("root-precache.img").exists()
    disk.take()
    with pytest.raises(Refused, match="flush of its current image failed"):
        volume.start()


def test_a_file_that_is_to_be_imported(disk: ThinDisk, pool: Pool) -> None:
    if disk.kind == "plain":
        pytest.skip("there it is copied, and not flushed")
    disk.refuse()
    file = f"{pool.path}/content"
    with open(file, "wb") as content:
        content.write(REFUSED)
    mode = os.stat(file).st_mode
    os.sync()
    disk.take()
    with pytest.raises(StorageFailed) as caught:
        pool.clone(file, "ci/new")
    assert isinstance(caught.value, FlushFailed)
    assert not caught.value.own
    assert "Make it anew before it is used" in str(caught.value)
    assert os.stat(file).st_mode == mode
    assert "ci/new" not in pool
