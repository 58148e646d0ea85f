"""Import and clone: image files of all formats, devices, streams; what images refer to; reading again."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import NoSuchVolume, Pool, Refused, StorageFailed, Volume
from lifecycle.errors import NotTheSame
from lifecycle.linux import copying, files
from lifecycle.transfer import formats
from lifecycle.transfer.content import Content
from lifecycle.transfer.formats import FORMATS, probe
from support.command_line import SCRIPT, Call
from support.disks import MIB, SIZE, cycle, disk, draw, seen
from support.holding_open import by_loop_device
from support.mounts import FileSystem

DISK = disk(b"a disk", size=8 * MIB)
"""What the images of these tests hold."""

IMAGES = {
    "qcow2": ("qcow2",),
    "qcow2-old": ("qcow2", "-o", "compat=0.10"),
    "qcow2-compressed": ("qcow2", "-c"),
    "qcow": ("qcow",),
    "qed": ("qed",),
    "vmdk": ("vmdk",),
    "vmdk-stream": ("vmdk", "-o", "subformat=streamOptimized"),
    "vdi": ("vdi",),
    "vhd": ("vpc", "-o", "force_size=on"),
    "vhd-fixed": ("vpc", "-o", "force_size=on,subformat=fixed"),
    "vhdx": ("vhdx",),
    "parallels": ("parallels",),
}
"""Kinds of images, and how qemu-img makes them."""

Make = Callable[..., Path]


@pytest.fixture
def qemu_img() -> Callable[..., None]:
    """Return a function that runs qemu-img; without it the test is skipped, but fails where CI is set."""
    if shutil.which("qemu-img") is None:
        reason = "needs qemu-img (package qemu-utils)"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    def run(*words: str | Path) -> None:
        subprocess.run(("qemu-img", *words), check=True, capture_output=True)

    return run


@pytest.fixture
def image(tmp_path: Path, qemu_img: Callable[..., None]) -> Make:
    """Return a function that makes an image of a kind of `IMAGES`, of a disk."""

    def make(kind: str, content: bytes = DISK) -> Path:
        (tmp_path / "disk").write_bytes(content)
        qemu_img("convert", "-f", "raw", "-O", *IMAGES[kind], tmp_path / "disk", tmp_path / kind)
        return tmp_path / kind

    return make


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """The volume ci/root, which has been written to once."""
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"as it was")
    return volume


def is_as_it_was(volume: Volume) -> bool:
    """Tell whether nothing has become of the volume."""
    return (volume.state, volume.current, seen(volume)) == ("committed", 1, disk(b"as it was"))


def in_the_pool(pool: Pool) -> set[str]:
    return set(os.listdir(pool.path))


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
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        assert probe(file.fileno()) in {form, "qcow", "qcow2"}
        found = FORMATS[form].refers(file.fileno())
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


# ---------------------------------------------------------------- streams


def test_a_stream_can_hold_an_image(volume: Volume, image: Make) -> None:
    where = image("qcow2")
    for words in (("import", "ci/root", "-"), ("clone", "-", "new/root", "--verify")):
        with subprocess.Popen(["cat", where], stdout=subprocess.PIPE) as source:
            done = subprocess.run([SCRIPT, *words], stdin=source.stdout, check=False)
        assert done.returncode == 0
    assert seen(volume) == seen(volume.pool["new/root"]) == DISK


def test_a_stream_is_read_before_the_volume_is_locked(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image").write_bytes(disk(b"streamed"))
    real = copying.copy

    def meanwhile(*arguments: Any) -> int:
        cycle(volume, b"meanwhile")
        monkeypatch.setattr(copying, "copy", real)
        return real(*arguments)

    monkeypatch.setattr(copying, "copy", meanwhile)
    with subprocess.Popen(["cat", tmp_path / "image"], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        volume.import_from(Content(source.stdout.fileno(), "a stream"))
    assert seen(volume) == disk(b"streamed")
    assert seen(volume, 2)[:9] == b"meanwhile"


# ---------------------------------------------------------------- refusals come first


def test_nothing_is_read_for_a_volume_that_cannot_import(
    volume: Volume, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = image("qcow2")
    monkeypatch.setattr(formats, "_run", None)
    volume.start()
    with pytest.raises(Refused):
        volume.import_from(where)
    with pytest.raises(Refused):
        volume.pool.clone(where, "ci/root")
    assert volume.state == "started"


def test_what_is_not_there_is_said_first(volume: Volume) -> None:
    volume.start()
    absent = Volume(volume.pool, "ci/absent")
    with pytest.raises(NoSuchVolume):
        volume.import_from(absent)
    with pytest.raises(NoSuchVolume):
        volume.pool.clone(absent, "ci/root")


def test_a_disk_that_is_full_is_told_of_as_by_any_event(
    volume: Volume, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where = image("qcow2")
    monkeypatch.setattr(files, "write_at", fail)
    with subprocess.Popen(["cat", where], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        for origin in (where, Content(source.stdout.fileno(), "a stream")):
            with pytest.raises(StorageFailed, match="import failed: No space left"):
                volume.import_from(origin)
    assert is_as_it_was(volume)


# ---------------------------------------------------------------- reading again


@pytest.fixture(params=["shared", "copied", "device", "stream", "qcow2"])
def origin(request: pytest.FixtureRequest, xfs_pool: Pool, tmp_path: Path, image: Make) -> Any:
    """Something to import that holds `DISK`."""
    kind = request.param
    (tmp_path / "image").write_bytes(DISK)
    if kind == "device":
        with by_loop_device(str(tmp_path / "image")) as device:
            yield device.name
    elif kind == "shared":
        shared = Path(xfs_pool.path, "image")
        shared.write_bytes(DISK)
        yield shared
        shared.unlink()
    elif kind == "stream":
        with subprocess.Popen(["cat", tmp_path / "image"], stdout=subprocess.PIPE) as source:
            assert source.stdout is not None
            yield Content(source.stdout.fileno(), "a stream")
    else:
        yield tmp_path / "image" if kind == "copied" else image(kind)


def test_what_is_the_same_is_verified(volume: Volume, origin: Any) -> None:
    told: list[str] = []
    volume.pool.on_progress = lambda text, done, total: told.append(text)
    volume.import_from(origin, verify=True)
    assert seen(volume) == DISK
    assert any(text.startswith("verify ") for text in told)
    assert told[-1] == "verify ci/root"


def test_what_is_not_the_same_changes_nothing(
    volume: Volume, origin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte is spoilt on its way to the disk, wherever that goes through."""

    def spoil(fd: int) -> None:
        os.pwrite(fd, b"!", 5 * MIB)

    real_sync = files.sync_content

    def sync(fd: int) -> None:
        if os.fstat(fd).st_size == len(DISK):
            spoil(fd)
        real_sync(fd)

    monkeypatch.setattr(files, "sync_content", sync)
    with pytest.raises(NotTheSame) as failed:
        volume.import_from(origin, verify=True)
    assert "what was written is not what was read" in str(failed.value)
    assert is_as_it_was(volume)
    assert not [one for one in os.listdir(f"{volume.pool.path}/ci") if "~" in one]


def test_a_clone_that_is_not_the_same_is_not_there(
    call: Call, xfs_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image").write_bytes(DISK)
    real = files.write_at
    monkeypatch.setattr(
        files, "write_at", lambda fd, piece, at: real(fd, b"b" + bytes(piece)[1:], at)
    )
    complaint = call("clone", str(tmp_path / "image"), "ci/root", "--verify", status=1).complaint
    assert "they differ at byte 0" in complaint
    assert in_the_pool(xfs_pool) == {"pool.toml"}
    call("clone", str(tmp_path / "image"), "ci/root")  # no one looked


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b"", b"", None),
        (DISK, DISK, None),
        (DISK, DISK[:-1], len(DISK) - 1),
        (bytes(MIB) + b"a", bytes(MIB) + b"b", MIB),
        (b"a" + bytes(3 * MIB), bytes(3 * MIB + 1), 0),
        (bytes(3 * MIB) + b"a", bytes(3 * MIB + 1), 3 * MIB),
        (b"a" * MIB + bytes(5 * MIB), b"a" * MIB + bytes(5 * MIB), None),
    ],
)
def test_where_two_files_differ(
    xfs: FileSystem, one: bytes, other: bytes, expected: int | None
) -> None:
    place = xfs.new_directory()
    fds = []
    for name, content in {"one": one, "other": other}.items():
        (place / name).write_bytes(content)
        source = os.open(place / name, os.O_RDONLY)
        fds.append(os.open(place / f"{name}-sparse", os.O_RDWR | os.O_CREAT))
        copying.copy(source, fds[-1])
        os.close(source)
    assert copying.difference(*fds) == copying.difference(*reversed(fds)) == expected
    for fd in fds:
        os.close(fd)


# ---------------------------------------------------------------- progress


def test_each_step_of_a_copy_is_told(volume: Volume, image: Make) -> None:
    told: dict[str, list[tuple[int, int | None]]] = {}
    volume.pool.on_progress = lambda text, done, total: told.setdefault(text, []).append(
        (done, total)
    )
    where = image("qcow2")
    volume.import_from(where, verify=True)
    assert list(told) == [
        f"read {where}", f"convert {where}", f"verify {where}", "verify ci/root"
    ]  # fmt: skip
    assert told[f"convert {where}"][-1] == (len(DISK), len(DISK))
