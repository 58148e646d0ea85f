"""Pools that the usual tools copied or went through: without hard links, or with more of them than there were."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from freezegun import freeze_time

from lifecycle import LifecycleError, Pool, State, Volume
from support import required_programs
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.mounts import FileSystem

ID = "ci/root"
MARKS = (b"one", b"two", b"three")


# ---------------------------------------------------------------- the tools


def _rsync(*options: str) -> Callable[[Path, Path], None]:
    def copy(origin: Path, target: Path) -> None:
        rsync = required_programs.program("rsync", "rsync")
        subprocess.run([rsync, *options, f"{origin}/", f"{target}/"], check=True)

    return copy


def _cp(*options: str) -> Callable[[Path, Path], None]:
    def copy(origin: Path, target: Path) -> None:
        subprocess.run(["cp", *options, f"{origin}/.", target], check=True)

    return copy


def _tar(*options: str) -> Callable[[Path, Path], None]:
    def copy(origin: Path, target: Path) -> None:
        archive = subprocess.run(
            ["tar", "-C", origin, "-c", *options, "."], check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-C", target, "-xp"], check=True, input=archive.stdout)

    return copy


KEEPING_TIMES = {
    "rsync -aX": _rsync("-aX"),
    "rsync -aXS": _rsync("-aXS"),
    "rsync -rt": _rsync("-rt"),
    "cp -rp": _cp("-rp", "--no-preserve=links"),
    "cp -a without links": _cp("-a", "--no-preserve=links"),
    "cp -r --reflink": _cp("-rp", "--reflink=always"),
    "tar without links": _tar("--format=posix", "--hard-dereference"),
    "cp -a": _cp("-a"),
    "rsync -aHSX": _rsync("-aHSX"),
}
LOSING_TIMES = {"cp -r": _cp("-r"), "rsync -r": _rsync("-r")}
COPIES = KEEPING_TIMES | LOSING_TIMES


# ---------------------------------------------------------------- what is copied


def _committed(volume: Volume) -> None:
    for mark in MARKS:
        cycle(volume, mark)


def _reverted(volume: Volume) -> None:
    _committed(volume)
    volume.revert(1)


def _reverted_to_empty(volume: Volume) -> None:
    _committed(volume)
    volume.revert(0)


def _reverted_and_started(volume: Volume) -> None:
    _reverted(volume)
    volume.start()


def _reverted_and_dirty(volume: Volume) -> None:
    _reverted_and_started(volume)
    draw(volume, b"four")


def _reverted_without_snapshots(volume: Volume) -> None:
    _reverted(volume)
    volume.configure(snapshots=False)


def _cut_off(volume: Volume) -> None:
    """A commit that went no further than keeping what is current."""
    _committed(volume)
    (change,) = [one for one in volume.history if one.current]
    vm = Path(volume.pool.path, volume.vm)
    os.link(vm / "root.img", vm / f"root.img.3@{change.at:%Y-%m-%dT%H:%M:%SZ}")


def _unrecorded(volume: Volume) -> None:
    """The record is lost."""
    _reverted(volume)
    Path(volume.pool.path, volume.vm, "root.json").unlink()


SITUATIONS = {
    "committed": _committed,
    "reverted": _reverted,
    "reverted to empty": _reverted_to_empty,
    "reverted and started": _reverted_and_started,
    "reverted and dirty": _reverted_and_dirty,
    "reverted without snapshots": _reverted_without_snapshots,
    "cut off": _cut_off,
    "unrecorded": _unrecorded,
}


def images_of(volume: Volume) -> list[bytes]:
    """Return what all images of the volume hold, whatever they are called, but the working one."""
    vm = Path(volume.pool.path, volume.vm)
    return [
        path.read_bytes()
        for path in vm.glob("root.img*")
        if path.is_file() and ".damaged@" not in path.name
    ]


def check_that_all_goes_on(volume: Volume) -> None:
    """Check that each command works, and that what was there can be reached until it is asked to go."""
    before = {*images_of(volume)}
    pool = volume.pool
    pool.recover()
    for _round in range(2):
        if volume.state not in {State.STARTED, State.DIRTY}:
            volume.start()
        draw(volume, b"later")
        assert volume.stop().event == "commit"
        assert seen(volume)[:5] == b"later"
    assert {*images_of(volume)} >= before
    listed = {seen(volume, number) for number in numbers(volume)}
    assert {*listed, disk()} >= before
    volume.start()
    assert volume.stop().event == "release"
    for number in numbers(volume)[:3]:
        volume.revert(number)
        held = seen(volume)
        assert held == seen(volume, number)
        cycle(volume, b"again")
        assert seen(volume, number) == held
    volume.start()
    volume.checkpoint()
    volume.stop()
    volume.resize(2 * SIZE)
    assert pool.recover() == []
    volume.configure(keep="last 0")
    volume.prune()
    volume.prune()  # a second file of a number, if there was one
    assert numbers(volume) == [volume.current] or numbers(volume) == []
    volume.remove()
    assert ID not in pool


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("tool", COPIES)
def test_a_copy_goes_on(xfs: FileSystem, tool: str, situation: str) -> None:
    made = Pool.create(xfs.new_directory(), keep="all")
    with freeze_time("2026-01-02T03:04:05Z", auto_tick_seconds=60):
        SITUATIONS[situation](made.create_volume(ID, SIZE))
    target = xfs.new_directory()
    COPIES[tool](Path(made.path), target)
    pool = Pool.open(target)
    volume = pool[ID]
    assert volume.state != "damaged"
    if tool in KEEPING_TIMES:
        harmful = [one.path for one in pool.verify() if one.harmful]
        assert harmful in (
            [],
            ["ci/root-dirty.img"],
        )  # a working image that does not say its origin
    check_that_all_goes_on(volume)


@pytest.mark.parametrize("tool", ["rsync -aX", "cp -a without links"])
def test_a_copy_without_hard_links_is_told_and_both_files_are_kept(
    xfs: FileSystem, tool: str
) -> None:
    made = Pool.create(xfs.new_directory(), keep="all")
    _reverted(made.create_volume(ID, SIZE))
    target = xfs.new_directory()
    COPIES[tool](Path(made.path), target)
    pool = Pool.open(target)
    volume = pool[ID]
    # they might differ: by a copy that was cut off, or done again later
    (own,) = Path(target, "ci").glob("root.img.1@*")
    status = own.stat()
    own.write_bytes(disk(b"else"))
    os.utime(own, ns=(0, status.st_mtime_ns))

    (finding,) = pool.verify()
    assert not finding.harmful
    assert finding.text == (
        "the current image and revision 1 are two files, as a copy without hard links leaves them;"
        " the current one counts as 4; the next event mends it"
    )
    assert (volume.current, numbers(volume)) == (4, [1, 2, 3])
    assert (seen(volume), seen(volume, 1)) == (disk(b"one"), disk(b"else"))
    assert volume.settle().current == 4
    assert [*pool.verify()] == []
    cycle(volume, b"five")
    assert (volume.current, numbers(volume)) == (5, [1, 2, 3, 4])
    assert (seen(volume, 4), seen(volume, 1)) == (disk(b"one"), disk(b"else"))
    assert [*pool.verify()] == []


# ---------------------------------------------------------------- more hard links than there were


def _deduplicate(path: Path) -> None:
    hardlink = required_programs.program("hardlink", "util-linux")
    subprocess.run([hardlink, "-q", "-c", "-s", "1", path], check=True)


def _deduplicate_of_one_time(path: Path) -> None:
    hardlink = required_programs.program("hardlink", "util-linux")
    subprocess.run([hardlink, "-q", "-s", "1", path], check=True)


def _twice_the_same(volume: Volume) -> None:
    """Two revisions and what is current hold the same."""
    for mark in (b"one", b"two", b"one", b"two", b"one"):
        cycle(volume, mark)


def _with_a_twin(volume: Volume) -> None:
    """Another volume holds the same, by images and record."""
    _committed(volume)
    other = volume.pool.create_volume("other/root", SIZE)
    _committed(other)


EQUAL = SITUATIONS | {"twice the same": _twice_the_same, "with a twin": _with_a_twin}


@pytest.mark.parametrize("situation", EQUAL)
@pytest.mark.parametrize("merge", [_deduplicate, _deduplicate_of_one_time])
def test_equal_files_that_became_one_cost_nothing(
    xfs: FileSystem, merge: Callable[[Path], None], situation: str
) -> None:
    pool = Pool.create(xfs.new_directory(), keep="all")
    volume = pool.create_volume(ID, SIZE)
    with freeze_time("2026-01-02T03:04:05Z"):
        EQUAL[situation](volume)
    before = images_of(volume)
    (twin,) = pool.volumes("other") or [None]
    held = {number: seen(twin, number) for number in numbers(twin)} if twin else {}
    merge(Path(pool.path))
    if volume.state is State.DAMAGED:
        volume.revert()
    if volume.state in {State.STARTED, State.DIRTY}:
        working = Path(volume.path)
        if working.stat().st_nlink > 1:
            with pytest.raises(LifecycleError, match="hard link"):
                volume.start()
            if volume.state is State.DIRTY:
                with pytest.raises(LifecycleError, match="hard link"):
                    volume.stop()
            volume.stop(discard=True)
    assert {*images_of(volume)} == {*before}
    check_that_all_goes_on(volume)
    if twin is not None:
        assert {number: seen(twin, number) for number in numbers(twin)} == held
        cycle(twin, b"later")


@pytest.mark.parametrize("other", ["root.img", "root.img.1@", "root.img.3@"])
def test_a_vm_never_writes_to_a_file_with_another_name(xfs: FileSystem, other: str) -> None:
    """A backup tool gave the unwritten working image and another file one inode."""
    pool = Pool.create(xfs.new_directory(), keep="all")
    volume = pool.create_volume(ID, SIZE)
    _reverted_and_started(volume)
    vm = Path(pool.path, "ci")
    (file,) = (path for path in vm.iterdir() if path.name.partition("@")[0] == other.rstrip("@"))
    (vm / "root-dirty.img").unlink()
    os.link(file, vm / "root-dirty.img")
    before = {*images_of(volume)}
    with pytest.raises(LifecycleError, match=r"hard link|was made from"):
        volume.start()
    if volume.state is State.DAMAGED:
        volume.revert()
    else:
        volume.stop(discard=True)
    assert {*images_of(volume)} == before
    check_that_all_goes_on(volume)


# ---------------------------------------------------------------- names that are taken


def _checkpoint(volume: Volume) -> None:
    volume.start()
    volume.checkpoint()


def _damaged_while_running(volume: Volume) -> None:
    volume.start()
    draw(volume, b"four")
    Path(volume.pool.path, "ci", "root.json").write_bytes(b"{")
    volume.revert()


def _damaged_twice(volume: Volume) -> None:
    record = Path(volume.pool.path, "ci", "root.json")
    for content in (b"{", b"["):
        record.write_bytes(content)
        volume.revert()
    kept = record.parent.glob("root.json.damaged@*")
    asides = {path.read_bytes() for path in kept if path.is_file()}
    assert asides >= {b"{", b"["}


TAKING_NAMES: dict[str, tuple[Callable[[Volume], object], tuple[str, ...]]] = {
    "commit": (lambda volume: cycle(volume, b"four"), ("root.img.3",)),
    "import": (lambda volume: volume.import_from(volume, verify=True), ("root.img.3",)),
    "resize": (lambda volume: volume.resize(2 * SIZE), ("root.img.3",)),
    "checkpoint": (_checkpoint, ("root.img.4",)),
    "revert": (lambda volume: volume.revert(1), ("root.img.3",)),
    "revert to empty": (lambda volume: volume.revert(0), ("root.img.0", "root.img.3")),
    "rescue": (_damaged_while_running, ("root.img.3", "root.img.4", "root.img.5")),
    "way back, twice": (_damaged_twice, ("root.json.damaged", "root.img.3")),
}


@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
@pytest.mark.parametrize("event", TAKING_NAMES)
def test_a_name_that_is_taken_stops_nothing_and_stays(
    xfs: FileSystem, event: str, kind: str
) -> None:
    """What an event would call a file so is there already; as it is no image, its number is not in use."""
    pool = Pool.create(xfs.new_directory(), keep="all")
    volume = pool.create_volume(ID, SIZE)
    act, files = TAKING_NAMES[event]
    vm = Path(pool.path, "ci")
    with freeze_time("2026-01-02T03:04:05Z"):
        _committed(volume)
        for path in vm.glob("root.img.0@*"):
            if event == "revert to empty":
                path.unlink()
        taken = [vm / f"{file}@2026-01-02T03:04:05Z" for file in files]
        for path in taken:
            if kind == "directory":
                (path / "mine").mkdir(parents=True)
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("nowhere")
        before = [path.lstat().st_ino for path in taken]
        held = {seen(volume, number) for number in numbers(volume)} | {seen(volume)}
        act(volume)
    assert [path.lstat().st_ino for path in taken] == before
    assert {seen(volume, number) for number in numbers(volume)} | {seen(volume)} >= held


def test_a_second_file_of_a_number_never_takes_its_place(xfs: FileSystem) -> None:
    """Verify tells of it."""
    pool = Pool.create(xfs.new_directory(), keep="all")
    volume = pool.create_volume(ID, SIZE)
    _committed(volume)
    (own,) = Path(pool.path, "ci").glob("root.img.1@*")
    (own.parent / "root.img.1@2020-01-01T00:00:00Z").write_bytes(disk(b"foreign"))
    assert seen(volume, 1) == disk(b"one")
    (finding,) = pool.verify()
    assert finding.path == "ci/root.img.1@2020-01-01T00:00:00Z"
    assert "bears the number of another revision" in finding.text
    assert not finding.harmful
