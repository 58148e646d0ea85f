"""The command line on volumes: make, look at, change, fill, copy and remove them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Change, NoSuchVolume, Pool, Volume, events
from support.command_line import REVISION, SHOW, Call, check_shape
from support.disks import MIB, SIZE, cycle, disk, numbers, seen
from support.mounts import FileSystem

# ---------------------------------------------------------------- create


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"kind": "persistent", "save_on_stop": True, "snap_on_start": False, "rw": True}),
        (("--volatile",), {"kind": "volatile", "save_on_stop": False, "snap_on_start": False}),
        (
            ("--source", "base/root"),
            {"kind": "disposable", "save_on_stop": False, "snap_on_start": True, "current": None},
        ),
        (("--read-only",), {"kind": "persistent", "rw": False}),
        (("--keep", "7 daily"), {"keep": "7 daily"}),
        (("--on-crash", "commit"), {"on_crash": "commit"}),
    ],
)
def test_create_makes_a_volume_of_each_kind(
    call: Call, xfs_pool: Pool, options: tuple[str, ...], expected: dict[str, Any]
) -> None:
    xfs_pool.create_volume("base/root", "1M")
    document = call("create", "ci/root", "--size", "2M", *options, "--json").document
    check_shape(document, SHOW)
    assert document["state"] == "created"
    assert document["size"] == 2 * MIB
    assert {key: document[key] for key in expected} == expected
    assert call("show", "ci/root", "--json").document == document


def test_create_says_what_was_made(call: Call, xfs_pool: Pool) -> None:
    assert call("create", "ci/root", "--size", "1536K").out == (
        "ci/root: created, persistent, 1.5 MiB\n"
    )
    assert call("create", "ci/dev", "--source", "ci/root").out == (
        "ci/dev: created, disposable, 1.5 MiB\n"
    )


def test_create_needs_a_size_or_a_source(call: Call, xfs_pool: Pool) -> None:
    complaint = call("create", "ci/root", status=2).complaint
    assert "--size" in complaint
    assert "--source" in complaint
    assert os.listdir(xfs_pool.path) == ["pool.toml"]


def test_a_volume_is_not_created_over_another(call: Call, xfs_pool: Pool) -> None:
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"precious")
    complaint = call("create", "ci/root", "--size", "1M", status=3).complaint
    assert "ci/root is committed" in complaint
    assert seen(xfs_pool["ci/root"]) == disk(b"precious")


# ---------------------------------------------------------------- list and show


def test_list_shows_a_line_a_volume(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", "10M").start()
    xfs_pool.create_volume("db/disk", "12M", source="ci/root", rw=False)
    header, root, db = call("list").out.splitlines()
    assert " ".join(header.split()) == "VOLUME STATE KIND SIZE ON DISK SOURCE"
    assert " ".join(root.split()) == "ci/root started left over persistent 10 MiB 0 B"
    assert " ".join(db.split()) == "db/disk created read-only disposable 12 MiB 0 B ci/root"


def test_list_is_the_documents_without_revisions(call: Call, xfs_pool: Pool) -> None:
    for volume_id in ("ci/root", "ci/data", "db/root"):
        cycle(xfs_pool.create_volume(volume_id, "1M"), b"one")
    found = call("list", "--json").document
    assert [one["id"] for one in found] == ["ci/data", "ci/root", "db/root"]
    for one in found:
        check_shape(one, {key: types for key, types in SHOW.items() if key != "revisions"})
        shown = call("show", one["id"], "--json").document
        del shown["revisions"]
        assert one == shown


def test_list_of_one_vm(call: Call, xfs_pool: Pool) -> None:
    for volume_id in ("ci/root", "ci/data", "ci2/root", "ci/nested/root"):
        xfs_pool.create_volume(volume_id, "1M")
    assert [one["id"] for one in call("list", "ci", "--json").document] == ["ci/data", "ci/root"]
    assert [one["id"] for one in call("list", "ci/nested/", "--json").document] == [
        "ci/nested/root"
    ]
    assert "no such volume or VM" in call("list", "ci3", status=1).complaint


def test_list_of_an_empty_pool_says_how_to_go_on(call: Call, xfs_pool: Pool) -> None:
    assert call("list", "--json").document == []
    assert call("list").out == (
        f"no volumes in {xfs_pool.path}; `lifecycle create VM/NAME --size 10G` makes one\n"
    )


def test_show_has_all_there_is_to_know(call: Call, xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("apps/work/root", "1M", keep="last 3", on_crash="revert")
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.pin(1)
    volume.label(1, "größe ≠ 0")
    document = call("show", "apps/work/root", "--json").document
    check_shape(document, SHOW)
    assert (document["id"], document["vm"], document["name"]) == (
        "apps/work/root",
        "apps/work",
        "root",
    )
    assert (document["state"], document["current"], document["size"]) == ("committed", 2, MIB)
    assert (document["keep"], document["on_crash"]) == ("last 3", "revert")
    assert document["path"] == f"{xfs_pool.path}/apps/work/root-dirty.img"
    assert document["usage"] > 0
    assert document["allowed"] == ["start", "revert", "resize", "import", "remove"]
    (revision,) = document["revisions"]
    check_shape(revision, REVISION)
    at = volume.revisions[0].at
    assert revision == {
        "number": 1,
        "at": f"{at:%Y-%m-%dT%H:%M:%S}Z",
        "cause": "commit",
        "size": MIB,
        "pinned": True,
        "label": "größe ≠ 0",
    }


def test_show_lists_revisions_oldest_first(call: Call, xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", "1M", keep="all")
    for _cycle in range(11):
        cycle(volume, b"x")
    found = call("show", "ci/root", "--json").document["revisions"]
    assert [one["number"] for one in found] == list(range(1, 11))


def test_show_names_who_uses_it(call: Call, xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", "1M")
    volume.start()
    assert call("show", "ci/root", "--json").document["left_over"] is True
    with open(volume.path, "rb"):
        document = call("show", "ci/root", "--json").document
        text = call("show", "ci/root").out
    assert document["left_over"] is False
    (holder,) = document["in_use_by"]
    keys = {"name": (str,), "pid": (int, None), "known": (bool,), "host": (str, None)}
    check_shape(holder, keys)
    assert holder["pid"] == os.getpid()
    assert f"(pid {os.getpid()})" in text


def test_show_of_an_outdated_disposable(call: Call, xfs_pool: Pool) -> None:
    source = xfs_pool.create_volume("base/root", "1M")
    xfs_pool.create_volume("ci/root", source=source).start()
    assert call("show", "ci/root", "--json").document["outdated"] is False
    cycle(source, b"newer")
    assert call("show", "ci/root", "--json").document["outdated"] is True
    assert "outdated" in call("list", "ci").out


def test_show_of_a_damaged_volume_says_what_is_wrong(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", "1M")
    os.unlink(f"{xfs_pool.path}/ci/root.img")
    cycle(xfs_pool.create_volume("ci/data", "1M"), b"one")
    os.unlink(f"{xfs_pool.path}/ci/data.img")
    document = call("show", "ci/data", "--json").document
    check_shape(document, SHOW | {"damage": (str,)})
    assert document["state"] == "damaged"
    assert "data.img is missing" in document["damage"]
    assert document["size"] is None
    assert document["current"] is None
    assert "data.img is missing" in call("show", "ci/data").out
    (one,) = call("list", "ci", "--json").document
    assert one["damage"] == document["damage"]


def test_show_for_people_leaves_out_what_there_is_not(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", "1M")
    words = dict(line.split(maxsplit=1) for line in call("show", "ci/root").out.splitlines())
    assert (words["volume"], words["state"], words["kind"]) == ("ci/root", "created", "persistent")
    assert not {"source", "damage", "revisions"} & set(words)


# ---------------------------------------------------------------- set


@pytest.mark.parametrize(
    ("setting", "key", "value", "said"),
    [
        ("rw=no", "rw", False, "rw is now no"),
        ("keep=7 daily, last 2", "keep", "7 daily, last 2", "keep is now 7 daily, last 2"),
        ("keep=", "keep", "last 5", "keep is now as the pool has it"),
        ("revisions_to_keep=9", "keep", "last 9", "keep is now last 9"),
        ("revisions_to_keep=0", "keep", "last 0", "keep is now last 0"),
        ("on_crash=commit", "on_crash", "commit", "on_crash is now commit"),
        ("on_crash=", "on_crash", "resume", "on_crash is now as the pool has it"),
        ("ready=1", "ready", 1, "ready is now 1"),
        ("ready=0", "ready", 0, "ready is now 0"),
        ("owner=", None, None, "owner is now as the pool has it"),
        ("label=as installed", None, None, "label is now as installed"),
        ("label=", None, None, "label is taken away"),
    ],
)
def test_set_changes_a_setting(
    call: Call, xfs_pool: Pool, setting: str, key: str | None, value: object, said: str
) -> None:
    cycle(xfs_pool.create_volume("ci/root", "1M", keep="last 1", on_crash="revert"), b"one")
    assert call("set", "ci/root", setting).out == f"ci/root: {said}\n"
    document = call("set", "ci/root", setting, "--json").document
    check_shape(document, SHOW)
    assert key is None or document[key] == value


def test_set_changes_several_and_the_source(call: Call, xfs_pool: Pool) -> None:
    for volume_id in ("base/one", "base/two"):
        xfs_pool.create_volume(volume_id, "1M")
    xfs_pool.create_volume("ci/root", source="base/one")
    document = call("set", "ci/root", "source=base/two", "on_crash=revert", "--json").document
    assert (document["source"], document["on_crash"]) == ("base/two", "revert")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("size=2M",), "there is no setting `size`"),
        (("rw",), "is not KEY=VALUE"),
        (("rw=perhaps",), "`rw` cannot be 'perhaps'"),
        (("on_crash=panic",), "`on_crash` cannot be 'panic'"),
        (("keep=last",), "is not a retention policy"),
        (("revisions_to_keep=-1",), "whole number"),
        (("revisions_to_keep=many",), "`revisions_to_keep` cannot be 'many'"),
        (("on_crash=commit", "rw=perhaps"), "`rw` cannot be 'perhaps'"),
        (("source=ci/other",), "it is persistent, and only a disposable has a source"),
        ((), "Missing argument"),
    ],
)
def test_set_of_what_cannot_be_changes_nothing(
    call: Call, xfs_pool: Pool, settings: tuple[str, ...], said: str
) -> None:
    for volume_id in ("ci/root", "ci/other"):
        xfs_pool.create_volume(volume_id, "1M")
    before = call("show", "ci/root", "--json").document
    assert said in call("set", "ci/root", *settings, status=2).complaint
    assert call("show", "ci/root", "--json").document == before


# ---------------------------------------------------------------- resize


def test_resize_at_rest_and_running(call: Call, xfs_pool: Pool) -> None:
    cycle(xfs_pool.create_volume("ci/root", "1M"), b"one")
    assert call("resize", "ci/root", "2M").out == "ci/root: committed, now 2 MiB\n"
    xfs_pool["ci/root"].start()
    document = call("resize", "ci/root", "3M", "--json").document
    check_shape(document, SHOW)
    assert document["size"] == os.stat(xfs_pool["ci/root"].path).st_size == 3 * MIB
    complaint = call("resize", "ci/root", "1M", status=3).complaint
    assert "--shrink" in complaint
    assert call("resize", "ci/root", "1M", "--shrink", "--json").document["size"] == MIB


def test_resize_to_the_same_size_is_nothing_to_do(call: Call, xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", "1M")
    for get_there in (lambda: None, lambda: cycle(volume, b"one"), volume.start):
        get_there()
        before = call("show", "ci/root", "--json").document
        said = call("resize", "ci/root", "1M").out
        assert said == "ci/root: has 1 MiB already; nothing was done\n"
        assert call("resize", "ci/root", "1048576", "--json").document == before


# ---------------------------------------------------------------- remove


def test_remove_of_a_volume_and_of_a_vm(call: Call, xfs_pool: Pool) -> None:
    for volume_id in ("ci/root", "ci/data", "db/root"):
        cycle(xfs_pool.create_volume(volume_id, "1M"), b"one")
    assert call("remove", "ci/root").out == "ci/root: removed\n"
    assert call("remove", "db", "ci/data", "--json").document == [
        {"id": "db/root", "state": "absent"},
        {"id": "ci/data", "state": "absent"},
    ]
    assert os.listdir(xfs_pool.path) == ["pool.toml"]
    with pytest.raises(NoSuchVolume):
        xfs_pool["ci/root"]


def test_remove_of_a_source_is_refused(call: Call, xfs_pool: Pool) -> None:
    source = xfs_pool.create_volume("base/root", "1M")
    cycle(source, b"one")
    cycle(source, b"two")
    xfs_pool.create_volume("ci/root", source=source)
    assert "it is the source of ci/root" in call("remove", "base", status=3).complaint
    assert numbers(source) == [1]


def run_it(pool: Pool) -> None:
    pool["a/root"].start()


def begin_from_it(pool: Pool) -> None:
    pool.create_volume("c/root", source="a/root")


def perhaps_begin_from_it(pool: Pool) -> None:
    begin_from_it(pool)
    Path(pool.path, "c/root.json").write_text("{")


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a"), ("a/home", "a/root", "b")])
@pytest.mark.parametrize(
    ("hinder", "said"),
    [
        (
            run_it,
            "it is running; stop it first. Allowed now: start, stop, checkpoint, revert, resize.",
        ),
        (begin_from_it, "a/root is committed: cannot remove: it is the source of c/root"),
        (perhaps_begin_from_it, "whether c/root begins from it cannot be told"),
    ],
)
def test_if_one_volume_cannot_be_removed_none_is(
    call: Call, xfs_pool: Pool, hinder: Callable[[Pool], None], said: str, order: tuple[str, ...]
) -> None:
    for volume_id in ("a/home", "a/root", "b/root"):
        cycle(xfs_pool.create_volume(volume_id, "1M"), b"one")
    hinder(xfs_pool)
    assert said in call("remove", *order, status=3).complaint
    assert {"a/home", "a/root", "b/root"} <= {one.id for one in xfs_pool}


def test_if_one_removal_is_vetoed_nothing_is_removed(call: Call, xfs_pool: Pool) -> None:
    for volume_id in ("a/home", "a/root"):
        cycle(xfs_pool.create_volume(volume_id, "1M"), b"one")

    def object_to(_pool: Pool, *, volume: Volume, change: Change) -> None:
        if volume.name == "root":
            raise RuntimeError("it is needed")

    events.removing.connect(object_to)
    complaint = call("remove", "a", status=3).complaint
    events.removing.disconnect(object_to)
    assert "a/root is committed: cannot remove: vetoed: it is needed" in complaint
    assert [one.id for one in xfs_pool] == ["a/home", "a/root"]


def test_if_an_image_is_opened_only_when_others_are_removed_those_are_named(
    call: Call, xfs_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for volume_id in ("a/root", "b/root"):
        cycle(xfs_pool.create_volume(volume_id, "1M"), b"one")
    with ExitStack() as opened:

        def open_the_other(_pool: Pool, *, volume: Volume, change: Change) -> None:
            path = f"{xfs_pool.path}/b/root.img"
            opened.enter_context(open(path, "rb"))

        events.removed.connect(open_the_other)
        called = call("remove", "a", "b", status=3)
        events.removed.disconnect(open_the_other)
    assert called.out == "a/root: removed\n"
    assert "b/root is committed: cannot remove: its image is in use" in called.said
    assert [one.id for one in xfs_pool] == ["b/root"]


def test_remove_of_a_vm_that_is_named_with_its_volume_removes_each_once(
    call: Call, xfs_pool: Pool
) -> None:
    for volume_id in ("ci/root", "ci/data"):
        xfs_pool.create_volume(volume_id, "1M")
    assert call("remove", "ci/root", "ci").out == "ci/root: removed\nci/data: removed\n"


def test_remove_takes_a_disposable_before_its_source(
    call: Call, xfs_pool: Pool, xfs: FileSystem
) -> None:
    xfs_pool.create_volume("ci/a-source", "1M")
    xfs_pool.create_volume("ci/copy", source="ci/a-source")
    call("remove", "ci")
    assert list(xfs_pool) == []
