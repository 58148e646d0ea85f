"""VMs whose directories are apart from each other: what is quicker within one file system gives way where it fails."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Pool, Volume
from lifecycle.errors import NoReflinks
from lifecycle.linux import inode_flags
from support import directory_boundaries
from support.directory_boundaries import Mounted
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen, seen_by_vm
from support.mounts import FileSystem, run

WAYS = {
    "subvolume": ("btrfs", directory_boundaries.subvolume),
    "project": ("xfs", directory_boundaries.project),
    "bind mount on xfs": ("xfs", directory_boundaries.bind_mount),
    "bind mount on btrfs": ("btrfs", directory_boundaries.bind_mount),
    "another xfs": ("xfs", directory_boundaries.another_xfs),
    "a btrfs in an xfs": ("xfs", directory_boundaries.a_btrfs),
    "an xfs in a btrfs": ("btrfs", directory_boundaries.another_xfs),
}
SHARES = {"subvolume", "project", "bind mount on xfs", "bind mount on btrfs"}
"""Those that are of one file system."""


@pytest.fixture
def undone() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Apart = Callable[[Pool, str], None]


@pytest.fixture
def pool(way: str, mounted: Mounted) -> Pool:
    """A pool on the file system that this way is of."""
    return Pool.create(mounted(WAYS[way][0]).new_directory())


@pytest.fixture
def apart(way: str, mounted: Mounted, undone: ExitStack) -> Apart:
    """Return a function that makes a directory of the pool one that is apart."""
    return lambda pool, name: undone.enter_context(WAYS[way][1](Path(pool.path, name), mounted))


def template_of(pool: Pool, *, ready: int = 2) -> Volume:
    template = pool.create_volume("template/root", SIZE)
    cycle(template, b"template")
    template.configure(ready=ready)
    return template


def shares(one: str, other: str) -> bool:
    """Tell whether two files share their first block."""
    return (
        run("filefrag", "-v", one).count("shared")
        > 0
        < run("filefrag", "-v", other).count("shared")
    )


# ---------------------------------------------------------------- a VM that is apart


@pytest.mark.parametrize("name", ["job", "template"])
def test_a_disposable_starts_from_a_template_that_is_apart(
    pool: Pool, apart: Apart, way: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    apart(pool, name)
    template = template_of(pool)
    assert pool.backend.make_ahead(template.id) >= 2
    job = pool.create_volume("job/root", source=template.id)
    caplog.set_level(logging.INFO)
    for _again in range(2):
        job.start()
        assert job.state == "started"
        assert seen_by_vm(job) == disk(b"template")
        draw(job, b"job")
        assert job.stop().dest == "reverted"
    if (way, name) == ("project", "template"):
        # only into a project nothing is moved that is of another one
        assert "cannot be moved" not in caplog.text
    elif way in SHARES:
        assert "copied" not in caplog.text
        said = f"{pool.path}/template/.ready/root."
        assert said in caplog.text
        assert f"cannot be moved into {pool.path}/job: Invalid cross-device link" in caplog.text
    else:
        (warning, _again) = [
            one.getMessage() for one in caplog.records if one.levelname == "WARNING"
        ]
        assert warning == (
            f"{pool.path}/template/root.img is copied in full into {pool.path}/job,"
            " as the two share no blocks: they lie on different file systems"
        )


def test_a_volume_s_whole_life_in_a_vm_that_is_apart(pool: Pool, apart: Apart) -> None:
    apart(pool, "ci")
    volume = pool.create_volume("ci/root", SIZE, keep="all")
    volume.configure(precache="always")
    cycle(volume, b"one")
    assert pool.backend.make_ahead(volume.id) == 1
    volume.start()
    draw(volume, b"two")
    assert volume.checkpoint().revision == 2
    assert volume.stop().revision == 3
    volume.resize(2 * SIZE)
    volume.revert(1)
    assert seen(volume) == disk(b"one")
    assert numbers(volume) == [1, 2, 3, 4]
    other = pool.create_volume("other/root", SIZE)
    cycle(other, b"other")
    volume.import_from(other)
    assert seen(volume) == disk(b"other")
    assert seen(pool.clone(volume, "more/root")) == disk(b"other")
    assert seen(pool.clone(other, "ci/copy")) == disk(b"other")
    pool.start([volume, other])
    draw(volume, b"three")
    pool.stop([volume, other])
    assert [one for one in pool.verify() if one.harmful] == []
    for one in ("ci/root", "ci/copy"):
        pool[one].remove()


def test_a_vm_without_snapshots_that_is_apart(pool: Pool, apart: Apart) -> None:
    apart(pool, "ci")
    volume = pool.create_volume("ci/root", SIZE, snapshots=False)
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.start()
    draw(volume, b"three")
    volume.checkpoint()
    volume.stop()
    assert seen(volume) == disk(b"three")


# ---------------------------------------------------------------- .ready that is apart


def test_what_waits_may_lie_apart_itself(pool: Pool, apart: Apart) -> None:
    """Nothing of it can be used then, and nothing fails: it is made once, and not again at each stop."""
    template = template_of(pool, ready=0)
    apart(pool, "template/.ready")
    template.configure(ready=1)
    pool.backend.make_ahead(template.id)
    assert pool.backend.wants_ahead(template.id) is None or not can_share(template)
    job = pool.create_volume("job/root", source=template.id)
    job.start()
    assert seen_by_vm(job) == disk(b"template")
    job.stop()
    assert [one for one in pool.verify() if one.harmful] == []
    job.remove()
    template.remove()


def can_share(template: Volume) -> bool:
    image = Path(template.path).parent
    return os.stat(image).st_dev == os.stat(image / ".ready").st_dev


# ---------------------------------------------------------------- a file system without reflinks


def test_a_vm_on_a_file_system_without_reflinks_is_refused_by_its_own_name(
    mounted: Mounted, undone: ExitStack
) -> None:
    pool = Pool.create(mounted("xfs").new_directory())
    template = template_of(pool)
    undone.enter_context(directory_boundaries.an_ext4(Path(pool.path, "job"), mounted))
    job = pool.create_volume("job/root", source=template.id)
    with pytest.raises(NoReflinks) as refusal:
        job.start()
    assert refusal.value.path == f"{pool.path}/job"
    assert "`setup_check = false` in its pool.toml" in str(refusal.value)
    assert job.state == "created"


def test_a_template_on_a_file_system_without_reflinks_is_copied(
    mounted: Mounted, undone: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool.create(mounted("xfs").new_directory())
    undone.enter_context(directory_boundaries.an_ext4(Path(pool.path, "template"), mounted))
    (Path(pool.path) / "template/root.img").write_bytes(disk(b"template"))
    job = pool.create_volume("job/root", source="template/root")
    job.start()
    assert seen_by_vm(job) == disk(b"template")
    assert "they lie on different file systems" in caplog.text


# ---------------------------------------------------------------- projects


def test_images_from_before_the_vm_became_a_project_are_taken_along(xfs: FileSystem) -> None:
    """XFS would link none of them any more, not even within the directory."""
    pool = Pool.create(xfs.new_directory())
    volume = pool.create_volume("ci/root", SIZE, keep="all")
    cycle(volume, b"one")
    direct = pool.create_volume("ci/direct", SIZE, snapshots=False)
    cycle(direct, b"one")
    volume.start()
    draw(volume, b"two")
    run("xfs_io", "-r", "-c", "chproj 42", "-c", "chattr +P", f"{pool.path}/ci")
    assert volume.stop().revision == 2
    volume.revert(1)
    assert seen(volume) == disk(b"one")
    cycle(direct, b"two")
    assert seen(direct) == disk(b"two")
    assert [one for one in pool.verify() if one.harmful] == []


# ---------------------------------------------------------------- NOCOW

NOCOW = {
    "the image": ("+C", "-C"),
    "the directory": ("-C", "+C"),
    "both": ("+C", "+C"),
    "neither": ("-C", "-C"),
}
"""What is NOCOW: as the directory was while the image was made, and as it is since."""


@pytest.fixture(params=NOCOW)
def nocow(request: pytest.FixtureRequest, mounted: Mounted) -> tuple[Volume, bool]:
    """A volume on btrfs, and whether its image is NOCOW; its directory may be otherwise."""
    if shutil.which("chattr") is None:
        pytest.skip("needs chattr (package e2fsprogs)")
    pool = Pool.create(mounted("btrfs").new_directory())
    image, directory = NOCOW[request.param]
    where = Path(pool.path, "ci")
    where.mkdir(mode=0o700)
    run("chattr", image, str(where))
    volume = pool.create_volume("ci/root", MIB, keep="all")
    volume.start()
    fill(volume.path)
    volume.stop()
    run("chattr", directory, str(where))
    return volume, image == "+C"


def fill(path: str) -> None:
    """Write what does not fit into an inode."""
    with open(path, "r+b") as file:
        file.write(b"x" * MIB)


def is_nocow(path: str | Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return inode_flags.is_nocow(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("ahead", [False, True])
def test_an_image_that_is_nocow_is_reflinked_all_the_same(
    nocow: tuple[Volume, bool], caplog: pytest.LogCaptureFixture, ahead: bool
) -> None:
    volume, is_so = nocow
    volume.configure(precache="always", ready=1)
    if ahead:
        assert volume.pool.backend.make_ahead(volume.id) == 2
    caplog.set_level(logging.INFO)
    volume.start()
    job = volume.pool.create_volume("job/root", source=volume.id)
    job.start()
    os.sync()
    assert "copied" not in caplog.text
    for path in (volume.path, job.path):
        assert is_nocow(path) is is_so
        assert shares(path, f"{volume.pool.path}/ci/root.img")
    fill(volume.path)
    assert volume.checkpoint().revision == 2  # refused, if it could only be copied
    volume.stop()
    volume.resize(2 * MIB)
    volume.revert(1)
    assert "copied" not in caplog.text


def test_a_clone_of_an_image_that_is_nocow(nocow: tuple[Volume, bool]) -> None:
    volume, is_so = nocow
    copy = volume.pool.clone(volume, "copy/root")
    assert is_nocow(f"{volume.pool.path}/copy/root.img") is is_so
    assert seen(copy) == b"x" * MIB


def test_content_from_outside_does_not_change_what_the_directory_is_for(
    nocow: tuple[Volume, bool], tmp_path: Path, mounted: Any
) -> None:
    """A directory is made NOCOW so that its images are."""
    volume, _is_so = nocow
    where = f"{volume.pool.path}/ci"
    outside = mounted("btrfs").new_directory() / "image"
    outside.write_bytes(b"y" * MIB)
    volume.import_from(outside)
    assert is_nocow(f"{where}/root.img") is is_nocow(where)
    assert seen(volume) == b"y" * MIB
