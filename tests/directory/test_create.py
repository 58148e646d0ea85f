"""Making a read-only pool of a tree: its settings, and media that cannot be written to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle import InvalidConfig, NotAPool, Pool
from lifecycle.model import Finding
from support import required_programs
from support.disks import SIZE, disk, seen
from support.holding_open import by_another_process
from support.image_trees import KERNEL, ids
from support.mounts import CannotMount, FileSystem, run
from support.snapshots import snapshot


def test_pool_toml_is_for_all_to_read(pool: Pool) -> None:
    assert stat.S_IMODE(os.stat(f"{pool.path}/pool.toml").st_mode) == 0o644
    assert Pool.open(pool.path).config.driver == "directory"


def test_a_reflink_pools_is_for_its_owner(xfs: FileSystem) -> None:
    pool = Pool.create(xfs.new_directory())

    assert stat.S_IMODE(os.stat(f"{pool.path}/pool.toml").st_mode) == 0o600


@pytest.mark.parametrize(
    "setting",
    [
        {"keep": "last 3"},
        {"on_crash": "revert"},
        {"timezone": "Europe/Berlin"},
        {"setup_check": False},
        {"lock_timeout": 1.0},
        {"reserve": "5%"},
        {"prune_for_reserve": True},
    ],
    ids=str,
)
def test_a_setting_of_no_use(tree: Path, setting: dict[str, Any]) -> None:
    before = snapshot(tree)
    (name,) = setting
    with pytest.raises(InvalidConfig, match=f"`{name}` is of no use in a read-only pool"):
        Pool.create(tree, driver="directory", **setting)
    assert snapshot(tree) == before


def test_a_setting_of_no_use_that_someone_wrote(tree: Path) -> None:
    Pool.create(tree, driver="directory")
    with (tree / "pool.toml").open("a") as file:
        file.write('reserve = "99%"\n')
    pool = Pool.open(tree)

    assert list(pool.verify()) == [
        Finding(
            "pool.toml", "`reserve` has no effect, for nothing is ever written here", harmful=False
        )
    ]
    pool[KERNEL].start()


def test_no_xfs_is_embedded_in_one(xfs: FileSystem) -> None:
    place = xfs.new_directory() / "new"
    with pytest.raises(InvalidConfig, match="for the driver reflink"):
        Pool.create(place, driver="directory", loop="1G")
    assert not place.exists()


@pytest.fixture
def medium(xfs: FileSystem, tree: Path) -> Iterator[Path]:
    """The tree as a squashfs, mounted in an otherwise empty directory that can be written to."""
    above = xfs.new_directory()
    image, here = xfs.new_directory() / "medium.squashfs", above / "medium"
    here.mkdir()
    try:
        run("mksquashfs", str(tree), str(image), "-quiet", "-no-progress")
        run("mount", "-t", "squashfs", "-o", "loop", str(image), str(here))
    except CannotMount as error:
        required_programs.missing(f"needs a squashfs: {error}")
    yield here
    run("umount", "--lazy", str(here))


def test_a_medium_that_cannot_be_written_to_says_the_way_out(medium: Path) -> None:
    with pytest.raises(NotAPool, match="make the directory above it a pool") as error:
        Pool.create(medium, driver="directory")
    assert "mount --bind" in str(error.value)


def test_a_medium_below_a_pool(medium: Path, xfs: FileSystem) -> None:
    pool = Pool.create(medium.parent, driver="directory")
    volume = pool["medium/kernels/6.1/modules"]

    assert ids(pool) == [
        "medium/kernels/6.1/modules",
        f"medium/{KERNEL}",
        "medium/media/debian-12.iso",
    ]
    assert list(pool.verify()) == []
    volume.start()
    with by_another_process(volume.path) as holder:
        assert volume.in_use_by == (holder,)
        volume.stop()
    assert volume.size == SIZE
    assert volume.usage > 0
    assert seen(volume) == disk(b"modules")
    clone = Pool.create(xfs.new_directory()).clone(volume, "ci/modules")
    assert seen(clone) == disk(b"modules")
