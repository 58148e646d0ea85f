"""The command line on pools that the machine knows by name: naming them, naming what is in them, showing all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lifecycle import Pool
from lifecycle.machine import known_pools
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, seen
from support.holding_open import by_this_process
from support.mounts import FileSystem


@pytest.fixture
def here(xfs_pool: Pool) -> Pool:
    """The session's pool, known as `here`, with the volumes ci/root and ci/data."""
    return furnish(xfs_pool, "here")


@pytest.fixture
def far(xfs: FileSystem) -> Pool:
    """Another pool, known as `far`, with volumes of the same ids."""
    return furnish(Pool.create(xfs.new_directory()), "far")


def furnish(pool: Pool, name: str) -> Pool:
    known_pools.enter(pool.path, name)
    for volume_id in ("ci/root", "ci/data"):
        cycle(pool.create_volume(volume_id, SIZE), f"{name} {volume_id}".encode())
    return pool


# ---------------------------------------------------------------- --pool


def test_a_pool_is_named_by_what_it_is_known_as(call: Call, here: Pool, far: Pool) -> None:
    assert call("pool", "--json").document["path"] == here.path
    assert call("pool", "--pool", "far", "--json").document["path"] == far.path
    assert call("pool", "--pool", "far", "--json").document["name"] == "far"


def test_the_environment_can_name_it_too(
    call: Call, far: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_POOL", "far")
    assert call("pool", "--json").document["path"] == far.path


def test_a_directory_is_a_directory(
    call: Call, far: Pool, xfs: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = xfs.new_directory()
    monkeypatch.chdir(place)
    Pool.create(place / "other")
    assert call("pool", "--pool", "other", "--json").document["path"] == str(place / "other")
    assert "no such directory" in call("pool", "--pool", "nothing", status=1).complaint
    (place / "far").mkdir()  # a directory, but no pool
    assert call("pool", "--pool", "far", "--json").document["path"] == far.path
    Pool.create(place / "far")
    complaint = call("pool", "--pool", "far", status=2).complaint
    assert far.path in complaint
    assert "./far" in complaint
    assert call("pool", "--pool", "./far", "--json").document["path"] == str(place / "far")


def test_a_name_and_a_directory_that_are_one_pool(
    call: Call, far: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.path.basename(far.path)
    known_pools.enter(far.path, name)
    monkeypatch.chdir(os.path.dirname(far.path))
    assert call("pool", "--pool", name, "--json").document["name"] == name


# ---------------------------------------------------------------- POOL:VM/NAME


def test_a_volume_of_another_pool_is_shown(call: Call, here: Pool, far: Pool) -> None:
    for address, pool in {"ci/root": here, "here:ci/root": here, "far:ci/root": far}.items():
        found = call("show", address, "--json").document
        assert (found["id"], found["path"]) == ("ci/root", pool["ci/root"].path)


def test_what_is_said_of_a_volume_can_be_said_of_another_pools(
    call: Call, here: Pool, far: Pool, tmp_path: Path
) -> None:
    before = seen(here["ci/root"])
    (tmp_path / "image").write_bytes(disk(b"image"))
    for words in (
        ("set", "far:ci/root", "keep=all"),
        ("import", "far:ci/root", str(tmp_path / "image")),
        ("resize", "far:ci/root", "1M"),
        ("log", "far:ci/root"),
        ("label", "far:ci/root", "1", "first"),
        ("pin", "far:ci/root", "1"),
        ("unpin", "far:ci/root", "1"),
        ("prune", "far:ci"),
        ("revert", "far:ci/root", "--to", "1"),
        ("forget", "far:ci/root", "2"),
        ("export", "far:ci/root", str(tmp_path / "out")),
        ("diagram", "far:ci/root"),
        ("verify", "far:ci"),
        ("recover", "far:ci/root"),
        ("run", "far:ci", "--", "true"),
        ("create", "far:new/root", "--size", "1M"),
        ("list", "far:ci"),
        ("start", "far:ci"),
        ("checkpoint", "far:ci"),
        ("stop", "far:ci", "--discard"),
    ):
        call(*words)
    assert (tmp_path / "out").read_bytes() == disk(b"far ci/root")
    assert "new/root" in far
    assert "new/root" not in here
    assert seen(here["ci/root"]) == before
    call("remove", "far:ci")
    assert [one.id for one in far] == ["new/root"]
    assert [one.id for one in here] == ["ci/data", "ci/root"]


def test_volumes_of_several_pools_start_and_stop_in_one_call(
    call: Call, here: Pool, far: Pool
) -> None:
    started = call("start", "ci", "far:ci/root", "far:ci", "--json").document
    assert [one["path"] for one in started] == [
        here["ci/data"].path,
        here["ci/root"].path,
        far["ci/root"].path,
        far["ci/data"].path,
    ]
    for pool in (here, far):
        draw(pool["ci/root"], b"written")
    call("stop", "here:ci", "far:ci")
    assert {one.state for pool in (here, far) for one in pool} == {"committed"}
    assert seen(far["ci/root"])[:7] == b"written"


def test_of_several_pools_all_start_or_none(call: Call, here: Pool, far: Pool) -> None:
    far["ci/root"].start()
    with by_this_process(far["ci/root"].path):
        call("start", "ci", "far:ci", status=3)
    assert {one.state for one in here} == {"committed"}


def test_the_sessions_pool_need_not_be_there(
    call: Call, far: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_POOL", str(tmp_path / "nothing"))
    call("start", "far:ci")
    call("stop", "far:ci/root", "far:ci/data")


def test_a_pool_that_is_not_known_is_said_so(call: Call, here: Pool, far: Pool) -> None:
    for words in (("show", "fra:ci/root"), ("start", "fra:ci"), ("clone", "fra:ci/root", "x/y")):
        complaint = call(*words, status=1).complaint
        assert "'fra' is no known pool. Known are: far, here." in complaint


def test_a_volume_that_is_not_there_is_said_with_its_pool(
    call: Call, here: Pool, far: Pool
) -> None:
    assert f"no such volume or VM in {far.path}" in call("show", "far:ci/x", status=1).complaint


def test_a_vm_with_a_colon_in_its_name_can_still_be_named(call: Call, here: Pool) -> None:
    call("create", "a:b/root", "--size", "1M")
    assert call("show", "a:b/root", "--json").document["vm"] == "a:b"
    assert call("show", "here:a:b/root", "--json").document["vm"] == "a:b"


def test_what_can_be_read_in_two_ways_is_refused(call: Call, here: Pool, far: Pool) -> None:
    here.create_volume("far:ci/root", SIZE)
    complaint = call("show", "far:ci/root", status=2).complaint
    assert "--pool far" in complaint
    assert call("show", "here:far:ci/root", "--json").document["vm"] == "far:ci"
    assert call("show", "ci/root", "--pool", "far", "--json").document["vm"] == "ci"


def test_a_source_lies_in_the_same_pool(call: Call, here: Pool, far: Pool) -> None:
    call("create", "far:new/root", "--source", "far:ci/root")
    assert far["new/root"].config.source == "ci/root"
    complaint = call("create", "far:new/more", "--source", "here:ci/root", status=2).complaint
    assert "same pool" in complaint
    assert "new/more" not in far


# ---------------------------------------------------------------- clone and import between pools


def test_clone_from_another_pool(call: Call, here: Pool, far: Pool) -> None:
    assert call("clone", "far:ci/root", "new/root").out == (
        "new/root: cloned from far:ci/root, 128 KiB\n"
    )
    assert seen(here["new/root"]) == disk(b"far ci/root")
    call("clone", "ci/root", "far:new/root")
    assert seen(far["new/root"]) == disk(b"here ci/root")


def test_import_from_another_pool_keeps_what_was_held_as_a_revision(
    call: Call, here: Pool, far: Pool
) -> None:
    assert call("import", "ci/root", "far:ci/root").out == "ci/root: committed as 2, 128 KiB\n"
    assert seen(here["ci/root"]) == disk(b"far ci/root")
    assert seen(here["ci/root"], 1) == disk(b"here ci/root")
    call("import", "ci/root", "ci/data")
    assert seen(here["ci/root"]) == disk(b"here ci/data")


def test_a_file_that_bears_the_name_of_a_volume(
    call: Call, here: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "data").write_bytes(disk(b"a file"))
    (tmp_path / "plain").write_bytes(disk(b"plain"))
    assert "./ci/data" in call("import", "ci/root", "ci/data", status=2).complaint
    call("import", "ci/root", "./ci/data")
    assert seen(here["ci/root"]) == disk(b"a file")
    call("import", "ci/root", "here:ci/data")
    assert seen(here["ci/root"]) == disk(b"here ci/data")
    call("import", "ci/root", "plain")
    assert seen(here["ci/root"]) == disk(b"plain")


# ---------------------------------------------------------------- pools

POOL_KEYS = {
    *("name", "path", "driver", "size", "usage", "reflinks", "volumes", "keep", "retention"),
    *("included_in", "problem", "counted"),
}


def test_pools_shows_them_all(call: Call, here: Pool, far: Pool, pool_elsewhere: Pool) -> None:
    known_pools.enter(pool_elsewhere.path, "elsewhere")
    found = {one["name"]: one for one in call("pools", "--json").document}
    assert list(found) == ["elsewhere", "far", "here"]
    for name, pool in {"elsewhere": pool_elsewhere, "far": far, "here": here}.items():
        one, capacity = found[name], os.statvfs(pool.path)
        assert set(one) == POOL_KEYS
        assert (one["path"], one["driver"], one["problem"]) == (pool.path, "reflink", None)
        assert one["size"] == capacity.f_blocks * capacity.f_frsize
        assert 0 < one["usage"] < one["size"]
        assert one["volumes"] == len(list(pool))
        assert one["included_in"] is None
    # those on one file system share its space
    assert [found[name]["counted"] for name in found] == [True, True, False]


@pytest.fixture
def file_system(xfs: FileSystem) -> FileSystem:
    """XFS, so that `pool_elsewhere` is not."""
    return xfs


def test_pools_shows_them_to_people(call: Call, here: Pool, far: Pool) -> None:
    Path(here.path, "deep").mkdir()
    known_pools.enter(Pool.create(f"{here.path}/deep/inner").path)
    heads, *rows, total = [line.split() for line in call("pools").out.splitlines()]
    assert heads == ["POOL", "PATH", "DRIVER", "SIZE", "USED", "VOLUMES", "INCLUDED", "IN"]
    assert [row[:3] for row in rows] == [
        ["far", far.path, "reflink"],
        ["here", here.path, "reflink"],
        ["inner", f"{here.path}/deep/inner", "reflink"],
    ]
    assert [row[-1] for row in rows] == ["2", "2", "here"]
    size, used = rows[0][3:5], rows[0][5:7]
    assert total == ["total", *size, *used, "4"]


@pytest.mark.parametrize("kind", ["gone", "file", "no pool", "unreadable"])
def test_a_pool_that_cannot_be_looked_at_is_shown_with_what_is_wrong(
    call: Call, here: Pool, far: Pool, kind: str
) -> None:
    if kind == "unreadable":
        Path(far.path, "pool.toml").write_text("format = {")
    else:
        shutil.rmtree(far.path)
    if kind == "file":
        Path(far.path).touch()
    if kind == "no pool":
        Path(far.path).mkdir()
    found = {one["name"]: one for one in call("pools", "--json").document}
    assert set(found["far"]) == POOL_KEYS
    assert far.path in found["far"]["problem"]
    assert found["far"]["counted"] is False
    for key in POOL_KEYS - {"name", "path", "problem", "counted"}:
        assert found["far"][key] is None
    assert found["here"]["counted"] is True
    lines = call("pools").out.splitlines()
    assert " ".join(lines[1].split()) == f"far {far.path} - - - - cannot be looked at"
    assert lines[3].startswith("total known")
    assert lines[4] == f"far: {found['far']['problem']}"
    if kind == "file":
        Path(far.path).unlink()


def test_no_pool_is_known(call: Call) -> None:
    assert "lifecycle init" in call("pools").out
    assert call("pools", "--json").document == []


def test_pool_shows_people_what_holds_it(call: Call, here: Pool) -> None:
    inner = Pool.create(f"{here.path}/inner")
    assert "included in  here" in call("pool", "--pool", inner.path).out
    assert "included in" not in call("pool").out


def test_the_shell_completes_addresses(here: Pool, far: Pool, call: Call) -> None:
    from click.shell_completion import ShellComplete

    from lifecycle.cli.app import cli

    def completed(words: list[str], incomplete: str) -> list[str]:
        shell = ShellComplete(cli, {}, "lifecycle", "_LIFECYCLE_COMPLETE")
        return [one.value for one in shell.get_completions(words, incomplete)]

    assert completed(["show"], "ci") == ["ci", "ci/data", "ci/root"]
    assert completed(["show"], "far:ci/r") == ["far:ci/root"]
    assert completed(["show"], "nothing:") == []
    assert completed(["list", "--pool", "far"], "ci/d") == ["ci/data"]
