"""What is a volume in a read-only pool, and what is none."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import NoSuchVolume, Pool, Refused, State, Volume
from lifecycle.model import Attached, Attachment
from support.disks import seen
from support.image_trees import KERNEL, ids, plant
from support.mounts import FileSystem


def test_each_file_is_a_volume(pool: Pool) -> None:
    assert ids(pool) == ["kernels/6.1/modules", KERNEL, "media/debian-12.iso"]
    (Path(pool.path) / "hooks.d").mkdir()
    assert list(pool.backend.vms()) == ["kernels/6.1", "media"]
    assert list(pool.verify()) == []


@pytest.mark.parametrize(
    ("files", "volumes"),
    [
        (["vmlinuz"], {"vmlinuz": "vmlinuz"}),
        (["root.img"], {"root": "root.img"}),
        (["a.iso", "a.iso.img"], {"a.iso": "a.iso.img"}),
        (["modules", "modules.img"], {"modules": "modules.img"}),
        (["x.img.img"], {"x.img": "x.img.img"}),
        (["x.img", "x.img.img"], {"x": "x.img", "x.img": "x.img.img"}),
        (["initrd.img-6.1"], {"initrd.img-6.1": "initrd.img-6.1"}),
        ([".img"], {}),
        (["root-dirty.img", "root.img~1", "root.img.1@2026-01-02T03:04:05Z"], {}),
        (["größe"], {"größe": "größe"}),
    ],
    ids=str,
)
def test_a_volume_is_named_as_its_file_without_img(
    xfs: FileSystem, files: list[str], volumes: dict[str, str]
) -> None:
    tree = xfs.new_directory()
    plant(tree, {f"vm/{file}": file.encode() for file in files})
    pool = Pool.create(tree, driver="directory")

    assert ids(pool) == [f"vm/{name}" for name in sorted(volumes)]
    for name, file in volumes.items():
        volume = pool[f"vm/{name}"]
        assert volume.path == f"{tree}/vm/{file}"
        assert pool.backend.id_of(volume.attachment) == volume.id
        assert seen(volume) == file.encode()
    for file in {one for one in files if one.endswith(".img")} - set(volumes):
        assert f"vm/{file}" not in pool
    for file in set(files) - set(volumes.values()):
        assert pool.backend.id_of(file_at(tree / "vm" / file)) is None
        assert f"vm/{file}" in [finding.path for finding in pool.verify()]


def file_at(path: Path) -> Attachment:
    return Attachment(Attached.FILE, str(path))


def bind_socket(path: Path) -> None:
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(
                f"/proc/self/fd/{parent}/{path.name}"
            )  # its path may be longer than a socket's
    finally:
        os.close(parent)


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "vm/link": (lambda path: path.symlink_to("image"), "a symbolic link"),
    "vm/link.img": (lambda path: path.symlink_to("image"), "a symbolic link"),
    "vm/outside": (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
    "vm/nowhere": (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
    "vm/pipe": (os.mkfifo, "a pipe"),
    "vm/null": (
        lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3)),
        "a device",
    ),
    "vm/disk": (
        lambda path: os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 9999)),
        "a device",
    ),
    "vm/socket": (bind_socket, "a socket"),
    "vm/.hidden": (lambda path: path.touch(), "starts with `.`"),
    "vm/-rf": (lambda path: path.touch(), "starts with `.` or `-`"),
    "vm/a~": (lambda path: path.touch(), "`~`"),
    "vm/" + "x" * 200: (lambda path: path.touch(), "longer than 190"),
    "lying-about": (lambda path: path.touch(), "lies in no VM"),
    ".git": (lambda path: path.mkdir(), "is no VM"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_no_volume(xfs: FileSystem, name: str) -> None:
    tree = xfs.new_directory()
    plant(tree, {"vm/image": b"image"})
    pool = Pool.create(tree, driver="directory")
    make, what = PLANTED[name]
    make(tree / name)

    assert ids(pool) == ["vm/image"]
    assert pool.backend.id_of(file_at(tree / name)) is None
    (finding,) = pool.verify()
    assert (finding.path, finding.harmful) == (name, False)
    assert what in finding.text
    if name.startswith("vm/") and name != "vm/link.img":
        assert name not in pool
    if name.startswith("vm/"):
        assert list(pool.verify("vm")) == [finding]


def test_a_link_beside_an_image_of_its_name_does_not_hide_it(pool: Pool) -> None:
    os.symlink("modules.img", f"{pool.path}/{KERNEL}.img")

    assert pool[KERNEL].path == f"{pool.path}/{KERNEL}"


def test_directories_behind_links_are_not_of_the_tree(pool: Pool, xfs: FileSystem) -> None:
    outside = xfs.new_directory()
    plant(outside, {"vm/image": b"image"})
    os.symlink(outside, f"{pool.path}/linked")
    os.symlink("kernels", f"{pool.path}/media/again")
    assert ids(pool) == ["kernels/6.1/modules", KERNEL, "media/debian-12.iso"]

    for missing in ("linked/vm/image", "media/again/6.1/vmlinuz"):
        assert missing not in pool
        with pytest.raises(NoSuchVolume):
            pool[missing]
        with pytest.raises(Refused, match="absent"):
            Volume(pool, missing).start()
        assert pool.volumes(missing.rpartition("/")[0]) == []


def test_what_vanishes_is_absent(pool: Pool) -> None:
    volume = pool[KERNEL]
    volume.start()
    os.unlink(volume.path)

    assert volume.state is State.ABSENT
    assert (volume.usage, volume.in_use_by, volume.allowed) == (0, (), ())
    assert volume.path == f"{pool.path}/{KERNEL}.img"
    with pytest.raises(NoSuchVolume):
        volume.export()
    with pytest.raises(Refused, match="not running"):
        volume.stop()


def test_an_empty_file_is_worth_a_note(pool: Pool, tree: Path) -> None:
    (tree / "media" / "empty.iso").touch()

    (finding,) = pool.verify()
    assert finding.path == "media/empty.iso"
    assert "is empty" in finding.text
