"""What cannot be read: a record, an image, a directory. Only that volume or VM is damaged, and all others go on.

Each call that reads is refused with each error, here by injection; real file systems that refuse are below.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle import LifecycleError, Pool, Refused, Volume
from lifecycle.backend_reflink import ReflinkBackend
from lifecycle.errors import StorageFailed
from lifecycle.machine import known_pools
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.read_errors import refusing
from support.snapshots import snapshot

ERRORS = {
    errno.errorcode[code]: code
    for code in (
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.EUCLEAN,
        errno.EBADMSG,
        errno.ESTALE,
        errno.EOVERFLOW,
        errno.ENODEV,
        errno.ETIMEDOUT,
    )
}
BAD = "bad/root"
GOOD = ("bad/other", "ci/root", "zz/root")


@pytest.fixture
def pool(xfs_pool: Pool) -> Pool:
    """A pool, known as `here`, with a volume that goes bad, one beside it, and one of a VM before and behind it.

    Each has revisions that retention would remove, and the good ones are left over from a crash.
    """
    known_pools.enter(xfs_pool.path, "here")
    for volume_id in (BAD, *GOOD):
        volume = xfs_pool.create_volume(volume_id, SIZE, keep="all", on_crash="commit")
        for mark in (b"1st", b"2nd", b"3rd", b"4th"):
            cycle(volume, mark)
    xfs_pool[BAD].pin(1)
    return xfs_pool


def leave_over(pool: Pool) -> None:
    for volume_id in GOOD:
        pool[volume_id].start()
        draw(pool[volume_id], b"lef")


def file_of(pool: Pool, ending: str) -> Path:
    """Return the path of the bad volume's file of that ending; of a revision, with its time."""
    above = Path(pool.path, "bad")
    (found,) = [one for one in above.iterdir() if one.name.partition("@")[0] == f"root{ending}"]
    return found


# ---------------------------------------------------------------- one file of one volume

DAMAGING = [
    # file, call
    (".json", "stat"),
    (".json", "open"),
    (".json", "read"),
    (".img", "stat"),
    ("-dirty.img", "stat"),
    ("-cow.img", "stat"),
    ("-cow.img", "open"),
    ("-cow.img", "seek"),
]


def spoil(pool: Pool, ending: str) -> Path:
    """Let the bad volume have such a file, in a state in which it would otherwise be sound."""
    path = Path(pool.path, "bad", f"root{ending}")
    if ending == "-dirty.img" and not path.exists():
        pool[BAD].start()
        draw(pool[BAD], b"5th")
    if ending == "-cow.img":
        path.touch()
        os.truncate(path, SIZE)
    return path


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize(("ending", "read"), DAMAGING)
def test_what_cannot_be_read_damages_its_volume_and_no_other(
    call: Call, pool: Pool, ending: str, read: str, code: str
) -> None:
    path = spoil(pool, ending)
    leave_over(pool)
    before = snapshot(path.parent)
    with refusing(path, read, ERRORS[code]) as refused:
        listed = {one["id"]: one for one in call("list", "--json").document}
        assert listed[BAD]["state"] == "damaged"
        assert listed[BAD]["damage"] == f"root{ending} cannot be read: {os.strerror(ERRORS[code])}"
        assert {one: listed[one]["state"] for one in GOOD} == dict.fromkeys(GOOD, "dirty")
        assert f"{BAD}: root{ending} cannot be read" in " ".join(call("list").out.split())
        shown = call("show", BAD, "--json").document
        assert (shown["state"], shown["allowed"]) == ("damaged", ["revert", "import", "remove"])
        call("show", BAD)
        call("log", BAD)
        found = {one["path"]: one for one in call("verify", "--json", status=1).document}
        assert found[BAD]["harmful"]
        assert not any(one["harmful"] for path, one in found.items() if path != BAD)
        assert "is damaged" in call("start", BAD, status=3).complaint
        assert "is damaged" in call("prune", BAD, status=3).complaint
        assert call("pool", "--json").document["volumes"] == 4
        call("pools")
        recovered = {one["id"]: one for one in call("recover", "--json", status=1).document}
        assert recovered[BAD]["failed"]
        assert {one: recovered[one]["state"] for one in GOOD} == dict.fromkeys(GOOD, "committed")
        for volume_id in GOOD:
            pool[volume_id].configure(keep="last 1")
        pruned = {one["id"]: one for one in call("prune", "--json", status=1).document}
        assert "damaged" in pruned[BAD]["error"]
        everywhere = call("recover", "--all-pools", status=1).out
        assert f"here:{BAD}" in everywhere
        assert f"here:{BAD}" in call("prune", "--all-pools", status=1).out
    assert refused
    assert {one: len(numbers(pool[one])) for one in GOOD} == dict.fromkeys(GOOD, 1)
    own = {name: one for name, one in snapshot(path.parent).items() if name.startswith("root")}
    assert own == {name: one for name, one in before.items() if name.startswith("root")}


WAYS_BACK: dict[str, Callable[[Volume, Path], object]] = {
    "revert": lambda volume, _image: volume.revert(),
    "revert to 2": lambda volume, _image: volume.revert(2),
    "revert to empty": lambda volume, _image: volume.revert(0),
    "import": lambda volume, image: volume.import_from(image),
}


@pytest.mark.parametrize("way", WAYS_BACK)
@pytest.mark.parametrize(("ending", "read"), DAMAGING)
def test_a_way_leads_back_and_keeps_what_cannot_be_read(
    pool: Pool, tmp_path: Path, ending: str, read: str, way: str
) -> None:
    path = spoil(pool, ending)
    volume = pool[BAD]
    bad = path.read_bytes()
    inode = path.lstat().st_ino
    held = {seen(volume, number) for number in numbers(volume)} | {seen(volume)}
    image = tmp_path / "image"
    image.write_bytes(disk(b"new"))
    with refusing(path, read, errno.EIO):
        WAYS_BACK[way](volume, image)
    assert volume.state in {"reverted", "committed"}
    assert [one for one in pool.verify() if one.harmful] == []
    now = {seen(volume, number) for number in numbers(volume)} | {seen(volume)}
    asides = [one for one in path.parent.iterdir() if ".damaged@" in one.name]
    kept = now | {one.read_bytes() for one in asides}
    assert kept >= held
    inodes = {one.lstat().st_ino for one in path.parent.iterdir()}
    is_in_use = ending == ".json" and volume.config.keep == "all"  # it could be read after all
    assert bad in kept or inode in inodes or is_in_use
    cycle(volume, b"nth")
    assert volume.state == "committed"


@pytest.mark.parametrize("read", ["stat", "entry"])
@pytest.mark.parametrize("code", ERRORS)
def test_a_revision_that_cannot_be_looked_at_stops_nothing(
    call: Call, pool: Pool, read: str, code: str
) -> None:
    path = file_of(pool, ".img.2")
    with refusing(path, read, ERRORS[code]):
        listed = {one["id"]: one["state"] for one in call("list", "--json").document}
        assert listed == dict.fromkeys((BAD, *GOOD), "committed")
        shown = call("show", BAD, "--json").document
        assert [one["number"] for one in shown["revisions"]] == [1, 2, 3]
        call("show", BAD)
        call("log", BAD)
        if read == "stat":
            (found,) = call("verify", "--json", status=1).document
            assert found["path"] == f"bad/{path.name}"
            assert "cannot be read" in found["text"]
        cycle(pool[BAD], b"5th")
        call("recover")
        call("prune")
    assert numbers(pool[BAD]) == [1, 2, 3, 4]


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize(
    ("ending", "read"), [(".img", "open"), ("-dirty.img", "open"), ("-dirty.img", "xattr")]
)
def test_an_image_that_cannot_be_opened_stops_its_volume_alone(
    call: Call, pool: Pool, ending: str, read: str, code: str
) -> None:
    path = spoil(pool, ending)
    pool[BAD].settle()
    leave_over(pool)
    before = path.stat()
    with refusing(path, read, ERRORS[code]):
        call("list")
        call("show", BAD)
        recovered = {one["id"]: one for one in call("recover", "--json", status=None).document}
        assert {one: recovered[one]["state"] for one in GOOD} == dict.fromkeys(GOOD, "committed")
        if ending == "-dirty.img":
            assert recovered[BAD]["failed"]
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


# ---------------------------------------------------------------- a VM's directory


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("read", ["open", "list"])
def test_a_directory_that_cannot_be_listed_stops_its_vm_alone(
    call: Call, pool: Pool, read: str, code: str
) -> None:
    why = f"its directory cannot be listed: {os.strerror(ERRORS[code])}"
    leave_over(pool)
    good = [one for one in GOOD if not one.startswith("bad/")]
    bad = Path(pool.path, "bad")
    before = snapshot(bad)
    with refusing(bad, read, ERRORS[code]) as refused:
        listed = {one["id"]: one for one in call("list", "--json", status=1).document}
        assert {**dict.fromkeys(good, "dirty"), "bad": "damaged"} == {
            name: one["state"] for name, one in listed.items()
        }
        assert (listed["bad"]["damage"], listed["bad"]["name"]) == (why, None)
        shown = call("list", status=1).out
        assert f"bad: {why}" in " ".join(shown.split())
        assert "read-only" not in shown  # which it is not known to be
        found = call("verify", "--json", status=1).document
        assert [(one["path"], one["text"]) for one in found if one["harmful"]] == [
            ("bad", f"damaged: {why}")
        ]
        for words in ("list bad", "verify bad", "start bad", "stop bad", "remove bad"):
            complaint = call(*words.split(), status=1).complaint
            assert "bad" in complaint
            assert os.strerror(ERRORS[code]) in complaint
        recovered = {one["id"]: one for one in call("recover", "--json", status=1).document}
        assert recovered["bad"]["failed"]
        assert {one: recovered[one]["state"] for one in good} == dict.fromkeys(good, "committed")
        pruned = call("prune", status=1).out
        assert "bad: look failed" in pruned
        assert all(f"{one}: removed 0, keeps" in pruned for one in good)
        assert "here:bad" in call("recover", "--all-pools", status=1).out
        assert "here:bad" in call("prune", "--all-pools", status=1).out
        assert "here:zz/root: removed" in call("prune", "--all-pools", status=1).out
        assert call("pool", "--json").document["volumes"] is None
        call("pools")
        gone_through: list[str] = []
        with pytest.raises(StorageFailed, match="bad: look failed"):
            gone_through.extend(volume.id for volume in pool)
        assert gone_through == good
        # whether a volume of that VM begins from it cannot be told
        with pytest.raises(StorageFailed):
            pool["ci/root"].remove()
    assert refused
    assert snapshot(bad) == before


def test_start_and_stop_of_a_vm_go_on_beside_one_that_cannot_be_listed(
    call: Call, pool: Pool
) -> None:
    with refusing(Path(pool.path, "bad"), "list", errno.EUCLEAN):
        call("start", "ci")
        call("stop", "ci")
        call("create", "new/root", "--size", "1M")
        call("clone", "ci/root", "new/copy")
        call("set", "ci/root", "keep=last 2")


# ---------------------------------------------------------------- once only: nothing is thrown away for it


def _recover(pool: Pool) -> None:
    pool.recover()


def _prune(pool: Pool) -> None:
    pool[BAD].prune()


def _stop(pool: Pool) -> None:
    """A stop that commits, after which retention is at work."""
    volume = pool[BAD]
    volume.start()
    draw(volume, b"mor")
    volume.stop()


def _make_room(pool: Pool) -> None:
    config = pool.config._replace(reserve="100%", prune_for_reserve=True)
    Pool(pool.path, config, ReflinkBackend(pool.path, config))["ci/root"].start()


def _tidy(pool: Pool) -> None:
    pool.tidy("bad")


def _label(pool: Pool) -> None:
    pool[BAD].label(2, "two")


def _set(pool: Pool) -> None:
    pool[BAD].configure(rw=True)


THROWING_AWAY = {
    "recover": _recover,
    "prune": _prune,
    "stop": _stop,
    "make room": _make_room,
    "tidy": _tidy,
    "label": _label,
    "set": _set,
}


@pytest.mark.parametrize("ending", [".json", ".img"])
@pytest.mark.parametrize("read", ["stat", "open", "read"])
@pytest.mark.parametrize("what", THROWING_AWAY)
def test_what_could_not_be_read_once_is_not_thrown_away(
    pool: Pool, what: str, read: str, ending: str
) -> None:
    """The first such call fails, then the second alone, and so on, until the event goes through without."""
    volume = pool[BAD]
    volume.configure(keep="all")
    volume.label(1, "precious")
    held = {number: seen(volume, number) for number in numbers(volume)} | {0: seen(volume)}
    if what == "make room":
        held = {number: content for number, content in held.items() if number in {0, 1}}
    path = Path(pool.path, "bad", f"root{ending}")
    for place in range(1, 40):
        with refusing_one(path, read, place) as refused, contextlib.suppress(LifecycleError):
            THROWING_AWAY[what](pool)
        volume = Pool.open(pool.path)[BAD]
        if volume.state in {"started", "dirty"}:
            volume.stop()
        assert volume.state == "committed"
        now = {number: seen(volume, number) for number in numbers(volume)}
        assert {*now.values(), seen(volume)} >= {*held.values()}
        first = volume.revisions[0]
        assert (first.number, first.pinned, first.label) == (1, True, "precious")
        assert volume.config.keep == "all"
        if not refused:
            return
    raise AssertionError("it goes on for ever")


def refusing_one(path: Path, read: str, place: int) -> Any:
    """Refuse the call of that place only."""
    return refusing(path, read, errno.EIO, times=1, after=place - 1)


def test_a_source_is_not_removed_while_it_cannot_be_told_who_begins_from_it(pool: Pool) -> None:
    disposable = pool.create_volume("disp/root", source="ci/root")
    record = Path(pool.path, "disp", "root.json")
    with (
        refusing(record, "read", errno.EIO),
        pytest.raises(Refused, match="whether disp/root begins from it cannot be told"),
    ):
        pool["ci/root"].remove()
    disposable.start()
    disposable.stop()
    with refusing(Path(pool.path, "bad", "root.json"), "read", errno.EIO):
        pool["zz/root"].remove()  # what has images of its own begins from no one


# ---------------------------------------------------------------- what can be done without


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("read", ["open", "list"])
def test_images_made_ahead_that_cannot_be_read_are_done_without(
    pool: Pool, read: str, code: str
) -> None:
    source = pool["ci/root"]
    source.configure(ready=1)
    pool.backend.make_ahead("ci/root")
    disposable = pool.create_volume("disp/root", source="ci/root")
    with refusing(Path(pool.path, "ci", ".ready"), read, ERRORS[code]):
        disposable.start()
        disposable.stop()
        cycle(source, b"5th")
        source.revert()
    assert seen(source) == disk(b"4th")


@pytest.mark.parametrize("code", ERRORS)
def test_a_next_image_that_cannot_be_looked_at_is_done_without(pool: Pool, code: str) -> None:
    volume = pool["ci/root"]
    volume.configure(precache="always")
    pool.backend.make_ahead("ci/root")
    with refusing(Path(pool.path, "ci", "root-precache.img"), "stat", ERRORS[code]):
        assert volume.usage > 0
        cycle(volume, b"5th")
    assert seen(volume) == disk(b"5th")


@pytest.mark.parametrize("code", ERRORS)
def test_hooks_that_cannot_be_listed_are_named(
    call: Call, pool: Pool, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(pool.path, "hooks.d")).mkdir()
    with refusing(Path(pool.path, "hooks.d"), "list", ERRORS[code]):
        call("start", "ci")
        call("stop", "ci")
    assert "hooks.d is run" in caplog.text


# ---------------------------------------------------------------- pools


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("read", ["open", "list"])
def test_a_pool_whose_directory_cannot_be_read_stops_no_other(
    call: Call, pool: Pool, xfs: Any, read: str, code: str
) -> None:
    other = Pool.create(xfs.new_directory())
    known_pools.enter(other.path, "aside")
    leave_over(pool)
    with refusing(Path(other.path), read, ERRORS[code]):
        recovered = call("recover", "--all-pools", status=1).out
        assert "aside: could not be " in recovered
        assert "here:zz/root: left over: committed as 5" in recovered
        pruned = call("prune", "--all-pools", status=1).out
        assert "aside: " in pruned
        assert "here:zz/root: removed 0" in pruned
        assert "zz/root" in call("list").out
        call("pools")


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize(
    ("what", "read"), [("here.toml", "open"), ("here.toml", "read"), (".", "open"), (".", "list")]
)
def test_known_pools_that_cannot_be_read_are_told(
    call: Call, pool: Pool, xfs: Any, settings: Path, what: str, read: str, code: str
) -> None:
    """At a boot, a pool that is not recovered for that must not go unnoticed; and others are."""
    other = Pool.create(xfs.new_directory())
    known_pools.enter(other.path, "aside")
    path = settings / "pools.d" / what if what != "." else settings / "pools.d"
    with refusing(path, read, ERRORS[code]):
        for words in ("recover --all-pools", "prune --all-pools"):
            told = call(*words.split(), status=1)
            assert os.strerror(ERRORS[code]) in told.out
            assert str(path) in told.out
        call("list")
        call("pool")
        call("verify")
