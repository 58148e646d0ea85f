"""Pools on a file system without reflinks: an XFS in a file, mounted over the pool's directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lifecycle import Pool, errors
from lifecycle.linux import embedded_xfs
from support.command_line import Call, begin, call_apart, finish
from support.disks import MIB, SIZE, cycle, disk, draw, seen
from support.mounts import FileSystem, run

SIZE_OF_POOL = 300 * MIB


@pytest.fixture
def place(mounted: Callable[[str], FileSystem], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory on a file system without reflinks, which is what the command line uses."""
    directory = mounted("plain").new_directory()
    monkeypatch.setenv("LIFECYCLE_POOL", str(directory))
    yield directory
    while os.path.ismount(directory):
        run("umount", str(directory))
    shutil.rmtree(directory)  # room for the others


@pytest.fixture
def embedded(place: Path) -> Pool:
    """A pool embedded there, mounted."""
    return Pool.create(place, loop=SIZE_OF_POOL)


def reboot(pool: Pool) -> None:
    """Leave the pool unmounted, as it is after a reboot."""
    run("umount", pool.path)


def mounts_at(path: str) -> int:
    """Return how many file systems are mounted there, one over the other."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return sum(line.split()[4] == path for line in mounts)


# ---------------------------------------------------------------- making one


def test_init_embeds_a_pool_with_reflinks(call: Call, place: Path) -> None:
    document = call("init", "--loop", "300M", "--json").document
    assert document["path"] == str(place)
    assert document["reflinks"] is True
    assert 0 < document["size"] <= SIZE_OF_POOL
    assert mounts_at(str(place)) == 1
    assert sorted(os.listdir(place)) == ["pool.toml"]
    assert place.stat().st_mode & 0o777 == 0o700


def test_init_makes_the_directory_too(call: Call, place: Path) -> None:
    deeper = place / "deep" / "pool"
    call("init", str(deeper), "--loop", "300M")
    assert mounts_at(str(deeper)) == 1
    run("umount", str(deeper))


def test_the_file_is_sparse_private_and_hidden_below_the_mount(embedded: Pool, place: Path) -> None:
    reboot(embedded)
    assert os.listdir(place) == ["pool.xfs"]
    status = (place / "pool.xfs").stat()
    assert status.st_size == SIZE_OF_POOL
    assert status.st_blocks * 512 < SIZE_OF_POOL // 2
    assert status.st_mode & 0o777 == 0o600


def test_it_is_a_pool_like_any_other(embedded: Pool) -> None:
    volume = embedded.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.revert()
    assert seen(volume) == disk(b"one")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("299M", "at least 300 MiB"),
        ("512", "at least 300 MiB"),
        ("0", "at least one sector"),
        ("-1", "write a number of bytes"),
        ("lots", "write a number of bytes"),
        ("17T", "more than a file can hold here"),
        ("8E", "more than a file can hold"),
    ],
)
def test_a_size_that_cannot_be_leaves_nothing(
    call: Call, place: Path, size: str, said: str
) -> None:
    assert said in call("init", "--loop", size, status=2).complaint
    assert os.listdir(place) == []
    assert mounts_at(str(place)) == 0


def test_a_directory_with_something_in_it_is_refused(call: Call, place: Path) -> None:
    (place / "precious").write_text("mine")
    assert "must be empty" in call("init", "--loop", "300M", status=1).complaint
    assert os.listdir(place) == ["precious"]
    assert (place / "precious").read_text() == "mine"


@pytest.mark.parametrize("options", [(), ("--loop", "300M"), ("--no-setup-check",)])
@pytest.mark.parametrize("is_mounted", [True, False])
def test_an_embedded_pool_is_not_made_twice(
    call: Call, embedded: Pool, place: Path, options: tuple[str, ...], is_mounted: bool
) -> None:
    cycle(embedded.create_volume("ci/root", SIZE), b"precious")
    if not is_mounted:
        reboot(embedded)
    assert "is a pool already" in call("init", *options, status=1).complaint
    assert [one["id"] for one in call("list", "--json").document] == ["ci/root"]
    assert seen(embedded["ci/root"]) == disk(b"precious")


def test_what_fails_half_way_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: str, _image: str) -> None:
        raise errors.Unsupported("mount failed: no loop device is free")

    monkeypatch.setattr(embedded_xfs, "_mount", fail)
    with pytest.raises(errors.Unsupported, match="no loop device is free"):
        Pool.create(place, loop=SIZE_OF_POOL)
    assert os.listdir(place) == []


# ---------------------------------------------------------------- after a reboot


def test_any_command_mounts_it_again(call: Call, embedded: Pool) -> None:
    cycle(embedded.create_volume("ci/root", SIZE), b"one")
    for command in (
        "list",
        "show ci/root",
        "log ci/root",
        "pool",
        "verify",
        "prune --dry-run",
        "start ci",
        "stop ci",
        "run ci -- true",
        "revert ci/root",
        "revert ci/root --to 1",
    ):
        reboot(embedded)
        call(*command.split())
        assert mounts_at(embedded.path) == 1
    assert seen(embedded["ci/root"]) == disk(b"one")


def test_a_vm_that_ran_when_the_power_went_is_left_over(embedded: Pool) -> None:
    volume = embedded.create_volume("ci/root", SIZE)
    volume.start()
    draw(volume, b"one")
    reboot(embedded)
    again = Pool.open(embedded.path)["ci/root"]
    assert (again.state, again.left_over) == ("dirty", True)
    again.stop()
    assert seen(again) == disk(b"one")


@pytest.mark.parametrize(
    ("module", "name"), [(embedded_xfs, "mount_again"), (embedded_xfs, "Lock")]
)
def test_one_who_comes_second_does_not_mount_it_again(
    embedded: Pool, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    reboot(embedded)
    real = getattr(module, name)
    others = [("pool",)]

    def another_comes_first(*arguments: Any) -> Any:
        if others:
            assert call_apart(*others.pop()).status == 0
            assert mounts_at(embedded.path) == 1
        return real(*arguments)

    monkeypatch.setattr(module, name, another_comes_first)
    assert list(Pool.open(embedded.path)) == []
    assert others == []
    assert mounts_at(embedded.path) == 1


def test_two_at_once_do_not_mount_it_twice(embedded: Pool) -> None:
    embedded.create_volume("ci/root", SIZE)
    reboot(embedded)
    with begin("show", "ci/root") as one, begin("show", "ci/root") as two:
        assert [finish(one).status, finish(two).status] == [0, 0]
    assert mounts_at(embedded.path) == 1


def test_a_file_that_cannot_be_mounted_is_left_as_it_is(
    call: Call, embedded: Pool, place: Path
) -> None:
    reboot(embedded)
    image = place / "pool.xfs"
    image.write_bytes(b"not an XFS at all".ljust(MIB, b"\0"))
    complaint = call("list", status=1).complaint
    assert "mount failed" in complaint
    assert os.listdir(place) == ["pool.xfs"]
    assert image.read_bytes() == b"not an XFS at all".ljust(MIB, b"\0")


# ---------------------------------------------------------------- room


def test_space_that_the_pool_frees_is_given_back(embedded: Pool, place: Path) -> None:
    def room_taken() -> int:
        reboot(embedded)  # an unmount waits for what is being given back
        taken = (place / "pool.xfs").stat().st_blocks * 512
        Pool.open(place)
        return taken

    empty = room_taken()
    volume = embedded.create_volume("ci/root", 16 * MIB)
    cycle(volume, os.urandom(16 * MIB))
    assert room_taken() > empty + 15 * MIB
    volume.remove()
    assert room_taken() < empty + 2 * MIB


# ---------------------------------------------------------------- who can


def test_another_user_cannot_make_one(
    call: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "takes root" in call("init", "--loop", "300M", status=1).complaint
    assert os.listdir(place) == []


def test_another_user_cannot_mount_one_but_uses_one_that_is_mounted(
    call: Call, embedded: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    call("list")
    reboot(embedded)
    assert "takes root" in call("list", status=1).complaint


def test_a_program_that_is_missing_is_named_with_its_package(
    call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_xfs, "_PATH", str(tmp_path))
    complaint = call("init", "--loop", "300M", status=1).complaint
    assert "mkfs.xfs is not installed" in complaint
    assert "xfsprogs" in complaint
    assert os.listdir(place) == []
