"""`lifecycle adopt`: a tree of images that another driver made becomes a pool, and nothing of it is touched."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Pool, State
from lifecycle.linux import directories
from lifecycle.machine import known_pools
from support import foreign_trees, holding_open
from support.command_line import Call
from support.disks import SIZE, disk, numbers, seen, seen_by_vm
from support.mounts import FileSystem
from support.snapshots import snapshot


@pytest.fixture
def tree(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree of the file-reflink driver."""
    where = foreign_trees.lay(xfs.new_directory() / "qubes", foreign_trees.FILES)
    monkeypatch.setenv("LIFECYCLE_POOL", str(where))
    return where


def by_id(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in document["volumes"]}


def added_to(tree: Path, before: dict[str, Any]) -> set[str]:
    """Check that nothing that was there has changed, and return what is there besides."""
    after = snapshot(tree)
    assert {name: after[name] for name in before} == before
    return {f"{name}/" if (tree / name).is_dir() else name for name in set(after) - set(before)}


# ---------------------------------------------------------------- a plan


@pytest.mark.parametrize("as_json", [False, True])
def test_first_it_only_shows(tree: Path, call: Call, as_json: bool) -> None:
    before = snapshot(tree)
    called = call("adopt", str(tree), *(["--json"] if as_json else []))
    assert snapshot(tree) == before
    assert known_pools.known() == []
    if as_json:
        assert called.document["adopted"] is False
        assert called.document["name"] is None
    else:
        assert called.out.splitlines()[-1] == (
            f"{tree}: 5 volumes; keeps last 5. Nothing was changed; --yes does it."
        )


def test_what_it_shows(tree: Path, call: Call) -> None:
    document = call("adopt", str(tree), "--json").document
    assert set(document) == {
        *("path", "adopted", "name", "keep", "volumes", "added", "removed", "notes"),
    }
    assert {one["id"]: (one["state"], one["kind"]) for one in document["volumes"]} == {
        "appvms/foo/private": ("dirty", "persistent"),
        "appvms/foo/root": ("dirty", "persistent"),
        "appvms/foo/volatile": ("dirty", "volatile"),
        "vm-templates/fedora/private": ("committed", "persistent"),
        "vm-templates/fedora/root": ("committed", "persistent"),
    }
    private = by_id(document)["appvms/foo/private"]
    assert (private["current"], private["revisions"]) == (4, [1, 2, 3])
    assert private["left_over"]
    assert document["added"] == [
        "appvms/foo/volatile.json",
        "appvms/foo/volatile.img",
        "pool.toml",
    ]
    assert [one["path"] for one in document["notes"]] == list(foreign_trees.OLDER)
    assert all("older naming" in one["text"] for one in document["notes"])


def test_what_it_shows_to_people(tree: Path, call: Call) -> None:
    lines = call("adopt", str(tree)).out.splitlines()
    assert lines[0].split("   ")[0] == "VOLUME"
    assert [line.split()[0] for line in lines[1:6]] == [
        *("appvms/foo/private", "appvms/foo/root", "appvms/foo/volatile"),
        *("vm-templates/fedora/private", "vm-templates/fedora/root"),
    ]
    assert "dirty left over" in lines[1]
    assert lines[lines.index("to add") + 1 :][:3] == [
        *("  appvms/foo/volatile.json", "  appvms/foo/volatile.img", "  pool.toml")
    ]
    (told,) = [line for line in lines if line.startswith("  appvms/foo/volatile: ")]
    assert "taken for volatile" in told


# ---------------------------------------------------------------- doing it

WITHOUT_XML = {"pool.toml", "appvms/foo/volatile.json", "appvms/foo/volatile.img"}
WITH_XML = WITHOUT_XML | {"appvms/foo/root.json", "appvms/foo/private.json"}


@pytest.mark.parametrize("with_xml", [False, True])
def test_what_is_added_and_how_to_go_back(tree: Path, call: Call, with_xml: bool) -> None:
    before = snapshot(tree)
    words = ["--qubes-xml", foreign_trees.xml(tree, foreign_trees.SAID)] if with_xml else []
    document = call("adopt", str(tree), "--yes", "--json", *words).document

    added = added_to(tree, before)
    assert added == set(document["added"]) == (WITH_XML if with_xml else WITHOUT_XML)
    assert document["adopted"] is True
    assert document["name"] == "qubes"
    assert [(one.name, one.path) for one in known_pools.known()] == [("qubes", str(tree))]
    volatile = (tree / "appvms/foo/volatile.img").stat()
    assert volatile.st_blocks == 0
    assert volatile.st_size == (2 * SIZE if with_xml else SIZE)
    call("verify")

    for name in added:
        (tree / name).unlink()
    assert snapshot(tree) == before


def test_the_pool_is_what_the_plan_said(tree: Path, call: Call) -> None:
    words = [
        "adopt",
        str(tree),
        "--json",
        "--qubes-xml",
        foreign_trees.xml(tree, foreign_trees.SAID),
    ]
    planned = call(*words).document
    done = call(*words, "--yes").document
    assert done == planned | {"adopted": True, "name": "qubes"}
    shown = {one["id"]: one for one in call("list", "--json").document}
    assert set(shown) == set(by_id(done))
    for volume_id, one in by_id(done).items():
        document = call("show", volume_id, "--json").document
        for key in ("state", "kind", "size", "rw", "source", "current", "left_over", "in_use_by"):
            assert document[key] == one[key], (volume_id, key)
        assert [revision["number"] for revision in document["revisions"]] == one["revisions"]


def test_its_volumes_live_on(tree: Path, call: Call) -> None:
    call(
        "adopt",
        str(tree),
        "--yes",
        "--qubes-xml",
        foreign_trees.xml(tree, foreign_trees.SAID),
        "--keep",
        "all",
    )
    pool = Pool.open(tree)
    private, root, volatile = (
        pool[f"appvms/foo/{name}"] for name in ("private", "root", "volatile")
    )
    assert all(one.left_over for one in (private, root, volatile))

    call("start", "appvms/foo")
    assert seen_by_vm(private) == disk(b"private, running")
    assert seen_by_vm(root) == disk(b"root, running")
    assert seen_by_vm(volatile) == disk(b"swap")
    call("stop", "appvms/foo")
    assert (private.state, private.current, numbers(private)) == (State.COMMITTED, 5, [1, 2, 3, 4])
    assert (root.state, volatile.state) == (State.REVERTED, State.REVERTED)
    assert seen(private) == disk(b"private, running")
    assert [seen(private, number) for number in numbers(private)] == [
        disk(mark) for mark in (b"first", b"second", b"third", b"private")
    ]

    call("start", "appvms/foo")
    assert seen_by_vm(root) == disk(b"fedora")
    assert seen_by_vm(volatile) == disk(size=2 * SIZE)
    call("stop", "appvms/foo")
    for expected in (b"private", b"third", b"second", b"first"):
        call("revert", "appvms/foo/private")
        assert seen(private) == disk(expected)
    assert [tree / file for file in foreign_trees.OLDER if not (tree / file).exists()] == []
    call("verify")


def test_a_commit_prunes_what_the_plan_said(tree: Path, call: Call) -> None:
    words = ["adopt", str(tree), "--keep", "last 2", "--yes", "--json"]
    remarks = by_id(call(*words).document)["appvms/foo/private"]["remarks"]
    assert remarks == ["keeps last 2: its next commit removes 1, 2"]
    call("stop", "appvms/foo/private")
    assert numbers(Pool.open(tree)["appvms/foo/private"]) == [3, 4]


def test_a_running_vm_is_not_disturbed(tree: Path, call: Call) -> None:
    image = tree / "appvms/foo/private-dirty.img"
    with holding_open.by_another_process(str(image)) as holder:
        before = snapshot(tree)
        document = call("adopt", str(tree), "--yes", "--json").document
        added_to(tree, before)
        private = by_id(document)["appvms/foo/private"]
        assert private["in_use_by"] == [holder._asdict()]
        assert not private["left_over"]
        assert "in use by" in call("stop", "appvms/foo", status=3).complaint
    call("stop", "appvms/foo/private")


def test_an_image_that_a_vm_runs_on_itself(tree: Path, call: Call) -> None:
    with holding_open.by_loop_device(str(tree / "vm-templates/fedora/root.img")):
        document = call("adopt", str(tree), "--json").document
    (remark,) = by_id(document)["vm-templates/fedora/root"]["remarks"]
    assert "its image itself is in use" in remark


def test_modes_are_left_as_they_are(tree: Path, call: Call) -> None:
    (tree / "appvms").chmod(0o2770)
    os.chown(tree / "appvms/foo/root.img", 0, 1000)
    call("adopt", str(tree), "--yes")
    assert (tree / "appvms").stat().st_mode & 0o7777 == 0o2770
    root = (tree / "appvms/foo/root.img").stat()
    assert (root.st_mode & 0o777, root.st_gid) == (0o660, 1000)
    assert (tree / "appvms/foo/volatile.json").stat().st_mode & 0o777 == 0o600


def test_a_name_for_the_machine(tree: Path, call: Call) -> None:
    assert "known as old-vms" in call("adopt", str(tree), "--yes", "--name", "old-vms").out
    assert [one.name for one in known_pools.known()] == ["old-vms"]


# ---------------------------------------------------------------- when it cannot go through


@pytest.mark.parametrize("fails_at", ["volatile.img", "pool.toml", "private.json"])
def test_what_fails_leaves_nothing(
    tree: Path, call: Call, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    published, staged = directories.Draft.publish, directories.Draft.stage

    def fail(name: str) -> None:
        if name == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def publish(draft: directories.Draft, name: str) -> None:
        fail(name)
        published(draft, name)

    def stage(draft: directories.Draft, name: str) -> None:
        fail(name)
        staged(draft, name)

    monkeypatch.setattr(directories.Draft, "publish", publish)
    monkeypatch.setattr(directories.Draft, "stage", stage)
    said = foreign_trees.xml(tree, foreign_trees.SAID | {"appvms/new/bar/root": foreign_trees.ROOT})
    before = snapshot(tree)
    complaint = call("adopt", str(tree), "--yes", "--qubes-xml", said, status=1).complaint
    assert "No space left on device" in complaint
    assert snapshot(tree) == before
    assert known_pools.known() == []


def test_one_that_was_cut_short_goes_on(tree: Path, call: Call) -> None:
    call("adopt", str(tree), "--yes")
    whole = snapshot(tree)
    for file in ("pool.toml", "appvms/foo/volatile.img"):
        (tree / file).unlink()
    document = call("adopt", str(tree), "--yes", "--json").document
    assert document["added"] == ["appvms/foo/volatile.img", "pool.toml"]
    volatile = by_id(document)["appvms/foo/volatile"]
    assert (volatile["state"], volatile["told_by"]) == ("dirty", "record")
    assert set(snapshot(tree)) == set(whole)
    call("verify")


def test_a_pool_that_lost_its_settings(xfs: FileSystem, call: Call) -> None:
    pool = Pool.create(xfs.new_directory())
    source = pool.create_volume("template/root", SIZE)
    pool.create_volume("ci/root", source=source)
    pool.create_volume("ci/scratch", SIZE, save_on_stop=False).start()
    before = call("list", "--json", "--pool", pool.path).document
    Path(pool.path, "pool.toml").unlink()
    document = call("adopt", pool.path, "--yes", "--json").document
    assert document["added"] == ["pool.toml"]
    assert {one["told_by"] for one in document["volumes"]} == {"record"}
    assert call("list", "--json", "--pool", pool.path).document == before


def test_a_copy_of_the_tree_is_a_pool_too(tree: Path, call: Call, xfs: FileSystem) -> None:
    call("adopt", str(tree), "--yes")
    copy = xfs.new_directory() / "copy"
    shutil.copytree(tree, copy)
    assert numbers(Pool.open(copy)["appvms/foo/private"]) == [1, 2, 3]


def test_the_docs_show_what_it_prints(tree: Path, call: Call) -> None:
    page = (Path(__file__).parents[2] / "docs" / "adopt.md").read_text()
    shown = re.findall(r"^```(?:text|console)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    files, printed = (one.replace("/var/lib/qubes", str(tree)) for one in shown)
    assert files.splitlines() == [f"{tree}/{file}" for file in foreign_trees.FILES]
    said = foreign_trees.xml(tree, foreign_trees.SAID)
    assert call("adopt", str(tree), "--qubes-xml", said).out == printed.partition("\n")[2]
