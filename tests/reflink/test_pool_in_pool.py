"""A pool that lies among the VMs of another: its directories are its own, and the outer pool leaves them alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool
from lifecycle.errors import InAnotherPool, StorageFailed
from lifecycle.machine import known_pools
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.mounts import FileSystem, run
from support.read_errors import refusing
from support.snapshots import snapshot


@pytest.fixture
def outer(xfs_pool: Pool) -> Pool:
    """A pool that would throw away what is left over, with a volume that is, beside the directory of the inner one."""
    pool = xfs_pool
    volume = pool.create_volume("zz/root", SIZE, keep="last 1", on_crash="revert")
    cycle(volume, b"own")
    volume.start()
    draw(volume, b"left")
    return pool


def fill(pool: Pool) -> None:
    """Give the inner pool a volume with revisions that the outer one would not keep, left over from a crash."""
    volume = pool.create_volume("vm/root", SIZE, keep="all")
    for mark in (b"one", b"two", b"six"):
        cycle(volume, mark)
    volume.start()
    draw(volume, b"nine")


def _a_pool(where: Path) -> None:
    fill(Pool.create(where))


def _not_mounted(where: Path) -> None:
    """An embedded pool before it is mounted again: its file shows, and what someone made in the directory before."""
    _a_pool(where)
    (where / "pool.toml").unlink()
    (where / "pool.xfs").touch()


def _unreadable(where: Path) -> None:
    _a_pool(where)
    (where / "pool.toml").write_bytes(b"\xff\x00[")


def _no_file(where: Path) -> None:
    _a_pool(where)
    (where / "pool.toml").unlink()
    (where / "pool.toml").mkdir()


def _dangling(where: Path) -> None:
    _a_pool(where)
    (where / "pool.toml").unlink()
    (where / "pool.toml").symlink_to("/nowhere")


INNER: dict[str, Callable[[Path], None]] = {
    "a pool": _a_pool,
    "one that is not mounted": _not_mounted,
    "one whose pool.toml cannot be understood": _unreadable,
    "one whose pool.toml is a directory": _no_file,
    "one whose pool.toml is a link to nothing": _dangling,
}
PLACES = ("inner", "group/inner")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", INNER)
def test_an_inner_pool_is_left_alone(call: Call, outer: Pool, kind: str, place: str) -> None:
    where = Path(outer.path, place)
    where.mkdir(parents=True)
    INNER[kind](where)
    before = snapshot(where)
    assert [one["id"] for one in call("list", "--json").document] == ["zz/root"]
    assert [volume.id for volume in outer] == ["zz/root"]
    assert call("pool", "--json").document["volumes"] == 1
    (note,) = [one for one in call("verify", "--json").document if one["path"] == place]
    assert (note["text"], note["harmful"]) == (
        "another pool lies there, with all that is below it; left alone",
        False,
    )
    assert [one["id"] for one in call("recover", "--json").document] == ["zz/root"]
    call("prune")
    vm, volume_id = f"{place}/vm", f"{place}/vm/root"
    for words in (
        f"show {volume_id}",
        f"log {volume_id}",
        f"list {vm}",
        f"verify {vm}",
        f"start {vm}",
        f"start {volume_id}",
        f"stop {volume_id}",
        f"stop {vm}",
        f"revert {volume_id}",
        f"resize {volume_id} 2M",
        f"set {volume_id} keep=all",
        f"prune {volume_id}",
        f"recover {vm}",
        f"remove {vm}",
        f"remove {volume_id}",
        f"create {volume_id} --size 1M",
        f"create {place}/new/root --size 1M",
        f"create {place}/root --size 1M",
        f"create zz/disposable --source {volume_id}",
        f"clone zz/root {place}/vm/copy",
    ):
        complaint = call(*words.split(), status=1).complaint
        assert f"lies in another pool, {where}" in complaint, words
    outer.recover(vm)
    assert volume_id not in outer
    assert snapshot(where) == before


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_in_doubt_a_directory_is_not_touched(outer: Pool, code: int) -> None:
    """Whether a pool.toml lies there cannot be told."""
    volume = outer.create_volume("ci/root", SIZE)
    with refusing(Path(outer.path, "ci", "pool.toml"), "stat", code):
        for touch in (
            volume.start,
            volume.remove,
            lambda: outer.create_volume("ci/other", SIZE),
            lambda: outer.tidy("ci"),
        ):
            with pytest.raises(StorageFailed, match=r"pool\.toml"):
                touch()
    volume.start()


def test_the_inner_pool_itself_goes_on(call: Call, outer: Pool) -> None:
    where = Path(outer.path, "inner")
    where.mkdir()
    _a_pool(where)
    call("recover")
    call("prune")
    inner = Pool.open(where)
    assert inner["vm/root"].stop().event == "commit"
    assert (seen(inner["vm/root"]), numbers(inner["vm/root"])) == (disk(b"nine"), [1, 2, 3])
    known_pools.enter(inner.path, "in")
    known_pools.enter(outer.path, "out")
    found = call("recover", "--all-pools", "--json").document
    assert [one["id"] for one in found] == []


def test_a_known_pool_that_is_not_mounted_gets_no_volumes_of_others(
    call: Call, outer: Pool
) -> None:
    """Its directory is an empty mount point now."""
    where = Path(outer.path, "disk2")
    where.mkdir()
    known_pools.enter(where, "disk2")
    for words in ("create disk2/ci/root --size 1M", "create disk2/root --size 1M"):
        assert f"lies in another pool, {where}" in call(*words.split(), status=1).complaint
    call("create", "disk/root", "--size", "1M")
    assert list(where.iterdir()) == []


def test_a_pool_that_is_mounted_into_another_is_left_alone(outer: Pool, xfs: FileSystem) -> None:
    """By a bind mount, or reached by a link: that is not followed."""
    elsewhere = Pool.create(xfs.new_directory())
    fill(elsewhere)
    before = snapshot(elsewhere.path)
    mounted, linked = Path(outer.path, "mounted"), Path(outer.path, "linked")
    mounted.mkdir()
    linked.symlink_to(elsewhere.path)
    run("mount", "--bind", elsewhere.path, str(mounted))
    try:
        assert [volume.id for volume in outer] == ["zz/root"]
        assert [one.id for one in outer.recover()] == ["zz/root"]
        with pytest.raises(InAnotherPool, match="mounted"):
            outer["mounted/vm/root"].start()
    finally:
        run("umount", str(mounted))
    assert snapshot(elsewhere.path) == before


@pytest.mark.parametrize("place", PLACES)
def test_a_read_only_pool_leaves_a_pool_within_it_alone(
    call: Call, xfs: FileSystem, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = xfs.new_directory()
    (around / "kernels").mkdir()
    (around / "kernels" / "vmlinuz").write_bytes(b"kernel")
    where = around / place
    where.mkdir(parents=True)
    _a_pool(where)
    before = snapshot(where)
    pool = Pool.create(around, driver="directory")
    monkeypatch.setenv("LIFECYCLE_POOL", pool.path)
    assert [volume.id for volume in pool] == ["kernels/vmlinuz"]
    assert [one["id"] for one in call("list", "--json").document] == ["kernels/vmlinuz"]
    (note,) = call("verify", "--json").document
    assert note["path"] == place
    assert "another pool" in note["text"]
    for words in (f"show {place}/vm/root", f"start {place}/vm"):
        assert f"lies in another pool, {where}" in call(*words.split(), status=1).complaint
    assert snapshot(where) == before


def test_a_reflink_pool_leaves_a_read_only_pool_within_it_alone(outer: Pool) -> None:
    where = Path(outer.path, "media")
    (where / "installers").mkdir(parents=True)
    (where / "installers" / "debian.img").write_bytes(disk(b"debian"))
    Pool.create(where, driver="directory")
    before = snapshot(where)
    assert [volume.id for volume in outer] == ["zz/root"]
    outer.recover()
    with pytest.raises(InAnotherPool):
        outer["media/installers/debian"].start()
    assert snapshot(where) == before


@pytest.mark.parametrize("code", [errno.EIO, errno.EUCLEAN, errno.ESTALE])
def test_what_cannot_be_read_in_a_read_only_pool_stops_nothing_else(
    call: Call, xfs: FileSystem, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = xfs.new_directory()
    for vm in ("a", "b", "c"):
        (around / vm).mkdir()
        (around / vm / "vmlinuz").write_bytes(b"kernel")
    pool = Pool.create(around, driver="directory")
    monkeypatch.setenv("LIFECYCLE_POOL", pool.path)
    with refusing(around / "b" / "vmlinuz", "stat", code):
        listed = {one["id"]: one["state"] for one in call("list", "--json").document}
        assert listed == {"a/vmlinuz": "created", "b/vmlinuz": "damaged", "c/vmlinuz": "created"}
        assert os.strerror(code) in call("start", "b/vmlinuz", status=3).complaint
        assert any(one["harmful"] for one in call("verify", "--json", status=1).document)
        call("start", "a")
    for read in ("open", "list"):
        with refusing(around / "b", read, code):
            listed = {one["id"]: one["state"] for one in call("list", "--json").document}
            assert {"a/vmlinuz", "c/vmlinuz"} == {*listed}
            (found,) = call("verify", "--json", status=1).document
            assert (found["path"], found["harmful"]) == ("b", True)
