"""Import and clone of image files of all formats: what is read of them, and what they refer to."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import Pool, Volume
from lifecycle.transfer import formats
from lifecycle.transfer.content import Content
from lifecycle.transfer.formats import FORMATS, probe
from support.command_line import SCRIPT, Call
from support.disks import MIB, cycle, disk, draw, seen
from support.foreign_images import DISK, IMAGES, Make, in_the_pool, is_as_it_was
from support.holding_open import by_loop_device
from support.memory import Memory

# ---------------------------------------------------------------- images of others


@pytest.mark.parametrize("kind", [one for one in IMAGES if one != "vhd-fixed"])
def test_an_image_is_told_by_its_content(
    call: Call, volume: Volume, image: Make, kind: str
) -> None:
    shutil.move(image(kind), where := image(kind).parent / "no ending")
    assert call("import", "ci/root", str(where)).out == "ci/root: committed as 2, 8 MiB\n"
    assert seen(volume) == DISK
    assert seen(volume, 1) == disk(b"as it was")
    call("clone", str(where), "new/root", "--verify")
    assert seen(volume.pool["new/root"]) == DISK
    assert in_the_pool(volume.pool) == {"ci", "new", "pool.toml"}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_format_can_be_said(call: Call, volume: Volume, image: Make, kind: str) -> None:
    call("import", "ci/root", str(image(kind)), "--format", kind.partition("-")[0])
    assert seen(volume) == DISK


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vhd"])
def test_raw_takes_the_bytes_as_they_are(
    call: Call, volume: Volume, image: Make, kind: str
) -> None:
    where = image(kind)
    call("import", "ci/root", str(where), "--format", "raw")
    held = where.read_bytes()
    assert seen(volume) == held.ljust(-(-len(held) // 512) * 512, b"\0")


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_not_of_the_format_that_is_said(
    call: Call, volume: Volume, tmp_path: Path, form: str, qemu_img: Callable[..., None]
) -> None:
    (tmp_path / "raw").write_bytes(DISK)
    complaint = call("import", "ci/root", str(tmp_path / "raw"), "--format", form, status=1)
    assert f"is no {form} image" in complaint.complaint
    assert is_as_it_was(volume)


@pytest.mark.parametrize("command", ["import ci/root X", "clone X new/root"])
def test_a_format_that_is_not_known(call: Call, volume: Volume, command: str) -> None:
    words = command.replace("X", "/dev/null").split()
    assert "qcow2" in call(*words, "--format", "iso", status=2).complaint


@pytest.mark.parametrize(
    "kind", ["qcow2", "qed", "vmdk", "vmdk-stream", "vhd", "vhdx", "parallels"]
)
def test_an_image_that_is_cut_short(call: Call, volume: Volume, image: Make, kind: str) -> None:
    where = image(kind, os.urandom(8 * MIB))
    os.truncate(where, 3 * MIB)
    complaint = call("import", "ci/root", str(where), status=1).complaint
    assert f"{where}: is cut short or damaged: " in complaint
    assert "json:" not in complaint
    assert is_as_it_was(volume)
    assert in_the_pool(volume.pool) == {"ci", "pool.toml"}


def test_without_qemu_img_its_package_is_named(
    call: Call, volume: Volume, image: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = image("qcow2")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    complaint = call("import", "ci/root", str(where), status=1).complaint
    assert "qemu-utils" in complaint
    assert "--format raw" in complaint
    assert is_as_it_was(volume)


def test_a_sparse_disk_stays_sparse(
    call: Call, xfs_pool: Pool, image: Make, tmp_path: Path
) -> None:
    content = disk(os.urandom(MIB), size=64 * MIB)
    for origin in (image("qcow2", content), tmp_path / "disk"):
        call("clone", str(origin), "new/root")
        assert seen(xfs_pool["new/root"]) == content
        assert xfs_pool["new/root"].usage < 4 * MIB
        xfs_pool["new/root"].remove()


# ---------------------------------------------------------------- what an image refers to


def refer(kind: str, where: Path, qemu_img: Callable[..., None]) -> Path:
    """Make an image that has (a part of) its content in another file."""
    base, image = where / "base", where / "refers"
    base.write_bytes(DISK)
    backing = ("-b", base, "-F", "raw")
    if kind == "data file":
        options = f"data_file={base},data_file_raw=on,preallocation=metadata"
        qemu_img("create", "-f", "qcow2", "-o", options, image, str(len(DISK)))
        base.write_bytes(DISK)
    elif kind == "vmdk-flat":
        flat = 'RW 16384 FLAT "base" 0\n'
        image.write_text(
            '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
            + flat
        )
    elif kind == "vmdk":
        parent = where / "parent.vmdk"
        qemu_img("convert", "-O", "vmdk", base, parent)
        qemu_img("create", "-f", "vmdk", "-b", parent, "-F", "vmdk", image)
    else:
        qemu_img("create", "-f", kind, *backing, image)
    return image


REFERRING = ["qcow2", "qcow", "qed", "data file", "vmdk", "vmdk-flat"]


@pytest.mark.parametrize("kind", REFERRING)
@pytest.mark.parametrize("command", ["import", "clone"])
def test_an_image_that_refers_to_another_file_is_refused(
    call: Call,
    volume: Volume,
    tmp_path: Path,
    qemu_img: Callable[..., None],
    kind: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = refer(kind, tmp_path, qemu_img)
    # qemu-img does not even get to see it
    monkeypatch.setattr(formats, "_run", None)
    words = ("ci/root", str(where)) if command == "import" else (str(where), "new/root")
    complaint = call(command, *words, status=1).complaint
    assert f"{where}: refers to " in complaint
    assert "--follow" in complaint
    assert is_as_it_was(volume)
    assert in_the_pool(volume.pool) == {"ci", "pool.toml"}


@pytest.mark.parametrize("kind", REFERRING)
def test_an_image_may_refer_to_another_file_if_that_is_asked_for(
    call: Call, volume: Volume, tmp_path: Path, qemu_img: Callable[..., None], kind: str
) -> None:
    where = refer(kind, tmp_path, qemu_img)
    call("import", "ci/root", str(where), "--follow", "--verify")
    assert seen(volume) == DISK


def test_what_an_image_refers_to_is_named(
    call: Call, volume: Volume, tmp_path: Path, qemu_img: Callable[..., None]
) -> None:
    where = refer("qcow2", tmp_path, qemu_img)
    complaint = call("import", "ci/root", str(where), status=1).complaint
    assert f"the backing file '{str(tmp_path)[:40]}" in complaint


def test_the_differences_to_a_parent_are_no_disk(call: Call, volume: Volume, image: Make) -> None:
    where = image("vhd")
    with where.open("r+b") as file:
        file.seek(60)
        file.write(struct.pack(">I", 4))
    complaint = call("import", "ci/root", str(where), "--follow", status=1).complaint
    assert "refers to a parent image" in complaint
    assert "merge" in complaint
    assert is_as_it_was(volume)


def test_what_was_looked_at_is_what_is_read(
    volume: Volume, image: Make, tmp_path: Path, qemu_img: Callable[..., None], monkeypatch: Any
) -> None:
    where = image("qcow2")
    evil = refer("qcow2", tmp_path, qemu_img).read_bytes()
    (tmp_path / "base").write_bytes(disk(b"a secret", size=8 * MIB))
    real = formats._convert

    def another_writes_first(*arguments: Any) -> None:
        where.write_bytes(evil)
        real(*arguments)

    monkeypatch.setattr(formats, "_convert", another_writes_first)
    volume.import_from(where)
    assert seen(volume) == DISK


@given(form=st.sampled_from(sorted(FORMATS)), rest=st.binary(max_size=1500), large=st.booleans())
def test_no_header_breaks_it(form: str, rest: bytes, large: bool) -> None:
    offset, mark = FORMATS[form].magic[0]
    content = bytes(offset) + mark + (b"\xff" * 100 if large else b"") + rest
    image = Memory(content)
    assert probe(image) in {form, "qcow", "qcow2"}
    found = FORMATS[form].refers(image)
    assert found is None or found.isprintable()


# ---------------------------------------------------------------- what a VM has written is raw


@pytest.fixture
def trap(tmp_path: Path, xfs_pool: Pool, qemu_img: Callable[..., None]) -> tuple[Volume, bytes]:
    """A volume in which its VM wrote what looks like an image that refers to a file of the host."""
    written = refer("qcow2", tmp_path, qemu_img).read_bytes()
    volume = xfs_pool.create_volume("evil/root", MIB)
    cycle(volume, written)
    return volume, disk(written, size=MIB)


@pytest.mark.parametrize("way", ["volume", "path", "link", "revision", "working", "input"])
def test_a_volume_is_raw_whatever_it_holds(
    call: Call, trap: tuple[Volume, bytes], tmp_path: Path, way: str
) -> None:
    volume, content = trap
    path = Path(volume.pool.path, "evil", "root.img")
    origin = {"volume": "evil/root", "link": str(tmp_path / "link")}.get(way, str(path))
    (tmp_path / "link").symlink_to(path)
    if way == "revision":
        cycle(volume, b"another")
        (origin,) = map(str, path.parent.glob("root.img.1@*"))
    if way == "working":
        volume.start()
        draw(volume, b"Q")  # it was so before
        origin = volume.path
    if way == "input":
        with path.open("rb") as standard_input:
            words = ("clone", "-", "new/root")
            subprocess.run([SCRIPT, *words], stdin=standard_input, check=True)
    else:
        call("clone", origin, "new/root")
    assert seen(volume.pool["new/root"]) == content


def test_a_block_device_is_raw_whatever_it_holds(
    call: Call, trap: tuple[Volume, bytes], tmp_path: Path
) -> None:
    volume, content = trap
    (tmp_path / "image").write_bytes(content)
    with by_loop_device(str(tmp_path / "image")) as device:
        call("clone", device.name, "new/root", "--verify")
        complaint = call("clone", device.name, "new/more", "--format", "qcow2", status=1)
    assert "refers to the backing file" in complaint.complaint
    assert seen(volume.pool["new/root"]) == content
    assert volume.pool["new/root"].usage < MIB


@pytest.mark.parametrize(
    "pool_toml", ["format = 1\ndriver = 'floppy'\n", "format = 99\n", "\0", None], ids=repr
)
@pytest.mark.parametrize("name", ["root.img", "disk.qcow2"])
def test_a_file_in_a_pool_that_cannot_be_asked_is_raw_whatever_it_holds(
    xfs_pool: Pool, trap: tuple[Volume, bytes], pool_toml: str | None, name: str, tmp_path: Path
) -> None:
    _volume, content = trap
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / name).write_bytes(content)
    if pool_toml is None:
        (tmp_path / "pool.toml").mkdir()
    else:
        (tmp_path / "pool.toml").write_text(pool_toml)
    assert seen(xfs_pool.clone(tmp_path / "vm" / name, "new/root")) == content


def test_a_file_in_a_pool_that_is_no_image_of_it_is_looked_at(
    xfs_pool: Pool, image: Make, tmp_path: Path
) -> None:
    there = Path(xfs_pool.path, "ready")
    there.mkdir()
    shutil.copy(image("qcow2"), there / "debian.qcow2")
    assert seen(xfs_pool.clone(there / "debian.qcow2", "new/root")) == DISK


def test_an_image_without_a_descriptor_is_read_when_its_format_is_named(
    xfs_pool: Pool, image: Make
) -> None:
    content = image("qcow2").read_bytes()
    as_it_is = xfs_pool.clone(Content(Memory(content), "memory"), "raw/root")
    assert seen(as_it_is)[: len(content)] == content
    for follow in (False, True):
        volume_id = f"new/root{follow}"
        named = xfs_pool.clone(
            Content(Memory(content), "memory"), volume_id, image_format="qcow2", follow=follow
        )
        assert seen(named) == DISK
