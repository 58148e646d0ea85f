"""A disk that is full, and one that is read-only: what cannot be done fails cleanly, and works once it can."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle import NotAPool, Pool, State, StorageFailed, Volume
from lifecycle.states import RUNNING
from support.command_line import Call
from support.disks import MIB, cycle, disk, draw, numbers, seen, seen_by_vm
from support.mounts import FileSystem, run
from support.snapshots import snapshot

SIZE = MIB
BLOCK = 4096


class SmallDisk:
    """A small XFS that can be filled to the last block, and emptied again.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, image: Path, path: Path) -> None:
        image.touch()
        os.truncate(image, 300 * MIB)
        run("mkfs.xfs", "-q", str(image))
        path.mkdir()
        run("mount", "-o", "loop", str(image), str(path))
        self.path = path
        self._filler = os.open(path, os.O_RDWR | os.O_TMPFILE)
        self._length = 0
        self._small_file = os.open(path, os.O_RDWR | os.O_TMPFILE | os.O_APPEND)

    def fill(self) -> None:
        """Leave no room for anything."""
        step = 64 * MIB
        while step >= BLOCK:
            try:
                os.posix_fallocate(self._filler, self._length, step)
                self._length += step
            except OSError:
                step //= 2
        # the last blocks go one by one, as they would for a record
        with contextlib.suppress(OSError):
            while True:
                os.write(self._small_file, bytes(BLOCK))
                os.fsync(self._small_file)

    def make_room(self) -> None:
        """Give the room back; the kernel does so before this returns."""
        for fd in (self._filler, self._small_file):
            os.ftruncate(fd, 0)
        self._length = 0


@pytest.fixture(scope="module")
def small_disk(mounted: Callable[[str], FileSystem]) -> SmallDisk:
    """The disk of this module."""
    place = mounted("xfs").new_directory()
    return SmallDisk(place / "image", place / "disk")


@pytest.fixture
def small(small_disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool on the small disk, with volumes in every state; each has a content that takes room."""
    pool = Pool.create(small_disk.path / tmp_path.name)
    monkeypatch.setenv("LIFECYCLE_POOL", pool.path)
    pool.create_volume("ci/created", SIZE)
    for name in ("committed", "reverted", "started", "dirty", "pinned"):
        volume = pool.create_volume(f"ci/{name}", SIZE)
        for mark in (b"one", b"two"):
            cycle(volume, mark)
    pool["ci/reverted"].revert()
    pool["ci/started"].start()
    pool["ci/dirty"].start()
    draw(pool["ci/dirty"], b"three")
    pool.create_volume("ci/busy", SIZE).start()
    draw(pool["ci/busy"], os.urandom(SIZE))
    pool["ci/pinned"].label(1, "as delivered")
    pool.create_volume("ci/disposable", source="ci/committed")
    yield pool
    small_disk.make_room()


def contents(pool: Pool) -> dict[str, set[bytes]]:
    """Return what the images of each volume hold, but for the zeros at their ends."""
    found = {}
    for volume in pool:
        if volume.source is None:
            images = [seen(volume), *(seen(volume, number) for number in numbers(volume))]
            if volume.state in RUNNING:
                images.append(seen_by_vm(volume))
            found[volume.id] = {image.rstrip(b"\0") for image in images}
    return found


# ---------------------------------------------------------------- full

KEEPS: dict[str, tuple[str, Callable[[Volume], object]]] = {
    "start a created one": ("ci/created", lambda one: one.start()),
    "start a committed one": ("ci/committed", lambda one: one.start()),
    "start a reverted one": ("ci/reverted", lambda one: one.start()),
    "start a disposable": ("ci/disposable", lambda one: one.start()),
    "stop what was written to": ("ci/dirty", lambda one: one.stop()),
    "stop what was not": ("ci/started", lambda one: one.stop()),
    "commit": ("ci/dirty", lambda one: one.commit()),
    "checkpoint": ("ci/dirty", lambda one: one.checkpoint()),
    "revert to a revision": ("ci/committed", lambda one: one.revert(1)),
    "revert to empty": ("ci/committed", lambda one: one.revert(0)),
    "resize a created one": ("ci/created", lambda one: one.resize(2 * SIZE)),
    "resize a committed one": ("ci/committed", lambda one: one.resize(2 * SIZE)),
    "resize a running one": ("ci/dirty", lambda one: one.resize(2 * SIZE)),
    "import": ("ci/committed", lambda one: one.import_from("/bin/sh")),
    "create": ("ci/new", lambda one: one.pool.create_volume(one.id, SIZE)),
    "create in a new VM": ("new/root", lambda one: one.pool.create_volume(one.id, SIZE)),
    "create a disposable": (
        "ci/new",
        lambda one: one.pool.create_volume(one.id, source="ci/committed"),
    ),
    "clone": ("ci/new", lambda one: one.pool.clone("/bin/sh", one.id)),
    "pin": ("ci/committed", lambda one: one.pin(1)),
    "set": ("ci/committed", lambda one: one.configure(keep="all")),
}
"""What loses nothing, by what it is; with the id of the volume that it is done to."""


@pytest.mark.parametrize("what", KEEPS)
def test_on_a_full_disk_it_works_or_fails_cleanly_and_works_once_there_is_room(
    small: Pool, small_disk: SmallDisk, what: str
) -> None:
    volume_id, do = KEEPS[what]
    volume = Volume(small, volume_id)
    before = contents(small)
    states = {one.id: one.state for one in small}
    small_disk.fill()
    try:
        do(volume)
    except StorageFailed as error:
        assert "No space left on device" in str(error)  # noqa: PT017
        assert {one.id: one.state for one in small} == states
        assert contents(small) == before
        small_disk.make_room()
        do(volume)
    small_disk.make_room()
    after = contents(small)
    assert all(after[one] >= images for one, images in before.items())
    assert volume.state in set(State) - {State.DAMAGED, State.ABSENT}
    assert not [one for one in small.verify() if one.harmful]


def test_the_full_disk_is_full(small: Pool, small_disk: SmallDisk) -> None:
    small_disk.fill()
    with pytest.raises(StorageFailed) as caught:
        small.create_volume("ci/new", SIZE)
    assert caught.value.strerror == "No space left on device"
    assert "ci/new" not in small


FREES: dict[str, tuple[str, Callable[[Volume], object], State]] = {
    "stop and discard": ("ci/busy", lambda one: one.stop(discard=True), State.REVERTED),
    "revert": ("ci/busy", lambda one: one.revert(), State.REVERTED),
    "release": ("ci/started", lambda one: one.release(), State.COMMITTED),
    "forget": ("ci/committed", lambda one: one.forget(1), State.COMMITTED),
    "forget what has a label": ("ci/pinned", lambda one: one.forget(1), State.COMMITTED),
    "remove": ("ci/pinned", lambda one: one.remove(), State.ABSENT),
}
"""What makes room, by what it is; with the id of the volume that it is done to, and the state it leads to."""


@pytest.mark.parametrize("what", FREES)
def test_on_a_full_disk_room_can_be_made(small: Pool, small_disk: SmallDisk, what: str) -> None:
    volume_id, do, dest = FREES[what]
    volume = small[volume_id]
    small_disk.fill()
    do(volume)
    assert volume.state == dest
    small_disk.make_room()
    assert not [one for one in small.verify() if one.harmful]


def test_what_makes_hardly_any_room_works_or_fails_cleanly(
    small: Pool, small_disk: SmallDisk
) -> None:
    volume = small["ci/dirty"]
    small_disk.fill()
    try:
        volume.stop(discard=True)
    except StorageFailed:
        assert volume.state == State.DIRTY
        small_disk.make_room()
        volume.stop(discard=True)
    # the label of the resting state may have found no room; it is thrown away all the same
    assert volume.state in {State.REVERTED, State.COMMITTED}


def test_room_can_be_made_after_a_stop_that_failed(small: Pool, small_disk: SmallDisk) -> None:
    small_disk.fill()
    with contextlib.suppress(StorageFailed):
        small["ci/dirty"].stop()
    small["ci/dirty"].forget(1)
    small["ci/pinned"].remove()


def test_looking_takes_no_room(call: Call, small: Pool, small_disk: SmallDisk) -> None:
    before = {one.id: one.state for one in small}
    small_disk.fill()
    assert {one["id"]: one["state"] for one in call("list", "--json").document} == before
    for words in ("show ci/dirty", "log ci/dirty", "prune --dry-run", "verify", "pool"):
        call(*words.split())


def test_a_full_disk_does_not_look_as_if_it_had_no_reflinks(
    call: Call, small: Pool, small_disk: SmallDisk
) -> None:
    small_disk.fill()
    assert call("pool", "--json").document["reflinks"] is not False
    assert "each start copies the whole image" not in call("pool").out


def test_the_command_line_on_a_full_disk(call: Call, small: Pool, small_disk: SmallDisk) -> None:
    small_disk.fill()
    complaint = call("create", "ci/new", "--size", "1M", status=1).complaint
    assert "ci/new: create failed: No space left on device" in complaint
    assert "repeat the command" in complaint
    for words in ("create ci/newer --size 1M", "pin ci/pinned 1", "set ci/committed keep=all"):
        small_disk.fill()  # what the last attempt gave back too
        called = call(*words.split(), "--json", status=1)
        assert "No space left on device" in called.said
        assert called.document["error"]["kind"] == "StorageFailed"


def test_a_pool_is_not_made_on_a_full_disk(call: Call, small_disk: SmallDisk) -> None:
    place = small_disk.path / "another"
    place.mkdir()
    small_disk.fill()
    try:
        assert "No space left on device" in call("init", str(place), status=1).complaint
        assert os.listdir(place) == []
    finally:
        small_disk.make_room()
    call("init", str(place))


# ---------------------------------------------------------------- read-only


@pytest.fixture
def read_only(xfs: FileSystem, xfs_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool with volumes, seen through a mount that is read-only."""
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"one")
    cycle(xfs_pool["ci/root"], b"two")
    running = xfs_pool.create_volume("ci/running", SIZE)
    running.start()
    draw(running, b"three")
    place = str(xfs.new_directory())
    run("mount", "--bind", xfs_pool.path, place)
    run("mount", "-o", "remount,bind,ro", place)
    monkeypatch.setenv("LIFECYCLE_POOL", place)
    yield Pool.open(place)
    run("umount", place)


CHANGES: dict[str, Callable[[Pool], object]] = {
    "start": lambda pool: pool["ci/root"].start(),
    "start of a VM": lambda pool: pool.vm("ci").start(),
    "stop": lambda pool: pool["ci/running"].stop(),
    "stop and discard": lambda pool: pool["ci/running"].stop(discard=True),
    "checkpoint": lambda pool: pool["ci/running"].checkpoint(),
    "revert": lambda pool: pool["ci/root"].revert(),
    "resize": lambda pool: pool["ci/root"].resize(2 * SIZE),
    "resize of a running one": lambda pool: pool["ci/running"].resize(2 * SIZE),
    "import": lambda pool: pool["ci/root"].import_from("/bin/sh"),
    "remove": lambda pool: pool["ci/root"].remove(),
    "create": lambda pool: pool.create_volume("ci/new", SIZE),
    "create in a new VM": lambda pool: pool.create_volume("new/root", SIZE),
    "clone": lambda pool: pool.clone("/bin/sh", "ci/new"),
    "pin": lambda pool: pool["ci/root"].pin(1),
    "label": lambda pool: pool["ci/root"].label(1, "x"),
    "set": lambda pool: pool["ci/root"].configure(keep="all"),
    "forget": lambda pool: pool["ci/root"].forget(1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_in_a_read_only_pool_every_change_fails_and_changes_nothing(
    read_only: Pool, what: str
) -> None:
    before = snapshot(read_only.path)
    with pytest.raises(StorageFailed, match="Read-only file system"):
        CHANGES[what](read_only)
    assert snapshot(read_only.path) == before


def test_a_read_only_pool_can_be_looked_at(call: Call, read_only: Pool, tmp_path: Path) -> None:
    for words in ("list", "show ci/root", "log ci/running", "verify", "pool", "prune --dry-run"):
        call(*words.split())
    call("export", "ci/root", str(tmp_path / "out"), "--revision", "1")
    assert (tmp_path / "out").read_bytes() == disk(b"one", size=SIZE)
    assert call("pool", "--json").document["reflinks"] is True
    assert "each start copies the whole image" not in call("pool").out


@pytest.mark.parametrize(
    "words",
    ["start ci/root", "create ci/new --size 1M", "create new/root --size 1M", "pin ci/root 1"],
)
def test_the_command_line_on_a_read_only_pool(call: Call, read_only: Pool, words: str) -> None:
    complaint = call(*words.split(), status=1).complaint
    assert "Read-only file system" in complaint
    assert words.split()[1] in complaint


def test_a_pool_is_not_made_where_nothing_can_be_written(call: Call, read_only: Pool) -> None:
    with pytest.raises(NotAPool, match="Read-only file system"):
        Pool.create(f"{read_only.path}/ci")
    for place in ("ci", "new"):
        complaint = call("init", f"{read_only.path}/{place}", status=1).complaint
        assert "cannot be made a pool: Read-only file system" in complaint
