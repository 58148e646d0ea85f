"""Pools that are not mounted: they are mounted again, or it is said so, and no empty one takes their place."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle import Pool, Refused
from lifecycle.errors import NotAPool
from lifecycle.linux import embedded_xfs
from lifecycle.machine import known_pools
from support.command_line import Call, call_apart
from support.disks import MIB, SIZE, cycle, disk, seen
from support.mounts import FileSystem, run


@pytest.fixture
def disk_of_its_own(
    mounted: Callable[[str], FileSystem], tmp_path: Path
) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a small disk at a place, in the way that fstab would after each boot."""
    mounted("plain")
    image, place = mounted("plain").path / "own.image", tmp_path / "srv"
    place.mkdir()
    image.touch()
    os.truncate(image, 400 * MIB)
    run("mkfs.ext4", "-q", str(image))

    def mount() -> Path:
        run("mount", "-o", "loop", str(image), str(place))
        return place

    yield mount
    while os.path.ismount(place):
        run("umount", "--recursive", "--lazy", str(place))
    image.unlink()


def unmount_all(place: Path) -> None:
    while os.path.ismount(place):
        run("umount", str(place))


# ---------------------------------------------------------------- embedded, over a mount point


@pytest.mark.parametrize("name", ["", "vms"])
def test_an_embedded_pool_is_mounted_again_over_a_mount_point(
    disk_of_its_own: Callable[[], Path], name: str
) -> None:
    """The directory is a mount point itself, or lies on the disk that is mounted above."""
    place = disk_of_its_own()
    shutil.rmtree(place / "lost+found")
    pool = Pool.create(place / name, loop=300 * MIB)
    cycle(pool.create_volume("ci/root", SIZE), b"one")
    run("umount", pool.path)
    unmount_all(place)
    disk_of_its_own()
    for _twice in range(2):
        assert seen(Pool.open(pool.path)["ci/root"]) == disk(b"one")
        assert call_apart("list", "--pool", pool.path).status == 0
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        points = [line.split()[4] for line in mounts]
    assert points.count(pool.path) == (1 if name else 2)
    run("umount", pool.path)


# ---------------------------------------------------------------- known, and not there

ADVISED = ["list", "pool", "create ci/root --size 1M", "start ci", "verify", "run ci -- true"]


@pytest.fixture
def known(disk_of_its_own: Callable[[], Path], call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A known pool on a disk of its own, which is not mounted."""
    place = disk_of_its_own()
    call("init", str(place / "vms"), "--no-setup-check")
    unmount_all(place)
    monkeypatch.setenv("LIFECYCLE_POOL", str(place / "vms"))
    return place / "vms"


@pytest.mark.parametrize("words", ADVISED)
@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_not_mounted_is_said_to_be(
    call: Call, known: Path, settings: Path, words: str, is_there: bool
) -> None:
    if is_there:
        known.mkdir()
    complaint = call(*words.split(), status=1).complaint
    assert "the pool vms, which this machine knows, should be here and is not" in complaint
    assert f"if it is gone for good, remove {settings}/pools.d/vms.toml" in complaint
    assert "init" not in complaint
    assert os.path.exists(known) is is_there


@pytest.mark.parametrize(
    "words",
    [
        "init",
        "init {known}",
        "init {known} --loop 300M",
        "init {known}/inner --no-setup-check",
        "init {known} --name other",
        "adopt {known} --yes",
    ],
)
@pytest.mark.parametrize("is_there", [False, True])
def test_no_empty_pool_takes_its_place(call: Call, known: Path, words: str, is_there: bool) -> None:
    if is_there:
        known.mkdir()
    complaint = call(*words.format(known=known).split(), status=1).complaint
    if is_there or not words.startswith("adopt"):
        assert "should be " in complaint
        assert "is not mounted, or it is gone" in complaint
    assert os.path.exists(known) is is_there
    if is_there:
        assert os.listdir(known) == []
    with pytest.raises(NotAPool):
        Pool.create(known, setup_check=False)


def test_how_to_mount_it_is_said_as_fstab_has_it(
    call: Call, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fstab = tmp_path / "fstab"
    lines = ["# comment", "", "/dev/sda1 / ext4 defaults 0 1", f"UUID=1 {known.parent} ext4", "x"]
    fstab.write_text("\n".join(lines))
    monkeypatch.setattr(known_pools, "FSTAB", str(fstab))
    assert f"`mount {known.parent}`" in call("list", status=1).complaint
    fstab.unlink()
    assert "mount that first" in call("list", status=1).complaint


def test_once_it_is_mounted_all_is_well(
    call: Call, known: Path, disk_of_its_own: Callable[[], Path]
) -> None:
    disk_of_its_own()
    call("list")


def test_who_insists_removes_the_name_first(call: Call, known: Path) -> None:
    complaint = call("init", "--no-setup-check", status=1).complaint
    file = re.findall(r"remove (\S+\.toml)", complaint)
    Path(*file).unlink()
    call("init", "--no-setup-check")
    assert call("list").status == 0


def test_a_pool_that_lost_its_settings_is_not_taken_for_one_that_is_not_mounted(
    call: Call, xfs: FileSystem
) -> None:
    """init would make one that keeps less than it did."""
    pool = Pool.create(xfs.new_directory() / "vms", keep="all")
    known_pools.enter(pool.path)
    pool.create_volume("ci/root", SIZE)
    Path(pool.path, "pool.toml").unlink()
    complaint = call("list", "--pool", pool.path, status=1).complaint
    assert "is the pool vms without its pool.toml; put that back" in complaint
    assert "say --keep" in complaint
    call("init", pool.path, "--keep", "all")


def test_a_pool_within_one_that_is_there_can_be_made(call: Call, xfs: FileSystem) -> None:
    outer = xfs.new_directory()
    call("init", str(outer))
    call("init", str(outer / "inner"))


# ---------------------------------------------------------------- room


def test_an_embedded_pool_larger_than_the_room_for_it_is_warned_of(
    disk_of_its_own: Callable[[], Path],
) -> None:
    place = disk_of_its_own()
    said = call_apart("init", str(place / "vms"), "--loop", "4G").err
    assert re.search(r"the disk below has \d+ MiB free, less than the 4 GiB of the pool", said)
    run("umount", str(place / "vms"))
    os.unlink(place / "vms/pool.xfs")
    assert call_apart("init", str(place / "few"), "--loop", "300M").err == ""
    run("umount", str(place / "few"))


@pytest.mark.parametrize("name", ["", "vms"])
def test_the_reserve_of_an_embedded_pool_is_what_the_disk_below_can_give(
    disk_of_its_own: Callable[[], Path], name: str
) -> None:
    place = disk_of_its_own()
    shutil.rmtree(place / "lost+found")
    (place / "other").write_bytes(b"")
    filled = os.open(place / "other", os.O_RDWR)
    try:
        os.unlink(place / "other")
        pool = Pool.create(place / name, loop="2G")
        settings = Path(pool.path, "pool.toml")
        settings.write_text(settings.read_text() + 'reserve = "100M"\n')
        pool = Pool.open(pool.path)
        volume = pool.create_volume("ci/root", SIZE)
        volume.start()  # there is room within and below
        volume.stop()
        os.posix_fallocate(filled, 0, 250 * MIB)
        free, total = pool.backend.room() or (0, 0)
        inner = os.statvfs(pool.path)
        assert free < 100 * MIB < inner.f_bavail * inner.f_frsize
        assert total == inner.f_blocks * inner.f_frsize
        with pytest.raises(Refused, match="the pool must keep 100M free and lacks"):
            volume.start()
        os.ftruncate(filled, 0)
        volume.start()
        volume.stop()
    finally:
        os.close(filled)
        run("umount", str(place / name))


def test_no_more_is_pruned_for_the_reserve_than_the_disk_below_lacks(
    disk_of_its_own: Callable[[], Path],
) -> None:
    """What is freed within comes back below only after a while, and must not be waited for by removing more."""
    place = disk_of_its_own()
    pool = Pool.create(place / "vms", loop="2G", keep="all")
    settings = Path(pool.path, "pool.toml")
    settings.write_text(settings.read_text() + 'reserve = "100M"\nprune_for_reserve = true\n')
    pool = Pool.open(pool.path)
    volume = pool.create_volume("ci/root", 8 * MIB)
    for mark in range(1, 7):
        cycle(volume, bytes([mark]) * (8 * MIB))
    with pytest.MonkeyPatch.context() as slow:
        slow.setattr(embedded_xfs, "room_below", lambda *_words: 95 * MIB)  # nothing comes back
        with pytest.raises(Refused, match="lacks"):
            volume.start()
    assert len(volume.revisions) >= 4  # of five, one is enough
    run("umount", pool.path)


def test_what_cannot_be_asked_below_is_left_out(
    disk_of_its_own: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk_of_its_own()
    pool = Pool.create(place / "vms", loop=300 * MIB)
    monkeypatch.setattr(embedded_xfs, "_PATH", "/nonexistent")
    inner = os.statvfs(pool.path)
    free, total = pool.backend.room()
    assert total == inner.f_blocks * inner.f_frsize
    assert abs(free - inner.f_bavail * inner.f_frsize) <= MIB  # an XFS goes on tidying up
    run("umount", pool.path)


def test_the_room_of_a_pool_on_a_loop_device_of_another_file(
    xfs: FileSystem, disk_of_its_own: Callable[[], Path], tmp_path: Path
) -> None:
    """Its file can be seen, and asked."""
    small = disk_of_its_own() / "image"
    small.touch()
    os.truncate(small, 2048 * MIB)
    run("mkfs.xfs", "-q", str(small))
    place = tmp_path / "pool"
    place.mkdir()
    run("mount", "-o", "loop", str(small), str(place))
    try:
        free, _total = Pool.create(place).backend.room() or (0, 0)
        assert free < 400 * MIB
    finally:
        run("umount", str(place))
