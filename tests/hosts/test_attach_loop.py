"""`lifecycle attach --for loop`: the volume as a loop device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle import InUse, Pool, Refused, State, Volume
from lifecycle.hosts import attach
from support.command_line import Call
from support.disks import MIB, disk, seen
from support.holding_open import by_another_process, by_loop_device, going_with_us
from support.mounts import FileSystem, run


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    return xfs_pool.create_volume("ci/root", MIB)


def of_loop(device: str, attribute: str) -> str:
    return Path("/sys/block", os.path.basename(device), attribute).read_text().strip()


@pytest.mark.parametrize("rw", [True, False])
def test_a_loop_device_is_the_volume(call: Call, xfs_pool: Pool, rw: bool) -> None:
    root = xfs_pool.create_volume("ci/root", MIB, rw=rw)
    root.start()
    called = call("attach", "ci/root", "--for", "loop")
    device = called.out.rstrip("\n")
    with going_with_us(device, root.path):
        assert called.err == ""
        assert of_loop(device, "loop/backing_file") == root.path
        assert of_loop(device, "ro") == ("0" if rw else "1")
        assert of_loop(device, "loop/dio") == "1"
        complaint = call("stop", "ci", status=3).complaint
        assert f"its image is in use by {device}; stop the VM or detach it first" in complaint
        if rw:
            with open(device, "r+b") as opened:
                opened.write(b"written")
                opened.flush()
                os.fsync(opened.fileno())
    root.stop()
    assert seen(root) == disk(b"written" if rw else b"", size=MIB)


def test_a_loop_device_where_the_cache_is_not_passed_by(
    pool: Pool, file_system: FileSystem
) -> None:
    root = pool.create_volume("ci/root", MIB)
    root.start()
    device = attach.attach_loop(root)
    with going_with_us(device, root.path):
        assert of_loop(device, "loop/dio") == ("0" if file_system.kind == "btrfs" else "1")


def test_what_is_written_to_by_another_gets_no_loop_device(call: Call, root: Volume) -> None:
    root.start()
    with by_another_process(root.path) as holder:
        complaint = call("attach", "ci/root", "--for", "loop", status=3).complaint
        assert f"cannot attach: its image is in use by {holder}" in complaint
    with by_loop_device(root.path) as holder, pytest.raises(InUse) as caught:
        attach.attach_loop(root)
    assert caught.value.holders == (holder,)
    assert root.stop().event == "release"


def test_what_no_one_may_write_to_can_have_several(xfs_pool: Pool) -> None:
    root = xfs_pool.create_volume("ci/root", MIB, rw=False)
    root.start()
    with by_loop_device(root.path) as holder:
        device = attach.attach_loop(root)
        with going_with_us(device, root.path):
            assert device != holder.name


def test_at_rest_there_is_nothing_to_make_a_loop_device_of(root: Volume) -> None:
    with pytest.raises(Refused) as caught:
        attach.attach_loop(root)
    assert caught.value.state == State.CREATED
    assert "start" in caught.value.allowed


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (None, "losetup is not installed"),
        ("echo 'losetup: cannot find  an unused one' >&2; exit 1", "cannot find an unused one"),
        ("exit 5", "exit status 5"),
    ],
)
def test_without_loop_devices(
    call: Call,
    root: Volume,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    complaint: str,
) -> None:
    root.start()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(attach, "SBIN", "")
    if script is not None:
        (tmp_path / "losetup").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "losetup").chmod(0o755)
    assert complaint in call("attach", "ci/root", "--for", "loop", status=1).complaint


def test_it_is_found_where_administrators_programs_are(
    root: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    root.start()
    device = attach.attach_loop(root)
    with going_with_us(device, root.path):
        assert run("losetup", "--noheadings", "--output", "BACK-FILE", device).strip() == root.path
