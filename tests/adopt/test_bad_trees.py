"""What `lifecycle adopt` meets that is not as it should be: each is said, and nothing is lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Pool, State
from lifecycle.adopt import tree as tree_
from support import foreign_trees, holding_open
from support.command_line import Call
from support.disks import SIZE, disk, seen
from support.mounts import FileSystem, run
from support.snapshots import snapshot


@pytest.fixture
def tree(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with one volume, and whatever a test puts beside it."""
    where = foreign_trees.lay(xfs.new_directory() / "tree", {"vm/root.img": b"root"})
    monkeypatch.setenv("LIFECYCLE_POOL", str(where))
    return where


def notes(document: Any) -> dict[str, str]:
    return {one["path"]: one["text"] for one in document["notes"]}


def by_id(document: Any) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in document["volumes"]}


# ---------------------------------------------------------------- the directory


def test_a_pool_already(tree: Path, call: Call) -> None:
    call("adopt", str(tree), "--yes")
    before = snapshot(tree)
    for words in ([], ["--yes"]):
        assert "is a pool already" in call("adopt", str(tree), *words, status=1).complaint
    assert snapshot(tree) == before


def test_an_embedded_pool_that_is_not_mounted(tree: Path, call: Call) -> None:
    (tree / "pool.xfs").touch()
    assert "is a pool already" in call("adopt", str(tree), status=1).complaint


@pytest.mark.parametrize("file", ["pool.toml", "pool.xfs"])
def test_a_pool_inside(tree: Path, call: Call, file: str) -> None:
    (tree / "vm" / "deep").mkdir()
    (tree / "vm" / "deep" / file).touch()
    complaint = call("adopt", str(tree), "--yes", status=1).complaint
    assert "holds a pool of its own, vm/deep" in complaint
    assert not (tree / "pool.toml").exists()


def test_inside_a_pool(tree: Path, call: Call) -> None:
    call("adopt", str(tree), "--yes")
    assert f"lies in the pool {tree}" in call("adopt", str(tree / "vm"), status=1).complaint


def test_no_directory(tree: Path, call: Call) -> None:
    complaint = call("adopt", str(tree / "none"), status=1).complaint
    assert complaint == f"lifecycle: {tree}/none: there is no such directory.\n"
    assert not (tree / "none").exists()
    assert "is not a directory" in call("adopt", str(tree / "vm/root.img"), status=1).complaint


def test_one_that_cannot_be_written_to(tree: Path, call: Call) -> None:
    run("mount", "--bind", str(tree), str(tree))
    try:
        run("mount", "-o", "remount,bind,ro", str(tree))
        for words in ([], ["--yes"]):
            complaint = call("adopt", str(tree), *words, status=1).complaint
            assert "cannot be made a pool: Read-only file system" in complaint
    finally:
        run("umount", str(tree))


def test_no_reflinks(mounted: Callable[[str], FileSystem], call: Call) -> None:
    tree = foreign_trees.lay(mounted("plain").new_directory(), {"vm/root.img": b"root"})
    complaint = call("adopt", str(tree), "--yes", status=1).complaint
    assert "has no reflinks" in complaint
    assert "`--no-setup-check`" in complaint
    assert sorted(os.listdir(tree)) == ["vm"]
    call("adopt", str(tree), "--yes", "--no-setup-check")
    Pool.open(tree)["vm/root"].start()


def test_an_empty_directory(xfs: FileSystem, call: Call) -> None:
    document = call("adopt", str(xfs.new_directory()), "--yes", "--json").document
    assert document["volumes"] == []
    assert document["added"] == ["pool.toml"]


@pytest.mark.parametrize("words", [["--keep", "whatever"], ["--keep", ""]])
def test_a_policy_that_is_none(tree: Path, call: Call, words: list[str]) -> None:
    assert "not a retention policy" in call("adopt", str(tree), "--yes", *words, status=2).complaint
    assert not (tree / "pool.toml").exists()


def test_a_name_that_another_pool_bears(tree: Path, call: Call, xfs: FileSystem) -> None:
    call("init", str(xfs.new_directory()), "--name", "taken")
    called = call("adopt", str(tree), "--yes", "--name", "taken")
    assert "not known by a name" in called.err
    assert f"{tree} is a pool now: 1 volume;" in called.out


# ---------------------------------------------------------------- files


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


KINDS_OF_FILES: dict[str, Callable[[Path], None]] = {
    "a symbolic link": lambda path: path.symlink_to("root.img"),
    "a dangling link": lambda path: path.symlink_to("/no/where"),
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a directory": os.mkdir,
}


@pytest.mark.parametrize("kind", KINDS_OF_FILES)
def test_an_image_that_is_no_file(tree: Path, call: Call, kind: str) -> None:
    KINDS_OF_FILES[kind](tree / "vm" / "data.img")
    before = snapshot(tree)
    document = call("adopt", str(tree), "--yes", "--json", status=1).document
    assert "data.img is not a regular file" in by_id(document)["vm/data"]["damage"]
    (tree / "pool.toml").unlink()
    assert snapshot(tree) == before


@pytest.mark.parametrize("kind", KINDS_OF_FILES)
def test_a_working_image_alone_that_is_no_file(tree: Path, call: Call, kind: str) -> None:
    KINDS_OF_FILES[kind](tree / "vm" / "data-dirty.img")
    document = call("adopt", str(tree), "--json", status=1).document
    assert "data-dirty.img is not a regular file" in by_id(document)["vm/data"]["damage"]
    assert document["added"] == ["pool.toml"]


@pytest.mark.parametrize("kind", KINDS_OF_FILES)
def test_a_revision_that_is_no_file(tree: Path, call: Call, kind: str) -> None:
    file = "root.img.9@2018-01-02T03:04:05Z"
    KINDS_OF_FILES[kind](tree / "vm" / file)
    document = call("adopt", str(tree), "--yes", "--json").document
    assert by_id(document)["vm/root"]["revisions"] == []
    if kind != "a directory":
        assert "not a regular file" in notes(document)[f"vm/{file}"]


def test_links_are_not_followed(tree: Path, call: Call) -> None:
    (tree / "loop").symlink_to(".")
    (tree / "vm" / "up").symlink_to("..")
    document = call("adopt", str(tree), "--yes", "--json").document
    assert set(by_id(document)) == {"vm/root"}
    assert set(notes(document)) == {"loop", "vm/up"}


def test_hard_links(tree: Path, call: Call) -> None:
    vm = tree / "vm"
    foreign_trees.lay(tree, {"vm/data.img": b"data", "vm/data-dirty.img": b"written"})
    os.link(vm / "root.img", tree.parent / "root")
    os.link(vm / "data-dirty.img", tree.parent / "data")
    os.link(vm / "data.img", vm / "data.img.4@2018-01-02T03:04:05Z")  # a revert, as ours
    document = call("adopt", str(tree), "--yes", "--json").document
    root, data = by_id(document)["vm/root"], by_id(document)["vm/data"]
    assert root["remarks"] == [
        "root.img has another name somewhere (a hard link); nothing may write to it there"
    ]
    assert data["remarks"] == [
        "data-dirty.img has another name somewhere (a hard link), so a stop will refuse to keep it"
    ]
    assert data["current"] == 4
    assert "hard link" in call("stop", "vm/data", status=1).complaint
    assert (tree.parent / "data").read_bytes() == disk(b"written")


HOSTILE = {
    b"\xff\xfe.img": "not a file of any volume",
    b"new\nline.img": "not a file of any volume",
    b"-rf.img": "not a file of any volume",
    b"root.img~backup": "the next start removes it",
    b"gone-import.img": "there is no volume gone",
    b"gone.img~1a2b": "there is no volume gone",
    b"notes.txt": "not a file of any volume",
    b"root.img.bak": "not a file of any volume",
}


@pytest.mark.parametrize("file", HOSTILE)
def test_names_that_are_no_volumes(tree: Path, call: Call, file: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tree), b"vm", file))).write_bytes(b"it")
    document = call("adopt", str(tree), "--yes", "--json").document
    assert set(by_id(document)) == {"vm/root"}
    ((path, text),) = notes(document).items()
    assert path.isprintable()
    assert HOSTILE[file] in text


@pytest.mark.parametrize(
    "directory", [b"\xff", b".cache", b"-rf", b"a~", b"vm/a@b", b"vm/x.img", b" vm", b"e\xcc\x81"]
)
def test_directories_that_are_no_vms(tree: Path, call: Call, directory: bytes) -> None:
    where = Path(os.fsdecode(os.path.join(os.fsencode(tree), directory)))
    foreign_trees.lay(where, {"data.img": b"data"})
    document = call("adopt", str(tree), "--json", status=int(b".img" in directory)).document
    assert "vm/root" in by_id(document)
    (text,) = notes(document).values()
    assert "cannot be a VM" in text
    assert "left alone" in text


def test_an_image_beside_the_vms(tree: Path, call: Call) -> None:
    foreign_trees.lay(tree, {"data.img": b"data"})
    document = call("adopt", str(tree), "--yes", "--json").document
    assert set(by_id(document)) == {"vm/root"}
    assert "lies in no VM" in notes(document)["data.img"]


def test_what_was_made_ahead(tree: Path, call: Call) -> None:
    foreign_trees.lay(tree, {"vm/root-precache.img": b"ahead"})
    (remark,) = by_id(call("adopt", str(tree), "--yes", "--json").document)["vm/root"]["remarks"]
    assert "the next start removes it" in remark
    call("start", "vm")
    assert not (tree / "vm" / "root-precache.img").exists()


def test_two_revisions_of_one_number(tree: Path, call: Call) -> None:
    files = [f"vm/root.img.2@201{year}-01-02T03:04:05Z" for year in (8, 9)]
    foreign_trees.lay(tree, dict.fromkeys(files, b"two"))
    root = by_id(call("adopt", str(tree), "--yes", "--json").document)["vm/root"]
    assert root["revisions"] == [2]
    assert root["remarks"] == [
        "root.img.2@2018-01-02T03:04:05Z bears the number of another revision, and is not listed"
    ]


def test_numbers_that_are_used_up(tree: Path, call: Call) -> None:
    foreign_trees.lay(tree, {"vm/root.img.999999999@2018-01-02T03:04:05Z": b"last"})
    said = foreign_trees.xml(
        tree, {"vm/root": 'save_on_stop="True" rw="True" revisions_to_keep="3"'}
    )
    words = ["adopt", str(tree), "--yes", "--json", "--qubes-xml", said]
    remarks = by_id(call(*words).document)["vm/root"]["remarks"]
    assert any("numbers are used up" in one for one in remarks)
    assert Pool.open(tree)["vm/root"].state is State.COMMITTED


@pytest.mark.parametrize("record", [b"{}", b"", b"not ours", b'{"format": 99}'])
def test_a_record_that_is_none_of_ours(tree: Path, call: Call, record: bytes) -> None:
    (tree / "vm" / "root.json").write_bytes(record)
    document = call("adopt", str(tree), "--yes", "--json", status=1).document
    assert "its record" in by_id(document)["vm/root"]["damage"]
    assert (tree / "vm" / "root.json").read_bytes() == record


def test_an_image_that_was_cut_short(tree: Path, call: Call) -> None:
    foreign_trees.lay(tree, {"vm/root.img.3@2018-01-02T03:04:05Z": b"three"})
    os.truncate(tree / "vm" / "root.img", 0)
    document = call("adopt", str(tree), "--yes", "--json", status=1).document
    assert "cut short" in by_id(document)["vm/root"]["damage"]
    call("revert", "vm/root")
    assert seen(Pool.open(tree)["vm/root"]) == disk(b"three")


def test_a_working_image_with_revisions_but_no_image(tree: Path, call: Call) -> None:
    foreign_trees.lay(
        tree, {"vm/db-dirty.img": b"kept", "vm/db.img.1@2018-01-02T03:04:05Z": b"one"}
    )
    document = call("adopt", str(tree), "--yes", "--json", status=1).document
    assert "db.img is missing" in by_id(document)["vm/db"]["damage"]
    called = call("adopt", str(tree), status=1)
    assert "is a pool already" in called.complaint


@pytest.mark.parametrize("size", [0, 1, 513])
def test_a_working_image_alone_of_an_odd_size(tree: Path, call: Call, size: int) -> None:
    (tree / "vm" / "swap-dirty.img").write_bytes(b"s" * size)
    call("adopt", str(tree), "--yes")
    call("start", "vm")
    call("stop", "vm")
    call("start", "vm")
    assert (tree / "vm" / "swap-dirty.img").stat().st_size % 512 == 0


# ---------------------------------------------------------------- what the `file` driver leaves

TORN = "holds data that its image lacks"
LEFT = {"appvms/old/private-cow.img", "appvms/old/private-cow.img.old"}


@pytest.fixture
def file_tree(tree: Path) -> Path:
    """A tree of the `file` driver: one VM that was shut down, and one that was not."""
    return foreign_trees.lay(tree, foreign_trees.FILE_DRIVER)


def test_what_was_not_shut_down_is_refused_and_the_others_go_on(
    file_tree: Path, call: Call
) -> None:
    before = snapshot(file_tree)
    document = call("adopt", str(file_tree), "--yes", "--json", status=1).document
    found = by_id(document)
    assert {one: found[one]["state"] for one in found} == {
        "appvms/old/private": "committed",
        "appvms/torn/private": "damaged",
        "vm/root": "committed",
    }
    assert TORN in found["appvms/torn/private"]["damage"]
    after = snapshot(file_tree)
    assert {name: one for name, one in after.items() if name != "pool.toml"} == before

    assert TORN in call("start", "appvms/torn", status=3).complaint
    call("start", "appvms/old")
    call("stop", "appvms/old")


def test_it_can_be_used_once_its_driver_has_stopped_it(file_tree: Path, call: Call) -> None:
    call("adopt", str(file_tree), "--yes", status=1)
    os.truncate(file_tree / "appvms/torn/private-cow.img", 0)
    os.truncate(file_tree / "appvms/torn/private-cow.img", SIZE)
    call("start", "appvms/torn")


def test_people_see_why(file_tree: Path, call: Call) -> None:
    lines = call("adopt", str(file_tree), status=1).out.splitlines()
    assert any(line.startswith("  appvms/torn/private: its -cow.img") for line in lines)
    assert lines[-1].startswith(f"{file_tree}: 3 volumes, 1 damaged; ")


def test_the_rest_is_removed_if_someone_says_so(file_tree: Path, call: Call) -> None:
    before = snapshot(file_tree)
    words = ["adopt", str(file_tree), "--remove-cow", "--json"]
    document = call(*words, status=1).document
    assert set(document["removed"]) == LEFT
    assert snapshot(file_tree) == before
    assert call(*words, "--yes", status=1).document["removed"] == document["removed"]
    after = snapshot(file_tree)
    assert after == {name: before[name] for name in set(before) - LEFT} | {
        "pool.toml": after["pool.toml"]
    }


@pytest.mark.parametrize("file", sorted(LEFT))
def test_what_is_in_use_is_not_removed(file_tree: Path, call: Call, file: str) -> None:
    with holding_open.by_another_process(str(file_tree / file)):
        words = ["adopt", str(file_tree), "--remove-cow", "--yes", "--json"]
        assert set(call(*words, status=1).document["removed"]) == LEFT - {file}
    assert (file_tree / file).exists()


def test_what_came_into_use_meanwhile_stays(
    file_tree: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    find = tree_.find

    def find_and_write(path: str) -> Any:
        found = find(path)
        (file_tree / "appvms/old/private-cow.img").write_bytes(b"changes")
        return found

    monkeypatch.setattr(tree_, "find", find_and_write)
    call("adopt", str(file_tree), "--remove-cow", "--yes", status=1)
    assert [
        one.getMessage().split()[:2] for one in caplog.records if one.levelname == "WARNING"
    ] == [[file, "stays:"] for file in sorted(LEFT)]
    assert all((file_tree / file).exists() for file in LEFT)


def test_changes_of_what_keeps_nothing_are_no_loss(file_tree: Path, call: Call) -> None:
    foreign_trees.lay(file_tree, {"appvms/torn/root-cow.img": b"thrown away at the next start"})
    (file_tree / "appvms/torn/private-cow.img").unlink()
    said = {"appvms/torn/root": 'snap_on_start="True" source="vm/root"'}
    words = ["--qubes-xml", foreign_trees.xml(file_tree, said)]
    call("adopt", str(file_tree), "--yes", *words)
    call("start", "appvms/torn")
    assert Pool.open(file_tree)["appvms/torn/root"].state is State.STARTED
