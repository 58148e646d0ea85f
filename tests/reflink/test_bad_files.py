"""What lies in a VM's directory and should not: links, pipes, devices, directories, strangers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lifecycle import LifecycleError, Pool, Refused, Volume, errors
from support.command_line import Call
from support.disks import SIZE, cycle, disk, numbers, seen
from support.snapshots import snapshot


def check_neighbour(volume: Volume) -> None:
    """Check that the other volume of the VM lives on as if nothing were wrong."""
    other = volume.pool["ci/other"]
    cycle(other, b"again")
    assert seen(other) == disk(b"again")


# ---------------------------------------------------------------- links, pipes, devices, directories


def _link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def _dangling(path: Path, _target: Path) -> None:
    path.symlink_to("/nonexistent/file")


def _loop(path: Path, _target: Path) -> None:
    path.symlink_to(path.name)


def _pipe(path: Path, _target: Path) -> None:
    os.mkfifo(path)


def _device(path: Path, _target: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero


def _directory(path: Path, _target: Path) -> None:
    path.mkdir()


FOREIGN = {
    "link": _link,
    "dangling link": _dangling,
    "loop of links": _loop,
    "pipe": _pipe,
    "device": _device,
    "directory": _directory,
}


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file outside of the pool, which links lead to."""
    path = tmp_path / "precious"
    path.write_bytes(disk(b"precious"))
    return path


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("file", ["root.img", "root-dirty.img", "root.json"])
def test_what_is_no_file_is_not_taken_for_one(
    call: Call, volume: Volume, vm: Path, precious: Path, file: str, kind: str
) -> None:
    (vm / file).unlink(missing_ok=True)
    FOREIGN[kind](vm / file, precious)
    assert volume.state == "damaged"
    for attempt in (volume.start, volume.stop, volume.checkpoint):
        with pytest.raises(Refused, match="ci/root is damaged"):
            attempt()
    for words in ("show ci/root", "list", "log ci/root", "list --json", "show ci/root --json"):
        call(*words.split())
    call("verify", status=1)
    assert precious.read_bytes() == disk(b"precious")
    check_neighbour(volume)


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if kind != "directory"])
@pytest.mark.parametrize("file", ["root.img", "root-dirty.img", "root.json"])
def test_a_revert_leads_back_from_what_is_no_file(
    volume: Volume, vm: Path, precious: Path, file: str, kind: str
) -> None:
    (vm / file).unlink(missing_ok=True)
    FOREIGN[kind](vm / file, precious)
    change = volume.revert(1)
    assert (change.dest, volume.state) == ("reverted", "reverted")
    assert seen(volume) == disk(b"one")
    cycle(volume, b"three")
    assert seen(volume) == disk(b"three")
    assert precious.read_bytes() == disk(b"precious")


@pytest.mark.parametrize("file", ["root.img", "root-dirty.img"])
def test_a_revert_over_a_directory_says_so_or_leads_back(
    volume: Volume, vm: Path, file: str
) -> None:
    (vm / file).unlink(missing_ok=True)
    (vm / file).mkdir()
    (vm / file / "mine").touch()
    try:
        volume.revert(1)
    except LifecycleError as error:
        assert "irectory" in str(error)  # noqa: PT017
        assert volume.state == "damaged"
    else:
        assert volume.state == "reverted"
    assert [path.name for path in vm.glob("*/mine")] == ["mine"]
    assert seen(volume, 1) == disk(b"one")


@pytest.mark.parametrize("kind", FOREIGN)
def test_content_is_not_read_through_what_is_no_file(
    call: Call, volume: Volume, vm: Path, precious: Path, tmp_path: Path, kind: str
) -> None:
    (vm / "root.img").unlink()
    FOREIGN[kind](vm / "root.img", precious)
    out = tmp_path / "out"
    complaint = call("export", "ci/root", str(out), status=1).complaint
    assert "root.img" in complaint
    assert not out.exists()
    call("clone", "ci/root", "ci/copy", status=1)
    assert "ci/copy" not in volume.pool


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_revision_that_is_no_file_is_no_revision(
    volume: Volume, vm: Path, precious: Path, kind: str
) -> None:
    foreign = vm / "root.img.7@2026-01-02T03:04:05Z"
    FOREIGN[kind](foreign, precious)
    assert numbers(volume) == [1]
    with pytest.raises(errors.NoSuchRevision):
        volume.revert(7)
    with pytest.raises(errors.NoSuchRevision):
        volume.export(7)
    cycle(volume, b"three")
    assert os.path.lexists(foreign)
    assert precious.read_bytes() == disk(b"precious")


@pytest.mark.parametrize("kind", ["link", "dangling link", "loop of links", "pipe", "device"])
@pytest.mark.parametrize("file", ["root-import.img", "root-precache.img", "root.img~1a2b3c4d"])
def test_a_leftover_that_is_no_file_is_removed_and_not_followed(
    volume: Volume, vm: Path, precious: Path, file: str, kind: str
) -> None:
    FOREIGN[kind](vm / file, precious)
    cycle(volume, b"three")
    assert not os.path.lexists(vm / file)
    assert seen(volume) == disk(b"three")
    assert precious.read_bytes() == disk(b"precious")


def test_a_directory_named_as_an_image_made_ahead_stops_no_start(
    volume: Volume, vm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A start can do without one."""
    (vm / "root-precache.img" / "mine").mkdir(parents=True)
    cycle(volume, b"three")
    assert seen(volume) == disk(b"three")
    assert (vm / "root-precache.img" / "mine").exists()
    assert "root-precache.img" in caplog.text


@pytest.mark.parametrize("file", ["root-import.img", "root.img~1a2b3c4d"])
def test_a_directory_named_as_a_leftover_is_named_and_left(
    volume: Volume, vm: Path, file: str
) -> None:
    (vm / file).mkdir()
    (vm / file / "mine").touch()
    with pytest.raises(LifecycleError, match=file):
        volume.start()
    assert (volume.state, seen(volume)) == ("committed", disk(b"two"))
    assert (vm / file / "mine").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_a_vm_that_is_no_directory_is_none(
    call: Call, volume: Volume, tmp_path: Path, kind: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "root.img").write_bytes(disk(b"precious"))
    before = snapshot(elsewhere)
    FOREIGN[kind](Path(volume.pool.path, "new"), elsewhere)
    for words in ("show new/root", "start new", "create new/data --size 1M", "remove new"):
        assert "new" in call(*words.split(), status=1).complaint
    assert [one["vm"] for one in call("list", "--json").document] == ["ci", "ci"]
    call("verify")
    assert snapshot(elsewhere) == before


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_pool_file_that_is_no_file(call: Call, volume: Volume, precious: Path, kind: str) -> None:
    toml = Path(volume.pool.path, "pool.toml")
    toml.unlink()
    FOREIGN[kind](toml, precious)
    with pytest.raises(LifecycleError, match=r"pool\.toml"):
        Pool.open(volume.pool.path)
    for words in ("list", "init", "start ci"):
        assert "pool.toml" in call(*words.split(), status=1).complaint
    assert precious.read_bytes() == disk(b"precious")


# ---------------------------------------------------------------- strangers

STRANGERS = [
    "root.img.before-upgrade@2018-01-02T03:04:05Z",
    "root.img@2018-01-02T03:04:05Z",
    "root.img.1",
    "root.img.01@2026-01-02T03:04:05Z",
    "root.img.9@2026-13-45T99:99:99Z",
    "root.img.9@2026-01-02",
    "root.img.-1@2026-01-02T03:04:05Z",
    "root.img.1000000000@2026-01-02T03:04:05Z",
    "root.img.9@2026-01-02T03:04:05Z.bak",
    "root.IMG",
    "root.img.bak",
    "root.qcow2",
    "root.json.bak",
    "root-dirty.img.bak",
    "root-dirty.img.1@2026-01-02T03:04:05Z",
    ".root.img.swp",
    "#root.json#",
    "root~",
    "notes\nof mine.txt",
    "\x1b[31mred.txt",
]
NOT_UTF8 = os.fsdecode(b"root.img.\xff")


def test_strangers_are_left_alone(call: Call, volume: Volume, vm: Path) -> None:
    strangers = [*STRANGERS, NOT_UTF8]
    for name in strangers:
        (vm / name).write_bytes(b"mine")
    before = {name: one for name, one in snapshot(vm).items() if name in strangers}
    assert len(before) == len(strangers)
    assert [one.id for one in volume.pool] == ["ci/other", "ci/root"]
    assert numbers(volume) == [1]
    for words in ("start ci", "stop ci", "revert ci/root", "revert ci/root --to empty"):
        call(*words.split())
    cycle(volume, b"three")
    volume.configure(keep="last 0")
    call("prune")
    call("remove", "ci")
    assert snapshot(vm) == before
    assert list(volume.pool) == []


def test_verify_names_each_stranger(call: Call, volume: Volume, vm: Path) -> None:
    for name in (*STRANGERS, NOT_UTF8):
        (vm / name).write_bytes(b"mine")
    found = call("verify", "--json").document
    named = {one["path"] for one in found}
    assert named >= {f"ci/{name}" for name in STRANGERS if name.isprintable()}
    assert len(found) == len(named) == len(STRANGERS) + 1
    assert not any(one["harmful"] for one in found)
    lines = call("verify").out.splitlines()
    assert len(lines) == len(found)
    assert all(line.isprintable() for line in lines)


def test_a_volume_whose_name_only_begins_alike_is_a_stranger(xfs_pool: Pool) -> None:
    for name in ("root2", "root.2", "root-2", "roo", "root.img", "root.img.1", "root.json"):
        other = xfs_pool.create_volume(f"ci/{name}", SIZE)
        cycle(other, b"one")
        cycle(other, b"two")
    before = snapshot(xfs_pool.path)
    volume = xfs_pool.create_volume("ci/root", SIZE)
    assert numbers(volume) == []
    cycle(volume, b"three")
    cycle(volume, b"four")
    volume.revert()
    volume.configure(keep="last 0")
    volume.prune()
    volume.remove()
    assert snapshot(xfs_pool.path) == before
