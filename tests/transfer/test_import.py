"""Import and clone: streams, what is refused before anything is read, reading again, progress."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lifecycle import NoSuchVolume, Pool, Refused, StorageFailed, Volume
from lifecycle.errors import NotTheSame
from lifecycle.linux import copying, files
from lifecycle.transfer import formats
from lifecycle.transfer.content import Content
from support.command_line import SCRIPT, Call
from support.disks import MIB, cycle, disk, seen
from support.foreign_images import DISK, Make, in_the_pool, is_as_it_was
from support.holding_open import by_loop_device

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
